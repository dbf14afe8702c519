//! Scanners' own reports.

use serde::Deserialize;
use serde::de::MapAccess;

use super::super::json::{self, Fields, Reading};
use super::super::report::Severity;
use super::{State, required};
use crate::error::{Error, Kind, Result};

/// One of Trivy's results: what was found in one file, or in the system's packages.
#[derive(Default)]
pub(super) struct TrivyResult;

#[derive(Deserialize)]
struct Detected {
    #[serde(rename = "VulnerabilityID")]
    id: Option<String>,
    #[serde(rename = "PkgName")]
    package: Option<String>,
    #[serde(rename = "InstalledVersion")]
    version: Option<String>,
    #[serde(rename = "Severity")]
    severity: Option<String>,
}

impl Fields<State> for TrivyResult {
    const KNOWN: &'static [&'static str] = &["Vulnerabilities"];

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        _: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        json::each(map, reading, |state: &mut State, found: Detected| {
            let id = required(found.id, "a vulnerability's VulnerabilityID")?;
            let severity = severity(found.severity, &id)?;
            state.found(severity, &id, &at(found.package, found.version));
            Ok(())
        })
    }
}

/// One of Grype's matches.
#[derive(Deserialize)]
pub(super) struct GrypeMatch {
    vulnerability: Matched,
    artifact: Option<Artifact>,
}

#[derive(Deserialize)]
struct Matched {
    id: Option<String>,
    severity: Option<String>,
}

#[derive(Deserialize)]
struct Artifact {
    name: Option<String>,
    version: Option<String>,
}

impl GrypeMatch {
    pub fn told(self) -> Result<(Severity, String, String)> {
        let id = required(self.vulnerability.id, "a match's vulnerability.id")?;
        let severity = severity(self.vulnerability.severity, &id)?;
        let package = self.artifact.map(|artifact| at(artifact.name, artifact.version));
        Ok((severity, id, package.unwrap_or_default()))
    }
}

/// What Grype says it has looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrypeTarget {
    user_input: Option<String>,
    #[serde(rename = "imageID")]
    image_id: Option<String>,
    manifest_digest: Option<String>,
    repo_digests: Option<Vec<String>>,
}

impl GrypeTarget {
    pub fn tell(&self, name: &mut dyn FnMut(&str)) {
        let fields = [&self.user_input, &self.image_id, &self.manifest_digest];
        let fields = fields.into_iter().flatten().chain(self.repo_digests.iter().flatten());
        fields.for_each(|text| name(text));
    }
}

/// A severity; none is unknown, one that nobody has heard of is not passed off as harmless.
fn severity(name: Option<String>, id: &str) -> Result<Severity> {
    let name = name.unwrap_or_default();
    match Severity::named(&name) {
        Some(severity) => Ok(severity),
        None if name.is_empty() => Ok(Severity::Unknown),
        None => Err(Error::new(Kind::DocumentUnsupported, "a severity that is not known")
            .got(format_args!("{name:?} for {id}"))
            .expected("critical, high, medium, low, negligible or unknown")),
    }
}

fn at(name: Option<String>, version: Option<String>) -> String {
    let version = version.filter(|version| !version.is_empty()).map(|version| format!("@{version}"));
    format!("{}{}", name.unwrap_or_default(), version.unwrap_or_default())
}
