//! Uploads that break, that are refused in one piece, and that are asked to slow down: against a
//! scripted registry, and against CNCF Distribution behind a line that can be cut.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use sealift::content::{Reader, Sink, Source, Unverified};
use sealift::error::{Error, Kind, Result, Retry};
use sealift::oci::{Descriptor, Digest, MediaType, Role};
use sealift::registry::{Client, Keychain, Options, Repository};
use support::lying::{Answer, Lying, Request};
use support::{peer, registry::Registry, sha256};

const MIB: usize = 1 << 20;

fn client() -> Client {
    let options = Options {
        certificates: Vec::new(),
        keychain: Keychain::empty(),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(20),
        attempts: 3,
        backoff: Duration::from_millis(1),
        ..Options::default()
    };
    Client::new(options).unwrap()
}

fn repository(host: &str) -> Repository {
    client().repository(&host.parse().unwrap(), &"acme/agent".parse().unwrap())
}

fn layer(content: &[u8]) -> Descriptor {
    let media_type = MediaType::new("application/vnd.oci.image.layer.v1.tar");
    Descriptor { role: Role::Layer, media_type, digest: Digest::of(content), size: content.len() as u64 }
}

/// Content of which no part is like another.
fn content(length: usize) -> Bytes {
    (0..length.div_ceil(4) as u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(length)
        .collect()
}

/// In pieces as a file is read, none of which ends where a part does.
fn reader(expected: &Descriptor, content: &Bytes) -> Reader {
    let pieces: Vec<_> = content.chunks(100_003).map(|piece| Ok(content.slice_ref(piece))).collect();
    Reader::new(expected, Unverified::new("test", stream::iter(pieces)))
}

async fn push(repository: &Repository, content: &Bytes) -> Result<()> {
    let expected = layer(content);
    repository.push(&expected, reader(&expected, content)).await
}

/// As the transfer does it: again and again, as long as it may help. How many tries there were.
async fn persist(repository: &Repository, content: &Bytes) -> Result<usize> {
    let mut tries = 1;
    loop {
        match push(repository, content).await {
            Ok(()) => return Ok(tries),
            Err(error) if error.retryable() == Retry::Never || tries == 5 => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

fn methods(server: &Lying) -> Vec<String> {
    server.seen().into_iter().map(|request| request.method).collect()
}

fn ranges(server: &Lying) -> Vec<String> {
    let seen = server.seen();
    let patches = seen.iter().filter(|request| request.method == "PATCH");
    patches.map(|request| request.header("content-range").unwrap().to_owned()).collect()
}

fn complaint(code: &str) -> String {
    format!("{{\"errors\":[{{\"code\":\"{code}\"}}]}}")
}

// A session that broke off.

/// A registry whose first PUT fails for a passing reason, and which then says this about the session.
/// What it takes from then on, it takes well.
fn broken(status: Answer) -> Lying {
    broken_then(status, |request, _| match request.method.as_str() {
        "PATCH" => Answer::new(202).header("Location", "/third?s=3"),
        _ => Answer::new(201),
    })
}

fn broken_then(status: Answer, then: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Lying {
    Lying::start(move |request, number| match (request.method.as_str(), number) {
        ("POST", _) => Answer::new(202).header("Location", "/first"),
        ("PUT", 1) => Answer::new(502),
        ("GET", _) => status.clone(),
        ("HEAD", _) => Answer::new(404),
        ("DELETE", _) => Answer::new(204),
        _ => then(request, number),
    })
}

#[tokio::test]
async fn only_what_the_session_lacks_is_sent_again() {
    let server = broken(Answer::new(204).header("Range", "0-2").header("Location", "/second?s=2"));
    let content = Bytes::from_static(b"abcdef");
    assert_eq!(persist(&repository(&server.host()), &content).await.unwrap(), 2);
    let seen = server.seen();
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "GET", "PATCH", "PUT"]);
    assert_eq!((seen[2].path.as_str(), seen[4].path.as_str()), ("/first", "/second?s=2"));
    let [get, _, patch, put] = &seen[2..] else { panic!("{seen:?}") };
    assert_eq!(get.header("content-length"), None);
    assert_eq!((patch.header("content-range"), patch.body.as_slice()), (Some("3-5"), &b"def"[..]));
    assert_eq!(patch.header("content-length"), Some("3"));
    assert_eq!(patch.header("content-type"), Some("application/octet-stream"));
    assert_eq!(put.path, format!("/third?s=3&digest=sha256%3A{}", sha256(b"abcdef")));
    assert_eq!((put.header("content-length"), put.body.as_slice()), (Some("0"), &b""[..]));
}

#[tokio::test]
async fn a_session_that_still_grows_is_not_built_upon() {
    let server = Lying::start(|request, number| match (request.method.as_str(), number) {
        ("POST", _) => Answer::new(202).header("Location", "/first"),
        ("PUT", 1) => Answer::new(502),
        ("GET", 2) => Answer::new(204).header("Range", "0-0"),
        ("GET", 3) => Answer::new(204).header("Range", "0-1"),
        ("GET", _) => Answer::new(204).header("Range", "0-3"),
        ("PATCH", _) => Answer::new(202),
        _ => Answer::new(201),
    });
    persist(&repository(&server.host()), &Bytes::from_static(b"abcdef")).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "GET", "GET", "GET", "PATCH", "PUT"]);
    assert_eq!(ranges(&server), ["4-5"]);
}

#[tokio::test]
async fn a_session_that_has_everything_is_only_finished() {
    let server = broken(Answer::new(204).header("Range", "0-5"));
    persist(&repository(&server.host()), &Bytes::from_static(b"abcdef")).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "GET", "PUT"]);
    assert!(server.seen()[4].path.starts_with("/first?digest="));
}

#[tokio::test]
async fn a_session_that_is_of_no_use_is_replaced() {
    let has = |range: &str| Answer::new(204).header("Range", range);
    for (status, ours_to_end) in [
        (has("0-0"), true),
        (has("0-6"), true),
        (has("2-4"), true),
        (has("everything"), true),
        (Answer::new(204), true),
        (Answer::new(404).body(complaint("BLOB_UPLOAD_UNKNOWN")), false),
        (Answer::new(400), false),
        (Answer::new(200).header("Range", "0-2"), false),
        (Answer::new(500), false),
        (has("0-2").header("Location", "file:///etc/passwd"), false),
    ] {
        let server = broken(status.clone());
        persist(&repository(&server.host()), &Bytes::from_static(b"abcdef")).await.unwrap();
        let mut methods = methods(&server);
        methods.retain(|method| method != "GET");
        let expected: &[&str] = match ours_to_end {
            true => &["POST", "PUT", "DELETE", "HEAD", "POST", "PUT"],
            false => &["POST", "PUT", "HEAD", "POST", "PUT"],
        };
        assert_eq!(methods, expected, "{status:?}");
        assert_eq!(server.seen().last().unwrap().body, b"abcdef", "{status:?}");
    }
}

#[tokio::test]
async fn a_blob_of_which_only_the_answer_was_lost_is_not_sent_again() {
    let server = Lying::start(move |request, _| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", "/first"),
        "PUT" => Answer::new(504),
        "GET" => Answer::new(404),
        _ => Answer::new(200).header("Content-Length", 6),
    });
    persist(&repository(&server.host()), &Bytes::from_static(b"abcdef")).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "HEAD"]);
}

#[tokio::test]
async fn what_is_not_sent_again_is_verified_again() {
    let server = broken(Answer::new(204).header("Range", "0-2"));
    let repository = repository(&server.host());
    let right = Bytes::from_static(b"abcdef");
    assert_eq!(push(&repository, &right).await.unwrap_err().retryable(), Retry::Soon);
    let expected = layer(&right);
    let wrong = reader(&expected, &Bytes::from_static(b"abXdef"));
    let error = repository.push(&expected, wrong).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DigestMismatch, "{error}");
    assert!(error.to_string().starts_with("source: "), "{error}");
    // Not even the end of it was sent, and nobody will come back for the session.
    assert_eq!(server.seen()[4].body, b"");
    assert_eq!(methods(&server).last().unwrap(), "DELETE");
}

#[tokio::test]
async fn the_sources_failure_while_resuming_is_no_doubt_about_the_session() {
    let server = broken(Answer::new(204).header("Range", "0-2"));
    let repository = repository(&server.host());
    let content = Bytes::from_static(b"abcdef");
    assert!(push(&repository, &content).await.is_err());
    let pieces = [Ok(content.slice(..4)), Err(Error::new(Kind::NotFound, "the stick is gone"))];
    let source = Unverified::new("stick", stream::iter(pieces));
    let failed = repository.push(&layer(&content), Reader::new(&layer(&content), source)).await.unwrap_err();
    assert_eq!((failed.kind(), failed.retryable()), (Kind::NotFound, Retry::Never), "{failed}");
    assert!(failed.to_string().starts_with("source: "), "{failed}");
}

#[tokio::test]
async fn content_that_went_wrong_on_resuming_is_sent_from_its_beginning_once_and_for_all() {
    let server = Lying::start(move |request, number| match (request.method.as_str(), number) {
        ("POST", _) => Answer::new(202).header("Location", format!("/session{number}")),
        ("PUT", 5) => Answer::new(400).body(complaint("DIGEST_INVALID")),
        ("PUT", _) => Answer::new(502),
        ("GET", _) => Answer::new(204).header("Range", "0-2"),
        ("PATCH", _) => Answer::new(202),
        _ => Answer::new(204),
    });
    let failed = persist(&repository(&server.host()), &Bytes::from_static(b"abcdef")).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::RegistryRejected, "{failed}");
    let expected = [
        ["POST", "PUT"].as_slice(),
        &["GET", "GET", "PATCH", "PUT", "DELETE"],
        // No look at a session any more.
        &["POST", "PUT"],
        &["POST", "PUT"],
        &["POST", "PUT"],
    ];
    assert_eq!(methods(&server), expected.concat());
    assert_eq!(server.seen()[6].path, "/session0");
}

#[tokio::test]
async fn a_wrong_digest_without_a_break_is_final() {
    let server = Lying::start(move |request, _| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", "/first"),
        "PUT" => Answer::new(400).body(complaint("DIGEST_INVALID")),
        _ => Answer::new(204),
    });
    let failed = push(&repository(&server.host()), &Bytes::from_static(b"abcdef")).await.unwrap_err();
    assert_eq!(failed.retryable(), Retry::Never, "{failed}");
    assert_eq!(methods(&server), ["POST", "PUT", "DELETE"]);
}

#[tokio::test]
async fn a_session_that_goes_on_elsewhere_is_left() {
    for refusal in [416, 404, 405] {
        let server = broken_then(Answer::new(204).header("Range", "0-2"), move |request, _| {
            Answer::new(if request.method == "PATCH" { refusal } else { 201 })
        });
        assert_eq!(persist(&repository(&server.host()), &Bytes::from_static(b"abcdef")).await.unwrap(), 3);
        assert_eq!(
            methods(&server),
            ["POST", "PUT", "GET", "GET", "PATCH", "DELETE", "POST", "PUT"],
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_took_something_else_is_asked_what_it_has() {
    let patches = Mutex::new(0);
    let server = broken_then(Answer::new(204).header("Range", "0-2"), move |request, _| {
        if request.method == "PUT" {
            return Answer::new(201);
        }
        let mut patches = patches.lock().unwrap();
        *patches += 1;
        Answer::new(202).header("Range", if *patches == 1 { "0-3" } else { "0-5" })
    });
    let repository = repository(&server.host());
    let content = Bytes::from_static(b"abcdef");
    assert!(push(&repository, &content).await.is_err());
    let failed = push(&repository, &content).await.unwrap_err();
    assert_eq!((failed.kind(), failed.retryable()), (Kind::RegistryCorrupt, Retry::Soon), "{failed}");
    push(&repository, &content).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "GET", "PATCH", "GET", "GET", "PATCH", "PUT"]);
}

#[tokio::test]
async fn each_blob_has_its_own_session() {
    let server = broken(Answer::new(204).header("Range", "0-2"));
    let repository = repository(&server.host());
    assert!(push(&repository, &Bytes::from_static(b"abcdef")).await.is_err());
    push(&repository, &Bytes::from_static(b"others")).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PUT", "POST", "PUT"]);
}

// Parts.

/// A registry with one upload session at a time, that really keeps what it is sent.
struct Shelf {
    server: Lying,
    blobs: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Shelf {
    /// `refuses` says what it has against a request, before anything else happens.
    fn start(refuses: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static, least: usize) -> Self {
        let blobs = Arc::new(Mutex::new(Vec::new()));
        let (kept, session) = (blobs.clone(), Mutex::new(Vec::new()));
        let server = Lying::start(move |request, number| {
            if let Some(refusal) = refuses(request) {
                return refusal;
            }
            let mut session = session.lock().unwrap();
            match request.method.as_str() {
                "POST" => session.clear(),
                "PATCH" | "PUT" => {
                    let begin = request.header("content-range").and_then(|range| range.split_once('-'));
                    if begin.is_some_and(|(begin, _)| begin != session.len().to_string()) {
                        return Answer::new(416);
                    }
                    session.extend_from_slice(&request.body);
                }
                "HEAD" => return Answer::new(404),
                _ => {}
            }
            if request.method == "PUT" {
                let content = std::mem::take(&mut *session);
                let right = request.path.contains(&sha256(&content));
                kept.lock().unwrap().push(content);
                return if right {
                    Answer::new(201)
                } else {
                    Answer::new(400).body(complaint("DIGEST_INVALID"))
                };
            }
            let status = if ["GET", "DELETE"].contains(&request.method.as_str()) { 204 } else { 202 };
            Answer::new(status)
                .header("Location", format!("/session?number={number}"))
                .header("OCI-Chunk-Min-Length", least)
                .header("Range", format!("0-{}", session.len().saturating_sub(1)))
        });
        Shelf { server, blobs }
    }

    /// Takes bodies of at most this length.
    fn limited(most: usize, least: usize) -> Self {
        Shelf::start(move |request| (request.body.len() > most).then(|| Answer::new(413)), least)
    }
}

#[tokio::test]
async fn what_is_refused_as_a_whole_goes_in_parts() {
    let shelf = Shelf::limited(3 * MIB, 0);
    let content = content(9 * MIB + 1);
    let client = client();
    let repository =
        |name: &str| client.repository(&shelf.server.host().parse().unwrap(), &name.parse().unwrap());
    let agent = repository("acme/agent");
    // Whole, 8 MiB, 4 MiB: refused. What was taken between them is not sent again.
    assert_eq!(persist(&agent, &content).await.unwrap(), 4);
    assert!(shelf.blobs.lock().unwrap().concat() == content);
    let m = |first: usize, length: usize| format!("{}-{}", first * MIB, first * MIB + length - 1);
    let all = [
        m(0, 8 * MIB),
        m(0, MIB),
        m(1, 2 * MIB),
        m(3, 4 * MIB),
        m(3, 2 * MIB),
        m(5, 2 * MIB),
        m(7, 2 * MIB),
        m(9, 1),
    ];
    assert_eq!(ranges(&shelf.server), all);
    // Each answer's Location is for the next request.
    let seen = shelf.server.seen();
    let last = seen.len() - 1;
    assert!(
        seen[last].path.starts_with(&format!("/session?number={}&digest=", last - 1)),
        "{}",
        seen[last].path
    );

    // From now on it is known, in other repositories, too. What is small enough goes as a whole.
    for (length, expected) in
        [(5 * MIB, ["POST", "PATCH", "PATCH", "PATCH", "PUT"].as_slice()), (MIB, &["POST", "PUT"])]
    {
        let before = shelf.server.seen().len();
        assert_eq!(persist(&repository("acme/other"), &self::content(length)).await.unwrap(), 1);
        assert_eq!(methods(&shelf.server)[before..], *expected, "{length}");
    }
}

#[tokio::test]
async fn no_part_is_shorter_than_the_registry_wants() {
    let shelf = Shelf::limited(5 * MIB, 3 * MIB);
    assert_eq!(persist(&repository(&shelf.server.host()), &content(10 * MIB)).await.unwrap(), 4);
    let lengths: Vec<_> =
        shelf.server.seen().iter().filter(|r| r.method == "PATCH").map(|r| r.body.len() / MIB).collect();
    assert_eq!(lengths, [8, 3, 6, 3, 3, 1]);
    assert!(shelf.blobs.lock().unwrap().concat() == content(10 * MIB));
}

#[tokio::test]
async fn a_host_that_takes_next_to_nothing_is_given_up() {
    let shelf = Shelf::limited(1000, 0);
    let failed = persist(&repository(&shelf.server.host()), &content(9 * MIB)).await.unwrap_err();
    assert_eq!((failed.kind(), failed.retryable()), (Kind::RegistryRejected, Retry::Never), "{failed}");
    assert!(failed.to_string().contains("413") && failed.advice().unwrap().contains("limits"), "{failed}");
    let lengths: Vec<_> = shelf.server.seen().iter().map(|r| r.body.len() / MIB).filter(|l| *l > 0).collect();
    assert_eq!(lengths, [9, 8, 1]);
    assert_eq!(methods(&shelf.server).last().unwrap(), "DELETE");
}

#[tokio::test]
async fn a_registry_that_takes_no_whole_blobs_gets_parts() {
    let refusals = [
        Answer::new(405),
        Answer::new(501),
        Answer::new(400).body(complaint("UNSUPPORTED")),
        Answer::new(405).body(complaint("UNSUPPORTED")),
    ];
    for refusal in refusals {
        let refuses = move |request: &Request| {
            (request.method == "PUT" && !request.body.is_empty()).then(|| refusal.clone())
        };
        let shelf = Shelf::start(refuses, 0);
        let repository = repository(&shelf.server.host());
        assert_eq!(persist(&repository, &Bytes::from_static(b"abcdef")).await.unwrap(), 2);
        assert_eq!(methods(&shelf.server), ["POST", "PUT", "DELETE", "POST", "PATCH", "PUT"]);
        assert_eq!(persist(&repository, &Bytes::new()).await.unwrap(), 1);
        assert_eq!(*shelf.blobs.lock().unwrap(), [b"abcdef".to_vec(), Vec::new()]);
    }
}

#[tokio::test]
async fn wrong_content_in_parts_is_not_finished() {
    let refuses =
        |request: &Request| (request.method == "PUT" && !request.body.is_empty()).then(|| Answer::new(405));
    let shelf = Shelf::start(refuses, 0);
    let repository = repository(&shelf.server.host());
    let right = content(9 * MIB);
    assert!(push(&repository, &right).await.is_err());
    let mut wrong = right.to_vec();
    wrong[0] ^= 1;
    let expected = layer(&right);
    let failed = repository.push(&expected, reader(&expected, &wrong.into())).await.unwrap_err();
    assert_eq!(failed.kind(), Kind::DigestMismatch, "{failed}");
    let puts = shelf.server.seen().iter().filter(|r| r.method == "PUT").count();
    assert_eq!((puts, methods(&shelf.server).last().unwrap().as_str()), (1, "DELETE"));
}

// Being asked to slow down.

#[tokio::test]
async fn a_streamed_body_that_is_sent_away_knows_when_to_come_back() {
    // Who asks for fewer requests gets fewer; who may have broken off is asked how far it came.
    let fewer = ["POST", "PUT", "DELETE", "POST", "PUT", "DELETE"];
    let resumed = ["POST", "PUT", "GET", "GET", "PATCH"];
    for (answer, expected, requests) in [
        (Answer::new(429).header("Retry-After", 7), Retry::After(Duration::from_secs(7)), fewer.as_slice()),
        (Answer::new(503).header("Retry-After", 9), Retry::After(Duration::from_secs(9)), &resumed),
        (Answer::new(503), Retry::Soon, &resumed),
    ] {
        let server = Lying::start(move |request, _| match request.method.as_str() {
            "POST" => Answer::new(202).header("Location", "/first"),
            "GET" => Answer::new(204).header("Range", "0-2"),
            "PUT" | "PATCH" => answer.clone(),
            _ => Answer::new(204),
        });
        let repository = repository(&server.host());
        for _ in ["PUT", "PATCH"] {
            let failed = push(&repository, &Bytes::from_static(b"abcdef")).await.unwrap_err();
            assert_eq!(failed.retryable(), expected, "{failed}");
        }
        assert_eq!(methods(&server), requests);
    }
}

#[tokio::test]
async fn a_host_that_is_asked_for_too_much_is_asked_for_half() {
    const CROWD: usize = 8;
    /// Requests there now, requests that came, and the most that were there together after the refusal.
    #[derive(Default)]
    struct Hall(usize, usize, usize);
    let hall = Arc::new((Mutex::new(Hall::default()), Condvar::new()));
    let inside = hall.clone();
    let server = Lying::start(move |_, _| {
        let (hall, door) = &*inside;
        let mut now = hall.lock().unwrap();
        now.0 += 1;
        now.1 += 1;
        let first = now.1 <= CROWD;
        if !first {
            now.2 = now.2.max(now.0);
        }
        door.notify_all();
        // The first wait for each other; the others wait in vain for one more than may come.
        let patience = if first { Duration::from_secs(10) } else { Duration::from_millis(50) };
        let full = |hall: &mut Hall| if first { hall.1 < CROWD } else { hall.0 <= CROWD / 2 };
        now = door.wait_timeout_while(now, patience, full).unwrap().0;
        now.0 -= 1;
        if first { Answer::new(429).header("Retry-After", 0) } else { Answer::new(200).body("abc") }
    });
    let repository = repository(&server.host());
    let expected = layer(b"abc");
    let reads = (0..CROWD).map(|_| async { repository.fetch(&expected).await?.into_bytes().await });
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap(), "abc");
    }
    assert_eq!(server.seen().len(), 2 * CROWD);
    let most = hall.0.lock().unwrap().2;
    assert!((1..=CROWD / 2).contains(&most), "{most}");
}

// Asking beforehand.

#[tokio::test]
async fn readiness_is_an_upload_begun_and_given_back() {
    for end in [204, 404, 405, 500] {
        let server = Lying::start(move |request, _| match request.method.as_str() {
            "POST" => Answer::new(202).header("Location", "/first?s=1"),
            _ => Answer::new(end),
        });
        let repository = repository(&server.host());
        repository.ready(0).await.unwrap();
        assert!(server.seen().is_empty());
        repository.ready(1).await.unwrap();
        let seen = server.seen();
        assert_eq!(methods(&server), ["POST", "DELETE"]);
        assert_eq!(
            (seen[0].path.as_str(), seen[1].path.as_str()),
            ("/v2/acme/agent/blobs/uploads/", "/first?s=1")
        );
    }
}

#[tokio::test]
async fn what_stops_an_upload_is_told_beforehand() {
    for (answer, kind, hint) in [
        (Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""), Kind::Auth, "login"),
        (Answer::new(403).body(complaint("DENIED")), Kind::Auth, "login"),
        (Answer::new(404), Kind::NotFound, "check the host"),
        (Answer::new(404).body(complaint("NAME_UNKNOWN")), Kind::NotFound, "to be made first"),
        (Answer::new(405).body(complaint("UNSUPPORTED")), Kind::RegistryUnsupported, "read-only"),
        (Answer::new(507), Kind::RegistryRejected, "full"),
        (Answer::new(202), Kind::RegistryUnsupported, ""),
        (Answer::new(200).body("<html>"), Kind::UnexpectedContent, ""),
    ] {
        let server = Lying::start(move |_, _| answer.clone());
        let error = repository(&server.host()).ready(1).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("{}/acme/agent", server.host())), "{error}");
        assert!(error.advice().unwrap_or_default().contains(hint), "{error}: {:?}", error.advice());
    }
}

// The real thing, behind a line with faults.

/// What happens to a request on the line.
enum Fate {
    Passes,
    /// The connection breaks after so many bytes of the body. None of it arrives where that is none.
    Breaks(usize),
    /// A proxy's limit on bodies.
    Refused,
}

/// What came along: the method, the body's length, where it belongs, and how much was let through.
type Passed = (String, usize, String, usize);

/// An HTTP/1.1 line to a registry, one request per connection.
struct Line {
    address: String,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Line {
    fn to(registry: &Registry, fate: impl Fn(&Passed, usize) -> Fate + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passed = Arc::new(Mutex::new(Vec::new()));
        let (target, log, fate) = (registry.address(), passed.clone(), Arc::new(fate));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, log, fate) = (target.clone(), log.clone(), fate.clone());
                std::thread::spawn(move || drop(pass(client, &target, &log, &*fate)));
            }
        });
        Line { address, passed }
    }

    /// Requests of this method.
    fn all(&self, method: &str) -> Vec<Passed> {
        self.passed.lock().unwrap().iter().filter(|passed| passed.0 == method).cloned().collect()
    }
}

fn pass(
    client: TcpStream,
    target: &str,
    log: &Mutex<Vec<Passed>>,
    fate: &(dyn Fn(&Passed, usize) -> Fate + Send + Sync),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let value = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    };
    let method = head.split(' ').next().unwrap_or_default().to_owned();
    let length: usize = value("content-length").parse().unwrap_or(0);
    let mut passed = (method, length, value("content-range"), length);
    let fate = fate(&passed, log.lock().unwrap().len());
    passed.3 = match fate {
        Fate::Passes => length,
        Fate::Breaks(after) => after,
        Fate::Refused => 0,
    };
    let most = passed.3;
    log.lock().unwrap().push(passed);
    let mut body = reader.take(most as u64);
    match fate {
        Fate::Breaks(0) => return client.shutdown(Shutdown::Both),
        Fate::Refused => {
            (&client)
                .write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
            client.shutdown(Shutdown::Write)?;
            return std::io::copy(&mut body.into_inner(), &mut std::io::sink()).map(drop);
        }
        _ => {}
    }
    let mut registry = TcpStream::connect(target)?;
    registry.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    std::io::copy(&mut body, &mut registry)?;
    if most < length {
        registry.shutdown(Shutdown::Both)?;
        return client.shutdown(Shutdown::Both);
    }
    std::io::copy(&mut registry, &mut &client)?;
    client.shutdown(Shutdown::Both)
}

/// What a registry keeps of uploads that nobody finished or gave back.
fn left_over(registry: &Registry) -> usize {
    registry.disk().keys().filter(|path| path.ends_with("startedat")).count()
}

/// Whether the registry has exactly this.
async fn holds(registry: &Registry, content: &Bytes) -> bool {
    let there = repository(&registry.address()).fetch(&layer(content)).await.unwrap().into_bytes().await;
    there.unwrap() == content
}

#[tokio::test]
async fn distribution_gets_everything_after_a_break_within_a_request() {
    if !peer("docker-registry") {
        return;
    }
    let registry = Registry::start();
    let line = Line::to(&registry, |request, number| match (request.0.as_str(), number) {
        ("PUT", 1) => Fate::Breaks(3 * MIB),
        _ => Fate::Passes,
    });
    let content = content(8 * MIB + 5);
    assert_eq!(persist(&repository(&line.address), &content).await.unwrap(), 2);
    assert!(holds(&registry, &content).await);
    let arrived: usize = line.all("PUT").iter().chain(&line.all("PATCH")).map(|request| request.3).sum();
    match line.all("PATCH").as_slice() {
        // Distribution 2 does not know a session any more whose request broke.
        [] => assert_eq!(arrived, content.len() + 3 * MIB),
        // Distribution 3 does.
        [rest] => assert_eq!((rest.2.as_str(), arrived), ("3145728-8388612", content.len())),
        more => panic!("{more:?}"),
    }
}

#[tokio::test]
async fn distribution_goes_on_after_a_break_between_parts() {
    if !peer("docker-registry") {
        return;
    }
    let registry = Registry::start();
    // Of the part that begins at 3 MiB nothing arrives, the first time.
    let whole = AtomicBool::new(true);
    let line = Line::to(&registry, move |request, _| {
        let cut = request.1 <= 2 * MIB && request.2.starts_with(&format!("{}-", 3 * MIB));
        match request.1 {
            length if length > 2 * MIB => Fate::Refused,
            _ if cut && whole.swap(false, Ordering::SeqCst) => Fate::Breaks(0),
            _ => Fate::Passes,
        }
    });
    let content = content(9 * MIB + 1);
    let repository = repository(&line.address);
    // Whole, 8 MiB and 4 MiB are refused, and one connection breaks.
    assert_eq!(persist(&repository, &content).await.unwrap(), 5);
    assert!(holds(&registry, &content).await);
    let arrived: usize = line.all("PATCH").iter().map(|part| part.3).sum();
    assert_eq!(arrived, content.len(), "each byte arrived once");
    assert_eq!(line.all("GET").len(), 3 * 2, "the session was asked after each part that did not arrive");
    assert_eq!(left_over(&registry), 0);
}

#[tokio::test]
async fn a_real_registry_is_ready_and_keeps_nothing_of_the_question() {
    if !peer("docker-registry") {
        return;
    }
    let registry = Registry::start();
    repository(&registry.address()).ready(1).await.unwrap();
    assert_eq!(left_over(&registry), 0);
    assert_eq!(registry.blobs(), 0);
}
