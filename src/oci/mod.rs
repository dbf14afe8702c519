//! Words of the Open Container Initiative, as types that cannot hold a wrong value: digest,
//! descriptor, platform, reference, and the documents (index, manifest) that link them.
//! Foreign text and bytes enter here and leave as values that were checked. No I/O.

mod attached;
mod conform;
mod descriptor;
mod digest;
mod docker;
mod document;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod platform;
mod reference;
mod settings;
mod strict;
mod transport;

pub use attached::Attached;
pub use conform::{Deviation, config_deviations, deviations};
pub use descriptor::{Descriptor, MediaType, Role, media};
pub use digest::{Digest, Hasher};
pub use docker::{DockerImage, diff_ids, docker_index, docker_name};
pub use document::{
    Child, Config, Document, LayoutEncoder, LayoutIndex, NamedDescriptor, PROBE, RECORD, TRIMMED_FROM,
    check_document, document_type, own_media_type, schema_1, subject_of,
};
pub use platform::Platform;
pub use reference::{Name, Registry, Repository, Tag};
pub use settings::Settings;
pub(crate) use strict::fold;
pub use transport::{Files, Finding, Pick, Transport};
