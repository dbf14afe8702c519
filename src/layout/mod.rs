//! An OCI image layout (image-layout.md): in a directory or in somebody's tar file as a source, in a directory as a
//! destination.
//!
//! As a destination it is written so that no reader ever sees half of anything: blobs go to a
//! temporary file, reach the disk and are then named; `index.json` is replaced at the end, once.

mod access;
mod attached;
mod source;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::content::{Extent, Kept, Meter, Reader, Referring, Sink, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, LayoutIndex, Name, Role, media};

pub use source::{Layout, LayoutSource};

const MARKER: &str = "oci-layout";
const MARKER_CONTENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";

/// More than `oci-layout` ever says.
const MARKER_MOST: u64 = 4096;

/// A layout that content is written to. Made where it does not exist, when the first blob comes.
pub struct LayoutSink {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The directory itself, locked from the first write on: one import at a time.
    lock: Option<File>,
    /// What the names in `index.json` lead to, once it was read.
    named: Option<HashMap<String, Digest>>,
    /// What entries of it are attached to, and their digests, once it was read.
    attached: Option<Vec<(Digest, Digest)>>,
    /// What is not in `index.json` yet.
    pending: Pending,
}

/// What is to be added to `index.json`.
#[derive(Default)]
struct Pending {
    /// Names that were given.
    names: BTreeMap<Name, Descriptor>,
    /// Documents and their artifact types, by what they are attached to and by their digests.
    attached: BTreeMap<(Digest, Digest), (Descriptor, String)>,
}

impl LayoutSink {
    /// A destination. Nothing is created yet.
    ///
    /// # Errors
    /// `OutputExists` where the directory holds something else than a layout.
    pub fn new(directory: &Path) -> Result<Self> {
        check_directory(directory)?;
        Ok(LayoutSink { directory: directory.to_owned(), state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock, then makes a layout of the directory. Interrupted anywhere, the next run
    /// goes on from what is there.
    fn prepare(&self) -> Result<()> {
        let mut state = self.state();
        if state.lock.is_some() {
            return Ok(());
        }
        let failed = |e: std::io::Error| Error::io("cannot create the layout", self.directory.display(), &e);
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        let lock = File::open(&self.directory).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::new(Kind::Locked, "another run is writing this layout")
                    .at(self.directory.display())
                    .hint("wait for it, then run the same command again"));
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
        check_directory(&self.directory)?;
        if !self.directory.join(MARKER).exists() {
            write_whole(&self.directory, MARKER, MARKER_CONTENT.as_bytes())?;
        }
        std::fs::create_dir_all(self.directory.join("blobs/sha256")).map_err(failed)?;
        state.lock = Some(lock);
        Ok(())
    }

    /// What a blob is called until it is complete.
    fn partial(&self, expected: &Descriptor) -> Result<Partial> {
        Partial::create(self.directory.join(format!(".{}.partial", expected.digest.hex())))
    }

    /// `index.json` as it stands. Only its outline is required: entries of others are kept, not judged.
    fn index(&self) -> Result<Value> {
        let path = self.directory.join(INDEX);
        if !path.exists() {
            return Ok(json!({ "manifests": [], "mediaType": media::INDEX, "schemaVersion": 2 }));
        }
        let wrong = || Error::new(Kind::LayoutInvalid, "not a valid OCI image index").at(path.display());
        let bytes = file::read_small(&path, "the layout's index", limits::LAYOUT_INDEX)?;
        let index: Value = serde_json::from_slice(&bytes).map_err(|e| wrong().got(e))?;
        match index.get("manifests").and_then(Value::as_array) {
            Some(_) => Ok(index),
            None => Err(wrong().got("no list of manifests")),
        }
    }

    /// What entries of `index.json` are said to be attached to, and their digests.
    fn attachments(&self) -> Result<Vec<(Digest, Digest)>> {
        let index = self.index()?;
        let entries = index.get("manifests").and_then(Value::as_array).into_iter().flatten();
        let digest = |value: Option<&Value>| value?.as_str()?.parse().ok();
        let attached = entries.filter_map(|entry| {
            let subject = entry.get("annotations")?.get(LayoutIndex::CONTAINERD_SUBJECT);
            Some((digest(subject)?, digest(entry.get("digest"))?))
        });
        Ok(attached.collect())
    }

    /// What each name in `index.json` leads to.
    fn names(&self) -> Result<HashMap<String, Digest>> {
        let index = self.index()?;
        let mut names = HashMap::new();
        for entry in index.get("manifests").and_then(Value::as_array).into_iter().flatten() {
            let digest = entry.get("digest").and_then(Value::as_str).and_then(|digest| digest.parse().ok());
            let Some(digest) = digest else { continue };
            for name in annotated_names(entry) {
                match names.insert(name.to_owned(), digest) {
                    Some(other) if other != digest => {
                        return Err(Error::new(
                            Kind::RefAmbiguous,
                            "one name leads to two images in the layout",
                        )
                        .at(self.directory.display())
                        .got(format_args!("{name}: {other} and {digest}")));
                    }
                    _ => {}
                }
            }
        }
        Ok(names)
    }

    fn write_names(&self, pending: &Pending) -> Result<()> {
        let mut index = self.index()?;
        let mut added = LayoutIndex::encoder();
        pending.names.iter().for_each(|(name, descriptor)| added.name(descriptor, name));
        for ((subject, _), (descriptor, artifact_type)) in &pending.attached {
            added.attach(descriptor, artifact_type, subject);
        }
        let entries = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(|| {
            Error::new(Kind::LayoutInvalid, "index.json names no manifests").at(self.directory.display())
        })?;
        let taken: HashSet<String> = pending.names.keys().map(Name::to_string).collect();
        entries.retain(|entry| !annotated_names(entry).any(|name| taken.contains(name)));
        entries.extend(added.entries());
        file::sync_directory(&self.directory.join("blobs/sha256"))?;
        write_whole(&self.directory, INDEX, index.to_string().as_bytes())
    }
}

/// The names that an entry of `index.json` goes by.
fn annotated_names(entry: &Value) -> impl Iterator<Item = &str> {
    let annotations = entry.get("annotations");
    [LayoutIndex::REF_NAME, LayoutIndex::CONTAINERD_NAME]
        .into_iter()
        .filter_map(move |key| annotations?.get(key)?.as_str())
}

/// Whether the directory is absent, empty, a layout, or the beginning of one.
fn check_directory(directory: &Path) -> Result<()> {
    let occupied = |what: &str| {
        Err(Error::new(Kind::OutputExists, what.to_owned())
            .at(directory.display())
            .hint("name a new or empty directory, or a layout"))
    };
    if directory.join(MARKER).exists() {
        return check_marker(directory);
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return occupied("not a directory"),
        Err(e) => return Err(Error::io("cannot read the directory", directory.display(), &e)),
    };
    let ours = |name: &str| name == "blobs" || name.starts_with('.') && name.ends_with(".partial");
    match entries.flatten().any(|entry| !ours(&entry.file_name().to_string_lossy())) {
        // Another import may have made a layout of it since the first look.
        true if directory.join(MARKER).exists() => check_marker(directory),
        true => occupied("the directory holds something else than an OCI layout"),
        false => Ok(()),
    }
}

#[async_trait]
impl Sink for LayoutSink {
    /// Makes a layout of the directory, and looks whether there is room.
    async fn ready(&self, bytes: u64) -> Result<()> {
        tokio::task::block_in_place(|| {
            self.prepare()?;
            file::check_room(&self.directory, bytes)
        })
    }

    /// Present means: the file is there and hashes to its digest. Size alone would take a damaged
    /// file for a good one.
    async fn exists(&self, expected: &Descriptor) -> Result<bool> {
        let path = blob_path(&self.directory, &expected.digest);
        let (digest, size) = (expected.digest, expected.size);
        tokio::task::spawn_blocking(move || holds(&path, digest, size)).await.map_err(|_| file::ended())?
    }

    async fn adopt(&self, expected: &Descriptor, extent: &Extent, meter: &Meter) -> Result<bool> {
        self.prepare()?;
        let partial = self.partial(expected)?;
        let path = blob_path(&self.directory, &expected.digest);
        let (expected, extent, meter) = (expected.clone(), extent.clone(), meter.clone());
        let taken = tokio::task::spawn_blocking(move || adopt(partial, &path, &expected, &extent, &meter));
        taken.await.map_err(|_| file::ended())?
    }

    async fn push(&self, expected: &Descriptor, mut content: Reader) -> Result<()> {
        self.prepare()?;
        let path = blob_path(&self.directory, &expected.digest);
        let mut partial = self.partial(expected)?;
        while let Some(piece) = content.chunk().await? {
            tokio::task::block_in_place(|| partial.write(&piece))?;
        }
        tokio::task::block_in_place(|| partial.finish(&path))
    }

    async fn tagged(&self, name: &Name) -> Result<Option<Digest>> {
        let mut state = self.state();
        if state.named.is_none() {
            state.named = Some(self.names()?);
        }
        Ok(state.named.as_ref().and_then(|named| named.get(&name.to_string()).copied()))
    }

    async fn tag(&self, name: &Name, document: &Descriptor, _: Bytes) -> Result<()> {
        self.state().pending.names.insert(name.clone(), document.clone());
        Ok(())
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referring> {
        let mut state = self.state();
        if state.attached.is_none() {
            state.attached = Some(self.attachments()?);
        }
        // What is not written yet is as good as written: it is in the same file as the names.
        let known = state.attached.iter().flatten().chain(state.pending.attached.keys());
        let attached = known.filter(|(known, _)| known == subject);
        Ok(Referring { digests: attached.map(|(_, one)| *one).collect(), by_tag: false })
    }

    async fn refer(&self, subject: &Digest, referrers: &[Kept]) -> Result<()> {
        let attached = &mut self.state().pending.attached;
        for kept in referrers {
            let role = kept.media_type.document_role().unwrap_or(Role::Manifest);
            let size = kept.bytes.len() as u64;
            let descriptor =
                Descriptor { role, media_type: kept.media_type.clone(), digest: kept.digest, size };
            attached.insert((*subject, kept.digest), (descriptor, kept.artifact_type().unwrap_or_default()));
        }
        Ok(())
    }

    async fn commit(&self) -> Result<()> {
        let pending = std::mem::take(&mut self.state().pending);
        if pending.names.is_empty() && pending.attached.is_empty() {
            return Ok(());
        }
        self.prepare()?;
        tokio::task::block_in_place(|| self.write_names(&pending))?;
        // Read anew when it is asked for: what counts is what stands in the file.
        let mut state = self.state();
        (state.named, state.attached) = (None, None);
        Ok(())
    }
}

fn check_marker(directory: &Path) -> Result<()> {
    let bytes = file::read_small(&directory.join(MARKER), "the layout's version", MARKER_MOST);
    check_marker_content(&directory.display().to_string(), bytes)
}

/// What `oci-layout` must say (image-layout.md, "oci-layout file").
fn check_marker_content(place: &str, bytes: Result<Vec<u8>>) -> Result<()> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let wrong = || Error::new(Kind::LayoutInvalid, "not an OCI image layout").at(place);
    let bytes = bytes.map_err(|e| {
        wrong().got(e.sentence()).hint("a layout has a file oci-layout, an index.json and blobs")
    })?;
    match serde_json::from_slice::<Marker>(&bytes) {
        Ok(marker) if marker.image_layout_version == "1.0.0" => Ok(()),
        Ok(marker) => Err(wrong()
            .got(format_args!("version {}", marker.image_layout_version))
            .expected("version 1.0.0")),
        Err(e) => Err(wrong().got(e)),
    }
}

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(digest.blob_path())
}

/// Opens a regular file that is not a link: a layout from elsewhere may not point out of itself.
fn open_blob(path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let blob = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match blob.metadata()?.is_file() {
        true => Ok(blob),
        false => Err(std::io::Error::other("not a regular file")),
    }
}

fn holds(path: &Path, digest: Digest, size: u64) -> Result<bool> {
    let failed = |e: &std::io::Error| Error::io("cannot read a blob", path.display(), e);
    let blob = match open_blob(path) {
        Ok(blob) => blob,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(&e)),
    };
    if blob.metadata().map_err(|e| failed(&e))?.len() != size {
        return Ok(false);
    }
    Ok(file::digest_of(&blob).map_err(|e| failed(&e))?.0 == digest)
}

/// Takes a blob over from another file, to its name only after it was verified; `false` where the file
/// systems do not do that.
fn adopt(
    partial: Partial,
    path: &Path,
    expected: &Descriptor,
    extent: &Extent,
    meter: &Meter,
) -> Result<bool> {
    let Some(from) = &extent.file else { return Ok(false) };
    let taken = file::take_over(from, extent.offset, expected.size, &partial.file, |done| meter.at(done));
    match taken.map_err(|e| partial.failed(&e))? {
        None => Ok(false),
        Some(digest) if digest == expected.digest => partial.finish(path).map(|()| true),
        Some(digest) => Err(file::not_what_lay_there(path.display(), digest, expected.digest)),
    }
}

/// A file under a temporary name; removed unless it was finished.
struct Partial {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Partial {
    fn create(path: PathBuf) -> Result<Self> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644))
            .map_err(|e| Error::io("cannot write", path.display(), &e.into()))?;
        Ok(Partial { path, file: File::from(file), finished: false })
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io("cannot write", self.path.display(), error)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.failed(&e))
    }

    fn finish(mut self, target: &Path) -> Result<()> {
        self.file
            .sync_all()
            .and_then(|()| std::fs::rename(&self.path, target))
            .map_err(|e| self.failed(&e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Replaces a small file as a whole.
fn write_whole(directory: &Path, name: &str, content: &[u8]) -> Result<()> {
    let mut partial = Partial::create(directory.join(format!(".{name}.partial")))?;
    partial.write(content)?;
    partial.finish(&directory.join(name))?;
    file::sync_directory(directory)
}
