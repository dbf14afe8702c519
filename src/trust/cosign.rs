//! Signatures of container images, as cosign makes them with a key (cosign's SIGNATURE_SPEC): not what a bundle is
//! trusted for, but what it can be asked to bring along. A [`CosignKey`] is ECDSA over P-256 or pure Ed25519; what it has
//! signed is a simple-signing payload, or in a sigstore bundle a DSSE envelope with an in-toto statement. Either names the
//! digest of an image. No certificates, no transparency log: nothing here asks a network or a clock.
//!
//! Texts are parsed only after their signature was verified.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use pkcs8::der::pem;
use ring::{agreement, rand, signature};
use serde::Deserialize;

use super::key::{KeyId, PublicKey};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

/// What a layer is whose bytes are a simple-signing payload.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of such a layer that has the signature over these bytes, in base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What a layer is that holds a sigstore bundle, as cosign writes them from version 3 on.
pub const SIGSTORE_BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// `critical.type` of a payload that speaks of an image.
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// What a DSSE envelope says its payload is.
const INTOTO: &str = "application/vnd.in-toto+json";
/// The predicate of a statement that only says "signed". Others are attestations, which say something else of an image.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// What cosign says of a sigstore bundle in the annotations of its manifest: the predicate of its statement.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// Whether a manifest with these annotations may hold a signature in a sigstore bundle, and no attestation.
pub fn is_signature(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(PREDICATE).is_none_or(|kind| kind == SIGN_PREDICATE)
}

/// A public key for cosign's signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct CosignKey {
    curve: Curve,
    der: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
enum Curve {
    Ed25519(PublicKey),
    /// An uncompressed point (SEC 1 §2.3.3).
    P256([u8; 65]),
}

/// RFC 5480 §2.1.1: the DER of a P-256 SubjectPublicKeyInfo is this prefix and the uncompressed point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// RFC 8410 §4: that of an Ed25519 key is this prefix and the 32 bytes.
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a signature is to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its own.
    Made,
    /// Its own, in the pre-hashed form (Ed25519ph), which is not accepted.
    MadePrehashed,
    /// Another's, or over something else.
    Foreign,
}

impl CosignKey {
    /// Reads one `PUBLIC KEY` PEM block, as `cosign generate-key-pair` and `openssl pkey -pubout` write them.
    ///
    /// # Errors
    /// `KeyFormat`, saying what it is instead; `KeyWeak`.
    pub fn from_pem(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::KeyFormat, what)
                .expected("one PEM block, PUBLIC KEY, of an ECDSA P-256 or Ed25519 key")
                .hint("cosign public-key --key cosign.key prints it; so does openssl pkey -pubout")
        };
        let body = text.trim();
        if body.matches("-----BEGIN ").count() > 1 {
            return Err(wrong("more than one key in the file").hint("one key per file"));
        }
        let label = pem::decode_label(body.as_bytes()).map_err(|_| wrong("not a PEM file"))?;
        if label != "PUBLIC KEY" {
            let what = match label.contains("PRIVATE KEY") {
                true => "a private key where a public one is needed",
                false => "not a public key",
            };
            return Err(wrong(what).got(format_args!("{label:?}")));
        }
        let (_, der) = pem::decode_vec(body.as_bytes()).map_err(|e| wrong("a damaged PEM block").got(e))?;
        CosignKey::from_der(&der)
    }

    fn from_der(der: &[u8]) -> Result<Self> {
        let unsupported = || {
            Error::new(Kind::KeyFormat, "a kind of public key that is not verified with here")
                .expected("ECDSA over P-256 with an uncompressed point, or Ed25519")
                .hint("cosign generate-key-pair makes P-256 keys")
        };
        let curve = if let Some(point) = der.strip_prefix(&P256_PREFIX) {
            let point: [u8; 65] = point.try_into().map_err(|_| unsupported())?;
            check_point(&point)?;
            Curve::P256(point)
        } else {
            let bytes = der.strip_prefix(&ED25519_PREFIX).and_then(|bytes| bytes.try_into().ok());
            Curve::Ed25519(PublicKey::from_bytes(bytes.ok_or_else(unsupported)?)?)
        };
        Ok(CosignKey { curve, der: der.to_vec() })
    }

    /// The lower-hex SHA-256 of its DER: what `openssl pkey -pubin -outform DER | sha256sum` prints.
    pub fn id(&self) -> KeyId {
        KeyId::of_der(&self.der)
    }

    /// One `PUBLIC KEY` PEM block: always the same for the same key.
    pub fn to_pem(&self) -> Result<String> {
        pem::encode_string("PUBLIC KEY", pem::LineEnding::LF, &self.der)
            .map_err(|e| Error::new(Kind::KeyFormat, "cannot encode the public key").got(e))
    }

    /// What `signature` over `text` is to this key. ECDSA: with SHA-256, as ASN.1 DER (cosign's SIGNATURE_SPEC,
    /// "Signature Schemes"). Ed25519: pure and strict.
    pub fn proof(&self, text: &[u8], signature: &[u8]) -> Proof {
        match &self.curve {
            Curve::P256(point) => {
                let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, point);
                if key.verify(text, signature).is_ok() { Proof::Made } else { Proof::Foreign }
            }
            Curve::Ed25519(key) => match <&[u8; 64]>::try_from(signature) {
                Ok(signature) if key.verifies(text, signature) => Proof::Made,
                Ok(signature) if key.verifies_prehashed(text, signature) => Proof::MadePrehashed,
                _ => Proof::Foreign,
            },
        }
    }
}

impl fmt::Debug for CosignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.id(), f)
    }
}

/// Whether a point lies on P-256. Nothing verifies with another one, but a mistake should be heard of at once. (The
/// library looks at points only while it computes with them: so it is made to.)
fn check_point(point: &[u8; 65]) -> Result<()> {
    let random = rand::SystemRandom::new();
    let mine = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &random);
    let mine = mine.map_err(|_| Error::new(Kind::Io, "the system gives no random numbers"))?;
    let theirs = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
    agreement::agree_ephemeral(mine, &theirs, |_| ())
        .map_err(|_| Error::new(Kind::KeyFormat, "a public key that is no point of P-256"))
}

/// Something that was signed, and all its signatures: not verified, and not parsed further than that takes.
pub struct Claimed {
    signed: Vec<u8>,
    statement: Statement,
    signatures: Vec<Vec<u8>>,
}

enum Statement {
    SimpleSigning,
    /// The payload of an envelope; what is signed says its type and length, too.
    InToto(Vec<u8>),
}

impl Claimed {
    /// A simple-signing payload and the annotation with its signature.
    ///
    /// # Errors
    /// `SignatureFormat` where that is no base64.
    pub fn simple(payload: &[u8], signature: Option<&str>) -> Result<Self> {
        let signature =
            signature.ok_or_else(|| malformed(format!("a payload without the annotation {SIGNATURE}")))?;
        let signature = STANDARD.decode(signature.trim()).map_err(|e| malformed("no base64").got(e))?;
        Ok(Claimed {
            signed: payload.to_vec(),
            statement: Statement::SimpleSigning,
            signatures: vec![signature],
        })
    }

    /// A sigstore bundle (sigstore's `Bundle` message as JSON) with a DSSE envelope.
    ///
    /// # Errors
    /// `SignatureFormat` where it is none, or has no envelope with an in-toto statement.
    pub fn bundle(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Bundle {
            dsse_envelope: Option<Envelope>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope {
            payload: String,
            payload_type: String,
            signatures: Vec<Signed>,
        }
        #[derive(Deserialize)]
        struct Signed {
            sig: String,
        }
        let bundle: Bundle =
            serde_json::from_slice(bytes).map_err(|e| malformed("not a sigstore bundle").got(e))?;
        let envelope =
            bundle.dsse_envelope.ok_or_else(|| malformed("a sigstore bundle without a DSSE envelope"))?;
        if envelope.payload_type != INTOTO {
            return Err(malformed("an envelope around something else")
                .got(envelope.payload_type)
                .expected(INTOTO));
        }
        if envelope.signatures.len() > limits::SIGNATURES {
            return Err(malformed("too many signatures in one envelope")
                .got(envelope.signatures.len())
                .expected(format_args!("at most {}", limits::SIGNATURES)));
        }
        let payload = either_base64(&envelope.payload)?;
        let signatures = envelope.signatures.iter().map(|one| either_base64(&one.sig));
        Ok(Claimed {
            signed: pre_authentication(&envelope.payload_type, &payload),
            statement: Statement::InToto(payload),
            signatures: signatures.collect::<Result<_>>()?,
        })
    }

    /// How many signatures there are.
    pub fn count(&self) -> usize {
        self.signatures.len()
    }

    /// The first of these keys that made one of the signatures; else one that made it in a form that is not accepted.
    pub fn proof<'k>(&self, keys: &'k [CosignKey]) -> Option<(&'k CosignKey, Proof)> {
        let mut prehashed = None;
        for (key, signature) in keys.iter().flat_map(|key| self.signatures.iter().map(move |one| (key, one)))
        {
            match key.proof(&self.signed, signature) {
                Proof::Made => return Some((key, Proof::Made)),
                Proof::MadePrehashed => prehashed = Some((key, Proof::MadePrehashed)),
                Proof::Foreign => {}
            }
        }
        prehashed
    }

    /// The digest of the image that it speaks of; `None` where it says something else of an image than that it was
    /// signed. To be asked once a signature was verified.
    ///
    /// # Errors
    /// `SignatureFormat` where it is not of the form that it must have.
    pub fn subject(&self) -> Result<Option<Digest>> {
        match &self.statement {
            Statement::SimpleSigning => simple_signing(&self.signed).map(Some),
            Statement::InToto(payload) => in_toto(payload),
        }
    }
}

/// `critical` of a simple-signing payload; what else there is, is not looked at (containers/image,
/// "atomic container signature").
fn simple_signing(payload: &[u8]) -> Result<Digest> {
    #[derive(Deserialize)]
    struct Payload {
        critical: Critical,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Critical {
        #[serde(rename = "type")]
        kind: String,
        image: Image,
        #[allow(
            dead_code,
            reason = "it must be there, and a mirror calls an image otherwise than its maker"
        )]
        identity: Identity,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Image {
        #[serde(rename = "docker-manifest-digest")]
        digest: String,
    }
    #[derive(Deserialize)]
    struct Identity {
        #[serde(rename = "docker-reference")]
        #[allow(dead_code, reason = "as above")]
        reference: String,
    }
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|e| malformed("the signed text is not a simple-signing payload").got(e))?;
    let Critical { kind, image, .. } = payload.critical;
    // cosign 3 says in this place what it says in a statement's predicate type.
    if kind != PAYLOAD_TYPE && kind != SIGN_PREDICATE {
        return Err(malformed("the signed text is of another type").got(kind).expected(PAYLOAD_TYPE));
    }
    digest(&image.digest)
}

/// An in-toto statement with one subject (in-toto attestation framework, "Statement").
fn in_toto(payload: &[u8]) -> Result<Option<Digest>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        #[serde(rename = "_type")]
        kind: String,
        predicate_type: String,
        subject: Vec<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: Digests,
    }
    #[derive(Deserialize)]
    struct Digests {
        sha256: String,
    }
    let statement: Statement = serde_json::from_slice(payload)
        .map_err(|e| malformed("the signed text is not an in-toto statement").got(e))?;
    if !statement.kind.starts_with("https://in-toto.io/Statement/") {
        return Err(malformed("the signed text is of another type").got(statement.kind));
    }
    if statement.predicate_type != SIGN_PREDICATE {
        return Ok(None);
    }
    match statement.subject.as_slice() {
        [subject] => digest(&format!("sha256:{}", subject.digest.sha256)).map(Some),
        several => Err(malformed("a statement that is not about one image").got(several.len()).expected(1)),
    }
}

fn digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|_| malformed("the signed text does not name an image by its digest").got(text))
}

/// What is signed of an envelope (DSSE protocol, "PAE").
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

/// "Verifiers MUST accept either" (DSSE envelope, "Standard JSON envelope").
fn either_base64(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|e| malformed("no base64").got(e))
}

fn malformed(what: impl Into<String>) -> Error {
    Error::new(Kind::SignatureFormat, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(critical: &str) -> Result<Digest> {
        simple_signing(format!("{{\"critical\":{critical},\"optional\":{{\"any\":1}}}}").as_bytes())
    }

    #[test]
    fn a_payload_names_an_image_by_its_digest_or_is_refused() {
        let digest = Digest::of(b"image");
        let identity = r#""identity":{"docker-reference":""}"#;
        let image = format!("\"image\":{{\"docker-manifest-digest\":\"{digest}\"}}");
        let kind = format!("\"type\":{PAYLOAD_TYPE:?}");
        assert_eq!(payload(&format!("{{{identity},{image},{kind}}}")).unwrap(), digest);
        for critical in [
            format!("{{{identity},{image}}}"),
            format!("{{{identity},{kind}}}"),
            format!("{{{image},{kind}}}"),
            format!("{{{identity},{image},{kind},{kind}}}"),
            format!("{{{identity},{image},{image},{kind}}}"),
            format!("{{{identity},{image},\"type\":\"atomic container signature\"}}"),
            format!("{{{identity},\"image\":{{\"docker-manifest-digest\":\"sha512:00\"}},{kind}}}"),
            format!("{{{identity},{image},{kind},\"more\":1}}"),
            "[]".to_owned(),
        ] {
            assert_eq!(payload(&critical).unwrap_err().kind(), Kind::SignatureFormat, "{critical}");
        }
    }

    #[test]
    fn what_an_envelope_signs_is_its_type_and_its_payload() {
        // The protocol's own example.
        let text = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(text, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn attestations_are_no_signatures() {
        let statement = |kind: &str, subject: &str| {
            in_toto(format!(
                "{{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicateType\":{kind:?},\"subject\":[{subject}]}}"
            ).as_bytes())
        };
        let digest = Digest::of(b"image");
        let subject = format!("{{\"digest\":{{\"sha256\":\"{}\"}},\"annotations\":{{}}}}", digest.hex());
        assert_eq!(statement(SIGN_PREDICATE, &subject).unwrap(), Some(digest));
        assert_eq!(statement("https://spdx.dev/Document", &subject).unwrap(), None);
        assert!(statement(SIGN_PREDICATE, "").is_err());
        assert!(statement(SIGN_PREDICATE, &format!("{subject},{subject}")).is_err());
    }
}
