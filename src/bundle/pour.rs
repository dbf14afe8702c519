//! Writing a bundle from front to back, into something that cannot be gone back in: a pipe, or a
//! compressor.

use std::io::Write;

use super::draft::Sealing;
use super::tar;
use crate::content::Outlet;
use crate::content::file::ended;
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::plan::Turns;

/// Writes the whole bundle; its blobs come from `ahead`. Blocks while `out` does, so not to be called
/// where others wait. Returns the bytes written.
///
/// # Errors
/// A failure in the middle leaves `out` with a beginning that no reader takes for a bundle.
pub async fn pour(sealing: &Sealing, ahead: &mut dyn Turns, out: &mut dyn Out) -> Result<u64> {
    let mut pouring = Pouring { out, position: 0 };
    for piece in &sealing.head {
        pouring.frame(piece)?;
    }
    for entry in sealing.contents.blobs() {
        let next = ahead.turn().await?.ok_or_else(ended)?;
        pouring.frame(&entry.header()?)?;
        pouring.content(next, &entry.digest, entry.size).await?;
        let padding = tar::padding(entry.size);
        pouring.frame([0; tar::BLOCK as usize].get(..padding as usize).unwrap_or_default())?;
    }
    pouring.frame(&[0; tar::TRAILER as usize])?;
    pouring.out.end()?;
    Ok(pouring.position)
}

/// Takes a bundle's bytes in their order.
pub trait Out: Send {
    /// Bytes that follow from the plan: headers, padding, the head.
    fn frame(&mut self, bytes: &[u8]) -> Result<()>;

    /// Bytes of a blob.
    fn content(&mut self, bytes: &[u8]) -> Result<()>;

    /// That was all.
    fn end(&mut self) -> Result<()>;
}

/// Bytes that go out through a pipe.
pub struct Through<W> {
    /// The pipe.
    pub pipe: W,
    /// Its name.
    pub place: String,
}

impl<W: Write> Through<W> {
    fn failed(&self, error: &std::io::Error) -> Error {
        let failure = Error::io("cannot write the bundle", &self.place, error);
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => {
                failure.hint("whatever reads the pipe has ended: see what it says")
            }
            _ => failure,
        }
    }
}

impl<W: Write + Send> Out for Through<W> {
    fn frame(&mut self, bytes: &[u8]) -> Result<()> {
        self.pipe.write_all(bytes).map_err(|e| self.failed(&e))
    }

    fn content(&mut self, bytes: &[u8]) -> Result<()> {
        self.frame(bytes)
    }

    fn end(&mut self) -> Result<()> {
        self.pipe.flush().map_err(|e| self.failed(&e))
    }
}

struct Pouring<'a> {
    out: &'a mut dyn Out,
    position: u64,
}

impl Pouring<'_> {
    fn frame(&mut self, bytes: &[u8]) -> Result<()> {
        self.position = self.position.saturating_add(bytes.len() as u64);
        tokio::task::block_in_place(|| self.out.frame(bytes))
    }

    async fn content(
        &mut self,
        (digest, mut outlet): (Digest, Outlet),
        expected: &Digest,
        size: u64,
    ) -> Result<()> {
        let mut left = size;
        while let Some(piece) = outlet.take().await? {
            left = left.saturating_sub(piece.len() as u64);
            self.position = self.position.saturating_add(piece.len() as u64);
            tokio::task::block_in_place(|| self.out.content(&piece))?;
        }
        // The content was verified as what its own descriptor says: it must be the one whose turn it is.
        match digest == *expected && left == 0 {
            true => Ok(()),
            false => Err(Error::new(Kind::TarOrder, "content came in another order than planned").at(digest)),
        }
    }
}
