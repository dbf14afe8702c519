//! What images may be called, where they may come from, and what their tags may lead to.

use super::{About, Case, Need, Rule};
use crate::oci::Tag;
use crate::release::Tier;
use crate::rules::{Finding, RuleId, TagForm, fits};

/// The commit that an image was built from (image-spec annotations.md).
const REVISION_LABEL: &str = "org.opencontainers.image.revision";
/// The version of what is packaged in it (image-spec annotations.md).
const VERSION_LABEL: &str = "org.opencontainers.image.version";

pub(super) const REGISTRY: Rule = Rule {
    id: RuleId::Registry,
    origin: "NEXUS-ENGINE container bundles: tiers, private registry",
    from: Some(Tier::Professional),
    binds: None,
    asked: |rules| !rules.allowed_registries.is_empty(),
    needs: &[],
    judge: About::Image(|case| {
        let patterns = &case.rules.allowed_registries;
        if patterns.is_empty() {
            return vec![case.wrong(case.full(), "a registry that is agreed to be private")];
        }
        // The host is never left out: the path is whatever somebody likes.
        match begins(patterns, &case.full()) {
            Some(_) => Vec::new(),
            None => vec![case.wrong(case.full(), format_args!("one of {}", patterns.join(", ")))],
        }
    }),
    hint: "have it pushed to an agreed registry, or agree on that one: allowed_registries in [policy]",
};

pub(super) const NAMES: Rule = Rule {
    id: RuleId::Names,
    origin: "container images specification: naming; SPlectrum registry strategy: stable names",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| !rules.repositories.is_empty(),
    needs: &[],
    judge: About::Image(|case| {
        let path = case.image.source.repository.as_str();
        let patterns = &case.rules.repositories;
        match !case.image.runs || patterns.iter().any(|pattern| fits(pattern, path)) {
            true => Vec::new(),
            false => vec![case.wrong(path, format_args!("one of {}", patterns.join(", ")))],
        }
    }),
    hint: "have it pushed under an agreed name, or add a pattern to repositories in [policy]",
};

pub(super) const DEVELOPMENT: Rule = Rule {
    id: RuleId::Development,
    origin: "SPlectrum registry strategy: development containers; container images specification: -debug",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| !rules.development.is_empty() || !rules.tags.development_suffixes.is_empty(),
    needs: &[],
    judge: About::Image(|case| {
        let (patterns, path) = (&case.rules.development, case.image.source.repository.as_str());
        let repository = begins(patterns, path)
            .or_else(|| begins(patterns, &case.full()))
            .map(|pattern| case.wrong(case.full(), format_args!("nothing like {pattern} in production")));
        let tags = case.image.tags.iter().filter_map(|tag| {
            let suffixes = &case.rules.tags.development_suffixes;
            let has = |end: &&String| {
                let word = end.trim_start_matches(['-', '_', '.']);
                tag.as_str().ends_with(end.as_str()) || words(tag.as_str()).any(|part| part == word)
            };
            let suffix = suffixes.iter().find(has)?;
            Some(
                case.wrong(format_args!("the tag {tag}"), format_args!("no tag with {suffix} in production")),
            )
        });
        repository.into_iter().chain(tags).collect()
    }),
    hint: "ship what was built for use instead, or in another channel",
};

pub(super) const TAGS: Rule = Rule {
    id: RuleId::Tags,
    origin: "container images specification: tagging; NEXUS-ENGINE container bundles: tags",
    from: None,
    binds: Some(Tier::Community),
    asked: |rules| rules.tags.are_agreed(),
    needs: &[],
    judge: About::Image(|case| {
        let forms = case.rules.tags.of(case.facts.channel);
        let names = || forms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let other = case.image.tags.iter().filter(|tag| {
            case.image.runs && !forms.iter().any(|form| has_form(*form, tag.as_str(), &case.image.variant))
        });
        let expected = || format!("one of the forms {} in {}", names(), case.facts.channel);
        other.map(|tag| case.wrong(format_args!("the tag {tag}"), expected())).collect()
    }),
    hint: "give the image a tag of an agreed form; [policy.tags] says which there are",
};

pub(super) const LATEST: Rule = Rule {
    id: RuleId::Latest,
    origin: "container images specification: latest is for development; NEXUS-ENGINE container bundles: tags",
    from: Some(Tier::Community),
    binds: Some(Tier::Professional),
    asked: |_| false,
    needs: &[],
    judge: About::Image(|case| {
        // `latest-edge` is one that moves, too.
        let moves = case.image.tags.iter().filter(|tag| words(tag.as_str()).any(|word| word == "latest"));
        let expected = format!("a tag that stays where it is, in {}", case.facts.channel);
        moves.map(|tag| case.wrong(format_args!("the tag {tag}"), &expected)).collect()
    }),
    hint: "ship the version's own tag; latest is for the channel development",
};

pub(super) const VERSION: Rule = Rule {
    id: RuleId::Version,
    origin: "NEXUS-ENGINE container bundles: image version equals engine version",
    from: None,
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[Need::Settings],
    judge: About::Image(version),
    hint: "release the image together with the engine: the same version in its tag and its label",
};

fn version(case: &Case<'_>) -> Vec<Finding> {
    let version = case.facts.version.to_string();
    // Tags have no `+`: `_` stands for it.
    let plain = |text: &str| text.strip_prefix('v').unwrap_or(text).replace('+', "_");
    let expected = plain(&version);
    let mut broken = case.builds(|settings| {
        let stated = settings.labels.get(VERSION_LABEL).filter(|stated| plain(stated) != expected)?;
        Some((format!("{VERSION_LABEL} {stated}"), version.clone()))
    });
    let tag = plain(case.image.source.tag.as_str());
    let rest = tag.strip_prefix(&expected);
    if case.image.runs && !rest.is_some_and(|rest| is_variant(rest, &case.image.variant)) {
        broken.push(case.wrong(format_args!("the tag {}", case.image.source.tag), &version));
    }
    broken
}

/// What follows a version or a commit in a tag: nothing, or the image's own variant.
fn is_variant(rest: &str, variant: &str) -> bool {
    rest.is_empty() || rest.strip_prefix(['-', '_']).is_some_and(|rest| rest == variant)
}

pub(super) const REVISION: Rule = Rule {
    id: RuleId::Revision,
    origin: "R-096 containerized distribution: images carry the commit's tag",
    from: None,
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[Need::Settings],
    judge: About::Image(|case| {
        let commit = |tag: &'_ Tag| commit_of(tag.as_str(), &case.image.variant).map(str::to_owned);
        let commits: Vec<String> = case.image.tags.iter().filter_map(commit).collect();
        case.builds(|settings| {
            let Some(revision) = settings.labels.get(REVISION_LABEL).filter(|label| is_commit(label)) else {
                let got = settings.labels.get(REVISION_LABEL);
                let got = got.map_or("no label".to_owned(), |other| format!("the label {other}"));
                return Some((got, format!("{REVISION_LABEL}, the commit it was built from")));
            };
            if commits.is_empty() {
                let short = revision.get(..7).unwrap_or(revision);
                return Some((
                    "no tag of its commit".to_owned(),
                    format!("the tag sha-{short} beside the others"),
                ));
            }
            let other = commits.iter().find(|commit| !revision.starts_with(commit.as_str()))?;
            Some((format!("{REVISION_LABEL} {revision}"), format!("the commit {other} of its tag")))
        })
    }),
    hint: "have it built with the label, as build tools do, and add the tag: also_tag = [\"sha-9f2c1ab\"]",
};

pub(super) const ALIASES: Rule = Rule {
    id: RuleId::Aliases,
    origin: "container images specification: sha- tags are immutable",
    from: None,
    binds: Some(Tier::Community),
    asked: |_| false,
    needs: &[Need::Aliases],
    judge: About::Image(|case| {
        let other = case.image.aliases.iter().filter(|(_, digest)| *digest != case.image.digest);
        let moved = other.map(|(tag, digest)| {
            case.wrong(
                format_args!("{} leads to {digest}", case.image.source.with_tag(tag.clone())),
                case.image.digest,
            )
        });
        moved.collect()
    }),
    hint: "find out which of the two images is meant; a tag of a commit or a version is never moved",
};

pub(super) const PINNED: Rule =
    Rule {
        id: RuleId::Pinned,
        origin: "R-096 containerized distribution: pinned, reproducible",
        from: None,
        binds: Some(Tier::Community),
        asked: |_| false,
        needs: &[],
        judge: About::Image(|case| match case.image.pinned {
            true => Vec::new(),
            false => vec![case.wrong(
                format_args!("the tag {}", case.image.source.tag),
                format_args!("{}", case.image.digest),
            )],
        }),
        hint: "pin what was approved: pin = { standard = \"sha256:…\" }",
    };

impl<'a> Case<'a> {
    /// `host/path`
    fn full(&self) -> String {
        format!("{}/{}", self.image.source.registry, self.image.source.repository)
    }
}

/// The first pattern that fits a path, or a beginning of it that ends before a slash.
fn begins<'p>(patterns: &'p [String], path: &str) -> Option<&'p String> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let parts: Vec<&str> = ends.filter_map(|end| path.get(..end)).collect();
    patterns.iter().find(|pattern| parts.iter().any(|part| fits(pattern, part)))
}

/// The parts of a tag.
fn words(tag: &str) -> impl Iterator<Item = &str> {
    tag.split(['-', '_', '.'])
}

/// Seven digits of a commit, or more.
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The commit in `sha-<commit>`, maybe with the image's variant behind it.
fn commit_of<'t>(tag: &'t str, variant: &str) -> Option<&'t str> {
    let rest = tag.strip_prefix("sha-")?;
    let commit = rest.split(['-', '_']).next()?;
    (is_commit(commit) && is_variant(rest.get(commit.len()..)?, variant)).then_some(commit)
}

fn has_form(form: TagForm, tag: &str, variant: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let numbers = |text: &str, count: usize| text.split('.').count() == count && text.split('.').all(number);
    // What follows a version: a pre-release, a build, a variant.
    let version = |text: &str, count| numbers(text.split(['-', '_', '+']).next().unwrap_or_default(), count);
    match form {
        TagForm::Semver => version(tag, 3),
        TagForm::VSemver => tag.strip_prefix('v').is_some_and(|tag| version(tag, 3)),
        TagForm::MajorMinor => version(tag.strip_prefix('v').unwrap_or(tag), 2),
        TagForm::Commit => commit_of(tag, variant).is_some(),
        TagForm::Date => tag.len() == 10 && tag.parse::<jiff::civil::Date>().is_ok(),
        TagForm::Latest => tag == "latest",
        TagForm::Digest => {
            tag.strip_prefix("sha256-").is_some_and(|hash| hash.len() == 64 && is_commit(hash))
        }
        TagForm::Branch => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_tags() {
        for (form, good, bad) in [
            (
                TagForm::Semver,
                &["2.1.0", "2.1.0-edge", "2.1.0-rc.1"][..],
                &["2.1", "v2.1.0", "2.1.x", "2..0"][..],
            ),
            (TagForm::VSemver, &["v2.1.0", "v2.1.0-debug"], &["2.1.0", "v2"]),
            (TagForm::MajorMinor, &["2.1", "2.1-edge", "v2.1"], &["2", "2.1.0"]),
            (
                TagForm::Commit,
                &["sha-9f2c1ab", "sha-9f2c1ab-edge"],
                &["sha-9f2c1", "sha-xyzxyzx", "9f2c1ab", "sha-9F2C1AB", "sha-9f2c1ab-dirty"],
            ),
            (TagForm::Date, &["2026-11-21"], &["2026-11-31", "20261121", "2026-1121-"]),
            (TagForm::Latest, &["latest"], &["latest-1"]),
        ] {
            good.iter().for_each(|tag| assert!(has_form(form, tag, "edge"), "{form} {tag}"));
            bad.iter().for_each(|tag| assert!(!has_form(form, tag, "edge"), "{form} {tag}"));
        }
    }
}
