//! Whether an export left what it should.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use super::Result;
use super::set::Set;

/// Requires that everything of the set is below `directory`, in files or in tars, in its full length;
/// of a compressed file only that it is not too small.
pub fn exported(set: &Set, directory: &Path) -> Result<std::result::Result<(), String>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry?;
        let path = entry.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains(".tar.") && !name.ends_with(".sha256") {
            return Ok(match entry.metadata()?.len() >= set.bytes() / 10 * 9 {
                true => Ok(()),
                false => Err(format!("{name} is too small to hold everything")),
            });
        }
        if name.ends_with(".tar") {
            list_tar(path, &mut found)?;
        } else if name.starts_with("sums.") {
            if let Err(wrong) = sums_match(path)? {
                return Ok(Err(wrong));
            }
        } else if entry.file_type().is_file() {
            found.insert(name, entry.metadata()?.len());
        }
    }
    let missing = set.sizes.iter().find(|(hex, size)| found.get(*hex) != Some(size));
    Ok(missing.map_or(Ok(()), |(hex, _)| Err(format!("the blob {hex} was not exported"))))
}

fn list_tar(path: &Path, found: &mut BTreeMap<String, u64>) -> Result<()> {
    let mut archive = tar::Archive::new(File::open(path)?);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.insert(name, entry.size());
    }
    Ok(())
}

/// Files that are called by their digests: `HEX *blobs/sha256/HEX`.
fn sums_match(path: &Path) -> Result<std::result::Result<(), String>> {
    let text = fs::read_to_string(path)?;
    let right = |line: &str| line.split_once(" *").is_some_and(|(sum, name)| name.ends_with(sum));
    Ok(text.lines().find(|line| !right(line)).map_or(Ok(()), |line| Err(format!("a wrong sum: {line}"))))
}
