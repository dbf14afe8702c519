//! What a registry server has: [`Holdings`] to give out, and a [`Stock`] that takes as well. A bundle
//! is the former, a store both.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Unverified;
use super::file::ReadAt;
use crate::error::Result;
use crate::oci::{Digest, MediaType, Repository, Tag};

/// What a registry gives out. All of it was verified: content that turns out to be damaged is an
/// error and never handed over.
#[async_trait]
pub trait Holdings: Send + Sync {
    /// The repositories, sorted.
    async fn repositories(&self) -> Result<Vec<Repository>>;

    /// The tags of a repository, sorted; `None` where there is no such repository.
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>>;

    /// A document of a repository.
    async fn document(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Kept>>;

    /// A blob of a repository.
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Extent>>;

    /// The documents of a repository whose subject this is (distribution-spec, "Listing Referrers").
    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Kept>>;

    /// The same for many subjects at once, by name only: each subject, and a document that refers to it.
    async fn referring(
        &self,
        repository: &Repository,
        subjects: &HashSet<Digest>,
    ) -> Result<Vec<(Digest, Digest)>> {
        let mut found = Vec::new();
        for subject in subjects {
            let kept = self.referrers(repository, subject).await?;
            found.extend(kept.iter().map(|kept| (*subject, kept.digest)));
        }
        Ok(found)
    }
}

/// Several holdings as one. Where two have different documents under one tag, neither is given out.
pub struct Together(pub Vec<Arc<dyn Holdings>>);

#[async_trait]
impl Holdings for Together {
    async fn repositories(&self) -> Result<Vec<Repository>> {
        let mut all = BTreeSet::new();
        for holdings in &self.0 {
            all.extend(holdings.repositories().await?);
        }
        Ok(all.into_iter().collect())
    }

    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>> {
        let mut all: Option<BTreeSet<Tag>> = None;
        for holdings in &self.0 {
            if let Some(tags) = holdings.tags(repository).await? {
                all.get_or_insert_default().extend(tags);
            }
        }
        Ok(all.map(|tags| tags.into_iter().collect()))
    }

    async fn document(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Kept>> {
        let mut found: Option<Kept> = None;
        for holdings in &self.0 {
            let Some(kept) = holdings.document(repository, pointer).await? else { continue };
            match &found {
                Some(other) if other.digest != kept.digest => return Ok(None),
                _ => found = Some(kept),
            }
        }
        Ok(found)
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Extent>> {
        for holdings in &self.0 {
            if let Some(extent) = holdings.blob(repository, digest).await? {
                return Ok(Some(extent));
            }
        }
        Ok(None)
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Kept>> {
        let mut all: Vec<Kept> = Vec::new();
        for holdings in &self.0 {
            for kept in holdings.referrers(repository, subject).await? {
                if all.iter().all(|known| known.digest != kept.digest) {
                    all.push(kept);
                }
            }
        }
        Ok(all)
    }
}

/// What leads to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// Its tag.
    Tag(Tag),
    /// Its digest.
    Digest(Digest),
}

/// A document as it was pushed.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its media type.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Kept {
    /// The descriptor by which it is listed as attached to something (distribution-spec, "Listing
    /// Referrers": the artifact's type, or else its config's; its annotations).
    pub fn referrer(&self) -> Referrer {
        let artifact = Artifact::read(&self.bytes);
        let annotations = artifact.annotations.filter(|annotations| annotations.get().starts_with('{'));
        Referrer {
            media_type: self.media_type.to_string(),
            digest: self.digest,
            size: self.bytes.len() as u64,
            artifact_type: artifact.kind(),
            annotations: annotations.map(RawValue::to_owned),
        }
    }

    /// What kind of artifact it is, where it says so.
    pub fn artifact_type(&self) -> Option<String> {
        Artifact::read(&self.bytes).kind()
    }
}

/// A descriptor in a list of what is attached to something.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    media_type: String,
    digest: Digest,
    size: u64,
    /// What kind of artifact it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Box<RawValue>>,
}

/// What is read of a document for this. Nothing else of it is taken in: what somebody pushed may be made to grow.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact<'a> {
    #[serde(borrow)]
    artifact_type: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

impl<'a> Artifact<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    fn kind(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            media_type: Option<String>,
        }
        let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
        let config = |value: &RawValue| serde_json::from_str::<Config>(value.get()).ok()?.media_type;
        let own = self.artifact_type.and_then(text).filter(|kind| !kind.is_empty());
        own.or_else(|| self.config.and_then(config).filter(|kind| !kind.is_empty()))
    }
}

/// A blob, where it lies.
#[derive(Clone)]
pub struct Extent {
    /// What it lies in.
    pub medium: Arc<dyn ReadAt>,
    /// The file, where the blob's bytes lie in it as they are: the kernel may send them.
    pub file: Option<Arc<File>>,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

/// What a registry takes.
#[async_trait]
pub trait Stock: Holdings {
    /// Begins an upload and names it.
    ///
    /// # Errors
    /// `LimitExceeded` where too many are open.
    async fn begin(&self, repository: &Repository) -> Result<String>;

    /// Bytes that an upload has received; `None` where there is no such upload.
    async fn received(&self, repository: &Repository, upload: &str) -> Result<Option<u64>>;

    /// Appends to an upload, and tells what it has then. Whatever arrived before a failure stays.
    ///
    /// # Errors
    /// `NotFound` where there is no such upload, or none any more; `Locked` while another request writes it.
    async fn append(&self, repository: &Repository, upload: &str, content: Unverified) -> Result<u64>;

    /// Makes an upload a blob. On a mismatch the upload is gone.
    ///
    /// # Errors
    /// `DigestMismatch`; `NotFound` and `Locked` as for [`append`](Self::append).
    async fn finish(&self, repository: &Repository, upload: &str, digest: &Digest) -> Result<()>;

    /// Gives an upload up; whether there was one.
    async fn cancel(&self, repository: &Repository, upload: &str) -> Result<bool>;

    /// Puts a blob that is here already into this repository as well: one of `from`, or of any
    /// repository. Whether there was one.
    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool>;

    /// Keeps a document under its digest, and under a tag.
    async fn put(&self, repository: &Repository, document: &Kept, tag: Option<&Tag>) -> Result<()>;

    /// Forgets a tag, a document with all of its tags, or a blob, in this repository; whether it was there.
    async fn remove(&self, repository: &Repository, what: &Removal) -> Result<bool>;
}

/// What can be removed from a repository.
#[derive(Clone, Debug)]
pub enum Removal {
    /// A tag; the document stays.
    Tag(Tag),
    /// A document and every tag that leads to it.
    Document(Digest),
    /// A blob.
    Blob(Digest),
}
