//! Documents that came through a pipe and are needed once more at the end: in memory while they
//! are few, in a file without a name when they are many.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};

use crate::content::file;
use crate::error::{Error, Result};
use crate::oci::Digest;

/// See the module's text.
pub struct Kept {
    memory: HashMap<Digest, Bytes>,
    /// Bytes that may still be kept in memory.
    room: usize,
    file: Option<File>,
    filed: HashMap<Digest, (u64, usize)>,
    end: u64,
}

impl Kept {
    /// Keeps up to `room` bytes in memory.
    pub fn new(room: usize) -> Self {
        Kept { memory: HashMap::new(), room, file: None, filed: HashMap::new(), end: 0 }
    }

    /// Keeps some verified content.
    pub fn put(&mut self, digest: Digest, bytes: Bytes) -> Result<()> {
        if let Some(room) = self.room.checked_sub(bytes.len()) {
            self.room = room;
            // A copy: the piece that it was cut from is much larger.
            self.memory.insert(digest, Bytes::copy_from_slice(&bytes));
            return Ok(());
        }
        let end = self.end;
        self.opened()?.write_all_at(&bytes, end).map_err(|e| failed(&e))?;
        self.filed.insert(digest, (end, bytes.len()));
        self.end = end.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// What was kept under this digest.
    pub fn get(&mut self, digest: &Digest) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.memory.get(digest) {
            return Ok(Some(bytes.clone()));
        }
        let Some(&(offset, length)) = self.filed.get(digest) else { return Ok(None) };
        let mut bytes = BytesMut::zeroed(length);
        self.opened()?.read_exact_at(&mut bytes, offset).map_err(|e| failed(&e))?;
        Ok(Some(bytes.freeze()))
    }

    fn opened(&mut self) -> Result<&File> {
        match self.file {
            Some(ref file) => Ok(file),
            None => Ok(self.file.insert(file::nameless().map_err(|e| failed(&e))?)),
        }
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::io("cannot keep documents aside", std::env::temp_dir().display(), error)
        .hint("TMPDIR names another directory for them; a bundle in a file needs none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_memory_comes_back_from_the_file() {
        let mut kept = Kept::new(10);
        for text in ["twelve bytes", "short", "another one that is long", "", "more"] {
            kept.put(Digest::of(text.as_bytes()), Bytes::from_static(text.as_bytes())).unwrap();
        }
        for text in ["twelve bytes", "short", "another one that is long", "", "more"] {
            assert_eq!(kept.get(&Digest::of(text.as_bytes())).unwrap().unwrap(), text);
        }
        assert_eq!(kept.get(&Digest::of(b"never")).unwrap(), None);
        assert_eq!(kept.memory.len(), 3);
    }
}
