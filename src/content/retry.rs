//! The one retry loop. What may be tried again, and when, is said by the error itself
//! ([`Error::retryable`]); how long and how often, by [`Patience`].

use std::time::Duration;

use crate::error::{Error, Result, Retry};
use crate::limits;

/// How often something is tried, and how long the first pause may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries in all; at least one is made.
    pub attempts: u32,
    /// The first pause lasts at most this long, each further one at most twice as long as the one before.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { attempts: limits::ATTEMPTS, backoff: limits::BACKOFF }
    }
}

impl Patience {
    /// Waits after `tried` failed tries, the last of which ended in `error`.
    ///
    /// # Errors
    /// `error`, marked as final, when it is time to give up.
    pub async fn wait(&self, tried: u32, error: Error, note: &(dyn Fn(&str) + Send + Sync)) -> Result<()> {
        let Some(pause) = self.pause(tried, error.retryable(), chance()) else {
            return Err(error.retry(Retry::Never));
        };
        note(&announcement(&error, pause, tried, self.attempts));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The pause after `tried` failed tries; `None` when it is time to give up. `chance` is between
    /// 0 and 1: full jitter, so that many clients do not come back at the same moment.
    fn pause(&self, tried: u32, retry: Retry, chance: f64) -> Option<Duration> {
        let doubled = 2u32.saturating_pow(tried.saturating_sub(1));
        let ours =
            self.backoff.saturating_mul(doubled).min(limits::BACKOFF_MOST).mul_f64(chance.clamp(0.0, 1.0));
        match retry {
            _ if tried >= self.attempts => None,
            Retry::Never => None,
            Retry::Soon => Some(ours),
            // On top of the server's wish: all who were sent away together would return together.
            Retry::After(wish) => Some(wish.min(limits::RETRY_AFTER).saturating_add(ours)),
        }
    }
}

/// Does `operation` until it succeeds, fails for good, or patience ends. Each pause is told to `note`.
///
/// # Errors
/// The last failure. After the last try it is no longer marked as worth another one, so loops
/// around loops do not multiply.
pub async fn retrying<T, F, Fut>(
    patience: Patience,
    note: &(dyn Fn(&str) + Send + Sync),
    mut operation: F,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut tried = 0;
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        tried += 1;
        patience.wait(tried, error, note).await?;
    }
}

fn announcement(error: &Error, pause: Duration, tried: u32, attempts: u32) -> String {
    format!("{error}; try {} of {attempts} in {:.1} s", tried + 1, pause.as_secs_f64())
}

/// A number between 0 and 1. Where the system has no randomness, a pause in the middle will do.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::sync::atomic::{AtomicU32, Ordering};

    const PATIENCE: Patience = Patience { attempts: 50, backoff: Duration::from_millis(250) };

    #[test]
    fn pauses_double_up_to_a_ceiling() {
        let pause = |tried| PATIENCE.pause(tried, Retry::Soon, 1.0);
        assert_eq!(pause(1), Some(Duration::from_millis(250)));
        assert_eq!(pause(3), Some(Duration::from_secs(1)));
        assert_eq!(pause(49), Some(limits::BACKOFF_MOST));
        assert_eq!(pause(50), None);
        assert_eq!(PATIENCE.pause(3, Retry::Soon, 0.0), Some(Duration::ZERO));
        assert_eq!(PATIENCE.pause(1, Retry::Never, 1.0), None);
    }

    #[test]
    fn the_servers_wish_counts_within_reason() {
        let asked = |secs| PATIENCE.pause(1, Retry::After(Duration::from_secs(secs)), 0.0);
        assert_eq!(asked(7), Some(Duration::from_secs(7)));
        assert_eq!(asked(1_000_000_000), Some(limits::RETRY_AFTER));
        assert_eq!(asked(u64::MAX), Some(limits::RETRY_AFTER));
    }

    #[tokio::test]
    async fn the_last_failure_is_final() {
        let patience = Patience { attempts: 3, backoff: Duration::ZERO };
        let (tries, notes) = (AtomicU32::new(0), AtomicU32::new(0));
        let note = |_: &str| _ = notes.fetch_add(1, Ordering::Relaxed);
        let failed: Result<()> = retrying(patience, &note, || async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(Kind::Network, "gone").retry(Retry::Soon))
        })
        .await;
        assert_eq!(failed.unwrap_err().retryable(), Retry::Never);
        assert_eq!((tries.into_inner(), notes.into_inner()), (3, 2));
    }
}
