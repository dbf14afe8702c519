//! What policy has to know of a release beyond its plan: image configs, documents, what tags lead to. Everything is
//! read from where the images come from, through the one door from foreign bytes to trusted ones; no layer is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use crate::content::Source;
use crate::error::{Error, Kind, Result, Side};
use crate::evidence::cosign::{self, Demands};
use crate::evidence::layers::{Contents, Layers};
use crate::evidence::{self, Package, Place};
use crate::limits;
use crate::manifest::{Manifest, Narrow, Variant, belongs_to_all};
use crate::oci::{
    Child, Descriptor, Deviation, Digest, Document, Finding, Platform, Role, Settings, Tag,
    config_deviations, deviations,
};
use crate::plan::{Image, Node, Plan, Sources, Target};
use crate::policy::{BuildFacts, Facts, Flaw, ImageFacts, Judge, Need, Promoted, ReportFacts, Verdicts};
use crate::release::Moment;
use crate::rules::{Outcome, PolicyRecord, RuleId};
use crate::trust::CosignKey;

/// What a release manifest says of an image, for its rules.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The most bytes that one platform may have, compressed.
    pub budget: Option<u64>,
    /// The same, unpacked.
    pub unpacked_budget: Option<u64>,
    /// Whether its digest is said.
    pub pinned: bool,
    /// Whether its source was asked for by something else than its name: further tags say nothing there.
    pub picked: bool,
    /// What it was before.
    pub promoted: Option<Promoted>,
    /// The keys of which one must have signed it, as cosign signs images.
    pub cosign: Vec<CosignKey>,
}

impl Terms {
    /// As it stands there.
    pub fn of(variant: &Variant) -> Self {
        let pinned = match variant.want.target {
            Target::Tagged { pin } => pin.is_some(),
            Target::Digest(_) | Target::Known(_) => true,
        };
        // What is made of files at hand needs no digest to be known.
        Terms {
            budget: variant.budget,
            unpacked_budget: variant.unpacked_budget,
            pinned: pinned || variant.made.is_some(),
            picked: matches!(variant.files, Some((_, Finding::Picked(_) | Finding::Only))),
            promoted: None,
            cosign: variant.cosign.clone(),
        }
    }
}

/// What is known of the release itself.
pub fn of_release(manifest: &Manifest, keys: Option<usize>, audited: Option<bool>, narrow: &Narrow) -> Facts {
    let names = manifest.images.iter().filter(|variant| !belongs_to_all(&variant.want.variant));
    Facts {
        tier: manifest.tier,
        channel: manifest.channel,
        version: manifest.version.clone(),
        keys,
        audited,
        whole: narrow.is_everything(),
        at_origin: true,
        upgrades: manifest.upgrades_from.is_some(),
        licensed: manifest.license.is_some(),
        variants: names.map(|one| (one.want.image.clone(), one.want.variant.clone())).collect(),
        now: Moment::now(),
    }
}

/// Judges all images of a plan, one after the other: what is known of one is let go before the next.
pub async fn judge(
    mut judge: Judge<'_>,
    plan: &Plan,
    sources: &Sources,
    terms: &[Terms],
) -> Result<Verdicts> {
    let gatherer = Gatherer {
        plan,
        nodes: plan.nodes.iter().enumerate().map(|(number, node)| (node.descriptor.digest, number)).collect(),
        layers: Layers::new(judge.tool_paths()),
    };
    let nothing = Terms::default();
    for (number, (image, source)) in plan.images.iter().zip(sources).enumerate() {
        let terms = terms.get(number).unwrap_or(&nothing);
        let facts = gatherer.image(number, image, source.as_ref(), terms, &judge).await;
        judge.image(&facts.map_err(|e| e.about(&image.source).side(Side::Source))?);
    }
    Ok(judge.finish())
}

/// What the statement says of the verdicts. Signatures that were found go along, and so do the keys that they were verified
/// with: they are verified again where the bundle is opened. What was let pass without one is not asked for again.
pub fn record(verdicts: &Verdicts, cosign: &Demands) -> Result<PolicyRecord> {
    let mut record = verdicts.record();
    let judged = verdicts.all.iter().find(|verdict| verdict.rule.id == RuleId::Cosign);
    if judged.is_some_and(|verdict| verdict.outcome == Outcome::Pass) {
        record.cosign = cosign.record()?;
    }
    Ok(record)
}

/// The configs of one image that were read.
#[derive(Default)]
struct Configs {
    known: HashMap<Digest, Arc<Settings>>,
    bytes: u64,
}

impl Configs {
    /// Whether this one may be read besides.
    fn has_room(&self, config: &Node) -> bool {
        let Descriptor { digest, size, .. } = config.descriptor;
        self.known.contains_key(&digest) || self.bytes.saturating_add(size) <= limits::SETTINGS
    }
}

struct Gatherer<'a> {
    plan: &'a Plan,
    nodes: HashMap<Digest, usize>,
    layers: Layers,
}

impl Gatherer<'_> {
    async fn image(
        &self,
        number: usize,
        image: &Image,
        source: &dyn Source,
        terms: &Terms,
        judge: &Judge<'_>,
    ) -> Result<ImageFacts> {
        let mut builds = self.builds(number, image, source).await?;
        let mut configs = Configs::default();
        for build in &mut builds {
            if judge.needs(Need::Settings) {
                let config = self.config(&build.digest);
                build.too_large = config.is_some_and(|config| !configs.has_room(config));
                if let Some(config) = config.filter(|_| !build.too_large) {
                    build.settings = Some(self.settings(config, source, &mut configs).await?);
                }
            }
            if judge.needs(Need::Annotations)
                && let Some(node) = self.node(&build.digest)
            {
                build.annotations = annotations(&read(node, source).await?);
            }
        }
        Ok(ImageFacts {
            name: image.name.clone(),
            variant: image.variant.clone(),
            source: image.source.clone(),
            digest: image.digest,
            tags: image.tags.clone(),
            runs: !belongs_to_all(&image.variant),
            pinned: terms.pinned,
            budget: terms.budget,
            promoted: terms.promoted.clone(),
            unpacked_budget: terms.unpacked_budget,
            cosign: match terms.cosign.as_slice() {
                keys if judge.needs(Need::Cosign) && !keys.is_empty() => {
                    Some(cosign::verify(self.plan, number, source, keys).await?)
                }
                _ => None,
            },
            contents: self.contents(number, image, &builds, source, terms, judge).await?,
            aliases: match judge.needs(Need::Aliases) && !terms.picked {
                true => aliases(image, source).await?,
                false => Vec::new(),
            },
            flaws: if judge.needs(Need::Documents) {
                self.flaws(number, image, source).await?
            } else {
                Vec::new()
            },
            reports: if judge.needs(Need::Reports) {
                self.reports(number, source, judge).await?
            } else {
                Vec::new()
            },
            builds,
        })
    }

    /// What is attached to an image and says what is in it; and what of that is not to be there.
    async fn reports(
        &self,
        number: usize,
        source: &dyn Source,
        judge: &Judge<'_>,
    ) -> Result<Vec<ReportFacts>> {
        let tools = judge.tools();
        let mut there: HashMap<(Digest, Digest), BTreeSet<String>> = HashMap::new();
        let mut look = |place: &Place, package: Package| {
            if tools.has(&package) {
                let found = there.entry((place.blob.digest, place.subject)).or_default();
                if found.len() < limits::TOOLS {
                    found.insert(format!("{} {}", package.name, package.version).trim().to_owned());
                }
            }
            Ok(())
        };
        let found = evidence::gather(self.plan, number, source, &mut look).await?;
        let facts = found.into_iter().map(|found| {
            let tools = there.get(&(found.place.blob.digest, found.place.subject));
            ReportFacts { tools: tools.into_iter().flatten().cloned().collect(), found }
        });
        Ok(facts.collect())
    }

    fn node(&self, digest: &Digest) -> Option<&Node> {
        self.nodes.get(digest).and_then(|number| self.plan.nodes.get(*number))
    }

    /// The config of a build, where it is an image's.
    fn config(&self, build: &Digest) -> Option<&Node> {
        let config = self.plan.nodes.get(*self.node(build)?.children.first()?)?;
        config.descriptor.media_type.is_image_config().then_some(config)
    }

    /// Everything of an image that could run: its platforms' builds, and manifests that name no usable platform.
    async fn builds(&self, number: usize, image: &Image, source: &dyn Source) -> Result<Vec<BuildFacts>> {
        let mut builds: Vec<_> = image
            .platforms
            .iter()
            .map(|build| BuildFacts {
                platform: Some(build.platform.clone()),
                digest: build.digest,
                size: build.size,
                settings: None,
                too_large: false,
                annotations: BTreeMap::new(),
            })
            .collect();
        if belongs_to_all(&image.variant) {
            return Ok(builds);
        }
        let known: HashSet<Digest> = builds.iter().map(|build| build.digest).collect();
        let mut ahead: Vec<usize> = self.plan.roots.get(number).copied().into_iter().collect();
        let mut seen = HashSet::new();
        while let Some(node) = ahead.pop().and_then(|number| self.plan.nodes.get(number)) {
            let digest = node.descriptor.digest;
            if known.contains(&digest) || !seen.insert(digest) {
                continue;
            }
            if node.descriptor.role == Role::Manifest {
                let size = node.children.iter().filter_map(|child| self.plan.nodes.get(*child));
                let size =
                    size.map(|child| child.descriptor.size).fold(node.descriptor.size, u64::saturating_add);
                let (platform, settings, annotations) = (None, None, BTreeMap::new());
                builds.push(BuildFacts { platform, digest, size, settings, too_large: false, annotations });
                continue;
            }
            // Attestations lie beside what they speak of, as a platform that no machine has.
            let index = Document::parse(&node.descriptor, read(node, source).await?)?;
            let runs = |child: &&Child| !child.platform.as_ref().is_some_and(Platform::is_unknown);
            let runs: HashSet<Digest> =
                index.children.iter().filter(runs).map(|child| child.descriptor.digest).collect();
            let children = node.children.iter().filter(|child| {
                self.plan.nodes.get(**child).is_some_and(|child| runs.contains(&child.descriptor.digest))
            });
            ahead.extend(children);
        }
        Ok(builds)
    }

    /// How a build runs. One config may serve many builds: it is read once, and kept once.
    async fn settings(
        &self,
        config: &Node,
        source: &dyn Source,
        configs: &mut Configs,
    ) -> Result<Arc<Settings>> {
        let Descriptor { digest, size, .. } = config.descriptor;
        if let Some(known) = configs.known.get(&digest) {
            return Ok(known.clone());
        }
        configs.bytes = configs.bytes.saturating_add(size);
        let bytes = read(config, source).await?;
        let settings = Arc::new(Settings::parse(&bytes).map_err(|e| e.at(digest))?);
        configs.known.insert(digest, settings.clone());
        Ok(settings)
    }

    /// What is in layers, where any rule asks for that. Charts and files are small, or at hand.
    async fn contents(
        &self,
        number: usize,
        image: &Image,
        builds: &[BuildFacts],
        source: &dyn Source,
        terms: &Terms,
        judge: &Judge<'_>,
    ) -> Result<Vec<Contents>> {
        let sizes = judge.needs(Need::Sizes) && terms.unpacked_budget.is_some();
        let files = judge.needs(Need::Files) && belongs_to_all(&image.variant);
        if !judge.needs(Need::Layers) && !sizes && !files {
            return Ok(Vec::new());
        }
        let mut contents = Vec::new();
        for build in builds {
            if let Some(node) = self.node(&build.digest) {
                contents.push(self.layers.contents(self.plan, node, build.platform.clone(), source).await?);
            }
        }
        let root = self.plan.roots.get(number).and_then(|root| self.plan.nodes.get(*root));
        if let Some(root) = root.filter(|root| contents.is_empty() && root.descriptor.role == Role::Manifest)
        {
            contents.push(self.layers.contents(self.plan, root, None, source).await?);
        }
        Ok(contents)
    }

    /// What is wrong with the documents of an image's own, attached ones left aside: these are others' work.
    async fn flaws(&self, number: usize, image: &Image, source: &dyn Source) -> Result<Vec<Flaw>> {
        let mut ahead: Vec<usize> = self.plan.roots.get(number).copied().into_iter().collect();
        let mut flaws = Vec::new();
        while let Some(node) = ahead.pop().and_then(|number| self.plan.nodes.get(number)) {
            let descriptor = &node.descriptor;
            if !descriptor.role.is_document() {
                continue;
            }
            let bytes = read(node, source).await?;
            let build = image.platforms.iter().find(|build| build.digest == descriptor.digest);
            let platform = build.map(|build| build.platform.clone());
            let flaw = |(got, expected): Deviation| Flaw { platform: platform.clone(), got, expected };
            flaws.extend(deviations(descriptor.role, &descriptor.media_type, &bytes).into_iter().map(flaw));
            if let Some(config) = build.and_then(|build| self.config(&build.digest)) {
                let layers = node.children.len().saturating_sub(1);
                let bytes = read(config, source).await?;
                flaws.extend(config_deviations(&bytes, layers).into_iter().map(flaw));
            }
            if descriptor.role == Role::Index {
                ahead.extend(node.children.iter().rev());
            }
        }
        Ok(flaws)
    }
}

/// A document or a config, whole.
async fn read(node: &Node, source: &dyn Source) -> Result<bytes::Bytes> {
    let most = if node.descriptor.role.is_document() { limits::DOCUMENT } else { limits::CONFIG };
    if node.descriptor.size > most {
        return Err(Error::new(Kind::LimitExceeded, "a document or config is too large")
            .at(node.descriptor.digest)
            .got(format_args!("{} bytes", node.descriptor.size))
            .expected(format_args!("at most {most} bytes")));
    }
    source.fetch(&node.descriptor).await?.into_bytes().await
}

/// What a manifest says of itself.
fn annotations(manifest: &[u8]) -> BTreeMap<String, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Annotated {
        annotations: Option<BTreeMap<String, String>>,
    }
    // It was parsed before: what is not understood here is none.
    serde_json::from_slice::<Annotated>(manifest).ok().and_then(|own| own.annotations).unwrap_or_default()
}

/// What an image's further tags lead to; those that are not there are not there yet.
async fn aliases(image: &Image, source: &dyn Source) -> Result<Vec<(Tag, Digest)>> {
    let mut found = Vec::new();
    for tag in image.tags.iter().filter(|tag| **tag != image.source.tag) {
        match source.resolve(&image.source.with_tag(tag.clone()), None).await {
            Ok((descriptor, _)) => found.push((tag.clone(), descriptor.digest)),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
