//! Bundles that go through a pipe: the same bytes, the same verdicts, in one pass.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

mod support;

use std::fs::File;
use std::process::Stdio;

use support::images::{Image, Layout};
use support::lying::{Answer, Lying};
use support::registry::Registry;
use support::{EXPORT, Run, Scratch, piped, run};

const POURED: &str =
    "export release.toml -o - --key release.key.pem --mirror registry.example.com=oci:images";

/// `sealift export … -o - > FILE`; what it said.
fn poured(scratch: &Scratch, arguments: &str, file: &str) -> Run {
    let mut command = scratch.command(arguments);
    command.stdout(File::create(scratch.path(file)).unwrap()).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    Run { command: arguments.to_owned(), code: output.status.code().unwrap(), stdout: String::new(), stderr }
}

#[test]
fn a_bundle_is_the_same_through_a_pipe_and_in_a_file() {
    let scratch = Scratch::with_release().exported();
    for jobs in ["1", "6", "64"] {
        poured(&scratch, &format!("{POURED} --jobs {jobs}"), "piped.tar")
            .ok()
            .says("sent: nexus-engine 2.1.0");
        assert_eq!(scratch.read("bundle.tar"), scratch.read("piped.tar"));
    }
    assert!(!scratch.has("-") && !scratch.has("-.partial"));
}

#[test]
fn verify_and_inspect_say_the_same_of_a_pipe() {
    let scratch = Scratch::with_release().exported();
    let verified = scratch.sealift("verify bundle.tar --trust trust --json").ok().json();
    assert_eq!(piped(&scratch, "bundle.tar", "verify - --trust trust --json").ok().json(), verified);
    let inspected = scratch.sealift("inspect bundle.tar --trust trust --json").ok().json();
    assert_eq!(piped(&scratch, "bundle.tar", "inspect - --trust trust --json").ok().json(), inspected);
}

#[test]
fn an_export_can_be_imported_without_ever_being_a_file() {
    let scratch = Scratch::with_release();
    let mut export = scratch.command(POURED).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut import = scratch.command("import - --to oci:there --trust trust");
    import.stdin(export.stdout.take().unwrap());
    run(import).ok();
    assert!(export.wait().unwrap().success());
    // All of it: an import from a file finds nothing to send.
    scratch.sealift(EXPORT).ok();
    let receipt = scratch.sealift("import bundle.tar --to oci:there --trust trust --json").ok().json();
    assert_eq!((&receipt["toSend"], &receipt["tags"]), (&0.into(), &8.into()));
}

#[test]
fn a_registry_gets_the_same_from_a_pipe_as_from_a_file() {
    if !support::peer("docker-registry") {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let (by_file, by_pipe) = (Registry::start(), Registry::start());
    let import = |registry: &Registry, from: &str| {
        format!(
            "import {from} --to {} --trust trust --json --map nexus/agent=other/agent",
            registry.address()
        )
    };
    let filed = scratch.sealift(&import(&by_file, "bundle.tar")).ok().json();
    let dry = piped(&scratch, "bundle.tar", &format!("{} --dry-run", import(&by_pipe, "-"))).ok().json();
    assert!(by_pipe.is_empty());
    let sent = piped(&scratch, "bundle.tar", &import(&by_pipe, "-")).ok().json();
    for count in ["toSend", "bytesToSend", "toMount", "present"] {
        assert_eq!((&dry[count], &sent[count]), (&filed[count], &filed[count]), "{count}");
    }
    for count in ["sent", "bytesSent", "mounted", "tags"] {
        assert_eq!(sent[count], filed[count], "{count}");
    }
    assert_eq!(by_pipe.blobs(), by_file.blobs());
    let again = piped(&scratch, "bundle.tar", &import(&by_pipe, "-")).ok().json();
    assert_eq!((&again["toSend"], &again["tags"]), (&0.into(), &8.into()));
}

#[test]
fn parts_can_be_taken_from_a_pipe() {
    let scratch = Scratch::with_release().exported();
    piped(
        &scratch,
        "bundle.tar",
        "import - --to oci:there --trust trust --variant edge --platform linux/arm64",
    )
    .ok();
    let receipt = scratch
        .sealift(
            "import bundle.tar --to oci:there --trust trust --variant edge --platform linux/arm64 --json",
        )
        .ok()
        .json();
    assert_eq!(receipt["toSend"], 0);
}

#[test]
fn a_pipe_that_breaks_off_moves_no_tag() {
    let scratch = Scratch::with_release().exported();
    let bundle = scratch.read("bundle.tar");
    // In the sums, in the documents, in a layer, in the trailer.
    for keep in [0, 700, 20_000, bundle.len() / 2, bundle.len() - 1024, bundle.len() - 1] {
        scratch.write("short.tar", &bundle[..keep]);
        let import = piped(&scratch, "short.tar", "import - --to oci:there --trust trust");
        assert!(import.is_failure(3, "Truncated"), "{keep}: {import}");
        assert!(!scratch.has("there/index.json"), "{keep}");
        piped(&scratch, "short.tar", "verify - --trust trust").fails(3, "Truncated");
    }
    // What had arrived is used by the next try.
    piped(&scratch, "bundle.tar", "import - --to oci:there --trust trust").ok();
}

#[test]
fn damage_is_found_wherever_it_is() {
    let scratch = Scratch::with_small_release().exported();
    let bundle = scratch.read("bundle.tar");
    for at in (0..bundle.len()).step_by(97) {
        let mut damaged = bundle.clone();
        damaged[at] ^= 4;
        scratch.write("damaged.tar", &damaged);
        let import = piped(&scratch, "damaged.tar", "import - --to oci:there --trust trust");
        assert!(import.code == 3 && import.stdout.is_empty(), "byte {at}: {import}");
        assert!(!scratch.has("there/index.json"), "byte {at}");
    }
}

#[test]
fn what_follows_the_end_of_a_bundle_spoils_it() {
    let scratch = Scratch::with_small_release().exported();
    scratch.write("longer.tar", [scratch.read("bundle.tar"), vec![0]].concat());
    piped(&scratch, "longer.tar", "import - --to oci:there --trust trust").fails(3, "TrailingData");
    assert!(!scratch.has("there/index.json"));
}

#[test]
fn a_stranger_is_turned_away_at_the_head() {
    let scratch = Scratch::with_release().exported();
    scratch.key("stranger");
    scratch.trust("others", &["stranger"]);
    for verb in ["import - --to oci:there", "verify -", "verify - --head", "inspect -"] {
        piped(&scratch, "bundle.tar", &format!("{verb} --trust others")).fails(3, "SignatureUntrusted");
    }
    assert!(!scratch.has("there"));
    scratch.write("text", "this is no bundle");
    piped(&scratch, "text", "verify - --trust trust").fails(3, "Truncated");
    scratch.write("noise", [7; 4096]);
    piped(&scratch, "noise", "verify - --trust trust").fails(3, "TarHeader");
}

#[test]
fn a_source_that_fails_leaves_a_pipe_that_nobody_takes_for_a_bundle() {
    let scratch = Scratch::with_release();
    let blob = walk_largest(&scratch);
    scratch.write(&blob, "damaged");
    poured(&scratch, POURED, "piped.tar").fails(3, "SizeMismatch");
    piped(&scratch, "piped.tar", "verify - --trust trust").fails(3, "Truncated");
}

/// The largest blob of the layout: a layer.
fn walk_largest(scratch: &Scratch) -> String {
    let blobs = std::fs::read_dir(scratch.path("images/blobs/sha256")).unwrap().map(Result::unwrap);
    let largest = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap();
    format!("images/blobs/sha256/{}", largest.file_name().to_string_lossy())
}

#[test]
fn a_reader_that_goes_away_ends_the_export() {
    let scratch = Scratch::new();
    let image = Image { layer: 1 << 20, ..Image::new("tool") };
    Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
    scratch.write("release.toml", support::SMALL);
    scratch.key("release");
    let mut export = scratch.command(POURED).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(export.stdout.take());
    let said = export.wait_with_output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write the bundle: standard output") && text.contains("hint: "), "{text}");
}

#[test]
fn json_and_a_bundle_do_not_share_standard_output() {
    let scratch = Scratch::with_small_release();
    scratch.sealift(&format!("{POURED} --json")).fails(2, "Usage");
}

#[test]
fn a_push_that_fails_is_told_and_not_what_became_of_the_pipe() {
    let scratch = Scratch::with_release().exported();
    let server = Lying::start(|request, _| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v2/") => Answer::new(200),
        ("HEAD" | "GET", _) => Answer::new(404),
        ("POST", _) => Answer::new(202).header("Location", "/v2/session"),
        ("DELETE", _) => Answer::new(204),
        _ => Answer::new(507).body("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"disk is full\"}]}"),
    });
    let import = format!("import - --to {} --trust trust", server.host());
    piped(&scratch, "bundle.tar", &import)
        .fails(1, "RegistryRejected")
        .says("disk is full")
        .says("destination: ");
}

#[test]
fn a_slow_link_is_kept_slow() {
    let scratch = Scratch::with_small_release();
    let bytes = scratch.read(walk_largest(&scratch)).len() as f64;
    let began = std::time::Instant::now();
    scratch.sealift(&format!("{EXPORT} --limit-rate 1kB")).ok();
    // However fast the machine is: it cannot have been faster than this.
    assert!(began.elapsed().as_secs_f64() > bytes / 1000.0 - 0.1, "{bytes} bytes in {:?}", began.elapsed());
    let refused = scratch.sealift(&format!("{EXPORT} --limit-rate fast"));
    assert_eq!(refused.code, 2, "{refused}");
}
