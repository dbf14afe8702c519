//! Logins that other tools stored: `auth.json` of containers-auth.json(5), Docker's `config.json`,
//! and credential helpers. Secrets leave this module only inside types that do not print them; no
//! content of a file and no output of a helper becomes part of an error.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::content::file::read_secret;
use crate::error::{Error, Kind, Result};
use crate::limits;

/// A helper that asks a person or a network may take its time, but not forever.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// What Docker's tools call the Docker Hub in their files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Text that is not printed and leaves no copy behind.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// The text, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// Who to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A user and a password (or an access token in a password's place).
    Password(String, Secret),
    /// An OAuth2 refresh token, good for the token endpoint only.
    Token(Secret),
}

/// A login and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who to be.
    pub identity: Identity,
    /// The file or helper that knew it, for messages.
    pub origin: String,
}

/// The files that logins are looked for in, in order.
#[derive(Clone, Debug)]
pub struct Keychain {
    files: Vec<PathBuf>,
    /// A file that was named on purpose must be there.
    required: bool,
}

impl Keychain {
    /// Only this file, which must exist.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Keychain { files: vec![path.into()], required: true }
    }

    /// No login for anyone.
    pub fn empty() -> Self {
        Keychain { files: Vec::new(), required: false }
    }

    /// `$REGISTRY_AUTH_FILE` alone if it is set, otherwise Podman's and Docker's places.
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = set("REGISTRY_AUTH_FILE") {
            return Keychain::file(file);
        }
        let home = set("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let places = [
            set("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            set("XDG_CONFIG_HOME")
                .or_else(|| below_home(".config"))
                .map(|dir| dir.join("containers/auth.json")),
            set("DOCKER_CONFIG").or_else(|| below_home(".docker")).map(|dir| dir.join("config.json")),
        ];
        Keychain { files: places.into_iter().flatten().collect(), required: false }
    }

    /// The login for `repository` of `registry` (as named, without a scheme).
    ///
    /// # Errors
    /// A file that cannot be read or understood, a helper that fails: never taken for "no login".
    pub async fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>> {
        for path in &self.files {
            if !self.required && !path.exists() {
                continue;
            }
            if let Some(login) = AuthFile::read(path)?.login(registry, repository).await? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl fmt::Display for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&files.join(", "))
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

struct AuthFile {
    content: Content,
    place: String,
}

impl AuthFile {
    fn read(path: &Path) -> Result<Self> {
        let (bytes, _) = read_secret(path, "the credential file", limits::CREDENTIALS)?;
        let place = path.display().to_string();
        match serde_json::from_slice(&bytes) {
            Ok(content) => Ok(AuthFile { content, place }),
            // serde_json quotes what it read: only the position may be told.
            Err(error) => Err(Error::new(Kind::Auth, "the credential file is not valid")
                .at(place)
                .got(format_args!("an error at line {}, column {}", error.line(), error.column()))
                .hint("log in again with `skopeo login` or `docker login`, or repair the file")),
        }
    }

    /// A helper for the host, an entry, the helper for everything else: in this order.
    async fn login(&self, registry: &str, repository: &str) -> Result<Option<Login>> {
        let hosts = spellings(registry);
        for host in &hosts {
            if let Some(name) = self.content.cred_helpers.get(host)
                && let Some(login) = ask_helper(name, host).await?
            {
                return Ok(Some(login));
            }
        }
        if let Some(identity) = self.entry(registry, repository)? {
            return Ok(Some(Login { identity, origin: self.place.clone() }));
        }
        if let Some(name) = self.content.creds_store.as_deref().filter(|name| !name.is_empty()) {
            for host in &hosts {
                if let Some(login) = ask_helper(name, host).await? {
                    return Ok(Some(login));
                }
            }
        }
        Ok(None)
    }

    /// containers-auth.json(5): the longest key that is a prefix of `host/repository` wins.
    fn entry(&self, registry: &str, repository: &str) -> Result<Option<Identity>> {
        for key in keys(registry, repository) {
            let found = self.content.auths.iter().find(|(name, _)| normal(name) == key);
            if let Some((_, entry)) = found
                && let Some(identity) = entry.identity().map_err(|e| e.at(&self.place))?
            {
                return Ok(Some(identity));
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// `None` for the empty entries that Docker leaves beside a `credsStore`.
    fn identity(&self) -> Result<Option<Identity>> {
        let given = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.reveal().is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Identity::Token(token)));
        }
        if let Some(auth) = given(&self.auth) {
            return decoded(auth.reveal()).map(Some).ok_or_else(|| {
                Error::new(Kind::Auth, "an entry of the credential file is not valid")
                    .expected("\"auth\" to be the base64 form of user:password")
            });
        }
        Ok(match (&self.username, given(&self.password)) {
            (Some(user), Some(password)) => Some(identity(user.clone(), password)),
            _ => None,
        })
    }
}

fn decoded(auth: &str) -> Option<Identity> {
    let bytes = Zeroizing::new(STANDARD.decode(auth.trim()).ok()?);
    // Docker's own reader drops zero bytes at the end; some writers leave them.
    let text = std::str::from_utf8(&bytes).ok()?.trim_end_matches('\0');
    let (user, password) = text.split_once(':')?;
    Some(identity(user.to_owned(), Secret::new(password.to_owned())))
}

fn identity(user: String, secret: Secret) -> Identity {
    if user == TOKEN_USER { Identity::Token(secret) } else { Identity::Password(user, secret) }
}

/// Whether a registry's name means the Docker Hub.
pub fn is_hub(registry: &str) -> bool {
    matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// How a host may be spelled in `credHelpers`, and what a helper may know it by.
fn spellings(registry: &str) -> Vec<String> {
    if is_hub(registry) {
        [HUB_KEY, "docker.io", "index.docker.io"].map(str::to_owned).to_vec()
    } else {
        vec![registry.to_owned()]
    }
}

/// The keys that fit, the most specific first.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let hosts = if is_hub(registry) { vec!["docker.io", "index.docker.io"] } else { vec![registry] };
    let mut keys = Vec::new();
    for host in hosts {
        let mut path = repository;
        while !path.is_empty() {
            keys.push(format!("{host}/{path}"));
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        keys.push(host.to_owned());
    }
    keys
}

/// A key without the scheme and API path that Docker's older versions wrote.
fn normal(key: &str) -> &str {
    match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    #[serde(default)]
    username: String,
    secret: Secret,
}

/// docker-credential-helpers: `docker-credential-NAME get`, the host on its stdin, JSON on its stdout.
async fn ask_helper(name: &str, host: &str) -> Result<Option<Login>> {
    let fit = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    // The name becomes part of a program's name: no path, no option.
    if name.is_empty() || !name.bytes().all(fit) {
        return Err(Error::new(Kind::CredentialHelper, "not a credential helper's name").got(name));
    }
    let program = format!("docker-credential-{name}");
    let (output, success) = run_within(HELPER_TIMEOUT, &program, host).await?;
    if success {
        return helped(&output, &program).map(Some);
    }
    if String::from_utf8_lossy(&output).contains("credentials not found") {
        return Ok(None);
    }
    Err(Error::new(Kind::CredentialHelper, "the credential helper failed")
        .at(format_args!("{program} get"))
        .hint("run it by hand to see why, with the registry's host on its stdin"))
}

/// A helper that does not end is ended.
async fn run_within(limit: Duration, program: &str, host: &str) -> Result<(Zeroizing<Vec<u8>>, bool)> {
    match tokio::time::timeout(limit, run_helper(program, host)).await {
        Ok(ran) => ran.map_err(|e| e.at(program)),
        Err(_) => Err(Error::new(Kind::CredentialHelper, "the credential helper did not answer")
            .at(program)
            .got(format_args!("nothing for {} s", limit.as_secs_f64()))),
    }
}

async fn run_helper(program: &str, host: &str) -> Result<(Zeroizing<Vec<u8>>, bool)> {
    let failed = |e: std::io::Error| {
        Error::new(Kind::CredentialHelper, "cannot run the credential helper").got(e.kind())
    };
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input may still answer.
        let _ = stdin.write_all(host.as_bytes()).await;
    }
    let mut output = Zeroizing::new(Vec::with_capacity(limits::CREDENTIALS as usize + 1));
    if let Some(stdout) = child.stdout.take() {
        let mut bounded = stdout.take(limits::CREDENTIALS + 1);
        bounded.read_to_end(&mut output).await.map_err(failed)?;
    }
    if output.len() as u64 > limits::CREDENTIALS {
        return Err(Error::new(Kind::CredentialHelper, "the credential helper says too much")
            .got(format_args!("more than {} bytes", limits::CREDENTIALS)));
    }
    Ok((output, child.wait().await.map_err(failed)?.success()))
}

fn helped(output: &[u8], program: &str) -> Result<Login> {
    let Helped { username, secret } = serde_json::from_slice(output).map_err(|_| {
        Error::new(Kind::CredentialHelper, "the credential helper's answer is not valid")
            .at(program)
            .expected("a JSON object with Username and Secret")
    })?;
    Ok(Login { identity: identity(username, secret), origin: program.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> AuthFile {
        AuthFile { content: serde_json::from_str(json).unwrap(), place: "auth.json".into() }
    }

    fn user_of(file: &AuthFile, registry: &str, repository: &str) -> Option<String> {
        match file.entry(registry, repository).unwrap() {
            Some(Identity::Password(user, _)) => Some(user),
            Some(Identity::Token(_)) => Some(TOKEN_USER.to_owned()),
            None => None,
        }
    }

    #[test]
    fn the_most_specific_key_wins() {
        let auths = file(
            r#"{"auths": {
                "r.example.com": {"username": "host", "password": "x"},
                "r.example.com/acme": {"username": "acme", "password": "x"},
                "r.example.com/acme/agent": {"auth": "YWdlbnQ6cDpx"},
                "https://old.example.com/v1/": {"username": "old", "password": "x"},
                "https://index.docker.io/v1/": {"auth": "aHViOng="},
                "token.example.com": {"identitytoken": "t"},
                "empty.example.com": {}
            }}"#,
        );
        let found = |registry, repository| user_of(&auths, registry, repository);
        assert_eq!(found("r.example.com", "acme/agent").as_deref(), Some("agent"));
        assert_eq!(found("r.example.com", "acme/other").as_deref(), Some("acme"));
        assert_eq!(found("r.example.com", "acmeister").as_deref(), Some("host"));
        assert_eq!(found("old.example.com", "x").as_deref(), Some("old"));
        assert_eq!(found("docker.io", "library/alpine").as_deref(), Some("hub"));
        assert_eq!(found("token.example.com", "x").as_deref(), Some(TOKEN_USER));
        assert_eq!(found("empty.example.com", "x"), None);
        assert_eq!(found("r.example.com:5000", "acme/agent"), None);
    }

    #[test]
    fn passwords_keep_their_colons_and_are_not_printed() {
        let identity = decoded("YWdlbnQ6cDpx").unwrap();
        assert_eq!(identity, Identity::Password("agent".into(), Secret::new("p:q".into())));
        assert_eq!(format!("{identity:?}"), "Password(\"agent\", ***)");
        assert_eq!(decoded("bm8gY29sb24="), None);
        assert_eq!(decoded("%%%"), None);
    }

    #[tokio::test]
    async fn a_damaged_file_is_an_error_that_shows_nothing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        for damaged in
            [r#"{"auths": {"h": {"auth": 7, "password": "canary"}}}"#, r#"{"auths": "canary"}"#, "canary"]
        {
            std::fs::write(&path, damaged).unwrap();
            let error = Keychain::file(&path).find("h", "r").await.unwrap_err();
            assert_eq!(error.kind(), Kind::Auth);
            assert!(
                error.to_string().contains("auth.json") && !error.to_string().contains("canary"),
                "{error}"
            );
        }
        std::fs::write(&path, r#"{"auths": {"h": {"auth": "canary%"}}}"#).unwrap();
        let error = Keychain::file(&path).find("h", "r").await.unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
        assert!(Keychain::file(folder.path().join("absent")).find("h", "r").await.is_err());
    }

    #[tokio::test]
    async fn a_helpers_name_is_not_a_path() {
        for name in ["../evil", "a/b", "", "a b", "a;b"] {
            assert_eq!(ask_helper(name, "h").await.unwrap_err().kind(), Kind::CredentialHelper);
        }
        assert_eq!(ask_helper("no-such-helper", "h").await.unwrap_err().kind(), Kind::CredentialHelper);
    }

    #[tokio::test]
    async fn a_helper_that_never_stops_talking_is_stopped() {
        let error = run_helper("yes", "h").await.unwrap_err();
        assert_eq!(error.kind(), Kind::CredentialHelper);
        assert!(error.to_string().contains("too much"), "{error}");
    }

    #[tokio::test]
    async fn a_helper_that_says_nothing_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (silent, mark) = (folder.path().join("silent"), folder.path().join("mark"));
        // Closing its output would be an answer: it keeps both ends open, and says who it is.
        std::fs::write(&silent, format!("#!/bin/sh\necho $$ > {}\nexec tail -f /dev/null\n", mark.display()))
            .unwrap();
        std::fs::set_permissions(&silent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = run_within(Duration::from_millis(500), silent.to_str().unwrap(), "h").await.unwrap_err();
        assert_eq!(error.kind(), Kind::CredentialHelper);
        assert!(error.to_string().contains("did not answer"), "{error}");
        let process = std::fs::read_to_string(&mark).unwrap();
        let gone = || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", process.trim()));
            status.map_or(true, |status| status.contains(") Z "))
        };
        let began = std::time::Instant::now();
        while !gone() {
            assert!(began.elapsed() < Duration::from_secs(30), "it goes on");
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_helper_may_hand_out_an_identity_token() {
        let login = helped(br#"{"ServerURL":"h","Username":"<token>","Secret":"t"}"#, "p").unwrap();
        assert_eq!(login.identity, Identity::Token(Secret::new("t".into())));
        let error = helped(br#"{"Username":"canary"}"#, "p").unwrap_err();
        assert!(!error.to_string().contains("canary"));
    }
}
