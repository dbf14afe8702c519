//! What SBOMs and scan reports say of images, and that they say it at all. They are found where plans have them: attached
//! to an image or a build, beside builds in the image's index, or named in the release manifest.

use super::contents;
use super::{About, BuildFacts, Case, ImageFacts, Need, ReportFacts, Rule};
use crate::evidence::{Package, Place, Report, Severity, Trouble};
use crate::rules::{Finding, RuleId, Rules, fits};

/// Packages that are there to build others, as Debian, Alpine and Red Hat call them.
const TOOLS: &[&str] = &[
    "alpine-sdk",
    "autoconf",
    "automake",
    "binutils",
    "bison",
    "build-base",
    "build-essential",
    "cargo",
    "clang",
    "clang-*",
    "cmake",
    "dpkg-dev",
    "flex",
    "g++",
    "g++-*",
    "gcc",
    "gcc-c++",
    "gdb",
    "git",
    "go",
    "golang",
    "golang-*-go",
    "gradle",
    "libc6-dev",
    "libtool",
    "linux-libc-dev",
    "make",
    "maven",
    "meson",
    "musl-dev",
    "ninja-build",
    "openjdk-*-jdk",
    "openjdk-*-jdk-headless",
    "rpm-build",
    "rust",
    "rustc",
];

/// Types of purls whose packages are libraries of a language: one that is called `make` is not make.
const LIBRARIES: &[&str] = &[
    "cargo",
    "cocoapods",
    "composer",
    "cran",
    "gem",
    "golang",
    "hackage",
    "hex",
    "maven",
    "npm",
    "nuget",
    "pub",
    "pypi",
    "swift",
];

/// The packages that are not to be in images.
#[derive(Clone, Copy)]
pub struct Tools<'a>(&'a [String]);

impl<'a> Tools<'a> {
    pub(super) fn of(rules: &'a Rules) -> Self {
        Tools(&rules.tools.packages)
    }

    /// Whether this is one of them.
    pub fn has(&self, package: &Package) -> bool {
        match self.0 {
            [] => {
                !LIBRARIES.contains(&package.kind.as_str())
                    && TOOLS.iter().any(|tool| fits(tool, &package.name))
            }
            asked => asked.iter().any(|tool| fits(tool, &package.name)),
        }
    }
}

/// A build, or an image that has none.
type Part<'a> = Option<(usize, &'a BuildFacts)>;

impl<'a> Case<'a> {
    /// The parts that reports must be about. Charts and files have no packages.
    fn parts(&self) -> Vec<Part<'a>> {
        let builds = self.image.builds.iter().enumerate();
        match (self.image.runs, self.image.builds.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => vec![None],
            (true, false) => builds.map(Some).collect(),
        }
    }

    /// Reports about a part that can be read.
    fn readable(&self, part: Part<'a>, sbom: bool) -> Vec<(&'a ReportFacts, &'a Report)> {
        let about = self.image.reports.iter().filter(|one| is_about(one, part));
        let readable = about.filter_map(|one| Some((one, one.found.report.as_ref().ok()?)));
        readable.filter(|(_, report)| report.format.is_sbom() == sbom).collect()
    }

    fn wrong_in(&self, part: Part<'a>, got: impl ToString, expected: impl ToString) -> Finding {
        match part {
            Some((_, build)) => self.wrong_on(build.platform.as_ref(), got, expected),
            None => self.wrong(got, expected),
        }
    }

    /// Reports that may not be passed over: those about something else, those that are said to be some and are none, and,
    /// where one is missing, whatever could have been it.
    fn troubles(&self, part: Part<'a>, sbom: bool, missing: bool) -> Vec<Finding> {
        let about = self.image.reports.iter().filter(|one| is_about(one, part));
        let troubles = about.filter_map(|one| Some((&one.found.place, one.found.report.as_ref().err()?)));
        let grave = troubles.filter(|(place, trouble)| match trouble {
            Trouble::Another { sbom: other, .. } => *other == sbom,
            Trouble::Unreadable(_) if place.declared => place.scan != sbom,
            Trouble::Unreadable(_) => missing,
        });
        let finding = |(place, trouble): (&Place, &Trouble)| {
            let got = format!("{trouble} (in {})", place.blob.digest);
            self.wrong_in(part, got, format_args!("one about {}", place.subject))
        };
        grave.map(finding).collect()
    }
}

fn is_about(report: &ReportFacts, part: Part<'_>) -> bool {
    let found = &report.found;
    match part {
        None => true,
        // What names no usable platform is known by its manifest alone.
        Some((_, build)) if build.platform.is_none() => found.place.subject == build.digest,
        Some((number, _)) => found.builds.contains(&number),
    }
}

pub(super) const SBOM: Rule = Rule {
    id: RuleId::Sbom,
    origin: "R-096 containerized distribution: an SBOM per image; container images specification: SPDX JSON per image",
    from: None,
    binds: None,
    asked: |rules| !rules.sbom.formats.is_empty(),
    needs: &[Need::Reports],
    judge: About::Image(|case| case.parts().into_iter().flat_map(|part| sbom(case, part)).collect()),
    hint: "attach one to the image (buildx --sbom=true, oras attach, cosign attest), or name a file in the release manifest: sbom = \"sbom/{image}-{platform}.spdx.json\"",
};

fn sbom<'a>(case: &Case<'a>, part: Part<'a>) -> Vec<Finding> {
    let formats: Vec<String> = case.rules.sbom.formats.iter().map(ToString::to_string).collect();
    let there = case.readable(part, true);
    let fits =
        |report: &Report| formats.is_empty() || formats.iter().any(|name| name == report.format.name());
    let missing = !there.iter().any(|(_, report)| fits(report));
    let mut findings = case.troubles(part, true, missing);
    if missing && findings.is_empty() {
        let others: Vec<_> = there.iter().map(|(_, report)| report.format.name()).collect();
        let got =
            if others.is_empty() { "no SBOM".to_owned() } else { format!("only {}", others.join(", ")) };
        let expected = match formats.as_slice() {
            [] => "an SBOM".to_owned(),
            formats => format!("an SBOM as {}", formats.join(" or ")),
        };
        findings.push(case.wrong_in(part, got, expected));
    }
    findings
}

pub(super) const SCAN: Rule = Rule {
    id: RuleId::Scan,
    origin: "R-096 containerized distribution: a scan result with 0 critical before release; container images specification: no HIGH or CRITICAL",
    from: None,
    binds: None,
    asked: |rules| rules.scan.max.each().iter().any(Option::is_some),
    needs: &[Need::Reports],
    judge: About::Image(|case| case.parts().into_iter().flat_map(|part| scan(case, part)).collect()),
    hint: "have the image mended and scanned again; or take responsibility for some time: [[policy.waiver]]",
};

fn scan<'a>(case: &Case<'a>, part: Part<'a>) -> Vec<Finding> {
    let there = case.readable(part, false);
    let mut findings = case.troubles(part, false, there.is_empty());
    if there.is_empty() && findings.is_empty() {
        findings.push(case.wrong_in(part, "no scan report", "a scan report (Trivy, Grype or SARIF)"));
    }
    for (_, report) in there {
        let limits = Severity::ALL.into_iter().zip(case.rules.scan.max.each());
        let over = limits.filter_map(|(severity, most)| {
            Some((severity, most?)).filter(|(severity, most)| report.counts.of(*severity) > *most)
        });
        findings.extend(over.map(|(severity, most)| {
            let worst = report.worst.iter().filter(|one| one.severity == severity).take(3);
            let named: Vec<_> = worst.map(|one| format!("{} in {}", one.id, one.package)).collect();
            let got = format!("{} {severity}: {}", report.counts.of(severity), named.join(", "));
            case.wrong_in(part, got, format_args!("at most {most} {severity}"))
        }));
    }
    findings
}

/// What was found in an image, whether or not that is too much.
pub(super) fn counted(image: &ImageFacts) -> Vec<String> {
    let reports =
        image.reports.iter().filter_map(|one| Some((&one.found.builds, one.found.report.as_ref().ok()?)));
    let scans = reports.filter(|(_, report)| !report.format.is_sbom());
    let lines = scans.map(|(builds, report)| {
        let platforms =
            builds.iter().filter_map(|build| Some(image.builds.get(*build)?.platform.as_ref()?.to_string()));
        let platforms = platforms.collect::<Vec<_>>().join(", ");
        format!("{}/{} {platforms}: {} ({})", image.name, image.variant, report.counts, report.format)
    });
    lines.collect()
}

pub(super) const TOOLS_RULE: Rule = Rule {
    id: RuleId::Tools,
    origin: "container images specification: no build tools in the release stage",
    from: None,
    binds: None,
    asked: |rules| !rules.tools.packages.is_empty() || !rules.tools.paths.is_empty(),
    needs: &[Need::Reports, Need::Layers],
    judge: About::Image(|case| {
        let rules = case.rules;
        let named = rules.require.contains(&RuleId::Tools) || rules.warn.contains(&RuleId::Tools);
        // Whoever asks for paths alone needs no SBOM.
        let parts = case.parts().into_iter().filter(|_| named || !rules.tools.packages.is_empty());
        let packages = parts.flat_map(|part| tools(case, part));
        packages.chain(contents::tool_paths(case)).collect()
    }),
    hint: "have the release stage built from a base without them, or say which packages are not to be there: [policy.tools]",
};

fn tools<'a>(case: &Case<'a>, part: Part<'a>) -> Vec<Finding> {
    let there = case.readable(part, true);
    if there.is_empty() {
        return vec![case.wrong_in(part, "no SBOM to look into", "an SBOM without build tools")];
    }
    let mut tools: Vec<&str> = there.iter().flat_map(|(one, _)| &one.tools).map(String::as_str).collect();
    tools.sort_unstable();
    tools.dedup();
    match tools.is_empty() {
        true => Vec::new(),
        false => {
            vec![case.wrong_in(part, format_args!("in the SBOM: {}", tools.join(", ")), "no build tools")]
        }
    }
}
