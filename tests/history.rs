//! What a site remembers: older releases, second contents, jumps in an upgrade path, clocks that are
//! wrong, and a memory that is damaged, gone or somebody else's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::os::unix::fs::{chown, symlink};

use serde_json::Value;
use support::images::{Image, Layout};
use support::parts::{Parts, signing_key};
use support::{Run, Scratch, peer};

const MEMORY: &str = "home/state/small.json";

fn releases(versions: &[&str]) -> Scratch {
    let scratch = Scratch::with_small_release();
    for version in versions {
        scratch.export_small(&format!("{version}.tar"), version, "", &["release"]);
    }
    scratch
}

/// Imports to a place of its own, and says where nothing was written.
#[track_caller]
fn import(scratch: &Scratch, arguments: &str) -> Run {
    let before = scratch.has(MEMORY).then(|| scratch.read(MEMORY));
    let run = scratch.sealift(&format!("import {arguments} --to oci:there --trust trust"));
    assert_eq!(scratch.has("there"), run.code == 0, "{run}");
    if run.code != 0 {
        assert_eq!(
            scratch.has(MEMORY).then(|| scratch.read(MEMORY)),
            before,
            "a failure is not remembered\n{run}"
        );
    }
    let _ = std::fs::remove_dir_all(scratch.path("there"));
    run
}

fn memory(scratch: &Scratch) -> Value {
    let text = String::from_utf8(scratch.read(MEMORY)).unwrap();
    serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
}

// ── Older releases ───────────────────────────────────────────────────────────────────────────────

#[test]
fn an_older_release_is_refused_unless_asked_for() {
    let scratch = releases(&["1.9.0", "1.10.0", "2.0.0-rc.1"]);
    import(&scratch, "1.10.0.tar").ok();
    import(&scratch, "1.9.0.tar")
        .fails(4, "Rollback")
        .says("small: got 1.9.0, expected 1.10.0 or newer")
        .says("--allow-downgrade");
    for form in ["verify 1.9.0.tar", "verify 1.9.0.tar --head", "import 1.9.0.tar --to oci:there --dry-run"] {
        scratch.sealift(&format!("{form} --trust trust")).fails(4, "Rollback");
    }
    scratch.sealift("verify 1.9.0.tar --trust trust --allow-downgrade").ok();
    scratch.sealift("inspect 1.9.0.tar --trust trust").ok();
    import(&scratch, "1.9.0.tar --allow-downgrade").ok();
    assert_eq!(memory(&scratch)["installed"], "1.9.0");
    // What was once accepted stays the measure: the next older one is asked about again.
    import(&scratch, "1.9.0.tar").fails(4, "Rollback");
    import(&scratch, "1.10.0.tar").ok();
    import(&scratch, "2.0.0-rc.1.tar").ok();
    import(&scratch, "1.10.0.tar").fails(4, "Rollback");
}

#[test]
fn the_sequence_goes_before_the_version() {
    let scratch = Scratch::with_small_release();
    scratch.export_small("first.tar", "2026-b", "sequence = 7", &["release"]);
    scratch.export_small("second.tar", "2026-a", "sequence = 8", &["release"]);
    scratch.export_small("last.tar", "2026-c", &format!("sequence = {}", i64::MAX), &["release"]);
    import(&scratch, "first.tar").ok();
    import(&scratch, "second.tar").ok();
    import(&scratch, "first.tar")
        .fails(4, "Rollback")
        .says("got 2026-b (sequence 7), expected 2026-a (sequence 8) or newer");
    import(&scratch, "last.tar").ok();
    import(&scratch, "second.tar").fails(4, "Rollback");
    // One without a place in the sequence is older than all that have one.
    scratch.export_small("none.tar", "2027-a", "", &["release"]);
    import(&scratch, "none.tar").fails(4, "Rollback");
    // A release that ran ahead of all others: the next epoch of the trust store forgets it.
    scratch.write("trust/trust.toml", "schema = 1\nepoch = 1\n");
    scratch.chmod("trust/trust.toml", 0o644);
    import(&scratch, "second.tar").ok();
    assert_eq!(memory(&scratch)["newest"]["sequence"], 8);
    std::fs::remove_file(scratch.path("trust/trust.toml")).unwrap();
    import(&scratch, "second.tar").fails(3, "TrustStore").says("older than one that was used here before");
}

#[test]
fn nothing_is_remembered_before_it_succeeded_and_nothing_by_looking() {
    let scratch = releases(&["1.0.0"]);
    scratch.sealift("verify 1.0.0.tar --trust trust").ok();
    scratch.sealift("inspect 1.0.0.tar --trust trust").ok();
    scratch.sealift("import 1.0.0.tar --to oci:there --trust trust --dry-run").ok();
    assert!(!scratch.has("home/state"));
    let mut bundle = scratch.read("1.0.0.tar");
    let place = bundle.len() - 1600;
    bundle[place] ^= 1;
    scratch.write("damaged.tar", bundle);
    import(&scratch, "damaged.tar").fails(3, "DigestMismatch");
    scratch.sealift("import 1.0.0.tar --to docker://127.0.0.1:1 --trust trust").fails(1, "Network");
    assert!(!scratch.has(MEMORY));
    import(&scratch, "1.0.0.tar").ok();
    assert_eq!(memory(&scratch)["accepted"].as_array().unwrap().len(), 1);
}

#[test]
fn a_pipe_is_judged_by_the_same_memory() {
    let scratch = releases(&["1.0.0", "1.1.0"]);
    let piped = |bundle: &str| {
        let mut command = scratch.command("import - --to oci:there --trust trust");
        command.stdin(std::fs::File::open(scratch.path(bundle)).unwrap());
        support::run(command)
    };
    piped("1.1.0.tar").ok();
    piped("1.0.0.tar").fails(4, "Rollback");
    assert_eq!(memory(&scratch)["installed"], "1.1.0");
}

// ── One version, one content ─────────────────────────────────────────────────────────────────────

/// Another image under the same name.
fn rebuilt(scratch: &Scratch) {
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool, built again") };
    Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
}

#[test]
fn a_version_that_comes_again_with_another_content_is_always_refused() {
    let scratch = releases(&["1.0.0", "1.1.0"]);
    rebuilt(&scratch);
    scratch.export_small("again.tar", "1.0.0", "sequence = 9", &["release"]);
    import(&scratch, "1.0.0.tar").ok();
    for leave in ["", " --allow-downgrade", " --allow-downgrade --require-state"] {
        import(&scratch, &format!("again.tar{leave}"))
            .fails(3, "Equivocation")
            .says("small 1.0.0: registry.example.com/tools/tool:1.0.0: got sha256:")
            .says("a new content needs a new version");
    }
    scratch.sealift("verify again.tar --trust trust").fails(3, "Equivocation");
    // Nor later, when a newer one was imported.
    import(&scratch, "1.1.0.tar").ok();
    import(&scratch, "again.tar --allow-downgrade").fails(3, "Equivocation");
    import(&scratch, "1.0.0.tar --allow-downgrade").ok();
}

#[test]
fn one_place_in_the_sequence_is_for_one_version() {
    let scratch = Scratch::with_small_release();
    scratch.export_small("a.tar", "1.0.0", "sequence = 3", &["release"]);
    scratch.export_small("b.tar", "1.0.1", "sequence = 3", &["release"]);
    import(&scratch, "a.tar").ok();
    import(&scratch, "b.tar")
        .fails(3, "Equivocation")
        .says("got 1.0.1 (sequence 3), expected 1.0.0 (sequence 3)");
}

#[test]
fn another_spelling_is_no_other_version_and_another_label_no_other_image() {
    let scratch = releases(&["1.0.0"]);
    import(&scratch, "1.0.0.tar").ok();
    rebuilt(&scratch);
    for version in ["v1.0.0", "1.0", "1.0.0.0"] {
        scratch.export_small("again.tar", version, "", &["release"]);
        import(&scratch, "again.tar").fails(3, "Equivocation");
        scratch.remove("again.tar");
    }
    // Nor does another registry's name help: it is gone when the image is imported.
    let renamed = support::SMALL.replace("\"tool\"", "\"engine\"").replace("standard", "std");
    let renamed = renamed.replace("registry.example.com", "other.example.com");
    scratch.write("renamed.toml", renamed);
    let export =
        "export renamed.toml -o again.tar --key release.key.pem --mirror other.example.com=oci:images";
    let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool, built again") };
    Layout::new(scratch.path("images")).add("other.example.com/tools/tool:1.0.0", &image);
    scratch.sealift(export).ok();
    import(&scratch, "again.tar").fails(3, "Equivocation").says("tools/tool:1.0.0: got sha256:");
}

#[test]
fn two_images_of_one_label_are_no_statement() {
    let scratch = Scratch::with_release().exported();
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.edit_statement(|statement| {
        for key in ["name", "variant"] {
            statement["images"][1][key] = statement["images"][0][key].clone();
        }
    });
    parts.resum();
    parts.resign(&signing_key(&scratch.path("release.key.pem")));
    scratch.write("twice.tar", parts.write());
    scratch
        .sealift("verify twice.tar --trust trust")
        .fails(3, "StatementInvalid")
        .says("two images of one name");
}

#[test]
fn parts_of_a_release_are_no_other_content() {
    let scratch = Scratch::with_release();
    for variant in ["standard", "edge"] {
        let export = support::EXPORT.replace("bundle.tar", &format!("{variant}.tar"));
        scratch.sealift(&format!("{export} --variant {variant}")).ok();
        scratch.sealift(&format!("import {variant}.tar --to oci:there --trust trust")).ok();
    }
    let text = String::from_utf8(scratch.read("home/state/nexus-engine.json")).unwrap();
    let memory: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    assert_eq!(memory["accepted"].as_array().unwrap().len(), 1);
    let images = memory["accepted"][0]["images"].as_object().unwrap();
    let labels: Vec<_> = images.keys().filter(|name| !name.contains(':')).collect();
    assert_eq!(labels, ["agent/standard", "engine/edge", "engine/standard"]);
}

// ── Upgrade paths ────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_release_says_which_one_comes_first() {
    let scratch = releases(&["1.9.0", "2.0.3"]);
    let path = "upgrades_from = \">=2.0.0, <2.1.0\"";
    scratch.export_small("2.1.0.tar", "2.1.0", path, &["release"]);
    scratch.export_small("2.1.1.tar", "2.1.1", path, &["release"]);
    let shown = scratch.sealift("inspect 2.1.0.tar --trust trust --json").ok().json();
    assert_eq!(shown["statement"]["upgradesFrom"], ">=2.0.0, <2.1.0");

    import(&scratch, "1.9.0.tar").ok();
    import(&scratch, "2.1.0.tar")
        .fails(4, "UpgradePath")
        .says("small 2.1.0: got 1.9.0 is installed here, expected a version >=2.0.0, <2.1.0")
        .says("hint: import a bundle of small >=2.0.0, <2.1.0 first");
    scratch.sealift("verify 2.1.0.tar --trust trust").fails(4, "UpgradePath");
    import(&scratch, "2.0.3.tar").ok();
    import(&scratch, "2.1.0.tar").ok();
    import(&scratch, "2.1.0.tar").ok();
    // 2.1.0 is not on the path to 2.1.1.
    import(&scratch, "2.1.1.tar").fails(4, "UpgradePath");
    // Where nothing is installed, every release can be.
    scratch.sealift("import 2.1.1.tar --to oci:there --trust trust --state elsewhere").ok();
}

#[test]
fn a_path_that_cannot_be_understood_is_a_mistake_in_the_manifest() {
    let scratch = Scratch::with_small_release();
    scratch
        .write("release.toml", support::SMALL.replace("channel ", "upgrades_from = \"after 2\"\nchannel "));
    scratch
        .sealift(support::EXPORT)
        .fails(2, "ManifestInvalid")
        .says("release.toml:5:17")
        .says("a range of versions");
}

// ── Time ─────────────────────────────────────────────────────────────────────────────────────────

/// sealift under another clock.
fn at(scratch: &Scratch, time: &str, arguments: &str) -> Run {
    let mut command = scratch.tool("faketime", "-f");
    command.arg(format!("@{time}")).arg(env!("CARGO_BIN_EXE_sealift")).args(arguments.split(' '));
    support::run(command)
}

#[test]
fn time_does_not_run_backwards() {
    if !peer("faketime") {
        return;
    }
    let scratch = Scratch::with_small_release();
    let (expiry, recent) = ("expires = \"2027-06-01T00:00:00Z\"", "--created 2027-07-01T00:00:00Z");
    scratch.export_small("old.tar", "1.0.0", expiry, &["release"]);
    scratch.export_small("new.tar", "1.1.0", "", &["release"]);
    let from = "--mirror registry.example.com=oci:images --key release.key.pem";
    scratch.sealift(&format!("export new.tar.toml -o recent.tar {from} {recent}")).ok();

    at(&scratch, "2027-05-01 00:00:00", "verify old.tar --trust trust").ok();
    at(&scratch, "2027-06-02 00:00:00", "verify old.tar --trust trust").fails(3, "Expired");
    // A clock that begins in 1970 has no say against the program's own age,
    at(&scratch, "1970-01-02 00:00:00", "verify old.tar --trust trust")
        .ok()
        .says("this machine's clock is behind");
    at(&scratch, "2106-01-02 00:00:00", "verify old.tar --trust trust").fails(3, "Expired");
    // nor against what an accepted bundle states.
    at(&scratch, "2027-07-02 00:00:00", "import recent.tar --to oci:there --trust trust").ok();
    at(&scratch, "2027-05-01 00:00:00", "verify old.tar --trust trust --allow-downgrade")
        .fails(3, "Expired")
        .says("it is at least 2027-07-01T00:00:00Z: a bundle that was imported here says so");
    at(&scratch, "1970-01-02 00:00:00", "import old.tar --to oci:there --trust trust --reset-state")
        .fails(3, "Expired");
    at(&scratch, "1970-01-02 00:00:00", "verify old.tar --trust trust --allow-downgrade").fails(3, "Expired");
}

#[test]
fn a_time_far_ahead_makes_nothing_else_expire() {
    if !peer("faketime") {
        return;
    }
    let scratch = Scratch::with_small_release();
    scratch.export_small("good.tar", "1.0.0", "expires = \"2028-06-01T00:00:00Z\"", &["release"]);
    let mut parts = Parts::read(&scratch.read("good.tar"));
    parts.edit_statement(|statement| {
        statement["created"] = "9999-01-01T00:00:00Z".into();
        statement["expires"] = Value::Null;
        statement["name"] = "ahead".into();
    });
    parts.resum();
    parts.resign(&signing_key(&scratch.path("release.key.pem")));
    scratch.write("ahead.tar", parts.write());
    at(&scratch, "2027-05-01 00:00:00", "import ahead.tar --to oci:one --trust trust").ok();
    at(&scratch, "2027-05-03 00:00:00", "import good.tar --to oci:two --trust trust").ok();
}

#[test]
fn what_was_learned_under_a_dead_clock_is_not_believed_for_ever() {
    if !peer("faketime") {
        return;
    }
    let scratch = Scratch::with_small_release();
    scratch.export_small("good.tar", "1.0.0", "expires = \"2028-06-01T00:00:00Z\"", &["release"]);
    scratch.export_small("next.tar", "1.1.0", "", &["release"]);
    let from = "--mirror registry.example.com=oci:images --key release.key.pem";
    scratch.sealift(&format!("export next.tar.toml -o ahead.tar {from} --created 2099-01-01T00:00:00Z")).ok();
    at(&scratch, "2000-01-01 00:00:00", "import ahead.tar --to oci:one --trust trust").ok();
    // Without a clock, it is the best that is known; with one, it was somebody's mistake.
    let verify = "verify good.tar --trust trust --allow-downgrade";
    at(&scratch, "2000-01-02 00:00:00", verify).fails(3, "Expired").says("small.json");
    at(&scratch, "2027-05-03 00:00:00", verify).ok();
}

#[test]
fn the_mask_of_the_user_does_not_matter() {
    let scratch = releases(&["1.0.0", "1.1.0"]);
    for bundle in ["1.0.0.tar", "1.1.0.tar"] {
        let mut command = scratch.tool("sh", "-c");
        command.arg(format!(
            "umask 000; exec {} import {bundle} --to oci:there --trust trust",
            env!("CARGO_BIN_EXE_sealift")
        ));
        support::run(command).ok();
    }
}

#[test]
fn an_export_states_no_time_that_has_not_come() {
    let scratch = Scratch::with_small_release();
    let image =
        Image { platforms: vec!["linux/amd64"], created: "2999-01-01T00:00:00Z", ..Image::new("ahead") };
    Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
    scratch.sealift(support::EXPORT).fails(2, "Usage").says("got 2999-01-01T00:00:00Z").says("--created");
    scratch.sealift(&format!("{} --created 2026-11-01T00:00:00Z", support::EXPORT)).ok();
}

#[test]
fn a_signed_time_is_in_the_past() {
    let scratch = Scratch::with_small_release();
    // It states a time at which it had expired: whatever the clock says, it has.
    scratch.export_small("bundle.tar", "1.0.0", "expires = \"2030-06-01T00:00:00Z\"", &["release"]);
    let mut parts = Parts::read(&scratch.read("bundle.tar"));
    parts.edit_statement(|statement| statement["created"] = "2031-01-01T00:00:00Z".into());
    parts.resum();
    parts.resign(&signing_key(&scratch.path("release.key.pem")));
    scratch.write("bundle.tar", parts.write());
    import(&scratch, "bundle.tar").fails(3, "Expired").says("now 2031-01-01T00:00:00Z");
}

// ── A memory that is damaged, gone or somebody else's ────────────────────────────────────────────

#[test]
fn a_damaged_memory_refuses() {
    let scratch = releases(&["1.0.0", "1.1.0"]);
    import(&scratch, "1.0.0.tar").ok();
    let good = scratch.read(MEMORY);
    let text = String::from_utf8(good.clone()).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let other = text.replace("\"small\"", "\"other\"");
    let damaged = [
        Vec::new(),
        b"\n".to_vec(),
        good[..good.len() / 2].to_vec(),
        [good.as_slice(), b"{}"].concat(),
        text.replace("1.0.0", "0.0.1").into_bytes(),
        support::sha256(b"{}").into_bytes(),
        format!("{}\n{{}}", support::sha256(b"{}")).into_bytes(),
        format!(
            "{}\n{}",
            support::sha256(other.split_once('\n').unwrap().1.as_bytes()),
            other.split_once('\n').unwrap().1
        )
        .into_bytes(),
    ];
    scratch.write("home/state/other.json", "junk");
    import(&scratch, "1.0.0.tar").ok().says("home/state/other.json").says("that release cannot be imported");
    scratch.remove("home/state/other.json");
    let good = scratch.read(MEMORY);
    let flips = (0..good.len()).step_by(29).map(flipped);
    for bytes in damaged.into_iter().chain(flips) {
        scratch.write(MEMORY, &bytes);
        import(&scratch, "1.1.0.tar").fails(3, "StateCorrupt").says(MEMORY).says("--reset-state");
    }
    scratch.sealift("verify 1.1.0.tar --trust trust").fails(3, "StateCorrupt");
    scratch
        .sealift("inspect 1.1.0.tar --trust trust")
        .ok()
        .says("what is remembered of earlier imports is damaged");
    import(&scratch, "1.1.0.tar --reset-state").ok();
    assert_eq!(memory(&scratch)["installed"], "1.1.0");
    import(&scratch, "1.0.0.tar").fails(4, "Rollback");
    import(&scratch, "1.0.0.tar --reset-state").ok();
    assert_eq!(memory(&scratch)["accepted"].as_array().unwrap().len(), 1);
}

#[test]
fn a_memory_that_is_gone_is_noticed_where_that_was_asked_for() {
    let scratch = releases(&["1.0.0", "1.1.0"]);
    import(&scratch, "1.0.0.tar --require-state").fails(3, "StateMissing").says(MEMORY);
    import(&scratch, "1.0.0.tar").ok();
    import(&scratch, "1.1.0.tar --require-state").ok();
    std::fs::remove_file(scratch.path(MEMORY)).unwrap();
    import(&scratch, "1.0.0.tar --require-state").fails(3, "StateMissing");
}

#[test]
fn a_memory_that_others_can_change_is_refused() {
    let scratch = releases(&["1.0.0"]);
    import(&scratch, "1.0.0.tar").ok();
    for place in ["home/state", MEMORY] {
        let mode = if place == MEMORY { 0o644 } else { 0o755 };
        scratch.chmod(place, mode | 0o020);
        import(&scratch, "1.0.0.tar").fails(3, "StatePerms").says("chmod go-w");
        scratch.chmod(place, mode);
        if rustix::process::geteuid().is_root() {
            chown(scratch.path(place), Some(4711), None).unwrap();
            import(&scratch, "1.0.0.tar").fails(3, "StatePerms").says("owner 4711");
            chown(scratch.path(place), Some(0), None).unwrap();
        }
    }
    std::fs::rename(scratch.path(MEMORY), scratch.path("moved.json")).unwrap();
    symlink(scratch.path("moved.json"), scratch.path(MEMORY)).unwrap();
    import(&scratch, "1.0.0.tar").fails(3, "StateCorrupt").says("not a regular file");
    std::fs::rename(scratch.path("home/state"), scratch.path("home/moved")).unwrap();
    symlink(scratch.path("home/moved"), scratch.path("home/state")).unwrap();
    import(&scratch, "1.0.0.tar").fails(3, "StatePerms").says("not a directory");
}

#[test]
fn where_nothing_can_be_remembered_nothing_is_imported() {
    let scratch = releases(&["1.0.0"]);
    scratch.write("file", "");
    import(&scratch, "1.0.0.tar --state file/state").fails(1, "Io").says("--state names a directory");
}

#[test]
fn two_bundles_of_a_release_are_not_imported_at_once() {
    let scratch = releases(&["1.0.0", "1.1.0"]);
    import(&scratch, "1.0.0.tar").ok();
    let lock =
        std::fs::File::options().read(true).write(true).open(scratch.path("home/state/small.lock")).unwrap();
    // Somebody imports the same bundle: it may go to two places at once.
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    import(&scratch, "1.0.0.tar").ok();
    import(&scratch, "1.1.0.tar").fails(1, "Locked").says("wait until that import has ended");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock).unwrap();
    import(&scratch, "1.1.0.tar").ok();
}

#[test]
fn only_so_many_versions_are_remembered() {
    let scratch = Scratch::with_small_release();
    for minor in 0..22 {
        let bundle = format!("{minor}.tar");
        scratch.export_small(&bundle, &format!("1.{minor}.0"), "", &["release"]);
        import(&scratch, &bundle).ok();
    }
    let memory = memory(&scratch);
    assert_eq!(memory["accepted"].as_array().unwrap().len(), 20);
    assert_eq!(memory["accepted"][0]["release"]["version"], "1.2.0");
    assert_eq!(memory["newest"]["version"], "1.21.0");
}
