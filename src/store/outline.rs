//! What a stored document names, read generously: a store holds documents that others took, and what
//! any reader could find in one must not be swept away.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, MediaType, subject};

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
        let invalid = || Error::new(Kind::DocumentInvalid, "not a valid OCI document");
        let document: Value = serde_json::from_slice(bytes).map_err(|e| invalid().got(e))?;
        if !document.is_object() {
            return Err(invalid().got("no JSON object"));
        }
        let mut outline = Outline::default();
        let list = |field: &str| document.get(field).and_then(Value::as_array).into_iter().flatten();
        for entry in list("manifests") {
            match MediaType::new(text(entry, "mediaType")).document_role() {
                Some(_) => outline.add_document(entry),
                // Build caches are indexes of layers.
                None => outline.add_blob(entry, "digest"),
            }
        }
        let blobs = document.get("config").into_iter().chain(list("layers")).chain(list("blobs"));
        blobs.for_each(|entry| outline.add_blob(entry, "digest"));
        list("fsLayers").for_each(|entry| outline.add_blob(entry, "blobSum"));
        outline.subject = subject(&document);
        Ok(outline)
    }

    fn add_document(&mut self, entry: &Value) {
        if let Some(digest) = self.digest(entry, "digest") {
            self.documents.push(digest);
        }
    }

    fn add_blob(&mut self, entry: &Value, field: &str) {
        let elsewhere = MediaType::new(text(entry, "mediaType")).is_elsewhere();
        if let Some(digest) = self.digest(entry, field) {
            let size = entry.get("size").and_then(Value::as_u64);
            self.blobs.push(Named { digest, size, elsewhere });
        }
    }

    fn digest(&mut self, entry: &Value, field: &str) -> Option<Digest> {
        let digest = text(entry, field);
        match digest.parse() {
            Ok(digest) => Some(digest),
            Err(_) => {
                self.foreign.get_or_insert_with(|| digest.to_owned());
                None
            }
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
