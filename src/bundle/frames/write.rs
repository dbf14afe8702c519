//! Compressing, several frames at once. The bytes do not depend on how many.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::thread::{self, JoinHandle};

use zstd::zstd_safe::{CCtx, CParameter, ErrorCode, InBuffer, OutBuffer, compress_bound, get_error_name};

use super::{Cut, FRAME, Frame, Header, LONGEST_HEADER, PIECE, encode_table};
use crate::content::file;
use crate::limits;

/// Most layers are compressed already; what is not gains little from a higher level.
const LEVEL: i32 = 3;

/// Pinned, so that a newer library with other defaults asks no reader for more: 2 MiB.
const WINDOW_LOG: u32 = 21;

/// "the size of Block_Content is limited by Block_Maximum_Size … 128 KB" (RFC 8878 §3.1.1.2.3).
const LARGEST_BLOCK: u64 = 128 << 10;

/// Buffers of at least [`PIECE`] bytes, empty.
type Spare = Vec<Vec<u8>>;

/// Bytes in pieces, all but the last one full.
#[derive(Default)]
struct Pieces {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Pieces {
    /// The last piece, with room in it.
    fn room(&mut self, spare: &mut Spare) -> &mut Vec<u8> {
        if self.last.len() >= PIECE || self.last.capacity() == 0 {
            let fresh = spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE));
            let before = std::mem::replace(&mut self.last, fresh);
            self.full.extend(Some(before).filter(|before| !before.is_empty()));
        }
        &mut self.last
    }
}

impl IntoIterator for Pieces {
    type Item = Vec<u8>;
    type IntoIter = std::iter::Chain<std::vec::IntoIter<Vec<u8>>, std::iter::Once<Vec<u8>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.full.into_iter().chain(std::iter::once(self.last))
    }
}

/// Takes the bytes of a bundle from the first to the last and writes its compressed form.
///
/// Every frame is compressed alone, by one thread, from pieces of the same size, with the content's size
/// and a checksum in it: four bytes that make `zstd -t` mean something and show an interrupted run
/// that its disk kept what it had written.
///
/// Memory: one frame for each thread and the one that is being filled, 8 MiB each, and less than
/// 4 MiB of working space for each thread. What was compressed takes the place of what was not.
pub struct Compressor<W> {
    inner: W,
    cut: Cut,
    threads: usize,
    /// The frame being filled, and its bytes so far.
    filling: Pieces,
    filled: u64,
    /// Frames being compressed, the first one in front.
    packing: VecDeque<JoinHandle<io::Result<Packed>>>,
    /// What threads gave back.
    spare: Spare,
    contexts: Vec<CCtx<'static>>,
    written: Vec<Frame>,
    broken: bool,
}

/// A frame as it leaves its thread, with all that the next one can use again.
struct Packed {
    plain: u64,
    compressed: Pieces,
    spare: Spare,
    context: CCtx<'static>,
}

impl<W: Write> Compressor<W> {
    #[cfg(test)]
    /// Begins a compressed bundle whose head has `head` bytes, with up to `threads` frames being
    /// compressed at once.
    ///
    /// # Errors
    /// `InvalidInput` for a head that no bundle has.
    pub fn new(inner: W, head: u64, threads: usize) -> io::Result<Self> {
        Self::resume(inner, head, Vec::new(), threads)
    }

    /// Goes on behind frames that [`complete_frames`] found: `inner` writes right behind the last of them,
    /// and the bundle's bytes follow from the sum of their plain sizes on. The outcome is the same as
    /// that of a run that was not interrupted.
    ///
    /// # Errors
    /// `InvalidInput` for a head that no bundle has, and for frames that are cut elsewhere.
    pub fn resume(inner: W, head: u64, frames: Vec<Frame>, threads: usize) -> io::Result<Self> {
        Self::with_cut(inner, Cut { head, frame: FRAME }, frames, threads)
    }

    pub(super) fn with_cut(inner: W, cut: Cut, frames: Vec<Frame>, threads: usize) -> io::Result<Self> {
        let expected = |(number, frame): (usize, &Frame)| u64::from(frame.plain) == cut.size(number);
        if !(1..=limits::HEAD).contains(&cut.head) || !frames.iter().enumerate().all(expected) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a bundle is not cut like this"));
        }
        Ok(Compressor {
            inner,
            cut,
            threads: threads.max(1),
            filling: Pieces::default(),
            filled: 0,
            packing: VecDeque::new(),
            spare: Vec::new(),
            contexts: Vec::new(),
            written: frames,
            broken: false,
        })
    }

    /// Takes the next bytes of the bundle. Waits where all threads are busy.
    ///
    /// # Errors
    /// Those of the inner writer, for these bytes or earlier ones; after one, every call fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unless_broken(|this| this.fill(bytes))
    }

    /// Compresses what is left and writes the seek table. Returns the inner writer, flushed, and the
    /// bytes of the whole compressed bundle.
    ///
    /// # Errors
    /// Those of the inner writer; `InvalidInput` where there were no bytes at all.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.unless_broken(Self::complete)?;
        let frames: u64 = self.written.iter().map(|frame| u64::from(frame.compressed)).sum();
        let total = frames + super::table_length(self.written.len());
        Ok((self.inner, total))
    }

    fn unless_broken(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the compressed bundle could not be written"));
        }
        let outcome = act(self);
        self.broken = outcome.is_err();
        outcome
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.filled > 0 {
            self.dispatch()?;
        }
        while !self.packing.is_empty() {
            self.collect()?;
        }
        if self.written.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is nothing to compress"));
        }
        self.inner.write_all(&encode_table(&self.written))?;
        self.inner.flush()
    }

    fn fill(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = self.cut.size(self.next_number()) - self.filled;
            let piece = self.filling.room(&mut self.spare);
            let room = (PIECE - piece.len()).min(bytes.len());
            let count = left.min(room as u64) as usize;
            let (now, later) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            piece.extend_from_slice(now);
            bytes = later;
            self.filled += now.len() as u64;
            if now.len() as u64 == left {
                self.dispatch()?;
            }
        }
        Ok(())
    }

    /// The number of the frame that is being filled.
    fn next_number(&self) -> usize {
        self.written.len() + self.packing.len()
    }

    /// Gives the filled frame to a thread, once there is one to spare.
    fn dispatch(&mut self) -> io::Result<()> {
        if self.next_number() >= limits::FRAMES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the bundle is too large to compress"));
        }
        while self.packing.len() >= self.threads {
            self.collect()?;
        }
        let plain = std::mem::take(&mut self.filling);
        let size = std::mem::take(&mut self.filled);
        let context = self.contexts.pop().map_or_else(encoder, Ok)?;
        // Two to begin with: from then on a piece that was read is there for each one that is written.
        let spare = self.spare.split_off(self.spare.len().saturating_sub(2));
        let pack = move || pack(context, plain, size, spare);
        self.packing.push_back(thread::Builder::new().name("compress".to_owned()).spawn(pack)?);
        Ok(())
    }

    /// Waits for the frame in front and writes it.
    fn collect(&mut self) -> io::Result<()> {
        let Some(thread) = self.packing.pop_front() else { return Ok(()) };
        let packed = thread.join().map_err(|_| io::Error::other("a compressing thread ended early"))??;
        let mut count = 0;
        for mut piece in packed.compressed {
            self.inner.write_all(&piece)?;
            count += piece.len();
            piece.clear();
            self.spare.push(piece);
        }
        self.spare.extend(packed.spare);
        self.contexts.push(packed.context);
        // A frame is at most the head, and grows by less than a hundredth.
        self.written.push(Frame { compressed: count as u32, plain: packed.plain as u32 });
        Ok(())
    }
}

/// Compresses one frame. Pieces that were read are written over.
fn pack(mut context: CCtx<'static>, plain: Pieces, size: u64, mut spare: Spare) -> io::Result<Packed> {
    context.set_pledged_src_size(Some(size)).map_err(failed)?;
    let mut compressed = Pieces::default();
    for mut piece in plain {
        let mut input = InBuffer::around(&piece);
        while input.pos() < piece.len() {
            let mut output = behind(compressed.room(&mut spare));
            context.compress_stream(&mut output, &mut input).map_err(failed)?;
        }
        piece.clear();
        spare.push(piece);
    }
    while context.end_stream(&mut behind(compressed.room(&mut spare))).map_err(failed)? > 0 {}
    Ok(Packed { plain: size, compressed, spare, context })
}

/// The room behind what is in a buffer.
fn behind(buffer: &mut Vec<u8>) -> OutBuffer<'_, Vec<u8>> {
    let end = buffer.len();
    OutBuffer::around_pos(buffer, end)
}

fn failed(code: ErrorCode) -> io::Error {
    io::Error::other(format!("cannot compress: {}", get_error_name(code)))
}

fn encoder() -> io::Result<CCtx<'static>> {
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::WindowLog(WINDOW_LOG),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(true),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    Ok(context)
}

/// The frames that an interrupted run left complete at the beginning of `file`, where it was cutting
/// behind a head of `head` bytes: those to go on behind, in a file that is cut short there. A torn
/// frame is not counted, nor is a last, shorter one: it is made again.
///
/// Only the headers of frames and blocks are looked at. Whether the disk kept what is between them shows
/// when they are read: [`super::Seekable::of_frames`].
///
/// # Errors
/// Those of reading the file; whatever is in it is none.
pub fn complete_frames(file: &File, head: u64) -> io::Result<Vec<Frame>> {
    frames_of_cut(file, Cut { head, frame: FRAME })
}

pub(super) fn frames_of_cut(file: &File, cut: Cut) -> io::Result<Vec<Frame>> {
    let length = file.metadata()?.len();
    let (mut frames, mut offset) = (Vec::new(), 0);
    while frames.len() < limits::FRAMES {
        let plain = cut.size(frames.len());
        let Some(end) = frame_end(file, offset, plain)?.filter(|end| *end <= length) else { break };
        frames.push(Frame { compressed: (end - offset) as u32, plain: plain as u32 });
        offset = end;
    }
    Ok(frames)
}

/// Where the frame at `offset` ends, if it is one of `plain` bytes, complete or not.
fn frame_end(file: &File, offset: u64, plain: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; LONGEST_HEADER];
    let count = file::read_at_most(file, &mut bytes, offset)?;
    let header = Header::parse(bytes.get(..count).unwrap_or_default()).ok();
    let Some(header) = header.filter(|header| header.plain == plain) else { return Ok(None) };
    let most = offset + compress_bound(plain as usize) as u64;
    let mut at = offset + header.length;
    while at <= most {
        let Some(block) = block_at(file, at)? else { return Ok(None) };
        at += block.length;
        if block.last {
            let end = at + if header.checksum { 4 } else { 0 };
            return Ok(Some(end).filter(|end| *end <= most));
        }
    }
    Ok(None)
}

struct Block {
    length: u64,
    last: bool,
}

/// The block whose header is at `offset`: "Last_Block: bit 0, Block_Type: bits 1-2, Block_Size: bits 3-23"
/// (RFC 8878 §3.1.1.2).
fn block_at(file: &File, offset: u64) -> io::Result<Option<Block>> {
    let mut header = [0; 4];
    let (bytes, _) = header.split_at_mut(3);
    if file::read_at_most(file, bytes, offset)? < 3 {
        return Ok(None);
    }
    let header = u32::from_le_bytes(header);
    let (last, kind, size) = (header & 1 == 1, (header >> 1) & 3, u64::from(header >> 3));
    // Space that was reserved and never written looks like empty blocks without end.
    if size > LARGEST_BLOCK || kind == 3 || (size == 0 && !last) {
        return Ok(None);
    }
    // "RLE_Block: a single byte repeated Block_Size times."
    let content = if kind == 1 { 1 } else { size };
    Ok(Some(Block { length: 3 + content, last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_dies_is_an_error() {
        let mut compressor = Compressor::new(Vec::new(), 10, 2).unwrap();
        compressor.packing.push_back(thread::spawn(|| panic!("as it may happen")));
        compressor.write(&[0; 10]).unwrap();
        assert!(compressor.finish().is_err());
    }

    #[test]
    fn buffers_are_used_again() {
        let cut = Cut { head: 3 << 20, frame: 1 << 20 };
        let mut compressor = Compressor::with_cut(io::sink(), cut, Vec::new(), 2).unwrap();
        let mut state = 1u32;
        let noise = (0..20 << 20).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        compressor.write(&noise.collect::<Vec<u8>>()).unwrap();
        while !compressor.packing.is_empty() {
            compressor.collect().unwrap();
        }
        let pieces = compressor.spare.len();
        // The head, two frames, and what each thread needs to begin with.
        assert!(pieces <= 12 + 2 * 4 + 2 * 2, "{pieces} pieces");
        assert!(compressor.contexts.len() <= 2);
    }
}
