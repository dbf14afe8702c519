//! Images from other people's archives: OCI layouts in tar files, and what `docker save` writes; found by name, by
//! reference, or because there is only one; and what no honest tool would write.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs;
use std::io::{Read, Write};

use serde_json::{Value, json};
use support::engines::{Docker, Podman};
use support::images::{Image, Layout, random};
use support::parts::Parts;
use support::running::watched;
use support::tarballs::{
    Saved, directory, end, entry, file, files, gzip, link, pax, prefixed, record, saved_before_25,
    saved_since_25, sized, tarball, with_mode, zstd,
};
use support::{RELEASE, Run, SMALL, Scratch, peer, run, sha256};

/// Exports the small release with its image from this source.
fn export_from(scratch: &Scratch, source: &str, bundle: &str) -> Run {
    let source = if source.starts_with('{') { source.to_owned() } else { format!("\"{source}\"") };
    scratch.write("from.toml", format!("{SMALL}source = {source}\n"));
    let _ = fs::create_dir(scratch.path("tmp"));
    let mut command = scratch.command(&format!("export from.toml -o {bundle} --key release.key.pem"));
    command.env("TMPDIR", scratch.path("tmp"));
    let run = run(command);
    assert_eq!(fs::read_dir(scratch.path("tmp")).unwrap().count(), 0, "left behind\n{run}");
    run
}

/// Requires that this source gives the very same bundle as the layout `images`.
#[track_caller]
fn same_from(scratch: &Scratch, source: &str) {
    scratch.remove("same.tar");
    let run = export_from(scratch, source, "same.tar").ok();
    assert!(scratch.read("same.tar") == scratch.read("bundle.tar"), "{source}\n{run}");
}

/// Requires that it gives none.
#[track_caller]
fn none_from(scratch: &Scratch, source: &str, code: i32, kind: &str) -> Run {
    let run = export_from(scratch, source, "none.tar").fails(code, kind);
    assert!(!scratch.has("none.tar") && !scratch.has("none.tar.partial"), "{run}");
    assert!(!run.stderr.chars().any(|c| c.is_control() && c != '\n'), "{:?}", run.stderr);
    run
}

/// The first image's manifest and config in a bundle, and its layers.
fn image_in(scratch: &Scratch, bundle: &str) -> (String, Value, Vec<u8>, Vec<Vec<u8>>) {
    let parts = Parts::read(&scratch.read(bundle));
    let digest = &parts.statement()["images"][0]["digest"];
    let manifest: Value = serde_json::from_slice(&parts.blob(digest).content).unwrap();
    let config = parts.blob(&manifest["config"]["digest"]).content.clone();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let layers = layers.map(|layer| parts.blob(&layer["digest"]).content.clone()).collect();
    (digest.as_str().unwrap().to_owned(), manifest, config, layers)
}

fn small() -> Scratch {
    Scratch::with_small_release().exported()
}

// OCI archives.

#[test]
fn an_archive_in_any_form_gives_the_bundle_that_its_directory_gives() {
    let scratch = small();
    let files = files(&scratch.path("images"));
    let plain = tarball(&files);
    let mut backwards = files.clone();
    backwards.reverse();
    let dotted: Vec<_> = files.iter().map(|(name, content)| (format!("./{name}"), content.clone())).collect();
    let with_directories = [
        directory("./"),
        directory("./blobs/"),
        directory("./blobs/sha256/"),
        directory("./blobs/"),
        tarball(&dotted),
    ]
    .concat();
    let all = |before: &dyn Fn(&str, &[u8]) -> Vec<u8>| {
        let entries = files.iter().flat_map(|(name, content)| before(name, content));
        [entries.collect(), end()].concat()
    };
    for (what, tar) in [
        ("plain", plain.clone()),
        ("in another order", tarball(&backwards)),
        ("with directories", with_directories),
        ("padded as tar does", [plain.clone(), vec![0; 9216]].concat()),
        (
            "with PAX times",
            all(&|name, content| [pax(&["mtime=1.5", "atime=2.5"]), file(name, content)].concat()),
        ),
        (
            "with PAX names",
            all(&|name, content| [pax(&[&format!("path=./{name}")]), file("truncated", content)].concat()),
        ),
        (
            "with GNU's long names",
            all(&|name, content| {
                let long = entry("././@LongLink", b'L', format!("{name}\0").as_bytes());
                [long, file("truncated", content)].concat()
            }),
        ),
        (
            "with sizes in base 256",
            all(&|name, content| {
                let mut field = [0; 12];
                field[0] = 0x80;
                field[4..].copy_from_slice(&(content.len() as u64).to_be_bytes());
                sized(file(name, content), &field)
            }),
        ),
        (
            "with sizes between spaces",
            all(&|name, content| {
                let field = format!("{:>11o} ", content.len());
                sized(file(name, content), field.as_bytes().try_into().unwrap())
            }),
        ),
        (
            "with PAX sizes that are the header's",
            all(&|name, content| [pax(&[&format!("size={}", content.len())]), file(name, content)].concat()),
        ),
        (
            "with a comment for all",
            [entry("pax_global_header", b'g', &record("comment=hello")), plain.clone()].concat(),
        ),
        (
            "with files that nobody knows",
            [
                file("bundle/bundle.json", "{"),
                file("README", ""),
                link("latest", b'2', "README"),
                plain.clone(),
            ]
            .concat(),
        ),
        ("by gzip", gzip(&plain)),
        ("by gzip in two parts", [gzip(&plain[..700]), gzip(&plain[700..])].concat()),
        ("by zstd", zstd(&plain)),
        ("by zstd in two frames", [zstd(&plain[..700]), zstd(&plain[700..])].concat()),
    ] {
        eprintln!("{what}");
        scratch.write("a.tar", tar);
        same_from(&scratch, "oci-archive:a.tar");
    }
    scratch.remove("same.tar");
    scratch
        .sealift("export release.toml -o same.tar --key release.key.pem --mirror registry.example.com=oci-archive:a.tar")
        .ok();
    assert!(scratch.read("same.tar") == scratch.read("bundle.tar"));
}

#[test]
fn what_tar_itself_writes_is_read() {
    let scratch = small();
    for format in ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"] {
        scratch.run("tar", &format!("--format={format} -C images -cf a.tar .")).ok();
        same_from(&scratch, "oci-archive:a.tar");
    }
    scratch.run("tar", "-C images -czf a.tar .").ok();
    same_from(&scratch, "oci-archive:a.tar");
}

#[test]
fn a_bundle_is_an_archive_like_any_other() {
    let scratch = small();
    same_from(&scratch, "oci-archive:bundle.tar");
    scratch
        .sealift(
            "export release.toml -o b.tar.zst --key release.key.pem --mirror registry.example.com=oci:images",
        )
        .ok();
    same_from(&scratch, "oci-archive:b.tar.zst");
}

#[test]
fn an_image_is_found_by_its_names_or_as_it_is_said() {
    let scratch = small();
    let full = "registry.example.com/tools/tool:1.0.0";
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
    // Each name, and whether another image may lie beside it.
    for (name, source, alone) in [
        (full, "", false),
        ("tools/tool:1.0.0", "", false),
        ("1.0.0", "", false),
        ("whatever", "", true),
        ("whatever", ":whatever", false),
        (full, ":registry.example.com/tools/tool:1.0.0", false),
        ("whatever", ":@0", false),
        ("whatever", ":@DIGEST", false),
    ] {
        fs::remove_dir_all(scratch.path("named")).unwrap_or_default();
        let mut layout = Layout::new(scratch.path("named"));
        let digest = layout.add(name, &image);
        let source = source.replace("DIGEST", &digest);
        let subject =
            layout.artifact("text/plain", b"of another", Some(&json!({ "digest": digest, "size": 1 })));
        for beside in [false, true] {
            if beside {
                // No image: what is attached to one.
                let mut attached = subject.clone();
                attached["annotations"] =
                    json!({ "io.containerd.manifest.subject": format!("sha256:{}", "0".repeat(64)) });
                attached["size"] = json!(1);
                layout.unnamed(attached);
                if !alone {
                    layout.add("another", &Image::new("another"));
                }
            }
            scratch.write("a.tar", tarball(&files(&scratch.path("named"))));
            same_from(&scratch, &format!("oci:named{source}"));
            same_from(&scratch, &format!("oci-archive:a.tar{source}"));
        }
    }
    let mut layout = Layout::new(scratch.path("two"));
    layout.add("one", &image);
    layout.add("another", &Image::new("another"));
    none_from(&scratch, "oci:two", 1, "NotFound").says("one, another");
    none_from(&scratch, "oci:two:third", 1, "NotFound");
    none_from(&scratch, "oci:two:@2", 1, "NotFound");
    none_from(&scratch, &format!("oci:two:@sha256:{}", "0".repeat(64)), 1, "NotFound");
}

#[test]
fn the_only_image_counts_where_the_place_was_named_for_one_image() {
    let scratch = Scratch::new();
    Layout::new(scratch.path("images")).add("whatever", &Image::new("engine"));
    scratch.key("release");
    // Three variants cannot all be the one.
    scratch.write(
        "release.toml",
        RELEASE.replace(
            "\n\n[[image]]\nname       = \"agent\"",
            "\nsource = \"oci:images\"\n\n[[image]]\nname       = \"agent\"\nsource = \"oci:images\"",
        ),
    );
    scratch.sealift("export release.toml --dry-run").fails(1, "NotFound");
    // Nor can two places be one because their words differ.
    scratch.write(
        "release.toml",
        RELEASE.split("\n[[image]]\nname       = \"agent\"").next().unwrap().to_owned()
            + "source = { standard = \"oci:images\", edge = \"oci:images\", distroless = \"oci:images:whatever\" }\n",
    );
    scratch.sealift("export release.toml --dry-run").fails(1, "NotFound");
    // And a mirror holds many.
    scratch.write("release.toml", SMALL);
    scratch
        .sealift("export release.toml --dry-run --mirror registry.example.com=oci:images")
        .fails(1, "NotFound");
}

#[test]
fn each_variant_may_have_a_source_of_its_own() {
    let scratch = Scratch::with_release();
    let engine =
        |variant: &str| Image { shared: vec!["application"], ..Image::new(&format!("engine {variant}")) };
    Layout::new(scratch.path("standard")).add("mine", &engine("standard"));
    Layout::new(scratch.path("edge")).add("2.1.0-edge", &engine("edge"));
    scratch.write("standard.tar", tarball(&files(&scratch.path("standard"))));
    scratch.sealift(support::EXPORT).ok();
    let sources = "source = { standard = \"oci-archive:standard.tar\", edge = \"oci:edge:2.1.0-edge\" }";
    let each = RELEASE.replacen("also_tag ", &format!("{sources}\nalso_tag "), 1);
    scratch.write("release.toml", each);
    scratch.sealift(&support::EXPORT.replace("bundle.tar", "each.tar")).ok();
    assert!(scratch.read("each.tar") == scratch.read("bundle.tar"));
}

#[test]
fn a_source_that_cannot_be_is_told_with_its_place() {
    let scratch = Scratch::new();
    let line = SMALL.lines().count() + 1;
    for (source, at, says) in [
        ("\"images\"", "10", "not a place of images"),
        ("\"oci:\"", "10", "not a place of images"),
        ("\"dir:images\"", "10", "not a place of images"),
        ("\"docker://registry.example.com\"", "10", "not a place of images"),
        ("\"oci:images:\"", "10", "not a reference"),
        ("\"oci-archive:a.tar:@sha256:12\"", "10", "not a usable digest"),
        ("\"docker-archive:a.tar:@x\"", "10", "not a reference"),
        ("7", "10", "oci:DIRECTORY"),
        ("[\"oci:images\"]", "10", "oci:DIRECTORY"),
        ("{ standard = 7 }", "23", "expected a string"),
        ("{ standard = \"images\" }", "23", "not a place of images"),
        ("{ edge = \"oci:images\" }", "12", "edge"),
        ("{ standard = \"oci:a\", standard = \"oci:b\" }", "", "duplicate key"),
    ] {
        scratch.write("release.toml", format!("{SMALL}source = {source}\n"));
        let run = scratch.sealift("export release.toml --dry-run").fails(2, "ManifestInvalid");
        run.says(&format!("release.toml:{line}:{at}")).says(says);
    }
    // What a docker archive has no digest of cannot be asked for by one.
    let digest = format!("sha256:{}", "0".repeat(64));
    scratch.write(
        "release.toml",
        format!("{}source = \"docker-archive:a.tar\"\n", SMALL.replace("{version}", &digest)),
    );
    let run = scratch.sealift("export release.toml --dry-run").fails(2, "ManifestInvalid");
    run.says("a docker archive keeps no manifests").says(":@sha256:");
    scratch
        .write("release.toml", RELEASE.replacen("also_tag ", "source = \"oci:images:2.1.0\"\nalso_tag ", 1));
    scratch
        .sealift("export release.toml --dry-run")
        .fails(2, "ManifestInvalid")
        .says("one reference for several variants");
    scratch.write("release.toml", SMALL);
    for mirror in ["oci:", "oci:images:1.0.0", "oci-archive:", "docker-archive:a.tar:@0"] {
        scratch
            .sealift(&format!("export release.toml --dry-run --mirror registry.example.com={mirror}"))
            .fails(2, "Usage")
            .says("not a mirror");
    }
}

#[test]
fn what_skopeo_and_podman_write_keeps_its_digests() {
    if !peer("skopeo") {
        return;
    }
    let scratch = small();
    let name = "registry.example.com/tools/tool:1.0.0";
    let copy = |from: &str, to: &str| {
        scratch.run("skopeo", &format!("--insecure-policy copy --all --preserve-digests {from} {to}")).ok();
    };
    copy(&format!("oci:images:{name}"), &format!("oci-archive:skopeo.tar:{name}"));
    same_from(&scratch, "oci-archive:skopeo.tar");
    copy(&format!("oci:images:{name}"), "oci-archive:nameless.tar");
    same_from(&scratch, "oci-archive:nameless.tar");
    // A docker archive becomes the same image there, but for how the layers are packed.
    let saved = Saved::new("tool", &["lower", "upper"], &["tools/tool:1.0.0"]);
    scratch.write("saved.tar", saved_before_25(std::slice::from_ref(&saved)));
    scratch.run("skopeo", "--insecure-policy copy docker-archive:saved.tar dir:theirs").ok();
    export_from(&scratch, "docker-archive:saved.tar", "ours.tar").ok();
    let theirs: Value = serde_json::from_slice(&scratch.read("theirs/manifest.json")).unwrap();
    let (_, ours, config, _) = image_in(&scratch, "ours.tar");
    assert_eq!((&config, &ours["config"]["digest"]), (&saved.config, &theirs["config"]["digest"]));
    assert_eq!(ours["layers"].as_array().unwrap().len(), theirs["layers"].as_array().unwrap().len());
    // What it writes as a docker archive is read, and is the same image to the byte.
    scratch
        .run(
            "skopeo",
            "--insecure-policy copy docker-archive:saved.tar docker-archive:again.docker:tools/tool:1.0.0",
        )
        .ok();
    export_from(&scratch, "docker-archive:again.docker", "again.tar").ok();
    assert!(scratch.read("again.tar") == scratch.read("ours.tar"));
    // Both as podman does it.
    let Some(podman) = Podman::new(&scratch) else { return };
    podman.run("load --quiet --signature-policy podman/policy.json --input saved.tar").ok();
    podman.run("save --quiet --format docker-archive --output podman.tar tools/tool:1.0.0").ok();
    export_from(&scratch, "docker-archive:podman.tar", "podman-docker.tar").ok();
    assert!(scratch.read("podman-docker.tar") == scratch.read("ours.tar"));
    podman.run("save --quiet --format oci-archive --output podman.oci tools/tool:1.0.0").ok();
    export_from(&scratch, "oci-archive:podman.oci", "podman-oci.tar").ok();
    let (_, manifest, _, _) = image_in(&scratch, "podman-oci.tar");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
}

#[test]
fn what_docker_saves_keeps_its_id() {
    let scratch = small();
    let Some(docker) = Docker::start(&scratch) else { return };
    let saved = Saved::new("tool", &["lower", "upper"], &["tools/tool:1.0.0", "nginx:1"]);
    scratch.write("saved.tar", saved_before_25(std::slice::from_ref(&saved)));
    export_from(&scratch, "docker-archive:saved.tar", "ours.tar").ok();
    docker.run("load --quiet --input saved.tar").ok();
    docker.run("save --output docker.tar tools/tool:1.0.0 nginx:1").ok();
    for source in ["", ":nginx:1", &format!(":@sha256:{}", saved.id())] {
        scratch.remove("theirs.tar");
        export_from(&scratch, &format!("docker-archive:docker.tar{source}"), "theirs.tar").ok();
        assert!(scratch.read("theirs.tar") == scratch.read("ours.tar"), "{source}");
    }
}

// Docker archives.

fn engine() -> Saved {
    Saved::new("engine", &["lower", "upper", "lower"], &["registry.example.com/tools/tool:1.0.0"])
}

#[test]
fn a_saved_image_keeps_its_id_and_has_its_layers_packed() {
    let scratch = small();
    let saved = engine();
    let forms = [
        ("old", saved_before_25(std::slice::from_ref(&saved))),
        ("new", saved_since_25(std::slice::from_ref(&saved), <[u8]>::to_vec)),
        ("old by gzip", gzip(&saved_before_25(std::slice::from_ref(&saved)))),
        ("new by zstd", zstd(&saved_since_25(std::slice::from_ref(&saved), <[u8]>::to_vec))),
    ];
    let mut first = None;
    for (what, tar) in forms {
        scratch.write("saved.tar", tar);
        scratch.remove("saved-bundle.tar");
        export_from(&scratch, "docker-archive:saved.tar", "saved-bundle.tar").ok();
        let (_, manifest, config, layers) = image_in(&scratch, "saved-bundle.tar");
        assert_eq!(config, saved.config, "{what}");
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
        assert_eq!(manifest["layers"][0], manifest["layers"][2]);
        for (layer, plain) in layers.iter().zip(&saved.layers) {
            let mut unpacked = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(layer.as_slice()), &mut unpacked).unwrap();
            assert!(unpacked == *plain && layer.len() < plain.len(), "{what}");
            // RFC 1952 §2.3: no name, no time, no system.
            assert_eq!(layer[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], "{what}");
        }
        // Whatever the form: the same bundle.
        let bundle = scratch.read("saved-bundle.tar");
        assert!(*first.get_or_insert_with(|| bundle.clone()) == bundle, "{what}");
    }
    scratch.remove("saved-bundle.tar");
    scratch
        .sealift("export release.toml -o saved-bundle.tar --key release.key.pem --mirror registry.example.com=docker-archive:saved.tar")
        .ok();
    assert!(first.unwrap() == scratch.read("saved-bundle.tar"));
    scratch.sealift("verify saved-bundle.tar --trust trust").ok();
}

#[test]
fn layers_that_are_packed_already_stay_as_they_are() {
    let scratch = small();
    let saved = engine();
    for (packed, kind) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (zstd, "zstd")] {
        scratch.write("saved.tar", saved_since_25(std::slice::from_ref(&saved), packed));
        let bundle = format!("{kind}.tar");
        export_from(&scratch, "docker-archive:saved.tar", &bundle).ok();
        let (_, manifest, _, layers) = image_in(&scratch, &bundle);
        for (number, layer) in saved.layers.iter().enumerate() {
            assert!(layers[number] == packed(layer), "{kind}");
            let media_type = format!("application/vnd.oci.image.layer.v1.tar+{kind}");
            assert_eq!(manifest["layers"][number]["mediaType"], json!(media_type));
        }
    }
}

#[test]
fn a_saved_image_is_found_as_docker_calls_it() {
    let scratch = small();
    let (first, second) = (
        Saved::new("first", &["lower", "first"], &["nginx:1", "user/app:2"]),
        Saved::new("second", &["lower", "second"], &["tools/tool:1.0.0", "registry.example.com:5000/a/b:3"]),
    );
    scratch.write("saved.tar", saved_before_25(&[first.clone(), second.clone()]));
    let id = |source: &str| {
        scratch.remove("found.tar");
        export_from(&scratch, source, "found.tar").ok();
        sha256(&image_in(&scratch, "found.tar").2)
    };
    for (source, expected) in [
        ("", &second),
        (":nginx:1", &first),
        (":docker.io/library/nginx:1", &first),
        (":docker.io/user/app:2", &first),
        (":registry.example.com:5000/a/b:3", &second),
        (":@0", &first),
        (":@1", &second),
        (&format!(":@sha256:{}", first.id()), &first),
    ] {
        assert_eq!(id(&format!("docker-archive:saved.tar{source}")), expected.id(), "{source}");
    }
    for source in [":nginx:2", ":nginx", ":@2", ":tool", &format!(":@sha256:{}", "0".repeat(64))] {
        none_from(&scratch, &format!("docker-archive:saved.tar{source}"), 1, "NotFound").says("nginx:1");
    }
    // The only one needs no name; of two that nobody names, none is meant.
    let nameless = |saved: &Saved| Saved { names: Vec::new(), ..saved.clone() };
    scratch.write("saved.tar", saved_before_25(&[nameless(&first)]));
    assert_eq!(id("docker-archive:saved.tar"), first.id());
    scratch.write("saved.tar", saved_before_25(&[nameless(&first), nameless(&second)]));
    none_from(&scratch, "docker-archive:saved.tar", 1, "NotFound");
    // One name for two, as for two platforms.
    let same = Saved { names: first.names.clone(), ..second };
    scratch.write("saved.tar", saved_before_25(&[first.clone(), same]));
    none_from(&scratch, "docker-archive:saved.tar:nginx:1", 2, "RefAmbiguous").says("@0");
    // A name of Docker's own registry may be written out or not.
    scratch.write("saved.tar", saved_before_25(&[first.clone(), nameless(&engine())]));
    let release = SMALL.replace("registry.example.com", "docker.io").replace("tools/tool", "nginx");
    scratch.write("docker.toml", release.replace("{version}", "1"));
    scratch
        .sealift("export docker.toml -o docker.tar --key release.key.pem --mirror docker.io=docker-archive:saved.tar")
        .ok();
    assert_eq!(sha256(&image_in(&scratch, "docker.tar").2), first.id());
}

#[test]
fn a_saved_image_that_is_not_what_its_config_says_gives_no_bundle() {
    let scratch = small();
    let good = engine();
    let other_layer = Saved::new("engine", &["lower", "UPPER", "lower"], &[]).layers[1].clone();
    let mut swapped = good.clone();
    swapped.layers.swap(0, 1);
    let mut changed = good.clone();
    changed.layers[1] = other_layer;
    let mut fewer = good.clone();
    fewer.layers.pop();
    let mut more = good.clone();
    more.layers.push(good.layers[0].clone());
    let no_rootfs =
        Saved { config: b"{\"os\":\"linux\",\"architecture\":\"amd64\"}".to_vec(), ..good.clone() };
    let twice =
        String::from_utf8(good.config.clone()).unwrap().replace("\"rootfs\"", "\"Rootfs\":{},\"rootfs\"");
    let twice = Saved { config: twice.into_bytes(), ..good.clone() };
    for (saved, code, kind) in [
        (&good, 0, ""),
        (&swapped, 3, "DigestMismatch"),
        (&changed, 3, "DigestMismatch"),
        (&fewer, 3, "DocumentInvalid"),
        (&more, 3, "DocumentInvalid"),
        (&no_rootfs, 3, "DocumentInvalid"),
        (&twice, 3, "DocumentAmbiguous"),
    ] {
        for tar in [
            saved_before_25(std::slice::from_ref(saved)),
            saved_since_25(std::slice::from_ref(saved), <[u8]>::to_vec),
            saved_since_25(std::slice::from_ref(saved), gzip),
        ] {
            scratch.write("saved.tar", tar);
            match code {
                0 => {
                    scratch.remove("good.tar");
                    export_from(&scratch, "docker-archive:saved.tar", "good.tar").ok();
                }
                code => {
                    none_from(&scratch, "docker-archive:saved.tar", code, kind).says("source: ");
                }
            }
        }
    }
    // A config under a name that is not its digest, and what is not there at all.
    let saved = String::from_utf8(saved_before_25(std::slice::from_ref(&good))).unwrap();
    for (from, to, kind) in [
        (format!("{}.json", good.id()), format!("{}.json", "0".repeat(64)), "DigestMismatch"),
        ("manifest.json".to_owned(), "manifest.JSON".to_owned(), "LayoutInvalid"),
        ("\"Layers\":".to_owned(), "\"layers\":".to_owned(), "DocumentAmbiguous"),
        ("\"Config\":\"".to_owned(), "\"Config\":\"/".to_owned(), "BlobMissing"),
        ("/layer.tar\"".to_owned(), "/LAYER.tar\"".to_owned(), "BlobMissing"),
    ] {
        let changed = resealed(saved.replace(&from, &to).into_bytes(), to.len() as i64 - from.len() as i64);
        scratch.write("saved.tar", changed);
        none_from(&scratch, "docker-archive:saved.tar", 3, kind);
    }
}

/// Layers that are links: to a file of the archive in one step, and to nothing else.
#[test]
fn a_link_for_a_layer_leads_to_a_file_in_one_step() {
    let scratch = small();
    let saved = Saved::new("engine", &["lower"], &[]);
    let list = json!([{ "Config": "config", "RepoTags": null, "Layers": ["a/b/layer.tar"] }]);
    let archive = |links: &[Vec<u8>]| {
        let files = [
            file("config", &saved.config),
            file("layer", &saved.layers[0]),
            directory("d/"),
            file("manifest.json", list.to_string()),
        ];
        [files.concat(), links.concat(), end()].concat()
    };
    let path = "a/b/layer.tar";
    for (links, kind) in [
        (vec![link(path, b'2', "../../layer")], ""),
        (vec![link(path, b'1', "layer")], ""),
        (vec![link(path, b'1', "./layer")], ""),
        (vec![link(path, b'2', "../../../layer")], "TarEntryName"),
        (vec![link(path, b'2', "/layer")], "TarEntryName"),
        (vec![link(path, b'1', "a/../layer")], "TarEntryName"),
        (vec![link(path, b'2', "layer.tar")], "TarUnexpectedEntry"),
        (vec![link(path, b'2', "other"), link("a/b/other", b'2', "../../layer")], "TarUnexpectedEntry"),
        (vec![link(path, b'2', "../../d")], "TarUnexpectedEntry"),
        (vec![link(path, b'2', "nothing")], "TarUnexpectedEntry"),
        (vec![directory("a/b/layer.tar/")], "TarUnexpectedEntry"),
        (Vec::new(), "BlobMissing"),
        (vec![link(path, b'2', "../../config")], "DigestMismatch"),
    ] {
        scratch.write("linked.tar", archive(&links));
        scratch.remove("linked.bundle");
        match kind {
            "" => {
                export_from(&scratch, "docker-archive:linked.tar", "linked.bundle").ok();
                assert_eq!(image_in(&scratch, "linked.bundle").2, saved.config);
            }
            kind => {
                none_from(&scratch, "docker-archive:linked.tar", 3, kind);
            }
        }
    }
}

/// Every header's checksum as it must be, after names were changed in place; text that grew by some bytes loses
/// them in the padding behind it.
fn resealed(mut tar: Vec<u8>, grown: i64) -> Vec<u8> {
    let mut at = 0;
    while at + 512 <= tar.len() && tar[at] != 0 {
        let size = std::str::from_utf8(&tar[at + 124..at + 135]).unwrap();
        let mut size = usize::from_str_radix(size, 8).unwrap();
        if grown > 0 && tar[at..].starts_with(b"manifest.json\0") {
            let excess = grown as usize;
            size += excess;
            tar[at + 124..at + 136].copy_from_slice(format!("{size:011o}\0").as_bytes());
            let padding = at + 512 + size..at + 512 + size + excess;
            assert!(tar[padding.clone()].iter().all(|byte| *byte == 0));
            tar.drain(padding);
        }
        support::tarballs::seal(&mut tar[at..at + 512]);
        at += 512 + size.next_multiple_of(512);
    }
    tar
}

#[test]
fn the_other_kind_of_archive_is_recognised() {
    let scratch = small();
    scratch.write("saved.tar", saved_before_25(&[engine()]));
    none_from(&scratch, "oci-archive:saved.tar", 3, "LayoutInvalid").says("docker-archive:");
    none_from(&scratch, "docker-archive:bundle.tar", 3, "LayoutInvalid").says("oci-archive:");
    none_from(&scratch, "oci-archive:images", 1, "Io").says("not a regular file");
    none_from(&scratch, "oci-archive:nothing.tar", 1, "Io").says("check the path");
    scratch.write("text.tar", "no archive ".repeat(100));
    none_from(&scratch, "oci-archive:text.tar", 3, "TarHeader");
}

// What no honest tool writes.

#[test]
fn a_hostile_archive_gives_no_bundle() {
    let scratch = small();
    let files = files(&scratch.path("images"));
    let whole = tarball(&files);
    let open = &whole[..whole.len() - 1024];
    let blob = files.iter().find(|(name, _)| name.starts_with("blobs/")).unwrap().clone();
    let layer =
        files.iter().filter(|(name, _)| name.starts_with("blobs/")).max_by_key(|(_, content)| content.len());
    let layer = layer.unwrap().clone();
    let with = |more: Vec<u8>| [open.to_vec(), more, end()].concat();
    let before = |more: Vec<u8>| [more, whole.clone()].concat();
    let without = |name: &str, instead: Vec<u8>| {
        let rest: Vec<_> = files.iter().filter(|(known, _)| known != name).cloned().collect();
        [instead, tarball(&rest)].concat()
    };
    let nested = tarball(&[("index.json".to_owned(), b"{}".to_vec())]);
    let size = |field: &[u8; 12]| with(sized(entry("x", b'0', b""), field));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        // A01, A02
        ("upwards", with(file("../x", "")), "TarEntryName"),
        ("upwards and back", with(file("blobs/../../x", "")), "TarEntryName"),
        ("upwards inside", with(file("blobs/../x", "")), "TarEntryName"),
        ("absolute", with(file("/x", "")), "TarEntryName"),
        ("absolute twice", with(file("//x", "")), "TarEntryName"),
        ("upwards by PAX", with([pax(&["path=../x"]), file("x", "")].concat()), "TarEntryName"),
        ("upwards by GNU", with([entry("l", b'L', b"../x\0"), file("x", "")].concat()), "TarEntryName"),
        ("no name", with(file("", "x")), "TarEntryName"),
        ("a file with a link's mode", with(with_mode(file("x", "y"), b"0120644\0")), "TarUnexpectedEntry"),
        ("a file that leads somewhere", with(link("x", b'0', "y")), "TarUnexpectedEntry"),
        ("GNU's form with a prefix", with(prefixed(file("x", "y"))), "TarHeader"),
        (
            "a name without end",
            with([entry("l", b'L', &[b'x'; 5000]), file("x", "")].concat()),
            "LimitExceeded",
        ),
        (
            "directories without end",
            with([entry("l", b'L', "a/".repeat(40).as_bytes()), file("x", "")].concat()),
            "LimitExceeded",
        ),
        // A03, A04, A05
        ("a link out", with(link("x", b'2', "../../etc/passwd")), "TarEntryName"),
        ("a link to the root", with(link("x", b'2', "/etc/passwd")), "TarEntryName"),
        ("a link nowhere", with(link("x", b'2', "")), "TarEntryName"),
        (
            "a long link out",
            with([pax(&["linkpath=../../x"]), link("x", b'2', "y")].concat()),
            "TarEntryName",
        ),
        ("a hard link out", with(link("x", b'1', "../x")), "TarEntryName"),
        (
            "a file below a link",
            with([link("d", b'2', "blobs"), file("d/x", "")].concat()),
            "TarUnexpectedEntry",
        ),
        (
            "a link, then a directory",
            with([link("d", b'2', "blobs"), directory("d/")].concat()),
            "TarUnexpectedEntry",
        ),
        ("a link with content", with(sized(link("x", b'2', "y"), b"00000001000\0")), "TarHeader"),
        ("a blob is a link", without(&blob.0, link(&blob.0, b'2', "x")), "TarUnexpectedEntry"),
        ("a blob is a hard link", without(&blob.0, link(&blob.0, b'1', "index.json")), "TarUnexpectedEntry"),
        // A06
        ("a device", with(entry("x", b'3', b"")), "TarUnexpectedEntry"),
        ("a block device", with(entry("x", b'4', b"")), "TarUnexpectedEntry"),
        ("a pipe", with(entry("x", b'6', b"")), "TarUnexpectedEntry"),
        ("a contiguous file", with(entry("x", b'7', b"")), "TarUnexpectedEntry"),
        ("something", with(entry("x", b'Z', b"")), "TarUnexpectedEntry"),
        // A07, A08
        (
            "a PAX size above",
            with([pax(&[&format!("size={}", nested.len())]), entry("x", b'0', b""), nested.clone()].concat()),
            "TarHeader",
        ),
        ("a PAX size below", with([pax(&["size=0"]), file("x", &nested)].concat()), "TarHeader"),
        (
            "a PAX size beyond",
            with([pax(&["size=9223372036854775807"]), file("x", "")].concat()),
            "TarHeader",
        ),
        ("a PAX size that is none", with([pax(&["size=-1"]), file("x", "")].concat()), "TarHeader"),
        (
            "a PAX size that is not there",
            with([pax(&["size=8589934592"]), file("x", "")].concat()),
            "Truncated",
        ),
        // A09, A10
        ("two PAX names", with([pax(&["path=a", "path=b"]), file("x", "")].concat()), "TarHeader"),
        ("two PAX headers", with([pax(&["path=a"]), pax(&["path=b"]), file("x", "")].concat()), "TarHeader"),
        (
            "two PAX headers, nearly",
            with([pax(&["path=a"]), pax(&["mtime=1"]), file("x", "")].concat()),
            "TarHeader",
        ),
        (
            "a PAX header that is forgotten",
            with([pax(&["path=a"]), entry("g", b'g', &record("comment=x")), file("x", "")].concat()),
            "TarHeader",
        ),
        (
            "PAX and GNU",
            with([pax(&["path=a"]), entry("l", b'L', b"b\0"), file("x", "")].concat()),
            "TarHeader",
        ),
        ("a hidden end of a name", with([pax(&["path=a\0b"]), file("x", "")].concat()), "TarHeader"),
        ("a broken record", with([entry("p", b'x', b"99 path=a\n"), file("x", "")].concat()), "TarHeader"),
        ("a record without end", with([entry("p", b'x', b"9 path=a_"), file("x", "")].concat()), "TarHeader"),
        (
            "a name with something behind it",
            with([entry("l", b'L', b"a\0b"), file("x", "")].concat()),
            "TarHeader",
        ),
        ("a name for nothing", with(pax(&["path=a"])), "TarHeader"),
        ("one name for all", before(entry("g", b'g', b"19 path=index.json\n")), "TarHeader"),
        ("an endless record", with(sized(entry("p", b'x', b""), b"00100000000\0")), "LimitExceeded"),
        // A11
        ("GNU sparse", with(entry("x", b'S', b"")), "TarUnexpectedEntry"),
        ("PAX sparse", with([pax(&["GNU.sparse.major=1"]), file("x", "")].concat()), "TarUnexpectedEntry"),
        // A12
        ("index.json twice", with(file("index.json", "{}")), "TarUnexpectedEntry"),
        ("index.json twice, nearly", with(file("./index.json", "{}")), "TarUnexpectedEntry"),
        (
            "index.json twice, by PAX",
            with([pax(&["path=.//index.json"]), file("x", "{}")].concat()),
            "TarUnexpectedEntry",
        ),
        ("a blob twice", with(file(&layer.0, &layer.1)), "TarUnexpectedEntry"),
        // A16, A17, A18
        ("no end", open.to_vec(), "Truncated"),
        ("half an end", [open.to_vec(), vec![0; 512]].concat(), "Truncated"),
        ("cut in a header", whole[..700].to_vec(), "Truncated"),
        ("cut in a file", whole[..open.len() - 600].to_vec(), "Truncated"),
        ("a lone zero", [open.to_vec(), vec![0; 512], whole.clone()].concat(), "TarHeader"),
        ("another archive", [whole.clone(), whole.clone()].concat(), "TrailingData"),
        ("nothing", Vec::new(), "Truncated"),
        ("no entries", end(), "TarHeader"),
        // A19, A20
        ("a negative size", size(&[0xff; 12]), "TarHeader"),
        (
            "the largest size",
            size(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            "TarHeader",
        ),
        (
            "an impossible size",
            size(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            "TarHeader",
        ),
        ("a size beyond 64 bits", size(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), "TarHeader"),
        ("a size that is no number", size(b"0000000008x\0"), "TarHeader"),
        ("a size and something", size(b"1\x002\0\0\0\0\0\0\0\0\0"), "TarHeader"),
        ("a terabyte that is not there", size(&[0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]), "Truncated"),
        (
            "a wrong checksum",
            {
                let mut tar = whole.clone();
                tar[148] ^= 1;
                tar
            },
            "TarHeader",
        ),
        // B01, B02, B03, B04, B05, B13
        ("no oci-layout", without("oci-layout", Vec::new()), "LayoutInvalid"),
        (
            "another oci-layout",
            without("oci-layout", file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#)),
            "LayoutInvalid",
        ),
        ("a large oci-layout", without("oci-layout", file("oci-layout", vec![b' '; 5000])), "LayoutInvalid"),
        ("an index.json that is none", without("index.json", file("index.json", "[]")), "LayoutInvalid"),
        ("index.json is a directory", without("index.json", directory("index.json/")), "TarUnexpectedEntry"),
        (
            "another blob",
            without(&layer.0, file(&layer.0, random("another", layer.1.len()))),
            "DigestMismatch",
        ),
        ("a shorter blob", without(&layer.0, file(&layer.0, &layer.1[1..])), "SizeMismatch"),
        (
            "a longer blob",
            without(&layer.0, file(&layer.0, [layer.1.clone(), vec![0]].concat())),
            "SizeMismatch",
        ),
        ("a blob missing", without(&layer.0, Vec::new()), "BlobMissing"),
        (
            "a blob is a directory",
            without(&layer.0, directory(&format!("{}/", layer.0))),
            "TarUnexpectedEntry",
        ),
        // E03, E04, E06
        ("gzip cut short", gzip(&whole)[..200].to_vec(), "Truncated"),
        ("zstd cut short", zstd(&whole)[..200].to_vec(), "Truncated"),
        ("gzip and something", [gzip(&whole), b"something else".to_vec()].concat(), "FrameInvalid"),
        ("zstd and something", [zstd(&whole), b"something else".to_vec()].concat(), "FrameInvalid"),
        (
            "gzip damaged",
            {
                let mut tar = gzip(&whole);
                let end = tar.len() - 5;
                tar[end] ^= 1;
                tar
            },
            "FrameInvalid",
        ),
        ("packed twice", gzip(&gzip(&whole)), "TarHeader"),
        ("xz", b"\xfd7zXZ\0\0\0".to_vec(), "FrameInvalid"),
        ("bzip2", b"BZh91AY&SY".to_vec(), "FrameInvalid"),
    ];
    let mut wrong = Vec::new();
    for (what, tar, kind) in cases {
        // What is wrong with a tar file is so when it is packed.
        let packed = ["gzip", "zstd", "packed", "xz", "bzip2"].iter().any(|word| what.starts_with(word));
        let forms = if packed { vec![tar] } else { vec![tar.clone(), gzip(&tar)] };
        for tar in forms {
            scratch.write("hostile.tar", tar);
            let run = export_from(&scratch, "oci-archive:hostile.tar", "none.tar");
            let clean = !run.stderr.chars().any(|c| c.is_control() && c != '\n') && !scratch.has("none.tar");
            // What is claimed and not there may be more than there is room for.
            let no_room = kind == "Truncated" && run.is_failure(1, "NoSpace");
            if !(run.is_failure(3, kind) || no_room) || !clean {
                wrong.push(format!("{what}: expected {kind}\n{run}"));
            }
            scratch.remove("none.tar");
            scratch.remove("none.tar.partial");
            scratch.remove("none.tar.partial.journal");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A23: each costs a header, and as many as this would cost memory.
#[test]
fn entries_without_end_are_refused() {
    let scratch = small();
    let one = file("x", "");
    let mut packer = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    for number in 0..250_000 {
        let mut entry = one.clone();
        let name = format!("{number:x}");
        entry[..name.len()].copy_from_slice(name.as_bytes());
        support::tarballs::seal(&mut entry);
        packer.write_all(&entry).unwrap();
    }
    scratch.write("many.tar", packer.finish().unwrap());
    none_from(&scratch, "oci-archive:many.tar", 3, "LimitExceeded").says("too many entries");
}

/// E01, E02: nothing of what they would become is written for long.
#[test]
fn bombs_are_refused_before_they_fill_the_disk() {
    let scratch = small();
    let zeros = |length: u64| std::io::repeat(0).take(length);
    let bomb = |head: &[u8], length: u64, window: u32| {
        let mut packer = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        packer.window_log(window).unwrap();
        packer.write_all(head).unwrap();
        std::io::copy(&mut zeros(length), &mut packer).unwrap();
        packer.finish().unwrap()
    };
    let large = sized(file("x", ""), b"07777777777\0");
    for (what, file, kind) in [
        ("zeros and nothing else", bomb(b"", 1 << 30, 20), "TarHeader"),
        (
            "zeros behind the end",
            bomb(&tarball(&[("x".to_owned(), Vec::new())]), 1 << 30, 20),
            "TrailingData",
        ),
        ("zeros as content", bomb(&large[..512], 1 << 30, 20), "LimitExceeded"),
        ("a window of 128 MiB", bomb(&tarball(&files(&scratch.path("images"))), 0, 27), "FrameInvalid"),
    ] {
        assert!(file.len() < 1 << 20, "{what}");
        scratch.write("bomb.tar", file);
        let run = export_from(&scratch, "oci-archive:bomb.tar", "none.tar");
        // A disk that has no room for what is claimed says so first.
        assert!(
            run.is_failure(3, kind) || kind == "LimitExceeded" && run.is_failure(1, "NoSpace"),
            "{what}\n{run}"
        );
    }
    // More than there is room for is not begun.
    let terabytes = sized(file("x", ""), &[0x80, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0]);
    scratch.write("bomb.tar", bomb(&terabytes[..512], 1 << 20, 20));
    none_from(&scratch, "oci-archive:bomb.tar", 1, "NoSpace").says("TMPDIR");
}

#[test]
fn memory_stays_small_however_large_the_layers_are() {
    let scratch = small();
    let mut layers = Vec::new();
    for seed in ["a", "b"] {
        let content = [random(seed, 1 << 20), vec![0; 99 << 20]].concat();
        layers.push([file("data", content), end()].concat());
    }
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let saved = Saved { config: config.to_string().into_bytes(), layers, names: Vec::new() };
    scratch.write("saved.tar", gzip(&saved_before_25(&[saved])));
    scratch.write("from.toml", format!("{SMALL}source = \"docker-archive:saved.tar\"\n"));
    let (_, peak) =
        watched(scratch.command("export from.toml -o large.tar --key release.key.pem --progress none"));
    eprintln!("{} MiB", peak >> 20);
    assert!(peak < 64 << 20, "{peak} bytes");
}
