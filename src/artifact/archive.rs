//! A packaged chart is a gzip'ed tar. It is read from front to back, for its digest and its `Chart.yaml`, and
//! nothing else of it is kept. What helm would not load is refused, and what two programs could unpack differently.

use std::fs::File;
use std::io::{Read, Take};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{EntryType, PaxExtensions};

use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Digest, Hasher};

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
/// `DocumentInvalid` for what is no chart, `LimitExceeded` for one that is larger unpacked than helm takes.
pub fn read(path: &Path, file: &File) -> Result<Packed> {
    let wrong = |what: &str| Error::new(Kind::DocumentInvalid, what.to_owned()).at(path.display());
    let hashed = Hashed { file, hasher: Hasher::default(), size: 0 };
    let mut unpacked = MultiGzDecoder::new(hashed).take(limits::CHART_UNPACKED);
    let found = unpack(&mut unpacked);
    // The end of what may be unpacked looks like the end of the archive.
    if unpacked.limit() == 0 {
        return Err(Error::new(Kind::LimitExceeded, "a chart is too large unpacked")
            .at(path.display())
            .expected(format_args!("less than {} bytes", limits::CHART_UNPACKED)));
    }
    let chart = found.map_err(|found| match found {
        Found::Wrong(error) => error.at(path.display()),
        Found::Unreadable(error) => {
            wrong("not a packaged chart").got(error).expected("a .tgz as helm package writes it")
        }
    })?;
    let chart = chart.ok_or_else(|| {
        wrong("no Chart.yaml in the chart's directory").hint("helm package CHART writes such a file")
    })?;
    let mut hashed = unpacked.into_inner().into_inner();
    std::io::copy(&mut hashed, &mut std::io::sink())
        .map_err(|e| Error::io("cannot read", path.display(), &e))?;
    Ok(Packed { digest: hashed.hasher.finish(), size: hashed.size, chart })
}

enum Found {
    Wrong(Error),
    Unreadable(std::io::Error),
}

impl From<std::io::Error> for Found {
    fn from(error: std::io::Error) -> Self {
        Found::Unreadable(error)
    }
}

impl From<Error> for Found {
    fn from(error: Error) -> Self {
        Found::Wrong(error)
    }
}

/// The chart's `Chart.yaml`.
fn unpack<R: Read>(unpacked: &mut Take<R>) -> Result<Option<Vec<u8>>, Found> {
    let mut archive = tar::Archive::new(&mut *unpacked);
    let (mut chart, mut longer) = (None, None);
    // Raw: what would be read whole, whatever its size says, is read here.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let name = longer.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        match entry.header().entry_type() {
            EntryType::Regular if !name.ends_with(b"/") => {
                if inner(&name)?.is_some_and(|inner| inner == CHART) {
                    if chart.is_some() {
                        return Err(wrong("two Chart.yaml in one chart").got(shown(&name)).into());
                    }
                    chart = Some(small(&mut entry, limits::CHART_YAML)?);
                }
            }
            EntryType::Regular | EntryType::Directory => _ = inner(&name)?,
            // Says nothing of single entries that helm would hear.
            EntryType::XGlobalHeader => longer = None,
            EntryType::XHeader => longer = extended(&small(&mut entry, limits::TAR_EXTENSION)?)?,
            EntryType::GNULongName => {
                let mut name = small(&mut entry, limits::TAR_EXTENSION)?;
                name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                longer = Some(name);
            }
            other => {
                return Err(wrong("a chart with something else in it than files and directories")
                    .got(format_args!("{}: {other:?}", shown(&name)))
                    .into());
            }
        }
    }
    std::io::copy(unpacked, &mut std::io::sink())?;
    Ok(chart)
}

/// A small entry's content.
fn small(entry: &mut impl Read, most: u64) -> Result<Vec<u8>, Found> {
    let mut content = Vec::new();
    entry.take(most.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 > most {
        true => Err(Error::new(Kind::LimitExceeded, "a part of the chart is too large")
            .expected(format_args!("at most {most} bytes"))
            .into()),
        false => Ok(content),
    }
}

/// The longer name that an extended header gives the next entry (POSIX pax, "path").
fn extended(records: &[u8]) -> Result<Option<Vec<u8>>, Found> {
    let mut longer = None;
    for record in PaxExtensions::new(records) {
        let record = record?;
        match record.key() {
            Ok("path") => longer = Some(record.value_bytes().to_vec()),
            // What would move the borders of the entries that follow.
            Ok(key) if key == "size" || key.starts_with("GNU.sparse") => {
                return Err(wrong("a chart with entries of unusual kinds").got(key).into());
            }
            _ => {}
        }
    }
    Ok(longer)
}

/// What an entry is called within the chart's directory, whatever that is called. `None` for the directory itself.
fn inner(name: &[u8]) -> Result<Option<String>, Found> {
    let wrong = |what: &str| Found::Wrong(wrong(what).got(shown(name)));
    let text = std::str::from_utf8(name).map_err(|_| wrong("a name in the chart is not UTF-8"))?;
    // Archives that were made on Windows may have these.
    let text = text.replace('\\', "/");
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(wrong("a name in the chart leads out of it"));
    }
    let mut parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    if parts.next() == Some(CHART) {
        return Err(wrong("Chart.yaml does not lie in the chart's directory"));
    }
    let inner = parts.collect::<Vec<_>>().join("/");
    Ok((!inner.is_empty()).then_some(inner))
}

fn wrong(what: &str) -> Error {
    Error::new(Kind::DocumentInvalid, what)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// A file that is hashed as it is read.
struct Hashed<'f> {
    file: &'f File,
    hasher: Hasher,
    size: u64,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.size = self.size.saturating_add(count as u64);
        Ok(count)
    }
}
