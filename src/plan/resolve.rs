//! From wants to a plan: reads indexes, manifests and image configs, and no layer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{Build, Image, Node, Omitted, Only, Plan, Selection, Target, Want};
use crate::content::Source;
use crate::error::{Error, Kind, Result, Side};
use crate::limits;
use crate::oci::{Child, Config, Descriptor, Digest, Document, Platform, Role};

/// The source of each want, in the same order.
pub type Sources = Vec<Arc<dyn Source>>;

/// Requests under way at once while documents are read.
const READS: usize = 8;

/// Reads the documents of all wants and decides what belongs to them.
///
/// # Errors
/// The sources' own; `PinMismatch`, `PlatformMissing`, `PlatformMismatch`, and what
/// [`Document::parse`] refuses. Nothing is decided where one image fails.
pub async fn resolve(wants: &[Want], sources: &Sources) -> Result<Plan> {
    let mut assembly = Assembly::default();
    let walks = wants.iter().zip(sources).map(|(want, source)| async move {
        walk(want, source.as_ref()).await.map_err(|e| e.at(&want.source).side(Side::Source))
    });
    // Ordered: the plan does not depend on which answer came first.
    let mut trees = stream::iter(walks).buffered(READS);
    while let Some(tree) = trees.try_next().await? {
        assembly.add(tree)?;
    }
    drop(trees);
    assembly.finish()
}

/// One image's documents, in breadth-first order.
struct Tree {
    image: Image,
    documents: Vec<Kept>,
    created: Option<Timestamp>,
}

/// A document and those of its children that are taken along.
struct Kept {
    descriptor: Descriptor,
    children: Vec<Descriptor>,
}

async fn walk(want: &Want, source: &dyn Source) -> Result<Tree> {
    let top = top_document(want, source).await?;
    let mut tree = Tree {
        image: Image {
            digest: top.descriptor.digest,
            media_type: top.descriptor.media_type.to_string(),
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
    };
    let mut level = vec![(top, None)];
    let mut depth = 0;
    let mut seen = HashSet::new();
    let mut available = Vec::new();
    while !level.is_empty() {
        if depth > limits::INDEX_DEPTH {
            return Err(Error::new(Kind::LimitExceeded, "indexes are nested too deeply")
                .expected(format_args!("at most {} levels", limits::INDEX_DEPTH)));
        }
        depth += 1;
        let mut below = Vec::new();
        for (document, platform) in level {
            match document.descriptor.role {
                Role::Index => {
                    let kept = tree.select(&document, &want.selection, &mut available);
                    // One manifest may serve several platforms: it is read, and listed, for each.
                    let new = |child: &Child| seen.insert((child.descriptor.digest, child.platform.clone()));
                    below.extend(kept.into_iter().filter(new));
                }
                _ => tree.add_manifest(document, platform, source).await?,
            }
        }
        level = read_all(below, source).await?;
    }
    tree.check_platforms(&want.selection, &available)?;
    Ok(tree)
}

async fn top_document(want: &Want, source: &dyn Source) -> Result<Document> {
    match &want.target {
        Target::Known(descriptor) => read(descriptor, source).await,
        Target::Tagged { pin } => {
            let (descriptor, bytes) = source.resolve(&want.source).await?;
            match pin {
                Some(pin) if *pin != descriptor.digest => {
                    Err(Error::new(Kind::PinMismatch, "the tag no longer leads to the pinned digest")
                        .got(descriptor.digest)
                        .expected(pin)
                        .hint("find out who moved the tag; pin the new digest only if that was meant"))
                }
                _ => Document::parse(&descriptor, bytes),
            }
        }
    }
}

async fn read(descriptor: &Descriptor, source: &dyn Source) -> Result<Document> {
    if descriptor.size > limits::DOCUMENT {
        return Err(Error::new(Kind::LimitExceeded, "a document is too large for any registry")
            .at(descriptor.digest)
            .got(format_args!("{} bytes", descriptor.size))
            .expected(format_args!("at most {} bytes", limits::DOCUMENT)));
    }
    Document::parse(descriptor, source.fetch(descriptor).await?.into_bytes().await?)
}

async fn read_all(children: Vec<Child>, source: &dyn Source) -> Result<Vec<(Document, Option<Platform>)>> {
    let reads = children
        .into_iter()
        .map(|child| async move { Ok((read(&child.descriptor, source).await?, child.platform)) });
    stream::iter(reads).buffered(READS).try_collect().await
}

impl Tree {
    /// Decides which children of an index are taken along.
    fn select(
        &mut self,
        index: &Document,
        selection: &Selection,
        available: &mut Vec<Platform>,
    ) -> Vec<Child> {
        let platforms = index.children.iter().filter_map(|child| child.platform.clone());
        available.extend(platforms.filter(|platform| !platform.is_unknown()));
        let choice = Choice::of(index, selection);
        let (kept, left): (Vec<Child>, Vec<Child>) =
            index.children.iter().cloned().partition(|child| choice.keeps(child));
        for child in left {
            let omitted = choice.omitted(&child);
            if !self.image.omitted.contains(&omitted) {
                self.image.omitted.push(omitted);
            }
        }
        self.documents.push(Kept {
            descriptor: index.descriptor.clone(),
            children: kept.iter().map(|child| child.descriptor.clone()).collect(),
        });
        kept
    }

    async fn add_manifest(
        &mut self,
        manifest: Document,
        platform: Option<Platform>,
        source: &dyn Source,
    ) -> Result<()> {
        let children: Vec<_> = manifest.children.into_iter().map(|child| child.descriptor).collect();
        let config = match children.first() {
            Some(config) if config.media_type.is_image_config() => read_config(config, source).await?,
            _ => Config::default(),
        };
        self.created = self.created.max(config.created.and_then(|created| created.parse().ok()));
        let platform = agreed(platform, config.platform).map_err(|e| e.at(manifest.descriptor.digest))?;
        if let Some(platform) = platform.filter(|platform| !platform.is_unknown()) {
            let size = manifest.descriptor.size + distinct_bytes(&children);
            self.image.platforms.push(Build { digest: manifest.descriptor.digest, platform, size });
        }
        self.documents.push(Kept { descriptor: manifest.descriptor, children });
        Ok(())
    }

    /// Every required platform must be there; an optional one that is not is recorded.
    fn check_platforms(&mut self, selection: &Selection, available: &[Platform]) -> Result<()> {
        self.image.omitted.extend(selection.without.iter().filter(|o| o.digest.is_none()).cloned());
        let Some(only) = &selection.only else { return Ok(()) };
        // An artifact (a chart, say) has no platform and serves all of them.
        if available.is_empty() && self.image.platforms.is_empty() {
            return Ok(());
        }
        let builds = &self.image.platforms;
        let lacks = |wanted: &&Platform| !builds.iter().any(|build| wanted.matches(&build.platform));
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
            let omitted = Omitted { digest: None, platform: Some(platform), reason };
            if !self.image.omitted.contains(&omitted) {
                self.image.omitted.push(omitted);
            }
        }
        Ok(())
    }
}

/// What is kept of one index.
struct Choice<'a> {
    selection: &'a Selection,
    kept: HashSet<Digest>,
}

impl<'a> Choice<'a> {
    fn of(index: &Document, selection: &'a Selection) -> Self {
        let wanted = |child: &&Child| match (&child.platform, &selection.only) {
            _ if omitted_before(selection, child).is_some() => false,
            (Some(platform), Some(only)) if !platform.is_unknown() => only.names(platform),
            (_, Some(_)) => child.attests.is_none(),
            (_, None) => true,
        };
        let mut kept: HashSet<Digest> =
            index.children.iter().filter(wanted).map(|child| child.descriptor.digest).collect();
        // Attestations go along with the platform they describe.
        for child in &index.children {
            let follows = child.attests.is_some_and(|subject| kept.contains(&subject));
            if follows && omitted_before(selection, child).is_none() {
                kept.insert(child.descriptor.digest);
            }
        }
        Choice { selection, kept }
    }

    fn keeps(&self, child: &Child) -> bool {
        self.kept.contains(&child.descriptor.digest)
    }

    fn omitted(&self, child: &Child) -> Omitted {
        let reason = match omitted_before(self.selection, child) {
            Some(earlier) => earlier.reason.clone(),
            None if child.attests.is_some() => "describes a platform that is not asked for".to_owned(),
            None => "platform not asked for".to_owned(),
        };
        Omitted { digest: Some(child.descriptor.digest), platform: child.platform.clone(), reason }
    }
}

fn omitted_before<'a>(selection: &'a Selection, child: &Child) -> Option<&'a Omitted> {
    selection.without.iter().find(|omitted| omitted.digest == Some(child.descriptor.digest))
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
    descriptors.iter().filter(|d| seen.insert(d.digest)).map(|d| d.size).sum()
}

/// Trees put together: each digest once.
#[derive(Default)]
struct Assembly {
    images: Vec<Image>,
    roots: Vec<usize>,
    nodes: Vec<Node>,
    known: HashMap<Digest, usize>,
    created: Option<Timestamp>,
}

impl Assembly {
    fn add(&mut self, tree: Tree) -> Result<()> {
        let origin = self.images.len();
        for (position, document) in tree.documents.iter().enumerate() {
            let node = self.node(&document.descriptor, origin)?;
            if position == 0 {
                self.roots.push(node);
            }
            let children = document.children.iter().map(|child| self.node(child, origin));
            let mut children = children.collect::<Result<Vec<_>>>()?;
            // Two images may keep different parts of one index: the union is carried.
            if let Some(node) = self.nodes.get_mut(node) {
                children.retain(|child| !node.children.contains(child));
                node.children.append(&mut children);
            }
        }
        self.created = self.created.max(tree.created);
        self.images.push(tree.image);
        Ok(())
    }

    fn node(&mut self, descriptor: &Descriptor, origin: usize) -> Result<usize> {
        if let Some(&known) = self.known.get(&descriptor.digest) {
            if let Some(node) = self.nodes.get(known) {
                agree(&node.descriptor, descriptor)?;
            }
            return Ok(known);
        }
        if self.nodes.len() >= limits::BLOBS {
            return Err(Error::new(Kind::LimitExceeded, "too much content for one bundle")
                .expected(format_args!("at most {} blobs", limits::BLOBS))
                .hint("cut several bundles"));
        }
        let number = self.nodes.len();
        self.known.insert(descriptor.digest, number);
        self.nodes.push(Node { descriptor: descriptor.clone(), origin, children: Vec::new(), rank: 0 });
        Ok(number)
    }

    fn finish(mut self) -> Result<Plan> {
        self.rank();
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
        let mut nodes: Vec<_> = self.nodes.into_iter().map(Some).collect();
        let mut sorted = Vec::with_capacity(nodes.len());
        for from in order {
            if let Some(mut node) = nodes.get_mut(from).and_then(Option::take) {
                node.children.iter_mut().for_each(placed);
                sorted.push(node);
            }
        }
        Ok(Plan { images: self.images, nodes: sorted, roots: self.roots, created: self.created })
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
    Ok(())
}
