//! Texts that people and foreign files give: names, times, versions, release manifests.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use sealift::error::{Error, Kind, printable};
use sealift::manifest::Manifest;
use sealift::oci::{Digest, Files, Name, Platform, Registry, Repository, Tag, docker_name};
use sealift::release::{Moment, ReleaseName, Version, byte_count};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Whether a terminal may see this character.
pub fn harmless(c: char) -> bool {
    let direction = ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    !c.is_control() && !direction && !"\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{feff}".contains(c)
}

/// An error is one line that does nothing to a terminal.
pub fn is_sound(error: &Error) {
    let shown = error.to_string();
    assert!(shown.chars().all(harmless), "{shown:?}");
    assert!(shown.ends_with(&format!("[{}]", error.kind().name())), "{shown}");
    assert!(error.advice().unwrap_or_default().chars().all(harmless), "{:?}", error.advice());
}

/// What is parsed is printed so that it is parsed to the same again, in JSON too.
fn again<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let value: T = text.parse().inspect_err(is_sound).ok()?;
    let shown = value.to_string();
    assert_eq!(shown.parse::<T>().as_ref().ok(), Some(&value), "{text:?} is shown as {shown:?}");
    let json = serde_json::to_string(&value).expect("a checked text is a string");
    assert_eq!(json, format!("\"{shown}\""), "nothing in it needs an escape");
    assert_eq!(serde_json::from_str::<T>(&json).as_ref().ok(), Some(&value));
    Some(value)
}

/// The same, for what has one spelling.
fn exactly<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let value: T = again(text)?;
    assert_eq!(value.to_string(), text);
    Some(value)
}

/// Becomes part of a path and of a URL: must not lead out of either.
fn stays_inside(text: &str) {
    assert!(!text.is_empty() && text.split('/').all(|part| !matches!(part, "" | "." | "..")), "{text:?}");
    assert!(text.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\@\"'<>`{}|^".contains(&b)), "{text:?}");
}

/// Names of images and their parts, digests, platforms, versions, times, sizes; places of images.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Files::parse(text) {
        Ok((files, pick)) => {
            let shown =
                format!("{files}{}", pick.as_ref().map(|pick| format!(":{pick}")).unwrap_or_default());
            assert_eq!(Files::parse(&shown).ok(), Some((files, pick)), "{text:?} is shown as {shown:?}");
        }
        Err(error) => is_sound(&error),
    }
    if let Some(name) = docker_name(text) {
        assert_eq!(docker_name(&name.to_string()), Some(name), "{text:?}");
    }
    if let Some(name) = exactly::<Name>(text) {
        stays_inside(text);
        let parts = (name.registry.as_str(), name.repository.as_str(), name.tag.as_str());
        assert_eq!(format!("{}/{}:{}", parts.0, parts.1, parts.2), text);
        assert!(exactly::<Registry>(parts.0).is_some());
        assert!(exactly::<Repository>(parts.1).is_some());
        assert!(exactly::<Tag>(parts.2).is_some());
    }
    if let Some(registry) = exactly::<Registry>(text) {
        stays_inside(text);
        assert!(!text.contains('/') && text.contains(registry.host()));
    }
    if exactly::<Repository>(text).is_some() {
        stays_inside(text);
        assert!(!text.contains(':') && text.to_lowercase() == text);
    }
    if exactly::<Tag>(text).is_some() {
        stays_inside(text);
        assert!(!text.contains(['/', ':']) && text.len() <= 128);
    }
    if let Some(digest) = exactly::<Digest>(text) {
        assert_eq!(Digest::from_hex(&digest.hex()), Some(digest));
        assert!(digest.blob_path().ends_with(&text[7..]));
    }
    if let Some(platform) = exactly::<Platform>(text) {
        assert!(platform.matches(&platform) && platform.same_machine(&platform));
        let parts: Vec<_> = text.split('/').collect();
        assert_eq!(Platform::new(parts[0], parts[1], parts.get(2).copied()), Some(platform));
    }
    if let Some(version) = exactly::<Version>(text) {
        let numbers = (0..4).filter_map(|n| version.number(n));
        assert!(numbers.into_iter().all(|n| n.bytes().all(|b| b.is_ascii_digit()) && text.contains(n)));
    }
    exactly::<ReleaseName>(text);
    if let Some(moment) = again::<Moment>(text) {
        // Statements are compared by their bytes: one moment has one form.
        assert_eq!(moment.to_string().len(), 20, "{moment}");
    }
    if let Ok(moment) = Moment::from_epoch_seconds(text) {
        assert_eq!(moment.to_string().parse().ok(), Some(moment), "{moment}");
    }
    if let Some(count) = byte_count(text) {
        assert!(text.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '+'), "{text:?} {count}");
    }
}

/// Messages with foreign text in them.
pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let shown = printable(&text);
    assert!(shown.chars().all(harmless), "{shown:?}");
    assert!(shown.len() <= 600 + "\u{10ffff}".escape_unicode().count() + 1, "{}", shown.len());
    if text.len() <= 600 && text.chars().all(harmless) {
        assert_eq!(shown, text, "nothing is changed without need");
    }
    let error = Error::new(Kind::Io, text.clone()).at(&text).got(&text).expected(&text).hint(&text);
    is_sound(&error.inside(&text));
}

/// A release manifest: what is accepted names each image once.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let manifest = match Manifest::parse(text, Path::new("directory"), "release.toml") {
        Ok(manifest) => manifest,
        Err(error) => return is_sound(&error),
    };
    assert!(!manifest.images.is_empty());
    let mut names = HashSet::new();
    for variant in &manifest.images {
        let want = &variant.want;
        assert_eq!(want.tags.first(), Some(&want.source.tag));
        for tag in &want.tags {
            let name = want.source.with_tag(tag.clone());
            exactly::<Name>(&name.to_string()).expect("a usable name");
            assert!(names.insert(name), "two images of one name");
        }
        let inside = |path: &Path| path.starts_with("directory") || path.is_absolute();
        assert!(variant.files.iter().all(|(files, _)| inside(&files.path)));
    }
}
