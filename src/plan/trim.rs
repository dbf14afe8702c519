//! Indexes without the entries that were left out, for places that take only complete ones. A trimmed index is
//! another document than the one it was made from: it has another digest, which no signature speaks of, and says
//! itself where it comes from. What is attached to the original stays attached to that, and what is attached to
//! its manifests stays true, because these keep their bytes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::transfer::missing;
use super::{Image, Node, Plan, Sources};
use crate::content::{Extent, Kept, Source, Unverified};
use crate::error::{Error, Kind, Result};
use crate::oci::{Attached, Descriptor, Digest, MediaType, Name, Role, TRIMMED_FROM, media};

/// What becomes of a plan in which some indexes lack entries, where that is not accepted.
pub struct Sparse {
    /// For each of the indexes: its node, and an index that has only the entries it lacks.
    pub lacking: Vec<(usize, Kept)>,
    /// The plan with trimmed indexes in their place; its nodes have the same numbers.
    pub trimmed: Arc<Plan>,
    documents: Arc<HashMap<Digest, Bytes>>,
}

impl Sparse {
    /// Where the content of the trimmed plan comes from: the trimmed indexes from here, the rest from where the
    /// plan's content comes from.
    pub fn over(&self, sources: Sources) -> Sources {
        let over =
            |source| -> Arc<dyn Source> { Arc::new(Over { documents: self.documents.clone(), source }) };
        sources.into_iter().map(over).collect()
    }
}

/// Looks for indexes of which entries were left out; `None` where there are none.
///
/// # Errors
/// Those of the sources: the indexes are read.
pub async fn sparse(plan: &Plan, sources: &Sources) -> Result<Option<Sparse>> {
    let omits = |image: &Image| image.omitted.iter().any(|omitted| omitted.digest.is_some());
    if !plan.images.iter().any(omits) {
        return Ok(None);
    }
    let mut work = Trimming {
        plan,
        replaced: HashMap::new(),
        documents: HashMap::new(),
        emptied: HashSet::new(),
        lacking: Vec::new(),
    };

    // Nodes stand in the order of their ranks: children have their new digests before their parents are read.
    for (number, node) in plan.nodes.iter().enumerate().rev() {
        if node.descriptor.role == Role::Index {
            work.index(number, node, sources).await?;
        }
    }
    if work.replaced.is_empty() {
        return Ok(None);
    }
    let trimmed = Arc::new(work.plan());
    Ok(Some(Sparse { lacking: work.lacking, trimmed, documents: Arc::new(work.documents) }))
}

struct Trimming<'a> {
    plan: &'a Plan,
    /// The trimmed form of each index that has one, by the original's digest.
    replaced: HashMap<Digest, Descriptor>,
    documents: HashMap<Digest, Bytes>,
    /// Indexes of which nothing is left: their parents do without them.
    emptied: HashSet<Digest>,
    lacking: Vec<(usize, Kept)>,
}

impl Trimming<'_> {
    async fn index(&mut self, number: usize, node: &Node, sources: &Sources) -> Result<()> {
        let source = sources.get(node.origin).ok_or_else(missing)?;
        let bytes = source.fetch(&node.descriptor).await?.into_bytes().await?;
        let mut index: Value = serde_json::from_slice(&bytes).map_err(|e| no_index(node).got(e))?;
        let entries =
            index.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(|| no_index(node))?;
        let here: HashSet<Digest> = node.children.iter().filter_map(|child| self.digest(*child)).collect();
        let (mut kept, lacks): (Vec<Value>, Vec<Value>) = std::mem::take(entries)
            .into_iter()
            .partition(|entry| digest_of(entry).is_some_and(|d| here.contains(&d)));
        let before = kept.len();
        kept.retain(|entry| digest_of(entry).is_none_or(|digest| !self.emptied.contains(&digest)));
        let mut changed = !lacks.is_empty() || kept.len() < before;
        for entry in &mut kept {
            changed |= self.follow(entry);
        }
        if kept.is_empty() && changed {
            self.emptied.insert(node.descriptor.digest);
        }
        *entries = kept;
        if !changed {
            return Ok(());
        }
        annotate(&mut index, &node.descriptor.digest);
        let bytes = Bytes::from(index.to_string());
        let trimmed =
            Descriptor { digest: Digest::of(&bytes), size: bytes.len() as u64, ..node.descriptor.clone() };
        self.documents.insert(trimmed.digest, bytes);
        self.replaced.insert(node.descriptor.digest, trimmed);
        if !lacks.is_empty() {
            self.lacking.push((number, alone(lacks)));
        }
        Ok(())
    }

    fn digest(&self, node: usize) -> Option<Digest> {
        self.plan.nodes.get(node).map(|node| node.descriptor.digest)
    }

    /// An entry of an index that was itself trimmed leads to the trimmed one.
    fn follow(&self, entry: &mut Value) -> bool {
        let Some(trimmed) = digest_of(entry).and_then(|digest| self.replaced.get(&digest)) else {
            return false;
        };
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("digest".to_owned(), json!(trimmed.digest));
            entry.insert("size".to_owned(), json!(trimmed.size));
            // It was the original's content.
            entry.remove("data");
        }
        true
    }

    fn plan(&self) -> Plan {
        let mut plan = self.plan.clone();
        let emptied = |node: &usize| self.digest(*node).is_some_and(|digest| self.emptied.contains(&digest));
        for node in &mut plan.nodes {
            node.children.retain(|child| !emptied(child));
            if let Some(trimmed) = self.replaced.get(&node.descriptor.digest) {
                node.descriptor = trimmed.clone();
            }
        }
        for image in &mut plan.images {
            let Some(trimmed) = self.replaced.get(&image.digest) else { continue };
            // A tag that follows from the digest follows from the one that it leads to.
            let (before, now) = (image.digest.fallback_tag(), trimmed.digest.fallback_tag());
            let tags = image.tags.iter_mut().chain([&mut image.source.tag]);
            tags.filter(|tag| **tag == before).for_each(|tag| *tag = now.clone());
            image.digest = trimmed.digest;
        }
        plan
    }
}

fn no_index(node: &Node) -> Error {
    Error::new(Kind::DocumentInvalid, "not a valid OCI image index").at(node.descriptor.digest)
}

fn digest_of(entry: &Value) -> Option<Digest> {
    entry.get("digest")?.as_str()?.parse().ok()
}

/// Says which index it was made from.
fn annotate(index: &mut Value, original: &Digest) {
    let Some(index) = index.as_object_mut() else { return };
    let annotations = index.entry("annotations").or_insert_with(|| json!({}));
    if !annotations.is_object() {
        *annotations = json!({});
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(TRIMMED_FROM.to_owned(), json!(original));
    }
}

/// An index of these entries alone.
fn alone(entries: Vec<Value>) -> Kept {
    let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": entries });
    let bytes = Bytes::from(index.to_string());
    Kept { media_type: MediaType::new(media::INDEX), digest: Digest::of(&bytes), bytes }
}

/// A source before which some documents lie.
struct Over {
    documents: Arc<HashMap<Digest, Bytes>>,
    source: Arc<dyn Source>,
}

#[async_trait]
impl Source for Over {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        self.source.resolve(name, digest).await
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        match self.documents.get(&expected.digest) {
            Some(bytes) => Ok(Unverified::of_rest(expected.digest, bytes.clone(), from)),
            None => self.source.open(expected, from).await,
        }
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.source.attached(subject).await
    }

    async fn extent(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        match self.documents.contains_key(&expected.digest) {
            true => Ok(None),
            false => self.source.extent(expected).await,
        }
    }
}
