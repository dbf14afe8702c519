//! Documents and blobs as clients push them into a registry.

use serde_json::{Value, json};

use super::serving::{Reply, Serving};
use super::sha256;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The config and the layer of [`manifest`].
pub const CONFIG: &[u8] = b"{}";
pub const LAYER: &[u8] = b"layer";

/// `sha256:…`.
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", sha256(content))
}

pub fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// A manifest with these fields, too.
pub fn manifest(more: Value) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", CONFIG),
        "layers": [descriptor("application/octet-stream", LAYER)],
    });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest.to_string().into_bytes()
}

/// An index of these, with these fields, too.
pub fn index(children: &[Value], more: Value) -> Vec<u8> {
    let mut index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
    index.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    index.to_string().into_bytes()
}

/// Pushes a blob; its digest.
#[track_caller]
pub fn push(registry: &Serving, name: &str, content: &[u8]) -> String {
    let path = format!("/v2/{name}/blobs/uploads/?digest={}", digest(content));
    let reply = registry.put("POST", &path, &[], content);
    assert_eq!(reply.status, 201, "{reply:?}");
    digest(content)
}

/// Begins an upload; where it goes on.
#[track_caller]
pub fn begin(registry: &Serving, name: &str) -> String {
    let reply = registry.put("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.header("location").to_owned()
}

/// Pushes a document.
pub fn put(registry: &Serving, name: &str, reference: &str, media_type: &str, content: &[u8]) -> Reply {
    let path = format!("/v2/{name}/manifests/{reference}");
    registry.put("PUT", &path, &[("Content-Type", media_type)], content)
}
