//! One repository of a store, as a place that content comes from and goes to.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use super::documents::{Children, described};
use super::inner::{Lasting, lock, missing};
use crate::content::{Extent, Kept, Meter, Pointer, Reader, Referring, Sink, Source, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Attached, Descriptor, Digest, Name, Repository};

/// See the module's text. What was named reaches the disk with the next tag, all at once.
#[derive(Clone)]
pub struct Shelf {
    store: Store,
    repository: Repository,
    /// Documents that were said to be here: those an index may not miss.
    promised: Arc<Mutex<HashSet<Digest>>>,
}

impl Shelf {
    pub(super) fn new(store: Store, repository: Repository) -> Self {
        Shelf { store, repository, promised: Arc::default() }
    }

    async fn push_document(&self, expected: &Descriptor, content: Reader) -> Result<()> {
        let bytes = content.into_bytes().await?;
        let document = Kept { media_type: expected.media_type.clone(), digest: expected.digest, bytes };
        let (repository, promised) = (self.repository.clone(), lock(&self.promised).clone());
        let put = move |inner: &super::Inner| {
            inner.put(&repository, &document, None, &Children::These(&promised), Lasting::Later)
        };
        self.store.work(put).await?;
        lock(&self.promised).insert(expected.digest);
        Ok(())
    }

    async fn push_blob(&self, expected: &Descriptor, mut content: Reader) -> Result<()> {
        let draft = self.store.work(|inner| inner.open_draft()).await?;
        let mut at = 0u64;
        while let Some(piece) = content.chunk().await? {
            tokio::task::block_in_place(|| draft.file.write_all_at(&piece, at))
                .map_err(|e| draft.failed(&e))?;
            at = at.saturating_add(piece.len() as u64);
        }
        let (repository, digest) = (self.repository.clone(), expected.digest);
        let keep = move |inner: &super::Inner| {
            inner.keep(draft, &digest, Lasting::Later)?;
            inner.linked_now(&repository, &digest, Lasting::Later)
        };
        self.store.work(keep).await
    }
}

#[async_trait]
impl Sink for Shelf {
    /// Makes the store, and looks whether there is room.
    async fn ready(&self, bytes: u64) -> Result<()> {
        let ready = move |inner: &super::Inner| {
            inner.workshop()?;
            file::check_room(&inner.directory, bytes)
        };
        self.store.work(ready).await
    }

    /// Present means: the repository has it, and it hashes to its digest.
    async fn exists(&self, expected: &Descriptor) -> Result<bool> {
        let (repository, wanted) = (self.repository.clone(), expected.clone());
        let there = self.store.work(move |inner| inner.holds(&repository, &wanted)).await?;
        if there && expected.role.is_document() {
            lock(&self.promised).insert(expected.digest);
        }
        Ok(there)
    }

    async fn mount(&self, expected: &Descriptor, repository: &str) -> Result<bool> {
        let from: Repository = repository.parse()?;
        let (repository, digest) = (self.repository.clone(), expected.digest);
        let mount =
            move |inner: &super::Inner| inner.mount(&repository, &digest, Some(&from), Lasting::Later);
        self.store.work(mount).await
    }

    async fn adopt(&self, expected: &Descriptor, extent: &Extent, meter: &Meter) -> Result<bool> {
        // A document is read anyway, to see what it needs.
        if expected.role.is_document() {
            return Ok(false);
        }
        let repository = self.repository.clone();
        let (expected, extent, meter) = (expected.clone(), extent.clone(), meter.clone());
        self.store.work(move |inner| inner.adopt(&repository, &expected, &extent, &meter)).await
    }

    async fn push(&self, expected: &Descriptor, content: Reader) -> Result<()> {
        match expected.role.is_document() {
            true => self.push_document(expected, content).await,
            false => self.push_blob(expected, content).await,
        }
    }

    /// A tag that leads nowhere is none: it is set anew.
    async fn tagged(&self, name: &Name) -> Result<Option<Digest>> {
        let (repository, tag) = (self.repository.clone(), name.tag.clone());
        match self.store.work(move |inner| inner.tagged(&repository, &tag)).await {
            Err(e) if e.kind() == Kind::LayoutInvalid => Ok(None),
            tagged => tagged,
        }
    }

    /// The documents themselves say it.
    async fn referrers(&self, subject: &Digest) -> Result<Referring> {
        let (repository, subject) = (self.repository.clone(), *subject);
        let digests = self.store.work(move |inner| inner.sound_referrers(&repository, &subject)).await?;
        Ok(Referring { digests, by_tag: false })
    }

    async fn tag(&self, name: &Name, document: &Descriptor, _: Bytes) -> Result<()> {
        let (repository, tag, digest) = (self.repository.clone(), name.tag.clone(), document.digest);
        self.store.work(move |inner| inner.tag(&repository, &tag, &digest)).await
    }
}

#[async_trait]
impl Source for Shelf {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        let (repository, tag) = (self.repository.clone(), name.tag.clone());
        let pointer = digest.map_or(Pointer::Tag(tag), |digest| Pointer::Digest(*digest));
        let found = self.store.work(move |inner| inner.document(&repository, &pointer)).await?;
        let kept = found.ok_or_else(|| {
            let sought = digest.map_or(format!(":{}", name.tag), |digest| format!("@{digest}"));
            Error::new(Kind::NotFound, "no such image in the store").at(format_args!(
                "{}: {}{sought}",
                self.store.shown(),
                self.repository
            ))
        })?;
        Ok((described(&kept.media_type, kept.digest, &kept.bytes)?, kept.bytes))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        if expected.role.is_document() && expected.size > limits::DOCUMENT {
            return Err(Error::new(Kind::LimitExceeded, "a document is too large").at(expected.digest));
        }
        let lost = || missing(self.store.shown(), &expected.digest);
        let extent = self.extent(expected).await?.ok_or_else(lost)?;
        if extent.size != expected.size {
            return Err(Error::new(Kind::SizeMismatch, "a blob is not as long as its descriptor says")
                .at(expected.digest)
                .got(format_args!("{} bytes", extent.size))
                .expected(format_args!("{} bytes", expected.size)));
        }
        let place = format!("{}: {}", self.store.shown(), expected.digest);
        let left = extent.size.saturating_sub(from);
        let pieces = file::stream(extent.medium, place.clone(), extent.offset.saturating_add(from), left);
        Ok(Unverified::new(place, pieces))
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let (repository, subject) = (self.repository.clone(), *subject);
        let find = move |inner: &super::Inner| {
            let mut found = Vec::new();
            for tag in subject.cosign_tags() {
                if let Some(kept) = inner.document(&repository, &Pointer::Tag(tag.clone()))? {
                    found.push((kept, Some(tag)));
                }
            }
            found.extend(inner.referrers(&repository, &subject)?.into_iter().map(|kept| (kept, None)));
            Ok(found)
        };
        let attached = self.store.work(find).await?.into_iter().map(|(kept, tag)| {
            Ok(Attached { subject, descriptor: described(&kept.media_type, kept.digest, &kept.bytes)?, tag })
        });
        attached.collect()
    }

    async fn extent(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        let expected = expected.clone();
        self.store.work(move |inner| inner.content(&expected)).await
    }
}
