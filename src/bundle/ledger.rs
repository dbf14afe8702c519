//! What has been written of each entry, kept in memory by whoever writes and made durable by a
//! thread of its own: first the bundle's bytes, then the journal that names them. So the journal
//! is never ahead of the disk, and the bytes are on their way there long before the export ends.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::journal::Journal;
use crate::error::{Error, Result};

/// Bytes that are worth a trip to the disk.
const WORTH: u64 = 1 << 20;

/// After a trip the disk is left alone for so many times its duration.
const REST: u32 = 4;

/// See the module's text.
pub struct Ledger {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

struct Shared {
    bundle: Arc<File>,
    place: String,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    journal: Journal,
    written: HashMap<usize, u64>,
    /// Entries whose progress is not in the journal.
    unnoted: BTreeSet<usize>,
    fresh: u64,
    ended: bool,
    /// The operating system tells of a failed write-back once: it must not be forgotten.
    failure: Option<Error>,
}

impl Ledger {
    /// Keeps `journal` about `bundle`, of which `written` is there already.
    pub fn new(
        bundle: Arc<File>,
        place: String,
        journal: Journal,
        written: HashMap<usize, u64>,
    ) -> Result<Self> {
        let state =
            State { journal, written, unnoted: BTreeSet::new(), fresh: 0, ended: false, failure: None };
        let shared = Arc::new(Shared { bundle, place, state: Mutex::new(state), wake: Condvar::new() });
        let keeping = shared.clone();
        let keeper = std::thread::Builder::new().name("journal".to_owned()).spawn(move || keeping.keep());
        let keeper = keeper.map_err(|e| Error::io("cannot start", "the journal's thread", &e))?;
        Ok(Ledger { shared, keeper: Some(keeper) })
    }

    /// Bytes of this entry that are written, from its beginning on.
    pub fn written(&self, entry: usize) -> u64 {
        self.shared.state().written.get(&entry).copied().unwrap_or_default()
    }

    /// Whether nothing was written that an export would gain by.
    pub fn is_empty(&self) -> bool {
        self.shared.state().written.values().all(|&bytes| bytes == 0)
    }

    /// The first `bytes` of an entry are written.
    ///
    /// # Errors
    /// The disk's failure to keep what was written before.
    pub fn wrote(&self, entry: usize, bytes: u64) -> Result<()> {
        let mut state = self.shared.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let before = state.written.insert(entry, bytes).unwrap_or_default();
        state.fresh = state.fresh.saturating_add(bytes.saturating_sub(before));
        state.unnoted.insert(entry);
        if state.fresh >= WORTH {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// What was written of an entry is not to be used.
    pub fn forget(&self, entry: usize) {
        let mut state = self.shared.state();
        state.written.insert(entry, 0);
        state.unnoted.insert(entry);
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// What it has met with.
    pub fn close(&mut self) -> Result<()> {
        self.shared.state().ended = true;
        self.shared.wake.notify_one();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        self.shared.state().failure.take().map_or(Ok(()), Err)
    }

    /// Notes the last progress without waiting for the disk: what did not get there before a power
    /// cut is found by its hash.
    pub fn note_rest(&self) {
        let mut state = self.shared.state();
        let progress = state.take_unnoted();
        let _ = state.journal.note(&progress);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self) {
        let mut rest = Duration::ZERO;
        while let Some(progress) = self.awaited(rest) {
            let began = Instant::now();
            if let Err(error) = self.save(&progress) {
                self.state().failure = Some(error);
                return;
            }
            rest = began.elapsed().saturating_mul(REST);
        }
    }

    /// Rests, waits for something worth saving, and takes it. `None` when the end has come.
    fn awaited(&self, rest: Duration) -> Option<Vec<(usize, u64)>> {
        let state = self.state();
        let (state, _) = self
            .wake
            .wait_timeout_while(state, rest, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let mut state = self
            .wake
            .wait_while(state, |state| !state.ended && state.fresh < WORTH)
            .unwrap_or_else(PoisonError::into_inner);
        (!state.ended).then(|| state.take_unnoted())
    }

    fn save(&self, progress: &[(usize, u64)]) -> Result<()> {
        let failed = |e| Error::io("cannot write the file", &self.place, &e);
        self.bundle.sync_data().map_err(failed)?;
        // A journal that cannot be written costs time after an interruption, never the export.
        let _ = self.state().journal.note(progress);
        Ok(())
    }
}

impl State {
    fn take_unnoted(&mut self) -> Vec<(usize, u64)> {
        self.fresh = 0;
        let written = &self.written;
        let progress =
            self.unnoted.iter().map(|entry| (*entry, written.get(entry).copied().unwrap_or_default()));
        let progress = progress.collect();
        self.unnoted.clear();
        progress
    }
}
