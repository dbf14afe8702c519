//! Licences: which releases ask for one, who may give it, and what it is for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use serde_json::json;
use support::parts::{Parts, signing_key};
use support::{Run, Scratch, peer, piped, run};

const NEW: &str = "license new acme.license --key vendor.key.pem --customer ACME --serial 2026-0042 --bundle small \
                   --tier enterprise --issued 2026-01-01T00:00:00Z";

const IMPORT: &str = "import bundle.tar --to oci:there --trust trust";

/// A release that asks for a licence, a vendor, and a site that knows both keys apart.
fn licensed() -> Scratch {
    let scratch = Scratch::with_small_release();
    export(&scratch, "bundle.tar", "enterprise", "license = \"required\"").ok();
    scratch.key("vendor");
    scratch.key("stranger");
    std::fs::copy(scratch.path("vendor.pub.pem"), scratch.path("trust/vendor.pub.pem")).unwrap();
    rules(&scratch, "[license]\nkeys = [\"vendor\"]");
    scratch
}

fn export(scratch: &Scratch, bundle: &str, tier: &str, more: &str) -> Run {
    let release =
        support::SMALL.replace("community", tier).replace("\n[[image]]", &format!("{more}\n[[image]]"));
    scratch.write("release.toml", release);
    scratch.sealift(&support::EXPORT.replace("bundle.tar", bundle))
}

fn rules(scratch: &Scratch, text: &str) {
    scratch.write("trust/trust.toml", format!("schema = 1\n{text}\n"));
    scratch.chmod("trust/trust.toml", 0o644);
}

/// Makes a licence, the flags of [`NEW`] replaced.
#[track_caller]
fn licence(scratch: &Scratch, changes: &[(&str, &str)]) {
    let mut command = NEW.to_owned();
    for (from, to) in changes {
        assert!(command.contains(from), "{from}");
        command = command.replace(from, to);
    }
    scratch.remove("acme.license");
    scratch.sealift(&command).ok();
}

/// What an import with this licence comes to; where it fails, nothing was written and nothing is remembered.
#[track_caller]
fn import(scratch: &Scratch, more: &str) -> Run {
    let import = scratch.sealift(&format!("{IMPORT} {more}"));
    let through = piped(scratch, "bundle.tar", &format!("{IMPORT} {more}").replace("bundle.tar", "-"));
    assert_eq!(through.code, import.code, "{import}\n{through}");
    assert_eq!(scratch.has("there"), import.code == 0, "{import}");
    let _ = std::fs::remove_dir_all(scratch.path("there"));
    import
}

#[test]
fn a_release_that_asks_for_a_licence_is_installed_with_one_only() {
    let scratch = licensed();
    import(&scratch, "").fails(4, "LicenseMissing").says("small 1.0.0").says("--license FILE");
    import(&scratch, "--dry-run").fails(4, "LicenseMissing");
    licence(&scratch, &[]);
    import(&scratch, "--license acme.license").ok().says("licence 2026-0042 of ACME, signed by vendor");
    let mut command = scratch.command(IMPORT);
    command.env("SEALIFT_LICENSE", "acme.license");
    run(command).ok();
    // It speaks of installing, not of looking.
    scratch.sealift("verify bundle.tar --trust trust").ok();
    let inspected = scratch.sealift("inspect bundle.tar --trust trust --json").ok().json();
    assert_eq!(inspected["statement"]["license"], "required");
    // A part of the release asks for the same.
    let slice = "export --from bundle.tar --trust trust -o part.tar --key release.key.pem";
    scratch.sealift(slice).ok();
    assert_eq!(Parts::read(&scratch.read("part.tar")).statement()["license"], "required");
}

#[test]
fn what_a_licence_is_not_for_is_refused() {
    let scratch = licensed();
    for (changes, what) in [
        (
            vec![("--bundle small", "--bundle nexus-*,tiny")],
            "the licence does not cover this bundle: acme.license: got small",
        ),
        (
            vec![("--tier enterprise", "--tier professional,sovereign")],
            "the licence does not cover this tier",
        ),
        (
            vec![("--tier enterprise", "--tier enterprise --versions >=2,<3")],
            "the licence does not cover this version",
        ),
        (
            vec![("--tier enterprise", "--tier enterprise --expires 2026-02-01T00:00:00Z")],
            "the licence has expired",
        ),
        (vec![("vendor.key", "stranger.key")], "not signed with a key for licences"),
        (vec![("vendor.key", "release.key")], "a key that signs bundles, and no licences"),
    ] {
        let changes: Vec<(&str, &str)> = changes.into_iter().map(|(from, to)| (from, to.trim())).collect();
        licence(&scratch, &changes);
        import(&scratch, "--license acme.license").fails(4, "LicenseRefused").says(what);
    }
    for bundle in ["s*", "*", "other,small"] {
        licence(
            &scratch,
            &[
                ("--bundle small", &format!("--bundle {bundle}")),
                (
                    "--tier enterprise",
                    "--tier enterprise,regulated --versions >=1.0.0,<2 --expires 2090-01-01T00:00:00Z",
                ),
            ],
        );
        import(&scratch, "--license acme.license").ok().says("until 2090-01-01T00:00:00Z");
    }
    // A signed time is in the past, whatever the clock says.
    licence(&scratch, &[("--tier enterprise", "--tier enterprise --expires 2035-01-01T00:00:00Z")]);
    import(&scratch, "--license acme.license").ok();
    let release = String::from_utf8(scratch.read("release.toml")).unwrap();
    scratch.write("release.toml", release.replace("1.0.0", "1.0.1").replace("\"{version}\"", "\"1.0.0\""));
    scratch.sealift(&format!("{} --overwrite --created 2036-01-01T00:00:00Z", support::EXPORT)).ok();
    import(&scratch, "--license acme.license")
        .fails(4, "LicenseRefused")
        .says("the licence has expired")
        .says("2036");
}

#[test]
fn a_licence_that_was_changed_says_nothing() {
    let scratch = licensed();
    licence(&scratch, &[]);
    let text = String::from_utf8(scratch.read("acme.license")).unwrap();
    // Mail may change the ends of lines, and put empty ones around.
    scratch.write("acme.license", format!("\r\n{}\r\n", text.replace('\n', "\r\n")));
    import(&scratch, "--license acme.license").ok();
    let lines: Vec<&str> = text.lines().collect();
    let flip = |line: usize| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let other = if lines[line].starts_with('A') { "B" } else { "A" };
        lines[line].replace_range(..1, other);
        lines.join("\n")
    };
    let one_line = text
        .replace("LICENSE-----\n", "LICENSE-----@")
        .replace("\n-----END", "@-----END")
        .replace('\n', "")
        .replace('@', "\n");
    for (what, text, kind, code) in [
        ("the content", flip(lines.len() - 2), "SignatureUntrusted", 3),
        ("the signature", flip(2), "SignatureUntrusted", 3),
        ("words beside it", format!("This licence is for everybody.\n{text}"), "SignatureFormat", 3),
        ("words behind it", format!("{text}\nbest regards"), "SignatureFormat", 3),
        ("two of them", format!("{text}{text}"), "SignatureFormat", 3),
        ("a piece of it", text[..100].to_owned(), "SignatureFormat", 3),
        ("nothing of it", String::new(), "SignatureFormat", 3),
        ("other lines", one_line, "SignatureFormat", 3),
        ("a key", String::from_utf8(scratch.read("vendor.pub.pem")).unwrap(), "SignatureFormat", 3),
        ("a long one", format!("{text}{}", " ".repeat(70_000)), "LimitExceeded", 3),
    ] {
        scratch.write("acme.license", text);
        let run = import(&scratch, "--license acme.license");
        assert!(run.is_failure(code, kind), "{what}: {run}");
        assert!(!run.stderr.contains("ACME"), "{what}: {run}");
    }
    import(&scratch, "--license nothing.license").fails(1, "Io").says("nothing.license");
}

#[test]
fn a_key_signs_licences_or_bundles_and_never_both() {
    let scratch = licensed();
    // The vendor's key, which the store holds, signs no bundle.
    scratch.export_small("sold.tar", "1.0.0", "", &["vendor"]);
    scratch.sealift("verify sold.tar --trust trust").fails(3, "SignatureUntrusted");
    scratch.export_small("both.tar", "1.0.0", "", &["vendor", "release"]);
    let signers = scratch.sealift("verify both.tar --trust trust --json").ok().json()["signers"].clone();
    assert_eq!((signers.as_array().unwrap().len(), &signers[0]["name"]), (1, &json!("release")));
    rules(&scratch, "threshold = 2\n[license]\nkeys = [\"vendor\"]");
    scratch
        .sealift("verify both.tar --trust trust")
        .fails(3, "TrustStore")
        .says("a threshold that can never be met");
    for (text, what) in [
        (
            "keys = [\"release\", \"vendor\"]\n[license]\nkeys = [\"vendor\"]",
            "a key that signs licences signs nothing else",
        ),
        (
            "[root]\nkeys = [\"vendor\"]\n[license]\nkeys = [\"vendor\"]",
            "a key that signs licences signs nothing else",
        ),
        ("[license]\nkeys = []", "an empty list of keys"),
        ("[license]\nkeys = [\"nobody\"]", "speaks of a key that the store does not hold"),
        ("[license]\nkeys = [\"vendor\", \"release\"]", "nothing can be trusted"),
        ("[license]\nthreshold = 1", "trust.toml"),
    ] {
        rules(&scratch, text);
        scratch.sealift("verify both.tar --trust trust").fails(3, "TrustStore").says(what);
    }
    // Nor under two names.
    rules(&scratch, "[license]\nkeys = [\"vendor\"]");
    std::fs::copy(scratch.path("vendor.pub.pem"), scratch.path("trust/again.pub.pem")).unwrap();
    scratch.sealift("verify both.tar --trust trust").fails(3, "TrustStore").says("signs nothing else");
    scratch.remove("trust/again.pub.pem");
    let shown = scratch.sealift("trust show --trust trust").ok().stdout;
    assert!(
        shown.contains("vendor: counts, for licences\n") && shown.contains("release: counts\n"),
        "{shown}"
    );

    // Ends and revocations hold for licences, too.
    licence(&scratch, &[]);
    rules(&scratch, "[license]\nkeys = [\"vendor\"]\n[key.vendor]\nnot_after = \"2026-01-02T00:00:00Z\"");
    import(&scratch, "--license acme.license").fails(3, "KeyExpired");
    let revoked = format!("[[revoked]]\nkey = \"{}\"\nreason = \"lost\"", scratch.key_id("vendor.pub.pem"));
    rules(&scratch, &format!("[license]\nkeys = [\"vendor\"]\n{revoked}"));
    import(&scratch, "--license acme.license").fails(3, "KeyRevoked").says("lost");
    // A store that says nothing of licences takes none.
    rules(&scratch, "keys = [\"release\"]");
    import(&scratch, "--license acme.license")
        .fails(4, "LicenseRefused")
        .says("[license] keys = [\"vendor\"]");
}

#[test]
fn community_and_developer_never_ask() {
    let scratch = licensed();
    scratch.remove("bundle.tar");
    for tier in ["community", "developer"] {
        export(&scratch, "bundle.tar", tier, "license = \"required\"")
            .fails(4, "PolicyRefused")
            .says("\"entitlement\"")
            .says(&format!("in tier {tier}"))
            .says("expected no licence in this tier");
        scratch.holds_no_bundle();
    }
    export(&scratch, "bundle.tar", "community", "license = \"maybe\"")
        .fails(2, "ManifestInvalid")
        .says("release.toml:");
    export(&scratch, "bundle.tar", "community", "").ok();
    let statement = Parts::read(&scratch.read("bundle.tar")).statement();
    assert!(statement.get("license").is_none(), "{statement}");
    // The file is not even looked for.
    scratch.sealift(&format!("{IMPORT} --license nothing.license")).ok();
    // A bundle that says so all the same was not made by sealift, and is refused by everybody.
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.edit_statement(|statement| statement["license"] = json!("required"));
    parts.resum();
    parts.resign(&signing_key(&scratch.path("release.key.pem")));
    scratch.write("spoiled.tar", parts.write());
    scratch
        .sealift("verify spoiled.tar --trust trust")
        .fails(3, "StatementInvalid")
        .says("a tier that asks for none");
    // The others ask where it is said, and the record says that it was looked at.
    for tier in ["professional", "regulated", "sovereign"] {
        export(&scratch, &format!("{tier}.tar"), tier, "license = \"required\"").ok();
        let checks =
            Parts::read(&scratch.read(format!("{tier}.tar"))).statement()["policy"]["checks"].clone();
        let found = checks
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["id"] == "entitlement" && check["result"] == "pass");
        assert!(found, "{checks}");
    }
}

#[test]
fn a_licence_is_shown_after_it_was_checked() {
    let scratch = licensed();
    licence(
        &scratch,
        &[(
            "--tier enterprise",
            "--tier sovereign,enterprise --versions >=1,<3 --expires 2026-06-01T00:00:00Z",
        )],
    );
    let shown = scratch.sealift("license show acme.license --trust trust --json").ok().json();
    assert_eq!(
        shown["license"],
        json!({
            "bundles": ["small"], "customer": "ACME", "expires": "2026-06-01T00:00:00Z", "issued": "2026-01-01T00:00:00Z",
            "serial": "2026-0042", "tiers": ["enterprise", "sovereign"], "type": "application/vnd.sealift.license.v1+json",
            "versions": ">=1, <3",
        })
    );
    assert_eq!((&shown["expired"], &shown["signer"]["name"]), (&json!(true), &json!("vendor")));
    let text = scratch.sealift("license show acme.license --trust trust").ok().stdout;
    assert!(text.starts_with("licence 2026-0042 of ACME\n") && text.ends_with("\nexpired\n"), "{text}");
    // The same words and key give the same file; a file is never replaced.
    let before = scratch.read("acme.license");
    scratch.sealift(NEW).fails(2, "OutputExists");
    licence(
        &scratch,
        &[(
            "--tier enterprise",
            "--tier enterprise,sovereign --versions >=1,<3 --expires 2026-06-01T00:00:00Z",
        )],
    );
    assert!(scratch.read("acme.license") == before);
    for (from, to, what) in [
        ("--tier enterprise", "--tier community", "a licence for a tier that asks for none"),
        ("--bundle small", "--bundle Small", "not the name of a bundle"),
        ("--bundle small", "--bundle s*l", "not the name of a bundle"),
        ("--serial 2026-0042", "--serial 20/26", "not a serial"),
        ("--tier enterprise", "--tier enterprise --expires 2025-01-01T00:00:00Z", "ends before it is given"),
    ] {
        scratch.remove("acme.license");
        scratch.sealift(&NEW.replace(from, to)).fails(2, "Usage").says(what);
        assert!(!scratch.has("acme.license"));
    }
    // Whoever is not the vendor has signed nothing.
    licence(&scratch, &[("vendor.key", "stranger.key")]);
    scratch.sealift("license show acme.license --trust trust").fails(4, "LicenseRefused");
}

#[test]
fn a_licence_can_be_checked_without_sealift() {
    if !peer("openssl") || !peer("base64") {
        return;
    }
    let scratch = licensed();
    licence(&scratch, &[]);
    // The lines of FORMAT.md, "Licences".
    let format = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/FORMAT.md")).unwrap();
    let section = format.split("## 14. Licences").nth(1).unwrap();
    let commands: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .skip_while(|line| !line.starts_with("grep"))
        .collect();
    assert!(commands.len() >= 4, "{commands:?}");
    scratch.write("check.sh", commands.join("\n"));
    let run = scratch.run("sh", "-e check.sh").ok();
    assert!(run.stdout.contains("Signature Verified Successfully"), "{run}");
    assert!(run.stdout.contains("{\"bundles\":[\"small\"],\"customer\":\"ACME\""), "{run}");
}
