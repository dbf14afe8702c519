//! sealift ships a release's container images across an air gap: it seals them into one signed
//! bundle on the connected side, and lifts them into a registry on the other.
//!
//! The architecture is one sentence, run in two directions:
//!
//! - **export** = registry, layout, archive, [`artifact`] of files or another bundle (source) → [`plan`] →
//!   [`evidence`] → [`policy`] → bundle writer (sink), signed with keys of [`trust`], remembered by [`audit`]
//! - **import** = bundle reader, opened by [`trust`] (source) → [`plan`] → [`policy`] → registry, layout or [`store`] (sink)
//!   → [`audit`]
//! - **check** = export without a sink
//! - **serve** = [`server`] over what a verified bundle holds, or over a [`store`]
//! - **verify** = import without a sink; **inspect** = what the head of a bundle says; **diff** = two plans or
//!   statements side by side
//!
//! A pipe takes the place of the bundle file on either side: what passes by in it is
//! [relayed](plan::relay()).
//!
//! In the words of the code: what is asked for is a *want*, what was decided a *plan*, what is signed a
//! *statement*, a file in the tar an *entry*, bytes with a digest a *blob*, an index or manifest a
//! *document*, a trusted key that signed a *signer*.
//!
//! What makes the central types hard to get wrong:
//!
//! | type | invariant |
//! |---|---|
//! | [`oci::Digest`] | SHA-256; made only by parsing or hashing |
//! | [`content::Reader`] | the only door from foreign bytes to trusted ones: at most `size` bytes, the end only after size and digest matched |
//! | [`plan::Plan`] | closed, each digest once, holds no content |
//! | [`bundle::Bundle`] | `Sealed` → `Trusted` → `Verified`, and only the last gives content away |
//! | [`trust::Signers`] | distinct trusted keys that verified; made only by a [`trust::Keyring`] |
//!
//! The rooms stand on floors, and use only what is below them. On the third floor nobody knows a
//! neighbour; the fourth puts them together.

#[macro_use]
mod text;

// Floor 0 · words: no input or output, no clock but one, no environment.
pub mod error;
pub mod limits;
pub mod oci;
pub mod release;
pub mod rules;

// Floor 1 · moving bytes, trusting them, and knowing all of them beforehand.
pub mod content;
pub mod plan;
pub mod trust;

// Above these · what is known of images beyond their documents.
pub mod evidence;

// Floor 2 · places and decisions.
pub mod artifact;
pub mod audit;
pub mod bundle;
pub mod docker_archive;
pub mod history;
pub mod layout;
pub mod manifest;
pub mod policy;
pub mod registry;
pub mod server;
pub mod store;

// Floor 3 · one verb, one file.
pub mod verbs;

// Floor 4 · the mouth: arguments, progress, reports; the only room that prints.
pub mod cli;
