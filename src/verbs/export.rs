//! `export`: registry → plan → policy → bundle.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::places::{self, Mirror};
use crate::bundle::{Draft, Out, Packed, Sealing, Writer, check_target, pour};
use crate::content::{Rate, Watch, file};
use crate::error::{Error, Exit, Kind, Result, Side};
use crate::limits;
use crate::manifest::{Manifest, Narrow, Variant};
use crate::oci::Descriptor;
use crate::plan::{Ahead, Done, Place, Plan, Sources, Survey, Transfer, resolve, transfer};
use crate::policy::{self, BuildFact, Facts, Verdict};
use crate::registry;
use crate::release::{Moment, Release};
use crate::trust::{KeyId, Signature, SigningKey};

/// What is to be exported.
pub struct Export {
    /// The release manifest's path.
    pub manifest: PathBuf,
    /// Restrictions to parts of it.
    pub narrow: Narrow,
    /// Where images are pulled instead of where they are named.
    pub mirrors: Vec<Mirror>,
    /// The time the bundle states; else the newest that an image states.
    pub created: Option<Moment>,
    /// Transfers at once.
    pub jobs: usize,
    /// How fast, all together.
    pub rate: Option<Rate>,
}

/// The file that a bundle is written to.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its name.
    pub output: &'a Path,
    /// Whether a file of that name is replaced once the new one is complete.
    pub replace: bool,
}

/// A release whose documents were all read: everything is known, nothing has moved.
pub struct Prepared {
    /// What the manifest says of the release.
    pub release: Release,
    /// What it consists of.
    pub plan: Arc<Plan>,
    variants: Vec<Variant>,
    sources: Sources,
    jobs: usize,
    rate: Option<Rate>,
}

/// A bundle that was written.
pub struct Exported {
    /// Bytes of the file.
    pub bytes: u64,
    /// What was moved.
    pub done: Done,
    /// Keys that signed.
    pub signers: Vec<KeyId>,
}

impl Export {
    /// Whether the bundle may be written to this file: not over what it is made from.
    pub fn check_output(&self, target: Target, keys: &[PathBuf]) -> Result<()> {
        let Target { output, replace } = target;
        check_target(output, replace)?;
        let input = keys.iter().chain([&self.manifest]).find(|input| same_file(input, output));
        match input {
            Some(input) => Err(Error::new(Kind::OutputExists, "the output is one of the inputs")
                .at(output.display())
                .got(input.display())
                .hint("name another output: -o nexus-engine-2.1.0.tar")),
            None => Ok(()),
        }
    }

    /// Reads the manifest and the documents of all its images.
    pub async fn prepare(self, client: &registry::Client) -> Result<Prepared> {
        let mut manifest = Manifest::load(&self.manifest)?;
        places::check_mirrors(&self.mirrors, &manifest.images)?;
        manifest.narrow(&self.narrow)?;
        let sources = places::sources(&manifest.images, &self.mirrors, client).await?;
        let wants: Vec<_> = manifest.images.iter().map(|variant| variant.want.clone()).collect();
        let plan = Arc::new(resolve(&wants, &sources).await?);
        let release = Release {
            name: manifest.name,
            version: manifest.version,
            sequence: manifest.sequence,
            tier: manifest.tier,
            channel: manifest.channel,
            created: match self.created {
                Some(created) => created,
                None => newest(&plan)?,
            },
            expires: manifest.expires,
            upgrades_from: manifest.upgrades_from,
            trust_root: manifest.trust_root.map(Into::into),
        };
        Ok(Prepared { release, plan, variants: manifest.images, sources, jobs: self.jobs, rate: self.rate })
    }
}

/// The time that the newest image states. Sites take the time of a bundle for one that has been, so an
/// image from the future must not set it.
fn newest(plan: &Plan) -> Result<Moment> {
    let (stated, now) = (plan.created.map(Moment::new).unwrap_or_default(), Moment::now());
    match stated > now.a_day_later() {
        true => Err(Error::new(Kind::Usage, "the newest image states a time that has not come yet")
            .got(stated)
            .expected(format_args!("at most {now}, this machine's time"))
            .hint("state the release's time: --created or SOURCE_DATE_EPOCH; if this machine's clock is wrong, set it")),
        false => Ok(stated),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// Transfers at once while a bundle is compressed.
const PACKING_JOBS: usize = 2;

impl Prepared {
    /// The rules' verdicts, if this many keys sign.
    pub fn verdicts(&self, keys: usize) -> Vec<Verdict> {
        let builds = self.plan.images.iter().zip(&self.variants).flat_map(|(image, variant)| {
            image.platforms.iter().map(|build| BuildFact {
                image: image.label(),
                platform: build.platform.clone(),
                size: build.size,
                budget: variant.budget,
            })
        });
        policy::check(&Facts { tier: self.release.tier, keys, builds: builds.collect() })
    }

    /// The bundle, decided but for its signatures.
    pub fn draft(&self, verdicts: &[Verdict]) -> Result<Draft> {
        Draft::new(&self.release, &self.plan, policy::record(self.release.tier, verdicts))
    }

    /// Signs the bundle and writes it to a file.
    pub async fn write(
        &self,
        to: Target<'_>,
        keys: &[SigningKey],
        watch: Arc<dyn Watch>,
    ) -> Result<Exported> {
        let (sealing, signers) = self.seal(keys)?;
        let writer = Arc::new(Writer::create(to.output, sealing, to.replace, &|text| watch.note(text))?);
        if writer.resumed() > 0 {
            watch.note(&format!("going on with an interrupted export: {} bytes are there", writer.resumed()));
        }
        let place =
            Place { sink: writer.clone(), repository: String::new(), images: Vec::new(), source: None };
        let everything = Survey::of_empty(&self.plan);
        let order = Arc::new(self.transfer(vec![place], watch.clone()));
        let done = transfer(&order, &everything, "pulling").await;
        if done.is_err() && writer.resumed() > 0 {
            watch.note("what was pulled is kept beside the bundle: the same command goes on from there");
        }
        let done = done?;
        drop(order);
        let writer = Arc::into_inner(writer).ok_or_else(file::ended)?;
        let finished = tokio::task::spawn_blocking(|| writer.finish()).await;
        let bytes = finished.map_err(|_| file::ended())??;
        Ok(Exported { bytes, done, signers })
    }

    /// Signs the bundle and writes it into a pipe, from front to back.
    pub async fn pour(
        &self,
        mut out: impl Out + 'static,
        keys: &[SigningKey],
        watch: Arc<dyn Watch>,
    ) -> Result<Exported> {
        let (sealing, signers) = self.seal(keys)?;
        let nothing = Box::new(|_: &Descriptor| None);
        let mut ahead = Ahead::new(self.transfer(Vec::new(), watch), limits::AHEAD, nothing);
        // A task of its own: nobody else waits while the pipe is full.
        let bytes = aside(async move { pour(&sealing, &mut ahead, &mut out).await }).await?;
        let sent = self.plan.nodes.len();
        Ok(Exported { bytes, done: Done { sent, sent_bytes: self.plan.bytes(), ..Done::default() }, signers })
    }

    /// Signs the bundle and writes its compressed form to a file.
    pub async fn pack(&self, to: Target<'_>, keys: &[SigningKey], watch: Arc<dyn Watch>) -> Result<Exported> {
        match self.pack_once(to, keys, &watch).await {
            // It was not written as it stands there, or its disk did not keep it: that costs time, no more.
            Err((true, error)) if is_damage(&error) => {
                watch.note(&format!("{}; beginning anew", error.sentence()));
                self.pack_once(to, keys, &watch).await.map_err(|(_, error)| error)
            }
            packed => packed.map_err(|(_, error)| error),
        }
    }

    /// On failure also tells whether an interrupted export had been gone on with, which is then given up.
    async fn pack_once(
        &self,
        to: Target<'_>,
        keys: &[SigningKey],
        watch: &Arc<dyn Watch>,
    ) -> Result<Exported, (bool, Error)> {
        let fresh = |error| (false, error);
        let (sealing, signers) = self.seal(keys).map_err(fresh)?;
        let mut packed =
            Packed::create(to.output, &sealing, to.replace, &|text| watch.note(text)).map_err(fresh)?;
        let resumed = packed.resumed() > 0;
        if resumed {
            watch.note(&format!("going on with an interrupted export: {} bytes are there", packed.resumed()));
        }
        let beginnings = packed.beginnings(&sealing);
        // Compressing is slower than fetching, and needs the memory.
        let order = self.transfer(Vec::new(), watch.clone());
        let order = Transfer { jobs: order.jobs.min(if resumed { 1 } else { PACKING_JOBS }), ..order };
        let mut ahead = Ahead::new(order, limits::AHEAD_OF_FRAMES, beginnings);
        // A task of its own: nobody else waits while the disk does.
        let written = aside(async move {
            match pour(&sealing, &mut ahead, &mut packed).await {
                Ok(_) => {
                    // The last moment at which an interruption leaves no bundle.
                    tokio::task::yield_now().await;
                    tokio::task::block_in_place(|| packed.finish())
                }
                Err(error) => {
                    if resumed && is_damage(&error) {
                        packed.give_up();
                    }
                    Err(error)
                }
            }
        })
        .await;
        if written.as_ref().is_err_and(|error| !is_damage(error)) {
            watch.note("complete frames are kept beside the bundle: the same command goes on from there");
        }
        let bytes = written.map_err(|error| (resumed, error))?;
        let sent = self.plan.nodes.len();
        Ok(Exported { bytes, done: Done { sent, sent_bytes: self.plan.bytes(), ..Done::default() }, signers })
    }

    fn transfer(&self, places: Vec<Place>, watch: Arc<dyn Watch>) -> Transfer {
        let (plan, sources) = (self.plan.clone(), self.sources.clone());
        Transfer { plan, sources, places, jobs: self.jobs, rate: self.rate.clone(), watch }
    }

    /// Checks the rules, drafts the bundle and signs it.
    fn seal(&self, keys: &[SigningKey]) -> Result<(Sealing, Vec<KeyId>)> {
        let verdicts = self.verdicts(keys.len());
        policy::allow(&verdicts)?;
        let draft = self.draft(&verdicts)?;
        let signatures: Vec<(KeyId, Signature)> =
            keys.iter().map(|key| (key.public().id(), key.sign(draft.sums()))).collect();
        let signers = signatures.iter().map(|(id, _)| *id).collect();
        Ok((draft.sign(&self.plan, signatures)?, signers))
    }
}

/// Runs work in a task of its own, which ends with whoever waits for it.
async fn aside<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let mut task = JoinSet::new();
    task.spawn(work);
    match task.join_next().await {
        Some(Ok(outcome)) => outcome,
        _ => Err(file::ended()),
    }
}

/// Whether what an interrupted export has left is to blame, and not the source.
fn is_damage(error: &Error) -> bool {
    error.kind().exit() == Exit::Untrusted && error.failed_side() != Some(Side::Source)
}
