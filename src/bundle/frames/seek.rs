//! Reading a compressed bundle at random, through its seek table.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Semaphore;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, compress_bound};

use super::{
    FOREIGN, FRAME, Frame, Header, LONGEST_HEADER, PIECE, TABLE_FOOTER, damaged, decoder, parse_footer,
    parse_table, refused, table_length,
};
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;

/// A compressed bundle that reads like the plain one. Any number of threads may read at once.
///
/// Memory: a frame of 8 MiB for each of the announced threads and one more (or else the head, if that is
/// larger), one more for each thread that still reads what had to go, and 3 MiB for each that decompresses.
/// With more threads than announced, frames go before they were read to their end.
pub struct Seekable {
    file: Arc<File>,
    /// Where each frame begins in the file, and where the last one ends.
    bounds: Vec<u64>,
    /// Plain bytes of the first frame, of every further one but the last, and of all.
    head: u64,
    frame: u64,
    length: u64,
    cache: Cache,
    unpackers: Mutex<Vec<Unpacker>>,
    turns: Arc<Semaphore>,
}

impl Seekable {
    /// Opens a file by its seek table, for up to `threads` readers at once. All of the file must be
    /// what the table says, cut into frames where sealift cuts.
    ///
    /// # Errors
    /// As [`Error::io`](crate::error::Error::io) tells them: `Truncated` where a bundle ends too early; `FrameInvalid` for what
    /// is none; `LimitExceeded`; those of reading the file.
    pub fn open(file: Arc<File>, threads: usize) -> io::Result<Self> {
        Self::with_frame(file, FRAME, threads)
    }

    pub(super) fn with_frame(file: Arc<File>, frame: u64, threads: usize) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let frames = read_table(&file, length)?;
        let table = table_length(frames.len());
        let seekable = Self::of_cut_frames(file, &frames, frame, threads)?;
        if seekable.bounds.last() != Some(&(length - table)) {
            return Err(damaged("the seek table does not account for the whole file").into());
        }
        Ok(seekable)
    }

    /// The same for frames that were found without a table: what an interrupted run left complete.
    ///
    /// # Errors
    /// `FrameInvalid` for frames that are cut elsewhere.
    pub fn of_frames(file: Arc<File>, frames: &[Frame], threads: usize) -> io::Result<Self> {
        Self::of_cut_frames(file, frames, FRAME, threads)
    }

    pub(super) fn of_cut_frames(
        file: Arc<File>,
        frames: &[Frame],
        frame: u64,
        threads: usize,
    ) -> io::Result<Self> {
        let (mut bounds, mut length) = (vec![0], 0);
        let mut end = 0;
        for (number, listed) in frames.iter().enumerate() {
            check_size(listed, number, number + 1 == frames.len(), frame)?;
            // A quarter million numbers of 32 bits do not overflow 64.
            end += u64::from(listed.compressed);
            length += u64::from(listed.plain);
            bounds.push(end);
        }
        let head = frames.first().map_or(0, |first| u64::from(first.plain));
        let cache = Cache::new(frame, threads);
        let turns = Arc::new(Semaphore::new(threads));
        Ok(Seekable { file, bounds, head, frame, length, cache, unpackers: Mutex::default(), turns })
    }

    /// As many as threads were announced: more readers than that share them.
    pub fn turns(&self) -> Arc<Semaphore> {
        self.turns.clone()
    }

    /// One reads at a time from now on: memory that was for several is given back.
    pub fn spare(&self) {
        self.cache.shrink();
        lock(&self.unpackers).clear();
    }

    /// Plain bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Plain bytes of the first frame: the head's, if sealift wrote the file.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Reads plain bytes from `offset` on: at least one unless `buffer` is empty or `offset` at the
    /// end, and as many as there are in one frame.
    ///
    /// # Errors
    /// `InvalidData` for a damaged frame (see [`Error::io`](crate::error::Error::io)); those of reading the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.length || buffer.is_empty() {
            return Ok(0);
        }
        let (number, inside) = self.place_of(offset);
        let cell = self.frame(number)?;
        let content = cell.get().and_then(Option::as_deref).unwrap_or_default();
        let mut rest = content.get(inside as usize..).unwrap_or_default();
        let count = rest.read(buffer);
        self.cache.give_back(cell);
        count
    }

    /// The frame that a plain offset lies in, and where in it.
    fn place_of(&self, offset: u64) -> (usize, u64) {
        match offset.checked_sub(self.head) {
            None => (0, offset),
            Some(behind) => (1 + (behind / self.frame) as usize, behind % self.frame),
        }
    }

    /// The content of a frame: from the cache, or decompressed by this thread, or by another one that
    /// is at it already.
    fn frame(&self, number: usize) -> io::Result<Cell> {
        loop {
            let cell = self.cache.cell(number, self.plain_size(number));
            let mut failure = None;
            let unpacked = cell.get_or_init(|| self.unpack(number).map_err(|e| failure = Some(e)).ok());
            if unpacked.is_some() {
                return Ok(cell);
            }
            self.cache.forget(&cell);
            // Where it was another thread that failed, this one tries itself, and has its own error.
            if let Some(error) = failure {
                return Err(error);
            }
        }
    }

    /// Plain bytes of a frame.
    fn plain_size(&self, number: usize) -> u64 {
        match number {
            0 => self.head,
            _ => self.frame.min(self.length - self.head - (number as u64 - 1) * self.frame),
        }
    }

    fn unpack(&self, number: usize) -> io::Result<Vec<u8>> {
        let (start, end) = match self.bounds.get(number..) {
            Some([start, end, ..]) => (*start, *end),
            _ => return Ok(Vec::new()),
        };
        let at = |e: io::Error| match e.downcast::<Error>() {
            Ok(damage) => damage.at(format_args!("frame {number} at byte {start}")).into(),
            Err(e) => e,
        };
        let compressed = Range { file: &self.file, offset: start, end };
        let mut unpacker = lock(&self.unpackers).pop().map_or_else(Unpacker::new, Ok)?;
        let plain = unpacker.unpack(compressed, self.plain_size(number), self.cache.buffer()).map_err(at)?;
        // One that failed is in the middle of something, and not used again.
        lock(&self.unpackers).push(unpacker);
        Ok(plain)
    }
}

/// The frames that the table at the end of a file lists.
fn read_table(file: &File, length: u64) -> io::Result<Vec<Frame>> {
    let mut footer = [0; TABLE_FOOTER as usize];
    let footer_at = length.checked_sub(TABLE_FOOTER).ok_or_else(|| no_table(file, length))?;
    file.read_exact_at(&mut footer, footer_at)?;
    let frames = parse_footer(&footer)?.ok_or_else(|| no_table(file, length))?;
    let size = table_length(frames);
    let start = length.checked_sub(size).ok_or_else(|| damaged("the seek table is longer than the file"))?;
    let mut table = vec![0; size as usize];
    file.read_exact_at(&mut table, start)?;
    Ok(parse_table(&table)?)
}

/// Why a file may have no table: sealift's own begins with a small frame of a stated size, with more
/// behind it; what the zstd program makes of a tar file is one large frame.
fn no_table(file: &File, length: u64) -> Error {
    let mut start = [0; LONGEST_HEADER];
    let header = file::read_at_most(file, &mut start, 0).ok().and_then(|_| Header::parse(&start).ok());
    let own = header.is_some_and(|header| {
        header.plain <= limits::HEAD && length > compress_bound(header.plain as usize) as u64
    });
    if own {
        return Error::new(Kind::Truncated, "the compressed bundle is cut short")
            .got("no seek table at its end")
            .hint("the copy is not complete: copy it again");
    }
    damaged("the compressed file has no seek table").hint(FOREIGN)
}

/// Whether a frame has the size that one in its place must have.
fn check_size(listed: &Frame, number: usize, last: bool, frame: u64) -> Result<()> {
    let plain = u64::from(listed.plain);
    let right = match (number, last) {
        (0, _) => (1..=limits::HEAD).contains(&plain),
        (_, true) => (1..=frame).contains(&plain),
        (_, false) => plain == frame,
    };
    let most = compress_bound(listed.plain as usize) as u64;
    if right && (1..=most).contains(&u64::from(listed.compressed)) {
        return Ok(());
    }
    Err(damaged("the seek table lists a frame of a size that sealift does not write")
        .at(format_args!("frame {number}"))
        .got(format_args!("{plain} bytes in {}", listed.compressed)))
}

/// The bytes of a file from `offset` to `end`, without moving the file's position.
struct Range<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Range<'_> {
    /// Fills `buffer`, or as much of it as is left.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = (self.end - self.offset).min(buffer.len() as u64) as usize;
        let count = file::read_at_most(self.file, buffer.get_mut(..want).unwrap_or_default(), self.offset)?;
        if count < want {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
        }
        self.offset += count as u64;
        Ok(count)
    }
}

/// What decompressing takes, for one frame after the other.
struct Unpacker {
    context: DCtx<'static>,
    piece: Vec<u8>,
}

impl Unpacker {
    fn new() -> io::Result<Self> {
        Ok(Unpacker { context: decoder()?, piece: vec![0; PIECE] })
    }

    /// Decompresses the one frame, of exactly `size` plain bytes, that `compressed` must be, into `plain`,
    /// which is empty.
    fn unpack(&mut self, mut compressed: Range<'_>, size: u64, mut plain: Vec<u8>) -> io::Result<Vec<u8>> {
        plain.reserve_exact(size as usize);
        let (mut begun, mut ended) = (false, false);
        loop {
            let count = compressed.read(&mut self.piece)?;
            let read = self.piece.get(..count).unwrap_or_default();
            if !begun && Header::parse(read)?.plain != size {
                return Err(damaged("a frame states another size than the seek table").into());
            }
            if count == 0 {
                break;
            }
            if ended {
                return Err(hidden().into());
            }
            begun = true;
            ended = feed(&mut self.context, read, &mut plain)?;
        }
        if !ended || plain.len() as u64 != size {
            return Err(damaged("a frame is shorter than the seek table says").into());
        }
        Ok(plain)
    }
}

/// Decompresses a part of a frame behind `plain`, as far as its capacity goes; whether the frame ends with it.
fn feed(context: &mut DCtx<'static>, compressed: &[u8], plain: &mut Vec<u8>) -> io::Result<bool> {
    let mut input = InBuffer::around(compressed);
    while input.pos() < compressed.len() {
        let before = (input.pos(), plain.len());
        let mut output = OutBuffer::around_pos(plain, before.1);
        let hint = context.decompress_stream(&mut output, &mut input).map_err(refused)?;
        match hint {
            0 if input.pos() == compressed.len() => return Ok(true),
            0 => return Err(hidden().into()),
            _ if before == (input.pos(), plain.len()) => {
                return Err(damaged("a frame holds more than it states").into());
            }
            _ => {}
        }
    }
    Ok(false)
}

fn hidden() -> Error {
    damaged("something is hidden behind a frame")
}

/// The content of a frame, once somebody has decompressed it; none where that failed.
type Cell = Arc<OnceLock<Option<Vec<u8>>>>;

/// Frames that were read last, up to a number of bytes.
struct Cache {
    /// Bytes of a frame, and of all that are kept.
    frame: u64,
    budget: AtomicU64,
    /// The least recently used one in front.
    slots: Mutex<Vec<Slot>>,
    /// What frames were in that had to go. Not freed: allocators keep what one thread frees from the others.
    spare: Mutex<Vec<Vec<u8>>>,
}

struct Slot {
    number: usize,
    size: u64,
    cell: Cell,
}

impl Cache {
    /// A frame for each thread that reads, and one more that they go on with.
    fn new(frame: u64, threads: usize) -> Self {
        let budget = (threads as u64).saturating_add(1).saturating_mul(frame);
        let budget = AtomicU64::new(budget);
        Cache { frame, budget, slots: Mutex::default(), spare: Mutex::default() }
    }

    /// The cell of a frame, which is now the most recently used one. Others go where it needs the room.
    fn cell(&self, number: usize, size: u64) -> Cell {
        let mut slots = lock(&self.slots);
        let known = slots.iter().position(|slot| slot.number == number);
        let slot = match known {
            Some(at) => slots.remove(at),
            None => Slot { number, size, cell: Cell::default() },
        };
        let mut used: u64 = slots.iter().map(|slot| slot.size).sum::<u64>() + size;
        while used > self.budget.load(Ordering::Relaxed) && !slots.is_empty() {
            let oldest = slots.remove(0);
            used -= oldest.size;
            self.give_back(oldest.cell);
        }
        let cell = slot.cell.clone();
        slots.push(slot);
        cell
    }

    /// One frame from now on.
    fn shrink(&self) {
        self.budget.store(self.frame, Ordering::Relaxed);
        lock(&self.slots).clear();
        lock(&self.spare).clear();
    }

    /// Takes this very cell out, so that the frame is tried again when it is asked for again.
    fn forget(&self, cell: &Cell) {
        lock(&self.slots).retain(|slot| !Arc::ptr_eq(&slot.cell, cell));
    }

    /// Done with a cell: whoever is the last one keeps the buffer for another frame.
    fn give_back(&self, cell: Cell) {
        let content = Arc::into_inner(cell).and_then(OnceLock::into_inner).flatten();
        // A buffer of any other size was the head's, or is of no use to most frames.
        lock(&self.spare).extend(content.filter(|content| content.capacity() as u64 == self.frame));
    }

    /// An empty buffer, used before if there is one.
    fn buffer(&self) -> Vec<u8> {
        let mut buffer = lock(&self.spare).pop().unwrap_or_default();
        buffer.clear();
        buffer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(cache: &Cache) -> Vec<usize> {
        cache.slots.lock().unwrap().iter().map(|slot| slot.number).collect()
    }

    #[test]
    fn the_cache_keeps_what_was_used_last_within_its_budget() {
        let cache = Cache::new(10, 2);
        for number in [1, 2, 3, 1, 4] {
            cache.cell(number, 10);
        }
        assert_eq!(kept(&cache), [3, 1, 4]);
        cache.cell(0, 25);
        assert_eq!(kept(&cache), [0]);
        cache.cell(0, 50);
        cache.cell(1, 10);
        assert_eq!(kept(&cache), [1]);
    }

    #[test]
    fn a_frame_has_one_cell_while_it_is_kept() {
        let cache = Cache::new(10, 2);
        let cell = cache.cell(1, 10);
        assert!(Arc::ptr_eq(&cell, &cache.cell(1, 10)));
        cache.forget(&cell);
        assert!(!Arc::ptr_eq(&cell, &cache.cell(1, 10)));
        // Somebody who failed with the old one does not take the new one away.
        cache.forget(&cell);
        assert_eq!(kept(&cache), [1]);
    }
}
