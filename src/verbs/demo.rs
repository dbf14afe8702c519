//! `demo`: tiny images, made by the program itself, for a trip between two registries on this machine.
//! The mouth runs the trip; this file makes what travels and the directory in which that happens,
//! brings the images into the first registry, and compares what both give out in the end.

use std::fs::{self, DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::places::{self, Destination};
use crate::content::{Quiet, Source};
use crate::error::{Error, Kind, Result};
use crate::manifest::Manifest;
use crate::oci::{Digest, Name, media};
use crate::plan::{Done, Transfer, resolve, survey, transfer};
use crate::registry;

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
tags       = { standard = "{version}", distroless = "{version}-distroless", edge = "{version}-edge" }
also_tag   = ["{major}.{minor}"]

[policy]
allowed_registries = ["registry.example.com"]
"#;

const CREATED: &str = "2026-06-01T00:00:00Z";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Pushes at once.
const JOBS: usize = 4;

/// The demo's directory. Dropped, it is gone with all that is in it.
pub struct Stage(PathBuf);

impl Stage {
    /// Makes it among the system's temporary files: images in an OCI layout, a release manifest, an
    /// empty trust store.
    ///
    /// # Errors
    /// `Io` where there is no room for it.
    pub fn set() -> Result<Self> {
        let above = std::env::temp_dir();
        let failed = |e: std::io::Error| Error::io("cannot prepare the demo", above.display(), &e);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| failed(std::io::Error::other(e)))?;
        let name = format!("sealift-demo-{:016x}", u64::from_ne_bytes(random));
        let directory = above.canonicalize().map_err(failed)?.join(name);
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        // From here on it goes when something fails.
        let stage = Stage(directory);
        stage.fill().map_err(failed)?;
        Images { root: stage.0.join("images") }.write_all()?;
        Ok(stage)
    }

    fn fill(&self) -> std::io::Result<()> {
        fs::create_dir_all(self.0.join("images/blobs/sha256"))?;
        fs::write(self.0.join("release.toml"), MANIFEST)?;
        fs::create_dir(self.0.join("trust"))?;
        // Whatever the umask is: a trust store that others can write to is refused.
        fs::set_permissions(self.0.join("trust"), Permissions::from_mode(0o755))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Brings the images into a registry, under all names that the release has.
    pub async fn push(&self, registry: SocketAddr) -> Result<Done> {
        let client = registry::Client::new(registry::Options::default())?;
        let variants = self.release()?.images;
        let layout = format!("registry.example.com=oci:{}", self.0.join("images").display()).parse()?;
        let sources = places::sources(&variants, &[layout], &mut places::Opener::new(&client)).await?;
        let wants: Vec<_> = variants.into_iter().map(|variant| variant.want).collect();
        let plan = Arc::new(resolve(&wants, &sources).await?);
        let there: Destination = format!("docker://{registry}").parse()?;
        let places = places::places(&plan, &there, &[], &client)?;
        let todo = survey(&plan, &places, JOBS).await?;
        let order = Transfer { plan, sources, places, jobs: JOBS, rate: None, watch: Arc::new(Quiet) };
        transfer(&Arc::new(order), &todo, "pushing").await
    }

    /// Requires that two bundles are the same, to the byte.
    ///
    /// # Errors
    /// `DigestMismatch`.
    pub fn same(&self, one: &str, other: &str) -> Result<()> {
        let digest = |name: &str| {
            let bytes = fs::read(self.0.join(name)).map_err(|e| Error::io("cannot read", name, &e))?;
            Ok::<_, Error>(Digest::of(&bytes))
        };
        alike(other, digest(one)?, digest(other)?)
    }

    /// Asks both registries what each of the release's names leads to: the digests, which must be
    /// the same.
    ///
    /// # Errors
    /// `DigestMismatch`; `NotFound`.
    pub async fn compare(&self, sides: [SocketAddr; 2]) -> Result<Vec<(Name, Digest)>> {
        let client = registry::Client::new(registry::Options::default())?;
        let mut names = Vec::new();
        for want in self.release()?.images.into_iter().map(|variant| variant.want) {
            for tag in want.tags {
                let name = want.source.with_tag(tag);
                let [one, other] = sides.map(|side| led_to(&client, side, &name));
                let (one, other) = (one.await?, other.await?);
                alike(&name.to_string(), one, other)?;
                names.push((name, one));
            }
        }
        Ok(names)
    }

    fn release(&self) -> Result<Manifest> {
        Manifest::parse(MANIFEST, &self.0, "release.toml")
    }

    /// Copies the public key into the trust store.
    pub fn carry(&self, key: &str) -> Result<()> {
        let copied = fs::copy(self.0.join(key), self.0.join("trust").join(key));
        copied.map(|_| ()).map_err(|e| Error::io("cannot copy the public key", key, &e))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The digest of what a registry gives out under a name, computed from its bytes.
async fn led_to(client: &registry::Client, side: SocketAddr, name: &Name) -> Result<Digest> {
    let there = client.repository(&side.to_string().parse()?, &name.repository);
    Ok(there.resolve(name, None).await?.0.digest)
}

fn alike(place: &str, expected: Digest, got: Digest) -> Result<()> {
    match got == expected {
        true => Ok(()),
        false => Err(Error::new(Kind::DigestMismatch, "not what it was before the trip")
            .at(place)
            .got(got)
            .expected(expected)),
    }
}

struct Images {
    root: PathBuf,
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
            merge(
                &mut entry,
                json!({ "annotations": { "org.opencontainers.image.ref.name": format!("registry.example.com/demo/engine:{tag}") } }),
            );
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
            "config": { "User": "10001", "Entrypoint": ["/opt/engine/bin/engine"], "Labels": { "org.opencontainers.image.version": "2.1.0" } },
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
        fs::write(&path, content).map_err(|e| Error::io("cannot write a demo image", path.display(), &e))
    }
}

fn merge(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}
