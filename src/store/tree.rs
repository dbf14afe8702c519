//! What lies below one directory, reached step by step from it. No symbolic link is followed on the
//! way, whatever somebody else puts there meanwhile: each step is an `openat(2)` that refuses links,
//! so no path can lead out of the directory. (The directory itself may be reached through links: that
//! is its owner's choice.)

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// A directory and all below it. Paths are relative to it, their steps parted by `/`.
pub(super) struct Tree {
    root: OwnedFd,
    shown: PathBuf,
}

/// What a directory lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    /// Its name.
    pub name: String,
    /// Whether it is a directory itself; a link to one is not.
    pub directory: bool,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Tree {
    /// Opens a directory; `None` where there is none.
    pub fn open(directory: &Path) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(directory, flags, Mode::empty()) {
            Ok(root) => Ok(Some(Tree { root, shown: directory.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io("cannot read the store", directory.display(), &e.into())),
        }
    }

    /// A path as messages show it.
    pub fn shown(&self, path: &str) -> String {
        self.shown.join(path).display().to_string()
    }

    /// A failure at this path.
    pub fn failed(&self, what: &str, path: &str, error: Errno) -> Error {
        match error {
            Errno::LOOP | Errno::NOTDIR => {
                Error::new(Kind::LayoutInvalid, "something else stands where the store has its own")
                    .at(self.shown(path))
                    .got(std::io::Error::from(error))
                    .hint("links are not followed: a store lies in one directory, and whole")
            }
            _ => Error::io(what, self.shown(path), &error.into()),
        }
    }

    /// A directory below; `None` where there is none.
    pub fn directory(&self, path: &str) -> Result<Option<OwnedFd>> {
        match self.walk(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("cannot read the store", path, e)),
        }
    }

    fn walk(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut at = step(&self.root, ".")?;
        for name in steps(path) {
            at = step(&at, name?)?;
        }
        Ok(at)
    }

    /// A directory below, made with all that leads to it.
    pub fn make(&self, path: &str) -> Result<OwnedFd> {
        self.make_steps(path).map_err(|e| self.failed("cannot write to the store", path, e))
    }

    fn make_steps(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut at = step(&self.root, ".")?;
        for name in steps(path) {
            let name = name?;
            at = match step(&at, name) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(e),
                    }
                    step(&at, name)?
                }
                other => other?,
            };
        }
        Ok(at)
    }

    /// Makes the names on the way to `path` last through a power cut, from the last to the first.
    pub fn settle(&self, path: &str) -> Result<()> {
        let mut path = path;
        loop {
            if let Some(directory) = self.directory(path)? {
                rustix::fs::fsync(directory)
                    .map_err(|e| self.failed("cannot write to the store", path, e))?;
            }
            if path.is_empty() {
                return Ok(());
            }
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    /// A regular file; `None` where there is nothing of that name.
    pub fn file(&self, path: &str) -> Result<Option<File>> {
        // Not waiting: a pipe would hold up whoever opens it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match self.open_file(path, flags) {
            Ok(file) => self.regular(path, file).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("cannot read the store", path, e)),
        }
    }

    /// A regular file that is there, for writing.
    pub fn writable(&self, path: &str) -> Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match self.open_file(path, flags) {
            Ok(file) => self.regular(path, file).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("cannot write to the store", path, e)),
        }
    }

    fn open_file(&self, path: &str, flags: OFlags) -> Result<File, Errno> {
        let (above, name) = parted(path)?;
        rustix::fs::openat(self.walk(above)?, name, flags, Mode::from_raw_mode(0o666)).map(File::from)
    }

    fn regular(&self, path: &str, file: File) -> Result<File> {
        let facts = rustix::fs::fstat(&file).map_err(|e| self.failed("cannot read the store", path, e))?;
        match FileType::from_raw_mode(facts.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(Error::new(Kind::LayoutInvalid, "something else stands where the store has a file")
                .at(self.shown(path))),
        }
    }

    /// A new file.
    pub fn create(&self, path: &str) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_file(path, flags).map_err(|e| self.failed("cannot write to the store", path, e))
    }

    /// A file that is made where it is missing.
    pub fn open_or_create(&self, path: &str) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_file(path, flags).map_err(|e| self.failed("cannot write to the store", path, e))
    }

    /// What is known of a file or directory without opening it; `None` where there is none.
    pub fn facts(&self, path: &str) -> Result<Option<Stat>> {
        let found = parted(path)
            .and_then(|(above, name)| rustix::fs::statat(self.walk(above)?, name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(facts) => Ok(Some(facts)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("cannot read the store", path, e)),
        }
    }

    /// The text of a small file; `None` where there is none.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("cannot read the store", self.shown(path), &e))?;
        match bytes.len() as u64 > limit {
            true => Err(Error::new(Kind::LimitExceeded, "a file of the store is too large")
                .at(self.shown(path))
                .expected(format_args!("at most {limit} bytes"))),
            false => Ok(Some(bytes)),
        }
    }

    /// A new file with this content.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<File> {
        let mut file = self.create(path)?;
        let written = file.write_all(content);
        written.map_err(|e| Error::io("cannot write to the store", self.shown(path), &e))?;
        Ok(file)
    }

    /// What a directory lists, sorted; nothing where there is none. Names that are no text are not the
    /// store's.
    pub fn list(&self, path: &str) -> Result<Vec<Listed>> {
        let failed = |e| self.failed("cannot read the store", path, e);
        let Some(directory) = self.directory(path)? else { return Ok(Vec::new()) };
        let mut listed = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |facts| FileType::from_raw_mode(facts.st_mode)),
                kind => kind,
            };
            listed.push(Listed { name: name.to_owned(), directory: kind == FileType::Directory });
        }
        listed.sort_unstable();
        Ok(listed)
    }

    /// The names of the directories in a directory, sorted.
    pub fn directories(&self, path: &str) -> Result<Vec<String>> {
        let listed = self.list(path)?.into_iter();
        Ok(listed.filter(|one| one.directory).map(|one| one.name).collect())
    }

    /// Gives a file or directory another name; whether there was one. What had that name is replaced.
    pub fn rename(&self, from: &str, to: &str) -> Result<bool> {
        let renamed = || {
            let ((above, name), (target, new)) = (parted(from)?, parted(to)?);
            rustix::fs::renameat(self.walk(above)?, name, self.walk(target)?, new)
        };
        match renamed() {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.failed("cannot write to the store", to, e)),
        }
    }

    /// Removes a file; whether there was one.
    pub fn remove_file(&self, path: &str) -> Result<bool> {
        self.remove(path, AtFlags::empty())
    }

    /// Removes a directory if it is empty; whether it was there and is gone.
    pub fn remove_empty(&self, path: &str) -> Result<bool> {
        self.remove(path, AtFlags::REMOVEDIR)
    }

    fn remove(&self, path: &str, flags: AtFlags) -> Result<bool> {
        let removed =
            parted(path).and_then(|(above, name)| rustix::fs::unlinkat(self.walk(above)?, name, flags));
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(e) => Err(self.failed("cannot write to the store", path, e)),
        }
    }

    /// Removes a directory and all in it.
    pub fn remove_all(&self, path: &str) -> Result<()> {
        for one in self.list(path)? {
            let below = format!("{path}/{}", one.name);
            match one.directory {
                true => self.remove_all(&below)?,
                false => _ = self.remove_file(&below)?,
            }
        }
        self.remove_empty(path).map(drop)
    }

    /// Sets a file's or directory's time to now; whether it is there.
    pub fn touch(&self, path: &str) -> Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let touched = parted(path).and_then(|(above, name)| {
            rustix::fs::utimensat(self.walk(above)?, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        });
        match touched {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.failed("cannot write to the store", path, e)),
        }
    }

    /// Brings everything that was written to this file system to the disk.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.root).map_err(|e| self.failed("cannot write to the store", "", e))
    }
}

/// The steps of a path. A name that would lead elsewhere is no step.
fn steps(path: &str) -> impl Iterator<Item = Result<&str, Errno>> {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.map(|name| if matches!(name, "." | "..") { Err(Errno::INVAL) } else { Ok(name) })
}

fn step(from: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat(from, name, DIRECTORY, Mode::empty()) {
            Err(Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// A path's last name, and the path to it.
fn parted(path: &str) -> Result<(&str, &str), Errno> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "" | "." | ".." => Err(Errno::INVAL),
        name => Ok((above, name)),
    }
}

/// A file's time, in nanoseconds since 1970.
pub(super) fn modified(facts: &Stat) -> i128 {
    i128::from(facts.st_mtime).saturating_mul(1_000_000_000).saturating_add(i128::from(facts.st_mtime_nsec))
}
