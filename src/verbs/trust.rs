//! `trust show` and `trust update`: look at a trust store; replace it by the next one, which a
//! bundle brings. The next one must have been signed by as many keys as the present store and the
//! next one ask for (the rule of The Update Framework, §5.3), and follow it by one. It takes the
//! present one's place in a single step; the present one is kept beside it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};

use super::account::Account;
use super::site::Site;
use crate::bundle::Bundle;
use crate::content::{Watch, file};
use crate::error::{Error, Kind, Result};
use crate::trust::{Bearer, Keyring, Root};

/// What became of the store, or would.
pub struct Update {
    /// The version that was in force.
    pub from: u64,
    /// The version that the bundle brings; the same where it is in force already.
    pub to: u64,
    /// What changes: lines for people.
    pub changes: Vec<String>,
    /// Where the former store is kept.
    pub kept: Option<PathBuf>,
}

/// Takes over the trust store that a bundle brings.
///
/// # Errors
/// `RootChain` where it is not the next one, or not signed by enough keys of both; everything that
/// is wrong with the bundle but its age. The store is then as before.
pub fn update(
    bundle: &Path,
    site: &Site,
    dry_run: bool,
    account: &Account,
    watch: &dyn Watch,
) -> Result<Update> {
    // Nothing is locked beside what is no trust store.
    Root::load(&site.trust)?;
    let _lock = if dry_run { None } else { Some(lock(&site.trust)?) };
    // As it is under the lock: another update may just have ended.
    let root = Root::load(&site.trust)?;
    let (keyring, now) = site.judge(watch)?;
    // Both stores are asked with their own rules.
    let refused = |which: &'static str| move |e: Error| too_few(bundle, which, e);
    let deciding = keyring.clone().for_succession().map_err(refused("in force"))?;
    let sealed = Bundle::open(bundle)?;
    let seal = sealed.seal().clone();
    let trusted = sealed.trust(&deciding, now).map_err(refused("in force"))?;
    let (statement, now) = (trusted.statement(), now.max(trusted.statement().created));
    account.trusted(statement, trusted.signers(), trusted.identity());
    let next_root = statement.trust_root.clone();
    let next_root = next_root.ok_or_else(|| {
        Error::new(Kind::RootChain, "the bundle brings no trust store")
            .at(bundle.display())
            .hint("the release team says which bundle does")
    })?;
    let next = next_root.keyring("the bundle's trust store")?;
    let (from, to) = (keyring.version(), next.version());
    let changes = changes(&keyring.lines(now), &next.lines(now));
    if to == from && next_root == root {
        return Ok(Update { from, to, changes, kept: None });
    }
    let (before, after) = (keyring.rules(), next.rules());
    check_succession((before.version, before.epoch), (after.version, after.epoch))
        .map_err(|e| e.at(bundle.display()))?;
    let images: Vec<_> = statement.images.iter().map(|image| image.source.clone()).collect();
    let bearer = Bearer { name: &statement.name, tier: statement.tier, images: &images };
    let signed = next.for_succession().and_then(|next| {
        let proven = next.prove(seal.sums(), seal.claims(), now)?;
        next.authorise(&proven, &bearer, now)
    });
    signed.map_err(refused("that the bundle brings"))?;
    if !dry_run {
        account.begin()?;
    }
    let kept = if dry_run { None } else { Some(replace(&site.trust, &next_root, from)?) };
    Ok(Update { from, to, changes, kept })
}

/// Says of which store it was that signatures did not suffice; what else is wrong with a bundle stays as it is.
fn too_few(bundle: &Path, which: &str, error: Error) -> Error {
    match error.kind() {
        Kind::KeyNotAuthorized | Kind::ThresholdNotMet | Kind::KeyExpired | Kind::SignatureUntrusted => {
            Error::new(Kind::RootChain, "the next trust store is not signed by enough keys")
                .at(bundle.display())
                .got(error.sentence())
                .expected(format_args!("as many as the store {which} asks for"))
                .hint("the bundle has to be signed with keys of both stores: sealift sign; sealift trust show tells which")
        }
        _ => error,
    }
}

/// One version after the other, and no epoch back.
fn check_succession(before: (u64, u64), after: (u64, u64)) -> Result<()> {
    let ((from, old_epoch), (to, epoch)) = (before, after);
    let next = from.saturating_add(1);
    let wrong = |what: &str| {
        Error::new(Kind::RootChain, what.to_owned())
            .got(format_args!("version {to}"))
            .expected(format_args!("version {next}"))
    };
    match to {
        _ if to == from => Err(wrong("another trust store than the one in force, of the same version")
            .hint("ask the release team which of the two is theirs")),
        _ if to < from => Err(wrong("an older trust store than the one in force")),
        _ if to > next => Err(wrong("the trust store skips versions")
            .hint(format_args!("first take over the one of version {next} from its bundle"))),
        _ if epoch < old_epoch => {
            Err(Error::new(Kind::RootChain, "a trust store of an earlier epoch than the one in force")
                .got(format_args!("epoch {epoch}"))
                .expected(format_args!("epoch {old_epoch} or later")))
        }
        _ => Ok(()),
    }
}

/// What is said no longer, and what is said now.
fn changes(before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let new = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

/// The directory and its name, however it was written.
fn split(directory: &Path) -> Result<(&Path, &OsStr)> {
    let name = directory.file_name().ok_or_else(|| {
        Error::new(Kind::Usage, "the trust store has to be named by its own name")
            .at(directory.display())
            .hint("name it by its path: --trust ../trust")
    })?;
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
    Ok((above.unwrap_or(Path::new(".")), name))
}

/// Keeps two updates apart: held on the directory above, which stays what it is.
fn lock(directory: &Path) -> Result<File> {
    let (above, _) = split(directory)?;
    let failed = |e: std::io::Error| Error::io("cannot replace the trust store", directory.display(), &e);
    let lock = File::open(above).map_err(failed)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
        rustix::io::Errno::WOULDBLOCK => {
            Error::new(Kind::Locked, "somebody else is replacing the trust store").at(directory.display())
        }
        e => failed(e.into()),
    })?;
    Ok(lock)
}

/// Puts the next store in the place of the present one, in one step, and keeps that beside it: the next one is
/// prepared under the name that the present one will have, then the two names are exchanged.
fn replace(directory: &Path, root: &Root, version: u64) -> Result<PathBuf> {
    let failed = |e: &std::io::Error| {
        Error::io("cannot replace the trust store", directory.display(), e).hint(
            "the store is as before; the directory above it must be writable, the store no mount point, and the file system one that can exchange names (ext4, xfs, btrfs, tmpfs)",
        )
    };
    let (above, name) = split(directory)?;
    let beside = |suffix: String| {
        let mut name = name.to_owned();
        name.push(suffix);
        directory.with_file_name(name)
    };
    let (fresh, kept) = (beside(".next".to_owned()), beside(format!(".version-{version}")));
    // What an update that was killed has prepared. A former store is never called so, or never says this.
    let _ = std::fs::remove_dir_all(&fresh);
    if Root::load(&kept).is_ok_and(|there| there == *root) {
        std::fs::remove_dir_all(&kept).map_err(|e| failed(&e))?;
    }
    if kept.symlink_metadata().is_ok() {
        return Err(Error::new(
            Kind::OutputExists,
            "the former trust store would be kept where something is already",
        )
        .at(kept.display())
        .hint("move it away"));
    }
    let prepared = std::fs::metadata(directory)
        .and_then(|facts| write_store(&fresh, root, facts.permissions()))
        .and_then(|()| std::fs::rename(&fresh, &kept));
    // It is read as any other store before it counts.
    let swapped = prepared.map_err(|e| failed(&e)).and_then(|()| Keyring::load(&kept)).and_then(|_| {
        rustix::fs::renameat_with(CWD, &kept, CWD, directory, RenameFlags::EXCHANGE)
            .map_err(|e| failed(&e.into()))
    });
    if let Err(error) = swapped {
        let _ = std::fs::remove_dir_all(&fresh);
        let _ = std::fs::remove_dir_all(&kept);
        return Err(error);
    }
    file::sync_directory(above)?;
    Ok(kept)
}

fn write_store(directory: &Path, root: &Root, mode: Permissions) -> std::io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(directory)?;
    for (name, text) in root.files() {
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(directory.join(name))?;
        file.write_all(text.as_bytes())?;
        // Whatever the umask is: those who could read the former keys can read these.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
    }
    std::fs::set_permissions(directory, mode)?;
    File::open(directory)?.sync_all()
}
