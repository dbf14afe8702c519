//! What `docker save` writes, as a source: a tar file with a `manifest.json` that names configs, layers and tags, in the
//! old form (`<id>/layer.tar`, links between equal layers) and in the new one (`blobs/sha256/…`). It holds no manifest
//! that a registry would take, and its layers are mostly not compressed, so an image is made of it: the config's
//! bytes as they are (the image's id stays), the layers packed, and an OCI manifest. The same archive gives the same
//! image to the byte.
//!
//! Each layer must be what the config says (`rootfs.diff_ids`), or nothing is made.

mod pack;

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::content::tarball::{Stretch, Tarball};
use crate::content::{Source, Unverified, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{
    Descriptor, Digest, DockerImage, Files, Finding, MediaType, Name, Pick, Role, diff_ids, docker_index,
    docker_name, media,
};

use pack::Layer;
pub use pack::Packers;

const INDEX: &str = "manifest.json";

/// A docker archive whose `manifest.json` was read.
pub struct DockerArchive {
    files: Files,
    tarball: Tarball,
    images: Vec<DockerImage>,
    packers: Arc<Packers>,
    /// Layers that were packed, by where they lie in the archive; each once.
    packed: Mutex<HashMap<Stretch, Arc<OnceCell<Layer>>>>,
    /// All that the images consist of which were made.
    known: Mutex<HashMap<Digest, Content>>,
}

/// Where some content is.
#[derive(Clone)]
enum Content {
    Memory(Bytes),
    File(Arc<File>, Stretch),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DockerArchive {
    /// Opens an archive and reads its `manifest.json`.
    pub fn open(files: &Files, packers: Arc<Packers>) -> Result<Self> {
        let tarball = Tarball::open(&files.path)?;
        let bytes = tarball.read_small(INDEX, "the archive's manifest.json", limits::DOCKER_INDEX)?;
        let bytes = bytes.ok_or_else(|| {
            let error = Error::new(Kind::LayoutInvalid, "not a docker archive")
                .at(tarball.place())
                .got("no manifest.json");
            match tarball.find("oci-layout") {
                Ok(Some(_)) => error.hint("it is an OCI layout: say oci-archive: instead of docker-archive:"),
                _ => error,
            }
        })?;
        let images = docker_index(&bytes).map_err(|e| e.at(format_args!("{}: {INDEX}", tarball.place())))?;
        Ok(DockerArchive {
            files: files.clone(),
            tarball,
            images,
            packers,
            packed: Mutex::default(),
            known: Mutex::default(),
        })
    }

    fn find(&self, name: &Name, finding: &Finding) -> Result<&DockerImage> {
        let found = match finding {
            Finding::Picked(pick) => self.picked(pick)?,
            _ => self.named(name, finding),
        };
        let Some(first) = found.first() else { return Err(self.not_found(name, finding)) };
        match found.iter().find(|other| (&other.config, &other.layers) != (&first.config, &first.layers)) {
            Some(other) => Err(Error::new(Kind::RefAmbiguous, "one name leads to two images in the archive")
                .at(&self.files)
                .got(format_args!("{name}: {} and {}", first.config, other.config))
                .hint("say which one in the release manifest's source: behind FILE: the reference @0 means the first image")),
            None => Ok(first),
        }
    }

    fn picked(&self, pick: &Pick) -> Result<Vec<&DockerImage>> {
        match pick {
            Pick::Name(name) => Ok(self.called(name)),
            Pick::Position(position) => Ok(self.images.get(*position).into_iter().collect()),
            Pick::Digest(digest) => {
                let mut found = Vec::new();
                let mut ids: HashMap<u64, Digest> = HashMap::new();
                for image in &self.images {
                    // One that many name is read once.
                    let offset = self.tarball.find_linked(&image.config)?.map(|stretch| stretch.offset);
                    let id = match offset.and_then(|offset| ids.get(&offset)) {
                        Some(id) => *id,
                        None => Digest::of(&self.config(image)?.1),
                    };
                    ids.extend(offset.map(|offset| (offset, id)));
                    if id == *digest {
                        found.push(image);
                    }
                }
                Ok(found)
            }
        }
    }

    fn called(&self, wanted: &str) -> Vec<&DockerImage> {
        let full = docker_name(wanted);
        let same = |name: &String| name == wanted || full.is_some() && docker_name(name) == full;
        self.images.iter().filter(|image| image.names.iter().any(same)).collect()
    }

    /// Under the full name, else the short one, else as the only image that is there. There are no bare tags.
    fn named(&self, name: &Name, finding: &Finding) -> Vec<&DockerImage> {
        let mut found = self.called(&name.to_string());
        if found.is_empty() {
            found = self.called(&format!("{}:{}", name.repository, name.tag));
        }
        if found.is_empty() && *finding == Finding::Only && self.images.len() == 1 {
            found.extend(&self.images);
        }
        found
    }

    fn not_found(&self, name: &Name, finding: &Finding) -> Error {
        let names: Vec<_> = self.images.iter().flat_map(|image| &image.names).take(8).cloned().collect();
        Error::new(Kind::NotFound, "no image of that name in the archive")
            .at(&self.files)
            .got(if names.is_empty() { "no names".to_owned() } else { names.join(", ") })
            .expected(match finding {
                Finding::Picked(pick) => pick.to_string(),
                _ => name.to_string(),
            })
            .hint("say what it is called there (source = \"docker-archive:FILE:NAME\" in the release manifest), or its number: @0 means the first image")
    }

    /// Where an image's config lies, and its bytes.
    fn config(&self, image: &DockerImage) -> Result<(Stretch, Vec<u8>)> {
        let place = || format!("{}: {}", self.tarball.place(), image.config);
        let lacks =
            || Error::new(Kind::BlobMissing, "the archive lacks an image config that it names").at(place());
        let stretch = self.tarball.find_linked(&image.config)?.ok_or_else(lacks)?;
        let bytes =
            self.tarball.read_small(&image.config, "an image config", limits::CONFIG)?.ok_or_else(lacks)?;
        // All tools call it by its digest, and that is the image's id.
        let stem = image.config.rsplit('/').next().unwrap_or_default();
        match Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem)) {
            Some(named) if named != Digest::of(&bytes) => {
                Err(file::not_its_digest(place(), Digest::of(&bytes), named))
            }
            _ => Ok((stretch, bytes)),
        }
    }

    /// Makes the image: packs what is to be packed, and writes the manifest.
    async fn make(&self, image: &DockerImage) -> Result<(Descriptor, Bytes)> {
        let (stretch, config) = self.config(image)?;
        let place = || format!("{}: {}", self.tarball.place(), image.config);
        let diff_ids = diff_ids(&config).map_err(|e| e.at(place()))?;
        if image.layers.len() > limits::CHILDREN {
            return Err(Error::new(Kind::LimitExceeded, "an image has too many layers")
                .at(place())
                .got(image.layers.len())
                .expected(format_args!("at most {}", limits::CHILDREN)));
        }
        if diff_ids.len() != image.layers.len() {
            return Err(Error::new(
                Kind::DocumentInvalid,
                "an image has not as many layers as its config says",
            )
            .at(place())
            .got(format_args!("{} layers", image.layers.len()))
            .expected(diff_ids.len()));
        }
        let layers = image.layers.iter().zip(&diff_ids).map(|(path, diff_id)| self.layer(path, diff_id));
        let layers: Vec<_> = layers.collect();
        let layers: Vec<Value> = stream::iter(layers).buffered(limits::PACKERS).try_collect().await?;
        let config_digest = Digest::of(&config);
        self.keep(config_digest, Content::File(self.tarball.file().clone(), stretch));
        // Keys sorted, no spaces: one spelling.
        let manifest = json!({
            "config": { "digest": config_digest, "mediaType": media::CONFIG, "size": config.len() },
            "layers": layers,
            "mediaType": media::MANIFEST,
            "schemaVersion": 2,
        });
        let bytes = Bytes::from(manifest.to_string());
        let descriptor = Descriptor {
            role: Role::Manifest,
            media_type: MediaType::new(media::MANIFEST),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        self.keep(descriptor.digest, Content::Memory(bytes.clone()));
        Ok((descriptor, bytes))
    }

    /// A layer's descriptor. Packing is done when this returns.
    async fn layer(&self, path: &str, diff_id: &Digest) -> Result<Value> {
        let place = format!("{}: {path}", self.tarball.place());
        let stretch = self.tarball.find_linked(path)?.ok_or_else(|| {
            Error::new(Kind::BlobMissing, "the archive lacks a layer that it names").at(&place)
        })?;
        let cell = locked(&self.packed).entry(stretch).or_default().clone();
        let file = self.tarball.file();
        let packed = cell.get_or_try_init(|| self.packers.pack(file, stretch, &place)).await?;
        if packed.diff_id != *diff_id {
            return Err(Error::new(Kind::DigestMismatch, "a layer is not what the image's config says")
                .at(place)
                .got(packed.diff_id)
                .expected(diff_id)
                .hint("damaged on the way or at its origin: save the image again"));
        }
        self.keep(packed.digest, Content::File(packed.file.clone(), packed.stretch));
        Ok(json!({ "digest": packed.digest, "mediaType": packed.media_type, "size": packed.stretch.size }))
    }

    fn keep(&self, digest: Digest, content: Content) {
        locked(&self.known).insert(digest, content);
    }
}

/// Images of a docker archive, each found in one way.
pub struct DockerSource {
    archive: Arc<DockerArchive>,
    finding: Finding,
}

impl DockerSource {
    /// A source of what is found so.
    pub fn new(archive: Arc<DockerArchive>, finding: Finding) -> Self {
        DockerSource { archive, finding }
    }
}

#[async_trait]
impl Source for DockerSource {
    async fn resolve(&self, name: &Name, _: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        let image = tokio::task::block_in_place(|| self.archive.find(name, &self.finding))?;
        self.archive.make(image).await
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        let content = locked(&self.archive.known).get(&expected.digest).cloned();
        match content {
            Some(Content::Memory(bytes)) => Ok(Unverified::of_rest(expected.digest, bytes, from)),
            Some(Content::File(file, stretch)) => {
                let place = format!("{}: {}", self.archive.tarball.place(), expected.digest);
                Ok(stretch.content(&file, place, from))
            }
            None => Err(Error::new(Kind::BlobMissing, "nothing of the archive's images has this digest")
                .at(format_args!("{}: {}", self.archive.files, expected.digest))),
        }
    }
}
