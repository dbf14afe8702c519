//! What a trust store consists of: files and their texts, wherever they lie. From a directory when
//! bundles are judged; from a bundle when it brings the next store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::Keyring;
use super::rules::RULES;
use crate::content::{file, guard};
use crate::error::{Error, Kind, Result};
use crate::limits;

/// The files of a trust store: public keys (`*.pem`) and `trust.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Root(BTreeMap<String, String>);

impl From<BTreeMap<String, String>> for Root {
    fn from(files: BTreeMap<String, String>) -> Self {
        Root(files)
    }
}

impl From<Root> for BTreeMap<String, String> {
    fn from(root: Root) -> Self {
        root.0
    }
}

impl Root {
    /// Reads the store in `directory`.
    ///
    /// # Errors
    /// `TrustStore` where it is missing, a link, or can be changed by others than its owner, who
    /// must be the user that runs the program or the superuser.
    pub fn load(directory: &Path) -> Result<Self> {
        // A slash at the end would hide that it is a link.
        let directory = &directory.components().collect::<PathBuf>();
        let place = directory.display().to_string();
        check_directory(directory, &place)?;
        let mut files = BTreeMap::new();
        for entry in WalkDir::new(directory).min_depth(1).max_depth(1).sort_by_file_name() {
            let entry = entry.map_err(|e| store("cannot read the trust store").at(&place).got(e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != RULES && !name.ends_with(".pem") {
                check_overlooked(&name).map_err(|e| e.at(entry.path().display()))?;
                continue;
            }
            if files.len() > limits::TRUSTED_KEYS {
                return Err(store("too many keys in the trust store").at(&place));
            }
            files.insert(name, text_of(entry.path())?);
        }
        Ok(Root(files))
    }

    /// The keys, and the rules about them. `place` names the store in errors.
    pub fn keyring(&self, place: &str) -> Result<Keyring> {
        self.check_names().and_then(|()| Keyring::new(self, place)).map_err(|e| e.below(place))
    }

    /// The files: names and texts, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The text of `trust.toml`.
    pub fn rules(&self) -> Option<&str> {
        self.0.get(RULES).map(String::as_str)
    }

    /// A name from a bundle becomes a file's name.
    fn check_names(&self) -> Result<()> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let plain = |name: &str| {
            (name == RULES || name.ends_with(".pem")) && !name.starts_with('.') && name.bytes().all(fits)
        };
        let size: usize = self.files().map(|(name, text)| name.len() + text.len()).sum();
        if size as u64 > limits::TRUST_ROOT {
            return Err(Error::new(Kind::LimitExceeded, "a trust store that is too large")
                .got(format_args!("{size} bytes"))
                .expected(format_args!("at most {} bytes", limits::TRUST_ROOT)));
        }
        if self.0.len() > limits::TRUSTED_KEYS {
            return Err(store("too many keys in the trust store"));
        }
        if let Some((name, _)) = self.files().find(|(_, text)| text.len() as u64 > limits::KEY_FILE) {
            return Err(Error::new(Kind::LimitExceeded, "a file of the trust store is too large").at(name));
        }
        match self.files().find(|(name, _)| !plain(name) || name.len() > 128) {
            Some((name, _)) => Err(store("a file of a trust store has a name that it cannot have")
                .got(format_args!("{name:?}"))
                .expected("trust.toml, or letters, digits, '.', '_', '-' and the ending .pem")),
            None => Ok(()),
        }
    }
}

/// What looks as if it were meant to count must count: FAT turns `trust.toml` into `TRUST.TOML`.
fn check_overlooked(name: &str) -> Result<()> {
    let lower = name.to_lowercase();
    match lower == RULES || lower.ends_with(".pem") || lower.ends_with(".toml") {
        true => Err(store("a file of the trust store that would not count")
            .expected("trust.toml, and names that end in .pem, in lower case")
            .hint("rename it, or move it away")),
        false => Ok(()),
    }
}

/// A failure of the store.
pub fn store(what: &str) -> Error {
    Error::new(Kind::TrustStore, what)
}

fn check_directory(directory: &Path, place: &str) -> Result<()> {
    let facts = std::fs::symlink_metadata(directory).map_err(|e| {
        store("there is no trust store")
            .at(place)
            .got(e)
            .hint(format_args!(
            "install -d -m 0755 {place}, and copy the release team's .pub.pem into it; or name another directory with --trust"
        ))
    })?;
    if !facts.is_dir() {
        return Err(store("the trust store is not a directory of its own")
            .at(place)
            .hint("--trust names a directory of public keys, not a file and not a link"));
    }
    guard::of_own(&facts, directory, Kind::TrustStore, "others can change what is trusted")?;
    guard::of_above(directory, Kind::TrustStore)
}

fn text_of(path: &Path) -> Result<String> {
    let place = path.display().to_string();
    // The path itself may be a link (those of mounted secrets are); what it leads to must not be writable.
    let (bytes, facts) = file::read_with_facts(path, "a file of the trust store", limits::KEY_FILE)?;
    guard::of_own(&facts, path, Kind::TrustStore, "others can change what is trusted")?;
    String::from_utf8(bytes).map_err(|_| store("a file of the trust store is not text").at(place))
}
