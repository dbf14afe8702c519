//! Words of a release: what it is called, for whom it is, and the time it states.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::limits;

words!(
    /// Whom a release is for; sets how strict the rules are.
    Tier ("tier") {
        /// Public, unsupported.
        Community = "community"
        /// Public, for building on.
        Developer = "developer"
        /// Paying customers.
        Professional = "professional"
        /// Paying customers with a private registry.
        Enterprise = "enterprise"
        /// Customers under regulation: signed, audited.
        Regulated = "regulated"
        /// Customers who trust nobody and have no network.
        Sovereign = "sovereign"
    }
);

impl Tier {
    /// Whether releases of this tier may be installed by licence holders only. The others never ask.
    pub fn may_ask_for_license(self) -> bool {
        self >= Tier::Professional
    }
}

words!(
    /// Whether a release asks for a licence; one that says nothing does not.
    Licensing ("word about licences") {
        /// Whoever installs it must have one.
        Required = "required"
    }
);

words!(
    /// How far a release has come.
    Channel ("channel") {
        /// For the developers themselves.
        Development = "development"
        /// For testing.
        Staging = "staging"
        /// For use.
        Production = "production"
    }
);

/// A release's name: lower-case letters, digits, `.`, `_`, `-`; begins with a letter or digit; at
/// most 128 characters.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseName(String);

/// A release's version: letters, digits, `.`, `_`, `+`, `-`; begins with a letter or digit; at most
/// 128 characters. A text, so `2.10` stays `2.10`.
#[derive(Clone, PartialEq, Eq)]
pub struct Version(String);

/// A moment in UTC, to the second, as `2026-11-20T00:00:00Z`. Its default is the beginning of 1970.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Timestamp);

impl Moment {
    /// Cuts fractions of a second off. What RFC 3339 cannot write becomes the first moment that it can.
    pub fn new(timestamp: Timestamp) -> Self {
        let seconds = timestamp.as_second().max(limits::FIRST_SECOND);
        Moment(Timestamp::from_second(seconds).unwrap_or(timestamp))
    }

    /// Seconds since 1970, as `SOURCE_DATE_EPOCH` gives them.
    pub fn from_epoch_seconds(text: &str) -> Result<Self> {
        let seconds = text.trim().parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        seconds.filter(is_written).map(Moment).ok_or_else(|| {
            Error::new(Kind::Usage, "SOURCE_DATE_EPOCH is not a time")
                .got(text)
                .expected("seconds since 1970")
        })
    }

    /// The system's clock.
    pub fn now() -> Self {
        Moment::new(Timestamp::now())
    }

    /// Whole days from then to this moment; negative where it lies before.
    pub fn days_since(self, then: Moment) -> i64 {
        self.0.as_second().saturating_sub(then.0.as_second()).div_euclid(86_400)
    }

    /// A day on: as far as clocks of different machines may be apart.
    pub fn a_day_later(self) -> Self {
        Timestamp::from_second(self.0.as_second().saturating_add(86_400)).map_or(self, Moment)
    }
}

/// The versions that a release can be installed over, as `>=2.0.0, <2.1.0` (the grammar of Cargo's
/// version requirements).
#[derive(Clone, PartialEq, Eq)]
pub struct UpgradePath(semver::VersionReq);

impl UpgradePath {
    /// Whether it begins at this version. Only versions that are numbers can lie on a path.
    pub fn begins_at(&self, version: &Version) -> bool {
        version.semantic().is_some_and(|version| self.0.matches(&version))
    }
}

impl Version {
    /// Which of two versions is the older one; `Equal` for two spellings of one (`v2.1`, `2.1.0`). Numbers
    /// first, a missing one being 0; what follows them (`-rc.1`, `.beta`, `_2`) comes before the release itself, as
    /// in semantic versioning; what follows a `+` comes after it, so that rebuilds have an order.
    pub fn precedence(&self, other: &Version) -> Ordering {
        Order::of(&self.0).cmp(&Order::of(&other.0))
    }

    /// Read generously: `v2.1` is 2.1.0, `2026.07.01` is 2026.7.1.
    fn semantic(&self) -> Option<semver::Version> {
        let text = self.0.strip_prefix('v').unwrap_or(&self.0);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (core, rest) = text.split_at_checked(end)?;
        let mut numbers =
            core.split('.').map(|number| number.parse::<u64>().ok()).collect::<Option<Vec<_>>>()?;
        if numbers.len() > 3 {
            return None;
        }
        numbers.resize(3, 0);
        let core = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        semver::Version::parse(&format!("{core}{rest}")).ok()
    }

    /// The `n`th number of the version (0 = major), for tag templates.
    pub fn number(&self, n: usize) -> Option<&str> {
        let numbers = self.0.strip_prefix('v').unwrap_or(&self.0).split(['-', '+']).next()?;
        let number = numbers.split('.').nth(n)?;
        (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(number)
    }
}

/// A version, taken apart: compared field by field.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Order<'a> {
    numbers: Vec<Part<'a>>,
    /// Before that: false sorts first.
    released: bool,
    before: Vec<Part<'a>>,
    after: Vec<Part<'a>>,
}

/// A run of digits or of letters. Numbers come before words (semver.org, §11).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    /// Without leading zeros: the longer one is the larger.
    Number(usize, &'a str),
    /// In lower case.
    Word(String),
}

impl<'a> Order<'a> {
    fn of(version: &'a str) -> Self {
        // `v2.1`, `release-2.1`: what stands before the first number is no part of it.
        let start = version
            .find(|c: char| c.is_ascii_digit())
            .filter(|start| version.get(..*start).is_some_and(|word| !word.contains('+')));
        let version = version.get(start.unwrap_or(0)..).unwrap_or(version);
        let (version, after) = version.split_once('+').unwrap_or((version, ""));
        let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
        let (numbers, before) = version.split_at_checked(end).unwrap_or((version, ""));
        let mut numbers: Vec<_> =
            numbers.split('.').filter(|number| !number.is_empty()).map(Part::of).collect();
        while numbers.last().is_some_and(|number| *number == Part::Number(0, "")) {
            numbers.pop();
        }
        let before = parts_of(before);
        Order { numbers, released: before.is_empty(), before, after: parts_of(after) }
    }
}

/// Runs of digits and of letters: `rc10` comes after `rc9`.
fn parts_of(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let digits = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
            let (part, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
            parts.push(Part::of(part));
            rest = behind;
        }
    }
    parts
}

impl<'a> Part<'a> {
    fn of(text: &'a str) -> Self {
        match text.bytes().all(|b| b.is_ascii_digit()) {
            true => {
                let digits = text.trim_start_matches('0');
                Part::Number(digits.len(), digits)
            }
            false => Part::Word(text.to_ascii_lowercase()),
        }
    }
}

/// A whole number of bytes with a unit: `100MB`, `95MiB`, `512B`.
pub fn byte_count(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let text = text.trim();
    let (number, factor) =
        UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(*factor)
}

fn is_word(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(fits)
}

impl FromStr for ReleaseName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        is_word(text, fits).then(|| ReleaseName(text.to_owned())).ok_or_else(|| {
            Error::new(Kind::Usage, "not a release name")
                .got(format_args!("{text:?}"))
                .expected("lower-case letters, digits, '.', '_', '-'")
        })
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        is_word(text, fits).then(|| Version(text.to_owned())).ok_or_else(|| {
            Error::new(Kind::Usage, "not a version")
                .got(format_args!("{text:?}"))
                .expected("letters, digits, '.', '_', '+', '-', such as 2.1.0")
        })
    }
}

impl FromStr for UpgradePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        semver::VersionReq::parse(text).map(UpgradePath).map_err(|e| {
            Error::new(Kind::Usage, "not a range of versions")
                .got(format_args!("{text:?}: {e}"))
                .expected("such as \">=2.0.0, <2.1.0\"")
        })
    }
}

impl fmt::Display for UpgradePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether RFC 3339 has a form for a moment.
fn is_written(timestamp: &Timestamp) -> bool {
    timestamp.as_second() >= limits::FIRST_SECOND
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let timestamp = text.parse().ok().filter(is_written);
        timestamp.map(Moment::new).ok_or_else(|| {
            Error::new(Kind::Usage, "not a time")
                .got(format_args!("{text:?}"))
                .expected("RFC 3339, such as 2026-11-20T00:00:00Z")
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ").fmt(f)
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the release team says of a release; the rest of a statement follows from the plan.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its name.
    pub name: ReleaseName,
    /// Its version.
    pub version: Version,
    /// Its place in the sequence of releases.
    pub sequence: Option<u64>,
    /// Whom it is for.
    pub tier: Tier,
    /// How far it has come.
    pub channel: Channel,
    /// The time it states.
    pub created: Moment,
    /// When it ends to be valid.
    pub expires: Option<Moment>,
    /// The versions that it can be installed over, where not any.
    pub upgrades_from: Option<UpgradePath>,
    /// Whether whoever installs it must have a licence.
    pub license: Option<Licensing>,
    /// The trust store that follows the one it is checked with: file names and their texts.
    pub trust_root: Option<BTreeMap<String, String>>,
}

as_text! {
    ReleaseName: "a release name (lower-case letters, digits, '.', '_', '-')";
    UpgradePath: "a range of versions (such as >=2.0.0, <2.1.0)";
    Version: "a version (letters, digits, '.', '_', '+', '-')";
    Moment: "a time (RFC 3339, such as 2026-11-20T00:00:00Z)";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_versions_come_first() {
        let ordered = [
            ["1.9.9", "1.10.0"],
            ["v1.9", "1.10"],
            ["2.1.0-rc.2", "2.1.0-rc.10"],
            ["2.1.0-rc9", "2.1.0-rc10"],
            ["2.1.0-rc.1", "2.1.0"],
            ["2.1.0.rc1", "2.1.0"],
            ["2.1.0_rc1", "2.1.0"],
            ["2.1.0-rc.01", "2.1.0"],
            ["2.1.0-9-gabc", "2.1.0-10-gdef"],
            ["2.1.0", "2.1.0+k3s1"],
            ["2.1.0+k3s1", "2.1.0+k3s2"],
            ["2.1.0+k3s9", "2.1.0+k3s10"],
            ["2026.07.01", "2026.11.1"],
            ["2026.07.01.1-rc1", "2026.07.01.1"],
            ["2026-11-09", "2026-11-20"],
            ["2026-11-09", "2027-01-01"],
            ["1.2.3.4", "1.2.3.10"],
            ["1.2.3", "1.2.3.1"],
            ["1.2.3.beta", "1.2.3.4"],
            ["20241231", "20250101"],
            ["nightly-9", "nightly-10"],
            ["release-2.1.0-rc1", "release-2.1.0"],
            ["2.1.0-rc1", "2.1.0-RC2"],
            ["2.0", "V3.0"],
            ["1.0.0-alpha.1", "1.0.0-alpha.beta"],
            ["1.0.0-alpha", "1.0.0-alpha.1"],
            ["1.0.0-alpha.beta", "1.0.0-beta"],
        ];
        for [older, newer] in ordered {
            let (older, newer): (Version, Version) = (older.parse().unwrap(), newer.parse().unwrap());
            assert_eq!(older.precedence(&newer), Ordering::Less, "{older} {newer}");
            assert_eq!(newer.precedence(&older), Ordering::Greater, "{newer} {older}");
        }
        for [one, other] in [
            ["v2.1", "2.1.0"],
            ["2.1", "2.1.0.0"],
            ["2.01", "2.1"],
            ["2.1-rc1", "2.1.0_RC.1"],
            ["release-2.1", "2.1.0"],
        ] {
            let (one, other): (Version, Version) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.precedence(&other), Ordering::Equal, "{one} {other}");
        }
    }

    #[test]
    fn a_path_begins_where_it_says() {
        let path: UpgradePath = ">=2.0.0, <2.1.0".parse().unwrap();
        for (version, fits) in
            [("2.0.0", true), ("v2.0.7", true), ("2.1.0", false), ("1.9.9", false), ("nightly", false)]
        {
            assert_eq!(path.begins_at(&version.parse().unwrap()), fits, "{version}");
        }
        assert!("newer than 2".parse::<UpgradePath>().is_err());
    }
}
