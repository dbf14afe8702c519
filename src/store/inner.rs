//! The store itself, as it is worked on by threads that may wait: the directory, its locks, and what this
//! run remembers of it. What is done with it: [`lookup`](super::lookup), [`keeping`](super::keeping),
//! [`documents`](super::documents), [`uploads`](super::uploads), [`sweep`](super::sweep).
//!
//! What keeps content and names together:
//!
//! - A blob gets its name after it was hashed and has reached the disk; a link after its blob; a tag last.
//! - Whoever makes a link looks whether its content is there, gives it a new time, and links, all while
//!   holding the lock together with others ([`section`]); whoever sweeps holds it alone, and sweeps only
//!   what still has the time that it had before anything was marked ([`sweep`](super::sweep)).

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::FlockOperation;

use super::paths;
use super::tree::Tree;
use super::uploads::Sessions;
use super::workshop::{Draft, Section, Workshop, section};
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// When what was named is to last through a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// Before it is said to be done.
    Now,
    /// With the next tag: one wait for thousands of names.
    Later,
}

/// See the module's text.
pub(super) struct Inner {
    pub directory: PathBuf,
    tree: OnceLock<Arc<Tree>>,
    workshop: OnceLock<Workshop>,
    /// What documents refer to. A digest's document never changes.
    pub subjects: Mutex<HashMap<Digest, Option<Digest>>>,
    pub sessions: Mutex<Sessions>,
    /// Whether names were given that may not have reached the disk.
    unsettled: Mutex<bool>,
}

impl Inner {
    pub fn new(directory: &Path) -> Self {
        Inner {
            directory: directory.to_owned(),
            tree: OnceLock::new(),
            workshop: OnceLock::new(),
            subjects: Mutex::default(),
            sessions: Mutex::default(),
            unsettled: Mutex::default(),
        }
    }

    /// The directory, if it is there.
    pub fn tree(&self) -> Result<Option<Arc<Tree>>> {
        if let Some(tree) = self.tree.get() {
            return Ok(Some(tree.clone()));
        }
        check_directory(&self.directory)?;
        let opened = Tree::open(&self.directory)?;
        Ok(opened.map(|tree| self.tree.get_or_init(|| Arc::new(tree)).clone()))
    }

    /// The directory, made a store if need be.
    pub fn made(&self) -> Result<Arc<Tree>> {
        if self.tree()?.is_none() {
            std::fs::create_dir_all(&self.directory)
                .map_err(|e| Error::io("cannot create the store", self.directory.display(), &e))?;
        }
        let gone = || Error::new(Kind::NotFound, "the store is gone").at(self.directory.display());
        let tree = self.tree()?.ok_or_else(gone)?;
        if self.workshop.get().is_none() {
            tree.make(paths::BLOBS)?;
            tree.make(paths::REPOSITORIES)?;
        }
        Ok(tree)
    }

    /// The directory, and where things are made in it.
    pub fn workshop(&self) -> Result<(Arc<Tree>, &Workshop)> {
        let tree = self.made()?;
        if let Some(workshop) = self.workshop.get() {
            return Ok((tree, workshop));
        }
        let made = Workshop::new(tree.clone())?;
        Ok((tree, self.workshop.get_or_init(|| made)))
    }

    /// The lock, held together with all who link.
    pub fn shared(&self) -> Result<Section> {
        section(&*self.made()?, FlockOperation::LockShared)
    }

    /// The lock, held alone.
    pub fn alone(&self) -> Result<Section> {
        section(&*self.made()?, FlockOperation::LockExclusive)
    }

    pub fn draft(&self) -> Result<Draft> {
        let (tree, workshop) = self.workshop()?;
        Draft::new(&tree, workshop)
    }

    /// Makes what was named last, at the latest now.
    pub fn settle_all(&self) -> Result<()> {
        let mut unsettled = lock(&self.unsettled);
        if *unsettled {
            self.made()?.sync()?;
            *unsettled = false;
        }
        Ok(())
    }

    pub fn settle(&self, path: &str, lasting: Lasting) -> Result<()> {
        match lasting {
            Lasting::Now => self.made()?.settle(path),
            Lasting::Later => {
                *lock(&self.unsettled) = true;
                Ok(())
            }
        }
    }

    /// Hashes an open file.
    pub fn hash(&self, file: &File, place: &str) -> Result<Digest> {
        let hashed = file::digest_of(file);
        hashed.map(|(digest, _)| digest).map_err(|e| Error::io("cannot read the store", place, &e))
    }
}

pub(super) fn missing(place: impl std::fmt::Display, digest: &Digest) -> Error {
    Error::new(Kind::BlobMissing, "something that is needed is not in the store")
        .at(place)
        .got(digest)
        .hint("push it first; if it was there a moment ago, run the same command again")
}

pub(super) fn damaged(place: impl std::fmt::Display, got: Digest, expected: Digest) -> Error {
    file::not_its_digest(place, got, expected).hint("importing or pushing the image again mends it")
}

pub(super) fn unreadable(tree: &Tree, digest: &Digest, error: &std::io::Error) -> Error {
    Error::io("cannot read the store", tree.shown(&paths::blob(digest)), error)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the directory is absent, empty, or a store.
fn check_directory(directory: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("cannot read the store", directory.display(), &e)),
    };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let known = |name: &str| names.iter().any(|other| other == name);
    // A fresh file system has a directory for what is found on it.
    let strange = names.iter().find(|name| *name != "lost+found");
    match strange.filter(|_| !known("docker") && !known(paths::OWN)) {
        None => Ok(()),
        Some(strange) => {
            Err(Error::new(Kind::OutputExists, "the directory holds something else than a store")
                .at(directory.display())
                .got(strange.to_string_lossy())
                .hint("name a new or empty directory, or one that docker-registry or sealift has written"))
        }
    }
}
