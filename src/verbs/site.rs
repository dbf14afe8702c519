//! What a site judges bundles by: its trust store, what it remembers, and its clock.

use std::path::PathBuf;

use crate::bundle::Statement;
use crate::content::Watch;
use crate::error::Result;
use crate::history::{Held, History, Leave, Sighting};
use crate::oci::Digest;
use crate::plan::Image;
use crate::release::Moment;
use crate::trust::{Keyring, Signers};

/// See the module's text.
#[derive(Clone)]
pub struct Site {
    /// The trust store.
    pub trust: PathBuf,
    /// What was accepted here before.
    pub history: History,
    /// Whether expired bundles are asked for.
    pub allow_expired: bool,
    /// What else is asked for.
    pub leave: Leave,
}

impl Site {
    /// The keys that are trusted here, and the time that counts.
    pub fn judge(&self, watch: &dyn Watch) -> Result<(Keyring, Moment)> {
        // The store first: with no key there is nothing to open a bundle for.
        let keyring = Keyring::load(&self.trust)?.with_expired(self.allow_expired)?;
        let now = self.history.clock(Moment::now(), &|text| watch.note(text))?;
        Ok((keyring, now))
    }

    /// Whether a trusted bundle may follow what was accepted before.
    pub fn check(&self, sighting: &Sighting) -> Result<()> {
        self.history.check(sighting, self.leave)
    }

    /// The same, for an import: until it is remembered or given up, no other bundle of the release is imported.
    pub fn hold(&self, sighting: Sighting) -> Result<Held> {
        tokio::task::block_in_place(|| self.history.hold(sighting, self.leave))
    }
}

/// What is remembered of a bundle.
pub fn sighting(statement: &Statement, signers: &Signers, bundle: Digest) -> Sighting {
    Sighting {
        name: statement.name.clone(),
        version: statement.version.clone(),
        sequence: statement.sequence,
        epoch: signers.epoch(),
        created: statement.created,
        clock: Moment::now(),
        upgrades_from: statement.upgrades_from.clone(),
        bundle,
        images: statement.images.iter().flat_map(names).collect(),
    }
}

/// What an image is called: by the release, and by its full names.
fn names(image: &Image) -> impl Iterator<Item = (String, Digest)> {
    let full = image.names().map(|name| name.to_string());
    // What is left of a name in the registry that it is imported into.
    let path = image.names().map(|name| format!("{}:{}", name.repository, name.tag));
    std::iter::once(image.label()).chain(full).chain(path).map(|name| (name, image.digest))
}

/// Says what a person should know of a trusted bundle before it is used.
pub fn remark(statement: &Statement, signers: &Signers, now: Moment, watch: &dyn Watch) {
    if let Some(expires) = statement.expires.filter(|expires| *expires <= now) {
        watch.note(&format!("the bundle expired at {expires}; it is taken because of --allow-expired"));
    }
    let next = statement.trust_root.as_ref().and_then(|root| root.keyring("the bundle").ok());
    if let Some(next) = next.filter(|next| next.version() > signers.store_version()) {
        watch.note(&format!(
            "the bundle brings version {} of the trust store, this site has version {}: sealift trust update takes it over",
            next.version(),
            signers.store_version()
        ));
    }
}
