//! What `sbom` prints: a table, CSV, JSON, or one document of all SBOMs. Packages are written as they are read.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Stdout, Write};

use serde_json::{Value, json};

use super::report::say;
use crate::error::{Error, Kind, Result, printable};
use crate::evidence::Package;
use crate::limits;
use crate::verbs::sbom::{List, Listing};

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// One SPDX 2.3 document, as JSON
    Spdx,
    /// One CycloneDX 1.5 document, as JSON
    Cyclonedx,
    /// Comma-separated values; no field begins like a spreadsheet's formula
    Csv,
    /// One JSON document
    Json,
}

/// Widest columns of a table.
const WIDEST: [usize; 3] = [50, 30, 60];

/// Standard output, written to in large pieces. A reader that went away has seen enough.
struct Page {
    out: BufWriter<Stdout>,
    gone: bool,
}

impl Page {
    fn new() -> Self {
        Page { out: BufWriter::with_capacity(64 << 10, std::io::stdout()), gone: false }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.gone {
            return Ok(());
        }
        let written = self.out.write_all(text.as_bytes());
        self.settle(written)
    }

    fn settle(&mut self, written: std::io::Result<()>) -> Result<()> {
        match written {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            Err(e) => Err(Error::io("cannot write", "standard output", &e)),
            Ok(()) => Ok(()),
        }
    }

    fn end(mut self) -> Result<()> {
        let flushed = if self.gone { Ok(()) } else { self.out.flush() };
        self.settle(flushed)
    }
}

/// What could not be listed is said, whatever the form.
pub fn notes(listing: &Listing) {
    for note in &listing.notes {
        say(&format!("note: {}", printable(note)));
    }
}

/// Prints the packages.
pub async fn packages(listing: &Listing, form: Form) -> Result<()> {
    let mut page = Page::new();
    match form {
        Form::Table => table(listing, &mut page).await?,
        Form::Csv => csv(listing, &mut page).await?,
        Form::Json => as_json(listing, &mut page).await?,
        Form::Spdx => spdx(listing, &mut page).await?,
        Form::Cyclonedx => cyclonedx(listing, &mut page).await?,
    }
    page.end()
}

/// Prints how many packages have which licence.
pub async fn licences(listing: &Listing, form: Form) -> Result<()> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut bytes = 0usize;
    let mut take = |_: usize, package: Package| {
        if let Some(count) = counts.get_mut(&package.licence) {
            *count = count.saturating_add(1);
            return Ok(());
        }
        bytes = bytes.saturating_add(package.licence.len() + 100);
        if bytes > limits::LICENCES {
            return Err(Error::new(Kind::LimitExceeded, "too many different licences")
                .expected(format_args!("at most {} bytes of them", limits::LICENCES)));
        }
        counts.insert(package.licence, 1);
        Ok(())
    };
    listing.each(&mut take).await?;
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut page = Page::new();
    match form {
        Form::Json => {
            let list = sorted.iter().map(|(licence, count)| json!({ "licence": licence, "packages": count }));
            page.write(&format!("{:#}\n", Value::Array(list.collect())))?;
        }
        Form::Csv => {
            page.write("\"licence\",\"packages\"\r\n")?;
            for (licence, count) in &sorted {
                page.write(&format!("{},{}\r\n", cell(licence), cell(&count.to_string())))?;
            }
        }
        Form::Table => {
            page.write("PACKAGES  LICENCE\n")?;
            for (licence, count) in &sorted {
                let licence = if licence.is_empty() { "none stated" } else { licence };
                page.write(&format!("{count:>8}  {}\n", printable(licence)))?;
            }
        }
        Form::Spdx | Form::Cyclonedx => {
            return Err(Error::new(
                Kind::Usage,
                "--licenses counts licences, which is no document of packages",
            )
            .hint("--output table, csv or json; or leave --licenses out"));
        }
    }
    page.end()
}

fn list(listing: &Listing, number: usize) -> Result<&List> {
    listing.lists.get(number).ok_or_else(crate::content::file::ended)
}

async fn table(listing: &Listing, page: &mut Page) -> Result<()> {
    let widest = |text: fn(&List) -> String, head: &str| {
        let lengths = listing.lists.iter().map(|list| text(list).chars().count());
        lengths.chain([head.len()]).max().unwrap_or_default()
    };
    let (image, platform) = (widest(|list| list.image.clone(), "IMAGE"), widest(List::platform, "PLATFORM"));
    let mut widths = listing.widths;
    for ((width, most), head) in widths.iter_mut().zip(WIDEST).zip(["PACKAGE", "VERSION", "LICENCE"]) {
        *width = (*width).clamp(head.len(), most);
    }
    let [name, version, _] = widths;
    let line = |cells: [&str; 5]| {
        let [a, b, c, d, e] = cells.map(printable);
        let line = format!("{a:image$}  {b:platform$}  {c:name$}  {d:version$}  {e}");
        format!("{}\n", line.trim_end())
    };
    page.write(&line(["IMAGE", "PLATFORM", "PACKAGE", "VERSION", "LICENCE"]))?;
    let mut take = |number, package: Package| {
        let list = list(listing, number)?;
        page.write(&line([&list.image, &list.platform(), &package.name, &package.version, &package.licence]))
    };
    listing.each(&mut take).await
}

/// RFC 4180, every field in quotes; and none that a spreadsheet would take for a formula (OWASP, "CSV Injection").
fn cell(text: &str) -> String {
    let text = text.replace(['\r', '\n', '\t', '\0'], " ");
    let formula =
        text.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    format!("\"{}{}\"", if formula { "'" } else { "" }, text.replace('"', "\"\""))
}

async fn csv(listing: &Listing, page: &mut Page) -> Result<()> {
    let row = |cells: [&str; 9]| format!("{}\r\n", cells.map(cell).join(","));
    page.write(&row([
        "image", "platform", "package", "version", "licence", "type", "purl", "digest", "sbom",
    ]))?;
    let mut take = |number, package: Package| {
        let list = list(listing, number)?;
        let Package { name, version, licence, kind, purl } = &package;
        let (platform, about, sbom) = (list.platform(), list.about.to_string(), list.digest.to_string());
        page.write(&row([&list.image, &platform, name, version, licence, kind, purl, &about, &sbom]))
    };
    listing.each(&mut take).await
}

/// Adds a field to an object.
fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

/// An object that more is to be written into.
fn unclosed(object: &Value) -> String {
    let mut text = object.to_string();
    text.pop();
    text
}

/// Commas between items that come one by one.
struct Commas(bool);

impl Commas {
    fn next(&mut self) -> &'static str {
        if std::mem::replace(&mut self.0, true) { ",\n" } else { "" }
    }
}

async fn as_json(listing: &Listing, page: &mut Page) -> Result<()> {
    let sboms = listing.lists.iter().map(|list| {
        json!({
            "image": list.image, "source": list.source, "platforms": list.platforms, "digest": list.about,
            "sbom": list.digest, "format": list.format.name(), "packages": list.packages,
        })
    });
    let sboms = Value::Array(sboms.collect());
    page.write(&format!(
        "{{\"release\":{},\"version\":{},\"sboms\":{sboms},\"notes\":{},\"packages\":[\n",
        json!(listing.release),
        json!(listing.version),
        json!(listing.notes)
    ))?;
    let mut commas = Commas(false);
    let mut take = |number, package: Package| {
        let list = list(listing, number)?;
        let Package { name, version, licence, kind, purl } = package;
        let item = json!({
            "image": list.image, "platforms": list.platforms, "package": name, "version": version,
            "licence": licence, "type": kind, "purl": purl, "sbom": list.digest,
        });
        page.write(&format!("{}{item}", commas.next()))
    };
    listing.each(&mut take).await?;
    page.write("\n]}\n")
}

/// Whether a licence is an expression that stands for itself: SPDX 2.3 Annex D, without references to texts that another
/// document has.
fn is_expression(licence: &str) -> bool {
    let spaced = licence.replace('(', " ( ").replace(')', " ) ");
    let (mut operand, mut open) = (false, 0usize);
    for word in spaced.split_whitespace() {
        match word {
            "(" if !operand => open += 1,
            ")" if operand && open > 0 => open -= 1,
            "AND" | "OR" | "WITH" if operand => operand = false,
            "(" | ")" | "AND" | "OR" | "WITH" => return false,
            id if operand || id.contains("Ref-") => return false,
            id if id.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b)) => operand = true,
            _ => return false,
        }
    }
    operand && open == 0
}

const PRODUCER: &str = concat!("sealift-", env!("CARGO_PKG_VERSION"));

/// The package that stands for what an SBOM is about.
fn container(number: usize, list: &List) -> Value {
    let name = list.source.repository.as_str().rsplit('/').next().unwrap_or_default();
    let hex = list.about.hex();
    // purl-spec, "oci": lower case, the digest as the version.
    let purl = format!(
        "pkg:oci/{}@sha256%3A{hex}?repository_url={}%2F{}&tag={}",
        name.to_ascii_lowercase(),
        list.source.registry.to_string().replace(':', "%3A"),
        list.source.repository.as_str().replace('/', "%2F"),
        list.source.tag
    );
    json!({
        "SPDXID": format!("SPDXRef-Image-{number}"),
        "name": format!("{}/{}", list.source.registry, list.source.repository),
        "versionInfo": list.about,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": hex }],
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl,
        }],
        "comment": format!("{} {}", list.image, list.platform()).trim(),
        "copyrightText": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
    })
}

async fn spdx(listing: &Listing, page: &mut Page) -> Result<()> {
    let Listing { release, version, created, identity, lists, .. } = listing;
    let head = json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{release} {version}"),
        "documentNamespace": format!("https://sealift.invalid/spdx/{release}-{}", identity.hex()),
        "creationInfo": { "created": created.to_string(), "creators": [format!("Tool: {PRODUCER}")] },
    });
    page.write(&format!("{},\"packages\":[\n", unclosed(&head)))?;
    let mut commas = Commas(false);
    for (number, list) in lists.iter().enumerate() {
        page.write(&format!("{}{}", commas.next(), container(number, list)))?;
    }
    let mut written = 0u64;
    let mut take = |_, package: Package| {
        let Package { name, version, licence, purl, .. } = package;
        let mut item = json!({
            "SPDXID": format!("SPDXRef-Package-{written}"), "name": name,
            "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "copyrightText": "NOASSERTION",
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": if is_expression(&licence) { &licence } else { "NOASSERTION" },
        });
        if !version.is_empty() {
            put(&mut item, "versionInfo", json!(version));
        }
        // A text that another document explains, or that only people understand.
        if !licence.is_empty() && !is_expression(&licence) {
            put(&mut item, "licenseComments", json!(licence));
        }
        if purl.starts_with("pkg:") {
            put(
                &mut item,
                "externalRefs",
                json!([{
                    "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl,
                }]),
            );
        }
        written += 1;
        page.write(&format!("{}{item}", commas.next()))
    };
    listing.each(&mut take).await?;
    page.write("\n],\"relationships\":[\n")?;
    let relation = |from: &str, kind: &str, to: &str| json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to });
    let (mut commas, mut package) = (Commas(false), 0u64);
    for (number, list) in lists.iter().enumerate() {
        let image = format!("SPDXRef-Image-{number}");
        page.write(&format!("{}{}", commas.next(), relation("SPDXRef-DOCUMENT", "DESCRIBES", &image)))?;
        for _ in 0..list.packages {
            let inner = format!("SPDXRef-Package-{package}");
            page.write(&format!("{}{}", commas.next(), relation(&image, "CONTAINS", &inner)))?;
            package += 1;
        }
    }
    page.write("\n]}\n")
}

/// RFC 9562 §5.8: a UUID of somebody's own making, the same for the same bundle.
fn uuid(listing: &Listing) -> String {
    let mut hex = listing.identity.hex();
    hex.truncate(32);
    hex.replace_range(12..13, "8");
    hex.replace_range(16..17, "8");
    for at in [20, 16, 12, 8] {
        hex.insert(at, '-');
    }
    hex
}

async fn cyclonedx(listing: &Listing, page: &mut Page) -> Result<()> {
    let Listing { release, version, created, .. } = listing;
    let head = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": format!("urn:uuid:{}", uuid(listing)),
        "metadata": {
            "timestamp": created.to_string(),
            "tools": { "components": [
                { "type": "application", "name": "sealift", "version": env!("CARGO_PKG_VERSION") },
            ] },
            "component": { "type": "application", "bom-ref": "release", "name": release, "version": version },
        },
    });
    page.write(&format!("{},\"components\":[\n", unclosed(&head)))?;
    let mut open: Option<usize> = None;
    let mut written = 0u64;
    let begin = |number: usize, list: &List| {
        let image = json!({
            "type": "container", "bom-ref": format!("image-{number}"),
            "name": format!("{}/{}", list.source.registry, list.source.repository), "version": list.about,
            "description": format!("{} {}", list.image, list.platform()).trim(),
        });
        format!("{},\"components\":[\n", unclosed(&image))
    };
    let mut take = |number: usize, package: Package| {
        if open != Some(number) {
            page.write(if open.is_some() { "\n]},\n" } else { "" })?;
            page.write(&begin(number, list(listing, number)?))?;
        } else {
            page.write(",\n")?;
        }
        open = Some(number);
        let Package { name, version, licence, purl, .. } = package;
        let mut item = json!({ "type": "library", "bom-ref": format!("package-{written}"), "name": name, "version": version });
        if purl.starts_with("pkg:") {
            put(&mut item, "purl", json!(purl));
        }
        if is_expression(&licence) {
            put(&mut item, "licenses", json!([{ "expression": licence }]));
        } else if !licence.is_empty() {
            put(&mut item, "licenses", json!([{ "license": { "name": licence } }]));
        }
        written += 1;
        page.write(&item.to_string())
    };
    listing.each(&mut take).await?;
    page.write(if open.is_some() { "\n]}\n]}\n" } else { "]}\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_no_formulas() {
        for (text, expected) in [
            ("a", "\"a\""),
            ("=1+1", "\"'=1+1\""),
            ("  @x", "\"'  @x\""),
            ("\t=1", "\"' =1\""),
            ("a\"b,c\r\nd", "\"a\"\"b,c  d\""),
        ] {
            assert_eq!(cell(text), expected);
        }
    }

    #[test]
    fn expressions_stand_for_themselves() {
        for text in ["MIT", "GPL-2.0+ WITH Classpath-exception-2.0", "(MIT OR Apache-2.0) AND BSD-3-Clause"] {
            assert!(is_expression(text), "{text}");
        }
        for text in ["", "GPL (>= 2)", "LicenseRef-x", "MIT Apache", "AND", "(MIT", "MIT)", "MIT OR"] {
            assert!(!is_expression(text), "{text}");
        }
    }
}
