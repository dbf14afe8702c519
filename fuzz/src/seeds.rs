//! The seeds, as code: `SEALIFT_FUZZ_SEEDS=fuzz/corpus` writes them. All are small, and named by what they are.

use std::path::Path;

use pkcs8::der::SecretDocument;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{LineEnding, PrivateKeyInfoRef};
use sealift::bundle::fuzzing;

use crate::keys::PASSPHRASE;
use crate::made;
use crate::make::{self, SEPARATOR};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Writes all seeds below a directory.
pub fn write(corpus: &Path) {
    let put = |target: &str, name: &str, content: &[u8]| {
        std::fs::create_dir_all(corpus.join(target)).expect("a directory");
        std::fs::write(corpus.join(target).join(name), content).expect("a seed");
    };
    for (name, input) in bundles() {
        put("made", name, &input);
        let bundle = make::bundle(&input);
        made::accepted(&bundle).unwrap_or_else(|error| panic!("the seed {name} is no bundle: {error}"));
        put("head", name, &bundle);
        put("archive", name, &bundle);
        for (path, content) in entries(&bundle) {
            match path.as_str() {
                "bundle/SHA256SUMS" => put("sums", name, &content),
                "bundle/bundle.json" => put("statement", name, &content),
                "index.json" => put("documents", &format!("{name}-index-of-layout"), &content),
                path if path.starts_with("blobs/") && content.starts_with(b"{") => {
                    put("documents", &format!("{name}-{}", &path[13..19]), &content);
                }
                _ => {}
            }
        }
        let frames = fuzzing::frames::packed(&bundle[..1500], 600).expect("frames");
        put("frames", name, &frames);
    }
    for (name, report) in crate::evidence::SEEDS {
        put("evidence", name, report.as_bytes());
    }
    put("frames", "text-in-one-frame", &fuzzing::frames::packed(b"text", 4).expect("frames"));
    for (path, size) in [("oci-layout", 30), ("blobs/sha256/ab", 8 << 30), ("bundle/SHA256SUMS", 0)] {
        let name = path.replace('/', "-");
        put("tar", &format!("path-{name}"), &[&u64::to_be_bytes(size), path.as_bytes()].concat());
        put("tar", &format!("header-{name}"), &make::header(path, size));
    }
    private_keys(&put);
}

/// The entries of a tar that was made here.
fn entries(bundle: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while bundle[at] != 0 {
        let header = fuzzing::Header::try_from(&bundle[at..at + 512]).expect("a block");
        let size = fuzzing::stated_size(&header).expect("a size") as usize;
        let path = fuzzing::stated_path(&header).expect("a path").to_owned();
        found.push((path, bundle[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.next_multiple_of(512);
    }
    found
}

/// Documents with places for digests and sizes, as [`make::bundle`] takes them.
pub fn bundles() -> Vec<(&'static str, Vec<u8>)> {
    let join = |segments: &[String]| segments.join(&char::from(SEPARATOR).to_string()).into_bytes();
    let config = |platform: &str| {
        let (os, architecture) = platform.split_once('/').expect("a platform");
        format!(
            r#"{{"architecture":"{architecture}","created":"2026-06-01T00:00:00Z","os":"{os}","rootfs":{{"diff_ids":["{}"],"type":"layers"}}}}"#,
            format_args!("sha256:{}", "0".repeat(64))
        )
    };
    let one = [
        statement(&image("@1", MANIFEST, "[]", &built("@1", "linux/amd64", "#1+#2+#3"), "1.0.0")),
        manifest(MANIFEST, 2, 3),
        config("linux/amd64"),
        "layer".to_owned(),
    ];
    let builds =
        format!("{},{}", built("@2", "linux/amd64", "#2+#4+#6"), built("@3", "linux/arm64", "#3+#5+#6"));
    let two = |index_type: &str, manifest_type: &str| {
        [
            statement(&image("@1", index_type, "[]", &builds, "1.0.0")),
            index(index_type, manifest_type, &[(2, "linux/amd64"), (3, "linux/arm64")]),
            manifest(manifest_type, 4, 6),
            manifest(manifest_type, 5, 6),
            config("linux/amd64"),
            config("linux/arm64"),
            "layer".to_owned(),
        ]
    };
    let omitted = r#"[{"digest":"sha256:00000000000000000000000000000000000000000000000000000000000000aa","platform":"linux/arm64","reason":"not selected"}]"#;
    let less = [
        statement(&image("@1", INDEX, omitted, &built("@2", "linux/amd64", "#2+#3+#4"), "1.0.0")),
        index(INDEX, MANIFEST, &[(2, "linux/amd64")]).replace(
            "],\"mediaType\":\"application/vnd.oci.image.index",
            &format!(
                r#",{{"digest":"sha256:{}aa","mediaType":"{MANIFEST}","platform":{{"architecture":"arm64","os":"linux"}},"size":7}}],"mediaType":"application/vnd.oci.image.index"#,
                "0".repeat(62)
            ),
        ),
        manifest(MANIFEST, 3, 4),
        config("linux/amd64"),
        "layer".to_owned(),
    ];
    let artifact = [
        statement(&image("@1", MANIFEST, "[]", "", "1.0.0")),
        manifest(MANIFEST, 2, 3).replace("application/vnd.oci.image.config", "application/vnd.example.thing"),
        "{}".to_owned(),
        "anything".to_owned(),
    ];
    vec![
        ("one-manifest", join(&summed(&one))),
        ("index-of-two", join(&summed(&two(INDEX, MANIFEST)))),
        ("docker-list", join(&summed(&two(DOCKER_LIST, DOCKER_MANIFEST)))),
        ("one-omitted", join(&summed(&less))),
        ("artifact", join(&summed(&artifact))),
    ]
}

/// Sizes of platforms are sums, which the places for sizes cannot say: `#1+#2` becomes a number here. Sizes do not
/// change when digests are put in, as all have the same length.
fn summed(segments: &[String]) -> Vec<String> {
    let mut sizes = vec![0; segments.len()];
    for (number, segment) in segments.iter().enumerate().rev() {
        sizes[number] = size(segment, &sizes);
    }
    let mut summed = segments.to_vec();
    let mut text = String::new();
    for word in summed[0].split_inclusive(',') {
        match word.split_once("\"size\":#") {
            Some((before, sum)) if word.contains('+') => {
                let end = sum.find('}').expect("the end of an object");
                let parts = sum[..end].split('+').map(|part| part.trim_start_matches('#').parse::<usize>());
                let total: usize = parts.map(|part| sizes[part.expect("a number")]).sum();
                text.push_str(&format!("{before}\"size\":{total}{}", &sum[end..]));
            }
            _ => text.push_str(word),
        }
    }
    summed[0] = text;
    summed
}

/// Bytes of a segment once everything is filled in.
fn size(segment: &str, sizes: &[usize]) -> usize {
    let (mut bytes, mut rest) = (0, segment.chars().peekable());
    while let Some(c) = rest.next() {
        let number = rest.peek().and_then(|c| c.to_digit(36)).unwrap_or(0) as usize;
        bytes += match (c, sizes.get(number).filter(|size| **size > 0)) {
            ('@', Some(_)) => "sha256:".len() + 64,
            ('#', Some(size)) => size.to_string().len(),
            _ => {
                bytes += c.len_utf8();
                continue;
            }
        };
        rest.next();
    }
    bytes
}

fn statement(image: &str) -> String {
    format!(
        r#"{{"base":null,"channel":"development","created":"2026-06-01T00:00:00Z","expires":"2030-01-01T00:00:00Z","images":[{image}],"name":"fuzz","policy":{{"checks":[{{"id":"signed","result":"pass"}}],"profile":"community"}},"producer":"fuzz","sequence":7,"tier":"community","type":"application/vnd.sealift.bundle.v1+json","version":"1.0.0"}}"#
    )
}

fn image(digest: &str, media_type: &str, omitted: &str, platforms: &str, tag: &str) -> String {
    format!(
        r#"{{"digest":"{digest}","mediaType":"{media_type}","name":"tool","omitted":{omitted},"platforms":[{platforms}],"referrers":[],"source":"registry.example.com/tools/tool:{tag}","tags":["{tag}","1"],"variant":"standard"}}"#
    )
}

fn built(digest: &str, platform: &str, size: &str) -> String {
    format!(r#"{{"digest":"{digest}","platform":"{platform}","size":{size}}}"#)
}

fn index(media_type: &str, manifest_type: &str, manifests: &[(usize, &str)]) -> String {
    let entry = |(number, platform): &(usize, &str)| {
        let (os, architecture) = platform.split_once('/').expect("a platform");
        format!(
            r#"{{"digest":"@{number}","mediaType":"{manifest_type}","platform":{{"architecture":"{architecture}","os":"{os}"}},"size":#{number}}}"#
        )
    };
    let entries: Vec<_> = manifests.iter().map(entry).collect();
    format!(r#"{{"manifests":[{}],"mediaType":"{media_type}","schemaVersion":2}}"#, entries.join(","))
}

fn manifest(media_type: &str, config: usize, layer: usize) -> String {
    let config_type = match media_type {
        DOCKER_MANIFEST => "application/vnd.docker.container.image.v1+json",
        _ => "application/vnd.oci.image.config.v1+json",
    };
    format!(
        r##"{{"config":{{"digest":"@{config}","mediaType":"{config_type}","size":#{config}}},"layers":[{{"digest":"@{layer}","mediaType":"{LAYER}","size":#{layer}}}],"mediaType":"{media_type}","schemaVersion":2}}"##
    )
}

/// Keys as DER, as the target takes them: public, private, and encrypted in cheap ways.
fn private_keys(put: &dyn Fn(&str, &str, &[u8])) {
    let public = include_str!("../../fixtures/format-1/TEST-ONLY.pub.pem");
    let private = include_str!("../../fixtures/format-1/TEST-ONLY.key.pem");
    let der = |pem: &str| SecretDocument::from_pem(pem.trim()).expect("PEM").1;
    put("keys", "public-pem", public.as_bytes());
    put("keys", "public-der", &[&[0], der(public).as_bytes()].concat());
    put("keys", "private-pem", private.as_bytes());
    let document = der(private);
    put("keys", "private-der", &[&[1], document.as_bytes()].concat());
    let info = PrivateKeyInfoRef::try_from(document.as_bytes()).expect("a private key");
    let scrypt = scrypt::Params::new(4, 1, 1).expect("a cost");
    let scrypt = pbes2::Parameters::generate_scrypt_aes256cbc(scrypt, &[1; 16], [2; 16]).expect("parameters");
    let pbkdf2 =
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(10, &[1; 16], [2; 16]).expect("parameters");
    for (name, parameters) in [("scrypt", scrypt), ("pbkdf2", pbkdf2)] {
        let encrypted = info.encrypt_with_params(parameters, PASSPHRASE).expect("encryption");
        put("keys", &format!("encrypted-{name}-der"), &[&[2], encrypted.as_bytes()].concat());
        let pem = encrypted.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).expect("PEM");
        put("keys", &format!("encrypted-{name}-pem"), pem.as_bytes());
    }
}
