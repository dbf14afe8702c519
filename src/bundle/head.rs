//! Reading a bundle before anything in it is trusted: nothing is believed but what must be equal.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{STATEMENT_PATH, SUMS_PATH, signature_path, tar};
use crate::content::file::{self, ReadAt};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::trust::{Claim, KeyId, Minisig};

/// Reads entries one after the other.
pub struct Head<'a> {
    /// Where they are read.
    pub file: &'a dyn ReadAt,
    /// Its name.
    pub place: &'a str,
    /// Bytes of it; `None` where that is not known beforehand.
    pub length: Option<u64>,
    /// Where the next header is.
    pub offset: u64,
}

impl Head<'_> {
    /// The content of the first entry.
    pub fn sums(&mut self) -> Result<Vec<u8>> {
        if let Some(length) = self.length.filter(|length| *length < tar::BLOCK) {
            return Err(Error::new(Kind::Truncated, "too short for a bundle")
                .at(self.place)
                .got(format_args!("{length} bytes"))
                .hint("check that this is the right file and that the copy is complete"));
        }
        let header = self.header()?;
        let not_a_bundle = || {
            let (got, hint) = guess(&header);
            Error::new(Kind::TarHeader, "not a sealift bundle")
                .at(self.place)
                .got(got)
                .expected(SUMS_PATH)
                .hint(hint)
        };
        if tar::stated_path(&header) != Some(SUMS_PATH) {
            return Err(not_a_bundle());
        }
        let size = tar::stated_size(&header).ok_or_else(not_a_bundle)?;
        if size > limits::SUMS {
            return Err(Error::new(Kind::LimitExceeded, "the sums are too long")
                .at(self.place)
                .got(format_args!("{size} bytes"))
                .expected(format_args!("at most {} bytes", limits::SUMS)));
        }
        self.entry(&header, SUMS_PATH, size)
    }

    /// The signatures behind it.
    pub fn signatures(&mut self) -> Result<Vec<Claim>> {
        let mut signatures: Vec<Claim> = Vec::new();
        loop {
            let header = self.header()?;
            let path = tar::stated_path(&header).unwrap_or_default().to_owned();
            if path == STATEMENT_PATH {
                return Ok(signatures);
            }
            let (place, offset) = (self.place, self.offset);
            let unexpected = |expected: &str| {
                Error::new(Kind::TarOrder, "an entry where another must be")
                    .at(place)
                    .got(format_args!("{path:?} at byte {offset}"))
                    .expected(expected)
            };
            let hex = path.strip_prefix("bundle/signatures/").and_then(|name| name.strip_suffix(".sig"));
            let id =
                hex.and_then(KeyId::from_hex).ok_or_else(|| unexpected("a signature or the statement"))?;
            if signatures.last().is_some_and(|last| last.id >= id) {
                return Err(unexpected("signatures sorted by key id, each once"));
            }
            if signatures.len() >= limits::SIGNATURES {
                return Err(unexpected("at most 16 signatures"));
            }
            let bytes = self.entry(&header, &signature_path(&id), 64)?;
            let signature = bytes.try_into().map_err(|_| unexpected("64 bytes"))?;
            signatures.push(Claim::new(id, signature));
        }
    }

    /// The header at the current offset.
    pub fn header(&self) -> Result<tar::Header> {
        let mut header = [0; tar::BLOCK as usize];
        read_exactly(self.file, self.place, &mut header, self.offset)?;
        Ok(header)
    }

    /// The content of the entry at the current offset, whose header must be the one for this path
    /// and size; moves on behind it.
    pub fn entry(&mut self, header: &tar::Header, path: &str, size: u64) -> Result<Vec<u8>> {
        require_header(header, path, size, self.offset).map_err(|e| e.at(self.place))?;
        let padded = tar::padded(size).unwrap_or(u64::MAX);
        let start = self.offset + tar::BLOCK;
        if let Some(length) = self.length.filter(|length| padded > length.saturating_sub(start)) {
            return Err(truncated(self.place, length));
        }
        let mut bytes = vec![0; padded as usize];
        read_exactly(self.file, self.place, &mut bytes, start)?;
        let padding = bytes.split_off(size as usize);
        require_zeros(&padding, path, start + size).map_err(|e| e.at(self.place))?;
        self.offset = start + padded;
        Ok(bytes)
    }
}

/// What a file is instead of a bundle, and what to do about it.
fn guess(header: &tar::Header) -> (&'static str, &'static str) {
    let name = tar::stated_path(header).unwrap_or_default();
    match header {
        [0x1f, 0x8b, ..] => ("a gzip file", "decompress it first: gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("a zstd file", "decompress it first: zstd -d"),
        _ if header.get(257..262) == Some(b"ustar") && !name.is_empty() => (
            "a tar file that begins with something else",
            "bundles are made by sealift export, and are not to be repacked",
        ),
        _ => ("no tar header", "check that this is the right file and that the copy is complete"),
    }
}

/// Signatures in files beside a bundle: `<bundle>.<key-id>.sig` and `<bundle>.<key-id>.minisig`.
pub fn detached_signatures(path: &Path) -> Result<Vec<Claim>> {
    let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else { return Ok(Vec::new()) };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut prefix = name.as_bytes().to_vec();
    prefix.push(b'.');
    let mut found = Vec::new();
    // A directory that may not be listed has no detached signatures to offer; the embedded ones count.
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.as_bytes().strip_prefix(prefix.as_slice()).unwrap_or_default();
        let id = rest.strip_suffix(b".sig").or_else(|| rest.strip_suffix(b".minisig"));
        let id = id.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(KeyId::from_hex);
        let Some(id) = id else { continue };
        if found.len() > limits::SIGNATURES {
            break; // one too many is enough to refuse them
        }
        found.push(read_signature(&entry.path(), id)?);
    }
    found.sort();
    Ok(found)
}

/// Reads a signature file: 64 raw bytes, or what minisign writes.
pub fn read_signature(path: &Path, id: KeyId) -> Result<Claim> {
    let bytes = file::read_small(path, "a detached signature", limits::KEY_FILE)?;
    if Minisig::is_one(&bytes) {
        let claim = Minisig::parse(&bytes).map_err(|e| e.at(path.display()))?.claim(id);
        return Ok(Claim { file: Some(path.to_owned()), ..claim });
    }
    let count = bytes.len();
    let signature = bytes.try_into().map_err(|_| {
        Error::new(Kind::SignatureFormat, "a detached signature is not one")
            .at(path.display())
            .got(format_args!("{count} bytes"))
            .expected("64 raw bytes")
            .hint("openssl pkeyutl -sign -rawin writes them; base64 and PEM are not accepted")
    })?;
    Ok(Claim { file: Some(path.to_owned()), ..Claim::new(id, signature) })
}

/// Fills `buffer` from `offset`.
pub fn read_exactly(file: &dyn ReadAt, place: &str, buffer: &mut [u8], offset: u64) -> Result<()> {
    match file::read_at_most(file, buffer, offset) {
        Ok(count) if count == buffer.len() => Ok(()),
        Ok(_) => Err(truncated(place, offset)),
        Err(e) => Err(unreadable(place, offset, &e)),
    }
}

/// The failure to read at a place where there should be something.
pub fn unreadable(place: &str, offset: u64, error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return truncated(place, offset);
    }
    Error::io("cannot read the bundle", format_args!("{place} at byte {offset}"), error)
        .hint("the medium may be damaged: copy the bundle to another one and verify it there")
}

/// The end came too early.
pub fn truncated(place: &str, offset: u64) -> Error {
    Error::new(Kind::Truncated, "the bundle is cut short")
        .at(place)
        .got(format_args!("nothing behind byte {offset}"))
        .hint("the copy is not complete: copy it again")
}

/// A header must be the one for this path and size.
pub fn require_header(header: &tar::Header, path: &str, size: u64, offset: u64) -> Result<()> {
    if *header == tar::header(path, size)? {
        return Ok(());
    }
    Err(Error::new(Kind::TarHeader, "a tar header is not the one that must be there")
        .got(format_args!("another one at byte {offset}"))
        .expected(format_args!("that of {path}, {size} bytes"))
        .hint("damaged or altered: get the bundle again from its origin"))
}

/// Padding must be zero.
pub fn require_zeros(bytes: &[u8], place: &str, offset: u64) -> Result<()> {
    match bytes.iter().position(|&b| b != 0) {
        None => Ok(()),
        Some(at) => Err(Error::new(Kind::TarHeader, "padding that is not zero")
            .got(format_args!("behind {place}, at byte {}", offset + at as u64))
            .hint("damaged or altered: get the bundle again from its origin")),
    }
}

/// Content that is not what was signed.
pub fn mismatch(what: &str, got: Digest, expected: Option<Digest>) -> Error {
    Error::new(Kind::DigestMismatch, format!("{what} is damaged"))
        .got(got)
        .expected(expected.map_or("a signed digest".to_owned(), |digest| digest.to_string()))
        .hint("the copy or the medium is bad: copy the bundle again, then verify it")
}
