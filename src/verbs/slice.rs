//! `export --from`: a bundle as the source of another one. Opened and read like any bundle that is to be used, then
//! narrowed, and written as any other: source → plan → policy → writer. No network.

use std::path::PathBuf;
use std::sync::Arc;

use super::export::{Prepared, check_output};
use super::output::Target;
use super::site::Site;
use super::verify;
use crate::bundle::Statement;
use crate::content::{Rate, Watch};
use crate::error::Result;
use crate::manifest::Narrow;
use crate::plan::resolve;
use crate::policy::{Facts, Judge, Verdicts};
use crate::release::{Moment, Release};
use crate::rules::{PolicyRecord, RuleId, Rules};

/// What is to be cut out of a bundle.
pub struct Slice {
    /// The bundle.
    pub bundle: PathBuf,
    /// What it is judged by. What was imported here does not matter: nothing is imported.
    pub site: Site,
    /// Which parts of it.
    pub narrow: Narrow,
    /// Keys that will sign the new bundle.
    pub signatures: usize,
    /// Transfers at once.
    pub jobs: usize,
    /// How fast, all together.
    pub rate: Option<Rate>,
}

impl Slice {
    /// Whether the new bundle may be written to this file: not over what it is made from.
    pub fn check_output(&self, target: Target, keys: &[PathBuf]) -> Result<()> {
        check_output(target, keys.iter().chain([&self.bundle]))
    }

    /// Reads all of the bundle, then the documents of what is wanted of it.
    pub async fn prepare(self, watch: &Arc<dyn Watch>) -> Result<Prepared> {
        let opened = verify::opened(&self.bundle, &self.site, watch).await?;
        let wants = self.narrow.apply(opened.wants()?)?;
        let bundle = verify::whole(opened, watch.clone()).await?;
        let sources = vec![bundle.source(); wants.len()];
        let plan = resolve(&wants, &sources).await.map_err(|e| e.inside(self.bundle.display()))?;
        let (verdicts, record) = judged(bundle.statement(), self.signatures);
        Ok(Prepared {
            release: release(bundle.statement()),
            verdicts,
            record,
            signatures: self.signatures,
            plan: Arc::new(plan),
            sources,
            jobs: self.jobs.min(bundle.readers()),
            rate: self.rate,
            verb: "copying",
        })
    }
}

/// The release team's rules were judged when the bundle was made, and what came of them holds for a part of it, too.
/// Only who signs is another matter.
fn judged(statement: &Statement, keys: usize) -> (Verdicts, PolicyRecord) {
    let facts = Facts {
        tier: statement.tier,
        channel: statement.channel,
        version: statement.version.clone(),
        keys,
        upgrades: statement.upgrades_from.is_some(),
        licensed: statement.license.is_some(),
        variants: Vec::new(),
        now: Moment::now(),
    };
    let rules = Rules::default();
    let mut verdicts = Judge::new(facts, &rules).finish();
    verdicts.all.retain(|verdict| verdict.rule.id == RuleId::Signed);
    let fresh = verdicts.record().checks;
    let mut record = statement.policy.clone();
    for check in &mut record.checks {
        if let Some(fresh) = fresh.iter().find(|fresh| fresh.id == check.id) {
            *check = fresh.clone();
        }
    }
    (verdicts, record)
}

/// What the bundle says of its release holds for a part of it, too.
pub(super) fn release(statement: &Statement) -> Release {
    Release {
        name: statement.name.clone(),
        version: statement.version.clone(),
        sequence: statement.sequence,
        tier: statement.tier,
        channel: statement.channel,
        created: statement.created,
        expires: statement.expires,
        upgrades_from: statement.upgrades_from.clone(),
        license: statement.license,
        trust_root: statement.trust_root.clone().map(Into::into),
    }
}
