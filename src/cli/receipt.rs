//! A receipt on one page: as text, or as HTML to be printed.

use std::collections::BTreeMap;

use qrcode::bits::Bits;
use qrcode::{Color, EcLevel, QrCode, Version};
use serde_json::{Value, json};

use super::args::{ReceiptArgs, ReceiptForm};
use super::{Passphrases, report};
use crate::error::{Error, Kind, Result, printable};
use crate::trust::Keyring;
use crate::verbs::key;
use crate::verbs::receipt::{self, Came, Checked, Seal, Slip};

/// `receipt`.
pub fn receipt_verb(args: &ReceiptArgs) -> Result<()> {
    let sites = match (&args.by, &args.trust) {
        (Some(by), _) => {
            let name = by.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let (public, _) = key::show(by, || Passphrases::new(None).of(by))?;
            Some(Keyring::of(public, name.trim_end_matches(".pem").trim_end_matches(".pub")))
        }
        (None, Some(directory)) => Some(Keyring::load(directory)?),
        (None, None) => None,
    };
    let checked = receipt::check(&args.receipt, sites.as_ref(), args.bundle.as_deref())?;
    match args.output {
        ReceiptForm::Json => as_json(&checked),
        ReceiptForm::Text => report::out(&page(&checked)?),
        ReceiptForm::Html => report::out(&html(&checked)?),
    }
}

fn as_json(checked: &Checked) -> Result<()> {
    let signature = match &checked.seal {
        Seal::Missing => json!({ "verdict": "missing" }),
        Seal::Unchecked(ids) => {
            json!({ "verdict": "unchecked", "keyIds": ids.iter().map(ToString::to_string).collect::<Vec<_>>() })
        }
        Seal::Good(id, name) => json!({ "verdict": "good", "keyId": id.to_string(), "name": name }),
    };
    report::json_out(&json!({
        "digest": checked.digest, "signature": signature, "bundleCompared": checked.compared,
        "receipt": checked.slip,
    }))
}

/// Columns of a page.
const WIDTH: usize = 80;
/// Of each kind, as many as fit on it.
const SIGNERS: usize = 3;
const IMAGES: usize = 6;
const NOTES: usize = 3;

/// A line that fits.
fn fit(text: &str) -> String {
    let text = printable(text);
    match text.chars().count() <= WIDTH {
        true => text.into_owned(),
        false => text.chars().take(WIDTH - 1).chain(['…']).collect(),
    }
}

fn page(checked: &Checked) -> Result<String> {
    let slip = &checked.slip;
    let mut lines = vec!["RECEIPT OF AN IMPORT".to_owned(), String::new()];
    lines.extend(facts(checked).iter().map(|(what, text)| fit(&format!("{what:<12} {text}"))));
    lines.push("bundle (digest of its SHA256SUMS), and its statement:".to_owned());
    lines.push(format!("  {}", slip.bundle.digest));
    lines.push(format!("  {}", slip.bundle.statement));
    lines.push("signed by:".to_owned());
    // Names are whatever somebody wrote: only our own text breaks lines.
    let signers =
        slip.signers.iter().map(|key| format!("  {} {}", printable(&key.key_id), printable(&key.name)));
    let signers: Vec<_> = signers.collect();
    lines.extend(some(&signers, SIGNERS, "keys"));
    lines.push("images:".to_owned());
    let images: Vec<_> = slip
        .images
        .iter()
        .map(|image| format!("  {}\n    {}", printable(&named(image)), image.digest))
        .collect();
    lines.extend(some(&images, IMAGES, "images"));
    let notes: Vec<_> = slip.notes.iter().map(|note| printable(note).into_owned()).collect();
    lines.extend(some(&notes, NOTES, "notes"));
    lines.push(String::new());
    lines.push(format!("digest of this receipt: {}", grouped(&checked.digest.hex())));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(format!("{text}{}", blocks(&code(checked)?)))
}

/// The first of them, and how many more there are.
fn some(all: &[String], most: usize, what: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        all.iter().take(most).map(|one| one.split('\n').map(fit).collect::<Vec<_>>().join("\n")).collect();
    if all.len() > most {
        lines.push(format!("  and {} more {what}", all.len().saturating_sub(most)));
    }
    lines
}

/// The first of an image's names, and how many more it has.
fn named(image: &receipt::Landed) -> String {
    match image.names.as_slice() {
        [] => format!("{} (the names of another image, which is the same)", image.source),
        [one] => one.name.clone(),
        [one, more @ ..] => format!("{} and {}", one.name, report::count(more.len(), "more name")),
    }
}

fn facts(checked: &Checked) -> Vec<(&'static str, String)> {
    let slip = &checked.slip;
    let release = &slip.release;
    let mut facts = vec![
        (
            "release",
            format!(
                "{} {}, tier {}, channel {}",
                release.name, release.version, release.tier, release.channel
            ),
        ),
        ("imported", format!("{} at {}, by {}", slip.time, slip.site.host, slip.producer)),
        ("into", slip.destination.clone()),
        ("content", content(slip)),
        (
            "verified",
            match slip.bundle.verified.as_str() {
                "all" => "every byte of the bundle".to_owned(),
                _ => "its documents; everything else was there already".to_owned(),
            },
        ),
        ("policy", policy(&slip.policy)),
        (
            "signature",
            match &checked.seal {
                Seal::Missing => "this receipt is not signed".to_owned(),
                Seal::Unchecked(_) => "there is one, which nobody checked (--by KEY, --trust DIR)".to_owned(),
                Seal::Good(id, name) => {
                    format!("good, by {name} ({}…)", id.to_string().chars().take(16).collect::<String>())
                }
            },
        ),
    ];
    if checked.compared {
        facts.push(("compared", "it is about the bundle that was named".to_owned()));
    }
    facts
}

fn content(slip: &Slip) -> String {
    let sum = |how: Came| {
        let these = slip.content.iter().filter(|piece| piece.how == how);
        these.fold((0usize, 0u64), |(count, bytes), piece| {
            (count.saturating_add(1), bytes.saturating_add(piece.size))
        })
    };
    let part = |how, word: &str| {
        let (count, bytes) = sum(how);
        format!("{count} {word} ({})", report::bytes(bytes))
    };
    [part(Came::Sent, "sent"), part(Came::Mounted, "mounted"), part(Came::Present, "there before")].join(", ")
}

/// How many rules came to what. Whatever else is said of a rule is for whoever reads the JSON.
fn policy(policy: &Value) -> String {
    let mut results: BTreeMap<&str, usize> = BTreeMap::new();
    for check in policy.get("checks").and_then(Value::as_array).into_iter().flatten() {
        *results.entry(check.get("result").and_then(Value::as_str).unwrap_or("unclear")).or_default() += 1;
    }
    let profile = policy.get("profile").and_then(Value::as_str).unwrap_or("none");
    let results: Vec<_> = results.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{profile}: {}", results.join(", "))
}

/// Eight digits at a time, in two lines: to be read aloud.
fn grouped(hex: &str) -> String {
    let digits: Vec<char> = hex.chars().collect();
    let groups: Vec<String> = digits.chunks(8).map(|group| group.iter().collect()).collect();
    let lines: Vec<String> = groups.chunks(4).map(|groups| format!("\n  {}", groups.join(" "))).collect();
    lines.concat()
}

/// Always of the same size: version 5, the text as it is.
fn code(checked: &Checked) -> Result<QrCode> {
    let mut bits = Bits::new(Version::Normal(5));
    let drawn = bits
        .push_byte_data(checked.digest.to_string().as_bytes())
        .and_then(|()| bits.push_terminator(EcLevel::M))
        .and_then(|()| QrCode::with_bits(bits, EcLevel::M));
    drawn.map_err(|e| Error::new(Kind::Io, "cannot draw the code").got(e))
}

/// Modules of nothing around it, which readers need (ISO/IEC 18004, "quiet zone").
const QUIET: usize = 4;

/// The rows of the code, what is dark being true, with what must be around it.
fn rows(code: &QrCode) -> Vec<Vec<bool>> {
    let colors = code.to_colors();
    let width = code.width();
    let whole = width.saturating_add(2 * QUIET);
    let mut rows = vec![vec![false; whole]; QUIET];
    for row in colors.chunks(width.max(1)) {
        let dark = row.iter().map(|color| *color == Color::Dark);
        let quiet = || std::iter::repeat_n(false, QUIET);
        rows.push(quiet().chain(dark).chain(quiet()).collect());
    }
    rows.extend(vec![vec![false; whole]; QUIET]);
    rows
}

/// Two rows in one line of half blocks, dark on light as on paper.
fn blocks(code: &QrCode) -> String {
    let rows = rows(code);
    let line = |pair: &[Vec<bool>]| {
        let (top, bottom) = (pair.first(), pair.get(1));
        let dark =
            |row: Option<&Vec<bool>>, at: usize| row.and_then(|row| row.get(at)).copied().unwrap_or_default();
        let cells = (0..top.map_or(0, Vec::len)).map(|at| match (dark(top, at), dark(bottom, at)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.chunks(2).map(line).collect()
}

fn svg(code: &QrCode) -> String {
    let rows = rows(code);
    let side = rows.len();
    let mut path = String::new();
    for (y, row) in rows.iter().enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, dark)| **dark) {
            path += &format!("M{x} {y}h1v1h-1z");
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" width=\"45mm\" height=\"45mm\" shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"the receipt's digest\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{path}\"/></svg>"
    )
}

const STYLE: &str = "body{font:10pt/1.35 sans-serif;margin:2em auto;max-width:190mm;color:#000;background:#fff}\
    h1{font-size:14pt}code{font:8pt/1.3 monospace;overflow-wrap:anywhere}th{text-align:left;vertical-align:top;padding-right:1em}\
    td,th{padding-bottom:.2em}.digest{display:flex;gap:1em;align-items:center}@page{size:A4;margin:12mm}@media print{body{margin:0}}";

/// Images on the HTML page.
const IMAGES_OF_HTML: usize = 16;

fn html(checked: &Checked) -> Result<String> {
    let slip = &checked.slip;
    let fact = |(what, text): (&str, String)| format!("<tr><th>{what}<td>{}\n", escaped(&text));
    let facts: String = facts(checked).into_iter().map(fact).collect();
    let key = |key: &crate::audit::Key| {
        format!("{}<br><code>{}</code><br>", escaped(&key.name), escaped(&key.key_id))
    };
    let signers: String = slip.signers.iter().take(SIGNERS).map(key).collect();
    let image = |image: &receipt::Landed| {
        format!("<tr><td>{}<br><code>{}</code>\n", escaped(&named(image)), image.digest)
    };
    let images: String = slip.images.iter().take(IMAGES_OF_HTML).map(image).collect();
    let more = |all: usize, most: usize| match all.saturating_sub(most) {
        0 => String::new(),
        more => format!("<p>and {more} more</p>\n"),
    };
    let notes: String =
        slip.notes.iter().take(NOTES).map(|note| format!("<p>{}</p>\n", escaped(note))).collect();
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>Receipt: {title}</title><style>{STYLE}</style></head>\n<body>\n<h1>Receipt of an import</h1>\n\
         <table>\n{facts}<tr><th>bundle<td><code>{bundle}</code>\n<tr><th>statement<td><code>{statement}</code>\n\
         <tr><th>signed by<td>{signers}{more_signers}</table>\n<h2>Images</h2>\n<table>\n{images}</table>\n{more_images}{notes}\
         <div class=\"digest\">{svg}<p>digest of this receipt<br><code>{digest}</code></p></div>\n</body></html>\n",
        title = escaped(&format!("{} {}", slip.release.name, slip.release.version)),
        bundle = slip.bundle.digest,
        statement = slip.bundle.statement,
        more_signers = more(slip.signers.len(), SIGNERS),
        more_images = more(slip.images.len(), IMAGES_OF_HTML),
        svg = svg(&code(checked)?),
        digest = grouped(&checked.digest.hex()).trim().replace('\n', "<br>"),
    ))
}

/// A text in HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in printable(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
