//! Moving bytes: where content comes from ([`Source`]), where it goes ([`Sink`]), and the one
//! door between foreign bytes and trusted ones ([`Reader`]).

pub mod file;
mod reader;
mod remembered;
mod retry;
mod watch;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::oci::{Descriptor, Digest, Name};

pub use reader::Reader;
pub use remembered::Remembered;
pub use retry::{Patience, retrying};
pub use watch::{Meter, Quiet, Stage, Watch};

/// A place that content comes from: one repository of a registry, an OCI layout, a verified bundle.
#[async_trait]
pub trait Source: Send + Sync {
    /// The document that `name` leads to at this moment, and its bytes. The digest is computed
    /// from the bytes, whatever the server says.
    ///
    /// # Errors
    /// `NotFound` where the name does not exist, which is told apart from a failure to ask.
    async fn resolve(&self, name: &Name) -> Result<(Descriptor, Bytes)>;

    /// Opens the content that `expected` describes. The reader ends only after it verified it.
    async fn fetch(&self, expected: &Descriptor) -> Result<Reader>;
}

/// A place that content goes to: one repository of a registry, an OCI layout, a bundle being written.
/// It is told what to expect, so unnamed bytes cannot enter.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Whether the place holds this content already, intact as far as the place can tell.
    async fn exists(&self, expected: &Descriptor) -> Result<bool>;

    /// Asks the place to take the content over from `repository` beside it, without sending it.
    /// `false` where it does not do that; the content is then pushed.
    async fn mount(&self, _expected: &Descriptor, _repository: &str) -> Result<bool> {
        Ok(false)
    }

    /// Takes the content. It counts as present only when this returned `Ok`.
    async fn push(&self, expected: &Descriptor, content: Reader) -> Result<()>;

    /// What `name` leads to now; `None` where it does not exist.
    async fn tagged(&self, name: &Name) -> Result<Option<Digest>>;

    /// Makes `name` lead to a document that was pushed before. `bytes` are the document's own.
    async fn tag(&self, name: &Name, document: &Descriptor, bytes: Bytes) -> Result<()>;

    /// All names were given: a place that sets them together does so now.
    async fn commit(&self) -> Result<()> {
        Ok(())
    }
}
