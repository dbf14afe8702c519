//! Rules about the release as a whole, and about what its images consist of.

use super::{About, Case, Need, Rule, finding};
use crate::release::Tier;
use crate::rules::{Finding, RuleId};

pub(super) const SIGNED: Rule = Rule {
    id: RuleId::Signed,
    origin: "NEXUS-ENGINE container bundles: tiers, signed delivery",
    from: Some(Tier::Community),
    binds: Some(Tier::Professional),
    asked: |_| false,
    needs: &[],
    judge: About::Release(|facts, _| match facts.keys {
        Some(0) => vec![finding("no signing key", "at least one")],
        _ => Vec::new(),
    }),
    hint: "sign it: --key release.key.pem (sealift key new makes one)",
};

pub(super) const AUDIT: Rule = Rule {
    id: RuleId::Audit,
    origin: "NEXUS-ENGINE container bundles: tiers, audit trail",
    from: Some(Tier::Regulated),
    binds: Some(Tier::Regulated),
    asked: |_| false,
    needs: &[],
    judge: About::Release(|facts, _| match facts.audited {
        Some(false) => vec![finding("no audit log", "one that says who made the bundle, and of what")],
        _ => Vec::new(),
    }),
    hint: "--audit-log FILE (or SEALIFT_AUDIT_LOG); the file is made if it is not there, and only ever added to",
};

pub(super) const UPGRADE: Rule = Rule {
    id: RuleId::Upgrade,
    origin: "NEXUS-ENGINE container bundles: compatibility policy",
    from: None,
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[],
    judge: About::Release(|facts, _| match facts.upgrades {
        true => Vec::new(),
        false => vec![finding("no upgrades_from", "the versions that the release can be installed over")],
    }),
    hint: "say it in the release manifest: upgrades_from = \">=2.0.0, <2.1.0\"",
};

pub(super) const VARIANTS: Rule = Rule {
    id: RuleId::Variants,
    origin: "NEXUS-ENGINE container bundles: variants",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| !rules.variants.is_empty() || rules.agrees(|service| service.variants.as_ref()),
    needs: &[],
    judge: About::Release(|facts, rules| {
        let other = facts
            .variants
            .iter()
            .filter(|(_, variant)| !rules.variants.is_empty() && !rules.variants.contains(variant));
        let other = other.map(|(image, variant)| Finding {
            image: format!("{image}/{variant}"),
            ..finding(
                format_args!("the variant {variant}"),
                format_args!("one of {}", rules.variants.join(", ")),
            )
        });
        let mut names: Vec<&String> = facts.variants.iter().map(|(image, _)| image).collect();
        names.dedup();
        let missing = names.into_iter().flat_map(|image| {
            let agreed = rules.agreed(image, |service| service.variants.as_ref()).into_iter().flatten();
            let there = move |variant: &&String| {
                facts.variants.iter().any(|(other, found)| other == image && found == *variant)
            };
            agreed.filter(move |variant| !there(variant)).map(move |variant| Finding {
                image: image.clone(),
                ..finding(
                    format_args!("no variant {variant}"),
                    format_args!("the variant {variant}, as agreed"),
                )
            })
        });
        other.chain(missing).collect()
    }),
    hint: "name the variant's tag in the release manifest: tags = { standard = \"{version}\", … }",
};

pub(super) const PLATFORMS: Rule = Rule {
    id: RuleId::Platforms,
    origin: "container build pipeline: platforms",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| !rules.platforms.is_empty(),
    needs: &[],
    judge: About::Image(|case| {
        let builds = &case.image.builds;
        let missing = case.rules.platforms.iter().filter(|platform| {
            let builds = builds.iter().filter_map(|build| build.platform.as_ref());
            case.image.runs && !builds.into_iter().any(|build| platform.matches(build))
        });
        missing
            .map(|platform| {
                case.wrong_on(Some(platform), "no such build", format_args!("a build for {platform}"))
            })
            .collect()
    }),
    hint: "have it built for this platform; --platform makes a bundle for fewer, under a manifest that demands no more",
};

pub(super) const OCI: Rule = Rule {
    id: RuleId::Oci,
    origin: "NEXUS-ENGINE container bundles: OCI-compliant",
    from: None,
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[Need::Documents],
    judge: About::Image(|case| {
        let flaws =
            case.image.flaws.iter().filter(|_| case.image.runs).map(|flaw| Finding {
                platform: flaw.platform.clone(),
                ..case.wrong(&flaw.got, &flaw.expected)
            });
        flaws.collect()
    }),
    hint: "have it built in the OCI format: buildx --output type=image,oci-mediatypes=true, or skopeo copy --format oci (which has no place for a HEALTHCHECK)",
};

pub(super) const BUDGET: Rule = Rule {
    id: RuleId::Budget,
    origin: "container build pipeline: size budgets",
    from: Some(Tier::Community),
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[],
    judge: About::Image(budget),
    hint: "make the image smaller, or change the budget in the release manifest",
};

fn budget(case: &Case<'_>) -> Vec<Finding> {
    case.each_build(|build| {
        let budget = case.image.budget.filter(|budget| build.size > *budget)?;
        Some((format!("{} bytes", build.size), format!("at most {budget} bytes")))
    })
}
