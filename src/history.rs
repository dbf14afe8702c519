//! What a site remembers of the bundles it has accepted, so that an old one cannot pass for new.
//! One file per release name, `<name>.json`: its first line is the SHA-256 of the rest, so that a
//! damaged memory is noticed. A memory that cannot be read refuses: it fails closed. It is written
//! only after an import has fully succeeded.
//!
//! Three things follow from it: a release older than the newest one accepted is a rollback,
//! refused unless it is asked for; a version that was accepted with one content and comes again with another is
//! an equivocation, always refused; and time does not run backwards, whatever the machine's clock
//! says ([`History::clock`]).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::content::{file, guard};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::release::{Moment, ReleaseName, UpgradePath, Version};

const FOREIGN: &str = "others can change what is remembered";

/// The program did not exist before: no clock that says so is right.
const BEGINNING: &str = "2026-11-01T00:00:00Z";

/// A directory with the memory of a site.
#[derive(Clone, Debug)]
pub struct History {
    directory: PathBuf,
}

/// What a bundle says of itself, as far as it is remembered.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The release's name.
    pub name: ReleaseName,
    /// Its version.
    pub version: Version,
    /// Its place in the sequence of releases.
    pub sequence: Option<u64>,
    /// The epoch of the trust store that it was judged by.
    pub epoch: u64,
    /// The time that it states.
    pub created: Moment,
    /// This machine's clock.
    pub clock: Moment,
    /// The versions that it may be installed over.
    pub upgrades_from: Option<UpgradePath>,
    /// The digest of its signed sums: it, and nothing else.
    pub bundle: Digest,
    /// Its images' top documents, by what the release calls them and by each of their full names.
    pub images: BTreeMap<String, Digest>,
}

/// Whether a clock can be right: batteries that are empty say 1970, or the year in which the machine was made.
fn is_plausible(clock: Moment) -> bool {
    BEGINNING.parse().is_ok_and(|beginning: Moment| clock >= beginning)
}

/// What is asked for although the memory speaks against it, or beyond it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leave {
    /// An older release may be installed over a newer one.
    pub downgrade: bool,
    /// There must be a memory of the release: one that vanished is not a fresh start.
    pub memory_required: bool,
    /// What is remembered of the release is forgotten.
    pub forget: bool,
}

/// The memory of one release.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    schema: u64,
    name: ReleaseName,
    /// The highest epoch of a trust store by which one was accepted.
    epoch: u64,
    /// The latest time that one stated and that can have been.
    time: Moment,
    /// The latest time that one stated while this machine's clock told nothing. Believed as long as it does.
    claimed: Moment,
    /// What was imported last.
    installed: Version,
    /// The newest that was ever accepted.
    newest: Mark,
    /// What was accepted, the latest last.
    accepted: Vec<Accepted>,
}

/// How far a release had come.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    version: Version,
    sequence: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    release: Mark,
    bundle: Digest,
    images: BTreeMap<String, Digest>,
}

/// While it is held, no other bundle of this release is imported here.
pub struct Held {
    history: History,
    sighting: Sighting,
    leave: Leave,
    _lock: File,
}

impl History {
    /// The memory in this directory, which need not exist yet.
    pub fn at(directory: PathBuf) -> Self {
        History { directory }
    }

    /// The time that counts: the machine's clock, but never earlier than what an accepted bundle
    /// stated, and never before this program existed. Says so through `note` where the clock is behind.
    ///
    /// # Errors
    /// Where the directory cannot be read, or others can write to it. Memories of single releases that are damaged
    /// are only noted here: they stop that release, not all others.
    pub fn clock(&self, own: Moment, note: &dyn Fn(&str)) -> Result<Moment> {
        let mut latest: (Moment, Option<PathBuf>) = (BEGINNING.parse()?, None);
        for name in self.names()? {
            match self.read(&name) {
                Ok(Some(record)) => {
                    let claimed = match is_plausible(own) {
                        true => record.claimed.min(own.a_day_later()),
                        false => record.claimed,
                    };
                    let time = record.time.max(claimed);
                    if time > latest.0 {
                        latest = (time, Some(self.path(&name)));
                    }
                }
                Ok(None) => {}
                Err(error) => note(&format!("{error:#}; that release cannot be imported")),
            }
        }
        if own < latest.0 {
            let reason = match latest.1 {
                Some(path) => format!(
                    "a bundle that was imported here says so ({}; if it is wrong, import that release with --reset-state)",
                    path.display()
                ),
                None => "this program did not exist before".to_owned(),
            };
            note(&format!(
                "this machine's clock is behind: it says {own}, but it is at least {}: {reason}",
                latest.0
            ));
        }
        Ok(own.max(latest.0))
    }

    /// Whether a bundle may be accepted after what was accepted before.
    ///
    /// # Errors
    /// `Rollback`, `UpgradePath`: refused, unless asked for. `Equivocation`, `StateCorrupt`,
    /// `StatePerms`, `StateMissing`: not to be trusted.
    pub fn check(&self, sighting: &Sighting, leave: Leave) -> Result<()> {
        if leave.forget {
            return Ok(());
        }
        let record = self.read(&sighting.name)?;
        match record {
            None if leave.memory_required => Err(Error::new(Kind::StateMissing, "nothing is remembered of this release")
                .at(self.path(&sighting.name).display())
                .hint("if this is its first import here, leave --require-state out; if not, find out who removed the file")),
            None => Ok(()),
            Some(record) => record.check(sighting, leave),
        }
    }

    /// Checks, and keeps other bundles of the release from being imported until this one is remembered.
    ///
    /// # Errors
    /// As those of [`History::check`]; `Locked` where another bundle of the release is being
    /// imported; `Io` where nothing could be written later.
    pub fn hold(&self, sighting: Sighting, leave: Leave) -> Result<Held> {
        let failed = |e: &std::io::Error| self.unwritable(e);
        self.prepared()?;
        let path = self.directory.join(format!("{}.lock", sighting.name));
        let mut options = OpenOptions::new();
        let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        // Whoever could read it could lock it, and keep everybody else from importing.
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let mut lock = options.open(&path).map_err(|e| failed(&e))?;
        let holder = share(&mut lock, &sighting.bundle.to_string()).map_err(|e| failed(&e))?;
        if let Some(other) = holder {
            return Err(Error::new(Kind::Locked, "another bundle of this release is being imported")
                .at(&sighting.name)
                .got(other)
                .expected(sighting.bundle)
                .hint("wait until that import has ended"));
        }
        self.check(&sighting, leave)?;
        Ok(Held { history: self.clone(), sighting, leave, _lock: lock })
    }

    /// The directory, made if it is not there.
    ///
    /// # Errors
    /// `Io`; `StatePerms` where others can write to it.
    pub fn prepared(&self) -> Result<&Path> {
        let mut maker = std::fs::DirBuilder::new();
        maker.recursive(true).mode(0o755).create(&self.directory).map_err(|e| self.unwritable(&e))?;
        self.check_directory()?;
        Ok(&self.directory)
    }

    /// What is remembered, by name.
    fn names(&self) -> Result<Vec<ReleaseName>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| unreadable(&self.directory, &e))?,
        };
        self.check_directory()?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| unreadable(&self.directory, &e))?;
            let name = entry.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(stem.and_then(|stem| stem.parse().ok()));
        }
        Ok(names)
    }

    fn path(&self, name: &ReleaseName) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    fn read(&self, name: &ReleaseName) -> Result<Option<Record>> {
        let path = self.path(name);
        match path.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unreadable(&path, &e)),
            Ok(facts) if !facts.is_file() => return Err(corrupt(&path, "not a regular file")),
            Ok(_) => {}
        }
        let (bytes, facts) = file::read_with_facts(&path, "what is remembered", limits::RECORD)?;
        guard::of_own(&facts, &path, Kind::StatePerms, FOREIGN)?;
        parse(&bytes, name).map(Some).map_err(|what| corrupt(&path, &what))
    }

    fn check_directory(&self) -> Result<()> {
        let facts =
            std::fs::symlink_metadata(&self.directory).map_err(|e| unreadable(&self.directory, &e))?;
        if !facts.is_dir() {
            return Err(Error::new(
                Kind::StatePerms,
                "what is remembered must lie in a directory of its own",
            )
            .at(self.directory.display())
            .got("not a directory"));
        }
        guard::of_own(&facts, &self.directory, Kind::StatePerms, FOREIGN)?;
        guard::of_above(&self.directory, Kind::StatePerms)
    }

    fn unwritable(&self, error: &std::io::Error) -> Error {
        Error::io("cannot remember what is imported", self.directory.display(), error)
            .hint("--state names a directory to remember it in; it must last, and only you may write to it")
    }

    fn write(&self, record: &Record) -> Result<()> {
        let failed = |e: std::io::Error| self.unwritable(&e);
        let body = serde_json::to_string_pretty(record)
            .map_err(|e| Error::new(Kind::Io, "cannot write what is remembered").got(e))?;
        let body = format!("{body}\n");
        let path = self.path(&record.name);
        let fresh = path.with_extension(format!("new.{}", std::process::id()));
        // Whatever the umask is: a memory that others can write to is refused.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        let mut file = options.open(&fresh).map_err(failed)?;
        let written = write!(file, "{}\n{body}", Digest::of(body.as_bytes()).hex())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&fresh, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&fresh);
            return Err(failed(error));
        }
        file::sync_directory(&self.directory)
    }
}

impl Held {
    /// Remembers that the bundle was imported: to be called when it was, and not before.
    pub fn remember(self) -> Result<()> {
        let Held { history, sighting, leave, _lock } = self;
        let before = match leave.forget {
            true => None,
            false => history.read(&sighting.name)?,
        };
        history.write(&Record::after(before, sighting))
    }
}

impl Record {
    fn check(&self, sighting: &Sighting, leave: Leave) -> Result<()> {
        self.check_content(sighting)?;
        match sighting.epoch.cmp(&self.epoch) {
            // A new epoch forgets how far the releases had come, not what they contained.
            Ordering::Greater => return Ok(()),
            Ordering::Less => {
                return Err(Error::new(
                    Kind::TrustStore,
                    "the trust store is older than one that was used here before",
                )
                .got(format_args!("epoch {}", sighting.epoch))
                .expected(format_args!("epoch {} or later", self.epoch))
                .hint("bring the trust store up to date"));
            }
            Ordering::Equal => {}
        }
        let older = self.newest.is_newer_than(sighting);
        if older && !leave.downgrade {
            return Err(Error::new(Kind::Rollback, "older than what was imported here already")
                .at(&sighting.name)
                .got(shown(&sighting.version, sighting.sequence))
                .expected(format_args!("{} or newer", shown(&self.newest.version, self.newest.sequence)))
                .hint("--allow-downgrade installs it nevertheless; where one machine fills several places, each wants a --state of its own"));
        }
        match &sighting.upgrades_from {
            Some(path)
                if !older
                    && self.installed.precedence(&sighting.version) != Ordering::Equal
                    && !path.begins_at(&self.installed) =>
            {
                Err(Error::new(Kind::UpgradePath, "another release has to be imported before this one")
                    .at(format_args!("{} {}", sighting.name, sighting.version))
                    .got(format_args!("{} is installed here", self.installed))
                    .expected(format_args!("a version {path}"))
                    .hint(format_args!("import a bundle of {} {path} first, then this one; if what is installed is newer than that, ask for a release that follows it", sighting.name)))
            }
            _ => Ok(()),
        }
    }

    /// A version has one content for ever. A bundle may hold a part of it only.
    fn check_content(&self, sighting: &Sighting) -> Result<()> {
        let two = |what: &str| {
            Error::new(Kind::Equivocation, what)
                .hint("ask the release team which of the two is theirs; a new content needs a new version; while developing, --state elsewhere forgets it")
        };
        for known in &self.accepted {
            if known.release.version.precedence(&sighting.version) != Ordering::Equal {
                if known.release.sequence.is_some()
                    && known.release.sequence == sighting.sequence
                    && sighting.epoch == self.epoch
                {
                    return Err(two("one place in the sequence for two versions")
                        .at(&sighting.name)
                        .got(shown(&sighting.version, sighting.sequence))
                        .expected(format_args!(
                            "{}, which was imported here",
                            shown(&known.release.version, known.release.sequence)
                        )));
                }
                continue;
            }
            let other = sighting.images.iter().find_map(|(name, digest)| {
                let before = known.images.get(name).filter(|before| *before != digest)?;
                Some((name, digest, before))
            });
            if let Some((name, digest, before)) = other {
                return Err(two("this version was imported with another content before")
                    .at(format_args!("{} {}: {name}", sighting.name, sighting.version))
                    .got(digest)
                    .expected(before));
            }
        }
        Ok(())
    }

    /// The memory after this import.
    fn after(before: Option<Record>, sighting: Sighting) -> Record {
        let release = Mark { version: sighting.version.clone(), sequence: sighting.sequence };
        let mut record = before.unwrap_or_else(|| Record {
            schema: 1,
            name: sighting.name.clone(),
            epoch: sighting.epoch,
            time: Moment::default(),
            claimed: Moment::default(),
            installed: sighting.version.clone(),
            newest: release.clone(),
            accepted: Vec::new(),
        });
        if sighting.epoch > record.epoch || !record.newest.is_newer_than(&sighting) {
            record.newest = release.clone();
        }
        record.epoch = record.epoch.max(sighting.epoch);
        match is_plausible(sighting.clock) {
            // A time far ahead of a clock that may be right is somebody's mistake, and must not make everything
            // else expire.
            true => record.time = record.time.max(sighting.created.min(sighting.clock.a_day_later())),
            false => record.claimed = record.claimed.max(sighting.created),
        }
        record.installed = sighting.version;
        let same = |known: &Accepted| known.release.version.precedence(&release.version) == Ordering::Equal;
        let known = record.accepted.iter().position(same);
        let mut images = known.map(|at| record.accepted.remove(at).images).unwrap_or_default();
        images.extend(sighting.images);
        record.accepted.push(Accepted { release, bundle: sighting.bundle, images });
        let surplus = record.accepted.len().saturating_sub(limits::VERSIONS);
        record.accepted.drain(..surplus);
        record
    }
}

impl Mark {
    /// By the sequence, where both have a place in it. A release without one is older than any that has one; the
    /// first that has one must not have an older version besides.
    fn is_newer_than(&self, sighting: &Sighting) -> bool {
        match (self.sequence, sighting.sequence) {
            (Some(known), Some(new)) => known > new,
            (Some(_), None) => true,
            (None, _) => self.version.precedence(&sighting.version) == Ordering::Greater,
        }
    }
}

fn shown(version: &Version, sequence: Option<u64>) -> String {
    match sequence {
        Some(sequence) => format!("{version} (sequence {sequence})"),
        None => version.to_string(),
    }
}

fn parse(bytes: &[u8], name: &ReleaseName) -> std::result::Result<Record, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
    let (sum, body) = text.split_once('\n').ok_or("cut short")?;
    if Digest::from_hex(sum) != Some(Digest::of(body.as_bytes())) {
        return Err("the first line is not the SHA-256 of the rest".to_owned());
    }
    let record: Record = serde_json::from_str(body).map_err(|e| e.to_string())?;
    match record.schema == 1 && record.name == *name {
        true => Ok(record),
        false => Err(format!("schema {} of {}", record.schema, record.name)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::io("cannot read what is remembered", path.display(), error)
        .hint("--state names a directory to remember imports in")
}

fn corrupt(path: &Path, what: &str) -> Error {
    Error::new(Kind::StateCorrupt, "what is remembered of earlier imports is damaged")
        .at(path.display())
        .got(what)
        .hint("put it back from a copy; or, knowing that older bundles will pass once more, remove the file or import with --reset-state")
}

/// Takes the lock together with those who hold it for the same thing; gives back what others hold it
/// for. The name of the thing stands in the file, written only while nobody else holds the lock.
fn share(lock: &mut File, what: &str) -> std::io::Result<Option<String>> {
    match rustix::fs::flock(&*lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            lock.set_len(0)?;
            lock.seek(SeekFrom::Start(0))?;
            lock.write_all(what.as_bytes())?;
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(e) => return Err(e.into()),
    }
    // Waits for somebody who is writing, which takes no time. Between the two locks somebody else may have
    // come: what the file says now counts.
    rustix::fs::flock(&*lock, FlockOperation::LockShared)?;
    let mut holder = String::new();
    lock.seek(SeekFrom::Start(0))?;
    lock.take(1024).read_to_string(&mut holder)?;
    Ok((holder != what).then_some(holder))
}
