//! The store of a registry, in the directory layout of CNCF Distribution's filesystem driver: Debian's
//! `docker-registry`, started with `rootdirectory: DIR`, serves what is in it, and what that one stored
//! is served from it.
//!
//! ```text
//! DIR/docker/registry/v2/blobs/sha256/<ab>/<hex>/data
//!                       /repositories/<name>/_layers/sha256/<hex>/link
//!                                           /_manifests/revisions/sha256/<hex>/link
//!                                           /_manifests/tags/<tag>/current/link
//!                                           /_manifests/tags/<tag>/index/sha256/<hex>/link
//!                                           /_uploads/<uuid>/{data,startedat}
//! DIR/.sealift/lock, DIR/.sealift/tmp/        (sealift's own)
//! ```
//!
//! Nothing is held in memory that would have to agree with the disk: every look-up opens the few
//! files it needs, so two programs can share a store, and one of a hundred thousand blobs opens at once.
//! Names are built from checked repositories, tags and digests only, and no symbolic link is followed.

mod documents;
mod inner;
mod inspect;
mod keeping;
mod lookup;
mod outline;
mod paths;
mod removal;
mod shelf;
mod sweep;
mod tree;
mod uploads;
mod workshop;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::content::{Extent, Holdings, Kept, Pointer, Stock, Unverified, Watch, file};
use crate::error::Result;
use crate::oci::{Digest, Repository, Tag};

use documents::Children;
use inner::{Inner, Lasting};

pub use crate::content::Removal;
pub use inspect::{Checked, Finding};
pub use removal::Removed;
pub use shelf::Shelf;
pub use sweep::{Sweep, Swept};

/// A store. Clones are the same one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Whether what is pushed may name documents that are not here.
    sparse: bool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown())
    }
}

impl Store {
    /// Opens a store, making one where the directory is absent or empty. Uploads that were begun more
    /// than a day ago are forgotten.
    ///
    /// # Errors
    /// `OutputExists` where the directory holds something else.
    pub fn open(directory: &Path) -> Result<Self> {
        let store = Store::at(directory)?;
        store.inner.workshop()?;
        store.inner.purge_uploads()?;
        Ok(store)
    }

    /// The store in a directory. Nothing is made before something is kept: a directory that is not
    /// there is an empty store.
    ///
    /// # Errors
    /// `OutputExists` where the directory holds something else.
    pub fn at(directory: &Path) -> Result<Self> {
        let inner = Inner::new(directory);
        inner.tree()?;
        Ok(Store { inner: Arc::new(inner), sparse: false })
    }

    /// The same store, which keeps indexes as well of which parts are not here.
    pub fn sparse(self, sparse: bool) -> Self {
        Store { sparse, ..self }
    }

    /// One repository of it, which need not exist yet.
    pub fn shelf(&self, repository: &Repository) -> Shelf {
        Shelf::new(self.clone(), repository.clone())
    }

    /// Deletes what no document names, and what nobody needs ([`Sweep`]). Others may read and write meanwhile.
    ///
    /// # Errors
    /// `NotFound` where there is no store; whatever makes it impossible to know what is needed.
    pub async fn sweep(&self, order: Sweep) -> Result<Swept> {
        self.work(move |inner| inner.sweep(order)).await
    }

    /// Looks everything over; every blob is read.
    ///
    /// # Errors
    /// `NotFound` where there is no store. What is damaged is no error but a finding.
    pub async fn check(&self, threads: usize, watch: Arc<dyn Watch>) -> Result<Checked> {
        self.work(move |inner| inner.check(threads, &watch)).await
    }

    /// Takes a tag, a document with its tags, or a whole repository out of the store.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn take_out(
        &self,
        repository: &Repository,
        what: Option<Pointer>,
        dry_run: bool,
    ) -> Result<Removed> {
        let repository = repository.clone();
        self.work(move |inner| inner.take_out(&repository, what.as_ref(), dry_run)).await
    }

    fn shown(&self) -> String {
        self.inner.directory.display().to_string()
    }

    /// Work on a thread that may wait.
    async fn work<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Inner) -> Result<T> + Send + 'static,
    {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| file::ended())?
    }
}

#[async_trait]
impl Holdings for Store {
    async fn repositories(&self) -> Result<Vec<Repository>> {
        self.work(Inner::repositories).await
    }

    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>> {
        let repository = repository.clone();
        self.work(move |inner| inner.tags(&repository)).await
    }

    async fn document(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Kept>> {
        let (repository, pointer) = (repository.clone(), pointer.clone());
        self.work(move |inner| inner.document(&repository, &pointer)).await
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Extent>> {
        let (repository, digest) = (repository.clone(), *digest);
        self.work(move |inner| inner.blob(&repository, &digest)).await
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Kept>> {
        let (repository, subject) = (repository.clone(), *subject);
        self.work(move |inner| inner.referrers(&repository, &subject)).await
    }

    async fn referring(
        &self,
        repository: &Repository,
        subjects: &HashSet<Digest>,
    ) -> Result<Vec<(Digest, Digest)>> {
        let (repository, subjects) = (repository.clone(), subjects.clone());
        self.work(move |inner| inner.referring(&repository, &subjects)).await
    }
}

#[async_trait]
impl Stock for Store {
    async fn begin(&self, repository: &Repository) -> Result<String> {
        let repository = repository.clone();
        self.work(move |inner| inner.begin(&repository)).await
    }

    async fn received(&self, repository: &Repository, upload: &str) -> Result<Option<u64>> {
        let (repository, upload) = (repository.clone(), upload.to_owned());
        self.work(move |inner| inner.received(&repository, &upload)).await
    }

    async fn append(&self, repository: &Repository, upload: &str, content: Unverified) -> Result<u64> {
        self.inner.append(repository, upload, content).await
    }

    async fn finish(&self, repository: &Repository, upload: &str, digest: &Digest) -> Result<()> {
        self.inner.finish(repository, upload, digest).await
    }

    async fn cancel(&self, repository: &Repository, upload: &str) -> Result<bool> {
        let (repository, upload) = (repository.clone(), upload.to_owned());
        self.work(move |inner| inner.cancel(&repository, &upload)).await
    }

    async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool> {
        let (repository, digest, from) = (repository.clone(), *digest, from.cloned());
        self.work(move |inner| inner.mount(&repository, &digest, from.as_ref(), Lasting::Now)).await
    }

    /// Everything that the document names must be in the repository, whatever it refers to may come later.
    ///
    /// # Errors
    /// `BlobMissing`; what is wrong with the document.
    async fn put(&self, repository: &Repository, document: &Kept, tag: Option<&Tag>) -> Result<()> {
        let (repository, document, tag) = (repository.clone(), document.clone(), tag.cloned());
        let sparse = self.sparse;
        let put = move |inner: &Inner| {
            let nobody = HashSet::new();
            let children = if sparse { Children::These(&nobody) } else { Children::All };
            inner.put(&repository, &document, tag.as_ref(), &children, Lasting::Now)
        };
        self.work(put).await
    }

    async fn remove(&self, repository: &Repository, what: &Removal) -> Result<bool> {
        let (repository, what) = (repository.clone(), what.clone());
        self.work(move |inner| inner.remove(&repository, &what)).await
    }
}

/// Requires that a directory holds a store.
///
/// # Errors
/// `NotFound`.
pub fn existing(directory: &Path) -> Result<Store> {
    let store = Store::at(directory)?;
    store.inner.existing()?;
    Ok(store)
}
