//! A registry that lies: an HTTP/1.1 server on a free loopback port whose every answer is scripted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn authorization(&self) -> &str {
        self.header("authorization").unwrap_or_default()
    }
}

/// How the body goes.
#[derive(Clone, Debug)]
enum Body {
    Whole(Vec<u8>),
    /// Some bytes, then nothing, while the connection stays open.
    Stall(Vec<u8>),
    /// Not even a head, while the connection stays open.
    Silence,
    /// Chunked, for as long as somebody reads.
    Endless,
    /// A byte at a time, with a pause before each.
    Drip(Vec<u8>, Duration),
    /// These bytes instead of an answer, whatever they are.
    Raw(Vec<u8>),
    /// These bytes again and again instead of an answer, for as long as somebody reads.
    Flood(Vec<u8>),
}

/// What the server says.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Body::Whole(Vec::new()) }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Whole(body.as_ref().to_vec());
        self
    }

    pub fn stalling(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Stall(body.as_ref().to_vec());
        self
    }

    pub fn silent(mut self) -> Self {
        self.body = Body::Silence;
        self
    }

    pub fn endless(mut self) -> Self {
        self.body = Body::Endless;
        self
    }

    pub fn dripping(mut self, body: impl AsRef<[u8]>, pause: Duration) -> Self {
        self.body = Body::Drip(body.as_ref().to_vec(), pause);
        self
    }

    /// No HTTP at all, or what looks like it.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Answer { body: Body::Raw(bytes.as_ref().to_vec()), ..Answer::new(0) }
    }

    /// The same without end.
    pub fn flood(bytes: impl AsRef<[u8]>) -> Self {
        Answer { body: Body::Flood(bytes.as_ref().to_vec()), ..Answer::new(0) }
    }

    fn write(&self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<()> {
        match &self.body {
            Body::Raw(bytes) => return stream.write_all(bytes),
            Body::Flood(bytes) => loop {
                stream.write_all(bytes)?;
            },
            _ => {}
        }
        if matches!(self.body, Body::Silence) {
            // Until the client gives up.
            return stream.read(&mut [0]).map(drop);
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        match &self.body {
            Body::Whole(body) | Body::Drip(body, _) if !has_length => {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()))
            }
            Body::Endless => head.push_str("Transfer-Encoding: chunked\r\n"),
            _ => {}
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        match &self.body {
            _ if head_only => Ok(()),
            Body::Silence => Ok(()),
            Body::Whole(body) => stream.write_all(body),
            Body::Stall(body) => {
                stream.write_all(body)?;
                // Until the client gives up.
                stream.read(&mut [0]).map(drop)
            }
            Body::Drip(body, pause) => {
                let (_open, never) = std::sync::mpsc::channel::<()>();
                for byte in body {
                    let _ = never.recv_timeout(*pause);
                    stream.write_all(&[*byte])?;
                }
                Ok(())
            }
            Body::Raw(_) | Body::Flood(_) => Ok(()),
            Body::Endless => loop {
                stream.write_all(b"1000\r\n")?;
                stream.write_all(&[b' '; 0x1000])?;
                stream.write_all(b"\r\n")?;
            },
        }
    }
}

/// A running server; it ends with the test's process.
pub struct Lying {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Lying {
    /// Answers each request with what `script` says; the number counts requests from 0.
    pub fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Lying::serve(true, script)
    }

    /// Answers without reading the request's body.
    pub fn rash(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Lying::serve(false, script)
    }

    fn serve(listens: bool, script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (script.clone(), log.clone());
                std::thread::spawn(move || drop(converse(stream, listens, &*script, &log)));
            }
        });
        Lying { address, seen }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// All that was asked so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests had a path with this in it.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|request| request.path.contains(part)).count()
    }
}

fn converse(
    stream: TcpStream,
    listens: bool,
    script: &(dyn Fn(&Request, usize) -> Answer + Send + Sync),
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let Ok(mut request) = read_head(&mut reader) else {
        // Not HTTP, TLS for example: real servers complain in clear text.
        return (&stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    };
    // A connection that was made and not needed: nothing was asked.
    if request.method.is_empty() {
        return Ok(());
    }
    let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut truncated = false;
    if listens {
        let mut body = Vec::new();
        truncated = reader.take(length).read_to_end(&mut body)? as u64 != length;
        request.body = body;
    }
    let number = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let mut stream = stream;
    if !truncated {
        script(&request, number).write(&mut stream, request.method == "HEAD")?;
    }
    // Closing with unread input would reset the connection before the answer arrives.
    stream.shutdown(std::net::Shutdown::Write)?;
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let first = lines.first().cloned().unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let header = |line: &String| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
    Ok(Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers: lines.iter().skip(1).filter_map(header).collect(),
        body: Vec::new(),
    })
}
