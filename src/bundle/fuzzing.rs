//! Doors for the fuzz targets (`fuzz/`), which feed them hostile bytes: what reads a bundle, piece by
//! piece. Not part of the library: there only where `--cfg fuzzing` is set.

use std::sync::Arc;

use super::reader::Medium;
use super::{Bundle, Sealed};
use crate::content::file::ReadAt;
use crate::error::Result;

pub use super::frames::fuzzing as frames;
pub use super::head::{require_header, require_zeros};
pub use super::statement::{EntryPath, EntrySize};
pub use super::sums::{append as append_sums, parse as parse_sums};
pub use super::tar::{Header, header, stated_path, stated_size};

/// A file that is not on a disk.
struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.0.get(start..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// As [`Bundle::open`], of bytes instead of a file.
pub fn sealed(bytes: Vec<u8>) -> Result<Bundle<Sealed>> {
    let length = Some(bytes.len() as u64);
    let medium =
        Medium { bytes: Arc::new(Memory(bytes)), length, readers: usize::MAX, frame: None, file: None };
    Bundle::sealed(medium, "fuzz.tar".to_owned(), || Ok(Vec::new()))
}
