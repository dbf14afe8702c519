//! Packing layers. Digest and size of what a bundle holds must be known before anything moves, so this is done while
//! planning, once for each layer, into files without names.
//!
//! The same layer gives the same bytes: gzip at a fixed level, with no time and no name in its header. (Another
//! version of the compressor may write others, as good: then the image's digest is another, its id is not.)

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compression, GzBuilder};
use tokio::sync::Semaphore;

use crate::content::file::{self, PIECE};
use crate::content::tarball::{Packing, Stretch, damaged, unpacked};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Digest, Hasher};

/// zlib's own middle way.
const LEVEL: u32 = 6;

/// "OS: 255 - unknown" (RFC 1952 §2.3.1): the same on every machine.
const ANY_SYSTEM: u8 = 255;

/// A layer as it is shipped.
pub struct Layer {
    /// Its media type.
    pub media_type: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// The digest of what it unpacks to.
    pub diff_id: Digest,
    /// Where it lies.
    pub file: Arc<File>,
    pub stretch: Stretch,
}

/// Those who pack, for all archives: a few at a time, each with a file of his own that he appends to.
pub struct Packers {
    turns: Semaphore,
    benches: Arc<Mutex<Vec<Bench>>>,
    /// Bytes that packed layers may still unpack to.
    allowance: Arc<AtomicU64>,
}

/// A file without a name, and its length.
struct Bench {
    file: Arc<File>,
    end: u64,
}

impl Default for Packers {
    fn default() -> Self {
        let allowance = Arc::new(AtomicU64::new(limits::LAYERS_UNPACKED));
        Packers { turns: Semaphore::new(limits::PACKERS), benches: Arc::default(), allowance }
    }
}

impl Packers {
    /// Packs a layer that lies in `archive`, or only hashes it if it is packed already.
    pub async fn pack(&self, archive: &Arc<File>, layer: Stretch, place: &str) -> Result<Layer> {
        let packing = packing(archive, layer).map_err(|e| e.at(place))?;
        // Whoever unpacks zstd may need a window as large as two others need together.
        let turns = if matches!(packing, Packing::Zstd) { limits::PACKERS } else { 1 };
        let _turns = self.turns.acquire_many(turns as u32).await.map_err(|_| file::ended())?;
        let (archive, benches, at) = (archive.clone(), self.benches.clone(), place.to_owned());
        let allowance = self.allowance.clone();
        let work = move || packed(&archive, layer, packing, &benches, &allowance).map_err(|e| e.at(at));
        tokio::task::spawn_blocking(work).await.map_err(|_| file::ended())?
    }
}

fn packing(archive: &File, layer: Stretch) -> Result<Packing> {
    match layer.size {
        0 => Ok(Packing::Plain),
        _ => Packing::at(archive, layer.offset).map_err(|e| unread(&e)),
    }
}

fn packed(
    archive: &Arc<File>,
    layer: Stretch,
    packing: Packing,
    benches: &Mutex<Vec<Bench>>,
    allowance: &AtomicU64,
) -> Result<Layer> {
    let media_type = match packing {
        Packing::Plain => return packed_anew(archive, layer, benches),
        Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Packing::Other(what) => {
            return Err(Error::new(Kind::DocumentUnsupported, "a layer that is packed by something else")
                .got(what)
                .expected("a tar file, plain or packed by gzip or zstd"));
        }
    };
    let digest = file::digest_at(&**archive, layer.offset, layer.size).map_err(|e| unread(&e))?;
    let content = BufReader::with_capacity(PIECE, Content::of(archive, layer));
    // In proportion to what is there: a bomb would keep a processor busy for days.
    allowance.fetch_add(layer.size.saturating_mul(limits::UNPACKED_TIMES), Ordering::Relaxed);
    let diff_id = hashed(unpacked(packing, content)?, &mut io::sink(), |_| damaged, Some(allowance))?;
    Ok(Layer { media_type, digest, diff_id, file: archive.clone(), stretch: layer })
}

/// Packs into a file that nobody else is writing to.
fn packed_anew(archive: &Arc<File>, layer: Stretch, benches: &Mutex<Vec<Bench>>) -> Result<Layer> {
    let benches = || benches.lock().unwrap_or_else(PoisonError::into_inner);
    let free = benches().pop();
    let mut bench = match free {
        Some(bench) => bench,
        None => Bench { file: Arc::new(file::nameless().map_err(|e| no_room(&e))?), end: 0 },
    };
    let out = Out { file: bench.file.clone(), start: bench.end, length: 0, hasher: Hasher::default() };
    let mut packer =
        GzBuilder::new().mtime(0).operating_system(ANY_SYSTEM).write(out, Compression::new(LEVEL));
    let diff_id = hashed(
        Content::of(archive, layer),
        &mut packer,
        |reading| if reading { unread } else { no_room },
        None,
    )?;
    let out = packer.finish().map_err(|e| no_room(&e))?;
    let stretch = Stretch { offset: out.start, size: out.length };
    bench.end = out.start.saturating_add(out.length);
    let file = bench.file.clone();
    benches().push(bench);
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    Ok(Layer { media_type, digest: out.hasher.finish(), diff_id, file, stretch })
}

/// Hands everything on, and says what it was. `failed` tells a failure to read from one to write.
fn hashed(
    mut content: impl Read,
    to: &mut impl Write,
    failed: impl Fn(bool) -> fn(&io::Error) -> Error,
    allowance: Option<&AtomicU64>,
) -> Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed(true)(&e)),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        let take = |left: u64| left.checked_sub(count as u64);
        if let Some(left) = allowance
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err()
        {
            return Err(Error::new(
                Kind::LimitExceeded,
                "the archive's layers unpack to far more than they are",
            )
            .expected(format_args!("at most {} times their size", limits::UNPACKED_TIMES))
            .hint("have the image saved again; such layers are no honest ones"));
        }
        hasher.update(piece);
        to.write_all(piece).map_err(|e| failed(false)(&e))?;
    }
}

/// A layer's bytes, where they lie in the archive.
struct Content {
    archive: Arc<File>,
    at: u64,
    left: u64,
}

impl Content {
    fn of(archive: &Arc<File>, layer: Stretch) -> Self {
        Content { archive: archive.clone(), at: layer.offset, left: layer.size }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..want).unwrap_or_default();
        let count = self.archive.read_at(piece, self.at)?;
        if count == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at = self.at.saturating_add(count as u64);
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

/// What is packed, on its way into the file.
struct Out {
    file: Arc<File>,
    start: u64,
    length: u64,
    hasher: Hasher,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.start.saturating_add(self.length))?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.length = self.length.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unread(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::new(Kind::Truncated, "the archive became shorter while it was read")
        }
        _ => Error::io("cannot read a layer", "the archive", error),
    }
}

fn no_room(error: &io::Error) -> Error {
    Error::io("cannot pack a layer", std::env::temp_dir().display(), error)
        .hint("TMPDIR names another directory for it")
}
