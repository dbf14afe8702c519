//! What a bundle is read by, piece by piece: sums, statement, tar headers, frames.

use std::io::{Read, Write};

use sealift::bundle::{Statement, fuzzing};

use crate::make;
use crate::words::is_sound;

/// Sums that are accepted have one form only, and no path that leads anywhere.
pub fn sums(bytes: &[u8]) {
    let entries = match fuzzing::parse_sums(bytes) {
        Ok(entries) => entries,
        Err(error) => return is_sound(&error),
    };
    let mut again = Vec::new();
    for (digest, path) in &entries {
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path}");
        fuzzing::append_sums(&mut again, digest, path);
    }
    assert!(again == bytes, "written again, the sums are others");
    assert_eq!(entries[0].1, "bundle/bundle.json");
    let distinct: std::collections::HashSet<_> = entries.iter().map(|(_, path)| path).collect();
    assert_eq!(distinct.len(), entries.len());
}

/// A statement that is accepted has one form only, and that is the canonical one.
pub fn statement(bytes: &[u8]) {
    let statement = match Statement::parse(bytes) {
        Ok(statement) => statement,
        Err(error) => return is_sound(&error),
    };
    let again = statement.encode().expect("what was parsed can be written");
    assert!(again == bytes, "written again, the statement is another");
    assert!(Statement::parse(&again).is_ok_and(|parsed| parsed == statement));
    // Another writer that sorts keys and adds no white space.
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
    assert!(value.to_string().as_bytes() == bytes, "not canonical");
}

/// Headers: eight bytes of size and a path, or a whole block.
pub fn tar(bytes: &[u8]) {
    if let Some((size, path)) = bytes.split_first_chunk::<8>()
        && let Ok(path) = std::str::from_utf8(path)
    {
        let size = u64::from_be_bytes(*size);
        match fuzzing::header(path, size) {
            Ok(header) => {
                assert!(header == make::header(path, size), "not the header of FORMAT.md: {path} {size}");
                assert_eq!(fuzzing::stated_path(&header), Some(path));
                assert_eq!(fuzzing::stated_size(&header), Some(size));
                fuzzing::require_header(&header, path, size, 0).expect("its own header");
            }
            Err(error) => is_sound(&error),
        }
    }
    let Some(block) = bytes.first_chunk::<512>() else { return };
    let (path, size) = (fuzzing::stated_path(block), fuzzing::stated_size(block));
    if let (Some(path), Some(size)) = (path, size) {
        // A reader takes what a header states only if all of it is the header of that.
        let accepted = fuzzing::require_header(block, path, size, 0).inspect_err(is_sound).is_ok();
        assert_eq!(accepted, path_fits(path) && *block == make::header(path, size));
    }
    let zeros = fuzzing::require_zeros(bytes, "somewhere", 0).inspect_err(is_sound).is_ok();
    assert_eq!(zeros, bytes.iter().all(|b| *b == 0));
}

fn path_fits(path: &str) -> bool {
    path.len() <= 100 && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
}

/// Most plain bytes that are looked at: a few compressed ones can make gigabytes.
const MOST: u64 = 1 << 20;

/// Compressed bytes: read at random and as a stream, they are the same.
pub fn frames(bytes: &[u8]) {
    use fuzzing::frames as doors;
    if let Ok(again) = doors::table_again(bytes) {
        assert!(again == bytes, "written again, the seek table is another");
    }
    if let Ok((length, _)) = doors::frame_header(bytes) {
        assert!((6..=18).contains(&length) && length <= bytes.len() as u64, "{length}");
    }
    let sought = doors::sought(file_of(bytes), MOST);
    let mut streamed = Vec::new();
    let stream =
        doors::StreamDecoder::new(bytes).expect("a context").take(MOST + 1).read_to_end(&mut streamed);
    match sought {
        Ok(Some(plain)) => {
            stream.expect("what is read at random is read as a stream");
            assert!(plain == streamed, "read in two ways, it is not the same");
        }
        Ok(None) => {}
        Err(error) => is_sound(&sealift::error::Error::io("cannot read", "fuzz", &error)),
    }
}

fn file_of(bytes: &[u8]) -> std::fs::File {
    let memory = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let mut file = std::fs::File::from(memory);
    file.write_all(bytes).expect("memory");
    file
}
