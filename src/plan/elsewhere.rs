//! Layers that may not be distributed with their images (image-spec layer.md, "Non-Distributable Layers"; Docker's
//! foreign layers). Those that a source has are carried like any others. Those that none has are left out, by name;
//! where their `urls` lead is nobody's business here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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
        let lost: Vec<usize> = lost.map(|(node, _)| *node).collect();
        if lost.is_empty() {
            continue;
        }
        leave_out(&mut plan, number, &lost);
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
fn leave_out(plan: &mut Plan, number: usize, lost: &[usize]) {
    let sizes: HashMap<usize, (Digest, u64)> = lost
        .iter()
        .filter_map(|node| {
            plan.nodes.get(*node).map(|found| (*node, (found.descriptor.digest, found.descriptor.size)))
        })
        .collect();
    let lighter: HashMap<Digest, u64> = plan
        .nodes
        .iter()
        .filter_map(|node| {
            let children: BTreeSet<&usize> =
                node.children.iter().filter(|child| sizes.contains_key(child)).collect();
            let bytes =
                children.iter().filter_map(|child| sizes.get(child)).map(|(_, size)| size).sum::<u64>();
            (bytes > 0).then_some((node.descriptor.digest, bytes))
        })
        .collect();
    let Some(Image { omitted, platforms, .. }) = plan.images.get_mut(number) else { return };
    for build in platforms {
        build.size = build.size.saturating_sub(lighter.get(&build.digest).copied().unwrap_or_default());
    }
    let mut digests: Vec<Digest> = sizes.values().map(|(digest, _)| *digest).collect();
    digests.sort_unstable();
    let layer = |digest| Omitted {
        digest: Some(digest),
        platform: None,
        reason: Omitted::NOT_DISTRIBUTED.to_owned(),
    };
    omitted.extend(digests.into_iter().map(layer));
}
