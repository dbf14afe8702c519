//! A registry served by sealift while a test runs, and requests to it, byte by byte.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::Scratch;

/// A running `sealift serve`; ended when dropped.
pub struct Serving {
    child: Child,
    /// `host:port`.
    pub address: String,
    /// What it said before it was ready.
    pub said: String,
}

impl Serving {
    /// `sealift serve …` on a free port.
    #[track_caller]
    pub fn start(scratch: &Scratch, arguments: &str) -> Self {
        Serving::of(scratch.command(&format!("serve {arguments} --listen 127.0.0.1:0")))
    }

    /// Starts a prepared command.
    #[track_caller]
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut serving = Serving { child, address: String::new(), said: String::new() };
        while serving.address.is_empty() {
            let line = receive.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|e| panic!("not ready: {e}\n{}", serving.said));
            match line.strip_prefix("serving at ") {
                Some(place) => serving.address = place.split_once("://").unwrap().1.to_owned(),
                None => serving.said += &format!("{line}\n"),
            }
        }
        serving
    }

    /// Asks for something.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut connection = self.connect();
        connection.send(method, path, headers);
        connection.reply(method == "HEAD")
    }

    /// Gets something.
    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[])
    }

    /// Sends something.
    pub fn put(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut connection = self.connect();
        let length = body.len().to_string();
        let headers = [headers, &[("Content-Length", length.as_str())]].concat();
        connection.send(method, path, &headers);
        connection.raw(body);
        connection.reply(false)
    }

    /// A connection for several requests.
    pub fn connect(&self) -> Connection {
        Connection::to(&self.address)
    }

    /// `kill -9`. It is gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, and waits for the end; its exit code.
    pub fn ended_by(mut self, signal: &str) -> i32 {
        let _ = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A connection to a registry.
pub struct Connection {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// To a server that may be gone.
    pub fn try_to(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Some(Connection { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    /// To whatever listens at `host:port`.
    pub fn to(address: &str) -> Self {
        Connection::try_to(address).unwrap()
    }

    /// Sends a request without a body.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        self.try_send(method, path, headers).expect("a server that takes requests");
    }

    /// The same where the server may be gone.
    pub fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<()> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        self.try_raw(format!("{text}\r\n").as_bytes())
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.try_raw(bytes).expect("a server that takes bytes");
    }

    /// The same where the server may be gone.
    pub fn try_raw(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.get_mut().write_all(bytes).ok()
    }

    /// Reads an answer; one to HEAD has no body.
    #[track_caller]
    pub fn reply(&mut self, head: bool) -> Reply {
        self.try_reply(head).expect("an answer")
    }

    /// The same where the server may rather close the connection.
    pub fn try_reply(&mut self, head: bool) -> Option<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            // Cut off within the head, it is no answer.
            self.stream.read_line(&mut line).ok().filter(|_| line.ends_with('\n'))?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim_start().to_owned());
        }
        let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; if head { 0 } else { length }];
        let whole = self.stream.read_exact(&mut body).is_ok();
        Some(Reply { status, headers, body, whole })
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether as many bytes came as were promised.
    pub whole: bool,
}

impl Reply {
    /// A header's value.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the first error in the body.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}
