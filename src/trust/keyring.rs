//! The trust store: a directory of public keys, one PEM file each. Whoever puts a file there says
//! "I trust bundles that this key signed". An empty store trusts nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use walkdir::WalkDir;

use super::{KeyId, PublicKey, Signature};
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;

/// The keys that are trusted.
pub struct Keyring {
    place: String,
    keys: Vec<(PublicKey, String)>,
}

/// A trusted key that signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The key's id.
    pub id: KeyId,
    /// The name of its file in the trust store, without the ending.
    pub name: String,
}

/// The distinct trusted keys that signed one text; at least one.
#[derive(Clone, Debug)]
pub struct Signers(Vec<Signer>);

impl Signers {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter()
    }
}

impl Keyring {
    /// Reads every `*.pem` file in `directory`.
    ///
    /// # Errors
    /// `TrustStore` where the directory is missing, empty, a link, writable by others, or holds a
    /// file that is not a fit public key: nothing is skipped, because a key that somebody believes
    /// to be in force must not silently not be.
    pub fn load(directory: &Path) -> Result<Self> {
        let place = directory.display().to_string();
        check_directory(directory, &place)?;
        let mut keys: Vec<(PublicKey, String)> = Vec::new();
        for entry in WalkDir::new(directory).min_depth(1).max_depth(1).sort_by_file_name() {
            let entry = entry.map_err(|e| store("cannot read the trust store").at(&place).got(e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "trust.toml" {
                return Err(store("the trust store has rules that this version does not know")
                    .at(entry.path().display())
                    .hint("use a version of sealift that reads trust.toml"));
            }
            let Some(stem) = name.strip_suffix(".pem") else { continue };
            let key = load_key(entry.path())?;
            if keys.len() >= limits::TRUSTED_KEYS {
                return Err(store("too many keys in the trust store").at(&place));
            }
            if !keys.iter().any(|(known, _)| *known == key) {
                keys.push((key, stem.trim_end_matches(".pub").to_owned()));
            }
        }
        if keys.is_empty() {
            return Err(store("the trust store holds no key, so nothing can be trusted").at(&place).hint(
                "copy the release team's public key (….pub.pem) into it, after checking its key id with them",
            ));
        }
        Ok(Keyring { place, keys })
    }

    /// The keys that signed `text`.
    ///
    /// # Errors
    /// `SignatureMissing` where there is no signature at all; `SignatureUntrusted` where none is by
    /// a key of this ring, or where one is named after such a key but is not its.
    pub fn signers(&self, text: &[u8], signatures: &[(KeyId, Signature)]) -> Result<Signers> {
        if signatures.is_empty() {
            return Err(Error::new(Kind::SignatureMissing, "the bundle is not signed")
                .expected("a signature by a key of the trust store")
                .hint("have the release team sign it; a detached signature goes beside it as BUNDLE.<key-id>.sig"));
        }
        let mut signers = Vec::new();
        for (key, name) in &self.keys {
            let id = key.id();
            let wrong = signatures.iter().find(|(named, s)| *named == id && !key.verifies(text, s));
            if let Some((_, signature)) = wrong {
                return Err(wrong_signature(key, name, text, signature));
            }
            if signatures.iter().any(|(_, s)| key.verifies(text, s)) {
                signers.push(Signer { id, name: name.clone() });
            }
        }
        match signers.is_empty() {
            true => Err(self.untrusted(signatures)),
            false => Ok(Signers(signers)),
        }
    }

    fn untrusted(&self, signatures: &[(KeyId, Signature)]) -> Error {
        let list = |ids: Vec<String>| ids.join(", ");
        Error::new(Kind::SignatureUntrusted, "not signed by any key of the trust store")
            .got(format_args!("signatures that name {}", list(signatures.iter().map(|(id, _)| id.to_string()).collect())))
            .expected(format_args!(
                "one of {} (in {})",
                list(self.keys.iter().map(|(key, name)| format!("{} {name}", key.id())).collect()),
                self.place
            ))
            .hint("ask the release team for the key id they sign with, over another channel; add its public key only if it matches")
    }
}

fn wrong_signature(key: &PublicKey, name: &str, text: &[u8], signature: &Signature) -> Error {
    let error = Error::new(Kind::SignatureUntrusted, "a signature does not match the bundle")
        .got(format_args!("a signature that names the trusted key {} ({name})", key.id()));
    if key.verifies_prehashed(text, signature) {
        return error.hint("this is an Ed25519ph signature (cosign makes them for its transparency log); sign again in pure Ed25519");
    }
    error.hint("the sums or the signature were changed after signing: get the bundle again from its origin")
}

fn store(what: &str) -> Error {
    Error::new(Kind::TrustStore, what)
}

fn check_directory(directory: &Path, place: &str) -> Result<()> {
    let facts = std::fs::symlink_metadata(directory).map_err(|e| {
        store("there is no trust store")
            .at(place)
            .got(e)
            .hint(format_args!(
            "install -d -m 0755 {place}, and copy the release team's .pub.pem into it; or name another directory with --trust"
        ))
    })?;
    if !facts.is_dir() {
        return Err(store("the trust store is not a directory of its own")
            .at(place)
            .hint("--trust names a directory of public keys, not a file and not a link"));
    }
    refuse_writable(&facts, place)
}

fn refuse_writable(facts: &std::fs::Metadata, place: &str) -> Result<()> {
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(store("others can change what is trusted")
            .at(place)
            .got(format_args!("mode {mode:04o}"))
            .expected("writable by its owner only")
            .hint(format_args!("chmod go-w {place}")));
    }
    Ok(())
}

fn load_key(path: &Path) -> Result<PublicKey> {
    let place = path.display().to_string();
    // The path itself may be a link (a mounted secret is); what it leads to must not be writable.
    let (bytes, facts) = file::read_with_facts(path, "a key of the trust store", limits::KEY_FILE)?;
    refuse_writable(&facts, &place)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| store("not a PEM file").at(&place))?;
    PublicKey::from_pem(text).map_err(|e| match e.kind() {
        Kind::KeyWeak => e.at(&place),
        _ => store("a key of the trust store is not usable").at(&place).got(e.sentence()).hint(
            "a trust store holds public keys and nothing else that ends in .pem; private keys stay with those who sign",
        ),
    })
}
