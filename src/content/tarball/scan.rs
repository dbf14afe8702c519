//! The headers of somebody's tar file, as they come (pax(1), "ustar Interchange Format" and "pax Interchange Format";
//! GNU tar's manual, "Basic Tar Format").

use std::collections::HashMap;

use super::Stretch;
use crate::content::file::{PIECE, ReadAt, read_at_most};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

const BLOCK: u64 = 512;

/// The bits of a mode that say what it is, and what they are for each kind (inode(7), `S_IFMT`).
const FILE_TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// The first size that eleven octal digits cannot say.
const BEYOND_OCTAL: u64 = 1 << 33;

/// A name as it is remembered: half its digest, so that names take the same little room whatever their length. Two names
/// for which these are equal cannot be found by trying, and would be refused as one name twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl Key {
    pub fn of(name: &[u8]) -> Key {
        let digest = Digest::of(name).bytes();
        Key(digest.first_chunk().map(|half| u128::from_be_bytes(*half)).unwrap_or_default())
    }
}

/// What a name leads to.
#[derive(Clone, Copy, Debug)]
pub enum Member {
    /// To its content.
    File(Stretch),
    /// To the file of this name.
    Link(Key),
    /// To no content.
    Directory,
}

/// Is shown each entry before its content is read: the name as it stands there, and what it is.
pub type Judge<'j> = dyn FnMut(&[u8], &Member) -> Result<()> + 'j;

/// What was read so far.
#[derive(Default)]
pub struct Scan {
    /// Where the next header begins.
    next: u64,
    /// Blocks of zeros that were read: two end the archive.
    zeros: u8,
    ahead: Ahead,
    members: HashMap<Key, Member>,
    /// Extended headers that were read.
    extensions: usize,
}

/// What extended headers say of the entry behind them.
#[derive(Default, PartialEq, Eq)]
pub struct Ahead {
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    size: Option<u64>,
    /// There was one of PAX records, whatever they say.
    records: bool,
}

/// A header's own word.
pub struct Header {
    pub kind: u8,
    mode: u32,
    pub name: Vec<u8>,
    link: Vec<u8>,
    pub size: u64,
}

impl Scan {
    /// Reads all headers that lie before `until`, which is how much of the file there is.
    pub fn advance(&mut self, file: &dyn ReadAt, until: u64, judge: &mut Judge<'_>) -> Result<()> {
        while !self.is_over() && self.next.saturating_add(BLOCK) <= until {
            let at = self.next;
            if !self.step(file, until, judge).map_err(|e| e.at(format_args!("byte {at}")))? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the end of the archive was seen.
    pub fn is_over(&self) -> bool {
        self.zeros == 2
    }

    /// How long the file is at least, by what the headers say.
    pub fn claims(&self) -> u64 {
        self.next
    }

    /// The whole file is there: the archive must have ended, and nothing may follow it.
    pub fn finish(&self, file: &dyn ReadAt, length: u64) -> Result<()> {
        if !self.is_over() {
            return Err(Error::new(Kind::Truncated, "the archive is cut short")
                .at(format_args!("byte {length}"))
                .expected("the two blocks of zeros that end a tar file")
                .hint("copy it again"));
        }
        let mut buffer = vec![0; PIECE];
        let mut at = self.next;
        while at < length {
            if at.saturating_sub(self.next) > limits::TAR_PADDING {
                return Err(trailing(at));
            }
            match read_at_most(file, &mut buffer, at).map_err(|e| unread(&e, at))? {
                0 => break,
                count if buffer.iter().take(count).all(|byte| *byte == 0) => {
                    at = at.saturating_add(count as u64)
                }
                _ => return Err(trailing(at)),
            }
        }
        Ok(())
    }

    pub fn into_members(mut self) -> HashMap<Key, Member> {
        self.members.shrink_to_fit();
        self.members
    }

    /// Reads one header, and an extended one's content; `false` where not all of that is there yet.
    fn step(&mut self, file: &dyn ReadAt, until: u64, judge: &mut Judge<'_>) -> Result<bool> {
        let mut block = [0; BLOCK as usize];
        read(file, &mut block, self.next)?;
        let behind = self.next.saturating_add(BLOCK);
        if block == [0; BLOCK as usize] {
            self.zeros += 1;
            self.next = behind;
            return match self.ahead == Ahead::default() && !self.members.is_empty() {
                true => Ok(true),
                false => Err(wrong("the archive ends where an entry must begin")),
            };
        }
        if self.zeros > 0 {
            return Err(wrong("a lone block of zeros"));
        }
        let header = Header::parse(&block)?;
        if !header.extends() {
            self.next = self.member(header, behind, judge)?;
            return Ok(true);
        }
        header.check_extension()?;
        let next = end(behind, header.size)?;
        if next > until {
            return Ok(false);
        }
        self.extensions += 1;
        self.check_count()?;
        let mut content = vec![0; header.size as usize];
        read(file, &mut content, behind)?;
        self.ahead.take(header.kind, &content)?;
        self.next = next;
        Ok(true)
    }

    /// An entry has at most three headers before it: a name, a link's end, and PAX records.
    fn check_count(&self) -> Result<()> {
        let too_many = self.members.len() >= limits::TARBALL_ENTRIES
            || self.extensions > limits::TARBALL_ENTRIES.saturating_mul(3);
        match too_many {
            true => Err(Error::new(Kind::LimitExceeded, "the archive has too many entries")
                .expected(format_args!("at most {}", limits::TARBALL_ENTRIES))),
            false => Ok(()),
        }
    }

    /// Takes an entry whose content begins at `offset`; where the next header begins.
    fn member(&mut self, header: Header, offset: u64, judge: &mut Judge<'_>) -> Result<u64> {
        self.check_count()?;
        let ahead = std::mem::take(&mut self.ahead);
        let size = ahead.size(&header)?;
        let Ahead { name, link, .. } = ahead;
        let leads = link.is_some() || !header.link.is_empty();
        let raw = name.unwrap_or(header.name);
        let name = inside(&raw)?;
        let parents = || name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let below_link = |(at, _): (usize, &u8)| {
            let parent = self.members.get(&Key::of(name.get(..at).unwrap_or_default()));
            matches!(parent, Some(Member::Link(_)))
        };
        if parents().any(below_link) {
            return Err(unexpected(&raw, "an entry below a link"));
        }
        let member = match header.kind {
            b'0' | 0 if !raw.ends_with(b"/") => Member::File(Stretch { offset, size }),
            b'0' | 0 | b'5' => Member::Directory,
            b'1' => Member::Link(Key::of(&inside(&link.unwrap_or(header.link))?)),
            b'2' => Member::Link(Key::of(&resolved(&name, &link.unwrap_or(header.link))?)),
            b'S' => return Err(unexpected(&raw, "a sparse file").hint("pack it without tar's --sparse")),
            _ => return Err(unexpected(&raw, "neither a file nor a directory nor a link")),
        };
        // Some readers look for content behind these, some do not.
        if size > 0 && !matches!(member, Member::File(_)) {
            return Err(wrong("a link or directory with content").got(shown(&raw)));
        }
        if name.is_empty() && !matches!(member, Member::Directory) {
            return Err(bad_name(&raw));
        }
        // Go's readers believe the mode, others the type.
        let kind = match (member, header.kind) {
            (Member::Directory, _) => DIRECTORY,
            (Member::Link(_), b'2') => SYMBOLIC_LINK,
            _ => REGULAR,
        };
        if ![0, kind].contains(&(header.mode & FILE_TYPE)) {
            return Err(unexpected(&raw, "an entry whose mode is that of something else"));
        }
        if matches!(member, Member::File(_)) && leads {
            return Err(unexpected(&raw, "a file that leads somewhere, as a link does"));
        }
        judge(&raw, &member)?;
        match (self.members.insert(Key::of(&name), member), member) {
            (None, _) | (Some(Member::Directory), Member::Directory) => end(offset, size),
            _ => Err(unexpected(&raw, "an entry that was there before")),
        }
    }
}

impl Header {
    /// Whether the content belongs to the header of the next entry.
    pub fn extends(&self) -> bool {
        matches!(self.kind, b'x' | b'g' | b'L' | b'K')
    }

    /// Such content is read whole.
    pub fn check_extension(&self) -> Result<()> {
        match self.size > limits::TAR_EXTENSION {
            true => Err(Error::new(Kind::LimitExceeded, "an extended header is too large")
                .got(format_args!("{} bytes", self.size))
                .expected(format_args!("at most {} bytes", limits::TAR_EXTENSION))),
            false => Ok(()),
        }
    }

    pub fn parse(block: &[u8; BLOCK as usize]) -> Result<Header> {
        let no_header = || {
            wrong("not a tar header").hint("an archive is a tar file, plain or compressed by gzip or zstd")
        };
        let header = tar::Header::from_byte_slice(block);
        // "The sum of all bytes, the checksum's own taken for spaces."
        let sum = block.iter().enumerate().map(|(at, byte)| match at {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        });
        if header.cksum().ok() != Some(sum.sum()) {
            return Err(no_header());
        }
        let field =
            block.get(124..136).and_then(|field| <[u8; 12]>::try_from(field).ok()).ok_or_else(no_header)?;
        // Some readers put it before the name whatever the form of tar.
        let form = block.get(257..265).unwrap_or_default();
        let prefix = block.get(345..500).unwrap_or_default();
        if form != b"ustar\x0000" && prefix.iter().any(|byte| *byte != 0) {
            return Err(wrong("the beginning of a name in a form of tar that has none"));
        }
        let kind = header.entry_type().as_byte();
        let size = number(&field).ok_or_else(|| wrong("an impossible size").got(shown(&field)))?;
        let mode = header.mode().unwrap_or_default();
        let name = header.path_bytes().into_owned();
        let link = header.link_name_bytes().unwrap_or_default().into_owned();
        Ok(Header { kind, mode, name, link, size })
    }
}

/// A size: octal digits between spaces and ended by spaces or zeros, or GNU's base-256 of what is larger.
fn number(field: &[u8; 12]) -> Option<u64> {
    if let [0x80, 0, 0, 0, rest @ ..] = field {
        return Some(u64::from_be_bytes(*rest)).filter(|size| *size <= i64::MAX as u64);
    }
    let text = field.split(|byte| *byte == 0).next()?;
    let behind = field.get(text.len()..)?;
    let digits = std::str::from_utf8(text).ok()?.trim_matches(' ');
    let octal = digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'))
        && behind.iter().all(|byte| matches!(byte, 0 | b' '));
    match (octal, digits.is_empty()) {
        (true, true) => Some(0),
        (true, false) => u64::from_str_radix(digits, 8).ok(),
        (false, _) => None,
    }
}

impl Ahead {
    /// How long the content of the entry with this header is.
    pub fn size(&self, header: &Header) -> Result<u64> {
        match self.size {
            // What does not fit into the header stands in the record alone; writers differ in what they put into
            // the header then. Smaller ones are not written, but for those that mean to be read in two ways.
            Some(size) if size != header.size && size < BEYOND_OCTAL => Err(wrong("two sizes for one entry")
                .got(format_args!("{size} and {}", header.size))
                .hint("no ordinary tool writes this: find out where the archive comes from")),
            Some(size) => Ok(size),
            None => Ok(header.size),
        }
    }

    pub fn take(&mut self, kind: u8, content: &[u8]) -> Result<()> {
        match kind {
            b'L' => once(&mut self.name, long_name(content)?),
            b'K' => once(&mut self.link, long_name(content)?),
            // Some readers take both, some the last alone.
            b'x' if std::mem::replace(&mut self.records, true) => {
                Err(wrong("two extended headers of one kind for one entry"))
            }
            // Some readers have forgotten by then what was said of the entry.
            b'g' if *self != Ahead::default() => {
                Err(wrong("an extended header for all entries between one entry's own and that entry"))
            }
            _ => self.records(kind, content),
        }
    }

    /// "%d %s=%s\n", length, keyword, value (pax(1), "pax Extended Header").
    fn records(&mut self, kind: u8, mut rest: &[u8]) -> Result<()> {
        while !rest.is_empty() {
            let (record, behind) = record(rest).ok_or_else(|| wrong("a broken PAX record"))?;
            rest = behind;
            let (key, value) = record;
            let known = matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse");
            if known && (kind == b'g' || value.is_empty() || value.contains(&0)) {
                return Err(wrong("a PAX record that readers understand differently").got(shown(key)));
            }
            match key {
                b"path" => once(&mut self.name, value.to_vec())?,
                b"linkpath" => once(&mut self.link, value.to_vec())?,
                b"size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                    let size =
                        size.and_then(|text| text.parse().ok()).filter(|size| *size <= i64::MAX as u64);
                    once(&mut self.size, size.ok_or_else(|| wrong("an impossible size").got(shown(value)))?)?;
                }
                _ if known => {
                    return Err(Error::new(Kind::TarUnexpectedEntry, "a sparse file")
                        .hint("pack it without tar's --sparse"));
                }
                // Times, owners, comments, extended attributes: of no use here.
                _ => {}
            }
        }
        Ok(())
    }
}

/// A keyword and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let digits = std::str::from_utf8(bytes.get(..space)?)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let (record, behind) = bytes.split_at_checked(digits.parse().ok()?)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some(((text.get(..equals)?, text.get(equals + 1..)?), behind))
}

/// What one extended header has said, another one must not say as well.
fn once<T>(place: &mut Option<T>, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong("two extended headers say the same of one entry")),
    }
}

/// A name that ends with a zero.
fn long_name(content: &[u8]) -> Result<Vec<u8>> {
    let mut parts = content.splitn(2, |byte| *byte == 0);
    let name = parts.next().unwrap_or_default();
    let only_zeros = parts.next().unwrap_or_default().iter().all(|byte| *byte == 0);
    match only_zeros && !name.is_empty() {
        true => Ok(name.to_vec()),
        false => Err(wrong("a long name with something behind it")),
    }
}

/// A name without `./`, `//` and the like; empty for the archive's own top.
fn inside(name: &[u8]) -> Result<Vec<u8>> {
    check_length(name)?;
    let upwards = name.split(|byte| *byte == b'/').any(|step| step == b"..");
    match upwards || name.starts_with(b"/") {
        true => Err(bad_name(name)),
        false => joined(&[], name, name),
    }
}

fn check_length(name: &[u8]) -> Result<()> {
    let depth = name.iter().filter(|byte| **byte == b'/').count();
    match name.len() > limits::TAR_NAME || depth > limits::TAR_DEPTH {
        true => Err(Error::new(Kind::LimitExceeded, "a name in the archive is too long")
            .got(format_args!("{} bytes, {depth} directories", name.len()))
            .expected(format_args!("at most {} bytes, {} directories", limits::TAR_NAME, limits::TAR_DEPTH))),
        false => Ok(()),
    }
}

/// What a symbolic link leads to, which begins where the link lies.
fn resolved(link: &[u8], target: &[u8]) -> Result<Vec<u8>> {
    check_length(target)?;
    let directory =
        link.iter().rposition(|byte| *byte == b'/').and_then(|at| link.get(..at)).unwrap_or_default();
    match target.is_empty() || target.starts_with(b"/") {
        true => Err(bad_name(target)),
        false => joined(directory, target, target),
    }
}

/// Follows the steps of `way` from `directory` on. Only a link may lead upwards, and neither out of the archive.
fn joined(directory: &[u8], way: &[u8], raw: &[u8]) -> Result<Vec<u8>> {
    let split = |path| <[u8]>::split(path, |byte| *byte == b'/').filter(|step| !step.is_empty());
    let mut steps: Vec<&[u8]> = split(directory).collect();
    for step in split(way) {
        match step {
            b"." => {}
            b".." => drop(steps.pop().ok_or_else(|| bad_name(raw))?),
            step if step.contains(&0) => return Err(bad_name(raw)),
            step => steps.push(step),
        }
    }
    Ok(steps.join(&b'/'))
}

/// Where the header behind this content begins.
fn end(offset: u64, size: u64) -> Result<u64> {
    let end = offset.checked_add(size).and_then(|end| end.checked_next_multiple_of(BLOCK));
    end.filter(|end| *end <= i64::MAX as u64).ok_or_else(|| wrong("an impossible size").got(size))
}

fn read(file: &dyn ReadAt, buffer: &mut [u8], at: u64) -> Result<()> {
    match read_at_most(file, buffer, at) {
        Ok(count) if count == buffer.len() => Ok(()),
        Ok(_) => Err(Error::new(Kind::Truncated, "the archive became shorter while it was read")),
        Err(e) => Err(unread(&e, at)),
    }
}

fn unread(error: &std::io::Error, at: u64) -> Error {
    Error::io("cannot read", format_args!("byte {at}"), error)
}

pub fn wrong(what: &str) -> Error {
    Error::new(Kind::TarHeader, what)
}

pub fn trailing(at: u64) -> Error {
    Error::new(Kind::TrailingData, "something follows the end of the archive").at(format_args!("byte {at}"))
}

fn bad_name(name: &[u8]) -> Error {
    Error::new(Kind::TarEntryName, "a name that leads out of the archive").got(shown(name))
}

pub fn unexpected(name: &[u8], what: &str) -> Error {
    Error::new(Kind::TarUnexpectedEntry, what).got(shown(name))
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}
