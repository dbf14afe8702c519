//! `import`: trust first, then know, then permit, then move.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::inspect::{SignerRecord, signer_records};
use super::places::{self, Destination, Renaming};
use super::site::{Site, sighting};
use super::sparse::{self, Became, Indexes};
use super::verify;
use crate::bundle::{Input, Statement};
use crate::content::{Rate, Watch};
use crate::error::{Error, Kind, Result, Side};
use crate::history::{Held, Sighting};
use crate::layout::LayoutSink;
use crate::manifest::Narrow;
use crate::oci::Digest;
use crate::plan::{
    self, Done, How, Image, Place, Plan, Sources, Sparse, Survey, Transfer, Want, ready, relay, resolve,
    survey, transfer,
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
    /// What becomes of indexes of which entries were left out; else what the destination takes.
    pub indexes: Option<Indexes>,
    /// Whether tags that lead elsewhere may be moved.
    pub overwrite_tags: bool,
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
    /// What became of indexes of which entries were left out.
    pub indexes: Became,
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
}

/// One image at the destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedImage {
    /// Its full name at its origin.
    pub source: String,
    /// Its top document there.
    pub digest: Digest,
    /// The top document that it was made from, where its index was trimmed.
    pub trimmed_from: Option<Digest>,
    /// Its names there, and what each led to before.
    pub names: Vec<ImportedName>,
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
    order.reach(client).await?;
    let plan = Arc::new(opened.plan(&wants).await?);
    let sparse = opened.sparse(&plan).await?;
    let task = order.task(plan, sparse, client).await?;
    if task.todo.is_done(&task.plan) && !order.dry_run {
        // Nothing of the bundle will be used: its layers need not be read.
        let done = Done { tags: task.todo.tags.len(), ..Done::default() };
        held.map_or(Ok(()), remember)?;
        let receipt = receipt(order, &task, done, opened.statement(), opened.signers());
        return Ok(Receipt { verified: "documents", ..receipt });
    }
    let bundle = verify::whole(opened, watch.clone()).await?;
    let done = match order.dry_run {
        true => Done::default(),
        false => {
            let sources = vec![bundle.source(); wants.len()];
            let carrier = order.carrier(&task, sources, watch, bundle.readers());
            ready(&carrier, &task.todo).await?;
            transfer(&carrier, &task.todo, "pushing").await.map_err(|e| task.explain(e))?
        }
    };
    held.map_or(Ok(()), remember)?;
    Ok(receipt(order, &task, done, bundle.statement(), bundle.signers()))
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
    order.reach(client).await?;
    piped.check_documents().await?;

    let sources: Sources = vec![piped.clone(); wants.len()];
    let plan = Arc::new(resolve(&wants, &sources).await?);
    let sparse = plan::sparse(&plan, &sources).await?;
    let task = order.task(plan, sparse, client).await?;
    let done = match order.dry_run {
        true => {
            verify::rest(&piped, watch).await?;
            Done::default()
        }
        false => {
            let carrier = order.carrier(&task, sources, watch, usize::MAX);
            ready(&carrier, &task.todo).await?;
            let mut left = task.todo.clone();
            let mut done = relay(&carrier, &mut left, piped.as_ref()).await?;
            piped.finish().await?;
            done.add(transfer(&carrier, &left, "finishing").await.map_err(|e| task.explain(e))?);
            done
        }
    };
    held.map_or(Ok(()), remember)?;
    Ok(receipt(order, &task, done, piped.statement(), piped.signers()))
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
    async fn reach(&self, client: &registry::Client) -> Result<()> {
        match &self.destination {
            // A web server that is no registry answers 404 to everything, which must not look like "empty".
            Destination::Registry(registry, _) => {
                client.ping(registry).await.map_err(|e| e.side(Side::Destination))
            }
            Destination::Layout(directory) => LayoutSink::new(directory).map(drop),
            Destination::Store(directory) => Store::at(directory).map(drop),
        }
    }

    /// What there is to do, with indexes that the destination takes.
    async fn task(&self, plan: Arc<Plan>, sparse: Option<Sparse>, client: &registry::Client) -> Result<Task> {
        // Registries judge what they are given; other places do not.
        let judges = matches!(self.destination, Destination::Registry(..));
        let (indexes, (places, todo)) = match (&sparse, self.indexes) {
            (None, _) => (Became::Complete, self.survey(&plan, client).await?),
            (Some(_), Some(Indexes::Refuse)) => return Err(sparse::refuse(&plan)),
            (Some(sparse), Some(Indexes::Trim)) => {
                (Became::Trimmed, self.survey(&sparse.trimmed, client).await?)
            }
            (Some(sparse), None) if judges => self.ask(&plan, sparse, client).await?,
            (Some(_), _) => (Became::Kept, self.survey(&plan, client).await?),
        };
        let originals = plan.images.iter().map(|image| image.digest).collect();
        let plan = match (&sparse, indexes) {
            (Some(sparse), Became::Trimmed) => sparse.trimmed.clone(),
            _ => plan,
        };
        Ok(Task { plan, originals, sparse, indexes, places, todo })
    }

    /// What the destination takes, and what there is to do then. Nothing is offered to it where tags lead
    /// elsewhere either way.
    async fn ask(
        &self,
        plan: &Plan,
        sparse: &Sparse,
        client: &registry::Client,
    ) -> Result<(Became, (Vec<Place>, Survey))> {
        let (kept, trimmed) = (self.survey(plan, client).await, self.survey(&sparse.trimmed, client).await);
        let places = match (&kept, &trimmed) {
            (Ok((places, _)), _) | (Err(_), Ok((places, _))) => places,
            (Err(_), Err(_)) => return kept.map(|surveyed| (Became::Kept, surveyed)),
        };
        match sparse::ask(plan, sparse, places, self.dry_run, self.jobs).await? {
            Became::Trimmed => Ok((Became::Trimmed, trimmed?)),
            other => Ok((other, kept?)),
        }
    }

    async fn survey(&self, plan: &Plan, client: &registry::Client) -> Result<(Vec<Place>, Survey)> {
        let places = places::places(plan, &self.destination, &self.renamings, client)?;
        let todo = survey(plan, &places, self.jobs).await?;
        if !self.overwrite_tags {
            refuse_conflicts(plan, &todo)?;
        }
        Ok((places, todo))
    }

    /// Who is to do it.
    fn carrier(&self, task: &Task, sources: Sources, watch: Arc<dyn Watch>, readers: usize) -> Arc<Transfer> {
        let sources = match (&task.sparse, task.indexes) {
            (Some(sparse), Became::Trimmed) => sparse.over(sources),
            _ => sources,
        };
        let (plan, places, jobs) = (task.plan.clone(), task.places.clone(), self.jobs.min(readers));
        Arc::new(Transfer { plan, sources, places, jobs, rate: self.rate.clone(), watch })
    }
}

/// What there is to do.
struct Task {
    plan: Arc<Plan>,
    /// The top documents of the bundle's images.
    originals: Vec<Digest>,
    sparse: Option<Sparse>,
    indexes: Became,
    places: Vec<Place>,
    todo: Survey,
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

impl Task {
    /// A registry that checks the children of an index refuses one of which some were left out; one that checks
    /// for layers may do so with those that are not distributed.
    fn explain(&self, error: Error) -> Error {
        let lacks = |image: &Image| image.omitted.iter().any(|omitted| omitted.digest.is_some());
        match (error.kind(), self.indexes) {
            (Kind::RegistryRejected | Kind::NotFound, Became::Kept) => error.hint_instead(
                "some platforms were left out of these images: where a registry takes only complete ones, \
                 --sparse trim writes indexes that name only what is there",
            ),
            (Kind::RegistryRejected | Kind::NotFound, _) if self.plan.images.iter().any(lacks) => error.hint_instead(
                "these images have layers that are not distributed with them: the registry must be told to take such images (docker-registry: validation.manifests.urls.allow)",
            ),
            _ => error,
        }
    }
}

fn receipt(order: &Import, task: &Task, done: Done, statement: &Statement, signers: &Signers) -> Receipt {
    let Task { plan, originals, indexes, todo, .. } = task;
    let image = |(number, image): (usize, &Image)| {
        let tags = todo.tags.iter().filter(|tag| tag.image == number && tag.name.tag.subject().is_none());
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
            trimmed_from: originals.get(number).copied().filter(|original| *original != image.digest),
            names: names.collect(),
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
        indexes: *indexes,
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
    }
}
