//! The OCI's own conformance suite (tests/conformance) against a store that is served. It needs Go and, the first
//! time, a module proxy; where one of them is missing it is skipped, and says so, even where peers are required: no
//! package of the system provides a Go that is new enough, and a proxy's bad day is no fault of this program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::running::Running;
use support::serving::Serving;
use support::{Run, Scratch};

const SUITE: &str = "github.com/opencontainers/distribution-spec/conformance";

/// Downloads that stall are begun anew.
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(180);

/// The groups of the suite, and how many of its cases pass and are skipped: each of the latter is the other
/// branch of one that passes (data by environment variables instead of a push; a registry that does not mount).
const GROUPS: [(&str, usize, usize); 4] =
    [("Pull", 18, 1), ("Push", 27, 2), ("Content Discovery", 9, 1), ("Content Management", 10, 0)];

#[test]
fn the_suite_of_the_specification_finds_nothing() {
    let Some(suite) = suite() else { return };
    let scratch = Scratch::new();
    let registry = Serving::start(&scratch, "store:store --writable");
    let mut command = scratch.tool(suite.to_str().unwrap(), "");
    command.env("OCI_ROOT_URL", format!("http://{}", registry.address));
    command.env("OCI_NAMESPACE", "conformance/one").env("OCI_CROSSMOUNT_NAMESPACE", "conformance/other");
    for group in ["PULL", "PUSH", "CONTENT_DISCOVERY", "CONTENT_MANAGEMENT"] {
        command.env(format!("OCI_TEST_{group}"), "1");
    }
    // Blobs are mounted from wherever they are.
    command.env("OCI_AUTOMATIC_CROSSMOUNT", "1").env("ACK_GINKGO_DEPRECATIONS", "1.16.5");
    let run = support::run(command);
    let report = String::from_utf8(scratch.read("junit.xml")).unwrap();
    let mut counted = Vec::new();
    for (group, _, _) in GROUPS {
        let [pass, skip, fail] = counts(&report, group);
        eprintln!("{group}: {pass} passed, {skip} skipped, {fail} failed");
        assert_eq!(fail, 0, "{run}");
        counted.push((group, pass, skip));
    }
    assert_eq!(counted, GROUPS, "{report}");
    run.ok();
}

/// Passed, skipped and failed cases of a group.
fn counts(report: &str, group: &str) -> [usize; 3] {
    let name = format!("OCI Distribution Conformance Tests {group} ");
    let cases: Vec<_> =
        report.split("<testcase name=\"").skip(1).filter(|case| case.starts_with(&name)).collect();
    let having = |element: &str| cases.iter().filter(|case| case.contains(element)).count();
    let (skip, fail) = (having("<skipped"), having("<failure"));
    [cases.len() - skip - fail, skip, fail]
}

/// The suite, built; nothing where that cannot be.
fn suite() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.join("go").is_file()) {
        eprintln!("skipped: go is not installed");
        return None;
    }
    let suite = Path::new(env!("CARGO_TARGET_TMPDIR")).join("distribution-conformance");
    let mut last = None;
    for _ in 0..TRIES {
        let run = built(&suite);
        if run.code == 0 {
            return Some(suite);
        }
        last = Some(run);
    }
    eprintln!("skipped: the suite cannot be had\n{}", last.unwrap());
    None
}

fn built(suite: &Path) -> Run {
    let mut go = Command::new("go");
    go.args(["test", "-c", "-o"]).arg(suite).arg(SUITE);
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"));
    // Nothing of the tester's workspace.
    go.env("GOWORK", "off");
    let running = Running::start(go);
    let hand = running.hand();
    let (done, waiting) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            hand.kill();
        }
    });
    let run = running.ended();
    drop(done);
    watch.join().unwrap();
    run
}
