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
use crate::plan::{Image, Plan, resolve};
use crate::policy::{self, Facts, Judge, Verdicts};
use crate::release::{Moment, Release};
use crate::rules::{Check, Finding, Outcome, PolicyRecord, RuleId, Rules};

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
    /// Whether account is kept of it; nothing where it is not made, but only looked at.
    pub audited: Option<bool>,
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
        let (verdicts, record) =
            judged(&self, bundle.statement(), &plan).map_err(|e| e.inside(self.bundle.display()))?;
        Ok(Prepared {
            release: release(bundle.statement()),
            verdicts,
            record,
            signatures: Some(self.signatures),
            plan: Arc::new(plan),
            sources,
            jobs: self.jobs.min(bundle.readers()),
            rate: self.rate,
            verb: "copying",
        })
    }
}

/// The release team's rules were judged when the bundle was made, and what came of them holds for a part of it, too:
/// but for rules about what there is all in all, and about who makes the bundle.
fn judged(slice: &Slice, statement: &Statement, plan: &Plan) -> Result<(Verdicts, PolicyRecord)> {
    let narrow = &slice.narrow;
    policy::kept(&statement.policy, Moment::now())?;
    let facts = Facts {
        tier: statement.tier,
        channel: statement.channel,
        version: statement.version.clone(),
        keys: Some(slice.signatures),
        audited: slice.audited,
        whole: narrow.is_everything(),
        at_origin: false,
        upgrades: statement.upgrades_from.is_some(),
        licensed: statement.license.is_some(),
        variants: Vec::new(),
        now: Moment::now(),
    };
    let profile = statement.policy.profile.parse().ok();
    let rules = Rules { profile, ..Rules::default() };
    let mut verdicts = Judge::new(facts, &rules).finish();
    let of_making = [RuleId::Signed, RuleId::Audit];
    verdicts.all.retain(|verdict| of_making.contains(&verdict.rule.id));
    let there = |finding: &Finding| {
        let platform = |image: &Image| {
            let builds = || image.platforms.iter().map(|build| &build.platform);
            finding.platform.as_ref().is_none_or(|platform| builds().any(|build| build == platform))
        };
        let named = |image: &Image| finding.image == image.label() || finding.image == image.name;
        let image = |image: &Image| named(image) && platform(image);
        finding.image.is_empty() || plan.images.iter().any(image)
    };
    let holds = |check: &&Check| {
        let of_all = [RuleId::Variants, RuleId::Platforms].iter().any(|rule| rule.to_string() == check.id);
        !of_making.iter().any(|rule| rule.to_string() == check.id) && (narrow.is_everything() || !of_all)
    };
    let kept = statement.policy.checks.iter().filter(holds).map(|check| {
        let findings: Vec<_> = check.findings.iter().filter(|finding| there(finding)).cloned().collect();
        let kept = findings.is_empty() && !check.findings.is_empty() && check.more == 0;
        let result = if kept { Outcome::Pass } else { check.result };
        Check { findings, result, ..check.clone() }
    });
    let checks = verdicts.record().checks.into_iter().chain(kept).collect();
    Ok((
        verdicts,
        PolicyRecord {
            checks,
            cosign: statement.policy.cosign.clone(),
            profile: statement.policy.profile.clone(),
        },
    ))
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
