//! The worked manifests in `manifests/` are real: each is exported as it stands, from images that keep its rules, or
//! where it has none, from images of the names it asks for.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::json;
use support::Scratch;
use support::images::{Image, Layout};
use support::worlds::{NAMES, World};

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
fn worked_manifests_with_rules_export_and_verify() {
    for name in NAMES {
        let scratch = Scratch::new();
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        let world = World::of(name);
        world.write(&scratch);
        let registry = world.images.keys().next().unwrap().split('/').next().unwrap().to_owned();
        let run = scratch.sealift(&format!(
            "export release.toml -o bundle.tar --key release.key.pem --mirror {registry}=oci:images"
        ));
        run.ok();
        scratch.sealift("verify bundle.tar --trust trust").ok();
    }
}

#[test]
fn worked_manifests_without_rules_export_and_verify() {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let others: Vec<_> = worked().into_iter().filter(|path| !NAMES.contains(&stem(path).as_str())).collect();
    assert_eq!(others.iter().map(stem).collect::<Vec<_>>(), ["nexus-deployment"]);
    for manifest in others {
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
