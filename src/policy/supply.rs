//! Rules about where a release comes from and whom it goes to.

use super::{About, Case, Rule, finding};
use crate::release::Tier;
use crate::rules::{Finding, RuleId};

pub(super) const ENTITLEMENT: Rule = Rule {
    id: RuleId::Entitlement,
    origin: "NEXUS-ENGINE container bundles: tiers, entitlement",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| rules.licensed,
    needs: &[],
    judge: About::Release(|facts, _| match facts.licensed && !facts.tier.may_ask_for_license() {
        true => {
            vec![finding(
                format_args!("license = \"required\" in tier {}", facts.tier),
                "no licence in this tier",
            )]
        }
        false => Vec::new(),
    }),
    hint: "community and developer never ask for a licence: leave license out, or change the tier",
};

pub(super) const PROMOTION: Rule = Rule {
    id: RuleId::Promotion,
    origin: "container images specification: promotion without rebuild",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| rules.promoted,
    needs: &[],
    judge: About::Image(promotion),
    hint: "production ships the digest that staging had: find out who pushed another one to this tag",
};

fn promotion(case: &Case<'_>) -> Vec<Finding> {
    let promoted = case.image.promoted.iter().filter(|promoted| promoted.digest != case.image.digest);
    let wrong = promoted.map(|promoted| {
        let expected = format!("{}, the digest of {}", promoted.digest, promoted.origin);
        case.wrong(format_args!("{} under {}", case.image.digest, case.image.source), expected)
    });
    wrong.collect()
}
