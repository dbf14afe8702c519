//! A source that keeps the documents and configs it has handed out, within a budget, so that what
//! planning has read is not asked for a second time when the bundle is written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Source, Unverified};
use crate::error::Result;
use crate::limits;
use crate::oci::{Attached, Descriptor, Digest, Name, Role};

/// See the module's text.
pub struct Remembered {
    source: Arc<dyn Source>,
    kept: Mutex<HashMap<Digest, Bytes>>,
    room: Arc<AtomicUsize>,
}

impl Remembered {
    /// Remembers what `source` gives, drawing on `room` bytes that several sources may share.
    pub fn new(source: Arc<dyn Source>, room: Arc<AtomicUsize>) -> Self {
        Remembered { source, kept: Mutex::default(), room }
    }

    /// A budget for a whole run.
    pub fn room() -> Arc<AtomicUsize> {
        Arc::new(AtomicUsize::new(limits::REMEMBERED))
    }

    fn keep(&self, digest: Digest, bytes: &Bytes) {
        let fits = |room: usize| room.checked_sub(bytes.len());
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, bytes.clone());
        }
    }

    fn recall(&self, digest: &Digest) -> Option<Bytes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }
}

#[async_trait]
impl Source for Remembered {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        let (descriptor, bytes) = self.source.resolve(name, digest).await?;
        self.keep(descriptor.digest, &bytes);
        Ok((descriptor, bytes))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        if let Some(bytes) = self.recall(&expected.digest) {
            return Ok(Unverified::of_rest(expected.digest, bytes, from));
        }
        let small = expected.role.is_document() && expected.size <= limits::DOCUMENT
            || expected.role == Role::Config && expected.size <= limits::CONFIG;
        if !small {
            return self.source.open(expected, from).await;
        }
        let bytes = self.source.fetch(expected).await?.into_bytes().await?;
        self.keep(expected.digest, &bytes);
        Ok(Unverified::of_rest(expected.digest, bytes, from))
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        self.source.holds(expected).await
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.source.attached(subject).await
    }
}
