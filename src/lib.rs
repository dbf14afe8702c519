//! Ships a release's container images across an air gap.
#![allow(missing_docs)]
pub mod content;
pub mod error;
pub mod limits;
pub mod oci;
pub mod registry;
