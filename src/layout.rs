//! An OCI image layout in a directory, as a source and as a destination (image-layout.md).
//!
//! As a destination it is written so that no reader ever sees half of anything: blobs go to a
//! temporary file, reach the disk and are then named; `index.json` is replaced at the end, once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::content::{Extent, Kept, Meter, Reader, Referring, Sink, Source, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{
    Attached, Descriptor, Digest, Document, LayoutIndex, MediaType, Name, NamedDescriptor, Role, Tag,
    document_type, media, subject,
};

const MARKER: &str = "oci-layout";
const MARKER_CONTENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";

/// A layout that content is read from.
pub struct LayoutSource {
    directory: PathBuf,
    entries: Vec<NamedDescriptor>,
    naming: Naming,
    /// What is attached to what, once somebody asked.
    attached: OnceCell<HashMap<Digest, Vec<Attached>>>,
}

/// How images are found in a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Only under names with a repository: the layout may hold several images with equal tags.
    Full,
    /// Under a bare tag as well: the layout was named for this one image.
    BareTag,
}

impl LayoutSource {
    /// Opens a layout and reads its `index.json`.
    pub fn open(directory: &Path, naming: Naming) -> Result<Self> {
        check_marker(directory)?;
        let path = directory.join(INDEX);
        let bytes = file::read_small(&path, "the layout's index", limits::LAYOUT_INDEX)?;
        let LayoutIndex(entries) = LayoutIndex::parse(&bytes).map_err(|e| e.at(path.display()))?;
        Ok(LayoutSource { directory: directory.to_owned(), entries, naming, attached: OnceCell::new() })
    }

    /// A layout has no way to ask it: every entry is looked at.
    async fn read_attached(&self) -> Result<HashMap<Digest, Vec<Attached>>> {
        let mut found: HashMap<Digest, Vec<Attached>> = HashMap::new();
        let mut add = |subject, descriptor: &Descriptor, tag| {
            let attached = Attached { subject, descriptor: descriptor.clone(), tag };
            found.entry(subject).or_default().push(attached);
        };
        let documents = self
            .entries
            .iter()
            .filter(|entry| entry.descriptor.role.is_document() && entry.descriptor.size <= limits::DOCUMENT);
        for entry in documents {
            let descriptor = &entry.descriptor;
            let bytes = match self.fetch(descriptor).await {
                Ok(reader) => reader.into_bytes().await?,
                // Somebody else's entry, of which there is nothing.
                Err(e) if e.kind() == Kind::BlobMissing && entry.subject.is_none() => continue,
                Err(e) => return Err(e),
            };
            if let Some(subject) = serde_json::from_slice(&bytes).ok().and_then(|document| subject(&document))
            {
                add(subject, descriptor, None);
            }
            for tag in entry.names.iter().filter_map(|name| tag_of(name)) {
                let Some(subject) = tag.subject() else { continue };
                if tag != subject.fallback_tag() {
                    add(subject, descriptor, Some(tag));
                    continue;
                }
                // Some tools tag an image itself by its digest: that lists nothing.
                if descriptor.digest == subject || descriptor.role != Role::Index {
                    continue;
                }
                for child in Document::parse(descriptor, bytes.clone())?.children {
                    add(subject, &child.descriptor, None);
                }
            }
        }
        Ok(found)
    }

    fn find(&self, name: &Name) -> Result<&Descriptor> {
        let full = name.to_string();
        let short = format!("{}:{}", name.repository, name.tag);
        let named = |wanted: &str| -> Vec<&NamedDescriptor> {
            self.entries.iter().filter(|entry| entry.names.iter().any(|name| name == wanted)).collect()
        };
        let mut found = named(&full);
        if found.is_empty() {
            found = named(&short);
        }
        if found.is_empty() && self.naming == Naming::BareTag {
            found = named(name.tag.as_str());
            // An entry that also has a full name is another image with the same tag.
            found.retain(|entry| entry.names.iter().all(|other| other == name.tag.as_str()));
        }
        let Some(first) = found.first() else { return Err(self.not_found(name)) };
        match found.iter().find(|other| other.descriptor.digest != first.descriptor.digest) {
            Some(other) => Err(Error::new(Kind::RefAmbiguous, "one name leads to two images in the layout")
                .at(self.directory.display())
                .got(format_args!("{full}: {} and {}", first.descriptor.digest, other.descriptor.digest))),
            None => Ok(&first.descriptor),
        }
    }

    /// A document by its digest; it need not be listed.
    async fn document(&self, digest: &Digest) -> Result<(Descriptor, Bytes)> {
        let path = blob_path(&self.directory, digest);
        let absent = |e: std::io::Error| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Io };
            Error::new(kind, "no document of that digest in the layout").at(path.display()).got(e)
        };
        let size = open_blob(&path).and_then(|blob| blob.metadata()).map_err(absent)?.len();
        let described = |media_type: MediaType, role| Descriptor { role, media_type, digest: *digest, size };
        check_size(digest, size)?;
        let blob = described(MediaType::new(""), Role::Manifest);
        let bytes = self.fetch(&blob).await?.into_bytes().await?;
        let media_type = document_type(&bytes).unwrap_or_else(|| MediaType::new(""));
        let role = media_type.document_role().ok_or_else(|| no_document(digest, &media_type))?;
        Ok((described(media_type, role), bytes))
    }

    fn not_found(&self, name: &Name) -> Error {
        let names: Vec<_> = self.entries.iter().flat_map(|entry| &entry.names).take(8).cloned().collect();
        Error::new(Kind::NotFound, "no image of that name in the layout")
            .at(self.directory.display())
            .got(if names.is_empty() { "no names".to_owned() } else { names.join(", ") })
            .expected(match self.naming {
                Naming::Full => name.to_string(),
                Naming::BareTag => format!("{name} or {}", name.tag),
            })
            .hint(format_args!("skopeo copy --all … oci:{}:{name} puts it there", self.directory.display()))
    }
}

#[async_trait]
impl Source for LayoutSource {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        if let Some(digest) = digest {
            return self.document(digest).await;
        }
        let descriptor = self.find(name)?.clone();
        if !descriptor.role.is_document() {
            return Err(no_document(name, &descriptor.media_type));
        }
        check_size(name, descriptor.size)?;
        let bytes = self.fetch(&descriptor).await?.into_bytes().await?;
        Ok((descriptor, bytes))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let path = blob_path(&self.directory, &expected.digest);
        let place = path.display().to_string();
        let blob = match open_blob(&path) {
            Ok(blob) => blob,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(Kind::BlobMissing, "the layout lacks a blob that its documents name")
                    .at(place));
            }
            Err(e) => return Err(Error::io("cannot read a blob", place, &e)),
        };
        let size = blob.metadata().map_err(|e| Error::io("cannot read a blob", &place, &e))?.len();
        if size != expected.size {
            return Err(Error::new(Kind::SizeMismatch, "a blob is not as long as its descriptor says")
                .at(place)
                .got(format_args!("{size} bytes"))
                .expected(format_args!("{} bytes", expected.size)));
        }
        let pieces = file::stream(Arc::new(blob), place.clone(), from, size.saturating_sub(from));
        Ok(Unverified::new(place, pieces))
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let attached = self.attached.get_or_try_init(|| self.read_attached()).await?;
        Ok(attached.get(subject).cloned().unwrap_or_default())
    }
}

fn no_document(place: impl std::fmt::Display, media_type: &MediaType) -> Error {
    Error::new(Kind::DocumentUnsupported, "neither an index nor a manifest").at(place).got(media_type)
}

fn check_size(place: impl std::fmt::Display, size: u64) -> Result<()> {
    match size > limits::DOCUMENT {
        true => Err(Error::new(Kind::LimitExceeded, "a document is too large")
            .at(place)
            .got(format_args!("{size} bytes"))
            .expected(format_args!("at most {} bytes", limits::DOCUMENT))),
        false => Ok(()),
    }
}

/// The tag of a full name, or a bare one.
fn tag_of(name: &str) -> Option<Tag> {
    name.rsplit([':', '/']).next()?.parse().ok()
}

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
        let attached = state.attached.iter().flatten().filter(|(known, _)| known == subject);
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
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let path = directory.join(MARKER);
    let wrong = || Error::new(Kind::LayoutInvalid, "not an OCI image layout").at(directory.display());
    let bytes = file::read_small(&path, "the layout's version", 4096)
        .map_err(|e| wrong().got(e).hint("a layout is a directory with oci-layout, index.json and blobs"))?;
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
