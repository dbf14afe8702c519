//! SBOMs and scan reports.

use sealift::evidence::Wrapping;
use sealift::evidence::fuzzing::report;
use serde::de::IgnoredAny;

use crate::words::is_sound;

/// What is read does not depend on the pieces that it comes in; and what is read is JSON, or an envelope of it.
pub fn evidence(bytes: &[u8]) {
    let whole = report(bytes, usize::MAX);
    let pieces = report(bytes, 1);
    match (whole, pieces) {
        (Ok((whole, packages)), Ok((other, others))) => {
            assert_eq!(packages, others);
            assert_eq!(format!("{whole:?}"), format!("{other:?}"));
            let Some(report) = whole else { return };
            assert_eq!(report.packages, packages.len() as u64);
            assert!(report.format.is_sbom() || packages.is_empty());
            if report.wrapping != Wrapping::Envelope {
                serde_json::from_slice::<IgnoredAny>(bytes).expect("a report that is JSON");
            }
        }
        // Which of several faults is found may differ: some are seen ahead of the parser.
        (Err(error), Err(other)) => [error, other].iter().for_each(is_sound),
        (whole, pieces) => panic!("{} and {}", whole.is_ok(), pieces.is_ok()),
    }
}

/// One of each kind.
pub const SEEDS: [(&str, &str); 7] = [
    (
        "cyclonedx",
        r#"{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{"tools":[{"name":"syft"}],"component":{"name":"app","version":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","properties":[{"name":"aquasecurity:trivy:ImageID","value":"x"}]}},"components":[{"name":"musl","type":"library","licenses":[{"license":{"id":"MIT"}},{"expression":"MIT OR X"}],"components":[{"name":"y","group":"g"}]}]}"#,
    ),
    (
        "envelope",
        r#"{"payloadType":"application/vnd.in-toto+json","payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYSJ9fV0sInByZWRpY2F0ZVR5cGUiOiJodHRwczovL2Nvc2lnbi5zaWdzdG9yZS5kZXYvYXR0ZXN0YXRpb24vdnVsbi92MSIsInByZWRpY2F0ZSI6eyJzY2FubmVyIjp7InVyaSI6IngiLCJyZXN1bHQiOnsiU2NoZW1hVmVyc2lvbiI6Mn19LCJtZXRhZGF0YSI6e319fQ==","signatures":[{"sig":"x"}]}"#,
    ),
    (
        "grype",
        r#"{"matches":[{"vulnerability":{"id":"CVE-1","severity":"Negligible"},"artifact":{"name":"musl","version":"1"}}],"source":{"target":{"imageID":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","repoDigests":[]}},"descriptor":{"name":"grype","version":"1"}}"#,
    ),
    (
        "sarif",
        r#"{"version":"2.1.0","runs":[{"results":[{"ruleId":"CVE-1","level":"error","message":{"text":"Package: x\nSeverity: HIGH"}}],"tool":{"driver":{"name":"Trivy","rules":[{"id":"CVE-1","properties":{"security-severity":"9.8","tags":["HIGH"]}}]}},"properties":{"imageID":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}]}"#,
    ),
    (
        "spdx",
        r#"{"spdxVersion":"SPDX-2.3","creationInfo":{"creators":["Tool: syft-1.18.0"]},"packages":[{"SPDXID":"SPDXRef-I","name":"app","primaryPackagePurpose":"CONTAINER","checksums":[{"algorithm":"SHA256","checksumValue":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]},{"name":"musl","versionInfo":"1.2","licenseDeclared":"MIT","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:apk/alpine/musl@1.2"}]}],"relationships":[{"relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-I"}]}"#,
    ),
    (
        "statement",
        r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}],"predicateType":"https://cosign.sigstore.dev/attestation/vuln/v1","predicate":{"scanner":{"uri":"x","result":{"SchemaVersion":2}},"metadata":{}}}"#,
    ),
    (
        "trivy",
        r#"{"SchemaVersion":2,"ArtifactName":"app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","Metadata":{"ImageID":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","RepoDigests":[]},"Results":[{"Vulnerabilities":[{"VulnerabilityID":"CVE-1","PkgName":"musl","Severity":"HIGH"}]},{"Vulnerabilities":null}]}"#,
    ),
];
