//! What is in images beyond what their documents say: secrets, tools, bytes; and who signed them.

use super::{About, Case, Need, Rule};
use crate::evidence::secrets;
use crate::release::Tier;
use crate::rules::{Finding, RuleId, Rules};

/// Whether a rule has layers looked into, as far as it says that it needs this.
pub(super) fn reads_layers(rule: RuleId, rules: &Rules) -> bool {
    match rule {
        RuleId::Secrets => rules.deep,
        RuleId::Tools => !rules.tools.paths.is_empty(),
        _ => true,
    }
}

pub(super) const UNPACKED: Rule = Rule {
    id: RuleId::Unpacked,
    origin: "container build pipeline: size budgets, uncompressed",
    from: None,
    binds: None,
    asked: |rules| rules.unpacked,
    needs: &[Need::Sizes],
    judge: About::Image(|case| {
        let over = case.image.contents.iter().filter_map(|contents| {
            let budget = case.image.unpacked_budget.filter(|budget| contents.unpacked > *budget)?;
            let (got, expected) =
                (format!("{} bytes unpacked", contents.unpacked), format!("at most {budget} bytes"));
            Some(Finding { platform: contents.platform.clone(), ..case.wrong(got, expected) })
        });
        over.collect()
    }),
    hint: "make the image smaller, or change unpacked_budget in the release manifest",
};

/// Tools by their paths, in the layers.
pub(super) fn tool_paths(case: &Case<'_>) -> Vec<Finding> {
    let images = case.image.contents.iter().filter(|_| case.image.runs);
    let tools = images.flat_map(|contents| {
        let wrong = |got: String| Finding {
            platform: contents.platform.clone(),
            ..case.wrong(got, "none of [policy.tools] paths")
        };
        let more = (contents.more_paths > 0).then(|| wrong(format!("{} more", contents.more_paths)));
        contents.paths.iter().map(move |(path, layer)| wrong(format!("/{path} (layer {layer})"))).chain(more)
    });
    tools.collect()
}

pub(super) const SECRETS: Rule = Rule {
    id: RuleId::Secrets,
    origin: "R-096 containerized distribution: no secrets baked in",
    from: Some(Tier::Community),
    binds: Some(Tier::Professional),
    asked: |_| false,
    needs: &[Need::Settings, Need::Files, Need::Layers],
    judge: About::Image(secrets),
    hint: "take it out, build anew, and change the secret: whoever has seen the image has it. What is none can be waived",
};

fn secrets(case: &Case<'_>) -> Vec<Finding> {
    let configs = case.image.builds.iter().flat_map(|build| {
        let settings = build.settings.iter();
        let found = settings.flat_map(|one| secrets::in_config(&one.env, &one.labels, &one.history));
        found.map(|found| {
            case.wrong_on(build.platform.as_ref(), format_args!("{} in {}", found.kind, found.place), NONE)
        })
    });
    let contents = case.image.contents.iter().flat_map(|contents| {
        let wrong = |got: String| Finding { platform: contents.platform.clone(), ..case.wrong(got, NONE) };
        let more = (contents.more > 0).then(|| wrong(format!("{} more findings", contents.more)));
        contents.secrets.iter().map(move |left| wrong(left.to_string())).chain(more)
    });
    let unread = case.image.builds.iter().filter(|build| build.too_large);
    let unread = unread.map(|build| case.wrong_on(build.platform.as_ref(), super::TOO_LARGE, NONE));
    configs.chain(contents).chain(unread).collect()
}

const NONE: &str = "no secrets";

/// Whether any key is there to verify signatures of images with.
fn has_keys(rules: &Rules) -> bool {
    !rules.cosign.keys.is_empty() || rules.cosign.own
}

fn named(rules: &Rules) -> bool {
    rules.require.contains(&RuleId::Cosign) || rules.warn.contains(&RuleId::Cosign)
}

pub(super) const COSIGN: Rule = Rule {
    id: RuleId::Cosign,
    origin: "container build pipeline: signed images; NEXUS-ENGINE container bundles: tiers, signed images",
    from: Some(Tier::Regulated),
    binds: None,
    asked: has_keys,
    needs: &[Need::Cosign],
    judge: About::Image(|case| match &case.image.cosign {
        _ if !case.image.runs => Vec::new(),
        Some(facts) => {
            let unsigned = facts.unsigned().into_iter();
            let finding =
                unsigned.map(|one| Finding { platform: one.platform, ..case.wrong(one.got, one.expected) });
            finding.collect()
        }
        // Where only some images have a key, nothing is asked of the others, unless the rule itself is.
        None if !has_keys(case.rules) || named(case.rules) => {
            vec![
                case.wrong(
                    "no key to verify signatures with",
                    "[policy.cosign] keys, or the image's cosign_key",
                ),
            ]
        }
        None => Vec::new(),
    }),
    hint: crate::evidence::cosign::HINT,
};
