//! A browser without a window, spoken to in plain HTTP (W3C WebDriver): what a page is to those who use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::peer;
use super::serving::Connection;

/// The name under which a server of this machine is reached as if it were another one's: not a secure
/// context, and no loopback.
pub const ELSEWHERE: &str = "registry.edge.local";

const SWITCHES: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP registry.edge.local 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// Keys, as WebDriver writes them ("Keyboard actions").
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const RIGHT: &str = "\u{e014}";
const CONTROL: &str = "\u{e009}";

/// A browser with an empty profile; ended when dropped.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; nothing where there is none.
    pub fn start() -> Option<Self> {
        if !peer("chromium") || !peer("chromedriver") {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .process_group(0)
            .env("HOME", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let started = lines.map_while(Result::ok).find_map(|line| {
            let port = line.split("started successfully on port ").nth(1)?;
            Some(format!("127.0.0.1:{}", port.trim_end_matches('.')))
        });
        let address = started.expect("the driver says where it listens");
        let mut browser = Browser { driver, address, session: String::new(), _profile: profile };
        browser.open();
        Some(browser)
    }

    fn open(&mut self) {
        let profile = format!("--user-data-dir={}", self._profile.path().join("profile").display());
        let switches: Vec<_> = SWITCHES.iter().copied().chain([profile.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "args": switches },
        } } });
        let session = self.ask("POST", "/session", &wanted);
        self.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut connection = Connection::to(&self.address);
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let length = body.len().to_string();
        connection.send(
            method,
            path,
            &[("Content-Length", length.as_str()), ("Content-Type", "application/json")],
        );
        connection.raw(body.as_bytes());
        let reply = connection.reply(false);
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        reply.json()["value"].clone()
    }

    #[track_caller]
    fn tell(&self, path: &str, body: Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), &body)
    }

    /// Opens a page, and waits until it is loaded.
    #[track_caller]
    pub fn go(&self, url: &str) {
        self.tell("/url", json!({ "url": url }));
    }

    /// The value of a script in the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.tell("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// What a script hands to `done`, its last argument, sooner or later.
    #[track_caller]
    pub fn wait(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0];\n{script}");
        self.tell("/execute/async", json!({ "script": script, "args": [] }))
    }

    /// Presses keys, one after the other.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        let down = |key: &&str| json!({ "type": "keyDown", "value": key });
        let up = |key: &&str| json!({ "type": "keyUp", "value": key });
        self.act(keys.iter().flat_map(|key| [down(key), up(key)]).collect());
    }

    /// Presses the control key together with another.
    #[track_caller]
    pub fn control(&self, key: &str) {
        let step = |kind: &str, key: &str| json!({ "type": kind, "value": key });
        self.act(vec![
            step("keyDown", CONTROL),
            step("keyDown", key),
            step("keyUp", key),
            step("keyUp", CONTROL),
        ]);
    }

    #[track_caller]
    fn act(&self, steps: Vec<Value>) {
        self.tell("/actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": steps }] }));
    }

    /// The browser as a device of this width, with this scheme of colours.
    #[track_caller]
    pub fn device(&self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.protocol("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.protocol("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// A command of the DevTools protocol.
    #[track_caller]
    pub fn protocol(&self, command: &str, parameters: Value) -> Value {
        self.tell("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// What the console has shown since it was asked last.
    pub fn console(&self) -> Vec<String> {
        self.log("browser").iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// The addresses that pages asked for since the last time, whatever came of it; not what the browser's own
    /// start page is made of.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.log("performance");
        let events = entries.iter().map(|entry| {
            let text = entry["message"].as_str().unwrap();
            serde_json::from_str::<Value>(text).unwrap()["message"].clone()
        });
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        let addresses = sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned());
        addresses.filter(|address| !address.starts_with("chrome://")).collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.tell("/se/log", json!({ "type": kind })).as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser; a test that failed half-way may have lost it.
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            // It listens to those only who call it by its own name.
            let (session, address) = (&self.session, &self.address);
            let request =
                format!("DELETE {session} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = stream.read(&mut [0; 64]);
        }
        // Whatever it has left behind is of its group.
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.driver.wait();
    }
}
