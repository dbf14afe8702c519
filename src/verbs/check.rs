//! `check`: policy alone. Of a release manifest, whose images are judged where they lie; or of a bundle: what its
//! signed statement records, or what comes of other rules.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::export::Export;
use super::facts::{self, Terms};
use super::places::Mirror;
use super::site::Site;
use super::verify;
use crate::bundle::Statement;
use crate::content::Watch;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifest, Narrow, belongs_to_all};
use crate::plan::{Plan, Sources, Want, resolve};
use crate::policy::{self, Facts, Judge, Verdicts};
use crate::registry;
use crate::release::{Moment, Tier};
use crate::rules::PolicyRecord;

/// A release manifest that is to be judged.
pub struct OfManifest {
    /// Its path.
    pub manifest: PathBuf,
    /// Restrictions to parts of it.
    pub narrow: Narrow,
    /// Where images are looked for instead of where they are named.
    pub mirrors: Vec<Mirror>,
    /// What bundles are judged by that images are promoted from.
    pub site: Site,
    /// Layers are looked into for secrets.
    pub deep: bool,
    /// Transfers at once.
    pub jobs: usize,
}

impl OfManifest {
    /// Does what export does before anything is written. Who signs, and where account is kept, is said there.
    pub async fn judge(self, client: &registry::Client) -> Result<Verdicts> {
        let OfManifest { manifest, narrow, mirrors, site, deep, jobs } = self;
        // No bundle is made, so no time is stated, and an image from the future is no matter here.
        let created = Some(Moment::default());
        let (signatures, audited, rate) = (None, None, None);
        let export =
            Export { manifest, narrow, mirrors, created, site, signatures, deep, jobs, rate, audited };
        Ok(export.prepare(client).await?.verdicts)
    }
}

/// A bundle that is to be judged.
pub struct OfBundle {
    /// Its path.
    pub bundle: PathBuf,
    /// What it is trusted by.
    pub site: Site,
    /// A release manifest whose rules are applied to it.
    pub rules: Option<PathBuf>,
    /// Restrictions to parts of it.
    pub narrow: Narrow,
    /// Layers are looked into for secrets.
    pub deep: bool,
    /// The least strict profile that is taken.
    pub require_policy: Option<Tier>,
}

/// What came of it.
pub struct Checked {
    /// What the statement records.
    pub record: PolicyRecord,
    /// What came of the other rules.
    pub verdicts: Option<Verdicts>,
    require_policy: Option<Tier>,
}

impl OfBundle {
    /// The record needs the head of the bundle alone; other rules, all of it.
    pub async fn judge(self, watch: &Arc<dyn Watch>) -> Result<Checked> {
        let opened = verify::opened(&self.bundle, &self.site, watch).await?;
        let record = opened.statement().policy.clone();
        let checked = |verdicts| Checked { record, verdicts, require_policy: self.require_policy };
        let Some(path) = &self.rules else { return Ok(checked(None)) };
        let mut manifest = Manifest::load(path)?;
        manifest.rules.deep |= self.deep;
        policy::require_words(&manifest.rules).map_err(|e| e.at(path.display()))?;
        let wants = self.narrow.apply(opened.wants()?)?;
        spoken_of(&manifest, &wants)?;
        let bundle = verify::whole(opened, watch.clone()).await?;
        let sources: Sources = vec![bundle.source(); wants.len()];
        let plan = resolve(&wants, &sources).await.map_err(|e| e.inside(self.bundle.display()))?;
        let facts = of_bundle(bundle.statement(), &manifest, &self.narrow, bundle.signers().iter().count());
        let judge = Judge::new(facts, &manifest.rules);
        let verdicts = facts::judge(judge, &plan, &sources, &terms(&plan, &manifest)).await?;
        Ok(checked(Some(verdicts)))
    }
}

/// What is agreed on images is agreed by their names: one that nobody has heard of would keep anything.
fn spoken_of(manifest: &Manifest, wants: &[Want]) -> Result<()> {
    let services = &manifest.rules.service;
    if services.is_empty() || services.contains_key("*") {
        return Ok(());
    }
    let known = |name: &String| {
        services.contains_key(name) || manifest.images.iter().any(|image| image.want.image == *name)
    };
    let unknown = |want: &&Want| !belongs_to_all(&want.variant) && !known(&want.image);
    match wants.iter().find(unknown) {
        None => Ok(()),
        Some(want) => {
            Err(Error::new(Kind::PolicyRefused, "the rules do not speak of an image of the bundle")
                .got(&want.image)
                .expected(services.keys().cloned().collect::<Vec<_>>().join(", "))
                .hint("agree on it in [policy.service], or on all others: [policy.service.\"*\"]"))
        }
    }
}

/// Of tier and channel, those count that the rules speak of: the bundle is not asked how strictly to be judged.
fn of_bundle(statement: &Statement, manifest: &Manifest, narrow: &Narrow, keys: usize) -> Facts {
    let images = statement.images.iter().filter(|image| !belongs_to_all(&image.variant));
    Facts {
        tier: manifest.tier.max(statement.tier),
        channel: manifest.channel,
        version: statement.version.clone(),
        keys: Some(keys),
        audited: None,
        whole: narrow.is_everything(),
        at_origin: false,
        upgrades: statement.upgrades_from.is_some(),
        licensed: statement.license.is_some(),
        variants: images.map(|image| (image.name.clone(), image.variant.clone())).collect(),
        now: Moment::now(),
    }
}

/// What the manifest says of images of the same names. All that is in a bundle is there by digest.
fn terms(plan: &Plan, manifest: &Manifest) -> Vec<Terms> {
    let of = |name: &str, variant: &str| {
        let same = manifest.images.iter().find(|one| one.want.image == name && one.want.variant == variant);
        Terms { pinned: true, ..same.map(Terms::of).unwrap_or_default() }
    };
    plan.images.iter().map(|image| of(&image.name, &image.variant)).collect()
}

impl Checked {
    /// Whether that permits anything.
    ///
    /// # Errors
    /// `PolicyRefused`, where a rule is broken.
    pub fn allow(&self) -> Result<()> {
        match &self.verdicts {
            Some(verdicts) => verdicts.allow(),
            // Whether a waiver has ended is asked where a profile is demanded: until then it is its makers' to say.
            None => policy::kept(&self.record, Moment::default()),
        }
    }

    /// Whether the record is what is demanded.
    ///
    /// # Errors
    /// `PolicyRefused`, with the first rule that was not judged, or not kept.
    pub fn demanded(&self) -> Result<()> {
        self.require_policy.map_or(Ok(()), |profile| policy::demand(&self.record, profile, Moment::now()))
    }
}

/// Whether a file is a bundle, by how it begins: with the name of a tar's first entry, or compressed.
pub fn is_bundle(path: &Path) -> Result<bool> {
    let failed = |e: std::io::Error| Error::io("cannot read", path.display(), &e);
    let mut start = Vec::new();
    File::open(path).map_err(failed)?.take(7).read_to_end(&mut start).map_err(failed)?;
    // RFC 8878 §3.1.1: zstd's magic number.
    Ok(start.starts_with(b"bundle/") || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]))
}
