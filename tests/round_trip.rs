//! The main job: from a registry into a bundle and into another registry, digests unchanged. The
//! registries are CNCF Distribution's, and skopeo is the witness of what they hold.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use std::fs::File;
use std::process::Stdio;

use serde_json::{Value, json};
use support::images::{Image, Layout};
use support::parts::Parts;
use support::registry::Registry;
use support::{NAMES, SMALL, Scratch, peer, sha256};

const PEERS: [&str; 2] = ["skopeo", "docker-registry"];

fn peers() -> bool {
    PEERS.into_iter().filter(|program| !peer(program)).count() == 0
}

/// The release's images, pushed by skopeo into a registry.
fn source(scratch: &Scratch) -> Registry {
    let registry = Registry::start();
    for name in NAMES.into_iter().filter(|(name, own)| name == own).map(|(name, _)| name) {
        push(scratch, &registry, name);
    }
    registry
}

fn push(scratch: &Scratch, registry: &Registry, name: &str) {
    push_as(scratch, registry, name, "--preserve-digests");
}

fn push_as(scratch: &Scratch, registry: &Registry, name: &str, how: &str) {
    let to = registry.address();
    let copy = format!(
        "--insecure-policy copy --all {how} --dest-tls-verify=false oci:images:registry.example.com/{name} docker://{to}/{name}"
    );
    scratch.run("skopeo", &copy).ok();
}

/// The top document that a name leads to, as skopeo reads it.
fn inspected(scratch: &Scratch, registry: &Registry, name: &str) -> String {
    let inspect = format!("inspect --raw --tls-verify=false docker://{}/{name}", registry.address());
    scratch.run("skopeo", &inspect).ok().stdout
}

fn digest(document: &str) -> String {
    format!("sha256:{}", sha256(document.as_bytes()))
}

fn export(scratch: &Scratch, from: &Registry, more: &str) -> support::Run {
    scratch.sealift(&format!(
        "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com={} {more}",
        from.address()
    ))
}

fn import(scratch: &Scratch, to: &Registry, more: &str) -> support::Run {
    scratch.sealift(&format!("import bundle.tar --to docker://{} --trust trust {more}", to.address()))
}

fn receipt(scratch: &Scratch, to: &Registry, more: &str) -> Value {
    import(scratch, to, &format!("--json {more}")).ok().json()
}

#[test]
fn a_release_arrives_as_it_left() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release();
    let (connected, offline) = (source(&scratch), Registry::start());
    export(&scratch, &connected, "").ok();
    scratch.sealift("verify bundle.tar --trust trust").ok();
    import(&scratch, &offline, "").ok();
    for (number, (name, own)) in NAMES.into_iter().enumerate() {
        assert_eq!(inspected(&scratch, &offline, name), inspected(&scratch, &connected, own), "{name}");
        // Everything below is there, too: skopeo takes all of it and hashes it.
        let from = offline.address();
        let copy = format!(
            "--insecure-policy copy --all --preserve-digests --src-tls-verify=false docker://{from}/{name} dir:copy{number}"
        );
        scratch.run("skopeo", &copy).ok();
    }
    let list = |repository: &str| {
        let from = offline.address();
        let tags =
            scratch.run("skopeo", &format!("list-tags --tls-verify=false docker://{from}/{repository}"));
        serde_json::from_str::<Value>(&tags.ok().stdout).unwrap()["Tags"].as_array().unwrap().len()
    };
    assert_eq!((list("nexus/engine"), list("nexus/agent")), (6, 2), "no tag more than asked for");
}

#[test]
fn a_bundle_is_the_same_from_a_registry_and_from_a_layout() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release();
    export(&scratch, &source(&scratch), "").ok();
    let pulled = scratch.read("bundle.tar");
    scratch.sealift("export release.toml -o layout.tar --key release.key.pem --mirror registry.example.com=oci:images").ok();
    assert_eq!(pulled, scratch.read("layout.tar"));
}

#[test]
fn a_second_import_sends_nothing_and_a_dry_run_says_so_beforehand() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let offline = Registry::start();
    let mut expected = 0;
    for entry in &Parts::read(&scratch.read("bundle.tar")).0[5..] {
        expected += entry.content.len();
    }

    let plan = receipt(&scratch, &offline, "--dry-run");
    assert!(offline.is_empty(), "a dry run pushes nothing: {:?}", offline.disk());
    assert_eq!((&plan["dryRun"], &plan["bytesSent"], &plan["sent"]), (&json!(true), &json!(0), &json!(0)));
    assert_eq!(plan["present"], 0);

    let first = receipt(&scratch, &offline, "");
    for (said, done) in [("bytesToSend", "bytesSent"), ("toSend", "sent"), ("toMount", "mounted")] {
        assert_eq!((&plan[said], &first[said]), (&first[done], &first[done]), "{done}");
    }
    assert_eq!(first["bytesSent"], expected, "each byte once: the shared layer is mounted");
    assert_eq!(first["tags"], NAMES.len());
    assert!(
        first["images"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|i| i["names"].as_array().unwrap())
            .all(|n| n["change"] == "new")
    );

    // Uploads leave their traces in the times of directories: after this, there are none.
    let before = offline.disk();
    let plan = receipt(&scratch, &offline, "--dry-run");
    assert_eq!((&plan["bytesToSend"], &plan["toSend"], &plan["toMount"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(offline.disk(), before);
    let second = receipt(&scratch, &offline, "");
    assert_eq!(
        (&second["bytesSent"], &second["sent"], &second["mounted"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(second["bytesPresent"].as_u64().unwrap() as usize, expected + shared_bytes(&scratch));
    assert!(
        second["images"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|i| i["names"].as_array().unwrap())
            .all(|n| n["change"] == "unchanged")
    );
    let uploads = |disk: support::registry::Disk| {
        let traces = |path: &std::path::PathBuf| {
            let text = path.to_string_lossy();
            text.contains("_uploads") || text.contains("/blobs/")
        };
        disk.into_iter().filter(|(path, _)| traces(path)).collect::<Vec<_>>()
    };
    assert_eq!(uploads(offline.disk()), uploads(before));
}

/// The layer that both repositories have, and each of them needs.
fn shared_bytes(scratch: &Scratch) -> usize {
    let parts = Parts::read(&scratch.read("bundle.tar"));
    parts.first_image()[3].content.len()
}

#[test]
fn a_layer_that_two_repositories_share_is_sent_once_and_mounted() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let offline = Registry::start();
    let receipt = receipt(&scratch, &offline, "");
    assert_eq!(receipt["mounted"], 1);
    let blobs = Parts::read(&scratch.read("bundle.tar")).0.len() - 5;
    assert_eq!(receipt["sent"], blobs);
    assert_eq!(offline.blobs(), blobs, "the registry holds each blob once");
}

#[test]
fn images_can_be_put_elsewhere() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let offline = Registry::start();
    let address = offline.address();
    for (to, map, engine, agent) in [
        ("/mirror/site-7", "", "mirror/site-7/nexus/engine", "mirror/site-7/nexus/agent"),
        ("", "--map nexus=apps", "apps/engine", "apps/agent"),
        ("", "--map nexus=apps --map nexus/agent=tools/agent", "apps/engine", "tools/agent"),
        ("/edge", "--map registry.example.com/nexus=n", "edge/n/engine", "edge/n/agent"),
    ] {
        scratch.sealift(&format!("import bundle.tar --to {address}{to} --trust trust {map}")).ok();
        for (repository, own) in [(engine, "nexus/engine"), (agent, "nexus/agent")] {
            let at = inspected(&scratch, &offline, &format!("{repository}:2.1"));
            let statement = Parts::read(&scratch.read("bundle.tar")).statement();
            let source = format!("registry.example.com/{own}:2.1.0");
            let images = statement["images"].as_array().unwrap();
            let image = images.iter().find(|image| image["source"] == source).unwrap();
            assert_eq!(image["digest"], digest(&at), "{to} {map}");
        }
    }
}

#[test]
fn two_images_may_not_get_one_name() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let offline = Registry::start();
    import(&scratch, &offline, "--map nexus/engine=all --map nexus/agent=all")
        .fails(2, "RefAmbiguous")
        .says("all:2.1.0");
    assert!(offline.is_empty());
}

#[test]
fn a_tag_that_leads_elsewhere_is_moved_only_when_asked() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let offline = Registry::start();
    let other = Scratch::new();
    Layout::new(other.path("images")).add("registry.example.com/nexus/engine:2.1", &Image::new("older"));
    push(&other, &offline, "nexus/engine:2.1");
    let before = (offline.disk(), inspected(&scratch, &offline, "nexus/engine:2.1"));

    for dry_run in ["", "--dry-run"] {
        import(&scratch, &offline, dry_run)
            .fails(4, "TagConflict")
            .says("nexus/engine:2.1:")
            .says("destination: ")
            .says(&digest(&before.1))
            .says("--overwrite-tags");
    }
    assert_eq!(offline.disk(), before.0, "nothing was sent");

    let receipt = receipt(&scratch, &offline, "--overwrite-tags");
    let names = receipt["images"].as_array().unwrap().iter().flat_map(|i| i["names"].as_array().unwrap());
    let moved: Vec<&Value> = names.filter(|name| name["change"] == "moved").collect();
    assert_eq!(moved.len(), 1);
    let own = inspected(&scratch, &offline, "nexus/engine:2.1.0");
    assert_eq!(inspected(&scratch, &offline, "nexus/engine:2.1"), own);
    assert_ne!(own, before.1);
}

#[test]
fn skopeo_reads_the_layout_that_an_import_writes() {
    if !peer("skopeo") {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let first = scratch.sealift("import bundle.tar --to oci:offline --trust trust --json").ok().json();
    assert_eq!(first["tags"], NAMES.len());
    for (number, (name, own)) in NAMES.into_iter().enumerate() {
        let raw = |layout: &str, name: &str| {
            scratch
                .run("skopeo", &format!("inspect --raw oci:{layout}:registry.example.com/{name}"))
                .ok()
                .stdout
        };
        assert_eq!(raw("offline", name), raw("images", own), "{name}");
        let copy =
            format!("--insecure-policy copy --all oci:offline:registry.example.com/{name} dir:copy{number}");
        scratch.run("skopeo", &copy).ok();
    }
    let second = scratch.sealift("import bundle.tar --to oci:offline --trust trust --json").ok().json();
    assert_eq!((&second["bytesSent"], &second["sent"]), (&json!(0), &json!(0)));
}

#[test]
fn an_import_mends_a_layout_that_was_damaged() {
    let scratch = Scratch::with_release().exported();
    scratch.sealift("import bundle.tar --to oci:offline --trust trust").ok();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let [.., config, layer] = parts.first_image();
    let mut flipped = layer.content.clone();
    flipped[100] ^= 1;
    scratch.write(format!("offline/{}", layer.path), flipped);
    std::fs::remove_file(scratch.path(format!("offline/{}", config.path))).unwrap();
    let receipt = scratch.sealift("import bundle.tar --to oci:offline --trust trust --json").ok().json();
    assert_eq!(
        (&receipt["sent"], &receipt["bytesSent"]),
        (&json!(2), &json!(config.content.len() + layer.content.len()))
    );
    for entry in [config, layer] {
        assert_eq!(scratch.read(format!("offline/{}", entry.path)), entry.content);
    }
}

#[test]
fn an_import_keeps_what_else_a_layout_holds_and_refuses_other_directories() {
    let scratch = Scratch::with_release().exported();
    let mut layout = Layout::new(scratch.path("offline"));
    layout.add("registry.example.com/other/thing:1", &Image::new("thing"));
    scratch.sealift("import bundle.tar --to oci:offline --trust trust").ok();
    let index: Value = serde_json::from_slice(&scratch.read("offline/index.json")).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), NAMES.len() + 1);
    assert_eq!(
        entries[0]["annotations"]["org.opencontainers.image.ref.name"],
        "registry.example.com/other/thing:1"
    );

    std::fs::create_dir(scratch.path("papers")).unwrap();
    scratch.write("papers/letter.txt", "dear");
    scratch.sealift("import bundle.tar --to oci:papers --trust trust").fails(2, "OutputExists");
    assert_eq!(std::fs::read_dir(scratch.path("papers")).unwrap().count(), 1);
}

#[test]
fn parts_of_a_release_can_be_exported_and_imported() {
    let scratch = Scratch::with_release();
    let images = |output: &str, more: &str| {
        scratch.sealift(&format!(
            "export release.toml -o {output} --key release.key.pem --mirror registry.example.com=oci:images {more}"
        )).ok();
        scratch.sealift(&format!("verify {output} --trust trust")).ok();
        let statement = Parts::read(&scratch.read(output)).statement();
        let label = |image: &Value| {
            format!("{}/{}", image["name"].as_str().unwrap(), image["variant"].as_str().unwrap())
        };
        statement["images"].as_array().unwrap().iter().map(label).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(images("a.tar", "--variant edge,distroless"), "engine/distroless engine/edge");
    assert_eq!(images("b.tar", "--image agent"), "agent/standard");
    assert_eq!(images("c.tar", "--variant standard"), "engine/standard agent/standard");
    assert_eq!(images("d.tar", "--variant standard --image engine"), "engine/standard");
    for wrong in ["--variant huge", "--image motor", "--image agent --variant edge"] {
        let export = format!(
            "export release.toml -o x.tar --key release.key.pem --mirror registry.example.com=oci:images {wrong}"
        );
        scratch.sealift(&export).fails(2, "EmptySelection");
        assert!(!scratch.has("x.tar"));
    }

    images("bundle.tar", "");
    let receipt = scratch
        .sealift(
            "import bundle.tar --to oci:offline --trust trust --json --variant edge --platform linux/arm64",
        )
        .ok()
        .json();
    // One index, manifest, config and two layers.
    assert_eq!((&receipt["sent"], &receipt["tags"]), (&json!(5), &json!(2)));
    assert_eq!(receipt["images"][0]["omitted"], 2);
    scratch
        .sealift("import bundle.tar --to oci:offline --trust trust --variant huge")
        .fails(2, "EmptySelection");
    scratch
        .sealift("import bundle.tar --to oci:offline --trust trust --platform linux/s390x")
        .fails(2, "PlatformMissing");
}

#[test]
fn a_narrowed_export_from_a_registry_pulls_only_what_is_asked_for() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release();
    let connected = source(&scratch);
    export(&scratch, &connected, "--image engine --variant edge --platform linux/arm/v7").ok();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    // An index, a manifest, a config and two layers.
    assert_eq!(parts.0[5..].len(), 5);
    let image = &parts.statement()["images"][0];
    assert_eq!(image["omitted"].as_array().unwrap().len(), 2);
    scratch.sealift("verify bundle.tar --trust trust").ok();
}

#[test]
fn a_registry_that_wants_complete_indexes_is_told_from_a_failure() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release();
    export(&scratch, &source(&scratch), "--platform linux/amd64").ok();
    // Distribution checks the children of an index: what is missing is said, and what to do.
    let offline = Registry::start();
    let run = import(&scratch, &offline, "--sparse keep");
    run.fails(1, "RegistryRejected").says("destination: ").says("hint: some platforms were left out");
    let tags = scratch
        .run("skopeo", &format!("list-tags --tls-verify=false docker://{}/nexus/engine", offline.address()));
    assert!(!tags.stdout.contains("2.1"), "no tag was set\n{tags}");
}

#[test]
fn a_pin_that_still_fits_is_kept_and_one_that_does_not_stops_the_export() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release();
    let connected = source(&scratch);
    let pinned = digest(&inspected(&scratch, &connected, "nexus/engine:2.1.0-edge"));
    let pin = format!("also_tag   = [\"{{major}}.{{minor}}\"]\npin = {{ edge = \"{pinned}\" }}");
    let text = support::RELEASE.replacen("also_tag   = [\"{major}.{minor}\"]", &pin, 1);
    assert!(text.contains(&pinned));
    scratch.write("release.toml", text);
    export(&scratch, &connected, "").ok();
    std::fs::remove_file(scratch.path("bundle.tar")).unwrap();

    let mut layout = Layout::new(scratch.path("images"));
    layout.add("registry.example.com/nexus/engine:2.1.0-edge", &Image::new("somebody else's"));
    push(&scratch, &connected, "nexus/engine:2.1.0-edge");
    let moved = digest(&inspected(&scratch, &connected, "nexus/engine:2.1.0-edge"));
    export(&scratch, &connected, "").fails(3, "PinMismatch").says(&pinned).says(&moved).says("source: ");
    scratch.holds_no_bundle();
    export(&scratch, &connected, "--dry-run").fails(3, "PinMismatch");
}

#[test]
fn docker_images_attestations_and_single_manifests_travel_between_registries() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_small_release();
    let name = "tools/tool:1.0.0";
    let single = Image { no_index: true, ..Image::new("single") };
    for (kind, how, image) in [
        ("docker", "--format v2s2", Image::new("docker")),
        ("single docker", "--format v2s2", single.clone()),
        ("single", "--preserve-digests", single),
        ("attested", "--preserve-digests", Image { attested: true, ..Image::new("attested") }),
        ("twice", "--preserve-digests", Image { layer_twice: true, ..Image::new("twice") }),
    ] {
        let (connected, offline) = (Registry::start(), Registry::start());
        Layout::new(scratch.path("images")).add(&format!("registry.example.com/{name}"), &image);
        push_as(&scratch, &connected, name, how);
        let document = inspected(&scratch, &connected, name);
        assert_eq!(document.contains("application/vnd.docker."), kind.contains("docker"), "{document}");
        export(&scratch, &connected, "--overwrite").ok();
        // Each kind is another content of one version: a site that remembered would refuse it.
        import(&scratch, &offline, "--reset-state").ok();
        assert_eq!(inspected(&scratch, &offline, name), inspected(&scratch, &connected, name), "{kind}");
        assert_eq!(offline.blobs(), connected.blobs(), "{kind}");
        let from = offline.address();
        let copy = format!(
            "--insecure-policy copy --all --preserve-digests --src-tls-verify=false docker://{from}/{name} dir:copy"
        );
        scratch.run("skopeo", &copy).ok();
    }
}

#[test]
fn an_import_that_was_interrupted_continues_where_it_was() {
    if !peers() {
        return;
    }
    // A registry that already has everything but one layer and the tags.
    let scratch = Scratch::with_release().exported();
    let offline = Registry::start();
    let whole = receipt(&scratch, &offline, "--variant standard");
    let rest = receipt(&scratch, &offline, "");
    let bytes = |receipt: &Value| receipt["bytesSent"].as_u64().unwrap();
    let all: usize = Parts::read(&scratch.read("bundle.tar")).0[5..].iter().map(|e| e.content.len()).sum();
    assert!(bytes(&whole) > 0 && bytes(&rest) > 0);
    assert_eq!(bytes(&whole) + bytes(&rest), all as u64, "no byte was sent twice");
}

#[test]
fn what_is_not_trusted_never_reaches_a_registry() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let offline = Registry::start();
    let good = scratch.read("bundle.tar");
    let last = Parts::read(&good).0.last().unwrap().range().start;
    for (at, kind) in [(600, "SignatureUntrusted"), (last, "DigestMismatch")] {
        let mut bundle = good.clone();
        bundle[at] ^= 1;
        scratch.write("bundle.tar", bundle);
        import(&scratch, &offline, "").fails(3, kind);
    }
    scratch.write("bundle.tar", &good[..good.len() - 512]);
    import(&scratch, &offline, "").fails(3, "Truncated");
    assert!(offline.is_empty(), "{:?}", offline.disk());
}

/// The login of the test registry: the password's bcrypt hash, cost 4, and the password itself.
const HTPASSWD: &str = "robot:$2b$04$X6MGRyqQBlvPdrHubJjiMe/g765SMz5n4bRmTks1pQcPREYxo/SVu\n";
const PASSWORD: &str = "TEST-ONLY-canary";

/// A certificate authority and a certificate for 127.0.0.1, made by openssl.
fn certificates(scratch: &Scratch) {
    scratch.write("san", "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2",
        "req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=registry",
        "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tls.pem -days 2 -extfile san",
    ] {
        scratch.run("openssl", arguments).ok();
    }
}

fn login(scratch: &Scratch, file: &str, registry: &Registry, password: &str) {
    use base64::Engine;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("robot:{password}"));
    let login = serde_json::json!({ "auths": { registry.address(): { "auth": auth } } });
    scratch.write(file, login.to_string());
}

#[test]
fn a_registry_with_tls_and_a_login_takes_the_images_and_nobody_sees_the_password() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    certificates(&scratch);
    scratch.write("htpasswd", HTPASSWD);
    let registry = Registry::with(&format!(
        "  tls: {{certificate: {}, key: {}}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}",
        scratch.path("tls.pem").display(),
        scratch.path("tls.key").display(),
        scratch.path("htpasswd").display(),
    ));
    login(&scratch, "right.json", &registry, PASSWORD);
    login(&scratch, "wrong.json", &registry, "TEST-ONLY-mistake");
    let import = |flags: &str, auth_file: &str| {
        let to = registry.address();
        let mut command = scratch.command(&format!("import bundle.tar --to {to} --trust trust {flags}"));
        command.env("REGISTRY_AUTH_FILE", scratch.path(auth_file));
        let run = support::run(command);
        for secret in [PASSWORD, "TEST-ONLY-mistake"] {
            assert!(!run.stderr.contains(secret) && !run.stdout.contains(secret), "{run}");
        }
        run
    };
    import("", "right.json").fails(1, "RegistryRejected").says("--tls HOST");
    import("--tls 127.0.0.1", "right.json").fails(1, "Tls").says("--ca FILE");
    import("--tls 127.0.0.1 --ca ca.pem", "wrong.json").fails(1, "Auth").says("wrong.json");
    assert!(registry.is_empty(), "{:?}", registry.disk());
    import("--tls 127.0.0.1 --ca ca.pem", "right.json").ok();
    let again = import("--tls 127.0.0.1 --ca ca.pem --json", "right.json").ok().json();
    assert_eq!((again["bytesSent"].as_u64(), again["tags"].as_u64()), (Some(0), Some(8)));
}

#[test]
fn transfers_over_tls_do_not_wait_for_each_other() {
    if !peers() {
        return;
    }
    let scratch = Scratch::new();
    let image = Image { layer: 5 << 20, shared: vec!["application"], ..Image::new("tool") };
    Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
    scratch.write("release.toml", SMALL);
    scratch.key("release");
    certificates(&scratch);
    let registry = Registry::with(&format!(
        "  tls: {{certificate: {}, key: {}}}",
        scratch.path("tls.pem").display(),
        scratch.path("tls.key").display(),
    ));
    scratch.push_heavy(&registry);
    let mirror = format!("registry.example.com={} --tls 127.0.0.1 --ca ca.pem", registry.address());
    let export = |output: &str, from: &str| {
        format!("export release.toml -o {output} --key release.key.pem --mirror {from}")
    };
    // Content is fetched ahead of whoever takes it: the layer whose turn it is must come, however many
    // others are waiting to be taken.
    let local = "registry.example.com=oci:images";
    for suffix in ["tar", "tar.zst"] {
        scratch.sealift(&export(&format!("local.{suffix}"), local)).ok();
    }
    let mut command = scratch.command(&export("-", &mirror));
    command.stdout(File::create(scratch.path("piped.tar")).unwrap()).stderr(Stdio::piped());
    let piped = command.spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&piped.stderr);
    // A transfer that was starved would be given up, and tried again with a note.
    assert!(piped.status.success() && !said.contains("note: "), "{said}");
    assert!(scratch.read("piped.tar") == scratch.read("local.tar"));
    let packed = scratch.sealift(&export("packed.tar.zst", &mirror)).ok();
    assert!(!packed.stderr.contains("note: "), "{packed}");
    assert!(scratch.read("packed.tar.zst") == scratch.read("local.tar.zst"));
}

#[test]
fn where_everything_is_there_the_layers_of_a_bundle_are_not_read() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let to = Registry::start();
    let first = receipt(&scratch, &to, "");
    assert_eq!(first["verified"], "all");
    // The last byte of the last layer: only who reads the layers can notice.
    let mut bundle = scratch.read("bundle.tar");
    let last = bundle.iter().rposition(|&byte| byte != 0).unwrap();
    bundle[last] ^= 1;
    scratch.write("bundle.tar", bundle);
    let again = receipt(&scratch, &to, "");
    assert_eq!((&again["verified"], &again["tags"]), (&"documents".into(), &8.into()));
    // Whatever is to be sent or promised is read first.
    import(&scratch, &to, "--dry-run").fails(3, "DigestMismatch");
    import(&scratch, &to, "--map nexus=other").fails(3, "DigestMismatch");
    import(&scratch, &Registry::start(), "").fails(3, "DigestMismatch");
}
