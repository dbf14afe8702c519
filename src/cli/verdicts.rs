//! What is said of rules: lines and tables for people, JSON, and SARIF for what reads the results of checks.

use serde_json::{Value, json};

use super::report::{count, out, say, table};
use crate::error::{Result, printable};
use crate::policy::{RULES, Verdict, Verdicts};
use crate::rules::{Check, Finding, Outcome};

/// Findings of a rule that are shown in a list among other things.
const SHOWN: usize = 5;

/// A line for each rule, and one for each finding.
pub fn lines(verdicts: &Verdicts) -> String {
    let mut text = String::new();
    for verdict in &verdicts.all {
        text += &format!("rule {}: {}\n", verdict.rule.id, verdict.outcome);
        text += &finding_lines(&verdict.findings, 0, SHOWN);
    }
    text
}

/// The same of what a statement records.
pub fn recorded_lines(checks: &[Check]) -> String {
    let noted = checks.iter().filter(|check| check.result != Outcome::Pass);
    noted
        .map(|check| {
            format!(
                "rule {}: {}\n{}",
                printable(&check.id),
                check.result,
                finding_lines(&check.findings, check.more, SHOWN)
            )
        })
        .collect()
}

/// Says what is broken, waived or ended, before anything is written.
pub fn warn(verdicts: &Verdicts) {
    for verdict in verdicts.all.iter().filter(|verdict| verdict.outcome != Outcome::Pass) {
        say(&format!("rule {}: {}", verdict.rule.id, verdict.outcome));
        say(finding_lines(&verdict.findings, 0, SHOWN).trim_end());
    }
    for note in &verdicts.notes {
        say(&format!("note: {}", printable(note)));
    }
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

/// What `check` prints of a release manifest.
pub fn checked(verdicts: &Verdicts, place: &str, form: Form) -> Result<()> {
    match form {
        Form::Table => out(&as_table(verdicts)),
        Form::Json => super::report::json_out(&json(verdicts)),
        Form::Sarif => super::report::json_out(&sarif(verdicts, place)),
    }
}

fn as_table(verdicts: &Verdicts) -> String {
    let mut rows = vec![["RULE", "RESULT", "WHERE", "GOT", "EXPECTED", "FROM"].map(str::to_owned).to_vec()];
    for Verdict { rule, outcome, findings } in &verdicts.all {
        if findings.is_empty() {
            let cells = [rule.id.to_string(), outcome.to_string()];
            rows.push(cells.into_iter().chain(["", "", "", rule.origin].map(str::to_owned)).collect());
        }
        for (number, finding) in findings.iter().enumerate() {
            let result = match (outcome, &finding.waived) {
                (Outcome::Fail | Outcome::Warn, Some(_)) => Outcome::Waived,
                _ => *outcome,
            };
            let expected = match &finding.waived {
                Some(waived) => {
                    format!("{}; waived until {}: {}", finding.expected, waived.expires, waived.reason)
                }
                None => finding.expected.clone(),
            };
            let cells =
                [finding.place(), finding.got.clone(), expected].map(|text| printable(&text).into_owned());
            let id = if number == 0 { rule.id.to_string() } else { String::new() };
            let origin = if number == 0 { rule.origin } else { "" };
            rows.push([id, result.to_string()].into_iter().chain(cells).chain([origin.to_owned()]).collect());
        }
    }
    let counted = |outcome| verdicts.all.iter().filter(|verdict| verdict.outcome == outcome).count();
    let mut text = table(&rows);
    let (fail, warn, waived) = (counted(Outcome::Fail), counted(Outcome::Warn), counted(Outcome::Waived));
    text += &format!(
        "\nprofile {}: {} judged, {fail} fail, {warn} warn, {waived} waived\n",
        verdicts.profile,
        count(verdicts.all.len(), "rule")
    );
    for note in &verdicts.notes {
        text += &format!("note: {}\n", printable(note));
    }
    text
}

/// As JSON: what the statement records, and where each rule comes from.
pub fn json(verdicts: &Verdicts) -> Value {
    let check = |verdict: &Verdict| {
        json!({
            "id": verdict.rule.id, "result": verdict.outcome, "origin": verdict.rule.origin,
            "findings": verdict.findings,
        })
    };
    json!({
        "profile": verdicts.profile,
        "checks": verdicts.all.iter().map(check).collect::<Vec<_>>(),
        "notes": verdicts.notes,
    })
}

/// As the Static Analysis Results Interchange Format has it (OASIS, SARIF 2.1.0).
fn sarif(verdicts: &Verdicts, place: &str) -> Value {
    let rules = RULES.iter().map(|rule| {
        json!({
            "id": rule.id, "shortDescription": { "text": rule.origin }, "help": { "text": rule.hint },
        })
    });
    let results = verdicts.all.iter().flat_map(|verdict| {
        verdict.findings.iter().map(move |finding| {
            let level = match (verdict.outcome, &finding.waived) {
                (_, Some(_)) => "note",
                (Outcome::Warn, _) => "warning",
                _ => "error",
            };
            let text = format!("{}: got {}, expected {}", finding.place(), finding.got, finding.expected);
            let mut result = json!({
                "ruleId": verdict.rule.id,
                "level": level,
                "message": { "text": printable(&text) },
                "locations": [{
                    "physicalLocation": { "artifactLocation": { "uri": uri(place) } },
                    "logicalLocations": [{ "fullyQualifiedName": finding.place() }],
                }],
            });
            if let (Some(waived), Some(result)) = (&finding.waived, result.as_object_mut()) {
                let suppression = json!([{
                    "kind": "external", "status": "accepted",
                    "justification": format!("{} (until {})", waived.reason, waived.expires),
                }]);
                result.insert("suppressions".to_owned(), suppression);
            }
            result
        })
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "sealift", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Vec<_>>(),
            } },
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

/// A path as a relative reference (RFC 3986, §4.2).
fn uri(path: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(path, KEPT).to_string()
}
