//! From wants to a plan: reads indexes, manifests and image configs, and no layer. Each document is
//! read once, however many images and platforms share it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::attach::attach;
use super::elsewhere::settle;
use super::{Build, Image, Node, Omitted, Only, Plan, Selection, Target, Want};
use crate::content::Source;
use crate::error::{Error, Kind, Result, Side};
use crate::limits;
use crate::oci::{Child, Config, Descriptor, Digest, Document, MediaType, Platform, Role};

/// The source of each want, in the same order.
pub type Sources = Vec<Arc<dyn Source>>;

/// Images, and documents of one image, that are read at once.
pub(super) const READS: usize = 8;

/// Reads the documents of all wants and decides what belongs to them.
///
/// # Errors
/// The sources' own; `PinMismatch`, `PlatformMissing`, `PlatformMismatch`, and what
/// [`Document::parse`] refuses. Nothing is decided where one image fails.
pub async fn resolve(wants: &[Want], sources: &Sources) -> Result<Plan> {
    let shelf = Shelf::default();
    let mut assembly = Assembly::default();
    let walks = wants.iter().zip(sources).map(|(want, source)| {
        let shelf = &shelf;
        async move {
            let mut tree = walk(want, source.as_ref(), shelf).await;
            if let Ok(walked) = &mut tree
                && let Err(error) = attach(walked, want, source.as_ref(), shelf).await
            {
                tree = Err(error);
            }
            tree.map_err(|e| e.about(&want.source).side(Side::Source))
        }
    });
    // Ordered: the plan does not depend on which answer came first.
    let mut trees = stream::iter(walks).buffered(READS);
    while let Some(tree) = trees.try_next().await? {
        assembly.add(tree)?;
    }
    drop(trees);
    // What was learned from the documents is in the assembly now; both together would be the peak of memory.
    drop(shelf);
    let may_miss = assembly.may_miss();
    settle(assembly.finish()?, &may_miss, sources).await
}

/// What was learned from a document; its bytes are not kept.
pub(super) struct Facts {
    pub names: Names,
    pub subject: Option<Digest>,
    pub artifact_type: MediaType,
}

/// What a document names.
pub(super) enum Names {
    Index(Vec<Child>),
    Manifest {
        /// Config first, then layers.
        children: Vec<Descriptor>,
        config: Config,
        /// Bytes of manifest, config and layers, each counted once.
        size: u64,
    },
}

/// The documents read so far.
#[derive(Default)]
pub(super) struct Shelf {
    known: Mutex<HashMap<Digest, Arc<Facts>>>,
    children: AtomicUsize,
}

impl Shelf {
    fn get(&self, digest: &Digest) -> Option<Arc<Facts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn keep(&self, digest: Digest, facts: Facts) -> Result<Arc<Facts>> {
        let count = match &facts.names {
            Names::Index(children) => children.len(),
            Names::Manifest { children, .. } => children.len(),
        };
        // A hostile source could go on for ever, each document honest by itself.
        if self.children.fetch_add(count + 1, Ordering::Relaxed) > limits::EDGES {
            return Err(too_much());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(digest).or_insert_with(|| Arc::new(facts)).clone())
    }

    async fn read(&self, descriptor: &Descriptor, source: &dyn Source) -> Result<Arc<Facts>> {
        if let Some(facts) = self.get(&descriptor.digest) {
            return Ok(facts);
        }
        if descriptor.size > limits::DOCUMENT {
            return Err(Error::new(Kind::LimitExceeded, "a document is too large for any registry")
                .at(descriptor.digest)
                .got(format_args!("{} bytes", descriptor.size))
                .expected(format_args!("at most {} bytes", limits::DOCUMENT)));
        }
        let bytes = source.fetch(descriptor).await?.into_bytes().await?;
        self.learn(Document::parse(descriptor, bytes)?, source).await
    }

    async fn learn(&self, document: Document, source: &dyn Source) -> Result<Arc<Facts>> {
        let Document { descriptor, mut children, subject, artifact_type, .. } = document;
        let facts = |names| Facts { names, subject, artifact_type };
        if descriptor.role == Role::Index {
            children.shrink_to_fit();
            return self.keep(descriptor.digest, facts(Names::Index(children)));
        }
        let mut children: Vec<_> = children.into_iter().map(|child| child.descriptor).collect();
        // They were collected where the larger ones lay: that room is not kept for each document.
        children.shrink_to_fit();
        let config = match children.first() {
            Some(config) if config.media_type.is_image_config() => read_config(config, source).await?,
            _ => Config::default(),
        };
        let size = descriptor.size.saturating_add(distinct_bytes(&children));
        self.keep(descriptor.digest, facts(Names::Manifest { children, config, size }))
    }

    /// Reads several documents side by side; the answers come in the order of the questions.
    pub(super) async fn read_all<'d>(
        &self,
        documents: impl IntoIterator<Item = &'d Descriptor>,
        source: &dyn Source,
    ) -> Result<Vec<Arc<Facts>>> {
        let reads = documents.into_iter().map(|descriptor| self.read(descriptor, source));
        stream::iter(reads).buffered(READS).try_collect().await
    }
}

/// One image's documents, in breadth-first order; then those that are attached to them.
pub(super) struct Tree {
    pub image: Image,
    pub documents: Vec<Kept>,
    created: Option<Timestamp>,
    listed: HashSet<Digest>,
    left_out: HashSet<Omitted>,
}

/// A document and those of its children that are taken along.
pub(super) struct Kept {
    pub descriptor: Descriptor,
    pub children: Vec<Descriptor>,
}

async fn walk(want: &Want, source: &dyn Source, shelf: &Shelf) -> Result<Tree> {
    let top = top_document(want, source, shelf).await?;
    let mut tree = Tree::new(want, &top);
    let mut available = Vec::new();
    let mut seen = HashSet::new();
    let mut level = vec![Child { descriptor: top, platform: None, attests: None }];
    for depth in 0.. {
        if level.is_empty() {
            break;
        }
        let facts = shelf.read_all(level.iter().map(|child| &child.descriptor), source).await?;
        let mut below = Vec::new();
        for (child, facts) in level.iter().zip(&facts) {
            match &facts.names {
                Names::Index(_) if depth >= limits::INDEX_DEPTH => {
                    return Err(Error::new(Kind::LimitExceeded, "indexes are nested too deeply")
                        .expected(format_args!("at most {} levels", limits::INDEX_DEPTH)));
                }
                Names::Index(children) => {
                    available.extend(children.iter().filter_map(|child| child.platform.clone()));
                    let kept = tree.select(&child.descriptor, children, &want.selection);
                    // One manifest may serve several platforms: it is listed for each.
                    let new = |child: &Child| seen.insert((child.descriptor.digest, child.platform.clone()));
                    below.extend(kept.into_iter().filter(new));
                }
                Names::Manifest { children, config, size } => {
                    tree.add_manifest(child, children, config, *size)?
                }
            }
        }
        level = below;
    }
    available.retain(|platform| !platform.is_unknown());
    tree.check_platforms(&want.selection, &available)?;
    Ok(tree)
}

async fn top_document(want: &Want, source: &dyn Source, shelf: &Shelf) -> Result<Descriptor> {
    let (pin, digest) = match &want.target {
        Target::Known(descriptor) => return Ok(descriptor.clone()),
        Target::Tagged { pin } => (*pin, None),
        Target::Digest(digest) => (None, Some(digest)),
    };
    let (descriptor, bytes) = source.resolve(&want.source, digest).await?;
    if let Some(pin) = pin.filter(|pin| *pin != descriptor.digest) {
        return Err(Error::new(Kind::PinMismatch, "the tag no longer leads to the pinned digest")
            .got(descriptor.digest)
            .expected(pin)
            .hint("find out who moved the tag; pin the new digest only if that was meant"));
    }
    if let Some(asked) = digest.filter(|asked| **asked != descriptor.digest) {
        return Err(Error::new(Kind::DigestMismatch, "a document is not what its digest says")
            .got(descriptor.digest)
            .expected(asked));
    }
    // The bytes are at hand: no need to ask for them again.
    if shelf.get(&descriptor.digest).is_none() {
        shelf.learn(Document::parse(&descriptor, bytes)?, source).await?;
    }
    Ok(descriptor)
}

impl Tree {
    fn new(want: &Want, top: &Descriptor) -> Self {
        Tree {
            image: Image {
                digest: top.digest,
                media_type: top.media_type.to_string(),
                name: want.image.clone(),
                omitted: Vec::new(),
                platforms: Vec::new(),
                referrers: Vec::new(),
                source: want.source.clone(),
                tags: want.tags.clone(),
                variant: want.variant.clone(),
            },
            documents: Vec::new(),
            created: None,
            listed: HashSet::new(),
            left_out: HashSet::new(),
        }
    }

    fn omit(&mut self, omitted: Omitted) {
        if self.left_out.insert(omitted.clone()) {
            self.image.omitted.push(omitted);
        }
    }

    /// Decides which children of an index are taken along.
    fn select(&mut self, index: &Descriptor, children: &[Child], selection: &Selection) -> Vec<Child> {
        let choice = Choice::of(children, selection);
        let (kept, left): (Vec<&Child>, Vec<&Child>) = children.iter().partition(|child| choice.keeps(child));
        for child in left {
            self.omit(choice.omitted(child));
        }
        let kept: Vec<Child> = kept.into_iter().cloned().collect();
        self.documents.push(Kept {
            descriptor: index.clone(),
            children: kept.iter().map(|child| child.descriptor.clone()).collect(),
        });
        kept
    }

    fn add_manifest(
        &mut self,
        child: &Child,
        children: &[Descriptor],
        config: &Config,
        size: u64,
    ) -> Result<()> {
        let digest = child.descriptor.digest;
        self.created = self.created.max(config.created);
        let platform = agreed(child.platform.clone(), config.platform.clone()).map_err(|e| e.at(digest))?;
        if let Some(platform) = platform.filter(|platform| !platform.is_unknown()) {
            self.image.platforms.push(Build { digest, platform, size });
        }
        if self.listed.insert(digest) {
            self.documents.push(Kept { descriptor: child.descriptor.clone(), children: children.to_vec() });
        }
        Ok(())
    }

    /// Every required platform must be there; an optional one that is not is recorded.
    fn check_platforms(&mut self, selection: &Selection, available: &[Platform]) -> Result<()> {
        for absent in selection.without.iter().filter(|omitted| omitted.digest.is_none()) {
            self.omit(absent.clone());
        }
        let Some(only) = &selection.only else { return Ok(()) };
        // An artifact (a chart, say) has no platform and serves all of them.
        if available.is_empty() && self.image.platforms.is_empty() {
            return Ok(());
        }
        let builds = &self.image.platforms;
        let lacks = |wanted: &&Platform| !builds.iter().any(|build| wanted.matches(&build.platform));
        let left_out = |wanted: &&Platform| {
            let mut before = selection.without.iter().filter_map(|omitted| omitted.platform.as_ref());
            before.any(|platform| wanted.matches(platform))
        };
        if let Some(missing) = only.required.iter().filter(lacks).find(|wanted| left_out(wanted)) {
            let there: BTreeSet<_> = builds.iter().map(|build| build.platform.to_string()).collect();
            return Err(Error::new(
                Kind::PlatformMissing,
                "this platform was left out when the bundle was made",
            )
            .got(there.into_iter().collect::<Vec<_>>().join(", "))
            .expected(missing)
            .hint("get a bundle with it, or ask for what is there"));
        }
        if let Some(missing) = only.required.iter().find(lacks) {
            let mut there: Vec<_> = available.iter().map(Platform::to_string).collect();
            there.extend(builds.iter().map(|build| build.platform.to_string()));
            there.sort();
            there.dedup();
            return Err(Error::new(Kind::PlatformMissing, "the image has no build for a required platform")
                .got(there.join(", "))
                .expected(missing)
                .hint("have the image built for it, or ask for fewer platforms (optional_platforms in the release manifest, --platform)"));
        }
        let absent: Vec<_> = only.optional.iter().filter(lacks).cloned().collect();
        for platform in absent {
            let reason = "optional platform, not in the image".to_owned();
            self.omit(Omitted { digest: None, platform: Some(platform), reason });
        }
        Ok(())
    }
}

/// What is kept of one index. Decided entry by entry: one manifest may be listed for a platform that
/// is wanted and for one that is not.
struct Choice<'a> {
    only: Option<&'a Only>,
    before: HashMap<(Digest, Option<&'a Platform>), &'a Omitted>,
    /// Manifests that are kept for their own sake.
    subjects: HashSet<Digest>,
}

impl<'a> Choice<'a> {
    fn of(children: &[Child], selection: &'a Selection) -> Self {
        let earlier = selection.without.iter();
        let earlier = earlier.filter_map(|o| Some(((o.digest?, o.platform.as_ref()), o)));
        let mut choice =
            Choice { only: selection.only.as_ref(), before: earlier.collect(), subjects: HashSet::new() };
        choice.subjects = children
            .iter()
            .filter(|child| choice.wants(child))
            .map(|child| child.descriptor.digest)
            .collect();
        choice
    }

    fn left_out_before(&self, child: &Child) -> Option<&'a Omitted> {
        self.before.get(&(child.descriptor.digest, child.platform.as_ref())).copied()
    }

    fn wants(&self, child: &Child) -> bool {
        match (&child.platform, self.only) {
            _ if self.left_out_before(child).is_some() => false,
            (_, None) => true,
            (Some(platform), Some(only)) if !platform.is_unknown() => only.names(platform),
            (_, Some(_)) => child.attests.is_none(),
        }
    }

    fn keeps(&self, child: &Child) -> bool {
        // Attestations go along with the platform they describe.
        let follows = child.attests.is_some_and(|subject| self.subjects.contains(&subject));
        self.wants(child) || follows && self.left_out_before(child).is_none()
    }

    fn omitted(&self, child: &Child) -> Omitted {
        let reason = match self.left_out_before(child) {
            Some(earlier) => earlier.reason.clone(),
            None if child.attests.is_some() => "describes a platform that is not asked for".to_owned(),
            None => "platform not asked for".to_owned(),
        };
        Omitted { digest: Some(child.descriptor.digest), platform: child.platform.clone(), reason }
    }
}

impl Only {
    fn names(&self, platform: &Platform) -> bool {
        self.required.iter().chain(&self.optional).any(|wanted| wanted.matches(platform))
    }
}

async fn read_config(config: &Descriptor, source: &dyn Source) -> Result<Config> {
    if config.size > limits::CONFIG {
        return Err(Error::new(Kind::LimitExceeded, "an image config is too large")
            .at(config.digest)
            .got(format_args!("{} bytes", config.size))
            .expected(format_args!("at most {} bytes", limits::CONFIG)));
    }
    let bytes = source.fetch(config).await?.into_bytes().await?;
    Config::parse(&bytes).map_err(|e| e.at(config.digest))
}

/// The index's word on the platform, which the config must not contradict. Variants are not
/// compared: many builds for 32-bit ARM leave theirs out of the config.
fn agreed(index: Option<Platform>, config: Option<Platform>) -> Result<Option<Platform>> {
    match (index, config) {
        (Some(index), Some(config)) if !index.is_unknown() && !index.same_machine(&config) => {
            Err(Error::new(Kind::PlatformMismatch, "the index and the image config name different platforms")
                .got(format_args!("{config} in the config"))
                .expected(format_args!("{index} as in the index"))
                .hint("the image would not run where it is pulled: have it built again"))
        }
        (index, config) => Ok(index.or(config)),
    }
}

fn distinct_bytes(descriptors: &[Descriptor]) -> u64 {
    let mut seen = HashSet::new();
    descriptors.iter().filter(|d| seen.insert(d.digest)).fold(0, |sum, d| sum.saturating_add(d.size))
}

/// Trees put together: each digest once.
#[derive(Default)]
struct Assembly {
    images: Vec<Image>,
    roots: Vec<usize>,
    attached: Vec<Vec<usize>>,
    nodes: Vec<Node>,
    known: HashMap<Digest, usize>,
    created: Option<Timestamp>,
    /// Layers that are not distributed with their images; and whether they are named as nothing else.
    elsewhere: HashMap<Digest, bool>,
}

impl Assembly {
    /// What may be missing: what is named as anything else may not.
    fn may_miss(&mut self) -> HashSet<Digest> {
        let elsewhere = std::mem::take(&mut self.elsewhere);
        elsewhere.into_iter().filter(|(_, only)| *only).map(|(digest, _)| digest).collect()
    }

    fn add(&mut self, tree: Tree) -> Result<()> {
        let origin = self.images.len();
        for (position, document) in tree.documents.iter().enumerate() {
            let node = self.node(&document.descriptor, origin)?;
            if position == 0 {
                self.roots.push(node);
            }
            let complete = self.nodes.get(node).is_some_and(|node| !node.children.is_empty());
            if complete && document.descriptor.role == Role::Manifest {
                continue;
            }
            let children = document.children.iter().map(|child| self.node(child, origin));
            let children = children.collect::<Result<Vec<_>>>()?;
            match self.nodes.get_mut(node) {
                // As it says: a layer may stand in it twice.
                Some(node) if document.descriptor.role == Role::Manifest => node.children = children,
                Some(node) => node.adopt(children),
                None => {}
            }
        }
        let attached = tree.image.referrers.iter().map(|referrer| self.known.get(&referrer.digest).copied());
        self.attached.push(attached.collect::<Option<_>>().ok_or_else(super::transfer::missing)?);
        self.created = self.created.max(tree.created);
        self.images.push(tree.image);
        Ok(())
    }

    fn node(&mut self, descriptor: &Descriptor, origin: usize) -> Result<usize> {
        let elsewhere = descriptor.role == Role::Layer && descriptor.media_type.is_elsewhere();
        if let Some(&known) = self.known.get(&descriptor.digest) {
            if let Some(only) = self.elsewhere.get_mut(&descriptor.digest) {
                *only &= elsewhere;
            }
            if let Some(node) = self.nodes.get(known) {
                agree(&node.descriptor, descriptor)?;
            }
            return Ok(known);
        }
        if self.nodes.len() >= limits::BLOBS {
            return Err(too_much());
        }
        if elsewhere {
            self.elsewhere.insert(descriptor.digest, true);
        }
        let number = self.nodes.len();
        self.known.insert(descriptor.digest, number);
        self.nodes.push(Node { descriptor: descriptor.clone(), origin, children: Vec::new(), rank: 0 });
        Ok(number)
    }

    fn finish(mut self) -> Result<Plan> {
        // Whoever adds sizes up later need not look for an overflow.
        let total = self.nodes.iter().try_fold(0u64, |sum, node| sum.checked_add(node.descriptor.size));
        if total.is_none_or(|total| total > i64::MAX as u64) {
            return Err(too_much());
        }
        self.rank();
        self.known = HashMap::new();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|&number| match self.nodes.get(number) {
            Some(node) if node.descriptor.role == Role::Index => (Role::Index, node.rank),
            Some(node) => (node.descriptor.role, 0),
            None => (Role::Layer, 0),
        });
        let mut place = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            if let Some(slot) = place.get_mut(from) {
                *slot = to;
            }
        }
        let placed = |number: &mut usize| *number = place.get(*number).copied().unwrap_or_default();
        self.roots.iter_mut().for_each(placed);
        self.attached.iter_mut().flatten().for_each(placed);
        let mut nodes: Vec<_> = self.nodes.into_iter().map(Some).collect();
        let mut sorted = Vec::with_capacity(nodes.len());
        for from in order {
            if let Some(mut node) = nodes.get_mut(from).and_then(Option::take) {
                node.children.iter_mut().for_each(placed);
                sorted.push(node);
            }
        }
        let Assembly { images, roots, attached, created, .. } = self;
        Ok(Plan { images, nodes: sorted, roots, attached, created })
    }

    /// Pushes every child below its lowest parent. Ends: digests cannot form a cycle, and nesting
    /// was limited while the documents were read.
    fn rank(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for number in 0..self.nodes.len() {
                let Some((below, children)) =
                    self.nodes.get(number).map(|n| (n.rank + 1, n.children.clone()))
                else {
                    continue;
                };
                for child in children {
                    if let Some(child) = self.nodes.get_mut(child).filter(|child| child.rank < below) {
                        child.rank = below;
                        changed = true;
                    }
                }
            }
        }
    }
}

impl Node {
    /// Two images may keep different parts of one index: the union is carried.
    fn adopt(&mut self, children: Vec<usize>) {
        if self.children == children {
            return;
        }
        let mut known: HashSet<usize> = self.children.iter().copied().collect();
        self.children.extend(children.into_iter().filter(|child| known.insert(*child)));
    }
}

pub(super) fn too_much() -> Error {
    Error::new(Kind::LimitExceeded, "too much content for one bundle")
        .expected(format_args!("at most {} blobs, named at most {} times", limits::BLOBS, limits::EDGES))
        .hint("cut several bundles")
}

/// One digest must be described alike wherever it is named.
fn agree(known: &Descriptor, other: &Descriptor) -> Result<()> {
    if known.size != other.size {
        return Err(Error::new(Kind::SizeMismatch, "one digest is given two sizes")
            .at(known.digest)
            .got(format_args!("{} bytes", other.size))
            .expected(format_args!("{} bytes", known.size)));
    }
    if known.role.is_document() != other.role.is_document() {
        return Err(Error::new(Kind::DocumentAmbiguous, "one digest is named as a document and as a blob")
            .at(known.digest));
    }
    if known.role.is_document() && known.media_type != other.media_type {
        return Err(Error::new(Kind::MediaTypeMismatch, "one document is given two media types")
            .at(known.digest)
            .got(&other.media_type)
            .expected(&known.media_type));
    }
    Ok(())
}
