//! `kill -9` at random moments, again and again: whatever is left under a final name is whole, and the same
//! command finishes the job. `SEALIFT_SOAK` says how many kills of each kind, `SEALIFT_SOAK_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::dice::{self, Dice};
use support::proxy::Proxy;
use support::running::Running;
use support::site::{Destination, Origin, peers};
use support::{HEAVY_NAMES, Run, Scratch, sha256};

/// Bytes in each of the three layers.
const LAYER: usize = 2_000_000;

/// How often one job is killed before it may finish.
const CHAIN: u64 = 3;

fn kills() -> usize {
    dice::kills(20)
}

/// What was found.
struct Tally {
    kind: &'static str,
    kills: usize,
    /// Jobs that were begun and, in the end, finished.
    jobs: usize,
    violations: Vec<String>,
}

impl Tally {
    fn new(kind: &'static str) -> Self {
        Tally { kind, kills: 0, jobs: 0, violations: Vec::new() }
    }

    fn check(&mut self, wrong: Option<String>, when: &str) {
        self.violations
            .extend(wrong.map(|wrong| format!("{} {when} (kill {}): {wrong}", self.kind, self.kills)));
    }

    /// Counts a run that somebody may have killed; whether it was.
    fn killed(&mut self, run: &Run) -> bool {
        match run.code {
            -1 => self.kills += 1,
            0 => {}
            _ => self.violations.push(format!("{}: neither killed nor done: {run}", self.kind)),
        }
        run.code == -1
    }

    #[track_caller]
    fn close(self) {
        let Tally { kind, kills, jobs, violations } = self;
        eprintln!("soak: {kills} kills of {kind} in {jobs} jobs, {} violations", violations.len());
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}

/// Kills at a random moment of the traffic: mostly after some bytes, sometimes with some request; a moment
/// later than that, because what matters happens on this side, too.
fn at_random(dice: &mut Dice, proxy: &Proxy, traffic: (u64, usize), start: impl FnOnce() -> Running) -> Run {
    let (bytes, requests) = traffic;
    let (send, moment) = mpsc::channel();
    if dice.below(3) > 0 {
        proxy.after_bytes(dice.below(bytes), move || _ = send.send(()));
    } else {
        proxy.after_requests(1 + dice.below(requests as u64) as usize, move || _ = send.send(()));
    }
    let later = Duration::from_micros(dice.below(4) * dice.below(4000));
    let running = start();
    let hand = running.hand();
    let killer = std::thread::spawn(move || {
        // The other end goes with the proxy's next reset, if the run ends first.
        if moment.recv().is_ok() {
            let (_open, never) = mpsc::channel::<()>();
            let _ = never.recv_timeout(later);
            hand.kill();
        }
    });
    let run = running.ended();
    proxy.reset();
    killer.join().unwrap();
    run
}

#[test]
fn a_killed_export_leaves_no_wrong_bundle_and_is_finished_by_the_next() {
    if !peers() {
        return;
    }
    let origin = Origin::start(LAYER);
    origin.finishes(origin.export(vec![]), "a good line");
    let traffic = (origin.proxy.down(), origin.proxy.seen().len());
    let (mut dice, mut tally) = (Dice::new("export"), Tally::new("export"));
    let mut orphans = 0;
    while tally.kills < kills() {
        origin.clear();
        tally.jobs += 1;
        let mut done = false;
        for _ in 0..=dice.below(CHAIN) {
            let run = at_random(&mut dice, &origin.proxy, traffic, || origin.running());
            let killed = tally.killed(&run);
            done = origin.scratch.has("bundle.tar");
            let right = done && origin.scratch.read("bundle.tar") == origin.reference;
            tally.check((done && !right).then(|| format!("a wrong bundle\n{run}")), "after a kill");
            tally.check((!done && !killed).then(|| format!("done, and no bundle\n{run}")), "after a run");
            if done {
                break;
            }
        }
        if done {
            // Not killed, or after the bundle had its name; then the journal may be left, with nothing to tell.
            orphans += usize::from(origin.scratch.has("bundle.tar.partial.journal"));
            let left = origin.scratch.has("bundle.tar.partial");
            tally.check(left.then(|| "a bundle and a partial one".to_owned()), "after a kill");
            continue;
        }
        let run = origin.again();
        let right = run.code == 0 && origin.scratch.read("bundle.tar") == origin.reference;
        tally.check((!right).then(|| run.to_string()), "in the end");
        let left =
            origin.scratch.has("bundle.tar.partial") || origin.scratch.has("bundle.tar.partial.journal");
        tally.check(left.then(|| "something unfinished is left".to_owned()), "in the end");
    }
    eprintln!("soak: export: {orphans} kills between the bundle's name and the end of its journal");
    tally.close();
}

#[test]
fn a_killed_import_leaves_no_half_image_under_a_tag_and_is_finished_by_the_next() {
    if !peers() {
        return;
    }
    let mut destination = Destination::start(LAYER);
    let run = destination.fresh(vec![]);
    destination.finishes(run, "a good line");
    let proxy = &destination.proxy;
    let traffic = (proxy.up() + proxy.down(), proxy.seen().len());
    let (mut dice, mut tally) = (Dice::new("import"), Tally::new("import to a registry"));
    while tally.kills < kills() {
        destination.clear();
        tally.jobs += 1;
        for _ in 0..=dice.below(CHAIN) {
            let run = at_random(&mut dice, &destination.proxy, traffic, || destination.running());
            let killed = tally.killed(&run);
            tally.check(destination.wrong(killed), "after a kill");
            if !killed {
                break;
            }
        }
        let run = destination.again();
        tally.check((run.code != 0).then(|| run.to_string()), "in the end");
        tally.check(destination.wrong(false), "in the end");
        let blobs = destination.registry.blobs();
        let wrong = blobs != destination.expected.len();
        tally.check(wrong.then(|| format!("{blobs} blobs")), "in the end");
    }
    tally.close();
}

/// Every file that has a blob's name, by its name.
fn blobs(scratch: &Scratch) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(scratch.path("offline/blobs/sha256")) else { return BTreeMap::new() };
    let content = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
    };
    entries.map(|entry| content(entry.unwrap())).collect()
}

/// How many names there are in the layout, temporary ones left out.
fn named(scratch: &Scratch) -> usize {
    let count = |directory: &str| {
        let entries = fs::read_dir(scratch.path(directory)).into_iter().flatten().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().ends_with(".partial")).count()
    };
    count("offline/blobs/sha256") + count("offline")
}

/// What is wrong with the layout: what has a name is whole, and what is named is there.
fn wrong(scratch: &Scratch, expected: &BTreeMap<String, Vec<u8>>, index: &[u8]) -> Option<String> {
    let found = blobs(scratch);
    let damaged = found.iter().find(|(name, content)| sha256(content) != **name);
    if let Some((name, content)) = damaged {
        return Some(format!("{name} has {} bytes of something else", content.len()));
    }
    if !scratch.has("offline/index.json") {
        return None;
    }
    if scratch.read("offline/index.json") != index {
        return Some(format!("index.json: {}", String::from_utf8_lossy(&scratch.read("offline/index.json"))));
    }
    (found.keys().ne(expected.keys())).then(|| format!("named, but there are only {} blobs", found.len()))
}

#[test]
fn a_killed_import_leaves_no_half_layout_and_is_finished_by_the_next() {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let import = || Running::start(scratch.command("import bundle.tar --to oci:offline --trust trust"));
    let began = Instant::now();
    import().ended().ok();
    let usual = began.elapsed();
    let (expected, index) = (blobs(&scratch), scratch.read("offline/index.json"));
    let names = String::from_utf8_lossy(&index).matches("ref.name").count();
    assert!(expected.len() == 8 && names == HEAVY_NAMES.len(), "{} {names}", expected.len());
    let (mut dice, mut tally) = (Dice::new("layout"), Tally::new("import to a layout"));
    // Kills before, among and after the first and the last name: a soak that only hits the beginning proves nothing.
    let mut moments = [0; 3];
    while tally.kills < kills() {
        fs::remove_dir_all(scratch.path("offline")).unwrap();
        tally.jobs += 1;
        for _ in 0..=dice.below(CHAIN) {
            let running = import();
            let hand = running.hand();
            let (send, ended) = mpsc::channel();
            let waiter = std::thread::spawn(move || _ = send.send(running.ended()));
            // Half of the moments by the clock, half by what has a name already.
            let (until, names) = match dice.below(2) {
                0 => (Duration::from_micros(dice.below(usual.as_micros() as u64 * 5 / 4)), usize::MAX),
                _ => (usual * 20, 1 + dice.below(expected.len() as u64 + 2) as usize),
            };
            let began = Instant::now();
            let run = loop {
                if let Ok(run) = ended.recv_timeout(Duration::from_micros(300)) {
                    break run;
                }
                if began.elapsed() > until || named(&scratch) >= names {
                    hand.kill();
                    break ended.recv().unwrap();
                }
            };
            waiter.join().unwrap();
            let killed = tally.killed(&run);
            tally.check(wrong(&scratch, &expected, &index), "after a kill");
            if !killed {
                break;
            }
            moments[usize::from(!blobs(&scratch).is_empty())
                + usize::from(scratch.has("offline/index.json"))] += 1;
        }
        let run = import().ended();
        tally.check((run.code != 0).then(|| run.to_string()), "in the end");
        tally.check(wrong(&scratch, &expected, &index), "in the end");
        let complete = blobs(&scratch) == expected && scratch.has("offline/index.json");
        tally.check((!complete).then(|| "not complete".to_owned()), "in the end");
        let names = fs::read_dir(scratch.path("offline")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".partial")).collect();
        tally.check((!left.is_empty()).then(|| format!("left behind: {left:?}")), "in the end");
    }
    eprintln!(
        "soak: layout: {} kills before the first blob, {} before the index, {} after it",
        moments[0], moments[1], moments[2]
    );
    tally.close();
}
