//! An export that was interrupted is finished by the same command, byte for byte, whatever happened to what
//! it had left. The journal saves time; it is never believed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

use support::images::{Image, Layout, random};
use support::parts::Parts;
use support::proxy::{Fault, Rule};
use support::running::until;
use support::site::{Origin, peers};
use support::{EXPORT, sha256};

/// Bytes in each of the three layers.
const LAYER: usize = 1_200_000;

const PARTIAL: &str = "bundle.tar.partial";
const JOURNAL: &str = "bundle.tar.partial.journal";

/// What a killed export has left.
struct Left {
    origin: Origin,
    partial: Vec<u8>,
    journal: Vec<u8>,
}

impl Left {
    /// `kill -9` in the middle of all layers, once the journal knows of each of them.
    fn killed() -> Self {
        let origin = Origin::start(LAYER);
        origin.proxy.rule(Rule::new("GET", "/blobs/", Fault::Stall(900_000)));
        let running = origin.running();
        let hand = running.hand();
        // Two megabytes and a half have come: they are on the disk soon, and noted.
        until(|| {
            let journal = fs::read(origin.scratch.path(JOURNAL)).unwrap_or_default();
            last_words(&journal).into_values().sum::<u64>() > 500_000
        });
        hand.kill();
        let run = running.ended();
        assert_eq!(run.code, -1, "{run}");
        origin.scratch.holds_no_finished_bundle();
        let (partial, journal) = (origin.scratch.read(PARTIAL), origin.scratch.read(JOURNAL));
        Left { origin, partial, journal }
    }

    /// Everything as it was left.
    fn restore(&self) {
        self.origin.clear();
        self.origin.scratch.write(PARTIAL, &self.partial);
        self.origin.scratch.write(JOURNAL, &self.journal);
    }

    /// Requires that the same command finishes, with this journal instead.
    #[track_caller]
    fn finishes_with_journal(&self, journal: impl AsRef<[u8]>, why: &str) {
        self.restore();
        self.origin.scratch.write(JOURNAL, journal);
        self.origin.finishes(self.origin.again(), why);
    }

    /// Requires that the same command finishes, with this partial instead.
    #[track_caller]
    fn finishes_with_partial(&self, partial: impl AsRef<[u8]>, why: &str) {
        self.restore();
        self.origin.scratch.write(PARTIAL, partial);
        self.origin.finishes(self.origin.again(), why);
    }

    /// Bytes of the layers that the journal says are written.
    fn noted(&self) -> u64 {
        let entries = Parts::read(&self.origin.reference).0;
        // The journal counts from the first entry that does not depend on signatures.
        let first = entries.iter().position(|entry| entry.path == "bundle/bundle.json").unwrap();
        let layer = |number: usize| entries[first + number].content.len() > LAYER;
        last_words(&self.journal)
            .into_iter()
            .filter(|(number, _)| layer(*number))
            .map(|(_, bytes)| bytes)
            .sum()
    }

    fn layers(&self) -> Vec<Range<usize>> {
        let entries = Parts::read(&self.origin.reference).0;
        entries.iter().filter(|entry| entry.content.len() > LAYER).map(|entry| entry.range()).collect()
    }
}

/// The lines `<entry> <bytes>` of a journal.
fn progress(journal: &[u8]) -> Vec<(usize, u64)> {
    let text = String::from_utf8_lossy(journal).into_owned();
    let line = |line: &str| {
        let (entry, bytes) = line.split_once(' ')?;
        Some((entry.parse().ok()?, bytes.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// What a journal says last of each entry.
fn last_words(journal: &[u8]) -> BTreeMap<usize, u64> {
    progress(journal).into_iter().collect()
}

#[test]
fn only_what_is_missing_is_fetched() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    // Of the layers only: configs are read while planning, each time.
    let noted = left.noted();
    assert!(noted > 490_000, "{noted}");
    let proxy = &left.origin.proxy;
    left.origin.finishes(left.origin.export(vec![]), "a good line");
    let whole = proxy.down();
    left.restore();
    left.origin.finishes(left.origin.again().says("going on with an interrupted export"), "resumed");
    assert_eq!(proxy.down(), whole - noted, "each byte that was noted is not fetched again");
    assert!(proxy.ranges() > 0, "{:?}", proxy.seen());
    // Without the journal everything is.
    left.restore();
    left.origin.scratch.remove(JOURNAL);
    left.origin.finishes(left.origin.again(), "without a journal");
    assert_eq!(proxy.down(), whole);
}

#[test]
fn an_export_whose_line_broke_for_good_goes_on_inside_the_blobs() {
    if !peers() {
        return;
    }
    let origin = Origin::start(LAYER);
    origin.finishes(origin.export(vec![]), "a good line");
    let whole = origin.proxy.down();
    // Each layer's beginning arrives, and nothing after that.
    let run = origin.export(vec![
        Rule::new("GET", "/blobs/", Fault::Truncate(900_000)).each().first(1),
        Rule::new("GET", "/blobs/", Fault::Reset(0)).each().only(1..usize::MAX),
    ]);
    origin.fails(run, 1, "Network").says("the same command goes on from there");
    origin.proxy.reset();
    origin.finishes(origin.again(), "resumed");
    // The blob that failed took the others' connections with it, but not what they had brought.
    assert!(origin.proxy.down() <= whole - 900_000, "{} of {whole}", origin.proxy.down());
    assert!(origin.proxy.ranges() > 0);
}

#[test]
fn a_damaged_partial_is_found_and_mended() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let mut everywhere = left.partial.clone();
    for layer in left.layers() {
        let mut flipped = left.partial.clone();
        for byte in [layer.start + 10, layer.start + 300_000] {
            flipped[byte] ^= 1;
            everywhere[byte] ^= 1;
        }
        left.finishes_with_partial(flipped, "a byte in a layer");
        // In the header before it and the padding behind it.
        let mut flipped = left.partial.clone();
        flipped[layer.start - 300] ^= 1;
        flipped[layer.end.next_multiple_of(512) - 1] ^= 1;
        left.finishes_with_partial(flipped, "a byte around a layer");
    }
    let last = everywhere.len() - 1;
    for byte in [0, 600, 5000, last] {
        everywhere[byte] ^= 1;
    }
    left.finishes_with_partial(everywhere, "a byte in everything");
    left.finishes_with_partial(random("noise", left.partial.len()), "noise");
    left.finishes_with_partial(vec![0; left.partial.len()], "zeros");
    left.finishes_with_partial(vec![0xff; left.partial.len() + 9999], "ones");
}

#[test]
fn a_partial_of_another_length_is_mended() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let whole = left.partial.len();
    let middle = left.layers()[1].start + 1000;
    for length in [0, 1, 511, 513, middle, whole / 2, whole - 1024, whole - 1] {
        left.finishes_with_partial(&left.partial[..length], &format!("cut to {length}"));
    }
    for more in [1, 512, 1_000_000] {
        let mut partial = left.partial.clone();
        partial.resize(whole + more, b'x');
        left.finishes_with_partial(partial, &format!("{more} bytes longer"));
    }
}

#[test]
fn a_journal_cut_anywhere_does_no_harm() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let journal = &left.journal;
    let mut cuts: Vec<usize> = (0..journal.len()).step_by(journal.len() / 12).collect();
    // And around the end of its head and its first fact.
    let head = journal.iter().position(|&byte| byte == b'\n').unwrap();
    cuts.extend([head - 1, head, head + 1, journal.len() - 1]);
    for cut in cuts {
        left.finishes_with_journal(&journal[..cut], &format!("cut to {cut}"));
    }
}

#[test]
fn a_journal_that_lies_does_no_harm() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let text = String::from_utf8(left.journal.clone()).unwrap();
    let is_progress = |line: &&str| line.as_bytes()[0].is_ascii_digit();
    let head: String =
        text.lines().filter(|line| !is_progress(line)).map(|line| format!("{line}\n")).collect();
    let entries = Parts::read(&left.origin.reference).0;
    // The sums and the signature are not listed: the statement is the first.
    let listed: Vec<usize> = entries[2..].iter().map(|entry| entry.content.len()).collect();
    let say = |said: &dyn Fn(usize, usize) -> String| {
        let lines: String = listed.iter().enumerate().map(|(entry, size)| said(entry, *size)).collect();
        format!("{head}{lines}")
    };
    for (why, journal) in [
        ("everything is said to be there", say(&|entry, size| format!("{entry} {size}\n"))),
        ("everything but a byte", say(&|entry, size| format!("{entry} {}\n", size - 1))),
        ("a byte of everything", say(&|entry, _| format!("{entry} 1\n"))),
        ("more than there is", say(&|entry, size| format!("{entry} {}\n", size + 1))),
        ("far more", say(&|entry, _| format!("{entry} {}\n", u64::MAX))),
        ("more than fits a number", say(&|entry, _| format!("{entry} {}0\n", u64::MAX))),
        ("of other entries", say(&|entry, size| format!("{} {size}\n", entry + 1))),
        ("of entries that do not exist", format!("{head}{0} 1\n{0} {0}\n", usize::MAX)),
        ("forwards and backwards", format!("{text}{text}")),
        ("progress without a head", text.lines().filter(is_progress).map(|l| format!("{l}\n")).collect()),
        ("another head", text.replacen("journal 1", "journal 2", 1)),
        ("another number of signatures", text.replacen(" 1\n", " 2\n", 1)),
        ("carriage returns", text.replace('\n', "\r\n")),
        ("negative", format!("{head}5 -1\n")),
        ("signs", format!("{head}+7 +1000\n")),
        ("upside down", text.lines().rev().map(|line| format!("{line}\n")).collect()),
    ] {
        left.finishes_with_journal(journal, why);
    }
    left.finishes_with_journal(random("noise", 5000), "noise");
    let mut zeros = left.journal.clone();
    let length = zeros.len();
    zeros[length / 2..].fill(0);
    left.finishes_with_journal(zeros, "its end was never written");
    for byte in (0..left.journal.len()).step_by(left.journal.len() / 8) {
        let mut flipped = left.journal.clone();
        flipped[byte] ^= 4;
        left.finishes_with_journal(flipped, &format!("byte {byte} flipped"));
    }
}

#[test]
fn both_may_lie_together() {
    if !peers() {
        return;
    }
    // Somebody prepared a whole bundle with a layer of his own, and a journal that swears by it.
    let left = Left::killed();
    let mut forged = left.origin.reference.clone();
    for layer in left.layers() {
        forged[layer.start + 1000..layer.end].fill(b'!');
    }
    let entries = Parts::read(&left.origin.reference).0;
    let lines = entries[2..].iter().enumerate().map(|(number, e)| format!("{number} {}\n", e.content.len()));
    let head = String::from_utf8_lossy(&left.journal).into_owned();
    let head: String =
        head.lines().filter(|l| !l.as_bytes()[0].is_ascii_digit()).map(|l| format!("{l}\n")).collect();
    left.restore();
    left.origin.scratch.write(PARTIAL, &forged);
    left.origin.scratch.write(JOURNAL, head + &lines.collect::<String>());
    left.origin.finishes(left.origin.again(), "forged");
}

#[test]
fn a_tag_that_moved_meanwhile_is_told_and_the_bundle_is_the_new_one() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let (origin, name) = (&left.origin, "registry.example.com/tools/tool:1.0.0");
    let before =
        Parts::read(&origin.reference).statement()["images"][0]["digest"].as_str().unwrap().to_owned();
    let image = Image { platforms: vec!["linux/amd64", "linux/arm64"], layer: LAYER, ..Image::new("moved") };
    let now = Layout::new(origin.scratch.path("images")).add(name, &image);
    origin.scratch.push_heavy(&origin.registry);
    origin.scratch.sealift(&EXPORT.replace("bundle.tar", "fresh.tar")).ok();

    left.restore();
    let run = origin.again().ok();
    let note = run.stderr.lines().find(|line| line.starts_with("note: ") && line.contains(name));
    let note = note.unwrap_or_else(|| panic!("{run}"));
    assert!(note.contains(&before) && note.contains(&now), "{run}");
    assert_eq!(sha256(&origin.scratch.read("bundle.tar")), sha256(&origin.scratch.read("fresh.tar")));
    origin.scratch.holds_nothing_unfinished();
}

#[test]
fn other_keys_on_the_second_try_give_what_they_give_on_the_first() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let scratch = &left.origin.scratch;
    scratch.key("other");
    for (number, keys) in
        ["--key other.key.pem", "--key other.key.pem --key release.key.pem", "--unsigned"].iter().enumerate()
    {
        let fresh = format!("fresh{number}.tar");
        scratch.sealift(&EXPORT.replace("bundle.tar", &fresh).replace("--key release.key.pem", keys)).ok();
        left.restore();
        scratch.sealift(&left.origin.command().replace("--key release.key.pem", keys)).ok();
        assert!(scratch.read("bundle.tar") == scratch.read(fresh), "{keys}");
        scratch.holds_nothing_unfinished();
    }
}

#[test]
fn links_in_the_place_of_what_was_left_are_not_followed() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let scratch = &left.origin.scratch;
    for replaced in [PARTIAL, JOURNAL] {
        for exists in [true, false] {
            left.restore();
            scratch.remove("victim");
            if exists {
                scratch.write("victim", "dear");
            }
            scratch.remove(replaced);
            std::os::unix::fs::symlink(scratch.path("victim"), scratch.path(replaced)).unwrap();
            let run = left.origin.again();
            match run.code {
                0 => _ = left.origin.finishes(run, replaced),
                _ => _ = left.origin.fails(run, 1, "Io").says(replaced),
            }
            assert_eq!(scratch.has("victim"), exists);
            assert!(!exists || scratch.read("victim") == b"dear", "{replaced}");
            // Out of the way, the same command finishes.
            if !scratch.has("bundle.tar") {
                scratch.remove(replaced);
                left.origin.finishes(left.origin.again(), replaced);
            }
        }
    }
}

#[test]
fn directories_and_pipes_in_the_place_of_what_was_left_are_refused_at_once() {
    if !peers() {
        return;
    }
    let left = Left::killed();
    let scratch = &left.origin.scratch;
    for replaced in [PARTIAL, JOURNAL] {
        for make in ["mkdir", "mkfifo"] {
            left.restore();
            scratch.remove(replaced);
            scratch.run(make, replaced).ok();
            left.origin.fails(left.origin.again(), 1, "Io").says(replaced);
            let (file, directory) = (scratch.path(replaced), scratch.path(replaced));
            fs::remove_file(file).or_else(|_| fs::remove_dir(directory)).unwrap();
            left.origin.finishes(left.origin.again(), make);
        }
    }
}

#[test]
fn ctrl_c_keeps_what_came_and_says_so() {
    if !peers() {
        return;
    }
    let origin = Origin::start(LAYER);
    origin.finishes(origin.export(vec![]), "a good line");
    let whole = origin.proxy.down();
    origin.clear();
    // Nothing more comes when all three layers are in their middle.
    origin.proxy.rule(Rule::new("GET", "/blobs/", Fault::Stall(900_000)));
    let running = origin.running();
    let hand = running.hand();
    // The first note is made of a megabyte; the rest of what was written is noted at the end.
    until(|| !progress(&fs::read(origin.scratch.path(JOURNAL)).unwrap_or_default()).is_empty());
    hand.signal("INT");
    let run = running.ended();
    assert!(run.code == 130 && run.stdout.is_empty(), "{run}");
    let run = run.says("interrupted: ").says("same command");
    assert!(!run.stderr.contains("error: "), "{run}");
    assert!(origin.scratch.has(PARTIAL) && origin.scratch.has(JOURNAL), "{run}");
    origin.proxy.reset();
    origin.finishes(origin.again(), "resumed");
    assert!(origin.proxy.down() < whole - 1_000_000, "{} of {whole}", origin.proxy.down());
}

#[test]
fn two_exports_to_one_name_do_not_meet() {
    if !peers() {
        return;
    }
    let origin = Origin::start(LAYER);
    // In the middle of the first one, its line holds its breath until the second one is over.
    let ((send, under_way), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    origin.proxy.after_bytes(200_000, move || {
        let _ = send.send(());
        let _ = wait.recv_timeout(Duration::from_secs(30));
    });
    let first = origin.running();
    under_way.recv_timeout(Duration::from_secs(30)).unwrap();
    let second = origin.scratch.sealift(EXPORT);
    origin.fails(second, 1, "Locked").says(PARTIAL);
    go.send(()).unwrap();
    origin.finishes(first.ended(), "the first one");
}
