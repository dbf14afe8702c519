//! Which images are signed by cosign, and by whom. The signatures are found where cosign leaves them: under the tag
//! `sha256-<hex>.sig`, or as documents that name the image as their subject; as simple-signing payloads or as sigstore
//! bundles. Whatever a [`Source`] gives is read, a registry's or a bundle's, through the plan; nothing is asked of
//! anybody else.
//!
//! One of the keys is enough. A signature over the index counts for all its platforms; where there is none, each
//! platform's manifest must have one of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Deserialize;

use crate::content::Source;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, Platform, Role};
use crate::plan::{Node, Plan};
use crate::rules::CosignDemand;
use crate::trust::KeyId;
use crate::trust::cosign::{
    Claimed, CosignKey, Proof, SIGNATURE, SIGSTORE_BUNDLE, SIMPLE_SIGNING, is_signature,
};

/// Whose signatures are asked for.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// For every image: one of these.
    every: Vec<CosignKey>,
    /// For images of these names: one of these instead.
    own: BTreeMap<String, Vec<CosignKey>>,
}

impl Demands {
    /// One of these keys for every image.
    pub fn every(keys: Vec<CosignKey>) -> Self {
        Demands { every: keys, own: BTreeMap::new() }
    }

    /// Those that a statement records.
    ///
    /// # Errors
    /// `KeyFormat`, `KeyWeak`: whoever made the statement was to see to it.
    pub fn of_record(record: &[CosignDemand]) -> Result<Self> {
        let mut demands = Demands::default();
        for CosignDemand { image, keys } in record {
            let keys = keys.iter().map(|key| CosignKey::from_pem(key)).collect::<Result<Vec<_>>>()?;
            match image {
                None => demands.every = keys,
                Some(image) => _ = demands.own.insert(image.clone(), keys),
            }
        }
        Ok(demands)
    }

    /// As a statement records them.
    pub fn record(&self) -> Result<Vec<CosignDemand>> {
        let every = (!self.every.is_empty()).then_some((None, &self.every));
        let own = self.own.iter().map(|(image, keys)| (Some(image.clone()), keys));
        let record = |(image, keys): (Option<String>, &Vec<CosignKey>)| {
            Ok(CosignDemand { image, keys: keys.iter().map(CosignKey::to_pem).collect::<Result<_>>()? })
        };
        every.into_iter().chain(own).map(record).collect()
    }

    /// With one of these keys for the images of a name.
    pub fn with(mut self, image: &str, keys: Vec<CosignKey>) -> Self {
        self.own.insert(image.to_owned(), keys);
        self
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.every.is_empty() && self.own.is_empty()
    }

    /// The keys of which one must have signed the image of this name.
    pub fn keys(&self, image: &str) -> &[CosignKey] {
        self.own.get(image).unwrap_or(&self.every)
    }
}

/// What an image's signatures are worth.
#[derive(Clone, Debug)]
pub struct CosignFacts {
    /// The keys that were asked for.
    pub keys: Vec<KeyId>,
    /// Those over its top document.
    pub top: Standing,
    /// Those over each manifest below it, and its platform where it names one; not looked at where the index above them is
    /// signed.
    pub builds: Vec<(Option<Platform>, Standing)>,
}

/// What the signatures over one document are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Signed by one of the keys.
    Signed(KeyId),
    /// There is one by this key, but over another document.
    Elsewhere(KeyId, Digest),
    /// There is one by this key, but over the hash of the payload (Ed25519ph).
    Prehashed(KeyId),
    /// There is something that cannot be read as a signature.
    Malformed(String),
    /// There are so many, by none of the keys, or over something else than they come with.
    Foreign(usize),
    /// There is none.
    Absent,
}

impl Standing {
    /// Of two, the one that says more.
    fn or(self, other: Standing) -> Standing {
        match (self, other) {
            (Standing::Foreign(one), Standing::Foreign(other)) => {
                Standing::Foreign(one.saturating_add(other))
            }
            (one, other) if other.weight() > one.weight() => other,
            (one, _) => one,
        }
    }

    fn weight(&self) -> u8 {
        match self {
            Standing::Signed(_) => 5,
            Standing::Elsewhere(..) => 4,
            Standing::Prehashed(_) => 3,
            Standing::Malformed(_) => 2,
            Standing::Foreign(_) => 1,
            Standing::Absent => 0,
        }
    }

    fn is_signed(&self) -> bool {
        matches!(self, Standing::Signed(_))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Signed(key) => write!(f, "signed by {key}"),
            Standing::Elsewhere(key, digest) => {
                write!(f, "a cosign signature for another digest: {digest}, by {}", key.short())
            }
            Standing::Prehashed(key) => {
                write!(
                    f,
                    "a pre-hashed cosign signature (Ed25519ph) by {}: sign again with cosign sign --tlog-upload=false",
                    key.short()
                )
            }
            Standing::Malformed(why) => write!(f, "a malformed cosign signature: {why}"),
            Standing::Foreign(1) => {
                f.write_str("one cosign signature, by none of these keys or over another payload")
            }
            Standing::Foreign(count) => {
                write!(f, "{count} cosign signatures, by none of these keys or over other payloads")
            }
            Standing::Absent => f.write_str("no cosign signature"),
        }
    }
}

/// Something that is not signed as it must be.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// The platform, where not the image as a whole is meant.
    pub platform: Option<Platform>,
    /// What there is.
    pub got: String,
    /// What should be there.
    pub expected: String,
}

impl CosignFacts {
    /// What is not signed as it must be; nothing where the image is.
    pub fn unsigned(&self) -> Vec<Unsigned> {
        let signed = self.builds.iter().filter(|(_, standing)| standing.is_signed()).count();
        if self.top.is_signed() || (signed > 0 && signed == self.builds.len()) {
            return Vec::new();
        }
        let by: Vec<_> = self.keys.iter().map(KeyId::short).collect();
        let by = format!("a cosign signature by {}", by.join(" or "));
        // Whoever signs platforms one by one hears which one was forgotten; all others, that the image is not signed.
        match signed {
            0 => {
                let both = if self.builds.is_empty() {
                    ""
                } else {
                    ", over the index or over each platform's manifest"
                };
                let builds = self.builds.iter().map(|(_, standing)| standing.clone());
                let got = builds.fold(self.top.clone(), Standing::or).to_string();
                vec![Unsigned { platform: None, got, expected: format!("{by}{both}") }]
            }
            _ => {
                let missing = self.builds.iter().filter(|(_, standing)| !standing.is_signed());
                let missing = missing.map(|(platform, standing)| Unsigned {
                    platform: platform.clone(),
                    got: standing.to_string(),
                    expected: format!("{by}, as other platforms have one and the index has none"),
                });
                missing.collect()
            }
        }
    }

    /// For people: by whom what is signed.
    pub fn signed(&self) -> Option<String> {
        match (&self.top, self.builds.first()) {
            (Standing::Signed(key), _) => Some(format!("signed by {}", key.short())),
            (_, Some((_, Standing::Signed(key)))) if self.unsigned().is_empty() => {
                Some(format!("each platform signed, by {}", key.short()))
            }
            _ => None,
        }
    }
}

/// Looks at the signatures of one of the plan's images.
///
/// # Errors
/// The source's own; `LimitExceeded`. What is wrong with signatures is in the facts.
pub async fn verify(
    plan: &Plan,
    image: usize,
    source: &dyn Source,
    keys: &[CosignKey],
) -> Result<CosignFacts> {
    let Some(one) = plan.images.get(image) else {
        return Ok(CosignFacts { keys: Vec::new(), top: Standing::Absent, builds: Vec::new() });
    };
    let mut found = Look { plan, source, keys, standings: HashMap::new(), seen: 0 };
    for (referrer, node) in plan.referrers(image) {
        found.document(referrer.subject, node).await.map_err(|e| e.about(one.label()))?;
    }
    let standing = |digest: &Digest| found.standings.get(digest).cloned().unwrap_or(Standing::Absent);
    let top = standing(&one.digest);
    let builds = match top.is_signed() {
        true => Vec::new(),
        false => manifests(plan, image),
    };
    let builds = builds.into_iter().map(|(platform, digest)| (platform, standing(&digest)));
    Ok(CosignFacts { keys: keys.iter().map(CosignKey::id).collect(), builds: builds.collect(), top })
}

/// The manifests below an image's index, each with its platform. Those that no platform stands at count, too: somebody
/// could run them. Attestations, which BuildKit puts beside what they speak of, do not.
fn manifests(plan: &Plan, image: usize) -> Vec<(Option<Platform>, Digest)> {
    let platforms = plan.images.get(image).map_or(&[][..], |image| &image.platforms);
    let root = plan.roots.get(image).copied();
    let mut ahead: Vec<usize> = root.into_iter().collect();
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    while let Some(number) = ahead.pop() {
        let Some(node) = plan.nodes.get(number).filter(|_| seen.insert(number)) else { continue };
        if node.descriptor.role == Role::Index {
            ahead.extend(node.children.iter().rev());
            continue;
        }
        let digest = node.descriptor.digest;
        let before = found.len();
        let listed = platforms.iter().filter(|build| build.digest == digest);
        found.extend(listed.map(|build| (Some(build.platform.clone()), digest)));
        let layers = node.children.iter().skip(1).filter_map(|child| plan.nodes.get(*child));
        let attests = |layer: &Node| layer.descriptor.media_type.as_str() == ATTESTATION;
        let mut layers = layers.peekable();
        let is_attestation = layers.peek().is_some() && layers.all(attests);
        if found.len() == before && !is_attestation && Some(number) != root {
            found.push((None, digest));
        }
    }
    found.retain(|(_, digest)| plan.images.get(image).is_none_or(|image| image.digest != *digest));
    found
}

/// What the layers of an attestation are (in-toto attestation framework, "Media type").
const ATTESTATION: &str = "application/vnd.in-toto+json";

/// Requires what is demanded of all images that one source has. Nothing is asked of charts and files: nobody signs files
/// that were not yet an artifact.
///
/// # Errors
/// `SignatureUntrusted` for the first image that is not signed as it must be.
pub async fn require(plan: &Plan, source: &dyn Source, demands: &Demands) -> Result<()> {
    for (number, image) in plan.images.iter().enumerate() {
        let keys = demands.keys(&image.name);
        if keys.is_empty() || !is_asked(&image.variant) {
            continue;
        }
        let facts = verify(plan, number, source, keys).await?;
        if let Some(Unsigned { platform, got, expected }) = facts.unsigned().into_iter().next() {
            let place = match platform {
                Some(platform) => format!("{} {platform}", image.label()),
                None => image.label(),
            };
            return Err(Error::new(
                Kind::SignatureUntrusted,
                "an image is not signed by cosign as it must be",
            )
            .at(place)
            .got(got)
            .expected(expected)
            .hint(HINT));
        }
    }
    Ok(())
}

/// What to do about it.
pub const HINT: &str = "sign it where it was built: cosign sign --key cosign.key REPOSITORY@DIGEST; or name the right public key";

/// Whether images of this variant are signed by cosign: charts and files are not.
fn is_asked(variant: &str) -> bool {
    !matches!(variant, "chart" | "file")
}

/// The content that must be at hand for [`verify`] beside the documents.
pub fn payloads(plan: &Plan) -> Vec<&Descriptor> {
    let documents = plan.attached.iter().flatten().filter_map(|node| plan.nodes.get(*node));
    let children = documents.flat_map(|node| &node.children).filter_map(|child| plan.nodes.get(*child));
    let mut payloads: Vec<_> =
        children.map(|child| &child.descriptor).filter(|one| is_payload(one)).collect();
    payloads.sort_by_key(|one| one.digest);
    payloads.dedup_by_key(|one| one.digest);
    payloads
}

fn is_payload(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type.as_str();
    (kind == SIMPLE_SIGNING || kind == SIGSTORE_BUNDLE) && descriptor.size <= limits::COSIGN_PAYLOAD
}

/// What is being learned of one image.
struct Look<'a> {
    plan: &'a Plan,
    source: &'a dyn Source,
    keys: &'a [CosignKey],
    standings: HashMap<Digest, Standing>,
    seen: usize,
}

/// What is read of a manifest with signatures.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Look<'_> {
    /// A document that is attached to `subject`.
    async fn document(&mut self, subject: Digest, node: usize) -> Result<()> {
        let Some(node) = self.plan.nodes.get(node) else { return Ok(()) };
        let children: Vec<_> = node.children.iter().filter_map(|child| self.plan.nodes.get(*child)).collect();
        let holds = children
            .iter()
            .any(|child| matches!(child.descriptor.media_type.as_str(), SIMPLE_SIGNING | SIGSTORE_BUNDLE));
        if node.descriptor.role != Role::Manifest || !holds {
            return Ok(());
        }
        let bytes = self.source.fetch(&node.descriptor).await?.into_bytes().await?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(Kind::DocumentInvalid, "not a valid OCI document").got(e))?;
        for layer in &manifest.layers {
            let child = children.iter().find(|child| child.descriptor.digest == layer.digest);
            let signs = match layer.media_type.as_str() {
                SIMPLE_SIGNING => true,
                // Attestations are of this type, too.
                SIGSTORE_BUNDLE => is_signature(&manifest.annotations),
                _ => false,
            };
            let Some(child) = child.filter(|_| signs) else { continue };
            self.seen = self.seen.saturating_add(1);
            if self.seen > limits::COSIGN_SIGNATURES {
                return Err(Error::new(Kind::LimitExceeded, "an image has too many cosign signatures")
                    .expected(format_args!("at most {}", limits::COSIGN_SIGNATURES)));
            }
            let standing = self.layer(subject, layer, &child.descriptor).await?;
            let before = self.standings.remove(&subject).unwrap_or(Standing::Absent);
            self.standings.insert(subject, before.or(standing));
        }
        Ok(())
    }

    /// One signature, or one envelope of several.
    async fn layer(&self, subject: Digest, layer: &Layer, descriptor: &Descriptor) -> Result<Standing> {
        if descriptor.size > limits::COSIGN_PAYLOAD {
            return Ok(Standing::Malformed(format!(
                "{} bytes, expected at most {}",
                descriptor.size,
                limits::COSIGN_PAYLOAD
            )));
        }
        let bytes = self.source.fetch(descriptor).await?.into_bytes().await?;
        let claimed = match layer.media_type.as_str() {
            SIMPLE_SIGNING => Claimed::simple(&bytes, layer.annotations.get(SIGNATURE).map(String::as_str)),
            _ => Claimed::bundle(&bytes),
        };
        Ok(claimed
            .map_or_else(|e| Standing::Malformed(e.sentence()), |claimed| self.judge(subject, &claimed)))
    }

    /// Verified first, then parsed.
    fn judge(&self, subject: Digest, claimed: &Claimed) -> Standing {
        let key = match claimed.proof(self.keys) {
            None => return Standing::Foreign(claimed.count()),
            Some((key, Proof::MadePrehashed)) => return Standing::Prehashed(key.id()),
            Some((key, _)) => key.id(),
        };
        match claimed.subject() {
            Ok(Some(digest)) if digest == subject => Standing::Signed(key),
            Ok(Some(digest)) => Standing::Elsewhere(key, digest),
            Ok(None) => Standing::Absent,
            Err(error) => Standing::Malformed(error.sentence()),
        }
    }
}
