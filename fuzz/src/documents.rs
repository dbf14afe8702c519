//! Documents of images: the strict reading, the parsed view, and another reader's opinion.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use sealift::error::Kind;
use sealift::oci::fuzzing::{CONFIG, INDEX, MANIFEST, Shape, check};
use sealift::oci::{
    Config, Descriptor, Digest, Document, LayoutIndex, MediaType, Role, media, own_media_type,
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::words::is_sound;

/// Fields that readers look for in one kind of document, for finding their doubles.
const IN_INDEX: &[&str] = &["schemaVersion", "mediaType", "manifests", "subject"];
const IN_MANIFEST: &[&str] = &["schemaVersion", "mediaType", "config", "layers", "subject"];
const IN_CONFIG: &[&str] = &["os", "architecture", "variant", "created", "rootfs"];

/// One input, as each kind of document.
pub fn documents(bytes: &[u8]) {
    for (shape, known) in [(&INDEX, IN_INDEX), (&MANIFEST, IN_MANIFEST), (&CONFIG, IN_CONFIG)] {
        strict(bytes, shape, known);
    }
    for (media_type, role, list, shape) in [
        (media::INDEX, Role::Index, "manifests", &INDEX),
        (media::DOCKER_LIST, Role::Index, "manifests", &INDEX),
        (media::MANIFEST, Role::Manifest, "layers", &MANIFEST),
        (media::DOCKER_MANIFEST, Role::Manifest, "layers", &MANIFEST),
    ] {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let descriptor = Descriptor { role, media_type: MediaType::new(media_type), digest, size };
        match Document::parse(&descriptor, Bytes::copy_from_slice(bytes)) {
            Ok(document) => {
                assert!(check(bytes, shape).is_ok(), "a document that is not strict");
                agrees(&document, bytes, list);
            }
            Err(error) => is_sound(&error),
        }
    }
    match Config::parse(bytes) {
        Ok(_) => assert!(check(bytes, &CONFIG).is_ok()),
        Err(error) => is_sound(&error),
    }
    if let Err(error) = LayoutIndex::parse(bytes) {
        is_sound(&error);
    }
}

/// What passes has one meaning: no key twice anywhere, none in disguise.
fn strict(bytes: &[u8], shape: &'static Shape, known: &[&str]) {
    let value = serde_json::from_slice::<Value>(bytes);
    match check(bytes, shape) {
        Ok(()) => {
            assert!(value.is_ok_and(|value| value.is_object()), "strict, but no JSON object");
            let pairs: Pairs = serde_json::from_slice(bytes).expect("JSON");
            assert!(pairs.distinct, "strict, but a key stands twice");
            for known in known {
                let like = pairs.top.iter().filter(|key| key.to_lowercase() == known.to_lowercase());
                assert!(like.into_iter().all(|key| key == *known), "strict, but {known} in disguise");
            }
        }
        Err(error) => {
            is_sound(&error);
            let invalid = error.kind() == Kind::DocumentInvalid;
            assert!(invalid || error.kind() == Kind::DocumentAmbiguous, "{error}");
            assert!(!invalid || !value.is_ok_and(|value| value.is_object()), "{error}");
        }
    }
}

/// A generic reader finds the same children, in the same order.
fn agrees(document: &Document, bytes: &[u8], list: &str) {
    let value: Value = serde_json::from_slice(bytes).expect("JSON");
    let config = value.get("config").filter(|_| list == "layers");
    let listed = value.get(list).and_then(Value::as_array).into_iter().flatten();
    let mut others = config.into_iter().chain(listed);
    for child in &document.children {
        let other = others.next().expect("as many children");
        assert_eq!(other["digest"].as_str(), Some(child.descriptor.digest.to_string().as_str()));
        assert_eq!(other["size"].as_u64(), Some(child.descriptor.size));
        assert_eq!(other["mediaType"].as_str(), Some(child.descriptor.media_type.as_str()));
    }
    assert!(others.next().is_none(), "as many children");
    let own = own_media_type(bytes);
    assert!(own.is_none_or(|own| own == document.descriptor.media_type.as_str()));
}

/// A reader that forgets no key.
struct Pairs {
    /// The keys of the outermost object.
    top: Vec<String>,
    /// Whether no object has one twice.
    distinct: bool,
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairsVisitor)
    }
}

struct PairsVisitor;

const LEAF: Pairs = Pairs { top: Vec::new(), distinct: true };

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
        let (mut top, mut distinct) = (Vec::new(), true);
        while let Some((key, inner)) = map.next_entry::<String, Pairs>()? {
            distinct &= inner.distinct;
            top.push(key);
        }
        distinct &= top.iter().collect::<HashSet<_>>().len() == top.len();
        Ok(Pairs { top, distinct })
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Pairs, S::Error> {
        let mut distinct = true;
        while let Some(inner) = seq.next_element::<Pairs>()? {
            distinct &= inner.distinct;
        }
        Ok(Pairs { top: Vec::new(), distinct })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Pairs, E> {
        Ok(LEAF)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Pairs, E> {
        Ok(LEAF)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Pairs, E> {
        Ok(LEAF)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Pairs, E> {
        Ok(LEAF)
    }

    fn visit_str<E>(self, _: &str) -> Result<Pairs, E> {
        Ok(LEAF)
    }

    fn visit_unit<E>(self) -> Result<Pairs, E> {
        Ok(LEAF)
    }
}
