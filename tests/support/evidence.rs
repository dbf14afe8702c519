//! SBOMs and scan reports as tools write them, after their documented schemas; attached in each way that tools attach
//! them.

use base64::Engine;
use serde_json::{Value, json};

use super::images::Layout;

/// A package: its name, version and licence, and the type of its purl.
pub type Package<'a> = (&'a str, &'a str, &'a str, &'a str);

/// A vulnerability: its name, severity (as CVSS words in upper case), and package.
pub type Vulnerability<'a> = (&'a str, &'a str, &'a str);

pub const PACKAGES: [Package; 3] = [
    ("musl", "1.2.5-r1", "MIT", "apk"),
    ("openssl", "3.3.2-r4", "Apache-2.0", "apk"),
    ("golang.org/x/net", "v0.33.0", "BSD-3-Clause", "golang"),
];

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn purl((name, version, _, kind): &Package) -> String {
    format!("pkg:{kind}/{name}@{version}")
}

fn spdx_packages(packages: &[Package]) -> Vec<Value> {
    let package = |one: &Package| {
        json!({
            "name": one.0, "SPDXID": format!("SPDXRef-Package-{}-{}", one.3, one.0.replace('/', "-")),
            "versionInfo": one.1, "supplier": "NOASSERTION", "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false, "licenseConcluded": "NOASSERTION", "licenseDeclared": one.2,
            "copyrightText": "NOASSERTION",
            "externalRefs": [
                { "referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a:x" },
                { "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl(one) },
            ],
        })
    };
    packages.iter().map(package).collect()
}

/// `syft IMAGE -o spdx-json`: the root's checksum and purl have the manifest's digest.
pub fn spdx_of_syft(manifest: &str, packages: &[Package]) -> Value {
    let mut all = spdx_packages(packages);
    all.push(json!({
        "name": "registry.example.com/tools/tool", "SPDXID": "SPDXRef-DocumentRoot-Image-tool", "versionInfo": "1.0.0",
        "primaryPackagePurpose": "CONTAINER", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "checksums": [{ "algorithm": "SHA256", "checksumValue": hex(manifest) }],
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
            "referenceLocator": format!("pkg:oci/tool@sha256%3A{}?arch=amd64&tag=1.0.0", hex(manifest)),
        }],
    }));
    json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "tool",
        "documentNamespace": "https://anchore.com/syft/image/tool-1",
        "creationInfo": {
            "licenseListVersion": "3.25", "creators": ["Organization: Anchore, Inc", "Tool: syft-1.18.0"],
            "created": "2026-06-01T00:00:00Z",
        },
        "packages": all,
        "files": [{ "fileName": "/bin/busybox", "SPDXID": "SPDXRef-File-1", "checksums": [{ "algorithm": "SHA1", "checksumValue": "0" }] }],
        "relationships": [{
            "spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": "SPDXRef-DocumentRoot-Image-tool",
            "relationshipType": "DESCRIBES",
        }],
    })
}

/// `trivy image --format spdx-json`: the image's id and digests are remarks on the root.
pub fn spdx_of_trivy(config: &str, repo_digest: &str, packages: &[Package]) -> Value {
    let mut all = vec![json!({
        "name": "registry.example.com/tools/tool:1.0.0", "SPDXID": "SPDXRef-ContainerImage-914ce534c9171676",
        "downloadLocation": "NONE", "filesAnalyzed": false, "primaryPackagePurpose": "CONTAINER",
        "annotations": [
            { "annotator": "Tool: trivy-0.58.0", "annotationType": "OTHER", "comment": "DiffID: sha256:0000000000000000000000000000000000000000000000000000000000000000" },
            { "annotator": "Tool: trivy-0.58.0", "annotationType": "OTHER", "comment": format!("ImageID: {config}") },
            { "annotator": "Tool: trivy-0.58.0", "annotationType": "OTHER", "comment": format!("RepoDigest: tools/tool@{repo_digest}") },
        ],
    })];
    all.extend(spdx_packages(packages));
    json!({
        "SPDXID": "SPDXRef-DOCUMENT", "creationInfo": { "creators": ["Organization: aquasecurity", "Tool: trivy-0.58.0"] },
        "packages": all,
        "relationships": [{
            "relatedSpdxElement": "SPDXRef-ContainerImage-914ce534c9171676", "relationshipType": "DESCRIBES",
            "spdxElementId": "SPDXRef-DOCUMENT",
        }],
        "spdxVersion": "SPDX-2.3",
    })
}

fn components(packages: &[Package]) -> Vec<Value> {
    let component = |one: &Package| {
        json!({
            "bom-ref": purl(one), "type": "library", "name": one.0, "version": one.1, "purl": purl(one),
            "licenses": [{ "license": { "id": one.2 } }],
            "properties": [{ "name": "syft:package:type", "value": one.3 }],
        })
    };
    packages.iter().map(component).collect()
}

/// `syft IMAGE -o cyclonedx-json`: the digest is the component's version.
pub fn cyclonedx_of_syft(manifest: &str, packages: &[Package]) -> Value {
    let mut components = components(packages);
    components.push(json!({ "bom-ref": "f", "type": "file", "name": "/bin/busybox" }));
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6",
        "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79", "version": 1,
        "metadata": {
            "timestamp": "2026-06-01T00:00:00Z",
            "tools": { "components": [{ "type": "application", "author": "anchore", "name": "syft", "version": "1.18.0" }] },
            "component": { "bom-ref": "1", "type": "container", "name": "registry.example.com/tools/tool", "version": manifest },
        },
        "components": components,
    })
}

/// `trivy image --format cyclonedx`: the image's id and digests are properties.
pub fn cyclonedx_of_trivy(config: &str, repo_digest: &str, packages: &[Package]) -> Value {
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.4", "version": 1,
        "metadata": {
            "tools": [{ "vendor": "aquasecurity", "name": "trivy", "version": "0.40.0" }],
            "component": {
                "type": "container", "name": "tool:1.0.0", "bom-ref": format!("pkg:oci/tool@{repo_digest}?arch=amd64"),
                "purl": format!("pkg:oci/tool@{repo_digest}?arch=amd64"),
                "properties": [
                    { "name": "aquasecurity:trivy:ImageID", "value": config },
                    { "name": "aquasecurity:trivy:RepoDigest", "value": format!("tools/tool@{repo_digest}") },
                    { "name": "aquasecurity:trivy:SchemaVersion", "value": "2" },
                ],
            },
        },
        // As it nests applications.
        "components": [{ "type": "operating-system", "name": "alpine", "version": "3.21", "components": components(packages) }],
    })
}

/// `trivy image --format json`.
pub fn trivy(config: &str, repo_digest: &str, found: &[Vulnerability]) -> Value {
    let found: Vec<Value> = found
        .iter()
        .map(|(id, severity, package)| {
            json!({
                "VulnerabilityID": id, "PkgID": format!("{package}@1.0"), "PkgName": package,
                "PkgIdentifier": { "PURL": format!("pkg:apk/alpine/{package}@1.0") }, "InstalledVersion": "1.0",
                "FixedVersion": "1.1", "Status": "fixed", "SeveritySource": "nvd", "Title": "a \"title\" \\ größer",
                "Severity": severity, "CVSS": { "nvd": { "V3Score": 7.5 } }, "References": ["https://example.com"],
            })
        })
        .collect();
    json!({
        "SchemaVersion": 2, "CreatedAt": "2026-06-01T00:00:00Z", "ArtifactName": "registry.example.com/tools/tool:1.0.0",
        "ArtifactType": "container_image",
        "Metadata": {
            "Size": 5000, "OS": { "Family": "alpine", "Name": "3.21" }, "ImageID": config,
            "DiffIDs": ["sha256:0000000000000000000000000000000000000000000000000000000000000000"],
            "RepoTags": ["registry.example.com/tools/tool:1.0.0"],
            "RepoDigests": [format!("registry.example.com/tools/tool@{repo_digest}")],
            "ImageConfig": { "architecture": "amd64", "os": "linux", "config": {} },
        },
        "Results": [
            { "Target": "tool (alpine 3.21)", "Class": "os-pkgs", "Type": "alpine", "Vulnerabilities": found },
            { "Target": "app/go.mod", "Class": "lang-pkgs", "Type": "gomod" },
            { "Target": "app.yaml", "Class": "config", "Misconfigurations": [{ "ID": "DS001", "Severity": "CRITICAL" }] },
        ],
    })
}

/// `grype IMAGE -o json`.
pub fn grype(config: &str, manifest: &str, found: &[Vulnerability]) -> Value {
    let capital = |word: &str| format!("{}{}", &word[..1], word[1..].to_lowercase());
    let matches: Vec<Value> = found
        .iter()
        .map(|(id, severity, package)| {
            json!({
                "vulnerability": {
                    "id": id, "dataSource": "https://example.com", "namespace": "alpine:distro:alpine:3.21",
                    "severity": capital(severity), "urls": [], "fix": { "versions": ["1.1"], "state": "fixed" },
                },
                "relatedVulnerabilities": [{ "id": id, "severity": "Critical" }],
                "matchDetails": [{ "type": "exact-direct-match" }],
                "artifact": { "id": "1", "name": package, "version": "1.0", "type": "apk", "licenses": ["MIT"] },
            })
        })
        .collect();
    json!({
        "matches": matches,
        "ignoredMatches": [{ "vulnerability": { "id": "CVE-0", "severity": "Critical" } }],
        "source": {
            "type": "image",
            "target": {
                "userInput": "registry.example.com/tools/tool:1.0.0", "imageID": config, "manifestDigest": manifest,
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "tags": [], "imageSize": 5000,
                "layers": [{ "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000" }],
                "repoDigests": [],
            },
        },
        "distro": { "name": "alpine", "version": "3.21" },
        "descriptor": { "name": "grype", "version": "0.86.1", "configuration": {} },
    })
}

/// `trivy image --format sarif`.
pub fn sarif_of_trivy(config: &str, repo_digest: &str, found: &[Vulnerability]) -> Value {
    let level = |severity: &str| match severity {
        "CRITICAL" | "HIGH" => "error",
        "MEDIUM" => "warning",
        _ => "note",
    };
    let mut rules: Vec<Value> = Vec::new();
    for (id, severity, _) in found {
        if rules.iter().all(|rule| rule["id"] != *id) {
            rules.push(json!({
                "id": id, "name": "OsPackageVulnerability", "defaultConfiguration": { "level": level(severity) },
                "properties": { "precision": "very-high", "security-severity": "9.8", "tags": ["vulnerability", "security", severity] },
            }));
        }
    }
    rules.push(
        json!({ "id": "DS001", "properties": { "tags": ["misconfiguration", "security", "CRITICAL"] } }),
    );
    let mut results: Vec<Value> = found
        .iter()
        .map(|(id, severity, package)| {
            let text = format!("Package: {package}\nInstalled Version: 1.0\nVulnerability {id}\nSeverity: {severity}\nFixed Version: 1.1");
            json!({ "ruleId": id, "ruleIndex": 0, "level": level(severity), "message": { "text": text }, "locations": [] })
        })
        .collect();
    results.push(json!({ "ruleId": "DS001", "level": "error", "message": { "text": "Artifact: app.yaml\nSeverity: CRITICAL" } }));
    json!({
        "version": "2.1.0", "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{
            "tool": { "driver": { "fullName": "Trivy Vulnerability Scanner", "name": "Trivy", "rules": rules, "version": "0.58.0" } },
            "results": results,
            "columnKind": "utf16CodeUnits",
            "properties": { "imageID": config, "imageName": "tools/tool", "repoDigests": [format!("tools/tool@{repo_digest}")], "repoTags": [] },
        }],
    })
}

/// `grype IMAGE -o sarif`: names no digest.
pub fn sarif_of_grype(found: &[Vulnerability]) -> Value {
    let score = |severity: &str| match severity {
        "CRITICAL" => "9.8",
        "HIGH" => "7.5",
        "MEDIUM" => "5.0",
        _ => "2.1",
    };
    let rules: Vec<Value> = found
        .iter()
        .map(|(id, severity, package)| {
            json!({ "id": format!("{id}-{package}"), "properties": { "security-severity": score(severity) } })
        })
        .collect();
    let results: Vec<Value> = found
        .iter()
        .map(|(id, severity, package)| {
            let text = format!(
                "A {} vulnerability in apk package: {package}, version 1.0 was found",
                severity.to_lowercase()
            );
            json!({ "ruleId": format!("{id}-{package}"), "message": { "text": text } })
        })
        .collect();
    json!({
        "version": "2.1.0",
        "runs": [{ "results": results, "tool": { "driver": { "name": "grype", "version": "0.86.1", "rules": rules } } }],
    })
}

/// An in-toto statement.
pub fn statement(kind: &str, subject: &str, predicate: Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v0.1", "predicateType": kind,
        "subject": [{ "name": "registry.example.com/tools/tool", "digest": { "sha256": hex(subject) } }],
        "predicate": predicate,
    })
}

/// cosign's predicate about vulnerabilities.
pub fn vuln(result: Value) -> Value {
    json!({
        "invocation": { "parameters": null, "uri": "", "event_id": "", "builder.id": "" },
        "scanner": { "uri": "pkg:github/aquasecurity/trivy@0.58.0", "version": "0.58.0", "db": { "uri": "", "version": "" }, "result": result },
        "metadata": { "scanStartedOn": "2026-06-01T00:00:00Z", "scanFinishedOn": "2026-06-01T00:00:00Z" },
    })
}

/// The statement in an envelope, as `cosign attest` signs it.
pub fn envelope(statement: &Value) -> Value {
    let payload = base64::engine::general_purpose::STANDARD.encode(statement.to_string());
    json!({
        "payloadType": "application/vnd.in-toto+json", "payload": payload,
        "signatures": [{ "keyid": "", "sig": "MEUCIQ==" }],
    })
}

/// A document with one layer of this media type.
pub fn document(layout: &Layout, kind: &str, layer: &str, content: &Value, subject: Option<&Value>) -> Value {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.blob("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [layout.blob(layer, content.to_string().as_bytes())],
    });
    if !kind.is_empty() {
        manifest["artifactType"] = json!(kind);
    }
    if let Some(subject) = subject {
        let fields = ["mediaType", "digest", "size"];
        manifest["subject"] =
            fields.iter().map(|field| ((*field).to_owned(), subject[field].clone())).collect();
    }
    layout.document(&manifest)
}

/// An index with one more entry, in which BuildKit has attestations about `subject`.
pub fn with_attestation(layout: &Layout, index: &Value, subject: &str, statements: &[Value]) -> Value {
    let config = json!({ "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] } });
    let layers: Vec<Value> = statements
        .iter()
        .map(|statement| {
            let mut layer = layout.blob("application/vnd.in-toto+json", statement.to_string().as_bytes());
            layer["annotations"] = json!({ "in-toto.io/predicate-type": statement["predicateType"] });
            layer
        })
        .collect();
    let mut entry = layout.document(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
        "layers": layers,
    }));
    entry["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    entry["annotations"] = json!({ "vnd.docker.reference.digest": subject, "vnd.docker.reference.type": "attestation-manifest" });
    let mut index = index.clone();
    index["manifests"].as_array_mut().unwrap().push(entry);
    layout.document(&index)
}
