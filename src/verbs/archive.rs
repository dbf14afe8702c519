//! Archives as destinations of an import: one file that other tools load, planned to the last byte before
//! any of it is written, as a bundle is. It has its name only when all of the bundle was verified and all
//! of it is on the disk.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::import::Import;
use super::output::{self, Target, Words};
use super::places::{Destination, Form};
use crate::bundle::{Piped, Sealing, Statement, check_target, docker_archive, oci_archive};
use crate::content::{Reader, Sink, file};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Role};
use crate::plan::{Done, Image, Node, Plan, Survey, Transfer};

const WORDS: Words = Words { verb: "import", moving: "writing" };

/// What is wrong with the order itself, known before the bundle is looked at.
pub fn check_order(order: &Import) -> Result<()> {
    let Destination::Archive(form, _) = &order.destination else {
        return match order.overwrite {
            true => Err(Error::new(Kind::Usage, "--overwrite has nothing to replace here")
                .got(&order.destination)
                .expected("oci-archive:FILE or docker-archive:FILE")
                .hint("--overwrite-tags moves tags that lead elsewhere")),
            false => Ok(()),
        };
    };
    if order.indexes.is_some() && *form == Form::Docker {
        return Err(Error::new(Kind::Usage, "--sparse has no indexes to keep or trim in a Docker archive")
            .hint("leave it out: a Docker archive holds one platform of each image, and no index"));
    }
    if order.overwrite_tags {
        return Err(Error::new(Kind::Usage, "--overwrite-tags has no tags to move in an archive")
            .hint("--overwrite replaces the file, once the new one is complete"));
    }
    match (form, order.narrow.platforms.as_slice()) {
        (Form::Oci, _) | (Form::Docker, [_]) => Ok(()),
        (Form::Docker, platforms) => {
            Err(Error::new(Kind::Usage, "a Docker archive holds exactly one platform of each image")
                .got(format_args!("{} platforms", platforms.len()))
                .expected("--platform P, such as --platform linux/amd64")
                .hint("write an archive for each platform, or oci-archive:FILE, which holds all of them"))
        }
    }
}

/// Whether the file may be written: not over what it is made from.
pub fn check_file(order: &Import, path: &Path, bundle: Option<&Path>) -> Result<()> {
    check_target(path, order.overwrite)?;
    let target = Target { output: path, replace: order.overwrite };
    match bundle.filter(|bundle| target.touches(bundle)) {
        Some(bundle) => Err(Error::new(Kind::OutputExists, "the bundle itself would be overwritten")
            .at(bundle.display())
            .hint("name another file")),
        None => Ok(()),
    }
}

/// The plan as it is carried out, and what is to be said of it.
pub struct Arranged {
    /// For an archive: its blobs, in their order there.
    pub plan: Plan,
    /// What the destination does not hold, or not every reader takes.
    pub notes: Vec<String>,
}

/// Arranges a plan for the destination. An archive has its blobs in the order of the bundle, so that both are
/// written and read from front to back, whatever part of the bundle it holds.
pub fn arranged(order: &Import, plan: Plan, statement: &Statement) -> Result<Arranged> {
    let Destination::Archive(form, path) = &order.destination else {
        return Ok(Arranged { plan, notes: Vec::new() });
    };
    let (plan, notes) = match form {
        Form::Oci => {
            let notes = oci_notes(&plan);
            (plan, notes)
        }
        Form::Docker => {
            let target = Target { output: path, replace: order.overwrite };
            let loadable = loadable(&plan)?;
            let notes = docker_notes(&plan, &loadable, target.is_packed());
            (loadable, notes)
        }
    };
    let places: HashMap<Digest, usize> =
        statement.blobs().enumerate().map(|(place, digest)| (digest, place)).collect();
    let mut nodes = plan.closure(0..plan.images.len());
    nodes.sort_by_key(|node| plan.nodes.get(*node).map(|node| places.get(&node.descriptor.digest)));
    Ok(Arranged { plan: plan.excerpt(&nodes)?, notes })
}

/// containerd unpacks everything that has a name, and stops at what is no image.
fn oci_notes(plan: &Plan) -> Vec<String> {
    let others: BTreeSet<&str> = plan
        .images
        .iter()
        .filter(|image| image.platforms.is_empty())
        .map(|image| image.name.as_str())
        .collect();
    let names = others.into_iter().collect::<Vec<_>>().join(", ");
    match names.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "not only images: {names}; ctr images import takes such an archive with --no-unpack, and --image leaves them out"
        )],
    }
}

/// What Docker loads of a plan: each image leads to its config, and that to its layers.
fn loadable(plan: &Plan) -> Result<Plan> {
    let numbers: HashMap<Digest, usize> =
        plan.nodes.iter().enumerate().map(|(number, node)| (node.descriptor.digest, number)).collect();
    let manifest = |digest: Digest| numbers.get(&digest).and_then(|number| plan.nodes.get(*number));
    let is_image = |node: &Node| {
        let config = node.children.first().and_then(|config| plan.nodes.get(*config));
        config.is_some_and(|config| config.descriptor.media_type.is_image_config())
    };
    let (mut manifests, mut others) = (Vec::new(), BTreeSet::new());
    for image in &plan.images {
        if let Some(layer) =
            image.omitted.iter().find(|omitted| omitted.is_layer()).and_then(|layer| layer.digest)
        {
            return Err(Error::new(
                Kind::Usage,
                "an image lacks a layer that is not distributed with it, and cannot be loaded",
            )
            .at(&image.source)
            .got(layer)
            .hint(
                "oci-archive:FILE holds the image as it is; --image says which images go into the archive",
            ));
        }
        match the_build(image)?.and_then(manifest).filter(|manifest| is_image(manifest)) {
            Some(manifest) => manifests.push(manifest),
            None => _ = others.insert(image.name.as_str()),
        }
    }
    require_images(plan, &others)?;
    let mut loadable = plan.clone();
    loadable.nodes.iter_mut().for_each(|node| node.children.clear());
    loadable.attached.iter_mut().for_each(Vec::clear);
    let tops = loadable.roots.iter_mut().zip(&mut loadable.images);
    for ((root, image), manifest) in tops.zip(manifests) {
        let Some((config, layers)) = manifest.children.split_first() else { continue };
        *root = *config;
        (image.omitted, image.referrers) = (Vec::new(), Vec::new());
        // Two images with one config are one image to Docker, whichever way their layers are compressed: as many
        // they must be.
        match loadable.nodes.get_mut(*config) {
            Some(node) if node.children.is_empty() => node.children = layers.to_vec(),
            Some(node) if node.children.len() != layers.len() => {
                return Err(Error::new(
                    Kind::DocumentInvalid,
                    "two images have one config and different layers",
                )
                .at(node.descriptor.digest)
                .hint("Docker takes them for one image: write an archive for each, with --image"));
            }
            _ => {}
        }
    }
    Ok(loadable)
}

/// The build that is in the plan, of which the platform was asked for; `None` for what has no platform.
fn the_build(image: &Image) -> Result<Option<Digest>> {
    let builds: BTreeSet<Digest> = image.platforms.iter().map(|build| build.digest).collect();
    match builds.len() {
        0 | 1 => Ok(builds.first().copied()),
        count => Err(Error::new(Kind::Usage, "an image has more than one build for this platform")
            .at(&image.source)
            .got(format_args!("{count} builds"))
            .hint("a Docker archive cannot tell them apart: write oci-archive:FILE instead")),
    }
}

/// What is no image cannot be loaded, and is not left out in silence.
fn require_images(plan: &Plan, others: &BTreeSet<&str>) -> Result<()> {
    if others.is_empty() {
        return Ok(());
    }
    let names: BTreeSet<&str> = plan.images.iter().map(|image| image.name.as_str()).collect();
    let images: Vec<&str> = names.difference(others).copied().collect();
    let others: Vec<&str> = others.iter().copied().collect();
    Err(Error::new(Kind::Usage, "a Docker archive holds images, and not everything here is one")
        .got(others.join(", "))
        .hint(match images.as_slice() {
            [] => "oci-archive:FILE holds everything".to_owned(),
            images => {
                format!("--image {} leaves the rest out; oci-archive:FILE holds everything", images.join(","))
            }
        }))
}

fn docker_notes(plan: &Plan, loadable: &Plan, packed: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let attached: BTreeSet<usize> = plan.attached.iter().flatten().copied().collect();
    // Attestations stand in the index beside the build.
    let builds: BTreeSet<Digest> =
        plan.images.iter().flat_map(|image| &image.platforms).map(|build| build.digest).collect();
    let beside = plan.nodes.iter().enumerate().filter(|(number, node)| {
        let Descriptor { role, digest, .. } = &node.descriptor;
        *role == Role::Manifest && !builds.contains(digest) && !attached.contains(number)
    });
    let count = attached.len().saturating_add(beside.count());
    if count > 0 {
        notes.push(format!(
            "left out: {} attached to these images (signatures, SBOMs, attestations): a Docker archive cannot hold them, oci-archive:FILE can",
            if count == 1 { "1 document that is".to_owned() } else { format!("{count} documents that are") }
        ));
    }
    let held = loadable.closure(0..loadable.images.len());
    let mut held = held.iter().filter_map(|node| loadable.nodes.get(*node));
    let zstd = held.any(|node| node.descriptor.media_type.as_str().ends_with("zstd"));
    if zstd || packed {
        let what = if packed { "the archive is" } else { "some of its layers are" };
        notes.push(format!("{what} compressed with zstd: Docker loads that from version 23 on"));
    }
    notes
}

/// The archive, decided down to the last byte but for its blobs; `None` for other destinations.
pub fn sealing(order: &Import, plan: &Plan, todo: &Survey) -> Result<Option<Sealing>> {
    match &order.destination {
        Destination::Archive(Form::Oci, _) => oci_archive(plan, &todo.tags).map(Some),
        Destination::Archive(Form::Docker, _) => docker_archive(plan, &todo.tags).map(Some),
        _ => Ok(None),
    }
}

/// Writes the archive out of a verified bundle; returns the bytes of the file.
pub async fn write(sealing: Sealing, to: Target<'_>, carrier: Transfer) -> Result<(u64, Done)> {
    match to.is_packed() {
        true => {
            let done = Done::all(&carrier.plan);
            Ok((output::pack(Arc::new(sealing), to, carrier, WORDS).await?, done))
        }
        false => output::write(sealing, to, carrier, WORDS).await,
    }
}

/// The same while the bundle passes by.
pub async fn receive(
    sealing: Sealing,
    to: Target<'_>,
    carrier: Transfer,
    passing: Arc<Piped>,
) -> Result<(u64, Done)> {
    match to.is_packed() {
        true => {
            let done = Done::all(&carrier.plan);
            let bytes = output::receive_packed(Arc::new(sealing), to, carrier, WORDS, passing).await?;
            Ok((bytes, done))
        }
        false => output::receive(sealing, to, carrier, &passing).await,
    }
}

/// An archive before it is written: it has nothing. Only asked, never written to.
pub struct Blank;

#[async_trait]
impl Sink for Blank {
    async fn exists(&self, _: &Descriptor) -> Result<bool> {
        Ok(false)
    }

    async fn push(&self, _: &Descriptor, _: Reader) -> Result<()> {
        Err(file::ended())
    }

    async fn tagged(&self, _: &Name) -> Result<Option<Digest>> {
        Ok(None)
    }

    async fn tag(&self, _: &Name, _: &Descriptor, _: Bytes) -> Result<()> {
        Err(file::ended())
    }
}
