//! JSON from strangers, bounded while it is read: what a reader of it would keep in memory has ceilings.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use crate::error::{Error, Kind};
use crate::limits;

/// Bytes that one item may still have while it is read; nothing is counted between items.
#[derive(Clone, Default)]
pub(super) struct Budget(Rc<Cell<Option<u64>>>);

impl Budget {
    /// An item begins, which is kept in memory whole.
    pub fn begin(&self) {
        self.0.set(Some(limits::EVIDENCE_ITEM));
    }

    /// It ended.
    pub fn end(&self) {
        self.0.set(None);
    }

    fn spend(&self, bytes: u64) -> bool {
        match self.0.get() {
            None => true,
            Some(left) => {
                self.0.set(Some(left.saturating_sub(bytes)));
                left >= bytes
            }
        }
    }
}

/// Lets JSON through as long as its texts are short enough, its nesting is shallow enough, and its items are
/// small enough.
pub(super) struct Guard<R> {
    inner: R,
    budget: Budget,
    depth: usize,
    text: Option<u64>,
    escaped: bool,
}

impl<R> Guard<R> {
    pub fn new(inner: R, budget: Budget) -> Self {
        Guard { inner, budget, depth: 0, text: None, escaped: false }
    }

    fn check(&mut self, piece: &[u8]) -> Result<(), Error> {
        for byte in piece {
            match (self.text, byte) {
                (Some(_), _) if self.escaped => self.escaped = false,
                (Some(_), b'\\') => self.escaped = true,
                (Some(_), b'"') => self.text = None,
                (Some(length), _) if length >= limits::EVIDENCE_TEXT => {
                    return Err(too_much("a text in it is too long", limits::EVIDENCE_TEXT));
                }
                (Some(length), _) => self.text = Some(length + 1),
                (None, b'"') => self.text = Some(0),
                (None, b'{' | b'[') => self.depth += 1,
                (None, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                (None, _) => {}
            }
            if self.depth > limits::EVIDENCE_DEPTH {
                return Err(Error::new(Kind::LimitExceeded, "it is nested too deeply")
                    .expected(format_args!("at most {} levels", limits::EVIDENCE_DEPTH)));
            }
        }
        match self.budget.spend(piece.len() as u64) {
            true => Ok(()),
            false => Err(too_much("one of its items is too large", limits::EVIDENCE_ITEM)),
        }
    }
}

fn too_much(what: &str, most: u64) -> Error {
    Error::new(Kind::LimitExceeded, what).expected(format_args!("at most {most} bytes"))
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.check(buffer.get(..count).unwrap_or_default()).map_err(std::io::Error::other)?;
        Ok(count)
    }
}
