//! The journal beside a bundle that is being written: how far each blob has come, so that an
//! interrupted export goes on where it was. It is a promise of progress and nothing else: whatever
//! it says was written is read and hashed again before it counts.
//!
//! Text, a line per fact; what follows the first line that is not understood is ignored:
//!
//! ```text
//! sealift journal 1 <SHA-256 of the sums> <number of signatures>
//! image <full name> <digest>          one for each image
//! <entry number> <bytes of it that are written>
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::partial::Partial;
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::plan::Image;

/// What a bundle being written is to become. Two runs with the same identity lay out the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Digest of the sums.
    pub sums: Digest,
    /// Signatures between sums and statement: they move everything behind them.
    pub signatures: usize,
    /// What each image's name leads to.
    pub images: BTreeMap<String, Digest>,
}

impl Identity {
    /// Of a bundle with these sums and images.
    pub fn new(sums: &[u8], signatures: usize, images: &[Image]) -> Self {
        let images = images.iter().map(|image| (image.source.to_string(), image.digest)).collect();
        Identity { sums: Digest::of(sums), signatures, images }
    }

    fn encode(&self) -> String {
        let mut text = format!("sealift journal 1 {} {}\n", self.sums.hex(), self.signatures);
        text.extend(self.images.iter().map(|(name, digest)| format!("image {name} {digest}\n")));
        text
    }

    /// Why this is not what an earlier run was writing, for people.
    pub fn differs_from(&self, earlier: &Identity) -> Vec<String> {
        let moved = self.images.iter().filter_map(|(name, now)| {
            let then = earlier.images.get(name).filter(|then| *then != now)?;
            Some(format!("{name} led to {then} when the earlier run was interrupted, and leads to {now} now"))
        });
        let mut reasons: Vec<_> = moved.collect();
        if reasons.is_empty() {
            reasons.push("the file is not the one whose writing was interrupted".to_owned());
        }
        reasons
    }
}

/// What an earlier run has left.
#[derive(Default)]
pub struct Left {
    /// What it was writing; `None` where that cannot be told.
    pub identity: Option<Identity>,
    /// Bytes written of each entry.
    pub written: BTreeMap<usize, u64>,
    /// Bytes of the journal that were understood.
    length: u64,
}

impl Left {
    fn parse(text: &[u8]) -> Self {
        let mut left = Left::default();
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |last| last + 1);
        for line in text.get(..whole).unwrap_or_default().split_inclusive(|&b| b == b'\n') {
            let understood =
                std::str::from_utf8(line).ok().and_then(|line| left.take(line.trim_end_matches('\n')));
            if understood.is_none() {
                break;
            }
            left.length += line.len() as u64;
        }
        left
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let words: Vec<_> = line.split(' ').collect();
        match (words.as_slice(), &mut self.identity) {
            (["sealift", "journal", "1", sums, signatures], None) => {
                let (sums, signatures) = (Digest::from_hex(sums)?, signatures.parse().ok()?);
                self.identity = Some(Identity { sums, signatures, images: BTreeMap::new() });
            }
            (["image", name, digest], Some(identity)) => {
                identity.images.insert((*name).to_owned(), digest.parse().ok()?);
            }
            ([entry, bytes], Some(_)) => {
                self.written.insert(entry.parse().ok()?, bytes.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }
}

/// A journal that is open for more.
pub struct Journal {
    file: File,
    place: String,
}

impl Journal {
    /// Opens the journal at `path`, or an empty one, and tells what it says. The caller holds the
    /// lock of the bundle it belongs to.
    pub fn open(path: &Path) -> Result<(Self, Left)> {
        let place = path.display().to_string();
        let failed = |e: &std::io::Error| Error::io("cannot open the journal", &place, e);
        // No links are followed, and a pipe is not waited for.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644));
        let file = File::from(opened.map_err(|e| failed(&e.into()))?);
        if !file.metadata().map_err(|e| failed(&e))?.is_file() {
            return Err(Error::new(Kind::Io, "the journal is not a regular file").at(&place));
        }
        let mut text = Vec::new();
        (&file).take(limits::JOURNAL).read_to_end(&mut text).map_err(|e| failed(&e))?;
        Ok((Journal { file, place }, Left::parse(&text)))
    }

    /// The journal beside `partial`, and what an earlier run has left that was writing the same
    /// bundle. What was writing something else has left nothing: `partial` is emptied then, and
    /// `note` is told why.
    pub fn reopen(partial: &Partial, identity: &Identity, note: &dyn Fn(&str)) -> Result<(Self, Left)> {
        let (mut journal, left) =
            Journal::open(&path_of(&partial.path)).inspect_err(|_| partial.give_up_empty())?;
        // A journal beside nothing is left of a bundle that has its name already, or was thrown away.
        let left = if partial.is_empty() { Left::default() } else { left };
        match &left.identity {
            Some(earlier) if earlier == identity => {
                journal.cut(left.length)?;
                return Ok((journal, left));
            }
            Some(earlier) => {
                identity.differs_from(earlier).iter().for_each(|reason| note(reason));
                note("what the interrupted run had brought is not used: beginning anew");
            }
            None if !partial.is_empty() => {
                note(&format!("{} is of no known run: it is overwritten", partial.path.display()));
            }
            None => {}
        }
        // Emptied first: nothing of it may show through.
        partial.file.set_len(0).map_err(|e| partial.failed(&e))?;
        // No room for a journal, no room for a bundle: nothing is left behind then.
        journal.begin(identity).inspect_err(|_| {
            partial.give_up_empty();
            remove(&path_of(&partial.path));
        })?;
        Ok((journal, Left::default()))
    }

    /// Begins anew.
    fn begin(&mut self, identity: &Identity) -> Result<()> {
        self.cut(0)?;
        self.append(&identity.encode())?;
        // Once: without these lines, what follows is worth nothing after a power cut. What follows need not be
        // there to the last line: a journal that lags behind the disk costs time, never bytes.
        self.file.sync_data().map_err(|e| self.failed(&e))
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        use std::io::{Seek, SeekFrom};
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        cut.map(drop).map_err(|e| self.failed(&e))
    }

    /// Notes progress: entries and how many bytes of each are written.
    pub fn note(&mut self, progress: &[(usize, u64)]) -> Result<()> {
        self.append(&progress.iter().map(|(entry, bytes)| format!("{entry} {bytes}\n")).collect::<String>())
    }

    fn append(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io("cannot write the journal", &self.place, error)
    }
}

/// Where the journal of a bundle lies that is written to `partial`.
pub fn path_of(partial: &Path) -> std::path::PathBuf {
    let mut path = partial.as_os_str().to_owned();
    path.push(".journal");
    path.into()
}

/// Removes a journal whose bundle is complete, or was given up.
pub fn remove(path: &Path) {
    // One that stays is found to be of another bundle by the next export.
    let _ = std::fs::remove_file(path);
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let _ = file::sync_directory(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let images = [("example.com/a:1".to_owned(), Digest::of(b"a"))];
        Identity { sums: Digest::of(b"sums"), signatures: 1, images: images.into_iter().collect() }
    }

    #[test]
    fn what_was_noted_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.partial.journal");
        let (mut journal, left) = Journal::open(&path).unwrap();
        assert!(left.identity.is_none() && left.written.is_empty());
        journal.begin(&identity()).unwrap();
        journal.note(&[(4, 100), (5, 7)]).unwrap();
        journal.note(&[(4, 200)]).unwrap();
        let (_, left) = Journal::open(&path).unwrap();
        assert_eq!(left.identity, Some(identity()));
        assert_eq!(left.written, BTreeMap::from([(4, 200), (5, 7)]));
    }

    #[test]
    fn a_torn_or_garbled_line_ends_it() {
        let good = format!("{}4 100\n", identity().encode());
        for torn in ["5 2", "5 two\n6 1\n", "\0\0\0\0\n6 1\n", "image\n6 1\n", "\u{fffd}", "5  2\n"] {
            let left = Left::parse(format!("{good}{torn}").as_bytes());
            assert_eq!(left.written, BTreeMap::from([(4, 100)]), "{torn:?}");
            assert_eq!(left.length, good.len() as u64);
        }
        for cut in 0..good.len() {
            Left::parse(&good.as_bytes()[..cut]);
        }
    }
}
