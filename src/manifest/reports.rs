//! `sbom` and `scan` of an image: files that tell what is in it. They are named by templates, because there may be one for
//! each variant, commit or platform.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{Page, RawImage};
use crate::error::Result;
use crate::oci::Tag;
use crate::release::Version;

/// Files that are attached to a variant of an image.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// The files.
    pub files: Vec<ReportFile>,
    /// Whether only they are, and nothing of what is attached to it at its source.
    pub alone: bool,
}

/// A file that tells what is in an image; or several, one for each platform.
#[derive(Clone, Debug)]
pub struct ReportFile {
    /// Where it is looked for.
    pub directory: PathBuf,
    /// Its path from there, in which `{platform}`, `{digest}` and `{sha}` may stand for what is not known yet.
    pub template: String,
    /// An SBOM, or else a scan report.
    pub sbom: bool,
}

/// A template, or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a path such as \"sbom/{image}.spdx.json\", or a list of paths")]
pub(super) enum Templates {
    One(String),
    Several(Vec<String>),
}

/// What may stand in braces.
const WORDS: [&str; 6] = ["{image}", "{variant}", "{version}", "{platform}", "{sha}", "{digest}"];

impl Page<'_> {
    /// The files of one variant.
    pub(super) fn reports(
        &self,
        image: &RawImage,
        variant: &str,
        tags: &[Tag],
        version: &Version,
        directory: &Path,
    ) -> Result<Vec<ReportFile>> {
        let kinds = [(&image.sbom, true), (&image.scan, false)];
        let mut files = Vec::new();
        for (templates, sbom) in kinds {
            let Some(templates) = templates else { continue };
            let list = match templates.get_ref() {
                Templates::One(one) => std::slice::from_ref(one),
                Templates::Several(several) => several,
            };
            for template in list {
                self.check_template(templates, template)?;
                let known = [
                    ("{image}", image.name.get_ref().as_str()),
                    ("{variant}", variant),
                    ("{version}", &version.to_string()),
                ];
                let mut template = known
                    .iter()
                    .fold(template.clone(), |text, (word, value)| text.replace(word, &flat(value)));
                // Seven digits of the commit, where a tag names one.
                if let Some(commit) = tags.iter().find_map(commit) {
                    template = template.replace("{sha}", commit);
                }
                files.push(ReportFile { directory: directory.to_owned(), template, sbom });
            }
        }
        Ok(files)
    }

    fn check_template(&self, templates: &Spanned<Templates>, template: &str) -> Result<()> {
        let wrong = |what: String| self.wrong(Some(templates.span()), what);
        let left = WORDS.iter().fold(template.to_owned(), |text, word| text.replace(word, ""));
        match () {
            () if template.is_empty() || template.ends_with('/') => {
                Err(wrong(format!("{template:?} does not name a file")))
            }
            () if left.contains(['{', '}']) => Err(wrong(format!("{template:?} is no template"))
                .hint(format_args!("what may stand in braces: {}", WORDS.join(", ")))),
            () => Ok(()),
        }
    }
}

/// A name as part of a file's.
fn flat(name: &str) -> String {
    name.replace('/', "-")
}

/// `9f2c1ab` of `sha-9f2c1ab…`.
fn commit(tag: &Tag) -> Option<&str> {
    let commit = tag.as_str().strip_prefix("sha-")?.get(..7)?;
    commit.bytes().all(|b| b.is_ascii_hexdigit()).then_some(commit)
}
