//! The one retry loop.

use std::future::Future;
use std::time::Duration;

use crate::error::{Error, Result, Retry};
use crate::limits;

/// Does `operation` again while its failure says that this can help, waiting in between: as long
/// as the server asked for, else exponentially longer with full jitter, so that many clients that
/// failed together do not come back together.
pub async fn retrying<T, F>(note: &(dyn Fn(&str) + Sync), mut operation: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut attempt = 1;
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if error.retryable() == Retry::Never || attempt >= limits::ATTEMPTS {
            return Err(error);
        }
        let wait = pause(&error, attempt);
        note(&format!("trying again in {:.1} s: {error}", wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

/// How long to wait after the failure of the given attempt (1, 2, …).
fn pause(error: &Error, attempt: u32) -> Duration {
    match error.retryable() {
        Retry::After(wait) => wait.min(limits::RETRY_AFTER),
        _ => {
            let ceiling = limits::BACKOFF.saturating_mul(1 << attempt.min(16)).min(limits::BACKOFF_MOST);
            ceiling.mul_f64(jitter())
        }
    }
}

/// A number from 0 to 1, never predictable enough for a thundering herd.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
