//! What is in layers: how much they unpack to, which of some paths they have, and what secrets were left in them. A layer is
//! read as it comes, decompressed and looked at entry by entry; no file of it is written anywhere, and whatever its size,
//! memory is not. What is in one layer is learned once, however many images share it.
//!
//! A layer that a later one hides something of still has it: whoever has the image has the secret. What a path is asked for
//! is there only if it is there when all layers lie on each other.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

use super::secrets::{self, Found, Search};
use crate::content::file::{self, PIECE};
use crate::content::tarball::{Entries, EntryKind, Packing, damaged, is_header, unpacked};
use crate::content::{Reader, Source};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, Platform};
use crate::plan::{Node, Plan};
use crate::rules::fits;

/// What is in one layer.
#[derive(Debug, Default)]
pub struct LayerFacts {
    /// Bytes it unpacks to.
    pub unpacked: u64,
    /// Secrets, by their paths.
    pub secrets: Vec<Found>,
    /// Paths that were asked for.
    pub paths: Vec<String>,
    /// Secrets beyond those.
    pub more: usize,
    /// Such paths beyond those.
    pub more_paths: usize,
    removed: Removed,
}

/// What a layer removes of those below it (image-spec layer.md, "Whiteouts").
#[derive(Debug, Default)]
struct Removed {
    paths: BTreeSet<String>,
    /// Directories that hide whatever the layers below have in them.
    opaque: BTreeSet<String>,
    /// Of all these names.
    bytes: usize,
}

/// What is in all layers of one build.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its platform; `None` for what has none.
    pub platform: Option<Platform>,
    /// Bytes that its layers unpack to, all together.
    pub unpacked: u64,
    /// Secrets.
    pub secrets: Vec<Left>,
    /// Paths that were asked for, and the layers that have them.
    pub paths: Vec<(String, Digest)>,
    /// Secrets beyond those.
    pub more: usize,
    /// Such paths beyond those.
    pub more_paths: usize,
}

/// A secret that was left in a layer.
#[derive(Clone, Debug)]
pub struct Left {
    /// What it is, and its path.
    pub found: Found,
    /// The layer.
    pub layer: Digest,
    /// Whether a later layer hides it.
    pub hidden: bool,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Left { found: Found { place, kind }, layer, hidden } = self;
        write!(f, "{kind} in {place}, layer {layer}")?;
        if *hidden { f.write_str(" (a later layer removes it; this one still has it)") } else { Ok(()) }
    }
}

/// All layers that were read so far.
pub struct Layers {
    asked: Arc<Vec<String>>,
    turns: Semaphore,
    known: Mutex<HashMap<Key, Arc<LayerFacts>>>,
    /// Bytes of names in it.
    names: AtomicUsize,
}

/// A layer, and what a file is called that is no layer of an image.
type Key = (Digest, Option<String>);

impl Layers {
    /// For whoever asks for these paths, as patterns.
    pub fn new(paths: &[String]) -> Self {
        let asked = paths.iter().map(|path| path.trim_start_matches('/').to_owned()).collect();
        Layers {
            asked: Arc::new(asked),
            turns: Semaphore::new(limits::PACKERS),
            known: Mutex::default(),
            names: AtomicUsize::new(0),
        }
    }

    /// What is in the layers that a manifest names.
    ///
    /// # Errors
    /// The source's own; what is wrong with a layer: `TarHeader`, `FrameInvalid`, `LimitExceeded`, `Truncated`.
    pub async fn contents(
        &self,
        plan: &Plan,
        manifest: &Node,
        platform: Option<Platform>,
        source: &dyn Source,
    ) -> Result<Contents> {
        let nodes: Vec<_> = manifest.children.iter().filter_map(|child| plan.nodes.get(*child)).collect();
        let Some((config, layers)) = nodes.split_first() else { return Ok(gathered(platform, &[])) };
        // What is no image has files as its layers, with names of their own.
        let titles = match config.descriptor.media_type.is_image_config() {
            true => None,
            false => Some(titles(manifest, source).await?),
        };
        let mut read = Vec::with_capacity(layers.len());
        for pair in layers.chunks(limits::PACKERS) {
            let facts = pair.iter().map(|layer| self.layer(&layer.descriptor, titles.as_ref(), source));
            let facts = futures_util::future::try_join_all(facts).await?;
            read.extend(pair.iter().map(|layer| layer.descriptor.digest).zip(facts));
        }
        Ok(gathered(platform, &read))
    }

    async fn layer(
        &self,
        layer: &Descriptor,
        titles: Option<&HashMap<Digest, String>>,
        source: &dyn Source,
    ) -> Result<Arc<LayerFacts>> {
        let title =
            titles.map(|titles| titles.get(&layer.digest).cloned().unwrap_or_else(|| "the file".to_owned()));
        let key = (layer.digest, title);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = known().get(&key) {
            return Ok(facts.clone());
        }
        let facts = self.read(layer, key.1.clone(), source).await.map_err(|e| e.at(layer.digest))?;
        let names = facts.names();
        if self.names.fetch_add(names, Ordering::Relaxed).saturating_add(names) > limits::FOUND_NAMES {
            return Err(Error::new(Kind::LimitExceeded, "layers hold more findings than can be kept")
                .at(layer.digest)
                .hint("look at fewer images at once: --image"));
        }
        Ok(known().entry(key).or_insert_with(|| Arc::new(facts)).clone())
    }

    /// Reads a layer to its end. What was learned counts only because all of it was what its digest says.
    async fn read(
        &self,
        layer: &Descriptor,
        title: Option<String>,
        source: &dyn Source,
    ) -> Result<LayerFacts> {
        let mut turn = self.turns.acquire().await.map_err(|_| file::ended())?;
        let mut reader = source.fetch(layer).await?;
        let first = beginning(&mut reader).await?;
        let packing = Packing::of(&first);
        if packing == Packing::Zstd {
            // It may need a window as large as two others need together.
            drop(turn);
            let all = u32::try_from(limits::PACKERS).unwrap_or(u32::MAX);
            turn = self.turns.acquire_many(all).await.map_err(|_| file::ended())?;
        }
        let (send, pieces) = mpsc::channel(2);
        let (taken, asked) = (Arc::new(AtomicU64::new(0)), self.asked.clone());
        let input = Pieces { piece: first, pieces, taken: taken.clone() };
        let look = tokio::task::spawn_blocking(move || {
            let input = Growing {
                input: unpacked(packing, BufReader::with_capacity(PIECE, input))?,
                taken,
                grown: 0,
            };
            look(input, &asked, title.as_deref())
        });
        while let Some(piece) = reader.chunk().await? {
            // Whoever looks at it may have seen enough to say no; the rest is verified all the same.
            let _ = send.send(piece).await;
            if send.is_closed() {
                break;
            }
        }
        drop(send);
        let facts = look.await.map_err(|_| file::ended())?.map_err(|e| e.inside(layer.digest))?;
        while reader.chunk().await?.is_some() {}
        drop(turn);
        Ok(facts)
    }
}

/// Enough bytes to tell how it is packed, if there are so many.
async fn beginning(reader: &mut Reader) -> Result<Bytes> {
    let mut first = bytes::BytesMut::new();
    while first.len() < 6 {
        match reader.chunk().await? {
            Some(piece) => first.extend_from_slice(&piece),
            None => break,
        }
    }
    Ok(first.freeze())
}

/// The names of an artifact's files (image-spec annotations.md).
async fn titles(manifest: &Node, source: &dyn Source) -> Result<HashMap<Digest, String>> {
    #[derive(Deserialize)]
    struct View {
        #[serde(default)]
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        digest: Digest,
        #[serde(default)]
        annotations: HashMap<String, String>,
    }
    let bytes = source.fetch(&manifest.descriptor).await?.into_bytes().await?;
    let view: View = serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(Kind::DocumentInvalid, "not a valid OCI document").got(e))?;
    let title =
        |layer: Layer| Some((layer.digest, layer.annotations.get("org.opencontainers.image.title")?.clone()));
    Ok(view.layers.into_iter().filter_map(title).collect())
}

/// Puts layers on each other.
fn gathered(platform: Option<Platform>, layers: &[(Digest, Arc<LayerFacts>)]) -> Contents {
    let mut contents =
        Contents { platform, unpacked: 0, secrets: Vec::new(), paths: Vec::new(), more: 0, more_paths: 0 };
    for (number, (layer, facts)) in layers.iter().enumerate() {
        let later = layers.get(number.saturating_add(1)..).unwrap_or_default();
        let hidden = |path: &str| later.iter().any(|(_, facts)| facts.removed.hides(path));
        contents.unpacked = contents.unpacked.saturating_add(facts.unpacked);
        contents.more = contents.more.saturating_add(facts.more);
        contents.more_paths = contents.more_paths.saturating_add(facts.more_paths);
        let left = |found: &Found| Left { found: found.clone(), layer: *layer, hidden: hidden(&found.place) };
        let room = limits::FINDINGS.saturating_sub(contents.secrets.len());
        contents.secrets.extend(facts.secrets.iter().take(room).map(left));
        contents.more = contents.more.saturating_add(facts.secrets.len().saturating_sub(room));
        let there = facts.paths.iter().filter(|path| !hidden(path));
        contents.paths.extend(there.map(|path| (path.clone(), *layer)));
    }
    contents
}

impl Removed {
    /// Whether the entry of this name is one that removes something.
    fn take(&mut self, path: &str) -> bool {
        let (directory, file) =
            path.rsplit_once('/').map_or(("", path), |(directory, file)| (directory, file));
        let Some(removed) = file.strip_prefix(".wh.") else { return false };
        // Whoever removes more is not believed: nothing is hidden by that.
        self.bytes = self.bytes.saturating_add(path.len());
        let room = self.bytes <= limits::WHITEOUTS;
        match removed {
            // Nothing has these names; and what lies under the root stays there, whatever a layer says of it
            // (overlayfs heeds no opaque root of a lower layer).
            "" | "." | ".." => {}
            ".wh..opq" if directory.is_empty() => {}
            ".wh..opq" if room => _ = self.opaque.insert(directory.to_owned()),
            _ if removed.starts_with(".wh.") || !room => {}
            _ if directory.is_empty() => _ = self.paths.insert(removed.to_owned()),
            _ => _ = self.paths.insert(format!("{directory}/{removed}")),
        }
        true
    }

    fn hides(&self, path: &str) -> bool {
        let ends = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at);
        let mut parents = ends.filter_map(|at| path.get(..at)).chain([""]);
        self.paths.contains(path)
            || parents.any(|parent| self.paths.contains(parent) || self.opaque.contains(parent))
    }
}

impl LayerFacts {
    /// Bytes of the names that are kept of it.
    fn names(&self) -> usize {
        let found = self.secrets.iter().map(|found| &found.place).chain(&self.paths).map(String::len);
        found.fold(self.removed.bytes.min(limits::WHITEOUTS), usize::saturating_add)
    }

    fn find(&mut self, place: &str, kinds: impl IntoIterator<Item = &'static str>) {
        for kind in kinds {
            match self.secrets.len() < limits::FINDINGS {
                true => self.secrets.push(Found { place: place.to_owned(), kind }),
                false => self.more = self.more.saturating_add(1),
            }
        }
    }

    fn ask(&mut self, path: &str, asked: &[String]) {
        if asked.iter().any(|pattern| fits(pattern, path)) {
            match self.paths.len() < limits::FINDINGS {
                true => self.paths.push(path.to_owned()),
                false => self.more_paths = self.more_paths.saturating_add(1),
            }
        }
    }
}

/// Looks at everything that comes. `title` is what a file is called that is no layer of an image.
fn look(mut input: Growing<impl Read>, asked: &[String], title: Option<&str>) -> Result<LayerFacts> {
    let mut facts = LayerFacts::default();
    let mut first = vec![0; 512];
    let mut count = 0;
    while count < first.len() {
        match input.read(first.get_mut(count..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(more) => count = count.saturating_add(more),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(&e)),
        }
    }
    first.truncate(count);
    let tar = title.is_none() || is_header(&first);
    let mut input = match tar {
        true => archive(Read::chain(io::Cursor::new(first), input), asked, &mut facts)?.into_inner().1,
        false => {
            let title = title.unwrap_or_default();
            facts.find(title, secrets::by_name(title));
            let mut search = Search::in_file(title);
            search.take(&first);
            let mut buffer = vec![0; PIECE];
            loop {
                match input.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => search.take(buffer.get(..count).unwrap_or_default()),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(failed(&e)),
                }
            }
            facts.find(title, search.finish());
            input
        }
    };
    // Behind the end of the archive.
    io::copy(&mut input, &mut io::sink()).map_err(|e| failed(&e))?;
    facts.unpacked = input.grown;
    Ok(facts)
}

fn archive<R: Read>(input: R, asked: &[String], facts: &mut LayerFacts) -> Result<R> {
    let mut entries = Entries::new(input);
    let mut buffer = vec![0; PIECE];
    while let Some(entry) = entries.next(&failed)? {
        if facts.removed.take(&entry.path) {
            continue;
        }
        facts.ask(&entry.path, asked);
        if entry.kind != EntryKind::File || entry.size == 0 {
            continue;
        }
        facts.find(&entry.path, secrets::by_name(&entry.path));
        let mut search = Search::in_file(&entry.path);
        loop {
            match entries.read(&mut buffer, &failed)? {
                0 => break,
                count => search.take(buffer.get(..count).unwrap_or_default()),
            }
        }
        facts.find(&entry.path, search.finish());
    }
    Ok(entries.rest())
}

/// What reading a layer has failed with.
fn failed(error: &io::Error) -> Error {
    match error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        true => Error::io("cannot read", "a layer", error),
        false => damaged(error),
    }
}

/// Verified bytes on their way from those who fetch to those who look.
struct Pieces {
    piece: Bytes,
    pieces: mpsc::Receiver<Bytes>,
    taken: Arc<AtomicU64>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.len().min(buffer.len());
        self.piece.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => break,
            }
        }
        Ok(&self.piece)
    }
}

/// What something unpacks to, which must not be out of all proportion: a bomb would keep a processor busy for days.
struct Growing<R> {
    input: R,
    /// Packed bytes that were taken for it.
    taken: Arc<AtomicU64>,
    grown: u64,
}

impl<R: Read> Read for Growing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.grown = self.grown.saturating_add(count as u64);
        let taken = self.taken.load(Ordering::Relaxed);
        let most = taken.saturating_mul(limits::UNPACKED_TIMES).saturating_add(limits::UNPACKED_FREELY);
        match self.grown > most {
            true => Err(io::Error::other(
                Error::new(Kind::LimitExceeded, "a layer unpacks to far more than it is")
                    .got(format_args!("{} bytes from {taken}", self.grown))
                    .expected(format_args!("at most {} times as many", limits::UNPACKED_TIMES))
                    .hint("have the image built again without it; such layers are no honest ones"),
            )),
            false => Ok(count),
        }
    }
}
