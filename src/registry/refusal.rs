//! What a server's refusal means: its status and error body as an [`Error`] that says who refused,
//! what can be done, and whether and when to come back.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::auth::Authorization;
use super::credentials::Keychain;
use super::transport::{self, Limits};
use super::wire::{self, Complaint};
use crate::error::{Error, Kind, Result, Retry};
use crate::limits;

/// Most characters that are shown of a text that is not in the form of the distribution-spec.
const PROSE: usize = 200;

/// With whose login the refused request was made.
pub struct Who<'a> {
    /// What was sent.
    pub sent: Option<&'a Authorization>,
    /// Where logins are looked for.
    pub keychain: &'a Keychain,
    /// Whether it was a request for a token: whatever is wrong with it, it is about the login.
    pub token_server: bool,
}

/// The error for an answer that was not wanted; `what` says what it was about.
pub async fn of(mut response: Response, what: &str, who: &Who<'_>, clock: Limits) -> Error {
    let status = response.status();
    let retry = retry(status, response.headers());
    let complaint = complaint(&mut response, clock).await;
    let mut got = shown(status);
    if let Some(text) = &complaint.text {
        got.push_str(": ");
        // Cut only now: of half a secret nothing would be recognised.
        let redacted = who.sent.map_or_else(|| text.clone(), |sent| sent.redact(text));
        let most = if complaint.code.is_some() { usize::MAX } else { PROSE };
        got.extend(redacted.chars().take(most));
    }
    let error = Error::new(kind(status, &complaint, who), what).got(got).retry(retry);
    match hint(status, &complaint, who, &error) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// An error body that cannot be read whole says nothing; the status alone has to do.
async fn complaint(response: &mut Response, clock: Limits) -> Complaint {
    match transport::read(response, limits::ERROR_BODY, clock).await {
        Ok(body) => wire::complaint(&body),
        Err(_) => Complaint::default(),
    }
}

fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn kind(status: StatusCode, complaint: &Complaint, who: &Who<'_>) -> Kind {
    let unsupported = matches!(complaint.code.as_deref(), Some("UNSUPPORTED"));
    match status.as_u16() {
        401 | 403 => Kind::Auth,
        400 | 404 if who.token_server => Kind::Auth,
        404 => Kind::NotFound,
        415 | 501 => Kind::RegistryUnsupported,
        400 | 405 if unsupported => Kind::RegistryUnsupported,
        // A success or redirect that makes no sense here: not a registry's answer.
        100..400 => Kind::UnexpectedContent,
        _ => Kind::RegistryRejected,
    }
}

/// Passing faults only: another 4xx would be the same tomorrow, 501 and 505 too, and 507 needs a person.
fn retry(status: StatusCode, headers: &HeaderMap) -> Retry {
    let passing = match status.as_u16() {
        408 | 425 | 429 => true,
        501 | 505 | 507 | 508 | 511 => false,
        other => other >= 500,
    };
    match retry_after(headers, Timestamp::now()) {
        _ if !passing => Retry::Never,
        Some(wait) => Retry::After(wait),
        None => Retry::Soon,
    }
}

/// RFC 9110 §10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

fn hint(status: StatusCode, complaint: &Complaint, who: &Who<'_>, error: &Error) -> Option<String> {
    match status.as_u16() {
        // What Go's servers say to plain HTTP on a TLS port.
        400 if complaint.text.as_deref().is_some_and(|text| text.contains("HTTP request to an HTTPS server")) => {
            Some("this registry speaks TLS: --tls HOST asks for it on a loopback address".to_owned())
        }
        401 | 403 => Some(login_hint(who)),
        413 => Some("the registry or a proxy before it limits the size of uploads".to_owned()),
        405 => Some("the registry may be read-only".to_owned()),
        507 => Some("the registry's storage is full".to_owned()),
        _ if error.kind() == Kind::RegistryUnsupported => Some(
            "the registry does not take this kind of content; converting it would change its digest, so it is not converted"
                .to_owned(),
        ),
        _ => match complaint.code.as_deref()? {
            "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" => {
                Some("the registry may be cleaning up: run the same command again".to_owned())
            }
            "NAME_UNKNOWN" | "MANIFEST_UNKNOWN" => Some("check the name, and the tag or digest".to_owned()),
            _ => None,
        },
    }
}

fn login_hint(who: &Who<'_>) -> String {
    let again = "`skopeo login` or `docker login`";
    match who.sent.and_then(|sent| sent.origin.as_deref()) {
        Some(origin) => format!(
            "the login from {origin} was used; renew it with {again}, or ask for the right to do this"
        ),
        None => match who.keychain.to_string().as_str() {
            "" => format!("no login is known; log in with {again}"),
            places => format!("no login for this registry in {places}; log in with {again}"),
        },
    }
}

/// `Ok` where the registry's own digest, if it gives one in sha256, is the one that counts.
pub fn check_digest(
    headers: &HeaderMap,
    digest: impl std::fmt::Display,
    kind: Kind,
    what: &str,
) -> Result<()> {
    let said = headers.get(wire::header::DIGEST).and_then(|value| value.to_str().ok());
    let digest = digest.to_string();
    match said {
        Some(said) if said.starts_with("sha256:") && said != digest => {
            Err(Error::new(kind, what).got(said).expected(digest))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Thu, 01 Jan 2026 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Wed, 31 Dec 2025 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for odd in ["", "-1", "soon", "1.5"] {
            assert_eq!(wait(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_passes_and_what_does_not() {
        let of = |status: u16| retry(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for passing in [408, 429, 500, 502, 503, 504, 520, 599] {
            assert_eq!(of(passing), Retry::Soon, "{passing}");
        }
        for lasting in [200, 301, 400, 401, 403, 404, 405, 409, 413, 415, 501, 507] {
            assert_eq!(of(lasting), Retry::Never, "{lasting}");
        }
    }
}
