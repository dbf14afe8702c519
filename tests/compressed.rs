//! Bundles in zstd frames: the same bundle, whoever unpacks it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

mod support;

use std::process::Stdio;

use support::images::{Image, Layout};
use support::parts::Parts;
use support::verdict::{accepted, is_one_of, refused};
use support::{EXPORT, Run, Scratch, piped, run};

const PACK: &str =
    "export release.toml -o bundle.tar.zst --key release.key.pem --mirror registry.example.com=oci:images";

/// Bytes of the seek table of a bundle with two frames.
const TABLE: usize = 8 + 2 * 8 + 9;

fn packed(scratch: Scratch) -> Scratch {
    scratch.sealift(PACK).ok();
    scratch
}

/// A release whose one image has layers of several frames.
fn with_large_release() -> Scratch {
    let scratch = Scratch::new();
    let image = Image { layer: 9 << 20, ..Image::new("tool") };
    Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
    scratch.write("release.toml", support::SMALL);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch
}

#[test]
fn what_is_unpacked_is_the_bundle() {
    if !support::peer("zstd") {
        return;
    }
    let scratch = packed(with_large_release()).exported();
    scratch.run("zstd", "-q -t bundle.tar.zst").ok();
    scratch.run("zstd", "-q -d bundle.tar.zst -o unpacked.tar").ok();
    assert_eq!(scratch.read("unpacked.tar"), scratch.read("bundle.tar"));
    // k3s grants a window of 32 MiB.
    scratch.run("zstd", "-q -t --long=25 -M32MB bundle.tar.zst").ok();
}

#[test]
fn the_same_release_gives_the_same_bytes() {
    let scratch = packed(with_large_release());
    let first = scratch.read("bundle.tar.zst");
    for jobs in ["1", "9"] {
        scratch.sealift(&format!("{PACK} --overwrite --jobs {jobs}")).ok();
        assert_eq!(scratch.read("bundle.tar.zst"), first);
    }
}

#[test]
fn every_verb_reads_both_forms_alike() {
    let scratch = packed(Scratch::with_release()).exported();
    for verb in ["verify", "verify --head", "inspect", "import --dry-run --to oci:there"] {
        let plain = scratch.sealift(&format!("{verb} bundle.tar --trust trust --json")).ok().json();
        let packed = scratch.sealift(&format!("{verb} bundle.tar.zst --trust trust --json")).ok().json();
        assert_eq!(packed, plain, "{verb}");
        let piped = piped(&scratch, "bundle.tar.zst", &format!("{verb} - --trust trust --json")).ok().json();
        assert_eq!(piped, plain, "{verb} -");
    }
    scratch.sealift("import bundle.tar.zst --to oci:there --trust trust").ok();
    let again = scratch.sealift("import bundle.tar --to oci:there --trust trust --json").ok().json();
    assert_eq!(again["toSend"], 0);
}

#[test]
fn large_layers_are_taken_out_of_their_frames() {
    let scratch = packed(with_large_release());
    scratch.sealift("verify bundle.tar.zst --trust trust").ok();
    scratch.sealift("import bundle.tar.zst --to oci:there --trust trust --platform linux/arm64").ok();
    piped(&scratch, "bundle.tar.zst", "import - --to oci:elsewhere --trust trust").ok();
    let again = scratch.sealift("import bundle.tar.zst --to oci:elsewhere --trust trust --json").ok().json();
    assert_eq!(again["toSend"], 0);
}

#[test]
fn a_compressed_bundle_that_was_cut_or_damaged_is_refused() {
    let scratch = packed(Scratch::with_small_release());
    let bundle = scratch.read("bundle.tar.zst");
    for keep in (0..bundle.len()).step_by(61) {
        scratch.write("bad.tar.zst", &bundle[..keep]);
        let verify = scratch.sealift("verify bad.tar.zst --trust trust");
        assert!(verify.code == 3 && verify.stdout.is_empty(), "first {keep} bytes: {verify}");
        // Cut off just before the table, it is what `zstd` itself writes: all of the bundle, which a pipe takes.
        if keep == bundle.len() - TABLE {
            continue;
        }
        let import = piped(&scratch, "bad.tar.zst", "import - --to oci:there --trust trust");
        assert!(import.code == 3 && !scratch.has("there/index.json"), "first {keep} bytes: {import}");
    }
    for at in (0..bundle.len()).step_by(61) {
        let mut damaged = bundle.clone();
        // All bits: a frame's header has one that means nothing.
        damaged[at] ^= 0xff;
        scratch.write("bad.tar.zst", &damaged);
        let verify = scratch.sealift("verify bad.tar.zst --trust trust");
        assert!(verify.code == 3 && verify.stdout.is_empty(), "byte {at}: {verify}");
    }
}

#[test]
fn what_follows_the_seek_table_spoils_it() {
    let scratch = packed(Scratch::with_small_release());
    scratch.write("longer.tar.zst", [scratch.read("bundle.tar.zst"), b"x".to_vec()].concat());
    assert_eq!(scratch.sealift("verify longer.tar.zst --trust trust").code, 3);
    assert_eq!(piped(&scratch, "longer.tar.zst", "verify - --trust trust").code, 3);
}

#[test]
fn what_somebody_else_compressed_goes_through_a_pipe_only() {
    if !support::peer("zstd") {
        return;
    }
    let scratch = Scratch::with_small_release().exported();
    scratch.run("zstd", "-q bundle.tar -o foreign.tar.zst").ok();
    scratch
        .sealift("verify foreign.tar.zst --trust trust")
        .fails(3, "FrameInvalid")
        .says("hint: ")
        .says("zstd -d");
    piped(&scratch, "foreign.tar.zst", "verify - --trust trust").ok();
    // A window as large as is granted, and beyond that: 128 MiB, and 2 GiB. From a pipe, or the size would tell
    // that it is not needed.
    for (window, accepted) in [(25, true), (26, false), (27, false), (31, false)] {
        let pack = format!("cat bundle.tar | zstd -q --ultra --long={window} > wide.tar.zst");
        assert!(scratch.tool("sh", "").arg("-c").arg(pack).status().unwrap().success());
        let wide = within(&scratch, "wide.tar.zst", "verify - --trust trust");
        match accepted {
            true => drop(wide.ok()),
            false => drop(wide.fails(3, "FrameInvalid").says("too much memory").says("--long=25")),
        }
    }
}

/// Through a pipe, with 600 megabytes of addresses.
fn within(scratch: &Scratch, file: &str, arguments: &str) -> Run {
    let mut command = scratch.tool("sh", "");
    let sealift = env!("CARGO_BIN_EXE_sealift");
    command.arg("-c").arg(format!("ulimit -v 600000; exec {sealift} {arguments} < {file}"));
    run(command)
}

#[test]
fn what_is_only_called_compressed_is_read_for_what_it_is() {
    let scratch = packed(Scratch::with_small_release()).exported();
    std::fs::copy(scratch.path("bundle.tar"), scratch.path("plain.tar.zst")).unwrap();
    std::fs::copy(scratch.path("bundle.tar.zst"), scratch.path("packed.tar")).unwrap();
    accepted(&scratch, "plain.tar.zst");
    accepted(&scratch, "packed.tar");
}

#[test]
fn other_ways_of_compressing_are_refused_by_what_they_begin_with() {
    let scratch = packed(Scratch::with_small_release()).exported();
    let (plain, once) = (scratch.read("bundle.tar"), scratch.read("bundle.tar.zst"));
    let twice = zstd::encode_all(once.as_slice(), 3).unwrap();
    let filled = |magic: &[u8]| [magic, &[b'x'; 4096]].concat();
    for (name, content, filed, through_pipe) in [
        ("gzip", filled(b"\x1f\x8b\x08\0"), "TarHeader", "TarHeader"),
        ("xz", filled(b"\xfd7zXZ\0"), "TarHeader", "TarHeader"),
        ("bzip2", filled(b"BZh91AY&SY"), "TarHeader", "TarHeader"),
        ("lz4", filled(b"\x04\x22\x4d\x18"), "TarHeader", "TarHeader"),
        ("zip", filled(b"PK\x03\x04"), "TarHeader", "TarHeader"),
        ("zstd of old", filled(b"\x27\xb5\x2f\xfd"), "TarHeader", "TarHeader"),
        (
            "a skippable frame first",
            [b"\x50\x2a\x4d\x18\0\0\0\0", once.as_slice()].concat(),
            "TarHeader",
            "TarHeader",
        ),
        ("zstd of zstd", twice, "FrameInvalid", "TarHeader"),
        (
            "zstd and something behind",
            [once.as_slice(), b"x"].concat(),
            "FrameInvalid or TrailingData or Truncated",
            "TrailingData",
        ),
        (
            "zstd and the bundle behind",
            [once.as_slice(), &plain].concat(),
            "FrameInvalid or Truncated",
            "TrailingData",
        ),
        ("the bundle and zstd behind", [plain.as_slice(), &once].concat(), "TrailingData", "TrailingData"),
        ("a dictionary", filled(b"\x28\xb5\x2f\xfd\x21\x07\x00"), "FrameInvalid", "FrameInvalid"),
    ] {
        scratch.write("spoiled", content);
        refused(&scratch, "spoiled", filed, through_pipe).unwrap_or_else(|what| panic!("{name}: {what}"));
    }
}

/// A frame that holds nothing (RFC 8878): a single segment of no bytes, one last raw block of none.
const EMPTY: &[u8] = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0";

#[test]
fn a_million_empty_frames_are_read_and_come_to_an_end() {
    let scratch = packed(Scratch::with_small_release()).exported();
    assert_eq!(zstd::decode_all(EMPTY).unwrap(), b"");
    let frames = EMPTY.repeat(1_000_000);
    let bundle = zstd::encode_all(scratch.read("bundle.tar").as_slice(), 3).unwrap();
    scratch.write("frames.tar.zst", [&frames, bundle.as_slice()].concat());
    within(&scratch, "frames.tar.zst", "verify - --trust trust").ok();
    scratch.write("frames.tar.zst", [bundle.as_slice(), &frames].concat());
    within(&scratch, "frames.tar.zst", "verify - --trust trust").ok();
    // In a file each frame is where it belongs, or it is none.
    scratch.sealift("verify frames.tar.zst --trust trust").fails(3, "FrameInvalid");
    scratch.write("frames.tar.zst", &frames);
    within(&scratch, "frames.tar.zst", "verify - --trust trust").fails(3, "Truncated");
}

#[test]
fn a_bomb_behind_a_bundle_is_not_unpacked() {
    if !support::peer("zstd") {
        return;
    }
    let scratch = Scratch::with_small_release().exported();
    let bytes = scratch.read("bundle.tar").len();
    // Behind all of it, behind its head, and in its sums: 600 megabytes of zeros each.
    for (keep, kind) in [
        (bytes, "TrailingData"),
        (bytes - 1024, "TrailingData"),
        (2000, "SignatureUntrusted or TarOrder or TarHeader or SumsFormat"),
    ] {
        let pack =
            format!("(head -c {keep} bundle.tar; head -c 600000000 /dev/zero) | zstd -q > bomb.tar.zst");
        assert!(scratch.tool("sh", "").arg("-c").arg(pack).status().unwrap().success());
        let run = within(&scratch, "bomb.tar.zst", "import - --to oci:there --trust trust");
        assert!(is_one_of(&run, 3, kind), "{keep}\n{run}");
        assert!(!scratch.has("there/index.json"));
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    if !support::peer("zstd") {
        return;
    }
    let scratch = Scratch::with_small_release();
    // Two gigabytes of zeros in some kilobytes: refused at the first header, whoever sends it.
    let pack = "head -c 2000000000 /dev/zero | zstd -q -o bomb.tar.zst";
    assert!(scratch.tool("sh", "").arg("-c").arg(pack).status().unwrap().success());
    piped(&scratch, "bomb.tar.zst", "import - --to oci:there --trust trust").fails(3, "TarHeader");
    assert_eq!(scratch.sealift("verify bomb.tar.zst --trust trust").code, 3);
}

#[test]
fn an_interrupted_export_goes_on_behind_its_last_frame() {
    let scratch = packed(with_large_release());
    let whole = scratch.read("bundle.tar.zst");
    let (partial, journal) =
        (scratch.path("bundle.tar.zst.partial"), scratch.path("bundle.tar.zst.partial.journal"));
    std::fs::remove_file(scratch.path("bundle.tar.zst")).unwrap();
    // The journal as an export leaves it that is killed in the middle.
    let mut export =
        scratch.command(&format!("{PACK} --limit-rate 20MB")).stderr(Stdio::null()).spawn().unwrap();
    while !journal.exists() || std::fs::metadata(&partial).map_or(0, |facts| facts.len()) < (9 << 20) {
        std::thread::yield_now();
    }
    export.kill().unwrap();
    export.wait().unwrap();
    let kept = std::fs::read(&journal).unwrap();
    for (keep, damage) in
        [(whole.len() / 2, None), (20 << 20, Some(10 << 20)), (100, None), (whole.len(), None)]
    {
        let mut beginning = whole[..keep.min(whole.len())].to_vec();
        if let Some(at) = damage {
            beginning[at] ^= 1;
        }
        std::fs::write(&partial, &beginning).unwrap();
        std::fs::write(&journal, &kept).unwrap();
        scratch.sealift(&format!("{PACK} --overwrite")).ok();
        assert!(scratch.read("bundle.tar.zst") == whole, "{keep} bytes, damage {damage:?}");
        assert!(!partial.exists() && !journal.exists());
    }
}

/// The file with the release's last blob: a layer.
fn last_blob(scratch: &Scratch) -> String {
    let blobs = Parts::read(&scratch.read("bundle.tar")).0;
    format!("images/{}", blobs.last().unwrap().path)
}

/// What an export leaves whose source breaks off before the last blob.
struct Left {
    scratch: Scratch,
    /// The last blob's file, which is damaged.
    last: String,
    blob: Vec<u8>,
    partial: Vec<u8>,
    journal: Vec<u8>,
}

const PARTIAL: &str = "bundle.tar.zst.partial";
const JOURNAL: &str = "bundle.tar.zst.partial.journal";

impl Left {
    fn behind() -> Self {
        let scratch = with_large_release().exported();
        let last = last_blob(&scratch);
        let blob = scratch.read(&last);
        scratch.write(&last, "damaged");
        scratch.sealift(PACK).fails(3, "SizeMismatch").says("complete frames are kept");
        let (partial, journal) = (scratch.read(PARTIAL), scratch.read(JOURNAL));
        assert!(partial.len() > 4 << 20, "{} bytes", partial.len());
        Left { scratch, last, blob, partial, journal }
    }

    fn restore(&self) {
        self.scratch.write(PARTIAL, &self.partial);
        self.scratch.write(JOURNAL, &self.journal);
    }
}

#[test]
fn other_keys_on_the_second_try_give_what_they_give_on_the_first() {
    let left = Left::behind();
    let scratch = &left.scratch;
    scratch.write(&left.last, &left.blob);
    scratch.key("other");
    // The signatures are in the first frame: to other keys, what is there is not damaged but another bundle.
    let (other, same) = ("note: the file is not the one", "note: going on with an interrupted export");
    for (keys, said) in [
        ("--key other.key.pem", other),
        ("--key other.key.pem --key release.key.pem", other),
        ("--key release.key.pem", same),
    ] {
        let pack = PACK.replace("--key release.key.pem", keys);
        scratch.sealift(&pack.replace("bundle.tar.zst", "fresh.tar.zst --overwrite")).ok();
        left.restore();
        scratch.sealift(&format!("{pack} --overwrite")).ok().says(said);
        assert!(scratch.read("bundle.tar.zst") == scratch.read("fresh.tar.zst"), "{keys}");
        scratch.holds_nothing_unfinished();
    }
}

#[test]
fn a_bad_blob_at_the_source_costs_no_complete_frame() {
    let left = Left::behind();
    let scratch = &left.scratch;
    let kept = || {
        let partial = scratch.read(PARTIAL);
        assert!(partial.starts_with(&left.partial) && scratch.has(JOURNAL), "{} bytes", partial.len());
    };
    // While it is gone on with, too: as long as the blob is, and as it was.
    let mut flipped = left.blob.clone();
    flipped[1000] ^= 1;
    for (bad, kind) in [
        (&b"damaged"[..], "SizeMismatch"),
        (&flipped[..2 << 20], "SizeMismatch"),
        (&flipped, "DigestMismatch"),
    ] {
        scratch.write(&left.last, bad);
        let run = scratch.sealift(PACK).fails(3, kind).says("going on with an interrupted export");
        assert!(!run.stderr.contains("anew"), "{run}");
        kept();
    }
    left.restore();
    scratch.write(&left.last, &left.blob);
    let run = scratch.sealift(PACK).ok().says("going on with an interrupted export");
    assert!(!run.stderr.contains("anew"), "{run}");
    scratch.sealift(&PACK.replace("bundle.tar.zst", "fresh.tar.zst")).ok();
    assert!(scratch.read("bundle.tar.zst") == scratch.read("fresh.tar.zst"));
}

#[test]
fn both_forms_have_one_signature() {
    let scratch = packed(Scratch::with_small_release());
    scratch.sealift(EXPORT).ok();
    let signers = |file: &str| scratch.sealift(&format!("inspect {file} --trust trust --json")).ok().json();
    assert_eq!(signers("bundle.tar"), signers("bundle.tar.zst"));
}
