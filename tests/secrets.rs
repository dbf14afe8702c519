//! Secrets stay where they are: canaries are planted wherever a secret can come from, everything is done that can
//! be done with them, well and badly, and then nothing that was said, written or sent elsewhere may hold one,
//! in whatever spelling.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;
use support::images::served;
use support::lying::{Answer, Lying, Request};
use support::registry::Registry;
use support::running::Running;
use support::{EXPORT, Run, Scratch, peer, run};

// Each has characters that encodings change.
const PASSPHRASE: &str = "canary pass/phrase+%~";
const PASSWORD: &str = "canary pass/word+%~";
const IDENTITY: &str = "canary/identity+token%~";
const HELPED: &str = "canary help/ed+%~";
const ISSUED: &str = "canary/issued+token%~";
const SIGNED: &str = "canary-signed-address";
const TYPED: &str = "canary-typed";

// ── Canaries ─────────────────────────────────────────────────────────────────────────────────────

/// A secret in every spelling in which it could get out.
struct Canary {
    name: &'static str,
    spellings: BTreeSet<Vec<u8>>,
}

impl Canary {
    fn new(name: &'static str, secret: &[u8]) -> Self {
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let percent = |keep: &str| -> String {
            let kept = |b: &u8| b.is_ascii_alphanumeric() || keep.as_bytes().contains(b);
            secret
                .iter()
                .map(|b| if kept(b) { char::from(*b).to_string() } else { format!("%{b:02X}") })
                .collect()
        };
        let mut spellings: BTreeSet<_> = ["", "-._~", "-._~/+", "-._~/+ "].map(percent).into_iter().collect();
        spellings.insert(percent("-._*").replace("%20", "+"));
        spellings.extend([hex.to_uppercase(), hex]);
        for text in spellings.clone().into_iter().filter(|text| text.contains('%')) {
            spellings.insert(text.to_lowercase());
        }
        let mut spellings: BTreeSet<_> = spellings.into_iter().map(String::into_bytes).collect();
        spellings.insert(secret.to_vec());
        // As a part of something longer in base64, it stands at one of three distances from a boundary.
        for before in 0..3 {
            let padded = [&vec![0; before][..], secret].concat();
            let whole = padded.len() / 3 * 4;
            for encoded in [STANDARD.encode(&padded), URL_SAFE.encode(&padded)] {
                spellings.insert(encoded.as_bytes()[(before * 4).div_ceil(3)..whole].to_vec());
            }
        }
        // Chance must not find one.
        assert!(spellings.iter().all(|spelling| spelling.len() >= 8), "{name}");
        Canary { name, spellings }
    }

    fn is_in(&self, bytes: &[u8]) -> Option<&[u8]> {
        let found = |spelling: &&Vec<u8>| memchr::memmem::find(bytes, spelling).is_some();
        self.spellings.iter().find(found).map(Vec::as_slice)
    }
}

/// All secrets of a scratch directory.
struct Canaries(Vec<Canary>);

impl Canaries {
    /// Those that are planted, and the seed of this private key.
    fn with_key(pem: &str) -> Self {
        use ed25519_dalek::pkcs8::DecodePrivateKey;
        let seed = ed25519_dalek::SigningKey::from_pkcs8_pem(pem).unwrap().to_bytes();
        let planted = [
            ("the passphrase", PASSPHRASE),
            ("the password", PASSWORD),
            ("the identity token", IDENTITY),
            ("the helper's secret", HELPED),
            ("the issued token", ISSUED),
            ("the signed address", SIGNED),
            ("the typed password", TYPED),
        ];
        let mut all: Vec<_> =
            planted.into_iter().map(|(name, text)| Canary::new(name, text.as_bytes())).collect();
        all.push(Canary::new("the key's seed", &seed));
        Canaries(all)
    }

    /// Those of these names.
    fn only(&self, names: &[&str]) -> impl Iterator<Item = &Canary> {
        self.0.iter().filter(move |canary| names.contains(&canary.name))
    }

    #[track_caller]
    fn not_in(&self, bytes: &[u8], place: &str) {
        for canary in &self.0 {
            if let Some(spelling) = canary.is_in(bytes) {
                panic!(
                    "{} is in {place}, as {:?}\n{}",
                    canary.name,
                    String::from_utf8_lossy(spelling),
                    String::from_utf8_lossy(bytes)
                );
            }
        }
    }

    /// Requires that a command said nothing of them.
    #[track_caller]
    fn unsaid(&self, run: Run) -> Run {
        self.not_in(run.stdout.as_bytes(), "standard output");
        self.not_in(run.stderr.as_bytes(), &format!("standard error of {}", run.command.replace(TYPED, "…")));
        run
    }

    /// Requires that no file holds one but those that they were planted in. Returns how many were read.
    #[track_caller]
    fn unwritten(&self, scratch: &Scratch) -> usize {
        let planted = ["pass", "auth.json", "plain.pem", "release.key.pem", "docker-credential-canary"];
        let mut read = 0;
        for path in files(&scratch.path("")) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if planted.contains(&name.as_str()) {
                continue;
            }
            self.not_in(&fs::read(&path).unwrap(), &path.display().to_string());
            read += 1;
        }
        read
    }

    /// Requires that a server was told none, in any request, but for those of these names.
    #[track_caller]
    fn untold(&self, server: &Lying, but: &[&str]) {
        for request in server.seen() {
            for canary in self.0.iter().filter(|canary| !but.contains(&canary.name)) {
                let all = [format!("{request:?}").into_bytes(), request.body.clone()].concat();
                assert!(canary.is_in(&all).is_none(), "{} went to another host: {request:?}", canary.name);
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn canaries_are_found_in_every_spelling() {
    let canary = Canary::new("test", PASSWORD.as_bytes());
    for before in ["", "u", "us", "user:"] {
        for after in ["", "x", "xyz"] {
            let text = format!("{before}{PASSWORD}{after}");
            assert!(canary.is_in(text.as_bytes()).is_some());
            assert!(canary.is_in(STANDARD.encode(&text).as_bytes()).is_some(), "{before}…{after}");
            assert!(canary.is_in(URL_SAFE.encode(&text).as_bytes()).is_some(), "{before}…{after}");
        }
    }
    assert!(canary.is_in(b"canary%20pass%2Fword%2B%25~").is_some());
    assert!(canary.is_in(b"canary+pass%2Fword%2B%25%7E").is_some());
    assert!(canary.is_in(b"canary%20pass%2fword%2b%25%7e").is_some());
    assert!(canary.is_in(b"canary").is_none());
}

// ── A registry that asks for a login ─────────────────────────────────────────────────────────────

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The token server refuses, and says everything back that it was told.
    TokenRefused(u16),
    /// The token server's answer is none, and has the token in it.
    TokenMangled,
    /// The token server refuses, and says the password behind so many other characters.
    TokenRefusedAtLength(usize),
    /// The registry refuses blobs, and says everything back.
    Refused(u16),
    /// The registry asks to send the login to another host.
    OtherRealm,
    /// Layers end in the middle and never go on.
    Stall,
}

struct Guarded {
    scratch: Scratch,
    registry: Lying,
    /// Where blobs are redirected to: not to be told anything but the address.
    storage: Lying,
    fault: Arc<Mutex<Fault>>,
    canaries: Canaries,
}

/// What was asked, as a server may say it back.
fn echo(request: &Request) -> String {
    let login = request.authorization();
    let credential = login.split_once(' ').map_or("", |(_, credential)| credential);
    let decoded = STANDARD.decode(credential).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded);
    let form = String::from_utf8_lossy(&request.body);
    let percent = |text: &str| {
        let one =
            |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
        text.bytes().map(one).collect::<String>()
    };
    let password = decoded.split_once(':').map_or("", |(_, password)| password);
    format!(
        "{login} {credential} {decoded} {password} {} {} {} {form}",
        percent(credential),
        percent(password),
        STANDARD.encode(password)
    )
}

impl Guarded {
    fn start() -> Self {
        let scratch = Scratch::with_heavy_release(30_000);
        let pem = String::from_utf8(scratch.read("release.key.pem")).unwrap();
        let fault = Arc::new(Mutex::new(Fault::None));
        let (root, stalls) = (scratch.path("images"), fault.clone());
        let storage = Lying::start(move |request, _| {
            let digest = request.path.split('?').next().unwrap().rsplit("sha256:").next().unwrap();
            let content = fs::read(root.join("blobs/sha256").join(digest)).unwrap_or_default();
            match *stalls.lock().unwrap() {
                Fault::Stall if content.len() > 20_000 => {
                    Answer::new(200).header("Content-Length", content.len()).stalling(&content[..15_000])
                }
                _ => Answer::new(200).body(content),
            }
        });
        let (faults, elsewhere) = (fault.clone(), storage.host());
        let registry = served(scratch.path("images"), move |request, content| {
            guard(request, *faults.lock().unwrap(), &elsewhere, content)
        });
        scratch.write("pass", PASSPHRASE);
        Guarded { canaries: Canaries::with_key(&pem), scratch, registry, storage, fault }
    }

    /// A file of logins, for `sealift`.
    fn logins(&self, content: serde_json::Value) -> &Self {
        self.scratch.write("auth.json", content.to_string());
        self
    }

    fn with_password(&self) -> &Self {
        let entry = json!({ "auth": STANDARD.encode(format!("user:{PASSWORD}")) });
        self.logins(json!({ "auths": { self.registry.host(): entry } }))
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = self.scratch.command(arguments);
        command.env("REGISTRY_AUTH_FILE", self.scratch.path("auth.json"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.scratch.path("").display()));
        command
    }

    /// The export from this registry.
    fn exporting(&self, more: &str) -> Command {
        let from = format!("registry.example.com={}", self.registry.host());
        self.command(&format!("{} {more}", EXPORT.replace("registry.example.com=oci:images", &from)))
    }

    #[track_caller]
    fn export(&self, fault: Fault, more: &str) -> Run {
        *self.fault.lock().unwrap() = fault;
        for left in ["bundle.tar", "bundle.tar.partial", "bundle.tar.partial.journal"] {
            self.scratch.remove(left);
        }
        self.canaries.unsaid(run(self.exporting(more)))
    }

    /// Nothing on the disk, nothing at the other host but what the address says.
    #[track_caller]
    fn sound(&self) {
        assert!(self.canaries.unwritten(&self.scratch) > 10);
        self.canaries.untold(&self.storage, &["the signed address"]);
    }
}

/// The guard's answer, where the content is not to be given.
fn guard(request: &Request, fault: Fault, elsewhere: &str, content: &[u8]) -> Option<Answer> {
    // A connection that was opened and not used.
    let Some(host) = request.header("host") else { return Some(Answer::new(400)) };
    if request.path.starts_with("/token") {
        return Some(match fault {
            Fault::TokenRefused(status) => Answer::new(status).body(echo(request)),
            Fault::TokenRefusedAtLength(length) => Answer::new(401).body("x".repeat(length) + PASSWORD),
            Fault::TokenMangled => Answer::new(200).body(format!(r#"{{"token": "{ISSUED} {ISSUED}""#)),
            _ => Answer::new(200).body(json!({ "token": ISSUED.replace(' ', "") }).to_string()),
        });
    }
    let realm = match fault {
        Fault::OtherRealm => elsewhere.replace("127.0.0.1", "localhost"),
        _ => host.to_owned(),
    };
    let realm =
        format!(r#"realm="http://{realm}/token",service="canaries",scope="repository:tools/tool:pull""#);
    let asking = |status| Answer::new(status).header("WWW-Authenticate", format!("Bearer {realm}"));
    if !request.authorization().starts_with("Bearer ") {
        return Some(asking(401));
    }
    let blob = request.path.contains("/blobs/");
    match fault {
        Fault::Refused(status) if blob => {
            let body = json!({ "errors": [{ "code": "DENIED", "message": echo(request) }] });
            Some(asking(status).body(body.to_string()))
        }
        _ if blob && !content.is_empty() => {
            let digest = request.path.rsplit('/').next().unwrap();
            Some(
                Answer::new(307)
                    .header("Location", format!("http://{elsewhere}/{digest}?signature={SIGNED}")),
            )
        }
        _ => None,
    }
}

#[test]
fn a_login_is_used_and_not_told() {
    let guarded = Guarded::start();
    for (name, logins) in [
        (
            "a password",
            json!({ "auths": { guarded.registry.host(): { "username": "user", "password": PASSWORD } } }),
        ),
        ("an identity token", json!({ "auths": { guarded.registry.host(): { "identitytoken": IDENTITY } } })),
        ("a helper", json!({ "credHelpers": { guarded.registry.host(): "canary" } })),
    ] {
        let answer = json!({ "ServerURL": guarded.registry.host(), "Username": "user", "Secret": HELPED });
        guarded.scratch.write("docker-credential-canary", format!("#!/bin/sh\ncat <<'END'\n{answer}\nEND\n"));
        guarded.scratch.chmod("docker-credential-canary", 0o755);
        guarded.logins(logins);
        for more in ["--dry-run", "--dry-run --json", "--progress json", "--json --progress plain"] {
            guarded.export(Fault::None, more).ok();
            guarded.sound();
        }
        // They were there to be told.
        let told = guarded.registry.seen().iter().any(|request| {
            let all = [request.authorization().as_bytes(), &request.body].concat();
            let canary = guarded.canaries.0.iter().find(|canary| canary.is_in(&all).is_some());
            canary.is_some_and(|canary| canary.name != "the issued token")
        });
        assert!(told, "{name}");
        let issued = guarded.canaries.only(&["the issued token"]).next().unwrap();
        assert!(
            guarded
                .registry
                .seen()
                .iter()
                .any(|request| issued.is_in(request.authorization().as_bytes()).is_some())
        );
    }
    assert!(guarded.storage.count("/") > 0, "redirects were followed");
    for command in [
        "verify bundle.tar --trust trust --json",
        "inspect bundle.tar --trust trust --json",
        "inspect bundle.tar --trust trust",
    ] {
        guarded.canaries.unsaid(run(guarded.command(command)).ok());
    }
}

#[test]
fn a_refused_login_is_not_told() {
    let guarded = Guarded::start();
    for logins in [
        json!({ "auths": { guarded.registry.host(): { "auth": STANDARD.encode(format!("user:{PASSWORD}")) } } }),
        json!({ "auths": { guarded.registry.host(): { "identitytoken": IDENTITY } } }),
    ] {
        guarded.logins(logins);
        for (fault, kind) in [
            (Fault::TokenRefused(401), "Auth"),
            (Fault::TokenRefused(403), "Auth"),
            (Fault::TokenMangled, "AuthChallenge"),
            (Fault::Refused(401), "Auth"),
            (Fault::Refused(403), "Auth"),
            (Fault::Refused(404), "NotFound"),
            (Fault::OtherRealm, "AuthRealm"),
        ] {
            for more in ["--progress json", "--progress plain --json"] {
                guarded.export(fault, more).fails(1, kind);
                guarded.sound();
            }
        }
    }
    assert!(
        guarded.storage.seen().iter().all(|request| !request.path.contains("token")),
        "asked for no token"
    );
}

/// Long messages are cut: not before what must not be shown was found in them.
#[test]
fn half_a_secret_is_not_told() {
    let guarded = Guarded::start();
    guarded.with_password();
    for length in [0, 100, 185, 190, 195, 199, 200, 580, 590, 599] {
        let run = guarded.export(Fault::TokenRefusedAtLength(length), "").fails(1, "Auth");
        assert!(!run.stderr.contains("xc") && !run.stderr.contains(": c"), "{run}");
        assert!(run.stderr.contains("***") || length > 190, "{run}");
    }
}

#[test]
fn a_passing_fault_that_is_retried_tells_nothing_each_time() {
    let guarded = Guarded::start();
    guarded.with_password();
    for fault in [Fault::Refused(500), Fault::TokenRefused(500)] {
        guarded.export(fault, "--progress json").fails(1, "RegistryRejected");
        guarded.sound();
    }
}

#[test]
fn a_line_that_cannot_be_secured_is_not_spoken_on() {
    let guarded = Guarded::start();
    guarded.with_password();
    let before = guarded.registry.seen().len();
    guarded.export(Fault::None, &format!("--tls {}", guarded.registry.host())).fails(1, "Tls");
    for request in &guarded.registry.seen()[before..] {
        guarded.canaries.not_in(format!("{request:?}").as_bytes(), "a request in clear text");
    }
    guarded.sound();
}

#[test]
fn damaged_logins_and_failing_helpers_are_not_quoted() {
    let guarded = Guarded::start();
    let host = guarded.registry.host();
    for content in [
        json!({ "auths": { &host: { "auth": PASSWORD } } }).to_string(),
        json!({ "auths": { &host: { "auth": STANDARD.encode(PASSWORD) } } }).to_string(),
        json!({ "auths": { &host: { "password": [PASSWORD] } } }).to_string(),
        json!({ "auths": PASSWORD }).to_string(),
        format!(r#"{{"auths": {{"{host}": {{"password": "{PASSWORD}"#),
        PASSWORD.to_owned(),
    ] {
        guarded.scratch.write("auth.json", content);
        guarded.export(Fault::None, "").fails(1, "Auth");
    }
    guarded.logins(json!({ "credHelpers": { &host: "canary" } }));
    for answer in [
        format!("echo '{HELPED}'"),
        format!("echo '{HELPED}'; exit 1"),
        format!("echo '{HELPED}' >&2; exit 1"),
        format!(r#"echo '{{"Username": "user", "Secret": ["{HELPED}"]}}'"#),
    ] {
        guarded.scratch.write("docker-credential-canary", format!("#!/bin/sh\n{answer}\n"));
        guarded.scratch.chmod("docker-credential-canary", 0o755);
        guarded.export(Fault::None, "").fails(1, "CredentialHelper");
    }
    guarded.sound();
}

// ── Interruptions ────────────────────────────────────────────────────────────────────────────────

/// Waits until something is so.
fn until(mut so: impl FnMut() -> bool) {
    let (_open, never) = mpsc::channel::<()>();
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain");
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}

/// Whether a secret is in the memory of a process; `None` where it cannot be read.
fn remembered(process: u32, secret: &[u8]) -> Option<bool> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{process}/mem")).ok()?;
    let mut readable = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let mut bytes = vec![0; (end - start) as usize];
        let Ok(count) = memory.read_at(&mut bytes, start) else { continue };
        readable += count;
        if memchr::memmem::find(&bytes[..count], secret).is_some() {
            return Some(true);
        }
    }
    (readable > 0).then_some(false)
}

#[test]
fn an_interrupted_export_leaves_no_secret_and_forgets_what_unlocked_the_key() {
    let guarded = Guarded::start();
    guarded.with_password();
    let scratch = &guarded.scratch;
    scratch.sealift("key new locked --passphrase-file pass").ok();
    let locked = String::from_utf8(scratch.read("locked.key.pem")).unwrap();
    *guarded.fault.lock().unwrap() = Fault::Stall;
    let command = format!("{} --passphrase-file pass --key locked.key.pem", "--progress json");
    let running = Running::start(guarded.exporting(&command));
    let hand = running.hand();
    until(|| scratch.has("bundle.tar.partial.journal") && guarded.storage.count("/") >= 4);
    // A word that it must still know shows that its memory is read rightly.
    let known = remembered(hand.id(), b"bundle.tar.partial");
    let forgotten = [PASSPHRASE, PASSWORD, locked.lines().nth(2).unwrap()];
    let forgotten = forgotten.map(|secret| remembered(hand.id(), secret.as_bytes()));
    hand.signal("TERM");
    let run = guarded.canaries.unsaid(running.ended());
    assert_eq!(run.code, 130, "{run}");
    assert!(scratch.has("bundle.tar.partial") && scratch.has("bundle.tar.partial.journal"));
    guarded.sound();
    match known {
        Some(known) => {
            assert!(known, "its memory holds what it works on");
            assert_eq!(forgotten[0], Some(false), "the passphrase is still in memory");
            assert_eq!(forgotten[2], Some(false), "the key file is still in memory");
        }
        None => eprintln!("skipped: the memory of another process may not be read here"),
    }
}

// ── The command line ─────────────────────────────────────────────────────────────────────────────

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    let guarded = Guarded::start();
    let scratch = &guarded.scratch;
    scratch.sealift(EXPORT).ok();
    let before = guarded.registry.seen().len();
    let host = guarded.registry.host();
    let login = format!("user:{TYPED}@{host}");
    let export = "export release.toml --dry-run";
    let import = "import bundle.tar --trust trust --to";
    for command in [
        format!("{export} --mirror registry.example.com=https://{login}"),
        format!("{export} --mirror registry.example.com=docker://{login}"),
        format!("{export} --mirror registry.example.com={login}"),
        format!("{export} --mirror https://{login}={host}"),
        format!("{export} --plain-http {login} --mirror registry.example.com={host}1"),
        format!("{export} --tls https://{login} --mirror registry.example.com={host}1"),
        format!("{import} https://{login}"),
        format!("{import} docker://{login}"),
        format!("{import} docker://{login}/prefix"),
        format!("{import} {login}"),
        format!("{import} oci:out --map tools={login}/x:y"),
        format!("{import} oci:out --map https://{login}/tools=x"),
    ] {
        let run = guarded.canaries.unsaid(run(guarded.command(&command)));
        assert_ne!(run.code, 0, "{run}");
    }
    for line in ["registry = ", "repository = "] {
        let manifest = String::from_utf8(scratch.read("release.toml")).unwrap();
        let changed =
            manifest.lines().map(|old| match old.replace(' ', "").starts_with(&line.replace(' ', "")) {
                true => format!("{line}\"https://{login}/tools\""),
                false => old.to_owned(),
            });
        scratch.write("odd.toml", changed.map(|line| line + "\n").collect::<String>());
        guarded.canaries.unsaid(scratch.sealift("export odd.toml --dry-run")).fails(2, "ManifestInvalid");
        scratch.remove("odd.toml");
    }
    assert_eq!(guarded.registry.seen().len(), before, "nobody was asked");
    guarded.sound();
}

// ── Keys ─────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn keys_and_passphrases_are_not_told() {
    let guarded = Guarded::start();
    let (scratch, canaries) = (&guarded.scratch, &guarded.canaries);
    // The same seed under a passphrase: made by another program where there is one.
    scratch.sealift("key new locked --passphrase-file pass").ok();
    let sealift = env!("CARGO_BIN_EXE_sealift");
    let through_a_pipe = |arguments: &str| {
        let mut command = scratch.tool("sh", "-c");
        command.arg(format!("exec 3<pass; exec {sealift} {arguments} --passphrase-file /dev/fd/3"));
        run(command)
    };
    for arguments in ["key show locked.key.pem", "key show locked.key.pem --json", "key new second --json"] {
        canaries.unsaid(through_a_pipe(arguments).ok());
    }
    let export = EXPORT.replace("--key release.key.pem", "--key locked.key.pem --key release.key.pem");
    canaries.unsaid(through_a_pipe(&export).ok());
    scratch.write("wrong", "canary that opens nothing");
    for command in [
        "key show release.key.pem",
        "key show release.key.pem --json",
        "key show release.pub.pem",
        "key new third --passphrase-file pass --json",
        "key new third --passphrase-file pass",
        "key show locked.key.pem --passphrase-file wrong",
        "key show locked.key.pem",
        "key show pass",
        "key show release.toml --passphrase-file pass",
        "verify bundle.tar --trust trust",
        "verify bundle.tar --trust trust --json --progress json",
        "inspect bundle.tar --trust trust --json",
        "import bundle.tar --to oci:out --trust trust --json --progress json",
        "import bundle.tar --to oci:out --trust trust --dry-run --json",
    ] {
        canaries.unsaid(scratch.sealift(command));
    }
    // A private key where a public one belongs.
    scratch.trust("misplaced", &[]);
    fs::copy(scratch.path("release.key.pem"), scratch.path("misplaced/release.key.pem")).unwrap();
    canaries.unsaid(scratch.sealift("verify bundle.tar --trust misplaced")).fails(3, "TrustStore");
    // A damaged private key, whatever is said of it.
    let pem = String::from_utf8(scratch.read("release.key.pem")).unwrap();
    for (from, to) in
        [("PRIVATE", "PUBLIC"), ("-----END", "----END"), ("MC4", "MC5"), ("MC4", "M"), ("MC4", "MC4=")]
    {
        assert!(pem.contains(from));
        scratch.write("plain.pem", pem.replace(from, to));
        scratch.chmod("plain.pem", 0o600);
        let export = EXPORT.replace("release.key.pem", "plain.pem");
        for command in ["key show plain.pem", &export] {
            assert_ne!(canaries.unsaid(scratch.sealift(command)).code, 0, "{to}");
        }
    }
    assert!(canaries.unwritten(scratch) > 20);
}

// ── Into a registry ──────────────────────────────────────────────────────────────────────────────

#[test]
fn an_import_tells_its_login_to_the_registry_alone() {
    let guarded = Guarded::start();
    guarded.with_password();
    guarded.scratch.sealift(EXPORT).ok();
    // Refused: the guarded registry takes no uploads, and says everything back.
    for fault in [Fault::TokenRefused(401), Fault::Refused(403), Fault::Refused(401), Fault::OtherRealm] {
        *guarded.fault.lock().unwrap() = fault;
        for more in ["--json --progress json", "--dry-run --json"] {
            let import = format!("import bundle.tar --to {} --trust trust {more}", guarded.registry.host());
            let run = guarded.canaries.unsaid(run(guarded.command(&import)));
            assert_ne!(run.code, 0, "{run}");
        }
        guarded.sound();
    }
    if !peer("docker-registry") {
        return;
    }
    // Taken: a real registry that wants to see a token.
    *guarded.fault.lock().unwrap() = Fault::None;
    let auth = format!(
        "auth:\n  silly:\n    realm: http://{}/token\n    service: canaries",
        guarded.registry.host()
    );
    let registry = Registry::with(&auth);
    let login = json!({ "auth": STANDARD.encode(format!("user:{PASSWORD}")) });
    guarded.logins(json!({ "auths": { registry.address(): login } }));
    for more in ["--dry-run --json", "--json --progress json", "--progress plain"] {
        let import = format!("import bundle.tar --to {} --trust trust {more}", registry.address());
        let run = guarded.canaries.unsaid(run(guarded.command(&import)).ok());
        if more.contains("--json") {
            fs::write(guarded.scratch.path("receipt.json"), run.stdout).unwrap();
        }
    }
    guarded.sound();
}
