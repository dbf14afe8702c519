//! Keeping: bytes get their digest's name, repositories links to them, tags lead to documents; and what a
//! repository has can be taken from it again. In which order, [`inner`](super::inner) says.

use super::inner::{Inner, Lasting, missing};
use super::paths;
use super::tree::Tree;
use super::workshop::Draft;
use crate::content::{Extent, Meter, Removal, file};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Repository, Tag};

impl Inner {
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

    /// A draft to be filled from somewhere else.
    pub fn open_draft(&self) -> Result<Draft> {
        self.draft()
    }

    /// A file that says a digest.
    pub fn link(&self, digest: &Digest, lasting: Lasting) -> Result<Draft> {
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

    /// Puts a blob into a repository that was here a moment ago.
    pub fn linked_now(&self, repository: &Repository, digest: &Digest, lasting: Lasting) -> Result<()> {
        match self.link_blob(repository, digest, lasting)? {
            true => Ok(()),
            false => Err(missing(self.directory.display(), digest)),
        }
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

    /// Gives a document of a repository a new time; whether it is there.
    pub fn hold(&self, tree: &Tree, repository: &Repository, digest: &Digest) -> Result<bool> {
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
}

/// Gives a blob a new time; whether it is there.
pub(super) fn touched(tree: &Tree, digest: &Digest) -> Result<bool> {
    tree.touch(&paths::blob(digest))
}
