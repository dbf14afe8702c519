//! A packaged chart is a gzip'ed tar, which is read as every foreign tar file is. Its names are judged as helm
//! understands them (helm.sh/helm, pkg/chart/loader, `LoadArchiveFiles`): what helm would not load, or would see
//! something else in, is refused before it is carried to where nobody can mend it.

use std::fs::File;
use std::path::Path;

use crate::content::file;
use crate::content::tarball::{Member, Packing, Tarball};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

const CHART: &str = "Chart.yaml";

/// What is to be known of a packaged chart.
pub struct Packed {
    /// The digest of the file.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The chart's `Chart.yaml`.
    pub chart: Vec<u8>,
}

/// Reads a packaged chart.
///
/// # Errors
/// `DocumentInvalid` for what is no chart, `LimitExceeded` for one that is larger unpacked than helm takes, and
/// whatever a [`Tarball`] refuses.
pub fn read(path: &Path, file: &File) -> Result<Packed> {
    let failed = |e: std::io::Error| Error::io("cannot read", path.display(), &e);
    let place = path.display().to_string();
    if Packing::of_file(file).map_err(failed)? != Packing::Gzip {
        return Err(Error::new(Kind::DocumentInvalid, "not a packaged chart")
            .at(place)
            .expected("a .tgz as helm package writes it"));
    }
    let (digest, size) = file::digest_of(file).map_err(failed)?;
    let mut files = Files::default();
    let tarball = Tarball::unzipped(file, place, &mut |name, member| files.take(name, member));
    let tarball = tarball.map_err(|error| match error.kind() {
        Kind::TarHeader => error.hint_instead(PACKAGE),
        _ => error,
    })?;
    let chart = match &files.chart {
        Some(name) => tarball.read_small(name, "a chart's Chart.yaml", limits::CHART_YAML)?,
        None => None,
    };
    let chart = chart.ok_or_else(|| {
        Error::new(Kind::DocumentInvalid, "no Chart.yaml in the chart's directory")
            .at(path.display())
            .hint(PACKAGE)
    })?;
    Ok(Packed { digest, size, chart })
}

const PACKAGE: &str = "helm package CHART writes such a file";

/// What was seen of a chart's files.
#[derive(Default)]
struct Files {
    /// What its `Chart.yaml` is called.
    chart: Option<String>,
    bytes: u64,
}

impl Files {
    fn take(&mut self, name: &[u8], member: &Member) -> Result<()> {
        let name = std::str::from_utf8(name)
            .map_err(|_| wrong("a name in the chart is not UTF-8", &String::from_utf8_lossy(name)))?;
        match member {
            Member::File(stretch) => self.file(name, stretch.size),
            Member::Link(_) => Err(wrong("a link in a chart", name)),
            // helm takes it for a file where its type is a file's.
            Member::Directory if name.trim_end_matches('/').ends_with(CHART) => {
                Err(wrong("a directory that is called Chart.yaml", name))
            }
            Member::Directory => Ok(()),
        }
    }

    fn file(&mut self, name: &str, size: u64) -> Result<()> {
        if inner(name)? == CHART && self.chart.replace(name.to_owned()).is_some() {
            return Err(wrong("two Chart.yaml in one chart", name));
        }
        self.bytes = self.bytes.saturating_add(size);
        let large = |what| Error::new(Kind::LimitExceeded, what).got(format_args!("{name:?}"));
        match () {
            () if size > limits::CHART_FILE => Err(large("a file in the chart is too large for helm")
                .expected(format_args!("at most {} bytes", limits::CHART_FILE))),
            () if self.bytes >= limits::CHART_UNPACKED => {
                Err(large("the chart is too large unpacked for helm")
                    .expected(format_args!("less than {} bytes", limits::CHART_UNPACKED)))
            }
            () => Ok(()),
        }
    }
}

/// What a file is called within the chart's directory: helm cuts off whatever stands before the first slash. Where it
/// cuts at backslashes, or tidies up after it has cut, others see another name.
fn inner(name: &str) -> Result<&str> {
    if name.contains('\\') || name.split('/').any(|part| matches!(part, "" | ".")) {
        return Err(wrong("a name in the chart that helm understands differently", name)
            .expected("CHART/path/to/file")
            .hint("pack the directory by its name alone, without ./ before it, as helm package does"));
    }
    let Some((_, inner)) = name.split_once('/').filter(|(top, _)| *top != CHART) else {
        return Err(wrong("a file that does not lie in the chart's directory", name));
    };
    let drive = matches!(inner.as_bytes(), [letter, b':', b'/', ..] if letter.is_ascii_alphabetic());
    match drive || inner.starts_with("..") {
        true => Err(wrong("a name in the chart that helm refuses", name)),
        false => Ok(inner),
    }
}

fn wrong(what: &str, name: &str) -> Error {
    Error::new(Kind::DocumentInvalid, what).got(format_args!("{name:?}"))
}
