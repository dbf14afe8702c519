//! One repository of a registry, as a place that content comes from and goes to.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};

use super::auth::Scope;
use super::client::{Call, Client, Endpoint};
use super::download::{Download, check_encoding};
use super::session::{self, Broken, Push, said_digest};
use super::transport;
use super::{refusal, wire};
use crate::content::{Kept, Reader, Referring, Sink, Source, Unverified};
use crate::error::{Error, Kind, Result, Retry};
use crate::limits;
use crate::oci::{self, Attached, Descriptor, Digest, MediaType, Name, Tag, media, own_media_type};

/// distribution-spec, "Mounting a blob from another repository": 201 is done, 202 offers an upload
/// session instead. A mount is a shortcut: where it is refused for good, the long way is tried, and tells
/// for itself if it is closed, too. A registry that cannot answer now (429, 5xx) is another matter.
const MOUNT_ANSWERS: &[u16] = &[201, 202, 400, 401, 403, 404, 405, 409, 413, 415, 422, 501];

/// distribution-spec, "Pushing Manifests": 201 is done; 404 says that something it names is missing, which some
/// registries say with 400 or 422. A registry that cannot answer now (429, 5xx), or takes no such documents at all
/// (405, 415), has said nothing about missing entries.
const PROBE_ANSWERS: &[u16] = &[201, 400, 404, 422];

/// A repository, bound to its registry. Names that it is given tell it only the tag.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    endpoint: Endpoint,
    broken: Arc<Broken>,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.endpoint, f)
    }
}

#[async_trait]
impl Source for Repository {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        match digest {
            Some(digest) => self.resolve_digest(digest).await,
            None => self.resolve_tag(&name.tag).await,
        }
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        self.has(expected, self.pulling()).await
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.attachments(subject).await
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        check_document_size(expected).map_err(|e| e.at(self.place(expected)))?;
        let call = self.content_call(Method::GET, expected, "cannot fetch", self.pulling())?;
        let download = Download::new(self.client.clone(), self.endpoint.clone(), call, expected.size);
        download.open(from).await
    }
}

#[async_trait]
impl Sink for Repository {
    /// An upload is begun and given back: nothing else tells whether one may be.
    async fn ready(&self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let mut call = session::begin_call(&self.endpoint, self.pushing(), self.to_string())?;
        call.what = "the registry takes no uploads";
        let hint =
            "check the host and the repository; some registries want it, or its project, to be made first";
        let response = match self.client.send(&self.endpoint, &call).await {
            Err(error) if error.kind() == Kind::NotFound => return Err(error.hint_instead(hint)),
            response => response?,
        };
        let session = session::location(&response).map_err(|e| e.at(self))?;
        session::cancel(&self.client, &self.endpoint, self.pushing(), session).await;
        Ok(())
    }

    async fn exists(&self, expected: &Descriptor) -> Result<bool> {
        self.has(expected, self.pushing()).await
    }

    async fn mount(&self, expected: &Descriptor, repository: &str) -> Result<bool> {
        let source = self.endpoint.sibling(&repository.parse::<oci::Repository>()?);
        let scope = self.pushing().and_pull(&source);
        let mut call = session::begin_call(&self.endpoint, scope, self.place(expected))?;
        call.expected = MOUNT_ANSWERS;
        let pairs = [("mount", expected.digest.to_string()), ("from", source)];
        call.url.query_pairs_mut().extend_pairs(pairs);
        let response = match self.client.send(&self.endpoint, &call).await {
            Ok(response) => response,
            // The token server does not let us read there, or not both at once.
            Err(error) if error.kind() == Kind::Auth => return Ok(false),
            Err(error) => return Err(error),
        };
        if response.status() == 201 {
            return said_digest(response.headers(), expected).map(|()| true).map_err(|e| e.at(&call.place));
        }
        if response.status() == 202
            && let Ok(session) = session::location(&response)
        {
            session::cancel(&self.client, &self.endpoint, self.pushing(), session).await;
        }
        Ok(false)
    }

    async fn push(&self, expected: &Descriptor, content: Reader) -> Result<()> {
        if expected.role.is_document() {
            self.push_document(expected, content).await
        } else {
            self.push_blob(expected, content).await
        }
    }

    async fn tagged(&self, name: &Name) -> Result<Option<Digest>> {
        let mut call = self.any_tag_call(Method::HEAD, &name.tag)?;
        let response = self.client.send(&self.endpoint, &call).await?;
        if response.status() == 404 {
            return Ok(None);
        }
        let said = response.headers().get(wire::header::DIGEST).and_then(|value| value.to_str().ok());
        if let Some(digest) = said.and_then(|said| said.parse().ok()) {
            return Ok(Some(digest));
        }
        call.method = Method::GET;
        self.client.patiently(|| self.hash_tagged(&call)).await
    }

    async fn tag(&self, name: &Name, document: &Descriptor, bytes: Bytes) -> Result<()> {
        let place = format!("{self}:{}", name.tag);
        self.put_document(document, name.tag.as_str(), bytes, place, "cannot set the tag").await
    }

    async fn takes_sparse(&self, probe: &Kept) -> Result<bool> {
        let path = wire::manifest_path(self.path(), probe.digest);
        let mut call = Call::new(&self.endpoint, Method::PUT, &path, "cannot ask for incomplete indexes")?;
        call.headers.insert(CONTENT_TYPE, header(probe.media_type.as_str())?);
        (call.body, call.scope, call.place) = (probe.bytes.clone(), self.pushing(), self.to_string());
        call.expected = PROBE_ANSWERS;
        let taken = self.client.send(&self.endpoint, &call).await?.status() == 201;
        if taken {
            self.forget(&probe.digest).await;
        }
        Ok(taken)
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referring> {
        self.referring(subject).await
    }

    async fn refer(&self, subject: &Digest, referrers: &[Kept]) -> Result<()> {
        self.make_known(subject, referrers).await
    }
}

impl Repository {
    pub(super) fn new(client: Client, endpoint: Endpoint) -> Self {
        Repository { client, endpoint, broken: Arc::default() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn has(&self, expected: &Descriptor, scope: Scope) -> Result<bool> {
        let mut call = self.content_call(Method::HEAD, expected, "cannot look for", scope)?;
        call.expected = &[200, 404];
        let response = self.client.send(&self.endpoint, &call).await?;
        if response.status() == 404 {
            return Ok(false);
        }
        let headers = response.headers();
        check_length(headers, expected, Kind::RegistryCorrupt)
            .and_then(|()| said_digest(headers, expected))
            .map_err(|e| e.at(&call.place))?;
        Ok(true)
    }

    pub(super) async fn resolve_tag(&self, tag: &Tag) -> Result<(Descriptor, Bytes)> {
        self.resolve_by(self.tag_call(Method::GET, tag, "cannot read the tag", self.pulling())?).await
    }

    async fn resolve_digest(&self, digest: &Digest) -> Result<(Descriptor, Bytes)> {
        let path = wire::manifest_path(self.path(), digest);
        let mut call = Call::new(&self.endpoint, Method::GET, &path, "cannot read the document")?;
        call.headers.insert(ACCEPT, HeaderValue::from_static(media::ACCEPT));
        (call.scope, call.place) = (self.pulling(), format!("{self}@{digest}"));
        self.resolve_by(call).await
    }

    async fn resolve_by(&self, call: Call) -> Result<(Descriptor, Bytes)> {
        self.client
            .patiently(|| async {
                let mut response = self.client.send_once(&self.endpoint, &call).await?;
                self.read_document(&mut response).await.map_err(|e| e.at(&call.place))
            })
            .await
    }

    pub(super) fn path(&self) -> &str {
        &self.endpoint.repository
    }

    pub(super) fn pulling(&self) -> Scope {
        Scope::pull(self.path())
    }

    pub(super) fn pushing(&self) -> Scope {
        Scope::push(self.path())
    }

    fn place(&self, expected: &Descriptor) -> String {
        format!("{self}@{}", expected.digest)
    }

    fn tag_call(&self, method: Method, tag: &Tag, what: &'static str, scope: Scope) -> Result<Call> {
        let mut call = Call::new(&self.endpoint, method, &wire::manifest_path(self.path(), tag), what)?;
        call.headers.insert(ACCEPT, HeaderValue::from_static(media::ACCEPT));
        call.scope = scope;
        call.place = format!("{self}:{tag}");
        Ok(call)
    }

    /// Asks for whatever the tag leads to: a type that we do not carry is not an absent tag.
    fn any_tag_call(&self, method: Method, tag: &Tag) -> Result<Call> {
        let mut call = self.tag_call(method, tag, "cannot look for the tag", self.pushing())?;
        let anything = format!("{}, */*", media::ACCEPT);
        call.headers.insert(ACCEPT, header(&anything)?);
        call.expected = &[200, 404];
        Ok(call)
    }

    fn content_call(
        &self,
        method: Method,
        expected: &Descriptor,
        what: &'static str,
        scope: Scope,
    ) -> Result<Call> {
        let document = expected.role.is_document();
        let path = if document {
            wire::manifest_path(self.path(), expected.digest)
        } else {
            wire::blob_path(self.path(), expected.digest)
        };
        let mut call = Call::new(&self.endpoint, method, &path, what)?;
        if document {
            let accept = format!("{}, {}", expected.media_type, media::ACCEPT);
            call.headers.insert(ACCEPT, header(&accept)?);
        }
        call.scope = scope;
        call.place = self.place(expected);
        Ok(call)
    }

    async fn read_document(&self, response: &mut Response) -> Result<(Descriptor, Bytes)> {
        check_encoding(response.headers())?;
        let bytes = transport::read(response, limits::DOCUMENT, self.client.limits()).await?;
        let digest = Digest::of(&bytes);
        let lie = "the registry's digest header contradicts the content it sent";
        refusal::check_digest(response.headers(), digest, Kind::DigestMismatch, lie)?;
        let (role, media_type) = document_type(content_type(response.headers()).as_deref(), &bytes)?;
        Ok((Descriptor { role, media_type, digest, size: bytes.len() as u64 }, bytes))
    }

    async fn hash_tagged(&self, call: &Call) -> Result<Option<Digest>> {
        let mut response = self.client.send_once(&self.endpoint, call).await?;
        if response.status() == 404 {
            return Ok(None);
        }
        let read = check_encoding(response.headers());
        read.map_err(|e| e.at(&call.place))?;
        let bytes = transport::read(&mut response, limits::DOCUMENT, self.client.limits()).await;
        bytes.map(|bytes| Some(Digest::of(&bytes))).map_err(|e| e.at(&call.place))
    }

    async fn push_document(&self, expected: &Descriptor, content: Reader) -> Result<()> {
        let place = self.place(expected);
        check_document_size(expected).map_err(|e| e.at(&place))?;
        let bytes = content.into_bytes().await?;
        self.put_document(expected, &expected.digest.to_string(), bytes, place, "cannot push the manifest")
            .await
    }

    pub(super) async fn put_document(
        &self,
        document: &Descriptor,
        reference: &str,
        bytes: Bytes,
        place: String,
        what: &'static str,
    ) -> Result<()> {
        let path = wire::manifest_path(self.path(), reference);
        let mut call = Call::new(&self.endpoint, Method::PUT, &path, what)?;
        call.headers.insert(CONTENT_TYPE, header(document.media_type.as_str())?);
        (call.body, call.scope, call.expected, call.place) = (bytes, self.pushing(), &[201], place);
        let sent = self.client.patiently(|| async {
            let sent = self.client.send_once(&self.endpoint, &call).await;
            sent.map_err(|error| if doubts_digest(&error) { error.retry(Retry::Soon) } else { error })
        });
        said_digest(sent.await?.headers(), document).map_err(|e| e.at(&call.place))
    }

    /// Takes a document out that no name leads to. Many registries let nobody do that: then it stays until they
    /// clean up.
    async fn forget(&self, digest: &Digest) {
        let path = wire::manifest_path(self.path(), digest);
        if let Ok(mut call) = Call::new(&self.endpoint, Method::DELETE, &path, "cannot remove") {
            (call.scope, call.expected, call.place) =
                (self.pushing(), &[200, 202], format!("{self}@{digest}"));
            let _ = self.client.send_once(&self.endpoint, &call).await;
        }
    }

    async fn push_blob(&self, expected: &Descriptor, content: Reader) -> Result<()> {
        let push = self.blob_push(expected);
        let session = match self.broken.take(&expected.digest) {
            None => push.begin().await?,
            Some(broken) => match push.look(broken).await {
                Some(session) => session,
                // It may be gone because it was finished, and what was lost is the answer alone.
                None if matches!(self.exists(expected).await, Ok(true)) => return Ok(()),
                None => push.begin().await?,
            },
        };
        push.send(session, content).await
    }

    fn blob_push<'a>(&'a self, expected: &'a Descriptor) -> Push<'a> {
        Push { client: &self.client, endpoint: &self.endpoint, broken: &self.broken, expected }
    }
}

pub(super) fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| {
        Error::new(Kind::DocumentInvalid, "a media type that is none").got(format_args!("{text:?}"))
    })
}

/// A registry that calls a document's digest wrong, which was verified here, has looked at what somebody
/// else was just writing (CNCF Distribution does, where two imports meet), or the line has flipped a bit.
fn doubts_digest(error: &Error) -> bool {
    error.kind() == Kind::RegistryRejected && error.to_string().contains("DIGEST_INVALID")
}

fn check_document_size(expected: &Descriptor) -> Result<()> {
    if expected.role.is_document() && expected.size > limits::DOCUMENT {
        return Err(Error::new(Kind::LimitExceeded, "the document is too large")
            .got(format_args!("{} bytes", expected.size))
            .expected(format_args!("at most {}", limits::DOCUMENT)));
    }
    Ok(())
}

/// The header itself: an answer to HEAD has no body that could have a length.
fn check_length(headers: &HeaderMap, expected: &Descriptor, kind: Kind) -> Result<()> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length != expected.size => {
            Err(Error::new(kind, "the registry's copy is not as long as its descriptor says")
                .got(format_args!("{length} bytes"))
                .expected(format_args!("{} bytes", expected.size)))
        }
        _ => Ok(()),
    }
}

/// `Content-Type` without its parameters.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// What a document is, by the registry's word, or by its own where the registry has none.
fn document_type(said: Option<&str>, bytes: &[u8]) -> Result<(oci::Role, MediaType)> {
    let generic = ["", "text/plain", "application/json", "application/octet-stream", "binary/octet-stream"];
    let said = said.filter(|said| !generic.contains(said)).map(MediaType::new);
    let own = own_media_type(bytes).map(|own| MediaType::new(&own));
    if let (Some(said), Some(own)) = (&said, &own)
        && said.document_role().is_some()
        && said != own
    {
        return Err(Error::new(
            Kind::MediaTypeMismatch,
            "the document's own mediaType contradicts the registry's",
        )
        .got(own)
        .expected(said));
    }
    let media_type = said.or(own);
    match media_type.as_ref().and_then(MediaType::document_role) {
        Some(role) => Ok((role, media_type.unwrap_or_else(|| MediaType::new("")))),
        None => Err(no_document(media_type.as_ref(), bytes)),
    }
}

fn no_document(media_type: Option<&MediaType>, bytes: &[u8]) -> Error {
    let named = media_type.map_or("no media type", MediaType::as_str);
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes);
    let Ok(object) = object else {
        return Error::new(Kind::UnexpectedContent, "the server sent something that is no manifest")
            .got(named)
            .hint("a proxy or a login page may answer in the registry's place");
    };
    let first = object.get("schemaVersion").is_some_and(|version| version == 1);
    if first || media_type.is_some_and(MediaType::is_schema_1) {
        return oci::schema_1();
    }
    Error::new(Kind::DocumentUnsupported, "neither an image index nor an image manifest").got(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Role;

    fn judged(said: Option<&str>, body: &str) -> Result<(Role, String), Kind> {
        match document_type(said, body.as_bytes()) {
            Ok((role, media_type)) => Ok((role, media_type.to_string())),
            Err(error) => Err(error.kind()),
        }
    }

    #[test]
    fn the_registrys_word_then_the_documents_own() {
        let own = format!(r#"{{"schemaVersion":2,"mediaType":"{}"}}"#, media::MANIFEST);
        let index = Ok((Role::Index, media::INDEX.to_owned()));
        let manifest = Ok((Role::Manifest, media::MANIFEST.to_owned()));
        assert_eq!(judged(Some(media::INDEX), "{}"), index);
        assert_eq!(judged(Some(media::MANIFEST), &own), manifest);
        for generic in [None, Some("text/plain"), Some("application/json"), Some("")] {
            assert_eq!(judged(generic, &own), manifest, "{generic:?}");
        }
        assert_eq!(judged(Some(media::INDEX), &own), Err(Kind::MediaTypeMismatch));
        assert_eq!(judged(Some("text/html"), "<html>"), Err(Kind::UnexpectedContent));
        assert_eq!(judged(None, "<html>"), Err(Kind::UnexpectedContent));
        assert_eq!(judged(None, "{}"), Err(Kind::DocumentUnsupported));
        assert_eq!(judged(None, r#"{"schemaVersion":1}"#), Err(Kind::DocumentUnsupported));
        let first = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert_eq!(judged(Some(first), "{}"), Err(Kind::DocumentUnsupported));
    }
}
