//! Bytes handed from one task to another, with a bound on how many are in between.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::file::ended;
use crate::error::{Error, Result};

/// Room for bytes in between; several conduits may share one.
#[derive(Clone)]
pub struct Room {
    bytes: Arc<Semaphore>,
    size: u32,
}

impl Room {
    /// Room for so many bytes.
    pub fn of(bytes: u32) -> Self {
        Room { bytes: Arc::new(Semaphore::new(bytes as usize)), size: bytes }
    }
}

enum Passed {
    /// A piece, and its claim on the room.
    Piece(Bytes, OwnedSemaphorePermit),
    Failed(Error),
    /// What ends without this was broken off.
    End,
}

/// Where bytes go in.
pub struct Inlet {
    room: Room,
    pieces: UnboundedSender<Passed>,
}

/// Where they come out.
pub struct Outlet(UnboundedReceiver<Passed>);

/// Both ends.
pub fn conduit(room: &Room) -> (Inlet, Outlet) {
    let (send, receive) = unbounded_channel();
    (Inlet { room: room.clone(), pieces: send }, Outlet(receive))
}

impl Inlet {
    /// Puts a piece in, once there is room for it. `false` where nobody takes it any more.
    pub async fn put(&self, piece: Bytes) -> bool {
        // A piece that is larger than all of the room goes when the room is empty.
        let claim = u32::try_from(piece.len()).unwrap_or(u32::MAX).min(self.room.size);
        tokio::select! {
            room = self.room.bytes.clone().acquire_many_owned(claim) => {
                room.is_ok_and(|room| self.pieces.send(Passed::Piece(piece, room)).is_ok())
            }
            () = self.pieces.closed() => false,
        }
    }

    /// Ends the bytes with what the source reports.
    pub fn fail(self, error: Error) {
        let _ = self.pieces.send(Passed::Failed(error));
    }

    /// Ends the bytes: they were all.
    pub fn end(self) {
        let _ = self.pieces.send(Passed::End);
    }
}

impl Outlet {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// What the source reported; `Interrupted` where it was broken off.
    pub async fn take(&mut self) -> Result<Option<Bytes>> {
        match self.0.recv().await {
            Some(Passed::Piece(piece, _room)) => Ok(Some(piece)),
            Some(Passed::Failed(error)) => Err(error),
            Some(Passed::End) => Ok(None),
            None => Err(ended()),
        }
    }

    /// All pieces as a stream.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        stream::try_unfold(
            self,
            |mut outlet| async move { Ok(outlet.take().await?.map(|piece| (piece, outlet))) },
        )
    }
}
