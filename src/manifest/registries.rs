//! The places that images are taken from: one registry, or several that are tried in order. Whatever they are, the
//! images keep the name that they have in the first one, or in the `registry` that is named beside them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::Page;
use crate::error::{Error, Kind, Result};
use crate::oci::{Registry, Repository};

/// A registry, and maybe a path in it that repositories lie below: `10.0.0.7:5000/mirror`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its host.
    pub registry: Registry,
    /// What stands before the repositories' own paths.
    pub prefix: Option<Repository>,
}

impl Home {
    /// A repository's full name there.
    pub fn name(&self, repository: &Repository) -> String {
        format!("{self}/{repository}")
    }
}

impl FromStr for Home {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |_| {
            Error::new(Kind::RefInvalid, "not a registry")
                .got(format_args!("{text:?}"))
                .expected("host[:port][/path], such as registry.example.com or 10.0.0.7:5000/mirror")
        };
        let (registry, prefix) = match text.split_once('/') {
            Some((registry, path)) => (registry, Some(path.parse().map_err(wrong)?)),
            None => (text, None),
        };
        Ok(Home { registry: registry.parse().map_err(wrong)?, prefix })
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.registry),
            None => self.registry.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Home {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e.sentence()))
    }
}

/// What is written: a list, which must not be empty.
pub(super) type Registries = Option<Spanned<Vec<Spanned<Home>>>>;

impl Page<'_> {
    /// Where an image is taken from and after which registry it is named; its own words go before the file's.
    pub(super) fn homes(
        &self,
        own: (&Option<Registry>, &Registries),
        file: (&Option<Registry>, &Registries),
    ) -> Result<Option<(Registry, Vec<Home>)>> {
        let list = match own {
            (_, Some(list)) => Some(list),
            (Some(_), None) => None,
            (None, None) => file.1.as_ref(),
        };
        let name = own.0.as_ref().or(file.0.as_ref());
        let Some(list) = list else {
            return Ok(name.map(|name| (name.clone(), vec![Home { registry: name.clone(), prefix: None }])));
        };
        let homes: Vec<Home> = list.get_ref().iter().map(|home| home.get_ref().clone()).collect();
        let Some((first, span)) = list.get_ref().first().map(|home| (home.get_ref(), home.span())) else {
            return Err(self.wrong(
                Some(list.span()),
                "an empty list of registries; leave it out where registry says it",
            ));
        };
        let twice = |(number, home): (usize, &Spanned<Home>)| {
            let before = homes.iter().take(number).any(|other| other == home.get_ref());
            before.then(|| home.span())
        };
        if let Some(span) = list.get_ref().iter().enumerate().find_map(twice) {
            return Err(self.wrong(Some(span), "one registry twice in the list"));
        }
        match (name, &first.prefix) {
            (Some(name), _) => Ok(Some((name.clone(), homes))),
            (None, None) => Ok(Some((first.registry.clone(), homes))),
            (None, Some(_)) => Err(self
                .wrong(
                    Some(span),
                    "images are named after the first registry, and a name has no path of this kind",
                )
                .hint("say what they are called: registry = \"registry.example.com\"")),
        }
    }
}
