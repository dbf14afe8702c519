//! A plain file that was looked at, and is read once more.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use rustix::fs::{Mode, OFlags};

use crate::content::{Unverified, file};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::Digest;

/// A file as it was when its digest was taken.
#[derive(Clone)]
pub struct Plain {
    path: PathBuf,
    facts: Facts,
}

/// What changes when somebody writes to a file, or puts another one in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Facts {
    fn of(facts: &Metadata) -> Self {
        Facts {
            file: (facts.dev(), facts.ino()),
            size: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        }
    }
}

impl Plain {
    /// Opens a file, which `read` then hashes in its own way.
    ///
    /// # Errors
    /// `ManifestInvalid` for whatever is no plain file; what `read` says; and a file that was written to while it
    /// was read.
    pub fn read<T>(path: &Path, read: impl FnOnce(&File) -> Result<T>) -> Result<(Self, T)> {
        let file = open(path)?;
        let facts = |file: &File| {
            file.metadata()
                .map(|facts| Facts::of(&facts))
                .map_err(|e| Error::io("cannot read", path.display(), &e))
        };
        let before = facts(&file)?;
        let found = read(&file)?;
        match facts(&file)? == before {
            true => Ok((Plain { path: path.to_owned(), facts: before }, found)),
            false => Err(changed(path)),
        }
    }

    /// The file, its digest and its size.
    pub fn hashed(path: &Path) -> Result<(Self, Digest, u64)> {
        let hash =
            |file: &File| file::digest_of(file).map_err(|e| Error::io("cannot read", path.display(), &e));
        let (plain, (digest, size)) = Plain::read(path, hash)?;
        if size != plain.facts.size {
            return Err(Error::new(Kind::ManifestInvalid, "only plain files are shipped")
                .at(path.display())
                .got(format_args!(
                    "a file of {} bytes that has {size}, as the system's own have",
                    plain.facts.size
                )));
        }
        Ok((plain, digest, size))
    }

    /// Its content, from byte `from` on, for a reader that verifies it.
    pub fn stream(&self, digest: Digest, from: u64) -> Result<Unverified> {
        let file = Arc::new(open(&self.path).map_err(|e| e.side(Side::Source))?);
        let size = self.facts.size;
        let now = file.metadata().map_err(|e| Error::io("cannot read", self.path.display(), &e))?.len();
        if now != size {
            return Err(changed(&self.path));
        }
        let place = self.path.display().to_string();
        let left = size.saturating_sub(from);
        let pieces = file::stream(file.clone(), place.clone(), from, left);
        let (plain, mut ahead) = (Arc::new(self.clone()), left);
        // Before the last piece is handed out, it is asked whether the file is still the one that was planned with:
        // whoever verifies it could only say that it is not.
        let pieces = pieces.then(move |piece| {
            let length = piece.as_ref().map_or(0, Bytes::len) as u64;
            ahead = ahead.saturating_sub(length);
            let last = (ahead == 0).then(|| (plain.clone(), file.clone()));
            async move {
                match last {
                    Some((plain, file)) => {
                        let checked = tokio::task::spawn_blocking(move || plain.check(&file, digest)).await;
                        checked.map_err(|_| file::ended())?.and(piece)
                    }
                    None => piece,
                }
            }
        });
        Ok(Unverified::new(place, pieces))
    }

    /// Whether an open file still has the content that was planned with. It is read again only where somebody may
    /// have written to it.
    fn check(&self, file: &File, digest: Digest) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("cannot read", self.path.display(), &e);
        if Facts::of(&file.metadata().map_err(failed)?) == self.facts {
            return Ok(());
        }
        match file::digest_of(file).map_err(failed)? == (digest, self.facts.size) {
            true => Ok(()),
            false => Err(changed(&self.path)),
        }
    }
}

fn changed(path: &Path) -> Error {
    Error::new(Kind::DigestMismatch, "a file changed while the release was exported")
        .at(path.display())
        .side(Side::Source)
        .hint("when nobody writes to it any more, run the same command again")
}

/// Opens a plain file. Nothing else is even opened: a device might do something.
fn open(path: &Path) -> Result<File> {
    let failed = |e: &std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::io("there is no such file", path.display(), e).hint(
            "paths in a release manifest are relative to the manifest, and patterns (*) are not expanded",
        ),
        _ => Error::io("cannot read", path.display(), e),
    };
    require_plain(path, &std::fs::symlink_metadata(path).map_err(|e| failed(&e))?)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(&e.into()))?);
    require_plain(path, &file.metadata().map_err(|e| failed(&e))?)?;
    Ok(file)
}

fn require_plain(path: &Path, facts: &Metadata) -> Result<()> {
    let kind = facts.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_dir() => "a directory",
        () => "a device, a pipe or a socket",
    };
    Err(Error::new(Kind::ManifestInvalid, "only plain files are shipped").at(path.display()).got(what).hint(
        match kind.is_dir() {
            true => "name a file: helm package makes one of a chart, tar one of any directory",
            false => "name the file itself",
        },
    ))
}
