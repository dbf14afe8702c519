//! Damaged, forged and hostile bundles. Each is one mutation of a good bundle and one verdict;
//! whatever it is, verify and import say the same and import leaves no trace.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::sync::Arc;

use sealift::bundle::Bundle;
use sealift::content::Quiet;
use sealift::error::Kind;
use sealift::release::Moment;
use sealift::trust::{Keyring, SigningKey};
use serde_json::{Value, json};
use support::Scratch;
use support::parts::{Entry, Parts, header, signing_key};

/// The same verdict from verify and from import, and nothing written.
fn judged(scratch: &Scratch, bundle: &str, code: i32, kind: &str) -> Result<(), String> {
    for command in [
        format!("verify {bundle} --trust trust"),
        format!("verify {bundle} --trust trust --json"),
        format!("import {bundle} --to oci:destination --trust trust"),
    ] {
        let run = scratch.sealift(&command);
        // An import looks at the documents before the rest: it may find the other of two faults first.
        if !kind.split(" or ").any(|kind| run.is_failure(code, kind)) {
            return Err(format!("expected exit {code} [{kind}]\n{run}"));
        }
    }
    if scratch.has("destination") { Err("the destination was touched".into()) } else { Ok(()) }
}

#[track_caller]
fn refused(scratch: &Scratch, code: i32, kind: &str) {
    judged(scratch, "bundle.tar", code, kind).unwrap();
}

/// Writes each recipe's bundle, judges it, and reports all that were judged otherwise.
#[track_caller]
fn all_refused<'a>(scratch: &Scratch, recipes: impl Iterator<Item = (&'a str, Vec<u8>, &'a str)>) {
    let mut wrong = Vec::new();
    for (name, bundle, kind) in recipes {
        scratch.write("spoiled.tar", bundle);
        if let Err(what) = judged(scratch, "spoiled.tar", 3, kind) {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// ── Bytes changed after signing ──────────────────────────────────────────────────────────────────

type Spoil = fn(&mut Vec<u8>, &Parts);

fn flip(bundle: &mut [u8], at: usize) {
    bundle[at] ^= 1;
}

#[rustfmt::skip]
const DAMAGED: [(&str, Spoil, &str); 38] = [
    // One bit in the content of each kind of entry. The sums and the signature belong together.
    ("a digest in the sums",           |b, p| flip(b, p.0[0].range().start),                         "SignatureUntrusted"),
    ("a path in the sums",             |b, p| flip(b, p.0[0].range().start + 70),                    "SignatureUntrusted"),
    ("the last byte of the sums",      |b, p| flip(b, p.0[0].range().end - 1),                       "SignatureUntrusted"),
    ("R in the signature",             |b, p| flip(b, p.0[1].range().start),                         "SignatureUntrusted"),
    ("S in the signature",             |b, p| flip(b, p.0[1].range().start + 32),                    "SignatureUntrusted"),
    ("the end of the signature",       |b, p| flip(b, p.0[1].range().end - 1),                       "SignatureUntrusted"),
    ("the statement",                  |b, p| flip(b, p.get("bundle/bundle.json").range().start + 9), "DigestMismatch"),
    ("oci-layout",                     |b, p| flip(b, p.get("oci-layout").range().start + 5),        "DigestMismatch"),
    ("index.json",                     |b, p| flip(b, p.get("index.json").range().start + 20),       "DigestMismatch"),
    ("an image index",                 |b, p| flip(b, p.first_image()[0].range().start + 3),         "DigestMismatch"),
    ("a manifest",                     |b, p| flip(b, p.first_image()[1].range().end - 3),           "DigestMismatch"),
    ("a config",                       |b, p| flip(b, p.first_image()[2].range().start + 3),         "DigestMismatch"),
    ("a layer's first byte",           |b, p| flip(b, p.first_image()[3].range().start),             "DigestMismatch"),
    ("a layer's last byte",            |b, p| flip(b, p.first_image()[3].range().end - 1),           "DigestMismatch"),

    // Headers: nothing in them may differ from what the sums and sizes ask for.
    ("the path of the sums",           |b, _| flip(b, 0),                                            "TarHeader"),
    ("the size of the sums",           |b, _| flip(b, 134),                                          "TarHeader"),
    ("the mode of the sums",           |b, _| flip(b, 106),                                          "TarHeader"),
    ("the path of the signature",      |b, p| flip(b, p.0[1].offset),                                "TarOrder"),
    ("the key id of the signature",    |b, p| b[p.0[1].offset + 18] = b'g',                          "TarOrder"),
    ("the size of the signature",      |b, p| flip(b, p.0[1].offset + 134),                          "TarHeader"),
    ("the size of the statement",      |b, p| flip(b, p.get("bundle/bundle.json").offset + 134),     "TarHeader"),
    ("an impossible size",             |b, p| b[p.get("bundle/bundle.json").offset + 124..][..12].fill(0xff), "LimitExceeded"),
    ("the mode of index.json",         |b, p| flip(b, p.get("index.json").offset + 106),             "TarHeader"),
    ("the owner of a blob",            |b, p| flip(b, p.0.last().unwrap().offset + 114),             "TarHeader"),
    ("the time of a blob",             |b, p| flip(b, p.0.last().unwrap().offset + 146),             "TarHeader"),
    ("the checksum of a blob",         |b, p| flip(b, p.0.last().unwrap().offset + 150),             "TarHeader"),
    ("a blob turned into a link",      |b, p| b[p.0.last().unwrap().offset + 156] = b'2',            "TarHeader"),
    ("the user name of a blob",        |b, p| b[p.0.last().unwrap().offset + 265] = b'x',            "TarHeader"),
    ("a hidden byte behind a path",    |b, p| b[p.0.last().unwrap().offset + 99] = b'x',             "TarHeader"),
    ("a hidden byte in a header's end", |b, p| b[p.0.last().unwrap().offset + 511] = b'x',           "TarHeader"),

    // Where nothing may be, nothing is.
    ("padding of the sums",            |b, p| flip(b, p.0[0].padding().end - 1),                     "TarHeader"),
    ("padding of the signature",       |b, p| flip(b, p.0[1].padding().start),                       "TarHeader"),
    ("padding of a layer",             |b, p| flip(b, p.first_image()[3].padding().end - 1),         "TarHeader"),
    ("the first byte of the end",      |b, _| { let end = b.len() - 1024; flip(b, end) },            "TarHeader"),
    ("the last byte of the end",       |b, _| { let end = b.len() - 1; flip(b, end) },               "TarHeader"),
    ("one byte more",                  |b, _| b.push(0),                                             "TrailingData"),
    ("a block of zeros more",          |b, _| b.extend([0; 512]),                                    "TrailingData"),
    ("the bundle twice",               |b, _| b.extend(b.clone()),                                   "TrailingData"),
];

#[test]
fn whatever_was_changed_after_signing_is_refused() {
    let scratch = Scratch::with_release().exported();
    let good = scratch.read("bundle.tar");
    let parts = Parts::read(&good);
    all_refused(
        &scratch,
        DAMAGED.iter().map(|(name, spoil, kind)| {
            let mut bundle = good.clone();
            spoil(&mut bundle, &parts);
            assert_ne!(bundle, good, "{name}");
            (*name, bundle, *kind)
        }),
    );
}

#[test]
fn a_bundle_cut_short_at_any_boundary_is_refused() {
    let scratch = Scratch::with_small_release().exported();
    let good = scratch.read("bundle.tar");
    let parts = Parts::read(&good);
    let mut ends = vec![1, 511, good.len() - 1, good.len() - 512, good.len() - 1024];
    for entry in &parts.0 {
        ends.extend([entry.offset, entry.offset + 512, entry.range().end - 1, entry.range().end]);
    }
    ends.retain(|end| *end > 0);
    all_refused(&scratch, ends.iter().map(|end| ("cut short", good[..*end].to_vec(), "Truncated")));
}

#[test]
fn a_blob_that_changes_after_planning_is_refused() {
    let scratch = Scratch::with_small_release().exported();
    let keyring = Keyring::load(&scratch.path("trust")).unwrap();
    let whole = scratch.read("bundle.tar");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let blobs = Parts::read(&whole).0.split_off(5);
    for blob in blobs {
        let bundle = Bundle::open(&scratch.path("bundle.tar")).unwrap();
        let bundle = bundle.trust(&keyring, Moment::now()).unwrap();
        let wants = bundle.wants().unwrap();
        runtime.block_on(bundle.plan(&wants)).unwrap();
        let mut changed = whole.clone();
        changed[blob.range().start + 1] ^= 1;
        scratch.write("bundle.tar", &changed);
        let verified = runtime.block_on(bundle.verify(2, Arc::new(Quiet)));
        assert_eq!(verified.err().map(|error| error.kind()), Some(Kind::DigestMismatch), "{}", blob.path);
        scratch.write("bundle.tar", &whole);
    }
}

// ── Not a bundle at all ──────────────────────────────────────────────────────────────────────────

#[test]
fn other_files_are_named_for_what_they_are() {
    let scratch = Scratch::with_small_release().exported();
    scratch.run("gzip", "-k bundle.tar").ok();
    for (name, content, words) in [
        ("bundle.tar.gz", None, "gzip"),
        (
            "other.tar",
            Some(Parts(vec![Entry::new("oci-layout", *b"{}")]).write()),
            "tar file that begins with something else",
        ),
        ("text", Some(b"hello".repeat(200)), "no tar header"),
        ("zeros", Some(vec![0; 4096]), "no tar header"),
    ] {
        if let Some(content) = content {
            scratch.write(name, content);
        }
        judged(&scratch, name, 3, "TarHeader").unwrap();
        scratch.sealift(&format!("verify {name} --trust trust")).says(words);
    }
    scratch.write("zstd", [&[0x28, 0xb5, 0x2f, 0xfd][..], &[0; 600]].concat());
    judged(&scratch, "zstd", 3, "FrameInvalid").unwrap();
    scratch.sealift("verify zstd --trust trust").says("zstd -d");
    scratch.write("empty", "");
    judged(&scratch, "empty", 3, "Truncated").unwrap();
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let scratch = Scratch::with_small_release();
    judged(&scratch, "images", 1, "Io").unwrap();
    judged(&scratch, "absent.tar", 1, "Io").unwrap();
    scratch.run("mkfifo", "pipe").ok();
    judged(&scratch, "pipe", 1, "Io").unwrap();
    judged(&scratch, "/dev/zero", 1, "Io").unwrap();
}

#[test]
fn a_pipe_among_keys_and_signatures_is_not_waited_for() {
    let scratch = Scratch::with_small_release().exported();
    let detached = format!("bundle.tar.{}.sig", "a".repeat(64));
    // Bounded from outside: what waits here would wait forever, and swallow signals.
    let sealift = env!("CARGO_BIN_EXE_sealift");
    for pipe in ["trust/x.pem", &detached] {
        scratch.run("mkfifo", pipe).ok();
        let run = scratch.run("timeout", &format!("-k 1 20 {sealift} verify bundle.tar --trust trust"));
        assert!(run.is_failure(1, "Io") || run.is_failure(3, "TrustStore"), "{pipe}\n{run}");
        std::fs::remove_file(scratch.path(pipe)).unwrap();
    }
}

// ── Signatures and the trust store ───────────────────────────────────────────────────────────────

#[test]
fn a_bundle_signed_by_a_stranger_is_refused() {
    let scratch = Scratch::with_small_release();
    scratch.key("stranger");
    scratch.sealift("export release.toml -o bundle.tar --key stranger.key.pem --mirror registry.example.com=oci:images").ok();
    refused(&scratch, 3, "SignatureUntrusted");
    let id = scratch.key_id("stranger.pub.pem");
    scratch.sealift("verify bundle.tar --trust trust").says(&id).says("release");
}

#[test]
fn a_key_that_comes_with_the_bundle_is_not_looked_at() {
    let scratch = Scratch::with_small_release();
    scratch.key("stranger");
    scratch.sealift("export release.toml -o bundle.tar --key stranger.key.pem --mirror registry.example.com=oci:images").ok();
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.0.insert(2, Entry::new("bundle/stranger.pub.pem", scratch.read("stranger.pub.pem")));
    scratch.write("bundle.tar", parts.write());
    refused(&scratch, 3, "TarOrder");
}

#[test]
fn a_bundle_that_somebody_also_signed_is_trusted_for_the_key_that_is_known() {
    let scratch = Scratch::with_small_release();
    scratch.key("stranger");
    scratch.sealift("export release.toml -o bundle.tar --key stranger.key.pem --key release.key.pem --mirror registry.example.com=oci:images").ok();
    let signers = scratch.sealift("verify bundle.tar --trust trust --json").ok().json()["signers"].clone();
    assert_eq!(signers, json!([{ "keyId": scratch.key_id("release.pub.pem"), "name": "release" }]));
}

#[test]
fn an_unsigned_bundle_is_refused() {
    let scratch = Scratch::with_small_release();
    scratch
        .sealift("export release.toml -o bundle.tar --unsigned --mirror registry.example.com=oci:images")
        .ok();
    refused(&scratch, 3, "SignatureMissing");
}

#[test]
fn a_signature_that_was_cut_out_is_missed() {
    let scratch = Scratch::with_small_release().exported();
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.0.remove(1);
    scratch.write("bundle.tar", parts.write());
    refused(&scratch, 3, "SignatureMissing");
}

#[test]
fn a_signature_over_other_sums_does_not_count() {
    let scratch = Scratch::with_small_release().exported();
    let other = Scratch::with_release();
    other.write("release.key.pem", scratch.read("release.key.pem"));
    other.sealift(support::EXPORT).ok();
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.0[1] = Parts::read(&other.read("bundle.tar")).0[1].clone();
    scratch.write("bundle.tar", parts.write());
    refused(&scratch, 3, "SignatureUntrusted");
}

#[test]
fn a_signature_under_a_trusted_name_must_be_that_keys() {
    let scratch = Scratch::with_small_release();
    scratch.key("stranger");
    scratch.sealift("export release.toml -o bundle.tar --key stranger.key.pem --mirror registry.example.com=oci:images").ok();
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.0[1].path = format!("bundle/signatures/{}.sig", scratch.key_id("release.pub.pem"));
    scratch.write("bundle.tar", parts.write());
    refused(&scratch, 3, "SignatureUntrusted");
}

#[test]
fn a_trust_store_that_is_not_fit_trusts_nothing() {
    let scratch = Scratch::with_small_release().exported();
    type Prepare = fn(&Scratch);
    #[rustfmt::skip]
    let stores: [(&str, Prepare, &str); 10] = [
        ("it is missing",            |_| (),                                                                      "there is no trust store"),
        ("it is empty",              |s| s.trust("store", &[]),                                                   "holds no key"),
        ("it holds no .pem file",    |s| { s.trust("store", &[]); s.write("store/key.txt", s.read("release.pub.pem")) }, "holds no key"),
        ("anybody can write to it",  |s| { s.trust("store", &["release"]); s.chmod("store", 0o757) },             "others can change"),
        ("its group can write to it", |s| { s.trust("store", &["release"]); s.chmod("store", 0o775) },            "chmod go-w store"),
        ("anybody can write a key",  |s| { s.trust("store", &["release"]); s.chmod("store/release.pub.pem", 0o666) }, "others can change"),
        ("a private key is in it",   |s| { s.trust("store", &["release"]); s.write("store/release.key.pem", s.read("release.key.pem")) }, "private key"),
        ("one key is damaged",       |s| { s.trust("store", &["release"]); s.write("store/x.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n") }, "store/x.pem"),
        ("it is a file",             |s| s.write("store", s.read("release.pub.pem")),                             "not a directory"),
        ("it is a link",             |s| std::os::unix::fs::symlink(s.path("trust"), s.path("store")).unwrap(),   "not a link"),
    ];
    for (name, prepare, says) in stores {
        prepare(&scratch);
        for command in [
            "verify bundle.tar --trust store",
            "verify --head bundle.tar --trust store",
            "inspect bundle.tar --trust store",
            "import bundle.tar --to oci:destination --trust store",
        ] {
            let run = scratch.sealift(command).fails(3, "TrustStore").says(says);
            assert!(!scratch.has("destination"), "{name}\n{run}");
        }
        let store = scratch.path("store");
        if store.is_dir() && !store.is_symlink() {
            std::fs::remove_dir_all(store).unwrap();
        } else if store.symlink_metadata().is_ok() {
            std::fs::remove_file(store).unwrap();
        }
    }
}

#[test]
fn an_expired_bundle_is_refused() {
    let scratch = Scratch::with_small_release();
    let expires = |time: &str| {
        let line = format!("expires = \"{time}\"\n\n[[image]]");
        scratch.write("release.toml", support::SMALL.replace("[[image]]", &line));
        scratch.sealift(&format!("{} --overwrite", support::EXPORT)).ok();
    };
    expires("2020-01-01T00:00:00Z");
    refused(&scratch, 3, "Expired");
    expires("2999-01-01T00:00:00Z");
    scratch.sealift("verify bundle.tar --trust trust").ok();
}

// ── Validly signed, and still not a bundle ───────────────────────────────────────────────────────

/// Somebody who holds a trusted key writes what they like: re-listed, summed and signed as asked.
type Forge = fn(&mut Parts, &SigningKey);

/// States, sums and signs what is there.
fn seal(parts: &mut Parts, key: &SigningKey) {
    parts.restate();
    parts.resum();
    parts.resign(key);
}

/// Sums and signs; the statement stays what it is.
fn sum_and_sign(parts: &mut Parts, key: &SigningKey) {
    parts.resum();
    parts.resign(key);
}

/// Signs other sums.
fn with_sums(parts: &mut Parts, key: &SigningKey, edit: impl FnOnce(String) -> String) {
    let sums = String::from_utf8(parts.sums().clone()).unwrap();
    *parts.sums() = edit(sums).into_bytes();
    parts.resign(key);
}

/// Edits the statement, then sums and signs.
fn with_statement(parts: &mut Parts, key: &SigningKey, edit: impl FnOnce(&mut Value)) {
    parts.edit_statement(edit);
    sum_and_sign(parts, key);
}

/// Replaces the statement by another text, then sums and signs.
fn with_statement_text(parts: &mut Parts, key: &SigningKey, edit: impl FnOnce(String) -> String) {
    let entry = parts.get_mut("bundle/bundle.json");
    entry.content = edit(String::from_utf8(entry.content.clone()).unwrap()).into_bytes();
    sum_and_sign(parts, key);
}

fn swap(parts: &mut Parts, one: &str, other: &str) {
    let (one, other) = (parts.position(one), parts.position(other));
    parts.0.swap(one, other);
}

fn last_two_blobs(parts: &Parts) -> (String, String) {
    let [.., one, other] = parts.0.as_slice() else { panic!("no blobs") };
    (one.path.clone(), other.path.clone())
}

#[rustfmt::skip]
const FORGED: [(&str, Forge, &str); 43] = [
    // Content that is not asked for, or not there.
    ("a blob that nothing refers to",       |p, k| { p.0.push(Entry::blob("smuggled")); seal(p, k) },                             "BlobUnreferenced"),
    ("a blob that is listed and not there", |p, k| { p.0.push(Entry::blob("absent")); seal(p, k); p.0.pop(); },                   "Truncated"),
    ("a blob that is there and not listed", |p, k| { seal(p, k); p.0.push(Entry::blob("extra")) },                                "TrailingData"),
    ("a layer left out everywhere",         |p, k| { p.0.pop(); seal(p, k) },                                                     "BlobMissing"),
    ("an image's index left out",           |p, k| { let index = p.first_image()[0].path.clone(); p.0.retain(|e| e.path != index); seal(p, k) }, "BlobMissing"),
    ("a file outside the blobs",            |p, k| { p.0.push(Entry::new("README", *b"read me")); seal(p, k) },                   "TarUnexpectedEntry"),
    ("a docker manifest.json",              |p, k| { p.0.insert(5, Entry::new("manifest.json", *b"[]")); seal(p, k) },            "TarUnexpectedEntry"),
    ("a blob under another digest's path",  |p, k| { p.0.last_mut().unwrap().path = Entry::blob("x").path; seal(p, k) },          "TarUnexpectedEntry"),
    ("a blob under blobs/sha512",           |p, k| { let last = p.0.last_mut().unwrap(); last.path = last.path.replace("sha256", "sha512"); seal(p, k) }, "TarUnexpectedEntry"),
    ("a layer exchanged under its path",    |p, k| { p.0.last_mut().unwrap().content[0] ^= 1; seal(p, k) },                       "TarUnexpectedEntry"),
    ("a second index.json",                 |p, k| { let index = p.get("index.json").clone(); p.0.push(index); seal(p, k) },      "SumsFormat"),
    ("no oci-layout",                       |p, k| { let at = p.position("oci-layout"); p.0.remove(at); seal(p, k) },             "TarUnexpectedEntry"),
    ("another oci-layout",                  |p, k| { p.get_mut("oci-layout").content = br#"{"imageLayoutVersion":"1.0.1"}"#.to_vec(); seal(p, k) }, "LayoutInvalid"),

    // Entries in another order.
    ("index.json before oci-layout",        |p, k| { swap(p, "oci-layout", "index.json"); seal(p, k) },                           "TarUnexpectedEntry"),
    ("two layers exchanged",                |p, k| { let (a, b) = last_two_blobs(p); swap(p, &a, &b); seal(p, k) },               "TarOrder"),
    ("two layers exchanged after listing",  |p, k| { seal(p, k); let (a, b) = last_two_blobs(p); swap(p, &a, &b) },               "TarHeader"),
    ("a manifest before its index",         |p, k| { let [index, manifest, ..] = p.first_image().map(|e| e.path.clone()); swap(p, &index, &manifest); seal(p, k) }, "TarOrder"),
    ("the statement after oci-layout",      |p, k| { seal(p, k); swap(p, "bundle/bundle.json", "oci-layout") },                   "TarOrder"),
    ("the signature after the statement",   |p, k| { seal(p, k); p.0.swap(1, 2) },                                                "SignatureMissing"),
    ("the signature twice",                 |p, k| { seal(p, k); let signature = p.0[1].clone(); p.0.insert(1, signature) },      "TarOrder"),

    // Sums that the standard tool would take.
    ("a line twice",                        |p, k| with_sums(p, k, |s| { let last = s.lines().last().unwrap().to_owned(); format!("{s}{last}\n") }), "SumsFormat"),
    ("CRLF",                                |p, k| with_sums(p, k, |s| s.replace('\n', "\r\n")),                                  "SumsFormat"),
    ("a comment",                           |p, k| with_sums(p, k, |s| format!("# hello\n{s}")),                                  "SumsFormat"),
    ("a byte order mark",                   |p, k| with_sums(p, k, |s| format!("\u{feff}{s}")),                                   "SumsFormat"),
    ("binary mode stars",                   |p, k| with_sums(p, k, |s| s.replace("  ", " *")),                                    "SumsFormat"),
    ("upper-case digests",                  |p, k| with_sums(p, k, |s| s.lines().map(|l| format!("{}{}\n", l[..64].to_uppercase(), &l[64..])).collect()), "SumsFormat"),
    ("no end of the last line",             |p, k| with_sums(p, k, |s| s.trim_end().to_owned()),                                  "SumsFormat"),
    ("a way out of the directory",          |p, k| with_sums(p, k, |s| s.replace("oci-layout", "../oci-layout")),                 "SumsFormat"),
    ("an absolute path",                    |p, k| with_sums(p, k, |s| s.replace("oci-layout", "/oci-layout")),                   "SumsFormat"),
    ("some other signed list",              |p, k| with_sums(p, k, |s| s.replace("bundle/bundle.json", "release-notes.txt")),     "SumsFormat"),
    ("a signed letter",                     |p, k| with_sums(p, k, |_| "Dear customer,\n".into()),                                "SumsFormat"),

    // Statements that say something else, or say it otherwise.
    ("an unknown key",                      |p, k| with_statement(p, k, |s| s["zeal"] = json!(true)),                             "StatementInvalid"),
    ("a key twice",                         |p, k| with_statement_text(p, k, |s| s.replacen('{', r#"{"base":null,"#, 1)),         "StatementInvalid"),
    ("white space",                         |p, k| with_statement_text(p, k, |s| format!("{s}\n")),                               "StatementInvalid"),
    ("another type",                        |p, k| with_statement(p, k, |s| s["type"] = json!("application/vnd.sealift.bundle.v2+json")), "StatementInvalid"),
    ("a base",                              |p, k| with_statement(p, k, |s| s["base"] = json!("2.0.0")),                          "StatementInvalid"),
    ("an image without tags",               |p, k| with_statement(p, k, |s| s["images"][0]["tags"] = json!([])),                  "StatementInvalid"),
    ("a first tag that is not the name's",  |p, k| with_statement(p, k, |s| s["images"][0]["tags"] = json!(["other"])),           "StatementInvalid"),
    ("another sum of bytes",                |p, k| with_statement(p, k, |s| s["payloadBytes"] = json!(1)),                        "StatementInvalid"),
    ("another platform",                    |p, k| with_statement(p, k, |s| s["images"][0]["platforms"][0]["platform"] = json!("linux/riscv64")), "StatementInvalid"),
    ("a tag that index.json does not have", |p, k| with_statement(p, k, |s| s["images"][0]["tags"][1] = json!("latest")),         "LayoutInvalid"),
    ("a tag that only index.json has",      |p, k| { let index = p.get_mut("index.json"); index.content = String::from_utf8(index.content.clone()).unwrap().replace("engine:2.1\"", "engine:latest\"").into_bytes(); seal(p, k) }, "LayoutInvalid"),
    ("a size that is a lie",                |p, k| with_statement(p, k, |s| { let last = s["entries"].as_array().unwrap().len() - 1; let size = s["entries"][last]["size"].as_u64().unwrap(); s["entries"][last]["size"] = json!(size + 1); let bytes = s["payloadBytes"].as_u64().unwrap(); s["payloadBytes"] = json!(bytes + 1) }), "TarHeader or TarOrder"),
];

#[test]
fn a_trusted_signature_does_not_excuse_a_wrong_bundle() {
    let scratch = Scratch::with_release().exported();
    let good = scratch.read("bundle.tar");
    let key = signing_key(&scratch.path("release.key.pem"));

    // The helper itself makes good bundles: it can be blamed for no refusal.
    let mut parts = Parts::read(&good);
    seal(&mut parts, &key);
    assert_eq!(parts.write(), good);

    all_refused(
        &scratch,
        FORGED.iter().map(|(name, forge, kind)| {
            let mut parts = Parts::read(&good);
            forge(&mut parts, &key);
            (*name, parts.write(), *kind)
        }),
    );
}

// ── Hostile documents at the source ─────────────────────────────────────────────────────────────

#[test]
fn a_config_for_another_machine_than_the_index_says_is_refused() {
    use support::images::{Image, Layout};
    let scratch = Scratch::with_small_release();
    let image = Image { config_architecture: Some("riscv64"), ..Image::new("tool") };
    Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
    scratch.sealift(support::EXPORT).fails(3, "PlatformMismatch").says("riscv64");
    scratch.holds_no_bundle();
}

#[test]
fn a_source_whose_blobs_are_damaged_gives_no_bundle() {
    let scratch = Scratch::with_release();
    let layer = scratch.sealift(&format!("{} --json", support::EXPORT)).ok();
    assert_eq!(layer.json()["images"], 4);
    let parts = Parts::read(&scratch.read("bundle.tar"));
    std::fs::remove_file(scratch.path("bundle.tar")).unwrap();
    for (number, kind) in
        [(0, "DigestMismatch"), (1, "DigestMismatch"), (2, "DigestMismatch"), (3, "DigestMismatch")]
    {
        let entry = parts.first_image()[number];
        let path = format!("images/{}", entry.path);
        let mut damaged = entry.content.clone();
        damaged[10] ^= 4;
        scratch.write(&path, damaged);
        scratch.sealift(support::EXPORT).fails(3, kind).says("source: ");
        scratch.holds_no_finished_bundle();
        scratch.write(&path, &entry.content[..entry.content.len() - 1]);
        scratch.sealift(support::EXPORT).fails(3, "SizeMismatch").says("source: ");
        scratch.holds_no_finished_bundle();
        scratch.write(&path, &entry.content);
    }
    scratch.sealift(support::EXPORT).ok();
}

#[test]
fn headers_made_here_are_those_of_the_format() {
    // The forgeries above rest on this helper; GNU tar must read what it writes.
    let scratch = Scratch::new();
    let parts = Parts(vec![Entry::new("a/b", *b"hello"), Entry::new("empty", *b"")]);
    scratch.write("x.tar", parts.write());
    assert_eq!(scratch.run("tar", "tf x.tar").ok().stdout, "a/b\nempty\n");
    assert_eq!(header("a/b", 5)[156], b'0');
}
