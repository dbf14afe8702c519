//! Layers that may not be distributed with their images (image-spec layer.md, "Non-Distributable Layers"; Docker's
//! foreign layers). Those that a source has are carried like any others. Those that none has are left out, by name;
//! where their `urls` lead is nobody's business here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::resolve::READS;
use super::transfer::missing;
use super::{Image, Omitted, Plan, Sources};
use crate::content::Source;
use crate::error::{Result, Side};
use crate::oci::Digest;

/// Decides about layers that may be missing: each comes from the first image whose source has it, or is left out of
/// all images.
pub(super) async fn settle(mut plan: Plan, may_miss: &HashSet<Digest>, sources: &Sources) -> Result<Plan> {
    if may_miss.is_empty() {
        return Ok(plan);
    }
    let users = users(&plan, may_miss);
    let asks = users.iter().map(|(node, images)| holder(&plan, *node, images, sources));
    let holders: Vec<Option<usize>> = stream::iter(asks).buffered(READS).try_collect().await?;
    let mut absent = BTreeSet::new();
    for (node, holder) in users.keys().zip(holders) {
        match (plan.nodes.get_mut(*node), holder) {
            (Some(node), Some(holder)) => node.origin = holder,
            _ => _ = absent.insert(*node),
        }
    }
    for number in 0..plan.images.len() {
        let lost = users.iter().filter(|(node, images)| absent.contains(node) && images.contains(&number));
        let lost: BTreeSet<usize> = lost.map(|(node, _)| *node).collect();
        if !lost.is_empty() {
            leave_out(&mut plan, number, &lost);
        }
    }
    let left: Vec<usize> = (0..plan.nodes.len()).filter(|node| !absent.contains(node)).collect();
    plan.excerpt(&left)
}

/// Which images reach such a layer.
fn users(plan: &Plan, may_miss: &HashSet<Digest>) -> BTreeMap<usize, Vec<usize>> {
    let mut users: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for image in 0..plan.images.len() {
        for node in plan.closure([image]) {
            if plan.nodes.get(node).is_some_and(|node| may_miss.contains(&node.descriptor.digest)) {
                users.entry(node).or_default().push(image);
            }
        }
    }
    users
}

/// The first of the images whose source has the layer.
async fn holder(plan: &Plan, node: usize, images: &[usize], sources: &Sources) -> Result<Option<usize>> {
    let descriptor = &plan.nodes.get(node).ok_or_else(missing)?.descriptor;
    let mut asked: Vec<&Arc<dyn Source>> = Vec::new();
    for image in images {
        let source = sources.get(*image).ok_or_else(missing)?;
        if asked.iter().any(|known| Arc::ptr_eq(known, source)) {
            continue;
        }
        let name = plan.images.get(*image).map(|image| image.source.to_string()).unwrap_or_default();
        if source.holds(descriptor).await.map_err(|e| e.about(name).side(Side::Source))? {
            return Ok(Some(*image));
        }
        asked.push(source);
    }
    Ok(None)
}

/// Records layers as left out of an image, and takes them off its builds' sizes.
fn leave_out(plan: &mut Plan, number: usize, lost: &BTreeSet<usize>) {
    let Plan { nodes, images, .. } = plan;
    let Some(Image { omitted, platforms, .. }) = images.get_mut(number) else { return };
    let layer = |node: &usize| nodes.get(*node).map(|node| &node.descriptor);
    for build in platforms {
        let manifest = nodes.iter().find(|node| node.descriptor.digest == build.digest);
        let children: BTreeSet<usize> =
            manifest.into_iter().flat_map(|node| &node.children).copied().collect();
        let bytes: u64 = children.intersection(lost).filter_map(layer).map(|layer| layer.size).sum();
        build.size = build.size.saturating_sub(bytes);
    }
    let digests: BTreeSet<Digest> = lost.iter().filter_map(layer).map(|layer| layer.digest).collect();
    let layer = |digest| Omitted {
        digest: Some(digest),
        platform: None,
        reason: Omitted::NOT_DISTRIBUTED.to_owned(),
    };
    omitted.extend(digests.into_iter().map(layer));
}
