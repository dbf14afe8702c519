//! Every bit and every length of a small signed bundle, one after the other, in both of its forms and in
//! every way of reading it. Through the library, on a file in memory: a process for each would take hours.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Cursor;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sealift::bundle::{Bundle, Piped};
use sealift::content::Quiet;
use sealift::error::{Exit, Result};
use sealift::release::Moment;
use sealift::trust::Keyring;
use sealift::verbs::verify;
use serde_json::json;
use support::images::Layout;
use support::parts::Parts;
use support::{EXPORT, SMALL, Scratch};

/// The smallest honest bundle: one image for one platform with one layer of a few bytes.
fn smallest(output: &str) -> Scratch {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let config = json!({ "architecture": "amd64", "os": "linux" }).to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.blob("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [layout.blob("application/vnd.oci.image.layer.v1.tar", b"a layer")],
    });
    let entry = layout.document(&manifest);
    layout.name("registry.example.com/tools/tool:1.0.0", entry);
    scratch.write("release.toml", SMALL);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch.sealift(&EXPORT.replace("bundle.tar", output)).ok();
    assert!(scratch.read(output).len() <= 64 << 10);
    scratch
}

/// One way of reading a bundle.
type Reads<'a> = dyn Fn(&Path, &[u8], &tokio::runtime::Runtime) -> Result<()> + Sync + 'a;

/// What passed of everything that should not.
struct Swept {
    /// Flips, by byte and bit.
    flips: Vec<(usize, u8)>,
    /// Lengths.
    cuts: Vec<usize>,
}

/// Flips each bit and cuts at each length. Refusals must call the bundle untrusted: not the disk, not the
/// command line.
fn sweep(good: &[u8], what: &str, reads: &Reads<'_>) -> Swept {
    sweep_bits(good, what, &|_| 0..8, reads)
}

/// The same with some bits of each byte.
fn sweep_bits(
    good: &[u8],
    what: &str,
    bits: &(dyn Fn(usize) -> Range<u8> + Sync),
    reads: &Reads<'_>,
) -> Swept {
    let began = Instant::now();
    // In memory where the machine has such a place.
    let memory = Path::new("/dev/shm");
    let place = || match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let (next, flips, cuts) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get());
    let judge = |path: &Path, bytes: &[u8], runtime: &_, fault: &str| match reads(path, bytes, runtime) {
        Ok(()) => true,
        Err(error) if error.kind().exit() == Exit::Untrusted => false,
        Err(error) => panic!("{fault}: {error}"),
    };
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (next, flips, cuts, judge, place) = (&next, &flips, &cuts, &judge, &place);
            scope.spawn(move || {
                let folder = place().unwrap();
                let path = folder.path().join("bundle");
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
                let runtime = runtime.unwrap();
                let mut bytes = good.to_vec();
                std::fs::write(&path, &bytes).unwrap();
                assert!(judge(&path, &bytes, &runtime, "the good one"), "it is refused itself");
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= good.len() {
                        break;
                    }
                    for bit in bits(at) {
                        bytes[at] = good[at] ^ (1 << bit);
                        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
                        if judge(&path, &bytes, &runtime, &format!("bit {bit} of byte {at}")) {
                            flips.lock().unwrap().push((at, bit));
                        }
                    }
                    bytes[at] = good[at];
                    file.write_all_at(&bytes[at..=at], at as u64).unwrap();
                }
                assert!(judge(&path, &bytes, &runtime, "the good one"), "and in the end, too");
                for length in (0..good.len()).rev().filter(|length| length % workers == worker) {
                    file.set_len(length as u64).unwrap();
                    if judge(&path, &good[..length], &runtime, &format!("cut to {length}")) {
                        cuts.lock().unwrap().push(length);
                    }
                }
            });
        }
    });
    let (mut flips, mut cuts) = (flips.into_inner().unwrap(), cuts.into_inner().unwrap());
    flips.sort_unstable();
    cuts.sort_unstable();
    let tried = (0..good.len()).map(|at| bits(at).len()).sum::<usize>();
    eprintln!(
        "{what}: {} bit flips and {} truncations refused of {} and {}, in {:.1?}",
        tried - flips.len(),
        good.len() - cuts.len(),
        tried,
        good.len(),
        began.elapsed(),
    );
    Swept { flips, cuts }
}

fn keyring(scratch: &Scratch) -> Keyring {
    Keyring::load(&scratch.path("trust")).unwrap()
}

/// Everything of a file.
fn whole(keyring: &Keyring, path: &Path, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let bundle = Bundle::open(path)?.trust(keyring, Moment::now())?;
    runtime.block_on(bundle.verify(1, Arc::new(Quiet))).map(drop)
}

/// Everything that comes through a pipe.
fn through_pipe(keyring: &Keyring, bytes: &[u8], runtime: &tokio::runtime::Runtime) -> Result<()> {
    let input = Box::new(Cursor::new(bytes.to_vec()));
    runtime.block_on(async {
        let piped = Arc::new(Piped::receive(input, "pipe", keyring, Moment::now())?);
        verify::whole_pipe(&piped, Arc::new(Quiet)).await
    })
}

#[test]
fn every_bit_and_every_byte_of_a_bundle_counts() {
    let scratch = smallest("bundle.tar");
    let keyring = keyring(&scratch);
    let good = scratch.read("bundle.tar");
    let swept = sweep(&good, "bundle.tar, verify", &|path, _, runtime| whole(&keyring, path, runtime));
    assert_eq!(swept.flips, []);
    assert_eq!(swept.cuts, [0usize; 0]);
}

#[test]
fn every_bit_and_every_byte_counts_through_a_pipe() {
    let scratch = smallest("bundle.tar");
    let keyring = keyring(&scratch);
    let good = scratch.read("bundle.tar");
    let swept =
        sweep(&good, "bundle.tar, verify -", &|_, bytes, runtime| through_pipe(&keyring, bytes, runtime));
    assert_eq!(swept.flips, []);
    assert_eq!(swept.cuts, [0usize; 0]);
}

#[test]
fn the_head_vouches_for_itself_and_for_the_length() {
    let scratch = smallest("bundle.tar");
    let keyring = keyring(&scratch);
    let good = scratch.read("bundle.tar");
    // Behind the statement nothing is read: flips there pass, and none before it. One bit of a byte will do.
    let head = Parts::read(&good).get("oci-layout").offset;
    let bits = move |at| if at < head { 0..8 } else { (at % 8) as u8..(at % 8) as u8 + 1 };
    let swept = sweep_bits(&good, "bundle.tar, verify --head", &bits, &|path, _, _| {
        Bundle::open(path)?.trust(&keyring, Moment::now()).map(drop)
    });
    let behind: Vec<_> = (head..good.len()).flat_map(|at| bits(at).map(move |bit| (at, bit))).collect();
    assert!(swept.flips == behind, "{:?}", swept.flips.iter().find(|flip| flip.0 < head));
    assert_eq!(swept.cuts, [0usize; 0]);
}

/// Where the frames of a compressed bundle begin, by its seek table (FORMAT.md, "Compressed form").
fn frames(packed: &[u8]) -> (Vec<usize>, usize) {
    let number = |at: usize| u32::from_le_bytes(packed[at..at + 4].try_into().unwrap()) as usize;
    let count = number(packed.len() - 9);
    let table = packed.len() - 9 - 8 * count - 8;
    let sizes = (0..count).map(|frame| number(table + 8 + 8 * frame));
    let mut at = 0;
    let starts = sizes.map(|size| {
        let start = at;
        at += size;
        start
    });
    let starts = starts.collect();
    assert_eq!(at, table);
    (starts, table)
}

/// What passes must be the same bundle, to any other program too: the unused bit of a frame's descriptor
/// (RFC 8878, 3.1.1.1.1), and references to another place where the same bytes stand. Nothing in the seek
/// table passes.
#[track_caller]
fn same_content(swept: &Swept, packed: &[u8], plain: &[u8]) {
    let (starts, table) = frames(packed);
    for (at, bit) in &swept.flips {
        let mut flipped = packed.to_vec();
        flipped[*at] ^= 1 << bit;
        assert!(zstd::decode_all(flipped.as_slice()).unwrap() == plain, "bit {bit} of byte {at}");
        assert!(*at < table, "bit {bit} of byte {at} in the seek table");
    }
    for start in starts {
        assert!(swept.flips.contains(&(start + 4, 4)), "the unused bit of the frame at {start}");
    }
    // Hardly anything: the rest of the checks would notice if all flips passed.
    assert!(swept.flips.len() < packed.len() / 8, "{}", swept.flips.len());
}

#[test]
fn a_flip_in_a_compressed_bundle_is_refused_or_changes_nothing() {
    let scratch = smallest("bundle.tar.zst");
    scratch.sealift(EXPORT).ok();
    let keyring = keyring(&scratch);
    let (packed, plain) = (scratch.read("bundle.tar.zst"), scratch.read("bundle.tar"));
    let swept = sweep(&packed, "bundle.tar.zst, verify", &|path, _, runtime| whole(&keyring, path, runtime));
    same_content(&swept, &packed, &plain);
    assert_eq!(swept.cuts, [0usize; 0]);
}

#[test]
fn a_flip_in_a_compressed_bundle_is_refused_or_changes_nothing_through_a_pipe() {
    let scratch = smallest("bundle.tar.zst");
    scratch.sealift(EXPORT).ok();
    let keyring = keyring(&scratch);
    let (packed, plain) = (scratch.read("bundle.tar.zst"), scratch.read("bundle.tar"));
    let swept = sweep(&packed, "bundle.tar.zst, verify -", &|_, bytes, runtime| {
        through_pipe(&keyring, bytes, runtime)
    });
    same_content(&swept, &packed, &plain);
    // Cut off just before its table it is what zstd itself writes: all of the bundle.
    assert_eq!(swept.cuts, [frames(&packed).1]);
    let file = File::create(scratch.path("cut.zst")).unwrap();
    file.write_all_at(&packed[..swept.cuts[0]], 0).unwrap();
    assert!(zstd::decode_all(File::open(scratch.path("cut.zst")).unwrap()).unwrap() == plain);
}
