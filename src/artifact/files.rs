//! Plain files as an artifact: a layer for each, with its name in `org.opencontainers.image.title`, and the empty
//! config (image-spec manifest.md, "Guidelines for Artifact Usage").

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Artifact, Part, Plain};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Digest, media};

/// image-spec manifest.md, "Guidance for an Empty Descriptor".
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// What `oras push` says where nobody says more.
const UNKNOWN_ARTIFACT: &str = "application/vnd.unknown.artifact.v1";

/// RFC 2046 §4.5.1: bytes of which nothing is said.
const OCTETS: &str = "application/octet-stream";

pub(super) const TITLE: &str = "org.opencontainers.image.title";

/// Reads the files and makes an artifact of them.
pub fn make(paths: &[PathBuf], media_type: Option<&str>, artifact_type: Option<&str>) -> Result<Artifact> {
    if paths.len() > limits::CHILDREN {
        return Err(Error::new(Kind::LimitExceeded, "too many files for one artifact")
            .got(paths.len())
            .expected(format_args!("at most {}", limits::CHILDREN)));
    }
    let (config, empty) = empty();
    let mut parts = HashMap::from([empty]);
    let mut layers = Vec::with_capacity(paths.len());
    let mut titles = HashSet::new();
    for path in paths {
        let title = title(path)?;
        if !titles.insert(title) {
            return Err(Error::new(Kind::ManifestInvalid, "two files of one artifact have one name")
                .at(path.display())
                .got(title)
                .hint("rename one of them, or make two [[file]] of them"));
        }
        let (plain, digest, size) = Plain::hashed(path)?;
        layers.push(json!({
            "mediaType": media_type.unwrap_or(OCTETS), "digest": digest, "size": size, "annotations": { TITLE: title },
        }));
        parts.entry(digest).or_insert(Part::File(plain));
    }
    let manifest: Value = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "artifactType": artifact_type.unwrap_or(UNKNOWN_ARTIFACT),
        "config": config,
        "layers": layers,
    });
    Artifact::new(&manifest, parts)
}

/// The empty config, as a manifest names it, and what it is.
pub(super) fn empty() -> (Value, (Digest, Part)) {
    let digest = Digest::of(EMPTY);
    let config = json!({ "mediaType": EMPTY_TYPE, "digest": digest, "size": EMPTY.len(), "data": "e30=" });
    (config, (digest, Part::Bytes(Bytes::from_static(EMPTY))))
}

/// The name that the file gets where it is pulled. It is used as a path there.
pub(super) fn title(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    let plain = |name: &&str| !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'));
    name.filter(plain).ok_or_else(|| {
        Error::new(Kind::ManifestInvalid, "a file's name is not usable everywhere")
            .at(path.display())
            .expected("a name without control characters, '\\' and ':'")
    })
}
