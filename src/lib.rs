//! sealift ships a release's container images across an air gap: it seals them into one signed
//! bundle on the connected side, and lifts them into a registry on the other.
#![allow(missing_docs)]

pub mod error;
pub mod limits;
pub mod oci;
pub mod release;

pub mod content;
pub mod plan;
pub mod trust;

pub mod bundle;
pub mod layout;
pub mod manifest;
pub mod policy;
pub mod registry;

pub mod cli;
pub mod verbs;
