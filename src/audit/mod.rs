//! The audit log: what was done to releases here, by whom, and what came of it. A file of JSON lines to which lines
//! are only ever added; each holds the SHA-256 of the line before it, so that a line that was changed, taken out, put
//! in or moved is noticed by whoever checks the chain. FORMAT.md describes it.
//!
//! What a chain cannot show: that its last lines were cut off, or that all of it was written anew by somebody who may
//! write to it. For that, the digest of the last line (the *head*) is noted elsewhere.
//!
//! A [`Log`] adds lines: it looks at the end of the file, never at all of it. [`check`] reads all of it, in little
//! memory.

mod chain;
mod line;
mod log;
mod who;

pub use chain::{Checked, check, lines};
pub use line::{Event, Failure, GENESIS, Key, Line, Outcome, Placed, Policy, Released, Torn};
pub use log::Log;
pub use who::{Claims, Who};
