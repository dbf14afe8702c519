//! What holds for every value and not for examples: texts are printed as they are parsed, what is written is read
//! as the same, and a release that was bundled is planned from the bundle as it was from its source.
//!
//! The values are the same in every run. `PROPTEST_CASES=N` makes more of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::fmt::{Debug, Display};
use std::fs;
use std::str::FromStr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sealift::bundle::{Bundle, Statement};
use sealift::content::Quiet;
use sealift::error::{Error, Kind, printable};
use sealift::history::History;
use sealift::oci::{Digest, Name, Platform, Registry, Repository, Tag};
use sealift::plan::{Image as Planned, Plan, resolve};
use sealift::registry;
use sealift::release::{Moment, ReleaseName, Version, byte_count};
use sealift::trust::{Keyring, SigningKey};
use sealift::verbs::export::Export;
use sealift::verbs::output::Target;
use sealift::verbs::site::Site;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::images::{Image, Layout};

/// Runs a property for values that are the same every time.
fn for_all<S: Strategy>(cases: u32, values: &S, property: impl Fn(S::Value)) {
    let more = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let config = Config { cases: more.unwrap_or(cases), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(values, |value| {
        property(value);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

// ── Texts ────────────────────────────────────────────────────────────────────────────────────────

/// What is parsed is printed as it was written, in JSON too.
fn exact<T>(text: &str)
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let value: T = text.parse().unwrap();
    assert_eq!(value.to_string(), text);
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
}

/// What is parsed from any text, if it is, is printed as it was written.
fn exact_if_any<T>(text: &str)
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    match text.parse::<T>() {
        Ok(_) => exact::<T>(text),
        Err(error) => assert!(error.to_string().chars().all(harmless), "{error}"),
    }
}

const REGISTRY: &str = r"([a-zA-Z0-9]{1,8}(-{1,3}[a-zA-Z0-9]{1,5}){0,2}(\.[a-z0-9]{1,8}){0,3}|\[(::1|fe80::a|2001:db8::7)\])(:[1-9][0-9]{0,3})?";
const COMPONENT: &str = r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}";
const TAG: &str = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,40}";
const PLATFORM: &str = r"[a-z]{1,10}/[a-zA-Z0-9._-]{1,12}(/[a-zA-Z0-9._-]{1,8})?";
const VERSION: &str = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,40}";

fn repository() -> impl Strategy<Value = String> {
    vec(COMPONENT, 1..4).prop_map(|parts| parts.join("/"))
}

fn name() -> impl Strategy<Value = String> {
    (REGISTRY, repository(), TAG).prop_map(|(host, path, tag)| format!("{host}/{path}:{tag}"))
}

#[test]
fn names_are_printed_as_they_are_parsed() {
    for_all(2000, &(REGISTRY, repository(), TAG), |(host, path, tag)| {
        exact::<Registry>(&host);
        exact::<Repository>(&path);
        exact::<Tag>(&tag);
        let full = format!("{host}/{path}:{tag}");
        exact::<Name>(&full);
        let name: Name = full.parse().unwrap();
        assert_eq!(
            (name.registry.as_str(), name.repository.as_str(), name.tag.as_str()),
            (&*host, &*path, &*tag)
        );
    });
}

#[test]
fn platforms_versions_and_release_names_are_printed_as_they_are_parsed() {
    for_all(2000, &(PLATFORM, VERSION, "[a-z0-9][a-z0-9._-]{0,40}"), |(platform, version, name)| {
        exact::<Platform>(&platform);
        exact::<Version>(&version);
        exact::<ReleaseName>(&name);
        let parsed: Platform = platform.parse().unwrap();
        assert!(parsed.matches(&parsed) && parsed.same_machine(&parsed));
        let version: Version = version.parse().unwrap();
        for number in (0..3).filter_map(|n| version.number(n)) {
            assert!(!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
        }
    });
}

#[test]
fn platforms_match_both_ways() {
    const KNOWN: [&str; 7] = ["amd64", "x86_64", "arm64", "aarch64", "arm", "armhf", "armel"];
    const VARIANTS: [&str; 10] = ["", "/v1", "/v5", "/v6", "/v7", "/v8", "/5", "/6", "/7", "/8"];
    let platform = (select(&KNOWN[..]), select(&VARIANTS[..])).prop_map(|(a, v)| format!("linux/{a}{v}"));
    for_all(2000, &vec(platform, 3), |texts| {
        let all: Vec<Platform> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(all[0].matches(&all[1]), all[1].matches(&all[0]), "{all:?}");
        if all[0].matches(&all[1]) && all[1].matches(&all[2]) {
            assert!(all[0].matches(&all[2]), "{all:?}");
        }
        assert!(!all[0].matches(&all[1]) || all[0].same_machine(&all[1]));
    });
}

#[test]
fn digests_have_one_spelling() {
    for_all(2000, &(any::<[u8; 32]>(), any::<Index>()), |(bytes, place)| {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let text = format!("sha256:{hex}");
        exact::<Digest>(&text);
        let digest: Digest = text.parse().unwrap();
        assert_eq!((Digest::from_hex(&hex), digest.hex()), (Some(digest), hex.clone()));
        assert_eq!(digest.blob_path(), format!("blobs/sha256/{hex}"));
        assert_eq!(Digest::of(&bytes).hex(), support::sha256(&bytes));
        // Another case, another length, another digit: another text, and no digest.
        let at = place.index(64);
        for wrong in [
            hex.to_uppercase(),
            hex[1..].to_owned(),
            format!("{hex}0"),
            format!("{}g{}", &hex[..at], &hex[at + 1..]),
        ] {
            assert!(wrong == hex || Digest::from_hex(&wrong).is_none(), "{wrong}");
        }
    });
}

#[test]
fn any_text_is_parsed_to_itself_or_refused_in_one_harmless_line() {
    let pieces = select(
        &[
            "/",
            ":",
            ".",
            "_",
            "-",
            "@",
            "sha256:",
            "[::1]",
            "localhost",
            "a",
            "Z",
            "0",
            "\u{0}",
            "\n",
            "ü",
            "\u{202e}",
        ][..],
    );
    let text = prop_oneof![vec(pieces, 0..12).prop_map(|parts| parts.concat()), any::<String>()];
    for_all(4000, &text, |text| {
        exact_if_any::<Name>(&text);
        exact_if_any::<Registry>(&text);
        exact_if_any::<Repository>(&text);
        exact_if_any::<Tag>(&text);
        exact_if_any::<Digest>(&text);
        exact_if_any::<Platform>(&text);
        exact_if_any::<Version>(&text);
        exact_if_any::<ReleaseName>(&text);
        let _ = (byte_count(&text), Moment::from_epoch_seconds(&text), text.parse::<Moment>());
    });
}

#[test]
fn moments_are_written_in_the_one_form_of_the_format() {
    // From before the first second that has a form to behind the last.
    for_all(4000, &(-70_000_000_000_i64..260_000_000_000), |seconds| {
        let Ok(moment) = Moment::from_epoch_seconds(&seconds.to_string()) else {
            assert!(!(-62_167_219_200..=253_402_207_200).contains(&seconds), "{seconds}");
            return;
        };
        let text = moment.to_string();
        assert!(text.len() == 20 && text.ends_with('Z'), "{seconds}: {text}");
        exact::<Moment>(&text);
    });
}

/// Found by the fuzz target `names`: a time that is written in a form that cannot be read.
#[test]
fn times_before_the_year_0_are_refused() {
    for text in ["-62167219201", "-80000000000"] {
        assert!(Moment::from_epoch_seconds(text).is_err(), "{text}");
    }
    assert_eq!(Moment::from_epoch_seconds("-62167219200").unwrap().to_string(), "0000-01-01T00:00:00Z");
    for text in ["-000001-12-31T23:59:59Z", "-009999-01-02T01:59:59Z"] {
        assert!(text.parse::<Moment>().is_err(), "{text}");
    }
    // An image that says it was made then says nothing.
    let config = br#"{"architecture":"amd64","created":"-000001-12-31T23:59:59Z","os":"linux"}"#;
    assert_eq!(sealift::oci::Config::parse(config).unwrap().created, None);
}

#[test]
fn sizes_are_what_their_units_say() {
    const UNITS: [(&str, u64); 7] = [
        ("B", 1),
        ("kB", 1000),
        ("KiB", 1024),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ];
    for_all(2000, &(any::<u64>(), select(&UNITS[..]), 0..64u32), |(number, (unit, factor), shift)| {
        let number = number >> shift;
        assert_eq!(byte_count(&format!("{number}{unit}")), number.checked_mul(factor));
        assert_eq!(byte_count(&format!(" {number} {unit} ")), number.checked_mul(factor));
        assert_eq!(byte_count(&number.to_string()), None);
    });
}

/// Whether a terminal may see this character: as Unicode has it, and not as the program does.
fn harmless(c: char) -> bool {
    let code = u32::from(c);
    let direction = matches!(code, 0x61c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069);
    !matches!(code, 0..=0x1f | 0x7f..=0x9f | 0x2028 | 0x2029 | 0xfeff) && !direction
}

#[test]
fn nothing_that_is_printed_moves_a_cursor() {
    let nasty = select(
        &[
            '\u{1b}', '\u{9b}', '\r', '\n', '\0', '\u{7f}', '\u{202e}', '\u{2066}', '\u{61c}', '\u{feff}',
            '\u{2028}', '"', '\\', '@', ':',
        ][..],
    );
    let mixed = vec(prop_oneof![nasty, any::<char>()], 0..700).prop_map(String::from_iter);
    for_all(2000, &mixed, |text| {
        let shown = printable(&text);
        assert!(shown.chars().all(harmless), "{shown:?}");
        assert!(shown.len() < 620, "{}", shown.len());
        if text.len() <= 600 && text.chars().all(harmless) {
            assert_eq!(shown, text);
        }
        let error =
            Error::new(Kind::Io, text.clone()).at(&text).inside(&text).got(&text).expected(&text).hint(&text);
        let said = format!("{error}{}{}", error.sentence(), error.advice().unwrap());
        assert!(said.chars().all(harmless), "{said:?}");
    });
}

// ── Statements ───────────────────────────────────────────────────────────────────────────────────

fn digest() -> impl Strategy<Value = Value> {
    any::<[u8; 32]>().prop_map(|bytes| json!(Digest::of(&bytes)))
}

fn moment() -> impl Strategy<Value = String> {
    (0..250_000_000_000_u64).prop_map(|s| Moment::from_epoch_seconds(&s.to_string()).unwrap().to_string())
}

fn omitted() -> impl Strategy<Value = Value> {
    (option::of(digest()), option::of(PLATFORM), any::<String>()).prop_map(
        |(digest, platform, reason)| json!({ "digest": digest, "platform": platform, "reason": reason }),
    )
}

fn build() -> impl Strategy<Value = Value> {
    (digest(), PLATFORM, any::<u64>())
        .prop_map(|(digest, platform, size)| json!({ "digest": digest, "platform": platform, "size": size }))
}

fn image() -> impl Strategy<Value = Value> {
    let lists = (vec(omitted(), 0..3), vec(build(), 0..3), vec(TAG, 0..3));
    (digest(), any::<String>(), any::<String>(), lists, name()).prop_map(
        |(digest, media, text, lists, source)| {
            let by_subject =
                json!({ "artifactType": text, "digest": digest, "mediaType": media, "subject": digest });
            let mut by_tag = by_subject.clone();
            by_tag["tag"] = json!("sha256-0123.sig");
            json!({
                "digest": digest, "mediaType": media, "name": text, "omitted": lists.0, "platforms": lists.1,
                "referrers": [by_subject, by_tag], "source": source, "tags": lists.2, "variant": media,
            })
        },
    )
}

/// Any statement as FORMAT.md lists its keys.
fn statement() -> impl Strategy<Value = Value> {
    let words = (
        select(&["development", "staging", "production"][..]),
        select(&["community", "developer", "professional", "enterprise", "regulated", "sovereign"][..]),
        select(&["pass", "warn", "fail", "waived"][..]),
    );
    let path = prop_oneof![
        digest().prop_map(|d| json!(format!("blobs/sha256/{}", &d.as_str().unwrap()[7..]))),
        any::<String>().prop_map(Value::from)
    ];
    let entries = vec((path, 0..1_u64 << 50), 0..6);
    let texts = (any::<String>(), VERSION, "[a-z0-9][a-z0-9._-]{0,20}");
    let times = (moment(), option::of(moment()), option::of(any::<u64>()));
    (words, entries, vec(image(), 0..3), texts, times).prop_map(|(words, entries, images, texts, times)| {
        let bytes: u64 = entries.iter().map(|(_, size)| size).sum();
        let entries: Vec<_> =
            entries.into_iter().map(|(path, size)| json!({ "path": path, "size": size })).collect();
        json!({
            "base": null, "channel": words.0, "created": times.0, "entries": entries, "expires": times.1,
            "images": images, "name": texts.2, "payloadBytes": bytes,
            "policy": { "checks": [{ "id": texts.0, "result": words.2 }], "profile": texts.0 },
            "producer": texts.0, "sequence": times.2, "tier": words.1,
            "type": "application/vnd.sealift.bundle.v1+json", "version": texts.1,
        })
    })
}

#[test]
fn statements_are_read_and_written_as_the_same_bytes() {
    for_all(500, &statement(), |value| {
        // A writer that is not the program's own: keys sorted, no white space.
        let bytes = value.to_string().into_bytes();
        let statement = Statement::parse(&bytes).unwrap_or_else(|e| panic!("{e}: {value}"));
        assert_eq!(String::from_utf8(statement.encode().unwrap()).unwrap(), value.to_string());
        assert_eq!(Statement::parse(&statement.encode().unwrap()).unwrap(), statement);
    });
}

#[test]
fn a_statement_with_one_byte_more_less_or_other_is_another_or_none() {
    for_all(500, &(statement(), any::<Index>(), any::<u8>()), |(value, place, byte)| {
        let bytes = value.to_string().into_bytes();
        let statement = Statement::parse(&bytes).unwrap();
        let at = place.index(bytes.len());
        let mut changed = [bytes.clone(), bytes.clone(), bytes.clone()];
        changed[0].insert(at, byte);
        changed[1].remove(at);
        changed[2][at] = byte;
        for changed in changed.iter().filter(|changed| **changed != bytes) {
            assert!(
                !Statement::parse(changed).is_ok_and(|other| other == statement),
                "{}",
                String::from_utf8_lossy(changed)
            );
        }
    });
}

// ── Bundles ──────────────────────────────────────────────────────────────────────────────────────

/// An image of a release: its platforms, layer size, and its peculiarities.
type Described = (Vec<&'static str>, usize, [bool; 4]);

fn described() -> impl Strategy<Value = Vec<Described>> {
    let platforms = subsequence(&["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"][..], 1..=4);
    vec((platforms, 0..3000_usize, any::<[bool; 4]>()), 1..4)
}

/// A release in an OCI layout, with a key and a keyring.
fn released(images: &[Described], sequence: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path().join("images"));
    let mut manifest = format!(
        "schema = 1\nname = \"any\"\nversion = \"1.0.{sequence}\"\ntier = \"community\"\nchannel = \"staging\"\n\
         registry = \"registry.example.com\"\nsequence = {sequence}\n"
    );
    for (number, (platforms, size, [docker, twice, attested, shared])) in images.iter().enumerate() {
        let image = Image {
            platforms: platforms.clone(),
            layer: *size,
            shared: if *shared { vec!["shared"] } else { vec![] },
            layer_twice: *twice,
            docker: *docker,
            no_index: platforms.len() == 1 && *attested,
            attested: platforms.len() > 1 && *attested,
            ..Image::new(&format!("image {number}"))
        };
        layout.add(&format!("registry.example.com/any/image{number}:1.0.{sequence}"), &image);
        manifest.push_str(&format!(
            "[[image]]\nname = \"image{number}\"\nrepository = \"any/image{number}\"\ntags = {{ standard = \"{{version}}\" }}\n"
        ));
    }
    fs::write(directory.path().join("release.toml"), manifest).unwrap();
    let key = SigningKey::generate().unwrap();
    fs::create_dir(directory.path().join("trust")).unwrap();
    fs::write(directory.path().join("trust/any.pub.pem"), key.public().to_pem().unwrap()).unwrap();
    fs::write(directory.path().join("key.pem"), key.to_pem(None).unwrap().as_bytes()).unwrap();
    directory
}

/// All of a plan that can be told from another.
fn facts(plan: &Plan) -> (Vec<Planned>, Vec<String>, Vec<usize>) {
    let node = |node: &sealift::plan::Node| {
        format!(
            "{:?} {:?} {} {:?} {}",
            node.descriptor, node.origin, node.rank, node.children, node.descriptor.size
        )
    };
    (plan.images.clone(), plan.nodes.iter().map(node).collect(), plan.roots.clone())
}

async fn there_and_back(images: Vec<Described>, sequence: u64) {
    let directory = released(&images, sequence);
    let path = |name: &str| directory.path().join(name);
    let export = |mirror: &str| Export {
        deep: false,
        manifest: path("release.toml"),
        narrow: Default::default(),
        mirrors: vec![mirror.parse().unwrap()],
        created: None,
        site: Site {
            trust: path("trust"),
            history: History::at(path("state")),
            allow_expired: false,
            leave: Default::default(),
        },
        signatures: Some(1),
        audited: Some(true),
        jobs: 2,
        rate: None,
    };
    let client = registry::Client::new(registry::Options::default()).unwrap();
    let mirror = format!("registry.example.com=oci:{}", path("images").display());
    let prepared = export(&mirror).prepare(&client).await.unwrap();
    let pem = fs::read_to_string(path("key.pem")).unwrap();
    let key = SigningKey::from_pem(&pem, || panic!("no passphrase")).unwrap();
    let keys = [key];
    prepared
        .write(Target { output: &path("bundle.tar"), replace: false }, &keys, Arc::new(Quiet))
        .await
        .unwrap();
    prepared
        .write(Target { output: &path("bundle.tar.zst"), replace: false }, &keys, Arc::new(Quiet))
        .await
        .unwrap();

    let keyring = Keyring::load(&path("trust")).unwrap();
    for file in ["bundle.tar", "bundle.tar.zst"] {
        let bundle = Bundle::open(&path(file)).unwrap().trust(&keyring, Moment::now()).unwrap();
        let wants = bundle.wants().unwrap();
        let again = bundle.plan(&wants).await.unwrap();
        assert_eq!(facts(&again), facts(&prepared.plan), "{file}");
        let verified = bundle.verify(2, Arc::new(Quiet)).await.unwrap();
        let statement = verified.statement();
        assert_eq!(statement.images, prepared.plan.images);
        assert_eq!((statement.sequence, statement.created), (Some(sequence), prepared.release.created));
        let bytes = statement.encode().unwrap();
        assert_eq!(Statement::parse(&bytes).unwrap(), *statement);
        // From the verified bundle as a source, as an import plans.
        let sources = vec![verified.source(); wants.len()];
        assert_eq!(facts(&resolve(&wants, &sources).await.unwrap()), facts(&prepared.plan));
    }
    // A bundle is a layout, too: bundled once more, it is the same file.
    let unpacked = std::process::Command::new("tar")
        .arg("xf")
        .arg(path("bundle.tar"))
        .arg("-C")
        .arg(path("trust"))
        .status();
    assert!(unpacked.unwrap().success());
    let mirror = format!("registry.example.com=oci:{}", path("trust").display());
    let second = export(&mirror).prepare(&client).await.unwrap();
    assert_eq!(facts(&second.plan), facts(&prepared.plan));
    second
        .write(Target { output: &path("second.tar"), replace: false }, &keys, Arc::new(Quiet))
        .await
        .unwrap();
    assert!(fs::read(path("second.tar")).unwrap() == fs::read(path("bundle.tar")).unwrap());
}

#[test]
fn a_bundle_is_planned_as_its_source_was() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for_all(24, &(described(), 0..1_000_000_u64), |(images, sequence)| {
        runtime.block_on(there_and_back(images, sequence));
    });
}
