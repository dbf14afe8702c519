//! Two releases, or two environments of one, compared by digest.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::images::{Image, Layout, served};
use support::parts::Parts;
use support::{EXPORT, RELEASE, Scratch};

const MIRROR: &str = "--mirror registry.example.com=oci:images";

/// The release once more: one variant rebuilt for one platform, one variant gone, an image more.
fn next(scratch: &Scratch) {
    let mut layout = Layout::open(scratch.path("images"));
    let engine = |seed: &str| Image { shared: vec!["application"], ..Image::new(seed) };
    for (variant, tag) in [("standard", "2.2.0"), ("distroless", "2.2.0-distroless")] {
        layout
            .add(&format!("registry.example.com/nexus/engine:{tag}"), &engine(&format!("engine {variant}")));
    }
    let mut rebuilt = layout.image(&engine("engine distroless"));
    let other =
        layout.image(&Image { platforms: vec!["linux/amd64"], ..engine("engine distroless, mended") });
    let document = |entry: &Value| -> Value {
        let path = format!("images/blobs/{}", entry["digest"].as_str().unwrap().replace(':', "/"));
        serde_json::from_slice(&scratch.read(path)).unwrap()
    };
    let (mut index, mended) = (document(&rebuilt), document(&other));
    index["manifests"][0] = mended["manifests"][0].clone();
    rebuilt = layout.document(&index);
    layout.name("registry.example.com/nexus/engine:2.2.0-distroless", rebuilt);
    let agent = Image { shared: vec!["application"], ..Image::new("agent") };
    layout.add("registry.example.com/nexus/agent:2.2.0", &agent);
    layout.add("registry.example.com/nexus/probe:2.2.0", &Image::new("probe"));
    let release = RELEASE.replace("2.1.0", "2.2.0").replace(", edge = \"{version}-edge\"", "");
    let release = release.replace("tier      = \"sovereign\"", "tier      = \"regulated\"\nsequence  = 8");
    let probe = "\n[[image]]\nname       = \"probe\"\nrepository = \"nexus/probe\"\ntags       = { standard = \"{version}\" }\n";
    scratch.write("next.toml", release + probe);
    scratch.sealift(&EXPORT.replace("release.toml", "next.toml").replace("bundle.tar", "next.tar")).ok();
}

fn blobs(scratch: &Scratch, bundle: &str) -> BTreeMap<String, u64> {
    let entries = Parts::read(&scratch.read(bundle)).0;
    let blobs = entries.into_iter().filter(|entry| entry.path.starts_with("blobs/"));
    blobs.map(|entry| (entry.path, entry.content.len() as u64)).collect()
}

#[test]
fn what_changed_is_said_by_digest() {
    let scratch = Scratch::with_release().exported();
    next(&scratch);
    let said = scratch.sealift("diff bundle.tar next.tar --trust trust --json").ok().json();
    let statuses: Vec<_> = said["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| {
            (
                format!("{}/{}", image["name"].as_str().unwrap(), image["variant"].as_str().unwrap()),
                image["status"].clone(),
            )
        })
        .collect();
    assert_eq!(
        json!(statuses),
        json!([
            ["engine/distroless", "changed"],
            ["engine/standard", "same"],
            ["agent/standard", "same"],
            ["probe/standard", "added"],
            ["engine/edge", "removed"],
        ])
    );
    assert_eq!(said["same"], false);
    let platforms = said["images"][0]["platforms"].as_array().unwrap();
    let platforms: Vec<_> =
        platforms.iter().map(|one| (one["platform"].clone(), one["status"].clone())).collect();
    assert_eq!(
        json!(platforms),
        json!([["linux/amd64", "changed"], ["linux/arm64", "same"], ["linux/arm/v7", "same"]])
    );
    // Other tags are no other image.
    assert_eq!(said["images"][1]["tagsAdded"], json!(["2.2.0", "2.2"]));
    assert_eq!(said["images"][1]["tagsRemoved"], json!(["2.1.0", "2.1"]));
    let metadata: Vec<_> = said["metadata"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fact| json!([fact["key"], fact["old"], fact["new"]]))
        .collect();
    for fact in [
        json!(["sequence", null, "8"]),
        json!(["tier", "sovereign", "regulated"]),
        json!(["version", "2.1.0", "2.2.0"]),
    ] {
        assert!(metadata.contains(&fact), "{metadata:?}");
    }
    // What a delta would weigh, counted in the bundles themselves.
    let (old, new) = (blobs(&scratch, "bundle.tar"), blobs(&scratch, "next.tar"));
    let lacking: Vec<u64> =
        new.iter().filter(|(path, _)| !old.contains_key(*path)).map(|(_, size)| *size).collect();
    assert_eq!(said["delta"], json!({ "blobs": lacking.len(), "bytes": lacking.iter().sum::<u64>() }));
    assert_eq!(said["new"]["content"], json!({ "blobs": new.len(), "bytes": new.values().sum::<u64>() }));

    let text = scratch.sealift("diff bundle.tar next.tar --trust trust").ok().stdout;
    let verdict =
        "\ndifferent: 3 of 5: engine/distroless changed, probe/standard added, engine/edge removed\n";
    assert!(text.contains(verdict), "{text}");
    assert!(
        text.contains("tier: sovereign -> regulated\n") && text.contains("  changed linux/amd64: sha256:"),
        "{text}"
    );
    // A manifest says the same of itself as the bundle that is made of it.
    let said = scratch.sealift(&format!("diff next.toml next.tar --trust trust --json {MIRROR}")).ok().json();
    assert_eq!(
        (&said["same"], &said["metadata"], &said["delta"]["blobs"]),
        (&json!(true), &json!([]), &json!(0)),
        "{said}"
    );
}

#[test]
fn two_environments_are_the_same_or_it_is_said_which_images_differ() {
    let scratch = Scratch::with_release();
    std::fs::create_dir_all(scratch.path("staging/blobs")).unwrap();
    scratch.run("cp", "-r images/. staging").ok();
    let (production, staging) =
        (served(scratch.path("images"), |_, _| None), served(scratch.path("staging"), |_, _| None));
    let sides = format!(
        "--old-mirror registry.example.com={} --new-mirror registry.example.com={}",
        staging.host(),
        production.host()
    );
    let compare = format!("diff release.toml release.toml {sides} --exit-code");
    let run = scratch.sealift(&compare).ok();
    assert!(run.stdout.contains("\nsame: 4 images with the same digests\n"), "{run}");
    assert!(run.stdout.contains("new has 0 blobs that old lacks"), "{run}");
    // No layer has moved.
    for server in [&staging, &production] {
        assert!(server.count("/manifests/") > 0);
        let config = |path: &str| {
            let blob = path.rsplit("sha256:").next().unwrap().to_owned();
            scratch.read(format!("images/blobs/sha256/{blob}")).starts_with(b"{")
        };
        assert!(
            server.seen().iter().filter(|seen| seen.path.contains("/blobs/")).all(|seen| config(&seen.path))
        );
    }
    let mut layout = Layout::open(scratch.path("staging"));
    layout.add("registry.example.com/nexus/engine:2.1.0-edge", &Image::new("not what production has"));
    let run = scratch.sealift(&compare);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("\ndifferent: 1 of 4: engine/edge changed\n"), "{run}");
    // A difference that is shown is no failure by itself.
    scratch.sealift(compare.trim_end_matches(" --exit-code")).ok();
    // One mirror for both sides.
    let both = format!("--mirror registry.example.com={}", production.host());
    let run = scratch.sealift(&format!("diff release.toml release.toml --exit-code {both}")).ok();
    assert!(run.stdout.contains("same: "), "{run}");
}

#[test]
fn single_images_are_compared_whatever_they_are_called() {
    let scratch = Scratch::with_release();
    let server = served(scratch.path("images"), |_, _| None);
    let image = |tag: &str| format!("docker://{}/nexus/{tag}", server.host());
    let digest =
        Layout::open(scratch.path("images")).entry("registry.example.com/nexus/engine:2.1.0")["digest"]
            .clone();
    let by_digest = format!("docker://{}/other/name@{}", server.host(), digest.as_str().unwrap());
    let run = scratch.sealift(&format!("diff {} {by_digest} --exit-code", image("engine:2.1.0"))).ok();
    assert!(run.stdout.contains("same: 1 image with the same digests"), "{run}");
    let layout = "oci:images:registry.example.com/nexus/engine:2.1.0";
    scratch.sealift(&format!("diff {layout} {} --exit-code", image("engine:2.1.0"))).ok();
    let run = scratch.sealift(&format!("diff {layout} {} --exit-code --json", image("engine:2.1.0-edge")));
    assert_eq!((run.code, run.json()["images"][0]["status"].clone()), (1, json!("changed")), "{run}");
    let named = "docker://registry.example.com/nexus/engine:2.1.0";
    let mirror = format!("--mirror registry.example.com={}", server.host());
    scratch.sealift(&format!("diff {named} {layout} --exit-code {mirror}")).ok();
}

#[test]
fn what_cannot_be_compared_or_trusted_is_refused() {
    let scratch = Scratch::with_release().exported();
    scratch.key("other");
    scratch.trust("strangers", &["other"]);
    scratch.sealift("diff bundle.tar bundle.tar --trust strangers").fails(3, "SignatureUntrusted");
    scratch.sealift("diff bundle.tar bundle.tar --trust trust --exit-code").ok();
    let compressed = EXPORT.replace("bundle.tar", "bundle.tar.zst");
    scratch.sealift(&compressed).ok();
    scratch.sealift("diff bundle.tar bundle.tar.zst --trust trust --exit-code").ok();
    for (sides, code, kind, what) in [
        ("bundle.tar oci:images", 2, "Usage", "an image can only be compared with an image"),
        ("bundle.tar -", 2, "Usage", "not a pipe"),
        ("bundle.tar nothing.tar", 1, "Io", "nothing.tar"),
        ("bundle.tar release.key.pem", 2, "ManifestInvalid", "release.key.pem"),
        (
            "docker://registry.example.com/engine docker://registry.example.com/engine",
            2,
            "Usage",
            "not an image",
        ),
        ("store:images store:images", 2, "Usage", "--old-mirror"),
        ("bundle.tar bundle.tar --mirror registry.example.com=oci:images", 2, "EmptySelection", "--mirror"),
        (
            "release.toml bundle.tar --new-mirror registry.example.com=oci:images",
            2,
            "EmptySelection",
            "--new-mirror",
        ),
    ] {
        scratch.sealift(&format!("diff {sides} --trust trust")).fails(code, kind).says(what);
    }
}
