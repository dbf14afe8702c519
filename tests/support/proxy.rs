//! A bad line: an HTTP/1.1 proxy on a free loopback port, in front of a real registry, that counts what
//! goes through it and does to it what it was told to do. One request per connection.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Bytes that are passed on at once: small, so that moments can be chosen by traffic.
const PIECE: usize = 8 << 10;

/// What happens to a request. Where there is a number it is a byte of the body (the answer's for GET, the
/// request's for the others), and bodies that do not have this byte pass unharmed.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection is reset in front of this byte.
    Reset(u64),
    /// The connection is closed in front of this byte, as if that were the end.
    Truncate(u64),
    /// Nothing more comes, while the connection stays open until the client gives up.
    Stall(u64),
    /// One bit of this byte is another one.
    Flip(u64),
    /// So many bytes a second.
    Throttle(u64),
    /// The proxy answers itself, with this status and `Retry-After`.
    Refuse(u16, Option<u32>),
    /// The server does not hear what range was asked for.
    IgnoreRange,
    /// `Content-Range` names another range than the one that comes.
    LieAboutRange,
    /// The server gets the request and acts on it, and the client never hears of it.
    LoseAnswer,
}

impl Fault {
    /// The byte of a body that it needs.
    fn byte(self) -> Option<u64> {
        match self {
            Fault::Reset(byte) | Fault::Truncate(byte) | Fault::Stall(byte) | Fault::Flip(byte) => Some(byte),
            Fault::Throttle(_) => Some(0),
            _ => None,
        }
    }

    /// The byte in front of which the body ends.
    fn end(self) -> Option<u64> {
        match self {
            Fault::Reset(byte) | Fault::Truncate(byte) | Fault::Stall(byte) => Some(byte),
            _ => None,
        }
    }
}

/// Which requests a fault happens to: all with these methods and this in their path, unless narrowed.
pub struct Rule {
    methods: &'static str,
    part: String,
    fault: Fault,
    turns: Range<usize>,
    each: bool,
    counts: HashMap<String, usize>,
}

impl Rule {
    /// For each request by one of these methods (`GET`, `PUT|PATCH`) with `part` in its path.
    pub fn new(methods: &'static str, part: &str, fault: Fault) -> Self {
        let counts = HashMap::new();
        Rule { methods, part: part.to_owned(), fault, turns: 0..usize::MAX, each: false, counts }
    }

    /// Only for the first so many of them.
    pub fn first(self, count: usize) -> Self {
        self.only(0..count)
    }

    /// Only for these of them, counted from 0.
    pub fn only(mut self, turns: Range<usize>) -> Self {
        self.turns = turns;
        self
    }

    /// Counts the requests of each path by themselves.
    pub fn each(mut self) -> Self {
        self.each = true;
        self
    }

    /// Whether it is this request's turn. Asked once for each request and body.
    fn applies(&mut self, request: &Seen, length: Option<u64>) -> bool {
        let fits = match (self.fault.byte(), length) {
            (None, None) => true,
            (Some(byte), Some(length)) => byte < length,
            _ => false,
        };
        if !fits
            || !self.methods.split('|').any(|m| m == request.method)
            || !request.path.contains(&self.part)
        {
            return false;
        }
        let path = if self.each { request.path.as_str() } else { "" };
        let count = self.counts.entry(path.to_owned()).or_default();
        *count += 1;
        self.turns.contains(&(*count - 1))
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What it said in `Range`.
    pub range: Option<String>,
}

type Callback = Box<dyn FnOnce() + Send>;

/// What came through.
#[derive(Default)]
struct Traffic {
    down: u64,
    up: u64,
    seen: Vec<Seen>,
    rules: Vec<Rule>,
    at_bytes: Vec<(u64, Callback)>,
    at_requests: Vec<(usize, Callback)>,
}

impl Traffic {
    /// Counts, and calls whoever waits for this. Everything else waits until they have returned.
    fn count(&mut self, down: usize, up: usize) {
        self.down += down as u64;
        self.up += up as u64;
        call(&mut self.at_bytes, self.down + self.up);
    }

    /// A request that came; the faults that need no body.
    fn request(&mut self, request: &Seen) -> Vec<Fault> {
        self.seen.push(request.clone());
        call(&mut self.at_requests, self.seen.len());
        self.faults(request, None)
    }

    fn faults(&mut self, request: &Seen, length: Option<u64>) -> Vec<Fault> {
        self.rules.iter_mut().filter_map(|rule| rule.applies(request, length).then_some(rule.fault)).collect()
    }
}

fn call<N: PartialOrd>(waiting: &mut Vec<(N, Callback)>, now: N) {
    while let Some(number) = waiting.iter().position(|(at, _)| *at <= now) {
        waiting.remove(number).1();
    }
}

/// A running proxy; it ends with the test's process.
pub struct Proxy {
    pub address: SocketAddr,
    line: Line,
}

impl Proxy {
    /// In front of `upstream` (`HOST:PORT`).
    pub fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = Line { upstream: Arc::new(Mutex::new(upstream.to_owned())), traffic: Arc::default() };
        let proxy = Proxy { address, line: line.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let line = line.clone();
                std::thread::spawn(move || drop(line.converse(stream)));
            }
        });
        proxy
    }

    /// From now on in front of another server.
    pub fn lead_to(&self, upstream: &str) {
        *lock(&self.line.upstream) = upstream.to_owned();
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// One more thing that goes wrong.
    pub fn rule(&self, rule: Rule) -> &Self {
        self.traffic().rules.push(rule);
        self
    }

    /// From now on nothing goes wrong, nobody is called, and everything is counted from zero.
    pub fn reset(&self) -> &Self {
        *self.traffic() = Traffic::default();
        self
    }

    /// Calls once that many bytes of bodies went through; no more go through until it has returned.
    pub fn after_bytes(&self, bytes: u64, callback: impl FnOnce() + Send + 'static) {
        self.traffic().at_bytes.push((bytes, Box::new(callback)));
    }

    /// Calls once that many requests came, before the last one of them is passed on.
    pub fn after_requests(&self, requests: usize, callback: impl FnOnce() + Send + 'static) {
        self.traffic().at_requests.push((requests, Box::new(callback)));
    }

    /// Bytes of answers that clients were given.
    pub fn down(&self) -> u64 {
        self.traffic().down
    }

    /// Bytes of requests' bodies that the server was given.
    pub fn up(&self) -> u64 {
        self.traffic().up
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.traffic().seen.clone()
    }

    /// How many requests asked for a range that does not begin at the beginning.
    pub fn ranges(&self) -> usize {
        let inside = |seen: &&Seen| seen.range.as_ref().is_some_and(|range| !range.starts_with("bytes=0-"));
        self.seen().iter().filter(inside).count()
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        lock(&self.line.traffic)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the way of a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Reset,
    Closed,
    Stalled,
}

#[derive(Clone)]
struct Line {
    upstream: Arc<Mutex<String>>,
    traffic: Arc<Mutex<Traffic>>,
}

impl Line {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        lock(&self.traffic)
    }

    fn converse(&self, mut client: TcpStream) -> Result<()> {
        client.set_read_timeout(Some(Duration::from_secs(100)))?;
        client.set_nodelay(true)?;
        // The head's last byte stays unread until the end: a socket that is closed while there is something
        // to read is reset.
        let head = Head::read(&mut client)?;
        let mut words = head.first.split(' ').map(str::to_owned);
        let request = Seen {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            range: head.value("range").map(str::to_owned),
        };
        let faults = self.traffic().request(&request);
        match self.exchange(&mut client, head, &request, &faults)? {
            End::Reset => return Ok(()),
            End::Whole | End::Closed => {
                client.shutdown(Shutdown::Write)?;
            }
            End::Stalled => {}
        }
        // Until the client has gone, too.
        std::io::copy(&mut client, &mut std::io::sink()).map(drop)
    }

    fn exchange(
        &self,
        client: &mut TcpStream,
        mut head: Head,
        request: &Seen,
        faults: &[Fault],
    ) -> Result<End> {
        let length = head.length().unwrap_or(0);
        for fault in faults {
            if let Fault::Refuse(status, wish) = fault {
                // Read, lest the refusal be lost in a reset.
                client.read_exact(&mut [0])?;
                std::io::copy(&mut client.take(length), &mut std::io::sink())?;
                let wish = wish.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 {status} Scripted\r\nConnection: close\r\nContent-Length: 0\r\n{wish}\r\n"
                );
                return client.write_all(answer.as_bytes()).map(|()| End::Whole);
            }
            if matches!(fault, Fault::IgnoreRange) {
                head.lines.retain(|(name, _)| !name.eq_ignore_ascii_case("range"));
            }
        }

        let upstream = lock(&self.upstream).clone();
        let mut server = TcpStream::connect(upstream)?;
        server.set_nodelay(true)?;
        head.write(&mut server)?;
        if length > 0 {
            client.read_exact(&mut [0])?;
            let faults = self.traffic().faults(request, Some(length));
            let end = self.relay(client, &mut server, length, &faults, Traffic::sent)?;
            if end != End::Whole {
                // An upload that breaks, breaks on both sides.
                drop(server);
                return Ok(end);
            }
        }

        let mut server = BufReader::new(server);
        let mut answer = Head::read_buffered(&mut server)?;
        if faults.iter().any(|fault| matches!(fault, Fault::LoseAnswer)) {
            return Ok(End::Reset);
        }
        if faults.iter().any(|fault| matches!(fault, Fault::LieAboutRange)) {
            answer.shift_range();
        }
        answer.write(client)?;
        let asking = request.method == "GET";
        let coming = if request.method == "HEAD" { 0 } else { answer.length().unwrap_or(u64::MAX) };
        let faults = if asking { self.traffic().faults(request, Some(coming)) } else { Vec::new() };
        let end = self.relay(&mut server, client, coming, &faults, Traffic::received)?;
        if end == End::Whole && length == 0 {
            client.read_exact(&mut [0])?;
        }
        Ok(end)
    }

    /// Passes on a body of at most `length` bytes, and what happens to it.
    fn relay(
        &self,
        from: &mut impl Read,
        to: &mut impl Write,
        length: u64,
        faults: &[Fault],
        count: fn(&mut Traffic, usize),
    ) -> Result<End> {
        let mut buffer = [0; PIECE];
        let mut position = 0;
        let end = faults.iter().filter_map(|fault| fault.end()).min().unwrap_or(u64::MAX);
        while position < length.min(end) {
            let want = (length.min(end) - position).min(PIECE as u64) as usize;
            let got = match from.read(&mut buffer[..want]) {
                Ok(0) if length == u64::MAX => return Ok(End::Whole),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(got) => got,
                Err(e) => return Err(e),
            };
            let piece = &mut buffer[..got];
            for fault in faults {
                match *fault {
                    Fault::Flip(byte) if (position..position + got as u64).contains(&byte) => {
                        piece[(byte - position) as usize] ^= 0x10;
                    }
                    Fault::Throttle(rate) => wait(Duration::from_micros(got as u64 * 1_000_000 / rate)),
                    _ => {}
                }
            }
            to.write_all(piece)?;
            position += got as u64;
            count(&mut self.traffic(), got);
        }
        let ended = faults.iter().find(|fault| fault.end() == Some(position));
        Ok(match ended {
            Some(Fault::Reset(_)) => End::Reset,
            Some(Fault::Truncate(_)) => End::Closed,
            Some(Fault::Stall(_)) => End::Stalled,
            _ => End::Whole,
        })
    }
}

impl Traffic {
    fn sent(&mut self, bytes: usize) {
        self.count(0, bytes);
    }

    fn received(&mut self, bytes: usize) {
        self.count(bytes, 0);
    }
}

/// A slow line is slow for the time it takes; nothing else is waited for here.
fn wait(time: Duration) {
    let (_open, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// The head of a request or an answer.
struct Head {
    first: String,
    lines: Vec<(String, String)>,
}

impl Head {
    /// Reads all but the last byte.
    fn read(stream: &mut TcpStream) -> Result<Self> {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r") {
            stream.read_exact(&mut byte)?;
            text.extend_from_slice(&byte);
        }
        Ok(Head::parse(String::from_utf8_lossy(&text).lines().map(str::to_owned)))
    }

    fn read_buffered(reader: &mut impl BufRead) -> Result<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if line.trim_end().is_empty() {
                return Ok(Head::parse(lines.into_iter()));
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    fn parse(mut lines: impl Iterator<Item = String>) -> Self {
        let first = lines.next().unwrap_or_default();
        let header = |line: String| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
        let others = |(name, _): &(String, String)| !name.eq_ignore_ascii_case("connection");
        Head { first, lines: lines.filter_map(header).filter(others).collect() }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn length(&self) -> Option<u64> {
        self.value("content-length")?.parse().ok()
    }

    /// `bytes 5-9/10` becomes `bytes 6-9/10`.
    fn shift_range(&mut self) {
        let line = self.lines.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("content-range"));
        let Some((_, value)) = line else { return };
        let (first, rest) = value.trim_start_matches("bytes ").split_once('-').unwrap();
        *value = format!("bytes {}-{rest}", first.parse::<u64>().unwrap() + 1);
    }

    fn write(&self, to: &mut impl Write) -> Result<()> {
        let mut text = format!("{}\r\nConnection: close\r\n", self.first);
        for (name, value) in &self.lines {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        to.write_all(text.as_bytes())
    }
}
