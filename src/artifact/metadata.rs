//! `Chart.yaml`, as helm reads it and writes it into a chart's config: the fields that helm knows, in its order.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Name, fold};

/// What helm knows of a chart. Fields stand in helm's order, and are left out as helm leaves them out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    home: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keywords: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    maintainers: Vec<Maintainer>,
    #[serde(skip_serializing_if = "String::is_empty")]
    icon: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    condition: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tags: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    app_version: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deprecated: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    kube_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<Dependency>,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    kind: String,
}

#[derive(Debug, Serialize)]
struct Maintainer {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    email: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
}

#[derive(Debug, Serialize)]
struct Dependency {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    repository: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    condition: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    enabled: bool,
    #[serde(rename = "import-values", skip_serializing_if = "Vec::is_empty")]
    import_values: Vec<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    alias: String,
}

/// Keys of annotations that follow from the chart alone.
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";

impl Metadata {
    /// Understands a `Chart.yaml`; `path` is the archive that it lies in.
    pub fn parse(path: &Path, yaml: &[u8]) -> Result<Self> {
        let place = format!("{}: Chart.yaml", path.display());
        let chart = Fields::parse(yaml).and_then(|fields| fields.metadata()).map_err(|e| e.at(&place))?;
        chart.check().map_err(|e| e.at(place))?;
        Ok(chart)
    }

    /// What helm asks of a chart that it loads.
    fn check(&self) -> Result<()> {
        if matches!(self.name.as_str(), "" | "." | "..") || self.name.contains('/') {
            return Err(wrong("not a chart's name").got(format_args!("{:?}", self.name)));
        }
        if !is_version(&self.version) {
            return Err(wrong("not a chart's version")
                .got(format_args!("{:?}", self.version))
                .expected("a semantic version, such as \"2.1.0\""));
        }
        match self.kind.as_str() {
            "" | "application" | "library" => Ok(()),
            other => Err(wrong("not a chart's type").got(other).expected("application or library")),
        }
    }

    /// Whether the chart can lie under this name: helm asks for the chart's name and version, and for nothing else.
    pub fn check_name(&self, name: &Name) -> Result<()> {
        let repository = name.repository.as_str();
        let last = repository.rsplit('/').next().unwrap_or(repository);
        if last != self.name {
            let whole = repository.strip_suffix(last).unwrap_or_default();
            return Err(Error::new(
                Kind::ManifestInvalid,
                "the repository's last part is not the chart's name",
            )
            .at(name)
            .got(last)
            .expected(&self.name)
            .hint(format_args!("helm asks for it there: repository = \"{whole}{}\"", self.name)));
        }
        let tag = super::chart::tag(&self.version);
        if name.tag.as_str() != tag {
            return Err(Error::new(Kind::ManifestInvalid, "the version is not the chart's")
                .at(name)
                .got(&name.tag)
                .expected(tag)
                .hint(format_args!(
                    "version = \"{}\", or package the chart anew: helm package --version",
                    self.version
                )));
        }
        Ok(())
    }

    /// The bytes of the config. helm's encoder writes three characters so that they are safe within HTML.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string(self).map_err(|e| wrong("the config cannot be written").got(e))?;
        let mut safe = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe += &format!("\\u{:04x}", u32::from(c)),
                c => safe.push(c),
            }
        }
        Ok(safe.into_bytes())
    }

    /// The manifest's annotations as helm writes them, but for the time at which it was pushed: the same chart
    /// makes the same artifact.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut add = |key: &str, value: &str| {
            if !value.trim().is_empty() {
                found.insert(key.to_owned(), value.to_owned());
            }
        };
        add("org.opencontainers.image.description", &self.description);
        add(TITLE, &self.name);
        add(VERSION, &self.version);
        add("org.opencontainers.image.url", &self.home);
        add("org.opencontainers.image.source", self.sources.first().map_or("", String::as_str));
        add("org.opencontainers.image.authors", &self.authors());
        let own = self.annotations.iter().filter(|(key, _)| *key != TITLE && *key != VERSION);
        found.extend(own.map(|(key, value)| (key.clone(), value.clone())));
        found
    }

    fn authors(&self) -> String {
        let author = |one: &Maintainer| match one.email.as_str() {
            "" => one.name.clone(),
            email => format!("{} ({email})", one.name),
        };
        self.maintainers.iter().map(author).collect::<Vec<_>>().join(", ")
    }
}

/// An object of the file. What is none of helm's fields is not looked at.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(yaml: &[u8]) -> Result<Self> {
        let yaml = yaml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(yaml);
        let text = std::str::from_utf8(yaml).map_err(|_| wrong("not UTF-8 text"))?;
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: limits::CHART_NODES,
                max_nodes: limits::CHART_NODES,
                max_aliases: 100,
                max_anchors: 100,
                max_recorded_anchor_events: limits::CHART_NODES,
                max_recorded_anchor_bytes: limits::CHART_YAML as usize,
                max_total_scalar_bytes: limits::CHART_YAML as usize,
                max_depth: 32,
                max_documents: 1,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: limits::CHART_NODES,
                max_replay_stack_depth: 8,
                max_alias_expansions_per_anchor: 100,
            },
            with_snippet: false,
        };
        match serde_saphyr::from_str_with_options(text, options) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(wrong("not a list of fields and their values")),
            Err(e) => Err(wrong("not the YAML of a chart").got(e)),
        }
    }

    fn metadata(mut self) -> Result<Metadata> {
        let api_version = self.text("apiVersion")?;
        let metadata = Metadata {
            name: self.text("name")?,
            home: self.text("home")?,
            sources: self.texts("sources")?,
            // Not cleaned: it must be what it is.
            version: self.scalar("version")?,
            description: self.text("description")?,
            keywords: self.texts("keywords")?,
            maintainers: self.objects("maintainers", Fields::maintainer)?,
            icon: self.text("icon")?,
            // Charts of helm 2 need not say theirs.
            api_version: if api_version.is_empty() { "v1".to_owned() } else { api_version },
            condition: self.text("condition")?,
            tags: self.text("tags")?,
            app_version: self.text("appVersion")?,
            deprecated: self.flag("deprecated")?,
            annotations: self.pairs("annotations")?,
            kube_version: self.text("kubeVersion")?,
            dependencies: self.objects("dependencies", Fields::dependency)?,
            kind: self.scalar("type")?,
        };
        self.check_rest(&[
            "apiVersion",
            "name",
            "home",
            "sources",
            "version",
            "description",
            "keywords",
            "maintainers",
            "icon",
            "condition",
            "tags",
            "appVersion",
            "deprecated",
            "annotations",
            "kubeVersion",
            "dependencies",
            "type",
        ])?;
        Ok(metadata)
    }

    /// helm reads `Version` and `verſion` for `version`: what is left may not look like what was taken.
    fn check_rest(&self, known: &[&str]) -> Result<()> {
        let taken = |key: &&String| known.iter().any(|known| fold(known) == fold(key));
        match self.0.keys().find(taken) {
            Some(key) => Err(wrong("a key that helm takes for another").got(format_args!("{key:?}"))),
            None => Ok(()),
        }
    }

    fn maintainer(mut self) -> Result<Maintainer> {
        let maintainer =
            Maintainer { name: self.text("name")?, email: self.text("email")?, url: self.text("url")? };
        self.check_rest(&["name", "email", "url"])?;
        Ok(maintainer)
    }

    fn dependency(mut self) -> Result<Dependency> {
        let dependency = Dependency {
            name: self.text("name")?,
            version: self.text("version")?,
            repository: self.text("repository")?,
            condition: self.text("condition")?,
            tags: self.texts("tags")?,
            enabled: self.flag("enabled")?,
            import_values: self.list("import-values")?,
            alias: self.scalar("alias")?,
        };
        self.check_rest(&[
            "name",
            "version",
            "repository",
            "condition",
            "tags",
            "enabled",
            "import-values",
            "alias",
        ])?;
        Ok(dependency)
    }

    /// A text, as helm cleans it.
    fn text(&mut self, key: &str) -> Result<String> {
        self.scalar(key).map(|text| clean(&text))
    }

    fn scalar(&mut self, key: &str) -> Result<String> {
        self.0.remove(key).map_or(Ok(String::new()), |value| scalar(key, value))
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(misfit(key, &other, "true or false")),
        }
    }

    fn list(&mut self, key: &str) -> Result<Vec<Value>> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(misfit(key, &other, "a list")),
        }
    }

    fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        self.list(key)?.into_iter().map(|value| scalar(key, value).map(|text| clean(&text))).collect()
    }

    fn pairs(&mut self, key: &str) -> Result<BTreeMap<String, String>> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(BTreeMap::new()),
            Some(Value::Object(pairs)) => {
                pairs.into_iter().map(|(name, value)| Ok((name, scalar(key, value)?))).collect()
            }
            Some(other) => Err(misfit(key, &other, "names and their texts")),
        }
    }

    fn objects<T>(&mut self, key: &str, read: fn(Fields) -> Result<T>) -> Result<Vec<T>> {
        let object = |value| match value {
            Value::Object(fields) => read(Fields(fields)),
            other => Err(misfit(key, &other, "a list of objects")),
        };
        self.list(key)?.into_iter().map(object).collect()
    }
}

/// helm takes numbers for texts, in the shortest form that they have: a version 1.10 without quotes is 1.1.
fn scalar(key: &str, value: Value) -> Result<String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => Ok(number.to_string()),
            None => Ok(number.to_string()),
        },
        other => Err(misfit(key, &other, "a text")),
    }
}

/// White space becomes a space, and what cannot be seen goes.
fn clean(text: &str) -> String {
    let seen = |c: char| match c {
        c if c.is_whitespace() => Some(' '),
        c if c.is_control() => None,
        c => Some(c),
    };
    text.chars().filter_map(seen).collect()
}

/// Whether helm takes this for a version: one to three numbers, perhaps a `v` before and a pre-release or build behind
/// them (semver.org, items 9 and 10; github.com/Masterminds/semver, `NewVersion`).
fn is_version(text: &str) -> bool {
    let split =
        |text, mark| <str>::split_once(text, mark).map_or((text, None), |(text, rest)| (text, Some(rest)));
    let (text, build) = split(text.strip_prefix('v').unwrap_or(text), '+');
    let (numbers, pre_release) = split(text, '-');
    let identifier =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let padded =
        |text: &str| text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    numbers.split('.').count() <= 3
        && numbers.split('.').all(|number| number.parse::<u64>().is_ok())
        && build.is_none_or(|build| build.split('.').all(identifier))
        && pre_release.is_none_or(|text| text.split('.').all(|part| identifier(part) && !padded(part)))
}

fn misfit(key: &str, got: &Value, expected: &str) -> Error {
    let got = match got {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    };
    wrong("a field of the wrong kind").got(format_args!("{key}: {got}")).expected(expected)
}

fn wrong(what: &str) -> Error {
    Error::new(Kind::DocumentInvalid, what)
}
