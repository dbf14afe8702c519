//! What is answered: a status, headers, and a body that may be a stretch of a file.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use bytes::Bytes;
use serde_json::json;

use crate::content::Extent;
use crate::error::{Error, Kind, printable};

/// The codes of distribution-spec, "Error Codes", and those that registries use besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's table explains them")]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    UploadUnknown,
    NotFound,
    RangeInvalid,
    TooLarge,
    MethodNotAllowed,
    Unknown,
    Full,
}

impl Code {
    fn status(self) -> StatusCode {
        use Code::*;
        match self {
            BlobUnknown | BlobUploadUnknown | UploadUnknown | ManifestUnknown | NameUnknown | NotFound => {
                StatusCode::NOT_FOUND
            }
            ManifestBlobUnknown | BlobUploadInvalid | DigestInvalid | ManifestInvalid | NameInvalid
            | SizeInvalid => StatusCode::BAD_REQUEST,
            Unauthorized => StatusCode::UNAUTHORIZED,
            Denied => StatusCode::FORBIDDEN,
            // distribution-spec, "Deleting tags": where it is not supported, 400 or 405.
            Unsupported | MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Full => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    fn name(self) -> &'static str {
        use Code::*;
        match self {
            BlobUnknown => "BLOB_UNKNOWN",
            BlobUploadInvalid | RangeInvalid => "BLOB_UPLOAD_INVALID",
            BlobUploadUnknown | UploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            DigestInvalid => "DIGEST_INVALID",
            ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            ManifestInvalid => "MANIFEST_INVALID",
            ManifestUnknown => "MANIFEST_UNKNOWN",
            NameInvalid => "NAME_INVALID",
            NameUnknown | NotFound => "NAME_UNKNOWN",
            SizeInvalid | TooLarge => "SIZE_INVALID",
            Unauthorized => "UNAUTHORIZED",
            Denied => "DENIED",
            Unsupported | MethodNotAllowed => "UNSUPPORTED",
            TooManyRequests => "TOOMANYREQUESTS",
            Unknown | Full => "UNKNOWN",
        }
    }
}

/// An answer, however it will be sent.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without the body's length.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// The body of an answer.
#[derive(Clone)]
pub enum Body {
    /// Bytes in memory; often none.
    Bytes(Bytes),
    /// A stretch of a file.
    Stretch(Extent),
}

impl Body {
    /// Its bytes.
    pub fn length(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stretch(extent) => extent.size,
        }
    }
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Answer { status, headers: HeaderMap::new(), body: Body::Bytes(Bytes::new()) }
    }

    /// One with a body of this type.
    pub fn of(status: StatusCode, media_type: &str, body: Body) -> Self {
        let answer = Answer { status, headers: HeaderMap::new(), body };
        answer.with(CONTENT_TYPE, media_type)
    }

    /// A JSON document.
    pub fn json(value: &serde_json::Value) -> Self {
        Answer::of(StatusCode::OK, "application/json", Body::Bytes(value.to_string().into()))
    }

    /// A failure, as distribution-spec, "Error Codes" wants it.
    pub fn error(code: Code, message: &str) -> Self {
        let body = json!({ "errors": [{ "code": code.name(), "message": message }] });
        let answer = Answer::of(code.status(), "application/json", Body::Bytes(body.to_string().into()));
        match code {
            Code::TooManyRequests => answer.with(RETRY_AFTER, "1"),
            _ => answer,
        }
    }

    /// A failure of the place that content comes from or goes to. Paths stay inside.
    pub fn failure(error: &Error) -> Self {
        let code = match error.kind() {
            Kind::DigestMismatch | Kind::DigestInvalid => Code::DigestInvalid,
            Kind::SizeMismatch => Code::SizeInvalid,
            Kind::LimitExceeded => Code::TooManyRequests,
            Kind::NoSpace => Code::Full,
            _ => Code::Unknown,
        };
        let message = match code {
            Code::Unknown => "the registry cannot do this now: its log says why",
            Code::Full => "the registry's disk is full",
            Code::TooManyRequests => "too much at once: try again later",
            Code::SizeInvalid => "not as many bytes as were announced",
            _ => "the content does not have this digest",
        };
        Answer::error(code, message)
    }

    /// With a header more. A value that no header can have is left out.
    pub fn with(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(&printable(value.as_ref())) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The answer to HEAD: the same, but nothing follows.
    pub fn headers_only(mut self) -> Self {
        let length = self.body.length();
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        self.body = Body::Bytes(Bytes::new());
        self
    }
}
