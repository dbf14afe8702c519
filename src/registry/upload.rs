//! A streamed body: sent once, at the pace of the slower side, from memory that does not grow with it.
//!
//! Two sides can fail here, and the HTTP library calls both "error sending request". The source's
//! own failure is kept and told instead; and whoever keeps the other waiting is the one who is timed out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Request, Response};
use tokio::time::Instant;

use super::transport::{self, Limits, Transport};
use crate::content::Reader;
use crate::error::{Error, Result, Side};

/// A blob's content, to be sent in one request or in several, one after the other.
pub struct Supply(tokio::sync::Mutex<Stock>);

struct Stock {
    content: Reader,
    /// What a request had no room for of the piece that filled it.
    rest: Bytes,
}

impl Supply {
    /// All of `content`.
    pub fn new(content: Reader) -> Arc<Self> {
        Arc::new(Supply(tokio::sync::Mutex::new(Stock { content, rest: Bytes::new() })))
    }

    /// The next piece, of at most `most` bytes; `None` once everything was read and verified.
    async fn piece(&self, most: u64) -> Result<Option<Bytes>> {
        let mut stock = self.0.lock().await;
        if stock.rest.is_empty() {
            match stock.content.chunk().await? {
                Some(piece) => stock.rest = piece,
                None => return Ok(None),
            }
        }
        let length = most.min(stock.rest.len() as u64) as usize;
        Ok(Some(stock.rest.split_to(length)))
    }

    /// Reads the next `bytes` bytes, as part of what is verified, and sends them nowhere.
    pub async fn skip(&self, bytes: u64) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            match self.piece(left).await.map_err(|e| e.side(Side::Source))? {
                Some(piece) => left -= piece.len() as u64,
                None => break,
            }
        }
        Ok(())
    }

    /// Reads to the end: with nothing more to come, all was verified.
    pub async fn end(&self) -> Result<()> {
        self.skip(u64::MAX).await
    }
}

/// How a request with a part of the content, or all of it, is going.
pub struct Upload {
    length: u64,
    began: Instant,
    sent: AtomicU64,
    /// Milliseconds since `began` when the last piece was handed over; [`SOURCE`] while the source is waited for.
    handed_over: AtomicU64,
    failure: Mutex<Option<Error>>,
}

/// The source has its own clock; the server is not to blame while we wait for it.
const SOURCE: u64 = u64::MAX;

impl Upload {
    /// Nothing was sent yet of `length` bytes.
    pub fn new(length: u64) -> Arc<Self> {
        Arc::new(Upload {
            length,
            began: Instant::now(),
            sent: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            failure: Mutex::new(None),
        })
    }

    /// Sends the next of `content` as the body of `request`.
    ///
    /// # Errors
    /// The source's failure as it is, marked with its side; otherwise what went wrong on the way.
    pub async fn send(
        self: &Arc<Self>,
        transport: &Transport,
        mut request: Request,
        content: Arc<Supply>,
    ) -> Result<Response> {
        let url = request.url().clone();
        let client = transport.client(&url)?;
        request.headers_mut().insert(CONTENT_LENGTH, self.length.into());
        *request.body_mut() = Some(self.clone().body(content));
        let permit = transport.enter(&url).await;
        let answer = tokio::select! {
            answer = client.execute(request) => answer.map_err(|error| transport::failure(&error, &url)),
            limit = self.silence(transport.limits()) => Err(transport::silent(&url, limit)),
        };
        if let Ok(answer) = &answer {
            permit.answered(answer.status());
        }
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(failure.side(Side::Source)),
            None => answer,
        }
    }

    /// Whether all of the request's part, and so nothing but the right content, was sent.
    pub fn complete(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> u64 {
        self.length.saturating_sub(self.sent.load(Ordering::Relaxed))
    }

    fn body(self: Arc<Self>, content: Arc<Supply>) -> Body {
        Body::wrap_stream(stream::try_unfold(content, move |content| {
            let upload = self.clone();
            async move {
                let left = upload.left();
                if left == 0 {
                    return Ok(None);
                }
                upload.handed_over.store(SOURCE, Ordering::Relaxed);
                let piece = content.piece(left).await;
                upload.handed_over.store(upload.now(), Ordering::Relaxed);
                match piece {
                    Ok(Some(piece)) => {
                        upload.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                        Ok(Some((piece, content)))
                    }
                    Ok(None) => Ok(None),
                    Err(error) => {
                        *upload.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        Err(std::io::Error::other("the source failed"))
                    }
                }
            }
        }))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(SOURCE - 1)
    }

    /// Ends when the server has kept us waiting for too long, and says for how long. Putting away
    /// a large blob may take longer than taking its next piece.
    async fn silence(&self, limits: Limits) -> Duration {
        loop {
            let before = self.handed_over.load(Ordering::Relaxed);
            let limit = if self.complete() { limits.whole() } else { limits.head() };
            tokio::time::sleep(limit).await;
            if before != SOURCE && before == self.handed_over.load(Ordering::Relaxed) {
                return limit;
            }
        }
    }
}
