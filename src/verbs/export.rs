//! `export`: registry → plan → policy → bundle.

use std::path::PathBuf;
use std::sync::Arc;

use super::account::Account;
use super::facts::{self, Terms};
use super::output::{self, Target, Words};
use super::places::{self, Mirror, Opener};
use super::promotion::Promoter;
use super::site::Site;
use crate::audit::{Key, Placed, Released};
use crate::bundle::{Draft, Out, Sealing, check_target, pour};
use crate::content::{Rate, Watch};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::manifest::{Manifest, Narrow, Promotion};
use crate::oci::{Descriptor, Digest};
use crate::plan::{Ahead, Done, Image, Place, Plan, Sources, Transfer, resolve};
use crate::policy::{self, Judge, Verdicts};
use crate::registry;
use crate::release::{Moment, Release};
use crate::rules::PolicyRecord;
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
    /// What bundles are judged by that images are promoted from.
    pub site: Site,
    /// Keys that will sign it, where that is known.
    pub signatures: Option<usize>,
    /// Layers are looked into for secrets.
    pub deep: bool,
    /// Transfers at once.
    pub jobs: usize,
    /// How fast, all together.
    pub rate: Option<Rate>,
    /// Whether account is kept of it; nothing where it is not made, but only looked at.
    pub audited: Option<bool>,
}

/// A release whose documents were all read: everything is known, nothing has moved.
pub struct Prepared {
    /// What the manifest says of the release.
    pub release: Release,
    /// What it consists of.
    pub plan: Arc<Plan>,
    /// What came of the rules.
    pub verdicts: Verdicts,
    /// What the statement says of that.
    pub(super) record: PolicyRecord,
    /// Keys that were said to sign it: the rules were judged with so many.
    pub(super) signatures: Option<usize>,
    pub(super) sources: Sources,
    pub(super) jobs: usize,
    pub(super) rate: Option<Rate>,
    /// What moving it is called.
    pub(super) verb: &'static str,
}

/// A bundle that was written.
pub struct Exported {
    /// The digest of its signed sums.
    pub bundle: Digest,
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
        let manifest = Manifest::load(&self.manifest)?;
        let named = places::inputs(&manifest.images, &self.mirrors)?;
        check_output(target, keys.iter().chain([&self.manifest]).chain(&named))
    }

    /// Whether anything is promoted from a bundle, and so judged by a trust store.
    pub fn judges(&self) -> Result<bool> {
        let images = Manifest::load(&self.manifest)?.images;
        Ok(images.iter().any(|variant| matches!(variant.promotion, Some(Promotion::Bundle(_)))))
    }

    /// Reads the manifest and the documents of all its images.
    pub async fn prepare(self, client: &registry::Client) -> Result<Prepared> {
        let mut manifest = Manifest::load(&self.manifest)?;
        manifest.rules.deep |= self.deep;
        places::check_mirrors(&self.mirrors, &manifest.images)?;
        policy::require_words(&manifest.rules).map_err(|e| e.at(self.manifest.display()))?;
        let judge = facts::of_release(&manifest, self.signatures, self.audited, &self.narrow);
        manifest.narrow(&self.narrow)?;
        let terms: Vec<_> = manifest.images.iter().map(Terms::of).collect();
        let mut opener = Opener::new(client);
        let mut sources = places::sources(&manifest.images, &self.mirrors, &mut opener).await?;
        let promoter = Promoter { mirrors: &self.mirrors, site: &self.site, note: client.note() };
        let promoted = promoter.promote(&mut manifest.images, &mut sources, &mut opener).await?;
        let wants: Vec<_> = manifest.images.iter().map(|variant| variant.want.clone()).collect();
        let plan = Arc::new(resolve(&wants, &sources).await?);
        let terms: Vec<_> =
            terms.into_iter().zip(promoted).map(|(terms, promoted)| Terms { promoted, ..terms }).collect();
        let judge = Judge::new(judge, &manifest.rules);
        let mut verdicts = facts::judge(judge, &plan, &sources, &terms).await?;
        if let Some(expires) = manifest.expires.filter(|expires| *expires <= Moment::now()) {
            verdicts.notes.push(format!("the release has ended at {expires}: no site will take it"));
        }
        let record = facts::record(&verdicts, &manifest.cosign)?;
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
            license: manifest.license,
            trust_root: manifest.trust_root.map(Into::into),
        };
        let (jobs, rate, signatures) = (self.jobs, self.rate, self.signatures);
        Ok(Prepared { release, plan, verdicts, record, signatures, sources, jobs, rate, verb: "pulling" })
    }
}

/// Whether a bundle may be written to this file: not over what it is made from.
pub(super) fn check_output<'a>(target: Target, inputs: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    let Target { output, replace } = target;
    match inputs.into_iter().find(|input| target.touches(input)) {
        Some(input) => Err(Error::new(Kind::OutputExists, "the output is one of the inputs")
            .at(output.display())
            .got(input.display())
            .hint("name another output: -o nexus-engine-2.1.0.tar")),
        None => check_target(output, replace),
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

/// An image under its own names, for the account.
fn placed(image: &Image) -> Placed {
    Placed { digest: image.digest, names: image.names().map(|name| name.to_string()).collect() }
}

impl Prepared {
    /// The bundle, decided but for its signatures.
    pub fn draft(&self) -> Result<Draft> {
        Draft::new(&self.release, &self.plan, self.record.clone())
    }

    /// Bytes that the bundle will have.
    pub fn total(&self) -> Result<u64> {
        self.draft()?.total(self.signatures.unwrap_or_default())
    }

    /// Signs the bundle and writes it to a file, compressed if that is what the file is called.
    pub async fn write(
        &self,
        to: Target<'_>,
        keys: &[SigningKey],
        watch: Arc<dyn Watch>,
    ) -> Result<Exported> {
        let words = Words { verb: "export", moving: self.verb };
        let (sealing, signers, bundle) = self.seal(keys)?;
        let order = self.transfer(Vec::new(), watch);
        let (bytes, done) = match to.is_packed() {
            true => (output::pack(Arc::new(sealing), to, order, words).await?, Done::all(&self.plan)),
            false => output::write(sealing, to, order, words).await?,
        };
        Ok(Exported { bundle, bytes, done, signers })
    }

    /// Signs the bundle and writes it into a pipe, from front to back.
    pub async fn pour(
        &self,
        mut out: impl Out + 'static,
        keys: &[SigningKey],
        watch: Arc<dyn Watch>,
    ) -> Result<Exported> {
        let (sealing, signers, bundle) = self.seal(keys)?;
        let nothing = Box::new(|_: &Descriptor| None);
        let mut ahead = Ahead::new(self.transfer(Vec::new(), watch), self.verb, limits::AHEAD, nothing);
        // A task of its own: nobody else waits while the pipe is full.
        let bytes = output::aside(async move { pour(&sealing, &mut ahead, &mut out).await }).await?;
        Ok(Exported { bundle, bytes, done: Done::all(&self.plan), signers })
    }

    /// Says in the account what is about to be made; a broken rule ends it here.
    pub fn begin(&self, account: &Account, keys: &[SigningKey]) -> Result<()> {
        let Release { channel, name, tier, version, .. } = self.release.clone();
        account.releases(Released { channel, name, tier, version }, &self.record);
        self.verdicts.allow()?;
        let key = |key: &SigningKey| Key { key_id: key.public().id().to_string(), name: String::new() };
        let draft = self.draft()?;
        account.bundle(Digest::of(draft.sums()), keys.iter().map(key).collect());
        account.placed(self.plan.images.iter().map(placed).collect());
        account.begin()
    }

    fn transfer(&self, places: Vec<Place>, watch: Arc<dyn Watch>) -> Transfer {
        let (plan, sources) = (self.plan.clone(), self.sources.clone());
        Transfer { plan, sources, places, jobs: self.jobs, rate: self.rate.clone(), watch }
    }

    /// Checks the rules, drafts the bundle and signs it.
    fn seal(&self, keys: &[SigningKey]) -> Result<(Sealing, Vec<KeyId>, Digest)> {
        self.verdicts.allow()?;
        if Some(keys.len()) != self.signatures {
            return Err(Error::new(Kind::Usage, "the rules were judged for another number of signatures")
                .got(keys.len()));
        }
        let draft = self.draft()?;
        let signatures: Vec<(KeyId, Signature)> =
            keys.iter().map(|key| (key.public().id(), key.sign(draft.sums()))).collect();
        let signers = signatures.iter().map(|(id, _)| *id).collect();
        let bundle = Digest::of(draft.sums());
        Ok((draft.sign(&self.plan, signatures)?, signers, bundle))
    }
}
