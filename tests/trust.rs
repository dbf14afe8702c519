//! Trust stores with rules: who may sign what, how many must have, whose keys count no longer; and how
//! one store follows another.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::os::unix::fs::{chown, symlink};

use serde_json::json;
use support::{Run, Scratch, peer};

/// The small release, and keys called a, b and c; the store `trust` holds all of them.
fn with_keys() -> Scratch {
    let scratch = Scratch::with_small_release();
    std::fs::remove_dir_all(scratch.path("trust")).unwrap();
    for key in ["a", "b", "c"] {
        scratch.key(key);
    }
    scratch.trust("trust", &["a", "b", "c"]);
    scratch
}

fn rules(scratch: &Scratch, text: &str) {
    scratch.write("trust/trust.toml", format!("schema = 1\n{text}"));
    scratch.chmod("trust/trust.toml", 0o644);
}

/// verify, and an import that writes nothing where it fails.
#[track_caller]
fn judged(scratch: &Scratch, bundle: &str) -> Run {
    let imported = scratch.sealift(&format!("import {bundle} --to oci:there --trust trust"));
    let verified = scratch.sealift(&format!("verify {bundle} --trust trust"));
    assert_eq!(imported.code, verified.code, "{imported}\n{verified}");
    assert_eq!(scratch.has("there"), imported.code == 0, "{imported}");
    let _ = std::fs::remove_dir_all(scratch.path("there"));
    verified
}

#[track_caller]
fn signers(run: Run) -> Vec<String> {
    let listed = run.ok().json()["signers"].as_array().unwrap().clone();
    listed.iter().map(|signer| signer["name"].as_str().unwrap().to_owned()).collect()
}

// ── How many must have signed ────────────────────────────────────────────────────────────────────

#[test]
fn so_many_keys_must_have_signed_as_the_store_says() {
    let scratch = with_keys();
    rules(&scratch, "threshold = 2");
    scratch.export_small("one.tar", "1.0.0", "", &["a"]);
    judged(&scratch, "one.tar")
        .fails(3, "ThresholdNotMet")
        .says("got 1 (a), expected 2 of ")
        .says("hint: have the others sign it, too: sealift sign");
    scratch.export_small("two.tar", "1.0.0", "", &["a", "c"]);
    judged(&scratch, "two.tar").ok();
    assert_eq!(signers(scratch.sealift("verify two.tar --trust trust --json")), ["a", "c"]);
}

#[test]
fn same_key_twice_counts_once() {
    let scratch = with_keys();
    rules(&scratch, "threshold = 2");
    scratch.export_small("one.tar", "1.0.0", "", &["a"]);
    // Once inside and once beside it; and beside it under another key's name, where it is no signature of that key.
    let id = scratch.key_id("a.pub.pem");
    scratch.sealift("sign one.tar --extract -o sums").ok();
    let signature = support::parts::signing_key(&scratch.path("a.key.pem")).sign(&scratch.read("sums"));
    scratch.write(format!("one.tar.{id}.sig"), signature);
    judged(&scratch, "one.tar").fails(3, "ThresholdNotMet").says("got 1 (a)");
    scratch.write(format!("one.tar.{}.sig", "0".repeat(64)), signature);
    judged(&scratch, "one.tar").fails(3, "ThresholdNotMet").says("got 1 (a)");
    // The same key in the store under two names is one key.
    std::fs::copy(scratch.path("a.pub.pem"), scratch.path("trust/again.pub.pem")).unwrap();
    judged(&scratch, "one.tar").fails(3, "ThresholdNotMet").says("got 1 (a)");
}

#[test]
fn a_key_id_is_a_hint_only() {
    let scratch = with_keys();
    scratch.export_small("none.tar", "1.0.0", "", &[]);
    scratch.sealift("sign none.tar --extract -o sums").ok();
    let key = support::parts::signing_key(&scratch.path("a.key.pem"));
    // A right signature under a strange name counts: the key decides, not what it is called.
    scratch.write(format!("none.tar.{}.sig", "5".repeat(64)), key.sign(&scratch.read("sums")));
    assert_eq!(signers(scratch.sealift("verify none.tar --trust trust --json")), ["a"]);
    // A strange signature under an id that begins like a trusted one does not.
    let mut id = scratch.key_id("b.pub.pem");
    id.replace_range(16.., &"0".repeat(48));
    scratch.export_small("other.tar", "1.0.0", "", &[]);
    scratch.write(format!("other.tar.{id}.sig"), [7; 64]);
    judged(&scratch, "other.tar").fails(3, "SignatureUntrusted").says(&id);
}

#[test]
fn rules_that_make_no_sense_are_refused_before_any_bundle_is_read() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    let id = scratch.key_id("a.pub.pem");
    #[rustfmt::skip]
    let senseless = [
        ("threshold = 0",                                   "a threshold of 0 would trust everybody"),
        ("threshold = 4",                                   "a threshold that can never be met"),
        ("treshold = 2",                                    "trust.toml:2:1"),
        ("threshold = 2\n[[rule]]\nthreshold = 1",          "exclude each other"),
        ("keys = []",                                       "an empty list of keys"),
        ("[[rule]]\nkeys = []",                             "an empty list of keys"),
        ("[[rule]]\nbundles = []",                          "an empty list of bundles"),
        ("[[rule]]\ntiers = []",                            "an empty list of tiers"),
        ("[[rule]]\nbundles = [\"*\"]",                     "not the name of a bundle"),
        ("[[rule]]\nimages = [\"registry.example.com*\"]",  "not the name of an image"),
        ("[[rule]]\nimages = [\"r.example.com/n/*:1\"]",    "not the name of an image"),
        ("[[rule]]\nkeys = [\"d\"]",                        "a key that the store does not hold"),
        ("[[rule]]\nkeys = [\"a\", \"a\"]\nthreshold = 2",  "a key stands twice"),
        ("[[rule]]\nkeys = [\"a\", \"b\"]\nthreshold = 3",  "never be met"),
        ("[[rule]]\nbundles = [\"Small\"]",                 "not the name of a bundle"),
        ("[[rule]]\nbundles = [\"*small\"]",                "not the name of a bundle"),
        ("[[rule]]\ntiers = [\"gold\"]",                    "is not a tier"),
        ("[key.d]\nnot_after = \"2030-01-01T00:00:00Z\"",   "a key that the store does not hold"),
        ("[key.a]\nnot_after = 2030-01-01T00:00:00Z",       "times are in quotes"),
        ("[key.a]\nnot_after = \"soon\"",                   "is not a time"),
        ("[root]\nkeys = [\"a\"]\nthreshold = 2",           "never be met"),
        ("[[revoked]]\nkey = \"a\"\nreason = \"x\"",        "named by its id"),
        ("[[revoked]]\nreason = \"x\"",                     "missing field `key`"),
        ("schema = 2",                                      "duplicate key"),
        ("version = -1",                                    "trust.toml:2:11"),
    ];
    for (text, words) in senseless {
        rules(&scratch, text);
        let run = judged(&scratch, "bundle.tar").fails(3, "TrustStore");
        assert!(run.stderr.contains(words), "{text}: expected {words:?}\n{run}");
    }
    rules(&scratch, &format!("threshold = 3\n[[revoked]]\nkey = \"{id}\"\nreason = \"lost\""));
    judged(&scratch, "bundle.tar")
        .fails(3, "TrustStore")
        .says("at most 2: so many distinct keys that are not revoked");
    scratch.write("trust/trust.toml", "schema = 2\n");
    judged(&scratch, "bundle.tar").fails(3, "TrustStore").says("this version reads schema 1");
    scratch.chmod("trust/trust.toml", 0o664);
    judged(&scratch, "bundle.tar").fails(3, "TrustStore").says("others can change what is trusted");
}

// ── Who may sign what ────────────────────────────────────────────────────────────────────────────

/// The small release under another name or of another tier, with one image, signed by these keys.
#[track_caller]
fn export_as(scratch: &Scratch, bundle: &str, from: &str, to: &str, keys: &[&str]) {
    scratch.write("as.toml", support::SMALL.replacen(from, to, 1));
    let keys: String = keys.iter().map(|key| format!("--key {key}.key.pem ")).collect();
    scratch
        .sealift(&format!("export as.toml -o {bundle} --mirror registry.example.com=oci:images {keys}"))
        .ok();
}

#[test]
fn rules_say_who_may_sign_what() {
    let scratch = with_keys();
    rules(
        &scratch,
        r#"
[[rule]]
bundles   = ["sm*"]
tiers     = ["sovereign", "regulated"]
keys      = ["a", "b"]
threshold = 2
[[rule]]
bundles = ["small"]
tiers   = ["community"]
keys    = ["b"]
[[rule]]
keys = ["a"]
"#,
    );
    // Tier community: the second rule, which asks for b.
    export_as(&scratch, "a.tar", "small", "small", &["a"]);
    judged(&scratch, "a.tar")
        .fails(3, "KeyNotAuthorized")
        .says("keys that may not sign small, tier community")
        .says("got a, expected 1 of ")
        .says("sealift trust show");
    export_as(&scratch, "b.tar", "small", "small", &["b", "c"]);
    judged(&scratch, "b.tar").ok();
    assert_eq!(signers(scratch.sealift("verify b.tar --trust trust --json")), ["b"], "c has no say here");
    // Tier sovereign: the first one, which asks for both.
    export_as(&scratch, "s.tar", "community", "sovereign", &["b"]);
    judged(&scratch, "s.tar").fails(3, "ThresholdNotMet").says("expected 2 of ");
    scratch.sealift("sign s.tar --key a.key.pem").ok();
    judged(&scratch, "s.tar").ok();
    // A tier is what a bundle says of itself: with one that no rule gives it, it does not become one of the rest.
    export_as(&scratch, "d.tar", "community", "developer", &["a"]);
    judged(&scratch, "d.tar")
        .fails(3, "KeyNotAuthorized")
        .says("no rule of the trust store allows this bundle");
    // A bundle that no rule names is one of the rest.
    export_as(&scratch, "other.tar", "\"small\"", "\"other\"", &["a"]);
    judged(&scratch, "other.tar").ok();
    rules(&scratch, "[[rule]]\nbundles = [\"small\"]");
    judged(&scratch, "other.tar")
        .fails(3, "KeyNotAuthorized")
        .says("trust/trust.toml: other, tier community");
}

#[test]
fn a_right_to_some_images_is_no_right_to_others() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    for (images, good) in [
        ("registry.example.com/tools/*", true),
        ("registry.example.com/nexus/*", false),
        ("registry.example.com/tool", false),
        ("registry.example.com/*", true),
    ] {
        rules(&scratch, &format!("[[rule]]\nimages = [{images:?}]"));
        match good {
            true => judged(&scratch, "bundle.tar").ok(),
            false => judged(&scratch, "bundle.tar").fails(3, "KeyNotAuthorized"),
        };
    }
}

#[test]
fn keys_for_the_store_alone_sign_no_bundles() {
    let scratch = with_keys();
    rules(&scratch, "keys = [\"a\", \"b\"]\n[root]\nkeys = [\"c\"]");
    scratch.export_small("c.tar", "1.0.0", "", &["c"]);
    judged(&scratch, "c.tar").fails(3, "KeyNotAuthorized");
    scratch.export_small("a.tar", "1.0.0", "", &["a"]);
    judged(&scratch, "a.tar").ok();
}

#[test]
fn a_revoked_key_counts_no_longer_not_even_for_old_bundles() {
    let scratch = with_keys();
    scratch.export_small("old.tar", "1.0.0", "", &["a"]);
    judged(&scratch, "old.tar").ok();
    let id = scratch.key_id("a.pub.pem");
    rules(&scratch, &format!("[[revoked]]\nkey = \"{id}\"\nreason = \"laptop lost on a train\""));
    judged(&scratch, "old.tar").fails(3, "KeyRevoked").says(&id).says("laptop lost on a train");
    // Whether its file is still there or not.
    std::fs::remove_file(scratch.path("trust/a.pub.pem")).unwrap();
    judged(&scratch, "old.tar").fails(3, "KeyRevoked").says(&id);
    // Somebody else's word is needed, and enough.
    scratch.sealift("sign old.tar --key b.key.pem").ok();
    judged(&scratch, "old.tar").ok();
    assert_eq!(signers(scratch.sealift("verify old.tar --trust trust --json")), ["b"]);
}

#[test]
fn a_key_counts_until_its_end() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    rules(&scratch, "[key.a]\nnot_after = \"2026-11-10T00:00:00Z\"");
    judged(&scratch, "bundle.tar").fails(3, "KeyExpired").says("expected before 2026-11-10T00:00:00Z");
    rules(&scratch, "[key.a]\nnot_after = \"9999-01-01T00:00:00Z\"");
    judged(&scratch, "bundle.tar").ok();
    // Where a second key is enough, the first one's end is no harm.
    rules(&scratch, "[key.a]\nnot_after = \"2026-11-10T00:00:00Z\"");
    scratch.sealift("sign bundle.tar --key b.key.pem").ok();
    judged(&scratch, "bundle.tar").ok();
}

#[test]
fn expired_bundles_pass_only_where_the_store_allows_it() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "expires = \"2026-11-10T00:00:00Z\"", &["a"]);
    judged(&scratch, "bundle.tar").fails(3, "Expired").says("before 2026-11-10T00:00:00Z");
    let verify = "verify bundle.tar --trust trust --allow-expired";
    scratch.sealift(verify).fails(3, "Expired").says("the trust store does not allow expired bundles");
    rules(&scratch, "allow_expired = true");
    judged(&scratch, "bundle.tar").fails(3, "Expired");
    scratch
        .sealift(verify)
        .ok()
        .says("expired at 2026-11-10T00:00:00Z; it is taken because of --allow-expired");
    scratch.sealift("import bundle.tar --to oci:there --trust trust --allow-expired").ok();
}

// ── The store as a place ─────────────────────────────────────────────────────────────────────────

#[test]
fn a_store_that_others_can_change_is_refused() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    symlink("trust", scratch.path("link")).unwrap();
    for link in ["link", "link/"] {
        scratch
            .sealift(&format!("verify bundle.tar --trust {link}"))
            .fails(3, "TrustStore")
            .says("not a link");
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    for place in ["trust", "trust/a.pub.pem"] {
        chown(scratch.path(place), Some(4711), None).unwrap();
        judged(&scratch, "bundle.tar")
            .fails(3, "TrustStore")
            .says("others can change")
            .says("got owner 4711");
        chown(scratch.path(place), Some(0), None).unwrap();
    }
    judged(&scratch, "bundle.tar").ok();
}

#[test]
fn a_store_that_could_be_exchanged_as_a_whole_is_refused() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    std::fs::create_dir(scratch.path("above")).unwrap();
    std::fs::rename(scratch.path("trust"), scratch.path("above/trust")).unwrap();
    let verify = "verify bundle.tar --trust above/trust";
    for (mode, good) in [(0o755, true), (0o775, true), (0o1777, true), (0o757, false), (0o777, false)] {
        scratch.chmod("above", mode);
        match good {
            true => scratch.sealift(verify).ok(),
            false => scratch
                .sealift(verify)
                .fails(3, "TrustStore")
                .says("others can put something else in its place"),
        };
    }
    scratch.chmod("above", 0o755);
    // A link on the way there, in a place where others could exchange it.
    std::fs::create_dir(scratch.path("open")).unwrap();
    symlink("../above", scratch.path("open/way")).unwrap();
    scratch.sealift("verify bundle.tar --trust open/way/trust").ok();
    scratch.chmod("open", 0o777);
    scratch.sealift("verify bundle.tar --trust open/way/trust").fails(3, "TrustStore");
}

#[test]
fn what_looks_like_a_rule_or_a_key_counts_or_is_refused() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    scratch.write("trust/README", "three keys");
    judged(&scratch, "bundle.tar").ok();
    for name in ["TRUST.TOML", "Trust.toml", "rules.toml", "b.PEM"] {
        scratch.write(format!("trust/{name}"), "schema = 1\n");
        judged(&scratch, "bundle.tar").fails(3, "TrustStore").says("that would not count").says(name);
        scratch.remove(format!("trust/{name}"));
    }
    // Two keys of one name: a rule that speaks of it would speak of either.
    std::fs::copy(scratch.path("b.pub.pem"), scratch.path("trust/a.pem")).unwrap();
    judged(&scratch, "bundle.tar").fails(3, "TrustStore").says("two keys of one name");
}

#[test]
fn a_signature_of_another_bundle_beside_this_one_is_named() {
    let scratch = with_keys();
    scratch.export_small("other.tar", "2.0.0", "", &[]);
    scratch.sealift("sign other.tar --key a.key.pem").ok();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    let id = scratch.key_id("a.pub.pem");
    let stale = format!("bundle.tar.{id}.sig");
    std::fs::rename(scratch.path(format!("other.tar.{id}.sig")), scratch.path(&stale)).unwrap();
    for command in ["verify bundle.tar --trust trust", "sign bundle.tar --key a.key.pem"] {
        scratch.sealift(command).fails(3, "SignatureUntrusted").says("Then remove ").says(&stale);
    }
}

#[test]
fn many_strangers_signatures_cost_little() {
    let scratch = with_keys();
    // Sixteen signatures under strange names, over sums as long as can be: tried with a few keys, then no more.
    let mut parts = vec![support::parts::Entry::new("bundle/SHA256SUMS", vec![b'a'; 16 << 20])];
    for number in 0..16 {
        parts.push(support::parts::Entry::new(&format!("bundle/signatures/{number:064x}.sig"), vec![1; 64]));
    }
    parts.push(support::parts::Entry::new("bundle/bundle.json", *b"{}"));
    scratch.write("strange.tar", support::parts::Parts(parts).write());
    let timed = || {
        let began = std::time::Instant::now();
        scratch.sealift("verify strange.tar --trust trust --head").fails(3, "SignatureUntrusted");
        began.elapsed()
    };
    let few = timed();
    for number in 0..40 {
        scratch.key(&format!("k{number}"));
        let name = format!("k{number}.pub.pem");
        std::fs::copy(scratch.path(&name), scratch.path("trust").join(&name)).unwrap();
    }
    let many = timed();
    // 43 keys against 3: without a bound it would be fourteen times as much.
    assert!(many < few * 6, "{many:?} for 43 keys, {few:?} for 3");
}

#[test]
fn show_says_whom_the_store_trusts_and_what_for() {
    let scratch = with_keys();
    let plain = scratch.sealift("trust show --trust trust").ok().stdout;
    assert!(plain.contains("every bundle: 1 of any of the keys"), "{plain}");
    let id = scratch.key_id("c.pub.pem");
    rules(
        &scratch,
        &format!(
            "version = 3\nallow_expired = true\n[key.b]\nnot_after = \"2030-01-01T00:00:00Z\"\n[[rule]]\nbundles = [\"small\"]\ntiers = [\"community\"]\nkeys = [\"a\", \"b\"]\nthreshold = 2\n[[rule]]\n[root]\nkeys = [\"a\"]\n[[revoked]]\nkey = \"{id}\"\nreason = \"lost\\u001b[2J\""
        ),
    );
    let shown = scratch.sealift("trust show --trust trust").ok().stdout;
    for words in [
        "trust: version 3",
        "epoch 0",
        "counts until 2030-01-01T00:00:00Z",
        "revoked: lost\\u{1b}[2J",
        "small of tier community: 2 of a, b",
        "other bundles: 1 of any of the keys",
        "the store itself: 1 of a",
        "expired bundles: with --allow-expired",
    ] {
        assert!(shown.contains(words), "{words} in\n{shown}");
    }
    let json = scratch.sealift("trust show --trust trust --json").ok().json();
    assert_eq!(json["version"], 3);
    assert_eq!(json["root"], json!({ "threshold": 1, "keys": ["a"] }));
    // What changes is said before it does.
    let root = next(&scratch, "four", &["a", "b"], "version = 4\nthreshold = 1");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["a", "b"]);
    let dry = scratch.sealift("trust update bundle.tar --trust trust --dry-run").ok().stdout;
    for line in [
        "- small of tier community: 2 of a, b",
        "+ every bundle: 1 of any of the keys",
        "- expired bundles: with --allow-expired",
        "- key ",
    ] {
        assert!(dry.contains(line), "{line} in\n{dry}");
    }
}

// ── One store follows another ────────────────────────────────────────────────────────────────────

/// A store of these keys and rules, to be carried by a release.
fn next(scratch: &Scratch, name: &str, keys: &[&str], text: &str) -> String {
    scratch.trust(name, keys);
    scratch.write(format!("{name}/trust.toml"), format!("schema = 1\n{text}"));
    format!("trust_root = \"{name}\"")
}

#[test]
fn the_next_store_takes_over_when_keys_of_both_have_signed() {
    let scratch = with_keys();
    rules(&scratch, "version = 1\nthreshold = 2");
    scratch.write("trust/NOTES.txt", "ours");
    let root = next(&scratch, "two", &["b", "c"], "version = 2\nthreshold = 2");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["a", "b"]);

    // Enough for the bundle, and for the store in force; not for the next one.
    judged(&scratch, "bundle.tar")
        .ok()
        .says("the bundle brings version 2 of the trust store, this site has version 1");
    let before = scratch.sealift("trust show --trust trust --json").ok().stdout;
    let refused = scratch.sealift("trust update bundle.tar --trust trust").fails(3, "RootChain");
    refused.says("as many as the store that the bundle brings asks for").says("too few of the keys");
    assert_eq!(scratch.sealift("trust show --trust trust --json").ok().stdout, before);

    scratch.sealift("sign bundle.tar --key c.key.pem").ok();
    let dry = scratch.sealift("trust update bundle.tar --trust trust --dry-run").ok().stdout;
    assert!(dry.contains("version 2 would take the place of version 1"), "{dry}");
    assert_eq!(scratch.sealift("trust show --trust trust --json").ok().stdout, before);

    let done = scratch.sealift("trust update bundle.tar --trust trust/").ok().stdout;
    assert!(done.contains(&format!("- key {} a: counts", scratch.key_id("a.pub.pem"))), "{done}");
    assert!(
        done.contains("version 2 took the place of version 1, which is kept as trust.version-1"),
        "{done}"
    );
    assert_eq!(scratch.read("trust.version-1/NOTES.txt"), b"ours");
    assert!(!scratch.has("trust/a.pub.pem"));
    // The same once more is no harm, and the bundle is good under the new store, too.
    let again = scratch.sealift("trust update bundle.tar --trust trust").ok().stdout;
    assert!(again.contains("has version 2 already"), "{again}");
    judged(&scratch, "bundle.tar").ok();
    // What only former keys signed is not.
    scratch.export_small("former.tar", "1.0.0", "", &["a"]);
    judged(&scratch, "former.tar").fails(3, "SignatureUntrusted");
}

#[test]
fn a_store_that_does_not_follow_is_refused() {
    let scratch = with_keys();
    rules(&scratch, "version = 2");
    let before = scratch.sealift("trust show --trust trust --json").ok().stdout;
    for (name, version, words) in [
        ("older", 1, "an older trust store"),
        ("same", 2, "another trust store than the one in force, of the same version"),
        ("skipping", 4, "first take over the one of version 3"),
    ] {
        let root = next(&scratch, name, &["b"], &format!("version = {version}"));
        scratch.export_small("bundle.tar", "1.0.0", &root, &["a", "b"]);
        scratch.sealift("trust update bundle.tar --trust trust").fails(3, "RootChain").says(words);
        scratch.remove("bundle.tar");
    }
    // Signed by the next one's keys only: not even a bundle to this site.
    scratch.key("d");
    let root = next(&scratch, "foreign", &["d"], "version = 3");
    scratch.export_small("foreign.tar", "1.0.0", &root, &["d"]);
    scratch.sealift("trust update foreign.tar --trust trust").fails(3, "RootChain").says("in force");
    // By the old one's only.
    scratch.export_small("old.tar", "1.0.0", &root, &["a"]);
    scratch
        .sealift("trust update old.tar --trust trust")
        .fails(3, "RootChain")
        .says("that the bundle brings");
    // Of an earlier epoch.
    rules(&scratch, "version = 2\nepoch = 5");
    let root = next(&scratch, "earlier", &["b"], "version = 3\nepoch = 4");
    scratch.export_small("earlier.tar", "1.0.0", &root, &["a", "b"]);
    scratch
        .sealift("trust update earlier.tar --trust trust")
        .fails(3, "RootChain")
        .says("of an earlier epoch");
    rules(&scratch, "version = 2");
    // By nobody's next.
    scratch.export_small("none.tar", "1.0.0", "", &["a"]);
    scratch
        .sealift("trust update none.tar --trust trust")
        .fails(3, "RootChain")
        .says("brings no trust store");
    assert_eq!(scratch.sealift("trust show --trust trust --json").ok().stdout, before);
    assert!(!scratch.has("trust.version-2"));
}

#[test]
fn those_who_come_late_can_still_follow() {
    let scratch = with_keys();
    rules(&scratch, "version = 1");
    let root = next(&scratch, "two", &["b"], "version = 2");
    let expired = format!("expires = \"2026-11-10T00:00:00Z\"\n{root}");
    scratch.export_small("bundle.tar", "1.0.0", &expired, &["a", "b"]);
    judged(&scratch, "bundle.tar").fails(3, "Expired");
    scratch.sealift("trust update bundle.tar --trust trust").ok();
    // But not with keys that had ended when the bundle was made.
    let _ = std::fs::remove_dir_all(scratch.path("trust"));
    scratch.trust("trust", &["a", "b", "c"]);
    rules(&scratch, "version = 1\n[key.a]\nnot_after = \"2029-01-01T00:00:00Z\"\n[root]\nkeys = [\"a\"]");
    let mut parts = support::parts::Parts::read(&scratch.read("bundle.tar"));
    parts.edit_statement(|statement| statement["created"] = "2029-06-01T00:00:00Z".into());
    parts.resum();
    parts.0.retain(|entry| !entry.path.starts_with("bundle/signatures/"));
    scratch.write("late.tar", parts.write());
    for key in ["a", "c"] {
        let key = support::parts::signing_key(&scratch.path(format!("{key}.key.pem")));
        scratch.write(format!("late.tar.{}.sig", key.public().id()), key.sign(parts.sums()));
    }
    scratch.sealift("trust update late.tar --trust trust").fails(3, "RootChain").says("counts no longer");
}

#[test]
fn an_update_that_was_cut_off_can_be_repeated() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = with_keys();
    rules(&scratch, "version = 1");
    scratch.chmod("trust", 0o750);
    let root = next(&scratch, "two", &["b"], "version = 2");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["a", "b"]);
    // Killed while it wrote the next store, and killed before the two were exchanged.
    std::fs::create_dir(scratch.path("trust.next")).unwrap();
    scratch.write("trust.next/half.pem", "-----BEGIN");
    scratch.trust("trust.version-1", &["b"]);
    std::fs::copy(scratch.path("two/trust.toml"), scratch.path("trust.version-1/trust.toml")).unwrap();
    scratch.sealift("trust update bundle.tar --trust trust").ok();
    assert!(!scratch.has("trust.next"));
    assert!(scratch.has("trust.version-1/a.pub.pem") && !scratch.has("trust/a.pub.pem"));
    let mode = std::fs::metadata(scratch.path("trust")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750, "as before");
    // Somebody's own directory in the place is not touched.
    let _ = std::fs::remove_dir_all(scratch.path("trust"));
    std::fs::rename(scratch.path("trust.version-1"), scratch.path("trust")).unwrap();
    std::fs::create_dir(scratch.path("trust.version-1")).unwrap();
    scratch.write("trust.version-1/mine", "");
    scratch.sealift("trust update bundle.tar --trust trust").fails(2, "OutputExists").says("move it away");
    assert!(scratch.has("trust.version-1/mine") && scratch.has("trust/a.pub.pem"));
}

#[test]
fn a_store_that_could_not_be_loaded_is_never_put_in_force() {
    let scratch = with_keys();
    rules(&scratch, "version = 1");
    let root = next(&scratch, "two", &["b"], "version = 2");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["a", "b"]);
    let good = scratch.read("bundle.tar");
    let pem = String::from_utf8(scratch.read("b.pub.pem")).unwrap();
    let long = format!("schema = 1\nversion = 2\n#{}\n", "x".repeat(70_000));
    type Spoil<'a> = &'a dyn Fn(&mut serde_json::Value);
    let spoil: [(&str, Spoil<'_>); 2] = [
        ("too large", &|root| root["trust.toml"] = long.clone().into()),
        ("too many keys", &|root| {
            (0..1001).for_each(|number| root[format!("k{number}.pem")] = pem.clone().into());
        }),
    ];
    for (words, spoil) in spoil {
        let mut parts = support::parts::Parts::read(&good);
        parts.edit_statement(|statement| spoil(&mut statement["trustRoot"]));
        parts.resum();
        parts.resign(&support::parts::signing_key(&scratch.path("a.key.pem")));
        let b = support::parts::signing_key(&scratch.path("b.key.pem"));
        scratch.write("large.tar", parts.write());
        scratch.write(format!("large.tar.{}.sig", b.public().id()), b.sign(parts.sums()));
        for flag in ["", " --dry-run"] {
            let run = scratch.sealift(&format!("trust update large.tar --trust trust{flag}"));
            assert!(run.code == 3 && run.stderr.contains(words), "{run}");
        }
        scratch.sealift("trust show --trust trust").ok();
    }
}

#[test]
fn a_key_for_some_bundles_is_no_key_for_the_store() {
    let scratch = with_keys();
    let rights = "[[rule]]\nbundles = [\"small\"]\nkeys = [\"a\"]\n";
    rules(&scratch, &format!("version = 1\n{rights}"));
    let root = next(&scratch, "two", &["a"], "version = 2");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["a"]);
    judged(&scratch, "bundle.tar").ok();
    scratch
        .sealift("trust update bundle.tar --trust trust")
        .fails(3, "RootChain")
        .says("the trust store does not say who may change it");
    rules(&scratch, &format!("version = 1\n{rights}[root]\nkeys = [\"b\", \"c\"]\nthreshold = 2"));
    scratch
        .sealift("trust update bundle.tar --trust trust")
        .fails(3, "RootChain")
        .says("too few of the keys");
    scratch.sealift("sign bundle.tar --key b.key.pem").ok();
    scratch.sealift("trust update bundle.tar --trust trust").fails(3, "RootChain");
    scratch.sealift("sign bundle.tar --key c.key.pem").ok();
    scratch.sealift("trust update bundle.tar --trust trust").ok();
}

#[test]
fn the_keys_of_root_change_the_store_without_those_that_sign_bundles() {
    let scratch = with_keys();
    let rights = "keys = [\"a\"]\n[root]\nkeys = [\"b\", \"c\"]\nthreshold = 2";
    rules(&scratch, &format!("version = 1\n{rights}"));
    let root = next(&scratch, "two", &["b", "c"], "version = 2");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["b", "c"]);
    judged(&scratch, "bundle.tar").fails(3, "KeyNotAuthorized");
    scratch.sealift("trust update bundle.tar --trust trust").ok();
    judged(&scratch, "bundle.tar").ok();
}

#[test]
fn a_store_travels_only_if_it_could_be_loaded() {
    let scratch = with_keys();
    for (name, keys, text, words) in [
        ("unnumbered", vec!["b"], "", "needs a version"),
        ("empty", vec![], "version = 2", "holds no key"),
        ("never", vec!["b"], "version = 2\nthreshold = 2", "can never be met"),
    ] {
        let root = next(&scratch, name, &keys, text);
        let release = support::SMALL.replace("channel ", &format!("{root}\nchannel "));
        scratch.write("release.toml", release);
        let run = scratch.sealift(support::EXPORT).fails(3, "TrustStore");
        assert!(run.stderr.contains(words), "{run}");
        scratch.holds_no_bundle();
    }
}

#[test]
fn a_store_in_a_bundle_may_not_name_other_files() {
    let scratch = with_keys();
    let root = next(&scratch, "two", &["b"], "version = 2");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["a", "b"]);
    let good = scratch.read("bundle.tar");
    let pem = String::from_utf8(scratch.read("b.pub.pem")).unwrap();
    for name in [
        "../x.pem",
        "/x.pem",
        ".pem",
        "x.toml",
        "a b.pem",
        "x\u{1b}.pem",
        &format!("{}.pem", "x".repeat(200)),
    ] {
        let mut parts = support::parts::Parts::read(&good);
        parts.edit_statement(|statement| statement["trustRoot"][name] = pem.clone().into());
        parts.resum();
        parts.resign(&support::parts::signing_key(&scratch.path("a.key.pem")));
        scratch.write("spoiled.tar", parts.write());
        let run = scratch.sealift("trust update spoiled.tar --trust trust").fails(3, "TrustStore");
        assert!(
            run.stderr.contains("a name that it cannot have") && !run.stderr.contains('\u{1b}'),
            "{name}: {run}"
        );
    }
}

#[test]
fn a_store_in_a_bundle_may_not_be_of_any_size() {
    let scratch = with_keys();
    let root = next(&scratch, "two", &["b"], "version = 2");
    scratch.export_small("bundle.tar", "1.0.0", &root, &["a", "b"]);
    let mut parts = support::parts::Parts::read(&scratch.read("bundle.tar"));
    let rules = format!("schema = 1\nversion = 2\n#{}\n", "x".repeat(1 << 20));
    parts.edit_statement(|statement| statement["trustRoot"]["trust.toml"] = rules.into());
    parts.resum();
    parts.resign(&support::parts::signing_key(&scratch.path("a.key.pem")));
    scratch.write("large.tar", parts.write());
    scratch
        .sealift("trust update large.tar --trust trust")
        .fails(3, "LimitExceeded")
        .says("at most 1048576 bytes");
}

// ── Other programs' signatures ───────────────────────────────────────────────────────────────────

#[test]
fn a_key_that_never_leaves_its_room_signs_by_openssl() {
    if !peer("openssl") {
        return;
    }
    let scratch = with_keys();
    rules(&scratch, "threshold = 2");
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    scratch.sealift("sign bundle.tar --extract").ok();
    scratch
        .run("openssl", "pkeyutl -sign -inkey b.key.pem -rawin -in bundle.tar.SHA256SUMS -out room.sig")
        .ok();
    scratch
        .sealift("sign bundle.tar --attach room.sig --by a.pub.pem")
        .fails(3, "SignatureUntrusted")
        .says("room.sig");
    judged(&scratch, "bundle.tar").fails(3, "ThresholdNotMet");
    scratch.sealift("sign bundle.tar --attach room.sig --by b.pub.pem").ok();
    judged(&scratch, "bundle.tar").ok();
    // Without --by, the store's keys are tried.
    let id = scratch.key_id("b.pub.pem");
    scratch.remove(format!("bundle.tar.{id}.sig"));
    let json = scratch.sealift("sign bundle.tar --attach room.sig --trust trust --json").ok().json();
    assert_eq!(json["keyId"], id);
    assert_eq!(json["signature"], format!("bundle.tar.{id}.sig"));
    judged(&scratch, "bundle.tar").ok();
}

#[test]
fn minisign_verifies_what_sealift_signs_and_the_other_way_round() {
    if !peer("minisign") {
        return;
    }
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &[]);
    scratch.sealift("sign bundle.tar --key a.key.pem --minisig").ok();
    let minisig = format!("bundle.tar.{}.minisig", scratch.key_id("a.pub.pem"));
    scratch.write("a.minisign.pub", scratch.sealift("key show a.pub.pem --minisign").ok().stdout);
    scratch.run("tar", "xf bundle.tar bundle/SHA256SUMS").ok();
    let verified =
        scratch.run("minisign", &format!("-V -p a.minisign.pub -m bundle/SHA256SUMS -x {minisig}")).ok();
    assert!(verified.stdout.contains("sums of bundle.tar"), "{verified}");
    // It counts for sealift, too; with its comment, which is signed as well.
    assert_eq!(signers(scratch.sealift("verify bundle.tar --trust trust --json")), ["a"]);
    let text = String::from_utf8(scratch.read(&minisig)).unwrap();
    scratch.write(&minisig, text.replace("sums of bundle", "sums of Bundle"));
    judged(&scratch, "bundle.tar").fails(3, "SignatureUntrusted");
    scratch.remove(&minisig);

    // minisign's own key and signature: the legacy form is the same signature, the other one is not.
    scratch.run("minisign", "-G -W -p mini.pub -s mini.key").ok();
    scratch.run("minisign", "-S -l -s mini.key -m bundle/SHA256SUMS -x legacy.minisig").ok();
    scratch.run("minisign", "-S -s mini.key -m bundle/SHA256SUMS -x hashed.minisig").ok();
    let pem = scratch.sealift("key show mini.pub").ok().stdout;
    let pem = pem.split_once("-----BEGIN").map(|(_, rest)| format!("-----BEGIN{rest}")).unwrap();
    scratch.write("trust/mini.pub.pem", pem);
    scratch.chmod("trust/mini.pub.pem", 0o644);
    scratch
        .sealift("sign bundle.tar --attach hashed.minisig --trust trust")
        .fails(3, "SignatureFormat")
        .says("minisign -S -l");
    scratch.sealift("sign bundle.tar --attach legacy.minisig --trust trust").ok();
    assert_eq!(signers(scratch.sealift("verify bundle.tar --trust trust --json")), ["mini"]);
}

#[test]
fn signify_verifies_the_same_signature() {
    let Some(program) = ["signify-openbsd", "signify"].into_iter().find(|program| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|directory| directory.join(program).is_file())
    }) else {
        peer("signify-openbsd");
        return;
    };
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &[]);
    scratch.sealift("sign bundle.tar --key a.key.pem --minisig").ok();
    let minisig = scratch.read(format!("bundle.tar.{}.minisig", scratch.key_id("a.pub.pem")));
    let lines: Vec<_> = std::str::from_utf8(&minisig).unwrap().lines().take(2).collect();
    scratch.write("a.sig", format!("{}\n", lines.join("\n")));
    scratch.write("a.signify.pub", scratch.sealift("key show a.pub.pem --minisign").ok().stdout);
    scratch.run("tar", "xf bundle.tar bundle/SHA256SUMS").ok();
    scratch.run(program, "-V -p a.signify.pub -x a.sig -m bundle/SHA256SUMS").ok();
}

// ── sign ─────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn nobody_signs_what_is_not_whole() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    let mut bundle = scratch.read("bundle.tar");
    let end = bundle.len() - 1600;
    bundle[end] ^= 1;
    scratch.write("bundle.tar", &bundle);
    scratch.sealift("sign bundle.tar --key b.key.pem").fails(3, "DigestMismatch");
    scratch.sealift("sign bundle.tar --extract -o sums").ok();
    scratch.write(
        "sums.sig",
        support::parts::signing_key(&scratch.path("b.key.pem")).sign(&scratch.read("sums")),
    );
    scratch.sealift("sign bundle.tar --attach sums.sig --by b.pub.pem").fails(3, "DigestMismatch");
    assert!(!scratch.has(format!("bundle.tar.{}.sig", scratch.key_id("b.pub.pem"))));
}

#[test]
fn signing_again_changes_nothing() {
    let scratch = with_keys();
    scratch.export_small("bundle.tar", "1.0.0", "", &["a"]);
    let inside = scratch.sealift("sign bundle.tar --key a.key.pem").ok().stdout;
    assert!(inside.contains("holds this signature already"), "{inside}");
    let beside = format!("bundle.tar.{}.sig", scratch.key_id("b.pub.pem"));
    scratch.sealift("sign bundle.tar --key b.key.pem").ok();
    let signature = scratch.read(&beside);
    scratch.sealift("sign bundle.tar --key b.key.pem").ok();
    assert_eq!(scratch.read(&beside), signature);
    scratch.sealift("sign bundle.tar --extract -o sums").ok();
    scratch.write("sums", "mine");
    scratch.sealift("sign bundle.tar --extract -o sums").fails(2, "OutputExists");
    assert_eq!(scratch.read("sums"), b"mine");
    assert_eq!(scratch.sealift("sign bundle.tar").code, 2, "sign how?");
}
