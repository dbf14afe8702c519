//! OCI layouts as source and as destination: names, interruptions, two at once, and sizes that lie.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use std::process::Stdio;

use serde_json::{Value, json};
use support::images::{Image, Layout};
use support::{EXPORT, SMALL, Scratch};

/// A release of one image under another name, exported.
fn named(registry: &str, repository: &str) -> Scratch {
    let scratch = Scratch::new();
    let release = SMALL.replace("registry.example.com", registry).replace("tools/tool", repository);
    Layout::new(scratch.path("images")).add(&format!("{registry}/{repository}:1.0.0"), &Image::new("tool"));
    scratch.write("release.toml", release);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch.sealift(&EXPORT.replace("registry.example.com", registry)).ok();
    scratch
}

fn names(scratch: &Scratch, layout: &str) -> Vec<String> {
    let index: Value = serde_json::from_slice(&scratch.read(format!("{layout}/index.json"))).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let mut names: Vec<_> = entries
        .map(|e| e["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_layout_keeps_full_names_whatever_the_repository_looks_like() {
    let scratch = named("registry.example.com", "my.org/app");
    scratch.sealift("import bundle.tar --to oci:out --trust trust").ok();
    assert_eq!(names(&scratch, "out"), ["registry.example.com/my.org/app:1.0.0"]);
    let map = "--map my.org=registry.edge.local:5000/apps";
    scratch.sealift(&format!("import bundle.tar --to oci:mapped --trust trust {map}")).ok();
    assert_eq!(names(&scratch, "mapped"), ["registry.edge.local:5000/apps/app:1.0.0"]);
}

#[test]
fn a_rule_that_fits_nothing_is_a_mistake() {
    let scratch = Scratch::with_small_release().exported();
    scratch
        .sealift("import bundle.tar --to oci:out --trust trust --map tolos=apps")
        .fails(2, "EmptySelection")
        .says("tolos");
    assert!(!scratch.has("out"));
    scratch
        .sealift(
            "export release.toml -o b.tar --key release.key.pem --mirror registry.exmaple.com=oci:images",
        )
        .fails(2, "EmptySelection")
        .says("registry.example.com/tools/tool");
}

#[test]
fn one_image_under_two_registries_goes_to_one_place() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let second = SMALL.split("[[image]]").nth(1).unwrap().replace("\"tool\"", "\"again\"");
    scratch.write("release.toml", format!("{SMALL}\n[[image]]\nregistry = \"quay.example.org\"{second}"));
    for registry in ["registry.example.com", "quay.example.org"] {
        layout.add(&format!("{registry}/tools/tool:1.0.0"), &Image::new("tool"));
    }
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch.sealift(&format!("{EXPORT} --mirror quay.example.org=oci:images")).ok();
    let map = "--map registry.example.com/tools=t --map quay.example.org/tools=t";
    let receipt = scratch.sealift(&format!("import bundle.tar --to oci:out --trust trust --json {map}")).ok();
    assert_eq!(receipt.json()["tags"], 2);
    assert_eq!(names(&scratch, "out").len(), 2, "a layout keeps the registries apart");
    // A registry does not: both become one name, and that is no conflict.
    scratch
        .sealift("import bundle.tar --to docker://127.0.0.1:1 --trust trust --dry-run --progress none")
        .fails(1, "Network");
}

#[test]
fn an_import_that_was_killed_anywhere_is_finished_by_the_next() {
    for begun in [
        |_: &Scratch| {},
        |s: &Scratch| std::fs::create_dir_all(s.path("out")).unwrap(),
        |s: &Scratch| std::fs::create_dir_all(s.path("out/blobs/sha256")).unwrap(),
        |s: &Scratch| {
            std::fs::create_dir_all(s.path("out/blobs/sha256")).unwrap();
            s.write("out/.oci-layout.partial", "{");
            s.write(format!("out/.{}.partial", "0".repeat(64)), "half a blob");
        },
    ] {
        let scratch = Scratch::with_small_release().exported();
        begun(&scratch);
        scratch.sealift("import bundle.tar --to oci:out --trust trust").ok();
        assert_eq!(names(&scratch, "out"), ["registry.example.com/tools/tool:1.0.0"]);
    }
    let scratch = Scratch::with_small_release().exported();
    std::fs::create_dir(scratch.path("out")).unwrap();
    scratch.write("out/letter.txt", "mine");
    scratch.sealift("import bundle.tar --to oci:out --trust trust").fails(2, "OutputExists");
}

#[test]
fn of_two_imports_at_once_at_least_one_succeeds_and_none_spoils_it() {
    for _ in 0..5 {
        let scratch = Scratch::with_small_release().exported();
        let import = || {
            let mut command = scratch.command("import bundle.tar --to oci:out --trust trust");
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let running = [import(), import(), import()];
        let codes: Vec<_> = running.map(|mut run| run.wait().unwrap().code()).into();
        assert!(codes.contains(&Some(0)), "{codes:?}");
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 1))), "{codes:?}");
        let again = scratch.sealift("import bundle.tar --to oci:out --trust trust --json").ok().json();
        assert_eq!(again["bytesSent"], 0);
    }
}

#[test]
fn entries_of_others_stay_in_a_layout() {
    let scratch = Scratch::with_small_release().exported();
    scratch.sealift("import bundle.tar --to oci:out --trust trust").ok();
    let mut index: Value = serde_json::from_slice(&scratch.read("out/index.json")).unwrap();
    let foreign = json!({ "digest": format!("sha512:{}", "0".repeat(128)), "size": 1, "x": [1] });
    index["manifests"].as_array_mut().unwrap().push(foreign.clone());
    scratch.write("out/index.json", index.to_string());
    scratch.sealift("import bundle.tar --to oci:out --trust trust --map tools=t").ok();
    let index: Value = serde_json::from_slice(&scratch.read("out/index.json")).unwrap();
    assert!(index["manifests"].as_array().unwrap().contains(&foreign));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
}

/// 3 000 platforms that share one manifest of 3 000 layers: 600 kB of documents that name nine
/// million things.
#[test]
fn a_small_image_that_names_much_takes_little_memory() {
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::new(scratch.path("images"));
    let blob = layout.blob("application/vnd.oci.image.layer.v1.tar", b"layer");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.blob("application/vnd.example.config", b"{}"), "layers": vec![blob; 3000],
    });
    let entry = layout.document(&manifest);
    let platforms = (0..3000).map(|number| {
        let mut entry = entry.clone();
        entry["platform"] =
            json!({ "os": "linux", "architecture": "amd64", "variant": format!("v{number}") });
        entry
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": platforms.collect::<Vec<_>>(),
    });
    let top = layout.document(&index);
    layout.name("registry.example.com/tools/tool:1.0.0", top);
    let limited = |arguments: &str| {
        let mut command = scratch.tool("sh", "");
        let sealift = env!("CARGO_BIN_EXE_sealift");
        command.arg("-c").arg(format!("ulimit -v 1000000; exec {sealift} {arguments}"));
        support::run(command)
    };
    limited(EXPORT).ok();
    limited("verify bundle.tar --trust trust").ok();
}

/// A bundle of an image with a signature under cosign's tag, unpacked into `unpacked`.
fn unpacked() -> (Scratch, String) {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
    let digest = layout.add("registry.example.com/tools/tool:1.0.0", &image);
    let signature = layout.artifact("", b"signed", None);
    let tag = format!("{}.sig", digest.replace(':', "-"));
    layout.name(&format!("registry.example.com/tools/tool:{tag}"), signature.clone());
    scratch.write("release.toml", SMALL);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch.sealift(EXPORT).ok();
    std::fs::create_dir(scratch.path("unpacked")).unwrap();
    scratch.run("tar", "-xf bundle.tar -C unpacked").ok();
    (scratch, signature["digest"].as_str().unwrap().replace("sha256:", "unpacked/blobs/sha256/"))
}

#[test]
fn a_bundle_that_was_unpacked_has_what_cosigns_tags_attach() {
    let (scratch, _) = unpacked();
    for source in ["oci:unpacked", "oci-archive:bundle.tar"] {
        scratch
            .sealift(&EXPORT.replace("oci:images", source).replace("bundle.tar --key", "again.tar --key"))
            .ok();
        assert!(scratch.read("again.tar") == scratch.read("bundle.tar"), "{source}");
        scratch.remove("again.tar");
    }
}

#[test]
fn what_is_attached_in_both_ways_stays_so() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
    let top = layout.image(&image);
    let digest = layout.name("registry.example.com/tools/tool:1.0.0", top.clone());
    // A signature that names its subject, and lies under cosign's tag besides.
    let signature = layout.artifact("", b"signed", Some(&top));
    let tag = format!("{}.sig", digest.replace(':', "-"));
    layout.name(&format!("registry.example.com/tools/tool:{tag}"), signature);
    scratch.write("release.toml", SMALL);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    let scratch = scratch.exported();
    std::fs::create_dir(scratch.path("unpacked")).unwrap();
    scratch.run("tar", "-xf bundle.tar -C unpacked").ok();
    scratch.sealift("import bundle.tar --trust trust --to oci-archive:archive.tar").ok();
    for source in ["oci:unpacked", "oci-archive:bundle.tar", "oci-archive:archive.tar"] {
        let again = EXPORT.replace("bundle.tar", "again.tar").replace("oci:images", source);
        scratch.sealift(&again).ok();
        assert!(scratch.read("again.tar") == scratch.read("bundle.tar"), "{source}");
        scratch.remove("again.tar");
    }
}

#[test]
fn what_a_layout_has_attached_is_not_lost_in_silence() {
    let (scratch, signature) = unpacked();
    let again = EXPORT.replace("oci:images", "oci:unpacked").replace("bundle.tar", "again.tar");
    let whole = scratch.read("unpacked/bundle/bundle.json");
    let statement = String::from_utf8(whole.clone()).unwrap();
    for (what, statement) in [
        ("none", None),
        ("no statement", Some("{".to_owned())),
        ("another tag", Some(statement.replace(".sig\"", ".other\""))),
        ("another image's tag", Some(statement.replace("\"sha256-", "\"sha256-0"))),
    ] {
        match statement {
            Some(statement) => scratch.write("unpacked/bundle/bundle.json", statement),
            None => scratch.remove("unpacked/bundle/bundle.json"),
        }
        let run = scratch.sealift(&again).fails(3, "DocumentInvalid");
        assert!(run.stderr.contains("hint: ") && !scratch.has("again.tar"), "{what}: {run}");
    }
    // Nothing is attached where nobody asks.
    scratch.write("release.toml", format!("{SMALL}referrers = false\n"));
    scratch.sealift(&again).ok();
    scratch.remove("again.tar");
    // Nor is a damaged signature skipped.
    scratch.write("release.toml", SMALL);
    scratch.write("unpacked/bundle/bundle.json", whole);
    let content = scratch.read(&signature);
    scratch.write(&signature, vec![b'{'; content.len()]);
    scratch.sealift(&again).fails(3, "DigestMismatch");
    scratch.remove(&signature);
    scratch.sealift(&again).fails(3, "BlobMissing");
}

#[test]
fn damage_to_what_is_not_exported_is_no_fault() {
    let scratch = Scratch::with_small_release().exported();
    // `Layout::new` forgets what was there: the same image once more.
    let mut layout = Layout::new(scratch.path("images"));
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
    layout.add("registry.example.com/tools/tool:1.0.0", &image);
    let path = |digest: &str| digest.replace("sha256:", "images/blobs/sha256/");
    let other = layout.add("registry.example.com/tools/other:1.0.0", &Image::new("other"));
    let short = layout.add("registry.example.com/tools/short:1.0.0", &Image::new("short"));
    let gone = layout.add("registry.example.com/tools/gone:1.0.0", &Image::new("gone"));
    let signed = layout.artifact("", b"signature of another", None);
    let signed =
        layout.name(&format!("registry.example.com/tools/tool:{}.sig", other.replace(':', "-")), signed);
    for digest in [&other, &signed] {
        let content = scratch.read(path(digest));
        scratch.write(path(digest), vec![b'x'; content.len()]);
    }
    scratch.write(path(&short), "{");
    scratch.remove(path(&gone));
    scratch.sealift(&EXPORT.replace("bundle.tar", "again.tar")).ok();
    assert!(scratch.read("again.tar") == scratch.read("bundle.tar"));
    // What has no name may well be attached to the image.
    let artifact = layout.artifact("text/plain", b"somebody's", None);
    let artifact = layout.unnamed(artifact);
    scratch.write(path(&artifact), "{");
    let third = EXPORT.replace("bundle.tar", "third.tar");
    scratch.sealift(&third).fails(3, "SizeMismatch").says("take the entry out");
    scratch.remove(path(&artifact));
    scratch.sealift(&third).fails(3, "BlobMissing").says("take the entry out");
}

#[test]
fn a_directory_that_no_reader_of_layouts_can_name_is_not_written() {
    let scratch = Scratch::with_small_release().exported();
    let run = scratch.sealift("import bundle.tar --trust trust --to oci:out:1.0.0");
    run.fails(2, "Usage").says("--map changes them");
    assert!(!scratch.has("out:1.0.0"));
}
