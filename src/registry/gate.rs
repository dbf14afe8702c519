//! How many requests one host is given at the same time. As many as there are, until it says that
//! they are too many (429, 503): then half of them, and one more after each stretch of good answers.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::StatusCode;
use tokio::sync::Notify;

/// Most requests at once, to whichever host.
const MOST: usize = 64;

/// Good answers that earn one more request at once.
const STRETCH: usize = 16;

/// The gate before one host.
pub struct Gate {
    state: Mutex<State>,
    room: Notify,
}

struct State {
    /// Most requests at once.
    limit: usize,
    /// Requests underway.
    busy: usize,
    /// Good answers since the limit changed.
    good: usize,
    /// How often the limit was lowered.
    lowered: u64,
}

/// A request that may go out. It counts until this is dropped.
pub struct Permit {
    gate: Arc<Gate>,
    /// How often the limit had been lowered when it went out.
    lowered: u64,
}

impl Default for Gate {
    fn default() -> Self {
        let state = State { limit: MOST, busy: 0, good: 0, lowered: 0 };
        Gate { state: Mutex::new(state), room: Notify::new() }
    }
}

impl Gate {
    /// Waits until one more request may go out.
    pub async fn enter(self: Arc<Self>) -> Permit {
        loop {
            let mut freed = pin!(self.room.notified());
            // In the queue before looking, so that nothing which happens after the look is missed.
            freed.as_mut().enable();
            if let Some(permit) = self.try_enter() {
                return permit;
            }
            freed.await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state();
        if state.busy >= state.limit {
            return None;
        }
        state.busy += 1;
        Some(Permit { gate: self.clone(), lowered: state.lowered })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Learns from the host's answer.
    pub fn answered(&self, status: StatusCode) {
        let mut state = self.gate.state();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            // All who went out together may be sent away together: that is said once, not many times.
            if self.lowered == state.lowered {
                state.limit = (state.busy.min(state.limit) / 2).max(1);
                state.lowered += 1;
                state.good = 0;
            }
        } else if state.limit < MOST {
            state.good += 1;
            if state.good >= STRETCH {
                state.good = 0;
                state.limit += 1;
                self.gate.room.notify_one();
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.busy = state.busy.saturating_sub(1);
        if state.busy < state.limit {
            self.gate.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::default())
    }

    /// As many as may go out now.
    fn enter_all(gate: &Arc<Gate>) -> Vec<Permit> {
        std::iter::from_fn(|| gate.try_enter()).collect()
    }

    #[test]
    fn half_as_many_after_each_refusal_but_always_one() {
        let gate = gate();
        for expected in [MOST, 32, 16, 8, 4, 2, 1, 1] {
            let permits = enter_all(&gate);
            assert_eq!(permits.len(), expected);
            permits[0].answered(BUSY);
        }
    }

    #[test]
    fn half_of_those_underway_not_of_those_allowed() {
        let gate = gate();
        let permits: Vec<_> = (0..8).filter_map(|_| gate.try_enter()).collect();
        // Eight refusals of one crowd are one refusal.
        permits.iter().for_each(|permit| permit.answered(StatusCode::TOO_MANY_REQUESTS));
        drop(permits);
        assert_eq!(enter_all(&gate).len(), 4);
    }

    #[test]
    fn good_answers_open_it_again() {
        let gate = gate();
        gate.try_enter().unwrap().answered(BUSY);
        for limit in 1..=4 {
            assert_eq!(enter_all(&gate).len(), limit);
            (0..STRETCH).for_each(|_| gate.try_enter().unwrap().answered(StatusCode::OK));
        }
        // A refusal in between begins the stretch anew.
        (0..STRETCH - 1).for_each(|_| gate.try_enter().unwrap().answered(StatusCode::OK));
        gate.try_enter().unwrap().answered(BUSY);
        gate.try_enter().unwrap().answered(StatusCode::OK);
        assert_eq!(enter_all(&gate).len(), 1);
    }

    #[test]
    fn who_waits_is_let_in() {
        let gate = gate();
        let first = gate.try_enter().unwrap();
        first.answered(BUSY);
        let mut second = Box::pin(gate.clone().enter());
        let mut third = Box::pin(gate.clone().enter());
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        let second = second.now_or_never().unwrap();
        assert!(third.as_mut().now_or_never().is_none());
        // One who gives up waiting does not take the place of another.
        let mut fourth = Box::pin(gate.clone().enter());
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(second);
        drop(third);
        assert!(fourth.now_or_never().is_some());
    }

    #[test]
    fn a_longer_stretch_lets_one_more_in() {
        let gate = gate();
        let first = gate.try_enter().unwrap();
        first.answered(BUSY);
        let mut second = Box::pin(gate.clone().enter());
        assert!(second.as_mut().now_or_never().is_none());
        (0..STRETCH).for_each(|_| first.answered(StatusCode::CREATED));
        assert!(second.now_or_never().is_some());
    }
}
