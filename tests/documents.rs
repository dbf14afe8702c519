//! Documents that two readers could understand differently, that claim too much, or that are only odd: at
//! the source, and in a bundle that a trusted key signed all the same. What is refused is refused by both;
//! what is only odd travels to the byte.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use support::images::{Image, Layout, served};
use support::lying::{Answer, Lying};
use support::parts::{Entry, Parts, signing_key};
use support::verdict::{is_one_of, piped, refused, tags, taking_all};
use support::{EXPORT, Scratch, sha256};

const FULL: &str = "registry.example.com/tools/tool:1.0.0";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image in the layout whose one manifest is this text; the layout, too.
fn with_manifest(scratch: &Scratch, text: &str) -> Layout {
    let mut layout = Layout::new(scratch.path("images"));
    let entry = layout.blob(MANIFEST, text.as_bytes());
    layout.name(FULL, entry);
    layout
}

/// An honest image of one manifest, config and layer, with the text of its manifest.
fn single() -> (Scratch, String) {
    let scratch = Scratch::with_small_release();
    let image = Image { no_index: true, platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
    let mut layout = Layout::new(scratch.path("images"));
    let digest = layout.add(FULL, &image).replace(':', "/");
    let text = String::from_utf8(scratch.read(format!("images/blobs/{digest}"))).unwrap();
    (scratch, text)
}

/// The bundle that was exported, with these blobs instead of its own, the first of which is the image. A
/// trusted key signs that they are listed and summed up rightly.
fn forged(scratch: &Scratch, media_type: &str, blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    let before = parts.statement()["images"][0]["digest"].as_str().unwrap().to_owned();
    let digest = format!("sha256:{}", sha256(&blobs[0]));
    parts.0.truncate(5);
    parts.0.extend(blobs.iter().map(|blob| Entry::blob(blob.clone())));
    parts.edit_statement(|statement| {
        statement["images"][0]["digest"] = json!(digest);
        statement["images"][0]["mediaType"] = json!(media_type);
        for build in statement["images"][0]["platforms"].as_array_mut().unwrap() {
            if build["digest"] == before {
                build["digest"] = json!(digest);
            }
        }
    });
    let index = parts.get_mut("index.json");
    let mut document: Value = serde_json::from_slice(&index.content).unwrap();
    for entry in document["manifests"].as_array_mut().unwrap() {
        entry["digest"] = json!(digest);
        entry["mediaType"] = json!(media_type);
        entry["size"] = json!(blobs[0].len());
    }
    index.content = document.to_string().into_bytes();
    parts.restate();
    parts.resum();
    parts.resign(&signing_key(&scratch.path("release.key.pem")));
    parts.write()
}

/// A change to the text of a document.
type Edit = fn(&str) -> String;

fn edited(text: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut document = serde_json::from_str(text).unwrap();
    edit(&mut document);
    document.to_string()
}

/// Behind the first brace.
fn with_first(text: &str, more: &str) -> String {
    text.replacen('{', &format!("{{{more}"), 1)
}

fn of_digest(text: &str, digest: &str) -> String {
    edited(text, |m| m["config"]["digest"] = json!(digest))
}

/// A size in the place of the config's, whatever JSON makes of it.
fn of_size(text: &str, size: &str) -> String {
    edited(text, |m| m["config"]["size"] = json!("SIZE")).replace("\"SIZE\"", size)
}

/// What is done to a manifest; what is said at the source; and of a bundle, where that is something else.
#[rustfmt::skip]
const MANIFESTS: [(&str, Edit, &str, &str); 51] = [
    // Which of two meanings?
    ("an index's key in a manifest",     |m| edited(m, |m| m["manifests"] = json!([])),                       "DocumentAmbiguous", ""),
    ("a second spelling of layers",      |m| edited(m, |m| m["Layers"] = json!([])),                          "DocumentAmbiguous", ""),
    ("a second spelling of config",      |m| edited(m, |m| m["CONFIG"] = m["config"].clone()),                "DocumentAmbiguous", ""),
    ("schema 1's layers",                |m| edited(m, |m| m["fsLayers"] = json!([])),                        "DocumentAmbiguous", ""),
    ("schema 1's history",               |m| edited(m, |m| m["history"] = json!([])),                         "DocumentAmbiguous", ""),
    ("layers in a long s",               |m| edited(m, |m| m["layerſ"] = json!([])),                          "DocumentAmbiguous", ""),
    ("two spellings in a descriptor",    |m| edited(m, |m| m["layers"][0]["Digest"] = json!(format!("sha256:{}", "0".repeat(64)))), "DocumentAmbiguous", ""),
    ("layers twice",                     |m| with_first(m, r#""layers":[],"#),                                "DocumentAmbiguous", ""),
    ("the media type twice",             |m| with_first(m, &format!(r#""mediaType":"{INDEX}","#)),            "DocumentAmbiguous", ""),
    ("an annotation twice",              |m| with_first(m, r#""annotations":{"a":"1","a":"2"},"#),            "DocumentAmbiguous", ""),
    ("embedded data that is another's",  |m| edited(m, |m| m["config"]["data"] = json!("e30=")),              "DigestMismatch", ""),
    ("embedded data that is no base64",  |m| edited(m, |m| m["config"]["data"] = json!("%%%")),               "DigestMismatch", ""),
    ("embedded data of a layer",         |m| edited(m, |m| m["layers"][0]["data"] = json!("e30=")),           "DigestMismatch", ""),
    ("another media type of its own",    |m| edited(m, |m| m["mediaType"] = json!(INDEX)),                    "MediaTypeMismatch", ""),
    ("Docker's media type of its own",   |m| edited(m, |m| m["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json")), "MediaTypeMismatch", ""),

    // Which version?
    ("schema version 3",                 |m| edited(m, |m| m["schemaVersion"] = json!(3)),                    "DocumentInvalid", ""),
    ("schema version 1",                 |m| edited(m, |m| m["schemaVersion"] = json!(1)),                    "DocumentUnsupported", ""),
    ("schema version 1, signed",         |_| json!({ "schemaVersion": 1, "name": "a", "tag": "b", "architecture": "amd64", "signatures": [] }).to_string(), "DocumentUnsupported", ""),
    ("no schema version",                |m| edited(m, |m| _ = m.as_object_mut().unwrap().remove("schemaVersion")), "DocumentInvalid", ""),

    // Is it JSON?
    ("nothing",                          |_| " ".into(),                                                      "DocumentInvalid", ""),
    ("null",                             |_| "null".into(),                                                   "DocumentInvalid", ""),
    ("a list",                           |m| format!("[{m}]"),                                                "DocumentInvalid", ""),
    ("a byte order mark",                |m| format!("\u{feff}{m}"),                                          "DocumentInvalid", ""),
    ("something behind it",              |m| format!("{m}{{}}"),                                              "DocumentInvalid", ""),
    ("a comment",                        |m| format!("{m}//"),                                                "DocumentInvalid", ""),
    ("a comma too many",                 |m| m.replacen("[{", "[,{", 1),                                      "DocumentInvalid", ""),
    ("single quotes",                    |m| m.replace('"', "'"),                                             "DocumentInvalid", ""),
    ("a NUL behind it",                  |m| format!("{m}\0"),                                                "DocumentInvalid", ""),
    ("cut short",                        |m| m[..m.len() - 1].into(),                                         "DocumentInvalid", ""),
    ("a hundred thousand levels",        |m| with_first(m, &format!(r#""annotations":{}{},"#, "[".repeat(100_000), "]".repeat(100_000))), "DocumentInvalid", ""),
    ("a terminal's commands",            |m| edited(m, |m| m["config"]["mediaType"] = json!(7)).replace("schemaVersion", "\\u001b[2J"), "DocumentInvalid or DocumentAmbiguous", ""),

    // How much of what?
    ("a negative size",                  |m| of_size(m, "-1"),                                                "DocumentInvalid", ""),
    ("a size that is a text",            |m| of_size(m, "\"12\""),                                            "DocumentInvalid", ""),
    ("a size with a fraction",           |m| of_size(m, "12.5"),                                              "DocumentInvalid", ""),
    ("a size that is not a number",      |m| of_size(m, "NaN"),                                               "DocumentInvalid", ""),
    ("a size of 2^63",                   |m| of_size(m, "9223372036854775808"),                               "DocumentInvalid", ""),
    ("a size of 2^64",                   |m| of_size(m, "18446744073709551616"),                              "DocumentInvalid", ""),
    ("a size of 1e400",                  |m| of_size(m, "1e400"),                                             "DocumentInvalid", ""),
    ("a smaller size",                   |m| of_size(m, "1"),                                                 "SizeMismatch",    "BlobMissing or SizeMismatch"),
    ("a larger size",                    |m| of_size(m, "4000000"),                                           "SizeMismatch",    "BlobMissing or SizeMismatch"),
    ("an enormous size",                 |m| of_size(m, "9223372036854775807"),                               "LimitExceeded",   ""),

    // Which content?
    ("a digest that leads elsewhere",    |m| of_digest(m, "sha256:../../../etc/passwd"),                      "DocumentInvalid", ""),
    ("an upper-case digest",             |m| edited(m, |m| { let d = m["config"]["digest"].as_str().unwrap().to_uppercase(); m["config"]["digest"] = json!(d) }), "DocumentInvalid", ""),
    ("upper-case digits",                |m| of_digest(m, &format!("sha256:{}", "A".repeat(64))),             "DocumentInvalid or DigestInvalid", ""),
    ("a short digest",                   |m| of_digest(m, "sha256:abc"),                                      "DocumentInvalid or DigestInvalid", ""),
    ("a digest of nothing",              |m| of_digest(m, ""),                                                "DocumentInvalid or DigestInvalid", ""),
    ("a digest by MD5",                  |m| of_digest(m, "md5:d41d8cd98f00b204e9800998ecf8427e"),            "DigestInvalid", ""),
    ("a digest by SHA-512",              |m| of_digest(m, &format!("sha512:{}", "0".repeat(128))),            "DigestInvalid", ""),
    ("layers that are no list",          |m| edited(m, |m| m["layers"] = json!({})),                          "DocumentInvalid", ""),
    ("no config",                        |m| edited(m, |m| _ = m.as_object_mut().unwrap().remove("config")),  "DocumentInvalid", ""),
    ("ten thousand and one layers",      |m| edited(m, |m| { let layer = m["layers"][0].clone(); m["layers"] = vec![layer; 10_000].into() }), "LimitExceeded", ""),
];

#[test]
fn a_source_with_a_hostile_manifest_gives_no_bundle() {
    let mut wrong = Vec::new();
    for (name, edit, kind, _) in MANIFESTS {
        let (scratch, text) = single();
        with_manifest(&scratch, &edit(&text));
        let run = scratch.sealift(EXPORT);
        if !is_one_of(&run, 3, kind) || run.stderr.contains('\u{1b}') {
            wrong.push(format!("{name}: expected [{kind}]\n{run}"));
        }
        scratch.holds_no_bundle();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_trusted_signature_does_not_excuse_a_hostile_manifest() {
    let (scratch, text) = single();
    scratch.sealift(EXPORT).ok();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let [manifest, config, layer] = &parts.0[5..] else { panic!("three blobs") };
    assert_eq!(manifest.content, text.as_bytes());
    let blobs = |text: &str| [text.as_bytes().to_vec(), config.content.clone(), layer.content.clone()];
    // The helper itself makes good bundles: it can be blamed for no refusal.
    assert!(forged(&scratch, MANIFEST, &blobs(&text)) == scratch.read("bundle.tar"));
    let mut wrong = Vec::new();
    for (name, edit, kind, signed) in MANIFESTS {
        scratch.write("spoiled.tar", forged(&scratch, MANIFEST, &blobs(&edit(&text))));
        let kind = if signed.is_empty() { kind } else { signed };
        if let Err(what) = refused(&scratch, "spoiled.tar", kind, kind) {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_hostile_digest_reaches_no_url() {
    // Nothing is asked for but the tag.
    for (name, edit, kind, _) in MANIFESTS.iter().filter(|(name, ..)| name.contains("digest")) {
        let (scratch, text) = single();
        with_manifest(&scratch, &edit(&text));
        let server = served(scratch.path("images"), |_, _| None);
        let run = scratch.sealift(&EXPORT.replace("oci:images", &server.host()));
        assert!(is_one_of(&run, 3, kind), "{name}\n{run}");
        let paths: Vec<_> = server.seen().into_iter().map(|request| request.path).collect();
        assert_eq!(paths, ["/v2/tools/tool/manifests/1.0.0"], "{name}");
    }
}

// ── Configs ──────────────────────────────────────────────────────────────────────────────────────

#[rustfmt::skip]
const CONFIGS: [(&str, Edit, &str); 8] = [
    ("an architecture twice",      |c| with_first(c, r#""architecture":"riscv64","#),         "DocumentAmbiguous"),
    ("an architecture in disguise", |c| with_first(c, r#""Architecture":"riscv64","#),        "DocumentAmbiguous"),
    ("a manifest's layers",        |c| with_first(c, r#""layers":[],"#),                      "DocumentAmbiguous"),
    ("layers twice",               |c| c.replacen(r#""diff_ids""#, r#""Diff_IDs":[],"diff_ids""#, 1), "DocumentAmbiguous"),
    ("a list",                     |c| format!("[{c}]"),                                      "DocumentInvalid"),
    ("a byte order mark",          |c| format!("\u{feff}{c}"),                                "DocumentInvalid"),
    ("something behind it",        |c| format!("{c} x"),                                      "DocumentInvalid"),
    ("more than four MiB",         |c| format!("{c}{}", " ".repeat(4 << 20)),                 "LimitExceeded"),
];

#[test]
fn a_hostile_image_config_is_refused() {
    let (honest, text) = single();
    honest.sealift(EXPORT).ok();
    let parts = Parts::read(&honest.read("bundle.tar"));
    let config = String::from_utf8(parts.0[6].content.clone()).unwrap();
    for (name, edit, kind) in CONFIGS {
        let spoiled = edit(&config);
        assert_ne!(spoiled, config, "{name}");
        let (scratch, _) = single();
        let layout = Layout::new(scratch.path("images"));
        let entry = layout.blob(CONFIG, spoiled.as_bytes());
        let manifest = edited(&text, |m| m["config"] = entry);
        with_manifest(&scratch, &manifest);
        let run = scratch.sealift(EXPORT);
        assert!(is_one_of(&run, 3, kind), "{name}\n{run}");
        scratch.holds_no_bundle();
        let blobs = [manifest.into_bytes(), spoiled.into_bytes(), parts.0[7].content.clone()];
        honest.write("spoiled.tar", forged(&honest, MANIFEST, &blobs));
        refused(&honest, "spoiled.tar", kind, kind).unwrap_or_else(|what| panic!("{name}: {what}"));
    }
}

// ── Indexes ──────────────────────────────────────────────────────────────────────────────────────

fn index(entries: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries })
}

/// Index upon index upon a manifest.
fn nested(layout: &mut Layout, text: &str, levels: usize) {
    let mut entry = layout.blob(MANIFEST, text.as_bytes());
    for _ in 0..levels {
        entry = layout.document(&index(&[entry]));
    }
    layout.name(FULL, entry);
}

#[test]
fn four_levels_of_indexes_are_carried_and_five_are_refused() {
    let (scratch, text) = single();
    let mut layout = Layout::new(scratch.path("images"));
    nested(&mut layout, &text, 4);
    scratch.sealift(EXPORT).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    assert_eq!(parts.0.len(), 5 + 4 + 3);
    nested(&mut layout, &text, 5);
    scratch.sealift(&EXPORT.replace("bundle.tar", "deep.tar")).fails(3, "LimitExceeded").says("at most 4");
    // One more level above those that are signed already.
    let below = parts.0[5..].iter().map(|entry| entry.content.clone());
    let top = json!({ "mediaType": INDEX, "digest": format!("sha256:{}", sha256(&parts.0[5].content)),
        "size": parts.0[5].content.len() });
    let blobs: Vec<_> = std::iter::once(index(&[top]).to_string().into_bytes()).chain(below).collect();
    scratch.write("spoiled.tar", forged(&scratch, INDEX, &blobs));
    refused(&scratch, "spoiled.tar", "LimitExceeded", "LimitExceeded").unwrap();
}

#[test]
fn an_index_that_names_too_much_is_refused() {
    let (scratch, text) = single();
    let mut layout = Layout::new(scratch.path("images"));
    let entry = layout.blob(MANIFEST, text.as_bytes());
    let top = layout.document(&index(&vec![entry; 10_001]));
    layout.name(FULL, top);
    scratch.sealift(EXPORT).fails(3, "LimitExceeded").says("at most 10000");
    // Many that are not too much each: 101 indexes of ten thousand.
    let config = layout.blob("application/vnd.example.config", b"{}");
    let small = layout
        .document(&json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] }));
    let many = (0..101).map(|number| {
        let mut wide = index(&vec![small.clone(); 10_000]);
        wide["annotations"] = json!({ "number": number.to_string() });
        layout.document(&wide)
    });
    let many: Vec<_> = many.collect();
    let top = layout.document(&index(&many));
    layout.name(FULL, top);
    scratch.sealift(EXPORT).fails(3, "LimitExceeded");
    scratch.holds_no_bundle();
}

/// A change to a parsed document.
type Change = fn(&mut Value);

#[rustfmt::skip]
const INDEXES: [(&str, Change, &str); 9] = [
    ("a child that is a layer",      |i| i["manifests"][0]["mediaType"] = json!(LAYER),                            "DocumentUnsupported"),
    ("a child of schema 1",          |i| i["manifests"][0]["mediaType"] = json!("application/vnd.docker.distribution.manifest.v1+prettyjws"), "DocumentUnsupported"),
    ("a child that is an index",     |i| i["manifests"][0]["mediaType"] = json!(INDEX),                            "MediaTypeMismatch or DocumentAmbiguous"),
    ("layers",                       |i| i["layers"] = json!([]),                                                  "DocumentAmbiguous"),
    ("a config",                     |i| i["config"] = i["manifests"][0].clone(),                                  "DocumentAmbiguous"),
    ("manifests in disguise",        |i| i["Manifests"] = json!([]),                                               "DocumentAmbiguous"),
    ("a platform in disguise",       |i| i["manifests"][0]["platform"]["OS"] = json!("windows"),                   "DocumentAmbiguous"),
    ("another architecture",         |i| i["manifests"][0]["platform"]["architecture"] = json!("arm64"),           "PlatformMismatch"),
    ("another system",               |i| i["manifests"][0]["platform"]["os"] = json!("windows"),                   "PlatformMismatch"),
];

#[test]
fn a_hostile_index_is_refused() {
    for (name, edit, kind) in INDEXES {
        let scratch = Scratch::with_small_release().exported();
        let parts = Parts::read(&scratch.read("bundle.tar"));
        let mut document: Value = serde_json::from_slice(&parts.0[5].content).unwrap();
        edit(&mut document);
        let mut layout = Layout::new(scratch.path("images"));
        let entry = layout.document(&document);
        layout.name(FULL, entry);
        let run = scratch.sealift(&EXPORT.replace("bundle.tar", "again.tar"));
        assert!(is_one_of(&run, 3, kind) && !scratch.has("again.tar"), "{name}\n{run}");
        let below = parts.0[6..].iter().map(|entry| entry.content.clone());
        let blobs: Vec<_> = std::iter::once(document.to_string().into_bytes()).chain(below).collect();
        scratch.write("spoiled.tar", forged(&scratch, INDEX, &blobs));
        refused(&scratch, "spoiled.tar", kind, kind).unwrap_or_else(|what| panic!("{name}: {what}"));
    }
}

#[test]
fn a_platform_that_an_index_does_not_name_or_names_twice_is_carried_as_it_is() {
    let (scratch, text) = single();
    let mut layout = Layout::new(scratch.path("images"));
    let mut entry = layout.blob(MANIFEST, text.as_bytes());
    let other = edited(&text, |m| m["annotations"] = json!({ "build": "2" }));
    let mut second = layout.blob(MANIFEST, other.as_bytes());
    let nameless = layout.document(&index(&[entry.clone()]));
    entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    second["platform"] = entry["platform"].clone();
    let twice = layout.document(&index(&[entry, second]));
    for (top, count) in [(nameless, 1), (twice, 2)] {
        layout.name(FULL, top);
        scratch.sealift(&format!("{EXPORT} --overwrite")).ok();
        scratch.sealift("verify bundle.tar --trust trust").ok();
        let statement = Parts::read(&scratch.read("bundle.tar")).statement();
        let platforms = statement["images"][0]["platforms"].as_array().unwrap().clone();
        assert_eq!(platforms.len(), count);
        assert!(platforms.iter().all(|build| build["platform"] == "linux/amd64"));
    }
}

// ── Sizes ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn four_mebibytes_of_manifest_are_carried_and_a_byte_more_is_refused() {
    let (scratch, text) = single();
    let exactly = |bytes: usize| {
        let filled = with_first(&text, r#""annotations":{"a":"FILL"},"#);
        filled.replace("FILL", &"x".repeat(bytes - (filled.len() - "FILL".len())))
    };
    with_manifest(&scratch, &exactly(4 << 20));
    scratch.sealift(EXPORT).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    piped(&scratch, "bundle.tar", "import - --to oci:there --trust trust --state elsewhere").ok();
    let blobs: Vec<_> =
        Parts::read(&scratch.read("bundle.tar")).0[6..].iter().map(|e| e.content.clone()).collect();
    let larger = exactly((4 << 20) + 1);
    with_manifest(&scratch, &larger);
    scratch.sealift(&EXPORT.replace("bundle.tar", "larger.tar")).fails(3, "LimitExceeded");
    assert!(!scratch.has("larger.tar"));
    let blobs = [vec![larger.into_bytes()], blobs].concat();
    scratch.write("spoiled.tar", forged(&scratch, MANIFEST, &blobs));
    refused(&scratch, "spoiled.tar", "LimitExceeded", "LimitExceeded or TarOrder").unwrap();
}

#[test]
fn images_without_layers_and_with_thousands_are_carried() {
    let (scratch, text) = single();
    let layer: Value = serde_json::from_str::<Value>(&text).unwrap()["layers"][0].clone();
    for count in [0, 1, 9_999] {
        with_manifest(&scratch, &edited(&text, |m| m["layers"] = vec![layer.clone(); count].into()));
        scratch.sealift(&format!("{EXPORT} --overwrite")).ok();
        scratch.sealift("verify bundle.tar --trust trust").ok();
        assert_eq!(Parts::read(&scratch.read("bundle.tar")).0.len(), 5 + 2 + count.min(1));
    }
}

// ── Odd, and to be left alone ────────────────────────────────────────────────────────────────────

/// Carries an image of this manifest, whose blobs are in the layout, from a registry into a layout and into
/// a registry. Everything must arrive as it was.
#[track_caller]
fn carried(scratch: &Scratch, text: &str) {
    // Another image under the same name: nothing may be remembered of the last one.
    let _ = std::fs::remove_dir_all(scratch.path("home/state"));
    with_manifest(scratch, text);
    let source = served(scratch.path("images"), |_, _| None);
    scratch.sealift(&format!("{} --overwrite", EXPORT.replace("oci:images", &source.host()))).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    let _ = std::fs::remove_dir_all(scratch.path("there"));
    scratch.sealift("import bundle.tar --to oci:there --trust trust").ok();
    assert_eq!(scratch.read(format!("there/blobs/sha256/{}", sha256(text.as_bytes()))), text.as_bytes());
    let entries = Parts::read(&scratch.read("bundle.tar")).0;
    for entry in &entries[5..] {
        assert_eq!(scratch.read(format!("there/{}", entry.path)), entry.content);
        assert_eq!(scratch.read(format!("images/{}", entry.path)), entry.content);
    }
    let server = taking_all();
    scratch.sealift(&format!("import bundle.tar --to {} --trust trust", server.host())).ok();
    let tag = server.seen().into_iter().find(|r| r.method == "PUT" && r.path.ends_with("/manifests/1.0.0"));
    assert_eq!(tag.unwrap().body, text.as_bytes());
}

#[test]
fn white_space_and_the_order_of_keys_travel_to_the_byte() {
    let (scratch, text) = single();
    let m: Value = serde_json::from_str(&text).unwrap();
    let odd = format!(
        "\r\n\t{{ \"layers\" : {},\n\n \"x-unknown\": [1.0, 1e2, \"\\u0041\\/\"],\n\"config\":{} , \"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\"}}\n \n",
        m["layers"], m["config"]
    );
    carried(&scratch, &odd);
}

#[test]
fn artifacts_of_unknown_types_travel_to_the_byte() {
    let (scratch, _) = single();
    let layout = Layout::new(scratch.path("images"));
    for (config, content, layer, artifact) in [
        (
            "application/vnd.cncf.helm.config.v1+json",
            &b"{\"name\":\"chart\"}"[..],
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            None,
        ),
        ("application/vnd.wasm.config.v0+json", b"{}", "application/wasm", Some("application/vnd.wasm")),
        ("application/vnd.oci.empty.v1+json", b"{}", "text/plain", Some("text/x-example; v=1")),
        ("application/vnd.example.binary", b"\x00\xff not JSON", "application/octet-stream", None),
    ] {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": layout.blob(config, content), "layers": [layout.blob(layer, layer.as_bytes())],
        });
        if let Some(artifact) = artifact {
            manifest["artifactType"] = json!(artifact);
        }
        carried(&scratch, &manifest.to_string());
    }
}

#[test]
fn layers_that_are_indexed_or_compressed_otherwise_travel_to_the_byte() {
    let (scratch, text) = single();
    let layout = Layout::new(scratch.path("images"));
    let toc = |key: &str| json!({ key: format!("sha256:{}", "a".repeat(64)) });
    let mut stargz = layout.blob(&format!("{LAYER}+gzip"), b"estargz");
    stargz["annotations"] = toc("containerd.io/snapshot/stargz/toc.digest");
    let mut chunked = layout.blob(&format!("{LAYER}+zstd"), b"zstd:chunked");
    chunked["annotations"] = toc("io.github.containers.zstd-chunked.manifest-checksum");
    let encrypted = layout.blob(&format!("{LAYER}+gzip+encrypted"), b"encrypted");
    carried(&scratch, &edited(&text, |m| m["layers"] = json!([stargz, chunked, encrypted])));
}

#[test]
fn a_config_that_counts_its_layers_otherwise_travels_to_the_byte() {
    // What is inside of layers is not looked at: it is for who runs the image to judge.
    let (scratch, text) = single();
    let layout = Layout::new(scratch.path("images"));
    for diff_ids in [json!([]), json!([format!("sha256:{}", "0".repeat(64))]), json!(["x", "y", "z"])] {
        let config = json!({ "os": "linux", "architecture": "amd64",
            "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = layout.blob(CONFIG, config.to_string().as_bytes());
        carried(&scratch, &edited(&text, |m| m["config"] = config));
    }
}

#[test]
fn a_subject_elsewhere_is_kept_and_not_fetched() {
    let (scratch, text) = single();
    let subject =
        json!({ "mediaType": MANIFEST, "digest": format!("sha256:{}", "5".repeat(64)), "size": 500 });
    carried(&scratch, &edited(&text, |m| m["subject"] = subject));
    assert!(!scratch.has(format!("there/blobs/sha256/{}", "5".repeat(64))));
}

#[test]
fn dockers_first_manifests_are_refused_with_a_hint_wherever_they_come_from() {
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::open(scratch.path("images"));
    let text = br#"{"schemaVersion":1,"name":"t","tag":"1","fsLayers":[],"history":[],"signatures":[]}"#;
    for kind in ["application/vnd.docker.distribution.manifest.v1+prettyjws", MANIFEST] {
        let first = layout.blob(kind, text);
        layout.name(FULL, first);
        let source = served(scratch.path("images"), move |request, content| {
            let manifest = request.path.contains("/manifests/");
            let answer =
                Answer::new(200).header("Content-Type", kind).header("Content-Length", content.len());
            manifest.then(|| answer.body(content))
        });
        for place in ["oci:images", &source.host()] {
            let run = scratch.sealift(&EXPORT.replace("oci:images", place));
            run.fails(3, "DocumentUnsupported").says("schema 1").says("push the image again");
        }
    }
}

#[test]
fn urls_of_a_foreign_layer_are_never_asked() {
    let elsewhere = Lying::start(|_, _| Answer::new(200).body("a foreign layer"));
    let (scratch, text) = single();
    let layout = Layout::new(scratch.path("images"));
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let mut layer = layout.blob(foreign, b"a foreign layer");
    let urls = [&format!("http://{}/layer", elsewhere.host()), "http://169.254.169.254/latest/meta-data"];
    layer["urls"] = json!(urls);
    let text = edited(&text, |m| m["layers"] = json!([layer]));
    // The registry has it: it travels like any other.
    carried(&scratch, &text);
    // The registry lacks it: so does the bundle, and says so.
    scratch.remove(format!("images/blobs/sha256/{}", sha256(b"a foreign layer")));
    scratch.remove("bundle.tar");
    let source = served(scratch.path("images"), |_, _| None);
    let said = scratch.sealift(&EXPORT.replace("oci:images", &source.host())).ok().stdout;
    assert!(said.contains(&format!("left out sha256:{}", sha256(b"a foreign layer"))), "{said}");
    scratch.sealift("verify bundle.tar --trust trust").ok();
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn what_an_image_says_of_itself_is_in_no_output() {
    let scratch = Scratch::with_small_release();
    let canary = "label-canary-7";
    let mut layout = Layout::new(scratch.path("images"));
    layout.add(FULL, &Image::new(canary));
    for command in [
        format!("{EXPORT} --progress plain"),
        format!("{} --dry-run --json", EXPORT.replace("-o bundle.tar", "")),
        "verify bundle.tar --trust trust --json".to_owned(),
        "inspect bundle.tar --trust trust".to_owned(),
        "inspect bundle.tar --trust trust --json".to_owned(),
        "import bundle.tar --to oci:there --trust trust --json --progress plain".to_owned(),
    ] {
        let run = scratch.sealift(&command).ok();
        assert!(!run.to_string().contains(canary), "{run}");
    }
    // It was there to be said.
    let bundle = scratch.read("bundle.tar");
    assert!(bundle.windows(canary.len()).any(|window| window == canary.as_bytes()));
}

// ── Somebody's layout ────────────────────────────────────────────────────────────────────────────

type Spoil = fn(&Scratch);

fn with_index(scratch: &Scratch, edit: impl FnOnce(&mut Value)) {
    let mut index = serde_json::from_slice(&scratch.read("images/index.json")).unwrap();
    edit(&mut index);
    scratch.write("images/index.json", index.to_string());
}

/// The one blob of the layout that is not JSON.
fn layer_path(scratch: &Scratch) -> String {
    let blobs = std::fs::read_dir(scratch.path("images/blobs/sha256")).unwrap().map(Result::unwrap);
    let largest = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap();
    format!("images/blobs/sha256/{}", largest.file_name().to_string_lossy())
}

fn renamed(scratch: &Scratch, name: &str) {
    with_index(scratch, |i| {
        i["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = json!(name)
    });
}

#[rustfmt::skip]
const LAYOUTS: [(&str, Spoil, i32, &str); 30] = [
    ("no oci-layout",                  |s| s.remove("images/oci-layout"),                                      3, "LayoutInvalid"),
    ("another version",                |s| s.write("images/oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#),  3, "LayoutInvalid"),
    ("no version",                     |s| s.write("images/oci-layout", "{}"),                                 3, "LayoutInvalid"),
    ("an oci-layout that is no JSON",  |s| s.write("images/oci-layout", "1.0.0"),                              3, "LayoutInvalid"),
    ("an endless oci-layout",          |s| s.write("images/oci-layout", " ".repeat(10_000)),                   3, "LayoutInvalid or LimitExceeded"),
    ("no index.json",                  |s| s.remove("images/index.json"),                                      1, "Io"),
    ("an empty index.json",            |s| s.write("images/index.json", ""),                                   3, "LayoutInvalid"),
    ("null",                           |s| s.write("images/index.json", "null"),                               3, "LayoutInvalid"),
    ("a list",                         |s| s.write("images/index.json", "[]"),                                 3, "LayoutInvalid"),
    ("no manifests",                   |s| s.write("images/index.json", r#"{"schemaVersion":2}"#),             3, "LayoutInvalid"),
    ("a hundred thousand levels",      |s| s.write("images/index.json", "[".repeat(100_000)),                  3, "LayoutInvalid"),
    ("objects without end",            |s| s.write("images/index.json", r#"{"a":"#.repeat(100_000)),           3, "LayoutInvalid"),
    ("manifests twice",                |s| { let i = String::from_utf8(s.read("images/index.json")).unwrap(); s.write("images/index.json", with_first(&i, r#""manifests":[],"#)) }, 3, "LayoutInvalid"),
    ("manifests in disguise",          |s| with_index(s, |i| i["Manifests"] = json!([])),                      3, "LayoutInvalid"),
    ("another schema",                 |s| with_index(s, |i| i["schemaVersion"] = json!(1)),                   3, "LayoutInvalid"),
    ("a digest that leads elsewhere",  |s| with_index(s, |i| i["manifests"][0]["digest"] = json!("sha256:../../release.key.pem")), 3, "LayoutInvalid"),
    ("more than 32 MiB",               |s| std::fs::OpenOptions::new().write(true).open(s.path("images/index.json")).unwrap().set_len((32 << 20) + 1).unwrap(), 3, "LimitExceeded"),
    ("a pipe for an index",            |s| { s.remove("images/index.json"); s.run("mkfifo", "images/index.json").ok(); }, 1, "Io"),
    ("a layer for an image",           |s| with_index(s, |i| i["manifests"][0]["mediaType"] = json!(LAYER)),   3, "DocumentUnsupported"),
    ("a size that is a lie",           |s| with_index(s, |i| i["manifests"][0]["size"] = json!(1)),            3, "SizeMismatch"),
    ("an enormous size",               |s| with_index(s, |i| i["manifests"][0]["size"] = json!(1u64 << 40)),   3, "LimitExceeded"),
    ("one name for two images",        |s| with_index(s, |i| { let mut other = i["manifests"][0].clone(); other["digest"] = json!(format!("sha256:{}", "0".repeat(64))); i["manifests"].as_array_mut().unwrap().push(other) }), 2, "RefAmbiguous"),
    ("a name that leads elsewhere",    |s| renamed(s, "../../etc/passwd:1.0.0"),                               1, "NotFound"),
    ("a name for a shell",             |s| renamed(s, "$(reboot); `reboot` | reboot"),                         1, "NotFound"),
    ("a name for a terminal",          |s| renamed(s, "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}"),                 1, "NotFound"),
    ("a name of ten thousand bytes",   |s| renamed(s, &"x".repeat(10_000)),                                    1, "NotFound"),
    ("a blob that is a directory",     |s| { let b = layer_path(s); s.remove(&b); std::fs::create_dir(s.path(b)).unwrap() },  1, "Io"),
    ("a blob that is a link",          |s| { let b = layer_path(s); std::fs::rename(s.path(&b), s.path("elsewhere")).unwrap(); symlink(s.path("elsewhere"), s.path(b)).unwrap() }, 1, "Io"),
    ("a blob that is a pipe",          |s| { let b = layer_path(s); s.remove(&b); s.run("mkfifo", &b).ok(); },                1, "Io"),
    ("a blob that is missing",         |s| s.remove(layer_path(s)),                                            3, "BlobMissing"),
];

#[test]
fn a_layout_that_is_not_one_gives_no_bundle() {
    let mut wrong = Vec::new();
    for (name, spoil, code, kind) in LAYOUTS {
        let scratch = Scratch::with_small_release();
        scratch.sealift(&EXPORT.replace("-o bundle.tar", "--dry-run")).ok();
        spoil(&scratch);
        let run = scratch.sealift(EXPORT);
        let raw = run.stderr.chars().any(|c| c.is_control() && c != '\n') || run.stderr.contains('\u{202e}');
        if !is_one_of(&run, code, kind) || raw || run.stderr.len() > 3000 {
            wrong.push(format!("{name}: expected exit {code} [{kind}]\n{run}"));
        }
        scratch.holds_no_finished_bundle();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// ── Names in a signed statement ──────────────────────────────────────────────────────────────────

#[test]
fn a_trusted_signature_makes_no_name_a_good_one() {
    let scratch = Scratch::with_small_release().exported();
    let good = Parts::read(&scratch.read("bundle.tar"));
    let key = signing_key(&scratch.path("release.key.pem"));
    for (field, value) in [
        ("source", json!("registry.example.com/../tool:1.0.0")),
        ("source", json!("registry.example.com/tools/../../tool:1.0.0")),
        ("source", json!("user:password@registry.example.com/tools/tool:1.0.0")),
        ("source", json!("http://registry.example.com/tools/tool:1.0.0")),
        ("source", json!("registry.example.com/tools/tool:$(reboot)")),
        ("source", json!("registry.example.com/tools/tool:\u{1b}[2J")),
        ("source", json!(format!("registry.example.com/{}:1.0.0", "x".repeat(10_000)))),
        ("source", json!(7)),
        ("tags", json!(["1.0.0", "../latest"])),
        ("tags", json!(["1.0.0", "a b"])),
        ("tags", json!(["1.0.0", ""])),
        ("tags", json!(["1.0.0", "x".repeat(129)])),
        ("digest", json!("sha256:../../etc/passwd")),
        ("digest", json!("SHA256:00")),
    ] {
        let mut parts = good.clone();
        parts.edit_statement(|statement| statement["images"][0][field] = value.clone());
        parts.resum();
        parts.resign(&key);
        scratch.write("spoiled.tar", parts.write());
        refused(&scratch, "spoiled.tar", "StatementInvalid", "StatementInvalid")
            .unwrap_or_else(|what| panic!("{value}: {what}"));
    }
}

#[test]
fn two_images_of_a_bundle_may_not_have_one_name() {
    let scratch = Scratch::with_release().exported();
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.edit_statement(|statement| {
        let image = statement["images"][0].clone();
        for field in ["source", "tags"] {
            statement["images"][1][field] = image[field].clone();
        }
    });
    parts.resum();
    parts.resign(&signing_key(&scratch.path("release.key.pem")));
    scratch.write("spoiled.tar", parts.write());
    let kind = "StatementInvalid or LayoutInvalid";
    refused(&scratch, "spoiled.tar", kind, kind).unwrap();
    let server = taking_all();
    assert_eq!(tags(&server), [""; 0]);
}
