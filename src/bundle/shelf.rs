//! A bundle as what a registry gives out: straight from the file, by offset. Nothing is given out that was
//! not read and hashed: beforehand, where the whole bundle was verified; else each blob when it is asked for the
//! first time.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::contents::{Contents, Entry};
use super::head::{mismatch, read_exactly, unreadable};
use super::reader::{Bundle, Medium, Trusted, Verified};
use crate::content::file::{self, ReadAt, ended, turn};
use crate::content::{Extent, Holdings, Kept, Pointer};
use crate::error::{Error, Result};
use crate::limits;
use crate::oci::{Digest, MediaType, Repository, Tag, document_type};
use crate::plan::Image;

/// See the module's text.
pub struct Shelf {
    bytes: Arc<dyn ReadAt>,
    file: Option<Arc<File>>,
    place: String,
    contents: Arc<Contents>,
    images: Vec<Image>,
    /// What was hashed since; nothing is looked up in it where all was hashed before.
    hashed: Option<Mutex<HashMap<Digest, Arc<OnceCell<()>>>>>,
}

impl Bundle<Verified> {
    /// The bundle as what a registry gives out.
    pub fn shelf(&self) -> Shelf {
        self.shelf_of(self.statement().images.clone(), self.contents(), None)
    }
}

impl Bundle<Trusted> {
    /// The same for a bundle of which only the head was read: each blob is hashed before it is given out for the
    /// first time.
    pub fn shelf(&self) -> Shelf {
        self.shelf_of(self.statement().images.clone(), self.state.contents.clone(), Some(Mutex::default()))
    }
}

impl<S> Bundle<S> {
    fn shelf_of(
        &self,
        images: Vec<Image>,
        contents: Arc<Contents>,
        hashed: Option<Mutex<HashMap<Digest, Arc<OnceCell<()>>>>>,
    ) -> Shelf {
        let Medium { bytes, file, .. } = self.medium.clone();
        Shelf { bytes, file, place: self.place.clone(), contents, images, hashed }
    }
}

impl Shelf {
    /// The images that a repository has: by its path, or by registry and path.
    fn images(&self, repository: &Repository) -> impl Iterator<Item = &Image> {
        let full = repository.as_str().split_once('/').map(|(host, path)| (host.to_owned(), path.to_owned()));
        self.images.iter().filter(move |image| {
            let source = &image.source;
            source.repository == *repository
                || full.as_ref().is_some_and(|(host, path)| {
                    source.registry.as_str() == host && source.repository.as_str() == path
                })
        })
    }

    fn has(&self, repository: &Repository) -> bool {
        self.images(repository).next().is_some()
    }

    /// Hashes an entry unless that was done. Whoever asks for it at the same time waits for the same reading.
    async fn check(&self, entry: &Entry) -> Result<()> {
        let Some(hashed) = &self.hashed else { return Ok(()) };
        let cell =
            hashed.lock().unwrap_or_else(PoisonError::into_inner).entry(entry.digest).or_default().clone();
        let read = || async {
            let (bytes, place, offset, size) =
                (self.bytes.clone(), self.place.clone(), entry.offset, entry.size);
            let turn = turn(&*bytes).await;
            let hash = move || {
                let _turn = turn;
                file::digest_at(&*bytes, offset, size).map_err(|e| unreadable(&place, offset, &e))
            };
            match tokio::task::spawn_blocking(hash).await.map_err(|_| ended())?? {
                digest if digest == entry.digest => Ok(()),
                digest => Err(mismatch(&entry.path(), digest, Some(entry.digest)).at(&self.place)),
            }
        };
        cell.get_or_try_init(read).await.copied()
    }

    async fn document_of(&self, digest: &Digest) -> Result<Option<Kept>> {
        let Some((_, entry)) = self.contents.blob(digest).filter(|(_, entry)| entry.size <= limits::DOCUMENT)
        else {
            return Ok(None);
        };
        self.check(entry).await?;
        let (bytes, place, offset, size) = (self.bytes.clone(), self.place.clone(), entry.offset, entry.size);
        let turn = turn(&*bytes).await;
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut buffer = vec![0; size as usize];
            read_exactly(&*bytes, &place, &mut buffer, offset)?;
            Ok::<_, Error>(Bytes::from(buffer))
        });
        let bytes = read.await.map_err(|_| ended())??;
        // The medium may have changed since.
        if Digest::of(&bytes) != *digest {
            return Err(mismatch(&entry.path(), Digest::of(&bytes), Some(*digest)).at(&self.place));
        }
        let stated =
            self.images.iter().find(|image| image.digest == *digest).map(|image| image.media_type.clone());
        let own = || document_type(&bytes).filter(|own| own.document_role().is_some());
        let media_type = stated.map(|stated| MediaType::new(&stated)).or_else(own);
        Ok(media_type.map(|media_type| Kept { media_type, digest: *digest, bytes }))
    }
}

#[async_trait]
impl Holdings for Shelf {
    async fn repositories(&self) -> Result<Vec<Repository>> {
        let names: BTreeSet<_> = self.images.iter().map(|image| image.source.repository.clone()).collect();
        Ok(names.into_iter().collect())
    }

    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>> {
        let tags: BTreeSet<_> = self
            .images(repository)
            .flat_map(|image| image.tags.iter().chain(attaching(image)).cloned())
            .collect();
        Ok(self.has(repository).then(|| tags.into_iter().collect()))
    }

    async fn document(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Kept>> {
        let digest = match pointer {
            Pointer::Digest(digest) => self.has(repository).then_some(*digest),
            Pointer::Tag(tag) => {
                let digests: BTreeSet<_> =
                    self.images(repository).filter_map(|image| document_at(image, tag)).collect();
                // Two registries' images of one name: only the one that names its registry is answered.
                if digests.len() == 1 { digests.first().copied() } else { None }
            }
        };
        match digest {
            Some(digest) => self.document_of(&digest).await,
            None => Ok(None),
        }
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Extent>> {
        let Some((_, entry)) = self.contents.blob(digest).filter(|_| self.has(repository)) else {
            return Ok(None);
        };
        self.check(entry).await?;
        let (medium, file) = (self.bytes.clone(), self.file.clone());
        Ok(Some(Extent { medium, file, offset: entry.offset, size: entry.size }))
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Kept>> {
        let referrers = self.images(repository).flat_map(|image| &image.referrers);
        let referrers = referrers.filter(|one| one.subject == *subject && one.tag.is_none());
        let digests: BTreeSet<_> = referrers.map(|one| one.digest).collect();
        let mut found = Vec::new();
        for digest in digests {
            found.extend(self.document_of(&digest).await?);
        }
        Ok(found)
    }
}

/// The tags of what is attached to an image.
fn attaching(image: &Image) -> impl Iterator<Item = &Tag> {
    image.referrers.iter().filter_map(|referrer| referrer.tag.as_ref())
}

/// What a tag leads to: the image, or something that is attached to it.
fn document_at(image: &Image, tag: &Tag) -> Option<Digest> {
    let attached = || image.referrers.iter().find(|one| one.tag.as_ref() == Some(tag)).map(|one| one.digest);
    if image.tags.contains(tag) { Some(image.digest) } else { attached() }
}
