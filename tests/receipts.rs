//! Receipts: what landed where, checkable by those who sent it, on one page.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::verdict::{taking_all, writes};
use support::{Scratch, peer, sha256};

const IMPORT: &str = "import bundle.tar --to store:there --trust trust --receipt receipt.json";

fn receipt(scratch: &Scratch) -> Value {
    serde_json::from_slice(&scratch.read("receipt.json")).unwrap()
}

#[test]
fn a_receipt_says_what_was_verified_and_what_landed_where() {
    let scratch = Scratch::with_release().exported();
    let said = scratch.sealift(&format!("{IMPORT} --json")).ok().json();
    let bytes = scratch.read("receipt.json");
    let receipt = receipt(&scratch);
    assert_eq!(said["receipt"]["digest"], format!("sha256:{}", sha256(&bytes)));
    // Canonical: keys sorted, no white space.
    assert_eq!(receipt.to_string().as_bytes(), bytes);
    assert_eq!(receipt["type"], "application/vnd.sealift.receipt.v1+json");
    let part = |name: &str| {
        format!("sha256:{}", sha256(scratch.run("tar", &format!("-xOf bundle.tar {name}")).stdout.as_bytes()))
    };
    assert_eq!(receipt["bundle"]["digest"], part("bundle/SHA256SUMS"));
    assert_eq!(receipt["bundle"]["statement"], part("bundle/bundle.json"));
    assert_eq!(receipt["bundle"]["verified"], "all");
    assert_eq!(receipt["signers"][0]["keyId"], scratch.key_id("release.pub.pem"));
    assert_eq!(
        receipt["release"],
        json!({ "channel": "production", "name": "nexus-engine", "tier": "sovereign", "version": "2.1.0" })
    );
    assert_eq!(receipt["policy"]["profile"], "sovereign");
    assert_eq!(receipt["destination"], "store:there");
    let names = |image: &Value| image["names"].as_array().unwrap().len();
    assert_eq!(receipt["images"].as_array().unwrap().iter().map(names).sum::<usize>(), 8);
    let content = receipt["content"].as_array().unwrap();
    assert!(content.iter().all(|piece| piece["how"] == "sent" || piece["how"] == "mounted"));
    for piece in content {
        let hex = piece["digest"].as_str().unwrap().replace("sha256:", "");
        let there = scratch.read(format!("there/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
        assert_eq!(piece["size"], there.len() as u64);
    }
    // Once more: everything was there.
    let again = IMPORT.replace("receipt.json", "again.json");
    scratch.sealift(&again).ok();
    let again: Value = serde_json::from_slice(&scratch.read("again.json")).unwrap();
    assert!(again["content"].as_array().unwrap().iter().all(|piece| piece["how"] == "present"));
    assert_eq!(again["content"].as_array().unwrap().len(), content.len());
    assert_eq!(again["bundle"]["verified"], "documents");
}

#[test]
fn one_is_kept_in_the_state_directory_where_none_is_asked_for() {
    let scratch = Scratch::with_release().exported();
    let to = "import bundle.tar --to oci:there --trust trust";
    scratch.sealift(&format!("{to} --dry-run")).ok();
    assert!(!scratch.has("home/state/receipts"));
    for count in 1..3 {
        let said = scratch.sealift(to).ok().stdout;
        assert!(said.contains("receipt: "), "{said}");
        assert_eq!(fs::read_dir(scratch.path("home/state/receipts")).unwrap().count(), count);
    }
    assert_eq!(scratch.sealift(&format!("{to} --dry-run --receipt receipt.json")).code, 2);
}

#[test]
fn a_pipe_and_an_archive_give_receipts_too() {
    let scratch = Scratch::with_release().exported();
    support::piped(&scratch, "bundle.tar", "import - --to oci:piped --trust trust --receipt piped.json").ok();
    scratch.sealift("import bundle.tar --to oci-archive:all.tar --trust trust --receipt filed.json").ok();
    for name in ["piped.json", "filed.json"] {
        scratch.sealift(&format!("receipt {name} --bundle bundle.tar")).ok();
    }
}

#[test]
fn no_receipt_takes_the_place_of_another_file_and_nothing_is_sent_without_room_for_it() {
    let scratch = Scratch::with_release().exported();
    scratch.write("there.json", "a receipt");
    std::os::unix::fs::symlink("nowhere", scratch.path("link.json")).unwrap();
    for (file, code, kind) in [
        ("there.json", 2, "OutputExists"),
        ("link.json", 2, "OutputExists"),
        ("absent/receipt.json", 1, "Io"),
    ] {
        let server = taking_all();
        let import = format!("import bundle.tar --to {} --trust trust --receipt {file}", server.host());
        scratch.sealift(&import).fails(code, kind);
        assert_eq!(writes(&server), [""; 0], "{file}");
    }
    assert_eq!(scratch.read("there.json"), b"a receipt");
    assert!(!scratch.has("nowhere"));
    // An import that fails leaves none, and nothing beside it.
    let server = support::lying::Lying::start(|_, _| support::lying::Answer::new(500));
    let import = format!("import bundle.tar --to {} --trust trust --receipt receipt.json", server.host());
    assert_ne!(scratch.sealift(&import).code, 0);
    let left = fs::read_dir(scratch.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.map(|name| name.to_string_lossy().into_owned()).all(|name| !name.contains("receipt.json")));
}

#[test]
fn a_site_signs_its_receipts_and_openssl_checks_them() {
    let scratch = Scratch::with_release().exported();
    scratch.key("site");
    scratch.key("other");
    scratch.sealift(&format!("{IMPORT} --site-key site.key.pem")).ok();
    let id = scratch.key_id("site.pub.pem");
    let signature = format!("receipt.json.{id}.sig");
    assert_eq!(scratch.read(&signature).len(), 64);
    if peer("openssl") {
        let check = format!(
            "pkeyutl -verify -pubin -inkey site.pub.pem -rawin -in receipt.json -sigfile {signature}"
        );
        scratch.run("openssl", &check).ok();
    }
    let good = |run: support::Run| assert!(run.ok().stdout.contains("good, by site"));
    good(scratch.sealift("receipt receipt.json --by site.pub.pem"));
    scratch.trust("sites", &["site", "other"]);
    good(scratch.sealift("receipt receipt.json --trust sites"));
    // Nobody checked, and it says so.
    let said = scratch.sealift("receipt receipt.json").ok().stdout;
    assert!(said.contains("which nobody checked"), "{said}");
    scratch.sealift("receipt receipt.json --by other.pub.pem").fails(3, "SignatureUntrusted").says(&id);
    // Changed since.
    let text = String::from_utf8(scratch.read("receipt.json")).unwrap();
    scratch.write("receipt.json", text.replace("\"new\"", "\"old\""));
    scratch.sealift("receipt receipt.json --by site.pub.pem").fails(3, "SignatureUntrusted");
    scratch.sealift("receipt receipt.json --trust sites").fails(3, "SignatureUntrusted");
    scratch.write("receipt.json", &text);
    scratch.remove(&signature);
    scratch.sealift("receipt receipt.json --by site.pub.pem").fails(3, "SignatureMissing");
    let said = scratch.sealift("receipt receipt.json --output json").ok().json();
    assert_eq!(said["signature"]["verdict"], "missing");
    assert!(scratch.sealift("receipt receipt.json").ok().stdout.contains("not signed"));
}

#[test]
fn a_receipt_is_compared_with_the_bundle_that_was_sent() {
    let scratch = Scratch::with_release().exported();
    scratch.sealift(IMPORT).ok();
    let said = scratch.sealift("receipt receipt.json --bundle bundle.tar").ok().stdout;
    assert!(said.contains("it is about the bundle that was named"), "{said}");
    scratch.export_small_beside("small.tar");
    let run = scratch.sealift("receipt receipt.json --bundle small.tar").fails(3, "DigestMismatch");
    run.says("another bundle").says("small.tar");
    // One that names what the bundle does not hold.
    let text = String::from_utf8(scratch.read("receipt.json")).unwrap();
    let digest = receipt(&scratch)["images"][0]["digest"].as_str().unwrap().to_owned();
    scratch.write("receipt.json", text.replace(&digest, &format!("sha256:{}", "0".repeat(64))));
    let run = scratch.sealift("receipt receipt.json --bundle bundle.tar").fails(3, "DigestMismatch");
    run.says("not in the bundle");
}

#[test]
fn what_is_no_receipt_is_refused() {
    let scratch = Scratch::with_release().exported();
    scratch.sealift(IMPORT).ok();
    let text = String::from_utf8(scratch.read("receipt.json")).unwrap();
    for wrong in [
        "".to_owned(),
        "{}".to_owned(),
        text.replace("receipt.v1", "receipt.v2"),
        text.replacen("\"content\":", "\"content\":[],\"content\":", 1),
        text.replace("sha256:", "sha512:"),
    ] {
        scratch.write("wrong.json", wrong);
        scratch.sealift("receipt wrong.json").fails(3, "StatementInvalid");
    }
    // What a later version may add is no fault.
    scratch.write("later.json", text.replacen("{\"bundle\":", "{\"attested\":{},\"bundle\":", 1));
    scratch.sealift("receipt later.json").ok();
}

#[test]
fn it_fits_on_one_page_whatever_it_is_about() {
    let scratch = Scratch::with_release().exported();
    scratch.sealift(IMPORT).ok();
    let mut receipt = receipt(&scratch);
    // Many, long and hostile.
    let long = format!("registry.example.com/{}:2.1.0<b>\u{1b}[31m", "long/".repeat(60));
    for list in ["images", "signers", "notes"] {
        let one = receipt[list].get(0).cloned().unwrap_or(json!(long));
        receipt[list] = Value::Array(vec![one; 500]);
    }
    receipt["destination"] = json!(long);
    receipt["images"][0]["names"][0]["name"] = json!(long);
    receipt["signers"][0]["name"] = json!("<script>alert(1)</script>");
    receipt["site"]["host"] = json!("\u{202e}host");
    scratch.write("receipt.json", receipt.to_string());
    let said = scratch.sealift("receipt receipt.json").ok().stdout;
    assert!(said.lines().count() <= 66, "{} lines\n{said}", said.lines().count());
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'));
    assert!(said.contains("and 494 more images"), "{said}");
    let html = scratch.sealift("receipt receipt.json --output html").ok().stdout;
    assert!(!html.contains("<script") && !html.contains("<b>") && html.contains("&lt;script&gt;"));
    assert!(!html.contains("http://registry") && !html.contains("src=") && html.contains("<svg"));
}

/// The code's modules, dark ones being true, out of half blocks.
fn modules(page: &str) -> Vec<Vec<bool>> {
    let code: Vec<&str> = page.lines().skip_while(|line| !line.starts_with("    █▀▀▀▀▀█")).collect();
    let mut rows = Vec::new();
    for line in code {
        let cells: Vec<char> = line.chars().chain(std::iter::repeat(' ')).skip(4).take(SIDE).collect();
        rows.push(cells.iter().map(|cell| "█▀".contains(*cell)).collect());
        rows.push(cells.iter().map(|cell| "█▄".contains(*cell)).collect());
    }
    rows.truncate(SIDE);
    rows
}

/// Modules of a side of version 5.
const SIDE: usize = 37;

/// Whether a module is no data: finders with what is around them, timing, the one alignment pattern.
fn is_pattern(row: usize, column: usize) -> bool {
    let (top, left, right, bottom) = (row < 9, column < 9, column >= SIDE - 8, row >= SIDE - 8);
    let finder = (top && (left || right)) || (bottom && left);
    finder || row == 6 || column == 6 || ((28..33).contains(&row) && (28..33).contains(&column))
}

/// Reads a code of version 5-M as ISO/IEC 18004 has it, but for the correction of errors, of which paper has none here.
fn read_code(modules: &[Vec<bool>]) -> String {
    let format =
        (0..6).map(|at| (8, at)).chain([(8, 7), (8, 8), (7, 8)]).chain((0..6).rev().map(|at| (at, 8)));
    let format = format.fold(0, |bits, (row, column)| bits << 1 | u32::from(modules[row][column])) ^ 0x5412;
    assert_eq!(format >> 13, 0, "the level M");
    let mask = |i: usize, j: usize| {
        let product = i * j;
        let rest = match format >> 10 & 7 {
            0 => (i + j) % 2,
            1 => i % 2,
            2 => j % 3,
            3 => (i + j) % 3,
            4 => (i / 2 + j / 3) % 2,
            5 => product % 2 + product % 3,
            6 => (product % 2 + product % 3) % 2,
            _ => ((i + j) % 2 + product % 3) % 2,
        };
        rest == 0
    };
    let mut bits = Vec::new();
    // Two columns at a time, from the right, up and down in turn; the timing pattern's column is passed over.
    for (turn, right) in (7..SIDE).rev().step_by(2).chain([5, 3, 1]).enumerate() {
        for step in 0..SIDE {
            let row = if turn % 2 == 0 { SIDE - 1 - step } else { step };
            let pair = [right, right - 1].into_iter().filter(|column| !is_pattern(row, *column));
            bits.extend(pair.map(|column| modules[row][column] != mask(row, column)));
        }
    }
    let words: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |word, bit| word << 1 | u8::from(*bit)))
        .collect();
    // Two blocks of 43 words of data, in turns.
    let data: Vec<u8> = (0..86).map(|at| words[at % 43 * 2 + at / 43]).collect();
    assert_eq!(data[0] >> 4, 0b0100, "bytes");
    let length = (data[0] & 15) << 4 | data[1] >> 4;
    let text = (0..usize::from(length)).map(|at| data[at + 1] << 4 | data[at + 2] >> 4);
    String::from_utf8(text.collect()).unwrap()
}

#[test]
fn the_code_holds_the_digest() {
    let scratch = Scratch::with_release().exported();
    for number in 0..4 {
        let name = format!("receipt{number}.json");
        scratch.sealift(&IMPORT.replace("receipt.json", &name)).ok();
        let said = scratch.sealift(&format!("receipt {name}")).ok().stdout;
        let digest = sha256(&scratch.read(&name));
        assert_eq!(read_code(&modules(&said)), format!("sha256:{digest}"), "{said}");
        let groups = said.lines().filter(|line| line.starts_with("  ")).map(|line| line.replace(' ', ""));
        assert!(groups.collect::<String>().contains(&digest), "{said}");
        // And on the page that is printed: a path that begins with each dark module.
        let html = scratch.sealift(&format!("receipt {name} --output html")).ok().stdout;
        for (row, cells) in modules(&said).iter().enumerate() {
            for (column, dark) in cells.iter().enumerate() {
                let module = format!("M{} {}h1v1h-1z", column + 4, row + 4);
                assert_eq!(html.contains(&module), *dark, "{module}");
            }
        }
    }
}
