//! The file that an export writes: its layout, its promises about bytes, and that tar, openssl,
//! sha256sum and skopeo alone can check it and take from it, as FORMAT.md says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use serde_json::{Value, json};
use support::images::{Image, Layout};
use support::parts::{Parts, header};
use support::{EXPORT, NAMES, Scratch, peer, sha256};

const FROM_LAYOUT: &str = "--mirror registry.example.com=oci:images";

#[test]
fn every_byte_outside_the_contents_follows_from_paths_and_sizes() {
    let scratch = Scratch::with_release().exported();
    let bundle = scratch.read("bundle.tar");
    let parts = Parts::read(&bundle);
    for entry in &parts.0 {
        let written = &bundle[entry.offset..entry.offset + 512];
        assert_eq!(written, header(&entry.path, entry.content.len()), "{}", entry.path);
    }
    assert_eq!(parts.write(), bundle);
}

#[test]
fn entries_stand_in_the_order_of_the_format() {
    let scratch = Scratch::with_release().exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let paths: Vec<&str> = parts.0.iter().map(|entry| entry.path.as_str()).collect();
    let signature = format!("bundle/signatures/{}.sig", scratch.key_id("release.pub.pem"));
    let head = ["bundle/SHA256SUMS", &signature, "bundle/bundle.json", "oci-layout", "index.json"];
    assert_eq!(paths[..5], head);

    // Indexes, manifests, configs, then layers; each blob once, under its digest.
    let rank = |content: &[u8]| match serde_json::from_slice::<Value>(content) {
        Ok(document) if document["manifests"].is_array() => 0,
        Ok(document) if document["layers"].is_array() => 1,
        Ok(_) => 2,
        Err(_) => 3,
    };
    let ranks: Vec<i32> = parts.0[5..].iter().map(|entry| rank(&entry.content)).collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
    // Four images of three platforms: 4 indexes, 12 manifests and configs, 12 own layers, 1 shared.
    let counts: Vec<usize> =
        (0..4).map(|wanted| ranks.iter().filter(|rank| **rank == wanted).count()).collect();
    assert_eq!(counts, [4, 12, 12, 13]);
    for entry in &parts.0[5..] {
        assert_eq!(entry.path, format!("blobs/sha256/{}", sha256(&entry.content)));
    }
    let mut distinct = paths.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), paths.len());
}

#[test]
fn tar_lists_plain_files_and_nothing_else() {
    let scratch = Scratch::with_release().exported();
    let listed = scratch.run("tar", "--utc --full-time --numeric-owner -tvf bundle.tar").ok().stdout;
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let mut lines = listed.lines();
    for entry in &parts.0 {
        let fields: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        let size = entry.content.len().to_string();
        let expected = ["-rw-r--r--", "0/0", &size, "1970-01-01", "00:00:00", &entry.path];
        assert_eq!(fields, expected);
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn tar_openssl_and_sha256sum_check_it_without_sealift() {
    let scratch = Scratch::with_release().exported();
    let id = scratch.key_id("release.pub.pem");
    // FORMAT.md, "Signatures": these three commands.
    scratch.run("tar", "xf bundle.tar").ok();
    let verify = format!(
        "pkeyutl -verify -pubin -inkey release.pub.pem -rawin -in bundle/SHA256SUMS -sigfile bundle/signatures/{id}.sig"
    );
    if peer("openssl") {
        assert_eq!(scratch.run("openssl", &verify).ok().stdout.trim(), "Signature Verified Successfully");
    }
    let checked = scratch.run("sha256sum", "--strict -c bundle/SHA256SUMS").ok().stdout;
    let extracted = Parts::read(&scratch.read("bundle.tar")).0.len() - 2;
    assert_eq!(checked.lines().filter(|line| line.ends_with(": OK")).count(), extracted);

    // And they would have noticed.
    let mut sums = scratch.read("bundle/SHA256SUMS");
    sums[0] ^= 1;
    scratch.write("bundle/SHA256SUMS", sums);
    if peer("openssl") {
        assert_ne!(scratch.run("openssl", &verify).code, 0);
    }
    assert_ne!(scratch.run("sha256sum", "--strict -c bundle/SHA256SUMS").code, 0);
}

#[test]
fn skopeo_takes_every_image_from_it_by_its_full_name() {
    if !peer("skopeo") {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let images = parts.statement()["images"].clone();
    for (number, (name, own_tag)) in NAMES.into_iter().enumerate() {
        let full = format!("registry.example.com/{name}");
        let copy = format!(
            "--insecure-policy copy --all --preserve-digests oci-archive:bundle.tar:{full} dir:copy{number}"
        );
        scratch.run("skopeo", &copy).ok();
        let source = format!("registry.example.com/{own_tag}");
        let image = images.as_array().unwrap().iter().find(|image| image["source"] == source).unwrap();
        let manifest = scratch.read(format!("copy{number}/manifest.json"));
        assert_eq!(image["digest"], format!("sha256:{}", sha256(&manifest)), "{full}");
    }
}

#[test]
fn the_layout_index_gives_each_image_its_full_names() {
    let scratch = Scratch::with_release().exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let content = &parts.get("index.json").content;
    let index: Value = serde_json::from_slice(content).unwrap();
    assert_eq!(index.to_string().as_bytes(), content, "canonical: no white space, keys sorted");
    let images = parts.statement()["images"].clone();
    let mut expected = Vec::new();
    for image in images.as_array().unwrap() {
        let repository = image["source"].as_str().unwrap().rsplit_once(':').unwrap().0;
        for tag in image["tags"].as_array().unwrap() {
            let name = format!("{repository}:{}", tag.as_str().unwrap());
            expected.push(json!({
                "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
                "digest": image["digest"], "mediaType": image["mediaType"],
                "size": parts.blob(&image["digest"]).content.len(),
            }));
        }
    }
    assert_eq!(expected.len(), NAMES.len());
    assert_eq!(index["manifests"], Value::from(expected));
    assert_eq!(parts.get("oci-layout").content, br#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn the_statement_says_what_the_release_says_in_one_canonical_form() {
    let scratch = Scratch::with_release().exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let statement = parts.statement();
    assert_eq!(statement.to_string().as_bytes(), parts.get("bundle/bundle.json").content);
    let facts = json!({
        "type": "application/vnd.sealift.bundle.v1+json", "name": "nexus-engine", "version": "2.1.0",
        "tier": "sovereign", "channel": "production", "base": null, "expires": null, "sequence": null,
        "created": "2026-06-01T00:00:00Z",
    });
    assert_eq!(statement["policy"]["profile"], "sovereign");
    assert_eq!(statement["policy"]["checks"][0], json!({ "id": "signed", "result": "pass" }));
    for (key, value) in facts.as_object().unwrap() {
        assert_eq!(&statement[key], value, "{key}");
    }
    let labels: Vec<String> = statement["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| {
            format!(
                "{} {} {}",
                image["name"].as_str().unwrap(),
                image["variant"].as_str().unwrap(),
                image["tags"]
            )
        })
        .collect();
    let expected = [
        r#"engine distroless ["2.1.0-distroless","2.1-distroless"]"#,
        r#"engine edge ["2.1.0-edge","2.1-edge"]"#,
        r#"engine standard ["2.1.0","2.1"]"#,
        r#"agent standard ["2.1.0","2.1"]"#,
    ];
    assert_eq!(labels, expected);
    let mut restated = parts.clone();
    restated.restate();
    assert_eq!(restated.statement(), statement, "entries and payloadBytes are those of the tar");
    for image in statement["images"].as_array().unwrap() {
        let platforms: Vec<_> =
            image["platforms"].as_array().unwrap().iter().map(|p| &p["platform"]).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    }
}

#[test]
fn bytes_from_the_source_are_carried_unchanged() {
    let scratch = Scratch::with_release().exported();
    for entry in &Parts::read(&scratch.read("bundle.tar")).0[5..] {
        assert_eq!(scratch.read(format!("images/{}", entry.path)), entry.content, "{}", entry.path);
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let scratch = Scratch::with_release();
    scratch.key("second");
    let export = |output: &str, more: &str| {
        scratch.sealift(&format!("export release.toml -o {output} {FROM_LAYOUT} {more}")).ok();
        scratch.read(output)
    };
    let first = export("a.tar", "--key release.key.pem");
    assert_eq!(first, export("b.tar", "--key release.key.pem"));
    assert_eq!(first, export("c.tar", "--key release.key.pem --jobs 1"));
    assert_eq!(first, export("d.tar", "--key release.key.pem --jobs 64"));
    assert_eq!(first, export("e.tar", "--key release.key.pem --key release.key.pem"), "a key counts once");

    let both = export("f.tar", "--key release.key.pem --key second.key.pem");
    assert_eq!(both, export("g.tar", "--key second.key.pem --key release.key.pem"));
    assert_ne!(first, both);
    let signatures: Vec<String> = Parts::read(&both).0[1..3].iter().map(|e| e.path.clone()).collect();
    assert!(signatures.is_sorted() && signatures.iter().all(|path| path.starts_with("bundle/signatures/")));
}

#[test]
fn the_stated_time_is_the_newest_images_or_what_was_asked_for() {
    let scratch = Scratch::with_release();
    let mut layout = Layout::new(scratch.path("images"));
    for (tag, created) in [
        ("engine:2.1.0", "2026-03-01T10:00:00Z"),
        ("engine:2.1.0-distroless", "2026-07-08T09:10:11.987654321Z"),
        ("engine:2.1.0-edge", "2025-01-01T00:00:00+02:00"),
        ("agent:2.1.0", "2026-07-08T09:10:10Z"),
    ] {
        let image = Image { created, ..Image::new(tag) };
        layout.add(&format!("registry.example.com/nexus/{tag}"), &image);
    }
    let created = |output: &str, more: &str, epoch: Option<&str>| {
        let arguments = format!("export release.toml -o {output} --key release.key.pem {FROM_LAYOUT} {more}");
        let mut command = scratch.command(&arguments);
        command.envs(epoch.map(|seconds| ("SOURCE_DATE_EPOCH", seconds)));
        support::run(command).ok();
        Parts::read(&scratch.read(output)).statement()["created"].clone()
    };
    assert_eq!(created("newest.tar", "", None), "2026-07-08T09:10:11Z");
    assert_eq!(created("epoch.tar", "", Some("1700000000")), "2023-11-14T22:13:20Z");
    assert_eq!(created("flag.tar", "--created 2024-02-29T12:00:00+01:00", None), "2024-02-29T11:00:00Z");
    assert_eq!(
        created("both.tar", "--created 2024-02-29T11:00:00Z", Some("1700000000")),
        "2024-02-29T11:00:00Z",
        "the flag wins"
    );

    let mut wrong = scratch.command(
        "export release.toml -o w.tar --key release.key.pem --mirror registry.example.com=oci:images",
    );
    wrong.env("SOURCE_DATE_EPOCH", "yesterday");
    support::run(wrong).fails(2, "Usage").says("SOURCE_DATE_EPOCH");
}

#[test]
fn a_detached_signature_by_openssl_counts_like_an_embedded_one() {
    if !peer("openssl") {
        return;
    }
    let scratch = Scratch::with_small_release();
    scratch.sealift(&format!("export release.toml -o bundle.tar --unsigned {FROM_LAYOUT}")).ok();
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "SignatureMissing");

    scratch.run("tar", "xf bundle.tar bundle/SHA256SUMS").ok();
    let detached = format!("bundle.tar.{}.sig", scratch.key_id("release.pub.pem"));
    let sign = format!("pkeyutl -sign -inkey release.key.pem -rawin -in bundle/SHA256SUMS -out {detached}");
    scratch.run("openssl", &sign).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    let signers = scratch.sealift("verify bundle.tar --trust trust --json").ok().json()["signers"].clone();
    assert_eq!(signers, json!([{ "keyId": scratch.key_id("release.pub.pem"), "name": "release" }]));

    // Deterministic: openssl's signature is the one that an export embeds.
    scratch.sealift(&format!("export release.toml -o signed.tar --key release.key.pem {FROM_LAYOUT}")).ok();
    let mut parts = Parts::read(&scratch.read("signed.tar"));
    assert_eq!(parts.0.remove(1).content.len(), 64);

    let mut signature = scratch.read(&detached);
    signature[7] ^= 0x10;
    scratch.write(&detached, &signature);
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "SignatureUntrusted");
    scratch.write(&detached, &signature[..63]);
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "SignatureFormat").says("63 bytes");
}

#[test]
fn inspect_says_what_is_in_it_and_only_what_was_checked() {
    let scratch = Scratch::with_release().exported();
    let said = scratch.sealift("inspect bundle.tar --trust trust").ok().stdout;
    for word in ["nexus-engine 2.1.0", "sovereign", "distroless", "linux/arm/v7", "signed by release"] {
        assert!(said.contains(word), "{word:?} in\n{said}");
    }
    for (name, _) in NAMES {
        assert!(said.contains(&format!("registry.example.com/{name} ")), "{name} in\n{said}");
    }
    let json = scratch.sealift("inspect bundle.tar --trust trust --json").ok().json();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    assert_eq!(json["statement"], parts.statement());
    assert_eq!((&json["verified"], &json["bytes"]), (&json!("head"), &json!(parts.write().len())));

    // A layer is damaged: inspect does not read layers and must not claim to have.
    let layer = parts.first_image()[3].range().start;
    let mut damaged = scratch.read("bundle.tar");
    damaged[layer] ^= 1;
    scratch.write("bundle.tar", damaged);
    let said = scratch.sealift("inspect bundle.tar --trust trust").ok().stdout;
    assert!(said.contains("The signature was checked, the contents were not"), "{said}");
    scratch.sealift("verify bundle.tar --trust trust --head").ok();
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "DigestMismatch");
}

#[test]
fn odd_but_honest_images_travel_whole() {
    let odd = [
        ("docker", Image { docker: true, ..Image::new("docker") }),
        ("single", Image { no_index: true, platforms: vec!["linux/amd64"], ..Image::new("single") }),
        ("twice", Image { layer_twice: true, ..Image::new("twice") }),
        ("attested", Image { attested: true, ..Image::new("attested") }),
        ("empty", Image { layer: 0, ..Image::new("empty") }),
    ];
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::new(scratch.path("images"));
    for (name, image) in &odd {
        layout.add("registry.example.com/tools/tool:1.0.0", image);
        let export = format!("export release.toml -o {name}.tar --key release.key.pem {FROM_LAYOUT}");
        scratch.sealift(&export).ok();
        scratch
            .sealift(&format!("import {name}.tar --to oci:{name} --trust trust --state state-{name}"))
            .ok();
        for entry in &Parts::read(&scratch.read(format!("{name}.tar"))).0[5..] {
            assert_eq!(
                scratch.read(format!("{name}/{}", entry.path)),
                entry.content,
                "{name} {}",
                entry.path
            );
        }
    }
    let platforms = |name: &str| {
        let statement = Parts::read(&scratch.read(format!("{name}.tar"))).statement();
        statement["images"][0]["platforms"].as_array().unwrap().len()
    };
    assert_eq!(platforms("single"), 1);
    assert_eq!(platforms("attested"), 3, "an attestation is no platform");
}

#[test]
fn attestations_go_along_with_their_platform_and_the_rest_is_recorded_as_left_out() {
    let scratch = Scratch::with_small_release();
    let image = Image { attested: true, ..Image::new("attested") };
    Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
    scratch.sealift(&format!("{EXPORT} --platform linux/arm64")).ok();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let image = &parts.statement()["images"][0];
    assert_eq!(image["platforms"].as_array().unwrap().len(), 1);
    assert_eq!(image["platforms"][0]["platform"], "linux/arm64");
    // Two platforms and their two attestations.
    assert_eq!(image["omitted"].as_array().unwrap().len(), 4);
    // Index, two manifests, two configs, a layer and an attestation.
    assert_eq!(parts.0[5..].len(), 7);
    scratch.sealift("verify bundle.tar --trust trust").ok();
}

#[test]
fn an_optional_platform_that_an_image_lacks_is_recorded() {
    let scratch = Scratch::with_small_release();
    let text = support::SMALL.replace(
        "[[image]]",
        "platforms = [\"linux/amd64\"]\noptional_platforms = [\"linux/s390x\"]\n\n[[image]]",
    );
    scratch.write("release.toml", text);
    scratch.sealift(EXPORT).ok();
    let omitted = &Parts::read(&scratch.read("bundle.tar")).statement()["images"][0]["omitted"];
    let expected = json!([{ "digest": null, "platform": "linux/s390x", "reason": "optional platform, not in the image" }]);
    assert_eq!(*omitted, expected);
}
