//! Taking: upload sessions, mounts, documents, and their removal.

use std::sync::Arc;

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RANGE};
use http::{Method, StatusCode};

use super::answer::{Answer, Code};
use super::pull::DIGEST;
use super::route::{Query, Reference, Route, digest_of};
use super::{Request, Server, accepted};
use crate::content::{Kept, Removal, Stock, Unverified};
use crate::error::{Error, Kind};
use crate::limits;
use crate::oci::{Digest, MediaType, Repository};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Server {
    pub(super) async fn change(
        &self,
        request: Request,
        route: Route,
        query: &Query,
    ) -> Result<Answer, Answer> {
        let stock = self
            .stock
            .clone()
            .ok_or_else(|| Answer::error(Code::Unsupported, "this registry is read-only"))?;
        match (request.method.clone(), route) {
            (Method::POST, Route::Uploads(name)) => self.begin(&stock, &name, request, query).await,
            (Method::GET | Method::HEAD, Route::Upload(name, upload)) => {
                self.status(&stock, &name, &upload).await
            }
            (Method::PATCH, Route::Upload(name, upload)) => {
                self.append(&stock, &name, &upload, request).await
            }
            (Method::PUT, Route::Upload(name, upload)) => {
                self.finish(&stock, &name, &upload, request, query).await
            }
            (Method::DELETE, Route::Upload(name, upload)) => self.cancel(&stock, &name, &upload).await,
            (Method::PUT, Route::Manifest(name, reference)) => {
                self.put(&stock, &name, &reference, request, query).await
            }
            (Method::DELETE, Route::Manifest(name, Reference::Tag(tag))) => {
                self.remove(&stock, &name, Removal::Tag(tag)).await
            }
            (Method::DELETE, Route::Manifest(name, Reference::Digest(digest))) => {
                self.remove(&stock, &name, Removal::Document(digest)).await
            }
            (Method::DELETE, Route::Blob(name, digest)) => {
                self.remove(&stock, &name, Removal::Blob(digest)).await
            }
            _ => Err(Answer::error(Code::MethodNotAllowed, "this cannot be done to it")),
        }
    }

    /// distribution-spec, "Pushing blobs": a mount, a blob in a single POST, or a session.
    async fn begin(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        request: Request,
        query: &Query,
    ) -> Result<Answer, Answer> {
        if let Some(mount) = query.get("mount") {
            let digest = digest_of(mount)?;
            // Without a source, or with one that cannot be: from anywhere, as "anonymous mounts" are.
            let from = query.get("from").and_then(|from| from.parse().ok());
            if stock.mount(name, &digest, from.as_ref()).await.map_err(|e| self.failed(e))? {
                return Ok(created(name, &digest));
            }
        }
        let upload = stock.begin(name).await.map_err(|e| self.failed(e))?;
        match query.get("digest") {
            Some(digest) if query.get("mount").is_none() => {
                let digest = digest_of(digest)?;
                self.complete(stock, name, &upload, request.body, &digest).await
            }
            _ => Ok(session(accepted(), name, &upload, 0)),
        }
    }

    async fn status(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        upload: &str,
    ) -> Result<Answer, Answer> {
        let received = self.known(stock, name, upload).await?;
        Ok(session(Answer::empty(StatusCode::NO_CONTENT), name, upload, received))
    }

    async fn append(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        upload: &str,
        request: Request,
    ) -> Result<Answer, Answer> {
        let Request { headers, body, .. } = request;
        self.check_order(stock, name, upload, &headers).await?;
        let received = stock.append(name, upload, body).await.map_err(|e| self.failed(e))?;
        Ok(session(accepted(), name, upload, received))
    }

    async fn finish(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        upload: &str,
        request: Request,
        query: &Query,
    ) -> Result<Answer, Answer> {
        let digest = query.get("digest").ok_or_else(|| Answer::error(Code::DigestInvalid, "no digest"))?;
        let digest = digest_of(digest)?;
        let Request { headers, body, .. } = request;
        self.check_order(stock, name, upload, &headers).await?;
        self.complete(stock, name, upload, body, &digest).await
    }

    async fn complete(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        upload: &str,
        body: Unverified,
        digest: &Digest,
    ) -> Result<Answer, Answer> {
        stock.append(name, upload, body).await.map_err(|e| self.failed(e))?;
        match stock.finish(name, upload, digest).await {
            Ok(()) => Ok(created(name, digest)),
            Err(e) if e.kind() == Kind::DigestMismatch => Err(Answer::failure(&e)),
            Err(e) => Err(self.failed(e)),
        }
    }

    async fn cancel(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        upload: &str,
    ) -> Result<Answer, Answer> {
        match stock.cancel(name, upload).await.map_err(|e| self.failed(e))? {
            true => Ok(Answer::empty(StatusCode::NO_CONTENT)),
            false => Err(Answer::error(Code::BlobUploadUnknown, "no such upload")),
        }
    }

    async fn known(&self, stock: &Arc<dyn Stock>, name: &Repository, upload: &str) -> Result<u64, Answer> {
        let received = stock.received(name, upload).await.map_err(|e| self.failed(e))?;
        received.ok_or_else(|| Answer::error(Code::BlobUploadUnknown, "no such upload"))
    }

    /// distribution-spec, "Pushing a blob in chunks": a chunk that does not begin where the last one
    /// ended is refused with 416; one without a range is whatever comes next.
    async fn check_order(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        upload: &str,
        headers: &HeaderMap,
    ) -> Result<(), Answer> {
        let received = self.known(stock, name, upload).await?;
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let Some(range) = text(CONTENT_RANGE) else { return Ok(()) };
        let range = range.trim().trim_start_matches("bytes").trim();
        let range = range.split('/').next().unwrap_or_default();
        let bounds = range
            .split_once('-')
            .and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
        let length = text(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        let fits = bounds.is_some_and(|(first, last)| {
            first == received
                && last
                    .checked_sub(first)
                    .is_some_and(|rest| length.is_none_or(|length| Some(length) == rest.checked_add(1)))
        });
        match fits {
            true => Ok(()),
            false => Err(session(
                Answer::error(Code::RangeInvalid, "the chunk does not begin where the upload has come to"),
                name,
                upload,
                received,
            )),
        }
    }

    /// distribution-spec, "Pushing Manifests".
    async fn put(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        reference: &Reference,
        request: Request,
        query: &Query,
    ) -> Result<Answer, Answer> {
        let stated = request.header(CONTENT_TYPE).map(str::to_owned);
        let bytes = self.collect(request).await?;
        let digest = Digest::of(&bytes);
        if let Reference::Digest(named) = reference
            && *named != digest
        {
            return Err(Answer::error(Code::DigestInvalid, "the manifest does not have this digest"));
        }
        let invalid = |what: String| Answer::error(Code::ManifestInvalid, &what);
        let media_type = media_type(&bytes, stated.as_deref())
            .ok_or_else(|| invalid("no media type of a manifest".into()))?;
        if media_type.document_role().is_none() {
            return Err(invalid(format!("not a manifest: {media_type}")));
        }
        let kept = Kept { media_type, digest, bytes };
        let tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        stock.put(name, &kept, tag).await.map_err(|e| self.refused(e))?;
        // Tags that stand beside a digest (distribution-spec, "Pushing Manifests", `tag` parameter).
        for further in query.all("tag").filter_map(|tag| tag.parse().ok()) {
            stock.put(name, &kept, Some(&further)).await.map_err(|e| self.refused(e))?;
        }
        let place = match reference {
            Reference::Tag(tag) => tag.to_string(),
            Reference::Digest(digest) => digest.to_string(),
        };
        let answer = Answer::empty(StatusCode::CREATED)
            .with(LOCATION, format!("/v2/{name}/manifests/{place}"))
            .with(DIGEST, digest.to_string());
        Ok(match subject(&kept.bytes) {
            // distribution-spec, "Pushing Manifests with Subject".
            Some(subject) => answer.with(SUBJECT, subject.to_string()),
            None => answer,
        })
    }

    /// A whole manifest. Of one that is too large a while is still read: a client that is cut off in the middle of
    /// sending does not hear why.
    async fn collect(&self, request: Request) -> Result<bytes::Bytes, Answer> {
        let mut pieces = request.body.untrusted_pieces();
        let (mut bytes, mut seen) = (BytesMut::new(), 0u64);
        while let Some(piece) = futures_util::StreamExt::next(&mut pieces).await {
            let piece = piece
                .map_err(|_| Answer::error(Code::ManifestInvalid, "the manifest did not arrive whole"))?;
            seen = seen.saturating_add(piece.len() as u64);
            match seen {
                small if small <= limits::DOCUMENT => bytes.extend_from_slice(&piece),
                large if large <= limits::HEARD_OUT => bytes.clear(),
                _ => break,
            }
        }
        match seen > limits::DOCUMENT {
            true => Err(Answer::error(Code::TooLarge, "a manifest has at most 4 MiB")),
            false => Ok(bytes.freeze()),
        }
    }

    /// What is wrong with a document is for its sender to know; what is wrong here is not.
    fn refused(&self, error: Error) -> Answer {
        match error.kind() {
            Kind::BlobMissing => Answer::error(Code::ManifestBlobUnknown, &error.sentence()),
            Kind::SizeMismatch
            | Kind::DocumentAmbiguous
            | Kind::DocumentInvalid
            | Kind::DocumentUnsupported
            | Kind::MediaTypeMismatch
            | Kind::DigestMismatch
            | Kind::DigestInvalid
            | Kind::LimitExceeded => Answer::error(Code::ManifestInvalid, &error.sentence()),
            _ => self.failed(error),
        }
    }

    async fn remove(
        &self,
        stock: &Arc<dyn Stock>,
        name: &Repository,
        what: Removal,
    ) -> Result<Answer, Answer> {
        let code = match &what {
            Removal::Blob(_) => Code::BlobUnknown,
            _ => Code::ManifestUnknown,
        };
        match stock.remove(name, &what).await.map_err(|e| self.failed(e))? {
            true => Ok(accepted()),
            false => Err(Answer::error(code, "it is not here")),
        }
    }
}

/// What the document calls itself, or else what the client does.
fn media_type(bytes: &[u8], stated: Option<&str>) -> Option<MediaType> {
    let own = crate::oci::own_media_type(bytes);
    let stated = stated.map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
    own.or(stated).map(|text| MediaType::new(&text))
}

/// The document that another one is about.
pub fn subject(bytes: &[u8]) -> Option<Digest> {
    let content: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    content.pointer("/subject/digest")?.as_str()?.parse().ok()
}

fn created(name: &Repository, digest: &Digest) -> Answer {
    Answer::empty(StatusCode::CREATED)
        .with(LOCATION, format!("/v2/{name}/blobs/{digest}"))
        .with(DIGEST, digest.to_string())
}

/// Where an upload goes on, and how far it has come. The range of nothing is written as that of one byte
/// (distribution-spec, "Pushing a blob in chunks").
fn session(answer: Answer, name: &Repository, upload: &str, received: u64) -> Answer {
    answer
        .with(LOCATION, format!("/v2/{name}/blobs/uploads/{upload}"))
        .with(RANGE, format!("0-{}", received.saturating_sub(1)))
        .with(UPLOAD, upload)
}
