//! A line of the log. Fields stand in the order of their JSON keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Who;
use crate::error::{Error, Exit, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::release::{Channel, Moment, ReleaseName, Tier, Version};
use crate::rules::PolicyRecord;

/// Tells a line of an audit log, version 1, from any other JSON.
const TYPE: &str = "application/vnd.sealift.audit.v1+json";

/// What stands for the line before the first one: no line has this digest.
pub const GENESIS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// See the module's text. Keys that a later version adds are passed over: the chain is over the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// `export`, `import`, `sign`, `trust update`.
    pub action: String,
    /// The bundle: the digest of its SHA256SUMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What the line is about.
    pub event: Event,
    /// What has which name where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Placed>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The verdicts that the bundle states, or that it was made under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The digest of the line before.
    pub previous: Digest,
    /// The program that wrote the line.
    pub producer: String,
    /// The release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Released>,
    /// Which run of the program: the lines of one run have the same.
    pub run: String,
    /// The number of the line, from 1.
    pub sequence: u64,
    /// The keys that signed, as far as they are trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<Key>,
    /// Where from: a bundle's or a release manifest's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When, by this machine's clock.
    pub time: Moment,
    /// What was found at the end of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<Torn>,
    /// What kind of line it is: always the same.
    pub r#type: String,
    /// Who.
    pub who: Who,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// From here on something may have changed at the destination.
    Begin,
    /// Some of what `end` is about: there is more than one line takes.
    Placed,
    /// What came of it.
    End,
    /// The line before was broken off, by a crash or a full disk, and was closed here.
    Torn,
}

/// What came of it: the exit code, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done.
    Done,
    /// Input, output or network failed.
    Failed,
    /// What was asked for was wrong.
    Usage,
    /// Not to be trusted.
    Untrusted,
    /// Refused by a rule.
    Refused,
    /// Ended by a signal.
    Interrupted,
}

impl Outcome {
    /// The word as it is written.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Usage => "usage",
            Outcome::Untrusted => "untrusted",
            Outcome::Refused => "refused",
            Outcome::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for Outcome {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Outcome::Done,
            Exit::Failed => Outcome::Failed,
            Exit::Usage => Outcome::Usage,
            Exit::Untrusted => Outcome::Untrusted,
            Exit::Refused => Outcome::Refused,
            Exit::Interrupted => Outcome::Interrupted,
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its stable name.
    pub kind: String,
    /// As it was said, without logins.
    pub message: String,
}

impl Failure {
    /// What is kept of a failure.
    pub fn of(error: &Error) -> Self {
        Failure { kind: error.kind().name().to_owned(), message: error.sentence() }
    }
}

/// An image, and the names that lead to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its top document.
    pub digest: Digest,
    /// Its names.
    pub names: Vec<String>,
}

/// The rules' verdicts in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The rules that were not simply kept, each with what came of it; not more than a line takes.
    pub notable: BTreeMap<String, String>,
    /// The set of rules.
    pub profile: String,
    /// How many rules came to what.
    pub results: BTreeMap<String, u64>,
}

impl Policy {
    /// What is kept of the verdicts.
    pub fn of(record: &PolicyRecord) -> Self {
        let mut results: BTreeMap<String, u64> = BTreeMap::new();
        for check in &record.checks {
            let count = results.entry(check.result.to_string()).or_default();
            *count = count.saturating_add(1);
        }
        let notable = record.checks.iter().filter(|check| check.result.to_string() != "pass");
        let notable = notable.take(NOTABLE).map(|check| (short(&check.id), check.result.to_string()));
        Policy { notable: notable.collect(), profile: short(&record.profile), results }
    }
}

/// Rules that a line names.
const NOTABLE: usize = 64;

/// A foreign word, such as it fits into a line.
fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

/// Which release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// How far it has come.
    pub channel: Channel,
    /// Its name.
    pub name: ReleaseName,
    /// Whom it is for.
    pub tier: Tier,
    /// Its version.
    pub version: Version,
}

/// A key that signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Its id.
    pub key_id: String,
    /// What it is called in the trust store; at the export, nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A line that was broken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torn {
    /// Its bytes.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
}

impl Line {
    /// A line that says no more than who does what; it gets its place in the chain when it is written.
    pub fn new(event: Event, action: &str, run: &str, who: &Who) -> Self {
        Line {
            action: action.to_owned(),
            bundle: None,
            destination: None,
            error: None,
            event,
            images: Vec::new(),
            outcome: None,
            policy: None,
            previous: genesis(),
            producer: concat!("sealift ", env!("CARGO_PKG_VERSION")).to_owned(),
            release: None,
            run: run.to_owned(),
            sequence: 0,
            signers: Vec::new(),
            source: None,
            time: Moment::now(),
            torn: None,
            r#type: TYPE.to_owned(),
            who: who.clone(),
        }
    }

    /// The bytes of the line, without the end of the line.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec(self)
            .map_err(|e| Error::new(Kind::Io, "a line of the audit log cannot be written").got(e))?;
        match bytes.len() <= limits::AUDIT_LINE {
            true => Ok(bytes),
            false => Err(Error::new(Kind::LimitExceeded, "a line of the audit log would be too long")
                .got(format_args!("{} bytes", bytes.len()))
                .expected(format_args!("at most {} bytes", limits::AUDIT_LINE))),
        }
    }

    /// Parses what stands in a log.
    pub(super) fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let line: Line = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        match line.r#type == TYPE {
            true => Ok(line),
            false => Err(format!("type {:?}", short(&line.r#type))),
        }
    }
}

/// What stands for the line before the first one.
pub(super) fn genesis() -> Digest {
    GENESIS.parse().unwrap_or_else(|_| Digest::of(b""))
}
