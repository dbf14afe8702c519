//! The registry over a store: what the specification leaves open, what clients do in their distress, and real
//! clients. The clauses of the specification are in tests/distribution.rs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs::File;

use serde_json::json;
use support::pushing::{
    CONFIG, INDEX, LAYER, MANIFEST, begin, descriptor, digest, index, manifest, push, put,
};
use support::serving::{Connection, Serving};
use support::{EXPORT, NAMES, Scratch, peer};

fn registry(scratch: &Scratch) -> Serving {
    Serving::start(scratch, "store:store --writable")
}

// ── Documents ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn parts_of_images_are_welcome_where_that_was_said() {
    let scratch = Scratch::new();
    let sparse = index(&[descriptor(MANIFEST, b"absent")], json!({}));
    let whole = registry(&scratch);
    assert_eq!(put(&whole, "a/b", "sparse", INDEX, &sparse).status, 400);
    drop(whole);
    let registry = Serving::start(&scratch, "store:store --writable --allow-sparse");
    assert_eq!(put(&registry, "a/b", "sparse", INDEX, &sparse).status, 201);
    assert_eq!(registry.get("/v2/a/b/manifests/sparse").body, sparse);
}

#[test]
fn a_manifest_may_be_as_large_as_every_registry_must_take() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    for blob in [CONFIG, LAYER] {
        push(&registry, "a/b", blob);
    }
    let room = (4 << 20) - manifest(json!({ "annotations": { "x": "" } })).len();
    for (more, status) in [(0, 201), (1, 413)] {
        let content = manifest(json!({ "annotations": { "x": "x".repeat(room + more) } }));
        assert_eq!(content.len(), (4 << 20) + more);
        assert_eq!(put(&registry, "a/b", "large", MANIFEST, &content).status, status);
    }
}

// ── Connections ──────────────────────────────────────────────────────────────────────────────────

/// The head of a request with a body of this length, and as much of the body as is given.
fn sent(connection: &mut Connection, method: &str, path: &str, length: usize, body: &[u8]) {
    connection.send(method, path, &[("Content-Length", &length.to_string())]);
    connection.raw(body);
}

#[test]
fn a_refusal_is_heard_and_the_connection_goes_on() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    // More than fits between a client and a server that does not read.
    let body = vec![b'x'; 8 << 20];
    let mut connection = registry.connect();
    for (method, path, status) in [
        ("PUT", "/v2/a/b/manifests/.INVALID", 404),
        ("PUT", "/v2/A/manifests/1", 400),
        ("PUT", "/v2/a/b/manifests/1", 413),
        ("PATCH", "/v2/a/b/blobs/uploads/absent", 404),
        ("POST", "/v2/a/b/tags/list", 405),
    ] {
        sent(&mut connection, method, path, body.len(), &body);
        let reply = connection.reply(false);
        assert_eq!((reply.status, reply.headers.get("connection")), (status, None), "{method} {path}");
        // A client does not repeat what is no reading: it would have to be told of a connection that ends.
        connection.send("DELETE", "/v2/a/b/manifests/absent", &[]);
        assert_eq!(connection.reply(false).status, 404, "behind {method} {path}");
    }
}

#[test]
fn who_waits_for_a_word_before_sending_is_told_not_to() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let mut connection = registry.connect();
    let waiting = [("Content-Length", "1000000"), ("Expect", "100-continue")];
    connection.send("PATCH", "/v2/a/b/blobs/uploads/absent", &waiting);
    let reply = connection.reply(false);
    assert_eq!((reply.status, reply.header("connection")), (404, "close"));
    assert!(connection.try_reply(false).is_none(), "closed");
}

// ── Uploads ──────────────────────────────────────────────────────────────────────────────────────

/// Waits until an upload has come this far.
fn come(registry: &Serving, place: &str, range: &str) {
    while registry.get(place).header("range") != range {
        std::thread::yield_now();
    }
}

#[test]
fn an_upload_takes_one_request_at_a_time_and_may_be_given_up_in_the_middle_of_one() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let place = begin(&registry, "a/b");
    let mut slow = registry.connect();
    sent(&mut slow, "PATCH", &place, 10, b"01234");
    come(&registry, &place, "0-4");
    let close = format!("{place}?digest={}", digest(b"0123456789"));
    for (method, path) in [("PATCH", &place), ("PUT", &close)] {
        let reply = registry.put(method, path, &[], b"56789");
        assert_eq!((reply.status, reply.code().as_str()), (429, "TOOMANYREQUESTS"), "{method}");
        assert_eq!(reply.header("retry-after"), "1");
    }
    slow.raw(b"56789");
    let reply = slow.reply(false);
    assert_eq!((reply.status, reply.header("range")), (202, "0-9"));
    assert_eq!(registry.put("PUT", &close, &[], b"").status, 201);

    let place = begin(&registry, "a/b");
    let mut slow = registry.connect();
    sent(&mut slow, "PATCH", &place, 10, b"01234");
    come(&registry, &place, "0-4");
    assert_eq!(registry.put("DELETE", &place, &[], b"").status, 204);
    slow.raw(b"56789");
    let reply = slow.reply(false);
    assert_eq!((reply.status, reply.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
}

#[test]
fn a_client_that_goes_away_is_no_trouble_of_the_registry_s() {
    let scratch = Scratch::new();
    let mut command = scratch.command("serve store:store --writable --listen 127.0.0.1:0 --access-log log");
    command.stderr(File::create(scratch.path("stderr")).unwrap());
    let registry = Serving::of(command);
    let place = begin(&registry, "a/b");
    let mut gone = registry.connect();
    sent(&mut gone, "PATCH", &place, 10, b"01234");
    come(&registry, &place, "0-4");
    drop(gone);
    let post = format!("/v2/a/b/blobs/uploads/?digest={}", digest(b"0123456789"));
    for (method, path) in [("PUT", "/v2/a/b/manifests/1"), ("POST", &post)] {
        let mut gone = registry.connect();
        sent(&mut gone, method, path, 10, b"01234");
        drop(gone);
    }
    // One that asks for much and hears nothing of it.
    let large = push(&registry, "a/b", &vec![b'x'; 32 << 20]);
    let mut gone = registry.connect();
    gone.send("GET", &format!("/v2/a/b/blobs/{large}"), &[]);
    drop(gone);
    let lines = |log: &str, method: &str| log.matches(&format!("\"method\":\"{method}\"")).count();
    let done = |log: &str| {
        [("PATCH", 1), ("PUT", 1), ("POST", 3)].iter().all(|(method, count)| lines(log, method) == *count)
    };
    while !done(&String::from_utf8(scratch.read("log")).unwrap()) {
        std::thread::yield_now();
    }
    // What had come stays where somebody can go on from there, and nowhere else.
    for other in ["sha256:bad", &digest(b"other")] {
        let path = format!("/v2/a/b/blobs/uploads/?digest={other}");
        assert_eq!(registry.put("POST", &path, &[], b"content").status, 400, "{other}");
    }
    let uploads = scratch.path("store/docker/registry/v2/repositories/a/b/_uploads");
    let left: Vec<_> = uploads.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [place.rsplit('/').next().unwrap()]);
    assert_eq!(registry.get(&place).header("range"), "0-4");
    let close = format!("{place}?digest={}", digest(b"0123456789"));
    let reply = registry.put("PUT", &close, &[("Content-Range", "5-9")], b"56789");
    assert_eq!(reply.status, 201);
    assert_eq!(registry.ended_by("TERM"), 0);
    assert_eq!(String::from_utf8(scratch.read("stderr")).unwrap(), "");
}

#[test]
fn a_store_is_only_read_unless_writing_was_asked_for() {
    let scratch = Scratch::new();
    drop(registry(&scratch));
    let registry = Serving::start(&scratch, "store:store");
    assert_eq!(registry.put("POST", "/v2/a/b/blobs/uploads/", &[], b"").status, 405);
    scratch
        .sealift("serve store:store bundle.tar --listen 127.0.0.1:0")
        .fails(2, "Usage")
        .says("a store is served alone");
    scratch
        .sealift("serve bundle.tar --writable --listen 127.0.0.1:0")
        .fails(2, "Usage")
        .says("--to store:DIR");
}

// ── Real clients ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn sealift_and_skopeo_push_and_pull_through_it() {
    if !peer("skopeo") {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let registry = registry(&scratch);
    scratch.sealift(&format!("import bundle.tar --to docker://{} --trust trust", registry.address)).ok();
    let export = EXPORT.replace("bundle.tar", "again.tar").replace("oci:images", &registry.address);
    scratch.sealift(&export).ok();
    assert_eq!(scratch.read("again.tar"), scratch.read("bundle.tar"), "through the registry and back");
    let again = scratch
        .sealift(&format!("import bundle.tar --to docker://{} --trust trust --json", registry.address))
        .ok()
        .json();
    assert_eq!(again["sent"], 0);
    for (name, _) in NAMES {
        let copy = format!(
            "--insecure-policy copy --all --preserve-digests --src-tls-verify=false --dest-tls-verify=false docker://{0}/{name} docker://{0}/copy/{name}",
            registry.address
        );
        scratch.run("skopeo", &copy).ok();
    }
    let raw = |name: &str| {
        scratch
            .run("skopeo", &format!("inspect --raw --tls-verify=false docker://{}/{name}", registry.address))
            .ok()
            .stdout
    };
    assert_eq!(raw("copy/nexus/engine:2.1"), raw("nexus/engine:2.1"));
    scratch
        .run(
            "skopeo",
            &format!("delete --tls-verify=false docker://{}/copy/nexus/agent:2.1", registry.address),
        )
        .ok();
    assert_eq!(registry.get("/v2/copy/nexus/agent/manifests/2.1").status, 404);
    assert_eq!(registry.get("/v2/nexus/agent/manifests/2.1").status, 200);
    drop(registry);
    let checked = scratch.sealift("store check store --json").ok().json();
    assert_eq!(checked["findings"], json!([]));
}
