//! Many images, and very large ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot be set up has failed"
)]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::json;
use support::running::watched;
use support::{Scratch, sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn blob(root: &Path, media_type: &str, content: &[u8]) -> serde_json::Value {
    let hex = sha256(content);
    std::fs::write(root.join("blobs/sha256").join(&hex), content).unwrap();
    json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": content.len() })
}

/// Ten blobs: an index, a manifest and a config for each of two platforms, five layers.
fn tiny(root: &Path, number: usize) -> serde_json::Value {
    let mut manifests = Vec::new();
    for (architecture, count) in [("amd64", 2), ("arm64", 3)] {
        let layer = |layer: usize| blob(root, LAYER, format!("{number} {architecture} {layer}").as_bytes());
        let layers: Vec<_> = (0..count).map(layer).collect();
        let config = json!({ "os": "linux", "architecture": architecture, "number": number }).to_string();
        let config = blob(root, CONFIG, config.as_bytes());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut entry = blob(root, MANIFEST, manifest.to_string().as_bytes());
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        manifests.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string();
    let mut entry = blob(root, INDEX, index.as_bytes());
    let name = format!("registry.example.com/scale/app{number}:1");
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    entry
}

fn layout(root: &Path, manifests: &[serde_json::Value]) {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string();
    std::fs::write(root.join("index.json"), index).unwrap();
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn many(count: usize) -> Scratch {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.path("images/blobs/sha256")).unwrap();
    let images: Vec<_> = (0..count).map(|number| tiny(&scratch.path("images"), number)).collect();
    layout(&scratch.path("images"), &images);
    let mut release = "schema = 1\nname = \"scale\"\nversion = \"1\"\ntier = \"community\"\n\
        channel = \"development\"\nregistry = \"registry.example.com\"\n"
        .to_owned();
    for number in 0..count {
        release += &format!(
            "[[image]]\nname = \"app{number}\"\nrepository = \"scale/app{number}\"\ntags = {{ standard = \"1\" }}\n"
        );
    }
    scratch.write("release.toml", release);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch
}

#[test]
fn time_and_memory_grow_with_the_number_of_blobs_and_no_faster() {
    // SEALIFT_SCALE=10000 makes twenty thousand blobs of the small set, and a hundred thousand of the large.
    let most = std::env::var("SEALIFT_SCALE").ok().and_then(|count| count.parse().ok()).unwrap_or(1200);
    let (few, many) = (many(most / 5), many(most));
    let blobs = (most - most / 5) as u64 * 10;
    let mirror = "--mirror registry.example.com=oci:images";
    for command in [
        format!("export release.toml --dry-run --json {mirror}"),
        format!("export release.toml -o bundle.tar --key release.key.pem {mirror}"),
        "verify bundle.tar --trust trust".to_owned(),
        "import bundle.tar --to oci:there --trust trust".to_owned(),
        "import bundle.tar --to oci:there --trust trust --dry-run".to_owned(),
        "import bundle.tar --to oci-archive:there.tar --trust trust".to_owned(),
        "import bundle.tar --to docker-archive:amd64.tar --platform linux/amd64 --trust trust --dry-run"
            .to_owned(),
    ] {
        let (short, small) = watched(few.command(&command));
        let (long, large) = watched(many.command(&command));
        let each = large.saturating_sub(small) / blobs;
        let ratio = long.as_secs_f64() / short.as_secs_f64();
        eprintln!("{command}: {each} bytes of memory per blob, {ratio:.1} × the time for 5 × the blobs");
        // What is set aside once (threads, documents that are remembered) counts for much in a small set.
        let allowed = if most >= 5000 { 1536 } else { 4096 };
        assert!(each < allowed, "{command}: {each} bytes per blob");
        // Five times the work; twenty-five would be quadratic.
        assert!(ratio < 12.0, "{command}: {short:?} and {long:?}");
    }
}

/// Bytes of the large layer: its size does not fit a tar header's octal digits.
const LARGE: u64 = (8 << 30) + 4096;

#[test]
fn a_layer_beyond_eight_gibibytes_is_carried() {
    let scratch = Scratch::new();
    let free = rustix::fs::statvfs(scratch.path(".")).map_or(0, |facts| facts.f_bavail * facts.f_frsize);
    if free < 2 * LARGE {
        eprintln!("skipped: there is no room for a layer of {LARGE} bytes");
        return;
    }
    let root = scratch.path("images");
    std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    let hex = sparse(&root.join("blobs/sha256"));
    let large = json!({ "mediaType": LAYER, "digest": format!("sha256:{hex}"), "size": LARGE });
    let small = blob(&root, LAYER, b"behind it");
    let config = blob(&root, CONFIG, br#"{"os":"linux","architecture":"amd64"}"#);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [large, small],
    });
    let mut image = blob(&root, MANIFEST, manifest.to_string().as_bytes());
    image["annotations"] =
        json!({ "org.opencontainers.image.ref.name": "registry.example.com/tools/tool:1.0.0" });
    layout(&root, &[image]);
    scratch.write("release.toml", support::SMALL);
    scratch.key("release");
    scratch.trust("trust", &["release"]);

    scratch.sealift(support::EXPORT).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    let listed = scratch.run("tar", "tvf bundle.tar").ok().stdout;
    assert!(listed.contains(&format!("{LARGE}")), "{listed}");
    let behind = small["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert_eq!(scratch.run("tar", &format!("xOf bundle.tar {behind}")).ok().stdout, "behind it");
}

/// A file of zeros that takes no room, under its digest's name.
fn sparse(folder: &Path) -> String {
    use sha2::Digest as _;
    let path = folder.join("large");
    let file = File::create(&path).unwrap();
    file.set_len(LARGE).unwrap();
    // Not all zeros: the end has to come from the end.
    file.write_all_at(b"the end", LARGE - 7).unwrap();
    let file = File::open(&path).unwrap();
    let mut hasher = sha2::Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut offset = 0;
    while let Ok(count @ 1..) = file.read_at(&mut piece, offset) {
        hasher.update(&piece[..count]);
        offset += count as u64;
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::rename(path, folder.join(&hex)).unwrap();
    hex
}
