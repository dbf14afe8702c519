//! `diff`: what changed between two releases, or between two environments of one release, compared by digest. Of a
//! bundle its statement is read, of a release manifest the documents of its images; no layer moves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::check::is_bundle;
use super::export::Export;
use super::places::{self, Mirror, Opener, Origin};
use super::site::Site;
use super::verify;
use crate::bundle::{EntryPath, Statement};
use crate::content::Watch;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifest, Narrow};
use crate::oci::{Digest, Files, Finding, Name, Tag, Transport};
use crate::plan::{Attachments, Build, Image, Plan, Selection, Target, Want, resolve};
use crate::registry;
use crate::release::{Moment, Release};
use crate::rules::{PolicyRecord, RuleId};

/// What is compared with what.
pub struct Diff {
    /// The older side, as it was typed, and where its images are pulled.
    pub old: Side,
    /// The newer side.
    pub new: Side,
    /// For both sides.
    pub mirrors: Vec<Mirror>,
    /// What bundles are judged by.
    pub site: Site,
    /// Transfers at once.
    pub jobs: usize,
}

/// One side of a comparison.
pub struct Side {
    /// A bundle, a release manifest or an image.
    pub what: String,
    /// Where images are pulled instead of where they are named.
    pub mirrors: Vec<Mirror>,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Whether both sides have the same images with the same digests.
    pub same: bool,
    /// The older side.
    pub old: Described,
    /// The newer side.
    pub new: Described,
    /// Image by image: in the order of the newer side, then those that it does not have.
    pub images: Vec<ImageChange>,
    /// What else is said of the two releases, where it differs.
    pub metadata: Vec<FactChange>,
    /// What the newer side has and the older one lacks: what a delta would carry.
    pub delta: Weight,
}

/// A side, in few words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// As it was typed.
    pub what: String,
    /// The release's name and version; none for a single image.
    pub release: Option<String>,
    /// All of its content.
    pub content: Weight,
}

/// So many blobs, and their bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Weight {
    /// Distinct blobs, documents among them.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Both sides have it, with the same digest.
    Same,
    /// Both sides have it, with different digests.
    Changed,
    /// Only the newer side has it.
    Added,
    /// Only the older side has it.
    Removed,
}

/// One image, by its name and variant.
#[derive(Debug, Serialize)]
pub struct ImageChange {
    /// Its name.
    pub name: String,
    /// Its variant.
    pub variant: String,
    /// By digest: the image's own, and those of its platforms.
    pub status: Status,
    /// On the older side.
    pub old: Option<ImageFacts>,
    /// On the newer side.
    pub new: Option<ImageFacts>,
    /// Platform by platform.
    pub platforms: Vec<PlatformChange>,
    /// Tags that only the newer side has.
    #[serde(rename = "tagsAdded")]
    pub tags_added: Vec<Tag>,
    /// Tags that only the older side has.
    #[serde(rename = "tagsRemoved")]
    pub tags_removed: Vec<Tag>,
    /// How many documents are attached to it on the newer side only: signatures, SBOMs.
    #[serde(rename = "attachedAdded")]
    pub attached_added: usize,
    /// On the older side only.
    #[serde(rename = "attachedRemoved")]
    pub attached_removed: usize,
}

/// An image on one side.
#[derive(Debug, Serialize)]
pub struct ImageFacts {
    /// Its full name.
    pub source: Name,
    /// Its top document.
    pub digest: Digest,
    /// Bytes of all its platforms, each by itself.
    pub size: u64,
}

/// One platform of an image.
#[derive(Debug, Serialize)]
pub struct PlatformChange {
    /// Which.
    pub platform: String,
    /// By the digest of its manifest.
    pub status: Status,
    /// On the older side.
    pub old: Option<BuildFacts>,
    /// On the newer side.
    pub new: Option<BuildFacts>,
}

/// A platform's build on one side.
#[derive(Debug, Serialize)]
pub struct BuildFacts {
    /// Its manifest.
    pub digest: Digest,
    /// Bytes of manifest, config and layers.
    pub size: u64,
}

/// Something that is said of a release.
#[derive(Debug, Serialize)]
pub struct FactChange {
    /// What.
    pub key: String,
    /// On the older side.
    pub old: Option<String>,
    /// On the newer side.
    pub new: Option<String>,
}

impl ImageChange {
    /// How people call it.
    pub fn label(&self) -> String {
        format!("{}/{}", self.name, self.variant)
    }
}

/// What is compared, once it is known what was typed.
enum Subject {
    Bundle(PathBuf),
    Manifest(PathBuf),
    Image(Option<Digest>, Name),
    Files(Files, Finding),
}

/// What a side has.
struct Contents {
    release: Option<String>,
    facts: BTreeMap<String, String>,
    images: Vec<Image>,
    blobs: HashMap<Digest, u64>,
}

impl Diff {
    /// Reads both sides and compares them.
    pub async fn run(self, client: &registry::Client, watch: &Arc<dyn Watch>) -> Result<Difference> {
        let (old, new) = (Subject::of(&self.old.what)?, Subject::of(&self.new.what)?);
        if old.is_image() != new.is_image() {
            return Err(Error::new(Kind::Usage, "an image can only be compared with an image")
                .got(format_args!("{} and {}", self.old.what, self.new.what))
                .expected("two images, or two of bundles and release manifests"));
        }
        let mirrors = self.share_mirrors(&old, &new)?;
        let [old_mirrors, new_mirrors] = mirrors;
        let old = self.read(old, old_mirrors, client, watch).await?;
        let new = self.read(new, new_mirrors, client, watch).await?;
        Ok(compare((self.old.what, old), (self.new.what, new)))
    }

    /// The mirrors of each side. One for both need not fit both, but somebody must have a use for it.
    fn share_mirrors(&self, old: &Subject, new: &Subject) -> Result<[Vec<Mirror>; 2]> {
        let names = [old.names()?, new.names()?];
        if let Some(idle) =
            self.mirrors.iter().find(|mirror| !names.iter().any(|names| mirror.fits_any(names)))
        {
            return Err(idle_mirror("--mirror", idle));
        }
        let own = [("--old-mirror", &self.old.mirrors), ("--new-mirror", &self.new.mirrors)];
        let mut shared = [Vec::new(), Vec::new()];
        for (((flag, own), names), mirrors) in own.into_iter().zip(&names).zip(&mut shared) {
            if let Some(idle) = own.iter().find(|mirror| !mirror.fits_any(names)) {
                return Err(idle_mirror(flag, idle));
            }
            // What is said of one side goes before what is said of both.
            let common = self.mirrors.iter().filter(|mirror| mirror.fits_any(names));
            let common = common.filter(|mirror| own.iter().all(|own| own.from() != mirror.from()));
            mirrors.extend(own.iter().chain(common).cloned());
        }
        Ok(shared)
    }

    async fn read(
        &self,
        subject: Subject,
        mirrors: Vec<Mirror>,
        client: &registry::Client,
        watch: &Arc<dyn Watch>,
    ) -> Result<Contents> {
        match subject {
            Subject::Bundle(path) => {
                let opened = verify::opened(&path, &self.site, watch).await?;
                Ok(Contents::of_statement(opened.statement()))
            }
            Subject::Manifest(manifest) => {
                let (narrow, jobs) = (Narrow::default(), self.jobs);
                // The time of a release that is only looked at does not matter, and must not be refused.
                let created = Some(Moment::default());
                let site = self.site.clone();
                let export = Export {
                    manifest,
                    narrow,
                    mirrors,
                    created,
                    site,
                    signatures: None,
                    deep: false,
                    jobs,
                    rate: None,
                    audited: None,
                };
                let prepared = export.prepare(client).await?;
                Ok(Contents::of_plan(&prepared.plan, facts_of(&prepared.release, &prepared.record)))
            }
            Subject::Image(digest, name) => {
                let full = format!("{}/{}", name.registry, name.repository);
                let origin = Origin::named(&full, &name.repository, &mirrors)?;
                image(origin, name, digest, client).await
            }
            Subject::Files(files, finding) => {
                let name = "localhost/image:latest".parse()?;
                image(Origin::Files(files, finding), name, None, client).await
            }
        }
    }
}

fn idle_mirror(flag: &str, mirror: &Mirror) -> Error {
    Error::new(Kind::EmptySelection, format!("{flag} fits no image")).got(mirror.from()).expected(
        "the beginning of the name of an image in a release manifest, or of an image that is compared",
    )
}

/// A single image, compared with another one whatever the two are called.
async fn image(
    origin: Origin,
    source: Name,
    digest: Option<Digest>,
    client: &registry::Client,
) -> Result<Contents> {
    let want = Want {
        image: "image".to_owned(),
        variant: "single".to_owned(),
        tags: vec![source.tag.clone()],
        source,
        target: digest.map_or(Target::Tagged { pin: None }, Target::Digest),
        selection: Selection::default(),
        attachments: Attachments::Asked,
    };
    let source = Opener::new(client).source(vec![origin], false).await?;
    Ok(Contents::of_plan(&resolve(&[want], &vec![source]).await?, (None, BTreeMap::new())))
}

impl Subject {
    fn of(text: &str) -> Result<Self> {
        match Transport::split(text) {
            Some((Transport::Docker, address)) => {
                let wrong = |_| {
                    Error::new(Kind::Usage, "not an image")
                        .got(format_args!("{text:?}"))
                        .expected("docker://host/repository:tag or docker://host/repository@sha256:…")
                };
                match address.split_once("@sha256:") {
                    None => Ok(Subject::Image(None, address.parse().map_err(wrong)?)),
                    Some((name, hex)) => {
                        let digest: Digest = format!("sha256:{hex}").parse().map_err(wrong)?;
                        let name: Name = format!("{name}:latest").parse().map_err(wrong)?;
                        Ok(Subject::Image(Some(digest), name.with_tag(digest.fallback_tag())))
                    }
                }
            }
            Some((Transport::Store, _)) => Err(Error::new(Kind::Usage, "a store is not compared as a whole")
                .got(text)
                .hint("compare a release manifest with --old-mirror FROM=store:DIR or --new-mirror FROM=store:DIR")),
            Some(_) => {
                let (files, pick) = Files::parse(text)?;
                Ok(Subject::Files(files, pick.map_or(Finding::Only, Finding::Picked)))
            }
            None => Subject::of_file(Path::new(text)),
        }
    }

    fn of_file(path: &Path) -> Result<Self> {
        match is_bundle(path)? {
            true => Ok(Subject::Bundle(path.to_owned())),
            false => Ok(Subject::Manifest(path.to_owned())),
        }
    }

    fn is_image(&self) -> bool {
        matches!(self, Subject::Image(..) | Subject::Files(..))
    }

    /// The full names of the repositories that a mirror can stand for.
    fn names(&self) -> Result<Vec<String>> {
        match self {
            Subject::Manifest(path) => Ok(places::names_to_mirror(&Manifest::load(path)?.images)),
            Subject::Image(_, name) => Ok(vec![format!("{}/{}", name.registry, name.repository)]),
            Subject::Bundle(_) | Subject::Files(..) => Ok(Vec::new()),
        }
    }
}

/// What is said of a release beside its images: its name and version, and everything that can differ.
fn facts_of(release: &Release, policy: &PolicyRecord) -> (Option<String>, BTreeMap<String, String>) {
    let Release { name, version, sequence, tier, channel, expires, upgrades_from, license, .. } = release;
    let mut facts = BTreeMap::new();
    let mut say = |key: &str, value: Option<String>| {
        value.map(|value| facts.insert(key.to_owned(), value));
    };
    say("name", Some(name.to_string()));
    say("version", Some(version.to_string()));
    say("tier", Some(tier.to_string()));
    say("channel", Some(channel.to_string()));
    say("sequence", sequence.map(|sequence| sequence.to_string()));
    say("expires", expires.map(|expires| expires.to_string()));
    say("upgradesFrom", upgrades_from.as_ref().map(ToString::to_string));
    say("license", license.map(|license| license.to_string()));
    say("policy", Some(policy.profile.clone()));
    // Who signs and who keeps account is a matter of a bundle; of a manifest nobody has asked yet.
    let made = [RuleId::Signed, RuleId::Audit].map(|rule| rule.to_string());
    for check in policy.checks.iter().filter(|check| !made.contains(&check.id)) {
        say(&format!("policy {}", check.id), Some(check.result.to_string()));
    }
    (Some(format!("{name} {version}")), facts)
}

impl Contents {
    fn of_plan(plan: &Plan, (release, facts): (Option<String>, BTreeMap<String, String>)) -> Self {
        let blobs = plan.nodes.iter().map(|node| (node.descriptor.digest, node.descriptor.size)).collect();
        Contents { release, facts, images: plan.images.clone(), blobs }
    }

    fn of_statement(statement: &Statement) -> Self {
        let (release, facts) = facts_of(&super::slice::release(statement), &statement.policy);
        let blob = |path: &EntryPath| match path {
            EntryPath::Blob(digest) => Some(*digest),
            EntryPath::Other(_) => None,
        };
        let blobs = statement.entries.iter().filter_map(|entry| Some((blob(&entry.path)?, entry.size)));
        Contents { release, facts, images: statement.images.clone(), blobs: blobs.collect() }
    }

    fn described(&self, what: String) -> Described {
        let content = Weight { blobs: self.blobs.len(), bytes: sum(self.blobs.values().copied()) };
        Described { what, release: self.release.clone(), content }
    }

    fn image(&self, like: &Image) -> Option<&Image> {
        self.images.iter().find(|image| image.name == like.name && image.variant == like.variant)
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

fn compare((old_what, old): (String, Contents), (new_what, new): (String, Contents)) -> Difference {
    let mut images: Vec<_> =
        new.images.iter().map(|image| image_change(old.image(image), Some(image))).collect();
    let gone = old.images.iter().filter(|image| new.image(image).is_none());
    images.extend(gone.map(|image| image_change(Some(image), None)));
    let keys: BTreeSet<&String> = old.facts.keys().chain(new.facts.keys()).collect();
    let metadata = keys.into_iter().map(|key| FactChange {
        key: key.clone(),
        old: old.facts.get(key).cloned(),
        new: new.facts.get(key).cloned(),
    });
    let lacking = || new.blobs.iter().filter(|(digest, _)| !old.blobs.contains_key(digest));
    Difference {
        same: images.iter().all(|image| image.status == Status::Same),
        images,
        metadata: metadata.filter(|fact| fact.old != fact.new).collect(),
        delta: Weight { blobs: lacking().count(), bytes: sum(lacking().map(|(_, size)| *size)) },
        old: old.described(old_what),
        new: new.described(new_what),
    }
}

fn image_change(old: Option<&Image>, new: Option<&Image>) -> ImageChange {
    let platforms = platforms(old, new);
    let facts = |image: &Image| ImageFacts {
        source: image.source.clone(),
        digest: image.digest,
        size: sum(image.platforms.iter().map(|build| build.size)),
    };
    let tags = |image: Option<&Image>| image.map(|image| image.tags.clone()).unwrap_or_default();
    let (tags_before, tags_now) = (tags(old), tags(new));
    let attached = |image: Option<&Image>| -> BTreeSet<Digest> {
        image.into_iter().flat_map(|image| &image.referrers).map(|referrer| referrer.digest).collect()
    };
    let (attached_before, attached_now) = (attached(old), attached(new));
    let named = new.or(old);
    let alike = platforms.iter().all(|platform| platform.status == Status::Same);
    let digests = (old.map(|image| image.digest), new.map(|image| image.digest));
    ImageChange {
        name: named.map(|image| image.name.clone()).unwrap_or_default(),
        variant: named.map(|image| image.variant.clone()).unwrap_or_default(),
        status: match digests {
            (None, _) => Status::Added,
            (_, None) => Status::Removed,
            (old, new) if old == new && alike => Status::Same,
            _ => Status::Changed,
        },
        old: old.map(facts),
        new: new.map(facts),
        platforms,
        tags_added: tags_now.iter().filter(|tag| !tags_before.contains(tag)).cloned().collect(),
        tags_removed: tags_before.iter().filter(|tag| !tags_now.contains(tag)).cloned().collect(),
        attached_added: attached_now.difference(&attached_before).count(),
        attached_removed: attached_before.difference(&attached_now).count(),
    }
}

/// A platform may be there several times (versions of Windows): then they are taken in their order.
fn platforms(old: Option<&Image>, new: Option<&Image>) -> Vec<PlatformChange> {
    let (old, new) = (builds(old), builds(new));
    let keys = new.iter().chain(old.iter().filter(|(key, _)| new.iter().all(|(known, _)| known != key)));
    let find = |builds: &[((String, usize), &Build)], key: &(String, usize)| {
        let found = builds.iter().find(|(known, _)| known == key);
        found.map(|(_, build)| BuildFacts { digest: build.digest, size: build.size })
    };
    let change = |(key, _): &((String, usize), &Build)| {
        let (old, new) = (find(&old, key), find(&new, key));
        let status = match (&old, &new) {
            (None, _) => Status::Added,
            (_, None) => Status::Removed,
            (Some(old), Some(new)) if old.digest == new.digest => Status::Same,
            _ => Status::Changed,
        };
        PlatformChange { platform: key.0.clone(), status, old, new }
    };
    keys.map(change).collect()
}

fn builds(image: Option<&Image>) -> Vec<((String, usize), &Build)> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let builds = image.into_iter().flat_map(|image| &image.platforms);
    let numbered = builds.map(|build| {
        let platform = build.platform.to_string();
        let number = seen.entry(platform.clone()).or_default();
        *number += 1;
        ((platform, *number), build)
    });
    numbered.collect()
}
