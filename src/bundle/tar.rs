//! The closed tar profile: ustar headers of regular files with fixed metadata. A header is a pure
//! function of path and size, so a reader does not parse headers: it computes the one that must be
//! there and compares.

use crate::error::{Error, Kind, Result};

/// Headers are one block long, contents are padded to whole blocks.
pub const BLOCK: u64 = 512;

/// Two zero blocks end the archive.
pub const TRAILER: u64 = 2 * BLOCK;

/// One header.
pub type Header = [u8; BLOCK as usize];

/// The only header that an entry of this path and size can have. Sizes of 8 GiB and more are
/// written in GNU base-256 (a PAX record would hide them from readers that seek).
pub fn header(path: &str, size: u64) -> Result<Header> {
    let mut header = ::tar::Header::new_ustar();
    let fits = path.len() <= 100 && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
    // The library mends some paths ("a//b" becomes "a/b"); here it is this path or none.
    let set = fits && header.set_path(path).is_ok() && stated_path(header.as_bytes()) == Some(path);
    if !set {
        return Err(Error::new(Kind::TarEntryName, "a path does not fit the bundle's tar profile").got(path));
    }
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(::tar::EntryType::Regular);
    header.set_size(size);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// The size that a header states, for the two entries whose size is not known beforehand. The
/// caller then requires the whole header to be the expected one.
pub fn stated_size(header: &Header) -> Option<u64> {
    ::tar::Header::from_byte_slice(header).entry_size().ok()
}

/// The path that a header states, under the same condition.
pub fn stated_path(header: &Header) -> Option<&str> {
    let name = header.get(..100)?.split(|&b| b == 0).next()?;
    std::str::from_utf8(name).ok()
}

/// `size` rounded up to whole blocks.
pub fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK)
}

/// Bytes between content of this size and the next block.
pub fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header's bytes are part of the format: they must never change with a library.
    #[test]
    fn a_header_is_these_bytes() {
        let header = header("oci-layout", 30).unwrap();
        let mut expected = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| expected[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"oci-layout");
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, b"00000000036\0");
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = expected.iter().map(|b| u32::from(*b)).sum();
        expected[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
        assert_eq!(header, expected);
    }

    #[test]
    fn sizes_from_eight_gibibytes_on_are_base_256() {
        let below = header("a", (8 << 30) - 1).unwrap();
        assert_eq!(&below[124..136], b"77777777777\0");
        let above = header("a", 8 << 30).unwrap();
        assert_eq!(above[124..136], [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(stated_size(&above), Some(8 << 30));
    }

    #[test]
    fn padding_ends_with_the_block() {
        for (size, bytes) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511), (8 << 30, 0), (u64::MAX, 1)] {
            assert_eq!(padding(size), bytes, "{size}");
        }
    }

    #[test]
    fn paths_outside_the_profile_are_refused() {
        for path in ["", "a b", "ä", "a\0b", "a\nb", "a//b", "/a", "./a", "a/../b", &"x".repeat(101)] {
            assert!(header(path, 0).is_err(), "{path}");
        }
    }
}
