//! The store of a registry: what sealift stored is served by docker-registry and the other way round;
//! nothing half done has a name, whatever dies; and keeping it in order takes nothing that is needed.
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
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sealift::content::{Holdings, Kept, Pointer, Removal, Stock, Unverified};
use sealift::error::Kind;
use sealift::oci::{Digest, MediaType, Repository, Tag};
use sealift::store::{Store, Sweep, Swept};
use serde_json::{Value, json};
use support::dice::{self, Dice};
use support::parts::Parts;
use support::registry::Registry;
use support::running::Running;
use support::site::peers;
use support::stick::Stick;
use support::{EXPORT, HEAVY_NAMES, NAMES, Run, Scratch, peer, sha256};

const IMPORT: &str = "import bundle.tar --to store:offline --trust trust";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const V2: &str = "docker/registry/v2";

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

/// Where a blob lies.
fn blob_path(store: &Path, hex: &str) -> PathBuf {
    store.join(V2).join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

fn revision_path(store: &Path, name: &str, hex: &str) -> PathBuf {
    store.join(V2).join(format!("repositories/{name}/_manifests/revisions/sha256/{hex}/link"))
}

fn layer_path(store: &Path, name: &str, hex: &str) -> PathBuf {
    store.join(V2).join(format!("repositories/{name}/_layers/sha256/{hex}/link"))
}

fn tag_path(store: &Path, name: &str, tag: &str) -> PathBuf {
    store.join(V2).join(format!("repositories/{name}/_manifests/tags/{tag}/current/link"))
}

/// Digests of the bundle's blobs and documents, with their bytes.
fn bundle_blobs(scratch: &Scratch) -> BTreeMap<String, Vec<u8>> {
    let entries = Parts::read(&scratch.read("bundle.tar")).0.into_iter();
    let blob = |path: &str| path.strip_prefix("blobs/sha256/").map(str::to_owned);
    entries.filter_map(|entry| Some((blob(&entry.path)?, entry.content))).collect()
}

/// All blobs of a store, by what they are called.
fn stored(store: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            match path.file_name().unwrap() == "data" {
                true => {
                    let hex = directory.file_name().unwrap().to_string_lossy().into_owned();
                    found.insert(hex, fs::read(&path).unwrap_or_default());
                }
                false => walk(&path, found),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&store.join(V2).join("blobs"), &mut found);
    found
}

/// What is left in a store that is neither blob nor link.
fn left_behind(store: &Path) -> Vec<PathBuf> {
    fs::read_dir(store.join(".sealift/tmp"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[track_caller]
fn clean(scratch: &Scratch, store: &str) -> Value {
    scratch.sealift(&format!("store check {store} --json")).ok().json()
}

/// Makes everything in a store so old that no grace covers it.
fn age(store: &Path) {
    let old = SystemTime::now() - Duration::from_secs(40 * 86_400);
    for entry in walkdir::WalkDir::new(store) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            fs::File::options().write(true).open(entry.path()).unwrap().set_modified(old).unwrap();
        }
    }
}

// Beside docker-registry.

#[test]
fn docker_registry_serves_what_was_imported() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_release().exported();
    let receipt = scratch.sealift(&format!("{IMPORT} --json")).ok().json();
    let blobs = bundle_blobs(&scratch);
    assert_eq!(stored(&scratch.path("offline")), blobs);
    assert_eq!(receipt["tags"], NAMES.len());
    let names = receipt["images"].to_string();
    assert!(NAMES.iter().all(|(name, _)| names.contains(&format!("\"store/{name}\""))), "{names}");

    let registry = Registry::over(&scratch.path("offline"));
    let mut seen = BTreeSet::new();
    for (name, _) in NAMES {
        let (name, tag) = name.split_once(':').unwrap();
        // Each is hashed on this way.
        let below = registry.below(name, tag).unwrap().unwrap();
        assert!(below.iter().all(|(digest, size)| blobs[&digest[7..]].len() as u64 == *size));
        seen.extend(below.into_keys());
    }
    assert_eq!(seen.len(), blobs.len(), "everything is reached");
    let (_, catalog) = registry.get("/v2/_catalog");
    let catalog: Value = serde_json::from_slice(&catalog).unwrap();
    assert_eq!(catalog["repositories"], json!(["nexus/agent", "nexus/engine"]));
    let (_, tags) = registry.get("/v2/nexus/agent/tags/list");
    let mut tags: Value = serde_json::from_slice(&tags).unwrap();
    tags["tags"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    assert_eq!(tags["tags"], json!(["2.1", "2.1.0"]));

    // Both write into one store.
    let to = registry.address();
    let copy = |more: &str| {
        let image = "registry.example.com/nexus/agent:2.1.0";
        scratch.run("skopeo", &format!("--insecure-policy copy --all --preserve-digests --dest-tls-verify=false oci:images:{image} docker://{to}/{more}")).ok();
    };
    copy("other/agent:1");
    copy("nexus/agent:2.2.0");
    let checked = clean(&scratch, "offline");
    assert_eq!((&checked["repositories"], &checked["blobs"]), (&json!(3), &json!(blobs.len())));
    scratch.sealift("store gc offline --grace 0").ok();
    assert_eq!(stored(&scratch.path("offline")).len(), blobs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_registry_stored_is_read_byte_by_byte() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_heavy_release(3000).exported();
    let registry = Registry::start();
    scratch.push_heavy(&registry);
    let blobs = bundle_blobs(&scratch);
    let store = Store::open(&registry.data()).unwrap();
    let name = repository("tools/tool");
    assert_eq!(store.repositories().await.unwrap(), std::slice::from_ref(&name));
    assert_eq!(store.tags(&name).await.unwrap(), Some(vec![tag("1.0.0")]));
    assert!(store.tags(&repository("tools")).await.unwrap().is_none());
    let top = store.document(&name, &Pointer::Tag(tag("1.0.0"))).await.unwrap().unwrap();
    assert_eq!((top.media_type.as_str(), &top.bytes[..]), (INDEX, &blobs[&top.digest.hex()][..]));
    let (mut documents, mut layers) = (0, 0);
    for (hex, content) in &blobs {
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let document = store.document(&name, &Pointer::Digest(digest)).await.unwrap();
        let blob = store.blob(&name, &digest).await.unwrap();
        assert!(document.is_some() != blob.is_some(), "{hex}");
        documents += usize::from(document.is_some_and(|kept| kept.bytes == content));
        if let Some(extent) = blob {
            let mut bytes = vec![0; extent.size as usize];
            extent.file.unwrap().read_exact_at(&mut bytes, extent.offset).unwrap();
            assert!(extent.medium.read_at(&mut [0; 1], extent.offset).unwrap() == 1 && bytes == *content);
            layers += 1;
        }
        assert!(store.blob(&repository("else/where"), &digest).await.unwrap().is_none());
    }
    assert_eq!((documents, layers), (3, 5));
    drop(store);

    // And exported again from where it lies: the same bundle, to the byte.
    let export = EXPORT.replace("oci:images", &format!("store:{}", registry.data().display()));
    scratch.sealift(&export.replace("bundle.tar", "again.tar")).ok();
    assert!(scratch.read("again.tar") == scratch.read("bundle.tar"));
    // Importing it there finds everything.
    let import = format!("import bundle.tar --to store:{} --trust trust --json", registry.data().display());
    let receipt = scratch.sealift(&import).ok().json();
    assert_eq!((&receipt["sent"], &receipt["tags"]), (&json!(0), &json!(2)));
    assert_eq!(registry.below("tools/tool", "1").unwrap(), registry.below("tools/tool", "1.0.0").unwrap());
}

/// Both programs' trees of one image, but for what they keep for themselves.
#[test]
fn the_trees_are_alike() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_small_release().exported();
    let registry = Registry::start();
    let copy = "--insecure-policy copy --all --preserve-digests --dest-tls-verify=false oci:images:registry.example.com/tools/tool:1.0.0";
    scratch.run("skopeo", &format!("{copy} docker://{}/tools/tool:1.0.0", registry.address())).ok();
    scratch.sealift(IMPORT).ok();
    let tree = |root: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let files = walkdir::WalkDir::new(root.join("docker")).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| !entry.path().ends_with("_uploads"));
        files
            .map(|entry| {
                let content =
                    if entry.file_type().is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
                (entry.path().strip_prefix(root).unwrap().to_owned(), content)
            })
            .collect()
    };
    let (theirs, ours) = (tree(&registry.data()), tree(&scratch.path("offline")));
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    assert!(theirs == ours);
}

// As a destination.

#[test]
fn an_import_says_what_it_would_do_and_does_it_once() {
    let scratch = Scratch::with_release().exported();
    let dry = scratch.sealift(&format!("{IMPORT} --dry-run --json")).ok().json();
    assert!(!scratch.has("offline"), "a dry run makes nothing");
    let first = scratch.sealift(&format!("{IMPORT} --json")).ok().json();
    assert_eq!((&dry["toSend"], &dry["toMount"]), (&first["sent"], &first["mounted"]));
    assert!(first["mounted"].as_u64().unwrap() > 0, "the layer that both images have");
    let again = scratch.sealift(&format!("{IMPORT} --json")).ok().json();
    assert_eq!((&again["sent"], &again["verified"]), (&json!(0), &json!("documents")));
    clean(&scratch, "offline");
    assert_eq!(left_behind(&scratch.path("offline")), [""; 0].map(PathBuf::from));

    // Another image under the same name is a conflict.
    let hex = tag_path(&scratch.path("offline"), "nexus/agent", "2.1");
    fs::write(&hex, format!("sha256:{}", "0".repeat(64))).unwrap();
    scratch.sealift(IMPORT).fails(4, "TagConflict").says("store/nexus/agent:2.1");
    scratch.sealift(&format!("{IMPORT} --overwrite-tags")).ok();
    clean(&scratch, "offline");

    fs::create_dir(scratch.path("letters")).unwrap();
    scratch.write("letters/mine.txt", "mine");
    scratch.sealift(&IMPORT.replace("offline", "letters")).fails(2, "OutputExists").says("mine.txt");
    scratch.sealift("import bundle.tar --to store: --trust trust").fails(2, "Usage");
}

/// Where files can share blocks, the kernel brings content from the bundle to its place; elsewhere, and
/// where content has to be looked at on its way, it goes by piece. The outcome is the same.
#[test]
fn content_is_shared_where_the_file_system_can() {
    let scratch = Scratch::with_heavy_release(50_000).exported();
    let adopted =
        |arguments: &str| scratch.sealift(&format!("{arguments} --json")).ok().json()["adopted"].clone();
    scratch.sealift(&EXPORT.replace("bundle.tar", "bundle.tar.zst")).ok();
    assert_eq!(adopted("import bundle.tar.zst --to store:packed --trust trust"), 0);
    support::piped(&scratch, "bundle.tar", "import - --to store:piped --trust trust").ok();
    for store in ["packed", "piped"] {
        assert_eq!(stored(&scratch.path(store)), bundle_blobs(&scratch), "{store}");
        clean(&scratch, store);
    }
    let Some(sharing) = Stick::sharing(&scratch) else { return };
    fs::copy(scratch.path("bundle.tar"), sharing.0.join("bundle.tar")).unwrap();
    let import = |to: &str| format!("import stick/bundle.tar --to {to} --trust trust");
    // Three layers and two configs; documents are looked into on their way.
    assert_eq!(adopted(&import("store:stick/store")), 5);
    assert_eq!(stored(&sharing.0.join("store")), bundle_blobs(&scratch));
    clean(&scratch, "stick/store");
    assert_eq!(adopted(&import("oci:stick/layout")), 8);
    assert_eq!(adopted(&import("store:stick/paced --limit-rate 1GB")), 0);
    // From another file system.
    assert_eq!(adopted("import bundle.tar --to store:stick/other --trust trust"), 0);
    assert_eq!(stored(&sharing.0.join("other")), bundle_blobs(&scratch));
    clean(&scratch, "stick/other");
}

/// A tar's blocks are smaller than a file system's: only where a layer happens to begin on both can it be
/// shared. What the file system says of that, not what sealift does.
#[test]
fn a_layer_that_begins_on_a_block_of_the_bundle_is_shared_with_it_and_no_other() {
    if !peer("filefrag") {
        return;
    }
    // Each block more in the first layer moves those behind it by one.
    let begins_on_a_block = |blocks: usize| {
        let scratch = Scratch::with_heavy_release(50_000 + 512 * blocks).exported();
        let entries = Parts::read(&scratch.read("bundle.tar")).0.into_iter();
        let layers = entries.filter(|entry| entry.content.len() >= 50_000);
        let layers: BTreeMap<_, _> =
            layers.map(|entry| (sha256(&entry.content), entry.range().start % 4096 == 0)).collect();
        layers.values().any(|begins| *begins).then_some((scratch, layers))
    };
    let (scratch, layers) = (0..8).find_map(begins_on_a_block).unwrap();
    let Some(sharing) = Stick::sharing(&scratch) else { return };
    fs::copy(scratch.path("bundle.tar"), sharing.0.join("bundle.tar")).unwrap();
    scratch.sealift("import stick/bundle.tar --to store:stick/store --trust trust").ok();
    assert_eq!(layers.len(), 3);
    for (hex, begins) in layers {
        let path = blob_path(&sharing.0.join("store"), &hex);
        let extents = scratch.run("filefrag", &format!("-s -v {}", path.display())).ok().stdout;
        assert_eq!(extents.contains("shared"), begins, "{hex}\n{extents}");
    }
}

#[test]
fn platforms_that_were_left_out_are_no_damage() {
    let scratch = Scratch::with_heavy_release(2000).exported();
    scratch.sealift(&format!("{IMPORT} --platform linux/amd64")).ok();
    let checked = clean(&scratch, "offline");
    assert_eq!((&checked["absent"], &checked["documents"]), (&json!(1), &json!(2)));
    // What is left out now may come later.
    scratch.sealift(IMPORT).ok();
    assert_eq!(clean(&scratch, "offline")["absent"], 0);
    assert_eq!(stored(&scratch.path("offline")), bundle_blobs(&scratch));
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    let scratch = Scratch::with_heavy_release(1_200_000).exported();
    let Some(stick) = Stick::plugged(&scratch, 2 << 20) else { return };
    let import = IMPORT.replace("store:offline", "store:stick/store");
    scratch.sealift(&import).fails(1, "NoSpace").says("destination: ").says("hint: ");
    // There seems to be room, but somebody else takes it.
    stick.grow(6 << 20);
    fs::write(stick.0.join("film"), vec![7; 1 << 20]).unwrap();
    let (film, stop) = (stick.0.join("film"), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let (growing, stopped) = (film.clone(), stop.clone());
    let taker = std::thread::spawn(move || {
        let mut film = vec![7u8; 1 << 20];
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            film.extend_from_slice(&[7; 64 << 10]);
            let _ = fs::write(&growing, &film);
        }
    });
    let run = scratch.sealift(&import);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    taker.join().unwrap();
    fs::remove_file(film).unwrap();
    assert!(run.code == 0 || run.is_failure(1, "NoSpace"), "{run}");
    for (hex, content) in stored(&stick.0.join("store")) {
        assert_eq!(sha256(&content), hex);
    }
    clean(&scratch, "stick/store");
    assert_eq!(left_behind(&stick.0.join("store")), [""; 0].map(PathBuf::from));
    scratch.sealift(&import).ok();
    assert_eq!(stored(&stick.0.join("store")), bundle_blobs(&scratch));
}

// Kills.

fn kills() -> usize {
    dice::kills(30)
}

/// Kills at a moment by the clock, or when so many blobs and tags have names.
fn killed(scratch: &Scratch, until: Duration, names: usize) -> Run {
    let running = Running::start(scratch.command(IMPORT));
    let hand = running.hand();
    let (send, ended) = mpsc::channel();
    let waiter = std::thread::spawn(move || _ = send.send(running.ended()));
    let began = Instant::now();
    let run = loop {
        if let Ok(run) = ended.recv_timeout(Duration::from_micros(300)) {
            break run;
        }
        if began.elapsed() > until || progress(scratch) >= names {
            hand.kill();
            break ended.recv().unwrap();
        }
    };
    waiter.join().unwrap();
    run
}

fn tags_there(scratch: &Scratch) -> usize {
    let tagged = |(name, tag): &(&str, &str)| tag_path(&scratch.path("offline"), name, tag).exists();
    HEAVY_NAMES.iter().filter(|name| tagged(name)).count()
}

fn progress(scratch: &Scratch) -> usize {
    let blobs = scratch.path("offline").join(V2).join("blobs/sha256");
    let blobs = fs::read_dir(blobs).into_iter().flatten().count();
    blobs + tags_there(scratch)
}

/// What is wrong with the store.
fn wrong(scratch: &Scratch, expected: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let store = scratch.path("offline");
    let blobs = stored(&store);
    if let Some((hex, _)) = blobs.iter().find(|(hex, content)| expected.get(*hex) != Some(content)) {
        return Some(format!("{hex} is not what it is called"));
    }
    if tags_there(scratch) > 0 && blobs.len() < expected.len() {
        return Some(format!("a tag, and {} blobs", blobs.len()));
    }
    let check = scratch.sealift("store check offline");
    // Killed before it was a store at all.
    (check.code != 0 && !check.is_failure(1, "NotFound")).then(|| check.to_string())
}

#[test]
fn a_killed_import_leaves_a_sound_store_and_is_finished_by_the_next() {
    let scratch = Scratch::with_heavy_release(2_000_000).exported();
    let expected = bundle_blobs(&scratch);
    let began = Instant::now();
    scratch.sealift(IMPORT).ok();
    let usual = began.elapsed();
    assert_eq!((stored(&scratch.path("offline")) == expected, tags_there(&scratch)), (true, 2));
    let (mut dice, mut count, mut jobs, mut violations) = (Dice::new("store"), 0, 0, Vec::new());
    let mut moments = [0; 3];
    while count < kills() {
        fs::remove_dir_all(scratch.path("offline")).unwrap();
        jobs += 1;
        for _ in 0..=dice.below(3) {
            let (until, names) = match dice.below(2) {
                0 => (Duration::from_micros(dice.below(usual.as_micros() as u64 * 5 / 4)), usize::MAX),
                _ => (usual * 20, 1 + dice.below(expected.len() as u64 + 2) as usize),
            };
            let run = killed(&scratch, until, names);
            violations.extend(wrong(&scratch, &expected).map(|wrong| format!("kill {count}: {wrong}")));
            match run.code {
                -1 => count += 1,
                0 => break,
                _ => violations.push(format!("neither killed nor done: {run}")),
            }
            moments[usize::from(!stored(&scratch.path("offline")).is_empty())
                + usize::from(tags_there(&scratch) > 0)] += 1;
        }
        let run = scratch.sealift(IMPORT);
        violations.extend((run.code != 0).then(|| run.to_string()));
        violations.extend(wrong(&scratch, &expected));
        let complete = stored(&scratch.path("offline")) == expected && tags_there(&scratch) == 2;
        violations.extend((!complete).then(|| "not complete in the end".to_owned()));
        // Where nothing was left to do, nothing was cleared away either.
        let swept = scratch.sealift("store gc offline --grace 0 --untagged --json");
        let nothing = swept.code == 0 && swept.json()["blobs"] == 0 && swept.json()["documents"] == 0;
        violations.extend((!nothing).then(|| swept.to_string()));
        let left = left_behind(&scratch.path("offline"));
        violations.extend((!left.is_empty()).then(|| format!("left behind: {left:?}")));
    }
    eprintln!(
        "soak: store: {count} kills in {jobs} jobs, {} before the first blob, {} before the first tag, {} after it",
        moments[0], moments[1], moments[2]
    );
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

// Links and paths that lie.

#[tokio::test(flavor = "multi_thread")]
async fn links_that_say_something_else_lead_nowhere() {
    let scratch = Scratch::with_heavy_release(2000).exported();
    scratch.sealift(IMPORT).ok();
    let path = scratch.path("offline");
    let name = repository("tools/tool");
    let store = Store::open(&path).unwrap();
    let top = store.document(&name, &Pointer::Tag(tag("1"))).await.unwrap().unwrap();
    let blobs = bundle_blobs(&scratch);
    let mut layer = None;
    for hex in blobs.keys() {
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        if store.blob(&name, &digest).await.unwrap().is_some() {
            layer = Some(digest);
        }
    }
    let layer = layer.unwrap();
    let elsewhere = format!("sha256:{}", "1".repeat(64));
    for garbage in
        ["", "garbage", &elsewhere, &top.digest.to_string(), &format!("{layer}\n"), &"x".repeat(100_000)]
    {
        fs::write(layer_path(&path, "tools/tool", &layer.hex()), garbage).unwrap();
        let before = top.digest.hex();
        fs::write(
            revision_path(&path, "tools/tool", &before),
            if garbage.contains(&before) { "" } else { garbage },
        )
        .unwrap();
        assert!(store.blob(&name, &layer).await.unwrap().is_none(), "{garbage:.80}");
        let by_digest = store.document(&name, &Pointer::Digest(top.digest)).await.unwrap();
        assert!(by_digest.is_none(), "{garbage:.80}");
        let check = scratch.sealift("store check offline");
        assert_eq!(check.code, 3, "{check}");
        assert!(check.stdout.contains(&layer.hex()) && check.stdout.contains(&before), "{check}");
        // The next import mends it.
        scratch.sealift(IMPORT).ok();
        clean(&scratch, "offline");
        assert_eq!(store.blob(&name, &layer).await.unwrap().unwrap().size, blobs[&layer.hex()].len() as u64);
    }
    for garbage in ["", "latest", &format!("{}\n", top.digest), "sha256:../../../../etc/passwd"] {
        fs::write(tag_path(&path, "tools/tool", "1"), garbage).unwrap();
        let kind = store.document(&name, &Pointer::Tag(tag("1"))).await.unwrap_err().kind();
        assert_eq!(kind, Kind::LayoutInvalid, "{garbage}");
        scratch.sealift("store check offline").code.eq(&3).then_some(()).unwrap();
        scratch.sealift("store gc offline --grace 0 --untagged").fails(3, "LayoutInvalid");
        scratch.sealift(IMPORT).ok();
        clean(&scratch, "offline");
    }
    fs::write(tag_path(&path, "tools/tool", "1"), &elsewhere).unwrap();
    assert!(store.document(&name, &Pointer::Tag(tag("1"))).await.unwrap().is_none());
    let check = scratch.sealift("store check offline");
    assert!(check.code == 3 && check.stdout.contains("tags/1/current/link"), "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_of_the_file_system_leads_out_of_a_store() {
    let scratch = Scratch::with_heavy_release(2000).exported();
    scratch.sealift(IMPORT).ok();
    let (store, outside) = (scratch.path("offline"), scratch.path("outside"));
    let name = repository("tools/tool");
    let top = {
        let store = Store::at(&store).unwrap();
        store.document(&name, &Pointer::Tag(tag("1"))).await.unwrap().unwrap().digest
    };
    let hex = top.hex();
    for inside in [
        format!("{V2}/repositories/tools/tool/_manifests"),
        format!("{V2}/repositories/tools"),
        format!("{V2}/blobs/sha256/{}", &hex[..2]),
        format!("{V2}/blobs/sha256/{}/{hex}/data", &hex[..2]),
        format!("{V2}/blobs"),
        "docker".to_owned(),
    ] {
        // The same content, behind a link.
        let place = store.join(&inside);
        fs::rename(&place, &outside).unwrap();
        symlink(&outside, &place).unwrap();
        let before: Vec<_> =
            walkdir::WalkDir::new(&outside).into_iter().map(|e| e.unwrap().into_path()).collect();
        let opened = Store::at(&store).unwrap();
        let document = opened.document(&name, &Pointer::Tag(tag("1"))).await;
        assert_eq!(document.unwrap_err().kind(), Kind::LayoutInvalid, "{inside}");
        let run = scratch.sealift(IMPORT);
        assert!(run.code != 0, "{inside}: {run}");
        let run = scratch.sealift("store gc offline --grace 0 --untagged");
        assert!(
            run.code != 0 || inside.contains("repositories/tools") || inside.contains("blobs/sha256/"),
            "{inside}: {run}"
        );
        let after: Vec<_> =
            walkdir::WalkDir::new(&outside).into_iter().map(|e| e.unwrap().into_path()).collect();
        assert_eq!(before, after, "{inside}: nothing came or went");
        fs::remove_file(&place).unwrap();
        fs::rename(&outside, &place).unwrap();
        if !inside.contains("repositories/tools") && !inside.contains("blobs/sha256/") {
            clean(&scratch, "offline");
        }
        fs::remove_dir_all(&store).unwrap();
        scratch.sealift(IMPORT).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_paths_are_no_names() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.path("store")).unwrap();
    for name in ["..", "../x", "a/../b", "a/..", "/etc", "_layers", "a/_uploads"] {
        assert!(name.parse::<Repository>().is_err(), "{name}");
        scratch.sealift(&format!("store remove store {name}")).fails(2, "RefInvalid");
    }
    let name = repository("a");
    for upload in ["..", ".", "", "../../b", "0/1", &"a".repeat(36).replace('a', "."), &"x".repeat(36)] {
        assert_eq!(store.received(&name, upload).await.unwrap(), None);
        assert!(!store.cancel(&name, upload).await.unwrap());
        let content = Unverified::of_bytes("test", Bytes::from_static(b"x"));
        assert_eq!(store.append(&name, upload, content).await.unwrap_err().kind(), Kind::NotFound);
        let finished = store.finish(&name, upload, &digest(b"x")).await;
        assert_eq!(finished.unwrap_err().kind(), Kind::NotFound);
    }
    assert!(store.repositories().await.unwrap().is_empty());
}

// As stock of a server.

async fn push(store: &Store, name: &Repository, content: &[u8]) -> Digest {
    let upload = store.begin(name).await.unwrap();
    let bytes = Bytes::copy_from_slice(content);
    store.append(name, &upload, Unverified::of_bytes("test", bytes)).await.unwrap();
    store.finish(name, &upload, &digest(content)).await.unwrap();
    digest(content)
}

fn manifest(config: &[u8], layers: &[&[u8]], subject: Option<&Kept>) -> Kept {
    let blob = |media_type: &str, content: &[u8]| json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() });
    let layers: Vec<_> =
        layers.iter().map(|layer| blob("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let mut document = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": blob("application/vnd.oci.image.config.v1+json", config), "layers": layers,
    });
    if let Some(subject) = subject {
        document["subject"] =
            json!({ "mediaType": MANIFEST, "digest": subject.digest, "size": subject.bytes.len() });
    }
    kept(&document)
}

fn index(children: &[&Kept]) -> Kept {
    let entry =
        |child: &&Kept| json!({ "mediaType": MANIFEST, "digest": child.digest, "size": child.bytes.len() });
    kept(
        &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children.iter().map(entry).collect::<Vec<_>>() }),
    )
}

fn kept(document: &Value) -> Kept {
    let bytes = Bytes::from(document.to_string());
    let media_type = MediaType::new(document["mediaType"].as_str().unwrap_or(MANIFEST));
    Kept { media_type, digest: digest(&bytes), bytes }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_grow_are_verified_and_outlive_the_program() {
    let scratch = Scratch::new();
    let path = scratch.path("store");
    let store = Store::open(&path).unwrap();
    let name = repository("team/app");
    let piece = |text: &'static str| Unverified::of_bytes("test", Bytes::from_static(text.as_bytes()));
    let upload = store.begin(&name).await.unwrap();
    assert_eq!(store.received(&name, &upload).await.unwrap(), Some(0));
    assert_eq!(store.append(&name, &upload, piece("hello ")).await.unwrap(), 6);
    assert_eq!(store.received(&repository("other"), &upload).await.unwrap(), None);
    // What arrived before a failure stays.
    let broken = futures_util::stream::iter([
        Ok(Bytes::from_static(b"wor")),
        Err(sealift::error::Error::new(Kind::Network, "gone")),
    ]);
    let failed = store.append(&name, &upload, Unverified::new("test", broken)).await;
    assert_eq!(failed.unwrap_err().kind(), Kind::Network);
    assert_eq!(store.received(&name, &upload).await.unwrap(), Some(9));
    // Another run goes on: with the file, whatever was in memory.
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.append(&name, &upload, piece("ld")).await.unwrap(), 11);
    assert!(store.blob(&name, &digest(b"hello world")).await.unwrap().is_none());
    store.finish(&name, &upload, &digest(b"hello world")).await.unwrap();
    assert_eq!(store.blob(&name, &digest(b"hello world")).await.unwrap().unwrap().size, 11);
    assert_eq!(store.received(&name, &upload).await.unwrap(), None);

    // A mismatch ends it.
    let upload = store.begin(&name).await.unwrap();
    store.append(&name, &upload, piece("hello")).await.unwrap();
    let kind = store.finish(&name, &upload, &digest(b"bye")).await.unwrap_err().kind();
    assert_eq!(kind, Kind::DigestMismatch);
    assert_eq!(store.received(&name, &upload).await.unwrap(), None);
    assert_eq!(stored(&path).len(), 1);
    let upload = store.begin(&name).await.unwrap();
    assert!(store.cancel(&name, &upload).await.unwrap() && !store.cancel(&name, &upload).await.unwrap());

    // Too many; then the old ones go.
    let mut uploads = Vec::new();
    while uploads.len() < sealift::limits::UPLOADS {
        uploads.push(store.begin(&name).await.unwrap());
    }
    assert_eq!(store.begin(&name).await.unwrap_err().kind(), Kind::LimitExceeded);
    let uploads_path = path.join(V2).join("repositories/team/app/_uploads");
    for upload in uploads.iter().skip(1) {
        fs::write(uploads_path.join(upload).join("startedat"), "2020-01-01T00:00:00Z").unwrap();
    }
    let one_more = store.begin(&name).await.unwrap();
    assert_eq!(fs::read_dir(&uploads_path).unwrap().count(), 2);
    fs::write(uploads_path.join(&one_more).join("startedat"), "2020-01-01T00:00:00Z").unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.received(&name, &one_more).await.unwrap(), None);
    assert_eq!(store.received(&name, &uploads[0]).await.unwrap(), Some(0));
    assert_eq!(left_behind(&path).len(), 1, "this run's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_has_one_writer_and_is_over_when_it_was_given_up() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.path("store")).unwrap();
    let name = repository("team/app");
    let upload = store.begin(&name).await.unwrap();
    // Content that ends when somebody says so.
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let pieces = futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|piece| (Ok(piece), receive))
    });
    let writer = tokio::spawn({
        let (store, name, upload) = (store.clone(), name.clone(), upload.clone());
        async move { store.append(&name, &upload, Unverified::new("test", pieces)).await }
    });
    send.send(Bytes::from_static(b"hello")).await.unwrap();
    while store.received(&name, &upload).await.unwrap() != Some(5) {
        tokio::task::yield_now().await;
    }
    let more = || Unverified::of_bytes("test", Bytes::from_static(b"more"));
    assert_eq!(store.append(&name, &upload, more()).await.unwrap_err().kind(), Kind::Locked);
    let finished = store.finish(&name, &upload, &digest(b"hello")).await;
    assert_eq!(finished.unwrap_err().kind(), Kind::Locked);
    assert!(store.cancel(&name, &upload).await.unwrap());
    drop(send);
    assert_eq!(writer.await.unwrap().unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.append(&name, &upload, more()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.finish(&name, &upload, &digest(b"hello")).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_needs_all_that_it_names() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.path("store")).unwrap();
    let name = repository("team/app");
    let image = manifest(b"{}", &[b"one", b"two"], None);
    push(&store, &name, b"{}").await;
    push(&store, &name, b"one").await;
    let put = |document: Kept, tag: Option<Tag>| {
        let (store, name) = (store.clone(), name.clone());
        async move { store.put(&name, &document, tag.as_ref()).await.map_err(|e| e.kind()) }
    };
    assert_eq!(put(image.clone(), Some(tag("1"))).await, Err(Kind::BlobMissing));
    assert!(store.tags(&name).await.unwrap().unwrap().is_empty());
    // In another repository is not in this one; a mount brings it.
    let other = repository("team/base");
    let two = push(&store, &other, b"two").await;
    assert_eq!(put(image.clone(), None).await, Err(Kind::BlobMissing));
    assert!(!store.mount(&name, &two, Some(&repository("team/none"))).await.unwrap());
    assert!(!store.mount(&name, &digest(b"three"), None).await.unwrap());
    assert!(store.mount(&name, &two, Some(&other)).await.unwrap());
    assert!(store.mount(&repository("team/any"), &two, None).await.unwrap());
    assert_eq!(put(index(&[&image]), Some(tag("1"))).await, Err(Kind::BlobMissing));
    assert_eq!(put(image.clone(), Some(tag("1"))).await, Ok(()));
    assert_eq!(put(index(&[&image]), Some(tag("all"))).await, Ok(()));
    assert_eq!(store.tags(&name).await.unwrap().unwrap(), [tag("1"), tag("all")]);
    let wrong_size = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": { "mediaType": "x/y", "digest": digest(b"{}"), "size": 3 }, "layers": [] });
    assert_eq!(put(kept(&wrong_size), None).await, Err(Kind::SizeMismatch));
    // What readers understand differently does not come in, nor what is not what it is called.
    let twice =
        format!("{{\"mediaType\":\"{MANIFEST}\",{}", &std::str::from_utf8(&image.bytes).unwrap()[1..]);
    let twice = Kept { digest: digest(twice.as_bytes()), bytes: twice.into(), ..image.clone() };
    assert_eq!(put(twice, None).await, Err(Kind::DocumentAmbiguous));
    let other_bytes = Kept { bytes: Bytes::from_static(b"{}"), ..image.clone() };
    assert_eq!(put(other_bytes, None).await, Err(Kind::DigestMismatch));

    // Removed, it is gone with its tags; the blobs stay for the sweep.
    assert!(store.remove(&name, &Removal::Tag(tag("all"))).await.unwrap());
    assert!(!store.remove(&name, &Removal::Tag(tag("all"))).await.unwrap());
    assert!(store.remove(&name, &Removal::Document(image.digest)).await.unwrap());
    assert!(store.tags(&name).await.unwrap().unwrap().is_empty());
    assert!(store.document(&name, &Pointer::Digest(image.digest)).await.unwrap().is_none());
    assert!(store.remove(&name, &Removal::Blob(two)).await.unwrap());
    assert!(
        store.blob(&name, &two).await.unwrap().is_none() && store.blob(&other, &two).await.unwrap().is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_document_is_an_error_and_its_type_is_its_own() {
    let scratch = Scratch::new();
    let path = scratch.path("store");
    let store = Store::open(&path).unwrap();
    let name = repository("a");
    push(&store, &name, b"{}").await;
    let untyped = json!({ "schemaVersion": 2, "config": { "mediaType": "x/y", "digest": digest(b"{}"), "size": 2 }, "layers": [] });
    let untyped = kept(&untyped);
    store.put(&name, &untyped, Some(&tag("1"))).await.unwrap();
    let read = store.document(&name, &Pointer::Tag(tag("1"))).await.unwrap().unwrap();
    assert_eq!((read.media_type.as_str(), &read.bytes), (MANIFEST, &untyped.bytes));
    let list =
        Kept { media_type: MediaType::new(INDEX), ..kept(&json!({ "schemaVersion": 2, "manifests": [] })) };
    store.put(&name, &list, None).await.unwrap();
    let read = store.document(&name, &Pointer::Digest(list.digest)).await.unwrap().unwrap();
    assert_eq!(read.media_type.as_str(), INDEX);

    let mut bytes = untyped.bytes.to_vec();
    bytes[5] ^= 1;
    fs::write(blob_path(&path, &untyped.digest.hex()), bytes).unwrap();
    let kind = store.document(&name, &Pointer::Tag(tag("1"))).await.unwrap_err().kind();
    assert_eq!(kind, Kind::DigestMismatch);
    // Pushed again, it is mended.
    store.put(&name, &untyped, None).await.unwrap();
    assert!(store.document(&name, &Pointer::Tag(tag("1"))).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_found_by_their_subject_whatever_a_fallback_tag_lists() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.path("store")).unwrap();
    let name = repository("a");
    for blob in [&b"{}"[..], b"one", b"two", b"three"] {
        push(&store, &name, blob).await;
    }
    let image = manifest(b"{}", &[b"one"], None);
    let signature = manifest(b"{}", &[b"two"], Some(&image));
    let bare = manifest(b"{}", &[b"three"], None);
    // A referrer may come before what it refers to.
    store.put(&name, &signature, None).await.unwrap();
    let found = async |store: &Store| -> BTreeSet<String> {
        let found = store.referrers(&name, &image.digest).await.unwrap();
        let digests: BTreeSet<_> = found.iter().map(|kept| kept.digest.to_string()).collect();
        assert_eq!(digests.len(), found.len(), "each once");
        digests
    };
    assert_eq!(found(&store).await, [signature.digest.to_string()].into());
    store.put(&name, &image, Some(&tag("1"))).await.unwrap();
    store.put(&name, &bare, None).await.unwrap();
    let fallback = index(&[&signature, &bare]);
    store.put(&name, &fallback, Some(&tag(&format!("sha256-{}", image.digest.hex())))).await.unwrap();
    // distribution-spec, "Listing Referrers": each has a subject that is this digest.
    assert_eq!(found(&store).await, [signature.digest.to_string()].into());
    // Another run, another repository.
    let again = Store::open(&scratch.path("store")).unwrap();
    assert_eq!(found(&again).await, [signature.digest.to_string()].into());
    assert!(store.referrers(&repository("b"), &image.digest).await.unwrap().is_empty());
    assert!(store.remove(&name, &Removal::Document(signature.digest)).await.unwrap());
    assert!(found(&store).await.is_empty());
}

// In order.

#[test]
fn check_finds_a_flipped_bit_and_an_import_mends_it() {
    let scratch = Scratch::with_heavy_release(50_000).exported();
    scratch.sealift("store check offline").fails(1, "NotFound");
    scratch.sealift(IMPORT).ok();
    let blobs = bundle_blobs(&scratch);
    for (hex, content) in &blobs {
        let path = blob_path(&scratch.path("offline"), hex);
        let mut damaged = content.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 4;
        fs::write(&path, &damaged).unwrap();
        let run = scratch.sealift("store check offline --json");
        assert_eq!(run.code, 3, "{run}");
        let findings = run.json()["findings"].clone();
        assert_eq!(findings.as_array().unwrap().len(), 1, "{run}");
        assert!(findings[0]["place"].as_str().unwrap().contains(hex), "{run}");
        assert!(run.stderr.contains("[LayoutInvalid]"), "{run}");
        scratch.sealift(IMPORT).ok();
        assert_eq!(&fs::read(&path).unwrap(), content);
    }
    // Gone, or cut short.
    for (hex, content) in &blobs {
        let path = blob_path(&scratch.path("offline"), hex);
        fs::remove_file(&path).unwrap();
        assert_eq!(scratch.sealift("store check offline").code, 3, "{hex}");
        fs::write(&path, &content[..content.len() - 1]).unwrap();
        assert_eq!(scratch.sealift("store check offline").code, 3, "{hex}");
        scratch.sealift(IMPORT).ok();
    }
    clean(&scratch, "offline");
}

fn sweep(grace: u64, untagged: bool) -> Sweep {
    Sweep { grace: Duration::from_secs(grace), untagged, dry_run: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeping_keeps_what_is_needed_and_spares_what_is_young() {
    let scratch = Scratch::new();
    let path = scratch.path("store");
    let store = Store::open(&path).unwrap();
    let name = repository("a/b");
    for blob in [&b"{}"[..], b"one", b"two", b"three", b"loose", b"four"] {
        push(&store, &name, blob).await;
    }
    let child = manifest(b"{}", &[b"one"], None);
    let parent = index(&[&child]);
    let signature = manifest(b"{}", &[b"two"], Some(&parent));
    let of_signature = manifest(b"{}", &[b"two", b"one"], Some(&signature));
    let untagged = manifest(b"{}", &[b"three"], None);
    let about_untagged = manifest(b"{}", &[b"four"], Some(&untagged));
    for document in [&child, &signature, &of_signature, &untagged, &about_untagged] {
        store.put(&name, document, None).await.unwrap();
    }
    store.put(&name, &parent, Some(&tag("1"))).await.unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    // Everything is young.
    let swept = store.sweep(sweep(3600, true)).await.unwrap();
    assert_eq!((swept.blobs, swept.spared, swept.documents), (0, 1, 0));
    age(&path);
    push(&store, &name, b"fresh").await;
    let dry = Sweep { dry_run: true, ..sweep(3600, true) };
    let would = store.sweep(dry).await.unwrap();
    assert_eq!(stored(&path).len(), 13);
    // Whatever a document names is kept, whether or not a tag leads to it.
    let swept = store.sweep(sweep(3600, false)).await.unwrap();
    assert_eq!((swept.blobs, swept.bytes, swept.spared), (1, 5, 1));
    assert!(store.blob(&name, &digest(b"loose")).await.unwrap().is_none());
    assert!(!layer_path(&path, "a/b", &digest(b"loose").hex()).exists(), "no link is left");
    // Without the tag's help only what it leads to, and what refers to that.
    let swept = store.sweep(sweep(3600, true)).await.unwrap();
    assert_eq!((swept.documents, swept.blobs, swept.spared), (2, 4, 1), "two documents and their layers");
    assert_eq!((would.documents, would.blobs), (2, 5));
    for document in [&child, &parent, &signature, &of_signature] {
        assert!(store.document(&name, &Pointer::Digest(document.digest)).await.unwrap().is_some());
    }
    for document in [&untagged, &about_untagged] {
        assert!(store.document(&name, &Pointer::Digest(document.digest)).await.unwrap().is_none());
    }
    clean(&scratch, "store");
    assert_eq!(store.sweep(sweep(0, true)).await.unwrap().blobs, 1, "fresh is old enough for no grace");
    let swept = store.sweep(sweep(0, true)).await.unwrap();
    assert_eq!(swept, Swept { kept: 7, bytes_kept: swept.bytes_kept, ..Swept::default() });

    // What is needed cannot be known: nothing goes.
    push(&store, &name, b"again").await;
    age(&path);
    fs::write(blob_path(&path, &child.digest.hex()), "{}").unwrap();
    scratch.sealift("store gc store --grace 0").fails(3, "DigestMismatch").says("store check");
    assert!(store.blob(&name, &digest(b"again")).await.unwrap().is_some());
}

#[test]
fn the_verbs_say_what_they_do() {
    let scratch = Scratch::with_release().exported();
    scratch.sealift(IMPORT).ok();
    let store = scratch.path("offline");
    let all = stored(&store).len();
    scratch.sealift("store remove offline nexus/nothing").fails(1, "NotFound");
    scratch.sealift("store remove offline nexus/agent:9").fails(1, "NotFound");
    scratch.sealift("store remove offline nexus/agent@sha256:12").fails(2, "RefInvalid");
    let dry = scratch.sealift("store remove offline nexus/agent --dry-run").ok();
    assert!(dry.stdout.contains("would remove nexus/agent:2.1.0 (sha256:"), "{dry}");
    assert!(tag_path(&store, "nexus/agent", "2.1").exists());
    scratch.sealift("store remove offline nexus/agent:2.1").ok();
    assert!(!tag_path(&store, "nexus/agent", "2.1").exists());
    let top = fs::read_to_string(tag_path(&store, "nexus/agent", "2.1.0")).unwrap();
    let removed = scratch.sealift(&format!("store remove offline nexus/agent@{top} --json")).ok().json();
    assert_eq!((&removed["tags"][0][0], &removed["documents"][0]), (&json!("2.1.0"), &json!(top)));
    assert!(!tag_path(&store, "nexus/agent", "2.1.0").exists());
    scratch.sealift("store remove offline nexus/engine").ok();
    assert!(!store.join(V2).join("repositories/nexus/engine").exists());
    assert!(store.join(V2).join("repositories/nexus/agent").exists());
    let dry = scratch.sealift("store gc offline --dry-run --grace 0 --json").ok().json();
    assert_eq!(stored(&store).len(), all);
    let swept = scratch.sealift("store gc offline --grace 0 --json").ok().json();
    assert_eq!((&swept["blobs"], &swept["bytes"]), (&dry["blobs"], &dry["bytes"]));
    assert!(stored(&store).len() < all);
    clean(&scratch, "offline");
    scratch.sealift("store gc offline --grace 1x").code.eq(&2).then_some(()).unwrap();
    // Three manifests without a tag are left of the agent.
    let swept = scratch.sealift("store gc offline --grace 0 --untagged --json").ok().json();
    assert_eq!(swept["documents"], 3);
    assert!(stored(&store).is_empty());
    scratch.sealift(IMPORT).ok();
    assert_eq!(stored(&store), bundle_blobs(&scratch));
}

/// One pushes and verifies, one takes tags away, one sweeps without mercy: a tag never leads to less than
/// all of its image.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_push_that_races_with_a_sweep_ends_with_half_an_image() {
    let scratch = Scratch::new();
    let path = scratch.path("store");
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let sweeper = {
        let (store, done) = (Store::open(&path).unwrap(), done.clone());
        tokio::spawn(async move {
            let (mut all, mut dice) = (Swept::default(), Dice::new("store"));
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // Long enough for some pushes to get through.
                tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
                let swept = store.sweep(sweep(0, true)).await.unwrap();
                all.blobs += swept.blobs;
                all.documents += swept.documents;
                all.spared += swept.spared;
            }
            all
        })
    };
    let pushers: Vec<_> =
        (0..3).map(|number| tokio::spawn(pusher(Store::open(&path).unwrap(), number))).collect();
    let mut tally = [0; 2];
    for pusher in pushers {
        let [whole, refused] = pusher.await.unwrap();
        tally = [tally[0] + whole, tally[1] + refused];
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let swept = sweeper.await.unwrap();
    eprintln!("{} pushes were whole, {} were refused; {swept:?}", tally[0], tally[1]);
    assert!(tally[0] > 10 && swept.blobs + swept.documents > 10, "{tally:?} {swept:?}");
    clean(&scratch, "store");
}

/// Pushes as a client does: what is there is not sent again.
async fn pusher(store: Store, number: usize) -> [usize; 2] {
    let name = repository(if number == 2 { "b" } else { "a" });
    let mut tally = [0; 2];
    for round in 0..60 {
        // Few contents, so that what one leaves to be swept another one needs.
        let layer = format!("layer {}", (round * 7 + number) % 3);
        let image = manifest(b"{}", &[layer.as_bytes()], None);
        let list = index(&[&image]);
        let tag = tag(&format!("t{number}"));
        match push_image(&store, &name, &layer, &image, &list, &tag).await {
            Ok(()) => {
                whole(&store, &name, &tag, &list, &image, &layer).await;
                tally[0] += 1;
            }
            Err(Kind::BlobMissing | Kind::NotFound) => tally[1] += 1,
            Err(other) => panic!("{other:?}"),
        }
        store.remove(&name, &Removal::Tag(tag)).await.unwrap();
    }
    tally
}

async fn push_image(
    store: &Store,
    name: &Repository,
    layer: &str,
    image: &Kept,
    list: &Kept,
    tag: &Tag,
) -> Result<(), Kind> {
    for blob in [&b"{}"[..], layer.as_bytes()] {
        if store.blob(name, &digest(blob)).await.map_err(|e| e.kind())?.is_none() {
            let upload = store.begin(name).await.map_err(|e| e.kind())?;
            let content = Unverified::of_bytes("test", Bytes::copy_from_slice(blob));
            store.append(name, &upload, content).await.map_err(|e| e.kind())?;
            store.finish(name, &upload, &digest(blob)).await.map_err(|e| e.kind())?;
        }
    }
    let there = store.document(name, &Pointer::Digest(image.digest)).await.map_err(|e| e.kind())?;
    if there.is_none() {
        store.put(name, image, None).await.map_err(|e| e.kind())?;
    }
    store.put(name, list, Some(tag)).await.map_err(|e| e.kind())
}

async fn whole(store: &Store, name: &Repository, tag: &Tag, list: &Kept, image: &Kept, layer: &str) {
    let top = store.document(name, &Pointer::Tag(tag.clone())).await.unwrap().unwrap();
    assert_eq!(top.digest, list.digest);
    assert!(store.document(name, &Pointer::Digest(image.digest)).await.unwrap().is_some());
    for blob in [&b"{}"[..], layer.as_bytes()] {
        assert!(store.blob(name, &digest(blob)).await.unwrap().is_some());
    }
}
