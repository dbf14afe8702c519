//! The bundle: one tar file that is a valid OCI image layout, preceded by a signed list of all it
//! holds. FORMAT.md describes it byte by byte.
//!
//! Writing: a plan and the facts of the release make a [`Draft`], whose sums are signed before any
//! layer has moved; a [`Writer`] then takes content in any order, each blob at its final offset.
//!
//! Reading: [`Bundle<Sealed>`] has read the sums and the signatures and parsed neither;
//! [`Bundle::trust`] checks the signatures, then parses; [`Bundle::verify`] reads every byte. Only
//! a [`Bundle<Verified>`] gives content away.

mod contents;
#[allow(dead_code, unused_imports, reason = "nothing packs or unpacks compressed bundles yet")]
pub(crate) mod frames;
mod reader;
mod statement;
mod sums;
mod tar;
mod writer;

pub use reader::{Bundle, Sealed, Trusted, Verified};
pub use statement::Statement;
pub use writer::{Draft, Writer, check_target};

/// `oci-layout`, in full (image-layout.md, "oci-layout file").
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const SUMS_PATH: &str = "bundle/SHA256SUMS";
const STATEMENT_PATH: &str = "bundle/bundle.json";
const LAYOUT_PATH: &str = "oci-layout";
const INDEX_PATH: &str = "index.json";

fn signature_path(id: &crate::trust::KeyId) -> String {
    format!("bundle/signatures/{id}.sig")
}
