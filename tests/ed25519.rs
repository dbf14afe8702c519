//! The edge cases of Ed25519: keys and signatures that no honest tool makes and that readers disagree about.
//! They are made here, by arithmetic on the curve; `SEALIFT_CCTV=FILE` adds published ones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::IsIdentity;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::Verifier;
use sealift::error::{Kind, Result};
use sealift::trust::PublicKey;
use sha2::{Digest, Sha512};

const TEXT: &[u8] = b"sums";

/// A public key file with these bytes as its point (RFC 8410 §4).
fn pem(point: &[u8; 32]) -> String {
    const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = STANDARD.encode([&PREFIX[..], point].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

fn key(point: &[u8; 32]) -> Result<PublicKey> {
    PublicKey::from_pem(&pem(point))
}

/// The whole verdict: a key that is taken, and a signature that verifies with it.
fn accepted(point: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
    key(point).is_ok_and(|key| key.verifies(text, signature))
}

/// What a reader says that does not look for edge cases.
fn lax(point: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    ed25519_dalek::VerifyingKey::from_bytes(point).is_ok_and(|key| key.verify(text, &signature).is_ok())
}

/// RFC 8032 §5.1.7 as it is written: with the cofactor, whatever the encodings.
fn cofactored(point: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
    let decoded = |bytes: &[u8]| CompressedEdwardsY::from_slice(bytes).unwrap().decompress();
    let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(signature[32..].try_into().unwrap()));
    let (Some(a), Some(r), Some(s)) = (decoded(point), decoded(&signature[..32]), s) else { return false };
    let k = challenge(&signature[..32], point, text);
    (ED25519_BASEPOINT_POINT * s - r - a * k).mul_by_cofactor().is_identity()
}

fn challenge(r: &[u8], a: &[u8; 32], text: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r).chain_update(a).chain_update(text).finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

/// A scalar that is somebody's secret.
fn secret(seed: u64) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&Sha512::digest(seed.to_le_bytes()).into())
}

/// A signature with these points in these encodings: right but for what they have of low order.
fn signature(a: Scalar, point: &[u8; 32], r: Scalar, r_bytes: &[u8; 32], text: &[u8]) -> [u8; 64] {
    let s = r + challenge(r_bytes, point, text) * a;
    [*r_bytes, s.to_bytes()].concat().try_into().unwrap()
}

fn encoded(point: &EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

/// `number` added to a little-endian number of 256 bits; none where it does not fit.
fn plus(bytes: &[u8; 32], number: &[u8; 32]) -> Option<[u8; 32]> {
    let (mut sum, mut carry) = ([0; 32], 0);
    for (place, (a, b)) in sum.iter_mut().zip(bytes.iter().zip(number)) {
        let digit = u16::from(*a) + u16::from(*b) + carry;
        (*place, carry) = (digit as u8, digit >> 8);
    }
    (carry == 0).then_some(sum)
}

/// 2^255 − 19.
fn prime() -> [u8; 32] {
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    prime
}

/// Every way to write a point down that decoders read it from, the canonical one first: with y or y + p, and
/// with either sign where x is 0.
fn encodings(point: &EdwardsPoint) -> Vec<[u8; 32]> {
    let canonical = encoded(point);
    let mut y = canonical;
    y[31] &= 0x7f;
    let larger = plus(&y, &prime()).filter(|sum| sum[31] & 0x80 == 0);
    let mut all = vec![canonical];
    for y in [Some(y), larger].into_iter().flatten() {
        for sign in [0, 0x80] {
            let mut bytes = y;
            bytes[31] |= sign;
            let same = CompressedEdwardsY(bytes).decompress().is_some_and(|decoded| decoded == *point);
            if same && !all.contains(&bytes) {
                all.push(bytes);
            }
        }
    }
    all
}

/// All points of low order in all encodings; whether each is canonical.
fn low_order() -> Vec<([u8; 32], bool)> {
    let all = EIGHT_TORSION.iter().flat_map(|point| {
        encodings(point).into_iter().enumerate().map(|(number, bytes)| (bytes, number == 0))
    });
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 14, "8 points; 6 of them have another encoding");
    all
}

#[test]
fn an_honest_signature_is_accepted_and_nothing_near_it() {
    let (a, r) = (secret(1), secret(2));
    let (point, r_bytes) = (encoded(&(ED25519_BASEPOINT_POINT * a)), encoded(&(ED25519_BASEPOINT_POINT * r)));
    let honest = signature(a, &point, r, &r_bytes, TEXT);
    assert!(accepted(&point, TEXT, &honest));
    assert!(!accepted(&point, b"other sums", &honest));
    for bit in 0..512 {
        let mut near = honest;
        near[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepted(&point, TEXT, &near), "bit {bit}");
    }
}

#[test]
fn keys_of_low_order_are_refused_in_every_encoding() {
    let mut forged = 0;
    for (point, canonical) in low_order() {
        let error = key(&point).err().unwrap();
        // One encoding of the identity is no point at all to the decoder of keys.
        assert!(matches!(error.kind(), Kind::KeyWeak | Kind::KeyFormat), "{point:02x?}: {error}");
        assert!(!canonical || error.kind() == Kind::KeyWeak, "{point:02x?}: {error}");
        // Without a secret, somebody signs anything: S·B = R, and A adds nothing.
        let r = secret(3);
        for number in 0..16u8 {
            let text = [TEXT, &[number]].concat();
            let forgery = signature(Scalar::ZERO, &point, r, &encoded(&(ED25519_BASEPOINT_POINT * r)), &text);
            assert!(cofactored(&point, &text, &forgery));
            assert!(!accepted(&point, &text, &forgery));
            forged += u32::from(lax(&point, &text, &forgery));
        }
    }
    assert!(forged > 14, "a lax reader is forged for: {forged} of 224");
    eprintln!(
        "keys of low order: 14 encodings refused; a lax reader accepts {forged} of 224 forgeries, sealift 0"
    );
}

#[test]
fn signatures_with_a_point_of_low_order_are_refused_in_every_encoding() {
    let a = secret(1);
    let point = encoded(&(ED25519_BASEPOINT_POINT * a));
    let (mut count, mut lax_accepts) = (0, 0);
    for (r_bytes, _) in low_order() {
        // r is 0: S says k·a, which gives the secret away and is still a signature to some.
        let signature = signature(a, &point, Scalar::ZERO, &r_bytes, TEXT);
        assert!(cofactored(&point, TEXT, &signature), "{r_bytes:02x?}");
        assert!(!accepted(&point, TEXT, &signature), "{r_bytes:02x?}");
        lax_accepts += u32::from(lax(&point, TEXT, &signature));
        count += 1;
    }
    assert_eq!((count, lax_accepts), (14, 1), "lax readers compute R and compare: the identity passes");
    // Both at once.
    for (key_bytes, _) in low_order() {
        for (r_bytes, _) in low_order() {
            let signature = signature(Scalar::ZERO, &key_bytes, Scalar::ZERO, &r_bytes, TEXT);
            assert!(cofactored(&key_bytes, TEXT, &signature));
            assert!(!accepted(&key_bytes, TEXT, &signature));
            count += 1;
        }
    }
    eprintln!("R of low order: {count} signatures refused");
}

/// Keys and signatures with a part of low order beside an honest one cannot be told from honest ones by looking.
/// Verification without the cofactor takes them only where these parts cancel out.
#[test]
fn parts_of_low_order_must_cancel_out() {
    let (a, r) = (secret(1), secret(2));
    let (mut taken, mut refused) = (0, 0);
    for key_part in EIGHT_TORSION {
        let point = encoded(&(ED25519_BASEPOINT_POINT * a + key_part));
        assert!(key(&point).is_ok(), "of large order");
        for r_part in EIGHT_TORSION {
            let r_bytes = encoded(&(ED25519_BASEPOINT_POINT * r + r_part));
            for number in 0..32u8 {
                let text = [TEXT, &[number]].concat();
                let signature = signature(a, &point, r, &r_bytes, &text);
                let residue = r_part + key_part * challenge(&r_bytes, &point, &text);
                assert!(cofactored(&point, &text, &signature));
                assert_eq!(accepted(&point, &text, &signature), residue.is_identity());
                assert_eq!(lax(&point, &text, &signature), residue.is_identity());
                match residue.is_identity() {
                    true => taken += 1,
                    false => refused += 1,
                }
            }
        }
    }
    assert!(taken > 32 && refused > 1000, "{taken} {refused}");
    eprintln!(
        "parts of low order: {refused} signatures with a residue refused, {taken} without one accepted"
    );
}

#[test]
fn a_signature_has_one_s() {
    // The order of the base point, L (RFC 8032 §5.1).
    let mut order = (-Scalar::ONE).to_bytes();
    order[0] += 1;
    let (a, r) = (secret(1), secret(2));
    let (point, r_bytes) = (encoded(&(ED25519_BASEPOINT_POINT * a)), encoded(&(ED25519_BASEPOINT_POINT * r)));
    let honest = signature(a, &point, r, &r_bytes, TEXT);
    let half = |s: &[u8; 32]| -> [u8; 64] { [r_bytes, *s].concat().try_into().unwrap() };
    let mut s: [u8; 32] = honest[32..].try_into().unwrap();
    let mut count = 0;
    while let Some(larger) = plus(&s, &order) {
        assert!(!accepted(&point, TEXT, &half(&larger)), "S + {} L", count + 1);
        (s, count) = (larger, count + 1);
    }
    assert_eq!(count, 15, "2^256 has room for so many");
    for bits in 1..8u8 {
        let mut high = honest;
        high[63] |= bits << 5;
        assert!(!accepted(&point, TEXT, &high), "high bits {bits:03b}");
        count += 1;
    }
    // The smallest that is too large, and a few that are nothing but large.
    for s in [order, [0xff; 32], prime()] {
        assert!(!accepted(&point, TEXT, &half(&s)));
        count += 1;
    }
    eprintln!("S out of range: {count} signatures refused");
}

/// Points of large order have other encodings too, where y is below 19. Whose they are nobody knows; but one key
/// must not have two ids.
#[test]
fn keys_in_other_encodings_are_refused() {
    let (mut count, mut canonical) = (0, 0);
    for y in 0..19u8 {
        for sign in [0, 0x80] {
            let mut small = [0; 32];
            (small[0], small[31]) = (y, sign);
            let Some(point) = CompressedEdwardsY(small).decompress() else { continue };
            if point.is_small_order() {
                continue;
            }
            assert!(key(&small).is_ok(), "y = {y}");
            canonical += 1;
            for other in encodings(&point).into_iter().skip(1) {
                let error = key(&other).err();
                assert!(error.is_some_and(|error| error.kind() == Kind::KeyFormat), "y = p + {y}");
                count += 1;
            }
        }
    }
    assert!(count > 0 && count == canonical, "{count} of {canonical}");
    eprintln!("keys of large order in another encoding: {count} refused, {canonical} canonical ones taken");
}

/// Flags in the spelling of the published sets: `low_order_A` is `LowOrderA`.
fn flag(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "")
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<_> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// C2SP's vectors (CCTV, `ed25519vectors.json`), or the older set that they grew out of.
#[test]
fn published_vectors_get_the_strict_verdict() {
    let Some(path) = std::env::var_os("SEALIFT_CCTV") else {
        eprintln!(
            "skipped: SEALIFT_CCTV names no file of vectors (c2sp.org/CCTV/ed25519, ed25519vectors.json)"
        );
        return;
    };
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |vector: &serde_json::Value, name: &str| vector[name].as_str().map(str::to_owned);
    let mut table: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    let (mut total, mut wrong) = ([0, 0], Vec::new());
    for (number, vector) in vectors.as_array().unwrap().iter().enumerate() {
        let any = |names: [&str; 2]| names.into_iter().find_map(|name| text(vector, name));
        let point = bytes(&any(["key", "A"]).unwrap());
        let parts = || format!("{}{}", text(vector, "R").unwrap(), text(vector, "S").unwrap());
        let signature = bytes(&text(vector, "sig").unwrap_or_else(parts));
        let message = any(["msg", "M"]).unwrap();
        let flags = vector.get("flags").unwrap_or(&vector["Flags"]).as_array();
        let flags: Vec<_> = flags.into_iter().flatten().map(|name| flag(name.as_str().unwrap())).collect();
        let taken = accepted(&point, message.as_bytes(), &signature);
        let strict =
            ["lowordera", "loworderr", "noncanonicala", "noncanonicalr", "loworderresidue", "reencodedk"];
        let expected = !flags.iter().any(|flag| strict.contains(&flag.as_str()));
        if taken != expected {
            wrong.push(format!("{number} {flags:?}: accepted {taken}"));
        }
        total[usize::from(taken)] += 1;
        for class in flags.iter().map(String::as_str).chain(flags.is_empty().then_some("none")) {
            table.entry(class.to_owned()).or_default()[usize::from(taken)] += 1;
        }
    }
    for (class, [refused, taken]) in &table {
        eprintln!("{class:24} refused {refused:4} accepted {taken:4}");
    }
    eprintln!("{:24} refused {:4} accepted {:4}", "all", total[0], total[1]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(total[0] > 0 && total[1] > 0, "a set with both");
}
