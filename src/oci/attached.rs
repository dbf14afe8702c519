//! Content that is attached to a document: signatures, SBOMs, attestations. There are two ways to say so.
//! A manifest names its `subject`, and the registry lists it (distribution-spec, "Listing Referrers"; where
//! it does not, an index under the subject's fallback tag does). Or it says nothing, and lies under a tag that
//! follows from the subject's digest, which is cosign's older way.

use super::{Descriptor, Digest, Tag};

/// What cosign's tags end with: signatures, attestations, SBOMs.
const KINDS: [&str; 3] = [".att", ".sbom", ".sig"];

/// A document that is attached to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// What it is attached to.
    pub subject: Digest,
    /// The document.
    pub descriptor: Descriptor,
    /// The tag that attaches it, where no `subject` does.
    pub tag: Option<Tag>,
}

impl Digest {
    /// The tag under which an index lists what is attached to this, at registries without the referrers API
    /// (distribution-spec, "Referrers Tag Schema").
    pub fn fallback_tag(&self) -> Tag {
        Tag::of_digest(self, "")
    }

    /// The tag of an image that is asked for by its digest and has no tag of its own: the same, but where that
    /// has to lead to a list.
    pub fn tag_beside_list(&self) -> Tag {
        Tag::of_digest(self, ".image")
    }

    /// The tags under which cosign keeps what it attaches to this.
    pub fn cosign_tags(&self) -> [Tag; KINDS.len()] {
        KINDS.map(|kind| Tag::of_digest(self, kind))
    }
}

impl Tag {
    /// The tag of a full name, or a bare one.
    pub fn of_name(name: &str) -> Option<Tag> {
        name.rsplit([':', '/']).next()?.parse().ok()
    }

    /// What something under this tag is attached to: one of cosign's tags, or a fallback tag.
    pub fn subject(&self) -> Option<Digest> {
        let name = KINDS.iter().find_map(|kind| self.as_str().strip_suffix(kind)).unwrap_or(self.as_str());
        name.strip_prefix("sha256-").and_then(Digest::from_hex)
    }
}
