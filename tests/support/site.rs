//! The two ends of a release's way, each with a registry behind a line that can be made a bad one.

use std::collections::BTreeMap;

use super::parts::Parts;
use super::proxy::{Proxy, Rule};
use super::registry::Registry;
use super::running::Running;
use super::{EXPORT, HEAVY_NAMES, Run, Scratch, peer};

/// Whether everything is there that a site needs.
pub fn peers() -> bool {
    ["skopeo", "docker-registry"].into_iter().filter(|program| !peer(program)).count() == 0
}

/// A release in a registry behind a line, and the bundle that it makes where the line is good.
pub struct Origin {
    pub scratch: Scratch,
    pub proxy: Proxy,
    pub registry: Registry,
    pub reference: Vec<u8>,
}

impl Origin {
    /// With three layers of so many bytes.
    pub fn start(layer: usize) -> Self {
        let scratch = Scratch::with_heavy_release(layer).exported();
        let registry = Registry::start();
        scratch.push_heavy(&registry);
        let reference = scratch.read("bundle.tar");
        scratch.remove("bundle.tar");
        Origin { scratch, proxy: Proxy::start(&registry.address()), registry, reference }
    }

    /// Forgets all exports and all faults.
    pub fn clear(&self) {
        for left in ["bundle.tar", "bundle.tar.partial", "bundle.tar.partial.journal"] {
            self.scratch.remove(left);
        }
        self.proxy.reset();
    }

    /// Exports with nothing left of earlier exports, and these faults.
    pub fn export(&self, rules: Vec<Rule>) -> Run {
        self.clear();
        for rule in rules {
            self.proxy.rule(rule);
        }
        self.again()
    }

    /// The export, as it is typed.
    pub fn command(&self) -> String {
        let from = format!("registry.example.com={}", self.proxy.host());
        EXPORT.replace("registry.example.com=oci:images", &from)
    }

    /// Exports with what is left of earlier exports.
    pub fn again(&self) -> Run {
        self.scratch.sealift(&self.command())
    }

    /// The same, while something else happens.
    pub fn running(&self) -> Running {
        Running::start(self.scratch.command(&self.command()))
    }

    /// Requires that the bundle is there, that it is the right one, and nothing else.
    #[track_caller]
    pub fn finishes(&self, run: Run, why: &str) -> Run {
        let run = run.ok();
        assert!(self.scratch.read("bundle.tar") == self.reference, "{why}: another bundle\n{run}");
        self.scratch.holds_nothing_unfinished();
        run
    }

    /// Requires this failure, and that there is no bundle.
    #[track_caller]
    pub fn fails(&self, run: Run, code: i32, kind: &str) -> Run {
        self.scratch.holds_no_finished_bundle();
        run.fails(code, kind)
    }
}

/// A bundle, a registry behind a line, and what should stand there in the end.
pub struct Destination {
    pub scratch: Scratch,
    pub registry: Registry,
    pub proxy: Proxy,
    pub expected: BTreeMap<String, u64>,
}

impl Destination {
    /// With three layers of so many bytes.
    pub fn start(layer: usize) -> Self {
        let scratch = Scratch::with_heavy_release(layer).exported();
        let blobs = Parts::read(&scratch.read("bundle.tar")).0.split_off(5);
        let digest = |path: &str| path.replace("blobs/sha256/", "sha256:");
        let expected = blobs.iter().map(|entry| (digest(&entry.path), entry.content.len() as u64)).collect();
        let registry = Registry::start();
        Destination { scratch, proxy: Proxy::start(&registry.address()), registry, expected }
    }

    /// An empty registry at the same address, and nothing goes wrong.
    pub fn clear(&mut self) {
        self.registry = Registry::start();
        self.proxy.reset().lead_to(&self.registry.address());
    }

    /// Imports into an empty registry with these faults.
    pub fn fresh(&mut self, rules: Vec<Rule>) -> Run {
        self.clear();
        for rule in rules {
            self.proxy.rule(rule);
        }
        self.again()
    }

    fn command(&self) -> String {
        format!("import bundle.tar --to {} --trust trust", self.proxy.host())
    }

    /// Imports with what is left of earlier imports.
    pub fn again(&self) -> Run {
        self.scratch.sealift(&self.command())
    }

    /// The same, while something else happens.
    pub fn running(&self) -> Running {
        Running::start(self.scratch.command(&self.command()))
    }

    /// What is wrong with the registry: each tag leads to all of the image, or does not exist.
    pub fn wrong(&self, may_be_absent: bool) -> Option<String> {
        HEAVY_NAMES.into_iter().find_map(|(repository, tag)| match self.registry.below(repository, tag) {
            Ok(None) if may_be_absent => None,
            Ok(Some(found)) if found == self.expected => None,
            other => Some(format!("{repository}:{tag}: {other:?}")),
        })
    }

    /// Requires that all is there, and nothing else.
    #[track_caller]
    pub fn finishes(&self, run: Run, why: &str) -> Run {
        let run = run.ok();
        assert_eq!(self.wrong(false), None, "{why}\n{run}");
        assert_eq!(self.registry.blobs(), self.expected.len(), "{why}: nothing else is there");
        run
    }

    /// Requires this failure of the destination, and that there is no tag.
    #[track_caller]
    pub fn fails(&self, run: Run, kind: &str) -> Run {
        for (repository, tag) in HEAVY_NAMES {
            assert_eq!(self.registry.below(repository, tag), Ok(None), "{run}");
        }
        run.fails(1, kind).says("destination: ")
    }
}
