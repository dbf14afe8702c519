//! Where evidence lies: attached to an image or to one of its builds (as a referrer, or under cosign's tags), or beside
//! the builds in the image's own index, as BuildKit puts it. A plan knows all of these documents; which of their layers
//! may be evidence follows from media types, what they are from their content.

use std::collections::{HashMap, HashSet};

use super::read::{is_its_own, read};
use super::report::{Package, Report};
use crate::content::Source;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, Document, MediaType, Platform, Role};
use crate::plan::Plan;

/// How it is known that a report belongs to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its document names the subject, or lies under a tag that does.
    Attached,
    /// It stands beside the build in the image's index.
    Beside,
}

/// A blob that may be a report.
#[derive(Clone, Debug)]
pub struct Place {
    /// The document that names it.
    pub document: Digest,
    /// The blob.
    pub blob: Descriptor,
    /// What it belongs to: one of the image's own documents.
    pub subject: Digest,
    /// How that is known.
    pub way: Way,
    /// Whether its media types say that it is a report, so that it has to be one.
    pub declared: bool,
    /// Whether they say that it is no SBOM.
    pub scan: bool,
}

/// A report that was read; or one that could not be.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it lies.
    pub place: Place,
    /// The builds that it is about, by their numbers among the image's `platforms`.
    pub builds: Vec<usize>,
    /// The report, or why it says nothing.
    pub report: Result<Report, Trouble>,
}

/// What is wrong with a report whose bytes are those that were meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be read.
    Unreadable(String),
    /// It is about something else.
    Another {
        /// A digest that it names.
        named: Digest,
        /// Whether it is an SBOM, or else a scan report.
        sbom: bool,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Unreadable(why) => f.write_str(why),
            Trouble::Another { named, .. } => write!(f, "a report about another digest, {named}"),
        }
    }
}

/// Words of media types that evidence has. What is under another one is nothing of interest.
const WORDS: [&str; 8] = ["spdx", "cyclonedx", "sarif", "trivy", "aquasec", "grype", "sbom", "vuln"];

/// Those of them that say that it is a scan report.
const SCANS: [&str; 5] = ["sarif", "trivy", "aquasec", "grype", "vuln"];

/// Words of what may be anything.
const ENVELOPES: [&str; 3] = ["in-toto", "dsse", "sigstore.bundle"];

/// What a media type says: nothing, that it may be evidence, or that it is.
fn says(media_type: &str) -> (bool, bool) {
    let text = media_type.to_ascii_lowercase();
    // Nobody reads these: SPDX's tag-value form, CycloneDX as XML or protobuf.
    let json = !text.ends_with("xml") && text != "text/spdx" && !text.ends_with("protobuf");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    (json && (has(&WORDS) || has(&ENVELOPES)), json && has(&WORDS))
}

/// The digests by which reports name an image: those of its documents, and of its builds' configs (which Docker calls
/// image ids).
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Digests that name the image as a whole: its indexes.
    pub whole: Vec<Digest>,
    /// For each build, its manifest's and its config's.
    pub builds: Vec<[Option<Digest>; 2]>,
    /// Those of manifests that were left out.
    pub left: Vec<Digest>,
}

impl Identity {
    /// An image's, as the plan has it.
    pub fn of(plan: &Plan, image: usize) -> Self {
        let (Some(facts), Some(root)) = (plan.images.get(image), plan.roots.get(image)) else {
            return Identity::default();
        };
        let mut identity = Identity::default();
        let mut configs = HashMap::new();
        for node in own(plan, *root).into_iter().filter_map(|number| plan.nodes.get(number)) {
            let config = || plan.nodes.get(*node.children.first()?).map(|config| config.descriptor.digest);
            match node.descriptor.role {
                Role::Index => identity.whole.push(node.descriptor.digest),
                Role::Manifest => _ = configs.insert(node.descriptor.digest, config()),
                Role::Config | Role::Layer => {}
            }
        }
        let build = |digest: &Digest| [Some(*digest), configs.get(digest).copied().flatten()];
        identity.left = facts.omitted.iter().filter_map(|omitted| omitted.digest).collect();
        identity.builds = facts.platforms.iter().map(|one| build(&one.digest)).collect();
        identity
    }

    /// The builds that a subject stands for: one, several that share a manifest, or all.
    fn below(&self, subject: &Digest) -> Vec<usize> {
        let all = 0..self.builds.len();
        match self.whole.contains(subject) {
            true => all.collect(),
            false => all.filter(|number| self.is(*number, subject)).collect(),
        }
    }

    fn is(&self, build: usize, digest: &Digest) -> bool {
        self.builds.get(build).is_some_and(|names| names.contains(&Some(*digest)))
    }

    /// The builds that a report is about, which was found with `subject`. One that names no digest is about whatever it was
    /// found with; one that names some must name this image, and where it names builds, only these count.
    ///
    /// # Errors
    /// A digest that it names, where it is about another image or build.
    pub fn about(&self, report: &Report, subject: &Digest) -> Result<Vec<usize>, Digest> {
        let mut builds = self.below(subject);
        for named in [&report.subjects, &report.about] {
            let Some(first) = named.first() else { continue };
            let specific = |build: &usize| named.iter().any(|digest| self.is(*build, digest));
            let any_specific = (0..self.builds.len()).any(|build| specific(&build));
            if any_specific {
                builds.retain(specific);
            }
            // About a build that was left out: nothing of what is here.
            if !any_specific && named.iter().any(|digest| self.left.contains(digest)) {
                return Ok(Vec::new());
            }
            let whole = || named.iter().any(|digest| self.whole.contains(digest) || digest == subject);
            if if any_specific { builds.is_empty() } else { !whole() } {
                return Err(*first);
            }
        }
        Ok(builds)
    }
}

/// The error that stands for a report about something else.
pub fn another(named: &Digest, subject: &Digest) -> Error {
    Error::new(Kind::PolicyRefused, "a report about another digest")
        .got(named)
        .expected(subject)
        .hint("have the report made of the image in the registry, by its digest: what was built again is another image")
}

/// The documents that an image consists of, without what is attached to it: nodes of the plan, the top first.
fn own(plan: &Plan, root: usize) -> Vec<usize> {
    let (mut found, mut seen) = (vec![root], HashSet::from([root]));
    let mut next = 0;
    while let Some(node) = found.get(next).and_then(|number| plan.nodes.get(*number)) {
        next += 1;
        if node.descriptor.role != Role::Index {
            continue;
        }
        found.extend(node.children.iter().copied().filter(|child| seen.insert(*child)));
    }
    found
}

/// Where reports on an image may lie.
///
/// # Errors
/// What the source says; `LimitExceeded` for too many.
pub async fn places(plan: &Plan, image: usize, source: &dyn Source) -> Result<Vec<Place>> {
    let Some(root) = plan.roots.get(image) else { return Ok(Vec::new()) };
    let own = own(plan, *root);
    let digests: HashSet<Digest> =
        own.iter().filter_map(|number| Some(plan.nodes.get(*number)?.descriptor.digest)).collect();
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut add = |node: usize, subject: Digest, way: Way, kind: &str| {
        if seen.insert((node, subject)) {
            layers(plan, node, subject, way, kind, &mut found);
        }
        match found.len() > limits::REPORTS {
            true => Err(Error::new(Kind::LimitExceeded, "an image has too many reports")
                .expected(format_args!("at most {}", limits::REPORTS))),
            false => Ok(()),
        }
    };
    for index in own.iter().filter_map(|number| plan.nodes.get(*number)) {
        if index.descriptor.role != Role::Index {
            continue;
        }
        let bytes = source.fetch(&index.descriptor).await?.into_bytes().await?;
        let document = Document::parse(&index.descriptor, bytes)?;
        let attests: HashMap<_, _> = document
            .children
            .iter()
            .filter_map(|child| Some((child.descriptor.digest, child.attests?)))
            .collect();
        for child in &index.children {
            let digest = plan.nodes.get(*child).map(|node| node.descriptor.digest);
            let subject =
                digest.and_then(|digest| attests.get(&digest)).filter(|subject| digests.contains(*subject));
            if let Some(subject) = subject {
                add(*child, *subject, Way::Beside, "")?;
            }
        }
    }
    for (referrer, node) in plan.referrers(image).filter(|(referrer, _)| digests.contains(&referrer.subject))
    {
        // cosign's `.sig` and `.att` say nothing in their configs' types; what `.sbom` holds is one.
        let kind = match &referrer.tag {
            Some(tag) if tag.as_str().ends_with(".sbom") => "sbom",
            _ => referrer.artifact_type.as_str(),
        };
        add(node, referrer.subject, Way::Attached, kind)?;
    }
    Ok(found)
}

/// Those of a document's layers that may be reports.
fn layers(plan: &Plan, node: usize, subject: Digest, way: Way, kind: &str, found: &mut Vec<Place>) {
    let Some(document) = plan.nodes.get(node).filter(|node| node.descriptor.role == Role::Manifest) else {
        return;
    };
    // The first one is the config.
    for blob in document.children.iter().skip(1).filter_map(|child| plan.nodes.get(*child)) {
        let blob = &blob.descriptor;
        let (may_be, is) = says(blob.media_type.as_str());
        let plain = |media_type: &MediaType| {
            matches!(
                media_type.as_str(),
                "application/json" | "application/octet-stream" | "text/plain" | "text/json"
            )
        };
        let by_kind = if plain(&blob.media_type) { says(kind) } else { Default::default() };
        if may_be || by_kind.0 {
            let (document, blob, way) = (document.descriptor.digest, blob.clone(), way.clone());
            let words = format!("{} {kind}", blob.media_type).to_ascii_lowercase();
            let scan = SCANS.iter().any(|word| words.contains(word)) && !words.contains("cyclonedx");
            found.push(Place { document, blob, subject, way, declared: is || by_kind.1, scan });
        }
    }
}

/// Reads all reports on an image. Those that cannot be read, or are about another digest, are among what is found: whoever
/// asks decides what that means. `each` gets the packages with the place that they were found in.
///
/// # Errors
/// What the source says, and what `each` says.
pub async fn gather(
    plan: &Plan,
    image: usize,
    source: &dyn Source,
    each: &mut (dyn FnMut(&Place, Package) -> Result<()> + Send),
) -> Result<Vec<Found>> {
    let identity = Identity::of(plan, image);
    let mut all = Vec::new();
    for place in places(plan, image, source).await? {
        let mut take = |package| each(&place, package);
        all.extend(look(&identity, &place, source, &mut take).await?);
    }
    Ok(all)
}

/// Reads what lies at a place; nothing where it is no report and was not said to be one.
///
/// # Errors
/// As [`gather`].
pub async fn look(
    identity: &Identity,
    place: &Place,
    source: &dyn Source,
    each: &mut (dyn FnMut(Package) -> Result<()> + Send),
) -> Result<Option<Found>> {
    let mut refused = false;
    let mut take = |package| each(package).inspect_err(|_| refused = true);
    let read = report(place, source, &mut take).await;
    let report = match read {
        Ok(None) if !place.declared => return Ok(None),
        Ok(None) => Err(Trouble::Unreadable("neither an SBOM nor a scan report".to_owned())),
        Ok(Some(report)) => Ok(report),
        Err(error) if is_its_own(&error) && !refused => Err(Trouble::Unreadable(error.sentence())),
        Err(error) => return Err(error),
    };
    let about = report.and_then(|report| match identity.about(&report, &place.subject) {
        Ok(builds) => Ok((report, builds)),
        Err(named) => Err(Trouble::Another { named, sbom: report.format.is_sbom() }),
    });
    let (report, builds) = match about {
        Ok((report, builds)) => (Ok(report), builds),
        Err(why) => (Err(why), identity.below(&place.subject)),
    };
    Ok(Some(Found { place: place.clone(), builds, report }))
}

async fn report(
    place: &Place,
    source: &dyn Source,
    each: &mut (dyn FnMut(Package) -> Result<()> + Send),
) -> Result<Option<Report>> {
    if place.blob.size > limits::EVIDENCE {
        return Err(Error::new(Kind::LimitExceeded, "a report is too large")
            .got(format_args!("{} bytes", place.blob.size))
            .expected(format_args!("at most {} bytes", limits::EVIDENCE)));
    }
    read(source.fetch(&place.blob).await?, each).await.map_err(|e| e.at(place.blob.digest))
}

impl Found {
    /// The platforms that it is about.
    pub fn platforms<'p>(&self, plan: &'p Plan, image: usize) -> Vec<&'p Platform> {
        let builds = plan.images.get(image).map(|image| image.platforms.as_slice()).unwrap_or_default();
        self.builds.iter().filter_map(|number| Some(&builds.get(*number)?.platform)).collect()
    }
}
