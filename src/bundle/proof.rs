//! What a bundle proves itself with: its statement, its sums, and the signatures that counted. For whoever keeps them
//! beside the images, so that it can be checked there where these came from.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::pipe::Piped;
use super::reader::{Bundle, Medium, Trusted};
use super::{Statement, sums, tar};
use crate::content::{Extent, Source, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType, Name, Role};
use crate::trust::{KeyId, Signature};

/// See the module's text. As a source it gives its parts away, and nothing else.
pub struct Proof {
    parts: Vec<Part>,
    held: Held,
}

/// A file of the proof.
pub struct Part {
    /// What it is called: `bundle.json`, `SHA256SUMS`, `<key-id>.sig`.
    pub title: String,
    /// What it is.
    pub descriptor: Descriptor,
    content: Content,
}

enum Content {
    Statement,
    Sums,
    Signature(Signature),
}

/// Where sums and statement are.
enum Held {
    /// In a file: where the statement begins.
    File(Medium, String, u64),
    /// They have passed by, and are written once more.
    Passed(Arc<Piped>),
}

const SUMS: &str = "application/vnd.sealift.sums.v1";
const SIGNATURE: &str = "application/vnd.sealift.signature.v1";

impl Proof {
    /// That of a bundle in a file.
    ///
    /// # Errors
    /// None but for a bundle without a statement, which there is not.
    pub fn of(bundle: &Bundle<Trusted>) -> Result<Self> {
        let parts = parts(bundle)?;
        let offset = bundle.state.contents.entries().first().map_or(0, |entry| entry.offset);
        Ok(Proof { parts, held: Held::File(bundle.medium.clone(), bundle.place.clone(), offset) })
    }

    /// That of a bundle in a pipe.
    ///
    /// # Errors
    /// As those of [`Proof::of`].
    pub fn passed(piped: &Arc<Piped>) -> Result<Self> {
        Ok(Proof { parts: parts(piped.trusted())?, held: Held::Passed(piped.clone()) })
    }

    /// The digest of the statement.
    pub fn statement(&self) -> Digest {
        let stated = |part: &&Part| matches!(part.content, Content::Statement);
        self.parts.iter().find(stated).map_or(Digest::of(b""), |part| part.descriptor.digest)
    }

    /// Its files.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether this is one of them.
    pub fn has(&self, digest: &Digest) -> bool {
        self.part(digest).is_some()
    }

    fn part(&self, digest: &Digest) -> Option<&Part> {
        self.parts.iter().find(|part| part.descriptor.digest == *digest)
    }
}

fn parts(bundle: &Bundle<Trusted>) -> Result<Vec<Part>> {
    let layer = |title: &str, media_type: &str, digest, size, content| Part {
        title: title.to_owned(),
        descriptor: Descriptor { role: Role::Layer, media_type: MediaType::new(media_type), digest, size },
        content,
    };
    let statement = bundle.state.contents.entries().first().ok_or_else(file::ended)?;
    let mut parts = vec![
        layer("bundle.json", Statement::TYPE, statement.digest, statement.size, Content::Statement),
        layer("SHA256SUMS", SUMS, bundle.identity(), bundle.state.sums, Content::Sums),
    ];
    parts.extend(bundle.state.counted.iter().map(|(id, signature): &(KeyId, Signature)| {
        let (digest, size) = (Digest::of(signature), signature.len() as u64);
        layer(&format!("{id}.sig"), SIGNATURE, digest, size, Content::Signature(*signature))
    }));
    Ok(parts)
}

#[async_trait]
impl Source for Proof {
    async fn resolve(&self, name: &Name, _: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        Err(Error::new(Kind::NotFound, "a proof has no names").at(name))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let part = self.part(&expected.digest).ok_or_else(|| {
            Error::new(Kind::BlobMissing, "not a part of what proves a bundle").got(expected.digest)
        })?;
        let left = part.descriptor.size.saturating_sub(from);
        let in_file = |medium: &Medium, place: &str, offset: u64| {
            let offset = offset.saturating_add(from);
            let pieces = file::stream(medium.bytes.clone(), place.to_owned(), offset, left);
            Unverified::new(format_args!("{place}: {}", part.title), pieces)
        };
        let made = |bytes: Vec<u8>| Unverified::of_rest(&part.title, Bytes::from(bytes), from);
        Ok(match (&part.content, &self.held) {
            (Content::Signature(signature), _) => made(signature.to_vec()),
            (Content::Statement, Held::File(medium, place, offset)) => in_file(medium, place, *offset),
            (Content::Sums, Held::File(medium, place, _)) => in_file(medium, place, tar::BLOCK),
            (Content::Statement, Held::Passed(piped)) => made(piped.statement().encode()?),
            (Content::Sums, Held::Passed(piped)) => made(sums_of(piped.trusted())),
        })
    }

    async fn extent(&self, _: &Descriptor) -> Result<Option<Extent>> {
        Ok(None)
    }
}

/// The sums follow from what the bundle was found to hold.
fn sums_of(bundle: &Bundle<Trusted>) -> Vec<u8> {
    let mut text = Vec::with_capacity(usize::try_from(bundle.state.sums).unwrap_or_default());
    for entry in bundle.state.contents.entries() {
        sums::append(&mut text, &entry.digest, &entry.path());
    }
    text
}
