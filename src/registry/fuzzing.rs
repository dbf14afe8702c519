//! Doors for the fuzz targets (`fuzz/`): what a server says before anybody trusts it. Not part of the
//! library: there only where `--cfg fuzzing` is set.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

pub use super::auth::Challenge;
use super::{origin, wire};
use crate::error::Result;

/// What these `WWW-Authenticate` headers ask for; none where no HTTP client would hand them on.
pub fn challenge<'a>(headers: impl Iterator<Item = &'a [u8]>) -> Option<Result<Challenge>> {
    let mut map = HeaderMap::new();
    for header in headers {
        map.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(header).ok()?);
    }
    Some(Challenge::of(&map))
}

/// Whether a registry's login would be shown to this token server.
pub fn login_goes(registry: &str, realm: &Url) -> bool {
    Url::parse(registry).is_ok_and(|registry| origin::check_realm(&registry, realm, true, None).is_ok())
}

/// Where a `Location` leads from here, if it is followed: scheme, host, and whether there is a login in it.
pub fn followed(from: &str, location: &str) -> Option<(String, String, bool)> {
    let to = origin::follow(&Url::parse(from).ok()?, location, None).ok()?;
    let login = !to.username().is_empty() || to.password().is_some();
    Some((to.scheme().to_owned(), to.host_str().unwrap_or_default().to_owned(), login))
}

/// What is shown of an error body.
pub fn complaint(body: &[u8]) -> Option<String> {
    wire::complaint(body).text
}
