//! Reading ranges of a file as a stream, without moving the file's position.

use std::fs::{File, Metadata};
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use rustix::io::ReadWriteFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Hasher};

/// Bytes read at once: large enough to amortise a system call, small enough to be hashed while
/// still in the CPU's second-level cache.
pub const PIECE: usize = 256 << 10;

/// Bytes that can be read at any offset: a file, or what is inside of one.
pub trait ReadAt: Send + Sync + 'static {
    /// Reads some bytes from `offset` on into `buffer`; none at the end. As `pread(2)`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize>;

    /// The same as far as nothing has to be waited for: fewer bytes, or none, where a disk would have to be.
    fn read_now(&self, _: &mut [u8], _: u64) -> usize {
        0
    }

    /// Where every reader takes much memory: whoever reads without being one of a few takes one of these first.
    fn turns(&self) -> Option<Arc<Semaphore>> {
        None
    }

    /// From now on one reads at a time: memory that was for several is given back.
    fn spare(&self) {}
}

/// Waits for a turn where there are turns.
pub async fn turn(of: &dyn ReadAt) -> Option<OwnedSemaphorePermit> {
    // They are never closed.
    of.turns()?.acquire_owned().await.ok()
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    /// Some file systems cannot tell, and say nothing (preadv2(2), `RWF_NOWAIT`).
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> usize {
        let mut buffers = [IoSliceMut::new(buffer)];
        rustix::io::preadv2(self, &mut buffers, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
    }
}

/// `length` bytes of `file` from `offset` on, in pieces.
///
/// # Errors
/// `Truncated` where the file ends earlier: its size was looked at before.
pub fn stream(
    file: Arc<dyn ReadAt>,
    place: String,
    offset: u64,
    length: u64,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold((offset, length), move |(offset, left)| {
        let (file, place) = (file.clone(), place.clone());
        async move { read_on(file, place, offset, left, PIECE).await }
    })
}

/// The same for one of many that read: in pieces whose size is asked for before each, and without another thread
/// for what is in memory.
pub fn stream_among(
    piece: impl Fn() -> usize + Send + 'static,
    file: Arc<dyn ReadAt>,
    place: String,
    offset: u64,
    length: u64,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold((offset, length), move |(offset, left)| {
        let (file, place) = (file.clone(), place.clone());
        let most = piece();
        async move {
            match read_now(&*file, offset, left, most) {
                Some(piece) => Ok(Some(behind(piece, offset, left))),
                None => read_on(file, place, offset, left, most).await,
            }
        }
    })
}

/// A piece, and what is left behind it.
type Step = (Bytes, (u64, u64));

fn behind(piece: Bytes, offset: u64, left: u64) -> Step {
    let count = piece.len() as u64;
    (piece, (offset.saturating_add(count), left.saturating_sub(count)))
}

/// What can be had without waiting.
fn read_now(file: &dyn ReadAt, offset: u64, left: u64, most: usize) -> Option<Bytes> {
    let mut piece = Lent::of(left.min(most as u64) as usize);
    piece.used = file.read_now(piece.as_mut(), offset);
    (piece.used > 0).then(|| Bytes::from_owner(piece))
}

/// The next piece, by a thread that may wait.
async fn read_on(
    file: Arc<dyn ReadAt>,
    place: String,
    offset: u64,
    left: u64,
    most: usize,
) -> Result<Option<Step>> {
    if left == 0 {
        return Ok(None);
    }
    let want = left.min(most as u64) as usize;
    let shrunk = Error::new(Kind::Truncated, "the file became shorter while it was read")
        .at(&place)
        .hint("is the medium still plugged in? copy the file again; the same command then goes on");
    let turn = turn(&*file).await;
    let read = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut piece = Lent::of(want);
        let count = read_at_most(&*file, piece.as_mut(), offset).map_err(|e| {
            Error::io("cannot read", format_args!("{place} at byte {offset}"), &e)
                .hint("the medium may be damaged or gone: with a copy of the file, the same command goes on")
        })?;
        piece.used = count;
        Ok(Bytes::from_owner(piece))
    });
    match read.await.map_err(|_| ended())?? {
        piece if piece.is_empty() => Err(shrunk),
        piece => Ok(Some(behind(piece, offset, left))),
    }
}

/// Buffers that were used before. A fresh one of this size is given by the operating system page by
/// page, which takes longer than to read the file.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Buffers that are kept for later.
const SPARES: usize = 16;

/// A buffer that goes back when its bytes were used.
struct Lent {
    buffer: Vec<u8>,
    used: usize,
}

impl Lent {
    /// Room for `size` bytes, at most [`PIECE`].
    fn of(size: usize) -> Self {
        let spare = match size == PIECE {
            true => SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop(),
            false => None,
        };
        Lent { buffer: spare.unwrap_or_else(|| vec![0; size]), used: size }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.buffer.len() == PIECE && spare.len() < SPARES {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// Fills `buffer` from `offset`, or as much of it as the file has.
pub fn read_at_most(file: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Bytes that are copied, then hashed, in one go: what was just copied is still in the processor's cache.
const STRETCH: u64 = 1 << 20;

/// File systems on which files can have blocks in common, by their numbers (statfs(2)): btrfs, XFS,
/// bcachefs, ZFS.
const SHARING: [u32; 4] = [0x9123_683e, 0x5846_5342, 0xca45_1a4e, 0x2fc1_2fc1];

/// Brings `size` bytes of `from`, beginning at `offset`, to the beginning of `to` without reading them
/// here: the file system shares what lies on its blocks' borders, and the kernel copies the rest
/// (`copy_file_range(2)`). Then says what arrived, by hashing `to`; `at` is told how far it has come.
///
/// `None` where it would not pay, or cannot be done: copy them then. A file system that shares nothing
/// makes two trips of it, to copy and to hash, and reading, hashing and writing piece by piece is faster.
///
/// # Errors
/// `UnexpectedEof` where `from` is shorter, and what the file systems say.
pub fn take_over(
    from: &File,
    offset: u64,
    size: u64,
    to: &File,
    at: impl FnMut(u64),
) -> std::io::Result<Option<Digest>> {
    let shares = |facts: rustix::fs::StatFs| SHARING.contains(&(facts.f_type as u32));
    match rustix::fs::fstatfs(to).is_ok_and(shares) {
        true => bring_over(from, offset, size, to, at),
        false => Ok(None),
    }
}

fn bring_over(
    from: &File,
    offset: u64,
    size: u64,
    to: &File,
    mut at: impl FnMut(u64),
) -> std::io::Result<Option<Digest>> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < size {
        let stretch = STRETCH.min(size.saturating_sub(done));
        if !copy_stretch(from, offset.saturating_add(done), stretch, to, done)? {
            return Ok(None);
        }
        hash_into(&mut hasher, &mut buffer, to, done, stretch)?;
        done = done.saturating_add(stretch);
        at(done);
    }
    Ok(Some(hasher.finish()))
}

/// Whether all of it was copied; `false` where that is not to be had between these two files.
fn copy_stretch(from: &File, offset: u64, length: u64, to: &File, target: u64) -> std::io::Result<bool> {
    use rustix::io::Errno;
    let mut done = 0u64;
    while done < length {
        let (mut source, mut target) = (offset.saturating_add(done), target.saturating_add(done));
        let left = usize::try_from(length.saturating_sub(done)).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), left) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done = done.saturating_add(count as u64),
            Err(Errno::INTR) => {}
            // Another file system, an odd one, an old kernel, a sandbox that forbids the call.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return Ok(false);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}

fn hash_into(
    hasher: &mut Hasher,
    buffer: &mut [u8],
    file: &dyn ReadAt,
    offset: u64,
    length: u64,
) -> std::io::Result<()> {
    let mut done = 0u64;
    while done < length {
        let want = usize::try_from(length.saturating_sub(done)).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..want).unwrap_or_default();
        if read_at_most(file, piece, offset.saturating_add(done))? != want {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(piece);
        done = done.saturating_add(want as u64);
    }
    Ok(())
}

/// The digest of `length` bytes of `file` from `offset` on.
///
/// # Errors
/// `UnexpectedEof` where the file is shorter.
pub fn digest_at(file: &dyn ReadAt, offset: u64, length: u64) -> std::io::Result<Digest> {
    let mut hasher = Hasher::default();
    hash_into(&mut hasher, &mut vec![0; PIECE], file, offset, length)?;
    Ok(hasher.finish())
}

/// The digest of a whole file, and its bytes.
pub fn digest_of(file: &File) -> std::io::Result<(Digest, u64)> {
    let length = file.metadata()?.len();
    digest_at(file, 0, length).map(|digest| (digest, length))
}

/// Content is kept under a digest that is not its own.
pub fn not_its_digest(place: impl std::fmt::Display, got: Digest, expected: Digest) -> Error {
    Error::new(Kind::DigestMismatch, "the content is not what its digest says")
        .at(place)
        .got(got)
        .expected(expected)
}

/// What was taken over is not what was to be there.
pub fn not_what_lay_there(place: impl std::fmt::Display, got: Digest, expected: Digest) -> Error {
    not_its_digest(place, got, expected)
        .hint("damaged at its origin, or by this machine; nothing of it was used")
}

/// Whether both paths lead to one file.
pub fn same(a: &std::path::Path, b: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &std::path::Path| std::fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// A background task was ended because the program is ending.
pub fn ended() -> Error {
    Error::new(Kind::Interrupted, "ended before the work was done")
}

/// Reads a whole small file, refusing one larger than `limit` bytes and anything that is not a
/// regular file.
pub fn read_small(path: &std::path::Path, what: &str, limit: u64) -> Result<Vec<u8>> {
    read_with_facts(path, what, limit).map(|(bytes, _)| bytes)
}

/// The same, with the metadata of the very file that was read.
pub fn read_with_facts(path: &std::path::Path, what: &str, limit: u64) -> Result<(Vec<u8>, Metadata)> {
    read_secret(path, what, limit).map(|(mut bytes, facts)| (std::mem::take(&mut *bytes), facts))
}

/// Bytes that a reader must find room for beyond what it reads, or it reads into a buffer of its own first.
const SPARE_ROOM: u64 = 64;

/// The same for what nobody else is to see: wiped when dropped, and no copy left behind by a buffer that grew.
pub fn read_secret(path: &std::path::Path, what: &str, limit: u64) -> Result<(Zeroizing<Vec<u8>>, Metadata)> {
    use std::io::Read;
    let (file, facts) = open_regular(path, what)?;
    let shown = path.display();
    let io = |e: &std::io::Error| Error::io(format!("cannot read {what}"), &shown, e);
    let room = facts.len().min(limit).saturating_add(SPARE_ROOM);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room as usize));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| io(&e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(Kind::LimitExceeded, format!("{what} is too large"))
            .at(shown)
            .got(format_args!("more than {limit} bytes")));
    }
    Ok((bytes, facts))
}

/// Opens a file for reading, and refuses anything that is not a regular one.
pub fn open_regular(path: &std::path::Path, what: &str) -> Result<(File, Metadata)> {
    use rustix::fs::{Mode, OFlags};
    let io = |e: &std::io::Error| {
        let failure = Error::io(format!("cannot read {what}"), path.display(), e);
        if e.kind() == std::io::ErrorKind::NotFound { failure.hint("check the path") } else { failure }
    };
    // Not waiting: a pipe would otherwise hold up whoever opens it until somebody writes.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| io(&e.into()))?);
    let facts = file.metadata().map_err(|e| io(&e))?;
    match facts.is_file() {
        true => Ok((file, facts)),
        false => Err(Error::new(Kind::Io, format!("cannot read {what}"))
            .at(path.display())
            .got("not a regular file")),
    }
}

/// A file in the directory for temporary ones (`$TMPDIR`) that has no name: nobody else can open it, and it is gone
/// when the program ends, however it ends.
pub fn nameless() -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let (directory, mode) = (std::env::temp_dir(), Mode::from_raw_mode(0o600));
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&directory, flags | OFlags::TMPFILE, mode) {
        // Some file systems give no such files (open(2), `O_TMPFILE`): one that loses its name at once, then.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) if directory.is_dir() => {
            let mut chance = [0; 8];
            getrandom::fill(&mut chance).map_err(std::io::Error::other)?;
            let path = directory.join(format!(".sealift-{:016x}", u64::from_le_bytes(chance)));
            let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
            std::fs::remove_file(&path)?;
            Ok(File::from(file))
        }
        opened => Ok(File::from(opened?)),
    }
}

/// FAT, whatever its width (statfs(2), `MSDOS_SUPER_MAGIC`).
const FAT: rustix::fs::FsWord = 0x4d44;

/// Whether a file system can hold a file of `size` bytes at all.
///
/// # Errors
/// `NoSpace` on FAT from 4 GiB on, where writing would fail after gigabytes.
pub fn check_size(file: &File, path: &std::path::Path, size: u64) -> Result<()> {
    let fat = rustix::fs::fstatfs(file).is_ok_and(|facts| facts.f_type == FAT);
    if fat && size > u64::from(u32::MAX) {
        return Err(Error::io(
            "the file would be too large for this medium",
            path.display(),
            &std::io::ErrorKind::FileTooLarge.into(),
        )
        .expected(format_args!("room for {size} bytes")));
    }
    Ok(())
}

/// Whether a directory's file system has room for `bytes` more.
///
/// # Errors
/// `NoSpace`. A file system that cannot tell is believed to have room: writing tells then.
pub fn check_room(directory: &std::path::Path, bytes: u64) -> Result<()> {
    let Ok(facts) = rustix::fs::statvfs(directory) else { return Ok(()) };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    // Some file systems do not know their size and say 0 of everything.
    if facts.f_blocks == 0 || free >= bytes {
        return Ok(());
    }
    Err(Error::io("not enough room", directory.display(), &std::io::ErrorKind::StorageFull.into())
        .got(format_args!("{free} bytes free"))
        .expected(format_args!("{bytes} bytes")))
}

/// Makes what happened to a directory's names last through a power cut.
pub fn sync_directory(directory: &std::path::Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::io("cannot write", directory.display(), &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Three stretches and a bit, from the middle of a file.
    #[test]
    fn what_the_kernel_brings_over_is_hashed_where_it_arrived() {
        let content: Vec<u8> = (0..3 * STRETCH + 4321).map(|number| (number * number / 7) as u8).collect();
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&content).unwrap();
        let (offset, length) = (777u64, content.len() as u64 - 1000);
        let expected = &content[777..777 + length as usize];
        let to = tempfile::tempfile().unwrap();
        let mut steps = Vec::new();
        let got = bring_over(&from, offset, length, &to, |done| steps.push(done)).unwrap();
        assert_eq!(got, Some(Digest::of(expected)));
        assert_eq!(digest_of(&to).unwrap(), (Digest::of(expected), length));
        assert_eq!(steps, [STRETCH, 2 * STRETCH, 3 * STRETCH, length]);
        // A file that ends early, and one that nothing can be copied to.
        let short = bring_over(&from, offset, content.len() as u64, &to, |_| {});
        assert_eq!(short.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        let (pipe, _writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        assert_eq!(bring_over(&pipe, 0, 1, &to, |_| {}).unwrap(), None);
    }
}
