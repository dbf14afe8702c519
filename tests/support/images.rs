//! Tiny images, written into an OCI layout by code: the same description gives the same bytes.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::lying::{Answer, Lying, Request};
use super::sha256;

/// All that a client takes for a document, as an `Accept` header's value.
pub const DOCUMENTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                             application/vnd.docker.distribution.manifest.list.v2+json, \
                             application/vnd.docker.distribution.manifest.v2+json";

/// An image. Layers are pseudo-random and depend on the seeds alone.
#[derive(Clone)]
pub struct Image {
    /// Seeds what is its own.
    pub seed: String,
    /// `os/architecture[/variant]`; the last one's manifest is the whole image where there is no index.
    pub platforms: Vec<&'static str>,
    /// Random bytes in each platform's own layer.
    pub layer: usize,
    /// Seeds of further layers, which images of other seeds may have too.
    pub shared: Vec<&'static str>,
    /// The last layer stands twice in the manifest.
    pub layer_twice: bool,
    /// Docker's media types instead of OCI's.
    pub docker: bool,
    /// No index above the manifest.
    pub no_index: bool,
    /// An `unknown/unknown` entry for each platform, as BuildKit attests.
    pub attested: bool,
    /// When the config says it was made.
    pub created: &'static str,
    /// The architecture that the config names, where it lies.
    pub config_architecture: Option<&'static str>,
    /// What the config says of how the program runs, beside the label `seed`.
    pub runs: Value,
    /// The commands that the config says it was made by: the last ones made the layers.
    pub history: Vec<String>,
}

impl Image {
    /// For three platforms, with one layer of its own.
    pub fn new(seed: &str) -> Self {
        Image {
            seed: seed.to_owned(),
            platforms: vec!["linux/amd64", "linux/arm64", "linux/arm/v7"],
            layer: 2000,
            shared: Vec::new(),
            layer_twice: false,
            docker: false,
            no_index: false,
            attested: false,
            created: "2026-06-01T00:00:00Z",
            config_architecture: None,
            runs: Value::Null,
            history: Vec::new(),
        }
    }

    fn media(&self, what: &str) -> &'static str {
        match (what, self.docker) {
            ("index", false) => "application/vnd.oci.image.index.v1+json",
            ("index", true) => "application/vnd.docker.distribution.manifest.list.v2+json",
            ("manifest", false) => "application/vnd.oci.image.manifest.v1+json",
            ("manifest", true) => "application/vnd.docker.distribution.manifest.v2+json",
            ("config", false) => "application/vnd.oci.image.config.v1+json",
            ("config", true) => "application/vnd.docker.container.image.v1+json",
            ("layer", false) => "application/vnd.oci.image.layer.v1.tar+gzip",
            ("layer", true) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            _ => panic!("{what}"),
        }
    }
}

/// An OCI layout being written.
pub struct Layout {
    root: PathBuf,
    entries: Vec<Value>,
}

impl Layout {
    /// An empty one.
    pub fn new(root: PathBuf) -> Self {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Layout { root, entries: Vec::new() };
        layout.write_index();
        layout
    }

    /// One that is there already.
    pub fn open(root: PathBuf) -> Self {
        let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
        Layout { root, entries: index["manifests"].as_array().unwrap().clone() }
    }

    /// What a name leads to.
    pub fn entry(&self, name: &str) -> Value {
        let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
        self.entries.iter().find(named).unwrap().clone()
    }

    /// Adds an image under a name, moving the name if it is given already. Returns its digest.
    pub fn add(&mut self, name: &str, image: &Image) -> String {
        let top = self.image(image);
        self.name(name, top)
    }

    /// Adds a document under a name.
    pub fn name(&mut self, name: &str, mut entry: Value) -> String {
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        self.entries.retain(|other| other["annotations"] != entry["annotations"]);
        self.entries.push(entry.clone());
        self.write_index();
        entry["digest"].as_str().unwrap().to_owned()
    }

    /// Adds a document without a name.
    pub fn unnamed(&mut self, entry: Value) -> String {
        let digest = entry["digest"].as_str().unwrap().to_owned();
        self.entries.push(entry);
        self.write_index();
        digest
    }

    /// Writes an artifact with one layer; `subject` is what it is attached to, if it says so itself.
    pub fn artifact(&self, kind: &str, content: &[u8], subject: Option<&Value>) -> Value {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": kind,
            "config": self.blob("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [self.blob("application/octet-stream", content)],
            "annotations": { "org.opencontainers.image.created": "2026-06-01T00:00:00Z", "note": "größer & <b>" },
        });
        if let Some(subject) = subject {
            let mut subject = subject.clone();
            subject
                .as_object_mut()
                .unwrap()
                .retain(|key, _| ["mediaType", "digest", "size"].contains(&key.as_str()));
            manifest["subject"] = subject;
        }
        self.document(&manifest)
    }

    /// Writes a blob and describes it.
    pub fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = sha256(content);
        fs::write(self.root.join("blobs/sha256").join(&digest), content).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() })
    }

    /// Writes a document and describes it.
    pub fn document(&self, document: &Value) -> Value {
        self.blob(document["mediaType"].as_str().unwrap(), document.to_string().as_bytes())
    }

    fn write_index(&self) {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": self.entries });
        fs::write(self.root.join("index.json"), index.to_string()).unwrap();
    }

    /// Writes an image and describes its top document.
    pub fn image(&self, image: &Image) -> Value {
        let mut entries = Vec::new();
        for platform in &image.platforms {
            let manifest = self.manifest(image, platform);
            let attestation = image.attested.then(|| self.attestation(&manifest));
            entries.push(manifest);
            entries.extend(attestation);
        }
        if image.no_index {
            let mut only = entries.pop().unwrap();
            only.as_object_mut().unwrap().remove("platform");
            return only;
        }
        self.document(&json!({
            "schemaVersion": 2, "mediaType": image.media("index"), "manifests": entries,
        }))
    }

    fn manifest(&self, image: &Image, platform: &str) -> Value {
        let mut layers = vec![layer(&format!("{} {platform}", image.seed), image.layer)];
        layers.extend(image.shared.iter().map(|seed| layer(seed, image.layer)));
        let diff_ids: Vec<_> = layers.iter().map(|(diff_id, _)| diff_id.clone()).collect();
        let mut layers: Vec<_> =
            layers.iter().map(|(_, content)| self.blob(image.media("layer"), content)).collect();
        if image.layer_twice {
            layers.push(layers.last().unwrap().clone());
        }
        let platform = platform_object(platform);
        let mut config = platform.clone();
        if let Some(other) = image.config_architecture {
            config["architecture"] = json!(other);
        }
        config["created"] = json!(image.created);
        config["config"] = json!({ "Labels": { "seed": image.seed } });
        for (key, value) in image.runs.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("Labels", Value::Object(labels)) => {
                    for (label, value) in labels {
                        config["config"]["Labels"][label] = value.clone();
                    }
                }
                _ => config["config"][key] = value.clone(),
            }
        }
        let empty = image.history.len().saturating_sub(layers.len());
        let steps = image.history.iter().enumerate();
        let steps = steps.map(|(n, step)| json!({ "created_by": step, "empty_layer": n < empty }));
        if !image.history.is_empty() {
            config["history"] = Value::Array(steps.collect());
        }
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = self.blob(image.media("config"), config.to_string().as_bytes());
        let mut entry = self.document(&json!({
            "schemaVersion": 2, "mediaType": image.media("manifest"), "config": config, "layers": layers,
        }));
        entry["platform"] = platform;
        entry
    }

    /// As BuildKit writes it: a manifest beside the one that it speaks of.
    fn attestation(&self, subject: &Value) -> Value {
        let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "subject": subject["digest"] });
        let config = json!({ "architecture": "unknown", "os": "unknown", "config": {} });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = self.blob("application/vnd.in-toto+json", statement.to_string().as_bytes());
        let mut entry = self.document(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        }));
        entry["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
        entry["annotations"] = json!({
            "vnd.docker.reference.digest": subject["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        });
        entry
    }
}

/// A registry that serves a layout, but for the requests that `instead` answers. A tag finds the first
/// entry whose name ends in it.
pub fn served(
    root: PathBuf,
    instead: impl Fn(&Request, &[u8]) -> Option<Answer> + Send + Sync + 'static,
) -> Lying {
    Lying::start(move |request, _| {
        let reference = request.path.rsplit('/').next().unwrap_or_default();
        let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
        let named = index["manifests"].as_array().unwrap().iter().find(|entry| {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default();
            name.ends_with(&format!(":{reference}"))
        });
        let digest = named.map_or(reference, |entry| entry["digest"].as_str().unwrap());
        let content = fs::read(root.join("blobs").join(digest.replace(':', "/"))).unwrap_or_default();
        if let Some(answer) = instead(request, &content) {
            return answer;
        }
        if content.is_empty() || request.path.contains("/referrers/") {
            return Answer::new(if request.path == "/v2/" { 200 } else { 404 });
        }
        let document = serde_json::from_slice::<Value>(&content).unwrap_or_default();
        let media_type = document["mediaType"].as_str().unwrap_or("application/octet-stream");
        let answer = Answer::new(200).header("Content-Type", media_type);
        answer.header("Content-Length", content.len()).body(content)
    })
}

fn platform_object(platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut object = json!({ "os": parts.next().unwrap(), "architecture": parts.next().unwrap() });
    if let Some(variant) = parts.next() {
        object["variant"] = json!(variant);
    }
    object
}

/// A gzip'ed tar with one file: the digest of the tar, and the gzip file.
fn layer(seed: &str, size: usize) -> (String, Vec<u8>) {
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "data", random(seed, size).as_slice()).unwrap();
    let archive = archive.into_inner().unwrap();
    (format!("sha256:{}", sha256(&archive)), gzip(&archive))
}

/// `size` bytes that depend on the seed alone (xorshift64).
pub fn random(seed: &str, size: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A gzip file with stored blocks (RFC 1951 §3.2.4, RFC 1952): no compressor's choices in it.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = content.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        file.push(u8::from(blocks.peek().is_none()));
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&(!length).to_le_bytes());
        file.extend_from_slice(block);
    }
    file.extend_from_slice(&crc32(content).to_le_bytes());
    file.extend_from_slice(&(content.len() as u32).to_le_bytes());
    file
}

fn crc32(content: &[u8]) -> u32 {
    !content.iter().fold(!0, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            (state >> 1) ^ (if state & 1 == 1 { 0xedb8_8320 } else { 0 })
        })
    })
}
