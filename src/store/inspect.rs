//! Looking a store over: every blob is hashed again, every link followed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::inner::{Inner, lock};
use super::outline::Outline;
use super::paths;
use super::sweep::blob_digests;
use super::tree::Tree;
use crate::content::{Meter, Stage, Watch, file};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Hasher, Repository};

/// What was found in a store.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Repositories.
    pub repositories: usize,
    /// Their tags.
    pub tags: usize,
    /// Their documents.
    pub documents: usize,
    /// Blobs, documents among them, each once.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Entries of indexes that their repositories do not have: left out, or removed.
    pub absent: usize,
    /// What is damaged, in the order of its places.
    pub findings: Vec<Finding>,
}

/// Something damaged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Where, within the store.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

impl Checked {
    /// Whether all is well.
    ///
    /// # Errors
    /// `LayoutInvalid`.
    pub fn verdict(&self) -> Result<()> {
        match self.findings.len() {
            0 => Ok(()),
            count => Err(Error::new(Kind::LayoutInvalid, "the store is damaged")
                .got(format_args!("{count} findings"))
                .hint("importing or pushing the images again mends what they need; sealift store remove takes away what cannot be mended")),
        }
    }

    fn found(&mut self, place: String, what: impl Into<String>) {
        self.findings.push(Finding { place, what: what.into() });
    }
}

/// Blobs that are what they are called, and their bytes.
type Sound = HashMap<Digest, u64>;

impl Inner {
    /// Looks everything over.
    pub fn check(&self, threads: usize, watch: &Arc<dyn Watch>) -> Result<Checked> {
        let tree = self.existing()?;
        let mut checked = Checked::default();
        let sound = check_blobs(&tree, threads, watch, &mut checked)?;
        for repository in self.repositories()? {
            checked.repositories = checked.repositories.saturating_add(1);
            self.check_blob_links(&tree, &repository, &mut checked)?;
            self.check_documents(&tree, &repository, &sound, &mut checked)?;
            self.check_tags(&tree, &repository, &mut checked)?;
        }
        checked.findings.sort();
        Ok(checked)
    }

    fn check_blob_links(&self, tree: &Tree, repository: &Repository, checked: &mut Checked) -> Result<()> {
        for digest in self.digests(&paths::layers(repository))? {
            check_link(tree, &paths::layer(repository, &digest), &digest, checked)?;
        }
        Ok(())
    }

    fn check_documents(
        &self,
        tree: &Tree,
        repository: &Repository,
        sound: &Sound,
        checked: &mut Checked,
    ) -> Result<()> {
        for digest in self.digests(&paths::revisions(repository))? {
            checked.documents = checked.documents.saturating_add(1);
            let directory = paths::revision(repository, &digest);
            // What is damaged was found already.
            if check_link(tree, &directory, &digest, checked)? && sound.contains_key(&digest) {
                let Ok(Some(kept)) = self.kept(&digest) else { continue };
                match Outline::parse(&kept.bytes) {
                    Ok(outline) => check_children(tree, repository, &digest, &outline, checked)?,
                    Err(e) => checked.found(directory, e.sentence()),
                }
            }
        }
        Ok(())
    }

    fn check_tags(&self, tree: &Tree, repository: &Repository, checked: &mut Checked) -> Result<()> {
        for tag in self.tags(repository)?.unwrap_or_default() {
            checked.tags = checked.tags.saturating_add(1);
            let place = paths::link(&paths::current(repository, &tag));
            match self.tagged(repository, &tag) {
                Ok(Some(digest)) => {
                    let link = paths::link(&paths::revision(repository, &digest));
                    if tree.facts(&link)?.is_none() && tree.facts(&place)?.is_some() {
                        checked
                            .found(place, format!("leads to {digest}, which the repository does not have"));
                    }
                }
                Ok(None) => {}
                Err(e) => checked.found(place, e.sentence()),
            }
        }
        Ok(())
    }
}

/// Whether a link says what its place says, and leads to something.
fn check_link(tree: &Tree, directory: &str, digest: &Digest, checked: &mut Checked) -> Result<bool> {
    let link = paths::link(directory);
    let text = match tree.read(&link, crate::limits::LINK) {
        // A directory without a link says nothing.
        Ok(None) => return Ok(false),
        Ok(Some(text)) => text,
        Err(e) => {
            checked.found(link, e.sentence());
            return Ok(false);
        }
    };
    if text != digest.to_string().as_bytes() {
        let text = String::from_utf8_lossy(&text).into_owned();
        checked.found(link, format!("says {text:?} instead of its digest"));
        return Ok(false);
    }
    // Swept away since it was listed, it is no finding.
    if tree.facts(&paths::blob(digest))?.is_none() && tree.facts(&link)?.is_some() {
        checked.found(link, "leads to a blob that is not there");
        return Ok(false);
    }
    Ok(true)
}

fn check_children(
    tree: &Tree,
    repository: &Repository,
    document: &Digest,
    outline: &Outline,
    checked: &mut Checked,
) -> Result<()> {
    let place = paths::revision(repository, document);
    for blob in &outline.blobs {
        let digest = blob.digest;
        let linked = tree.facts(&paths::link(&paths::layer(repository, &digest)))?.is_some();
        let there = tree.facts(&paths::blob(&digest))?.map(|facts| facts.st_size as u64);
        match (linked, there, blob.size) {
            (true, Some(there), Some(size)) if there != size => {
                checked.found(place.clone(), format!("{digest} has {there} bytes instead of {size}"));
            }
            (true, Some(_), _) => {}
            _ if blob.elsewhere => {}
            _ => checked.found(place.clone(), format!("needs {digest}, which the repository does not have")),
        }
    }
    for digest in &outline.documents {
        if tree.facts(&paths::link(&paths::revision(repository, digest)))?.is_none() {
            checked.absent = checked.absent.saturating_add(1);
        }
    }
    Ok(())
}

/// Hashes all blobs on all cores.
fn check_blobs(tree: &Tree, threads: usize, watch: &Arc<dyn Watch>, checked: &mut Checked) -> Result<Sound> {
    let digests = blob_digests(tree)?;
    let mut total = 0u64;
    for digest in &digests {
        total =
            total.saturating_add(tree.facts(&paths::blob(digest))?.map_or(0, |facts| facts.st_size as u64));
    }
    watch.stage(Stage { verb: "checking", parts: vec![("blobs".to_owned(), total)] });
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Sound::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut buffer = vec![0; file::PIECE];
                while let Some(digest) = digests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = check_blob(tree, digest, &mut buffer, &Meter::new(watch.clone(), 0));
                    let mut results = lock(&results);
                    match result {
                        Ok(Some(size)) => _ = results.0.insert(*digest, size),
                        Ok(None) => {}
                        Err(e) => results.1.push(Finding { place: paths::blob(digest), what: e.sentence() }),
                    }
                }
            });
        }
    });
    let (sound, findings) = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    checked.blobs = sound.len().saturating_add(findings.len());
    checked.bytes = sound.values().sum();
    checked.findings.extend(findings);
    Ok(sound)
}

/// A blob's bytes; `None` where there is none.
fn check_blob(tree: &Tree, digest: &Digest, buffer: &mut [u8], meter: &Meter) -> Result<Option<u64>> {
    let path = paths::blob(digest);
    let Some(blob) = tree.file(&path)? else { return Ok(None) };
    let mut hasher = Hasher::default();
    let mut at = 0u64;
    loop {
        let count =
            file::read_at_most(&blob, buffer, at).map_err(|e| Error::io("cannot be read", "it", &e))?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        at = at.saturating_add(count as u64);
        meter.at(at);
    }
    match hasher.finish() {
        got if got == *digest => Ok(Some(at)),
        got => Err(Error::new(Kind::DigestMismatch, "is damaged: its content has another digest").got(got)),
    }
}
