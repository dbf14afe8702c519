//! `trust show` and `trust update`: look at a trust store; replace it by the next one, which a
//! bundle brings. The next one must have been signed by as many keys as the present store and the
//! next one ask for (the rule of The Update Framework, §5.3), and follow it by one. It takes the
//! present one's place in a single step; the present one is kept beside it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::site::Site;
use crate::bundle::Bundle;
use crate::content::{Watch, file};
use crate::error::{Error, Kind, Result};
use crate::trust::{Keyring, Root};

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
/// is wrong with the bundle. The store is then as before.
pub fn update(bundle: &Path, site: &Site, dry_run: bool, watch: &dyn Watch) -> Result<Update> {
    let place = site.trust.display().to_string();
    let root = Root::load(&site.trust)?;
    let (keyring, now) = site.judge(watch)?;
    let sealed = Bundle::open(bundle)?;
    let seal = sealed.seal().clone();
    let trusted = sealed.trust(&keyring, now)?;
    let at = |e: Error| e.at(bundle.display());

    let chain = |what: &str| Error::new(Kind::RootChain, what.to_owned()).at(bundle.display());
    let next_root = trusted.statement().trust_root.clone();
    let next_root = next_root.ok_or_else(|| {
        chain("the bundle brings no trust store").hint("the release team says which bundle does")
    })?;
    let next = next_root.keyring("the bundle's trust store")?;
    let (from, to) = (keyring.version(), next.version());
    let versions =
        |error: Error| error.got(format_args!("version {to}")).expected(format_args!("version {}", from + 1));
    match to {
        _ if to == from && next_root == root => {
            return Ok(Update { from, to, changes: Vec::new(), kept: None });
        }
        _ if to == from => {
            return Err(versions(chain("another trust store than the one in force, of the same version"))
                .hint("ask the release team which of the two is theirs"));
        }
        _ if to < from => return Err(versions(chain("an older trust store than the one in force"))),
        _ if to > from + 1 => {
            return Err(versions(chain("the trust store skips versions"))
                .hint(format_args!("first take over the one of version {} from its bundle", from + 1)));
        }
        _ => {}
    }
    // Rights may be different in the two: each is asked with its own rules.
    for (ring, which) in [(&keyring, "in force"), (&next, "that the bundle brings")] {
        let signed =
            ring.prove(seal.sums(), seal.claims(), now).and_then(|proven| ring.authorise_root(&proven, now));
        signed.map_err(|e| {
            chain("the next trust store is not signed by enough keys")
                .got(e.sentence())
                .expected(format_args!("the threshold of the store {which}"))
                .hint("the bundle has to be signed with keys of both stores: sealift sign")
        })?;
    }
    let changes = changes(&keyring, &next);
    if dry_run {
        return Ok(Update { from, to, changes, kept: None });
    }
    let kept = replace(&site.trust, &next_root, from).map_err(at)?;
    // What lies there now is what was meant, and is read as any other store.
    let now_there = Keyring::load(&site.trust)?;
    match now_there.version() == to {
        true => Ok(Update { from, to, changes, kept: Some(kept) }),
        false => Err(chain("the trust store was changed by somebody else at the same time").at(place)),
    }
}

/// What a person would want to know of the difference.
fn changes(before: &Keyring, after: &Keyring) -> Vec<String> {
    let mut lines = Vec::new();
    let line =
        |what: &str, key: &crate::trust::Listed<'_>| format!("{what} {} {}", key.id, key.names.join(", "));
    for key in after.keys() {
        match before.keys().find(|old| old.id == key.id) {
            None => lines.push(line("new key", &key)),
            Some(old) => {
                if key.revoked.is_some() && old.revoked.is_none() {
                    lines.push(line("revoked", &key));
                }
                if key.not_after != old.not_after {
                    let until = key.not_after.map_or("no end".to_owned(), |end| end.to_string());
                    lines.push(format!("{}, counts until: {until}", line("changed", &key)));
                }
            }
        }
    }
    let gone = before.keys().filter(|old| after.keys().all(|key| key.id != old.id));
    lines.extend(gone.map(|key| line("removed", &key)));
    let rules = |ring: &Keyring| {
        let rules = ring.rules();
        format!(
            "{:?} {:?} {:?} {} {}",
            rules.general, rules.special, rules.root, rules.allow_expired, rules.epoch
        )
    };
    if rules(before) != rules(after) {
        lines.push("the rules change (sealift trust show)".to_owned());
    }
    lines
}

/// Puts the next store in the place of the present one, in one step, and keeps that beside it.
fn replace(directory: &Path, root: &Root, version: u64) -> Result<PathBuf> {
    let failed = |e: std::io::Error, place: &Path| {
        Error::io("cannot replace the trust store", place.display(), &e)
            .hint("the store is as before; the directory that holds it must be writable, and the store no mount point")
    };
    let name = directory.file_name().ok_or_else(|| {
        Error::new(Kind::Usage, "the trust store has to be named by its own name").at(directory.display())
    })?;
    let beside = |suffix: String| {
        let mut name = name.to_owned();
        name.push(suffix);
        directory.with_file_name(name)
    };
    let (fresh, kept) =
        (beside(format!(".next.{}", std::process::id())), beside(format!(".version-{version}")));
    if kept.symlink_metadata().is_ok() {
        return Err(Error::new(
            Kind::OutputExists,
            "the former trust store would be kept where something is already",
        )
        .at(kept.display())
        .hint("move it away"));
    }
    let written = write_store(&fresh, root)
        .and_then(|()| Ok(rustix::fs::renameat_with(CWD, &fresh, CWD, directory, RenameFlags::EXCHANGE)?));
    if let Err(error) = written {
        let _ = std::fs::remove_dir_all(&fresh);
        return Err(failed(error, directory));
    }
    std::fs::rename(&fresh, &kept).map_err(|e| failed(e, &kept))?;
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    file::sync_directory(parent.unwrap_or(Path::new(".")))?;
    Ok(kept)
}

fn write_store(directory: &Path, root: &Root) -> std::io::Result<()> {
    std::fs::DirBuilder::new().mode(0o755).create(directory)?;
    for (name, text) in root.files() {
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(directory.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    File::open(directory)?.sync_all()
}
