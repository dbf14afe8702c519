//! Adding lines. One write for all that belongs together, under a lock, on the disk before anything else happens; the
//! end of the file is looked at before, so that nobody builds on a chain that is broken there.

use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::line::{Event, Line, Torn, genesis};
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::release::Moment;

/// How long others may take to add their lines.
const PATIENCE: Duration = Duration::from_secs(30);

/// Times that a log may be exchanged for another one while it is opened.
const EXCHANGES: usize = 8;

/// A log that lines are added to.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
}

/// How a log ends.
enum Tail {
    /// A chain: the last line's digest and number. None where the log is empty.
    Whole(Option<(Digest, u64)>),
    /// In the middle of a line: what that is, and the number of the line that tells of it.
    Torn(Torn, u64),
}

impl Log {
    /// The log in this file, which is made if it is not there.
    ///
    /// # Errors
    /// Everything that would keep a line from being added later; `AuditBroken` where the log does not end in a chain.
    pub fn open(path: &Path) -> Result<Self> {
        let log = Log { path: path.to_owned() };
        let file = log.locked()?;
        log.tail(&file)?;
        Ok(log)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds lines, which become the next ones of the chain; the digest of the last of them. A line that was broken
    /// off before is closed by a line that says so, and `note` is told.
    ///
    /// # Errors
    /// `AuditBroken` where the log does not end in a chain; `Io`, `NoSpace`, where they are not on the disk.
    pub fn append(&self, lines: Vec<Line>, note: &dyn Fn(&str)) -> Result<Digest> {
        let mut file = self.locked()?;
        let (mut text, mut last) = (Vec::new(), (genesis(), 0u64));
        let mut lines = lines;
        match self.tail(&file)? {
            Tail::Whole(end) => last = end.unwrap_or(last),
            Tail::Torn(torn, sequence) => {
                note(&format!(
                    "{}: the last line was broken off after {} bytes; the log goes on, and says so",
                    self.path.display(),
                    torn.bytes
                ));
                last = (torn.digest, sequence.saturating_sub(1));
                text.push(b'\n');
                if let Some(first) = lines.first() {
                    let mut closing = Line::new(Event::Torn, &first.action, &first.run, &first.who);
                    closing.torn = Some(torn);
                    lines.insert(0, closing);
                }
            }
        }
        for mut line in lines {
            (line.previous, line.sequence, line.time) = (last.0, last.1.saturating_add(1), Moment::now());
            let bytes = line.encode()?;
            last = (Digest::of(&bytes), line.sequence);
            text.extend(bytes);
            text.push(b'\n');
        }
        self.write(&mut file, &text)?;
        Ok(last.0)
    }

    fn write(&self, file: &mut File, text: &[u8]) -> Result<()> {
        let before = file.metadata().map_err(|e| self.failed(&e))?.len();
        let written = file.write_all(text).and_then(|()| file.sync_all());
        written.map_err(|e| {
            // Nobody else writes now. Where the file may only grow (chattr +a), the next one closes what is there.
            let _ = file.set_len(before);
            self.failed(&e)
        })?;
        match before {
            0 => file::sync_directory(self.directory()),
            _ => Ok(()),
        }
    }

    fn directory(&self) -> &Path {
        self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        let failure = Error::io("cannot write the audit log", self.path.display(), error);
        match error.kind() {
            std::io::ErrorKind::NotFound => failure.hint("make the directory first"),
            _ => failure,
        }
    }

    /// The file that has this name, and that nobody else writes to meanwhile.
    fn locked(&self) -> Result<File> {
        for _ in 0..EXCHANGES {
            let file = self.opened()?;
            self.lock(&file)?;
            let identity = |facts: Metadata| (facts.dev(), facts.ino());
            let held = file.metadata().map(identity).ok();
            // Somebody may have put another one in its place meanwhile.
            if held.is_some() && held == std::fs::symlink_metadata(&self.path).map(identity).ok() {
                return Ok(file);
            }
        }
        Err(Error::new(Kind::Locked, "the audit log is exchanged again and again").at(self.path.display()))
    }

    fn opened(&self) -> Result<File> {
        let odd = |what: &str| {
            Error::new(Kind::Usage, "the audit log must be a regular file")
                .at(self.path.display())
                .got(what)
                .hint("name the file itself, in a directory that lasts")
        };
        // Looked at before it is opened: to open some devices does something.
        match std::fs::symlink_metadata(&self.path) {
            Ok(facts) if facts.file_type().is_symlink() => return Err(odd("a symbolic link")),
            Ok(facts) if facts.file_type().is_fifo() => return Err(odd("a pipe")),
            Ok(facts) if !facts.is_file() => return Err(odd("something else")),
            _ => {}
        }
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.path, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| self.failed(&e.into()))?;
        let file = File::from(file);
        let facts = file.metadata().map_err(|e| self.failed(&e))?;
        if !facts.is_file() {
            return Err(odd("something else"));
        }
        let mode = facts.permissions().mode() & 0o7777;
        if mode & 0o002 != 0 {
            return Err(Error::new(Kind::StatePerms, "everybody can write to the audit log")
                .at(self.path.display())
                .got(format_args!("mode {mode:04o}"))
                .expected("mode 0600 or 0640")
                .hint(format_args!("look at what is in it, then chmod o-w {}", self.path.display())));
        }
        Ok(file)
    }

    /// Waits for others, but not for ever: whoever may read the file can lock it.
    fn lock(&self, file: &File) -> Result<()> {
        let failed = |e: Errno| self.failed(&e.into());
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => {}
            Err(e) => return Err(failed(e)),
        }
        // A lock belongs to the open file, whichever of its handles asked for it.
        let waiting = file.try_clone().map_err(|e| self.failed(&e))?;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let locked = loop {
                match rustix::fs::flock(&waiting, FlockOperation::LockExclusive) {
                    Err(Errno::INTR) => {}
                    locked => break locked,
                }
            };
            let _ = send.send(locked);
        });
        match receive.recv_timeout(PATIENCE) {
            Ok(locked) => locked.map_err(failed),
            Err(_) => Err(Error::new(Kind::Locked, "somebody keeps the audit log locked")
                .at(self.path.display())
                .hint("find out who: lsof, or fuser")),
        }
    }

    /// Looks at the last lines: the last one must be complete, and must have been written after the one before it.
    fn tail(&self, file: &File) -> Result<Tail> {
        let length = file.metadata().map_err(|e| self.failed(&e))?.len();
        let window = length.min((2 * (limits::AUDIT_LINE + 1) + limits::AUDIT_LINE) as u64);
        let mut bytes = vec![0; window as usize];
        let start = length.saturating_sub(window);
        let count = file::read_at_most(file, &mut bytes, start).map_err(|e| self.failed(&e))?;
        if count != bytes.len() {
            return Err(self.broken("it changes while it is locked", length));
        }
        let ends = Ends::of(&bytes, start == 0);
        let whole = self.chained(&ends, length)?;
        let Some(torn) = ends.torn else { return Ok(Tail::Whole(whole)) };
        if torn.len() > limits::AUDIT_LINE {
            return Err(self.broken("it ends in what is no line", length));
        }
        // Every line begins so, and what was broken off is the beginning of one.
        const BEGINNING: &[u8] = b"{\"action\":";
        if whole.is_none() && !torn.starts_with(BEGINNING) && !BEGINNING.starts_with(torn) {
            return Err(Error::new(Kind::AuditBroken, "not an audit log")
                .at(self.path.display())
                .got("a file that holds something else")
                .hint("name another file: it is made if it is not there; nothing was written"));
        }
        let (before, last) = whole.unwrap_or((genesis(), 0));
        let sequence = match Line::parse(torn) {
            Err(_) => last.saturating_add(1),
            // It lacks nothing but its end.
            Ok(line) if line.previous == before && line.sequence == last.saturating_add(1) => {
                last.saturating_add(2)
            }
            Ok(_) => {
                return Err(self.broken("the last line was not written after the one before it", length));
            }
        };
        Ok(Tail::Torn(Torn { bytes: torn.len() as u64, digest: Digest::of(torn) }, sequence))
    }

    /// The last complete line's digest and number.
    fn chained(&self, ends: &Ends<'_>, length: u64) -> Result<Option<(Digest, u64)>> {
        let Some(last) = ends.last else {
            return match ends.torn {
                _ if ends.from_start => Ok(None),
                _ => Err(self.broken("it ends in what is no line", length)),
            };
        };
        let line = Line::parse(last).map_err(|what| self.broken(&what, length))?;
        let (previous, first) = match ends.before {
            Some(before) => (Digest::of(before), false),
            None if ends.from_start => (genesis(), true),
            None => return Err(self.broken("it ends in what is no line", length)),
        };
        if line.previous != previous || (first != (line.sequence == 1) && line.event != Event::Torn) {
            return Err(self
                .broken("the last line was not written after the one before it", length)
                .expected(line.previous));
        }
        Ok(Some((Digest::of(last), line.sequence)))
    }

    fn broken(&self, what: &str, length: u64) -> Error {
        Error::new(Kind::AuditBroken, "the end of the audit log is not what was written")
            .at(format_args!("{}, {length} bytes", self.path.display()))
            .got(what)
            .hint("sealift audit says where; keep the file as it is, for whoever has to find out, and let a new one begin under another name")
    }
}

/// The last lines of a log, as far as they were read.
struct Ends<'a> {
    before: Option<&'a [u8]>,
    last: Option<&'a [u8]>,
    /// What follows the end of the last line.
    torn: Option<&'a [u8]>,
    /// All of the log was read.
    from_start: bool,
}

impl<'a> Ends<'a> {
    fn of(bytes: &'a [u8], from_start: bool) -> Self {
        let mut pieces = bytes.rsplit(|byte| *byte == b'\n');
        let torn = pieces.next().filter(|torn| !torn.is_empty());
        // What stands first in a part of the log is the end of some line.
        let mut whole: Vec<&[u8]> = pieces.take(3).collect();
        let all = bytes.split(|byte| *byte == b'\n').count();
        if !from_start && whole.len().saturating_add(1) == all {
            whole.pop();
        }
        let torn = torn.filter(|_| from_start || all > 1);
        Ends { before: whole.get(1).copied(), last: whole.first().copied(), torn, from_start }
    }
}
