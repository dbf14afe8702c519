//! A real registry: CNCF Distribution as Debian packages it (`docker-registry`), on a port of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// A running registry; ended when dropped.
pub struct Registry {
    directory: TempDir,
    process: Child,
    port: u16,
}

/// What is on a registry's disk, and when it was last touched.
pub type Disk = BTreeMap<PathBuf, (u64, SystemTime)>;

impl Registry {
    /// Starts one. The system chooses the port; the registry's log names it when it listens.
    pub fn start() -> Self {
        Registry::with("")
    }

    /// Starts one whose configuration ends in these lines, the first of which belong to `http`.
    pub fn with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: '127.0.0.1:0'\n{more}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let port = listening(&mut process);
        Registry { directory, process, port }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Everything below its data directory, directories too: an upload that was begun and given up
    /// leaves its trace in their times.
    pub fn disk(&self) -> Disk {
        let mut disk = Disk::new();
        walk(&self.data(), &mut disk);
        disk
    }

    /// Where its blobs are.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Whether nothing was ever pushed to it.
    pub fn is_empty(&self) -> bool {
        self.disk().is_empty()
    }

    /// How many blobs and documents it holds, each counted once whatever the repositories.
    pub fn blobs(&self) -> usize {
        self.disk().keys().filter(|path| path.ends_with("data")).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listening(process: &mut Child) -> u16 {
    let log = BufReader::new(process.stderr.take().unwrap());
    let (send, receive) = mpsc::channel();
    // Reads on after the port is known: the registry must never wait for its log to be read.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let port = line.split("listening on 127.0.0.1:").nth(1).map(|rest| {
                rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u16>().unwrap()
            });
            if let Some(port) = port {
                let _ = send.send(port);
            }
        }
    });
    receive.recv_timeout(Duration::from_secs(30)).expect("docker-registry listens")
}

fn walk(directory: &Path, disk: &mut Disk) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let facts = entry.metadata().unwrap();
        disk.insert(entry.path(), (if facts.is_file() { facts.len() } else { 0 }, facts.modified().unwrap()));
        if facts.is_dir() {
            walk(&entry.path(), disk);
        }
    }
}
