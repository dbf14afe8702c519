//! Charts, files and other artifacts in a release, beside images and without any: what they become in a bundle, and
//! that they cross unchanged. And what no artifact is made of.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, symlink};
use std::process::Stdio;

use serde_json::{Value, json};
use support::charts::{chart, chart_entries, chart_yaml, entry, packed, pax, zipped};
use support::images::{Image, Layout, random};
use support::parts::Parts;
use support::registry::Registry;
use support::running::watched;
use support::serving::Serving;
use support::tarballs::{link, seal};
use support::{RELEASE, Scratch, peer, sha256};

const HEAD: &str = r#"schema   = 1
name     = "engine"
version  = "2.1.0"
tier     = "sovereign"
channel  = "production"
registry = "registry.example.com"
platforms = ["linux/amd64"]
"#;

const CHART: &str = r#"[[chart]]
repository = "charts/engine"
source     = "charts/engine-2.1.0.tgz"
"#;

const FILES: &str = r#"[[file]]
name       = "docs"
repository = "files/docs"
path       = ["docs/manual.txt", "docs/empty", "docs/model.bin"]
"#;

const EXPORT: &str = "export release.toml -o bundle.tar --key release.key.pem";

/// A chart and some files, a key, and a release of these parts.
fn with(parts: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    std::fs::create_dir(scratch.path("charts")).unwrap();
    std::fs::create_dir(scratch.path("docs")).unwrap();
    scratch.write("charts/engine-2.1.0.tgz", chart("engine", "2.1.0"));
    scratch.write("docs/manual.txt", "how to\n");
    scratch.write("docs/empty", "");
    scratch.write("docs/model.bin", random("model", 300_000));
    scratch.write("release.toml", format!("{HEAD}{}", parts.concat()));
    scratch
}

/// The manifest of one of a bundle's images, and what it stands for in the statement.
fn manifest(bundle: &Parts, name: &str) -> (Value, Value) {
    let statement = bundle.statement();
    let images = statement["images"].as_array().unwrap();
    let image = images.iter().find(|image| image["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    (serde_json::from_slice(&bundle.blob(&image["digest"]).content).unwrap(), image.clone())
}

fn names(scratch: &Scratch, bundle: &str) -> Vec<String> {
    let images = Parts::read(&scratch.read(bundle)).statement()["images"].clone();
    let label =
        |image: &Value| format!("{}/{}", image["name"].as_str().unwrap(), image["variant"].as_str().unwrap());
    images.as_array().unwrap().iter().map(label).collect()
}

#[test]
fn a_packaged_chart_becomes_what_helm_pushes() {
    let scratch = with(&[CHART]);
    let yaml = "apiVersion: v2\nname: engine\nversion: 2.1.0\nappVersion: 1.10\ntype: application\n\
                description: |\n  <b>\"Fast\" & small</b>\n  second line\nhome: https://example.com\n\
                sources: [https://example.com/src, https://example.com/more]\nmadeUp: gone\n\
                maintainers:\n- {name: Ann, email: ann@example.com}\n- {name: Bob, url: https://bob.example.com}\n\
                annotations: {org.opencontainers.image.title: no, org.opencontainers.image.vendor: Example}\n\
                dependencies:\n- {name: base, version: ^1, repository: \"\", import-values: [{child: b, parent: a}, x]}\n";
    let archive =
        packed(&[entry("engine/templates/a", b'0', b"x"), entry("engine/Chart.yaml", b'0', yaml.as_bytes())]);
    scratch.write("charts/engine-2.1.0.tgz", &archive);
    scratch.write("charts/engine-2.1.0.tgz.prov", "signed\n");
    scratch.sealift(EXPORT).ok();
    let bundle = Parts::read(&scratch.read("bundle.tar"));
    let (manifest, image) = manifest(&bundle, "engine");
    assert_eq!(image["source"], "registry.example.com/charts/engine:2.1.0");
    assert_eq!((&image["variant"], &image["platforms"]), (&json!("chart"), &json!([])));
    // As helm 3.16 writes it, to the byte; it reads numbers and YAML 1.1's words for true and false first.
    let config = r#"{"name":"engine","home":"https://example.com","sources":["https://example.com/src","https://example.com/more"],"version":"2.1.0","description":"\u003cb\u003e\"Fast\" \u0026 small\u003c/b\u003e second line ","maintainers":[{"name":"Ann","email":"ann@example.com"},{"name":"Bob","url":"https://bob.example.com"}],"apiVersion":"v2","appVersion":"1.1","annotations":{"org.opencontainers.image.title":"false","org.opencontainers.image.vendor":"Example"},"dependencies":[{"name":"base","version":"^1","repository":"","import-values":[{"child":"b","parent":"a"},"x"]}],"type":"application"}"#;
    let stored = bundle.blob(&manifest["config"]["digest"]);
    assert_eq!(String::from_utf8_lossy(&stored.content), config);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.cncf.helm.config.v1+json");
    let layers = manifest["layers"].as_array().unwrap();
    let digests: Vec<_> = layers.iter().map(|layer| layer["digest"].as_str().unwrap()).collect();
    assert!(digests.is_sorted(), "{digests:?}");
    let layer =
        |kind: &str| layers.iter().find(|layer| layer["mediaType"].as_str().unwrap().contains(kind)).unwrap();
    assert_eq!(layer("chart.content.v1.tar+gzip")["digest"], format!("sha256:{}", sha256(&archive)));
    assert_eq!(bundle.blob(&layer("chart.provenance.v1.prov")["digest"]).content, b"signed\n");
    let annotations = json!({
        "org.opencontainers.image.authors": "Ann (ann@example.com), Bob",
        "org.opencontainers.image.description": "<b>\"Fast\" & small</b> second line ",
        "org.opencontainers.image.source": "https://example.com/src",
        "org.opencontainers.image.title": "engine",
        "org.opencontainers.image.url": "https://example.com",
        "org.opencontainers.image.vendor": "Example",
        "org.opencontainers.image.version": "2.1.0",
    });
    assert_eq!(manifest["annotations"], annotations);
    // The same files, the same bytes.
    scratch.sealift(&EXPORT.replace("bundle.tar", "again.tar")).ok();
    assert_eq!(scratch.read("again.tar"), scratch.read("bundle.tar"));
}

#[test]
fn a_plus_in_a_version_is_an_underscore_in_the_tag() {
    let scratch = with(&[CHART]);
    scratch.write("release.toml", format!("{HEAD}{CHART}").replace("\"2.1.0\"", "\"2.1.0+k8s.1\""));
    scratch.write("charts/engine-2.1.0.tgz", chart("engine", "2.1.0+k8s.1"));
    scratch.sealift(EXPORT).ok();
    let (_, image) = manifest(&Parts::read(&scratch.read("bundle.tar")), "engine");
    assert_eq!(image["tags"], json!(["2.1.0_k8s.1"]));
}

#[test]
fn files_become_an_artifact_with_a_layer_for_each() {
    let more = "media_type = \"text/plain\"\nartifact_type = \"application/vnd.example.docs\"\n";
    for (more, media_type, kind) in [
        ("", "application/octet-stream", "application/vnd.unknown.artifact.v1"),
        (more, "text/plain", "application/vnd.example.docs"),
    ] {
        let scratch = with(&[FILES, more]);
        scratch.sealift(EXPORT).ok();
        let bundle = Parts::read(&scratch.read("bundle.tar"));
        let (manifest, image) = manifest(&bundle, "docs");
        assert_eq!(image["variant"], "file");
        assert_eq!(manifest["artifactType"], kind);
        let empty = json!({
            "mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "data": "e30=",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        });
        assert_eq!(manifest["config"], empty);
        let titles = ["manual.txt", "empty", "model.bin"];
        for (layer, title) in manifest["layers"].as_array().unwrap().iter().zip(titles) {
            assert_eq!(layer["mediaType"], media_type);
            assert_eq!(layer["annotations"], json!({ "org.opencontainers.image.title": title }));
            assert_eq!(bundle.blob(&layer["digest"]).content, scratch.read(format!("docs/{title}")));
        }
        assert_eq!(manifest["layers"].as_array().unwrap().len(), titles.len());
    }
}

/// A WASM module and a model, as their own tools write them: no platform, configs of their own.
fn others(layout: &mut Layout) -> [String; 2] {
    let manifest = |config: Value, layer: Value, more: Value| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        });
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        manifest
    };
    let wasm = manifest(
        layout.blob(
            "application/vnd.wasm.config.v0+json",
            br#"{"architecture":"wasm","os":"wasip2","layerDigests":[]}"#,
        ),
        layout.blob("application/wasm", b"\0asm\x01\0\0\0"),
        json!({}),
    );
    let model = manifest(
        layout.blob("application/vnd.oci.empty.v1+json", b"{}"),
        layout.blob("application/vnd.example.model.weights", &random("weights", 50_000)),
        json!({ "artifactType": "application/vnd.example.model.v1" }),
    );
    let (wasm, model) = (layout.document(&wasm), layout.document(&model));
    [
        layout.name("registry.example.com/wasm/plugin:2.1.0", wasm),
        layout.name("registry.example.com/models/small:2.1.0", model),
    ]
}

const OTHERS: &str = r#"[[image]]
name       = "plugin"
repository = "wasm/plugin"
tags       = { standard = "{version}" }

[[image]]
name       = "model"
repository = "models/small"
tags       = { standard = "{version}" }
"#;

#[test]
fn artifacts_of_every_kind_cross_from_registry_to_registry_unchanged() {
    if !peer("docker-registry") {
        return;
    }
    let scratch = with(&[OTHERS, CHART, FILES]);
    let digests = others(&mut Layout::new(scratch.path("images")));
    scratch.sealift(&format!("{EXPORT} --mirror registry.example.com=oci:images")).ok();
    let bundle = Parts::read(&scratch.read("bundle.tar"));
    for (name, digest) in ["plugin", "model"].into_iter().zip(digests) {
        assert_eq!(manifest(&bundle, name).1["digest"], digest);
    }
    // Into a registry, and out of it into a second bundle, in which everything was pulled.
    let (first, second) = (Registry::start(), Registry::start());
    let import = "import bundle.tar --trust trust --platform linux/amd64 --variant standard --to docker://";
    scratch.sealift(&format!("{import}{}", first.address())).ok();
    let chart = CHART.replace("source", "# source");
    let docs =
        "[[image]]\nname = \"docs\"\nrepository = \"files/docs\"\ntags = { standard = \"{version}\" }\n";
    scratch.write("release.toml", format!("{HEAD}{OTHERS}{chart}{docs}"));
    let from = format!("--mirror registry.example.com={}", first.address());
    scratch.sealift(&format!("{} {from}", EXPORT.replace("bundle.tar", "second.tar"))).ok();
    scratch
        .sealift(&format!("import second.tar --trust trust --state other --to docker://{}", second.address()))
        .ok();
    for repository in ["wasm/plugin", "models/small", "charts/engine", "files/docs"] {
        let found = [&first, &second].map(|registry| registry.below(repository, "2.1.0").unwrap().unwrap());
        assert_eq!(found[0], found[1], "{repository}");
        let (_, top) = second.get(&format!("/v2/{repository}/manifests/2.1.0"));
        let name = repository.split('/').nth(1).unwrap().replace("small", "model");
        assert_eq!(manifest(&bundle, &name).1["digest"], format!("sha256:{}", sha256(&top)));
    }
}

#[test]
fn a_chart_that_a_registry_holds_must_be_one() {
    let scratch = with(&[&CHART.replace("source", "# source")]);
    let mut layout = Layout::new(scratch.path("images"));
    let from = format!("{EXPORT} --mirror registry.example.com=oci:images");
    scratch.sealift(&from).fails(1, "NotFound").says("registry.example.com/charts/engine:2.1.0");
    for image in [Image::new("no chart"), Image { no_index: true, ..Image::new("no chart") }] {
        layout.add("registry.example.com/charts/engine:2.1.0", &image);
        scratch.sealift(&from).fails(3, "DocumentUnsupported").says("not a Helm chart");
    }
    scratch.holds_no_bundle();
}

/// What would take hundreds of megabytes as a tree takes none as a document.
#[test]
fn a_hostile_chart_of_a_registry_takes_little_memory() {
    let scratch = with(&[&CHART.replace("source", "# source"), "referrers = false\n"]);
    let mut layout = Layout::new(scratch.path("images"));
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.blob("application/vnd.cncf.helm.config.v1+json", b"{}"), "layers": [],
    });
    manifest["x"] = vec![json!({ "a": 0 }); 500_000].into();
    let entry = layout.document(&manifest);
    layout.name("registry.example.com/charts/engine:2.1.0", entry);
    let (_, peak) = watched(
        scratch.command(&format!("{EXPORT} --mirror registry.example.com=oci:images --progress none")),
    );
    assert!(peak < 64 << 20, "{peak} bytes");
}

#[test]
fn nothing_is_written_over_what_the_release_is_made_of() {
    let image = "[[image]]\nname = \"tool\"\nrepository = \"tools/tool\"\ntags = { a = \"1\", b = \"2\" }\n\
                 source = { a = \"oci-archive:a.tar\", b = \"docker-archive:b.tar\" }\n\n\
                 [[image]]\nname = \"other\"\nrepository = \"other\"\ntags = { a = \"1\" }\n";
    let scratch = with(&[image, CHART, FILES]);
    let inputs =
        ["a.tar", "b.tar", "c.tar", "charts/engine-2.1.0.tgz", "charts/engine-2.1.0.tgz.prov", "docs/empty"];
    for input in ["a.tar", "b.tar", "c.tar", "charts/engine-2.1.0.tgz.prov"] {
        scratch.write(input, "x");
    }
    std::fs::hard_link(scratch.path("docs/model.bin"), scratch.path("twin.tar")).unwrap();
    let mirror = "--mirror registry.example.com=oci-archive:c.tar";
    for output in inputs.into_iter().chain(["./docs/manual.txt", "twin.tar"]) {
        let before = scratch.read(output);
        // What is left out is an input, too.
        for narrow in ["", "--image docs"] {
            let export = EXPORT.replace("bundle.tar", output);
            scratch
                .sealift(&format!("{export} {mirror} --overwrite {narrow}"))
                .fails(2, "OutputExists")
                .says("one of the inputs");
        }
        assert_eq!(scratch.read(output), before, "{output}");
    }
}

#[test]
fn what_is_no_image_is_not_called_one() {
    let scratch = with(&[CHART, FILES]);
    let planned = scratch.sealift(&format!("{EXPORT} --dry-run")).ok().stdout;
    assert!(planned.contains("\npayload: ") && !planned.contains("to pull"), "{planned}");
    let exported = scratch.sealift(EXPORT).ok().stdout;
    assert!(exported.contains(", 2 artifacts, ") && !exported.contains("image"), "{exported}");
}

#[test]
fn pins_hold_for_charts() {
    let pin = |digest: &str| format!("{CHART}pin = \"sha256:{digest}\"\n");
    let scratch = with(&[&pin(&"0".repeat(64))]);
    let run = scratch.sealift(EXPORT).fails(3, "PinMismatch");
    let digest = run.stderr.split("got sha256:").nth(1).unwrap()[..64].to_owned();
    scratch.write("release.toml", format!("{HEAD}{}", pin(&digest)));
    scratch.sealift(EXPORT).ok();
}

#[test]
fn charts_and_files_belong_to_every_variant_and_platform() {
    let scratch = Scratch::with_release();
    std::fs::create_dir(scratch.path("charts")).unwrap();
    std::fs::create_dir(scratch.path("docs")).unwrap();
    scratch.write("charts/engine-2.1.0.tgz", chart("engine", "2.1.0"));
    scratch.write("docs/manual.txt", "how to\n");
    let chart = CHART.replace("[[chart]]", "[[chart]]\nname = \"chart\"");
    let files = FILES.replace(", \"docs/empty\", \"docs/model.bin\"", "");
    scratch.write("release.toml", format!("{RELEASE}{chart}{files}"));
    let from = "--mirror registry.example.com=oci:images";
    for (narrow, expected) in [
        ("", "engine/distroless engine/edge engine/standard agent/standard chart/chart docs/file"),
        ("--variant edge --platform linux/arm64", "engine/edge chart/chart docs/file"),
        ("--variant edge --image engine", "engine/edge"),
        ("--image docs", "docs/file"),
        ("--image chart,agent --variant standard", "agent/standard chart/chart"),
    ] {
        scratch.sealift(&format!("{EXPORT} {from} {narrow} --overwrite")).ok();
        assert_eq!(names(&scratch, "bundle.tar").join(" "), expected, "{narrow}");
    }
    scratch.sealift(&format!("{EXPORT} {from} --overwrite")).ok();
    let import = "import bundle.tar --trust trust --dry-run --json --to oci:out";
    let sources = |narrow: &str| {
        let receipt = scratch.sealift(&format!("{import} {narrow}")).ok().json();
        let images = receipt["images"].as_array().unwrap().iter();
        images
            .map(|image| image["source"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        sources("--variant edge --platform linux/arm64"),
        ["engine:2.1.0-edge", "engine:2.1.0", "docs:2.1.0"]
    );
    assert_eq!(sources("--image docs"), ["docs:2.1.0"]);
    for narrow in ["--variant chart", "--variant file", "--variant edgy"] {
        let expected = "expected one of distroless, edge, standard";
        scratch.sealift(&format!("{import} {narrow}")).fails(2, "EmptySelection").says(expected);
    }
}

#[test]
fn a_release_of_charts_alone_has_no_variants_to_ask_for() {
    let scratch = with(&[CHART]);
    scratch
        .sealift(&format!("{EXPORT} --variant edge"))
        .fails(2, "EmptySelection")
        .says("belong to every variant");
}

#[test]
fn a_manifest_that_cannot_be_meant_is_refused_with_its_place() {
    let image =
        |tags: &str| format!("[[image]]\nname = \"tool\"\nrepository = \"tools/tool\"\ntags = {tags}\n");
    let source = |source: &str| CHART.replace("charts/engine-2.1.0.tgz", source);
    for (parts, says) in [
        (String::new(), "there is nothing to ship"),
        (image("{ chart = \"1\" }"), "\"chart\" is not free to be a variant's name"),
        (image("{ file = \"1\" }"), "\"file\" is not free to be a variant's name"),
        (format!("{CHART}{CHART}"), "two images are called \"engine\""),
        (
            format!("{CHART}{}", CHART.replace("[[chart]]", "[[chart]]\nname = \"other\"")),
            "two things would be called",
        ),
        (
            format!("{FILES}{}", image("{ a = \"1\" }").replace("\"tool\"", "\"docs\""))
                .replace("tools/tool", "files/docs"),
            "are called",
        ),
        (source("oci:charts"), "--mirror FROM=oci:DIR"),
        (source("oci-archive:charts.tar"), "a chart's source is a file"),
        (source("store:charts"), "FROM=store:DIR"),
        (source("docker-archive:charts.tar"), "docker archives hold images alone"),
        (source("oci://registry.example.com/charts"), "found by registry, repository and version"),
        (source("docker://registry.example.com/charts"), "found by registry, repository and version"),
        (source("https://charts.example.com/engine.tgz"), "found by registry, repository and version"),
        (source(""), "an empty path"),
        (CHART.replace("[[chart]]", "[[chart]]\nvariant = \"x\""), "unknown field"),
        (FILES.replace("[\"docs/manual.txt\", \"docs/empty\", \"docs/model.bin\"]", "[]"), "no path"),
        (FILES.replace("docs/empty", "other/manual.txt"), "two files are called \"manual.txt\""),
        (FILES.replace("docs/empty", "docs/.."), "does not name a file"),
        (FILES.replace("docs/empty", "docs/"), "does not name a file"),
        (format!("{FILES}media_type = \"text\"\n"), "not a media type"),
        (format!("{FILES}artifact_type = \"a/b c\"\n"), "not a media type"),
        (format!("{FILES}tag = \"a b\"\n"), "release.toml:"),
    ] {
        let scratch = with(&[&parts]);
        scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says(says).says("release.toml");
        scratch.holds_no_bundle();
    }
}

#[test]
fn a_chart_under_another_name_or_version_is_refused() {
    for (name, version, hint) in [
        ("motor", "2.1.0", "repository = \"charts/motor\""),
        ("engine", "2.2.0", "version = \"2.2.0\""),
        ("engine", "2.1.0+one", "expected 2.1.0_one"),
    ] {
        let scratch = with(&[CHART]);
        scratch.write("charts/engine-2.1.0.tgz", chart(name, version));
        scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says(hint);
        scratch.holds_no_bundle();
    }
}

#[test]
fn what_is_no_packaged_chart_is_refused() {
    let good = chart_yaml("engine", "2.1.0");
    let yaml = |text: &str| packed(&[entry("engine/Chart.yaml", b'0', text.as_bytes())]);
    let beside = |other: Vec<u8>| packed(&[entry("engine/Chart.yaml", b'0', good.as_bytes()), other]);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let mut cut = chart("engine", "2.1.0");
    cut.truncate(cut.len() / 2);
    let mut followed = chart("engine", "2.1.0");
    followed.extend_from_slice(b"and more than that");
    let other = |name: &str| entry(name, b'0', good.as_bytes());
    let (ordinary, five) = (chart_entries("engine", "2.1.0"), vec![0; 5 << 20]);
    let mut directory = entry("engine/b", b'0', b"x");
    directory[100..108].copy_from_slice(b"0040755\0");
    seal(&mut directory);
    let cases = [
        ("not gzip", b"name: engine\n".to_vec(), "DocumentInvalid", "helm package"),
        ("not gzip but tar", ordinary.concat(), "DocumentInvalid", "helm package"),
        ("not tar", zipped(&random("tar", 4096)), "TarHeader", "helm package"),
        ("cut short", cut, "Truncated", "too early"),
        ("followed by something", followed, "FrameInvalid", "decompressed"),
        ("without an end", zipped(&ordinary.concat()), "Truncated", "cut short"),
        ("empty", packed(&[]), "TarHeader", "helm package"),
        ("none", packed(&[entry("engine/values.yaml", b'0', b"")]), "DocumentInvalid", "no Chart.yaml"),
        ("deeper", packed(&[other("a/b/Chart.yaml")]), "DocumentInvalid", "no Chart.yaml"),
        ("at the top", packed(&[other("Chart.yaml")]), "DocumentInvalid", "directory"),
        ("below itself", packed(&[other("Chart.yaml/Chart.yaml")]), "DocumentInvalid", "directory"),
        ("a file at the top", beside(entry("README.md", b'0', b"")), "DocumentInvalid", "directory"),
        (
            "as tar czf x.tgz ./engine",
            packed(&[other("./engine/Chart.yaml")]),
            "DocumentInvalid",
            "without ./",
        ),
        ("absolute to helm", packed(&[other("engine//Chart.yaml")]), "DocumentInvalid", "differently"),
        ("an idle step", beside(other("other/./Chart.yaml")), "DocumentInvalid", "differently"),
        ("a second one to helm", beside(other("a/b\\Chart.yaml")), "DocumentInvalid", "differently"),
        ("a Windows name", packed(&[other("engine\\Chart.yaml")]), "DocumentInvalid", "differently"),
        ("a drive", beside(entry("engine/c:/x", b'0', b"")), "DocumentInvalid", "helm refuses"),
        ("nearly upwards", beside(entry("engine/..x", b'0', b"")), "DocumentInvalid", "helm refuses"),
        ("two", beside(other("other/Chart.yaml")), "DocumentInvalid", "two Chart.yaml"),
        ("one twice", beside(other("engine/Chart.yaml")), "DocumentInvalid", "two Chart.yaml"),
        (
            "a file that ends like a directory",
            beside(entry("b/Chart.yaml/", b'0', b"")),
            "DocumentInvalid",
            "a directory",
        ),
        ("a file that is a directory by its mode", beside(directory), "TarUnexpectedEntry", "mode"),
        (
            "two by pax",
            beside([pax("path", "e/Chart.yaml"), entry("x", b'0', b"")].concat()),
            "DocumentInvalid",
            "two Chart.yaml",
        ),
        (
            "two by GNU",
            beside([entry("@", b'L', b"e/Chart.yaml\0"), entry("x", b'0', b"")].concat()),
            "DocumentInvalid",
            "two Chart.yaml",
        ),
        // Go's readers let the long name win, whatever the records behind it say; of two headers of records, the
        // second; and of one before a header for all, none.
        (
            "two by GNU before pax",
            beside([entry("@", b'L', b"e/Chart.yaml\0"), pax("mtime", "1"), entry("x", b'0', b"")].concat()),
            "DocumentInvalid",
            "two Chart.yaml",
        ),
        (
            "a name by GNU and by pax",
            beside([entry("@", b'L', b"e/x\0"), pax("path", "e/Chart.yaml"), entry("x", b'0', b"")].concat()),
            "TarHeader",
            "the same of one entry",
        ),
        (
            "two pax headers",
            beside([pax("path", "e/x"), pax("mtime", "1"), entry("e/Chart.yaml", b'0', b"")].concat()),
            "TarHeader",
            "of one kind",
        ),
        (
            "a pax header that is forgotten",
            beside([pax("path", "e/x"), entry("g", b'g', b"13 comment=x\n"), other("e/Chart.yaml")].concat()),
            "TarHeader",
            "for all entries",
        ),
        ("out of it", beside(entry("engine/../../etc/passwd", b'0', b"")), "TarEntryName", "leads out"),
        ("absolute", beside(entry("/etc/passwd", b'0', b"")), "TarEntryName", "leads out"),
        ("a symbolic link", beside(link("engine/link", b'2', "x")), "DocumentInvalid", "a link"),
        ("a hard link", beside(link("engine/link", b'1', "engine/Chart.yaml")), "DocumentInvalid", "a link"),
        ("a device", beside(entry("engine/null", b'3', b"")), "TarUnexpectedEntry", "neither"),
        (
            "a size elsewhere",
            beside([pax("size", "0"), entry("engine/x", b'0', b"x")].concat()),
            "TarHeader",
            "two sizes",
        ),
        ("a long name", beside(entry("@", b'L', &[b'a'; 1_100_000])), "LimitExceeded", "1048576"),
        ("a large Chart.yaml", yaml(&format!("{good}# {}", "x".repeat(1 << 20))), "LimitExceeded", "1048576"),
        ("a bomb", zipped(&vec![0; 101 << 20]), "TarHeader", "helm package"),
        (
            "a file that is too large",
            beside(entry("engine/x", b'0', &vec![0; (5 << 20) + 1])),
            "LimitExceeded",
            "5242880",
        ),
        (
            "too many files",
            packed(
                &[ordinary.clone(), (0..20).map(|n| entry(&format!("engine/{n}"), b'0', &five)).collect()]
                    .concat(),
            ),
            "LimitExceeded",
            "104857600",
        ),
        ("a YAML bomb", yaml(&format!("{good}{bomb}")), "DocumentInvalid", "not the YAML"),
        ("deep YAML", yaml(&format!("{good}x: {}", "[".repeat(5000))), "DocumentInvalid", "not the YAML"),
        ("no YAML", yaml("a: b: c"), "DocumentInvalid", "not the YAML"),
        ("a key twice", yaml(&format!("{good}name: other\n")), "DocumentInvalid", "not the YAML"),
        ("two documents", yaml(&format!("{good}---\n{good}")), "DocumentInvalid", "not the YAML"),
        ("a list", yaml("- a\n"), "DocumentInvalid", "not a list of fields"),
        ("no name", yaml("version: 2.1.0\n"), "DocumentInvalid", "not a chart's name"),
        (
            "a name that is a path",
            yaml("name: a/engine\nversion: 2.1.0\n"),
            "DocumentInvalid",
            "not a chart's name",
        ),
        ("no version", yaml("name: engine\n"), "DocumentInvalid", "not a chart's version"),
        ("another type", yaml(&format!("{good}type: plugin\n")), "DocumentInvalid", "not a chart's type"),
        ("a field of another kind", yaml(&format!("{good}keywords: one\n")), "DocumentInvalid", "keywords"),
    ];
    let scratch = with(&[CHART]);
    for (case, archive, kind, says) in cases {
        scratch.write("charts/engine-2.1.0.tgz", archive);
        let run = scratch.sealift(EXPORT);
        assert!(run.is_failure(3, kind) && run.stderr.contains(says), "{case}: {kind}, {says}\n{run}");
        assert!(run.stderr.contains("charts/engine-2.1.0.tgz"), "{case}\n{run}");
        scratch.holds_no_bundle();
    }
    // What helm takes for a version, and what it does not.
    let versioned = |version: &str| yaml(&format!("name: engine\nversion: {version:?}\n"));
    for version in [
        "1.2.3.4",
        "1.2.3.4.5",
        "vv1",
        "v",
        "1.",
        "1..2",
        "x",
        "1.2.3-",
        "1.2.3+",
        "1.2.3-01",
        "1.2.3-a..b",
        "1.2.3-a_b",
        "1.2.3+a+b",
        "18446744073709551616",
        " 1.2.3",
        "V1",
    ] {
        scratch.write("charts/engine-2.1.0.tgz", versioned(version));
        scratch.sealift(EXPORT).fails(3, "DocumentInvalid").says("not a chart's version");
    }
    for version in ["1", "v1.2", "01.2.3", "1.2.3-rc.1.x-y", "1.2.3-0a", "1-x+01.b-c"] {
        scratch.write("charts/engine-2.1.0.tgz", versioned(version));
        scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says("the version is not the chart's");
    }
    // Names may be longer than a header's field, and directories and comments may stand in between. A file may be
    // as large as helm takes it.
    let long = format!("engine/{}x", "templates/".repeat(20));
    let fine = [
        entry("pax_global_header", b'g', b"13 comment=x\n"),
        entry("./engine/", b'5', b""),
        entry("engine/large", b'0', &five),
        [pax("path", &long), entry("engine/cut", b'0', b"x")].concat(),
        [pax("path", "engine/Chart.yaml"), entry("engine/Cha", b'0', good.as_bytes())].concat(),
    ];
    scratch.write("charts/engine-2.1.0.tgz", packed(&fine));
    scratch.sealift(EXPORT).ok();
}

#[test]
fn only_plain_files_are_shipped() {
    let scratch = with(&[CHART, FILES]);
    type Spoil = fn(&Scratch, &str);
    let spoil: [(&str, Spoil); 4] = [
        ("there is no such file", |_, _| {}),
        ("a symbolic link", |scratch, path| symlink("/etc/hostname", scratch.path(path)).unwrap()),
        ("a directory", |scratch, path| std::fs::create_dir(scratch.path(path)).unwrap()),
        ("a pipe", |scratch, path| drop(scratch.run("mkfifo", path).ok())),
    ];
    for path in ["docs/manual.txt", "charts/engine-2.1.0.tgz"] {
        let content = scratch.read(path);
        for (says, spoil) in spoil {
            scratch.remove(path);
            spoil(&scratch, path);
            let run = scratch.sealift(EXPORT);
            let failed = run.is_failure(1, "Io") || run.is_failure(2, "ManifestInvalid");
            assert!(failed && run.stderr.contains(says) && run.stderr.contains(path), "{says}\n{run}");
            let _ = std::fs::remove_dir(scratch.path(path));
        }
        scratch.remove(path);
        scratch.write(path, content);
    }
    scratch.write("charts/engine-2.1.0.tgz.prov", "x");
    scratch.remove("charts/engine-2.1.0.tgz.prov");
    symlink("engine-2.1.0.tgz", scratch.path("charts/engine-2.1.0.tgz.prov")).unwrap();
    scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says("a symbolic link");
    scratch.holds_no_bundle();
}

/// The bundle goes into a pipe that nobody empties: its head comes out of it, so the file was planned with; its end
/// does not fit into what may be read ahead.
#[test]
fn a_file_that_changes_while_it_is_shipped_stops_the_export() {
    const LARGE: u64 = 40 << 20;
    for longer in [false, true] {
        let scratch = with(&[FILES]);
        let large = File::create(scratch.path("docs/model.bin")).unwrap();
        large.set_len(LARGE).unwrap();
        let mut command = scratch.command("export release.toml -o - --key release.key.pem");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        stdout.read_exact(&mut [0; 1]).unwrap();
        large.write_all_at(b"changed", if longer { LARGE } else { LARGE - 7 }).unwrap();
        std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3), "{said}");
        let expected = "a file changed while the release was exported: docs/model.bin [DigestMismatch]";
        assert!(said.contains(expected), "{said}");
    }
}

/// Read twice, kept never.
#[test]
fn a_large_file_takes_little_memory() {
    let scratch = with(&[FILES]);
    File::create(scratch.path("docs/model.bin")).unwrap().set_len(600 << 20).unwrap();
    let mut command = scratch.tool("sh", "");
    let sealift = env!("CARGO_BIN_EXE_sealift");
    // Threads reserve address space that they never touch.
    let script = format!("ulimit -v 600000; MALLOC_ARENA_MAX=2 exec {sealift} {EXPORT} --dry-run");
    command.arg("-c").arg(script);
    support::run(command).ok();
}

#[test]
fn people_are_told_what_they_are_and_how_to_get_them() {
    let scratch = with(&[CHART, FILES]);
    scratch.sealift(EXPORT).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    let inspected = scratch.sealift("inspect bundle.tar --trust trust").ok().stdout;
    for words in [["engine", "chart", "any"], ["docs", "file", "any"]] {
        let found = inspected.lines().any(|line| line.split_whitespace().take(3).eq(words));
        assert!(found, "{words:?}\n{inspected}");
    }
    let registry = Serving::start(&scratch, "bundle.tar --trust trust");
    let page = String::from_utf8(registry.get("/").body).unwrap();
    let address = &registry.address;
    assert!(
        page.contains(&format!("helm pull --plain-http oci://{address}/charts/engine --version 2.1.0<")),
        "{page}"
    );
    assert!(page.contains(&format!("oras pull --plain-http {address}/files/docs:2.1.0<")), "{page}");
    assert!(!page.contains("0 platforms") && !page.contains("docker pull"), "{page}");
    let contents = registry.get("/api/v1/contents").json();
    let kinds: Vec<_> =
        contents["images"].as_array().unwrap().iter().map(|image| &image["artifactType"]).collect();
    assert_eq!(kinds, ["application/vnd.cncf.helm.config.v1+json", "application/vnd.unknown.artifact.v1"]);
}
