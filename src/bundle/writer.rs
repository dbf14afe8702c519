//! Writing a bundle file: the head is written before any layer moves; then blobs arrive in any
//! order, several at once, each at its final offset. Interrupted anywhere, the next run goes on.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::contents::{Contents, Entry};
use super::draft::Sealing;
use super::journal::{self, Journal, Left};
use super::ledger::Ledger;
use super::partial::Partial;
use super::tar;
use crate::content::{Begun, Reader, Sink, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, Name};

/// A bundle being written, as `<bundle>.partial` until it is complete. Dropped before
/// [`Writer::finish`], it leaves what has arrived for the next run; if nothing has, nothing.
pub struct Writer {
    partial: Partial,
    contents: Arc<Contents>,
    journal: PathBuf,
    ledger: Ledger,
    arrived: Mutex<HashSet<usize>>,
    /// Entries whose beginning was handed out to be verified where it lies, and how much of it.
    offered: Mutex<HashMap<usize, u64>>,
    disk: Semaphore,
    finished: bool,
}

impl Writer {
    /// Reserves the space and writes the head; or goes on where an earlier run was interrupted that
    /// was writing the same bundle. With `replace`, a file of that name is replaced, by the rename
    /// at the end. `note` is told if an earlier run was writing something else.
    ///
    /// # Errors
    /// `OutputExists`, `Locked` where another run writes the same bundle, `NoSpace` before
    /// anything was pulled.
    pub fn create(target: &Path, sealing: Sealing, replace: bool, note: &dyn Fn(&str)) -> Result<Self> {
        let partial = Partial::open(target, replace)?;
        let Sealing { head, contents, identity, .. } = sealing;
        let (journal, left) = Journal::reopen(&partial, &identity, note)?;
        let written = usable(&contents, left);
        let ledger = Ledger::new(partial.file.clone(), partial.path.display().to_string(), journal, written)?;
        let writer = Writer {
            contents,
            journal: journal::path_of(&partial.path),
            partial,
            ledger,
            arrived: Mutex::default(),
            offered: Mutex::default(),
            disk: Semaphore::new(limits::DISK_WRITES),
            finished: false,
        };
        writer.partial.reserve(writer.contents.total)?;
        let mut position = 0;
        for piece in head {
            writer.write(&piece, position)?;
            position += piece.len() as u64;
        }
        writer.write(&[0; tar::TRAILER as usize], writer.contents.total - tar::TRAILER)?;
        Ok(writer)
    }

    /// Bytes that are there since an earlier run.
    pub fn resumed(&self) -> u64 {
        let blobs = self.contents.entries().iter().enumerate();
        blobs.map(|(number, _)| self.ledger.written(number)).sum()
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.partial.file.write_all_at(bytes, offset).map_err(|e| self.partial.failed(&e))
    }

    /// Header and padding around a blob whose content is there.
    fn frame(&self, entry: &Entry) -> Result<()> {
        let end = entry.offset.saturating_add(entry.size);
        let padding = tar::padding(entry.size);
        self.write([0; tar::BLOCK as usize].get(..padding as usize).unwrap_or_default(), end)?;
        self.write(&entry.header()?, entry.header_offset())
    }

    /// Makes the bundle appear under its name, after everything has reached the disk.
    ///
    /// # Errors
    /// `BlobMissing` where something has not arrived.
    pub fn finish(mut self) -> Result<u64> {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).len();
        let expected = self.contents.blobs().count();
        if arrived != expected {
            return Err(Error::new(Kind::BlobMissing, "the file is not complete")
                .at(self.partial.path.display())
                .got(arrived)
                .expected(expected));
        }
        self.ledger.close()?;
        self.partial.finish()?;
        self.finished = true;
        journal::remove(&self.journal);
        Ok(self.contents.total)
    }

    /// The content of one blob, piece by piece, behind what lies there already.
    async fn take(&self, number: usize, entry: &Entry, mut content: Reader, already: u64) -> Result<()> {
        let mut position = 0;
        while let Some(mut piece) = content.chunk().await? {
            let there = already.saturating_sub(position).min(piece.len() as u64);
            position += piece.len() as u64;
            let piece = piece.split_off(there as usize);
            if piece.is_empty() {
                continue;
            }
            // Never refused: the semaphore is not closed.
            let _turn = self.disk.acquire().await;
            // The reader never gives more than the size that the offset was planned with. A slow
            // medium must not hold up the connections that other tasks wait on.
            let offset = entry.offset + position - piece.len() as u64;
            tokio::task::block_in_place(|| self.write(&piece, offset))?;
            self.ledger.wrote(number, position)?;
        }
        self.frame(entry)
    }
}

/// What an earlier run says it has written, as far as it fits the bundle.
fn usable(contents: &Contents, left: Left) -> HashMap<usize, u64> {
    let fits =
        |(number, bytes): &(usize, u64)| contents.entries().get(*number).is_some_and(|e| *bytes <= e.size);
    left.written.into_iter().filter(fits).collect()
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let _ = self.ledger.close();
        if self.ledger.is_empty() {
            self.partial.give_up();
            journal::remove(&self.journal);
        } else {
            self.ledger.note_rest();
        }
    }
}

#[async_trait]
impl Sink for Writer {
    async fn exists(&self, expected: &Descriptor) -> Result<bool> {
        let number = self.contents.blob(&expected.digest).map(|(number, _)| number);
        Ok(number.is_some_and(|n| self.arrived.lock().unwrap_or_else(PoisonError::into_inner).contains(&n)))
    }

    async fn begun(&self, expected: &Descriptor) -> Result<Option<Begun>> {
        let Some((number, entry)) = self.contents.blob(&expected.digest) else { return Ok(None) };
        let length = self.ledger.written(number);
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).insert(number, length);
        if length == 0 {
            return Ok(None);
        }
        let place = self.partial.path.display().to_string();
        let pieces = file::stream(self.partial.file.clone(), place.clone(), entry.offset, length);
        Ok(Some(Begun { length, content: Unverified::new(place, pieces) }))
    }

    async fn push(&self, expected: &Descriptor, content: Reader) -> Result<()> {
        let (number, entry) = self.contents.blob(&expected.digest).ok_or_else(|| {
            Error::new(Kind::BlobUnreferenced, "the file was not planned to hold this").at(expected.digest)
        })?;
        // Only what was offered is part of what the reader verifies.
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let already = offered.unwrap_or_default();
        let taken = self.take(number, entry, content, already).await;
        match &taken {
            // Whatever of it is wrong: none of it is used again.
            Err(error)
                if matches!(error.kind(), Kind::DigestMismatch | Kind::SizeMismatch | Kind::Truncated) =>
            {
                self.ledger.forget(number);
            }
            Err(_) => {}
            Ok(()) => drop(self.arrived.lock().unwrap_or_else(PoisonError::into_inner).insert(number)),
        }
        taken
    }

    /// Names are part of the plan and stand in `index.json` already.
    async fn tagged(&self, _: &Name) -> Result<Option<Digest>> {
        Ok(None)
    }

    async fn tag(&self, _: &Name, _: &Descriptor, _: Bytes) -> Result<()> {
        Ok(())
    }
}
