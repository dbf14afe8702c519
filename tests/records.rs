//! Records: an offline registry says itself which bundle its images came from, and who signed that.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::registry::Registry;
use support::serving::Serving;
use support::site::peers;
use support::{EXPORT, Run, Scratch, peer, run, sha256};

const RECORD: &str = "application/vnd.sealift.record.v1";

/// An import as a user types it: with a record.
#[track_caller]
fn import(scratch: &Scratch, to: &str, more: &str) -> Run {
    recorded(scratch, &format!("import bundle.tar --trust trust --to {to} {more}"))
}

fn recorded(scratch: &Scratch, arguments: &str) -> Run {
    let mut command = scratch.command(arguments);
    command.env_remove("SEALIFT_NO_RECORD");
    run(command)
}

/// The records of an image, by the referrers API.
fn records(serving: &Serving, repository: &str, digest: &str) -> Vec<Value> {
    let path = format!("/v2/{repository}/referrers/{digest}?artifactType={RECORD}");
    let list = serving.get(&path).json();
    list["manifests"].as_array().unwrap().clone()
}

/// The top documents of a bundle's images, by repository.
fn tops(scratch: &Scratch) -> Vec<(String, String)> {
    let said = scratch.sealift("inspect bundle.tar --trust trust --json").ok().json();
    let images = said["statement"]["images"].as_array().unwrap().clone();
    let top = |image: &Value| {
        let source = image["source"].as_str().unwrap();
        let repository = source.strip_prefix("registry.example.com/").unwrap().rsplit_once(':').unwrap().0;
        (repository.to_owned(), image["digest"].as_str().unwrap().to_owned())
    };
    images.iter().map(top).collect()
}

/// Requires that an export from there gives the very same bundle.
#[track_caller]
fn same_from(scratch: &Scratch, place: &str) {
    let export = EXPORT.replace("bundle.tar", "again.tar").replace("oci:images", place);
    let run = scratch.sealift(&export).ok();
    assert!(scratch.read("again.tar") == scratch.read("bundle.tar"), "{place}\n{run}");
    scratch.remove("again.tar");
}

#[test]
fn each_image_leads_to_the_bundle_that_it_came_with() {
    let scratch = Scratch::with_release().exported();
    let serving = Serving::start(&scratch, "store:store --writable");
    import(&scratch, &serving.address, "").ok();
    let id = scratch.key_id("release.pub.pem");
    let sums = scratch.run("tar", "-xOf bundle.tar bundle/SHA256SUMS").ok().stdout;
    for (repository, digest) in tops(&scratch) {
        let records = records(&serving, &repository, &digest);
        assert_eq!(records.len(), 1, "{repository}@{digest}");
        assert_eq!(records[0]["artifactType"], RECORD);
        let said = &records[0]["annotations"];
        assert_eq!(said["org.opencontainers.image.title"], "nexus-engine");
        assert_eq!(said["org.opencontainers.image.version"], "2.1.0");
        assert_eq!(said["vnd.sealift.bundle.digest"], format!("sha256:{}", sha256(sums.as_bytes())));
        let record = records[0]["digest"].as_str().unwrap();
        let manifest = serving.get(&format!("/v2/{repository}/manifests/{record}")).json();
        assert_eq!(manifest["subject"]["digest"], *digest);
        let names = ["bundle/bundle.json", "bundle/SHA256SUMS", &format!("bundle/signatures/{id}.sig")];
        let titles = ["bundle.json", "SHA256SUMS", &format!("{id}.sig")];
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 3);
        for ((layer, name), title) in layers.iter().zip(names).zip(titles) {
            assert_eq!(layer["annotations"]["org.opencontainers.image.title"], *title);
            let layer = layer["digest"].as_str().unwrap();
            let content = serving.get(&format!("/v2/{repository}/blobs/{layer}")).body;
            scratch.write("content", &content);
            scratch.run("tar", &format!("-xf bundle.tar {name}")).ok();
            assert!(content == scratch.read(name), "{name}");
        }
    }
    // What a stranger would check it with.
    let check = format!(
        "pkeyutl -verify -pubin -inkey release.pub.pem -rawin -in bundle/SHA256SUMS -sigfile bundle/signatures/{id}.sig"
    );
    if peer("openssl") {
        scratch.run("openssl", &check).ok();
    }
}

#[test]
fn a_second_import_sends_nothing_and_a_dry_run_counts_it_beforehand() {
    let scratch = Scratch::with_release().exported();
    let serving = Serving::start(&scratch, "store:store --writable");
    let planned = import(&scratch, &serving.address, "--dry-run --json").ok().json();
    let bare = import(&scratch, &serving.address, "--dry-run --no-record --json").ok().json();
    let (with, without) = (planned["toSend"].as_u64().unwrap(), bare["toSend"].as_u64().unwrap());
    // Four documents, the empty config and three files; what goes to a second repository is mounted.
    assert_eq!(with - without, 8, "{planned}");
    let done = import(&scratch, &serving.address, "--json").ok().json();
    assert_eq!((&done["sent"], &done["images"][0]["attached"]), (&json!(with), &json!(0)));
    assert!(done["images"][0]["record"].is_string());
    let again = import(&scratch, &serving.address, "--json").ok().json();
    assert_eq!((&again["sent"], &again["verified"]), (&json!(0), &json!("documents")));
}

#[test]
fn it_can_be_left_out_and_brought_later() {
    let scratch = Scratch::with_release().exported();
    let serving = Serving::start(&scratch, "store:store --writable");
    import(&scratch, &serving.address, "--no-record").ok();
    let (repository, digest) = tops(&scratch).remove(0);
    assert_eq!(records(&serving, &repository, &digest).len(), 0);
    import(&scratch, &serving.address, "").ok();
    assert_eq!(records(&serving, &repository, &digest).len(), 1);
}

#[test]
fn it_stays_behind_when_the_images_are_exported_again() {
    let scratch = Scratch::with_release().exported();
    let serving = Serving::start(&scratch, "store:store --writable");
    import(&scratch, &serving.address, "").ok();
    same_from(&scratch, &serving.address);
    import(&scratch, "store:other", "").ok();
    same_from(&scratch, "store:other");
    scratch.sealift("store check other").ok();
    if !peers() {
        return;
    }
    let registry = Registry::start();
    import(&scratch, &registry.address(), "").ok();
    same_from(&scratch, &registry.address());
    // By the fallback tag: this one has no such API.
    let (repository, digest) = tops(&scratch).remove(0);
    let (_, list) = registry.get(&format!("/v2/{repository}/manifests/{}", digest.replace(':', "-")));
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["manifests"][0]["artifactType"], RECORD);
    assert_eq!(import(&scratch, &registry.address(), "--json").ok().json()["sent"], 0);
}

#[test]
fn a_pipe_brings_the_same_record() {
    let scratch = Scratch::with_release().exported();
    import(&scratch, "store:filed", "").ok();
    let mut command = scratch.command("import - --trust trust --to store:piped");
    command.env_remove("SEALIFT_NO_RECORD").stdin(fs::File::open(scratch.path("bundle.tar")).unwrap());
    run(command).ok();
    // The state is the same for both, so is the content.
    let blobs = |store: &str| {
        let listed = scratch.run("find", &format!("{store} -name data -type f -printf %P\\n")).ok().stdout;
        let mut listed: Vec<String> = listed.lines().map(str::to_owned).collect();
        listed.sort();
        listed
    };
    assert_eq!(blobs("filed"), blobs("piped"));
    scratch.sealift("store check piped").ok();
}

#[test]
fn a_detached_signature_that_counts_is_part_of_it() {
    let scratch = Scratch::with_small_release().exported();
    scratch.key("quality");
    scratch.trust("both", &["release", "quality"]);
    scratch.sealift("sign bundle.tar --key quality.key.pem").ok();
    scratch.key("stranger");
    scratch.sealift("sign bundle.tar --key stranger.key.pem").ok();
    let serving = Serving::start(&scratch, "store:store --writable");
    recorded(&scratch, &format!("import bundle.tar --trust both --to {}", serving.address)).ok();
    let (repository, digest) = tops(&scratch).remove(0);
    let record = records(&serving, &repository, &digest).remove(0);
    let record = record["digest"].as_str().unwrap();
    let manifest = serving.get(&format!("/v2/{repository}/manifests/{record}")).json();
    let title =
        |layer: &Value| layer["annotations"]["org.opencontainers.image.title"].as_str().unwrap().to_owned();
    let mut signatures: Vec<String> =
        manifest["layers"].as_array().unwrap().iter().skip(2).map(title).collect();
    signatures.sort();
    let mut expected =
        ["release", "quality"].map(|key| format!("{}.sig", scratch.key_id(&format!("{key}.pub.pem"))));
    expected.sort();
    assert_eq!(signatures, expected);
}

#[test]
fn layouts_and_archives_get_none() {
    let scratch = Scratch::with_release().exported();
    for to in ["oci:there", "oci-archive:there.tar"] {
        import(&scratch, to, "").ok();
    }
    let index: Value = serde_json::from_slice(&scratch.read("there/index.json")).unwrap();
    assert!(!index.to_string().contains(RECORD));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 8);
}

#[test]
fn a_damaged_record_is_mended_like_everything_else() {
    let scratch = Scratch::with_small_release().exported();
    import(&scratch, "store:store", "").ok();
    let listed = scratch.run("find", "store -name data -type f -printf %p\\n").ok().stdout;
    for blob in listed.lines() {
        let whole = scratch.read(blob);
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 4;
        scratch.write(blob, &damaged);
        assert_eq!(scratch.sealift("store check store").code, 3, "{blob}");
        import(&scratch, "store:store", "").ok();
        assert!(scratch.read(blob) == whole, "{blob}");
    }
}

#[test]
fn a_registry_that_takes_no_artifacts_is_told_apart() {
    let scratch = Scratch::with_small_release().exported();
    let server = support::verdict::taking_all_but(|request, _| {
        let refused = request.method == "PUT" && String::from_utf8_lossy(&request.body).contains(RECORD);
        refused.then(|| support::lying::Answer::new(400).body(r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#))
    });
    let run = import(&scratch, &server.host(), "").fails(1, "RegistryRejected");
    run.says("--no-record");
    assert_eq!(support::verdict::tags(&server), [""; 0]);
    import(&scratch, &server.host(), "--no-record").ok();
}
