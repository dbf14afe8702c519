//! The worked manifests in `manifests/` are real: each is exported as it stands, from images of the
//! names it asks for.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::json;
use support::Scratch;
use support::images::{Image, Layout};

fn worked() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut manifests: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    manifests.sort();
    manifests
}

/// What lies in a registry where somebody has pushed a chart.
fn chart(layout: &Layout) -> serde_json::Value {
    layout.document(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.blob("application/vnd.cncf.helm.config.v1+json", b"{}"),
        "layers": [layout.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart")],
    }))
}

#[test]
fn every_worked_manifest_exports_and_verifies() {
    assert!(!worked().is_empty());
    for manifest in worked() {
        let scratch = Scratch::new();
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        std::fs::copy(&manifest, scratch.path("release.toml")).unwrap();
        let mut layout = Layout::new(scratch.path("images"));
        // The first try says what it misses, one name after the other.
        for _ in 0..50 {
            let run = scratch.sealift(
                "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com=oci:images",
            );
            if run.code == 0 {
                break;
            }
            if run.is_failure(1, "Io") {
                let path = run.stderr.split("no such file: ").nth(1).unwrap().split(": ").next().unwrap();
                std::fs::create_dir_all(scratch.path(path).parent().unwrap()).unwrap();
                scratch.write(path, path);
                continue;
            }
            let run = run.fails(1, "NotFound");
            let name = run.stderr.split("expected ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            match name.contains("/charts/") {
                true => {
                    let chart = chart(&layout);
                    layout.name(name, chart)
                }
                false => layout.add(name, &Image::new(name)),
            };
        }
        scratch.sealift("verify bundle.tar --trust trust").ok();
    }
}
