//! Servers while the benchmark runs, what they cost, and a docker-registry and what is in it.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Result;
use super::set::{Set, TAG};

/// The argument that makes this program become another one, which ends with its parent.
pub const SERVER: &str = "--serve";

/// Linux reports processor time in hundredths of a second, whatever the kernel's own clock is.
const TICKS: f64 = 100.0;

/// How long a registry may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server and the processes that it has started; ended when dropped.
pub struct Running(Child);

impl Running {
    /// Starts a program that ends with this one, however this one ends.
    pub fn start(prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SERVER).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        prepare(&mut command);
        Ok(Running(command.spawn()?))
    }

    /// What it writes, where that was asked for: to standard output, and to standard error.
    pub fn says(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.0.stdout.take(), self.0.stderr.take())
    }

    /// Seconds that it has spent on the processor.
    pub fn cpu(&self) -> f64 {
        let ticks = |id: &u32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // Behind the program's name, which may have spaces: utime and stime are fields 14 and 15 of all.
            let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        };
        self.family().iter().map(ticks).sum::<f64>() / TICKS
    }

    /// The most bytes that it had in memory since [`Running::forget_peak`]. What several processes share
    /// counts for each of them.
    pub fn peak(&self) -> u64 {
        let kibibytes = |id: &u32| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default()
        };
        self.family().iter().map(kibibytes).sum::<u64>() * 1024
    }

    /// Lets [`Running::peak`] begin anew (proc(5), `clear_refs`).
    pub fn forget_peak(&self) -> Result<()> {
        for id in self.family() {
            fs::write(format!("/proc/{id}/clear_refs"), "5")?;
        }
        Ok(())
    }

    fn family(&self) -> Vec<u32> {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        [id].into_iter().chain(children.split_whitespace().filter_map(|id| id.parse().ok())).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not killed: it has to end the processes that it has started.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// A docker-registry on a port of its own.
pub struct Server {
    running: Running,
    directory: PathBuf,
    port: u16,
}

impl Server {
    /// Starts one without content, with its files in `directory`.
    pub fn start(directory: &Path) -> Result<Self> {
        super::emptied(directory)?;
        let config = directory.join("config.yml");
        fs::create_dir(directory.join("data"))?;
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            directory.join("data").display()
        );
        fs::write(&config, text)?;
        let mut running = Running::start(|command| {
            command.args(["docker-registry", "serve"]).arg(&config).env("OTEL_TRACES_EXPORTER", "none");
            command.stderr(Stdio::piped());
        })?;
        let log = running.says().1.ok_or("docker-registry has no log")?;
        let port = listening(log, "listening on 127.0.0.1:")?;
        Ok(Server { running, directory: directory.to_owned(), port })
    }

    /// The process.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its files.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Whether every image of the set is here in full, under its name. Looks at the disk: no answer of
    /// a server that is merely polite.
    pub fn has(&self, set: &Set) -> std::result::Result<(), String> {
        let root = self.data().join("docker/registry/v2");
        for image in &set.images {
            let repository = root.join("repositories").join(&image.repository);
            let tag = repository.join(format!("_manifests/tags/{TAG}/current/link"));
            let leads = fs::read_to_string(&tag).unwrap_or_default();
            if leads != format!("sha256:{}", image.top()) {
                return Err(format!("{}:{TAG} leads to {leads:?}", image.repository));
            }
            let documents =
                image.documents.iter().map(|(hex, _)| format!("_manifests/revisions/sha256/{hex}"));
            let blobs = image.blobs.iter().map(|hex| format!("_layers/sha256/{hex}"));
            for part in documents.chain(blobs) {
                if !repository.join(&part).join("link").is_file() {
                    return Err(format!("{} lacks {part}", image.repository));
                }
            }
        }
        for (hex, size) in &set.sizes {
            let file =
                root.join("blobs/sha256").join(hex.get(..2).unwrap_or_default()).join(hex).join("data");
            let there = fs::metadata(&file).map(|facts| facts.len()).ok();
            if there != Some(*size) {
                return Err(format!("the blob {hex} is not in the registry as it was"));
            }
        }
        Ok(())
    }
}

/// The port that a server names behind `mark`.
pub fn listening(log: impl Read + Send + 'static, mark: &str) -> Result<u16> {
    let (send, lines) = mpsc::channel();
    // Reads on after the port is known: the registry must never wait for its log to be read.
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(std::result::Result::ok) {
            let _ = send.send(line);
        }
    });
    let (until, mut last) = (Instant::now() + PATIENCE, String::new());
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if let Some(port) = port(&line, mark) {
            return Ok(port);
        }
        last = line;
    }
    Err(format!("a server does not listen: {last}").into())
}

fn port(line: &str, mark: &str) -> Option<u16> {
    let (_, rest) = line.split_once(mark)?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// Becomes the program that the arguments name.
pub fn become_server(mut arguments: impl Iterator<Item = OsString>) -> Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    Err(Command::new(arguments.next().ok_or("no program")?).args(arguments).exec().into())
}
