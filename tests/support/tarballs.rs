//! Tar files as other people's tools write them, and as nobody should: entry by entry, from pax(1) and GNU tar's
//! manual.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::parts::header;
use super::sha256;

/// A header's checksum, as it must be for what the header says.
pub fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
}

/// An entry of any name and type, whatever its content means.
pub fn entry(name: impl AsRef<[u8]>, kind: u8, content: &[u8]) -> Vec<u8> {
    let name = name.as_ref();
    let mut entry = header("x", content.len()).to_vec();
    entry[..100].fill(0);
    entry[..name.len()].copy_from_slice(name);
    entry[156] = kind;
    seal(&mut entry);
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// A regular file.
pub fn file(name: &str, content: impl AsRef<[u8]>) -> Vec<u8> {
    entry(name, b'0', content.as_ref())
}

/// A directory.
pub fn directory(name: &str) -> Vec<u8> {
    entry(name, b'5', b"")
}

/// A link of any name, hard or symbolic.
pub fn link(name: &str, kind: u8, target: &str) -> Vec<u8> {
    let mut entry = entry(name, kind, b"");
    entry[157..157 + target.len()].copy_from_slice(target.as_bytes());
    seal(&mut entry);
    entry
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
pub fn record(text: &str) -> Vec<u8> {
    let mut length = text.len() + 2;
    while length != format!("{length} {text}\n").len() {
        length += 1;
    }
    format!("{length} {text}\n").into_bytes()
}

/// A PAX extended header for the entry behind it.
pub fn pax(texts: &[&str]) -> Vec<u8> {
    entry("PaxHeaders/x", b'x', &texts.iter().flat_map(|text| record(text)).collect::<Vec<_>>())
}

/// An entry whose size stands there in other words.
pub fn sized(mut entry: Vec<u8>, field: &[u8; 12]) -> Vec<u8> {
    entry[124..136].copy_from_slice(field);
    seal(&mut entry);
    entry
}

/// An entry whose mode stands there in other words.
pub fn with_mode(mut entry: Vec<u8>, field: &[u8; 8]) -> Vec<u8> {
    entry[100..108].copy_from_slice(field);
    seal(&mut entry);
    entry
}

/// An entry of GNU's old form that has the beginning of a name where that form has none.
pub fn prefixed(mut entry: Vec<u8>) -> Vec<u8> {
    entry[257..265].copy_from_slice(b"ustar  \0");
    entry[345..348].copy_from_slice(b"foo");
    seal(&mut entry);
    entry
}

/// The end of a tar file.
pub fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// The files below a directory with their paths in it, in order.
pub fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// A tar file of these files.
pub fn tarball(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tarball: Vec<u8> = files.iter().flat_map(|(name, content)| file(name, content)).collect();
    tarball.extend(end());
    tarball
}

/// Packed by gzip, as `gzip` does it.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

/// Packed by zstd, as `zstd` does it.
pub fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(content, 3).unwrap()
}

/// An image as Docker keeps it: its config, and its layers as plain tar files.
#[derive(Clone)]
pub struct Saved {
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub names: Vec<&'static str>,
}

impl Saved {
    /// With these layers, each a file that says so.
    pub fn new(seed: &str, layers: &[&str], names: &[&'static str]) -> Self {
        let layer = |text: &&str| {
            let content = format!("{text} ").repeat(400);
            [file("data", content), end()].concat()
        };
        let layers: Vec<_> = layers.iter().map(layer).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-06-01T00:00:00Z",
            "config": { "Labels": { "seed": seed } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        // Not as serde_json would write it: the bytes must stay as they are.
        let config = format!(" {config}\n").into_bytes();
        Saved { config, layers, names: names.to_vec() }
    }

    /// The image's id.
    pub fn id(&self) -> String {
        sha256(&self.config)
    }
}

/// What Docker before 25 saves: a directory for each layer, with a link where another image has the same.
pub fn saved_before_25(images: &[Saved]) -> Vec<u8> {
    let (mut tar, mut list) = (Vec::new(), Vec::new());
    let mut known = std::collections::HashMap::new();
    for (number, image) in images.iter().enumerate() {
        let mut paths = Vec::new();
        for (place, layer) in image.layers.iter().enumerate() {
            let id = sha256(format!("{number} {place}").as_bytes());
            let path = format!("{id}/layer.tar");
            tar.extend(directory(&format!("{id}/")));
            tar.extend(file(&format!("{id}/VERSION"), "1.0"));
            tar.extend(file(&format!("{id}/json"), "{}"));
            match known.get(layer) {
                Some(other) => tar.extend(link(&path, b'2', &format!("../{other}"))),
                None => tar.extend(file(&path, layer)),
            }
            known.entry(layer.clone()).or_insert_with(|| path.clone());
            paths.push(path);
        }
        let config = format!("{}.json", image.id());
        tar.extend(file(&config, &image.config));
        list.push(json!({ "Config": config, "RepoTags": image.names, "Layers": paths }));
    }
    tar.extend(file("manifest.json", json!(list).to_string()));
    tar.extend(file("repositories", "{}"));
    tar.extend(end());
    tar
}

/// What Docker saves since: blobs by their digests; `packed` by whatever the store has them packed by.
pub fn saved_since_25(images: &[Saved], packed: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut blobs = std::collections::BTreeMap::new();
    let mut list = Vec::new();
    let mut blob = |content: Vec<u8>| {
        let path = format!("blobs/sha256/{}", sha256(&content));
        blobs.insert(path.clone(), content);
        path
    };
    for image in images {
        let paths: Vec<_> = image.layers.iter().map(|layer| blob(packed(layer))).collect();
        let config = blob(image.config.clone());
        list.push(json!({ "Config": config, "RepoTags": image.names, "Layers": paths, "LayerSources": {} }));
    }
    let mut tar = [directory("blobs/"), directory("blobs/sha256/")].concat();
    tar.extend(blobs.iter().flat_map(|(path, content)| file(path, content)));
    // An index of nothing: manifest.json is what counts.
    tar.extend(file("index.json", r#"{"schemaVersion":2,"manifests":[]}"#));
    tar.extend(file("manifest.json", json!(list).to_string()));
    tar.extend(file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#));
    tar.extend(end());
    tar
}
