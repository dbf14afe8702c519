//! Archives that an import writes: which bytes are in them, what is refused, and that nothing has the name of
//! one which is not complete.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::images::{Image, Layout};
use support::parts::Parts;
use support::running::{Running, until, watched};
use support::{EXPORT, Run, SMALL, Scratch, peer, piped, sha256};

const ENGINE: &str = "registry.example.com/nexus/engine";

#[track_caller]
fn import(scratch: &Scratch, to: &str) -> Run {
    scratch.sealift(&format!("import bundle.tar --trust trust --to {to}"))
}

/// The same with the bundle in a pipe.
#[track_caller]
fn from_pipe(scratch: &Scratch, to: &str) -> Run {
    piped(scratch, "bundle.tar", &format!("import - --trust trust --to {to}"))
}

#[track_caller]
fn json_of(scratch: &Scratch, path: &str, entry: &str) -> Value {
    serde_json::from_slice(&Parts::read(&scratch.read(path)).get(entry).content).unwrap()
}

/// The names in an archive's index, in order.
fn names(scratch: &Scratch, path: &str) -> Vec<String> {
    let index = json_of(scratch, path, "index.json");
    let entries = index["manifests"].as_array().unwrap().iter();
    let names = entries.map(|e| e["annotations"]["org.opencontainers.image.ref.name"].as_str());
    names.flatten().map(str::to_owned).collect()
}

/// What lies in a tar, by its path.
fn paths(scratch: &Scratch, path: &str) -> Vec<String> {
    Parts::read(&scratch.read(path)).0.into_iter().map(|entry| entry.path).collect()
}

/// The name of a document's cosign tag.
fn signature_tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

// Which bytes.

#[test]
fn an_oci_archive_is_the_bundle_without_its_head() {
    let scratch = Scratch::with_release().exported();
    let bundle = scratch.read("bundle.tar");
    let layout = Parts::read(&bundle).0.into_iter().find(|entry| entry.path == "oci-layout").unwrap();
    import(&scratch, "oci-archive:a.tar").ok();
    assert!(scratch.read("a.tar") == bundle[layout.offset..], "from `oci-layout` on, byte for byte");
    from_pipe(&scratch, "oci-archive:b.tar").ok();
    assert!(scratch.read("b.tar") == scratch.read("a.tar"));
    // Again, and out of the compressed bundle.
    import(&scratch, "oci-archive:b.tar --overwrite --jobs 1").ok();
    assert!(scratch.read("b.tar") == scratch.read("a.tar"));
    scratch.sealift(&EXPORT.replace("bundle.tar", "bundle.tar.zst")).ok();
    scratch.sealift("import bundle.tar.zst --trust trust --to oci-archive:c.tar").ok();
    assert!(scratch.read("c.tar") == scratch.read("a.tar"));
    scratch.holds_nothing_unfinished();
}

#[test]
fn a_compressed_archive_holds_the_same_bytes() {
    if !peer("zstd") {
        return;
    }
    let scratch = Scratch::with_release().exported();
    for (to, more) in [("oci-archive", ""), ("docker-archive", "--platform linux/arm64")] {
        import(&scratch, &format!("{to}:a.tar {more}")).ok();
        let said = import(&scratch, &format!("{to}:a.tar.zst {more} --json")).ok().json();
        assert_eq!(said["archiveBytes"], scratch.read("a.tar.zst").len());
        scratch.run("zstd", "-q -d a.tar.zst -o unpacked.tar").ok();
        assert!(scratch.read("unpacked.tar") == scratch.read("a.tar"), "{to}");
        from_pipe(&scratch, &format!("{to}:b.tar.zst {more}")).ok();
        assert!(scratch.read("b.tar.zst") == scratch.read("a.tar.zst"), "{to}");
        for name in ["a.tar", "a.tar.zst", "b.tar.zst", "unpacked.tar"] {
            scratch.remove(name);
        }
    }
}

#[test]
fn a_part_of_a_bundle_stands_in_the_order_of_the_bundle() {
    let scratch = Scratch::with_release().exported();
    let whole = paths(&scratch, "bundle.tar");
    for part in ["--image agent", "--variant edge,standard", "--platform linux/arm64", "--image engine"] {
        import(&scratch, &format!("oci-archive:a.tar --overwrite {part}")).ok();
        let own = paths(&scratch, "a.tar");
        let expected: Vec<_> = whole.iter().filter(|path| own.contains(path)).cloned().collect();
        assert!(own == expected && own.len() < whole.len(), "{part}: {own:?}");
        // Through a pipe, some of it passes by.
        for to in ["b.tar", "b.tar.zst"] {
            from_pipe(&scratch, &format!("oci-archive:{to} --overwrite {part}")).ok();
        }
        assert!(scratch.read("a.tar") == scratch.read("b.tar"), "{part}");
        import(&scratch, &format!("oci-archive:a.tar.zst --overwrite {part}")).ok();
        assert!(scratch.read("a.tar.zst") == scratch.read("b.tar.zst"), "{part}");
    }
    import(&scratch, "oci-archive:a.tar --overwrite --image agent").ok();
    let agent = "registry.example.com/nexus/agent";
    assert_eq!(names(&scratch, "a.tar"), [format!("{agent}:2.1.0"), format!("{agent}:2.1")]);
}

#[test]
fn a_docker_archive_has_one_platform_of_each_image() {
    let scratch = Scratch::with_release();
    let image = Image { shared: vec!["application"], layer_twice: true, ..Image::new("agent") };
    Layout::open(scratch.path("images")).add("registry.example.com/nexus/agent:2.1.0", &image);
    let scratch = scratch.exported();
    let bundle = Parts::read(&scratch.read("bundle.tar"));
    let receipt = import(&scratch, "docker-archive:d.tar --platform linux/arm/v7 --json").ok().json();
    let archive = Parts::read(&scratch.read("d.tar"));
    assert_eq!(archive.0[0].path, "manifest.json");
    let said = &archive.0[0].content;
    let manifest: Value = serde_json::from_slice(said).unwrap();
    assert_eq!(*said, manifest.to_string().into_bytes(), "canonical");
    let images = bundle.statement()["images"].clone();
    let mut needed = vec!["manifest.json".to_owned()];
    for (number, image) in images.as_array().unwrap().iter().enumerate() {
        let builds = image["platforms"].as_array().unwrap();
        let build = builds.iter().find(|build| build["platform"] == "linux/arm/v7").unwrap();
        let document: Value = serde_json::from_slice(&bundle.blob(&build["digest"]).content).unwrap();
        let path = |entry: &Value| entry["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let layers: Vec<_> = document["layers"].as_array().unwrap().iter().map(path).collect();
        let (repository, _) = image["source"].as_str().unwrap().rsplit_once(':').unwrap();
        let tags = image["tags"].as_array().unwrap().iter();
        let tags: Vec<_> = tags.map(|tag| format!("{repository}:{}", tag.as_str().unwrap())).collect();
        let config = path(&document["config"]);
        assert_eq!(
            manifest[number],
            json!({ "Config": config, "Layers": layers, "RepoTags": tags }),
            "a layer that stands twice is named twice"
        );
        // Its id is what the receipt gives for its names.
        let id = &receipt["images"][number]["names"][0]["digest"];
        assert_eq!(*id, config.replace("blobs/sha256/", "sha256:"));
        needed.push(config);
        needed.extend(layers);
    }
    let mut own: Vec<_> = archive.0.iter().map(|entry| entry.path.clone()).collect();
    for entry in &archive.0[1..] {
        assert_eq!(entry.path, format!("blobs/sha256/{}", sha256(&entry.content)));
    }
    own.sort();
    needed.sort();
    needed.dedup();
    assert_eq!(own, needed, "nothing else, and nothing twice");
    from_pipe(&scratch, "docker-archive:e.tar --platform linux/arm/v7").ok();
    assert!(scratch.read("e.tar") == scratch.read("d.tar"));
    // The order in which platforms are spelled differs; their names do not.
    import(&scratch, "docker-archive:f.tar --platform linux/arm").ok();
    assert!(scratch.read("f.tar") == scratch.read("d.tar"));
}

// Names.

#[test]
fn the_longest_prefix_decides_and_a_dry_run_says_what_comes_of_it() {
    let scratch = Scratch::with_release().exported();
    for (map, engine, agent) in [
        ("", ENGINE, "registry.example.com/nexus/agent"),
        (
            "--map nexus=n --map nexus/agent=tools/a",
            "registry.example.com/n/engine",
            "registry.example.com/tools/a",
        ),
        (
            "--map nexus/agent=tools/a --map nexus=n",
            "registry.example.com/n/engine",
            "registry.example.com/tools/a",
        ),
        // One that names the registry goes first, however short it is.
        (
            "--map nexus/agent=tools/a --map registry.example.com=edge.local:5000",
            "edge.local:5000/nexus/engine",
            "edge.local:5000/nexus/agent",
        ),
        (
            "--map registry.example.com=edge.local:5000 --map registry.example.com/nexus/agent=edge.local:5001/a",
            "edge.local:5000/nexus/engine",
            "edge.local:5001/a",
        ),
    ] {
        let planned = import(&scratch, &format!("oci-archive:a.tar --dry-run --json {map}"));
        // A rule that is never used is a mistake of its own, which it is not here.
        let planned = planned.ok().json();
        assert!(!scratch.has("a.tar") && !scratch.has("a.tar.partial"), "{map}");
        let done = import(&scratch, &format!("oci-archive:a.tar --json {map}")).ok().json();
        assert_eq!(planned["images"], done["images"], "{map}");
        assert_eq!(
            (&planned["bytesToSend"], &planned["archiveBytes"], &planned["dryRun"]),
            (&done["bytesSent"], &done["archiveBytes"], &json!(true))
        );
        assert_eq!(done["archiveBytes"], scratch.read("a.tar").len());
        let images = done["images"].as_array().unwrap();
        let said = images.iter().flat_map(|image| image["names"].as_array().unwrap());
        let said: Vec<_> = said.map(|name| name["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(said, names(&scratch, "a.tar"), "{map}");
        assert!(said.contains(&format!("{engine}:2.1.0-edge")), "{map}: {said:?}");
        assert!(said.contains(&format!("{agent}:2.1")), "{map}: {said:?}");
        for image in images {
            for name in image["names"].as_array().unwrap() {
                assert_eq!((&name["digest"], &name["change"]), (&image["digest"], &json!("new")));
            }
        }
        scratch.remove("a.tar");
    }
}

#[test]
fn what_is_to_be_sent_is_told_for_each_image_and_in_all() {
    let scratch = Scratch::with_release().exported();
    import(&scratch, "oci:there --image agent").ok();
    let planned = import(&scratch, "oci:there --dry-run --json").ok().json();
    let bytes = |image: &Value, what: &str| image[what].as_u64().unwrap();
    let images = planned["images"].as_array().unwrap();
    let own: u64 = images.iter().map(|image| bytes(image, "ownBytesToSend")).sum();
    // The agent is there, and with it the layer that all of them share.
    assert_eq!(own, planned["bytesToSend"].as_u64().unwrap());
    for image in images {
        let there = image["source"].as_str().unwrap().contains("agent");
        assert_eq!(bytes(image, "ownBytesToSend") == 0, there, "{image}");
        assert_eq!(bytes(image, "sharedBytesToSend"), 0, "{image}");
        let change = if there { "unchanged" } else { "new" };
        assert!(image["names"].as_array().unwrap().iter().all(|name| name["change"] == change), "{image}");
    }
    // Where nothing is there, it is sent once, and each of them is told its part.
    let planned = import(&scratch, "oci:empty --dry-run --json").ok().json();
    let images = planned["images"].as_array().unwrap();
    let own: u64 = images.iter().map(|image| bytes(image, "ownBytesToSend")).sum();
    let shared = bytes(&images[0], "sharedBytesToSend");
    assert!(shared > 0 && images.iter().all(|image| bytes(image, "sharedBytesToSend") == shared));
    assert_eq!(own + shared, planned["bytesToSend"].as_u64().unwrap());
    // And people are told the same.
    let text = import(&scratch, "oci:empty --dry-run").ok().stdout;
    let digest = images[0]["digest"].as_str().unwrap();
    let row = text.lines().find(|line| line.contains(digest)).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("→") && row.contains(&format!("{ENGINE}:2.1.0")) && row.contains("new"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("TO SEND FOR")), "{text}");
    assert!(!scratch.has("empty"));
}

#[test]
fn two_images_may_not_get_one_name_in_an_archive() {
    let scratch = Scratch::with_release().exported();
    for to in ["oci-archive:a.tar", "docker-archive:a.tar --platform linux/amd64", "oci:a"] {
        import(&scratch, &format!("{to} --map nexus/engine=all --map nexus/agent=all"))
            .fails(2, "RefAmbiguous")
            .says("registry.example.com/all:2.1.0")
            .says("--map");
        assert!(!scratch.has("a.tar") && !scratch.has("a.tar.partial") && !scratch.has("a"), "{to}");
    }
}

/// Two images that are the same, each with a signature of its own by cosign's tag.
fn signed_twice() -> Scratch {
    let scratch = Scratch::new();
    let second = SMALL.split("[[image]]").nth(1).unwrap().replace("\"tool\"", "\"again\"");
    scratch
        .write("release.toml", format!("{SMALL}\n[[image]]{}", second.replace("tools/tool", "tools/again")));
    for name in ["tool", "again"] {
        let mut layout = Layout::new(scratch.path(name));
        let repository = format!("registry.example.com/tools/{name}");
        let digest = layout.add(&format!("{repository}:1.0.0"), &Image::new("tool"));
        let signature = layout.artifact("", format!("signed by {name}").as_bytes(), None);
        layout.name(&format!("{repository}:{}", signature_tag(&digest)), signature);
    }
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    let from =
        ["tool", "again"].map(|n| format!("--mirror registry.example.com/tools/{n}=oci:{n}")).join(" ");
    scratch.sealift(&format!("export release.toml -o bundle.tar --key release.key.pem {from}")).ok();
    scratch
}

#[test]
fn two_signatures_may_not_get_one_tag() {
    let scratch = signed_twice();
    let map = "--map tools/tool=t --map tools/again=t";
    for to in ["oci-archive:a.tar", "oci:a", "store:a"] {
        import(&scratch, &format!("{to} {map}")).fails(2, "RefAmbiguous").says(".sig").says("--map");
        assert!(!scratch.has("a.tar") && !scratch.has("a.tar.partial") && !scratch.has("a"), "{to}");
    }
    // Apart, both have theirs; and the images' own names are told from them.
    let receipt = import(&scratch, "oci-archive:a.tar --json").ok().json();
    let index = json_of(&scratch, "a.tar", "index.json").to_string();
    for name in ["tool", "again"] {
        let named = format!("\"vnd.sealift.attaching.name\":\"registry.example.com/tools/{name}:sha256-");
        assert!(index.contains(&named), "{index}");
    }
    let own =
        receipt["images"].as_array().unwrap().iter().map(|image| image["names"].as_array().unwrap().len());
    assert_eq!(own.collect::<Vec<_>>(), [1, 1]);
    // To Docker they are one image, which loses its signatures in the open.
    let run = import(&scratch, "docker-archive:d.tar --platform linux/amd64").ok();
    assert!(run.stdout.contains("left out: 2 documents that are attached"), "{run}");
    let manifest = json_of(&scratch, "d.tar", "manifest.json");
    assert_eq!(manifest.as_array().unwrap().len(), 2);
    assert_eq!(manifest[0]["Config"], manifest[1]["Config"]);
}

#[test]
fn an_own_tag_that_looks_like_a_signatures_is_named_all_the_same() {
    let scratch = Scratch::new();
    let tag = signature_tag(&format!("sha256:{}", "5".repeat(64)));
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
    Layout::new(scratch.path("images")).add(&format!("registry.example.com/tools/tool:{tag}"), &image);
    scratch.write("release.toml", SMALL.replace("{version}", &tag));
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    let scratch = scratch.exported();
    for to in ["oci:out", "oci-archive:a.tar"] {
        let receipt = import(&scratch, &format!("{to} --json")).ok().json();
        let named = &receipt["images"][0]["names"];
        assert_eq!(named[0]["name"], format!("registry.example.com/tools/tool:{tag}"), "{to}");
        assert_eq!(
            (named[0]["digest"].clone(), named[1].clone()),
            (receipt["images"][0]["digest"].clone(), Value::Null)
        );
    }
}

// What is attached, and what is no image.

#[test]
fn what_is_attached_is_in_an_oci_archive_and_can_be_found() {
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::open(scratch.path("images"));
    let name = "registry.example.com/tools/tool:1.0.0";
    let top = layout.entry(name);
    let sbom = layout.artifact("application/spdx+json", b"packages", Some(&top));
    layout.unnamed(sbom.clone());
    let signature = layout.artifact("", b"signed", None);
    let tag = signature_tag(top["digest"].as_str().unwrap());
    layout.name(&format!("registry.example.com/tools/tool:{tag}"), signature.clone());
    let scratch = scratch.exported();
    let receipt = import(&scratch, "oci-archive:a.tar --map tools=t --json").ok().json();
    assert_eq!((&receipt["tags"], &receipt["notes"]), (&json!(2), &json!([])));
    // No name that a tool would take for an image's.
    assert_eq!(names(&scratch, "a.tar"), ["registry.example.com/t/tool:1.0.0"]);
    let index = json_of(&scratch, "a.tar", "index.json");
    let annotations = |digest: &Value| {
        let entries = index["manifests"].as_array().unwrap();
        entries.iter().find(|entry| entry["digest"] == *digest).unwrap()["annotations"].clone()
    };
    let subject = ("io.containerd.manifest.subject", &top["digest"]);
    assert_eq!(annotations(&sbom["digest"]), json!({ subject.0: subject.1 }));
    let attaching = format!("registry.example.com/t/tool:{tag}");
    assert_eq!(
        annotations(&signature["digest"]),
        json!({ subject.0: subject.1, "vnd.sealift.attaching.name": attaching })
    );
    // Nothing is lost: bundled once more, it is the same bundle.
    import(&scratch, "oci-archive:b.tar").ok();
    fs::create_dir(scratch.path("unpacked")).unwrap();
    scratch.run("tar", "-x -f b.tar -C unpacked").ok();
    let again = EXPORT.replace("oci:images", "oci:unpacked").replace("bundle.tar", "again.tar");
    scratch.sealift(&again).ok();
    assert!(scratch.read("again.tar") == scratch.read("bundle.tar"));
    let docker = import(&scratch, "docker-archive:d.tar --platform linux/amd64 --json").ok().json();
    let notes = docker["notes"].to_string();
    assert!(notes.contains("2 documents") && notes.contains("oci-archive:FILE"), "{notes}");
}

#[test]
fn what_is_no_image_is_not_left_out_of_a_docker_archive_in_silence() {
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::open(scratch.path("images"));
    let chart = layout.artifact("application/vnd.cncf.helm.config.v1+json", b"a chart", None);
    layout.name("registry.example.com/charts/tool:1.0.0", chart);
    let second = SMALL.split("[[image]]").nth(1).unwrap();
    let second = second.replace("tools/tool", "charts/tool").replace("\"tool\"", "\"chart\"");
    scratch.write("release.toml", format!("{SMALL}\n[[image]]{second}"));
    let scratch = scratch.exported();
    let to = "docker-archive:d.tar --platform linux/amd64";
    import(&scratch, to).fails(2, "Usage").says("chart").says("--image tool leaves the rest out");
    import(&scratch, &format!("{to} --image chart"))
        .fails(2, "Usage")
        .says("oci-archive:FILE holds everything");
    assert!(!scratch.has("d.tar") && !scratch.has("d.tar.partial"));
    import(&scratch, &format!("{to} --image tool")).ok();
    import(&scratch, "oci-archive:a.tar").ok();
    assert_eq!(names(&scratch, "a.tar").len(), 2);
}

#[test]
fn attestations_beside_a_build_are_not_left_out_in_silence() {
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::open(scratch.path("images"));
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, attested: true, ..Image::new("tool") };
    layout.add("registry.example.com/tools/tool:1.0.0", &image);
    let scratch = scratch.exported();
    let run = import(&scratch, "docker-archive:d.tar --platform linux/amd64").ok();
    assert!(run.stdout.contains("left out: 1 document that is attached"), "{run}");
    import(&scratch, "docker-archive:e.tar --platform linux/amd64 --sparse trim")
        .fails(2, "Usage")
        .says("no indexes");
}

#[test]
fn a_platform_that_an_image_lacks_is_an_error() {
    let scratch = Scratch::with_release().exported();
    import(&scratch, "docker-archive:d.tar --platform linux/s390x")
        .fails(2, "PlatformMissing")
        .says("nexus/");
    assert!(!scratch.has("d.tar") && !scratch.has("d.tar.partial"));
}

#[test]
fn layers_that_older_dockers_cannot_read_are_told() {
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::open(scratch.path("images"));
    let config = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "1".repeat(64))] } });
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    for kind in
        ["application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd"]
    {
        let layer = layout.blob(kind, b"never looked into");
        let manifest = layout.document(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        }));
        layout.name("registry.example.com/tools/tool:1.0.0", manifest);
        scratch.sealift(&format!("{EXPORT} --overwrite")).ok();
        let to = "docker-archive:d.tar --platform linux/amd64 --overwrite --allow-downgrade --reset-state";
        let run = import(&scratch, to).ok();
        assert!(run.stdout.contains("Docker loads that from version 23 on"), "{run}");
    }
}

// Files.

#[test]
fn a_file_that_exists_is_replaced_only_when_asked() {
    let scratch = Scratch::with_small_release().exported();
    scratch.write("a.tar", "dear");
    for more in ["", "--dry-run"] {
        import(&scratch, &format!("oci-archive:a.tar {more}")).fails(2, "OutputExists").says("--overwrite");
        from_pipe(&scratch, &format!("oci-archive:a.tar {more}")).fails(2, "OutputExists");
    }
    assert_eq!(scratch.read("a.tar"), b"dear");
    fs::create_dir(scratch.path("d")).unwrap();
    import(&scratch, "oci-archive:d --overwrite").fails(2, "OutputExists");
    import(&scratch, "oci-archive:no/such/a.tar").fails(1, "Io").says("mkdir");
    import(&scratch, "oci-archive:a.tar --overwrite").ok();
    assert!(scratch.read("a.tar") != b"dear");
    scratch.holds_nothing_unfinished();
}

#[test]
fn the_bundle_itself_is_never_overwritten() {
    let scratch = Scratch::with_small_release().exported();
    let bundle = scratch.read("bundle.tar");
    fs::hard_link(scratch.path("bundle.tar"), scratch.path("hard.tar")).unwrap();
    std::os::unix::fs::symlink("bundle.tar", scratch.path("soft.tar")).unwrap();
    for to in ["bundle.tar", "./bundle.tar", "hard.tar", "soft.tar"] {
        import(&scratch, &format!("oci-archive:{to} --overwrite")).fails(2, "OutputExists");
        import(&scratch, &format!("docker-archive:{to} --overwrite --platform linux/amd64"))
            .fails(2, "OutputExists");
    }
    // Nor because of what it is called.
    for name in ["x.tar.partial", "x.tar.partial.journal"] {
        fs::rename(scratch.path("bundle.tar"), scratch.path(name)).unwrap();
        let command = format!("import {name} --trust trust --to oci-archive:x.tar");
        scratch.sealift(&command).fails(2, "OutputExists").says("the bundle itself");
        fs::rename(scratch.path(name), scratch.path("bundle.tar")).unwrap();
    }
    assert!(scratch.read("bundle.tar") == bundle);
}

#[test]
fn a_damaged_bundle_becomes_no_archive() {
    let scratch = Scratch::with_release().exported();
    let mut bundle = scratch.read("bundle.tar");
    let last = Parts::read(&bundle).0.pop().unwrap();
    bundle[last.range().start + 100] ^= 1;
    scratch.write("bundle.tar", &bundle);
    for to in ["oci-archive:a.tar", "oci-archive:a.tar.zst", "docker-archive:a.tar --platform linux/arm/v7"] {
        import(&scratch, to).fails(3, "DigestMismatch");
        assert!(!scratch.has("a.tar.partial") && !scratch.has("a.tar.zst.partial"), "{to}");
        from_pipe(&scratch, to).fails(3, "DigestMismatch");
        assert!(!scratch.has("a.tar") && !scratch.has("a.tar.zst"), "{to}");
        // What has come through a pipe is kept beside it, as far as it goes.
        for left in ["a.tar.partial", "a.tar.partial.journal"] {
            scratch.remove(left);
        }
    }
    // Cut short in the middle of a pipe, and behind everything that is wanted.
    let good = Scratch::with_release().exported().read("bundle.tar");
    for (cut, part) in [(good.len() / 2, ""), (good.len() - 512, ""), (good.len() - 2000, "--image engine")] {
        scratch.write("cut.tar", &good[..cut]);
        for to in ["c.tar", "c.tar.zst"] {
            let command = format!("import - --trust trust --to oci-archive:{to} {part}");
            let run = piped(&scratch, "cut.tar", &command);
            assert!(run.code != 0 && !scratch.has(to), "{cut}: {run}");
        }
    }
    // An untrusted one does not come that far.
    scratch.key("other");
    scratch.trust("others", &["other"]);
    scratch.sealift("import bundle.tar --trust others --to oci-archive:u.tar").fails(3, "SignatureUntrusted");
    assert!(!scratch.has("u.tar") && !scratch.has("u.tar.partial"));
}

#[test]
fn memory_stays_below_what_is_promised_in_every_form() {
    let scratch = Scratch::with_heavy_release(25_000_000).exported();
    scratch.sealift(&EXPORT.replace("bundle.tar", "bundle.tar.zst")).ok();
    for bundle in ["bundle.tar", "bundle.tar.zst"] {
        for to in ["a.tar", "a.tar.zst"] {
            let more = format!("--trust trust --to oci-archive:{to} --overwrite");
            let (_, peak) = watched(scratch.command(&format!("import {bundle} {more}")));
            assert!(peak < 64 << 20, "{bundle} to {to}: {peak} bytes");
            let mut command = scratch.command(&format!("import - {more}"));
            command.stdin(fs::File::open(scratch.path(bundle)).unwrap());
            let (_, peak) = watched(command);
            assert!(peak < 64 << 20, "{bundle} through a pipe to {to}: {peak} bytes");
        }
    }
}

// Interruptions.

/// Kills an import in the middle, runs it again, and requires the archive that one run makes.
#[track_caller]
fn killed(layer: usize, to: &str, half: impl Fn(&Scratch) -> bool) -> Run {
    let scratch = Scratch::with_heavy_release(layer).exported();
    let (_, file) = to.split_whitespace().next().unwrap().split_once(':').unwrap();
    let command = format!("import bundle.tar --trust trust --to {to}");
    scratch.sealift(&command).ok();
    let whole = scratch.read(file);
    scratch.remove(file);
    let running = Running::start(scratch.command(&format!("{command} --limit-rate {layer}B")));
    let hand = running.hand();
    until(|| half(&scratch));
    hand.kill();
    assert_eq!(running.ended().code, -1);
    assert!(!scratch.has(file) && scratch.has(format!("{file}.partial")));
    let run = scratch.sealift(&command).ok().says("going on with an interrupted import");
    assert!(scratch.read(file) == whole, "{to}: another archive\n{run}");
    scratch.holds_nothing_unfinished();
    run
}

/// Whether the journal knows of half a megabyte.
fn noted(scratch: &Scratch, file: &str) -> bool {
    let journal = fs::read_to_string(scratch.path(format!("{file}.partial.journal"))).unwrap_or_default();
    let line = |line: &str| line.split_once(' ')?.1.parse::<u64>().ok();
    journal.lines().filter_map(line).max().is_some_and(|bytes| bytes > 500_000)
}

#[test]
fn an_archive_that_was_killed_is_finished_by_the_same_command() {
    killed(1_500_000, "oci-archive:a.tar", |scratch| noted(scratch, "a.tar"));
    killed(1_500_000, "docker-archive:a.tar --platform linux/arm64", |scratch| noted(scratch, "a.tar"));
}

#[test]
fn a_compressed_archive_that_was_killed_is_finished_by_the_same_command() {
    killed(9_000_000, "oci-archive:a.tar.zst", |scratch| {
        let partial = fs::metadata(scratch.path("a.tar.zst.partial"));
        partial.is_ok_and(|facts| facts.len() > 8 << 20)
    });
}

#[test]
fn what_was_left_is_not_believed() {
    let scratch = Scratch::with_heavy_release(1_500_000).exported();
    import(&scratch, "oci-archive:a.tar").ok();
    let whole = scratch.read("a.tar");
    scratch.remove("a.tar");
    let command = "import bundle.tar --trust trust --to oci-archive:a.tar";
    let running = Running::start(scratch.command(&format!("{command} --limit-rate 1500kB")));
    let hand = running.hand();
    until(|| noted(&scratch, "a.tar"));
    hand.kill();
    running.ended();
    let (partial, journal) = (scratch.read("a.tar.partial"), scratch.read("a.tar.partial.journal"));
    let mut damaged = partial.clone();
    for byte in (0..damaged.len()).step_by(100_000) {
        damaged[byte] ^= 1;
    }
    for (partial, why) in
        [(damaged, "flipped bits"), (vec![0; 700], "nearly nothing"), (partial.clone(), "sound")]
    {
        scratch.write("a.tar.partial", partial);
        scratch.write("a.tar.partial.journal", &journal);
        scratch.sealift(command).ok();
        assert!(scratch.read("a.tar") == whole, "{why}");
        scratch.remove("a.tar");
    }
    // Through a pipe it is written anew: what lies there could not be checked against what passes by.
    scratch.write("a.tar.partial", vec![7; partial.len()]);
    scratch.write("a.tar.partial.journal", &journal);
    from_pipe(&scratch, "oci-archive:a.tar").ok();
    assert!(scratch.read("a.tar") == whole);
    // Another part of the bundle is another archive.
    scratch.write("a.tar.partial", &partial);
    scratch.write("a.tar.partial.journal", &journal);
    scratch.remove("a.tar");
    import(&scratch, "oci-archive:a.tar --platform linux/arm64").ok().says("beginning anew");
    let of_one = scratch.read("a.tar");
    import(&scratch, "oci-archive:a.tar --platform linux/arm64 --overwrite").ok();
    assert!(scratch.read("a.tar") == of_one);
}

#[test]
fn an_archive_in_use_is_left_alone() {
    let scratch = Scratch::with_heavy_release(1_500_000).exported();
    let command = "import bundle.tar --trust trust --to oci-archive:a.tar";
    let running = Running::start(scratch.command(&format!("{command} --limit-rate 1500kB")));
    until(|| noted(&scratch, "a.tar"));
    scratch.sealift(&format!("{command} --state second")).fails(1, "Locked").says("a.tar.partial");
    running.ended().ok();
    assert!(scratch.has("a.tar"));
}
