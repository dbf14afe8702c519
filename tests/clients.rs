//! Other people's clients at the embedded registry: each pulls every image for every platform, and finds
//! the digests that the release has; what they push is kept byte for byte.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};
use support::engines::{Containerd, Docker, Podman};
use support::images::Layout;
use support::parts::Parts;
use support::registry::Registry;
use support::serving::Serving;
use support::site::peers;
use support::{Scratch, peer, sha256};

/// One image for one platform.
struct Wanted {
    /// `nexus/engine:2.1.0`
    name: String,
    platform: String,
    /// Digests of the image, of the platform's manifest, and of its config.
    image: String,
    manifest: String,
    config: String,
}

impl Wanted {
    /// `linux`, `arm` and `v7`.
    fn split(&self) -> (&str, &str, Option<&str>) {
        let parts: Vec<_> = self.platform.split('/').collect();
        (parts[0], parts[1], parts.get(2).copied())
    }

    /// The name without the tag.
    fn repository(&self) -> &str {
        self.name.split_once(':').unwrap().0
    }
}

fn exported() -> (Scratch, Parts) {
    let scratch = Scratch::with_release().exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    (scratch, parts)
}

/// Four images for three platforms each, as the bundle's statement has them.
fn wanted(parts: &Parts) -> Vec<Wanted> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut wanted = Vec::new();
    for image in parts.statement()["images"].as_array().unwrap() {
        for build in image["platforms"].as_array().unwrap() {
            let manifest: Value = serde_json::from_slice(&parts.blob(&build["digest"]).content).unwrap();
            wanted.push(Wanted {
                name: text(&image["source"]).replace("registry.example.com/", ""),
                platform: text(&build["platform"]),
                image: text(&image["digest"]),
                manifest: text(&build["digest"]),
                config: text(&manifest["config"]["digest"]),
            });
        }
    }
    assert_eq!(wanted.len(), 12);
    wanted
}

/// The images' names, each once.
fn names(wanted: &[Wanted]) -> BTreeSet<(&str, &str)> {
    wanted.iter().map(|one| (one.name.as_str(), one.image.as_str())).collect()
}

fn serve(scratch: &Scratch, more: &str) -> Serving {
    Serving::start(scratch, &format!("bundle.tar --trust trust {more}"))
}

/// The authority that a registry prints when it starts.
fn authority(registry: &Serving) -> &str {
    &registry.said[registry.said.find("-----BEGIN").unwrap()..]
}

// Pulling.

#[test]
fn skopeo_copies_each_platform_alone() {
    if !peer("skopeo") {
        return;
    }
    let (scratch, parts) = exported();
    let registry = serve(&scratch, "");
    for one in wanted(&parts) {
        let (os, architecture, variant) = one.split();
        let variant = variant.map(|variant| format!("--override-variant {variant}")).unwrap_or_default();
        let from = format!("docker://{}/{}", registry.address, one.name);
        let copy = format!(
            "--insecure-policy --override-os {os} --override-arch {architecture} {variant} copy --preserve-digests --src-tls-verify=false {from} oci:copy:x"
        );
        scratch.run("skopeo", &copy).ok();
        let index: Value = serde_json::from_slice(&scratch.read("copy/index.json")).unwrap();
        assert_eq!(index["manifests"][0]["digest"], one.manifest, "{} {}", one.name, one.platform);
        for entry in fs::read_dir(scratch.path("copy/blobs/sha256")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let content = scratch.read(format!("copy/blobs/sha256/{name}"));
            assert!(parts.get(&format!("blobs/sha256/{name}")).content == content, "{name}");
        }
        fs::remove_dir_all(scratch.path("copy")).unwrap();
        // And unparsed: what the registry gives out is what was signed.
        for (reference, digest) in [
            (from.clone(), &one.image),
            (format!("{}@{}", from.rsplit_once(':').unwrap().0, one.manifest), &one.manifest),
        ] {
            let raw = scratch.run("skopeo", &format!("inspect --raw --tls-verify=false {reference}")).ok();
            assert_eq!(raw.stdout.as_bytes(), parts.blob(&json!(digest)).content, "{reference}");
        }
    }
}

/// Requires that podman has the image under this name, for this platform.
#[track_caller]
fn podman_has(podman: &Podman, one: &Wanted, name: &str) {
    let inspected = podman.run(&format!("image inspect {name}")).ok().json();
    let (_, architecture, variant) = one.split();
    assert_eq!(inspected[0]["Digest"], one.image, "{name} {}", one.platform);
    assert_eq!(format!("sha256:{}", inspected[0]["Id"].as_str().unwrap()), one.config);
    assert_eq!(inspected[0]["Architecture"], architecture);
    if let Some(variant) = variant {
        // Only newer ones tell.
        assert!([json!(variant), Value::Null].contains(&inspected[0]["Variant"]), "{inspected}");
    }
    let digests = inspected[0]["RepoDigests"].to_string();
    assert!(digests.contains(&one.image) && digests.contains(&one.manifest), "{digests}");
}

#[test]
fn podman_pulls_every_image_for_every_platform() {
    let (scratch, parts) = exported();
    let Some(podman) = Podman::new(&scratch) else { return };
    let registry = serve(&scratch, "");
    for (number, one) in wanted(&parts).iter().enumerate() {
        let name = format!("{}/{}", registry.address, one.name);
        let (os, architecture, variant) = one.split();
        // Both ways of saying what is meant.
        let platform = match (number % 2, variant) {
            (0, _) => format!("--platform {}", one.platform),
            (_, None) => format!("--os {os} --arch {architecture}"),
            (_, Some(variant)) => format!("--os {os} --arch {architecture} --variant {variant}"),
        };
        podman.pull(&format!("--tls-verify=false {platform} {name}")).ok();
        podman_has(&podman, one, &name);
        podman.run("image rm --all --force").ok();
    }
    let absent = format!("--tls-verify=false --platform linux/s390x {}/nexus/engine:2.1.0", registry.address);
    assert_ne!(podman.pull(&absent).code, 0);
}

#[test]
fn podman_trusts_a_self_signed_registry_once_its_authority_is_installed() {
    let (scratch, parts) = exported();
    let Some(podman) = Podman::new(&scratch) else { return };
    let registry = serve(&scratch, "--self-signed");
    let wanted = wanted(&parts);
    let name = format!("{}/{}", registry.address, wanted[0].name);
    let refused = podman.pull(&format!("--platform {} {name}", wanted[0].platform));
    assert!(refused.code != 0 && refused.stderr.contains("x509: "), "{refused}");
    let certificates = scratch.path("home/.config/containers/certs.d").join(&registry.address);
    fs::create_dir_all(&certificates).unwrap();
    fs::write(certificates.join("ca.crt"), authority(&registry)).unwrap();
    for one in wanted.iter().take(3) {
        podman.pull(&format!("--platform {} {name}", one.platform)).ok();
        podman_has(&podman, one, &name);
        podman.run("image rm --all --force").ok();
    }
}

#[test]
fn containerd_pulls_every_image_for_every_platform_from_a_mirror() {
    let (scratch, parts) = exported();
    let Some(containerd) = Containerd::start(&scratch) else { return };
    let registry = serve(&scratch, "--access-log log");
    containerd.mirror("registry.example.com", &format!("http://{}", registry.address), "");
    let wanted = wanted(&parts);
    for one in &wanted {
        let name = format!("registry.example.com/{}", one.name);
        containerd.pull(&format!("--platform {} {name}", one.platform)).ok();
        assert_eq!(containerd.digest(&name), one.image, "{name} {}", one.platform);
        for digest in [&one.image, &one.manifest, &one.config] {
            assert!(containerd.content(digest) == parts.blob(&json!(digest)).content, "{digest}");
        }
        containerd.ctr(&format!("images rm --sync {name}")).ok();
    }
    for (name, digest) in names(&wanted) {
        let name = format!("registry.example.com/{name}");
        containerd.pull(&format!("--all-platforms {name}")).ok();
        assert_eq!(containerd.digest(&name), digest);
        let checked = containerd.ctr(&format!("images check name=={name}")).ok().stdout;
        assert!(checked.contains("complete"), "{checked}");
    }
    // Everything is there, and is what it was.
    for entry in parts.0.iter().filter(|entry| entry.path.starts_with("blobs/")) {
        let digest = entry.path.replace("blobs/sha256/", "sha256:");
        assert!(containerd.content(&digest) == entry.content, "{digest}");
    }
    // And all of it came from here, in the name of the registry that was asked for.
    let log = String::from_utf8(scratch.read("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > wanted.len() * 4, "{}", lines.len());
    for line in lines {
        assert!(line["target"].as_str().unwrap().contains("ns=registry.example.com"), "{line}");
        assert!([200, 206].map(Value::from).contains(&line["status"]), "{line}");
    }
}

#[test]
fn containerd_pulls_from_a_mirror_with_an_authority_of_its_own() {
    let (scratch, parts) = exported();
    let Some(containerd) = Containerd::start(&scratch) else { return };
    let registry = serve(&scratch, "--self-signed");
    scratch.write("ca.pem", authority(&registry));
    let authority = format!("ca = {:?}", scratch.path("ca.pem"));
    containerd.mirror("registry.example.com", &format!("https://{}", registry.address), &authority);
    for (name, digest) in names(&wanted(&parts)) {
        let name = format!("registry.example.com/{name}");
        containerd.pull(&format!("--all-platforms {name}")).ok();
        assert_eq!(containerd.digest(&name), digest);
    }
}

#[test]
fn docker_pulls_every_image_for_every_platform() {
    let (scratch, parts) = exported();
    let Some(docker) = Docker::start(&scratch) else { return };
    let registry = serve(&scratch, "");
    for one in wanted(&parts) {
        let name = format!("{}/{}", registry.address, one.name);
        docker.run(&format!("pull --quiet --platform {} {name}", one.platform)).ok();
        let inspected = docker.run(&format!("image inspect {name}")).ok().json();
        let digest = format!("{}/{}@{}", registry.address, one.repository(), one.image);
        assert_eq!(inspected[0]["RepoDigests"], json!([digest]), "{name} {}", one.platform);
        assert_eq!(
            (&inspected[0]["Id"], &inspected[0]["Architecture"]),
            (&json!(one.config), &json!(one.split().1))
        );
        // It takes one platform of a name at a time.
        docker.run(&format!("image rm --force {name}")).ok();
        let by_digest = format!("{}/{}@{}", registry.address, one.repository(), one.manifest);
        docker.run(&format!("pull --quiet --platform {} {by_digest}", one.platform)).ok();
        docker.run(&format!("image rm --force {by_digest}")).ok();
    }
}

// Parts of blobs.

#[test]
fn curl_gets_the_parts_of_a_blob_that_it_asks_for() {
    if !peer("curl") {
        return;
    }
    let (scratch, parts) = exported();
    scratch.sealift("import bundle.tar --to store:store --trust trust").ok();
    let layer = parts.first_image()[3].clone();
    let (content, last) = (&layer.content, layer.content.len() - 1);
    let digest = layer.path.replace("blobs/sha256/", "sha256:");
    // From a file by the short way, through TLS, and from a store.
    let secure = serve(&scratch, "--self-signed");
    scratch.write("ca.pem", authority(&secure));
    let (plain, store) = (serve(&scratch, ""), Serving::start(&scratch, "store:store --writable"));
    for base in [
        format!("http://{}", plain.address),
        format!("--cacert ca.pem https://{}", secure.address),
        format!("http://{}", store.address),
    ] {
        let address = format!("{base}/v2/nexus/engine/blobs/{digest}");
        // The status, the headers, and what came.
        let get = |more: &str| {
            scratch.remove("got");
            let status = scratch.run(
                "curl",
                &format!("--silent --show-error --dump-header head --output got --write-out %{{http_code}} {more} {address}"),
            );
            let head = String::from_utf8(scratch.read("head")).unwrap().to_lowercase();
            let got = if scratch.has("got") { scratch.read("got") } else { Vec::new() };
            (status.ok().stdout, head, got)
        };
        for (range, from, to) in [
            ("0-0".to_owned(), 0, 0),
            ("0-99".to_owned(), 0, 99),
            ("700-1299".to_owned(), 700, 1299),
            ("700-".to_owned(), 700, last),
            ("-7".to_owned(), last - 6, last),
            (format!("{last}-{}", last + 100), last, last),
            (format!("-{}", last + 100), 0, last),
        ] {
            let (status, head, got) = get(&format!("--range {range}"));
            assert_eq!((status.as_str(), got.as_slice()), ("206", &content[from..=to]), "{address} {range}");
            assert!(head.contains(&format!("content-range: bytes {from}-{to}/{}\r\n", last + 1)), "{head}");
        }
        let (status, head, got) = get(&format!("--range {}-", last + 1));
        assert_eq!(status, "416", "{address}");
        assert!(head.contains(&format!("content-range: bytes */{}\r\n", last + 1)), "{head}");
        assert_eq!(serde_json::from_slice::<Value>(&got).unwrap()["errors"].as_array().unwrap().len(), 1);
        // Only for those who hold the beginning of this very blob.
        for (tag, status) in [
            (format!("\"{digest}\""), "206"),
            ("\"another\"".to_owned(), "200"),
            ("Sat,01Jan2022".to_owned(), "200"),
        ] {
            let (got, head, body) = get(&format!("--range 700-1299 --header If-Range:{tag}"));
            assert_eq!(got, status, "{address} {tag}");
            assert!(head.contains(&format!("etag: \"{digest}\"\r\n")), "{head}");
            assert_eq!(body.len(), if status == "206" { 600 } else { last + 1 });
        }
        // Nothing but the head, and a range changes nothing in it.
        for more in ["--head", "--head --range 0-9"] {
            let (status, head, got) = get(more);
            assert_eq!(status, "200", "{address} {more}");
            assert!(head.contains(&format!("content-length: {}\r\n", last + 1)), "{head}");
            assert!(head.contains("accept-ranges: bytes\r\n"), "{head}");
            // curl writes the head where the body would go.
            assert!(got.is_empty() || got.starts_with(b"HTTP/"), "{address} {more}");
        }
        // And what was broken off is gone on with.
        scratch.write("part", &content[..1000]);
        scratch
            .run("curl", &format!("--silent --show-error --fail --continue-at - --output part {address}"))
            .ok();
        assert!(scratch.read("part") == *content, "{address}");
    }
}

// Archives: a bundle as it is, and what an import makes of it.

/// With something attached to an image and to one of its platforms, in both ways.
fn exported_with_attachments() -> (Scratch, Parts) {
    let scratch = Scratch::with_release();
    let mut layout = Layout::open(scratch.path("images"));
    let top = layout.entry("registry.example.com/nexus/engine:2.1.0");
    let index: Value = serde_json::from_slice(&scratch.read(layout_path("images", &top["digest"]))).unwrap();
    for subject in [&top, &index["manifests"][0]] {
        let sbom = layout.artifact("application/spdx+json", b"packages", Some(subject));
        layout.unnamed(sbom);
        let signature = layout.artifact("", b"signed", None);
        let tag = subject["digest"].as_str().unwrap().replace(':', "-");
        layout.name(&format!("registry.example.com/nexus/engine:{tag}.sig"), signature);
    }
    let scratch = scratch.exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    (scratch, parts)
}

fn layout_path(layout: &str, digest: &Value) -> String {
    format!("{layout}/blobs/{}", digest.as_str().unwrap().replace(':', "/"))
}

/// A bundle, and the archives of all platforms that are made of it.
fn oci_archives(scratch: &Scratch) -> [&'static str; 3] {
    for archive in ["archive.tar", "archive.tar.zst"] {
        scratch.sealift(&format!("import bundle.tar --trust trust --to oci-archive:{archive}")).ok();
    }
    ["bundle.tar", "archive.tar", "archive.tar.zst"]
}

/// For each platform, its archive for Docker.
fn docker_archives(scratch: &Scratch, wanted: &[Wanted]) -> BTreeMap<String, String> {
    let platforms: BTreeSet<_> = wanted.iter().map(|one| one.platform.clone()).collect();
    let archive = |platform: &String| {
        let file = format!("{}.tar", platform.replace('/', "-"));
        let to = format!("--to docker-archive:{file} --platform {platform}");
        scratch.sealift(&format!("import bundle.tar --trust trust {to}")).ok();
        file
    };
    platforms.iter().map(|platform| (platform.clone(), archive(platform))).collect()
}

#[test]
fn skopeo_copies_every_image_out_of_an_archive() {
    if !peer("skopeo") {
        return;
    }
    let (scratch, parts) = exported_with_attachments();
    for archive in oci_archives(&scratch) {
        for (name, digest) in names(&wanted(&parts)) {
            let from = format!("oci-archive:{archive}:registry.example.com/{name}");
            let copy = format!("--insecure-policy copy --all --preserve-digests {from} oci:copy:x");
            scratch.run("skopeo", &copy).ok();
            let index: Value = serde_json::from_slice(&scratch.read("copy/index.json")).unwrap();
            assert_eq!(index["manifests"][0]["digest"], digest, "{archive} {name}");
            for entry in fs::read_dir(scratch.path("copy/blobs/sha256")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let content = scratch.read(format!("copy/blobs/sha256/{name}"));
                assert!(parts.get(&format!("blobs/sha256/{name}")).content == content, "{name}");
            }
            fs::remove_dir_all(scratch.path("copy")).unwrap();
        }
    }
}

#[test]
fn podman_pulls_every_image_for_every_platform_out_of_an_archive() {
    let (scratch, parts) = exported_with_attachments();
    let Some(podman) = Podman::new(&scratch) else { return };
    for archive in oci_archives(&scratch) {
        for one in wanted(&parts) {
            let name = format!("registry.example.com/{}", one.name);
            podman.pull(&format!("--platform {} oci-archive:{archive}:{name}", one.platform)).ok();
            let inspected = podman.run(&format!("image inspect {name}")).ok().json();
            assert_eq!(format!("sha256:{}", inspected[0]["Id"].as_str().unwrap()), one.config, "{name}");
            let digests = inspected[0]["RepoDigests"].to_string();
            assert!(digests.contains(&one.manifest), "{archive} {name}: {digests}");
            podman.run("image rm --all --force").ok();
        }
    }
}

#[test]
fn containerd_imports_every_image_out_of_an_archive() {
    let (scratch, parts) = exported_with_attachments();
    let Some(containerd) = Containerd::start(&scratch) else { return };
    // ctr unpacks no zstd itself.
    for archive in oci_archives(&scratch).into_iter().filter(|archive| archive.ends_with(".tar")) {
        containerd.ctr(&format!("images import --all-platforms --snapshotter native {archive}")).ok();
        for (name, digest) in names(&wanted(&parts)) {
            let name = format!("registry.example.com/{name}");
            assert_eq!(containerd.digest(&name), digest, "{archive} {name}");
            let checked = containerd.ctr(&format!("images check name=={name}")).ok().stdout;
            assert!(checked.contains("complete"), "{checked}");
        }
        // (What has no name is swept away by containerd itself.)
        for one in wanted(&parts) {
            for digest in [&one.image, &one.manifest, &one.config] {
                assert!(
                    containerd.content(digest) == parts.blob(&json!(digest)).content,
                    "{archive} {digest}"
                );
            }
        }
        let listed = containerd.ctr("images ls --quiet").ok().stdout;
        containerd.ctr(&format!("images rm --sync {}", listed.replace('\n', " "))).ok();
    }
}

#[test]
fn skopeo_copies_every_image_out_of_a_docker_archive() {
    if !peer("skopeo") {
        return;
    }
    let (scratch, parts) = exported_with_attachments();
    let wanted = wanted(&parts);
    let archives = docker_archives(&scratch, &wanted);
    for one in &wanted {
        let from = format!("docker-archive:{}:registry.example.com/{}", archives[&one.platform], one.name);
        scratch.run("skopeo", &format!("--insecure-policy copy {from} dir:copy")).ok();
        let manifest: Value = serde_json::from_slice(&scratch.read("copy/manifest.json")).unwrap();
        // It makes a manifest of its own; the image's id stays.
        assert_eq!(manifest["config"]["digest"], one.config, "{} {}", one.name, one.platform);
        fs::remove_dir_all(scratch.path("copy")).unwrap();
    }
}

#[test]
fn podman_loads_a_docker_archive() {
    let (scratch, parts) = exported_with_attachments();
    let Some(podman) = Podman::new(&scratch) else { return };
    let wanted = wanted(&parts);
    for (platform, archive) in docker_archives(&scratch, &wanted) {
        podman.run(&format!("load --quiet --signature-policy podman/policy.json --input {archive}")).ok();
        for one in wanted.iter().filter(|one| one.platform == platform) {
            let inspected = podman.run(&format!("image inspect registry.example.com/{}", one.name));
            let inspected = inspected.ok().json();
            assert_eq!(format!("sha256:{}", inspected[0]["Id"].as_str().unwrap()), one.config);
            assert_eq!(inspected[0]["Architecture"], one.split().1, "{} {platform}", one.name);
        }
        podman.run("image rm --all --force").ok();
    }
}

#[test]
fn docker_loads_a_docker_archive() {
    let (scratch, parts) = exported_with_attachments();
    let Some(docker) = Docker::start(&scratch) else { return };
    let wanted = wanted(&parts);
    for (platform, archive) in docker_archives(&scratch, &wanted) {
        docker.run(&format!("load --quiet --input {archive}")).ok();
        for one in wanted.iter().filter(|one| one.platform == platform) {
            // Both of its names, and one image.
            for name in [one.name.clone(), one.name.replace("2.1.0", "2.1")] {
                let inspected = docker.run(&format!("image inspect registry.example.com/{name}")).ok().json();
                assert_eq!(
                    (&inspected[0]["Id"], &inspected[0]["Architecture"]),
                    (&json!(one.config), &json!(one.split().1)),
                    "{name} {platform}"
                );
            }
        }
        let listed = docker.run("image ls --quiet").ok().stdout.replace('\n', " ");
        docker.run(&format!("image rm --force {listed}")).ok();
    }
}

// Pushing.

/// Everything that two registries list, and that both give out for it.
#[track_caller]
fn same_documents(ours: &Serving, theirs: &Registry) -> usize {
    let get = |path: &str| {
        let (status, body) = theirs.get(path);
        assert_eq!(status, 200, "{path}");
        body
    };
    let catalog: Value = serde_json::from_slice(&get("/v2/_catalog")).unwrap();
    assert_eq!(ours.get("/v2/_catalog").json(), catalog);
    let mut documents = 0;
    for name in catalog["repositories"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let listed: Value = serde_json::from_slice(&get(&format!("/v2/{name}/tags/list"))).unwrap();
        let sorted =
            |list: &Value| -> BTreeSet<String> { serde_json::from_value(list["tags"].clone()).unwrap() };
        assert_eq!(sorted(&ours.get(&format!("/v2/{name}/tags/list")).json()), sorted(&listed));
        for tag in sorted(&listed) {
            for digest in theirs.below(name, &tag).unwrap().unwrap().into_keys() {
                let path = format!("/v2/{name}/manifests/{digest}");
                let reply = ours.get(&path);
                // Blobs, which `below` has hashed.
                if reply.status == 404 {
                    let blob = format!("/v2/{name}/blobs/{digest}");
                    assert!(ours.get(&blob).body == get(&blob), "{blob}");
                    continue;
                }
                let parsed: Value = serde_json::from_slice(&reply.body).unwrap();
                assert_eq!((reply.status, &reply.body), (200, &get(&path)), "{path}");
                assert_eq!(json!(reply.header("content-type")), parsed["mediaType"]);
                assert_eq!(format!("sha256:{}", sha256(&reply.body)), digest);
                documents += 1;
            }
            let path = format!("/v2/{name}/manifests/{tag}");
            assert!(ours.get(&path).body == get(&path), "{path}");
        }
    }
    documents
}

/// Pushed by skopeo, as a whole.
fn skopeo_pushes(scratch: &Scratch, address: &str, wanted: &[Wanted]) {
    for (name, _) in names(wanted) {
        let copy = format!(
            "--insecure-policy copy --all --preserve-digests --dest-tls-verify=false oci:images:registry.example.com/{name} docker://{address}/skopeo/{name}"
        );
        scratch.run("skopeo", &copy).ok();
    }
}

#[test]
fn what_clients_push_is_kept_and_docker_registry_serves_the_same() {
    if !peers() {
        return;
    }
    let (scratch, parts) = exported();
    let wanted = wanted(&parts);
    let registry = Serving::start(&scratch, "store:store --writable");
    let address = &registry.address;
    skopeo_pushes(&scratch, address, &wanted);
    let mut expected: BTreeSet<String> = names(&wanted)
        .iter()
        .map(|(name, _)| format!("skopeo/{}", name.split(':').next().unwrap()))
        .collect();
    // These take images apart, and make their own of them.
    if let Some(podman) = Podman::new(&scratch) {
        for one in wanted.iter().take(3) {
            let (from, to) = (
                format!("{address}/skopeo/{}", one.name),
                format!("{address}/podman/{}-{}", one.name, one.split().1),
            );
            podman.pull(&format!("--tls-verify=false --platform {} {from}", one.platform)).ok();
            podman
                .run(&format!(
                    "push --quiet --tls-verify=false --signature-policy podman/policy.json {from} {to}"
                ))
                .ok();
            podman.run("image rm --all --force").ok();
            podman.pull(&format!("--tls-verify=false --platform {} {to}", one.platform)).ok();
            podman.run("image rm --all --force").ok();
            expected.insert(format!("podman/{}", one.repository()));
        }
    }
    if let Some(docker) = Docker::start(&scratch) {
        for one in wanted.iter().take(3) {
            let (from, to) = (
                format!("{address}/skopeo/{}", one.name),
                format!("{address}/docker/{}-{}", one.name, one.split().1),
            );
            docker.run(&format!("pull --quiet --platform {} {from}", one.platform)).ok();
            docker.run(&format!("tag {from} {to}")).ok();
            docker.run(&format!("push {to}")).ok();
            docker.run(&format!("image rm --force {from} {to}")).ok();
            docker.run(&format!("pull --quiet --platform {} {to}", one.platform)).ok();
            docker.run(&format!("image rm --force {to}")).ok();
            expected.insert(format!("docker/{}", one.repository()));
        }
    }
    // This one sends what it has, whole.
    if let Some(containerd) = Containerd::start(&scratch) {
        for (name, digest) in names(&wanted) {
            let (from, to) = (format!("{address}/skopeo/{name}"), format!("{address}/containerd/{name}"));
            containerd
                .ctr(&format!("images pull --plain-http --snapshotter native --all-platforms {from}"))
                .ok();
            containerd.ctr(&format!("images push --plain-http {to} {from}")).ok();
            let (repository, tag) = name.split_once(':').unwrap();
            let pushed = registry.get(&format!("/v2/containerd/{repository}/manifests/{tag}"));
            assert_eq!(pushed.header("docker-content-digest"), digest);
            expected.insert(format!("containerd/{repository}"));
        }
    }
    let catalog = registry.get("/v2/_catalog").json();
    assert_eq!(catalog["repositories"], json!(expected));
    let theirs = Registry::over(&scratch.path("store"));
    assert!(same_documents(&registry, &theirs) >= 16);
    drop(registry);
    let checked = scratch.sealift("store check store --json").ok().json();
    assert_eq!(checked["findings"], json!([]));
}

#[test]
fn what_clients_pushed_to_docker_registry_is_served_as_it_is() {
    if !peers() {
        return;
    }
    let (scratch, parts) = exported();
    let wanted = wanted(&parts);
    let theirs = Registry::start();
    skopeo_pushes(&scratch, &theirs.address(), &wanted);
    let ours = Serving::start(&scratch, &format!("store:{}", theirs.data().display()));
    assert_eq!(same_documents(&ours, &theirs), 16);
    let Some(podman) = Podman::new(&scratch) else { return };
    for one in wanted.iter().take(3) {
        let name = format!("{}/skopeo/{}", ours.address, one.name);
        podman.pull(&format!("--tls-verify=false --platform {} {name}", one.platform)).ok();
        podman_has(&podman, one, &name);
        podman.run("image rm --all --force").ok();
    }
}
