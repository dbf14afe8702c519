//! The facts, looked up when somebody asks: a store changes while it is served. Bundles tell most of it in
//! their signed statements. However much there is, one page of it is looked at, and a bounded number of
//! documents; what is left out is said.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::attached::{Attached, Entry, Sketch, Subject, belongs_elsewhere};
use super::listing::{Build, Card};
use super::{Page, Shown};
use crate::content::file::read_at_most;
use crate::content::{Holdings, Kept, Pointer};
use crate::error::{Error, Result};
use crate::limits;
use crate::oci::{Config, Digest, MediaType, Name, Platform, Repository, Role, Tag};
use crate::plan::Image;

const DAMAGED: &str = "something that belongs to it cannot be read: the log of sealift says what";
const STRANGE: &str = "a document that belongs to it cannot be understood";
const SPENT: &str = "too much belongs to the images of this page: not all of it was looked up";

/// Who looks, and how much may still be looked at.
pub struct Gather<'a> {
    holdings: &'a dyn Holdings,
    trouble: &'a (dyn Fn(&Error) + Send + Sync),
    documents: usize,
    bytes: usize,
    /// What went wrong with the image at hand.
    gap: Option<&'static str>,
}

/// A page of a store.
#[derive(Default)]
pub struct Stock {
    /// Images.
    pub cards: Vec<Card>,
    /// Repositories without tags.
    pub untagged: Vec<Repository>,
    /// Names that lead nowhere.
    pub broken: Vec<String>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// A place in the list of a store's names: a repository, and a tag of it.
type Place = (Repository, Option<Tag>);

impl<'a> Gather<'a> {
    /// Somebody who has not looked at anything yet.
    pub fn new(holdings: &'a dyn Holdings, trouble: &'a (dyn Fn(&Error) + Send + Sync)) -> Self {
        let (documents, bytes) = (limits::PAGE_DOCUMENTS, limits::PAGE_BYTES);
        Gather { holdings, trouble, documents, bytes, gap: None }
    }

    /// A page of the bundles' images, from the `from`th on.
    pub async fn bundles(&mut self, page: &Page, from: usize, count: usize) -> (Vec<Card>, Option<String>) {
        let mut chosen = page.images().skip(from).take(count.saturating_add(1)).collect::<Vec<_>>();
        let more = chosen.len() > count;
        chosen.truncate(count);
        let mut cards = Vec::new();
        for (number, image) in chosen {
            let mut card = stated(page, number, image);
            self.complete(&mut card, None).await;
            cards.push(card);
        }
        self.referrers(&mut cards).await;
        let end = from.saturating_add(cards.len());
        (cards, more.then(|| end.to_string()))
    }

    /// A page of a store's images, from behind `after` on; nothing where that is no place in it.
    ///
    /// # Errors
    /// What keeps the store from being listed at all.
    pub async fn store(&mut self, after: Option<&str>, count: usize) -> Result<Option<Stock>> {
        let behind = after.map(place);
        if matches!(behind, Some(None)) {
            return Ok(None);
        }
        let (places, next) = self.places(behind.flatten(), count).await?;
        let mut stock = Stock { next, ..Stock::default() };
        for (repository, tag) in places {
            match tag {
                None => stock.untagged.push(repository),
                Some(tag) => self.found(&mut stock, repository, tag).await,
            }
        }
        self.referrers(&mut stock.cards).await;
        Ok(Some(stock))
    }

    /// Whether an image has its own digest for a tag.
    async fn is_own(&mut self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let Some(digest) = tag.subject().filter(|digest| *tag == digest.fallback_tag()) else {
            return Ok(false);
        };
        let Some(left) = self.documents.checked_sub(1) else { return Ok(false) };
        self.documents = left;
        let kept = self.holdings.document(repository, &Pointer::Tag(tag.clone())).await;
        Ok(self.well(kept).flatten().is_some_and(|kept| kept.digest == digest))
    }

    /// The names of a page, and where the next one begins.
    async fn places(&mut self, behind: Option<Place>, count: usize) -> Result<(Vec<Place>, Option<String>)> {
        let (first, behind) = behind.unzip();
        let mut places: Vec<Place> = Vec::new();
        for repository in self.holdings.repositories().await? {
            if first.as_ref().is_some_and(|first| repository < *first) {
                continue;
            }
            let begun = behind.as_ref().filter(|_| first.as_ref() == Some(&repository));
            let mut tags = self.holdings.tags(&repository).await?.unwrap_or_default();
            let mut own = Vec::new();
            for tag in &tags {
                own.push(!belongs_elsewhere(tag) || self.is_own(&repository, tag).await?);
            }
            let mut own = own.into_iter();
            tags.retain(|_| own.next().unwrap_or_default());
            let untagged = tags.is_empty() && begun.is_none();
            tags.retain(|tag| begun.is_none_or(|begun| begun.as_ref().is_some_and(|begun| tag > begun)));
            let names = tags.into_iter().map(Some).chain(untagged.then_some(None));
            places.extend(names.map(|tag| (repository.clone(), tag)));
            if places.len() > count {
                places.truncate(count);
                return Ok((places.clone(), places.last().map(cursor)));
            }
        }
        Ok((places, None))
    }

    /// One more name: of an image that was met already, or of a new one.
    async fn found(&mut self, stock: &mut Stock, repository: Repository, tag: Tag) {
        let name = format!("{repository}:{tag}");
        // Looked up in any case: what was not looked at must not pass for broken.
        let found = self.holdings.document(&repository, &Pointer::Tag(tag.clone())).await;
        let Some(kept) = self.well(found).flatten() else { return stock.broken.push(name) };
        let same = |card: &&mut Card| card.repository == repository && card.digest == kept.digest;
        if let Some(card) = stock.cards.iter_mut().find(same) {
            card.tags.push(tag);
            return card.pull.push(name);
        }
        let mut card = Card {
            bundle: None,
            name: None,
            variant: None,
            source: None,
            repository,
            tags: vec![tag],
            pull: vec![name],
            digest: kept.digest,
            media_type: kept.media_type.to_string(),
            artifact_type: None,
            platforms: Vec::new(),
            omitted: Vec::new(),
            attached: Vec::new(),
            unread: None,
        };
        self.complete(&mut card, Some(kept)).await;
        stock.cards.push(card);
    }

    /// Adds what the image's own documents say to what is known: builds, where no statement names them, and
    /// attestations.
    async fn complete(&mut self, card: &mut Card, top: Option<Kept>) {
        self.gap = None;
        let top = match top {
            Some(kept) => Some(kept),
            None => self.document(&card.repository, Pointer::Digest(card.digest)).await,
        };
        if let Some((top, size)) = top.and_then(|top| Some((self.understood(&top)?, top.bytes.len()))) {
            let stated = card.bundle.is_some();
            match MediaType::new(&card.media_type).document_role() {
                Some(Role::Index) => self.children(card, top, stated).await,
                // The statement tells platforms and their sizes, of what has none it tells nothing.
                _ if !stated || card.platforms.is_empty() => self.single(card, &top, size as u64).await,
                _ => {}
            }
        }
        card.unread = self.gap;
    }

    /// Whatever an index names, however deep.
    async fn children(&mut self, card: &mut Card, top: Sketch, stated: bool) {
        let mut seen = HashSet::new();
        let mut ahead: Vec<Entry> = top.manifests.into_iter().flatten().rev().collect();
        while let Some(entry) = ahead.pop() {
            let Some(digest) = entry.digest() else { continue };
            let platform = entry.platform().filter(|platform| !platform.is_unknown());
            let role = MediaType::new(&entry.media_type).document_role();
            if !seen.insert((digest, platform.clone())) {
                continue;
            }
            if let Some(about) = entry.attests() {
                self.attestation(card, digest, about).await;
            } else if role == Some(Role::Index) {
                let inner = self.sketch(&card.repository, digest).await;
                ahead.extend(inner.and_then(|inner| inner.manifests).into_iter().flatten().rev());
            } else if !stated {
                let sketch = self.sketch(&card.repository, digest).await;
                let size = sketch.map(|sketch| entry.size.saturating_add(sketch.payload()));
                card.platforms.push(Build { platform, digest, size });
            }
        }
    }

    /// An image that is one manifest, or something else that is.
    async fn single(&mut self, card: &mut Card, top: &Sketch, own: u64) {
        let config = top.config.as_ref();
        let image = config.is_some_and(|config| MediaType::new(&config.media_type).is_image_config());
        card.artifact_type = top.kind().filter(|_| !image).map(str::to_owned);
        let platform = match config.filter(|_| image).and_then(Entry::digest) {
            Some(digest) => self.platform(&card.repository, &digest).await,
            None => None,
        };
        let size = Some(own.saturating_add(top.payload()));
        card.platforms.push(Build { platform, digest: card.digest, size });
    }

    /// The platform that a config names.
    async fn platform(&mut self, repository: &Repository, digest: &Digest) -> Option<Platform> {
        let found = self.holdings.blob(repository, digest).await;
        let extent = self.well(found)?.filter(|extent| extent.size <= limits::CONFIG)?;
        let mut bytes = vec![0; extent.size as usize];
        self.spend(bytes.len())?;
        let read = tokio::task::spawn_blocking(move || {
            let count = read_at_most(&*extent.medium, &mut bytes, extent.offset)?;
            bytes.truncate(count);
            std::io::Result::Ok(bytes)
        });
        let bytes = read.await.ok()?.ok().filter(|bytes| Digest::of(bytes) == *digest)?;
        Config::parse(&bytes).ok()?.platform
    }

    /// What refers to the images or to one of their builds, by the specification or by a tag of cosign's. Each
    /// repository is asked once.
    async fn referrers(&mut self, cards: &mut [Card]) {
        let mut asked: BTreeMap<Repository, HashSet<Digest>> = BTreeMap::new();
        for card in cards.iter() {
            let subjects = card.subjects().into_iter().map(|subject| subject.digest);
            asked.entry(card.repository.clone()).or_default().extend(subjects);
        }
        let mut found = HashMap::new();
        for (repository, subjects) in asked {
            let pairs = self.holdings.referring(&repository, &subjects).await;
            found.insert(repository, self.well(pairs));
        }
        for card in cards {
            self.gap = card.unread;
            match found.get(&card.repository).and_then(Option::as_ref) {
                Some(pairs) => self.refer(card, pairs).await,
                None => self.gap = Some(DAMAGED),
            }
            card.attached
                .sort_by(|a, b| (a.kind, &a.platform, a.digest).cmp(&(b.kind, &b.platform, b.digest)));
            card.unread = self.gap;
        }
    }

    /// Those of one image.
    async fn refer(&mut self, card: &mut Card, pairs: &[(Digest, Digest)]) {
        for subject in card.subjects() {
            let digests = pairs.iter().filter(|(about, _)| *about == subject.digest);
            let pointers = digests.map(|(_, digest)| Pointer::Digest(*digest));
            let pointers: Vec<_> = pointers.chain(subject.tags().into_iter().map(Pointer::Tag)).collect();
            for pointer in pointers {
                if let Some(kept) = self.document(&card.repository, pointer).await {
                    self.attach(card, &kept, subject.clone());
                }
            }
        }
    }

    /// A manifest in the image's own index that speaks of one of its builds.
    async fn attestation(&mut self, card: &mut Card, digest: Digest, about: Digest) {
        let build = card.platforms.iter().find(|build| build.digest == about);
        let platform = build.and_then(|build| build.platform.clone());
        if let Some(kept) = self.document(&card.repository, Pointer::Digest(digest)).await {
            self.attach(card, &kept, Subject { digest: about, platform });
        }
    }

    fn attach(&mut self, card: &mut Card, kept: &Kept, subject: Subject) {
        let known = |other: &Attached| other.digest == kept.digest && other.subject == subject.digest;
        if card.attached.iter().any(known) {
            return;
        }
        if let Some(sketch) = self.understood(kept) {
            let itself = (kept.digest, kept.bytes.len() as u64);
            card.attached.push(sketch.attached(&card.repository, itself, subject));
        }
    }

    async fn sketch(&mut self, repository: &Repository, digest: Digest) -> Option<Sketch> {
        let kept = self.document(repository, Pointer::Digest(digest)).await?;
        self.understood(&kept)
    }

    fn understood(&mut self, kept: &Kept) -> Option<Sketch> {
        self.spend(kept.bytes.len())?;
        let sketch = serde_json::from_slice(&kept.bytes).ok();
        self.note(sketch, STRANGE)
    }

    /// A document, where it is here and may still be looked at.
    async fn document(&mut self, repository: &Repository, pointer: Pointer) -> Option<Kept> {
        self.spend(0)?;
        let found = self.holdings.document(repository, &pointer).await;
        self.well(found).flatten()
    }

    /// What was found, unless that failed.
    fn well<T>(&mut self, found: Result<T>) -> Option<T> {
        let found = found.inspect_err(|e| (self.trouble)(e)).ok();
        self.note(found, DAMAGED)
    }

    /// One more document, of so many bytes.
    fn spend(&mut self, bytes: usize) -> Option<()> {
        let left = self.documents.checked_sub(1).zip(self.bytes.checked_sub(bytes));
        (self.documents, self.bytes) = self.note(left, SPENT)?;
        Some(())
    }

    fn note<T>(&mut self, found: Option<T>, gap: &'static str) -> Option<T> {
        if found.is_none() {
            self.gap = Some(gap);
        }
        found
    }
}

/// What the signed statement says of an image.
fn stated(page: &Page, bundle: usize, image: &Image) -> Card {
    let builds = image.platforms.iter().map(|build| Build {
        platform: Some(build.platform.clone()),
        digest: build.digest,
        size: Some(build.size),
    });
    Card {
        bundle: Some(bundle),
        name: Some(image.name.clone()),
        variant: Some(image.variant.clone()),
        source: Some(image.source.clone()),
        repository: image.source.repository.clone(),
        tags: image.tags.clone(),
        pull: image.names().map(|name| page.names.reference(&name, &image.digest)).collect(),
        digest: image.digest,
        media_type: image.media_type.clone(),
        artifact_type: None,
        platforms: builds.collect(),
        omitted: image.omitted.clone(),
        attached: Vec::new(),
        unread: None,
    }
}

/// Behind which name a page begins.
fn place(text: &str) -> Option<Place> {
    match text.split_once(':') {
        Some((repository, tag)) => Some((repository.parse().ok()?, Some(tag.parse().ok()?))),
        None => Some((text.parse().ok()?, None)),
    }
}

fn cursor((repository, tag): &Place) -> String {
    tag.as_ref().map_or_else(|| repository.to_string(), |tag| format!("{repository}:{tag}"))
}

/// What the names of all bundles lead to.
#[derive(Default)]
pub struct Names {
    /// By path and tag: two registries' images may share one.
    short: HashMap<(Repository, Tag), HashSet<Digest>>,
    /// With the registry before them.
    full: HashMap<Name, HashSet<Digest>>,
}

impl Names {
    /// The names in some bundles.
    pub fn of(shown: &[Shown]) -> Self {
        let mut names = Names::default();
        for image in shown.iter().flat_map(|shown| &shown.images) {
            for name in image.names() {
                let short = (name.repository.clone(), name.tag.clone());
                names.short.entry(short).or_default().insert(image.digest);
                names.full.entry(name).or_default().insert(image.digest);
            }
        }
        names
    }

    /// What an image is pulled by, behind the host: its path and tag, unless several images go by that name.
    fn reference(&self, name: &Name, digest: &Digest) -> String {
        let one = |found: Option<&HashSet<Digest>>| found.is_some_and(|digests| digests.len() == 1);
        if one(self.short.get(&(name.repository.clone(), name.tag.clone()))) {
            return format!("{}:{}", name.repository, name.tag);
        }
        let long = format!("{}/{}", name.registry, name.repository);
        // A registry with a port cannot stand in a path.
        match one(self.full.get(name)) && long.parse::<Repository>().is_ok() {
            true => format!("{long}:{}", name.tag),
            false => format!("{}@{digest}", name.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_they_are_read() {
        for text in ["a/b:1.0", "a/b"] {
            assert_eq!(cursor(&place(text).unwrap()), text);
        }
        for text in ["", "A:1", "a/b:", "a/../b", "a:b:c"] {
            assert!(place(text).is_none(), "{text}");
        }
    }
}
