//! Keys, signatures and the one place that says "trusted". Signatures are pure Ed25519 (RFC 8032)
//! over the bytes of `bundle/SHA256SUMS`; a [`Keyring`] holds the public keys somebody chose to
//! trust, and the rules about them. [`Proven`] are the distinct keys that really signed a text,
//! [`Signers`] those of them that may sign what the text turned out to be; both can be made nowhere
//! else. A [`License`] is signed by keys that sign nothing else. [`Minisig`] is another program's form of the same signatures,
//! a [`CosignKey`] another program's key for signatures of images: it says nothing about bundles.

pub mod cosign;
mod key;
mod keyring;
mod license;
mod minisign;
mod root;
mod rules;

pub use cosign::CosignKey;
pub use key::{KeyId, Passphrase, PublicKey, Signature, SigningKey};
pub use keyring::{Claim, Keyring, Listed, Proven, Signer, Signers};
pub use license::{Grant, License, SealedLicense};
pub use minisign::{Minisig, minisign_key, read_minisign_key};
pub use root::Root;
pub use rules::{Bearer, Quorum, RULES, Rule, Rules};
