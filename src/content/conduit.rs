//! Bytes handed from one task to another, with a bound on how many are in between.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

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
    /// A piece, and its claim on the room, if it has one.
    Piece(Bytes, Option<OwnedSemaphorePermit>),
    Failed(Error),
    /// What ends without this was broken off.
    End,
}

/// Pieces that are in between.
#[derive(Default)]
struct Between {
    count: AtomicUsize,
    taken: Notify,
}

/// Where bytes go in.
pub struct Inlet {
    room: Room,
    pieces: UnboundedSender<Passed>,
    between: Arc<Between>,
}

/// Where they come out.
pub struct Outlet {
    pieces: UnboundedReceiver<Passed>,
    between: Arc<Between>,
}

/// Both ends.
pub fn conduit(room: &Room) -> (Inlet, Outlet) {
    let (send, receive) = unbounded_channel();
    let between = Arc::new(Between::default());
    let inlet = Inlet { room: room.clone(), pieces: send, between: between.clone() };
    (inlet, Outlet { pieces: receive, between })
}

impl Inlet {
    /// Puts a piece in, once there is room for it. `false` where nobody takes it any more. One piece
    /// goes in even where others have taken all the room: they may be waiting for what this one is part of.
    pub async fn put(&self, piece: Bytes) -> bool {
        // A piece that is larger than all of the room goes when the room is empty.
        let claim = u32::try_from(piece.len()).unwrap_or(u32::MAX).min(self.room.size);
        let claimed = tokio::select! {
            biased;
            room = self.room.bytes.clone().acquire_many_owned(claim) => room.ok(),
            () = self.emptied() => None,
            () = self.pieces.closed() => return false,
        };
        self.between.count.fetch_add(1, Ordering::AcqRel);
        self.pieces.send(Passed::Piece(piece, claimed)).is_ok()
    }

    async fn emptied(&self) {
        loop {
            let mut taken = pin!(self.between.taken.notified());
            // In the queue before looking, so that nothing which happens after the look is missed.
            taken.as_mut().enable();
            if self.between.count.load(Ordering::Acquire) == 0 {
                return;
            }
            taken.await;
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
        match self.pieces.recv().await {
            Some(Passed::Piece(piece, _room)) => {
                self.between.count.fetch_sub(1, Ordering::AcqRel);
                self.between.taken.notify_one();
                Ok(Some(piece))
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn piece() -> Bytes {
        Bytes::from_static(&[7; 8])
    }

    /// Whether a piece goes in at once; waiting is told apart from going in by asking once.
    async fn goes_in(inlet: &Inlet) -> bool {
        tokio::select! {
            biased;
            taken = inlet.put(piece()) => taken,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn two_who_share_a_full_room_do_not_lock_each_other_out() {
        let room = Room::of(16);
        let ((first, _kept), (second, mut outlet)) = (conduit(&room), conduit(&room));
        assert!(goes_in(&first).await && goes_in(&first).await);
        assert!(!goes_in(&first).await, "the room is full");
        // Nobody takes what the first one has put in before the second one is through.
        for _ in 0..5 {
            assert_eq!(timeout(PATIENCE, second.put(piece())).await, Ok(true));
            assert!(!goes_in(&second).await, "one piece and no more");
            assert_eq!(outlet.take().await.unwrap(), Some(piece()));
        }
        // Also where it waits already while the room stays full.
        assert!(goes_in(&second).await);
        let (put, taken) = tokio::join!(timeout(PATIENCE, second.put(piece())), outlet.take());
        assert_eq!((put, taken.unwrap()), (Ok(true), Some(piece())));
    }

    #[tokio::test]
    async fn room_that_was_taken_is_given_back() {
        let (inlet, mut outlet) = conduit(&Room::of(16));
        assert!(goes_in(&inlet).await && goes_in(&inlet).await && !goes_in(&inlet).await);
        outlet.take().await.unwrap();
        assert!(goes_in(&inlet).await && !goes_in(&inlet).await);
        drop(outlet);
        assert_eq!(timeout(PATIENCE, inlet.put(piece())).await, Ok(false), "nobody takes it");
    }
}
