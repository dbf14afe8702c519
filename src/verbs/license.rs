//! `license new` and `license show`; and what `import` asks for where a bundle's statement says so. Offline: a file, a
//! vendor's key in the trust store, and the clock that expiry is judged by.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::site::Site;
use crate::bundle::Statement;
use crate::content::{Quiet, Watch, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::release::Moment;
use crate::trust::{Grant, Keyring, License, SealedLicense, Signer, SigningKey};

/// A licence whose signature was checked, and whose it is.
pub struct Shown {
    /// What it says.
    pub license: License,
    /// The vendor's key.
    pub signer: Signer,
}

/// Makes a licence and writes its file. An existing one is never replaced.
pub fn new(grant: Grant, key: &SigningKey, output: &Path) -> Result<License> {
    let license = License::new(grant)?;
    let text = license.seal(key)?;
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Kind::OutputExists, "a file of that name exists already")
                .at(output.display())
                .hint("name another one")
        }
        _ => Error::io("cannot write the licence", output.display(), &e),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(output).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|e| {
        let _ = std::fs::remove_file(output);
        failed(e)
    })?;
    Ok(license)
}

/// Reads a licence, and says nothing of it before a vendor's key was found to have signed it.
pub fn show(path: &Path, keyring: &Keyring, now: Moment) -> Result<Shown> {
    let bytes = file::read_small(path, "the licence", limits::LICENSE)?;
    let place = |e: Error| e.at(path.display());
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::new(Kind::SignatureFormat, "not a licence file: it is not text"))
        .map_err(place)?;
    let sealed = SealedLicense::read(text).map_err(place)?;
    let (license, signer) = keyring.license(&sealed, now).map_err(place)?;
    Ok(Shown { license, signer })
}

/// Requires the licence that a trusted bundle asks for; most ask for none, and then the file is not even opened.
///
/// # Errors
/// `LicenseMissing`, `LicenseRefused`, and what is wrong with its signature.
pub fn demand(
    file: Option<&Path>,
    statement: &Statement,
    site: &Site,
    watch: &dyn Watch,
) -> Result<Option<Shown>> {
    if statement.license.is_none() {
        return Ok(None);
    }
    let Statement { name, version, tier, .. } = statement;
    let path = file.ok_or_else(|| {
        Error::new(Kind::LicenseMissing, "this release is installed with a licence only")
            .at(format_args!("{name} {version}"))
            .expected("--license FILE")
            .hint("the vendor gives it; SEALIFT_LICENSE names it for all commands")
    })?;
    // What is odd about the clock was said when the bundle was opened.
    let (keyring, now) = site.judge(&Quiet)?;
    // A signed time is in the past, whatever the clock says.
    let now = now.max(statement.created);
    let shown = show(path, &keyring, now)?;
    shown.license.check(name, version, *tier, now).map_err(|e| e.at(path.display()))?;
    let until = shown.license.expires.map(|end| format!(", until {end}")).unwrap_or_default();
    watch.note(&format!(
        "licence {} of {}{until}, signed by {}",
        shown.license.serial, shown.license.customer, shown.signer.name
    ));
    Ok(Some(shown))
}
