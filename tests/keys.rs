//! Keys: made, kept from others' eyes, and understood by OpenSSL both ways.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use std::os::unix::fs::PermissionsExt;

use support::{EXPORT, Scratch, peer, sha256};

fn mode(scratch: &Scratch, name: &str) -> u32 {
    scratch.path(name).metadata().unwrap().permissions().mode() & 0o777
}

/// The key id as OpenSSL makes it: SHA-256 of the DER SubjectPublicKeyInfo.
fn openssl_id(scratch: &Scratch, public: &str) -> String {
    scratch.run("openssl", &format!("pkey -pubin -in {public} -outform DER -out {public}.der")).ok();
    let der = scratch.read(format!("{public}.der"));
    assert_eq!(der.len(), 44);
    sha256(&der)
}

#[test]
fn a_new_key_is_its_owners_alone_and_replaces_nothing() {
    let scratch = Scratch::new();
    scratch.write("pass", "correct horse\n");
    let said = scratch.sealift("key new release --passphrase-file pass").ok().stdout;
    assert!(said.contains("release.key.pem") && said.contains("release.pub.pem"), "{said}");
    assert_eq!((mode(&scratch, "release.key.pem"), mode(&scratch, "release.pub.pem")), (0o600, 0o644));
    let text = String::from_utf8(scratch.read("release.key.pem")).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{text}");

    let before = (scratch.read("release.key.pem"), scratch.read("release.pub.pem"));
    scratch.sealift("key new release --no-passphrase").fails(2, "OutputExists");
    std::fs::remove_file(scratch.path("release.key.pem")).unwrap();
    scratch.sealift("key new release --no-passphrase").fails(2, "OutputExists").says("release.pub.pem");
    assert!(!scratch.has("release.key.pem"));
    assert_eq!(scratch.read("release.pub.pem"), before.1);
}

#[test]
fn two_keys_differ() {
    let scratch = Scratch::new();
    scratch.key("one");
    scratch.key("two");
    assert_ne!(scratch.key_id("one.pub.pem"), scratch.key_id("two.pub.pem"));
    assert_eq!(scratch.key_id("one.pub.pem"), scratch.key_id("one.key.pem"));
}

#[test]
fn names_that_are_paths_are_refused() {
    let scratch = Scratch::new();
    for name in ["../release", "a/b", ".hidden", ""] {
        let mut command = scratch.command("key new --no-passphrase");
        command.arg(name);
        support::run(command).fails(2, "Usage").says("--dir");
    }
    scratch
        .sealift("key new release --no-passphrase --dir absent")
        .fails(1, "Io")
        .says("absent/release.key.pem");
    std::fs::create_dir(scratch.path("keys")).unwrap();
    scratch.sealift("key new release --no-passphrase --dir keys").ok();
    assert!(scratch.has("keys/release.key.pem") && scratch.has("keys/release.pub.pem"));
}

#[test]
fn openssl_reads_what_sealift_makes() {
    if !peer("openssl") {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("pass", "correct horse\nthis line is not part of it\n");
    scratch.key("plain");
    scratch.sealift("key new secret --passphrase-file pass").ok();
    for (name, unlock) in [("plain", ""), ("secret", "-passin file:pass")] {
        scratch
            .run("openssl", &format!("pkey -in {name}.key.pem {unlock} -pubout -out {name}.from-private"))
            .ok();
        assert_eq!(scratch.read(format!("{name}.from-private")), scratch.read(format!("{name}.pub.pem")));
        assert_eq!(
            scratch.key_id(&format!("{name}.pub.pem")),
            openssl_id(&scratch, &format!("{name}.pub.pem"))
        );
    }
}

#[test]
fn sealift_reads_what_openssl_makes() {
    if !peer("openssl") {
        return;
    }
    let scratch = Scratch::with_small_release();
    scratch.write("pass", "correct horse\n");
    scratch.run("openssl", "genpkey -algorithm ed25519 -out plain.pem").ok();
    scratch.run("openssl", "pkcs8 -topk8 -in plain.pem -out pbkdf2.pem -v2 aes-256-cbc -v2prf hmacWithSHA256 -passout file:pass").ok();
    scratch.run("openssl", "pkcs8 -topk8 -in plain.pem -out scrypt.pem -scrypt -passout file:pass").ok();
    scratch.run("openssl", "pkey -in plain.pem -pubout -out plain.pub.pem").ok();
    let id = openssl_id(&scratch, "plain.pub.pem");
    scratch.trust("others", &["plain"]);
    let mut bundles = Vec::new();
    for name in ["plain", "pbkdf2", "scrypt"] {
        scratch.chmod(format!("{name}.pem"), 0o600);
        let shown =
            scratch.sealift(&format!("key show {name}.pem --passphrase-file pass --json")).ok().json();
        assert_eq!((&shown["keyId"], &shown["kind"]), (&id.as_str().into(), &"private key".into()));
        scratch.sealift(&format!(
            "export release.toml -o {name}.tar --key {name}.pem --passphrase-file pass --mirror registry.example.com=oci:images"
        )).ok();
        scratch.sealift(&format!("verify {name}.tar --trust others")).ok();
        bundles.push(scratch.read(format!("{name}.tar")));
    }
    assert!(bundles.iter().all(|bundle| *bundle == bundles[0]), "one key, one bundle");
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let scratch = Scratch::with_small_release();
    scratch.write("pass", "correct horse");
    scratch.write("wrong", "battery staple");
    scratch.write("empty", "\ncorrect horse");
    scratch.sealift("key new secret --passphrase-file pass").ok();
    scratch.sealift("key show secret.key.pem --passphrase-file pass").ok();
    scratch
        .sealift("key show secret.key.pem --passphrase-file wrong")
        .fails(2, "KeyDecrypt")
        .says("secret.key.pem");
    scratch
        .sealift("key show secret.key.pem --passphrase-file empty")
        .fails(2, "KeyDecrypt")
        .says("first line is empty");
    scratch.sealift("key show secret.key.pem --passphrase-file absent").fails(1, "Io").says("absent");
    scratch
        .sealift("export release.toml -o bundle.tar --key secret.key.pem --passphrase-file wrong --mirror registry.example.com=oci:images")
        .fails(2, "KeyDecrypt");
    scratch.holds_no_bundle();
}

#[test]
fn a_private_key_that_others_may_read_is_refused() {
    let scratch = Scratch::with_small_release();
    for bits in [0o640, 0o604, 0o660, 0o777] {
        scratch.chmod("release.key.pem", bits);
        scratch
            .sealift(EXPORT)
            .fails(2, "KeyPerms")
            .says("chmod 600 release.key.pem")
            .says(&format!("{bits:04o}"));
        scratch.sealift("key show release.key.pem").fails(2, "KeyPerms");
    }
    scratch.holds_no_bundle();
    scratch.chmod("release.key.pem", 0o400);
    scratch.sealift(EXPORT).ok();
}

#[test]
fn other_files_are_no_signing_keys_and_are_named_for_what_they_are() {
    let scratch = Scratch::with_small_release();
    let private = String::from_utf8(scratch.read("release.key.pem")).unwrap();
    let public = String::from_utf8(scratch.read("release.pub.pem")).unwrap();
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    let torn: String =
        private.lines().take(1).chain(private.lines().skip(2)).map(|l| format!("{l}\n")).collect();
    for (content, says) in [
        (public.clone(), "a public key where a private one is needed"),
        (format!("{private}{private}"), "more than one key"),
        (certificate.to_owned(), "a certificate, not a key"),
        (openssh.to_owned(), "an OpenSSH key"),
        ("hello\n".to_owned(), "not a PEM file"),
        (String::new(), "not a PEM file"),
        (torn, ""),
    ] {
        scratch.write("odd.pem", content);
        scratch.chmod("odd.pem", 0o600);
        scratch
            .sealift(
                "export release.toml -o bundle.tar --key odd.pem --mirror registry.example.com=oci:images",
            )
            .fails(2, "KeyFormat")
            .says("odd.pem")
            .says(says);
    }
    scratch.write("crlf.pem", private.replace('\n', "\r\n"));
    scratch.chmod("crlf.pem", 0o600);
    assert_eq!(scratch.key_id("crlf.pem"), scratch.key_id("release.pub.pem"));
    scratch.holds_no_bundle();
}

#[test]
fn keys_of_other_kinds_are_refused() {
    if !peer("openssl") {
        return;
    }
    let scratch = Scratch::with_small_release().exported();
    for (name, algorithm) in [
        ("rsa", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("ec", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("x25519", "X25519"),
        ("ed448", "ED448"),
    ] {
        scratch.run("openssl", &format!("genpkey -algorithm {algorithm} -out {name}.key.pem")).ok();
        scratch.run("openssl", &format!("pkey -in {name}.key.pem -pubout -out {name}.pub.pem")).ok();
        scratch.chmod(format!("{name}.key.pem"), 0o600);
        scratch.sealift(&format!("key show {name}.key.pem")).fails(2, "KeyFormat").says("Ed25519");
        scratch.sealift(&format!("key show {name}.pub.pem")).fails(2, "KeyFormat").says("Ed25519");
        scratch.trust(name, &[name, "release"]);
        scratch.sealift(&format!("verify bundle.tar --trust {name}")).fails(3, "TrustStore").says(name);
    }
}

#[test]
fn a_key_that_anybody_can_sign_for_is_refused() {
    let scratch = Scratch::with_small_release().exported();
    scratch.trust("store", &["release"]);
    // The identity and the other points of small order that have short encodings (RFC 8032 §5.1.3).
    let keys = [
        "MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "MCowBQYDK2VwAyEA7P///////////////////////////////////////38=",
    ];
    for key in keys {
        scratch.write(
            "store/weak.pem",
            format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"),
        );
        scratch.sealift("verify bundle.tar --trust store").fails(3, "KeyWeak").says("store/weak.pem");
        scratch.sealift("key show store/weak.pem").fails(3, "KeyWeak");
    }
}

#[test]
fn a_prehashed_signature_is_refused_with_a_hint() {
    use support::parts::Parts;
    let scratch = Scratch::with_small_release().exported();
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    let sums = parts.sums().clone();
    // Ed25519ph needs the secret itself: the key's seed is the end of its unencrypted PKCS#8 form.
    let signature = {
        use sha2::Digest as _;
        let pem = String::from_utf8(scratch.read("release.key.pem")).unwrap();
        let seed = seed(&pem);
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        key.sign_prehashed(sha2::Sha512::new_with_prefix(&sums), None).unwrap().to_bytes()
    };
    parts.0[1].content = signature.to_vec();
    scratch.write("bundle.tar", parts.write());
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "SignatureUntrusted").says("Ed25519ph");
}

fn seed(pem: &str) -> [u8; 32] {
    use ed25519_dalek::pkcs8::DecodePrivateKey;
    ed25519_dalek::SigningKey::from_pkcs8_pem(pem).unwrap().to_bytes()
}

#[test]
fn no_output_shows_a_private_key() {
    let scratch = Scratch::with_small_release();
    let pem = String::from_utf8(scratch.read("release.key.pem")).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    for command in [
        "key show release.key.pem",
        "key show release.key.pem --json",
        EXPORT,
        "inspect bundle.tar --trust trust",
    ] {
        let run = scratch.sealift(command).ok();
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{run}");
        assert!(!run.stdout.contains("PRIVATE KEY"), "{run}");
    }
    let bundle = scratch.read("bundle.tar");
    let seed = seed(&pem);
    assert!(!bundle.windows(32).any(|window| window == seed));
}

#[test]
fn a_wrong_signature_in_the_name_of_a_trusted_key_is_refused_beside_a_right_one() {
    let scratch = Scratch::with_small_release().exported();
    let signature = format!("bundle.tar.{}.sig", scratch.key_id("release.pub.pem"));
    scratch.write(&signature, [0; 64]);
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "SignatureUntrusted");
    std::fs::remove_file(scratch.path(&signature)).unwrap();
    scratch.sealift("verify bundle.tar --trust trust").ok();
}
