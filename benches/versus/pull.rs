//! A client that takes content and throws it away: threads that read from sockets, the same for all
//! servers. Content is hashed only where that was asked for, since hashing would be what is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sealift::oci::{Hasher, media};

use super::Result;

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// The longest silence of a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest head of an answer.
const HEAD: usize = 16 << 10;

/// Something to be got.
pub struct Target {
    /// Where it is.
    pub path: String,
    /// What it has to be: the hex digits of its digest.
    pub hex: String,
    /// Its bytes.
    pub size: u64,
}

/// What is to be got, and how.
pub struct Errand<'a> {
    /// `host:port`.
    pub address: &'a str,
    /// All of this…
    pub targets: &'a [Target],
    /// …so many times,
    pub times: usize,
    /// over so many connections, each of which takes what comes next.
    pub connections: usize,
    /// Whether the content is hashed.
    pub hashed: bool,
}

/// Gets everything; how long that took, connecting included.
///
/// # Errors
/// The inner one is the server's fault: an answer that is not what it should be.
pub fn pull(errand: &Errand) -> Result<std::result::Result<Duration, String>> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..errand.connections).map(|_| scope.spawn(|| work(errand, &next))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")).collect()
    });
    let took = began.elapsed();
    for result in results {
        if let Err(failure) = result? {
            return Ok(Err(failure));
        }
    }
    Ok(Ok(took))
}

fn work(errand: &Errand, next: &AtomicUsize) -> std::result::Result<(), String> {
    let mut connection: Option<Connection> = None;
    while let Some(target) = taken(errand, next) {
        let failed = |e| format!("{}: {e}", target.path);
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(errand.address).map_err(failed)?,
        };
        let goes_on = open.get(target, errand).map_err(failed)?;
        connection = goes_on.then_some(open);
    }
    Ok(())
}

fn taken<'a>(errand: &Errand<'a>, next: &AtomicUsize) -> Option<&'a Target> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    let wanted = number < errand.targets.len() * errand.times;
    errand.targets.get(number % errand.targets.len().max(1)).filter(|_| wanted)
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, buffer: vec![0; PIECE] })
    }

    /// Gets something; whether the connection may be used again.
    fn get(&mut self, target: &Target, errand: &Errand) -> std::io::Result<bool> {
        let host = errand.address;
        let accept = media::ACCEPT;
        let request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n", target.path);
        self.stream.write_all(request.as_bytes())?;
        let (length, there) = self.head()?;
        let head = String::from_utf8_lossy(self.buffer.get(..length).unwrap_or_default()).to_lowercase();
        let size = format!("\r\ncontent-length: {}\r\n", target.size);
        if !head.starts_with("http/1.1 200 ") || !head.contains(&size) {
            return Err(std::io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
        }
        self.body(target, length, there, errand.hashed)?;
        Ok(!head.contains("\r\nconnection: close\r\n"))
    }

    /// Reads a head: its bytes, and how many are in the buffer.
    fn head(&mut self) -> std::io::Result<(usize, usize)> {
        let mut there = 0;
        loop {
            let room = self.buffer.get_mut(there..HEAD).unwrap_or_default();
            let count = self.stream.read(room)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            there += count;
            let head = self.buffer.get(..there).unwrap_or_default();
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok((end + 4, there));
            }
        }
    }

    fn body(&mut self, target: &Target, from: usize, there: usize, hashed: bool) -> std::io::Result<()> {
        let mut hasher = Hasher::default();
        let mut left = target.size;
        let mut range = from..there;
        loop {
            let piece = self.buffer.get(range).unwrap_or_default();
            if hashed {
                hasher.update(piece);
            }
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| std::io::Error::other("too much"))?;
            if left == 0 {
                break;
            }
            match self.stream.read(&mut self.buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => range = 0..count,
            }
        }
        match hashed && hasher.finish().hex() != target.hex {
            true => Err(std::io::Error::other("other content")),
            false => Ok(()),
        }
    }
}
