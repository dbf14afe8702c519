//! The demo: what a stranger runs first.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a failed test")]

mod support;

use support::parts::Parts;
use support::{Scratch, peer};

#[test]
fn the_demo_runs_and_can_be_run_again() {
    let scratch = Scratch::new();
    for _ in 0..2 {
        let said = scratch.sealift("demo").ok().stdout;
        let commands: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
        let verbs: Vec<&str> = commands.iter().map(|command| command.split(' ').nth(1).unwrap()).collect();
        assert_eq!(
            verbs,
            [
                "key",
                "sealift-demo/release.pub.pem",
                "export",
                "export",
                "verify",
                "import",
                "import",
                "inspect"
            ],
            "{said}"
        );
        assert!(said.contains("sent 0 B"), "the second import sends nothing:\n{said}");
    }
    scratch.sealift("verify sealift-demo/demo-engine-2.1.0.tar --trust sealift-demo/trust").ok();
}

#[test]
fn what_the_demo_prints_is_what_it_does() {
    // Each printed command, typed again, succeeds or finds that it was done already.
    let scratch = Scratch::new();
    let said = scratch.sealift("demo").ok().stdout;
    let commands: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("$ sealift ")).collect();
    assert_eq!(commands.len(), 7);
    for command in commands {
        let run = scratch.sealift(command);
        assert!(run.code == 0 || run.is_failure(2, "OutputExists"), "{run}");
    }
}

#[test]
fn the_demo_ships_three_variants_for_three_platforms() {
    let scratch = Scratch::new();
    scratch.sealift("demo").ok();
    let statement = Parts::read(&scratch.read("sealift-demo/demo-engine-2.1.0.tar")).statement();
    let images = statement["images"].as_array().unwrap();
    let variants: Vec<_> = images.iter().map(|image| image["variant"].as_str().unwrap()).collect();
    assert_eq!(variants, ["distroless", "edge", "standard"]);
    assert!(images.iter().all(|image| image["platforms"].as_array().unwrap().len() == 3));
    assert_eq!(statement["created"], "2026-06-01T00:00:00Z");
    if peer("skopeo") {
        let layout = "oci:sealift-demo/offline:registry.example.com/demo/engine:2.1-edge";
        let inspected = scratch
            .run("skopeo", &format!("inspect --override-arch arm64 --override-os linux {layout}"))
            .ok();
        assert_eq!(inspected.json()["Architecture"], "arm64");
    }
}

#[test]
fn a_directory_that_is_not_the_demos_is_not_touched() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("sealift-demo")).unwrap();
    scratch.write("sealift-demo/thesis.txt", "years of work");
    scratch.sealift("demo").fails(2, "OutputExists").says("sealift-demo");
    assert_eq!(scratch.read("sealift-demo/thesis.txt"), b"years of work");
    assert_eq!(std::fs::read_dir(scratch.path("sealift-demo")).unwrap().count(), 1);
}
