//! What can be typed, and what of it belongs together. No behaviour here.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};

use super::sbom::Form;
use crate::oci::Platform;
use crate::release::{Moment, Tier, byte_count};

const ABOUT: &str = "Ships a release's container images across an air gap";

const LONG_ABOUT: &str = "\
Ships a release's container images across an air gap.

On the connected side, `sealift export` pulls the chosen variants of a release, for every
architecture, from OCI registries into one signed, checksummed OCI-layout tarball. On the other
side, `sealift import` verifies that file and loads it into an offline registry.

`sealift demo` shows the whole trip between two registries of its own, without any network.";

const AFTER: &str = "\
Exit codes: 0 done, 1 failed (I/O, network), 2 usage or manifest, 3 not trusted (signature, digest,
format), 4 refused by policy, 130 interrupted.";

/// The command line.
#[derive(Parser)]
#[command(name = "sealift", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// How progress is shown on standard error.
    #[arg(long, global = true, value_enum, default_value_t = ProgressMode::Auto, value_name = "MODE")]
    pub progress: ProgressMode,
}

impl Cli {
    /// Reads a command line.
    ///
    /// # Errors
    /// What is not understood, and what was typed in vain.
    pub fn read(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let pulling = matches.subcommand_matches("export").filter(|export| !export.contains_id("from"));
        // Not by `requires`: that is forgiven where the manifest stands in the way, and it would count the environment.
        let idle = pulling.and_then(|export| typed(export, ["state", "allow_expired"]));
        let trust_typed = pulling.is_some_and(|export| typed(export, ["trust"]).is_some());
        match idle.zip(command.find_subcommand_mut("export")) {
            Some((flag, export)) => {
                let flag = flag.replace('_', "-");
                let what = format!(
                    "--{flag} is for --from BUNDLE: what a manifest names is not judged by a trust store"
                );
                Err(export.error(ErrorKind::MissingRequiredArgument, what))
            }
            None => {
                let mut cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?;
                if let Verb::Export(args) = &mut cli.verb {
                    args.trust_in_vain = trust_typed;
                }
                Ok(cli)
            }
        }
    }
}

/// The first of these flags that was typed. (The environment is for all verbs.)
fn typed<'f>(matches: &ArgMatches, flags: impl IntoIterator<Item = &'f str>) -> Option<&'f str> {
    flags.into_iter().find(|flag| matches.value_source(flag) == Some(ValueSource::CommandLine))
}

/// What becomes of indexes of which entries were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SparseMode {
    /// They go as they are: digest and signatures stay true
    Keep,
    /// In their place goes an index of what is there
    Trim,
    /// Such images are refused
    Refuse,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere
    Auto,
    /// Bars, where there is a terminal
    Tty,
    /// A line now and then
    Plain,
    /// JSON lines
    Json,
    /// Nothing
    None,
}

/// The verbs.
#[derive(Subcommand)]
pub enum Verb {
    /// Pull a release's images, charts and files into one signed bundle; or cut one out of another
    #[command(
        after_help = "Examples:\n  sealift export manifests/nexus-engine.toml -o nexus-engine-2.1.0.tar --key release.key.pem\n  sealift export --from nexus-engine-2.1.0.tar --variant edge -o nexus-engine-2.1.0-edge.tar --key release.key.pem"
    )]
    Export(ExportArgs),
    /// Check a bundle's signature, checksums and completeness
    #[command(after_help = "Example:\n  sealift verify nexus-engine-2.1.0.tar --trust /etc/sealift/trust")]
    Verify(VerifyArgs),
    /// Verify a bundle and load it into a registry or an OCI layout
    #[command(
        after_help = "Example:\n  sealift import nexus-engine-2.1.0.tar --to docker://registry.edge.local:5000 --trust /etc/sealift/trust"
    )]
    Import(ImportArgs),
    /// Show what a bundle holds (after checking its signature)
    #[command(after_help = "Example:\n  sealift inspect nexus-engine-2.1.0.tar --trust /etc/sealift/trust")]
    Inspect(InspectArgs),
    /// Judge a release by its rules: a manifest before its layers move, or a bundle
    #[command(
        after_help = "Examples:\n  sealift check manifests/nexus-engine.toml\n  sealift check manifests/nexus-engine.toml --output sarif > rules.sarif\n  sealift check nexus-engine-2.1.0.tar --trust /etc/sealift/trust --require-policy sovereign\n\nExit code 4 where a rule that binds is broken."
    )]
    Check(CheckArgs),
    /// Say what changed between two releases or two environments, by digest
    #[command(
        after_help = "Examples:\n  sealift diff nexus-engine-2.0.0.tar nexus-engine-2.1.0.tar --trust trust\n  sealift diff nexus-engine.toml nexus-engine.toml --new-mirror registry.example.com=registry.staging.example.com --exit-code"
    )]
    Diff(super::diff::DiffArgs),
    /// List the packages in a bundle's images, as the SBOMs in it say
    #[command(
        after_help = "Examples:\n  sealift sbom nexus-engine-2.1.0.tar --package openssl\n  sealift sbom nexus-engine-2.1.0.tar --licenses\n  sealift sbom nexus-engine-2.1.0.tar --image engine --output spdx > engine.spdx.json\n\nExit code 1 where no SBOM lists the package."
    )]
    Sbom(SbomArgs),
    /// Be a registry: give out the images of bundles, straight from the files, or of a store
    #[command(
        after_help = "Example:\n  sealift serve nexus-engine-2.1.0.tar --trust /etc/sealift/trust\n  skopeo inspect --tls-verify=false docker://127.0.0.1:5000/nexus/engine:2.1.0"
    )]
    Serve(ServeArgs),
    /// Add a signature beside a bundle, by a key at hand or from another room
    #[command(
        after_help = "Examples:\n  sealift sign nexus-engine-2.1.0.tar --key quality.key.pem\n\nWith a key that does not leave its room:\n  sealift sign nexus-engine-2.1.0.tar --extract -o SHA256SUMS\n  openssl pkeyutl -sign -inkey quality.key.pem -rawin -in SHA256SUMS -out SHA256SUMS.sig\n  sealift sign nexus-engine-2.1.0.tar --attach SHA256SUMS.sig --by quality.pub.pem"
    )]
    Sign(SignArgs),
    /// Look at the trust store, or take over the next one from a bundle
    Trust {
        /// What to do with the trust store.
        #[command(subcommand)]
        verb: TrustVerb,
    },
    /// Keep the store of a registry in order (docker-registry's too)
    Store {
        /// What to do with the store.
        #[command(subcommand)]
        verb: StoreVerb,
    },
    /// Check an audit log's chain, and show what was done
    #[command(
        after_help = "Example:\n  sealift audit /var/log/sealift/audit.jsonl\n\nThe digest of the last line (the head) is printed: note it elsewhere. A log that was cut short, or written anew,\nis noticed only by --head with a digest that was noted before."
    )]
    Audit(AuditArgs),
    /// Check a receipt of an import, and show it on one page
    #[command(
        after_help = "Example:\n  sealift receipt nexus-engine-2.1.0.receipt.json --by site.pub.pem --bundle nexus-engine-2.1.0.tar"
    )]
    Receipt(ReceiptArgs),
    /// Make and look at signing keys
    Key {
        /// What to do with keys.
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// Make and look at licences, for releases that ask for one
    License {
        /// What to do with licences.
        #[command(subcommand)]
        verb: super::license::LicenseVerb,
    },
    /// Show the whole trip on built-in images, between two registries on this machine
    Demo,
    /// Print a completion script for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each verb
    Man {
        /// Write sealift.1, sealift-export.1, … into this directory instead.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// How registries are spoken to.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Trust this certificate authority (PEM) besides the system's; may be given several times.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Vec<PathBuf>,
    /// Speak plain HTTP with this host (HOST or HOST:PORT); loopback addresses need no asking.
    #[arg(long, value_name = "HOST")]
    pub plain_http: Vec<String>,
    /// Speak TLS with this host although it is a loopback address (a tunnel, say).
    #[arg(long, value_name = "HOST")]
    pub tls: Vec<String>,
    /// Move at most so many bytes per second, all transfers together (500kB, 2MB, 1MiB).
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub limit_rate: Option<u64>,
    /// Transfers at once, at most.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
}

/// Restriction to parts of a release.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Selection options")]
pub struct NarrowArgs {
    /// Only these variants (standard, distroless, edge, …), with commas between several; charts and files belong
    /// to every variant.
    #[arg(long, value_name = "V", value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Only these platforms (linux/amd64, linux/arm/v7, …), with commas between several.
    #[arg(long, value_name = "P", value_delimiter = ',')]
    pub platform: Vec<Platform>,
    /// Only these images, charts and files, by their names in the release manifest, with commas between several.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub image: Vec<String>,
}

/// Arguments of `export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The release manifest (TOML).
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "from", conflicts_with = "from")]
    pub manifest: Option<PathBuf>,
    /// Cut the new bundle out of this one, plain or .zst, instead of pulling a manifest's images: no network. It is
    /// verified as verify does (--trust). What it says of its release, and the time it states, stay; its signatures
    /// do not.
    #[arg(long, value_name = "BUNDLE", value_hint = ValueHint::FilePath, conflicts_with_all = ["mirror", "created"])]
    pub from: Option<PathBuf>,
    /// The bundle to write; it appears under this name only when complete. A name that ends in .zst makes a
    /// compressed one; - is standard output. Interrupted, the same command goes on.
    #[arg(short, long, value_name = "BUNDLE", value_hint = ValueHint::FilePath, required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// Sign with this private key; may be given several times.
    #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
    pub key: Vec<PathBuf>,
    /// Read the passphrase (the same for all keys) from the first line of this file instead of the
    /// terminal.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub passphrase_file: Option<PathBuf>,
    /// Write no signature; only tiers that allow it. Such a bundle must be signed before it can be imported.
    #[arg(long, conflicts_with = "key")]
    pub unsigned: bool,
    /// Pull the images named FROM at TO (a registry, a path in one, oci:DIR, oci-archive:FILE,
    /// docker-archive:FILE or store:DIR); may be given several times.
    #[arg(long, value_name = "FROM=TO")]
    pub mirror: Vec<String>,
    /// Look for secrets in the layers, too, which are read once more for this.
    #[arg(long, conflicts_with = "from")]
    pub deep: bool,
    /// Only read the documents and print what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: print JSON. Otherwise: print what was written as JSON.
    #[arg(long)]
    pub json: bool,
    /// Replace an existing bundle once the new one is complete.
    #[arg(long)]
    pub overwrite: bool,
    /// The time the bundle states (RFC 3339); else SOURCE_DATE_EPOCH, else the newest image's.
    #[arg(long, value_name = "TIME")]
    pub created: Option<Moment>,
    /// Where account is kept.
    #[command(flatten)]
    pub log: LogArgs,
    /// Whom to trust, with --from or where images are promoted from a bundle.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// --trust was typed where a manifest is exported, of which only some have a use for it.
    #[arg(skip)]
    pub trust_in_vain: bool,
    /// With --from: take the bundle although it has expired; the trust store must allow that.
    #[arg(long)]
    pub allow_expired: bool,
    /// Parts of the release.
    #[command(flatten)]
    pub narrow: NarrowArgs,
    /// Registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// What bundles are judged by.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Trust options")]
pub struct TrustArgs {
    /// The trust store: a directory with the public keys (PEM) of those whose bundles are accepted.
    #[arg(long, value_name = "DIR", env = "SEALIFT_TRUST", default_value = "/etc/sealift/trust", value_hint = ValueHint::DirPath)]
    pub trust: PathBuf,
    /// Where this site remembers what it has imported, so that old bundles do not pass for new
    /// [default: /var/lib/sealift for root, else sealift in the user's state directory].
    #[arg(long, value_name = "DIR", env = "SEALIFT_STATE", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
}

/// What may be asked for although it has expired.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Trust options")]
pub struct ExpiryArgs {
    /// Take the bundle although it has expired; the trust store must allow that.
    #[arg(long)]
    pub allow_expired: bool,
}

/// Where account is kept of what was done.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Account options")]
pub struct LogArgs {
    /// Add what is done, by whom, and what comes of it, to this audit log (JSON lines, each with the hash of the one
    /// before); it is made if it is not there. The tiers regulated and sovereign ask for one.
    #[arg(long, value_name = "FILE", env = "SEALIFT_AUDIT_LOG", value_hint = ValueHint::FilePath)]
    pub audit_log: Option<PathBuf>,
}

/// Arguments of `audit`.
#[derive(Args)]
pub struct AuditArgs {
    /// The audit log.
    #[arg(value_hint = ValueHint::FilePath)]
    pub log: PathBuf,
    /// The digest of a line, noted before: it must be in the log.
    #[arg(long, value_name = "DIGEST")]
    pub head: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a receipt is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReceiptForm {
    /// A page of text, with a QR code of the receipt's digest
    #[default]
    Text,
    /// The same as one HTML page, to be printed
    Html,
    /// JSON
    Json,
}

/// Arguments of `receipt`.
#[derive(Args)]
pub struct ReceiptArgs {
    /// The receipt; its signature lies beside it, as RECEIPT.<key-id>.sig.
    #[arg(value_hint = ValueHint::FilePath)]
    pub receipt: PathBuf,
    /// The public key of the site that must have signed it.
    #[arg(long, value_name = "KEY", conflicts_with = "trust", value_hint = ValueHint::FilePath)]
    pub by: Option<PathBuf>,
    /// A directory of public keys of sites: one of them must have signed it.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub trust: Option<PathBuf>,
    /// The bundle that it must be about.
    #[arg(long, value_name = "BUNDLE", value_hint = ValueHint::FilePath)]
    pub bundle: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    pub output: ReceiptForm,
}

/// Arguments of `verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// The bundle, plain or .zst; - is standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    pub bundle: PathBuf,
    /// Check signature, statement, sums and length only: reads kilobytes, says nothing of the contents.
    #[arg(long)]
    pub head: bool,
    /// Do not mind that a newer release was imported here already.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// And for how long.
    #[command(flatten)]
    pub expiry: ExpiryArgs,
}

/// Arguments of `inspect`.
#[derive(Args)]
pub struct InspectArgs {
    /// The bundle, plain or .zst; - is standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    pub bundle: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// And for how long.
    #[command(flatten)]
    pub expiry: ExpiryArgs,
}

/// How the result of a check is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckForm {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, as code hosts and CI systems take it
    Sarif,
}

/// Arguments of `check`.
#[derive(Args)]
pub struct CheckArgs {
    /// The release manifest (TOML), whose images are judged where they lie; or a bundle, plain or .zst, whose record is
    /// shown.
    #[arg(value_name = "MANIFEST|BUNDLE", value_hint = ValueHint::FilePath)]
    pub what: PathBuf,
    /// Judge what the bundle holds by the [policy] of this release manifest, instead of showing its record.
    #[arg(long, value_name = "MANIFEST", value_hint = ValueHint::FilePath)]
    pub rules: Option<PathBuf>,
    /// Refuse a bundle that was made under a less strict profile than this tier's, or does not keep its rules.
    #[arg(long, value_name = "TIER")]
    pub require_policy: Option<Tier>,
    /// Look for secrets in the layers, too, which are read for this.
    #[arg(long)]
    pub deep: bool,
    /// How the result is printed.
    #[arg(long, value_enum, value_name = "FORM", default_value_t = CheckForm::Table)]
    pub output: CheckForm,
    /// Print JSON: the same as --output json.
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// Look for the images named FROM at TO, as export does; may be given several times.
    #[arg(long, value_name = "FROM=TO")]
    pub mirror: Vec<String>,
    /// Whom to trust, for a bundle.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// And for how long.
    #[command(flatten)]
    pub expiry: ExpiryArgs,
    /// Parts of the release.
    #[command(flatten)]
    pub narrow: NarrowArgs,
    /// Registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Arguments of `sbom`.
#[derive(Args)]
pub struct SbomArgs {
    /// The bundle, plain or .zst.
    #[arg(value_hint = ValueHint::FilePath)]
    pub bundle: PathBuf,
    /// Only packages of this name: the whole of it, or what stands behind its last slash.
    #[arg(long, value_name = "NAME")]
    pub package: Option<String>,
    /// Count packages by licence instead.
    #[arg(long, alias = "licences")]
    pub licenses: bool,
    /// As what to print it.
    #[arg(long, value_enum, default_value_t = Form::Table, value_name = "FORM")]
    pub output: Form,
    /// Which part of the bundle.
    #[command(flatten)]
    pub narrow: NarrowArgs,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// And for how long.
    #[command(flatten)]
    pub expiry: ExpiryArgs,
}

/// Arguments of `import`.
#[derive(Args)]
pub struct ImportArgs {
    /// The bundle, plain or .zst; - is standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    pub bundle: PathBuf,
    /// Where to: docker://host[:port][/prefix] (docker:// may be left out); oci:DIR; store:DIR, the storage
    /// directory of a registry; oci-archive:FILE for podman, skopeo, ctr or k3s; or docker-archive:FILE for
    /// docker load and podman load, with one --platform. An archive appears under its name only when complete; a
    /// name that ends in .zst makes a compressed one.
    #[arg(long, value_name = "DEST")]
    pub to: String,
    /// Put repositories that begin with FROM at TO; may be given several times. A FROM with the
    /// registry's name goes before one without, a longer one before a shorter one.
    #[arg(long, value_name = "FROM=TO")]
    pub map: Vec<String>,
    /// What to do with indexes of images whose platforms are not all in the bundle: keep them as they are, trim
    /// them to what is there (under a new digest), or refuse such images [default: what the registry takes; other
    /// places keep them].
    #[arg(long, value_enum, value_name = "HOW")]
    pub sparse: Option<SparseMode>,
    /// Move tags that lead to other images already.
    #[arg(long)]
    pub overwrite_tags: bool,
    /// Replace an existing file of oci-archive: or docker-archive: once the new one is complete.
    #[arg(long)]
    pub overwrite: bool,
    /// Import although a newer release was imported here already.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Refuse a bundle that was made under a less strict profile than this tier's, or does not keep its rules.
    #[arg(long, value_name = "TIER")]
    pub require_policy: Option<Tier>,
    /// The licence, for releases that ask for one (license new makes one); others never look at it.
    #[arg(long, value_name = "FILE", env = "SEALIFT_LICENSE", value_hint = ValueHint::FilePath)]
    pub license: Option<PathBuf>,
    /// Take only images that are signed by cosign with this public key (PEM: ECDSA P-256 or Ed25519), or with another one
    /// that is given: verified from the bundle alone. Charts and files are not asked for it.
    #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
    pub cosign_key: Vec<PathBuf>,
    /// Refuse a release of which nothing is remembered: a state that was deleted is no fresh start.
    #[arg(long, conflicts_with = "reset_state")]
    pub require_state: bool,
    /// Forget what is remembered of this release and begin anew with this bundle.
    #[arg(long)]
    pub reset_state: bool,
    /// Verify, ask the destination what it has, and print what would be sent.
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    pub json: bool,
    /// Leave out the record: the statement, sums and signatures that are attached to each image in a registry or a
    /// store, so that these say themselves where it came from.
    #[arg(long, env = "SEALIFT_NO_RECORD", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_record: bool,
    /// Write the receipt to this file [default: a file in receipts/ in the state directory].
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run", value_hint = ValueHint::FilePath)]
    pub receipt: Option<PathBuf>,
    /// Sign the receipt with this private key of the site: RECEIPT.<key-id>.sig.
    #[arg(long, value_name = "KEY", conflicts_with = "dry_run", value_hint = ValueHint::FilePath)]
    pub site_key: Option<PathBuf>,
    /// Read the passphrase of the site's key from the first line of this file instead of the terminal.
    #[arg(long, value_name = "FILE", requires = "site_key", value_hint = ValueHint::FilePath)]
    pub passphrase_file: Option<PathBuf>,
    /// Where account is kept.
    #[command(flatten)]
    pub log: LogArgs,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// And for how long.
    #[command(flatten)]
    pub expiry: ExpiryArgs,
    /// Parts of the bundle.
    #[command(flatten)]
    pub narrow: NarrowArgs,
    /// Registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Arguments of `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Bundles, plain or .zst, which are only read; or one store:DIR.
    #[arg(required = true, value_name = "BUNDLE|store:DIR", value_hint = ValueHint::FilePath)]
    pub what: Vec<String>,
    /// Take pushes and deletions, too: into a store.
    #[arg(long)]
    pub writable: bool,
    /// Take indexes of which parts are missing.
    #[arg(long, requires = "writable")]
    pub allow_sparse: bool,
    /// Where to listen. Beyond this machine TLS is needed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000", value_parser = address)]
    pub listen: SocketAddr,
    /// Begin at once: check each blob when it is asked for the first time, not all of them beforehand.
    #[arg(long)]
    pub head_first: bool,
    /// The server's certificate, and those above it (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = ValueHint::FilePath)]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub tls_key: Option<PathBuf>,
    /// Make a certificate for this run, and print its fingerprint and the authority to install where images are pulled.
    #[arg(long, conflicts_with = "tls_cert")]
    pub self_signed: bool,
    /// Speak plain HTTP even beyond this machine.
    #[arg(long, conflicts_with_all = ["tls_cert", "self_signed"])]
    pub plain_http_anyway: bool,
    /// Ask for a name and a password of this file (htpasswd -B).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub htpasswd: Option<PathBuf>,
    /// Let everybody pull.
    #[arg(long, requires = "htpasswd")]
    pub anonymous_pull: bool,
    /// Write a line of JSON for each request to this file; - is standard output.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub access_log: Option<PathBuf>,
    /// Do not mind that a newer release was imported here already.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// And for how long.
    #[command(flatten)]
    pub expiry: ExpiryArgs,
}

/// Arguments of `sign`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["key", "extract", "attach"]))]
pub struct SignArgs {
    /// The bundle, plain or .zst. The signature is written beside it, as BUNDLE.<key-id>.sig; it counts as long as it
    /// lies there under that name.
    #[arg(value_hint = ValueHint::FilePath)]
    pub bundle: PathBuf,
    /// Verify the bundle, then sign it with this private key.
    #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    /// Read the passphrase from the first line of this file instead of the terminal.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["extract", "attach"], value_hint = ValueHint::FilePath)]
    pub passphrase_file: Option<PathBuf>,
    /// Write minisign's form, BUNDLE.<key-id>.minisig.
    #[arg(long, requires = "key", conflicts_with_all = ["extract", "attach"])]
    pub minisig: bool,
    /// Write the text that is to be signed, for signing it elsewhere. Its form is checked, nothing else.
    #[arg(long)]
    pub extract: bool,
    /// Where to: a file, or - for standard output [default: BUNDLE.SHA256SUMS].
    #[arg(short, long, value_name = "FILE", requires = "extract", conflicts_with_all = ["key", "attach"], value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Verify the bundle, then take over this signature (64 raw bytes, or minisign's legacy form).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub attach: Option<PathBuf>,
    /// The public key that made it; else one of the trust store's.
    #[arg(long, value_name = "KEY", requires = "attach", conflicts_with_all = ["key", "extract"], value_hint = ValueHint::FilePath)]
    pub by: Option<PathBuf>,
    /// The trust store in which the signature's key is looked for.
    #[arg(long, value_name = "DIR", env = "SEALIFT_TRUST", default_value = "/etc/sealift/trust", value_hint = ValueHint::DirPath)]
    pub trust: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where account is kept.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Verbs about the trust store.
#[derive(Subcommand)]
pub enum TrustVerb {
    /// Show whom the store trusts, and what for
    #[command(after_help = "Example:\n  sealift trust show --trust /etc/sealift/trust")]
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The trust store: a directory of public keys and an optional trust.toml.
        #[arg(long, value_name = "DIR", env = "SEALIFT_TRUST", default_value = "/etc/sealift/trust", value_hint = ValueHint::DirPath)]
        trust: PathBuf,
    },
    /// Replace the store by the next one, which the bundle brings and keys of both have signed
    #[command(
        after_help = "Example:\n  sealift trust update nexus-engine-2.2.0.tar --dry-run\n  sealift trust update nexus-engine-2.2.0.tar"
    )]
    Update {
        /// The bundle.
        #[arg(value_hint = ValueHint::FilePath)]
        bundle: PathBuf,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Whom to trust.
        #[command(flatten)]
        trust: TrustArgs,
        /// Where account is kept.
        #[command(flatten)]
        log: LogArgs,
    },
}

/// Verbs about the store of a registry.
#[derive(Subcommand)]
pub enum StoreVerb {
    /// Delete blobs that no document names; a running sealift may go on reading and writing
    #[command(
        after_help = "Beside a docker-registry, which knows no locks, only the grace protects what is being pushed: stop it, or make it read-only."
    )]
    Gc {
        /// The store: a directory that holds docker/registry/v2.
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
        /// Delete documents, too, that no tag leads to and that no kept one names or is referred to by.
        #[arg(long)]
        untagged: bool,
        /// Spare what is younger than this (0, 90s, 30m, 1h, 2d).
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
        grace: Duration,
        /// Only say what would be deleted.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Hash every blob again and follow every link; exit code 3 if something is damaged
    Check {
        /// The store: a directory that holds docker/registry/v2.
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a tag, a document with all its tags, or a repository out; the next gc deletes what they held
    Remove {
        /// The store: a directory that holds docker/registry/v2.
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
        /// What: NAME, NAME:TAG or NAME@DIGEST.
        #[arg(value_name = "NAME[:TAG|@DIGEST]")]
        name: String,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Verbs about keys.
#[derive(Subcommand)]
pub enum KeyVerb {
    /// Make a key pair: NAME.key.pem (keep it) and NAME.pub.pem (give it away); asks for a passphrase
    New {
        /// The key's name.
        name: String,
        /// Where to write the files.
        #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// Leave the private key unencrypted.
        #[arg(long, conflicts_with = "passphrase_file")]
        no_passphrase: bool,
        /// Read the passphrase from the first line of this file instead of the terminal.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        passphrase_file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a key's id and its public half
    Show {
        /// A public or private key file (PEM), or a public key of minisign's.
        #[arg(value_hint = ValueHint::FilePath)]
        key: PathBuf,
        /// Print the public key as minisign takes it.
        #[arg(long, alias = "minisig", conflicts_with = "json")]
        minisign: bool,
        /// Read the passphrase from the first line of this file instead of the terminal.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        passphrase_file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let here = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let wrong = |_| "an address and a port, such as 127.0.0.1:5000 or 0.0.0.0:443".to_owned();
    here.as_deref().unwrap_or(text).parse().map_err(wrong)
}

fn rate(text: &str) -> Result<u64, String> {
    let bytes = byte_count(text).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "a whole number of bytes per second with a unit, such as 500kB or 2MB".to_owned())
}

/// A number of seconds, or of another unit.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a whole number of seconds, minutes, hours or days, such as 90s, 30m, 1h or 2d".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}
