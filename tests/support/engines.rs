//! Other people's engines, each with all that it keeps in the test's own directory: podman, containerd
//! and docker. None of them starts a container.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{Run, Scratch, peer, run};

/// Whether these programs are there, and the kernel lets them work. Where they are not, see [`peer`];
/// where mounts are forbidden the test says that it is skipped, whatever is required: nothing that could be
/// installed would help.
fn can_run(programs: &[&str]) -> bool {
    if programs.iter().filter(|program| !peer(program)).count() > 0 {
        return false;
    }
    let probe = Command::new("unshare").args(["--mount", "true"]).output();
    let may = probe.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("skipped: {} must mount, and the kernel does not let this user", programs.join(" and "));
    }
    may
}

/// A daemon that has said it is ready; ended by its number when dropped.
struct Daemon(Child);

impl Daemon {
    /// Starts one, and reads its log until a line says this.
    fn start(mut command: Command, ready: &str) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, receive) = mpsc::channel();
        // Reads on when it is ready: nobody may wait for its log to be read.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| _ = send.send(line)));
        let daemon = Daemon(child);
        let mut said = String::new();
        while !said.contains(ready) {
            let line = receive.recv_timeout(Duration::from_secs(60));
            said += &line.unwrap_or_else(|e| panic!("not ready: {e}\n{said}"));
            said += "\n";
        }
        // The receiver may go: sending fails without harm.
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked to, it ends its own children.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// podman: no daemon, but a store.
pub struct Podman<'s> {
    scratch: &'s Scratch,
    options: String,
}

impl<'s> Podman<'s> {
    /// `None` where it is skipped.
    pub fn new(scratch: &'s Scratch) -> Option<Self> {
        if !can_run(&["podman"]) {
            return None;
        }
        fs::create_dir(scratch.path("podman")).unwrap();
        scratch.write("podman/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        scratch.write("podman/registries.conf", "");
        scratch.write("podman/containers.conf", "[engine]\nlock_type = \"file\"\n");
        let at = |name: &str| scratch.path("podman").join(name).display().to_string();
        let options = format!(
            "--root {} --runroot {} --tmpdir {} --storage-driver vfs --events-backend file --cgroup-manager cgroupfs",
            at("root"),
            at("runroot"),
            at("tmp")
        );
        Some(Podman { scratch, options })
    }

    /// `podman …`
    pub fn run(&self, arguments: &str) -> Run {
        let mut command = self.scratch.tool("podman", &format!("{} {arguments}", self.options));
        command.env("CONTAINERS_CONF", self.scratch.path("podman/containers.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.scratch.path("podman/registries.conf"));
        command.env("TMPDIR", self.scratch.path("podman"));
        run(command)
    }

    /// `podman pull …`, whatever this machine's policy is.
    pub fn pull(&self, arguments: &str) -> Run {
        self.run(&format!("pull --quiet --signature-policy podman/policy.json {arguments}"))
    }
}

/// containerd, and `ctr` to tell it what to do.
pub struct Containerd<'s> {
    scratch: &'s Scratch,
    /// Where it keeps everything, within the scratch directory.
    place: &'static str,
    _daemon: Daemon,
}

impl<'s> Containerd<'s> {
    /// `None` where it is skipped.
    pub fn start(scratch: &'s Scratch) -> Option<Self> {
        if !can_run(&["containerd", "ctr"]) {
            return None;
        }
        Some(Containerd::at(scratch, "containerd"))
    }

    fn at(scratch: &'s Scratch, place: &'static str) -> Self {
        fs::create_dir(scratch.path(place)).unwrap();
        let at = |name: &str| scratch.path(place).join(name).display().to_string();
        // What serves Kubernetes is not needed; what keeps programs in /opt would leave something there.
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("socket"),
            at("socket.ttrpc")
        );
        scratch.write(format!("{place}/config.toml"), config);
        let command = scratch.tool("containerd", &format!("--config {place}/config.toml"));
        Containerd { scratch, place, _daemon: Daemon::start(command, "containerd successfully booted") }
    }

    /// Says where a registry is mirrored (`hosts.toml`).
    pub fn mirror(&self, registry: &str, url: &str, more: &str) {
        let directory = self.scratch.path(self.place).join("hosts").join(registry);
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "server = \"https://{registry}\"\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n{more}\n"
        );
        fs::write(directory.join("hosts.toml"), text).unwrap();
    }

    /// `ctr …`
    pub fn ctr(&self, arguments: &str) -> Run {
        self.scratch.run("ctr", &format!("--address {}/socket {arguments}", self.place))
    }

    /// `ctr images pull …`
    pub fn pull(&self, arguments: &str) -> Run {
        self.ctr(&format!("images pull --hosts-dir {}/hosts --snapshotter native {arguments}", self.place))
    }

    /// The digest that a name has.
    pub fn digest(&self, name: &str) -> String {
        let listed = self.ctr(&format!("images ls name=={name}")).ok().stdout;
        listed.lines().nth(1).and_then(|line| line.split_whitespace().nth(2)).unwrap_or(&listed).to_owned()
    }

    /// The bytes of some content.
    pub fn content(&self, digest: &str) -> Vec<u8> {
        let mut command = self.scratch.tool("ctr", &format!("--address {}/socket content get", self.place));
        let output = command.arg(digest).output().unwrap();
        assert!(output.status.success(), "{digest}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// dockerd with its older image store, and `docker`.
pub struct Docker<'s> {
    scratch: &'s Scratch,
    // Ended in this order.
    _daemon: Daemon,
    _containerd: Containerd<'s>,
}

impl<'s> Docker<'s> {
    /// `None` where it is skipped.
    pub fn start(scratch: &'s Scratch) -> Option<Self> {
        if !can_run(&["dockerd", "docker", "containerd"]) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if !mounts.contains(" cgroup") {
            eprintln!("skipped: dockerd needs control groups, and none are mounted");
            return None;
        }
        let containerd = Containerd::at(scratch, "docker-containerd");
        fs::create_dir(scratch.path("docker")).unwrap();
        scratch.write("docker/daemon.json", "{}");
        let at = |name: &str| scratch.path("docker").join(name).display().to_string();
        let arguments = format!(
            "--config-file {} --data-root {} --exec-root {} --pidfile {} --host unix://{} --containerd {} \
             --storage-driver vfs --bridge none --iptables=false --ip6tables=false",
            at("daemon.json"),
            at("data"),
            at("exec"),
            at("pid"),
            at("socket"),
            scratch.path("docker-containerd/socket").display()
        );
        let daemon = Daemon::start(scratch.tool("dockerd", &arguments), "API listen on");
        Some(Docker { scratch, _daemon: daemon, _containerd: containerd })
    }

    /// `docker …`
    pub fn run(&self, arguments: &str) -> Run {
        let socket = self.scratch.path("docker/socket").display().to_string();
        self.scratch.run("docker", &format!("--host unix://{socket} {arguments}"))
    }
}
