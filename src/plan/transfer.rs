//! From a plan to moved bytes. First [`survey`] asks every place what it lacks: the answer can be
//! printed and acted on. Then [`transfer`] acts: blobs first, then documents, children before
//! parents, and tags only when all below them has arrived; at last every tag is read back.
//! This is the only loop that moves blobs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::crew::Crew;
use super::pace::Counted;
use super::{Node, Plan, Share, Sources};
use crate::content::{
    Begun, Kept, Meter, Patience, Rate, Reader, Sink, Source, Stage, Unverified, Watch, retrying,
};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Name};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

/// A place that images go to: one repository of a registry, a layout, a bundle.
#[derive(Clone)]
pub struct Place {
    /// Where it is.
    pub sink: Arc<dyn Sink>,
    /// Its repository, for asking a neighbour to mount content from it.
    pub repository: String,
    /// The images that go there, as numbers into the plan, and the names each gets.
    pub images: Vec<(usize, Vec<Name>)>,
    /// The same place as a source: for content that can no longer be had from where it came.
    pub source: Option<Arc<dyn Source>>,
}

/// One piece of content that a place lacks.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Number of the node in the plan.
    pub node: usize,
    /// Number of the place.
    pub place: usize,
    /// How it gets there.
    pub how: How,
}

/// How content gets to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its bytes are sent.
    Send,
    /// The destination is asked to take it from another of its places.
    Mount(usize),
}

/// A name that is to lead to an image, or to something that is attached to it.
#[derive(Clone, Debug)]
pub struct TagMove {
    /// Number of the place.
    pub place: usize,
    /// Number of the image in the plan.
    pub image: usize,
    /// Number of the document's node in the plan.
    pub node: usize,
    /// The name at the destination.
    pub name: Name,
    /// What it leads to now.
    pub before: Option<Digest>,
}

/// Documents that name one as their subject, and are not found there yet by who asks for that.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Number of the place.
    pub place: usize,
    /// What they are attached to.
    pub subject: Digest,
    /// Numbers of their nodes in the plan.
    pub nodes: Vec<usize>,
}

/// What there is to do, known before any of it is done.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Content to move.
    pub moves: Vec<Move>,
    /// Names to set, or to confirm.
    pub tags: Vec<TagMove>,
    /// What is to be found by its subject.
    pub references: Vec<Reference>,
    /// Pieces of content that are in their places already.
    pub present: usize,
    /// Their bytes.
    pub present_bytes: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Blobs and documents sent.
    pub sent: usize,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Those of them that the kernel brought from file to file.
    pub adopted: usize,
    /// Blobs taken over within the destination.
    pub mounted: usize,
    /// Names set or confirmed, all read back.
    pub tags: usize,
}

impl Survey {
    /// Everything goes to the one place, which has nothing: a bundle being written.
    pub fn of_empty(plan: &Plan) -> Self {
        let send = |node| Move { node, place: 0, how: How::Send };
        Survey { moves: (0..plan.nodes.len()).map(send).collect(), ..Survey::default() }
    }

    /// Bytes that are to be sent, mounts not counted.
    pub fn send_bytes(&self, plan: &Plan) -> u64 {
        let sends = self.moves.iter().filter(|m| m.how == How::Send);
        sends.filter_map(|m| plan.nodes.get(m.node)).map(|node| node.descriptor.size).sum()
    }

    /// For each image, the bytes to send that only it needs, and those that it shares with others.
    pub fn shares(&self, plan: &Plan) -> Vec<Share> {
        let mut bytes = vec![0u64; plan.nodes.len()];
        for one in self.moves.iter().filter(|one| one.how == How::Send) {
            if let (Some(sum), Some(node)) = (bytes.get_mut(one.node), plan.nodes.get(one.node)) {
                *sum = sum.saturating_add(node.descriptor.size);
            }
        }
        plan.weighed(|node| bytes.get(node).copied().unwrap_or_default())
    }

    /// Whether everything is where it is to be, and every name leads there.
    pub fn is_done(&self, plan: &Plan) -> bool {
        let leads = |tag: &TagMove| tag.before.is_some() && tag.before == tag.target(plan);
        self.moves.is_empty() && self.references.is_empty() && self.tags.iter().all(leads)
    }

    /// Names that lead to something else now.
    pub fn conflicts<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = &'a TagMove> {
        self.tags.iter().filter(|tag| tag.before.is_some() && tag.before != tag.target(plan))
    }
}

impl TagMove {
    /// What it is to lead to.
    pub fn target(&self, plan: &Plan) -> Option<Digest> {
        plan.nodes.get(self.node).map(|node| node.descriptor.digest)
    }
}

/// Asks all places what they have. Moves nothing.
pub async fn survey(plan: &Plan, places: &[Place], jobs: usize) -> Result<Survey> {
    let mut asked = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let nodes = plan.closure(place.images.iter().map(|(image, _)| *image));
        asked.extend(nodes.into_iter().map(|node| (node, number)));
    }
    // By node, so that what one place has can be offered to the others.
    asked.sort_unstable();
    let answers = asked.into_iter().filter_map(|(node, number)| {
        let descriptor = &plan.nodes.get(node)?.descriptor;
        let place = places.get(number)?;
        Some(async move {
            let there = place.sink.exists(descriptor).await.map_err(|e| e.side(Side::Destination))?;
            Ok::<_, Error>((node, number, there))
        })
    });
    let answers: Vec<_> = stream::iter(answers).buffered(jobs.max(1) * 2).try_collect().await?;
    let mut survey = Survey::default();
    for group in answers.chunk_by(|a, b| a.0 == b.0) {
        survey.add(plan, group);
    }
    let asked = survey_references(plan, places, jobs).await?;
    let listed =
        |(reference, by_tag): &(Reference, bool)| by_tag.then_some((reference.place, reference.subject));
    let lists: HashSet<(usize, Digest)> = asked.iter().filter_map(listed).collect();
    survey.tags = survey_tags(plan, places, &lists, jobs).await?;
    let references = asked.into_iter().map(|(reference, _)| reference);
    survey.references = references.filter(|reference| !reference.nodes.is_empty()).collect();
    Ok(survey)
}

impl Survey {
    fn add(&mut self, plan: &Plan, answers: &[(usize, usize, bool)]) {
        let has = answers.iter().find(|(_, _, there)| *there).map(|(_, place, _)| *place);
        let mut giver = has;
        for &(node, place, there) in answers {
            let Some(descriptor) = plan.nodes.get(node).map(|node| &node.descriptor) else { continue };
            if there {
                self.present += 1;
                self.present_bytes += descriptor.size;
                continue;
            }
            // Documents are small, and registries have no mount for them.
            let how = match giver {
                Some(giver) if !descriptor.role.is_document() => How::Mount(giver),
                _ => How::Send,
            };
            giver.get_or_insert(place);
            self.moves.push(Move { node, place, how });
        }
    }
}

/// `lists` are the documents of each place whose fallback tag leads to a list.
async fn survey_tags(
    plan: &Plan,
    places: &[Place],
    lists: &HashSet<(usize, Digest)>,
    jobs: usize,
) -> Result<Vec<TagMove>> {
    let mut names = Vec::new();
    for (number, place) in places.iter().enumerate() {
        for (image, node, name) in tags_of(plan, place)? {
            let digest = plan.nodes.get(node).map(|node| node.descriptor.digest);
            let own = digest.filter(|digest| name.tag == digest.fallback_tag());
            let beside = own.filter(|digest| lists.contains(&(number, *digest)));
            let name = beside.map_or(name.clone(), |digest| name.with_tag(digest.tag_beside_list()));
            names.push((number, place, image, node, name));
        }
    }
    let asks = names.into_iter().map(|(number, place, image, node, name)| async move {
        let before = place.sink.tagged(&name).await.map_err(|e| e.at(&name).side(Side::Destination))?;
        Ok::<_, Error>(TagMove { place: number, image, node, name, before })
    });
    stream::iter(asks).buffered(jobs.max(1)).try_collect().await
}

/// The names that images get at a place, then the tags of what is attached to them.
///
/// # Errors
/// `RefAmbiguous` where one tag would have to lead to two documents.
fn tags_of(plan: &Plan, place: &Place) -> Result<Vec<(usize, usize, Name)>> {
    let mut tags = Vec::new();
    let mut bases = BTreeMap::new();
    for (image, names) in &place.images {
        let Some(&root) = plan.roots.get(*image) else { continue };
        tags.extend(names.iter().map(|name| (*image, root, name.clone())));
        if let Some(name) = names.first() {
            bases.entry(root).or_insert(name);
        }
    }
    let mut taken: BTreeMap<Name, usize> = tags.iter().map(|(_, node, name)| (name.clone(), *node)).collect();
    for (image, names) in &place.images {
        // Beside the image; one that has no name here is another one's twin, which has.
        let root = plan.roots.get(*image);
        let Some(base) = names.first().or_else(|| bases.get(root?).copied()) else { continue };
        for (referrer, node) in plan.referrers(*image) {
            let Some(tag) = &referrer.tag else { continue };
            let name = base.with_tag(tag.clone());
            match taken.insert(name.clone(), node) {
                None => tags.push((*image, node, name)),
                Some(other) if other == node => {}
                Some(_) => {
                    return Err(Error::new(Kind::RefAmbiguous, "one tag would have to lead to two documents")
                        .at(name)
                        .hint("two images bring different signatures of one digest to one repository: put one of them elsewhere with --map"));
                }
            }
        }
    }
    Ok(tags)
}

/// Top documents whose names at a place follow from their digests.
fn by_digest<'a>(plan: &'a Plan, place: &'a Place) -> impl Iterator<Item = Digest> + 'a {
    place.images.iter().filter_map(|(image, names)| {
        let digest = plan.nodes.get(*plan.roots.get(*image)?)?.descriptor.digest;
        names.iter().any(|name| name.tag == digest.fallback_tag()).then_some(digest)
    })
}

/// What is not found by its subject yet, for all that something is attached to; and whether the subject's fallback tag
/// leads to a list of it, or will.
async fn survey_references(plan: &Plan, places: &[Place], jobs: usize) -> Result<Vec<(Reference, bool)>> {
    let asks = places.iter().enumerate().flat_map(|(number, place)| {
        let mut wanted: BTreeMap<Digest, Vec<usize>> =
            by_digest(plan, place).map(|root| (root, Vec::new())).collect();
        for (referrer, node) in place.images.iter().flat_map(|(image, _)| plan.referrers(*image)) {
            if referrer.tag.is_some() {
                continue;
            }
            let nodes = wanted.entry(referrer.subject).or_default();
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        wanted.into_iter().map(move |(subject, nodes)| (number, place, subject, nodes))
    });
    let asks = asks.map(|(number, place, subject, mut nodes)| async move {
        let found = place.sink.referrers(&subject).await.map_err(|e| e.side(Side::Destination))?;
        let listed = found.by_tag && !(nodes.is_empty() && found.digests.is_empty());
        nodes.retain(|node| {
            plan.nodes.get(*node).is_some_and(|node| !found.digests.contains(&node.descriptor.digest))
        });
        Ok::<_, Error>((Reference { place: number, subject, nodes }, listed))
    });
    stream::iter(asks).buffered(jobs.max(1)).try_collect().await
}

/// Moves what the survey found missing, `jobs` pieces at once.
///
/// # Errors
/// The first failure ends the transfer. Content that had arrived stays, unnamed; names are set
/// only when everything below all of them has arrived.
pub async fn transfer(transfer: &Arc<Transfer>, survey: &Survey, verb: &'static str) -> Result<Done> {
    let plan = &transfer.plan;
    transfer.watch.stage(stage(plan, survey, verb));
    let is_document = |m: &Move| plan.nodes.get(m.node).is_some_and(|n| n.descriptor.role.is_document());
    let (documents, blobs): (Vec<Move>, Vec<Move>) = survey.moves.iter().partition(|m| is_document(m));

    let mut done = transfer.all(blobs.chunk_by(|a, b| a.node == b.node)).await?;
    // Ranks run from parents to children; the deepest go first.
    let mut by_rank = BTreeMap::<_, Vec<Move>>::new();
    for document in documents {
        let node = plan.nodes.get(document.node);
        by_rank.entry(node.map(|n| (n.descriptor.role, n.rank))).or_default().push(document);
    }
    for group in by_rank.into_values().rev() {
        done.add(transfer.all(group.chunks(1)).await?);
    }
    done.tags = transfer.tag_all(survey).await?;
    Ok(done)
}

/// Asks every place that something goes to whether it would take it.
///
/// # Errors
/// What would otherwise end the transfer in the middle.
pub async fn ready(transfer: &Transfer, survey: &Survey) -> Result<()> {
    let mut bytes = vec![0u64; transfer.places.len()];
    for one in &survey.moves {
        let size = transfer.plan.nodes.get(one.node).map_or(0, |node| node.descriptor.size);
        if let Some(sum) = bytes.get_mut(one.place) {
            *sum = sum.saturating_add(size);
        }
    }
    let asks = transfer.places.iter().zip(bytes).filter(|(_, bytes)| *bytes > 0);
    let asks = asks.map(|(place, bytes)| place.sink.ready(bytes));
    let all = stream::iter(asks).buffer_unordered(transfer.jobs.max(1)).try_collect::<Vec<()>>().await;
    all.map(drop).map_err(|e| e.side(Side::Destination))
}

fn stage(plan: &Plan, survey: &Survey, verb: &'static str) -> Stage {
    let mut parts: Vec<_> = plan.images.iter().map(|image| (image.label(), 0)).collect();
    let sends = survey.moves.iter().filter(|m| m.how == How::Send);
    for node in sends.filter_map(|m| plan.nodes.get(m.node)) {
        if let Some((_, bytes)) = parts.get_mut(node.origin) {
            *bytes += node.descriptor.size;
        }
    }
    Stage { verb, parts }
}

impl Done {
    /// All of a plan was sent.
    pub fn all(plan: &Plan) -> Self {
        Done { sent: plan.nodes.len(), sent_bytes: plan.bytes(), ..Done::default() }
    }

    /// Adds up.
    pub fn add(&mut self, other: Done) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.adopted += other.adopted;
        self.mounted += other.mounted;
        self.tags += other.tags;
    }
}

/// All that a transfer needs.
#[derive(Clone)]
pub struct Transfer {
    /// What there is.
    pub plan: Arc<Plan>,
    /// Where each image's content comes from.
    pub sources: Sources,
    /// Where it goes.
    pub places: Vec<Place>,
    /// Pieces moved at once.
    pub jobs: usize,
    /// How fast, all together.
    pub rate: Option<Rate>,
    /// Who watches.
    pub watch: Arc<dyn Watch>,
}

impl Transfer {
    /// Does groups of moves side by side; the moves of one group (one blob to several places) one
    /// after the other, so that the later ones can be mounts.
    async fn all<'m>(self: &Arc<Self>, groups: impl Iterator<Item = &'m [Move]>) -> Result<Done> {
        let counted = Counted::new(self.watch.clone());
        let mut crew = Crew::new(self.jobs, counted.clone());
        for group in groups {
            let (carrier, group, watch) = (self.clone(), group.to_vec(), counted.clone());
            crew.start(async move { carrier.group(group, watch).await }).await?;
        }
        crew.finish().await
    }

    async fn group(&self, moves: Vec<Move>, watch: Arc<dyn Watch>) -> Result<Done> {
        let mut done = Done::default();
        for one in &moves {
            done.add(self.carry(one, &watch).await?);
        }
        Ok(done)
    }

    /// What is moved, and where to.
    pub(super) fn ends(&self, one: &Move) -> Result<(&Node, &Place)> {
        let node = self.plan.nodes.get(one.node).ok_or_else(missing)?;
        Ok((node, self.places.get(one.place).ok_or_else(missing)?))
    }

    async fn carry(&self, one: &Move, watch: &Arc<dyn Watch>) -> Result<Done> {
        let (node, place) = self.ends(one)?;
        let source = self.sources.get(node.origin).ok_or_else(missing)?;
        let meter = Meter::new(watch.clone(), node.origin);
        let How::Mount(giver) = one.how else {
            return self.send(node, source.as_ref(), place, meter).await;
        };
        let giver = self.places.get(giver).ok_or_else(missing)?;
        let mounted = place.sink.mount(&node.descriptor, &giver.repository).await;
        if mounted.map_err(|e| e.side(Side::Destination))? {
            return Ok(Done { mounted: 1, ..Done::default() });
        }
        match (self.send(node, source.as_ref(), place, meter.clone()).await, &giver.source) {
            // It has passed by: the neighbour has it.
            (Err(error), Some(neighbour)) if error.kind() == Kind::BlobMissing => {
                self.send(node, neighbour.as_ref(), place, meter).await
            }
            (sent, _) => sent,
        }
    }

    async fn send(&self, node: &Node, source: &dyn Source, place: &Place, meter: Meter) -> Result<Done> {
        let note = |text: &str| self.watch.note(text);
        let once = || send(&node.descriptor, source, place.sink.as_ref(), meter.clone(), self.rate.as_ref());
        let sent = retrying(Patience::default(), &note, once).await;
        let adopted = match sent {
            // A bit that flipped on the way is worth one more try; a place that lies lies again.
            Err(error) if error.kind() == Kind::DigestMismatch => {
                note(&format!("{error}; once more"));
                once().await?
            }
            sent => sent?,
        };
        let adopted = usize::from(adopted);
        Ok(Done { sent: 1, sent_bytes: node.descriptor.size, adopted, ..Done::default() })
    }

    /// Sets all names, then asks for each what it leads to; the same for what is found by its subject.
    async fn tag_all(&self, survey: &Survey) -> Result<usize> {
        let Survey { tags, references, .. } = survey;
        let jobs = self.jobs.max(1);
        let set = async |tags: Vec<&TagMove>| {
            let set =
                tags.into_iter().map(|tag| async move { self.tag(tag).await.map_err(|e| at_tag(e, tag)) });
            stream::iter(set).buffer_unordered(jobs).try_collect::<Vec<()>>().await
        };
        // A list may take the place of an image's name only when that has its other one.
        let beside = |tag: &&TagMove| {
            tag.target(&self.plan).is_some_and(|digest| tag.name.tag == digest.tag_beside_list())
        };
        let (first, then): (Vec<_>, Vec<_>) = tags.iter().partition(beside);
        set(first).await?;
        let refer = references.iter().map(|reference| self.refer(reference));
        stream::iter(refer).buffer_unordered(jobs).try_collect::<Vec<()>>().await?;
        // No image is named whose signatures cannot be found.
        let check = references.iter().map(|reference| self.check_reference(reference));
        stream::iter(check).buffer_unordered(jobs).try_collect::<Vec<()>>().await?;
        set(then).await?;
        for place in &self.places {
            place.sink.commit().await.map_err(|e| e.side(Side::Destination))?;
        }
        let check = tags.iter().map(|tag| async move { self.check(tag).await.map_err(|e| at_tag(e, tag)) });
        stream::iter(check).buffer_unordered(jobs).try_collect::<Vec<()>>().await?;
        Ok(tags.len())
    }

    async fn refer(&self, reference: &Reference) -> Result<()> {
        let place = self.places.get(reference.place).ok_or_else(missing)?;
        let mut referrers = Vec::new();
        for node in &reference.nodes {
            let (descriptor, bytes) = self.document(*node).await?;
            let Descriptor { media_type, digest, .. } = descriptor.clone();
            referrers.push(Kept { media_type, digest, bytes });
        }
        let note = |text: &str| self.watch.note(text);
        let referred =
            retrying(Patience::default(), &note, || place.sink.refer(&reference.subject, &referrers)).await;
        referred.map_err(|e| e.side(Side::Destination))
    }

    async fn check_reference(&self, reference: &Reference) -> Result<()> {
        let place = self.places.get(reference.place).ok_or_else(missing)?;
        let found = place.sink.referrers(&reference.subject).await;
        let found = found.map_err(|e| e.side(Side::Destination))?;
        let digests = reference.nodes.iter().filter_map(|node| self.plan.nodes.get(*node));
        match digests.map(|node| node.descriptor.digest).find(|digest| !found.digests.contains(digest)) {
            None => Ok(()),
            Some(lost) => {
                Err(Error::new(Kind::RegistryCorrupt, "what is attached to a document is not found by it")
                    .at(reference.subject)
                    .expected(lost)
                    .hint("somebody else may be attaching to the same image; run the import again")
                    .side(Side::Destination))
            }
        }
    }

    /// A document and its bytes.
    async fn document(&self, node: usize) -> Result<(&Descriptor, Bytes)> {
        let node = self.plan.nodes.get(node).ok_or_else(missing)?;
        let source = self.sources.get(node.origin).ok_or_else(missing)?;
        let content = source.fetch(&node.descriptor).await.map_err(|e| e.side(Side::Source))?;
        Ok((&node.descriptor, content.from(Side::Source).into_bytes().await?))
    }

    async fn tag(&self, tag: &TagMove) -> Result<()> {
        let place = self.places.get(tag.place).ok_or_else(missing)?;
        if tag.before.is_some() && tag.before == tag.target(&self.plan) {
            return Ok(());
        }
        let (descriptor, bytes) = self.document(tag.node).await?;
        let note = |text: &str| self.watch.note(text);
        retrying(Patience::default(), &note, || place.sink.tag(&tag.name, descriptor, bytes.clone())).await
    }

    async fn check(&self, tag: &TagMove) -> Result<()> {
        let place = self.places.get(tag.place).ok_or_else(missing)?;
        let digest = tag.target(&self.plan).ok_or_else(missing)?;
        match place.sink.tagged(&tag.name).await? {
            Some(now) if now == digest => Ok(()),
            now => Err(Error::new(Kind::RegistryCorrupt, "a tag does not lead to what was pushed")
                .got(now.map_or("nothing".to_owned(), |now| now.to_string()))
                .expected(digest)
                .hint("somebody else may be pushing to the same tag; run the import again")),
        }
    }
}

/// A number that leads nowhere.
pub(super) fn missing() -> Error {
    Error::new(Kind::BlobMissing, "the plan names content that it does not have")
}

fn at_tag(error: Error, tag: &TagMove) -> Error {
    error.at(&tag.name).side(Side::Destination)
}

/// Brings content from one place to another; whether it was taken over from a file.
async fn send(
    descriptor: &Descriptor,
    source: &dyn Source,
    sink: &dyn Sink,
    meter: Meter,
    rate: Option<&Rate>,
) -> Result<bool> {
    // What goes at a rate goes by piece.
    if rate.is_none() && adopt(descriptor, source, sink, &meter).await? {
        return Ok(true);
    }
    let begun = sink.begun(descriptor).await.map_err(|e| e.side(Side::Destination))?;
    let whole = begun.is_none();
    let content = open(descriptor, source, begun, rate).await?;
    let reader = Reader::new(descriptor, content).metered(meter);
    // What was begun here may be what is wrong with it.
    let reader = if whole { reader.from(Side::Source) } else { reader };
    sink.push(descriptor, reader).await.map_err(|e| e.side(Side::Destination))?;
    Ok(false)
}

async fn adopt(descriptor: &Descriptor, source: &dyn Source, sink: &dyn Sink, meter: &Meter) -> Result<bool> {
    let extent = source.extent(descriptor).await.map_err(|e| e.side(Side::Source))?;
    let Some(extent) = extent.filter(|extent| extent.file.is_some()) else { return Ok(false) };
    let taken = sink.adopt(descriptor, &extent, meter).await;
    taken.map_err(|e| match e.kind() {
        Kind::DigestMismatch => e.side(Side::Source),
        _ => e.side(Side::Destination),
    })
}

/// Content from its beginning on: what there is of it, then the rest from the source.
pub(super) async fn open(
    descriptor: &Descriptor,
    source: &dyn Source,
    begun: Option<Begun>,
    rate: Option<&Rate>,
) -> Result<Unverified> {
    let rest = async |from| {
        let rest = source.open(descriptor, from).await.map_err(|e| e.side(Side::Source))?;
        Ok::<_, Error>(paced(rest.from(Side::Source), rate))
    };
    match begun {
        None => rest(0).await,
        Some(begun) if begun.length >= descriptor.size => Ok(begun.content),
        Some(begun) => Ok(begun.content.then(rest(begun.length).await?)),
    }
}

/// Content at a rate, if there is one.
pub(super) fn paced(content: Unverified, rate: Option<&Rate>) -> Unverified {
    match rate {
        Some(rate) => rate.pace(content),
        None => content,
    }
}
