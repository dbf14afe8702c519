//! The registry client against servers that lie, stall, refuse and redirect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use sealift::content::{Reader, Sink, Source, Unverified};
use sealift::error::{Error, Kind, Result, Retry};
use sealift::oci::{Descriptor, Digest, MediaType, Name, Role, media};
use sealift::registry::{Client, Keychain, Options, Repository};
use support::lying::{Answer, Lying, Request};

/// In no error, whatever happens.
const CANARY: &str = "canary-p4ssw0rd";

fn options() -> Options {
    Options {
        certificates: Vec::new(),
        keychain: Keychain::empty(),
        connect_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_millis(700),
        attempts: 3,
        backoff: Duration::from_millis(1),
        ..Options::default()
    }
}

/// Options with a login `robot` for the hosts; the folder holds the file.
fn with_login(hosts: &[&str]) -> (Options, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let entry = serde_json::json!({ "username": "robot", "password": CANARY });
    let auths: serde_json::Map<_, _> = hosts.iter().map(|&host| (host.to_owned(), entry.clone())).collect();
    let path = folder.path().join("auth.json");
    std::fs::write(&path, serde_json::json!({ "auths": auths }).to_string()).unwrap();
    (Options { keychain: Keychain::file(path), ..options() }, folder)
}

fn repository_with(options: Options, host: &str) -> Repository {
    let client = Client::new(options).unwrap();
    client.repository(&host.parse().unwrap(), &"acme/agent".parse().unwrap())
}

fn repository(server: &Lying) -> Repository {
    repository_with(options(), &server.host())
}

fn name(host: &str) -> Name {
    format!("{host}/acme/agent:1.0").parse().unwrap()
}

fn layer(content: &[u8]) -> Descriptor {
    let media_type = MediaType::new("application/vnd.oci.image.layer.v1.tar");
    Descriptor { role: Role::Layer, media_type, digest: Digest::of(content), size: content.len() as u64 }
}

fn manifest(content: &[u8]) -> Descriptor {
    Descriptor { role: Role::Manifest, media_type: MediaType::new(media::MANIFEST), ..layer(content) }
}

fn reader(descriptor: &Descriptor, content: &'static [u8]) -> Reader {
    Reader::of_bytes(descriptor, "test", Bytes::from_static(content))
}

async fn read(repository: &Repository, descriptor: &Descriptor) -> Result<Bytes> {
    repository.fetch(descriptor).await?.into_bytes().await
}

/// The error's kind; and nothing secret is in its text.
fn kind<T>(result: Result<T>) -> Kind {
    let Err(error) = result else { panic!("no error") };
    let text = format!("{error} {error:?} {}", error.advice().unwrap_or_default());
    assert!(!text.contains(CANARY) && !text.contains("cm9ib3Q6"), "{text}");
    error.kind()
}

// Content.

#[tokio::test]
async fn right_bytes_arrive() {
    let server = Lying::start(|_, _| Answer::new(200).body("abc"));
    assert_eq!(read(&repository(&server), &layer(b"abc")).await.unwrap(), "abc");
    let seen = &server.seen()[0];
    assert_eq!(seen.path, format!("/v2/acme/agent/blobs/{}", Digest::of(b"abc")));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn wrong_bytes_do_not() {
    let server = Lying::start(|_, _| Answer::new(200).body("abX"));
    assert_eq!(kind(read(&repository(&server), &layer(b"abc")).await), Kind::DigestMismatch);
    assert_eq!(kind(read(&repository(&server), &manifest(b"abc")).await), Kind::DigestMismatch);
}

#[tokio::test]
async fn a_wrong_length_is_noticed_at_once() {
    let server = Lying::start(|_, _| Answer::new(200).body("abcd"));
    assert_eq!(kind(repository(&server).fetch(&layer(b"abc")).await), Kind::SizeMismatch);
}

#[tokio::test]
async fn an_endless_blob_stops_at_its_size() {
    let server = Lying::start(|_, _| Answer::new(200).endless());
    assert_eq!(kind(read(&repository(&server), &layer(b"abc")).await), Kind::SizeMismatch);
}

/// A server that breaks off after `ab`, and answers the next request with `rest`.
fn breaking(rest: Answer) -> Lying {
    Lying::start(move |_, number| match number {
        0 => Answer::new(200).header("Content-Length", 3).body("ab"),
        _ => rest.clone(),
    })
}

#[tokio::test]
async fn a_body_cut_short_goes_on_where_it_broke() {
    let server = breaking(Answer::new(206).header("Content-Range", "bytes 2-2/3").body("c"));
    assert_eq!(read(&repository(&server), &layer(b"abc")).await.unwrap(), "abc");
    let ranges: Vec<_> = server.seen().iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=2-".to_owned())]);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_sends_everything_again() {
    let server = breaking(Answer::new(200).body("abc"));
    assert_eq!(read(&repository(&server), &layer(b"abc")).await.unwrap(), "abc");
    assert_eq!(server.seen().len(), 2, "what it sent instead is used");
}

#[tokio::test]
async fn another_range_than_the_one_asked_for_is_refused() {
    for lie in ["bytes 1-2/3", "bytes 2-2/4", "bytes 2-9/3", "bytes 2-2", "", "items 2-2/3"] {
        let server = breaking(Answer::new(206).header("Content-Range", lie).body("c"));
        let error = read(&repository(&server), &layer(b"abc")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::UnexpectedContent, "{lie}");
    }
}

#[tokio::test]
async fn wrong_bytes_behind_a_break_are_found_by_their_digest() {
    for rest in
        [Answer::new(206).header("Content-Range", "bytes 2-2/3").body("X"), Answer::new(200).body("XYZ")]
    {
        let error = read(&repository(&breaking(rest)), &layer(b"abc")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::DigestMismatch);
    }
}

#[tokio::test]
async fn a_body_that_never_gets_further_is_given_up() {
    let server = Lying::start(|_, _| Answer::new(200).header("Content-Length", 3).body("ab"));
    let error = read(&repository(&server), &layer(b"abc")).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (Kind::Network, Retry::Never));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_server_that_refuses_ranges_is_asked_for_everything() {
    for refusal in [Answer::new(416), Answer::new(403), Answer::new(206).body("c")] {
        let server = Lying::start(move |request, number| match (number, request.header("range")) {
            (0, _) => Answer::new(200).header("Content-Length", 3).body("ab"),
            (_, Some(_)) => refusal.clone(),
            (_, None) => Answer::new(200).body("abc"),
        });
        assert_eq!(read(&repository(&server), &layer(b"abc")).await.unwrap(), "abc");
    }
}

#[tokio::test]
async fn a_range_may_end_early() {
    let server = Lying::start(|request, _| match request.header("range") {
        None => Answer::new(200).header("Content-Length", 4).body("a"),
        Some("bytes=1-") => Answer::new(206).header("Content-Range", "bytes 1-2/4").body("bc"),
        Some(_) => Answer::new(206).header("Content-Range", "bytes 3-3/4").body("d"),
    });
    assert_eq!(read(&repository(&server), &layer(b"abcd")).await.unwrap(), "abcd");
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let server = Lying::start(|_, _| Answer::new(200).header("Content-Encoding", "gzip").body("abc"));
    assert_eq!(kind(repository(&server).fetch(&layer(b"abc")).await), Kind::UnexpectedContent);
    assert_eq!(kind(repository(&server).resolve(&name(&server.host()), None).await), Kind::UnexpectedContent);
}

#[tokio::test]
async fn a_document_beyond_the_limit_is_not_even_asked_for() {
    let server = Lying::start(|_, _| Answer::new(200));
    let huge = Descriptor { size: (4 << 20) + 1, ..manifest(b"x") };
    assert_eq!(kind(repository(&server).fetch(&huge).await), Kind::LimitExceeded);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn silence_in_a_body_times_out() {
    let server = Lying::start(|_, _| Answer::new(200).header("Content-Length", 3).stalling("ab"));
    let error = read(&repository(&server), &layer(b"abc")).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (Kind::Timeout, Retry::Never));
}

// Names.

fn tagged_as(content_type: &'static str, body: &'static str) -> Lying {
    Lying::start(move |_, _| Answer::new(200).header("Content-Type", content_type).body(body))
}

#[tokio::test]
async fn a_tag_resolves_to_its_own_hash() {
    let body = "{\"schemaVersion\":2}";
    let server = tagged_as("application/vnd.oci.image.manifest.v1+json; charset=utf-8", body);
    let (descriptor, bytes) = repository(&server).resolve(&name(&server.host()), None).await.unwrap();
    assert_eq!(descriptor, manifest(body.as_bytes()));
    assert_eq!(bytes, body);
    assert_eq!(server.seen()[0].header("accept"), Some(media::ACCEPT));
}

#[tokio::test]
async fn the_digest_header_may_not_lie() {
    let lie = |digest: &'static str| {
        Lying::start(move |_, _| {
            let answer = Answer::new(200).header("Content-Type", media::MANIFEST);
            answer.header("Docker-Content-Digest", digest).body("{}")
        })
    };
    let server = lie("sha256:0000000000000000000000000000000000000000000000000000000000000000");
    assert_eq!(kind(repository(&server).resolve(&name(&server.host()), None).await), Kind::DigestMismatch);
    let server = lie("sha512:00");
    assert!(repository(&server).resolve(&name(&server.host()), None).await.is_ok());
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    for (content_type, body, expected) in [
        ("text/html", "<html>log in</html>", Kind::UnexpectedContent),
        (
            media::INDEX,
            "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\"}",
            Kind::MediaTypeMismatch,
        ),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}", Kind::DocumentUnsupported),
        ("application/vnd.example+json", "{}", Kind::DocumentUnsupported),
    ] {
        let server = tagged_as(content_type, body);
        assert_eq!(
            kind(repository(&server).resolve(&name(&server.host()), None).await),
            expected,
            "{content_type}"
        );
    }
}

#[tokio::test]
async fn an_endless_manifest_stops_at_the_limit() {
    let server = Lying::start(|_, _| Answer::new(200).header("Content-Type", media::MANIFEST).endless());
    assert_eq!(kind(repository(&server).resolve(&name(&server.host()), None).await), Kind::LimitExceeded);
}

#[tokio::test]
async fn absent_is_a_404_and_nothing_else() {
    let server = Lying::start(|_, _| Answer::new(404).body("<html>"));
    let repository = repository(&server);
    assert_eq!(kind(repository.resolve(&name(&server.host()), None).await), Kind::NotFound);
    assert!(!repository.exists(&layer(b"abc")).await.unwrap());
    assert_eq!(repository.tagged(&name(&server.host())).await.unwrap(), None);
    for (status, expected) in [
        (400, Kind::RegistryRejected),
        (403, Kind::Auth),
        (405, Kind::RegistryRejected),
        (429, Kind::RegistryRejected),
        (500, Kind::RegistryRejected),
        (501, Kind::RegistryUnsupported),
        (204, Kind::UnexpectedContent),
    ] {
        let server = Lying::start(move |_, _| Answer::new(status));
        let repository = self::repository(&server);
        assert_eq!(kind(repository.exists(&layer(b"abc")).await), expected, "{status}");
        assert_eq!(kind(repository.tagged(&name(&server.host())).await), expected, "{status}");
    }
}

#[tokio::test]
async fn a_copy_of_another_length_is_a_corrupt_registry() {
    let server = Lying::start(|_, _| Answer::new(200).header("Content-Length", 7));
    assert_eq!(kind(repository(&server).exists(&layer(b"abc")).await), Kind::RegistryCorrupt);
}

#[tokio::test]
async fn without_a_digest_header_the_tag_is_hashed() {
    let server = Lying::start(|_, _| Answer::new(200).body("{}"));
    let digest = repository(&server).tagged(&name(&server.host())).await.unwrap();
    assert_eq!(digest, Some(Digest::of(b"{}")));
    assert_eq!(server.seen().iter().map(|r| r.method.as_str()).collect::<Vec<_>>(), ["HEAD", "GET"]);
}

// Trying again.

#[tokio::test]
async fn passing_faults_pass() {
    for answer in [Answer::new(503), Answer::new(429).header("Retry-After", 0), Answer::new(408)] {
        let server =
            Lying::start(move |_, n| if n < 2 { answer.clone() } else { Answer::new(200).body("abc") });
        assert_eq!(read(&repository(&server), &layer(b"abc")).await.unwrap(), "abc");
        assert_eq!(server.seen().len(), 3);
    }
}

#[tokio::test]
async fn lasting_faults_last() {
    let server = Lying::start(|_, _| Answer::new(429).header("Retry-After", 0));
    let error = repository(&server).exists(&layer(b"abc")).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (Kind::RegistryRejected, Retry::Never));
    assert_eq!(server.seen().len(), 3);
    let server = Lying::start(|_, _| Answer::new(400));
    assert_eq!(kind(repository(&server).exists(&layer(b"abc")).await), Kind::RegistryRejected);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn retries_are_told() {
    let server = Lying::start(|_, _| Answer::new(503));
    let notes = Arc::new(Mutex::new(Vec::new()));
    let log = notes.clone();
    let note = Arc::new(move |text: &str| log.lock().unwrap().push(text.to_owned()));
    let repository = repository_with(Options { note, ..options() }, &server.host());
    assert!(repository.exists(&layer(b"abc")).await.is_err());
    let notes = notes.lock().unwrap();
    assert!(notes.len() == 2 && notes[0].contains("503") && notes[0].contains("try 2 of 3"), "{notes:?}");
}

#[tokio::test]
async fn nobody_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let repository = repository_with(options(), &port.to_string());
    assert_eq!(kind(repository.exists(&layer(b"abc")).await), Kind::Network);
    let nowhere = repository_with(Options { attempts: 1, ..options() }, "no-such-host.invalid");
    assert_eq!(kind(nowhere.exists(&layer(b"abc")).await), Kind::Network);
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let options = Options { attempts: 1, connect_timeout: Duration::from_millis(300), ..options() };
    assert_eq!(kind(repository_with(options, &host).exists(&layer(b"abc")).await), Kind::Timeout);
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls() {
    let server = Lying::start(|_, _| Answer::new(200));
    // Not loopback by name, so it is reached by https; the address of the plain server all the same.
    let host = format!("[::ffff:127.0.0.1]:{}", server.address.port());
    let error = repository_with(Options { attempts: 1, ..options() }, &host).exists(&layer(b"abc")).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Tls, "{error}");
    assert!(error.advice().unwrap().contains("--plain-http"), "{error}");
}

#[tokio::test]
async fn the_error_says_who_said_what() {
    let body = r#"{"errors":[{"code":"DENIED","message":"quota\u001b[31m exceeded"}]}"#;
    let server = Lying::start(move |_, _| Answer::new(403).body(body));
    let error = repository(&server).fetch(&layer(b"abc")).await.err().unwrap().to_string();
    for part in [&server.host(), "acme/agent@sha256:", "403 Forbidden", "DENIED: quota", "[Auth]"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains('\u{1b}'), "{error}");
}

// Redirects.

#[tokio::test]
async fn a_login_does_not_follow_a_redirect() {
    let store = Lying::start(|_, _| Answer::new(200).body("abc"));
    let target = format!("http://{}/store?signature=s", store.host());
    let server = Lying::start(move |request, _| match request.authorization() {
        "" => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        _ => Answer::new(307).header("Location", &target),
    });
    let (options, _folder) = with_login(&[&server.host()]);
    let repository = repository_with(options, &server.host());
    assert_eq!(read(&repository, &layer(b"abc")).await.unwrap(), "abc");
    assert_eq!(store.seen()[0].path, "/store?signature=s");
    assert_eq!(store.seen()[0].authorization(), "");
}

#[tokio::test]
async fn circles_and_strange_places_are_not_followed() {
    for (location, requests) in
        [("/again", 6), ("file:///etc/passwd", 1), ("http://[", 1), ("http://u:p@h/", 1)]
    {
        let server = Lying::start(move |_, _| Answer::new(307).header("Location", location));
        let fetched = repository(&server).fetch(&layer(b"abc")).await;
        assert_eq!(kind(fetched), Kind::RedirectForbidden, "{location}");
        assert_eq!(server.seen().len(), requests, "{location}");
    }
}

#[tokio::test]
async fn content_is_not_sent_where_a_redirect_points() {
    let other = Lying::start(|_, _| Answer::new(202).header("Location", "/session"));
    let target = format!("http://{}/", other.host());
    let server = Lying::start(move |_, _| Answer::new(307).header("Location", &target));
    let pushed = repository(&server).push(&layer(b"abc"), reader(&layer(b"abc"), b"abc")).await;
    assert_eq!(kind(pushed), Kind::RedirectForbidden);
    assert!(other.seen().is_empty());
}

// Logins and tokens.

/// A registry with a token server at `/token` on the same port. `lives` is how often a token works.
fn guarded(expires_in: i64, lives: usize) -> Lying {
    guarded_for(1, expires_in, lives)
}

/// The same, but no token is given out before so many have been turned away.
fn guarded_for(crowd: usize, expires_in: i64, lives: usize) -> Lying {
    let address = Arc::new(Mutex::new(String::new()));
    let (known, issued) = (address.clone(), AtomicUsize::new(0));
    let uses = Mutex::new(std::collections::HashMap::<String, usize>::new());
    let (turned_away, door) = (Mutex::new(0), std::sync::Condvar::new());
    let server = Lying::start(move |request, _| {
        if request.path.starts_with("/token") {
            let number = issued.fetch_add(1, Ordering::SeqCst);
            let turned_away = turned_away.lock().unwrap();
            drop(door.wait_timeout_while(turned_away, Duration::from_secs(10), |n| *n < crowd).unwrap());
            return Answer::new(200).body(format!("{{\"token\":\"t{number}\",\"expires_in\":{expires_in}}}"));
        }
        let mut uses = uses.lock().unwrap();
        let used = uses.entry(request.authorization().to_owned()).or_default();
        *used += 1;
        if request.authorization().starts_with("Bearer t") && *used <= lives {
            return Answer::new(200).header("Content-Length", 3).body("abc");
        }
        *turned_away.lock().unwrap() += 1;
        door.notify_all();
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", known.lock().unwrap());
        Answer::new(401).header("WWW-Authenticate", realm)
    });
    *address.lock().unwrap() = server.host();
    server
}

#[tokio::test]
async fn eight_who_need_a_token_ask_for_one() {
    let server = guarded_for(8, 300, usize::MAX);
    let repository = repository(&server);
    let layer = layer(b"abc");
    let reads = (0..8).map(|_| read(&repository, &layer));
    for result in futures_util::future::join_all(reads).await {
        assert_eq!(result.unwrap(), "abc");
    }
    assert_eq!(server.count("/token"), 1);
    let path = &server.seen().into_iter().find(|request| request.path.starts_with("/token")).unwrap().path;
    assert_eq!(path, "/token?service=s&scope=repository%3Aacme%2Fagent%3Apull");
    // From now on, nobody needs to be challenged.
    let before = server.seen().len();
    assert!(repository.exists(&layer).await.unwrap());
    assert_eq!(server.seen().len(), before + 2, "a token for pushing, and the request");
}

#[tokio::test]
async fn a_worn_out_token_is_replaced_once() {
    let server = guarded(300, 1);
    let repository = repository(&server);
    for _ in 0..2 {
        assert_eq!(read(&repository, &layer(b"abc")).await.unwrap(), "abc");
    }
    assert_eq!(server.count("/token"), 2);
}

#[tokio::test]
async fn a_short_lived_token_is_renewed_before_it_is_refused() {
    let server = Arc::new(guarded(1, usize::MAX));
    let repository = repository(&server);
    assert!(read(&repository, &layer(b"abc")).await.is_ok());
    tokio::time::sleep(Duration::from_millis(850)).await;
    let before = server.seen().len();
    assert!(read(&repository, &layer(b"abc")).await.is_ok());
    assert_eq!(server.seen().len(), before + 2);
}

#[tokio::test]
async fn refused_forever_is_refused_soon() {
    let server = guarded(300, 0);
    let (options, _folder) = with_login(&[&server.host()]);
    let repository = repository_with(options, &server.host());
    assert_eq!(kind(repository.exists(&layer(b"abc")).await), Kind::Auth);
    assert_eq!(server.count("/v2/"), 2);
    assert_eq!(server.count("/token"), 1);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let echo = |request: &Request, _| {
        let answer = Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\"");
        answer.body(format!("not {} nor {CANARY}", request.authorization()))
    };
    let server = Lying::start(echo);
    let (options, _folder) = with_login(&[&server.host()]);
    let error =
        repository_with(options, &server.host()).resolve(&name(&server.host()), None).await.unwrap_err();
    assert!(error.to_string().contains("not Basic *** nor ***"), "{error}");
    assert!(error.advice().unwrap().contains("auth.json"), "{error}");
    assert_eq!(kind(Err::<(), _>(error)), Kind::Auth);
    assert_eq!(server.seen().len(), 2);
    let anonymous = repository(&server).exists(&layer(b"abc")).await.unwrap_err();
    assert!(anonymous.advice().unwrap().contains("docker login"), "{anonymous}");
}

#[tokio::test]
async fn a_password_opens_what_it_should() {
    let server = Lying::start(|request, _| match request.authorization() {
        "Basic cm9ib3Q6Y2FuYXJ5LXA0c3N3MHJk" => Answer::new(200).body("abc"),
        _ => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let (options, _folder) = with_login(&[&server.host()]);
    let repository = repository_with(options, &server.host());
    for _ in 0..2 {
        assert_eq!(read(&repository, &layer(b"abc")).await.unwrap(), "abc");
    }
    assert_eq!(server.seen().len(), 3, "one challenge for all");
}

#[tokio::test]
async fn a_foreign_token_server_gets_no_login() {
    let thief = Lying::start(|_, _| Answer::new(200).body("{\"token\":\"t\"}"));
    let realm = format!("Bearer realm=\"http://localhost:{}/token\"", thief.address.port());
    let server = Lying::start(move |_, _| Answer::new(401).header("WWW-Authenticate", &realm));
    let (options, _folder) = with_login(&[&server.host()]);
    assert_eq!(kind(repository_with(options, &server.host()).exists(&layer(b"abc")).await), Kind::AuthRealm);
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn a_token_server_that_refuses_is_not_ignored() {
    for (status, expected, requests) in [
        (429, Kind::RegistryRejected, 3),
        (401, Kind::Auth, 1),
        (400, Kind::Auth, 1),
        (302, Kind::UnexpectedContent, 1),
    ] {
        let tokens = Lying::start(move |_, _| Answer::new(status).header("Retry-After", 0).body(CANARY));
        let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host());
        let server = Lying::start(move |_, _| Answer::new(401).header("WWW-Authenticate", &realm));
        let (options, _folder) = with_login(&[&server.host()]);
        let repository = repository_with(options, &server.host());
        assert_eq!(kind(repository.exists(&layer(b"abc")).await), expected, "{status}");
        assert_eq!(tokens.seen().len(), requests, "{status}");
    }
}

#[tokio::test]
async fn token_answers_that_are_none() {
    for body in ["", "{}", "{\"token\":\"a\\r\\nX-Evil: 1\"}"] {
        let tokens = Lying::start(move |_, _| Answer::new(200).body(body));
        let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host());
        let server = Lying::start(move |_, _| Answer::new(401).header("WWW-Authenticate", &realm));
        assert_eq!(kind(repository(&server).exists(&layer(b"abc")).await), Kind::AuthChallenge, "{body}");
    }
    let tokens = Lying::start(|_, _| Answer::new(200).endless());
    let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host());
    let server = Lying::start(move |_, _| Answer::new(401).header("WWW-Authenticate", &realm));
    assert_eq!(kind(repository(&server).exists(&layer(b"abc")).await), Kind::LimitExceeded);
}

#[tokio::test]
async fn an_identity_token_is_traded_in() {
    let server = guarded(300, usize::MAX);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.json");
    let auths = serde_json::json!({ "auths": { server.host(): { "identitytoken": CANARY } } });
    std::fs::write(&path, auths.to_string()).unwrap();
    let options = Options { keychain: Keychain::file(path), ..options() };
    assert!(read(&repository_with(options, &server.host()), &layer(b"abc")).await.is_ok());
    let asked = server.seen().into_iter().find(|request| request.path == "/token").unwrap();
    assert_eq!(asked.method, "POST");
    let form = String::from_utf8(asked.body).unwrap();
    assert!(form.contains("grant_type=refresh_token") && form.contains(CANARY), "{form}");
}

#[tokio::test]
async fn a_ping_says_whether_it_is_a_registry() {
    let ping =
        async |server: &Lying| Client::new(options()).unwrap().ping(&server.host().parse().unwrap()).await;
    assert!(ping(&guarded(300, usize::MAX)).await.is_ok());
    assert_eq!(kind(ping(&Lying::start(|_, _| Answer::new(404))).await), Kind::RegistryUnsupported);
}

// Pushing.

/// Takes uploads: sessions at `location`, everything else created.
fn taking(location: &'static str) -> Lying {
    Lying::start(move |request, _| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", location),
        "PUT" => Answer::new(201),
        _ => Answer::new(204),
    })
}

#[tokio::test]
async fn a_relative_location_with_a_query() {
    let server = taking("/v2/acme/agent/blobs/uploads/7?_state=a%2Bb");
    repository(&server).push(&layer(b"abc"), reader(&layer(b"abc"), b"abc")).await.unwrap();
    let put = &server.seen()[1];
    let digest = Digest::of(b"abc").hex();
    assert_eq!(put.path, format!("/v2/acme/agent/blobs/uploads/7?_state=a%2Bb&digest=sha256%3A{digest}"));
    assert_eq!((put.header("content-length"), put.body.as_slice()), (Some("3"), &b"abc"[..]));
}

#[tokio::test]
async fn an_empty_blob() {
    let server = taking("/session");
    repository(&server).push(&layer(b""), reader(&layer(b""), b"")).await.unwrap();
    assert_eq!(server.seen()[1].header("content-length"), Some("0"));
    let wrong = Descriptor { digest: Digest::of(b"x"), ..layer(b"") };
    assert_eq!(kind(repository(&server).push(&wrong, reader(&wrong, b"")).await), Kind::DigestMismatch);
}

#[tokio::test]
async fn an_upload_elsewhere_goes_without_the_login() {
    let store = Lying::start(|_, _| Answer::new(201));
    let location = format!("http://{}/session", store.host());
    let server = Lying::start(move |request, _| match request.authorization() {
        "" => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        _ => Answer::new(202).header("Location", &location),
    });
    let (options, _folder) = with_login(&[&server.host()]);
    let repository = repository_with(options, &server.host());
    repository.push(&layer(b"abc"), reader(&layer(b"abc"), b"abc")).await.unwrap();
    assert_eq!((store.seen()[0].authorization(), store.seen()[0].body.as_slice()), ("", &b"abc"[..]));
}

#[tokio::test]
async fn mounting() {
    let answering = |status| {
        Lying::start(move |request, _| match request.method.as_str() {
            "POST" => Answer::new(status).header("Location", "/session"),
            _ => Answer::new(204),
        })
    };
    for (status, mounted, requests) in [(201, true, 1), (202, false, 2), (404, false, 1), (405, false, 1)] {
        let server = answering(status);
        assert_eq!(
            repository(&server).mount(&layer(b"abc"), "acme/other").await.unwrap(),
            mounted,
            "{status}"
        );
        let seen = server.seen();
        assert_eq!(seen.len(), requests, "{status}");
        assert!(seen[0].path.contains("?mount=sha256%3A") && seen[0].path.ends_with("&from=acme%2Fother"));
        assert!(seen.get(1).is_none_or(|request| request.method == "DELETE" && request.path == "/session"));
    }
    let server = answering(429);
    assert_eq!(kind(repository(&server).mount(&layer(b"abc"), "acme/other").await), Kind::RegistryRejected);
    assert!(repository(&server).mount(&layer(b"abc"), "../other").await.is_err());
}

#[tokio::test]
async fn the_sources_failure_is_told_as_such() {
    let server = taking("/session");
    let expected = layer(b"abcdef");
    let broken =
        stream::iter([Ok(Bytes::from_static(b"abc")), Err(Error::new(Kind::Io, "the stick is gone"))]);
    let error = repository(&server)
        .push(&expected, Reader::new(&expected, Unverified::new("stick", broken)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error}");
    assert!(error.to_string().starts_with("source: the stick is gone"), "{error}");
    let wrong = repository(&server).push(&expected, reader(&expected, b"abcdeX")).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::DigestMismatch, "{wrong}");
}

#[tokio::test]
async fn a_rash_refusal_is_heard() {
    // More than the socket buffers take, so that the refusal comes in the middle.
    let content = Bytes::from(vec![7u8; 16 << 20]);
    let server = Lying::rash(|request, _| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", "/session"),
        _ => Answer::new(413).body("too large"),
    });
    let expected = layer(&content);
    let error = repository(&server).push(&expected, Reader::of_bytes(&expected, "test", content)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryRejected, "{error}");
    assert!(error.to_string().contains("413"), "{error}");
}

#[tokio::test]
async fn a_rash_success_is_not_believed() {
    let content = Bytes::from(vec![7u8; 16 << 20]);
    let server = Lying::rash(|request, _| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", "/session"),
        _ => Answer::new(201),
    });
    let expected = layer(&content);
    let half = content.len() / 2;
    let pieces = [content.slice(..half), content.slice(half..)];
    let slow = stream::unfold(pieces.into_iter(), |mut pieces| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Some((Ok(pieces.next()?), pieces))
    });
    let error = repository(&server)
        .push(&expected, Reader::new(&expected, Unverified::new("test", slow)))
        .await
        .unwrap_err();
    assert!([Kind::RegistryCorrupt, Kind::Network].contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn a_slow_source_is_waited_for_and_a_silent_server_is_not() {
    let expected = layer(b"abcdef");
    let slow = |pieces: [&'static [u8]; 2]| {
        stream::unfold(pieces.into_iter(), |mut pieces| async move {
            // Longer than the server may be silent.
            tokio::time::sleep(Duration::from_millis(900)).await;
            Some((Ok(Bytes::from_static(pieces.next()?)), pieces))
        })
    };
    let options = || Options { connect_timeout: Duration::from_millis(100), ..options() };
    let server = taking("/session");
    let repository =
        repository_with(Options { idle_timeout: Duration::from_millis(500), ..options() }, &server.host());
    repository
        .push(&expected, Reader::new(&expected, Unverified::new("slow", slow([b"abc", b"def"]))))
        .await
        .unwrap();

    let server = Lying::start(|request, _| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", "/session"),
        _ => Answer::new(201).silent(),
    });
    let repository =
        repository_with(Options { idle_timeout: Duration::from_millis(100), ..options() }, &server.host());
    let error = repository.push(&expected, reader(&expected, b"abcdef")).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (Kind::Timeout, Retry::Soon), "{error}");
}

#[tokio::test]
async fn a_token_that_dies_on_the_way_is_worth_another_try() {
    let server = {
        let address = Arc::new(Mutex::new(String::new()));
        let known = address.clone();
        let server =
            Lying::start(move |request, number| match (request.method.as_str(), request.authorization()) {
                ("GET", _) => Answer::new(200).body(format!("{{\"token\":\"t{number}\"}}")),
                ("POST", bearer) if !bearer.is_empty() => Answer::new(202).header("Location", "/session"),
                ("PUT", bearer) if bearer != "Bearer t1" => Answer::new(201),
                _ => {
                    let realm = format!("Bearer realm=\"http://{}/token\"", known.lock().unwrap());
                    Answer::new(401).header("WWW-Authenticate", realm)
                }
            });
        *address.lock().unwrap() = server.host();
        server
    };
    let repository = repository(&server);
    let expected = layer(b"abc");
    let push = || repository.push(&expected, reader(&expected, b"abc"));
    let Err(error) = push().await else { panic!("{:?}", server.seen()) };
    assert_eq!((error.kind(), error.retryable()), (Kind::Auth, Retry::Soon), "{error}");
    push().await.unwrap();
}

#[tokio::test]
async fn documents_and_tags() {
    let digest = Digest::of(b"{}");
    let server = Lying::start(move |_, _| Answer::new(201).header("Docker-Content-Digest", digest));
    let repository = repository(&server);
    repository.push(&manifest(b"{}"), reader(&manifest(b"{}"), b"{}")).await.unwrap();
    repository.tag(&name(&server.host()), &manifest(b"{}"), Bytes::from_static(b"{}")).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].path, format!("/v2/acme/agent/manifests/{digest}"));
    assert_eq!(seen[1].path, "/v2/acme/agent/manifests/1.0");
    for request in seen {
        assert_eq!((request.method.as_str(), request.header("content-type")), ("PUT", Some(media::MANIFEST)));
    }
    let other = manifest(b"[]");
    assert_eq!(kind(repository.push(&other, reader(&other, b"[]")).await), Kind::RegistryCorrupt);
}

#[tokio::test]
async fn what_registries_say_to_a_document() {
    for (status, code, expected) in [
        (400, "MANIFEST_BLOB_UNKNOWN", Kind::RegistryRejected),
        (400, "UNSUPPORTED", Kind::RegistryUnsupported),
        (415, "MANIFEST_INVALID", Kind::RegistryUnsupported),
        (409, "DENIED", Kind::RegistryRejected),
        (413, "SIZE_INVALID", Kind::RegistryRejected),
        (507, "", Kind::RegistryRejected),
    ] {
        let body = format!("{{\"errors\":[{{\"code\":\"{code}\"}}]}}");
        let server = Lying::start(move |_, _| Answer::new(status).body(&body));
        let pushed = repository(&server).push(&manifest(b"{}"), reader(&manifest(b"{}"), b"{}")).await;
        assert_eq!(kind(pushed), expected, "{status}");
        assert_eq!(server.seen().len(), 1);
    }
}

// The set-up.

#[test]
fn a_ca_file_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for content in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let path = folder.path().join("site-ca.pem");
        std::fs::write(&path, content).unwrap();
        let error = Client::new(Options { ca: vec![path], ..options() }).err().unwrap();
        assert_eq!(error.kind(), Kind::Tls);
        assert!(error.to_string().contains("site-ca.pem"), "{error}");
    }
}

// Answers that are hardly HTTP.

#[tokio::test]
async fn a_flood_of_challenges_opens_nothing() {
    let tokens = Lying::start(|_, _| Answer::new(200).body("{\"token\":\"t\"}"));
    let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host());
    let mut many = Answer::new(401);
    for number in 0..90 {
        many = many.header("WWW-Authenticate", format!("Scheme{number} realm=\"r\""));
    }
    let flood = many.clone().header("WWW-Authenticate", "Basic realm=\"r\"");
    for (answer, expected) in [
        (Answer::new(401).header("WWW-Authenticate", "x".repeat(1 << 20)), Kind::Network),
        (
            Answer::new(401).header("WWW-Authenticate", format!("{realm},x=\"{}\"", "x".repeat(300_000))),
            Kind::AuthChallenge,
        ),
        (many, Kind::AuthChallenge),
        // Only the first few are looked at.
        (flood, Kind::AuthChallenge),
    ] {
        let server = Lying::start(move |_, _| answer.clone());
        assert_eq!(kind(repository(&server).exists(&layer(b"abc")).await), expected);
        assert!(server.seen().len() <= 3);
    }
    assert!(tokens.seen().is_empty());
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_smuggle() {
    let both = |chunks: &'static str| {
        let answer = Answer::new(200).header("Content-Length", 3).header("Transfer-Encoding", "chunked");
        Lying::start(move |_, _| answer.clone().body(chunks))
    };
    let server = both("3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(read(&repository(&server), &layer(b"abc")).await.unwrap(), "abc");
    for (chunks, expected) in [
        ("3\r\nabX\r\n0\r\n\r\n", Kind::DigestMismatch),
        ("4\r\nabcd\r\n0\r\n\r\n", Kind::SizeMismatch),
        ("abc", Kind::Network),
        ("ffffffffffffffffff\r\nabc\r\n0\r\n\r\n", Kind::Network),
        ("-3\r\nabc\r\n0\r\n\r\n", Kind::Network),
    ] {
        assert_eq!(kind(read(&repository(&both(chunks)), &layer(b"abc")).await), expected, "{chunks:?}");
    }
}

#[tokio::test]
async fn chunks_that_do_not_end_are_not_taken_for_a_document() {
    for body in ["2\r\n{}\r\n", "2\r\n{}", "2\r\n{", "5\r\n{}", ""] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            media::MANIFEST
        );
        let answer = Answer::raw(format!("{head}{body}"));
        let server = Lying::start(move |_, _| answer.clone());
        assert_eq!(
            kind(repository(&server).resolve(&name(&server.host()), None).await),
            Kind::Network,
            "{body:?}"
        );
        assert_eq!(server.seen().len(), 3, "{body:?}");
    }
    // Without a length the end of the connection is the end of the body: then the digest tells.
    let server = Lying::start(|_, _| Answer::raw("HTTP/1.1 200 OK\r\n\r\nab"));
    assert_eq!(kind(read(&repository(&server), &layer(b"abc")).await), Kind::Network);
}

#[tokio::test]
async fn answers_that_are_no_http_end_soon() {
    // Frames of HTTP/2, which is not spoken: settings, go away, a reset stream; and a flood of continuations.
    let settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    let go_away = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    let reset = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x02".to_vec();
    let continuation = b"\x00\x00\x10\x09\x00\x00\x00\x00\x01 sixteen octets ".to_vec();
    let empty_data = b"\x00\x00\x00\x00\x00\x00\x00\x00\x01".to_vec();
    for answer in [
        Answer::raw([settings.clone(), go_away].concat()),
        Answer::raw([settings, reset].concat()),
        Answer::flood(continuation),
        Answer::flood(empty_data),
        Answer::flood("HTTP/1.1 100 Continue\r\n"),
        Answer::flood("X-Header: without an end\r\n"),
        Answer::raw("SSH-2.0-OpenSSH_9.2\r\n"),
        Answer::raw("HTTP/1.1 999999 ?\r\n\r\n"),
        Answer::raw(""),
    ] {
        let shown = format!("{answer:?}");
        let server = Lying::start(move |_, _| answer.clone());
        let options = Options { attempts: 1, ..options() };
        let failed = repository_with(options, &server.host()).exists(&layer(b"abc")).await;
        assert_eq!(kind(failed), Kind::Network, "{shown:.80}");
    }
}

#[tokio::test]
async fn a_handshake_that_breaks_off_is_told_with_its_host() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // Alternately: gone at once, and gone in the middle of a record.
        for (number, stream) in listener.incoming().flatten().enumerate() {
            if number % 2 == 1 {
                let _ = std::io::Write::write_all(&mut &stream, b"\x16\x03\x03\x40\x00\x02");
            }
        }
    });
    let host = format!("[::ffff:127.0.0.1]:{port}");
    let repository = repository_with(Options { attempts: 2, ..options() }, &host);
    let looked_for = repository.exists(&layer(b"abc")).await;
    let error = looked_for.unwrap_err();
    assert!([Kind::Network, Kind::Tls].contains(&error.kind()), "{error}");
    assert!(error.to_string().contains(&format!(":{port}")), "{error}");
}

#[tokio::test]
async fn a_document_that_drips_is_given_up_and_a_layer_that_drips_is_not() {
    let pause = Duration::from_millis(60);
    let document = format!("{{\"annotations\":\"{}\"}}", "x".repeat(200));
    let answer = Answer::new(200).header("Content-Type", media::MANIFEST).dripping(document, pause);
    let server = Lying::start(move |_, _| answer.clone());
    let patient = || Options { attempts: 1, idle_timeout: Duration::from_millis(300), ..options() };
    let began = std::time::Instant::now();
    let failed = repository_with(patient(), &server.host()).resolve(&name(&server.host()), None).await;
    assert_eq!(kind(failed), Kind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(10), "all of it takes twelve seconds");
    // A large layer over a thin line may take days; whoever does not want that interrupts.
    let content: &'static [u8] = &[7; 40];
    let server = Lying::start(move |_, _| Answer::new(200).dripping(content, pause));
    let began = std::time::Instant::now();
    assert_eq!(read(&repository_with(patient(), &server.host()), &layer(content)).await.unwrap(), content);
    assert!(began.elapsed() > Duration::from_millis(1600), "longer than a document may take");
}

#[tokio::test]
async fn a_next_page_is_not_followed() {
    // Nothing is listed page by page, so no answer's Link means anything.
    let elsewhere = Lying::start(|_, _| Answer::new(200).body("{}"));
    let link = format!("<http://{}/v2/_catalog?last=x>; rel=\"next\"", elsewhere.host());
    let circle = "</v2/acme/agent/tags/list?last=x>; rel=\"next\"";
    for link in [link.as_str(), circle] {
        let link = link.to_owned();
        let server = Lying::start(move |_, _| {
            let answer = Answer::new(200).header("Link", &link).header("Content-Type", media::MANIFEST);
            answer.body("{\"schemaVersion\":2}")
        });
        let repository = repository(&server);
        repository.resolve(&name(&server.host()), None).await.unwrap();
        repository.tagged(&name(&server.host())).await.unwrap();
        read(&repository, &layer(b"{\"schemaVersion\":2}")).await.unwrap();
        assert_eq!((server.count("list"), server.count("catalog"), server.count("referrers")), (0, 0, 0));
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_session_that_is_lost_is_replaced_by_another() {
    for lost in [404, 410] {
        let server = Lying::start(move |request, number| match request.method.as_str() {
            "POST" => Answer::new(202).header("Location", format!("/session{number}")),
            "PUT" if request.path.starts_with("/session0") => {
                Answer::new(lost).body("{\"errors\":[{\"code\":\"BLOB_UPLOAD_UNKNOWN\"}]}")
            }
            "PUT" => Answer::new(201),
            "HEAD" => Answer::new(404),
            _ => Answer::new(404),
        });
        let repository = repository(&server);
        let expected = layer(b"abc");
        let push = || repository.push(&expected, reader(&expected, b"abc"));
        let error = push().await.unwrap_err();
        match lost {
            404 => {
                assert_eq!((error.kind(), error.retryable()), (Kind::NotFound, Retry::Soon), "{error}");
                push().await.unwrap();
                assert_eq!(server.seen().last().unwrap().body, b"abc");
            }
            // Gone for good is another word.
            _ => assert_eq!(error.retryable(), Retry::Never, "{error}"),
        }
    }
}
