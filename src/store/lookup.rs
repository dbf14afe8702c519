//! Looking up: what repositories, tags and links say, and what lies behind them. Every look-up opens the
//! few files that it needs.

use std::collections::HashSet;
use std::sync::Arc;

use super::inner::{Inner, damaged, lock, unreadable};
use super::outline::Outline;
use super::paths;
use super::tree::Tree;
use crate::content::{Extent, Kept, Pointer, file};
use crate::error::{Error, Exit, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, MediaType, Repository, Tag, document_type, media};

impl Inner {
    /// Whether a directory says that it has this: a link that says anything else says nothing.
    pub fn linked(&self, tree: &Tree, directory: &str, digest: &Digest) -> Result<bool> {
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

    /// The tags that lead to a document.
    pub fn tags_of(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Tag>> {
        let mut tags = self.tags(repository)?.unwrap_or_default();
        // One that leads nowhere leads not here.
        tags.retain(|tag| self.tagged(repository, tag).is_ok_and(|now| now.as_ref() == Some(digest)));
        Ok(tags)
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
        // Docker's schema 2 always says what it is.
        let media_type = document_type(&bytes).unwrap_or_else(|| MediaType::new(media::MANIFEST));
        Ok(Some(Kept { media_type, digest: *digest, bytes: bytes.into() }))
    }

    /// A blob of a repository.
    pub fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Extent>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        if !self.linked(&tree, &paths::layer(repository, digest), digest)? {
            return Ok(None);
        }
        self.extent(&tree, digest)
    }

    /// Opens a repository's content, as a file.
    pub fn content(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        self.extent(&tree, &expected.digest)
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

    pub fn intact(&self, tree: &Tree, expected: &Descriptor) -> Result<bool> {
        let digest = &expected.digest;
        let Some(extent) = self.extent(tree, digest)? else { return Ok(false) };
        if extent.size != expected.size {
            return Ok(false);
        }
        let hashed = file::digest_at(&*extent.medium, extent.offset, extent.size);
        Ok(hashed.map_err(|e| unreadable(tree, digest, &e))? == *digest)
    }

    /// The documents of a repository that refer to this one. Those that an index under the fallback tag lists are
    /// among them (distribution-spec, "Enabling the Referrers API"), but no others that it may list besides.
    pub fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for (_, digest) in self.referring(repository, &HashSet::from([*subject]))? {
            kept.extend(self.document(repository, &Pointer::Digest(digest))?);
        }
        Ok(kept)
    }

    /// The same by name only, and without what is damaged: where it is asked what is still to be brought here,
    /// that is as good as not there.
    pub fn sound_referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Digest>> {
        let mut sound = Vec::new();
        for digest in self.digests(&paths::revisions(repository))? {
            let refers = || {
                let refers = self.subject(&digest)? == Some(*subject);
                Ok::<_, Error>(refers && self.document(repository, &Pointer::Digest(digest))?.is_some())
            };
            match refers() {
                Ok(true) => sound.push(digest),
                Ok(false) => {}
                Err(error) if error.kind().exit() == Exit::Untrusted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sound)
    }

    /// Each subject, and a document that refers to it: a repository is gone through once, however many are asked about.
    pub fn referring(
        &self,
        repository: &Repository,
        subjects: &HashSet<Digest>,
    ) -> Result<Vec<(Digest, Digest)>> {
        let mut found = Vec::new();
        for digest in self.digests(&paths::revisions(repository))? {
            let subject = self.subject(&digest)?.filter(|subject| subjects.contains(subject));
            found.extend(subject.map(|subject| (subject, digest)));
        }
        Ok(found)
    }

    /// What a document refers to, read once.
    fn subject(&self, digest: &Digest) -> Result<Option<Digest>> {
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
}
