//! Images and artifacts of every odd but legal kind, each under a repository that is named after what is odd
//! about it, and ways to put them into registries and to compare what came out, without any of the program's code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::images::{Image, Layout, random};
use super::pushing::{INDEX, MANIFEST};
use super::serving::{Connection, Reply};
use super::{Scratch, sha256};

pub const REGISTRY: &str = "registry.example.com";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A layer that Microsoft alone hands out (Docker's image manifest specification, schema 2).
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// The largest document that registries take.
const LARGEST: usize = 4 << 20;

/// One of them.
pub struct Odd {
    /// What is odd about it; its repository below `odd/`.
    pub what: &'static str,
    /// Its top document.
    pub top: Value,
    /// It is asked for by its digest.
    pub by_digest: bool,
}

impl Odd {
    /// The top document's digest.
    pub fn digest(&self) -> &str {
        self.top["digest"].as_str().unwrap()
    }

    /// What a bundle calls it.
    pub fn tag(&self) -> String {
        if self.by_digest { self.digest().replace(':', "-") } else { "1.0.0".to_owned() }
    }
}

/// All of them, in the layout `images`, with `release.toml`, a key and a trust store.
pub fn scratch() -> (Scratch, Vec<Odd>) {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let all = all(&layout);
    let mut manifest = "schema = 1\nname = \"odd\"\nversion = \"1.0.0\"\ntier = \"community\"\n\
                        channel = \"development\"\nregistry = \"registry.example.com\"\n"
        .to_owned();
    for odd in &all {
        let tag = if odd.by_digest { odd.digest() } else { "{version}" };
        manifest += &format!(
            "\n[[image]]\nname = \"{0}\"\nrepository = \"odd/{0}\"\ntags = {{ standard = \"{tag}\" }}\n",
            odd.what
        );
        match odd.by_digest {
            true => _ = layout.unnamed(odd.top.clone()),
            false => _ = layout.name(&format!("{REGISTRY}/odd/{}:1.0.0", odd.what), odd.top.clone()),
        }
    }
    scratch.write("release.toml", manifest);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    (scratch, all)
}

fn all(layout: &Layout) -> Vec<Odd> {
    let image =
        |seed: &str| Image { platforms: vec!["linux/amd64", "linux/arm64"], layer: 300, ..Image::new(seed) };
    let inner = layout.image(&image("inner"));
    let plain = layout.image(&Image { no_index: true, platforms: vec!["linux/amd64"], ..image("plain") });
    let layer = |media_type: &str, content: &[u8]| layout.blob(media_type, content);
    let gz = layer(GZIP, &random("a gzip layer", 400));
    let of = |layers: Vec<Value>| manifest(layout, layers, json!({}));
    let index = |children: Vec<Value>, more: Value| {
        let mut index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
        index.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        layout.document(&index)
    };
    let text = random("uncompressed", 700);
    let zstd = zstd_frame(&text);
    let mut kinds: Vec<(&'static str, Value)> = vec![
        (
            "nested-index",
            index(vec![index(vec![inner.clone()], json!({ "annotations": { "level": "2" } }))], json!({})),
        ),
        ("docker-list", layout.image(&Image { docker: true, ..image("docker") })),
        ("docker-schema2", layout.image(&Image { docker: true, no_index: true, ..image("schema2") })),
        ("zstd-layer", of(vec![layer(ZSTD, &zstd)])),
        ("zstd-chunked-layer", of(vec![zstd_chunked(layout, &zstd)])),
        ("estargz-layer", of(vec![estargz(layout)])),
        ("uncompressed-layer", of(vec![layer(TAR, &tar_file())])),
        ("empty-tar-layer", of(vec![layer(TAR, &[0; 1024])])),
        ("layer-of-no-bytes", of(vec![layer(TAR, b""), gz.clone()])),
        ("no-layers", of(vec![])),
        ("same-layer-twice", of(vec![gz.clone(), layer(GZIP, b"between"), gz.clone()])),
        ("attested", layout.image(&Image { attested: true, ..image("attested") })),
        (
            "platforms-unknown",
            index(
                vec![with(&plain, json!({ "platform": { "os": "unknown", "architecture": "unknown" } }))],
                json!({}),
            ),
        ),
        (
            "one-manifest-two-platforms",
            index(
                vec![
                    platform(&plain, "amd64"),
                    with(
                        &plain,
                        json!({ "platform": { "os": "linux", "architecture": "amd64", "variant": "v2" } }),
                    ),
                ],
                json!({}),
            ),
        ),
        ("child-twice", index(vec![inner.clone(), inner.clone()], json!({}))),
        ("index-of-nothing", index(vec![], json!({}))),
        (
            "index-with-artifact-type",
            index(vec![inner.clone()], json!({ "artifactType": "application/vnd.example.bundle" })),
        ),
        ("embedded-data", embedded(layout)),
        ("artifact-with-empty-config", artifact(layout, "application/vnd.example.model", EMPTY, b"{}")),
        (
            "wasm",
            artifact(
                layout,
                "",
                "application/vnd.wasm.config.v0+json",
                br#"{"os":"wasip2","architecture":"wasm"}"#,
            ),
        ),
        (
            "layers-of-any-type",
            of(vec![layer("application/vnd.example.x; charset=utf-8", b"?"), layer("text/plain", b"!")]),
        ),
        (
            "annotations-of-any-text",
            manifest(layout, vec![gz.clone()], json!({ "annotations": annotations() })),
        ),
        ("written-by-hand", by_hand(layout, &gz)),
        (
            "unknown-fields",
            manifest(
                layout,
                vec![with(&gz, json!({ "x-more": [1, 2.5e300, null] }))],
                json!({ "x": { "y": [true] } }),
            ),
        ),
        ("no-media-type", no_media_type(layout, &gz)),
        ("large-document", large(layout, &gz)),
        (
            "subject-that-is-not-here",
            manifest(layout, vec![gz.clone()], json!({ "subject": absent(MANIFEST, "somewhere") })),
        ),
        ("foreign-layer-at-hand", of(vec![with(&layer(FOREIGN, b"licensed"), urls())])),
        (
            "foreign-layer-of-another",
            of(vec![with(&layer(FOREIGN, b"licensed"), urls()), layer(GZIP, b"its own")]),
        ),
        ("foreign-layer-elsewhere", of(vec![with(&absent(FOREIGN, "elsewhere"), urls()), gz.clone()])),
        (
            "nondistributable-layer-elsewhere",
            of(vec![with(&absent(NONDISTRIBUTABLE, "restricted"), urls()), gz]),
        ),
    ];
    kinds.push(("tagged", plain));
    let mut all: Vec<_> = kinds.into_iter().map(|(what, top)| Odd { what, top, by_digest: false }).collect();
    let own = layout.image(&image("by digest"));
    all.push(Odd { what: "by-digest", top: own, by_digest: true });
    all.push(Odd { what: "manifest-by-digest", top: of(vec![layer(GZIP, b"one more")]), by_digest: true });
    all
}

/// An image of which a layer is nowhere, and is named as what may be missing and as what may not.
pub fn both_ways(layout: &Layout, also: &str) -> Value {
    let (foreign, ordinary) = (absent(FOREIGN, "both ways"), absent(GZIP, "both ways"));
    let config =
        json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = match also {
        "config" => absent("application/vnd.example.config", "both ways"),
        _ => layout.blob(CONFIG, config.to_string().as_bytes()),
    };
    let layers = if also == "layer" { vec![foreign, ordinary] } else { vec![foreign] };
    layout.document(&json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers }))
}

fn with(entry: &Value, more: Value) -> Value {
    let mut entry = entry.clone();
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

fn platform(entry: &Value, architecture: &str) -> Value {
    with(entry, json!({ "platform": { "os": "linux", "architecture": architecture } }))
}

/// A descriptor of something that is nowhere.
fn absent(media_type: &str, content: &str) -> Value {
    let digest = format!("sha256:{}", sha256(content.as_bytes()));
    json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
}

/// Nobody may be asked there: nothing listens on that port.
fn urls() -> Value {
    json!({ "urls": ["http://127.0.0.1:9/foreign-layer"] })
}

/// An image for linux/amd64, so that other platforms' names can be told from it.
fn manifest(layout: &Layout, layers: Vec<Value>, more: Value) -> Value {
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-05-01T00:00:00Z",
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| &layer["digest"]).collect::<Vec<_>>() },
    });
    let config = layout.blob(CONFIG, config.to_string().as_bytes());
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    layout.document(&with(&manifest, more))
}

fn artifact(layout: &Layout, kind: &str, config: &str, content: &[u8]) -> Value {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": layout.blob(config, content),
        "layers": [layout.blob("application/vnd.example.weights", &random(kind, 500))],
    });
    if !kind.is_empty() {
        manifest["artifactType"] = json!(kind);
    }
    layout.document(&manifest)
}

fn tar_file() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "data", b"plain".as_slice()).unwrap();
    archive.into_inner().unwrap()
}

/// A zstd file of one raw block (RFC 8878 §3.1.1): no compressor's choices in it.
fn zstd_frame(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend((content.len() as u32).to_le_bytes());
    let header = ((content.len() as u32) << 3) | 1;
    frame.extend(&header.to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

/// As containers/storage writes it: a table in a skippable frame, of which annotations tell.
fn zstd_chunked(layout: &Layout, frame: &[u8]) -> Value {
    let table = br#"{"version":1,"entries":[]}"#;
    let mut content = frame.to_vec();
    content.extend(0x184d_2a50_u32.to_le_bytes());
    content.extend((table.len() as u32).to_le_bytes());
    content.extend(table);
    let position = format!("{}:{}:{}:1", frame.len() + 8, table.len(), table.len());
    with(
        &layout.blob(ZSTD, &content),
        json!({ "annotations": {
            "io.github.containers.zstd-chunked.manifest-checksum": format!("sha256:{}", sha256(table)),
            "io.github.containers.zstd-chunked.manifest-position": position,
        } }),
    )
}

/// A gzip file in several members, the last of which tells in its header where the table of contents is.
fn estargz(layout: &Layout) -> Value {
    let member = |extra: &[u8]| {
        let mut member = vec![0x1f, 0x8b, 8, if extra.is_empty() { 0 } else { 4 }, 0, 0, 0, 0, 0, 255];
        if !extra.is_empty() {
            member.extend((extra.len() as u16).to_le_bytes());
            member.extend(extra);
        }
        // One empty stored block, its checksum and its length.
        member.extend([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        member
    };
    let content = [member(b""), member(b"SG\x16\x0000000000000000000aSTARGZ")].concat();
    let digest = format!("sha256:{}", sha256(b"table"));
    with(
        &layout.blob(GZIP, &content),
        json!({ "annotations": { "containerd.io/snapshot/stargz/toc.digest": digest } }),
    )
}

/// descriptor.md, "Embedded Content".
fn embedded(layout: &Layout) -> Value {
    let config = with(&layout.blob(EMPTY, b"{}"), json!({ "data": "e30=" }));
    let layer = with(&layout.blob("text/plain", b"hello"), json!({ "data": "aGVsbG8=" }));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "text/plain", "config": config, "layers": [layer],
    });
    let manifest = layout.document(&manifest);
    layout.document(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] }))
}

fn annotations() -> Value {
    json!({
        "": "an empty key", "empty": "", "emoji": "🚢\u{fe0f}👩‍🚀", "arabic": "سفينة", "nul": "a\u{0}b",
        "lines": "one\ntwo\r\n\tthree", "escape": "\u{1b}[31mred\u{1b}[0m", "overlong key ".repeat(40): "x",
        "bidi": "\u{202e}gnp.exe", "bom": "\u{feff}", "quote": "\"\\/</script>", "largest": "\u{10ffff}",
        "org.opencontainers.image.ref.name": "../../etc/passwd",
    })
}

/// White space, order and escapes as no encoder writes them: other bytes would be another digest.
fn by_hand(layout: &Layout, layer: &Value) -> Value {
    let config = layout.blob(CONFIG, b"{\"os\":\"linux\",\"architecture\":\"amd64\" ,\n\n \"rootfs\":{\"diff_ids\":[],\"type\":\"layers\"}}\n");
    let text = format!(
        "\t{{ \"layers\" : [ {layer} ] ,\r\n\"annotations\":{{\"k\\u00e4se\":\"\\ud83d\\udea2\\/\"}},\n  \"config\":{config},\
         \"schemaVersion\" :2, \"mediaType\":\"{MANIFEST}\"}}\n\n"
    );
    layout.blob(MANIFEST, text.as_bytes())
}

/// image-spec: `mediaType` SHOULD be there, so it need not.
fn no_media_type(layout: &Layout, layer: &Value) -> Value {
    let config = layout
        .blob(CONFIG, br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = layout.blob(MANIFEST, manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    layout.blob(INDEX, index.to_string().as_bytes())
}

/// As large as a document may be, to the byte.
fn large(layout: &Layout, layer: &Value) -> Value {
    let config = layout.blob(
        CONFIG,
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"x":1}"#,
    );
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": { "filler": "" },
    });
    let filler = LARGEST - manifest.to_string().len();
    manifest["annotations"]["filler"] = json!("x".repeat(filler));
    let entry = layout.document(&manifest);
    assert_eq!(entry["size"], LARGEST);
    entry
}

/// The content below a document, by digest, and what each is: documents with their media types, blobs without. What
/// is nowhere is not among it.
pub fn below(root: &Path, top: &Value) -> BTreeMap<String, (Option<String>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![(top.clone(), true)];
    while let Some((entry, document)) = ahead.pop() {
        let digest = entry["digest"].as_str().unwrap();
        let Ok(content) = fs::read(path(root, digest)) else { continue };
        if document {
            let parsed: Value = serde_json::from_slice(&content).unwrap();
            let list = |name: &str| parsed[name].as_array().cloned().unwrap_or_default();
            ahead.extend(list("manifests").into_iter().map(|child| (child, true)));
            let config = Some(parsed["config"].clone()).filter(Value::is_object);
            ahead.extend(list("layers").into_iter().chain(config).map(|child| (child, false)));
        }
        let media_type = document.then(|| entry["mediaType"].as_str().unwrap().to_owned());
        found.insert(digest.to_owned(), (media_type, content));
    }
    found
}

fn path(root: &Path, digest: &str) -> PathBuf {
    root.join("blobs").join(digest.replace(':', "/"))
}

/// Puts one into a registry, as distribution-spec says: blobs, then documents, children first, then the tag.
#[track_caller]
pub fn push(address: &str, root: &Path, odd: &Odd) {
    let name = format!("odd/{}", odd.what);
    let content = below(root, &odd.top);
    let mut registry = Connection::to(address);
    let mut put = |method: &str, path: &str, kind: &str, body: &[u8]| -> Reply {
        let length = body.len().to_string();
        registry.send(method, path, &[("Content-Length", &length), ("Content-Type", kind)]);
        registry.raw(body);
        let reply = registry.reply(false);
        assert!(
            [201, 202].contains(&reply.status),
            "{}: {method} {path}: {}",
            odd.what,
            String::from_utf8_lossy(&reply.body)
        );
        reply
    };
    for (digest, (_, blob)) in content.iter().filter(|(_, (kind, _))| kind.is_none()) {
        let begun = put("POST", &format!("/v2/{name}/blobs/uploads/"), "application/octet-stream", b"");
        let place = begun.header("location").to_owned();
        let place = place.split_once(address).map_or(place.as_str(), |(_, path)| path);
        let mark = if place.contains('?') { '&' } else { '?' };
        put("PUT", &format!("{place}{mark}digest={digest}"), "application/octet-stream", blob);
    }
    let mut there = BTreeSet::new();
    let documents: Vec<_> =
        content.iter().filter_map(|(digest, (kind, bytes))| Some((digest, kind.as_ref()?, bytes))).collect();
    while there.len() < documents.len() {
        for (digest, kind, bytes) in &documents {
            let parsed: Value = serde_json::from_slice(bytes).unwrap();
            let children = parsed["manifests"].as_array().into_iter().flatten();
            let ready =
                children.map(|child| child["digest"].as_str().unwrap()).all(|child| there.contains(child));
            if ready && there.insert(digest.as_str()) {
                put("PUT", &format!("/v2/{name}/manifests/{digest}"), kind, bytes);
            }
        }
    }
    let (kind, bytes) = &content[odd.digest()];
    if !odd.by_digest {
        put("PUT", &format!("/v2/{name}/manifests/1.0.0"), kind.as_ref().unwrap(), bytes);
    }
}

/// Requires that a registry has one of them: under its tag, with all that is below it, byte by byte.
#[track_caller]
pub fn require_at(address: &str, root: &Path, odd: &Odd) {
    let mut registry = Connection::to(address);
    let name = format!("odd/{}", odd.what);
    let mut get = |path: &str| {
        registry.send("GET", path, &[("Accept", &format!("{}, */*", super::images::DOCUMENTS))]);
        registry.reply(false)
    };
    let top = get(&format!("/v2/{name}/manifests/{}", odd.tag()));
    assert_eq!(top.status, 200, "{}", odd.what);
    assert_eq!(format!("sha256:{}", sha256(&top.body)), odd.digest(), "{}", odd.what);
    for (digest, (kind, content)) in below(root, &odd.top) {
        let list = if kind.is_some() { "manifests" } else { "blobs" };
        let reply = get(&format!("/v2/{name}/{list}/{digest}"));
        assert!(reply.status == 200 && reply.body == content, "{}: {digest}: {}", odd.what, reply.status);
        if let Some(kind) = kind {
            assert_eq!(reply.header("content-type"), kind, "{}: {digest}", odd.what);
        }
    }
}

/// Requires that a layout has one of them.
#[track_caller]
pub fn require_in(layout: &Path, root: &Path, odd: &Odd) {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let name = format!("{REGISTRY}/odd/{}:{}", odd.what, odd.tag());
    let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name.as_str();
    let entry =
        index["manifests"].as_array().unwrap().iter().find(named).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(
        (&entry["digest"], &entry["mediaType"]),
        (&odd.top["digest"], &odd.top["mediaType"]),
        "{name}"
    );
    for (digest, (_, content)) in below(root, &odd.top) {
        assert!(fs::read(path(layout, &digest)).is_ok_and(|there| there == content), "{name}: {digest}");
    }
}
