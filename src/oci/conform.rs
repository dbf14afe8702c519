//! Whether a document is what image-spec describes, as opposed to what registries and engines put up with: Docker's
//! media types, missing fields, configs that do not fit their layers.

use oci_spec::image as spec;
use serde::Deserialize;

use super::{Digest, MediaType, Role, media};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    // Deprecated, and still image-spec's (layer.md, "Non-Distributable Layers").
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];

/// What is there, and what image-spec has instead.
pub type Deviation = (String, String);

/// Deviations of one document that are told: there may be as many as somebody likes.
const TOLD: usize = 8;

/// What is looked at in an index or a manifest.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Outline {
    manifests: Vec<Entry>,
    config: Entry,
    layers: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    media_type: String,
}

/// Where an index or a manifest, which were parsed before, deviate from what image-spec requires.
pub fn deviations(role: Role, media_type: &MediaType, bytes: &[u8]) -> Vec<Deviation> {
    let mut found = Vec::new();
    let mut require = |holds: bool, got: String, expected: &str| {
        if !holds && found.len() < TOLD {
            found.push((got, expected.to_owned()));
        }
    };
    let expected = if role == Role::Index { media::INDEX } else { media::MANIFEST };
    require(media_type.as_str() == expected, format!("the media type {media_type}"), expected);
    let outline: Outline = serde_json::from_slice(bytes).unwrap_or_default();
    for Entry { media_type: kind } in &outline.manifests {
        let known = [media::INDEX, media::MANIFEST].contains(&kind.as_str());
        require(known, format!("an entry of the media type {kind}"), media::MANIFEST);
    }
    if role == Role::Manifest {
        let config = &outline.config.media_type;
        // manifest.md, "Guidelines for Artifact Usage": what is no image says so by its own config.
        let is_image = config == CONFIG || config.starts_with("application/vnd.docker.");
        require(!is_image || config == CONFIG, format!("a config of the media type {config}"), CONFIG);
        for Entry { media_type: kind } in outline.layers.iter().filter(|_| is_image) {
            let known = LAYERS.contains(&kind.as_str()) || kind == "application/vnd.in-toto+json";
            require(known, format!("a layer of the media type {kind}"), LAYERS.first().unwrap_or(&""));
        }
    }
    found
}

/// Where an image config deviates from image-spec config.md; `layers` is how many the manifest names.
pub fn config_deviations(bytes: &[u8], layers: usize) -> Vec<Deviation> {
    let config: spec::ImageConfiguration = match serde_json::from_slice(bytes) {
        Ok(config) => config,
        Err(e) => return vec![(format!("a config that cannot be read: {e}"), "an image config".to_owned())],
    };
    let mut found = Vec::new();
    let mut require = |holds: bool, got: String, expected: &str| {
        if !holds && found.len() < TOLD {
            found.push((got, expected.to_owned()));
        }
    };
    require(!config.os().to_string().is_empty(), "no os".to_owned(), "os, REQUIRED");
    require(
        !config.architecture().to_string().is_empty(),
        "no architecture".to_owned(),
        "architecture, REQUIRED",
    );
    let root = config.rootfs();
    require(root.typ() == "layers", format!("rootfs.type {:?}", root.typ()), "\"layers\"");
    let diffs = root.diff_ids();
    require(
        diffs.len() == layers,
        format!("{} rootfs.diff_ids for {layers} layers", diffs.len()),
        "one for each layer",
    );
    for wrong in diffs.iter().filter(|diff| diff.parse::<Digest>().is_err()) {
        require(false, format!("the diff_id {wrong:?}"), "a digest");
    }
    if let Some(created) = config.created() {
        let is_moment = created.parse::<jiff::Timestamp>().is_ok();
        require(is_moment, format!("created {created:?}"), "a time of RFC 3339");
    }
    let env = config.config().as_ref().and_then(|config| config.env().as_ref());
    for variable in env.into_iter().flatten().filter(|variable| !variable.contains('=')) {
        require(false, format!("the variable {variable:?}"), "NAME=VALUE");
    }
    found
}
