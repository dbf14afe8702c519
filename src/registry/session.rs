//! A blob on its way to a registry, by way of an upload session (distribution-spec, "Pushing blobs").
//!
//! All of it goes in one request wherever that is taken. In parts (distribution-spec, "Pushing a blob
//! in chunks") it goes where a registry, or a proxy before it, refuses so much at once, and where an
//! earlier try broke off: the session then tells what it has, and only the rest is sent. What it has
//! is read and hashed all the same, so the digest counts for the whole; and the registry, which
//! compares it, too, has the last word.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::auth::Scope;
use super::client::{Call, Client, Endpoint, resolve};
use super::upload::{Supply, Upload};
use super::{origin, refusal, transport, wire};
use crate::content::Reader;
use crate::error::{Error, Kind, Result, Retry};
use crate::oci::{Descriptor, Digest};

/// The shortest part that is worth a request of its own: web servers' usual limit (nginx has 1 MiB).
const PART_LEAST: u64 = 1 << 20;

/// The first part sent to a host whose limit is not known: object stores want at least 5 MiB.
const PART_FIRST: u64 = 8 << 20;

/// The longest part: long enough for the requests not to matter.
const PART_MOST: u64 = 64 << 20;

/// A registry may still be taking in what was on its way when the connection broke. Only a session that
/// says the same after such a while is built upon.
const SETTLING: Duration = Duration::from_millis(200);

/// How often it is waited for.
const LOOKS: usize = 25;

/// An upload session, and how far it has come.
pub struct Session {
    url: Url,
    /// Bytes that it has.
    offset: u64,
    /// The shortest part that the registry takes, but for the last.
    least: u64,
    /// Whether the bytes it has come from a try that broke off.
    resumed: bool,
    /// Whether it is of no use for another try.
    spent: bool,
}

/// The sessions of one repository that broke off.
#[derive(Default)]
pub struct Broken {
    sessions: Mutex<HashMap<Digest, Session>>,
    /// Resumed content did not become what was sent: nothing is resumed here any more.
    distrusted: AtomicBool,
}

impl Broken {
    /// The session of an earlier try. It is not given out twice.
    pub fn take(&self, digest: &Digest) -> Option<Session> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(digest)
    }

    fn keep(&self, digest: Digest, session: Session) {
        if !self.distrusted.load(Ordering::Relaxed) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, session);
        }
    }

    fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }
}

/// One blob, and where it goes.
pub struct Push<'a> {
    pub client: &'a Client,
    pub endpoint: &'a Endpoint,
    pub broken: &'a Broken,
    pub expected: &'a Descriptor,
}

/// A request that failed, and with what status if it was answered.
struct Failed {
    status: Option<StatusCode>,
    error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { status: None, error }
    }
}

impl Push<'_> {
    /// Asks for a new session.
    pub async fn begin(&self) -> Result<Session> {
        let call = begin_call(self.endpoint, self.scope(), self.place())?;
        let response = self.client.send(self.endpoint, &call).await?;
        let url = location(&response).map_err(|e| e.at(self.place()))?;
        let least = number(response.headers(), wire::header::CHUNK_MIN).unwrap_or(0);
        Ok(Session { url, offset: 0, least, resumed: false, spent: false })
    }

    /// Asks how far a session has come. `None` where it is gone or of no use: that is no failure, there
    /// are others.
    pub async fn look(&self, mut session: Session) -> Option<Session> {
        session.resumed = true;
        session.offset = self.status(&mut session).await?;
        for _ in 0..LOOKS {
            tokio::time::sleep(SETTLING).await;
            let before = session.offset;
            session.offset = self.status(&mut session).await?;
            if session.offset != before {
                continue;
            }
            if (1..=self.expected.size).contains(&before) {
                return Some(session);
            }
            break;
        }
        self.cancel(session).await;
        None
    }

    /// distribution-spec, "Pushing a blob in chunks": how many bytes a session has, said by itself.
    async fn status(&self, session: &mut Session) -> Option<u64> {
        let call = self.call(Method::GET, session.url.clone(), &[204]).ok()?;
        let response = self.client.send(self.endpoint, &call).await.ok()?;
        session.moved(&response).ok()?;
        match last_byte(response.headers()) {
            // `0-0` means one byte, or none in CNCF Distribution. What makes no sense is not built upon.
            None | Some(0) => Some(0),
            Some(last) => last.checked_add(1),
        }
    }

    /// Sends what the session lacks, and finishes it.
    ///
    /// # Errors
    /// Where another try may help, the session is kept for it.
    pub async fn send(&self, mut session: Session, content: Reader) -> Result<()> {
        let Err(error) = self.deliver(&mut session, Supply::new(content)).await else { return Ok(()) };
        if session.spent || error.retryable() == Retry::Never {
            // Ours to clean up: nobody will come back for it.
            self.cancel(session).await;
        } else {
            self.broken.keep(self.expected.digest, session);
        }
        Err(error.at(self.place()))
    }

    async fn deliver(&self, session: &mut Session, content: Arc<Supply>) -> Result<()> {
        let size = self.expected.size;
        let parts = self.client.parts();
        let host = origin::authority(&session.url);
        if session.offset == 0 && parts.takes_whole(&host, size) {
            return self.put_whole(session, content).await;
        }
        content.skip(session.offset).await?;
        while session.offset < size {
            let most = parts.next(&host, session.least);
            self.patch(session, content.clone(), most.min(size - session.offset)).await?;
        }
        content.end().await?;
        self.finish(session).await
    }

    /// distribution-spec, "POST then PUT": one request with all of the content.
    async fn put_whole(&self, session: &mut Session, content: Arc<Supply>) -> Result<()> {
        let call = self.put_call(session)?;
        let failed = match self.stream(&call, content, self.expected.size).await {
            Ok(response) => return said_digest(response.headers(), self.expected),
            Err(failed) => failed,
        };
        let host = origin::authority(&session.url);
        let unsupported = failed.error.kind() == Kind::RegistryUnsupported;
        match failed.status.map(|status| status.as_u16()) {
            Some(413) if self.client.parts().refuse(&host, self.expected.size, session.least) => {}
            // It gave out a session, so it takes uploads, but not this way.
            Some(405 | 501) => self.client.parts().refuse_whole(&host),
            Some(400) if unsupported => self.client.parts().refuse_whole(&host),
            // Nothing was taken. Whoever asks for fewer requests is not asked about that.
            Some(429) => {
                session.spent = true;
                return Err(failed.error);
            }
            _ => return Err(self.doubt(session, failed.error)),
        }
        session.spent = true;
        Err(failed.error.retry(Retry::Soon))
    }

    /// distribution-spec, "Pushing a blob in chunks": the next `length` bytes.
    async fn patch(&self, session: &mut Session, content: Arc<Supply>, length: u64) -> Result<()> {
        let last = session.offset + length.saturating_sub(1);
        let mut call = self.call(Method::PATCH, session.url.clone(), &[202])?;
        octets(&mut call);
        if let Ok(range) = HeaderValue::from_str(&format!("{}-{last}", session.offset)) {
            call.headers.insert(CONTENT_RANGE, range);
        }
        let host = origin::authority(&session.url);
        match self.stream(&call, content, length).await {
            Ok(response) => {
                session.moved(&response)?;
                check_taken(response.headers(), last)?;
                session.offset = last + 1;
                self.client.parts().fit(&host, length);
                Ok(())
            }
            Err(failed)
                if failed.status == Some(StatusCode::PAYLOAD_TOO_LARGE)
                    && self.client.parts().refuse(&host, length, session.least) =>
            {
                Err(failed.error.retry(Retry::Soon))
            }
            // Not where we thought that it was.
            Err(failed) if failed.status == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
                session.spent = true;
                Err(failed.error.retry(Retry::Soon))
            }
            Err(failed) if failed.status.is_some() => Err(self.doubt(session, failed.error)),
            Err(failed) => Err(failed.error),
        }
    }

    /// All was sent: it becomes a blob.
    async fn finish(&self, session: &mut Session) -> Result<()> {
        let call = self.put_call(session)?;
        match self.client.send_once(self.endpoint, &call).await {
            Ok(response) => said_digest(response.headers(), self.expected),
            Err(error) => Err(self.doubt(session, error)),
        }
    }

    /// What is refused after a try that broke off may be accepted without one: two requests may have
    /// written into one session, or the registry counts otherwise than it writes (DIGEST_INVALID).
    fn doubt(&self, session: &mut Session, error: Error) -> Error {
        if !session.resumed && error.kind() == Kind::NotFound {
            // It was given out a moment ago and is gone: the registry was started again, or there are
            // several of it. Another one may live longer.
            session.spent = true;
            return error.retry(Retry::Soon);
        }
        let refused =
            matches!(error.kind(), Kind::RegistryRejected | Kind::RegistryUnsupported | Kind::NotFound);
        if !session.resumed || !refused || error.retryable() != Retry::Never {
            return error;
        }
        self.broken.distrust();
        session.spent = true;
        error.retry(Retry::Soon)
    }

    /// Sends a request whose body is the next `length` bytes. There is no second try: they are gone.
    async fn stream(
        &self,
        call: &Call,
        content: Arc<Supply>,
        length: u64,
    ) -> std::result::Result<Response, Failed> {
        let (client, transport) = (self.client, self.client.transport());
        let at_home = origin::same(&call.url, &self.endpoint.url("/")?);
        let login = client.auth().ready(transport, self.endpoint, &call.scope).await?;
        let login = login.filter(|_| at_home);
        let request = call.request(&call.url, login.as_ref());
        let upload = Upload::new(length);
        let response = if length == 0 {
            // There is no piece whose absence would stop a wrong digest: verify first.
            content.end().await?;
            transport::send(transport, request).await?
        } else {
            upload.send(transport, request, content).await?
        };
        let status = response.status();
        let answer = client.accept(call, response, login.as_ref()).await;
        match (answer, login) {
            // The token grew old on the way: it can be replaced, but the body is gone.
            (Err(error), Some(login))
                if status == StatusCode::UNAUTHORIZED
                    && client.auth().forget(self.endpoint, &call.scope, &login).await =>
            {
                Err(error.retry(Retry::Soon).into())
            }
            (Ok(_), _) if !upload.complete() => {
                let lie = "the registry says it has what it was not given yet";
                Err(Error::new(Kind::RegistryCorrupt, lie).into())
            }
            (Ok(response), _) => Ok(response),
            (Err(error), _) => Err(Failed { status: Some(status), error }),
        }
    }

    fn scope(&self) -> Scope {
        Scope::push(&self.endpoint.repository)
    }

    fn place(&self) -> String {
        format!("{}@{}", self.endpoint, self.expected.digest)
    }

    fn call(&self, method: Method, url: Url, expected: &'static [u16]) -> Result<Call> {
        let mut call = Call::new(self.endpoint, method, "/", "cannot upload")?;
        (call.url, call.expected) = (url, expected);
        (call.scope, call.place) = (self.scope(), self.place());
        Ok(call)
    }

    /// Ends the session: with all of the content, or with none where it has everything.
    fn put_call(&self, session: &Session) -> Result<Call> {
        let mut call = self.call(Method::PUT, session.url.clone(), &[201])?;
        call.url.query_pairs_mut().append_pair("digest", &self.expected.digest.to_string());
        octets(&mut call);
        Ok(call)
    }

    async fn cancel(&self, session: Session) {
        cancel(self.client, self.endpoint, self.scope(), session.url).await;
    }
}

impl Session {
    /// Goes on where the answer says (distribution-spec: each answer's `Location` is for the next request).
    fn moved(&mut self, response: &Response) -> Result<()> {
        if response.headers().contains_key(LOCATION) {
            self.url = location(response)?;
        }
        Ok(())
    }
}

/// What is known of how much each host takes in one request.
#[derive(Default)]
pub struct Parts(Mutex<HashMap<String, Limit>>);

/// A host that refused a whole blob.
#[derive(Clone, Copy)]
struct Limit {
    /// Whether it takes small ones.
    whole: bool,
    /// The longest part that was taken.
    fits: u64,
    /// The shortest that was refused.
    refused: u64,
}

impl Limit {
    const UNKNOWN: Limit = Limit { whole: true, fits: 0, refused: u64::MAX };

    /// Parts grow from what is taken to what is refused. The other way round, each refusal would cost a
    /// try: what was sent of a refused part cannot be sent once more.
    fn next(&self, least: u64) -> u64 {
        let longer = if self.fits == 0 { PART_FIRST } else { self.fits.saturating_mul(2) }.min(PART_MOST);
        let next = if longer < self.refused { longer } else { self.fits };
        next.max(PART_LEAST).max(least)
    }
}

impl Parts {
    fn takes_whole(&self, host: &str, size: u64) -> bool {
        let limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get(host).is_none_or(|limit| limit.whole && size <= limit.fits)
    }

    /// The length of the next part. Everything, as long as nothing was refused.
    fn next(&self, host: &str, least: u64) -> u64 {
        let limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get(host).map_or(u64::MAX, |limit| limit.next(least))
    }

    fn fit(&self, host: &str, length: u64) {
        if let Some(limit) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(host) {
            limit.fits = limit.fits.max(length);
        }
    }

    /// So much was refused. Whether to try with less.
    fn refuse(&self, host: &str, length: u64, least: u64) -> bool {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limits.entry(host.to_owned()).or_insert(Limit::UNKNOWN);
        limit.refused = limit.refused.min(length);
        // What was taken once may be refused later: there may be several ways to one host.
        limit.fits = limit.fits.min(length / 2);
        limit.next(least) < length
    }

    /// Whole blobs are not taken, however small.
    fn refuse_whole(&self, host: &str) {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limits.entry(host.to_owned()).or_insert(Limit::UNKNOWN).whole = false;
    }
}

/// distribution-spec, "POST then PUT": a POST without content asks for a session.
pub(super) fn begin_call(endpoint: &Endpoint, scope: Scope, place: String) -> Result<Call> {
    let path = wire::uploads_path(&endpoint.repository);
    let mut call = Call::new(endpoint, Method::POST, &path, "cannot begin an upload")?;
    (call.expected, call.scope, call.place) = (&[202], scope, place);
    Ok(call)
}

/// The upload session's URL (distribution-spec: `Location` may be relative, and may carry a query
/// that has to be kept).
pub(super) fn location(response: &Response) -> Result<Url> {
    let location = response.headers().get(LOCATION).ok_or_else(|| {
        Error::new(Kind::RegistryUnsupported, "the registry began an upload without saying where")
            .expected("a Location header")
    })?;
    resolve(response, location)
}

/// Gives an upload session back, if that is possible without much ado.
pub(super) async fn cancel(client: &Client, endpoint: &Endpoint, scope: Scope, session: Url) {
    let Ok(mut call) = Call::new(endpoint, Method::DELETE, "/", "cannot end an upload") else {
        return;
    };
    (call.url, call.scope) = (session, scope);
    if endpoint.url("/").is_ok_and(|registry| origin::same(&call.url, &registry)) {
        let limit = client.limits().idle.min(Duration::from_secs(5));
        let _ = tokio::time::timeout(limit, client.send_once(endpoint, &call)).await;
    }
}

pub(super) fn said_digest(headers: &HeaderMap, expected: &Descriptor) -> Result<()> {
    let what = "the registry says it holds something else under this digest";
    refusal::check_digest(headers, expected.digest, Kind::RegistryCorrupt, what)
}

fn octets(call: &mut Call) {
    call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `Range: 0-LAST`, as an upload session says what it has. Some put `bytes=` before it.
fn last_byte(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    text.strip_prefix("0-")?.parse().ok()
}

/// The registry has all up to `last`, if it says what it has. Another answer is worth a look at the session.
fn check_taken(headers: &HeaderMap, last: u64) -> Result<()> {
    let Some(said) = headers.get(RANGE) else { return Ok(()) };
    if last_byte(headers) == Some(last) {
        return Ok(());
    }
    Err(Error::new(Kind::RegistryCorrupt, "the registry took another part of the content than it was sent")
        .got(String::from_utf8_lossy(said.as_bytes()))
        .expected(format_args!("0-{last}"))
        .retry(Retry::Soon))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The lengths of all parts, the refused ones too, that are sent to a host which takes up to `most`.
    fn sent(whole: u64, most: u64, least: u64) -> Vec<u64> {
        let parts = Parts::default();
        let mut all = Vec::new();
        if !parts.refuse("host", whole, least) {
            return all;
        }
        while all.len() < 10 {
            let length = parts.next("host", least);
            all.push(length / MIB);
            if length <= most {
                parts.fit("host", length);
            } else if !parts.refuse("host", length, least) {
                break;
            }
        }
        all
    }

    #[test]
    fn parts_grow_up_to_what_is_taken() {
        assert_eq!(sent(10 << 30, 1 << 30, 0), [8, 16, 32, 64, 64, 64, 64, 64, 64, 64]);
        assert_eq!(sent(10 << 30, 20 * MIB, 0), [8, 16, 32, 16, 16, 16, 16, 16, 16, 16]);
        assert_eq!(sent(10 << 30, MIB, 0), [8, 1, 2, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(sent(6 * MIB, 5 * MIB, 0), [1, 2, 4, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!(sent(10 << 30, 20 * MIB, 9 * MIB), [9, 18, 36, 18, 18, 18, 18, 18, 18, 18]);
        assert_eq!(sent(10 << 30, 100 * MIB, 100 * MIB), [100; 10]);
    }

    #[test]
    fn parts_end_where_less_is_not_worth_it() {
        assert!(sent(MIB, 1, 0).is_empty());
        assert_eq!(sent(10 << 30, 1, 0), [8, 1]);
        assert_eq!(sent(10 << 30, MIB, 5 * MIB), [8, 5]);
    }

    #[test]
    fn a_part_that_was_taken_once_and_is_refused_later_is_halved() {
        let parts = Parts::default();
        assert!(parts.refuse("host", 1 << 30, 0));
        parts.fit("host", 64 * MIB);
        assert!(parts.refuse("host", 64 * MIB, 0));
        assert_eq!(parts.next("host", 0), 32 * MIB);
        assert_eq!(parts.next("another", 0), u64::MAX);
    }

    #[test]
    fn small_blobs_still_go_whole_unless_nothing_does() {
        let parts = Parts::default();
        assert!(parts.takes_whole("host", u64::MAX));
        assert!(parts.refuse("host", 1 << 30, 0));
        parts.fit("host", 8 * MIB);
        assert!(parts.takes_whole("host", 8 * MIB) && !parts.takes_whole("host", 8 * MIB + 1));
        parts.refuse_whole("host");
        assert!(!parts.takes_whole("host", 1) && parts.takes_whole("another", 1));
    }

    #[test]
    fn ranges() {
        let last =
            |text: &'static str| last_byte(&HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]));
        assert_eq!(last("0-9"), Some(9));
        assert_eq!(last("bytes=0-9"), Some(9));
        assert_eq!(last("0-0"), Some(0));
        for odd in ["", "-", "0-", "-9", "1-9", "0--9", "0-x", "0-99999999999999999999", "0-9/10", "9"] {
            assert_eq!(last(odd), None, "{odd}");
        }
        assert_eq!(last_byte(&HeaderMap::new()), None);
    }
}
