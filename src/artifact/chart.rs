//! Helm charts: a packaged one as the artifact that `helm push` makes of it, and a check that what lies in a
//! registry is one. Media types and annotations are helm's own (helm.sh/helm, pkg/registry).

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Artifact, Metadata, Part, Plain, archive};
use crate::content::{Extent, Source, Unverified};
use crate::error::{Error, Kind, Result};
use crate::oci::{Attached, Descriptor, Digest, Document, MediaType, Name, Role, media};

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

/// Tags have no `+`: helm writes `_` in its place, and reads it back.
pub fn tag(version: &str) -> String {
    version.replace('+', "_")
}

/// Reads a packaged chart and makes an artifact of it.
pub fn make(path: &Path) -> Result<Artifact> {
    let (plain, packed) = Plain::read(path, |file| archive::read(path, file))?;
    let chart = Metadata::parse(path, &packed.chart)?;
    let config = Bytes::from(chart.encode()?);
    let described = |media_type: &str, digest: Digest, size: u64| json!({ "mediaType": media_type, "digest": digest, "size": size });
    let mut layers = vec![(packed.digest, described(CONTENT, packed.digest, packed.size))];
    let mut parts = HashMap::from([(packed.digest, Part::File(plain))]);
    let provenance = provenance(path);
    if std::fs::symlink_metadata(&provenance).is_ok() {
        let (plain, digest, size) = Plain::hashed(&provenance)?;
        layers.push((digest, described(PROVENANCE, digest, size)));
        parts.insert(digest, Part::File(plain));
    }
    // helm's order.
    layers.sort_by_key(|(digest, _)| *digest);
    let layers: Vec<Value> = layers.into_iter().map(|(_, layer)| layer).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "config": described(CONFIG, Digest::of(&config), config.len() as u64),
        "layers": layers,
        "annotations": chart.annotations(),
    });
    parts.insert(Digest::of(&config), Part::Bytes(config));
    let artifact = Artifact::new(&manifest, parts)?;
    Ok(Artifact { chart: Some(chart), ..artifact })
}

/// The signature that `helm package --sign` leaves beside a chart.
pub fn provenance(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".prov");
    PathBuf::from(name)
}

/// A source that is asked for charts, and has nothing else taken for one.
pub struct ChartsOnly(pub Arc<dyn Source>);

#[async_trait]
impl Source for ChartsOnly {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        let (descriptor, bytes) = self.0.resolve(name, digest).await?;
        let document = Document::parse(&descriptor, bytes.clone())?;
        let first = document.children.into_iter().map(|child| child.descriptor).next();
        let config = first.filter(|first| first.role == Role::Config).map(|config| config.media_type);
        let config = config.as_ref().map(MediaType::as_str);
        if config == Some(CONFIG) {
            return Ok((descriptor, bytes));
        }
        Err(Error::new(Kind::DocumentUnsupported, "not a Helm chart")
            .at(name)
            .got(config.unwrap_or(descriptor.media_type.as_str()))
            .expected(CONFIG)
            .hint("anything else that a registry holds is an [[image]] in the release manifest"))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        self.0.open(expected, from).await
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        self.0.holds(expected).await
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.0.attached(subject).await
    }

    async fn extent(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        self.0.extent(expected).await
    }
}
