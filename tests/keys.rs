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

// ── Signatures that are none ─────────────────────────────────────────────────────────────────────

#[test]
fn no_bit_of_a_signature_or_a_key_may_differ() {
    use sealift::trust::{PublicKey, SigningKey};
    let key = SigningKey::generate().unwrap();
    let (text, public) = (b"the sums of a bundle", key.public());
    let good = key.sign(text);
    assert!(public.verifies(text, &good));
    for bit in 0..512 {
        let mut signature = good;
        signature[bit / 8] ^= 1 << (bit % 8);
        assert!(!public.verifies(text, &signature), "bit {bit} of the signature");
    }
    for bit in 0..256 {
        let mut bytes = public.bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // About half of all bit patterns are no points at all.
        let other = PublicKey::from_bytes(&bytes);
        assert!(!other.is_ok_and(|other| other.verifies(text, &good)), "bit {bit} of the key");
    }
}

#[test]
fn a_detached_signature_is_64_raw_bytes_and_nothing_else() {
    use base64::Engine as _;
    let scratch = Scratch::with_small_release();
    scratch.export_small("bundle.tar", "1.0.0", "", &[]);
    scratch.sealift("sign bundle.tar --extract -o sums").ok();
    let good = support::parts::signing_key(&scratch.path("release.key.pem")).sign(&scratch.read("sums"));
    let beside = format!("bundle.tar.{}.sig", scratch.key_id("release.pub.pem"));
    let base64 = base64::engine::general_purpose::STANDARD.encode(good);
    let der = [&[0x03, 0x41, 0x00][..], &good].concat();
    for (what, content) in [
        ("nothing", Vec::new()),
        ("63 bytes", good[..63].to_vec()),
        ("65 bytes", [&good[..], b"\n"].concat()),
        ("base64", base64.clone().into_bytes()),
        ("hex", good.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()),
        ("PEM", format!("-----BEGIN SIGNATURE-----\n{base64}\n-----END SIGNATURE-----\n").into_bytes()),
        ("DER", der),
        ("two of them", [good, good].concat()),
        ("half a .minisig", format!("untrusted comment: x\n{base64}\n").into_bytes()),
    ] {
        scratch.write(&beside, content);
        let run = scratch.sealift("verify bundle.tar --trust trust").fails(3, "SignatureFormat");
        assert!(run.stderr.contains(&beside), "{what}: {run}");
    }
    scratch.write(&beside, vec![b'x'; 100_000]);
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "LimitExceeded");
    scratch.write(&beside, good);
    scratch.sealift("verify bundle.tar --trust trust").ok();
}

#[test]
fn a_key_that_comes_with_the_bundle_is_never_looked_at() {
    use support::parts::{Entry, Parts};
    let scratch = Scratch::with_small_release();
    scratch.key("stranger");
    scratch.export_small("bundle.tar", "1.0.0", "", &["stranger"]);
    let public = scratch.read("stranger.pub.pem");
    for name in ["bundle.tar.pub.pem", "stranger.pub.pem", "release.pub.pem"] {
        scratch.write(name, &public);
    }
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "SignatureUntrusted").says("another channel");
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.0.insert(2, Entry::new("bundle/release.pub.pem", public));
    scratch.write("bundle.tar", parts.write());
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "TarOrder").says("bundle/release.pub.pem");
}

#[test]
fn more_signatures_than_anybody_needs_are_refused() {
    let scratch = Scratch::with_small_release().exported();
    for number in 0..16 {
        scratch.write(format!("bundle.tar.{number:064x}.sig"), [0; 64]);
    }
    scratch.sealift("verify bundle.tar --trust trust").fails(3, "LimitExceeded").says("at most 16");
    scratch.remove(format!("bundle.tar.{:064x}.sig", 0));
    scratch.sealift("verify bundle.tar --trust trust").ok();
}

// ── Key files that cost too much ─────────────────────────────────────────────────────────────────

/// DER: a tag, the length, the content (X.690 §8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ ..128 => vec![short as u8],
        long => vec![0x81, long as u8],
    };
    [&[tag][..], &length, content].concat()
}

/// An encrypted private key whose passphrase takes this much work (RFC 8018 §6.2, RFC 7914 §7).
fn costly(function: &[u8]) -> String {
    use base64::Engine as _;
    let aes = der(
        0x30,
        &[der(0x06, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a]), der(0x04, &[1; 16])].concat(),
    );
    let scheme = der(0x30, &[function, &aes].concat());
    let pbes2 = der(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d]);
    let info = der(0x30, &[der(0x30, &[pbes2, scheme].concat()), der(0x04, &[7; 64])].concat());
    let body = base64::engine::general_purpose::STANDARD.encode(info);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{}\n-----END ENCRYPTED PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

fn scrypt(n: &[u8], r: u8, p: u8) -> Vec<u8> {
    let oid = der(0x06, &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b]);
    let parameters = [der(0x04, &[5; 8]), der(0x02, n), der(0x02, &[r]), der(0x02, &[p])].concat();
    der(0x30, &[oid, der(0x30, &parameters)].concat())
}

fn pbkdf2(rounds: &[u8]) -> Vec<u8> {
    let oid = der(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c]);
    let hmac =
        der(0x30, &[der(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09]), der(0x05, &[])].concat());
    let parameters = [der(0x04, &[5; 8]), der(0x02, rounds), hmac].concat();
    der(0x30, &[oid, der(0x30, &parameters)].concat())
}

#[test]
fn a_key_file_may_not_ask_for_any_amount_of_work() {
    let scratch = Scratch::new();
    scratch.write("pass", "anything");
    let show = |content: String| {
        scratch.write("costly.key.pem", content);
        scratch.chmod("costly.key.pem", 0o600);
        scratch.sealift("key show costly.key.pem --passphrase-file pass")
    };
    // Honest parameters, wrong passphrase: the form itself is understood.
    show(costly(&scrypt(&[0x40, 0x00], 8, 8))).fails(2, "KeyDecrypt");
    show(costly(&pbkdf2(&[0x08, 0x00]))).fails(2, "KeyDecrypt");
    for function in [
        scrypt(&[0x40, 0, 0, 0], 8, 1),
        scrypt(&[0x40, 0x00], 127, 127),
        scrypt(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 127, 127),
        pbkdf2(&[0x7f, 0xff, 0xff, 0xff]),
    ] {
        show(costly(&function)).fails(2, "KeyFormat").says("costly.key.pem");
    }
}

#[test]
fn a_passphrase_is_taken_as_it_is() {
    let scratch = Scratch::new();
    scratch.write("nul", b"before\0after\nnot this line");
    scratch.write("short", b"before\n");
    scratch.write("crlf", b"before\0after\r\n");
    scratch.sealift("key new secret --passphrase-file nul").ok();
    scratch.sealift("key show secret.key.pem --passphrase-file nul").ok();
    scratch.sealift("key show secret.key.pem --passphrase-file crlf").ok();
    scratch.sealift("key show secret.key.pem --passphrase-file short").fails(2, "KeyDecrypt");
    scratch.write("binary", [0xff, 0xfe, 0x00]);
    scratch.sealift("key show secret.key.pem --passphrase-file binary").fails(1, "Io").says("binary");
}
