//! Artifacts that are made of files at hand: Helm charts in the form that helm itself pushes, and plain files in
//! the form that `oras pull` writes back. Paths enter; a [`Source`] leaves that is read like any other, so that
//! nobody else needs to know.
//!
//! Every file is read once while the release is planned, for its digest and size, a chart also for what is in it, and
//! once more when it is written. Nothing of its content is kept. Whatever is no plain file (a link, a directory, a device) is refused. The same
//! files make the same artifact: no clock, no file times.

mod archive;
mod chart;
mod files;
mod metadata;
mod plain;
mod reports;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::content::{Source, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, MediaType, Name, Role, media};

pub use chart::ChartsOnly;
use metadata::Metadata;
use plain::Plain;
pub use reports::{Accompanied, Template};

/// What an artifact is made of.
#[derive(Clone, Debug)]
pub enum Recipe {
    /// A packaged chart (`.tgz`), and its provenance where that lies beside it.
    Chart(PathBuf),
    /// Plain files.
    Files {
        /// One layer each, in this order.
        paths: Vec<PathBuf>,
        /// Their media type.
        media_type: Option<String>,
        /// What kind of artifact it is.
        artifact_type: Option<String>,
    },
}

impl Recipe {
    /// Files that are read for it, if they are there.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Recipe::Chart(archive) => vec![archive.clone(), chart::provenance(archive)],
            Recipe::Files { paths, .. } => paths.clone(),
        }
    }

    /// Reads the files. Takes as long as that does.
    fn make(&self) -> Result<Artifact> {
        match self {
            Recipe::Chart(archive) => chart::make(archive),
            Recipe::Files { paths, media_type, artifact_type } => {
                files::make(paths, media_type.as_deref(), artifact_type.as_deref())
            }
        }
    }
}

/// A source of one artifact, which is made when it is asked for.
pub struct Made {
    recipe: Recipe,
    artifact: OnceCell<Arc<Artifact>>,
}

impl Made {
    /// Nothing is read yet.
    pub fn new(recipe: Recipe) -> Self {
        Made { recipe, artifact: OnceCell::new() }
    }

    async fn artifact(&self) -> Result<&Arc<Artifact>> {
        let make = || async {
            let recipe = self.recipe.clone();
            let made = tokio::task::spawn_blocking(move || recipe.make()).await;
            made.map_err(|_| file::ended())?.map(Arc::new)
        };
        self.artifact.get_or_try_init(make).await
    }
}

#[async_trait]
impl Source for Made {
    async fn resolve(&self, name: &Name, _: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        let artifact = self.artifact().await?;
        if let Some(chart) = &artifact.chart {
            chart.check_name(name)?;
        }
        Ok((artifact.descriptor.clone(), artifact.manifest.clone()))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let artifact = self.artifact().await?;
        match artifact.parts.get(&expected.digest) {
            Some(Part::Bytes(bytes)) => Ok(Unverified::of_rest(expected.digest, bytes.clone(), from)),
            Some(Part::File(plain)) => plain.stream(expected.digest, from),
            None => Err(Error::new(Kind::BlobMissing, "an artifact is not made of this").at(expected.digest)),
        }
    }
}

/// An artifact whose files were read.
struct Artifact {
    descriptor: Descriptor,
    manifest: Bytes,
    /// What its manifest names, and the manifest itself.
    parts: HashMap<Digest, Part>,
    /// What it is, where it is a chart.
    chart: Option<Metadata>,
}

/// Where content comes from.
enum Part {
    Bytes(Bytes),
    File(Plain),
}

impl Artifact {
    /// An artifact of this manifest and these parts.
    fn new(manifest: &Value, mut parts: HashMap<Digest, Part>) -> Result<Self> {
        let manifest = Bytes::from(manifest.to_string());
        let size = manifest.len() as u64;
        if size > limits::DOCUMENT {
            return Err(Error::new(
                Kind::LimitExceeded,
                "the artifact's manifest is too large for any registry",
            )
            .got(format_args!("{size} bytes"))
            .expected(format_args!("at most {} bytes", limits::DOCUMENT)));
        }
        let digest = Digest::of(&manifest);
        parts.insert(digest, Part::Bytes(manifest.clone()));
        let descriptor =
            Descriptor { role: Role::Manifest, media_type: MediaType::new(media::MANIFEST), digest, size };
        Ok(Artifact { descriptor, manifest, parts, chart: None })
    }
}
