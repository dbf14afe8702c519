//! The form in which minisign writes keys and signatures: four lines of text. Its legacy algorithm
//! `Ed` is pure Ed25519 over the file, so the signature in it is the one that sealift makes itself;
//! a second signature covers the first and a comment. The pre-hashed algorithm `ED` signs something
//! else (a BLAKE2b hash) and is not accepted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Claim, PublicKey, Signature, SigningKey};
use crate::error::{Error, Kind, Result};

/// A signature file of minisign's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minisig {
    /// The signature over the text.
    signature: Signature,
    /// Eight bytes by which minisign tells keys from one another.
    key_number: [u8; 8],
    /// A comment, signed together with the signature.
    comment: String,
    /// The signature over signature and comment.
    both: Signature,
}

const PURE: [u8; 2] = *b"Ed";
const PREHASHED: [u8; 2] = *b"ED";
const COMMENT: &str = "trusted comment: ";

impl Minisig {
    /// Signs `text`; the comment is signed with it.
    pub fn make(key: &SigningKey, text: &[u8], comment: &str) -> Self {
        let signature = key.sign(text);
        let both = key.sign(&covered(&signature, comment));
        Minisig { signature, key_number: key_number(&key.public()), comment: comment.to_owned(), both }
    }

    /// The file's text.
    pub fn encode(&self) -> String {
        let mut first = PURE.to_vec();
        first.extend(self.key_number);
        first.extend(self.signature);
        format!(
            "untrusted comment: pure Ed25519, made by sealift\n{}\n{COMMENT}{}\n{}\n",
            STANDARD.encode(first),
            self.comment,
            STANDARD.encode(self.both)
        )
    }

    /// Whether a file looks like one.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(b"untrusted comment:")
    }

    /// Reads a signature file.
    ///
    /// # Errors
    /// `SignatureFormat`, with a hint where the signature is of the pre-hashed kind.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::SignatureFormat, what.to_owned()).expected("a .minisig of four lines")
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("not a signature file of minisign's"))?;
        let [_, first, comment, both] = text.lines().collect::<Vec<_>>()[..] else {
            return Err(wrong("not a signature file of minisign's"));
        };
        let bytes = STANDARD.decode(first).map_err(|_| wrong("the second line is not base64"))?;
        let (algorithm, rest) =
            bytes.split_first_chunk::<2>().ok_or_else(|| wrong("the signature is too short"))?;
        let (key_number, signature) =
            rest.split_first_chunk::<8>().ok_or_else(|| wrong("the signature is too short"))?;
        if *algorithm == PREHASHED {
            return Err(wrong("a pre-hashed signature").hint("sign in the legacy form: minisign -S -l"));
        }
        if *algorithm != PURE {
            return Err(wrong("an algorithm that sealift does not know"));
        }
        let both = STANDARD.decode(both).map_err(|_| wrong("the last line is not base64"))?;
        Ok(Minisig {
            signature: signature.try_into().map_err(|_| wrong("the signature does not have 64 bytes"))?,
            key_number: *key_number,
            comment: comment.strip_prefix(COMMENT).ok_or_else(|| wrong("no trusted comment"))?.to_owned(),
            both: both.try_into().map_err(|_| wrong("the last signature does not have 64 bytes"))?,
        })
    }

    /// What it claims of a key: that it made both signatures.
    pub fn claim(self, id: super::KeyId) -> Claim {
        let covered = covered(&self.signature, &self.comment);
        Claim { id, signature: self.signature, also: Some((covered, self.both)), file: None }
    }
}

fn covered(signature: &Signature, comment: &str) -> Vec<u8> {
    [signature.as_slice(), comment.as_bytes()].concat()
}

/// minisign's are random; here they follow from the key, so that the same key always has the same.
fn key_number(key: &PublicKey) -> [u8; 8] {
    let id = key.id().bytes();
    id.first_chunk::<8>().copied().unwrap_or_default()
}

/// A public key as minisign and signify take it: two lines.
pub fn minisign_key(key: &PublicKey) -> String {
    let mut bytes = PURE.to_vec();
    bytes.extend(key_number(key));
    bytes.extend(key.bytes());
    format!("untrusted comment: Ed25519 public key {}\n{}\n", key.id(), STANDARD.encode(bytes))
}

/// Reads a public key of minisign's or signify's.
///
/// # Errors
/// `KeyFormat`, `KeyWeak`.
pub fn read_minisign_key(text: &str) -> Result<PublicKey> {
    let wrong = || Error::new(Kind::KeyFormat, "not a public key of minisign's");
    let line = text.lines().nth(1).ok_or_else(wrong)?;
    let bytes = STANDARD.decode(line.trim()).map_err(|_| wrong())?;
    let key = bytes.strip_prefix(&PURE).and_then(|rest| rest.get(8..)).ok_or_else(wrong)?;
    PublicKey::from_bytes(key.try_into().map_err(|_| wrong())?)
}
