//! `sealift serve` beside other servers of the same content, pulled from by the same client (`pull.rs`):
//! how fast, at what cost, and how soon it begins.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use super::contestants::{SEALIFT, SEALIFT_ZSTD};
use super::measure::Cost;
use super::pull::{Errand, Target, pull};
use super::report::{Row, Scale, Table};
use super::server::{Running, listening};
use super::set::Set;
use super::{Course, Outcome, Result, installed, read_all, shown, told, turn};

/// A server of the set.
pub struct Host {
    /// What it is called in the tables.
    pub name: &'static str,
    /// What it gives out, and how.
    pub remark: &'static str,
    /// What it needs to be installed.
    pub program: Option<&'static str>,
    start: fn(&Course) -> Result<Open>,
}

/// The servers, in the order of the tables.
pub const HOSTS: [Host; 5] = [
    Host {
        name: SEALIFT.name,
        remark: "serve: a registry straight from the bundle, all of which it has verified before",
        program: None,
        start: |course| sealift(&course.bundle(&SEALIFT, "bundle.tar")?, "", course),
    },
    Host {
        name: SEALIFT_ZSTD.name,
        remark: "serve: the same from a compressed bundle, frame by frame",
        program: None,
        start: |course| sealift(&course.bundle(&SEALIFT_ZSTD, "bundle.tar.zst")?, "", course),
    },
    Host {
        name: "sealift, store",
        remark: "serve: the same from the directory that docker-registry keeps its images in",
        program: None,
        start: |course| sealift(&course.source.data(), "store:", course),
    },
    Host {
        name: "docker-registry",
        remark: "serve: without an access log",
        program: Some("docker-registry"),
        start: |course| {
            Ok(Open { running: None, address: course.source.address(), input: course.source.data() })
        },
    },
    Host {
        name: "nginx",
        remark: "serve: the blobs as files, with sendfile and a process for each processor, without an access \
                 log; no registry",
        program: Some("nginx"),
        start: nginx,
    },
];

impl Host {
    /// Whether it can run here.
    pub fn is_installed(&self) -> bool {
        self.program.is_none_or(installed)
    }
}

/// A server that runs.
struct Open {
    /// Nothing where it is the one that the images come from.
    running: Option<Running>,
    address: String,
    /// What it reads.
    input: PathBuf,
}

impl Open {
    fn running<'a>(&'a self, course: &'a Course) -> &'a Running {
        self.running.as_ref().unwrap_or(course.source.running())
    }
}

/// What is pulled.
struct Load {
    title: &'static str,
    connections: usize,
    documents: bool,
    /// How many times the set's blobs; of documents, how many.
    amount: usize,
}

fn loads(requests: usize) -> [Load; 3] {
    let load = |title, connections, documents, amount| Load { title, connections, documents, amount };
    [
        load("serve: all blobs, one connection", 1, false, 1),
        load("serve: all blobs twice, 64 connections", 64, false, 2),
        load("serve: manifests, 64 connections", 64, true, requests),
    ]
}

impl Load {
    fn targets(&self, set: &Set, host: &Host) -> Vec<Target> {
        let parts = if self.documents { set.documents() } else { set.blobs() };
        let kind = if self.documents { "manifests" } else { "blobs" };
        let target = |(hex, repository): (&str, &str)| Target {
            path: match host.name {
                "nginx" => format!("/{hex}"),
                _ => format!("/v2/{repository}/{kind}/sha256:{hex}"),
            },
            hex: hex.to_owned(),
            size: set.sizes.get(hex).copied().unwrap_or_default(),
        };
        parts.into_iter().map(target).collect()
    }

    fn times(&self, targets: usize) -> usize {
        if self.documents { self.amount.div_ceil(targets.max(1)) } else { self.amount }
    }

    fn scale(&self, set: &Set) -> Scale {
        let parts = if self.documents { set.documents() } else { set.blobs() };
        let times = self.times(parts.len()) as f64;
        let bytes = parts.keys().filter_map(|hex| set.sizes.get(*hex)).sum::<u64>() as f64;
        match self.documents {
            true => Scale::Flow { unit: "requests", thousands: parts.len() as f64 * times / 1e3 },
            false => Scale::Flow { unit: "MB", thousands: bytes * times / 1e9 },
        }
    }
}

impl Course {
    /// All loads and all servers, in turns.
    pub fn serve(&self, hosts: &[&'static Host], runs: u32, requests: usize) -> Result<Vec<Table>> {
        let mut open = Vec::new();
        for host in hosts {
            open.push((*host, (host.start)(self)?));
        }
        let mut tables = Vec::new();
        for load in loads(requests) {
            tables.push(self.pulled(&load, &open, runs)?);
        }
        drop(open);
        tables.push(self.started(runs)?);
        tables.iter().for_each(Table::print);
        Ok(tables)
    }

    fn pulled(&self, load: &Load, open: &[(&'static Host, Open)], runs: u32) -> Result<Table> {
        let rows = open.iter().map(|(host, _)| (host.name, Row::default())).collect();
        let mut table = Table { step: load.title, scale: load.scale(&self.set), rows };
        for round in 0..=runs {
            let mut turns: Vec<_> = table.rows.iter_mut().zip(open).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for ((_, row), (host, open)) in turns {
                if row.failure.is_none() {
                    let outcome = self.pull(load, host, open, round == 0)?;
                    eprintln!("{}, {}, {}: {}", load.title, host.name, turn(round, runs), told(&outcome));
                    row.add(round, outcome);
                }
            }
        }
        Ok(table)
    }

    /// One run; the one that does not count looks at every byte.
    fn pull(&self, load: &Load, host: &Host, open: &Open, hashed: bool) -> Result<Outcome> {
        let targets = load.targets(&self.set, host);
        let errand = Errand {
            address: &open.address,
            targets: &targets,
            times: load.times(targets.len()),
            connections: load.connections,
            hashed,
        };
        read_all(&open.input)?;
        let running = open.running(self);
        running.forget_peak()?;
        let before = running.cpu();
        let outcome = pull(&errand)?;
        Ok(outcome.map(|took| Cost {
            wall: took.as_secs_f64(),
            registry_cpu: running.cpu() - before,
            memory: running.peak(),
            ..Cost::default()
        }))
    }

    /// From the command to the first answer, with everything and with one image.
    fn started(&self, runs: u32) -> Result<Table> {
        let all = self.bundle(&SEALIFT, "bundle.tar")?;
        let one = self.bundle_of_one()?;
        let ways = [
            (SEALIFT.name, &all, false),
            ("sealift --head-first", &all, true),
            ("sealift, one image", &one, false),
            ("sealift --head-first, one image", &one, true),
        ];
        let rows = ways.iter().map(|(name, ..)| (*name, Row::default())).collect();
        let mut table =
            Table { step: "serve: from the command to the first answer", scale: Scale::Carry, rows };
        for round in 0..=runs {
            for ((_, row), (_, bundle, head_first)) in table.rows.iter_mut().zip(ways) {
                read_all(bundle)?;
                let began = Instant::now();
                let open = start_sealift(bundle, "", head_first, self)?;
                let target = Target { path: "/v2/".to_owned(), hex: String::new(), size: 2 };
                let errand = Errand {
                    address: &open.address,
                    targets: &[target],
                    times: 1,
                    connections: 1,
                    hashed: false,
                };
                let outcome = pull(&errand)?.map(|_| Cost {
                    wall: began.elapsed().as_secs_f64(),
                    cpu: open.running(self).cpu(),
                    memory: open.running(self).peak(),
                    ..Cost::default()
                });
                row.add(round, outcome);
            }
        }
        Ok(table)
    }

    /// A bundle that sealift has exported.
    fn bundle(&self, of: &'static super::Contestant, name: &str) -> Result<PathBuf> {
        Ok(self.carried(of)??.join(name))
    }

    /// A bundle with the first image only.
    fn bundle_of_one(&self) -> Result<PathBuf> {
        let kept = self.place.join("one.tar");
        let name = self.set.images.first().map_or("", |image| image.name.as_str());
        let script = format!("{} --image {name}", SEALIFT.export.unwrap_or_default());
        self.emptied_places()?;
        self.order_of(&script, &[("SOURCE", self.source.address())]).run()??;
        std::fs::rename(self.out().join("bundle.tar"), &kept)?;
        Ok(kept)
    }
}

fn sealift(input: &Path, kind: &str, course: &Course) -> Result<Open> {
    start_sealift(input, kind, false, course)
}

fn start_sealift(input: &Path, kind: &str, head_first: bool, course: &Course) -> Result<Open> {
    let trust = course.place.join("trust");
    let mut running = Running::start(|command| {
        command.arg(env!("CARGO_BIN_EXE_sealift")).arg("serve").arg(format!("{kind}{}", shown(input)));
        command.arg("--trust").arg(trust).args(["--listen", "127.0.0.1:0", "--progress", "none"]);
        command.args(head_first.then_some("--head-first"));
        command.env("SEALIFT_STATE", course.place.join("state")).stdout(Stdio::piped());
    })?;
    let said = running.says().0.ok_or("sealift says nothing")?;
    let port = listening(said, "serving at http://127.0.0.1:")?;
    Ok(Open { running: Some(running), address: format!("127.0.0.1:{port}"), input: input.to_owned() })
}

/// Debian's configuration as far as files are concerned: sendfile, tcp_nopush, a process for each processor.
fn nginx(course: &Course) -> Result<Open> {
    let place = course.place.join("nginx");
    super::emptied(&place)?;
    // It takes over a socket that is bound already, as it does from an older one of itself when it is
    // replaced: no port to be guessed, and none to wait for.
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    // Its own are: a process that waited for the next client would forget those that it has.
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?.to_string();
    let input = course.set.root.join("blobs/sha256");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path '{}';\n", place.join(name).display()));
    let text = format!(
        "user root;\nworker_processes auto;\ndaemon off;\npid '{}';\nevents {{}}\nhttp {{\n\
         access_log off;\nsendfile on;\ntcp_nopush on;\n{}\
         server {{ listen {address}; root '{}'; }}\n}}\n",
        place.join("pid").display(),
        temporary.concat(),
        input.display()
    );
    let config = place.join("nginx.conf");
    std::fs::write(&config, text)?;
    let running = Running::start(|command| {
        command.args(["nginx", "-e"]).arg(place.join("errors")).arg("-c").arg(&config);
        command.stdin(std::os::fd::OwnedFd::from(socket)).env("NGINX", "0;");
    })?;
    Ok(Open { running: Some(running), address, input })
}
