//! Documents: image indexes and manifests. A document is parsed from bytes that were already
//! verified; the bytes are kept and written as they are, so digests and signatures stay true.
//! The parsed form is a view that tells which content the document needs.
//!
//! Refused: what two readers could understand differently (CVE-2021-41190 and its relatives).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use oci_spec::image as spec;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Descriptor, Digest, MediaType, Name, Platform, Role, Tag, media, strict};
use crate::error::{Error, Kind, Result};
use crate::limits;

/// Annotation of BuildKit's attestation entries: the digest of the manifest they speak of.
const ATTESTS: &str = "vnd.docker.reference.digest";

/// Annotation of an index that lacks entries of the one it was made from: that one's digest.
pub const TRIMMED_FROM: &str = "vnd.sealift.index.trimmed-from";

/// What kind of artifact a record is: it says which bundle an image came with, and stays where it is.
pub const RECORD: &str = "application/vnd.sealift.record.v1";

/// Annotation of an index that is offered to a registry to find out whether it takes incomplete ones: the digest of
/// the index whose missing entries it has.
pub const PROBE: &str = "vnd.sealift.index.probe";

/// An index or manifest: its exact bytes and what they ask for.
#[derive(Clone, Debug)]
pub struct Document {
    /// What the parent (or the registry) said it is.
    pub descriptor: Descriptor,
    /// The bytes as they came.
    pub bytes: Bytes,
    /// The content it names, in the order in which it names it (a manifest: config first).
    pub children: Vec<Child>,
    /// What it is attached to, where it is attached to something (manifest.md, `subject`).
    pub subject: Option<Digest>,
    /// What kind of artifact it is: its own word, or else its config's media type (distribution-spec,
    /// "Listing Referrers").
    pub artifact_type: MediaType,
}

/// Content that a document names.
#[derive(Clone, Debug)]
pub struct Child {
    /// What it is.
    pub descriptor: Descriptor,
    /// The platform that an index gives for it.
    pub platform: Option<Platform>,
    /// For an attestation entry: the manifest in the same index that it describes.
    pub attests: Option<Digest>,
}

impl Document {
    /// Parses verified `bytes` as what `descriptor` says.
    ///
    /// # Errors
    /// `DocumentInvalid`, `DocumentAmbiguous`, `DocumentUnsupported`, `MediaTypeMismatch`,
    /// `DigestInvalid` or `LimitExceeded`, each naming the document.
    pub fn parse(descriptor: &Descriptor, bytes: Bytes) -> Result<Self> {
        let name = descriptor.digest;
        let document = parsed(descriptor, bytes).map_err(|e| e.at(name))?;
        if document.children.len() > limits::CHILDREN {
            return Err(Error::new(Kind::LimitExceeded, "a document names too much content")
                .at(name)
                .got(document.children.len())
                .expected(format_args!("at most {}", limits::CHILDREN)));
        }
        Ok(document)
    }
}

fn parsed(descriptor: &Descriptor, bytes: Bytes) -> Result<Document> {
    // Told before anything else is found wrong with it.
    if let Ok(SchemaOnly { schema_version: 1 }) = serde_json::from_slice(&bytes) {
        return Err(schema_1());
    }
    match descriptor.role {
        Role::Index => {
            strict::check(&bytes, &strict::INDEX)?;
            parsed_index(descriptor, bytes)
        }
        Role::Manifest => {
            strict::check(&bytes, &strict::MANIFEST)?;
            parsed_manifest(descriptor, bytes)
        }
        Role::Config | Role::Layer => {
            Err(Error::new(Kind::DocumentUnsupported, "neither an index nor a manifest")
                .got(&descriptor.media_type))
        }
    }
}

/// Requires that all readers understand a document alike, and that it is what `descriptor` says. What it
/// names is not judged: a registry keeps more kinds of images than a bundle carries.
///
/// # Errors
/// `DocumentInvalid`, `DocumentAmbiguous`, `DocumentUnsupported` or `MediaTypeMismatch`.
pub fn check_document(descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Header {
        schema_version: u32,
        media_type: Option<spec::MediaType>,
    }
    let shape = match descriptor.role {
        Role::Index => &strict::INDEX,
        Role::Manifest => &strict::MANIFEST,
        Role::Config | Role::Layer => {
            return Err(Error::new(Kind::DocumentUnsupported, "neither an index nor a manifest")
                .got(&descriptor.media_type));
        }
    };
    strict::check(bytes, shape)?;
    let header: Header = serde_json::from_slice(bytes).map_err(invalid)?;
    check_header(header.schema_version, header.media_type.as_ref(), descriptor)
}

/// The media type a document gives itself, for bytes whose descriptor is not known yet (a tag).
/// image-spec: `mediaType` SHOULD be used; without it the registry's `Content-Type` decides.
pub fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
    }
    serde_json::from_slice::<Own>(bytes).ok()?.media_type
}

/// What a document is: what it calls itself, or else by its shape, as image-spec allows; nothing for what is
/// none. (Image configs have a `config`, too, but no `schemaVersion`.)
pub fn document_type(bytes: &[u8]) -> Option<MediaType> {
    const SHAPES: [(&str, &str); 4] = [
        ("manifests", media::INDEX),
        ("fsLayers", media::DOCKER_SCHEMA_1),
        ("config", media::MANIFEST),
        ("layers", media::MANIFEST),
    ];
    // What the fields hold is not taken in: it may be large.
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(bytes).ok()?;
    let shape = || SHAPES.iter().find(|(field, _)| fields.contains_key(*field)).map(|(_, kind)| *kind);
    let by_shape = || fields.get("schemaVersion").and_then(|_| shape());
    let own: Option<String> = fields.get("mediaType").and_then(|own| serde_json::from_str(own.get()).ok());
    own.filter(|own| !own.is_empty()).as_deref().or_else(by_shape).map(MediaType::new)
}

/// The document that another one is about (image-spec manifest.md and image-index.md, `subject`). Nothing else of it is
/// taken in: what somebody pushed may be made to grow.
///
/// # Errors
/// `DocumentInvalid` for what is no such document.
pub fn subject_of(bytes: &[u8]) -> Result<Option<Digest>> {
    #[derive(Deserialize)]
    struct Referring {
        subject: Option<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: Option<String>,
    }
    let referring: Referring = serde_json::from_slice(bytes).map_err(invalid)?;
    Ok(referring.subject.and_then(|subject| subject.digest?.parse().ok()))
}

fn parsed_index(descriptor: &Descriptor, bytes: Bytes) -> Result<Document> {
    let index: spec::ImageIndex = serde_json::from_slice(&bytes).map_err(invalid)?;
    check_header(index.schema_version(), index.media_type().as_ref(), descriptor)?;
    Ok(Document {
        children: index.manifests().iter().map(index_child).collect::<Result<_>>()?,
        subject: index.subject().as_ref().and_then(digest_of),
        artifact_type: MediaType::new(index.artifact_type().as_ref().map_or("", AsRef::as_ref)),
        descriptor: descriptor.clone(),
        bytes,
    })
}

/// Content that is named by another digest than SHA-256 is nothing that a bundle can hold.
fn digest_of(entry: &spec::Descriptor) -> Option<Digest> {
    entry.digest().as_ref().parse().ok()
}

fn index_child(entry: &spec::Descriptor) -> Result<Child> {
    let media_type = MediaType::new(entry.media_type().as_ref());
    let role = media_type.document_role().ok_or_else(|| {
        Error::new(Kind::DocumentUnsupported, "an index names something that is neither index nor manifest")
            .got(&media_type)
            .hint("Docker schema 1 images must be converted at the source; other content cannot be a child of an index")
    })?;
    let platform = entry.platform().as_ref().and_then(|p| {
        let text = |value: &dyn fmt::Display| value.to_string();
        Platform::new(&text(p.os()), &text(p.architecture()), p.variant().as_deref())
    });
    let attests = entry.annotations().as_ref().and_then(|all| all.get(ATTESTS));
    Ok(Child {
        descriptor: Descriptor { role, ..view(entry, media_type)? },
        platform,
        attests: attests.and_then(|digest| digest.parse().ok()),
    })
}

fn parsed_manifest(descriptor: &Descriptor, bytes: Bytes) -> Result<Document> {
    let manifest: spec::ImageManifest = serde_json::from_slice(&bytes).map_err(invalid)?;
    check_header(manifest.schema_version(), manifest.media_type().as_ref(), descriptor)?;
    let blob = |role, entry: &spec::Descriptor| -> Result<Child> {
        let media_type = MediaType::new(entry.media_type().as_ref());
        Ok(Child {
            descriptor: Descriptor { role, ..view(entry, media_type)? },
            platform: None,
            attests: None,
        })
    };
    let config = blob(Role::Config, manifest.config());
    let layers = manifest.layers().iter().map(|layer| blob(Role::Layer, layer));
    let own = manifest.artifact_type().as_ref().map(AsRef::as_ref).filter(|own: &&str| !own.is_empty());
    Ok(Document {
        children: std::iter::once(config).chain(layers).collect::<Result<_>>()?,
        subject: manifest.subject().as_ref().and_then(digest_of),
        artifact_type: MediaType::new(own.unwrap_or(manifest.config().media_type().as_ref())),
        descriptor: descriptor.clone(),
        bytes,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaOnly {
    schema_version: u64,
}

/// Docker's first kind of manifest is not carried.
pub fn schema_1() -> Error {
    Error::new(Kind::DocumentUnsupported, "a Docker schema 1 manifest, which has no usable digests")
        .hint("push the image again with any current tool: it will be written as an OCI or schema 2 image")
}

fn check_header(version: u32, own: Option<&spec::MediaType>, descriptor: &Descriptor) -> Result<()> {
    if version == 1 {
        return Err(schema_1());
    }
    if version != 2 {
        return Err(Error::new(Kind::DocumentInvalid, "unknown schemaVersion").got(version).expected(2));
    }
    match own {
        Some(own) if own.as_ref() != descriptor.media_type.as_str() => {
            Err(Error::new(Kind::MediaTypeMismatch, "a document's own mediaType contradicts its descriptor")
                .got(own)
                .expected(&descriptor.media_type))
        }
        _ => Ok(()),
    }
}

/// The checked view of a foreign descriptor; the role is the caller's to set.
fn view(entry: &spec::Descriptor, media_type: MediaType) -> Result<Descriptor> {
    let digest = entry.digest().as_ref().parse()?;
    // A size that the tar profile or an i64 on another machine could not hold is a lie.
    if entry.size() > i64::MAX as u64 {
        return Err(Error::new(Kind::DocumentInvalid, "an impossible size").at(digest).got(entry.size()));
    }
    let descriptor = Descriptor { role: Role::Layer, media_type, digest, size: entry.size() };
    match entry.data() {
        Some(data) => check_data(data, &descriptor).map(|()| descriptor),
        None => Ok(descriptor),
    }
}

/// descriptor.md, "Embedded Content": `data` is the content itself, so it must be just that.
fn check_data(data: &str, descriptor: &Descriptor) -> Result<()> {
    use base64::Engine;
    let content = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
    if Digest::of(&content) == descriptor.digest && content.len() as u64 == descriptor.size {
        return Ok(());
    }
    Err(Error::new(Kind::DigestMismatch, "a descriptor's embedded data is not the content that it describes")
        .got(Digest::of(&content))
        .expected(descriptor.digest))
}

fn invalid(error: impl fmt::Display) -> Error {
    Error::new(Kind::DocumentInvalid, "not a valid OCI document").got(error)
}

/// What is read of an image config: the platform it was built for and when.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The platform, where the config names a usable one.
    pub platform: Option<Platform>,
    /// The creation time, where the config names one that RFC 3339 allows.
    pub created: Option<Timestamp>,
}

impl Config {
    /// Parses verified bytes of an image config.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct View {
            #[serde(default)]
            os: String,
            #[serde(default)]
            architecture: String,
            variant: Option<String>,
            created: Option<String>,
        }
        strict::check(bytes, &strict::CONFIG)?;
        let view: View = serde_json::from_slice(bytes)
            .map_err(|e| Error::new(Kind::DocumentInvalid, "not a valid image config").got(e))?;
        Ok(Config {
            platform: Platform::new(&view.os, &view.architecture, view.variant.as_deref()),
            // Timestamps with a zone in brackets are a later standard's (RFC 9557).
            created: view.created.filter(|text| !text.contains('[')).and_then(|text| moment(&text)),
        })
    }
}

/// A time of RFC 3339, which has no years before 0.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|time: &Timestamp| time.as_second() >= limits::FIRST_SECOND)
}

/// A top-level entry of a layout's `index.json`, with the names it goes by.
#[derive(Clone, Debug)]
pub struct NamedDescriptor {
    /// What it points to.
    pub descriptor: Descriptor,
    /// The values of the naming annotations that are present.
    pub names: Vec<String>,
    /// What it is said to be attached to.
    pub subject: Option<Digest>,
    /// Whether it is said to be an artifact of some type.
    pub is_artifact: bool,
}

impl NamedDescriptor {
    /// Whether it is an image in its own right, as far as its entry tells: what is attached to another one has a
    /// subject, or a tag that follows from one.
    pub fn is_image(&self) -> bool {
        self.descriptor.role.is_document()
            && self.subject.is_none()
            && !self.names.iter().filter_map(|name| Tag::of_name(name)).any(|tag| tag.subject().is_some())
    }
}

/// The annotations that name an entry.
const NAMING: [&str; 3] = [LayoutIndex::REF_NAME, LayoutIndex::CONTAINERD_NAME, LayoutIndex::ATTACHING_NAME];

/// Somebody's `index.json`: which names lead to which documents.
#[derive(Clone, Debug, Default)]
pub struct LayoutIndex(pub Vec<NamedDescriptor>);

impl LayoutIndex {
    /// Annotation that names an entry (image-spec annotations.md).
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// containerd's annotation with the full name.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
    /// containerd's annotation of an entry that has no name because it is attached to another document.
    pub const CONTAINERD_SUBJECT: &str = "io.containerd.manifest.subject";
    /// Our annotation with the full name that attaches an entry to another document, where its own `subject` does
    /// not. No other tool takes it for the name of an image: containerd would unpack it, and fail.
    pub const ATTACHING_NAME: &str = "vnd.sealift.attaching.name";

    /// Parses `index.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |e: &dyn fmt::Display| {
            Error::new(Kind::LayoutInvalid, "index.json is not a valid OCI image index").got(e)
        };
        strict::check(bytes, &strict::INDEX).map_err(|e| wrong(&e.sentence()))?;
        let index: spec::ImageIndex = serde_json::from_slice(bytes).map_err(|e| wrong(&e))?;
        if index.schema_version() != 2 {
            return Err(wrong(&format_args!("schemaVersion {}", index.schema_version())));
        }
        let entry = |entry: &spec::Descriptor| -> Result<NamedDescriptor> {
            let media_type = MediaType::new(entry.media_type().as_ref());
            let role = media_type.document_role().unwrap_or(Role::Layer);
            let annotations = entry.annotations().iter().flatten();
            let subject = annotations.clone().find(|(key, _)| *key == Self::CONTAINERD_SUBJECT);
            let names =
                annotations.filter(|(key, _)| NAMING.contains(&key.as_str())).map(|(_, value)| value.clone());
            Ok(NamedDescriptor {
                names: names.collect(),
                subject: subject.and_then(|(_, value)| value.parse().ok()),
                is_artifact: entry.artifact_type().as_ref().is_some_and(|kind| !kind.as_ref().is_empty()),
                descriptor: Descriptor { role, ..view(entry, media_type)? },
            })
        };
        index.manifests().iter().map(entry).collect::<Result<_>>().map(LayoutIndex)
    }

    /// An `index.json` of our own, which has no entries yet.
    pub fn encoder() -> LayoutEncoder {
        LayoutEncoder::default()
    }
}

/// An `index.json` that is being written.
#[derive(Default)]
pub struct LayoutEncoder(Vec<serde_json::Value>);

impl LayoutEncoder {
    /// Adds an entry with both annotations set to the full name. No `platform`: containerd imports
    /// top-level entries without one on every host.
    pub fn name(&mut self, descriptor: &Descriptor, name: &Name) {
        let name = name.to_string();
        self.0.push(serde_json::json!({
            "annotations": { LayoutIndex::CONTAINERD_NAME: name, LayoutIndex::REF_NAME: name },
            "digest": descriptor.digest,
            "mediaType": descriptor.media_type.as_str(),
            "size": descriptor.size,
        }));
    }

    /// Adds an entry without a name, for what is attached to another document: readers of layouts find it,
    /// and lists of images stay free of it.
    pub fn attach(&mut self, descriptor: &Descriptor, artifact_type: &str, subject: &Digest) {
        let annotations = serde_json::json!({ LayoutIndex::CONTAINERD_SUBJECT: subject });
        self.add_attached(descriptor, artifact_type, annotations);
    }

    /// The same for what is attached by a tag: `name` is its full name.
    pub fn attach_by(&mut self, name: &Name, descriptor: &Descriptor, artifact_type: &str, subject: &Digest) {
        let annotations = serde_json::json!({
            LayoutIndex::CONTAINERD_SUBJECT: subject, LayoutIndex::ATTACHING_NAME: name,
        });
        self.add_attached(descriptor, artifact_type, annotations);
    }

    fn add_attached(&mut self, descriptor: &Descriptor, artifact_type: &str, annotations: Value) {
        let mut entry = serde_json::json!({
            "annotations": annotations,
            "digest": descriptor.digest,
            "mediaType": descriptor.media_type.as_str(),
            "size": descriptor.size,
        });
        if let Some(entry) = entry.as_object_mut().filter(|_| !artifact_type.is_empty()) {
            entry.insert("artifactType".to_owned(), artifact_type.into());
        }
        self.0.push(entry);
    }

    /// The entries.
    pub fn entries(self) -> Vec<serde_json::Value> {
        self.0
    }

    /// The file's content.
    pub fn finish(self) -> Vec<u8> {
        serde_json::json!({ "manifests": self.0, "mediaType": media::INDEX, "schemaVersion": 2 })
            .to_string()
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_it_says_or_else_what_it_looks_like() {
        for (text, expected) in [
            (r#"{"mediaType":"x/y","manifests":[]}"#, Some("x/y")),
            (r#"{"schemaVersion":2,"manifests":[]}"#, Some(media::INDEX)),
            (r#"{"schemaVersion":2,"mediaType":"","config":{},"layers":[]}"#, Some(media::MANIFEST)),
            (r#"{"schemaVersion":2,"layers":[]}"#, Some(media::MANIFEST)),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, Some(media::DOCKER_SCHEMA_1)),
            (r#"{"architecture":"amd64","os":"linux","config":{}}"#, None),
            (r#"{"schemaVersion":2}"#, None),
            ("[]", None),
            ("no document", None),
        ] {
            let found = document_type(text.as_bytes());
            assert_eq!(found.as_ref().map(MediaType::as_str), expected, "{text}");
        }
    }
}
