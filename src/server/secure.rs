//! Certificates: one that is given, or one that is made for the purpose, under an authority of its
//! own that people install where they pull.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

/// A certificate with its key, in PEM form.
pub struct Certificate {
    /// The certificate, and those above it.
    pub chain: String,
    /// Its private key.
    key: zeroize::Zeroizing<String>,
    /// The authority that signed it, where it was made here.
    pub authority: Option<String>,
}

impl Certificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// `KeyPerms` where others may read the key.
    pub fn load(chain: &Path, key: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let text = |bytes: Vec<u8>, path: &Path| {
            String::from_utf8(bytes).map_err(|_| Error::new(Kind::Usage, "not a PEM file").at(path.display()))
        };
        let certificates = file::read_small(chain, "the certificate", limits::CERTIFICATES)?;
        let (bytes, facts) = file::read_with_facts(key, "the certificate's key", limits::KEY_FILE)?;
        let mode = facts.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(Error::new(Kind::KeyPerms, "everybody may read the certificate's key")
                .at(key.display())
                .got(format_args!("mode {mode:04o}"))
                .hint(format_args!("chmod o-rwx {}", key.display())));
        }
        let key = zeroize::Zeroizing::new(text(bytes, key)?);
        Ok(Certificate { chain: text(certificates, chain)?, key, authority: None })
    }

    /// Makes an authority, and a certificate under it for these host names and addresses.
    pub fn make(hosts: &[String]) -> Result<Self> {
        let failed = |e: rcgen::Error| Error::new(Kind::Io, "cannot make a certificate").got(e);
        let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.distinguished_name.push(DnType::CommonName, "sealift's authority on this machine");
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate().map_err(failed)?;
        let authority_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let mut server = CertificateParams::new(hosts.to_vec()).map_err(failed)?;
        server.distinguished_name.push(DnType::CommonName, hosts.first().map_or("sealift", String::as_str));
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = server.signed_by(&key, &issuer).map_err(failed)?;
        let key = zeroize::Zeroizing::new(key.serialize_pem());
        Ok(Certificate { chain: certificate.pem(), key, authority: Some(authority_pem) })
    }

    /// The SHA-256 of the server's certificate, as browsers show it.
    pub fn fingerprint(&self) -> Result<String> {
        let first = self.certificates()?;
        let first = first.first().ok_or_else(|| Error::new(Kind::Usage, "the file holds no certificate"))?;
        let hex = Digest::of(first).hex().to_uppercase();
        let pairs = hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned());
        Ok(pairs.collect::<Vec<_>>().join(":"))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|e| Error::new(Kind::Usage, "not a certificate in PEM form").got(e))
    }

    /// What speaks TLS with it.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|e| Error::new(Kind::Usage, "not a private key in PEM form").got(e))?;
        let unusable = |e: rustls::Error| Error::new(Kind::Usage, "the certificate cannot be used").got(e);
        let certificates = self.certificates()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(unusable)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
