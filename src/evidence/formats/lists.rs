//! SBOMs: packages, and what an SBOM says it is about.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::json::Lenient;
use super::super::report::{Package, digests_in};
use super::required;
use crate::error::Result;
use crate::limits;
use crate::oci::Digest;

/// SPDX 2.3 §7, "Package Information".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpdxPackage {
    #[serde(rename = "SPDXID")]
    id: Option<String>,
    name: String,
    version_info: Option<String>,
    license_concluded: Option<String>,
    license_declared: Option<String>,
    primary_package_purpose: Option<String>,
    checksums: Option<Vec<Checksum>>,
    external_refs: Option<Vec<ExternalRef>>,
    attribution_texts: Option<Vec<String>>,
    annotations: Option<Vec<Annotation>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: Option<String>,
    checksum_value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_type: Option<String>,
    reference_locator: Option<String>,
}

#[derive(Deserialize)]
struct Annotation {
    comment: Option<String>,
}

/// SPDX 2.3 §11, "Relationships between SPDX Elements".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Relation {
    spdx_element_id: Option<String>,
    related_spdx_element: Option<String>,
    relationship_type: Option<String>,
}

impl SpdxPackage {
    fn purl(&self) -> Option<&str> {
        let refs = self.external_refs.iter().flatten();
        let mut purls = refs.filter(|one| one.reference_type.as_deref() == Some("purl"));
        purls.find_map(|one| one.reference_locator.as_deref())
    }

    /// Whether it is an image, and not what is in one: by what it says, or by what tools call such a package.
    fn is_image(&self) -> bool {
        let id = self.id.as_deref().unwrap_or_default();
        self.primary_package_purpose.as_deref() == Some("CONTAINER")
            || self.purl().is_some_and(|purl| purl.starts_with("pkg:oci/") || purl.starts_with("pkg:docker/"))
            || id.starts_with("SPDXRef-DocumentRoot-Image")
            || id.starts_with("SPDXRef-ContainerImage")
    }

    /// The digests that it names: in its checksums, purl, name and version; and in Trivy's remarks.
    fn digests(&self) -> BTreeSet<Digest> {
        let sums = self.checksums.iter().flatten();
        let sums = sums.filter(|sum| sum.algorithm.as_deref() == Some("SHA256"));
        let sums = sums.filter_map(|sum| Digest::from_hex(sum.checksum_value.as_deref()?));
        let remarks = self.attribution_texts.iter().flatten().map(String::as_str);
        let remarks =
            remarks.chain(self.annotations.iter().flatten().filter_map(|one| one.comment.as_deref()));
        let remarks =
            remarks.filter(|text| text.starts_with("ImageID: ") || text.starts_with("RepoDigest: "));
        let texts = [Some(self.name.as_str()), self.version_info.as_deref(), self.purl()];
        let texts = texts.into_iter().flatten().chain(remarks);
        sums.chain(texts.flat_map(digests_in)).collect()
    }

    pub fn package(self) -> Package {
        let purl = self.purl().unwrap_or_default().to_owned();
        // Clauses 7.13 and 7.15: what was concluded goes before what was declared; either may say nothing.
        let said = |licence: Option<String>| {
            licence.filter(|text| !matches!(text.as_str(), "" | "NOASSERTION" | "NONE"))
        };
        Package {
            kind: kind_of(&purl),
            licence: said(self.license_concluded).or_else(|| said(self.license_declared)).unwrap_or_default(),
            version: self.version_info.unwrap_or_default(),
            name: self.name,
            purl,
        }
    }
}

/// purl-spec: `scheme:type/namespace/name@version?qualifiers#subpath`.
fn kind_of(purl: &str) -> String {
    let kind = purl.strip_prefix("pkg:").and_then(|rest| rest.split('/').next());
    kind.unwrap_or_default().to_owned()
}

/// The packages of an SPDX document that may be what it is about.
#[derive(Default)]
pub(super) struct Images {
    described: BTreeSet<String>,
    images: Vec<(String, BTreeSet<Digest>)>,
    /// The first package, which is the one described where tools describe it in no other way.
    first: Option<(String, BTreeSet<Digest>)>,
}

impl Images {
    pub fn describes(&mut self, id: String) {
        if self.described.len() < limits::EVIDENCE_DIGESTS {
            self.described.insert(id);
        }
    }

    pub fn relates(&mut self, relation: Relation) {
        let described = match relation.relationship_type.as_deref() {
            Some("DESCRIBES") => relation.related_spdx_element,
            Some("DESCRIBED_BY") => relation.spdx_element_id,
            _ => None,
        };
        if let Some(id) = described {
            self.describes(id);
        }
    }

    /// Looks at a package; whether it is an image.
    pub fn take(&mut self, package: &SpdxPackage) -> bool {
        let (id, image) = (package.id.clone().unwrap_or_default(), package.is_image());
        let known = image || self.described.contains(&id);
        if known && self.images.len() < limits::EVIDENCE_DIGESTS {
            self.images.push((id, package.digests()));
        } else if self.first.is_none() {
            self.first = Some((id, package.digests()));
        }
        image
    }

    /// The digests of what is described; where that is not said, of the images.
    pub fn digests(self) -> BTreeSet<Digest> {
        let Images { described, images, first } = self;
        let all = || images.iter().chain(&first);
        let known = all().filter(|(id, _)| described.contains(id));
        let digests: BTreeSet<_> = known.flat_map(|(_, digests)| digests).copied().collect();
        match described.is_empty() {
            true => images.into_iter().flat_map(|(_, digests)| digests).collect(),
            false => digests,
        }
    }
}

/// CycloneDX 1.6, `metadata`.
#[derive(Deserialize)]
pub(super) struct Bom {
    component: Option<Lenient<Component>>,
    tools: Option<Lenient<Tools>>,
}

/// A list of tools until 1.4, an object with components from 1.5 on.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tools {
    List(Vec<Tool>),
    Object { components: Vec<Tool> },
}

#[derive(Deserialize)]
struct Tool {
    name: Option<String>,
    version: Option<String>,
}

impl Bom {
    /// The texts in which the component that it is about may name a digest.
    pub fn tell(&self, name: &mut dyn FnMut(&str)) {
        let Some(Lenient(Some(component))) = &self.component else { return };
        let Component { name: called, version, purl, bom_ref, properties, hashes, .. } = component;
        for text in [Some(called), version.as_ref(), purl.as_ref(), bom_ref.as_ref()].into_iter().flatten() {
            name(text);
        }
        // Trivy's remarks; layers (`DiffID`) are not what it is about.
        let told = |one: &&Property| {
            one.name
                .as_deref()
                .is_some_and(|name| name.ends_with(":ImageID") || name.ends_with(":RepoDigest"))
        };
        for property in properties.iter().flatten().filter(told) {
            name(property.value.as_deref().unwrap_or_default());
        }
        for hash in hashes.iter().flatten().filter(|hash| hash.alg.as_deref() == Some("SHA-256")) {
            name(&format!("sha256:{}", hash.content.as_deref().unwrap_or_default()));
        }
    }

    pub fn tool(&self) -> Option<String> {
        let tools = self.tools.as_ref()?.0.as_ref()?;
        let (Tools::List(tools) | Tools::Object { components: tools }) = tools;
        let tool = tools.first()?;
        Some(
            [tool.name.as_deref(), tool.version.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
        )
    }
}

/// CycloneDX 1.6, `components`.
#[derive(Deserialize)]
pub(super) struct Component {
    name: String,
    version: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "bom-ref")]
    bom_ref: Option<String>,
    purl: Option<String>,
    group: Option<String>,
    licenses: Option<Vec<Choice>>,
    properties: Option<Vec<Property>>,
    hashes: Option<Vec<Hash>>,
    components: Option<Vec<Component>>,
}

/// `licenseChoice`.
#[derive(Deserialize)]
struct Choice {
    license: Option<License>,
    expression: Option<String>,
}

#[derive(Deserialize)]
struct License {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Property {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Hash {
    alg: Option<String>,
    content: Option<String>,
}

impl Component {
    /// Hands on the component and those inside of it; not files, which are no packages.
    pub fn flattened(self, take: &mut dyn FnMut(Package) -> Result<()>) -> Result<()> {
        let inner = self.components;
        if self.kind.as_deref() != Some("file") {
            let purl = self.purl.unwrap_or_default();
            let kind = Some(kind_of(&purl)).filter(|kind| !kind.is_empty());
            let name = required(Some(self.name), "a component's name")?;
            take(Package {
                kind: kind.or(self.kind).unwrap_or_default(),
                // A purl has it in its namespace; elsewhere two packages would be one.
                name: match self.group.filter(|group| !group.is_empty()) {
                    Some(group) => format!("{group}/{name}"),
                    None => name,
                },
                version: self.version.unwrap_or_default(),
                licence: licence(self.licenses.unwrap_or_default()),
                purl,
            })?;
        }
        inner.into_iter().flatten().try_for_each(|component| component.flattened(take))
    }
}

/// One expression, or licences that hold together.
fn licence(choices: Vec<Choice>) -> String {
    let said = choices.into_iter().filter_map(|choice| {
        let named = choice.license.and_then(|license| license.id.or(license.name));
        choice.expression.or(named).filter(|text| !text.is_empty())
    });
    said.collect::<Vec<_>>().join(" AND ")
}
