//! The bundle: one tar file that is a valid OCI image layout, preceded by a signed list of all it
//! holds. FORMAT.md describes it byte by byte.
//!
//! Writing: a plan and the facts of the release make a [`Draft`], whose sums are signed before any
//! layer has moved; a [`Writer`] then takes content in any order, each blob at its final offset.
//! What cannot be gone back in is [poured](pour()) from front to back: into a pipe ([`Through`]), or
//! into zstd frames ([`Packed`]). An archive for other tools ([`oci_archive`], [`docker_archive`]) is
//! planned and written in the same ways; it is no bundle, for nobody has signed it.
//!
//! Reading: [`Bundle<Sealed>`] has read the sums and the signatures and parsed neither;
//! [`Bundle::trust`] checks the signatures, then parses; [`Bundle::verify`] reads every byte. Only
//! a [`Bundle<Verified>`] gives content away. A bundle in a pipe is [`Piped`]: its documents first,
//! then one blob after the other as they pass, and nothing is final before [`Piped::finish`].

mod archive;
mod contents;
mod draft;
mod frames;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod journal;
mod kept;
mod ledger;
mod packed;
mod partial;
mod pipe;
mod pour;
mod proof;
mod reader;
mod shelf;
mod statement;
mod sums;
mod tar;
mod writer;

pub use archive::{docker_archive, oci_archive};
pub use draft::{Draft, Sealing};
pub use head::{detached_signatures, read_signature};
pub use packed::Packed;
pub use partial::check_target;
pub use pipe::{Input, Piped};
pub use pour::{Out, Through, pour};
pub use proof::Proof;
pub use reader::{Bundle, Sealed, Trusted, Verified};
pub use shelf::Shelf;
pub use statement::{EntryPath, Statement};
pub use writer::Writer;

/// `oci-layout`, in full (image-layout.md, "oci-layout file").
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const SUMS_PATH: &str = "bundle/SHA256SUMS";
const STATEMENT_PATH: &str = "bundle/bundle.json";
const LAYOUT_PATH: &str = "oci-layout";
const INDEX_PATH: &str = "index.json";
const DOCKER_PATH: &str = "manifest.json";

fn signature_path(id: &crate::trust::KeyId) -> String {
    format!("bundle/signatures/{id}.sig")
}
