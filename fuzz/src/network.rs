//! What servers say: challenges, redirects, error bodies.

use sealift::registry::fuzzing::{Challenge, challenge as parse, complaint, followed, login_goes};

use crate::words::is_sound;

/// Each line is a `WWW-Authenticate` header; the first one is a `Location` and an error body as well.
pub fn challenge(bytes: &[u8]) {
    let shown = complaint(bytes);
    // "an HTML page" is the longest thing that is made of little.
    assert!(shown.is_none_or(|text| text.len() <= bytes.len() * 4 + 16));
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    if let Ok(location) = std::str::from_utf8(first) {
        location_stays(location);
    }
    match parse(bytes.split(|b| *b == b'\n')) {
        Some(Ok(Challenge::Bearer { realm, .. })) => {
            assert!(realm.host_str().is_some() && realm.username().is_empty() && realm.password().is_none());
            let own = realm.host_str().unwrap_or_default().to_lowercase();
            let ours = own == "registry.example.com" || own.ends_with(".example.com") || own == "example.com";
            // The login of a registry that is reached by TLS goes to its owner's hosts, by TLS.
            if login_goes("https://registry.example.com", &realm) {
                assert!(ours && realm.scheme() == "https", "the login would go to {realm}");
            }
            if login_goes("http://127.0.0.1:5000", &realm) {
                assert_eq!(own, "127.0.0.1", "the login would go to {realm}");
            }
        }
        Some(Ok(Challenge::Basic)) | None => {}
        Some(Err(error)) => is_sound(&error),
    }
}

/// From a registry outside nothing leads to http, to a URL with a login, or to this machine.
fn location_stays(location: &str) {
    if let Some((scheme, host, login)) = followed("https://registry.example.com/v2/a/", location) {
        assert_eq!((scheme.as_str(), login), ("https", false), "{location:?}");
        let inside = host.parse::<std::net::Ipv4Addr>();
        let inside = inside.is_ok_and(|v4| v4.is_loopback() || v4.is_private() || v4.is_link_local());
        let local = host == "localhost" || host.ends_with(".localhost") || host == "[::1]";
        assert!(!inside && !local && !host.is_empty(), "{location:?} leads to {host}");
    }
}
