//! Images of every odd but legal kind: whatever place they come from, they make the very same bundle, and wherever
//! that goes to, all their bytes arrive as they were.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use support::images::Layout;
use support::odd::{self, Odd};
use support::registry::Registry;
use support::serving::Serving;
use support::site::peers;
use support::{EXPORT, SMALL, Scratch};

/// docker-registry takes no image that says where else its layers are, unless it is told to.
const TOLERANT: &str = "validation:\n  manifests:\n    urls:\n      allow: ['.*']";

/// Requires that an export from there gives the very same bundle.
#[track_caller]
fn same_from(scratch: &Scratch, place: &str) {
    let export = EXPORT.replace("bundle.tar", "again.tar").replace("oci:images", place);
    let run = scratch.sealift(&export).ok();
    assert!(scratch.read("again.tar") == scratch.read("bundle.tar"), "{place}\n{run}");
    scratch.remove("again.tar");
}

fn exported() -> (Scratch, Vec<Odd>) {
    let (scratch, all) = odd::scratch();
    let scratch = scratch.exported();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    (scratch, all)
}

#[test]
fn a_layout_gets_them_and_gives_them_back() {
    let (scratch, all) = exported();
    scratch.sealift("import bundle.tar --trust trust --to oci:there").ok();
    all.iter().for_each(|odd| odd::require_in(&scratch.path("there"), &scratch.path("images"), odd));
    same_from(&scratch, "oci:there");
}

#[test]
fn archives_get_them_and_give_them_back() {
    let (scratch, _) = exported();
    for archive in ["there.tar", "there.tar.zst"] {
        scratch.sealift(&format!("import bundle.tar --trust trust --to oci-archive:{archive}")).ok();
        same_from(&scratch, &format!("oci-archive:{archive}"));
    }
    // As anybody packs a layout; and a bundle is an archive, too.
    scratch.run("tar", "-czf packed.tar.gz -C images .").ok();
    same_from(&scratch, "oci-archive:packed.tar.gz");
    same_from(&scratch, "oci-archive:bundle.tar");
}

#[test]
fn a_bundle_gives_them_back_without_a_manifest() {
    let (scratch, _) = exported();
    scratch.sealift("export --from bundle.tar --trust trust -o again.tar --key release.key.pem").ok();
    assert!(scratch.read("again.tar") == scratch.read("bundle.tar"));
    scratch.remove("again.tar");
    std::fs::create_dir(scratch.path("unpacked")).unwrap();
    scratch.run("tar", "-xf bundle.tar -C unpacked").ok();
    same_from(&scratch, "oci:unpacked");
}

#[test]
fn a_store_gets_them_and_gives_them_back_with_and_without_a_server() {
    let (scratch, all) = exported();
    scratch.sealift("import bundle.tar --trust trust --to store:there").ok();
    scratch.sealift("store check there").ok();
    same_from(&scratch, "store:there");
    let serving = Serving::start(&scratch, "store:there");
    all.iter().for_each(|odd| odd::require_at(&serving.address, &scratch.path("images"), odd));
    same_from(&scratch, &serving.address);
}

#[test]
fn the_embedded_registry_gets_them_and_gives_them_back() {
    let (scratch, all) = exported();
    let serving = Serving::start(&scratch, "store:there --writable");
    scratch.sealift(&format!("import bundle.tar --trust trust --to {}", serving.address)).ok();
    all.iter().for_each(|odd| odd::require_at(&serving.address, &scratch.path("images"), odd));
    same_from(&scratch, &serving.address);
    let again = scratch.sealift(&format!("import bundle.tar --trust trust --to {} --json", serving.address));
    assert_eq!(again.ok().json()["sent"], 0);
}

#[test]
fn docker_registry_gets_them_and_gives_them_back() {
    if !peers() {
        return;
    }
    let (scratch, all) = exported();
    let registry = Registry::with(TOLERANT);
    let to = registry.address();
    scratch.sealift(&format!("import bundle.tar --trust trust --to {to}")).ok();
    all.iter().for_each(|odd| odd::require_at(&to, &scratch.path("images"), odd));
    same_from(&scratch, &to);
    assert_eq!(
        scratch.sealift(&format!("import bundle.tar --trust trust --to {to} --json")).ok().json()["sent"],
        0
    );
}

#[test]
fn what_others_have_pushed_makes_the_same_bundle() {
    if !peers() {
        return;
    }
    let (scratch, all) = exported();
    let registry = Registry::with(TOLERANT);
    let serving = Serving::start(&scratch, "store:there --writable");
    for address in [&registry.address(), &serving.address] {
        all.iter().for_each(|odd| odd::push(address, &scratch.path("images"), odd));
        same_from(&scratch, address);
    }
}

#[test]
fn a_foreign_layer_comes_from_whichever_repository_has_it() {
    let (scratch, all) = exported();
    let serving = Serving::start(&scratch, "store:there --writable");
    all.iter().for_each(|odd| odd::push(&serving.address, &scratch.path("images"), odd));
    // Two images name it; where the first one is from, it is not.
    let layer = format!("sha256:{}", support::sha256(b"licensed"));
    let path = |what: &str| format!("/v2/odd/{what}/blobs/{layer}");
    assert_eq!(serving.ask("DELETE", &path("foreign-layer-at-hand"), &[]).status, 202);
    same_from(&scratch, &serving.address);
    assert_eq!(serving.ask("DELETE", &path("foreign-layer-of-another"), &[]).status, 202);
    let export = EXPORT.replace("oci:images", &serving.address).replace("bundle.tar", "without.tar");
    let said = scratch.sealift(&export).ok().stdout;
    assert!(said.contains(&format!("foreign-layer-at-hand/standard: left out {layer}")), "{said}");
    assert!(said.contains(&format!("foreign-layer-of-another/standard: left out {layer}")), "{said}");
    scratch.sealift("verify without.tar --trust trust").ok();
}

#[test]
fn a_layer_that_is_named_as_an_ordinary_one_must_be_there() {
    let (scratch, _) = odd::scratch();
    for more in ["config", "layer"] {
        let mut layout = Layout::open(scratch.path("images"));
        layout.name("registry.example.com/tools/tool:1.0.0", odd::both_ways(&layout, more));
        scratch.write("release.toml", SMALL);
        let run = scratch.sealift(&EXPORT.replace("bundle.tar", "both.tar"));
        run.fails(3, "BlobMissing");
    }
}

#[test]
fn a_served_bundle_gives_them_out() {
    let (scratch, all) = exported();
    for how in ["", "--head-first"] {
        let serving = Serving::start(&scratch, &format!("bundle.tar --trust trust {how}"));
        all.iter().for_each(|odd| odd::require_at(&serving.address, &scratch.path("images"), odd));
        same_from(&scratch, &serving.address);
    }
}
