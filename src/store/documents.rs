//! Documents: which ones may come in, and what has to be there before they do.

use std::collections::HashSet;

use bytes::Bytes;

use super::inner::{Inner, Lasting, damaged, missing};
use super::keeping::touched;
use super::outline::Outline;
use super::paths;
use super::tree::Tree;
use crate::content::Kept;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, MediaType, Repository, Role, Tag, check_document};

/// Which children of an index must be there.
pub(super) enum Children<'a> {
    /// All of them.
    All,
    /// These; others may have been left out.
    These(&'a HashSet<Digest>),
}

impl Inner {
    /// Keeps a document: its bytes, then the link to it, then the tag.
    ///
    /// # Errors
    /// `BlobMissing` where something that it names is not in the repository.
    pub fn put(
        &self,
        repository: &Repository,
        document: &Kept,
        tag: Option<&Tag>,
        children: &Children<'_>,
        lasting: Lasting,
    ) -> Result<()> {
        let outline = judged(document)?;
        let digest = &document.digest;
        let tree = self.made()?;
        let data = self.draft()?;
        {
            use std::io::Write;
            (&data.file).write_all(&document.bytes).map_err(|e| data.failed(&e))?;
            data.sync()?;
        }
        let link = self.link(digest, lasting)?;
        let directory = paths::revision(repository, digest);
        // Distribution finds a repository by its blobs; a document may have none.
        tree.make(&paths::layers(repository))?;
        {
            let _shared = self.shared()?;
            self.require(&tree, repository, &outline, children).map_err(|e| e.at(digest))?;
            data.name(&paths::blob_directory(digest), "data")?;
            link.name(&directory, "link")?;
        }
        self.settle(&paths::blob_directory(digest), lasting)?;
        self.settle(&directory, lasting)?;
        tag.map_or(Ok(()), |tag| self.tag(repository, tag, digest))
    }

    /// Requires that all is there that a document names, and gives it a new time: whoever is about to
    /// sweep it away sees that it is needed.
    fn require(
        &self,
        tree: &Tree,
        repository: &Repository,
        outline: &Outline,
        children: &Children<'_>,
    ) -> Result<()> {
        for blob in &outline.blobs {
            let digest = &blob.digest;
            let there = self.linked(tree, &paths::layer(repository, digest), digest)?;
            if !there || !touched(tree, digest)? {
                if blob.elsewhere {
                    continue;
                }
                return Err(missing(repository, digest));
            }
            self.check_size(tree, digest, blob.size)?;
        }
        for digest in &outline.documents {
            let optional = matches!(children, Children::These(these) if !these.contains(digest));
            if !self.hold(tree, repository, digest)? && !optional {
                return Err(missing(repository, digest));
            }
        }
        // It may come later, or never.
        outline.subject.map_or(Ok(false), |subject| self.hold(tree, repository, &subject)).map(drop)
    }

    fn check_size(&self, tree: &Tree, digest: &Digest, size: Option<u64>) -> Result<()> {
        let there = tree.facts(&paths::blob(digest))?.map(|facts| facts.st_size as u64);
        match size.filter(|size| there != Some(*size)) {
            None => Ok(()),
            Some(size) => Err(Error::new(Kind::SizeMismatch, "a blob is not as long as a document says")
                .at(digest)
                .got(format_args!("{} bytes", there.unwrap_or_default()))
                .expected(format_args!("{size} bytes"))),
        }
    }
}

/// What a document names, after it was found to be one that may come in.
fn judged(document: &Kept) -> Result<Outline> {
    let got = Digest::of(&document.bytes);
    if got != document.digest {
        return Err(damaged(document.digest, got, document.digest));
    }
    let descriptor = described(&document.media_type, document.digest, &document.bytes)?;
    if descriptor.size > limits::DOCUMENT {
        return Err(Error::new(Kind::LimitExceeded, "a document is too large")
            .at(document.digest)
            .got(descriptor.size)
            .expected(format_args!("at most {} bytes", limits::DOCUMENT)));
    }
    check_document(&descriptor, &document.bytes).map_err(|e| e.at(document.digest))?;
    let outline = Outline::parse(&document.bytes).map_err(|e| e.at(document.digest))?;
    match &outline.foreign {
        None => Ok(outline),
        Some(foreign) => Err(Error::new(Kind::DigestInvalid, "a document names content by no usable digest")
            .at(document.digest)
            .got(foreign)
            .expected("sha256:<64 lower-case hex digits>")),
    }
}

/// A descriptor for a stored document.
pub(super) fn described(media_type: &MediaType, digest: Digest, bytes: &Bytes) -> Result<Descriptor> {
    let role: Role = media_type.document_role().ok_or_else(|| {
        Error::new(Kind::DocumentUnsupported, "neither an index nor a manifest").at(digest).got(media_type)
    })?;
    Ok(Descriptor { role, media_type: media_type.clone(), digest, size: bytes.len() as u64 })
}
