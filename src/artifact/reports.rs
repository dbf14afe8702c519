//! Files that tell what is in an image, attached to it as if its source had had them: each an artifact with one layer,
//! the empty config and the image, or one of its builds, as `subject` (image-spec manifest.md, "Guidelines for Artifact
//! Usage"). Which digests these have is known only after the source has said what the image is; so this is a source
//! around the source. A file that names another digest than the image's is refused before anything is carried.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::OnceCell;

use super::files::{TITLE, empty, title};
use super::{Artifact, Part, Plain};
use crate::content::{Extent, Reader, Source, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::evidence::{self, Identity, Report};
use crate::limits;
use crate::oci::{Attached, Config, Descriptor, Digest, Document, MediaType, Name, Platform, Role, media};

/// A file, by a template: `{platform}` makes it one for each build, with that build as its subject; `{digest}` stands for
/// the subject's digest and `{sha}` for its first seven digits.
#[derive(Clone, Debug)]
pub struct Template {
    /// Where the path begins.
    pub directory: PathBuf,
    /// The path.
    pub path: String,
    /// Whether an SBOM is expected, or else a scan report.
    pub sbom: bool,
}

impl Template {
    fn per_platform(&self) -> bool {
        self.path.contains("{platform}")
    }

    fn path(&self, subject: &Digest, platform: Option<&Platform>) -> PathBuf {
        let hex = subject.hex();
        let platform = platform.map(|platform| platform.to_string().replace('/', "-")).unwrap_or_default();
        let path = self.path.replace("{platform}", &platform).replace("{digest}", &hex);
        self.directory.join(path.replace("{sha}", hex.get(..7).unwrap_or(&hex)))
    }
}

/// A source of one image, to which files are attached.
pub struct Accompanied {
    source: Arc<dyn Source>,
    templates: Vec<Template>,
    /// What the source has attached is left behind.
    alone: bool,
    top: OnceCell<Descriptor>,
    image: OnceCell<Image>,
    parts: Mutex<HashMap<Digest, Arc<Part>>>,
}

/// What an image consists of.
#[derive(Default)]
struct Image {
    documents: HashMap<Digest, Descriptor>,
    /// The platforms of its builds, and their manifests.
    builds: Vec<(Option<Platform>, Digest)>,
    identity: Identity,
}

impl Accompanied {
    /// Nothing is read yet.
    pub fn new(source: Arc<dyn Source>, templates: Vec<Template>, alone: bool) -> Self {
        let (top, image) = (OnceCell::new(), OnceCell::new());
        Accompanied { source, templates, alone, top, image, parts: Mutex::default() }
    }

    fn part(&self, digest: &Digest) -> Option<Arc<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    async fn image(&self) -> Result<Option<&Image>> {
        match self.top.get() {
            Some(top) => self.image.get_or_try_init(|| self.walk(top)).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads the image's documents, which its source remembers from planning.
    async fn walk(&self, top: &Descriptor) -> Result<Image> {
        let mut image = Image::default();
        let mut seen = HashSet::new();
        let mut ahead = vec![(top.clone(), None, 0)];
        while let Some((descriptor, platform, depth)) = ahead.pop() {
            if depth > limits::INDEX_DEPTH || ahead.len() > limits::CHILDREN {
                return Err(
                    Error::new(Kind::LimitExceeded, "indexes are nested too deeply").at(descriptor.digest)
                );
            }
            if !seen.insert((descriptor.digest, platform.clone())) {
                continue;
            }
            let document = self.document(&descriptor).await?;
            image.documents.insert(descriptor.digest, descriptor.clone());
            if descriptor.role == Role::Index {
                image.identity.whole.push(descriptor.digest);
                let builds = document.children.into_iter().rev().filter(|child| {
                    child.attests.is_none() && child.platform.as_ref().is_none_or(|one| !one.is_unknown())
                });
                ahead.extend(builds.map(|child| (child.descriptor, child.platform, depth + 1)));
                continue;
            }
            let config = document.children.into_iter().next().map(|child| child.descriptor);
            let platform = match (platform, &config) {
                (None, Some(config))
                    if config.media_type.is_image_config() && config.size <= limits::CONFIG =>
                {
                    Config::parse(&self.source.fetch(config).await?.into_bytes().await?)?.platform
                }
                (platform, _) => platform,
            };
            image.identity.builds.push([Some(descriptor.digest), config.map(|config| config.digest)]);
            image.builds.push((platform, descriptor.digest));
        }
        Ok(image)
    }

    async fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        if descriptor.size > limits::DOCUMENT {
            return Err(Error::new(Kind::LimitExceeded, "a document is too large for any registry")
                .at(descriptor.digest));
        }
        Document::parse(descriptor, self.source.fetch(descriptor).await?.into_bytes().await?)
    }

    /// The files that belong to one of the image's documents.
    fn files(&self, image: &Image, subject: &Digest) -> Vec<(PathBuf, bool)> {
        let top = self.top.get().is_some_and(|top| top.digest == *subject);
        let mut files = Vec::new();
        for template in &self.templates {
            if !template.per_platform() {
                if top {
                    files.push((template.path(subject, None), template.sbom));
                }
                continue;
            }
            let builds = image.builds.iter().filter(|(_, build)| build == subject);
            // What has no platform has no file for one.
            let platforms = builds.filter_map(|(platform, _)| platform.as_ref());
            files.extend(platforms.map(|one| (template.path(subject, Some(one)), template.sbom)));
        }
        files
    }

    /// Reads a file, and makes an artifact of it.
    async fn attach(
        &self,
        image: &Image,
        subject: &Descriptor,
        path: PathBuf,
        sbom: bool,
    ) -> Result<Attached> {
        let opened = path.clone();
        let hashed = tokio::task::spawn_blocking(move || Plain::hashed(&opened)).await;
        let (plain, digest, size) = hashed.map_err(|_| file::ended())??;
        let at = |e: Error| e.inside(path.display());
        let report = self.read(&plain, digest, size, sbom).await.map_err(|e| e.at(path.display()))?;
        let other = |named: Digest| evidence::another(&named, &subject.digest).at(path.display());
        image.identity.about(&report, &subject.digest).map_err(other)?;
        let media_type = report.wrapping.media_type().unwrap_or(report.format.media_type());
        let kind = match report.wrapping.media_type() {
            // What is in an envelope is a statement all the same.
            Some(_) => "application/vnd.in-toto+json",
            None => media_type,
        };
        let (config, empty) = empty();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "artifactType": kind,
            "config": config,
            "layers": [{
                "mediaType": media_type, "digest": digest, "size": size,
                "annotations": { TITLE: title(&path)? },
            }],
            "subject": {
                "mediaType": subject.media_type.as_str(), "digest": subject.digest, "size": subject.size,
            },
        });
        let parts = HashMap::from([empty, (digest, Part::File(plain))]);
        let artifact = Artifact::new(&manifest, parts).map_err(at)?;
        let made = artifact.parts.into_iter().map(|(digest, part)| (digest, Arc::new(part)));
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
        Ok(Attached { subject: subject.digest, descriptor: artifact.descriptor, tag: None })
    }

    async fn read(&self, plain: &Plain, digest: Digest, size: u64, sbom: bool) -> Result<Report> {
        if size > limits::EVIDENCE {
            return Err(Error::new(Kind::LimitExceeded, "a report is too large")
                .got(format_args!("{size} bytes"))
                .expected(format_args!("at most {} bytes", limits::EVIDENCE)));
        }
        let expected = Descriptor { role: Role::Layer, media_type: MediaType::new(""), digest, size };
        let content = Reader::new(&expected, plain.stream(digest, 0)?);
        let what = if sbom {
            "an SBOM: SPDX or CycloneDX, as JSON"
        } else {
            "a scan report: Trivy, Grype or SARIF, as JSON"
        };
        let wrong = |got: &str| {
            Error::new(Kind::ManifestInvalid, "a file is not what the release manifest says")
                .got(got)
                .expected(what)
        };
        match evidence::read(content, &mut |_| Ok(())).await? {
            Some(report) if report.format.is_sbom() == sbom => Ok(report),
            Some(report) => Err(wrong(report.format.name())),
            None => Err(wrong("other JSON")),
        }
    }
}

#[async_trait]
impl Source for Accompanied {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        let (descriptor, bytes) = self.source.resolve(name, digest).await?;
        // The first that is asked for is the image; what further tags lead to is asked later.
        let _ = self.top.set(descriptor.clone());
        Ok((descriptor, bytes))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        match self.part(&expected.digest).as_deref() {
            Some(Part::Bytes(bytes)) => Ok(Unverified::of_rest(expected.digest, bytes.clone(), from)),
            Some(Part::File(plain)) => plain.stream(expected.digest, from),
            None => self.source.open(expected, from).await,
        }
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        match self.part(&expected.digest) {
            Some(_) => Ok(true),
            None => self.source.holds(expected).await,
        }
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let mut attached = match self.alone || self.part(subject).is_some() {
            true => Vec::new(),
            false => self.source.attached(subject).await?,
        };
        let Some(image) = self.image().await? else { return Ok(attached) };
        let Some(descriptor) = image.documents.get(subject) else { return Ok(attached) };
        for (path, sbom) in self.files(image, subject) {
            attached.push(self.attach(image, descriptor, path, sbom).await?);
        }
        Ok(attached)
    }

    async fn extent(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        match self.part(&expected.digest) {
            Some(_) => Ok(None),
            None => self.source.extent(expected).await,
        }
    }
}
