//! Indexes without the entries that were left out, for places that take only complete ones. A trimmed index is
//! another document than the one it was made from: it has another digest, which no signature speaks of, and says
//! itself where it comes from. What is attached to the original stays attached to that, and what is attached to
//! its manifests stays true, because these keep their bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};

use super::transfer::missing;
use super::{Image, Node, Omitted, Plan, Sources};
use crate::content::{Extent, Kept, Source, Unverified};
use crate::error::{Error, Kind, Result};
use crate::oci::{Attached, Descriptor, Digest, Document, Name, PROBE, Role, TRIMMED_FROM};

/// The nodes of those indexes that lack entries which the plan leaves out.
///
/// # Errors
/// Those of the sources: the indexes are read.
pub async fn lacking(plan: &Plan, sources: &Sources) -> Result<BTreeSet<usize>> {
    let mut lacking = BTreeSet::new();
    let omits = |image: &Image| image.omitted.iter().any(Omitted::is_entry);
    if !plan.images.iter().any(omits) {
        return Ok(lacking);
    }
    for (number, node) in plan.nodes.iter().enumerate() {
        if node.descriptor.role != Role::Index {
            continue;
        }
        let here = plan.children(node);
        let document = Document::parse(&node.descriptor, read(node, sources).await?)?;
        if document.children.iter().any(|child| !here.contains(&child.descriptor.digest)) {
            lacking.insert(number);
        }
    }
    Ok(lacking)
}

/// An index of nothing but what this one lacks, to find out with whether a place takes such indexes.
pub async fn probe(plan: &Plan, sources: &Sources, node: usize) -> Result<Kept> {
    let node = plan.nodes.get(node).ok_or_else(missing)?;
    let here = plan.children(node);
    let bytes = read(node, sources).await?;
    let mut index = Index::parse(node, &bytes)?;
    index.entries.retain(|entry| entry_digest(entry).is_some_and(|digest| !here.contains(&digest)));
    // A document of its own: nobody else has it there, and it can be taken away again.
    index.annotations = BTreeMap::new();
    let bytes = index.write(PROBE, &node.descriptor.digest)?;
    Ok(Kept { media_type: node.descriptor.media_type.clone(), digest: Digest::of(&bytes), bytes })
}

/// A plan with trimmed indexes.
pub struct Trimmed {
    /// The plan. Its nodes have the numbers that they had.
    pub plan: Arc<Plan>,
    cuts: Arc<Cuts>,
}

impl Trimmed {
    /// Puts trimmed indexes into the place of these nodes, and of all indexes above them.
    pub async fn new(plan: &Plan, sources: &Sources, nodes: &BTreeSet<usize>) -> Result<Self> {
        let mut cuts = Cuts::default();
        // Nodes stand in the order of their ranks: children have their new digests before their parents are read.
        for (number, node) in plan.nodes.iter().enumerate().rev() {
            let children = || node.children.iter().filter_map(|child| plan.nodes.get(*child));
            let below = || children().any(|child| cuts.touched(&child.descriptor.digest));
            if node.descriptor.role != Role::Index || !nodes.contains(&number) && !below() {
                continue;
            }
            // An index that goes as it is keeps entries of what is not here.
            let here = nodes.contains(&number).then(|| plan.children(node));
            cuts.here.insert(node.descriptor.digest, here);
            let (bytes, left) = cuts.cut(&node.descriptor, &read(node, sources).await?)?;
            if left == 0 {
                cuts.emptied.insert(node.descriptor.digest);
            }
            let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
            let trimmed = Descriptor { digest, size, ..node.descriptor.clone() };
            cuts.made_of.insert(digest, node.descriptor.clone());
            cuts.made.insert(node.descriptor.digest, trimmed);
        }
        Ok(Trimmed { plan: Arc::new(cuts.applied(plan)), cuts: Arc::new(cuts) })
    }

    /// Where the content of the trimmed plan comes from: trimmed indexes are made anew of their originals.
    pub fn over(&self, sources: Sources) -> Sources {
        let over = |source| -> Arc<dyn Source> { Arc::new(Over { cuts: self.cuts.clone(), source }) };
        sources.into_iter().map(over).collect()
    }
}

impl Plan {
    /// The digests of a node's children.
    fn children(&self, node: &Node) -> HashSet<Digest> {
        let children = node.children.iter().filter_map(|child| self.nodes.get(*child));
        children.map(|child| child.descriptor.digest).collect()
    }
}

async fn read(node: &Node, sources: &Sources) -> Result<Bytes> {
    let source = sources.get(node.origin).ok_or_else(missing)?;
    source.fetch(&node.descriptor).await?.into_bytes().await
}

/// What becomes of which index. Digests only: the documents are made when they are asked for.
#[derive(Default)]
struct Cuts {
    /// What of each index's entries is kept, where not all are; by the original's digest.
    here: HashMap<Digest, Option<HashSet<Digest>>>,
    /// The trimmed form of each, by the original's digest.
    made: HashMap<Digest, Descriptor>,
    /// The original of each, by the trimmed form's digest.
    made_of: HashMap<Digest, Descriptor>,
    /// Originals of which nothing is left: their parents do without them.
    emptied: HashSet<Digest>,
}

impl Cuts {
    fn touched(&self, original: &Digest) -> bool {
        self.made.contains_key(original)
    }

    /// Makes the trimmed form of an index, and counts the entries that are left.
    fn cut(&self, original: &Descriptor, bytes: &[u8]) -> Result<(Bytes, usize)> {
        let mut index = Index::parse_as(original, bytes)?;
        let here = self.here.get(&original.digest).and_then(Option::as_ref);
        index.entries.retain(|entry| {
            entry_digest(entry).is_some_and(|digest| {
                here.is_none_or(|here| here.contains(&digest)) && !self.emptied.contains(&digest)
            })
        });
        for entry in &mut index.entries {
            if let Some(trimmed) = entry_digest(entry).and_then(|digest| self.made.get(&digest)) {
                entry.insert("digest".into(), Cow::Owned(raw(&trimmed.digest)?));
                entry.insert("size".into(), Cow::Owned(raw(&trimmed.size)?));
                // It was the original's content.
                entry.remove("data");
            }
        }
        let left = index.entries.len();
        Ok((index.write(TRIMMED_FROM, &original.digest)?, left))
    }

    fn applied(&self, plan: &Plan) -> Plan {
        let emptied = |node: &usize| {
            plan.nodes.get(*node).is_some_and(|node| self.emptied.contains(&node.descriptor.digest))
        };
        let mut plan = plan.clone();
        let gone: HashSet<usize> = (0..plan.nodes.len()).filter(emptied).collect();
        for node in &mut plan.nodes {
            node.children.retain(|child| !gone.contains(child));
            if let Some(trimmed) = self.made.get(&node.descriptor.digest) {
                node.descriptor = trimmed.clone();
            }
        }
        for image in &mut plan.images {
            let Some(trimmed) = self.made.get(&image.digest) else { continue };
            // A tag that follows from the digest follows from the one that it leads to.
            let (before, now) = (image.digest.fallback_tag(), trimmed.digest.fallback_tag());
            let tags = image.tags.iter_mut().chain([&mut image.source.tag]);
            tags.filter(|tag| **tag == before).for_each(|tag| *tag = now.clone());
            image.digest = trimmed.digest;
        }
        plan
    }
}

/// Fields by name, their values as they are written.
type Fields<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

/// An index, taken apart no further than needed.
struct Index<'a> {
    fields: Fields<'a>,
    entries: Vec<Fields<'a>>,
    annotations: Fields<'a>,
}

impl<'a> Index<'a> {
    fn parse(node: &Node, bytes: &'a [u8]) -> Result<Self> {
        Index::parse_as(&node.descriptor, bytes)
    }

    fn parse_as(descriptor: &Descriptor, bytes: &'a [u8]) -> Result<Self> {
        let wrong = |e: serde_json::Error| {
            Error::new(Kind::DocumentInvalid, "not a valid OCI image index").at(descriptor.digest).got(e)
        };
        let mut fields: BTreeMap<Cow<'a, str>, &'a RawValue> =
            serde_json::from_slice(bytes).map_err(wrong)?;
        let text = |value: Option<&'a RawValue>, instead: &'static str| value.map_or(instead, RawValue::get);
        let entries: Vec<BTreeMap<Cow<'a, str>, &'a RawValue>> =
            serde_json::from_str(text(fields.remove("manifests"), "[]")).map_err(wrong)?;
        let annotations: Option<BTreeMap<Cow<'a, str>, &'a RawValue>> =
            serde_json::from_str(text(fields.remove("annotations"), "{}")).map_err(wrong)?;
        let kept = |fields: BTreeMap<Cow<'a, str>, &'a RawValue>| -> Fields<'a> {
            fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect()
        };
        Ok(Index {
            fields: kept(fields),
            entries: entries.into_iter().map(kept).collect(),
            annotations: kept(annotations.unwrap_or_default()),
        })
    }

    /// Fields sorted by name, values as they were; and one more annotation.
    fn write(mut self, annotation: &'static str, value: &Digest) -> Result<Bytes> {
        self.annotations.insert(annotation.into(), Cow::Owned(raw(value)?));
        self.fields.insert("annotations".into(), Cow::Owned(raw(&self.annotations)?));
        self.fields.insert("manifests".into(), Cow::Owned(raw(&self.entries)?));
        let bytes = serde_json::to_vec(&self.fields).map_err(unwritten)?;
        Ok(Bytes::from(bytes))
    }
}

fn raw(value: &impl serde::Serialize) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(unwritten)
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(Kind::DocumentInvalid, "an index cannot be written").got(error)
}

fn entry_digest(entry: &Fields<'_>) -> Option<Digest> {
    let text: Cow<'_, str> = serde_json::from_str(entry.get("digest")?.get()).ok()?;
    text.parse().ok()
}

/// A source before which trimmed indexes lie.
struct Over {
    cuts: Arc<Cuts>,
    source: Arc<dyn Source>,
}

#[async_trait]
impl Source for Over {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        self.source.resolve(name, digest).await
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let Some(original) = self.cuts.made_of.get(&expected.digest) else {
            return self.source.open(expected, from).await;
        };
        let bytes = self.source.fetch(original).await?.into_bytes().await?;
        Ok(Unverified::of_rest(expected.digest, self.cuts.cut(original, &bytes)?.0, from))
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        self.source.holds(expected).await
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.source.attached(subject).await
    }

    async fn extent(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        match self.cuts.made_of.contains_key(&expected.digest) {
            true => Ok(None),
            false => self.source.extent(expected).await,
        }
    }
}
