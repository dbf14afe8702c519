//! A docker-registry on a port of its own, and what is in it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Result;
use super::set::{Set, TAG};

/// The argument that makes this program become a server.
pub const SERVER: &str = "--serve";

/// Linux reports processor time in hundredths of a second, whatever the kernel's own clock is.
const TICKS: f64 = 100.0;

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
        let (config, log) = (directory.join("config.yml"), directory.join("log"));
        fs::create_dir(directory.join("data"))?;
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            directory.join("data").display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SERVER).arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let process = command.spawn()?;
        // From here on it is ended with this value, also where its log names no port.
        let mut server = Server { process, directory: directory.to_owned(), port: 0 };
        server.port = server.listening(&log)?;
        Ok(server)
    }

    fn listening(&mut self, log: &Path) -> Result<u16> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) && self.process.try_wait()?.is_none() {
            let text = fs::read_to_string(log)?;
            let port = text.split("listening on 127.0.0.1:").nth(1);
            let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
            if let Some(port) = port.and_then(|rest| digits(rest).parse().ok()) {
                return Ok(port);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = fs::read_to_string(log).unwrap_or_default();
        Err(format!("docker-registry does not listen: {}", text.lines().next_back().unwrap_or_default())
            .into())
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

/// Becomes a docker-registry that ends with its parent, however that one ends.
pub fn serve(config: &std::ffi::OsStr) -> Result<u8> {
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal)?;
    Err(Command::new("docker-registry").arg("serve").arg(config).exec().into())
}
