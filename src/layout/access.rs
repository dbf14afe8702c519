//! The two ways to a layout's files: a directory, or a tar file of one.

use std::path::PathBuf;
use std::sync::Arc;

use super::{blob_path, open_blob};
use crate::content::tarball::Tarball;
use crate::content::{Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Files, Transport};

/// Where the files of a layout are.
pub enum Access {
    Directory(PathBuf),
    Tarball(Tarball),
}

impl Access {
    /// Opens what is at hand: for a tar file, its headers are read.
    pub fn open(files: &Files) -> Result<Self> {
        match files.transport {
            Transport::OciArchive => Tarball::open(&files.path).map(Access::Tarball),
            _ => match std::fs::metadata(&files.path) {
                Ok(_) => Ok(Access::Directory(files.path.clone())),
                Err(e) => {
                    Err(Error::io("cannot read the layout", files.path.display(), &e).hint("check the path"))
                }
            },
        }
    }

    /// What it is called.
    pub fn place(&self) -> String {
        match self {
            Access::Directory(directory) => directory.display().to_string(),
            Access::Tarball(tarball) => tarball.place().to_owned(),
        }
    }

    /// Where in it a file is, for errors.
    pub fn place_of(&self, name: &str) -> String {
        match self {
            Access::Directory(directory) => directory.join(name).display().to_string(),
            Access::Tarball(tarball) => format!("{}: {name}", tarball.place()),
        }
    }

    /// Whether the archive has such a file.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Access::Directory(_) => false,
            Access::Tarball(tarball) => matches!(tarball.find(name), Ok(Some(_))),
        }
    }

    /// Reads a whole small file.
    pub fn read_small(&self, name: &str, what: &str, limit: u64) -> Result<Vec<u8>> {
        match self {
            Access::Directory(directory) => file::read_small(&directory.join(name), what, limit),
            Access::Tarball(tarball) => tarball.read_small(name, what, limit)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("the archive lacks {what}")).at(self.place_of(name))
            }),
        }
    }

    /// Bytes of a blob; `None` where there is none.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        match self {
            Access::Directory(directory) => {
                let path = blob_path(directory, digest);
                match open_blob(&path).and_then(|blob| blob.metadata()) {
                    Ok(facts) => Ok(Some(facts.len())),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(Error::io("cannot read a blob", path.display(), &e)),
                }
            }
            Access::Tarball(tarball) => Ok(tarball.find(&digest.blob_path())?.map(|stretch| stretch.size)),
        }
    }

    /// Opens a blob, which must be as long as its descriptor says.
    pub fn open_blob(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let name = expected.digest.blob_path();
        let place = self.place_of(&name);
        let lacks =
            || Error::new(Kind::BlobMissing, "the layout lacks a blob that its documents name").at(&place);
        let check = |size: u64| match size == expected.size {
            true => Ok(()),
            false => Err(Error::new(Kind::SizeMismatch, "a blob is not as long as its descriptor says")
                .at(&place)
                .got(format_args!("{size} bytes"))
                .expected(format_args!("{} bytes", expected.size))),
        };
        match self {
            Access::Directory(directory) => {
                let failed = |e: &std::io::Error| Error::io("cannot read a blob", &place, e);
                let blob =
                    open_blob(&blob_path(directory, &expected.digest)).map_err(|e| match e.kind() {
                        std::io::ErrorKind::NotFound => lacks(),
                        _ => failed(&e),
                    })?;
                let size = blob.metadata().map_err(|e| failed(&e))?.len();
                check(size)?;
                let pieces = file::stream(Arc::new(blob), place.clone(), from, size.saturating_sub(from));
                Ok(Unverified::new(&place, pieces))
            }
            Access::Tarball(tarball) => {
                let stretch = tarball.find(&name)?.ok_or_else(lacks)?;
                check(stretch.size)?;
                Ok(tarball.content(&name, stretch, from))
            }
        }
    }
}
