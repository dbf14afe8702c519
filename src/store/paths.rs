//! Where things lie: the paths of CNCF Distribution's filesystem driver (its `storage/paths.go`), built
//! only from names and digests that were checked.

use crate::oci::{Digest, Repository, Tag};

/// All blobs, documents among them, by the first two digits.
pub(super) const BLOBS: &str = "docker/registry/v2/blobs/sha256";
/// All repositories.
pub(super) const REPOSITORIES: &str = "docker/registry/v2/repositories";
/// What is sealift's own.
pub(super) const OWN: &str = ".sealift";
/// The lock of [`Section`](super::workshop::Section)s.
pub(super) const LOCK: &str = ".sealift/lock";
/// What is not complete yet, and what is on its way out.
pub(super) const WORKSHOPS: &str = ".sealift/tmp";

/// The directory of a blob.
pub(super) fn blob_directory(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{BLOBS}/{}/{hex}", hex.get(..2).unwrap_or_default())
}

/// A blob's bytes.
pub(super) fn blob(digest: &Digest) -> String {
    format!("{}/data", blob_directory(digest))
}

/// A repository's directory.
pub(super) fn repository(repository: &Repository) -> String {
    format!("{REPOSITORIES}/{repository}")
}

/// The directory of a repository's blobs.
pub(super) fn layers(repository: &Repository) -> String {
    format!("{REPOSITORIES}/{repository}/_layers/sha256")
}

/// The directory of what says that a repository has a blob.
pub(super) fn layer(repository: &Repository, digest: &Digest) -> String {
    format!("{}/{}", layers(repository), digest.hex())
}

/// The directory of a repository's documents.
pub(super) fn revisions(repository: &Repository) -> String {
    format!("{REPOSITORIES}/{repository}/_manifests/revisions/sha256")
}

/// The directory of what says that a repository has a document.
pub(super) fn revision(repository: &Repository, digest: &Digest) -> String {
    format!("{}/{}", revisions(repository), digest.hex())
}

/// The directory of a repository's tags.
pub(super) fn tags(repository: &Repository) -> String {
    format!("{REPOSITORIES}/{repository}/_manifests/tags")
}

/// The directory of a tag.
pub(super) fn tag(repository: &Repository, tag: &Tag) -> String {
    format!("{}/{tag}", tags(repository))
}

/// The directory of what a tag leads to.
pub(super) fn current(repository: &Repository, tag: &Tag) -> String {
    format!("{}/{tag}/current", tags(repository))
}

/// The directory of one thing that a tag has led to.
pub(super) fn former(repository: &Repository, tag: &Tag, digest: &Digest) -> String {
    format!("{}/{tag}/index/sha256/{}", tags(repository), digest.hex())
}

/// The file in such a directory.
pub(super) fn link(directory: &str) -> String {
    format!("{directory}/link")
}

/// The directory of a repository's uploads.
pub(super) fn uploads(repository: &Repository) -> String {
    format!("{REPOSITORIES}/{repository}/_uploads")
}

/// The directory of an upload.
pub(super) fn upload(repository: &Repository, id: &str) -> String {
    format!("{}/{id}", uploads(repository))
}
