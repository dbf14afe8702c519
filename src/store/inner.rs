//! The store itself, as it is worked on by threads that may wait: looking up, linking, keeping.
//!
//! What keeps content and names together:
//!
//! - A blob gets its name after it was hashed and has reached the disk; a link after its blob; a tag last.
//! - Whoever makes a link looks whether its content is there, gives it a new time, and links, all while
//!   holding the lock together with others ([`section`]); whoever sweeps holds it alone, and sweeps only
//!   what still has the time that it had before anything was marked ([`sweep`](super::sweep)).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use rustix::fs::FlockOperation;

use super::outline::{Outline, media_type};
use super::paths;
use super::tree::Tree;
use super::uploads::Sessions;
use super::workshop::{Draft, Section, Workshop, section};
use crate::content::{Extent, Kept, Meter, Pointer, Removal, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, MediaType, Repository, Role, Tag, check_document};

/// When what was named is to last through a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// Before it is said to be done.
    Now,
    /// With the next tag: one wait for thousands of names.
    Later,
}

/// Which children of an index must be there.
pub(super) enum Children<'a> {
    /// All of them.
    All,
    /// These; others may have been left out.
    These(&'a HashSet<Digest>),
}

/// See the module's text.
pub(super) struct Inner {
    pub directory: PathBuf,
    tree: OnceLock<Arc<Tree>>,
    workshop: OnceLock<Workshop>,
    /// What documents refer to. A digest's document never changes.
    subjects: Mutex<HashMap<Digest, Option<Digest>>>,
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
    fn shared(&self) -> Result<Section> {
        section(&*self.made()?, FlockOperation::LockShared)
    }

    /// The lock, held alone.
    pub fn alone(&self) -> Result<Section> {
        section(&*self.made()?, FlockOperation::LockExclusive)
    }

    fn draft(&self) -> Result<Draft> {
        let (tree, workshop) = self.workshop()?;
        Draft::new(&tree, workshop)
    }

    /// Whether a directory says that it has this: a link that says anything else says nothing.
    fn linked(&self, tree: &Tree, directory: &str, digest: &Digest) -> Result<bool> {
        let text = tree.read(&paths::link(directory), limits::LINK);
        let text = text.or_else(|e| if e.kind() == Kind::LimitExceeded { Ok(None) } else { Err(e) })?;
        Ok(text.is_some_and(|text| text == digest.to_string().as_bytes()))
    }

    /// What a tag leads to.
    ///
    /// # Errors
    /// `LayoutInvalid` where it leads nowhere.
    pub fn tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        let path = paths::link(&paths::current(repository, tag));
        let Some(text) = tree.read(&path, limits::LINK)? else { return Ok(None) };
        let digest = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        digest.map(Some).ok_or_else(|| {
            Error::new(Kind::LayoutInvalid, "a tag leads nowhere")
                .at(tree.shown(&path))
                .got(format_args!("{:?}", String::from_utf8_lossy(&text)))
                .expected("sha256:<64 lower-case hex digits>")
                .hint("push the image again, or remove the tag: sealift store remove")
        })
    }

    /// All repositories: directories that have blobs or documents.
    pub fn repositories(&self) -> Result<Vec<Repository>> {
        let Some(tree) = self.tree()? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut left = vec![String::new()];
        while let Some(name) = left.pop() {
            let path = format!("{}/{name}", paths::REPOSITORIES);
            let mut own = false;
            for below in tree.directories(path.trim_end_matches('/'))? {
                own |= matches!(below.as_str(), "_manifests" | "_layers");
                // A name has at most 255 characters: so deep, and no deeper, is looked.
                let longer = if name.is_empty() { below } else { format!("{name}/{below}") };
                if longer.parse::<Repository>().is_ok() {
                    left.push(longer);
                }
            }
            if own {
                found.extend(name.parse::<Repository>().ok());
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Whether there is such a repository.
    fn has_repository(&self, tree: &Tree, repository: &Repository) -> Result<bool> {
        let path = paths::repository(repository);
        Ok(tree.facts(&format!("{path}/_manifests"))?.is_some()
            || tree.facts(&format!("{path}/_layers"))?.is_some())
    }

    /// A repository's tags, sorted.
    pub fn tags(&self, repository: &Repository) -> Result<Option<Vec<Tag>>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        if !self.has_repository(&tree, repository)? {
            return Ok(None);
        }
        let mut tags = Vec::new();
        for name in tree.directories(&paths::tags(repository))? {
            let Ok(tag) = name.parse::<Tag>() else { continue };
            if tree.facts(&paths::link(&paths::current(repository, &tag)))?.is_some() {
                tags.push(tag);
            }
        }
        tags.sort_unstable();
        Ok(Some(tags))
    }

    /// The digests that a directory of links names.
    pub fn digests(&self, directory: &str) -> Result<Vec<Digest>> {
        let Some(tree) = self.tree()? else { return Ok(Vec::new()) };
        Ok(tree.directories(directory)?.iter().filter_map(|name| Digest::from_hex(name)).collect())
    }

    /// A document of a repository. What is linked and not there counts as not there: it can be pushed again.
    pub fn document(&self, repository: &Repository, pointer: &Pointer) -> Result<Option<Kept>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        let digest = match pointer {
            Pointer::Digest(digest) => *digest,
            Pointer::Tag(tag) => match self.tagged(repository, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        match self.linked(&tree, &paths::revision(repository, &digest), &digest)? {
            true => self.kept(&digest),
            false => Ok(None),
        }
    }

    /// A document's bytes, hashed each time.
    ///
    /// # Errors
    /// `DigestMismatch`.
    pub fn kept(&self, digest: &Digest) -> Result<Option<Kept>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        let path = paths::blob(digest);
        let Some(bytes) = tree.read(&path, limits::DOCUMENT)? else { return Ok(None) };
        let got = Digest::of(&bytes);
        if got != *digest {
            return Err(damaged(tree.shown(&path), got, *digest));
        }
        Ok(Some(Kept { media_type: media_type(&bytes), digest: *digest, bytes: bytes.into() }))
    }

    /// A blob of a repository.
    pub fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Extent>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        if !self.linked(&tree, &paths::layer(repository, digest), digest)? {
            return Ok(None);
        }
        self.extent(&tree, digest)
    }

    fn extent(&self, tree: &Tree, digest: &Digest) -> Result<Option<Extent>> {
        let Some(file) = tree.file(&paths::blob(digest))? else { return Ok(None) };
        let facts = file.metadata();
        let size = facts.map_err(|e| unreadable(tree, digest, &e))?.len();
        let file = Arc::new(file);
        Ok(Some(Extent { medium: file.clone(), file: Some(file), offset: 0, size }))
    }

    /// Whether a repository has this, and the bytes are what the digest says.
    pub fn holds(&self, repository: &Repository, expected: &Descriptor) -> Result<bool> {
        let Some(tree) = self.tree()? else { return Ok(false) };
        let digest = &expected.digest;
        let directory = match expected.role.is_document() {
            true => paths::revision(repository, digest),
            false => paths::layer(repository, digest),
        };
        Ok(self.linked(&tree, &directory, digest)? && self.intact(&tree, expected)?)
    }

    fn intact(&self, tree: &Tree, expected: &Descriptor) -> Result<bool> {
        let digest = &expected.digest;
        let Some(extent) = self.extent(tree, digest)? else { return Ok(false) };
        if extent.size != expected.size {
            return Ok(false);
        }
        Ok(file::digest_of(&*extent.medium).map_err(|e| unreadable(tree, digest, &e))?.0 == *digest)
    }

    /// The documents of a repository that refer to this one; and those that the index under the
    /// fallback tag lists (distribution-spec, "Referrers Tag Schema").
    pub fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Kept>> {
        let mut found = Vec::new();
        for digest in self.digests(&paths::revisions(repository))? {
            if self.subject(&digest)? == Some(*subject) {
                found.push(digest);
            }
        }
        found.extend(self.fallback(repository, subject)?);
        let mut seen = HashSet::new();
        found.retain(|digest| seen.insert(*digest));
        let mut kept = Vec::new();
        for digest in found {
            kept.extend(self.document(repository, &Pointer::Digest(digest))?);
        }
        Ok(kept)
    }

    /// What a document refers to, read once.
    pub fn subject(&self, digest: &Digest) -> Result<Option<Digest>> {
        if let Some(subject) = lock(&self.subjects).get(digest) {
            return Ok(*subject);
        }
        let Some(kept) = self.kept(digest)? else { return Ok(None) };
        let subject = Outline::parse(&kept.bytes).map_err(|e| e.at(digest))?.subject;
        let mut subjects = lock(&self.subjects);
        if subjects.len() >= limits::SUBJECTS {
            subjects.clear();
        }
        subjects.insert(*digest, subject);
        Ok(subject)
    }

    /// What the index under the fallback tag lists.
    pub fn fallback(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Digest>> {
        let tag: Tag = format!("sha256-{}", subject.hex()).parse()?;
        let Some(index) = self.document(repository, &Pointer::Tag(tag))? else { return Ok(Vec::new()) };
        Ok(Outline::parse(&index.bytes).map_err(|e| e.at(index.digest))?.documents)
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

    fn settle(&self, path: &str, lasting: Lasting) -> Result<()> {
        match lasting {
            Lasting::Now => self.made()?.settle(path),
            Lasting::Later => {
                *lock(&self.unsettled) = true;
                Ok(())
            }
        }
    }

    /// Gives a blob that was hashed its name.
    pub fn keep(&self, draft: Draft, digest: &Digest, lasting: Lasting) -> Result<()> {
        draft.sync()?;
        let directory = paths::blob_directory(digest);
        {
            let _shared = self.shared()?;
            draft.name(&directory, "data")?;
        }
        self.settle(&directory, lasting)
    }

    /// A file that says a digest.
    fn link(&self, digest: &Digest, lasting: Lasting) -> Result<Draft> {
        use std::io::Write;
        let mut draft = self.draft()?;
        let written = draft.file.write_all(digest.to_string().as_bytes());
        written.map_err(|e| draft.failed(&e))?;
        if lasting == Lasting::Now {
            draft.sync()?;
        }
        Ok(draft)
    }

    /// Puts a blob that is here into a repository; whether it is here.
    pub fn link_blob(&self, repository: &Repository, digest: &Digest, lasting: Lasting) -> Result<bool> {
        let tree = self.made()?;
        if !touched(&tree, digest)? {
            return Ok(false);
        }
        let link = self.link(digest, lasting)?;
        let directory = paths::layer(repository, digest);
        {
            let _shared = self.shared()?;
            if !touched(&tree, digest)? {
                return Ok(false);
            }
            link.name(&directory, "link")?;
        }
        self.settle(&directory, lasting).map(|()| true)
    }

    /// The same, where the blob is one of `from`, or of any repository.
    pub fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
        lasting: Lasting,
    ) -> Result<bool> {
        let Some(tree) = self.tree()? else { return Ok(false) };
        let given = match from {
            Some(from) => self.linked(&tree, &paths::layer(from, digest), digest)?,
            None => self.linked_anywhere(&tree, digest)?,
        };
        Ok(given && self.link_blob(repository, digest, lasting)?)
    }

    fn linked_anywhere(&self, tree: &Tree, digest: &Digest) -> Result<bool> {
        for repository in self.repositories()? {
            if self.linked(tree, &paths::layer(&repository, digest), digest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a blob over from where it lies; `false` where the file systems do not do that.
    pub fn adopt(
        &self,
        repository: &Repository,
        expected: &Descriptor,
        extent: &Extent,
        meter: &Meter,
    ) -> Result<bool> {
        let Some(from) = &extent.file else { return Ok(false) };
        let digest = &expected.digest;
        let tree = self.made()?;
        // Another repository's already.
        if !self.intact(&tree, expected)? {
            let draft = self.draft()?;
            let at = |done| meter.at(done);
            let taken = file::take_over(from, extent.offset, expected.size, &draft.file, at);
            match taken.map_err(|e| draft.failed(&e))? {
                None => return Ok(false),
                Some(got) if got != *digest => {
                    return Err(file::not_what_lay_there(self.directory.display(), got, *digest));
                }
                Some(_) => self.keep(draft, digest, Lasting::Later)?,
            }
        }
        meter.at(expected.size);
        self.linked_now(repository, digest, Lasting::Later).map(|()| true)
    }

    /// Puts a blob into a repository that was here a moment ago.
    pub fn linked_now(&self, repository: &Repository, digest: &Digest, lasting: Lasting) -> Result<()> {
        match self.link_blob(repository, digest, lasting)? {
            true => Ok(()),
            false => Err(missing(self.directory.display(), digest)),
        }
    }

    /// A draft to be filled from somewhere else.
    pub fn open_draft(&self) -> Result<Draft> {
        self.draft()
    }

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

    /// Gives a document of a repository a new time; whether it is there.
    fn hold(&self, tree: &Tree, repository: &Repository, digest: &Digest) -> Result<bool> {
        let directory = paths::revision(repository, digest);
        Ok(self.linked(tree, &directory, digest)?
            && tree.touch(&paths::link(&directory))?
            && touched(tree, digest)?)
    }

    /// Makes a tag lead to a document of the repository. It lasts when this returns, and so does all that
    /// was named before.
    pub fn tag(&self, repository: &Repository, tag: &Tag, digest: &Digest) -> Result<()> {
        self.settle_all()?;
        let tree = self.made()?;
        let (former, current) = (self.link(digest, Lasting::Now)?, self.link(digest, Lasting::Now)?);
        let path = paths::current(repository, tag);
        {
            let _shared = self.shared()?;
            if !self.hold(&tree, repository, digest)? {
                return Err(missing(repository, digest));
            }
            former.name(&paths::former(repository, tag, digest), "link")?;
            current.name(&path, "link")?;
        }
        tree.settle(&paths::former(repository, tag, digest))?;
        tree.settle(&path)
    }

    /// Forgets something of a repository; whether it was there. Content that nothing else names is left
    /// for the sweep.
    pub fn remove(&self, repository: &Repository, what: &Removal) -> Result<bool> {
        if self.tree()?.is_none() {
            return Ok(false);
        }
        let (tree, workshop) = self.workshop()?;
        // Alone: nobody may give a tag to what is being forgotten.
        let _alone = self.alone()?;
        let (path, above) = match what {
            Removal::Tag(tag) => (paths::tag(repository, tag), paths::tags(repository)),
            Removal::Blob(digest) => (paths::layer(repository, digest), paths::layers(repository)),
            Removal::Document(digest) => {
                self.remove_tags_of(repository, digest)?;
                (paths::revision(repository, digest), paths::revisions(repository))
            }
        };
        let removed = workshop.discard(&path)?;
        tree.settle(&above)?;
        Ok(removed)
    }

    fn remove_tags_of(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let (_, workshop) = self.workshop()?;
        for tag in self.tags_of(repository, digest)? {
            workshop.discard(&paths::tag(repository, &tag))?;
        }
        Ok(())
    }

    /// The tags that lead to a document.
    pub fn tags_of(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Tag>> {
        let mut tags = self.tags(repository)?.unwrap_or_default();
        // One that leads nowhere leads not here.
        tags.retain(|tag| self.tagged(repository, tag).is_ok_and(|now| now.as_ref() == Some(digest)));
        Ok(tags)
    }

    /// Opens a repository's content, as a file.
    pub fn content(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        self.extent(&tree, &expected.digest)
    }

    /// Hashes an open file.
    pub fn hash(&self, file: &File, place: &str) -> Result<Digest> {
        let hashed = file::digest_of(file);
        hashed.map(|(digest, _)| digest).map_err(|e| Error::io("cannot read the store", place, &e))
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

/// Gives a blob a new time; whether it is there.
fn touched(tree: &Tree, digest: &Digest) -> Result<bool> {
    tree.touch(&paths::blob(digest))
}

pub(super) fn missing(place: impl std::fmt::Display, digest: &Digest) -> Error {
    Error::new(Kind::BlobMissing, "something that is needed is not in the store")
        .at(place)
        .got(digest)
        .hint("push it first; if it was there a moment ago, run the same command again")
}

pub(super) fn damaged(place: impl std::fmt::Display, got: Digest, expected: Digest) -> Error {
    Error::new(Kind::DigestMismatch, "the content is not what its digest says")
        .at(place)
        .got(got)
        .expected(expected)
        .hint("importing or pushing the image again mends it")
}

fn unreadable(tree: &Tree, digest: &Digest, error: &std::io::Error) -> Error {
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
