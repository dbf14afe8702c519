//! `inspect`: what a bundle says it holds. Reads what `verify --head` reads, and says no more than
//! that proves.

use serde::Serialize;

use crate::bundle::Statement;
use crate::trust::Signers;

/// What can be said of a bundle whose head was verified.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection<'a> {
    /// The signed statement.
    pub statement: &'a Statement,
    /// The trusted keys that signed it.
    pub signers: Vec<SignerRecord>,
    /// Bytes of the file.
    pub bytes: u64,
    /// What was checked: `head` (signature, statement, sums, length) or `all`.
    pub verified: &'static str,
}

/// A signer, as printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignerRecord {
    /// The key's id.
    pub key_id: String,
    /// Its name in the trust store.
    pub name: String,
}

/// The signers, as printed.
pub fn signer_records(signers: &Signers) -> Vec<SignerRecord> {
    signers.iter().map(|s| SignerRecord { key_id: s.id.to_string(), name: s.name.clone() }).collect()
}

/// Describes a bundle whose head was verified.
pub fn inspect<'a>(statement: &'a Statement, signers: &Signers, bytes: u64) -> Inspection<'a> {
    Inspection { statement, signers: signer_records(signers), bytes, verified: "head" }
}
