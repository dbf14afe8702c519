//! `key new` and `key show`: make key pairs, look at keys.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::trust::{KeyId, Minisig, Passphrase, PublicKey, SigningKey, read_minisign_key};
use zeroize::Zeroizing;

/// A key pair that was written.
pub struct NewKey {
    /// Where the private key is.
    pub private: PathBuf,
    /// Where the public key is.
    pub public: PathBuf,
    /// The key's id.
    pub id: KeyId,
}

/// Makes a key pair and writes `NAME.key.pem` (only its owner may read it) and `NAME.pub.pem`.
/// Existing files are never replaced.
pub fn new(name: &str, directory: &Path, passphrase: Option<&Passphrase>) -> Result<NewKey> {
    check_name(name)?;
    let directory = if directory == Path::new(".") { Path::new("") } else { directory };
    let private = directory.join(format!("{name}.key.pem"));
    let public = directory.join(format!("{name}.pub.pem"));
    for path in [&private, &public] {
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(Kind::OutputExists, "a key of that name exists already")
                .at(path.display())
                .hint("choose another name; a lost key cannot be made again"));
        }
    }
    let key = SigningKey::generate()?;
    write(&private, key.to_pem(passphrase)?.as_bytes(), 0o600)?;
    if let Err(error) = write(&public, key.public().to_pem()?.as_bytes(), 0o644) {
        let _ = std::fs::remove_file(&private);
        return Err(error);
    }
    Ok(NewKey { private, public, id: key.public().id() })
}

fn check_name(name: &str) -> Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match !name.is_empty() && !name.starts_with(['.', '-']) && name.len() <= 100 && name.bytes().all(fits) {
        true => Ok(()),
        false => Err(Error::new(Kind::Usage, "not a name for a key")
            .got(format_args!("{name:?}"))
            .expected("letters, digits, '.', '_', '-'")
            .hint("the directory is given with --dir")),
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let failed = |e: std::io::Error| {
        let failure = Error::io("cannot write the key", path.display(), &e);
        match e.kind() {
            std::io::ErrorKind::NotFound => failure.hint("make the directory first: install -d -m 0700 DIR"),
            _ => failure,
        }
    };
    let mut file: File =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.map_err(|e| {
        let _ = std::fs::remove_file(path);
        failed(e)
    })
}

/// Opens a private key file for signing.
///
/// # Errors
/// `KeyPerms` where others may read the file.
pub fn open(path: &Path, passphrase: impl FnOnce() -> Result<Passphrase>) -> Result<SigningKey> {
    let (text, mode) = read(path)?;
    if !is_private(&text) {
        // Whatever it is, its mode does not matter.
        return SigningKey::from_pem(&text, passphrase).map_err(|e| e.at(path.display()));
    }
    if mode & 0o077 != 0 {
        return Err(Error::new(Kind::KeyPerms, "others may read the private key")
            .at(path.display())
            .got(format_args!("mode {mode:04o}"))
            .expected("mode 0600")
            .hint(format_args!("chmod 600 {}", path.display())));
    }
    SigningKey::from_pem(&text, passphrase).map_err(|e| e.at(path.display()))
}

/// Looks at a key, private or public: its public half.
pub fn show(
    path: &Path,
    passphrase: impl FnOnce() -> Result<Passphrase>,
) -> Result<(PublicKey, &'static str)> {
    let (text, _) = read(path)?;
    if Minisig::is_one(text.as_bytes()) {
        let key = read_minisign_key(&text).map_err(|e| e.at(path.display()))?;
        return Ok((key, "public key of minisign's"));
    }
    if !text.contains("-----BEGIN ") {
        return Err(Error::new(Kind::KeyFormat, "not a PEM file")
            .at(path.display())
            .expected("a public or private key in PEM form"));
    }
    if is_private(&text) {
        return Ok((open(path, passphrase)?.public(), "private key"));
    }
    let key = PublicKey::from_pem(&text).map_err(|e| e.at(path.display()))?;
    Ok((key, "public key"))
}

fn is_private(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
}

/// A key file's text, and the permission bits of the very file that was read.
fn read(path: &Path) -> Result<(Zeroizing<String>, u32)> {
    let (bytes, facts) = file::read_secret(path, "the key", limits::KEY_FILE)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::new(Kind::KeyFormat, "not a PEM file").at(path.display()))?;
    Ok((Zeroizing::new(text.to_owned()), facts.permissions().mode() & 0o777))
}
