//! Ed25519 keys in PEM files that OpenSSL 3.0 reads and writes as well: private keys as PKCS#8
//! version 1 (OpenSSL 3.0 cannot read version 2, which carries the public key), public keys as
//! SubjectPublicKeyInfo (RFC 8410).

use std::fmt;

use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes, PrivateKeyInfoRef,
    PublicKeyBytes,
};
use ed25519_dalek::{Signer as _, VerifyingKey};
use pkcs8::der::{Decode, SecretDocument, pem};
use pkcs8::pkcs5::{self, pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

/// A passphrase; wiped from memory when dropped.
pub type Passphrase = Zeroizing<String>;

/// A pure Ed25519 signature.
pub type Signature = [u8; 64];

/// The lower-hex SHA-256 of a public key's 44-byte DER SubjectPublicKeyInfo. A hint for people and
/// file names; trust never rests on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl KeyId {
    /// Parses the 64 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        Digest::from_hex(hex).map(KeyId)
    }

    /// The id of these 32 bytes.
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        KeyId::from_hex(&hex)
    }

    /// That of the key with this DER.
    pub(super) fn of_der(der: &[u8]) -> Self {
        KeyId(Digest::of(der))
    }

    /// The first 16 digits, for tables.
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0.bytes()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A public key that is fit for strict verification.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads one `PUBLIC KEY` PEM block.
    ///
    /// # Errors
    /// `KeyFormat`, saying what the text is instead; `KeyWeak` for a point of small order, which
    /// would accept forged signatures.
    pub fn from_pem(text: &str) -> Result<Self> {
        expect_label(text, &["PUBLIC KEY"])?;
        let key = VerifyingKey::from_public_key_pem(text.trim())
            .map_err(|e| key_format("not an Ed25519 public key").got(e))?;
        PublicKey::strong(key)
    }

    /// Takes the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// `KeyFormat` where they are no point of the curve; `KeyWeak`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let key =
            VerifyingKey::from_bytes(bytes).map_err(|e| key_format("not an Ed25519 public key").got(e))?;
        PublicKey::strong(key)
    }

    /// The 32 bytes of RFC 8032.
    pub fn bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    fn strong(key: VerifyingKey) -> Result<Self> {
        if key.is_weak() {
            return Err(Error::new(Kind::KeyWeak, "a public key of small order, which anybody can sign for")
                .hint("no honest tool makes such a key: find out where it comes from"));
        }
        // RFC 8032 §5.1.3: one point, one encoding; two would be two key ids.
        if key.to_edwards().compress().as_bytes() != key.as_bytes() {
            return Err(key_format("a public key that is not in its canonical form"));
        }
        Ok(PublicKey(key))
    }

    /// One `PUBLIC KEY` PEM block.
    pub fn to_pem(&self) -> Result<String> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|e| key_format("cannot encode the public key").got(e))
    }

    /// See [`KeyId`].
    pub fn id(&self) -> KeyId {
        // RFC 8410 §4: the DER of an Ed25519 SubjectPublicKeyInfo is this prefix and the 32-byte key.
        const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let mut der = PREFIX.to_vec();
        der.extend_from_slice(self.0.as_bytes());
        KeyId::of_der(&der)
    }

    /// Whether `signature` is this key's over `text`. Strict: neither malleable nor made with
    /// small-order points (`verify_strict`; plain `verify` accepts forgeries for weak keys).
    pub fn verifies(&self, text: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(text, &signature).is_ok()
    }

    /// Whether `signature` is the pre-hashed form (Ed25519ph) by this key: never accepted, but worth a hint.
    pub fn verifies_prehashed(&self, text: &[u8], signature: &Signature) -> bool {
        use sha2::Digest as _;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        let hashed = sha2::Sha512::new_with_prefix(text);
        self.0.verify_prehashed(hashed, None, &signature).is_ok()
    }
}

/// A private key. Its secret is wiped from memory when dropped, and it has no way to be printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut())
            .map_err(|e| Error::new(Kind::Io, "the system gives no random numbers").got(e))?;
        Ok(SigningKey(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Signs `text`. Deterministic: the same key and text give the same signature.
    pub fn sign(&self, text: &[u8]) -> Signature {
        self.0.sign(text).to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// A PKCS#8 PEM block, encrypted where a passphrase is given.
    pub fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>> {
        let fault = |e: &dyn fmt::Display| key_format("cannot encode the private key").got(e);
        // Without the public key: PKCS#8 version 1.
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None::<PublicKeyBytes> };
        let document = bytes.to_pkcs8_der().map_err(|e| fault(&e))?;
        let (label, document) = match passphrase {
            None => ("PRIVATE KEY", document),
            Some(passphrase) => {
                let info = PrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|e| fault(&e))?;
                let encrypted = info.encrypt_with_params(key_encryption()?, passphrase.as_bytes());
                ("ENCRYPTED PRIVATE KEY", encrypted.map_err(|e| fault(&e))?)
            }
        };
        document.to_pem(label, LineEnding::LF).map_err(|e| fault(&e))
    }

    /// Reads a PKCS#8 PEM block; `passphrase` is called only where the key is encrypted.
    ///
    /// # Errors
    /// `KeyFormat` saying what the text is instead; `KeyDecrypt` for a wrong passphrase.
    pub fn from_pem(text: &str, passphrase: impl FnOnce() -> Result<Passphrase>) -> Result<Self> {
        let label = expect_label(text, &["PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])?;
        let (_, document) =
            SecretDocument::from_pem(text.trim()).map_err(|e| key_format("a damaged PEM block").got(e))?;
        let document = match label {
            "PRIVATE KEY" => document,
            _ => decrypt(&document, passphrase)?,
        };
        let key = ed25519_dalek::SigningKey::from_pkcs8_der(document.as_bytes())
            .map_err(|e| key_format("not an Ed25519 private key").got(e))?;
        Ok(SigningKey(key))
    }
}

fn decrypt(
    document: &SecretDocument,
    passphrase: impl FnOnce() -> Result<Passphrase>,
) -> Result<SecretDocument> {
    let info = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes())
        .map_err(|e| key_format("not an encrypted private key").got(e))?;
    check_cost(&info.encryption_algorithm)?;
    info.decrypt(passphrase()?.as_bytes()).map_err(|_| {
        Error::new(Kind::KeyDecrypt, "the passphrase does not open the private key")
            .hint("try the passphrase again")
    })
}

/// A key file names the work that opening it takes; a hostile one must not name too much.
fn check_cost(scheme: &pkcs5::EncryptionScheme) -> Result<()> {
    let too_much = || {
        Err(key_format("opening the private key would take too much memory or time")
            .hint("encrypt it again: openssl pkcs8 -topk8 -scrypt"))
    };
    let Some(parameters) = scheme.pbes2() else {
        return Err(
            key_format("encrypted in an outdated way (PBES1)").hint("encrypt it again: openssl pkcs8 -topk8")
        );
    };
    match &parameters.kdf {
        pbes2::Kdf::Scrypt(scrypt) => {
            let block = u64::from(scrypt.block_size) * 128;
            let sound = scrypt.cost_parameter.is_power_of_two() && scrypt.cost_parameter > 1;
            let memory = scrypt.cost_parameter.saturating_mul(block);
            let work = memory.saturating_mul(u64::from(scrypt.parallelization));
            if !sound || memory > limits::KDF_MEMORY || work > 16 * limits::KDF_MEMORY {
                return too_much();
            }
        }
        pbes2::Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count > limits::KDF_ITERATIONS => return too_much(),
        _ => {}
    }
    Ok(())
}

/// scrypt N = 2^14, r = 8, p = 8 and AES-256-CBC: the strongest that OpenSSL 3.0 opens with its
/// default memory limit of 32 MiB.
fn key_encryption() -> Result<pbes2::Parameters> {
    let mut salt = [0u8; 16];
    let mut iv = [0u8; 16];
    let random = getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut iv));
    random.map_err(|e| Error::new(Kind::Io, "the system gives no random numbers").got(e))?;
    let cost = scrypt::Params::new(14, 8, 8).map_err(|e| key_format("bad key-derivation cost").got(e))?;
    pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .map_err(|e| key_format("bad key-encryption parameters").got(e))
}

fn key_format(what: &str) -> Error {
    Error::new(Kind::KeyFormat, what)
}

/// The label of the only PEM block in `text`, which must be one of `wanted`.
fn expect_label<'a>(text: &'a str, wanted: &[&str]) -> Result<&'a str> {
    let want = wanted.join(" or ");
    let wrong = |what: &str| key_format(what).expected(format_args!("one PEM block, {want}"));
    let body = text.trim();
    if body.matches("-----BEGIN ").count() > 1 {
        return Err(wrong("more than one key in the file").hint("one key per file"));
    }
    let label = pem::decode_label(body.as_bytes()).map_err(|_| wrong("not a PEM file"))?;
    if wanted.contains(&label) {
        return Ok(label);
    }
    let what = match label {
        "PUBLIC KEY" => "a public key where a private one is needed",
        "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => "a private key where a public one is needed",
        "CERTIFICATE" => "a certificate, not a key",
        "RSA PRIVATE KEY" | "RSA PUBLIC KEY" | "EC PRIVATE KEY" => "not an Ed25519 key",
        "OPENSSH PRIVATE KEY" => "an OpenSSH key; sealift takes PKCS#8",
        _ => "not a key that sealift knows",
    };
    Err(wrong(what)
        .got(format_args!("{label:?}"))
        .hint("sealift key new makes a pair; so does openssl genpkey -algorithm ed25519"))
}
