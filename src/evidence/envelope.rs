//! DSSE envelopes (secure-systems-lab/dsse, envelope.md): a statement as base64 in a field of some JSON. The field is as
//! long as what it holds, so no parser that keeps texts whole is let near it: its content is decoded as it passes by.

use std::io::{Error as IoError, Read};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::{Error, Kind};
use crate::limits;

/// Padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Keys that only envelopes have at their top: those of DSSE, and those of Sigstore's bundles, in which one is.
const TELLING: [&str; 4] = ["payload", "payloadType", "dsseEnvelope", "verificationMaterial"];

/// What statements are called there (in-toto/attestation, spec/v1/envelope.md).
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Whether this is the beginning of an envelope.
pub(super) fn begins(start: &[u8]) -> bool {
    let mut scan = Scan::default();
    start.iter().any(|byte| match scan.take(*byte) {
        Ok(Event::Key) => scan.depth() == 1 && TELLING.contains(&scan.key.as_str()),
        _ => false,
    })
}

/// What a byte was.
enum Event {
    /// The end of a key.
    Key,
    /// The beginning of a text that is a value.
    Begin,
    /// A byte of it.
    Text(u8),
    /// Its end.
    End,
    /// Whatever else.
    Other,
}

enum Inside {
    Nothing,
    Key,
    Text,
}

/// Tells keys from values, and how deep they are. It does not judge whether the rest is JSON.
struct Scan {
    inside: Inside,
    /// The escape that has begun: what follows the backslash so far.
    escape: Option<String>,
    /// For each object or list that is open, whether it is an object.
    open: Vec<bool>,
    key_next: bool,
    key: String,
}

impl Default for Scan {
    fn default() -> Self {
        Scan { inside: Inside::Nothing, escape: None, open: Vec::new(), key_next: false, key: String::new() }
    }
}

impl Scan {
    fn depth(&self) -> usize {
        self.open.len()
    }

    fn take(&mut self, byte: u8) -> Result<Event, Error> {
        match self.inside {
            Inside::Nothing => self.between(byte),
            Inside::Key | Inside::Text => match self.unescaped(byte)? {
                Some(Ok(byte)) => Ok(self.inner(byte)),
                Some(Err(())) => {
                    let ended = std::mem::replace(&mut self.inside, Inside::Nothing);
                    Ok(if matches!(ended, Inside::Key) { Event::Key } else { Event::End })
                }
                None => Ok(Event::Other),
            },
        }
    }

    fn inner(&mut self, byte: u8) -> Event {
        match self.inside {
            Inside::Text => Event::Text(byte),
            _ => {
                // As much as tells it from others.
                if self.key.len() < 32 {
                    self.key.push(char::from(byte));
                }
                Event::Other
            }
        }
    }

    /// The next byte of a text; an error stands for its end.
    fn unescaped(&mut self, byte: u8) -> Result<Option<Result<u8, ()>>, Error> {
        let Some(mut escape) = self.escape.take() else {
            return Ok(match byte {
                b'\\' => {
                    self.escape = Some(String::new());
                    None
                }
                b'"' => Some(Err(())),
                byte => Some(Ok(byte)),
            });
        };
        escape.push(char::from(byte));
        match (escape.as_bytes().first(), escape.len()) {
            (Some(b'u'), 1..5) => {
                self.escape = Some(escape);
                Ok(None)
            }
            (Some(b'u'), _) => {
                let number = escape.get(1..).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                // What is no ASCII is neither base64 nor part of a key that anybody looks for.
                Ok(Some(Ok(number.filter(u8::is_ascii).unwrap_or(b'?'))))
            }
            (Some(b'/' | b'"' | b'\\'), _) => Ok(Some(Ok(byte))),
            _ => Ok(Some(Ok(b'?'))),
        }
    }

    fn between(&mut self, byte: u8) -> Result<Event, Error> {
        match byte {
            b'{' | b'[' => {
                self.open.push(byte == b'{');
                self.key_next = byte == b'{';
                if self.open.len() > limits::EVIDENCE_DEPTH {
                    return Err(Error::new(Kind::LimitExceeded, "it is nested too deeply")
                        .expected(format_args!("at most {} levels", limits::EVIDENCE_DEPTH)));
                }
            }
            b'}' | b']' => _ = self.open.pop(),
            b',' => self.key_next = self.open.last() == Some(&true),
            b':' => self.key_next = false,
            b'"' if self.key_next => {
                self.key.clear();
                self.inside = Inside::Key;
            }
            b'"' => {
                self.inside = Inside::Text;
                return Ok(Event::Begin);
            }
            _ => {}
        }
        Ok(Event::Other)
    }
}

/// What an envelope holds, as it passes by.
pub(super) struct Payload<R> {
    inner: R,
    scan: Scan,
    /// Whether the object that is open is the envelope: the document itself, or its `dsseEnvelope`.
    within: bool,
    /// The payload begins next, is passing by, or has passed.
    state: State,
    /// What the envelope says that it holds; the name of the field was just read, or its text is passing by.
    kind: String,
    kind_next: bool,
    in_kind: bool,
    base64: Vec<u8>,
    decoded: Vec<u8>,
    given: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ahead,
    Named,
    Passing,
    Passed,
}

impl<R: Read> Payload<R> {
    pub fn new(inner: R) -> Self {
        Payload {
            inner,
            scan: Scan::default(),
            within: false,
            state: State::Ahead,
            kind: String::new(),
            kind_next: false,
            in_kind: false,
            base64: Vec::new(),
            decoded: Vec::new(),
            given: 0,
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Error> {
        match self.scan.take(byte)? {
            Event::Key => self.key()?,
            Event::Begin if self.state == State::Named => self.state = State::Passing,
            Event::Begin => self.in_kind = std::mem::take(&mut self.kind_next),
            // Longer than any that is known.
            Event::Text(byte) if self.in_kind && self.kind.len() < 64 => self.kind.push(char::from(byte)),
            Event::End if self.in_kind => self.in_kind = false,
            Event::Text(byte) if self.state == State::Passing => self.base64.push(match byte {
                // RFC 4648 §5: the alphabet for URLs, which verifiers must accept, too (dsse, envelope.md).
                b'-' => b'+',
                b'_' => b'/',
                byte => byte,
            }),
            Event::End if self.state == State::Passing => {
                self.decode(self.base64.len())?;
                self.state = State::Passed;
            }
            _ => {}
        }
        Ok(())
    }

    fn key(&mut self) -> Result<(), Error> {
        let (depth, key) = (self.scan.depth(), self.scan.key.as_str());
        if depth == 1 {
            self.within = key == "dsseEnvelope";
        }
        let envelope = depth == 1 || depth == 2 && self.within;
        if envelope && key == "payloadType" {
            if !self.kind.is_empty() {
                return Err(Error::new(Kind::DocumentAmbiguous, "an envelope with two payload types"));
            }
            self.kind_next = true;
        }
        match (envelope && key == "payload", self.state) {
            (true, State::Ahead) => self.state = State::Named,
            (true, _) => {
                return Err(Error::new(Kind::DocumentAmbiguous, "an envelope with two payloads"));
            }
            // Something else stood where the payload should be: a number, a list.
            (false, State::Named) => return Err(invalid("an envelope whose payload is no text")),
            (false, _) => {}
        }
        Ok(())
    }

    /// Decodes what has gathered, as far as it is whole.
    fn decode(&mut self, length: usize) -> Result<(), Error> {
        let whole = self.base64.get(..length).unwrap_or_default();
        BASE64
            .decode_vec(whole, &mut self.decoded)
            .map_err(|e| invalid("an envelope's payload is not base64").got(e))?;
        self.base64.drain(..length);
        Ok(())
    }

    /// Reads on until something is decoded, or to the end.
    fn refill(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 16 << 10];
        self.decoded.clear();
        self.given = 0;
        while self.decoded.is_empty() {
            let count = self.inner.read(&mut buffer)?;
            if count == 0 {
                return self.end().map_err(IoError::other);
            }
            for byte in buffer.get(..count).unwrap_or_default() {
                self.take(*byte).map_err(IoError::other)?;
            }
            let whole = self.base64.len() / 4 * 4;
            // The last group may be padded: it is decoded when the end was seen.
            let whole = whole.saturating_sub(4);
            self.decode(whole).map_err(IoError::other)?;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Error> {
        match (self.state, self.scan.depth()) {
            (State::Passed, 0) if self.kind == IN_TOTO => Ok(()),
            (State::Passed, 0) => Err(invalid("an envelope of something else than a statement")
                .got(format_args!("{:?}", self.kind))
                .expected(IN_TOTO)),
            (State::Ahead, 0) => Err(invalid("an envelope without a payload")),
            _ => Err(invalid("an envelope that ends in the middle")),
        }
    }
}

fn invalid(what: &str) -> Error {
    Error::new(Kind::DocumentInvalid, what)
}

impl<R: Read> Read for Payload<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given >= self.decoded.len() {
            self.refill()?;
        }
        let left = self.decoded.get(self.given..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.given = self.given.saturating_add(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(text: &str) -> Result<String, String> {
        let mut read = String::new();
        Payload::new(text.as_bytes()).read_to_string(&mut read).map(|_| read).map_err(|e| e.to_string())
    }

    #[test]
    fn the_payload_is_decoded_wherever_it_stands() {
        for text in [
            r#"{"payloadType":"application/vnd.in-toto+json","payload":"eyJhIjoxfQ==","signatures":[{"sig":"payload"}]}"#,
            r#"{"signatures":[{"payload":1}],"payload":"eyJhIjoxfQ","payloadType":"application\/vnd.in-toto+json"}"#,
            r#"{"mediaType":"m","dsseEnvelope":{"payload":"eyJhIjox\u0066Q==","payloadType":"application/vnd.in-toto+json"}}"#,
        ] {
            assert_eq!(payload(text).as_deref(), Ok(r#"{"a":1}"#), "{text}");
            assert!(begins(text.as_bytes()), "{text}");
        }
        let long = "x\u{fe}?".repeat(40_000);
        let encoded = base64::engine::general_purpose::URL_SAFE.encode(&long);
        assert!(payload(&format!(r#"{{"payloadType":"{IN_TOTO}","payload":"{encoded}"}}"#)).unwrap() == long);
        assert!(!begins(br#"{"_type":"x","predicate":{"payload":"y"}}"#));
    }

    #[test]
    fn unclear_envelopes_are_refused() {
        for text in [
            r#"{"payload":"eyJhIjoxfQ==","payload":"e30="}"#,
            r#"{"payload":"eyJhIjoxfQ==","p\u0061yload":"e30="}"#,
            r#"{"payload":"eyJhIjoxfQ=="}"#,
            r#"{"payload":"eyJhIjoxfQ==","payloadType":"text/plain"}"#,
            r#"{"payload":"eyJhIjoxfQ==","payloadType":"application/vnd.in-toto+json","payloadType":"x"}"#,
            r#"{"payload":"!!!!"}"#,
            r#"{"payload":1,"x":"e30="}"#,
            r#"{"payload":"eyJhIjoxfQ=="#,
            r#"{"payloadType":"x"}"#,
        ] {
            assert!(payload(text).is_err(), "{text}");
        }
    }
}
