//! Whether a document is what image-spec describes, as opposed to what registries and engines put up with: Docker's
//! media types, missing fields, configs that do not fit their layers.

use oci_spec::image as spec;
use serde_json::Value;

use super::{MediaType, Role, media};
use crate::oci::Digest;

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

/// Where an index or a manifest, which were parsed before, deviate from image-spec.
pub fn deviations(role: Role, media_type: &MediaType, bytes: &[u8]) -> Vec<Deviation> {
    let mut found = Vec::new();
    let expected = if role == Role::Index { media::INDEX } else { media::MANIFEST };
    let mut require = |holds: bool, got: String, expected: &str| {
        if !holds {
            found.push((got, expected.to_owned()));
        }
    };
    require(media_type.as_str() == expected, format!("the media type {media_type}"), expected);
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    // image-index.md and manifest.md, `mediaType`: SHOULD be used and match.
    require(document.get("mediaType").is_some(), "a document without mediaType".to_owned(), expected);
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match role {
        Role::Index => {
            for entry in document.get("manifests").and_then(Value::as_array).into_iter().flatten() {
                let kind = text(entry, "mediaType");
                let known = [media::INDEX, media::MANIFEST].contains(&kind.as_str());
                require(known, format!("an entry of the media type {kind}"), media::MANIFEST);
            }
        }
        _ => {
            let config = text(document.get("config").unwrap_or(&Value::Null), "mediaType");
            // manifest.md, "Guidelines for Artifact Usage": what is no image says so by its own config.
            let is_image = config == CONFIG || config.starts_with("application/vnd.docker.");
            require(!is_image || config == CONFIG, format!("a config of the media type {config}"), CONFIG);
            let layers = document.get("layers").and_then(Value::as_array).into_iter().flatten();
            for kind in layers.map(|layer| text(layer, "mediaType")).filter(|_| is_image) {
                let known = LAYERS.contains(&kind.as_str()) || kind == "application/vnd.in-toto+json";
                require(
                    known,
                    format!("a layer of the media type {kind}"),
                    "application/vnd.oci.image.layer.v1.tar+gzip, +zstd or plain",
                );
            }
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
        if !holds {
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
    let filled = config.history().iter().flatten().filter(|step| step.empty_layer() != Some(true)).count();
    let told = config.history().as_ref().is_some_and(|history| !history.is_empty());
    require(
        !told || filled == layers,
        format!("{filled} steps of the history with layers, of {layers}"),
        "one for each layer",
    );
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
