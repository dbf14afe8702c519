//! From verified bytes to facts, in one pass: whoever gives the bytes waits on the network or a disk, whoever parses
//! them has a thread of its own, and whoever takes the packages gets them while the rest is still to come.

use std::cell::RefCell;
use std::io::{BufReader, Cursor, Read};
use std::rc::Rc;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::envelope::{self, Payload};
use super::formats::{Document, Emit, Level, State};
use super::guard::{Budget, Guard};
use super::json::{Object, Reading, failed, told};
use super::report::{Package, Report, Wrapping};
use crate::content::{Reader, file};
use crate::error::{Error, Kind, Result};
use crate::limits;

/// Packages that are handed on at once.
const BATCH: usize = 200;

/// Reads an SBOM or a scan report to its end, and hands on the packages that it lists. `None` for what is neither:
/// other JSON, such as a statement about something else.
///
/// # Errors
/// `DocumentInvalid`, `DocumentAmbiguous`, `DocumentUnsupported` and `LimitExceeded` for what cannot be read (see
/// [`is_its_own`]); what the content's source says; what `each` says.
pub async fn read(
    mut content: Reader,
    each: &mut (dyn FnMut(Package) -> Result<()> + Send),
) -> Result<Option<Report>> {
    let (pieces, received) = channel(4);
    let (found, packages) = channel(2);
    let parsing = tokio::task::spawn_blocking(move || in_batches(Pieces::new(received), found));
    let feeding = async move {
        while let Some(piece) = content.chunk().await? {
            // Read on where nobody listens any more: what is wrong with damaged bytes is that they are damaged.
            let _ = pieces.send(Some(piece)).await;
        }
        let _ = pieces.send(None).await;
        Ok(())
    };
    let taking = async move {
        let mut packages: Receiver<Vec<Package>> = packages;
        while let Some(batch) = packages.recv().await {
            batch.into_iter().try_for_each(&mut *each)?;
        }
        Ok(())
    };
    let (fed, taken, parsed): (Result<()>, Result<()>, _) = tokio::join!(feeding, taking, parsing);
    fed?;
    taken?;
    parsed.map_err(|_| file::ended())?
}

/// Whether a failure says that a report cannot be read, though its bytes are those that were meant.
pub fn is_its_own(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::DocumentInvalid | Kind::DocumentAmbiguous | Kind::DocumentUnsupported | Kind::LimitExceeded
    )
}

/// Bytes that another task sends.
struct Pieces {
    received: Receiver<Option<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl Pieces {
    fn new(received: Receiver<Option<Bytes>>) -> Self {
        Pieces { received, piece: Bytes::new(), ended: false }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.piece.has_remaining() && !self.ended {
            match self.received.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                // The end was not seen.
                None => return Err(std::io::Error::other(file::ended())),
            }
        }
        let count = buffer.len().min(self.piece.remaining());
        if let Some(to) = buffer.get_mut(..count) {
            self.piece.copy_to_slice(to);
        }
        Ok(count)
    }
}

/// Reads a report, and hands its packages on some at a time.
fn in_batches(content: impl Read, found: Sender<Vec<Package>>) -> Result<Option<Report>> {
    let batch = Rc::new(RefCell::new(Vec::with_capacity(BATCH)));
    let send = move |batch: Vec<Package>| found.blocking_send(batch).map_err(|_| file::ended());
    let emit = {
        let (batch, send) = (batch.clone(), send.clone());
        move |package| {
            let mut batch = batch.borrow_mut();
            batch.push(package);
            match batch.len() >= BATCH {
                true => send(std::mem::take(&mut *batch)),
                false => Ok(()),
            }
        }
    };
    let report = parse(content, Box::new(emit))?;
    send(batch.take())?;
    Ok(report)
}

/// Reads a report.
pub(super) fn parse(mut content: impl Read, emit: Emit) -> Result<Option<Report>> {
    let mut start = Vec::new();
    let begun = Read::take(&mut content, 64 << 10).read_to_end(&mut start);
    begun.map_err(told)?;
    let enveloped = envelope::begins(&start);
    let whole = Read::chain(Cursor::new(start), content);
    let budget = Budget::default();
    match enveloped {
        true => document(Guard::new(Payload::new(whole), budget.clone()), budget, emit, true),
        false => document(Guard::new(whole, budget.clone()), budget, emit, false),
    }
}

fn document(json: impl Read, budget: Budget, emit: Emit, enveloped: bool) -> Result<Option<Report>> {
    let mut reading = Reading::new(State::new(emit), budget);
    let mut parser = serde_json::Deserializer::from_reader(BufReader::with_capacity(32 << 10, json));
    let top = Object { reading: &mut reading, fields: Document(Level::Top) };
    let parsed = serde::de::DeserializeSeed::deserialize(top, &mut parser).and_then(|()| parser.end());
    parsed.map_err(|error| failed(error, &mut reading))?;
    let mut state = reading.state;
    let format = state.format()?;
    let wrapping = match (enveloped, state.statement) {
        (true, true) => Wrapping::Envelope,
        (false, true) => Wrapping::Statement,
        (false, false) => Wrapping::Bare,
        // Signed, but no statement about anything.
        (true, false) => return Ok(None),
    };
    Ok(format.map(|format| Report {
        format,
        wrapping,
        tool: state.tool.chars().take(limits::EVIDENCE_TOOL).collect(),
        subjects: state.subjects,
        about: state.about,
        packages: state.packages,
        counts: state.counts,
        worst: state.worst.list(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Format, Severity};
    use crate::oci::{Descriptor, Digest, MediaType, Role};

    async fn learned(text: &str) -> Result<(Option<Report>, Vec<Package>)> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let expected = Descriptor { role: Role::Layer, media_type: MediaType::new("x"), digest, size };
        let mut packages = Vec::new();
        let mut each = |package| {
            packages.push(package);
            Ok(())
        };
        let report = read(Reader::of_bytes(&expected, "test", bytes), &mut each).await?;
        Ok((report, packages))
    }

    const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[tokio::test]
    async fn each_format_is_told_by_its_fields() {
        let spdx = format!(
            r#"{{"packages":[{{"SPDXID":"SPDXRef-I","name":"app","primaryPackagePurpose":"CONTAINER","checksums":[{{"algorithm":"SHA256","checksumValue":"{HEX}"}}]}},{{"SPDXID":"SPDXRef-P","name":"musl","versionInfo":"1.2","licenseConcluded":"NOASSERTION","licenseDeclared":"MIT","externalRefs":[{{"referenceType":"purl","referenceLocator":"pkg:apk/alpine/musl@1.2"}}]}}],"spdxVersion":"SPDX-2.3"}}"#
        );
        let cyclonedx = format!(
            r#"{{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{{"component":{{"name":"app","version":"sha256:{HEX}"}}}},"components":[{{"name":"musl","version":"1.2","purl":"pkg:apk/alpine/musl@1.2","licenses":[{{"license":{{"id":"MIT"}}}}]}}]}}"#
        );
        let musl = Package {
            name: "musl".to_owned(),
            version: "1.2".to_owned(),
            licence: "MIT".to_owned(),
            kind: "apk".to_owned(),
            purl: "pkg:apk/alpine/musl@1.2".to_owned(),
        };
        let trivy = format!(
            r#"{{"SchemaVersion":2,"Metadata":{{"ImageID":"sha256:{HEX}"}},"Results":[{{"Vulnerabilities":[{{"VulnerabilityID":"CVE-1","PkgName":"musl","Severity":"HIGH"}}]}},{{"Vulnerabilities":null}}]}}"#
        );
        let grype = format!(
            r#"{{"matches":[{{"vulnerability":{{"id":"CVE-1","severity":"High"}},"artifact":{{"name":"musl"}}}}],"source":{{"type":"image","target":{{"imageID":"sha256:{HEX}"}}}},"descriptor":{{"name":"grype","version":"0.9"}}}}"#
        );
        let sarif = format!(
            r#"{{"version":"2.1.0","runs":[{{"results":[{{"ruleId":"CVE-1","level":"error","message":{{"text":"x"}}}}],"tool":{{"driver":{{"name":"Trivy","rules":[{{"id":"CVE-1","properties":{{"tags":["vulnerability","HIGH"]}}}}]}}}},"properties":{{"imageID":"sha256:{HEX}"}}}}]}}"#
        );
        for (text, format) in [
            (spdx, Format::Spdx),
            (cyclonedx, Format::CycloneDx),
            (trivy, Format::Trivy),
            (grype, Format::Grype),
            (sarif, Format::Sarif),
        ] {
            let (report, packages) = learned(&text).await.unwrap();
            let report = report.unwrap();
            assert_eq!(report.format, format);
            assert_eq!(report.about, [Digest::from_hex(HEX).unwrap()], "{format}");
            match format.is_sbom() {
                true => assert_eq!(packages, std::slice::from_ref(&musl), "{format}"),
                false => {
                    assert_eq!(Severity::ALL.map(|one| report.counts.of(one)), [0, 1, 0, 0, 0], "{format}");
                    assert_eq!(report.worst.len(), 1);
                }
            }
            let statement = format!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{HEX}"}}}}],"predicateType":"x","predicate":{text}}}"#
            );
            let (report, _) = learned(&statement).await.unwrap();
            let report = report.unwrap();
            assert_eq!((report.format, report.wrapping), (format, Wrapping::Statement));
            assert_eq!(report.subjects, [Digest::from_hex(HEX).unwrap()]);
        }
    }

    #[tokio::test]
    async fn what_is_no_report_is_none_and_what_is_unclear_is_refused() {
        for text in
            ["{}", "[1,{}]", r#"{"_type":"https://in-toto.io/Statement/v1","predicate":{"builder":{}}}"#]
        {
            assert!(learned(text).await.unwrap().0.is_none(), "{text}");
        }
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(limits::EVIDENCE_TEXT as usize + 1));
        let large = format!(
            r#"{{"spdxVersion":"SPDX-2.3","packages":[{{"name":"x","attributionTexts":[{}""]}}]}}"#,
            r#""text","#.repeat(limits::EVIDENCE_ITEM as usize / 5)
        );
        for (text, kind) in [
            ("", Kind::DocumentInvalid),
            ("{", Kind::DocumentInvalid),
            ("{} {}", Kind::DocumentInvalid),
            ("packages of 0", Kind::DocumentInvalid),
            (r#"{"spdxVersion":"SPDX-2.3","bomFormat":"CycloneDX"}"#, Kind::DocumentAmbiguous),
            (r#"{"spdxVersion":"SPDX-2.3","packages":[],"packages":[]}"#, Kind::DocumentAmbiguous),
            (r#"{"spdxVersion":"SPDX-2.3","Packages":[]}"#, Kind::DocumentAmbiguous),
            (r#"{"SchemaVersion":2,"results":[]}"#, Kind::DocumentAmbiguous),
            (r#"{"spdxVersion":"SPDX-2.3","packages":[{"name":"a","name":"b"}]}"#, Kind::DocumentAmbiguous),
            (r#"{"SchemaVersion":2,"Metadata":{"ImageID":"a","ImageID":"b"}}"#, Kind::DocumentAmbiguous),
            (r#"{"spdxVersion":"SPDX-3.0"}"#, Kind::DocumentUnsupported),
            (r#"{"spdxVersion":"SPDX-2.3","packages":[{"versionInfo":"1"}]}"#, Kind::DocumentInvalid),
            (
                r#"{"SchemaVersion":2,"Results":[{"Vulnerabilities":[{"VulnerabilityID":"x","Severity":"bad"}]}]}"#,
                Kind::DocumentUnsupported,
            ),
            (
                r#"{"SchemaVersion":2,"Results":[{"Vulnerabilities":[{"Severity":"HIGH"}]}]}"#,
                Kind::DocumentInvalid,
            ),
            (&deep, Kind::LimitExceeded),
            (&long, Kind::LimitExceeded),
            (&large, Kind::LimitExceeded),
        ] {
            let said = learned(text).await.map(|_| ()).map_err(|error| error.kind());
            assert_eq!(said, Err(kind), "{}", text.get(..80).unwrap_or(text));
        }
    }
}
