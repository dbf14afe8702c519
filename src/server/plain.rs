//! The short way of reading over plain HTTP/1.1: requests without a body are read and answered
//! here, and stretches of files are sent by the kernel (sendfile(2)). Where 64 pull at once that takes less than
//! half of the processor time of the way by hyper: 0.21 s for a gigabyte instead of 0.49 s (medians of 3 on
//! loopback, the same release build, the other way asked for by `TE: trailers`). Everything that has a body, or
//! asks for anything special, goes on by hyper, with the bytes that were read already.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Request;
use super::answer::{Answer, Body};
use super::listen::{Line, Way, by_hyper};
use crate::content::file::ReadAt;
use crate::content::{Extent, Unverified, file};
use crate::limits;

/// Bytes given to the kernel at once.
const STRETCH: usize = 1 << 20;

/// Bytes for which one reader has its turn where there are turns: a frame's.
const BURST: u64 = 8 << 20;

/// Headers of one request.
const HEADERS: usize = 64;

/// What the beginning of a connection turned out to be.
enum Head {
    /// A request that is answered here, and how many bytes its head has.
    Short(Box<Request>, usize, bool),
    /// More has to be read first.
    Partial,
    /// Something for hyper.
    Other,
}

/// Serves a connection until it ends.
pub async fn converse(mut stream: TcpStream, peer: SocketAddr, way: Way) {
    let mut buffer = BytesMut::with_capacity(4 << 10);
    let mut closing = way.closing.clone();
    loop {
        let head = tokio::select! {
            head = read_head(&mut stream, &mut buffer, &way) => head,
            // Nobody is waiting for an answer here.
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let (request, last) = match head {
            Some(Head::Short(request, length, last)) => {
                buffer.advance(length);
                (request, last)
            }
            Some(_) => return by_hyper(Resumed { beginning: buffer, stream }, peer, false, way).await,
            None => return,
        };
        let last = last || *closing.borrow();
        if answer(&mut stream, *request, peer, &way, last).await.is_err() || last {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Reads a request's head. `None` where the client went away, or took too long.
async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut, way: &Way) -> Option<Head> {
    let mut patience = way.limits.idle;
    loop {
        match understand(buffer) {
            Head::Partial if buffer.len() >= limits::REQUEST_HEAD => return Some(Head::Other),
            Head::Partial => {}
            head => return Some(head),
        }
        let (began, idle) = (Instant::now(), buffer.is_empty());
        match timeout(patience, stream.read_buf(buffer)).await {
            Ok(Ok(count)) if count > 0 => {}
            _ => return None,
        }
        // Once it has begun, a head has to come soon, however slowly its bytes drip.
        patience = match idle {
            true => way.limits.head,
            false => patience.min(way.limits.head).saturating_sub(began.elapsed()),
        };
    }
}

fn understand(buffer: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Head::Partial,
        Err(_) => return Head::Other,
    };
    short(&request).map_or(Head::Other, |(request, last)| Head::Short(Box::new(request), length, last))
}

/// A request that has no body and wants nothing special.
fn short(parsed: &httparse::Request<'_, '_>) -> Option<(Request, bool)> {
    let method = match parsed.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    if parsed.version != Some(1) || !parsed.path?.starts_with('/') {
        return None;
    }
    let mut headers = HeaderMap::new();
    let mut last = false;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(header.value).ok()?;
        match name.as_str() {
            // Where a body might follow, where the head ends is for hyper to say.
            "content-length" | "transfer-encoding" | "expect" | "upgrade" | "te" | "trailer" => return None,
            "connection" => match value.to_str().ok()?.to_ascii_lowercase().as_str() {
                "close" => last = true,
                "keep-alive" => {}
                _ => return None,
            },
            _ => {}
        }
        headers.append(name, value);
    }
    let target = parsed.path?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let body = Unverified::of_bytes("a request", bytes::Bytes::new());
    Some((Request { method, path, query, headers, body, secure: false }, last))
}

async fn answer(
    stream: &mut TcpStream,
    request: Request,
    peer: SocketAddr,
    way: &Way,
    last: bool,
) -> io::Result<()> {
    let began = Instant::now();
    let method = request.method.to_string();
    let target = match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    let agent = request.header(http::header::USER_AGENT).unwrap_or_default().to_owned();
    let answer = way.server.answer(request).await;
    let (status, bytes) = (answer.status.as_u16(), answer.body.length());
    let sent = send(stream, answer, way, last).await;
    (way.log)(Line { peer, method, target, status, bytes, took: began.elapsed(), agent });
    sent
}

async fn send(stream: &mut TcpStream, answer: Answer, way: &Way, last: bool) -> io::Result<()> {
    let mut head = head_of(&answer, last);
    match answer.body {
        Body::Bytes(bytes) => {
            head.extend_from_slice(&bytes);
            written(stream, &head, way).await
        }
        Body::Stretch(extent) => {
            written(stream, &head, way).await?;
            match extent.file.clone() {
                Some(file) => by_kernel(stream, &file, &extent, way).await,
                None => by_hand(stream, &extent, way).await,
            }
        }
    }
}

fn head_of(answer: &Answer, last: bool) -> Vec<u8> {
    let status: StatusCode = answer.status;
    let mut head =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in &answer.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    // RFC 9110 §8.6: none where there is no content by definition.
    if !answer.headers.contains_key(CONTENT_LENGTH) && status != StatusCode::NO_CONTENT {
        head.extend_from_slice(format!("content-length: {}\r\n", answer.body.length()).as_bytes());
    }
    let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    head.extend_from_slice(format!("date: {now}\r\n").as_bytes());
    if last {
        head.extend_from_slice(b"connection: close\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

async fn written(stream: &mut TcpStream, bytes: &[u8], way: &Way) -> io::Result<()> {
    timeout(way.limits.idle, stream.write_all(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Whether a byte of a file is there without waiting for a disk, and with it most likely what stands before it:
/// files are read ahead from front to back.
///
/// A disk may take long, and a broken one minutes; then this thread's other connections have to be moved to
/// another thread (`block_in_place`), which costs more than sending what is in memory.
fn in_memory(file: &File, at: u64) -> bool {
    file.read_now(&mut [0], at) == 1
}

async fn writable(stream: &TcpStream, way: &Way) -> io::Result<()> {
    timeout(way.limits.idle, stream.writable()).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// The kernel sends a stretch of the file.
async fn by_kernel(stream: &TcpStream, file: &File, extent: &Extent, way: &Way) -> io::Result<()> {
    let mut offset = extent.offset;
    let end = extent.offset.saturating_add(extent.size);
    while offset < end {
        writable(stream, way).await?;
        let count = usize::try_from(end - offset).unwrap_or(STRETCH).min(STRETCH);
        let waits = !(in_memory(file, offset) && in_memory(file, offset.saturating_add(count as u64 - 1)));
        let mut send = || {
            stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(stream, file, Some(&mut offset), count)?)
            })
        };
        let sent = if waits { tokio::task::block_in_place(send) } else { send() };
        match sent {
            // The file became shorter: what was promised cannot be sent.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// What does not lie in a file as it is. Whoever has a turn at reading uses it for as much as the socket takes
/// at once: frames are unpacked as a whole, and would be unpacked for each little piece again.
async fn by_hand(stream: &TcpStream, extent: &Extent, way: &Way) -> io::Result<()> {
    let mut done = 0;
    while done < extent.size {
        writable(stream, way).await?;
        let _turn = file::turn(&*extent.medium).await;
        done += tokio::task::block_in_place(|| burst(stream, extent, done))?;
    }
    Ok(())
}

/// Writes until the socket takes no more, or others should have their turn; how much that was.
fn burst(stream: &TcpStream, extent: &Extent, from: u64) -> io::Result<u64> {
    let mut buffer = vec![0; file::PIECE];
    let mut given = 0;
    while from + given < extent.size && given < BURST {
        let want = (extent.size - from - given).min(file::PIECE as u64) as usize;
        let piece = buffer.get_mut(..want).unwrap_or_default();
        if file::read_at_most(&*extent.medium, piece, extent.offset + from + given)? < want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match stream.try_write(piece) {
            Ok(count) => given += count as u64,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(given)
}

/// A connection of which some bytes were read already.
struct Resumed {
    beginning: BytesMut,
    stream: TcpStream,
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.beginning.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.beginning.len().min(buffer.remaining());
        let piece = self.beginning.split_to(count);
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
