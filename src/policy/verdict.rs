//! Verdicts: what came of the rules, how the statement records it, and whether that permits anything.

use super::{RULES, Rule};
use crate::error::{Error, Kind, Result};
use crate::release::{Moment, Tier};
use crate::rules::{Check, Finding, Outcome, PolicyRecord};

/// Findings of one rule that the statement records: it must stay small, whatever a release is like.
const RECORDED: usize = 32;

/// The same for what else is to be known: a line for each build of each image.
const RECORDED_NOTES: usize = 256;

/// A rule's verdict and its grounds.
#[derive(Clone)]
pub struct Verdict {
    /// The rule.
    pub rule: &'static Rule,
    /// What came of it.
    pub outcome: Outcome,
    /// What breaks it, or the first of it.
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub more: usize,
    /// What else is to be known.
    pub noted: Vec<String>,
}

/// What came of all rules that were judged.
#[derive(Clone)]
pub struct Verdicts {
    /// The tier whose defaults held.
    pub profile: Tier,
    /// One for each rule.
    pub all: Vec<Verdict>,
    /// Waivers that have ended, or cover nothing.
    pub notes: Vec<String>,
}

impl Verdicts {
    /// As the statement records them.
    pub fn record(&self) -> PolicyRecord {
        let check = |verdict: &Verdict| Check {
            findings: verdict.findings.iter().take(RECORDED).cloned().collect(),
            id: verdict.rule.id.to_string(),
            more: verdict.findings.len().saturating_sub(RECORDED).saturating_add(verdict.more),
            noted: verdict.noted.iter().take(RECORDED_NOTES).cloned().collect(),
            result: verdict.outcome,
        };
        PolicyRecord {
            checks: self.all.iter().map(check).collect(),
            cosign: Vec::new(),
            profile: self.profile.to_string(),
        }
    }

    /// Permits the release.
    ///
    /// # Errors
    /// `PolicyRefused` for the first broken rule that binds.
    pub fn allow(&self) -> Result<()> {
        let mut broken = self.all.iter().filter(|verdict| verdict.outcome == Outcome::Fail);
        let Some(first) = broken.next() else { return Ok(()) };
        let named = std::iter::once(first).chain(broken).map(|verdict| verdict.rule.id.to_string());
        let named: Vec<_> = named.collect();
        let what = match named.as_slice() {
            [one] => format!("the rule {one:?} is broken"),
            more => format!("{} rules are broken ({}), the first of them here", more.len(), more.join(", ")),
        };
        let error = Error::new(Kind::PolicyRefused, what).hint(first.rule.hint);
        Err(match first.findings.iter().find(|finding| finding.waived.is_none()) {
            Some(finding) => error.at(finding.place()).got(&finding.got).expected(&finding.expected),
            None => error,
        })
    }
}

/// Requires of what a bundle's statement records that it was made under a profile at least this strict, and kept
/// the rules that bind there.
///
/// # Errors
/// `PolicyRefused`, with the first rule that was not judged, or was broken.
pub fn demand(record: &PolicyRecord, profile: Tier, now: Moment) -> Result<()> {
    let refused =
        |what: String| Error::new(Kind::PolicyRefused, what).at("the bundle's policy record").hint(ASK);
    let recorded = Tier::ALL.iter().find(|tier| tier.to_string() == record.profile);
    if recorded.is_none_or(|recorded| *recorded < profile) {
        return Err(refused("the bundle was made under a less strict profile".to_owned())
            .got(&record.profile)
            .expected(format_args!("{profile} or stricter")));
    }
    for rule in RULES.iter().filter(|rule| is_unasked(rule, profile)) {
        if !record.checks.iter().any(|check| check.id == rule.id.to_string()) {
            return Err(refused(format!("the rule {:?} was not judged", rule.id.to_string()))
                .expected(format_args!("as the profile {profile} has it")));
        }
    }
    for check in &record.checks {
        let counts = match check.result {
            Outcome::Pass => false,
            Outcome::Fail | Outcome::Waived => true,
            // What only warned when the bundle was made counts here, where the profile has the rule.
            Outcome::Warn => {
                RULES.iter().any(|rule| rule.id.to_string() == check.id && is_unasked(rule, profile))
            }
        };
        if counts {
            not_broken(check, now).map_err(|e| e.hint(ASK))?;
        }
    }
    Ok(())
}

/// Whether a profile has a rule judged unasked.
fn is_unasked(rule: &Rule, profile: Tier) -> bool {
    rule.from.is_some_and(|from| profile >= from)
}

const ASK: &str = "ask the release's makers for a bundle that was made under this profile; sealift check BUNDLE shows the record";

/// Requires of what a bundle's statement records that nothing in it failed, and that no waiver has ended at this time.
///
/// # Errors
/// `PolicyRefused`, with the first rule that was broken.
pub fn kept(record: &PolicyRecord, now: Moment) -> Result<()> {
    let counts = |check: &&Check| matches!(check.result, Outcome::Fail | Outcome::Waived);
    record.checks.iter().filter(counts).try_for_each(|check| not_broken(check, now))
}

/// Refuses what breaks a rule and was not waived, or no longer is.
fn not_broken(check: &Check, now: Moment) -> Result<()> {
    let counts = |finding: &&Finding| finding.waived.as_ref().is_none_or(|waived| waived.expires <= now);
    let finding = check.findings.iter().find(counts);
    let what = match finding.map(|finding| finding.waived.as_ref()) {
        None if check.result == Outcome::Waived => return Ok(()),
        Some(Some(waived)) => {
            format!(
                "a waiver for the rule {:?} has ended, at {} ({})",
                check.id, waived.expires, waived.reason
            )
        }
        Some(None) | None => format!("the rule {:?} is broken", check.id),
    };
    let refused = Error::new(Kind::PolicyRefused, what);
    Err(match finding {
        Some(finding) => refused.at(finding.place()).got(&finding.got).expected(&finding.expected),
        None => refused,
    })
}
