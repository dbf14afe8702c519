//! `import`: trust first, then know, then permit, then move.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::inspect::{SignerRecord, signer_records};
use super::places::{self, Destination, Renaming};
use super::verify;
use crate::content::Watch;
use crate::error::{Error, Kind, Result, Side};
use crate::layout::LayoutSink;
use crate::manifest::Narrow;
use crate::oci::Digest;
use crate::plan::{Done, How, Plan, Survey, Transfer, resolve, survey, transfer};
use crate::registry;

/// What is to be imported.
pub struct Import {
    /// The bundle file.
    pub bundle: PathBuf,
    /// The trust store.
    pub trust: PathBuf,
    /// Where to.
    pub destination: Destination,
    /// Renamings of repositories.
    pub renamings: Vec<Renaming>,
    /// Restrictions to parts of the bundle.
    pub narrow: Narrow,
    /// Whether tags that lead elsewhere may be moved.
    pub overwrite_tags: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Transfers at once.
    pub jobs: usize,
}

/// What was done, or would be.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The release's name and version.
    pub release: String,
    /// The trusted keys that signed the bundle.
    pub signers: Vec<SignerRecord>,
    /// Where it went.
    pub destination: String,
    /// Nothing was sent: this is what would be done.
    pub dry_run: bool,
    /// The images and the names they have there.
    pub images: Vec<ImportedImage>,
    /// Blobs and documents to send.
    pub to_send: usize,
    /// Their bytes.
    pub bytes_to_send: u64,
    /// Blobs to be mounted from another repository of the destination.
    pub to_mount: usize,
    /// Blobs and documents that were there already.
    pub present: usize,
    /// Their bytes.
    pub bytes_present: u64,
    /// Blobs and documents sent.
    pub sent: usize,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Blobs mounted.
    pub mounted: usize,
    /// Tags set or confirmed, and read back.
    pub tags: usize,
}

/// One image at the destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedImage {
    /// Its full name at its origin.
    pub source: String,
    /// Its top document.
    pub digest: Digest,
    /// Its names there, and what each led to before.
    pub names: Vec<ImportedName>,
    /// Parts of the image that are not at the destination.
    pub omitted: usize,
}

/// A name at the destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedName {
    /// The full name.
    pub name: String,
    /// `new`, `unchanged` or `moved`.
    pub change: &'static str,
}

/// Runs the import.
pub async fn import(order: &Import, client: &registry::Client, watch: Arc<dyn Watch>) -> Result<Receipt> {
    let opened = verify::opened(&order.bundle, &order.trust).await?;
    // What is wrong with the order is said before gigabytes are read.
    let names = opened.statement().images.iter().map(|image| &image.source);
    places::check_renamings(&order.renamings, names)?;
    let wants = order.narrow.apply(opened.wants()?)?;
    if let Destination::Layout(directory) = &order.destination {
        LayoutSink::new(directory)?;
    }
    let bundle = verify::whole(opened, watch.clone()).await?;

    let sources = vec![bundle.source(); wants.len()];
    let plan = Arc::new(resolve(&wants, &sources).await?);

    let places = places::places(&plan, &order.destination, &order.renamings, client)?;
    if let Destination::Registry(registry, _) = &order.destination {
        // A web server that is no registry answers 404 to everything, which must not look like "empty".
        client.ping(registry).await.map_err(|e| e.side(Side::Destination))?;
    }
    let todo = survey(&plan, &places, order.jobs).await?;
    if !order.overwrite_tags {
        refuse_conflicts(&plan, &todo)?;
    }

    let done = match order.dry_run {
        true => Done::default(),
        false => {
            let transfer_order = Transfer { plan: plan.clone(), sources, places, jobs: order.jobs, watch };
            transfer(transfer_order, &todo, "pushing").await.map_err(|e| explain(&plan, e))?
        }
    };
    let mut receipt = receipt(order, &plan, &todo, done);
    receipt.release = format!("{} {}", bundle.statement().name, bundle.statement().version);
    receipt.signers = signer_records(bundle.signers());
    Ok(receipt)
}

fn refuse_conflicts(plan: &Plan, todo: &Survey) -> Result<()> {
    let conflicts: Vec<_> = todo.conflicts(plan).collect();
    let Some(first) = conflicts.first() else { return Ok(()) };
    let what = match conflicts.len() {
        1 => "a tag leads to another image already".to_owned(),
        count => format!("{count} tags lead to other images already, the first of them"),
    };
    let text = |digest: Option<Digest>| digest.map(|digest| digest.to_string()).unwrap_or_default();
    Err(Error::new(Kind::TagConflict, what)
        .at(&first.name)
        .got(text(first.before))
        .expected(text(plan.images.get(first.image).map(|image| image.digest)))
        .side(Side::Destination)
        .hint("--overwrite-tags moves them; --map puts the images elsewhere; nothing was sent"))
}

/// A registry that checks the children of an index refuses one of which some were left out.
fn explain(plan: &Plan, error: Error) -> Error {
    let sparse = plan.images.iter().any(|image| image.omitted.iter().any(|omitted| omitted.digest.is_some()));
    match error.kind() {
        Kind::RegistryRejected | Kind::NotFound if sparse => error.hint_instead(
            "some platforms were left out of these images, and this registry takes only complete ones: \
             carry all platforms, import to oci:DIRECTORY, or switch off the registry's check of indexes",
        ),
        _ => error,
    }
}

fn receipt(order: &Import, plan: &Plan, todo: &Survey, done: Done) -> Receipt {
    let image = |(number, image): (usize, &crate::plan::Image)| {
        let tags = todo.tags.iter().filter(|tag| tag.image == number);
        let names = tags.map(|tag| ImportedName {
            name: tag.name.to_string(),
            change: match tag.before {
                None => "new",
                Some(before) if before == image.digest => "unchanged",
                Some(_) => "moved",
            },
        });
        ImportedImage {
            source: image.source.to_string(),
            digest: image.digest,
            names: names.collect(),
            omitted: image.omitted.iter().filter(|omitted| omitted.digest.is_some()).count(),
        }
    };
    let count = |how: fn(&How) -> bool| todo.moves.iter().filter(|m| how(&m.how)).count();
    Receipt {
        release: String::new(),
        signers: Vec::new(),
        destination: order.destination.to_string(),
        dry_run: order.dry_run,
        images: plan.images.iter().enumerate().map(image).collect(),
        to_send: count(|how| *how == How::Send),
        bytes_to_send: todo.send_bytes(plan),
        to_mount: count(|how| *how != How::Send),
        present: todo.present,
        bytes_present: todo.present_bytes,
        sent: done.sent,
        bytes_sent: done.sent_bytes,
        mounted: done.mounted,
        tags: done.tags,
    }
}
