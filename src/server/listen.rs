//! How requests travel: connections are accepted, counted and timed; those with bodies, and all that
//! come through TLS, are hyper's; plain reading goes the short way ([`super::plain`]).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONNECTION, EXPECT};
use http_body_util::{BodyStream, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, Body};
use super::{Request, Server, plain};
use crate::content::{Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::limits;

/// Bounds on what one client can take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// How long a request's head may take to arrive.
    pub head: Duration,
    /// How long a connection may lie still, between requests and within them.
    pub idle: Duration,
    /// How long requests that are under way may take when the server is to end.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            farewell: Duration::from_secs(10),
        }
    }
}

/// One request, for the access log.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it came from.
    pub peer: SocketAddr,
    /// What was to be done.
    pub method: String,
    /// To what: path and query as they were sent.
    pub target: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the body of the answer; of a request that broke off, those that were to be sent.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// What the client calls itself.
    pub agent: String,
}

/// Takes the lines of an access log.
pub type Log = Arc<dyn Fn(Line) + Send + Sync>;

/// A server at an address.
pub struct Listener {
    /// Where connections come in.
    pub socket: TcpListener,
    /// Speaks TLS where it is there.
    pub tls: Option<TlsAcceptor>,
    /// Bounds.
    pub limits: Limits,
    /// Told of each request.
    pub log: Log,
}

/// What all connections of a listener share.
#[derive(Clone)]
pub struct Way {
    pub(super) server: Arc<Server>,
    pub(super) limits: Limits,
    pub(super) log: Log,
    pub(super) closing: watch::Receiver<bool>,
}

impl Listener {
    /// Serves until `end` completes; then answers what was asked, and ends.
    ///
    /// # Errors
    /// `Io` where no connection can be accepted any more.
    pub async fn run(self, server: Arc<Server>, end: impl Future<Output = ()>) -> Result<()> {
        let (close, closing) = watch::channel(false);
        let way = Way { server, limits: self.limits, log: self.log.clone(), closing };
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut guests = JoinSet::new();
        tokio::pin!(end);
        loop {
            while guests.try_join_next().is_some() {}
            let place = tokio::select! {
                () = &mut end => break,
                place = places.clone().acquire_owned() => place,
            };
            let accepted = tokio::select! {
                () = &mut end => break,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) if is_passing(&e) => {
                    // No descriptors left: others have to go first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(e) => return Err(Error::io("cannot accept connections", "the socket", &e)),
            };
            let (way, tls) = (way.clone(), self.tls.clone());
            guests.spawn(async move {
                let _place = place;
                let _ = stream.set_nodelay(true);
                match tls {
                    None => plain::converse(stream, peer, way).await,
                    Some(tls) => secured(stream, peer, tls, way).await,
                }
            });
        }
        drop(self.socket);
        let _ = close.send(true);
        let all = async { while guests.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.limits.farewell, all).await;
        Ok(())
    }
}

/// A connection that was gone before it was taken, or too many files: the next one may do better.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as E;
    let numbers = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
        rustix::io::Errno::NOMEM,
    ];
    matches!(error.kind(), E::ConnectionAborted | E::ConnectionReset | E::Interrupted | E::WouldBlock)
        || error
            .raw_os_error()
            .is_some_and(|number| numbers.iter().any(|known| known.raw_os_error() == number))
}

async fn secured(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, way: Way) {
    // A handshake that fails is the client's business: it does not trust us, or is no TLS client.
    if let Ok(Ok(stream)) = tokio::time::timeout(way.limits.head, tls.accept(stream)).await {
        by_hyper(stream, peer, true, way).await;
    }
}

/// Any request, over anything that bytes go through.
pub(super) async fn by_hyper<S>(stream: S, peer: SocketAddr, secure: bool, way: Way)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let guest = way.clone();
    let service = service_fn(move |request| {
        let way = guest.clone();
        async move { Ok::<_, Infallible>(serve(request, peer, secure, &way).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(way.limits.head).max_buf_size(limits::REQUEST_HEAD);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut closing = way.closing.clone();
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

type Sent = Either<Full<Bytes>, StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>>>>>;

async fn serve(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    secure: bool,
    way: &Way,
) -> hyper::Response<Sent> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let (method, target) = (parts.method.to_string(), parts.uri.to_string());
    let waits = parts.headers.contains_key(EXPECT);
    let rest = Rest::new(body, way.limits.idle);
    let asked = Request {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: rest.body(),
        secure,
    };
    let agent = asked.header(http::header::USER_AGENT).unwrap_or_default().to_owned();
    let answer = way.server.answer(asked).await;
    let (status, bytes) = (answer.status.as_u16(), answer.body.length());
    (way.log)(Line { peer, method, target, status, bytes, took: began.elapsed(), agent });
    let heard_out = tokio::time::timeout(way.limits.head, rest.heard_out(waits)).await;
    response(if heard_out.unwrap_or(false) { answer } else { answer.with(CONNECTION, "close") })
}

/// What has not come in yet of a request's body; shared, because whoever answers may leave it unread.
#[derive(Clone)]
struct Rest {
    frames: Arc<Mutex<Option<BodyStream<Incoming>>>>,
    /// How long it may lie still.
    idle: Duration,
}

impl Rest {
    fn new(body: Incoming, idle: Duration) -> Self {
        Rest { frames: Arc::new(Mutex::new(Some(BodyStream::new(body)))), idle }
    }

    fn body(&self) -> Unverified {
        let pieces = stream::unfold(self.clone(), |rest| async { Some((rest.piece().await?, rest)) });
        Unverified::new("a request", pieces)
    }

    /// The next piece; nothing follows a failure.
    async fn piece(&self) -> Option<Result<Bytes>> {
        let mut frames = self.frames.lock().await;
        let broken = |what: &str| Error::new(Kind::Network, what.to_owned());
        loop {
            let failure = match tokio::time::timeout(self.idle, frames.as_mut()?.next()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(e))) => Some(Err(broken("the request broke off").got(e))),
                Err(_) => Some(Err(broken("the request came to a standstill"))),
                Ok(None) => None,
            };
            *frames = None;
            return failure;
        }
    }

    /// Reads what the answer did without, and tells whether another request may follow. Otherwise the
    /// connection would end without a word, perhaps under the client's next request (RFC 9112 §9.3, §9.6).
    async fn heard_out(&self, waits: bool) -> bool {
        // Whoever waits for a word to go on (RFC 9110 §10.1.1) has heard that it is not wanted.
        if waits {
            return self.frames.lock().await.is_none();
        }
        let mut seen = 0u64;
        while let Some(piece) = self.piece().await {
            seen = seen.saturating_add(piece.map_or(u64::MAX, |piece| piece.len() as u64));
            if seen > limits::HEARD_OUT {
                return false;
            }
        }
        true
    }
}

fn response(answer: Answer) -> hyper::Response<Sent> {
    let length = answer.body.length();
    let body: Sent = match answer.body {
        Body::Bytes(bytes) => Either::Left(Full::new(bytes)),
        Body::Stretch(extent) => {
            let pieces = file::stream(extent.medium, "a blob".to_owned(), extent.offset, extent.size);
            Either::Right(StreamBody::new(pieces.map(|piece| piece.map(Frame::data)).boxed()))
        }
    };
    let mut response = hyper::Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    let headers = response.headers_mut();
    // The answer to HEAD says how long the body would be.
    headers.entry(http::header::CONTENT_LENGTH).or_insert(length.into());
    response
}
