//! `trust.toml`: who may sign what, how many must have signed, whose keys count no longer, and who
//! may change the store. TOML text enters; checked rules leave. Without the file, any one key of the
//! store is enough for any bundle.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;

use super::KeyId;
use crate::error::{Error, Kind, Result};
use crate::release::{Moment, ReleaseName, Tier};
use crate::text::line_and_column;

/// The name of the file.
pub const RULES: &str = "trust.toml";

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Raised by one with every change that travels in a bundle; 0 where there is none.
    pub version: u64,
    /// Raised to forget which releases were seen before it was raised.
    pub epoch: u64,
    /// Whether expired bundles may be asked for.
    pub allow_expired: bool,
    /// For bundles that no other rule is about; absent where there are such rules.
    pub general: Option<Quorum>,
    /// In the order of the file: the first that fits a bundle decides.
    pub special: Vec<Rule>,
    /// Who may change the store by a bundle.
    pub root: Option<Quorum>,
    /// When keys end to count, by their names.
    pub not_after: BTreeMap<String, Moment>,
    /// Keys that count no longer, and why.
    pub revoked: BTreeMap<KeyId, String>,
}

/// So many of these keys must have signed.
#[derive(Clone, Debug)]
pub struct Quorum {
    /// Distinct keys; at least one.
    pub threshold: usize,
    /// Their names; all keys of the store where there are none.
    pub keys: Vec<String>,
}

/// A quorum for some bundles.
#[derive(Clone, Debug)]
pub struct Rule {
    bundles: Vec<String>,
    tiers: Vec<Tier>,
    /// Who must have signed these.
    pub quorum: Quorum,
}

impl Rule {
    /// Whether it is about this release.
    pub fn fits(&self, name: &ReleaseName, tier: Tier) -> bool {
        let name = name.to_string();
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *pattern,
        };
        (self.bundles.is_empty() || self.bundles.iter().any(fits))
            && (self.tiers.is_empty() || self.tiers.contains(&tier))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers: Vec<_> = self.tiers.iter().map(ToString::to_string).collect();
        match self.bundles.is_empty() {
            true => f.write_str("other bundles")?,
            false => f.write_str(&self.bundles.join(", "))?,
        }
        match tiers.is_empty() {
            true => Ok(()),
            false => write!(f, " of tier {}", tiers.join(", ")),
        }
    }
}

impl Rules {
    /// The least that any bundle needs: what must have signed before anything of it is parsed.
    pub fn least(&self) -> usize {
        let special = self.special.iter().map(|rule| rule.quorum.threshold);
        special.chain(self.general.iter().map(|quorum| quorum.threshold)).min().unwrap_or(1)
    }

    /// Every quorum that is asked for.
    pub fn quorums(&self) -> impl Iterator<Item = &Quorum> {
        self.special.iter().map(|rule| &rule.quorum).chain(&self.general).chain(&self.root)
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// `TrustStore` with line and column: nothing unknown is skipped, because a rule that somebody
    /// believes to be in force must not silently not be.
    pub fn parse(text: &str) -> Result<Self> {
        let raw: Raw = toml::from_str(text).map_err(|e| {
            let (line, column) = line_and_column(text, e.span().map_or(0, |span| span.start));
            Error::new(Kind::TrustStore, e.message()).at(format_args!("{RULES}:{line}:{column}"))
        })?;
        if raw.schema != 1 {
            return Err(wrong("this version reads schema 1").got(raw.schema));
        }
        let special = raw.rule.into_iter().map(RawRule::check).collect::<Result<Vec<_>>>()?;
        if !special.is_empty() && raw.threshold.is_some() {
            return Err(wrong("threshold and [[rule]] exclude each other")
                .hint("give each rule a threshold of its own; a last rule without bundles and tiers fits all the rest"));
        }
        let general = match special.is_empty() {
            true => Some(Quorum::new(raw.threshold, Vec::new())?),
            false => None,
        };
        let mut revoked = BTreeMap::new();
        for entry in raw.revoked {
            let id = KeyId::from_hex(&entry.key).ok_or_else(|| {
                wrong("a revoked key is named by its id, 64 lower-case hex digits").got(&entry.key)
            })?;
            revoked.insert(id, entry.reason);
        }
        Ok(Rules {
            version: raw.version,
            epoch: raw.epoch,
            allow_expired: raw.allow_expired,
            general,
            special,
            root: raw.root.map(|root| Quorum::new(root.threshold, root.keys)).transpose()?,
            not_after: raw.keys.into_iter().filter_map(|(name, key)| Some((name, key.not_after?))).collect(),
            revoked,
        })
    }
}

impl Default for Quorum {
    /// Any one key.
    fn default() -> Self {
        Quorum { threshold: 1, keys: Vec::new() }
    }
}

impl Quorum {
    fn new(threshold: Option<usize>, keys: Vec<String>) -> Result<Self> {
        match threshold {
            Some(0) => Err(wrong("a threshold of 0 would trust everybody").expected("at least 1")),
            threshold => Ok(Quorum { threshold: threshold.unwrap_or(1), keys }),
        }
    }

    /// Whether it asks for this key.
    pub fn asks_for(&self, names: &[String]) -> bool {
        self.keys.is_empty() || names.iter().any(|name| self.keys.contains(name))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    schema: u64,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    epoch: u64,
    threshold: Option<usize>,
    #[serde(default)]
    allow_expired: bool,
    #[serde(default)]
    keys: BTreeMap<String, RawKey>,
    #[serde(default)]
    rule: Vec<RawRule>,
    root: Option<RawRoot>,
    #[serde(default)]
    revoked: Vec<RawRevoked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    not_after: Option<Moment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(default)]
    bundles: Vec<String>,
    #[serde(default)]
    tiers: Vec<Tier>,
    #[serde(default)]
    keys: Vec<String>,
    threshold: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoot {
    #[serde(default)]
    keys: Vec<String>,
    threshold: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRevoked {
    key: String,
    reason: String,
}

impl RawRule {
    fn check(self) -> Result<Rule> {
        let named = |pattern: &String| {
            let beginning = pattern.strip_suffix('*').unwrap_or(pattern);
            beginning.is_empty() && pattern == "*" || beginning.parse::<ReleaseName>().is_ok()
        };
        if let Some(bad) = self.bundles.iter().find(|pattern| !named(pattern)) {
            return Err(wrong("not the name of a bundle")
                .got(format_args!("{bad:?}"))
                .expected("a release's name, or the beginning of one and an asterisk: \"nexus-*\""));
        }
        let Some(twice) = repeated(&self.keys) else {
            let quorum = Quorum::new(self.threshold, self.keys)?;
            return Ok(Rule { bundles: self.bundles, tiers: self.tiers, quorum });
        };
        Err(wrong("a key stands twice in one rule").got(twice))
    }
}

fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = HashSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

/// A failure of the rules.
pub fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::TrustStore, what).at(RULES)
}
