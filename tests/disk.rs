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
        if self.how == "ENOSPC" { "NoSpace" } else { "Io" }
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
