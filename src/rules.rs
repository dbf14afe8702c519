//! Words about rules: what a release team demands of its images (`[policy]` in a release manifest), what may break
//! a rule, and what a bundle's statement records of it. No judgement here: that is [`policy`](crate::policy)'s.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::oci::Platform;
use crate::release::{Channel, Moment, Tier};

words!(
    /// A rule.
    RuleId ("rule") {
        /// The bundle is signed.
        Signed = "signed"
        /// Account is kept of who makes the bundle, and of what.
        Audit = "audit"
        /// A site can tell whether it may install the release over what it has.
        Upgrade = "upgrade"
        /// Only tiers that may ask for a licence do.
        Entitlement = "entitlement"
        /// What is promoted is what it was promoted from, by digest.
        Promotion = "promotion"
        /// Images come from agreed registries.
        Registry = "registry"
        /// Repositories are called as agreed.
        Names = "names"
        /// What is for development stays there.
        Development = "development"
        /// Tags look as agreed.
        Tags = "tags"
        /// `latest` stays in development.
        Latest = "latest"
        /// An image's version is the release's.
        Version = "version"
        /// An image says which commit it was built from, and has that commit's tag.
        Revision = "revision"
        /// An image's further tags lead to it where it comes from, too.
        Aliases = "aliases"
        /// The release manifest says by digest which image is meant.
        Pinned = "pinned"
        /// An image has the agreed variants.
        Variants = "variants"
        /// An image has the agreed platforms.
        Platforms = "platforms"
        /// All documents are what image-spec describes.
        Oci = "oci"
        /// The program does not run as root, or as whom it was agreed.
        User = "user"
        /// Only agreed ports are exposed.
        Ports = "ports"
        /// The program that is started is the agreed one.
        Entrypoint = "entrypoint"
        /// How an image is found to be well is the agreed way.
        Healthcheck = "healthcheck"
        /// One process: no shell or supervisor that starts others.
        Process = "process"
        /// An image says on which image it was built, by digest.
        Base = "base"
        /// Labels that are to be there are.
        Labels = "labels"
        /// An SBOM says what is in each build.
        Sbom = "sbom"
        /// A scanner has looked at each build, and found no more than allowed.
        Scan = "scan"
        /// No tools to build with are in an image, as its SBOM or its layers say.
        Tools = "tools"
        /// A platform's build is not larger than allowed, compressed.
        Budget = "budget"
        /// The same, unpacked.
        Unpacked = "unpacked"
        /// Images are signed by cosign, with one of the keys.
        Cosign = "cosign"
        /// No secrets in what an image says of itself, and in files that are shipped.
        Secrets = "secrets"
    }
);

/// `[policy]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// The tier whose defaults hold; the release's own where this says nothing.
    pub profile: Option<Tier>,
    /// Rules that are demanded, and bind.
    pub require: Vec<RuleId>,
    /// Rules that only warn.
    pub warn: Vec<RuleId>,
    /// `registry`: `host[:port]` or `host/path`, as patterns.
    pub allowed_registries: Vec<String>,
    /// `names`: what repositories may be called, as patterns.
    pub repositories: Vec<String>,
    /// `development`: repositories, with or without their registry, that are for development, as patterns.
    pub development: Vec<String>,
    /// `tags`, `development`.
    pub tags: TagForms,
    /// `variants`: those that there may be.
    pub variants: Vec<String>,
    /// `platforms`: those that each image has.
    pub platforms: Vec<Platform>,
    /// `labels`: those that each image has, with any value.
    pub labels: Vec<String>,
    /// `sbom`: what SBOMs must be.
    pub sbom: SbomTerms,
    /// `scan`: what scanners may find.
    pub scan: ScanTerms,
    /// `tools`: what is not to be in an image.
    pub tools: ToolTerms,
    /// `cosign`: whose signatures are asked for.
    pub cosign: CosignKeys,
    /// `secrets`: layers are looked into, too.
    pub deep: bool,
    /// `unpacked`: whether it is agreed on for any image, where it stands with that image.
    #[serde(skip)]
    pub unpacked: bool,
    /// What is agreed on each image, by its name in the manifest; `"*"` for all others.
    pub service: BTreeMap<String, Service>,
    /// Rules that are broken, with somebody's word for it.
    pub waiver: Vec<Waiver>,
    /// `entitlement`: the release manifest asks for a licence.
    #[serde(skip)]
    pub licensed: bool,
    /// `promotion`: it says of an image what it was before.
    #[serde(skip)]
    pub promoted: bool,
}

impl Rules {
    /// What is agreed on an image, in one respect: with it by name, or else with all others.
    pub fn agreed<'r, T>(&'r self, image: &str, on: impl Fn(&'r Service) -> Option<&'r T>) -> Option<&'r T> {
        self.service.get(image).and_then(&on).or_else(|| self.service.get("*").and_then(&on))
    }

    /// Whether anything of this kind is agreed on any image.
    pub fn agrees<'r, T: 'r>(&'r self, on: impl Fn(&'r Service) -> Option<&'r T>) -> bool {
        self.service.values().any(|service| on(service).is_some())
    }
}

/// Whose cosign signatures are asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CosignKeys {
    /// Public keys, of which one must have signed each image; relative to the manifest.
    pub keys: Vec<PathBuf>,
    /// Whether an image has a key of its own.
    #[serde(skip)]
    pub own: bool,
}

/// What tags may look like.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TagForms {
    /// The forms of which every tag has one; any where there are none.
    pub forms: Vec<TagForm>,
    /// Instead, in the channel `development`.
    pub development: Option<Vec<TagForm>>,
    /// Instead, in the channel `staging`.
    pub staging: Option<Vec<TagForm>>,
    /// Instead, in the channel `production`.
    pub production: Option<Vec<TagForm>>,
    /// `development`: ends of tags that never go to production.
    pub development_suffixes: Vec<String>,
}

impl TagForms {
    /// Those of a channel.
    pub fn of(&self, channel: Channel) -> &[TagForm] {
        let own = match channel {
            Channel::Development => &self.development,
            Channel::Staging => &self.staging,
            Channel::Production => &self.production,
        };
        own.as_ref().unwrap_or(&self.forms)
    }

    /// Whether there are any.
    pub fn are_agreed(&self) -> bool {
        [Channel::Development, Channel::Staging, Channel::Production]
            .into_iter()
            .any(|channel| !self.of(channel).is_empty())
    }
}

words!(
    /// A form of tags.
    TagForm ("form of tags") {
        /// `2.1.0`, maybe with a pre-release, a build or a variant behind it.
        Semver = "semver"
        /// `v2.1.0`, maybe with the same.
        VSemver = "v-semver"
        /// `2.1` or `v2.1`, maybe with a variant behind it.
        MajorMinor = "major-minor"
        /// `sha-9f2c1ab`: a commit.
        Commit = "sha"
        /// `2026-11-21`.
        Date = "date"
        /// `latest`.
        Latest = "latest"
        /// `sha256-…`, as images are called that were asked for by digest.
        Digest = "digest"
        /// A branch: letters, digits, `.`, `_` and `-`, whatever they say.
        Branch = "branch"
    }
);

/// What SBOMs must be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SbomTerms {
    /// Those formats that count; all where there are none.
    pub formats: Vec<SbomFormat>,
}

words!(
    /// A format of SBOMs.
    SbomFormat ("format of SBOMs") {
        /// SPDX, as JSON.
        Spdx = "spdx"
        /// CycloneDX, as JSON.
        CycloneDx = "cyclonedx"
    }
);

/// What scanners may find.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScanTerms {
    /// The most vulnerabilities of each severity.
    pub max: MostFound,
}

/// The most vulnerabilities of each severity; any number where nothing is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MostFound {
    /// Critical ones.
    pub critical: Option<u64>,
    /// High ones.
    pub high: Option<u64>,
    /// Medium ones.
    pub medium: Option<u64>,
    /// Low or negligible ones.
    pub low: Option<u64>,
    /// Those that nobody has judged.
    pub unknown: Option<u64>,
}

impl MostFound {
    /// One for each severity, the worst first.
    pub fn each(&self) -> [Option<u64>; 5] {
        [self.critical, self.high, self.medium, self.low, self.unknown]
    }
}

/// What is not to be in an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolTerms {
    /// Names of packages, as patterns; the usual tools of builds where there are none.
    pub packages: Vec<String>,
    /// Paths in layers, as patterns: `/usr/bin/gcc*`.
    pub paths: Vec<String>,
}

/// What is agreed on an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// `user`: a name or a number, one of these.
    pub user: Option<Vec<String>>,
    /// `ports`: those that it may expose.
    pub ports: Option<Vec<u16>>,
    /// `ports`: those that it may expose in the channel `development` besides.
    pub development_ports: Option<Vec<u16>>,
    /// `entrypoint`: what is started.
    pub entrypoint: Option<Vec<String>>,
    /// `entrypoint`: what is given to it, or started where there is none (`CMD`).
    pub command: Option<Vec<String>>,
    /// `healthcheck`: how it is found to be well, as `["CMD", "program", "argument"]`.
    pub healthcheck: Option<Vec<String>>,
    /// `variants`: those that there must be.
    pub variants: Option<Vec<String>>,
}

/// Somebody's word for a broken rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The rule.
    pub rule: RuleId,
    /// The image, by its name in the manifest or as `name/variant`; all where this says nothing.
    pub image: Option<String>,
    /// The platform; all where this says nothing.
    pub platform: Option<Platform>,
    /// Why.
    pub reason: String,
    /// From then on it does not count.
    pub expires: Moment,
}

impl Waiver {
    /// Whether it speaks of this finding, whatever the time.
    pub fn covers(&self, rule: RuleId, finding: &Finding) -> bool {
        let image = |image: &String| {
            finding.image == *image || finding.image.split('/').next() == Some(image.as_str())
        };
        self.rule == rule
            && self.image.as_ref().is_none_or(image)
            && self.platform.as_ref().is_none_or(|platform| finding.platform.as_ref() == Some(platform))
    }
}

/// The rules that were judged when a bundle was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// One by one.
    pub checks: Vec<Check>,
    /// Whose cosign signatures were asked for, and are asked for again at import.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cosign: Vec<CosignDemand>,
    /// The tier whose defaults held.
    pub profile: String,
}

/// Keys of which one must have signed images, as cosign signs them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosignDemand {
    /// The name of the images; all that are not named otherwise where this says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The public keys, as PEM.
    pub keys: Vec<String>,
}

/// One rule and what came of it. A text, because later versions know more rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What breaks it, and did not stop the release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The rule's id.
    pub id: String,
    /// How many more findings there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
    /// What else is to be known: how many vulnerabilities were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noted: Vec<String>,
    /// What came of it.
    pub result: Outcome,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

words!(
    /// What came of a rule.
    Outcome ("rule's outcome") {
        /// It is kept.
        Pass = "pass"
        /// It is broken, which this set of rules allows.
        Warn = "warn"
        /// It is broken.
        Fail = "fail"
        /// It is broken, and somebody took responsibility.
        Waived = "waived"
    }
);

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub got: String,
    /// The image, as `name/variant`; empty for the release itself.
    pub image: String,
    /// The platform, where not all of the image is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Somebody's word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
}

/// Why a finding is let pass, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waived {
    /// From then on it is not.
    pub expires: Moment,
    /// Why it is.
    pub reason: String,
}

impl Finding {
    /// Where it is.
    pub fn place(&self) -> String {
        match (&self.platform, self.image.as_str()) {
            (_, "") => "the release".to_owned(),
            (Some(platform), image) => format!("{image} {platform}"),
            (None, image) => image.to_owned(),
        }
    }
}

/// Whether a pattern fits: `*` stands for any characters but `/`. Each star takes as little as it can, and more where
/// that does not do: time grows with both lengths, whatever the pattern.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // Behind the last star, and where in the text that star ends so far.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match (pattern.get(at), text.get(read)) {
            (Some(b'*'), _) => {
                at += 1;
                star = Some((at, read));
            }
            (Some(expected), Some(there)) if expected == there => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((behind, end)) if text.get(end) != Some(&b'/') => {
                    star = Some((behind, end + 1));
                    (at, read) = (behind, end + 1);
                }
                _ => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_segment() {
        for (pattern, text, expected) in [
            ("app/*", "app/backend", true),
            ("app/*", "app/", true),
            ("app/*", "app/a/b", false),
            ("*/splectrum-*", "splectrum/splectrum-api", true),
            ("*-dev", "x-dev", true),
            ("*-dev", "x-dev-y", false),
            ("*", "größe", true),
            ("**", "a", true),
            ("*/*-dev", "a/b-dev-c-dev", true),
            ("a*", "a/b", false),
            (
                "*a*a*a*a*a*a*a*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
            ("a", "b", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
