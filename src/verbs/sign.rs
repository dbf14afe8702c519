//! `sign`: a further signature beside a bundle, by a key at hand or from another room. Nobody signs
//! what was not looked at: the bundle is verified to its last byte, as if the new signature were
//! the one to trust, before the signature is written.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::account::Account;
use super::verify;
use crate::bundle::{Bundle, Sealed, Statement, Trusted, read_signature};
use crate::content::{Watch, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::release::Moment;
use crate::trust::{Claim, KeyId, Keyring, Minisig, PublicKey, SigningKey};

/// A signature that was written, or that was there already.
pub struct Signed {
    /// The key's id.
    pub id: KeyId,
    /// The file; none where the bundle itself holds this signature.
    pub path: Option<PathBuf>,
    /// The release's name and version.
    pub release: String,
}

/// Signs a bundle.
///
/// # Errors
/// What is wrong with the bundle; `OutputExists` where another file is in the signature's place.
pub async fn sign(
    path: &Path,
    key: &SigningKey,
    minisig: bool,
    account: &Account,
    watch: Arc<dyn Watch>,
) -> Result<Signed> {
    let sealed = Bundle::open(path)?;
    let (public, sums) = (key.public(), sealed.seal().sums());
    let signature = key.sign(sums);
    let comment = format!("sums of {}", name(path)?);
    let file = minisig.then(|| Minisig::make(key, sums, &comment).encode());
    vouch(path, sealed, public, Claim::new(key.public().id(), signature), file, account, watch).await
}

/// Takes over a signature that was made elsewhere: 64 raw bytes, or minisign's file. `by` are the keys
/// that it may be of.
///
/// # Errors
/// `SignatureUntrusted` where it is not by any of these keys over this bundle's sums.
pub async fn attach(
    path: &Path,
    signature: &Path,
    by: &Keyring,
    account: &Account,
    watch: Arc<dyn Watch>,
) -> Result<Signed> {
    let sealed = Bundle::open(path)?;
    let author = by.author(sealed.seal().sums(), |id| read_signature(signature, id))?;
    let (public, claim) = author.ok_or_else(|| {
        let keys: Vec<_> = by.keys().map(|key| key.id.to_string()).collect();
        Error::new(Kind::SignatureUntrusted, "not a signature of this bundle's sums by the key that it should be of")
            .at(signature.display())
            .expected(format_args!("one by {}", keys.join(", ")))
            .hint("sign the very file that sealift sign --extract writes, in pure Ed25519; --by names the public key")
    })?;
    vouch(path, sealed, public, Claim::new(claim.id, claim.signature), None, account, watch).await
}

/// The sums, for signing in another room. They are such as a bundle has; nothing else was checked.
pub fn extract(path: &Path) -> Result<String> {
    Bundle::open(path)?.seal().checked_sums().map(str::to_owned).map_err(|e| e.inside(path.display()))
}

async fn vouch(
    path: &Path,
    sealed: Bundle<Sealed>,
    public: PublicKey,
    claim: Claim,
    minisig: Option<String>,
    account: &Account,
    watch: Arc<dyn Watch>,
) -> Result<Signed> {
    let id = claim.id;
    if sealed.seal().claims().len() >= limits::SIGNATURES {
        return Err(Error::new(
            Kind::LimitExceeded,
            "the bundle has as many signatures as a bundle can have",
        )
        .at(path.display())
        .got(sealed.seal().claims().len())
        .expected(format_args!("at most {}", limits::SIGNATURES)));
    }
    let known = sealed.seal().embedded().contains(&claim);
    let signature = claim.signature;
    let keyring = Keyring::of(public, "the signing key");
    let trusted: Bundle<Trusted> = sealed.signed(claim).trust(&keyring, Moment::now())?;
    account.trusted(trusted.statement(), trusted.signers(), trusted.identity());
    let verified = verify::whole(trusted, watch).await?;
    account.begin()?;
    let path = match (&minisig, known) {
        (Some(text), _) => Some(write(path, id, "minisig", text.as_bytes())?),
        (None, true) => None,
        (None, false) => Some(write(path, id, "sig", &signature)?),
    };
    Ok(Signed { id, path, release: release(verified.statement()) })
}

fn release(statement: &Statement) -> String {
    format!("{} {}", statement.name, statement.version)
}

fn name(path: &Path) -> Result<String> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::new(Kind::Usage, "not the name of a file").at(path.display()))?;
    Ok(crate::error::printable(&name.to_string_lossy()).into_owned())
}

/// Writes the text that is to be signed; replaces nothing.
pub fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    place(path, content).map(|_| ())
}

/// `<bundle>.<key-id>.<ending>`.
fn write(bundle: &Path, id: KeyId, ending: &str, content: &[u8]) -> Result<PathBuf> {
    let mut name = bundle.as_os_str().to_owned();
    name.push(format!(".{id}.{ending}"));
    let path = PathBuf::from(name);
    place(&path, content).map_err(|e| {
        e.hint("a signature lies beside its bundle: copy the bundle to a place that can be written to")
    })?;
    Ok(path)
}

/// A new file with this content. The same file once more is no harm; another one stays.
fn place(path: &Path, content: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("cannot write", path.display(), &e);
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return match file::read_small(path, "what is there", content.len() as u64) {
                Ok(there) if there == content => Ok(()),
                _ => Err(Error::new(Kind::OutputExists, "another file of that name exists")
                    .at(path.display())
                    .hint("look at what it is; nothing was written")),
            };
        }
        Err(e) => return Err(failed(e)),
    };
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| {
        let _ = std::fs::remove_file(path);
        failed(e)
    })
}
