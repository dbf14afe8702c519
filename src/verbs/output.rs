//! A planned file, written: as it is, blobs side by side at their places; or compressed, from front to
//! back. Interrupted anywhere, the same command goes on.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::verify;
use crate::bundle::{Packed, Piped, Sealing, Writer, pour};
use crate::content::{Quiet, file};
use crate::error::{Error, Exit, Result, Side};
use crate::limits;
use crate::plan::{Ahead, Done, Passing, Place, Survey, Transfer, Turns, relay, transfer};

/// The file that is written.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its name.
    pub output: &'a Path,
    /// Whether a file of that name is replaced once the new one is complete.
    pub replace: bool,
}

/// What `.partial` and the journal beside it are called.
const BESIDE: [&str; 3] = ["", ".partial", ".partial.journal"];

impl Target<'_> {
    /// Whether writing it would overwrite this file.
    pub fn touches(&self, input: &Path) -> bool {
        let beside = |suffix: &&str| {
            let mut name = self.output.as_os_str().to_owned();
            name.push(suffix);
            file::same(input, Path::new(&name))
        };
        BESIDE.iter().any(beside)
    }

    /// Whether its name asks for the compressed form.
    pub fn is_packed(&self) -> bool {
        let packed =
            |suffix: &OsStr| suffix.eq_ignore_ascii_case("zst") || suffix.eq_ignore_ascii_case("tzst");
        self.output.extension().is_some_and(packed)
    }
}

/// How people call what is done.
#[derive(Clone, Copy)]
pub struct Words {
    /// `export`, `import`
    pub verb: &'static str,
    /// `pulling`, `writing`
    pub moving: &'static str,
}

/// Transfers at once while a file is compressed.
const PACKING_JOBS: usize = 2;

/// Writes the file as it is, and returns its bytes. `order` names no places.
pub async fn write(sealing: Sealing, to: Target<'_>, order: Transfer, words: Words) -> Result<(u64, Done)> {
    let watch = order.watch.clone();
    let (writer, order) = begin(sealing, to, order)?;
    if writer.resumed() > 0 {
        watch.note(&going_on(words, writer.resumed()));
    }
    let done = transfer(&order, &Survey::of_empty(&order.plan), words.moving).await;
    if done.is_err() && writer.resumed() > 0 {
        watch.note("what has come is kept beside the file: the same command goes on from there");
    }
    let done = done?;
    drop(order);
    Ok((finish(writer).await?, done))
}

/// The same from what passes by once.
pub async fn receive(
    sealing: Sealing,
    to: Target<'_>,
    order: Transfer,
    passing: &Piped,
) -> Result<(u64, Done)> {
    let (writer, order) = begin(sealing, to, order)?;
    let mut left = Survey::of_empty(&order.plan);
    let mut done = relay(&order, &mut left, passing).await?;
    passing.finish().await?;
    done.add(transfer(&order, &left, "finishing").await?);
    drop(order);
    Ok((finish(writer).await?, done))
}

fn begin(sealing: Sealing, to: Target<'_>, order: Transfer) -> Result<(Arc<Writer>, Arc<Transfer>)> {
    let note = |text: &str| order.watch.note(text);
    let writer = Arc::new(Writer::create(to.output, sealing, to.replace, &note)?);
    let place = Place { sink: writer.clone(), repository: String::new(), images: Vec::new(), source: None };
    Ok((writer, Arc::new(Transfer { places: vec![place], ..order })))
}

async fn finish(writer: Arc<Writer>) -> Result<u64> {
    let writer = Arc::into_inner(writer).ok_or_else(file::ended)?;
    tokio::task::spawn_blocking(|| writer.finish()).await.map_err(|_| file::ended())?
}

fn going_on(words: Words, bytes: u64) -> String {
    format!("going on with an interrupted {}: {bytes} bytes are there", words.verb)
}

/// Writes the compressed form, and returns its bytes. `order` names no places.
pub async fn pack(sealing: Arc<Sealing>, to: Target<'_>, order: Transfer, words: Words) -> Result<u64> {
    match pack_once(&sealing, to, order.clone(), words).await {
        // It was not written as it stands there, or its disk did not keep it: that costs time, no more.
        Err((true, error)) if is_damage(&error) => {
            order.watch.note(&format!("{}; beginning anew", error.sentence()));
            pack_once(&sealing, to, order, words).await.map_err(|(_, error)| error)
        }
        packed => packed.map_err(|(_, error)| error),
    }
}

/// On failure also tells whether an interrupted run had been gone on with, which is then given up.
async fn pack_once(
    sealing: &Arc<Sealing>,
    to: Target<'_>,
    order: Transfer,
    words: Words,
) -> Result<u64, (bool, Error)> {
    let watch = order.watch.clone();
    let packed = Packed::create(to.output, sealing, (to.replace, true), &|text| watch.note(text));
    let packed = packed.map_err(|error| (false, error))?;
    let resumed = packed.resumed() > 0;
    if resumed {
        watch.note(&going_on(words, packed.resumed()));
    }
    let beginnings = packed.beginnings(sealing);
    // Compressing is slower than fetching, and needs the memory.
    let order = Transfer { jobs: order.jobs.min(if resumed { 1 } else { PACKING_JOBS }), ..order };
    let ahead = Ahead::new(order, words.moving, limits::AHEAD_OF_FRAMES, beginnings);
    let written = compress(sealing.clone(), ahead, packed, None).await;
    if written.as_ref().is_err_and(|error| !is_damage(error)) {
        watch.note("complete frames are kept beside the file: the same command goes on from there");
    }
    written.map_err(|error| (resumed, error))
}

/// Writes the compressed form of what passes by once. What an interrupted run has left is not used: it
/// could not be verified.
pub async fn receive_packed(
    sealing: Arc<Sealing>,
    to: Target<'_>,
    order: Transfer,
    words: Words,
    passing: Arc<Piped>,
) -> Result<u64> {
    let watch = order.watch.clone();
    let packed = Packed::create(to.output, &sealing, (to.replace, false), &|text| watch.note(text))?;
    let turns = Passing::new(order, words.moving, passing.clone());
    compress(sealing, turns, packed, Some(passing)).await
}

/// Compresses what comes; the file gets its name when what passes by has passed.
async fn compress(
    sealing: Arc<Sealing>,
    mut turns: impl Turns + 'static,
    mut packed: Packed,
    passing: Option<Arc<Piped>>,
) -> Result<u64> {
    let resumed = packed.resumed() > 0;
    // A task of its own: nobody else waits while the disk does.
    aside(async move {
        let poured = async {
            pour(&sealing, &mut turns, &mut packed).await?;
            match passing {
                // What nobody wants is verified, too.
                Some(passing) => verify::rest(&passing, Arc::new(Quiet)).await,
                None => Ok(()),
            }
        };
        match poured.await {
            Ok(()) => {
                // The last moment at which an interruption leaves no file.
                tokio::task::yield_now().await;
                tokio::task::block_in_place(|| packed.finish())
            }
            Err(error) => {
                if resumed && is_damage(&error) {
                    packed.give_up();
                }
                Err(error)
            }
        }
    })
    .await
}

/// Runs work in a task of its own, which ends with whoever waits for it.
pub async fn aside<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let mut task = JoinSet::new();
    task.spawn(work);
    match task.join_next().await {
        Some(Ok(outcome)) => outcome,
        _ => Err(file::ended()),
    }
}

/// Whether what an interrupted run has left is to blame, and not the source.
fn is_damage(error: &Error) -> bool {
    error.kind().exit() == Exit::Untrusted && error.failed_side() != Some(Side::Source)
}
