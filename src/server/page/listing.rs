//! What the page and `/api/v1/contents` tell: the same facts in the same words, once as HTML and once
//! as JSON. Version 1 may gain fields; those it has keep their names and meanings.

use serde::Serialize;

use super::attached::{Attached, Subject};
use crate::oci::{Digest, Name, Platform, Repository, Tag};
use crate::plan::Omitted;
use crate::release::{Channel, Moment, ReleaseName, Tier, UpgradePath, Version};
use crate::rules::PolicyRecord;

/// The answer at `/api/v1/contents`. Of images only a page: `next`, where it is not null, goes into
/// `?after=` and brings the ones behind them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// The version of this shape: 1.
    pub version: u8,
    /// What is served.
    pub serving: Serving,
    /// Whether pushes are taken.
    pub writable: bool,
    /// Whether a name and a password are needed for pulling.
    pub login: bool,
    /// The bundles, in the order of the command line; none where a store is served.
    pub bundles: Vec<Cover>,
    /// The images: of bundles in their order, of a store by repository and tag.
    pub images: Vec<Card>,
    /// Repositories of a store that have no tag.
    pub untagged: Vec<Repository>,
    /// Names in a store that lead nowhere, or to something damaged.
    pub broken: Vec<String>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// What images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Serving {
    /// Verified bundles.
    Bundles,
    /// A store.
    Store,
}

/// What a bundle says of itself, and what is known of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cover {
    /// The release's name.
    pub name: ReleaseName,
    /// Its version.
    pub version: Version,
    /// Whom it is for.
    pub tier: Tier,
    /// How far it has come.
    pub channel: Channel,
    /// When it was made.
    pub created: Moment,
    /// From then on it is refused.
    pub expires: Option<Moment>,
    /// Whether that is now.
    pub expired: bool,
    /// Its place in the sequence of releases.
    pub sequence: Option<u64>,
    /// The versions that it can be installed over.
    pub upgrades_from: Option<UpgradePath>,
    /// The program that made it.
    pub producer: String,
    /// The rules that were checked when it was made.
    pub policy: PolicyRecord,
    /// The trusted keys that signed it.
    pub signers: Vec<Signature>,
    /// What was read of it before it was served.
    pub verified: Verified,
    /// Bytes of the whole bundle.
    pub bytes: u64,
    /// Its images, on this page or not.
    pub images: usize,
}

/// Who signed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// The key's id.
    pub key_id: String,
    /// Its name in the trust store of this machine.
    pub name: String,
}

/// What was checked beforehand; the words of `inspect --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verified {
    /// Every byte.
    All,
    /// Signature, statement, sums and length; each blob when it is asked for the first time.
    Head,
}

/// An image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Card {
    /// Which of `bundles` it is in, from 0.
    pub bundle: Option<usize>,
    /// Its name in the release.
    pub name: Option<String>,
    /// Its variant.
    pub variant: Option<String>,
    /// The full name that the release team knows it by.
    pub source: Option<Name>,
    /// The repository that it has here.
    pub repository: Repository,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// For each tag, what it is pulled by here, behind `HOST/`.
    pub pull: Vec<String>,
    /// The digest of its top document.
    pub digest: Digest,
    /// The media type of its top document.
    pub media_type: String,
    /// What it is, where it is no container image.
    pub artifact_type: Option<String>,
    /// Its builds.
    pub platforms: Vec<Build>,
    /// What was left out when the bundle was made, and why.
    pub omitted: Vec<Omitted>,
    /// Signatures, SBOMs, scan results and the like that belong to it.
    pub attached: Vec<Attached>,
    /// Why something is missing from this description.
    pub unread: Option<&'static str>,
}

/// One platform's build.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// The platform, where it is known.
    pub platform: Option<Platform>,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Bytes of the manifest, its config and its layers; null where it is not here.
    pub size: Option<u64>,
}

impl Card {
    /// How it is called on the page.
    pub fn title(&self) -> String {
        match (&self.name, &self.variant, self.tags.first()) {
            (Some(name), Some(variant), _) => format!("{name}/{variant}"),
            (_, _, Some(tag)) => format!("{}:{tag}", self.repository),
            _ => self.repository.to_string(),
        }
    }

    /// What something may belong to: the image and each of its builds.
    pub fn subjects(&self) -> Vec<Subject> {
        let top = Subject { digest: self.digest, platform: None };
        let builds = self.platforms.iter().filter(|build| build.digest != self.digest);
        let builds = builds.map(|build| Subject { digest: build.digest, platform: build.platform.clone() });
        std::iter::once(top).chain(builds).collect()
    }

    /// Bytes of all builds that are here.
    pub fn bytes(&self) -> u64 {
        self.platforms.iter().filter_map(|build| build.size).fold(0, u64::saturating_add)
    }
}
