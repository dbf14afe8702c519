//! Images of which platforms were left out: their indexes name what is not there. Some registries take such an
//! index, others insist on complete ones; there a trimmed index goes in its place.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::error::{Error, Kind, Result, Side};
use crate::plan::{Image, Place, Plan, Sparse};

/// What is to be done about indexes of which entries were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexes {
    /// They go as they are.
    Keep,
    /// Trimmed ones go in their place.
    Trim,
    /// Images that have one are refused.
    Refuse,
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// There were none.
    Complete,
    /// They went as they are: the digests stay the same.
    Kept,
    /// Trimmed ones went in their place, which have other digests.
    Trimmed,
    /// A dry run does not find out.
    Undecided,
}

/// Refuses images of which something was left out.
pub fn refuse(plan: &Plan) -> Error {
    let lacks = |image: &&Image| image.omitted.iter().any(|omitted| omitted.digest.is_some());
    let image = plan.images.iter().find(lacks);
    let left = image.and_then(|image| image.omitted.iter().find(|omitted| omitted.digest.is_some()));
    let platform = left.and_then(|omitted| omitted.platform.as_ref());
    Error::new(Kind::PolicyRefused, "an image is incomplete, and --sparse refuse takes only complete ones")
        .at(image.map(Image::label).unwrap_or_default())
        .got(format_args!("no {}", platform.map_or("part of it".to_owned(), ToString::to_string)))
        .hint("get a bundle with all platforms, ask for all of them, or let the index go: --sparse keep, --sparse trim")
}

/// Asks the places which of them take indexes of which entries are missing. What is there already answers for
/// itself; else each is offered an index of nothing but missing entries, unless this is a `dry` run.
pub async fn ask(plan: &Plan, sparse: &Sparse, places: &[Place], dry: bool, jobs: usize) -> Result<Became> {
    let asks = places.iter().flat_map(|place| {
        let nodes = plan.closure(place.images.iter().map(|(image, _)| *image));
        let lacking = sparse.lacking.iter().filter(move |(node, _)| nodes.binary_search(node).is_ok());
        lacking.map(move |(node, probe)| async move {
            let there = async |plan: &Plan| match plan.nodes.get(*node) {
                Some(node) => place.sink.exists(&node.descriptor).await,
                None => Ok(false),
            };
            if there(plan).await? {
                return Ok(Became::Kept);
            }
            if there(&sparse.trimmed).await? {
                return Ok(Became::Trimmed);
            }
            match dry {
                true => Ok(Became::Undecided),
                false if place.sink.takes_sparse(probe).await? => Ok(Became::Kept),
                false => Ok(Became::Trimmed),
            }
        })
    });
    let answers: Result<Vec<Became>> = stream::iter(asks).buffered(jobs.max(1)).try_collect().await;
    let answers = answers.map_err(|e: Error| e.side(Side::Destination))?;
    let any = |one| answers.contains(&one);
    Ok(match (any(Became::Trimmed), any(Became::Undecided)) {
        (true, _) => Became::Trimmed,
        (false, true) => Became::Undecided,
        (false, false) => Became::Kept,
    })
}
