//! `demo`: tiny images, made by the program itself, for a trip without server or network. The
//! mouth runs the trip; this file makes what travels.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, media};

/// Written into the demo's directory, so that a later demo knows it may replace it.
pub const MARKER: &str = ".sealift-demo";

/// The release manifest of the demo.
pub const MANIFEST: &str = r#"schema    = 1
name      = "demo-engine"
version   = "2.1.0"
tier      = "sovereign"
channel   = "production"
registry  = "registry.example.com"
platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7"]

[[image]]
name       = "engine"
repository = "demo/engine"
source     = "oci:images"        # a layout beside this file; leave it out to pull from the registry
tags       = { standard = "{version}", distroless = "{version}-distroless", edge = "{version}-edge" }
also_tag   = ["{major}.{minor}"]
"#;

const CREATED: &str = "2026-06-01T00:00:00Z";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Prepares the demo's directory: images in an OCI layout, a release manifest, an empty trust store.
///
/// # Errors
/// `OutputExists` where the directory was not made by a demo.
pub fn prepare(directory: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("cannot prepare the demo", directory.display(), &e);
    if directory.join(MARKER).is_file() {
        std::fs::remove_dir_all(directory).map_err(failed)?;
    } else if directory.exists() {
        return Err(Error::new(Kind::OutputExists, "the demo's directory exists and is not a demo's")
            .at(directory.display())
            .hint("run the demo somewhere else"));
    }
    std::fs::create_dir_all(directory.join("images/blobs/sha256")).map_err(failed)?;
    std::fs::write(directory.join(MARKER), "made by sealift demo; the next demo replaces this directory\n")
        .map_err(failed)?;
    std::fs::write(directory.join("release.toml"), MANIFEST).map_err(failed)?;
    std::fs::create_dir(directory.join("trust")).map_err(failed)?;
    // Whatever the umask is: a trust store that others can write to is refused.
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.join("trust"), owner_only).map_err(failed)?;
    Images { root: directory.join("images") }.write_all()
}

struct Images {
    root: std::path::PathBuf,
}

impl Images {
    fn write_all(&self) -> Result<()> {
        let mut top = Vec::new();
        for (variant, tag) in
            [("standard", "2.1.0"), ("distroless", "2.1.0-distroless"), ("edge", "2.1.0-edge")]
        {
            let mut manifests = Vec::new();
            for (architecture, arm) in [("amd64", None), ("arm64", None), ("arm", Some("v7"))] {
                manifests.push(self.image(variant, architecture, arm)?);
            }
            let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests });
            let mut entry = self.document(&index, media::INDEX)?;
            merge(&mut entry, json!({ "annotations": { "org.opencontainers.image.ref.name": tag } }));
            top.push(entry);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": top });
        self.file("index.json", index.to_string().as_bytes())?;
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// One platform's image; returns its entry in the index. All variants of a platform share the
    /// application's layer, as real ones do.
    fn image(&self, variant: &str, architecture: &str, arm: Option<&str>) -> Result<Value> {
        let base = format!("pretend {variant} base system for {architecture}\n").repeat(400);
        let program = format!("#!/bin/sh\necho engine 2.1.0 for {architecture}\n");
        let layers = [
            self.layer("etc/os-release", base.as_bytes())?,
            self.layer("opt/engine/bin/engine", program.as_bytes())?,
        ];
        let diff_ids: Vec<_> = layers.iter().map(|(diff_id, _)| diff_id.to_string()).collect();
        let descriptors: Vec<_> = layers.into_iter().map(|(_, descriptor)| descriptor).collect();
        let mut platform = json!({ "architecture": architecture, "os": "linux" });
        if let Some(arm) = arm {
            merge(&mut platform, json!({ "variant": arm }));
        }
        let mut config = json!({
            "created": CREATED,
            "config": { "Entrypoint": ["/opt/engine/bin/engine"], "Labels": { "org.opencontainers.image.version": "2.1.0" } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        merge(&mut config, platform.clone());
        let config = self.document(&config, media::CONFIG)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": descriptors,
        });
        let mut entry = self.document(&manifest, media::MANIFEST)?;
        merge(&mut entry, json!({ "platform": platform }));
        Ok(entry)
    }

    /// A layer with one file: its uncompressed digest and its descriptor.
    fn layer(&self, path: &str, content: &[u8]) -> Result<(Digest, Value)> {
        let failed = |e: std::io::Error| Error::io("cannot make a demo layer", path, &e);
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        let mut layer = tar::Builder::new(Vec::new());
        layer.append_data(&mut header, path, content).map_err(failed)?;
        let layer = layer.into_inner().map_err(failed)?;
        let packed = zstd::encode_all(layer.as_slice(), 3).map_err(failed)?;
        Ok((Digest::of(&layer), self.blob(&packed, LAYER)?))
    }

    fn document(&self, document: &Value, media_type: &str) -> Result<Value> {
        self.blob(document.to_string().as_bytes(), media_type)
    }

    fn blob(&self, content: &[u8], media_type: &str) -> Result<Value> {
        let digest = Digest::of(content);
        self.file(&digest.blob_path(), content)?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": content.len() }))
    }

    fn file(&self, path: &str, content: &[u8]) -> Result<()> {
        let path = self.root.join(path);
        std::fs::write(&path, content).map_err(|e| Error::io("cannot write a demo image", path.display(), &e))
    }
}

fn merge(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

/// Copies a public key into the trust store.
pub fn carry(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(|_| ()).map_err(|e| Error::io("cannot copy the public key", to.display(), &e))
}
