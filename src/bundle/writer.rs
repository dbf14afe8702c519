//! Writing a bundle: the head is drafted, signed and written before any layer moves; then blobs
//! arrive in any order, several at once, each at its final offset.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::contents::{Contents, Entry, Part};
use super::statement::{EntrySize, Statement};
use super::{INDEX_PATH, LAYOUT_PATH, OCI_LAYOUT, STATEMENT_PATH, SUMS_PATH, signature_path, sums, tar};
use crate::content::{Reader, Sink, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, LayoutIndex, Name, Role};
use crate::plan::{Image, Plan};
use crate::release::{PolicyRecord, Release};
use crate::trust::{KeyId, Signature};

/// A bundle that is decided down to the last byte but for its signatures.
pub struct Draft {
    statement: Vec<u8>,
    index: Vec<u8>,
    sums: Vec<u8>,
    listed: Vec<(Part, Digest, u64)>,
}

impl Draft {
    /// Drafts the bundle of a plan.
    pub fn new(release: &Release, plan: &Plan, policy: PolicyRecord) -> Result<Self> {
        let index = encode_index(&plan.images, |image| plan_size(plan, image))?;
        let mut listed = vec![
            (Part::Layout, Digest::of(OCI_LAYOUT), OCI_LAYOUT.len() as u64),
            (Part::Index, Digest::of(&index), index.len() as u64),
        ];
        listed
            .extend(plan.nodes.iter().map(|node| (Part::Blob, node.descriptor.digest, node.descriptor.size)));
        let paths: Vec<_> = listed.iter().map(|(part, digest, _)| path(*part, digest)).collect();
        let entries = paths
            .iter()
            .zip(&listed)
            .map(|(path, (_, _, size))| EntrySize { path: path.clone(), size: *size });
        let statement = Statement::new(release, plan.images.clone(), policy, entries.collect()).encode()?;
        listed.insert(0, (Part::Statement, Digest::of(&statement), statement.len() as u64));
        let lines = std::iter::once(STATEMENT_PATH).chain(paths.iter().map(String::as_str));
        let sums = sums::encode(listed.iter().map(|(_, digest, _)| *digest).zip(lines));
        // What is written must be readable: the limits of the reader hold here too.
        sums::parse(&sums)?;
        Ok(Draft { statement, index, sums, listed })
    }

    /// What is to be signed.
    pub fn sums(&self) -> &[u8] {
        &self.sums
    }

    /// Bytes of the whole bundle with this many signatures.
    pub fn total(&self, signatures: usize) -> Result<u64> {
        Ok(self.contents(signatures)?.total)
    }

    fn contents(&self, signatures: usize) -> Result<Contents> {
        Contents::new(self.sums.len() as u64, signatures, self.listed.iter().copied())
    }
}

fn plan_size(plan: &Plan, image: usize) -> Option<u64> {
    Some(plan.nodes.get(*plan.roots.get(image)?)?.descriptor.size)
}

fn path(part: Part, digest: &Digest) -> String {
    Entry { part, digest: *digest, size: 0, offset: 0 }.path()
}

/// The bundle's `index.json`: one descriptor per name. `size` tells the bytes of an image's top document.
pub fn encode_index(images: &[Image], size: impl Fn(usize) -> Option<u64>) -> Result<Vec<u8>> {
    let mut named: Vec<(Descriptor, Name)> = Vec::new();
    let mut taken = HashSet::new();
    for (number, image) in images.iter().enumerate() {
        let missing = || {
            Error::new(Kind::BlobMissing, "an image's top document is not in the bundle").at(&image.source)
        };
        let descriptor = Descriptor {
            role: Role::Index,
            media_type: crate::oci::MediaType::new(&image.media_type),
            digest: image.digest,
            size: size(number).ok_or_else(missing)?,
        };
        for name in image.names() {
            if !taken.insert(name.clone()) {
                return Err(Error::new(Kind::RefAmbiguous, "one name is given to two images").at(name));
            }
            named.push((descriptor.clone(), name));
        }
    }
    Ok(LayoutIndex::encode(named.iter().map(|(descriptor, name)| (descriptor, name))))
}

/// A bundle being written, as `<bundle>.partial` until it is complete. Dropped before
/// [`Writer::finish`], it leaves nothing behind.
pub struct Writer {
    file: File,
    contents: Contents,
    arrived: Mutex<HashSet<usize>>,
    partial: PathBuf,
    target: PathBuf,
    replace: bool,
    finished: bool,
}

impl Writer {
    /// Reserves the space and writes the head. With `replace`, a file of that name is replaced, by
    /// the rename at the end.
    ///
    /// # Errors
    /// `OutputExists`, `Locked` where another run writes the same bundle, `NoSpace` before
    /// anything was pulled.
    pub fn create(
        target: &Path,
        draft: &Draft,
        mut signatures: Vec<(KeyId, Signature)>,
        replace: bool,
    ) -> Result<Self> {
        signatures.sort_by_key(|(id, _)| *id);
        signatures.dedup_by_key(|(id, _)| *id);
        if signatures.len() > limits::SIGNATURES {
            return Err(Error::new(Kind::Usage, "too many signatures")
                .got(signatures.len())
                .expected(format_args!("at most {}", limits::SIGNATURES)));
        }
        check_target(target, replace)?;
        let mut partial = target.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = open_partial(&partial)?;
        let contents = draft.contents(signatures.len())?;
        let writer = Writer {
            file,
            contents,
            arrived: Mutex::default(),
            partial,
            target: target.to_owned(),
            replace,
            finished: false,
        };
        writer.reserve()?;
        writer.write_head(draft, &signatures)?;
        Ok(writer)
    }

    fn reserve(&self) -> Result<()> {
        // Emptied first, so that padding and trailer are zeros whatever an earlier run left.
        let total = self.contents.total;
        self.file.set_len(0).and_then(|()| self.file.set_len(total)).map_err(|e| self.failed(&e))?;
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, total) {
            Err(e)
                if e == rustix::io::Errno::NOSPC
                    || e == rustix::io::Errno::DQUOT
                    || e == rustix::io::Errno::FBIG =>
            {
                Err(self.failed(&e.into()).expected(format_args!("room for {total} bytes")))
            }
            // Not every file system can reserve; writing tells then.
            _ => Ok(()),
        }
    }

    fn write_head(&self, draft: &Draft, signatures: &[(KeyId, Signature)]) -> Result<()> {
        let mut head = Vec::new();
        append(&mut head, SUMS_PATH, &draft.sums)?;
        for (id, signature) in signatures {
            append(&mut head, &signature_path(id), signature)?;
        }
        append(&mut head, STATEMENT_PATH, &draft.statement)?;
        append(&mut head, LAYOUT_PATH, OCI_LAYOUT)?;
        append(&mut head, INDEX_PATH, &draft.index)?;
        self.write(&head, 0)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io("cannot write the bundle", self.partial.display(), error)
    }

    /// Makes the bundle appear under its name, after everything has reached the disk.
    ///
    /// # Errors
    /// `BlobMissing` where something has not arrived.
    pub fn finish(mut self) -> Result<u64> {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).len();
        let expected = self.contents.blobs().count();
        if arrived != expected {
            return Err(Error::new(Kind::BlobMissing, "the bundle is not complete")
                .at(self.partial.display())
                .got(arrived)
                .expected(expected));
        }
        self.file.sync_all().map_err(|e| self.failed(&e))?;
        self.rename()?;
        self.finished = true;
        file::sync_directory(directory_of(&self.target))?;
        Ok(self.contents.total)
    }

    fn rename(&self) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let failed =
            |e: std::io::Error| Error::io("cannot name the finished bundle", self.target.display(), &e);
        if self.replace {
            return std::fs::rename(&self.partial, &self.target).map_err(failed);
        }
        match renameat_with(CWD, &self.partial, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => Err(exists(&self.target)),
            // FAT and some network file systems cannot refuse: the check is then a moment older.
            Err(_) => {
                check_target(&self.target, false)?;
                std::fs::rename(&self.partial, &self.target).map_err(failed)
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

#[async_trait]
impl Sink for Writer {
    async fn exists(&self, expected: &Descriptor) -> Result<bool> {
        let number = self.contents.blob(&expected.digest).map(|(number, _)| number);
        Ok(number.is_some_and(|n| self.arrived.lock().unwrap_or_else(PoisonError::into_inner).contains(&n)))
    }

    async fn push(&self, expected: &Descriptor, mut content: Reader) -> Result<()> {
        let (number, entry) = self.contents.blob(&expected.digest).ok_or_else(|| {
            Error::new(Kind::BlobUnreferenced, "the bundle was not planned to hold this").at(expected.digest)
        })?;
        let mut offset = entry.offset;
        while let Some(piece) = content.chunk().await? {
            // The reader never gives more than the size that the offset was planned with. A slow
            // medium must not hold up the connections that other tasks wait on.
            tokio::task::block_in_place(|| self.write(&piece, offset))?;
            offset += piece.len() as u64;
        }
        self.write(&entry.header()?, entry.header_offset())?;
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        Ok(())
    }

    /// Names are part of the plan and stand in `index.json` already.
    async fn tagged(&self, _: &Name) -> Result<Option<Digest>> {
        Ok(None)
    }

    async fn tag(&self, _: &Name, _: &Descriptor, _: Bytes) -> Result<()> {
        Ok(())
    }
}

fn append(head: &mut Vec<u8>, path: &str, content: &[u8]) -> Result<()> {
    head.extend_from_slice(&tar::header(path, content.len() as u64)?);
    head.extend_from_slice(content);
    let end = tar::padded(head.len() as u64).unwrap_or_default();
    head.resize(end as usize, 0);
    Ok(())
}

/// Whether a bundle may be written under this name.
///
/// # Errors
/// `OutputExists` for anything but a regular file, and for a file that is not to be replaced.
pub fn check_target(target: &Path, replace: bool) -> Result<()> {
    if target.file_name().is_none() || target.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Error::new(Kind::OutputExists, "the output is a directory's name")
            .at(target.display())
            .hint("name a file: -o DIRECTORY/nexus-engine-2.1.0.tar"));
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
            .hint("name a file: -o DIRECTORY/nexus-engine-2.1.0.tar")),
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

fn open_partial(partial: &Path) -> Result<File> {
    let failed = |e: &std::io::Error| {
        let error = Error::io("cannot create the bundle", partial.display(), e);
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
                return Err(Error::new(Kind::Locked, "another run is writing this bundle")
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
