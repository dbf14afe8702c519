//! A bundle that is decided but not written: everything is known except the layers' bytes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::contents::{Contents, Entry, Part};
use super::journal::Identity;
use super::statement::{EntryPath, EntrySize, Statement};
use super::{INDEX_PATH, LAYOUT_PATH, OCI_LAYOUT, STATEMENT_PATH, SUMS_PATH, signature_path, sums, tar};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Descriptor, Digest, LayoutIndex, MediaType, Role};
use crate::plan::{Image, Plan};
use crate::release::Release;
use crate::rules::PolicyRecord;
use crate::trust::{KeyId, Signature};

/// A bundle that is decided down to the last byte but for its signatures.
pub struct Draft {
    statement: Vec<u8>,
    index: Vec<u8>,
    sums: Vec<u8>,
    listed: Vec<(Part, Digest, u64)>,
}

impl Draft {
    /// Drafts the bundle of a plan.
    pub fn new(release: &Release, plan: &Plan, policy: PolicyRecord) -> Result<Self> {
        let sizes: HashMap<Digest, u64> =
            plan.nodes.iter().map(|node| (node.descriptor.digest, node.descriptor.size)).collect();
        let index = encode_index(&plan.images, |digest| sizes.get(digest).copied())?;
        let mut listed = vec![
            (Part::Layout, Digest::of(OCI_LAYOUT), OCI_LAYOUT.len() as u64),
            (Part::Index, Digest::of(&index), index.len() as u64),
        ];
        listed
            .extend(plan.nodes.iter().map(|node| (Part::Blob, node.descriptor.digest, node.descriptor.size)));
        let entries =
            listed.iter().map(|(part, digest, size)| EntrySize { path: path(*part, digest), size: *size });
        let statement = Statement::new(release, plan.images.clone(), policy, entries.collect()).encode()?;
        listed.insert(0, (Part::Statement, Digest::of(&statement), statement.len() as u64));
        let mut sums = Vec::with_capacity(listed.len() * 145);
        for (part, digest, _) in &listed {
            sums::append(&mut sums, digest, &path(*part, digest).text());
        }
        // What is written must be readable: the limits of the reader hold here too.
        sums::check_length(&sums)?;
        Ok(Draft { statement, index, sums, listed })
    }

    /// What is to be signed.
    pub fn sums(&self) -> &[u8] {
        &self.sums
    }

    /// Bytes of the whole bundle with this many signatures.
    pub fn total(&self, signatures: usize) -> Result<u64> {
        Ok(self.contents(signatures)?.total)
    }

    /// Adds the signatures: now every byte before the first blob is known, and the place of every other.
    pub fn sign(self, plan: &Plan, mut signatures: Vec<(KeyId, Signature)>) -> Result<Sealing> {
        signatures.sort_by_key(|(id, _)| *id);
        signatures.dedup_by_key(|(id, _)| *id);
        if signatures.len() > limits::SIGNATURES {
            return Err(Error::new(Kind::Usage, "too many signatures")
                .got(signatures.len())
                .expected(format_args!("at most {}", limits::SIGNATURES)));
        }
        let contents = Arc::new(self.contents(signatures.len())?);
        let identity = Identity::new(&self.sums, signatures.len(), &plan.images);
        Ok(Sealing { frame: contents.head(), head: self.head(&signatures)?, contents, identity })
    }

    fn contents(&self, signatures: usize) -> Result<Contents> {
        Contents::new(self.sums.len() as u64, signatures, self.listed.iter().copied())
    }

    /// Everything before the blobs, in pieces: a large bundle's head has many megabytes, one copy is enough.
    fn head(self, signatures: &[(KeyId, Signature)]) -> Result<Vec<Vec<u8>>> {
        let mut head = Vec::new();
        append(&mut head, SUMS_PATH, self.sums)?;
        for (id, signature) in signatures {
            append(&mut head, &signature_path(id), signature.to_vec())?;
        }
        append(&mut head, STATEMENT_PATH, self.statement)?;
        append(&mut head, LAYOUT_PATH, OCI_LAYOUT.to_vec())?;
        append(&mut head, INDEX_PATH, self.index)?;
        Ok(head)
    }
}

/// A signed bundle that lacks nothing but its blobs; or an archive that does.
pub struct Sealing {
    /// All bytes before the first blob's header, in pieces.
    pub head: Vec<Vec<u8>>,
    /// Where everything lies.
    pub contents: Arc<Contents>,
    /// What tells it from other bundles.
    pub identity: Identity,
    /// Bytes of the first frame of its compressed form.
    pub frame: u64,
}

impl Sealing {
    /// Bytes of the whole file, where it is not compressed.
    pub fn total(&self) -> u64 {
        self.contents.total
    }
}

pub(super) fn append(head: &mut Vec<Vec<u8>>, path: &str, content: Vec<u8>) -> Result<()> {
    let size = content.len() as u64;
    head.extend([tar::header(path, size)?.to_vec(), content, vec![0; tar::padding(size) as usize]]);
    Ok(())
}

fn path(part: Part, digest: &Digest) -> EntryPath {
    match part {
        Part::Blob => EntryPath::Blob(*digest),
        other => EntryPath::Other(Entry { part: other, digest: *digest, size: 0, offset: 0 }.path()),
    }
}

/// The bundle's `index.json`: one descriptor per name, then one for each document that is attached to
/// another, without a name. `size` tells a blob's bytes.
pub fn encode_index(images: &[Image], size: impl Fn(&Digest) -> Option<u64>) -> Result<Vec<u8>> {
    let missing = |what: &str, image: &Image| {
        Error::new(Kind::BlobMissing, format!("{what} is not in the bundle")).at(&image.source)
    };
    let described = |digest: Digest, media_type: &str| {
        let (role, media_type) = (Role::Index, MediaType::new(media_type));
        Some(Descriptor { role, media_type, digest, size: size(&digest)? })
    };
    let mut index = LayoutIndex::encoder();
    let mut taken = HashSet::new();
    for image in images {
        let descriptor = described(image.digest, &image.media_type)
            .ok_or_else(|| missing("an image's top document", image))?;
        for name in image.names() {
            if !taken.insert(name.clone()) {
                return Err(Error::new(Kind::RefAmbiguous, "one name is given to two images").at(name));
            }
            index.name(&descriptor, &name);
        }
    }
    let mut attached = HashSet::new();
    for (image, referrer) in images.iter().flat_map(|image| image.referrers.iter().map(move |r| (image, r))) {
        if attached.insert((referrer.digest, referrer.subject)) {
            let descriptor = described(referrer.digest, &referrer.media_type)
                .ok_or_else(|| missing("something that is attached to an image", image))?;
            index.attach(&descriptor, &referrer.artifact_type, &referrer.subject);
        }
    }
    Ok(index.finish())
}
