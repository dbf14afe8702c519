//! Compressed archives: what compressed them is told by their first bytes, whatever they are called. They have no
//! table to find things by, so they are decompressed once, into a file without a name, which is gone with the
//! program. While that grows its headers are read: what is no archive is noticed at once, and so is one that would
//! not fit onto the disk.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

use super::scan::{Judge, Scan, trailing};
use crate::content::file::{self, PIECE, ReadAt};
use crate::error::{Error, Kind, Result};
use crate::limits;

/// What a file is compressed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Nothing.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Something that is not read here, by its name.
    Other(&'static str),
}

/// How files begin that are compressed.
const MAGIC: [(&[u8], Packing); 4] = [
    (&[0x1f, 0x8b], Packing::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Other("xz")),
    (b"BZh", Packing::Other("bzip2")),
];

impl Packing {
    /// By the bytes that a file begins with.
    pub fn of(first_bytes: &[u8]) -> Packing {
        let found = MAGIC.iter().find(|(magic, _)| first_bytes.starts_with(magic));
        found.map_or(Packing::Plain, |(_, packing)| *packing)
    }

    /// By a file's first bytes.
    pub fn of_file(file: &File) -> io::Result<Packing> {
        Packing::at(file, 0)
    }

    /// By the bytes that begin somewhere in a file.
    pub fn at(file: &dyn ReadAt, offset: u64) -> io::Result<Packing> {
        let mut first = [0; 6];
        let count = file::read_at_most(file, &mut first, offset)?;
        Ok(Packing::of(first.get(..count).unwrap_or_default()))
    }
}

/// Decompresses as it is read. Memory: the window that is asked for, at most 32 MiB.
///
/// # Errors
/// `FrameInvalid` for what is not read here.
pub fn unpacked<'r>(packing: Packing, packed: impl BufRead + 'r) -> Result<Box<dyn Read + 'r>> {
    match packing {
        Packing::Plain => Ok(Box::new(packed)),
        Packing::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(packed))),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed).and_then(|mut decoder| {
                decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            });
            Ok(Box::new(decoder.map_err(|e| damaged(&e))?))
        }
        Packing::Other(what) => {
            Err(Error::new(Kind::FrameInvalid, "compressed by something that is not read here")
                .got(what)
                .expected("gzip or zstd")
                .hint(BY_HAND))
        }
    }
}

const BY_HAND: &str = "decompress it first: a plain archive is read where it lies";

/// What decompressing has failed with.
pub fn damaged(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::new(Kind::Truncated, "the compressed bytes end too early").hint("copy the file again")
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            let found = Error::new(Kind::FrameInvalid, "it cannot be decompressed").got(error);
            match error.to_string().contains("too much memory") {
                true => found
                    .hint("it asks for a window above 32 MiB: compress it again with zstd --long=25 at most"),
                false => found,
            }
        }
        _ => Error::io("cannot read", "the compressed bytes", error),
    }
}

/// Decompresses an archive; the plain one, and its headers.
pub fn unpack(packed: &File, packing: Packing, judge: &mut Judge<'_>) -> Result<(File, Scan)> {
    let failed = |e: &io::Error| {
        Error::io("cannot unpack the archive", std::env::temp_dir().display(), e)
            .hint("TMPDIR names another directory for it; or decompress it yourself")
    };
    let plain = file::nameless().map_err(|e| failed(&e))?;
    let mut reader = unpacked(packing, BufReader::with_capacity(PIECE, packed))?;
    let mut scan = Scan::default();
    let mut buffer = vec![0; PIECE];
    let (mut length, mut claimed) = (0u64, 0);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(damaged(&e)),
        };
        plain.write_all_at(buffer.get(..count).unwrap_or_default(), length).map_err(|e| failed(&e))?;
        length = length.saturating_add(count as u64);
        scan.advance(&plain, length, judge)?;
        if scan.claims() > claimed {
            claimed = scan.claims();
            file::check_room(&std::env::temp_dir(), claimed.saturating_sub(length)).map_err(|e| {
                e.hint_instead("TMPDIR names another directory to unpack in; or decompress it yourself")
            })?;
        }
        check_growth(packed, length)?;
        // Whatever follows, so much does not belong to it.
        if scan.is_over() && length.saturating_sub(claimed) > limits::TAR_PADDING {
            return Err(trailing(length));
        }
    }
    scan.finish(&plain, length)?;
    drop(reader);
    Ok((plain, scan))
}

/// Whether the bytes that were read so far may have become so many.
fn check_growth(mut packed: &File, length: u64) -> Result<()> {
    let read = packed.stream_position().map_err(|e| damaged(&e))?;
    let most = read.saturating_mul(limits::UNPACKED_TIMES).saturating_add(limits::UNPACKED_FREELY);
    match length > most {
        true => Err(Error::new(
            Kind::LimitExceeded,
            "the archive is much larger than what it is compressed to",
        )
        .got(format_args!("{length} bytes from {read}"))
        .expected(format_args!("at most {} times as many", limits::UNPACKED_TIMES))
        .hint("if it is meant to be so empty, decompress it first: a plain archive is read where it lies")),
        false => Ok(()),
    }
}
