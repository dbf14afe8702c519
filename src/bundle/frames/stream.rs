//! Decompressing from a pipe, where nothing can be looked up.

use std::io::{self, Read};

use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::{
    FRAME_MAGIC, PIECE, TABLE_FOOTER, TABLE_HEADER, TABLE_MAGIC, damaged, decoder, parse_table, refused,
    table_length,
};
use crate::error::{Error, Kind};
use crate::limits;

/// Reads the plain bytes of a compressed bundle from a pipe. Whatever compressed it, it is read: any
/// number of frames, and at most a seek table behind them. Anything else is refused, even at the end.
///
/// Memory: the window that the frames ask for, at most 32 MiB (2 MiB if sealift wrote them), and less
/// than 1 MiB; while a seek table is read, that as well.
///
/// Errors are `InvalidData` for what is damaged, as [`Error::io`](crate::error::Error::io) tells it, and those of the pipe.
/// After one, every read fails.
pub struct StreamDecoder<R> {
    input: Input<R>,
    context: DCtx<'static>,
    state: State,
    /// Bytes of whole frames, to compare with the seek table.
    plain: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first frame.
    Start,
    /// Between two frames, or behind the last one.
    Between,
    /// Inside a frame.
    Frame,
    /// Behind everything.
    End,
    Failed,
}

impl<R: Read> StreamDecoder<R> {
    /// Reads compressed bytes from `inner`.
    ///
    /// # Errors
    /// `OutOfMemory`
    pub fn new(inner: R) -> io::Result<Self> {
        let input = Input { inner, buffer: vec![0; PIECE], start: 0, end: 0, taken: 0 };
        Ok(StreamDecoder { input, context: decoder()?, state: State::Start, plain: 0 })
    }

    /// Plain bytes, at least one; none at the end.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state {
                State::Start | State::Between => self.state = self.begin()?,
                State::Frame => match self.unpack(buffer)? {
                    0 => {}
                    count => return Ok(count),
                },
                State::End => return Ok(0),
                State::Failed => return Err(damaged("the compressed bytes were refused already").into()),
            }
        }
    }

    /// What begins behind a frame: another frame, or the end.
    fn begin(&mut self) -> io::Result<State> {
        let magic = self.input.peek(4)?;
        match magic.first_chunk().map(|magic| u32::from_le_bytes(*magic)) {
            Some(FRAME_MAGIC) => Ok(State::Frame),
            Some(TABLE_MAGIC) if self.state == State::Between => self.table(),
            None if magic.is_empty() && self.state == State::Between => Ok(State::End),
            None if magic.is_empty() => Err(truncated().into()),
            _ if self.state == State::Start => Err(damaged("not compressed with zstd").into()),
            _ => Err(trailing().into()),
        }
    }

    /// Plain bytes of the current frame; none where it ended just now, or where nothing has come out yet.
    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Asked with no more input too: the context may hold bytes for which there was no room.
        let compressed = self.input.peek(1)?;
        let (mut input, mut output) = (InBuffer::around(compressed), OutBuffer::around(buffer));
        let hint = self.context.decompress_stream(&mut output, &mut input).map_err(refused)?;
        let (consumed, count) = (input.pos(), output.pos());
        if consumed == 0 && count == 0 {
            return Err(truncated().into());
        }
        self.input.consume(consumed);
        self.plain += count as u64;
        if hint == 0 {
            self.state = State::Between;
        }
        Ok(count)
    }

    /// Reads the seek table, which must be the last thing and say what was read.
    fn table(&mut self) -> io::Result<State> {
        let frames = self.input.taken;
        let table = self.whole_table()?;
        let (mut compressed, mut plain) = (0, 0);
        for frame in parse_table(&table)? {
            compressed += u64::from(frame.compressed);
            plain += u64::from(frame.plain);
        }
        if (compressed, plain) != (frames, self.plain) {
            return Err(damaged("the seek table does not say what came before it").into());
        }
        match self.input.peek(1)? {
            [] => Ok(State::End),
            _ => Err(trailing().into()),
        }
    }

    fn whole_table(&mut self) -> io::Result<Vec<u8>> {
        let header = self.input.peek(TABLE_HEADER as usize)?.first_chunk().ok_or_else(truncated)?;
        // Four bytes of magic, which was seen, and four of size.
        let size = u64::from_le_bytes(*header) >> 32;
        let length = size + TABLE_HEADER;
        if size < TABLE_FOOTER || length > table_length(limits::FRAMES) {
            return Err(Error::new(Kind::LimitExceeded, "the seek table is too short or too long")
                .got(format_args!("{length} bytes"))
                .into());
        }
        let mut table = Vec::new();
        while (table.len() as u64) < length {
            let left = (length - table.len() as u64) as usize;
            let piece = match self.input.peek(1)? {
                [] => return Err(truncated().into()),
                more => more.get(..left).unwrap_or(more),
            };
            table.extend_from_slice(piece);
            let count = piece.len();
            self.input.consume(count);
        }
        Ok(table)
    }
}

impl<R: Read> Read for StreamDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let outcome = self.next(buffer);
        if outcome.is_err() {
            self.state = State::Failed;
        }
        outcome
    }
}

fn truncated() -> Error {
    Error::new(Kind::Truncated, "the compressed bytes end too early")
        .hint("the copy is not complete, or what was writing into the pipe stopped")
}

fn trailing() -> Error {
    Error::new(Kind::TrailingData, "something follows the end of the compressed bundle")
        .hint("get the bundle again from its origin")
}

/// The bytes of a pipe, with a look ahead.
struct Input<R> {
    inner: R,
    buffer: Vec<u8>,
    /// What was read and not consumed.
    start: usize,
    end: usize,
    /// Bytes consumed.
    taken: u64,
}

impl<R: Read> Input<R> {
    /// All that is there, after waiting for at least `count` bytes; fewer only at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < count {
            match self.inner.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(more) => self.end += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.taken += count as u64;
    }
}
