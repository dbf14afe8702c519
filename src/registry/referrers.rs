//! What is attached to a repository's documents: asked for in the ways that distribution-spec and cosign
//! know, and made known in the way that the registry knows.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::future::try_join_all;
use reqwest::header::{ACCEPT, HeaderValue, LINK};
use reqwest::{Method, Response};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::auth::Scope;
use super::client::{self, Call};
use super::repository::{Repository, content_type, header};
use super::{link, origin, transport, wire};
use crate::content::{Kept, Referring};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Attached, Descriptor, Digest, Document, MediaType, Role, media};

/// 404 says that there is no such API (distribution-spec, "Listing Referrers"); so do, less politely, servers
/// that do not know the path.
const LISTING_ANSWERS: &[u16] = &[200, 400, 404, 405, 406, 501];

/// Pages of one list: a server that always has one more must not be followed for ever.
const PAGES: usize = 1_000;

impl Repository {
    /// What is attached to a document, by its subject or by cosign's tags.
    pub(super) async fn attachments(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let tagged = subject.cosign_tags().into_iter().map(|tag| async move {
            let found = self.resolve_tag(&tag).await;
            Ok::<_, Error>(absent(found)?.map(|(descriptor, _)| Attached {
                subject: *subject,
                descriptor,
                tag: Some(tag),
            }))
        });
        let (listed, tagged) = futures_util::future::try_join(
            self.listed(subject, self.pulling(), children),
            try_join_all(tagged),
        )
        .await?;
        // What is attached in both ways is named twice.
        let listed =
            listed.into_iter().map(|descriptor| Attached { subject: *subject, descriptor, tag: None });
        Ok(tagged.into_iter().flatten().chain(listed).collect())
    }

    /// The digests of the documents that name this one as their subject. What else is listed there is not ours
    /// to judge.
    pub(super) async fn referring(&self, subject: &Digest) -> Result<Referring> {
        Ok(match self.listed_by_api(subject, self.pushing(), digests).await? {
            Some(digests) => Referring { digests, by_tag: false },
            None => Referring { digests: self.listed_by_tag(subject, digests).await?, by_tag: true },
        })
    }

    /// The documents that name this one as their subject, as `read` reads a list of them.
    async fn listed<T>(&self, subject: &Digest, scope: Scope, read: Read<T>) -> Result<Vec<T>> {
        match self.listed_by_api(subject, scope, read).await? {
            Some(listed) => Ok(listed),
            None => self.listed_by_tag(subject, read).await,
        }
    }

    /// Whether an image that was asked for by its digest has the name which is not its list's.
    async fn is_beside(&self, subject: &Digest) -> Result<bool> {
        let found = absent(self.resolve_tag(&subject.tag_beside_list()).await)?;
        Ok(found.is_some_and(|(descriptor, _)| descriptor.digest == *subject))
    }

    async fn listed_by_tag<T>(&self, subject: &Digest, read: Read<T>) -> Result<Vec<T>> {
        match absent(self.resolve_tag(&subject.fallback_tag()).await)? {
            // Some tools tag an image itself by its digest: that lists nothing.
            Some((descriptor, _)) if descriptor.digest == *subject => Ok(Vec::new()),
            Some((descriptor, bytes)) => read(&descriptor, bytes),
            None => Ok(Vec::new()),
        }
    }

    /// `None` where the registry has no such API.
    async fn listed_by_api<T>(
        &self,
        subject: &Digest,
        scope: Scope,
        read: Read<T>,
    ) -> Result<Option<Vec<T>>> {
        let path = wire::referrers_path(self.path(), subject);
        let mut call = Call::new(self.endpoint(), Method::GET, &path, "cannot ask what is attached to")?;
        call.headers.insert(ACCEPT, HeaderValue::from_static(media::INDEX));
        (call.scope, call.expected, call.place) = (scope, LISTING_ANSWERS, format!("{self}@{subject}"));
        let mut found = Vec::new();
        for page in 0..PAGES {
            let mut response = self.client().send(self.endpoint(), &call).await?;
            // Whatever else answers 200 to this path does not know it.
            if response.status() != 200 || content_type(response.headers()).as_deref() != Some(media::INDEX) {
                return if page == 0 {
                    Ok(None)
                } else {
                    Err(endless("a list of what is attached breaks off", &call))
                };
            }
            let next = next_page(&response, &call).map_err(|e| e.at(&call.place))?;
            let bytes = transport::read(&mut response, limits::DOCUMENT, self.client().limits()).await;
            let page =
                bytes.and_then(|bytes| read(&index_of(&bytes), bytes)).map_err(|e| e.at(&call.place))?;
            found.extend(page);
            if found.len() > limits::CHILDREN {
                return Err(Error::new(Kind::LimitExceeded, "too much is attached to one document")
                    .at(&call.place)
                    .expected(format_args!("at most {}", limits::CHILDREN)));
            }
            match next {
                Some(url) if url == call.url => {
                    return Err(endless("a list of what is attached goes on where it is", &call));
                }
                Some(url) => call.url = url,
                None => return Ok(Some(found)),
            }
        }
        Err(endless("a list of what is attached does not end", &call))
    }

    /// Makes these documents, which were pushed, known as attached to `subject`.
    pub(super) async fn make_known(&self, subject: &Digest, referrers: &[Kept]) -> Result<()> {
        match self.listed_by_api(subject, self.pushing(), digests).await? {
            Some(listed) => {
                let unlisted = |kept: &&Kept| !listed.contains(&kept.digest);
                for kept in referrers.iter().filter(unlisted) {
                    // It was here before the registry looked for subjects: pushed again, it is looked at.
                    self.put_kept(kept).await?;
                }
                Ok(())
            }
            None => self.list_by_tag(subject, referrers).await,
        }
    }

    /// distribution-spec, "Referrers Tag Schema": the client keeps the list.
    async fn list_by_tag(&self, subject: &Digest, referrers: &[Kept]) -> Result<()> {
        let tag = subject.fallback_tag();
        let mut entries: Vec<Box<RawValue>> = match absent(self.resolve_tag(&tag).await)? {
            None => Vec::new(),
            // It has its other name, so this one is free.
            Some((descriptor, _)) if descriptor.digest == *subject && self.is_beside(subject).await? => {
                Vec::new()
            }
            Some((descriptor, _)) if descriptor.digest == *subject => {
                return Err(Error::new(Kind::TagConflict, "the tag for what is attached to an image is the image's own")
                    .at(format_args!("{self}:{tag}"))
                    .hint("remove that tag, or leave behind what is attached: referrers = false in the release manifest"));
            }
            Some((descriptor, bytes)) => {
                require_index(&descriptor)?;
                list::<Box<RawValue>>(&bytes).map_err(|e| e.at(format_args!("{self}:{tag}")))?
            }
        };
        for kept in referrers {
            let other = |entry: &Entry| entry.digest.as_deref() != Some(&kept.digest.to_string());
            entries.retain(|entry| serde_json::from_str(entry.get()).is_ok_and(|entry| other(&entry)));
            entries.extend(to_raw_value(&kept.referrer()).ok());
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": entries });
        let bytes = Bytes::from(index.to_string());
        let place = format!("{self}:{tag}");
        self.put_document(
            &index_of(&bytes),
            tag.as_str(),
            bytes,
            place,
            "cannot list what is attached to an image",
        )
        .await
    }

    pub(super) async fn put_kept(&self, kept: &Kept) -> Result<()> {
        let role = kept.media_type.document_role().unwrap_or(Role::Manifest);
        let (media_type, digest, size) = (kept.media_type.clone(), kept.digest, kept.bytes.len() as u64);
        let descriptor = Descriptor { role, media_type, digest, size };
        let place = format!("{self}@{digest}");
        self.put_document(
            &descriptor,
            &digest.to_string(),
            kept.bytes.clone(),
            place,
            "cannot push the manifest",
        )
        .await
    }
}

fn endless(what: &str, call: &Call) -> Error {
    Error::new(Kind::RegistryCorrupt, what.to_owned()).at(&call.place)
}

/// What is not there is no failure.
fn absent<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// An index that nothing else describes.
fn index_of(bytes: &[u8]) -> Descriptor {
    let (media_type, digest) = (MediaType::new(media::INDEX), Digest::of(bytes));
    Descriptor { role: Role::Index, media_type, digest, size: bytes.len() as u64 }
}

/// Reads a list.
type Read<T> = fn(&Descriptor, Bytes) -> Result<Vec<T>>;

/// All that is needed where it is only asked what is there: others may list what we would not carry.
fn digests(descriptor: &Descriptor, bytes: Bytes) -> Result<Vec<Digest>> {
    require_index(descriptor)?;
    let entries: Vec<Entry> = list(&bytes)?;
    Ok(entries.iter().filter_map(|entry| entry.digest.as_deref()?.parse().ok()).collect())
}

/// What is read of an entry that is not carried.
#[derive(Deserialize)]
struct Entry {
    digest: Option<String>,
}

/// The entries of a list. Nothing else of it is taken in, and no more entries than a document may have: what a
/// registry sends may be made to grow.
fn list<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>> {
    #[derive(Deserialize)]
    #[serde(bound = "T: DeserializeOwned")]
    struct List<T> {
        manifests: Option<Bounded<T>>,
    }
    let list: List<T> = serde_json::from_slice(bytes).map_err(|e| {
        Error::new(Kind::DocumentInvalid, "a list of what is attached to an image is no index").got(e)
    })?;
    Ok(list.manifests.map(|manifests| manifests.0).unwrap_or_default())
}

/// As many as a document may name.
struct Bounded<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {} entries", limits::CHILDREN)
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() >= limits::CHILDREN {
                        return Err(serde::de::Error::invalid_length(entries.len(), &self));
                    }
                    entries.push(entry);
                }
                Ok(Bounded(entries))
            }
        }
        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

fn children(descriptor: &Descriptor, bytes: Bytes) -> Result<Vec<Descriptor>> {
    require_index(descriptor)?;
    let document = Document::parse(descriptor, bytes)?;
    Ok(document.children.into_iter().map(|child| child.descriptor).collect())
}

fn require_index(descriptor: &Descriptor) -> Result<()> {
    if descriptor.role != Role::Index {
        return Err(Error::new(
            Kind::DocumentUnsupported,
            "a list of what is attached to an image is no index",
        )
        .at(descriptor.digest));
    }
    Ok(())
}

/// Where the list goes on (RFC 8288; distribution-spec, "Listing Referrers"): at the same registry.
fn next_page(response: &Response, call: &Call) -> Result<Option<reqwest::Url>> {
    let mut next = None;
    for value in response.headers().get_all(LINK) {
        // What is not understood may be where the list goes on.
        let target = value.to_str().ok().and_then(link::next).ok_or_else(|| {
            Error::new(Kind::RegistryCorrupt, "a Link header that cannot be understood")
                .got(format_args!("{value:?}"))
        })?;
        next = next.or(target);
    }
    let Some(next) = next else { return Ok(None) };
    let url = client::resolve(response, &header(&next)?)?;
    match origin::same(&url, &call.url) {
        true => Ok(Some(url)),
        false => Err(Error::new(Kind::RedirectForbidden, "a list goes on at another server")
            .got(origin::authority(&url))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_a_destination_others_may_list_what_we_would_not_carry() {
        let own = Digest::of(b"a signature");
        let list = json!({ "schemaVersion": 2, "manifests": [
            { "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "digest": Digest::of(b"old"), "size": 3 },
            { "mediaType": media::MANIFEST, "digest": "sha512:00", "size": 3 },
            { "mediaType": media::MANIFEST, "digest": own, "size": 11 },
        ] });
        let bytes = Bytes::from(list.to_string());
        let there = digests(&index_of(&bytes), bytes.clone()).unwrap();
        assert_eq!(there, [Digest::of(b"old"), own]);
        assert!(children(&index_of(&bytes), bytes).is_err());
        assert!(digests(&index_of(b"["), Bytes::from_static(b"[")).is_err());
    }
}
