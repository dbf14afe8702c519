//! Registries: the client side of the OCI distribution API, for pulling and pushing.
//!
//! A [`Client`] belongs to the process and knows hosts: connections, logins, tokens. A [`Repository`]
//! is one of a registry's repositories, as a [`Source`](crate::content::Source) and a
//! [`Sink`](crate::content::Sink).
//!
//! In come names and descriptors, and whatever a server sends; out go documents of bounded size,
//! verified content, and errors that say which registry said what. Everything a server says is foreign:
//! - content counts by its own hash, never by a header;
//! - a login goes to the registry it belongs to, and to a token server of the same owner;
//! - nothing is followed from https to http, nor from outside to an address inside;
//! - "absent" is a 404 and nothing else: a refusal, a limit or a silence is an error;
//! - each body has a size limit and each wait a time limit.
//!
//! What may be tried again is tried again ([`retrying`](crate::content::retrying)), except for streamed
//! uploads: their content is gone after one try, so the caller comes again with a fresh reader. What the
//! registry has of it by then is verified, but not sent again. A host that is asked for too much is asked
//! for less at once.

mod auth;
mod client;
pub mod credentials;
mod download;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod link;
mod origin;
mod referrers;
mod refusal;
mod repository;
mod session;
mod transport;
mod upload;
pub mod wire;

pub use client::{Client, Options};
pub use credentials::Keychain;
pub use repository::Repository;
