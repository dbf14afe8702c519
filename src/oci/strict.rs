//! One reading for all: JSON documents that two readers could understand differently are refused.
//!
//! Go's `encoding/json`, which most container tools read with, matches field names without regard
//! to case (and takes `ſ` for `s` and the Kelvin sign for `k`), and of two equal names takes the
//! last; other readers match exactly, or take the first. CVE-2021-41190 is a relative.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Kind, Result};

/// The fields that readers look for in one kind of object.
pub struct Shape {
    fields: &'static [(&'static str, Inner)],
    /// Fields of other kinds of objects, which make this one ambiguous.
    forbidden: &'static [&'static str],
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Inner {
    /// Nothing that is looked into; maps with free keys (annotations, labels) are among these.
    Free,
    One(&'static Shape),
    Many(&'static Shape),
}

use Inner::{Free, Many, One};

/// `manifest.json` of what `docker save` writes: each image in its list.
pub static DOCKER_IMAGE: Shape =
    Shape { fields: &[("Config", Free), ("RepoTags", Free), ("Layers", Free)], forbidden: &[] };

/// image-index.md, "Image Index Property Descriptions".
pub static INDEX: Shape = Shape {
    fields: &[
        ("schemaVersion", Free),
        ("mediaType", Free),
        ("artifactType", Free),
        ("manifests", Many(&DESCRIPTOR)),
        ("subject", One(&DESCRIPTOR)),
        ("annotations", Free),
    ],
    forbidden: &["config", "layers", "fsLayers", "history"],
};

/// manifest.md, "Image Manifest Property Descriptions".
pub static MANIFEST: Shape = Shape {
    fields: &[
        ("schemaVersion", Free),
        ("mediaType", Free),
        ("artifactType", Free),
        ("config", One(&DESCRIPTOR)),
        ("layers", Many(&DESCRIPTOR)),
        ("subject", One(&DESCRIPTOR)),
        ("annotations", Free),
    ],
    forbidden: &["manifests", "fsLayers", "history"],
};

/// config.md, "Properties": those that decide where an image runs and what it consists of.
pub static CONFIG: Shape = Shape {
    fields: &[
        ("created", Free),
        ("architecture", Free),
        ("os", Free),
        ("os.version", Free),
        ("os.features", Free),
        ("variant", Free),
        ("config", One(&EXECUTION)),
        ("rootfs", One(&ROOTFS)),
        ("history", Many(&STEP)),
    ],
    forbidden: &["manifests", "layers", "fsLayers"],
};

/// config.md, "Properties", `config`: how the program runs; `Healthcheck` and what follows it are Docker's.
static EXECUTION: Shape = Shape {
    fields: &[
        ("User", Free),
        ("ExposedPorts", Free),
        ("Env", Free),
        ("Entrypoint", Free),
        ("Cmd", Free),
        ("Volumes", Free),
        ("WorkingDir", Free),
        ("Labels", Free),
        ("StopSignal", Free),
        ("ArgsEscaped", Free),
        ("Healthcheck", One(&HEALTHCHECK)),
        ("Shell", Free),
        ("OnBuild", Free),
    ],
    forbidden: &[],
};

static HEALTHCHECK: Shape = Shape { fields: &[("Test", Free)], forbidden: &[] };

static STEP: Shape = Shape {
    fields: &[
        ("created", Free),
        ("author", Free),
        ("created_by", Free),
        ("comment", Free),
        ("empty_layer", Free),
    ],
    forbidden: &[],
};

static ROOTFS: Shape = Shape { fields: &[("type", Free), ("diff_ids", Free)], forbidden: &[] };

/// descriptor.md, "Properties".
static DESCRIPTOR: Shape = Shape {
    fields: &[
        ("mediaType", Free),
        ("digest", Free),
        ("size", Free),
        ("urls", Free),
        ("annotations", Free),
        ("data", Free),
        ("artifactType", Free),
        ("platform", One(&PLATFORM)),
    ],
    forbidden: &[],
};

static PLATFORM: Shape = Shape {
    fields: &[
        ("architecture", Free),
        ("os", Free),
        ("os.version", Free),
        ("os.features", Free),
        ("variant", Free),
        ("features", Free),
    ],
    forbidden: &[],
};

/// Requires that `bytes` are one JSON object of this shape that all readers understand alike: no
/// field twice, at any depth; none in disguise; none that belongs to another kind of document.
///
/// # Errors
/// `DocumentAmbiguous`; `DocumentInvalid` for what is not a JSON object, or is nested more than
/// 128 levels deep.
pub fn check(bytes: &[u8], shape: &'static Shape) -> Result<()> {
    checked(bytes, One(shape))
}

/// The same for a list of such objects.
pub fn check_list(bytes: &[u8], shape: &'static Shape) -> Result<()> {
    checked(bytes, Many(shape))
}

fn checked(bytes: &[u8], inner: Inner) -> Result<()> {
    let ambiguous = RefCell::new(None);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let checked = Check { inner, top: true, ambiguous: &ambiguous }.deserialize(&mut json);
    let checked = checked.and_then(|()| json.end());
    match (ambiguous.into_inner(), checked) {
        (Some(what), _) => {
            Err(Error::new(Kind::DocumentAmbiguous, "a document that readers understand differently")
                .got(what)
                .hint("an honest build tool does not write this: find out where the image comes from"))
        }
        (None, Err(error)) => Err(Error::new(Kind::DocumentInvalid, "not a valid OCI document").got(error)),
        (None, Ok(())) => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Check<'a> {
    inner: Inner,
    top: bool,
    ambiguous: &'a RefCell<Option<String>>,
}

impl<'a> Check<'a> {
    fn of(&self, inner: Inner) -> Check<'a> {
        Check { inner, top: false, ambiguous: self.ambiguous }
    }

    /// What the field of this name holds.
    fn field(&self, key: &str) -> Result<Inner, String> {
        let One(shape) = self.inner else { return Ok(Free) };
        let folded = fold(key);
        if shape.forbidden.iter().any(|other| fold(other) == folded) {
            return Err(format!("the key {key:?} of another kind of document"));
        }
        match shape.fields.iter().find(|(name, _)| fold(name) == folded) {
            Some((name, inner)) if *name == key => Ok(*inner),
            Some((name, _)) => Err(format!("the key {key:?}, which some readers take for {name:?}")),
            None => Ok(Free),
        }
    }
}

/// Simple case folding, as far as it can lead to ASCII.
pub(crate) fn fold(name: &str) -> String {
    let letter = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(letter).collect()
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match (self.top, self.inner) {
            (true, One(_)) => deserializer.deserialize_map(self),
            (true, Many(_)) => deserializer.deserialize_seq(self),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let inner = match self.field(&key) {
                Ok(_) if seen.contains(&key) => Err(format!("the key {key:?} twice")),
                inner => inner,
            };
            let inner = inner.map_err(|what| {
                self.ambiguous.replace(Some(what));
                M::Error::custom("ambiguous")
            })?;
            map.next_value_seed(self.of(inner))?;
            seen.insert(key);
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let inner = match self.inner {
            Many(shape) => One(shape),
            Free | One(_) => Free,
        };
        while seq.next_element_seed(self.of(inner))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(shape: &'static Shape, text: &str) -> Option<Kind> {
        check(text.as_bytes(), shape).err().map(|error| error.kind())
    }

    #[test]
    fn what_readers_would_understand_differently_is_refused() {
        let ambiguous = Some(Kind::DocumentAmbiguous);
        for text in [
            r#"{"layers":[],"layers":[]}"#,
            r#"{"layers":[],"Layers":[]}"#,
            r#"{"layers":[],"layerſ":[]}"#,
            r#"{"layers":[{"digest":"a","Digest":"b"}]}"#,
            r#"{"layers":[{"size":1,"ſize":2}]}"#,
            r#"{"config":{"mediatype":"x"}}"#,
            r#"{"layers":[],"manifests":[]}"#,
            r#"{"layers":[],"MANIFESTS":[]}"#,
            r#"{"layers":[],"fſLayers":[]}"#,
            r#"{"annotations":{"a":"1","a":"2"}}"#,
            r#"{"x":{"y":[{"z":1,"z":1}]}}"#,
        ] {
            assert_eq!(kind(&MANIFEST, text), ambiguous, "{text}");
        }
        for text in [
            r#"{"manifests":[{"Platform":{}}]}"#,
            r#"{"manifests":[{"platform":{"os":"linux","OS":"windows"}}]}"#,
            r#"{"manifeſts":[]}"#,
            r#"{"config":{}}"#,
        ] {
            assert_eq!(kind(&INDEX, text), ambiguous, "{text}");
        }
        assert_eq!(kind(&CONFIG, r#"{"os":"linux","OS":"windows"}"#), ambiguous);
        assert_eq!(kind(&CONFIG, r#"{"rootfs":{"diff_ids":[],"Diff_IDs":[]}}"#), ambiguous);
    }

    #[test]
    fn odd_but_clear_documents_pass() {
        for text in [
            r#"{"layers":[{"annotations":{"Digest":"x","size":"y","layers":"z"}}],"unknown":{"Digest":1}}"#,
            r#"{"annotations":{"Layers":"x"},"layers":null,"x":[1,-1,1.5,true,null,"s"]}"#,
        ] {
            assert_eq!(kind(&MANIFEST, text), None, "{text}");
        }
        assert_eq!(kind(&CONFIG, r#"{"config":{"Labels":{"OS":"x"},"Env":[]},"docker_version":"1"}"#), None);
    }

    #[test]
    fn what_is_no_object_is_invalid() {
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        for text in ["", "[]", "1", "null", "{", "{} {}", "\u{feff}{}", deep.as_str()] {
            assert_eq!(kind(&MANIFEST, text), Some(Kind::DocumentInvalid), "{text}");
        }
    }
}
