//! A ceiling on how fast content comes, for links that others share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use super::Unverified;

/// Time that may be saved up while nothing comes.
const SAVED: Duration = Duration::from_millis(50);

/// Bytes per second, all together, for everything that shares it.
#[derive(Clone)]
pub struct Rate(Arc<Clock>);

struct Clock {
    bytes_per_second: u64,
    /// When what was let through until now is paid for.
    paid: Mutex<Instant>,
}

impl Rate {
    /// Lets so many bytes through per second; at least one.
    pub fn of(bytes_per_second: u64) -> Self {
        let paid = Mutex::new(Instant::now());
        Rate(Arc::new(Clock { bytes_per_second: bytes_per_second.max(1), paid }))
    }

    /// How long to wait before these bytes may be used.
    fn pay(&self, bytes: usize, now: Instant) -> Duration {
        let price = Duration::from_secs_f64(bytes as f64 / self.0.bytes_per_second as f64);
        let mut paid = self.0.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(SAVED).unwrap_or(now);
        *paid = (*paid).max(earliest) + price;
        paid.saturating_duration_since(now)
    }

    /// `content` at this rate.
    pub fn pace(&self, content: Unverified) -> Unverified {
        let rate = self.clone();
        content.through(|pieces| {
            pieces.then(move |piece| {
                let wait =
                    piece.as_ref().map_or(Duration::ZERO, |piece| rate.pay(piece.len(), Instant::now()));
                async move {
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    piece
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_paid_for_in_time() {
        let rate = Rate::of(1000);
        let now = Instant::now();
        assert!(rate.pay(100, now) >= Duration::from_millis(50));
        let after = rate.pay(1000, now);
        assert!(after > Duration::from_millis(1000) && after <= Duration::from_millis(1100), "{after:?}");
        let later = rate.pay(100, now + Duration::from_secs(10));
        assert!(later <= Duration::from_millis(100), "little is saved up: {later:?}");
    }
}
