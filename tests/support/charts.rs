//! Packaged charts, made by code, in whatever shape a test needs.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::parts::header;

/// A `Chart.yaml` of this name and version.
pub fn chart_yaml(name: &str, version: &str) -> String {
    format!("apiVersion: v2\nname: {name}\nversion: {version:?}\ndescription: A chart\n")
}

/// A chart as `helm package` writes it.
pub fn chart(name: &str, version: &str) -> Vec<u8> {
    packed(&chart_entries(name, version))
}

/// The entries of such a chart.
pub fn chart_entries(name: &str, version: &str) -> Vec<Vec<u8>> {
    let yaml = chart_yaml(name, version);
    let entries: [(&str, &[u8]); 3] = [
        ("Chart.yaml", yaml.as_bytes()),
        ("values.yaml", b"replicas: 1\n"),
        ("templates/service.yaml", b"kind: Service\n"),
    ];
    entries.map(|(path, content)| entry(&format!("{name}/{path}"), b'0', content)).to_vec()
}

/// An entry of a tar, of any type.
pub fn entry(path: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut entry = header(path, content.len()).to_vec();
    entry[156] = kind;
    entry[148..156].fill(b' ');
    let sum: u32 = entry.iter().map(|byte| u32::from(*byte)).sum();
    entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// An extended header that says this of the next entry.
pub fn pax(key: &str, value: &str) -> Vec<u8> {
    // The length counts itself.
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
    entry("PaxHeaders/next", b'x', format!("{length} {key}={value}\n").as_bytes())
}

/// A gzip'ed tar of these entries.
pub fn packed(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entries.concat();
    tar.resize(tar.len() + 1024, 0);
    zipped(&tar)
}

/// These bytes, gzip'ed.
pub fn zipped(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
