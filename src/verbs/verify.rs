//! `verify`: everything that import does before it touches a destination.

use std::path::Path;
use std::sync::Arc;

use super::site::{self, Site};
use crate::bundle::{Bundle, Input, Piped, Statement, Trusted, Verified};
use crate::content::{Meter, Procession, Stage, Watch, file};
use crate::error::{Error, Kind, Result};
use crate::evidence::cosign::{self, Demands};
use crate::plan::{Plan, Sources, resolve};

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

/// Checks everything. The cosign signatures that the release's makers asked for come first: they are small.
pub async fn whole(bundle: Bundle<Trusted>, watch: Arc<dyn Watch>) -> Result<Bundle<Verified>> {
    let demands = recorded(bundle.statement())?;
    if !demands.is_empty() {
        signed(&bundle, &bundle.plan(&bundle.wants()?).await?, &[demands]).await?;
    }
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    bundle.verify(threads, watch).await
}

/// Whose cosign signatures a statement says that there are.
pub fn recorded(statement: &Statement) -> Result<Demands> {
    Demands::of_record(&statement.policy.cosign).map_err(|e| {
        Error::new(Kind::StatementInvalid, "the statement records a key that cannot be used")
            .got(e.sentence())
    })
}

/// Requires of the images of `plan`, which is of this bundle, that they are signed as each of `demands` has it.
pub async fn signed(bundle: &Bundle<Trusted>, plan: &Plan, demands: &[Demands]) -> Result<()> {
    let source = bundle.signatures();
    for demands in demands {
        cosign::require(plan, source.as_ref(), demands).await?;
    }
    Ok(())
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
    let demands = recorded(piped.statement())?;
    if !demands.is_empty() {
        let wants = piped.wants()?;
        let sources: Sources = vec![piped.clone(); wants.len()];
        piped.demand(&resolve(&wants, &sources).await?, vec![demands]);
    }
    rest(piped, watch).await
}
