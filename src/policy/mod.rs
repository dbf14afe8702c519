//! Rules about releases. Pure: facts enter, verdicts leave. The tier decides which rules bind.
//!
//! `signed` — from the tier `professional` on, a bundle must be signed.
//! `budget` — a platform's build may not be larger than the manifest allows for the image.

use crate::error::{Error, Kind, Result};
use crate::oci::Platform;
use crate::release::{Check, Outcome, PolicyRecord, Tier};

/// What is known of a release that is about to be made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whom it is for.
    pub tier: Tier,
    /// Keys that will sign it.
    pub keys: usize,
    /// Every platform's build of every image.
    pub builds: Vec<BuildFact>,
}

/// One platform's build of an image.
#[derive(Clone, Debug)]
pub struct BuildFact {
    /// The image, as `name/variant`.
    pub image: String,
    /// The platform.
    pub platform: Platform,
    /// Compressed bytes.
    pub size: u64,
    /// The most bytes it may have.
    pub budget: Option<u64>,
}

/// A rule's verdict and its grounds.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The rule.
    pub id: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What breaks it: where, what was got, what is expected.
    pub grounds: Vec<Grounds>,
}

/// One place where a rule is broken.
#[derive(Clone, Debug)]
pub struct Grounds {
    /// Where.
    pub place: String,
    /// What is there.
    pub got: String,
    /// What should be there.
    pub expected: String,
}

/// Applies every rule.
pub fn check(facts: &Facts) -> Vec<Verdict> {
    vec![signed(facts), budget(facts)]
}

/// The verdicts as the statement records them.
pub fn record(tier: Tier, verdicts: &[Verdict]) -> PolicyRecord {
    let checks = verdicts.iter().map(|v| Check { id: v.id.to_owned(), result: v.outcome }).collect();
    PolicyRecord { checks, profile: tier.to_string() }
}

/// Permits the release.
///
/// # Errors
/// `PolicyRefused` for the first broken rule that binds.
pub fn allow(verdicts: &[Verdict]) -> Result<()> {
    if let Some(broken) = verdicts.iter().find(|verdict| verdict.outcome == Outcome::Fail) {
        let more = broken.grounds.len().saturating_sub(1);
        let what = match more {
            0 => format!("the rule {:?} is broken", broken.id),
            _ => format!("the rule {:?} is broken, here and in {more} more places", broken.id),
        };
        let error = Error::new(Kind::PolicyRefused, what);
        let Some(grounds) = broken.grounds.first() else { return Err(error) };
        let error = error.at(&grounds.place).got(&grounds.got).expected(&grounds.expected);
        return Err(match broken.id {
            "signed" => error.hint("sign it: --key release.key.pem (sealift key new makes one)"),
            _ => error.hint("make the image smaller, or change the budget in the release manifest"),
        });
    }
    Ok(())
}

fn signed(facts: &Facts) -> Verdict {
    if facts.keys > 0 {
        return Verdict { id: "signed", outcome: Outcome::Pass, grounds: Vec::new() };
    }
    let binds = facts.tier >= Tier::Professional;
    let grounds = Grounds {
        place: format!("tier {}", facts.tier),
        got: "no signing key".to_owned(),
        expected: "at least one".to_owned(),
    };
    let outcome = if binds { Outcome::Fail } else { Outcome::Warn };
    Verdict { id: "signed", outcome, grounds: vec![grounds] }
}

fn budget(facts: &Facts) -> Verdict {
    let over = facts.builds.iter().filter_map(|build| {
        let budget = build.budget.filter(|budget| build.size > *budget)?;
        Some(Grounds {
            place: format!("{} {}", build.image, build.platform),
            got: format!("{} bytes", build.size),
            expected: format!("at most {budget} bytes"),
        })
    });
    let grounds: Vec<_> = over.collect();
    let outcome = if grounds.is_empty() { Outcome::Pass } else { Outcome::Fail };
    Verdict { id: "budget", outcome, grounds }
}
