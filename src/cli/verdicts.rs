//! What is said of rules: lines and tables for people, JSON, and SARIF for what reads the results of checks.

use serde_json::{Value, json};

use super::report::{count, out, table};
use crate::content::Watch;
use crate::error::{Error, Result, printable};
use crate::oci::Digest;
use crate::policy::{RULES, Verdict, Verdicts};
use crate::rules::{Check, Finding, Outcome, PolicyRecord};
use crate::verbs::check::Checked;

/// Findings of a rule that are shown in a list among other things.
const SHOWN: usize = 5;

/// A line for each rule, and one for each finding.
pub fn lines(verdicts: &Verdicts) -> String {
    let mut text = String::new();
    for verdict in &verdicts.all {
        text += &format!("rule {}: {}\n", verdict.rule.id, verdict.outcome);
        text += &finding_lines(&verdict.findings, verdict.more, SHOWN);
        text += &noted_lines(&verdict.noted);
    }
    text
}

fn noted_lines(noted: &[String]) -> String {
    noted.iter().map(|note| format!("  {}\n", printable(note))).collect()
}

/// The same of what a statement records.
pub fn recorded_lines(checks: &[Check]) -> String {
    let noted = checks.iter().filter(|check| check.result != Outcome::Pass || !check.noted.is_empty());
    noted
        .map(|check| {
            format!(
                "rule {}: {}\n{}{}",
                printable(&check.id),
                check.result,
                finding_lines(&check.findings, check.more, SHOWN),
                noted_lines(&check.noted)
            )
        })
        .collect()
}

/// Says what is broken, waived or ended, before anything is written.
pub fn warn(verdicts: &Verdicts, watch: &dyn Watch) {
    for verdict in verdicts.all.iter().filter(|verdict| verdict.outcome != Outcome::Pass) {
        watch.note(&format!("rule {}: {}", verdict.rule.id, verdict.outcome));
        finding_lines(&verdict.findings, verdict.more, SHOWN).lines().for_each(|line| watch.note(line));
    }
    verdicts.notes.iter().for_each(|note| watch.note(note));
}

fn finding_lines(findings: &[Finding], more: usize, shown: usize) -> String {
    let mut text: String = findings.iter().take(shown).map(finding_line).collect();
    let more = findings.len().saturating_sub(shown).saturating_add(more);
    if more > 0 {
        text += &format!("  and {more} more\n");
    }
    text
}

fn finding_line(finding: &Finding) -> String {
    let (place, got, expected) = (finding.place(), &finding.got, &finding.expected);
    let line = format!("  {}: got {}, expected {}", printable(&place), printable(got), printable(expected));
    match &finding.waived {
        Some(waived) => format!("{line}; waived until {}: {}\n", waived.expires, printable(&waived.reason)),
        None => format!("{line}\n"),
    }
}

/// How a check's result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// SARIF 2.1.0.
    Sarif,
}

/// Rules and what came of them, whoever judged.
struct Judged<'a> {
    profile: String,
    checks: Vec<Line<'a>>,
    notes: &'a [String],
    /// What a site demands and does not get.
    refused: Option<String>,
}

struct Line<'a> {
    id: String,
    origin: &'static str,
    result: Outcome,
    findings: &'a [Finding],
    more: usize,
    noted: &'a [String],
}

impl<'a> Judged<'a> {
    fn now(verdicts: &'a Verdicts) -> Self {
        let line = |Verdict { rule, outcome, findings, more, noted }: &'a Verdict| Line {
            id: rule.id.to_string(),
            origin: rule.origin,
            result: *outcome,
            findings,
            more: *more,
            noted,
        };
        Judged {
            profile: verdicts.profile.to_string(),
            checks: verdicts.all.iter().map(line).collect(),
            notes: &verdicts.notes,
            refused: None,
        }
    }

    fn then(record: &'a PolicyRecord) -> Self {
        let origin =
            |id: &str| RULES.iter().find(|rule| rule.id.to_string() == id).map_or("", |rule| rule.origin);
        let line = |check: &'a Check| Line {
            id: printable(&check.id).into_owned(),
            origin: origin(&check.id),
            result: check.result,
            findings: &check.findings,
            more: check.more,
            noted: &check.noted,
        };
        Judged {
            profile: printable(&record.profile).into_owned(),
            checks: record.checks.iter().map(line).collect(),
            notes: &[],
            refused: None,
        }
    }
}

/// What `check` prints of rules that it judged.
pub fn judged(verdicts: &Verdicts, place: &str, form: Form) -> Result<()> {
    print(&Judged::now(verdicts), place, form)
}

/// What `check` prints of a bundle: what came of other rules, or what was judged when it was made; and that it is not
/// what a site demands.
pub fn checked(checked: &Checked, refused: Option<&Error>, place: &str, form: Form) -> Result<()> {
    let judged = checked.verdicts.as_ref().map_or_else(|| Judged::then(&checked.record), Judged::now);
    print(&Judged { refused: refused.map(Error::sentence), ..judged }, place, form)
}

fn print(judged: &Judged<'_>, place: &str, form: Form) -> Result<()> {
    match form {
        Form::Table => out(&as_table(judged)),
        Form::Json => super::report::json_out(&as_json(judged)),
        Form::Sarif => super::report::json_out(&as_sarif(judged, place)),
    }
}

fn as_table(judged: &Judged<'_>) -> String {
    let mut rows = vec![["RULE", "RESULT", "FROM"].map(str::to_owned).to_vec()];
    rows.extend(
        judged
            .checks
            .iter()
            .map(|line| vec![line.id.clone(), line.result.to_string(), line.origin.to_owned()]),
    );
    let mut text = table(&rows);
    for line in judged.checks.iter().filter(|line| !line.findings.is_empty() || !line.noted.is_empty()) {
        text += &format!("\n{}: {}\n", line.id, line.result);
        text += &finding_lines(line.findings, line.more, usize::MAX);
        text += &noted_lines(line.noted);
    }
    let counted = |outcome| judged.checks.iter().filter(|line| line.result == outcome).count();
    let (fail, warn, waived) = (counted(Outcome::Fail), counted(Outcome::Warn), counted(Outcome::Waived));
    let rules = count(judged.checks.len(), "rule");
    text +=
        &format!("\nprofile {}: {rules} judged, {fail} fail, {warn} warn, {waived} waived\n", judged.profile);
    for note in judged.notes {
        text += &format!("note: {}\n", printable(note));
    }
    text
}

/// As JSON: what the statement records, and where each rule comes from.
pub fn json(verdicts: &Verdicts) -> Value {
    as_json(&Judged::now(verdicts))
}

fn as_json(judged: &Judged<'_>) -> Value {
    let check = |line: &Line<'_>| {
        let mut check = json!({
            "id": line.id, "result": line.result, "origin": line.origin, "findings": line.findings,
        });
        if let (1.., Some(check)) = (line.more, check.as_object_mut()) {
            check.insert("more".to_owned(), line.more.into());
        }
        if let (false, Some(check)) = (line.noted.is_empty(), check.as_object_mut()) {
            check.insert("noted".to_owned(), json!(line.noted));
        }
        check
    };
    json!({
        "profile": judged.profile,
        "checks": judged.checks.iter().map(check).collect::<Vec<_>>(),
        "notes": judged.notes,
    })
}

/// As the Static Analysis Results Interchange Format has it (OASIS, SARIF 2.1.0). Code hosts show no result without a
/// region, and take results of one fingerprint for one.
fn as_sarif(judged: &Judged<'_>, place: &str) -> Value {
    let rules = RULES.iter().map(|rule| {
        json!({
            "id": rule.id,
            "shortDescription": { "text": rule.id.about() },
            "fullDescription": { "text": format!("{} ({})", rule.id.about(), rule.origin) },
            "help": { "text": rule.hint },
        })
    });
    let result = |id: &str, level: &str, at: &str, text: &str| {
        json!({
            "ruleId": id,
            "level": level,
            "message": { "text": printable(text) },
            "locations": [{
                "physicalLocation": { "artifactLocation": { "uri": uri(place) }, "region": { "startLine": 1 } },
                "logicalLocations": [{ "fullyQualifiedName": at }],
            }],
            "partialFingerprints": { "finding/v1": Digest::of(format!("{id}\n{at}\n{text}").as_bytes()) },
        })
    };
    let mut results = Vec::new();
    for line in &judged.checks {
        let level = if line.result == Outcome::Warn { "warning" } else { "error" };
        for finding in line.findings {
            let text = format!("{}: got {}, expected {}", finding.place(), finding.got, finding.expected);
            let level = if finding.waived.is_some() { "note" } else { level };
            let mut told = result(&line.id, level, &finding.place(), &text);
            if let (Some(waived), Some(told)) = (&finding.waived, told.as_object_mut()) {
                let justification = format!("{} (until {})", waived.reason, waived.expires);
                let accepted =
                    json!([{ "kind": "external", "status": "accepted", "justification": justification }]);
                told.insert("suppressions".to_owned(), accepted);
            }
            results.push(told);
        }
        if line.more > 0 {
            results.push(result(&line.id, level, "more", &format!("and {} more", line.more)));
        }
    }
    results.extend(
        judged.refused.iter().map(|refused| result("require-policy", "error", "the bundle", refused)),
    );
    let notes = judged.notes.iter().map(|note| json!({ "message": { "text": printable(note) } }));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "sealift", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Vec<_>>(),
            } },
            "invocations": [{
                "executionSuccessful": true, "toolExecutionNotifications": notes.collect::<Vec<_>>(),
            }],
            "results": results,
        }],
    })
}

/// A path as a relative reference (RFC 3986, §4.2).
fn uri(path: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(path, KEPT).to_string()
}
