//! Disks that are full, limited or broken. Each failure is told with the file's name, leaves nothing under a
//! final name, and the same command finishes once the disk is well.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::site::{Origin, peers};
use support::stick::Stick;
use support::{EXPORT, Run, Scratch, peer, sha256};

/// Bytes in each of the three layers.
const LAYER: usize = 1_200_000;

// A full disk.

#[test]
fn a_stick_without_room_is_told_before_anything_is_pulled() {
    if !peers() {
        return;
    }
    let origin = Origin::start(LAYER);
    let Some(stick) = Stick::plugged(&origin.scratch, 2 << 20) else { return };
    let export = origin.command().replace("bundle.tar", "stick/bundle.tar");
    origin
        .scratch
        .sealift(&export)
        .fails(1, "NoSpace")
        .says("stick/bundle.tar.partial")
        .says("room for")
        .says("hint: ");
    assert!(origin.proxy.down() < 10_000, "only documents and configs");
    assert_eq!(stick.names(), [""; 0]);

    // Not even room for the journal.
    let full = fs::write(stick.0.join("film"), vec![7; 3 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    origin.scratch.sealift(&export).fails(1, "NoSpace").says("stick/bundle.tar.partial");
    assert_eq!(stick.names(), ["film"]);

    fs::remove_file(stick.0.join("film")).unwrap();
    stick.grow(8 << 20);
    origin.scratch.sealift(&export).ok();
    assert!(origin.scratch.read("stick/bundle.tar") == origin.reference);
    assert_eq!(stick.names(), ["bundle.tar"]);
}

#[test]
fn the_room_that_an_interrupted_export_has_taken_stays_taken() {
    if !peers() {
        return;
    }
    let origin = Origin::start(LAYER);
    let Some(stick) = Stick::plugged(&origin.scratch, 6 << 20) else { return };
    let export = origin.command().replace("bundle.tar", "stick/bundle.tar");
    let running = support::running::Running::start(origin.scratch.command(&export));
    let hand = running.hand();
    origin.proxy.after_bytes(1_500_000, move || hand.kill());
    assert_eq!(running.ended().code, -1);
    assert!(!stick.names().contains(&"bundle.tar".to_owned()));
    // Somebody else takes what is left, but for a bit that the journal needs.
    let mut film = vec![7; 8 << 20];
    while fs::write(stick.0.join("film"), &film).is_err() {
        film.truncate(film.len() - (64 << 10));
    }
    origin.scratch.sealift(&export).ok();
    assert!(origin.scratch.read("stick/bundle.tar") == origin.reference);
}

/// The blobs of a layout, each of which must be what its name says; and that no image is named.
#[track_caller]
fn unnamed_blobs(directory: &Path) -> usize {
    assert!(!directory.join("index.json").exists());
    let Ok(blobs) = fs::read_dir(directory.join("blobs/sha256")) else { return 0 };
    let whole = |entry: fs::DirEntry| {
        assert_eq!(*entry.file_name(), *sha256(&fs::read(entry.path()).unwrap()));
    };
    blobs.map(|entry| whole(entry.unwrap())).count()
}

/// The layout `offline` as an import without trouble writes it.
fn imported(scratch: &Scratch) -> Run {
    scratch.sealift("import bundle.tar --to oci:usual --trust trust").ok()
}

/// Requires that the two directories hold the same.
#[track_caller]
fn same(a: &Path, b: &Path) {
    let listing = |root: &Path| {
        let mut files: Vec<_> = walkdir::WalkDir::new(root)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                (entry.path().strip_prefix(root).unwrap().to_owned(), fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let (a, b) = (listing(a), listing(b));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    assert!(a == b);
}

#[test]
fn a_full_disk_stops_an_import_to_a_layout_and_the_same_command_finishes_it() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    imported(&scratch);
    let Some(stick) = Stick::plugged(&scratch, 2 << 20) else { return };
    let import = "import bundle.tar --to oci:stick/offline --trust trust";
    scratch.sealift(import).fails(1, "NoSpace").says("destination: ").says("stick/offline").says("hint: ");
    unnamed_blobs(&stick.0.join("offline"));
    // Still no room: it fails again, and does no harm to what is there.
    let before = unnamed_blobs(&stick.0.join("offline"));
    scratch.sealift(import).fails(1, "NoSpace");
    assert!(unnamed_blobs(&stick.0.join("offline")) >= before);
    stick.grow(8 << 20);
    scratch.sealift(import).ok();
    same(&scratch.path("usual"), &stick.0.join("offline"));
}

// A limit on the size of files.

fn limited(scratch: &Scratch, blocks: usize, arguments: &str) -> Run {
    let mut command = scratch.tool("sh", "");
    command.arg("-c").arg(format!("ulimit -f {blocks}; exec {} {arguments}", env!("CARGO_BIN_EXE_sealift")));
    support::run(command)
}

#[test]
fn a_limit_on_file_sizes_is_told_with_a_hint() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    imported(&scratch);
    let export = EXPORT.replace("bundle.tar", "again.tar");
    limited(&scratch, 4000, &export).fails(1, "NoSpace").says("again.tar.partial").says("hint: ");
    assert!(!scratch.has("again.tar") && !scratch.has("again.tar.partial"));
    scratch.sealift(&export).ok();
    assert!(scratch.read("again.tar") == scratch.read("bundle.tar"));

    let import = "import bundle.tar --to oci:offline --trust trust";
    limited(&scratch, 1000, import).fails(1, "NoSpace").says("destination: ").says("hint: ");
    unnamed_blobs(&scratch.path("offline"));
    scratch.sealift(import).ok();
    same(&scratch.path("usual"), &scratch.path("offline"));
}

// A disk that breaks.

/// The layer between the program and the C library; `None` where there is no C compiler.
fn shim(scratch: &Scratch) -> Option<PathBuf> {
    if !peer("cc") {
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
    let shim = scratch.path("faults.so");
    scratch.run("cc", &format!("-shared -fPIC -O1 -o {} {} -ldl", shim.display(), source.display())).ok();
    Some(shim)
}

/// A call that goes wrong. Without a path: on anything in the scratch directory.
#[derive(Clone, Copy, Debug)]
struct Broken {
    call: &'static str,
    path: &'static str,
    first: usize,
    times: usize,
    how: &'static str,
}

impl Broken {
    /// The `first` such call fails.
    fn once(call: &'static str, path: &'static str, first: usize, how: &'static str) -> Self {
        Broken { call, path, first, times: 1, how }
    }

    /// Runs with it. Tells whether it happened.
    fn run(self, scratch: &Scratch, shim: &Path, arguments: &str) -> (Run, bool) {
        scratch.remove("mark");
        let mut command = scratch.command(arguments);
        command.env("LD_PRELOAD", shim).env("FAULT_MARK", scratch.path("mark"));
        if self.path.is_empty() {
            command.env("FAULT_UNDER", scratch.path(""));
        }
        command.env("FAULT_CALL", self.call).env("FAULT_PATH", self.path).env("FAULT_HOW", self.how);
        command.env("FAULT_FIRST", self.first.to_string()).env("FAULT_TIMES", self.times.to_string());
        let run = support::run(command);
        (run, scratch.has("mark"))
    }

    fn kind(self) -> &'static str {
        if ["ENOSPC", "EDQUOT"].contains(&self.how) { "NoSpace" } else { "Io" }
    }

    /// Such a call is as it is all the time.
    fn every(call: &'static str, path: &'static str, how: &'static str) -> Self {
        Broken { times: 1_000_000, ..Broken::once(call, path, 1, how) }
    }
}

#[test]
fn an_export_to_a_broken_disk_fails_and_the_same_command_finishes_it() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    let reference = scratch.read("bundle.tar");
    let (partial, journal) = (".tar.partial", ".tar.partial.journal");
    let mut broken = vec![
        // The head, the trailer, and then content, headers and padding.
        Broken::once("pwrite64", partial, 1, "EIO"),
        Broken::once("pwrite64", partial, 2, "ENOSPC"),
        Broken::once("write", journal, 1, "ENOSPC"),
        Broken::once("fdatasync", journal, 1, "EIO"),
        Broken::once("fsync", partial, 1, "EIO"),
        Broken::once("fsync", partial, 1, "ENOSPC"),
    ];
    for first in [3, 4, 5, 8, 11, 14, 18] {
        broken.push(Broken::once("pwrite64", partial, first, "EIO"));
        broken.push(Broken::once("pwrite64", partial, first, "ENOSPC"));
    }
    for broken in broken {
        scratch.remove("bundle.tar");
        let (run, happened) = broken.run(&scratch, &shim, EXPORT);
        assert!(happened, "{broken:?} {run}");
        run.fails(1, broken.kind()).says("bundle.tar.partial");
        scratch.holds_no_finished_bundle();
        scratch.sealift(EXPORT).ok();
        assert!(scratch.read("bundle.tar") == reference, "{broken:?}");
        scratch.holds_nothing_unfinished();
    }
}

#[test]
fn a_disk_that_loses_what_was_written_is_not_overlooked() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    let reference = scratch.read("bundle.tar");
    // Whether it comes to this depends on how fast the disk is: then, and only then, the export fails.
    for broken in [
        Broken::once("fdatasync", ".tar.partial", 1, "EIO"),
        Broken::once("fdatasync", ".tar.partial", 1, "ENOSPC"),
    ] {
        scratch.remove("bundle.tar");
        let (run, happened) = broken.run(&scratch, &shim, EXPORT);
        match happened {
            true => {
                run.fails(1, broken.kind()).says("bundle.tar.partial");
                scratch.holds_no_finished_bundle();
                scratch.sealift(EXPORT).ok();
            }
            false => drop(run.ok()),
        }
        assert!(scratch.read("bundle.tar") == reference, "{broken:?}");
        scratch.holds_nothing_unfinished();
    }
}

#[test]
fn a_bundle_that_cannot_get_its_name_stays_beside_it() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    let reference = scratch.read("bundle.tar");
    scratch.write("bundle.tar", "the old one");
    // With --overwrite it is the C library that renames.
    let export = format!("{EXPORT} --overwrite");
    let broken = Broken::once("rename", "bundle.tar", 1, "EIO");
    let (run, happened) = broken.run(&scratch, &shim, &export);
    assert!(happened, "{run}");
    run.fails(1, "Io").says("bundle.tar");
    assert_eq!(scratch.read("bundle.tar"), b"the old one");
    scratch.sealift(&export).ok().says("going on with an interrupted export");
    assert!(scratch.read("bundle.tar") == reference);
    scratch.holds_nothing_unfinished();
}

#[test]
fn an_import_to_a_broken_disk_fails_and_the_same_command_finishes_it() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    imported(&scratch);
    // At a rate, content goes by piece: what the kernel copies cannot be made to fail from here.
    let import = "import bundle.tar --to oci:offline --trust trust --limit-rate 100GB";
    let mut broken = Vec::new();
    for how in ["EIO", "ENOSPC"] {
        // The marker, then blobs and documents.
        for first in [1, 2, 4, 9, 15] {
            broken.push(Broken::once("write", ".partial", first, how));
        }
        for first in [1, 2, 5, 9] {
            broken.push(Broken::once("fsync", ".partial", first, how));
        }
        broken.push(Broken::once("write", ".index.json.partial", 1, how));
        broken.push(Broken::once("fsync", ".index.json.partial", 1, how));
        broken.push(Broken::once("fsync", "blobs/sha256", 1, how));
        broken.push(Broken::once("rename", "oci-layout", 1, how));
        broken.push(Broken::once("rename", "index.json", 1, how));
    }
    for broken in broken {
        let _ = fs::remove_dir_all(scratch.path("offline"));
        let (run, happened) = broken.run(&scratch, &shim, import);
        assert!(happened, "{broken:?} {run}");
        run.fails(1, broken.kind()).says("destination: ").says("offline");
        unnamed_blobs(&scratch.path("offline"));
        scratch.sealift(import).ok();
        same(&scratch.path("usual"), &scratch.path("offline"));
    }
}

#[test]
fn short_writes_are_continued() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    imported(&scratch);
    let reference = scratch.read("bundle.tar");
    let every = |call, path| Broken { times: 1_000_000, ..Broken::once(call, path, 1, "SHORT") };
    for broken in [every("pwrite64", ".tar.partial"), every("write", ".partial.journal")] {
        scratch.remove("bundle.tar");
        let (run, happened) = broken.run(&scratch, &shim, EXPORT);
        assert!(happened, "{run}");
        run.ok();
        assert!(scratch.read("bundle.tar") == reference, "{broken:?}");
        scratch.holds_nothing_unfinished();
    }
    let import = "import bundle.tar --to oci:offline --trust trust --limit-rate 100GB";
    let (run, happened) = every("write", ".partial").run(&scratch, &shim, import);
    assert!(happened, "{run}");
    run.ok();
    same(&scratch.path("usual"), &scratch.path("offline"));
}

// A death before any call.

/// Runs a command that dies before its first call to the disk, its second, and so on, until it lives.
fn dying(scratch: &Scratch, shim: &Path, arguments: &str, mut after: impl FnMut(usize)) {
    for call in 1.. {
        let (run, happened) = Broken::once("any", "", call, "KILL").run(scratch, shim, arguments);
        if !happened {
            run.ok();
            assert!(call > 20, "{call} calls make no bundle");
            eprintln!("{} deaths", call - 1);
            return;
        }
        assert_eq!(run.code, -1, "{run}");
        after(call);
    }
}

#[test]
fn an_export_may_die_before_any_call_to_the_disk() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    let reference = scratch.read("bundle.tar");
    scratch.remove("bundle.tar");
    let mut named = 0;
    dying(&scratch, &shim, EXPORT, |call| {
        if scratch.has("bundle.tar") {
            named += 1;
            assert!(scratch.read("bundle.tar") == reference, "death {call}");
            assert!(!scratch.has("bundle.tar.partial"), "death {call}");
            // The bundle was carried away; what its journal says is of no bundle any more.
            scratch.remove("bundle.tar");
        }
        let run = scratch.sealift(EXPORT).ok();
        assert!(scratch.read("bundle.tar") == reference, "death {call}: {run}");
        assert!(!run.stderr.contains("once more"), "death {call}: {run}");
        scratch.holds_nothing_unfinished();
        scratch.remove("bundle.tar");
    });
    // How many trips to the disk there are depends on how fast it is, so the last deaths are not always met.
    eprintln!("{named} of the deaths were between the bundle's name and the end of its journal");
}

#[test]
fn an_import_may_die_before_any_call_to_the_disk() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    imported(&scratch);
    let import = "import bundle.tar --to oci:offline --trust trust";
    let (usual, offline) = (scratch.path("usual"), scratch.path("offline"));
    dying(&scratch, &shim, import, |_| {
        match offline.join("index.json").exists() {
            true => same(&usual, &offline),
            false => _ = unnamed_blobs(&offline),
        }
        scratch.sealift(import).ok();
        same(&usual, &offline);
        fs::remove_dir_all(&offline).unwrap();
    });
}

#[test]
fn a_journal_that_cannot_be_written_costs_no_bundle() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    let reference = scratch.read("bundle.tar");
    scratch.remove("bundle.tar");
    let broken = Broken { times: 99, ..Broken::once("write", ".partial.journal", 2, "ENOSPC") };
    broken.run(&scratch, &shim, EXPORT).0.ok();
    assert!(scratch.read("bundle.tar") == reference);
    scratch.holds_nothing_unfinished();
}

// A disk that cannot be read.

#[test]
fn a_bad_sector_is_told_with_its_place_and_never_taken_for_a_wrong_bundle() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    imported(&scratch);
    let import = "import bundle.tar --to oci:offline --trust trust";
    let mut happened = 0;
    for first in [1, 2, 3, 5, 8, 13, 21, 30] {
        for command in ["verify bundle.tar --trust trust", import] {
            let (run, due) =
                Broken::once("pread64", "/bundle.tar", first, "EIO").run(&scratch, &shim, command);
            assert!(due, "{first} {run}");
            happened += 1;
            run.fails(1, "Io").says("bundle.tar at byte ").says("hint: the medium may be damaged");
            unnamed_blobs(&scratch.path("offline"));
        }
    }
    assert_eq!(happened, 16);
    // The head alone does not touch what is behind it.
    let (run, _) = Broken::once("pread64", "/bundle.tar", 9, "EIO").run(
        &scratch,
        &shim,
        "verify --head bundle.tar --trust trust",
    );
    run.ok();
    scratch.sealift(import).ok();
    same(&scratch.path("usual"), &scratch.path("offline"));
}

#[test]
fn a_stick_that_is_pulled_ends_the_import_and_the_same_command_finishes_it() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    imported(&scratch);
    let import = "import bundle.tar --to oci:offline --trust trust";
    // How often it is read in all.
    let counted = |first| Broken { times: 1_000_000, ..Broken::once("pread64", "/bundle.tar", first, "EIO") };
    let mut reads = 40;
    while counted(reads).run(&scratch, &shim, "import bundle.tar --to oci:counted --trust trust").1 {
        let _ = fs::remove_dir_all(scratch.path("counted"));
        reads += 1;
    }
    // From some read on nothing more comes: in the middle of verification, and while blobs are written.
    for first in [reads / 4, reads / 2, reads - 8, reads - 3, reads - 1] {
        let _ = fs::remove_dir_all(scratch.path("offline"));
        let (run, due) = counted(first).run(&scratch, &shim, import);
        assert!(due, "{first} of {reads}: {run}");
        run.fails(1, "Io").says("bundle.tar");
        unnamed_blobs(&scratch.path("offline"));
    }
    scratch.sealift(import).ok();
    same(&scratch.path("usual"), &scratch.path("offline"));
}

#[test]
fn short_and_interrupted_reads_and_writes_are_continued() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    imported(&scratch);
    let reference = scratch.read("bundle.tar");
    let interrupted = |call, path| Broken { times: 20, ..Broken::once(call, path, 1, "EINTR") };
    let import = "import bundle.tar --to oci:offline --trust trust";
    for (broken, command) in [
        (Broken::every("pread64", "/bundle.tar", "SHORT"), "verify bundle.tar --trust trust"),
        (interrupted("pread64", "/bundle.tar"), "verify bundle.tar --trust trust"),
        (
            Broken::every("read", "release.toml", "SHORT"),
            "export release.toml -o again.tar --key release.key.pem --mirror registry.example.com=oci:images",
        ),
        (
            interrupted("read", "release.key.pem"),
            "export release.toml -o again.tar --key release.key.pem --mirror registry.example.com=oci:images",
        ),
        (
            interrupted("pwrite64", ".tar.partial"),
            "export release.toml -o again.tar --key release.key.pem --mirror registry.example.com=oci:images",
        ),
        (
            interrupted("write", ".partial.journal"),
            "export release.toml -o again.tar --key release.key.pem --mirror registry.example.com=oci:images",
        ),
        (Broken::every("pread64", "/bundle.tar", "SHORT"), import),
        (interrupted("write", ".partial"), import),
    ] {
        scratch.remove("again.tar");
        let _ = fs::remove_dir_all(scratch.path("offline"));
        let (run, happened) = broken.run(&scratch, &shim, command);
        assert!(happened, "{broken:?} {run}");
        run.ok();
        assert!(!scratch.has("again.tar") || scratch.read("again.tar") == reference, "{broken:?}");
        if command == import {
            same(&scratch.path("usual"), &scratch.path("offline"));
        }
    }
}

#[test]
fn a_disk_that_writes_something_else_is_found_by_verify() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    let reference = scratch.read("bundle.tar");
    for first in [1, 2, 3, 5, 8, 12, 16] {
        scratch.remove("bundle.tar");
        let (run, happened) =
            Broken::once("pwrite64", ".tar.partial", first, "FLIP").run(&scratch, &shim, EXPORT);
        assert!(happened, "{first} {run}");
        // Nothing tells the one who writes.
        run.ok();
        assert!(scratch.read("bundle.tar") != reference, "{first}");
        let run = scratch.sealift("verify bundle.tar --trust trust");
        assert!(run.code == 3 && run.stdout.is_empty(), "{first} {run}");
        let run = scratch.sealift("import bundle.tar --to oci:offline --trust trust");
        assert!(run.code == 3 && !scratch.has("offline"), "{first} {run}");
    }
}

#[test]
fn a_quota_is_told_like_a_full_disk() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    let export = EXPORT.replace("bundle.tar", "again.tar");
    for broken in [
        Broken::once("pwrite64", ".tar.partial", 3, "EDQUOT"),
        Broken::once("fsync", ".tar.partial", 1, "EDQUOT"),
    ] {
        let (run, happened) = broken.run(&scratch, &shim, &export);
        assert!(happened, "{run}");
        run.fails(1, "NoSpace").says("again.tar.partial").says("hint: ");
    }
    let import = "import bundle.tar --to oci:offline --trust trust";
    let (run, happened) = Broken::once("write", ".partial", 4, "EDQUOT").run(&scratch, &shim, import);
    assert!(happened, "{run}");
    run.fails(1, "NoSpace").says("destination: ");
    unnamed_blobs(&scratch.path("offline"));
}

// The order in which things reach the disk.

/// The scratch directory's own name.
fn directory(scratch: &Scratch) -> String {
    scratch.path("").to_string_lossy().trim_end_matches('/').to_owned()
}

/// The calls on the disk that a command makes, in their order.
fn calls(scratch: &Scratch, shim: &Path, arguments: &str) -> Vec<(String, String)> {
    scratch.remove("log");
    let mut command = scratch.command(arguments);
    command.env("LD_PRELOAD", shim).env("FAULT_CALL", "any").env("FAULT_UNDER", directory(scratch));
    command.env("FAULT_FIRST", "1000000").env("FAULT_TIMES", "1").env("FAULT_LOG", scratch.path("log"));
    support::run(command).ok();
    let log = String::from_utf8(scratch.read("log")).unwrap();
    let line = |line: &str| line.split_once(' ').map(|(call, path)| (call.to_owned(), path.to_owned()));
    log.lines().filter_map(line).collect()
}

/// Requires that nothing is written to a file between its last trip to the disk and its name.
#[track_caller]
fn synced_before(calls: &[(String, String)], written: &str, name: usize) {
    let before = &calls[..name];
    let last = |call: &dyn Fn(&str) -> bool| {
        before.iter().rposition(|(made, path)| path.ends_with(written) && call(made))
    };
    let write = last(&|call| call.contains("write")).unwrap_or_else(|| panic!("{written} was never written"));
    let sync = last(&|call| call == "fsync").unwrap_or_else(|| panic!("{written} was never synced"));
    assert!(write < sync, "{written} was written after it was synced");
}

#[test]
fn only_what_has_reached_the_disk_gets_a_name() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    // With --overwrite it is the C library that renames.
    let export = calls(&scratch, &shim, &format!("{EXPORT} --overwrite"));
    let find = |calls: &[(String, String)], call: &str, path: &str| {
        calls
            .iter()
            .position(|(made, of)| made == call && of.ends_with(path))
            .unwrap_or_else(|| panic!("no {call} {path} in {calls:#?}"))
    };
    let named = find(&export, "rename", "bundle.tar");
    synced_before(&export, "bundle.tar.partial", named);
    // Then its name, and only then the journal is given up.
    let synced = named + find(&export[named..], "fsync", &directory(&scratch));
    let given_up = named + find(&export[named..], "unlink", "bundle.tar.partial.journal");
    assert!(synced < given_up, "{export:#?}");

    let import = calls(&scratch, &shim, "import bundle.tar --to oci:offline --trust trust");
    let names = import
        .iter()
        .enumerate()
        .filter(|(_, (call, path))| call == "rename" && path.contains("blobs/sha256/"));
    let mut blobs = 0;
    for (at, (_, path)) in names {
        let digest = path.rsplit('/').next().unwrap();
        synced_before(&import, &format!(".{digest}.partial"), at);
        blobs += 1;
    }
    assert_eq!(blobs, 8);
    // The blobs' names, then the index, then its name.
    let index = find(&import, "rename", "index.json");
    synced_before(&import, ".index.json.partial", index);
    let last =
        import.iter().rposition(|(call, path)| call == "rename" && path.contains("blobs/sha256/")).unwrap();
    let synced = last + find(&import[last..], "fsync", "blobs/sha256");
    let written = find(&import, "write", ".index.json.partial");
    assert!(last < synced && synced < written && written < index, "{import:#?}");
    find(&import[index..], "fsync", "offline");
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let Some(shim) = shim(&scratch) else { return };
    imported(&scratch);
    let reference = scratch.read("bundle.tar");
    // Thirty years, and beyond what 32 bits can count.
    for seconds in ["946080000", "4000000000"] {
        let run = |arguments: &str| {
            let mut command = scratch.command(arguments);
            command.env("LD_PRELOAD", &shim).env("FAULT_CLOCK", seconds);
            support::run(command).ok()
        };
        let now = run("export release.toml --dry-run --json --mirror registry.example.com=oci:images").json();
        assert_eq!(now["bundleBytes"], reference.len());
        run(&format!("{EXPORT} --overwrite"));
        assert!(scratch.read("bundle.tar") == reference);
        run("verify bundle.tar --trust trust");
        let _ = fs::remove_dir_all(scratch.path("offline"));
        run("import bundle.tar --to oci:offline --trust trust");
        same(&scratch.path("usual"), &scratch.path("offline"));
    }
}

// Media that cannot be written to, and machines that have little.

#[test]
fn a_read_only_medium_is_enough_for_verify_and_import() {
    let scratch = Scratch::with_small_release().exported();
    scratch.sealift("import bundle.tar --to oci:usual --trust trust").ok();
    let Some(stick) = Stick::plugged(&scratch, 4 << 20) else { return };
    for name in ["bundle.tar", "release.key.pem", "release.toml"] {
        fs::copy(scratch.path(name), stick.0.join(name)).unwrap();
    }
    scratch.run("cp", "-r trust images stick/").ok();
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(&stick.0).status();
    assert!(remount.unwrap().success());
    let before = stick.names();
    let sealift = env!("CARGO_BIN_EXE_sealift");
    let bare = |arguments: &str| {
        let mut command = Command::new(sealift);
        // Nothing of an environment: no home, no place for temporary files. But imports are to be remembered.
        command.args(arguments.split(' ')).current_dir(&stick.0).env_clear().env("TMPDIR", "/nonexistent");
        command.env("SEALIFT_STATE", scratch.path("home/state"));
        support::run(command)
    };
    bare("verify bundle.tar --trust trust").ok();
    bare("inspect bundle.tar --trust trust").ok();
    bare(&format!("import bundle.tar --to oci:{} --trust trust", scratch.path("offline").display())).ok();
    same(&scratch.path("usual"), &scratch.path("offline"));
    // And whoever wants to write there is told that.
    bare("import bundle.tar --to oci:there --trust trust").fails(1, "Io").says("destination: ").says("there");
    bare("export release.toml -o new.tar --key release.key.pem --mirror registry.example.com=oci:images")
        .fails(1, "Io")
        .says("new.tar.partial");
    assert_eq!(stick.names(), before);
}

#[test]
fn a_medium_without_room_for_another_name_is_told_like_a_full_one() {
    let scratch = Scratch::with_small_release().exported();
    let Some(stick) = Stick::plugged(&scratch, 4 << 20) else { return };
    // All its names are taken: the root directory and one film.
    let remount = Command::new("mount").args(["-o", "remount,nr_inodes=2"]).arg(&stick.0).status();
    assert!(remount.unwrap().success());
    fs::write(stick.0.join("film"), "short").unwrap();
    scratch
        .sealift(&EXPORT.replace("bundle.tar", "stick/new.tar"))
        .fails(1, "NoSpace")
        .says("stick/new.tar.partial");
    scratch
        .sealift("import bundle.tar --to oci:stick/offline --trust trust")
        .fails(1, "NoSpace")
        .says("stick/offline");
    assert_eq!(stick.names(), ["film"]);
}

#[test]
fn few_open_files_are_enough_or_are_told() {
    let scratch = Scratch::with_release().exported();
    scratch.sealift("import bundle.tar --to oci:usual --trust trust").ok();
    let sealift = env!("CARGO_BIN_EXE_sealift");
    let mut outcomes = [0; 2];
    for limit in [3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32, 64] {
        let _ = fs::remove_dir_all(scratch.path("offline"));
        for arguments in [
            "verify bundle.tar --trust trust",
            "verify --head bundle.tar --trust trust",
            "import bundle.tar --to oci:offline --trust trust",
            "export release.toml -o again.tar --overwrite --key release.key.pem --mirror registry.example.com=oci:images",
        ] {
            let mut command = scratch.tool("sh", "");
            command.arg("-c").arg(format!("ulimit -n {limit}; exec {sealift} {arguments}"));
            let run = support::run(command);
            // What fails here fails for want of files: nobody is called untrusted for that.
            let told = run.is_failure(1, "Io");
            // Or for want of the C library.
            let loaded = run.code == 127 && run.stderr.contains("loading shared libraries");
            assert!(run.code == 0 || told || loaded, "{limit} files: {run}");
            outcomes[usize::from(run.code == 0)] += 1;
        }
        if limit == 64 {
            same(&scratch.path("usual"), &scratch.path("offline"));
            assert!(scratch.read("again.tar") == scratch.read("bundle.tar"));
        }
    }
    assert!(outcomes[0] > 4 && outcomes[1] > 8, "{outcomes:?}");
}
