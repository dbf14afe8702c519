//! Taking something out of a store by its name. Content that nothing else names is left for the sweep.

use serde::Serialize;

use super::inner::Inner;
use super::paths;
use crate::content::{Pointer, Removal};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Repository};

/// What was taken out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    /// The repository.
    pub repository: Repository,
    /// Its tags that are gone, and what they led to.
    pub tags: Vec<(String, Option<Digest>)>,
    /// Its documents that are gone.
    pub documents: Vec<Digest>,
}

impl Inner {
    /// Removes a tag, a document with its tags, or a whole repository.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn take_out(
        &self,
        repository: &Repository,
        what: Option<&Pointer>,
        dry_run: bool,
    ) -> Result<Removed> {
        self.existing()?;
        let removed = self.affected(repository, what, dry_run)?;
        if !dry_run {
            match what {
                Some(Pointer::Tag(tag)) => self.remove(repository, &Removal::Tag(tag.clone()))?,
                Some(Pointer::Digest(digest)) => self.remove(repository, &Removal::Document(*digest))?,
                None => self.remove_repository(repository)?,
            };
        }
        Ok(removed)
    }

    fn affected(&self, repository: &Repository, what: Option<&Pointer>, dry_run: bool) -> Result<Removed> {
        let none = |name: String| {
            Error::new(Kind::NotFound, "nothing of that name in the store")
                .at(self.directory.display())
                .got(name)
        };
        let all = self.tags(repository)?.ok_or_else(|| none(repository.to_string()))?;
        let leads = |tag: &crate::oci::Tag| self.tagged(repository, tag).ok().flatten();
        let revisions = self.digests(&paths::revisions(repository))?;
        let (tags, documents) = match what {
            None => (all, revisions),
            Some(Pointer::Tag(tag)) if all.contains(tag) => (vec![tag.clone()], Vec::new()),
            Some(Pointer::Digest(digest)) if revisions.contains(digest) => {
                (self.tags_of(repository, digest)?, vec![*digest])
            }
            Some(Pointer::Tag(tag)) => return Err(none(format!("{repository}:{tag}"))),
            Some(Pointer::Digest(digest)) => return Err(none(format!("{repository}@{digest}"))),
        };
        let tags = tags.into_iter().map(|tag| (tag.to_string(), leads(&tag))).collect();
        Ok(Removed { dry_run, repository: repository.clone(), tags, documents })
    }

    /// Removes a repository; those whose names go on from its own stay.
    fn remove_repository(&self, repository: &Repository) -> Result<bool> {
        let (tree, workshop) = self.workshop()?;
        let _alone = self.alone()?;
        let path = paths::repository(repository);
        let mut removed = false;
        for part in ["_manifests", "_layers", "_uploads"] {
            removed |= workshop.discard(&format!("{path}/{part}"))?;
        }
        let mut empty = path.as_str();
        while empty.len() > paths::REPOSITORIES.len() && tree.remove_empty(empty)? {
            empty = empty.rsplit_once('/').map_or("", |(above, _)| above);
        }
        tree.settle(empty)?;
        Ok(removed)
    }
}
