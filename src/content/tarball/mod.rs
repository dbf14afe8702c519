//! Other people's tar files, read at random: a path enters, and where its content lies leaves. The headers are read
//! once, nothing is extracted, and no name in the file ever becomes a path of this machine. Compressed ones are
//! decompressed once, into a file without a name.
//!
//! A bundle's own headers are not read here: they must be exactly what its statement says. A foreign archive is
//! understood as widely as ordinary tools write (`./`, directories, PAX, GNU long names), and what two readers could
//! understand differently is refused: an entry twice, a size given twice, sparse files, names that lead out of it.
//!
//! Nothing that is found here is trusted: it goes through a [`Reader`](super::Reader) like everything foreign.

mod scan;
mod stream;
mod unpack;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::{Unverified, file};
use crate::error::{Error, Kind, Result};

pub use scan::{Judge, Member};
pub use stream::{Entries, Entry, EntryKind, is_header};
pub use unpack::{Packing, damaged, unpacked};

use scan::{Key, Scan};

/// See the module's text.
pub struct Tarball {
    file: Arc<File>,
    /// What it is called, for errors.
    place: String,
    members: HashMap<Key, Member>,
}

/// Where the content of an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// Its first byte.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
}

impl Tarball {
    /// Reads the headers of a tar file, which may be compressed by gzip or zstd. This may take as long as reading all
    /// of it.
    ///
    /// # Errors
    /// `TarHeader`, `TarEntryName`, `TarUnexpectedEntry`, `Truncated`, `TrailingData`, `LimitExceeded`, each with the
    /// byte where it is; `FrameInvalid` for damage to the compressed form.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let (file, facts) = file::open_regular(path, "the archive")?;
        let (file, scan) = match Packing::of_file(&file).map_err(|e| Error::io("cannot read", &place, &e))? {
            Packing::Plain => {
                let mut scan = Scan::default();
                let scanned = scan.advance(&file, facts.len(), &mut anything);
                scanned.and_then(|()| scan.finish(&file, facts.len())).map(|()| (file, scan))
            }
            packing => unpack::unpack(&file, packing, &mut anything),
        }
        .map_err(|e| e.inside(&place))?;
        Ok(Tarball { file: Arc::new(file), place, members: scan.into_members() })
    }

    /// The same of an open file that is compressed by gzip, where `judge` may refuse what others take.
    pub fn unzipped(packed: &File, place: String, judge: &mut Judge<'_>) -> Result<Self> {
        let unpacked = unpack::unpack(packed, Packing::Gzip, judge);
        let (file, scan) = unpacked.map_err(|e| e.inside(&place))?;
        Ok(Tarball { file: Arc::new(file), place, members: scan.into_members() })
    }

    /// What it is called.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The tar file, decompressed.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where the file of this name lies.
    ///
    /// # Errors
    /// `TarUnexpectedEntry` where the name is a link's or a directory's.
    pub fn find(&self, name: &str) -> Result<Option<Stretch>> {
        match self.members.get(&Key::of(name.as_bytes())) {
            None => Ok(None),
            Some(Member::File(stretch)) => Ok(Some(*stretch)),
            Some(Member::Link(_)) => Err(self.unexpected(name, "a link")),
            Some(Member::Directory) => Err(self.unexpected(name, "a directory")),
        }
    }

    /// The same where the name may be a link's, to a file in this archive: one step, no more.
    pub fn find_linked(&self, name: &str) -> Result<Option<Stretch>> {
        let Some(Member::Link(target)) = self.members.get(&Key::of(name.as_bytes())) else {
            return self.find(name);
        };
        match self.members.get(target) {
            Some(Member::File(stretch)) => Ok(Some(*stretch)),
            Some(Member::Link(_)) => Err(self.unexpected(name, "a link to a link")),
            Some(Member::Directory) => Err(self.unexpected(name, "a link to a directory")),
            None => Err(self.unexpected(name, "a link to what is not there")),
        }
    }

    fn unexpected(&self, name: &str, what: &str) -> Error {
        Error::new(Kind::TarUnexpectedEntry, "an entry is not the file that it must be")
            .at(format_args!("{}: {name}", self.place))
            .got(what)
            .expected("a regular file")
    }

    /// Reads a whole small file; `None` where there is none of this name.
    ///
    /// # Errors
    /// `LimitExceeded` where it is larger than `limit`.
    pub fn read_small(&self, name: &str, what: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(stretch) = self.find_linked(name)? else { return Ok(None) };
        let place = format!("{}: {name}", self.place);
        if stretch.size > limit {
            return Err(Error::new(Kind::LimitExceeded, format!("{what} is too large"))
                .at(place)
                .got(format_args!("{} bytes", stretch.size))
                .expected(format_args!("at most {limit} bytes")));
        }
        let mut bytes = vec![0; stretch.size as usize];
        match file::read_at_most(&*self.file, &mut bytes, stretch.offset) {
            Ok(count) if count == bytes.len() => Ok(Some(bytes)),
            Ok(_) => {
                Err(Error::new(Kind::Truncated, "the archive became shorter while it was read").at(place))
            }
            Err(e) => Err(Error::io("cannot read", place, &e)),
        }
    }

    /// The content of an entry, from byte `from` on.
    pub fn content(&self, name: &str, stretch: Stretch, from: u64) -> Unverified {
        stretch.content(&self.file, format!("{}: {name}", self.place), from)
    }
}

fn anything(_: &[u8], _: &Member) -> Result<()> {
    Ok(())
}

impl Stretch {
    /// What lies there in a file, from byte `from` of it on.
    pub fn content(self, file: &Arc<File>, place: String, from: u64) -> Unverified {
        let (offset, left) = (self.offset.saturating_add(from), self.size.saturating_sub(from));
        Unverified::new(place.clone(), file::stream(file.clone(), place, offset, left))
    }
}
