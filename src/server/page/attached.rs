//! What belongs to an image without being part of it: signatures, SBOMs, scan results, attestations.
//! What it is follows from its media types, and is never looked for inside.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Platform, Repository, Tag};

/// A manifest that refers to an image, or to one of its builds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// What it is.
    pub kind: Kind,
    /// Its type, in its own words.
    pub artifact_type: String,
    /// The repository that it is in.
    pub repository: Repository,
    /// Its digest.
    pub digest: Digest,
    /// Bytes of the manifest and its files.
    pub size: u64,
    /// What it belongs to.
    pub subject: Digest,
    /// The platform of that.
    pub platform: Option<Platform>,
    /// What it holds.
    pub files: Vec<File>,
}

/// A blob of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// What it is.
    pub kind: Kind,
    /// What it is, for people: `SBOM (SPDX)`.
    pub label: &'static str,
    /// Its media type.
    pub media_type: String,
    /// What an attestation is about (in-toto's `predicateType`).
    pub predicate_type: Option<String>,
    /// Its name, where it was given one.
    pub title: Option<String>,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// Kinds of attached content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A list of what is inside.
    Sbom,
    /// What a scanner found.
    Scan,
    /// Which findings matter.
    Vex,
    /// How it was built.
    Provenance,
    /// Who vouches for it.
    Signature,
    /// Another statement about it.
    Attestation,
    /// Something else.
    Other,
}

/// Words in media types and predicate types, the telling ones first: a scan result may be an attestation,
/// too, and an attestation is signed.
const WORDS: [(&str, Kind, &str); 19] = [
    ("cosign/sign/", Kind::Signature, "Signature (cosign)"),
    ("spdx", Kind::Sbom, "SBOM (SPDX)"),
    ("cyclonedx", Kind::Sbom, "SBOM (CycloneDX)"),
    ("syft", Kind::Sbom, "SBOM (Syft)"),
    ("openvex", Kind::Vex, "VEX (OpenVEX)"),
    ("sarif", Kind::Scan, "Scan result (SARIF)"),
    ("trivy", Kind::Scan, "Scan result (Trivy)"),
    ("aquasec", Kind::Scan, "Scan result (Trivy)"),
    ("grype", Kind::Scan, "Scan result (Grype)"),
    ("vuln", Kind::Scan, "Scan result"),
    ("slsa", Kind::Provenance, "Provenance (SLSA)"),
    ("provenance", Kind::Provenance, "Provenance"),
    ("simplesigning", Kind::Signature, "Signature (cosign)"),
    ("cosign.artifact.sig", Kind::Signature, "Signature (cosign)"),
    ("notary.signature", Kind::Signature, "Signature (Notation)"),
    ("sigstore.bundle", Kind::Attestation, "Sigstore bundle"),
    ("dsse", Kind::Attestation, "Attestation (signed)"),
    ("in-toto", Kind::Attestation, "Attestation (in-toto)"),
    ("sbom", Kind::Sbom, "SBOM"),
];

/// Annotations in which tools say what an attestation is about: BuildKit, cosign, cosign's bundles.
const PREDICATES: [&str; 3] =
    ["in-toto.io/predicate-type", "predicateType", "dev.sigstore.bundle.predicateType"];

/// What the words of a type say it is.
fn kind(types: &[&str]) -> (Kind, &'static str) {
    let found = types.iter().find_map(|text| {
        let text = text.to_ascii_lowercase();
        WORDS.iter().find(|(word, _, _)| text.contains(word))
    });
    found.map_or((Kind::Other, "Other content"), |(_, kind, label)| (*kind, label))
}

/// What is read of a document here: leniently, for a store keeps more kinds of them than a bundle.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sketch {
    /// What it calls itself.
    pub artifact_type: Option<String>,
    /// A manifest's config.
    pub config: Option<Entry>,
    /// A manifest's layers.
    pub layers: Option<Vec<Entry>>,
    /// An index's children.
    pub manifests: Option<Vec<Entry>>,
    /// Whatever else.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A descriptor in it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// What it is.
    pub media_type: String,
    digest: String,
    /// Its bytes.
    pub size: u64,
    platform: Option<Fields>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Entry {
    /// Its digest, if it is one that this registry knows.
    pub fn digest(&self) -> Option<Digest> {
        self.digest.parse().ok()
    }

    /// Its platform.
    pub fn platform(&self) -> Option<Platform> {
        let fields = self.platform.as_ref()?;
        Platform::new(&fields.os, &fields.architecture, fields.variant.as_deref())
    }

    /// The manifest that it speaks of (BuildKit's attestations, which stand in the image's own index).
    pub fn attests(&self) -> Option<Digest> {
        self.annotation("vnd.docker.reference.digest")?.parse().ok()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

impl Sketch {
    /// What it is, in its own words (distribution-spec, "Listing Referrers").
    pub fn kind(&self) -> Option<&str> {
        let own = self.artifact_type.as_deref().filter(|text| !text.is_empty());
        own.or_else(|| self.config.as_ref().map(|config| config.media_type.as_str()))
    }

    /// Bytes of config and layers, each counted once.
    pub fn payload(&self) -> u64 {
        let mut seen = HashSet::new();
        let parts = self.config.iter().chain(self.layers.iter().flatten());
        let new = parts.filter(|part| seen.insert(part.digest.as_str()));
        new.fold(0, |sum: u64, part| sum.saturating_add(part.size))
    }

    /// The manifest of attached content.
    pub fn attached(&self, repository: &Repository, itself: (Digest, u64), subject: Subject) -> Attached {
        let about = self.annotations.as_ref().and_then(|all| PREDICATES.iter().find_map(|key| all.get(*key)));
        let own = self.artifact_type.as_deref().unwrap_or_default();
        let files = self.layers.iter().flatten().filter_map(|layer| file(layer, about, own));
        let files: Vec<_> = files.collect();
        let artifact_type = self.kind().unwrap_or_default().to_owned();
        let kind = files.iter().map(|file| file.kind).min().unwrap_or_else(|| kind(&[&artifact_type]).0);
        let (digest, size) = itself;
        Attached {
            kind,
            artifact_type,
            repository: repository.clone(),
            digest,
            size: size.saturating_add(self.payload()),
            subject: subject.digest,
            platform: subject.platform,
            files,
        }
    }
}

fn file(layer: &Entry, about: Option<&String>, manifest: &str) -> Option<File> {
    let predicate = PREDICATES.iter().find_map(|key| layer.annotation(key)).map(str::to_owned);
    let predicate_type = predicate.or_else(|| about.cloned());
    let (kind, label) = kind(&[predicate_type.as_deref().unwrap_or_default(), &layer.media_type, manifest]);
    Some(File {
        kind,
        label,
        media_type: layer.media_type.clone(),
        predicate_type,
        title: layer.annotation("org.opencontainers.image.title").map(str::to_owned),
        digest: layer.digest()?,
        size: layer.size,
    })
}

/// What something may belong to.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its digest.
    pub digest: Digest,
    /// Its platform, where it is one platform's build.
    pub platform: Option<Platform>,
}

impl Subject {
    /// The tags under which tools leave what belongs to it where a registry knows no referrers.
    pub fn tags(&self) -> Vec<Tag> {
        let hex = self.digest.hex();
        let tags = [".sig", ".att", ".sbom"].map(|end| format!("sha256-{hex}{end}").parse().ok());
        tags.into_iter().flatten().collect()
    }
}

/// Whether a tag is no image's: cosign's, and the fallback of distribution-spec, "Referrers Tag Schema". Under the
/// latter's name there may be the image itself, which was asked for by its digest.
pub fn belongs_elsewhere(tag: &Tag) -> bool {
    tag.subject().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_types() {
        for (types, expected, label) in [
            (["https://spdx.dev/Document", "application/vnd.in-toto+json"], Kind::Sbom, "SBOM (SPDX)"),
            (["", "application/vnd.cyclonedx+json"], Kind::Sbom, "SBOM (CycloneDX)"),
            (["", "application/sarif+json"], Kind::Scan, "Scan result (SARIF)"),
            (["https://cosign.sigstore.dev/attestation/vuln/v1", ""], Kind::Scan, "Scan result"),
            (["https://slsa.dev/provenance/v1", ""], Kind::Provenance, "Provenance (SLSA)"),
            (["https://openvex.dev/ns/v0.2.0", ""], Kind::Vex, "VEX (OpenVEX)"),
            (["", "application/vnd.dev.cosign.simplesigning.v1+json"], Kind::Signature, "Signature (cosign)"),
            (["", "application/vnd.cncf.notary.signature"], Kind::Signature, "Signature (Notation)"),
            (["", "application/vnd.in-toto+json"], Kind::Attestation, "Attestation (in-toto)"),
            (["", "text/plain"], Kind::Other, "Other content"),
        ] {
            assert_eq!(kind(&types), (expected, label), "{types:?}");
        }
    }

    #[test]
    fn tags_of_tools_are_no_images() {
        let hex = "a".repeat(64);
        for (tag, elsewhere) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{hex}.old"), false),
            (format!("sha256-{}", "a".repeat(63)), false),
            ("2.1.0".to_owned(), false),
        ] {
            assert_eq!(belongs_elsewhere(&tag.parse().unwrap()), elsewhere, "{tag}");
        }
    }
}
