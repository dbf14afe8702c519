//! One request, from asking to the head of the answer: logins, redirects, retries.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::auth::{Asked, Auth, Authorization, Challenge, Scope};
use super::credentials::{Keychain, is_hub};
use super::repository::Repository;
use super::session::Parts;
use super::transport::{self, Limits, Transport};
use super::{origin, refusal, wire};
use crate::content::{Patience, retrying};
use crate::error::{Error, Kind, Result};
use crate::{limits, oci};

/// The Docker Hub's API is not where its name says.
const HUB: &str = "registry-1.docker.io";

/// How registries are talked to.
#[derive(Clone)]
pub struct Options {
    /// PEM files with CAs that are trusted in addition to the system's.
    pub ca: Vec<PathBuf>,
    /// Folders with certificates per host, the first that knows a host decides (containers-certs.d(5)).
    pub certificates: Vec<PathBuf>,
    /// Registries that are reached without TLS: `HOST` or `HOST:PORT`. Loopback ones always are.
    pub plain_http: Vec<String>,
    /// Loopback registries that are reached by TLS all the same.
    pub tls: Vec<String>,
    /// Where logins are found.
    pub keychain: Keychain,
    /// How we introduce ourselves.
    pub user_agent: String,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence; there is no limit on how long a transfer may take.
    pub idle_timeout: Duration,
    /// Tries per request.
    pub attempts: u32,
    /// Longest first pause between tries.
    pub backoff: Duration,
    /// Is told about each retry.
    pub note: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        let patience = Patience::default();
        Options {
            ca: Vec::new(),
            certificates: vec!["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()],
            plain_http: Vec::new(),
            tls: Vec::new(),
            keychain: Keychain::from_environment(),
            user_agent: concat!("sealift/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            attempts: patience.attempts,
            backoff: patience.backoff,
            note: Arc::new(|_| {}),
        }
    }
}

/// Talks to registries. Connections, tokens and what was learned about each host are shared by all
/// clones.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    transport: Transport,
    auth: Auth,
    parts: Parts,
    plain_http: Vec<String>,
    tls: Vec<String>,
    patience: Patience,
    note: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Client {
    /// Reads the CA files; connects to nobody.
    ///
    /// # Errors
    /// A CA file that cannot be read or holds no certificate.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Client(Arc::new(Shared {
            auth: Auth::new(options.keychain.clone()),
            parts: Parts::default(),
            plain_http: options.plain_http.clone(),
            tls: options.tls.clone(),
            patience: Patience { attempts: options.attempts, backoff: options.backoff },
            note: options.note.clone(),
            transport: Transport::new(options)?,
        })))
    }

    /// One repository of one registry: where requests go, after mirrors were applied.
    pub fn repository(&self, registry: &oci::Registry, repository: &oci::Repository) -> Repository {
        Repository::new(self.clone(), self.endpoint(registry, repository.as_str()))
    }

    /// Who is told about what is worth a line.
    pub fn note(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        self.0.note.clone()
    }

    /// Whether the registry is there, speaks the distribution API, and takes the login at hand.
    pub async fn ping(&self, registry: &oci::Registry) -> Result<()> {
        let endpoint = self.endpoint(registry, "");
        let call = Call::new(&endpoint, Method::GET, wire::ROOT, "cannot use the registry")?;
        match self.send(&endpoint, &call).await {
            Err(error) if error.kind() == Kind::NotFound => {
                Err(Error::new(Kind::RegistryUnsupported, "not an OCI registry")
                    .at(&endpoint.name)
                    .got("404 for /v2/")
                    .hint("check the host and the port"))
            }
            answer => self.require_no_page(&endpoint, answer?).await,
        }
    }

    /// A network that wants a login or a fee answers everything with a web page, and a 200.
    async fn require_no_page(&self, endpoint: &Endpoint, mut response: Response) -> Result<()> {
        // Some registries call their empty answer HTML, too: the body tells.
        let body = transport::read(&mut response, limits::ERROR_BODY, self.limits()).await;
        match body.map_err(|e| e.at(&endpoint.name))?.trim_ascii_start().first() {
            Some(b'<') => Err(Error::new(Kind::UnexpectedContent, "not an OCI registry")
                .at(&endpoint.name)
                .got("a web page for /v2/")
                .hint("check the host and the port; a proxy or a network's login page may stand before it")),
            _ => Ok(()),
        }
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.0.auth
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    pub(super) fn limits(&self) -> Limits {
        self.0.transport.limits()
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    fn endpoint(&self, registry: &oci::Registry, repository: &str) -> Endpoint {
        let name = registry.to_string();
        let hub = is_hub(&name);
        let authority = if hub { HUB.to_owned() } else { name.to_ascii_lowercase() };
        let named = |listed: &String| {
            listed.eq_ignore_ascii_case(&name)
                || listed.trim_matches(['[', ']']).eq_ignore_ascii_case(registry.host())
        };
        let plain =
            self.0.plain_http.iter().any(named) || registry.is_loopback() && !self.0.tls.iter().any(named);
        Endpoint { repository: hub_path(hub, repository), name, authority, plain, hub }
    }

    /// Does `attempt` until it succeeds or fails for good.
    pub(super) async fn patiently<T, F, Fut>(&self, attempt: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        retrying(self.0.patience, &*self.0.note, attempt).await
    }

    /// Waits before the next try after `tried` failed ones; hands the failure back when patience ends.
    pub(super) async fn pause(&self, tried: u32, error: Error) -> Result<()> {
        self.0.patience.wait(tried, error, &*self.0.note).await
    }

    /// Sends until there is an expected answer.
    pub(super) async fn send(&self, endpoint: &Endpoint, call: &Call) -> Result<Response> {
        self.patiently(|| self.send_once(endpoint, call)).await
    }

    /// Sends, and once more if the registry asks for a login.
    pub(super) async fn send_once(&self, endpoint: &Endpoint, call: &Call) -> Result<Response> {
        self.exchange(endpoint, call).await.map_err(|error| error.at(&call.place))
    }

    async fn exchange(&self, endpoint: &Endpoint, call: &Call) -> Result<Response> {
        let registry = endpoint.url("/")?;
        let mut sent = self.auth().ready(self.transport(), endpoint, &call.scope).await?;
        let mut response = self.follow(&registry, call, sent.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && origin::same(response.url(), &registry) {
            let challenge = Challenge::of(response.headers())?;
            let asked = Asked { challenge, peer: peer(&response) };
            let auth = self.auth();
            let fresh = auth.answer(self.transport(), endpoint, &call.scope, asked, sent.as_ref()).await?;
            if fresh.is_some() {
                sent = fresh;
                response = self.follow(&registry, call, sent.as_ref()).await?;
            }
        }
        self.accept(call, response, sent.as_ref()).await
    }

    /// The answer, if its status is an expected one.
    pub(super) async fn accept(
        &self,
        call: &Call,
        response: Response,
        sent: Option<&Authorization>,
    ) -> Result<Response> {
        if call.expected.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        let who = refusal::Who { sent, keychain: self.auth().keychain(), token_server: false };
        Err(refusal::of(response, call.what, &who, self.limits()).await)
    }

    /// Sends and follows redirects. The login is shown to the registry only.
    async fn follow(&self, registry: &Url, call: &Call, login: Option<&Authorization>) -> Result<Response> {
        let mut url = call.url.clone();
        for _ in 0..=limits::REDIRECTS {
            let request = call.request(&url, login.filter(|_| origin::same(&url, registry)));
            let response = transport::send(self.transport(), request).await?;
            match redirect(call, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(Error::new(Kind::RedirectForbidden, "the server redirects in circles")
            .got(format_args!("more than {} redirects", limits::REDIRECTS)))
    }
}

/// Where the answer sends us. What is not a question (GET, HEAD) is only ever repeated to the server
/// it was meant for.
fn redirect(call: &Call, response: &Response) -> Result<Option<Url>> {
    let status = response.status().as_u16();
    let asking = matches!(call.method, Method::GET | Method::HEAD);
    let location = response.headers().get(LOCATION);
    let location = match (status, location) {
        (301..=303, Some(location)) if asking => location,
        (307 | 308, Some(location)) => location,
        _ => return Ok(None),
    };
    let to = resolve(response, location)?;
    if asking || origin::same(response.url(), &to) {
        return Ok(Some(to));
    }
    Err(Error::new(Kind::RedirectForbidden, "the registry wants to have this sent to another server")
        .got(origin::authority(&to))
        .hint("name that server as the registry, if it is the right one"))
}

/// A `Location` as a URL that may be used.
pub(super) fn resolve(response: &Response, location: &HeaderValue) -> Result<Url> {
    let text = location.to_str().map_err(|_| {
        Error::new(Kind::RedirectForbidden, "the server points to a place that is not followed: not text")
    })?;
    origin::follow(response.url(), text, peer(response))
}

fn peer(response: &Response) -> Option<IpAddr> {
    response.remote_addr().map(|address| address.ip())
}

fn hub_path(hub: bool, repository: &str) -> String {
    if hub && !repository.is_empty() && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    }
}

/// Where the requests for one repository go.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// The registry as it was named, for people and credential files.
    pub name: String,
    /// The API's host and port.
    pub authority: String,
    /// The repository as the API knows it.
    pub repository: String,
    plain: bool,
    hub: bool,
}

impl Endpoint {
    /// The URL of a path.
    pub fn url(&self, path: &str) -> Result<Url> {
        let scheme = if self.plain { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{}{path}", self.authority)).map_err(|error| {
            Error::new(Kind::RefInvalid, "not a usable registry host").at(&self.name).got(error)
        })
    }

    /// Another repository beside this one, as the API knows it.
    pub fn sibling(&self, repository: &oci::Repository) -> String {
        hub_path(self.hub, repository.as_str())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.repository)
    }
}

/// A request that can be made again: its body, if any, is in memory.
pub(super) struct Call {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub scope: Scope,
    /// The statuses that the caller handles.
    pub expected: &'static [u16],
    /// What it means if it fails.
    pub what: &'static str,
    /// What it is about.
    pub place: String,
}

impl Call {
    pub fn new(endpoint: &Endpoint, method: Method, path: &str, what: &'static str) -> Result<Self> {
        // A compressing proxy would change what is hashed.
        let identity = (ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Call {
            method,
            url: endpoint.url(path)?,
            headers: HeaderMap::from_iter([identity]),
            body: Bytes::new(),
            scope: Scope::default(),
            expected: &[200],
            what,
            place: endpoint.name.clone(),
        })
    }

    /// The request, to `url`, with a login or without.
    pub fn request(&self, url: &Url, login: Option<&Authorization>) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(login) = login {
            login.apply(request.headers_mut());
        }
        // POST and PUT always say how long they are, even where it is nothing (RFC 9110 §8.6).
        if matches!(self.method, Method::POST | Method::PUT) {
            request.headers_mut().insert(CONTENT_LENGTH, self.body.len().into());
            *request.body_mut() = Some(self.body.clone().into());
        }
        request
    }
}
