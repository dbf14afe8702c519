//! Who may come in: everybody, or those whose names and passwords are in an htpasswd file (bcrypt
//! only; Basic authentication, RFC 7617).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::answer::{Answer, Code};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

/// See the module's text.
#[derive(Default)]
pub struct Gate {
    /// Those who have passwords; nobody needs one where there are none.
    pub users: Option<Users>,
    /// Whether reading needs no password.
    pub anonymous_pull: bool,
}

/// Names and the bcrypt hashes of their passwords.
pub struct Users {
    hashes: HashMap<String, String>,
    /// Digests of names and passwords that were right: bcrypt is slow on purpose, and clients send theirs with each request.
    known: Mutex<HashSet<Digest>>,
    /// At once: guessing must not take all processors.
    trials: Arc<Semaphore>,
}

impl Users {
    /// Reads an htpasswd file's text.
    ///
    /// # Errors
    /// `Usage` for lines that are not `name:hash`, and hashes that are not bcrypt's.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| {
                Error::new(Kind::Usage, what.to_owned())
                    .at(format_args!("{place}:{}", number + 1))
                    .hint("htpasswd -B writes such lines: name:$2y$…")
            };
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong("not a name and a hash"))?;
            if !["$2y$", "$2b$", "$2a$"].iter().any(|kind| hash.starts_with(kind)) {
                return Err(wrong("a password that is not hashed by bcrypt"));
            }
            hashes.insert(name.to_owned(), hash.to_owned());
        }
        if hashes.is_empty() {
            return Err(Error::new(Kind::Usage, "nobody could come in: the file has no users").at(place));
        }
        Ok(Users {
            hashes,
            known: Mutex::default(),
            trials: Arc::new(Semaphore::new(limits::PASSWORD_TRIALS)),
        })
    }

    async fn admits(&self, name: &str, password: Zeroizing<String>) -> bool {
        let both = Zeroizing::new(format!("{name}\0{}", *password));
        let digest = Digest::of(both.as_bytes());
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&digest) {
            return true;
        }
        // A name that does not exist takes as long as one that does.
        let stranger = self.hashes.values().next().cloned();
        let (hash, exists) = match self.hashes.get(name) {
            Some(hash) => (hash.clone(), true),
            None => (stranger.unwrap_or_default(), false),
        };
        let Ok(_turn) = self.trials.acquire().await else { return false };
        let right =
            tokio::task::spawn_blocking(move || bcrypt::verify(password.as_bytes(), &hash).unwrap_or(false));
        let admitted = right.await.unwrap_or(false) && exists;
        if admitted {
            let mut known = known();
            if known.len() >= limits::PASSWORDS_KNOWN {
                known.clear();
            }
            known.insert(digest);
        }
        admitted
    }
}

impl Gate {
    /// Lets a request pass, or asks for a password.
    pub(super) async fn admit(&self, headers: &HeaderMap, writes: bool) -> Result<(), Answer> {
        let Some(users) = &self.users else { return Ok(()) };
        let stated = headers.get(AUTHORIZATION).map(|value| value.to_str().ok().and_then(credentials));
        match stated {
            // Whoever gives a name is held to it, even where none is needed.
            Some(Some((name, password))) => match users.admits(&name, password).await {
                true => Ok(()),
                false => Err(challenge("the name or the password is wrong")),
            },
            Some(None) => Err(challenge("this registry knows Basic authentication only")),
            // Clients ask for the root to learn whether they have to log in.
            None if self.anonymous_pull && !writes => Ok(()),
            None => Err(challenge("a name and a password are needed")),
        }
    }
}

fn challenge(what: &str) -> Answer {
    Answer::error(Code::Unauthorized, what)
        .with(WWW_AUTHENTICATE, "Basic realm=\"sealift\", charset=\"UTF-8\"")
}

fn credentials(header: &str) -> Option<(String, Zeroizing<String>)> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = Zeroizing::new(base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), Zeroizing::new(password.to_owned())))
}
