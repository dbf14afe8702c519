//! What an image config says of how its program runs (image-spec config.md, "Properties"; `Healthcheck` is Docker's).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// See the module's text. What a config does not say is empty.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whom it runs as: `user`, `uid`, `user:group`, …
    pub user: String,
    /// The exposed ports, as `8000/tcp`.
    pub ports: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// What is started.
    pub entrypoint: Vec<String>,
    /// Its arguments, or what is started where there is no entrypoint.
    pub cmd: Vec<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// How it is found to be well.
    pub healthcheck: Vec<String>,
    /// The commands that made it, and what is said of them.
    pub history: Vec<String>,
}

impl Settings {
    /// Parses verified bytes of an image config. Null is nothing, as Docker writes it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Execution {
            user: Option<String>,
            exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
            env: Option<Vec<String>>,
            entrypoint: Option<Vec<String>>,
            cmd: Option<Vec<String>>,
            labels: Option<BTreeMap<String, Option<String>>>,
            healthcheck: Option<Healthcheck>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Healthcheck {
            test: Option<Vec<String>>,
        }
        #[derive(Deserialize)]
        struct Step {
            created_by: Option<String>,
            comment: Option<String>,
        }
        #[derive(Deserialize)]
        struct View {
            config: Option<Execution>,
            history: Option<Vec<Step>>,
        }
        let view: View = serde_json::from_slice(bytes)
            .map_err(|e| Error::new(Kind::DocumentInvalid, "not a valid image config").got(e))?;
        let config = view.config.unwrap_or_default();
        let labels = config.labels.into_iter().flatten();
        let history = view.history.into_iter().flatten();
        Ok(Settings {
            user: config.user.unwrap_or_default(),
            ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
            env: config.env.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            // Go reads null as an empty text.
            labels: labels.map(|(name, value)| (name, value.unwrap_or_default())).collect(),
            healthcheck: config.healthcheck.and_then(|check| check.test).unwrap_or_default(),
            history: history.flat_map(|step| [step.created_by, step.comment]).flatten().collect(),
        })
    }

    /// All that is started, in one list.
    pub fn command(&self) -> Vec<&str> {
        self.entrypoint.iter().chain(&self.cmd).map(String::as_str).collect()
    }
}
