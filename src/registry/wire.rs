//! The distribution API as it stands on the wire: paths, header names and error bodies. One table
//! for whoever asks (the client) and whoever answers (a server).

use std::fmt;

use serde::{Deserialize, Serialize};
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

/// Where upload sessions begin.
pub fn uploads_path(repository: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/")
}

/// Header names that HTTP itself does not know.
pub mod header {
    /// The digest of the content that an answer is about.
    pub const DIGEST: &str = "docker-content-digest";
    /// Said by registries of the first hour; some old clients look for it.
    pub const API_VERSION: &str = "docker-distribution-api-version";
}

/// An error code, the status it travels with, and what it says when nothing better is known
/// (distribution-spec, "Error Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The name in the body.
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The message.
    pub message: &'static str,
}

macro_rules! codes {
    ($($name:ident $status:literal $message:literal)+) => {
        /// The codes that the distribution-spec names.
        #[allow(missing_docs, reason = "each says in its message what it means")]
        pub mod code {
            use super::Code;
            $(pub const $name: Code = Code { name: stringify!($name), status: $status, message: $message };)+
        }
    };
}

codes! {
    BLOB_UNKNOWN          404 "blob unknown to registry"
    BLOB_UPLOAD_INVALID   400 "blob upload invalid"
    BLOB_UPLOAD_UNKNOWN   404 "blob upload unknown to registry"
    DIGEST_INVALID        400 "provided digest did not match uploaded content"
    MANIFEST_BLOB_UNKNOWN 404 "manifest references a manifest or blob unknown to registry"
    MANIFEST_INVALID      400 "manifest invalid"
    MANIFEST_UNKNOWN      404 "manifest unknown to registry"
    NAME_INVALID          400 "invalid repository name"
    NAME_UNKNOWN          404 "repository name not known to registry"
    SIZE_INVALID          400 "provided length did not match content length"
    UNAUTHORIZED          401 "authentication required"
    DENIED                403 "requested access to the resource is denied"
    UNSUPPORTED           405 "the operation is unsupported"
    TOOMANYREQUESTS       429 "too many requests"
}

/// An error body.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errors {
    /// At least one.
    pub errors: Vec<Entry>,
}

/// One entry of an error body.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The code's name.
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// For machines; of any shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

impl Errors {
    /// The body for one code.
    pub fn one(code: Code, detail: Option<Value>) -> Self {
        Errors {
            errors: vec![Entry { code: code.name.to_owned(), message: code.message.to_owned(), detail }],
        }
    }
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
        Some(_) => Some(text.lines().next()?.chars().take(200).collect()),
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
