//! What is typed and printed about accounts: the audit log and receipts.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{AuditArgs, LogArgs};
use super::{Passphrases, report};
use crate::audit::{self, Checked, Claims, Event, Line, Placed, Who};
use crate::error::{Error, Kind, Result, printable};
use crate::release::Tier;
use crate::verbs::account::{Account, asks_for_log};
use crate::verbs::receipt::Filing;

/// The account of a run; none is kept of one that changes nothing.
pub fn open(args: &LogArgs, action: &str, dry_run: bool) -> Result<Account> {
    let log = args.audit_log.as_deref().filter(|_| !dry_run);
    Account::open(log, &who(), action, report::say)
}

/// Requires that the log is a file of its own: what a run writes or reads may not be put in its place, nor the log
/// into it.
///
/// # Errors
/// `Usage`, before anything is made.
pub fn apart<'a>(args: &LogArgs, others: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let Some(log) = &args.audit_log else { return Ok(()) };
    match others.into_iter().find(|other| !other.as_os_str().is_empty() && is_same(log, other)) {
        Some(other) => Err(Error::new(Kind::Usage, "the audit log is one of the command's other files")
            .at(log.display())
            .got(other.display())
            .hint("give the log a file of its own; it is only ever added to")),
        None => Ok(()),
    }
}

/// Whether two paths lead to one file, which need not be there.
fn is_same(one: &Path, other: &Path) -> bool {
    let node = |path: &Path| std::fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()));
    let place = |path: &Path| {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((directory.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    let same_place = place(one).is_some_and(|there| Some(there) == place(other));
    same_place || node(one).is_some_and(|there| Some(there) == node(other))
}

/// The run is over: a failure is written down, too. It stays the failure that is told, whatever becomes of that.
pub fn closed<T>(account: &Account, result: Result<T>) -> Result<T> {
    if let Err(error) = &result
        && let Err(second) = account.failed(error)
    {
        report::say(&format!("the failure is not in the audit log: {second}"));
    }
    result
}

/// Says in a dry run what will be asked for.
pub fn remark(tier: Tier) {
    if asks_for_log(tier) {
        report::say(&format!("the tier {tier} asks for --audit-log FILE; a dry run does not"));
    }
}

/// Whom the environment names: sudo(8), doas(1), ssh(1).
fn who() -> Who {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let from = said("SSH_CONNECTION").and_then(|text| text.split(' ').next().map(str::to_owned));
    Who::here(Claims { behalf: said("SUDO_USER").or_else(|| said("DOAS_USER")), from })
}

/// `audit`.
pub fn audit_verb(args: &AuditArgs) -> Result<()> {
    let noted = args.head.as_deref().map(str::parse).transpose()?;
    let checked = audit::check(&args.log, noted.as_ref())?;
    match args.json {
        true => print_json(&args.log, &checked),
        false => print_history(&args.log, &checked),
    }
}

fn print_json(path: &Path, checked: &Checked) -> Result<()> {
    let head = json!({
        "head": checked.head, "lines": checked.lines, "bytes": checked.bytes, "torn": checked.torn,
        "unfinished": checked.open, "notedLine": checked.noted,
    });
    // The lines as they stand, one by one: a log may be larger than the memory.
    let head = head.to_string();
    let (front, _) = head.rsplit_once('}').unwrap_or((&head, ""));
    report::out(&format!("{front},\"log\":[\n"))?;
    let mut first = true;
    audit::lines(path, checked, |line, digest| {
        let text = json!({ "digest": digest, "line": line }).to_string();
        let comma = if std::mem::take(&mut first) { "" } else { ",\n" };
        report::out(&format!("{comma}{text}"))
    })?;
    report::out("\n]}\n")
}

/// Widths of the columns: a log is printed while it is read.
const WIDTHS: [usize; 5] = [20, 24, 12, 24, 12];

fn row(cells: [&str; 6]) -> String {
    let padded = cells.iter().enumerate().map(|(number, cell)| match WIDTHS.get(number) {
        Some(width) => format!("{:width$}", printable(cell)),
        None => printable(cell).into_owned(),
    });
    format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
}

fn print_history(path: &Path, checked: &Checked) -> Result<()> {
    report::out(&row(["TIME", "WHO", "WHAT", "RELEASE", "BUNDLE", "OUTCOME"]))?;
    audit::lines(path, checked, |line, _| match line.event {
        Event::Begin if checked.open.contains_key(&line.run) => {
            report::out(&entry(line, "began, and never ended"))
        }
        Event::Begin => Ok(()),
        Event::Placed => report::out(&places(&line.images)),
        Event::Torn => report::out(&entry(line, &torn(line))),
        Event::End => {
            report::out(&entry(line, &outcome(line)))?;
            report::out(&places(&line.images))
        }
    })?;
    report::out(&summary(path, checked))
}

fn entry(line: &Line, outcome: &str) -> String {
    let release = line.release.as_ref().map(|release| format!("{} {}", release.name, release.version));
    let bundle = line.bundle.map(|digest| digest.hex().chars().take(12).collect::<String>());
    let text = row([
        &line.time.to_string(),
        &line.who.shown(),
        &line.action,
        &release.unwrap_or_else(|| "–".to_owned()),
        &bundle.unwrap_or_else(|| "–".to_owned()),
        outcome,
    ]);
    match (&line.source, &line.destination) {
        (Some(source), Some(to)) => format!("{text}  {} → {}\n", printable(source), printable(to)),
        (Some(one), None) | (None, Some(one)) => format!("{text}  {}\n", printable(one)),
        (None, None) => text,
    }
}

fn outcome(line: &Line) -> String {
    let word = line.outcome.map_or("–", |outcome| outcome.word());
    match &line.error {
        Some(error) => format!("{word}: {} [{}]", error.message, error.kind),
        None => word.to_owned(),
    }
}

fn torn(line: &Line) -> String {
    let bytes = line.torn.as_ref().map_or(0, |torn| torn.bytes);
    format!("the line before was broken off after {bytes} bytes")
}

fn places(images: &[Placed]) -> String {
    let names = images.iter().flat_map(|image| image.names.iter().map(move |name| (name, image.digest)));
    names.map(|(name, digest)| format!("    {} {digest}\n", printable(name))).collect()
}

fn summary(path: &Path, checked: &Checked) -> String {
    let mut text = format!(
        "{}: {}, each written after the one before it\n",
        printable(&path.to_string_lossy()),
        report::count(usize::try_from(checked.lines).unwrap_or(usize::MAX), "line")
    );
    if checked.torn > 0 {
        text += &format!("{} broken off, and closed by the next one\n", checked.torn);
    }
    for line in checked.open.values() {
        text += &format!(
            "the run that began in line {line} never said how it ended: it was killed, or still runs\n"
        );
    }
    if let (Some(noted), lines) = (checked.noted, checked.lines) {
        let since = lines.saturating_sub(noted);
        text += &format!("the line that was noted is line {noted}; {since} were added since\n");
    }
    match checked.head {
        Some(head) => {
            text += &format!(
                "head {head}   note it elsewhere: --head tells later whether the log was cut short\n"
            )
        }
        None => text += "the log is empty\n",
    }
    text
}

/// The receipt that an import writes.
pub fn filing(path: Option<PathBuf>, key: Option<&Path>, passphrase: Option<PathBuf>) -> Result<Filing> {
    let key = key.map(|key| Passphrases::new(passphrase).open(key)).transpose()?;
    Ok(Filing { path, key, host: who().host })
}
