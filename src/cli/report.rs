//! What is said at the end: tables and JSON on standard output, failures on standard error.
//!
//! The wording: plain sentences in the present or past tense, no exclamation marks, what was done
//! before how; numbers with units; a failure says what, where, got, expected, then a hint.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::bundle::Statement;
use crate::error::{Error, Kind, Result, printable};
use crate::manifest::belongs_to_all;
use crate::oci::{Digest, Name};
use crate::plan::{Image, Omitted, Plan, Share};
use crate::release::Moment;
use crate::rules::PolicyRecord;
use crate::server::{Certificate, Line};
use crate::store::{Checked, Finding, Removed, Swept};
pub(crate) use crate::text::bytes;
use crate::trust::{Keyring, Listed, Quorum};
use crate::verbs::export::{Exported, Prepared};
use crate::verbs::import::Receipt;
use crate::verbs::inspect::{Inspection, SignerRecord};
use crate::verbs::key::NewKey;
use crate::verbs::sign::Signed;
use crate::verbs::sparse::Became;
use crate::verbs::trust::Update;

use super::verdicts;

/// Writes to standard output. A reader that went away (`| head`) has seen enough: no failure.
pub fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("cannot write", "standard output", &e))
        }
        _ => Ok(()),
    }
}

/// Writes a line for people to standard error.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Reports a failure.
pub fn failure(error: &Error) {
    if error.kind() == Kind::Interrupted {
        return say("interrupted: nothing is half done under a final name; run the same command again");
    }
    say(&format!("error: {error}"));
    if let Some(hint) = error.advice() {
        say(&format!("hint: {hint}"));
    }
}

/// Writes one JSON document.
pub fn json_out(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(Kind::Io, "cannot write the result as JSON").got(e))?;
    out(&format!("{text}\n"))
}

/// A path, safe to print.
fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// `1 blob`, `2 blobs`.
pub(super) fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// Lines up columns; the last is left as it is.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(number, (cell, width))| {
            let pad = if number + 1 == row.len() { 0 } else { width - cell.chars().count() };
            format!("{cell}{}", " ".repeat(pad))
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn image_rows(images: &[Image]) -> String {
    let mut rows = vec![["IMAGE", "VARIANT", "PLATFORM", "SIZE", "DIGEST"].map(str::to_owned).to_vec()];
    for image in images {
        let name =
            |row: usize, text: &str| if row == 0 { printable(text).into_owned() } else { String::new() };
        for (number, build) in image.platforms.iter().enumerate() {
            rows.push(vec![
                name(number, &image.name),
                name(number, &image.variant),
                build.platform.to_string(),
                bytes(build.size),
                build.digest.to_string(),
            ]);
        }
        if image.platforms.is_empty() {
            rows.push(vec![
                name(0, &image.name),
                name(0, &image.variant),
                "any".into(),
                String::new(),
                image.digest.to_string(),
            ]);
        }
    }
    table(&rows)
}

fn name_lines(images: &[Image]) -> String {
    let mut rows = Vec::new();
    for image in images {
        for name in image.names() {
            rows.push(vec![format!("  {name}"), image.digest.to_string()]);
        }
    }
    format!("names:\n{}", table(&rows))
}

fn omitted_lines(images: &[Image]) -> String {
    let line = |image: &Image, omitted: &Omitted| {
        let platform = omitted.platform.as_ref().map(ToString::to_string);
        let digest = omitted.digest.map(|digest| digest.to_string());
        let what = platform.or_else(|| digest.clone()).unwrap_or_default();
        vec![format!("  {}", printable(&image.label())), what, printable(&omitted.reason).into_owned()]
    };
    let rows: Vec<_> =
        images.iter().flat_map(|image| image.omitted.iter().map(move |o| line(image, o))).collect();
    if rows.is_empty() { "left out: nothing\n".to_owned() } else { format!("left out:\n{}", table(&rows)) }
}

/// What is attached to each image: how many documents of which type.
fn attached_lines(images: &[Image]) -> String {
    let mut rows = Vec::new();
    for image in images {
        let mut kinds: BTreeMap<&str, BTreeSet<Digest>> = BTreeMap::new();
        for referrer in &image.referrers {
            kinds.entry(&referrer.artifact_type).or_default().insert(referrer.digest);
        }
        for (kind, digests) in kinds {
            let kind = if kind.is_empty() { "of no stated type" } else { kind };
            let row = [
                format!("  {}", printable(&image.label())),
                digests.len().to_string(),
                printable(kind).into(),
            ];
            rows.push(row.to_vec());
        }
    }
    if rows.is_empty() { "attached: nothing\n".to_owned() } else { format!("attached:\n{}", table(&rows)) }
}

fn signer_line(signers: &[SignerRecord]) -> String {
    let names = signers.iter().map(|signer| format!("{} ({})", printable(&signer.name), signer.key_id));
    format!("signed by {}\n", names.collect::<Vec<_>>().join(", "))
}

fn release_line(statement: &Statement) -> String {
    let mut text = format!(
        "{} {}, tier {}, channel {}, created {}",
        statement.name, statement.version, statement.tier, statement.channel, statement.created
    );
    if let Some(sequence) = statement.sequence {
        text += &format!(", sequence {sequence}");
    }
    if let Some(expires) = statement.expires {
        text += &format!(", expires {expires}");
    }
    if statement.license.is_some() {
        text += ", installed with a licence only";
    }
    text + "\n"
}

/// What `export --dry-run` prints.
pub fn planned(prepared: &Prepared, total: u64, key_assumed: bool, as_json: bool) -> Result<()> {
    let plan = &prepared.plan;
    let release = &prepared.release;
    if as_json {
        return json_out(&planned_json(prepared, total));
    }
    let text = format!(
        "{} {}, tier {}, channel {}, created {}\n\n{}\n{}\n{}{}{}{}payload: {} in {}; the bundle will have {} ({total} bytes)\n",
        release.name,
        release.version,
        release.tier,
        release.channel,
        release.created,
        image_rows(&plan.images),
        share_rows(plan),
        name_lines(&plan.images),
        attached_lines(&plan.images),
        omitted_lines(&plan.images),
        verdicts::lines(&prepared.verdicts),
        bytes(plan.bytes()),
        count(plan.nodes.len(), "blob"),
        bytes(total),
    );
    out(&text)?;
    if key_assumed {
        out("no --key was given: one signature is assumed\n")?;
    }
    Ok(())
}

fn planned_json(prepared: &Prepared, total: u64) -> serde_json::Value {
    let (plan, release) = (&prepared.plan, &prepared.release);
    let image = |(image, share): (&Image, &Share)| json!({ "image": image, "uniqueBytes": share.own, "sharedBytes": share.shared });
    json!({
        "dryRun": true,
        "name": release.name,
        "version": release.version,
        "created": release.created,
        "images": plan.images.iter().zip(&plan.shares()).map(image).collect::<Vec<_>>(),
        "blobs": plan.nodes.len(),
        "payloadBytes": plan.bytes(),
        "bundleBytes": total,
        "policy": verdicts::json(&prepared.verdicts),
    })
}

fn share_rows(plan: &Plan) -> String {
    let mut rows = vec![["IMAGE", "UNIQUE", "SHARED"].map(str::to_owned).to_vec()];
    let shares = plan.shares();
    rows.extend(plan.images.iter().zip(&shares).map(|(image, share)| {
        vec![printable(&image.label()).into_owned(), bytes(share.own), bytes(share.shared)]
    }));
    table(&rows)
}

/// What `export` prints.
pub fn exported(prepared: &Prepared, exported: &Exported, output: &Path, as_json: bool) -> Result<()> {
    let release = &prepared.release;
    if as_json {
        return json_out(&json!({
            "bundle": output.to_string_lossy(), "bytes": exported.bytes, "name": release.name,
            "version": release.version, "images": prepared.plan.images.len(), "blobs": exported.done.sent,
            "signers": exported.signers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "layersLeftOut": prepared.plan.images.iter().flat_map(|image| &image.omitted)
                .filter(|omitted| omitted.is_layer()).filter_map(|omitted| omitted.digest).collect::<BTreeSet<_>>(),
        }));
    }
    out(&format!(
        "{}: {}\n{}",
        shown(output),
        written(prepared, exported),
        layer_lines(&prepared.plan.images)
    ))
}

/// What `export` says of a bundle that went to standard output.
pub fn poured(prepared: &Prepared, exported: &Exported) {
    say(&format!("sent: {}", written(prepared, exported)));
    if let Some(lines) = Some(layer_lines(&prepared.plan.images)).filter(|lines| !lines.is_empty()) {
        say(lines.trim_end());
    }
}

/// Layers that were not at hand, and need not be.
fn layer_lines(images: &[Image]) -> String {
    let lost = images.iter().flat_map(|image| image.omitted.iter().map(move |omitted| (image, omitted)));
    let lost = lost.filter(|(_, omitted)| omitted.is_layer()).filter_map(|(image, omitted)| {
        let digest = omitted.digest?;
        Some(format!("{}: left out {digest}, {}\n", printable(&image.label()), omitted.reason))
    });
    lost.collect()
}

fn written(prepared: &Prepared, exported: &Exported) -> String {
    let release = &prepared.release;
    let signed = match exported.signers.as_slice() {
        [] => "not signed".to_owned(),
        signers => {
            format!("signed by {}", signers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
    };
    format!(
        "{} {}, {}, {}, {} bytes; {signed}",
        release.name,
        release.version,
        count(prepared.plan.images.len(), kind_of(&prepared.plan.images)),
        count(exported.done.sent, "blob"),
        exported.bytes
    )
}

/// What all of these are.
fn kind_of(images: &[Image]) -> &'static str {
    match images.iter().any(|image| belongs_to_all(&image.variant)) {
        true => "artifact",
        false => "image",
    }
}

/// What `verify` prints.
pub fn verified(
    path: &Path,
    statement: &Statement,
    signers: Vec<SignerRecord>,
    length: u64,
    head: bool,
    as_json: bool,
) -> Result<()> {
    if as_json {
        return json_out(&Inspection {
            statement,
            signers,
            bytes: length,
            verified: if head { "head" } else { "all" },
        });
    }
    let what = match head {
        true => "signature, statement, sums and length are good; the contents were not read".to_owned(),
        false => format!(
            "good: {} in {}, all read",
            bytes(length),
            count(statement.entries.len(), "entry").replace("entrys", "entries")
        ),
    };
    out(&format!("{}: {what}\n{}{}", shown(path), release_line(statement), signer_line(&signers)))
}

/// What `inspect` prints.
pub fn inspected(inspection: &Inspection<'_>, path: &Path, trust: &Path, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(inspection);
    }
    let statement = inspection.statement;
    let mut text = release_line(statement);
    text += &signer_line(&inspection.signers);
    text += &format!("made by {}\n\n", printable(&statement.producer));
    text += &image_rows(&statement.images);
    text.push('\n');
    text += &name_lines(&statement.images);
    text += &attached_lines(&statement.images);
    text += &omitted_lines(&statement.images);
    text += &policy_lines(&statement.policy);
    text += &format!(
        "{} in {} blobs; the bundle has {} bytes\n",
        bytes(statement.payload_bytes),
        statement.entries.len().saturating_sub(2),
        inspection.bytes
    );
    text += &format!(
        "The signature was checked, the contents were not: sealift verify {} --trust {}\n",
        shown(path),
        shown(trust)
    );
    out(&text)
}

/// What a bundle records of its rules: all results in a line, then what was let pass.
fn policy_lines(policy: &PolicyRecord) -> String {
    let checks: Vec<_> = policy.checks.iter().map(|c| format!("{} {}", printable(&c.id), c.result)).collect();
    let line = format!("policy {}: {}\n", printable(&policy.profile), checks.join(", "));
    line + &verdicts::recorded_lines(&policy.checks)
}

/// What `import` prints.
pub fn imported(receipt: &Receipt, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(receipt);
    }
    let mut text = format!("{}, {}", receipt.release, signer_line(&receipt.signers));
    text += &policy_lines(&receipt.policy);
    text += &imported_names(receipt);
    for image in receipt.images.iter().filter(|image| image.attached > 0) {
        text += &format!("{}: {} attached\n", image.source, count(image.attached, "document"));
    }
    text += &sparse_lines(receipt);
    receipt.notes.iter().for_each(|note| text += &format!("{}\n", printable(note)));
    if receipt.dry_run {
        text += &bytes_to_send(receipt);
    }
    text += &match (receipt.dry_run, receipt.archive_bytes) {
        (true, Some(total)) => format!(
            "dry run: would write {} with {} in {}: {total} bytes{}\n",
            printable(&receipt.destination),
            bytes(receipt.bytes_to_send),
            count(receipt.to_send, "blob"),
            if receipt.packed { " before they are compressed" } else { "" }
        ),
        (true, None) => format!(
            "dry run: would send {} ({} bytes) in {}, mount {}; {} ({} bytes) are there already\n",
            bytes(receipt.bytes_to_send),
            receipt.bytes_to_send,
            count(receipt.to_send, "blob"),
            receipt.to_mount,
            count(receipt.present, "blob"),
            receipt.bytes_present
        ),
        (false, Some(total)) => format!(
            "{}: {} in {}, {}, {total} bytes\n",
            printable(&receipt.destination),
            bytes(receipt.bytes_sent),
            count(receipt.sent, "blob"),
            count(receipt.tags, "name"),
        ),
        (false, None) => format!(
            "{}: sent {} ({} bytes) in {}, mounted {}, {} there already; {} set and read back\n",
            printable(&receipt.destination),
            bytes(receipt.bytes_sent),
            receipt.bytes_sent,
            count(receipt.sent, "blob"),
            receipt.mounted,
            receipt.present,
            count(receipt.tags, "tag")
        ),
    };
    if receipt.verified == "documents" {
        text += "everything was there already: the layers in the bundle were not read (sealift verify reads them)\n";
    }
    if let Some(filed) = &receipt.receipt {
        text += &format!("receipt: {} {}\n", printable(&filed.path), filed.digest);
    }
    out(&text)
}

/// What became of images of which parts were left out.
fn sparse_lines(receipt: &Receipt) -> String {
    let mut text = String::new();
    for image in receipt.images.iter().filter(|image| image.omitted > 0) {
        let parts = count(image.omitted, "part");
        text += &match (image.trimmed_from, receipt.indexes) {
            (Some(original), _) => format!(
                "{}: {parts} left out, its index was trimmed and is {} now; signatures of {original} do not speak \
                 of it, those of its platforms stay true\n",
                image.source, image.digest
            ),
            (None, Became::Undecided) => format!(
                "{}: {parts} left out; if the registry takes only complete indexes, a trimmed one goes in its place\n",
                image.source
            ),
            (None, _) => format!("{}: {parts} left out\n", image.source),
        };
    }
    text
}

/// Which name leads where, and what becomes of it.
fn imported_names(receipt: &Receipt) -> String {
    let mut rows = vec![["SOURCE", "", "DESTINATION", "CHANGE", "DIGEST"].map(str::to_owned).to_vec()];
    for image in &receipt.images {
        let row = |there: &str, change: &str, digest: Digest| {
            vec![image.source.clone(), "→".into(), there.into(), change.into(), digest.to_string()]
        };
        rows.extend(image.names.iter().map(|name| row(&name.name, name.change, name.digest)));
        if image.names.is_empty() {
            rows.push(row("the names of another image, which is the same", "", image.digest));
        }
    }
    table(&rows)
}

/// What there is to send for each image.
fn bytes_to_send(receipt: &Receipt) -> String {
    let mut rows = vec![["TO SEND FOR", "ITS OWN", "SHARED"].map(str::to_owned).to_vec()];
    rows.extend(receipt.images.iter().map(|image| {
        vec![image.source.clone(), bytes(image.own_bytes_to_send), bytes(image.shared_bytes_to_send)]
    }));
    table(&rows)
}

/// What `key new` prints.
pub fn new_key(key: &NewKey, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(&json!({
            "privateKey": key.private.to_string_lossy(), "publicKey": key.public.to_string_lossy(), "keyId": key.id.to_string(),
        }));
    }
    out(&format!(
        "private key  {}   keep it secret, keep a copy in a safe\npublic key   {}   give it to those who import\nkey id       {}\n",
        shown(&key.private),
        shown(&key.public),
        key.id
    ))
}

/// What `sign` prints.
pub fn signed(signed: &Signed, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(&json!({
            "release": signed.release,
            "keyId": signed.id.to_string(),
            "signature": signed.path.as_ref().map(|path| path.to_string_lossy()),
        }));
    }
    let place =
        signed.path.as_ref().map_or("the bundle holds this signature already".to_owned(), |path| shown(path));
    out(&format!("{}: verified, and signed with key {}\n{place}\n", signed.release, signed.id))
}

/// What `trust show` prints.
pub fn store(ring: &Keyring, path: &Path, as_json: bool) -> Result<()> {
    let rules = ring.rules();
    if as_json {
        let key = |key: Listed<'_>| json!({ "keyId": key.id.to_string(), "names": key.names, "notAfter": key.not_after, "revoked": key.revoked, "licenses": key.licenses });
        let quorum = |quorum: &Quorum| json!({ "threshold": quorum.threshold, "keys": quorum.keys });
        return json_out(&json!({
            "version": rules.version, "epoch": rules.epoch, "allowExpired": rules.allow_expired,
            "keys": ring.keys().map(key).collect::<Vec<_>>(),
            "general": rules.general.as_ref().map(quorum),
            "rules": rules.special.iter().map(|rule| json!({ "for": rule.to_string(), "quorum": quorum(&rule.quorum) })).collect::<Vec<_>>(),
            "root": rules.root.as_ref().map(quorum),
            "revoked": rules.revoked.iter().map(|(id, reason)| json!({ "keyId": id.to_string(), "reason": reason })).collect::<Vec<_>>(),
        }));
    }
    let lines: String =
        ring.lines(Moment::now()).iter().map(|line| format!("{}\n", printable(line))).collect();
    out(&format!("{}: version {}\n{lines}", shown(path), rules.version))
}

/// What `trust update` prints.
pub fn updated(update: &Update, path: &Path, dry_run: bool, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(&json!({
            "dryRun": dry_run, "from": update.from, "to": update.to, "changes": update.changes,
            "kept": update.kept.as_ref().map(|path| path.to_string_lossy()),
        }));
    }
    if update.from == update.to {
        return out(&format!("{}: has version {} already\n", shown(path), update.to));
    }
    let mut text: String = update.changes.iter().map(|line| format!("  {}\n", printable(line))).collect();
    text += &match (&update.kept, dry_run) {
        (Some(kept), _) => format!(
            "{}: version {} took the place of version {}, which is kept as {}\n",
            shown(path),
            update.to,
            update.from,
            shown(kept)
        ),
        _ => format!(
            "{}: dry run: version {} would take the place of version {}\n",
            shown(path),
            update.to,
            update.from
        ),
    };
    out(&text)
}

/// What `serve` prints when it is ready.
pub fn serving(
    socket: &tokio::net::TcpListener,
    certificate: Option<&Certificate>,
    parts: &[String],
) -> Result<()> {
    let address = socket.local_addr().map_err(|e| Error::io("cannot listen", "the socket", &e))?;
    let mut text: String = parts.iter().map(|part| format!("{}\n", printable(part))).collect();
    if let Some(certificate) = certificate {
        text += &format!("certificate SHA-256 {}\n", certificate.fingerprint()?);
        if let Some(authority) = &certificate.authority {
            text += &format!("install this authority where images are pulled:\n{authority}");
        }
    }
    let scheme = if certificate.is_some() { "https" } else { "http" };
    out(&format!("{text}serving at {scheme}://{address}\n"))
}

/// What the demo's release leads to on both sides.
pub fn compared(names: &[(Name, Digest)]) -> Result<()> {
    let row = |(name, digest): &(Name, Digest)| vec![name.to_string(), format!("{digest} on both sides")];
    out(&table(&names.iter().map(row).collect::<Vec<_>>()))
}

/// A line of the access log.
pub fn access(line: &Line) -> String {
    let time = Moment::now();
    let text = json!({
        "time": time, "client": line.peer.to_string(), "method": line.method, "target": line.target,
        "status": line.status, "bytes": line.bytes, "seconds": line.took.as_secs_f64(), "agent": line.agent,
    });
    format!("{text}\n")
}

/// What `store gc` prints.
pub fn swept(swept: &Swept, path: &Path, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(swept);
    }
    let done = if swept.dry_run { "dry run: would delete" } else { "deleted" };
    let mut text = format!(
        "{}: {done} {} ({} bytes) in {}; kept {} in {}\n",
        shown(path),
        bytes(swept.bytes),
        swept.bytes,
        count(swept.blobs, "blob"),
        bytes(swept.bytes_kept),
        count(swept.kept, "blob"),
    );
    if swept.documents > 0 {
        let done = if swept.dry_run { "would be forgotten" } else { "were forgotten" };
        text += &format!("{} without a tag {done}\n", count(swept.documents, "document"));
    }
    if swept.spared > 0 {
        text += &format!(
            "spared {} that nothing names: young, or needed just now (--grace)\n",
            count(swept.spared, "blob")
        );
    }
    out(&text)
}

/// What `store check` prints.
pub fn checked(checked: &Checked, path: &Path, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(checked);
    }
    let line = |finding: &Finding| format!("{}: {}\n", printable(&finding.place), printable(&finding.what));
    let mut text: String = checked.findings.iter().map(line).collect();
    text += &format!(
        "{}: {} in {}, {}, {}, {}\n",
        shown(path),
        bytes(checked.bytes),
        count(checked.blobs, "blob"),
        count(checked.documents, "document"),
        count(checked.tags, "tag"),
        count(checked.repositories, "repository").replace("repositorys", "repositories"),
    );
    if checked.absent > 0 {
        let entries = if checked.absent == 1 { "entry of an index leads" } else { "entries of indexes lead" };
        text += &format!(
            "{} {entries} to nothing, which may be meant: platforms that were left out, or removed\n",
            checked.absent
        );
    }
    if checked.findings.is_empty() {
        text += "every blob is what its name says, and every link leads somewhere\n";
    }
    out(&text)
}

/// What `store remove` prints.
pub fn removed(removed: &Removed, as_json: bool) -> Result<()> {
    if as_json {
        return json_out(removed);
    }
    let done = if removed.dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for (tag, digest) in &removed.tags {
        let leads = digest.map_or_else(|| "which leads nowhere".to_owned(), |digest| digest.to_string());
        text += &format!("{done} {}:{tag} ({leads})\n", removed.repository);
    }
    for digest in &removed.documents {
        text += &format!("{done} {}@{digest}\n", removed.repository);
    }
    if text.is_empty() {
        text = format!("{done} {}\n", removed.repository);
    }
    text += "what they consist of is deleted by sealift store gc, unless something else needs it\n";
    out(&text)
}
