//! Names of images: `registry/repository:tag`, each part checked against its grammar before a
//! path or URL can be built from it.

use std::fmt;
use std::str::FromStr;

use super::Digest;
use crate::error::{Error, Kind, Result};

/// Declares a checked text: parse, print, serialise.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:ident, $expected:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                if $check(text) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(Error::new(Kind::RefInvalid, concat!("not a usable ", stringify!($name)).to_lowercase())
                        .got(format_args!("{text:?}"))
                        .expected($expected))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        as_text! { $name: $expected }
    };
}

checked_text!(
    /// A registry's host and optional port.
    Registry, is_registry, "a host such as registry.example.com or 127.0.0.1:5000"
);
checked_text!(
    /// A repository's path within a registry.
    Repository, is_repository, "a repository such as nexus/engine (lower case, at most 255 characters)"
);
checked_text!(
    /// A tag.
    Tag, is_tag, "a tag such as 2.1.0 (letters, digits, '_', '.', '-'; at most 128 characters)"
);

impl Tag {
    /// `sha256-<hex>` and something behind it: a tag that follows from a digest.
    pub(super) fn of_digest(digest: &Digest, suffix: &str) -> Self {
        Tag(format!("sha256-{}{suffix}", digest.hex()))
    }
}

impl Registry {
    /// The host without the port, and without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        match self.0.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.0.split(':').next().unwrap_or_default(),
        }
    }

    /// Whether connections stay on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// `host[:port]`; host is a DNS name, an IPv4 address or a bracketed IPv6 address.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if rest.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 255
        && host.is_none_or(|host| host.split('.').all(label))
        && port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p != 0)
        })
}

/// distribution-spec, "Pulling manifests":
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_path_component)
}

fn is_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = component.split(alphanumeric).filter(|part| !part.is_empty());
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && separators
            .into_iter()
            .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

/// distribution-spec, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The full name of an image: `registry/repository:tag`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Host and port.
    pub registry: Registry,
    /// The path within the registry.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
}

impl Name {
    /// The same repository under another tag.
    pub fn with_tag(&self, tag: Tag) -> Name {
        Name { tag, ..self.clone() }
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::RefInvalid, "not a full image name")
                .got(format_args!("{text:?}"))
                .expected("registry/repository:tag")
        };
        let (registry, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (repository, tag) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let part = |_| wrong();
        Ok(Name {
            registry: registry.parse().map_err(part)?,
            repository: repository.parse().map_err(part)?,
            tag: tag.parse().map_err(part)?,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

as_text! { Name: "a full image name (registry/repository:tag)" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_of_names() {
        for good in ["a", "nexus/engine", "a.b/c_d/e__f/g---h", "0/1"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", "../x", "a/../b", "a b",
            "ä",
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
        for good in ["localhost", "127.0.0.1:5000", "[::1]:5000", "[::1]", "Registry.example.com", "x-y.z:1"]
        {
            assert!(is_registry(good), "{good}");
        }
        for bad in [
            "",
            "a:",
            "a:0",
            "a:99999",
            "a:+1",
            "[::1",
            "[::1]x",
            "a..b",
            "-a",
            "user@host",
            "a/b",
            "a?b",
            "a:1:2",
        ] {
            assert!(!is_registry(bad), "{bad}");
        }
        for good in ["2.1.0", "_", "latest", "A-b.c_d"] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", ".a", "-a", "a:b", "a/b", "a b", "ü"] {
            assert!(!is_tag(bad), "{bad}");
        }
    }

    #[test]
    fn full_names_split_at_the_first_slash_and_the_last_colon() {
        let name: Name = "127.0.0.1:5000/nexus/engine:2.1.0".parse().unwrap_or_else(|e| unreachable!("{e}"));
        assert_eq!(
            (name.registry.as_str(), name.repository.as_str(), name.tag.as_str()),
            ("127.0.0.1:5000", "nexus/engine", "2.1.0")
        );
        assert_eq!(name.to_string(), "127.0.0.1:5000/nexus/engine:2.1.0");
        for bad in ["engine:2.1.0", "registry.example.com/engine", "r/e@sha256:00", ""] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
