//! `[policy]`: what is wrong with it by itself is said with line and column.

use std::collections::BTreeSet;

use toml::Spanned;

use super::Page;
use crate::error::Result;
use crate::rules::{Rules, Service};

impl Page<'_> {
    /// Checks what a type cannot.
    pub(super) fn policy(&self, rules: Option<Spanned<Rules>>, images: &BTreeSet<&str>) -> Result<Rules> {
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
            let name = waiver.image.as_deref().map(|image| image.split('/').next().unwrap_or_default());
            if let Some(name) = name.filter(|name| !known(name)) {
                return Err(
                    wrong(format!("a waiver for {name:?}, which no image is called")).expected(names())
                );
            }
        }
        let empty = |service: &Service| service.user.as_ref().is_some_and(Vec::is_empty);
        match rules.service.iter().find(|(_, service)| empty(service)) {
            Some((name, _)) => Err(wrong(format!("no user at all is agreed on for {name:?}"))),
            None => Ok(rules),
        }
    }
}
