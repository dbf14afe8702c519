//! Reading a bundle, in the order that trust asks for. The state is in the type: only what
//! `Bundle<Verified>` hands out can reach a destination.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::contents::{Contents, Entry, Part, statement_header_offset};
use super::draft::encode_index;
use super::statement::Statement;
use super::{INDEX_PATH, LAYOUT_PATH, OCI_LAYOUT, STATEMENT_PATH, SUMS_PATH, signature_path, sums, tar};
use crate::content::{Meter, Source, Stage, Unverified, Watch, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, Hasher, MediaType, Name};
use crate::plan::{Plan, Selection, Target, Want, resolve};
use crate::release::Moment;
use crate::trust::{KeyId, Keyring, Signature, Signers};

/// A bundle file, opened once. `S` is what is known of it.
pub struct Bundle<S> {
    file: Arc<File>,
    place: String,
    length: u64,
    state: S,
}

/// Sums and signatures were read; neither was parsed or believed.
pub struct Sealed {
    sums: Vec<u8>,
    embedded: usize,
    signatures: Vec<(KeyId, Signature)>,
}

/// The signatures were checked, then sums and statement parsed. The contents were not read yet.
pub struct Trusted {
    signers: Signers,
    statement: Statement,
    contents: Arc<Contents>,
}

/// Every byte was read and is what the signed sums say; the documents are complete and closed.
pub struct Verified(Trusted);

impl Bundle<Sealed> {
    /// Opens a bundle and reads its sums and signatures: those inside, and those beside it
    /// (`<bundle>.<key-id>.sig`).
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let failed = |e: &std::io::Error| {
            let error = Error::io("cannot open the bundle", &place, e);
            if e.kind() == std::io::ErrorKind::NotFound { error.hint("check the path") } else { error }
        };
        let regular = |facts: &std::fs::Metadata| match facts.is_file() {
            true => Ok(facts.len()),
            false => Err(Error::new(Kind::Io, "the bundle is not a regular file")
                .at(&place)
                .hint("name the bundle's file; pipes are not read yet")),
        };
        // Looked at before it is opened: opening a pipe would wait for somebody to write.
        regular(&std::fs::metadata(path).map_err(|e| failed(&e))?)?;
        let file = File::open(path).map_err(|e| failed(&e))?;
        let length = regular(&file.metadata().map_err(|e| failed(&e))?)?;
        let mut head = Head { file: &file, place: &place, length, offset: 0 };
        let sums = head.sums()?;
        let mut signatures = head.signatures()?;
        let embedded = signatures.len();
        signatures.extend(detached_signatures(path)?);
        if signatures.len() > limits::SIGNATURES {
            return Err(Error::new(Kind::LimitExceeded, "too many signatures")
                .at(&place)
                .expected(format_args!("at most {}", limits::SIGNATURES)));
        }
        Ok(Bundle { file: Arc::new(file), place, length, state: Sealed { sums, embedded, signatures } })
    }

    /// Checks the signatures against the keyring; only then parses sums and statement, and
    /// requires all that follows from them: the bundle's length, its layout, its index.
    pub fn trust(self, keyring: &Keyring, now: Moment) -> Result<Bundle<Trusted>> {
        let Bundle { file, place, length, state } = self;
        let at = |e: Error| e.at(&place);
        let signers = keyring.signers(&state.sums, &state.signatures).map_err(at)?;
        let listed = sums::parse(&state.sums).map_err(|e| e.inside(&place))?;
        let (statement, statement_size) = read_statement(&file, &place, length, &state, &listed)?;
        check_expiry(&statement, now).map_err(at)?;
        let parts = parts(&listed, &statement, statement_size).map_err(|e| e.inside(&place))?;
        let contents = Contents::new(state.sums.len() as u64, state.embedded, parts).map_err(at)?;
        check_length(length, contents.total).map_err(at)?;
        check_layout_and_index(&contents, &statement).map_err(|e| e.inside(&place))?;
        let state = Trusted { signers, statement, contents: Arc::new(contents) };
        Ok(Bundle { file, place, length, state })
    }
}

/// Reads entries before anything is trusted: nothing is believed but what must be equal.
struct Head<'a> {
    file: &'a File,
    place: &'a str,
    length: u64,
    offset: u64,
}

impl Head<'_> {
    fn sums(&mut self) -> Result<Vec<u8>> {
        if self.length < tar::BLOCK {
            return Err(Error::new(Kind::Truncated, "too short for a bundle")
                .at(self.place)
                .got(format_args!("{} bytes", self.length))
                .hint("check that this is the right file and that the copy is complete"));
        }
        let header = self.header()?;
        let not_a_bundle = || {
            let (got, hint) = guess(&header);
            Error::new(Kind::TarHeader, "not a sealift bundle")
                .at(self.place)
                .got(got)
                .expected(SUMS_PATH)
                .hint(hint)
        };
        if tar::stated_path(&header) != Some(SUMS_PATH) {
            return Err(not_a_bundle());
        }
        let size = tar::stated_size(&header).ok_or_else(not_a_bundle)?;
        if size > limits::SUMS {
            return Err(Error::new(Kind::LimitExceeded, "the sums are too long")
                .at(self.place)
                .got(format_args!("{size} bytes"))
                .expected(format_args!("at most {} bytes", limits::SUMS)));
        }
        self.entry(&header, SUMS_PATH, size)
    }

    fn signatures(&mut self) -> Result<Vec<(KeyId, Signature)>> {
        let mut signatures: Vec<(KeyId, Signature)> = Vec::new();
        loop {
            let header = self.header()?;
            let path = tar::stated_path(&header).unwrap_or_default().to_owned();
            if path == STATEMENT_PATH {
                return Ok(signatures);
            }
            let (place, offset) = (self.place, self.offset);
            let unexpected = |expected: &str| {
                Error::new(Kind::TarOrder, "an entry where another must be")
                    .at(place)
                    .got(format_args!("{path:?} at byte {offset}"))
                    .expected(expected)
            };
            let hex = path.strip_prefix("bundle/signatures/").and_then(|name| name.strip_suffix(".sig"));
            let id =
                hex.and_then(KeyId::from_hex).ok_or_else(|| unexpected("a signature or the statement"))?;
            if signatures.last().is_some_and(|(last, _)| *last >= id) {
                return Err(unexpected("signatures sorted by key id, each once"));
            }
            if signatures.len() >= limits::SIGNATURES {
                return Err(unexpected("at most 16 signatures"));
            }
            let bytes = self.entry(&header, &signature_path(&id), 64)?;
            let signature = bytes.try_into().map_err(|_| unexpected("64 bytes"))?;
            signatures.push((id, signature));
        }
    }

    fn header(&self) -> Result<tar::Header> {
        let mut header = [0; tar::BLOCK as usize];
        read_exactly(self.file, self.place, &mut header, self.offset)?;
        Ok(header)
    }

    /// The content of the entry at the current offset, whose header must be the one for this path
    /// and size; moves on behind it.
    fn entry(&mut self, header: &tar::Header, path: &str, size: u64) -> Result<Vec<u8>> {
        require_header(header, path, size, self.offset).map_err(|e| e.at(self.place))?;
        let padded = tar::padded(size).unwrap_or(u64::MAX);
        let start = self.offset + tar::BLOCK;
        if padded > self.length.saturating_sub(start) {
            return Err(truncated(self.place, self.length));
        }
        let mut bytes = vec![0; padded as usize];
        read_exactly(self.file, self.place, &mut bytes, start)?;
        let padding = bytes.split_off(size as usize);
        require_zeros(&padding, path, start + size).map_err(|e| e.at(self.place))?;
        self.offset = start + padded;
        Ok(bytes)
    }
}

/// What a file is instead of a bundle, and what to do about it.
fn guess(header: &tar::Header) -> (&'static str, &'static str) {
    let name = tar::stated_path(header).unwrap_or_default();
    match header {
        [0x1f, 0x8b, ..] => ("a gzip file", "decompress it first: gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("a zstd file", "decompress it first: zstd -d"),
        _ if header.get(257..262) == Some(b"ustar") && !name.is_empty() => (
            "a tar file that begins with something else",
            "bundles are made by sealift export, and are not to be repacked",
        ),
        _ => ("no tar header", "check that this is the right file and that the copy is complete"),
    }
}

fn detached_signatures(path: &Path) -> Result<Vec<(KeyId, Signature)>> {
    let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else { return Ok(Vec::new()) };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut prefix = name.as_bytes().to_vec();
    prefix.push(b'.');
    let mut found = Vec::new();
    // A directory that may not be listed has no detached signatures to offer; the embedded ones count.
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let middle =
            name.as_bytes().strip_prefix(prefix.as_slice()).and_then(|rest| rest.strip_suffix(b".sig"));
        let id = middle.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(KeyId::from_hex);
        let Some(id) = id else { continue };
        if found.len() > limits::SIGNATURES {
            break; // one too many is enough to refuse them
        }
        let place = entry.path();
        let bytes = file::read_small(&place, "a detached signature", limits::KEY_FILE)?;
        let count = bytes.len();
        let signature = bytes.try_into().map_err(|_| {
            Error::new(Kind::SignatureFormat, "a detached signature is not one")
                .at(place.display())
                .got(format_args!("{count} bytes"))
                .expected("64 raw bytes")
                .hint("openssl pkeyutl -sign -rawin writes them; base64 and PEM are not accepted")
        })?;
        found.push((id, signature));
    }
    found.sort();
    Ok(found)
}

fn read_statement(
    file: &File,
    place: &str,
    length: u64,
    sealed: &Sealed,
    listed: &[(Digest, &str)],
) -> Result<(Statement, u64)> {
    let offset = statement_header_offset(sealed.sums.len() as u64, sealed.embedded)?;
    let mut head = Head { file, place, length, offset };
    let header = head.header()?;
    let size = tar::stated_size(&header).filter(|size| *size <= limits::STATEMENT).ok_or_else(|| {
        Error::new(Kind::LimitExceeded, "the statement is too long")
            .at(place)
            .expected(format_args!("at most {} bytes", limits::STATEMENT))
    })?;
    let bytes = head.entry(&header, STATEMENT_PATH, size)?;
    let signed = listed.first().map(|(digest, _)| *digest);
    if signed != Some(Digest::of(&bytes)) {
        return Err(mismatch(STATEMENT_PATH, Digest::of(&bytes), signed).at(place));
    }
    Ok((Statement::parse(&bytes).map_err(|e| e.inside(place))?, size))
}

/// Joins the sums (digests) with the statement (sizes): the two must list the same entries.
fn parts(
    listed: &[(Digest, &str)],
    statement: &Statement,
    statement_size: u64,
) -> Result<Vec<(Part, Digest, u64)>> {
    let wrong = |what: &str| Error::new(Kind::TarUnexpectedEntry, what.to_owned());
    let rest = listed.get(1..).unwrap_or_default();
    if rest.len() != statement.entries.len() {
        return Err(wrong("sums and statement list different numbers of entries")
            .got(statement.entries.len())
            .expected(rest.len()));
    }
    let first = listed.first().map(|(digest, _)| (Part::Statement, *digest, statement_size));
    let rest = rest.iter().zip(&statement.entries).enumerate().map(|(number, ((digest, path), entry))| {
        if *path != entry.path {
            return Err(wrong("sums and statement list different entries").got(&entry.path).expected(path));
        }
        let part = match (number, *path) {
            (0, LAYOUT_PATH) => Part::Layout,
            (1, INDEX_PATH) => Part::Index,
            (0 | 1, _) => return Err(wrong("oci-layout and index.json must come first").got(path)),
            // The path of a blob is its digest: a list that says otherwise contradicts itself.
            _ if *path == digest.blob_path() => Part::Blob,
            _ => return Err(wrong("an entry that does not belong into a bundle").got(path)),
        };
        Ok((part, *digest, entry.size))
    });
    first.map(Ok).into_iter().chain(rest).collect()
}

fn check_expiry(statement: &Statement, now: Moment) -> Result<()> {
    match statement.expires {
        Some(expires) if expires <= now => Err(Error::new(Kind::Expired, "the bundle has expired")
            .got(format_args!("now {now}"))
            .expected(format_args!("before {expires}"))
            .hint("get a newer bundle; if this machine's clock is wrong, set it")),
        _ => Ok(()),
    }
}

fn check_length(length: u64, total: u64) -> Result<()> {
    let (kind, what, hint) = match length.cmp(&total) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => {
            (Kind::Truncated, "the bundle is cut short", "the copy is not complete: copy it again")
        }
        std::cmp::Ordering::Greater => (
            Kind::TrailingData,
            "something follows the end of the bundle",
            "get the bundle again from its origin",
        ),
    };
    Err(Error::new(kind, what)
        .got(format_args!("{length} bytes"))
        .expected(format_args!("{total} bytes"))
        .hint(hint))
}

/// `oci-layout` is a constant and `index.json` follows from the statement: neither is ever parsed.
fn check_layout_and_index(contents: &Contents, statement: &Statement) -> Result<()> {
    let top = |number: usize| {
        let image = statement.images.get(number)?;
        Some(contents.blob(&image.digest)?.1.size)
    };
    if let Some(image) = statement.images.iter().find(|image| image.tags.first() != Some(&image.source.tag)) {
        return Err(Error::new(Kind::StatementInvalid, "an image's first tag is not that of its name")
            .got(image.tags.first().map_or("no tag".to_owned(), ToString::to_string))
            .expected(&image.source.tag));
    }
    let index = encode_index(&statement.images, top)?;
    for (part, bytes) in [(Part::Layout, OCI_LAYOUT), (Part::Index, index.as_slice())] {
        let entry = contents.entries().iter().find(|entry| entry.part == part);
        let signed = entry.map(|entry| entry.digest);
        if signed != Some(Digest::of(bytes)) {
            let path = if part == Part::Layout { LAYOUT_PATH } else { INDEX_PATH };
            return Err(
                Error::new(Kind::LayoutInvalid, "an entry is not what follows from the statement").at(path)
            );
        }
    }
    Ok(())
}

impl Bundle<Trusted> {
    /// Who signed.
    pub fn signers(&self) -> &Signers {
        &self.state.signers
    }

    /// What the signed statement says.
    pub fn statement(&self) -> &Statement {
        &self.state.statement
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads every byte: each header must be the expected one, each content hash to its digest,
    /// padding and end be zeros; and the documents must name all blobs, in this order, and no others.
    pub async fn verify(self, threads: usize, watch: Arc<dyn Watch>) -> Result<Bundle<Verified>> {
        let whole = Arc::new(self);
        let (bundle, also) = (whole.clone(), watch.clone());
        let hashed = tokio::task::spawn_blocking(move || bundle.check_bytes(threads, also)).await;
        hashed.map_err(|_| file::ended())??;
        whole.check_graph().await?;
        let bundle = Arc::into_inner(whole).ok_or_else(file::ended)?;
        let Bundle { file, place, length, state } = bundle;
        Ok(Bundle { file, place, length, state: Verified(state) })
    }

    fn check_bytes(&self, threads: usize, watch: Arc<dyn Watch>) -> Result<()> {
        let entries = self.state.contents.entries();
        let payload = entries.iter().map(|entry| entry.size).sum();
        watch.stage(Stage { verb: "verifying", parts: vec![(self.place.clone(), payload)] });
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let first: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    let mut buffer = vec![0; file::PIECE];
                    while !failed.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(entry) = entries.get(number) else { break };
                        let meter = Meter::new(watch.clone(), 0);
                        if let Err(error) = self.check_entry(entry, &mut buffer, &meter) {
                            failed.store(true, Ordering::Relaxed);
                            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                            // Of several, the one nearest to the start: the same answer every time.
                            if first.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                                *first = Some((number, error));
                            }
                        }
                    }
                });
            }
        });
        if let Some((_, error)) = first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.at(&self.place));
        }
        self.check_trailer().map_err(|e| e.at(&self.place))
    }

    fn check_entry(&self, entry: &Entry, buffer: &mut [u8], meter: &Meter) -> Result<()> {
        let path = entry.path();
        let mut header = [0; tar::BLOCK as usize];
        self.read(&mut header, entry.header_offset())?;
        require_header(&header, &path, entry.size, entry.header_offset())?;
        let mut hasher = Hasher::default();
        let mut done = 0;
        while done < entry.size {
            let want = (entry.size - done).min(buffer.len() as u64) as usize;
            let piece = buffer.get_mut(..want).unwrap_or_default();
            self.read(piece, entry.offset + done)?;
            hasher.update(piece);
            done += want as u64;
            meter.at(done);
        }
        let digest = hasher.finish();
        if digest != entry.digest {
            return Err(self.damaged(entry, &path, digest));
        }
        let padding = tar::padded(entry.size).unwrap_or(entry.size) - entry.size;
        let padding = buffer.get_mut(..padding as usize).unwrap_or_default();
        self.read(padding, entry.offset + entry.size)?;
        require_zeros(padding, &path, entry.offset + entry.size)
    }

    fn damaged(&self, entry: &Entry, path: &str, digest: Digest) -> Error {
        let images = self.state.statement.images.iter();
        let named = images.filter(|image| image.digest == entry.digest).map(|image| image.label()).next();
        let path = named.map_or(path.to_owned(), |label| format!("{path} ({label})"));
        let last = (entry.offset + entry.size).saturating_sub(1);
        mismatch(&format!("{path}, bytes {}–{last}", entry.offset), digest, Some(entry.digest))
    }

    fn check_trailer(&self) -> Result<()> {
        let mut trailer = [0; tar::TRAILER as usize];
        let offset = self.state.contents.total - tar::TRAILER;
        self.read(&mut trailer, offset)?;
        require_zeros(&trailer, "the end of the archive", offset)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        read_exactly(&self.file, &self.place, buffer, offset)
    }

    /// Plans the bundle's images anew from its own documents. The plan must say what the statement
    /// says and list what the bundle holds: nothing missing, nothing more, in the same order.
    async fn check_graph(&self) -> Result<()> {
        let images = &self.state.statement.images;
        let contents = &self.state.contents;
        let blobs: Arc<dyn Source> = Arc::new(self.blobs());
        let wants = self.wants()?;
        let sources = vec![blobs; wants.len()];
        let plan = resolve(&wants, &sources).await.map_err(|e| e.at(&self.place))?;
        if let Some((planned, stated)) = plan.images.iter().zip(images).find(|(a, b)| a != b) {
            return Err(Error::new(
                Kind::StatementInvalid,
                "the statement says something else than the image's documents",
            )
            .at(&self.place)
            .got(stated.label())
            .expected(serde_json::to_string(planned).unwrap_or_default()));
        }
        let mut planned = plan.nodes.iter().map(|node| (node.descriptor.digest, node.descriptor.size));
        for entry in contents.blobs() {
            if planned.next() != Some((entry.digest, entry.size)) {
                return Err(self.misplaced(&plan, entry));
            }
        }
        match planned.next() {
            Some((digest, _)) => {
                Err(Error::new(Kind::BlobMissing, "an image needs a blob that the bundle does not hold")
                    .at(&self.place)
                    .got(digest))
            }
            None => Ok(()),
        }
    }

    fn misplaced(&self, plan: &Plan, entry: &Entry) -> Error {
        let known = plan.nodes.iter().any(|node| node.descriptor.digest == entry.digest);
        match known {
            true => Error::new(Kind::TarOrder, "a blob is not in its place, or not of its size"),
            false => Error::new(Kind::BlobUnreferenced, "a blob that no image of the bundle needs"),
        }
        .at(&self.place)
        .got(entry.path())
    }

    /// The wants that ask for everything that the statement names.
    pub fn wants(&self) -> Result<Vec<Want>> {
        let images = self.state.statement.images.iter();
        images
            .map(|image| {
                Ok(Want {
                    image: image.name.clone(),
                    variant: image.variant.clone(),
                    source: image.source.clone(),
                    tags: image.tags.clone(),
                    target: Target::Known(self.top(image.digest, &image.media_type)?),
                    selection: Selection { without: image.omitted.clone(), only: None },
                })
            })
            .collect()
    }

    fn top(&self, digest: Digest, media_type: &str) -> Result<Descriptor> {
        let media_type = MediaType::new(media_type);
        let role = media_type.document_role();
        let entry = self.state.contents.blob(&digest).map(|(_, entry)| entry);
        match (role, entry) {
            (Some(role), Some(entry)) => Ok(Descriptor { role, media_type, digest, size: entry.size }),
            (None, _) => Err(Error::new(Kind::DocumentUnsupported, "an image is neither index nor manifest")
                .at(&self.place)
                .got(media_type)),
            (_, None) => Err(Error::new(Kind::BlobMissing, "an image's top document is not in the bundle")
                .at(&self.place)
                .got(digest)),
        }
    }

    fn blobs(&self) -> Blobs {
        Blobs { file: self.file.clone(), place: self.place.clone(), contents: self.state.contents.clone() }
    }
}

impl Bundle<Verified> {
    /// Who signed.
    pub fn signers(&self) -> &Signers {
        &self.state.0.signers
    }

    /// What the signed statement says.
    pub fn statement(&self) -> &Statement {
        &self.state.0.statement
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The content.
    pub fn source(&self) -> Arc<dyn Source> {
        let contents = self.state.0.contents.clone();
        Arc::new(Blobs { file: self.file.clone(), place: self.place.clone(), contents })
    }
}

/// The blobs of a bundle, read by offset.
struct Blobs {
    file: Arc<File>,
    place: String,
    contents: Arc<Contents>,
}

#[async_trait]
impl Source for Blobs {
    async fn resolve(&self, name: &Name) -> Result<(Descriptor, Bytes)> {
        // Names of a bundle are those of its statement, which wants carry as known descriptors.
        Err(Error::new(Kind::NotFound, "a bundle is not asked by name").at(name))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let entry = self.contents.blob(&expected.digest).map(|(_, entry)| entry);
        let entry = entry.filter(|entry| entry.size == expected.size).ok_or_else(|| {
            Error::new(Kind::BlobMissing, "the bundle does not hold a blob of this digest and size")
                .at(&self.place)
                .got(format_args!("{} of {} bytes", expected.digest, expected.size))
        })?;
        let (offset, left) = (entry.offset.saturating_add(from), entry.size.saturating_sub(from));
        let pieces = file::stream(self.file.clone(), self.place.clone(), offset, left);
        Ok(Unverified::new(format_args!("{}: {}", self.place, entry.path()), pieces))
    }
}

fn read_exactly(file: &File, place: &str, buffer: &mut [u8], offset: u64) -> Result<()> {
    file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => truncated(place, offset),
        _ => Error::io("cannot read the bundle", format_args!("{place} at byte {offset}"), &e)
            .hint("the medium may be damaged: copy the bundle to another one and verify it there"),
    })
}

fn truncated(place: &str, offset: u64) -> Error {
    Error::new(Kind::Truncated, "the bundle is cut short")
        .at(place)
        .got(format_args!("nothing behind byte {offset}"))
        .hint("the copy is not complete: copy it again")
}

fn require_header(header: &tar::Header, path: &str, size: u64, offset: u64) -> Result<()> {
    if *header == tar::header(path, size)? {
        return Ok(());
    }
    Err(Error::new(Kind::TarHeader, "a tar header is not the one that must be there")
        .got(format_args!("another one at byte {offset}"))
        .expected(format_args!("that of {path}, {size} bytes"))
        .hint("damaged or altered: get the bundle again from its origin"))
}

fn require_zeros(bytes: &[u8], place: &str, offset: u64) -> Result<()> {
    match bytes.iter().position(|&b| b != 0) {
        None => Ok(()),
        Some(at) => Err(Error::new(Kind::TarHeader, "padding that is not zero")
            .got(format_args!("behind {place}, at byte {}", offset + at as u64))
            .hint("damaged or altered: get the bundle again from its origin")),
    }
}

fn mismatch(what: &str, got: Digest, expected: Option<Digest>) -> Error {
    Error::new(Kind::DigestMismatch, format!("{what} is damaged"))
        .got(got)
        .expected(expected.map_or("a signed digest".to_owned(), |digest| digest.to_string()))
        .hint("the copy or the medium is bad: copy the bundle again, then verify it")
}
