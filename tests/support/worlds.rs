//! The worked manifests' worlds: for each of them, images that keep its rules. A test breaks one thing and looks what
//! is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use super::Scratch;
use super::evidence::{PACKAGES, Package, sarif_of_grype, spdx_of_syft};
use super::images::{Image, Layout};

const REVISION: &str = "9f2c1ab4d7e8f0a1b2c3d4e5f60718293a4b5c6d";

/// A worked manifest and the images it asks for, by full name.
pub struct World {
    pub manifest: String,
    pub images: BTreeMap<String, Image>,
    /// What lies beside it: SBOMs and scan reports.
    pub files: BTreeMap<String, Value>,
    /// The digests that the images have before anything is changed: the manifest may pin them.
    digests: BTreeMap<String, String>,
    /// Whether images are signed where the manifest asks for it.
    pub signed: bool,
}

/// The private half of the key that the worked manifest names: everybody knows it.
const KEY: [u8; 32] = [9; 32];
/// The public half, beside the manifest.
const KEY_FILE: &str = "cosign-example.pub.pem";

/// The worked manifests that have a world.
pub const NAMES: [&str; 5] = ["nexus-engine", "web-platform", "app-catalog", "splectrum", "control-plane"];

/// Where the worked manifests are.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

impl World {
    /// The world of `manifests/NAME.toml`.
    pub fn of(name: &str) -> World {
        let images = match name {
            "nexus-engine" => nexus_engine(),
            "web-platform" => web_platform(),
            "app-catalog" => app_catalog(),
            "splectrum" => splectrum(),
            "control-plane" => control_plane(),
            other => panic!("no world for {other}"),
        };
        let manifest = std::fs::read_to_string(manifests().join(format!("{name}.toml"))).unwrap();
        let images: BTreeMap<_, _> = images.into_iter().collect();
        let scratch = Scratch::new();
        let mut layout = Layout::new(scratch.path("images"));
        let digests = images.iter().map(|(name, image)| (name.clone(), layout.add(name, image))).collect();
        World { manifest, images, files: files(name), digests, signed: true }
    }

    /// One of its images; the end of its name is enough.
    pub fn image(&mut self, name: &str) -> &mut Image {
        let mut found = self.images.iter_mut().filter(|(full, _)| full.ends_with(name));
        let image = found.next().unwrap_or_else(|| panic!("no image {name}")).1;
        assert!(found.next().is_none(), "several images {name}");
        image
    }

    /// Changes what one of its images says of how it runs.
    pub fn runs(&mut self, name: &str, key: &str, value: Value) {
        self.image(name).runs[key] = value;
    }

    /// Changes a label.
    pub fn label(&mut self, name: &str, label: &str, value: Value) {
        self.image(name).runs["Labels"][label] = value;
    }

    /// Changes a text in the manifest, which must be there.
    pub fn edit(&mut self, from: &str, to: &str) {
        assert!(self.manifest.contains(from), "not in the manifest: {from}");
        self.manifest = self.manifest.replace(from, to);
    }

    /// Writes it: `release.toml`, and the layout `images`. What the manifest pins is what is there.
    pub fn write(&self, scratch: &Scratch) {
        let mut layout = Layout::new(scratch.path("images"));
        let mut manifest = self.manifest.clone();
        for (name, image) in &self.images {
            let digest = layout.add(name, image);
            if self.signed && manifest.contains(KEY_FILE) {
                World::sign(&mut layout, name, &digest);
            }
            // A further tag of the same image says nothing about the pin.
            if let Some(before) = self.digests.get(name).filter(|_| !name.contains(":sha-")) {
                manifest = manifest.replace(before, &digest);
            }
        }
        if manifest.contains(KEY_FILE) {
            scratch.write(KEY_FILE, std::fs::read(manifests().join(KEY_FILE)).unwrap());
        }
        scratch.write("release.toml", manifest);
        for (path, content) in &self.files {
            let path = scratch.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content.to_string()).unwrap();
        }
    }

    /// Signs an image as cosign does, under its tag.
    fn sign(layout: &mut Layout, name: &str, digest: &str) {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": name },
                "image": { "docker-manifest-digest": digest },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string();
        let signature = SigningKey::from_bytes(&KEY).sign(payload.as_bytes()).to_bytes();
        let mut layer = layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes());
        layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": STANDARD.encode(signature) });
        let document = layout.document(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": layout.blob("application/vnd.oci.image.config.v1+json", b"{}"), "layers": [layer],
        }));
        let repository = name.rsplit_once(':').unwrap().0;
        layout.name(&format!("{repository}:{}.sig", digest.replace(':', "-")), document);
    }
}

/// The SBOMs and scan reports of a world. They name no digest: an image that a test changes has another one.
fn files(world: &str) -> BTreeMap<String, Value> {
    let found = [("CVE-2026-0001", "MEDIUM", "openssl")];
    let mut files = BTreeMap::new();
    let mut add = |name: &str| {
        files.insert(format!("sbom/{name}.spdx.json"), sbom(&PACKAGES));
        files.insert(format!("scan/{name}.sarif"), sarif_of_grype(&found));
    };
    match world {
        "web-platform" => ["web-9f2c1ab", "worker-9f2c1ab"].map(&mut add).into_iter().collect(),
        "app-catalog" => {
            for name in ["backend", "worker", "frontend", "nginx"] {
                for platform in ["linux-amd64", "linux-arm64", "linux-arm-v7"] {
                    add(&format!("{name}-{platform}"));
                }
            }
        }
        _ => {}
    }
    files
}

/// An SBOM of these packages.
pub fn sbom(packages: &[Package]) -> Value {
    let mut sbom = spdx_of_syft("", packages);
    sbom["packages"].as_array_mut().unwrap().retain(|package| package["primaryPackagePurpose"].is_null());
    sbom
}

type Images = Vec<(String, Image)>;

fn image(seed: &str, runs: Value) -> Image {
    Image { layer: 300, runs, ..Image::new(seed) }
}

fn nexus_engine() -> Images {
    let runs = |program: &str| {
        json!({
            "Entrypoint": [format!("/usr/bin/{program}")], "User": "10001",
            "Labels": { "org.opencontainers.image.version": "2.1.0" },
        })
    };
    let engine = |variant: &str| image(&format!("engine {variant}"), runs("engine"));
    let names = [
        ("engine:2.1.0", engine("standard")),
        ("engine:2.1.0-distroless", engine("distroless")),
        ("engine:2.1.0-edge", engine("edge")),
        ("observability-agent:2.1.0", image("observability", runs("agent"))),
    ];
    names.map(|(name, image)| (format!("registry.example.com/nexus/{name}"), image)).into()
}

fn web_platform() -> Images {
    let built = |name: &str| {
        let runs = json!({
            "Entrypoint": [format!("/srv/{name}")], "User": "10001",
            "Labels": {
                "org.opencontainers.image.revision": REVISION,
                "org.opencontainers.image.source": "https://git.example.com/platform",
            },
        });
        image(name, runs)
    };
    let tags = |name: &'static str| {
        ["4.7.0", "sha-9f2c1ab"]
            .map(|tag| (format!("registry.example.com/platform/{name}:{tag}"), built(name)))
    };
    [tags("web"), tags("worker")].into_iter().flatten().collect()
}

fn app_catalog() -> Images {
    let wget = json!({ "Test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"] });
    let own = |name: &str, port: &str| {
        json!({
            "User": "10001:10001", "ExposedPorts": { port: {} }, "Entrypoint": [format!("/app/{name}")],
            "Healthcheck": { "Test": ["CMD", format!("/app/{name}"), "health"] },
        })
    };
    let web = json!({
        "User": "app", "ExposedPorts": { "8080/tcp": {} }, "Entrypoint": ["/docker-entrypoint.sh"], "Healthcheck": wget,
    });
    let names = [
        ("app/backend", image("backend", own("backend", "8000/tcp"))),
        ("app/worker", image("worker", own("worker", "8001/tcp"))),
        ("app/frontend", image("frontend", web.clone())),
        ("ops/nginx", image("nginx", web.clone())),
    ];
    let mut images: Images =
        names.map(|(name, image)| (format!("registry.example.com/{name}:v1.8.2"), image)).into();
    // What staging had.
    images.push(("registry.example.com/ops/nginx:sha-9f2c1ab".to_owned(), image("nginx", web)));
    images
}

fn splectrum() -> Images {
    let built = |name: &str| image(name, json!({ "Entrypoint": ["/splectrum"] }));
    [("engine", "3.2.0"), ("gateway", "1.14.1")]
        .map(|(name, tag)| (format!("ghcr.io/splectrum/splectrum-{name}:{tag}"), built(name)))
        .into()
}

fn control_plane() -> Images {
    let base = format!("sha256:{}", "7".repeat(64));
    let labels = json!({ "org.opencontainers.image.base.digest": base });
    let label = json!({ "Labels": labels, "Entrypoint": ["/service"], "User": "10001" });
    // One says it in its history alone, and one has two platforms.
    let names = ["control-plane", "connector-gateway", "execution-plane", "agent", "indexer"].map(|name| {
        let mut built = image(name, label.clone());
        if name == "indexer" {
            built.runs = json!({ "Entrypoint": ["/service"], "User": "10001" });
            built.history = vec![format!("FROM debian:12@{base}"), "COPY service /service".to_owned()];
        }
        if name == "agent" {
            built.platforms = vec!["linux/amd64", "linux/arm64"];
        }
        (format!("registry.example.com/pipeline/{name}:0.9.4"), built)
    });
    names.into()
}
