//! Content digests. Only SHA-256: a `sha512` blob path does not fit the tar profile of a bundle,
//! and no image in common use needs one, so such content is refused by name.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};

/// A SHA-256 digest; made only by parsing `sha256:<64 lower hex>` or by hashing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The 64 lower-case hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        use fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Parses 64 lower-case hex digits. Upper case is refused: two spellings of one digest would
    /// be two file names.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut bytes = [0u8; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = (nibble(high)? << 4) | nibble(low)?;
        }
        Some(Digest(bytes))
    }

    /// The blob's path in an OCI image layout (image-layout.md, "Blobs").
    pub fn blob_path(&self) -> String {
        format!("blobs/sha256/{}", self.hex())
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// image-spec descriptor.md, "Digests": `digest ::= algorithm ":" encoded`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(Kind::DigestInvalid, "not a usable digest").got(text);
        let Some((algorithm, encoded)) = text.split_once(':') else {
            return Err(wrong().expected("sha256:<64 lower-case hex digits>"));
        };
        if algorithm != "sha256" {
            return Err(wrong()
                .expected("the algorithm sha256")
                .hint("sealift carries sha256 content only: push the image again with sha256 digests"));
        }
        Digest::from_hex(encoded).ok_or_else(|| wrong().expected("sha256:<64 lower-case hex digits>"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

as_text! { Digest: "a sha256 digest (sha256:<64 lower-case hex digits>)" }

/// Hashes bytes as they pass.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was taken.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
