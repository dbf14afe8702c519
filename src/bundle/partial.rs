//! A bundle under its temporary name: `<bundle>.partial`, locked by the run that writes it, until
//! it is complete and on the disk.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::content::file;
use crate::error::{Error, Kind, Result};

/// What `st_blocks` counts (stat(2)), whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// See the module's text. It stays where it is unless it is finished or given up.
pub struct Partial {
    /// The file, locked.
    pub file: Arc<File>,
    /// Its path.
    pub path: PathBuf,
    target: PathBuf,
    replace: bool,
}

impl Partial {
    /// Opens or creates the file, with whatever an earlier run has left in it. With `replace`, a
    /// file of the target's name is replaced by the rename at the end.
    ///
    /// # Errors
    /// `OutputExists`; `Locked` where another run writes the same bundle.
    pub fn open(target: &Path, replace: bool) -> Result<Self> {
        check_target(target, replace)?;
        let mut path = target.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let file = Arc::new(open_locked(&path)?);
        Ok(Partial { file, path, target: target.to_owned(), replace })
    }

    /// Makes room for `total` bytes in all.
    ///
    /// # Errors
    /// `NoSpace` where the file system says that there is none, before anything was pulled.
    pub fn reserve(&self, total: u64) -> Result<()> {
        file::check_size(&self.file, &self.path, total)?;
        self.file.set_len(total).map_err(|e| self.failed(&e))?;
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, total) {
            Err(e)
                if e == rustix::io::Errno::NOSPC
                    || e == rustix::io::Errno::DQUOT
                    || e == rustix::io::Errno::FBIG =>
            {
                Err(self.failed(&e.into()).expected(format_args!("room for {total} bytes")))
            }
            // Not every file system can reserve: it is asked what is free instead.
            Err(_) => self.check_room(total),
            Ok(()) => Ok(()),
        }
    }

    /// Whether there is room for what the file does not take already.
    fn check_room(&self, total: u64) -> Result<()> {
        let facts = self.file.metadata().map_err(|e| self.failed(&e))?;
        let taken = facts.blocks().saturating_mul(BLOCK);
        file::check_room(directory_of(&self.path), total.saturating_sub(taken))
    }

    /// Removes the file.
    pub fn give_up(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.len() == 0)
    }

    /// Removes the file if it holds nothing.
    pub fn give_up_empty(&self) {
        if self.is_empty() {
            self.give_up();
        }
    }

    /// Gives the file its name, after all of it has reached the disk.
    pub fn finish(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.failed(&e))?;
        self.rename()?;
        file::sync_directory(directory_of(&self.target))
    }

    /// The failure of a system call on the file.
    pub fn failed(&self, error: &std::io::Error) -> Error {
        Error::io("cannot write the file", self.path.display(), error)
    }

    fn rename(&self) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let failed =
            |e: std::io::Error| Error::io("cannot name the finished file", self.target.display(), &e);
        if self.replace {
            return std::fs::rename(&self.path, &self.target).map_err(failed);
        }
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => Err(exists(&self.target)),
            // FAT and some network file systems cannot refuse: the check is then a moment older.
            Err(_) => {
                check_target(&self.target, false)?;
                std::fs::rename(&self.path, &self.target).map_err(failed)
            }
        }
    }
}

/// Suffixes that would promise what is not written.
const UNWRITTEN: [&str; 6] = ["gz", "tgz", "xz", "txz", "bz2", "lz4"];

/// Whether a bundle may be written under this name.
///
/// # Errors
/// `OutputExists` for anything but a regular file, and for a file that is not to be replaced.
pub fn check_target(target: &Path, replace: bool) -> Result<()> {
    if target.file_name().is_none() || target.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Error::new(Kind::OutputExists, "the output is a directory's name")
            .at(target.display())
            .hint("name a file, such as DIRECTORY/nexus-engine-2.1.0.tar"));
    }
    let suffix = target.extension().unwrap_or_default().to_ascii_lowercase();
    if UNWRITTEN.iter().any(|unwritten| suffix == *unwritten) {
        return Err(Error::new(Kind::Usage, "this form of compression is not written")
            .at(target.display())
            .expected("a name that ends in .tar, or in .tar.zst for the compressed form"));
    }
    let directory = directory_of(target);
    if !directory.is_dir() {
        return Err(Error::new(Kind::Io, "the output's directory does not exist")
            .at(directory.display())
            .hint(format_args!("mkdir -p {}", directory.display())));
    }
    match std::fs::symlink_metadata(target) {
        Ok(facts) if facts.is_dir() => Err(Error::new(Kind::OutputExists, "the output is a directory")
            .at(target.display())
            .hint("name a file, such as DIRECTORY/nexus-engine-2.1.0.tar")),
        Ok(_) if !replace => Err(exists(target)),
        Ok(facts) if !facts.is_file() => {
            Err(Error::new(Kind::OutputExists, "the output is not a regular file")
                .at(target.display())
                .hint("only a file can be replaced"))
        }
        _ => Ok(()),
    }
}

fn exists(target: &Path) -> Error {
    Error::new(Kind::OutputExists, "the output exists already")
        .at(target.display())
        .hint("choose another name, or --overwrite to replace it once the new one is complete")
}

fn open_locked(partial: &Path) -> Result<File> {
    let failed = |e: &std::io::Error| {
        let error = Error::io("cannot create the file", partial.display(), e);
        if e.kind() == std::io::ErrorKind::NotFound { error.hint("does the directory exist?") } else { error }
    };
    // Not truncated before the lock is held: another run may be writing it. No links are followed.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let file =
            rustix::fs::open(partial, flags, Mode::from_raw_mode(0o644)).map_err(|e| failed(&e.into()))?;
        let file = File::from(file);
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::new(Kind::Locked, "another run is writing this file")
                    .at(partial.display())
                    .hint("wait for it, or choose another output"));
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(failed(&e)),
        }
        // The run that held the lock until now may have finished and renamed this very file.
        if is_at(&file, partial).map_err(|e| failed(&e))? {
            return Ok(file);
        }
    }
}

/// Whether `path` still leads to this open file.
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
