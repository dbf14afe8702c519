//! The demo: what a stranger runs first.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::{Run, Scratch, run};

/// The demo, with a directory of its own for what is temporary.
fn demo(scratch: &Scratch) -> Command {
    fs::create_dir_all(scratch.path("temporary")).unwrap();
    let mut command = scratch.command("demo");
    command.env("TMPDIR", scratch.path("temporary"));
    command
}

/// Requires that the demo left nothing, neither where it was run nor among the temporary files.
#[track_caller]
fn nothing_is_left(scratch: &Scratch) {
    let names = |directory| -> BTreeSet<String> {
        let entries = fs::read_dir(scratch.path(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("temporary"), BTreeSet::new());
    assert_eq!(names(""), BTreeSet::from(["home".to_owned(), "temporary".to_owned()]));
    assert_eq!(names("home"), BTreeSet::new());
}

fn commands(said: &Run) -> Vec<Vec<&str>> {
    let commands = said.stdout.lines().filter_map(|line| line.strip_prefix("$ "));
    commands.map(|command| command.split(' ').collect()).collect()
}

#[test]
fn the_demo_runs_and_leaves_nothing() {
    let scratch = Scratch::new();
    for _ in 0..2 {
        let said = run(demo(&scratch)).ok();
        let verbs: Vec<_> = commands(&said)
            .iter()
            .map(|words| if words[0] == "sealift" { words[1] } else { words[0] }.to_owned())
            .collect();
        let expected = [
            "cd", "serve", "key", "export", "cp", "verify", "inspect", "serve", "import", "import", "audit",
            "export", "cmp",
        ];
        assert_eq!(verbs, expected, "{said}");
        assert!(said.stdout.contains("sent 0 B"), "the second import sends nothing:\n{said}");
        nothing_is_left(&scratch);
    }
}

#[test]
fn every_image_goes_through_two_registries_and_keeps_its_digest() {
    let scratch = Scratch::new();
    let said = run(demo(&scratch)).ok();
    let addresses: Vec<_> =
        said.stdout.lines().filter_map(|line| line.strip_prefix("serving at http://127.0.0.1:")).collect();
    assert!(addresses.len() == 2 && addresses[0] != addresses[1], "{said}");
    // Into the bundle from the one, out of it into the other, and back from there.
    let words = commands(&said);
    let last = |number: usize| words[number].last().copied().unwrap();
    for (number, address) in [(3, addresses[0]), (11, addresses[1])] {
        assert_eq!(last(number), format!("registry.example.com=127.0.0.1:{address}"), "{said}");
    }
    assert!(words[8].contains(&format!("docker://127.0.0.1:{}", addresses[1]).as_str()), "{said}");
    let same: BTreeSet<_> =
        said.stdout.lines().filter_map(|line| line.strip_suffix(" on both sides")).collect();
    let digests: BTreeSet<_> = same.iter().map(|line| line.split_once("  ").unwrap().1.trim()).collect();
    assert_eq!((same.len(), digests.len()), (6, 3), "{said}");
    // The bundle said the same of them before the trip.
    let inspected: Vec<_> = said.stdout.lines().filter_map(|line| line.strip_prefix("  registry.")).collect();
    assert_eq!(inspected.len(), 6, "{said}");
    for line in inspected {
        assert!(same.contains(format!("registry.{line}").as_str()), "{line}\n{said}");
    }
    for variant in ["distroless", "edge", "standard"] {
        assert!(said.stdout.contains(&format!("engine  {variant}")), "{said}");
    }
    assert_eq!(said.stdout.matches("linux/arm/v7").count(), 3, "{said}");
}

#[test]
fn no_proxy_is_asked_for_the_way_to_itself() {
    let scratch = Scratch::new();
    let mut command = demo(&scratch);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        // Discards what it gets (RFC 863), if anything is there at all.
        command.env(name, "http://127.0.0.1:9");
    }
    run(command).ok();
    nothing_is_left(&scratch);
}

/// Interrupted after a line that begins like this.
fn interrupted(scratch: &Scratch, signal: &str, line: &str) -> (i32, String) {
    let mut command = demo(scratch);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for next in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if next.starts_with(line) {
            let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
            assert!(status.unwrap().success());
        }
        said += &format!("{next}\n");
    }
    let output = child.wait_with_output().unwrap();
    said += &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn interrupted_in_the_midst_it_leaves_nothing_either() {
    let scratch = Scratch::new();
    for (signal, line) in [
        ("-INT", "$ cd"),
        ("-INT", "serving at"),
        ("-TERM", "# 2."),
        ("-INT", "$ sealift export"),
        ("-TERM", "$ sealift verify"),
        ("-INT", "# 6."),
        ("-HUP", "$ sealift import"),
    ] {
        let (code, said) = interrupted(&scratch, signal, line);
        assert!(code == 130 && said.contains("interrupted"), "{signal} {line}: {code}\n{said}");
        nothing_is_left(&scratch);
    }
}

#[test]
fn without_room_for_it_nothing_is_begun() {
    let scratch = Scratch::new();
    let mut command = demo(&scratch);
    command.env("TMPDIR", scratch.path("absent"));
    run(command).fails(1, "Io").says("cannot prepare the demo");
    nothing_is_left(&scratch);
}
