//! Bundles made from FORMAT.md and not by the program's own code: the program is what is tested.

use std::collections::HashSet;
use std::sync::LazyLock;

use sealift::trust::{Keyring, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Stands between the segments of an input.
pub const SEPARATOR: u8 = 0x1e;

/// The key of the fixtures, which is public knowledge.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let pem = include_str!("../../fixtures/format-1/TEST-ONLY.key.pem");
    SigningKey::from_pem(pem, || panic!("not encrypted")).expect("the fixtures' key")
});

/// A keyring that trusts it.
pub static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("sealift-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).expect("its mode");
    let pem = include_bytes!("../../fixtures/format-1/TEST-ONLY.pub.pem");
    std::fs::write(directory.join("fuzz.pub.pem"), pem).expect("a temporary file");
    let keyring = Keyring::load(&directory).expect("a trust store");
    std::fs::remove_dir_all(&directory).expect("a temporary directory");
    keyring
});

/// Lower-case hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// FORMAT.md, "Tar profile".
pub fn header(path: &str, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    match size < 8 << 30 {
        true => put(124, format!("{size:011o}\0").as_bytes()),
        false => {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, b"00000000000\0");
    put(148, b"        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    header
}

/// The tar of these entries, whatever they are.
fn tar(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for (path, content) in entries {
        file.extend_from_slice(&header(path, content.len() as u64));
        file.extend_from_slice(content);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file.resize(file.len() + 1024, 0);
    file
}

/// A bundle of an input's segments: the statement, then the blobs. In each, `@n` is the digest of the `n`th
/// blob and `#n` its size, counted from 1 on, for blobs that come later. A statement that does not list its entries is
/// given the list. All is signed, so that the bundle is wrong only where the segments are.
pub fn bundle(input: &[u8]) -> Vec<u8> {
    let mut segments: Vec<Vec<u8>> = input.splitn(32, |b| *b == SEPARATOR).map(<[u8]>::to_vec).collect();
    for number in (0..segments.len()).rev() {
        segments[number] = filled(&segments[number], number, &segments);
    }
    let mut blobs = segments.split_off(1);
    let mut seen = HashSet::new();
    blobs.retain(|blob| seen.insert(sha256(blob)));
    let statement = segments.pop().unwrap_or_default();
    let (statement, index) = stated(statement, &blobs);
    let mut entries = vec![("bundle/bundle.json".to_owned(), statement)];
    entries.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    entries.push(("index.json".to_owned(), index));
    entries.extend(blobs.into_iter().map(|blob| (format!("blobs/sha256/{}", sha256(&blob)), blob)));
    let lines = entries.iter().map(|(path, content)| format!("{}  {path}\n", sha256(content)));
    let sums = lines.collect::<String>().into_bytes();
    let signature = (format!("bundle/signatures/{}.sig", KEY.public().id()), KEY.sign(&sums).to_vec());
    entries.splice(0..0, [("bundle/SHA256SUMS".to_owned(), sums), signature]);
    tar(&entries)
}

/// A segment with digests and sizes in the places that are kept for them.
fn filled(segment: &[u8], own: usize, all: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(segment.len());
    let mut rest = segment.iter();
    while let Some(byte) = rest.next() {
        let number = rest.as_slice().first().and_then(|c| char::from(*c).to_digit(36)).unwrap_or(0) as usize;
        match (byte, all.get(number).filter(|_| number > own)) {
            (b'@', Some(other)) => whole.extend_from_slice(format!("sha256:{}", sha256(other)).as_bytes()),
            (b'#', Some(other)) => whole.extend_from_slice(other.len().to_string().as_bytes()),
            _ => {
                whole.push(*byte);
                continue;
            }
        }
        rest.next();
    }
    whole
}

/// The statement with its list of entries, and the `index.json` that follows from it.
fn stated(text: Vec<u8>, blobs: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let Ok(mut statement) = serde_json::from_slice::<Value>(&text) else { return (text, b"{}".to_vec()) };
    let index = index(&statement, blobs).to_string().into_bytes();
    let Some(fields) = statement.as_object_mut().filter(|fields| !fields.contains_key("entries")) else {
        return (text, index);
    };
    let mut entries = vec![json!({ "path": "oci-layout", "size": 30 })];
    entries.push(json!({ "path": "index.json", "size": index.len() }));
    let path = |blob: &Vec<u8>| format!("blobs/sha256/{}", sha256(blob));
    entries.extend(blobs.iter().map(|blob| json!({ "path": path(blob), "size": blob.len() })));
    let bytes: u64 = entries.iter().filter_map(|entry| entry["size"].as_u64()).sum();
    fields.insert("entries".to_owned(), Value::from(entries));
    fields.insert("payloadBytes".to_owned(), Value::from(bytes));
    (statement.to_string().into_bytes(), index)
}

/// FORMAT.md, "index.json".
fn index(statement: &Value, blobs: &[Vec<u8>]) -> Value {
    let mut manifests = Vec::new();
    for image in statement["images"].as_array().into_iter().flatten() {
        let size = blobs.iter().find(|blob| image["digest"] == format!("sha256:{}", sha256(blob)));
        let source = image["source"].as_str().unwrap_or_default();
        let repository = source.rsplit_once(':').map_or(source, |(repository, _)| repository);
        for tag in image["tags"].as_array().into_iter().flatten() {
            let name = format!("{repository}:{}", tag.as_str().unwrap_or_default());
            manifests.push(json!({
                "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
                "digest": image["digest"], "mediaType": image["mediaType"], "size": size.map(Vec::len),
            }));
        }
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    json!({ "manifests": manifests, "mediaType": media_type, "schemaVersion": 2 })
}
