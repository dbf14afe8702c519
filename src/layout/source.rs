//! Images in a layout, found by name.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::access::Access;
use super::attached::Attachments;
use super::{INDEX, MARKER, MARKER_MOST, check_marker_content};
use crate::content::{Reader, Source, Unverified};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{
    Attached, Descriptor, Digest, Files, Finding, LayoutIndex, MediaType, Name, NamedDescriptor, Pick, Role,
    Transport, document_type, schema_1,
};

/// A layout whose `index.json` was read.
pub struct Layout {
    files: Files,
    pub(super) access: Access,
    pub(super) entries: Vec<NamedDescriptor>,
    /// What is attached to what, once somebody asked.
    attached: OnceCell<Attachments>,
}

impl Layout {
    /// Opens a layout in a directory, or in a tar file.
    pub fn open(files: &Files) -> Result<Self> {
        let access = Access::open(files)?;
        let marker = access.read_small(MARKER, "the layout's version", MARKER_MOST);
        check_marker_content(&access.place(), marker).map_err(|e| match access.has("manifest.json") {
            true => e.hint_instead("it may be a docker archive: say docker-archive: instead of oci-archive:"),
            false => e,
        })?;
        let bytes = access.read_small(INDEX, "the layout's index", limits::LAYOUT_INDEX)?;
        let LayoutIndex(entries) = LayoutIndex::parse(&bytes).map_err(|e| e.at(access.place_of(INDEX)))?;
        Ok(Layout { files: files.clone(), access, entries, attached: OnceCell::new() })
    }

    /// Reads a document, verified.
    pub(super) async fn document(&self, descriptor: &Descriptor) -> Result<Bytes> {
        if descriptor.size > limits::DOCUMENT {
            return Err(Error::new(Kind::LimitExceeded, "a document is too large")
                .at(descriptor.digest)
                .got(descriptor.size));
        }
        Reader::new(descriptor, self.access.open_blob(descriptor, 0)?).into_bytes().await
    }

    /// A document by its digest; it need not be listed.
    async fn by_digest(&self, digest: &Digest) -> Result<(Descriptor, Bytes)> {
        let size = self.access.size(digest)?.ok_or_else(|| {
            Error::new(Kind::NotFound, "no document of that digest in the layout").at(&self.files).got(digest)
        })?;
        let described = |media_type: MediaType, role| Descriptor { role, media_type, digest: *digest, size };
        let bytes = self.document(&described(MediaType::new(""), Role::Manifest)).await?;
        let media_type = document_type(&bytes).unwrap_or_else(|| MediaType::new(""));
        let role = media_type.document_role().ok_or_else(|| no_document(digest, &media_type))?;
        Ok((described(media_type, role), bytes))
    }

    fn find(&self, name: &Name, finding: &Finding) -> Result<&Descriptor> {
        let found = match finding {
            Finding::Picked(pick) => self.picked(pick),
            _ => self.named(name, finding),
        };
        let Some(first) = found.first() else { return Err(self.not_found(name, finding)) };
        match found.iter().find(|other| other.descriptor.digest != first.descriptor.digest) {
            Some(other) => Err(Error::new(Kind::RefAmbiguous, "one name leads to two images in the layout")
                .at(&self.files)
                .got(format_args!("{name}: {} and {}", first.descriptor.digest, other.descriptor.digest))
                .hint("say which of them is meant: source = \"oci:DIRECTORY:@sha256:…\" in the release manifest")),
            None => Ok(&first.descriptor),
        }
    }

    fn picked(&self, pick: &Pick) -> Vec<&NamedDescriptor> {
        match pick {
            Pick::Name(name) => self.called(name),
            Pick::Digest(digest) => {
                self.entries.iter().filter(|entry| entry.descriptor.digest == *digest).collect()
            }
            Pick::Position(position) => self.entries.get(*position).into_iter().collect(),
        }
    }

    fn called(&self, wanted: &str) -> Vec<&NamedDescriptor> {
        self.entries.iter().filter(|entry| entry.names.iter().any(|name| name == wanted)).collect()
    }

    /// Under the full name, else the short one, else the bare tag, else as the only image that is there.
    fn named(&self, name: &Name, finding: &Finding) -> Vec<&NamedDescriptor> {
        let mut found = self.called(&name.to_string());
        if found.is_empty() {
            found = self.called(&format!("{}:{}", name.repository, name.tag));
        }
        if found.is_empty() && *finding != Finding::Full {
            found = self.called(name.tag.as_str());
            // An entry that also has a full name is another image with the same tag.
            found.retain(|entry| entry.names.iter().all(|other| other == name.tag.as_str()));
        }
        if found.is_empty() && *finding == Finding::Only {
            found = self.entries.iter().filter(|entry| entry.is_image()).collect();
            // Entries of one image under several names are one image.
            let first = found.first().map(|entry| entry.descriptor.digest);
            if found.iter().any(|entry| Some(entry.descriptor.digest) != first) {
                found.clear();
            }
        }
        found
    }

    fn not_found(&self, name: &Name, finding: &Finding) -> Error {
        let names: Vec<_> = self.entries.iter().flat_map(|entry| &entry.names).take(8).cloned().collect();
        let error = Error::new(Kind::NotFound, "no image of that name in the layout")
            .at(&self.files)
            .got(if names.is_empty() { "no names".to_owned() } else { names.join(", ") });
        // Into a directory images can be put one by one; an archive is written as a whole.
        let put = match self.files.transport {
            Transport::Oci => format!("skopeo copy --all … {}:{name} puts it there", self.files),
            _ => "have the archive written again, with this image in it".to_owned(),
        };
        match finding {
            Finding::Picked(pick) => error.expected(pick),
            Finding::Full => error.expected(name).hint(put),
            Finding::BareTag | Finding::Only => error.expected(format_args!("{name} or {}", name.tag)).hint(
                format_args!("say what it is called there (source = \"{}:REFERENCE\"), or {put}", self.files),
            ),
        }
    }
}

fn no_document(place: impl std::fmt::Display, media_type: &MediaType) -> Error {
    match media_type.is_schema_1() {
        true => schema_1().at(place),
        false => {
            Error::new(Kind::DocumentUnsupported, "neither an index nor a manifest").at(place).got(media_type)
        }
    }
}

/// Images of a layout, each found in one way.
pub struct LayoutSource {
    layout: Arc<Layout>,
    finding: Finding,
}

impl LayoutSource {
    /// A source of what is found so.
    pub fn new(layout: Arc<Layout>, finding: Finding) -> Self {
        LayoutSource { layout, finding }
    }
}

#[async_trait]
impl Source for LayoutSource {
    async fn resolve(&self, name: &Name, digest: Option<&Digest>) -> Result<(Descriptor, Bytes)> {
        if let Some(digest) = digest {
            return self.layout.by_digest(digest).await;
        }
        let descriptor = self.layout.find(name, &self.finding)?.clone();
        if !descriptor.role.is_document() {
            return Err(no_document(name, &descriptor.media_type));
        }
        let bytes = self.layout.document(&descriptor).await?;
        Ok((descriptor, bytes))
    }

    async fn open(&self, expected: &Descriptor, from: u64) -> Result<Unverified> {
        self.layout.access.open_blob(expected, from)
    }

    async fn attached(&self, subject: &Digest) -> Result<Vec<Attached>> {
        let attached = self.layout.attached.get_or_try_init(|| Attachments::read(&self.layout)).await?;
        attached.of(&self.layout, subject).await
    }
}
