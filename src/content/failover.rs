//! Several places that are to have the same content, tried in order. A tag is what the first place says that
//! answers; from then on everything is asked for by digest, and any place may give it, in the middle of a layer too:
//! the bytes are hashed, whoever sends them. Whatever did not come from the first place is said to `note`.
//!
//! What makes the next place be asked for a tag is silence, a refusal to answer now, and a 404. A refused login is
//! none of these: a backup must not decide about tags for ever because nobody noticed. By digest there is nothing to
//! decide, so every failure of a place leads on to the next one.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};

use super::{Source, Unverified};
use crate::error::{Error, Kind, Result, Retry};
use crate::limits;
use crate::oci::{Attached, Descriptor, Digest, Hasher, Name, Role};

/// Is told what did not come from the first place, and why.
pub type Note = Arc<dyn Fn(&str) + Send + Sync>;

/// One of the places.
pub struct Alternative {
    /// What people call it.
    pub name: String,
    /// The place.
    pub source: Arc<dyn Source>,
    /// How its host has behaved; the same for all that lies on one host.
    pub standing: Standing,
}

/// How a host has behaved in this run: one that did not answer is asked again only when all others were.
#[derive(Clone, Default)]
pub struct Standing(Arc<Conduct>);

#[derive(Default)]
struct Conduct {
    /// It did not answer.
    silent: AtomicBool,
    /// It answered that it cannot.
    ailing: AtomicBool,
}

impl Standing {
    fn note(&self, error: &Error) {
        match error.kind() {
            Kind::Network | Kind::Timeout => self.0.silent.store(true, Ordering::Relaxed),
            Kind::RegistryRejected => self.0.ailing.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    fn is_silent(&self) -> bool {
        self.0.silent.load(Ordering::Relaxed)
    }

    fn is_ailing(&self) -> bool {
        self.is_silent() || self.0.ailing.load(Ordering::Relaxed)
    }
}

/// See the module's text.
pub struct Failover(Arc<Places>);

struct Places {
    all: Vec<Alternative>,
    note: Note,
    known: Mutex<Known>,
}

/// What was learned.
#[derive(Default)]
struct Known {
    /// Which place gave a document.
    gave: HashMap<Digest, usize>,
    /// Places that sent something else under a digest.
    lied: HashSet<(Digest, usize)>,
    /// What was said: of whom, and the kind of failure.
    said: HashSet<(usize, &'static str)>,
}

/// Places that failed, and how.
type Failures = Vec<(usize, Error)>;

impl Failover {
    /// Tries these places in this order.
    pub fn new(places: Vec<Alternative>, note: Note) -> Self {
        Failover(Arc::new(Places { all: places, note, known: Mutex::default() }))
    }
}

#[async_trait]
impl Source for Failover {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        match digest {
            None => self.0.resolve_tag(name).await,
            Some(digest) => self.0.resolve_digest(name, digest).await,
        }
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let small = expected.role.is_document() && expected.size <= limits::DOCUMENT
            || expected.role == Role::Config && expected.size <= limits::CONFIG;
        match small {
            true => self.0.read(expected, from).await,
            false => Underway::open(self.0.clone(), expected, from).await,
        }
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        let mut failures = Failures::new();
        for (number, place) in self.0.ordered(Some(&expected.digest)) {
            match place.source.holds(expected).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => self.0.failed(&mut failures, number, error),
            }
        }
        if failures.is_empty() { Ok(false) } else { Err(self.0.nowhere(failures)) }
    }

    /// What is attached to a document is asked of the place that gave the document: its word counts, even if it is
    /// "nothing". Where none is known to have given it, or that one does not answer, the first that knows of something.
    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let giver = self.0.known().gave.get(subject).copied();
        let mut order: Vec<_> = self.0.ordered(Some(subject)).collect();
        order.sort_by_key(|(number, _)| Some(*number) != giver);
        let mut failures = Failures::new();
        let mut answered = false;
        for (number, place) in order {
            match place.source.attached(subject).await {
                Ok(found) if !found.is_empty() || giver == Some(number) => {
                    self.0.say_why(&failures, number);
                    return Ok(found);
                }
                Ok(_) => answered = true,
                Err(error) => self.0.failed(&mut failures, number, error),
            }
        }
        let giver_failed = failures.iter().any(|(number, _)| Some(*number) == giver);
        match answered && !giver_failed || failures.is_empty() {
            true => Ok(Vec::new()),
            false => Err(self.0.nowhere(failures)),
        }
    }
}

impl Places {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, number: usize) -> &str {
        self.all.get(number).map_or("", |place| place.name.as_str())
    }

    /// The places in the order in which they are asked for content: those that lied about it, or whose hosts did not
    /// do well, come last.
    fn ordered(&self, digest: Option<&Digest>) -> impl Iterator<Item = (usize, &Alternative)> {
        let known = self.known();
        let lied = |number| digest.is_some_and(|digest| known.lied.contains(&(*digest, number)));
        let mut order: Vec<_> = self.all.iter().enumerate().collect();
        order.sort_by_cached_key(|(number, place)| (lied(*number), place.standing.is_ailing()));
        order.into_iter()
    }

    /// Remembers that a place failed.
    fn failed(&self, failures: &mut Failures, number: usize, error: Error) {
        if let Some(place) = self.all.get(number) {
            place.standing.note(&error);
        }
        failures.push((number, error));
    }

    /// Says why another place was needed: of each place each kind of failure once.
    fn say_why(&self, failures: &[(usize, Error)], instead: usize) {
        for (number, error) in failures {
            if self.known().said.insert((*number, error.kind().name())) {
                (self.note)(&format!("{error}; {} is asked instead", self.called(instead)));
            }
        }
    }

    /// The failure of all places: the first one that does not say "it is not here", and what the others said.
    fn nowhere(&self, mut failures: Failures) -> Error {
        failures.sort_by_key(|(number, _)| *number);
        let first = failures.iter().position(|(_, e)| !is_absence(e)).unwrap_or_default();
        if failures.is_empty() {
            return Error::new(Kind::NotFound, "there is no place to ask");
        }
        let (_, error) = failures.remove(first);
        let others: Vec<_> = failures.iter().map(|(_, error)| error.sentence()).collect();
        match (others.is_empty(), error.advice().map(|advice| advice.into_owned())) {
            (true, _) => error,
            (false, None) => error.hint_instead(format_args!("the other places: {}", others.join("; "))),
            (false, Some(advice)) => {
                error.hint_instead(format_args!("{advice}; the other places: {}", others.join("; ")))
            }
        }
    }

    async fn resolve_tag(&self, name: &Name) -> Result<(Descriptor, Bytes)> {
        let mut order: Vec<_> = self.all.iter().enumerate().collect();
        // Not those that only had trouble: the first one that answers decides.
        order.sort_by_key(|(_, place)| place.standing.is_silent());
        let mut failures = Failures::new();
        let mut places = order.into_iter();
        while let Some((number, place)) = places.next() {
            match place.source.resolve(name, None).await {
                Ok(found) if number == 0 => {
                    self.known().gave.insert(found.0.digest, number);
                    return Ok(found);
                }
                Ok(found) => {
                    self.compare(name, &found.0.digest, place, places).await?;
                    self.say_who_decided(name, &found.0.digest, place, &failures);
                    self.known().gave.insert(found.0.digest, number);
                    return Ok(found);
                }
                Err(error) if leads_on(&error) => self.failed(&mut failures, number, error),
                Err(error) => return Err(error),
            }
        }
        Err(self.nowhere(failures))
    }

    /// A backup's word on a tag counts only where no other backup contradicts it.
    async fn compare<'a>(
        &self,
        name: &Name,
        digest: &Digest,
        decided: &Alternative,
        others: impl Iterator<Item = (usize, &'a Alternative)>,
    ) -> Result<()> {
        for (_, other) in others.filter(|(_, other)| !other.standing.is_silent()) {
            match other.source.resolve(name, None).await {
                Ok((found, _)) if found.digest != *digest => {
                    return Err(Error::new(
                        Kind::RefAmbiguous,
                        "the backups disagree about a tag, and the first place does not answer",
                    )
                    .at(name)
                    .got(format_args!("{digest} at {}, {} at {}", decided.name, found.digest, other.name))
                    .expected("one digest")
                    .hint("pin the right one in the release manifest: pin = { … }"));
                }
                // Whoever has no answer contradicts nobody.
                _ => {}
            }
        }
        Ok(())
    }

    fn say_who_decided(
        &self,
        name: &Name,
        digest: &Digest,
        place: &Alternative,
        failures: &[(usize, Error)],
    ) {
        let why: Vec<_> = failures.iter().map(|(_, error)| error.to_string()).collect();
        let why = match why.is_empty() {
            true => format!("{} did not answer before", self.called(0)),
            false => why.join("; "),
        };
        (self.note)(&format!("{name} is {digest}, as {} says: {why}", place.name));
    }

    async fn resolve_digest(&self, name: &Name, digest: &Digest) -> Result<(Descriptor, Bytes)> {
        let mut failures = Failures::new();
        for (number, place) in self.ordered(Some(digest)) {
            match place.source.resolve(name, Some(digest)).await {
                Ok(found) if found.0.digest == *digest => {
                    self.say_why(&failures, number);
                    self.known().gave.insert(*digest, number);
                    return Ok(found);
                }
                Ok((found, _)) => {
                    let lie = lie(&place.name, found.digest, digest);
                    self.lied(digest, &[number]);
                    self.failed(&mut failures, number, lie);
                }
                Err(error) => self.failed(&mut failures, number, error),
            }
        }
        Err(self.nowhere(failures))
    }

    fn lied(&self, digest: &Digest, numbers: &[usize]) {
        self.known().lied.extend(numbers.iter().map(|number| (*digest, *number)));
    }

    /// Something small, verified before it is handed out: a place that lies is passed over at once.
    async fn read(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let mut failures = Failures::new();
        for (number, place) in self.ordered(Some(&expected.digest)) {
            let read = async { place.source.fetch(expected).await?.into_bytes().await };
            match read.await {
                Ok(bytes) => {
                    self.say_why(&failures, number);
                    if expected.role.is_document() {
                        self.known().gave.insert(expected.digest, number);
                    }
                    return Ok(Unverified::of_rest(&place.name, bytes, from));
                }
                Err(error) => {
                    if error.kind() == Kind::DigestMismatch {
                        self.lied(&expected.digest, &[number]);
                    }
                    self.failed(&mut failures, number, error);
                }
            }
        }
        Err(self.nowhere(failures))
    }
}

/// A layer on its way, from whoever gives it.
struct Underway {
    places: Arc<Places>,
    expected: Descriptor,
    /// The places that were asked. The last of them is the one that sends.
    asked: Vec<usize>,
    pieces: BoxStream<'static, Result<Bytes>>,
    /// Bytes handed out, those before the first one asked for included.
    position: u64,
    /// Over everything, where everything comes by here: so that it can be said who lied.
    hasher: Option<Hasher>,
    /// Those whose bytes are among them.
    senders: Vec<usize>,
}

impl Underway {
    async fn open(places: Arc<Places>, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let mut underway = Underway {
            places,
            expected: expected.clone(),
            asked: Vec::new(),
            pieces: stream::empty().boxed(),
            position: from,
            hasher: (from == 0).then(Hasher::default),
            senders: Vec::new(),
        };
        underway.ask(Failures::new()).await?;
        let place = underway.asked.last().map(|number| underway.places.called(*number).to_owned());
        Ok(Unverified::new(place.unwrap_or_default(), underway.pieces()))
    }

    /// Asks the next places for the rest, until one has it.
    async fn ask(&mut self, mut failures: Failures) -> Result<()> {
        let places = self.places.clone();
        for (number, place) in places.ordered(Some(&self.expected.digest)) {
            if self.asked.contains(&number) {
                continue;
            }
            self.asked.push(number);
            match place.source.open(&self.expected, self.position).await {
                Ok(content) => {
                    places.say_why(&failures, number);
                    self.pieces = content.into_parts().1;
                    return Ok(());
                }
                Err(error) => places.failed(&mut failures, number, error),
            }
        }
        Err(places.nowhere(failures))
    }

    fn pieces(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, |mut underway| async move {
            Ok(underway.next().await?.map(|piece| (piece, underway)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let failure = match self.pieces.next().await {
                Some(Ok(piece)) => return self.take(&piece).map(|()| Some(piece)),
                Some(Err(error)) => error,
                None if self.position >= self.expected.size => return Ok(None),
                None => self.ended_early(),
            };
            let mut failures = Failures::new();
            let number = self.asked.last().copied().unwrap_or_default();
            self.places.failed(&mut failures, number, failure);
            self.ask(failures).await?;
        }
    }

    /// Hashes what passes by, and holds the last of the wrong bytes back.
    fn take(&mut self, piece: &Bytes) -> Result<()> {
        if let Some(sender) = self.asked.last().filter(|sender| self.senders.last() != Some(sender)) {
            self.senders.push(*sender);
        }
        self.position = self.position.saturating_add(piece.len() as u64);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        if self.position < self.expected.size {
            return Ok(());
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(digest) if digest != self.expected.digest => {
                self.places.lied(&self.expected.digest, &self.senders);
                let senders: Vec<_> = self.senders.iter().map(|number| self.places.called(*number)).collect();
                Err(lie(&senders.join(" and "), digest, &self.expected.digest))
            }
            _ => Ok(()),
        }
    }

    fn ended_early(&self) -> Error {
        Error::new(Kind::Network, "the content ended early")
            .at(self.asked.last().map(|number| self.places.called(*number)).unwrap_or_default())
            .got(format_args!("{} bytes", self.position))
            .expected(format_args!("{} bytes", self.expected.size))
            .retry(Retry::Soon)
    }
}

fn lie(place: &str, got: Digest, expected: &Digest) -> Error {
    Error::new(Kind::DigestMismatch, "the content is not what its digest says")
        .at(place)
        .got(got)
        .expected(expected)
        .hint("damaged on the way or at its origin; nothing of it was used")
}

/// Whether a place said that it does not have it.
fn is_absence(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::BlobMissing)
}

/// Whether another place may be asked for a tag.
fn leads_on(error: &Error) -> bool {
    is_absence(error) || matches!(error.kind(), Kind::Network | Kind::Timeout | Kind::RegistryRejected)
}
