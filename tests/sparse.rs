//! Images of which platforms were left out: what becomes of their indexes, destination by destination.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use serde_json::{Value, json};
use support::images::{Image, Layout};
use support::lying::{Answer, Lying};
use support::pushing::{INDEX, put};
use support::registry::Registry;
use support::serving::Serving;
use support::site::peers;
use support::{EXPORT, Run, SMALL, Scratch, sha256};

const TRIMMED_FROM: &str = "vnd.sealift.index.trimmed-from";
const PART: &str = "--platform linux/arm64";

/// A release of one image for two platforms: a signature is attached to the index and one to each child, both by
/// subject and by tag.
struct Release {
    scratch: Scratch,
    /// The index's digest.
    index: String,
    /// The digests of the manifests for amd64 and arm64.
    manifests: [String; 2],
}

fn digest(entry: &Value) -> String {
    entry["digest"].as_str().unwrap().to_owned()
}

impl Release {
    fn new() -> Self {
        Release::of(|_, image| image)
    }

    /// `top` may put something above the image.
    fn of(top: impl Fn(&Layout, Value) -> Value) -> Self {
        let scratch = Scratch::new();
        let mut layout = Layout::new(scratch.path("images"));
        let platforms = vec!["linux/amd64", "linux/arm64"];
        let image = layout.image(&Image { platforms, layer: 300, attested: true, ..Image::new("tool") });
        let blob = scratch.path("images/blobs").join(digest(&image).replace(':', "/"));
        let inner: Value = serde_json::from_slice(&std::fs::read(blob).unwrap()).unwrap();
        let top = top(&layout, image);
        layout.name("registry.example.com/tools/tool:1.0.0", top.clone());
        let children = inner["manifests"].as_array().unwrap();
        let subjects = [top.clone(), children[0].clone(), children[2].clone()];
        for (number, subject) in subjects.iter().enumerate() {
            let signature = layout.artifact("x/signature", format!("{number}").as_bytes(), Some(subject));
            layout.unnamed(signature);
            let tagged = layout.artifact("", format!("tagged {number}").as_bytes(), None);
            let tag = format!("{}.sig", digest(subject).replace(':', "-"));
            layout.name(&format!("registry.example.com/tools/tool:{tag}"), tagged);
        }
        scratch.write("release.toml", SMALL);
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        let manifests = [digest(&subjects[1]), digest(&subjects[2])];
        Release { scratch: scratch.exported(), index: digest(&top), manifests }
    }

    fn import(&self, to: &str, more: &str) -> Run {
        self.scratch.sealift(&format!("import bundle.tar --trust trust --to {to} {PART} {more}"))
    }
}

/// What the image's tag leads to.
fn top(registry: &Registry) -> (String, Value) {
    let (status, bytes) = registry.get("/v2/tools/tool/manifests/1.0.0");
    assert_eq!(status, 200);
    (format!("sha256:{}", sha256(&bytes)), serde_json::from_slice(&bytes).unwrap())
}

fn children(index: &Value) -> Vec<String> {
    index["manifests"].as_array().unwrap().iter().map(digest).collect()
}

#[test]
fn a_registry_that_insists_on_complete_indexes_gets_a_trimmed_one() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let registry = Registry::start();
    let to = registry.address();
    let receipt = release.import(&to, "--json").ok().json();
    let (now, index) = top(&registry);
    assert_eq!(index["annotations"][TRIMMED_FROM], release.index);
    // The platform and what attests it.
    assert_eq!((children(&index).len(), &children(&index)[0]), (2, &release.manifests[1]));
    assert_eq!((&receipt["indexes"], &receipt["images"][0]["digest"]), (&json!("trimmed"), &json!(now)));
    assert_eq!(receipt["images"][0]["trimmedFrom"], release.index);
    // Signatures speak of what they spoke of before.
    for (subject, there) in
        [(&release.index, 200), (&release.manifests[0], 404), (&release.manifests[1], 200)]
    {
        let tag = subject.replace(':', "-");
        for name in [tag.clone(), format!("{tag}.sig")] {
            assert_eq!(registry.get(&format!("/v2/tools/tool/manifests/{name}")).0, there, "{name}");
        }
    }
    let own = now.replace(':', "-");
    assert_eq!(registry.get(&format!("/v2/tools/tool/manifests/{own}")).0, 404, "nothing is attached to it");
    registry.below("tools/tool", "1.0.0").unwrap().unwrap();
    let copy = format!(
        "--insecure-policy copy --all --src-tls-verify=false docker://{to}/tools/tool:1.0.0 oci:copy:x"
    );
    release.scratch.run("skopeo", &copy).ok();
    // What is there answers for itself: nothing is offered to the registry again.
    let before = registry.disk();
    let again = release.import(&to, "--json").ok().json();
    assert_eq!(
        (&again["sent"], &again["verified"], &again["indexes"]),
        (&json!(0), &json!("documents"), &json!("trimmed"))
    );
    assert!(registry.disk() == before);
    let said = release.import(&to, "").ok().stdout;
    assert!(said.contains(&now) && said.contains("signatures of") && said.contains(&release.index), "{said}");
}

#[test]
fn a_registry_that_takes_it_gets_the_index_as_it_is() {
    let release = Release::new();
    let serving = Serving::start(&release.scratch, "store:store --writable --allow-sparse");
    let receipt = release.import(&serving.address, "--json").ok().json();
    assert_eq!(receipt["indexes"], "kept");
    let reply = serving.get("/v2/tools/tool/manifests/1.0.0");
    assert_eq!(reply.header("docker-content-digest"), release.index);
    // Of the question whether it does, nothing is left.
    let documents = std::fs::read_dir(
        release.scratch.path("store/docker/registry/v2/repositories/tools/tool/_manifests/revisions/sha256"),
    );
    let kept: Vec<_> = documents.unwrap().map(|entry| entry.unwrap().file_name()).collect();
    // Index, manifest, attestation; a signature by subject and one by tag for index and manifest.
    assert_eq!(kept.len(), 7, "{kept:?}");
}

#[test]
fn an_index_of_just_what_is_missing_is_not_taken_away_by_asking() {
    let release = Release::new();
    let serving = Serving::start(&release.scratch, "store:store --writable --allow-sparse");
    let image: Value = serde_json::from_slice(
        &release.scratch.read(format!("images/blobs/{}", release.index.replace(':', "/"))),
    )
    .unwrap();
    // Somebody has the other platform there, as an index in canonical form.
    let missing = &image["manifests"].as_array().unwrap()[..2];
    let single = json!({ "manifests": missing, "mediaType": INDEX, "schemaVersion": 2 }).to_string();
    assert_eq!(put(&serving, "tools/tool", "single", INDEX, single.as_bytes()).status, 201);
    assert_eq!(release.import(&serving.address, "--json").ok().json()["indexes"], "kept");
    assert_eq!(serving.get("/v2/tools/tool/manifests/single").body, single.as_bytes());
}

#[test]
fn what_is_there_complete_stays_when_another_one_is_trimmed() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let mut manifest = SMALL.split("[[image]]").next().unwrap().to_owned();
    let mut digests = Vec::new();
    for name in ["engine", "sidecar"] {
        let platforms = vec!["linux/amd64", "linux/arm64"];
        let image = Image { platforms, layer: 300, ..Image::new(name) };
        digests.push(layout.add(&format!("registry.example.com/tools/{name}:1.0.0"), &image));
        manifest += &format!(
            "[[image]]\nname = \"{name}\"\nrepository = \"tools/{name}\"\ntags = {{ standard = \"{{version}}\" }}\n"
        );
    }
    scratch.write("release.toml", manifest);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    let scratch = scratch.exported();
    let serving = Serving::start(&scratch, "store:store --writable");
    let import = |more: &str| {
        scratch.sealift(&format!("import bundle.tar --trust trust --to {} --json {more}", serving.address))
    };
    import("--image sidecar").ok();
    let receipt = import(PART).ok().json();
    assert_eq!(receipt["indexes"], "trimmed");
    assert_eq!(receipt["images"][0]["trimmedFrom"], *digests[0]);
    assert_eq!(
        (&receipt["images"][1]["trimmedFrom"], &receipt["images"][1]["digest"]),
        (&Value::Null, &json!(digests[1]))
    );
}

#[test]
fn of_one_image_in_two_repositories_the_complete_one_stays() {
    let release = Release::new();
    let second = SMALL.split("[[image]]").nth(1).unwrap();
    let second = second.replace("tools/tool", "tools/twin").replace("\"tool\"", "\"twin\"");
    release.scratch.write("twins.toml", format!("{SMALL}\n[[image]]{second}"));
    let mut layout = Layout::open(release.scratch.path("images"));
    layout
        .name("registry.example.com/tools/twin:1.0.0", layout.entry("registry.example.com/tools/tool:1.0.0"));
    let export = EXPORT.replace("release.toml", "twins.toml").replace("bundle.tar", "twins.tar");
    release.scratch.sealift(&export).ok();
    let serving = Serving::start(&release.scratch, "store:store --writable");
    let import = |more: &str| {
        let to = &serving.address;
        release.scratch.sealift(&format!("import twins.tar --trust trust --to {to} {more}"))
    };
    import("--image tool").ok();
    let run = import(PART).ok();
    assert!(run.stdout.contains("tools/tool:1.0.0 is there with all its platforms"), "{run}");
    let digest = |name: &str| {
        let reply = serving.get(&format!("/v2/tools/{name}/manifests/1.0.0"));
        reply.header("docker-content-digest").to_owned()
    };
    assert!(digest("tool") == release.index && digest("twin") != release.index);
}

#[test]
fn a_registry_that_says_nothing_of_it_is_not_taken_to_refuse() {
    let release = Release::new();
    let server = Lying::start(|request, _| match (request.method.as_str(), request.path.as_str()) {
        (_, "/v2/") => Answer::new(200),
        ("PUT", _) => Answer::new(405).body(r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
        _ => Answer::new(404),
    });
    let run = release.import(&server.address.to_string(), "");
    run.fails(1, "RegistryUnsupported").says("cannot ask for incomplete indexes");
}

#[test]
fn the_user_decides_where_he_wants_to() {
    let release = Release::new();
    let serving = Serving::start(&release.scratch, "store:store --writable");
    let to = &serving.address;
    release.import(to, "--sparse refuse").fails(4, "PolicyRefused").says("tool/standard").says("linux/amd64");
    release
        .import(to, "--sparse keep")
        .fails(1, "RegistryRejected")
        .says("takes only complete")
        .says("--sparse trim");
    let blobs = release.scratch.run("find", "store -name data").ok();
    assert_eq!(blobs.stdout, "", "something was sent");
    assert_eq!(serving.get("/v2/tools/tool/manifests/1.0.0").status, 404);
    // Nobody asked for less: nothing to refuse.
    release.scratch.sealift("import bundle.tar --trust trust --to oci:whole --sparse refuse").ok();
    assert_eq!(release.import(to, "--json").ok().json()["indexes"], "trimmed");
    assert_eq!(release.import("oci:kept", "--json").ok().json()["indexes"], "kept");
    assert_eq!(release.import("oci:trimmed", "--sparse trim --json").ok().json()["indexes"], "trimmed");
    assert_eq!(
        release.import("store:trimmed-store", "--sparse trim --json").ok().json()["indexes"],
        "trimmed"
    );
    release.scratch.sealift("store check trimmed-store").ok();
    if peers() {
        let copy =
            "--insecure-policy copy --all oci:trimmed:registry.example.com/tools/tool:1.0.0 oci:copy:x";
        release.scratch.run("skopeo", copy).ok();
    }
}

#[test]
fn what_was_trimmed_once_can_be_kept_whole_later() {
    let release = Release::new();
    let serving = Serving::start(&release.scratch, "store:store --writable --allow-sparse");
    let digest = || serving.get("/v2/tools/tool/manifests/1.0.0").header("docker-content-digest").to_owned();
    release.import(&serving.address, "--sparse trim").ok();
    assert_ne!(digest(), release.index);
    release.import(&serving.address, "--sparse keep").fails(4, "TagConflict");
    let dry = release.import(&serving.address, "--sparse keep --overwrite-tags --dry-run --json").ok().json();
    assert_eq!(dry["indexes"], "kept");
    release.import(&serving.address, "--sparse keep --overwrite-tags").ok();
    assert_eq!(digest(), release.index);
}

#[test]
fn the_same_part_is_trimmed_to_the_same_index_everywhere() {
    let release = Release::new();
    let serving = Serving::start(&release.scratch, "store:store --writable");
    release.import(&serving.address, "").ok();
    let there = serving.get("/v2/tools/tool/manifests/1.0.0").header("docker-content-digest").to_owned();
    let receipt = release.import("oci:trimmed", "--sparse trim --json").ok().json();
    assert_eq!(receipt["images"][0]["digest"], there);
    let through = support::piped(
        &release.scratch,
        "bundle.tar",
        &format!("import - --trust trust --to oci:piped {PART} --sparse trim --json"),
    );
    assert_eq!(through.ok().json()["images"][0]["digest"], there);
}

#[test]
fn a_dry_run_offers_nothing() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let registry = Registry::start();
    let receipt = release.import(&registry.address(), "--dry-run --json").ok().json();
    assert_eq!(receipt["indexes"], "undecided");
    assert!(registry.is_empty());
    let said = release.import(&registry.address(), "--dry-run").ok().stdout;
    assert!(said.contains("if the registry takes only complete indexes"), "{said}");
}

#[test]
fn where_tags_lead_elsewhere_nothing_is_offered_either() {
    if !peers() {
        return;
    }
    let release = Release::new();
    let registry = Registry::start();
    release.scratch.export_small_beside("other.tar");
    let to = registry.address();
    release.scratch.sealift(&format!("import other.tar --trust trust --to {to} --state other")).ok();
    let before = registry.disk();
    release.import(&to, "").fails(4, "TagConflict");
    assert!(registry.disk() == before);
    release.import(&to, "--overwrite-tags").ok();
    assert_eq!(top(&registry).1["annotations"][TRIMMED_FROM], release.index);
}

#[test]
fn an_index_in_an_index_is_trimmed_with_it() {
    let release = Release::of(|layout, inner| {
        let other = layout.image(&Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("more") });
        layout.document(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [inner, other], "annotations": { "kept": "größer" },
        }))
    });
    let serving = Serving::start(&release.scratch, "store:store --writable");
    assert_eq!(release.import(&serving.address, "--json").ok().json()["indexes"], "trimmed");
    let outer = serving.get("/v2/tools/tool/manifests/1.0.0").json();
    assert_eq!(outer["annotations"], json!({ "kept": "größer", TRIMMED_FROM: release.index }));
    // Of the second one nothing is left.
    assert_eq!(children(&outer).len(), 1);
    let inner = serving.get(&format!("/v2/tools/tool/manifests/{}", children(&outer)[0])).json();
    assert_eq!(children(&inner)[0], release.manifests[1]);
    let size = serde_json::to_vec(&inner).unwrap().len();
    assert_eq!(outer["manifests"][0]["size"], size);
}

#[test]
fn an_export_of_fewer_platforms_is_trimmed_alike() {
    let release = Release::new();
    let export = EXPORT.replace("bundle.tar", "part.tar");
    release.scratch.sealift(&format!("{export} {PART}")).ok();
    let whole = release.import("oci:one", "--sparse trim --json").ok().json();
    let import = "import part.tar --trust trust --to oci:two --sparse trim --json --state other";
    let part = release.scratch.sealift(import).ok().json();
    assert_eq!(whole["images"][0]["digest"], part["images"][0]["digest"]);
}
