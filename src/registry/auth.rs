//! Authentication: what a registry asks for (RFC 9110 §11.6.1, the token protocol of CNCF
//! Distribution), and what it is given.
//!
//! A server's challenge is foreign text: it decides neither where a login goes (that is
//! [`origin::check_realm`]) nor how often one is tried. A failure to get a token is a failure, never a
//! reason to go on as nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::client::Endpoint;
use super::credentials::{Identity, Keychain, Login, Secret};
use super::transport::{self, Transport};
use super::{origin, refusal};
use crate::error::{Error, Kind, Result};
use crate::limits;

/// Longest challenge that is read.
const CHALLENGE: usize = 16 << 10;

/// Most resources in one token request, whatever the server adds.
const RESOURCES: usize = 16;

/// Life of a token whose server does not say (distribution's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// Longest life that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is to be done with which resources: `repository:acme/agent:pull,push`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(BTreeMap<String, BTreeSet<String>>);

impl Scope {
    /// Reading from a repository.
    pub fn pull(repository: &str) -> Self {
        Scope::default().and(repository, &["pull"])
    }

    /// Writing to a repository.
    pub fn push(repository: &str) -> Self {
        Scope::default().and(repository, &["pull", "push"])
    }

    /// Reading from another repository as well.
    pub fn and_pull(self, repository: &str) -> Self {
        self.and(repository, &["pull"])
    }

    fn and(mut self, repository: &str, actions: &[&str]) -> Self {
        self.0
            .entry(format!("repository:{repository}"))
            .or_default()
            .extend(actions.iter().map(|&a| a.to_owned()));
        self
    }

    /// Adds what a challenge names. Names registries use inside may differ from those outside.
    fn merge(&mut self, challenged: &str) {
        for (resource, actions) in challenged.split_ascii_whitespace().filter_map(|one| one.rsplit_once(':'))
        {
            if self.0.len() < RESOURCES || self.0.contains_key(resource) {
                self.0.entry(resource.to_owned()).or_default().extend(actions.split(',').map(str::to_owned));
            }
        }
    }

    /// One text per resource.
    fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(" "))
    }
}

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user and a password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The token server.
        realm: Url,
        /// What it knows the registry by.
        service: Option<String>,
        /// What the registry would have liked for this request.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge of a 401 that we can answer, the best of several.
    ///
    /// # Errors
    /// `AuthChallenge` where there is none.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let unusable = |why: String| {
            Error::new(Kind::AuthChallenge, "the server asks for a login in a way that is not understood")
                .got(why)
        };
        let mut basic = None;
        let mut other = "no WWW-Authenticate header".to_owned();
        for value in headers.get_all(WWW_AUTHENTICATE).iter().take(RESOURCES) {
            let text = value.to_str().map_err(|_| unusable("a header that is not text".into()))?;
            if text.len() > CHALLENGE {
                return Err(unusable(format!("a header of {} bytes", text.len())));
            }
            for challenge in http_auth::ChallengeParser::new(text) {
                // The parser's own message slices the text; its position says as little to a person.
                let challenge = challenge.map_err(|_| unusable(text.to_owned()))?;
                match challenge.scheme {
                    scheme if scheme.eq_ignore_ascii_case("bearer") => {
                        return bearer(&challenge).map_err(unusable);
                    }
                    scheme if scheme.eq_ignore_ascii_case("basic") => basic = Some(Challenge::Basic),
                    scheme => other = format!("the scheme {scheme}"),
                }
            }
        }
        basic.ok_or_else(|| unusable(other).expected("Bearer or Basic"))
    }
}

fn bearer(challenge: &http_auth::ChallengeRef<'_>) -> Result<Challenge, String> {
    let parameter = |name: &str| {
        let mut all = challenge.params.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
    };
    let realm = parameter("realm").ok_or("a Bearer challenge without a realm")?;
    let realm = Url::parse(&realm).map_err(|_| format!("the realm {realm:?}, which is not a URL"))?;
    if !realm.username().is_empty() || realm.password().is_some() || realm.host_str().is_none() {
        return Err("a realm with a login in it, or without a host".to_owned());
    }
    Ok(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") })
}

/// What goes into a request's `Authorization` header, and whose login it comes from.
#[derive(Clone)]
pub struct Authorization {
    header: HeaderValue,
    /// The file or helper, for messages; `None` for a token that anyone gets.
    pub origin: Option<String>,
}

impl Authorization {
    fn new(scheme: &str, credential: &str, origin: Option<String>) -> Option<Self> {
        let text = Zeroizing::new(format!("{scheme} {credential}"));
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(Authorization { header, origin })
    }

    fn basic(user: &str, password: &Secret, origin: String) -> Option<Self> {
        let joined = Zeroizing::new(format!("{user}:{}", password.reveal()));
        let encoded = Zeroizing::new(STANDARD.encode(joined.as_bytes()));
        Authorization::new("Basic", &encoded, Some(origin))
    }

    /// Puts the header into a request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.header.clone());
    }

    /// `text` without the credential: a server may say back what it was told.
    pub fn redact(&self, text: &str) -> String {
        let header = self.header.to_str().unwrap_or_default();
        let credential = header.split_once(' ').map_or(header, |(_, credential)| credential);
        let decoded = Zeroizing::new(STANDARD.decode(credential).unwrap_or_default());
        let decoded = std::str::from_utf8(&decoded).unwrap_or_default();
        let password = decoded.split_once(':').map_or("", |(_, password)| password);
        // The longest first: what is shorter may be a part of it.
        let mut secrets: Vec<_> = [decoded, credential, password].into_iter().flat_map(spelled).collect();
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    fn is(&self, other: Option<&Authorization>) -> bool {
        other.is_some_and(|other| other.header == self.header)
    }
}

/// A secret as it is, and as servers may say it back.
fn spelled(secret: &str) -> [Zeroizing<String>; 5] {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let percent = |keep: &str| {
        let digits = |b: u8| match b.is_ascii_alphanumeric() || keep.as_bytes().contains(&b) {
            true => char::from(b).to_string(),
            false => format!("%{b:02X}"),
        };
        secret.bytes().map(digits).collect::<String>()
    };
    // With and without the characters that URLs may have unescaped (RFC 3986 §2.3).
    let spellings = [
        secret.to_owned(),
        percent("-._~"),
        percent(""),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
    ];
    spellings.map(Zeroizing::new)
}

/// What is known for one scope of one registry. Its lock is held while a token is fetched, so those
/// who need the same one wait for it instead of asking too.
#[derive(Default)]
struct Slot {
    asked: Option<Asked>,
    authorization: Option<Authorization>,
    /// When the token is too old to be used; a password never is.
    stale: Option<Instant>,
}

impl Slot {
    fn fresh(&self) -> Option<&Authorization> {
        let stale = self.stale.is_some_and(|stale| Instant::now() >= stale);
        self.authorization.as_ref().filter(|_| !stale)
    }
}

/// A challenge and the address it came from.
#[derive(Clone)]
pub struct Asked {
    /// What was asked for.
    pub challenge: Challenge,
    /// Who asked.
    pub peer: Option<IpAddr>,
}

impl Asked {
    /// The same for any request to the registry.
    fn general(&self) -> Self {
        let mut general = self.clone();
        if let Challenge::Bearer { scope, .. } = &mut general.challenge {
            *scope = None;
        }
        general
    }
}

type Shared<T> = Arc<tokio::sync::Mutex<T>>;

/// The logins and tokens of the process.
pub struct Auth {
    keychain: Keychain,
    slots: Mutex<HashMap<(String, String), Shared<Slot>>>,
    /// What each registry asked for last, so that a new scope need not be challenged first.
    asked: Mutex<HashMap<String, Asked>>,
}

impl Auth {
    /// Nothing is known yet but where logins are found.
    pub fn new(keychain: Keychain) -> Self {
        Auth { keychain, slots: Mutex::default(), asked: Mutex::default() }
    }

    /// Where logins are looked for.
    pub fn keychain(&self) -> &Keychain {
        &self.keychain
    }

    fn slot(&self, endpoint: &Endpoint, scope: &Scope) -> Shared<Slot> {
        let key = (endpoint.authority.clone(), scope.to_string());
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    fn last_asked(&self, endpoint: &Endpoint) -> Option<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.authority).cloned()
    }

    fn remember(&self, endpoint: &Endpoint, asked: Asked) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.authority.clone(), asked);
    }

    /// What to send with a request, before the registry asked.
    pub async fn ready(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        scope: &Scope,
    ) -> Result<Option<Authorization>> {
        let slot = self.slot(endpoint, scope);
        let mut slot = slot.lock().await;
        if let Some(fresh) = slot.fresh() {
            return Ok(Some(fresh.clone()));
        }
        let asked = slot.asked.clone().or_else(|| self.last_asked(endpoint));
        let Some(asked) = asked else { return Ok(None) };
        self.obtain(&mut slot, transport, endpoint, scope, &asked).await?;
        Ok(slot.authorization.clone())
    }

    /// What to send instead of `sent`, which got a 401. `None` where there is nothing else.
    pub async fn answer(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        scope: &Scope,
        asked: Asked,
        sent: Option<&Authorization>,
    ) -> Result<Option<Authorization>> {
        let slot = self.slot(endpoint, scope);
        let mut slot = slot.lock().await;
        if let Some(fresh) = slot.fresh().filter(|fresh| !fresh.is(sent)) {
            return Ok(Some(fresh.clone()));
        }
        self.remember(endpoint, asked.general());
        slot.authorization = None;
        self.obtain(&mut slot, transport, endpoint, scope, &asked).await?;
        slot.asked = Some(asked);
        Ok(slot.authorization.clone().filter(|fresh| !fresh.is(sent)))
    }

    /// Forgets `sent`, which was refused where it could not be replaced at once. Whether there was
    /// a token to forget.
    pub async fn forget(&self, endpoint: &Endpoint, scope: &Scope, sent: &Authorization) -> bool {
        let slot = self.slot(endpoint, scope);
        let mut slot = slot.lock().await;
        let token = slot.stale.is_some();
        if slot.authorization.as_ref().is_some_and(|kept| kept.is(Some(sent))) {
            slot.authorization = None;
        }
        token
    }

    async fn obtain(
        &self,
        slot: &mut Slot,
        transport: &Transport,
        endpoint: &Endpoint,
        scope: &Scope,
        asked: &Asked,
    ) -> Result<()> {
        let login = self.keychain.find(&endpoint.name, &endpoint.repository).await?;
        match &asked.challenge {
            Challenge::Basic => {
                slot.authorization = login.map(|login| basic(login, endpoint)).transpose()?;
                slot.stale = None;
            }
            Challenge::Bearer { realm, service, scope: challenged } => {
                origin::check_realm(&endpoint.url("/")?, realm, login.is_some(), asked.peer)?;
                let mut scope = scope.clone();
                scope.merge(challenged.as_deref().unwrap_or_default());
                let ask = Ask { realm, service: service.as_deref(), scope: &scope, login: login.as_ref() };
                let token = ask.token(transport, endpoint, &self.keychain).await?;
                slot.stale = Instant::now().checked_add(token.life.mul_f64(0.8));
                slot.authorization = Some(token.authorization);
            }
        }
        Ok(())
    }
}

fn basic(login: Login, endpoint: &Endpoint) -> Result<Authorization> {
    let unusable = |why: &str| {
        Error::new(Kind::Auth, "the stored login cannot be used for this registry")
            .at(&endpoint.name)
            .got(format_args!("{why} from {}", login.origin))
    };
    match &login.identity {
        Identity::Password(user, password) => Authorization::basic(user, password, login.origin.clone())
            .ok_or_else(|| unusable("a login that does not fit into a header")),
        Identity::Token(_) => Err(unusable("an identity token, where a password is asked for,")),
    }
}

/// A request to a token server.
struct Ask<'a> {
    realm: &'a Url,
    service: Option<&'a str>,
    scope: &'a Scope,
    login: Option<&'a Login>,
}

struct Token {
    authorization: Authorization,
    life: Duration,
}

impl Ask<'_> {
    async fn token(&self, transport: &Transport, endpoint: &Endpoint, keychain: &Keychain) -> Result<Token> {
        let (request, sent) = self.request(transport, endpoint)?;
        let mut response = transport::send(transport, request).await.map_err(|e| e.at(&endpoint.name))?;
        if response.status() != StatusCode::OK {
            let who = refusal::Who { sent: sent.as_ref(), keychain, token_server: true };
            let what = format!("the token server {} refuses", origin::authority(self.realm));
            return Err(refusal::of(response, &what, &who, transport.limits()).await.at(&endpoint.name));
        }
        let body = transport::read(&mut response, limits::TOKEN_BODY, transport.limits()).await;
        let body = Zeroizing::new(body.map_err(|e| e.at(&endpoint.name))?.to_vec());
        let origin = self.login.map(|login| login.origin.clone());
        read_token(&body, origin).map_err(|e| e.at(origin::authority(self.realm)))
    }

    /// A GET with a password or without, or an OAuth2 POST with an identity token. And what secret
    /// is in it.
    fn request(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
    ) -> Result<(reqwest::Request, Option<Authorization>)> {
        match self.login {
            Some(Login { identity: Identity::Token(token), origin }) => {
                let sent = Authorization::new("Bearer", token.reveal(), Some(origin.clone()));
                Ok((self.refresh(transport, token)?, sent))
            }
            Some(login) => {
                let authorization = basic(login.clone(), endpoint)?;
                let mut request = self.get();
                authorization.apply(request.headers_mut());
                Ok((request, Some(authorization)))
            }
            None => Ok((self.get(), None)),
        }
    }

    fn get(&self) -> reqwest::Request {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        query.extend_pairs(self.service.map(|service| ("service", service)));
        query.extend_pairs(self.scope.texts().map(|scope| ("scope", scope)));
        drop(query);
        reqwest::Request::new(Method::GET, url)
    }

    /// distribution's "OAuth2 token authentication": the scopes share one field, separated by spaces.
    fn refresh(&self, transport: &Transport, token: &Secret) -> Result<reqwest::Request> {
        let scope = self.scope.to_string();
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "sealift"),
            ("service", self.service.unwrap_or_default()),
            ("scope", &scope),
            ("refresh_token", token.reveal()),
        ];
        let request = transport.client(self.realm)?.post(self.realm.clone()).form(&form).build();
        request.map_err(|_| {
            Error::new(Kind::AuthChallenge, "cannot ask the token server").got(self.realm.scheme())
        })
    }
}

fn read_token(body: &[u8], origin: Option<String>) -> Result<Token> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<Secret>,
        access_token: Option<Secret>,
        expires_in: Option<serde_json::Value>,
    }
    let wrong =
        |why: &str| Error::new(Kind::AuthChallenge, "the token server's answer is not usable").got(why);
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| wrong("not the JSON object it should be"))?;
    let given = |token: &Secret| !token.reveal().is_empty();
    let token = answer.token.filter(given).or(answer.access_token.filter(given));
    let token = token.ok_or_else(|| wrong("no token"))?;
    if !token.reveal().bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("a token with characters that no token has"));
    }
    let authorization =
        Authorization::new("Bearer", token.reveal(), origin).ok_or_else(|| wrong("no usable token"))?;
    Ok(Token { authorization, life: life(answer.expires_in.as_ref()) })
}

/// Absent, negative or absurd lifetimes become the default.
fn life(expires_in: Option<&serde_json::Value>) -> Duration {
    let seconds = match expires_in {
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_f64(),
        None => None,
    };
    match seconds {
        Some(seconds) if seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LIFE).min(LONGEST_LIFE)
        }
        _ => DEFAULT_LIFE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(headers: &[&str]) -> Result<Challenge> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(header.as_bytes()).unwrap());
        }
        Challenge::of(&map)
    }

    #[test]
    fn the_best_challenge_is_taken() {
        let bearer = r#"Bearer realm="https://a.example.com/token",service="r",scope="repository:x:pull""#;
        let expected = Challenge::Bearer {
            realm: Url::parse("https://a.example.com/token").unwrap(),
            service: Some("r".into()),
            scope: Some("repository:x:pull".into()),
        };
        for headers in [
            &[bearer][..],
            &[r#"Basic realm="r""#, bearer],
            &[&format!(r#"Basic realm="r", {bearer}"#)],
            &["Negotiate", bearer],
        ] {
            assert_eq!(challenge(headers).unwrap(), expected, "{headers:?}");
        }
        assert_eq!(challenge(&[r#"basic realm="r""#]).unwrap(), Challenge::Basic);
        assert_eq!(challenge(&["Negotiate", r#"Basic realm="r""#]).unwrap(), Challenge::Basic);
    }

    #[test]
    fn hostile_challenges_are_errors() {
        let long = format!(r#"Bearer realm="https://a/{}""#, "x".repeat(1 << 20));
        for headers in [
            &[][..],
            &["Negotiate"],
            &["Bearer"],
            &["Bearer service=\"r\""],
            &["Bearer realm=\"/token\""],
            &["Bearer realm=\"https://u:p@a.example.com/\""],
            &["Bearer realm=\"unix:/x\""],
            &["Bearer realm=\"unclosed"],
            &["Bearer realm=\"a\\"],
            &["Bearer realm=\"ü\""],
            &["====", ",,,,"],
            &["\"", "Bearer ="],
            &[&long],
        ] {
            let error = challenge(headers).unwrap_err();
            assert_eq!(error.kind(), Kind::AuthChallenge, "{headers:?}");
        }
    }

    #[test]
    fn scopes_merge_by_resource() {
        let mut scope = Scope::push("a/b").and_pull("c");
        assert_eq!(scope.to_string(), "repository:a/b:pull,push repository:c:pull");
        scope.merge("repository:a/b:pull,delete registry:catalog:* nonsense");
        assert_eq!(scope.to_string(), "registry:catalog:* repository:a/b:delete,pull,push repository:c:pull");
        let flood: Vec<_> = (0..1000).map(|n| format!("repository:r{n}:pull")).collect();
        scope.merge(&flood.join(" "));
        assert_eq!(scope.texts().count(), RESOURCES);
    }

    #[test]
    fn tokens_that_are_none() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a\r\nX: y"}"#,
            r#"{"token":"a b"}"#,
            r#"{"token":7}"#,
        ] {
            assert!(read_token(body.as_bytes(), None).is_err(), "{body}");
        }
        let token = read_token(br#"{"token":"","access_token":"t","expires_in":300}"#, None);
        assert_eq!(token.unwrap().life, Duration::from_secs(300));
        let lives = |json: &str| life(Some(&serde_json::from_str(json).unwrap()));
        for odd in ["-1", "0", "null", "\"x\"", "[]", "-1e300"] {
            assert_eq!(lives(odd), DEFAULT_LIFE, "{odd}");
        }
        for huge in ["1e300", "99999999999999999999", "86401"] {
            assert_eq!(lives(huge), LONGEST_LIFE, "{huge}");
        }
        assert_eq!(lives("\"300\""), Duration::from_secs(300));
    }

    #[test]
    fn what_was_sent_is_not_said_back() {
        let sent = Authorization::basic("user", &Secret::new("canary".into()), "f".into()).unwrap();
        let said = sent.redact("you sent Basic dXNlcjpjYW5hcnk= which is user:canary");
        assert_eq!(said, "you sent Basic *** which is ***");
        let odd = Secret::new("can/ar y".into());
        let sent = Authorization::basic("user", &odd, "f".into()).unwrap();
        let said = sent.redact("can/ar y, can%2Far%20y, Y2FuL2FyIHk=, user%3Acan%2Far%20y, user");
        assert_eq!(said, "***, ***, ***, ***, user");
    }
}
