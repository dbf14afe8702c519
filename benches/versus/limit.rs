//! Lists for curl and openssl: what a person who knows all digests and sizes beforehand would write down
//! to move the same bytes as fast as possible. Making them is not part of what is measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Result;
use super::set::{Set, TAG};

/// Splits parts among lanes so that all have about the same number of bytes: the largest first, each to
/// the lane that has least.
fn split<'a>(set: &Set, parts: impl Iterator<Item = &'a str>, lanes: usize) -> Vec<Vec<&'a str>> {
    let size = |hex: &str| set.sizes.get(hex).copied().unwrap_or_default();
    let mut parts: Vec<_> = parts.collect();
    parts.sort_by_key(|hex| std::cmp::Reverse(size(hex)));
    let mut split = vec![(0, Vec::new()); lanes];
    for hex in parts {
        if let Some((bytes, lane)) = split.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += size(hex);
            lane.push(hex);
        }
    }
    split.into_iter().map(|(_, lane)| lane).collect()
}

fn lines(parts: &[&str], line: impl Fn(&str) -> String) -> String {
    parts.iter().map(|hex| line(hex)).collect()
}

/// For each lane: `names` of all files, relative to a layout.
pub fn verify_lists(set: &Set, lanes: usize, directory: &Path) -> Result<()> {
    write_lanes(&split(set, set.sizes.keys().map(String::as_str), lanes), directory, |lane| {
        vec![("names", lines(lane, |hex| format!("blobs/sha256/{hex}\n")))]
    })
}

/// For each lane: the `names`, and what curl is to `get`.
pub fn export_lists(set: &Set, source: &str, lanes: usize, directory: &Path) -> Result<()> {
    let (documents, blobs) = (set.documents(), set.blobs());
    let url = |hex: &str| match (documents.get(hex), blobs.get(hex)) {
        (Some(repository), _) => format!("http://{source}/v2/{repository}/manifests/sha256:{hex}"),
        (None, repository) => {
            format!("http://{source}/v2/{}/blobs/sha256:{hex}", repository.unwrap_or(&""))
        }
    };
    write_lanes(&split(set, set.sizes.keys().map(String::as_str), lanes), directory, |lane| {
        let name = |hex: &str| format!("blobs/sha256/{hex}");
        let get = lines(lane, |hex| format!("url = \"{}\"\noutput = \"{}\"\n", url(hex), name(hex)));
        vec![("names", lines(lane, |hex| name(hex) + "\n")), ("get", get)]
    })
}

/// For each lane: the `names` of its blobs, and the URLs where their uploads `begin`. For all lanes: the
/// URLs that `mount` blobs in further repositories, and what curl is to do with `documents`.
pub fn import_lists(set: &Set, target: &str, lanes: usize, directory: &Path) -> Result<()> {
    let blobs = set.blobs();
    let begin = |hex: &str| {
        let repository = blobs.get(hex).copied().unwrap_or_default();
        format!("url = \"http://{target}/v2/{repository}/blobs/uploads/\"\n")
    };
    write_lanes(&split(set, blobs.keys().copied(), lanes), directory, |lane| {
        vec![("names", lines(lane, |hex| format!("{hex}\n"))), ("begin", lines(lane, begin))]
    })?;
    fs::write(directory.join("mount"), mounts(set, target, &blobs))?;
    fs::write(directory.join("documents"), documents(set, target))?;
    Ok(())
}

fn mounts(set: &Set, target: &str, first: &BTreeMap<&str, &str>) -> String {
    let mut list = String::new();
    for image in &set.images {
        for hex in &image.blobs {
            let from = first.get(hex.as_str()).copied().unwrap_or_default();
            if from != image.repository {
                let repository = &image.repository;
                list.push_str(&format!(
                    "url = \"http://{target}/v2/{repository}/blobs/uploads/?mount=sha256:{hex}&from={from}\"\n"
                ));
            }
        }
    }
    list
}

fn documents(set: &Set, target: &str) -> String {
    let mut requests = Vec::new();
    for image in &set.images {
        for (hex, media_type) in &image.documents {
            let name = if hex == image.top() { TAG.to_owned() } else { format!("sha256:{hex}") };
            requests.push(format!(
                "url = \"http://{target}/v2/{}/manifests/{name}\"\nupload-file = \"{}\"\n\
                 header = \"Content-Type: {media_type}\"\nfail\nsilent\nshow-error\n",
                image.repository,
                set.blob(hex).display()
            ));
        }
    }
    requests.join("next\n")
}

fn write_lanes<'a>(
    lanes: &[Vec<&'a str>],
    directory: &Path,
    files: impl Fn(&[&'a str]) -> Vec<(&'static str, String)>,
) -> Result<()> {
    super::emptied(directory)?;
    for (number, lane) in lanes.iter().enumerate().filter(|(_, lane)| !lane.is_empty()) {
        let place = directory.join(format!("lane-{number}"));
        fs::create_dir(&place)?;
        for (name, text) in files(lane) {
            fs::write(place.join(name), text)?;
        }
    }
    Ok(())
}
