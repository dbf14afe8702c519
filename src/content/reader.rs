//! The verifying reader: nothing else turns foreign bytes into trusted ones.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::{Meter, Unverified};
use crate::error::{Error, Kind, Result, Retry, Side};
use crate::oci::{Descriptor, Hasher};

/// Reads content that a descriptor describes. It hands out at most `size` bytes; the piece that
/// completes them is handed out only after the digest matched, and the end of the content is
/// reported only after the source ended too. Whoever reads to the end holds the right bytes;
/// whoever forwards them never forwards the last of the wrong ones.
pub struct Reader {
    expected: Descriptor,
    place: String,
    stream: BoxStream<'static, Result<Bytes>>,
    hasher: Option<Hasher>,
    seen: u64,
    meter: Option<Meter>,
    side: Option<Side>,
}

impl Reader {
    /// Reads `expected` from bytes that begin where it begins.
    pub fn new(expected: &Descriptor, content: Unverified) -> Self {
        let (place, stream) = content.into_parts();
        Reader {
            expected: expected.clone(),
            place,
            stream,
            hasher: Some(Hasher::default()),
            seen: 0,
            meter: None,
            side: None,
        }
    }

    /// Reads `expected` from memory.
    pub fn of_bytes(expected: &Descriptor, place: impl fmt::Display, bytes: Bytes) -> Self {
        Reader::new(expected, Unverified::of_bytes(place, bytes))
    }

    /// Reports progress to `meter`.
    pub fn metered(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Failures are the fault of this side.
    pub fn from(mut self, side: Side) -> Self {
        self.side = Some(side);
        self
    }

    /// The next piece, never empty; `None` once everything was read and verified.
    ///
    /// # Errors
    /// `SizeMismatch`, `DigestMismatch`, or the source's own failure. Reading on after an error is
    /// an error again.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let side = self.side;
        self.next_verified().await.map_err(|e| match side {
            Some(side) => e.side(side),
            None => e,
        })
    }

    async fn next_verified(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(piece) = self.stream.next().await else {
                return self.end().map(|()| None);
            };
            let piece = piece?;
            if piece.is_empty() {
                continue;
            }
            self.take(&piece)?;
            return Ok(Some(piece));
        }
    }

    fn take(&mut self, piece: &Bytes) -> Result<()> {
        let seen = self.seen.saturating_add(piece.len() as u64);
        let size = self.expected.size;
        let Some(hasher) = &mut self.hasher else {
            return Err(self.wrong_size(format_args!("more than {size} bytes")));
        };
        if seen > size {
            return Err(self.wrong_size(format_args!("more than {size} bytes")));
        }
        hasher.update(piece);
        self.seen = seen;
        if seen == size {
            self.check()?;
        }
        if let Some(meter) = &self.meter {
            meter.at(seen);
        }
        Ok(())
    }

    /// Compares the digest once all bytes were seen.
    fn check(&mut self) -> Result<()> {
        let digest = self.hasher.take().map(Hasher::finish);
        match digest {
            Some(digest) if digest != self.expected.digest => {
                Err(Error::new(Kind::DigestMismatch, "the content is not what its digest says")
                    .at(&self.place)
                    .got(digest)
                    .expected(self.expected.digest)
                    .hint("damaged on the way or at its origin; nothing of it was used"))
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        if self.seen < self.expected.size {
            // A connection that ends early looks like this; the same request may well succeed.
            return Err(self.wrong_size(format_args!("{} bytes", self.seen)).retry(Retry::Soon));
        }
        self.check()
    }

    fn wrong_size(&self, got: impl fmt::Display) -> Error {
        Error::new(Kind::SizeMismatch, "the content is not as long as its descriptor says")
            .at(&self.place)
            .got(got)
            .expected(format_args!("{} bytes", self.expected.size))
    }

    /// Reads everything into memory. For documents and configs, whose size was limited before.
    pub async fn into_bytes(mut self) -> Result<Bytes> {
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.chunk().await? else {
            return Ok(first);
        };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(piece) = self.chunk().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType, Role};
    use futures_util::stream;

    async fn read(size: u64, digest: Digest, pieces: &[&'static str]) -> (Vec<Bytes>, Option<Kind>) {
        let expected = Descriptor { role: Role::Layer, media_type: MediaType::new("x"), digest, size };
        let pieces: Vec<_> = pieces.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect();
        let mut reader = Reader::new(&expected, Unverified::new("test", stream::iter(pieces)));
        let mut handed_out = Vec::new();
        loop {
            match reader.chunk().await {
                Ok(Some(piece)) => handed_out.push(piece),
                Ok(None) => return (handed_out, None),
                Err(error) => return (handed_out, Some(error.kind())),
            }
        }
    }

    #[tokio::test]
    async fn only_the_expected_bytes_come_through() {
        let digest = Digest::of(b"abcdef");
        assert_eq!(read(6, digest, &["abc", "", "def"]).await, (vec!["abc".into(), "def".into()], None));
        assert_eq!(read(6, digest, &["abc", "de"]).await.1, Some(Kind::SizeMismatch));
        assert_eq!(read(6, digest, &["abcdef", "g"]).await.1, Some(Kind::SizeMismatch));
        assert_eq!(read(6, digest, &["abcdefg"]).await, (vec![], Some(Kind::SizeMismatch)));
        assert_eq!(read(0, Digest::of(b""), &[]).await, (vec![], None));
        assert_eq!(read(0, digest, &[]).await.1, Some(Kind::DigestMismatch));
    }

    #[tokio::test]
    async fn the_last_wrong_piece_is_withheld() {
        assert_eq!(
            read(6, Digest::of(b"abcdef"), &["abc", "deX"]).await,
            (vec!["abc".into()], Some(Kind::DigestMismatch))
        );
    }
}
