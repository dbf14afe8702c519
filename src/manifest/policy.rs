//! `[policy]`: what is wrong with it by itself is said with line and column.

use std::collections::BTreeSet;
use std::path::Path;

use toml::Spanned;

use super::{Page, RawImage, Variant, belongs_to_all};
use crate::content::file;
use crate::error::{Error, Kind, Result};
use crate::evidence::cosign::Demands;
use crate::limits;
use crate::plan::Attachments;
use crate::release::Tier;
use crate::rules::{Rules, Service};
use crate::trust::CosignKey;

impl Page<'_> {
    /// Checks what a type cannot; reads the keys that it names, and tells them to the images.
    pub(super) fn policy(
        &self,
        rules: Option<Spanned<Rules>>,
        tier: Tier,
        called: &BTreeSet<&str>,
        directory: &Path,
        raw: &[Spanned<RawImage>],
        images: &mut [Variant],
    ) -> Result<(Rules, Demands)> {
        let span = rules.as_ref().map(Spanned::span);
        let mut rules = self.checked(rules, tier, called)?;
        rules.unpacked = images.iter().any(|image| image.unpacked_budget.is_some());
        let keys = rules.cosign.keys.iter().map(|key| cosign_key(&directory.join(key)));
        let mut demands = Demands::every(keys.collect::<Result<_>>()?);
        for image in raw.iter().map(Spanned::get_ref) {
            if let Some(key) = &image.cosign_key {
                demands = demands.with(image.name.get_ref(), vec![cosign_key(&directory.join(key))?]);
                rules.cosign.own = true;
            }
        }
        for image in images.iter_mut().filter(|image| !belongs_to_all(&image.want.variant)) {
            image.cosign = demands.keys(&image.want.image).to_vec();
            if !image.cosign.is_empty() && matches!(image.want.attachments, Attachments::Left) {
                return Err(self
                    .wrong(
                        span,
                        format!(
                            "the signatures of {:?} are to be verified, and left behind",
                            image.want.image
                        ),
                    )
                    .hint("leave out referrers = false: what is attached to an image goes along then"));
            }
        }
        Ok((rules, demands))
    }

    fn checked(&self, rules: Option<Spanned<Rules>>, tier: Tier, images: &BTreeSet<&str>) -> Result<Rules> {
        let Some(rules) = rules else { return Ok(Rules::default()) };
        let (span, rules) = (rules.span(), rules.into_inner());
        let wrong = |what: String| self.wrong(Some(span.clone()), what);
        if let Some(both) = rules.require.iter().find(|rule| rules.warn.contains(rule)) {
            return Err(wrong(format!("the rule {both} is to bind and only to warn")));
        }
        let names = || images.iter().copied().collect::<Vec<_>>().join(", ");
        let known = |name: &str| images.contains(name);
        if let Some(name) = rules.service.keys().find(|name| *name != "*" && !known(name)) {
            return Err(
                wrong(format!("something is agreed on {name:?}, which no image is called")).expected(names())
            );
        }
        for waiver in &rules.waiver {
            if waiver.reason.trim().is_empty() {
                return Err(wrong(format!("a waiver for the rule {} without a reason", waiver.rule)));
            }
            if waiver.reason.len() > limits::REASON {
                return Err(wrong(format!("a waiver for the rule {} with too long a reason", waiver.rule))
                    .expected(format_args!("at most {} bytes", limits::REASON)));
            }
            let name = waiver.image.as_deref().map(|image| image.split('/').next().unwrap_or_default());
            if let Some(name) = name.filter(|name| !known(name)) {
                return Err(
                    wrong(format!("a waiver for {name:?}, which no image is called")).expected(names())
                );
            }
        }
        if let Some(profile) = rules.profile.filter(|profile| *profile < tier) {
            return Err(wrong(format!(
                "the profile {profile} is less strict than the release's tier, {tier}"
            )));
        }
        let idle = |service: &Service| {
            let users = service.user.as_deref();
            let is_root = |user: &String| user == "root" || user.parse() == Ok(0i64);
            match () {
                () if users.is_some_and(<[_]>::is_empty) => Some("no user at all is agreed on"),
                () if users.is_some_and(|users| users.iter().any(is_root)) => {
                    Some("root is agreed on as the user")
                }
                () if service.development_ports.is_some() && service.ports.is_none() => {
                    Some("development_ports are agreed on, but no ports")
                }
                () => None,
            }
        };
        match rules.service.iter().find_map(|(name, service)| Some((name, idle(service)?))) {
            Some((name, what)) => Err(wrong(format!("{what} for {name:?}"))),
            None => Ok(rules),
        }
    }
}

/// Reads a public key of cosign's from a file.
///
/// # Errors
/// Those of [`CosignKey::from_pem`]; `Io`.
pub fn cosign_key(path: &Path) -> Result<CosignKey> {
    let bytes = file::read_small(path, "the cosign key", limits::KEY_FILE)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::new(Kind::KeyFormat, "not a PEM file").expected("one PEM block, PUBLIC KEY"));
    text.and_then(CosignKey::from_pem).map_err(|e| e.at(path.display()))
}
