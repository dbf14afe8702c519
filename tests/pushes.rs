//! `kill -9` on the registry while images are pushed into it, again and again: it never gives out a wrong
//! byte or a tag that leads to less than its image; what it said it has, it has; and the same pushes finish
//! the job. `SEALIFT_SOAK` says how many kills, `SEALIFT_SOAK_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails here is a failed test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::dice::{self, Dice};
use support::images::{Image, Layout};
use support::registry::Registry;
use support::serving::{Connection, Reply, Serving};
use support::{Scratch, peer};

/// Bytes in each layer.
const LAYER: usize = 120_000;

/// Bytes of a body that are sent in one go: the registry can die after each of them.
const PIECE: usize = 16_000;

/// How often the registry is killed before a job may finish.
const CHAIN: u64 = 3;

/// An image on its way.
struct Parcel {
    repository: &'static str,
    tag: &'static str,
    /// Configs and layers by digest.
    blobs: BTreeMap<String, Vec<u8>>,
    /// Digests, media types and bytes of the documents; the tag leads to the last.
    documents: Vec<(String, String, Vec<u8>)>,
}

impl Parcel {
    /// All that the tag leads to: sizes by digest.
    fn all(&self) -> BTreeMap<String, u64> {
        let blobs = self.blobs.iter().map(|(digest, content)| (digest.clone(), content.len() as u64));
        let documents = self.documents.iter().map(|(digest, _, bytes)| (digest.clone(), bytes.len() as u64));
        blobs.chain(documents).collect()
    }

    /// The paths and bytes of all that the tag leads to, itself first.
    fn paths(&self) -> Vec<(String, &[u8])> {
        let name = self.repository;
        let (_, _, top) = self.documents.last().unwrap();
        let mut paths = vec![(format!("/v2/{name}/manifests/{}", self.tag), top.as_slice())];
        let documents = self.documents.iter();
        paths.extend(
            documents.map(|(digest, _, bytes)| (format!("/v2/{name}/manifests/{digest}"), &bytes[..])),
        );
        let blobs = self.blobs.iter();
        paths.extend(blobs.map(|(digest, bytes)| (format!("/v2/{name}/blobs/{digest}"), &bytes[..])));
        paths
    }
}

/// Three images in two repositories; all of them share a layer.
fn parcels(scratch: &Scratch) -> Vec<Parcel> {
    let mut layout = Layout::new(scratch.path("images"));
    let parcel = |(repository, tag): (&'static str, &'static str)| {
        let platforms = vec!["linux/amd64", "linux/arm/v7"];
        let image = Image { platforms, layer: LAYER, shared: vec!["application"], ..Image::new(tag) };
        let top = layout.add(&format!("{repository}:{tag}"), &image);
        let read = |digest: &str| scratch.read(format!("images/blobs/{}", digest.replace(':', "/")));
        let (mut blobs, mut documents) = (BTreeMap::new(), Vec::new());
        let index: Value = serde_json::from_slice(&read(&top)).unwrap();
        for entry in index["manifests"].as_array().unwrap().iter().chain([&json!({ "digest": top })]) {
            let digest = entry["digest"].as_str().unwrap();
            let content = read(digest);
            let document: Value = serde_json::from_slice(&content).unwrap();
            for child in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
                let digest = child["digest"].as_str().unwrap();
                blobs.insert(digest.to_owned(), read(digest));
            }
            documents.push((digest.to_owned(), document["mediaType"].as_str().unwrap().to_owned(), content));
        }
        assert_eq!((blobs.len(), documents.len()), (5, 3));
        Parcel { repository, tag, blobs, documents }
    };
    [("nexus/engine", "2.1.0"), ("nexus/engine", "2.1.0-edge"), ("nexus/agent", "2.1.0")].map(parcel).into()
}

/// Why a push did not get to its end.
#[derive(Debug)]
enum Stop {
    /// The registry is gone.
    Gone,
    /// It did not take something.
    Refused(String),
}

/// One who pushes an image, as clients do: what is there is not sent.
struct Pusher<'a> {
    connection: Connection,
    parcel: &'a Parcel,
    dice: Dice,
    /// Told of every request, and every piece of a body.
    pulse: mpsc::Sender<()>,
}

impl Pusher<'_> {
    fn ask(&mut self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Result<Reply, Stop> {
        let length = body.len().to_string();
        let headers = [more, &[("Content-Length", length.as_str())]].concat();
        self.connection.try_send(method, path, &headers).ok_or(Stop::Gone)?;
        let _ = self.pulse.send(());
        for piece in body.chunks(PIECE) {
            self.connection.try_raw(piece).ok_or(Stop::Gone)?;
            let _ = self.pulse.send(());
        }
        let reply = self.connection.try_reply(method == "HEAD").ok_or(Stop::Gone)?;
        if reply.whole || method == "HEAD" { Ok(reply) } else { Err(Stop::Gone) }
    }

    fn expect(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, Stop> {
        let reply = self.ask(method, path, more, body)?;
        match reply.status == status {
            true => Ok(reply),
            false => {
                let said = String::from_utf8_lossy(&reply.body).into_owned();
                Err(Stop::Refused(format!("{method} {path}: {} {said}", reply.status)))
            }
        }
    }

    fn push(&mut self) -> Result<(), Stop> {
        let parcel = self.parcel;
        for (digest, content) in &parcel.blobs {
            let there = format!("/v2/{}/blobs/{digest}", parcel.repository);
            if self.ask("HEAD", &there, &[], b"")?.status != 200 {
                self.blob(digest, content)?;
            }
        }
        for (number, (digest, media_type, bytes)) in parcel.documents.iter().enumerate() {
            let last = number + 1 == parcel.documents.len();
            let reference = if last { parcel.tag } else { digest };
            let path = format!("/v2/{}/manifests/{reference}", parcel.repository);
            self.expect(201, "PUT", &path, &[("Content-Type", media_type)], bytes)?;
        }
        Ok(())
    }

    /// In one of the ways that the specification knows.
    fn blob(&mut self, digest: &str, content: &[u8]) -> Result<(), Stop> {
        let uploads = format!("/v2/{}/blobs/uploads/", self.parcel.repository);
        let way = self.dice.below(4);
        if way == 0 {
            return self.expect(201, "POST", &format!("{uploads}?digest={digest}"), &[], content).map(drop);
        }
        let mount = if way == 1 { format!("?mount={digest}&from=nexus/agent") } else { String::new() };
        let begun = self.ask("POST", &format!("{uploads}{mount}"), &[], b"")?;
        if begun.status == 201 && way == 1 {
            return Ok(());
        }
        if begun.status != 202 {
            return Err(Stop::Refused(format!("POST {uploads}{mount}: {}", begun.status)));
        }
        let mut place = begun.header("location").to_owned();
        let mut rest = content;
        if way == 3 {
            let chunk = content.len() / 2;
            for number in 0..2 {
                let (from, to) = (number * chunk, (number + 1) * chunk);
                let range = format!("{from}-{}", to - 1);
                let sent =
                    self.expect(202, "PATCH", &place, &[("Content-Range", &range)], &content[from..to])?;
                place = sent.header("location").to_owned();
            }
            rest = &content[2 * chunk..];
        }
        self.expect(201, "PUT", &format!("{place}?digest={digest}"), &[], rest).map(drop)
    }
}

/// What is wrong with what a registry gives out; how many of the images are there. An image that
/// `must` be there is missed. What a registry says while it dies is not held against it.
fn looked_at(address: &str, parcels: &[Parcel], must: &BTreeSet<usize>) -> Result<usize, String> {
    let Some(mut connection) = Connection::try_to(address) else { return Ok(0) };
    let mut get = |path: &str| {
        connection.try_send("GET", path, &[])?;
        connection.try_reply(false).filter(|reply| reply.whole)
    };
    let mut whole = 0;
    for (number, parcel) in parcels.iter().enumerate() {
        let Some(listed) = get(&format!("/v2/{}/tags/list", parcel.repository)) else { return Ok(whole) };
        let listed =
            listed.status == 200 && listed.json()["tags"].as_array().unwrap().contains(&json!(parcel.tag));
        let mut tagged = listed || must.contains(&number);
        for (path, expected) in parcel.paths() {
            let Some(reply) = get(&path) else { return Ok(whole) };
            match reply.status {
                // The first is the tag: from then on everything must be there.
                200 if path.ends_with(parcel.tag) => tagged = true,
                200 => {}
                404 if !tagged => continue,
                other => return Err(format!("{path}: {other}, but a tag leads there")),
            }
            if reply.body != expected {
                return Err(format!("{path}: {} bytes of something else", reply.body.len()));
            }
        }
        whole += usize::from(tagged);
    }
    Ok(whole)
}

/// What all rounds have in common.
struct Yard {
    scratch: Scratch,
    parcels: Vec<Parcel>,
    dice: Dice,
    violations: Vec<String>,
    kills: usize,
    /// Kills before the first blob, before the first tag, after it, and when all were set.
    moments: [usize; 4],
    /// Kills while a sweep went on.
    sweeps: usize,
    /// Stores that docker-registry was asked about.
    theirs: usize,
    /// Whole images that were seen while others were pushed.
    looks: AtomicUsize,
}

/// When the registry dies.
enum Moment {
    /// Never: the job is to be finished.
    Never,
    /// After so many requests and pieces, and a bit later.
    Pulses(usize, Duration),
    /// By the clock.
    After(Duration),
}

impl Yard {
    fn store(&self, verb: &str, more: &str) -> support::Run {
        self.scratch.sealift(&format!("store {verb} store {more}"))
    }

    /// By the clock, anywhere in the traffic, or near its end, where the tags are set.
    fn moment(&mut self, left: usize, took: Duration) -> Moment {
        let dice = &mut self.dice;
        let later = Duration::from_micros(dice.below(4) * dice.below(1500));
        match dice.below(4) {
            0 => Moment::After(Duration::from_micros(dice.below(took.as_micros() as u64))),
            1 => Moment::Pulses(left - 1 - dice.below(1 + left as u64 / 10) as usize, later),
            _ => Moment::Pulses(dice.below(left as u64) as usize, later),
        }
    }

    fn check(&mut self, wrong: Option<String>, when: &str) {
        self.violations.extend(wrong.map(|wrong| format!("{when} (kill {}): {wrong}", self.kills)));
    }

    /// Pushes everything at once while others look, and somebody may sweep; kills the registry at the
    /// moment. How each push ended, and how many pulses there were.
    fn round(
        &mut self,
        serving: &mut Serving,
        moment: &Moment,
        sweep: bool,
    ) -> (Vec<Result<(), Stop>>, usize) {
        let address = serving.address.clone();
        let (pulse, pulses) = mpsc::channel();
        let (done, nothing) = (AtomicBool::new(false), BTreeSet::new());
        let mut counted = 0;
        let seeds: Vec<u64> = self.parcels.iter().map(|_| self.dice.below(1 << 30)).collect();
        let (ends, wrong) = std::thread::scope(|scope| {
            let pushers: Vec<_> = self
                .parcels
                .iter()
                .zip(seeds)
                .map(|(parcel, seed)| {
                    let (pulse, address) = (pulse.clone(), &address);
                    scope.spawn(move || {
                        let connection = Connection::try_to(address).ok_or(Stop::Gone)?;
                        Pusher { connection, parcel, dice: Dice::seeded(seed), pulse }.push()
                    })
                })
                .collect();
            drop(pulse);
            let looker = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let whole = looked_at(&address, &self.parcels, &nothing)?;
                    self.looks.fetch_add(whole, Ordering::Relaxed);
                    pause(Duration::from_millis(5));
                }
                Ok::<_, String>(())
            });
            let sweeper = sweep.then(|| scope.spawn(|| self.store("gc", "--grace 0 --untagged")));
            counted = wait(moment, &pulses);
            if !matches!(moment, Moment::Never) {
                serving.kill();
            }
            let ends: Vec<_> = pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect();
            done.store(true, Ordering::Relaxed);
            counted += pulses.iter().count();
            let swept = sweeper.map(|sweeper| sweeper.join().unwrap()).filter(|run| run.code != 0);
            let seen = looker.join().unwrap().err();
            (ends, seen.into_iter().chain(swept.map(|run| run.to_string())).collect::<Vec<_>>())
        });
        for wrong in wrong {
            self.check(Some(wrong), "during a push");
        }
        for end in &ends {
            // A sweep that spares nothing may take away what a push has just brought: it is told.
            if let (Err(Stop::Refused(why)), false) = (end, sweep) {
                self.check(Some(why.clone()), "during a push");
            }
        }
        (ends, counted)
    }

    /// What must be true of the store whatever happened; then of a registry that is started on it.
    fn after(&mut self, must: &BTreeSet<usize>) -> Serving {
        let checked = self.store("check", "");
        self.check((checked.code != 0).then(|| checked.to_string()), "after a kill");
        let serving = Serving::start(&self.scratch, "store:store --writable");
        let seen = looked_at(&serving.address, &self.parcels, must);
        self.check(seen.err(), "after a kill");
        serving
    }

    fn count(&mut self, sweep: bool) {
        self.kills += 1;
        self.sweeps += usize::from(sweep);
        let below = |name: &str| {
            let place = self.scratch.path("store/docker/registry/v2").join(name);
            fs::read_dir(place).into_iter().flatten().count()
        };
        let tags = below("repositories/nexus/engine/_manifests/tags")
            + below("repositories/nexus/agent/_manifests/tags");
        let phase = match (below("blobs/sha256"), tags) {
            (0, _) => 0,
            (_, 0) => 1,
            (_, tags) if tags < self.parcels.len() => 2,
            _ => 3,
        };
        self.moments[phase] += 1;
    }

    /// Pushes until everything is there, and looks at all of it in every way.
    fn finish(&mut self, mut serving: Serving) {
        let (ends, _) = self.round(&mut serving, &Moment::Never, false);
        let unfinished = ends.iter().find_map(|end| end.as_ref().err());
        self.check(unfinished.map(|stop| format!("{stop:?}")), "in the end");
        let everything: BTreeSet<_> = (0..self.parcels.len()).collect();
        for when in ["in the end", "after the last sweep"] {
            let seen = looked_at(&serving.address, &self.parcels, &everything);
            self.check((seen != Ok(everything.len())).then(|| format!("{seen:?}")), when);
            let swept = self.store("gc", "--grace 0 --untagged --json");
            let nothing = swept.code == 0 && swept.json()["blobs"] == 0 && swept.json()["documents"] == 0;
            self.check((!nothing).then(|| swept.to_string()), when);
            let checked = self.store("check", "");
            self.check((checked.code != 0).then(|| checked.to_string()), when);
        }
        drop(serving);
        // Slow to start: every now and then, and the first time.
        if self.dice.below(4) > 0 && self.kills > 0 || !peer("docker-registry") {
            return;
        }
        self.theirs += 1;
        let theirs = Registry::over(&self.scratch.path("store"));
        let below = |parcel: &Parcel| match theirs.below(parcel.repository, parcel.tag) {
            Ok(Some(found)) if found == parcel.all() => None,
            other => Some(format!("docker-registry: {}:{}: {other:?}", parcel.repository, parcel.tag)),
        };
        let wrong: Vec<_> = self.parcels.iter().filter_map(below).collect();
        for wrong in wrong {
            self.check(Some(wrong), "in the end");
        }
    }
}

/// The registry has its share of the processor while nobody looks.
fn pause(time: Duration) {
    let (_open, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Counts pulses until the moment, or until everybody has ended.
fn wait(moment: &Moment, pulses: &mpsc::Receiver<()>) -> usize {
    match moment {
        Moment::Never => pulses.iter().count(),
        Moment::Pulses(number, later) => {
            let counted = pulses.iter().take(*number).count();
            pause(*later);
            counted
        }
        Moment::After(time) => {
            pause(*time);
            0
        }
    }
}

#[test]
fn a_registry_that_is_killed_during_pushes_has_nothing_half_and_the_same_pushes_finish() {
    let scratch = Scratch::new();
    let parcels = parcels(&scratch);
    let mut yard = Yard {
        scratch,
        parcels,
        dice: Dice::new("pushes"),
        violations: Vec::new(),
        kills: 0,
        moments: [0; 4],
        sweeps: 0,
        theirs: 0,
        looks: AtomicUsize::new(0),
    };
    // How it goes when nothing happens.
    let mut serving = Serving::start(&yard.scratch, "store:store --writable");
    let began = Instant::now();
    let (_, usual) = yard.round(&mut serving, &Moment::Never, false);
    let took = began.elapsed();
    yard.finish(serving);
    let (mut jobs, mut late) = (0, 0);
    while yard.kills < dice::kills(100) {
        fs::remove_dir_all(yard.scratch.path("store")).unwrap();
        jobs += 1;
        let mut serving = Serving::start(&yard.scratch, "store:store --writable");
        let (mut must, mut left) = (BTreeSet::new(), usual);
        for _ in 0..=yard.dice.below(CHAIN) {
            let sweep = yard.dice.below(3) == 0;
            let moment = yard.moment(left, took * left as u32 / usual as u32);
            let (ends, counted) = yard.round(&mut serving, &moment, sweep);
            // What was sent need not be sent again, more or less.
            left = left.saturating_sub(counted).max(usual / 8);
            must.extend((0..ends.len()).filter(|number| ends[*number].is_ok()));
            match ends.iter().any(|end| matches!(end, Err(Stop::Gone))) {
                true => yard.count(sweep),
                // Everybody had ended before: no kill that could have done harm.
                false => late += 1,
            }
            serving = yard.after(&must);
        }
        yard.finish(serving);
    }
    let Yard { kills, moments, sweeps, theirs, looks, violations, .. } = yard;
    eprintln!(
        "soak: pushes: {kills} kills in {jobs} jobs, {} before the first blob, {} before the first tag, {} after it, \
         {} when all tags were set; {sweeps} of them during a sweep; {late} came too late; {} whole images seen meanwhile; {theirs} stores served by docker-registry; {} violations",
        moments[0],
        moments[1],
        moments[2],
        moments[3],
        looks.into_inner(),
        violations.len()
    );
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
