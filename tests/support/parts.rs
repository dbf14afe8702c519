//! Bundles taken apart and put together again, from FORMAT.md and not from the program's own code:
//! the program is what is tested.

use std::ops::Range;
use std::path::Path;

use sealift::trust::SigningKey;
use serde_json::{Value, json};

use super::sha256;

/// One file of the tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub content: Vec<u8>,
    /// Where the header begins in the file that it was read from.
    pub offset: usize,
}

impl Entry {
    /// One of these bytes.
    pub fn new(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Entry { path: path.to_owned(), content: content.into(), offset: 0 }
    }

    /// A blob under the path of its digest.
    pub fn blob(content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        Entry::new(&format!("blobs/sha256/{}", sha256(&content)), content)
    }

    /// Where the content lies in the file that it was read from.
    pub fn range(&self) -> Range<usize> {
        self.offset + 512..self.offset + 512 + self.content.len()
    }

    /// Where the padding lies in the file that it was read from.
    pub fn padding(&self) -> Range<usize> {
        self.range().end..self.range().end.next_multiple_of(512)
    }
}

/// All entries of a bundle.
#[derive(Clone, Debug)]
pub struct Parts(pub Vec<Entry>);

impl Parts {
    /// Takes a bundle apart.
    pub fn read(bundle: &[u8]) -> Self {
        let mut entries = Vec::new();
        let mut offset = 0;
        while bundle[offset] != 0 {
            let header = &bundle[offset..offset + 512];
            let path = header[..100].split(|byte| *byte == 0).next().unwrap();
            let size = std::str::from_utf8(&header[124..135]).unwrap();
            let size = usize::from_str_radix(size, 8).unwrap();
            let content = bundle[offset + 512..offset + 512 + size].to_vec();
            entries.push(Entry { path: String::from_utf8(path.to_vec()).unwrap(), content, offset });
            offset += 512 + size.next_multiple_of(512);
        }
        assert_eq!(bundle.len(), offset + 1024, "two blocks end the file");
        Parts(entries)
    }

    /// The tar of these entries, whatever they are.
    pub fn write(&self) -> Vec<u8> {
        let mut file = Vec::new();
        for entry in &self.0 {
            file.extend_from_slice(&header(&entry.path, entry.content.len()));
            file.extend_from_slice(&entry.content);
            file.resize(file.len().next_multiple_of(512), 0);
        }
        file.resize(file.len() + 1024, 0);
        file
    }

    /// An entry's number.
    pub fn position(&self, path: &str) -> usize {
        self.0.iter().position(|entry| entry.path == path).unwrap_or_else(|| panic!("no entry {path}"))
    }

    /// An entry.
    pub fn get(&self, path: &str) -> &Entry {
        &self.0[self.position(path)]
    }

    /// An entry, to be changed.
    pub fn get_mut(&mut self, path: &str) -> &mut Entry {
        let number = self.position(path);
        &mut self.0[number]
    }

    /// The blob of this digest (`sha256:…`).
    pub fn blob(&self, digest: &Value) -> &Entry {
        self.get(&digest.as_str().unwrap().replace("sha256:", "blobs/sha256/"))
    }

    /// The sums.
    pub fn sums(&mut self) -> &mut Vec<u8> {
        &mut self.get_mut("bundle/SHA256SUMS").content
    }

    /// The statement.
    pub fn statement(&self) -> Value {
        serde_json::from_slice(&self.get("bundle/bundle.json").content).unwrap()
    }

    /// The top document, the first manifest, its config and its last layer, of the first image.
    pub fn first_image(&self) -> [&Entry; 4] {
        let index = self.blob(&self.statement()["images"][0]["digest"]);
        let parse = |entry: &Entry| serde_json::from_slice::<Value>(&entry.content).unwrap();
        let manifest = self.blob(&parse(index)["manifests"][0]["digest"]);
        let parsed = parse(manifest);
        let layer = parsed["layers"].as_array().unwrap().last().unwrap();
        [index, manifest, self.blob(&parsed["config"]["digest"]), self.blob(&layer["digest"])]
    }

    /// Changes the statement, as canonical JSON.
    pub fn edit_statement(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut statement = self.statement();
        edit(&mut statement);
        self.get_mut("bundle/bundle.json").content = statement.to_string().into_bytes();
    }

    /// Makes the statement list what is there.
    pub fn restate(&mut self) {
        let listed = self.0.iter().skip_while(|entry| entry.path != "bundle/bundle.json").skip(1);
        let entries: Vec<Value> =
            listed.map(|entry| json!({ "path": entry.path, "size": entry.content.len() })).collect();
        let bytes: u64 = entries.iter().map(|entry| entry["size"].as_u64().unwrap()).sum();
        self.edit_statement(|statement| {
            statement["entries"] = Value::from(entries);
            statement["payloadBytes"] = Value::from(bytes);
        });
    }

    /// Makes the sums list what is there.
    pub fn resum(&mut self) {
        let listed = self.0.iter().skip_while(|entry| entry.path != "bundle/bundle.json");
        let lines = listed.map(|entry| format!("{}  {}\n", sha256(&entry.content), entry.path));
        *self.sums() = lines.collect::<String>().into_bytes();
    }

    /// Signs the sums as they are, with a key that is trusted.
    pub fn resign(&mut self, key: &SigningKey) {
        self.0.retain(|entry| !entry.path.starts_with("bundle/signatures/"));
        let signature = key.sign(self.sums()).to_vec();
        self.0.insert(1, Entry::new(&format!("bundle/signatures/{}.sig", key.public().id()), signature));
    }
}

/// FORMAT.md, "Tar profile".
pub fn header(path: &str, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, format!("{size:011o}\x0000000000000\0").as_bytes());
    put(148, b"        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    header
}

/// A private key without a passphrase.
pub fn signing_key(path: &Path) -> SigningKey {
    let text = std::fs::read_to_string(path).unwrap();
    SigningKey::from_pem(&text, || panic!("no passphrase")).unwrap()
}
