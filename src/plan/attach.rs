//! What is attached to an image's documents is taken along: signatures, SBOMs, attestations, and what is
//! attached to those. Only what is attached to documents that are taken along themselves: what speaks of a
//! platform that stays behind stays with it.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::resolve::{Facts, Kept, Names, READS, Shelf, Tree, too_much};
use super::{Attachments, Referrer, Want};
use crate::content::Source;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Attached, Descriptor, Digest, RECORD};

/// Adds to a tree what is attached to its documents.
pub(super) async fn attach(tree: &mut Tree, want: &Want, source: &dyn Source, shelf: &Shelf) -> Result<()> {
    let mut level: Vec<Digest> = tree.documents.iter().map(|document| document.descriptor.digest).collect();
    let mut known: HashSet<Digest> = level.iter().copied().collect();
    for depth in 0.. {
        let found = ask(&want.attachments, source, &level).await?;
        if found.is_empty() {
            return Ok(());
        }
        if depth >= limits::ATTACHMENT_DEPTH {
            return Err(Error::new(Kind::LimitExceeded, "documents are attached to each other too deeply")
                .expected(format_args!("at most {} levels", limits::ATTACHMENT_DEPTH)));
        }
        let facts = shelf.read_all(found.iter().map(|one| &one.descriptor), source).await?;
        level.clear();
        for (one, facts) in found.iter().zip(&facts) {
            if left_behind(&want.attachments, one, facts) {
                continue;
            }
            let referrer = referrer(one, facts).map_err(|e| e.at(one.descriptor.digest))?;
            tree.image.referrers.push(referrer);
            if known.insert(one.descriptor.digest) {
                let before = tree.documents.len();
                take(tree, &one.descriptor, source, shelf, &mut known).await?;
                let taken = tree.documents.iter().skip(before);
                level.extend(taken.map(|document| document.descriptor.digest));
            }
        }
    }
    Ok(())
}

/// What is attached to these documents, in an order that does not depend on how it was found.
async fn ask(from: &Attachments, source: &dyn Source, subjects: &[Digest]) -> Result<Vec<Attached>> {
    let mut found: Vec<Attached> = match from {
        Attachments::Left => Vec::new(),
        Attachments::Known(known) => {
            let subjects: HashSet<_> = subjects.iter().collect();
            known.iter().filter(|one| subjects.contains(&one.subject)).cloned().collect()
        }
        Attachments::Asked => {
            let asks = subjects.iter().map(|subject| source.attached(subject));
            let answers: Vec<_> = stream::iter(asks).buffered(READS).try_collect().await?;
            answers.into_iter().flatten().collect()
        }
    };
    if found.len() > limits::EDGES {
        return Err(too_much());
    }
    let places: HashMap<_, _> = subjects.iter().rev().enumerate().map(|(n, subject)| (*subject, n)).collect();
    let place = |one: &Attached| std::cmp::Reverse(places.get(&one.subject).copied());
    found.sort_by_cached_key(|one| (place(one), one.tag.clone(), one.descriptor.digest));
    found.dedup_by(|a, b| {
        (a.subject, &a.tag, a.descriptor.digest) == (b.subject, &b.tag, b.descriptor.digest)
    });
    let twice = |pair: &&[Attached]| matches!(pair, [a, b] if a.tag.is_some() && (a.subject, &a.tag) == (b.subject, &b.tag));
    match found.windows(2).find(twice).and_then(<[Attached]>::first) {
        Some(one) => Err(Error::new(Kind::RefAmbiguous, "one tag attaches two documents to one")
            .at(one.subject)
            .got(one.tag.as_ref().map(ToString::to_string).unwrap_or_default())
            .hint("a layout of several repositories cannot tell whose it is: export from a registry, or set referrers = false")),
        None => Ok(found),
    }
}

/// A record speaks of the bundle that the image came with. What is made of the image now is another one.
fn left_behind(from: &Attachments, one: &Attached, facts: &Facts) -> bool {
    matches!(from, Attachments::Asked) && one.tag.is_none() && facts.artifact_type.as_str() == RECORD
}

/// What the statement says of it, after it was found to be attached to what it is said to be attached to.
fn referrer(one: &Attached, facts: &Facts) -> Result<Referrer> {
    let Attached { subject, descriptor, tag } = one;
    let attached = match tag {
        Some(tag) => subject.cosign_tags().contains(tag),
        None => facts.subject == Some(*subject),
    };
    if !attached {
        return Err(Error::new(Kind::DocumentInvalid, "a document is listed as attached to what it does not name")
            .got(facts.subject.map_or("no subject".to_owned(), |subject| subject.to_string()))
            .expected(subject)
            .hint("have the list mended where the image comes from, or leave out what is attached: referrers = false"));
    }
    Ok(Referrer {
        artifact_type: facts.artifact_type.to_string(),
        digest: descriptor.digest,
        media_type: descriptor.media_type.to_string(),
        subject: *subject,
        tag: tag.clone(),
    })
}

/// Takes a document along, with all below it.
async fn take(
    tree: &mut Tree,
    top: &Descriptor,
    source: &dyn Source,
    shelf: &Shelf,
    known: &mut HashSet<Digest>,
) -> Result<()> {
    let mut level = vec![top.clone()];
    for depth in 0.. {
        let facts = shelf.read_all(&level, source).await?;
        let mut below = Vec::new();
        for (descriptor, facts) in level.into_iter().zip(&facts) {
            let children: Vec<Descriptor> = match &facts.names {
                Names::Manifest { children, .. } => children.clone(),
                Names::Index(_) if depth >= limits::INDEX_DEPTH => {
                    return Err(Error::new(Kind::LimitExceeded, "indexes are nested too deeply")
                        .expected(format_args!("at most {} levels", limits::INDEX_DEPTH)));
                }
                Names::Index(children) => children.iter().map(|child| child.descriptor.clone()).collect(),
            };
            let documents = children.iter().filter(|child| child.role.is_document());
            below.extend(documents.filter(|child| known.insert(child.digest)).cloned());
            tree.documents.push(Kept { descriptor, children });
        }
        if below.is_empty() {
            break;
        }
        level = below;
    }
    Ok(())
}
