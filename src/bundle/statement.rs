//! The statement, `bundle/bundle.json`: what the bundle says it is. Strict JSON with sorted keys;
//! a statement that does not encode to the very bytes it was parsed from is refused, so there is
//! one way to write each.

use std::borrow::Cow;
use std::io::Write;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::plan::Image;
use crate::release::{Channel, Licensing, Moment, Release, ReleaseName, Tier, UpgradePath, Version};
use crate::rules::PolicyRecord;
use crate::trust::Root;

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
    /// Whether whoever installs it must have a licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<Licensing>,
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
    /// The trust store that follows the one it is checked with. Never used but by `trust update`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<Root>,
    /// Always [`Statement::TYPE`].
    r#type: String,
    /// The versions that it can be installed over; any where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrades_from: Option<UpgradePath>,
    /// The release's version.
    pub version: Version,
}

/// The size of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntrySize {
    /// Its path.
    pub path: EntryPath,
    /// Its bytes.
    pub size: u64,
}

/// The path of an entry. There are many, and nearly all of them follow from a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryPath {
    /// The path of this blob.
    Blob(Digest),
    /// Another one.
    Other(String),
}

impl EntryPath {
    /// The path as it is written.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            EntryPath::Blob(digest) => Cow::Owned(digest.blob_path()),
            EntryPath::Other(text) => Cow::Borrowed(text),
        }
    }
}

impl Serialize for EntryPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for EntryPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let digest = text.strip_prefix("blobs/sha256/").and_then(Digest::from_hex);
        Ok(digest.map_or_else(|| EntryPath::Other(text.into_owned()), EntryPath::Blob))
    }
}

impl Statement {
    /// Tells a bundle's statement, version 1, from any other signed JSON.
    pub const TYPE: &str = "application/vnd.sealift.bundle.v1+json";

    /// The blobs, in the order of the bundle.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.entries.iter().filter_map(|entry| match entry.path {
            EntryPath::Blob(digest) => Some(digest),
            EntryPath::Other(_) => None,
        })
    }

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
            license: release.license,
            name: release.name.clone(),
            policy,
            producer: concat!("sealift ", env!("CARGO_PKG_VERSION")).to_owned(),
            sequence: release.sequence,
            tier: release.tier,
            trust_root: release.trust_root.clone().map(Root::from),
            r#type: Statement::TYPE.to_owned(),
            upgrades_from: release.upgrades_from.clone(),
            version: release.version.clone(),
        }
    }

    /// The only bytes that say this.
    pub fn encode(&self) -> Result<Vec<u8>> {
        // Grown by doubling, it would need several times its size.
        let mut bytes = Vec::with_capacity(self.entries.len() * 120 + self.images.len() * 1000 + 1000);
        serde_json::to_writer(&mut bytes, self)
            .map_err(|e| wrong("the statement cannot be written").got(e))?;
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
        if statement.r#type != Statement::TYPE {
            return Err(wrong("not a statement that this version reads")
                .got(&statement.r#type)
                .expected(Statement::TYPE));
        }
        if statement.payload_bytes != payload_bytes(&statement.entries) {
            return Err(wrong("payloadBytes is not the sum of the entries' sizes")
                .got(statement.payload_bytes)
                .expected(payload_bytes(&statement.entries)));
        }
        if statement.license.is_some() && !statement.tier.may_ask_for_license() {
            return Err(wrong("a licence is required in a tier that asks for none").got(statement.tier));
        }
        let mut rest = Same(bytes);
        if serde_json::to_writer(&mut rest, &statement).is_err() || !rest.0.is_empty() {
            return Err(wrong("the statement is not in its canonical form")
                .hint("it was written by something else than sealift, or edited before it was signed"));
        }
        Ok(statement)
    }
}

/// Takes only the bytes that it holds, in their order: compares without a second copy.
struct Same<'a>(&'a [u8]);

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or_else(|| std::io::Error::other("other bytes"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Saturating: sizes that add up to more than a file can hold are refused with the contents.
fn payload_bytes(entries: &[EntrySize]) -> u64 {
    entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.size))
}

fn wrong(what: &str) -> Error {
    Error::new(Kind::StatementInvalid, what).at(super::STATEMENT_PATH)
}
