//! `bundle/SHA256SUMS`: what `sha256sum` writes, in its strictest form. The standard tool is lax
//! (it skips garbage, takes CRLF and `..`), so a reader must not be.

use super::STATEMENT_PATH;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::Digest;

/// Adds the line of one entry: `<64 lower hex><two spaces><path><LF>`.
pub fn append(sums: &mut Vec<u8>, digest: &Digest, path: &str) {
    sums.extend_from_slice(digest.hex().as_bytes());
    sums.extend_from_slice(b"  ");
    sums.extend_from_slice(path.as_bytes());
    sums.push(b'\n');
}

/// No reader takes more than it may have to read before it has checked a signature.
pub fn check_length(bytes: &[u8]) -> Result<()> {
    match bytes.len() as u64 > limits::SUMS {
        true => Err(wrong(0, "the list is too long")),
        false => Ok(()),
    }
}

/// Parses sums whose signature was checked.
///
/// # Errors
/// `SumsFormat` with the number of the first bad line: nothing but the grammar above, the
/// statement first, no path twice.
pub fn parse(bytes: &[u8]) -> Result<Vec<(Digest, &str)>> {
    check_length(bytes)?;
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(0, "not ASCII text"))?;
    let body = text.strip_suffix('\n').ok_or_else(|| wrong(0, "the last line has no end"))?;
    let mut entries = Vec::new();
    for (number, line) in body.split('\n').enumerate() {
        entries.push(entry(line).ok_or_else(|| wrong(number + 1, "a malformed line"))?);
    }
    // The first line tells a bundle's sums from any other signed list: a signature over something
    // else must not be usable here.
    if entries.first().map(|(_, path)| *path) != Some(STATEMENT_PATH) {
        return Err(wrong(1, "not the sums of a bundle").expected(format_args!("{STATEMENT_PATH} first")));
    }
    let mut paths: Vec<_> = entries.iter().map(|(_, path)| *path).collect();
    paths.sort_unstable();
    match paths.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(twice) => Err(wrong(0, "a path stands twice").got(twice.first().copied().unwrap_or_default())),
        None => Ok(entries),
    }
}

fn entry(line: &str) -> Option<(Digest, &str)> {
    let (hex, path) = line.split_once("  ")?;
    let segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    (path.len() <= 100 && path.split('/').all(segment)).then_some((Digest::from_hex(hex)?, path))
}

fn wrong(line: usize, what: &str) -> Error {
    let place = match line {
        0 => super::SUMS_PATH.to_owned(),
        line => format!("{} line {line}", super::SUMS_PATH),
    };
    Error::new(Kind::SumsFormat, what.to_owned()).at(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_strict_form_is_read() {
        let a = "a".repeat(64);
        let good = format!("{a}  bundle/bundle.json\n{a}  oci-layout\n");
        assert_eq!(parse(good.as_bytes()).unwrap().len(), 2);
        let bad = [
            String::new(),
            "\n".into(),
            good.trim_end().into(),
            good.replace('\n', "\r\n"),
            format!("\u{feff}{good}"),
            format!("# comment\n{good}"),
            format!("{good}\n"),
            good.replace("  ", " *"),
            good.replace("  ", "\t"),
            good.to_uppercase(),
            format!("\\{good}"),
            format!("{a}  oci-layout\n{a}  bundle/bundle.json\n"),
            format!("{good}{a}  oci-layout\n"),
            format!("{good}{a}  ../etc/passwd\n"),
            format!("{good}{a}  /etc/passwd\n"),
            format!("{good}{a}  a//b\n"),
            format!("{good}{a}  a/./b\n"),
            format!("{good}{a}  a b\n"),
            format!("{good}{}  b\n", "a".repeat(63)),
            format!("{good}{a}  {}\n", "x".repeat(101)),
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes()).map(|_| ()).unwrap_err().kind(), Kind::SumsFormat, "{text:?}");
        }
    }

    /// Written and read, sums are the same; with one byte changed, they are others or none.
    #[test]
    fn what_is_written_is_read() {
        use proptest::collection::{btree_set, vec};
        use proptest::prelude::*;
        let path = vec("[A-Za-z0-9_-][A-Za-z0-9._-]{0,10}", 1..4).prop_map(|parts| parts.join("/"));
        let listed = (btree_set(path, 0..6), any::<[u8; 8]>(), any::<prop::sample::Index>(), any::<u8>());
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let outcome = runner.run(&listed, |(paths, seed, place, byte)| {
            let paths = std::iter::once(STATEMENT_PATH.to_owned()).chain(paths);
            let entries: Vec<_> =
                paths.map(|path| (Digest::of(&[&seed, path.as_bytes()].concat()), path)).collect();
            let mut bytes = Vec::new();
            entries.iter().for_each(|(digest, path)| append(&mut bytes, digest, path));
            let read: Vec<_> =
                parse(&bytes).unwrap().into_iter().map(|(digest, path)| (digest, path.to_owned())).collect();
            assert_eq!(read, entries);
            let at = place.index(bytes.len());
            let mut other = bytes.clone();
            other[at] = byte;
            if let Ok(read) = parse(&other) {
                let mut again = Vec::new();
                read.iter().for_each(|(digest, path)| append(&mut again, digest, path));
                assert_eq!(again, other);
            }
            Ok(())
        });
        outcome.unwrap();
    }
}
