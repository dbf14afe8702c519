//! Receipts: what an import verified, by which keys, and what landed where. Written at the import, signed by the site
//! if it has a key; read by the release staff, who get it back.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::{Key, Released};
use crate::bundle::{Bundle, detached_signatures};
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;
use crate::release::Moment;
use crate::trust::{Claim, KeyId, Keyring, SigningKey};

/// Tells a receipt, version 1, from any other JSON.
const TYPE: &str = "application/vnd.sealift.receipt.v1+json";

/// Where receipts are kept that nobody asked for, in the state directory.
const KEPT: &str = "receipts";

/// What is written. Fields stand in the order of their JSON keys. Keys that a later version adds are passed over: a
/// signature is over the bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slip {
    /// Which bundle.
    pub bundle: About,
    /// Every blob and document that the images consist of at the destination, each once.
    pub content: Vec<Piece>,
    /// Where to.
    pub destination: String,
    /// The images, and their names there.
    pub images: Vec<Landed>,
    /// What the destination does not hold, or not every reader of it takes.
    pub notes: Vec<String>,
    /// The rules' verdicts, as the statement has them.
    pub policy: Value,
    /// The program that wrote it.
    pub producer: String,
    /// The release.
    pub release: Released,
    /// The trusted keys that signed the bundle.
    pub signers: Vec<Key>,
    /// Where it was done.
    pub site: Place,
    /// When it was done, by that machine's clock.
    pub time: Moment,
    /// What kind of document it is: always the same.
    pub r#type: String,
}

/// What was verified of which bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The digest of its sums.
    pub digest: Digest,
    /// The digest of its statement.
    pub statement: Digest,
    /// `all`, or `documents` where everything was there already.
    pub verified: String,
}

/// A blob or document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Its digest.
    pub digest: Digest,
    /// How it got there.
    pub how: Came,
    /// Its bytes.
    pub size: u64,
}

/// How content got to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Came {
    /// It was sent.
    Sent,
    /// The destination had it in another repository.
    Mounted,
    /// It was there already.
    Present,
}

/// An image at the destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Landed {
    /// Its top document there.
    pub digest: Digest,
    /// Its names there.
    pub names: Vec<Named>,
    /// The record of the bundle that is attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
    /// Its full name at its origin.
    pub source: String,
    /// The top document that it was made from, where its index was trimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed_from: Option<Digest>,
}

/// A name at the destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Named {
    /// `new`, `unchanged` or `moved`.
    pub change: String,
    /// What it leads to.
    pub digest: Digest,
    /// The full name.
    pub name: String,
}

/// Where something was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The machine's name.
    pub host: String,
}

impl Slip {
    /// What it is always called, and written by.
    pub fn words() -> (String, String) {
        (TYPE.to_owned(), concat!("sealift ", env!("CARGO_PKG_VERSION")).to_owned())
    }
}

/// What is to be written, and by whom.
pub struct Filing {
    /// The file; else one in the state directory.
    pub path: Option<PathBuf>,
    /// The site's key.
    pub key: Option<SigningKey>,
    /// The machine's name.
    pub host: String,
}

/// A receipt that was written.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filed {
    /// Its digest.
    pub digest: Digest,
    /// Its file.
    pub path: String,
    /// The file of its signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Filing {
    /// Makes room for the receipt, before anything is sent: later, it would be too late to find out that it cannot be
    /// written.
    ///
    /// # Errors
    /// `OutputExists` where a file of its name is there; `Io`.
    pub fn reserve(&self, state: &Path, release: &Released) -> Result<Slot> {
        let path = match &self.path {
            Some(path) => path.clone(),
            None => {
                let directory = state.join(KEPT);
                let mut maker = std::fs::DirBuilder::new();
                let made = maker.recursive(true).mode(0o755).create(&directory);
                made.map_err(|e| failed(&directory, &e))?;
                let time = Moment::now().to_string().replace(':', "");
                directory.join(format!("{}-{}-{time}-{}.json", release.name, release.version, random()?))
            }
        };
        let signature = self.key.as_ref().map(|key| beside(&path, &format!("{}.sig", key.public().id())));
        if let Some(there) = [Some(&path), signature.as_ref()]
            .into_iter()
            .flatten()
            .find(|path| path.symlink_metadata().is_ok())
        {
            return Err(Error::new(Kind::OutputExists, "a receipt is never written over another file")
                .at(there.display())
                .hint("name another file; nothing was sent"));
        }
        Ok(Slot {
            receipt: Draft::create(&path)?,
            signature: signature.map(|path| Draft::create(&path)).transpose()?,
        })
    }

    /// Writes it into the room that was made.
    ///
    /// # Errors
    /// `Io`, `NoSpace`, `OutputExists`: everything was imported, and the receipt is not there.
    pub fn file(&self, slot: Slot, slip: &Slip) -> Result<Filed> {
        let Slot { receipt, signature } = slot;
        let room =
            slip.content.len().saturating_mul(128).saturating_add(slip.images.len().saturating_mul(1024));
        let mut text = Vec::with_capacity(room.saturating_add(4096));
        serde_json::to_writer(&mut text, slip)
            .map_err(|e| Error::new(Kind::Io, "cannot write the receipt").got(e))?;
        let filed = Filed {
            digest: Digest::of(&text),
            path: receipt.path.display().to_string(),
            signature: signature.as_ref().map(|draft| draft.path.display().to_string()),
        };
        // A receipt that is there has its signature.
        if let (Some(draft), Some(key)) = (signature, &self.key) {
            draft.finish(&key.sign(&text))?;
        }
        receipt.finish(&text)?;
        Ok(filed)
    }
}

/// Room for a receipt, and for its signature.
pub struct Slot {
    receipt: Draft,
    signature: Option<Draft>,
}

/// A file under a temporary name; gone unless it was finished.
struct Draft {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Draft {
    fn create(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::new(Kind::Usage, "not the name of a file").at(path.display()))?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}", random()?));
        let temporary = path.with_file_name(temporary);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let file = options.open(&temporary).map_err(|e| failed(path, &e).hint("nothing was sent"))?;
        Ok(Draft { path: path.to_owned(), temporary, file })
    }

    /// Gives it its content, then its name, unless another file has that.
    fn finish(mut self, content: &[u8]) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags};
        use rustix::io::Errno;
        let written = self.file.write_all(content).and_then(|()| self.file.sync_all());
        written.map_err(|e| failed(&self.path, &e))?;
        match rustix::fs::renameat_with(CWD, &self.temporary, CWD, &self.path, RenameFlags::NOREPLACE) {
            // Not every file system knows that (renameat2(2)): there, two names for a moment.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                std::fs::hard_link(&self.temporary, &self.path).map_err(|e| failed(&self.path, &e))?;
            }
            renamed => renamed.map_err(|e| failed(&self.path, &e.into()))?,
        }
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty());
        file::sync_directory(above.unwrap_or(Path::new(".")))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::io("cannot write the receipt", path.display(), error)
}

/// `<path>.<ending>`
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}

fn random() -> Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|e| Error::new(Kind::Io, "this machine gives no random numbers").got(e))?;
    Ok(format!("{:08x}", u32::from_be_bytes(random)))
}

/// A receipt that was read.
pub struct Checked {
    /// What it says.
    pub slip: Slip,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Who signed it.
    pub seal: Seal,
    /// Whether it was compared with a bundle, and is about that one.
    pub compared: bool,
}

/// What is known of a receipt's signature.
pub enum Seal {
    /// There is none.
    Missing,
    /// There is one, which names these keys; nobody said whom to believe.
    Unchecked(Vec<KeyId>),
    /// It is this key's, which is called so.
    Good(KeyId, String),
}

/// Reads a receipt, and checks its signature with the keys of `sites`, where some are given; compares it with a bundle.
///
/// # Errors
/// `StatementInvalid` where it is none; `SignatureMissing`, `SignatureUntrusted`, `KeyRevoked`, `KeyExpired`;
/// `DigestMismatch` where it is about another bundle.
pub fn check(path: &Path, sites: Option<&Keyring>, bundle: Option<&Path>) -> Result<Checked> {
    let bytes = file::read_small(path, "the receipt", limits::RECEIPT)?;
    let claims = detached_signatures(path)?;
    // Signatures first: what nobody vouches for is not read further than needed to say so.
    let trusted = sites.map(|ring| author(path, &bytes, &claims, ring)).transpose()?;
    let wrong = |what: String| {
        Error::new(Kind::StatementInvalid, "not a receipt").at(path.display()).got(what).expected(TYPE)
    };
    let slip: Slip = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    if slip.r#type != TYPE {
        return Err(wrong(slip.r#type));
    }
    let seal = match (trusted, sites) {
        (Some((id, name)), Some(ring)) => {
            in_force(ring, id, slip.time).map_err(|e| e.at(path.display()))?;
            Seal::Good(id, name)
        }
        _ if claims.is_empty() => Seal::Missing,
        _ => Seal::Unchecked(claims.iter().map(|claim| claim.id).collect()),
    };
    if let Some(bundle) = bundle {
        compare(path, &slip, bundle)?;
    }
    Ok(Checked { digest: Digest::of(&bytes), slip, seal, compared: bundle.is_some() })
}

/// The key that signed, and its name.
fn author(path: &Path, bytes: &[u8], claims: &[Claim], ring: &Keyring) -> Result<(KeyId, String)> {
    let keys = || ring.keys().map(|key| key.id.to_string()).collect::<Vec<_>>().join(", ");
    if claims.is_empty() {
        return Err(Error::new(Kind::SignatureMissing, "the receipt is not signed")
            .at(path.display())
            .expected(format_args!("a signature by {}", keys()))
            .hint("it lies beside the receipt, as RECEIPT.<key-id>.sig; the site makes one with import --site-key"));
    }
    // What is named after a key and is not its is no signature, whatever else lies there.
    let claimed = |id: KeyId| claims.iter().find(|claim| claim.id == id).cloned();
    let found = ring.author(bytes, |id| Ok(claimed(id).unwrap_or_else(|| Claim::new(id, [0; 64]))))?;
    let Some((public, _)) = found else {
        // The key would count: what it has signed are other bytes.
        if let Some(name) = claims.iter().find(|claim| ring.keys().any(|key| key.id == claim.id)) {
            return Err(Error::new(
                Kind::SignatureUntrusted,
                "the receipt was changed after it was signed, or the signature was",
            )
            .at(path.display())
            .got(format_args!("a signature under the name of {} that is not good", name.id))
            .hint("get the receipt and its signature again from where it was made"));
        }
        return Err(Error::new(Kind::SignatureUntrusted, "the receipt is not signed by a key that counts")
            .at(path.display())
            .got(claims.iter().map(|claim| claim.id.to_string()).collect::<Vec<_>>().join(", "))
            .expected(format_args!("a good signature by {}", keys())));
    };
    let name = ring.keys().find(|key| key.id == public.id()).and_then(|key| key.names.first().cloned());
    Ok((public.id(), name.unwrap_or_default()))
}

/// Whether the key counted when the receipt was written.
fn in_force(ring: &Keyring, id: KeyId, time: Moment) -> Result<()> {
    let Some(key) = ring.keys().find(|key| key.id == id) else { return Ok(()) };
    if let Some(reason) = key.revoked {
        return Err(Error::new(Kind::KeyRevoked, "the key that signed the receipt is revoked").got(reason));
    }
    match key.not_after.filter(|end| *end <= time) {
        Some(end) => Err(Error::new(Kind::KeyExpired, "the key that signed the receipt counted no longer")
            .got(time)
            .expected(format_args!("before {end}"))),
        None => Ok(()),
    }
}

/// Whether the receipt is about this bundle: its sums are the ones that it names, and what landed is among them.
fn compare(path: &Path, slip: &Slip, bundle: &Path) -> Result<()> {
    let sealed = Bundle::open(bundle)?;
    let sums = sealed.seal().checked_sums().map_err(|e| e.inside(bundle.display()))?;
    let identity = Digest::of(sums.as_bytes());
    let wrong = |what: &str| Error::new(Kind::DigestMismatch, what.to_owned()).at(path.display());
    if slip.bundle.digest != identity {
        return Err(wrong("the receipt is about another bundle")
            .got(slip.bundle.digest)
            .expected(format_args!("{identity}, which is {}", bundle.display())));
    }
    let listed: std::collections::HashSet<&str> = sums.lines().filter_map(|line| line.get(..64)).collect();
    let lists = |digest: &Digest| listed.contains(digest.hex().as_str());
    if !lists(&slip.bundle.statement) {
        return Err(
            wrong("the receipt names a statement that is not the bundle's").got(slip.bundle.statement)
        );
    }
    match slip.images.iter().find(|image| !lists(&image.trimmed_from.unwrap_or(image.digest))) {
        Some(stranger) => Err(wrong("the receipt names an image that is not in the bundle")
            .got(format_args!("{} {}", stranger.source, stranger.digest))),
        None => Ok(()),
    }
}
