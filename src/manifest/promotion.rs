//! What an image was before it is what it is called now: a tag of staging, or what a receipt or a bundle says of
//! staging. What is shipped must be the same digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{Page, RawImage, RawSource};
use crate::error::{Error, Result};
use crate::oci::Name;
use crate::release::Version;

/// Where it is said which digest an image had.
#[derive(Clone, Debug)]
pub enum Promotion {
    /// This name leads to it.
    Tag(Name),
    /// The receipt of an import.
    Receipt(PathBuf),
    /// A bundle, under the same name and variant.
    Bundle(PathBuf),
}

impl Page<'_> {
    /// What each variant was before; one that is not in it was nothing.
    pub(super) fn promotions(
        &self,
        image: &RawImage,
        name: impl Fn() -> Name,
        directory: &Path,
        version: &Version,
    ) -> Result<BTreeMap<String, Promotion>> {
        let variants = image.tags.get_ref();
        let Some(from) = &image.promote_from else { return Ok(BTreeMap::new()) };
        let each: Vec<(Spanned<String>, Spanned<String>)> = match from.get_ref() {
            RawSource::All(text) => {
                let names = variants.keys().map(|variant| Spanned::new(from.span(), variant.clone()));
                names.map(|variant| (variant, Spanned::new(from.span(), text.clone()))).collect()
            }
            RawSource::Each(each) => {
                each.iter().map(|(variant, text)| (variant.clone(), text.clone())).collect()
            }
        };
        let mut promotions = BTreeMap::new();
        for (variant, text) in each {
            if !variants.contains_key(variant.get_ref()) {
                let what = format!("promote_from for {:?}, which is not among the tags", variant.get_ref());
                return Err(self.wrong(Some(variant.span()), what));
            }
            let promotion = self.promotion(&text, &name, directory, version)?;
            if matches!(promotion, Promotion::Tag(_)) {
                self.check_tag(image, from)?;
            }
            promotions.insert(variant.into_inner(), promotion);
        }
        Ok(promotions)
    }

    fn promotion(
        &self,
        text: &Spanned<String>,
        name: &impl Fn() -> Name,
        directory: &Path,
        version: &Version,
    ) -> Result<Promotion> {
        let path = |path: &str| match path {
            "" => Err(self.wrong(Some(text.span()), "an empty path")),
            path => Ok(directory.join(path)),
        };
        if let Some(file) = text.get_ref().strip_prefix("receipt:") {
            return path(file).map(Promotion::Receipt);
        }
        if let Some(file) = text.get_ref().strip_prefix("bundle:") {
            return path(file).map(Promotion::Bundle);
        }
        let Some((repository, tag)) = text.get_ref().rsplit_once(':').filter(|(name, _)| name.contains('/'))
        else {
            return Ok(Promotion::Tag(name().with_tag(self.tag(text, text.get_ref(), version)?)));
        };
        let tag = self.tag(text, tag, version)?;
        let full = format!("{repository}:{tag}").parse();
        full.map(Promotion::Tag).map_err(|e: Error| {
            self.wrong(Some(text.span()), e.sentence())
                .hint("promote_from is a tag, registry/repository:tag, receipt:FILE or bundle:FILE")
        })
    }

    fn check_tag(&self, image: &RawImage, from: &Spanned<RawSource>) -> Result<()> {
        if image.source.is_some() {
            return Err(self
                .wrong(Some(from.span()), "an image from files is not promoted from a tag")
                .hint("leave source out, or name a receipt or a bundle: promote_from = \"receipt:FILE\""));
        }
        match from.get_ref() {
            RawSource::All(_) if image.tags.get_ref().len() > 1 => Err(self
                .wrong(Some(from.span()), "one tag for several variants")
                .hint("name one for each: promote_from = { standard = \"{version}-rc\", … }")),
            _ => Ok(()),
        }
    }
}
