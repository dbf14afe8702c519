//! What refers to many documents at once: a repository is gone through once, however many are asked about.

use std::collections::HashSet;

use super::inner::Inner;
use super::paths;
use crate::error::Result;
use crate::oci::{Digest, Repository};

impl Inner {
    /// Each subject, and a document that refers to it; as [`Inner::referrers`] finds them.
    pub fn referring(
        &self,
        repository: &Repository,
        subjects: &HashSet<Digest>,
    ) -> Result<Vec<(Digest, Digest)>> {
        let mut found = Vec::new();
        for digest in self.digests(&paths::revisions(repository))? {
            let subject = self.subject(&digest)?.filter(|subject| subjects.contains(subject));
            found.extend(subject.map(|subject| (subject, digest)));
        }
        for subject in subjects {
            let listed = self.fallback(repository, subject)?;
            found.extend(listed.into_iter().map(|digest| (*subject, digest)));
        }
        Ok(found)
    }
}
