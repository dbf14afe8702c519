//! The record: a bundle's statement, sums and signatures, attached to each image at a registry, so that the registry
//! itself says where its content came from. One document for each image, which names it as its subject; what they
//! name is the same for all. The same bundle and keys make the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use crate::bundle::{Proof, Statement};
use crate::content::{Extent, Source, Unverified};
use crate::error::{Error, Kind, Result};
use crate::oci::{Attached, Descriptor, Digest, MediaType, Name, RECORD, Role, media};
use crate::plan::{Plan, Sources};

/// The config of what has none (image-spec manifest.md, "Guidance for an Empty Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";

/// Annotation: the digest of the bundle's sums.
const BUNDLE: &str = "vnd.sealift.bundle.digest";

/// The records of a plan's images.
#[derive(Clone)]
pub struct Records(Arc<Made>);

struct Made {
    proof: Proof,
    documents: HashMap<Digest, Bytes>,
}

impl Records {
    /// Attaches one to each image of the plan.
    pub fn attach(plan: &mut Plan, proof: Proof, statement: &Statement, bundle: Digest) -> Self {
        let empty = Descriptor {
            role: Role::Config,
            media_type: MediaType::new(EMPTY_TYPE),
            digest: Digest::of(EMPTY),
            size: EMPTY.len() as u64,
        };
        let mut documents = HashMap::from([(empty.digest, Bytes::from_static(EMPTY))]);
        let parts = proof.parts().iter().map(|part| part.descriptor.clone());
        let children: Vec<Descriptor> = [empty].into_iter().chain(parts).collect();
        let roots: BTreeMap<usize, Descriptor> = plan
            .roots
            .iter()
            .enumerate()
            .filter_map(|(image, root)| Some((image, plan.nodes.get(*root)?.descriptor.clone())))
            .collect();
        for (image, root) in roots {
            let bytes = document(&root, &proof, statement, bundle);
            let (media_type, digest) = (MediaType::new(media::MANIFEST), Digest::of(&bytes));
            let size = bytes.len() as u64;
            let descriptor = Descriptor { role: Role::Manifest, media_type, digest, size };
            plan.attach(image, &descriptor, &children, RECORD);
            documents.insert(digest, bytes);
        }
        Records(Arc::new(Made { proof, documents }))
    }

    /// Where the content of the plan comes from.
    pub fn over(&self, sources: Sources) -> Sources {
        let over = |source| -> Arc<dyn Source> { Arc::new(Over { made: self.0.clone(), source }) };
        sources.into_iter().map(over).collect()
    }
}

/// Keys sorted, no white space.
fn document(subject: &Descriptor, proof: &Proof, statement: &Statement, bundle: Digest) -> Bytes {
    let layers = proof.parts().iter().map(|part| {
        let Descriptor { media_type, digest, size, .. } = &part.descriptor;
        json!({
            "annotations": { "org.opencontainers.image.title": part.title },
            "mediaType": media_type.as_str(), "digest": digest, "size": size,
        })
    });
    let text = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "artifactType": RECORD,
        "config": { "mediaType": EMPTY_TYPE, "digest": Digest::of(EMPTY), "size": EMPTY.len(), "data": "e30=" },
        "layers": layers.collect::<Vec<_>>(),
        "subject": { "mediaType": subject.media_type.as_str(), "digest": subject.digest, "size": subject.size },
        "annotations": {
            "org.opencontainers.image.title": statement.name,
            "org.opencontainers.image.version": statement.version,
            BUNDLE: bundle,
        },
    });
    Bytes::from(text.to_string())
}

/// What a registry does not take is said with what can be done about it.
pub fn explain(error: Error) -> Error {
    match error.kind() {
        Kind::RegistryRejected | Kind::RegistryUnsupported | Kind::RegistryCorrupt => error
            .hint("if it takes no artifacts beside images: --no-record leaves the record of this bundle out"),
        _ => error,
    }
}

/// A source before which records lie.
struct Over {
    made: Arc<Made>,
    source: Arc<dyn Source>,
}

impl Made {
    fn has(&self, digest: &Digest) -> bool {
        self.documents.contains_key(digest) || self.proof.has(digest)
    }
}

#[async_trait]
impl Source for Over {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        self.source.resolve(name, digest).await
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        match self.made.documents.get(&expected.digest) {
            Some(bytes) => Ok(Unverified::of_rest(expected.digest, bytes.clone(), from)),
            None if self.made.proof.has(&expected.digest) => self.made.proof.open(expected, from).await,
            None => self.source.open(expected, from).await,
        }
    }

    async fn holds(&self, expected: &Descriptor) -> Result<bool> {
        match self.made.has(&expected.digest) {
            true => Ok(true),
            false => self.source.holds(expected).await,
        }
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        self.source.attached(subject).await
    }

    async fn extent(&self, expected: &Descriptor) -> Result<Option<Extent>> {
        match self.made.has(&expected.digest) {
            true => Ok(None),
            false => self.source.extent(expected).await,
        }
    }
}
