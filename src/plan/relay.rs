//! Moving content that does not wait: from something that passes by once (a bundle in a pipe) to
//! places, and from places into something that takes it in the plan's order (a pipe again).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Plan;
use super::crew::Crew;
use super::pace::Counted;
use super::transfer::{Done, How, Move, Survey, Transfer, missing, open, paced};
use crate::content::file::ended;
use crate::content::{
    Begun, Inlet, Meter, Outlet, Patience, Procession, Quiet, Reader, Room, Stage, Unverified, Watch,
    conduit, retrying,
};
use crate::error::{Error, Kind, Result, Retry, Side};
use crate::limits;
use crate::oci::{Descriptor, Digest};

/// Blobs up to this size are held until they have arrived, so that they can be sent again.
const SMALL: u64 = 256 << 10;

/// Lets everything pass by: what the survey wants sent is sent, everything else is verified. What
/// was sent is taken out of the survey; the rest of it is [`transfer`](super::transfer())'s.
///
/// # Errors
/// The first failure ends it; content that had arrived stays, unnamed.
pub async fn relay(order: &Arc<Transfer>, survey: &mut Survey, passing: &dyn Procession) -> Result<Done> {
    let mut sends = sends(&order.plan, survey);
    let bytes =
        sends.values().filter_map(|one| order.plan.nodes.get(one.node)).map(|n| n.descriptor.size).sum();
    order.watch.stage(Stage { verb: "pushing", parts: vec![("blobs".to_owned(), bytes)] });
    let counted = Counted::new(order.watch.clone());
    let mut crew = Crew::new(order.jobs, counted.clone());
    let room = Room::of(limits::BEHIND);
    let relayed = async {
        while let Some(digest) = passing.next().await? {
            crew.look().await?;
            let Some(one) = sends.remove(&digest) else {
                // Only what is sent was announced.
                passing.skip(&Meter::new(Arc::new(Quiet), 0)).await?;
                continue;
            };
            let (inlet, outlet) = conduit(&room);
            crew.start(order.clone().receive(one, outlet, counted.clone())).await?;
            passing.carry(inlet).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = relayed.await {
        if error.kind() == Kind::Interrupted {
            // A push has ended early: it knows why.
            return Err(crew.finish().await.err().unwrap_or(error));
        }
        // What the pushes make of it is not the cause.
        crew.stop().await;
        return Err(error);
    }
    let done = crew.finish().await?;
    survey.moves.retain(|one| one.how != How::Send || sends.contains_key(&digest_of(&order.plan, one)));
    Ok(done)
}

/// What is to be sent, each blob once: to further places it is mounted.
fn sends(plan: &Plan, survey: &Survey) -> HashMap<Digest, Move> {
    let sends = survey.moves.iter().filter(|one| one.how == How::Send);
    sends.rev().map(|one| (digest_of(plan, one), *one)).collect()
}

fn digest_of(plan: &Plan, one: &Move) -> Digest {
    plan.nodes.get(one.node).map_or_else(|| Digest::of(b""), |node| node.descriptor.digest)
}

impl Transfer {
    /// Sends what comes out of `outlet`.
    async fn receive(self: Arc<Self>, one: Move, outlet: Outlet, watch: Arc<dyn Watch>) -> Result<Done> {
        let (node, place) = self.ends(&one)?;
        let descriptor = &node.descriptor;
        let meter = Meter::new(watch, 0);
        let content = paced(Unverified::new(descriptor.digest, outlet.stream()), self.rate.as_ref());
        let reader = Reader::new(descriptor, content).metered(meter).from(Side::Source);
        let sent = match descriptor.size <= SMALL {
            true => {
                let bytes = reader.into_bytes().await?;
                let again = || {
                    place
                        .sink
                        .push(descriptor, Reader::of_bytes(descriptor, descriptor.digest, bytes.clone()))
                };
                retrying(Patience::default(), &|text| self.watch.note(text), again).await
            }
            false => place.sink.push(descriptor, reader).await.map_err(no_second_try),
        };
        sent.map_err(|e| e.side(Side::Destination))?;
        Ok(Done { sent: 1, sent_bytes: descriptor.size, ..Done::default() })
    }
}

fn no_second_try(error: Error) -> Error {
    match error.retryable() {
        Retry::Never => error,
        _ => error.retry(Retry::Never).hint_instead(
            "a pipe cannot be rewound: send the bundle once more; what has arrived is not sent again",
        ),
    }
}

/// Tells what there is of a node already.
pub type Beginnings = Box<dyn Fn(&Descriptor) -> Option<Begun> + Send + Sync>;

/// A plan's content in the plan's order, fetched side by side ahead of whoever takes it.
pub struct Ahead {
    order: Transfer,
    room: u32,
    beginnings: Beginnings,
    next: usize,
    waiting: VecDeque<(usize, Outlet)>,
    /// Ended with this.
    fetching: JoinSet<()>,
}

impl Ahead {
    /// Fetches what `order` says, up to `room` bytes ahead; it names no places. `verb` is how people call it.
    pub fn new(order: Transfer, verb: &'static str, room: u32, beginnings: Beginnings) -> Self {
        order.watch.stage(Stage { verb, parts: vec![("blobs".to_owned(), order.plan.bytes())] });
        Ahead { order, room, beginnings, next: 0, waiting: VecDeque::new(), fetching: JoinSet::new() }
    }

    fn next(&mut self) -> Result<Option<(Digest, Outlet)>> {
        let jobs = self.order.jobs.max(1);
        while self.fetching.try_join_next().is_some() {}
        while self.waiting.len() < jobs && self.next < self.order.plan.nodes.len() {
            let room = Room::of(self.room / u32::try_from(jobs).unwrap_or(u32::MAX));
            let (inlet, outlet) = conduit(&room);
            self.fetch(self.next, inlet)?;
            self.waiting.push_back((self.next, outlet));
            self.next += 1;
        }
        let next = self.waiting.pop_front();
        Ok(next.and_then(|(node, outlet)| Some((self.order.plan.nodes.get(node)?.descriptor.digest, outlet))))
    }

    fn fetch(&mut self, number: usize, inlet: Inlet) -> Result<()> {
        let node = self.order.plan.nodes.get(number).ok_or_else(missing)?;
        let source = self.order.sources.get(node.origin).ok_or_else(missing)?.clone();
        let descriptor = node.descriptor.clone();
        let begun = (self.beginnings)(&descriptor);
        let whole = begun.is_none();
        let meter = Meter::new(self.order.watch.clone(), 0);
        let rate = self.order.rate.clone();
        self.fetching.spawn(async move {
            let opened = open(&descriptor, source.as_ref(), begun, rate.as_ref()).await;
            match opened {
                Ok(content) => {
                    let reader = Reader::new(&descriptor, content).metered(meter);
                    // What was begun here may be what is wrong with it.
                    pass(if whole { reader.from(Side::Source) } else { reader }, inlet).await
                }
                Err(error) => inlet.fail(error),
            }
        });
        Ok(())
    }
}

async fn pass(reader: Reader, inlet: Inlet) {
    match through(reader, &inlet).await {
        Ok(()) => inlet.end(),
        Err(error) => inlet.fail(error),
    }
}

async fn through(mut reader: Reader, inlet: &Inlet) -> Result<()> {
    while let Some(piece) = reader.chunk().await? {
        if !inlet.put(piece).await {
            return Err(ended());
        }
    }
    Ok(())
}

/// A plan's content, one piece after the other.
#[async_trait]
pub trait Turns: Send {
    /// The next node's digest and content, which ends only after it was verified.
    async fn turn(&mut self) -> Result<Option<(Digest, Outlet)>>;
}

#[async_trait]
impl Turns for Ahead {
    async fn turn(&mut self) -> Result<Option<(Digest, Outlet)>> {
        self.next()
    }
}

/// A plan's content as it passes by, in whose order the plan stands. What is not in the plan is verified
/// and let go.
pub struct Passing {
    turns: mpsc::Receiver<(Digest, Outlet)>,
    /// Ended with this.
    _task: JoinSet<()>,
}

impl Passing {
    /// Takes what `order` says out of what passes by; what has passed already comes from its source.
    pub fn new(order: Transfer, verb: &'static str, passing: Arc<dyn Procession>) -> Self {
        order.watch.stage(Stage { verb, parts: vec![("blobs".to_owned(), order.plan.bytes())] });
        let (send, turns) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let room = Room::of(limits::AHEAD_OF_FRAMES);
            for node in 0..order.plan.nodes.len() {
                let Some(descriptor) = order.plan.nodes.get(node).map(|node| &node.descriptor) else {
                    return;
                };
                let (inlet, outlet) = conduit(&room);
                if send.send((descriptor.digest, outlet)).await.is_err() {
                    return;
                }
                match order.catch(node, &*passing, &inlet).await {
                    Ok(()) => inlet.end(),
                    Err(error) => return inlet.fail(error),
                }
            }
        });
        Passing { turns, _task: task }
    }
}

#[async_trait]
impl Turns for Passing {
    async fn turn(&mut self) -> Result<Option<(Digest, Outlet)>> {
        Ok(self.turns.recv().await)
    }
}

impl Transfer {
    /// Hands one node on, once its turn has come.
    async fn catch(&self, node: usize, passing: &dyn Procession, inlet: &Inlet) -> Result<()> {
        let node = self.plan.nodes.get(node).ok_or_else(missing)?;
        let descriptor = &node.descriptor;
        let meter = Meter::new(self.watch.clone(), 0);
        if !passing.comes(&descriptor.digest).await {
            let source = self.sources.get(node.origin).ok_or_else(missing)?;
            return through(source.fetch(descriptor).await?.metered(meter).from(Side::Source), inlet).await;
        }
        while passing.next().await?.is_some_and(|next| next != descriptor.digest) {
            // Only what is wanted was announced.
            passing.skip(&Meter::new(Arc::new(Quiet), 0)).await?;
        }
        let (raw, outlet) = conduit(&Room::of(limits::AHEAD_OF_FRAMES));
        let content = paced(Unverified::new(descriptor.digest, outlet.stream()), self.rate.as_ref());
        let reader = Reader::new(descriptor, content).metered(meter).from(Side::Source);
        // Whoever fails first knows why; the other only knows that it was broken off.
        match tokio::join!(passing.carry(raw), through(reader, inlet)) {
            (Err(error), _) if error.kind() != Kind::Interrupted => Err(error),
            (carried, taken) => taken.and(carried),
        }
    }
}
