//! Transfers running side by side, on all cores.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinError, JoinSet};

use super::pace::{Counted, Pace, TRIAL};
use super::transfer::Done;
use crate::content::file;
use crate::error::{Error, Result};

/// See the module's text. Dropped, it ends them all.
pub struct Crew {
    running: JoinSet<Result<Done>>,
    pace: Pace,
    counted: Arc<Counted>,
    done: Done,
}

impl Crew {
    /// Up to `most` at once; what they move is counted by `counted`.
    pub fn new(most: usize, counted: Arc<Counted>) -> Self {
        Crew {
            running: JoinSet::new(),
            pace: Pace::new(most.max(1), Instant::now()),
            counted,
            done: Done::default(),
        }
    }

    /// Waits for a free place, then starts one more.
    ///
    /// # Errors
    /// The failure of one that has ended meanwhile.
    pub async fn start(&mut self, work: impl Future<Output = Result<Done>> + Send + 'static) -> Result<()> {
        while self.running.len() >= self.pace.width(Instant::now(), self.counted.moved()) {
            tokio::select! {
                ended = self.running.join_next() => self.ended(ended).await?,
                // Large transfers end too rarely to judge the pace by.
                () = tokio::time::sleep(TRIAL) => {}
            }
        }
        self.running.spawn(work);
        Ok(())
    }

    /// Takes note of those that have ended, without waiting.
    pub async fn look(&mut self) -> Result<()> {
        while let Some(ended) = self.running.try_join_next() {
            self.ended(Some(ended)).await?;
        }
        Ok(())
    }

    /// Waits for all.
    pub async fn finish(mut self) -> Result<Done> {
        while let Some(ended) = self.running.join_next().await {
            self.ended(Some(ended)).await?;
        }
        Ok(self.done)
    }

    /// Ends all; nothing is still being written when this returns.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    async fn ended(&mut self, ended: Option<Result<Result<Done>, JoinError>>) -> Result<()> {
        self.counted.ended();
        match ended.map_or(Ok(Done::default()), outcome) {
            Ok(more) => {
                self.done.add(more);
                Ok(())
            }
            Err(error) => {
                self.stop().await;
                Err(error)
            }
        }
    }
}

fn outcome(ended: Result<Result<Done>, JoinError>) -> Result<Done> {
    ended.unwrap_or_else(|e| match e.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err::<Done, Error>(file::ended()),
    })
}
