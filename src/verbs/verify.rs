//! `verify`: everything that import does before it touches a destination.

use std::path::Path;
use std::sync::Arc;

use super::site::{self, Site};
use crate::bundle::{Bundle, Input, Piped, Trusted, Verified};
use crate::content::{Meter, Procession, Stage, Watch, file};
use crate::error::Result;

/// Checks signatures, statement and sums: reads the first kilobytes only.
pub fn head(bundle: &Path, site: &Site, watch: &dyn Watch) -> Result<Bundle<Trusted>> {
    let (keyring, now) = site.judge(watch)?;
    let trusted = Bundle::open(bundle)?.trust(&keyring, now)?;
    site::remark(trusted.statement(), trusted.signers(), now, watch);
    Ok(trusted)
}

/// The same, aside: a medium that does not answer must not keep the program from hearing a signal.
pub async fn opened(bundle: &Path, site: &Site, watch: &Arc<dyn Watch>) -> Result<Bundle<Trusted>> {
    let (bundle, site, watch) = (bundle.to_owned(), site.clone(), watch.clone());
    let opened = tokio::task::spawn_blocking(move || head(&bundle, &site, &*watch)).await;
    opened.map_err(|_| file::ended())?
}

/// Whether it may follow what was accepted here before.
pub fn admissible(bundle: &Bundle<Trusted>, site: &Site) -> Result<()> {
    site.check(&site::sighting(bundle.statement(), bundle.signers(), bundle.identity()))
}

/// Checks everything.
pub async fn whole(bundle: Bundle<Trusted>, watch: Arc<dyn Watch>) -> Result<Bundle<Verified>> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    bundle.verify(threads, watch).await
}

/// The head of a bundle that comes through a pipe called `name`.
pub async fn received(
    input: Input,
    name: &'static str,
    site: &Site,
    watch: &Arc<dyn Watch>,
) -> Result<Arc<Piped>> {
    let (site, watch) = (site.clone(), watch.clone());
    let receive = move || {
        let (keyring, now) = site.judge(&*watch)?;
        let piped = Piped::receive(input, name, &keyring, now)?;
        site::remark(piped.statement(), piped.signers(), now, &*watch);
        Ok(piped)
    };
    let received = tokio::task::spawn_blocking(receive).await.map_err(|_| file::ended())?;
    received.map(Arc::new)
}

/// Everything of it that was not read yet.
pub async fn rest(piped: &Piped, watch: Arc<dyn Watch>) -> Result<()> {
    watch.stage(Stage { verb: "verifying", parts: vec![("pipe".to_owned(), piped.left().await)] });
    while piped.next().await?.is_some() {
        piped.skip(&Meter::new(watch.clone(), 0)).await?;
    }
    piped.finish().await
}

/// Checks everything of a bundle that comes through a pipe.
pub async fn whole_pipe(piped: &Arc<Piped>, watch: Arc<dyn Watch>) -> Result<()> {
    piped.check_documents().await?;
    rest(piped, watch).await
}
