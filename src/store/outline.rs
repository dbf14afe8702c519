//! What a stored document names, read generously: a store holds documents that others took, and what
//! any reader could find in one must not be swept away.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, MediaType};

/// What a document names.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    /// Indexes and manifests below it.
    pub documents: Vec<Digest>,
    /// Blobs below it.
    pub blobs: Vec<Named>,
    /// What it refers to (image-spec manifest.md, `subject`).
    pub subject: Option<Digest>,
    /// Something below it that is named by another digest than SHA-256.
    pub foreign: Option<String>,
}

/// A blob as a document names it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, where that is said.
    pub size: Option<u64>,
    /// It need not be here: a layer that may not be distributed (layer.md, "Non-Distributable Layers").
    pub elsewhere: bool,
}

impl Outline {
    /// Reads a document.
    ///
    /// # Errors
    /// `DocumentInvalid` for what is no JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Document<'_> = serde_json::from_slice(bytes)
            .map_err(|e| Error::new(Kind::DocumentInvalid, "not a valid OCI document").got(e))?;
        let mut outline = Outline::default();
        for entry in entries(document.manifests) {
            match MediaType::new(&text(entry.media_type)).document_role() {
                Some(_) => outline.add_document(&entry),
                // Build caches are indexes of layers.
                None => outline.add_blob(&entry, entry.digest),
            }
        }
        let config = document.config.map(entry);
        let blobs = config.into_iter().chain(entries(document.layers)).chain(entries(document.blobs));
        blobs.for_each(|entry| outline.add_blob(&entry, entry.digest));
        entries(document.fs_layers).for_each(|entry| outline.add_blob(&entry, entry.blob_sum));
        let subject = document.subject.map(|subject| text(entry(subject).digest));
        outline.subject = subject.and_then(|digest| digest.parse().ok());
        Ok(outline)
    }

    fn add_document(&mut self, entry: &Entry<'_>) {
        if let Some(digest) = self.digest(entry.digest) {
            self.documents.push(digest);
        }
    }

    fn add_blob(&mut self, entry: &Entry<'_>, digest: Option<&RawValue>) {
        let elsewhere = MediaType::new(&text(entry.media_type)).is_elsewhere();
        if let Some(digest) = self.digest(digest) {
            let size = entry.size.and_then(|size| serde_json::from_str(size.get()).ok());
            self.blobs.push(Named { digest, size, elsewhere });
        }
    }

    fn digest(&mut self, digest: Option<&RawValue>) -> Option<Digest> {
        let digest = text(digest);
        match digest.parse() {
            Ok(digest) => Some(digest),
            Err(_) => {
                self.foreign.get_or_insert(digest);
                None
            }
        }
    }
}

/// The fields of a document that name something, as they are written. Nothing else of it is taken in: what
/// somebody pushed may be made to grow.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(borrow)]
    manifests: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
    #[serde(borrow)]
    blobs: Option<&'a RawValue>,
    #[serde(borrow)]
    fs_layers: Option<&'a RawValue>,
    #[serde(borrow)]
    subject: Option<&'a RawValue>,
}

/// The fields of a descriptor, likewise.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow)]
    media_type: Option<&'a RawValue>,
    #[serde(borrow)]
    digest: Option<&'a RawValue>,
    #[serde(borrow)]
    size: Option<&'a RawValue>,
    #[serde(borrow)]
    blob_sum: Option<&'a RawValue>,
}

/// The entries of a list, one by one; none of what is no list.
fn entries<'a>(list: Option<&'a RawValue>) -> impl Iterator<Item = Entry<'a>> {
    let list: Option<Vec<&'a RawValue>> = list.and_then(|list| serde_json::from_str(list.get()).ok());
    list.unwrap_or_default().into_iter().map(entry)
}

fn entry(value: &RawValue) -> Entry<'_> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

fn text(value: Option<&RawValue>) -> String {
    value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}
