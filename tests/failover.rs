//! Several registries for the same images: which of them decides, which of them gives what, and what is said of it.
//! Whatever fails, the bundle is the same to the byte.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::images::{Image, Layout, served};
use support::lying::{Answer, Lying, Request};
use support::proxy::{Fault, Proxy, Rule};
use support::registry::Registry;
use support::site::peers;
use support::{HEAVY, Run, SMALL, Scratch, run};

const EXPORT: &str = "export release.toml -o bundle.tar --key release.key.pem";

/// The small release, the bundle that it makes, and its images in places of their own.
fn released() -> (Scratch, Vec<u8>) {
    let scratch = Scratch::with_small_release().exported();
    let reference = scratch.read("bundle.tar");
    scratch.remove("bundle.tar");
    (scratch, reference)
}

/// The release manifest with these registries; the images are called as ever.
fn registries(scratch: &Scratch, list: &[&str]) {
    scratch.write("release.toml", with_registries(SMALL, list));
}

fn with_registries(release: &str, list: &[&str]) -> String {
    let name = "registry = \"registry.example.com\"";
    assert!(release.contains(name));
    release.replace(name, &format!("{name}\nregistries = {list:?}"))
}

#[track_caller]
fn finishes(scratch: &Scratch, reference: &[u8]) -> Run {
    let run = scratch.sealift(EXPORT).ok();
    assert!(scratch.read("bundle.tar") == reference, "another bundle\n{run}");
    scratch.remove("bundle.tar");
    run
}

/// A registry of the small release that answers some requests otherwise.
fn place(
    scratch: &Scratch,
    instead: impl Fn(&Request, &[u8]) -> Option<Answer> + Send + Sync + 'static,
) -> Lying {
    served(scratch.path("images"), instead)
}

fn good(scratch: &Scratch) -> Lying {
    place(scratch, |_, _| None)
}

/// Nobody listens there.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn is_tag(request: &Request) -> bool {
    request.path.ends_with("/manifests/1.0.0")
}

fn digest_of(scratch: &Scratch, name: &str) -> String {
    Layout::open(scratch.path("images")).entry(name)["digest"].as_str().unwrap().to_owned()
}

const TOOL: &str = "registry.example.com/tools/tool:1.0.0";

#[test]
fn a_backup_serves_when_the_first_is_gone() {
    let (scratch, reference) = released();
    let (gone, backup) = (nobody(), good(&scratch));
    registries(&scratch, &[&gone, &backup.host()]);
    let digest = digest_of(&scratch, TOOL);
    // Who decided about the tag, on what, and why.
    finishes(&scratch, &reference)
        .says(&format!("{TOOL} is {digest}, as {}/tools/tool says: ", backup.host()))
        .says(&gone);
    // Where the first is there, nobody else is asked for anything.
    let first = good(&scratch);
    let asked = backup.seen().len();
    registries(&scratch, &[&first.host(), &backup.host(), &gone]);
    let run = finishes(&scratch, &reference);
    assert!(!run.stderr.contains(&backup.host()) && backup.seen().len() == asked, "{run}");
}

#[test]
fn an_image_that_the_first_lacks_comes_from_the_next() {
    let (scratch, reference) = released();
    let empty = Lying::start(|request, _| Answer::new(if request.path == "/v2/" { 200 } else { 404 }));
    let unwell = Lying::start(|_, _| Answer::new(503).header("Retry-After", 0));
    let backup = good(&scratch);
    registries(&scratch, &[&empty.host(), &unwell.host(), &backup.host()]);
    finishes(&scratch, &reference).says(&backup.host()).says("404").says("503");
    // And where nobody has it, all are named.
    registries(&scratch, &[&empty.host(), &nobody()]);
    let run = scratch.sealift(EXPORT).fails(1, "Network").says(&empty.host()).says("404");
    assert!(!scratch.has("bundle.tar"), "{run}");
}

#[test]
fn a_refused_login_is_no_reason_to_believe_a_backup() {
    let (scratch, reference) = released();
    for status in [401, 403] {
        let closed = place(&scratch, move |request, _| {
            (request.path != "/v2/")
                .then(|| Answer::new(status).header("WWW-Authenticate", "Basic realm=\"x\""))
        });
        let backup = good(&scratch);
        registries(&scratch, &[&closed.host(), &backup.host()]);
        scratch.sealift(EXPORT).fails(1, "Auth").says(&closed.host());
        assert_eq!(backup.count("/manifests/"), 0);
        // By digest nobody decides anything: the next one gives it, and it is said why.
        let half = place(&scratch, move |request, _| {
            let refusal = || Answer::new(status).header("WWW-Authenticate", "Basic realm=\"x\"");
            request.path.contains("/blobs/").then(refusal)
        });
        registries(&scratch, &[&half.host(), &backup.host()]);
        finishes(&scratch, &reference).says("[Auth]").says(&format!("{}/tools/tool is asked", backup.host()));
    }
}

#[test]
fn the_first_place_that_answers_decides_about_a_tag() {
    let (scratch, reference) = released();
    // The backup's tag leads elsewhere, but it has what the first has, too.
    let mut other = Layout::new(scratch.path("other"));
    other.add(TOOL, &Image { platforms: vec!["linux/amd64"], ..Image::new("another tool") });
    for entry in std::fs::read_dir(scratch.path("images/blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), scratch.path("other/blobs/sha256").join(entry.file_name())).unwrap();
    }
    let backup = served(scratch.path("other"), |_, _| None);
    let poor = place(&scratch, |request, _| request.path.contains("/blobs/").then(|| Answer::new(404)));
    registries(&scratch, &[&poor.host(), &backup.host()]);
    finishes(&scratch, &reference).says("404").says(&backup.host());
    assert_eq!(backup.count("/manifests/1.0.0"), 0);

    // Two backups that disagree, and nobody above them to ask.
    let (gone, right) = (nobody(), good(&scratch));
    registries(&scratch, &[&gone, &right.host(), &backup.host()]);
    let digest = digest_of(&scratch, TOOL);
    scratch.sealift(EXPORT).fails(2, "RefAmbiguous").says(&right.host()).says(&backup.host()).says(&digest);
    // With a pin there is no question: what leads elsewhere is refused.
    let pinned = |list: &[&str]| {
        let pin = format!("pin = {{ standard = \"{digest}\" }}\n");
        scratch.write("release.toml", with_registries(SMALL, list) + &pin);
    };
    pinned(&[&gone, &backup.host()]);
    scratch.sealift(EXPORT).fails(3, "PinMismatch").says(&digest);
    pinned(&[&gone, &right.host()]);
    finishes(&scratch, &reference);
}

#[test]
fn a_place_that_lies_is_named_and_passed_over() {
    let (scratch, reference) = released();
    // Another byte in whatever is asked for by digest: documents, configs, layers, one kind at a time.
    type Lie = fn(&Request, &[u8]) -> bool;
    let lies: [(&str, Lie); 3] = [
        ("documents", |request, _| request.path.contains("/manifests/sha256:")),
        ("configs", |request, content| request.path.contains("/blobs/") && content.starts_with(b"{")),
        ("layers", |request, content| request.path.contains("/blobs/") && !content.starts_with(b"{")),
    ];
    for (what, lie) in lies {
        let liar = place(&scratch, move |request, content| {
            lie(request, content).then(|| {
                let mut content = content.to_vec();
                *content.last_mut().unwrap() ^= 1;
                let media_type = serde_json::from_slice::<serde_json::Value>(&content).ok();
                let media_type =
                    media_type.and_then(|document| Some(document["mediaType"].as_str()?.to_owned()));
                let answer = Answer::new(200).header("Content-Length", content.len());
                answer.header("Content-Type", media_type.unwrap_or_default()).body(content)
            })
        });
        let backup = good(&scratch);
        registries(&scratch, &[&liar.host(), &backup.host()]);
        let run = finishes(&scratch, &reference);
        let named =
            run.stderr.lines().any(|line| line.contains(&liar.host()) && line.contains("[DigestMismatch]"));
        assert!(named, "{what}: {run}");
        // Into a pipe, too; but of a layer the wrong bytes have been sent by then, and cannot be taken back.
        let output = scratch.command(&EXPORT.replace("bundle.tar", "-")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let right = match what {
            "layers" => output.status.code() == Some(3) && output.stdout != reference,
            _ => output.stdout == reference,
        };
        assert!(right && said.contains(&liar.host()), "{what}: {said}");
        // Where nobody tells the truth, there is no bundle.
        registries(&scratch, &[&liar.host(), &nobody()]);
        let run = scratch.sealift(EXPORT);
        assert!(run.code != 0 && run.stderr.contains(&liar.host()), "{what}: {run}");
        scratch.holds_no_finished_bundle();
        scratch.remove("bundle.tar.partial");
        scratch.remove("bundle.tar.partial.journal");
    }
}

#[test]
fn each_registry_gets_its_own_login_and_no_other() {
    let (scratch, reference) = released();
    let guarded = |user: &'static str, blobs: bool| {
        // base64 of user:user-secret
        let expected = match user {
            "alice" => "Basic YWxpY2U6YWxpY2Utc2VjcmV0",
            _ => "Basic Ym9iOmJvYi1zZWNyZXQ=",
        };
        place(&scratch, move |request, _| match request.authorization() == expected {
            false => Some(Answer::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")),
            true if !blobs && request.path.contains("/blobs/") => Some(Answer::new(404)),
            true => None,
        })
    };
    let (first, second) = (guarded("alice", false), guarded("bob", true));
    registries(&scratch, &[&first.host(), &second.host()]);
    let login = |user: &str| serde_json::json!({ "username": user, "password": format!("{user}-secret") });
    let auths = serde_json::json!({ "auths": { first.host(): login("alice"), second.host(): login("bob") } });
    scratch.write("auth.json", auths.to_string());
    let mut command = scratch.command(EXPORT);
    command.env("REGISTRY_AUTH_FILE", scratch.path("auth.json"));
    let run = run(command).ok();
    assert!(scratch.read("bundle.tar") == reference, "{run}");
    assert!(second.count("/blobs/") > 0, "{run}");
    for (server, own) in [(&first, "Basic YWxpY2U6"), (&second, "Basic Ym9iOm")] {
        let logins: Vec<_> = server.seen().iter().map(|request| request.authorization().to_owned()).collect();
        assert!(logins.iter().any(|login| login.starts_with(own)), "{logins:?}");
        assert!(logins.iter().all(|login| login.is_empty() || login.starts_with(own)), "{logins:?}");
    }
}

#[test]
fn a_place_may_be_a_path_and_a_mirror_may_stand_for_it() {
    let (scratch, reference) = released();
    let (gone, backup) = (nobody(), good(&scratch));
    registries(&scratch, &[&gone, &format!("{}/deep/mirror", backup.host())]);
    finishes(&scratch, &reference);
    assert!(backup.count("/v2/deep/mirror/tools/tool/manifests/1.0.0") > 0);
    // Each place is looked for where a mirror says, by its own name.
    registries(&scratch, &["registry.example.com", "backup.example.com/x"]);
    let mirrored = format!("{EXPORT} --mirror registry.example.com={gone} --mirror backup.example.com=");
    scratch.sealift(&format!("{mirrored}{}", backup.host())).ok();
    assert!(scratch.read("bundle.tar") == reference && backup.count("/v2/x/tools/tool/manifests/") > 0);
    scratch.remove("bundle.tar");
    // What is only a name is mirrored as a whole.
    registries(&scratch, &["one.example.com", "two.example.com"]);
    scratch.sealift(&format!("{EXPORT} --mirror registry.example.com=oci:images")).ok();
    assert!(scratch.read("bundle.tar") == reference);
    scratch
        .sealift(&format!("{EXPORT} --overwrite --mirror three.example.com=oci:images"))
        .fails(2, "EmptySelection");
}

#[test]
fn what_the_manifest_says_of_registries_makes_sense_or_is_refused() {
    let scratch = Scratch::with_small_release();
    let says = |registries: &str| SMALL.replace("registry = \"registry.example.com\"", registries);
    for (text, what) in [
        (says("registries = []"), "an empty list of registries"),
        (says("registries = [\"a.example.com\", \"a.example.com\"]"), "one registry twice"),
        (says("registries = [\"a.example.com/x\"]"), "images are named after the first registry"),
        (says("registries = [\"https://a.example.com\"]"), "not a registry"),
        (says("registries = [\"user:secret@a.example.com\"]"), "not a registry"),
    ] {
        scratch.write("release.toml", &text);
        let run = scratch.sealift("export release.toml --dry-run").fails(2, "ManifestInvalid").says(what);
        assert!(run.stderr.contains("release.toml:6:"), "{run}");
    }
    // Named after the first one, and an image's own list takes the place of the file's.
    let backup = good(&scratch);
    let list = format!("registries = [\"registry.example.com\", \"{}\"]", backup.host());
    scratch.write("release.toml", says(&list));
    let gone = nobody();
    let mirror = format!("--mirror registry.example.com={gone}");
    let planned = scratch.sealift(&format!("export release.toml --dry-run --json {mirror}")).ok().json();
    assert_eq!(planned["images"][0]["image"]["source"], TOOL);
    let own = format!("{SMALL}registries = [\"{gone}\", \"{}\"]\n", backup.host());
    scratch.write("release.toml", own);
    let planned = scratch.sealift("export release.toml --dry-run --json").ok().json();
    assert_eq!(planned["images"][0]["image"]["source"], TOOL);
}

#[test]
fn what_is_attached_is_asked_of_the_place_that_gave_the_image() {
    let scratch = Scratch::with_small_release();
    let mut layout = Layout::open(scratch.path("images"));
    let top = layout.entry(TOOL);
    let signature = layout.artifact("", b"ours", None);
    let tag = top["digest"].as_str().unwrap().replace(':', "-");
    layout.name(&format!("registry.example.com/tools/tool:{tag}.sig"), signature);
    let scratch = scratch.exported();
    let reference = scratch.read("bundle.tar");
    scratch.remove("bundle.tar");
    let unsigned = Arc::new(AtomicBool::new(false));
    let asked = unsigned.clone();
    let bare = place(&scratch, move |request, _| {
        let signature = request.path.ends_with(".sig");
        asked.fetch_or(signature, Ordering::Relaxed);
        signature.then(|| Answer::new(404))
    });
    let signed = good(&scratch);
    // The first has the image: its word counts, and it knows of nothing.
    registries(&scratch, &[&bare.host(), &signed.host()]);
    scratch.sealift(EXPORT).ok();
    assert!(unsigned.load(Ordering::Relaxed) && signed.count(".sig") == 0);
    let statement =
        scratch.sealift("inspect bundle.tar --trust trust --json").ok().json()["statement"].clone();
    assert_eq!(statement["images"][0]["referrers"], serde_json::json!([]));
    scratch.remove("bundle.tar");
    // One that does not have the image has no word.
    let empty = Lying::start(|request, _| Answer::new(if request.path == "/v2/" { 200 } else { 404 }));
    registries(&scratch, &[&empty.host(), &signed.host()]);
    finishes(&scratch, &reference);
}

#[test]
fn tags_are_asked_for_at_the_first_place_only() {
    let (scratch, reference) = released();
    let (first, backup) = (good(&scratch), good(&scratch));
    registries(&scratch, &[&first.host(), &backup.host()]);
    finishes(&scratch, &reference);
    assert_eq!(first.seen().iter().filter(|request| is_tag(request)).count(), 1);
    assert_eq!(backup.seen().len(), 0);
}

/// Bytes in each of the three layers.
const LAYER: usize = 1_200_000;

#[test]
fn a_layer_goes_on_at_another_place_where_the_first_breaks_off() {
    if !peers() {
        return;
    }
    let scratch = Scratch::with_heavy_release(LAYER).exported();
    let reference = scratch.read("bundle.tar");
    scratch.remove("bundle.tar");
    let registries = [Registry::start(), Registry::start()];
    let proxies: Vec<_> = registries.iter().map(|registry| Proxy::start(&registry.address())).collect();
    registries.iter().for_each(|registry| scratch.push_heavy(registry));
    let hosts: Vec<_> = proxies.iter().map(Proxy::host).collect();
    scratch.write("release.toml", with_registries(HEAVY, &[&hosts[0], &hosts[1]]));
    // Every connection to the first one breaks in the same place: it never gets further.
    proxies[0].rule(Rule::new("GET", "/blobs/", Fault::Reset(500_000)));
    proxies[0].rule(Rule::new("GET", "/blobs/", Fault::Reset(0)).only(6..usize::MAX));
    let run = scratch.sealift(EXPORT).ok().says(&format!("{}/tools/tool is asked instead", hosts[1]));
    assert!(scratch.read("bundle.tar") == reference, "another bundle\n{run}");
    // The other one was asked for the rest alone.
    assert!(proxies[1].ranges() > 0, "{:?}\n{run}", proxies[1].seen());
    scratch.remove("bundle.tar");

    // The first one goes for good in the middle of it all.
    for proxy in &proxies {
        proxy.reset();
    }
    let [first, _second] = registries;
    proxies[0].after_bytes(1_000_000, move || drop(first));
    let run = scratch.sealift(EXPORT).ok();
    assert!(scratch.read("bundle.tar") == reference, "another bundle\n{run}");
    assert!(proxies[0].down() >= 1_000_000, "{run}");
}
