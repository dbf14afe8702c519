//! Keeping account: what a run does is written into an audit log, before anything changes at the destination and
//! when it is over, however it ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::audit::{Event, Failure, Key, Line, Log, Outcome, Placed, Policy, Released, Who};
use crate::bundle::Statement;
use crate::content::Watch;
use crate::error::{Error, Exit, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::release::Tier;
use crate::rules::PolicyRecord;
use crate::trust::Signers;

/// What the log is called that is kept where none was named.
const FALLBACK: &str = "audit.jsonl";

/// Whether releases of this tier ask for an audit log.
pub fn asks_for_log(tier: Tier) -> bool {
    tier >= Tier::Regulated
}

/// Which release a statement is about.
pub fn released(statement: &Statement) -> Released {
    Released {
        channel: statement.channel,
        name: statement.name.clone(),
        tier: statement.tier,
        version: statement.version.clone(),
    }
}

/// The account of one run. Cheap to hand on.
#[derive(Clone)]
pub struct Account(Arc<Mutex<State>>);

struct State {
    log: Option<Log>,
    /// All that is known so far; every line is made of it.
    line: Line,
    images: Vec<Placed>,
    begun: bool,
    ended: bool,
    /// Hears what is odd about the log.
    note: fn(&str),
}

impl Account {
    /// The account of a run that does `action`. What would keep the log from being written is said now.
    ///
    /// # Errors
    /// Those of [`Log::open`].
    pub fn open(log: Option<&Path>, who: &Who, action: &str, note: fn(&str)) -> Result<Self> {
        let log = log.map(Log::open).transpose()?;
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|e| Error::new(Kind::Io, "this machine gives no random numbers").got(e))?;
        let run = format!("{:016x}", u64::from_be_bytes(random));
        let line = Line::new(Event::End, action, &run, who);
        let state = State { log, line, images: Vec::new(), begun: false, ended: false, note };
        Ok(Account(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a log.
    pub fn is_kept(&self) -> bool {
        self.state().log.is_some()
    }

    /// Where from, and where to.
    pub fn about(&self, source: impl std::fmt::Display, destination: impl std::fmt::Display) {
        let mut state = self.state();
        state.line.source = Some(source.to_string()).filter(|text| !text.is_empty());
        state.line.destination = Some(destination.to_string()).filter(|text| !text.is_empty());
    }

    /// Which release.
    pub fn releases(&self, released: Released, policy: &PolicyRecord) {
        let mut state = self.state();
        state.line.release = Some(released);
        state.line.policy = Some(Policy::of(policy));
    }

    /// Which bundle.
    pub fn bundle(&self, bundle: Digest, signers: Vec<Key>) {
        let mut state = self.state();
        (state.line.bundle, state.line.signers) = (Some(bundle), signers);
    }

    /// Which bundle, and all that is known of it once it is trusted.
    pub fn trusted(&self, statement: &Statement, signers: &Signers, bundle: Digest) {
        self.releases(released(statement), &statement.policy);
        let key = |signer: &crate::trust::Signer| Key {
            key_id: signer.id.to_string(),
            name: signer.name.chars().take(128).collect(),
        };
        self.bundle(bundle, signers.iter().map(key).collect());
    }

    /// Where no log was named and the tier asks for one, one is kept here.
    ///
    /// # Errors
    /// Those of [`Log::open`].
    pub fn fall_back(&self, tier: Tier, directory: &Path, watch: &dyn Watch) -> Result<()> {
        if self.is_kept() || !asks_for_log(tier) {
            return Ok(());
        }
        let path: PathBuf = directory.join(FALLBACK);
        let log = Log::open(&path).map_err(|e| e.hint("--audit-log names another file"))?;
        watch.note(&format!(
            "the tier {tier} asks for an audit log: {} (--audit-log names another)",
            path.display()
        ));
        self.state().log = Some(log);
        Ok(())
    }

    /// From here on something may change at the destination.
    ///
    /// # Errors
    /// Those of [`Log::append`]: then nothing may be done.
    pub fn begin(&self) -> Result<()> {
        let mut state = self.state();
        let line = Line { event: Event::Begin, ..state.line.clone() };
        state.append(vec![line])?;
        state.begun = true;
        Ok(())
    }

    /// What has which names where.
    pub fn placed(&self, images: Vec<Placed>) {
        self.state().images = images;
    }

    /// It was done.
    ///
    /// # Errors
    /// Those of [`Log::append`]: it was done, and that is not written down.
    pub fn done(&self) -> Result<()> {
        self.end(Exit::Done, None).map_err(|e| {
            e.hint_instead("everything was done, but that is not in the audit log: mend this, and run the same command again")
        })
    }

    /// It ended with this failure, unless its end was written already.
    ///
    /// # Errors
    /// Those of [`Log::append`].
    pub fn failed(&self, error: &Error) -> Result<()> {
        let ended = self.state().ended;
        if ended { Ok(()) } else { self.end(error.kind().exit(), Some(error)) }
    }

    fn end(&self, exit: Exit, error: Option<&Error>) -> Result<()> {
        let mut state = self.state();
        state.ended = true;
        // What was placed is known only where it was.
        let mut parts = if error.is_none() { parts_of(&state.images) } else { Vec::new() };
        let end = Line {
            outcome: Some(Outcome::from(exit)),
            error: error.map(Failure::of),
            images: parts.pop().unwrap_or_default(),
            ..state.line.clone()
        };
        let Line { action, run, who, .. } = &state.line;
        let part = |images| Line { images, ..Line::new(Event::Placed, action, run, who) };
        let lines = parts.into_iter().map(part).chain([end]).collect();
        state.append(lines)
    }
}

/// As many names as a line takes.
fn parts_of(images: &[Placed]) -> Vec<Vec<Placed>> {
    let mut parts: Vec<Vec<Placed>> = Vec::new();
    let mut left = 0usize;
    for image in images {
        for names in image.names.chunks(limits::AUDIT_NAMES) {
            if names.len() > left || parts.is_empty() {
                parts.push(Vec::new());
                left = limits::AUDIT_NAMES;
            }
            left = left.saturating_sub(names.len());
            let placed = Placed { digest: image.digest, names: names.to_vec() };
            parts.last_mut().into_iter().for_each(|part| part.push(placed.clone()));
        }
    }
    parts
}

impl State {
    fn append(&mut self, lines: Vec<Line>) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        // Others may be adding lines, and disks are slow.
        tokio::task::block_in_place(|| log.append(lines, &self.note)).map(drop)
    }
}
