//! Images that are signed by cosign with a key: verified when they are sealed, and again where the bundle is opened, from
//! the bundle alone. The signatures are made here, as cosign's specification describes them, by openssl.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::images::{Image, Layout};
use support::parts::{Parts, signing_key};
use support::registry::Registry;
use support::{Run, SMALL, Scratch, peer, piped};

const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const EXPORT: &str =
    "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com=oci:images";

/// A release of one image for two platforms, which asks for a signature by `keys/cosign.pub`.
struct World {
    scratch: Scratch,
    layout: Layout,
    /// The index and its two children.
    subjects: Vec<Value>,
}

/// Where a signature lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lies {
    UnderTag,
    AsReferrer,
    InBundle,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut layout = Layout::new(scratch.path("images"));
        let platforms = vec!["linux/amd64", "linux/arm64"];
        let top = layout.image(&Image { platforms, layer: 300, ..Image::new("tool") });
        layout.name("registry.example.com/tools/tool:1.0.0", top.clone());
        let index = scratch.read(format!("images/blobs/{}", digest(&top).replace(':', "/")));
        let index: Value = serde_json::from_slice(&index).unwrap();
        let mut subjects = vec![top];
        subjects.extend(index["manifests"].as_array().unwrap().iter().cloned());
        scratch.write("release.toml", format!("{SMALL}\n[policy.cosign]\nkeys = [\"keys/cosign.pub\"]\n"));
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        std::fs::create_dir(scratch.path("keys")).unwrap();
        World { scratch, layout, subjects }
    }

    /// With a key pair, whose public half the release asks for.
    fn with(kind: &str) -> Self {
        let world = World::new();
        world.pair("cosign", kind);
        world
    }

    fn pair(&self, name: &str, kind: &str) {
        let kind = match kind {
            "p256" => "EC -pkeyopt ec_paramgen_curve:P-256",
            other => other,
        };
        self.scratch.run("openssl", &format!("genpkey -algorithm {kind} -out keys/{name}.key")).ok();
        self.scratch.run("openssl", &format!("pkey -in keys/{name}.key -pubout -out keys/{name}.pub")).ok();
    }

    /// `text`, signed as cosign signs it: ECDSA with SHA-256, or pure Ed25519.
    fn sign(&self, key: &str, text: &[u8]) -> Vec<u8> {
        self.scratch.write("text", text);
        let ed25519 = format!("pkeyutl -sign -rawin -inkey keys/{key}.key -in text -out text.sig");
        if self.scratch.run("openssl", &ed25519).code != 0 {
            self.scratch
                .run("openssl", &format!("dgst -sha256 -sign keys/{key}.key -out text.sig text"))
                .ok();
        }
        self.scratch.read("text.sig")
    }

    /// A good signature over a subject.
    fn signed(&mut self, key: &str, subject: usize, lies: Lies) {
        let digest = digest(&self.subjects[subject]);
        self.signed_as(key, subject, &digest, lies);
    }

    /// A signature that comes with `subject`, over `said`.
    fn signed_as(&mut self, key: &str, subject: usize, said: &str, lies: Lies) {
        if lies == Lies::InBundle {
            let statement = statement(said, "https://sigstore.dev/cosign/sign/v1");
            return self.enveloped(key, subject, &statement);
        }
        let payload = payload(said);
        let signature = STANDARD.encode(self.sign(key, &payload));
        self.attach(subject, &payload, Some(&signature), lies);
    }

    fn enveloped(&mut self, key: &str, subject: usize, statement: &[u8]) {
        let kind = "application/vnd.in-toto+json";
        let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), statement.len()).into_bytes();
        text.extend_from_slice(statement);
        let bundle = json!({
            "mediaType": BUNDLE,
            "verificationMaterial": { "publicKey": { "hint": "some hint" } },
            "dsseEnvelope": {
                "payload": STANDARD.encode(statement), "payloadType": kind,
                "signatures": [{ "sig": STANDARD.encode(self.sign(key, &text)) }],
            },
        });
        let layer = self.layout.blob(BUNDLE, bundle.to_string().as_bytes());
        self.manifest(subject, BUNDLE, vec![layer], Lies::InBundle);
    }

    /// A payload and what is said to be its signature.
    fn attach(&mut self, subject: usize, payload: &[u8], signature: Option<&str>, lies: Lies) {
        let mut layer = self.layout.blob(SIMPLE, payload);
        layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
        if signature.is_none() {
            layer["annotations"] = json!({});
        }
        self.manifest(subject, ARTIFACT, vec![layer], lies);
    }

    fn manifest(&mut self, subject: usize, kind: &str, layers: Vec<Value>, lies: Lies) {
        let subject = self.subjects[subject].clone();
        let config = self.layout.blob("application/vnd.oci.image.config.v1+json", b"{}");
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        if lies == Lies::UnderTag {
            let tag = format!("{}.sig", digest(&subject).replace(':', "-"));
            let document = self.layout.document(&manifest);
            self.layout.name(&format!("registry.example.com/tools/tool:{tag}"), document);
            return;
        }
        manifest["artifactType"] = json!(kind);
        manifest["config"] = self.layout.blob("application/vnd.oci.empty.v1+json", b"{}");
        manifest["subject"] = json!({ "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"] });
        let document = self.layout.document(&manifest);
        self.layout.unnamed(document);
    }

    #[track_caller]
    fn refused(&self, says: &[&str]) -> Run {
        let run = self.scratch.sealift(EXPORT).fails(4, "PolicyRefused");
        for text in says {
            assert!(run.stderr.contains(text), "expected {text:?}\n{run}");
        }
        self.scratch.holds_no_bundle();
        run
    }
}

fn digest(entry: &Value) -> String {
    entry["digest"].as_str().unwrap().to_owned()
}

fn payload(digest: &str) -> Vec<u8> {
    let critical = json!({
        "identity": { "docker-reference": "registry.example.com/tools/tool" },
        "image": { "docker-manifest-digest": digest },
        "type": "cosign container image signature",
    });
    json!({ "critical": critical, "optional": { "creator": "größer" } }).to_string().into_bytes()
}

fn statement(digest: &str, predicate: &str) -> Vec<u8> {
    let subject =
        json!([{ "digest": { "sha256": digest.trim_start_matches("sha256:") }, "annotations": {} }]);
    let statement =
        json!({ "_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": predicate });
    statement.to_string().into_bytes()
}

/// The first digits of a key's id, computed by other programs.
fn key_id(world: &World, name: &str) -> String {
    world
        .scratch
        .run("openssl", &format!("pkey -pubin -in keys/{name}.pub -outform DER -out {name}.der"))
        .ok();
    support::sha256(&world.scratch.read(format!("{name}.der")))[..16].to_owned()
}

#[test]
fn a_signed_image_is_sealed_and_verified_again_where_the_bundle_is_opened() {
    for kind in ["p256", "ed25519"] {
        for lies in [Lies::UnderTag, Lies::AsReferrer, Lies::InBundle] {
            let mut world = World::with(kind);
            world.signed("cosign", 0, lies);
            let run = world.scratch.sealift(EXPORT);
            assert_eq!(run.code, 0, "{kind} {lies:?}\n{run}");
            let said = world.scratch.sealift("inspect bundle.tar --trust trust --json").ok().json();
            let policy = &said["statement"]["policy"];
            let pem = String::from_utf8(world.scratch.read("keys/cosign.pub")).unwrap();
            assert_eq!(policy["cosign"], json!([{ "keys": [pem] }]), "{kind} {lies:?}");
            let verdict = policy["checks"].as_array().unwrap().iter().find(|check| check["id"] == "cosign");
            assert_eq!(verdict.unwrap()["result"], "pass");
            world.scratch.sealift("verify bundle.tar --trust trust").ok();
            piped(&world.scratch, "bundle.tar", "verify - --trust trust").ok();
            let again = "check bundle.tar --trust trust --rules release.toml";
            world.scratch.sealift(again).ok();
            world.scratch.sealift("import bundle.tar --to oci:there --trust trust").ok();
        }
    }
}

#[test]
fn a_real_registry_gives_signatures_out_in_either_way() {
    if !peer("docker-registry") {
        return;
    }
    for lies in [Lies::UnderTag, Lies::AsReferrer, Lies::InBundle] {
        let mut world = World::with("p256");
        world.signed("cosign", 0, lies);
        world.scratch.sealift(EXPORT).ok();
        let registry = Registry::start();
        let to = registry.address();
        world.scratch.sealift(&format!("import bundle.tar --to {to} --trust trust")).ok();
        let from = EXPORT.replace("oci:images", &to).replace("bundle.tar", "again.tar");
        world.scratch.sealift(&from).ok();
        assert!(world.scratch.read("again.tar") == world.scratch.read("bundle.tar"), "{lies:?}");
    }
}

#[test]
fn an_image_without_a_signature_is_refused() {
    let world = World::with("p256");
    let id = key_id(&world, "cosign");
    world.refused(&["tool/standard", "got no cosign signature,", &format!("by {id}"), "cosign sign --key"]);
    // What is attached to it is no signature.
    let mut world = World::with("p256");
    world.enveloped(
        "cosign",
        0,
        &statement(&digest(&world.subjects[0].clone()), "https://spdx.dev/Document"),
    );
    world.refused(&["got no cosign signature,"]);
}

#[test]
fn a_signature_by_another_key_is_refused() {
    for kind in ["p256", "ed25519"] {
        for lies in [Lies::UnderTag, Lies::AsReferrer, Lies::InBundle] {
            let mut world = World::with(kind);
            world.pair("other", kind);
            world.signed("other", 0, lies);
            let id = key_id(&world, "cosign");
            world.refused(&[
                "tool/standard",
                "one cosign signature, by none of these keys",
                &format!("expected a cosign signature by {id}"),
            ]);
        }
    }
}

#[test]
fn a_signature_for_another_digest_is_refused_and_both_are_named() {
    for lies in [Lies::UnderTag, Lies::AsReferrer, Lies::InBundle] {
        let mut world = World::with("p256");
        let other = format!("sha256:{}", "5".repeat(64));
        world.signed_as("cosign", 0, &other, lies);
        world.refused(&[
            "tool/standard",
            &format!("a cosign signature for another digest: {other}"),
            &key_id(&world, "cosign"),
        ]);
        // A platform's own does not count for the index.
        let mut world = World::with("p256");
        let platform = digest(&world.subjects[1]);
        world.signed_as("cosign", 0, &platform, lies);
        world.refused(&[&platform]);
    }
}

#[test]
fn a_payload_that_was_changed_is_refused() {
    let mut world = World::with("p256");
    let good = payload(&digest(&world.subjects[0]));
    let signature = STANDARD.encode(world.sign("cosign", &good));
    // The same JSON, with one space more.
    let changed = String::from_utf8(good).unwrap().replace(":", ": ");
    world.attach(0, changed.as_bytes(), Some(&signature), Lies::UnderTag);
    world.refused(&["one cosign signature, by none of these keys or over another payload"]);
}

#[test]
fn what_is_no_signature_is_said_to_be_malformed() {
    let subject = digest(&World::new().subjects[0]);
    let good = payload(&subject);
    for (text, signature, says) in [
        (good.clone(), Some("***".to_owned()), "a malformed cosign signature: no base64"),
        (good.clone(), None, "a payload without the annotation dev.cosignproject.cosign/signature"),
        (b"{\"critical\":{}}".to_vec(), Some(String::new()), "not a simple-signing payload"),
        (payload("sha256:00"), Some(String::new()), "does not name an image by its digest"),
        (
            String::from_utf8(good).unwrap().replace("cosign container", "atomic container").into_bytes(),
            Some(String::new()),
            "of another type: got atomic container image signature, expected cosign container image signature",
        ),
    ] {
        let mut world = World::with("p256");
        // An empty one is made here.
        let signature = match signature.as_deref() {
            Some("") => Some(STANDARD.encode(world.sign("cosign", &text))),
            _ => signature,
        };
        world.attach(0, &text, signature.as_deref(), Lies::UnderTag);
        world.refused(&["tool/standard", says]);
    }
}

#[test]
fn a_prehashed_signature_is_refused_and_called_by_its_name() {
    use ed25519_dalek::{Digest, Sha512, SigningKey, pkcs8::spki::EncodePublicKey};
    let mut world = World::new();
    let key = SigningKey::from_bytes(&[7; 32]);
    let pem = key.verifying_key().to_public_key_pem(Default::default()).unwrap();
    world.scratch.write("keys/cosign.pub", pem);
    let payload = payload(&digest(&world.subjects[0]));
    let signature = key.sign_prehashed(Sha512::new_with_prefix(&payload), None).unwrap();
    world.attach(0, &payload, Some(&STANDARD.encode(signature.to_bytes())), Lies::UnderTag);
    world.refused(&["pre-hashed cosign signature (Ed25519ph)", "--tlog-upload=false"]);
}

#[test]
fn one_good_signature_among_others_is_enough() {
    let mut world = World::with("p256");
    world.pair("other", "ed25519");
    world.attach(0, b"{\"no\":1}", Some("***"), Lies::AsReferrer);
    world.signed("other", 0, Lies::AsReferrer);
    world.signed_as("cosign", 0, &format!("sha256:{}", "5".repeat(64)), Lies::InBundle);
    world.refused(&["a cosign signature for another digest"]);
    world.signed("cosign", 0, Lies::UnderTag);
    world.scratch.sealift(EXPORT).ok();
}

#[test]
fn platforms_may_be_signed_one_by_one() {
    let mut world = World::with("ed25519");
    world.signed("cosign", 1, Lies::UnderTag);
    world.refused(&["tool/standard linux/arm64", "got no cosign signature", "as other platforms have one"]);
    world.signed("cosign", 2, Lies::AsReferrer);
    world.scratch.sealift(EXPORT).ok();
    world.scratch.sealift("import bundle.tar --to oci:there --trust trust").ok();
}

#[test]
fn what_no_platform_stands_at_is_not_passed_over() {
    let mut world = World::with("ed25519");
    let subjects = world.subjects.clone();
    let config = world.layout.blob("application/vnd.oci.image.config.v1+json", b"{}");
    let layer = world.layout.blob("application/vnd.oci.image.layer.v1.tar", &[0; 1024]);
    let hidden = world.layout.document(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer],
    }));
    let top = world.layout.document(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [subjects[1], subjects[2], hidden],
    }));
    world.layout.name("registry.example.com/tools/tool:1.0.0", top);
    world.subjects.push(hidden);
    world.signed("cosign", 1, Lies::UnderTag);
    world.signed("cosign", 2, Lies::UnderTag);
    world.refused(&["tool/standard: got no cosign signature", "as other platforms have one"]);
    world.signed("cosign", 3, Lies::UnderTag);
    world.scratch.sealift(EXPORT).ok();
}

#[test]
fn an_image_may_have_a_key_of_its_own() {
    let mut world = World::with("p256");
    world.pair("own", "ed25519");
    world.signed("cosign", 0, Lies::UnderTag);
    let manifest = String::from_utf8(world.scratch.read("release.toml")).unwrap();
    let own = manifest.replace("[policy.cosign]", "cosign_key = \"keys/own.pub\"\n\n[policy.cosign]");
    world.scratch.write("release.toml", &own);
    world.refused(&[&key_id(&world, "own")]);
    world.signed("own", 0, Lies::AsReferrer);
    world.scratch.sealift(EXPORT).ok();
    let said = world.scratch.sealift("inspect bundle.tar --trust trust --json").ok().json();
    assert_eq!(said["statement"]["policy"]["cosign"][1]["image"], "tool");
}

#[test]
fn signatures_that_are_left_behind_cannot_be_asked_for() {
    let mut world = World::with("p256");
    world.signed("cosign", 0, Lies::UnderTag);
    let manifest = String::from_utf8(world.scratch.read("release.toml")).unwrap();
    world.scratch.write("release.toml", format!("referrers = false\n{manifest}"));
    world.scratch.sealift(EXPORT).fails(2, "ManifestInvalid").says("are to be verified, and left behind");
    for (key, kind, says) in [
        (String::new(), "KeyFormat", "not a PEM file"),
        (
            "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n".to_owned(),
            "KeyFormat",
            "a private key",
        ),
    ] {
        world.scratch.write("release.toml", &manifest);
        world.scratch.write("keys/cosign.pub", key);
        world.scratch.sealift(EXPORT).fails(2, kind).says(says);
    }
    world
        .scratch
        .run("openssl", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out keys/large.key")
        .ok();
    world.scratch.run("openssl", "pkey -in keys/large.key -pubout -out keys/cosign.pub").ok();
    world.scratch.sealift(EXPORT).fails(2, "KeyFormat").says("ECDSA over P-256");
}

#[test]
fn a_site_may_ask_for_keys_of_its_own() {
    let mut world = World::with("p256");
    world.pair("other", "p256");
    world.signed("cosign", 0, Lies::UnderTag);
    world.scratch.write("release.toml", SMALL);
    world.scratch.sealift(EXPORT).ok();
    let import = |to: &str, key: &str| {
        format!("import bundle.tar --to {to} --trust trust --cosign-key keys/{key}.pub")
    };
    let run = world.scratch.sealift(&import("oci:there", "other")).fails(3, "SignatureUntrusted");
    assert!(run.stderr.contains("one cosign signature, by none of these keys"), "{run}");
    assert!(!world.scratch.has("there"));
    let either = format!("{} --cosign-key keys/cosign.pub", import("oci:there", "other"));
    world.scratch.sealift(&either).ok();
    // Also where everything is there already.
    world.scratch.sealift(&import("oci:there", "other")).fails(3, "SignatureUntrusted");
    world.scratch.sealift(&import("oci:there", "cosign")).ok();
}

#[test]
fn through_a_pipe_nothing_gets_a_name_before_the_signatures_were_verified() {
    let mut world = World::with("p256");
    world.pair("other", "p256");
    world.signed("cosign", 0, Lies::UnderTag);
    world.signed("cosign", 0, Lies::InBundle);
    world.scratch.write("release.toml", SMALL);
    world.scratch.sealift(EXPORT).ok();
    for to in ["store:there", "oci-archive:there.tar", "oci-archive:there.tar.zst"] {
        let import = |key: &str| format!("import - --to {to} --trust trust --cosign-key keys/{key}.pub");
        piped(&world.scratch, "bundle.tar", &format!("{} --dry-run", import("other")))
            .fails(3, "SignatureUntrusted");
        piped(&world.scratch, "bundle.tar", &import("other")).fails(3, "SignatureUntrusted");
        let tag = "there/docker/registry/v2/repositories/tools/tool/_manifests/tags/1.0.0";
        let named = to.strip_prefix("oci-archive:").unwrap_or(tag);
        assert!(!world.scratch.has(named), "{to}");
        piped(&world.scratch, "bundle.tar", &import("cosign")).ok();
        assert!(world.scratch.has(named), "{to}");
    }
}

#[test]
fn a_statement_that_claims_a_signature_is_not_believed() {
    let mut world = World::with("p256");
    world.pair("other", "p256");
    world.signed("cosign", 0, Lies::UnderTag);
    world.scratch.sealift(EXPORT).ok();
    let other = String::from_utf8(world.scratch.read("keys/other.pub")).unwrap();
    let mut parts = Parts::read(&world.scratch.read("bundle.tar"));
    parts.edit_statement(|statement| statement["policy"]["cosign"][0]["keys"][0] = other.into());
    parts.restate();
    parts.resum();
    parts.resign(&signing_key(&world.scratch.path("release.key.pem")));
    world.scratch.write("forged.tar", parts.write());
    world
        .scratch
        .sealift("verify forged.tar --trust trust")
        .fails(3, "SignatureUntrusted")
        .says("tool/standard");
    piped(&world.scratch, "forged.tar", "verify - --trust trust").fails(3, "SignatureUntrusted");
    world.scratch.sealift("import forged.tar --to oci:there --trust trust").fails(3, "SignatureUntrusted");
    assert!(!world.scratch.has("there"));
    parts.edit_statement(|statement| statement["policy"]["cosign"][0]["keys"][0] = "no key".into());
    parts.restate();
    parts.resum();
    parts.resign(&signing_key(&world.scratch.path("release.key.pem")));
    world.scratch.write("forged.tar", parts.write());
    world.scratch.sealift("verify forged.tar --trust trust").fails(3, "StatementInvalid");
}

#[test]
fn what_was_let_pass_unsigned_is_not_asked_for_again() {
    let world = World::with("p256");
    let manifest = String::from_utf8(world.scratch.read("release.toml")).unwrap();
    world.scratch.write(
        "release.toml",
        manifest.replace("[policy.cosign]", "[policy]\nwarn = [\"cosign\"]\n\n[policy.cosign]"),
    );
    let run = world.scratch.sealift(EXPORT).ok();
    assert!(run.stderr.contains("rule cosign: warn"), "{run}");
    world.scratch.sealift("import bundle.tar --to oci:there --trust trust").ok();
}
