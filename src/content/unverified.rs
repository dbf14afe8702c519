//! Foreign bytes on their way. Nobody can look at them but a [`Reader`](super::Reader), which verifies them.

use std::fmt;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};

use crate::error::Result;

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

    /// These bytes, then `rest`. Failures are told of the place of `rest`: what came first was here already.
    pub fn then(self, rest: Unverified) -> Self {
        Unverified { place: rest.place, pieces: self.pieces.chain(rest.pieces).boxed() }
    }

    /// Puts something between these bytes and whoever reads them; it may hold them up, not change them.
    pub(super) fn through<S>(self, pass: impl FnOnce(BoxStream<'static, Result<Bytes>>) -> S) -> Self
    where
        S: Stream<Item = Result<Bytes>> + Send + 'static,
    {
        Unverified { place: self.place, pieces: pass(self.pieces).boxed() }
    }

    pub(super) fn into_parts(self) -> (String, BoxStream<'static, Result<Bytes>>) {
        (self.place, self.pieces)
    }
}
