//! Foreign bytes on their way. Nobody can look at them but a [`Reader`](super::Reader), which verifies them.

use std::fmt;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};

use crate::error::{Result, Side};

/// Content from some place, from some byte of it on, before anybody has verified it.
pub struct Unverified {
    place: String,
    pieces: BoxStream<'static, Result<Bytes>>,
}

impl Unverified {
    /// Bytes that come from `place`, which names them in errors.
    pub fn new<S>(place: impl fmt::Display, pieces: S) -> Self
    where
        S: Stream<Item = Result<Bytes>> + Send + 'static,
    {
        Unverified { place: place.to_string(), pieces: pieces.boxed() }
    }

    /// Bytes that are in memory.
    pub fn of_bytes(place: impl fmt::Display, bytes: Bytes) -> Self {
        Unverified::new(place, stream::once(async { Ok(bytes) }))
    }

    /// Bytes that are in memory, from byte `from` on.
    pub fn of_rest(place: impl fmt::Display, bytes: Bytes, from: u64) -> Self {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        Unverified::of_bytes(place, bytes.slice(from..))
    }

    /// These bytes, then `rest`. If they do not fit together, both places are named.
    pub fn then(self, rest: Unverified) -> Self {
        let place = format!("{} and {}", self.place, rest.place);
        Unverified { place, pieces: self.pieces.chain(rest.pieces).boxed() }
    }

    /// Failures to get them are the fault of this side.
    pub fn from(self, side: Side) -> Self {
        self.through(|pieces| pieces.map(move |piece| piece.map_err(|e| e.side(side))))
    }

    /// Hands every piece to somebody who puts it aside until its digest is known: an upload, which is
    /// named at its end. Nothing that was put aside may be used before it was hashed.
    pub async fn put_aside(mut self, mut keep: impl FnMut(Bytes) -> Result<()> + Send) -> Result<()> {
        while let Some(piece) = self.pieces.next().await {
            keep(piece?)?;
        }
        Ok(())
    }

    /// Puts something between these bytes and whoever reads them; it may hold them up, not change them.
    pub(super) fn through<S>(self, pass: impl FnOnce(BoxStream<'static, Result<Bytes>>) -> S) -> Self
    where
        S: Stream<Item = Result<Bytes>> + Send + 'static,
    {
        Unverified { place: self.place, pieces: pass(self.pieces).boxed() }
    }

    /// The bytes as they are: whoever takes them must not believe them before having hashed them.
    pub(crate) fn untrusted_pieces(self) -> BoxStream<'static, Result<Bytes>> {
        self.pieces
    }

    pub(super) fn into_parts(self) -> (String, BoxStream<'static, Result<Bytes>>) {
        (self.place, self.pieces)
    }
}
