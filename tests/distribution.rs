//! The distribution API by the clauses of distribution-spec 1.1, one row a requirement. What is for pulling holds of
//! a bundle that is served and of a store alike. The official suite asks for most of it, too (tests/conformance.rs);
//! this one needs nothing but sealift, and goes on to what came into the suite later.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use serde_json::{Value, json};
use support::Scratch;
use support::parts::Parts;
use support::pushing::{CONFIG, INDEX, LAYER, MANIFEST, descriptor, digest, index, manifest, push};
use support::serving::{Connection, Reply, Serving};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const NOWHERE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

// ── Rows ─────────────────────────────────────────────────────────────────────────────────────────

/// A requirement: a section of the specification, its endpoint, a request, and what the answer must be.
struct Row {
    clause: &'static str,
    end: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    sends: Vec<u8>,
    status: u16,
    wants: Vec<Want>,
}

enum Want {
    Header(&'static str, String),
    Without(&'static str),
    Body(Vec<u8>),
    /// A place in the JSON body, and what stands there.
    Json(&'static str, Value),
    /// The code of the first error.
    Code(&'static str),
}

/// In a path, `@` is where the last answer with a `Location` led.
fn row(
    clause: &'static str,
    end: &'static str,
    method: &'static str,
    path: impl Into<String>,
    status: u16,
) -> Row {
    let (headers, sends, wants) = (Vec::new(), Vec::new(), Vec::new());
    Row { clause, end, method, path: path.into(), headers, sends, status, wants }
}

impl Row {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn sends(mut self, body: &[u8]) -> Self {
        self.sends = body.to_vec();
        self
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.wants.push(Want::Header(name, value.into()));
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.wants.push(Want::Without(name));
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.wants.push(Want::Body(body.to_vec()));
        self.header("content-length", body.len().to_string())
    }

    fn json(mut self, pointer: &'static str, value: Value) -> Self {
        self.wants.push(Want::Json(pointer, value));
        self
    }

    fn code(mut self, code: &'static str) -> Self {
        self.wants.push(Want::Code(code));
        self
    }

    /// What is wrong with an answer.
    fn judge(&self, reply: &Reply) -> Vec<String> {
        let mut wrong = Vec::new();
        if reply.status != self.status {
            wrong.push(format!("status {}, not {}", reply.status, self.status));
        }
        wrong.extend(self.wants.iter().filter_map(|want| want.judge(reply)));
        wrong
    }
}

impl Want {
    fn judge(&self, reply: &Reply) -> Option<String> {
        let json = || serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
        match self {
            Want::Header(name, value) => {
                let got = reply.headers.get(*name);
                (got != Some(value)).then(|| format!("{name}: {got:?}, not {value:?}"))
            }
            Want::Without(name) => reply.headers.get(*name).map(|got| format!("{name}: {got:?}")),
            Want::Body(body) => {
                (!reply.whole || reply.body != *body).then(|| format!("a body of {} bytes", reply.body.len()))
            }
            Want::Json(pointer, value) => {
                let got = json().pointer(pointer).cloned().unwrap_or_default();
                (got != *value).then(|| format!("{pointer}: {got}, not {value}"))
            }
            Want::Code(code) => {
                let got = json().pointer("/errors/0/code").cloned().unwrap_or_default();
                (got != *code).then(|| format!("code {got}, not {code}"))
            }
        }
    }
}

/// Asks one request after the other, as clients do: through one connection. What came behind an answer to HEAD
/// would stand in the next one's place.
struct Asking<'a> {
    registry: &'a Serving,
    connection: Connection,
    location: String,
}

impl Asking<'_> {
    fn ask(&mut self, row: &Row) -> Option<Reply> {
        let path = row.path.replacen('@', &self.location, 1);
        let length = row.sends.len().to_string();
        let mut headers: Vec<_> = row.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if !["GET", "HEAD"].contains(&row.method) {
            headers.push(("Content-Length", &length));
        }
        self.connection.send(row.method, &path, &headers);
        self.connection.raw(&row.sends);
        let reply = self.connection.try_reply(row.method == "HEAD")?;
        if let Some(location) = reply.headers.get("location") {
            self.location.clone_from(location);
        }
        if reply.headers.get("connection").is_some_and(|value| value == "close") {
            self.connection = self.registry.connect();
        }
        Some(reply)
    }
}

/// Requires that all rows hold, and says how many there were.
#[track_caller]
fn hold(group: &str, registry: &Serving, rows: &[Row]) {
    let mut asking = Asking { registry, connection: registry.connect(), location: String::new() };
    let mut wrong = Vec::new();
    for row in rows {
        let found = match asking.ask(row) {
            Some(reply) => row.judge(&reply),
            None => {
                asking.connection = registry.connect();
                vec!["no answer: the connection ended".to_owned()]
            }
        };
        let Row { clause, end, method, path, .. } = row;
        wrong.extend(found.iter().map(|what| format!("\"{clause}\" ({end}): {method} {path}: {what}")));
    }
    eprintln!("{group}: {} rows, {} complaints", rows.len(), wrong.len());
    assert!(wrong.is_empty(), "{group}\n{}", wrong.join("\n"));
}

// ── Pulling, from a bundle and from a store ──────────────────────────────────────────────────────

/// What there is to be pulled: the first image of a bundle.
struct Content {
    name: String,
    tags: Vec<String>,
    index: Vec<u8>,
    manifest: Vec<u8>,
    layer: Vec<u8>,
}

impl Content {
    fn of(bundle: &[u8]) -> Self {
        let parts = Parts::read(bundle);
        let images = parts.statement()["images"].as_array().unwrap().clone();
        let name = |image: &Value| {
            let source = image["source"].as_str().unwrap().trim_start_matches("registry.example.com/");
            source.split_once(':').unwrap().0.to_owned()
        };
        let own = name(&images[0]);
        let mut tags: Vec<String> = images
            .iter()
            .filter(|image| name(image) == own)
            .flat_map(|image| image["tags"].as_array().unwrap())
            .map(|tag| tag.as_str().unwrap().to_owned())
            .collect();
        tags.sort();
        let [index, manifest, _, layer] = parts.first_image().map(|entry| entry.content.clone());
        Content { name: own, tags, index, manifest, layer }
    }

    /// A tag of the first image.
    fn tag(bundle: &[u8]) -> String {
        Parts::read(bundle).statement()["images"][0]["tags"][0].as_str().unwrap().to_owned()
    }
}

fn pulling(content: &Content, tag: &str) -> Vec<Row> {
    let Content { name, index, manifest, layer, .. } = content;
    let manifests = format!("/v2/{name}/manifests");
    let blobs = format!("/v2/{name}/blobs");
    let (top, child, blob) = (digest(index), digest(manifest), digest(layer));
    let mut rows = vec![row("Determining Support", "end-1", "GET", "/v2/", 200)];

    const MANIFESTS: &str = "Pulling manifests";
    for (reference, media_type, body) in
        [(tag, INDEX, index), (top.as_str(), INDEX, index), (child.as_str(), MANIFEST, manifest)]
    {
        let whole = |method| {
            row(MANIFESTS, "end-3", method, format!("{manifests}/{reference}"), 200)
                .header("content-type", media_type)
                .header("content-length", body.len().to_string())
                .header("docker-content-digest", digest(body))
        };
        rows.push(whole("GET").body(body));
        rows.push(whole("HEAD"));
        // content-negotiation.md: whatever a client would rather have, it gets what was pushed.
        rows.push(whole("GET").with("Accept", "application/vnd.example+json").body(body));
    }
    for (reference, status, code) in [
        ("absent", 404, "MANIFEST_UNKNOWN"),
        (NOWHERE, 404, "MANIFEST_UNKNOWN"),
        (".INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
        ("sha256:baddigeststring", 400, "DIGEST_INVALID"),
    ] {
        let path = format!("{manifests}/{reference}");
        rows.push(row(MANIFESTS, "end-3", "GET", &path, status).code(code));
        rows.push(row("Checking if content exists", "end-3", "HEAD", &path, status));
    }
    rows.push(row(MANIFESTS, "end-3", "GET", format!("/v2/absent/manifests/{tag}"), 404));

    const BLOBS: &str = "Pulling blobs";
    let path = format!("{blobs}/{blob}");
    rows.push(
        row(BLOBS, "end-2", "GET", &path, 200).body(layer).header("docker-content-digest", blob.as_str()),
    );
    rows.push(
        row("Checking if content exists", "end-2", "HEAD", &path, 200)
            .header("content-length", layer.len().to_string())
            .header("docker-content-digest", blob.as_str()),
    );
    // Content is known by its SHA-256 here, and by nothing else.
    let sha512 = format!("{blobs}/sha512:{}", "0".repeat(128));
    rows.push(row("Digests", "end-2", "GET", sha512, 400).code("DIGEST_INVALID"));
    rows.push(row(BLOBS, "end-2", "GET", format!("{blobs}/{NOWHERE}"), 404).code("BLOB_UNKNOWN"));
    rows.push(row("Checking if content exists", "end-2", "HEAD", format!("{blobs}/{NOWHERE}"), 404));
    rows.push(row(BLOBS, "end-2", "GET", format!("/v2/absent/blobs/{blob}"), 404).code("BLOB_UNKNOWN"));
    rows.extend(ranges(&path, layer));
    rows
}

/// "A registry SHOULD support the `Range` request header in accordance with RFC 9110."
fn ranges(path: &str, layer: &[u8]) -> Vec<Row> {
    const CLAUSE: &str = "Pulling blobs, RFC 9110";
    let size = layer.len();
    let last = size - 1;
    let asked =
        |range: String| row(CLAUSE, "end-2", "GET", path, 206).with("Range", format!("bytes={range}"));
    let part = |range: String, from: usize, to: usize| {
        asked(range).body(&layer[from..=to]).header("content-range", format!("bytes {from}-{to}/{size}"))
    };
    let mut rows = vec![
        part("500-1499".into(), 500, 1499),
        part("500-".into(), 500, last),
        part("-500".into(), size - 500, last),
        part(format!("{}-{}", size - 48, size + 3000), size - 48, last),
        part("0-0".into(), 0, 0),
        row(CLAUSE, "end-2", "HEAD", path, 200)
            .with("Range", "bytes=0-0")
            .header("content-length", size.to_string()),
    ];
    for range in ["500-0".to_owned(), format!("{}-{}", size + 3000, size + 8000)] {
        let outside = Row { status: 416, ..asked(range) };
        rows.push(outside.header("content-range", format!("bytes */{size}")));
    }
    rows
}

fn listing(content: &Content) -> Vec<Row> {
    let Content { name, tags, index, .. } = content;
    const TAGS: &str = "Listing Tags";
    let path = format!("/v2/{name}/tags/list");
    let link = |last: &str| format!("</v2/{name}/tags/list?n=2&last={last}>; rel=\"next\"");
    let some = |tags: &[String]| json!(tags);
    let mut rows = vec![
        row(TAGS, "end-8a", "GET", &path, 200).json("/name", json!(name)).json("/tags", some(tags)),
        row(TAGS, "end-8b", "GET", format!("{path}?n=0"), 200).json("/tags", json!([])).without("link"),
        row(TAGS, "end-8b", "GET", format!("{path}?n=2"), 200)
            .json("/tags", some(&tags[..2]))
            .header("link", link(&tags[1])),
        row(TAGS, "end-8b", "GET", format!("{path}?n=2&last={}", tags[1]), 200)
            .json("/tags", some(&tags[2..4]))
            .header("link", link(&tags[3])),
        row(TAGS, "end-8b", "GET", format!("{path}?last={}", tags[2]), 200)
            .json("/tags", some(&tags[3..]))
            .without("link"),
        row(TAGS, "end-8b", "GET", format!("{path}?n=9&last=zzz"), 200).json("/tags", json!([])),
        row(TAGS, "end-8b", "GET", format!("{path}?n={}", tags.len()), 200).without("link"),
        row(TAGS, "end-8b", "GET", format!("{path}?n=many"), 400),
        row(TAGS, "end-8a", "GET", "/v2/absent/tags/list", 404).code("NAME_UNKNOWN"),
    ];
    const REFERRERS: &str = "Listing Referrers";
    for subject in [NOWHERE, &digest(index)] {
        let path = format!("/v2/{name}/referrers/{subject}");
        let empty = |path: &str, end| {
            row(REFERRERS, end, "GET", path, 200)
                .header("content-type", INDEX)
                .json("", json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }))
        };
        rows.push(empty(&path, "end-12a"));
        rows.push(
            empty(&format!("{path}?artifactType=x%2Fy"), "end-12b")
                .header("oci-filters-applied", "artifactType"),
        );
    }
    let bad = format!("/v2/{name}/referrers/sha256:baddigeststring");
    rows.push(row(REFERRERS, "end-12a", "GET", bad, 400).code("DIGEST_INVALID"));
    rows
}

/// "Registries MAY implement deletion or they MAY disable it": then "either a 400 or a 405".
fn refusing(content: &Content) -> Vec<Row> {
    let Content { name, layer, manifest, tags, .. } = content;
    let uploads = format!("/v2/{name}/blobs/uploads/");
    let manifests = format!("/v2/{name}/manifests");
    [
        ("Deleting tags", "end-9", "DELETE", format!("{manifests}/{}", tags[0])),
        ("Deleting Manifests", "end-9", "DELETE", format!("{manifests}/{}", digest(manifest))),
        ("Deleting Blobs", "end-10", "DELETE", format!("/v2/{name}/blobs/{}", digest(layer))),
        ("Pushing a blob monolithically", "end-4a", "POST", uploads.clone()),
        ("Pushing a blob monolithically", "end-4b", "POST", format!("{uploads}?digest={}", digest(layer))),
        ("Pushing a blob in chunks", "end-5", "PATCH", format!("{uploads}x")),
        ("Pushing Manifests", "end-7", "PUT", format!("{manifests}/new")),
    ]
    .into_iter()
    .map(|(clause, end, method, path)| {
        row(clause, end, method, path, 405).sends(layer).code("UNSUPPORTED").header("allow", "GET, HEAD")
    })
    .collect()
}

#[test]
fn what_a_bundle_holds_is_given_out_by_the_specification() {
    let scratch = Scratch::with_release().exported();
    let bundle = scratch.read("bundle.tar");
    let (content, tag) = (Content::of(&bundle), Content::tag(&bundle));
    for way in ["bundle.tar --trust trust", "bundle.tar --trust trust --head-first"] {
        let registry = Serving::start(&scratch, way);
        hold(&format!("pull ({way})"), &registry, &pulling(&content, &tag));
        hold(&format!("content discovery ({way})"), &registry, &listing(&content));
        hold(&format!("content management, disabled ({way})"), &registry, &refusing(&content));
    }
    scratch.sealift("import bundle.tar --to store:store --trust trust").ok();
    let registry = Serving::start(&scratch, "store:store --writable");
    hold("pull (store)", &registry, &pulling(&content, &tag));
    hold("content discovery (store)", &registry, &listing(&content));
}

// ── Pushing ──────────────────────────────────────────────────────────────────────────────────────

const NAME: &str = "a/b";

fn uploads(query: &str) -> String {
    format!("/v2/{NAME}/blobs/uploads/{query}")
}

/// An upload begins.
fn begun() -> Row {
    row("POST then PUT", "end-4a", "POST", uploads(""), 202).header("range", "0-0")
}

/// A blob arrived, and where the registry says that it is, it is.
fn arrived(last: Row, content: &[u8]) -> [Row; 3] {
    let (place, end, clause) = (format!("/v2/{NAME}/blobs/{}", digest(content)), last.end, last.clause);
    let last = Row { status: 201, ..last };
    [
        last.header("location", place).header("docker-content-digest", digest(content)),
        row(clause, end, "GET", "@", 200).body(content),
        row(clause, end, "HEAD", "@", 200).header("content-length", content.len().to_string()),
    ]
}

fn closing(content: &[u8]) -> Row {
    row("POST then PUT", "end-6", "PUT", format!("@?digest={}", digest(content)), 201)
}

fn chunk(method: &'static str, path: &str, content: &[u8], from: usize, to: usize) -> Row {
    row("Pushing a blob in chunks", "end-5", method, path, 202)
        .with("Content-Range", format!("{from}-{to}"))
        .sends(&content[from..=to])
}

/// Every way in which a blob can arrive. Each row's content is its own: nothing is there before.
fn blobs() -> Vec<Row> {
    let single = |content: &[u8]| {
        row("Single POST", "end-4b", "POST", uploads(&format!("?digest={}", digest(content))), 201)
            .sends(content)
    };
    let mut rows = Vec::new();
    for content in [b"in a single request".as_slice(), b"", b"{}"] {
        rows.extend(arrived(single(content), content));
        rows.push(begun());
        rows.extend(arrived(closing(content).sends(content), content));
    }
    let streamed = b"streamed".repeat(200);
    rows.push(begun());
    rows.push(
        row("Pushing a blob in chunks", "end-5", "PATCH", "@", 202)
            .sends(&streamed)
            .header("range", format!("0-{}", streamed.len() - 1)),
    );
    rows.extend(arrived(closing(&streamed), &streamed));
    // In one chunk, in three, and with the last one on the PUT.
    for (seed, bounds, last) in [
        ("one", vec![(0, 1999)], None),
        ("three", vec![(0, 1023), (1024, 1100), (1101, 1999)], None),
        ("put", vec![(0, 1023), (1024, 1100)], Some((1101, 1999))),
    ] {
        let content: Vec<u8> = seed.bytes().cycle().take(2000).collect();
        rows.push(begun());
        for (from, to) in bounds {
            rows.push(chunk("PATCH", "@", &content, from, to).header("range", format!("0-{to}")));
        }
        let close = closing(&content);
        rows.extend(match last {
            None => arrived(close, &content),
            Some((from, to)) => {
                let path = close.path.clone();
                arrived(chunk("PUT", &path, &content, from, to), &content)
            }
        });
    }
    rows
}

/// "If a chunk is uploaded out of order, the registry MUST respond with a 416 …. A GET request may be used to
/// retrieve the current valid offset and upload location."
fn out_of_order() -> Vec<Row> {
    let content = b"0123456789".repeat(300);
    let close = format!("@?digest={}", digest(&content));
    let status = |range: &str| {
        row("Pushing a blob in chunks", "end-13", "GET", "@", 204).header("range", range.to_owned())
    };
    let wrong = |row: Row| Row { status: 416, ..row }.code("BLOB_UPLOAD_INVALID");
    let mut rows = vec![
        begun(),
        wrong(chunk("PATCH", "@", &content, 1000, 1999)),
        status("0-0"),
        chunk("PATCH", "@", &content, 0, 999).header("range", "0-999"),
        wrong(chunk("PATCH", "@", &content, 0, 999)).header("range", "0-999"),
        status("0-999"),
        wrong(chunk("PATCH", "@", &content, 2000, 2999)),
        status("0-999"),
        chunk("PATCH", "@", &content, 1000, 1999).header("range", "0-1999"),
        wrong(chunk("PUT", &close, &content, 0, 999)),
        status("0-1999"),
    ];
    // `^[0-9]+-[0-9]+$`, and as long as the body.
    for range in ["x", "2000", "2000-2998", "2999-2000", "2001-2999"] {
        let row = row("Pushing a blob in chunks", "end-5", "PATCH", "@", 416);
        rows.push(row.with("Content-Range", range).sends(&content[2000..]).header("range", "0-1999"));
    }
    rows.extend(arrived(chunk("PUT", &close, &content, 2000, 2999), &content));
    rows
}

/// Content that is not what it should be: in every way in which it can arrive.
fn bad_digests() -> Vec<Row> {
    let (content, absent) = (b"oh no".repeat(300), digest(b"something else"));
    let close = format!("@?digest={absent}");
    let invalid = |row: Row| Row { status: 400, ..row }.code("DIGEST_INVALID");
    let put = |path: &str| row("POST then PUT", "end-6", "PUT", path, 400);
    let mut rows = vec![
        row("Single POST", "end-4b", "POST", uploads(&format!("?digest={absent}")), 400)
            .sends(&content)
            .code("DIGEST_INVALID"),
        begun(),
        put(&close).sends(&content).code("DIGEST_INVALID"),
        begun(),
        chunk("PATCH", "@", &content, 0, 1499),
        put(&close).code("DIGEST_INVALID"),
        begun(),
        chunk("PATCH", "@", &content, 0, 999),
        invalid(chunk("PUT", &close, &content, 1000, 1499)),
        begun(),
        row("Pushing a blob in chunks", "end-5", "PATCH", "@", 202).sends(&content),
        put(&close).code("DIGEST_INVALID"),
    ];
    for bad in ["", "?digest=", "?digest=sha256:bad", "?digest=md5:00"] {
        rows.push(begun());
        rows.push(put(&format!("@{bad}")).sends(&content).code("DIGEST_INVALID"));
    }
    let sha512 = format!("sha512:{}", "0".repeat(128));
    rows.push(begun());
    rows.push(put(&format!("@?digest={sha512}")).sends(&content).code("DIGEST_INVALID"));
    for there in [absent, digest(&content)] {
        rows.push(row("Pulling blobs", "end-2", "GET", format!("/v2/{NAME}/blobs/{there}"), 404));
    }
    rows
}

fn given_up() -> Vec<Row> {
    const CLAUSE: &str = "Endpoints";
    let mut rows = vec![begun(), row(CLAUSE, "cancel", "DELETE", "@", 204)];
    rows.push(row(CLAUSE, "end-13", "GET", "@", 404).code("BLOB_UPLOAD_UNKNOWN"));
    for (method, end, path) in [
        ("PATCH", "end-5", "@"),
        ("PUT", "end-6", &format!("@?digest={}", digest(b"x"))),
        ("DELETE", "cancel", "@"),
        ("PATCH", "end-5", &uploads("not-there")),
    ] {
        rows.push(row(CLAUSE, end, method, path, 404).sends(b"x").code("BLOB_UPLOAD_UNKNOWN"));
    }
    rows.push(row(CLAUSE, "end-4a", "POST", "/v2/A/blobs/uploads/", 400).code("NAME_INVALID"));
    rows
}

fn mounts() -> Vec<Row> {
    const CLAUSE: &str = "Mounting a blob from another repository";
    let content = b"to be mounted".as_slice();
    let there = digest(content);
    let mount = |name: &str, query: String, status| {
        row(CLAUSE, "end-11", "POST", format!("/v2/{name}/blobs/uploads/?mount={query}"), status)
    };
    let mut rows =
        vec![row("Single POST", "end-4b", "POST", uploads(&format!("?digest={there}")), 201).sends(content)];
    for (name, query) in [("c/d", format!("{there}&from={NAME}")), ("e/f", there.clone())] {
        let place = format!("/v2/{name}/blobs/{there}");
        rows.push(mount(name, query, 201).header("location", place));
        rows.push(row(CLAUSE, "end-2", "GET", "@", 200).body(content));
    }
    // "… or is unable to mount the requested blob, it SHOULD return a 202": the upload goes on from there.
    let close = format!("@?digest={there}");
    for query in [format!("{there}&from=a/absent"), format!("{NOWHERE}&from={NAME}"), NOWHERE.to_owned()] {
        rows.push(mount("g/h", query, 202).header("range", "0-0"));
    }
    rows.push(row(CLAUSE, "end-2", "GET", format!("/v2/g/h/blobs/{there}"), 404));
    rows.push(row(CLAUSE, "end-6", "PUT", close, 201).sends(content));
    rows.push(row(CLAUSE, "end-2", "GET", format!("/v2/g/h/blobs/{there}"), 200).body(content));
    rows.push(mount("g/h", "sha256:bad".into(), 400).code("DIGEST_INVALID"));
    rows
}

/// Documents of every kind that the suite pushes: what they are, and their media types.
fn documents() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let image = manifest(json!({}));
    let child = descriptor(MANIFEST, &image);
    let platform = |architecture: &str| {
        let mut child = child.clone();
        child["platform"] = json!({ "os": "linux", "architecture": architecture });
        child
    };
    let multi = index(&[platform("amd64"), platform("arm64")], json!({}));
    let nested = index(&[descriptor(INDEX, &multi), descriptor(INDEX, &multi)], json!({}));
    let (config, layer) =
        (descriptor("application/vnd.oci.empty.v1+json", CONFIG), b"never pushed".as_slice());
    let mut embedded = config.clone();
    embedded["data"] = json!("e30=");
    let mut elsewhere =
        descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", b"elsewhere");
    elsewhere["urls"] = json!(["https://store.example.com/blobs/x"]);
    let about = descriptor(MANIFEST, layer);
    let docker = manifest(json!({ "mediaType": DOCKER_MANIFEST }));
    let large: serde_json::Map<_, _> =
        (0..390).map(|number| (format!("large-{number}"), json!("A".repeat(10_000)))).collect();
    let mut untyped: Value = serde_json::from_slice(&image).unwrap();
    untyped.as_object_mut().unwrap().remove("mediaType");
    let mut bare: Value = serde_json::from_slice(&multi).unwrap();
    bare.as_object_mut().unwrap().remove("mediaType");
    vec![
        ("image", MANIFEST, image.clone()),
        ("index", INDEX, multi),
        ("index of indexes", INDEX, nested),
        ("empty index", INDEX, index(&[], json!({}))),
        ("artifact", MANIFEST, manifest(json!({ "artifactType": "x/y" }))),
        ("artifact without layers", MANIFEST, manifest(json!({ "artifactType": "x/y", "layers": [config] }))),
        ("index of artifacts", INDEX, index(std::slice::from_ref(&child), json!({ "artifactType": "x/y" }))),
        ("about what is not there", MANIFEST, manifest(json!({ "artifactType": "x/y", "subject": about }))),
        ("index about something", INDEX, index(&[child], json!({ "artifactType": "x/y", "subject": about }))),
        ("embedded data", MANIFEST, manifest(json!({ "config": embedded }))),
        ("layers that lie elsewhere", MANIFEST, manifest(json!({ "layers": [elsewhere] }))),
        ("unknown fields", MANIFEST, manifest(json!({ "org.example": { "x": [1, null, "ä\u{7}"] } }))),
        ("no layers", MANIFEST, manifest(json!({ "layers": [] }))),
        ("spaces around it", MANIFEST, [b"\n \t".as_slice(), &image, b" \r\n"].concat()),
        ("3.9 MB", MANIFEST, manifest(json!({ "annotations": large }))),
        ("no media type of its own", MANIFEST, untyped.to_string().into_bytes()),
        ("index with no media type of its own", INDEX, bare.to_string().into_bytes()),
        ("Docker's manifest", DOCKER_MANIFEST, docker.clone()),
        (
            "Docker's list",
            DOCKER_LIST,
            index(&[descriptor(DOCKER_MANIFEST, &docker)], json!({ "mediaType": DOCKER_LIST })),
        ),
    ]
}

fn manifests() -> Vec<Row> {
    const CLAUSE: &str = "Pushing Manifests";
    let mut rows = Vec::new();
    for (number, (_, media_type, content)) in documents().into_iter().enumerate() {
        let subject = serde_json::from_slice::<Value>(&content).unwrap()["subject"]["digest"].clone();
        for reference in [digest(&content), format!("tag-{number}")] {
            let path = format!("/v2/{NAME}/manifests/{reference}");
            let pushed = row(CLAUSE, "end-7", "PUT", &path, 201)
                .with("Content-Type", media_type)
                .sends(&content)
                .header("location", path.as_str())
                .header("docker-content-digest", digest(&content));
            // "Pushing Manifests with Subject": the registry "MUST respond with the response header".
            rows.push(match subject.as_str() {
                Some(subject) => pushed.header("oci-subject", subject),
                None => pushed.without("oci-subject"),
            });
            let whole = |method| row(CLAUSE, "end-3", method, "@", 200).header("content-type", media_type);
            rows.push(whole("GET").body(&content));
            rows.push(whole("HEAD").header("content-length", content.len().to_string()));
        }
    }
    rows.extend(refused_manifests());
    rows
}

fn refused_manifests() -> Vec<Row> {
    const CLAUSE: &str = "Pushing Manifests";
    let put = |reference: &str, media_type: &str, content: &[u8], status| {
        row(CLAUSE, "end-7", "PUT", format!("/v2/{NAME}/manifests/{reference}"), status)
            .with("Content-Type", media_type)
            .sends(content)
    };
    let good = manifest(json!({}));
    let spaced = [good.as_slice(), b"  "].concat();
    let lacking = manifest(json!({ "layers": [descriptor("application/octet-stream", b"absent")] }));
    let sparse = index(&[descriptor(MANIFEST, b"absent")], json!({}));
    let large = index(&[], json!({ "annotations": { "x": "x".repeat(4 << 20) } }));
    let both = index(&[], json!({ "layers": [] }));
    let shorter = manifest(json!({ "layers": [{ "mediaType": "x/y", "digest": digest(LAYER), "size": 1 }] }));
    let strange = manifest(json!({ "layers": [{ "mediaType": "x/y", "digest": "md5:0", "size": 1 }] }));
    let mut rows = vec![
        put(&digest(&good), MANIFEST, &spaced, 400).code("DIGEST_INVALID"),
        put("sha256:baddigeststring", MANIFEST, &good, 400).code("DIGEST_INVALID"),
        put("refused", MANIFEST, &lacking, 400).code("MANIFEST_BLOB_UNKNOWN"),
        put("refused", INDEX, &sparse, 400).code("MANIFEST_BLOB_UNKNOWN"),
        put("refused", INDEX, &large, 413).code("SIZE_INVALID"),
        put("refused", MANIFEST, b"{}", 400).code("MANIFEST_INVALID"),
        put("refused", MANIFEST, b"blablabla", 400).code("MANIFEST_INVALID"),
        put("refused", INDEX, &both, 400).code("MANIFEST_INVALID"),
        put("refused", MANIFEST, &shorter, 400).code("MANIFEST_INVALID"),
        put("refused", MANIFEST, &strange, 400).code("MANIFEST_INVALID"),
        put("refused", "text/plain", b"{\"schemaVersion\":2}", 400).code("MANIFEST_INVALID"),
        put(".refused", MANIFEST, &good, 404),
        put(&format!("{}?tag=good&tag=.bad", digest(&good)), MANIFEST, &good, 400).code("MANIFEST_INVALID"),
    ];
    for reference in ["refused", "good", NOWHERE, &digest(&spaced), &digest(&lacking)] {
        let path = format!("/v2/{NAME}/manifests/{reference}");
        rows.push(row(CLAUSE, "end-3", "GET", path, 404));
    }
    // "The registry SHOULD ignore parameters on the Content-Type header."
    rows.push(put("typed", &format!("{MANIFEST}; charset=utf-8"), &good, 201));
    rows.push(row(CLAUSE, "end-3", "GET", "@", 200).header("content-type", MANIFEST).body(&good));
    // Tags beside a digest, which are to come after 1.1.
    rows.push(
        put(&format!("{}?tag=beside-1&tag=beside-2", digest(&good)), MANIFEST, &good, 201)
            .header("oci-tag", "beside-1, beside-2"),
    );
    for tag in ["beside-1", "beside-2"] {
        let path = format!("/v2/{NAME}/manifests/{tag}");
        rows.push(row(CLAUSE, "end-7, tag", "GET", path, 200).body(&good));
    }
    rows
}

#[test]
fn what_is_pushed_is_taken_by_the_specification() {
    let scratch = Scratch::new();
    let registry = Serving::start(&scratch, "store:store --writable");
    let groups = [
        ("blobs", blobs()),
        ("chunks out of order", out_of_order()),
        ("wrong digests", bad_digests()),
        ("uploads given up", given_up()),
        ("mounts", mounts()),
    ];
    for (group, rows) in groups {
        hold(&format!("push ({group})"), &registry, &rows);
    }
    for blob in [CONFIG, LAYER] {
        push(&registry, NAME, blob);
    }
    hold("push (manifests)", &registry, &manifests());
}

// ── Discovery and management ─────────────────────────────────────────────────────────────────────

fn pushed(reference: &str, media_type: &str, content: &[u8]) -> Row {
    row("Pushing Manifests", "end-7", "PUT", format!("/v2/{NAME}/manifests/{reference}"), 201)
        .with("Content-Type", media_type)
        .sends(content)
}

fn referrers() -> Vec<Row> {
    const CLAUSE: &str = "Listing Referrers";
    let image = manifest(json!({}));
    let subject = descriptor(MANIFEST, &image);
    let annotations = json!({ "org.example.sbom.format": "json", "empty": "" });
    let sbom = manifest(
        json!({ "artifactType": "example/sbom", "subject": subject, "annotations": annotations, "layers": [] }),
    );
    // "If the artifactType is empty or missing …, the value MUST be set to the config descriptor mediaType".
    let typed = manifest(json!({
        "subject": subject, "config": descriptor("example/config", CONFIG), "artifactType": "",
    }));
    let list = index(&[], json!({ "artifactType": "example/list", "subject": subject }));
    // "If the artifactType is empty or missing in an index, the artifactType MUST be omitted."
    let untyped = index(&[], json!({ "subject": subject }));
    let entry = |media_type, content: &[u8], kind: Option<&str>, annotations: Option<&Value>| {
        let mut entry = descriptor(media_type, content);
        if let Some(kind) = kind {
            entry["artifactType"] = json!(kind);
        }
        if let Some(annotations) = annotations {
            entry["annotations"] = annotations.clone();
        }
        entry
    };
    let mut all = vec![
        entry(MANIFEST, &sbom, Some("example/sbom"), Some(&annotations)),
        entry(MANIFEST, &typed, Some("example/config"), None),
        entry(INDEX, &list, Some("example/list"), None),
        entry(INDEX, &untyped, None, None),
    ];
    // In the order of their digests, which the specification leaves open.
    all.sort_by_key(|entry| entry["digest"].as_str().unwrap().to_owned());
    let path = format!("/v2/{NAME}/referrers/{}", digest(&image));
    let listed = |query: &str, found: &[Value]| {
        row(
            CLAUSE,
            if query.is_empty() { "end-12a" } else { "end-12b" },
            "GET",
            format!("{path}{query}"),
            200,
        )
        .header("content-type", INDEX)
        .json("/schemaVersion", json!(2))
        .json("/mediaType", json!(INDEX))
        .json("/manifests", json!(found))
    };
    // The subject comes last: "clients may push a manifest and referrers to that manifest in either order".
    let mut rows = vec![
        pushed(&digest(&sbom), MANIFEST, &sbom),
        pushed("typed", MANIFEST, &typed),
        pushed(&digest(&list), INDEX, &list),
        pushed(&digest(&untyped), INDEX, &untyped),
        pushed("image", MANIFEST, &image),
        listed("", &all).without("oci-filters-applied"),
    ];
    for kind in ["example/sbom", "example/config", "example/list", "example/none"] {
        let found: Vec<_> = all.iter().filter(|entry| entry["artifactType"] == kind).cloned().collect();
        let query = format!("?artifactType={}", kind.replace('/', "%2F"));
        rows.push(listed(&query, &found).header("oci-filters-applied", "artifactType"));
    }
    // "Enabling the Referrers API": what is listed under the fallback tag and has a subject is there already;
    // what has none does not get into the answer that way.
    let fallback = index(&[descriptor(MANIFEST, &sbom), descriptor(MANIFEST, &image)], json!({}));
    rows.push(pushed(&digest(&image).replace(':', "-"), INDEX, &fallback));
    rows.push(listed("", &all));
    let elsewhere = format!("/v2/c/d/referrers/{}", digest(&image));
    rows.push(row(CLAUSE, "end-12a", "GET", elsewhere, 200).json("/manifests", json!([])));
    // What is deleted refers to nothing.
    rows.push(row("Deleting Manifests", "end-9", "DELETE", format!("/v2/{NAME}/manifests/typed"), 202));
    rows.push(listed("", &all));
    let gone = format!("/v2/{NAME}/manifests/{}", digest(&typed));
    rows.push(row("Deleting Manifests", "end-9", "DELETE", gone, 202));
    all.retain(|entry| entry["digest"] != digest(&typed));
    rows.push(listed("", &all));
    rows
}

fn tags() -> Vec<Row> {
    const CLAUSE: &str = "Listing Tags";
    let image = manifest(json!({}));
    let path = format!("/v2/{NAME}/tags/list");
    // "in lexical order (i.e. case-insensitive alphanumeric order)".
    let ordered = ["1.0", "_x", "A", "a", "B", "b.c", "C", "d"];
    let mut rows: Vec<_> = ordered.iter().rev().map(|tag| pushed(tag, MANIFEST, &image)).collect();
    rows.push(row(CLAUSE, "end-8a", "GET", &path, 200).json("/tags", json!(ordered)));
    for (number, last) in ordered.iter().enumerate() {
        let rest = &ordered[number + 1..];
        let query = format!("{path}?last={last}");
        rows.push(row(CLAUSE, "end-8b", "GET", query, 200).json("/tags", json!(rest)));
    }
    rows
}

fn deletions() -> Vec<Row> {
    let image = manifest(json!({ "annotations": { "to be": "deleted" } }));
    let manifests = |reference: &str| format!("/v2/{NAME}/manifests/{reference}");
    let (own, layer) = (digest(&image), format!("/v2/{NAME}/blobs/{}", digest(LAYER)));
    let delete = |clause, end, path: String, status| row(clause, end, "DELETE", path, status);
    let there = |path: String, status| row("Content Management", "end-3", "HEAD", path, status);
    const TAGS: &str = "Deleting tags";
    const MANIFESTS: &str = "Deleting Manifests";
    const BLOBS: &str = "Deleting Blobs";
    vec![
        pushed("one", MANIFEST, &image),
        pushed("two", MANIFEST, &image),
        pushed("three", MANIFEST, &image),
        delete(TAGS, "end-9", manifests("one"), 202),
        there(manifests("one"), 404),
        there(manifests("two"), 200),
        there(manifests(&own), 200),
        delete(TAGS, "end-9", manifests("one"), 404).code("MANIFEST_UNKNOWN"),
        // "Once deleted, a GET to … and any tag pointing to that digest will return a 404."
        delete(MANIFESTS, "end-9", manifests(&own), 202),
        there(manifests(&own), 404),
        there(manifests("two"), 404),
        there(manifests("three"), 404),
        delete(MANIFESTS, "end-9", manifests(&own), 404).code("MANIFEST_UNKNOWN"),
        delete(MANIFESTS, "end-9", format!("/v2/absent/manifests/{own}"), 404),
        delete(MANIFESTS, "end-9", manifests("sha256:bad"), 400).code("DIGEST_INVALID"),
        row(BLOBS, "end-2", "GET", layer.clone(), 200).body(LAYER),
        delete(BLOBS, "end-10", layer.clone(), 202),
        row(BLOBS, "end-2", "GET", layer.clone(), 404).code("BLOB_UNKNOWN"),
        delete(BLOBS, "end-10", layer, 404).code("BLOB_UNKNOWN"),
        // It can come again.
        row("Single POST", "end-4b", "POST", uploads(&format!("?digest={}", digest(LAYER))), 201)
            .sends(LAYER),
        pushed("one", MANIFEST, &image),
        there(manifests("one"), 200),
        delete(BLOBS, "end-10", format!("/v2/{NAME}/blobs/sha256:bad"), 400).code("DIGEST_INVALID"),
        delete("Endpoints", "none", format!("/v2/{NAME}/tags/list"), 405).code("UNSUPPORTED"),
    ]
}

#[test]
fn what_was_pushed_is_found_and_deleted_by_the_specification() {
    for (group, rows) in [
        ("content discovery (referrers)", referrers()),
        ("content discovery (tags)", tags()),
        ("content management", deletions()),
    ] {
        let scratch = Scratch::new();
        let registry = Serving::start(&scratch, "store:store --writable");
        for blob in [CONFIG, LAYER] {
            push(&registry, NAME, blob);
        }
        hold(group, &registry, &rows);
    }
}
