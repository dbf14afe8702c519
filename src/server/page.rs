//! What people see.

use http::StatusCode;

use super::Server;
use super::answer::{Answer, Body, Code};

/// A page and the facts behind it.
#[derive(Clone)]
pub struct Page {
    /// The facts, as JSON.
    pub facts: serde_json::Value,
}

impl Server {
    pub(super) fn page(&self, path: &str) -> Result<Answer, Answer> {
        match (path, &self.page) {
            ("/healthz", _) => Ok(Answer::of(StatusCode::OK, "text/plain", Body::Bytes("ok\n".into()))),
            ("/api/v1/contents", Some(page)) => Ok(Answer::json(&page.facts)),
            _ => Err(Answer::error(Code::NotFound, "there is nothing at this path")),
        }
    }
}
