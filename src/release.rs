//! Words of a release: what it is called, for whom it is, and the time it states.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};
use crate::limits;

/// Declares a closed list of lower-case words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident ($called:literal) { $($(#[$word_doc:meta])* $variant:ident = $word:literal)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$word_doc])* $variant,)+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $word,)+ })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match String::deserialize(deserializer)?.as_str() {
                    $($word => Ok($name::$variant),)+
                    other => Err(serde::de::Error::custom(format!(
                        "{other:?} is not a {}: it is one of {}", $called, [$($word),+].join(", ")
                    ))),
                }
            }
        }
    };
}

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
}

impl Version {
    /// The `n`th number of the version (0 = major), for tag templates.
    pub fn number(&self, n: usize) -> Option<&str> {
        let numbers = self.0.strip_prefix('v').unwrap_or(&self.0).split(['-', '+']).next()?;
        let number = numbers.split('.').nth(n)?;
        (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(number)
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
}

/// The rules that were checked when a bundle was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// One by one.
    pub checks: Vec<Check>,
    /// The name of the set of rules.
    pub profile: String,
}

/// One rule and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The rule's id.
    pub id: String,
    /// What came of it.
    pub result: Outcome,
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

as_text! {
    ReleaseName: "a release name (lower-case letters, digits, '.', '_', '-')";
    Version: "a version (letters, digits, '.', '_', '+', '-')";
    Moment: "a time (RFC 3339, such as 2026-11-20T00:00:00Z)";
}
