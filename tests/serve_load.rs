//! A registry that many pull from at the same time: each gets what it asked for, and the server's memory stays
//! small. No clock is looked at.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};

use rustls::pki_types::pem::PemObject;
use support::parts::Parts;
use support::serving::Serving;
use support::{EXPORT, Scratch};

/// Clients at once.
const CLIENTS: usize = 256;

/// Bytes of a layer: more than what the kernel takes for a client that does not read yet.
const LAYER: usize = 4_000_000;

/// The most memory that the server may ever have had.
const MEMORY: u64 = 64 << 20;

/// Both forms of a bundle with large layers.
fn exported() -> Scratch {
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    scratch.sealift(&EXPORT.replace("bundle.tar", "bundle.tar.zst")).ok();
    scratch
}

trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

fn plain(registry: &Serving) -> Box<dyn Line> {
    Box::new(TcpStream::connect(&registry.address).unwrap())
}

/// TLS, by the authority that the registry has printed.
fn secured(registry: &Serving) -> Box<dyn Line> {
    let authority = &registry.said.as_bytes()[registry.said.find("-----BEGIN").unwrap()..];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let name = "127.0.0.1".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    Box::new(rustls::StreamOwned::new(client, TcpStream::connect(&registry.address).unwrap()))
}

/// How a client connects.
type Connect = fn(&Serving) -> Box<dyn Line>;

/// Reads the head of an answer, and no byte more.
fn head(line: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        line.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Pulls every layer by many clients at once. All have their answer's head before anybody reads on, so the
/// server has as many answers under way as there are clients.
fn pulled_by_all(registry: &Serving, parts: &Parts, more: &str, connect: Connect) {
    let layers: Vec<_> = parts.0.iter().filter(|entry| entry.content.len() > LAYER).collect();
    assert!(layers.len() > 2, "they are to be pulled from several places");
    let all_asked = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (all_asked, layer) = (&all_asked, layers[number % layers.len()]);
            scope.spawn(move || {
                let digest = layer.path.replace("blobs/sha256/", "sha256:");
                let mut line = BufReader::new(connect(registry));
                let request = format!(
                    "GET /v2/tools/tool/blobs/{digest} HTTP/1.1\r\nHost: x\r\n{more}Connection: close\r\n\r\n"
                );
                line.get_mut().write_all(request.as_bytes()).unwrap();
                let head = head(&mut line);
                all_asked.wait();
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                let mut piece = vec![0; 64 << 10];
                for expected in layer.content.chunks(piece.len()) {
                    let got = &mut piece[..expected.len()];
                    line.read_exact(got).unwrap();
                    assert!(got == expected, "{digest}");
                }
            });
        }
    });
}

/// The most memory that a process has had, as the kernel counts it.
fn peak(registry: &Serving) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", registry.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn hundreds_pull_at_once_and_memory_stays_small() {
    let scratch = exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let ways: [(&str, &str, Connect); 5] = [
        ("bundle.tar", "", plain),
        // An announcement that is left to the other hand (src/server/plain.rs).
        ("bundle.tar", "TE: trailers\r\n", plain),
        ("bundle.tar --self-signed", "", secured),
        ("bundle.tar.zst", "", plain),
        ("bundle.tar.zst --head-first", "TE: trailers\r\n", plain),
    ];
    for (way, more, connect) in ways {
        let registry = Serving::start(&scratch, &format!("{way} --trust trust"));
        pulled_by_all(&registry, &parts, more, connect);
        let peak = peak(&registry);
        eprintln!("{way} {more:?}: {} MiB", peak >> 20);
        assert!(peak < MEMORY, "{way} {more:?}: {peak} bytes");
    }
}

#[test]
fn clients_that_do_not_read_hold_nobody_up() {
    let scratch = exported();
    let parts = Parts::read(&scratch.read("bundle.tar"));
    let layer = parts.0.iter().find(|entry| entry.content.len() > LAYER).unwrap();
    let path = format!("/v2/tools/tool/blobs/{}", layer.path.replace("blobs/sha256/", "sha256:"));
    for way in ["bundle.tar", "bundle.tar.zst"] {
        let registry = Serving::start(&scratch, &format!("{way} --trust trust"));
        let asked: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut stream = TcpStream::connect(&registry.address).unwrap();
                stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
                assert!(head(&mut stream).starts_with("HTTP/1.1 200 "));
                stream
            })
            .collect();
        assert_eq!(registry.get(&path).body, layer.content, "{way}");
        drop(asked);
    }
}
