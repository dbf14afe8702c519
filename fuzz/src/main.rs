//! The fuzz targets of sealift, one program for all: `SEALIFT_FUZZ` names the target. `run` builds and starts
//! it. Each target feeds bytes to one thing that reads what it does not trust, and asks more of it than not to
//! panic: what was accepted is written again, read by other means, and compared.
#![no_main]

mod archive;
mod bundle;
mod documents;
mod evidence;
mod keys;
mod made;
mod make;
mod network;
mod seeds;
mod words;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

/// By name; each has seeds in `corpus/NAME`.
const TARGETS: [(&str, Target); 14] = [
    ("archive", archive::archive),
    ("challenge", network::challenge),
    ("documents", documents::documents),
    ("evidence", evidence::evidence),
    ("frames", bundle::frames),
    ("head", made::head),
    ("keys", keys::keys),
    ("made", made::made),
    ("manifest", words::manifest),
    ("names", words::names),
    ("statement", bundle::statement),
    ("sums", bundle::sums),
    ("tar", bundle::tar),
    ("text", words::text),
];

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("SEALIFT_FUZZ").expect("SEALIFT_FUZZ names a target");
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no target {name}")).1
});

fuzz_target!(
    init: {
        if let Some(directory) = std::env::var_os("SEALIFT_FUZZ_SEEDS") {
            seeds::write(directory.as_ref());
            std::process::exit(0);
        }
    },
    |bytes: &[u8]| CHOSEN(bytes)
);
