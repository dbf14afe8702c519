//! A docker-registry on a port of its own, and what is in it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Result;
use super::set::{Set, TAG};

/// The argument that makes this program become a server.
pub const SERVER: &str = "--serve";

/// Linux reports processor time in hundredths of a second, whatever the kernel's own clock is.
const TICKS: f64 = 100.0;

/// How long a registry may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running registry; ended when dropped.
pub struct Server {
    process: Child,
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
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SERVER).arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let log = process.stderr.take().ok_or("docker-registry has no log")?;
        // From here on it is ended with this value, also where its log names no port.
        let mut server = Server { process, directory: directory.to_owned(), port: 0 };
        server.port = listening(log)?;
        Ok(server)
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its files.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Seconds that it has spent on the processor.
    pub fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // Behind the program's name, which may have spaces: utime and stime are fields 14 and 15 of all.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
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

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The port that a registry's log names.
fn listening(log: impl Read + Send + 'static) -> Result<u16> {
    let (send, lines) = mpsc::channel();
    // Reads on after the port is known: the registry must never wait for its log to be read.
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(std::result::Result::ok) {
            let _ = send.send(line);
        }
    });
    let (until, mut last) = (Instant::now() + PATIENCE, String::new());
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if let Some(port) = port(&line) {
            return Ok(port);
        }
        last = line;
    }
    Err(format!("docker-registry does not listen: {last}").into())
}

fn port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// Becomes a docker-registry that ends with its parent, however that one ends.
pub fn serve(config: &std::ffi::OsStr) -> Result<u8> {
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal)?;
    Err(Command::new("docker-registry").arg("serve").arg(config).exec().into())
}
