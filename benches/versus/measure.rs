//! Runs a command and says what it cost.
//!
//! The command is started by a helper, which is this program once more: a process learns of its
//! children's time and memory in sum and for ever, so each command gets a parent of its own.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

use super::Result;

/// The argument that makes this program the helper.
pub const HELPER: &str = "--measured";

/// What a run cost.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds on the processor, user and system, of all processes of the command.
    pub cpu: f64,
    /// Bytes in memory of the largest process of the command.
    pub memory: u64,
    /// Bytes on disk at the worst moment beyond those that stay.
    pub extra_disk: u64,
    /// Seconds on the processor of the registry that was spoken to.
    pub registry_cpu: f64,
}

/// A command to be measured.
pub struct Order<'a> {
    /// For `sh -eu`.
    pub script: &'a str,
    /// Its whole environment.
    pub variables: &'a [(&'static str, String)],
    /// Where it writes what stays.
    pub out: &'a Path,
    /// Where it may write what does not stay.
    pub work: &'a Path,
    /// A directory for what this module notes.
    pub notes: &'a Path,
}

/// Runs a script.
///
/// # Errors
/// The inner one is the script's own failure: the last line that it wrote to standard error.
pub fn run(order: &Order) -> Result<std::result::Result<Cost, String>> {
    let (report, log) = (order.notes.join("cost.json"), order.notes.join("stderr"));
    let ended = AtomicBool::new(false);
    let (status, peak) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(&[order.out, order.work], &ended));
        let status = helper(order, &report, &log);
        ended.store(true, Ordering::Relaxed);
        sampler.thread().unpark();
        (status, sampler.join().unwrap_or_default())
    });
    if !status?.success() {
        return Ok(Err(last_line(&log)));
    }
    let said: Value = serde_json::from_slice(&fs::read(report)?)?;
    let number = |key: &str| said.get(key).and_then(Value::as_f64).ok_or("the helper's report has gaps");
    Ok(Ok(Cost {
        wall: number("wall")?,
        cpu: number("cpu")?,
        memory: number("memory")? as u64,
        extra_disk: peak.saturating_sub(used(order.out)),
        registry_cpu: 0.0,
    }))
}

fn helper(order: &Order, report: &Path, log: &Path) -> std::io::Result<std::process::ExitStatus> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(HELPER).arg(report).args(["sh", "-euc", order.script]);
    command.env_clear().envs(order.variables.iter().map(|(name, value)| (name, value)));
    command.current_dir(order.work);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
    command.status()
}

/// What the helper does.
pub fn help(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<u8> {
    let report = PathBuf::from(arguments.next().ok_or("no report to write")?);
    let mut command = Command::new(arguments.next().ok_or("no command to run")?);
    let began = Instant::now();
    let status = command.args(arguments).status()?;
    let wall = began.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds();
    let cost = json!({
        "wall": wall.as_secs_f64(),
        "cpu": cpu as f64 / 1e6,
        "memory": usage.max_rss() * 1024, // Linux counts kibibytes
    });
    fs::write(report, cost.to_string())?;
    Ok(if status.success() { 0 } else { 1 })
}

/// The most that the places held together, looked at twenty times a second.
fn sample(places: &[&Path], ended: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !ended.load(Ordering::Relaxed) {
        peak = peak.max(places.iter().map(|place| used(place)).sum());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    peak.max(places.iter().map(|place| used(place)).sum())
}

/// Bytes on disk below a directory. What vanishes while it is looked at counts no more.
pub fn used(directory: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(directory).into_iter().flatten();
    let facts = entries.filter_map(|entry| entry.metadata().ok()).filter(|facts| facts.is_file());
    facts.map(|facts| facts.blocks() * 512).sum()
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // Hints and usage texts follow the message in some programs.
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("hint:"));
    lines.next_back().unwrap_or("no word on standard error").trim().to_owned()
}
