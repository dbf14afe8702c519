//! The formats: which fields say what. Sources: the SPDX 2.3 and CycloneDX 1.6 JSON schemas; what Syft and Trivy put into
//! them; Trivy's `types.Report`, Grype's JSON schema, SARIF 2.1.0 as these two write it; in-toto's Statement; cosign's
//! "vuln" predicate (COSIGN_VULN_ATTESTATION_SPEC).

mod lists;
mod sarif;
mod scans;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::json::{self, Fields, Lenient, Reading, lacks};
use super::report::{Counts, Format, Package, Severity, Worst, digests_in};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

use lists::{Bom, Component, Images, SpdxPackage};
use scans::{GrypeMatch, GrypeTarget, TrivyResult};

/// Where packages go.
pub(super) type Emit = Box<dyn FnMut(Package) -> Result<()>>;

/// What was learned of a document so far.
pub(super) struct State {
    /// Where packages go.
    pub emit: Emit,
    /// The formats that its fields tell.
    pub formats: Vec<Format>,
    /// How deep they were told.
    level: Level,
    pub statement: bool,
    pub tool: String,
    /// A run of a vulnerability scanner is in it (SARIF is for all kinds of tools).
    pub scans: bool,
    /// It says what was looked at.
    pub looked: bool,
    pub subjects: Vec<Digest>,
    pub about: Vec<Digest>,
    pub packages: u64,
    pub counts: Counts,
    pub worst: Worst,
    images: Images,
    rules: sarif::Rules,
    /// Fields that one format spells otherwise than another.
    spelt: Vec<(&'static str, Level)>,
}

impl State {
    pub fn new(emit: Emit) -> Self {
        State {
            emit,
            formats: Vec::new(),
            level: Level::Top,
            statement: false,
            tool: String::new(),
            scans: false,
            looked: false,
            subjects: Vec::new(),
            about: Vec::new(),
            packages: 0,
            counts: Counts::default(),
            worst: Worst::default(),
            images: Images::default(),
            rules: sarif::Rules::default(),
            spelt: Vec::new(),
        }
    }

    fn package(&mut self, package: Package) -> Result<()> {
        self.packages = self.packages.saturating_add(1);
        if self.packages > limits::PACKAGES {
            return Err(Error::new(Kind::LimitExceeded, "an SBOM lists too many packages")
                .expected(format_args!("at most {}", limits::PACKAGES)));
        }
        (self.emit)(package)
    }

    fn found(&mut self, severity: Severity, id: &str, package: &str) {
        self.counts.add(severity, 1);
        self.worst.keep(severity, id, package);
    }

    fn names(&mut self, text: &str) {
        for digest in digests_in(text) {
            self.name(digest);
        }
    }

    fn name(&mut self, digest: Digest) {
        if self.about.len() < limits::EVIDENCE_DIGESTS && !self.about.contains(&digest) {
            self.about.push(digest);
        }
    }

    /// The format, once all of it was seen; nothing where it is none of them.
    pub fn format(&mut self) -> Result<Option<Format>> {
        self.formats.sort();
        self.formats.dedup();
        let ambiguous = |got: String| {
            Err(Error::new(Kind::DocumentAmbiguous, "a report that readers understand differently").got(got))
        };
        let format = match self.formats.as_slice() {
            [] => return Ok(None),
            [format] => *format,
            [one, other, ..] => return ambiguous(format!("fields of {one} and of {other}")),
        };
        let foreign = match format {
            Format::Trivy => "metadata",
            Format::CycloneDx => "Metadata",
            _ => "",
        };
        if self.spelt.contains(&(foreign, self.level)) {
            return ambiguous(format!("the key {foreign:?} in {format}"));
        }
        let said_nothing = match format {
            Format::Sarif => !self.scans,
            Format::Trivy => !self.looked,
            _ => false,
        };
        if said_nothing {
            return Err(Error::new(
                Kind::DocumentUnsupported,
                "a report that does not say what was scanned for vulnerabilities",
            )
            .got(if self.tool.is_empty() { format.name() } else { &self.tool })
            .expected("a vulnerability scanner's report, with what it has looked at"));
        }
        for digest in std::mem::take(&mut self.images).digests() {
            self.name(digest);
        }
        Ok(Some(format))
    }
}

/// How deep in a statement a document is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The document itself.
    Top,
    /// A statement's predicate.
    Predicate,
    /// What cosign's predicate about vulnerabilities has as the scanner's result.
    Result,
}

/// A document of any format.
pub(super) struct Document(pub Level);

#[derive(Deserialize)]
struct Subject {
    digest: Option<Sums>,
}

#[derive(Deserialize)]
struct Sums {
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct Grype {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Source {
    target: Option<Lenient<GrypeTarget>>,
}

#[derive(Deserialize)]
struct Trivy {
    #[serde(rename = "ImageID")]
    image_id: Option<String>,
    #[serde(rename = "RepoDigests")]
    repo_digests: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Creation {
    creators: Option<Vec<String>>,
}

impl Fields<State> for Document {
    const KNOWN: &'static [&'static str] = &[
        // in-toto
        "_type",
        "subject",
        "predicate",
        "scanner",
        // SPDX
        "spdxVersion",
        "creationInfo",
        "documentDescribes",
        "packages",
        "relationships",
        // CycloneDX
        "bomFormat",
        "specVersion",
        "metadata",
        "components",
        // Trivy
        "SchemaVersion",
        "ArtifactName",
        "Metadata",
        "Results",
        // Grype
        "matches",
        "source",
        "descriptor",
        // SARIF
        "runs",
    ];

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let statement = |reading: &mut Reading<State>| reading.state.statement = true;
        match (key, self.0) {
            ("_type", Level::Top) => {
                if json::one::<_, String, A>(map, reading)?
                    .is_some_and(|kind| kind.contains("in-toto.io/Statement"))
                {
                    statement(reading);
                }
                Ok(())
            }
            ("subject", Level::Top) => json::each(map, reading, |state: &mut State, subject: Subject| {
                let sha256 = subject.digest.and_then(|sums| sums.sha256);
                let digest = sha256.as_deref().and_then(Digest::from_hex);
                if let Some(digest) = digest.filter(|_| state.subjects.len() < limits::EVIDENCE_DIGESTS) {
                    state.subjects.push(digest);
                }
                Ok(())
            }),
            ("predicate", Level::Top) => json::object(map, reading, Document(Level::Predicate)),
            ("scanner", Level::Predicate) => json::object(map, reading, Scanner),
            _ => self.of_format(reading, key, map),
        }
    }
}

impl Document {
    fn of_format<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "spdxVersion" | "creationInfo" | "documentDescribes" | "packages" | "relationships" => {
                self.spdx(reading, key, map)
            }
            "bomFormat" | "metadata" | "components" => self.cyclonedx(reading, key, map),
            "SchemaVersion" | "ArtifactName" | "Metadata" | "Results" => self.trivy(reading, key, map),
            "matches" | "source" | "descriptor" => Self::grype(reading, key, map),
            "runs" => {
                reading.state.formats.push(Format::Sarif);
                json::list::<_, sarif::Run, A>(map, reading)
            }
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }

    fn spdx<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "spdxVersion" => {
                let version = json::one::<_, String, A>(map, reading)?.unwrap_or_default();
                let known = ["SPDX-2.2", "SPDX-2.3"].contains(&version.as_str());
                self.tells(reading, Format::Spdx, known, &version, "SPDX-2.2 or SPDX-2.3")
            }
            "creationInfo" => {
                let creation = json::one::<_, Creation, A>(map, reading)?;
                let creators = creation.and_then(|creation| creation.creators).unwrap_or_default();
                if let Some(tool) = creators.iter().find_map(|creator| creator.strip_prefix("Tool: ")) {
                    reading.state.tool = tool.to_owned();
                }
                Ok(())
            }
            "documentDescribes" => json::each(map, reading, |state: &mut State, id: String| {
                state.images.describes(id);
                Ok(())
            }),
            "packages" => json::each(map, reading, |state: &mut State, package: SpdxPackage| {
                match state.images.take(&package) {
                    true => Ok(()),
                    false => state.package(package.package()),
                }
            }),
            _ => json::each(map, reading, |state: &mut State, relation: lists::Relation| {
                state.images.relates(relation);
                Ok(())
            }),
        }
    }

    fn cyclonedx<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "bomFormat" => {
                let format = json::one::<_, String, A>(map, reading)?.unwrap_or_default();
                self.tells(reading, Format::CycloneDx, format == "CycloneDX", &format, "CycloneDX")
            }
            "metadata" => {
                reading.state.spelt.push(("metadata", self.0));
                if let Some(bom) = json::one::<_, Bom, A>(map, reading)? {
                    bom.tell(&mut |text| reading.state.names(text));
                    if let Some(tool) = bom.tool() {
                        reading.state.tool = tool;
                    }
                }
                Ok(())
            }
            _ => json::each(map, reading, |state: &mut State, component: Component| {
                component.flattened(&mut |package| state.package(package))
            }),
        }
    }

    fn trivy<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "SchemaVersion" => {
                let version = json::one::<_, u64, A>(map, reading)?;
                let shown = version.map(|version| version.to_string()).unwrap_or_default();
                self.tells(reading, Format::Trivy, version == Some(2), &shown, "SchemaVersion 2")
            }
            "ArtifactName" => {
                reading.state.looked = true;
                if let Some(name) = json::one::<_, String, A>(map, reading)? {
                    reading.state.names(&name);
                }
                Ok(())
            }
            "Metadata" => {
                reading.state.spelt.push(("Metadata", self.0));
                let facts = json::one::<_, Trivy, A>(map, reading)?;
                let named = facts
                    .map(|facts| facts.image_id.into_iter().chain(facts.repo_digests.into_iter().flatten()));
                named.into_iter().flatten().for_each(|text| reading.state.names(&text));
                Ok(())
            }
            _ => {
                reading.state.looked = true;
                json::list::<_, TrivyResult, A>(map, reading)
            }
        }
    }

    fn grype<'de, A: MapAccess<'de>>(
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "matches" => {
                reading.state.formats.push(Format::Grype);
                json::each(map, reading, |state: &mut State, found: GrypeMatch| {
                    let (severity, id, package) = found.told()?;
                    state.found(severity, &id, &package);
                    Ok(())
                })
            }
            "source" => {
                let source = json::one::<_, Source, A>(map, reading)?;
                if let Some(target) = source.and_then(|source| source.target?.0) {
                    target.tell(&mut |text| reading.state.names(text));
                }
                Ok(())
            }
            _ => {
                if let Some(Grype { name: Some(name), version }) = json::one::<_, Grype, A>(map, reading)? {
                    reading.state.tool =
                        [Some(name), version].into_iter().flatten().collect::<Vec<_>>().join(" ");
                }
                Ok(())
            }
        }
    }

    /// A field that tells the format, and whether it is a version that is understood.
    fn tells<E: serde::de::Error>(
        &self,
        reading: &mut Reading<State>,
        format: Format,
        known: bool,
        got: &str,
        expected: &str,
    ) -> Result<(), E> {
        reading.state.formats.push(format);
        reading.state.level = self.0;
        match known {
            true => Ok(()),
            false => Err(reading.fail(
                Error::new(Kind::DocumentUnsupported, "a report in a version that is not understood")
                    .got(got)
                    .expected(expected),
            )),
        }
    }
}

/// cosign's `scanner`: its `result` is the scanner's own report.
struct Scanner;

impl Fields<State> for Scanner {
    const KNOWN: &'static [&'static str] = &["uri", "result"];

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "result" => json::object(map, reading, Document(Level::Result)),
            _ => {
                if let Some(uri) =
                    json::one::<_, String, A>(map, reading)?.filter(|_| reading.state.tool.is_empty())
                {
                    reading.state.tool = uri;
                }
                Ok(())
            }
        }
    }
}

/// A field that must be there, with something in it.
fn required(value: Option<String>, what: &str) -> Result<String> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| lacks(what))
}
