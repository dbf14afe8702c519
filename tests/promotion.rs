//! Promotion without rebuild: production ships the digest that staging had, or nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use serde_json::{Value, json};
use support::images::{Image, Layout, served};
use support::parts::Parts;
use support::{Run, SMALL, Scratch};

const EXPORT: &str =
    "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com=oci:images";

const TOOL: &str = "registry.example.com/tools/tool";

/// Staging has an image under its own tag; production has none yet.
fn staged() -> (Scratch, String) {
    let scratch = Scratch::new();
    let image = Image { layer: 300, ..Image::new("tool") };
    let digest = Layout::new(scratch.path("images")).add(&format!("{TOOL}:1.0.0-rc2"), &image);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    promoted(&scratch, "\"{version}-rc2\"");
    (scratch, digest)
}

fn promoted(scratch: &Scratch, from: &str) {
    scratch.write("release.toml", format!("{SMALL}promote_from = {from}\n"));
}

fn other(scratch: &Scratch, name: &str) -> String {
    Layout::open(scratch.path("images")).add(name, &Image { layer: 300, ..Image::new("rebuilt") })
}

fn statement(scratch: &Scratch) -> Value {
    Parts::read(&scratch.read("bundle.tar")).statement()
}

/// The export as it is typed: with a trust store where a bundle says what was before.
fn export(scratch: &Scratch) -> String {
    let manifest = String::from_utf8(scratch.read("release.toml")).unwrap();
    let trust = if manifest.contains("bundle:") { " --trust trust" } else { "" };
    format!("{EXPORT}{trust}")
}

#[track_caller]
fn ships(scratch: &Scratch, digest: &str) -> Run {
    let run = scratch.sealift(&export(scratch)).ok();
    let statement = statement(scratch);
    let image = &statement["images"][0];
    assert_eq!(
        (&image["digest"], &image["source"]),
        (&json!(digest), &json!(format!("{TOOL}:1.0.0"))),
        "{run}"
    );
    let checks = statement["policy"]["checks"].as_array().unwrap().clone();
    assert!(checks.iter().any(|check| check["id"] == "promotion" && check["result"] == "pass"), "{checks:?}");
    scratch.remove("bundle.tar");
    run
}

/// Another image under the name that is to be shipped.
#[track_caller]
fn refused(scratch: &Scratch, got: &str, expected: &str, origin: &str) {
    for command in [
        EXPORT.to_owned(),
        format!("{EXPORT} --dry-run"),
        "check release.toml --mirror registry.example.com=oci:images".to_owned(),
    ] {
        let run = scratch.sealift(&command);
        assert!(
            run.code == 4 && run.stderr.contains("the rule \"promotion\" is broken: tool/standard"),
            "{run}"
        );
        assert!(run.stderr.contains(&format!("got {got} under {TOOL}:1.0.0")), "{run}");
        assert!(run.stderr.contains(&format!("expected {expected}, the digest of {origin}")), "{run}");
    }
    assert!(!scratch.has("bundle.tar") && !scratch.has("bundle.tar.partial"));
}

#[test]
fn production_retags_what_staging_had() {
    let (scratch, digest) = staged();
    // The tag does not exist yet, and it is said what it will be.
    ships(&scratch, &digest).says(&format!(
        "{TOOL}:1.0.0 does not exist yet: it becomes {digest}, the digest of {TOOL}:1.0.0-rc2"
    ));
    let planned = scratch.sealift(&format!("{EXPORT} --dry-run --json")).ok().json();
    assert_eq!(planned["images"][0]["image"]["source"], format!("{TOOL}:1.0.0"));
    // It exists, with the same digest.
    let mut layout = Layout::open(scratch.path("images"));
    let entry = layout.entry(&format!("{TOOL}:1.0.0-rc2"));
    layout.name(&format!("{TOOL}:1.0.0"), entry);
    let run = ships(&scratch, &digest);
    assert!(!run.stderr.contains("does not exist yet"), "{run}");
    // The site has it under the name of production.
    scratch.sealift(EXPORT).ok();
    let receipt = scratch.sealift("import bundle.tar --to oci:there --trust trust --json").ok().json();
    assert_eq!(receipt["images"][0]["names"][0]["name"], format!("{TOOL}:1.0.0"));
}

#[test]
fn another_digest_than_staging_had_is_refused() {
    let (scratch, digest) = staged();
    let rebuilt = other(&scratch, &format!("{TOOL}:1.0.0"));
    refused(&scratch, &rebuilt, &digest, &format!("{TOOL}:1.0.0-rc2"));
    // It can be waived like any other rule, with a reason and an end.
    let waiver = "[[policy.waiver]]\nrule = \"promotion\"\nimage = \"tool\"\nreason = \"hotfix 17\"\nexpires = \"2090-01-01T00:00:00Z\"\n";
    scratch.write("release.toml", format!("{SMALL}promote_from = \"{{version}}-rc2\"\n{waiver}"));
    scratch.sealift(EXPORT).ok();
    let checks = statement(&scratch)["policy"]["checks"].clone();
    let check = checks.as_array().unwrap().iter().find(|check| check["id"] == "promotion").unwrap().clone();
    assert_eq!(check["result"], "waived", "{check}");
}

#[test]
fn staging_may_be_another_registry() {
    let (scratch, digest) = staged();
    let mut layout = Layout::new(scratch.path("elsewhere"));
    layout.add("staging.example.com/apps/tool:1.0.0-rc2", &Image { layer: 300, ..Image::new("tool") });
    Layout::new(scratch.path("images"));
    let (staging, production) =
        (served(scratch.path("elsewhere"), |_, _| None), served(scratch.path("images"), |_, _| None));
    promoted(&scratch, "{ standard = \"staging.example.com/apps/tool:{version}-rc2\" }");
    let mirrors = |production: &str| {
        let export =
            EXPORT.replace("registry.example.com=oci:images", &format!("registry.example.com={production}"));
        format!("{export} --mirror staging.example.com={}", staging.host())
    };
    scratch
        .sealift(&mirrors(&production.host()))
        .ok()
        .says("the digest of staging.example.com/apps/tool:1.0.0-rc2");
    let image = statement(&scratch)["images"][0].clone();
    assert_eq!((&image["digest"], &image["source"]), (&json!(digest), &json!(format!("{TOOL}:1.0.0"))));
    assert!(production.count("/manifests/1.0.0") > 0 && production.count("/blobs/") == 0);
    scratch.remove("bundle.tar");
    // Whoever cannot be asked has not said that the tag is free.
    let closed = support::lying::Lying::start(|_, _| support::lying::Answer::new(403));
    scratch.sealift(&mirrors(&closed.host())).fails(1, "Auth");
    // Nor is there anything to promote where staging has nothing.
    promoted(&scratch, "\"staging.example.com/apps/tool:1.0.0-rc3\"");
    scratch.sealift(&mirrors(&production.host())).fails(1, "NotFound").says("1.0.0-rc3").says("promote_from");
}

#[test]
fn a_receipt_or_a_bundle_of_staging_says_what_it_had() {
    let (scratch, digest) = staged();
    // What was shipped to staging, and what came of it there.
    let staging = SMALL.replace("\"{version}\"", "\"{version}-rc2\"").replace("development", "staging");
    scratch.write("staging.toml", staging);
    scratch
        .sealift(&EXPORT.replace("release.toml", "staging.toml").replace("bundle.tar", "staging.tar"))
        .ok();
    let receipt = scratch.sealift("import staging.tar --to oci:site --trust trust --json").ok().stdout;
    scratch.write("receipt.json", &receipt);
    for from in
        ["\"receipt:receipt.json\"", "\"bundle:staging.tar\"", "{ standard = \"bundle:staging.tar\" }"]
    {
        let _ = std::fs::remove_dir_all(scratch.path("images"));
        Layout::new(scratch.path("images"))
            .add(&format!("{TOOL}:1.0.0-rc2"), &Image { layer: 300, ..Image::new("tool") });
        promoted(&scratch, from);
        ships(&scratch, &digest).says("does not exist yet");
        let rebuilt = other(&scratch, &format!("{TOOL}:1.0.0"));
        let origin = if from.contains("receipt") { "receipt.json" } else { "staging.tar" };
        if from.contains("bundle") {
            refused_where_it_is_trusted(&scratch, &rebuilt, &digest);
        } else {
            refused(&scratch, &rebuilt, &digest, origin);
        }
    }
    // A trimmed index was made for one registry: it is the image that counts.
    let mut trimmed: Value = serde_json::from_str(&receipt).unwrap();
    trimmed["images"][0]["trimmedFrom"] = json!(digest);
    trimmed["images"][0]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let _ = std::fs::remove_dir_all(scratch.path("images"));
    Layout::new(scratch.path("images"))
        .add(&format!("{TOOL}:1.0.0-rc2"), &Image { layer: 300, ..Image::new("tool") });
    promoted(&scratch, "\"receipt:receipt.json\"");
    scratch.write("receipt.json", trimmed.to_string());
    ships(&scratch, &digest);
    // Receipts that say nothing of this image, or too much.
    let image = trimmed["images"][0].clone();
    let mut twin = image.clone();
    twin["source"] = json!(format!("{TOOL}:1.0.0-rc1"));
    let same =
        |tag: &str| json!({ "source": format!("mirror.example.com/tools/tool:{tag}"), "digest": digest });
    for (receipt, code, kind) in [
        (json!({ "images": [] }), 2, "EmptySelection"),
        (
            json!({ "images": [{ "source": "registry.example.com/tools/other:1.0.0", "digest": digest }] }),
            2,
            "EmptySelection",
        ),
        (json!({ "images": [same("1.0.0"), same("1.0.0")] }), 2, "RefAmbiguous"),
        (json!({ "images": [image, twin] }), 2, "EmptySelection"),
        (json!({ "dryRun": true, "images": [same("1.0.0")] }), 2, "ManifestInvalid"),
        (json!({ "images": [{ "source": "tool" }] }), 2, "ManifestInvalid"),
        (json!([]), 2, "ManifestInvalid"),
    ] {
        scratch.write("receipt.json", receipt.to_string());
        scratch.sealift(EXPORT).fails(code, kind).says("receipt.json");
    }
    scratch.write("receipt.json", json!({ "images": [same("1.0.0"), same("1.0.0-rc1")] }).to_string());
    ships(&scratch, &digest);
}

/// The same where a bundle says so: nobody believes it whose trust store does not.
#[track_caller]
fn refused_where_it_is_trusted(scratch: &Scratch, got: &str, expected: &str) {
    let run = scratch.sealift(&format!("{EXPORT} --trust trust"));
    assert!(run.code == 4 && run.stderr.contains(got) && run.stderr.contains(expected), "{run}");
    scratch.sealift(EXPORT).fails(3, "TrustStore");
    scratch.key("stranger");
    scratch.trust("strangers", &["stranger"]);
    scratch
        .sealift(&format!("{EXPORT} --trust strangers"))
        .fails(3, "SignatureUntrusted")
        .says("staging.tar");
    for left in ["stranger.key.pem", "stranger.pub.pem"] {
        scratch.remove(left);
    }
    std::fs::remove_dir_all(scratch.path("strangers")).unwrap();
    assert!(!scratch.has("bundle.tar") && !scratch.has("bundle.tar.partial"));
}

#[test]
fn a_pin_and_a_promotion_must_agree() {
    let (scratch, digest) = staged();
    scratch.write(
        "release.toml",
        format!("{SMALL}promote_from = \"1.0.0-rc2\"\npin = {{ standard = \"{digest}\" }}\n"),
    );
    ships(&scratch, &digest);
    let wrong = format!("sha256:{}", "0".repeat(64));
    scratch.write(
        "release.toml",
        format!("{SMALL}promote_from = \"1.0.0-rc2\"\npin = {{ standard = \"{wrong}\" }}\n"),
    );
    scratch.sealift(EXPORT).fails(3, "PinMismatch").says(&digest);
}

#[test]
fn what_cannot_be_promoted_is_said_with_its_place() {
    let (scratch, _) = staged();
    for (from, what) in [
        ("\"not a tag\"", "not a usable tag"),
        ("\"{sha}\"", "not a usable tag"),
        ("\"receipt:\"", "an empty path"),
        ("\"bundle:\"", "an empty path"),
        ("{ edge = \"1.0.0-rc2\" }", "which is not among the tags"),
        ("7", "a text such as"),
        ("\"1.0.0-rc2\"\nsource = \"oci:images\"", "an image from files is not promoted from a tag"),
        ("\"registry.example.com/Tools:1\"", "not a full image name"),
    ] {
        promoted(&scratch, from);
        let run = scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says(what);
        assert!(run.stderr.contains("release.toml:1"), "{run}");
    }
    let two =
        SMALL.replace("standard = \"{version}\"", "standard = \"{version}\", edge = \"{version}-edge\"");
    scratch.write("release.toml", format!("{two}promote_from = \"1.0.0-rc2\"\n"));
    scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says("one tag for several variants");
}
