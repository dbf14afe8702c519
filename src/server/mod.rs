//! A registry: the distribution API (distribution-spec 1.1) over [`Holdings`], and over a [`Stock`]
//! where it may be written to. Requests enter, [`Answer`]s leave; how they travel is the business of
//! [`listen`].
//!
//! Whatever a request says is parsed into names and digests before anything is looked up with it
//! ([`route`]). Documents are given out byte for byte as they were pushed.

#![allow(clippy::result_large_err, reason = "one answer a request: made once, moved once")]

mod answer;
mod gate;
mod listen;
mod page;
mod plain;
mod pull;
mod push;
mod route;
mod secure;

use std::sync::Arc;

use http::header::{ALLOW, HeaderMap, HeaderName, RANGE, X_CONTENT_TYPE_OPTIONS};
use http::{Method, StatusCode};

use crate::content::{Holdings, Stock, Unverified};
use crate::error::Error;
use crate::oci::{Registry, Repository};

pub use answer::{Answer, Body};
pub use gate::{Gate, Users};
pub use listen::{Limits, Line, Listener, Log, Way};
pub use page::{Cover, Page, Shown, Signature, Verified};
pub use secure::Certificate;

use answer::Code;
use page::Host;
use route::{Query, Route, route};

/// What is served, to whom, and how.
pub struct Server {
    /// What is given out.
    pub holdings: Arc<dyn Holdings>,
    /// What is written to; the same place as the holdings. Nothing where nothing may be written.
    pub stock: Option<Arc<dyn Stock>>,
    /// Who may come in.
    pub gate: Gate,
    /// What people see.
    pub page: Page,
    /// Told what went wrong inside: it is nobody's business outside.
    pub trouble: Arc<dyn Fn(&Error) + Send + Sync>,
}

/// A request, wherever it came from.
pub struct Request {
    /// What is asked to be done.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty where there is none.
    pub body: Unverified,
    /// Whether it came through TLS.
    pub secure: bool,
}

const DOCKER_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

impl Server {
    /// Answers a request.
    pub async fn answer(&self, mut request: Request) -> Answer {
        let head = request.method == Method::HEAD;
        if head {
            // RFC 9110 §14.2: GET is the only method that has ranges.
            request.headers.remove(RANGE);
        }
        let api = request.path.starts_with("/v2");
        let namespace = Query::parse(&request.query).namespace();
        let mut answer = self.decide(request).await.unwrap_or_else(|answer| answer);
        if api {
            // Clients of the first registries look for it before they go on.
            answer = answer.with(DOCKER_VERSION, "registry/2.0");
        }
        // What somebody pushed is never to be taken for a page.
        answer = answer.with(X_CONTENT_TYPE_OPTIONS, "nosniff");
        if let Some(namespace) = namespace {
            answer = answer.with(NAMESPACE, namespace.as_str());
        }
        if head { answer.headers_only() } else { answer }
    }

    async fn decide(&self, request: Request) -> Result<Answer, Answer> {
        let route = route(&request.path)?;
        let read = matches!(request.method, Method::GET | Method::HEAD);
        if read && route == Route::Page(page::HEALTH.to_owned()) {
            // Whoever watches whether it is alive has no password, and learns nothing else.
            return Ok(page::healthy());
        }
        self.gate.admit(&request.headers, !read).await?;
        let query = Query::parse(&request.query);
        if !read && self.stock.is_none() {
            return Err(
                Answer::error(Code::Unsupported, "this registry is read-only").with(ALLOW, "GET, HEAD")
            );
        }
        match (request.method.clone(), route) {
            (Method::GET | Method::HEAD, Route::Root) => Ok(Answer::json(&serde_json::json!({}))),
            (Method::GET | Method::HEAD, Route::Page(path)) => {
                let host = Host::of(&request);
                self.page(&path, host, &query).await
            }
            (Method::GET | Method::HEAD, Route::Catalog) => self.catalog(&query).await,
            (Method::GET | Method::HEAD, Route::Tags(name)) => self.tags(&name, &query).await,
            (Method::GET | Method::HEAD, Route::Manifest(name, reference)) => {
                self.manifest(&name, &reference, &query).await
            }
            (Method::GET | Method::HEAD, Route::Blob(name, digest)) => {
                self.blob(&name, &digest, &query, &request.headers).await
            }
            (Method::GET | Method::HEAD, Route::Referrers(name, digest)) => {
                self.referrers(&name, &digest, &query).await
            }
            (_, Route::Page(_)) => {
                Err(Answer::error(Code::MethodNotAllowed, "this page is for reading")
                    .with(ALLOW, "GET, HEAD"))
            }
            (_, route) => self.change(request, route, &query).await,
        }
    }

    /// The names under which a repository may be held: containerd asks mirrors for the repository of a
    /// registry that it names in `ns`.
    fn names(name: &Repository, namespace: Option<Registry>) -> Vec<Repository> {
        let under = namespace.and_then(|registry| format!("{registry}/{name}").parse().ok());
        under.into_iter().chain([name.clone()]).collect()
    }

    /// What cannot be given out is not the client's fault, whatever is wrong with it.
    fn broken(&self, error: Error) -> Answer {
        (self.trouble)(&error);
        Answer::error(Code::Unknown, "the registry cannot give this out: its log says why")
    }

    /// An inner failure becomes an answer that gives nothing away.
    fn failed(&self, error: Error) -> Answer {
        (self.trouble)(&error);
        Answer::failure(&error)
    }
}

impl Request {
    /// A header's text.
    fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// 202 and where to go on.
fn accepted() -> Answer {
    Answer::empty(StatusCode::ACCEPTED)
}
