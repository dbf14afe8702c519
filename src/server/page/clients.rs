//! How images are pulled from here: commands for the clients that people have, and what each of them has to
//! be told first. Everything in them is a name that was checked, so nothing needs quoting in a shell.

use http::header::HOST;

use super::listing::{Card, Listing};
use crate::oci::Registry;
use crate::server::Request;

/// The address that this server was asked under.
pub struct Host {
    /// `host:port`, as a client needs it in the name of an image.
    pub text: String,
    /// Whether TLS is spoken there.
    pub secure: bool,
    /// Whether it leads to the asking machine itself.
    pub loopback: bool,
    /// Whether the request said it.
    pub known: bool,
}

impl Host {
    /// Understands the `Host` of a request. What is no host, or stands there twice, is as good as none.
    pub fn of(request: &Request) -> Self {
        let secure = request.secure;
        let mut stated = request.headers.get_all(HOST).iter();
        let only = stated.next().filter(|_| stated.next().is_none());
        let registry = only.and_then(|value| value.to_str().ok()?.to_ascii_lowercase().parse().ok());
        match registry {
            Some(registry) => Host::at(&registry, secure),
            None => Host { text: "HOST:PORT".to_owned(), secure, loopback: false, known: false },
        }
    }

    fn at(registry: &Registry, secure: bool) -> Self {
        let text = registry.as_str();
        let port = text.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        // Without a port, a host without a dot would be taken for a user of Docker Hub; and a client that
        // is not told so does not look for plain HTTP at port 80.
        let text = match (port, secure) {
            (true, _) => text.to_owned(),
            (false, true) => format!("{text}:443"),
            (false, false) => format!("{text}:80"),
        };
        Host { text, secure, loopback: registry.is_loopback(), known: true }
    }

    /// The address for a browser, or a file that asks for one.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.text)
    }
}

/// A program that pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Docker Engine.
    Docker,
    /// Podman, and whatever else is made of containers/image.
    Podman,
    /// containerd, alone or below Kubernetes.
    Containerd,
    /// k3s, and RKE2 in all but the paths.
    K3s,
}

/// Something to be done before the first pull.
pub struct Step {
    /// What and why.
    pub what: String,
    /// The file to be written.
    pub file: Option<String>,
    /// Its content, or commands.
    pub code: String,
}

impl Client {
    /// All of them.
    pub const ALL: [Client; 4] = [Client::Docker, Client::Podman, Client::Containerd, Client::K3s];

    /// What it is called.
    pub fn label(self) -> &'static str {
        match self {
            Client::Docker => "Docker",
            Client::Podman => "Podman",
            Client::Containerd => "containerd",
            Client::K3s => "k3s",
        }
    }

    /// The same in markup.
    pub fn id(self) -> &'static str {
        match self {
            Client::Docker => "docker",
            Client::Podman => "podman",
            Client::Containerd => "containerd",
            Client::K3s => "k3s",
        }
    }

    /// The command that pulls an image.
    pub fn command(self, host: &Host, card: &Card, login: bool) -> String {
        let image = format!("{}/{}", host.text, reference(card));
        match (self, host.secure) {
            (Client::Docker, _) => format!("docker pull {image}"),
            (Client::Podman, true) => format!("podman pull {image}"),
            (Client::Podman, false) => format!("podman pull --tls-verify=false {image}"),
            (Client::Containerd, secure) => {
                let way = if secure { "--hosts-dir /etc/containerd/certs.d" } else { "--plain-http" };
                let user = if login { "--user NAME " } else { "" };
                format!("ctr -n k8s.io images pull {way} {user}{image}")
            }
            // Pods keep the names that they have: the mirror is asked for them.
            (Client::K3s, _) => match &card.source {
                Some(source) => format!("k3s crictl pull {source}"),
                None => format!("k3s crictl pull {image}"),
            },
        }
    }

    /// What has to be set up first.
    pub fn setup(self, host: &Host, registries: &[Registry], login: bool) -> Vec<Step> {
        match self {
            Client::Docker => docker(host, login),
            Client::Podman => podman(host, registries, login),
            Client::Containerd => containerd(host, registries, login),
            Client::K3s => k3s(host, registries, login),
        }
    }
}

/// The command for what is no container image.
pub fn artifact(host: &Host, card: &Card) -> String {
    let plain = if host.secure { "" } else { "--plain-http " };
    let chart = card.artifact_type.as_deref().is_some_and(|kind| kind.contains("helm.config"));
    match card.tags.first().filter(|_| chart) {
        // helm writes a `+` in a version as `_` in a tag, and wants to be asked for the version.
        Some(tag) => {
            let version = tag.as_str().replace('_', "+");
            format!("helm pull {plain}oci://{}/{} --version {version}", host.text, card.repository)
        }
        None => format!("oras pull {plain}{}/{}", host.text, reference(card)),
    }
}

fn reference(card: &Card) -> String {
    let tagged = card.pull.first().cloned();
    tagged.unwrap_or_else(|| format!("{}@{}", card.repository, card.digest))
}

/// The registries that the images come from, as pods and compose files name them.
pub fn registries(listing: &Listing) -> Vec<Registry> {
    let mut found: Vec<_> =
        listing.images.iter().filter_map(|card| Some(card.source.as_ref()?.registry.clone())).collect();
    found.sort();
    found.dedup();
    found
}

fn run(what: impl Into<String>, code: impl Into<String>) -> Step {
    Step { what: what.into(), file: None, code: code.into() }
}

fn write(what: impl Into<String>, file: impl Into<String>, code: impl Into<String>) -> Step {
    Step { what: what.into(), file: Some(file.into()), code: code.into() }
}

/// The certificate of the authority, where a client looks for it.
fn authority(file: &str) -> Step {
    run(
        "Copy the certificate of the authority here, unless this machine trusts it already \
         (sealift serve --self-signed prints it when it starts):",
        format!("install -D -m 644 ca.crt {file}"),
    )
}

fn docker(host: &Host, login: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if host.secure {
        steps.push(authority(&format!("/etc/docker/certs.d/{}/ca.crt", host.text)));
    } else if !host.loopback {
        let content = format!("{{\n  \"insecure-registries\": [\"{}\"]\n}}", host.text);
        let what =
            "This server speaks plain HTTP, which Docker does not accept unasked. Add it to what is there:";
        steps.push(write(what, "/etc/docker/daemon.json", content));
        steps.push(run("Have Docker read it; containers go on running:", "systemctl reload docker"));
    }
    if login {
        steps.push(run("Log in:", format!("docker login {}", host.text)));
    }
    steps
}

fn podman(host: &Host, registries: &[Registry], login: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if host.secure {
        steps.push(authority(&format!("/etc/containers/certs.d/{}/ca.crt", host.text)));
    }
    let insecure = if host.secure { "" } else { "insecure = true\n" };
    if !host.secure {
        let own = format!("[[registry]]\nlocation = \"{}\"\n{insecure}", host.text);
        steps.push(write(
            "The commands on this page say --tls-verify=false. To do without it, say once:",
            "/etc/containers/registries.conf.d/50-sealift.conf",
            own,
        ));
    }
    let mirror = |registry: &Registry| {
        format!(
            "[[registry]]\nlocation = \"{registry}\"\n\n[[registry.mirror]]\nlocation = \"{}\"\n{insecure}",
            host.text
        )
    };
    if !registries.is_empty() {
        let content = registries.iter().map(mirror).collect::<Vec<_>>().join("\n");
        steps.push(write(
            "If images are to keep the names that they have at their origin, make this server a mirror:",
            "/etc/containers/registries.conf.d/51-sealift-mirror.conf",
            content,
        ));
    }
    if login {
        let flag = if host.secure { "" } else { "--tls-verify=false " };
        steps.push(run("Log in:", format!("podman login {flag}{}", host.text)));
    }
    steps
}

fn containerd(host: &Host, registries: &[Registry], login: bool) -> Vec<Step> {
    let own = format!("/etc/containerd/certs.d/{}", host.text);
    let mut steps = Vec::new();
    if host.secure {
        steps.push(authority(&format!("{own}/ca.crt")));
    }
    let url = host.url();
    let ca = if host.secure { format!("  ca = \"{own}/ca.crt\"\n") } else { String::new() };
    let content =
        format!("server = \"{url}\"\n\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n{ca}");
    for registry in registries {
        steps.push(write(
            format!("Pods keep the names below {registry}. containerd asks this server for them, with ?ns={registry}:"),
            format!("/etc/containerd/certs.d/{registry}/hosts.toml"),
            &*content,
        ));
    }
    if registries.is_empty() && !host.secure {
        let what = "This server speaks plain HTTP. ctr is told so by --plain-http, Kubernetes by this file:";
        steps.push(write(what, format!("{own}/hosts.toml"), content));
    }
    steps.push(write(
        "Kubernetes looks there only if config.toml says so (in containerd 1.x the section is \
         \"io.containerd.grpc.v1.cri\"). Restart containerd after a change in this file, not after one in certs.d:",
        "/etc/containerd/config.toml",
        "[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/certs.d\"",
    ));
    if login {
        steps.push(run(
            "ctr asks for the password of --user NAME. Kubernetes takes it from a pull secret:",
            format!("kubectl create secret docker-registry sealift --docker-server={} --docker-username=NAME --docker-password=PASSWORD", host.text),
        ));
    }
    steps
}

fn k3s(host: &Host, registries: &[Registry], login: bool) -> Vec<Step> {
    let ca = "/etc/rancher/k3s/sealift-ca.crt";
    let mut steps = Vec::new();
    if host.secure {
        steps.push(authority(ca));
    }
    let names: Vec<_> = match registries {
        [] => vec![host.text.clone()],
        registries => registries.iter().map(ToString::to_string).collect(),
    };
    let mirror = |name: &String| format!("  \"{name}\":\n    endpoint:\n      - \"{}\"\n", host.url());
    let mut content = format!("mirrors:\n{}", names.iter().map(mirror).collect::<String>());
    if host.secure || login {
        content += &format!("configs:\n  \"{}\":\n", host.text);
    }
    if login {
        content += "    auth:\n      username: NAME\n      password: PASSWORD\n";
    }
    if host.secure {
        content += &format!("    tls:\n      ca_file: {ca}\n");
    }
    let what = match registries {
        [] => "On each node, servers and agents:".to_owned(),
        _ => format!(
            "On each node, servers and agents. Pods keep the names below {}; k3s asks this server for them, with ?ns={}:",
            names.join(", "),
            names.first().map_or("", String::as_str),
        ),
    };
    steps.push(write(what, "/etc/rancher/k3s/registries.yaml", content));
    steps.push(run(
        "k3s reads it when it starts (on agents: k3s-agent). Without --disable-default-registry-endpoint it asks the \
         origin, too, when an image is not here:",
        "systemctl restart k3s",
    ));
    steps
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::content::Unverified;

    fn host(stated: &[&[u8]], secure: bool) -> Host {
        let mut headers = HeaderMap::new();
        for value in stated {
            headers.append(HOST, HeaderValue::from_bytes(value).unwrap());
        }
        let body = Unverified::of_bytes("a request", bytes::Bytes::new());
        let (path, query) = ("/".to_owned(), String::new());
        Host::of(&Request { method: Method::GET, path, query, headers, body, secure })
    }

    #[test]
    fn hosts_are_what_clients_need() {
        for (stated, secure, text, loopback) in [
            ("10.0.0.5:5000", false, "10.0.0.5:5000", false),
            ("Registry.Edge.Local:5000", true, "registry.edge.local:5000", false),
            ("registry", false, "registry:80", false),
            ("registry", true, "registry:443", false),
            ("localhost:5000", false, "localhost:5000", true),
            ("127.0.0.2:1", false, "127.0.0.2:1", true),
            ("[::1]:5000", false, "[::1]:5000", true),
            ("[2001:db8::1]", true, "[2001:db8::1]:443", false),
        ] {
            let host = host(&[stated.as_bytes()], secure);
            assert_eq!((host.text.as_str(), host.loopback, host.known), (text, loopback, true), "{stated}");
        }
    }

    #[test]
    fn hosts_that_are_none_are_not_repeated() {
        let hostile: [&[u8]; 9] = [
            b"evil\"><script>",
            b"a b",
            b"host:0",
            b"host:99999",
            b"user@host",
            b"host/path",
            b"$(reboot)",
            b"caf\xe9:5000",
            b"",
        ];
        for stated in hostile {
            assert_eq!(host(&[stated], false).text, "HOST:PORT", "{stated:?}");
        }
        assert_eq!(host(&[], true).text, "HOST:PORT");
        assert_eq!(host(&[b"a:1", b"b:2"], false).text, "HOST:PORT", "two are none");
    }
}
