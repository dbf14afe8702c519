//! Signatures, SBOMs and attestations cross with the image that they are attached to, in whatever way they are
//! attached, and are found at the other end as they were at the first.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use serde_json::{Value, json};
use support::images::{Image, Layout, served};
use support::lying::{Answer, Request};
use support::registry::Registry;
use support::serving::Serving;
use support::site::peers;
use support::{EXPORT, SMALL, Scratch};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SBOM: &str = "application/spdx+json";
const SIGNATURE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const ATTESTATION: &str = "application/vnd.in-toto+json";

/// A release of one image for two platforms, and all that is attached to it.
struct Release {
    scratch: Scratch,
    /// The index and its two children.
    subjects: Vec<String>,
    /// What is attached to what by its subject.
    referrers: Vec<(String, String)>,
    /// cosign's tags and what they lead to.
    tags: Vec<(String, String)>,
}

fn digest(entry: &Value) -> String {
    entry["digest"].as_str().unwrap().to_owned()
}

impl Release {
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut layout = Layout::new(scratch.path("images"));
        let platforms = vec!["linux/amd64", "linux/arm64"];
        let top = layout.image(&Image { platforms, layer: 300, ..Image::new("tool") });
        layout.name("registry.example.com/tools/tool:1.0.0", top.clone());
        let index: Value = blob(&scratch, "images", &digest(&top));
        let mut subjects = vec![top];
        subjects.extend(index["manifests"].as_array().unwrap().iter().cloned());
        let (mut referrers, mut tags) = (Vec::new(), Vec::new());
        let mut attach = |layout: &mut Layout, kind: &str, text: &str, subject: &Value| {
            let artifact = layout.artifact(kind, text.as_bytes(), Some(subject));
            referrers.push((digest(subject), digest(&artifact)));
            layout.unnamed(artifact.clone());
            artifact
        };
        for (number, subject) in subjects.iter().enumerate() {
            attach(&mut layout, ATTESTATION, &format!("built like that: {number}"), subject);
            let sbom = attach(&mut layout, SBOM, &format!("packages of {number}"), subject);
            let signature = attach(&mut layout, SIGNATURE, &format!("signed: {number}"), &sbom);
            attach(&mut layout, "text/plain", "a signature of a signature", &signature);
            for kind in ["sig", "att", "sbom"] {
                let artifact = layout.artifact("", format!("{kind} by tag {number}").as_bytes(), None);
                let tag = format!("{}.{kind}", digest(subject).replace(':', "-"));
                layout.name(&format!("registry.example.com/tools/tool:{tag}"), artifact.clone());
                tags.push((tag, digest(&artifact)));
            }
        }
        let subjects = subjects.iter().map(digest).collect();
        scratch.write("release.toml", SMALL);
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        Release { scratch: scratch.exported(), subjects, referrers, tags }
    }

    /// What is attached to a document by its subject, in order.
    fn attached_to(&self, subject: &str) -> Vec<String> {
        let attached = self.referrers.iter().filter(|(known, _)| known == subject);
        let mut attached: Vec<_> = attached.map(|(_, one)| one.clone()).collect();
        attached.sort();
        attached
    }

    /// Requires that an export from there gives the very same bundle.
    #[track_caller]
    fn is_whole_at(&self, place: &str) {
        let again = EXPORT.replace("oci:images", place).replace("bundle.tar", "again.tar");
        let run = self.scratch.sealift(&again).ok();
        assert!(self.scratch.read("again.tar") == self.scratch.read("bundle.tar"), "{place}\n{run}");
        self.scratch.remove("again.tar");
    }

    #[track_caller]
    fn import(&self, to: &str, more: &str) -> support::Run {
        self.scratch.sealift(&format!("import bundle.tar --trust trust --to {to} {more}"))
    }
}

fn blob(scratch: &Scratch, layout: &str, digest: &str) -> Value {
    serde_json::from_slice(&scratch.read(format!("{layout}/blobs/{}", digest.replace(':', "/")))).unwrap()
}

/// The digests that an index lists, in order.
fn listed(index: &[u8]) -> Vec<String> {
    let index: Value = serde_json::from_slice(index).unwrap();
    let mut listed: Vec<_> = index["manifests"].as_array().unwrap().iter().map(digest).collect();
    listed.sort();
    listed
}

#[test]
fn the_bundle_says_what_is_attached_to_what() {
    let release = Release::new();
    let run = release.scratch.sealift("inspect bundle.tar --trust trust --json").ok();
    let said = run.json()["statement"]["images"][0]["referrers"].clone();
    let said = said.as_array().unwrap();
    assert_eq!(said.len(), release.referrers.len() + release.tags.len(), "{said:?}");
    for (subject, digest) in &release.referrers {
        assert!(
            said.iter()
                .any(|one| one["subject"] == **subject && one["digest"] == **digest && one["tag"].is_null()),
            "{digest}"
        );
    }
    for (tag, digest) in &release.tags {
        assert!(said.iter().any(|one| one["tag"] == **tag && one["digest"] == **digest), "{tag}");
    }
    // And so does its index.json, without names.
    let index = release.scratch.run("tar", "-xOf bundle.tar index.json").ok();
    let index: Value = serde_json::from_str(&index.stdout).unwrap();
    let (named, unnamed): (Vec<_>, Vec<_>) = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .partition(|entry| !entry["annotations"]["org.opencontainers.image.ref.name"].is_null());
    assert_eq!((named.len(), unnamed.len()), (1, said.len()));
    for entry in &unnamed {
        let subject = &entry["annotations"]["io.containerd.manifest.subject"];
        let same = |one: &&Value| one["digest"] == entry["digest"] && one["subject"] == *subject;
        let stated = said.iter().find(same).unwrap();
        assert_eq!(stated["artifactType"], entry["artifactType"]);
    }
}

#[test]
fn a_registry_without_the_api_gets_fallback_tags_and_gives_all_back() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let registry = Registry::start();
    let to = registry.address();
    release.import(&to, "").ok();
    for subject in &release.subjects {
        let tag = subject.replace(':', "-");
        let (status, index) = registry.get(&format!("/v2/tools/tool/manifests/{tag}"));
        assert_eq!((status, listed(&index)), (200, release.attached_to(subject)));
        let index: Value = serde_json::from_slice(&index).unwrap();
        // As the specification wants it: with the artifact's type and annotations.
        assert!(index["manifests"].as_array().unwrap().iter().all(|entry| {
            entry["artifactType"].is_string() && entry["annotations"]["note"] == "größer & <b>"
        }));
    }
    for (tag, expected) in &release.tags {
        let (status, manifest) = registry.get(&format!("/v2/tools/tool/manifests/{tag}"));
        assert_eq!((status, format!("sha256:{}", support::sha256(&manifest))), (200, expected.clone()));
    }
    release.is_whole_at(&to);
    let again = release.import(&to, "--json").ok().json();
    assert_eq!((&again["sent"], &again["verified"]), (&json!(0), &json!("documents")), "{again}");
}

/// The release once more, its image asked for by digest.
fn by_digest(release: &Release) -> String {
    release
        .scratch
        .write("digest.toml", SMALL.replace("\"{version}\"", &format!("\"{}\"", release.subjects[0])));
    release
        .scratch
        .sealift(&EXPORT.replace("release.toml", "digest.toml").replace("bundle.tar", "digest.tar"))
        .ok();
    release.subjects[0].replace(':', "-")
}

#[test]
fn an_image_asked_for_by_digest_is_called_by_it_where_its_signatures_are_found_otherwise() {
    let release = Release::new();
    let own = by_digest(&release);
    let serving = Serving::start(&release.scratch, "store:store --writable");
    let import = format!("import digest.tar --trust trust --to {}", serving.address);
    release.scratch.sealift(&import).ok();
    let reply = serving.get(&format!("/v2/tools/tool/manifests/{own}"));
    assert_eq!(reply.header("docker-content-digest"), release.subjects[0]);
    let from = EXPORT.replace("release.toml", "digest.toml").replace("bundle.tar", "again.tar");
    release.scratch.sealift(&from.replace("oci:images", &serving.address)).ok();
    assert!(release.scratch.read("again.tar") == release.scratch.read("digest.tar"));
}

#[test]
fn where_that_name_leads_to_the_list_of_its_signatures_it_gets_another_one() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let own = by_digest(&release);
    let registry = Registry::start();
    let import = format!("import digest.tar --trust trust --to {} --json", registry.address());
    let receipt = release.scratch.sealift(&import).ok().json();
    let name = format!("{}/tools/tool:{own}.image", registry.address());
    assert_eq!(receipt["images"][0]["names"][0]["name"], name);
    let (_, list) = registry.get(&format!("/v2/tools/tool/manifests/{own}"));
    assert_eq!(listed(&list), release.attached_to(&release.subjects[0]));
    let (_, image) = registry.get(&format!("/v2/tools/tool/manifests/{own}.image"));
    assert_eq!(format!("sha256:{}", support::sha256(&image)), release.subjects[0]);
    assert_eq!(release.scratch.sealift(&import).ok().json()["sent"], 0);
    let from = EXPORT.replace("release.toml", "digest.toml").replace("bundle.tar", "again.tar");
    release.scratch.sealift(&from.replace("oci:images", &registry.address())).ok();
    assert!(release.scratch.read("again.tar") == release.scratch.read("digest.tar"));
}

#[test]
fn the_name_that_the_list_needs_is_given_up_for_another_one() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let own = by_digest(&release);
    let registry = Registry::start();
    // First without its signatures, which leave the name to it.
    let bare = release.scratch.read("digest.toml");
    let bare = String::from_utf8(bare).unwrap().replace("\n[[image]]", "referrers = false\n\n[[image]]");
    release.scratch.write("bare.toml", bare);
    let export = EXPORT.replace("release.toml", "bare.toml").replace("bundle.tar", "bare.tar");
    release.scratch.sealift(&export).ok();
    let import = |bundle: &str, more: &str| {
        let to = registry.address();
        release.scratch.sealift(&format!("import {bundle} --trust trust --to {to} --json {more}"))
    };
    let first = import("bare.tar", "").ok().json();
    assert_eq!(first["images"][0]["names"][0]["name"], format!("{}/tools/tool:{own}", registry.address()));
    import("digest.tar", "--state other").ok();
    let (_, list) = registry.get(&format!("/v2/tools/tool/manifests/{own}"));
    assert_eq!(listed(&list), release.attached_to(&release.subjects[0]));
    // And the other way round the list is let alone.
    let again = import("bare.tar", "").ok().json();
    assert_eq!(
        again["images"][0]["names"][0]["name"],
        format!("{}/tools/tool:{own}.image", registry.address())
    );
    let (_, list) = registry.get(&format!("/v2/tools/tool/manifests/{own}"));
    assert_eq!(listed(&list), release.attached_to(&release.subjects[0]));
}

#[test]
fn a_digest_in_a_tags_place_must_be_one() {
    let release = Release::new();
    for wrong in ["sha256:00", "sha512:00", "md5:x", "a:b"] {
        release.scratch.write("wrong.toml", SMALL.replace("{version}", wrong));
        let run =
            release.scratch.sealift(&EXPORT.replace("release.toml", "wrong.toml").replace("bundle", "wrong"));
        run.fails(2, "ManifestInvalid").says("wrong.toml:11:27").says("a tag has no colon");
    }
    let digest = &release.subjects[0];
    for more in [
        "also_tag = [\"{major}\"]".to_owned(),
        format!("pin = {{ standard = \"sha256:{}\" }}", "0".repeat(64)),
    ] {
        release.scratch.write("wrong.toml", format!("{}{more}\n", SMALL.replace("{version}", digest)));
        let run =
            release.scratch.sealift(&EXPORT.replace("release.toml", "wrong.toml").replace("bundle", "wrong"));
        run.fails(2, "ManifestInvalid").says("wrong.toml:12:");
    }
    let absent = format!("sha256:{}", "0".repeat(64));
    release.scratch.write("wrong.toml", SMALL.replace("{version}", &absent));
    let run =
        release.scratch.sealift(&EXPORT.replace("release.toml", "wrong.toml").replace("bundle", "wrong"));
    run.fails(1, "NotFound").says("no document of that digest");
}

#[test]
fn what_others_have_attached_meanwhile_stays_listed() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let registry = Registry::start();
    let to = registry.address();
    release.import(&to, "").ok();
    // Somebody at the site signs it, too: another release carries that signature alone.
    let mut layout = Layout::new(release.scratch.path("signed"));
    let top = layout.image(&Image {
        platforms: vec!["linux/amd64", "linux/arm64"],
        layer: 300,
        ..Image::new("tool")
    });
    layout.name("registry.example.com/tools/tool:1.0.0", top.clone());
    let own = layout.artifact(SIGNATURE, b"seen at the site", Some(&top));
    layout.unnamed(own.clone());
    release
        .scratch
        .sealift(&EXPORT.replace("oci:images", "oci:signed").replace("bundle.tar", "signed.tar"))
        .ok();
    let import = format!("import signed.tar --trust trust --to {to} --state other");
    release.scratch.sealift(&import).ok();
    let tag = release.subjects[0].replace(':', "-");
    let mut expected = release.attached_to(&release.subjects[0]);
    expected.push(digest(&own));
    expected.sort();
    let (_, index) = registry.get(&format!("/v2/tools/tool/manifests/{tag}"));
    assert_eq!(listed(&index), expected);
}

#[test]
fn a_registry_with_the_api_lists_them_and_gives_all_back() {
    let release = Release::new();
    let serving = Serving::start(&release.scratch, "store:store --writable");
    release.import(&serving.address, "").ok();
    for subject in release.subjects.iter().chain(release.referrers.iter().map(|(_, one)| one)) {
        let reply = serving.get(&format!("/v2/tools/tool/referrers/{subject}"));
        assert_eq!((reply.status, listed(&reply.body)), (200, release.attached_to(subject)));
    }
    let tags = serving.get("/v2/tools/tool/tags/list").json();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 1 + release.tags.len(), "no fallback tags: {tags}");
    release.is_whole_at(&serving.address);
    assert_eq!(release.import(&serving.address, "--json").ok().json()["sent"], 0);
}

#[test]
fn stores_and_layouts_take_all_and_give_all_back() {
    let release = Release::new();
    for place in ["store:there", "oci:layout"] {
        release.import(place, "").ok();
        release.is_whole_at(place);
        let again = release.import(place, "--json").ok().json();
        assert_eq!(
            (&again["sent"], &again["verified"]),
            (&json!(0), &json!("documents")),
            "{place}: {again}"
        );
    }
    let check = release.scratch.sealift("store check there").ok();
    assert_eq!(check.code, 0, "{check}");
}

#[test]
fn a_served_bundle_lists_them() {
    let release = Release::new();
    let serving = Serving::start(&release.scratch, "bundle.tar --trust trust");
    for subject in &release.subjects {
        let reply = serving.get(&format!("/v2/tools/tool/referrers/{subject}"));
        assert_eq!((reply.status, listed(&reply.body)), (200, release.attached_to(subject)));
    }
    for (tag, expected) in &release.tags {
        let reply = serving.get(&format!("/v2/tools/tool/manifests/{tag}"));
        assert_eq!((reply.status, reply.header("docker-content-digest")), (200, expected.as_str()));
    }
    release.is_whole_at(&serving.address);
}

#[test]
fn what_speaks_of_a_platform_stays_behind_with_it() {
    let release = Release::new();
    release.import("oci:part", "--platform linux/arm64").ok();
    let index: Value = serde_json::from_slice(&release.scratch.read("part/index.json")).unwrap();
    let attached: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["annotations"]["io.containerd.manifest.subject"].as_str())
        .collect();
    assert!(attached.contains(&release.subjects[0].as_str()));
    assert!(attached.contains(&release.subjects[2].as_str()));
    assert!(!attached.contains(&release.subjects[1].as_str()));
}

#[test]
fn nothing_is_taken_along_where_the_manifest_says_so() {
    let release = Release::new();
    let manifest = SMALL.replace("\n[[image]]", "referrers = false\n\n[[image]]");
    release.scratch.write("release.toml", manifest);
    release.scratch.sealift(&EXPORT.replace("bundle.tar", "bare.tar")).ok();
    let run = release.scratch.sealift("inspect bare.tar --trust trust --json").ok();
    assert_eq!(run.json()["statement"]["images"][0]["referrers"], json!([]));
}

#[test]
fn a_list_that_cannot_be_read_ends_the_export() {
    let release = Release::new();
    // The fallback tag leads to a list of something that names another subject.
    let mut layout = Layout::new(release.scratch.path("liar"));
    let top = layout.image(&Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") });
    layout.name("registry.example.com/tools/tool:1.0.0", top.clone());
    let stray = layout.artifact(SIGNATURE, b"of something else", None);
    let list = layout.document(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [stray],
    }));
    layout.name(&format!("registry.example.com/tools/tool:{}", digest(&top).replace(':', "-")), list);
    let run =
        release.scratch.sealift(&EXPORT.replace("oci:images", "oci:liar").replace("bundle.tar", "no.tar"));
    run.fails(3, "DocumentInvalid").says("referrers = false");
    assert!(!release.scratch.has("no.tar"));
}

/// Exports the small release from a registry that answers so to the question what is attached.
fn exported_where(answer: fn() -> Answer) -> support::Run {
    let scratch = Scratch::with_small_release();
    let asked = move |request: &Request, _: &[u8]| request.path.contains("/referrers/").then(answer);
    let registry = served(scratch.path("images"), asked);
    let place = registry.address.to_string();
    scratch.sealift(&EXPORT.replace("oci:images", &place))
}

#[test]
fn nothing_attached_is_told_apart_from_nobody_answering() {
    let absent: [fn() -> Answer; 5] = [
        || Answer::new(404),
        || Answer::new(400),
        || Answer::new(405),
        || Answer::new(200).header("Content-Type", "text/html").body("<html>anything goes</html>"),
        || Answer::new(200).header("Content-Type", INDEX).body(r#"{"schemaVersion":2,"manifests":[]}"#),
    ];
    for answer in absent {
        exported_where(answer).ok();
    }
    exported_where(|| Answer::new(403)).fails(1, "Auth").says("cannot ask what is attached");
    // A list that goes on at a stranger's, and one that is no list.
    exported_where(|| {
        let next = "<http://127.0.0.2:1/v2/x>; rel=\"next\"";
        Answer::new(200)
            .header("Content-Type", INDEX)
            .header("Link", next)
            .body(r#"{"schemaVersion":2,"manifests":[]}"#)
    })
    .fails(1, "RedirectForbidden");
    exported_where(|| Answer::new(200).header("Content-Type", INDEX).body("[]")).fails(3, "DocumentInvalid");
    // One that goes on nobody understands where, and one that goes on where it is.
    for link in ["/v2/more; rel=next", "<?>; rel=next"] {
        let scratch = Scratch::with_small_release();
        let registry = served(scratch.path("images"), move |request, _| {
            let path = request.path.split('?').next().unwrap_or_default().to_owned();
            let list = r#"{"schemaVersion":2,"manifests":[]}"#;
            request.path.contains("/referrers/").then(|| {
                let link = link.replace('?', &path);
                Answer::new(200).header("Content-Type", INDEX).header("Link", link).body(list)
            })
        });
        let place = registry.address.to_string();
        scratch.sealift(&EXPORT.replace("oci:images", &place)).fails(1, "RegistryCorrupt");
        scratch.holds_no_bundle();
    }
}

#[test]
fn no_image_is_named_whose_signatures_cannot_be_found() {
    let release = Release::new();
    // A registry that takes everything, and lists nothing.
    let tags = std::sync::Arc::new(std::sync::Mutex::new(0));
    let seen = tags.clone();
    let server = support::lying::Lying::start(move |request, _| {
        let (method, path) = (request.method.as_str(), request.path.as_str());
        if method == "PUT" && path.ends_with("/manifests/1.0.0") {
            *seen.lock().unwrap() += 1;
        }
        match method {
            _ if path == "/v2/" => Answer::new(200),
            "GET" if path.contains("/referrers/") => {
                Answer::new(200).header("Content-Type", INDEX).body(r#"{"schemaVersion":2,"manifests":[]}"#)
            }
            "POST" => Answer::new(202).header("Location", "/v2/tools/tool/blobs/uploads/1"),
            "PATCH" => Answer::new(202).header("Location", "/v2/tools/tool/blobs/uploads/1"),
            "PUT" => Answer::new(201),
            "DELETE" => Answer::new(202),
            _ => Answer::new(404),
        }
    });
    let run = release.import(&server.address.to_string(), "");
    run.fails(1, "RegistryCorrupt").says("what is attached to a document is not found by it");
    assert_eq!(*tags.lock().unwrap(), 0, "the tag was set");
}

#[test]
fn a_list_that_grows_in_memory_is_refused() {
    let release = Release::new();
    let body = format!(r#"{{"schemaVersion":2,"manifests":[{}{{}}]}}"#, r#"{"":0},"#.repeat(500_000));
    let server = support::lying::Lying::start(move |request, _| match request.path.as_str() {
        "/v2/" => Answer::new(200),
        path if path.contains("/referrers/") => {
            Answer::new(200).header("Content-Type", INDEX).body(body.clone())
        }
        _ => Answer::new(404),
    });
    let run = release.import(&server.address.to_string(), "");
    run.fails(3, "DocumentInvalid").says("at most 10000 entries");
}

#[test]
fn a_long_list_is_read_to_its_end() {
    let release = Release::new();
    // One entry a page.
    let root = release.scratch.path("images");
    let referrers = release.referrers.clone();
    let registry = served(root.clone(), move |request, _| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let (_, subject) = path.split_once("/referrers/")?;
        let page: usize = query.strip_prefix("page=").map_or(0, |text| text.parse().unwrap());
        let all: Vec<_> = referrers.iter().filter(|(known, _)| known == subject).collect();
        let entry = all.get(page).map(|(_, digest)| {
            let size = std::fs::metadata(root.join("blobs").join(digest.replace(':', "/"))).unwrap().len();
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size })
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entry.into_iter().collect::<Vec<_>>() });
        let answer = Answer::new(200).header("Content-Type", INDEX).body(index.to_string());
        Some(match page + 1 < all.len() {
            true => answer.header("Link", format!("<{path}?page={}>; rel=\"next\"", page + 1)),
            false => answer,
        })
    });
    let run = release.scratch.sealift(
        &EXPORT.replace("oci:images", &registry.address.to_string()).replace("bundle.tar", "paged.tar"),
    );
    run.ok();
    let said = release.scratch.sealift("inspect paged.tar --trust trust --json").ok().json();
    let said = said["statement"]["images"][0]["referrers"].as_array().unwrap().clone();
    let untagged = said.iter().filter(|one| one["tag"].is_null()).count();
    assert_eq!(untagged, release.referrers.len(), "{said:?}");
}

#[test]
fn an_image_that_is_tagged_by_its_own_digest_lists_nothing() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let own = release.subjects[0].replace(':', "-");
    // As a source: the tag is no list of what is attached.
    let mut layout = Layout::new(release.scratch.path("tagged"));
    let top = layout.image(&Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") });
    layout.name("registry.example.com/tools/tool:1.0.0", top.clone());
    layout.name(&format!("registry.example.com/tools/tool:{}", digest(&top).replace(':', "-")), top.clone());
    let export = EXPORT.replace("oci:images", "oci:tagged").replace("bundle.tar", "tagged.tar");
    release.scratch.sealift(&export).ok();
    // As a destination: it is not overwritten with one.
    let registry = Registry::start();
    let to = registry.address();
    let manifest = SMALL.replace("\n[[image]]", "referrers = false\n\n[[image]]");
    let manifest = manifest.replace("\"{version}\"", &format!("\"{own}\""));
    release.scratch.write("own.toml", manifest);
    let export = EXPORT.replace("release.toml", "own.toml").replace("bundle.tar", "own.tar");
    let mut layout = Layout::new(release.scratch.path("own"));
    let top = layout.image(&Image {
        platforms: vec!["linux/amd64", "linux/arm64"],
        layer: 300,
        ..Image::new("tool")
    });
    layout.name(&format!("registry.example.com/tools/tool:{own}"), top);
    release.scratch.sealift(&export.replace("oci:images", "oci:own")).ok();
    release.scratch.sealift(&format!("import own.tar --trust trust --to {to} --state other")).ok();
    release.import(&to, "").fails(4, "TagConflict").says("referrers = false");
    let (status, index) = registry.get(&format!("/v2/tools/tool/manifests/{own}"));
    assert_eq!((status, format!("sha256:{}", support::sha256(&index))), (200, release.subjects[0].clone()));
}
