//! What is attached to the images of a layout. A layout has no way to ask it, so every entry is looked at.
//!
//! An entry that is damaged concerns nobody who does not export it, unless it says, or may say, that it is attached to
//! something. Then whoever asks for what is attached to that hears of the damage: a signature must not be lost in
//! silence.

use std::collections::HashMap;

use serde::Deserialize;

use super::source::Layout;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Attached, Descriptor, Digest, Document, NamedDescriptor, Role, Tag, subject_of};

/// What a bundle says of what is attached to its images. Not checked here and not believed: the tag must follow from
/// the digest of what is attached to, and the document's own digest is verified like any other.
const STATEMENT: &str = "bundle/bundle.json";

/// See the module's text.
pub struct Attachments {
    found: HashMap<Digest, Vec<Attached>>,
    /// Entries that say that they are attached to this, and that cannot be used.
    broken: HashMap<Digest, Vec<NamedDescriptor>>,
    tags: HashMap<(Digest, Digest), Vec<Tag>>,
}

impl Attachments {
    /// Looks at all entries.
    pub async fn read(layout: &Layout) -> Result<Self> {
        let mut all =
            Attachments { found: HashMap::new(), broken: HashMap::new(), tags: stated_tags(layout) };
        for entry in layout.entries.iter().filter(|entry| entry.descriptor.role.is_document()) {
            match all.look_at(layout, entry).await {
                Ok(found) => {
                    for one in found {
                        all.found.entry(one.subject).or_default().push(one);
                    }
                }
                Err(error) => {
                    let said = said_subjects(entry);
                    // It has no name of its own: it may well be attached to something.
                    if said.is_empty() && entry.names.is_empty() {
                        return Err(error.hint(
                            "it has no name, and may be a signature or the like: mend the layout, take the entry out of its index.json, or leave behind what is attached (referrers = false)",
                        ));
                    }
                    for subject in said {
                        all.broken.entry(subject).or_default().push(entry.clone());
                    }
                }
            }
        }
        Ok(all)
    }

    /// What is attached to this.
    pub async fn of(&self, layout: &Layout, subject: &Digest) -> Result<Vec<Attached>> {
        let mut attached = self.found.get(subject).cloned().unwrap_or_default();
        for broken in self.broken.get(subject).into_iter().flatten() {
            // The same failure once more, or else what was not to be had before.
            attached.extend(
                self.look_at(layout, broken).await?.into_iter().filter(|one| one.subject == *subject),
            );
        }
        Ok(attached)
    }

    /// What one entry attaches to what.
    async fn look_at(&self, layout: &Layout, entry: &NamedDescriptor) -> Result<Vec<Attached>> {
        let descriptor = &entry.descriptor;
        let bytes = layout.document(descriptor).await?;
        let mut found = Vec::new();
        let mut add = |subject, descriptor: &Descriptor, tag| {
            found.push(Attached { subject, descriptor: descriptor.clone(), tag });
        };
        if let Some(subject) = subject_of(&bytes).map_err(|e| e.at(descriptor.digest))? {
            add(subject, descriptor, None);
        }
        for tag in entry.names.iter().filter_map(|name| Tag::of_name(name)) {
            let Some(subject) = tag.subject() else { continue };
            if tag != subject.fallback_tag() {
                add(subject, descriptor, Some(tag));
                continue;
            }
            // Some tools tag an image itself by its digest: that lists nothing.
            if descriptor.digest == subject || descriptor.role != Role::Index {
                continue;
            }
            for child in Document::parse(descriptor, bytes.clone())?.children {
                add(subject, &child.descriptor, None);
            }
        }
        let Some(subject) = entry.subject else { return Ok(found) };
        // The entry of a bundle does not have the tag that attaches it.
        let tags = self.tags.get(&(subject, descriptor.digest));
        // Its entry says that it is attached to something, and nothing tells how.
        if tags.is_none() && found.iter().all(|one| one.subject != subject) {
            return Err(nameless(layout, entry, &subject));
        }
        let attached =
            |tag: &Tag| Attached { subject, descriptor: descriptor.clone(), tag: Some(tag.clone()) };
        found.extend(tags.into_iter().flatten().map(attached));
        Ok(found)
    }
}

fn nameless(layout: &Layout, entry: &NamedDescriptor, subject: &Digest) -> Error {
    Error::new(Kind::DocumentInvalid, "something is attached to an image by a tag, and the layout does not say which")
        .at(format_args!("{}: {}", layout.access.place(), entry.descriptor.digest))
        .expected(format_args!("one of the tags that cosign gives what belongs to {subject}"))
        .hint("take the images from the bundle itself, with bundle/bundle.json in it, or from a registry; or leave what is attached behind: referrers = false")
}

/// What an entry says that it is attached to, without a look at the document.
fn said_subjects(entry: &NamedDescriptor) -> Vec<Digest> {
    let tags = entry.names.iter().filter_map(|name| Tag::of_name(name)?.subject());
    let mut said: Vec<_> =
        entry.subject.into_iter().chain(tags).filter(|said| *said != entry.descriptor.digest).collect();
    said.dedup();
    said
}

/// The tags that attach things, by what to and by what, where this layout was a bundle.
fn stated_tags(layout: &Layout) -> HashMap<(Digest, Digest), Vec<Tag>> {
    #[derive(Deserialize)]
    struct Statement {
        #[serde(default)]
        images: Vec<Image>,
    }
    #[derive(Deserialize)]
    struct Image {
        #[serde(default)]
        referrers: Vec<Referrer>,
    }
    #[derive(Deserialize)]
    struct Referrer {
        digest: Digest,
        subject: Digest,
        tag: Option<Tag>,
    }
    let mut tags: HashMap<_, Vec<Tag>> = HashMap::new();
    // Only for what could not be known otherwise.
    if layout.entries.iter().all(|entry| entry.subject.is_none()) {
        return tags;
    }
    let statement = layout.access.read_small(STATEMENT, "the bundle's statement", limits::STATEMENT);
    let statement = statement.ok().and_then(|bytes| serde_json::from_slice::<Statement>(&bytes).ok());
    for referrer in
        statement.into_iter().flat_map(|statement| statement.images).flat_map(|image| image.referrers)
    {
        let Referrer { digest, subject, tag: Some(tag) } = referrer else { continue };
        let known = tags.entry((subject, digest)).or_default();
        if subject.cosign_tags().contains(&tag) && !known.contains(&tag) {
            known.push(tag);
        }
    }
    tags.retain(|_, tags| !tags.is_empty());
    tags
}
