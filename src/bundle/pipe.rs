//! A bundle that comes through a pipe: read once, from front to back, in memory that does not grow
//! with it. Trust is decided from the head; the documents come next and are kept; every later blob
//! is either handed on while it arrives, or hashed and dropped. Nothing is final before the end was
//! seen ([`Piped::finish`]).

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::contents::{Entry, Part};
use super::frames::{StreamDecoder, is_zstd};
use super::head::{mismatch, require_header, require_zeros, truncated, unreadable};
use super::kept::Kept;
use super::reader::{Bundle, Medium, Trusted};
use super::{Statement, tar};
use crate::content::file::{ReadAt, ended};
use crate::content::{Inlet, Meter, Outlet, Procession, Room, Source, Unverified, conduit, file};
use crate::error::{Error, Kind, Result};
use crate::evidence::cosign::{self, Demands};
use crate::limits;
use crate::oci::{Descriptor, Digest, Hasher, Name};
use crate::plan::{Plan, Want};
use crate::release::Moment;
use crate::trust::{Keyring, Signers};

/// Where the bytes come from.
pub type Input = Box<dyn Read + Send>;

/// The beginning of a pipe, kept so that it can be looked at like a file.
struct Beginning(Mutex<(Option<Input>, Vec<u8>)>);

impl ReadAt for Beginning {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, seen) = &mut *guard;
        let end = offset.saturating_add(buffer.len() as u64);
        // The head is asked for in pieces whose size was checked against the limits.
        let missing = end.saturating_sub(seen.len() as u64);
        if let Some(input) = input {
            input.take(missing).read_to_end(seen)?;
        }
        let there = seen.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// A bundle in a pipe whose head was read and is trusted.
pub struct Piped {
    bundle: Bundle<Trusted>,
    flow: tokio::sync::Mutex<Flow>,
    kept: Mutex<Kept>,
    /// What must be signed by cosign, and by whom.
    demanded: OnceLock<Demanded>,
}

/// Signatures that are verified when all has passed: they stand behind the layers.
struct Demanded {
    plan: Plan,
    demands: Vec<Demands>,
    /// What they were made over: kept when it passes.
    payloads: HashSet<Digest>,
}

/// What is still to come.
struct Flow {
    outlet: Outlet,
    /// Read from the outlet and not used yet.
    left: Bytes,
    /// Number of the next entry.
    next: usize,
}

/// Where an entry's content goes.
enum To<'a> {
    /// To somebody, as long as he takes it.
    Inlet(&'a Inlet),
    /// Into a hash.
    Hash(&'a Meter),
}

impl Piped {
    /// Reads the head and decides whether to trust it; waits for the input, so not to be called
    /// where others wait. The rest is read when it is asked for.
    ///
    /// # Errors
    /// As those of [`Bundle::open`] and [`Bundle::trust`].
    pub fn receive(input: Input, place: &str, keyring: &Keyring, now: Moment) -> Result<Self> {
        let input = plain(input, place)?;
        let beginning = Arc::new(Beginning(Mutex::new((Some(input), Vec::new()))));
        let medium = Medium { bytes: beginning.clone(), length: None, readers: 1, frame: None, file: None };
        let bundle = Bundle::sealed(medium, place.to_owned(), || Ok(Vec::new()))?.trust(keyring, now)?;
        let (input, seen) = {
            let mut guard = beginning.0.lock().unwrap_or_else(PoisonError::into_inner);
            (guard.0.take().ok_or_else(ended)?, std::mem::take(&mut guard.1))
        };
        let statement = bundle.state.contents.entries().first().ok_or_else(ended)?;
        let position = end_of(statement);
        if seen.len() as u64 != position {
            return Err(Error::new(Kind::TarOrder, "the head of the bundle does not end with the statement")
                .at(place));
        }
        let outlet = reading(input, place.to_owned(), position)?;
        let flow = Flow { outlet, left: Bytes::new(), next: 1 };
        Ok(Piped {
            bundle,
            flow: tokio::sync::Mutex::new(flow),
            kept: Mutex::new(Kept::new(limits::REMEMBERED)),
            demanded: OnceLock::new(),
        })
    }

    /// Who signed.
    pub fn signers(&self) -> &Signers {
        self.bundle.signers()
    }

    /// Its head.
    pub(super) fn trusted(&self) -> &Bundle<Trusted> {
        &self.bundle
    }

    /// What the signed statement says.
    pub fn statement(&self) -> &Statement {
        self.bundle.statement()
    }

    /// The digest of the signed sums.
    pub fn identity(&self) -> Digest {
        self.bundle.identity()
    }

    /// Bytes of the whole bundle.
    pub fn length(&self) -> u64 {
        self.bundle.length()
    }

    /// The wants that ask for everything that the statement names.
    pub fn wants(&self) -> Result<Vec<Want>> {
        self.bundle.wants()
    }

    /// Reads the documents, and requires them to say what the statement says.
    pub async fn check_documents(self: &Arc<Self>) -> Result<()> {
        self.bundle.check_graph(self.clone()).await
    }

    /// Requires of the images of `plan` that they are signed as each of `demands` has it. It is known when all has
    /// passed, before [`finish`](Self::finish) says that it was well.
    pub fn demand(&self, plan: &Plan, demands: Vec<Demands>) {
        let payloads = cosign::payloads(plan).iter().map(|payload| payload.digest).collect();
        let _ = self.demanded.set(Demanded { plan: plan.clone(), demands, payloads });
    }

    async fn check_demands(&self) -> Result<()> {
        let Some(Demanded { plan, demands, .. }) = self.demanded.get() else { return Ok(()) };
        for demands in demands {
            cosign::require(plan, self, demands).await?;
        }
        Ok(())
    }

    fn is_payload(&self, entry: &Entry) -> bool {
        self.demanded.get().is_some_and(|demanded| demanded.payloads.contains(&entry.digest))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, number: usize) -> Option<&Entry> {
        self.bundle.state.contents.entries().get(number)
    }

    /// Reads on until this content is among what is kept.
    async fn read_until(&self, digest: &Digest) -> Result<Bytes> {
        let mut flow = self.flow.lock().await;
        loop {
            if let Some(bytes) = self.kept().get(digest)? {
                return Ok(bytes);
            }
            let Some(entry) = self.entry(flow.next) else { return Err(self.missing(digest)) };
            if entry.size > limits::DOCUMENT {
                return Err(Error::new(Kind::TarOrder, "a document stands behind larger content")
                    .at(&self.bundle.place)
                    .got(digest));
            }
            let bytes = flow.small(self, entry).await?;
            if entry.part == Part::Blob {
                self.kept().put(entry.digest, bytes)?;
            }
        }
    }

    /// Bytes of the blobs that have not passed by yet.
    pub async fn left(&self) -> u64 {
        let next = self.flow.lock().await.next;
        let left = self.bundle.state.contents.entries().iter().skip(next);
        left.filter(|entry| entry.part == Part::Blob).map(|entry| entry.size).sum()
    }

    fn missing(&self, digest: &Digest) -> Error {
        Error::new(Kind::BlobMissing, "the bundle does not hold this, or it has passed by already")
            .at(&self.bundle.place)
            .got(digest)
    }

    /// Reads the end of the archive, behind which nothing may follow.
    ///
    /// # Errors
    /// `Truncated`, `TrailingData`: nothing of the bundle is to be used then.
    pub async fn finish(&self) -> Result<()> {
        let mut flow = self.flow.lock().await;
        let total = self.bundle.state.contents.total;
        let place = &self.bundle.place;
        if flow.next < self.bundle.state.contents.entries().len() {
            return Err(ended());
        }
        let trailer = flow.exactly(tar::TRAILER as usize, place, total).await?;
        require_zeros(&trailer, "the end of the archive", total - tar::TRAILER).map_err(|e| e.at(place))?;
        let behind = flow.some(1).await?;
        drop(flow);
        match behind {
            None => self.check_demands().await,
            Some(_) => Err(Error::new(Kind::TrailingData, "something follows the end of the bundle")
                .at(place)
                .expected(format_args!("{total} bytes"))
                .hint("get the bundle again from its origin")),
        }
    }
}

/// The bundle's own bytes, whether they come compressed or not.
fn plain(mut input: Input, place: &str) -> Result<Input> {
    let mut first = Vec::new();
    input.by_ref().take(4).read_to_end(&mut first).map_err(|e| unreadable(place, 0, &e))?;
    if first.is_empty() {
        return Err(Error::new(Kind::Truncated, "nothing came through the pipe")
            .at(place)
            .hint("see what the sending side says"));
    }
    let compressed = is_zstd(&first);
    let whole = std::io::Cursor::new(first).chain(input);
    if !compressed {
        return Ok(Box::new(whole));
    }
    let decoder = StreamDecoder::new(whole);
    Ok(Box::new(decoder.map_err(|e| Error::io("cannot read the bundle", place, &e))?))
}

/// Where the next header begins.
fn end_of(entry: &Entry) -> u64 {
    entry.offset.saturating_add(entry.size).saturating_add(tar::padding(entry.size))
}

/// Reads the input in a thread of its own: it may have to wait for ever.
fn reading(mut input: Input, place: String, mut position: u64) -> Result<Outlet> {
    let (inlet, outlet) = conduit(&Room::of(limits::PIPE));
    let runtime = tokio::runtime::Handle::current();
    let read = move || {
        let mut buffer = BytesMut::new();
        loop {
            // Pipes give little at a time: several pieces share one allocation, or most of it would be waste.
            if buffer.is_empty() {
                buffer = BytesMut::zeroed(file::PIECE);
            }
            match input.read(&mut buffer) {
                Ok(0) => return inlet.end(),
                Ok(count) => {
                    position = position.saturating_add(count as u64);
                    if !runtime.block_on(inlet.put(buffer.split_to(count).freeze())) {
                        return;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return inlet.fail(unreadable(&place, position, &e)),
            }
        }
    };
    let thread = std::thread::Builder::new().name("input".to_owned()).spawn(read);
    thread.map_err(|e| Error::io("cannot start", "the reading thread", &e))?;
    Ok(outlet)
}

impl Flow {
    /// The next bytes, at most `most`; `None` at the end.
    async fn some(&mut self, most: u64) -> Result<Option<Bytes>> {
        while self.left.is_empty() {
            match self.outlet.take().await? {
                Some(piece) => self.left = piece,
                None => return Ok(None),
            }
        }
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.left.len());
        Ok(Some(self.left.split_to(count)))
    }

    async fn exactly(&mut self, count: usize, place: &str, total: u64) -> Result<Bytes> {
        let mut all = BytesMut::with_capacity(count);
        while all.len() < count {
            let more = self.some((count - all.len()) as u64).await?;
            all.extend_from_slice(&more.ok_or_else(|| cut_short(place, total))?);
        }
        Ok(all.freeze())
    }

    async fn header(&mut self, piped: &Piped, entry: &Entry) -> Result<()> {
        let place = &piped.bundle.place;
        let header = self.exactly(tar::BLOCK as usize, place, piped.length()).await?;
        let header = header.as_ref().try_into().map_err(|_| ended())?;
        require_header(header, &entry.path(), entry.size, entry.header_offset()).map_err(|e| e.at(place))
    }

    /// The padding behind an entry: then the next one's turn has come.
    async fn padding(&mut self, piped: &Piped, entry: &Entry) -> Result<()> {
        let place = &piped.bundle.place;
        let end = entry.offset.saturating_add(entry.size);
        let padding = self.exactly(tar::padding(entry.size) as usize, place, piped.length()).await?;
        require_zeros(&padding, &entry.path(), end).map_err(|e| e.at(place))?;
        self.next += 1;
        Ok(())
    }

    /// A whole small entry, verified.
    async fn small(&mut self, piped: &Piped, entry: &Entry) -> Result<Bytes> {
        self.header(piped, entry).await?;
        let bytes = self.exactly(entry.size as usize, &piped.bundle.place, piped.length()).await?;
        let digest = Digest::of(&bytes);
        if digest != entry.digest {
            return Err(mismatch(&entry.path(), digest, Some(entry.digest)).at(&piped.bundle.place));
        }
        self.padding(piped, entry).await?;
        Ok(bytes)
    }

    /// An entry's content. The digest is that of what was hashed.
    async fn content(&mut self, piped: &Piped, entry: &Entry, to: To<'_>) -> Result<Digest> {
        self.header(piped, entry).await?;
        let mut hasher = Hasher::default();
        let mut left = entry.size;
        while left > 0 {
            let piece =
                self.some(left).await?.ok_or_else(|| cut_short(&piped.bundle.place, piped.length()))?;
            left -= piece.len() as u64;
            match to {
                To::Hash(meter) => {
                    hasher.update(&piece);
                    meter.at(entry.size - left);
                }
                // Whoever took it has failed, and will say why.
                To::Inlet(inlet) if !inlet.put(piece).await => return Err(ended()),
                To::Inlet(_) => {}
            }
        }
        self.padding(piped, entry).await?;
        Ok(hasher.finish())
    }
}

fn cut_short(place: &str, total: u64) -> Error {
    truncated(place, total)
        .hint_instead("the sender broke off, or the line did: send it again")
        .got(format_args!("an end before byte {total}"))
}

#[async_trait]
impl Source for Piped {
    async fn resolve(&self, name: &Name, _: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        // Names of a bundle are those of its statement, which wants carry as known descriptors.
        Err(Error::new(Kind::NotFound, "a bundle is not asked by name").at(name))
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        Ok(self.bundle.state.contents.blob(&expected.digest).is_some())
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let bytes = self.read_until(&expected.digest).await?;
        let place = format_args!("{}: {}", self.bundle.place, expected.digest);
        Ok(Unverified::of_rest(place, bytes, from))
    }
}

#[async_trait]
impl Procession for Piped {
    async fn next(&self) -> Result<Option<Digest>> {
        let mut flow = self.flow.lock().await;
        loop {
            match self.entry(flow.next) {
                None => return Ok(None),
                Some(entry) if entry.part == Part::Blob => return Ok(Some(entry.digest)),
                Some(entry) => drop(flow.small(self, entry).await?),
            }
        }
    }

    async fn comes(&self, digest: &Digest) -> bool {
        let next = self.flow.lock().await.next;
        self.bundle.state.contents.blob(digest).is_some_and(|(number, _)| number >= next)
    }

    async fn carry(&self, inlet: Inlet) -> Result<()> {
        let mut flow = self.flow.lock().await;
        let entry = self.entry(flow.next).ok_or_else(ended)?;
        if self.is_payload(entry) {
            let bytes = flow.small(self, entry).await?;
            self.kept().put(entry.digest, bytes.clone())?;
            if !bytes.is_empty() && !inlet.put(bytes).await {
                return Err(ended());
            }
            inlet.end();
            return Ok(());
        }
        match flow.content(self, entry, To::Inlet(&inlet)).await {
            Ok(_) => {
                inlet.end();
                Ok(())
            }
            Err(error) => {
                inlet.fail(Error::new(error.kind(), "the bundle broke off"));
                Err(error)
            }
        }
    }

    async fn skip(&self, meter: &Meter) -> Result<()> {
        let mut flow = self.flow.lock().await;
        let entry = self.entry(flow.next).ok_or_else(ended)?;
        if self.is_payload(entry) {
            let bytes = flow.small(self, entry).await?;
            meter.at(entry.size);
            return self.kept().put(entry.digest, bytes);
        }
        let digest = flow.content(self, entry, To::Hash(meter)).await?;
        match digest == entry.digest {
            true => Ok(()),
            false => Err(self.bundle.damaged(entry, &entry.path(), digest).at(&self.bundle.place)),
        }
    }
}
