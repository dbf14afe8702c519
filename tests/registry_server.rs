//! The registry over a store, by the clauses of distribution-spec 1.1, and with real clients.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use serde_json::{Value, json};
use support::serving::{Reply, Serving};
use support::{EXPORT, NAMES, Scratch, peer, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn registry(scratch: &Scratch) -> Serving {
    Serving::start(scratch, "store:store --writable")
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", sha256(content))
}

/// Where an upload goes on.
fn begin(registry: &Serving) -> String {
    let reply = registry.put("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    assert_eq!((reply.status, reply.header("range")), (202, "0-0"));
    reply.header("location").to_owned()
}

fn push(registry: &Serving, name: &str, content: &[u8]) -> String {
    let reply =
        registry.put("POST", &format!("/v2/{name}/blobs/uploads/?digest={}", digest(content)), &[], content);
    assert_eq!(reply.status, 201, "{reply:?}");
    digest(content)
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// A manifest whose config and layer are pushed with it.
fn manifest(registry: &Serving, name: &str, more: Value) -> Vec<u8> {
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    push(registry, name, config);
    push(registry, name, layer);
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", config),
        "layers": [descriptor("application/octet-stream", layer)],
    });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest.to_string().into_bytes()
}

fn put(registry: &Serving, name: &str, reference: &str, media_type: &str, content: &[u8]) -> Reply {
    registry.put(
        "PUT",
        &format!("/v2/{name}/manifests/{reference}"),
        &[("Content-Type", media_type)],
        content,
    )
}

// ── Pushing blobs ────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_blob_arrives_in_every_way_the_specification_knows() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let content = b"0123456789".repeat(500);
    let there = |content: &[u8]| {
        let reply = registry.get(&format!("/v2/a/b/blobs/{}", digest(content)));
        assert_eq!((reply.status, reply.body.as_slice()), (200, content));
    };
    // "Pushing a blob monolithically": a single POST; POST then PUT; of nothing at all.
    push(&registry, "a/b", b"single");
    there(b"single");
    for content in [content.as_slice(), b""] {
        let place = begin(&registry);
        let reply = registry.put("PUT", &format!("{place}?digest={}", digest(content)), &[], content);
        assert_eq!(
            (reply.status, reply.header("location")),
            (201, format!("/v2/a/b/blobs/{}", digest(content)).as_str())
        );
        there(content);
    }
    // Streamed: a PATCH without a range, then an empty PUT.
    let streamed = [b"streamed".as_slice(), &content].concat();
    let place = begin(&registry);
    let reply = registry.put("PATCH", &place, &[], &streamed);
    assert_eq!((reply.status, reply.header("range")), (202, format!("0-{}", streamed.len() - 1).as_str()));
    let place = reply.header("location").to_owned();
    assert_eq!(registry.put("PUT", &format!("{place}?digest={}", digest(&streamed)), &[], b"").status, 201);
    there(&streamed);
    // "Pushing a blob in chunks": in order; the last one rides on the PUT.
    let chunked = [b"chunked!".as_slice(), &content].concat();
    let mut place = begin(&registry);
    for (from, to) in [(0, 1999), (2000, 3999)] {
        let range = format!("{from}-{to}");
        let reply = registry.put("PATCH", &place, &[("Content-Range", &range)], &chunked[from..=to]);
        assert_eq!((reply.status, reply.header("range")), (202, format!("0-{to}").as_str()));
        place = reply.header("location").to_owned();
    }
    let last = format!("4000-{}", chunked.len() - 1);
    let reply = registry.put(
        "PUT",
        &format!("{place}?digest={}", digest(&chunked)),
        &[("Content-Range", &last)],
        &chunked[4000..],
    );
    assert_eq!(reply.status, 201);
    there(&chunked);
}

#[test]
fn a_chunk_out_of_order_is_refused_and_the_upload_goes_on() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let content = b"abcdefghij";
    let place = begin(&registry);
    let reply = registry.put("PATCH", &place, &[("Content-Range", "5-9")], &content[5..]);
    assert_eq!((reply.status, reply.header("range")), (416, "0-0"));
    assert_eq!(registry.put("PATCH", &place, &[("Content-Range", "0-4")], &content[..5]).status, 202);
    for wrong in ["0-4", "6-9", "5-8", "x", "9-5"] {
        assert_eq!(
            registry.put("PATCH", &place, &[("Content-Range", wrong)], &content[5..]).status,
            416,
            "{wrong}"
        );
    }
    let finish = format!("{place}?digest={}", digest(content));
    assert_eq!(registry.put("PUT", &finish, &[("Content-Range", "7-9")], &content[7..]).status, 416);
    let status = registry.get(&place);
    assert_eq!(
        (status.status, status.header("range"), status.header("location")),
        (204, "0-4", place.as_str())
    );
    assert_eq!(registry.put("PUT", &finish, &[("Content-Range", "5-9")], &content[5..]).status, 201);
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{}", digest(content))).body, content);
    assert_eq!(registry.get(&place).status, 404, "the upload is over");
}

#[test]
fn a_blob_that_is_not_what_it_should_be_is_not_kept() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let absent = digest(b"other");
    let place = begin(&registry);
    let reply = registry.put("PUT", &format!("{place}?digest={absent}"), &[], b"content");
    assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
    let reply = registry.put("POST", &format!("/v2/a/b/blobs/uploads/?digest={absent}"), &[], b"content");
    assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
    for bad in ["", "?digest=", "?digest=sha256:bad", "?digest=md5:00"] {
        assert_eq!(
            registry.put("PUT", &format!("{}{bad}", begin(&registry)), &[], b"content").status,
            400,
            "{bad}"
        );
    }
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{absent}")).status, 404);
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{}", digest(b"content"))).status, 404);
    assert_eq!(registry.put("DELETE", &begin(&registry), &[], b"").status, 204);
    assert_eq!(registry.put("PATCH", "/v2/a/b/blobs/uploads/not-there", &[], b"x").status, 404);
}

#[test]
fn a_blob_that_is_here_is_mounted() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let digest = push(&registry, "a/b", b"content");
    for query in [format!("mount={digest}&from=a/b"), format!("mount={digest}")] {
        let name = format!("c/{}", query.len());
        let reply = registry.put("POST", &format!("/v2/{name}/blobs/uploads/?{query}"), &[], b"");
        assert_eq!(
            (reply.status, reply.header("location")),
            (201, format!("/v2/{name}/blobs/{digest}").as_str())
        );
        assert_eq!(registry.get(&format!("/v2/{name}/blobs/{digest}")).body, b"content");
    }
    // What is not there is uploaded (202), and a repository has only what it was given.
    for query in [format!("mount={digest}&from=a/other"), format!("mount=sha256:{}", "0".repeat(64))] {
        let reply = registry.put("POST", &format!("/v2/d/e/blobs/uploads/?{query}"), &[], b"");
        assert_eq!(reply.status, 202, "{query}");
    }
    assert_eq!(registry.get(&format!("/v2/d/e/blobs/{digest}")).status, 404);
}

// ── Pushing manifests ────────────────────────────────────────────────────────────────────────────

#[test]
fn a_manifest_is_kept_byte_for_byte() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let content = manifest(
        &registry,
        "a/b",
        json!({ "artifactType": "x/y", "annotations": { "ä": "ö\u{7}" }, "x-unknown": [1, {}] }),
    );
    let odd = [b"\n  ".as_slice(), &content, b" \n"].concat();
    for (reference, content) in [("1.0", &content), (&digest(&odd), &odd)] {
        let reply = put(&registry, "a/b", reference, MANIFEST, content);
        assert_eq!((reply.status, reply.header("docker-content-digest")), (201, digest(content).as_str()));
        for path in [reply.header("location").to_owned(), format!("/v2/a/b/manifests/{}", digest(content))] {
            let got = registry.get(&path);
            assert_eq!((got.status, got.header("content-type"), &got.body), (200, MANIFEST, content));
            let head = registry.ask("HEAD", &path, &[]);
            assert_eq!(head.header("content-length"), content.len().to_string());
            assert_eq!(head.header("docker-content-digest"), digest(content));
        }
    }
}

#[test]
fn a_manifest_that_cannot_be_right_is_refused() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let good = manifest(&registry, "a/b", json!({}));
    let lacking = String::from_utf8(good.clone()).unwrap().replace(&digest(b"layer"), &digest(b"absent"));
    let index =
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, b"absent")] })
            .to_string();
    let large = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": { "x": "x".repeat(4 << 20) } }).to_string();
    for (reference, content, status, code) in [
        ("1", b"{}".to_vec(), 400, "MANIFEST_INVALID"),
        ("1", b"not json".to_vec(), 400, "MANIFEST_INVALID"),
        ("1", lacking.into_bytes(), 400, "MANIFEST_BLOB_UNKNOWN"),
        ("1", index.clone().into_bytes(), 400, "MANIFEST_BLOB_UNKNOWN"),
        ("1", large.into_bytes(), 413, "SIZE_INVALID"),
        (&digest(b"other"), good.clone(), 400, "DIGEST_INVALID"),
        ("sha256:bad", good.clone(), 400, "DIGEST_INVALID"),
    ] {
        let reply = put(&registry, "a/b", reference, MANIFEST, &content);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{reference}");
    }
    assert_eq!(registry.get("/v2/a/b/manifests/1").status, 404);
    drop(registry);
    // Parts of images are welcome where that was said.
    let registry = Serving::start(&scratch, "store:store --writable --allow-sparse");
    assert_eq!(put(&registry, "a/b", "sparse", INDEX, index.as_bytes()).status, 201);
    // A manifest as large as every registry must take.
    let most = (4 << 20) - good.len() - r#","annotations":{"x":""}"#.len();
    let mut large = serde_json::from_slice::<Value>(&good).unwrap();
    large["annotations"] = json!({ "x": "x".repeat(most) });
    assert_eq!(large.to_string().len(), 4 << 20);
    assert_eq!(put(&registry, "a/b", "large", MANIFEST, large.to_string().as_bytes()).status, 201);
}

#[test]
fn what_refers_to_a_manifest_is_found_from_it() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let subject = manifest(&registry, "a/b", json!({}));
    // A subject may come later (distribution-spec, "Pushing Manifests with Subject").
    let refers = |kind: &str| {
        let more = json!({ "artifactType": kind, "subject": descriptor(MANIFEST, &subject), "annotations": { "k": kind } });
        let content = manifest(&registry, "a/b", more);
        let reply = put(&registry, "a/b", &digest(&content), MANIFEST, &content);
        assert_eq!((reply.status, reply.header("oci-subject")), (201, digest(&subject).as_str()));
        content
    };
    let (one, other) = (refers("sbom/one"), refers("sig/other"));
    let path = format!("/v2/a/b/referrers/{}", digest(&subject));
    let all = registry.get(&path);
    assert_eq!((all.status, all.header("content-type")), (200, INDEX));
    let found = all.json()["manifests"].as_array().unwrap().clone();
    assert_eq!(found.len(), 2);
    for (content, kind) in [(&one, "sbom/one"), (&other, "sig/other")] {
        let expected = json!({ "mediaType": MANIFEST, "digest": digest(content), "size": content.len(), "artifactType": kind, "annotations": { "k": kind } });
        assert!(found.contains(&expected), "{found:?}");
    }
    let filtered = registry.get(&format!("{path}?artifactType=sbom%2Fone"));
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);
    // What is deleted refers to nothing.
    assert_eq!(registry.put("DELETE", &format!("/v2/a/b/manifests/{}", digest(&one)), &[], b"").status, 202);
    assert_eq!(registry.get(&path).json()["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_removed_is_gone_and_nothing_else() {
    let scratch = Scratch::new();
    let registry = registry(&scratch);
    let content = manifest(&registry, "a/b", json!({}));
    for tag in ["one", "two"] {
        assert_eq!(put(&registry, "a/b", tag, MANIFEST, &content).status, 201);
    }
    let delete = |path: &str| registry.put("DELETE", path, &[], b"").status;
    assert_eq!(delete("/v2/a/b/manifests/one"), 202);
    assert_eq!(delete("/v2/a/b/manifests/one"), 404);
    assert_eq!(registry.get("/v2/a/b/tags/list").json()["tags"], json!(["two"]));
    assert_eq!(registry.get(&format!("/v2/a/b/manifests/{}", digest(&content))).status, 200);
    assert_eq!(delete(&format!("/v2/a/b/manifests/{}", digest(&content))), 202);
    assert_eq!(registry.get("/v2/a/b/manifests/two").status, 404);
    assert_eq!(registry.get(&format!("/v2/a/b/manifests/{}", digest(&content))).status, 404);
    let layer = format!("/v2/a/b/blobs/{}", digest(b"layer"));
    assert_eq!(registry.get(&layer).status, 200);
    assert_eq!(delete(&layer), 202);
    assert_eq!((registry.get(&layer).status, delete(&layer)), (404, 404));
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
