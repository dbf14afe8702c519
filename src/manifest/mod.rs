//! The release manifest: a TOML file in which a release team writes what belongs to a release.
//! TOML text enters; [`Want`]s and the facts of the release leave. Unknown keys, wrong types and
//! names that cannot be are refused with line and column.

mod artifacts;
mod policy;
mod promotion;
mod registries;
mod reports;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::Spanned;

use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::evidence::cosign::Demands;
use crate::limits;
use crate::oci::{Digest, Files, Finding, Name, Platform, Registry, Repository, Tag, Transport};
use crate::plan::{Attachments, Only, Selection, Target, Want};
use crate::release::{Channel, Licensing, Moment, ReleaseName, Tier, UpgradePath, Version};
use crate::rules::Rules;
use crate::text::line_and_column;
use crate::trust::{CosignKey, Root};

pub use artifacts::{CHART, Made, belongs_to_all};
pub use policy::cosign_key;
pub use promotion::Promotion;
pub use registries::Home;
pub use reports::{ReportFile, Reports};

/// What the file says, checked.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The release's name.
    pub name: ReleaseName,
    /// Its version.
    pub version: Version,
    /// Whom it is for.
    pub tier: Tier,
    /// How far it has come.
    pub channel: Channel,
    /// Its place in the sequence of releases.
    pub sequence: Option<u64>,
    /// When it ends to be valid.
    pub expires: Option<Moment>,
    /// The versions that it can be installed over.
    pub upgrades_from: Option<UpgradePath>,
    /// Whether whoever installs it must have a licence.
    pub license: Option<Licensing>,
    /// The trust store that follows the one it is checked with.
    pub trust_root: Option<Root>,
    /// What is demanded of it.
    pub rules: Rules,
    /// Whose cosign signatures are.
    pub cosign: Demands,
    /// One per image and variant: images in the order of the file, variants sorted by name. Then the charts, then
    /// the files.
    pub images: Vec<Variant>,
}

/// One variant of one image; or a chart, or files.
#[derive(Clone, Debug)]
pub struct Variant {
    /// What is asked for.
    pub want: Want,
    /// Files to take it from, instead of the registry it is named after, and how it is found there.
    pub files: Option<(Files, Finding)>,
    /// Registries to take it from where it does not lie in files, tried in order. Its name stays the same.
    pub homes: Vec<Home>,
    /// Where it is said what it was before: it must be the same.
    pub promotion: Option<Promotion>,
    /// What it is made of, instead of being taken from somewhere.
    pub made: Option<Made>,
    /// Files that are attached to it.
    pub reports: Reports,
    /// The most bytes one platform may have, compressed.
    pub budget: Option<u64>,
    /// The same, unpacked.
    pub unpacked_budget: Option<u64>,
    /// The keys of which one must have signed it, as cosign signs images.
    pub cosign: Vec<CosignKey>,
}

/// Restrictions from the command line. Empty means: everything.
#[derive(Clone, Debug, Default)]
pub struct Narrow {
    /// Names of images.
    pub images: Vec<String>,
    /// Names of variants.
    pub variants: Vec<String>,
    /// Platforms.
    pub platforms: Vec<Platform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    schema: Spanned<u64>,
    name: ReleaseName,
    version: Version,
    tier: Tier,
    channel: Channel,
    registry: Option<Registry>,
    registries: registries::Registries,
    platforms: Option<Spanned<Vec<Platform>>>,
    #[serde(default)]
    optional_platforms: Vec<Platform>,
    referrers: Option<bool>,
    sequence: Option<u64>,
    expires: Option<Moment>,
    upgrades_from: Option<UpgradePath>,
    license: Option<Licensing>,
    trust_root: Option<PathBuf>,
    policy: Option<Spanned<Rules>>,
    #[serde(default)]
    image: Vec<Spanned<RawImage>>,
    #[serde(default)]
    chart: Vec<Spanned<artifacts::RawChart>>,
    #[serde(default)]
    file: Vec<Spanned<artifacts::RawFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawImage {
    name: Spanned<String>,
    repository: Repository,
    registry: Option<Registry>,
    registries: registries::Registries,
    source: Option<Spanned<RawSource>>,
    promote_from: Option<Spanned<RawSource>>,
    tags: Spanned<BTreeMap<String, Spanned<String>>>,
    #[serde(default)]
    also_tag: Vec<Spanned<String>>,
    #[serde(default)]
    pin: BTreeMap<String, Spanned<Digest>>,
    budget: Option<Spanned<String>>,
    unpacked_budget: Option<Spanned<String>>,
    cosign_key: Option<PathBuf>,
    platforms: Option<Spanned<Vec<Platform>>>,
    optional_platforms: Option<Vec<Platform>>,
    referrers: Option<bool>,
    sbom: Option<Spanned<reports::Templates>>,
    scan: Option<Spanned<reports::Templates>>,
}

/// A text for all variants, or one for each.
enum RawSource {
    All(String),
    Each(BTreeMap<Spanned<String>, Spanned<String>>),
}

// By hand: what is derived for an untagged enum forgets where in the text things are.
impl<'de> Deserialize<'de> for RawSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawSource;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text such as \"oci:DIRECTORY\", or a table with one for each variant")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawSource, E> {
                Ok(RawSource::All(text.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<RawSource, M::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(RawSource::Each)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Manifest {
    /// Reads a manifest file. Relative paths in it are relative to its own directory.
    pub fn load(path: &Path) -> Result<Self> {
        let invalid = |what: &str| Error::new(Kind::ManifestInvalid, what.to_owned()).at(path.display());
        let bytes = file::read_small(path, "the release manifest", limits::RELEASE_MANIFEST);
        let bytes = bytes.map_err(|error| match error.kind() {
            Kind::LimitExceeded => invalid("the release manifest is too large")
                .expected(format_args!("at most {} bytes", limits::RELEASE_MANIFEST))
                .hint("a manifest is a TOML file; is this a bundle?"),
            _ => error,
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            invalid("the release manifest is not UTF-8 text")
                .hint("a manifest is a TOML file; is this a bundle?")
        })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Manifest::parse(text, directory, &path.display().to_string())
    }

    /// Parses a manifest; `place` names it in errors.
    pub fn parse(text: &str, directory: &Path, place: &str) -> Result<Self> {
        let page = Page { text, place };
        let raw: RawManifest = toml::from_str(text).map_err(|e| {
            let error = page.wrong(e.span(), e.message());
            let says = |what: &str| e.message().contains(what);
            match () {
                () if says("expected a string") => error.hint("put it in quotes: version = \"2.10\""),
                () if says("map, expected a sequence") => {
                    error.hint("there may be several: [[image]], [[chart]], [[file]]")
                }
                () if says("expected a sequence") => error.hint("write a list: [\"linux/amd64\"]"),
                () => error,
            }
        })?;
        if *raw.schema.get_ref() != 1 {
            return Err(page.wrong(Some(raw.schema.span()), "this version reads schema 1"));
        }
        if raw.image.is_empty() && raw.chart.is_empty() && raw.file.is_empty() {
            return Err(page.wrong(None, "no [[image]], [[chart]] or [[file]]: there is nothing to ship"));
        }
        let mut gathered = Gathered::default();
        for image in &raw.image {
            page.image(&raw, image, directory, &mut gathered)?;
        }
        for chart in &raw.chart {
            page.chart(&raw, chart, directory, &mut gathered)?;
        }
        for file in &raw.file {
            page.file(&raw, file, directory, &mut gathered)?;
        }
        gathered.find_only_ones();
        let called: BTreeSet<&str> = gathered.called.iter().map(String::as_str).collect();
        let (mut rules, cosign) =
            page.policy(raw.policy, raw.tier, &called, directory, &raw.image, &mut gathered.images)?;
        rules.licensed = raw.license.is_some();
        rules.promoted = gathered.images.iter().any(|variant| variant.promotion.is_some());
        let trust_root = raw.trust_root.map(|path| next_root(&directory.join(path))).transpose()?;
        Ok(Manifest {
            upgrades_from: raw.upgrades_from,
            license: raw.license,
            trust_root,
            name: raw.name,
            version: raw.version,
            tier: raw.tier,
            channel: raw.channel,
            sequence: raw.sequence,
            expires: raw.expires,
            rules,
            cosign,
            images: gathered.images,
        })
    }

    /// Keeps what the command line asks for.
    ///
    /// # Errors
    /// `EmptySelection` where a name fits nothing: a typing error must not make a smaller bundle.
    pub fn narrow(&mut self, narrow: &Narrow) -> Result<()> {
        let wants: Vec<_> = self.images.iter().map(|variant| variant.want.clone()).collect();
        let kept = narrow.apply(wants)?;
        let kept_names: HashSet<_> = kept.iter().map(|want| want.source.clone()).collect();
        self.images.retain(|variant| kept_names.contains(&variant.want.source));
        for (variant, want) in self.images.iter_mut().zip(kept) {
            variant.want = want;
        }
        Ok(())
    }
}

impl Narrow {
    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.images.is_empty() && self.variants.is_empty() && self.platforms.is_empty()
    }

    /// Keeps those wants that are asked for, restricted to the platforms that are asked for.
    pub fn apply(&self, mut wants: Vec<Want>) -> Result<Vec<Want>> {
        known("--image", &self.images, wants.iter().map(|want| want.image.as_str()))?;
        let variants =
            wants.iter().map(|want| want.variant.as_str()).filter(|variant| !belongs_to_all(variant));
        known("--variant", &self.variants, variants)?;
        let asked = |list: &[String], value: &String| list.is_empty() || list.contains(value);
        let variant = |value: &String| belongs_to_all(value) || asked(&self.variants, value);
        wants.retain(|want| asked(&self.images, &want.image) && variant(&want.variant));
        if wants.is_empty() {
            return Err(Error::new(
                Kind::EmptySelection,
                "no image is both of the images and of the variants asked for",
            ));
        }
        if !self.platforms.is_empty() {
            for want in &mut wants {
                want.selection.only = Some(Only { required: self.platforms.clone(), optional: Vec::new() });
            }
        }
        Ok(wants)
    }
}

/// The trust store that a release carries. Whoever makes one by mistake learns it here and not at the sites.
fn next_root(directory: &Path) -> Result<Root> {
    let root = Root::load(directory)?;
    match root.keyring(&directory.display().to_string())?.version() {
        0 => Err(Error::new(Kind::TrustStore, "a trust store that travels needs a version")
            .at(directory.display())
            .expected("version = N in its trust.toml, one more than at the sites")),
        _ => Ok(root),
    }
}

fn known<'a>(flag: &str, asked: &[String], there: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut there: Vec<_> = there.collect();
    there.sort_unstable();
    there.dedup();
    match asked.iter().find(|name| !there.contains(&name.as_str())) {
        Some(name) => Err(Error::new(Kind::EmptySelection, format!("{flag} fits nothing"))
            .got(name)
            .expected(match there.as_slice() {
                [] => "nothing: there are only charts and files, which belong to every variant".to_owned(),
                there => format!("one of {}", there.join(", ")),
            })),
        None => Ok(()),
    }
}

/// What was read so far. No name is given twice.
#[derive(Default)]
struct Gathered {
    images: Vec<Variant>,
    called: HashSet<String>,
    names: HashSet<Name>,
}

impl Gathered {
    /// Where a place is named for one image alone, it need not be called anything there.
    fn find_only_ones(&mut self) {
        let places: Vec<Files> =
            self.images.iter().filter_map(|variant| Some(variant.files.as_ref()?.0.clone())).collect();
        for (files, finding) in self.images.iter_mut().filter_map(|variant| variant.files.as_mut()) {
            let alone = places.iter().filter(|other| *other == files).count() == 1;
            if alone && *finding == Finding::BareTag {
                *finding = Finding::Only;
            }
        }
    }
}

/// The text being read, for saying where something is wrong.
struct Page<'a> {
    text: &'a str,
    place: &'a str,
}

impl Page<'_> {
    fn wrong(&self, span: Option<Range<usize>>, what: impl Into<String>) -> Error {
        let error = Error::new(Kind::ManifestInvalid, what);
        let Some(span) = span else { return error.at(self.place) };
        let (line, column) = line_and_column(self.text, span.start);
        error.at(format_args!("{}:{line}:{column}", self.place))
    }

    fn image(
        &self,
        raw: &RawManifest,
        image: &Spanned<RawImage>,
        directory: &Path,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let (span, image) = (image.span(), image.get_ref());
        let homes = self.homes((&image.registry, &image.registries), (&raw.registry, &raw.registries))?;
        let (registry, homes) = homes.ok_or_else(|| {
            self.wrong(Some(span), "no registry, neither for this image nor for the file")
                .hint("registry = \"registry.example.com\"")
        })?;
        self.check_image(image)?;
        self.call(&image.name, gathered)?;
        let mut files = self.files(image, directory)?;
        let own = || Name {
            registry: registry.clone(),
            repository: image.repository.clone(),
            // Which tag it has does not matter where another takes its place.
            tag: Digest::of(b"").fallback_tag(),
        };
        let mut promotions = self.promotions(image, own, directory, &raw.version)?;
        let budget = image.budget.as_ref().map(|budget| self.budget(budget)).transpose()?;
        let unpacked_budget = image.unpacked_budget.as_ref().map(|budget| self.budget(budget)).transpose()?;
        for (variant, template) in image.tags.get_ref() {
            let tags = self.names(image, variant, template, &raw.version)?;
            let name = |tag: &Tag| Name { tag: tag.clone(), ..own() };
            if let Some(twice) = tags.iter().map(name).find(|name| !gathered.names.insert(name.clone())) {
                let what = format!("two variants would be called {twice}");
                return Err(self
                    .wrong(Some(template.span()), what)
                    .hint("give each variant a tag of its own"));
            }
            let reports = Reports {
                files: self.reports(image, variant, &tags, &raw.version, directory)?,
                alone: image.referrers.or(raw.referrers) == Some(false),
            };
            let files = files.remove(variant);
            let tag = tags.first().ok_or_else(|| self.wrong(Some(template.span()), "no tag"))?;
            let want = Want {
                image: image.name.get_ref().clone(),
                variant: variant.clone(),
                source: name(tag),
                target: self.target(image, variant, template, files.as_ref())?,
                selection: Selection { without: Vec::new(), only: self.platforms(raw, image)? },
                attachments: match reports.alone && reports.files.is_empty() {
                    true => Attachments::Left,
                    false => Attachments::Asked,
                },
                tags,
            };
            gathered.images.push(Variant {
                want,
                files,
                homes: homes.clone(),
                promotion: promotions.remove(variant),
                made: None,
                reports,
                budget,
                unpacked_budget,
                cosign: Vec::new(),
            });
        }
        Ok(())
    }

    /// The tags of a variant; where it is asked for by digest, the one that follows from that.
    fn names(
        &self,
        image: &RawImage,
        variant: &str,
        template: &Spanned<String>,
        version: &Version,
    ) -> Result<Vec<Tag>> {
        match self.digest(template)? {
            Some(digest) => {
                self.check_digest(template, image, variant)?;
                Ok(vec![digest.fallback_tag()])
            }
            None => self.tags(template, &image.also_tag, version),
        }
    }

    /// How a variant's top document is found.
    fn target(
        &self,
        image: &RawImage,
        variant: &str,
        template: &Spanned<String>,
        files: Option<&(Files, Finding)>,
    ) -> Result<Target> {
        let Some(digest) = self.digest(template)? else {
            return Ok(Target::Tagged { pin: image.pin.get(variant).map(|pin| *pin.get_ref()) });
        };
        match files {
            Some((Files { transport: Transport::DockerArchive, .. }, _)) => Err(self
                .wrong(Some(template.span()), "a docker archive keeps no manifests, so none can be asked for by digest")
                .got(digest)
                .hint("its digests are those of configs, which are image ids: source = \"docker-archive:FILE:@sha256:…\"")),
            _ => Ok(Target::Digest(digest)),
        }
    }

    /// A name that people use: one for each image, chart or file.
    fn call(&self, called: &Spanned<String>, gathered: &mut Gathered) -> Result<()> {
        let name = called.get_ref();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(self.wrong(Some(called.span()), "an image's name has letters, digits, '.', '_', '-'"));
        }
        match gathered.called.insert(name.clone()) {
            true => Ok(()),
            false => Err(self
                .wrong(Some(called.span()), format!("two images are called {name:?}"))
                .hint("names are for images, charts and files together: give one of them another name = …")),
        }
    }

    /// What is right or wrong about an image by itself.
    fn check_image(&self, image: &RawImage) -> Result<()> {
        if let Some((variant, tag)) = image.tags.get_ref().iter().find(|(variant, _)| belongs_to_all(variant))
        {
            return Err(self
                .wrong(Some(tag.span()), format!("{variant:?} is not free to be a variant's name"))
                .hint("it says of charts and files what they are"));
        }
        if image.tags.get_ref().is_empty() {
            return Err(self.wrong(Some(image.tags.span()), "no tags: each variant needs one"));
        }
        match image.pin.iter().find(|(variant, _)| !image.tags.get_ref().contains_key(*variant)) {
            Some((variant, pin)) => {
                Err(self
                    .wrong(Some(pin.span()), format!("a pin for {variant:?}, which is not among the tags")))
            }
            None => Ok(()),
        }
    }

    fn platforms(&self, raw: &RawManifest, image: &RawImage) -> Result<Option<Only>> {
        let required = image.platforms.as_ref().or(raw.platforms.as_ref());
        let optional = image.optional_platforms.as_ref().unwrap_or(&raw.optional_platforms);
        match required {
            Some(required) if required.get_ref().is_empty() => {
                Err(self.wrong(Some(required.span()), "an empty list of platforms; leave it out to take all"))
            }
            Some(required) => {
                Ok(Some(Only { required: required.get_ref().clone(), optional: optional.clone() }))
            }
            None => Ok(None),
        }
    }

    /// The digest that stands where a tag could: the image is asked for by it, and gets a tag that follows from it,
    /// because what has no tag is swept away by registries that clean up.
    fn digest(&self, template: &Spanned<String>) -> Result<Option<Digest>> {
        let text = template.get_ref().trim_start_matches('@');
        match text.contains(':') {
            true => text.parse().map(Some).map_err(|e: Error| {
                self.wrong(Some(template.span()), e.sentence())
                    .hint("a tag has no colon, and a digest is sha256: and 64 lower-case hex digits")
            }),
            false => Ok(None),
        }
    }

    /// What can be said of a tag cannot be said of a digest.
    fn check_digest(&self, template: &Spanned<String>, image: &RawImage, variant: &str) -> Result<()> {
        if let Some(further) = image.also_tag.first() {
            return Err(self.wrong(
                Some(further.span()),
                format!(
                    "also_tag takes the place of {{version}}, which the digest of {variant:?} does not have"
                ),
            ));
        }
        match image.pin.get(variant) {
            None => Ok(()),
            Some(pin) => Err(self
                .wrong(Some(pin.span()), format!("a pin for {variant:?}, which is asked for by digest"))
                .hint(format_args!("{} is all that is accepted already", template.get_ref()))),
        }
    }

    /// The variant's own tag, then the further ones: each `also_tag` in `{version}`'s place.
    fn tags(
        &self,
        template: &Spanned<String>,
        also: &[Spanned<String>],
        version: &Version,
    ) -> Result<Vec<Tag>> {
        let mut tags = vec![self.tag(template, template.get_ref(), version)?];
        for further in also {
            if !template.get_ref().contains("{version}") {
                return Err(self.wrong(
                    Some(further.span()),
                    format!(
                        "also_tag takes the place of {{version}}, which the tag {:?} does not have",
                        template.get_ref()
                    ),
                ));
            }
            let tag =
                self.tag(further, &template.get_ref().replace("{version}", further.get_ref()), version)?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    fn tag(&self, origin: &Spanned<String>, template: &str, version: &Version) -> Result<Tag> {
        let mut tag = template.replace("{version}", &version.to_string());
        for (number, word) in ["{major}", "{minor}", "{patch}"].into_iter().enumerate() {
            if !tag.contains(word) {
                continue;
            }
            let value = version.number(number).ok_or_else(|| {
                self.wrong(Some(origin.span()), format!("the version {version} has no {word}"))
            })?;
            tag = tag.replace(word, value);
        }
        tag.parse().map_err(|e: Error| {
            self.wrong(Some(origin.span()), e.sentence())
                .hint("templates are {version}, {major}, {minor} and {patch}")
        })
    }

    /// What each variant is taken from; a variant that is not in it, from its registry.
    fn files(&self, image: &RawImage, directory: &Path) -> Result<BTreeMap<String, (Files, Finding)>> {
        let variants = image.tags.get_ref();
        let Some(source) = &image.source else { return Ok(BTreeMap::new()) };
        match source.get_ref() {
            RawSource::All(text) => {
                let found = self.place(source.span(), text, directory)?;
                if matches!(found.1, Finding::Picked(_)) && variants.len() > 1 {
                    return Err(self
                        .wrong(Some(source.span()), "one reference for several variants")
                        .hint("name one for each: source = { standard = \"oci:DIRECTORY:REFERENCE\", … }"));
                }
                Ok(variants.keys().map(|variant| (variant.clone(), found.clone())).collect())
            }
            RawSource::Each(sources) => sources
                .iter()
                .map(|(variant, text)| match variants.contains_key(variant.get_ref()) {
                    true => {
                        let found = self.place(text.span(), text.get_ref(), directory)?;
                        Ok((variant.get_ref().clone(), found))
                    }
                    false => {
                        let what =
                            format!("a source for {:?}, which is not among the tags", variant.get_ref());
                        Err(self.wrong(Some(variant.span()), what))
                    }
                })
                .collect(),
        }
    }

    fn place(&self, span: Range<usize>, text: &str, directory: &Path) -> Result<(Files, Finding)> {
        let (files, pick) = Files::parse(text).map_err(|error| self.wrong(Some(span), error.sentence()))?;
        Ok((files.below(directory), pick.map_or(Finding::BareTag, Finding::Picked)))
    }

    fn budget(&self, budget: &Spanned<String>) -> Result<u64> {
        let bytes = crate::release::byte_count(budget.get_ref());
        bytes.ok_or_else(|| {
            self.wrong(Some(budget.span()), "a budget is a whole number with a unit, such as 100MB or 95MiB")
        })
    }
}
