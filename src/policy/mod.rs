//! Rules about releases. Pure: facts enter, verdicts leave. The tier decides which rules are judged unasked and
//! which of them bind, the release manifest's `[policy]` what they demand. One file per family of rules; one table,
//! [`RULES`], of all of them.

mod config;
mod names;
mod release;
mod supply;
mod verdict;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Name, Platform, Settings, Tag};
use crate::release::{Channel, Moment, Tier, Version};
use crate::rules::{Finding, Outcome, RuleId, Rules, Waived};

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
    /// Keys that will sign it.
    pub keys: usize,
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
    /// What its further tags lead to where it comes from; with [`Need::Aliases`].
    pub aliases: Vec<(Tag, Digest)>,
    /// What in its documents is not as image-spec has it; with [`Need::Documents`].
    pub flaws: Vec<Flaw>,
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

/// What is known of one platform's build of an image.
#[derive(Clone, Debug)]
pub struct BuildFacts {
    /// The platform.
    pub platform: Platform,
    /// Its manifest's digest.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
    /// How it runs; with [`Need::Settings`].
    pub settings: Option<Settings>,
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
    /// What further tags lead to at the source.
    Aliases,
    /// All documents, as image-spec describes them.
    Documents,
}

/// A rule.
pub struct Rule {
    /// What it is called.
    pub id: RuleId,
    /// The document that it comes from, and where in it.
    pub origin: &'static str,
    /// The profile from which on it is judged unasked; `None` where it only is when it is asked for.
    pub from: Option<Tier>,
    /// The profile from which on it binds unasked; below, it warns.
    pub binds: Tier,
    /// Whether `[policy]` asks for it by what it says.
    asked: fn(&Rules) -> bool,
    /// What must be read for it.
    needs: &'static [Need],
    judge: Judged,
    /// What to do about it.
    pub hint: &'static str,
}

/// What a rule is about.
enum Judged {
    Release(fn(&Facts, &Rules) -> Vec<Finding>),
    Image(fn(&Case<'_>) -> Vec<Finding>),
}

/// All rules, in the order in which they are judged and shown.
pub const RULES: &[Rule] = &[
    release::SIGNED,
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
    release::BUDGET,
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

    /// What is wrong with one platform's build.
    fn wrong_on(&self, platform: &Platform, got: impl ToString, expected: impl ToString) -> Finding {
        Finding { platform: Some(platform.clone()), ..self.wrong(got, expected) }
    }

    /// What is wrong with builds; `judge` says what was got and what was expected.
    fn builds(&self, judge: impl Fn(&'a Settings) -> Option<(String, String)>) -> Vec<Finding> {
        let settings = self.image.builds.iter().filter_map(|build| Some((build, build.settings.as_ref()?)));
        let broken = settings.filter_map(|(build, settings)| {
            let (got, expected) = judge(settings)?;
            Some(self.wrong_on(&build.platform, got, expected))
        });
        broken.collect()
    }
}

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
    fn applies(&self, profile: Tier, rules: &Rules) -> bool {
        self.is_asked(rules) || self.from.is_some_and(|from| profile >= from)
    }

    fn is_asked(&self, rules: &Rules) -> bool {
        (self.asked)(rules) || rules.require.contains(&self.id) || rules.warn.contains(&self.id)
    }

    /// What a broken one comes to.
    fn broken(&self, profile: Tier, rules: &Rules) -> Outcome {
        let binds = rules.require.contains(&self.id)
            || (!rules.warn.contains(&self.id) && ((self.asked)(rules) || profile >= self.binds));
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

/// Judges a release, image by image, so that nobody has to hold what is known of all of them.
pub struct Judge<'a> {
    facts: Facts,
    rules: &'a Rules,
    profile: Tier,
    judged: Vec<(&'static Rule, Vec<Finding>)>,
    /// Of each waiver, whether it covered anything.
    used: Vec<bool>,
}

impl<'a> Judge<'a> {
    /// Begins with the rules about the release itself.
    pub fn new(facts: Facts, rules: &'a Rules) -> Self {
        let profile = rules.profile.unwrap_or(facts.tier);
        let judged = RULES.iter().filter(|rule| rule.applies(profile, rules)).map(|rule| (rule, Vec::new()));
        let mut judge =
            Judge { facts, rules, profile, judged: judged.collect(), used: vec![false; rules.waiver.len()] };
        judge.each(|rule, facts, rules| match rule.judge {
            Judged::Release(judge) => judge(facts, rules),
            Judged::Image(_) => Vec::new(),
        });
        judge
    }

    /// Whether any rule that is judged needs this.
    pub fn needs(&self, need: Need) -> bool {
        self.judged.iter().any(|(rule, _)| rule.needs.contains(&need))
    }

    /// Judges an image.
    pub fn image(&mut self, image: &ImageFacts) {
        self.each(|rule, facts, rules| match rule.judge {
            Judged::Image(judge) => judge(&Case { facts, rules, image }),
            Judged::Release(_) => Vec::new(),
        });
    }

    fn each(&mut self, judge: impl Fn(&Rule, &Facts, &Rules) -> Vec<Finding>) {
        for (rule, findings) in &mut self.judged {
            for mut finding in judge(rule, &self.facts, self.rules) {
                for (waiver, used) in self.rules.waiver.iter().zip(&mut self.used) {
                    if !waiver.covers(rule.id, &finding) {
                        continue;
                    }
                    *used = true;
                    if waiver.expires > self.facts.now && finding.waived.is_none() {
                        let reason = waiver.reason.clone();
                        finding.waived = Some(Waived { expires: waiver.expires, reason });
                    }
                }
                findings.push(finding);
            }
        }
    }

    /// All verdicts.
    pub fn finish(self) -> Verdicts {
        let verdict = |(rule, findings): (&'static Rule, Vec<Finding>)| {
            let outcome = match findings.iter().all(|finding| finding.waived.is_some()) {
                _ if findings.is_empty() => Outcome::Pass,
                true => Outcome::Waived,
                false => rule.broken(self.profile, self.rules),
            };
            Verdict { rule, outcome, findings }
        };
        let mut notes = Vec::new();
        for (waiver, used) in self.rules.waiver.iter().zip(&self.used) {
            let what = format!(
                "the waiver for rule {}{}",
                waiver.rule,
                waiver.image.as_ref().map(|image| format!(" and {image}")).unwrap_or_default()
            );
            match used {
                false => notes.push(format!("{what} covers nothing")),
                true if waiver.expires <= self.facts.now => {
                    notes.push(format!("{what} ended at {}", waiver.expires))
                }
                true => {}
            }
        }
        Verdicts { profile: self.profile, all: self.judged.into_iter().map(verdict).collect(), notes }
    }
}
