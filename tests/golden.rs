//! The frozen bundle: what was once written must stay readable, and what is written must not change
//! by accident.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::path::PathBuf;

use support::Scratch;
use support::images::{Image, Layout};

const RELEASE: &str = r#"schema    = 1
name      = "golden"
version   = "1.2.3"
tier      = "regulated"
channel   = "staging"
registry  = "registry.example.com"
sequence  = 7
platforms = ["linux/amd64", "linux/arm/v7"]
optional_platforms = ["linux/riscv64"]

[[image]]
name       = "tool"
repository = "tools/tool"
tags       = { standard = "{version}", edge = "{version}-edge" }
also_tag   = ["{major}.{minor}"]
budget     = "1MB"
"#;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1").join(name)
}

/// The images that the frozen bundle was made of, and its key. A platform is left out, an attestation
/// goes along, a layer is shared, and one image has Docker's media types.
fn origin() -> Scratch {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let image = Image {
        platforms: vec!["linux/amd64", "linux/arm64", "linux/arm/v7"],
        layer: 100,
        shared: vec!["application"],
        attested: true,
        ..Image::new("golden standard")
    };
    layout.add("registry.example.com/tools/tool:1.2.3", &image);
    let image = Image {
        platforms: vec!["linux/amd64", "linux/arm/v7"],
        layer: 100,
        shared: vec!["application"],
        docker: true,
        created: "2026-06-02T03:04:05.678Z",
        ..Image::new("golden edge")
    };
    layout.add("registry.example.com/tools/tool:1.2.3-edge", &image);
    scratch.write("release.toml", RELEASE);
    scratch
}

/// Made anew with the key that there is: earlier bundles stay signed by it.
fn bless(scratch: &Scratch) {
    for name in ["TEST-ONLY.key.pem", "TEST-ONLY.pub.pem"] {
        frozen(scratch, name);
    }
    scratch.chmod("TEST-ONLY.key.pem", 0o600);
    scratch
        .sealift("export release.toml -o bundle.tar --key TEST-ONLY.key.pem --mirror registry.example.com=oci:images")
        .ok();
    std::fs::write(fixture("bundle.tar"), scratch.read("bundle.tar")).unwrap();
}

fn frozen(scratch: &Scratch, name: &str) {
    std::fs::copy(fixture(name), scratch.path(name)).unwrap();
}

#[test]
fn the_first_format_is_read_and_written_to_the_byte() {
    let scratch = origin();
    if std::env::var_os("SEALIFT_BLESS").is_some() {
        return bless(&scratch);
    }
    for name in ["TEST-ONLY.key.pem", "TEST-ONLY.pub.pem", "bundle.tar"] {
        frozen(&scratch, name);
    }
    scratch.chmod("TEST-ONLY.key.pem", 0o600);
    scratch.trust("trust", &["TEST-ONLY"]);

    let verified = scratch.sealift("verify bundle.tar --trust trust --json").ok().json();
    assert_eq!(verified["statement"]["version"], "1.2.3");
    assert_eq!(verified["statement"]["created"], "2026-06-02T03:04:05Z");
    let receipt = scratch.sealift("import bundle.tar --trust trust --to oci:out --json").ok().json();
    assert_eq!(receipt["tags"], 4);

    scratch
        .sealift("export release.toml -o again.tar --key TEST-ONLY.key.pem --mirror registry.example.com=oci:images")
        .ok();
    let same = scratch.read("again.tar") == scratch.read("bundle.tar");
    assert!(same, "the same inputs no longer give the frozen bytes: is that meant? see fixtures/README.md");
}

/// As it was written before rules beyond signature and budget were judged.
#[test]
fn a_bundle_of_an_earlier_day_is_read() {
    let scratch = Scratch::new();
    for name in ["TEST-ONLY.pub.pem", "earlier.tar"] {
        frozen(&scratch, name);
    }
    scratch.trust("trust", &["TEST-ONLY"]);
    scratch.sealift("verify earlier.tar --trust trust").ok();
    scratch.sealift("import earlier.tar --trust trust --to oci:out").ok();
    // It does not pass for one that was judged by more.
    let demand = "import earlier.tar --trust trust --to oci:other --require-policy regulated";
    scratch.sealift(demand).fails(4, "PolicyRefused").says("was not judged");
}
