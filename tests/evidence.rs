//! SBOMs and scan reports: read as tools write them, wherever tools leave them; judged, listed, carried along; and
//! refused where they are about something else, or cannot be read without harm.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fmt::Write as _;

use serde_json::{Value, json};
use support::evidence::*;
use support::images::{Image, Layout};
use support::parts::Parts;
use support::running::watched;
use support::serving::Serving;
use support::{Run, SMALL, Scratch, sha256};

const IMAGE: &str = "registry.example.com/tools/tool:1.0.0";

/// An image for two platforms in the layout `images`, and what is attached to it.
struct Place {
    scratch: Scratch,
    layout: Layout,
    index: Value,
    /// Descriptors of the index, and of the manifests for amd64 and arm64.
    top: Value,
    builds: [Value; 2],
    configs: [String; 2],
}

fn digest(entry: &Value) -> &str {
    entry["digest"].as_str().unwrap()
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut layout = Layout::new(scratch.path("images"));
        let platforms = vec!["linux/amd64", "linux/arm64"];
        let top = layout.image(&Image { platforms, layer: 300, ..Image::new("tool") });
        layout.name(IMAGE, top.clone());
        let blob = |digest: &str| -> Value {
            serde_json::from_slice(&scratch.read(format!("images/blobs/{}", digest.replace(':', "/"))))
                .unwrap()
        };
        let index = blob(digest(&top));
        let builds = [0, 1].map(|number| index["manifests"][number].clone());
        let configs = [0, 1].map(|number| digest(&blob(digest(&builds[number]))["config"]).to_owned());
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        Place { scratch, layout, index, top, builds, configs }
    }

    /// Attaches a document as a referrer.
    fn refer(&mut self, kind: &str, layer: &str, content: &Value, subject: &Value) {
        let document = document(&self.layout, kind, layer, content, Some(subject));
        self.layout.unnamed(document);
    }

    /// Attaches a document under one of cosign's tags.
    fn tag(&mut self, ending: &str, layer: &str, content: &Value, subject: &Value) {
        let document = document(&self.layout, "", layer, content, None);
        let tag = format!("{}.{ending}", digest(subject).replace(':', "-"));
        self.layout.name(&format!("registry.example.com/tools/tool:{tag}"), document);
    }

    /// Writes the release manifest, with more for its image and its policy.
    fn manifest(&self, image: &str, policy: &str) {
        self.scratch.write("release.toml", format!("{SMALL}{image}\n[policy]\n{policy}\n"));
    }

    fn check(&self, more: &str) -> Run {
        let mirror = "--mirror registry.example.com=oci:images";
        self.scratch.sealift(&format!("check release.toml {mirror} {more}"))
    }

    fn export(&self, bundle: &str) -> Run {
        let mirror = "--mirror registry.example.com=oci:images";
        self.scratch.sealift(&format!("export release.toml -o {bundle} --key release.key.pem {mirror}"))
    }

    fn sbom(&self, more: &str) -> Run {
        self.scratch.sealift(&format!("sbom bundle.tar --trust trust {more}"))
    }
}

/// What a check of a rule says.
fn checked(run: &Run, rule: &str) -> Value {
    let json = run.json();
    let checks = json["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == rule).unwrap_or_else(|| panic!("no {rule}\n{run}")).clone()
}

const FOUND: [Vulnerability; 4] = [
    ("CVE-2026-0001", "HIGH", "musl"),
    ("CVE-2026-0001", "HIGH", "openssl"),
    ("CVE-2026-0002", "MEDIUM", "openssl"),
    ("CVE-2026-0003", "LOW", "openssl"),
];

const COUNTS: &str = "0 critical, 2 high, 1 medium, 1 low, 0 unknown";

#[test]
fn each_scanner_s_report_is_counted_wherever_it_lies() {
    type Attach = fn(&mut Place, [&str; 3], &[Vulnerability]);
    let ways: [(&str, Attach); 6] = [
        ("trivy", |place, [config, _, index], found| {
            let (report, build) = (trivy(config, index, found), place.builds[0].clone());
            place.refer(
                "application/vnd.aquasec.trivy.report+json",
                "application/octet-stream",
                &report,
                &build,
            );
        }),
        ("grype", |place, [config, manifest, _], found| {
            let (report, top) = (grype(config, manifest, found), place.top.clone());
            place.refer("application/vnd.anchore.grype+json", "application/json", &report, &top);
        }),
        ("sarif", |place, [config, _, index], found| {
            let (report, top) = (sarif_of_trivy(config, index, found), place.top.clone());
            place.refer("application/sarif+json", "application/sarif+json", &report, &top);
        }),
        ("sarif", |place, _, found| {
            let (report, build) = (sarif_of_grype(found), place.builds[0].clone());
            place.refer("", "application/sarif+json", &report, &build);
        }),
        ("trivy", |place, [config, manifest, index], found| {
            let predicate = vuln(trivy(config, index, found));
            let statement = statement("https://cosign.sigstore.dev/attestation/vuln/v1", manifest, predicate);
            let build = place.builds[0].clone();
            place.tag("att", "application/vnd.dsse.envelope.v1+json", &envelope(&statement), &build);
        }),
        ("grype", |place, [config, manifest, _], found| {
            let statement = statement("https://example.com/scan", manifest, grype(config, manifest, found));
            let bundle = json!({
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {},
                "dsseEnvelope": envelope(&statement),
            });
            let (kind, build) = ("application/vnd.dev.sigstore.bundle.v0.3+json", place.builds[0].clone());
            place.refer(kind, kind, &bundle, &build);
        }),
    ];
    for (number, (format, attach)) in ways.into_iter().enumerate() {
        for critical in [false, true] {
            let mut place = Place::new();
            let (config, manifest) = (place.configs[0].clone(), digest(&place.builds[0]).to_owned());
            let index = digest(&place.top).to_owned();
            let mut found = FOUND.to_vec();
            found.extend(critical.then_some(("CVE-2026-9999", "CRITICAL", "zlib")));
            attach(&mut place, [&config, &manifest, &index], &found);
            // The other platform's is not what this is about.
            let other = place.builds[1].clone();
            place.refer("", "application/sarif+json", &sarif_of_grype(&[]), &other);
            place.manifest("", "[policy.scan]\nmax = { critical = 0, high = 2 }");
            let run = place.check("--json");
            let scan = checked(&run, "scan");
            if critical {
                assert_eq!(run.code, 4, "{number} {run}");
                let finding = &scan["findings"][0];
                assert_eq!(finding["platform"], "linux/amd64");
                assert_eq!(finding["expected"], "at most 0 critical");
                let got = finding["got"].as_str().unwrap();
                assert!(got.starts_with("1 critical: CVE-2026-9999"), "{number} {got}");
            } else {
                assert_eq!((run.code, &scan["result"]), (0, &json!("pass")), "{number} {run}");
                let noted = format!("tool/standard linux/amd64: {COUNTS} ({format})");
                let zero =
                    "tool/standard linux/arm64: 0 critical, 0 high, 0 medium, 0 low, 0 unknown (sarif)";
                let said: Vec<_> =
                    scan["noted"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
                assert!(said.contains(&noted.as_str()) && said.contains(&zero), "{number} {said:?}");
            }
        }
    }
}

#[test]
fn each_sbom_is_found_and_listed_wherever_it_lies() {
    type Attach = fn(&mut Place, [&str; 3]);
    let ways: [(&str, &str, Attach); 7] = [
        ("spdx", "linux/amd64", |place, [_, manifest, _]| {
            let (sbom, build) = (spdx_of_syft(manifest, &PACKAGES), place.builds[0].clone());
            place.refer("application/spdx+json", "application/spdx+json", &sbom, &build);
        }),
        ("spdx", "linux/amd64", |place, [config, _, index]| {
            let (sbom, top) = (spdx_of_trivy(config, index, &PACKAGES), place.top.clone());
            place.refer("application/spdx+json", "application/octet-stream", &sbom, &top);
        }),
        ("cyclonedx", "linux/amd64", |place, [_, manifest, _]| {
            let (sbom, build) = (cyclonedx_of_syft(manifest, &PACKAGES), place.builds[0].clone());
            place.tag("sbom", "application/vnd.cyclonedx+json", &sbom, &build);
        }),
        ("cyclonedx", "linux/amd64 linux/arm64", |place, [_, _, index]| {
            let (sbom, top) = (cyclonedx_of_trivy(index, index, &PACKAGES), place.top.clone());
            place.refer("application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json", &sbom, &top);
        }),
        ("spdx", "linux/amd64", |place, [_, manifest, _]| {
            let mut sbom = spdx_of_syft(manifest, &PACKAGES);
            // BuildKit's scanner looks at a directory: the root names no digest.
            sbom["packages"].as_array_mut().unwrap().pop();
            let statements = [
                statement(
                    "https://slsa.dev/provenance/v0.2",
                    manifest,
                    json!({ "builder": { "id": "" }, "materials": [] }),
                ),
                statement("https://spdx.dev/Document", manifest, sbom),
            ];
            let top = with_attestation(&place.layout, &place.index, manifest, &statements);
            place.layout.name(IMAGE, top);
        }),
        ("spdx", "linux/amd64", |place, [_, manifest, _]| {
            let statement =
                statement("https://spdx.dev/Document", manifest, spdx_of_syft(manifest, &PACKAGES));
            let build = place.builds[0].clone();
            place.tag("att", "application/vnd.dsse.envelope.v1+json", &envelope(&statement), &build);
        }),
        ("cyclonedx", "linux/amd64", |place, [_, manifest, _]| {
            let statement =
                statement("https://cyclonedx.org/bom", manifest, cyclonedx_of_syft(manifest, &PACKAGES));
            let build = place.builds[0].clone();
            place.refer("application/vnd.in-toto+json", "application/vnd.in-toto+json", &statement, &build);
        }),
    ];
    for (number, (format, platforms, attach)) in ways.into_iter().enumerate() {
        let mut place = Place::new();
        let (config, manifest) = (place.configs[0].clone(), digest(&place.builds[0]).to_owned());
        let index = digest(&place.top).to_owned();
        attach(&mut place, [&config, &manifest, &index]);
        place.manifest("", &format!("warn = [\"sbom\"]\n[policy.sbom]\nformats = [\"{format}\"]"));
        let sbom = checked(&place.check("--json").ok(), "sbom");
        let lacking: Vec<_> =
            sbom["findings"].as_array().unwrap().iter().map(|one| &one["platform"]).collect();
        let other = if platforms.contains("arm64") { vec![] } else { vec!["linux/arm64"] };
        assert_eq!(lacking, other, "{number}");
        place.export("bundle.tar").ok();
        let listed = place.sbom("--output json").ok().json();
        let sboms = listed["sboms"].as_array().unwrap();
        assert_eq!(sboms.len(), 1, "{number} {listed:#}");
        assert_eq!(sboms[0]["format"], format);
        let said: Vec<_> =
            sboms[0]["platforms"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        assert_eq!(said.join(" "), platforms, "{number}");
        for (name, version, licence, kind) in PACKAGES {
            let same = |one: &&Value| {
                one["package"] == name
                    && one["version"] == version
                    && one["licence"] == licence
                    && one["type"] == kind
            };
            assert!(
                listed["packages"].as_array().unwrap().iter().any(|one| same(&one)),
                "{number} {name} {listed:#}"
            );
        }
    }
}

#[test]
fn a_report_about_another_digest_is_refused() {
    let other = format!("sha256:{}", "b".repeat(64));
    for (number, (rule, kind, report)) in [
        ("sbom", "application/spdx+json", spdx_of_syft(&other, &PACKAGES)),
        ("sbom", "application/vnd.cyclonedx+json", cyclonedx_of_trivy(&other, &other, &PACKAGES)),
        ("scan", "application/sarif+json", sarif_of_trivy(&other, &other, &[])),
        ("scan", "application/vnd.anchore.grype+json", grype(&other, &other, &[])),
        (
            "sbom",
            "application/vnd.in-toto+json",
            statement("https://spdx.dev/Document", &other, spdx_of_syft(&other, &PACKAGES)),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut place = Place::new();
        let top = place.top.clone();
        place.refer(kind, kind, &report, &top);
        place.manifest("", &format!("require = [\"{rule}\"]"));
        let run = place.check("");
        assert_eq!(run.code, 4, "{number} {run}");
        for platform in ["linux/amd64", "linux/arm64"] {
            let line =
                run.stdout.lines().find(|line| line.starts_with(&format!("  tool/standard {platform}: ")));
            let line = line.unwrap_or_else(|| panic!("{number} {run}"));
            assert!(
                line.contains("a report about another digest") && line.contains(&other),
                "{number} {line}"
            );
            assert!(line.contains(digest(&place.top)), "{number} {line}");
        }
        place.export("bundle.tar").fails(4, "PolicyRefused");
        place.scratch.holds_no_bundle();
        // The same report in a file.
        if rule == "sbom" {
            let place = Place::new();
            place.scratch.write("report.json", report.to_string());
            place.manifest("sbom = \"report.json\"\n", "");
            place.export("bundle.tar").fails(4, "PolicyRefused").says("report.json").says(&other);
            place.scratch.holds_no_bundle();
        }
    }
}

#[test]
fn a_report_about_a_platform_that_stays_behind_is_no_report_about_another_image() {
    let mut place = Place::new();
    let (top, other) = (place.top.clone(), digest(&place.builds[1]).to_owned());
    for (build, packages) in [(digest(&place.builds[0]).to_owned(), &PACKAGES[..1]), (other, &PACKAGES[1..])]
    {
        place.refer("application/spdx+json", "application/spdx+json", &spdx_of_syft(&build, packages), &top);
    }
    place.manifest("platforms = [\"linux/amd64\"]\n", "require = [\"sbom\"]");
    place.check("").ok();
    place.export("bundle.tar").ok();
    let listed = place.sbom("--output json").ok();
    assert_eq!(listed.json()["packages"].as_array().unwrap().len(), 1, "{listed}");
    assert!(!listed.stderr.contains("note:"), "{listed}");
}

#[test]
fn a_file_for_one_platform_may_not_be_about_another() {
    let place = Place::new();
    for (platform, build) in [("linux-amd64", 0), ("linux-arm64", 0)] {
        let sbom = spdx_of_syft(digest(&place.builds[build]), &PACKAGES);
        place.scratch.write(format!("{platform}.json"), sbom.to_string());
    }
    place.manifest("sbom = \"{platform}.json\"\n", "");
    let run = place.export("bundle.tar").fails(4, "PolicyRefused").says("linux-arm64.json");
    run.says(digest(&place.builds[0])).says(digest(&place.builds[1]));
}

/// Files for an image: an SBOM for each platform, and a scan of it all.
fn with_files() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.scratch.path("sbom")).unwrap();
    for (platform, build) in [("linux-amd64", 0), ("linux-arm64", 1)] {
        let sbom = spdx_of_syft(digest(&place.builds[build]), &PACKAGES);
        place.scratch.write(format!("sbom/tool-standard-{platform}.spdx.json"), sbom.to_string());
    }
    let scan = sarif_of_grype(&FOUND).to_string();
    let short = &digest(&place.top)[7..14];
    place.scratch.write(format!("scan-1.0.0-{short}.sarif"), scan);
    place.manifest(
        "sbom = \"sbom/{image}-{variant}-{platform}.spdx.json\"\nscan = [\"scan-{version}-{sha}.sarif\"]\n",
        "require = [\"sbom\", \"scan\", \"tools\"]\n[policy.scan]\nmax = { critical = 0 }",
    );
    place
}

#[test]
fn files_cross_as_referrers_of_the_image() {
    let place = with_files();
    place.export("bundle.tar").ok();
    place.export("again.tar").ok();
    assert!(
        place.scratch.read("bundle.tar") == place.scratch.read("again.tar"),
        "the same files, the same bytes"
    );
    let recorded = place.scratch.sealift("check bundle.tar --trust trust --json").ok();
    for rule in ["sbom", "scan", "tools"] {
        assert_eq!(checked(&recorded, rule)["result"], "pass", "{recorded}");
    }
    let note = &checked(&recorded, "scan")["noted"][0];
    assert_eq!(note, &json!(format!("tool/standard linux/amd64, linux/arm64: {COUNTS} (sarif)")));
    let shown = place.scratch.sealift("inspect bundle.tar --trust trust").ok();
    assert!(shown.stdout.contains(COUNTS), "{shown}");
    // What the bundle holds says the same when it is judged again, or cut.
    place.scratch.sealift("check bundle.tar --trust trust --rules release.toml").ok();
    let slice =
        "export --from bundle.tar --platform linux/arm64 -o arm.tar --key release.key.pem --trust trust";
    place.scratch.sealift(slice).ok();
    let cut = place.scratch.sealift("sbom arm.tar --trust trust --output json").ok().json();
    assert_eq!(cut["sboms"].as_array().unwrap().len(), 1, "{cut:#}");

    place.scratch.sealift("import bundle.tar --to store:store --trust trust").ok();
    let serving = Serving::start(&place.scratch, "store:store");
    for (subject, kind) in [
        (digest(&place.builds[0]), "application/spdx+json"),
        (digest(&place.builds[1]), "application/spdx+json"),
        (digest(&place.top), "application/sarif+json"),
    ] {
        let reply = serving.get(&format!("/v2/tools/tool/referrers/{subject}"));
        let listed: Value = serde_json::from_slice(&reply.body).unwrap();
        let listed = listed["manifests"].as_array().unwrap();
        assert_eq!(listed.len(), 1, "{subject}");
        assert_eq!(listed[0]["artifactType"], kind);
        let reply = serving.get(&format!("/v2/tools/tool/manifests/{}", digest(&listed[0])));
        let manifest: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((&manifest["artifactType"], digest(&manifest["subject"])), (&json!(kind), subject));
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], kind);
        let title = layer["annotations"]["org.opencontainers.image.title"].as_str().unwrap();
        let path = if title.ends_with(".sarif") { title.to_owned() } else { format!("sbom/{title}") };
        let content = place.scratch.read(path);
        assert_eq!(digest(layer), format!("sha256:{}", sha256(&content)));
        assert_eq!(serving.get(&format!("/v2/tools/tool/blobs/{}", digest(layer))).body, content);
    }
}

#[test]
fn referrers_false_leaves_all_behind_but_the_files() {
    let mut place = with_files();
    let top = place.top.clone();
    place.refer(
        "application/spdx+json",
        "application/spdx+json",
        &spdx_of_syft(digest(&top), &PACKAGES),
        &top,
    );
    let attached = |place: &Place| {
        place.export("bundle.tar").ok();
        let statement = Parts::read(&place.scratch.read("bundle.tar")).statement();
        place.scratch.remove("bundle.tar");
        statement["images"][0]["referrers"].as_array().unwrap().len()
    };
    assert_eq!(attached(&place), 4);
    let manifest = String::from_utf8(place.scratch.read("release.toml")).unwrap();
    place.scratch.write("release.toml", manifest.replace("\n[[image]]", "referrers = false\n[[image]]"));
    assert_eq!(attached(&place), 3);
}

#[test]
fn templates_that_cannot_be_meant_are_refused_with_their_place() {
    for (line, says) in [
        ("sbom = \"sbom/{arch}.json\"", "is no template"),
        ("scan = [\"a\", \"\"]", "does not name a file"),
        ("scan = 1", "a path such as"),
    ] {
        let place = Place::new();
        place.manifest(&format!("{line}\n"), "");
        place.check("").fails(2, "ManifestInvalid").says(says).says("release.toml:1");
    }
    let place = Place::new();
    place.manifest("sbom = \"missing-{platform}.json\"\n", "");
    place.export("bundle.tar").fails(1, "Io").says("missing-linux-amd64.json");
    place.scratch.write("scan.json", trivy(&place.configs[0], digest(&place.top), &[]).to_string());
    place.manifest("sbom = \"scan.json\"\n", "");
    place.export("bundle.tar").fails(2, "ManifestInvalid").says("got trivy").says("scan.json");
    place.scratch.write("scan.json", "{}");
    place.export("bundle.tar").fails(2, "ManifestInvalid").says("other JSON");
}

#[test]
fn the_commit_in_a_file_s_name_is_that_of_the_tag() {
    let place = Place::new();
    let mut layout = Layout::open(place.scratch.path("images"));
    layout.name("registry.example.com/tools/tool:sha-9f2c1ab", place.top.clone());
    place.scratch.write("tool-9f2c1ab.json", spdx_of_syft(digest(&place.top), &PACKAGES).to_string());
    place.manifest("also_tag = [\"sha-9f2c1ab\"]\nsbom = \"{image}-{sha}.json\"\n", "require = [\"sbom\"]");
    place.export("bundle.tar").ok();
}

#[test]
fn builds_without_a_report_are_named() {
    let mut place = Place::new();
    let build = place.builds[0].clone();
    place.refer(
        "application/spdx+json",
        "application/spdx+json",
        &spdx_of_syft(digest(&build), &PACKAGES),
        &build,
    );
    place.manifest("", "require = [\"sbom\", \"scan\", \"tools\"]");
    let run = place.check("");
    assert_eq!(run.code, 4, "{run}");
    for line in [
        "  tool/standard linux/arm64: got no SBOM, expected an SBOM\n",
        "  tool/standard linux/amd64: got no scan report, expected a scan report (Trivy, Grype or SARIF)\n",
        "  tool/standard linux/arm64: got no SBOM to look into, expected an SBOM without build tools\n",
    ] {
        assert!(run.stdout.contains(line), "{line}{run}");
    }
    assert!(!run.stdout.contains("linux/amd64: got no SBOM"), "{run}");
    place.manifest("", "[policy.sbom]\nformats = [\"cyclonedx\"]");
    let run = place.check("");
    let line = "tool/standard linux/amd64: got only spdx, expected an SBOM as cyclonedx";
    assert!(run.code == 4 && run.stdout.contains(line), "{run}");
}

#[test]
fn build_tools_are_found_in_the_sbom() {
    let tools: [Package; 4] = [
        ("gcc", "14.2.0-r4", "GPL-2.0-or-later", "apk"),
        // What is called so in Debian's runtime images, and a library of another world.
        ("gcc-14-base", "14.2.0-8", "GPL-3.0", "deb"),
        ("make", "0.8.1", "MIT", "npm"),
        ("curl", "8.12", "curl", "apk"),
    ];
    let mut place = Place::new();
    let top = place.top.clone();
    place.refer("application/spdx+json", "application/spdx+json", &spdx_of_syft(digest(&top), &tools), &top);
    for (policy, got) in [
        ("require = [\"tools\"]", "in the SBOM: gcc 14.2.0-r4"),
        ("[policy.tools]\npackages = [\"cur*\", \"make\"]", "in the SBOM: curl 8.12, make 0.8.1"),
    ] {
        place.manifest("", policy);
        let run = place.check("");
        let line = format!("  tool/standard linux/arm64: got {got}, expected no build tools\n");
        assert!(run.code == 4 && run.stdout.contains(&line), "{run}");
    }
    place.manifest("", "[policy.tools]\npackages = [\"perl\"]");
    place.check("").ok();
}

#[test]
fn packages_are_found_by_name_and_licences_are_counted() {
    let place = with_files();
    place.export("bundle.tar").ok();
    let all = place.sbom("").ok();
    assert_eq!(all.stdout.lines().count(), 1 + 2 * PACKAGES.len(), "{all}");
    assert!(
        all.stdout.starts_with("IMAGE          PLATFORM     PACKAGE           VERSION   LICENCE\n"),
        "{all}"
    );
    for (asked, lines) in [("--package OpenSSL", 2), ("--package net --platform linux/arm64", 1)] {
        let found = place.sbom(asked).ok();
        assert_eq!(found.stdout.lines().count(), 1 + lines, "{found}");
    }
    place.sbom("--package ssl").fails(1, "NotFound").says("no SBOM lists the package \"ssl\"");
    let licences = place.sbom("--licenses").ok();
    assert_eq!(
        licences.stdout,
        "PACKAGES  LICENCE\n       2  Apache-2.0\n       2  BSD-3-Clause\n       2  MIT\n"
    );
    assert_eq!(
        place.sbom("--licenses --output json").ok().json()[0],
        json!({ "licence": "Apache-2.0", "packages": 2 })
    );
    place.sbom("--licenses --output spdx").fails(2, "Usage");
    place.scratch.sealift("sbom bundle.tar --trust home").fails(3, "TrustStore");
    // Another one has none.
    let other = Place::new();
    other.manifest("", "");
    other.export("bundle.tar").ok();
    other.sbom("").fails(1, "NotFound").says("no SBOM");
}

#[test]
fn one_document_is_made_of_all_sboms() {
    let place = with_files();
    place.export("bundle.tar").ok();
    let spdx = place.sbom("--output spdx").ok().json();
    assert_eq!((&spdx["spdxVersion"], &spdx["dataLicense"]), (&json!("SPDX-2.3"), &json!("CC0-1.0")));
    let packages = spdx["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 2 + 2 * PACKAGES.len());
    let mut ids: Vec<_> = packages.iter().map(|one| one["SPDXID"].as_str().unwrap()).collect();
    for relation in spdx["relationships"].as_array().unwrap() {
        let end = relation["relatedSpdxElement"].as_str().unwrap();
        assert!(ids.contains(&end), "{relation}");
    }
    assert_eq!(spdx["relationships"].as_array().unwrap().len(), packages.len());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), packages.len());
    for one in packages {
        for field in ["name", "downloadLocation", "licenseDeclared"] {
            assert!(one[field].is_string(), "{field} {one}");
        }
    }
    let cyclonedx = place.sbom("--output cyclonedx").ok().json();
    assert_eq!((&cyclonedx["bomFormat"], &cyclonedx["version"]), (&json!("CycloneDX"), &json!(1)));
    assert!(cyclonedx["serialNumber"].as_str().unwrap().starts_with("urn:uuid:"));
    let images = cyclonedx["components"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for (image, build) in images.iter().zip(&place.builds) {
        assert_eq!(
            (&image["type"], image["version"].as_str().unwrap()),
            (&json!("container"), digest(build))
        );
        assert_eq!(image["components"].as_array().unwrap().len(), PACKAGES.len());
    }
    // What it writes it reads.
    for (name, document) in [("merged.spdx.json", spdx), ("merged.cdx.json", cyclonedx)] {
        place.scratch.write(name, document.to_string());
        place.manifest(&format!("sbom = \"{name}\"\n"), "require = [\"sbom\"]");
        place.check("").ok();
    }
    // The same bundle, the same documents.
    assert_eq!(place.sbom("--output spdx").stdout, place.sbom("--output spdx").stdout);
}

#[test]
fn a_table_for_spreadsheets_runs_no_formulas() {
    let hostile: [Package; 2] =
        [("=cmd|' /C calc'!A0", "1,2\"3", "@SUM(1)", "apk"), ("\u{1b}[31mred", "+1", "-1\r\n=2", "apk")];
    let mut place = Place::new();
    let top = place.top.clone();
    place.refer(
        "application/spdx+json",
        "application/spdx+json",
        &spdx_of_syft(digest(&top), &hostile),
        &top,
    );
    place.manifest("", "");
    place.export("bundle.tar").ok();
    let csv = place.sbom("--output csv").ok().stdout;
    assert!(csv.contains("\"'=cmd|' /C calc'!A0\",\"1,2\"\"3\",\"'@SUM(1)\""), "{csv}");
    assert!(csv.contains("\"'+1\",\"'-1  =2\""), "{csv}");
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let table = place.sbom("").ok().stdout;
    assert!(!table.contains('\u{1b}'), "{table}");
}

#[test]
fn hostile_reports_are_refused_and_harm_nobody() {
    let deep =
        format!("{{\"spdxVersion\":\"SPDX-2.3\",\"x\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let long = format!("{{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"{}\"}}", "x".repeat(9 << 20));
    let item = format!(
        "{{\"spdxVersion\":\"SPDX-2.3\",\"packages\":[{{\"name\":\"x\",\"externalRefs\":[{}{{}}]}}]}}",
        "{},".repeat(3 << 20)
    );
    let twice = "{\"spdxVersion\":\"SPDX-2.3\",\"packages\":[],\"packages\":[{\"name\":\"gcc\"}]}".to_owned();
    let disguised = "{\"spdxVersion\":\"SPDX-2.3\",\"Packages\":[{\"name\":\"gcc\"}]}".to_owned();
    let both =
        "{\"spdxVersion\":\"SPDX-2.3\",\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\"}".to_owned();
    for (content, says) in [
        (deep, "nested too deeply"),
        (long, "a text in it is too long"),
        (item, "one of its items is too large"),
        (twice, "the key \"packages\" twice"),
        (disguised, "which some readers take for \"packages\""),
        (both, "fields of spdx and of cyclonedx"),
        ("{\"spdxVersion\":\"SPDX-3.0\"}".to_owned(), "expected SPDX-2.2 or SPDX-2.3"),
        ("\u{feff}{}".to_owned(), "not a report that can be read"),
    ] {
        let place = Place::new();
        place.scratch.write("report.json", &content);
        place.manifest("sbom = \"report.json\"\n", "");
        let run = place.export("bundle.tar");
        assert!(
            run.code == 3 && run.stderr.contains(says) && run.stderr.contains("report.json"),
            "{says}\n{run}"
        );
        // Attached by others, it is no SBOM, and stops nothing else.
        let mut place = Place::new();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/spdx+json",
            "config": place.layout.blob("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [place.layout.blob("application/spdx+json", content.as_bytes())],
            "subject": { "mediaType": place.top["mediaType"], "digest": place.top["digest"], "size": place.top["size"] },
        });
        let document = place.layout.document(&manifest);
        place.layout.unnamed(document);
        place.manifest("", "warn = [\"sbom\"]");
        let findings = checked(&place.check("--json").ok(), "sbom")["findings"].clone();
        assert!(findings[0]["got"].as_str().unwrap().contains(says), "{findings:#}");
        let mut command =
            place.scratch.command("check release.toml --mirror registry.example.com=oci:images");
        command.env("RUST_BACKTRACE", "0");
        let (_, peak) = watched(command);
        assert!(peak < 64 << 20, "{says}: {peak} bytes");
    }
}

#[test]
fn an_envelope_is_read_as_verifiers_read_it() {
    let check = |change: fn(&mut Value)| {
        let mut place = Place::new();
        let build = place.builds[0].clone();
        let statement =
            statement("https://spdx.dev/Document", digest(&build), spdx_of_syft(digest(&build), &PACKAGES));
        let mut envelope = envelope(&statement);
        change(&mut envelope);
        place.tag("att", "application/vnd.dsse.envelope.v1+json", &envelope, &build);
        place.manifest("", "warn = [\"sbom\"]");
        let findings = checked(&place.check("--json").ok(), "sbom")["findings"].clone();
        let said = findings.as_array().unwrap().iter().find(|one| one["platform"] == "linux/amd64");
        said.map(|one| one["got"].as_str().unwrap().to_owned())
    };
    // dsse, envelope.md: both alphabets of RFC 4648.
    let url = |envelope: &mut Value| {
        let text = envelope["payload"].as_str().unwrap().replace('+', "-").replace('/', "_");
        envelope["payload"] = json!(text.trim_end_matches('='));
    };
    assert_eq!(check(|_| {}), None);
    assert_eq!(check(url), None);
    let other = check(|envelope| envelope["payloadType"] = json!("application/json")).unwrap();
    assert!(other.contains("an envelope of something else than a statement"), "{other}");
    let broken = check(|envelope| envelope["payload"] = json!("e30=!")).unwrap();
    assert!(broken.contains("not base64"), "{broken}");
    let bare = check(|envelope| envelope["payload"] = json!("e30=")).unwrap();
    assert_eq!(bare, "no SBOM");
}

/// An SBOM of fifty megabytes.
fn heavy(manifest: &str) -> String {
    let empty = spdx_of_syft(manifest, &[]).to_string();
    let (head, tail) = empty.split_once("\"packages\":[").unwrap();
    let mut text = format!("{head}\"packages\":[");
    for number in 0.. {
        if text.len() >= 50 << 20 {
            break;
        }
        let _ = write!(
            text,
            "{{\"SPDXID\":\"SPDXRef-Package-{number}\",\"name\":\"package-{number}\",\"versionInfo\":\"1.{number}\",\
             \"licenseDeclared\":\"MIT\",\"downloadLocation\":\"NOASSERTION\",\"sourceInfo\":\"{}\",\"externalRefs\":[{{\
             \"referenceCategory\":\"PACKAGE-MANAGER\",\"referenceType\":\"purl\",\"referenceLocator\":\"pkg:apk/x@1\"}}]}},",
            "acquired package info from the installed files. ".repeat(12)
        );
    }
    text + tail
}

#[test]
fn an_sbom_of_fifty_megabytes_is_read_within_the_memory_promise() {
    let place = Place::new();
    let sbom = heavy(digest(&place.builds[0]));
    assert!(sbom.len() > 50 << 20);
    place.scratch.write("heavy.json", &sbom);
    drop(sbom);
    place.manifest("sbom = \"heavy.json\"\n", "warn = [\"sbom\", \"tools\"]");
    let mirror = "--mirror registry.example.com=oci:images";
    let export = format!("export release.toml -o bundle.tar --key release.key.pem {mirror}");
    let (_, peak) = watched(place.scratch.command(&export));
    assert!(peak < 64 << 20, "export: {peak} bytes");
    let (_, peak) = watched(place.scratch.command("sbom bundle.tar --trust trust --output spdx"));
    assert!(peak < 64 << 20, "sbom: {peak} bytes");
    let found = place.sbom("--package package-60000").ok();
    assert!(found.stdout.contains("1.60000"), "{found}");
}

#[test]
fn the_same_in_an_envelope_is_not_kept_either() {
    let mut place = Place::new();
    let build = place.builds[0].clone();
    let statement = statement("https://spdx.dev/Document", digest(&build), json!({}));
    let (head, tail) = statement
        .to_string()
        .split_once("\"predicate\":{}")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let whole = format!("{head}\"predicate\":{}{tail}", heavy(digest(&build)));
    let payload = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, whole);
    let envelope =
        json!({ "payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": [] });
    place.tag("att", "application/vnd.dsse.envelope.v1+json", &envelope, &build);
    drop((envelope, payload));
    place.manifest("", "warn = [\"sbom\"]");
    let check = "check release.toml --mirror registry.example.com=oci:images";
    let (_, peak) = watched(place.scratch.command(check));
    assert!(peak < 64 << 20, "{peak} bytes");
    let sbom = checked(&place.check("--json").ok(), "sbom");
    assert_eq!(sbom["findings"].as_array().unwrap().len(), 1, "only the other platform's: {sbom:#}");
}

/// A SARIF document of one rule and one result.
fn sarif_of(tool: &str, rule: Value, result: Value) -> Value {
    let mut rule = rule;
    rule["id"] = json!("CVE-2026-1");
    let mut result = result;
    result["ruleId"] = json!("CVE-2026-1");
    json!({ "version": "2.1.0", "runs": [{
        "tool": { "driver": { "name": tool, "rules": [rule] } }, "results": [result],
    }] })
}

#[test]
fn a_critical_vulnerability_is_one_however_it_is_written() {
    let empty = || json!({});
    for report in [
        sarif_of("x", json!({ "properties": { "security-severity": "9.8" } }), empty()),
        sarif_of(
            "x",
            json!({ "properties": { "security-severity": 9.8, "tags": ["security", "CRITICAL"] } }),
            empty(),
        ),
        sarif_of(
            "x",
            json!({ "properties": { "security-severity": "9.8", "tags": ["low", "secret"] } }),
            empty(),
        ),
        sarif_of("x", empty(), json!({ "properties": { "security-severity": "9.8" } })),
    ] {
        let mut place = Place::new();
        let top = place.top.clone();
        place.refer("application/sarif+json", "application/sarif+json", &report, &top);
        place.manifest("", "[policy.scan]\nmax = { critical = 0 }");
        let run = place.check("");
        assert_eq!(run.code, 4, "{report}\n{run}");
        assert!(run.stdout.contains("got 1 critical: CVE-2026-1"), "{report}\n{run}");
    }
}

#[test]
fn what_is_no_scan_for_vulnerabilities_does_not_pass_for_one() {
    let lint =
        sarif_of("Hadolint", json!({ "properties": { "tags": ["style"] } }), json!({ "level": "note" }));
    let unreadable =
        sarif_of("x", json!({ "properties": { "security-severity": "9.8 (CVSS3)" } }), json!({}));
    for (kind, report) in [
        ("application/sarif+json", lint),
        ("application/sarif+json", json!({ "version": "2.1.0", "runs": [] })),
        ("application/sarif+json", unreadable),
        ("application/vnd.aquasec.trivy.report+json", json!({ "SchemaVersion": 2 })),
        (
            "application/vnd.aquasec.trivy.report+json",
            json!({ "SchemaVersion": 2, "ArtifactName": "x", "Results": [{ "Vulnerabilities": { "Severity": "CRITICAL" } }] }),
        ),
    ] {
        let mut place = Place::new();
        let top = place.top.clone();
        place.refer(kind, kind, &report, &top);
        place.manifest("", "[policy.scan]\nmax = { critical = 0 }");
        let run = place.check("");
        assert_eq!(run.code, 4, "{report}\n{run}");
        assert!(!run.stdout.contains("scan       pass"), "{report}\n{run}");
    }
}
