//! Tar files that are not what they seem: names, types, sizes and extensions that other readers have
//! fallen for. A bundle's headers follow from its signed sums, so each is refused wherever it stands; what
//! a trusted key signed as well is refused for what it says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use sealift::trust::SigningKey;
use support::parts::{Entry, Parts, header, signing_key};
use support::tarballs::{entry, seal};
use support::verdict::{accepted, all_refused, is_one_of, piped, refused, tags, taking_all_but, writes};
use support::{Run, Scratch};

/// A link of any name, hard or symbolic.
fn link(name: &[u8], kind: u8, target: &[u8]) -> Vec<u8> {
    let mut entry = entry(name, kind, b"");
    entry[157..157 + target.len()].copy_from_slice(target);
    seal(&mut entry);
    entry
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(text: &str) -> Vec<u8> {
    let mut length = text.len() + 2;
    while length != format!("{length} {text}\n").len() {
        length += 1;
    }
    format!("{length} {text}\n").into_bytes()
}

/// A PAX extended header for the entry behind it.
fn pax(text: &str) -> Vec<u8> {
    entry(b"PaxHeaders/x", b'x', &record(text))
}

/// Where headers stand, and what is said of a header that is wrong there: in a file and through a pipe.
fn places(parts: &Parts) -> [(&'static str, usize, &'static str); 6] {
    let last = parts.0.last().unwrap();
    [
        ("the sums", 0, "TarHeader"),
        ("the signature", parts.0[1].offset, "TarHeader or TarOrder"),
        ("the statement", parts.get("bundle/bundle.json").offset, "TarHeader or TarOrder or LimitExceeded"),
        ("oci-layout", parts.get("oci-layout").offset, "TarHeader"),
        ("index.json", parts.get("index.json").offset, "TarHeader"),
        ("a layer", last.offset, "TarHeader"),
    ]
}

fn small() -> (Scratch, Vec<u8>, Parts) {
    let scratch = Scratch::with_small_release().exported();
    let good = scratch.read("bundle.tar");
    let parts = Parts::read(&good);
    (scratch, good, parts)
}

type Edit = fn(&mut [u8]);

fn put(header: &mut [u8], at: usize, bytes: &[u8]) {
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

fn rename(header: &mut [u8], name: &[u8]) {
    header[..100].fill(0);
    put(header, 0, name);
}

/// Edits each header in turn, with the right checksum for what it then says.
fn edited(edits: &[(&str, Edit)], resealed: bool) {
    let (scratch, good, parts) = small();
    let mut recipes = Vec::new();
    for (place, at, kind) in places(&parts) {
        for (name, edit) in edits {
            let mut bundle = good.clone();
            let header = &mut bundle[at..at + 512];
            edit(header);
            if resealed {
                seal(header);
            }
            if bundle == good {
                continue;
            }
            // Names and sizes of the sums and the statement are read before they are compared.
            let kind = if at == 0 { "TarHeader or LimitExceeded" } else { kind };
            recipes.push((format!("{name}: {place}"), bundle, kind.to_owned(), kind.to_owned()));
        }
    }
    eprintln!("{} headers refused", all_refused(&scratch, recipes));
}

#[test]
fn the_recipes_stand_on_a_bundle_that_is_accepted() {
    let (scratch, good, _) = small();
    let mut sealed = good.clone();
    seal(&mut sealed[..512]);
    assert_eq!(sealed, good, "the helper itself spoils nothing");
    accepted(&scratch, "bundle.tar");
    // And other readers take the extensions for what they say.
    let tar = [pax("path=renamed"), entry(b"a", b'0', b"hello"), vec![0; 1024]].concat();
    scratch.write("pax.tar", tar);
    assert_eq!(scratch.run("tar", "tf pax.tar").ok().stdout, "renamed\n");
}

#[rustfmt::skip]
const NAMES: [(&str, Edit); 19] = [
    ("a way up",                  |h| rename(h, b"../x")),
    ("a way up in the middle",    |h| rename(h, b"a/../../x")),
    ("a way up at the end",       |h| rename(h, b"blobs/..")),
    ("an absolute path",          |h| rename(h, b"/etc/passwd")),
    ("two slashes",               |h| rename(h, b"//etc/passwd")),
    ("a drive",                   |h| rename(h, b"C:\\boot.ini")),
    ("backslashes",               |h| rename(h, b"..\\..\\x")),
    ("a dot before",              |h| rename(h, b"./index.json")),
    ("upper case",                |h| rename(h, b"INDEX.JSON")),
    ("composed",                  |h| rename(h, "ind\u{e9}x.json".as_bytes())),
    ("decomposed",                |h| rename(h, "inde\u{301}x.json".as_bytes())),
    ("no UTF-8",                  |h| rename(h, b"\xff\xfe\x80")),
    ("something behind a NUL",    |h| rename(h, b"index.json\0../x")),
    ("a line break",              |h| rename(h, b"index\n.json")),
    ("a terminal's commands",     |h| rename(h, b"\x1b[2J\x1b]0;owned\x07")),
    ("reversed writing",          |h| rename(h, "\u{202e}nosj.xedni".as_bytes())),
    ("a hundred bytes, no NUL",   |h| rename(h, &[b'x'; 100])),
    ("no name",                   |h| rename(h, b"")),
    ("a name in the prefix",      |h| put(h, 345, b"../..")),
];

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    edited(&NAMES, true);
}

#[rustfmt::skip]
const TYPES: [(&str, Edit); 17] = [
    ("an old regular file",      |h| h[156] = 0),
    ("a hard link",              |h| { h[156] = b'1'; put(h, 157, b"../../etc/passwd") }),
    ("a symbolic link",          |h| { h[156] = b'2'; put(h, 157, b"/etc/passwd") }),
    ("a character device",       |h| { h[156] = b'3'; put(h, 329, b"0000001") }),
    ("a block device",           |h| { h[156] = b'4'; put(h, 329, b"0000010") }),
    ("a directory",              |h| h[156] = b'5'),
    ("a pipe",                   |h| h[156] = b'6'),
    ("a contiguous file",        |h| h[156] = b'7'),
    ("a PAX header",             |h| h[156] = b'x'),
    ("a global PAX header",      |h| h[156] = b'g'),
    ("a GNU long name",          |h| h[156] = b'L'),
    ("a GNU long link",          |h| h[156] = b'K'),
    ("a GNU sparse file",        |h| { h[156] = b'S'; put(h, 483, b"77777777777\0") }),
    ("a GNU dumped directory",   |h| h[156] = b'D'),
    ("a GNU continued file",     |h| h[156] = b'M'),
    ("a GNU volume label",       |h| h[156] = b'V'),
    ("an unknown type",          |h| h[156] = b'Z'),
];

#[test]
fn an_entry_that_is_no_regular_file_is_refused() {
    edited(&TYPES, true);
}

#[rustfmt::skip]
const SIZES: [(&str, Edit); 12] = [
    ("2^63 - 1",                 |h| put(h, 124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")),
    ("2^64 - 1",                 |h| put(h, 124, b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")),
    ("beyond 2^64",              |h| put(h, 124, b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
    ("negative",                 |h| put(h, 124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
    ("sixteen GiB",              |h| put(h, 124, b"\x80\0\0\0\0\0\0\x04\0\0\0\0")),
    ("the most octal digits",    |h| put(h, 124, b"77777777777\0")),
    ("no octal digits",          |h| put(h, 124, b"00000000089\0")),
    ("a sign",                   |h| put(h, 124, b"-0000000001\0")),
    ("nothing",                  |h| h[124..136].fill(0)),
    ("the same, with spaces",    |h| { let at = h[124..136].iter().position(|b| *b != b'0').unwrap(); h[124..124 + at].fill(b' ') }),
    ("the same, without NUL",    |h| { h.copy_within(124..135, 125); h[124] = b'0' }),
    ("the same, in base 256",    |h| { let size = u64::from_str_radix(std::str::from_utf8(&h[124..135]).unwrap(), 8).unwrap(); put(h, 124, b"\x80\0\0\0"); put(h, 128, &size.to_be_bytes()) }),
];

#[test]
fn a_size_in_another_spelling_or_beyond_all_measure_is_refused() {
    edited(&SIZES, true);
}

/// With so many kilobytes of addresses.
fn within(scratch: &Scratch, kilobytes: usize, file: &str, arguments: &str) -> Run {
    let sealift = env!("CARGO_BIN_EXE_sealift");
    let mut command = scratch.tool("sh", "");
    command.arg("-c").arg(format!("ulimit -v {kilobytes}; exec {sealift} {arguments} < {file}"));
    support::run(command)
}

#[test]
fn a_size_that_is_claimed_takes_no_memory() {
    let (scratch, good, parts) = small();
    for (_, at, _) in places(&parts) {
        for (name, edit) in &SIZES[..6] {
            let mut bundle = good.clone();
            edit(&mut bundle[at..at + 512]);
            seal(&mut bundle[at..at + 512]);
            scratch.write("spoiled.tar", bundle);
            for input in ["spoiled.tar", "-"] {
                let run =
                    within(&scratch, 1_000_000, "spoiled.tar", &format!("verify {input} --trust trust"));
                assert!(is_one_of(&run, 3, "TarHeader or LimitExceeded"), "{name} at {at}\n{run}");
            }
        }
    }
}

#[rustfmt::skip]
const CHECKSUMS: [(&str, Edit); 6] = [
    ("another checksum",         |h| h[153] ^= 1),
    ("no checksum",              |h| h[148..156].fill(0)),
    ("spaces",                   |h| h[148..156].fill(b' ')),
    ("six digits, NUL and space", |h| { h.copy_within(149..155, 148); put(h, 154, b"\0 ") }),
    ("leading spaces",           |h| h[148] = b' '),
    // Old readers added up signed bytes: with one above 127 the two sums differ.
    ("a sum of signed bytes",    |h| { h[500] = 0xff; h[148..156].fill(b' '); let sum: i32 = h.iter().map(|b| i32::from(*b as i8)).sum(); put(h, 148, format!("{sum:07o}\0").as_bytes()) }),
];

#[test]
fn a_checksum_in_another_form_is_refused() {
    edited(&CHECKSUMS, false);
}

#[rustfmt::skip]
const METADATA: [(&str, Edit); 14] = [
    ("set-user-id",              |h| put(h, 100, b"0004755\0")),
    ("a file for everybody",     |h| put(h, 100, b"0000666\0")),
    ("a mode with spaces",       |h| put(h, 100, b"   644 \0")),
    ("an owner",                 |h| put(h, 108, b"0001750\0")),
    ("a group",                  |h| put(h, 116, b"0001750\0")),
    ("a time",                   |h| put(h, 136, b"14371573400\0")),
    ("a target of no link",      |h| put(h, 157, b"hidden")),
    ("GNU's magic",              |h| put(h, 257, b"ustar  \0")),
    ("no magic",                 |h| h[257..265].fill(0)),
    ("a user's name",            |h| put(h, 265, b"root")),
    ("a group's name",           |h| put(h, 297, b"root")),
    ("a device",                 |h| put(h, 329, b"0000000\x000000000")),
    ("a prefix",                 |h| put(h, 345, b"hidden")),
    ("something at the end",     |h| put(h, 500, b"hidden bytes")),
];

#[test]
fn metadata_that_could_carry_a_message_is_refused() {
    edited(&METADATA, true);
}

#[test]
fn padding_that_could_carry_a_message_is_refused() {
    let (scratch, good, parts) = small();
    let mut recipes = Vec::new();
    for entry in parts.0.iter().filter(|entry| !entry.padding().is_empty()) {
        for at in [entry.padding().start, entry.padding().end - 1] {
            let mut bundle = good.clone();
            bundle[at] = b'!';
            recipes.push((format!("byte {at}"), bundle, "TarHeader".to_owned(), "TarHeader".to_owned()));
        }
    }
    assert!(all_refused(&scratch, recipes) >= 10);
}

/// Entries that would be put between others. What other readers make of each is in its name.
fn inserted() -> Vec<(&'static str, Vec<u8>)> {
    let nested = [entry(b"index.json", b'0', b"{}"), vec![0; 1024]].concat();
    let sized = |kind: &str, stated: usize, size: usize| {
        let mut entry = entry(b"blobs/sha256/x", b'0', &nested);
        put(&mut entry, 124, format!("{size:011o}\0").as_bytes());
        seal(&mut entry[..512]);
        [pax(&format!("{kind}={stated}")), entry].concat()
    };
    vec![
        (
            "a link, and a file through it",
            [link(b"blobs", b'2', b"/tmp"), entry(b"blobs/x", b'0', b"owned")].concat(),
        ),
        ("a link to its directory's parent", link(b"blobs/sha256/x", b'2', b"../../../x")),
        ("a hard link to what is outside", link(b"x", b'1', b"/etc/passwd")),
        (
            "a link, and a directory of its name",
            [link(b"blobs", b'2', b"/tmp"), entry(b"blobs", b'5', b"")].concat(),
        ),
        ("a pipe", entry(b"x", b'6', b"")),
        ("a directory", entry(b"blobs/sha256", b'5', b"")),
        ("a tar in a tar, by a size that only PAX readers see", sized("size", nested.len(), 0)),
        ("a tar in a tar, by a size that only others see", sized("size", 0, nested.len())),
        ("another name for what follows", pax("path=../../etc/passwd")),
        ("another link for what follows", pax("linkpath=/etc/passwd")),
        ("a name over the header of the next extension", [pax("path=index.json"), pax("size=7")].concat()),
        ("a record without an end", entry(b"PaxHeaders/x", b'x', b"30 path=index.json")),
        (
            "a record that is longer than its header",
            entry(b"PaxHeaders/x", b'x', b"999999 path=index.json\n"),
        ),
        ("a record of no length", entry(b"PaxHeaders/x", b'x', b"0 path=index.json\n")),
        ("an extension for all entries", entry(b"GlobalHead", b'g', &record("path=index.json"))),
        ("an extension for all sizes", entry(b"GlobalHead", b'g', &record("size=0"))),
        ("a GNU long name", entry(b"././@LongLink", b'L', b"../../etc/passwd\0")),
        ("a GNU long link", entry(b"././@LongLink", b'K', b"/etc/passwd\0")),
        ("a GNU sparse map", pax("GNU.sparse.realsize=8796093022208")),
        ("a second index.json", entry(b"index.json", b'0', b"{}")),
        ("a second index.json by another path", entry(b"./index.json", b'0', b"{}")),
        ("a second index.json in capitals", entry(b"INDEX.JSON", b'0', b"{}")),
        ("a file that nobody listed", entry(b"README", b'0', b"read me")),
        ("a script", entry(b"blobs/install.sh", b'0', b"#!/bin/sh\n")),
        ("a block of zeros", vec![0; 512]),
        ("the end of an archive", vec![0; 1024]),
    ]
}

#[test]
fn an_entry_between_others_is_refused_wherever_it_stands() {
    let (scratch, good, parts) = small();
    // In a file the length tells first; a pipe is read until it comes by.
    let here = [
        (0, "TarHeader", "TarHeader"),
        (parts.0[1].offset, "TarHeader or TarOrder", "TarHeader or TarOrder"),
        (parts.get("bundle/bundle.json").offset, "TarHeader or TarOrder", "TarHeader or TarOrder"),
        (parts.get("oci-layout").offset, "TrailingData", "TarHeader"),
        (parts.get("index.json").offset, "TrailingData", "TarHeader"),
        (parts.0.last().unwrap().offset, "TrailingData", "TarHeader"),
        (good.len() - 1024, "TrailingData", "TarHeader or TrailingData"),
        (good.len(), "TrailingData", "TrailingData"),
    ];
    let recipes = inserted().into_iter().flat_map(|(name, entry)| {
        here.map(|(at, filed, through_pipe)| {
            let bundle = [&good[..at], &entry, &good[at..]].concat();
            (format!("{name} at {at}"), bundle, filed.to_owned(), through_pipe.to_owned())
        })
    });
    eprintln!("{} insertions refused", all_refused(&scratch, recipes));
}

#[test]
fn an_extension_in_the_place_of_an_entry_is_refused() {
    // Of the same length, so that nothing else tells.
    let (scratch, good, parts) = small();
    let last = parts.0.last().unwrap();
    let recipes = inserted().into_iter().filter(|(_, entry)| entry.len() <= good.len() - 1024 - last.offset);
    let recipes = recipes.map(|(name, entry)| {
        let mut bundle = good.clone();
        bundle[last.offset..last.offset + entry.len()].copy_from_slice(&entry);
        (name.to_owned(), bundle, "TarHeader".to_owned(), "TarHeader".to_owned())
    });
    assert!(all_refused(&scratch, recipes) > 15);
}

type Forge = fn(&mut Parts, &SigningKey);

fn listed(parts: &mut Parts, key: &SigningKey) {
    parts.restate();
    parts.resum();
    parts.resign(key);
}

/// The sums name an entry of this path as well, and a trusted key signed that.
fn with_entry(parts: &mut Parts, key: &SigningKey, path: &str) {
    parts.0.push(Entry::new(path, *b"owned"));
    listed(parts, key);
}

#[rustfmt::skip]
const SIGNED: [(&str, Forge, &str); 19] = [
    ("a way up",                     |p, k| with_entry(p, k, "../x"),                       "SumsFormat"),
    ("a way up in the middle",       |p, k| with_entry(p, k, "a/../../x"),                  "SumsFormat"),
    ("an absolute path",             |p, k| with_entry(p, k, "/etc/cron.d/x"),              "SumsFormat"),
    ("two slashes",                  |p, k| with_entry(p, k, "//x"),                        "SumsFormat"),
    ("a drive",                      |p, k| with_entry(p, k, "C:\\x"),                      "SumsFormat"),
    ("backslashes",                  |p, k| with_entry(p, k, "blobs\\sha256\\x"),           "SumsFormat"),
    ("a terminal's commands",        |p, k| with_entry(p, k, "\u{1b}[2Jx"),                 "SumsFormat"),
    ("the same path again",          |p, k| with_entry(p, k, "index.json"),                 "SumsFormat"),
    ("the same path with a dot",     |p, k| with_entry(p, k, "./index.json"),               "SumsFormat"),
    ("the same path in capitals",    |p, k| with_entry(p, k, "INDEX.JSON"),                 "TarUnexpectedEntry"),
    ("a composed path",              |p, k| with_entry(p, k, "ind\u{e9}x.json"),            "SumsFormat"),
    ("a decomposed path",            |p, k| with_entry(p, k, "inde\u{301}x.json"),          "SumsFormat"),
    ("a path of 100 bytes",          |p, k| with_entry(p, k, &"x".repeat(100)),             "TarUnexpectedEntry"),
    ("a PAX header's name",          |p, k| with_entry(p, k, "PaxHeaders/x"),               "TarUnexpectedEntry"),
    ("a GNU long name's name",       |p, k| with_entry(p, k, "././@LongLink"),              "SumsFormat"),
    ("a directory's name",           |p, k| with_entry(p, k, "blobs/sha256"),               "TarUnexpectedEntry"),
    ("a directory's name and slash", |p, k| with_entry(p, k, "blobs/sha256/"),              "SumsFormat"),
    ("a blob under blobs/sha512",    |p, k| with_entry(p, k, &format!("blobs/sha512/{}", "0".repeat(64))), "TarUnexpectedEntry"),
    ("an unlisted one at the start", |p, k| { p.0.insert(5, Entry::blob("smuggled")); listed(p, k) }, "BlobUnreferenced or TarOrder"),
];

#[test]
fn a_trusted_signature_makes_no_path_a_good_one() {
    let (scratch, _, parts) = small();
    let key = signing_key(&scratch.path("release.key.pem"));
    let recipes = SIGNED.iter().map(|(name, forge, kind)| {
        let mut parts = parts.clone();
        forge(&mut parts, &key);
        (format!("signed: {name}"), parts.write(), (*kind).to_owned(), (*kind).to_owned())
    });
    all_refused(&scratch, recipes.collect::<Vec<_>>());
}

#[test]
fn headers_that_lie_about_signed_entries_are_refused() {
    // The sums are right and signed anew; a header alone says something else.
    let (scratch, _, mut parts) = small();
    let key = signing_key(&scratch.path("release.key.pem"));
    listed(&mut parts, &key);
    let good = parts.write();
    let parts = Parts::read(&good);
    let at = parts.0.last().unwrap().offset;
    let recipes = NAMES.iter().chain(&TYPES).chain(&METADATA).filter_map(|(name, edit)| {
        let mut bundle = good.clone();
        edit(&mut bundle[at..at + 512]);
        seal(&mut bundle[at..at + 512]);
        (bundle != good).then(|| ((*name).to_owned(), bundle, "TarHeader".to_owned(), "TarHeader".to_owned()))
    });
    assert!(all_refused(&scratch, recipes.collect::<Vec<_>>()) > 40);
}

#[test]
fn entries_in_another_order_or_missing_are_refused() {
    let (scratch, good, parts) = small();
    let mut recipes = Vec::new();
    let count = parts.0.len();
    for one in 0..count {
        let mut without = parts.clone();
        without.0.remove(one);
        let kind = "TarHeader or TarOrder or SignatureMissing or Truncated";
        recipes.push((format!("without {}", parts.0[one].path), without.write(), kind.into(), kind.into()));
        for other in one + 1..count {
            let mut swapped = parts.clone();
            swapped.0.swap(one, other);
            let kind = "TarHeader or TarOrder or SignatureMissing or DigestMismatch or LimitExceeded";
            recipes.push((format!("{one} and {other} exchanged"), swapped.write(), kind.into(), kind.into()));
        }
    }
    for recipe in &recipes {
        assert_ne!(recipe.1, good, "{}", recipe.0);
    }
    eprintln!("{} orders refused", all_refused(&scratch, recipes));
}

// ── Floods ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn entries_without_end_are_refused_at_the_first_one() {
    let (scratch, good, parts) = small();
    let head = parts.get("oci-layout").offset;
    let directories = entry(b"d", b'5', b"");
    let files = entry(b"f", b'0', b"x");
    for (beginning, entry, kind) in [
        (&good[..0], &directories, "TarHeader"),
        (&good[..0], &files, "TarHeader"),
        (&good[..head], &directories, "TarHeader"),
        (&good[..good.len() - 1024], &files, "TarHeader"),
        (&good[..], &files, "TrailingData"),
    ] {
        let sealift = env!("CARGO_BIN_EXE_sealift");
        let mut command = scratch.tool("sh", "");
        command.arg("-c").arg(format!("ulimit -v 1000000; exec {sealift} verify - --trust trust"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(beginning).unwrap();
        let many = entry.repeat(128);
        // Until nobody listens any more.
        let mut sent = 0;
        while input.write_all(&many).is_ok() {
            sent += many.len();
            assert!(sent < 64 << 20, "read on and on");
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(&format!("[{kind}]")), "{said}");
    }
}

#[test]
fn sums_and_signatures_beyond_their_limits_are_refused_unread() {
    let (scratch, good, parts) = small();
    let sums = 16 << 20;
    let mut claimed = header("bundle/SHA256SUMS", sums + 1).to_vec();
    claimed.resize(2048, b'x');
    let signature = &parts.0[1];
    let mut crowd = parts.clone();
    crowd.0.remove(1);
    for number in (0..17).rev() {
        let path = format!("bundle/signatures/{number:064x}.sig");
        crowd.0.insert(1, Entry::new(&path, signature.content.clone()));
    }
    let statement = parts.get("bundle/bundle.json").offset;
    let mut stated = good.clone();
    stated[statement..statement + 512].copy_from_slice(&header("bundle/bundle.json", (32 << 20) + 1));
    let recipe = |name: &str, bundle, kind: &str| (name.to_owned(), bundle, kind.to_owned(), kind.to_owned());
    all_refused(
        &scratch,
        [
            recipe("sums", claimed, "LimitExceeded"),
            recipe("signatures", crowd.write(), "TarOrder"),
            recipe("statement", stated, "LimitExceeded"),
        ],
    );
}

// ── Files that change ────────────────────────────────────────────────────────────────────────────

/// An import during which the bundle is changed: between its verification and the first upload.
fn changed_meanwhile(change: impl Fn(&Scratch) + Send + Sync + 'static) -> (Run, Vec<String>) {
    let scratch = std::sync::Arc::new(Scratch::with_release().exported());
    let (inside, done) = (scratch.clone(), AtomicBool::new(false));
    let server = taking_all_but(move |request, _| {
        if request.method == "POST" && !done.swap(true, Ordering::SeqCst) {
            change(&inside);
        }
        None
    });
    let run = scratch.sealift(&format!("import bundle.tar --to {} --trust trust", server.host()));
    assert!(!writes(&server).is_empty(), "verification was over before anything was sent");
    (run, tags(&server))
}

#[test]
fn a_bundle_that_is_changed_after_it_was_verified_sets_no_tag() {
    // In its place, byte by byte.
    let (run, tags) = changed_meanwhile(|scratch| {
        let bundle = scratch.read("bundle.tar");
        let file = std::fs::OpenOptions::new().write(true).open(scratch.path("bundle.tar")).unwrap();
        for entry in &Parts::read(&bundle).0[5..] {
            let flipped = [entry.content[0] ^ 1];
            std::os::unix::fs::FileExt::write_all_at(&file, &flipped, entry.range().start as u64).unwrap();
        }
    });
    assert_eq!(tags, [""; 0]);
    run.fails(3, "DigestMismatch").says("source: ").says("bundle.tar");

    // Cut short.
    let (run, tags) = changed_meanwhile(|scratch| {
        let file = std::fs::OpenOptions::new().write(true).open(scratch.path("bundle.tar")).unwrap();
        file.set_len(2000).unwrap();
    });
    assert_eq!(tags, [""; 0]);
    run.fails(3, "Truncated").says("source: ").says("bundle.tar");
}

#[test]
fn another_file_in_the_bundles_place_is_not_looked_at() {
    // Opened once: what has its name meanwhile is another matter.
    let (run, tags) = changed_meanwhile(|scratch| {
        scratch.write("other", "something else");
        std::fs::rename(scratch.path("other"), scratch.path("bundle.tar")).unwrap();
    });
    run.ok();
    assert_eq!(tags.len(), support::NAMES.len());
}

#[test]
fn holes_where_content_was_are_found() {
    let (scratch, good, parts) = small();
    let layer = parts.0.last().unwrap();
    let mut bundle = good.clone();
    bundle[layer.range()].fill(0);
    scratch.write("spoiled.tar", bundle);
    refused(&scratch, "spoiled.tar", "DigestMismatch", "DigestMismatch").unwrap();
}

// ── What is said ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn damage_is_told_with_its_entry_and_its_bytes() {
    let (scratch, good, parts) = small();
    for entry in &parts.0[2..] {
        let mut bundle = good.clone();
        bundle[entry.range().start] ^= 1;
        scratch.write("spoiled.tar", bundle);
        for run in [
            scratch.sealift("verify spoiled.tar --trust trust"),
            piped(&scratch, "spoiled.tar", "verify - --trust trust"),
        ] {
            let run = run.fails(3, "DigestMismatch").says(&entry.path);
            assert!(run.stderr.contains(&support::sha256(&entry.content)), "{run}");
        }
        let mut bundle = good.clone();
        bundle[entry.offset + 110] ^= 1;
        scratch.write("spoiled.tar", bundle);
        let said = scratch.sealift("verify spoiled.tar --trust trust").fails(3, "TarHeader");
        said.says(&entry.path).says(&format!("at byte {}", entry.offset));
    }
    // A blob is told with the bytes that it has in the file.
    let layer = parts.0.last().unwrap();
    let mut bundle = good;
    bundle[layer.range().end - 1] ^= 1;
    scratch.write("spoiled.tar", bundle);
    let range = format!("bytes {}–{}", layer.range().start, layer.range().end - 1);
    scratch.sealift("verify spoiled.tar --trust trust").fails(3, "DigestMismatch").says(&range);
    piped(&scratch, "spoiled.tar", "verify - --trust trust").fails(3, "DigestMismatch").says(&range);
}
