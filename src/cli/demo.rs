//! The demo's trip: prints each command, then runs exactly what it printed.

use std::path::Path;

use super::report;
use crate::error::Result;
use crate::verbs::demo;

/// Where the demo plays.
const DIRECTORY: &str = "sealift-demo";

/// What happens, and the command that does it.
const TRIP: [(&str, &str); 7] = [
    (
        "On the connected side: make a signing key (a real one gets a passphrase).",
        "sealift key new release --dir sealift-demo --no-passphrase",
    ),
    (
        "See what the release consists of; nothing moves yet.",
        "sealift export sealift-demo/release.toml --dry-run",
    ),
    (
        "Pull three variants for three platforms into one signed bundle.",
        "sealift export sealift-demo/release.toml -o sealift-demo/demo-engine-2.1.0.tar --key sealift-demo/release.key.pem",
    ),
    (
        "Behind the air gap: the public key came another way and lies in the trust store. Check the bundle.",
        "sealift verify sealift-demo/demo-engine-2.1.0.tar --trust sealift-demo/trust --state sealift-demo/state",
    ),
    (
        "Load it, and remember that (by itself in /var/lib/sealift). With a registry: --to docker://registry.edge.local:5000.",
        "sealift import sealift-demo/demo-engine-2.1.0.tar --to oci:sealift-demo/offline --trust sealift-demo/trust --state sealift-demo/state",
    ),
    (
        "Load it again: nothing is sent twice.",
        "sealift import sealift-demo/demo-engine-2.1.0.tar --to oci:sealift-demo/offline --trust sealift-demo/trust --state sealift-demo/state",
    ),
    (
        "Look into the bundle.",
        "sealift inspect sealift-demo/demo-engine-2.1.0.tar --trust sealift-demo/trust --state sealift-demo/state",
    ),
];

/// Runs the trip.
pub fn trip(run: impl Fn(&str) -> Result<()>) -> Result<()> {
    let directory = Path::new(DIRECTORY);
    demo::prepare(directory)?;
    report::out(&format!(
        "Made {DIRECTORY}/images (three variants × three platforms) and {DIRECTORY}/release.toml.\n"
    ))?;
    for (number, (what, command)) in TRIP.into_iter().enumerate() {
        report::out(&format!("\n# {}. {what}\n$ {command}\n", number + 1))?;
        run(command)?;
        if number == 0 {
            carry_key(directory)?;
        }
    }
    report::out(&format!("\nDone. Everything is in {DIRECTORY}; the next demo replaces it.\n"))
}

/// Stands for the other channel by which a public key reaches the importing side.
fn carry_key(directory: &Path) -> Result<()> {
    report::out("$ cp sealift-demo/release.pub.pem sealift-demo/trust/\n")?;
    demo::carry(&directory.join("release.pub.pem"), &directory.join("trust/release.pub.pem"))
}
