//! A real registry: CNCF Distribution as Debian packages it (`docker-registry`), on a port of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use super::images::DOCUMENTS;
use super::sha256;

/// A running registry; ended when dropped.
pub struct Registry {
    _directory: TempDir,
    data: PathBuf,
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
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        Registry::serve(directory, data, more)
    }

    /// Starts one that serves what lies in a directory.
    pub fn over(data: &Path) -> Self {
        Registry::serve(tempfile::tempdir().unwrap(), data.to_owned(), "")
    }

    fn serve(directory: TempDir, data: PathBuf, more: &str) -> Self {
        let config = directory.path().join("config.yml");
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
        Registry { _directory: directory, data, process, port }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// An answer's status and body, asked for without any of the program's code.
    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        // All of them: what is not named here it makes something else of, or refuses, whatever `*/*` says.
        let accept = format!("{DOCUMENTS}, */*");
        // HTTP/1.0: no chunks, and the end of the connection is the end of the body.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", self.address());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let status = String::from_utf8_lossy(&answer[..head]).split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_off(head))
    }

    /// All that a tag leads to, read and hashed: sizes by digest, the tag's own digest under its name.
    /// `None` where there is no such tag.
    ///
    /// # Errors
    /// What is missing or wrong below the tag.
    pub fn below(&self, repository: &str, tag: &str) -> Result<Option<BTreeMap<String, u64>>, String> {
        let (status, top) = self.get(&format!("/v2/{repository}/manifests/{tag}"));
        match status {
            200 => {}
            404 => return Ok(None),
            other => return Err(format!("{repository}:{tag}: {other}")),
        }
        let mut found = BTreeMap::new();
        let mut documents = vec![top];
        while let Some(document) = documents.pop() {
            let parsed: Value =
                serde_json::from_slice(&document).map_err(|e| format!("{repository}:{tag}: {e}"))?;
            found.insert(format!("sha256:{}", sha256(&document)), document.len() as u64);
            for (list, kind) in [("manifests", "manifests"), ("layers", "blobs"), ("config", "blobs")] {
                let one = parsed[list].is_object().then(|| &parsed[list]);
                for child in parsed[list].as_array().into_iter().flatten().chain(one) {
                    let digest = child["digest"].as_str().unwrap();
                    let (status, content) = self.get(&format!("/v2/{repository}/{kind}/{digest}"));
                    if status != 200 || format!("sha256:{}", sha256(&content)) != digest {
                        return Err(format!(
                            "{repository}:{tag}: {digest}: {status}, {} bytes",
                            content.len()
                        ));
                    }
                    match kind {
                        "manifests" => documents.push(content),
                        _ => _ = found.insert(digest.to_owned(), content.len() as u64),
                    }
                }
            }
        }
        Ok(Some(found))
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
        self.data.clone()
    }

    /// Whether nothing was ever pushed to it.
    pub fn is_empty(&self) -> bool {
        self.disk().is_empty()
    }

    /// How many blobs and documents it holds, each counted once whatever the repositories; what uploads
    /// that were given up have left does not count.
    pub fn blobs(&self) -> usize {
        let store = self.data().join("docker/registry/v2/blobs");
        self.disk().keys().filter(|path| path.starts_with(&store) && path.ends_with("data")).count()
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
