//! Bad lines: everything that happens between here and a registry, made to happen. What passes is
//! survived, and the result is the same byte for byte; what lies is refused, and nothing of it gets a name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::time::Duration;

use sealift::content::Source;
use sealift::oci::{Descriptor, Digest, MediaType, Role};
use sealift::registry::{Client, Keychain, Options};
use support::parts::Parts;
use support::proxy::{Fault, Rule};
use support::site::{Destination, Origin, peers};

/// Bytes in each of the three layers.
const LAYER: usize = 1_200_000;

/// For the layers alone: configs and documents are not that long.
fn layers(fault: Fault) -> Rule {
    Rule::new("GET", "/blobs/", fault)
}

fn documents(fault: Fault) -> Rule {
    Rule::new("GET", "/manifests/", fault)
}

#[test]
fn an_export_survives_what_passes() {
    if !peers() {
        return;
    }
    use Fault::*;
    let source = Origin::start(LAYER);
    for (what, rules) in [
        ("connections are reset", vec![layers(Reset(300_000)).each().first(2)]),
        ("connections are reset at their beginning", vec![layers(Reset(0)).each().first(2)]),
        ("bodies end early", vec![layers(Truncate(1_000_001)).each().first(2)]),
        ("bodies lack their last byte", vec![layers(Truncate(LAYER as u64)).each().first(1)]),
        ("documents end early", vec![documents(Truncate(100)).first(2)]),
        ("documents are reset", vec![documents(Reset(100)).first(2)]),
        ("too many requests", vec![layers(Refuse(429, Some(1))).first(2)]),
        ("not available", vec![Rule::new("GET", "/v2/", Refuse(503, Some(0))).first(3)]),
        ("a bad gateway", vec![Rule::new("GET", "/v2/", Refuse(502, None)).each().first(1)]),
        ("ranges are ignored", vec![layers(Truncate(500_000)).each().first(2), layers(IgnoreRange)]),
        ("the line is slow", vec![layers(Throttle(6_000_000))]),
        ("one bit flips once", vec![layers(Flip(700_000)).first(1)]),
        ("answers are lost", vec![layers(LoseAnswer).each().first(1), documents(LoseAnswer).first(1)]),
    ] {
        let run = source.export(rules);
        source.finishes(run, what);
    }
}

#[test]
fn a_connection_that_keeps_breaking_costs_no_byte_twice() {
    if !peers() {
        return;
    }
    let source = Origin::start(LAYER);
    let run = source.export(vec![]);
    source.finishes(run, "a good line");
    let whole = source.proxy.down();
    assert_eq!(source.proxy.ranges(), 0);
    // More breaks than tries: each of them has brought something.
    let run = source.export(vec![layers(Fault::Truncate(150_000))]);
    source.finishes(run, "a break every 150 kB");
    assert_eq!(source.proxy.down(), whole);
    assert_eq!(source.proxy.ranges(), 3 * 8);
}

#[test]
fn a_flipped_bit_never_gets_into_a_bundle() {
    if !peers() {
        return;
    }
    let source = Origin::start(LAYER);
    for (what, rule) in [
        ("a layer's first byte", layers(Fault::Flip(0))),
        ("a layer's middle", layers(Fault::Flip(600_000))),
        ("a layer's end", layers(Fault::Flip(LAYER as u64 + 1000))),
        ("the tag's document", Rule::new("GET", "/manifests/1.0.0", Fault::Flip(200))),
        ("the manifests", Rule::new("GET", "/manifests/sha256:", Fault::Flip(200))),
    ] {
        let run = source.export(vec![rule]);
        assert!(run.stderr.contains("source: "), "{what}: {run}");
        source.fails(run, 3, "DigestMismatch");
        // What is left of it does no harm to the next one.
        source.proxy.reset();
        let run = source.again();
        source.finishes(run, what);
    }
}

#[test]
fn a_flipped_bit_behind_a_break_is_found() {
    if !peers() {
        return;
    }
    let source = Origin::start(LAYER);
    let run = source.export(vec![
        layers(Fault::Truncate(500_000)).each().first(1),
        layers(Fault::Flip(100)).each().only(1..usize::MAX),
    ]);
    source.fails(run, 3, "DigestMismatch");
    source.proxy.reset();
    let run = source.again();
    source.finishes(run, "after it");
}

#[test]
fn a_server_that_ignores_ranges_is_asked_once_for_each_connection() {
    if !peers() {
        return;
    }
    let source = Origin::start(LAYER);
    let run =
        source.export(vec![layers(Fault::Truncate(500_000)).each().first(1), layers(Fault::IgnoreRange)]);
    source.finishes(run, "without ranges");
    let asked = source.proxy.seen().into_iter().filter(|seen| seen.path.contains("/blobs/"));
    // Each of the three layers twice, each of the two configs once.
    assert_eq!((asked.count(), source.proxy.ranges()), (3 * 2 + 2, 3));
}

#[test]
fn a_server_that_lies_about_ranges_is_asked_for_everything() {
    if !peers() {
        return;
    }
    let source = Origin::start(LAYER);
    let run =
        source.export(vec![layers(Fault::Truncate(500_000)).each().first(1), layers(Fault::LieAboutRange)]);
    source.finishes(run, "without a range");
}

#[test]
fn what_does_not_pass_ends_the_export_and_the_same_command_finishes_it() {
    if !peers() {
        return;
    }
    let source = Origin::start(LAYER);
    for (rule, kind) in [
        (layers(Fault::Refuse(503, Some(0))), "RegistryRejected"),
        (layers(Fault::Refuse(429, None)), "RegistryRejected"),
        (layers(Fault::Refuse(404, None)), "NotFound"),
        (layers(Fault::Reset(0)), "Network"),
        // The first connection brings something, all others nothing.
        (layers(Fault::Reset(0)).each().only(1..usize::MAX), "Network"),
    ] {
        let run = source.export(vec![rule, layers(Fault::Truncate(500_000)).each().first(1)]);
        source.fails(run, 1, kind).says("source: ");
        source.proxy.reset();
        let run = source.again();
        source.finishes(run, kind);
    }
}

/// Bodies of blobs on their way up.
fn uploads(fault: Fault) -> Rule {
    Rule::new("PUT|PATCH", "/blobs/uploads/", fault)
}

#[test]
fn an_import_survives_what_passes() {
    if !peers() {
        return;
    }
    use Fault::*;
    let mut destination = Destination::start(LAYER);
    for (what, rules) in [
        ("connections are reset", vec![uploads(Reset(300_000)).first(3)]),
        ("connections are reset at their beginning", vec![uploads(Reset(0)).first(3)]),
        ("connections end early", vec![uploads(Truncate(LAYER as u64)).first(2)]),
        ("no session", vec![Rule::new("POST", "/blobs/uploads/", Refuse(503, Some(0))).first(3)]),
        ("too many requests", vec![uploads(Refuse(429, Some(1))).first(2)]),
        ("a bad gateway", vec![Rule::new("HEAD|POST|PUT|PATCH", "/v2/", Refuse(502, None)).only(3..6)]),
        ("the line is slow", vec![uploads(Throttle(6_000_000))]),
        ("answers to uploads are lost", vec![uploads(LoseAnswer).first(2)]),
        ("answers to documents are lost", vec![Rule::new("PUT", "/manifests/", LoseAnswer).each().first(1)]),
        ("documents are reset", vec![Rule::new("PUT", "/manifests/", Reset(100)).each().first(2)]),
        ("questions are lost", vec![Rule::new("HEAD|GET", "/v2/", LoseAnswer).each().first(1)]),
    ] {
        let run = destination.fresh(rules);
        destination.finishes(run, what);
    }
}

#[test]
fn a_flipped_bit_never_gets_a_tag() {
    if !peers() {
        return;
    }
    let mut destination = Destination::start(LAYER);
    for (what, rule) in [
        ("a layer's first byte", uploads(Fault::Flip(0))),
        ("a layer's middle", uploads(Fault::Flip(600_000))),
        ("the manifests", Rule::new("PUT", "/manifests/sha256:", Fault::Flip(200))),
    ] {
        let run = destination.fresh(vec![rule]);
        destination.fails(run, "RegistryRejected");
        destination.proxy.reset();
        let run = destination.again();
        destination.finishes(run, what);
    }
}

#[test]
fn a_tag_whose_document_was_changed_on_the_way_is_not_believed() {
    if !peers() {
        return;
    }
    // Bytes of a digest, and of a name that the registry does not look at: nothing but the answer tells
    // then, and no client can prevent it on a line without TLS.
    let mut destination = Destination::start(LAYER);
    for (byte, kind) in [(30, "RegistryRejected"), (200, "RegistryCorrupt")] {
        let run = destination.fresh(vec![Rule::new("PUT", "/manifests/1", Fault::Flip(byte))]);
        run.fails(1, kind).says("destination: ");
    }
}

#[test]
fn what_does_not_pass_ends_the_import_and_the_same_command_finishes_it() {
    if !peers() {
        return;
    }
    let mut destination = Destination::start(LAYER);
    for (rule, kind) in [
        (uploads(Fault::Reset(0)), "Network"),
        (uploads(Fault::Refuse(503, Some(0))), "RegistryRejected"),
        (Rule::new("PUT", "/manifests/", Fault::Refuse(503, Some(0))), "RegistryRejected"),
        (Rule::new("PUT", "/manifests/1", Fault::Reset(10)), "Network"),
    ] {
        let run = destination.fresh(vec![rule]);
        destination.fails(run, kind);
        destination.proxy.reset();
        let run = destination.again();
        destination.finishes(run, kind);
    }
}

#[tokio::test]
async fn silence_in_the_middle_costs_its_time_and_nothing_else() {
    if !peers() {
        return;
    }
    let source = Origin::start(LAYER);
    source.proxy.rule(layers(Fault::Stall(400_000)).first(1));
    let layer =
        Parts::read(&source.reference).0.into_iter().find(|e| e.content.len() > LAYER).unwrap().content;
    let options = Options {
        certificates: Vec::new(),
        keychain: Keychain::empty(),
        idle_timeout: Duration::from_millis(500),
        backoff: Duration::from_millis(1),
        ..Options::default()
    };
    let client = Client::new(options).unwrap();
    let repository = client.repository(&source.proxy.host().parse().unwrap(), &"tools/tool".parse().unwrap());
    let expected = Descriptor {
        role: Role::Layer,
        media_type: MediaType::new("application/vnd.oci.image.layer.v1.tar+gzip"),
        digest: Digest::of(&layer),
        size: layer.len() as u64,
    };
    let content = repository.fetch(&expected).await.unwrap().into_bytes().await.unwrap();
    assert!(content == layer);
    assert_eq!((source.proxy.ranges(), source.proxy.down()), (1, layer.len() as u64));
}
