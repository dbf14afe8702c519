//! Moving bytes: where content comes from ([`Source`]), where it goes ([`Sink`]), and the one
//! door between foreign bytes and trusted ones ([`Reader`]).

mod conduit;
mod failover;
pub mod file;
pub mod guard;
mod holdings;
mod rate;
mod reader;
mod remembered;
mod retry;
pub mod tarball;
mod unverified;
mod watch;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Kind, Result};
use crate::oci::{Attached, Descriptor, Digest, Name};

pub use conduit::{Inlet, Outlet, Room, conduit};
pub use failover::{Alternative, Failover, Note, Standing};
pub use holdings::{Extent, Holdings, Kept, Pointer, Referrer, Removal, Stock, Together};
pub use rate::Rate;
pub use reader::Reader;
pub use remembered::Remembered;
pub use retry::{Patience, retrying};
pub use unverified::Unverified;
pub use watch::{Meter, Quiet, Stage, Watch};

/// A place that content comes from: one repository of a registry, an OCI layout, a verified bundle.
#[async_trait]
pub trait Source: Send + Sync {
    /// The document that `name` leads to at this moment, and its bytes; or, where a digest is given, the one
    /// of that digest, whatever its tags are. The digest is computed from the bytes, whatever the server says.
    ///
    /// # Errors
    /// `NotFound` where the name does not exist, which is told apart from a failure to ask.
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)>;

    /// Opens the content that `expected` describes, from byte `from` on. Only a [`Reader`] can use it.
    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified>;

    /// Opens the content that `expected` describes. The reader ends only after it verified it.
    async fn fetch(&self, expected: &Descriptor) -> Result<Reader> {
        Ok(Reader::new(expected, self.open(expected, 0).await?))
    }

    /// Whether the place has this content. Asked only about what an image may lack: layers that are not
    /// distributed with it.
    ///
    /// # Errors
    /// A failure to ask: it is told apart from its not being there.
    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        match self.open(expected, 0).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::BlobMissing) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is attached to a document; nothing where the place keeps no such thing.
    ///
    /// # Errors
    /// A failure to ask: it is told apart from there being nothing.
    async fn attached(&self, _subject: &Digest) -> Result<Vec<Attached>> {
        Ok(Vec::new())
    }

    /// Where the content lies, if it lies as it is in a file at hand: a place can then take it over
    /// from there ([`Sink::adopt`]). Nothing of it was read for this.
    async fn extent(&self, _expected: &Descriptor) -> Result<Option<Extent>> {
        Ok(None)
    }
}

/// A place that content goes to: one repository of a registry, an OCI layout, a bundle being written.
/// It is told what to expect, so unnamed bytes cannot enter.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Whether the place would take `bytes` more: asked before the first of them moves. Leaves nothing behind.
    ///
    /// # Errors
    /// What would stop the transfer later: no right to write, no room.
    async fn ready(&self, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// Whether the place holds this content already, intact as far as the place can tell.
    async fn exists(&self, expected: &Descriptor) -> Result<bool>;

    /// What the place has of this content since an earlier try broke off. It is verified with the
    /// rest, as if it came from the source.
    async fn begun(&self, _expected: &Descriptor) -> Result<Option<Begun>> {
        Ok(None)
    }

    /// Asks the place to take the content over from `repository` beside it, without sending it.
    /// `false` where it does not do that; the content is then pushed.
    async fn mount(&self, _expected: &Descriptor, _repository: &str) -> Result<bool> {
        Ok(false)
    }

    /// Takes the content over from the file that it lies in, and verifies what arrived; `meter` is told
    /// how far it has come. `false` where the place does not do that; the content is then pushed.
    ///
    /// # Errors
    /// `DigestMismatch` where something else lay there.
    async fn adopt(&self, _expected: &Descriptor, _extent: &Extent, _meter: &Meter) -> Result<bool> {
        Ok(false)
    }

    /// Takes the content. It counts as present only when this returned `Ok`.
    async fn push(&self, expected: &Descriptor, content: Reader) -> Result<()>;

    /// What `name` leads to now; `None` where it does not exist.
    async fn tagged(&self, name: &Name) -> Result<Option<Digest>>;

    /// Makes `name` lead to a document that was pushed before. `bytes` are the document's own.
    async fn tag(&self, name: &Name, document: &Descriptor, bytes: Bytes) -> Result<()>;

    /// Whether the place takes an index of which entries are missing: `probe` has only such entries. Leaves
    /// nothing behind that a name leads to.
    async fn takes_sparse(&self, _probe: &Kept) -> Result<bool> {
        Ok(true)
    }

    /// Which documents the place finds when it is asked what names this one as its subject.
    async fn referrers(&self, _subject: &Digest) -> Result<Referring> {
        Ok(Referring::default())
    }

    /// Makes the place find these documents when it is asked what names `subject` as its subject; they were
    /// pushed before.
    async fn refer(&self, _subject: &Digest, _referrers: &[Kept]) -> Result<()> {
        Ok(())
    }

    /// All names were given: a place that sets them together does so now.
    async fn commit(&self) -> Result<()> {
        Ok(())
    }
}

/// Content that passes by once, in an order of its own. Every blob is either carried on or skipped.
#[async_trait]
pub trait Procession: Send + Sync {
    /// The blob whose turn it is; `None` when all have passed.
    async fn next(&self) -> Result<Option<Digest>>;

    /// Whether this blob is still to come.
    async fn comes(&self, digest: &Digest) -> bool;

    /// Hands its bytes on as they come. Whoever takes them verifies them.
    async fn carry(&self, inlet: Inlet) -> Result<()>;

    /// Verifies it and lets it go; `meter` is told how far it has come.
    async fn skip(&self, meter: &Meter) -> Result<()>;
}

/// What a place finds to name a document as its subject.
#[derive(Clone, Debug, Default)]
pub struct Referring {
    /// The digests of the documents.
    pub digests: Vec<Digest>,
    /// They are listed under the subject's fallback tag, which can then lead to nothing else
    /// (distribution-spec, "Referrers Tag Schema").
    pub by_tag: bool,
}

/// The beginning of some content, at the place where it goes.
pub struct Begun {
    /// Bytes that are there, at most the size of the content.
    pub length: u64,
    /// These bytes.
    pub content: Unverified,
}
