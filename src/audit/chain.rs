//! Checking a log: every line, one after the other, in memory that does not grow with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::line::{Event, Line, genesis};
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

/// What was found in a log whose chain is whole.
#[derive(Debug)]
pub struct Checked {
    /// The digest of its last line; to be noted elsewhere. None where it is empty.
    pub head: Option<Digest>,
    /// Its lines, those that were broken off not counted.
    pub lines: u64,
    /// Its bytes, when it was checked.
    pub bytes: u64,
    /// Lines that were broken off and closed.
    pub torn: u64,
    /// Runs that began and did not end, with the number of the line in which they began.
    pub open: BTreeMap<String, u64>,
    /// The number of the line whose digest was asked for.
    pub noted: Option<u64>,
}

/// Checks a log; `noted` is the digest of a line that must be in it.
///
/// # Errors
/// `AuditBroken`: where the first fault is, and what it is.
pub fn check(path: &Path, noted: Option<&Digest>) -> Result<Checked> {
    let mut reading = Reading::open(path, u64::MAX)?;
    let mut checked = Checked { head: None, lines: 0, bytes: 0, torn: 0, open: BTreeMap::new(), noted: None };
    let mut previous = genesis();
    // A line that is none: good only if the next one says that it was broken off.
    let mut fragment: Option<(u64, u64, String)> = None;
    while let Some(bytes) = reading.next()? {
        let (number, digest) = (reading.number, Digest::of(&bytes));
        let line = match Line::parse(&bytes) {
            Ok(line) => line,
            Err(what) => {
                if let Some((number, _, what)) = fragment {
                    return Err(reading.broken("is no line of an audit log", number).got(what));
                }
                fragment = Some((number, bytes.len() as u64, what));
                // What follows must have been written after it.
                previous = digest;
                continue;
            }
        };
        if let Some((number, length, what)) = fragment.take() {
            let told = line.torn.as_ref().is_some_and(|torn| torn.digest == previous && torn.bytes == length);
            if line.event != Event::Torn || !told {
                return Err(reading.broken("is no line of an audit log", number).got(what));
            }
            checked.torn = checked.torn.saturating_add(1);
        }
        let expected = checked.lines.saturating_add(1);
        if line.sequence != expected {
            return Err(reading
                .broken("is not the next one: lines are missing, were put in or were moved", number)
                .got(format_args!("sequence {}", line.sequence))
                .expected(format_args!("sequence {expected}")));
        }
        if line.previous != previous {
            let (what, place) = match number {
                1 => ("is the first one, and was written after another", 1),
                _ => ("is not the one that the next line was written after", number.saturating_sub(1)),
            };
            return Err(reading.broken(what, place).got(previous).expected(line.previous));
        }
        checked.remember(&line, number)?;
        if noted == Some(&digest) {
            checked.noted = Some(number);
        }
        (checked.lines, checked.head, previous) = (expected, Some(digest), digest);
    }
    if let Some((number, _, what)) = fragment {
        return Err(reading.broken("is no line of an audit log", number).got(what));
    }
    checked.bytes = reading.bytes;
    match noted {
        Some(noted) if checked.noted.is_none() => Err(Error::new(
            Kind::AuditBroken,
            "the line that was noted is not in the audit log: it was cut short, or written anew",
        )
        .at(path.display())
        .got(checked.head.map_or("an empty log".to_owned(), |head| format!("a log that ends in {head}")))
        .expected(noted)
        .hint("compare with a copy of the log from when the digest was noted")),
        _ => Ok(checked),
    }
}

/// Hands out the lines of a log that was checked, as far as it was.
///
/// # Errors
/// As those of [`check`].
pub fn lines(
    path: &Path,
    checked: &Checked,
    mut each: impl FnMut(&Line, Digest) -> Result<()>,
) -> Result<()> {
    let mut reading = Reading::open(path, checked.bytes)?;
    while let Some(bytes) = reading.next()? {
        if let Ok(line) = Line::parse(&bytes) {
            each(&line, Digest::of(&bytes))?;
        }
    }
    Ok(())
}

impl Checked {
    fn remember(&mut self, line: &Line, number: u64) -> Result<()> {
        match line.event {
            Event::Begin => _ = self.open.insert(line.run.clone(), number),
            Event::End => _ = self.open.remove(&line.run),
            Event::Placed | Event::Torn => {}
        }
        match self.open.len() <= limits::AUDIT_OPEN {
            true => Ok(()),
            false => Err(Error::new(Kind::LimitExceeded, "too many runs in the audit log that did not end")
                .expected(format_args!("at most {}", limits::AUDIT_OPEN))),
        }
    }
}

/// A log that is read line by line.
struct Reading {
    place: String,
    file: BufReader<std::io::Take<File>>,
    number: u64,
    bytes: u64,
}

impl Reading {
    fn open(path: &Path, length: u64) -> Result<Self> {
        let (file, _) = file::open_regular(path, "the audit log")?;
        let file = BufReader::new(file.take(length));
        Ok(Reading { place: path.display().to_string(), file, number: 0, bytes: 0 })
    }

    /// The next line, without its end.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let most = (limits::AUDIT_LINE as u64).saturating_add(1);
        let read = self.file.by_ref().take(most).read_until(b'\n', &mut bytes);
        let count = read.map_err(|e| Error::io("cannot read the audit log", &self.place, &e))?;
        if count == 0 {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        self.bytes = self.bytes.saturating_add(count as u64);
        match bytes.pop() {
            Some(b'\n') => Ok(Some(bytes)),
            _ if count as u64 == most => {
                Err(self.broken("is longer than any that was written", self.number))
            }
            _ => Err(self
                .broken("breaks off", self.number)
                .got(format_args!("{count} bytes without an end"))
                .expected("the end of a line")
                .hint("a crash or a full disk does this, and so does whoever cuts the log short; the next run closes the line, and says so")),
        }
    }

    fn broken(&self, what: &str, number: u64) -> Error {
        Error::new(Kind::AuditBroken, format!("a line of the audit log {what}"))
            .at(format_args!("{}, line {number}", self.place))
    }
}
