//! The mouth: takes the command line, asks for passphrases, shows progress, prints results. The
//! only room that prints or looks at the terminal.

mod account;
mod args;
mod demo;
mod diff;
mod license;
mod progress;
mod receipt;
mod report;
mod sbom;
mod verdicts;

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::CommandFactory;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::bundle::{Input, Through};
use crate::content::{Rate, Watch};
use crate::error::{Error, Exit, Kind, Result};
use crate::history::{History, Leave};
use crate::limits;
use crate::manifest::{Narrow, cosign_key};
use crate::registry;
use crate::release::Moment;
use crate::server::{Certificate, Limits, Listener, Log, Page, Server};
use crate::store::Sweep;
use crate::trust::{Keyring, Passphrase, SigningKey, minisign_key};
use crate::verbs::account::Account;
use crate::verbs::export::{Export, Prepared};
use crate::verbs::import::{Import, Origin, import};
use crate::verbs::inspect::{inspect, signer_records};
use crate::verbs::output::Target;
use crate::verbs::places::Destination;
use crate::verbs::sbom::Asked;
use crate::verbs::serve::{self, Front};
use crate::verbs::site::{Site, sighting};
use crate::verbs::slice::Slice;
use crate::verbs::sparse::Indexes;
use crate::verbs::{check, key, sign, store, trust, verify};

use args::{
    CheckArgs, CheckForm, Cli, ExportArgs, ImportArgs, InspectArgs, KeyVerb, NarrowArgs, ProgressMode,
    RegistryArgs, SbomArgs, ServeArgs, SignArgs, SparseMode, StoreVerb, TrustArgs, TrustVerb, Verb,
    VerifyArgs,
};

/// Runs one command line, `arguments` including the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::read(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let done = match cli.verb {
        Verb::Diff(args) => diff::verb(args, cli.progress),
        verb => execute(Cli { verb, ..cli }).map(|()| Exit::Done),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            report::failure(&error);
            error.kind().exit()
        }
    }
}

fn execute(cli: Cli) -> Result<()> {
    let progress = cli.progress;
    match cli.verb {
        Verb::Export(args) => export_verb(args, progress),
        Verb::Verify(args) => verify_verb(args, progress),
        Verb::Import(args) => import_verb(args, progress),
        Verb::Inspect(args) => inspect_verb(args, progress),
        Verb::Check(args) => check_verb(args, progress),
        Verb::Diff(args) => diff::verb(args, progress).map(drop),
        Verb::Sbom(args) => sbom_verb(args, progress),
        Verb::Serve(args) => serve_verb(args, progress),
        Verb::Sign(args) => sign_verb(args, progress),
        Verb::Trust { verb } => trust_verb(verb, progress),
        Verb::Store { verb } => store_verb(verb, progress),
        Verb::Audit(args) => account::audit_verb(&args),
        Verb::Receipt(args) => receipt::receipt_verb(&args),
        Verb::Key { verb } => key_verb(verb),
        Verb::License { verb } => license::verb(verb, progress),
        Verb::Demo => demo::trip(),
        Verb::Completions { shell } => completions(shell),
        Verb::Man { dir } => man(dir.as_deref()),
    }
}

/// Runs a command of the demo as it was printed.
fn run_printed(command: &str) -> Result<()> {
    execute(printed(command)?)
}

fn printed(command: &str) -> Result<Cli> {
    Cli::read(command.split(' '))
        .map_err(|e| Error::new(Kind::Usage, "the demo's command is not understood").got(e))
}

/// Begins a `serve` of the demo as it was printed; the registry's address. It ends with the runtime.
fn serve_printed(command: &str, runtime: &Runtime) -> Result<SocketAddr> {
    let cli = printed(command)?;
    let Verb::Serve(args) = cli.verb else {
        return Err(Error::new(Kind::Usage, "the demo's command does not serve").got(command));
    };
    let (listener, server) = runtime.block_on(serving(args, cli.progress))?;
    let address = listener.socket.local_addr();
    runtime.spawn(listener.run(server, std::future::pending()));
    address.map_err(|e| Error::io("cannot listen", "the socket", &e))
}

fn export_verb(args: ExportArgs, progress: ProgressMode) -> Result<()> {
    if let Some(bundle) = &args.from {
        refuse_pipe(bundle)?;
    }
    // What can fail without the network fails before it; and nobody wants to be asked for a
    // passphrase after an hour of pulling.
    let keys = export_keys(&args)?;
    let output = args.output.clone().unwrap_or_default();
    if is_pipe(&output) && args.json && !args.dry_run {
        return Err(Error::new(Kind::Usage, "--json and -o - both want standard output")
            .hint("leave --json out: what was written is said on standard error"));
    }
    let pipe = (is_pipe(&output) && !args.dry_run).then(self::output).transpose()?;
    let inputs = args.manifest.iter().chain(&args.from).chain(&args.key).chain(&args.passphrase_file);
    account::apart(&args.log, inputs.chain([&output]).chain(&unfinished(&output)).map(PathBuf::as_path))?;
    let account = account::open(&args.log, "export", args.dry_run)?;
    let source = args.from.as_ref().or(args.manifest.as_ref()).map(|path| path.display().to_string());
    account.about(source.unwrap_or_default(), output.display());
    let from = Exporting::asked(&args, keys.len(), (!args.dry_run).then(|| account.is_kept()))?;
    let to = Written { output, replace: args.overwrite, dry_run: args.dry_run, json: args.json };
    if !to.output.as_os_str().is_empty() && !is_pipe(&to.output) {
        let keys: Vec<_> = args.key.into_iter().chain(args.passphrase_file).collect();
        from.check_output(to.target(), &keys)?;
    }
    let watch = progress::watcher(progress);
    let options = registry_options(args.registry, &watch);
    let kept = account.clone();
    let assumed = keys.is_empty() && !args.unsigned;
    let exported = on_runtime(async move {
        let prepared = match from {
            Exporting::Bundle(slice) => slice.prepare(&watch).await?,
            Exporting::Manifest(export) => export.prepare(&registry::Client::new(options)?).await?,
        };
        match to.dry_run {
            true => look(&prepared, assumed, to.json),
            false => write(&prepared, &keys, to, pipe, &account, watch).await,
        }
    });
    account::closed(&kept, exported)
}

/// What a bundle is called while it is written.
fn unfinished(output: &Path) -> [PathBuf; 2] {
    [".partial", ".partial.journal"].map(|end| {
        let mut name = output.to_owned().into_os_string();
        name.push(end);
        PathBuf::from(name)
    })
}

/// Where a bundle is to be written, and how that is told.
struct Written {
    output: PathBuf,
    replace: bool,
    dry_run: bool,
    json: bool,
}

impl Written {
    fn target(&self) -> Target<'_> {
        Target { output: &self.output, replace: self.replace }
    }
}

/// Says what would be done.
fn look(prepared: &Prepared, assumed: bool, json: bool) -> Result<()> {
    report::planned(prepared, prepared.total()?, assumed, json)?;
    account::remark(prepared.release.tier);
    prepared.verdicts.allow()
}

async fn write(
    prepared: &Prepared,
    keys: &[SigningKey],
    to: Written,
    pipe: Option<Through<File>>,
    account: &Account,
    watch: Arc<dyn Watch>,
) -> Result<()> {
    verdicts::warn(&prepared.verdicts, &*watch);
    prepared.begin(account, keys)?;
    if let Some(pipe) = pipe {
        let exported = prepared.pour(pipe, keys, watch.clone()).await?;
        account.done()?;
        drop(watch);
        report::poured(prepared, &exported);
        return Ok(());
    }
    let exported = prepared.write(to.target(), keys, watch.clone()).await?;
    account.done()?;
    drop(watch);
    report::exported(prepared, &exported, &to.output, to.json)
}

/// What a bundle is made from.
enum Exporting {
    Manifest(Export),
    Bundle(Slice),
}

impl Exporting {
    fn asked(args: &ExportArgs, keys: usize, audited: Option<bool>) -> Result<Self> {
        let created = args.created.map(Ok).or_else(source_date_epoch).transpose()?;
        let (narrow, jobs) = (narrow(args.narrow.clone()), args.registry.jobs.into());
        let rate = args.registry.limit_rate.map(Rate::of);
        let signatures = match args.dry_run && !args.unsigned {
            // Without keys at hand, one signature is assumed: what a release usually has.
            true => keys.max(1),
            false => keys,
        };
        let site = site(args.trust.clone(), args.allow_expired, Leave::default());
        if let Some(bundle) = args.from.clone() {
            return Ok(Exporting::Bundle(Slice { bundle, site, narrow, signatures, audited, jobs, rate }));
        }
        let manifest = args.manifest.clone().unwrap_or_default();
        let (mirrors, signatures, deep) = (meant(&args.mirror)?, Some(signatures), args.deep);
        let export =
            Export { manifest, narrow, mirrors, created, site, signatures, audited, deep, jobs, rate };
        match args.trust_in_vain && !export.judges()? {
            true => Err(Error::new(
                Kind::Usage,
                "--trust is for --from BUNDLE: what a manifest names is not judged by a trust store",
            )
            .hint("sealift export --from BUNDLE, or promote_from = \"bundle:FILE\" in the manifest")),
            false => Ok(Exporting::Manifest(export)),
        }
    }

    fn check_output(&self, target: Target, keys: &[PathBuf]) -> Result<()> {
        match self {
            Exporting::Manifest(export) => export.check_output(target, keys),
            Exporting::Bundle(slice) => slice.check_output(target, keys),
        }
    }
}

fn export_keys(args: &ExportArgs) -> Result<Vec<SigningKey>> {
    if args.key.is_empty() && !args.unsigned && !args.dry_run {
        return Err(Error::new(Kind::Usage, "no signing key").expected("--key release.key.pem").hint(
            "sealift key new makes one; --unsigned writes a bundle that must be signed before it can be imported",
        ));
    }
    let passphrases = Passphrases::new(args.passphrase_file.clone());
    let mut keys: Vec<SigningKey> = Vec::new();
    for path in &args.key {
        let key = passphrases.open(path)?;
        if keys.iter().all(|known| known.public() != key.public()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn verify_verb(args: VerifyArgs, progress: ProgressMode) -> Result<()> {
    let site = site(
        args.trust,
        args.expiry.allow_expired,
        Leave { downgrade: args.allow_downgrade, ..Leave::default() },
    );
    let watch = progress::watcher(progress);
    if is_pipe(&args.bundle) {
        return on_runtime(async move {
            let piped = verify::received(input()?, PIPE_IN, &site, &watch).await?;
            site.check(&sighting(piped.statement(), piped.signers(), piped.identity()))?;
            if !args.head {
                verify::whole_pipe(&piped, watch.clone()).await?;
            }
            drop(watch);
            let signers = signer_records(piped.signers());
            report::verified(&args.bundle, piped.statement(), signers, piped.length(), args.head, args.json)
        });
    }
    if args.head {
        let bundle = verify::head(&args.bundle, &site, &*watch)?;
        verify::admissible(&bundle, &site)?;
        let signers = signer_records(bundle.signers());
        return report::verified(&args.bundle, bundle.statement(), signers, bundle.length(), true, args.json);
    }
    on_runtime(async move {
        let opened = verify::opened(&args.bundle, &site, &watch).await?;
        verify::admissible(&opened, &site)?;
        let bundle = verify::whole(opened, watch.clone()).await?;
        drop(watch);
        let signers = signer_records(bundle.signers());
        report::verified(&args.bundle, bundle.statement(), signers, bundle.length(), false, args.json)
    })
}

fn inspect_verb(args: InspectArgs, progress: ProgressMode) -> Result<()> {
    let site = site(args.trust, args.expiry.allow_expired, Leave::default());
    let watch = progress::watcher(progress);
    if is_pipe(&args.bundle) {
        return on_runtime(async move {
            let piped = verify::received(input()?, PIPE_IN, &site, &watch).await?;
            let inspection = inspect(piped.statement(), piped.signers(), piped.length());
            report::inspected(&inspection, &args.bundle, &site.trust, args.json)
        });
    }
    let bundle = verify::head(&args.bundle, &site, &*watch)?;
    let inspection = inspect(bundle.statement(), bundle.signers(), bundle.length());
    report::inspected(&inspection, &args.bundle, &site.trust, args.json)
}

fn import_verb(args: ImportArgs, progress: ProgressMode) -> Result<()> {
    let leave = Leave {
        downgrade: args.allow_downgrade,
        memory_required: args.require_state,
        forget: args.reset_state,
    };
    let destination = args.to.parse::<Destination>()?;
    let written = match &destination {
        Destination::Archive(_, file) => Some(file),
        _ => None,
    };
    let others = args.receipt.iter().chain(&args.site_key).chain(&args.license).chain(&args.passphrase_file);
    account::apart(&args.log, others.chain([&args.bundle]).chain(written).map(PathBuf::as_path))?;
    let account = account::open(&args.log, "import", args.dry_run)?;
    let from = if is_pipe(&args.bundle) { PIPE_IN.to_owned() } else { args.bundle.display().to_string() };
    account.about(from, &destination);
    let order = Import {
        site: site(args.trust, args.expiry.allow_expired, leave),
        destination,
        account: account.clone(),
        record: !args.no_record,
        filing: match args.dry_run {
            true => None,
            false => Some(account::filing(args.receipt, args.site_key.as_deref(), args.passphrase_file)?),
        },
        renamings: meant(&args.map)?,
        license: args.license,
        narrow: narrow(args.narrow),
        indexes: args.sparse.map(|how| match how {
            SparseMode::Keep => Indexes::Keep,
            SparseMode::Trim => Indexes::Trim,
            SparseMode::Refuse => Indexes::Refuse,
        }),
        overwrite_tags: args.overwrite_tags,
        overwrite: args.overwrite,
        dry_run: args.dry_run,
        require_policy: args.require_policy,
        cosign: args.cosign_key.iter().map(|key| cosign_key(key)).collect::<Result<_>>()?,
        jobs: args.registry.jobs.into(),
        rate: args.registry.limit_rate.map(Rate::of),
    };
    let watch = progress::watcher(progress);
    let options = registry_options(args.registry, &watch);
    let kept = account.clone();
    let imported = on_runtime(async move {
        let client = registry::Client::new(options)?;
        let origin = match is_pipe(&args.bundle) {
            true => Origin::Pipe(input()?, PIPE_IN),
            false => Origin::File(args.bundle),
        };
        let receipt = import(&order, origin, &client, watch.clone()).await?;
        account.done()?;
        drop(watch);
        report::imported(&receipt, args.json)
    });
    account::closed(&kept, imported)
}

fn check_verb(args: CheckArgs, progress: ProgressMode) -> Result<()> {
    refuse_pipe(&args.what)?;
    let form = match args.output {
        _ if args.json => verdicts::Form::Json,
        CheckForm::Table => verdicts::Form::Table,
        CheckForm::Json => verdicts::Form::Json,
        CheckForm::Sarif => verdicts::Form::Sarif,
    };
    let watch = progress::watcher(progress);
    let (narrow, place) = (narrow(args.narrow), args.what.to_string_lossy().into_owned());
    if !check::is_bundle(&args.what)? {
        let order = check::OfManifest {
            manifest: args.what,
            narrow,
            mirrors: meant(&args.mirror)?,
            site: site(args.trust, args.expiry.allow_expired, Leave::default()),
            deep: args.deep,
            jobs: args.registry.jobs.into(),
        };
        let idle = args.rules.map(|_| "--rules").or(args.require_policy.map(|_| "--require-policy"));
        if let Some(flag) = idle {
            return Err(Error::new(
                Kind::Usage,
                format!("{flag} is for bundles: a release manifest has rules of its own"),
            ));
        }
        let options = registry_options(args.registry, &watch);
        return on_runtime(async move {
            let verdicts = order.judge(&registry::Client::new(options)?).await?;
            drop(watch);
            verdicts::judged(&verdicts, &place, form)?;
            verdicts.allow()
        });
    }
    if !args.mirror.is_empty() {
        return Err(Error::new(Kind::Usage, "--mirror is for release manifests: a bundle holds its images"));
    }
    if args.deep && args.rules.is_none() {
        return Err(Error::new(Kind::Usage, "--deep looks into a bundle by rules that are given")
            .hint("--rules release.toml names the release manifest that they stand in"));
    }
    let order = check::OfBundle {
        bundle: args.what,
        site: site(args.trust, args.expiry.allow_expired, Leave::default()),
        rules: args.rules,
        narrow,
        deep: args.deep,
        require_policy: args.require_policy,
    };
    on_runtime(async move {
        let checked = order.judge(&watch).await?;
        drop(watch);
        let demanded = checked.demanded();
        verdicts::checked(&checked, demanded.as_ref().err(), &place, form)?;
        checked.allow()?;
        demanded
    })
}

/// What standard input is called in messages.
const PIPE_IN: &str = "standard input";

/// `-` is standard input or output.
fn is_pipe(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// For what reads a bundle more than once, or writes beside it.
fn refuse_pipe(bundle: &Path) -> Result<()> {
    match is_pipe(bundle) {
        true => Err(Error::new(Kind::Usage, "this needs the bundle as a file, not a pipe")
            .hint("write it to a file first: cat > bundle.tar")),
        false => Ok(()),
    }
}

fn input() -> Result<Input> {
    let stdin = std::io::stdin();
    match stdin.is_terminal() {
        true => Err(Error::new(Kind::Usage, "a bundle is not read from a terminal").hint(
            "name the bundle's file, or pipe it: ssh builder sealift export … -o - | sealift import - …",
        )),
        false => Ok(Box::new(stdin)),
    }
}

/// Standard output, past the buffer that is meant for lines of text.
fn output() -> Result<Through<File>> {
    let place = "standard output".to_owned();
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Error::new(Kind::Usage, "a bundle is not written to a terminal")
            .hint("send it on: sealift export … -o - | ssh edge sealift import - --to …"));
    }
    let pipe = stdout.as_fd().try_clone_to_owned().map_err(|e| Error::io("cannot write", &place, &e))?;
    Ok(Through { pipe: File::from(pipe), place })
}

fn key_verb(verb: KeyVerb) -> Result<()> {
    match verb {
        KeyVerb::New { name, dir, no_passphrase, passphrase_file, json } => {
            let passphrase = match no_passphrase {
                true => None,
                false => Some(Passphrases::new(passphrase_file).choose(&name)?),
            };
            report::new_key(&key::new(&name, &dir, passphrase.as_ref())?, json)
        }
        KeyVerb::Show { key: path, minisign, passphrase_file, json } => {
            let passphrases = Passphrases::new(passphrase_file);
            let (public, what) = key::show(&path, || passphrases.of(&path))?;
            if minisign {
                return report::out(&minisign_key(&public));
            }
            let (id, pem) = (public.id().to_string(), public.to_pem()?);
            match json {
                true => report::json_out(&serde_json::json!({ "kind": what, "keyId": id, "publicKey": pem })),
                false => report::out(&format!("{what}, Ed25519\nkey id {id}\n{pem}")),
            }
        }
    }
}

fn sbom_verb(args: SbomArgs, progress: ProgressMode) -> Result<()> {
    refuse_pipe(&args.bundle)?;
    let asked = Asked {
        bundle: args.bundle,
        site: site(args.trust, args.expiry.allow_expired, Leave::default()),
        narrow: narrow(args.narrow),
        package: args.package,
    };
    let watch = progress::watcher(progress);
    on_runtime(async move {
        let listing = asked.list(&watch).await?;
        drop(watch);
        sbom::notes(&listing);
        match args.licenses {
            true => sbom::licences(&listing, args.output).await,
            false => sbom::packages(&listing, args.output).await,
        }
    })
}

fn serve_verb(args: ServeArgs, progress: ProgressMode) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
    let runtime = runtime(cores)?;
    let result = runtime.block_on(async {
        let end = signals()?;
        tokio::pin!(end);
        let (listener, server) = tokio::select! {
            ready = serving(args, progress) => ready?,
            () = &mut end => return Err(crate::content::file::ended()),
        };
        listener.run(server, end).await
    });
    runtime.shutdown_background();
    result
}

/// A registry that is ready, and said where it is.
async fn serving(args: ServeArgs, progress: ProgressMode) -> Result<(Listener, Arc<Server>)> {
    let site = site(
        args.trust,
        args.expiry.allow_expired,
        Leave { downgrade: args.allow_downgrade, ..Leave::default() },
    );
    let front = Front {
        address: args.listen,
        tls: args.tls_cert.zip(args.tls_key),
        self_signed: args.self_signed,
        plain_http: args.plain_http_anyway,
        htpasswd: args.htpasswd,
        anonymous_pull: args.anonymous_pull,
    };
    let writing = args.writable.then_some(serve::Writing { sparse: args.allow_sparse });
    let log = access_log(args.access_log.as_deref())?;
    let watch = progress::watcher(progress);
    // What is wrong with the address is said before gigabytes are read.
    let (socket, certificate, gate) = front.open().await?;
    let offer = serve::open(&args.what, &site, args.head_first, writing, &watch).await?;
    drop(watch);
    let tls = certificate.as_ref().map(Certificate::acceptor).transpose()?;
    report::serving(&socket, certificate.as_ref(), &offer.parts)?;
    let server = Server {
        holdings: offer.holdings,
        stock: offer.stock,
        gate,
        page: Page::new(offer.shown),
        trouble: Arc::new(report::failure),
    };
    Ok((Listener { socket, tls, limits: Limits::default(), log }, Arc::new(server)))
}

/// Where the lines of the access log go.
fn access_log(path: Option<&Path>) -> Result<Log> {
    let Some(path) = path else { return Ok(Arc::new(|_| {})) };
    if is_pipe(path) {
        return Ok(Arc::new(|line| {
            let _ = report::out(&report::access(&line));
        }));
    }
    let failed = |e: std::io::Error| Error::io("cannot write the access log", path.display(), &e);
    let file = File::options().append(true).create(true).open(path).map_err(failed)?;
    Ok(Arc::new(move |line| {
        use std::io::Write;
        // One write a line, so that lines of several threads do not mix.
        let _ = (&file).write_all(report::access(&line).as_bytes());
    }))
}

fn sign_verb(args: SignArgs, progress: ProgressMode) -> Result<()> {
    refuse_pipe(&args.bundle)?;
    if args.extract {
        let sums = sign::extract(&args.bundle)?;
        let output = args.output.unwrap_or_else(|| {
            let mut name = args.bundle.clone().into_os_string();
            name.push(".SHA256SUMS");
            PathBuf::from(name)
        });
        return match is_pipe(&output) {
            true => report::out(&sums),
            false => sign::write_new(&output, sums.as_bytes()),
        };
    }
    account::apart(&args.log, args.key.iter().chain([&args.bundle]).map(PathBuf::as_path))?;
    let account = account::open(&args.log, "sign", false)?;
    let kept = account.clone();
    account.about(args.bundle.display(), "");
    account::closed(&kept, signing(args, account, progress))
}

fn signing(args: SignArgs, account: Account, progress: ProgressMode) -> Result<()> {
    let watch = progress::watcher(progress);
    if let Some(signature) = args.attach {
        let ring = match &args.by {
            Some(path) => Keyring::of(key::show(path, || Passphrases::new(None).of(path))?.0, "--by"),
            None => Keyring::load(&args.trust)?,
        };
        return on_runtime(async move {
            let signed = sign::attach(&args.bundle, &signature, &ring, &account, watch.clone()).await?;
            account.done()?;
            drop(watch);
            report::signed(&signed, args.json)
        });
    }
    let path = args.key.unwrap_or_default();
    let key = Passphrases::new(args.passphrase_file).open(&path)?;
    on_runtime(async move {
        let signed = sign::sign(&args.bundle, &key, args.minisig, &account, watch.clone()).await?;
        account.done()?;
        drop(watch);
        report::signed(&signed, args.json)
    })
}

fn trust_verb(verb: TrustVerb, progress: ProgressMode) -> Result<()> {
    match verb {
        TrustVerb::Show { json, trust } => report::store(&Keyring::load(&trust)?, &trust, json),
        TrustVerb::Update { bundle, dry_run, json, trust, log } => {
            refuse_pipe(&bundle)?;
            let account = account::open(&log, "trust update", dry_run)?;
            account.about(bundle.display(), trust.trust.display());
            let site = site(trust, false, Leave::default());
            let watch = progress::watcher(progress);
            let update = trust::update(&bundle, &site, dry_run, &account, &*watch);
            let update =
                account::closed(&account, update.and_then(|update| account.done().map(|()| update)))?;
            drop(watch);
            report::updated(&update, &site.trust, dry_run, json)
        }
    }
}

fn store_verb(verb: StoreVerb, progress: ProgressMode) -> Result<()> {
    match verb {
        StoreVerb::Gc { directory, untagged, grace, dry_run, json } => on_runtime(async move {
            let swept = store::gc(&directory, Sweep { grace, untagged, dry_run }).await?;
            report::swept(&swept, &directory, json)
        }),
        StoreVerb::Check { directory, json } => on_runtime(async move {
            let watch = progress::watcher(progress);
            let checked = store::check(directory.clone(), watch.clone()).await?;
            drop(watch);
            report::checked(&checked, &directory, json)?;
            checked.verdict().map_err(|e| e.at(directory.display()))
        }),
        StoreVerb::Remove { directory, name, dry_run, json } => {
            let target = name.parse()?;
            on_runtime(async move {
                let removed = store::remove(&directory, &target, dry_run).await?;
                report::removed(&removed, json)
            })
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sealift", &mut script);
    report::out(&String::from_utf8_lossy(&script))
}

fn man(directory: Option<&Path>) -> Result<()> {
    let command = Cli::command();
    let Some(directory) = directory else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|e| Error::io("cannot render the manual page", "sealift.1", &e))?;
        return report::out(&String::from_utf8_lossy(&page));
    };
    clap_mangen::generate_to(command, directory)
        .map_err(|e| Error::io("cannot write the manual pages", directory.display(), &e))
}

/// What was typed, understood. Not left to the argument parser, which would drop the hints.
fn meant<T: FromStr<Err = Error>>(typed: &[String]) -> Result<Vec<T>> {
    typed.iter().map(|text| text.parse()).collect()
}

/// What bundles are judged by here.
fn site(args: TrustArgs, allow_expired: bool, leave: Leave) -> Site {
    let history = History::at(args.state.unwrap_or_else(state_directory));
    Site { trust: args.trust, history, allow_expired, leave }
}

/// Where a site's memory lies unless it is said: a place that lasts (Filesystem Hierarchy Standard
/// §5.8, XDG Base Directory Specification).
fn state_directory() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let system = || PathBuf::from("/var/lib/sealift");
    if rustix::process::geteuid().is_root() {
        return system();
    }
    let home = || variable("HOME").map(|home| home.join(".local/state"));
    variable("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(home)
        .map_or_else(system, |path| path.join("sealift"))
}

fn narrow(args: NarrowArgs) -> Narrow {
    Narrow { images: args.image, variants: args.variant, platforms: args.platform }
}

fn registry_options(args: RegistryArgs, watch: &Arc<dyn Watch>) -> registry::Options {
    let watch = watch.clone();
    registry::Options {
        ca: args.ca,
        plain_http: args.plain_http,
        tls: args.tls,
        note: Arc::new(move |text| watch.note(text)),
        ..registry::Options::default()
    }
}

/// reproducible-builds.org, "SOURCE_DATE_EPOCH".
fn source_date_epoch() -> Option<Result<Moment>> {
    let value = std::env::var_os("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty())?;
    Some(Moment::from_epoch_seconds(&value.to_string_lossy()))
}

fn runtime(cores: usize) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 8))
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start", "the runtime", &e))
}

/// Runs asynchronous work until it ends or a signal ends it.
fn on_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    require_files()?;
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
    let runtime = runtime(cores)?;
    let result = runtime.block_on(async {
        // Listening before the work begins: nothing may slip through in between.
        let signalled = signals()?;
        let result = tokio::select! {
            result = work => result,
            () = signalled => Err(crate::content::file::ended()),
        };
        wind_down().await;
        result
    });
    runtime.shutdown_background();
    result
}

/// Files that must be free to be opened before anything begins: the runtime's own, and a few.
const FILES: usize = 16;

/// The runtime does not start with fewer, and would not say so in a sentence.
fn require_files() -> Result<()> {
    let opened: std::io::Result<Vec<File>> = (0..FILES).map(|_| File::open("/dev/null")).collect();
    opened.map(drop).map_err(|e| {
        Error::io("cannot start", "the runtime", &e)
            .expected(format_args!("{FILES} files more that may be open"))
            .hint("raise the limit: ulimit -n 1024")
    })
}

/// Waits, though not for long, until everything that was cancelled has let go: only then are
/// temporary files removed.
async fn wind_down() {
    let tasks = tokio::runtime::Handle::current().metrics();
    for _ in 0..200 {
        if tasks.num_alive_tasks() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Completes when the user or the system wants the program to end.
fn signals() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).map_err(|e| Error::io("cannot listen for", "signals", &e));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    // A file that grows beyond `ulimit -f` is a failed write with a message, not a sudden death.
    let too_large = listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    Ok(async move {
        let _listening = too_large;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Where passphrases come from: a file or the terminal, never the command line.
struct Passphrases {
    file: Option<PathBuf>,
}

impl Passphrases {
    fn new(file: Option<PathBuf>) -> Self {
        Passphrases { file }
    }

    /// Opens a key for signing.
    fn open(&self, path: &Path) -> Result<SigningKey> {
        key::open(path, || self.of(path))
    }

    /// The passphrase of an existing key.
    fn of(&self, path: &Path) -> Result<Passphrase> {
        match &self.file {
            Some(file) => read_passphrase(file),
            None => ask(&format!("Passphrase for {}: ", path.display()), Kind::KeyDecrypt),
        }
    }

    /// A passphrase for a new key.
    fn choose(&self, name: &str) -> Result<Passphrase> {
        if let Some(file) = &self.file {
            return read_passphrase(file);
        }
        let first = ask(&format!("Passphrase for the new key {name}: "), Kind::Usage)?;
        if first.is_empty() {
            return Err(Error::new(Kind::Usage, "an empty passphrase")
                .hint("--no-passphrase leaves the key unencrypted, if that is meant"));
        }
        if *ask("The same again: ", Kind::Usage)? != *first {
            return Err(Error::new(Kind::Usage, "the two passphrases differ"));
        }
        Ok(first)
    }
}

fn ask(prompt: &str, kind: Kind) -> Result<Passphrase> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|_| {
        Error::new(kind, "a passphrase is needed and there is no terminal to ask on")
            .hint("--passphrase-file FILE (may be /dev/fd/3), or --no-passphrase when the key is made")
    })
}

/// The first line of a file, which may also be a pipe (`/dev/fd/3`).
fn read_passphrase(path: &Path) -> Result<Passphrase> {
    let failed = |e: std::io::Error| Error::io("cannot read the passphrase", path.display(), &e);
    // Room for all of it and more: a buffer that grows, or is too small to be read into, leaves copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * limits::KEY_FILE as usize));
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limits::KEY_FILE).read_to_end(&mut bytes).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(std::io::ErrorKind::InvalidData.into()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(
            Error::new(Kind::KeyDecrypt, "the passphrase file's first line is empty").at(path.display())
        );
    }
    Ok(Zeroizing::new(line.to_owned()))
}
