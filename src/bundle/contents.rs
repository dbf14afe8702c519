//! Where everything lies in a bundle: computed from sizes alone, alike for writing and reading.

use std::collections::HashMap;

use super::{DOCKER_PATH, INDEX_PATH, LAYOUT_PATH, STATEMENT_PATH, tar};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// An entry that the sums list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub part: Part,
    /// Digest of its content.
    pub digest: Digest,
    /// Bytes of its content.
    pub size: u64,
    /// Where its content begins; the header is the block before.
    pub offset: u64,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `bundle/bundle.json`
    Statement,
    /// `oci-layout`
    Layout,
    /// `index.json`
    Index,
    /// `manifest.json`, of a Docker archive
    Docker,
    /// `blobs/sha256/…`
    Blob,
}

impl Entry {
    /// The entry's path.
    pub fn path(&self) -> String {
        match self.part {
            Part::Statement => STATEMENT_PATH.to_owned(),
            Part::Layout => LAYOUT_PATH.to_owned(),
            Part::Index => INDEX_PATH.to_owned(),
            Part::Docker => DOCKER_PATH.to_owned(),
            Part::Blob => self.digest.blob_path(),
        }
    }

    /// The entry's header.
    pub fn header(&self) -> Result<tar::Header> {
        tar::header(&self.path(), self.size)
    }

    /// Where the header begins.
    pub fn header_offset(&self) -> u64 {
        self.offset.saturating_sub(tar::BLOCK)
    }
}

/// All listed entries in tar order, and the size of the file.
#[derive(Debug)]
pub struct Contents {
    entries: Vec<Entry>,
    by_digest: HashMap<Digest, usize>,
    /// Bytes of the whole bundle.
    pub total: u64,
}

impl Contents {
    /// Lays entries out behind sums of `sums` bytes and `signatures` signatures.
    ///
    /// # Errors
    /// `LimitExceeded` where the sizes do not fit a file.
    pub fn new(
        sums: u64,
        signatures: usize,
        listed: impl IntoIterator<Item = (Part, Digest, u64)>,
    ) -> Result<Self> {
        let mut cursor = Cursor::default();
        cursor.place(sums)?;
        for _ in 0..signatures {
            cursor.place(size_of::<crate::trust::Signature>() as u64)?;
        }
        Contents::behind(cursor, listed)
    }

    /// Lays entries out with nothing before them.
    ///
    /// # Errors
    /// As those of [`Contents::new`].
    pub fn bare(listed: impl IntoIterator<Item = (Part, Digest, u64)>) -> Result<Self> {
        Contents::behind(Cursor::default(), listed)
    }

    fn behind(mut cursor: Cursor, listed: impl IntoIterator<Item = (Part, Digest, u64)>) -> Result<Self> {
        let place = |(part, digest, size)| Ok(Entry { part, digest, size, offset: cursor.place(size)? });
        let entries = listed.into_iter().map(place).collect::<Result<Vec<_>>>()?;
        let total = cursor.0.checked_add(tar::TRAILER).ok_or_else(too_large)?;
        let blobs = entries.iter().enumerate().filter(|(_, entry)| entry.part == Part::Blob);
        let by_digest = blobs.map(|(number, entry)| (entry.digest, number)).collect();
        Ok(Contents { entries, by_digest, total })
    }

    /// In tar order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes before the header of `oci-layout`: sums, signatures and statement.
    pub fn head(&self) -> u64 {
        let layout = self.entries.iter().find(|entry| entry.part == Part::Layout);
        layout.map_or(0, Entry::header_offset)
    }

    /// The blobs, in tar order.
    pub fn blobs(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.part == Part::Blob)
    }

    /// The blob of this digest and its number among the entries.
    pub fn blob(&self, digest: &Digest) -> Option<(usize, &Entry)> {
        let number = *self.by_digest.get(digest)?;
        Some((number, self.entries.get(number)?))
    }
}

/// The offset at which the next header goes.
#[derive(Default)]
struct Cursor(u64);

impl Cursor {
    /// Reserves room for an entry; returns where its content begins.
    fn place(&mut self, size: u64) -> Result<u64> {
        let offset = self.0.checked_add(tar::BLOCK).ok_or_else(too_large)?;
        let end = tar::padded(size).and_then(|padded| offset.checked_add(padded));
        self.0 = end.filter(|end| *end <= i64::MAX as u64).ok_or_else(too_large)?;
        Ok(offset)
    }
}

fn too_large() -> Error {
    Error::new(Kind::LimitExceeded, "the sizes of the entries add up to more than a file can hold")
}

/// Where the statement's header lies: behind the sums and the signatures.
pub fn statement_header_offset(sums: u64, signatures: usize) -> Result<u64> {
    let contents = Contents::new(sums, signatures, [])?;
    Ok(contents.total - tar::TRAILER)
}
