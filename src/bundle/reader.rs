//! Reading a bundle, in the order that trust asks for. The state is in the type: only what
//! `Bundle<Verified>` hands out can reach a destination.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::sync::OnceCell;

use super::contents::{Contents, Entry, Part, statement_header_offset};
use super::draft::encode_index;
use super::frames::{Seekable, is_zstd};
use super::head::{
    Head, detached_signatures, mismatch, read_exactly, require_header, require_zeros, unreadable,
};
use super::packed;
use super::statement::Statement;
use super::{INDEX_PATH, LAYOUT_PATH, OCI_LAYOUT, STATEMENT_PATH, sums, tar};
use crate::content::file::ReadAt;
use crate::content::{Extent, Meter, Source, Stage, Unverified, Watch, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Attached, Descriptor, Digest, Hasher, MediaType, Name};
use crate::plan::{Attachments, Image, Plan, Selection, Target, Want, resolve};
use crate::release::Moment;
use crate::trust::{Bearer, Claim, KeyId, Keyring, Signature, Signers};

/// A bundle file, opened once. `S` is what is known of it.
pub struct Bundle<S> {
    pub(super) medium: Medium,
    pub(super) place: String,
    pub(super) state: S,
}

/// What a bundle is read from.
#[derive(Clone)]
pub struct Medium {
    /// The bundle's bytes.
    pub bytes: Arc<dyn ReadAt>,
    /// The file that they lie in as they are; `None` for a compressed bundle and for a pipe.
    pub file: Option<Arc<File>>,
    /// How many there are; `None` for a pipe, which tells at its end.
    pub length: Option<u64>,
    /// How many may read at once.
    pub readers: usize,
    /// Bytes of the first frame of a compressed bundle.
    pub frame: Option<u64>,
}

impl Medium {
    /// A file: the bundle itself, or its compressed form.
    fn of(file: File, length: u64, place: &str) -> Result<Self> {
        let mut first = [0; 4];
        let count = file::read_at_most(&file, &mut first, 0).map_err(|e| unreadable(place, 0, &e))?;
        if !is_zstd(first.get(..count).unwrap_or_default()) {
            let file = Arc::new(file);
            return Ok(Medium {
                bytes: file.clone(),
                file: Some(file),
                length: Some(length),
                readers: usize::MAX,
                frame: None,
            });
        }
        let readers = packed::readers();
        let opened = Seekable::open(Arc::new(file), readers);
        let bytes = opened.map_err(|e| Error::io("cannot read the bundle", place, &e))?;
        let (length, frame) = (Some(bytes.len()), Some(bytes.head()));
        Ok(Medium { bytes: Arc::new(bytes), length, readers, frame, file: None })
    }
}

/// Sums and signatures were read; neither was parsed or believed.
#[derive(Clone)]
pub struct Sealed {
    sums: Vec<u8>,
    embedded: usize,
    claims: Vec<Claim>,
}

impl Sealed {
    /// The text that is signed.
    pub fn sums(&self) -> &[u8] {
        &self.sums
    }

    /// The same, for showing it to somebody before any signature was checked.
    ///
    /// # Errors
    /// `SumsFormat` where it is something else than sums.
    pub fn checked_sums(&self) -> Result<&str> {
        sums::parse(&self.sums)?;
        std::str::from_utf8(&self.sums).map_err(|_| Error::new(Kind::SumsFormat, "not ASCII text"))
    }

    /// Those of the claims that stand in the bundle itself.
    pub fn embedded(&self) -> &[Claim] {
        self.claims.get(..self.embedded).unwrap_or_default()
    }

    /// Who is said to have signed it.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }
}

/// The signatures were checked, then sums and statement parsed. The contents were not read yet.
pub struct Trusted {
    pub(super) signers: Signers,
    pub(super) statement: Statement,
    pub(super) contents: Arc<Contents>,
    identity: Digest,
    /// Bytes of the sums.
    pub(super) sums: u64,
    /// The signatures that stand under the ids of keys that counted.
    pub(super) counted: Vec<(KeyId, Signature)>,
    /// Set once the documents were found to say what the statement says: they are named by their digests,
    /// so whatever is read later says the same or is refused.
    graph: OnceCell<()>,
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
                .hint("name the bundle's file, or - for standard input")),
        };
        // Looked at before it is opened: opening a pipe would wait for somebody to write.
        regular(&std::fs::metadata(path).map_err(|e| failed(&e))?)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(&e.into()))?);
        let length = regular(&file.metadata().map_err(|e| failed(&e))?)?;
        let medium = Medium::of(file, length, &place)?;
        Bundle::sealed(medium, place, || detached_signatures(path))
    }

    /// Reads sums and signatures from wherever they are; `detached` finds those beside it.
    pub(super) fn sealed(
        medium: Medium,
        place: String,
        detached: impl FnOnce() -> Result<Vec<Claim>>,
    ) -> Result<Self> {
        let mut head = Head { file: &*medium.bytes, place: &place, length: medium.length, offset: 0 };
        let sums = head.sums()?;
        let mut claims = head.signatures()?;
        let embedded = claims.len();
        claims.extend(detached()?);
        if claims.len() > limits::SIGNATURES {
            return Err(Error::new(Kind::LimitExceeded, "too many signatures")
                .at(&place)
                .expected(format_args!("at most {}", limits::SIGNATURES)));
        }
        Ok(Bundle { medium, place, state: Sealed { sums, embedded, claims } })
    }

    /// What is signed, and by whom it claims to be.
    pub fn seal(&self) -> &Sealed {
        &self.state
    }

    /// With one more signature.
    pub fn signed(mut self, claim: Claim) -> Self {
        self.state.claims.push(claim);
        self
    }

    /// Checks the signatures against the keyring; only then parses sums and statement, and
    /// requires all that follows from them: the bundle's length, its layout, its index.
    pub fn trust(self, keyring: &Keyring, now: Moment) -> Result<Bundle<Trusted>> {
        let Bundle { medium, place, state } = self;
        let at = |e: Error| e.at(&place);
        let proven = keyring.prove(&state.sums, &state.claims, now).map_err(at)?;
        let listed = sums::parse(&state.sums).map_err(|e| e.inside(&place))?;
        let (statement, statement_size) = read_statement(&medium, &place, &state, &listed)?;
        // A signed time is in the past, whatever the clock says.
        let now = now.max(statement.created);
        let images: Vec<_> = statement.images.iter().map(|image| image.source.clone()).collect();
        let bearer = Bearer { name: &statement.name, tier: statement.tier, images: &images };
        let signers = keyring.authorise(&proven, &bearer, now).map_err(at)?;
        keyring.check_expiry(statement.expires, now).map_err(at)?;
        let parts = parts(&listed, &statement, statement_size).map_err(|e| e.inside(&place))?;
        let contents = Contents::new(state.sums.len() as u64, state.embedded, parts).map_err(at)?;
        let identity = Digest::of(&state.sums);
        if let Some(length) = medium.length {
            check_length(length, contents.total).map_err(at)?;
        }
        check_frame(medium.frame, &contents).map_err(at)?;
        check_layout_and_index(&contents, &statement).map_err(|e| e.inside(&place))?;
        let (contents, graph) = (Arc::new(contents), OnceCell::new());
        let sums = state.sums.len() as u64;
        let counts = |claim: &&Claim| signers.iter().any(|signer| signer.id == claim.id);
        let counted = state.claims.iter().filter(counts).map(|claim| (claim.id, claim.signature));
        // The same key may have signed here and beside it: the same signature.
        let counted = counted.collect::<BTreeMap<_, _>>().into_iter().collect();
        let state = Trusted { signers, statement, contents, identity, sums, counted, graph };
        Ok(Bundle { medium, place, state })
    }
}

fn read_statement(
    medium: &Medium,
    place: &str,
    sealed: &Sealed,
    listed: &[(Digest, &str)],
) -> Result<(Statement, u64)> {
    let offset = statement_header_offset(sealed.sums.len() as u64, sealed.embedded)?;
    let mut head = Head { file: &*medium.bytes, place, length: medium.length, offset };
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
        let stated = entry.path.text();
        if *path != stated {
            return Err(wrong("sums and statement list different entries").got(stated).expected(path));
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

pub(super) fn check_length(length: u64, total: u64) -> Result<()> {
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

/// The head of a compressed bundle is a frame of its own: it can be judged before anything else is decompressed.
fn check_frame(frame: Option<u64>, contents: &Contents) -> Result<()> {
    let head = contents.head();
    match frame.filter(|frame| *frame != head) {
        None => Ok(()),
        Some(frame) => Err(Error::new(Kind::FrameInvalid, "the first frame does not hold the head alone")
            .got(format_args!("{frame} bytes"))
            .expected(format_args!("{head} bytes"))),
    }
}

/// `oci-layout` is a constant and `index.json` follows from the statement: neither is ever parsed.
fn check_layout_and_index(contents: &Contents, statement: &Statement) -> Result<()> {
    let size = |digest: &Digest| Some(contents.blob(digest)?.1.size);
    let mut labels = HashSet::new();
    if let Some(image) = statement.images.iter().find(|image| !labels.insert((&image.name, &image.variant))) {
        return Err(Error::new(Kind::StatementInvalid, "two images of one name").got(image.label()));
    }
    if let Some(image) = statement.images.iter().find(|image| image.tags.first() != Some(&image.source.tag)) {
        return Err(Error::new(Kind::StatementInvalid, "an image's first tag is not that of its name")
            .got(image.tags.first().map_or("no tag".to_owned(), ToString::to_string))
            .expected(&image.source.tag));
    }
    let index = encode_index(&statement.images, size).map_err(|error| match error.kind() {
        // Said by a bundle, it is no matter of how the command was typed.
        Kind::RefAmbiguous => Error::new(Kind::StatementInvalid, error.sentence()),
        _ => error,
    })?;
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

    /// The digest of the signed sums, which stands for all of the bundle.
    pub fn identity(&self) -> Digest {
        self.state.identity
    }

    /// Bytes of the whole bundle.
    pub fn length(&self) -> u64 {
        self.state.contents.total
    }

    /// How many may read at once without needing more memory than is promised.
    pub fn readers(&self) -> usize {
        self.medium.readers
    }

    /// Reads every byte: each header must be the expected one, each content hash to its digest,
    /// padding and end be zeros; and the documents must name all blobs, in this order, and no others.
    pub async fn verify(self, threads: usize, watch: Arc<dyn Watch>) -> Result<Bundle<Verified>> {
        let whole = Arc::new(self);
        let (bundle, also) = (whole.clone(), watch.clone());
        let hashed = tokio::task::spawn_blocking(move || bundle.check_bytes(threads, also)).await;
        hashed.map_err(|_| file::ended())??;
        whole.check_graph(Arc::new(whole.blobs())).await?;
        let Bundle { medium, place, state } = Arc::into_inner(whole).ok_or_else(file::ended)?;
        Ok(Bundle { medium, place, state: Verified(state) })
    }

    fn check_bytes(&self, threads: usize, watch: Arc<dyn Watch>) -> Result<()> {
        let entries = self.state.contents.entries();
        let payload = entries.iter().map(|entry| entry.size).sum();
        watch.stage(Stage { verb: "verifying", parts: vec![(self.place.clone(), payload)] });
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let first: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, self.medium.readers) {
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
        let padding = tar::padding(entry.size);
        let padding = buffer.get_mut(..padding as usize).unwrap_or_default();
        self.read(padding, entry.offset + entry.size)?;
        require_zeros(padding, &path, entry.offset + entry.size)
    }

    pub(super) fn damaged(&self, entry: &Entry, path: &str, digest: Digest) -> Error {
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
        read_exactly(&*self.medium.bytes, &self.place, buffer, offset)
    }

    /// Requires the documents to say what the statement says. They are read only once for this.
    pub(super) async fn check_graph(&self, blobs: Arc<dyn Source>) -> Result<()> {
        self.state.graph.get_or_try_init(|| self.read_graph(blobs)).await.copied()
    }

    /// Plans the bundle's images anew from its own documents. The plan must say what the statement
    /// says and list what the bundle holds: nothing missing, nothing more, in the same order.
    async fn read_graph(&self, blobs: Arc<dyn Source>) -> Result<()> {
        let images = &self.state.statement.images;
        let contents = &self.state.contents;
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

    /// What these wants consist of. Reads documents only, each verified by its digest, after all of them
    /// were found to say what the statement says.
    pub async fn plan(&self, wants: &[Want]) -> Result<Plan> {
        let blobs: Arc<dyn Source> = Arc::new(self.blobs());
        self.check_graph(blobs.clone()).await?;
        resolve(wants, &vec![blobs; wants.len()]).await.map_err(|e| e.at(&self.place))
    }

    /// Its documents, for planning. Nothing else: that is for [`Verified`].
    pub fn documents(&self) -> Arc<dyn Source> {
        Arc::new(Documents(self.blobs()))
    }

    /// What it holds, for looking into some of it without reading all: each blob is verified by whoever reads it, against
    /// the signed sums. Nothing of this goes anywhere: that is for [`Verified`].
    pub fn excerpts(&self) -> Arc<dyn Source> {
        Arc::new(self.blobs())
    }

    /// The same, and what cosign's signatures were made over: it is small, and verified by its digest like they are.
    pub fn signatures(&self) -> Arc<dyn Source> {
        Arc::new(Signatures(self.blobs()))
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
                    attachments: Attachments::Known(self.attached(image)?),
                })
            })
            .collect()
    }

    fn attached(&self, image: &Image) -> Result<Vec<Attached>> {
        let attached = image.referrers.iter().map(|referrer| {
            Ok(Attached {
                subject: referrer.subject,
                descriptor: self.top(referrer.digest, &referrer.media_type)?,
                tag: referrer.tag.clone(),
            })
        });
        attached.collect()
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
        Blobs {
            medium: self.medium.clone(),
            place: self.place.clone(),
            contents: self.state.contents.clone(),
        }
    }
}

impl Bundle<Verified> {
    pub(super) fn contents(&self) -> Arc<Contents> {
        self.state.0.contents.clone()
    }

    /// Who signed.
    pub fn signers(&self) -> &Signers {
        &self.state.0.signers
    }

    /// What the signed statement says.
    pub fn statement(&self) -> &Statement {
        &self.state.0.statement
    }

    /// Bytes of the whole bundle.
    pub fn length(&self) -> u64 {
        self.state.0.contents.total
    }

    /// For whoever needs memory himself: what a compressed bundle was unpacked into is given back, and one reads it
    /// at a time.
    pub fn sparing(mut self) -> Self {
        if self.medium.frame.is_some() {
            self.medium.bytes.spare();
            self.medium.readers = 1;
        }
        self
    }

    /// How many may read at once without needing more memory than is promised.
    pub fn readers(&self) -> usize {
        self.medium.readers
    }

    /// The content.
    pub fn source(&self) -> Arc<dyn Source> {
        let contents = self.state.0.contents.clone();
        Arc::new(Blobs { medium: self.medium.clone(), place: self.place.clone(), contents })
    }
}

/// The blobs of a bundle, read by offset.
struct Blobs {
    medium: Medium,
    place: String,
    contents: Arc<Contents>,
}

impl Blobs {
    fn entry(&self, expected: &Descriptor) -> Result<&Entry> {
        let entry = self.contents.blob(&expected.digest).map(|(_, entry)| entry);
        entry.filter(|entry| entry.size == expected.size).ok_or_else(|| {
            Error::new(Kind::BlobMissing, "the bundle does not hold a blob of this digest and size")
                .at(&self.place)
                .got(format_args!("{} of {} bytes", expected.digest, expected.size))
        })
    }
}

/// Those of them that are documents.
struct Documents(Blobs);

#[async_trait]
impl Source for Documents {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        self.0.resolve(name, digest).await
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        match expected.role.is_document() {
            true => self.0.open(expected, from).await,
            false => Err(file::ended()),
        }
    }
}

/// Those that are documents, or small.
struct Signatures(Blobs);

#[async_trait]
impl Source for Signatures {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        self.0.resolve(name, digest).await
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        match expected.role.is_document() || expected.size <= limits::COSIGN_PAYLOAD {
            true => self.0.open(expected, from).await,
            false => Err(file::ended()),
        }
    }
}

#[async_trait]
impl Source for Blobs {
    async fn resolve(&self, name: &Name, _: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        // Names of a bundle are those of its statement, which wants carry as known descriptors.
        Err(Error::new(Kind::NotFound, "a bundle is not asked by name").at(name))
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        Ok(self.contents.blob(&expected.digest).is_some())
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let entry = self.entry(expected)?;
        let (offset, left) = (entry.offset.saturating_add(from), entry.size.saturating_sub(from));
        let pieces = file::stream(self.medium.bytes.clone(), self.place.clone(), offset, left);
        Ok(Unverified::new(format_args!("{}: {}", self.place, entry.path()), pieces))
    }

    async fn extent(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        let Some(file) = &self.medium.file else { return Ok(None) };
        let entry = self.entry(expected)?;
        let medium = self.medium.bytes.clone();
        Ok(Some(Extent { medium, file: Some(file.clone()), offset: entry.offset, size: entry.size }))
    }
}
