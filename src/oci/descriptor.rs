//! What is known of content before it moves: its role, media type, digest and size.

use std::fmt;
use std::sync::{Arc, LazyLock};

use super::Digest;

/// Media types that decide how content is treated; all others are carried as they are.
pub mod media {
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's predecessor of the index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's predecessor of the manifest (schema 2).
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's predecessor of the config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker schema 1: not understood, but some stores still hold it.
    pub const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

    /// Every document type that is understood, as an `Accept` header's value.
    pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
        application/vnd.oci.image.manifest.v1+json, \
        application/vnd.docker.distribution.manifest.list.v2+json, \
        application/vnd.docker.distribution.manifest.v2+json";
}

/// What most content is: one copy of each text serves all descriptors.
const USUAL_TYPES: [&str; 11] = [
    media::INDEX,
    media::MANIFEST,
    media::CONFIG,
    media::DOCKER_LIST,
    media::DOCKER_MANIFEST,
    media::DOCKER_CONFIG,
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.empty.v1+json",
];

/// A media type as the descriptor spells it. Shared: a plan holds many alike.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// Takes the text as it is.
    pub fn new(text: &str) -> Self {
        static USUAL: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| USUAL_TYPES.map(Arc::from).to_vec());
        let usual = USUAL.iter().find(|usual| &***usual == text);
        MediaType(usual.cloned().unwrap_or_else(|| Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Index or manifest, where the media type names one of the documents.
    pub fn document_role(&self) -> Option<Role> {
        match self.as_str() {
            media::INDEX | media::DOCKER_LIST => Some(Role::Index),
            media::MANIFEST | media::DOCKER_MANIFEST => Some(Role::Manifest),
            _ => None,
        }
    }

    /// Whether this is a layer that may not be distributed with its image: it may be missing wherever the image
    /// is (image-spec layer.md, "Non-Distributable Layers"; Docker's foreign layers).
    pub fn is_elsewhere(&self) -> bool {
        self.0.contains(".foreign.") || self.0.contains(".nondistributable.")
    }

    /// Whether this is Docker's first kind of manifest, signed or not.
    pub fn is_schema_1(&self) -> bool {
        self.0.starts_with("application/vnd.docker.distribution.manifest.v1+")
    }

    /// Whether this is an image config (as opposed to an artifact's).
    pub fn is_image_config(&self) -> bool {
        matches!(self.as_str(), media::CONFIG | media::DOCKER_CONFIG)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What content is to the document that names it. Documents travel through a registry's manifest
/// endpoints, the rest through its blob endpoints; the media type alone does not tell (an artifact
/// may carry an index as a layer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An image index: names further documents.
    Index,
    /// An image manifest: names a config and layers.
    Manifest,
    /// The config of a manifest.
    Config,
    /// A layer of a manifest, or any other blob.
    Layer,
}

impl Role {
    /// Whether this is an index or a manifest.
    pub fn is_document(self) -> bool {
        self <= Role::Manifest
    }
}

/// Content that is expected: nothing is fetched or written without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is to its parent.
    pub role: Role,
    /// Its media type, as its parent (or the registry, for a tag) spells it.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}
