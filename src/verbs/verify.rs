//! `verify`: everything that import does before it touches a destination.

use std::path::Path;
use std::sync::Arc;

use crate::bundle::{Bundle, Input, Piped, Trusted, Verified};
use crate::content::{Meter, Procession, Stage, Watch, file};
use crate::error::Result;
use crate::release::Moment;
use crate::trust::Keyring;

/// Checks signatures, statement and sums: reads the first kilobytes only.
pub fn head(bundle: &Path, trust: &Path) -> Result<Bundle<Trusted>> {
    // The store first: with no key there is nothing to open the bundle for.
    let keyring = Keyring::load(trust)?;
    Bundle::open(bundle)?.trust(&keyring, Moment::now())
}

/// The same, aside: a medium that does not answer must not keep the program from hearing a signal.
pub async fn opened(bundle: &Path, trust: &Path) -> Result<Bundle<Trusted>> {
    let (bundle, trust) = (bundle.to_owned(), trust.to_owned());
    tokio::task::spawn_blocking(move || head(&bundle, &trust)).await.map_err(|_| file::ended())?
}

/// Checks everything.
pub async fn whole(bundle: Bundle<Trusted>, watch: Arc<dyn Watch>) -> Result<Bundle<Verified>> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    bundle.verify(threads, watch).await
}

/// The head of a bundle that comes through a pipe called `name`.
pub async fn received(input: Input, name: &'static str, trust: &Path) -> Result<Arc<Piped>> {
    let trust = trust.to_owned();
    let receive = move || Piped::receive(input, name, &Keyring::load(&trust)?, Moment::now());
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
