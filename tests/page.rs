//! The page for people and the JSON behind it: what they tell, to whom, and that nothing foreign runs in them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs;

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::Digest as _;

use support::browser::{Browser, ELSEWHERE, ENTER, RIGHT, TAB};
use support::images::{Image, Layout};
use support::parts::Parts;
use support::serving::{Reply, Serving};
use support::{EXPORT, Scratch, peer, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const HOSTILE: &str = "</table><script>alert('pwned')</script><img src=x onerror=alert(1)> \u{202e}";

/// The release of most tests, with attestations, an end and a place in the sequence.
fn exported() -> Scratch {
    let scratch = Scratch::with_release();
    let image = Image { attested: true, ..Image::new("agent") };
    Layout::new(scratch.path("agents")).add("registry.example.com/nexus/agent:2.1.0", &image);
    let more = "sequence = 42\nexpires = \"2999-01-01T00:00:00Z\"\n\n[[image]]";
    let release = String::from_utf8(scratch.read("release.toml")).unwrap().replacen("\n[[image]]", more, 1);
    scratch.write("release.toml", release);
    let export =
        EXPORT.replace("oci:images", "oci:images --mirror registry.example.com/nexus/agent=oci:agents");
    scratch.sealift(&export).ok();
    scratch
}

fn serve(scratch: &Scratch, what: &str) -> Serving {
    Serving::start(scratch, &format!("{what} --trust trust"))
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.clone()).unwrap()
}

fn contents(registry: &Serving) -> Value {
    let reply = registry.get("/api/v1/contents");
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    reply.json()
}

/// What stands between the first of these and the next of those.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(part, _)| part).unwrap()
}

fn names(value: &Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

// ── The page itself ──────────────────────────────────────────────────────────────────────────────

#[test]
fn the_page_is_one_file_and_its_policy_lets_nothing_else_in() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    let page = registry.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let body = text(&page);
    let hash = |part: &str| base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(part));
    let expected = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(between(&body, "<script>", "</script>")),
        hash(between(&body, "<style>", "</style>")),
    );
    assert_eq!(page.header("content-security-policy"), expected);
    assert_eq!((body.matches("<script").count(), body.matches("<style").count()), (1, 1));
    for attribute in ["href=\"", "src=\"", "action=\""] {
        for target in body.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let own = target.starts_with('#') || target.starts_with('/') && !target.starts_with("//");
            assert!(own || target.starts_with("data:image/svg+xml,"), "{target}");
        }
    }
    for word in ["url(", "@import", " style=", " onclick", " onload"] {
        assert!(!body.contains(word), "{word}");
    }
}

#[test]
fn head_answers_as_get_does_and_nothing_else_is_taken() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    for path in ["/", "/api/v1/contents", "/healthz"] {
        let (get, head) = (registry.get(path), registry.ask("HEAD", path, &[]));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(registry.ask("POST", path, &[("Content-Length", "0")]).status, 405, "{path}");
    }
    for path in ["/index.html", "/api", "/api/v2/contents", "/../etc/passwd", "/?after=x", "/?after=-1"] {
        assert_eq!(registry.get(path).status, 404, "{path}");
    }
    assert_eq!(registry.get("/api/v1/contents").header("cache-control"), "no-store");
    let blob = list(&contents(&registry), "images")[0]["digest"].as_str().unwrap().to_owned();
    let blob = registry.get(&format!("/v2/nexus/engine/blobs/{blob}"));
    assert_eq!((blob.status, blob.header("x-content-type-options")), (200, "nosniff"));
}

#[test]
fn whoever_has_to_log_in_for_pulling_has_to_for_the_page() {
    let scratch = exported();
    scratch.write("users", format!("robot:{}\n", bcrypt::hash("right", 4).unwrap()));
    let basic = base64::engine::general_purpose::STANDARD.encode("robot:right");
    let login = [("Authorization", format!("Basic {basic}"))];
    let login: Vec<_> = login.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let closed = serve(&scratch, "bundle.tar --htpasswd users");
    for path in ["/", "/api/v1/contents"] {
        let reply = closed.get(path);
        assert_eq!(reply.status, 401, "{path}");
        // This is what has browsers ask for a name and a password.
        assert!(reply.header("www-authenticate").starts_with("Basic "), "{path}");
        assert!(!text(&reply).contains("nexus"), "{path}");
        assert_eq!(closed.ask("GET", path, &login).status, 200, "{path}");
    }
    let page = text(&closed.ask("GET", "/", &login));
    assert!(page.contains(&format!("docker login {}", closed.address)), "{page}");
    let open = serve(&scratch, "bundle.tar --htpasswd users --anonymous-pull");
    assert_eq!(contents(&open)["login"], json!(false));
    assert!(!text(&open.get("/")).contains("docker login"));
    // Whether it is alive is no secret.
    assert_eq!(closed.get("/healthz").status, 200);
}

#[test]
fn hosts_that_are_none_are_not_repeated() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    let asked = |lines: &str| {
        let mut connection = registry.connect();
        connection.raw(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes());
        let reply = connection.reply(false);
        assert_eq!(reply.status, 200, "{lines:?}");
        text(&reply)
    };
    for lines in [
        "Host: evil\"><script>alert(1)</script>\r\n",
        "Host: evil.example/path\r\n",
        "Host: user@evil.example\r\n",
        "Host: $(evil)\r\n",
        "Host: one:1\r\nHost: evil:2\r\n",
        "",
    ] {
        let page = asked(lines);
        assert!(!page.contains("evil"), "{lines:?}");
        assert!(page.contains("docker pull HOST:PORT/nexus/agent:2.1.0"), "{lines:?}");
    }
    let page = asked("Host: Registry.Edge.Local:5000\r\n");
    assert!(page.contains("docker pull registry.edge.local:5000/nexus/agent:2.1.0"));
    // A host that Docker would take for a name on Docker Hub gets its port.
    assert!(asked("Host: edge\r\n").contains("docker pull edge:80/nexus/agent:2.1.0"));
}

#[test]
fn over_tls_clients_are_told_so() {
    if !peer("curl") {
        return;
    }
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar --self-signed");
    let page =
        scratch.run("curl", &format!("--silent --fail --insecure https://{}/", registry.address)).ok().stdout;
    for said in [
        format!("https://{}", registry.address),
        format!("/etc/docker/certs.d/{}/ca.crt", registry.address),
        format!("/etc/containers/certs.d/{}/ca.crt", registry.address),
        format!("ca = &quot;/etc/containerd/certs.d/{}/ca.crt&quot;", registry.address),
        "ca_file: /etc/rancher/k3s/sealift-ca.crt".to_owned(),
        format!("podman pull {}/nexus/agent:2.1.0", registry.address),
    ] {
        assert!(page.contains(&said), "{said} in {page}");
    }
    for word in ["tls-verify=false", "plain-http", "insecure"] {
        assert!(!page.contains(word), "{word} in {page}");
    }
}

// ── What it tells of bundles ─────────────────────────────────────────────────────────────────────

#[test]
fn what_is_told_is_what_the_bundle_says() {
    let scratch = exported();
    let statement = Parts::read(&scratch.read("bundle.tar")).statement();
    let registry = serve(&scratch, "bundle.tar");
    let (contents, page) = (contents(&registry), text(&registry.get("/")));
    let keys = ["broken", "bundles", "images", "login", "next", "serving", "untagged", "version", "writable"];
    assert_eq!(names(&contents), keys);
    assert_eq!(
        (&contents["version"], &contents["serving"], &contents["writable"], &contents["next"]),
        (&json!(1), &json!("bundles"), &json!(false), &Value::Null)
    );
    let bundle = &contents["bundles"][0];
    for key in ["name", "version", "tier", "channel", "created", "expires", "sequence", "producer", "policy"]
    {
        assert_eq!(bundle[key], statement[key], "{key}");
    }
    assert_eq!(bundle["verified"], "all");
    assert_eq!(bundle["bytes"], scratch.read("bundle.tar").len());
    let key = scratch.key_id("release.pub.pem");
    assert_eq!(bundle["signers"], json!([{ "keyId": key, "name": "release" }]));
    for said in
        [key.as_str(), "2999-01-01 00:00 UTC", "every byte was read", "<dd>sovereign</dd>", "<dd>42</dd>"]
    {
        assert!(page.contains(said), "{said}");
    }
    assert_eq!(list(&contents, "images").len(), list(&statement, "images").len());
    for (told, stated) in list(&contents, "images").iter().zip(list(&statement, "images")) {
        for key in ["name", "variant", "digest", "mediaType", "tags", "platforms", "omitted", "source"] {
            assert_eq!(told[key], stated[key], "{key}");
        }
        for digest in std::iter::once(told).chain(list(told, "platforms")).map(|entry| &entry["digest"]) {
            assert!(page.contains(&format!(">{}</code>", digest.as_str().unwrap())), "{digest}");
        }
        // Commands are for typing: what they name is there.
        for name in list(told, "pull").iter().map(|name| name.as_str().unwrap()) {
            let (repository, tag) = name.split_once(':').unwrap();
            let pulled = registry.get(&format!("/v2/{repository}/manifests/{tag}"));
            assert_eq!(pulled.header("docker-content-digest"), told["digest"], "{name}");
            assert!(page.contains(&format!("{}/{name}</code>", registry.address)), "{name}");
        }
    }
}

#[test]
fn what_was_not_read_beforehand_is_said() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar --head-first");
    assert_eq!(contents(&registry)["bundles"][0]["verified"], "head");
    let page = text(&registry.get("/"));
    assert!(page.contains("Verified as it is pulled") && !page.contains("every byte was read"));
    // A document that is damaged takes nothing away but itself.
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let mut damaged = scratch.read("bundle.tar");
    damaged[parts.first_image()[0].range().start + 1] ^= 1;
    scratch.write("bundle.tar", &damaged);
    let registry = serve(&scratch, "bundle.tar --head-first");
    let digest = parts.first_image()[0].path.replace("blobs/sha256/", "sha256:");
    let images = contents(&registry)["images"].clone();
    for image in images.as_array().unwrap() {
        assert_eq!(image["unread"].is_string(), image["digest"] == digest.as_str(), "{image}");
        assert_eq!(list(image, "platforms").len(), 3);
    }
    assert!(text(&registry.get("/")).contains("Not all is told here"));
}

#[test]
fn attestations_in_the_bundle_are_listed_and_lead_to_their_content() {
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    let (contents, page) = (contents(&registry), text(&registry.get("/")));
    let agent = list(&contents, "images").iter().find(|image| image["name"] == "agent").unwrap();
    let attached = list(agent, "attached");
    let builds: Vec<_> =
        list(agent, "platforms").iter().map(|build| (&build["platform"], &build["digest"])).collect();
    let subjects: Vec<_> = attached.iter().map(|entry| (&entry["platform"], &entry["subject"])).collect();
    assert_eq!(subjects.len(), 3);
    for entry in attached {
        assert!(builds.contains(&(&entry["platform"], &entry["subject"])), "{entry}");
        assert_eq!(entry["kind"], "attestation");
        let file = &entry["files"][0];
        let digest = file["digest"].as_str().unwrap();
        let path = format!("/v2/nexus/agent/blobs/{digest}");
        assert!(page.contains(&format!("href=\"{path}\"")), "{path}");
        let blob = registry.get(&path);
        assert_eq!(format!("sha256:{}", sha256(&blob.body)), digest);
        assert_eq!(json!(blob.body.len()), file["size"]);
    }
}

#[test]
fn a_name_that_two_images_have_is_told_in_full() {
    let scratch = Scratch::with_small_release();
    scratch.sealift(EXPORT).ok();
    let other = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("other") };
    Layout::new(scratch.path("others")).add("other.example.com/tools/tool:1.0.0", &other);
    let release = String::from_utf8(scratch.read("release.toml")).unwrap();
    let release =
        release.replace("registry.example.com", "other.example.com").replace("\"small\"", "\"other\"");
    scratch.write("other.toml", release);
    scratch
        .sealift("export other.toml -o other.tar --key release.key.pem --mirror other.example.com=oci:others")
        .ok();
    let registry = serve(&scratch, "bundle.tar other.tar");
    let contents = contents(&registry);
    assert_eq!(list(&contents, "bundles").len(), 2);
    for (number, host) in ["registry.example.com", "other.example.com"].iter().enumerate() {
        let image = &list(&contents, "images")[number];
        assert_eq!(
            (&image["bundle"], &image["pull"]),
            (&json!(number), &json!([format!("{host}/tools/tool:1.0.0")]))
        );
        let pulled = registry.get(&format!("/v2/{host}/tools/tool/manifests/1.0.0"));
        assert_eq!(pulled.header("docker-content-digest"), image["digest"]);
    }
}

// ── What it tells of stores ──────────────────────────────────────────────────────────────────────

/// Pushes what refers to a subject: a manifest of this type with one file of that type, in these words.
fn attach(
    registry: &Serving,
    subject: &Value,
    types: (&str, &str),
    words: &str,
    tag: Option<&str>,
) -> String {
    let push = |content: &[u8]| {
        let digest = format!("sha256:{}", sha256(content));
        let path = format!("/v2/nexus/agent/blobs/uploads/?digest={digest}");
        assert_eq!(registry.put("POST", &path, &[], content).status, 201);
        json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": content.len() })
    };
    let mut layer = push(format!("{{\"for\":{words:?}}}").as_bytes());
    layer["mediaType"] = json!(types.1);
    layer["annotations"] = json!({ "org.opencontainers.image.title": words });
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": types.0, "config": push(b"{}"), "layers": [layer],
        "annotations": { "org.opencontainers.image.description": words },
    });
    if tag.is_none() {
        manifest["subject"] = subject.clone();
    }
    let manifest = manifest.to_string();
    let digest = format!("sha256:{}", sha256(manifest.as_bytes()));
    let path = format!("/v2/nexus/agent/manifests/{}", tag.unwrap_or(&digest));
    let pushed = registry.put("PUT", &path, &[("Content-Type", MANIFEST)], manifest.as_bytes());
    assert_eq!(pushed.status, 201, "{}", text(&pushed));
    digest
}

fn stored(scratch: &Scratch) -> Serving {
    scratch.sealift("import bundle.tar --to store:store --trust trust").ok();
    Serving::start(scratch, "store:store --writable")
}

#[test]
fn a_store_is_told_as_it_is_now() {
    let scratch = exported();
    let statement = Parts::read(&scratch.read("bundle.tar")).statement();
    let registry = stored(&scratch);
    let before = contents(&registry);
    assert_eq!(
        (&before["serving"], &before["writable"], &before["bundles"]),
        (&json!("store"), &json!(true), &json!([]))
    );
    assert_eq!(list(&before, "images").len(), 4);
    for image in list(&before, "images") {
        let stated =
            list(&statement, "images").iter().find(|stated| stated["digest"] == image["digest"]).unwrap();
        // A tag more is no image more; platforms and sizes are read from the documents, and are the same.
        let mut tags = list(stated, "tags").clone();
        tags.sort_by_key(|tag| tag.to_string());
        assert_eq!(image["tags"], json!(tags));
        assert_eq!(image["platforms"], stated["platforms"]);
        assert_eq!(image["source"], Value::Null);
    }
    let agent = &list(&before, "images")[0];
    assert_eq!((agent["repository"].as_str(), list(agent, "attached").len()), (Some("nexus/agent"), 3));
    let subject = json!({ "mediaType": agent["mediaType"], "digest": agent["digest"], "size": 1 });
    let signatures = format!("{}.sig", agent["digest"].as_str().unwrap().replace(':', "-"));
    for (types, tag, kind) in [
        (("application/spdx+json", "application/spdx+json"), None, "sbom"),
        (("application/sarif+json", "application/sarif+json"), None, "scan"),
        (("", "application/vnd.dev.cosign.simplesigning.v1+json"), Some(signatures.as_str()), "signature"),
    ] {
        let digest = attach(&registry, &subject, types, kind, tag);
        let now = contents(&registry);
        let agent = &list(&now, "images")[0];
        let found = list(agent, "attached").iter().find(|entry| entry["digest"] == digest.as_str());
        let found = found.unwrap_or_else(|| panic!("{digest} is not in {agent}"));
        assert_eq!((&found["kind"], &found["files"][0]["title"]), (&json!(kind), &json!(kind)));
        assert_eq!(list(&now, "images").len(), 4, "what is attached is no image");
        assert!(text(&registry.get("/")).contains(&digest));
    }
    // What is gone is told no more.
    let removed = registry.ask("DELETE", "/v2/nexus/agent/manifests/2.1", &[]);
    assert_eq!(removed.status, 202);
    assert_eq!(list(&contents(&registry), "images")[0]["tags"], json!(["2.1.0"]));
}

#[test]
fn what_somebody_pushed_is_text_and_no_markup() {
    let scratch = exported();
    let registry = stored(&scratch);
    let agent = list(&contents(&registry), "images")[0].clone();
    let subject = json!({ "mediaType": agent["mediaType"], "digest": agent["digest"], "size": 1 });
    attach(&registry, &subject, (HOSTILE, HOSTILE), HOSTILE, None);
    attach(&registry, &subject, (HOSTILE, HOSTILE), HOSTILE, Some("hostile"));
    let told = contents(&registry);
    assert!(told.to_string().contains("alert('pwned')"), "it is there: {told}");
    let page = text(&registry.get("/"));
    assert!(page.contains("&lt;script&gt;alert(&#39;pwned&#39;)"), "{page}");
    assert_eq!((page.matches("<script").count(), page.matches("<img").count()), (1, 0));
    assert!(!page.contains('\u{202e}'), "what turns a line around is shown by its code");
    assert!(page.contains("u{202e}"));
}

#[test]
fn a_large_store_comes_in_pages_and_what_is_broken_is_named() {
    let scratch = exported();
    let registry = stored(&scratch);
    let tags = scratch.path("store/docker/registry/v2/repositories/nexus/agent/_manifests/tags");
    for number in 0..250 {
        let tag = tags.join(format!("n{number:03}/current"));
        fs::create_dir_all(&tag).unwrap();
        fs::copy(tags.join("2.1.0/current/link"), tag.join("link")).unwrap();
    }
    fs::write(tags.join("n249/current/link"), "nonsense").unwrap();
    let nobody = scratch.path("store/docker/registry/v2/repositories/nexus/nobody/_manifests/revisions");
    fs::create_dir_all(nobody).unwrap();
    let (mut path, mut pages) = ("/api/v1/contents".to_owned(), Vec::new());
    loop {
        let page = registry.get(&path).json();
        let next = page["next"].as_str().map(str::to_owned);
        pages.push(page);
        let Some(next) = next else { break };
        let shown = text(
            &registry
                .get(path.strip_prefix("/api/v1/contents").map(|rest| format!("/{rest}")).unwrap().as_str()),
        );
        assert!(
            shown.contains(&format!("href=\"/?after={}\"", next.replace(':', "%3A").replace('/', "%2F"))),
            "{next}"
        );
        path = format!("/api/v1/contents?after={next}");
    }
    assert_eq!(pages.len(), 3);
    let every = |key: &str| pages.iter().flat_map(|page| list(page, key)).cloned().collect::<Vec<_>>();
    let tags: Vec<_> = every("images").iter().flat_map(|image| list(image, "pull").clone()).collect();
    let mut once = tags.clone();
    once.sort_by_key(ToString::to_string);
    once.dedup();
    assert_eq!((tags.len(), once.len()), (8 + 249, 8 + 249));
    assert_eq!(every("broken"), [json!("nexus/agent:n249")]);
    assert_eq!(every("untagged"), [json!("nexus/nobody")]);
    assert_eq!(registry.get("/api/v1/contents?after=../x").status, 404);
}

#[test]
fn an_empty_store_says_so() {
    let scratch = Scratch::new();
    let registry = Serving::start(&scratch, "store:empty --writable");
    assert_eq!(contents(&registry)["images"], json!([]));
    assert!(text(&registry.get("/")).contains("There are no images here yet"));
}

// ── In a browser ─────────────────────────────────────────────────────────────────────────────────

/// Texts that are too faint for what is behind them (WCAG 2.2, 1.4.3, without its leave for large ones), and
/// outlines of what can be pressed (1.4.11).
const FAINT: &str = r"
const parse = (text) => { const n = text.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
  const v = c[i] / 255;
  return sum + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
}, 0);
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
document.querySelectorAll('details').forEach((details) => { details.open = true; });
const faint = [];
let seen = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.data.trim() || !element.checkVisibility() || element.closest('script, style')) continue;
  const ground = behind(element);
  const ratio = contrast(over(parse(getComputedStyle(element).color), ground), ground);
  seen++;
  if (ratio < 4.5) faint.push(ratio.toFixed(2) + ' ' + node.data.trim());
}
for (const element of document.querySelectorAll('button, input[type=search], .clients span')) {
  if (!element.checkVisibility()) continue;
  const ratio = contrast(parse(getComputedStyle(element).borderTopColor), behind(element.parentElement));
  if (ratio < 3) faint.push('outline ' + ratio.toFixed(2) + ' ' + element.outerHTML);
}
return { faint, seen, ground: behind(document.body).join() };
";

/// Where the keyboard's focus is: its place in the document, what is there, and whether it can be seen.
const FOCUS: &str = r"
const at = document.activeElement;
const shown = at.type === 'radio' ? at.nextElementSibling : at;
return {
  place: [...document.querySelectorAll('*')].indexOf(at),
  name: at.getAttribute('aria-label') || at.textContent || at.id,
  copy: at.classList.contains('copy'),
  outlined: getComputedStyle(shown).outlineStyle !== 'none' && parseFloat(getComputedStyle(shown).outlineWidth) >= 2,
};
";

/// Whatever is wider than the window.
const WIDE: &str = r"
document.querySelectorAll('details').forEach((details) => { details.open = true; });
const found = [];
for (const radio of document.querySelectorAll('input[name=client]')) {
  radio.checked = true;
  if (document.documentElement.scrollWidth > innerWidth) found.push(radio.id + ': ' + document.documentElement.scrollWidth);
  for (const cell of document.querySelectorAll('article tbody :is(th, td), article dd')) {
    if (cell.checkVisibility() && cell.scrollWidth > cell.clientWidth + 1) found.push(cell.outerHTML);
  }
}
return { found, width: innerWidth };
";

#[test]
fn in_a_browser_it_can_be_read_and_used_by_everybody() {
    let Some(browser) = Browser::start() else { return };
    let scratch = exported();
    let registry = serve(&scratch, "bundle.tar");
    let url = format!("http://{}/", registry.address);
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")] {
        browser.device(width, scheme);
        browser.go(&url);
        let looks = browser.run(FAINT);
        assert_eq!(looks["faint"], json!([]), "{width} {scheme}");
        assert!(looks["seen"].as_u64().unwrap() > 100, "{looks}");
        let dark = looks["ground"].as_str().unwrap().starts_with("13,");
        assert_eq!(dark, scheme == "dark", "{looks}");
        assert_eq!(browser.run(WIDE), json!({ "found": [], "width": width }), "{scheme}");
    }
    keyboard(&browser, &url);
    copying(&browser, &url);
    elsewhere(&browser, &registry);
    printing(&browser, &url, &contents(&registry));
    assert_eq!(browser.console(), [""; 0], "nothing to complain about");
    let own = |address: &String| {
        let host =
            address.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        address.starts_with("data:") || host == registry.address || host.starts_with(ELSEWHERE)
    };
    let requests = browser.requests();
    assert!(requests.len() > 5);
    assert!(requests.iter().all(own), "{requests:?}");
    policed(&browser, &url);
}

/// From the address line to the end with one key: everything comes once, in its order, and can be seen.
fn keyboard(browser: &Browser, url: &str) {
    browser.device(1280, "light");
    browser.go(url);
    let buttons = browser
        .run("return [...document.querySelectorAll('button')].filter((b) => b.checkVisibility()).length");
    let (mut last, mut copies) = (-1, 0);
    loop {
        browser.press(&[TAB]);
        let focus = browser.run(FOCUS);
        let place = focus["place"].as_i64().unwrap();
        // Behind the last one it begins anew.
        if place <= last || focus["name"] == "" && place < 20 {
            break;
        }
        assert!(last >= 0 || focus["name"] == "Skip to the images", "{focus}");
        assert_eq!(focus["outlined"], json!(true), "{focus}");
        copies += u64::from(focus["copy"] == json!(true));
        last = place;
    }
    assert_eq!(json!(copies), buttons);
    // Another client, by an arrow.
    browser.go(url);
    let shown = "return [...document.querySelectorAll('#image-0 .command')].filter((c) => c.checkVisibility()).map((c) => c.textContent)";
    assert!(browser.run(shown)[0].as_str().unwrap().contains("docker pull"));
    browser.run("document.getElementById('client-docker').focus()");
    browser.press(&[RIGHT]);
    let podman = browser.run(shown);
    assert!(podman[0].as_str().unwrap().contains("podman pull --tls-verify=false"), "{podman}");
    assert_eq!(podman.as_array().unwrap().len(), 1, "one at a time");
    browser.run("document.getElementById('client-docker').click()");
}

/// What was said to those who do not see the button.
const SAID: &str = "
const live = document.getElementById('live');
const look = () => live.textContent ? done(live.textContent) : requestAnimationFrame(look);
look();
";

/// Copies the first digest by keyboard, and pastes it into the filter.
fn copied(browser: &Browser) {
    let digest = browser.run("return document.querySelector('[data-copy^=\"digest\"]').textContent");
    browser.run("document.querySelector('[aria-label^=\"Copy digest\"]').focus()");
    browser.press(&[ENTER]);
    let said = browser.wait(SAID);
    assert!(said.as_str().unwrap().starts_with("Copied digest of "), "{said}");
    browser.run("document.querySelector('#filter input').focus()");
    browser.control("v");
    assert_eq!(browser.run("return document.querySelector('#filter input').value"), digest);
    let left = browser
        .run("return [...document.querySelectorAll('article')].filter((a) => a.checkVisibility()).length");
    assert_eq!(left, json!(1), "and only its image is left");
}

fn copying(browser: &Browser, url: &str) {
    browser.go(url);
    assert_eq!(browser.run("return isSecureContext"), json!(true));
    copied(browser);
}

/// The same over plain HTTP from another machine, where browsers keep the clipboard from scripts.
fn elsewhere(browser: &Browser, registry: &Serving) {
    let port = registry.address.rsplit(':').next().unwrap();
    browser.go(&format!("http://{ELSEWHERE}:{port}/"));
    assert_eq!(browser.run("return isSecureContext"), json!(false));
    copied(browser);
    let page = browser.run("return document.body.textContent").to_string();
    assert!(page.contains(&format!("docker pull {ELSEWHERE}:{port}/nexus/engine:")), "{page}");
    let file = browser.run("return document.querySelector('.for.docker .setup pre').textContent");
    let file: Value = serde_json::from_str(file.as_str().unwrap()).unwrap();
    assert_eq!(file, json!({ "insecure-registries": [format!("{ELSEWHERE}:{port}")] }));
}

/// On paper: every digest in full, nothing to press, and what is folded up on the screen is open.
fn printing(browser: &Browser, url: &str, contents: &Value) {
    browser.go(url);
    browser.protocol("Emulation.setEmulatedMedia", json!({ "media": "print" }));
    let buttons = browser.run(
        "return [...document.querySelectorAll('button, #filter')].filter((b) => b.checkVisibility()).length",
    );
    assert_eq!(buttons, json!(0));
    let shown = browser.run("return document.body.innerText").to_string();
    for digest in list(contents, "images").iter().map(|image| image["digest"].as_str().unwrap()) {
        assert!(shown.contains(digest), "{digest}");
    }
    let unfolded = browser.run("return [...document.querySelectorAll('details.attached table')].every((t) => t.getBoundingClientRect().height > 0)");
    assert_eq!(unfolded, json!(true));
    browser.protocol("Emulation.setEmulatedMedia", json!({ "media": "" }));
}

/// Should markup ever get through, it stays dead: the policy is in force.
fn policed(browser: &Browser, url: &str) {
    browser.go(url);
    let stopped = browser.wait(
        "document.addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective), { once: true });
         document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,x\" onerror=\"window.pwned = 1\">');",
    );
    assert_eq!(stopped, json!("script-src-attr"));
    assert_eq!(browser.run("return window.pwned === undefined"), json!(true));
}
