//! What a request asks for: paths and queries of the distribution API, parsed into names and digests
//! before any of them is used. What does not parse never reaches a file system or a map.

use percent_encoding::percent_decode_str;

use crate::oci::{Digest, Registry, Repository, Tag};

use super::answer::{Answer, Code};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`.
    Root,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/<name>/tags/list`.
    Tags(Repository),
    /// `/v2/<name>/manifests/<reference>`.
    Manifest(Repository, Reference),
    /// `/v2/<name>/blobs/<digest>`.
    Blob(Repository, Digest),
    /// `/v2/<name>/blobs/uploads/`.
    Uploads(Repository),
    /// `/v2/<name>/blobs/uploads/<upload>`.
    Upload(Repository, String),
    /// `/v2/<name>/referrers/<digest>`.
    Referrers(Repository, Digest),
    /// Everything that is not below `/v2/`.
    Page(String),
}

/// What a manifest is asked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Its tag.
    Tag(Tag),
    /// Its digest.
    Digest(Digest),
}

/// Understands a path.
///
/// # Errors
/// The answer to a path that leads nowhere: 404, or 400 for names and digests that cannot be.
pub fn route(path: &str) -> Result<Route, Answer> {
    let Some(rest) = path.strip_prefix("/v2") else { return Ok(Route::Page(path.to_owned())) };
    let Some(rest) = rest.strip_prefix('/') else {
        return if rest.is_empty() { Ok(Route::Root) } else { Ok(Route::Page(path.to_owned())) };
    };
    if rest.is_empty() {
        return Ok(Route::Root);
    }
    let segments: Option<Vec<String>> = rest
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().ok().map(|text| text.into_owned()))
        .collect();
    let segments = segments.ok_or_else(|| Answer::error(Code::NameInvalid, "the path is not UTF-8"))?;
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["_catalog"] => Ok(Route::Catalog),
        [name @ .., "tags", "list"] => Ok(Route::Tags(repository(name)?)),
        [name @ .., "manifests", reference] => {
            Ok(Route::Manifest(repository(name)?, reference_of(reference)?))
        }
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
            Ok(Route::Uploads(repository(name)?))
        }
        [name @ .., "blobs", "uploads", upload] => Ok(Route::Upload(repository(name)?, upload_of(upload)?)),
        [name @ .., "blobs", digest] => Ok(Route::Blob(repository(name)?, digest_of(digest)?)),
        [name @ .., "referrers", digest] => Ok(Route::Referrers(repository(name)?, digest_of(digest)?)),
        _ => Err(Answer::error(Code::NotFound, "there is nothing at this path")),
    }
}

fn repository(words: &[&str]) -> Result<Repository, Answer> {
    // A segment with an encoded slash would become two.
    let plain = words.iter().all(|word| !word.contains('/'));
    let name = words.join("/").parse().ok().filter(|_| plain);
    name.ok_or_else(|| Answer::error(Code::NameInvalid, "not the name of a repository"))
}

fn reference_of(text: &str) -> Result<Reference, Answer> {
    if text.contains(':') {
        return digest_of(text).map(Reference::Digest);
    }
    let wrong = || Answer::error(Code::ManifestUnknown, "not a tag");
    text.parse().map(Reference::Tag).map_err(|_| wrong())
}

/// distribution-spec, "Digests": others than SHA-256 may be supported, and are not here.
pub fn digest_of(text: &str) -> Result<Digest, Answer> {
    text.parse().map_err(|_| Answer::error(Code::DigestInvalid, "not a SHA-256 digest"))
}

fn upload_of(text: &str) -> Result<String, Answer> {
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match fits {
        true => Ok(text.to_owned()),
        false => Err(Answer::error(Code::UploadUnknown, "not the name of an upload")),
    }
}

/// The part of a request's target behind the question mark.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Understands it; of what stands twice, the first counts.
    pub fn parse(text: &str) -> Self {
        Query(
            form_urlencoded::parse(text.as_bytes())
                .take(32)
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
        )
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The registry that a client takes this one for (containerd's mirrors, "ns").
    pub fn namespace(&self) -> Option<Registry> {
        self.get("ns")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names_or_nothing() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let name: Repository = "a/b".parse().unwrap();
        let found = |path: &str| route(path).map_err(|answer| answer.status.as_u16());
        assert_eq!(found("/v2/"), Ok(Route::Root));
        assert_eq!(found("/v2"), Ok(Route::Root));
        assert_eq!(found("/v2/_catalog"), Ok(Route::Catalog));
        assert_eq!(found("/v2/a/b/tags/list"), Ok(Route::Tags(name.clone())));
        assert_eq!(
            found("/v2/a/b/manifests/1.0"),
            Ok(Route::Manifest(name.clone(), Reference::Tag("1.0".parse().unwrap())))
        );
        assert_eq!(
            found(&format!("/v2/a/b/blobs/{}", digest.replace(':', "%3A"))),
            Ok(Route::Blob(name.clone(), digest.parse().unwrap()))
        );
        assert_eq!(found("/v2/a/b/blobs/uploads/"), Ok(Route::Uploads(name.clone())));
        assert_eq!(found("/v2/a/b/blobs/uploads"), Ok(Route::Uploads(name.clone())));
        assert_eq!(found("/v2/a/b/blobs/uploads/x-1"), Ok(Route::Upload(name, "x-1".into())));
        // A repository may be called like a part of the API.
        assert_eq!(
            found("/v2/blobs/manifests/1"),
            Ok(Route::Manifest("blobs".parse().unwrap(), Reference::Tag("1".parse().unwrap())))
        );
        assert_eq!(found("/"), Ok(Route::Page("/".into())));
        assert_eq!(found("/v2x"), Ok(Route::Page("/v2x".into())));
        for (path, status) in [
            ("/v2/a/b", 404),
            ("/v2//manifests/1", 400),
            ("/v2/../manifests/1", 400),
            ("/v2/a/%2e%2e/manifests/1", 400),
            ("/v2/a%2Fb/manifests/1", 400),
            ("/v2/A/manifests/1", 400),
            ("/v2/a/manifests/..", 404),
            ("/v2/a/manifests/sha256:bad", 400),
            ("/v2/a/blobs/sha256:../../x", 404),
            ("/v2/a/blobs/sha256:..%2f..%2fx", 400),
            ("/v2/a/blobs/uploads/..%2f..", 404),
            ("/v2/a/manifests/%ff", 400),
        ] {
            assert_eq!(found(path), Err(status), "{path}");
        }
    }
}
