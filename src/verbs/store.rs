//! `store`: keeping a registry's store in order, whoever serves it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::content::{Pointer, Watch};
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;
use crate::store::{Checked, Removed, Sweep, Swept, existing};

/// What is to be taken out of a store: `NAME`, `NAME:TAG` or `NAME@DIGEST`.
#[derive(Clone, Debug)]
pub struct Target {
    /// The repository.
    pub repository: Repository,
    /// What of it; all of it where that is not said.
    pub what: Option<Pointer>,
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |e: Error| {
            Error::new(Kind::RefInvalid, "not a name in a store")
                .got(e.sentence())
                .expected("NAME, NAME:TAG or NAME@sha256:…, such as nexus/engine:2.1.0")
        };
        let (repository, what) = match (text.split_once('@'), text.split_once(':')) {
            (Some((repository, digest)), _) => {
                (repository, Some(Pointer::Digest(digest.parse().map_err(wrong)?)))
            }
            (None, Some((repository, tag))) => (repository, Some(Pointer::Tag(tag.parse().map_err(wrong)?))),
            (None, None) => (text, None),
        };
        Ok(Target { repository: repository.parse().map_err(wrong)?, what })
    }
}

/// Deletes what nothing names.
pub async fn gc(directory: &Path, order: Sweep) -> Result<Swept> {
    existing(directory)?.sweep(order).await
}

/// Looks everything over. What is damaged is told, not mended.
pub async fn check(directory: PathBuf, watch: Arc<dyn Watch>) -> Result<Checked> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    existing(&directory)?.check(threads, watch).await
}

/// Takes something out. What it consists of is deleted by the next [`gc`].
pub async fn remove(directory: &Path, target: &Target, dry_run: bool) -> Result<Removed> {
    existing(directory)?.take_out(&target.repository, target.what.clone(), dry_run).await
}
