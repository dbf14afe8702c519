//! The plan: everything that a set of images consists of, known before a single layer moves.
//! What is asked for enters as [`Want`]s; the documents are read from their sources; a [`Plan`]
//! leaves. It holds no content, only descriptors, and it is closed: every child of every document
//! is in it, or was left out by name and with a reason.

mod attach;
mod beside;
mod crew;
mod elsewhere;
mod pace;
mod relay;
mod resolve;
mod transfer;
mod trim;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::oci::{Attached, Descriptor, Digest, Name, Platform, Tag};

pub use relay::{Ahead, Beginnings, Passing, Turns, relay};
pub use resolve::{Sources, resolve};
pub use transfer::{Done, How, Move, Place, Reference, Survey, TagMove, Transfer, ready, survey, transfer};
pub use trim::{Trimmed, lacking, probe};

/// An image that is asked for.
#[derive(Clone, Debug)]
pub struct Want {
    /// The image's name in the release manifest.
    pub image: String,
    /// Its variant: `standard`, `distroless`, `edge`, …
    pub variant: String,
    /// Its full name. The first of its tags.
    pub source: Name,
    /// All tags it is to have, `source.tag` first.
    pub tags: Vec<Tag>,
    /// How its top document is found.
    pub target: Target,
    /// Which of its platforms are wanted.
    pub selection: Selection,
    /// What is attached to it.
    pub attachments: Attachments,
}

/// How it is known what is attached to an image.
#[derive(Clone, Debug)]
pub enum Attachments {
    /// The source is asked for it.
    Asked,
    /// It is this, or less where parts of the image are left out.
    Known(Vec<Attached>),
    /// Nothing is taken along.
    Left,
}

/// How the top document of an image is found.
#[derive(Clone, Debug)]
pub enum Target {
    /// By asking the source what the tag leads to; where a digest is given, it must be that one.
    Tagged {
        /// The only digest that is accepted.
        pin: Option<Digest>,
    },
    /// By its digest, whatever its tags are.
    Digest(Digest),
    /// It is known already.
    Known(Descriptor),
}

/// Which parts of an image are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Parts that were left out earlier, with the reasons given then.
    pub without: Vec<Omitted>,
    /// Restriction to some platforms.
    pub only: Option<Only>,
}

/// A restriction to some platforms.
#[derive(Clone, Debug, Default)]
pub struct Only {
    /// It is an error where an image lacks one of these.
    pub required: Vec<Platform>,
    /// Taken where an image has them, recorded where not.
    pub optional: Vec<Platform>,
}

/// An image as it was resolved; the statement of a bundle holds it in this form. Fields stand in
/// the order of their JSON keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Image {
    /// Digest of the top document.
    pub digest: Digest,
    /// Media type of the top document.
    pub media_type: String,
    /// The image's name in the release manifest.
    pub name: String,
    /// What was left out, and why.
    pub omitted: Vec<Omitted>,
    /// What is in, per platform.
    pub platforms: Vec<Build>,
    /// Content attached to the image: signatures, SBOMs, attestations.
    pub referrers: Vec<Referrer>,
    /// The full name the image was asked for by.
    pub source: Name,
    /// All tags, the source's first.
    pub tags: Vec<Tag>,
    /// The variant.
    pub variant: String,
}

impl Image {
    /// The full names of the image, one per tag.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.tags.iter().map(|tag| self.source.with_tag(tag.clone()))
    }

    /// How people call it: `engine/distroless`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.name, self.variant)
    }
}

/// One platform's build of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Digest of its manifest.
    pub digest: Digest,
    /// The platform.
    pub platform: Platform,
    /// Bytes of the manifest, its config and its layers, each counted once.
    pub size: u64,
}

/// An entry of an image's indexes that is not taken along.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omitted {
    /// Its digest; `None` for a platform that the image does not have.
    pub digest: Option<Digest>,
    /// Its platform, where it has one.
    pub platform: Option<Platform>,
    /// Why.
    pub reason: String,
}

impl Omitted {
    /// Why layers are missing that may be.
    pub(crate) const NOT_DISTRIBUTED: &str = "a layer that is not distributed with the image";

    /// Whether it is a layer.
    pub fn is_layer(&self) -> bool {
        self.digest.is_some() && self.reason == Self::NOT_DISTRIBUTED
    }

    /// Whether it is an entry of an index, which lacks it then.
    pub fn is_entry(&self) -> bool {
        self.digest.is_some() && !self.is_layer()
    }
}

/// A document attached to one of an image's documents, or to another one that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Referrer {
    /// What kind of artifact it is.
    pub artifact_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// What it is attached to.
    pub subject: Digest,
    /// The tag that attaches it, where it does not name its subject itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
}

/// One distinct piece of content in a plan.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub descriptor: Descriptor,
    /// The first image that reaches it: its source is asked for the content.
    pub origin: usize,
    /// The nodes it names; a manifest's in its own order, as often as it names them.
    pub children: Vec<usize>,
    /// Distance from the furthest image above it: parents have smaller ranks than their children.
    pub rank: usize,
}

/// See the module's text. Nodes stand in bundle order: indexes, manifests (parents before
/// children), configs, layers; within each group in the order in which they are first reached.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The images, in the order in which they were asked for.
    pub images: Vec<Image>,
    /// Every distinct piece of content.
    pub nodes: Vec<Node>,
    /// The node of each image's top document.
    pub roots: Vec<usize>,
    /// The nodes of each image's referrers, in their order.
    pub attached: Vec<Vec<usize>>,
    /// The newest creation time that an image config states.
    pub created: Option<Timestamp>,
}

impl Plan {
    /// Bytes of all nodes together.
    pub fn bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.descriptor.size).sum()
    }

    /// All nodes of some images, each once, in bundle order; what is attached to them is theirs.
    pub fn closure(&self, images: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut found = HashSet::new();
        let mut ahead: Vec<usize> = Vec::new();
        for image in images {
            ahead.extend(self.roots.get(image));
            ahead.extend(self.attached.get(image).into_iter().flatten());
        }
        while let Some(node) = ahead.pop() {
            if found.insert(node) {
                ahead.extend(self.nodes.get(node).into_iter().flat_map(|node| &node.children));
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        found
    }

    /// What is attached to an image, and the nodes of these documents.
    pub fn referrers(&self, image: usize) -> impl Iterator<Item = (&Referrer, usize)> {
        let referrers = self.images.get(image).into_iter().flat_map(|image| &image.referrers);
        referrers.zip(self.attached.get(image).into_iter().flatten().copied())
    }

    /// The same plan with these of its nodes alone, in this order.
    ///
    /// # Errors
    /// `BlobMissing` where an image's top document, or something attached, is not among them.
    pub fn excerpt(self, order: &[usize]) -> Result<Plan> {
        let place: HashMap<usize, usize> = order.iter().enumerate().map(|(to, from)| (*from, to)).collect();
        let placed = |from: &usize| place.get(from).copied();
        let required = |from: &[usize]| {
            from.iter().map(placed).collect::<Option<Vec<_>>>().ok_or_else(transfer::missing)
        };
        let node = |from: &usize| {
            let node = self.nodes.get(*from).ok_or_else(transfer::missing)?;
            let children = node.children.iter().filter_map(placed).collect();
            Ok(Node { children, ..node.clone() })
        };
        Ok(Plan {
            nodes: order.iter().map(node).collect::<Result<_>>()?,
            roots: required(&self.roots)?,
            attached: self.attached.iter().map(|nodes| required(nodes)).collect::<Result<_>>()?,
            images: self.images,
            created: self.created,
        })
    }

    /// For each image, the bytes that only it needs, and the bytes that it shares with others.
    pub fn shares(&self) -> Vec<Share> {
        self.weighed(|node| self.nodes.get(node).map_or(0, |node| node.descriptor.size))
    }

    /// The same where each node counts for so many bytes.
    fn weighed(&self, weight: impl Fn(usize) -> u64) -> Vec<Share> {
        let images = 0..self.images.len();
        let mut users = vec![0usize; self.nodes.len()];
        for node in images.clone().flat_map(|image| self.closure([image])) {
            if let Some(count) = users.get_mut(node) {
                *count += 1;
            }
        }
        images.map(|image| self.share(&users, image, &weight)).collect()
    }

    fn share(&self, users: &[usize], image: usize, weight: impl Fn(usize) -> u64) -> Share {
        let mut share = Share::default();
        for number in self.closure([image]) {
            let size = weight(number);
            match users.get(number) {
                Some(0 | 1) | None => share.own += size,
                Some(_) => share.shared += size,
            }
        }
        share
    }
}

/// An image's part in a plan, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Needed by this image alone.
    pub own: u64,
    /// Needed by other images of the plan as well.
    pub shared: u64,
}
