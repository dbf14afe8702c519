//! `import`: trust first, then know, then permit, then move.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::archive::{self, Arranged};
use super::inspect::{SignerRecord, signer_records};
use super::output::Target;
use super::places::{self, Destination, Renaming};
use super::site::{Site, sighting};
use super::verify;
use crate::bundle::{Input, Sealing, Statement};
use crate::content::{Rate, Watch};
use crate::error::{Error, Kind, Result, Side};
use crate::history::{Held, Sighting};
use crate::layout::LayoutSink;
use crate::manifest::Narrow;
use crate::oci::Digest;
use crate::plan::{
    Done, How, Place, Plan, Sources, Survey, TagMove, Transfer, Want, ready, relay, resolve, survey, transfer,
};
use crate::registry;
use crate::store::Store;
use crate::trust::Signers;

/// What is to be imported.
pub struct Import {
    /// What bundles are judged by.
    pub site: Site,
    /// Where to.
    pub destination: Destination,
    /// Renamings of repositories.
    pub renamings: Vec<Renaming>,
    /// Restrictions to parts of the bundle.
    pub narrow: Narrow,
    /// Whether tags that lead elsewhere may be moved.
    pub overwrite_tags: bool,
    /// Whether an archive of that name is replaced once the new one is complete.
    pub overwrite: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Transfers at once.
    pub jobs: usize,
    /// How fast, all together.
    pub rate: Option<Rate>,
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
    /// What was read of the bundle: `all`, or `documents` where nothing of it was needed.
    pub verified: &'static str,
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
    /// Those of them that the kernel brought from the bundle's file to the destination's.
    pub adopted: usize,
    /// Blobs mounted.
    pub mounted: usize,
    /// Tags set or confirmed, and read back.
    pub tags: usize,
    /// Bytes of the archive that was written; for a dry run, before it is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_bytes: Option<u64>,
    /// The archive is compressed.
    #[serde(skip)]
    pub packed: bool,
    /// What the destination does not hold, or not every reader of it takes.
    pub notes: Vec<String>,
}

/// One image at the destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedImage {
    /// Its full name at its origin.
    pub source: String,
    /// Its top document.
    pub digest: Digest,
    /// Its names there, and what each led to before. None where another image is the same and has them.
    pub names: Vec<ImportedName>,
    /// Bytes to send that only this image needs.
    pub own_bytes_to_send: u64,
    /// Bytes to send that it shares with others, which are sent once.
    pub shared_bytes_to_send: u64,
    /// Documents that are attached to it: signatures, SBOMs, attestations.
    pub attached: usize,
    /// Parts of the image that are not at the destination.
    pub omitted: usize,
}

/// A name at the destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedName {
    /// The full name.
    pub name: String,
    /// What it leads to: the image's top document; in a Docker archive its config, whose digest is the image's id.
    pub digest: Digest,
    /// `new`, `unchanged` or `moved`.
    pub change: &'static str,
}

/// Where a bundle is read.
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// A pipe, and what to call it.
    Pipe(Input, &'static str),
}

/// Runs the import.
pub async fn import(
    order: &Import,
    origin: Origin,
    client: &registry::Client,
    watch: Arc<dyn Watch>,
) -> Result<Receipt> {
    archive::check_order(order)?;
    match origin {
        Origin::File(path) => from_file(order, &path, client, watch).await,
        Origin::Pipe(input, name) => from_pipe(order, input, name, client, watch).await,
    }
}

async fn from_file(
    order: &Import,
    path: &Path,
    client: &registry::Client,
    watch: Arc<dyn Watch>,
) -> Result<Receipt> {
    let opened = verify::opened(path, &order.site, &watch).await?;
    let held = order.admit(sighting(opened.statement(), opened.signers(), opened.identity()))?;
    let wants = order.wanted(opened.statement(), opened.wants()?)?;
    order.reach(client, Some(path)).await?;
    let Arranged { plan, notes } = archive::arranged(order, opened.plan(&wants).await?, opened.statement())?;
    let plan = Arc::new(plan);
    let places = places::places(&plan, &order.destination, &order.renamings, client)?;
    let todo = order.survey(&plan, &places).await?;
    let sealing = archive::sealing(order, &plan, &todo)?;
    let mut archive_bytes = sealing.as_ref().map(Sealing::total);
    if todo.is_done(&plan) && !order.dry_run {
        // Nothing of the bundle will be used: its layers need not be read.
        let done = Done { tags: todo.tags.len(), ..Done::default() };
        held.map_or(Ok(()), remember)?;
        let receipt = receipt(order, &plan, &todo, done, opened.statement(), opened.signers());
        return Ok(Receipt { verified: "documents", ..receipt });
    }
    let bundle = verify::whole(opened, watch.clone()).await?;
    // Unpacking and compressing at once would take twice the memory.
    let bundle =
        if order.target().is_some_and(|target| target.is_packed()) { bundle.sparing() } else { bundle };
    let sources = vec![bundle.source(); wants.len()];
    let carrier = order.carrier(plan.clone(), sources, places, watch, bundle.readers());
    let done = match (sealing, order.target()) {
        _ if order.dry_run => Done::default(),
        (Some(sealing), Some(target)) => {
            let (bytes, done) = archive::write(sealing, target, carrier).await?;
            archive_bytes = Some(bytes);
            Done { tags: todo.tags.len(), ..done }
        }
        _ => {
            let carrier = Arc::new(carrier);
            ready(&carrier, &todo).await?;
            transfer(&carrier, &todo, "pushing").await.map_err(|e| explain(&plan, e))?
        }
    };
    held.map_or(Ok(()), remember)?;
    let receipt = receipt(order, &plan, &todo, done, bundle.statement(), bundle.signers());
    Ok(Receipt { archive_bytes, notes, ..receipt })
}

/// One pass: trust before anything else is used, blobs checked as they move, tags when the end was seen.
async fn from_pipe(
    order: &Import,
    input: Input,
    name: &'static str,
    client: &registry::Client,
    watch: Arc<dyn Watch>,
) -> Result<Receipt> {
    let piped = verify::received(input, name, &order.site, &watch).await?;
    let held = order.admit(sighting(piped.statement(), piped.signers(), piped.identity()))?;
    let wants = order.wanted(piped.statement(), piped.wants()?)?;
    order.reach(client, None).await?;
    piped.check_documents().await?;

    let sources: Sources = vec![piped.clone(); wants.len()];
    let Arranged { plan, notes } =
        archive::arranged(order, resolve(&wants, &sources).await?, piped.statement())?;
    let plan = Arc::new(plan);
    let places = places::places(&plan, &order.destination, &order.renamings, client)?;
    let todo = order.survey(&plan, &places).await?;
    let sealing = archive::sealing(order, &plan, &todo)?;
    let mut archive_bytes = sealing.as_ref().map(Sealing::total);
    let carrier = order.carrier(plan.clone(), sources, places, watch.clone(), usize::MAX);
    let done = match (sealing, order.target()) {
        _ if order.dry_run => {
            verify::rest(&piped, watch).await?;
            Done::default()
        }
        (Some(sealing), Some(target)) => {
            let (bytes, done) = archive::receive(sealing, target, carrier, piped.clone()).await?;
            archive_bytes = Some(bytes);
            Done { tags: todo.tags.len(), ..done }
        }
        _ => {
            let carrier = Arc::new(carrier);
            ready(&carrier, &todo).await?;
            let mut left = todo.clone();
            let mut done = relay(&carrier, &mut left, piped.as_ref()).await?;
            piped.finish().await?;
            done.add(transfer(&carrier, &left, "finishing").await.map_err(|e| explain(&plan, e))?);
            done
        }
    };
    held.map_or(Ok(()), remember)?;
    let receipt = receipt(order, &plan, &todo, done, piped.statement(), piped.signers());
    Ok(Receipt { archive_bytes, notes, ..receipt })
}

/// The last step: what was imported is imported, whatever becomes of remembering it; but it is said.
fn remember(held: Held) -> Result<()> {
    tokio::task::block_in_place(|| held.remember()).map_err(|e| {
        e.hint_instead(
            "everything was imported, but that is not remembered; mend this, and run the same command again",
        )
    })
}

impl Import {
    /// Whether the bundle may follow what was imported before; holds its place until that is remembered.
    fn admit(&self, sighting: Sighting) -> Result<Option<Held>> {
        match self.dry_run {
            true => self.site.check(&sighting).map(|()| None),
            false => self.site.hold(sighting).map(Some),
        }
    }

    /// The wants, narrowed. What is wrong with the order is said before gigabytes are read.
    fn wanted(&self, statement: &Statement, wants: Vec<Want>) -> Result<Vec<Want>> {
        places::check_renamings(&self.renamings, statement.images.iter().map(|image| &image.source))?;
        self.narrow.apply(wants)
    }

    /// Whether the destination is there, and takes the login at hand. Tells it nothing of the bundle.
    async fn reach(&self, client: &registry::Client, bundle: Option<&Path>) -> Result<()> {
        match &self.destination {
            // A web server that is no registry answers 404 to everything, which must not look like "empty".
            Destination::Registry(registry, _) => {
                client.ping(registry).await.map_err(|e| e.side(Side::Destination))
            }
            Destination::Layout(directory) => LayoutSink::new(directory).map(drop),
            Destination::Store(directory) => Store::at(directory).map(drop),
            Destination::Archive(_, file) => archive::check_file(self, file, bundle),
        }
    }

    /// What there is to do.
    async fn survey(&self, plan: &Plan, places: &[Place]) -> Result<Survey> {
        let todo = survey(plan, places, self.jobs).await?;
        if !self.overwrite_tags {
            refuse_conflicts(plan, &todo)?;
        }
        Ok(todo)
    }

    /// Who is to do it.
    fn carrier(
        &self,
        plan: Arc<Plan>,
        sources: Sources,
        places: Vec<Place>,
        watch: Arc<dyn Watch>,
        readers: usize,
    ) -> Transfer {
        let jobs = self.jobs.min(readers);
        Transfer { plan, sources, places, jobs, rate: self.rate.clone(), watch }
    }

    /// The file that is written, where it is one.
    fn target(&self) -> Option<Target<'_>> {
        match &self.destination {
            Destination::Archive(_, output) => Some(Target { output, replace: self.overwrite }),
            _ => None,
        }
    }
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
        .expected(text(first.target(plan)))
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

fn receipt(
    order: &Import,
    plan: &Plan,
    todo: &Survey,
    done: Done,
    statement: &Statement,
    signers: &Signers,
) -> Receipt {
    let shares = todo.shares(plan);
    let image = |(number, image): (usize, &crate::plan::Image)| {
        // The image's own: the others lead to what is attached to it.
        let own = |tag: &&TagMove| tag.image == number && plan.roots.get(number) == Some(&tag.node);
        let names = todo.tags.iter().filter(own).map(|tag| {
            let digest = tag.target(plan).unwrap_or(image.digest);
            let change = match tag.before {
                None => "new",
                Some(before) if before == digest => "unchanged",
                Some(_) => "moved",
            };
            ImportedName { name: tag.name.to_string(), digest, change }
        });
        let share = shares.get(number).copied().unwrap_or_default();
        ImportedImage {
            source: image.source.to_string(),
            digest: image.digest,
            names: names.collect(),
            own_bytes_to_send: share.own,
            shared_bytes_to_send: share.shared,
            attached: image.referrers.iter().map(|one| one.digest).collect::<HashSet<_>>().len(),
            omitted: image.omitted.iter().filter(|omitted| omitted.digest.is_some()).count(),
        }
    };
    let count = |how: fn(&How) -> bool| todo.moves.iter().filter(|m| how(&m.how)).count();
    Receipt {
        release: format!("{} {}", statement.name, statement.version),
        signers: signer_records(signers),
        destination: order.destination.to_string(),
        dry_run: order.dry_run,
        verified: "all",
        images: plan.images.iter().enumerate().map(image).collect(),
        to_send: count(|how| *how == How::Send),
        bytes_to_send: todo.send_bytes(plan),
        to_mount: count(|how| *how != How::Send),
        present: todo.present,
        bytes_present: todo.present_bytes,
        sent: done.sent,
        bytes_sent: done.sent_bytes,
        adopted: done.adopted,
        mounted: done.mounted,
        tags: done.tags,
        archive_bytes: None,
        packed: order.target().is_some_and(|target| target.is_packed()),
        notes: Vec::new(),
    }
}
