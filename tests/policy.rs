//! Rules about releases: the worked manifests are kept by their images; each rule is broken once, and what is said
//! names the image, the platform, what is there and what should be. Where each rule comes from stands in one table.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::BTreeSet;

use sealift::policy::RULES;
use sealift::release::Tier;
use sealift::rules::RuleId;
use serde_json::{Value, json};
use support::evidence::{PACKAGES, cyclonedx_of_syft, sarif_of_grype};
use support::images::{Image, Layout};
use support::registry::Registry;
use support::worlds::{World, manifests, sbom};
use support::{Run, Scratch, peer};

const NEXUS: &str = "NEXUS-ENGINE container bundles";
const R096: &str = "R-096 containerized distribution";
const IMAGES: &str = "container images specification";
const SPLECTRUM: &str = "SPlectrum registry strategy";
const PIPELINE: &str = "container build pipeline";

/// The documents that the rules come from, each with the manifest that shows it.
const DOCUMENTS: [(&str, &str); 5] = [
    (NEXUS, "nexus-engine"),
    (R096, "web-platform"),
    (IMAGES, "app-catalog"),
    (SPLECTRUM, "splectrum"),
    (PIPELINE, "control-plane"),
];

/// A rule, where it comes from, how it is broken in which worked manifest, and what is said then.
struct Case {
    rule: RuleId,
    from: &'static str,
    manifest: &'static str,
    broken: fn(&mut World),
    /// Where, what is there, what should be.
    says: [&'static str; 3],
}

const fn case(
    rule: RuleId,
    from: &'static str,
    manifest: &'static str,
    broken: fn(&mut World),
    says: [&'static str; 3],
) -> Case {
    Case { rule, from, manifest, broken, says }
}

const CASES: &[Case] = &[
    case(
        RuleId::Cosign,
        PIPELINE,
        "control-plane",
        |world| world.signed = false,
        [
            "indexer/standard",
            "got no cosign signature",
            "expected a cosign signature by 3dba97edb866520d, over the index or over each platform's manifest",
        ],
    ),
    case(
        RuleId::Secrets,
        R096,
        "web-platform",
        |world| world.runs("platform/web:4.7.0", "Env", json!(["DB_PASSWORD=open-sesame"])),
        [
            "web/standard linux/arm64",
            "got a value that is secret by its name in the variable DB_PASSWORD",
            "expected no secrets",
        ],
    ),
    case(
        RuleId::Tools,
        IMAGES,
        "app-catalog",
        |world| world.edit("paths = [\"/usr/bin/gcc*\"", "paths = [\"/da*\""),
        ["backend/standard linux/amd64", "got /data (layer sha256:", "expected none of [policy.tools] paths"],
    ),
    case(
        RuleId::Unpacked,
        PIPELINE,
        "control-plane",
        |world| world.edit("unpacked_budget = \"600MB\"", "unpacked_budget = \"2kB\""),
        ["indexer/standard linux/arm64", "bytes unpacked", "expected at most 2000 bytes"],
    ),
    case(
        RuleId::Upgrade,
        NEXUS,
        "nexus-engine",
        |world| world.edit("upgrades_from = \">=2.0.0, <2.1.0\"\n", ""),
        [
            "the release",
            "got no upgrades_from",
            "expected the versions that the release can be installed over",
        ],
    ),
    case(
        RuleId::Entitlement,
        NEXUS,
        "nexus-engine",
        |world| {
            world.edit("# license = \"required\"", "license = \"required\"");
            world.edit("tier    = \"sovereign\"", "tier = \"developer\"");
        },
        ["the release", "got license = \"required\" in tier developer", "expected no licence in this tier"],
    ),
    case(
        RuleId::Promotion,
        IMAGES,
        "app-catalog",
        |world| world.image("ops/nginx:v1.8.2").layer = 301,
        [
            "nginx/standard",
            "under registry.example.com/ops/nginx:v1.8.2",
            "the digest of registry.example.com/ops/nginx:sha-9f2c1ab",
        ],
    ),
    case(
        RuleId::Registry,
        NEXUS,
        "nexus-engine",
        |world| {
            world.edit(
                "allowed_registries = [\"registry.example.com\"]",
                "allowed_registries = [\"harbor.example.com\"]",
            )
        },
        ["engine/standard", "got registry.example.com/nexus/engine", "expected one of harbor.example.com"],
    ),
    case(
        RuleId::Variants,
        NEXUS,
        "nexus-engine",
        |world| world.edit(", edge = \"{version}-edge\" }", " }"),
        ["engine", "got no variant edge", "expected the variant edge, as agreed"],
    ),
    case(
        RuleId::Tags,
        NEXUS,
        "nexus-engine",
        |world| world.edit("forms = [\"semver\", \"major-minor\", \"digest\"]", "forms = [\"semver\"]"),
        ["engine/standard", "got the tag 2.1,", "expected one of the forms semver in production"],
    ),
    case(
        RuleId::Version,
        NEXUS,
        "nexus-engine",
        |world| world.label("engine:2.1.0-edge", "org.opencontainers.image.version", json!("2.0.9")),
        ["engine/edge linux/arm64", "got org.opencontainers.image.version 2.0.9", "expected 2.1.0"],
    ),
    case(
        RuleId::Process,
        NEXUS,
        "nexus-engine",
        |world| world.runs("engine:2.1.0", "Entrypoint", json!(["/bin/sh", "-c", "engine & agent"])),
        ["engine/standard linux/arm/v7", "got /bin/sh -c engine & agent", "expected one program"],
    ),
    case(
        RuleId::Oci,
        NEXUS,
        "nexus-engine",
        |world| world.image("observability-agent:2.1.0").docker = true,
        [
            "observability/standard",
            "got the media type application/vnd.docker.distribution.manifest.list.v2+json",
            "expected application/vnd.oci.image.index.v1+json",
        ],
    ),
    case(
        RuleId::Latest,
        IMAGES,
        "nexus-engine",
        |world| {
            world.edit("also_tag   = [\"{major}.{minor}\"]", "also_tag = [\"latest\"]");
            world.edit("forms = [\"semver\", \"major-minor\", \"digest\"]", "");
        },
        [
            "observability/standard",
            "got the tag latest",
            "expected a tag that stays where it is, in production",
        ],
    ),
    case(
        RuleId::Revision,
        R096,
        "web-platform",
        |world| {
            for tag in ["worker:4.7.0", "worker:sha-9f2c1ab"] {
                world.label(tag, "org.opencontainers.image.revision", json!("0123456789abcdef"));
            }
        },
        [
            "worker/standard linux/amd64",
            "got org.opencontainers.image.revision 0123456789abcdef",
            "expected the commit 9f2c1ab",
        ],
    ),
    case(
        RuleId::Aliases,
        IMAGES,
        "web-platform",
        |world| world.image("web:sha-9f2c1ab").seed = "another build".to_owned(),
        [
            "web/standard",
            "got registry.example.com/platform/web:sha-9f2c1ab leads to sha256:",
            "expected sha256:",
        ],
    ),
    case(
        RuleId::Pinned,
        R096,
        "web-platform",
        |world| {
            let manifest = world.manifest.lines().filter(|line| !line.starts_with("pin"));
            world.manifest = manifest.collect::<Vec<_>>().join("\n");
        },
        ["web/standard", "got the tag 4.7.0", "expected sha256:"],
    ),
    case(
        RuleId::Labels,
        R096,
        "web-platform",
        |world| {
            for tag in ["web:4.7.0", "web:sha-9f2c1ab"] {
                world.label(tag, "org.opencontainers.image.source", json!(""));
            }
        },
        ["web/standard linux/amd64", "got no label org.opencontainers.image.source", "expected these labels"],
    ),
    case(
        RuleId::Names,
        IMAGES,
        "app-catalog",
        |world| world.edit("repositories = [\"app/*\", \"ops/*\"]", "repositories = [\"app/*\"]"),
        ["nginx/standard", "got ops/nginx", "expected one of app/*"],
    ),
    case(
        RuleId::User,
        IMAGES,
        "app-catalog",
        |world| world.runs("app/backend:v1.8.2", "User", json!("root")),
        ["backend/standard linux/arm64", "got the user root", "expected app or 10001"],
    ),
    case(
        RuleId::Ports,
        IMAGES,
        "app-catalog",
        |world| world.runs("app/frontend:v1.8.2", "ExposedPorts", json!({ "4173/tcp": {}, "8080/tcp": {} })),
        ["frontend/standard linux/amd64", "got exposed 4173/tcp", "expected only 8080/tcp"],
    ),
    case(
        RuleId::Entrypoint,
        IMAGES,
        "app-catalog",
        |world| world.runs("app/worker:v1.8.2", "Entrypoint", json!(["/bin/sh", "/app/worker"])),
        ["worker/standard linux/amd64", "got [\"/bin/sh\", \"/app/worker\"]", "expected [\"/app/worker\"]"],
    ),
    case(
        RuleId::Healthcheck,
        IMAGES,
        "app-catalog",
        |world| world.runs("ops/nginx:v1.8.2", "Healthcheck", Value::Null),
        ["nginx/standard linux/amd64", "got none", "expected [\"CMD\", \"wget\""],
    ),
    case(
        RuleId::Development,
        SPLECTRUM,
        "splectrum",
        |world| {
            let image = world.image("splectrum-engine:3.2.0").clone();
            world.images.insert("ghcr.io/splectrum/engine-dev:3.2.0".to_owned(), image);
            world.edit("splectrum/splectrum-engine", "splectrum/engine-dev");
            world.edit("repositories       = [\"splectrum/splectrum-*\"]\n", "");
        },
        [
            "engine/standard",
            "got ghcr.io/splectrum/engine-dev",
            "expected nothing like splectrum/*-dev in production",
        ],
    ),
    case(
        RuleId::Budget,
        PIPELINE,
        "control-plane",
        |world| world.edit("budget     = \"200MB\"", "budget     = \"1kB\""),
        ["indexer/standard linux/amd64", "bytes", "expected at most 1000 bytes"],
    ),
    case(
        RuleId::Platforms,
        PIPELINE,
        "control-plane",
        |world| {
            world.image("execution-plane:0.9.4").platforms = vec!["linux/amd64"];
            world.edit("platforms          = [\"linux/amd64\", \"linux/arm64\"]\n", "");
            world.edit("optional_platforms = [\"linux/arm/v7\"]\n", "");
        },
        ["execution-plane/standard linux/arm64", "got no such build", "expected a build for linux/arm64"],
    ),
    case(
        RuleId::Base,
        PIPELINE,
        "control-plane",
        |world| {
            world.image("indexer:0.9.4").history =
                vec!["FROM debian:12".to_owned(), "COPY service /service".to_owned()]
        },
        [
            "indexer/standard linux/arm/v7",
            "got a base image without a digest",
            "expected the label or annotation org.opencontainers.image.base.digest",
        ],
    ),
    case(
        RuleId::Sbom,
        IMAGES,
        "app-catalog",
        |world| {
            let other = cyclonedx_of_syft("1.8.2", &PACKAGES);
            world.files.insert("sbom/worker-linux-arm64.spdx.json".to_owned(), other);
        },
        ["worker/standard linux/arm64", "got only cyclonedx", "expected an SBOM as spdx"],
    ),
    case(
        RuleId::Scan,
        R096,
        "web-platform",
        |world| {
            let found = sarif_of_grype(&[("CVE-2026-9999", "CRITICAL", "zlib")]);
            world.files.insert("scan/web-9f2c1ab.sarif".to_owned(), found);
        },
        ["web/standard linux/amd64", "got 1 critical: CVE-2026-9999-zlib", "expected at most 0 critical"],
    ),
    case(
        RuleId::Tools,
        IMAGES,
        "app-catalog",
        |world| {
            let with_tools = sbom(&[("gcc", "14.2.0-r4", "GPL-2.0-or-later", "apk")]);
            world.files.insert("sbom/backend-linux-amd64.spdx.json".to_owned(), with_tools);
        },
        ["backend/standard linux/amd64", "got in the SBOM: gcc 14.2.0-r4", "expected no build tools"],
    ),
];

/// What is broken by the command, and not by an image: tests of their own show it.
const ELSEWHERE: &[RuleId] = &[RuleId::Signed, RuleId::Audit];

/// The mirror that a world's registry is to be looked for at.
fn mirror(scratch: &Scratch, to: &str) -> String {
    let manifest = String::from_utf8(scratch.read("release.toml")).unwrap();
    let registry = manifest.lines().find_map(|line| line.strip_prefix("registry ")).unwrap();
    format!("--mirror {}={to}", registry.split('"').nth(1).unwrap())
}

fn written(world: &World) -> Scratch {
    let scratch = Scratch::new();
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    world.write(&scratch);
    scratch
}

fn check(scratch: &Scratch, more: &str) -> Run {
    scratch.sealift(&format!("check release.toml {} {more}", mirror(scratch, "oci:images")))
}

fn export(scratch: &Scratch, more: &str) -> Run {
    let mirror = mirror(scratch, "oci:images");
    scratch.sealift(&format!("export release.toml -o bundle.tar --key release.key.pem {mirror} {more}"))
}

/// The result of a rule, in a JSON document of checks.
fn result<'a>(checks: &'a Value, rule: &str) -> &'a Value {
    checks["checks"].as_array().unwrap().iter().find(|check| check["id"] == rule).unwrap_or(&Value::Null)
}

#[test]
fn every_rule_has_a_source_and_is_broken_by_a_fixture() {
    let known: BTreeSet<RuleId> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(known, RuleId::ALL.iter().copied().collect(), "a rule that is not judged");
    let shown: BTreeSet<RuleId> =
        CASES.iter().map(|case| case.rule).chain(ELSEWHERE.iter().copied()).collect();
    assert_eq!(known, shown, "a rule without a fixture that breaks it");
    for case in CASES {
        let rule = RULES.iter().find(|rule| rule.id == case.rule).unwrap();
        assert!(rule.origin.contains(case.from), "{}: {} is not {}", rule.id, rule.origin, case.from);
    }
    for rule in RULES {
        assert!(
            DOCUMENTS.iter().any(|(document, _)| rule.origin.starts_with(document)),
            "{}: {}",
            rule.id,
            rule.origin
        );
    }
}

#[test]
fn the_table_of_rules_is_the_code_s() {
    let text = std::fs::read_to_string(manifests().join("README.md")).unwrap();
    let text = text.split("## `[policy]`").nth(1).unwrap();
    for rule in RULES {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", rule.id)));
        let row = row.unwrap_or_else(|| panic!("{} is not in manifests/README.md", rule.id));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for origin in rule.origin.split("; ") {
            assert!(row.contains(origin.split(':').next().unwrap()), "{row}\n{}", rule.origin);
        }
        let tier = |tier: Option<Tier>| tier.map_or(String::new(), |tier| tier.to_string());
        let binds = rule.from.and(rule.binds);
        assert_eq!((cells[3], cells[4]), (tier(rule.from).as_str(), tier(binds).as_str()), "{row}");
    }
}

#[test]
fn worked_manifests_are_kept_by_their_images() {
    if !peer("docker-registry") || !peer("skopeo") {
        return;
    }
    let registry = Registry::start();
    for (_, name) in DOCUMENTS {
        let world = World::of(name);
        let scratch = written(&world);
        let index: Value = serde_json::from_slice(&scratch.read("images/index.json")).unwrap();
        for entry in index["manifests"].as_array().unwrap() {
            let full = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
            let name = full.split_once('/').unwrap().1;
            let to = format!("docker://{}/{name}", registry.address());
            let copy = format!(
                "--insecure-policy copy --all --preserve-digests --dest-tls-verify=false oci:images:{full} {to}"
            );
            scratch.run("skopeo", &copy).ok();
        }
        let mirror = mirror(&scratch, &registry.address());
        let checked = scratch.sealift(&format!("check release.toml --json {mirror}")).ok().json();
        let checks = checked["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["result"] == "pass"), "{name}: {checked:#}");
        assert!(checks.len() >= 3, "{name}: {checked:#}");
        scratch.sealift(&format!("export release.toml -o bundle.tar --key release.key.pem {mirror}")).ok();
        let recorded = scratch.sealift("check bundle.tar --trust trust --json").ok().json();
        // Who makes the bundle is not known before.
        let mut recorded = recorded["checks"].as_array().unwrap().clone();
        recorded.retain(|check| check["id"] != "signed" && check["id"] != "audit");
        assert_eq!(&recorded, checks, "{name}");
        // The same rules on what the bundle holds; only where tags lead is not to be found out there.
        let again = scratch.sealift("check bundle.tar --trust trust --rules release.toml --json").ok().json();
        // What tags lead to at the source, and what a manifest pins, is not to be found out there; who signed is.
        let comparable = |checks: &Value| -> Vec<Value> {
            let checks = checks["checks"].as_array().unwrap().iter();
            let elsewhere = |check: &&Value| {
                !["aliases", "audit", "pinned", "promotion", "signed"]
                    .contains(&check["id"].as_str().unwrap())
            };
            checks.filter(elsewhere).cloned().collect()
        };
        assert_eq!(comparable(&again), comparable(&checked), "{name}");
    }
}

#[test]
fn a_broken_rule_stops_the_export_and_says_where() {
    for case in CASES {
        let mut world = World::of(case.manifest);
        (case.broken)(&mut world);
        let scratch = written(&world);
        let rule = case.rule.to_string();
        let run = check(&scratch, "");
        assert_eq!(run.code, 4, "{rule}\n{run}");
        assert!(run.stdout.contains(&format!("\n{rule}: fail\n")), "{rule}\n{run}");
        let lines: Vec<&str> =
            run.stdout.lines().skip_while(|line| *line != format!("{rule}: fail")).skip(1).collect();
        let lines: Vec<&&str> = lines.iter().take_while(|line| line.starts_with("  ")).collect();
        let [place, got, expected] = case.says;
        let said = |line: &&&&str| {
            line.starts_with(&format!("  {place}: ")) && line.contains(got) && line.contains(expected)
        };
        assert!(lines.iter().any(|line| said(&line)), "{rule}: {:?}\n{run}", case.says);
        assert!(run.stderr.contains("[PolicyRefused]"), "{rule}\n{run}");
        let run = export(&scratch, "").fails(4, "PolicyRefused");
        assert!(run.stderr.contains(&format!("rule {rule}: fail")), "{rule}\n{run}");
        scratch.holds_no_bundle();
    }
}

#[test]
fn a_manifest_without_policy_has_its_tier_s_rules() {
    let scratch = Scratch::with_small_release();
    let run =
        scratch.sealift("check release.toml --mirror registry.example.com=oci:images --json").ok().json();
    assert_eq!(run["profile"], "community");
    assert_eq!(result(&run, "budget")["result"], "pass");
    for rule in ["user", "registry", "signed"] {
        assert_eq!(result(&run, rule), &Value::Null, "{rule}");
    }
    let sovereign = support::SMALL.replace("community", "sovereign").replace("development", "production");
    scratch.write("release.toml", sovereign);
    let run =
        scratch.sealift("check release.toml --mirror registry.example.com=oci:images --json").ok().json();
    for rule in ["user", "registry"] {
        assert_eq!(result(&run, rule)["result"], "warn", "{rule}");
    }
    // The maker may let that pass; a site that demands the profile does not.
    scratch.sealift("export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com=oci:images").ok();
    scratch.sealift("import bundle.tar --to oci:copy --trust trust").ok();
    let demand = "import bundle.tar --to oci:other --trust trust --require-policy sovereign";
    let run = scratch.sealift(demand).fails(4, "PolicyRefused");
    run.says("the rule \"registry\" is broken").says("expected a registry that is agreed to be private");
    assert!(!scratch.has("other"));
}

#[test]
fn what_only_warns_is_recorded_and_shown_at_import() {
    let mut world = World::of("app-catalog");
    world.runs("app/backend:v1.8.2", "User", json!(""));
    world.edit("require      = [\"user\", \"aliases\", \"tools\"]", "warn = [\"user\"]");
    let scratch = written(&world);
    let run = export(&scratch, "").ok();
    assert!(run.stderr.contains("rule user: warn"), "{run}");
    let run = scratch.sealift("inspect bundle.tar --trust trust").ok();
    assert!(
        run.stdout.contains("backend/standard linux/amd64: got no user, so root, expected app or 10001"),
        "{run}"
    );
    let run = scratch.sealift("import bundle.tar --to oci:copy --trust trust").ok();
    assert!(run.stdout.contains("rule user: warn"), "{run}");
}

const WAIVER: &str = "\n[[policy.waiver]]\nrule = \"user\"\nimage = \"backend\"\nreason = \"JIRA-1: next release\"\nexpires = ";

#[test]
fn a_waiver_lets_pass_until_it_ends() {
    let mut world = World::of("app-catalog");
    world.runs("app/backend:v1.8.2", "User", json!("0"));
    let broken = world.manifest.clone();
    world.manifest = format!("{broken}{WAIVER}\"2099-01-01T00:00:00Z\"\n");
    let scratch = written(&world);
    let checked = check(&scratch, "--json").ok().json();
    assert_eq!(result(&checked, "user")["result"], "waived");
    export(&scratch, "").ok();
    let recorded = scratch.sealift("check bundle.tar --trust trust --json").ok().json();
    let finding = &result(&recorded, "user")["findings"][0];
    assert_eq!(
        finding["waived"],
        json!({ "expires": "2099-01-01T00:00:00Z", "reason": "JIRA-1: next release" })
    );
    let sarif = check(&scratch, "--output sarif").ok().json();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert!(
        results
            .iter()
            .all(|result| result["level"] == "note" && result["suppressions"][0]["status"] == "accepted")
    );

    world.manifest = format!("{broken}{WAIVER}\"2026-01-01T00:00:00Z\"\n");
    let scratch = written(&world);
    let run = check(&scratch, "");
    assert_eq!(run.code, 4, "{run}");
    assert!(
        run.stdout.contains("the waiver for rule user and backend ended at 2026-01-01T00:00:00Z"),
        "{run}"
    );
    export(&scratch, "").fails(4, "PolicyRefused");
    scratch.holds_no_bundle();
}

#[test]
fn a_waiver_covers_what_it_names_and_nothing_else() {
    let mut world = World::of("app-catalog");
    world.runs("app/worker:v1.8.2", "User", json!("0"));
    world.manifest += &format!("{WAIVER}\"2099-01-01T00:00:00Z\"\n");
    let scratch = written(&world);
    let run = check(&scratch, "");
    assert_eq!(run.code, 4, "{run}");
    assert!(run.stdout.contains("the waiver for rule user and backend covers nothing"), "{run}");
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_its_place() {
    for (policy, says) in [
        (
            "profile = \"community\"",
            "the profile community is less strict than the release's tier, developer",
        ),
        ("[policy.service.tool]\nuser = [\"0\"]", "root is agreed on as the user for \"tool\""),
        (
            "[policy.service.tool]\ndevelopment_ports = [80]",
            "development_ports are agreed on, but no ports for \"tool\"",
        ),
        ("require = [\"users\"]", "\"users\" is not a rule: it is one of signed, audit, upgrade"),
        ("requires = [\"user\"]", "unknown field `requires`"),
        ("require = [\"user\"]\nwarn = [\"user\"]", "the rule user is to bind and only to warn"),
        (
            "[policy.service.backed]\nuser = [\"app\"]",
            "something is agreed on \"backed\", which no image is called",
        ),
        ("[policy.service.tool]\nuser = []", "no user at all is agreed on for \"tool\""),
        ("[policy.tags]\nforms = [\"semantic\"]", "\"semantic\" is not a form of tags"),
        (
            "[[policy.waiver]]\nrule = \"user\"\nreason = \" \"\nexpires = \"2099-01-01T00:00:00Z\"",
            "a waiver for the rule user without a reason",
        ),
        ("[[policy.waiver]]\nrule = \"user\"\nreason = \"x\"", "missing field `expires`"),
        (
            "[[policy.waiver]]\nrule = \"user\"\nimage = \"tol\"\nreason = \"x\"\nexpires = \"2099-01-01T00:00:00Z\"",
            "a waiver for \"tol\"",
        ),
    ] {
        let scratch = Scratch::with_small_release();
        let manifest = format!("{}\n[policy]\n{policy}\n", support::SMALL.replace("community", "developer"));
        scratch.write("release.toml", manifest);
        scratch.sealift("check release.toml").fails(2, "ManifestInvalid").says(says).says("release.toml:1");
    }
}

#[test]
fn a_rule_that_has_nothing_to_judge_by_is_not_demanded() {
    for rule in ["ports", "names", "labels", "tags", "platforms", "variants", "registry", "development"] {
        let scratch = Scratch::with_small_release();
        scratch.write("release.toml", format!("{}\n[policy]\nrequire = [\"{rule}\"]\n", support::SMALL));
        let run = scratch.sealift("check release.toml --mirror registry.example.com=oci:images");
        run.fails(2, "ManifestInvalid")
            .says(&format!("the rule {rule} is demanded, but nothing in [policy] says"));
    }
}

#[test]
fn a_site_can_demand_a_profile() {
    let scratch = written(&World::of("nexus-engine"));
    export(&scratch, "").ok();
    for tier in ["community", "regulated", "sovereign"] {
        let to = format!("import bundle.tar --to oci:{tier} --trust trust --require-policy {tier}");
        scratch.sealift(&to).ok();
    }
    let scratch = written(&World::of("app-catalog"));
    export(&scratch, "").ok();
    let run = scratch.sealift("import bundle.tar --to oci:copy --trust trust --require-policy sovereign");
    run.fails(4, "PolicyRefused").says("got professional").says("expected sovereign or stricter");
    assert!(!scratch.has("copy"));
    scratch.sealift("check bundle.tar --trust trust --require-policy sovereign").code_is(4);
    scratch.sealift("check bundle.tar --trust trust --require-policy professional").ok();
    let run = scratch.sealift("import bundle.tar --to oci:copy --trust trust --require-policy strict");
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("it is one of community, developer"), "{run}");
}

#[test]
fn sarif_has_a_result_for_each_finding() {
    let mut world = World::of("app-catalog");
    world.runs("app/backend:v1.8.2", "User", json!("root"));
    let scratch = written(&world);
    let run = check(&scratch, "--output sarif");
    assert_eq!(run.code, 4, "{run}");
    let sarif = run.json();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "sealift");
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), RULES.len());
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[0]["ruleId"], "user");
    assert_eq!(results[0]["level"], "error");
    let text = results[0]["message"]["text"].as_str().unwrap();
    assert_eq!(text, "backend/standard linux/amd64: got the user root, expected app or 10001");
    assert_eq!(results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "release.toml");
}

#[test]
fn a_slice_keeps_the_record_of_the_bundle_that_it_was_cut_from() {
    let scratch = written(&World::of("nexus-engine"));
    export(&scratch, "").ok();
    scratch
        .sealift("export --from bundle.tar --variant edge -o edge.tar --key release.key.pem --trust trust")
        .ok();
    let mut all = scratch.sealift("check bundle.tar --trust trust --json").ok().json();
    let part = scratch.sealift("check edge.tar --trust trust --json").ok().json();
    // What is said of all variants does not hold for one of them.
    all["checks"].as_array_mut().unwrap().retain(|check| check["id"] != "variants");
    assert_eq!(all, part);
}

#[test]
fn a_part_of_a_release_is_not_said_to_have_everything() {
    let scratch = written(&World::of("nexus-engine"));
    let run = export(&scratch, "--variant edge").ok();
    run.says("note: the rule variants has nothing to judge here, and is left out");
    let part = scratch.sealift("check bundle.tar --trust trust --json").ok().json();
    assert_eq!(result(&part, "variants"), &Value::Null);
    assert_eq!(result(&part, "version")["result"], "pass");

    let scratch = written(&World::of("control-plane"));
    export(&scratch, "").ok();
    scratch
        .sealift(
            "export --from bundle.tar --platform linux/amd64 -o part.tar --key release.key.pem --trust trust",
        )
        .ok();
    let part = scratch.sealift("check part.tar --trust trust --json").ok().json();
    assert_eq!(result(&part, "platforms"), &Value::Null);
    assert_eq!(result(&part, "base")["result"], "pass");
}

/// Rewrites the config of a single manifest, and what names it.
fn with_config(scratch: &Scratch, name: &str, change: impl FnOnce(&mut Value, &mut Value)) {
    let mut layout = Layout::open(scratch.path("images"));
    let blob = |digest: &str| scratch.read(format!("images/blobs/{}", digest.replace(':', "/")));
    let mut manifest: Value =
        serde_json::from_slice(&blob(layout.entry(name)["digest"].as_str().unwrap())).unwrap();
    let mut config: Value =
        serde_json::from_slice(&blob(manifest["config"]["digest"].as_str().unwrap())).unwrap();
    change(&mut manifest, &mut config);
    let media_type = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
    manifest["config"] = layout.blob(&media_type, config.to_string().as_bytes());
    let top = layout.document(&manifest);
    layout.name(name, top);
}

#[test]
fn what_does_not_say_how_it_runs_breaks_every_rule_about_that() {
    let policy = "[policy]\nrequire = [\"user\", \"process\", \"base\"]\nlabels = [\"x\"]\n[policy.service.\"*\"]\nports = []\nentrypoint = [\"/x\"]\n";
    let breaks: [fn(&mut Value, &mut Value); 4] = [
        |_, config| config["os"] = json!(""),
        |_, config| config["os"] = json!("unknown"),
        |_, config| config["architecture"] = json!("amd 64"),
        |manifest, _| manifest["config"]["mediaType"] = json!("application/vnd.example.config.v1+json"),
    ];
    for change in breaks {
        let scratch = Scratch::with_small_release();
        let image = Image { no_index: true, platforms: vec!["linux/amd64"], ..Image::new("tool") };
        let name = "registry.example.com/tools/tool:1.0.0";
        Layout::open(scratch.path("images")).add(name, &image);
        with_config(&scratch, name, change);
        scratch.write("release.toml", format!("{}\n{policy}", support::SMALL));
        let run =
            scratch.sealift("check release.toml --mirror registry.example.com=oci:images --json").code_is(4);
        let run = run.json();
        for rule in ["user", "process", "base", "labels", "entrypoint"] {
            assert_eq!(result(&run, rule)["result"], "fail", "{rule}: {run:#}");
        }
    }
}

#[test]
fn spellings_of_root_are_root() {
    for user in ["", "0", "00", "-0", "+0", "root", "0:0", "root:app", "-00:5"] {
        let mut world = World::of("app-catalog");
        world.runs("app/backend:v1.8.2", "User", json!(user));
        world.edit(
            "[policy.service.backend]\nuser        = [\"app\", \"10001\"]\n",
            "[policy.service.backend]\n",
        );
        let scratch = written(&world);
        let run = check(&scratch, "").code_is(4);
        assert!(run.stdout.contains("expected one other than root"), "{user:?}\n{run}");
    }
}

#[test]
fn what_other_readers_see_in_a_config_is_refused() {
    for (key, value) in [
        ("user", json!("root")),
        ("exposedPorts", json!({ "22/tcp": {} })),
        ("entrypoint", json!(["/bin/sh"])),
    ] {
        let mut world = World::of("app-catalog");
        world.runs("app/backend:v1.8.2", key, value);
        check(&written(&world), "").fails(3, "DocumentAmbiguous").says(key);
    }
}

#[test]
fn a_registry_is_not_a_path_of_another_one() {
    let scratch = Scratch::with_small_release();
    let policy = "\n[policy]\nallowed_registries = [\"registry.example.com\", \"ghcr.io/*\"]\n";
    for (repository, kept) in [
        ("registry.example.com", "registry.example.com"),
        ("evil.example.com", "registry.example.com"),
        ("evil.example.com", "ghcr.io/tools"),
    ] {
        let name = format!("{repository}/{kept}/tool:1.0.0");
        Layout::open(scratch.path("images")).add(&name, &Image::new("tool"));
        let release = support::SMALL
            .replace("registry.example.com", repository)
            .replace("tools/tool", &format!("{kept}/tool"));
        scratch.write("release.toml", format!("{release}{policy}"));
        let run = scratch.sealift(&format!("check release.toml --mirror {repository}=oci:images"));
        assert_eq!(run.code, if repository == "registry.example.com" { 0 } else { 4 }, "{run}");
    }
}

#[test]
fn what_is_agreed_with_all_holds_where_nothing_else_is_agreed() {
    let mut world = World::of("app-catalog");
    world.manifest += "\n[policy.service.\"*\"]\nuser = [\"app\", \"10001\"]\nports = [8080]\n";
    world.edit(
        "[policy.service.frontend]\nuser        = [\"app\", \"10001\"]\n",
        "[policy.service.frontend]\n",
    );
    world.runs("app/frontend:v1.8.2", "User", json!("12"));
    let run = check(&written(&world), "").code_is(4);
    assert!(
        run.stdout.contains("frontend/standard linux/amd64: got the user 12, expected app or 10001"),
        "{run}"
    );
}

#[test]
fn every_variant_may_have_its_commit_s_tag() {
    let mut world = World::of("web-platform");
    let image = world.image("web:4.7.0").clone();
    for tag in ["4.7.0-edge", "sha-9f2c1ab-edge"] {
        world.images.insert(format!("registry.example.com/platform/web:{tag}"), image.clone());
    }
    let digest = world.manifest.split("sha256:").nth(1).unwrap()[..64].to_owned();
    world.edit(
        "repository = \"platform/web\"\ntags       = { standard = \"{version}\" }",
        "repository = \"platform/web\"\ntags       = { standard = \"{version}\", edge = \"{version}-edge\" }",
    );
    let pin = format!("pin        = {{ standard = \"sha256:{digest}\" }}");
    world.edit(&pin, &format!("pin = {{ standard = \"sha256:{digest}\", edge = \"sha256:{digest}\" }}"));
    check(&written(&world), "").ok();
}

#[test]
fn commands_that_start_several_programs_are_told_from_others() {
    for (command, several) in [
        (json!(["/engine"]), false),
        (json!(["/usr/bin/tini", "--", "/engine", "--cgroup=/run/systemd"]), false),
        (json!(["/agent", "--exclude", "monit"]), false),
        (json!(["/bin/sh", "-c", "exec /engine 2>&1"]), false),
        (json!(["/bin/sh", "-c", "mkdir -p /run/x && exec /engine"]), false),
        (json!(["/bin/sh", "-ec", "/engine & /agent"]), true),
        (json!(["/sbin/tini", "--", "sh", "-c", "/engine; /agent"]), true),
        (json!(["busybox", "sh", "-c", "/engine | tee /log"]), true),
        (json!(["/init"]), true),
        (json!(["supervisord", "-n"]), true),
    ] {
        let mut world = World::of("nexus-engine");
        world.runs("engine:2.1.0", "Entrypoint", command.clone());
        let run = check(&written(&world), "");
        assert_eq!(run.code, if several { 4 } else { 0 }, "{command}\n{run}");
    }
}

#[test]
fn tags_that_move_stay_in_development_whatever_follows_them() {
    let scratch = Scratch::with_small_release();
    let release =
        support::SMALL.replace("community", "professional").replace("development", "staging").replace(
            "{ standard = \"{version}\" }",
            "{ standard = \"{version}\", edge = \"{version}-edge\" }\nalso_tag = [\"latest\"]",
        );
    Layout::open(scratch.path("images"))
        .add("registry.example.com/tools/tool:1.0.0-edge", &Image::new("edge"));
    scratch.write("release.toml", &release);
    let run = scratch.sealift("check release.toml --mirror registry.example.com=oci:images").code_is(4);
    assert!(run.stdout.contains("tool/edge: got the tag latest-edge"), "{run}");
}

#[test]
fn configs_that_are_too_large_to_judge_by_are_not_said_to_keep_a_rule() {
    let mut world = World::of("app-catalog");
    world.runs("app/backend:v1.8.2", "Labels", json!({ "filler": "x".repeat(900_000) }));
    let run = check(&written(&world), "").code_is(4);
    for rule in ["user", "secrets", "ports"] {
        assert!(run.stdout.contains(&format!("\n{rule}: fail\n")), "{rule}\n{run}");
    }
    assert!(
        run.stdout.contains("backend/standard linux/arm/v7: got a config that is too large to judge it by"),
        "{run}"
    );
}
