//! Registries that images go to, and that fail, forget or lie on the way: what is told, what stays there,
//! and that the same command finishes it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use support::lying::{Answer, Lying, Request};
use support::parts::Parts;
use support::site::{Destination, peers};
use support::verdict::{tags, taking_all, taking_all_but, writes};
use support::{NAMES, Run, Scratch, sha256};

fn import(scratch: &Scratch, server: &Lying, more: &str) -> Run {
    scratch.sealift(&format!("import bundle.tar --to {} --trust trust {more}", server.host()))
}

fn complaint(code: &str) -> String {
    format!("{{\"errors\":[{{\"code\":\"{code}\"}}]}}")
}

fn is_tag(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/manifests/") && !request.path.contains("/sha256:")
}

fn is_document(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/manifests/sha256:")
}

// What a registry has against it.

#[test]
fn a_refusal_in_the_middle_is_told_and_no_tag_was_set() {
    let scratch = Scratch::with_release().exported();
    type Which = fn(&Request) -> bool;
    let upload: Which = |request| request.method == "PUT" && request.path.contains("/session/");
    let begin: Which = |request| request.method == "POST";
    for (which, status, code, kind, says) in [
        (is_document as Which, 409, "DENIED", "RegistryRejected", "409"),
        (is_document, 413, "SIZE_INVALID", "RegistryRejected", "413"),
        (is_document, 415, "MANIFEST_INVALID", "RegistryUnsupported", "not converted"),
        (is_document, 400, "UNSUPPORTED", "RegistryUnsupported", "not converted"),
        (is_document, 405, "UNSUPPORTED", "RegistryUnsupported", "read-only"),
        (is_document, 507, "", "RegistryRejected", "full"),
        (is_document, 400, "MANIFEST_BLOB_UNKNOWN", "RegistryRejected", "MANIFEST_BLOB_UNKNOWN"),
        (upload, 507, "", "RegistryRejected", "full"),
        (upload, 403, "DENIED", "Auth", "login"),
        (begin, 403, "DENIED", "Auth", "login"),
        (begin, 405, "UNSUPPORTED", "RegistryUnsupported", "read-only"),
        (begin, 507, "", "RegistryRejected", "full"),
    ] {
        let server = taking_all_but(move |request, _| {
            which(request).then(|| Answer::new(status).body(complaint(code)))
        });
        let run = import(&scratch, &server, "").fails(1, kind).says("destination: ").says(&server.host());
        run.says(says);
        assert_eq!(tags(&server), [""; 0], "{status} {code}");
        // Not even where it is refused for its type is something else sent.
        let sent: HashSet<_> =
            server.seen().iter().filter(|r| is_document(r)).map(|r| sha256(&r.body)).collect();
        let bundle = Parts::read(&scratch.read("bundle.tar")).0;
        let known: HashSet<_> = bundle.iter().map(|entry| sha256(&entry.content)).collect();
        assert!(sent.is_subset(&known));
    }
}

#[test]
fn a_tag_that_may_not_be_set_again_is_told_by_its_name() {
    let scratch = Scratch::with_small_release().exported();
    let server = taking_all_but(|request, _| {
        is_tag(request).then(|| Answer::new(409).body(complaint("TAG_IMMUTABLE")))
    });
    import(&scratch, &server, "").fails(1, "RegistryRejected").says("tools/tool:1.0.0").says("409");
}

// What a registry has kept.

#[test]
fn a_registry_that_keeps_something_else_is_not_believed() {
    let scratch = Scratch::with_small_release().exported();
    let other = format!("sha256:{}", "7".repeat(64));
    type Lie = fn(&Request, &str, bool) -> Option<Answer>;
    let lies: [(&str, Lie); 5] = [
        ("an uploaded blob", |r, other, _| {
            (r.method == "PUT" && r.path.contains("/session/"))
                .then(|| Answer::new(201).header("Docker-Content-Digest", other))
        }),
        ("a pushed document", |r, other, _| {
            is_document(r).then(|| Answer::new(201).header("Docker-Content-Digest", other))
        }),
        ("a tag, when it is set", |r, other, _| {
            is_tag(r).then(|| Answer::new(201).header("Docker-Content-Digest", other))
        }),
        ("a tag, when it is read back", |r, other, tagged| {
            (tagged && r.method == "HEAD" && r.path.ends_with("/1.0.0"))
                .then(|| Answer::new(200).header("Docker-Content-Digest", other))
        }),
        ("a tag, when it is gone again", |r, _, tagged| {
            (tagged && r.method == "HEAD" && r.path.ends_with("/1.0.0")).then(|| Answer::new(404))
        }),
    ];
    for (name, lie) in lies {
        let (tagged, other) = (AtomicBool::new(false), other.clone());
        let server = taking_all_but(move |request, _| {
            let answer = lie(request, &other, tagged.load(Ordering::SeqCst));
            tagged.fetch_or(is_tag(request), Ordering::SeqCst);
            answer
        });
        let run = import(&scratch, &server, "");
        assert!(
            run.is_failure(1, "RegistryCorrupt") && run.stderr.contains("destination: "),
            "{name}\n{run}"
        );
        assert!(name.contains("tag") || tags(&server).is_empty(), "{name}");
    }
}

#[test]
fn a_blob_of_another_length_is_not_taken_for_present() {
    let scratch = Scratch::with_small_release().exported();
    let server = taking_all_but(|request, _| {
        let asked = request.method == "HEAD" && request.path.contains("/blobs/");
        asked.then(|| Answer::new(200).header("Content-Length", 1))
    });
    import(&scratch, &server, "").fails(1, "RegistryCorrupt").says("expected");
    assert_eq!(writes(&server), [""; 0]);
}

#[test]
fn what_a_registry_has_swept_away_is_sent_again_by_the_same_command() {
    let scratch = Scratch::with_small_release().exported();
    // It says that it has everything. Then its garbage collector runs, and the manifest is refused.
    let (swept, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
    let (now, kept) = (swept.clone(), arrived.clone());
    let sizes: Vec<(String, usize)> = Parts::read(&scratch.read("bundle.tar")).0[5..]
        .iter()
        .map(|entry| (entry.path.replace("blobs/sha256/", "sha256:"), entry.content.len()))
        .collect();
    let server = taking_all_but(move |request, _| {
        let mut kept = kept.lock().unwrap();
        if request.method == "PUT" && request.path.contains("/session/") {
            kept.insert(format!("sha256:{}", sha256(&request.body)));
        }
        let size = sizes.iter().find(|(digest, _)| request.path.ends_with(digest.as_str()));
        match (request.method.as_str(), size) {
            ("HEAD", Some((digest, size))) if request.path.contains("/blobs/") => {
                let there = !now.load(Ordering::SeqCst) || kept.contains(digest);
                Some(match there {
                    true => Answer::new(200).header("Content-Length", size),
                    false => Answer::new(404),
                })
            }
            ("PUT", _) if is_document(request) && kept.is_empty() => {
                now.store(true, Ordering::SeqCst);
                Some(Answer::new(400).body(complaint("MANIFEST_BLOB_UNKNOWN")))
            }
            _ => None,
        }
    });
    import(&scratch, &server, "").fails(1, "RegistryRejected").says("MANIFEST_BLOB_UNKNOWN");
    assert_eq!(tags(&server), [""; 0]);
    import(&scratch, &server, "").ok();
    assert_eq!(arrived.lock().unwrap().len(), 2, "config and layer");
    assert_eq!(tags(&server).len(), 1);
}

// Sessions and logins that end.

#[test]
fn a_session_that_is_lost_costs_another_and_no_failure() {
    let scratch = Scratch::with_release().exported();
    // Of each blob the first upload is forgotten before it is finished.
    let seen = Mutex::new(HashSet::new());
    let server = taking_all_but(move |request, _| {
        let digest = request.path.split("digest=").nth(1)?.to_owned();
        let first = request.method == "PUT" && seen.lock().unwrap().insert(digest);
        first.then(|| Answer::new(404).body(complaint("BLOB_UPLOAD_UNKNOWN")))
    });
    import(&scratch, &server, "").ok();
    assert_eq!(tags(&server).len(), NAMES.len());
}

#[test]
fn a_token_that_dies_in_the_middle_of_an_upload_is_replaced() {
    let scratch = Scratch::with_release().exported();
    let (host, number) = (Arc::new(Mutex::new(String::new())), AtomicUsize::new(0));
    let (known, worn) = (host.clone(), Mutex::new(HashSet::new()));
    let server = taking_all_but(move |request, _| {
        if request.path.starts_with("/token") {
            let number = number.fetch_add(1, Ordering::SeqCst);
            return Some(Answer::new(200).body(format!("{{\"token\":\"t{number}\"}}")));
        }
        let token = request.header("authorization").unwrap_or_default().to_owned();
        // No token lives to see a second upload.
        let uploads = request.method == "PUT" && request.path.contains("/session/");
        let dead = token.is_empty() || worn.lock().unwrap().contains(&token);
        if dead {
            let realm = format!("Bearer realm=\"http://{}/token\"", known.lock().unwrap());
            return Some(Answer::new(401).header("WWW-Authenticate", realm));
        }
        if uploads {
            worn.lock().unwrap().insert(token);
        }
        None
    });
    *host.lock().unwrap() = server.host();
    import(&scratch, &server, "--jobs 1").ok();
    assert_eq!(tags(&server).len(), NAMES.len());
    assert!(server.count("/token") > 5, "{}", server.count("/token"));
}

// Two at once.

#[test]
fn two_imports_into_one_registry_at_once_both_succeed() {
    if !peers() {
        return;
    }
    let destination = Destination::start(300_000);
    for round in 0..3 {
        let running = [destination.running(), destination.running()];
        for run in running.map(|one| one.ended()) {
            run.ok();
        }
        assert_eq!(destination.wrong(false), None, "round {round}");
    }
}

// Names.

#[test]
fn a_name_that_no_registry_takes_is_refused_before_anything_is_asked() {
    let scratch = Scratch::with_small_release().exported();
    let long = "x".repeat(250);
    for (to, map, kind) in [
        ("/../up", "", "RefInvalid"),
        ("/a//b", "", "RefInvalid"),
        ("/UPPER", "", "RefInvalid"),
        ("/a b", "", "RefInvalid"),
        ("/a:tag", "", "RefInvalid"),
        ("/a?x=y", "", "RefInvalid"),
        ("/a#b", "", "RefInvalid"),
        ("", "tools=../tools", "Usage"),
        ("", "tools=UPPER", "RefInvalid"),
        ("", "tools=a//b", "Usage"),
        ("", "tools=a\u{1b}[2J", "Usage"),
        ("", "tools/tool=", "RefInvalid"),
        (&format!("/{long}"), "", "RefInvalid"),
        ("", &format!("tools=x{long}"), "RefInvalid"),
    ] {
        let server = taking_all();
        let mut command = scratch.command("import bundle.tar --trust trust");
        command.args(["--to", &format!("docker://{}{to}", server.host())]);
        if !map.is_empty() {
            command.args(["--map", map]);
        }
        let run = support::run(command);
        assert!(run.is_failure(2, kind), "{to} {map}: expected [{kind}]\n{run}");
        assert!(!run.stderr.contains('\u{1b}'), "{run}");
        assert_eq!(writes(&server), [""; 0], "{to} {map}");
    }
}
