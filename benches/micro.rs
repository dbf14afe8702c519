//! What small things cost: hashing, planning, and opening a bundle as far as trust.
//!
//! ```text
//! cargo bench --bench micro
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot be set up has failed"
)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use sealift::bundle::{Bundle, Draft, Writer};
use sealift::content::{Quiet, Source, Unverified};
use sealift::error::{Error, Kind, Result};
use sealift::oci::{Descriptor, Digest, Hasher, MediaType, Name, Role, media};
use sealift::plan::{Place, Selection, Survey, Target, Transfer, Want, resolve, transfer};
use sealift::release::{Channel, Moment, Release, Tier};
use sealift::rules::PolicyRecord;
use sealift::trust::{Keyring, SigningKey};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Content in memory, as every source must give it.
#[derive(Default)]
struct Memory {
    blobs: HashMap<Digest, Bytes>,
    names: HashMap<Name, Descriptor>,
}

#[async_trait]
impl Source for Memory {
    async fn resolve(&self, name: &Name, _: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        let descriptor = self.names.get(name).ok_or_else(|| absent(name))?;
        Ok((descriptor.clone(), self.bytes(descriptor)?))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let content = self.bytes(expected)?;
        Ok(Unverified::of_bytes(expected.digest, content.slice(from as usize..)))
    }
}

fn absent(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::NotFound, "not in memory").got(what)
}

impl Memory {
    fn bytes(&self, of: &Descriptor) -> Result<Bytes> {
        self.blobs.get(&of.digest).cloned().ok_or_else(|| absent(of.digest))
    }

    /// Keeps a blob; its descriptor as JSON.
    fn keep(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let digest = Digest::of(&content);
        let descriptor = json!({
            "mediaType": media_type, "digest": digest.to_string(), "size": content.len(),
        });
        self.blobs.insert(digest, Bytes::from(content));
        descriptor
    }

    fn keep_document(&mut self, document: &Value) -> Value {
        self.keep(document["mediaType"].as_str().unwrap(), document.to_string().into_bytes())
    }

    /// An image for three platforms; one of its layers on each is shared by all images.
    fn add_image(&mut self, number: usize, layers: usize) -> Name {
        let builds: Vec<_> = ["amd64", "arm64", "riscv64"]
            .iter()
            .map(|architecture| self.manifest(number, architecture, layers))
            .collect();
        let index = self.keep_document(&json!({
            "schemaVersion": 2, "mediaType": media::INDEX, "manifests": builds,
        }));
        let name: Name = format!("registry.example.com/images/image-{number}:1.0.0").parse().unwrap();
        let descriptor = Descriptor {
            role: Role::Index,
            media_type: MediaType::new(media::INDEX),
            digest: index["digest"].as_str().unwrap().parse().unwrap(),
            size: index["size"].as_u64().unwrap(),
        };
        self.names.insert(name.clone(), descriptor);
        name
    }

    fn manifest(&mut self, number: usize, architecture: &str, layers: usize) -> Value {
        let layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        let contents = (1..layers).map(|layer| format!("{number} {architecture} {layer}"));
        let contents: Vec<_> = std::iter::once(format!("shared {architecture}")).chain(contents).collect();
        let layers: Vec<_> =
            contents.into_iter().map(|content| self.keep(layer_type, content.into_bytes())).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "2026-06-01T00:00:00Z",
            "config": { "Labels": { "number": number.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = self.keep(media::CONFIG, config.to_string().into_bytes());
        let mut manifest = self.keep_document(&json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers,
        }));
        manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
        manifest
    }
}

fn images(count: usize, layers: usize) -> (Vec<Want>, Vec<Arc<dyn Source>>) {
    let mut memory = Memory::default();
    let names: Vec<Name> = (0..count).map(|number| memory.add_image(number, layers)).collect();
    let memory: Arc<dyn Source> = Arc::new(memory);
    let want = |(number, name): (usize, Name)| Want {
        attachments: sealift::plan::Attachments::Left,
        image: format!("image-{number}"),
        variant: "standard".to_owned(),
        tags: vec![name.tag.clone()],
        source: name,
        target: Target::Tagged { pin: None },
        selection: Selection::default(),
    };
    (names.into_iter().enumerate().map(want).collect(), vec![memory; count])
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// SHA-256 in pieces as they come from the network (64 KiB) and from files (256 KiB).
#[divan::bench(args = [64 << 10, 256 << 10])]
fn hash_16_mib(bencher: Bencher, piece: usize) {
    let content = vec![0x5a_u8; 16 << 20];
    bencher.counter(BytesCount::new(content.len())).bench(|| {
        let mut hasher = Hasher::default();
        black_box(&content).chunks(piece).for_each(|piece| hasher.update(piece));
        hasher.finish()
    });
}

/// From wants to a plan: three platforms with eight layers for each image, read from memory.
#[divan::bench(args = [10, 100, 1000], sample_count = 20)]
fn plan_images(bencher: Bencher, count: usize) {
    let runtime = runtime();
    let (wants, sources) = images(count, 8);
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| runtime.block_on(resolve(&wants, &sources)).map(|plan| plan.nodes.len()).unwrap());
}

/// A bundle, and the store that trusts it.
struct Sealed {
    directory: tempfile::TempDir,
}

impl Sealed {
    fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle.tar")
    }

    fn trust(&self) -> PathBuf {
        self.directory.path().join("trust")
    }

    fn new(count: usize) -> Self {
        let sealed = Sealed { directory: tempfile::tempdir().unwrap() };
        let key = SigningKey::generate().unwrap();
        std::fs::create_dir(sealed.trust()).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(sealed.trust(), permissions).unwrap();
        std::fs::write(sealed.trust().join("key.pub.pem"), key.public().to_pem().unwrap()).unwrap();
        runtime().block_on(sealed.write(count, &key)).unwrap();
        sealed
    }

    async fn write(&self, count: usize, key: &SigningKey) -> Result<()> {
        let (wants, sources) = images(count, 8);
        let plan = Arc::new(resolve(&wants, &sources).await?);
        let release = Release {
            name: "micro".parse()?,
            version: "1.0.0".parse()?,
            sequence: None,
            tier: Tier::Community,
            channel: Channel::Development,
            created: Moment::default(),
            expires: None,
            upgrades_from: None,
            license: None,
            trust_root: None,
        };
        let policy =
            PolicyRecord { checks: Vec::new(), cosign: Vec::new(), profile: release.tier.to_string() };
        let draft = Draft::new(&release, &plan, policy)?;
        let signature = (key.public().id(), key.sign(draft.sums()));
        let sealing = draft.sign(&plan, vec![signature])?;
        let writer = Arc::new(Writer::create(&self.bundle(), sealing, false, &|_| {})?);
        let everything = Survey::of_empty(&plan);
        let place =
            Place { sink: writer.clone(), repository: String::new(), images: Vec::new(), source: None };
        let places = vec![place];
        let order = Transfer { plan, sources, places, jobs: 2, rate: None, watch: Arc::new(Quiet) };
        let order = Arc::new(order);
        transfer(&order, &everything, "writing").await?;
        drop(order);
        Arc::into_inner(writer).unwrap().finish()?;
        Ok(())
    }
}

/// The first look at a bundle: its sums and signatures are read.
#[divan::bench(args = [10, 100, 1000])]
fn open(bencher: Bencher, count: usize) {
    let sealed = Sealed::new(count);
    bencher.bench(|| Bundle::open(&sealed.bundle()).map(drop).unwrap());
}

/// All that is decided before the contents are read: signatures, statement, sums, the file's length.
#[divan::bench(args = [10, 100, 1000])]
fn open_and_trust(bencher: Bencher, count: usize) {
    let sealed = Sealed::new(count);
    let keyring = Keyring::load(&sealed.trust()).unwrap();
    let now = Moment::now();
    bencher.bench(|| Bundle::open(&sealed.bundle()).and_then(|b| b.trust(&keyring, now)).map(drop).unwrap());
}

/// Everything: every header, every padding, every blob (small ones here, so the count weighs).
#[divan::bench(args = [10, 100], sample_count = 20)]
fn verify_many_small_blobs(bencher: Bencher, count: usize) {
    let runtime = runtime();
    let sealed = Sealed::new(count);
    let keyring = Keyring::load(&sealed.trust()).unwrap();
    let now = Moment::now();
    bencher.bench(|| {
        let bundle = Bundle::open(&sealed.bundle()).and_then(|bundle| bundle.trust(&keyring, now)).unwrap();
        runtime.block_on(bundle.verify(2, Arc::new(Quiet))).map(drop).unwrap();
    });
}
