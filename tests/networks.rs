//! Networks that lead elsewhere, lead nowhere, or belong to somebody else; and logins, which are shown to
//! nobody but the registry they are for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a failed test"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use support::images::{Image, Layout, served};
use support::lying::{Answer, Lying};
use support::{EXPORT, RELEASE, Run, SMALL, Scratch, peer};

const PAGE: &str = "<!DOCTYPE html>\n<html><title>Welcome to the airport</title></html>";

/// A release of an image that is named after a host that does not exist.
fn nowhere() -> Scratch {
    let scratch = Scratch::with_small_release().exported();
    scratch.write("release.toml", SMALL.replace("registry.example.com", "registry.invalid"));
    scratch
}

/// An export from that host, or an import to it, without TLS, in an environment.
fn through(scratch: &Scratch, arguments: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = scratch.command(&format!("{arguments} --plain-http registry.invalid"));
    command.envs(environment.iter().copied());
    support::run(command)
}

const PULL: &str = "export release.toml -o again.tar --key release.key.pem";
const PUSH: &str = "import bundle.tar --to docker://registry.invalid --trust trust";

#[test]
fn a_host_that_nobody_knows_is_told_with_a_hint() {
    let scratch = nowhere();
    for command in [PULL, PUSH] {
        let run = through(&scratch, command, &[]).fails(1, "Network").says("registry.invalid").says("DNS");
        run.says("cannot be found");
    }
    assert!(!scratch.has("again.tar") && !scratch.has("again.tar.partial"));
}

#[test]
fn a_proxy_is_asked_unless_it_is_not_to_be() {
    let scratch = nowhere();
    let proxy = Lying::start(|_, _| Answer::new(407).header("Proxy-Authenticate", "Basic realm=\"p\""));
    let address = format!("http://{}", proxy.host());
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        let before = proxy.seen().len();
        for command in [PULL, PUSH] {
            through(&scratch, command, &[(variable, &address)]).fails(1, "RegistryRejected").says("407");
        }
        let seen = proxy.seen();
        assert!(seen.len() > before, "{variable}");
        assert!(seen[before..].iter().all(|request| request.path.starts_with("http://registry.invalid/v2/")));
    }
    let before = proxy.seen().len();
    for except in ["registry.invalid", ".invalid", "*"] {
        let environment = [("http_proxy", address.as_str()), ("no_proxy", except)];
        through(&scratch, PULL, &environment).fails(1, "Network").says("cannot be found");
    }
    // This machine is reached without.
    let server = served(scratch.path("images"), |_, _| None);
    scratch.write("release.toml", SMALL);
    let mut command =
        scratch.command(&EXPORT.replace("oci:images", &server.host()).replace("bundle", "local"));
    command.env("http_proxy", &address);
    support::run(command).ok();
    assert_eq!(proxy.seen().len(), before);
}

#[test]
fn a_proxy_that_is_not_there_is_told() {
    let scratch = nowhere();
    through(&scratch, PULL, &[("http_proxy", "http://127.0.0.1:1")]).fails(1, "Network");
}

#[test]
fn a_login_page_is_not_taken_for_a_registry() {
    let scratch = nowhere();
    // To everything, whatever the method and whatever the type it claims.
    for claimed in
        ["text/html; charset=utf-8", "application/json", "application/vnd.oci.image.manifest.v1+json"]
    {
        let portal = Lying::start(move |_, _| Answer::new(200).header("Content-Type", claimed).body(PAGE));
        let address = format!("http://{}", portal.host());
        let pull = through(&scratch, PULL, &[("http_proxy", &address)]);
        assert!(
            pull.is_failure(3, "UnexpectedContent") || pull.is_failure(3, "DocumentInvalid"),
            "{claimed}\n{pull}"
        );
        let push = through(&scratch, PUSH, &[("http_proxy", &address)]);
        push.fails(3, "UnexpectedContent").says("destination: ").says("login page");
        assert!(portal.seen().iter().all(|request| matches!(request.method.as_str(), "GET" | "HEAD")));
    }
    assert!(!scratch.has("again.tar") && !scratch.has("again.tar.partial"));
    // One that comes up in the middle gets no further.
    let asked = AtomicBool::new(false);
    let portal = Lying::start(move |request, _| match request.path.ends_with("/v2/") {
        true if !asked.swap(true, Ordering::SeqCst) => Answer::new(200).body("{}"),
        _ => Answer::new(200).header("Content-Type", "text/html").body(PAGE),
    });
    let address = format!("http://{}", portal.host());
    let run = through(&scratch, PUSH, &[("http_proxy", &address)]);
    assert!(run.is_failure(1, "RegistryCorrupt") || run.is_failure(3, "UnexpectedContent"), "{run}");
}

#[test]
fn one_image_that_fails_leaves_no_bundle_and_what_came_is_used_again() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(scratch.path("images"));
    let mut release = RELEASE.split("[[image]]").next().unwrap().to_owned();
    for number in 0..20 {
        let image =
            Image { platforms: vec!["linux/amd64"], layer: 100_000, ..Image::new(&format!("app {number}")) };
        layout.add(&format!("registry.example.com/nexus/app{number}:2.1.0-{number}"), &image);
        release += &format!(
            "[[image]]\nname = \"app{number}\"\nrepository = \"nexus/app{number}\"\nplatforms = [\"linux/amd64\"]\ntags = {{ standard = \"{{version}}-{number}\" }}\n"
        );
    }
    scratch.write("release.toml", release);
    scratch.key("release");
    scratch.trust("trust", &["release"]);
    scratch.sealift(&EXPORT.replace("bundle.tar", "reference.tar")).ok();
    let reference = scratch.read("reference.tar");
    scratch.remove("reference.tar");

    // The last layer is not to be had.
    let entries = support::parts::Parts::read(&reference).0;
    let last = entries.last().unwrap().path.rsplit('/').next().unwrap().to_owned();
    let missing = std::sync::Arc::new(AtomicBool::new(true));
    let (now, wanted) = (missing.clone(), last.clone());
    let server = served(scratch.path("images"), move |request, _| {
        let fails = now.load(Ordering::SeqCst) && request.path.ends_with(&wanted);
        fails.then(|| Answer::new(500))
    });
    let export = EXPORT.replace("oci:images", &server.host());
    scratch.sealift(&export).fails(1, "RegistryRejected").says("source: ").says(&last);
    scratch.holds_no_finished_bundle();
    missing.store(false, Ordering::SeqCst);
    let before = server.count("/blobs/");
    scratch.sealift(&export).ok().says("going on with an interrupted export");
    assert!(scratch.read("bundle.tar") == reference);
    // Configs are read while planning; of the layers only what was missing.
    let again = server.count("/blobs/") - before;
    assert!((21..40).contains(&again), "{again} blobs were fetched again");
}

// Logins.

const CANARY: &str = "canary-p4ssw0rd";

#[test]
fn a_password_is_in_no_output_and_in_no_file() {
    let scratch = Scratch::with_small_release();
    let basic = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("robot:{CANARY}"))
    };
    let expected = format!("Basic {basic}");
    let server = served(scratch.path("images"), move |request, _| match request.authorization() {
        said if said == expected => None,
        // Whoever is refused is told what was said, in both of its forms.
        said => {
            use base64::Engine;
            let plain = said.strip_prefix("Basic ").unwrap_or_default();
            let plain = base64::engine::general_purpose::STANDARD.decode(plain).unwrap();
            let body = format!("not {said}, which is {}", String::from_utf8(plain).unwrap());
            Some(Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\"").body(body))
        }
    });
    let auth = |password: &str| {
        let entry = serde_json::json!({ "username": "robot", "password": password });
        let auths = serde_json::json!({ "auths": { server.host(): entry } });
        scratch.write("home/auth.json", auths.to_string());
    };
    let run = |arguments: &str| {
        let mut command = scratch.command(arguments);
        command.env("REGISTRY_AUTH_FILE", scratch.path("home/auth.json"));
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
        support::run(command)
    };
    let export = EXPORT.replace("oci:images", &server.host());
    auth(CANARY);
    let good = run(&format!("{export} --progress plain")).ok();
    auth(&format!("{CANARY}-wrong"));
    let bad = run(&format!("{export} --overwrite --progress plain")).fails(1, "Auth");
    let push = run(&format!("import bundle.tar --to {} --trust trust", server.host())).fails(1, "Auth");
    for run in [&good, &bad, &push] {
        let said = run.to_string();
        assert!(!said.contains(CANARY) && !said.contains(&basic), "{said}");
    }
    for entry in walkdir::WalkDir::new(scratch.path("")) {
        let entry = entry.unwrap();
        if !entry.file_type().is_file() || entry.path().starts_with(scratch.path("home")) {
            continue;
        }
        let content = std::fs::read(entry.path()).unwrap();
        for secret in [CANARY, &basic] {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{}", entry.path().display());
        }
    }
}

#[test]
fn a_password_that_was_typed_into_an_address_is_not_said_back() {
    let scratch = Scratch::with_small_release().exported();
    for arguments in [
        format!("import bundle.tar --trust trust --to docker://robot:{CANARY}@registry.example.com"),
        format!("import bundle.tar --trust trust --to robot:{CANARY}@registry.example.com:5000/x"),
        format!("import bundle.tar --trust trust --to https://robot:{CANARY}@registry.example.com"),
        EXPORT.replace("oci:images", &format!("robot:{CANARY}@127.0.0.1:5000")),
        EXPORT.replace("oci:images", &format!("docker://robot:{CANARY}@127.0.0.1:5000")),
        EXPORT.replace("registry.example.com=", &format!("robot:{CANARY}@registry.example.com=")),
    ] {
        let run = scratch.sealift(&arguments);
        assert_eq!(run.code, 2, "{run}");
        assert!(!run.stderr.contains(CANARY) && run.stderr.contains("***@"), "{run}");
    }
}

#[test]
fn a_helper_that_fails_is_told_and_never_taken_for_no_login() {
    let scratch = Scratch::with_small_release().exported();
    let server = Lying::start(|_, _| Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""));
    std::fs::create_dir(scratch.path("bin")).unwrap();
    std::fs::create_dir(scratch.path("home/.docker")).unwrap();
    let helpers = serde_json::json!({ "credHelpers": { server.host(): "test" } });
    scratch.write("home/.docker/config.json", helpers.to_string());
    let path = format!("{}:{}", scratch.path("bin").display(), std::env::var("PATH").unwrap());
    let import = || {
        let mut command = scratch.command(&format!("import bundle.tar --to {} --trust trust", server.host()));
        command.env("PATH", &path);
        support::run(command)
    };
    let helper = |script: &str| {
        scratch.write("bin/docker-credential-test", format!("#!/bin/sh\n{script}\n"));
        scratch.chmod("bin/docker-credential-test", 0o755);
        import()
    };
    // Not there at all.
    import().fails(1, "CredentialHelper").says("docker-credential-test");
    for script in [
        "exit 1",
        &format!("echo {CANARY}; exit 1"),
        &format!("echo {CANARY} >&2; exit 1"),
        &format!("echo '{{\"Username\":\"{CANARY}\"}}'"),
        "echo '[]'",
        "exit 0",
        "kill -9 $$",
        "exec yes canary-p4ssw0rd",
        "exec head -c 1000000000 /dev/zero",
    ] {
        let run = helper(script).fails(1, "CredentialHelper").says("docker-credential-test");
        assert!(!run.stderr.contains(CANARY), "{script}\n{run}");
    }
    // Each was asked once whether it is there, and not again without the login.
    assert_eq!(server.seen().len(), 10);
}

// TLS.

/// `openssl s_server` with a certificate; ended when dropped.
struct Server(Child, String);

impl Server {
    fn start(scratch: &Scratch, certificate: &str, more: &str) -> Self {
        let arguments = format!("s_server -accept 127.0.0.1:0 -cert {certificate} -key tls.key -www {more}");
        let mut process =
            scratch.tool("openssl", &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
        // Read on: it must never wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        Server(process, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_that_is_not_right_is_refused_with_its_reason() {
    if !peer("openssl") {
        return;
    }
    let scratch = Scratch::with_small_release().exported();
    let openssl = |arguments: &str| drop(scratch.run("openssl", arguments).ok());
    scratch.write("right", "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
    scratch.write("wrong", "subjectAltName=DNS:other.example.com\nbasicConstraints=CA:FALSE\n");
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2");
    openssl("req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=registry");
    openssl("req -x509 -key tls.key -out own.pem -subj /CN=own -days 2 -addext subjectAltName=IP:127.0.0.1");
    for (name, days, extensions) in
        [("good", "2", "right"), ("expired", "-1", "right"), ("foreign", "2", "wrong")]
    {
        openssl(&format!(
            "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days {days} -extfile {extensions}"
        ));
    }
    let import = |server: &Server, ca: &str| {
        let to = &server.1;
        scratch.sealift(&format!("import bundle.tar --to {to} --trust trust --tls 127.0.0.1 {ca}"))
    };
    // The control: where the certificate is right, what is behind it is heard, which is no registry.
    let good = Server::start(&scratch, "good.pem", "");
    import(&good, "--ca ca.pem").fails(3, "UnexpectedContent").says("web page");
    import(&good, "").fails(1, "Tls").says("--ca FILE").says(&good.1);
    for (certificate, more, hint) in [
        ("own.pem", "", ""),
        ("expired.pem", "", "clock"),
        ("foreign.pem", "", "name that is in the certificate"),
        ("good.pem", "-tls1_1 -cipher DEFAULT:@SECLEVEL=0", ""),
    ] {
        let server = Server::start(&scratch, certificate, more);
        import(&server, "--ca ca.pem").fails(1, "Tls").says(hint).says(&server.1);
    }
    // Neither flag is for everybody: what is said of one host counts for that host.
    let other = format!("--plain-http other.example.com {}", "--ca ca.pem");
    import(&good, &other).fails(3, "UnexpectedContent");
}

#[test]
fn a_tls_connection_speaks_http_1_only() {
    if !peer("openssl") {
        return;
    }
    let scratch = Scratch::with_small_release().exported();
    let openssl = |arguments: &str| drop(scratch.run("openssl", arguments).ok());
    scratch.write("right", "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2");
    openssl("req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=registry");
    openssl(
        "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tls.pem -days 2 -extfile right",
    );
    // This one knows nothing but HTTP/2, and ends a handshake in which that is not offered.
    let server = Server::start(&scratch, "tls.pem", "-alpn h2");
    let mut command: Command = scratch.command(&format!("import bundle.tar --to {}", server.1));
    command.args("--trust trust --tls 127.0.0.1 --ca ca.pem".split(' '));
    let run = support::run(command);
    assert!(run.is_failure(1, "Tls") || run.is_failure(3, "UnexpectedContent"), "{run}");
}
