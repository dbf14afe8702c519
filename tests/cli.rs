//! The command line: what is understood, what is refused, what is said, and what is left behind.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use support::images::{Image, Layout, served};
use support::lying::{Answer, Lying};
use support::running::Running;
use support::verdict::{tags, taking_all_but};
use support::{EXPORT, RELEASE, SMALL, Scratch, piped};

// ── What is understood ───────────────────────────────────────────────────────────────────────────

#[test]
fn help_names_every_flag() {
    let scratch = Scratch::new();
    let registry = "--ca --plain-http --tls --jobs";
    let narrow = "--variant --platform --image";
    for (verb, flags) in [
        (
            "export",
            format!(
                "--output --key --passphrase-file --unsigned --mirror --dry-run --json --overwrite --created --audit-log --progress {narrow} {registry}"
            ),
        ),
        ("verify", "--head --json --trust --state --allow-expired --allow-downgrade --progress".to_owned()),
        (
            "import",
            format!(
                "--to --map --sparse --overwrite-tags --overwrite --allow-downgrade --require-state --reset-state --state --allow-expired --dry-run --json --trust --no-record --receipt --site-key --passphrase-file --audit-log --progress {narrow} {registry}"
            ),
        ),
        ("inspect", "--json --trust --state --allow-expired".to_owned()),
        ("serve", "--listen --writable --allow-sparse --head-first --tls-cert --tls-key --self-signed --plain-http-anyway --htpasswd --anonymous-pull --access-log --trust --state".to_owned()),
        ("sign", "--key --passphrase-file --minisig --extract --output --attach --by --trust --json --audit-log".to_owned(),
        ),
        ("trust show", "--json --trust".to_owned()),
        ("trust update", "--dry-run --json --trust --state --audit-log".to_owned()),
        ("audit", "--head --json".to_owned()),
        ("receipt", "--by --trust --bundle --output".to_owned()),
        ("key new", "--dir --no-passphrase --passphrase-file --json".to_owned()),
        ("key show", "--passphrase-file --minisign --json".to_owned()),
        ("man", "--dir".to_owned()),
    ] {
        let help = scratch.sealift(&format!("{verb} --help")).ok().stdout;
        for flag in flags.split(' ') {
            assert!(help.contains(flag), "{flag} in\n{help}");
        }
    }
    let help = scratch.sealift("--help").ok().stdout;
    for verb in [
        "export",
        "verify",
        "import",
        "inspect",
        "serve",
        "sign",
        "trust",
        "key",
        "demo",
        "completions",
        "man",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "{verb} in\n{help}");
    }
    for code in sealift::error::Exit::ALL {
        assert!(help.contains(&format!("{} ", code.code())), "exit code {code:?} in\n{help}");
    }
}

#[test]
fn what_cannot_be_understood_is_a_usage_error() {
    let scratch = Scratch::with_small_release();
    for command in [
        "",
        "launch",
        "export",
        "export release.toml",
        "export release.toml -o b.tar --key release.key.pem --turbo",
        "export release.toml -o b.tar --key release.key.pem --unsigned",
        "export release.toml -o b.tar --key release.key.pem --jobs 0",
        "export release.toml -o b.tar --key release.key.pem --platform amd64",
        "export release.toml -o b.tar --key release.key.pem --created yesterday",
        "export release.toml -o b.tar --key release.key.pem --mirror registry.example.com",
        "export release.toml -o b.tar --key release.key.pem --mirror a b=oci:",
        "verify",
        "import b.tar",
        "import b.tar --to oci:",
        "import b.tar --to https://registry.example.com",
        "import b.tar --to docker://UPPER/Case",
        "import b.tar --to docker://user@host",
        "import b.tar --to dir:somewhere",
        "import b.tar --to store:",
        "import b.tar --to oci-archive:",
        "import b.tar --to oci-archive:-",
        "import b.tar --to oci-archive:x.tar:registry.example.com/a:1",
        "import b.tar --to docker-archive:x.tar",
        "import b.tar --to docker-archive:x.tar --platform linux/amd64,linux/arm64",
        "import b.tar --to oci:x --overwrite",
        "import b.tar --to registry.example.com --overwrite",
        "import b.tar --to oci-archive:x.tar --overwrite-tags",
        "import b.tar --to oci:x --map nexus",
        "import b.tar --to oci:x --progress loud",
        "key",
        "key new",
        "key new a --no-passphrase --passphrase-file f",
        "completions tcsh",
    ] {
        let run = scratch.sealift(command);
        assert_eq!(run.code, 2, "{run}");
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{run}");
    }
    scratch.holds_no_bundle();
}

#[test]
fn what_a_manifest_names_is_not_judged_and_whoever_asks_for_that_hears_it() {
    let scratch = Scratch::with_small_release();
    let export = "export release.toml --dry-run --mirror registry.example.com=oci:images";
    for flag in ["--trust trust", "--state state", "--allow-expired"] {
        let run = scratch.sealift(&format!("{export} {flag}"));
        let word = flag.split(' ').next().unwrap();
        assert!(run.code == 2 && run.stderr.contains(&format!("{word} is for --from")), "{run}");
        assert!(run.stderr.contains("sealift export"), "{run}");
    }
    // What is set for all commands is no such wish.
    let mut command = scratch.command(export);
    command.env("SEALIFT_TRUST", "trust").env("SEALIFT_STATE", "state");
    support::run(command).ok();
}

#[test]
fn a_place_that_cannot_be_understood_comes_with_a_hint() {
    let scratch = Scratch::with_small_release();
    for (to, kind, hint) in [
        ("folder", "Usage", "oci:folder"),
        ("http://registry.example.com", "Usage", "--plain-http"),
        ("docker://localhost:5000:latest", "RefInvalid", "no tag"),
    ] {
        scratch.sealift(&format!("import b.tar --to {to}")).fails(2, kind).says(hint);
    }
}

#[test]
fn completions_and_manual_pages_are_written() {
    let scratch = Scratch::new();
    for (shell, mark) in
        [("bash", "complete -F _sealift"), ("zsh", "#compdef sealift"), ("fish", "complete -c sealift")]
    {
        let script = scratch.sealift(&format!("completions {shell}")).ok().stdout;
        assert!(script.contains(mark) && script.contains("overwrite-tags"), "{shell}:\n{script}");
    }
    assert!(scratch.sealift("man").ok().stdout.contains(".TH sealift 1"));
    std::fs::create_dir(scratch.path("man")).unwrap();
    scratch.sealift("man --dir man").ok();
    for page in ["sealift.1", "sealift-export.1", "sealift-import.1", "sealift-key-new.1"] {
        assert!(scratch.has(format!("man/{page}")), "{page}");
    }
}

// ── The release manifest ─────────────────────────────────────────────────────────────────────────

/// A line of the small manifest (found by its beginning), what stands there instead, and where the
/// error is said to be: line and column.
#[rustfmt::skip]
const WRONG_MANIFESTS: [(&str, &str, &str, &str); 23] = [
    ("tier",       "teir     = \"community\"",                            "4:1",   "unknown field `teir`"),
    ("name       ", "name = \"tool\"\nstripes = 1",                        "10:1",  "unknown field `stripes`"),
    ("version",    "version  = 1.0",                                      "3:12",  "expected a string"),
    ("version",    "version  = \"1 0\"",                                  "3:12",  "is not a version"),
    ("name     =", "name     = \"Small\"",                                "2:12",  "is not a release name"),
    ("tier",       "tier     = \"free\"",                                 "4:12",  "community, developer"),
    ("channel",    "channel  = \"prod\"",                                 "5:12",  "development, staging"),
    ("schema",     "schema   = 2",                                        "1:12",  "schema 1"),
    ("registry",   "",                                                    "8:1",   "no registry"),
    ("registry",   "registry = \"https://registry.example.com\"",         "6:12",  "is not a host"),
    ("registry",   "registry = \"registry.example.com\"\nplatforms = [\"amd64\"]", "7:13", "is not a platform"),
    ("registry",   "registry = \"registry.example.com\"\nplatforms = []", "7:13",  "empty list of platforms"),
    ("registry",   "registry = \"registry.example.com\"\nexpires = \"soon\"", "7:11", "is not a time"),
    ("repository", "repository = \"Tools/tool\"",                         "10:14", "is not a repository"),
    ("repository", "repository = \"../tool\"",                            "10:14", "is not a repository"),
    ("repository", "repository = \"t\"\nbudget = \"100\"",                "11:10", "100MB or 95MiB"),
    ("repository", "repository = \"t\"\npin = { standard = \"sha256:12\" }", "11:20", "is not a sha256 digest"),
    ("repository", "repository = \"t\"\nsource = \"docker://x\"",         "11:10", "oci:DIRECTORY"),
    ("tags",       "tags       = { standard = \"{versoin}\" }",           "11:27", "not a usable tag"),
    ("tags",       "tags = { a = \"1\", b = \"1\" }",                     "11:23", "two variants would be called"),
    ("tags",       "tags       = {}",                                     "11:14", "no tags"),
    ("tags",       "tags = { standard = \"x\" }\nalso_tag = [\"{major}\"]", "12:13", "also_tag takes the place of {version}"),
    ("tags",       "tags = { a = \"1\" }\n\n[[image]]\nname = \"tool\"\nrepository = \"b\"\ntags = { a = \"1\" }", "14:8", "two images are called"),
];

#[test]
fn a_wrong_manifest_is_refused_with_line_and_column() {
    let scratch = Scratch::with_small_release();
    let mut wrong = Vec::new();
    for (line, instead, place, says) in WRONG_MANIFESTS {
        let lines = SMALL.lines().map(|old| if old.starts_with(line) { instead } else { old });
        let text = lines.collect::<Vec<_>>().join("\n");
        assert_ne!(text, SMALL.trim_end(), "{line}");
        scratch.write("release.toml", text);
        let run = scratch.sealift(EXPORT);
        let message = run.stderr.lines().next().unwrap_or_default();
        let said = message.contains(says) && message.contains(&format!(": release.toml:{place}"));
        if !run.is_failure(2, "ManifestInvalid") || !said {
            wrong.push(format!("{instead:?}: expected {says:?} at {place}\n{run}"));
        }
    }
    scratch.holds_no_bundle();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_hostile_manifest_is_refused_and_takes_neither_stack_nor_memory() {
    let scratch = Scratch::with_small_release();
    let deep =
        |open: &str, close: &str| format!("x = {}{}\n{SMALL}", open.repeat(100_000), close.repeat(100_000));
    for (name, text) in [
        ("a key twice", format!("name = \"a\"\n{SMALL}").into_bytes()),
        ("a table twice", format!("{SMALL}\n[image.pin]\n[image.pin]\n").into_bytes()),
        ("deep lists", deep("[", "]").into_bytes()),
        ("deep tables", deep("{a=", "}").into_bytes()),
        ("a deep key", format!("{}b = 1\n{SMALL}", "a.".repeat(100_000)).into_bytes()),
        ("deep headers", format!("{SMALL}\n[{}b]\n", "a.".repeat(100_000)).into_bytes()),
        ("a text without an end", format!("{SMALL}\nx = \"").into_bytes()),
        ("YAML", b"name: small\nimages:\n- &a [*a, *a]\n".to_vec()),
        ("JSON", b"{\"schema\": 1}".to_vec()),
        ("a NUL", format!("{SMALL}\0").into_bytes()),
        ("no UTF-8", [SMALL.as_bytes(), b"# \xff\xfe"].concat()),
        ("UTF-16", SMALL.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("nothing", Vec::new()),
        ("no image", SMALL.split("[[image]]").next().unwrap().as_bytes().to_vec()),
        ("more than a mebibyte", format!("{SMALL}\n#{}", "x".repeat(1 << 20)).into_bytes()),
        ("a number beyond all numbers", SMALL.replace("= 1\n", "= 99999999999999999999\n").into_bytes()),
    ] {
        scratch.write("release.toml", text);
        let run = scratch.sealift(EXPORT);
        assert!(run.is_failure(2, "ManifestInvalid") && run.stderr.contains("release.toml"), "{name}\n{run}");
        assert!(run.stderr.len() < 3000, "{name}\n{run}");
    }
    scratch.holds_no_bundle();
    // Tabs and a comment are TOML like any other.
    scratch.write("release.toml", format!("# a comment\n{}", SMALL.replace(" = ", "\t=\t")));
    scratch.sealift(EXPORT).ok();
}

#[test]
fn two_variants_may_not_have_one_name() {
    let scratch = Scratch::with_small_release();
    scratch.write("release.toml", SMALL.replace("{ standard", "{ edge = \"1.0.0\", standard"));
    scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says("registry.example.com/tools/tool:1.0.0");
}

#[test]
fn a_missing_manifest_is_named() {
    let scratch = Scratch::with_small_release();
    scratch.sealift("export absent.toml -o b.tar --key release.key.pem").fails(1, "Io").says("absent.toml");
    std::fs::create_dir(scratch.path("folder.toml")).unwrap();
    scratch.sealift("export folder.toml -o b.tar --key release.key.pem").fails(1, "Io").says("folder.toml");
}

// ── Failures before and while exporting ──────────────────────────────────────────────────────────

#[test]
fn an_unreachable_registry_is_named_with_its_side() {
    let scratch = Scratch::with_small_release().exported();
    // Nobody listens on the reserved port 1.
    let closed = "127.0.0.1:1";
    scratch
        .sealift(&format!(
            "export release.toml -o x.tar --key release.key.pem --mirror registry.example.com={closed}"
        ))
        .fails(1, "Network")
        .says(&format!("source: cannot connect to {closed}"));
    assert!(!scratch.has("x.tar") && !scratch.has("x.tar.partial"));
    scratch
        .sealift(&format!("import bundle.tar --to docker://{closed} --trust trust"))
        .fails(1, "Network")
        .says("destination: ")
        .says(closed);
}

#[test]
fn a_missing_platform_lists_those_that_are_there() {
    let scratch = Scratch::with_release();
    scratch.write("release.toml", RELEASE.replace("\"linux/arm64\"", "\"linux/s390x\""));
    scratch
        .sealift(EXPORT)
        .fails(2, "PlatformMissing")
        .says("linux/amd64, linux/arm/v7, linux/arm64")
        .says("linux/s390x");
    scratch.holds_no_bundle();
    scratch.write("release.toml", RELEASE);
    scratch.sealift(&format!("{EXPORT} --platform linux/riscv64")).fails(2, "PlatformMissing");
    scratch.holds_no_bundle();
}

#[test]
fn an_absent_image_is_named() {
    let scratch = Scratch::with_release();
    scratch.write("release.toml", RELEASE.replace("2.1.0", "2.2.0"));
    scratch
        .sealift(EXPORT)
        .fails(1, "NotFound")
        .says("registry.example.com/nexus/engine:2.2.0-distroless")
        .says("source: ");
    scratch.holds_no_bundle();
}

#[test]
fn an_existing_output_is_kept_unless_replacing_was_asked_for() {
    let scratch = Scratch::with_small_release();
    scratch.write("bundle.tar", "precious");
    scratch.sealift(EXPORT).fails(2, "OutputExists").says("--overwrite");
    assert_eq!(scratch.read("bundle.tar"), b"precious");
    // A failed export replaces nothing either.
    scratch.sealift(&format!("{EXPORT} --overwrite --platform linux/s390x")).fails(2, "PlatformMissing");
    assert_eq!(scratch.read("bundle.tar"), b"precious");
    scratch.sealift(&format!("{EXPORT} --overwrite")).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    assert!(!scratch.has("bundle.tar.partial"));

    std::fs::create_dir(scratch.path("folder")).unwrap();
    scratch
        .sealift("export release.toml -o folder --overwrite --key release.key.pem --mirror registry.example.com=oci:images")
        .fails(2, "OutputExists");
    scratch
        .sealift("export release.toml -o absent/b.tar --key release.key.pem --mirror registry.example.com=oci:images")
        .fails(1, "Io")
        .says("absent");
}

#[test]
fn an_output_that_is_no_file_is_refused_and_any_name_will_do() {
    let scratch = Scratch::with_small_release();
    for output in ["/dev/full", "/dev/null", "/dev/stdout", "images", "images/", ".", "/", ""] {
        for overwrite in ["", "--overwrite"] {
            let mut command = scratch.command(&format!(
                "export release.toml --key release.key.pem --mirror registry.example.com=oci:images {overwrite}"
            ));
            command.args(["-o", output]);
            let run = support::run(command);
            assert_eq!(run.code, 2, "{output:?} {run}");
        }
    }
    // A name that is no text: what is said of it can be read, and the file has exactly this name.
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9 \xff\n.tar");
    let with = |arguments: &str, flag: &[&str]| {
        let mut command = scratch.command(arguments);
        command.args(flag).arg(name);
        support::run(command)
    };
    let export = "export release.toml --key release.key.pem --mirror registry.example.com=oci:images";
    with(export, &["-o"]).ok();
    assert!(scratch.path(name).is_file());
    with("verify --trust trust", &[]).ok();
    with("import --to oci:there --trust trust", &[]).ok();
    let again = with(export, &["-o"]).fails(2, "OutputExists");
    assert_eq!(again.stderr.lines().count(), 2, "{again}");
}

#[test]
fn an_output_that_is_an_input_is_never_replaced() {
    let scratch = Scratch::with_small_release();
    scratch.run("mkfifo", "pipe").ok();
    for name in ["release.key.pem", "release.toml", "pipe"] {
        let before = (name != "pipe").then(|| scratch.read(name));
        let run = scratch.sealift(&EXPORT.replace("bundle.tar", &format!("{name} --overwrite")));
        assert_eq!(run.code, 2, "{run}");
        assert_eq!((name != "pipe").then(|| scratch.read(name)), before);
        assert_eq!(scratch.path(name).metadata().unwrap().is_file(), name != "pipe");
    }
}

#[test]
fn a_public_key_given_for_signing_is_named_as_such() {
    let scratch = Scratch::with_small_release();
    let export = EXPORT.replace("release.key.pem", "release.pub.pem");
    scratch.sealift(&export).fails(2, "KeyFormat").says("a public key where a private one is needed");
}

#[test]
fn an_export_needs_a_key_or_says_that_it_has_none() {
    let scratch = Scratch::with_release();
    let export = "export release.toml -o bundle.tar --mirror registry.example.com=oci:images";
    scratch.sealift(export).fails(2, "Usage").says("--key").says("hint: ");
    scratch.sealift(&format!("{export} --key absent.pem")).fails(1, "Io").says("absent.pem");
    scratch.holds_no_bundle();
}

#[test]
fn the_tier_decides_whether_a_bundle_may_be_unsigned() {
    let scratch = Scratch::with_release();
    for (tier, allowed) in [
        ("community", true),
        ("developer", true),
        ("professional", false),
        ("enterprise", false),
        ("regulated", false),
        ("sovereign", false),
    ] {
        scratch.write("release.toml", RELEASE.replace("sovereign", tier));
        let output = format!("{tier}.tar");
        let export =
            format!("export release.toml -o {output} --unsigned --mirror registry.example.com=oci:images");
        let run = scratch.sealift(&export);
        match allowed {
            true => drop(run.ok()),
            false => drop(run.fails(4, "PolicyRefused").says("signed").says("--key")),
        }
        assert_eq!(scratch.has(&output), allowed);
        assert!(!scratch.has(format!("{output}.partial")));
    }
}

#[test]
fn a_budget_that_is_exceeded_stops_the_export() {
    let scratch = Scratch::with_release();
    let with = |budget: &str| {
        let line = format!("budget = \"{budget}\"\nalso_tag");
        scratch.write("release.toml", RELEASE.replacen("also_tag", &line, 1));
        scratch.sealift(&format!("{EXPORT} --overwrite"))
    };
    with("1kB")
        .fails(4, "PolicyRefused")
        .says("budget")
        .says("engine/distroless linux/amd64")
        .says("1000 bytes");
    scratch.holds_no_bundle();
    scratch.sealift(&EXPORT.replace("-o bundle.tar", "--dry-run")).says("PolicyRefused");
    with("1MiB").ok();
    // The layers, the config and the manifest are counted, to the byte.
    let statement = support::parts::Parts::read(&scratch.read("bundle.tar")).statement();
    let builds =
        statement["images"].as_array().unwrap()[..3].iter().flat_map(|i| i["platforms"].as_array().unwrap());
    let largest = builds.map(|build| build["size"].as_u64().unwrap()).max().unwrap();
    with(&format!("{largest}B")).ok();
    with(&format!("{}B", largest - 1)).fails(4, "PolicyRefused");
}

#[test]
fn a_dry_run_tells_the_exact_size_and_writes_nothing() {
    let scratch = Scratch::with_release();
    let plan = scratch
        .sealift("export release.toml --dry-run --json --mirror registry.example.com=oci:images")
        .ok()
        .json();
    scratch.holds_no_bundle();
    scratch.sealift(EXPORT).ok();
    assert_eq!(plan["bundleBytes"], scratch.read("bundle.tar").len());
    assert_eq!(plan["images"].as_array().unwrap().len(), 4);
    let said =
        scratch.sealift("export release.toml --dry-run --mirror registry.example.com=oci:images").ok().stdout;
    for word in ["linux/arm/v7", "registry.example.com/nexus/engine:2.1-edge", "SHARED", "left out: nothing"]
    {
        assert!(said.contains(word), "{word} in\n{said}");
    }
}

// ── Output ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn json_goes_to_standard_output_and_progress_to_standard_error() {
    let scratch = Scratch::with_small_release();
    for command in [
        &format!("{EXPORT} --json"),
        "export release.toml --dry-run --json --mirror registry.example.com=oci:images",
        "verify bundle.tar --trust trust --json",
        "verify bundle.tar --trust trust --json --head",
        "inspect bundle.tar --trust trust --json",
        "import bundle.tar --to oci:offline --trust trust --json --dry-run",
        "import bundle.tar --to oci:offline --trust trust --json",
        "key new another --no-passphrase --json",
        "key show another.pub.pem --json",
    ] {
        for mode in ["plain", "json", "none", "auto", "tty"] {
            if mode != "plain"
                && (command.starts_with("key new") || command.starts_with("export release.toml -o"))
            {
                continue;
            }
            let run = scratch.sealift(&format!("{command} --progress {mode}")).ok();
            assert!(run.json().is_object(), "{run}");
            assert!(mode != "none" || run.stderr.is_empty(), "{run}");
        }
    }
}

#[test]
fn progress_as_json_is_one_object_a_line_and_never_goes_backwards() {
    let scratch = Scratch::with_release();
    for command in [
        EXPORT,
        "verify bundle.tar --trust trust",
        "verify - --trust trust",
        "import - --to oci:offline --trust trust --dry-run",
        "import bundle.tar --to oci:offline --trust trust",
    ] {
        let command = format!("{command} --progress json");
        let run = match command.contains(" - ") {
            true => piped(&scratch, "bundle.tar", &command).ok(),
            false => scratch.sealift(&command).ok(),
        };
        let mut last = (String::new(), 0);
        let mut finished = false;
        for line in run.stderr.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
            if event["event"] == "note" {
                continue;
            }
            assert_eq!(event["event"], "progress");
            let verb = event["verb"].as_str().unwrap().to_owned();
            let bytes = event["bytes"].as_u64().unwrap();
            assert!(verb != last.0 || bytes >= last.1, "{run}");
            assert!(bytes <= event["total"].as_u64().unwrap(), "{run}");
            finished = event["bytes"] == event["total"];
            last = (verb, bytes);
        }
        assert!(finished && last.1 > 0, "{run}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let scratch = Scratch::with_release().exported();
    for command in ["inspect bundle.tar --trust trust", "--help", "completions bash", "man"] {
        let mut command = scratch.command(command);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before anything can be written to it.
        drop(process.stdout.take());
        let mut said = String::new();
        process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let ended = process.wait().unwrap();
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!((ended.code(), said.as_str()), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn a_full_disk_for_the_results_is_a_failure() {
    let scratch = Scratch::with_release().exported();
    let mut command = scratch.command("inspect bundle.tar --trust trust");
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    support::run(command).fails(1, "NoSpace");
}

#[test]
fn control_characters_from_a_server_are_escaped() {
    let scratch = Scratch::with_small_release();
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{202e}all is well";
    let body = json!({ "errors": [{ "code": "DENIED", "message": hostile }] }).to_string();
    let server = served(scratch.path("images"), move |request, _| {
        let asked = request.path.contains("/manifests/");
        asked.then(|| Answer::new(403).header("Content-Type", "application/json").body(&body))
    });
    let run = scratch.sealift(&format!(
        "export release.toml -o x.tar --key release.key.pem --mirror registry.example.com={}",
        server.host()
    ));
    assert_ne!(run.code, 0, "{run}");
    assert!(run.stderr.contains("\\u{1b}[2J") && run.stderr.contains("\\u{202e}all is well"), "{run}");
    assert!(!run.stderr.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']), "{run}");
}

#[test]
fn control_characters_from_the_command_line_and_files_are_escaped() {
    let scratch = Scratch::with_small_release();
    let verify = |name: &str| {
        let mut command = scratch.command("verify --trust trust");
        command.arg(name);
        support::run(command)
    };
    let run = verify("\u{1b}[31mred.tar").fails(1, "Io");
    assert!(run.stderr.contains("\\u{1b}[31mred.tar") && !run.stderr.contains('\u{1b}'), "{run}");
    scratch.write("release.toml", SMALL.replace("tools/tool", "tools\\u001b[2J/tool"));
    let run = scratch.sealift(EXPORT).fails(2, "ManifestInvalid");
    assert!(!run.stderr.contains('\u{1b}'), "{run}");
}

// ── Interruption and servers that fail ───────────────────────────────────────────────────────────

/// Starts an export, waits until the server stalls, sends the signal; the exit code and what was said.
fn interrupted(scratch: &Scratch, host: &str, stalled: &mpsc::Receiver<()>, signal: &str) -> (i32, String) {
    let export = format!(
        "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com={host}"
    );
    let mut command = scratch.command(&export);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    stalled.recv_timeout(Duration::from_secs(60)).unwrap();
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let said: Vec<String> =
        BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    (process.wait().unwrap().code().unwrap_or(-1), said.join("\n"))
}

#[test]
fn an_export_interrupted_before_the_first_answer_leaves_nothing() {
    let scratch = Scratch::with_small_release();
    let (send, stalled) = mpsc::channel();
    let server = served(scratch.path("images"), move |_, _| {
        let _ = send.send(());
        Some(Answer::new(200).header("Content-Length", 100).stalling(""))
    });
    let (code, said) = interrupted(&scratch, &server.host(), &stalled, "-INT");
    assert_eq!(code, 130, "{said}");
    scratch.holds_no_bundle();
}

#[test]
fn an_export_interrupted_in_the_middle_of_a_layer_is_finished_by_the_same_command() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let scratch = Scratch::with_small_release();
        let (send, stalled) = mpsc::channel();
        let server = served(scratch.path("images"), move |_, content| {
            let stalls = content.starts_with(&[0x1f, 0x8b]);
            stalls.then(|| {
                let _ = send.send(());
                Answer::new(200)
                    .header("Content-Length", content.len())
                    .stalling(&content[..content.len() / 2])
            })
        });
        let (code, said) = interrupted(&scratch, &server.host(), &stalled, signal);
        assert_eq!(code, 130, "{signal} {said}");
        assert!(
            said.lines().last().unwrap_or_default().starts_with("interrupted: nothing is half done"),
            "{said}"
        );
        scratch.holds_no_finished_bundle();
        assert!(scratch.has("bundle.tar.partial"));
        scratch.sealift(EXPORT).ok().says("going on with an interrupted export");
        assert!(!scratch.has("bundle.tar.partial") && !scratch.has("bundle.tar.partial.journal"));
    }
}

#[test]
fn an_import_and_a_verification_that_are_interrupted_say_so_and_leave_no_tag() {
    for signal in ["INT", "TERM", "HUP"] {
        let scratch = Scratch::with_small_release().exported();
        // A registry that stops answering in the middle of an upload.
        let (send, stalled) = mpsc::channel();
        let server = taking_all_but(move |request, _| {
            let uploads = request.method == "PUT" && request.path.contains("/session/");
            uploads.then(|| {
                let _ = send.send(());
                Answer::new(201).silent()
            })
        });
        let import = format!("import bundle.tar --to {} --trust trust", server.host());
        let running = Running::start(scratch.command(&import));
        stalled.recv_timeout(Duration::from_secs(60)).unwrap();
        running.hand().signal(signal);
        let run = running.ended();
        assert_eq!((run.code, run.stdout.as_str()), (130, ""), "{signal} {run}");
        run.says("interrupted: ");
        assert_eq!(tags(&server), [""; 0]);

        // A pipe in which nothing more comes, plain, and compressed in blocks that hold nothing.
        let bundle = scratch.read("bundle.tar");
        let hollow =
            [b"\x28\xb5\x2f\xfd\x80\x38\x00\x10\x00\x00".as_slice(), &[0; 3].repeat(100_000)].concat();
        for input in [&bundle[..700], &bundle[..bundle.len() - 2000], &hollow] {
            let mut command = scratch.command("verify - --trust trust");
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut process = command.spawn().unwrap();
            let mut pipe = process.stdin.take().unwrap();
            // It was read when there is room for as much again, and more: a pipe holds 64 KiB.
            std::io::Write::write_all(&mut pipe, input).unwrap();
            listening(process.id());
            let sent = Command::new("kill").args([format!("-{signal}"), process.id().to_string()]).status();
            assert!(sent.unwrap().success());
            let output = process.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(130), "{said}");
            assert!(said.contains("interrupted: "), "{said}");
            drop(pipe);
        }
    }
}

/// Waits until a process catches interruptions itself (proc(5), `SigCgt`).
fn listening(process: u32) {
    let catches = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        // Signals 1, 2 and 15.
        u64::from_str_radix(&caught, 16).unwrap() & 0x4003 == 0x4003
    };
    let began = std::time::Instant::now();
    while !catches() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not listen");
        std::thread::yield_now();
    }
}

#[test]
fn an_error_that_nobody_hears_changes_nothing() {
    let scratch = Scratch::with_small_release().exported();
    let sealift = env!("CARGO_BIN_EXE_sealift");
    for (command, code) in [
        ("verify bundle.tar --trust trust --progress plain", 0),
        ("verify absent.tar --trust trust", 1),
        ("verify bundle.tar --turbo", 2),
        ("import bundle.tar --to oci:there --trust trust --progress json", 0),
    ] {
        for nowhere in ["2>&-", ">&- 2>&-", "2>/dev/full"] {
            let mut shell = scratch.tool("sh", "");
            shell.arg("-c").arg(format!("{sealift} {command} {nowhere}; echo $? > code"));
            support::run(shell);
            let ended = String::from_utf8(scratch.read("code")).unwrap();
            assert_eq!(ended.trim(), code.to_string(), "{command} {nowhere}");
        }
    }
    assert!(scratch.has("there/index.json"));
}

#[test]
fn a_bundle_has_its_name_only_when_it_is_complete() {
    let scratch = Scratch::with_small_release();
    let output = scratch.path("bundle.tar");
    let (send, seen) = mpsc::channel();
    let server = served(scratch.path("images"), move |_, content| {
        if content.starts_with(&[0x1f, 0x8b]) {
            send.send(output.exists()).unwrap();
        }
        None
    });
    scratch
        .sealift(&format!(
            "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com={}",
            server.host()
        ))
        .ok();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [false]);
    assert!(scratch.has("bundle.tar"));
}

/// A registry that serves the scratch directory's layout, except for the first `times` requests for a
/// layer: those get what `instead` makes of it.
fn spoiling(
    scratch: &Scratch,
    times: usize,
    instead: impl Fn(&[u8]) -> Answer + Send + Sync + 'static,
) -> Lying {
    let left = std::sync::Mutex::new(times);
    served(scratch.path("images"), move |_, content| {
        let mut left = left.lock().unwrap();
        let spoils = content.starts_with(&[0x1f, 0x8b]) && *left > 0;
        spoils.then(|| {
            *left -= 1;
            instead(content)
        })
    })
}

#[test]
fn a_layer_that_breaks_off_is_fetched_again() {
    let scratch = Scratch::with_small_release().exported();
    let server = spoiling(&scratch, 2, |content| {
        Answer::new(200).header("Content-Length", content.len()).body(&content[..content.len() / 2])
    });
    let host = server.host();
    scratch
        .sealift(&format!(
            "export release.toml -o again.tar --key release.key.pem --mirror registry.example.com={host}"
        ))
        .ok();
    assert_eq!(scratch.read("again.tar"), scratch.read("bundle.tar"));
}

#[test]
fn a_layer_that_arrives_damaged_once_is_fetched_once_more() {
    let scratch = Scratch::with_small_release().exported();
    let server = spoiling(&scratch, 1, |content| {
        let mut content = content.to_vec();
        content[50] ^= 1;
        Answer::new(200).body(content)
    });
    let mirror = format!("--mirror registry.example.com={}", server.host());
    scratch
        .sealift(&format!("export release.toml -o again.tar --key release.key.pem {mirror}"))
        .ok()
        .says("once more");
    assert_eq!(scratch.read("again.tar"), scratch.read("bundle.tar"));
}

#[test]
fn a_file_larger_than_the_system_allows_is_a_failure_with_a_message() {
    let scratch = Scratch::with_small_release();
    let sealift = env!("CARGO_BIN_EXE_sealift");
    let mut limited = scratch.tool("sh", "");
    limited.arg("-c").arg(format!("ulimit -f 4; exec {sealift} {EXPORT}"));
    support::run(limited).fails(1, "NoSpace");
    scratch.holds_no_bundle();
}

#[test]
fn a_layer_that_stays_wrong_gives_no_bundle() {
    let scratch = Scratch::with_small_release();
    let server = spoiling(&scratch, usize::MAX, |content| {
        let mut content = content.to_vec();
        content[50] ^= 1;
        Answer::new(200).body(content)
    });
    let host = server.host();
    scratch
        .sealift(&format!(
            "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com={host}"
        ))
        .fails(3, "DigestMismatch")
        .says("source: ")
        .says(&host);
    scratch.holds_no_finished_bundle();
}

#[test]
fn a_tag_that_moves_while_it_is_pulled_makes_no_mixture() {
    let scratch = Scratch::with_small_release();
    let full = "registry.example.com/tools/tool:1.0.0";
    // Both images' blobs are in one layout; the tag moves as soon as it was asked for.
    let mut layout = Layout::new(scratch.path("images"));
    let first = layout.add(full, &Image::new("first"));
    let layout = std::sync::Mutex::new(layout);
    let server = served(scratch.path("images"), move |request, _| {
        if request.path.ends_with("/manifests/1.0.0") && request.method == "GET" {
            // The answer to this request was read before.
            layout.lock().unwrap().add(full, &Image::new("second"));
        }
        None
    });
    scratch
        .sealift(&format!(
            "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com={}",
            server.host()
        ))
        .ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    let statement = support::parts::Parts::read(&scratch.read("bundle.tar")).statement();
    assert_eq!(statement["images"][0]["digest"], first);
}

#[test]
fn two_runs_do_not_write_one_bundle() {
    let scratch = Scratch::with_small_release();
    let (send, stalled) = mpsc::channel();
    let server = served(scratch.path("images"), move |_, content| {
        content.starts_with(&[0x1f, 0x8b]).then(|| {
            let _ = send.send(());
            Answer::new(200).header("Content-Length", content.len()).stalling(&content[..10])
        })
    });
    let export = format!(
        "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com={}",
        server.host()
    );
    let mut first = scratch.command(&export).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    stalled.recv_timeout(Duration::from_secs(60)).unwrap();
    scratch.sealift(EXPORT).fails(1, "Locked").says("bundle.tar.partial");
    first.kill().unwrap();
    first.wait().unwrap();
    // Killed outright, it left its unfinished file: the next run takes that over.
    scratch.sealift(EXPORT).ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    assert!(!scratch.has("bundle.tar.partial"));
}

#[test]
fn the_environment_names_the_trust_store_and_the_flag_wins() {
    let scratch = Scratch::with_small_release().exported();
    let verify = |flag: &str, store: &str| {
        let mut command = scratch.command(&format!("verify bundle.tar {flag}"));
        command.env("SEALIFT_TRUST", store);
        support::run(command)
    };
    verify("", "trust").ok();
    verify("", "absent").fails(3, "TrustStore").says("absent");
    verify("--trust trust", "absent").ok();
}
