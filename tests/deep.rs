//! What is in layers: sizes, tools and secrets, found while a layer streams by, whatever it is packed by.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use serde_json::{Value, json};
use support::images::{Image, Layout, random};
use support::running::watched;
use support::tarballs::{directory, end, entry, file, gzip, link, pax, zstd};
use support::{Run, SMALL, Scratch};

const MIRROR: &str = "--mirror registry.example.com=oci:images";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A release of one image with these layers.
fn release(layers: &[Vec<u8>], manifest: &str) -> Scratch {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-06-01T00:00:00Z",
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers: Vec<Value> = layers.iter().map(|layer| layout.blob(LAYER, layer)).collect();
    let top = layout.document(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": layers,
    }));
    layout.name("registry.example.com/tools/tool:1.0.0", top);
    scratch.write("release.toml", manifest);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch
}

/// For production, and so strict.
fn strict(more: &str) -> String {
    format!("{}{more}", SMALL.replace("\"community\"", "\"professional\""))
}

fn layer(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), end()].concat()
}

fn check(scratch: &Scratch, more: &str) -> Run {
    scratch.sealift(&format!("check release.toml {MIRROR} {more}"))
}

/// Requires that there is such a finding, and nothing else of the secret.
#[track_caller]
fn found(run: &Run, says: &str) {
    assert_eq!(run.code, 4, "{says}\n{run}");
    assert!(run.stdout.contains(says), "expected {says:?}\n{run}");
    assert!(!run.stdout.contains("CANARY") && !run.stderr.contains("CANARY"), "{run}");
}

/// Letters of a secret: put together here, so that whoever looks for secrets in this project finds none.
fn letters(count: usize) -> String {
    "CANARYq7Rk2ZvT9mXw4LpB8nYc3JdH6sGf5KtA1eUoQiWxEzNyMuVbDhCgSjPl".chars().cycle().take(count).collect()
}

fn key() -> String {
    format!(
        "-----BEGIN PRIVATE KEY-----\nMIIEvg{}\n{}\n-----END PRIVATE KEY-----\n",
        letters(58),
        letters(64)
    )
}

#[test]
fn secrets_in_layers_are_found_by_content_and_by_name_and_not_shown() {
    let token = format!("token = {}{}", ["gh", "p_"].concat(), letters(36));
    let long = format!("{}deep.conf", "d/".repeat(90));
    for (path, content, kind) in [
        ("app/server.pem", key(), "a private key"),
        ("app/server", format!("\u{7f}ELF\0\0\0{}\0", key()), "a private key"),
        ("app/notes.txt", token.clone(), "a GitHub token"),
        ("app/.env", "NAME=CANARY\n".to_owned(), "an environment file (.env)"),
        ("root/.ssh/id_rsa", "CANARY".to_owned(), "an SSH private key by its name"),
        ("root/.kube/config", "CANARY".to_owned(), "a kubeconfig"),
        ("root/.npmrc", "//r/:_authToken=CANARY-0815\n".to_owned(), "a login by its entry"),
        (
            "root/.docker/config.json",
            "{\"auths\":{\"r\":{\"auth\":\"CANARY==\"}}}".to_owned(),
            "a login by its entry",
        ),
        ("root/.aws/credentials", "CANARY".to_owned(), "a credentials file by its name"),
        ("app/settings.yaml", "db: postgres://app:CANARY1@db/x".to_owned(), "a password in an address"),
        (long.as_str(), token, "a GitHub token"),
    ] {
        let entries = match path.len() > 100 {
            true => [pax(&[&format!("path={path}")]), file("short", &content)].concat(),
            false => file(path, &content),
        };
        let layer = layer(&[entries]);
        for packed in [gzip(&layer), zstd(&layer), layer] {
            let scratch = release(std::slice::from_ref(&packed), &strict(""));
            let at = format!("layer sha256:{}", support::sha256(&packed));
            let run = check(&scratch, "--deep");
            found(&run, &format!("  tool/standard linux/amd64: got {kind} in {path}"));
            assert!(path.len() > 100 || run.stdout.contains(&at), "{run}");
            assert_eq!(check(&scratch, "").code, 0, "layers are not read unasked");
        }
    }
}

#[test]
fn an_export_with_a_secret_writes_nothing() {
    let scratch = release(&[gzip(&layer(&[file("app/server.pem", key())]))], &strict(""));
    let export = format!("export release.toml -o bundle.tar --key release.key.pem {MIRROR}");
    scratch
        .sealift(&format!("{export} --deep"))
        .fails(4, "PolicyRefused")
        .says("a private key in app/server.pem");
    scratch.holds_no_bundle();
    scratch.write("release.toml", strict("\n[policy]\ndeep = true\n"));
    scratch.sealift(&export).fails(4, "PolicyRefused");
    scratch.write("release.toml", strict(""));
    scratch.sealift(&export).ok();
    scratch.sealift("check bundle.tar --trust trust --deep").fails(2, "Usage");
    let run = scratch.sealift("check bundle.tar --trust trust --rules release.toml --deep");
    found(&run, "a private key in app/server.pem");
}

#[test]
fn what_a_later_layer_removes_is_still_in_the_one_below() {
    for whiteout in ["app/.wh.server.pem", ".wh.app", "app/.wh..wh..opq"] {
        let layers = [gzip(&layer(&[file("app/server.pem", key())])), gzip(&layer(&[file(whiteout, "")]))];
        let scratch = release(&layers, &strict("\n[policy.tools]\npaths = [\"/app/*.pem\"]\n"));
        let run = check(&scratch, "--deep");
        found(&run, "a private key in app/server.pem");
        assert!(run.stdout.contains("(a later layer removes it; this one still has it)"), "{run}");
        // A tool that is removed is not there.
        assert!(!run.stdout.contains("tools: fail"), "{whiteout}\n{run}");
    }
}

#[test]
fn tools_are_found_by_their_paths() {
    let paths = "\n[policy.tools]\npaths = [\"/usr/bin/gcc*\", \"/usr/bin/make\"]\n";
    for entries in [
        file("./usr/bin/gcc-12", "x"),
        link("usr/bin/gcc", b'2', "gcc-12"),
        [directory("usr/"), file("/usr/bin/make", "x")].concat(),
    ] {
        let scratch = release(&[gzip(&layer(&[entries]))], &strict(paths));
        let run = check(&scratch, "");
        assert_eq!(run.code, 4, "{run}");
        assert!(run.stdout.contains("tools: fail\n  tool/standard linux/amd64: got /usr/bin/"), "{run}");
    }
    let none = [file("usr/bin/gcc/readme", "x"), file("usr/share/make", "x"), file("opt/usr/bin/make", "x")];
    check(&release(&[gzip(&layer(&none))], &strict(paths)), "").ok();
}

#[test]
fn what_layers_unpack_to_may_be_agreed_on() {
    let budget =
        |most: &str| SMALL.replace("[[image]]\n", &format!("[[image]]\nunpacked_budget = \"{most}\"\n"));
    let one = layer(&[file("zeros", vec![0; 100_000])]);
    let other = layer(&[file("more", vec![0; 50_000])]);
    let bytes = one.len() + other.len();
    let layers = [gzip(&one), zstd(&other)];
    let scratch = release(&layers, &budget(&format!("{bytes}B")));
    check(&scratch, "").ok();
    let scratch = release(&layers, &budget(&format!("{}B", bytes - 1)));
    let run = check(&scratch, "");
    let says = format!(
        "tool/standard linux/amd64: got {bytes} bytes unpacked, expected at most {} bytes",
        bytes - 1
    );
    assert!(run.code == 4 && run.stdout.contains(&says), "{run}");
}

#[test]
fn samples_of_packages_are_no_secrets() {
    let none = [
        file("usr/share/doc/openssl/demo.pem", key()),
        file("usr/lib/python3.11/test/certdata/keycert.pem", key()),
        file("app/node_modules/tls/test/fixtures/agent.pem", key()),
        file(
            "usr/bin/ssh-keygen",
            "\u{7f}ELF\0-----BEGIN OPENSSH PRIVATE KEY-----\n\0-----END OPENSSH PRIVATE KEY-----\n",
        ),
        file("etc/ssl/certs/ca.pem", key().replace("PRIVATE KEY", "CERTIFICATE")),
        file("usr/lib/python3/urllib.py", "# http://joe:schmoe@proxy.internal/"),
        file("app/.env.example", "PASSWORD=changeme"),
        file("app/.env", ""),
        link("root/.ssh/id_rsa", b'2', "/run/secrets/key"),
        entry("dev/null", b'3', b""),
        file("data", random("data", 300_000)),
        // A name twice: layers may have them.
        file("data", "again"),
    ];
    check(&release(&[gzip(&layer(&none))], &strict("")), "--deep").ok();
    // Without an end, and with nothing at all.
    check(&release(&[gzip(&none.concat()), gzip(b""), gzip(&end()), Vec::new()], &strict("")), "--deep").ok();
}

#[test]
fn a_layer_that_cannot_be_read_is_an_error_and_no_pass() {
    let good = layer(&[file("data", random("data", 3_000))]);
    let bomb = zstd(&layer(&[file("zeros", vec![0; 280 << 20])]));
    let packed = gzip(&good);
    for (bytes, kind) in [
        (bomb, "LimitExceeded"),
        (packed[..packed.len() / 2].to_vec(), "Truncated"),
        (gzip(&good[..1_000]), "Truncated"),
        (gzip(&[&good[..512], b"no header"].concat()), "Truncated"),
        (gzip(&[b'x'; 2_000]), "TarHeader"),
        (gzip(&layer(&[pax(&["path=a", "path=b"]), file("c", "d")])), "TarHeader"),
        (gzip(&layer(&[entry("sparse", b'S', b"x")])), "TarUnexpectedEntry"),
        (b"\xfd7zXZ\0 and more".to_vec(), "FrameInvalid"),
    ] {
        let scratch = release(&[bytes], &strict(""));
        let run = check(&scratch, "--deep").fails(3, kind);
        assert!(run.stderr.contains("sha256:"), "{run}");
    }
    // What a registry gives out in its place.
    let scratch = release(std::slice::from_ref(&packed), &strict(""));
    let blob = format!("images/blobs/sha256/{}", support::sha256(&packed));
    let mut other = packed.clone();
    *other.last_mut().unwrap() ^= 1;
    scratch.write(blob, other);
    check(&scratch, "--deep").fails(3, "DigestMismatch");
}

#[test]
fn files_and_charts_are_looked_at_unasked() {
    let scratch = Scratch::with_small_release();
    let more = "\n[[file]]\nname = \"settings\"\nrepository = \"tools/settings\"\npath = \"server.pem\"\n";
    scratch.write("server.pem", key());
    scratch.write("release.toml", strict(more));
    let run = check(&scratch, "");
    found(&run, "  settings/file: got a private key in server.pem");
    scratch.write("server.pem", "-----BEGIN CERTIFICATE-----\n");
    check(&scratch, "").ok();
    scratch.write("server.pem", gzip(&layer(&[file("inside/server.pem", key())])));
    found(&check(&scratch, ""), "  settings/file: got a private key in inside/server.pem");
}

#[test]
fn secrets_in_a_config_are_found_without_any_layer() {
    for (runs, history, says) in [
        (
            json!({ "Env": ["DB_PASSWORD=CANARY"] }),
            vec![],
            "a value that is secret by its name in the variable DB_PASSWORD",
        ),
        (
            json!({ "Env": ["URL=https://bob:CANARY1@git.internal"] }),
            vec![],
            "a password in an address in the variable URL",
        ),
        (json!({ "Labels": { "key": key() } }), vec![], "a private key in the label key"),
        (Value::Null, vec!["RUN |1 API_KEY=CANARY /bin/sh -c make".to_owned()], "in step 1 of its history"),
    ] {
        let scratch = Scratch::with_small_release();
        let platforms = vec!["linux/amd64"];
        let image = Image { platforms, runs, history, ..Image::new("tool") };
        Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
        scratch.write("release.toml", strict(""));
        let run = check(&scratch, "");
        found(&run, "tool/standard linux/amd64: got ");
        assert!(run.stdout.contains(says), "{run}");
    }
}

#[test]
fn memory_does_not_grow_with_a_layer() {
    let large = layer(&[
        file("random", random("large", 60 << 20)),
        file("zeros", vec![0; 100 << 20]),
        file("app/key.pem", key()),
    ]);
    for packed in [gzip(&large), zstd(&large)] {
        // Findings warn where nothing is strict.
        let scratch = release(&[packed, gzip(&layer(&[file("app/x", "x")]))], SMALL);
        let (_, most) = watched(scratch.command(&format!("check release.toml {MIRROR} --deep")));
        assert!(most < 64 << 20, "{} MiB", most >> 20);
    }
}

#[test]
fn findings_without_end_are_counted() {
    let many: Vec<_> = (0..130).map(|n| file(&format!("app/{n}/id_rsa"), "x")).collect();
    let paths = "\n[policy.tools]\npaths = [\"/app/*/id_rsa\"]\n";
    let run = check(&release(&[gzip(&layer(&many))], &strict(paths)), "--deep --json");
    assert_eq!(run.code, 4, "{run}");
    for (rule, last) in [("secrets", "30 more findings"), ("tools", "30 more")] {
        let checks = run.json()["checks"].clone();
        let check = checks.as_array().unwrap().iter().find(|check| check["id"] == rule).unwrap();
        let findings = check["findings"].as_array().unwrap();
        let got = findings.last().unwrap()["got"].as_str().unwrap();
        assert!(got == last || check["more"].as_u64() > Some(0), "{rule} {check:#}");
    }
    // Tools alone break no rule about secrets.
    let many: Vec<_> = (0..130).map(|n| file(&format!("app/{n}/make"), "x")).collect();
    let paths = "\n[policy.tools]\npaths = [\"/app/*/make\"]\n";
    let run = check(&release(&[gzip(&layer(&many))], &strict(paths)), "--deep");
    assert!(run.code == 4 && !run.stdout.contains("secrets: fail"), "{run}");
    // A name that is longer than any path.
    let long = [pax(&[&format!("path={}", "x".repeat(5_000))]), file("x", "x")].concat();
    check(&release(&[gzip(&layer(&[long]))], &strict("")), "--deep").fails(3, "LimitExceeded");
}

#[test]
fn names_that_lead_upwards_hide_nothing() {
    for path in ["usr/share/doc/../../../root/.ssh/id_rsa", "usr/lib/../bin/gcc", "../x"] {
        let scratch = release(&[gzip(&layer(&[file(path, key())]))], &strict(""));
        check(&scratch, "--deep").fails(3, "TarHeader").says("a name that leads upwards");
    }
}

#[test]
fn whiteouts_that_runtimes_do_not_heed_hide_nothing() {
    let below = gzip(&layer(&[file("usr/bin/gcc", "gcc")]));
    let tools = strict("\n[policy.tools]\npaths = [\"usr/bin/gcc\"]\n");
    for (name, hidden) in [
        (".wh..wh..opq", false),
        (".wh.", false),
        (".wh..", false),
        ("usr/bin/.wh.gcc", true),
        ("usr/bin/.wh..wh..opq", true),
    ] {
        let above = gzip(&layer(&[file(name, "")]));
        let scratch = release(&[below.clone(), above], &tools);
        let run = check(&scratch, "");
        assert_eq!(run.code, if hidden { 0 } else { 4 }, "{name}\n{run}");
    }
}
