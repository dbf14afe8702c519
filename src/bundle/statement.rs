//! The statement, `bundle/bundle.json`: what the bundle says it is. Strict JSON with sorted keys;
//! a statement that does not encode to the very bytes it was parsed from is refused, so there is
//! one way to write each.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::plan::Image;
use crate::release::{Channel, Moment, PolicyRecord, Release, ReleaseName, Tier, Version};

/// Tells a bundle's statement, version 1, from any other signed JSON.
const TYPE: &str = "application/vnd.sealift.bundle.v1+json";

/// See the module's text. Fields stand in the order of their JSON keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Statement {
    /// The bundle that this one builds on: always null in bundles that hold everything.
    base: (),
    /// How far the release has come.
    pub channel: Channel,
    /// When the newest image was made, or the time the release team gave: never the clock.
    pub created: Moment,
    /// Every entry after the statement, in tar order, with the size that the sums do not tell.
    pub entries: Vec<EntrySize>,
    /// From then on the bundle is refused.
    pub expires: Option<Moment>,
    /// What is in it.
    pub images: Vec<Image>,
    /// The release's name.
    pub name: ReleaseName,
    /// Bytes of all `entries` together.
    pub payload_bytes: u64,
    /// The rules that were checked when it was made.
    pub policy: PolicyRecord,
    /// The program that made it.
    pub producer: String,
    /// The release's place in its sequence, for telling an old bundle from a new one.
    pub sequence: Option<u64>,
    /// Whom the release is for.
    pub tier: Tier,
    /// Always [`TYPE`].
    r#type: String,
    /// The release's version.
    pub version: Version,
}

/// The size of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntrySize {
    /// Its path.
    pub path: String,
    /// Its bytes.
    pub size: u64,
}

impl Statement {
    /// The statement of a release, its images and its entries.
    pub fn new(release: &Release, images: Vec<Image>, policy: PolicyRecord, entries: Vec<EntrySize>) -> Self {
        Statement {
            base: (),
            channel: release.channel,
            created: release.created,
            payload_bytes: payload_bytes(&entries),
            entries,
            expires: release.expires,
            images,
            name: release.name.clone(),
            policy,
            producer: concat!("sealift ", env!("CARGO_PKG_VERSION")).to_owned(),
            sequence: release.sequence,
            tier: release.tier,
            r#type: TYPE.to_owned(),
            version: release.version.clone(),
        }
    }

    /// The only bytes that say this.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec(self).map_err(|e| wrong("the statement cannot be written").got(e))?;
        if bytes.len() as u64 > limits::STATEMENT {
            return Err(Error::new(
                Kind::LimitExceeded,
                "too much for one bundle: its statement would be too long",
            )
            .got(format_args!("{} bytes", bytes.len()))
            .expected(format_args!("at most {} bytes", limits::STATEMENT))
            .hint("cut several bundles"));
        }
        Ok(bytes)
    }

    /// Parses bytes whose digest stands in signed sums.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let statement: Statement =
            serde_json::from_slice(bytes).map_err(|e| wrong("the statement is malformed").got(e))?;
        if statement.r#type != TYPE {
            return Err(wrong("not a statement that this version reads")
                .got(&statement.r#type)
                .expected(TYPE));
        }
        if statement.payload_bytes != payload_bytes(&statement.entries) {
            return Err(wrong("payloadBytes is not the sum of the entries' sizes")
                .got(statement.payload_bytes)
                .expected(payload_bytes(&statement.entries)));
        }
        if statement.encode()? != bytes {
            return Err(wrong("the statement is not in its canonical form")
                .hint("it was written by something else than sealift, or edited before it was signed"));
        }
        Ok(statement)
    }
}

/// Saturating: sizes that add up to more than a file can hold are refused with the contents.
fn payload_bytes(entries: &[EntrySize]) -> u64 {
    entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.size))
}

fn wrong(what: &str) -> Error {
    Error::new(Kind::StatementInvalid, what).at(super::STATEMENT_PATH)
}
