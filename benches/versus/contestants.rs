//! Who runs, and how: for each program the commands that its own documentation suggests for carrying
//! many images from one registry to another by way of files, chosen for speed where there is a choice.
//!
//! The scripts are run by `sh -eu` with these variables:
//!
//! | variable | what |
//! |---|---|
//! | `SOURCE`, `TARGET` | the registries, as `127.0.0.1:PORT` |
//! | `IMAGES` | a file with a line for each image: a file name and a reference (`image-01 versus/image-01:1.0.0`) |
//! | `OUT` | an empty directory: what is there in the end is what would be carried over |
//! | `IN` | what an export left in its `OUT` |
//! | `TMPDIR`, `HOME` | empty directories, for what is needed in between |
//! | `SEALIFT`, `RELEASE`, `KEY`, `TRUST`, `SEALIFT_STATE` | sealift, and its files |
//! | `LISTS`, `ACCEPT` | lists for curl and openssl, see `limit.rs`; what a registry is to be asked for |

/// A way to go.
pub struct Contestant {
    /// What it is called in the tables; the same name, the same files carried over.
    pub name: &'static str,
    /// Programs that it needs.
    pub programs: &'static [&'static str],
    /// What it does and what it leaves out.
    pub remark: &'static str,
    /// Registry to files.
    pub export: Option<&'static str>,
    /// Are the files what they were?
    pub verify: Option<&'static str>,
    /// Files to registry.
    pub import: Option<&'static str>,
    /// Where this is the limit: how many things it does at once.
    pub limit: Option<Lanes>,
    /// Whether the commands were ever run by whoever wrote them down.
    pub tried: bool,
}

/// How many things are done at once.
#[derive(Clone, Copy)]
pub enum Lanes {
    /// This many.
    Fixed(usize),
    /// As many as there are processors.
    Cores,
}

/// What every other contestant is compared with.
pub const SEALIFT: Contestant = Contestant {
    name: "sealift",
    programs: &[],
    remark: "one signed tar with checksums, on disk (fsync) when it ends; import verifies all of it before \
             it sends anything, and reads every tag back",
    export: Some(
        r#"exec "$SEALIFT" export "$RELEASE" -o "$OUT/bundle.tar" --key "$KEY" --mirror "registry.example.com=$SOURCE" --progress none"#,
    ),
    verify: Some(r#"exec "$SEALIFT" verify "$IN/bundle.tar" --trust "$TRUST" --progress none"#),
    import: Some(
        r#"exec "$SEALIFT" import "$IN/bundle.tar" --to "docker://$TARGET" --trust "$TRUST" --progress none"#,
    ),
    limit: None,
    tried: true,
};

/// sealift into a compressed file, where it can.
pub const SEALIFT_ZSTD: Contestant = Contestant {
    name: "sealift, .tar.zst",
    remark: "the same, compressed (these layers cannot become smaller)",
    export: Some(
        r#"exec "$SEALIFT" export "$RELEASE" -o "$OUT/bundle.tar.zst" --key "$KEY" --mirror "registry.example.com=$SOURCE" --progress none"#,
    ),
    verify: None,
    import: None,
    ..SEALIFT
};

/// sealift into a pipe, where it can.
pub const SEALIFT_PIPE: Contestant = Contestant {
    name: "sealift, pipe",
    remark: "the same, through a pipe into cat",
    export: Some(
        r#""$SEALIFT" export "$RELEASE" -o - --key "$KEY" --mirror "registry.example.com=$SOURCE" --progress none | cat >"$OUT/bundle.tar""#,
    ),
    verify: None,
    import: None,
    ..SEALIFT
};

const PEER: Contestant = Contestant {
    name: "",
    programs: &[],
    remark: "",
    export: None,
    verify: None,
    import: None,
    limit: None,
    tried: true,
};

const LIMIT: Contestant = Contestant {
    name: "",
    programs: &["curl", "openssl"],
    remark: "curl, told every digest, size and URL beforehand, in parts; openssl's sums of them, compared \
             with nothing; no tar, no signature, no fsync, no retry",
    export: Some(LIMIT_EXPORT),
    verify: None,
    import: Some(LIMIT_IMPORT),
    ..PEER
};

/// The peers and the limit.
pub const OTHERS: &[Contestant] = &[
    // An archive holds one image, so what images share is in several archives. Each archive is first a
    // directory in $TMPDIR, at export and at import. Four at a time: the fastest of one, two and four on two
    // cores. No checksum of the whole, no signature, no fsync.
    Contestant {
        name: "skopeo, archives",
        programs: &["skopeo", "xargs"],
        remark: "an oci-archive for each image, four at a time; no sums over them, no signature",
        export: Some(
            r#"xargs -P 4 -n 2 sh -c 'skopeo --insecure-policy --tmpdir "$TMPDIR" copy --quiet --all --src-tls-verify=false "docker://$SOURCE/$1" "oci-archive:$OUT/$0.tar:$1"' <"$IMAGES""#,
        ),
        import: Some(
            r#"xargs -P 4 -n 2 sh -c 'skopeo --insecure-policy --tmpdir "$TMPDIR" copy --quiet --all --dest-tls-verify=false "oci-archive:$IN/$0.tar:$1" "docker://$TARGET/$1"' <"$IMAGES""#,
        ),
        ..PEER
    },
    // What images share is fetched and kept once. One after the other, since all write the directory's
    // index.json. The tar and its sum make the result comparable: one file that can be checked.
    Contestant {
        name: "skopeo, directory + tar",
        programs: &["skopeo", "tar", "sha256sum"],
        remark: "one oci: directory, then tar and sha256sum; import checks the sum and unpacks; no signature",
        export: Some(
            r#"while read -r name image; do
  skopeo --insecure-policy --tmpdir "$TMPDIR" copy --quiet --all --src-tls-verify=false "docker://$SOURCE/$image" "oci:$TMPDIR/images:$image" </dev/null
done <"$IMAGES"
tar -C "$TMPDIR" -cf "$OUT/images.tar" images
cd "$OUT"
sha256sum images.tar >images.tar.sha256"#,
        ),
        import: Some(
            r#"cd "$IN"
sha256sum --quiet -c images.tar.sha256
tar -C "$TMPDIR" -xf images.tar
while read -r name image; do
  skopeo --insecure-policy --tmpdir "$TMPDIR" copy --quiet --all --dest-tls-verify=false "oci:$TMPDIR/images:$image" "docker://$TARGET/$image" </dev/null
done <"$IMAGES""#,
        ),
        ..PEER
    },
    // `crane push` takes a directory with one image only, so each has a directory of its own and what
    // images share is there several times. (--format=tarball would be one file, but not the same digests.)
    Contestant {
        name: "crane",
        programs: &["crane", "xargs"],
        remark: "an OCI layout for each image, two at a time; no tar, no sums over them, no signature",
        export: Some(
            r#"xargs -P 2 -n 2 sh -c 'crane pull --insecure --format=oci "$SOURCE/$1" "$OUT/$0"' <"$IMAGES""#,
        ),
        import: Some(r#"xargs -P 2 -n 2 sh -c 'crane push --insecure "$IN/$0" "$TARGET/$1"' <"$IMAGES""#),
        ..PEER
    },
    // One layout for all images; one after the other, since all write its index.json.
    Contestant {
        name: "oras",
        programs: &["oras"],
        remark: "one OCI layout; no tar, no sums over it, no signature",
        export: Some(
            r#"while read -r name image; do
  oras cp --no-tty --from-plain-http "$SOURCE/$image" --to-oci-layout "$OUT/images:$name" </dev/null
done <"$IMAGES""#,
        ),
        import: Some(
            r#"while read -r name image; do
  oras cp --no-tty --from-oci-layout "$IN/images:$name" --to-plain-http "$TARGET/$image" </dev/null
done <"$IMAGES""#,
        ),
        tried: false,
        ..PEER
    },
    // One layout for all images; one after the other, since all write its index.json.
    Contestant {
        name: "regctl",
        programs: &["regctl"],
        remark: "one OCI layout; no tar, no sums over it, no signature",
        export: Some(
            r#"while read -r name image; do
  regctl --host "reg=$SOURCE,tls=disabled" image copy "$SOURCE/$image" "ocidir://$OUT/images:$name" </dev/null
done <"$IMAGES""#,
        ),
        import: Some(
            r#"while read -r name image; do
  regctl --host "reg=$TARGET,tls=disabled" image copy "ocidir://$IN/images:$name" "$TARGET/$image" </dev/null
done <"$IMAGES""#,
        ),
        ..PEER
    },
    // Its store is a directory, its file a compressed tar of it; it has no other kind.
    Contestant {
        name: "hauler",
        programs: &["hauler"],
        remark: "a store, saved as .tar.zst; no sums over it, no signature",
        export: Some(
            r#"while read -r name image; do
  hauler store add image "$SOURCE/$image" --store "$TMPDIR/store" </dev/null
done <"$IMAGES"
hauler store save --store "$TMPDIR/store" --filename "$OUT/haul.tar.zst""#,
        ),
        import: Some(
            r#"hauler store load --store "$TMPDIR/store" --filename "$IN/haul.tar.zst" --tempdir "$TMPDIR"
hauler store copy --store "$TMPDIR/store" --plain-http "registry://$TARGET""#,
        ),
        tried: false,
        ..PEER
    },
    // Its package is for Kubernetes clusters; mirror-resources is its way into any registry.
    Contestant {
        name: "zarf",
        programs: &["zarf"],
        remark: "a package of images only, without SBOMs; sums inside, no signature",
        export: Some(
            r#"{
  printf 'kind: ZarfPackageConfig\nmetadata:\n  name: versus\ncomponents:\n  - name: images\n    required: true\n    images:\n'
  while read -r name image; do printf '      - %s/%s\n' "$SOURCE" "$image"; done <"$IMAGES"
} >"$TMPDIR/zarf.yaml"
zarf package create "$TMPDIR" --confirm --skip-sbom --plain-http --tmpdir "$TMPDIR" --cache "$TMPDIR/cache" --output "$OUT""#,
        ),
        import: Some(
            r#"zarf package mirror-resources "$IN"/zarf-package-*.tar* --confirm --images --no-img-checksum --plain-http --tmpdir "$TMPDIR" --registry-url "$TARGET""#,
        ),
        tried: false,
        ..PEER
    },
    Contestant {
        name: "limit: curl ×4, no sums",
        remark: "curl alone, in parts: what comes off the network, and nobody looks at it",
        export: Some(LIMIT_EXPORT_ONLY),
        import: None,
        limit: Some(Lanes::Fixed(4)),
        ..LIMIT
    },
    // What sealift promises and the others leave to the kernel, for a while after they have ended.
    Contestant {
        name: "limit: curl ×4, on disk",
        remark: "curl and openssl, told everything beforehand, in parts; then fsync of every part",
        programs: &["curl", "openssl", "sync"],
        export: Some(LIMIT_EXPORT_ON_DISK),
        import: None,
        limit: Some(Lanes::Fixed(4)),
        ..LIMIT
    },
    Contestant { name: "limit: curl ×2", limit: Some(Lanes::Fixed(2)), ..LIMIT },
    Contestant { name: "limit: curl ×4", limit: Some(Lanes::Fixed(4)), ..LIMIT },
    Contestant { name: "limit: curl ×6", limit: Some(Lanes::Fixed(6)), ..LIMIT },
    Contestant {
        name: "limit: openssl",
        programs: &["openssl", "xargs"],
        remark: "one openssl for each processor, over equal parts of the same bytes; compared with nothing",
        verify: Some(LIMIT_VERIFY),
        limit: Some(Lanes::Cores),
        ..PEER
    },
];

/// Each lane is one connection, and one openssl when all its files are there.
const LIMIT_EXPORT: &str = r#"lane() {
  curl --silent --show-error --fail --fail-early --header "Accept: $ACCEPT" --config "$1/get"
  xargs openssl dgst -sha256 -r <"$1/names" >"sums.${1##*/}"
}
mkdir -p "$OUT/blobs/sha256"
cd "$OUT"
lanes=
for list in "$LISTS"/lane-*; do lane "$list" & lanes="$lanes $!"; done
for lane in $lanes; do wait "$lane"; done"#;

const LIMIT_EXPORT_ON_DISK: &str = r#"lane() {
  curl --silent --show-error --fail --fail-early --header "Accept: $ACCEPT" --config "$1/get"
  xargs openssl dgst -sha256 -r <"$1/names" >"sums.${1##*/}"
  xargs sync <"$1/names"
}
mkdir -p "$OUT/blobs/sha256"
cd "$OUT"
lanes=
for list in "$LISTS"/lane-*; do lane "$list" & lanes="$lanes $!"; done
for lane in $lanes; do wait "$lane"; done"#;

const LIMIT_EXPORT_ONLY: &str = r#"mkdir -p "$OUT/blobs/sha256"
cd "$OUT"
lanes=
for list in "$LISTS"/lane-*; do
  curl --silent --show-error --fail --fail-early --header "Accept: $ACCEPT" --config "$list/get" & lanes="$lanes $!"
done
for lane in $lanes; do wait "$lane"; done"#;

const LIMIT_VERIFY: &str = r#"cd "$IN"
lanes=
for list in "$LISTS"/lane-*; do
  xargs openssl dgst -sha256 -r <"$list/names" >"$TMPDIR/sums.${list##*/}" & lanes="$lanes $!"
done
for lane in $lanes; do wait "$lane"; done"#;

/// Each lane is one connection that asks where to put all of its blobs, then one that puts them there.
pub const LIMIT_IMPORT: &str = r#"lane() {
  at="$TMPDIR/${1##*/}"
  curl --silent --show-error --fail --fail-early --request POST --data '' --write-out '%header{location}\n' --config "$1/begin" >"$at.begun"
  paste -d ' ' "$at.begun" "$1/names" | while read -r place hex; do
    printf 'url = "%s&digest=sha256:%s"\nupload-file = "%s/blobs/sha256/%s"\n' "$place" "$hex" "$IN" "$hex"
  done >"$at.put"
  curl --silent --show-error --fail --fail-early --header 'Expect:' --header 'Content-Type: application/octet-stream' --config "$at.put"
}
lanes=
for list in "$LISTS"/lane-*; do lane "$list" & lanes="$lanes $!"; done
for lane in $lanes; do wait "$lane"; done
if [ -s "$LISTS/mount" ]; then
  curl --silent --show-error --fail --fail-early --request POST --data '' --config "$LISTS/mount"
fi
curl --config "$LISTS/documents""#;
