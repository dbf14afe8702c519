//! Platforms: `os/architecture[/variant]`, compared the way container runtimes compare them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// An operating system, a CPU architecture and possibly its variant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// From the fields of an index entry or an image config. `None` where a field cannot be part of
    /// a platform's name.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let variant = variant.filter(|v| !v.is_empty());
        let fit = |part: &str| {
            !part.is_empty()
                && part.len() <= 64
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        (fit(os) && fit(architecture) && variant.is_none_or(fit)).then(|| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }

    /// Whether `other` runs where this one is asked for: `linux/arm64` and `linux/arm64/v8` are
    /// one platform, `linux/arm` means `linux/arm/v7` (containerd's `platforms.Normalize`).
    pub fn matches(&self, other: &Platform) -> bool {
        self.normal() == other.normal()
    }

    /// Whether operating system and architecture are the same, whatever the variants.
    pub fn same_machine(&self, other: &Platform) -> bool {
        let (this, other) = (self.normal(), other.normal());
        (this.0, this.1) == (other.0, other.1)
    }

    /// Whether this is the `unknown/unknown` that attestations carry.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    fn normal(&self) -> (&str, &str, &str) {
        let variant = self.variant.as_deref().unwrap_or_default();
        let (architecture, variant) = match (self.architecture.as_str(), variant) {
            ("aarch64", v) => ("arm64", v),
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("armhf", "") => ("arm", "v7"),
            ("armel", "") => ("arm", "v6"),
            named => named,
        };
        let variant = match (architecture, variant) {
            ("arm64", "8" | "v8") | ("amd64", "v1") => "",
            ("arm", "" | "7") => "v7",
            ("arm", "5") => "v5",
            ("arm", "6") => "v6",
            ("arm", "8") => "v8",
            (_, variant) => variant,
        };
        (&self.os, architecture, variant)
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        let platform = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), None, None) => Platform::new(os, architecture, None),
            (Some(os), Some(architecture), Some(variant), None) if !variant.is_empty() => {
                Platform::new(os, architecture, Some(variant))
            }
            _ => None,
        };
        platform.ok_or_else(|| {
            Error::new(Kind::Usage, "not a platform")
                .got(text)
                .expected("os/architecture or os/architecture/variant, such as linux/arm/v7")
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

as_text! { Platform: "a platform (os/architecture or os/architecture/variant, such as linux/arm/v7)" }
