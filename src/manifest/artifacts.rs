//! Charts and files in a release manifest. Each is one artifact for all platforms, and belongs to every variant.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{Gathered, Home, Page, RawManifest, Reports, Variant};
use crate::error::Result;
use crate::oci::{Digest, Name, Registry, Repository, Transport};
use crate::plan::{Attachments, Selection, Target, Want};

/// What stands in a variant's place for a chart.
pub const CHART: &str = "chart";

/// What stands in a variant's place for files.
pub const FILE: &str = "file";

/// Whether this stands in a variant's place, and belongs to every variant.
pub fn belongs_to_all(variant: &str) -> bool {
    matches!(variant, CHART | FILE)
}

/// An artifact that is made of files at hand, which are named from where the program runs.
#[derive(Clone, Debug)]
pub enum Made {
    /// A packaged chart.
    Chart(PathBuf),
    /// Plain files.
    Files {
        /// One or several.
        paths: Vec<PathBuf>,
        /// The media type of each.
        media_type: Option<String>,
        /// What kind of artifact they are together.
        artifact_type: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChart {
    name: Option<Spanned<String>>,
    repository: Spanned<Repository>,
    registry: Option<Registry>,
    version: Option<Spanned<String>>,
    source: Option<Spanned<String>>,
    pin: Option<Digest>,
    referrers: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    name: Spanned<String>,
    repository: Spanned<Repository>,
    registry: Option<Registry>,
    tag: Option<Spanned<String>>,
    path: Spanned<Paths>,
    media_type: Option<Spanned<String>>,
    artifact_type: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a path or a list of paths")]
enum Paths {
    One(String),
    Several(Vec<String>),
}

impl Page<'_> {
    /// One chart: from its registry, or from a file.
    pub(super) fn chart(
        &self,
        raw: &RawManifest,
        chart: &Spanned<RawChart>,
        directory: &Path,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let RawChart { name, repository, registry, version, source, pin, referrers } = chart.get_ref();
        let path = repository.get_ref().as_str();
        let called = match name {
            Some(name) => name.clone(),
            None => Spanned::new(repository.span(), path.rsplit('/').next().unwrap_or(path).to_owned()),
        };
        let made = source.as_ref().map(|source| self.archive(source, directory)).transpose()?;
        let template = version.clone().unwrap_or_else(|| Spanned::new(chart.span(), "{version}".to_owned()));
        // helm's way to write a version as a tag; the release's own may have a `+`, too.
        let version = raw.version.to_string().replace('+', "_").parse()?;
        let tag = self.tag(&template, &template.get_ref().replace('+', "_"), &version)?;
        let (registry, homes) = self.home(raw, registry, chart)?;
        let name = Name { registry, repository: repository.get_ref().clone(), tag };
        let attachments = match referrers.or(raw.referrers) {
            Some(false) => Attachments::Left,
            Some(true) | None => Attachments::Asked,
        };
        let want = wanted(called.get_ref(), CHART, name, *pin, attachments);
        self.add(&called, plain(want, homes, made), gathered)
    }

    /// Files that are one artifact.
    pub(super) fn file(
        &self,
        raw: &RawManifest,
        file: &Spanned<RawFile>,
        directory: &Path,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let RawFile { name: called, repository, registry, tag, path, media_type, artifact_type } =
            file.get_ref();
        let template = tag.clone().unwrap_or_else(|| Spanned::new(file.span(), "{version}".to_owned()));
        let tag = self.tag(&template, template.get_ref(), &raw.version)?;
        let (registry, _) = self.home(raw, registry, file)?;
        let name = Name { registry, repository: repository.get_ref().clone(), tag };
        let made = Made::Files {
            paths: self.paths(path, directory)?,
            media_type: self.media_type(media_type)?,
            artifact_type: self.media_type(artifact_type)?,
        };
        let want = wanted(called.get_ref(), FILE, name, None, Attachments::Left);
        self.add(called, plain(want, Vec::new(), Some(made)), gathered)
    }

    fn home<T>(
        &self,
        raw: &RawManifest,
        own: &Option<Registry>,
        of: &Spanned<T>,
    ) -> Result<(Registry, Vec<Home>)> {
        let homes = self.homes((own, &None), (&raw.registry, &raw.registries))?;
        homes.ok_or_else(|| {
            self.wrong(Some(of.span()), "no registry, neither for this artifact nor for the file")
                .hint("registry = \"registry.example.com\"")
        })
    }

    fn add(&self, called: &Spanned<String>, variant: Variant, gathered: &mut Gathered) -> Result<()> {
        self.call(called, gathered)?;
        let name = variant.want.source.clone();
        if !gathered.names.insert(name.clone()) {
            return Err(self
                .wrong(Some(called.span()), format!("two things would be called {name}"))
                .hint("give each a repository or a tag of its own"));
        }
        gathered.images.push(variant);
        Ok(())
    }

    fn archive(&self, source: &Spanned<String>, directory: &Path) -> Result<Made> {
        let path = source.get_ref();
        let hint = match Transport::split(path) {
            _ if path.is_empty() => return Err(self.wrong(Some(source.span()), "an empty path")),
            Some((Transport::DockerArchive, _)) => "docker archives hold images alone",
            Some((Transport::Oci | Transport::OciArchive | Transport::Store, rest))
                if !rest.starts_with("//") =>
            {
                "leave it out, and say in the command where the chart lies: --mirror FROM=oci:DIR, FROM=oci-archive:FILE or FROM=store:DIR"
            }
            None if !path.contains("://") => return Ok(Made::Chart(directory.join(path))),
            _ => "leave it out: a chart in a registry is found by registry, repository and version",
        };
        let what = "a chart's source is a file that helm package has written";
        Err(self.wrong(Some(source.span()), what).got(format_args!("{path:?}")).hint(hint))
    }

    fn paths(&self, paths: &Spanned<Paths>, directory: &Path) -> Result<Vec<PathBuf>> {
        let wrong = |what: String| self.wrong(Some(paths.span()), what);
        let list = match paths.get_ref() {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(list) => list,
        };
        if list.is_empty() {
            return Err(wrong("no path: there is nothing to ship".to_owned()));
        }
        let mut titles = HashSet::new();
        for path in list {
            let Some(title) = Path::new(path).file_name().filter(|_| !path.ends_with('/')) else {
                return Err(wrong(format!("{path:?} does not name a file")));
            };
            if !titles.insert(title) {
                return Err(wrong(format!("two files are called {:?}", title.to_string_lossy()))
                    .hint("rename one of them, or make two [[file]] of them"));
            }
        }
        Ok(list.iter().map(|path| directory.join(path)).collect())
    }

    fn media_type(&self, given: &Option<Spanned<String>>) -> Result<Option<String>> {
        let Some(given) = given else { return Ok(None) };
        match is_media_type(given.get_ref()) {
            true => Ok(Some(given.get_ref().clone())),
            false => Err(self
                .wrong(Some(given.span()), "not a media type")
                .expected("type/subtype, such as application/vnd.example.model.v1")),
        }
    }
}

/// RFC 6838 §4.2: `type-name "/" subtype-name`, each a letter or digit and at most 126 further characters.
fn is_media_type(text: &str) -> bool {
    let name = |text: &str| {
        text.len() <= 127
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| name(kind) && name(subtype))
}

/// Nothing is agreed on it.
fn plain(want: Want, homes: Vec<Home>, made: Option<Made>) -> Variant {
    Variant {
        want,
        files: None,
        homes,
        promotion: None,
        made,
        reports: Reports::default(),
        budget: None,
        unpacked_budget: None,
        cosign: Vec::new(),
    }
}

fn wanted(called: &str, variant: &str, source: Name, pin: Option<Digest>, attachments: Attachments) -> Want {
    Want {
        image: called.to_owned(),
        variant: variant.to_owned(),
        tags: vec![source.tag.clone()],
        source,
        target: Target::Tagged { pin },
        // It has no platforms, or all that it has are taken.
        selection: Selection::default(),
        attachments,
    }
}
