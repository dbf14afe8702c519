//! The distribution API as it stands on the wire: paths, header names and error bodies.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// The API's root; answers 200 where the API is spoken (distribution-spec, "Determining Support").
pub const ROOT: &str = "/v2/";

/// A manifest, by tag or digest.
pub fn manifest_path(repository: &str, reference: impl fmt::Display) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

/// A blob, by digest.
pub fn blob_path(repository: &str, digest: impl fmt::Display) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// What is attached to a document.
pub fn referrers_path(repository: &str, subject: impl fmt::Display) -> String {
    format!("/v2/{repository}/referrers/{subject}")
}

/// Where upload sessions begin.
pub fn uploads_path(repository: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/")
}

/// Header names that HTTP itself does not know.
pub mod header {
    /// The digest of the content that an answer is about.
    pub const DIGEST: &str = "docker-content-digest";
    /// The shortest part of a blob that a registry takes, but for the last one.
    pub const CHUNK_MIN: &str = "oci-chunk-min-length";
}

/// An error body (distribution-spec, "Error Codes").
#[derive(Deserialize)]
struct Errors {
    errors: Vec<Entry>,
}

/// One entry of an error body.
#[derive(Deserialize)]
struct Entry {
    code: String,
    #[serde(default)]
    message: String,
}

/// What a foreign error body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// The first code, if the body has the distribution-spec's shape.
    pub code: Option<String>,
    /// Something to show, as the server spelled it: to be escaped before a terminal sees it.
    pub text: Option<String>,
}

/// Reads an error body, whoever wrote it: a registry, a token server (which has other fields), a
/// proxy (which answers in HTML). Never fails; what is not understood says nothing.
pub fn complaint(body: &[u8]) -> Complaint {
    if let Ok(Errors { errors }) = serde_json::from_slice(body) {
        return errors.into_iter().next().map(of_entry).unwrap_or_default();
    }
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => ["error_description", "message", "details", "error"]
            .iter()
            .find_map(|key| value.get(key)?.as_str().map(str::to_owned)),
        Err(_) => prose(body),
    };
    Complaint { code: None, text }
}

fn of_entry(entry: Entry) -> Complaint {
    let text = match entry.message.as_str() {
        "" => entry.code.clone(),
        message => format!("{}: {message}", entry.code),
    };
    Complaint { code: Some(entry.code), text: Some(text) }
}

fn prose(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    match text.chars().next() {
        None => None,
        Some('<') => Some("an HTML page".to_owned()),
        Some(_) => text.lines().next().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_complains_is_understood() {
        let said = |body: &str| complaint(body.as_bytes());
        let text = |text: &str| Complaint { code: None, text: Some(text.to_owned()) };
        assert_eq!(
            said(r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"OTHER"}]}"#),
            Complaint { code: Some("DENIED".into()), text: Some("DENIED: no".into()) }
        );
        assert_eq!(said(r#"{"errors":[{"code":"DENIED","detail":[1]}]}"#).text.as_deref(), Some("DENIED"));
        assert_eq!(said(r#"{"details":"incorrect password"}"#), text("incorrect password"));
        assert_eq!(said("<html>...</html>"), text("an HTML page"));
        assert_eq!(said("slow down\nplease"), text("slow down"));
        for silent in ["", "[]", "7", "{\"errors\":[]}", "{\"errors\":7}"] {
            assert_eq!(said(silent), Complaint::default(), "{silent}");
        }
    }
}
