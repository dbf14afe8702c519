//! The demo's trip: prints each command, then runs exactly what it printed. Both registries are this
//! program's own, on free ports of this machine; everything lies in a temporary directory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;

use super::{report, run_printed, serve_printed, signals};
use crate::content::file;
use crate::error::{Error, Result};
use crate::verbs::demo::Stage;

/// Runs the trip.
pub fn trip() -> Result<()> {
    // Dropped in the reverse order: the registries end before their stores go.
    let stage = Stage::set()?;
    let mut trip = Trip { stage: &stage, runtime: super::runtime(2)?, interrupted: Arc::default(), steps: 0 };
    trip.listen()?;
    trip.run()
}

struct Trip<'s> {
    stage: &'s Stage,
    /// The registries run beside the commands, which have runtimes of their own.
    runtime: Runtime,
    interrupted: Arc<AtomicBool>,
    steps: usize,
}

impl Trip<'_> {
    fn run(&mut self) -> Result<()> {
        let directory = self.stage.path();
        // So that the commands can be short.
        std::env::set_current_dir(directory)
            .map_err(|e| Error::io("cannot go to", directory.display(), &e))?;
        report::out(&format!("$ cd {}    # removed at the end\n", directory.display()))?;
        let connected = self.connected_side()?;
        let offline = self.offline_side()?;
        self.back(connected, offline)?;
        report::out("\nDone. Nothing is left behind.\n")
    }

    fn connected_side(&mut self) -> Result<SocketAddr> {
        self.step("On the connected side: a registry with a release, three variants × three platforms.")?;
        let registry = self.serve("sealift serve store:connected --writable --listen 127.0.0.1:0")?;
        let done = self.runtime.block_on(self.stage.push(registry))?;
        report::out(&format!("pushed {} blobs, {} tags\n", done.sent, done.tags))?;
        self.step("Make a signing key (a real one gets a passphrase).")?;
        self.command("sealift key new release --no-passphrase")?;
        self.step("Pull everything into one signed bundle.")?;
        self.command(&format!(
            "sealift export release.toml -o demo-engine-2.1.0.tar --key release.key.pem --audit-log audit.jsonl --mirror registry.example.com={registry}"
        ))?;
        Ok(registry)
    }

    fn offline_side(&mut self) -> Result<SocketAddr> {
        self.step("Behind the air gap: the public key came another way. Check the bundle.")?;
        // Stands for the other channel by which a public key reaches this side.
        report::out("$ cp release.pub.pem trust/\n")?;
        self.stage.carry("release.pub.pem")?;
        self.command("sealift verify demo-engine-2.1.0.tar --trust trust --state state")?;
        self.step("Look into it.")?;
        self.command("sealift inspect demo-engine-2.1.0.tar --trust trust --state state")?;
        self.step("Load it into another registry, and remember that (by itself in /var/lib/sealift).")?;
        let registry = self.serve("sealift serve store:offline --writable --listen 127.0.0.1:0")?;
        let import = format!(
            "sealift import demo-engine-2.1.0.tar --to docker://{registry} --trust trust --state state --audit-log site.jsonl"
        );
        self.command(&import)?;
        self.step("Load it again: nothing is sent twice.")?;
        self.command(&import)?;
        self.step("What was done here, by whom, and whether somebody has changed that.")?;
        self.command("sealift audit site.jsonl")?;
        Ok(registry)
    }

    fn back(&mut self, connected: SocketAddr, offline: SocketAddr) -> Result<()> {
        self.step("Pull everything back from there: it is the same bundle, and the same digests.")?;
        self.command(&format!(
            "sealift export release.toml -o again.tar --key release.key.pem --audit-log audit.jsonl --mirror registry.example.com={offline}"
        ))?;
        report::out("$ cmp demo-engine-2.1.0.tar again.tar\n")?;
        self.stage.same("demo-engine-2.1.0.tar", "again.tar")?;
        let names = self.runtime.block_on(self.stage.compare([connected, offline]))?;
        report::compared(&names)?;
        self.go_on()
    }

    fn step(&mut self, what: &str) -> Result<()> {
        self.go_on()?;
        self.steps += 1;
        report::out(&format!("\n# {}. {what}\n", self.steps))
    }

    fn command(&self, command: &str) -> Result<()> {
        report::out(&format!("$ {command}\n"))?;
        run_printed(command)
    }

    /// Begins to serve; the registry's address.
    fn serve(&self, command: &str) -> Result<SocketAddr> {
        report::out(&format!("$ {command} &\n"))?;
        serve_printed(command, &self.runtime)
    }

    /// Hears signals that come between two commands.
    fn listen(&self) -> Result<()> {
        let interrupted = self.interrupted.clone();
        let signalled = self.runtime.block_on(async { signals() })?;
        self.runtime.spawn(async move {
            signalled.await;
            interrupted.store(true, Ordering::Release);
        });
        Ok(())
    }

    fn go_on(&self) -> Result<()> {
        match self.interrupted.load(Ordering::Acquire) {
            true => Err(file::ended()),
            false => Ok(()),
        }
    }
}
