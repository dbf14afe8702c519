//! Giving out: documents, blobs and ranges of them, tags, referrers, the catalog.

use bytes::Bytes;
use http::StatusCode;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LINK, RANGE};
use serde::Serialize;
use serde_json::json;

use super::Server;
use super::answer::{Answer, Body, Code};
use super::route::{Query, Reference};
use crate::content::{Extent, Kept, Pointer, Referrer};
use crate::oci::{Digest, Repository, media};

pub const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Entries of one page, unless fewer are asked for: a list of millions must not be made at once.
const PAGE: usize = 10_000;

impl Server {
    pub(super) async fn manifest(
        &self,
        name: &Repository,
        reference: &Reference,
        query: &Query,
    ) -> Result<Answer, Answer> {
        let pointer = match reference {
            Reference::Tag(tag) => Pointer::Tag(tag.clone()),
            Reference::Digest(digest) => Pointer::Digest(*digest),
        };
        for name in Server::names(name, query.namespace()) {
            if let Some(kept) = self.holdings.document(&name, &pointer).await.map_err(|e| self.broken(e))? {
                return Ok(document(kept));
            }
        }
        Err(Answer::error(Code::ManifestUnknown, "no such manifest"))
    }

    pub(super) async fn blob(
        &self,
        name: &Repository,
        digest: &Digest,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Answer, Answer> {
        for name in Server::names(name, query.namespace()) {
            if let Some(extent) = self.holdings.blob(&name, digest).await.map_err(|e| self.broken(e))? {
                let asked = asked(headers, digest, extent.size);
                return stretch(extent, digest, asked);
            }
        }
        Err(Answer::error(Code::BlobUnknown, "no such blob"))
    }

    /// distribution-spec, "Listing Tags".
    pub(super) async fn tags(&self, name: &Repository, query: &Query) -> Result<Answer, Answer> {
        let tags = self.holdings.tags(name).await.map_err(|e| self.broken(e))?;
        let tags = tags.ok_or_else(|| Answer::error(Code::NameUnknown, "no such repository"))?;
        let mut texts: Vec<_> = tags.iter().map(|tag| tag.as_str()).collect();
        texts.sort_by_cached_key(|text| lexical(text));
        let (shown, more) = page_of(&texts, query, lexical)?;
        let answer = Answer::json(&json!({ "name": name, "tags": shown }));
        Ok(linked(answer, &format!("/v2/{name}/tags/list"), &shown, more))
    }

    /// Not in the specification; Distribution's, which skopeo and others list with.
    pub(super) async fn catalog(&self, query: &Query) -> Result<Answer, Answer> {
        let names = self.holdings.repositories().await.map_err(|e| self.broken(e))?;
        let texts: Vec<_> = names.iter().map(Repository::as_str).collect();
        let (shown, more) = page_of(&texts, query, str::to_owned)?;
        Ok(linked(Answer::json(&json!({ "repositories": shown })), "/v2/_catalog", &shown, more))
    }

    /// distribution-spec, "Listing Referrers".
    pub(super) async fn referrers(
        &self,
        name: &Repository,
        subject: &Digest,
        query: &Query,
    ) -> Result<Answer, Answer> {
        let mut found: Vec<Referrer> = Vec::new();
        for name in Server::names(name, query.namespace()) {
            let kept = self.holdings.referrers(&name, subject).await.map_err(|e| self.broken(e))?;
            found.extend(kept.iter().map(Kept::referrer));
        }
        let wanted: Vec<_> = query.all("artifactType").collect();
        if !wanted.is_empty() {
            found.retain(|entry| entry.artifact_type.as_deref().is_some_and(|kind| wanted.contains(&kind)));
        }
        let index = List { schema_version: 2, media_type: media::INDEX, manifests: found };
        let body = Body::Bytes(Bytes::from(serde_json::to_vec(&index).unwrap_or_default()));
        let answer = Answer::of(StatusCode::OK, media::INDEX, body);
        Ok(if wanted.is_empty() { answer } else { answer.with(FILTERS, "artifactType") })
    }
}

/// An index of what is attached to something.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Referrer>,
}

fn document(kept: Kept) -> Answer {
    let digest = kept.digest.to_string();
    Answer::of(StatusCode::OK, kept.media_type.as_str(), Body::Bytes(kept.bytes))
        .with(ETAG, format!("\"{digest}\""))
        .with(DIGEST, digest)
}

/// A blob, or the range of it that is asked for (RFC 9110 §14; one range, as registries do).
fn stretch(extent: Extent, digest: &Digest, asked: Asked) -> Result<Answer, Answer> {
    let size = extent.size;
    let common = |answer: Answer| {
        answer
            .with(ACCEPT_RANGES, "bytes")
            .with(DIGEST, digest.to_string())
            .with(ETAG, format!("\"{digest}\""))
    };
    match asked {
        Asked::All => {
            Ok(common(Answer::of(StatusCode::OK, "application/octet-stream", Body::Stretch(extent))))
        }
        Asked::Part(from, length) => {
            let part = Extent { offset: extent.offset.saturating_add(from), size: length, ..extent };
            let last = from.saturating_add(length).saturating_sub(1);
            let answer =
                Answer::of(StatusCode::PARTIAL_CONTENT, "application/octet-stream", Body::Stretch(part));
            Ok(common(answer).with(CONTENT_RANGE, format!("bytes {from}-{last}/{size}")))
        }
        Asked::Outside => {
            let answer = Answer::error(Code::RangeInvalid, "the blob does not have this range");
            Err(common(answer).with(CONTENT_RANGE, format!("bytes */{size}")))
        }
    }
}

/// Ranges are for those who hold the beginning of this blob and not of another (RFC 9110 §13.1.5).
fn asked(headers: &HeaderMap, digest: &Digest, size: u64) -> Asked {
    let ours = headers.get(IF_RANGE).is_none_or(|held| *held == *format!("\"{digest}\""));
    match headers.get(RANGE).and_then(|value| value.to_str().ok()) {
        Some(text) if ours => range(text, size),
        _ => Asked::All,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    /// First byte, number of bytes.
    Part(u64, u64),
    Outside,
}

/// Several ranges, or none that can be understood, are answered with everything (RFC 9110 §14.2).
fn range(text: &str, size: u64) -> Asked {
    let Some(spec) = text.trim().strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Asked::All;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Asked::All };
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (first, last) {
        ("", last) => match number(last) {
            Some(0) => Asked::Outside,
            Some(count) if size > 0 => Asked::Part(size.saturating_sub(count), count.min(size)),
            Some(_) => Asked::Outside,
            None => Asked::All,
        },
        (first, last) => {
            let end = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match (number(first), end) {
                (Some(first), Some(last)) if first < size && first <= last => {
                    Asked::Part(first, last.min(size - 1) - first + 1)
                }
                (Some(_), Some(_)) => Asked::Outside,
                _ => Asked::All,
            }
        }
    }
}

/// distribution-spec, "Listing Tags": "case-insensitive alphanumeric order"; what it leaves open, byte by byte.
fn lexical(tag: &str) -> (String, String) {
    (tag.to_ascii_lowercase(), tag.to_owned())
}

/// distribution-spec, "Listing Tags": `n` entries behind `last`, in an order that `key` gives them.
fn page_of<'a, K: Ord>(
    all: &[&'a str],
    query: &Query,
    key: impl Fn(&str) -> K,
) -> Result<(Vec<&'a str>, bool), Answer> {
    let count = match query.get("n") {
        None => PAGE,
        Some(text) => {
            let number = text.parse::<usize>();
            number.map_err(|_| Answer::error(Code::SizeInvalid, "n is not a number"))?.min(PAGE)
        }
    };
    let behind = |last: &str| all.partition_point(|entry| key(entry) <= key(last));
    let start = query.get("last").map_or(0, behind);
    let rest = all.get(start..).unwrap_or_default();
    Ok((rest.iter().take(count).copied().collect(), count > 0 && rest.len() > count))
}

fn linked(answer: Answer, path: &str, shown: &[&str], more: bool) -> Answer {
    match shown.last().filter(|_| more) {
        Some(last) => answer.with(LINK, format!("<{path}?n={}&last={last}>; rel=\"next\"", shown.len())),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_rfc_9110_says() {
        for (text, size, asked) in [
            ("bytes=0-0", 10, Asked::Part(0, 1)),
            ("bytes=2-", 10, Asked::Part(2, 8)),
            ("bytes=-3", 10, Asked::Part(7, 3)),
            ("bytes=-30", 10, Asked::Part(0, 10)),
            ("bytes=5-99", 10, Asked::Part(5, 5)),
            ("bytes=10-", 10, Asked::Outside),
            ("bytes=5-0", 10, Asked::Outside),
            ("bytes=-0", 10, Asked::Outside),
            ("bytes=0-", 0, Asked::Outside),
            ("bytes=-5", 0, Asked::Outside),
            ("bytes=0-1,4-5", 10, Asked::All),
            ("bytes=x-1", 10, Asked::All),
            ("lines=0-1", 10, Asked::All),
            ("bytes=+1-2", 10, Asked::All),
        ] {
            assert_eq!(range(text, size), asked, "{text} of {size}");
        }
    }
}
