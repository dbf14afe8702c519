//! `inspect`: what a bundle says it holds. Reads what `verify --head` reads, and says no more than
//! that proves.

use serde::Serialize;

use crate::bundle::{Bundle, Statement, Trusted};

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
pub fn signer_records(signers: &crate::trust::Signers) -> Vec<SignerRecord> {
    signers.iter().map(|s| SignerRecord { key_id: s.id.to_string(), name: s.name.clone() }).collect()
}

/// Describes a bundle.
pub fn inspect(bundle: &Bundle<Trusted>) -> Inspection<'_> {
    Inspection {
        statement: bundle.statement(),
        signers: signer_records(bundle.signers()),
        bytes: bundle.length(),
        verified: "head",
    }
}
