//! A command while it runs, so that something can happen to it.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Run;

/// A running command.
pub struct Running {
    child: Arc<Mutex<Child>>,
    shown: String,
    output: JoinHandle<Vec<u8>>,
    errors: JoinHandle<Vec<u8>>,
}

/// Somebody's hand on a running command. Harmless once the command has ended.
#[derive(Clone)]
pub struct Hand(Arc<Mutex<Child>>);

impl Hand {
    /// `kill -9`. The command is gone, or about to go, when this returns.
    pub fn kill(&self) {
        let _ = lock(&self.0).kill();
    }

    /// The process's number, while it is not reaped.
    pub fn id(&self) -> u32 {
        lock(&self.0).id()
    }

    /// Any other signal, by its name.
    pub fn signal(&self, name: &str) {
        let mut child = lock(&self.0);
        // Not reaped yet, so the number is still its own.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
        }
    }
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let words = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
        let shown = std::iter::once("sealift".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = read(child.stdout.take().unwrap());
        let errors = read(child.stderr.take().unwrap());
        Running { child: Arc::new(Mutex::new(child)), shown, output, errors }
    }

    /// A hand on it.
    pub fn hand(&self) -> Hand {
        Hand(self.child.clone())
    }

    /// How it ended; the code is -1 where a signal ended it.
    pub fn ended(self) -> Run {
        // Both pipes end when the process does: only then is the lock held for waiting.
        let (stdout, stderr) = (self.output.join().unwrap(), self.errors.join().unwrap());
        let status = lock(&self.child).wait().unwrap();
        Run::of(self.shown.clone(), Output { status, stdout, stderr })
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        text
    })
}

/// Looks again and again until something is so.
#[track_caller]
pub fn until(mut so: impl FnMut() -> bool) {
    let (_open, never) = mpsc::channel::<()>();
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain");
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}

/// Bytes of the program as it is released, of which all may be in memory. A program that is built for the tests is
/// seven times as large: what is read of it beyond this is not what is promised about.
const PROGRAM: u64 = 12 << 20;

/// How long a command took, and its peak memory in bytes as the kernel counts it.
pub fn watched(mut command: Command) -> (Duration, u64) {
    let began = Instant::now();
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", process.id());
    let mut stderr = process.stderr.take().unwrap();
    let (send, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = String::new();
        let _ = stderr.read_to_string(&mut said);
        let _ = send.send(said);
    });
    let mut peak = 0;
    let said = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
        };
        let excess = bytes("RssFile:").saturating_sub(PROGRAM);
        peak = peak.max(bytes("VmHWM:").saturating_sub(excess));
        if let Ok(said) = ended.recv_timeout(Duration::from_millis(2)) {
            break said;
        }
    };
    assert!(process.wait().unwrap().success(), "{said}");
    (began.elapsed(), peak)
}
