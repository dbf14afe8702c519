//! What is known of images beyond their documents: what belongs to them and tells what is in them. Verified bytes
//! enter, through a [`Source`](crate::content::Source); small facts leave, for policy to judge and for people to read.
//!
//! An SBOM is a list of packages (SPDX JSON, CycloneDX JSON), a scan report what a scanner found (Trivy JSON, Grype JSON,
//! SARIF). Each is read as it streams by, however long it is: packages are handed on one by one. Fields that nobody asks
//! for are passed over; what a rule needs must be there and be clear. Nobody's signature is looked at here: an
//! attestation is taken at its word, as the image is that it is attached to. Whether images are signed is another question,
//! [`cosign`]'s; what is in [`layers`] and which [`secrets`] lie about are others.

pub mod cosign;
mod envelope;
mod formats;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gather;
mod guard;
mod json;
pub mod layers;
mod read;
mod report;
pub mod secrets;

pub use gather::{Found, Identity, Place, Trouble, Way, another, gather, look, places};
pub use read::{is_its_own, read};
pub use report::{Counts, Format, Package, Report, Severity, Vulnerability, Wrapping};
