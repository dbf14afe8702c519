//! `sbom`: what is in the images of a bundle, as the SBOMs in it say. Reads the head of the bundle, the documents and the
//! SBOMs, each verified; no layer. Every SBOM is read twice: once to know that it can be read to its end, and again to
//! hand its packages on. So nothing is said before all of it can be, and nothing is kept meanwhile.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::site::Site;
use super::verify;
use crate::content::{Source, Watch};
use crate::error::{Error, Kind, Result};
use crate::evidence::{self, Format, Identity, Package, Place};
use crate::manifest::{Narrow, belongs_to_all};
use crate::oci::{Digest, Name, Platform};
use crate::release::Moment;

/// Which packages of a bundle are asked for.
pub struct Asked {
    /// The bundle.
    pub bundle: PathBuf,
    /// What it is judged by.
    pub site: Site,
    /// Which images.
    pub narrow: Narrow,
    /// Only packages of this name.
    pub package: Option<String>,
}

/// A bundle whose SBOMs were all read once.
pub struct Listing {
    /// The release's name.
    pub release: String,
    /// Its version.
    pub version: String,
    /// When the newest of its images was made, or what the release team said.
    pub created: Moment,
    /// The digest of what was signed.
    pub identity: Digest,
    /// The SBOMs, in the order of images and builds.
    pub lists: Vec<List>,
    /// Characters of the longest name, version and licence that are asked for.
    pub widths: [usize; 3],
    /// What could not be listed, and why.
    pub notes: Vec<String>,
    package: Option<String>,
    source: Arc<dyn Source>,
}

/// One SBOM.
pub struct List {
    /// The image, as `name/variant`.
    pub image: String,
    /// Its full name.
    pub source: Name,
    /// The platforms that it is about; empty where the image has none.
    pub platforms: Vec<Platform>,
    /// What it is about: a build's manifest, or the image's top document.
    pub about: Digest,
    /// What it is.
    pub format: Format,
    /// Its digest.
    pub digest: Digest,
    /// Packages in it that are asked for.
    pub packages: u64,
    place: Place,
}

impl List {
    /// The platforms, in one text.
    pub fn platform(&self) -> String {
        self.platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl Asked {
    /// Reads the SBOMs.
    ///
    /// # Errors
    /// What is wrong with the bundle; `NotFound` where there is no SBOM, or none that lists the package.
    pub async fn list(self, watch: &Arc<dyn Watch>) -> Result<Listing> {
        let opened = verify::opened(&self.bundle, &self.site, watch).await?;
        let wants = self.narrow.apply(opened.wants()?)?;
        let plan = opened.plan(&wants).await?;
        let statement = opened.statement();
        let mut listing = Listing {
            release: statement.name.to_string(),
            version: statement.version.to_string(),
            created: statement.created,
            identity: opened.identity(),
            lists: Vec::new(),
            widths: [0; 3],
            notes: Vec::new(),
            package: self.package,
            source: opened.excerpts(),
        };
        for number in 0..plan.images.len() {
            listing.image(&plan, number).await.map_err(|e| e.inside(self.bundle.display()))?;
        }
        let at = |what: String| Error::new(Kind::NotFound, what).at(self.bundle.display());
        match &listing.package {
            _ if listing.lists.is_empty() => Err(at("no SBOM to read".to_owned())
                .hint(match listing.notes.first() {
                Some(note) => note.clone(),
                None => {
                    "none is attached to these images: sbom = \"FILE\" in the release manifest attaches one"
                        .to_owned()
                }
            })),
            Some(package) if listing.lists.iter().all(|list| list.packages == 0) => {
                Err(at(format!("no SBOM lists the package {package:?}")))
            }
            _ => Ok(listing),
        }
    }
}

impl Listing {
    async fn image(&mut self, plan: &crate::plan::Plan, number: usize) -> Result<()> {
        let Some(image) = plan.images.get(number) else { return Ok(()) };
        let source = self.source.clone();
        let identity = Identity::of(plan, number);
        let (mut seen, mut covered) = (HashSet::new(), HashSet::new());
        let before = self.lists.len();
        for place in evidence::places(plan, number, &*source).await?.into_iter().filter(|place| !place.scan) {
            let (package, widths) = (self.package.clone(), &mut self.widths);
            let (mut packages, mut widest) = (0u64, *widths);
            let mut measure = |found: Package| {
                if asked(package.as_deref(), &found) {
                    packages = packages.saturating_add(1);
                    let texts = [&found.name, &found.version, &found.licence];
                    for (width, text) in widest.iter_mut().zip(texts) {
                        *width = (*width).max(text.chars().count());
                    }
                }
                Ok(())
            };
            let Some(found) = evidence::look(&identity, &place, &*source, &mut measure).await? else {
                continue;
            };
            let report = match &found.report {
                Ok(report) if report.format.is_sbom() => report,
                Ok(_) => continue,
                Err(why) => {
                    self.notes.push(format!("{}: {}: {why}", image.label(), place.blob.digest));
                    continue;
                }
            };
            // About a platform that is not asked for.
            if found.builds.is_empty() && !image.platforms.is_empty() {
                continue;
            }
            // The same file may be attached in several ways.
            if !seen.insert((place.blob.digest, found.builds.clone())) {
                continue;
            }
            covered.extend(found.builds.iter().copied());
            *widths = widest;
            let platforms = found.platforms(plan, number).into_iter().cloned().collect();
            let one = match found.builds.as_slice() {
                [build] => image.platforms.get(*build).map(|build| build.digest),
                _ => None,
            };
            self.lists.push(List {
                image: image.label(),
                source: image.source.clone(),
                platforms,
                about: one.unwrap_or(image.digest),
                format: report.format,
                digest: place.blob.digest,
                packages,
                place,
            });
        }
        let lacking = image.platforms.iter().enumerate().filter(|(build, _)| !covered.contains(build));
        for (_, build) in lacking {
            self.notes.push(format!("{} {}: no SBOM", image.label(), build.platform));
        }
        let nothing = self.lists.len() == before && image.platforms.is_empty();
        if nothing && !belongs_to_all(&image.variant) {
            self.notes.push(format!("{}: no SBOM", image.label()));
        }
        Ok(())
    }

    /// Hands on every package that is asked for, with the SBOM that lists it, by its number.
    ///
    /// # Errors
    /// What `take` says; and what is wrong with the medium meanwhile.
    pub async fn each(&self, take: &mut (dyn FnMut(usize, Package) -> Result<()> + Send)) -> Result<()> {
        for (number, list) in self.lists.iter().enumerate().filter(|(_, list)| list.packages > 0) {
            let mut each = |package: Package| match asked(self.package.as_deref(), &package) {
                true => take(number, package),
                false => Ok(()),
            };
            let content = self.source.fetch(&list.place.blob).await?;
            evidence::read(content, &mut each).await.map_err(|e| e.at(list.digest))?;
        }
        Ok(())
    }
}

/// Whether a package is asked for: by its whole name, or by what stands behind the last slash of it; whatever the case.
fn asked(name: Option<&str>, package: &Package) -> bool {
    let Some(name) = name else { return true };
    let last = package.name.rsplit('/').next().unwrap_or_default();
    package.name.eq_ignore_ascii_case(name) || last.eq_ignore_ascii_case(name)
}
