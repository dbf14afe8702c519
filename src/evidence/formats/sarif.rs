//! SARIF, in which every scanner says differently how bad a vulnerability is. The first of these that is there counts: the
//! result's message (`Severity: HIGH` is Trivy's, `A high vulnerability in …` Grype's); a tag of the rule; the rule's
//! `security-severity`, a CVSS score; the level, of which `error` says no more than high.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::super::json::{self, Fields, Lenient, Reading};
use super::super::report::{Counts, Severity};
use super::State;
use crate::error::{Error, Kind, Result};
use crate::limits;

/// SARIF 2.1.0 §3.14, "run object".
#[derive(Default)]
pub(super) struct Run;

/// The rules of a run, by their names.
#[derive(Default)]
pub(super) struct Rules {
    known: BTreeMap<String, Facts>,
    /// One of them is about vulnerabilities.
    scans: bool,
}

/// What is known of a rule: a vulnerability, mostly.
#[derive(Default)]
struct Facts {
    /// Its results that say how bad they are.
    said: Counts,
    /// Its results that do not.
    silent: u64,
    /// What its own words say.
    severity: Option<Severity>,
    level: Option<Severity>,
    /// It is about something else: a secret, a licence, a setting.
    elsewhere: Option<bool>,
    package: String,
}

/// §3.18, "tool object".
struct Tool;

/// §3.19, "toolComponent object".
#[derive(Default)]
struct Driver {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
    properties: Option<Lenient<Properties>>,
}

#[derive(Deserialize)]
struct Properties {
    tags: Option<Lenient<Vec<String>>>,
    #[serde(rename = "security-severity")]
    score: Option<Score>,
}

/// A CVSS score: a text by GitHub's word, a number by some tools'.
#[derive(Deserialize)]
#[serde(untagged)]
enum Score {
    Number(f64),
    Text(String),
    Other(IgnoredAny),
}

impl Score {
    /// How bad that is. What cannot be read is not passed off as harmless.
    fn severity(&self, id: &str) -> Result<Severity> {
        let score = match self {
            Score::Number(number) => Some(*number),
            Score::Text(text) => text.trim().parse().ok(),
            Score::Other(_) => None,
        };
        let score = score.filter(|score| (0.0..=10.0).contains(score));
        score.map(Severity::scored).ok_or_else(|| {
            Error::new(Kind::DocumentUnsupported, "a security-severity that cannot be read")
                .got(id)
                .expected("a CVSS score, such as \"9.8\"")
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    rule_id: Option<String>,
    rule: Option<Reference>,
    level: Option<String>,
    message: Option<Message>,
    properties: Option<Lenient<Properties>>,
}

#[derive(Deserialize)]
struct Reference {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    image_name: Option<Lenient<String>>,
    #[serde(rename = "imageID")]
    image_id: Option<Lenient<String>>,
    repo_digests: Option<Lenient<Vec<String>>>,
}

impl Fields<State> for Run {
    const KNOWN: &'static [&'static str] = &["tool", "results", "properties"];

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "tool" => json::object(map, reading, Tool),
            "results" => {
                json::each(map, reading, |state: &mut State, outcome: Outcome| state.rules.outcome(outcome))
            }
            _ => {
                if let Some(about) = json::one::<_, About, A>(map, reading)? {
                    reading.state.scans |= about.image_name.is_some() || about.image_id.is_some();
                    let About { image_name, image_id, repo_digests } = about;
                    let one = |text: Option<Lenient<String>>| text.and_then(|text| text.0);
                    let texts = one(image_name).into_iter().chain(one(image_id));
                    let digests = repo_digests.and_then(|digests| digests.0).into_iter().flatten();
                    texts.chain(digests).for_each(|text| reading.state.names(&text));
                }
                Ok(())
            }
        }
    }

    fn done(self, state: &mut State) -> Result<()> {
        let rules = std::mem::take(&mut state.rules);
        state.scans |= rules.scans;
        for (id, facts) in rules.known.into_iter().filter(|(_, facts)| facts.elsewhere != Some(true)) {
            let Facts { said, silent, severity, level, package, .. } = facts;
            let otherwise = severity.or(level).unwrap_or(Severity::Unknown);
            for kind in Severity::ALL {
                let number = said.of(kind).saturating_add(if kind == otherwise { silent } else { 0 });
                if number > 0 {
                    state.counts.add(kind, number);
                    state.worst.keep(kind, &id, &package);
                }
            }
        }
        Ok(())
    }
}

impl Fields<State> for Tool {
    const KNOWN: &'static [&'static str] = &["driver", "extensions"];

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "driver" => json::object(map, reading, Driver::default()),
            _ => json::list::<_, Driver, A>(map, reading),
        }
    }
}

impl Fields<State> for Driver {
    const KNOWN: &'static [&'static str] = &["name", "version", "rules"];

    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<State>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "name" => self.name = json::one(map, reading)?,
            "version" => self.version = json::one(map, reading)?,
            _ => json::each(map, reading, |state: &mut State, rule: Rule| state.rules.rule(rule))?,
        }
        Ok(())
    }

    fn done(self, state: &mut State) -> Result<()> {
        state.scans |= self.name.as_deref().is_some_and(is_scanner);
        if state.tool.is_empty() {
            state.tool = [self.name, self.version].into_iter().flatten().collect::<Vec<_>>().join(" ");
        }
        Ok(())
    }
}

impl Rules {
    fn facts(&mut self, id: &str) -> Result<&mut Facts> {
        if self.known.len() >= limits::SARIF_RULES && !self.known.contains_key(id) {
            return Err(Error::new(Kind::LimitExceeded, "a report has too many rules")
                .expected(format_args!("at most {}", limits::SARIF_RULES)));
        }
        if id.len() > limits::SARIF_RULE {
            return Err(Error::new(Kind::LimitExceeded, "a rule's name is too long")
                .expected(format_args!("at most {} bytes", limits::SARIF_RULE)));
        }
        Ok(self.known.entry(id.to_owned()).or_default())
    }

    fn rule(&mut self, rule: Rule) -> Result<()> {
        let facts = self.facts(&rule.id)?;
        let Some(Properties { tags, score }) = rule.properties.and_then(|properties| properties.0) else {
            return Ok(());
        };
        let tags = tags.and_then(|tags| tags.0).unwrap_or_default();
        let scored = score.map(|score| score.severity(&rule.id)).transpose()?;
        let other = |tag: &String| ["misconfiguration", "secret", "license"].contains(&tag.as_str());
        // What has a score is a vulnerability, whatever else it is called.
        let elsewhere = scored.is_none() && tags.iter().any(other);
        facts.elsewhere = Some(facts.elsewhere.unwrap_or(true) && elsewhere);
        // Where several words are said, the worst counts.
        for severity in tags.iter().filter_map(|tag| Severity::named(tag)).chain(scored) {
            facts.severity = facts.severity.max_severe(severity);
        }
        self.scans |= scored.is_some() || tags.iter().any(|tag| tag == "vulnerability" || tag == "security");
        Ok(())
    }

    fn outcome(&mut self, outcome: Outcome) -> Result<()> {
        let Outcome { rule_id, rule, level, message, properties } = outcome;
        let id = super::required(rule_id.or_else(|| rule?.id), "a result's ruleId")?;
        let text = message.and_then(|message| message.text).unwrap_or_default();
        let own = properties.and_then(|properties| properties.0).and_then(|own| own.score);
        let own = own.map(|score| score.severity(&id)).transpose()?;
        self.scans |= own.is_some();
        let facts = self.facts(&id)?;
        if let Some(own) = own {
            facts.severity = facts.severity.max_severe(own);
        }
        match in_words(&text) {
            Some(severity) => facts.said.add(severity, 1),
            None => facts.silent = facts.silent.saturating_add(1),
        }
        if facts.package.is_empty() {
            let package = text.lines().find_map(|line| line.strip_prefix("Package: "));
            facts.package = package.unwrap_or_default().chars().take(128).collect();
        }
        // SARIF 2.1.0 §3.27.10: "warning" where nothing is said.
        facts.level = facts.level.max_severe(match level.as_deref() {
            Some("error") => Severity::High,
            None | Some("warning") => Severity::Medium,
            Some("note") => Severity::Low,
            Some(_) => Severity::Unknown,
        });
        Ok(())
    }
}

/// Whether a tool is one that looks for vulnerabilities, by its name.
fn is_scanner(tool: &str) -> bool {
    const KNOWN: [&str; 9] =
        ["trivy", "grype", "snyk", "clair", "anchore", "scout", "osv-scanner", "xray", "sysdig"];
    let tool = tool.to_lowercase();
    KNOWN.iter().any(|known| tool.contains(known))
}

/// The worse of two.
trait Severe {
    fn max_severe(self, other: Severity) -> Self;
}

impl Severe for Option<Severity> {
    fn max_severe(self, other: Severity) -> Self {
        Some(self.map_or(other, |known| known.min(other)))
    }
}

/// How bad a message says that it is.
fn in_words(text: &str) -> Option<Severity> {
    let line = text.lines().find_map(|line| line.strip_prefix("Severity: "));
    let sentence = || {
        let rest = text.strip_prefix("A ").or_else(|| text.strip_prefix("An "))?;
        let (word, rest) = rest.split_once(' ')?;
        rest.starts_with("vulnerability").then_some(word)
    };
    line.or_else(sentence).and_then(|word| Severity::named(word.trim()))
}
