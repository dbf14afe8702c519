//! Sweeping: what no document names is deleted, beside whoever reads and writes.
//!
//! A push that races with it can never end with a tag to missing content:
//!
//! 1. The times of all blobs (and documents) are noted.
//! 2. The lock is taken alone, once: whoever was about to link has linked.
//! 3. Everything that is reachable is marked.
//! 4. What is not marked is deleted in batches, the lock held alone for each, and only where it still
//!    has the time that was noted.
//!
//! Whoever links holds the lock with others, requires that the content is there, and gives it a new
//! time. Before step 2, step 3 sees the link. After it, step 4 sees the new time, or the content is gone
//! before the link is made, and the push fails. Documents go parents first: one that was given a
//! tag in the meantime saves all below it. Clocks only matter for what is spared for being young.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::inner::{Inner, missing};
use super::outline::Outline;
use super::paths;
use super::tree::{Tree, modified};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Repository};

/// Things deleted while the lock is held alone: moments, for those who wait.
const BATCH: usize = 64;

/// What is to be swept away.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// What is younger than this is spared, whether or not anything names it.
    pub grace: Duration,
    /// Documents go, too, that no tag leads to.
    pub untagged: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was swept away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// Nothing was deleted: this is what would be.
    pub dry_run: bool,
    /// Documents that repositories have forgotten.
    pub documents: usize,
    /// Blobs deleted, documents among them.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that nothing names, spared because they are young or in use.
    pub spared: usize,
    /// Blobs kept.
    pub kept: usize,
    /// Their bytes.
    pub bytes_kept: u64,
}

/// A blob as it was noted.
struct Noted {
    digest: Digest,
    size: u64,
    time: i128,
}

/// A document of a repository.
type Revision = (Repository, Digest);

/// What is needed.
#[derive(Default)]
struct Marks {
    outlines: HashMap<Digest, Arc<Outline>>,
    kept: HashSet<Digest>,
}

impl Inner {
    /// Sweeps.
    ///
    /// # Errors
    /// What makes it impossible to know what is needed: a document that is damaged or gone. Nothing is
    /// deleted then.
    pub fn sweep(&self, order: Sweep) -> Result<Swept> {
        let tree = self.existing()?;
        let now = self.now(order.dry_run)?;
        let young = now.saturating_sub(i128::try_from(order.grace.as_nanos()).unwrap_or(i128::MAX));
        let blobs = list_blobs(&tree)?;
        let noted = if order.untagged { self.list_revisions(&tree)? } else { HashMap::new() };
        if !order.dry_run {
            drop(self.alone()?);
        }
        let mut marks = Marks::default();
        let mut swept = Swept { dry_run: order.dry_run, ..Swept::default() };
        let mut doomed = Vec::new();
        for repository in self.repositories()? {
            let all = self.digests(&paths::revisions(&repository))?;
            let kept = match order.untagged {
                true => {
                    let old = |digest: &Digest| {
                        noted.get(&(repository.clone(), *digest)).is_some_and(|time| *time < young)
                    };
                    self.wanted(&mut marks, &repository, &all, &old)?
                }
                false => all.iter().copied().collect(),
            };
            for digest in &kept {
                self.mark(&mut marks, digest)?;
            }
            let unwanted = all.into_iter().filter(|digest| !kept.contains(digest));
            doomed.extend(
                self.parents_first(&mut marks, unwanted.collect())?
                    .into_iter()
                    .map(|d| (repository.clone(), d)),
            );
        }
        swept.documents = match order.dry_run {
            true => doomed.len(),
            false => self.sweep_documents(&tree, &mut marks, &doomed, &noted)?,
        };
        self.sweep_blobs(&tree, &marks, blobs, young.min(now), &mut swept)?;
        Ok(swept)
    }

    /// The store's directory.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn existing(&self) -> Result<Arc<Tree>> {
        let none = || {
            Error::new(Kind::NotFound, "no store there")
                .at(self.directory.display())
                .hint("name the directory that holds docker/registry/v2")
        };
        let tree = self.tree()?.ok_or_else(none)?;
        match tree.directory(paths::BLOBS)? {
            Some(_) => Ok(tree),
            None => Err(none()),
        }
    }

    /// The file system's own clock, which gives files their times.
    fn now(&self, dry_run: bool) -> Result<i128> {
        if dry_run {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            return Ok(i128::try_from(now.as_nanos()).unwrap_or(i128::MAX));
        }
        let (tree, workshop) = self.workshop()?;
        let name = workshop.name();
        tree.create(&name)?;
        let facts = tree.facts(&name)?;
        tree.remove_file(&name)?;
        Ok(facts.map_or(0, |facts| modified(&facts)))
    }

    fn list_revisions(&self, tree: &Tree) -> Result<HashMap<Revision, i128>> {
        let mut found = HashMap::new();
        for repository in self.repositories()? {
            for digest in self.digests(&paths::revisions(&repository))? {
                if let Some(time) = revision_time(tree, &repository, &digest)? {
                    found.insert((repository.clone(), digest), time);
                }
            }
        }
        Ok(found)
    }

    /// The documents of a repository that a tag leads to, or that are not old; all below them, and all
    /// that refer to one of them.
    fn wanted(
        &self,
        marks: &mut Marks,
        repository: &Repository,
        all: &[Digest],
        old: &dyn Fn(&Digest) -> bool,
    ) -> Result<HashSet<Digest>> {
        let mut referrers: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for digest in all {
            if let Some(subject) = self.outline(marks, digest)?.subject {
                referrers.entry(subject).or_default().push(*digest);
            }
        }
        let mut left: Vec<Digest> = all.iter().copied().filter(|digest| !old(digest)).collect();
        for tag in self.tags(repository)?.unwrap_or_default() {
            left.extend(self.tagged(repository, &tag)?);
        }
        let there: HashSet<Digest> = all.iter().copied().collect();
        let mut wanted = HashSet::new();
        while let Some(digest) = left.pop() {
            if there.contains(&digest) && wanted.insert(digest) {
                left.extend(&self.outline(marks, &digest)?.documents);
                left.extend(referrers.get(&digest).into_iter().flatten());
            }
        }
        Ok(wanted)
    }

    fn outline(&self, marks: &mut Marks, digest: &Digest) -> Result<Arc<Outline>> {
        if let Some(outline) = marks.outlines.get(digest) {
            return Ok(outline.clone());
        }
        let unknown =
            |e: Error| e.hint_instead("nothing was deleted: sealift store check shows what is wrong");
        let kept = self.kept(digest).map_err(unknown)?;
        let kept = kept.ok_or_else(|| unknown(missing(self.directory.display(), digest)))?;
        let outline = Arc::new(Outline::parse(&kept.bytes).map_err(|e| unknown(e.at(digest)))?);
        marks.outlines.insert(*digest, outline.clone());
        Ok(outline)
    }

    /// Marks a document and all below it.
    fn mark(&self, marks: &mut Marks, digest: &Digest) -> Result<()> {
        let mut left = vec![*digest];
        while let Some(digest) = left.pop() {
            if !marks.kept.insert(digest) {
                continue;
            }
            let outline = self.outline(marks, &digest)?;
            marks.kept.extend(outline.blobs.iter().map(|blob| blob.digest));
            for child in &outline.documents {
                // An index may name what was left out of it.
                if self.existing()?.facts(&paths::blob(child))?.is_some() {
                    left.push(*child);
                }
            }
        }
        Ok(())
    }

    /// These documents, each before all that are below it.
    fn parents_first(&self, marks: &mut Marks, documents: Vec<Digest>) -> Result<Vec<Digest>> {
        let mut parents: HashMap<Digest, usize> = documents.iter().map(|digest| (*digest, 0)).collect();
        for digest in &documents {
            for child in &self.outline(marks, digest)?.documents {
                if let Some(count) = parents.get_mut(child) {
                    *count = count.saturating_add(1);
                }
            }
        }
        let mut ready: Vec<Digest> =
            documents.into_iter().filter(|digest| parents.get(digest) == Some(&0)).collect();
        let mut sorted = Vec::new();
        while let Some(digest) = ready.pop() {
            for child in &self.outline(marks, &digest)?.documents {
                if let Some(count) = parents.get_mut(child) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        ready.push(*child);
                    }
                }
            }
            sorted.push(digest);
        }
        Ok(sorted)
    }

    fn sweep_documents(
        &self,
        tree: &Tree,
        marks: &mut Marks,
        doomed: &[Revision],
        noted: &HashMap<Revision, i128>,
    ) -> Result<usize> {
        let (_, workshop) = self.workshop()?;
        let mut removed = 0usize;
        let mut saved: HashSet<Revision> = HashSet::new();
        for batch in doomed.chunks(BATCH) {
            let _alone = self.alone()?;
            for revision in batch {
                let (repository, digest) = revision;
                let time = revision_time(tree, repository, digest)?;
                let same = time.is_some() && time.as_ref() == noted.get(revision);
                if same && !saved.contains(revision) {
                    let gone = workshop.discard(&paths::revision(repository, digest))?;
                    removed = removed.saturating_add(usize::from(gone));
                } else if time.is_some() {
                    // Somebody needs it now, and all below it.
                    let below = self.outline(marks, digest)?.documents.clone();
                    saved.extend(below.into_iter().map(|child| (repository.clone(), child)));
                    self.mark(marks, digest)?;
                }
            }
        }
        Ok(removed)
    }

    fn sweep_blobs(
        &self,
        tree: &Tree,
        marks: &Marks,
        blobs: Vec<Noted>,
        young: i128,
        swept: &mut Swept,
    ) -> Result<()> {
        let (kept, unnamed): (Vec<_>, Vec<_>) =
            blobs.into_iter().partition(|b| marks.kept.contains(&b.digest));
        swept.kept = kept.len();
        swept.bytes_kept = kept.iter().map(|blob| blob.size).sum();
        let (old, spared): (Vec<_>, Vec<_>) = unnamed.into_iter().partition(|blob| blob.time < young);
        swept.spared = spared.len();
        let links = self.links_to(&old)?;
        for batch in old.chunks(BATCH) {
            let _alone = if swept.dry_run { None } else { Some(self.alone()?) };
            for blob in batch {
                if swept.dry_run || self.sweep_blob(tree, blob, &links)? {
                    swept.blobs = swept.blobs.saturating_add(1);
                    swept.bytes = swept.bytes.saturating_add(blob.size);
                } else {
                    swept.spared = swept.spared.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// Deletes a blob, first of all what says that a repository has it; whether it was still as noted.
    fn sweep_blob(
        &self,
        tree: &Tree,
        blob: &Noted,
        links: &HashMap<Digest, Vec<Repository>>,
    ) -> Result<bool> {
        let path = paths::blob(&blob.digest);
        if tree.facts(&path)?.map(|facts| modified(&facts)) != Some(blob.time) {
            return Ok(false);
        }
        let (_, workshop) = self.workshop()?;
        for repository in links.get(&blob.digest).into_iter().flatten() {
            workshop.discard(&paths::layer(repository, &blob.digest))?;
        }
        let removed = tree.remove_file(&path)?;
        tree.remove_empty(&paths::blob_directory(&blob.digest))?;
        Ok(removed)
    }

    /// The repositories that say they have these blobs.
    fn links_to(&self, blobs: &[Noted]) -> Result<HashMap<Digest, Vec<Repository>>> {
        let mut links: HashMap<Digest, Vec<Repository>> =
            blobs.iter().map(|blob| (blob.digest, Vec::new())).collect();
        for repository in self.repositories()? {
            for digest in self.digests(&paths::layers(&repository))? {
                if let Some(repositories) = links.get_mut(&digest) {
                    repositories.push(repository.clone());
                }
            }
        }
        Ok(links)
    }
}

/// When somebody last needed a document of a repository.
fn revision_time(tree: &Tree, repository: &Repository, digest: &Digest) -> Result<Option<i128>> {
    let link = paths::link(&paths::revision(repository, digest));
    Ok(tree.facts(&link)?.map(|facts| modified(&facts)))
}

/// All blobs.
fn list_blobs(tree: &Tree) -> Result<Vec<Noted>> {
    let mut found = Vec::new();
    for digest in blob_digests(tree)? {
        if let Some(facts) = tree.facts(&paths::blob(&digest))? {
            found.push(Noted { digest, size: facts.st_size as u64, time: modified(&facts) });
        }
    }
    Ok(found)
}

/// The digests under which blobs lie, or lay.
pub(super) fn blob_digests(tree: &Tree) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    for first in tree.directories(paths::BLOBS)? {
        let names = tree.directories(&format!("{}/{first}", paths::BLOBS))?;
        let own = names.iter().filter(|name| name.starts_with(&first));
        found.extend(own.filter_map(|name| Digest::from_hex(name)));
    }
    Ok(found)
}
