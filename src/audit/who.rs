//! Who runs the program, as far as the system knows, and as far as it is only said.

use serde::{Deserialize, Serialize};

use crate::content::file;

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// Whom the run is said to be for (`SUDO_USER`, `DOAS_USER`): a hint, which anybody can set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behalf: Option<String>,
    /// The address that the session is said to come from (`SSH_CONNECTION`): a hint, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The machine's name.
    pub host: String,
    /// The user who logged in, whom the kernel remembers whatever became of the session (`/proc/self/loginuid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// The process.
    pub pid: u32,
    /// The effective user.
    pub uid: u32,
    /// Its name, where the machine's own list of users has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What the environment says; the mouth reads it.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Whom the run is for.
    pub behalf: Option<String>,
    /// Where the session comes from.
    pub from: Option<String>,
}

/// A list of users, and what the kernel says of a process: more is not read of them.
const LIST: u64 = 1 << 20;

/// Nobody has logged in (audit(7): `(uid_t) -1`).
const UNSET: u32 = u32::MAX;

impl Who {
    /// Whoever runs this process.
    pub fn here(claims: Claims) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let system = rustix::system::uname();
        let login_uid = read("/proc/self/loginuid").and_then(|text| text.trim().parse().ok());
        Who {
            behalf: claims.behalf.map(|text| tame(&text)),
            from: claims.from.map(|text| tame(&text)),
            host: tame(&system.nodename().to_string_lossy()),
            login_uid: login_uid.filter(|uid| *uid != UNSET),
            pid: std::process::id(),
            uid,
            user: name_of(uid),
        }
    }

    /// How people call him.
    pub fn shown(&self) -> String {
        let user = self.user.clone().unwrap_or_else(|| format!("uid {}", self.uid));
        match &self.behalf {
            Some(behalf) => format!("{user} for {behalf} @{}", self.host),
            None => format!("{user} @{}", self.host),
        }
    }
}

fn read(path: &str) -> Option<String> {
    let bytes = file::read_small(path.as_ref(), "who runs this", LIST).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// passwd(5): `name:password:UID:…`
fn name_of(uid: u32) -> Option<String> {
    let users = read("/etc/passwd")?;
    let mut fields = users.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| tame(name))
    })
}

/// A word that fits into a line.
fn tame(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}
