//! The compressed form of a bundle, `.tar.zst`: the same bytes in ordinary Zstandard frames (RFC 8878),
//! which any `zstd -d` reads. The head, up to the header of `oci-layout`, is a frame of its own; then
//! follow frames of 8 MiB, the last one shorter. Behind them stands a seek table as the Zstandard
//! Seekable Format has it, so that a blob is reached without decompressing what comes before.
//!
//! Nothing here is trusted and nothing here makes bytes trusted: what comes out is a bundle like any
//! other, and is checked like any other.
//!
//! - writing: [`Compressor`]; an interrupted run goes on behind [`complete_frames`]
//! - reading at random, from a file: [`Seekable`]
//! - reading from a pipe: [`StreamDecoder`]

#[cfg(fuzzing)]
pub mod fuzzing;
mod seek;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::io;

use zstd::zstd_safe::{self, DCtx, DParameter};

use crate::error::{Error, Kind, Result};
use crate::limits;

pub use seek::Seekable;
pub use stream::StreamDecoder;
pub use write::{Compressor, complete_frames};

/// Plain bytes in every frame but the first and the last. Reading any byte costs at most one of these;
/// smaller ones would compress worse.
pub const FRAME: u64 = 8 << 20;

/// Bytes handed to or taken from the zstd library at once.
const PIECE: usize = crate::content::file::PIECE;

/// "Magic_Number: 4 bytes, little-endian format. Value: 0xFD2FB528" (RFC 8878 §3.1.1).
const FRAME_MAGIC: u32 = 0xFD2F_B528;

/// The skippable frame's number that the seekable format takes for its table ("Skippable_Magic_Number").
const TABLE_MAGIC: u32 = 0x184D_2A5E;

/// "Seekable_Magic_Number: value 0x8F92EAB1": the last bytes of the file.
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// A table before its entries: skippable magic and size.
const TABLE_HEADER: u64 = 8;

/// An entry: compressed and decompressed size of a frame. Checksums are not listed: the frames have them.
const TABLE_ENTRY: u64 = 8;

/// A table behind its entries: number of frames, descriptor, magic.
const TABLE_FOOTER: u64 = 9;

/// The longest frame header: magic, descriptor, window, dictionary id, content size.
const LONGEST_HEADER: usize = 4 + 1 + 1 + 4 + 8;

/// Bytes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// In the file, with header and checksum.
    pub compressed: u32,
    /// After decompression.
    pub plain: u32,
}

impl Frame {
    fn from_entry(entry: &[u8; TABLE_ENTRY as usize]) -> Frame {
        let mut rest = entry.as_slice();
        let mut number = || take(&mut rest).map(u32::from_le_bytes).unwrap_or_default();
        Frame { compressed: number(), plain: number() }
    }
}

/// Whether a file that begins with these bytes is compressed.
pub fn is_zstd(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(&FRAME_MAGIC.to_le_bytes())
}

/// Where a bundle is cut: behind its head, then every `frame` bytes.
#[derive(Clone, Copy, Debug)]
struct Cut {
    head: u64,
    frame: u64,
}

impl Cut {
    /// Plain bytes of a frame, if the bundle goes on behind it.
    fn size(self, number: usize) -> u64 {
        if number == 0 { self.head } else { self.frame }
    }
}

/// What a frame's header says (RFC 8878 §3.1.1.1).
#[derive(Debug, PartialEq, Eq)]
struct Header {
    length: u64,
    plain: u64,
    checksum: bool,
}

impl Header {
    /// Reads the header that `bytes` begin with. It must state the content's size, ask for no
    /// dictionary, and for no larger window than is granted.
    fn parse(bytes: &[u8]) -> Result<Header> {
        let mut rest = bytes;
        let short = || damaged("a frame's header is cut short");
        if take(&mut rest).map(u32::from_le_bytes) != Some(FRAME_MAGIC) {
            return Err(damaged("there is no frame where one must begin"));
        }
        let [descriptor] = take(&mut rest).ok_or_else(short)?;
        let single_segment = descriptor & 0x20 != 0;
        let window = if single_segment { None } else { take(&mut rest).map(|[byte]| window(byte)) };
        if descriptor & 0x03 != 0 {
            return Err(damaged("a frame needs a dictionary"));
        }
        let plain = content_size(&mut rest, descriptor >> 6, single_segment).ok_or_else(short)?;
        let plain = plain.ok_or_else(|| damaged("a frame does not state its content's size"))?;
        // "In this case [single segment], Window_Size is Frame_Content_Size" (§3.1.1.1.1.2).
        if window.unwrap_or(plain) > 1 << limits::ZSTD_WINDOW_LOG {
            return Err(damaged("a frame needs too large a window"));
        }
        let length = (bytes.len() - rest.len()) as u64;
        Ok(Header { length, plain, checksum: descriptor & 0x04 != 0 })
    }
}

/// "windowLog = 10 + Exponent; windowBase = 1 << windowLog; windowAdd = (windowBase / 8) * Mantissa"
/// (RFC 8878 §3.1.1.1.2).
fn window(byte: u8) -> u64 {
    let base = 1u64 << (10 + (byte >> 3));
    base + (base / 8) * u64::from(byte & 7)
}

/// "Frame_Content_Size: 0-8 bytes" (RFC 8878 §3.1.1.1.4); the inner none where it is not stated.
fn content_size(rest: &mut &[u8], flag: u8, single_segment: bool) -> Option<Option<u64>> {
    Some(match flag {
        0 if !single_segment => None,
        0 => Some(u64::from(u8::from_le_bytes(take(rest)?))),
        // "When FCS_Field_Size is 2, the offset of 256 is added."
        1 => Some(u64::from(u16::from_le_bytes(take(rest)?)) + 256),
        2 => Some(u64::from(u32::from_le_bytes(take(rest)?))),
        _ => Some(u64::from_le_bytes(take(rest)?)),
    })
}

/// The next bytes, taken off.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

/// The seek table: "a skippable frame at the end of the file", with descriptor 0 (no checksums).
fn encode_table(frames: &[Frame]) -> Vec<u8> {
    let length = table_length(frames.len());
    let mut table = Vec::with_capacity(length as usize);
    table.extend(TABLE_MAGIC.to_le_bytes());
    table.extend(((length - TABLE_HEADER) as u32).to_le_bytes());
    for frame in frames {
        table.extend(frame.compressed.to_le_bytes());
        table.extend(frame.plain.to_le_bytes());
    }
    table.extend((frames.len() as u32).to_le_bytes());
    table.push(0);
    table.extend(SEEKABLE_MAGIC.to_le_bytes());
    table
}

/// Bytes of a seek table for this many frames.
fn table_length(frames: usize) -> u64 {
    TABLE_HEADER + frames as u64 * TABLE_ENTRY + TABLE_FOOTER
}

/// The number of frames that a table's last nine bytes state; none where they are not a table's.
fn parse_footer(footer: &[u8]) -> Result<Option<usize>> {
    let mut rest = footer;
    let frames = take(&mut rest).map(u32::from_le_bytes);
    let descriptor = take(&mut rest).map(u8::from_le_bytes);
    if take(&mut rest).map(u32::from_le_bytes) != Some(SEEKABLE_MAGIC) {
        return Ok(None);
    }
    if descriptor != Some(0) {
        return Err(damaged("the seek table is not of the kind that sealift writes").hint(FOREIGN));
    }
    match frames.map(|frames| frames as usize) {
        Some(frames) if (1..=limits::FRAMES).contains(&frames) => Ok(Some(frames)),
        _ => Err(Error::new(Kind::LimitExceeded, "the seek table lists no frames or too many")
            .expected(format_args!("1 to {}", limits::FRAMES))),
    }
}

/// A whole table, from its magic to its last byte.
fn parse_table(table: &[u8]) -> Result<Vec<Frame>> {
    let wrong = || damaged("the seek table contradicts itself");
    let (mut rest, footer) = table.split_last_chunk::<{ TABLE_FOOTER as usize }>().ok_or_else(wrong)?;
    let frames = parse_footer(footer)?.ok_or_else(wrong)?;
    let magic = take(&mut rest).map(u32::from_le_bytes);
    let size = take(&mut rest).map(|size| u64::from(u32::from_le_bytes(size)) + TABLE_HEADER);
    let length = table.len() as u64;
    if magic != Some(TABLE_MAGIC) || size != Some(length) || table_length(frames) != length {
        return Err(wrong());
    }
    let (entries, _) = rest.as_chunks::<{ TABLE_ENTRY as usize }>();
    Ok(entries.iter().map(Frame::from_entry).collect())
}

/// What to do about a file that has frames and no table, or one of a kind that is not written here.
const FOREIGN: &str = "it was compressed by something else than sealift: decompress it first (zstd -d), \
                       or pipe it: sealift import - < FILE";

/// A context that decompresses with no larger a window than is granted.
fn decoder() -> io::Result<DCtx<'static>> {
    let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    context.set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG)).map_err(refused)?;
    Ok(context)
}

/// What the zstd library says about bytes that it does not take.
fn refused(code: zstd_safe::ErrorCode) -> Error {
    let said = zstd_safe::get_error_name(code);
    let error = damaged("a compressed frame cannot be decompressed").got(said);
    match said.contains("too much memory") {
        true => {
            error.hint("it asks for a window above 32 MiB: compress it again with zstd --long=25 at most")
        }
        false => error,
    }
}

fn damaged(what: &str) -> Error {
    Error::new(Kind::FrameInvalid, what)
}

impl From<Error> for io::Error {
    /// For what reads or writes as a file does; [`Error::io`] is the way back.
    fn from(error: Error) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
