//! Promotion without rebuild: what is shipped under a release's names is what staging had, by digest. Where such a name
//! does not exist yet, the image is taken from there, under its new name.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::places::{Mirror, Opener, Origin, accompanied};
use super::site::Site;
use super::verify;
use crate::content::{Quiet, Source, Watch, file};
use crate::error::{Error, Kind, Result, Side};
use crate::limits;
use crate::manifest::{Promotion, Variant};
use crate::oci::{Digest, Name};
use crate::plan::{Sources, Target, Want};
use crate::policy::Promoted;

/// What finding out needs.
pub struct Promoter<'a> {
    /// Where images are pulled instead of where they are named.
    pub mirrors: &'a [Mirror],
    /// What bundles are judged by.
    pub site: &'a Site,
    /// Hears which names do not exist yet.
    pub note: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The part of a receipt that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    #[serde(default)]
    dry_run: bool,
    images: Vec<Installed>,
}

/// One image of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Installed {
    source: Name,
    digest: Digest,
    trimmed_from: Option<Digest>,
    name: Option<String>,
    variant: Option<String>,
}

impl Promoter<'_> {
    /// What each variant was before. Those whose names do not exist yet are from now on taken from there.
    pub async fn promote(
        &self,
        variants: &mut [Variant],
        sources: &mut Sources,
        opener: &mut Opener<'_>,
    ) -> Result<Vec<Option<Promoted>>> {
        let mut all = Vec::new();
        for (variant, source) in variants.iter_mut().zip(sources) {
            let Some(promotion) = variant.promotion.clone() else {
                all.push(None);
                continue;
            };
            let (promoted, staging) = self.before(&promotion, variant, source, opener).await?;
            let new = self.is_new(&mut variant.want, &promoted, source).await?;
            // Its own place is accompanied already.
            if new && !Arc::ptr_eq(source, &staging) {
                *source = accompanied(variant, staging);
            }
            all.push(Some(promoted));
        }
        Ok(all)
    }

    /// What an image was before, and the place that has it.
    async fn before(
        &self,
        promotion: &Promotion,
        variant: &Variant,
        source: &Arc<dyn Source>,
        opener: &mut Opener<'_>,
    ) -> Result<(Promoted, Arc<dyn Source>)> {
        let want = &variant.want;
        match promotion {
            Promotion::Tag(name) => {
                let staging = self.staging(name, want, source, opener).await?;
                let found = staging.resolve(name, None).await;
                let found = found.map_err(|e| {
                    e.at(name)
                        .side(Side::Source)
                        .hint("promote_from names what staging has: push it there first")
                })?;
                Ok((Promoted { digest: found.0.digest, origin: name.to_string() }, staging))
            }
            Promotion::Receipt(path) => {
                let digest = in_receipt(path, want).map_err(|e| e.at(path.display()))?;
                Ok((Promoted { digest, origin: path.display().to_string() }, source.clone()))
            }
            Promotion::Bundle(path) => {
                let watch: Arc<dyn Watch> = Arc::new(Quiet);
                let opened = verify::opened(path, self.site, &watch).await?;
                let same = opened
                    .statement()
                    .images
                    .iter()
                    .find(|image| image.name == want.image && image.variant == want.variant);
                let digest = same.map(|image| image.digest).ok_or_else(|| absent(want).at(path.display()))?;
                Ok((Promoted { digest, origin: path.display().to_string() }, source.clone()))
            }
        }
    }

    /// The place of a name of staging: the image's own, or another repository.
    async fn staging(
        &self,
        name: &Name,
        want: &Want,
        source: &Arc<dyn Source>,
        opener: &mut Opener<'_>,
    ) -> Result<Arc<dyn Source>> {
        let own = &want.source;
        if (&name.registry, &name.repository) == (&own.registry, &own.repository) {
            return Ok(source.clone());
        }
        let full = format!("{}/{}", name.registry, name.repository);
        opener.source(vec![Origin::named(&full, &name.repository, self.mirrors)?], false).await
    }

    /// What exists under the new name is judged by the rule `promotion`; what does not is taken from staging.
    async fn is_new(&self, want: &mut Want, promoted: &Promoted, source: &Arc<dyn Source>) -> Result<bool> {
        let Target::Tagged { pin } = &want.target else { return Ok(false) };
        match source.resolve(&want.source, None).await {
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.about(&want.source).side(Side::Source)),
        }
        if let Some(pin) = pin.filter(|pin| *pin != promoted.digest) {
            return Err(Error::new(Kind::PinMismatch, "what is promoted is not the pinned digest")
                .at(&want.source)
                .got(format_args!("{}, the digest of {}", promoted.digest, promoted.origin))
                .expected(pin));
        }
        (self.note)(&format!(
            "{} does not exist yet: it becomes {}, the digest of {}",
            want.source, promoted.digest, promoted.origin
        ));
        want.target = Target::Digest(promoted.digest);
        Ok(true)
    }
}

fn absent(want: &Want) -> Error {
    Error::new(Kind::EmptySelection, "what was to be promoted is not there")
        .expected(format_args!("{}/{}", want.image, want.variant))
        .hint("promote_from names the release that staging had")
}

/// The digest that an image had where a receipt was written. Receipts name images by where they came from: one of the
/// same repository, if there are several the one of the same tag.
fn in_receipt(path: &Path, want: &Want) -> Result<Digest> {
    let bytes = file::read_small(path, "the receipt", limits::STATEMENT)?;
    let receipt: Receipt = serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Kind::ManifestInvalid, "not a receipt").got(e).hint("import --json prints one")
    })?;
    if receipt.dry_run {
        return Err(Error::new(Kind::ManifestInvalid, "the receipt of a dry run: nothing was installed"));
    }
    let mut fitting: Vec<&Installed> =
        receipt.images.iter().filter(|image| image.source.repository == want.source.repository).collect();
    let named = |image: &&Installed| {
        image.name.as_ref() == Some(&want.image) && image.variant.as_ref() == Some(&want.variant)
    };
    if fitting.iter().any(named) {
        fitting.retain(named);
    } else if fitting.len() > 1 {
        fitting.retain(|image| image.source.tag == want.source.tag);
    }
    match fitting.as_slice() {
        // The image's own digest, not that of an index that was made for one registry.
        [one] => Ok(one.trimmed_from.unwrap_or(one.digest)),
        [] => Err(absent(want)),
        several => {
            Err(Error::new(Kind::RefAmbiguous, "the receipt has several images that this could have been")
                .got(several.iter().map(|image| image.source.to_string()).collect::<Vec<_>>().join(", "))
                .expected(&want.source))
        }
    }
}
