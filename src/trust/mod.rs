//! Keys, signatures and the one place that says "trusted". Signatures are pure Ed25519 (RFC 8032)
//! over the bytes of `bundle/SHA256SUMS`; a [`Keyring`] holds the public keys somebody chose to
//! trust; [`Signers`] are the distinct keys that really signed, and can be made nowhere else.

mod key;
mod keyring;

pub use key::{KeyId, Passphrase, PublicKey, Signature, SigningKey};
pub use keyring::{Keyring, Signer, Signers};
