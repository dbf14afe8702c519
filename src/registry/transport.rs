//! Connections: TLS trust, proxies, timeouts, and what a failed connection means.
//!
//! There is one `reqwest::Client` per way of connecting. reqwest's own read timeout is not used:
//! it counts an upload's whole duration as waiting. Whoever waits puts a [`Limits`] clock on it.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Certificate, Identity, Url, redirect, tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, RootCertStore};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::client::Options;
use super::gate::{Gate, Permit};
use super::origin;
use crate::content::file::read_small;
use crate::error::{Error, Kind, Result, Retry};
use crate::limits;

/// How many patient silences an exchange of small bodies may last in all: a server that drips one
/// byte a minute is not waited for.
const SILENCES: u32 = 5;

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// For the next sign of life.
    pub idle: Duration,
}

impl Limits {
    /// For an answer's head: a connection may have to be made first.
    pub fn head(&self) -> Duration {
        self.connect.saturating_add(self.idle)
    }

    /// For a small body, or for a registry to put away what it was given.
    pub fn whole(&self) -> Duration {
        self.idle.saturating_mul(SILENCES)
    }
}

/// The ways of connecting.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Way {
    tls: bool,
    loopback: bool,
    /// The folder with this host's certificates.
    certificates: Option<PathBuf>,
}

/// All connections of the process.
pub struct Transport {
    options: Options,
    roots: Vec<Certificate>,
    clients: Mutex<HashMap<Way, reqwest::Client>>,
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

impl Transport {
    /// Reads the CA files.
    pub fn new(options: Options) -> Result<Self> {
        // Ignored: somebody was here first, and any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = Vec::new();
        for file in &options.ca {
            roots.extend(read_roots(file)?);
        }
        Ok(Transport { options, roots, clients: Mutex::default(), gates: Mutex::default() })
    }

    /// The waiting times.
    pub fn limits(&self) -> Limits {
        Limits { connect: self.options.connect_timeout, idle: self.options.idle_timeout }
    }

    /// Waits until `url`'s host may be given one more request.
    pub async fn enter(&self, url: &Url) -> Permit {
        let host = origin::authority(url);
        let gate = self.gates.lock().unwrap_or_else(PoisonError::into_inner).entry(host).or_default().clone();
        gate.enter().await
    }

    /// The client that connects to `url`'s host.
    pub fn client(&self, url: &Url) -> Result<reqwest::Client> {
        let tls = url.scheme() == "https";
        let certificates = if tls { self.certificates(url) } else { None };
        let way = Way { tls, loopback: origin::is_loopback(url), certificates };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let client = self.build(&way)?;
        clients.insert(way, client.clone());
        Ok(client)
    }

    /// The first folder `certs.d/HOST[:PORT]` that exists (containers-certs.d(5)).
    fn certificates(&self, url: &Url) -> Option<PathBuf> {
        let host = url.host_str()?;
        let port = url.port_or_known_default()?;
        let mut names = vec![format!("{host}:{port}")];
        if url.port().is_none() {
            names.insert(0, host.to_owned());
        }
        let folders = self.options.certificates.iter();
        folders.flat_map(|folder| names.iter().map(|name| folder.join(name))).find(|path| path.is_dir())
    }

    fn build(&self, way: &Way) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.options.user_agent)
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.options.connect_timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            .pool_idle_timeout(Duration::from_secs(60));
        if way.loopback {
            builder = builder.no_proxy();
        }
        builder = if way.tls {
            self.trust(builder, way.certificates.as_deref())?
        } else {
            // Without roots to load, plain HTTP also works where a machine has none.
            builder.tls_certs_only([]).http1_only()
        };
        builder.build().map_err(|error| {
            Error::new(Kind::Tls, "cannot set up TLS").got(root_cause(&error)).hint(
                "install the system's CA certificates (package ca-certificates) or name a CA with --ca FILE",
            )
        })
    }

    fn trust(
        &self,
        builder: reqwest::ClientBuilder,
        folder: Option<&Path>,
    ) -> Result<reqwest::ClientBuilder> {
        let mut roots = self.roots.clone();
        let mut identity = None;
        for file in folder.map(files_of).transpose()?.unwrap_or_default() {
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => roots.extend(read_roots(&file)?),
                Some("cert") if identity.is_none() => identity = Some(read_identity(&file)?),
                _ => {}
            }
        }
        let builder = builder
            .tls_version_min(tls::Version::TLS_1_2)
            // A connection for each transfer: in HTTP/2 they share one window, and whoever waits for a slow
            // reader (a pipe, a stick) keeps the others from being read.
            .http1_only()
            .tls_certs_merge(roots);
        Ok(match identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        })
    }
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: &std::io::Error| Error::io("cannot read the certificates", folder.display(), e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| failed(&e))? {
        files.push(entry.map_err(|e| failed(&e))?.path());
    }
    files.sort();
    Ok(files)
}

/// The certificates of a PEM file, each checked to be one: reqwest would blame no file.
fn read_roots(file: &Path) -> Result<Vec<Certificate>> {
    let wrong = || Error::new(Kind::Tls, "not a usable CA file").at(file.display());
    let bytes = read_small(file, "the CA file", limits::CERTIFICATES)?;
    let mut roots = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let der = certificate.map_err(|_| wrong().got("damaged PEM"))?;
        RootCertStore::empty().add(der.clone()).map_err(|e| wrong().got(e))?;
        roots.push(Certificate::from_der(&der).map_err(|e| wrong().got(root_cause(&e)))?);
    }
    if roots.is_empty() {
        return Err(
            wrong().expected("at least one certificate between BEGIN CERTIFICATE and END CERTIFICATE")
        );
    }
    Ok(roots)
}

/// `NAME.cert` and `NAME.key` (containers-certs.d(5)).
fn read_identity(certificate: &Path) -> Result<Identity> {
    let key = certificate.with_extension("key");
    let mut pem = Zeroizing::new(read_small(&key, "the client certificate's key", limits::KEY_FILE)?);
    pem.push(b'\n');
    pem.extend(read_small(certificate, "the client certificate", limits::CERTIFICATES)?);
    Identity::from_pem(&pem).map_err(|_| {
        Error::new(Kind::Tls, "not a usable client certificate")
            .at(certificate.display())
            .expected(format_args!("a PEM certificate, and its unencrypted PEM key in {}", key.display()))
    })
}

/// Sends a request and waits for the head of the answer. `host` is who the request was meant for.
pub async fn send(transport: &Transport, request: reqwest::Request) -> Result<reqwest::Response> {
    let url = request.url().clone();
    let client = transport.client(&url)?;
    let limit = transport.limits().head();
    // Whoever waits for the others is not kept waiting by the server.
    let permit = transport.enter(&url).await;
    match timeout(limit, client.execute(request)).await {
        Ok(answer) => answer.inspect(|a| permit.answered(a.status())).map_err(|error| failure(&error, &url)),
        Err(_) => Err(silent(&url, limit)),
    }
}

/// Reads a small body whole, refusing more than `limit` bytes while they arrive.
pub async fn read(response: &mut reqwest::Response, limit: u64, clock: Limits) -> Result<Bytes> {
    let url = response.url().clone();
    let too_large = || {
        Error::new(Kind::LimitExceeded, "the server's answer is too large")
            .got(format_args!("more than {limit} bytes"))
            .expected(format_args!("at most {limit}"))
    };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let whole = async {
        let mut body = BytesMut::new();
        while let Some(piece) = next_piece(response, clock, &url).await? {
            if (body.len() as u64).saturating_add(piece.len() as u64) > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    };
    timeout(clock.whole(), whole).await.unwrap_or_else(|_| Err(silent(&url, clock.whole())))
}

/// The next piece of a body.
pub async fn next_piece(response: &mut reqwest::Response, clock: Limits, url: &Url) -> Result<Option<Bytes>> {
    match timeout(clock.idle, response.chunk()).await {
        Ok(piece) => piece.map_err(|error| failure(&error, url)),
        Err(_) => Err(silent(url, clock.idle)),
    }
}

/// Nothing came in time.
pub fn silent(url: &Url, limit: Duration) -> Error {
    Error::new(Kind::Timeout, format!("{} does not answer", origin::authority(url)))
        .got(format_args!("nothing for {:.1} s", limit.as_secs_f64()))
        .retry(Retry::Soon)
}

/// What a failed exchange means. Never shows the URL, whose query may hold a signature.
pub fn failure(error: &reqwest::Error, url: &Url) -> Error {
    let host = origin::authority(url);
    if let Some(tls) = tls_cause(error) {
        return tls_failure(tls, &host);
    }
    let (kind, what) = if error.is_timeout() {
        (Kind::Timeout, format!("{host} does not answer"))
    } else if error.is_dns() {
        (Kind::Network, format!("the host {host} cannot be found"))
    } else if error.is_connect() {
        (Kind::Network, format!("cannot connect to {host}"))
    } else {
        (Kind::Network, format!("the connection to {host} failed"))
    };
    let cause = root_cause(error);
    // tokio-rustls has no type for it.
    let hung_up = cause.contains("tls handshake eof");
    let failure = Error::new(kind, what).got(cause).retry(Retry::Soon);
    match (hung_up, error.is_dns(), error.is_connect()) {
        (true, ..) => failure.hint(no_tls(&host)),
        (_, true, _) => failure.hint("check the name and this machine's DNS"),
        (.., true) => failure.hint("is the registry running, and are host and port right?"),
        _ => failure,
    }
}

fn no_tls(host: &str) -> String {
    format!("the server does not speak TLS: if it is meant to be reached without, say --plain-http {host}")
}

fn tls_failure(error: &rustls::Error, host: &str) -> Error {
    use CertificateError as C;
    let failure = Error::new(Kind::Tls, format!("no secure connection to {host}")).got(error);
    match error {
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => {
            failure.hint("if this registry has a CA of its own, name its certificate with --ca FILE")
        }
        rustls::Error::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        ) => failure.hint("compare this machine's clock with the certificate's dates"),
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            failure.hint("use the name that is in the certificate, or have one made for this name")
        }
        _ if failure.to_string().contains("CaUsedAsEndEntity") => failure.hint(
            "the server's certificate is a CA certificate (openssl req -x509 makes these): \
             give it one that the CA issued, with basicConstraints CA:FALSE",
        ),
        rustls::Error::InvalidMessage(_) => failure.hint(no_tls(host)),
        _ => failure,
    }
}

/// hyper-rustls hides TLS errors inside of I/O errors (inside of others), whose `source` skips what
/// they hold.
fn tls_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    match error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
        Some(held) => tls_cause(held),
        None => tls_cause(error.source()?),
    }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    // reqwest's own words name the URL.
    if std::ptr::addr_eq(cause, error) {
        "unexpected end or invalid HTTP".to_owned()
    } else {
        cause.to_string()
    }
}
