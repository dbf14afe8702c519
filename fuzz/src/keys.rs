//! Key files: PEM text, or DER that is put into PEM here, which mutations get further with.

use pkcs8::der::pem::{LineEnding, encode_string};
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{EncryptedPrivateKeyInfoRef, pkcs5::EncryptionScheme};
use sealift::error::{Error, Kind, Result};
use sealift::trust::{Passphrase, PublicKey, SigningKey};

use crate::words::is_sound;

/// The labels that a DER document is tried under, chosen by the input's first byte.
const LABELS: [&str; 3] = ["PUBLIC KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];

/// What seeds are encrypted with.
pub const PASSPHRASE: &str = "fuzz";

/// A first byte below 3 says that DER follows; everything else is text.
pub fn keys(bytes: &[u8]) {
    let text = match bytes.split_first() {
        Some((label, der)) if usize::from(*label) < LABELS.len() => {
            encode_string(LABELS[usize::from(*label)], LineEnding::LF, der).expect("PEM")
        }
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
    };
    public(&text);
    private(&text);
}

/// A key that is accepted is written so that it is read as the same again, and is not weak.
fn public(text: &str) {
    let key = match PublicKey::from_pem(text) {
        Ok(key) => key,
        Err(error) => return is_sound(&error),
    };
    let pem = key.to_pem().expect("a PEM block");
    let again = PublicKey::from_pem(&pem).expect("its own PEM block");
    assert!(again == key && again.id() == key.id() && again.to_pem().expect("a PEM block") == pem);
    // With a key of small order, this would be a signature over anything (RFC 8032, cofactored).
    let mut identity = [0; 64];
    identity[0] = 1;
    assert!(!key.verifies(b"anything", &identity));
}

fn private(text: &str) {
    let key = match SigningKey::from_pem(text, || passphrase(text)) {
        Ok(key) => key,
        Err(error) => return is_sound(&error),
    };
    let pem = key.to_pem(None).expect("a PEM block");
    let again = SigningKey::from_pem(&pem, || panic!("not encrypted")).expect("its own PEM block");
    assert!(again.public() == key.public());
    assert!(key.public().verifies(b"text", &again.sign(b"text")));
    // A key is no public key, and the other way round.
    assert!(PublicKey::from_pem(&pem).is_err());
}

/// Asked for only after the work that the file asks for was found bearable; given only where it is so little
/// that a fuzzer has the time.
fn passphrase(text: &str) -> Result<Passphrase> {
    let (_, document) = SecretDocument::from_pem(text.trim()).expect("it was read before");
    let info = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes()).expect("it was read before");
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
        panic!("PBES1 was let through")
    };
    let little = match &parameters.kdf {
        Kdf::Scrypt(scrypt) => {
            let memory = u128::from(scrypt.cost_parameter) * u128::from(scrypt.block_size) * 128;
            assert!(memory <= 256 << 20, "{memory} bytes of memory");
            assert!(memory * u128::from(scrypt.parallelization) <= 4 << 30, "too much work");
            memory * u128::from(scrypt.parallelization) <= 1 << 20
        }
        Kdf::Pbkdf2(pbkdf2) => {
            assert!(pbkdf2.iteration_count <= 10_000_000, "{} rounds", pbkdf2.iteration_count);
            pbkdf2.iteration_count <= 1000
        }
        _ => panic!("an unknown way was let through"),
    };
    match little {
        true => Ok(Passphrase::new(PASSPHRASE.to_owned())),
        false => Err(Error::new(Kind::KeyDecrypt, "too much work for a fuzzer")),
    }
}
