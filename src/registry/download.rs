//! A blob or document on its way here. A connection that breaks is made anew and asked for the
//! rest, for as long as each one brings something.

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};

use super::client::{Call, Client, Endpoint};
use super::transport;
use crate::content::Unverified;
use crate::error::{Error, Kind, Result, Retry};

/// What is asked for, and of whom.
pub(super) struct Download {
    client: Client,
    endpoint: Endpoint,
    call: Call,
    size: u64,
}

/// How far it has come.
struct Underway {
    download: Download,
    response: Response,
    /// Bytes handed out, those before the first one asked for included.
    position: u64,
    /// Bytes that the server sends once more, because it does not know ranges.
    skip: u64,
    /// Connections that broke without having brought anything.
    fruitless: u32,
}

impl Download {
    /// Asks for `size` bytes of content with `call`.
    pub fn new(client: Client, endpoint: Endpoint, call: Call, size: u64) -> Self {
        Download { client, endpoint, call, size }
    }

    /// Opens it from byte `from` on.
    ///
    /// # Errors
    /// The registry's refusal, or an answer that cannot be about this content.
    pub async fn open(mut self, from: u64) -> Result<Unverified> {
        let place = self.call.place.clone();
        let (response, skip) = self.request(from).await?;
        let underway = Underway { download: self, response, position: from, skip, fruitless: 0 };
        Ok(Unverified::new(place, underway.pieces()))
    }

    /// Asks for everything from byte `from` on. Returns the answer, and how much of it comes before `from`.
    async fn request(&mut self, from: u64) -> Result<(Response, u64)> {
        if from > 0 {
            match self.request_rest(from).await {
                Ok(answer) => return Ok(answer),
                // A line that broke says nothing about ranges.
                Err(error) if matches!(error.kind(), Kind::Network | Kind::Timeout) => return Err(error),
                // Some servers refuse a range, or answer something else.
                Err(_) => {}
            }
        }
        self.call.headers.remove(RANGE);
        self.call.expected = &[200];
        let response = self.client.send(&self.endpoint, &self.call).await?;
        self.check(&response, self.size).map_err(|e| e.at(&self.call.place))?;
        Ok((response, from))
    }

    /// Asks for the range from byte `from` on, and takes what comes instead if it can be used.
    async fn request_rest(&mut self, from: u64) -> Result<(Response, u64)> {
        let range = HeaderValue::from_str(&format!("bytes={from}-"));
        self.call.headers.insert(RANGE, range.unwrap_or_else(|_| HeaderValue::from_static("bytes=0-")));
        self.call.expected = &[200, 206];
        let response = self.client.send(&self.endpoint, &self.call).await?;
        // RFC 9110 §14.2: a server may ignore a range, and then answers 200 with everything.
        let (coming, skip) = match response.status() {
            StatusCode::PARTIAL_CONTENT => (coming(response.headers(), from, self.size)?, 0),
            _ => (self.size, from),
        };
        self.check(&response, coming)?;
        Ok((response, skip))
    }

    fn check(&self, response: &Response, coming: u64) -> Result<()> {
        let headers = response.headers();
        check_encoding(headers)?;
        match length(headers) {
            Some(length) if length != coming => Err(Error::new(
                Kind::SizeMismatch,
                "the registry's copy is not as long as its descriptor says",
            )
            .got(format_args!("{length} bytes"))
            .expected(format_args!("{coming} bytes"))),
            _ => Ok(()),
        }
    }
}

impl Underway {
    fn pieces(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, |mut underway| async move {
            match underway.next().await {
                Ok(Some(piece)) => Ok(Some((piece, underway))),
                Ok(None) => Ok(None),
                Err(error) => Err(error.at(&underway.download.call.place)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let url = self.response.url().clone();
            let limits = self.download.client.limits();
            match transport::next_piece(&mut self.response, limits, &url).await {
                Ok(Some(piece)) => {
                    if let Some(piece) = self.fresh(piece) {
                        return Ok(Some(piece));
                    }
                }
                Ok(None) if self.position >= self.download.size => return Ok(None),
                Ok(None) => self.go_on(ended_early(self.position, self.download.size)).await?,
                Err(error) if error.retryable() == Retry::Never => return Err(error),
                Err(error) => self.go_on(error).await?,
            }
        }
    }

    /// The part of a piece that was not handed out before.
    fn fresh(&mut self, mut piece: Bytes) -> Option<Bytes> {
        let old = self.skip.min(piece.len() as u64);
        self.skip -= old;
        let piece = piece.split_off(old as usize);
        if piece.is_empty() {
            return None;
        }
        self.position = self.position.saturating_add(piece.len() as u64);
        self.fruitless = 0;
        Some(piece)
    }

    /// Asks for the rest after the connection broke.
    async fn go_on(&mut self, error: Error) -> Result<()> {
        self.fruitless += 1;
        let place = &self.download.call.place;
        let error = error.at(format_args!("{place} at byte {}", self.position));
        self.download.client.pause(self.fruitless, error).await?;
        (self.response, self.skip) = self.download.request(self.position).await?;
        Ok(())
    }
}

fn ended_early(position: u64, size: u64) -> Error {
    Error::new(Kind::Network, "the content ended early")
        .got(format_args!("{position} bytes"))
        .expected(format_args!("{size} bytes"))
        .retry(Retry::Soon)
}

/// How many bytes a partial answer has. RFC 9110 §14.4: `bytes FIRST-LAST/TOTAL`; it must begin where it was
/// asked to, and may end early (§15.3.7). The content is verified by its digest in any case.
fn coming(headers: &HeaderMap, from: u64, size: u64) -> Result<u64> {
    let said = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parsed = || {
        let (range, total) = said.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        let fits =
            first == from && last >= first && last < size && (total == "*" || total == size.to_string());
        fits.then(|| last - first + 1)
    };
    parsed().ok_or_else(|| {
        Error::new(Kind::UnexpectedContent, "the server sends another range than the one asked for")
            .got(if said.is_empty() { "no Content-Range" } else { said })
            .expected(format_args!("bytes {from}-{}/{size}", size.saturating_sub(1)))
    })
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// Content that a proxy compressed on the way is not the content that was asked for.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<()> {
    let encoded = |value: &&HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all(CONTENT_ENCODING).iter().find(encoded) {
        Some(encoding) => Err(Error::new(
            Kind::UnexpectedContent,
            "the content comes in an encoding that was not asked for",
        )
        .got(String::from_utf8_lossy(encoding.as_bytes()))
        .expected("identity")
        .hint("a proxy on the way compresses what must not be changed")),
        None => Ok(()),
    }
}
