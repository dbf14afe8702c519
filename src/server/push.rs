//! Taking: upload sessions, mounts, documents, and their removal.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RANGE};
use http::{Method, StatusCode};

use super::answer::{Answer, Code};
use super::pull::DIGEST;
use super::route::{Query, Reference, Route, digest_of};
use super::{Request, Server, accepted};
use crate::content::{Kept, Removal, Stock, Unverified};
use crate::error::{Error, Kind};
use crate::limits;
use crate::oci::{Digest, MediaType, Repository, Tag, subject_of};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAGS: HeaderName = HeaderName::from_static("oci-tag");
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
        let digest = query.get("digest").filter(|_| query.get("mount").is_none());
        let digest = digest.map(digest_of).transpose()?;
        let upload = stock.begin(name).await.map_err(|e| self.failed(e))?;
        let Some(digest) = digest else { return Ok(session(accepted(), name, &upload, 0)) };
        let done = self.complete(stock, name, &upload, request.body, &digest).await;
        if done.is_err() {
            // Its sender knows nothing of it, and could not go on.
            stock.cancel(name, &upload).await.map_err(|e| self.failed(e))?;
        }
        done
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
        let received = stock.append(name, upload, body).await.map_err(|e| self.broken_off(e))?;
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
        stock.append(name, upload, body).await.map_err(|e| self.broken_off(e))?;
        stock.finish(name, upload, digest).await.map_err(|e| self.broken_off(e))?;
        Ok(created(name, digest))
    }

    /// An upload that did not go on: mostly for reasons that are its sender's business alone.
    fn broken_off(&self, error: Error) -> Answer {
        match error.kind() {
            Kind::NotFound => no_upload(),
            Kind::Locked => Answer::error(Code::TooManyRequests, "another request is writing this upload"),
            Kind::Network => Answer::error(Code::BlobUploadInvalid, "the request broke off"),
            Kind::DigestMismatch => Answer::failure(&error),
            _ => self.failed(error),
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
            false => Err(no_upload()),
        }
    }

    async fn known(&self, stock: &Arc<dyn Stock>, name: &Repository, upload: &str) -> Result<u64, Answer> {
        let received = stock.received(name, upload).await.map_err(|e| self.failed(e))?;
        received.ok_or_else(no_upload)
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
        let further = further_tags(query)?;
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
        for further in &further {
            stock.put(name, &kept, Some(further)).await.map_err(|e| self.refused(e))?;
        }
        let place = match reference {
            Reference::Tag(tag) => tag.to_string(),
            Reference::Digest(digest) => digest.to_string(),
        };
        let mut answer = Answer::empty(StatusCode::CREATED)
            .with(LOCATION, format!("/v2/{name}/manifests/{place}"))
            .with(DIGEST, digest.to_string());
        if !further.is_empty() {
            answer = answer.with(TAGS, further.iter().map(Tag::as_str).collect::<Vec<_>>().join(", "));
        }
        // distribution-spec, "Pushing Manifests with Subject".
        Ok(match subject_of(&kept.bytes).ok().flatten() {
            Some(subject) => answer.with(SUBJECT, subject.to_string()),
            None => answer,
        })
    }

    /// A whole manifest.
    async fn collect(&self, request: Request) -> Result<Bytes, Answer> {
        let mut pieces = request.body.untrusted_pieces();
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let broken = |_| Answer::error(Code::ManifestInvalid, "the manifest did not arrive whole");
            bytes.extend_from_slice(&piece.map_err(broken)?);
            if bytes.len() as u64 > limits::DOCUMENT {
                return Err(Answer::error(Code::TooLarge, "a manifest has at most 4 MiB"));
            }
        }
        Ok(bytes.freeze())
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

/// Tags that stand beside a reference (the `tag` parameter, which the specification will have behind 1.1).
fn further_tags(query: &Query) -> Result<Vec<Tag>, Answer> {
    let tags: Result<_, _> = query.all("tag").map(str::parse).collect();
    tags.map_err(|_| Answer::error(Code::ManifestInvalid, "not a tag"))
}

fn no_upload() -> Answer {
    Answer::error(Code::BlobUploadUnknown, "no such upload")
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
