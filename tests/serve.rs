//! A registry straight from bundles: what clients get, what they do not, and who may ask.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use support::parts::Parts;
use support::serving::Serving;
use support::{EXPORT, NAMES, Scratch, peer, sha256};

/// Both ways of beginning, and both forms of a bundle.
const WAYS: [&str; 3] = ["bundle.tar", "bundle.tar --head-first", "bundle.tar.zst"];

fn exported() -> Scratch {
    let scratch = Scratch::with_release().exported();
    scratch.sealift(&EXPORT.replace("bundle.tar", "bundle.tar.zst")).ok();
    scratch
}

fn serve(scratch: &Scratch, way: &str) -> Serving {
    Serving::start(scratch, &format!("{way} --trust trust"))
}

// ── Pulling ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_document_and_blob_is_given_out_byte_for_byte() {
    let scratch = exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let images = parts.statement()["images"].as_array().unwrap().clone();
    for way in WAYS {
        let registry = serve(&scratch, way);
        for image in &images {
            let source = image["source"].as_str().unwrap().trim_start_matches("registry.example.com/");
            let (name, _) = source.split_once(':').unwrap();
            for tag in image["tags"].as_array().unwrap() {
                let reply = registry.get(&format!("/v2/{name}/manifests/{}", tag.as_str().unwrap()));
                assert_eq!(
                    (reply.status, reply.header("docker-content-digest")),
                    (200, image["digest"].as_str().unwrap())
                );
                assert_eq!(reply.header("content-type"), image["mediaType"]);
                assert_eq!(reply.body, parts.blob(&image["digest"]).content, "{way} {name}");
            }
        }
        for entry in parts.0.iter().filter(|entry| entry.path.starts_with("blobs/")) {
            let digest = entry.path.replace("blobs/sha256/", "sha256:");
            let reply = registry.get(&format!("/v2/nexus/engine/blobs/{digest}"));
            assert_eq!(
                (reply.status, reply.whole, &reply.body),
                (200, true, &entry.content),
                "{way} {digest}"
            );
            let head = registry.ask("HEAD", &format!("/v2/nexus/engine/blobs/{digest}"), &[]);
            assert_eq!(head.header("content-length"), entry.content.len().to_string());
            assert_eq!(head.header("docker-content-digest"), digest);
        }
    }
}

#[test]
fn skopeo_copies_every_image_and_every_platform() {
    if !peer("skopeo") {
        return;
    }
    let scratch = exported();
    for (number, way) in WAYS.iter().enumerate() {
        let registry = serve(&scratch, way);
        for (name, variant) in NAMES {
            let copy = format!(
                "--insecure-policy copy --all --preserve-digests --src-tls-verify=false docker://{}/{name} oci:copy-{number}:x",
                registry.address
            );
            scratch.run("skopeo", &copy).ok();
            let raw = format!("inspect --raw --tls-verify=false docker://{}/{name}", registry.address);
            let raw = scratch.run("skopeo", &raw).ok().stdout;
            let source = format!("inspect --raw oci:images:registry.example.com/{variant}");
            assert_eq!(raw, scratch.run("skopeo", &source).ok().stdout, "{name}");
        }
    }
}

#[test]
fn what_is_there_is_listed() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    assert_eq!(registry.get("/v2/").status, 200);
    assert_eq!(registry.get("/v2/").header("docker-distribution-api-version"), "registry/2.0");
    assert_eq!(
        registry.get("/v2/_catalog").json()["repositories"],
        serde_json::json!(["nexus/agent", "nexus/engine"])
    );
    let all = ["2.1", "2.1-distroless", "2.1-edge", "2.1.0", "2.1.0-distroless", "2.1.0-edge"];
    assert_eq!(registry.get("/v2/nexus/engine/tags/list").json()["tags"], serde_json::json!(all));
    // Page by page (distribution-spec, "Listing Tags").
    let (mut path, mut seen) = ("/v2/nexus/engine/tags/list?n=4".to_owned(), Vec::new());
    loop {
        let reply = registry.get(&path);
        seen.extend(reply.json()["tags"].as_array().unwrap().clone());
        let Some(link) = reply.headers.get("link") else { break };
        path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
        assert!(link.ends_with("; rel=\"next\""), "{link}");
    }
    assert_eq!(seen, all);
    assert_eq!(registry.get("/v2/nexus/engine/tags/list?n=0").json()["tags"], serde_json::json!([]));
    // Referrers of anything: an index, if only an empty one (distribution-spec, "Listing Referrers").
    let nothing = registry.get(&format!("/v2/nexus/engine/referrers/sha256:{}", "0".repeat(64)));
    assert_eq!(
        (nothing.status, nothing.header("content-type")),
        (200, "application/vnd.oci.image.index.v1+json")
    );
    assert_eq!(nothing.json()["manifests"], serde_json::json!([]));
    let filtered =
        registry.get(&format!("/v2/nexus/engine/referrers/sha256:{}?artifactType=x%2Fy", "0".repeat(64)));
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
}

#[test]
fn mirrors_are_asked_in_the_name_of_another_registry() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    let plain = registry.get("/v2/nexus/engine/manifests/2.1.0");
    let mirrored = registry.get("/v2/nexus/engine/manifests/2.1.0?ns=registry.example.com");
    assert_eq!((mirrored.status, &mirrored.body), (200, &plain.body));
    assert_eq!(mirrored.header("oci-namespace"), "registry.example.com");
    let full = registry.get("/v2/registry.example.com/nexus/engine/manifests/2.1.0");
    assert_eq!((full.status, full.body), (200, plain.body));
}

#[test]
fn ranges_are_given_out_as_asked() {
    let scratch = exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let layer = parts.first_image()[3].clone();
    let (size, content) = (layer.content.len(), &layer.content);
    let path = format!("/v2/nexus/engine/blobs/{}", layer.path.replace("blobs/sha256/", "sha256:"));
    for way in WAYS {
        let registry = serve(&scratch, way);
        let last = size - 1;
        for (range, from, to) in [
            ("bytes=0-0".to_owned(), 0, 0),
            ("bytes=5-".to_owned(), 5, last),
            (format!("bytes=7-{}", size * 2), 7, last),
            ("bytes=-3".to_owned(), size - 3, last),
            (format!("bytes=1-{}", last - 1), 1, last - 1),
        ] {
            let reply = registry.ask("GET", &path, &[("Range", &range)]);
            assert_eq!((reply.status, reply.body.as_slice()), (206, &content[from..=to]), "{way} {range}");
            assert_eq!(reply.header("content-range"), format!("bytes {from}-{to}/{size}"));
        }
        for range in [format!("bytes={size}-"), "bytes=5-4".to_owned(), "bytes=-0".to_owned()] {
            let reply = registry.ask("GET", &path, &[("Range", &range)]);
            assert_eq!(
                (reply.status, reply.header("content-range")),
                (416, format!("bytes */{size}").as_str()),
                "{range}"
            );
        }
    }
}

#[test]
fn what_is_not_there_is_said_in_the_words_of_the_specification() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    let absent = format!("sha256:{}", "0".repeat(64));
    for (path, status, code) in [
        ("/v2/nexus/engine/manifests/absent".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/nexus/engine/manifests/{absent}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/nexus/engine/blobs/{absent}"), 404, "BLOB_UNKNOWN"),
        ("/v2/nexus/absent/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/nexus/engine/blobs/sha256:bad".to_owned(), 400, "DIGEST_INVALID"),
        (format!("/v2/nexus/engine/blobs/sha512:{}", "0".repeat(128)), 400, "DIGEST_INVALID"),
        ("/v2/Nexus/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/nexus/../../../etc/passwd/manifests/x".to_owned(), 400, "NAME_INVALID"),
        ("/v2/nexus/%2e%2e/manifests/x".to_owned(), 400, "NAME_INVALID"),
        ("/v2/nonsense".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        let reply = registry.get(&path);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}");
    }
    for (method, path) in [
        ("POST", "/v2/nexus/engine/blobs/uploads/"),
        ("PUT", "/v2/nexus/engine/manifests/new"),
        ("DELETE", "/v2/nexus/engine/manifests/2.1.0"),
        ("PATCH", "/v2/nexus/engine/blobs/uploads/x"),
    ] {
        let reply = registry.ask(method, path, &[("Content-Length", "0")]);
        assert_eq!((reply.status, reply.code().as_str()), (405, "UNSUPPORTED"), "{method}");
    }
}

// ── Trust ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_stranger_s_bundle_is_not_served() {
    let scratch = exported();
    scratch.key("stranger");
    scratch.trust("others", &["stranger"]);
    for flag in ["", " --head-first"] {
        let serve = format!("serve bundle.tar --trust others --listen 127.0.0.1:0{flag}");
        scratch.sealift(&serve).fails(3, "SignatureUntrusted");
    }
    scratch.sealift("serve absent.tar --trust trust --listen 127.0.0.1:0").fails(1, "Io");
}

#[test]
fn a_damaged_blob_is_never_given_out_and_the_others_are() {
    let scratch = exported();
    let good = scratch.read("bundle.tar");
    let parts = Parts::read(&good);
    let (index, layer) = (parts.first_image()[0].clone(), parts.first_image()[3].clone());
    let digest = |path: &str| path.replace("blobs/sha256/", "sha256:");
    for entry in [&layer, &index] {
        let mut bundle = good.clone();
        bundle[entry.range().start + 1] ^= 1;
        scratch.write("bundle.tar", &bundle);
        scratch.sealift("serve bundle.tar --trust trust --listen 127.0.0.1:0").fails(3, "DigestMismatch");
        let registry = serve(&scratch, "bundle.tar --head-first");
        // Asked by many at once, and again: it is hashed once, and never given out.
        let asked: Vec<u16> = std::thread::scope(|scope| {
            let ask = || registry.get(&format!("/v2/nexus/engine/blobs/{}", digest(&entry.path)));
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().status).collect()
        });
        assert_eq!(asked, [500; 4]);
        assert_eq!(
            registry
                .ask(
                    "GET",
                    &format!("/v2/nexus/engine/blobs/{}", digest(&entry.path)),
                    &[("Range", "bytes=0-0")]
                )
                .status,
            500
        );
        let manifest =
            registry.get(&format!("/v2/nexus/engine/manifests/{}", digest(&parts.first_image()[1].path)));
        assert_eq!(manifest.status, 200, "what is whole is served");
    }
    scratch.write("bundle.tar", &good);
}

#[test]
fn several_bundles_are_one_registry() {
    let scratch = exported();
    scratch.export_small_beside("small.tar");
    let registry = serve(&scratch, "bundle.tar small.tar");
    let names = registry.get("/v2/_catalog").json()["repositories"].clone();
    assert_eq!(names, serde_json::json!(["nexus/agent", "nexus/engine", "tools/tool"]));
    assert_eq!(registry.get("/v2/tools/tool/manifests/1.0.0").status, 200);
    assert_eq!(registry.get("/v2/nexus/agent/manifests/2.1").status, 200);
    assert!(
        registry.said.contains("nexus-engine 2.1.0") && registry.said.contains("small 1.0.0"),
        "{}",
        registry.said
    );
}

// ── Access ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn beyond_this_machine_a_registry_needs_tls_or_a_word() {
    let scratch = exported();
    scratch
        .sealift("serve bundle.tar --trust trust --listen 0.0.0.0:0")
        .fails(2, "Usage")
        .says("beyond this machine a registry needs TLS")
        .says("--self-signed");
    let registry =
        Serving::of(scratch.command("serve bundle.tar --trust trust --listen 0.0.0.0:0 --plain-http-anyway"));
    let port = registry.address.rsplit_once(':').unwrap().1;
    assert!(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
}

#[test]
fn a_certificate_is_made_that_clients_accept() {
    if !peer("curl") {
        return;
    }
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar --self-signed");
    let authority = &registry.said[registry.said.find("-----BEGIN").unwrap()..];
    scratch.write("ca.pem", authority);
    let path = format!("https://{}/v2/nexus/agent/manifests/2.1.0", registry.address);
    let got = scratch.run("curl", &format!("--silent --fail --cacert ca.pem {path}")).ok().stdout;
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let agent = parts.statement()["images"]
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["name"] == "agent")
        .unwrap()
        .clone();
    assert_eq!(format!("sha256:{}", sha256(got.as_bytes())), agent["digest"]);
    // sealift itself, on the way from one registry to a bundle.
    let export = format!(
        "export release.toml -o again.tar --key release.key.pem --mirror registry.example.com={} --tls 127.0.0.1 --ca ca.pem",
        registry.address
    );
    scratch.sealift(&export).ok();
    assert_eq!(scratch.read("again.tar"), scratch.read("bundle.tar"));
}

#[test]
fn names_and_passwords_are_asked_for() {
    let scratch = exported();
    // bcrypt of "right" at its lowest cost.
    let hash = bcrypt::hash("right", 4).unwrap();
    scratch.write("users", format!("# site\nrobot:{hash}\n"));
    let login = |word: &str| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("robot:{word}")))
    };
    let closed = serve(&scratch, "bundle.tar --htpasswd users");
    for (path, header, status) in [
        ("/v2/", None, 401),
        ("/v2/nexus/agent/manifests/2.1.0", None, 401),
        ("/", None, 401),
        ("/v2/", Some(login("wrong")), 401),
        ("/v2/", Some("Bearer x".to_owned()), 401),
        ("/v2/", Some("Basic !!".to_owned()), 401),
        ("/v2/", Some(login("right")), 200),
        ("/v2/nexus/agent/manifests/2.1.0", Some(login("right")), 200),
        ("/v2/", Some(login("wrong")), 401),
    ] {
        let headers: Vec<_> = header.iter().map(|value| ("Authorization", value.as_str())).collect();
        let reply = closed.ask("GET", path, &headers);
        assert_eq!(reply.status, status, "{path} {header:?}");
        if status == 401 {
            assert_eq!(reply.header("www-authenticate"), "Basic realm=\"sealift\", charset=\"UTF-8\"");
        }
    }
    let open = serve(&scratch, "bundle.tar --htpasswd users --anonymous-pull");
    assert_eq!(open.get("/v2/nexus/agent/manifests/2.1.0").status, 200);
    assert_eq!(open.ask("GET", "/v2/", &[("Authorization", &login("wrong"))]).status, 401);
    for (text, words) in
        [("robot:plain", "not hashed by bcrypt"), ("robot", "not a name and a hash"), ("", "has no users")]
    {
        scratch.write("users", text);
        scratch
            .sealift("serve bundle.tar --trust trust --listen 127.0.0.1:0 --htpasswd users")
            .fails(2, "Usage")
            .says(words);
    }
}

// ── Connections ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_connection_serves_one_request_after_the_other_whatever_they_are() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    let mut connection = registry.connect();
    for (method, path, status) in [
        ("GET", "/v2/", 200),
        ("HEAD", "/v2/nexus/engine/manifests/2.1.0", 200),
        ("GET", "/v2/nexus/engine/manifests/2.1.0", 200),
        ("GET", "/v2/nexus/engine/manifests/absent", 404),
        // From here on another hand has it.
        ("POST", "/v2/nexus/engine/blobs/uploads/", 405),
        ("GET", "/v2/nexus/engine/manifests/2.1.0", 200),
        ("HEAD", "/v2/nexus/engine/manifests/2.1.0", 200),
    ] {
        let length: &[(&str, &str)] = if method == "POST" { &[("Content-Length", "0")] } else { &[] };
        connection.send(method, path, length);
        assert_eq!(connection.reply(method == "HEAD").status, status, "{method} {path}");
    }
    // Two requests in one packet, in pieces, and the last one.
    let mut connection = registry.connect();
    connection.raw(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/_cat");
    assert_eq!(connection.reply(false).status, 200);
    connection.raw(b"alog HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.reply(false).header("connection"), "close");
    assert!(connection.try_reply(false).is_none(), "closed");
}

#[test]
fn requests_that_two_could_understand_differently_are_not_answered_twice() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    for head in [
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        "GET  /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ] {
        let mut connection = registry.connect();
        connection.raw(head.as_bytes());
        let first = connection.try_reply(false);
        assert!(first.is_none_or(|reply| reply.status == 400), "{head:?}");
        assert!(connection.try_reply(false).is_none(), "{head:?}");
    }
    let mut connection = registry.connect();
    connection.raw(format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(70_000)).as_bytes());
    assert!(connection.try_reply(false).is_none_or(|reply| reply.status == 431));
    assert_eq!(registry.get("/v2/").status, 200, "others are served");
}

#[test]
fn a_server_that_is_to_end_answers_what_was_asked() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar --access-log log");
    let mut waiting = registry.connect();
    waiting.send("GET", "/v2/", &[]);
    assert_eq!(waiting.reply(false).status, 200);
    let agent = [("User-Agent", "te\"st")];
    assert_eq!(registry.ask("GET", "/v2/nexus/engine/manifests/2.1.0?ns=a%1b", &agent).status, 200);
    assert_eq!(registry.ended_by("TERM"), 0);
    assert!(waiting.try_reply(false).is_none(), "nobody waited for an answer here");
    let log = String::from_utf8(scratch.read("log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    // Of two connections either may be written down first.
    let line =
        lines.iter().find(|line| line["target"] == "/v2/nexus/engine/manifests/2.1.0?ns=a%1b").unwrap();
    assert_eq!(
        (&line["method"], &line["status"], &line["agent"]),
        (&"GET".into(), &200.into(), &"te\"st".into())
    );
}

#[test]
fn an_address_that_is_taken_is_said_before_anything_is_read() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    scratch
        .sealift(&format!("serve bundle.tar --trust trust --listen {}", registry.address))
        .fails(1, "Io")
        .says("is another registry running there?");
}
