//! One failure, told to the person who has to act on it: what happened, where, what was got,
//! what was expected, and a hint on what to do. Every failure has a [`Kind`], a stable name that
//! scripts can match, and every kind belongs to exactly one [`Exit`] code.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The process exit codes. The table in the README is checked against this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// Input, output or network failed; the same command may succeed later.
    Failed = 1,
    /// The command line, the release manifest or a private key file is wrong.
    Usage = 2,
    /// A signature, a digest or the format is wrong: the bytes are not to be trusted.
    Untrusted = 3,
    /// The bytes are sound but a rule forbids the step.
    Refused = 4,
    /// Ended by a signal; nothing is left under a final name.
    Interrupted = 130,
}

impl Exit {
    /// Every code, in ascending order.
    pub const ALL: [Exit; 6] =
        [Exit::Done, Exit::Failed, Exit::Usage, Exit::Untrusted, Exit::Refused, Exit::Interrupted];

    /// The number handed to the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }
}

macro_rules! kinds {
    ($($exit:ident { $($name:ident)+ })+) => {
        /// What went wrong, by a stable name. The name is printed behind each error message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the documentation; the table below groups them by exit code")]
        pub enum Kind { $($($name,)+)+ }

        impl Kind {
            /// The exit code that this kind of failure ends the process with.
            pub fn exit(self) -> Exit {
                match self { $($(Kind::$name => Exit::$exit,)+)+ }
            }

            /// The stable name, as printed.
            pub fn name(self) -> &'static str {
                match self { $($(Kind::$name => stringify!($name),)+)+ }
            }
        }
    };
}

kinds! {
    Failed {
        Io NoSpace Locked
        Network Timeout Tls RedirectForbidden
        Auth AuthChallenge AuthRealm CredentialHelper
        NotFound RegistryRejected RegistryUnsupported RegistryCorrupt
    }
    Usage {
        Usage ManifestInvalid RefInvalid RefAmbiguous PlatformMissing EmptySelection OutputExists
        KeyFormat KeyDecrypt KeyPerms
    }
    Untrusted {
        SignatureMissing SignatureUntrusted SignatureFormat TrustStore KeyWeak Expired PinMismatch
        KeyRevoked KeyExpired KeyNotAuthorized ThresholdNotMet RootChain
        Equivocation StateCorrupt StatePerms StateMissing AuditBroken
        SumsFormat StatementInvalid LayoutInvalid
        TarHeader TarOrder TarEntryName TarUnexpectedEntry FrameInvalid Truncated TrailingData
        DigestInvalid DigestMismatch SizeMismatch BlobMissing BlobUnreferenced
        DocumentInvalid DocumentAmbiguous DocumentUnsupported MediaTypeMismatch PlatformMismatch
        LimitExceeded UnexpectedContent
    }
    Refused { PolicyRefused TagConflict Rollback UpgradePath LicenseMissing LicenseRefused }
    Interrupted { Interrupted }
}

/// Which end of a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the bytes come from.
    Source,
    /// Where the bytes go to.
    Destination,
}

/// Whether doing the same again can help, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The failure is final.
    Never,
    /// A passing fault: worth another try after a back-off.
    Soon,
    /// The server named the time to wait (`Retry-After`, RFC 9110 §10.2.3).
    After(Duration),
}

/// A failure and all that is known about it.
pub struct Error(Box<Facts>);

struct Facts {
    kind: Kind,
    what: String,
    place: Option<String>,
    got: Option<String>,
    expected: Option<String>,
    hint: Option<String>,
    side: Option<Side>,
    retry: Retry,
}

impl Error {
    /// A failure of `kind`; `what` is a short sentence without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error(Box::new(Facts {
            kind,
            what: what.into(),
            place: None,
            got: None,
            expected: None,
            hint: None,
            side: None,
            retry: Retry::Never,
        }))
    }

    /// A failed system call on `place`, with the kind that the operating system's answer deserves.
    pub fn io(what: impl Into<String>, place: impl fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        // Damage that was found behind a reader's interface is told as what it is.
        if let Some(found) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return found.again().inside(place);
        }
        let (kind, hint) = match error.kind() {
            E::StorageFull | E::QuotaExceeded => {
                (Kind::NoSpace, Some("free some space or choose another place"))
            }
            E::FileTooLarge => {
                (Kind::NoSpace, Some("FAT32 holds files up to 4 GiB − 1: format the medium as exFAT or ext4"))
            }
            _ => (Kind::Io, None),
        };
        let failure = Error::new(kind, what).at(place).got(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// The same once more, for whoever has it only on loan.
    fn again(&self) -> Self {
        let facts = &self.0;
        Error(Box::new(Facts {
            kind: facts.kind,
            what: facts.what.clone(),
            place: facts.place.clone(),
            got: facts.got.clone(),
            expected: facts.expected.clone(),
            hint: facts.hint.clone(),
            side: facts.side,
            retry: facts.retry,
        }))
    }

    /// Where: a file, a name, an entry. Set by the place nearest to the failure; later calls are ignored.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// Which file the place is inside of: put before the place that is known.
    pub fn inside(mut self, outer: impl fmt::Display) -> Self {
        self.0.place = Some(match self.0.place.take() {
            Some(inner) => format!("{outer}: {inner}"),
            None => outer.to_string(),
        });
        self
    }

    /// Which image it is about: for a place that is a digest alone, which tells people nothing.
    pub fn about(self, image: impl fmt::Display) -> Self {
        match self.0.place.as_deref() {
            Some(place) if place.starts_with("sha256:") => self.inside(image),
            _ => self.at(image),
        }
    }

    /// Which directory the place is in.
    pub fn below(mut self, directory: impl fmt::Display) -> Self {
        self.0.place = Some(match self.0.place.take() {
            Some(inner) => format!("{directory}/{inner}"),
            None => directory.to_string(),
        });
        self
    }

    /// What was there.
    pub fn got(mut self, got: impl fmt::Display) -> Self {
        self.0.got = Some(got.to_string());
        self
    }

    /// What should have been there.
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// What the reader can do about it. The first hint stays.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.0.hint.get_or_insert_with(|| hint.to_string());
        self
    }

    /// What the reader can do about it, where more is known here than where the failure arose.
    pub fn hint_instead(mut self, hint: impl fmt::Display) -> Self {
        self.0.hint = Some(hint.to_string());
        self
    }

    /// Which end failed. The first answer stays: it is the nearest one.
    pub fn side(mut self, side: Side) -> Self {
        self.0.side.get_or_insert(side);
        self
    }

    /// Marks the failure as worth another try.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether another try can help.
    pub fn retryable(&self) -> Retry {
        self.0.retry
    }

    /// Which end failed, if that is known.
    pub fn failed_side(&self) -> Option<Side> {
        self.0.side
    }

    /// The hint, if there is one, safe to print.
    pub fn advice(&self) -> Option<Cow<'_, str>> {
        self.0.hint.as_deref().map(shown)
    }
}

impl Error {
    /// One line, safe to print, without the kind's name: for quoting one failure in another.
    pub fn sentence(&self) -> String {
        format!("{:#}", self)
    }
}

impl fmt::Display for Error {
    /// One line, safe to print: what, where, got, expected, and the kind's name (not in the
    /// alternate form).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.0;
        match facts.side {
            Some(Side::Source) => f.write_str("source: ")?,
            Some(Side::Destination) => f.write_str("destination: ")?,
            None => {}
        }
        f.write_str(&shown(&facts.what))?;
        if let Some(place) = &facts.place {
            write!(f, ": {}", shown(place))?;
        }
        match (&facts.got, &facts.expected) {
            (Some(got), Some(expected)) => {
                write!(f, ": got {}, expected {}", shown(got), shown(expected))?;
            }
            (Some(got), None) => write!(f, ": {}", shown(got))?,
            (None, Some(expected)) => write!(f, ": expected {}", shown(expected))?,
            (None, None) => {}
        }
        if f.alternate() { Ok(()) } else { write!(f, " [{}]", facts.kind.name()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// A part of a message, safe to print, without any login that stands in it.
fn shown(text: &str) -> Cow<'_, str> {
    match without_logins(text) {
        Cow::Borrowed(text) => printable(text),
        Cow::Owned(text) => Cow::Owned(printable(&text).into_owned()),
    }
}

/// Puts stars in place of `user:password` before an `@`: people type such addresses, and messages are kept in
/// logs.
fn without_logins(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let words = text.split_inclusive(|c: char| c.is_whitespace() || c == '"');
    Cow::Owned(
        words
            .map(|word| login_in(word).map_or_else(|| word.to_owned(), |login| word.replace(login, "***")))
            .collect(),
    )
}

/// The login in a word that is an address: what stands before the last `@`, behind the scheme or `FROM=`.
fn login_in(word: &str) -> Option<&str> {
    let (before, host) = word.rsplit_once('@')?;
    // A digest is no host: `engine:2.1.0@sha256:…`.
    if host.starts_with("sha") {
        return None;
    }
    let behind = |mark| {
        before
            .split_once(mark)
            .map(|(_, rest)| rest)
            .filter(|rest: &&str| mark == "://" || rest.contains(':'))
    };
    let login = behind("://").or_else(|| behind("=")).unwrap_or(before);
    (login.contains(':') || before.contains("://")).then_some(login).filter(|login| !login.is_empty())
}

/// Most characters of a foreign text that a message shows.
const SHOWN: usize = 600;

/// `text` with everything escaped that could move a cursor, change a colour or reorder a line
/// (control characters, Unicode bidirectional controls), and cut to a bearable length.
/// Names and messages from servers and bundles go through here before a terminal sees them.
pub fn printable(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if text.len() <= SHOWN && !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().min(SHOWN + 8));
    for c in text.chars() {
        if shown.len() >= SHOWN {
            shown.push('…');
            break;
        }
        if hostile(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_addresses_are_not_shown() {
        for text in [
            "https://user:canary@host/x",
            "registry.example.com=https://user:canary@host",
            "registry.example.com=user:canary@host",
            "user:canary@host:5000",
            "user:can/canary@host",
            "user:canary=canary@host",
            "docker://user:canary@canary@host",
            "docker://canary@host",
            "the address \"https://user:canary@host\" and another",
        ] {
            let error = Error::new(Kind::Usage, text).at(text).got(text).expected(text).hint(text);
            let said = format!("{error} {error:?} {} {:?}", error.sentence(), error.advice());
            assert!(!said.contains("canary") && said.contains("***@host"), "{text}: {said}");
        }
        for text in ["mail@example.com", "r.example.com/a:1@sha256:00", "a=b@c", "@", "x@", "a:b"] {
            assert_eq!(shown(text), text);
        }
    }
}
