//! Every ceiling in one place, each with the attack or accident it stops. Sizes are bytes.

use std::time::Duration;

/// `bundle/SHA256SUMS`: read whole before any signature was checked, so it must be bounded.
pub const SUMS: u64 = 16 << 20;

/// `bundle/bundle.json`: parsed whole. Its `entries` say a line of about 100 bytes for each blob, its
/// `images` up to a kilobyte for each image: room for 100 000 blobs and thousands of images.
pub const STATEMENT: u64 = 32 << 20;

/// The head of a bundle, which a compressed bundle has as one frame: sums, statement, and what sixteen
/// signatures and the headers take. A frame is decompressed whole, so a bomb must not get more.
pub const HEAD: u64 = SUMS + STATEMENT + (1 << 20);

/// Frames of a compressed bundle: 2 TiB. A table of more could take any amount of memory.
pub const FRAMES: usize = 1 << 18;

/// The window that a compressed bundle may ask its reader to keep, as a power of two: 32 MiB, which
/// is what k3s grants. Without this, a few bytes could demand gigabytes.
pub const ZSTD_WINDOW_LOG: u32 = 25;

/// Embedded signatures in one bundle, and detached ones beside it: bounds the work done for a stranger.
pub const SIGNATURES: usize = 16;

/// An index or manifest. CNCF Distribution, zot and containers/image all refuse more than 4 MiB,
/// so a larger one could be exported but never imported (distribution-spec, "Pushing Manifests").
pub const DOCUMENT: u64 = 4 << 20;

/// An image config, read whole to learn platform and creation time. docker-archive readers cap it here too.
pub const CONFIG: u64 = 4 << 20;

/// The distinct configs of one image together, where rules ask how it runs: texts of a few bytes take several times
/// their size in memory, and one image may have thousands of platforms.
pub const SETTINGS: u64 = 2 << 20;

/// The reason of a waiver, which the statement repeats with each finding.
pub const REASON: usize = 500;

/// `index.json` of somebody's OCI layout, read whole.
pub const LAYOUT_INDEX: u64 = 32 << 20;

/// `manifest.json` of a Docker archive: podman and skopeo read no longer ones, so none is written.
pub const DOCKER_MANIFEST: u64 = 1 << 20;
/// Files, directories and links in somebody's tar file: the blobs of the largest plan, and what lies around them. Where
/// each lies is remembered, and a tar of nothing else could take any memory.
pub const TARBALL_ENTRIES: usize = BLOBS + 1_000;

/// An extended header of a tar file (a long name, PAX records), read whole.
pub const TAR_EXTENSION: u64 = 1 << 20;

/// A name in somebody's tar file, or what a link leads to: as long as paths get.
pub const TAR_NAME: usize = 4096;

/// Directories above a file in somebody's tar file: for each of them it is looked whether it is a link.
pub const TAR_DEPTH: usize = 32;

/// Zeros behind the end of somebody's tar file: tar pads to its record size. More would be something else.
pub const TAR_PADDING: u64 = 16 << 20;

/// Bytes that a compressed archive may grow to whatever its own size.
pub const UNPACKED_FREELY: u64 = 256 << 20;

/// Times its own size that a compressed archive may grow to beyond that: gzip makes a thousand times less of zeros,
/// zstd thirty thousand times; no set of images is nearly as empty, and a bomb must not fill the disk.
pub const UNPACKED_TIMES: u64 = 100;

/// Bytes that the packed layers of docker archives may unpack to, all together, beyond [`UNPACKED_TIMES`] their size: they
/// are unpacked only to be hashed.
pub const LAYERS_UNPACKED: u64 = 4 << 30;

/// `manifest.json` of a docker archive, and what it says of all its images, read whole.
pub const DOCKER_INDEX: u64 = 4 << 20;

/// Layers that are packed at once: each takes a processor.
pub const PACKERS: usize = 2;

/// Nesting of indexes below one image: an honest image has one or two levels.
pub const INDEX_DEPTH: usize = 4;

/// Documents attached to documents that are attached to documents …: a signature of an SBOM is two.
pub const ATTACHMENT_DEPTH: usize = 4;

/// Children of one document, so that one index cannot make the plan explode.
pub const CHILDREN: usize = 10_000;

/// Distinct blobs in one plan: what 16 MiB of sums can list.
pub const BLOBS: usize = 110_000;

/// Times that the documents of one plan may name content: bounds what planning keeps in memory.
pub const EDGES: usize = 1_000_000;

/// Bytes of a pipe that are read before they are asked for, and bytes between a pipe and all that is
/// pushed from it: memory must not grow with the bundle.
pub const PIPE: u32 = 2 << 20;

/// Bytes of blobs that are fetched ahead of a pipe, all together. What is received over HTTP lies in
/// buffers that are larger than itself.
pub const AHEAD: u32 = 8 << 20;

/// The same ahead of a compressor, which holds several frames besides.
pub const AHEAD_OF_FRAMES: u32 = 1 << 20;

/// Bytes of blobs that are between a pipe and the places they are pushed to, all together.
pub const BEHIND: u32 = 20 << 20;

/// The journal of an interrupted export: several lines for each blob of the largest bundle.
pub const JOURNAL: u64 = 64 << 20;

/// Writes to a bundle's medium at once: sticks and cards serve few requests well, however many
/// connections there are.
pub const DISK_WRITES: usize = 2;

/// The first second of the year 0. RFC 3339 writes no earlier ones: a bundle that stated one could not be read.
pub const FIRST_SECOND: i64 = -62_167_219_200;

/// A release manifest (TOML).
pub const RELEASE_MANIFEST: u64 = 1 << 20;

/// The files of a packaged chart, unpacked: helm takes no more, so a larger one would fail where it is to be installed,
/// and a bomb must not get more time.
pub const CHART_UNPACKED: u64 = 100 << 20;

/// Each of these files, for the same reasons.
pub const CHART_FILE: u64 = 5 << 20;

/// A chart's `Chart.yaml`, which is read whole; most have one kilobyte.
pub const CHART_YAML: u64 = 1 << 20;

/// Fields, values and list items of a `Chart.yaml`, aliases followed: a few lines can name billions.
pub const CHART_NODES: usize = 50_000;

/// A key or passphrase file.
pub const KEY_FILE: u64 = 64 << 10;

/// A licence file: a page of text, whatever a stranger sends.
pub const LICENSE: u64 = 64 << 10;

/// Bytes of sums that are hashed to find out whether signatures under strange names are a trusted key's:
/// seconds of work, whatever a stranger sends.
pub const STRANGERS_CLAIMS: u64 = 1 << 30;

/// Bytes of a file in a layer that are looked through for secrets: models and disk images are as large as they like, and
/// what people leave behind by mistake lies in small files.
pub const SEARCHED: u64 = 256 << 20;

/// Findings that are kept of one layer, and of one build; others are counted.
pub const FINDINGS: usize = 100;

/// Bytes of the names of a layer's whiteouts that are remembered: what they remove is told from what is still there. A layer
/// of nothing else could take any memory; honest ones have some hundred.
pub const WHITEOUTS: usize = 256 << 10;

/// Bytes of names that are kept of all layers together, for the same reason.
pub const FOUND_NAMES: usize = 8 << 20;

/// What cosign has signed, with its envelope: a hundred times what an honest payload has. It is read whole.
pub const COSIGN_PAYLOAD: u64 = 256 << 10;

/// Signatures of cosign's that are looked at for one image: each may be fetched from a registry.
pub const COSIGN_SIGNATURES: usize = 1_000;

/// A trust store that travels in a bundle: thousands of keys' worth.
pub const TRUST_ROOT: u64 = 1 << 20;

/// What a site remembers of one release: some versions of thousands of images.
pub const RECORD: u64 = 64 << 20;

/// A line of an audit log, in bytes: nobody can make a log whose end, or any line, fills the memory.
pub const AUDIT_LINE: usize = 128 << 10;

/// Names that one line of an audit log tells of; more are told of in more lines.
pub const AUDIT_NAMES: usize = 64;

/// Runs in an audit log that began and did not end: each is remembered while the log is checked.
pub const AUDIT_OPEN: usize = 100_000;

/// A receipt: a line for each blob of the largest bundle, and what is said of thousands of images.
pub const RECEIPT: u64 = 32 << 20;

/// Versions of one release whose contents a site remembers.
pub const VERSIONS: usize = 20;

/// Key files in a trust store.
pub const TRUSTED_KEYS: usize = 1_000;

/// Memory that a passphrase-encrypted key file may ask for while it is opened (scrypt 128·N·r bytes):
/// a hostile key file must not be able to exhaust a small machine.
pub const KDF_MEMORY: u64 = 256 << 20;

/// Tries at one thing before its failure is final.
pub const ATTEMPTS: u32 = 5;

/// The first wait between two tries is at most this long; each next one up to twice as long.
pub const BACKOFF: Duration = Duration::from_millis(250);

/// The longest wait between two tries that the server did not ask for.
pub const BACKOFF_MOST: Duration = Duration::from_secs(20);

/// The longest `Retry-After` that is obeyed: a server must not be able to park a client for years.
pub const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// PBKDF2 rounds that a passphrase-encrypted key file may ask for: a few seconds of work.
pub const KDF_ITERATIONS: u32 = 10_000_000;

/// A token endpoint's answer.
pub const TOKEN_BODY: u64 = 1 << 20;

/// What is read of a registry's error body.
pub const ERROR_BODY: u64 = 64 << 10;

/// A credential file, or what a credential helper prints.
pub const CREDENTIALS: u64 = 1 << 20;

/// A file of CA or client certificates: a system's whole bundle is a quarter of this.
pub const CERTIFICATES: u64 = 1 << 20;

/// The head of a request that a server reads.
pub const REQUEST_HEAD: usize = 32 << 10;

/// Bytes of a request that was answered already which a server still reads: a client that is cut off while it
/// sends does not hear why.
pub const HEARD_OUT: u64 = 4 * DOCUMENT;

/// Passwords that are looked at at once: bcrypt takes a processor's time for each.
pub const PASSWORD_TRIALS: usize = 2;

/// Names and passwords that are remembered to be right.
pub const PASSWORDS_KNOWN: usize = 1_000;

/// Images that the page of a server shows at once.
pub const PAGE_IMAGES: usize = 100;

/// Documents that are looked at for one page: an index may name thousands, and so may whatever refers to them.
pub const PAGE_DOCUMENTS: usize = 4_000;

/// Bytes of them all.
pub const PAGE_BYTES: usize = 64 << 20;

/// Pages that are made at once: whoever asks for them again and again must not slow pulls down.
pub const PAGES_AT_ONCE: usize = 2;

/// Redirects followed for one request.
pub const REDIRECTS: usize = 5;

/// Documents kept in memory between planning and writing; the rest is fetched again.
pub const REMEMBERED: usize = 8 << 20;

/// A link of a store: a digest. Garbage of any length must not be read whole.
pub const LINK: u64 = 128;

/// Uploads that a store keeps open at once: each takes a file, and whatever was sent.
pub const UPLOADS: usize = 1_000;

/// The age from which on nobody will finish an upload.
pub const UPLOAD_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Documents of a store of which it is remembered what they refer to: a hundred bytes for each.
pub const SUBJECTS: usize = 200_000;

/// An SBOM or a scan report, which is read through without being kept: bounds the time that a stranger's takes.
pub const EVIDENCE: u64 = 1 << 30;

/// A text in such a report: licences of some hundred kilobytes are usual, and a parser keeps each while it reads it.
pub const EVIDENCE_TEXT: u64 = 2 << 20;

/// One item of such a report, a package with all that is said of it, which is kept while it is looked at:
/// in memory it may take thirty times as much.
pub const EVIDENCE_ITEM: u64 = 1 << 20;

/// Nesting of such a report: parsers go as deep as it does.
pub const EVIDENCE_DEPTH: usize = 100;

/// Packages of one SBOM: the largest have some hundred thousand.
pub const PACKAGES: u64 = 5_000_000;

/// Digests that one report says it is about: a few per registry that an image was found in.
pub const EVIDENCE_DIGESTS: usize = 100;

/// Characters of the name of a tool that are of interest.
pub const EVIDENCE_TOOL: usize = 100;

/// Reports on one image that are read: each is read through.
pub const REPORTS: usize = 1_000;

/// Vulnerabilities of one report that are remembered by name, the worst first; all are counted.
pub const VULNERABILITIES: usize = 1_000;

/// Rules of a SARIF file: severities may come behind what they belong to, so all are kept.
pub const SARIF_RULES: usize = 50_000;

/// The name of one of these.
pub const SARIF_RULE: usize = 256;

/// Bytes of different licences that are counted: free texts may be there instead of names.
pub const LICENCES: usize = 8 << 20;

/// Unwanted packages of one SBOM that are named.
pub const TOOLS: usize = 100;
