//! A streamed body: sent once, at the pace of the slower side, from memory that does not grow with it.
//!
//! Two sides can fail here, and the HTTP library calls both "error sending request". The source's
//! own failure is kept and told instead; and whoever keeps the other waiting is the one who is timed out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Request, Response};
use tokio::time::Instant;

use super::transport::{self, Limits, Transport};
use crate::content::Reader;
use crate::error::{Error, Result, Side};

/// How an upload is going.
pub struct Upload {
    size: u64,
    began: Instant,
    sent: AtomicU64,
    /// Milliseconds since `began` when the last piece was handed over; [`SOURCE`] while the source is waited for.
    handed_over: AtomicU64,
    failure: Mutex<Option<Error>>,
}

/// The source has its own clock; the server is not to blame while we wait for it.
const SOURCE: u64 = u64::MAX;

impl Upload {
    /// Nothing was sent yet of `size` bytes.
    pub fn new(size: u64) -> Arc<Self> {
        Arc::new(Upload {
            size,
            began: Instant::now(),
            sent: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            failure: Mutex::new(None),
        })
    }

    /// Sends `content` as the body of `request`.
    ///
    /// # Errors
    /// The source's failure as it is, marked with its side; otherwise what went wrong on the way.
    pub async fn send(
        self: &Arc<Self>,
        transport: &Transport,
        mut request: Request,
        content: Reader,
    ) -> Result<Response> {
        let url = request.url().clone();
        let client = transport.client(&url)?;
        request.headers_mut().insert(CONTENT_LENGTH, self.size.into());
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

    /// Whether all of the content, and so nothing but the right content, was sent.
    pub fn complete(&self) -> bool {
        self.sent.load(Ordering::Relaxed) == self.size
    }

    fn body(self: Arc<Self>, content: Reader) -> Body {
        Body::wrap_stream(stream::try_unfold(content, move |mut content| {
            let upload = self.clone();
            async move {
                upload.handed_over.store(SOURCE, Ordering::Relaxed);
                let piece = content.chunk().await;
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
