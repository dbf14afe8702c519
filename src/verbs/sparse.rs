//! Images of which platforms were left out: their indexes name what is not there. Some registries take such an
//! index, others insist on complete ones; there a trimmed index goes in its place.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::error::{Error, Kind, Result, Side};
use crate::plan::{Omitted, Place, Plan, Sources, Survey, Trimmed, probe};

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
    /// Trimmed ones went in the place of some of them, which have other digests.
    Trimmed,
    /// A dry run does not find out.
    Undecided,
}

/// Refuses images of which something was left out.
pub fn refuse(plan: &Plan) -> Error {
    let left = plan.images.iter().find_map(|image| {
        image.omitted.iter().find(|omitted| omitted.is_entry()).map(|omitted| (image, omitted))
    });
    let platform = left.and_then(|(_, omitted): (_, &Omitted)| omitted.platform.as_ref());
    Error::new(Kind::PolicyRefused, "an image is incomplete, and --sparse refuse takes only complete ones")
        .at(left.map(|(image, _)| image.label()).unwrap_or_default())
        .got(format_args!("no {}", platform.map_or("part of it".to_owned(), ToString::to_string)))
        .hint("get a bundle with all platforms, ask for all of them, or let the index go: --sparse keep, --sparse trim")
}

/// What is to be asked, and whom.
pub struct Asking<'a> {
    /// The plan, with its indexes as they are.
    pub plan: &'a Plan,
    /// Where its documents come from.
    pub sources: &'a Sources,
    /// The indexes that lack something.
    pub lacking: &'a BTreeSet<usize>,
    /// The plan with all of them trimmed, where what was trimmed before is trimmed again.
    pub trimmed: Option<&'a Trimmed>,
    /// Where they go.
    pub places: &'a [Place],
    /// What is there.
    pub todo: &'a Survey,
    /// Nothing may be offered.
    pub dry_run: bool,
    /// Questions at once.
    pub jobs: usize,
}

impl Asking<'_> {
    /// The indexes that have to be trimmed, and whether that is all that can be said. What is there already answers
    /// for itself; else the place is offered an index of nothing but the missing entries.
    pub async fn ask(&self) -> Result<(BTreeSet<usize>, bool)> {
        let asks = self.places.iter().enumerate().flat_map(|(number, place)| {
            let nodes = self.plan.closure(place.images.iter().map(|(image, _)| *image));
            let lacking = self.lacking.iter().filter(move |node| nodes.binary_search(node).is_ok());
            lacking.map(move |node| async move { Ok((*node, self.ask_for(*node, number, place).await?)) })
        });
        let answers: Result<Vec<(usize, Became)>> =
            stream::iter(asks).buffered(self.jobs.max(1)).try_collect().await;
        let answers = answers.map_err(|e: Error| e.side(Side::Destination))?;
        let trimmed = answers.iter().filter(|(_, became)| *became == Became::Trimmed);
        let decided = answers.iter().all(|(_, became)| *became != Became::Undecided);
        Ok((trimmed.map(|(node, _)| *node).collect(), decided))
    }

    async fn ask_for(&self, node: usize, number: usize, place: &Place) -> Result<Became> {
        if !self.todo.moves.iter().any(|one| (one.node, one.place) == (node, number)) {
            return Ok(Became::Kept);
        }
        if let Some(trimmed) = self.trimmed.and_then(|trimmed| trimmed.plan.nodes.get(node))
            && place.sink.exists(&trimmed.descriptor).await?
        {
            return Ok(Became::Trimmed);
        }
        if self.dry_run {
            return Ok(Became::Undecided);
        }
        let probe = probe(self.plan, self.sources, node).await?;
        let taken = place.sink.takes_sparse(&probe).await.map_err(|e| {
            e.hint("whether it takes indexes of which entries are missing could not be found out: --sparse trim does not ask")
        })?;
        Ok(if taken { Became::Kept } else { Became::Trimmed })
    }
}
