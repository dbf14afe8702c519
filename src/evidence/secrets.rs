//! Secrets that were left where everybody finds them: in an image's config (environment, labels, history), and in the
//! names and contents of files. What is found is called by its kind and its place, and never shown.
//!
//! Only what has the form of a secret counts, so that a finding is worth looking at: a private key needs more than its
//! first line, a token its length and its letters, a password must not be a placeholder. What packages bring along as
//! documentation and test data is passed over, and so is what is packed inside files (archives, databases).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::limits;

/// A secret that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where: `the variable DB_PASSWORD`, a path.
    pub place: String,
    /// What it is: `a private key`.
    pub kind: &'static str,
}

/// Looks through an image's config: its environment (`NAME=VALUE`), its labels and the steps of its history.
pub fn in_config(env: &[String], labels: &BTreeMap<String, String>, history: &[String]) -> Vec<Found> {
    let env = env.iter().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some(Found {
            kind: in_text(value).or_else(|| named(name, value))?,
            place: format!("the variable {name}"),
        })
    });
    let labels = labels.iter().filter_map(|(name, value)| {
        Some(Found {
            kind: in_text(value).or_else(|| named(name, value))?,
            place: format!("the label {name}"),
        })
    });
    let history = history.iter().zip(1u64..).filter_map(|(step, number)| {
        let kind = in_text(step).or_else(|| assigned(step))?;
        Some(Found { kind, place: format!("step {number} of its history") })
    });
    env.chain(labels).chain(history).collect()
}

/// What kind of secret a text has in it.
pub fn in_text(text: &str) -> Option<&'static str> {
    let mut search = Search::in_texts();
    search.take(text.as_bytes());
    search.finish().first().copied()
}

/// Ends of names whose values are secret.
const NAMES: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "SECRET_KEY",
    "SECRET_KEY_BASE",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "ENCRYPTION_KEY",
    "AUTH_TOKEN",
    "ACCESS_TOKEN",
    "API_TOKEN",
    "TOKEN",
    "CREDENTIALS",
];

/// A value that is secret by what it is called.
fn named(name: &str, value: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase().replace(['.', '-'], "_");
    let secret = NAMES.iter().any(|end| {
        name.strip_suffix(end).is_some_and(|before| before.is_empty() || !before.ends_with("PUBLIC_"))
    });
    (secret && !is_placeholder(value)).then_some("a value that is secret by its name")
}

/// Assignments in the history: `ENV` and `ARG`, what a command is given (`--password=`), build arguments.
fn assigned(step: &str) -> Option<&'static str> {
    step.split([' ', '\t', '\n', ';', '&']).find_map(|word| {
        let (name, value) = word.trim_matches(['"', '\'']).split_once('=')?;
        let name = name.trim_start_matches('-');
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        plain.then(|| named(name, value))?
    })
}

/// What only stands where a secret will be, or says where it is.
fn is_placeholder(value: &str) -> bool {
    const WORDS: &[&str] = &[
        "changeme",
        "change-me",
        "change_me",
        "true",
        "false",
        "yes",
        "no",
        "none",
        "null",
        "required",
        "secret",
        "password",
        "passwd",
        "pass",
        "pwd",
        "user",
        "username",
        "token",
        "example",
        "foo",
        "bar",
        "dummy",
        "redacted",
        "undefined",
        "0",
        "1",
    ];
    let value = value.trim_matches(['"', '\'']);
    let lower = value.to_ascii_lowercase();
    value.is_empty()
        || value.starts_with(['$', '<', '{', '[', '/', '%', '`', '(', '.'])
        || value.contains("${")
        || value.contains("{{")
        || value.bytes().all(|b| Some(b) == value.bytes().next())
        || lower.contains("your")
        || WORDS.contains(&lower.as_str())
}

/// What a file is by its name alone; what is empty or no regular file is not asked about.
pub fn by_name(path: &str) -> Option<&'static str> {
    if is_sample(path) || is_of_package(path) {
        return None;
    }
    let file = path.rsplit('/').next().unwrap_or(path);
    const SAMPLES: &[&str] =
        &["example", "sample", "template", "dist", "defaults", "test", "d.ts", "j2", "tpl"];
    let environment = file == ".env"
        || file.strip_prefix(".env.").is_some_and(|rest| !SAMPLES.iter().any(|end| rest.ends_with(end)));
    let ends = |ends: &[&str]| {
        ends.iter()
            .any(|end| path == *end || path.strip_suffix(end).is_some_and(|before| before.ends_with('/')))
    };
    match file {
        "id_rsa" | "id_dsa" | "id_ecdsa" | "id_ed25519" | "id_ecdsa_sk" | "id_ed25519_sk" => {
            Some("an SSH private key by its name")
        }
        "kubeconfig" => Some("a kubeconfig"),
        ".git-credentials" | ".pgpass" | ".vault-token" | "application_default_credentials.json" => {
            Some("a credentials file by its name")
        }
        _ if environment => Some("an environment file (.env)"),
        _ if file.ends_with(".kubeconfig") || ends(&[".kube/config"]) => Some("a kubeconfig"),
        _ if ends(&[".aws/credentials", ".config/gcloud/credentials.db", ".azure/accessTokens.json"]) => {
            Some("a credentials file by its name")
        }
        _ => None,
    }
}

/// Directories of packages, of systems and of languages.
const PACKAGES: &[&str] =
    &["node_modules", "site-packages", "dist-packages", "gems", "vendor", "pkg", "registry"];

fn is_of_package(path: &str) -> bool {
    let system = ["usr/lib/", "usr/share/", "usr/local/lib/", "usr/src/", "usr/include/"];
    system.iter().any(|start| path.starts_with(start)) || path.split('/').any(|step| PACKAGES.contains(&step))
}

/// Documentation and test data that come with packages: full of keys that are no secrets.
fn is_sample(path: &str) -> bool {
    const DOCUMENTATION: &[&str] =
        &["usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/gtk-doc/", "usr/share/help/"];
    const TESTS: &[&str] = &[
        "test",
        "tests",
        "testing",
        "testdata",
        "test_data",
        "test-data",
        "testsuite",
        "__tests__",
        "spec",
        "specs",
        "fixtures",
        "example",
        "examples",
        "sample",
        "samples",
        "demo",
        "demos",
        "doc",
        "docs",
        "certdata",
    ];
    let Some((directory, _)) = path.rsplit_once('/') else { return false };
    DOCUMENTATION.iter().any(|start| path.starts_with(start))
        || (is_of_package(path) && directory.split('/').any(|step| TESTS.contains(&step)))
}

/// Looks through the content of one file, or through one text.
pub struct Search {
    /// What was not looked at for the last time yet.
    window: Vec<u8>,
    /// Bytes before the window.
    before: u64,
    /// Whether there is nothing to look for.
    idle: bool,
    /// Whether the file has no zeros where it begins; `None` before any byte of it was seen.
    text: Option<bool>,
    /// Whether it says how something is set up.
    settings: bool,
    /// Whether it belongs to a package.
    package: bool,
    /// What is secret in files of this name.
    entries: &'static [&'static str],
    found: Vec<&'static str>,
}

/// No form of a secret is longer, as far as it is looked at. What lies at the end of a window is looked at again with what
/// comes behind it.
const LONGEST: usize = 2 << 10;
/// So much is looked at at once.
const WINDOW: usize = 128 << 10;

impl Search {
    fn in_texts() -> Self {
        Search {
            window: Vec::new(),
            before: 0,
            idle: false,
            text: Some(true),
            settings: true,
            package: false,
            entries: &[],
            found: Vec::new(),
        }
    }

    /// In a file of this name.
    pub fn in_file(path: &str) -> Self {
        let file = path.rsplit('/').next().unwrap_or(path);
        const SETTINGS: &[&str] = &[
            ".conf",
            ".cfg",
            ".ini",
            ".yaml",
            ".yml",
            ".json",
            ".toml",
            ".properties",
            ".list",
            ".env",
            ".xml",
            ".netrc",
        ];
        let settings = SETTINGS.iter().any(|end| file.ends_with(end))
            || file.starts_with(".env")
            || path.ends_with(".git/config");
        let entries: &[&str] = match file {
            ".npmrc" | "npmrc" => &["_authToken", "_auth", "_password"],
            ".netrc" | "_netrc" | ".pypirc" => &["password"],
            ".dockercfg" | ".dockerconfigjson" => &["\"auth\"", "\"identitytoken\""],
            "config.json" if path.ends_with(".docker/config.json") => &["\"auth\"", "\"identitytoken\""],
            "auth.json" if path.ends_with("containers/auth.json") => &["\"auth\"", "\"identitytoken\""],
            _ => &[],
        };
        Search {
            idle: is_sample(path),
            text: None,
            settings: settings && !is_of_package(path),
            package: is_of_package(path),
            entries,
            ..Search::in_texts()
        }
    }

    /// The next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        let seen = self.before.saturating_add(self.window.len() as u64);
        if self.idle || seen >= limits::SEARCHED {
            return;
        }
        if self.text.is_none() {
            self.text = Some(!bytes.iter().take(8 << 10).any(|byte| *byte == 0));
        }
        for piece in bytes.chunks(WINDOW) {
            self.window.extend_from_slice(piece);
            if self.window.len() >= WINDOW {
                self.look(false);
                // One byte more: it tells whether something begins behind it.
                let old = self.window.len().saturating_sub(LONGEST.saturating_add(1));
                self.window.drain(..old);
                self.before = self.before.saturating_add(old as u64);
            }
        }
    }

    /// The kinds of secrets that were found, each once.
    pub fn finish(mut self) -> Vec<&'static str> {
        if !self.idle {
            self.look(true);
        }
        self.found
    }

    fn look(&mut self, whole: bool) {
        let text = self.text.unwrap_or(true);
        for form in FORMS.iter() {
            let asked = match form.reach {
                Reach::Everything => true,
                Reach::Keys => text || !self.package,
                Reach::Texts => text,
                Reach::Settings => text && self.settings,
            };
            if !asked || self.found.contains(&form.kind) {
                continue;
            }
            // The window's first byte was looked at before, but for that of the file.
            let from = usize::from(self.before > 0);
            let mut hits = form.start.find_iter(&self.window).filter(|at| *at >= from);
            if hits.any(|at| (form.fits)(&Place { window: &self.window, at, whole })) {
                self.found.push(form.kind);
            }
        }
        const KIND: &str = "a login by its entry";
        let named = |entry: &&str| has_entry(&self.window, entry);
        if !self.entries.is_empty() && !self.found.contains(&KIND) && self.entries.iter().any(named) {
            self.found.push(KIND);
        }
    }
}

/// An entry that is followed by a value.
fn has_entry(window: &[u8], entry: &str) -> bool {
    memchr::memmem::find_iter(window, entry).any(|at| {
        let rest = window.get(at.saturating_add(entry.len())..).unwrap_or_default();
        let filler = rest.iter().take_while(|byte| b" \t\n\r:=\"'".contains(byte)).count();
        let value = rest.get(filler..).unwrap_or_default();
        let value =
            value.iter().take(LONGEST).take_while(|byte| byte.is_ascii_graphic() && !b"\"'".contains(byte));
        let value: Vec<u8> = value.copied().collect();
        filler > 0 && value.len() > 3 && !is_placeholder(&String::from_utf8_lossy(&value))
    })
}

/// A form that secrets have.
struct Form {
    start: Finder<'static>,
    kind: &'static str,
    reach: Reach,
    fits: fn(&Place<'_>) -> bool,
}

/// Where a form is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// In programs, too.
    Everything,
    /// The same, but for packages' programs and libraries: some have keys that they test themselves with.
    Keys,
    /// In texts.
    Texts,
    /// In texts that say how something is set up: programs and their documentation are full of examples.
    Settings,
}

/// Where something begins like a secret.
struct Place<'w> {
    window: &'w [u8],
    at: usize,
    /// Nothing follows the window.
    whole: bool,
}

impl<'w> Place<'w> {
    fn behind(&self, start: &str) -> &'w [u8] {
        self.window.get(self.at.saturating_add(start.len())..).unwrap_or_default()
    }

    fn before(&self) -> Option<u8> {
        self.at.checked_sub(1).and_then(|at| self.window.get(at)).copied()
    }

    /// A token: so many of these letters behind its start, and a word of its own.
    fn token(&self, start: &str, lengths: std::ops::RangeInclusive<usize>, letter: fn(u8) -> bool) -> bool {
        let rest = self.behind(start);
        let body = rest.iter().take(LONGEST).take_while(|byte| letter(**byte)).count();
        let body = rest.get(..body).unwrap_or_default();
        let ended = body.len() < rest.len() || self.whole;
        let alone = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'_';
        let next = rest.get(body.len());
        ended
            && lengths.contains(&body.len())
            && self.before().is_none_or(alone)
            && next.is_none_or(|byte| alone(*byte))
            && variety(body) >= 8
            && !body.ends_with(b"EXAMPLE")
    }
}

/// How many different bytes there are: placeholders have few.
fn variety(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    });
    seen.iter().filter(|seen| **seen).count()
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn dashed(byte: u8) -> bool {
    word(byte) || byte == b'-'
}

fn base32(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'2'..=b'7')
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

macro_rules! forms {
    ($($start:literal $kind:literal in $reach:ident: $fits:expr;)+) => {
        static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| vec![$(
            Form { start: Finder::new($start), kind: $kind, reach: Reach::$reach, fits: $fits }
        ),+]);
    };
}

forms! {
    "-----BEGIN " "a private key" in Keys: private_key;
    "AKIA" "an AWS access key" in Everything: |place| place.token("AKIA", 16..=16, base32);
    "ASIA" "an AWS access key" in Everything: |place| place.token("ASIA", 16..=16, base32);
    "ghp_" "a GitHub token" in Everything: |place| place.token("ghp_", 36..=255, |b| b.is_ascii_alphanumeric());
    "gho_" "a GitHub token" in Everything: |place| place.token("gho_", 36..=255, |b| b.is_ascii_alphanumeric());
    "ghu_" "a GitHub token" in Everything: |place| place.token("ghu_", 36..=255, |b| b.is_ascii_alphanumeric());
    "ghs_" "a GitHub token" in Everything: |place| place.token("ghs_", 36..=255, |b| b.is_ascii_alphanumeric());
    "ghr_" "a GitHub token" in Everything: |place| place.token("ghr_", 36..=255, |b| b.is_ascii_alphanumeric());
    "github_pat_" "a GitHub token" in Everything: |place| place.token("github_pat_", 50..=255, word);
    "glpat-" "a GitLab token" in Everything: |place| place.token("glpat-", 20..=255, |b| dashed(b) || b == b'.');
    "xox" "a Slack token" in Everything: slack;
    "AIza" "a Google API key" in Texts: |place| place.token("AIza", 35..=35, dashed);
    "ya29." "a Google access token" in Texts: |place| place.token("ya29.", 40..=1_000, dashed);
    "sk_live_" "a Stripe key" in Everything: |place| place.token("sk_live_", 24..=255, |b| b.is_ascii_alphanumeric());
    "npm_" "an npm token" in Texts: |place| place.token("npm_", 36..=36, |b| b.is_ascii_alphanumeric());
    "dckr_pat_" "a Docker token" in Everything: |place| place.token("dckr_pat_", 27..=255, dashed);
    "pypi-AgEIcHlwaS5vcmc" "a PyPI token" in Everything: |place| place.token("pypi-AgEIcHlwaS5vcmc", 50..=1_000, dashed);
    "hvs." "a Vault token" in Texts: |place| place.token("hvs.", 24..=1_000, dashed);
    "AGE-SECRET-KEY-1" "an age key" in Everything: |place| place.token("AGE-SECRET-KEY-1", 58..=58, |b| b.is_ascii_alphanumeric());
    "client-key-data" "a kubeconfig's client key" in Texts: client_key;
    "://" "a password in an address" in Settings: login;
}

/// `xoxb-`, `xoxp-`, …
fn slack(place: &Place<'_>) -> bool {
    ["xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-"].iter().any(|start| {
        let fits = place.window.get(place.at..).is_some_and(|rest| rest.starts_with(start.as_bytes()));
        let digits = place.behind(start).iter().take(20).filter(|byte| byte.is_ascii_digit()).count();
        fits && digits >= 8 && place.token(start, 24..=255, |b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// A PEM block (RFC 7468, and those before it) that has more than its first line: programs that read keys have that, too.
/// Where it stands in another text, its lines may end in `\n`.
fn private_key(place: &Place<'_>) -> bool {
    let rest = place.behind("-----BEGIN ");
    let label = rest
        .iter()
        .take(40)
        .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ')
        .count();
    let (label, rest) = rest.split_at_checked(label).unwrap_or_default();
    let block = label.ends_with(b"PRIVATE KEY BLOCK");
    let Some(mut rest) = rest.strip_prefix(b"-----").filter(|_| block || label.ends_with(b"PRIVATE KEY"))
    else {
        return false;
    };
    rest = unfilled(rest);
    let headers: [&[u8]; 4] = [b"Proc-Type:", b"DEK-Info:", b"Version:", b"Comment:"];
    let header = headers.iter().any(|header| rest.starts_with(header));
    // Below the headers is the key's text, behind an empty line.
    if header {
        let lines = rest.iter().take(400).collect::<Vec<_>>();
        return lines.windows(30).any(|run| run.iter().all(|byte| base64(**byte)));
    }
    // A SEQUENCE (DER), OpenSSH's own form, or OpenPGP's.
    let begins = rest.starts_with(b"M") || rest.starts_with(b"b3BlbnNzaC1rZXktdjE") || block;
    let body = rest.iter().take(60).take_while(|byte| base64(**byte)).count();
    begins && body == 60 && variety(rest.get(..60).unwrap_or_default()) >= 16
}

/// Without line ends, as they are or as they are written in strings.
fn unfilled(mut rest: &[u8]) -> &[u8] {
    for _ in 0..32 {
        rest = match rest {
            [b'\\', b'n' | b'r' | b't', behind @ ..] => behind,
            [b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'\'' | b'+' | b',' | b'\\', behind @ ..] => behind,
            _ => return rest,
        };
    }
    rest
}

/// `client-key-data: LS0t…`: PEM in base64.
fn client_key(place: &Place<'_>) -> bool {
    let rest = place.behind("client-key-data");
    let filler = rest.iter().take(16).take_while(|byte| b"\"': ".contains(byte)).count();
    let value = rest.get(filler..).unwrap_or_default();
    value.starts_with(b"LS0tLS1CRUdJTi") && value.iter().take(60).filter(|byte| base64(**byte)).count() == 60
}

/// `scheme://user:password@host` (RFC 3986 §3.2.1).
fn login(place: &Place<'_>) -> bool {
    if !place.before().is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let rest = place.behind("://");
    let outside = |byte: &u8| !byte.is_ascii_graphic() || b"/?#\"'<>()`\\|,;".contains(byte);
    let authority = rest.iter().take(300).take_while(|byte| !outside(byte)).count();
    let Some(authority) = rest.get(..authority).and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
        return false;
    };
    let Some((user, host)) = authority.rsplit_once('@') else { return false };
    let Some((_, password)) = user.split_once(':') else { return false };
    let host = host.split(':').next().unwrap_or_default();
    let examples = ["example.com", "example.org", "example.net", "host", "hostname"];
    let example = host.is_empty() || examples.iter().any(|end| host.ends_with(end));
    password.len() >= 3 && !is_placeholder(password) && !example
}

#[cfg(test)]
mod tests {
    use super::*;

    // Put together here: whatever looks for secrets in this project finds none.
    fn token(start: &str, length: usize) -> String {
        let letters = "q7Rk2ZvT9mXw4LpB8nYc3JdH6sGf5KtA1eUoQiWxEzNyMuVbDhCgSjPl".chars().cycle();
        letters.take(length).fold(start.to_owned(), |text, letter| text + &letter.to_string())
    }

    fn key(label: &str, ends: &str) -> String {
        let body = format!("MIIEvg{}", token("", 58));
        format!("-----BEGIN {label}-----{ends}{body}{ends}{body}{ends}-----END {label}-----{ends}")
    }

    fn in_file(path: &str, content: &[u8]) -> Vec<&'static str> {
        let mut search = Search::in_file(path);
        search.take(content);
        search.finish()
    }

    #[test]
    fn secrets_are_told_from_what_looks_like_them() {
        for text in [
            key("PRIVATE KEY", "\n"),
            key("RSA PRIVATE KEY", "\r\n"),
            key("EC PRIVATE KEY", "\\n"),
            key("ENCRYPTED PRIVATE KEY", "\n"),
            format!("aws AKIA{}", "Q3EGRWZ2XVB7NYPM"),
            "https://bob:hunter2@git.internal/x".to_owned(),
            "redis://:hunter2@cache:6379/0".to_owned(),
            format!("--mount {}", token("ghp_", 36)),
            token("glpat-", 20),
            token("AIza", 35),
            format!("xoxb-1234567890-{}", token("", 24)),
            format!("client-key-data: LS0tLS1CRUdJTi{}", token("", 60)),
        ] {
            assert!(in_text(&text).is_some(), "{text}");
        }
        for text in [
            "-----BEGIN PRIVATE KEY-----".to_owned(),
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n".to_owned(),
            "-----BEGIN PRIVATE KEY-----\nMIIEvg...\n-----END".to_owned(),
            key("CERTIFICATE", "\n"),
            key("PUBLIC KEY", "\n"),
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            format!("MAKIA{}", "Q3EGRWZ2XVB7NYPM"),
            format!("AKIA{}X", "Q3EGRWZ2XVB7NYPM"),
            "AKIA".to_owned(),
            "https://example.com/a@b:c".to_owned(),
            "https://u:$TOKEN@x".to_owned(),
            "https://user:password@x".to_owned(),
            "https://bob:hunter2@example.com".to_owned(),
            format!("ghp_{}", "x".repeat(36)),
            token("ghp_", 20),
            "npm_config_registry_and_more_of_such_a_name".to_owned(),
        ] {
            assert_eq!(in_text(&text), None, "{text}");
        }
    }

    #[test]
    fn values_are_secret_by_their_names() {
        assert!(named("DB_PASSWORD", "hunter2").is_some());
        assert!(named("com.example.api-key", "0815").is_some());
        for (name, value) in [
            ("DB_PASSWORD_FILE", "/run/secrets/db"),
            ("DB_PASSWORD", ""),
            ("DB_PASSWORD", "$X"),
            ("PATH", "/bin"),
            ("PASSWORD_MIN_LENGTH", "12"),
            ("MYSQL_ALLOW_EMPTY_PASSWORD", "yes"),
            ("SECRETS_DIR", "x"),
            ("GPG_KEY", "E3FF2839C048B25C084DEBE9B26995E310250568"),
            ("TOKEN", "<your token>"),
        ] {
            assert!(named(name, value).is_none(), "{name}={value}");
        }
        assert!(assigned("|1 API_KEY=0815 /bin/sh -c make").is_some());
        assert!(assigned("/bin/sh -c #(nop)  ENV DB_PASSWORD=hunter2").is_some());
        assert!(assigned("RUN login --password=hunter2 --user=bob").is_some());
        assert!(assigned("/bin/sh -c echo a=b").is_none());
        assert!(assigned("RUN PGPASSWORD=\"$(cat /run/secrets/db)\" make").is_none());
    }

    #[test]
    fn files_are_known_by_their_names() {
        for path in [
            "app/.env",
            "app/.env.production",
            "root/.ssh/id_rsa",
            "root/.kube/config",
            "x.kubeconfig",
            ".aws/credentials",
        ] {
            assert!(by_name(path).is_some(), "{path}");
        }
        for path in [
            "app/.env.example",
            "app/env",
            "root/.ssh/id_rsa.pub",
            "etc/config",
            "usr/share/doc/x/id_rsa",
            "app/node_modules/x/.env",
            "usr/lib/python3/test/id_rsa",
            "home/x.kube/config",
        ] {
            assert!(by_name(path).is_none(), "{path}");
        }
    }

    #[test]
    fn what_is_secret_depends_on_the_file() {
        let npmrc = b"//registry.npmjs.org/:_authToken=0815-4711-abc\n";
        assert_eq!(in_file("root/.npmrc", npmrc).len(), 1);
        assert_eq!(in_file("root/.npmrc", b"//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n").len(), 0);
        assert_eq!(in_file("root/npmrc.md", npmrc).len(), 0);
        assert_eq!(
            in_file("root/.docker/config.json", b"{\"auths\":{\"r\":{\"auth\":\"dXNlcjpwYXNz\"}}}").len(),
            1
        );
        assert_eq!(
            in_file("root/.docker/config.json", b"{\"auths\":{\"r\":{}},\"credsStore\":\"x\"}").len(),
            0
        );
        let address = b"url = https://bob:hunter2@git.internal/x";
        assert_eq!(in_file("app/settings.ini", address).len(), 1);
        assert_eq!(in_file("app/main.py", address).len(), 0);
        let key = key("PRIVATE KEY", "\n");
        assert_eq!(in_file("app/server.pem", key.as_bytes()), ["a private key"]);
        assert_eq!(in_file("usr/lib/python3.11/test/certdata/keycert.pem", key.as_bytes()).len(), 0);
        assert_eq!(in_file("app/tests/server.pem", key.as_bytes()).len(), 1);
        let program = [b"\x7fELF\0\0".as_slice(), key.as_bytes(), b"\0"].concat();
        assert_eq!(in_file("app/server", &program), ["a private key"]);
        assert_eq!(in_file("usr/lib/libtls.so", &program).len(), 0, "it tests itself");
        assert_eq!(in_file("usr/lib/key.pem", key.as_bytes()).len(), 1);
    }

    #[test]
    fn it_does_not_matter_where_a_file_is_cut_into_pieces() {
        let secret = token("ghp_", 36);
        for at in [
            0,
            1,
            WINDOW - 41,
            WINDOW - 40,
            WINDOW - 39,
            WINDOW - 1,
            WINDOW,
            WINDOW + 1,
            3 * WINDOW - LONGEST,
        ] {
            let mut content = vec![b' '; at];
            content.extend_from_slice(secret.as_bytes());
            for behind in [0, 1, LONGEST + 50, WINDOW] {
                let mut content = content.clone();
                content.resize(content.len() + behind, b' ');
                for piece in [1_000, WINDOW / 2 + 1, WINDOW, usize::MAX] {
                    let mut search = Search::in_file("app/notes");
                    content.chunks(piece.min(content.len())).for_each(|piece| search.take(piece));
                    assert_eq!(search.finish(), ["a GitHub token"], "{at} {behind} {piece}");
                }
                // Longer than any token, with no end in sight.
                content.resize(content.len() + 2 * WINDOW, b' ');
            }
        }
    }
}
