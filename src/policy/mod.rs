//! Rules about releases. Pure: facts enter, verdicts leave. The tier decides which rules are judged unasked and
//! which of them bind, the release manifest's `[policy]` what they demand. One file per family of rules; one table,
//! [`RULES`], of all of them.

mod config;
mod contents;
mod names;
mod release;
mod reports;
mod supply;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::evidence::Found;
use crate::evidence::cosign::CosignFacts;
use crate::evidence::layers::Contents;
use crate::oci::{Digest, Name, Platform, Settings, Tag};
use crate::release::{Channel, Moment, Tier, Version};
use crate::rules::{Finding, Outcome, RuleId, Rules, Waived};

pub use reports::Tools;
pub use verdict::{Verdict, Verdicts, demand, kept};

/// What is known of a release that is about to be made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whom it is for.
    pub tier: Tier,
    /// How far it has come.
    pub channel: Channel,
    /// Its version.
    pub version: Version,
    /// Keys that will sign it, or have; nothing where that is not known yet.
    pub keys: Option<usize>,
    /// Whether account is kept of its making; nothing where it is not being made.
    pub audited: Option<bool>,
    /// Whether it is judged as a whole: nothing of it was left out by the command.
    pub whole: bool,
    /// Whether images are judged where they come from, and not in a bundle: what tags lead to can be asked there.
    pub at_origin: bool,
    /// Whether it says over which versions it can be installed.
    pub upgrades: bool,
    /// Whether whoever installs it must have a licence.
    pub licensed: bool,
    /// The variants that each image has in the release manifest, whatever part of it is exported.
    pub variants: Vec<(String, String)>,
    /// This moment: waivers end.
    pub now: Moment,
}

/// What is known of an image.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// Its name in the manifest.
    pub name: String,
    /// Its variant.
    pub variant: String,
    /// Its full name.
    pub source: Name,
    /// Its top document.
    pub digest: Digest,
    /// All its tags.
    pub tags: Vec<Tag>,
    /// Whether it is a program's image, and no chart, file or other artifact.
    pub runs: bool,
    /// Whether the manifest says which digest it has.
    pub pinned: bool,
    /// The most bytes that one platform may have, compressed.
    pub budget: Option<u64>,
    /// What it was before, if it was promoted from there.
    pub promoted: Option<Promoted>,
    /// The same, unpacked.
    pub unpacked_budget: Option<u64>,
    /// What its cosign signatures are worth, where keys are asked for; with [`Need::Cosign`].
    pub cosign: Option<CosignFacts>,
    /// What is in its layers or files; with [`Need::Files`], [`Need::Layers`] or [`Need::Sizes`].
    pub contents: Vec<Contents>,
    /// What its further tags lead to where it comes from; with [`Need::Aliases`].
    pub aliases: Vec<(Tag, Digest)>,
    /// What in its documents is not as image-spec has it; with [`Need::Documents`].
    pub flaws: Vec<Flaw>,
    /// What says what is in it; with [`Need::Reports`].
    pub reports: Vec<ReportFacts>,
    /// Each platform's build.
    pub builds: Vec<BuildFacts>,
}

/// What an image was before: whatever it is called now, it must be the same.
#[derive(Clone, Debug)]
pub struct Promoted {
    /// Its digest there.
    pub digest: Digest,
    /// Who says so: a tag, a receipt, a bundle.
    pub origin: String,
}

/// What is known of an SBOM or a scan report.
#[derive(Clone, Debug)]
pub struct ReportFacts {
    /// What was found.
    pub found: Found,
    /// Packages in it that are not to be there.
    pub tools: Vec<String>,
}

/// What is known of one platform's build of an image.
#[derive(Clone, Debug)]
pub struct BuildFacts {
    /// The platform, where it names a usable one.
    pub platform: Option<Platform>,
    /// Its manifest's digest.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
    /// How it runs; with [`Need::Settings`], and where it is an image's.
    pub settings: Option<Arc<Settings>>,
    /// How it runs was not read: it takes too many bytes to say.
    pub too_large: bool,
    /// What its manifest says of it; with [`Need::Annotations`].
    pub annotations: BTreeMap<String, String>,
}

/// Something in a document that is not as image-spec has it.
#[derive(Clone, Debug)]
pub struct Flaw {
    /// The platform, where not all of the image is meant.
    pub platform: Option<Platform>,
    /// What is there.
    pub got: String,
    /// What image-spec says.
    pub expected: String,
}

/// What must be read, beyond the plan, for a rule to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Image configs.
    Settings,
    /// Annotations of manifests.
    Annotations,
    /// What further tags lead to at the source.
    Aliases,
    /// All documents, as image-spec describes them.
    Documents,
    /// SBOMs and scan reports.
    Reports,
    /// Cosign signatures.
    Cosign,
    /// What charts and files hold.
    Files,
    /// What is in layers, if the rule asks for that.
    Layers,
    /// What the layers of images unpack to on whose size something is agreed.
    Sizes,
}

/// A rule.
pub struct Rule {
    /// What it is called.
    pub id: RuleId,
    /// The document that it comes from, and where in it.
    pub origin: &'static str,
    /// The profile from which on it is judged unasked; `None` where it only is when it is asked for.
    pub from: Option<Tier>,
    /// The profile from which on it binds unasked; below, it warns. A site that demands a profile takes no warnings.
    pub binds: Option<Tier>,
    /// Whether `[policy]` asks for it by what it says.
    asked: fn(&Rules) -> bool,
    /// What must be read for it.
    needs: &'static [Need],
    judge: About,
    /// What to do about it.
    pub hint: &'static str,
}

/// What a rule is about.
enum About {
    Release(fn(&Facts, &Rules) -> Vec<Finding>),
    Image(fn(&Case<'_>) -> Vec<Finding>),
}

/// All rules, in the order in which they are judged and shown.
pub const RULES: &[Rule] = &[
    release::SIGNED,
    release::AUDIT,
    release::UPGRADE,
    supply::ENTITLEMENT,
    supply::PROMOTION,
    names::REGISTRY,
    names::NAMES,
    names::DEVELOPMENT,
    names::TAGS,
    names::LATEST,
    names::VERSION,
    names::REVISION,
    names::ALIASES,
    names::PINNED,
    release::VARIANTS,
    release::PLATFORMS,
    release::OCI,
    config::USER,
    config::PORTS,
    config::ENTRYPOINT,
    config::HEALTHCHECK,
    config::PROCESS,
    config::BASE,
    config::LABELS,
    reports::SBOM,
    reports::SCAN,
    reports::TOOLS_RULE,
    release::BUDGET,
    contents::UNPACKED,
    contents::SECRETS,
    contents::COSIGN,
];

/// An image that is judged.
struct Case<'a> {
    facts: &'a Facts,
    rules: &'a Rules,
    image: &'a ImageFacts,
}

impl<'a> Case<'a> {
    /// What is wrong with the image as a whole.
    fn wrong(&self, got: impl ToString, expected: impl ToString) -> Finding {
        let image = format!("{}/{}", self.image.name, self.image.variant);
        Finding { image, ..finding(got, expected) }
    }

    /// What is wrong with one platform.
    fn wrong_on(&self, platform: Option<&Platform>, got: impl ToString, expected: impl ToString) -> Finding {
        Finding { platform: platform.cloned(), ..self.wrong(got, expected) }
    }

    /// What is wrong with builds; `judge` says what was got and what was expected.
    fn each_build(&self, judge: impl Fn(&'a BuildFacts) -> Option<(String, String)>) -> Vec<Finding> {
        let wrong = |build: &'a BuildFacts| {
            let (got, expected) = judge(build)?;
            Some(self.wrong_on(build.platform.as_ref(), got, expected))
        };
        self.image.builds.iter().filter_map(wrong).collect()
    }

    /// The same for how they run. What does not say how it runs cannot be let pass.
    fn builds(&self, judge: impl Fn(&'a Settings) -> Option<(String, String)>) -> Vec<Finding> {
        let unknown = || ("no image config".to_owned(), "one that says how it runs".to_owned());
        match self.image.runs {
            false => Vec::new(),
            true if self.image.builds.is_empty() => {
                let (got, expected) = unknown();
                vec![self.wrong(got, expected)]
            }
            true => self.each_build(|build| match &build.settings {
                Some(settings) => judge(settings),
                None if build.too_large => Some((TOO_LARGE.to_owned(), unknown().1)),
                None => Some(unknown()),
            }),
        }
    }
}

/// What is said of a config that was not read.
const TOO_LARGE: &str = "a config that is too large to judge it by";

/// Longest text of a finding: what is foreign may be of any length.
const SHOWN: usize = 240;

/// What is wrong with the release itself.
fn finding(got: impl ToString, expected: impl ToString) -> Finding {
    let shown = |text: String| match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    };
    let (got, expected) = (shown(got.to_string()), shown(expected.to_string()));
    Finding { expected, got, image: String::new(), platform: None, waived: None }
}

impl Rule {
    /// Whether it is judged.
    fn applies(&self, profile: Tier, facts: &Facts, rules: &Rules) -> bool {
        (self.is_asked(rules) || self.from.is_some_and(|from| profile >= from))
            && self.can_judge(facts, rules)
    }

    /// Whether there is anything that it could find: a rule that could not but be kept is not said to be.
    fn can_judge(&self, facts: &Facts, rules: &Rules) -> bool {
        match self.id {
            RuleId::Signed => facts.keys.is_some(),
            RuleId::Audit => facts.audited.is_some(),
            RuleId::Tags => !rules.tags.of(facts.channel).is_empty(),
            RuleId::Latest => facts.channel != Channel::Development,
            RuleId::Development => facts.channel == Channel::Production,
            RuleId::Variants | RuleId::Platforms => facts.whole,
            RuleId::Aliases | RuleId::Pinned | RuleId::Promotion => facts.at_origin,
            _ => true,
        }
    }

    fn is_asked(&self, rules: &Rules) -> bool {
        (self.asked)(rules) || rules.require.contains(&self.id) || rules.warn.contains(&self.id)
    }

    /// What a broken one comes to.
    fn broken(&self, profile: Tier, rules: &Rules) -> Outcome {
        let binds = rules.require.contains(&self.id)
            || (!rules.warn.contains(&self.id)
                && ((self.asked)(rules) || self.binds.is_some_and(|binds| profile >= binds)));
        if binds { Outcome::Fail } else { Outcome::Warn }
    }
}

/// Rules that have nothing to judge by until `[policy]` says what is agreed.
const WORDED: &[RuleId] = &[
    RuleId::Promotion,
    RuleId::Registry,
    RuleId::Names,
    RuleId::Development,
    RuleId::Tags,
    RuleId::Variants,
    RuleId::Platforms,
    RuleId::Ports,
    RuleId::Entrypoint,
    RuleId::Healthcheck,
    RuleId::Labels,
    RuleId::Unpacked,
    RuleId::Cosign,
];

/// Requires that every rule that is named has something to judge by: one that could not but be kept would only seem to
/// be demanded.
///
/// # Errors
/// `ManifestInvalid`, with the first one that has not.
pub fn require_words(rules: &Rules) -> Result<()> {
    let idle = |rule: &&Rule| {
        let named = rules.require.contains(&rule.id) || rules.warn.contains(&rule.id);
        named && WORDED.contains(&rule.id) && !(rule.asked)(rules)
    };
    match RULES.iter().find(idle) {
        Some(rule) => Err(Error::new(
            Kind::ManifestInvalid,
            format!("the rule {} is demanded, but nothing in [policy] says what is agreed", rule.id),
        )
        .hint("manifests/README.md says which key asks for which rule; with that key, the rule need not be named")),
        None => Ok(()),
    }
}

/// Findings of one rule that are kept; of more it is known how many they are.
const KEPT: usize = 100;

/// A rule, and what it has found so far.
struct Judged {
    rule: &'static Rule,
    findings: Vec<Finding>,
    /// Beyond those that are kept.
    more: usize,
    /// Findings that nobody gave his word for.
    open: usize,
}

impl Judged {
    fn add(&mut self, finding: Finding) {
        self.open += usize::from(finding.waived.is_none());
        if self.findings.len() < KEPT {
            return self.findings.push(finding);
        }
        self.more += 1;
        // What was not waived goes before what was, and a word that ends soon before one that does not.
        let until = |finding: &Finding| finding.waived.as_ref().map(|waived| waived.expires);
        let last = self.findings.iter_mut().max_by_key(|known| until(known));
        if let Some(last) = last.filter(|last| until(last) > until(&finding)) {
            *last = finding;
        }
    }

    fn verdict(mut self, profile: Tier, rules: &Rules) -> Verdict {
        let outcome = match (self.findings.is_empty(), self.open) {
            (true, _) => Outcome::Pass,
            (false, 0) => Outcome::Waived,
            (false, _) => self.rule.broken(profile, rules),
        };
        // What nobody gave his word for first, then the word that ends first: where only some are told, these are.
        self.findings.sort_by_key(|finding| finding.waived.as_ref().map(|waived| waived.expires));
        Verdict { rule: self.rule, outcome, findings: self.findings, more: self.more, noted: Vec::new() }
    }
}

/// Judges a release, image by image, so that nobody has to hold what is known of all of them.
pub struct Judge<'a> {
    facts: Facts,
    rules: &'a Rules,
    profile: Tier,
    judged: Vec<Judged>,
    /// Of each waiver, whether it covered anything.
    used: Vec<bool>,
    /// What is to be known of scans.
    scanned: Vec<String>,
}

impl<'a> Judge<'a> {
    /// Begins with the rules about the release itself.
    pub fn new(facts: Facts, rules: &'a Rules) -> Self {
        // The tier's own rules hold at least.
        let profile = rules.profile.unwrap_or(facts.tier).max(facts.tier);
        let applying = RULES.iter().filter(|rule| rule.applies(profile, &facts, rules));
        let judged = applying.map(|rule| Judged { rule, findings: Vec::new(), more: 0, open: 0 }).collect();
        let used = vec![false; rules.waiver.len()];
        let mut judge = Judge { facts, rules, profile, judged, used, scanned: Vec::new() };
        judge.each(|rule, facts, rules| match rule.judge {
            About::Release(judge) => judge(facts, rules),
            About::Image(_) => Vec::new(),
        });
        judge
    }

    /// Whether any rule that is judged needs this.
    pub fn needs(&self, need: Need) -> bool {
        let asks = |rule: &Rule| need != Need::Layers || contents::reads_layers(rule.id, self.rules);
        self.judged.iter().any(|judged| judged.rule.needs.contains(&need) && asks(judged.rule))
    }

    /// The paths that no image is to have.
    pub fn tool_paths(&self) -> &[String] {
        &self.rules.tools.paths
    }

    /// The packages that are looked for.
    pub fn tools(&self) -> Tools<'a> {
        Tools::of(self.rules)
    }

    /// Judges an image.
    pub fn image(&mut self, image: &ImageFacts) {
        self.scanned.extend(reports::counted(image));
        self.each(|rule, facts, rules| match rule.judge {
            About::Image(judge) => judge(&Case { facts, rules, image }),
            About::Release(_) => Vec::new(),
        });
    }

    fn each(&mut self, judge: impl Fn(&Rule, &Facts, &Rules) -> Vec<Finding>) {
        let Judge { facts, rules, judged, used, .. } = self;
        for judged in judged {
            for mut finding in judge(judged.rule, facts, rules) {
                for (waiver, used) in rules.waiver.iter().zip(used.iter_mut()) {
                    if !waiver.covers(judged.rule.id, &finding) {
                        continue;
                    }
                    *used = true;
                    if waiver.expires > facts.now && finding.waived.is_none() {
                        let reason = waiver.reason.clone();
                        finding.waived = Some(Waived { expires: waiver.expires, reason });
                    }
                }
                judged.add(finding);
            }
        }
    }

    /// All verdicts.
    pub fn finish(self) -> Verdicts {
        let Judge { facts, rules, profile, judged, used, scanned } = self;
        let mut notes = Vec::new();
        for (waiver, used) in rules.waiver.iter().zip(used) {
            let image = waiver.image.as_ref().map(|image| format!(" and {image}")).unwrap_or_default();
            let what = format!("the waiver for rule {}{image}", waiver.rule);
            match used {
                // What it covers may have been left out.
                false if facts.whole => notes.push(format!("{what} covers nothing")),
                true if waiver.expires <= facts.now => {
                    notes.push(format!("{what} ended at {}", waiver.expires))
                }
                _ => {}
            }
        }
        let left_out = RULES.iter().filter(|rule| rule.is_asked(rules) && !rule.can_judge(&facts, rules));
        notes.extend(
            left_out.map(|rule| format!("the rule {} has nothing to judge here, and is left out", rule.id)),
        );
        let noted = |rule: &Rule| if rule.id == RuleId::Scan { scanned.clone() } else { Vec::new() };
        let verdict = |judged: Judged| {
            let noted = noted(judged.rule);
            Verdict { noted, ..judged.verdict(profile, rules) }
        };
        let made = |rule: &&Rule| matches!(rule.id, RuleId::Signed | RuleId::Audit);
        let later = RULES.iter().filter(made).filter(|rule| rule.from.is_some_and(|from| profile >= from));
        let later = later.filter(|rule| !rule.can_judge(&facts, rules));
        notes.extend(later.map(|rule| format!("the rule {} is judged by export: {}", rule.id, rule.hint)));
        let all = judged.into_iter().map(verdict).collect();
        Verdicts { profile, all, notes }
    }
}
