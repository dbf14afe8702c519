//! A bundle as the source of another one: what stays the same, what is left out, and what is refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use std::process::Stdio;

use serde_json::{Value, json};
use support::charts::chart;
use support::images::{Image, Layout};
use support::parts::Parts;
use support::{RELEASE, Scratch, piped};

const FROM: &str = "export --from bundle.tar --trust trust --key release.key.pem";

/// A release of images with attestations and signatures, a chart and a file, with all that can be said of one.
fn released() -> Scratch {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    for (variant, tag) in [("standard", "2.1.0"), ("distroless", "2.1.0-distroless"), ("edge", "2.1.0-edge")]
    {
        let image =
            Image { attested: true, shared: vec!["application"], ..Image::new(&format!("engine {variant}")) };
        let top = layout.image(&image);
        layout.name(&format!("registry.example.com/nexus/engine:{tag}"), top.clone());
        let sbom = layout.artifact("application/spdx+json", variant.as_bytes(), Some(&top));
        layout.unnamed(sbom);
        let signature = layout.artifact("", format!("{variant} is ours").as_bytes(), None);
        let tag = top["digest"].as_str().unwrap().replace(':', "-");
        layout.name(&format!("registry.example.com/nexus/engine:{tag}.sig"), signature);
    }
    layout.add("registry.example.com/nexus/agent:2.1.0", &Image::new("agent"));
    scratch.write("engine.tgz", chart("engine", "2.1.0"));
    scratch.write("manual.txt", "how to\n");
    let facts = "sequence = 7\nexpires = \"2031-01-01T00:00:00Z\"\nupgrades_from = \">=2.0.0, <2.1.0\"\n\
                 optional_platforms = [\"linux/s390x\"]\n";
    let more = "[[chart]]\nname = \"chart\"\nrepository = \"charts/engine\"\nsource = \"engine.tgz\"\n\
                [[file]]\nname = \"docs\"\nrepository = \"files/docs\"\npath = \"manual.txt\"\n";
    let budget = "also_tag   = [\"{major}.{minor}\"]\nbudget = \"1MB\"";
    let release = RELEASE.replacen("\n[[image]]", &format!("{facts}\n[[image]]"), 1);
    let release = release.replacen("also_tag   = [\"{major}.{minor}\"]", budget, 1);
    scratch.write("release.toml", format!("{release}{more}"));
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch.exported()
}

fn statement(scratch: &Scratch, bundle: &str) -> Value {
    Parts::read(&scratch.read(bundle)).statement()
}

fn labels(statement: &Value) -> Vec<String> {
    let label =
        |image: &Value| format!("{}/{}", image["name"].as_str().unwrap(), image["variant"].as_str().unwrap());
    statement["images"].as_array().unwrap().iter().map(label).collect()
}

#[test]
fn a_slice_that_leaves_nothing_out_is_the_same_to_the_byte() {
    let scratch = released();
    let original = scratch.read("bundle.tar");
    scratch.sealift(&format!("{FROM} -o slice.tar")).ok();
    assert_eq!(scratch.read("slice.tar"), original);
    // From and to every form.
    let mirror = "--mirror registry.example.com=oci:images";
    scratch.sealift(&format!("export release.toml -o bundle.tar.zst --key release.key.pem {mirror}")).ok();
    scratch.sealift(&format!("{FROM} -o slice.tar.zst")).ok();
    assert_eq!(scratch.read("slice.tar.zst"), scratch.read("bundle.tar.zst"));
    scratch.sealift(&FROM.replace("bundle.tar", "bundle.tar.zst -o unpacked.tar")).ok();
    assert_eq!(scratch.read("unpacked.tar"), original);
    let output = scratch.command(&format!("{FROM} -o -")).stderr(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, original);
}

#[test]
fn a_slice_keeps_what_was_asked_for_and_says_what_it_left_out() {
    let scratch = released();
    scratch.sealift(&format!("{FROM} -o slice.tar --variant edge --platform linux/amd64,linux/arm64")).ok();
    let (before, after) = (statement(&scratch, "bundle.tar"), statement(&scratch, "slice.tar"));
    for fact in ["name", "version", "sequence", "tier", "channel", "created", "expires", "upgradesFrom"] {
        assert_eq!(before[fact], after[fact], "{fact}");
    }
    let results = |statement: &Value| -> Vec<(Value, Value)> {
        let checks = statement["policy"]["checks"].as_array().unwrap().iter();
        checks.map(|check| (check["id"].clone(), check["result"].clone())).collect()
    };
    assert_eq!(results(&before), results(&after));
    // What was found elsewhere is not said of this part.
    let found = after["policy"]["checks"].as_array().unwrap().iter();
    let found = found.flat_map(|check| check["findings"].as_array().cloned().unwrap_or_default());
    let found: Vec<_> = found.map(|one| (one["image"].clone(), one["platform"].clone())).collect();
    assert!(!found.is_empty());
    for (image, platform) in found {
        assert!(["engine/edge", "chart/chart", "docs/file"].contains(&image.as_str().unwrap()), "{image}");
        assert_ne!(platform, "linux/arm/v7");
    }
    assert_eq!(labels(&after), ["engine/edge", "chart/chart", "docs/file"]);
    let (whole, part) = (&before["images"][1], &after["images"][0]);
    for fact in ["digest", "name", "variant", "source", "tags"] {
        assert_eq!(whole[fact], part[fact], "{fact}");
    }
    // What was absent is still said to be; what was left out now is added; signatures and SBOMs go along.
    assert!(whole["omitted"].as_array().unwrap().iter().any(|one| one["platform"] == "linux/s390x"));
    let omitted: Vec<_> = part["omitted"].as_array().unwrap().iter().map(|one| &one["platform"]).collect();
    assert_eq!(omitted, [&json!("linux/arm/v7"), &json!("unknown/unknown"), &json!("linux/s390x")]);
    assert_eq!(part["referrers"], whole["referrers"]);
    assert_eq!(part["referrers"].as_array().unwrap().len(), 2);
    // It is a bundle like any other: for import, and for a slice of itself.
    scratch.sealift("import slice.tar --trust trust --to oci:out").ok();
    let again = FROM.replace("bundle.tar", "slice.tar");
    scratch.sealift(&format!("{again} -o thin.tar --image engine --platform linux/arm64")).ok();
    let thin = statement(&scratch, "thin.tar");
    let omitted: Vec<_> =
        thin["images"][0]["omitted"].as_array().unwrap().iter().map(|one| &one["platform"]).collect();
    assert_eq!(omitted.len(), 5, "{omitted:?}");
    scratch.sealift("verify thin.tar --trust trust").ok();
    // The way there does not matter.
    scratch.sealift(&format!("{again} -o one.tar --image docs")).ok();
    scratch.sealift(&format!("{FROM} -o other.tar --image docs")).ok();
    assert_eq!(scratch.read("one.tar"), scratch.read("other.tar"));
}

#[test]
fn a_slice_is_signed_by_whoever_makes_it_and_by_nobody_else() {
    let scratch = released();
    scratch.key("shop");
    let from = FROM.replace("release.key.pem", "shop.key.pem");
    scratch.sealift(&format!("{from} -o slice.tar --variant edge")).ok();
    scratch.sealift("verify slice.tar --trust trust").fails(3, "SignatureUntrusted");
    scratch.trust("shops", &["shop"]);
    let verified = scratch.sealift("verify slice.tar --trust shops --json").ok().json();
    let ids: Vec<_> = verified["signers"].as_array().unwrap().iter().map(|signer| &signer["keyId"]).collect();
    assert_eq!(ids, [scratch.key_id("shop.pub.pem").as_str()]);
    scratch
        .sealift("export --from bundle.tar --trust trust -o x.tar")
        .fails(2, "Usage")
        .says("no signing key");
}

#[test]
fn a_bundle_that_is_not_trusted_or_damaged_is_no_source() {
    let scratch = released();
    scratch.key("stranger");
    scratch.trust("strangers", &["stranger"]);
    let strange = FROM.replace("--trust trust", "--trust strangers");
    scratch.sealift(&format!("{strange} -o slice.tar")).fails(3, "SignatureUntrusted");
    // All of it is read, whatever is asked for.
    let mut bytes = scratch.read("bundle.tar");
    let last = Parts::read(&bytes).0.last().unwrap().range().start;
    bytes[last] ^= 1;
    scratch.write("damaged", bytes);
    let damaged = FROM.replace("bundle.tar", "damaged");
    scratch
        .sealift(&format!("{damaged} -o slice.tar --image engine --variant distroless"))
        .fails(3, "DigestMismatch");
    scratch.sealift(&format!("{FROM} -o slice.tar --variant none")).fails(2, "EmptySelection");
    scratch.sealift(&format!("{FROM} -o slice.tar --platform linux/ppc64le")).fails(2, "PlatformMissing");
    assert!(!scratch.has("slice.tar") && !scratch.has("slice.tar.partial"));
}

#[test]
fn an_expired_bundle_is_cut_only_where_that_is_allowed() {
    let scratch = Scratch::with_small_release();
    scratch.export_small("old", "1.0.0", "expires = \"2026-01-01T00:00:00Z\"", &["release"]);
    let from = FROM.replace("bundle.tar", "old");
    scratch.sealift(&format!("{from} -o slice.tar")).fails(3, "Expired");
    scratch.sealift(&format!("{from} -o slice.tar --allow-expired")).fails(3, "Expired");
    scratch.write("trust/trust.toml", "schema = 1\nversion = 1\nallow_expired = true\n");
    scratch.chmod("trust/trust.toml", 0o644);
    scratch.sealift(&format!("{from} -o slice.tar --allow-expired")).ok();
    assert_eq!(scratch.read("slice.tar"), scratch.read("old"));
}

#[test]
fn nothing_is_written_over_the_source_and_nothing_contradicts_it() {
    let scratch = released();
    let before = scratch.read("bundle.tar");
    std::fs::hard_link(scratch.path("bundle.tar"), scratch.path("twin.tar")).unwrap();
    for output in ["bundle.tar", "./bundle.tar", "twin.tar"] {
        scratch
            .sealift(&format!("{FROM} -o {output} --overwrite"))
            .fails(2, "OutputExists")
            .says("one of the inputs");
    }
    assert_eq!(scratch.read("bundle.tar"), before);
    for other in
        ["release.toml", "--mirror registry.example.com=oci:images", "--created 2026-01-01T00:00:00Z"]
    {
        let run = scratch.sealift(&format!("{FROM} -o slice.tar {other}"));
        assert!(run.code == 2 && run.stderr.contains("cannot be used with"), "{run}");
    }
    let run = scratch.sealift("export -o slice.tar --key release.key.pem");
    assert!(run.code == 2 && run.stderr.contains("required"), "{run}");
    piped(&scratch, "bundle.tar", &FROM.replace("bundle.tar", "- -o slice.tar"))
        .fails(2, "Usage")
        .says("not a pipe");
}

#[test]
fn the_time_is_the_bundles_own() {
    let scratch = released();
    let mut command = scratch.command(&format!("{FROM} -o slice.tar"));
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    support::run(command).ok();
    assert_eq!(scratch.read("slice.tar"), scratch.read("bundle.tar"));
}

#[test]
fn a_dry_run_says_what_the_slice_would_be() {
    let scratch = released();
    let planned = scratch.sealift(&format!("{FROM} --variant edge --dry-run --json")).ok().json();
    scratch.sealift(&format!("{FROM} --variant edge -o slice.tar")).ok();
    assert_eq!(planned["bundleBytes"], scratch.read("slice.tar").len());
    assert_eq!(planned["images"].as_array().unwrap().len(), 3);
    let told = scratch.sealift(&format!("{FROM} --variant edge -o told.tar --json")).ok().json();
    assert_eq!((&told["images"], &told["bytes"]), (&json!(3), &planned["bundleBytes"]));
}
