//! Writing a compressed bundle, `.tar.zst`: from front to back, as `<bundle>.partial` until it is
//! complete. Where its bytes will lie is not known beforehand; but which bytes they are is, so an
//! interrupted run is gone on with behind its last complete frame: what the frames hold is verified
//! like anything that comes from a source.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::draft::Sealing;
use super::frames::{Compressor, Seekable, complete_frames};
use super::journal::{self, Identity, Journal};
use super::partial::Partial;
use super::pour::Out;
use crate::content::file::{ReadAt, read_at_most};
use crate::content::{Begun, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Hasher};
use crate::plan::Beginnings;

/// See the module's text. Dropped before it is finished, it leaves its complete frames for the next run.
pub struct Packed {
    partial: Partial,
    compressor: Option<Compressor<File>>,
    /// What complete frames of an earlier run hold.
    old: Option<Old>,
    /// Plain bytes taken so far.
    position: u64,
    bytes: u64,
    finished: bool,
}

/// The beginning of the bundle, as an earlier run has left it.
#[derive(Clone)]
struct Old {
    bytes: Arc<Seekable>,
    length: u64,
}

impl ReadAt for Seekable {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        Seekable::read_at(self, buffer, offset)
    }

    fn turns(&self) -> Option<Arc<Semaphore>> {
        Some(Seekable::turns(self))
    }

    fn spare(&self) {
        Seekable::spare(self);
    }
}

impl Packed {
    /// Opens the file; with `resume`, goes on where an earlier run was interrupted that was writing the same
    /// bundle. Whoever resumes must take what [`Packed::beginnings`] gives: that is how it is verified.
    ///
    /// # Errors
    /// `OutputExists`, `Locked` where another run writes the same bundle.
    pub fn create(
        target: &Path,
        sealing: &Sealing,
        (replace, resume): (bool, bool),
        note: &dyn Fn(&str),
    ) -> Result<Self> {
        let partial = Partial::open(target, replace)?;
        // The signatures are in the first frame: other keys make another file.
        let mut hasher = Hasher::default();
        hasher.update(sealing.identity.sums.hex().as_bytes());
        sealing.head.iter().for_each(|piece| hasher.update(piece));
        let identity = Identity { sums: hasher.finish(), ..sealing.identity.clone() };
        let (_, left) = Journal::reopen(&partial, &identity, note)?;
        let head = sealing.frame;
        let found = match left.identity {
            Some(_) if resume => complete_frames(&partial.file, head).map_err(|e| failed(&partial, e))?,
            _ => Vec::new(),
        };
        let compressed: u64 = found.iter().map(|frame| u64::from(frame.compressed)).sum();
        let old = match found.is_empty() {
            true => None,
            false => {
                let bytes =
                    Seekable::of_frames(partial.file.clone(), &found, 1).map_err(|e| failed(&partial, e))?;
                let length = bytes.len();
                Some(Old { bytes: Arc::new(bytes), length })
            }
        };
        let cut =
            |mut file: &File| file.set_len(compressed).and_then(|()| file.seek(SeekFrom::Start(compressed)));
        cut(&partial.file).map_err(|e| partial.failed(&e))?;
        let file = partial.file.try_clone().map_err(|e| partial.failed(&e))?;
        let compressor =
            Compressor::resume(file, head, found, compressors()).map_err(|e| failed(&partial, e))?;
        Ok(Packed { partial, compressor: Some(compressor), old, position: 0, bytes: 0, finished: false })
    }

    /// Plain bytes that are there since an earlier run.
    pub fn resumed(&self) -> u64 {
        self.old.as_ref().map_or(0, |old| old.length)
    }

    /// What there is of each blob since an earlier run.
    pub fn beginnings(&self, sealing: &Sealing) -> Beginnings {
        let Some(old) = self.old.clone() else { return Box::new(|_| None) };
        let (contents, place) = (sealing.contents.clone(), self.partial.path.display().to_string());
        Box::new(move |descriptor: &Descriptor| {
            let (_, entry) = contents.blob(&descriptor.digest)?;
            let length = old.length.saturating_sub(entry.offset).min(entry.size);
            let pieces = file::stream(old.bytes.clone(), place.clone(), entry.offset, length);
            (length > 0).then(|| Begun { length, content: Unverified::new(&place, pieces) })
        })
    }

    /// Makes the bundle appear under its name, after everything has reached the disk. Returns the
    /// bytes of the file.
    pub fn finish(mut self) -> Result<u64> {
        if self.compressor.is_some() {
            return Err(
                Error::new(Kind::BlobMissing, "the file is not complete").at(self.partial.path.display())
            );
        }
        self.partial.finish()?;
        self.finished = true;
        journal::remove(&journal::path_of(&self.partial.path));
        Ok(self.bytes)
    }

    /// Throws away what there is: the next run begins anew.
    pub fn give_up(mut self) {
        self.discard();
    }

    fn discard(&mut self) {
        self.finished = true;
        self.partial.give_up();
        journal::remove(&journal::path_of(&self.partial.path));
    }

    /// Takes bytes; returns how many of them are there already.
    fn passed(&mut self, count: usize) -> usize {
        let old = self.resumed().saturating_sub(self.position).min(count as u64);
        self.position = self.position.saturating_add(count as u64);
        old as usize
    }

    fn compress(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.compressor {
            Some(compressor) => compressor.write(bytes).map_err(|e| failed(&self.partial, e)),
            None => Err(file::ended()),
        }
    }
}

/// Frames read at once. Each takes about 12 MiB: memory must not grow with the cores.
pub fn readers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get()).min(2)
}

/// Frames compressed at once. A small machine's other core fetches and hashes meanwhile.
fn compressors() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 2)
}

fn failed(partial: &Partial, error: std::io::Error) -> Error {
    Error::io("cannot write the file", partial.path.display(), &error)
}

impl Out for Packed {
    /// What follows from the plan must stand in the old frames, too.
    fn frame(&mut self, bytes: &[u8]) -> Result<()> {
        let begin = self.position;
        let (old, new) = bytes.split_at(self.passed(bytes.len()).min(bytes.len()));
        if let Some(there) = self.old.as_ref().filter(|_| !old.is_empty()) {
            let mut read = vec![0; old.len()];
            let count =
                read_at_most(&*there.bytes, &mut read, begin).map_err(|e| failed(&self.partial, e))?;
            if count != old.len() || read != old {
                return Err(Error::new(
                    Kind::FrameInvalid,
                    "what an interrupted run has left is not what it wrote",
                )
                .at(self.partial.path.display())
                .got(format_args!("other bytes from byte {begin} on")));
            }
        }
        self.compress(new)
    }

    /// What is there already was read from there.
    fn content(&mut self, bytes: &[u8]) -> Result<()> {
        let old = self.passed(bytes.len());
        self.compress(bytes.get(old..).unwrap_or_default())
    }

    fn end(&mut self) -> Result<()> {
        let compressor = self.compressor.take().ok_or_else(file::ended)?;
        let (_, bytes) = compressor.finish().map_err(|e| failed(&self.partial, e))?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        // The head alone is not worth keeping.
        let empty = self.partial.file.metadata().is_ok_and(|facts| facts.len() == 0);
        if !self.finished && empty {
            self.discard();
        }
    }
}
