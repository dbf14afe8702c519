//! Places as containers-transports(5) writes them, `oci-archive:images.tar:2.1.0`: what such a text begins with,
//! where the images lie, and which of them is meant. This is the only place that knows the words.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Digest;
use crate::error::{Error, Kind, Result};

/// What an address begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `docker://host/path`: a registry.
    Docker,
    /// `oci:DIR`: an image layout in a directory.
    Oci,
    /// `oci-archive:FILE`: an image layout in a tar file.
    OciArchive,
    /// `docker-archive:FILE`: what `docker save` writes.
    DockerArchive,
    /// `store:DIR`: the storage of a registry.
    Store,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Transport; 5] = [
        Transport::Docker,
        Transport::Oci,
        Transport::OciArchive,
        Transport::DockerArchive,
        Transport::Store,
    ];

    /// The word for it, with all that separates it from what follows.
    pub fn prefix(self) -> &'static str {
        match self {
            Transport::Docker => "docker://",
            Transport::Oci => "oci:",
            Transport::OciArchive => "oci-archive:",
            Transport::DockerArchive => "docker-archive:",
            Transport::Store => "store:",
        }
    }

    /// The transport that an address names, and what follows; `None` where it names none of these.
    pub fn split(text: &str) -> Option<(Transport, &str)> {
        Transport::ALL
            .into_iter()
            .find_map(|transport| Some((transport, text.strip_prefix(transport.prefix())?)))
    }
}

/// Where images lie as files: `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Files {
    /// One of these three.
    pub transport: Transport,
    /// The directory or the file.
    pub path: PathBuf,
}

impl Files {
    /// The same with a relative path taken from `directory`.
    pub fn below(self, directory: &Path) -> Files {
        Files { path: directory.join(self.path), ..self }
    }

    /// Reads `transport:path[:reference]`; the reference begins behind the first colon of what follows, so a path
    /// has none (containers-transports(5)).
    ///
    /// # Errors
    /// `RefInvalid` for other transports, for an empty path and for an empty reference.
    pub fn parse(text: &str) -> Result<(Files, Option<Pick>)> {
        let wrong = || {
            Error::new(Kind::RefInvalid, "not a place of images")
                .got(format_args!("{text:?}"))
                .expected("oci:DIRECTORY, oci-archive:FILE or docker-archive:FILE, and maybe :REFERENCE")
        };
        let (transport, rest) = Transport::split(text).ok_or_else(wrong)?;
        if matches!(transport, Transport::Docker | Transport::Store) {
            return Err(wrong());
        }
        let (path, reference) = match rest.split_once(':') {
            Some((path, reference)) => (path, Some(reference)),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(wrong());
        }
        let pick = reference.map(Pick::parse).transpose()?;
        Ok((Files { transport, path: path.into() }, pick))
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.transport.prefix(), self.path.display())
    }
}

/// Which of several images is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// The one that is called so there.
    Name(String),
    /// The one with this digest: `@sha256:…`. In a docker archive, which keeps no manifests, it is the config's.
    Digest(Digest),
    /// The one at this place, from 0: `@1`.
    Position(usize),
}

impl Pick {
    fn parse(reference: &str) -> Result<Pick> {
        let wrong = || {
            Error::new(Kind::RefInvalid, "not a reference to an image")
                .got(format_args!("{reference:?}"))
                .expected("a name, @sha256:DIGEST or @NUMBER")
        };
        match reference.strip_prefix('@') {
            None if reference.is_empty() => Err(wrong()),
            None => Ok(Pick::Name(reference.to_owned())),
            Some(digest) if digest.contains(':') => digest.parse().map(Pick::Digest),
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Pick::Position).map_err(|_| wrong())
            }
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pick::Name(name) => f.write_str(name),
            Pick::Digest(digest) => write!(f, "@{digest}"),
            Pick::Position(position) => write!(f, "@{position}"),
        }
    }
}

/// How an image is found where there may be several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// Only under names with a repository: the place may hold several images with equal tags.
    Full,
    /// Under a bare tag as well: the place was named for images of one repository.
    BareTag,
    /// The same, and whatever it is called where it is the only one: the place was named for this image.
    Only,
    /// By what was said of it.
    Picked(Pick),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_where_the_reference_begins() {
        let digest = Digest::of(b"");
        for (text, transport, path, pick) in [
            ("oci:images", Transport::Oci, "images", None),
            ("oci:a/b:1.0", Transport::Oci, "a/b", Some(Pick::Name("1.0".to_owned()))),
            (
                "oci-archive:/x/a.tar:registry.example.com:5000/a/b:1",
                Transport::OciArchive,
                "/x/a.tar",
                Some(Pick::Name("registry.example.com:5000/a/b:1".to_owned())),
            ),
            ("docker-archive:a.tar:@12", Transport::DockerArchive, "a.tar", Some(Pick::Position(12))),
            (&format!("oci:d:@{digest}"), Transport::Oci, "d", Some(Pick::Digest(digest))),
        ] {
            let (files, found) = Files::parse(text).unwrap();
            assert_eq!(
                (files.transport, files.path.as_path(), &found),
                (transport, Path::new(path), &pick),
                "{text}"
            );
            let reference = found.map(|pick| format!(":{pick}")).unwrap_or_default();
            assert_eq!(format!("{files}{reference}"), text);
        }
        for text in [
            "",
            "images",
            "oci",
            "oci:",
            "oci::x",
            "oci:x:",
            "oci:x:@",
            "oci:x:@-1",
            "oci:x:@sha256:00",
            "oci:x:@99999999999999999999999",
            "docker://host/a",
            "store:x",
            "dir:x",
            "OCI:x",
            "oci-archive:",
            "docker-archive::1",
        ] {
            assert!(Files::parse(text).is_err(), "{text}");
        }
    }
}
