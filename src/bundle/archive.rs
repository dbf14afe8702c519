//! Archives that other tools read, of a plan: the tar profile of bundles without what makes a bundle of
//! it. Planned like one: every byte's place is known before the first blob moves.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::contents::{Contents, Entry, Part};
use super::draft::{Sealing, append};
use super::journal::Identity;
use super::{DOCKER_PATH, INDEX_PATH, OCI_LAYOUT, sums};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Digest, LayoutIndex};
use crate::plan::{Plan, TagMove};

/// An OCI archive: `oci-layout`, `index.json` with these names, blobs in the plan's order.
///
/// # Errors
/// `LimitExceeded` where the names take more room than readers give them.
pub fn oci_archive(plan: &Plan, names: &[TagMove]) -> Result<Sealing> {
    let index = encode_index(plan, names)?;
    check_size(INDEX_PATH, index.len(), limits::LAYOUT_INDEX)?;
    sealing(plan, vec![(Part::Layout, OCI_LAYOUT.to_vec()), (Part::Index, index)])
}

/// As in a bundle; and what is attached by a tag has its full name there, for there is no statement to tell.
fn encode_index(plan: &Plan, names: &[TagMove]) -> Result<Vec<u8>> {
    let mut index = LayoutIndex::encoder();
    let described = |node: usize| plan.nodes.get(node).map(|node| &node.descriptor).ok_or_else(missing);
    for tag in names.iter().filter(|tag| plan.roots.get(tag.image) == Some(&tag.node)) {
        index.name(described(tag.node)?, &tag.name);
    }
    let mut listed = HashSet::new();
    for image in 0..plan.images.len() {
        for (referrer, node) in plan.referrers(image) {
            let (descriptor, kind, subject) = (described(node)?, &referrer.artifact_type, &referrer.subject);
            let Some(tag) = &referrer.tag else {
                if listed.insert((referrer.digest, *subject)) {
                    index.attach(descriptor, kind, subject);
                }
                continue;
            };
            let own = |one: &&TagMove| (one.image, one.node, &one.name.tag) == (image, node, tag);
            // A name that two images share is the first one's.
            if let Some(name) = names.iter().find(own) {
                index.attach_by(&name.name, descriptor, kind, subject);
            }
        }
    }
    Ok(index.finish())
}

/// One image of `manifest.json`. Fields stand in the order of their JSON keys.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Loadable {
    config: String,
    layers: Vec<String>,
    repo_tags: Vec<String>,
}

/// A Docker archive: `manifest.json`, then configs and layers. The plan's images lead to their configs, and
/// these to their layers.
///
/// # Errors
/// `LimitExceeded` where `manifest.json` is longer than its readers take.
pub fn docker_archive(plan: &Plan, names: &[TagMove]) -> Result<Sealing> {
    let path = |node: &usize| {
        let node = plan.nodes.get(*node).ok_or_else(missing)?;
        Ok::<_, Error>(node.descriptor.digest.blob_path())
    };
    let mut images = Vec::new();
    for (number, root) in plan.roots.iter().enumerate() {
        let own = names.iter().filter(|tag| tag.image == number);
        let repo_tags: Vec<_> = own.map(|tag| tag.name.to_string()).collect();
        // Another one's twin, which has all of its names.
        if repo_tags.is_empty() {
            continue;
        }
        let layers = &plan.nodes.get(*root).ok_or_else(missing)?.children;
        let layers = layers.iter().map(path).collect::<Result<_>>()?;
        images.push(Loadable { config: path(root)?, layers, repo_tags });
    }
    let manifest =
        serde_json::to_vec(&images).map_err(|e| Error::new(Kind::Io, "cannot write manifest.json").got(e))?;
    check_size(DOCKER_PATH, manifest.len(), limits::DOCKER_MANIFEST)?;
    sealing(plan, vec![(Part::Docker, manifest)])
}

/// These entries, then the plan's blobs.
fn sealing(plan: &Plan, first: Vec<(Part, Vec<u8>)>) -> Result<Sealing> {
    let mut listed: Vec<_> =
        first.iter().map(|(part, bytes)| (*part, Digest::of(bytes), bytes.len() as u64)).collect();
    listed.extend(plan.nodes.iter().map(|node| (Part::Blob, node.descriptor.digest, node.descriptor.size)));
    // Never written anywhere: it tells this archive from all others, as the sums of a bundle do.
    let mut list = Vec::new();
    for (part, digest, _) in &listed {
        let entry = Entry { part: *part, digest: *digest, size: 0, offset: 0 };
        sums::append(&mut list, digest, &entry.path());
    }
    let identity = Identity::new(&list, 0, &plan.images);
    let mut head = Vec::new();
    for (part, bytes) in first {
        let entry = Entry { part, digest: Digest::of(&bytes), size: bytes.len() as u64, offset: 0 };
        append(&mut head, &entry.path(), bytes)?;
    }
    let frame = head.iter().map(|piece| piece.len() as u64).sum();
    Ok(Sealing { head, contents: Arc::new(Contents::bare(listed)?), identity, frame })
}

fn check_size(path: &str, size: usize, most: u64) -> Result<()> {
    match size as u64 > most {
        true => Err(Error::new(Kind::LimitExceeded, "too many images for one archive")
            .at(path)
            .got(format_args!("{size} bytes"))
            .expected(format_args!("at most {most} bytes, which is what its readers take"))
            .hint("write several archives: --image says what goes into each")),
        false => Ok(()),
    }
}

fn missing() -> Error {
    Error::new(Kind::BlobMissing, "a name leads to content that the plan does not have")
}
