//! How many transfers run at once. More connections help until something is saturated, and hurt
//! behind that: so their number is found by trying, up to a ceiling. One more is tried now and then,
//! and kept only if more gets through.
//!
//! A server that asks for less (429, 503) is obeyed where it is spoken to, in the registry client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::content::{Stage, Watch};

/// How long a number is tried before it is judged.
pub const TRIAL: Duration = Duration::from_millis(150);

/// How long is left alone what did not get better.
const REST: Duration = Duration::from_secs(2);

/// The first number.
const FIRST: usize = 4;

/// What counts as better.
const GAIN: f64 = 1.05;

/// What one finished transfer counts for besides its bytes: small ones are paid for in round trips.
const EACH: u64 = 64 << 10;

/// See the module's text.
pub struct Pace {
    most: usize,
    width: usize,
    /// What got through per second before the latest change.
    before: f64,
    trying: bool,
    since: Instant,
    moved: u64,
}

impl Pace {
    /// At most `most` at once.
    pub fn new(most: usize, now: Instant) -> Self {
        Pace { most, width: FIRST.min(most), before: 0.0, trying: true, since: now, moved: 0 }
    }

    /// How many may run now that `moved` bytes have been moved in all.
    pub fn width(&mut self, now: Instant, moved: u64) -> usize {
        let elapsed = now.saturating_duration_since(self.since);
        let enough = if self.trying { elapsed >= TRIAL } else { elapsed >= REST };
        if enough {
            let rate = moved.saturating_sub(self.moved) as f64 / elapsed.as_secs_f64();
            self.judge(rate);
            (self.since, self.moved) = (now, moved);
        }
        self.width
    }

    fn judge(&mut self, rate: f64) {
        let better = rate > self.before * GAIN;
        self.width = match self.trying {
            true if !better => self.width.saturating_sub(1).max(1),
            _ => self.width.saturating_add(1),
        };
        // At the ceiling there is nothing to try.
        self.trying = (better || !self.trying) && self.width <= self.most;
        self.width = self.width.min(self.most);
        self.before = rate;
    }
}

/// Passes everything on to another watcher, and counts what gets through.
pub struct Counted {
    watch: Arc<dyn Watch>,
    moved: AtomicU64,
}

impl Counted {
    /// Counts what `watch` is told.
    pub fn new(watch: Arc<dyn Watch>) -> Arc<Self> {
        Arc::new(Counted { watch, moved: AtomicU64::new(0) })
    }

    /// A transfer has ended.
    pub fn ended(&self) {
        self.moved.fetch_add(EACH, Ordering::Relaxed);
    }

    /// What has got through.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

impl Watch for Counted {
    fn stage(&self, stage: Stage) {
        self.watch.stage(stage);
    }

    fn moved(&self, part: usize, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.watch.moved(part, bytes);
    }

    fn note(&self, text: &str) {
        self.watch.note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for some seconds against something that lets `rate(width)` bytes per second through.
    fn settled(most: usize, rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let start = Instant::now();
        let mut pace = Pace::new(most, start);
        let (mut moved, mut widths) = (0, Vec::new());
        for tick in 0..400 {
            let width = pace.width(start + TRIAL * tick, moved);
            moved += rate(width) * TRIAL.as_millis() as u64 / 1000;
            widths.push(width);
        }
        widths
    }

    #[test]
    fn more_connections_are_used_while_each_brings_more() {
        assert_eq!(settled(16, |width| width as u64 * 1_000_000).last(), Some(&16));
    }

    #[test]
    fn none_are_added_behind_saturation() {
        let widths = settled(64, |width| width.min(5) as u64 * 1_000_000);
        assert!(widths.iter().all(|&width| width <= 8), "{widths:?}");
        assert!(widths.iter().skip(50).filter(|&&width| width <= 6).count() > 300, "{widths:?}");
    }

    #[test]
    fn the_ceiling_holds() {
        assert!(settled(3, |width| width as u64 * 1_000_000).iter().all(|&width| (1..=3).contains(&width)));
        assert!(settled(1, |_| 0).iter().all(|&width| width == 1));
    }
}
