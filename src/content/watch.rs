//! What the rooms below say while they work; the mouth decides how it is shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stretch of work whose size is known.
#[derive(Clone, Debug)]
pub struct Stage {
    /// One word for what happens: `pulling`, `verifying`, `pushing`.
    pub verb: &'static str,
    /// The parts (images, mostly) and how many bytes each is to move.
    pub parts: Vec<(String, u64)>,
}

/// Somebody who watches. Called from many threads.
pub trait Watch: Send + Sync {
    /// A stretch of work begins. It ends when the next one begins.
    fn stage(&self, stage: Stage);
    /// `bytes` more of a part are done. Never counts a byte twice.
    fn moved(&self, part: usize, bytes: u64);
    /// Something worth a line: a retry, a skipped step.
    fn note(&self, text: &str);
}

/// Watches nothing.
pub struct Quiet;

impl Watch for Quiet {
    fn stage(&self, _: Stage) {}
    fn moved(&self, _: usize, _: u64) {}
    fn note(&self, _: &str) {}
}

/// Counts one blob's bytes towards a part. A blob that starts over does not count again what it
/// had counted, so progress never goes backwards.
#[derive(Clone)]
pub struct Meter {
    watch: Arc<dyn Watch>,
    part: usize,
    high: Arc<AtomicU64>,
}

impl Meter {
    /// Counts towards `part`.
    pub fn new(watch: Arc<dyn Watch>, part: usize) -> Self {
        Meter { watch, part, high: Arc::default() }
    }

    /// The first `position` bytes are done.
    pub fn at(&self, position: u64) {
        let before = self.high.fetch_max(position, Ordering::Relaxed);
        if position > before {
            self.watch.moved(self.part, position - before);
        }
    }
}
