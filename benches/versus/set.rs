//! The images that are shipped: an OCI layout, made here or given, and the lists that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sealift::oci::Digest;
use serde_json::{Value, json};

use super::Result;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How many images there are and what they weigh.
pub struct Shape {
    /// The name of the directory that it is kept in.
    pub name: &'static str,
    images: usize,
    /// Groups of layers that several images share, as images built on one base do.
    bases: usize,
    layers_of_a_base: usize,
    /// Large layers that an image has for itself; it has a small one besides.
    own_layers: usize,
    /// The sizes of large layers: at least this, and less than that.
    bytes: (usize, usize),
}

/// Two gigabytes: 84 blobs, 48 of them layers of 30 to 60 MB.
pub const BIG: Shape = Shape {
    name: "set-big",
    images: 12,
    bases: 3,
    layers_of_a_base: 4,
    own_layers: 3,
    bytes: (30_000_000, 60_000_000),
};

/// Enough to see that everything works.
pub const SMALL: Shape = Shape {
    name: "set-small",
    images: 3,
    bases: 1,
    layers_of_a_base: 2,
    own_layers: 1,
    bytes: (200_000, 600_000),
};

/// One image, under the names that all contestants use.
pub struct Image {
    /// A file name: `image-01`.
    pub name: String,
    /// `versus/image-01`
    pub repository: String,
    /// Its indexes and manifests, children before parents, with their media types.
    pub documents: Vec<(String, String)>,
    /// Its configs and layers.
    pub blobs: BTreeSet<String>,
}

impl Image {
    /// The hex digits of its top document.
    pub fn top(&self) -> &str {
        self.documents.last().map_or("", |(hex, _)| hex)
    }
}

/// The tag of all images.
pub const TAG: &str = "1.0.0";

/// A set of images in an OCI layout.
pub struct Set {
    /// The layout.
    pub root: PathBuf,
    /// The images.
    pub images: Vec<Image>,
    /// The size of everything that they consist of, by hex digits.
    pub sizes: BTreeMap<String, u64>,
}

impl Set {
    /// The set of this shape; made where it is not there yet.
    pub fn made(shape: &Shape, below: &Path) -> Result<Self> {
        let root = below.join(shape.name);
        // Written last: a set that was begun and not finished has none.
        if !root.join("index.json").is_file() {
            make(shape, &root)?;
        }
        Set::read(&root)
    }

    /// All images of a layout, whatever they are called there.
    pub fn read(root: &Path) -> Result<Self> {
        let mut set = Set { root: root.to_owned(), images: Vec::new(), sizes: BTreeMap::new() };
        let index: Value = serde_json::from_slice(&fs::read(root.join("index.json"))?)?;
        let mut seen = BTreeSet::new();
        for entry in listed(&index, "manifests") {
            if seen.insert(hex(entry)?) {
                let name = format!("image-{:02}", seen.len());
                let repository = format!("versus/{name}");
                let (documents, blobs) = (Vec::new(), BTreeSet::new());
                let mut image = Image { name, repository, documents, blobs };
                set.walk(entry, &mut image)?;
                set.images.push(image);
            }
        }
        match set.images.is_empty() {
            true => Err(format!("no image in {}", root.display()).into()),
            false => Ok(set),
        }
    }

    fn walk(&mut self, entry: &Value, image: &mut Image) -> Result<()> {
        let digits = hex(entry)?;
        let content = fs::read(self.blob(&digits))?;
        self.sizes.insert(digits.clone(), content.len() as u64);
        let document: Value = serde_json::from_slice(&content)?;
        for child in listed(&document, "manifests") {
            self.walk(child, image)?;
        }
        let config = document.get("config").into_iter();
        for child in config.chain(listed(&document, "layers")) {
            let size = child.get("size").and_then(Value::as_u64).ok_or("a descriptor without a size")?;
            self.sizes.insert(hex(child)?, size);
            image.blobs.insert(hex(child)?);
        }
        if !image.documents.iter().any(|(known, _)| *known == digits) {
            let media_type =
                entry.get("mediaType").and_then(Value::as_str).ok_or("a descriptor without a media type")?;
            image.documents.push((digits, media_type.to_owned()));
        }
        Ok(())
    }

    /// The file of a blob.
    pub fn blob(&self, hex: &str) -> PathBuf {
        self.root.join("blobs/sha256").join(hex)
    }

    /// Bytes of everything, each piece counted once.
    pub fn bytes(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// What is a document in some image, with the first repository that has it.
    pub fn documents(&self) -> BTreeMap<&str, &str> {
        self.first(|image| image.documents.iter().map(|(hex, _)| hex.as_str()).collect())
    }

    /// What is a config or a layer in some image, with the first repository that has it.
    pub fn blobs(&self) -> BTreeMap<&str, &str> {
        self.first(|image| image.blobs.iter().map(String::as_str).collect())
    }

    fn first<'a>(&'a self, parts: impl Fn(&'a Image) -> Vec<&'a str>) -> BTreeMap<&'a str, &'a str> {
        let mut first = BTreeMap::new();
        for image in &self.images {
            for hex in parts(image) {
                first.entry(hex).or_insert(image.repository.as_str());
            }
        }
        first
    }

    /// The release manifest of the set, for sealift.
    pub fn release(&self) -> String {
        let mut text = format!(
            "schema = 1\nname = \"versus\"\nversion = \"{TAG}\"\ntier = \"enterprise\"\n\
             channel = \"development\"\nregistry = \"registry.example.com\"\n"
        );
        for Image { name, repository, .. } in &self.images {
            text.push_str(&format!(
                "\n[[image]]\nname = \"{name}\"\nrepository = \"{repository}\"\n\
                 tags = {{ standard = \"{{version}}\" }}\n"
            ));
        }
        text
    }

    /// The list of the set, for all others: a file name and a reference on each line.
    pub fn list(&self) -> String {
        let line = |image: &Image| format!("{} {}:{TAG}\n", image.name, image.repository);
        self.images.iter().map(line).collect()
    }
}

fn listed<'a>(document: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    document.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn hex(descriptor: &Value) -> Result<String> {
    let digest = descriptor.get("digest").and_then(Value::as_str).unwrap_or_default();
    let digits = digest.strip_prefix("sha256:").ok_or_else(|| format!("not a usable digest: {digest:?}"))?;
    Ok(digits.to_owned())
}

/// A layer to be made.
struct Layer {
    seed: u64,
    size: usize,
}

/// A layer that was made: the digest of its tar, and its descriptor.
type Made = (String, Value);

fn make(shape: &Shape, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root.join("blobs/sha256"))?;
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let (shared, layers) = layers(shape);
    let made = make_all(&layers, root)?;
    let own = shape.own_layers + 1;
    let mut entries = Vec::new();
    for image in 0..shape.images {
        let base = made.chunks(shape.layers_of_a_base).nth(image % shape.bases).unwrap_or_default();
        let rest = made.get(shared + image * own..shared + (image + 1) * own).unwrap_or_default();
        entries.push(make_image(image, &[base, rest].concat(), root)?);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    fs::write(root.join("index.json"), index.to_string())?;
    Ok(())
}

/// All layers, those of the bases first, and how many these are.
fn layers(shape: &Shape) -> (usize, Vec<Layer>) {
    let shared = shape.bases * shape.layers_of_a_base;
    let own = shape.own_layers + 1;
    let (least, most) = shape.bytes;
    let layer = |number: usize| {
        let small = number >= shared && (number - shared) % own == own - 1;
        // A prime, so that sizes are spread without looking like a ladder.
        let size = least + number * 7_919_993 % (most - least);
        Layer { seed: number as u64 + 1, size: if small { size / 20 } else { size } }
    };
    (shared, (0..shared + shape.images * own).map(layer).collect())
}

fn make_all(layers: &[Layer], root: &Path) -> Result<Vec<Made>> {
    let next = Mutex::new(layers.iter().enumerate());
    let take = || next.lock().ok()?.next();
    let work = || -> std::io::Result<Vec<(usize, Made)>> {
        let mut made = Vec::new();
        while let Some((number, layer)) = take() {
            made.push((number, make_layer(layer, root)?));
        }
        Ok(made)
    };
    let mut all = BTreeMap::new();
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..super::cores()).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            all.extend(worker.join().map_err(|_| "a worker panicked")??);
        }
        Ok(())
    })?;
    Ok(all.into_values().collect())
}

/// A real layer (a gzip'ed tar with one file), since some contestants would compress what is not compressed.
fn make_layer(layer: &Layer, root: &Path) -> std::io::Result<Made> {
    let mut header = tar::Header::new_ustar();
    header.set_size(layer.size as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::with_capacity(layer.size + 4096));
    archive.append_data(&mut header, "data", random(layer).as_slice())?;
    let archive = archive.into_inner()?;
    let diff_id = Digest::of(&archive).to_string();
    let descriptor = write_blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&archive), root)?;
    Ok((diff_id, descriptor))
}

fn make_image(number: usize, layers: &[Made], root: &Path) -> Result<Value> {
    let (diff_ids, descriptors): (Vec<_>, Vec<_>) = layers.iter().cloned().unzip();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-06-01T00:00:00Z",
        "config": { "Labels": { "number": number.to_string() } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = write_blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes(), root)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors,
    });
    Ok(write_blob(MANIFEST, manifest.to_string().as_bytes(), root)?)
}

fn write_blob(media_type: &str, content: &[u8], root: &Path) -> std::io::Result<Value> {
    let digest = Digest::of(content);
    fs::write(root.join(digest.blob_path()), content)?;
    Ok(json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() }))
}

/// Bytes that depend on the seed alone and that nothing compresses (xorshift64).
fn random(layer: &Layer) -> Vec<u8> {
    let mut state = layer.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(layer.size + 8);
    while bytes.len() < layer.size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(layer.size);
    bytes
}

/// A gzip file with stored blocks (RFC 1951 §3.2.4, RFC 1952): what is random does not get smaller.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(content.len() + content.len() / 8192 + 64);
    file.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    let mut blocks = content.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        file.push(u8::from(blocks.peek().is_none()));
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&(!length).to_le_bytes());
        file.extend_from_slice(block);
    }
    file.extend_from_slice(&crc32(content).to_le_bytes());
    file.extend_from_slice(&(content.len() as u32).to_le_bytes());
    file
}

fn crc32(content: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (if crc & 1 == 1 { 0xedb8_8320 } else { 0 });
    let table: Vec<u32> = (0..256).map(|byte| (0..8).fold(byte, |crc, _| step(crc))).collect();
    let entry = |index: u32| table.get(index as usize & 0xff).copied().unwrap_or_default();
    !content.iter().fold(!0, |crc, byte| (crc >> 8) ^ entry(crc ^ u32::from(*byte)))
}
