//! sealift beside the programs that people use for the same errand, and beside the limit: what somebody
//! with curl and openssl could reach who knew every digest beforehand.
//!
//! ```text
//! cargo bench --bench versus [-- --size small] [--runs 5] [--only export,serve] [--layout DIR] [--keep]
//! ```
//!
//! Everything happens on this machine: images of about two gigabytes are made (once), loaded into a
//! docker-registry on a loopback port, carried from there into empty ones, and served. All runs of a step are
//! interleaved, forwards and then backwards, so that a slow minute of the machine hits all alike. Before
//! each run its input is read once (so it is in memory) and dirty pages are written out. Each result is
//! looked at; who leaves something out has failed and has no time. The whole takes half an hour and 25 GB
//! below the target directory, where only the images stay.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark tells on the terminal what it found"
)]

mod check;
mod contestants;
mod limit;
mod measure;
mod pull;
mod report;
mod server;
mod serving;
mod set;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use sealift::oci::media;
use serde_json::json;

use contestants::{Contestant, Lanes, OTHERS, SEALIFT, SEALIFT_PIPE, SEALIFT_ZSTD};
use measure::{Cost, Order};
use report::{Row, Scale, Table};
use server::Server;
use serving::{HOSTS, Host};
use set::Set;

/// Whatever goes wrong ends the benchmark, and is told.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(name = "versus", about = "Measures sealift beside its peers")]
struct Arguments {
    /// Ship all images of this OCI layout instead of made ones.
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,
    /// Runs that count, after one that does not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How much is made to be shipped.
    #[arg(long, value_enum, default_value_t = Size::Big)]
    size: Size,
    /// Only these steps.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Step>,
    /// Only contestants whose names contain one of these; sealift always runs.
    #[arg(long, value_delimiter = ',')]
    who: Vec<String>,
    /// Leave the exported files and the registries' files in place.
    #[arg(long)]
    keep: bool,
    /// Print every command, with what it leaves out, and run nothing.
    #[arg(long)]
    commands: bool,
    /// What cargo adds when it runs a benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    Small,
    Big,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    Export,
    Verify,
    Import,
    Reimport,
    Serve,
}

impl Step {
    const ALL: [Step; 5] = [Step::Export, Step::Verify, Step::Import, Step::Reimport, Step::Serve];

    fn title(self) -> &'static str {
        match self {
            Step::Export => "export: from the registry into files",
            Step::Verify => "verify: are the files what they were?",
            Step::Import => "import: from the files into an empty registry",
            Step::Reimport => "re-import: the same once more, with nothing to do",
            Step::Serve => "serve: out of the files to clients",
        }
    }

    fn script(self, of: &Contestant) -> Option<&'static str> {
        match self {
            Step::Export => of.export,
            Step::Verify => of.verify,
            Step::Import => of.import,
            // Lists for curl say what to send, not what is missing.
            Step::Reimport => of.import.filter(|_| of.limit.is_none()),
            // Not a script: see `serving.rs`.
            Step::Serve => None,
        }
    }
}

fn main() -> ExitCode {
    match begin() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<u8> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == measure::HELPER => return measure::help(arguments),
        Some(first) if first == server::SERVER => {
            return server::become_server(arguments);
        }
        _ => {}
    }
    let arguments = Arguments::parse();
    if arguments.commands {
        print_commands();
    } else if arguments.bench {
        bench(&arguments)?;
    } else {
        // `cargo test --all-targets` runs benchmarks without that argument, to see that they start.
        println!("to measure: cargo bench --bench versus");
    }
    Ok(0)
}

fn print_commands() {
    for contestant in [SEALIFT, SEALIFT_ZSTD, SEALIFT_PIPE].iter().chain(OTHERS) {
        let untried = if contestant.tried { "" } else { " (from its documentation, not tried)" };
        println!("# {}: {}{untried}", contestant.name, contestant.remark);
        let scripts =
            [("export", contestant.export), ("verify", contestant.verify), ("import", contestant.import)];
        for (step, script) in scripts {
            if let Some(script) = script {
                println!("\n## {step}\n{script}");
            }
        }
        println!();
    }
    for host in &HOSTS {
        println!("# {}: {}", host.name, host.remark);
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    for program in ["docker-registry", "curl", "sh", "xargs", "paste"] {
        if !installed(program) {
            return Err(format!("{program} is not installed, and nothing can be measured without it").into());
        }
    }
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("versus");
    let place = root.join("run");
    emptied(&place)?;
    let measured =
        Course::prepare(arguments, &root, &place).and_then(|course| course.measure(arguments, &root));
    if !arguments.keep {
        fs::remove_dir_all(&place)?;
    }
    measured
}

/// All that the runs have in common.
struct Course {
    place: PathBuf,
    set: Set,
    source: Server,
    contestants: Vec<&'static Contestant>,
    hosts: Vec<&'static Host>,
    absent: Vec<&'static str>,
    skipped: Vec<&'static str>,
}

/// How one run ended.
type Outcome = std::result::Result<Cost, String>;

impl Course {
    fn prepare(arguments: &Arguments, root: &Path, place: &Path) -> Result<Self> {
        eprintln!("making the images");
        let set = match (&arguments.layout, arguments.size) {
            (Some(layout), _) => Set::read(&fs::canonicalize(layout)?)?,
            (None, Size::Big) => Set::made(&set::BIG, root)?,
            (None, Size::Small) => Set::made(&set::SMALL, root)?,
        };
        for directory in ["lists", "carried", "notes"] {
            fs::create_dir(place.join(directory))?;
        }
        let asked = |name: &str| {
            name == SEALIFT.name
                || arguments.who.is_empty()
                || arguments.who.iter().any(|part| name.contains(part.as_str()))
        };
        let (there, absent): (Vec<_>, Vec<_>) =
            OTHERS.iter().partition(|of| of.programs.iter().all(|program| installed(program)));
        let (hosts, absent_hosts): (Vec<_>, Vec<_>) = HOSTS.iter().partition(|host| host.is_installed());
        let absent = absent.iter().map(|of| of.name).chain(absent_hosts.iter().map(|host| host.name));
        let mut course = Course {
            place: place.to_owned(),
            source: Server::start(&place.join("source"))?,
            set,
            contestants: vec![&SEALIFT],
            hosts,
            absent: absent.collect(),
            skipped: Vec::new(),
        };
        course.write_inputs()?;
        course.load_source()?;
        course.probe()?;
        course.contestants.extend(there);
        course.contestants.retain(|of| asked(of.name));
        course.hosts.retain(|host| asked(host.name));
        course.require_room()?;
        Ok(course)
    }

    /// What the scripts read.
    fn write_inputs(&self) -> Result<()> {
        fs::write(self.place.join("release.toml"), self.set.release())?;
        fs::write(self.place.join("images"), self.set.list())?;
        let trust = self.place.join("trust");
        fs::create_dir(&trust)?;
        let key = r#""$SEALIFT" key new release --no-passphrase --dir "$OUT" && chmod go-w "$TRUST""#;
        let order = self.order_of(key, &[]);
        self.emptied_places()?;
        order.run()?.map_err(|failure| format!("sealift key: {failure}"))?;
        for name in ["release.key.pem", "release.pub.pem"] {
            fs::rename(self.out().join(name), self.place.join(name))?;
        }
        fs::copy(self.place.join("release.pub.pem"), trust.join("release.pub.pem"))?;
        Ok(())
    }

    fn load_source(&self) -> Result<()> {
        eprintln!("loading {} images, {} MB", self.set.images.len(), self.set.bytes() / 1_000_000);
        limit::import_lists(&self.set, &self.source.address(), 4, &self.lists())?;
        let variables = [("IN", shown(&self.set.root)), ("TARGET", self.source.address())];
        self.emptied_places()?;
        self.order_of(contestants::LIMIT_IMPORT, &variables).run()??;
        self.source.has(&self.set)?;
        Ok(())
    }

    /// Told before anything is measured, not by the contestant that happens to find the disk full.
    fn require_room(&self) -> Result<()> {
        let carried = self.contestants.iter().filter(|of| of.import.is_some() && of.limit.is_none()).count();
        // What each carries over, with layers that are in several of its files; a target; what one is
        // writing, and what it has in between.
        let needed = self.set.bytes() * (carried as u64 * 13 + 40) / 10;
        let facts = rustix::fs::statvfs(&self.place)?;
        let free = facts.f_bavail * facts.f_frsize;
        match free >= needed {
            true => Ok(()),
            false => Err(format!(
                "{} has {} MB left, and this needs {} MB",
                self.place.display(),
                free / 1_000_000,
                needed / 1_000_000
            )
            .into()),
        }
    }

    /// Whether this sealift can write what not every sealift can: tried with one image.
    fn probe(&mut self) -> Result<()> {
        let first = self.set.images.first().map_or("", |image| image.name.as_str());
        for contestant in [&SEALIFT_ZSTD, &SEALIFT_PIPE] {
            let (name, begins): (_, &[u8]) = match contestant.name == SEALIFT_PIPE.name {
                true => ("bundle.tar", b"bundle/SHA256SUMS"),
                false => ("bundle.tar.zst", &[0x28, 0xb5, 0x2f, 0xfd]),
            };
            let script = contestant.export.unwrap_or_default();
            let script = script.replace("\"$RELEASE\"", &format!("\"$RELEASE\" --image {first}"));
            self.emptied_places()?;
            // Whatever it says: what counts is whether the file is of that kind.
            let _ = self.order_of(&script, &[("SOURCE", self.source.address())]).run()?;
            match fs::read(self.out().join(name)).is_ok_and(|bytes| bytes.starts_with(begins)) {
                true => self.contestants.push(contestant),
                false => self.skipped.push(contestant.name),
            }
        }
        Ok(())
    }

    fn measure(&self, arguments: &Arguments, root: &Path) -> Result<()> {
        let asked = |step: &Step| arguments.only.is_empty() || arguments.only.contains(step);
        let steps: Vec<Step> = Step::ALL.into_iter().filter(asked).collect();
        self.print_head(arguments.runs);
        let mut tables = Vec::new();
        if steps.contains(&Step::Export) {
            tables.push(self.step(Step::Export, arguments.runs)?);
        }
        if steps.contains(&Step::Verify) {
            tables.push(self.step(Step::Verify, arguments.runs)?);
        }
        if steps.contains(&Step::Import) || steps.contains(&Step::Reimport) {
            tables.extend(self.imports(&steps, arguments.runs)?);
        }
        if steps.contains(&Step::Serve) {
            let requests = if arguments.size == Size::Small { 1_000 } else { 10_000 };
            tables.extend(self.serve(&self.hosts, arguments.runs, requests)?);
        }
        self.print_remarks();
        let report = root.join("report.json");
        fs::write(&report, serde_json::to_vec_pretty(&self.report(arguments.runs, &tables))?)?;
        println!("\nall numbers: {}", report.display());
        match tables.iter().find_map(|table| table.failure_of(SEALIFT.name)) {
            Some(failure) => Err(format!("sealift failed: {failure}").into()),
            None => Ok(()),
        }
    }

    /// One step, all contestants.
    fn step(&self, step: Step, runs: u32) -> Result<Table> {
        let table = self.rounds(step, runs, |of| Ok(vec![self.run(step, of, None)?]))?.remove(0);
        table.print();
        Ok(table)
    }

    /// Import, and re-import into what it filled.
    fn imports(&self, asked: &[Step], runs: u32) -> Result<Vec<Table>> {
        let mut tables = self.rounds(Step::Import, runs, |of| {
            let target = Server::start(&self.place.join("target"))?;
            let import = self.run(Step::Import, of, Some(&target))?;
            let mut outcomes = vec![import];
            let again = asked.contains(&Step::Reimport) && Step::Reimport.script(of).is_some();
            if again && outcomes.iter().all(std::result::Result::is_ok) {
                outcomes.push(self.run(Step::Reimport, of, Some(&target))?);
            }
            Ok(outcomes)
        })?;
        for table in &mut tables {
            table.rows.retain(|(_, row)| row.failure.is_some() || !row.costs.is_empty());
        }
        tables.retain(|table| asked.iter().any(|step| step.title() == table.step));
        tables.iter().for_each(Table::print);
        Ok(tables)
    }

    /// Lets all who take part run in turns, forwards and backwards: the first round warms up.
    fn rounds(
        &self,
        step: Step,
        runs: u32,
        run: impl Fn(&'static Contestant) -> Result<Vec<Outcome>>,
    ) -> Result<Vec<Table>> {
        let part = self.contestants.iter().copied().filter(|of| step.script(of).is_some());
        let part: Vec<&'static Contestant> = part.collect();
        let mut tables: Vec<Table> = Vec::new();
        let steps: &[Step] = if step == Step::Import { &[Step::Import, Step::Reimport] } else { &[step] };
        for step in steps {
            let rows = part.iter().map(|of| (of.name, Row::default())).collect();
            tables.push(Table { step: step.title(), scale: Scale::Carry, rows });
        }
        for round in 0..=runs {
            let mut turns: Vec<_> = part.iter().copied().enumerate().collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for (number, of) in turns {
                if tables
                    .iter()
                    .any(|table| table.rows.get(number).is_some_and(|(_, row)| row.failure.is_some()))
                {
                    continue;
                }
                let outcomes = run(of)?;
                for (table, outcome) in tables.iter_mut().zip(outcomes) {
                    let Some((_, row)) = table.rows.get_mut(number) else { continue };
                    let step = table.step.split(':').next().unwrap_or_default();
                    eprintln!("{step}, {}, {}: {}", of.name, turn(round, runs), told(&outcome));
                    row.add(round, outcome);
                }
            }
        }
        Ok(tables)
    }

    /// One run of one step by one contestant, and a look at what came of it.
    fn run(&self, step: Step, of: &Contestant, target: Option<&Server>) -> Result<Outcome> {
        let script = step.script(of).unwrap_or_default();
        let input = match (step, of.limit) {
            (Step::Export, _) => self.source.data(),
            // The limit needs no export: the layout has the same files.
            (_, Some(_)) => self.set.root.clone(),
            (_, None) => match self.carried(of)? {
                Ok(carried) => carried,
                Err(failure) => return Ok(Err(failure)),
            },
        };
        self.write_lists(step, of, target)?;
        let address = target.map(Server::address).unwrap_or_default();
        let variables = [("IN", shown(&input)), ("TARGET", address), ("SOURCE", self.source.address())];
        self.emptied_places()?;
        read_all(&input)?;
        rustix::fs::sync();
        let server = target.unwrap_or(&self.source);
        let before = server.running().cpu();
        let outcome = self.order_of(script, &variables).run()?;
        let registry_cpu = if step == Step::Verify { 0.0 } else { server.running().cpu() - before };
        let Ok(cost) = outcome else { return Ok(outcome) };
        let checked = match (step, target) {
            (Step::Export, _) => check::exported(&self.set, &self.out())?,
            (_, Some(target)) => target.has(&self.set),
            (_, None) => Ok(()),
        };
        if step == Step::Export && checked.is_ok() {
            self.carry(of)?;
        }
        Ok(checked.map(|()| Cost { registry_cpu, ..cost }))
    }

    /// Keeps the files of a contestant's first export, for its imports.
    fn carry(&self, of: &Contestant) -> Result<()> {
        let kept = self.place.join("carried").join(of.name);
        let served = of.name == SEALIFT_ZSTD.name;
        let needed = served || of.limit.is_none() && (of.import.is_some() || of.verify.is_some());
        if needed && !kept.exists() {
            fs::rename(self.out(), kept)?;
        }
        Ok(())
    }

    /// The files that a contestant has exported; does that now, where it was not asked for.
    fn carried(&self, of: &Contestant) -> Result<std::result::Result<PathBuf, String>> {
        let kept = self.place.join("carried").join(of.name);
        if !kept.exists()
            && let Err(failure) = self.run(Step::Export, of, None)?
        {
            return Ok(Err(format!("its export failed: {failure}")));
        }
        Ok(Ok(kept))
    }

    fn write_lists(&self, step: Step, of: &Contestant, target: Option<&Server>) -> Result<()> {
        let lanes = match of.limit {
            None => return Ok(()),
            Some(Lanes::Fixed(lanes)) => lanes,
            Some(Lanes::Cores) => cores(),
        };
        match (step, target) {
            (Step::Export, _) => limit::export_lists(&self.set, &self.source.address(), lanes, &self.lists()),
            (_, Some(target)) => limit::import_lists(&self.set, &target.address(), lanes, &self.lists()),
            (_, None) => limit::verify_lists(&self.set, lanes, &self.lists()),
        }
    }

    fn out(&self) -> PathBuf {
        self.place.join("out")
    }

    fn lists(&self) -> PathBuf {
        self.place.join("lists")
    }

    fn emptied_places(&self) -> Result<()> {
        emptied(&self.out())?;
        emptied(&self.place.join("work"))?;
        for directory in ["tmp", "home"] {
            fs::create_dir(self.place.join("work").join(directory))?;
        }
        Ok(())
    }

    /// A script with all of its variables; those of `more` win.
    fn order_of(&self, script: &str, more: &[(&'static str, String)]) -> Prepared {
        let work = self.place.join("work");
        let mut variables = vec![
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("SEALIFT", env!("CARGO_BIN_EXE_sealift").to_owned()),
            ("IMAGES", shown(&self.place.join("images"))),
            ("RELEASE", shown(&self.place.join("release.toml"))),
            ("KEY", shown(&self.place.join("release.key.pem"))),
            ("TRUST", shown(&self.place.join("trust"))),
            ("SEALIFT_STATE", shown(&self.place.join("state"))),
            ("LISTS", shown(&self.lists())),
            ("ACCEPT", media::ACCEPT.to_owned()),
            ("OUT", shown(&self.out())),
            ("TMPDIR", shown(&work.join("tmp"))),
            ("HOME", shown(&work.join("home"))),
        ];
        variables.extend_from_slice(more);
        let notes = self.place.join("notes");
        Prepared { script: script.to_owned(), variables, out: self.out(), work, notes }
    }

    fn print_head(&self, runs: u32) {
        println!(
            "# versus\n\n{} images, {} blobs and documents, {} MB; medians of {runs} runs; {} processors; {}",
            self.set.images.len(),
            self.set.sizes.len(),
            self.set.bytes() / 1_000_000,
            cores(),
            report::versions(["docker-registry"].into_iter()).into_values().collect::<String>(),
        );
        if !self.absent.is_empty() {
            println!("not installed: {}", self.absent.join(", "));
        }
        if !self.skipped.is_empty() {
            println!("skipped, as this sealift cannot do it: {}", self.skipped.join("; "));
        }
    }

    fn print_remarks(&self) {
        println!("\nWhat each of them does (its commands: --commands):\n");
        for of in &self.contestants {
            let untried = if of.tried { "" } else { "; commands from its documentation, not tried before" };
            println!("- {}: {}{untried}", of.name, of.remark);
        }
        for host in &self.hosts {
            println!("- {}: {}", host.name, host.remark);
        }
    }

    fn report(&self, runs: u32, tables: &[Table]) -> serde_json::Value {
        let programs = self.contestants.iter().flat_map(|of| of.programs.iter().copied());
        let hosts = self.hosts.iter().filter_map(|host| host.program);
        let mut versions = report::versions(programs.chain(hosts).chain(["docker-registry"]));
        versions.insert("sealift", report::version(env!("CARGO_BIN_EXE_sealift")));
        json!({
            "set": {
                "images": self.set.images.len(),
                "pieces": self.set.sizes.len(),
                "bytes": self.set.bytes(),
            },
            "runs": runs,
            "processors": cores(),
            "programs": versions,
            "notInstalled": self.absent,
            "skipped": self.skipped,
            "steps": tables.iter().map(Table::json).collect::<Vec<_>>(),
        })
    }
}

/// A script that is ready to be run.
struct Prepared {
    script: String,
    variables: Vec<(&'static str, String)>,
    out: PathBuf,
    work: PathBuf,
    notes: PathBuf,
}

impl Prepared {
    fn run(&self) -> Result<Outcome> {
        measure::run(&Order {
            script: &self.script,
            variables: &self.variables,
            out: &self.out,
            work: &self.work,
            notes: &self.notes,
        })
    }
}

fn turn(round: u32, runs: u32) -> String {
    if round == 0 { "warm-up".to_owned() } else { format!("{round} of {runs}") }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Ok(cost) => format!("{:.2} s", cost.wall),
        Err(failure) => format!("failed: {failure}"),
    }
}

/// How many processors there are.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, |count| count.get())
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Makes a directory, or makes it empty.
pub fn emptied(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(fs::create_dir_all(directory)?)
}

/// Reads all files once, so that every run finds its input in memory.
fn read_all(directory: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let mut file = fs::File::open(entry.path())?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}
