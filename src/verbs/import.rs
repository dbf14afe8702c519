//! `import`: trust first, then know, then permit, then move.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::account::{self, Account};
use super::archive::{self, Arranged};
use super::inspect::{SignerRecord, signer_records};
use super::license;
use super::output::Target;
use super::places::{self, Destination, Form, Renaming};
use super::receipt::{self, About, Came, Filed, Filing, Landed, Named, Piece, Slip, Slot};
use super::record::{self, Records};
use super::site::{Site, sighting};
use super::sparse::{self, Asking, Became, Indexes};
use super::verify;
use crate::audit::{Key, Placed};
use crate::bundle::{Input, Proof, Sealing, Statement};
use crate::content::{Rate, Watch};
use crate::error::{Error, Kind, Result, Side};
use crate::evidence::cosign::Demands;
use crate::history::{Held, Sighting};
use crate::layout::LayoutSink;
use crate::manifest::Narrow;
use crate::oci::{Digest, Name, RECORD};
use crate::plan::{
    self, Done, How, Image, Node, Omitted, Place, Plan, Sources, Survey, TagMove, Transfer, Trimmed, Want,
    ready, relay, resolve, survey, transfer,
};
use crate::policy;
use crate::registry;
use crate::release::{Moment, Tier};
use crate::rules::PolicyRecord;
use crate::store::Store;
use crate::trust::{CosignKey, Signers};

/// What is to be imported.
pub struct Import {
    /// What bundles are judged by.
    pub site: Site,
    /// Where to.
    pub destination: Destination,
    /// Renamings of repositories.
    pub renamings: Vec<Renaming>,
    /// The licence, for bundles that ask for one.
    pub license: Option<PathBuf>,
    /// Restrictions to parts of the bundle.
    pub narrow: Narrow,
    /// What becomes of indexes of which entries were left out; else what the destination takes.
    pub indexes: Option<Indexes>,
    /// Whether tags that lead elsewhere may be moved.
    pub overwrite_tags: bool,
    /// Whether an archive of that name is replaced once the new one is complete.
    pub overwrite: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The least strict profile that is taken.
    pub require_policy: Option<Tier>,
    /// Keys of which one must have signed each image, as cosign signs images, whatever the bundle says.
    pub cosign: Vec<CosignKey>,
    /// Transfers at once.
    pub jobs: usize,
    /// How fast, all together.
    pub rate: Option<Rate>,
    /// Whether each image gets a record of the bundle, where it goes to a registry or a store.
    pub record: bool,
    /// The receipt that is written; none for a dry run.
    pub filing: Option<Filing>,
    /// Where account is kept of it.
    pub account: Account,
}

/// What was done, or would be.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The release's name and version.
    pub release: String,
    /// The trusted keys that signed the bundle.
    pub signers: Vec<SignerRecord>,
    /// What came of the rules when the bundle was made.
    pub policy: PolicyRecord,
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
    /// Bytes of the archive that was written; for a dry run, before it is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_bytes: Option<u64>,
    /// The archive is compressed.
    #[serde(skip)]
    pub packed: bool,
    /// What the destination does not hold, or not every reader of it takes.
    pub notes: Vec<String>,
    /// Where all this is written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Filed>,
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
    /// Its names there, and what each led to before. None where another image is the same and has them.
    pub names: Vec<ImportedName>,
    /// Bytes to send that only this image needs.
    pub own_bytes_to_send: u64,
    /// Bytes to send that it shares with others, which are sent once.
    pub shared_bytes_to_send: u64,
    /// Documents that are attached to it: signatures, SBOMs, attestations.
    pub attached: usize,
    /// The record of the bundle that is attached to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
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
    let receipt = match origin {
        Origin::File(path) => from_file(order, &path, client, watch).await,
        Origin::Pipe(input, name) => from_pipe(order, input, name, client, watch).await,
    }?;
    order.account.placed(receipt.images.iter().flat_map(ImportedImage::placed).collect());
    Ok(receipt)
}

async fn from_file(
    order: &Import,
    path: &Path,
    client: &registry::Client,
    watch: Arc<dyn Watch>,
) -> Result<Receipt> {
    let opened = verify::opened(path, &order.site, &watch).await?;
    order.known(opened.statement(), opened.signers(), opened.identity(), &*watch)?;
    license::demand(order.license.as_deref(), opened.statement(), &order.site, &*watch)?;
    let held = order.admit(sighting(opened.statement(), opened.signers(), opened.identity()))?;
    let wants = order.wanted(opened.statement(), opened.wants()?)?;
    let slot = order.begin(opened.statement())?;
    order.reach(client, Some(path)).await?;
    let documents = vec![opened.documents(); wants.len()];
    let plan = opened.plan(&wants).await?;
    verify::signed(&opened, &plan, &order.demands(opened.statement())?).await?;
    let proof = (Proof::of(&opened)?, opened.identity());
    let about = (opened.identity(), proof.0.statement());
    let mut task = order.task(plan, &documents, (opened.statement(), proof), client).await?;
    if task.todo.is_done(&task.plan) && !order.dry_run {
        // Nothing of the bundle will be used: its layers need not be read.
        let done = Done { tags: task.todo.tags.len(), ..Done::default() };
        held.map_or(Ok(()), remember)?;
        let receipt = receipt(order, &task, done, opened.statement(), opened.signers());
        let receipt = Receipt { verified: "documents", ..receipt };
        return order.file(slot, receipt, &task, (opened.statement(), about));
    }
    let bundle = verify::whole(opened, watch.clone()).await?;
    // Unpacking and compressing at once would take twice the memory.
    let bundle =
        if order.target().is_some_and(|target| target.is_packed()) { bundle.sparing() } else { bundle };
    let sources = vec![bundle.source(); wants.len()];
    let carrier = order.carrier(&task, sources, watch, bundle.readers());
    let done = match (task.sealing.take(), order.target()) {
        _ if order.dry_run => Done::default(),
        (Some(sealing), Some(target)) => {
            let (bytes, done) = archive::write(sealing, target, carrier).await?;
            task.archive_bytes = Some(bytes);
            Done { tags: task.todo.tags.len(), ..done }
        }
        _ => {
            let carrier = Arc::new(carrier);
            ready(&carrier, &task.todo).await?;
            transfer(&carrier, &task.todo, "pushing").await.map_err(|e| task.explain(e))?
        }
    };
    held.map_or(Ok(()), remember)?;
    let receipt = receipt(order, &task, done, bundle.statement(), bundle.signers());
    order.file(slot, receipt, &task, (bundle.statement(), about))
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
    order.known(piped.statement(), piped.signers(), piped.identity(), &*watch)?;
    license::demand(order.license.as_deref(), piped.statement(), &order.site, &*watch)?;
    let held = order.admit(sighting(piped.statement(), piped.signers(), piped.identity()))?;
    let wants = order.wanted(piped.statement(), piped.wants()?)?;
    let slot = order.begin(piped.statement())?;
    order.reach(client, None).await?;
    piped.check_documents().await?;

    let sources: Sources = vec![piped.clone(); wants.len()];
    let plan = resolve(&wants, &sources).await?;
    let demands = order.demands(piped.statement())?;
    if demands.iter().any(|demands| !demands.is_empty()) {
        piped.demand(&plan, demands);
    }
    let proof = (Proof::passed(&piped)?, piped.identity());
    let about = (piped.identity(), proof.0.statement());
    let mut task = order.task(plan, &sources, (piped.statement(), proof), client).await?;
    let carrier = order.carrier(&task, sources, watch.clone(), usize::MAX);
    let done = match (task.sealing.take(), order.target()) {
        _ if order.dry_run => {
            verify::rest(&piped, watch).await?;
            Done::default()
        }
        (Some(sealing), Some(target)) => {
            let (bytes, done) = archive::receive(sealing, target, carrier, piped.clone()).await?;
            task.archive_bytes = Some(bytes);
            Done { tags: task.todo.tags.len(), ..done }
        }
        _ => {
            let carrier = Arc::new(carrier);
            ready(&carrier, &task.todo).await?;
            let mut left = task.todo.clone();
            let mut done = relay(&carrier, &mut left, piped.as_ref()).await?;
            piped.finish().await?;
            done.add(transfer(&carrier, &left, "finishing").await.map_err(|e| task.explain(e))?);
            done
        }
    };
    held.map_or(Ok(()), remember)?;
    let receipt = receipt(order, &task, done, piped.statement(), piped.signers());
    order.file(slot, receipt, &task, (piped.statement(), about))
}

/// The last step: what was imported is imported, whatever becomes of remembering it; but it is said.
fn remember(held: Held) -> Result<()> {
    tokio::task::block_in_place(|| held.remember()).map_err(|e| {
        e.hint_instead(
            "everything was imported, but that is not remembered; mend this, and run the same command again",
        )
    })
}

fn key_of(signer: &SignerRecord) -> Key {
    Key { key_id: signer.key_id.clone(), name: signer.name.clone() }
}

impl ImportedImage {
    /// The same for the receipt.
    fn landed(&self) -> Landed {
        let name = |name: &ImportedName| Named {
            change: name.change.to_owned(),
            digest: name.digest,
            name: name.name.clone(),
        };
        Landed {
            digest: self.digest,
            names: self.names.iter().map(name).collect(),
            record: self.record,
            source: self.source.clone(),
            trimmed_from: self.trimmed_from,
        }
    }

    /// Its names there, for the account.
    fn placed(&self) -> Vec<Placed> {
        let mut placed: Vec<Placed> = Vec::new();
        for ImportedName { name, digest, .. } in &self.names {
            match placed.iter_mut().find(|one| one.digest == *digest) {
                Some(one) => one.names.push(name.clone()),
                None => placed.push(Placed { digest: *digest, names: vec![name.clone()] }),
            }
        }
        placed
    }
}

impl Import {
    /// Who signed what is known now: whatever becomes of it can be told. Where the tier asks for an account and none
    /// was asked for, one is kept beside what the site remembers: nobody is to stand before a closed door for it.
    fn known(
        &self,
        statement: &Statement,
        signers: &Signers,
        bundle: Digest,
        watch: &dyn Watch,
    ) -> Result<()> {
        self.account.trusted(statement, signers, bundle);
        if self.dry_run || self.account.is_kept() || !account::asks_for_log(statement.tier) {
            return Ok(());
        }
        self.account.fall_back(statement.tier, self.site.history.prepared()?, watch)
    }

    /// From here on the destination is touched. What will be written afterwards has its place before.
    fn begin(&self, statement: &Statement) -> Result<Option<Slot>> {
        if self.dry_run {
            return Ok(None);
        }
        let slot = self
            .filing
            .as_ref()
            .map(|filing| filing.reserve(self.site.history.prepared()?, &account::released(statement)));
        let slot = slot.transpose()?;
        self.account.begin()?;
        Ok(slot)
    }

    /// Writes the receipt: what was imported is imported, whatever becomes of that; but it is said.
    fn file(
        &self,
        slot: Option<Slot>,
        receipt: Receipt,
        task: &Task,
        (statement, (bundle, digest)): (&Statement, (Digest, Digest)),
    ) -> Result<Receipt> {
        let (Some(filing), Some(slot)) = (&self.filing, slot) else { return Ok(receipt) };
        let (r#type, producer) = Slip::words();
        let slip = Slip {
            bundle: About { digest: bundle, statement: digest, verified: receipt.verified.to_owned() },
            content: task.pieces(),
            destination: receipt.destination.clone(),
            images: receipt.images.iter().map(ImportedImage::landed).collect(),
            notes: receipt.notes.clone(),
            policy: serde_json::to_value(&statement.policy).unwrap_or_default(),
            producer,
            release: account::released(statement),
            signers: receipt.signers.iter().map(key_of).collect(),
            site: receipt::Place { host: filing.host.clone() },
            time: Moment::now(),
            r#type,
        };
        let filed = tokio::task::block_in_place(|| filing.file(slot, &slip)).map_err(|e| {
            e.hint_instead(
                "everything was imported, but there is no receipt; mend this, and run the same command again",
            )
        })?;
        Ok(Receipt { receipt: Some(filed), ..receipt })
    }

    /// Whether the bundle may follow what was imported before; holds its place until that is remembered.
    fn admit(&self, sighting: Sighting) -> Result<Option<Held>> {
        match self.dry_run {
            true => self.site.check(&sighting).map(|()| None),
            false => self.site.hold(sighting).map(Some),
        }
    }

    /// The wants, narrowed. What is wrong with the order is said before gigabytes are read.
    fn wanted(&self, statement: &Statement, wants: Vec<Want>) -> Result<Vec<Want>> {
        match self.require_policy {
            Some(profile) => policy::demand(&statement.policy, profile, Moment::now())?,
            None => policy::kept(&statement.policy, Moment::default())?,
        }
        places::check_renamings(&self.renamings, statement.images.iter().map(|image| &image.source))?;
        self.narrow.apply(wants)
    }

    /// Whose cosign signatures are asked for: those of the release's makers, and those of this site.
    fn demands(&self, statement: &Statement) -> Result<Vec<Demands>> {
        Ok(vec![verify::recorded(statement)?, Demands::every(self.cosign.clone())])
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

    /// What there is to do, with indexes that the destination takes.
    async fn task(
        &self,
        plan: Plan,
        documents: &Sources,
        (statement, (proof, bundle)): (&Statement, (Proof, Digest)),
        client: &registry::Client,
    ) -> Result<Task> {
        let originals: Vec<_> =
            plan.images.iter().map(|image| (image.source.clone(), image.digest)).collect();
        // Registries judge what they are given; other places do not.
        let judges = matches!(self.destination, Destination::Registry(..));
        let lacking = match &self.destination {
            // It has no indexes.
            Destination::Archive(Form::Docker, _) => BTreeSet::new(),
            _ => plan::lacking(&plan, documents).await?,
        };
        let (trimmed, indexes) = match self.indexes {
            _ if lacking.is_empty() => (None, Became::Complete),
            Some(Indexes::Refuse) => return Err(sparse::refuse(&plan)),
            Some(Indexes::Trim) => (Some(Trimmed::new(&plan, documents, &lacking).await?), Became::Trimmed),
            None if judges => self.ask(&plan, documents, &lacking, client).await?,
            Some(Indexes::Keep) if judges => self.keep(&plan, documents, &lacking, client).await?,
            Some(Indexes::Keep) | None => (None, Became::Kept),
        };
        let planned = trimmed.as_ref().map_or(plan, |trimmed| (*trimmed.plan).clone());
        let Arranged { mut plan, mut notes } = archive::arranged(self, planned, statement)?;
        let asks = matches!(self.destination, Destination::Registry(..) | Destination::Store(_));
        let records = (asks && self.record).then(|| Records::attach(&mut plan, proof, statement, bundle));
        let (places, mut todo) = self.survey(&plan, client).await?;
        keep_complete(&plan, &originals, &mut todo, &mut notes);
        if !self.overwrite_tags {
            refuse_conflicts(&plan, &todo, None)?;
        }
        let sealing = archive::sealing(self, &plan, &todo)?;
        let archive_bytes = sealing.as_ref().map(Sealing::total);
        let plan = Arc::new(plan);
        Ok(Task { plan, originals, trimmed, records, indexes, places, todo, notes, sealing, archive_bytes })
    }

    /// What the destination takes. Nothing is offered to it where tags lead elsewhere either way.
    async fn ask(
        &self,
        plan: &Plan,
        sources: &Sources,
        lacking: &BTreeSet<usize>,
        client: &registry::Client,
    ) -> Result<(Option<Trimmed>, Became)> {
        let (places, todo) = self.survey(plan, client).await?;
        let trimmed = Trimmed::new(plan, sources, lacking).await?;
        if !self.overwrite_tags {
            refuse_conflicts(plan, &todo, Some(&trimmed.plan))?;
        }
        let (places, todo, dry_run, jobs) = (&places, &todo, self.dry_run, self.jobs);
        let asking = Asking { plan, sources, lacking, trimmed: Some(&trimmed), places, todo, dry_run, jobs };
        match asking.ask().await? {
            (nodes, decided) if nodes.is_empty() => {
                Ok((None, if decided { Became::Kept } else { Became::Undecided }))
            }
            (nodes, _) if nodes == *lacking => Ok((Some(trimmed), Became::Trimmed)),
            (nodes, _) => Ok((Some(Trimmed::new(plan, sources, &nodes).await?), Became::Trimmed)),
        }
    }

    /// The same where they are to stay as they are: a registry that says no is heard before anything moves.
    async fn keep(
        &self,
        plan: &Plan,
        sources: &Sources,
        lacking: &BTreeSet<usize>,
        client: &registry::Client,
    ) -> Result<(Option<Trimmed>, Became)> {
        let (places, todo) = self.survey(plan, client).await?;
        if !self.overwrite_tags {
            refuse_conflicts(plan, &todo, None)?;
        }
        let (places, todo, dry_run, jobs) = (&places, &todo, self.dry_run, self.jobs);
        let asking = Asking { plan, sources, lacking, trimmed: None, places, todo, dry_run, jobs };
        match asking.ask().await {
            Ok((refused, _)) if !refused.is_empty() => {
                let refused = Error::new(Kind::RegistryRejected, "the registry takes only complete indexes");
                Err(refused.at(&self.destination).side(Side::Destination).hint(INCOMPLETE))
            }
            // One that cannot say it beforehand may take them all the same.
            Err(error) if error.kind() != Kind::RegistryUnsupported => Err(error),
            _ => Ok((None, Became::Kept)),
        }
    }

    async fn survey(&self, plan: &Plan, client: &registry::Client) -> Result<(Vec<Place>, Survey)> {
        let places = places::places(plan, &self.destination, &self.renamings, client)?;
        let todo = survey(plan, &places, self.jobs).await?;
        Ok((places, todo))
    }

    /// Who is to do it.
    fn carrier(&self, task: &Task, sources: Sources, watch: Arc<dyn Watch>, readers: usize) -> Transfer {
        let sources = match &task.trimmed {
            Some(trimmed) => trimmed.over(sources),
            None => sources,
        };
        let sources = match &task.records {
            Some(records) => records.over(sources),
            None => sources,
        };
        let (plan, places, jobs) = (task.plan.clone(), task.places.clone(), self.jobs.min(readers));
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

const INCOMPLETE: &str = "some platforms were left out of these images: where a registry takes only complete ones, \
     --sparse trim writes indexes that name only what is there";

/// What there is to do.
struct Task {
    plan: Arc<Plan>,
    /// The bundle's images: what they are called there, and their top documents.
    originals: Vec<(Name, Digest)>,
    trimmed: Option<Trimmed>,
    records: Option<Records>,
    indexes: Became,
    places: Vec<Place>,
    todo: Survey,
    notes: Vec<String>,
    /// For an archive: all of it but its blobs.
    sealing: Option<Sealing>,
    /// And its bytes.
    archive_bytes: Option<u64>,
}

/// A tag that leads to the complete index, in one of several repositories, is not moved to the trimmed one.
fn keep_complete(plan: &Plan, originals: &[(Name, Digest)], todo: &mut Survey, notes: &mut Vec<String>) {
    todo.tags.retain(|tag| {
        let original = originals.get(tag.image).map(|(_, digest)| *digest);
        let own = plan.roots.get(tag.image) == Some(&tag.node);
        let complete = own && tag.before.is_some() && tag.before == original && original != tag.target(plan);
        if complete {
            notes.push(format!("{} is there with all its platforms, and stays as it is", tag.name));
        }
        !complete
    });
}

/// Refuses to move tags that lead elsewhere; what they lead to in `also` is no elsewhere.
fn refuse_conflicts(plan: &Plan, todo: &Survey, also: Option<&Plan>) -> Result<()> {
    let elsewhere = |tag: &&TagMove| also.is_none_or(|also| tag.before != tag.target(also));
    let conflicts: Vec<_> = todo.conflicts(plan).filter(elsewhere).collect();
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
    /// All content of the images, and how it got to where it is.
    fn pieces(&self) -> Vec<Piece> {
        let mut how = vec![Came::Present; self.plan.nodes.len()];
        for one in &self.todo.moves {
            match (how.get_mut(one.node), one.how) {
                (Some(how), How::Send) => *how = Came::Sent,
                // To one place it may be sent, and from there mounted to others.
                (Some(how), How::Mount(_)) if *how == Came::Present => *how = Came::Mounted,
                _ => {}
            }
        }
        let piece = |(node, how): (&Node, Came)| Piece {
            digest: node.descriptor.digest,
            how,
            size: node.descriptor.size,
        };
        self.plan.nodes.iter().zip(how).map(piece).collect()
    }

    /// A registry that checks the children of an index refuses one of which some were left out; one that checks
    /// for layers may do so with those that are not distributed.
    fn explain(&self, error: Error) -> Error {
        let misses = matches!(error.kind(), Kind::RegistryRejected | Kind::NotFound)
            && error.to_string().contains("MANIFEST_");
        let lacks = |image: &Image| image.omitted.iter().any(Omitted::is_layer);
        match (misses, self.indexes) {
            (true, Became::Kept) => error.hint_instead(INCOMPLETE),
            (true, _) if self.plan.images.iter().any(lacks) => error.hint_instead(
                "these images have layers that are not distributed with them: the registry must be told to take \
                 such images (docker-registry: validation.manifests.urls.allow)",
            ),
            _ if self.records.is_some() => record::explain(error),
            _ => error,
        }
    }
}

/// What is attached to an image, but for the record.
fn attached(image: &Image) -> impl Iterator<Item = Digest> {
    let others = image.referrers.iter().filter(|one| one.artifact_type != RECORD);
    others.map(|one| one.digest)
}

fn receipt(order: &Import, task: &Task, done: Done, statement: &Statement, signers: &Signers) -> Receipt {
    let Task { plan, originals, indexes, todo, notes, archive_bytes, .. } = task;
    let shares = todo.shares(plan);
    let image = |(number, image): (usize, &Image)| {
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
        let original = originals.get(number);
        ImportedImage {
            source: original.map_or(&image.source, |(name, _)| name).to_string(),
            digest: image.digest,
            trimmed_from: original.map(|(_, digest)| *digest).filter(|digest| *digest != image.digest),
            names: names.collect(),
            own_bytes_to_send: share.own,
            shared_bytes_to_send: share.shared,
            attached: attached(image).collect::<HashSet<_>>().len(),
            record: image.referrers.iter().find(|one| one.artifact_type == RECORD).map(|one| one.digest),
            omitted: image.omitted.iter().filter(|omitted| omitted.digest.is_some()).count(),
        }
    };
    let count = |how: fn(&How) -> bool| todo.moves.iter().filter(|m| how(&m.how)).count();
    Receipt {
        release: format!("{} {}", statement.name, statement.version),
        signers: signer_records(signers),
        policy: statement.policy.clone(),
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
        archive_bytes: *archive_bytes,
        packed: order.target().is_some_and(|target| target.is_packed()),
        notes: notes.clone(),
        receipt: None,
    }
}
