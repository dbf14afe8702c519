//! Which host may be told what: the rules for redirects, upload locations and token realms. Pure
//! functions on URLs; whoever sends a request asks here first.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Url;

use crate::error::{Error, Kind, Result};

/// Whether two URLs mean the same scheme, host and port, the only case in which a login for one may
/// be shown to the other.
pub fn same(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && same_host(a, b) && a.port_or_known_default() == b.port_or_known_default()
}

fn same_host(a: &Url, b: &Url) -> bool {
    a.host_str().is_some() && a.host_str() == b.host_str()
}

/// `host[:port]` for messages.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Resolves the `Location` of a redirect or upload session against the URL that answered with it.
/// `peer` is the address that answered, if it is known.
///
/// # Errors
/// `RedirectForbidden` for anything but HTTP(S), for a step from https to http, for a URL with a
/// login in it, and for an address that a server outside has no business sending us to.
pub fn follow(from: &Url, location: &str, peer: Option<IpAddr>) -> Result<Url> {
    let forbidden = |why: &str| {
        // The target's path and query may carry a signature: only its host is named.
        Error::new(
            Kind::RedirectForbidden,
            format!("the server points to a place that is not followed: {why}"),
        )
        .at(authority(from))
    };
    let to = from.join(location).map_err(|_| forbidden("not a URL"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => {
            return Err(forbidden("from https to http").got(authority(&to)).hint(
                "a registry behind a TLS proxy says this when it does not know its own address: \
                 set X-Forwarded-Proto in the proxy or the external URL in the registry",
            ));
        }
        (_, "https" | "http") => {}
        _ => return Err(forbidden("neither https nor http")),
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(forbidden("a URL with a login in it").got(authority(&to)));
    }
    if may_reach(from, &to, peer) {
        Ok(to)
    } else {
        Err(forbidden("an internal address").got(authority(&to)))
    }
}

/// A server outside must not make us knock at doors inside (server-side request forgery). Only
/// addresses are judged: a name that leads inside is not noticed.
pub fn may_reach(from: &Url, to: &Url, peer: Option<IpAddr>) -> bool {
    if same_host(from, to) {
        return true;
    }
    match (reach(to), reach(from)) {
        (Reach::Outside, _) => true,
        // An internal registry's object store often has a bare address. The registry's own address
        // shows that it is internal, too.
        (Reach::Site, own) => {
            own != Reach::Outside || peer.is_some_and(|peer| address_reach(peer) != Reach::Outside)
        }
        (Reach::Machine, own) => own == Reach::Machine,
    }
}

/// Whether connections to `url` stay on this machine.
pub fn is_loopback(url: &Url) -> bool {
    match address(url) {
        Some(address) => address.to_canonical().is_loopback(),
        None => reach(url) == Reach::Machine,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// This machine, or its link (where clouds keep their metadata services).
    Machine,
    /// A private network.
    Site,
    /// Everything else, names included.
    Outside,
}

fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

fn reach(url: &Url) -> Reach {
    let local = |host: &str| host == "localhost" || host.ends_with(".localhost");
    match address(url) {
        Some(address) => address_reach(address),
        None if url.host_str().is_none_or(|host| local(host.trim_end_matches('.'))) => Reach::Machine,
        None => Reach::Outside,
    }
}

fn address_reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4_reach(v4),
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() => {
            Reach::Machine
        }
        IpAddr::V6(v6) if v6.is_unique_local() || v6.is_multicast() => Reach::Site,
        IpAddr::V6(_) => Reach::Outside,
    }
}

fn v4_reach(v4: Ipv4Addr) -> Reach {
    let [a, b, ..] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598, carrier-grade NAT
    if v4.is_loopback() || a == 0 || v4.is_link_local() {
        Reach::Machine
    } else if v4.is_private() || shared || v4.is_multicast() || v4.is_broadcast() {
        Reach::Site
    } else {
        Reach::Outside
    }
}

/// Whether `realm` may be asked for a token for `registry`, and with our login or without one.
///
/// # Errors
/// `AuthRealm`: the login stays here.
pub fn check_realm(registry: &Url, realm: &Url, with_login: bool, peer: Option<IpAddr>) -> Result<()> {
    let refused = |why: &str| {
        Err(Error::new(
            Kind::AuthRealm,
            format!("the registry names a token server that is not asked: {why}"),
        )
        .at(authority(registry))
        .got(authority(realm)))
    };
    let plain_as_registry = registry.scheme() == "http" && same_host(registry, realm);
    match realm.scheme() {
        "https" => {}
        "http" if plain_as_registry => {}
        _ => return refused("it is not reached by https"),
    }
    if !may_reach(registry, realm, peer) {
        return refused("an internal address");
    }
    if with_login && !related(registry, realm) {
        return refused("the login for the registry must not go to another organisation's host")
            .map_err(|e| e.hint("a registry has its token server on its own host, or under its own domain"));
    }
    Ok(())
}

/// Same host, or names under a common domain that one owner holds (CNCF Distribution's client has
/// the same rule, with the public suffix list; we have [`is_shared`]). Addresses have no owner.
fn related(registry: &Url, realm: &Url) -> bool {
    if same_host(registry, realm) {
        return true;
    }
    let (Some(a), Some(b)) = (registry.host_str(), realm.host_str()) else { return false };
    if address(registry).is_some() || address(realm).is_some() {
        return false;
    }
    let common: Vec<&str> =
        a.rsplit('.').zip(b.rsplit('.')).take_while(|(x, y)| x == y).map(|(x, _)| x).collect();
    // `common` runs from the top-level domain down.
    common.iter().all(|label| !label.is_empty()) && common.len() >= 2 && !is_shared(&common)
}

/// Domains under which strangers get names of their own.
const SHARED: &[&str] = &[
    "amazonaws.com",
    "appspot.com",
    "azurecontainerapps.io",
    "azurewebsites.net",
    "cloudapp.net",
    "cloudfront.net",
    "duckdns.org",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "ngrok-free.app",
    "ngrok.app",
    "ngrok.io",
    "onrender.com",
    "pages.dev",
    "run.app",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
];

/// Second-level labels below which country domains hand out names: `co.uk`, `com.au`.
const SECOND_LEVEL: &[&str] = &["ac", "co", "com", "edu", "go", "gov", "gob", "net", "ne", "or", "org"];

/// Whether the common domain, given from the top down, is one that many share.
fn is_shared(common: &[&str]) -> bool {
    let [top, second, ..] = common else { return true };
    if SHARED.contains(&format!("{second}.{top}").as_str()) {
        return true;
    }
    common.len() == 2 && top.len() == 2 && SECOND_LEVEL.contains(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn login_goes(registry: &str, realm: &str) -> bool {
        check_realm(&url(registry), &url(realm), true, None).is_ok()
    }

    #[test]
    fn a_login_goes_to_the_same_owner_only() {
        for (registry, realm) in [
            ("https://registry.example.com", "https://auth.example.com/token"),
            ("https://registry-1.docker.io", "https://auth.docker.io/token"),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
            ("https://registry.example.co.uk", "https://auth.example.co.uk"),
            ("https://r.example.com:5000", "https://r.example.com:5001"),
            ("https://10.0.0.1:5000", "https://10.0.0.1/token"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
            ("http://localhost:5000", "http://localhost:5001/token"),
        ] {
            assert!(login_goes(registry, realm), "{registry} {realm}");
        }
        for (registry, realm) in [
            ("https://registry.example.com", "https://example.org"),
            ("https://registry.example.com", "https://evil.com"),
            ("https://registry.example.com", "https://evilexample.com"),
            ("https://registry.example.com", "http://auth.example.com"),
            ("https://registry.example.com", "http://registry.example.com"),
            ("https://a.co.uk", "https://b.co.uk"),
            ("https://a.github.io", "https://b.github.io"),
            ("https://1.dkr.ecr.us-east-1.amazonaws.com", "https://evil.us-east-1.amazonaws.com"),
            ("https://registry", "https://auth"),
            ("https://10.0.0.1", "https://10.0.0.2"),
            ("https://10.1.1.1", "https://10.2.1.1"),
            ("http://127.0.0.1:5000", "http://localhost:5000/token"),
            ("http://registry.lan", "http://auth.lan"),
            ("http://registry.example.com", "http://auth.example.com"),
            ("https://registry.example.com", "ftp://registry.example.com"),
        ] {
            assert!(!login_goes(registry, realm), "{registry} {realm}");
        }
        let anonymous =
            |realm: &str| check_realm(&url("https://r.example.com"), &url(realm), false, None).is_ok();
        assert!(anonymous("https://elsewhere.org/token"));
        assert!(!anonymous("http://elsewhere.org/token"));
        assert!(!anonymous("https://127.0.0.1/token"));
    }

    #[test]
    fn locations_resolve_and_keep_their_query() {
        let from = url("https://r.example.com/v2/a/blobs/uploads/?x=1");
        let to = |location: &str| follow(&from, location, None).map(String::from);
        assert_eq!(to("/v2/a/up?_state=a%2Bb").unwrap(), "https://r.example.com/v2/a/up?_state=a%2Bb");
        assert_eq!(to("u1?s=2").unwrap(), "https://r.example.com/v2/a/blobs/uploads/u1?s=2");
        assert_eq!(to("//cdn.example.net/b").unwrap(), "https://cdn.example.net/b");
        assert_eq!(to("https://cdn.example.net:444/b").unwrap(), "https://cdn.example.net:444/b");
    }

    #[test]
    fn forbidden_places() {
        let refused = |from: &str, location: &str| match follow(&url(from), location, None) {
            Ok(_) => false,
            Err(error) => error.kind() == Kind::RedirectForbidden,
        };
        for location in [
            "http://r.example.com/",
            "http://cdn.example.net/",
            "file:///etc/passwd",
            "ftp://r.example.com/",
            "https://u:p@r.example.com/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://localhost/",
            "https://x.localhost/",
            "https://10.0.0.1/",
            "https://192.168.0.1/",
            "https://169.254.169.254/",
            "https://0.0.0.0/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://100.64.0.1/",
            "https://2130706433/",
            "https://[::]/",
            "http://[",
        ] {
            assert!(refused("https://r.example.com/v2/", location), "{location}");
        }
        for (from, location) in [
            ("https://r.example.com/", "https://93.184.216.34/"),
            ("https://10.0.0.1/", "https://10.0.0.2/"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/"),
            ("http://localhost:5000/", "http://127.0.0.1:5001/"),
            ("http://r.lan/", "https://r.lan/"),
        ] {
            assert!(!refused(from, location), "{from} {location}");
        }
        assert!(refused("https://10.0.0.1/", "https://127.0.0.1/"));
        let inside = Some(IpAddr::from([10, 0, 0, 7]));
        assert!(follow(&url("https://r.corp.example/"), "https://10.0.0.9/b", inside).is_ok());
        assert!(follow(&url("https://r.corp.example/"), "https://169.254.169.254/b", inside).is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same(&url("https://a/x"), &url("https://a:443/y")));
        for other in ["http://a/", "https://a:444/", "https://b/"] {
            assert!(!same(&url("https://a/"), &url(other)), "{other}");
        }
    }
}
