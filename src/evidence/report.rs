//! What was learned from an SBOM or a scan report.

use std::collections::BTreeSet;
use std::fmt;

use crate::limits;
use crate::oci::Digest;

/// What kind of document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// SPDX 2.2 or 2.3, as JSON.
    Spdx,
    /// CycloneDX, as JSON.
    CycloneDx,
    /// Trivy's own JSON.
    Trivy,
    /// Grype's own JSON.
    Grype,
    /// SARIF 2.1.0, as scanners write it.
    Sarif,
}

impl Format {
    /// Whether it lists packages, as opposed to vulnerabilities.
    pub fn is_sbom(self) -> bool {
        matches!(self, Format::Spdx | Format::CycloneDx)
    }

    /// What it is called in a release manifest.
    pub fn name(self) -> &'static str {
        match self {
            Format::Spdx => "spdx",
            Format::CycloneDx => "cyclonedx",
            Format::Trivy => "trivy",
            Format::Grype => "grype",
            Format::Sarif => "sarif",
        }
    }

    /// The media type of such a file. SPDX's, CycloneDX's and SARIF's are registered ones (IANA); the scanners have
    /// named none for their own.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Spdx => "application/spdx+json",
            Format::CycloneDx => "application/vnd.cyclonedx+json",
            Format::Trivy => "application/vnd.aquasec.trivy.report+json",
            Format::Grype => "application/vnd.anchore.grype+json",
            Format::Sarif => "application/sarif+json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// Nothing.
    Bare,
    /// It is the predicate of an in-toto statement.
    Statement,
    /// And that is in a signed envelope (DSSE). The signature was not looked at.
    Envelope,
}

impl Wrapping {
    /// The media type of what is wrapped like that.
    pub fn media_type(self) -> Option<&'static str> {
        match self {
            Wrapping::Bare => None,
            Wrapping::Statement => Some("application/vnd.in-toto+json"),
            Wrapping::Envelope => Some("application/vnd.dsse.envelope.v1+json"),
        }
    }
}

/// An SBOM or a scan report that was read to its end.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it is.
    pub format: Format,
    /// What is around it.
    pub wrapping: Wrapping,
    /// The program that wrote it, where it says so.
    pub tool: String,
    /// The digests that it says it is about; those of the statement around it.
    pub subjects: Vec<Digest>,
    /// Those that it names itself.
    pub about: Vec<Digest>,
    /// The packages that it lists.
    pub packages: u64,
    /// The vulnerabilities that it lists.
    pub counts: Counts,
    /// The worst of them, each package's once; at most [`limits::VULNERABILITIES`].
    pub worst: Vec<Vulnerability>,
}

/// A package that an SBOM lists. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licences, as an SPDX expression where the SBOM has one.
    pub licence: String,
    /// What kind it is: the type of its purl (`deb`, `golang`, …), or what CycloneDX calls it.
    pub kind: String,
    /// Its package URL.
    pub purl: String,
}

/// How bad a vulnerability is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Critical.
    Critical,
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low, or negligible.
    Low,
    /// Nobody has said.
    Unknown,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Severity; 5] =
        [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Unknown];

    /// By its name, as any tool spells it.
    pub fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("negligible") {
            return Some(Severity::Low);
        }
        Severity::ALL.into_iter().find(|severity| name.eq_ignore_ascii_case(severity.name()))
    }

    /// By its score (CVSS v3.1 specification, §5).
    pub(super) fn scored(score: f64) -> Self {
        match score {
            score if score >= 9.0 => Severity::Critical,
            score if score >= 7.0 => Severity::High,
            score if score >= 4.0 => Severity::Medium,
            score if score > 0.0 => Severity::Low,
            _ => Severity::Unknown,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
            Severity::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many vulnerabilities there are of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; 5]);

impl Counts {
    /// How many of one.
    pub fn of(&self, severity: Severity) -> u64 {
        self.0.get(severity as usize).copied().unwrap_or_default()
    }

    /// Counts some more.
    pub(super) fn add(&mut self, severity: Severity, number: u64) {
        if let Some(count) = self.0.get_mut(severity as usize) {
            *count = count.saturating_add(number);
        }
    }
}

/// `critical 0, high 2, …`
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, severity) in Severity::ALL.into_iter().enumerate() {
            let before = if number > 0 { ", " } else { "" };
            write!(f, "{before}{} {severity}", self.of(severity))?;
        }
        Ok(())
    }
}

/// A vulnerability that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vulnerability {
    /// How bad it is.
    pub severity: Severity,
    /// What it is called: `CVE-2026-1234`.
    pub id: String,
    /// The package that has it.
    pub package: String,
}

/// The worst of many.
#[derive(Default)]
pub(super) struct Worst(BTreeSet<Vulnerability>);

impl Worst {
    pub fn keep(&mut self, severity: Severity, id: &str, package: &str) {
        let (id, package) = (shortened(id), shortened(package));
        self.0.insert(Vulnerability { severity, id, package });
        if self.0.len() > limits::VULNERABILITIES {
            self.0.pop_last();
        }
    }

    pub fn list(self) -> Vec<Vulnerability> {
        self.0.into_iter().collect()
    }
}

/// As much of a name as anybody reads: a thousand of them are kept.
fn shortened(name: &str) -> String {
    name.chars().take(128).collect()
}

/// All SHA-256 digests that stand in a text (`name@sha256:…`, `pkg:oci/name@sha256%3A…?arch=…`).
pub(super) fn digests_in(text: &str) -> impl Iterator<Item = Digest> + '_ {
    let after = text.match_indices("sha256").filter_map(|(at, word)| {
        let rest = text.get(at.saturating_add(word.len())..)?;
        let separated = [":", "%3A", "%3a"].iter().find_map(|separator| rest.strip_prefix(separator))?;
        separated.get(..64)
    });
    after.filter_map(Digest::from_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_tools_put_them() {
        let hex = "0123456789abcdef".repeat(4);
        for text in [
            format!("sha256:{hex}"),
            format!("registry.example.com/app@sha256:{hex}"),
            format!("pkg:oci/app@sha256%3A{hex}?arch=amd64&tag=1"),
            format!("ImageID: sha256:{hex}"),
        ] {
            assert_eq!(
                digests_in(&text).collect::<Vec<_>>(),
                vec![Digest::from_hex(&hex).unwrap()],
                "{text}"
            );
        }
        for text in ["", "sha256", "sha256:abc", "pkg:deb/debian/libsha256@1"] {
            assert_eq!(digests_in(text).count(), 0, "{text}");
        }
    }

    #[test]
    fn severities_are_known_by_name_and_score() {
        for (name, expected) in [
            ("CRITICAL", Some(Severity::Critical)),
            ("High", Some(Severity::High)),
            ("Negligible", Some(Severity::Low)),
            ("UNKNOWN", Some(Severity::Unknown)),
            ("", None),
        ] {
            assert_eq!(Severity::named(name), expected, "{name}");
        }
        let scored = |score| Severity::scored(score);
        assert_eq!([9.8, 7.0, 6.9, 0.1, 0.0].map(scored), Severity::ALL);
    }
}
