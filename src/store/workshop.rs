//! Where things are made and taken apart: files without a final name, each run's in a directory of its
//! own that it holds locked, so that the next run knows which ones nobody needs any more. And the lock
//! that parts those who link from those who sweep.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::paths;
use super::tree::Tree;
use crate::error::{Error, Kind, Result};

/// A run's own directory for what is not complete; removed with all in it when dropped.
pub(super) struct Workshop {
    tree: Arc<Tree>,
    path: String,
    next: AtomicU64,
    _lock: OwnedFd,
}

/// Held while links are made, or while content is swept away.
pub(super) struct Section(#[allow(dead_code, reason = "it is held, not used")] File);

/// Takes the lock: shared by those who check that content is there and then link to it, alone by those
/// who sweep. It is held for moments, so waiting for it is short.
pub(super) fn section(tree: &Tree, how: FlockOperation) -> Result<Section> {
    let failed = |e| tree.failed("cannot lock the store", paths::LOCK, e);
    let file = match tree.file(paths::LOCK)? {
        Some(file) => file,
        None => {
            tree.make(paths::OWN)?;
            tree.open_or_create(paths::LOCK)?
        }
    };
    loop {
        match rustix::fs::flock(&file, how) {
            Ok(()) => return Ok(Section(file)),
            Err(Errno::INTR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

impl Workshop {
    /// A new one. What runs that have ended have left is removed.
    pub fn new(tree: Arc<Tree>) -> Result<Self> {
        tree.make(paths::WORKSHOPS)?;
        // Whoever makes a workshop has locked it before anybody may take it for a dead one.
        if let Ok(_alone) = section(&tree, FlockOperation::NonBlockingLockExclusive) {
            clear(&tree)?;
        }
        let _shared = section(&tree, FlockOperation::LockShared)?;
        let path = format!("{}/{}", paths::WORKSHOPS, random_name()?);
        let lock = tree.make(&path)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| tree.failed("cannot lock", &path, e))?;
        Ok(Workshop { tree, path, next: AtomicU64::new(0), _lock: lock })
    }

    /// A name that nothing has.
    pub fn name(&self) -> String {
        format!("{}/{}", self.path, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes something out of the store in one step, and then apart; whether it was there.
    pub fn discard(&self, path: &str) -> Result<bool> {
        let name = self.name();
        if !self.tree.rename(path, &name)? {
            return Ok(false);
        }
        self.tree.remove_all(&name).map(|()| true)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = self.tree.remove_all(&self.path);
    }
}

/// Removes the workshops that nobody holds.
fn clear(tree: &Tree) -> Result<()> {
    for name in tree.directories(paths::WORKSHOPS)? {
        let path = format!("{}/{name}", paths::WORKSHOPS);
        let Some(directory) = tree.directory(&path)? else { continue };
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            tree.remove_all(&path)?;
        }
    }
    Ok(())
}

/// A file without a final name; removed unless it got one.
pub(super) struct Draft {
    tree: Arc<Tree>,
    path: String,
    /// The file.
    pub file: File,
    named: bool,
}

impl Draft {
    /// A new one.
    pub fn new(tree: &Arc<Tree>, workshop: &Workshop) -> Result<Self> {
        let path = workshop.name();
        let file = tree.create(&path)?;
        Ok(Draft { tree: tree.clone(), path, file, named: false })
    }

    /// A failure to write it.
    pub fn failed(&self, error: &std::io::Error) -> Error {
        Error::io("cannot write to the store", self.tree.shown(&self.path), error)
    }

    /// Brings its bytes to the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| self.failed(&e))
    }

    /// Gives it its final name, in a directory that is made if need be; and the time at which it got it,
    /// not that at which it was written: whoever sweeps goes by that.
    pub fn name(mut self, directory: &str, name: &str) -> Result<()> {
        let target = format!("{directory}/{name}");
        self.tree.make(directory)?;
        self.named = self.tree.rename(&self.path, &target)?;
        match self.named {
            true => self.tree.touch(&target).map(drop),
            false => Err(Error::new(Kind::Io, "somebody removes what is being written")
                .at(self.tree.shown(directory))
                .hint("is another program cleaning up in the store? run the same command again")),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.named {
            let _ = self.tree.remove_file(&self.path);
        }
    }
}

/// A name that nobody else chooses: a random UUID (RFC 9562 §5.4).
pub(super) fn random_name() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Kind::Io, "the system gives no random numbers").got(e))?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

impl Draft {
    /// A file of the workshop that another name was taken from.
    pub fn of(tree: &Arc<Tree>, path: String, file: &File) -> Result<Self> {
        let file = file.try_clone().map_err(|e| Error::io("cannot write to the store", &path, &e))?;
        Ok(Draft { tree: tree.clone(), path, file, named: false })
    }
}
