//! `trust.toml`: who may sign what, how many must have signed, whose keys count no longer, and who
//! may change the store. TOML text enters; checked rules leave. Without the file, any one key of the
//! store is enough for any bundle.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;

use super::KeyId;
use crate::error::{Error, Kind, Result};
use crate::oci::{Name, Registry, Repository};
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
    /// In the order of the file.
    pub special: Vec<Rule>,
    /// Who may change the store by a bundle.
    pub root: Option<Quorum>,
    /// The names of the keys that sign licences, and nothing else.
    pub license: Vec<String>,
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
    /// Their names; all keys of the store where it says none.
    pub keys: Option<Vec<String>>,
}

/// A quorum for some bundles.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Names of releases, or beginnings of names; empty for all that no other rule names.
    bundles: Vec<String>,
    /// Tiers that such a release may be of; any where there are none.
    tiers: Vec<Tier>,
    /// Images that such a release may hold, by their full names; any where there are none.
    images: Vec<String>,
    /// Who must have signed these.
    pub quorum: Quorum,
}

/// What a release says of itself, as far as rights depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Bearer<'a> {
    /// Its name.
    pub name: &'a ReleaseName,
    /// Its tier.
    pub tier: Tier,
    /// The full names of its images.
    pub images: &'a [Name],
}

impl Rule {
    /// Whether it names this release.
    fn names(&self, name: &str) -> bool {
        self.bundles.iter().any(|pattern| fits(pattern, name))
    }

    /// Whether the release is what the rule is for.
    fn allows(&self, bearer: &Bearer<'_>) -> bool {
        let image = |name: &Name| {
            let name = format!("{}/{}", name.registry, name.repository);
            self.images.iter().any(|pattern| fits(pattern, &name))
        };
        (self.tiers.is_empty() || self.tiers.contains(&bearer.tier))
            && (self.images.is_empty() || bearer.images.iter().all(image))
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers: Vec<_> = self.tiers.iter().map(ToString::to_string).collect();
        match self.bundles.is_empty() {
            true => f.write_str("other bundles")?,
            false => f.write_str(&self.bundles.join(", "))?,
        }
        if !tiers.is_empty() {
            write!(f, " of tier {}", tiers.join(", "))?;
        }
        if !self.images.is_empty() {
            write!(f, " with images {} only", self.images.join(", "))?;
        }
        Ok(())
    }
}

impl Rules {
    /// The least that any bundle needs: what must have signed before anything of it is parsed.
    pub fn least(&self) -> usize {
        let special = self.special.iter().map(|rule| rule.quorum.threshold);
        special.chain(self.general.iter().map(|quorum| quorum.threshold)).min().unwrap_or(1)
    }

    /// Who must have signed such a release: the first rule that names it and is for what it is. A release that
    /// some rule names is never judged by one that names none: its tier is what it says of itself.
    pub fn quorum(&self, bearer: &Bearer<'_>) -> Option<&Quorum> {
        let name = bearer.name.to_string();
        let named = self.special.iter().any(|rule| rule.names(&name));
        let about = |rule: &&Rule| if named { rule.names(&name) } else { rule.bundles.is_empty() };
        let special = self.special.iter().filter(about).find(|rule| rule.allows(bearer));
        special.map(|rule| &rule.quorum).or(self.general.as_ref())
    }

    /// Whether any bundle could ask for a key of these names.
    pub fn asks_for(&self, names: &[String]) -> bool {
        let special = self.special.iter().map(|rule| &rule.quorum);
        special.chain(&self.general).any(|quorum| quorum.asks_for(names))
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
            let error = Error::new(Kind::TrustStore, e.message()).at(format_args!("{RULES}:{line}:{column}"));
            match text.contains("not_after") && e.message().contains("invalid type") {
                true => error.hint("times are in quotes: not_after = \"2028-01-01T00:00:00Z\""),
                false => error,
            }
        })?;
        if raw.schema != 1 {
            return Err(wrong("this version reads schema 1").got(raw.schema));
        }
        let special = raw.rule.into_iter().map(RawRule::check).collect::<Result<Vec<_>>>()?;
        if !special.is_empty() && (raw.threshold.is_some() || raw.keys.is_some()) {
            return Err(wrong("threshold or keys for all bundles, and [[rule]], exclude each other")
                .hint("give each rule a threshold of its own; a rule without bundles is for all that no other rule names"));
        }
        let general = match special.is_empty() {
            true => Some(Quorum::new(raw.threshold, raw.keys)?),
            false => None,
        };
        let mut revoked = BTreeMap::new();
        for entry in raw.revoked {
            let id = KeyId::from_hex(&entry.key).ok_or_else(|| {
                wrong("a revoked key is named by its id, 64 lower-case hex digits").got(&entry.key)
            })?;
            revoked.insert(id, entry.reason);
        }
        let rules = Rules {
            version: raw.version,
            epoch: raw.epoch,
            allow_expired: raw.allow_expired,
            general,
            special,
            root: raw.root.map(|root| Quorum::new(root.threshold, root.keys)).transpose()?,
            license: raw
                .license
                .map(|license| license.keys)
                .map_or(Ok(Vec::new()), |keys| Quorum::new(None, Some(keys.clone())).map(|_| keys))?,
            not_after: raw.key.into_iter().filter_map(|(name, key)| Some((name, key.not_after?))).collect(),
            revoked,
        };
        let both =
            |quorum: &Quorum| quorum.keys.iter().flatten().find(|key| rules.license.contains(key)).cloned();
        let twofold = rules.quorums().find_map(both);
        twofold.map_or(Ok(rules), |key| Err(signs_licenses(&key)))
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.as_ref().map_or("any of the keys".to_owned(), |keys| keys.join(", "));
        write!(f, "{} of {keys}", self.threshold)
    }
}

impl Default for Quorum {
    /// Any one key.
    fn default() -> Self {
        Quorum { threshold: 1, keys: None }
    }
}

impl Quorum {
    fn new(threshold: Option<u32>, keys: Option<Vec<String>>) -> Result<Self> {
        // An emptied list must not become everybody.
        if keys.as_ref().is_some_and(Vec::is_empty) {
            return Err(
                wrong("an empty list of keys").hint("leave keys out where any key of the store will do")
            );
        }
        if let Some(twice) = keys.as_deref().and_then(repeated) {
            return Err(wrong("a key stands twice in one list").got(twice));
        }
        match threshold {
            Some(0) => Err(wrong("a threshold of 0 would trust everybody").expected("at least 1")),
            threshold => Ok(Quorum { threshold: threshold.unwrap_or(1) as usize, keys }),
        }
    }

    /// Whether it asks for this key.
    pub fn asks_for(&self, names: &[String]) -> bool {
        self.keys.as_ref().is_none_or(|keys| names.iter().any(|name| keys.contains(name)))
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
    threshold: Option<u32>,
    keys: Option<Vec<String>>,
    #[serde(default)]
    allow_expired: bool,
    #[serde(default)]
    key: BTreeMap<String, RawKey>,
    #[serde(default)]
    rule: Vec<RawRule>,
    root: Option<RawRoot>,
    license: Option<RawLicense>,
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
    bundles: Option<Vec<String>>,
    tiers: Option<Vec<Tier>>,
    images: Option<Vec<String>>,
    keys: Option<Vec<String>>,
    threshold: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoot {
    keys: Option<Vec<String>>,
    threshold: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLicense {
    keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRevoked {
    key: String,
    reason: String,
}

impl RawRule {
    fn check(self) -> Result<Rule> {
        let (bundles, tiers) = (given(self.bundles, "bundles")?, given(self.tiers, "tiers")?);
        let images = given(self.images, "images")?;
        let named =
            |pattern: &String| pattern.strip_suffix('*').unwrap_or(pattern).parse::<ReleaseName>().is_ok();
        if let Some(bad) = bundles.iter().find(|pattern| !named(pattern)) {
            return Err(wrong("not the name of a bundle")
                .got(format_args!("{bad:?}"))
                .expected("a release's name, or the beginning of one and an asterisk: \"nexus-*\"")
                .hint("a rule for all bundles that no other rule names has no bundles at all"));
        }
        if let Some(bad) = images.iter().find(|pattern| !is_image_pattern(pattern)) {
            return Err(wrong("not the name of an image's repository").got(format_args!("{bad:?}")).expected(
                "registry/repository, or the beginning of one up to a slash and an asterisk: \"registry.example.com/nexus/*\"",
            ));
        }
        Ok(Rule { bundles, tiers, images, quorum: Quorum::new(self.threshold, self.keys)? })
    }
}

/// An asterisk stands behind a slash only: `registry.example.com*` would be other registries, too.
fn is_image_pattern(pattern: &str) -> bool {
    let (registry, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let path = path.strip_suffix('*').map_or(Some(path), |path| match path {
        "" => Some("x"),
        path => path.strip_suffix('/'),
    });
    registry.parse::<Registry>().is_ok() && path.is_some_and(|path| path.parse::<Repository>().is_ok())
}

/// A list that is there must not be empty: it would mean nothing, and be taken for everything.
fn given<T>(list: Option<Vec<T>>, what: &str) -> Result<Vec<T>> {
    match list {
        Some(list) if list.is_empty() => {
            Err(wrong(format!("an empty list of {what}")).hint(format!("leave {what} out where any will do")))
        }
        list => Ok(list.unwrap_or_default()),
    }
}

fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = HashSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

/// A key has one right or the other: whoever sells licences does not cut releases.
pub(super) fn signs_licenses(key: &str) -> Error {
    wrong("a key that signs licences signs nothing else")
        .got(format_args!("{key:?}, which is to sign bundles, too"))
        .hint("make another key for licences: sealift key new vendor")
}

/// A failure of the rules.
pub fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::TrustStore, what).at(RULES)
}
