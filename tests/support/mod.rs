//! What the tests share: a scratch directory in which commands run as a user would type them, tiny
//! images, bundles taken apart and put together again, and servers to talk to.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot be set up has failed"
)]

pub mod browser;
pub mod charts;
pub mod dice;
pub mod engines;
pub mod evidence;
pub mod images;
pub mod lying;
pub mod odd;
pub mod parts;
pub mod proxy;
pub mod pushing;
pub mod registry;
pub mod running;
pub mod serving;
pub mod site;
pub mod stick;
pub mod tarballs;
pub mod verdict;
pub mod worlds;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use images::{Image, Layout};

/// The release that most tests ship: one engine in three variants and a sidecar, for three platforms.
pub const RELEASE: &str = r#"schema    = 1
name      = "nexus-engine"
version   = "2.1.0"
tier      = "sovereign"
channel   = "production"
registry  = "registry.example.com"
platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7"]

[[image]]
name       = "engine"
repository = "nexus/engine"
tags       = { standard = "{version}", distroless = "{version}-distroless", edge = "{version}-edge" }
also_tag   = ["{major}.{minor}"]

[[image]]
name       = "agent"
repository = "nexus/agent"
tags       = { standard = "{version}" }
also_tag   = ["{major}.{minor}"]
"#;

/// The names that the release has, without the registry, and the variant's own tag among them.
pub const NAMES: [(&str, &str); 8] = [
    ("nexus/engine:2.1.0", "nexus/engine:2.1.0"),
    ("nexus/engine:2.1", "nexus/engine:2.1.0"),
    ("nexus/engine:2.1.0-distroless", "nexus/engine:2.1.0-distroless"),
    ("nexus/engine:2.1-distroless", "nexus/engine:2.1.0-distroless"),
    ("nexus/engine:2.1.0-edge", "nexus/engine:2.1.0-edge"),
    ("nexus/engine:2.1-edge", "nexus/engine:2.1.0-edge"),
    ("nexus/agent:2.1.0", "nexus/agent:2.1.0"),
    ("nexus/agent:2.1", "nexus/agent:2.1.0"),
];

/// A release of one image with one platform: the smallest bundle.
pub const SMALL: &str = r#"schema   = 1
name     = "small"
version  = "1.0.0"
tier     = "community"
channel  = "development"
registry = "registry.example.com"

[[image]]
name       = "tool"
repository = "tools/tool"
tags       = { standard = "{version}" }
"#;

/// A release of one image with two names.
pub const HEAVY: &str = r#"schema   = 1
name     = "heavy"
version  = "1.0.0"
tier     = "community"
channel  = "development"
registry = "registry.example.com"

[[image]]
name       = "tool"
repository = "tools/tool"
tags       = { standard = "{version}" }
also_tag   = ["{major}"]
"#;

/// The names that it has.
pub const HEAVY_NAMES: [(&str, &str); 2] = [("tools/tool", "1.0.0"), ("tools/tool", "1")];

/// The export that most tests begin with.
pub const EXPORT: &str =
    "export release.toml -o bundle.tar --key release.key.pem --mirror registry.example.com=oci:images";

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Run {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn of(command: String, output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Run {
            command,
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Requires success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Requires this failure: exit code, and the kind that the message ends in. Nothing may have
    /// gone to standard output, which is for results.
    #[track_caller]
    pub fn fails(self, code: i32, kind: &str) -> Self {
        assert!(self.is_failure(code, kind), "expected exit {code} [{kind}]\n{self}");
        self
    }

    /// Whether it is this failure.
    pub fn is_failure(&self, code: i32, kind: &str) -> bool {
        let messages: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        self.code == code
            && self.stdout.is_empty()
            && messages.len() == 1
            && messages[0].ends_with(&format!(" [{kind}]"))
    }

    /// Requires this exit code; something may have gone to standard output.
    #[track_caller]
    pub fn code_is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Requires that the message says this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected {text:?}\n{self}");
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not one JSON document: {e}\n{self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Run { command, code, stdout, stderr } = self;
        write!(f, "$ {command}\nexit {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

/// A directory of its own for one test. Commands run in it, so that they read as a user types them.
pub struct Scratch(TempDir);

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        fs::create_dir(scratch.path("home")).unwrap();
        scratch
    }

    /// With the release's images in the layout `images`, `release.toml`, the key `release` and a
    /// trust store that holds it.
    pub fn with_release() -> Self {
        let scratch = Scratch::new();
        let mut layout = Layout::new(scratch.path("images"));
        for (variant, tag) in
            [("standard", "2.1.0"), ("distroless", "2.1.0-distroless"), ("edge", "2.1.0-edge")]
        {
            let image = Image { shared: vec!["application"], ..Image::new(&format!("engine {variant}")) };
            layout.add(&format!("registry.example.com/nexus/engine:{tag}"), &image);
        }
        let agent = Image { shared: vec!["application"], ..Image::new("agent") };
        layout.add("registry.example.com/nexus/agent:2.1.0", &agent);
        scratch.write("release.toml", RELEASE);
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        scratch
    }

    /// With one small image, and all else alike.
    pub fn with_small_release() -> Self {
        let scratch = Scratch::new();
        let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
        Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
        scratch.write("release.toml", SMALL);
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        scratch
    }

    /// With one image for two platforms that is heavy enough to be broken off in the middle: three layers
    /// of `layer` bytes.
    pub fn with_heavy_release(layer: usize) -> Self {
        let scratch = Scratch::new();
        let platforms = vec!["linux/amd64", "linux/arm64"];
        let image = Image { platforms, layer, shared: vec!["application"], ..Image::new("heavy") };
        Layout::new(scratch.path("images")).add("registry.example.com/tools/tool:1.0.0", &image);
        scratch.write("release.toml", HEAVY);
        scratch.key("release");
        scratch.trust("trust", &["release"]);
        scratch
    }

    /// And exported to `bundle.tar`.
    pub fn exported(self) -> Self {
        self.sealift(EXPORT).ok();
        self
    }

    /// Exports the small release once more, as another version and with more lines in its manifest,
    /// signed by these keys. The image stays what it is.
    #[track_caller]
    pub fn export_small(&self, bundle: &str, version: &str, more: &str, keys: &[&str]) {
        let release = SMALL
            .replace("version  = \"1.0.0\"", &format!("version  = \"{version}\"\n{more}"))
            .replace("\"{version}\"", "\"1.0.0\"");
        self.write(format!("{bundle}.toml"), release);
        let keys = match keys {
            [] => "--unsigned".to_owned(),
            keys => keys.iter().map(|key| format!("--key {key}.key.pem ")).collect(),
        };
        let from = "--mirror registry.example.com=oci:images";
        self.sealift(&format!("export {bundle}.toml -o {bundle} {from} {keys}")).ok();
    }

    /// Exports the small release, whose image is added, into a bundle beside what is there.
    #[track_caller]
    pub fn export_small_beside(&self, bundle: &str) {
        let image = Image { platforms: vec!["linux/amd64"], layer: 300, ..Image::new("tool") };
        Layout::new(self.path("tools")).add("registry.example.com/tools/tool:1.0.0", &image);
        self.write("small.toml", SMALL);
        let from = "--mirror registry.example.com=oci:tools";
        self.sealift(&format!("export small.toml -o {bundle} {from} --key release.key.pem")).ok();
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Reads a file.
    #[track_caller]
    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Whether there is something of this name.
    pub fn has(&self, name: impl AsRef<Path>) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Sets a mode.
    pub fn chmod(&self, name: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Requires that a failed export left nothing: neither the bundle nor what it is called before.
    #[track_caller]
    pub fn holds_no_bundle(&self) {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".tar")).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Requires that a failed export left nothing that looks finished. What had arrived may be kept.
    #[track_caller]
    pub fn holds_no_finished_bundle(&self) {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let unfinished = |name: &str| name.ends_with(".partial") || name.ends_with(".partial.journal");
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let left: Vec<_> = names.filter(|name| name.contains(".tar") && !unfinished(name)).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// `sealift …`, its arguments separated by spaces, without anything of the tester's environment.
    pub fn command(&self, arguments: &str) -> Command {
        self.tool(env!("CARGO_BIN_EXE_sealift"), arguments)
    }

    /// Runs `sealift …`.
    #[track_caller]
    pub fn sealift(&self, arguments: &str) -> Run {
        run(self.command(arguments))
    }

    /// Requires that nothing of an unfinished export is left.
    #[track_caller]
    pub fn holds_nothing_unfinished(&self) {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".partial")).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Removes a file if it is there.
    pub fn remove(&self, name: impl AsRef<Path>) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Copies the release's image into a registry, by skopeo.
    pub fn push_heavy(&self, registry: &registry::Registry) {
        let copy = format!(
            "--insecure-policy copy --all --preserve-digests --dest-tls-verify=false oci:images:registry.example.com/tools/tool:1.0.0 docker://{}/tools/tool:1.0.0",
            registry.address()
        );
        self.run("skopeo", &copy).ok();
    }

    /// Some other program.
    pub fn tool(&self, program: &str, arguments: &str) -> Command {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.path("home")).env("SEALIFT_STATE", self.path("home/state"));
        // As releases of the strict tiers ask for it.
        command.env("SEALIFT_AUDIT_LOG", self.path("home/audit.jsonl"));
        // Much is counted to the blob. Records have tests of their own: tests/records.rs.
        command.env("SEALIFT_NO_RECORD", "1");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs some other program.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &str) -> Run {
        run(self.tool(program, arguments))
    }

    /// Makes a key pair without a passphrase.
    #[track_caller]
    pub fn key(&self, name: &str) {
        self.sealift(&format!("key new {name} --no-passphrase")).ok();
    }

    /// Makes a trust store of these keys.
    pub fn trust(&self, store: &str, keys: &[&str]) {
        fs::create_dir(self.path(store)).unwrap();
        self.chmod(store, 0o755);
        for key in keys {
            let name = format!("{key}.pub.pem");
            fs::copy(self.path(&name), self.path(store).join(&name)).unwrap();
        }
    }

    /// The key's id, as the tool says it.
    #[track_caller]
    pub fn key_id(&self, file: &str) -> String {
        self.sealift(&format!("key show {file} --json")).ok().json()["keyId"].as_str().unwrap().to_owned()
    }
}

/// Runs a prepared command.
#[track_caller]
pub fn run(mut command: Command) -> Run {
    let program = Path::new(command.get_program()).file_name().unwrap().to_string_lossy().into_owned();
    let words = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    let shown = std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ");
    let output = command.output().unwrap_or_else(|e| panic!("{shown}: {e}"));
    Run::of(shown, output)
}

/// Runs a command that reads a file through a pipe: `cat FILE | sealift …`.
#[track_caller]
pub fn piped(scratch: &Scratch, file: &str, arguments: &str) -> Run {
    let mut cat = Command::new("cat").arg(scratch.path(file)).stdout(Stdio::piped()).spawn().unwrap();
    let mut command = scratch.command(arguments);
    command.stdin(cat.stdout.take().unwrap());
    let run = run(command);
    // It may have been left in the middle.
    let _ = cat.wait();
    run
}

/// Whether another program is there to test against. Where it is not, the test says that it is
/// skipped; with SEALIFT_REQUIRE_PEERS=1 it fails.
pub fn peer(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !there {
        let required = std::env::var("SEALIFT_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "{program} is not installed, and SEALIFT_REQUIRE_PEERS=1 asks for it");
        eprintln!("skipped: {program} is not installed");
    }
    there
}

/// Lower-case hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
