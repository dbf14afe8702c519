//! The keyring: the public keys somebody chose to trust, and the rules about them. The only place
//! that says "trusted". An empty one trusts nothing.

use std::path::{Path, PathBuf};

use super::root::store;
use super::rules::{Bearer, Quorum, RULES, Rules, signs_licenses, wrong};
use super::{KeyId, License, PublicKey, Root, SealedLicense, Signature};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::release::Moment;

/// The keys that are trusted, and what for.
#[derive(Clone)]
pub struct Keyring {
    place: String,
    keys: Vec<Key>,
    /// Those that sign licences, and no bundle.
    licensing: Vec<Key>,
    rules: Rules,
    /// Whether expired bundles were asked for.
    expired_wanted: bool,
}

/// A key of the store.
#[derive(Clone)]
struct Key {
    public: PublicKey,
    id: KeyId,
    /// The names of its files, without the ending; the same key may lie there twice.
    names: Vec<String>,
    not_after: Option<Moment>,
    /// Why it counts no longer.
    revoked: Option<String>,
}

/// Somebody's claim that a key signed a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The key it names: a hint.
    pub id: KeyId,
    /// The signature over the text.
    pub signature: Signature,
    /// A second text that the same key must have signed: the trusted comment of minisign.
    pub also: Option<(Vec<u8>, Signature)>,
    /// The file that it stands in, where it does not stand in the bundle.
    pub file: Option<PathBuf>,
}

impl Claim {
    /// A bare signature.
    pub fn new(id: KeyId, signature: Signature) -> Self {
        Claim { id, signature, also: None, file: None }
    }

    /// Whether it is true of this key.
    pub fn holds(&self, key: &PublicKey, text: &[u8]) -> bool {
        key.verifies(text, &self.signature)
            && self.also.as_ref().is_none_or(|(text, signature)| key.verifies(text, signature))
    }
}

/// A trusted key that signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The key's id.
    pub id: KeyId,
    /// The name of its file in the trust store, without the ending.
    pub name: String,
}

/// Distinct keys of the store that signed one text, as many as the least that any bundle needs.
/// Enough to parse the text by; what it may be used for is for [`Keyring::authorise`] to say.
#[derive(Clone, Debug)]
pub struct Proven(Vec<Signer>);

/// The distinct trusted keys that signed one bundle and may sign it: as many as its rule asks for.
#[derive(Clone, Debug)]
pub struct Signers {
    keys: Vec<Signer>,
    epoch: u64,
    version: u64,
}

impl Signers {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Signer> {
        self.keys.iter()
    }

    /// The epoch of the trust store that says so.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The version of the trust store that says so.
    pub fn store_version(&self) -> u64 {
        self.version
    }
}

/// A key of the store, for people.
pub struct Listed<'a> {
    /// Its id.
    pub id: KeyId,
    /// The names of its files.
    pub names: &'a [String],
    /// When it ends to count.
    pub not_after: Option<Moment>,
    /// Why it counts no longer.
    pub revoked: Option<&'a str>,
    /// Whether it signs licences, and no bundle.
    pub licenses: bool,
}

impl Keyring {
    /// Reads the trust store in `directory`.
    ///
    /// # Errors
    /// `TrustStore` where the store is missing, holds no key that counts, can be changed by others,
    /// or holds a file that is not a fit public key: nothing is skipped, because a key that
    /// somebody believes to be in force must not silently not be.
    pub fn load(directory: &Path) -> Result<Self> {
        Root::load(directory)?.keyring(&directory.display().to_string())
    }

    /// A ring of this one key.
    pub fn of(public: PublicKey, name: &str) -> Self {
        let key =
            Key { id: public.id(), public, names: vec![name.to_owned()], not_after: None, revoked: None };
        let rules = Rules { general: Some(Quorum::default()), ..Rules::default() };
        let (place, licensing) = (name.to_owned(), Vec::new());
        Keyring { place, keys: vec![key], licensing, rules, expired_wanted: false }
    }

    /// The keys in these files under these rules.
    pub(super) fn new(root: &Root, place: &str) -> Result<Self> {
        let rules = match root.rules() {
            Some(text) => Rules::parse(text)?,
            None => Rules { general: Some(Quorum::default()), ..Rules::default() },
        };
        let mut keys: Vec<Key> = Vec::new();
        for (file, text) in root.files().filter(|(file, _)| *file != RULES) {
            let name = file.trim_end_matches(".pem").trim_end_matches(".pub").to_owned();
            let public = public_key(file, text)?;
            if keys.iter().any(|key| key.public != public && key.names.contains(&name)) {
                return Err(store("two keys of one name")
                    .at(file)
                    .got(name)
                    .hint("give one of the files another name"));
            }
            match keys.iter_mut().find(|known| known.public == public) {
                Some(known) => known.names.push(name),
                None => keys.push(Key {
                    id: public.id(),
                    revoked: rules.revoked.get(&public.id()).cloned(),
                    public,
                    names: vec![name],
                    not_after: None,
                }),
            }
        }
        for key in &mut keys {
            // A key under two names ends to count when the first of its limits is reached.
            key.not_after = key.names.iter().filter_map(|name| rules.not_after.get(name).copied()).min();
        }
        let for_licenses = |key: &Key| key.names.iter().any(|name| rules.license.contains(name));
        let (licensing, keys): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(for_licenses);
        let named_otherwise =
            |key: &Key| key.names.iter().find(|name| !rules.license.contains(name)).cloned();
        if let Some(name) = licensing.iter().find_map(named_otherwise) {
            return Err(signs_licenses(&name));
        }
        let ring = Keyring { place: place.to_owned(), keys, licensing, rules, expired_wanted: false };
        ring.check()?;
        Ok(ring)
    }

    /// Rules that speak of absent keys, or that nobody can ever keep, are mistakes.
    fn check(&self) -> Result<()> {
        if !self.keys.iter().any(|key| key.revoked.is_none()) {
            let what = match self.keys.is_empty() {
                true => "the trust store holds no key, so nothing can be trusted",
                false => "all keys of the trust store are revoked, so nothing can be trusted",
            };
            return Err(store(what).hint(
                "copy the release team's public key (….pub.pem) into it, after checking its key id with them",
            ));
        }
        let all = || self.keys.iter().chain(&self.licensing);
        let known = |name: &String| all().any(|key| key.names.contains(name));
        let named = self
            .rules
            .quorums()
            .flat_map(|quorum| quorum.keys.iter().flatten())
            .chain(self.rules.not_after.keys())
            .chain(&self.rules.license);
        if let Some(unknown) = named.into_iter().find(|name| !known(name)) {
            let names = all().flat_map(|key| &key.names).cloned().collect::<Vec<_>>();
            return Err(wrong("speaks of a key that the store does not hold")
                .got(format_args!("{unknown:?}"))
                .expected(format_args!("one of {} (the file's name without .pub.pem)", names.join(", "))));
        }
        for quorum in self.rules.quorums() {
            let fit =
                self.keys.iter().filter(|key| key.revoked.is_none() && quorum.asks_for(&key.names)).count();
            if fit < quorum.threshold {
                return Err(wrong("a threshold that can never be met")
                    .got(format_args!("threshold {}", quorum.threshold))
                    .expected(format_args!(
                        "at most {fit}: so many distinct keys that are not revoked may sign"
                    ))
                    .hint("lower the threshold, or add a key"));
            }
        }
        Ok(())
    }

    /// Which key made this signature over `text`, and its name; `read` gives the signature's claim of a key.
    pub fn author(
        &self,
        text: &[u8],
        mut read: impl FnMut(KeyId) -> Result<Claim>,
    ) -> Result<Option<(PublicKey, Claim)>> {
        for key in &self.keys {
            let claim = read(key.id)?;
            if claim.holds(&key.public, text) {
                return Ok(Some((key.public.clone(), claim)));
            }
        }
        Ok(None)
    }

    /// The number of the store's state, 0 where it has none.
    pub fn version(&self) -> u64 {
        self.rules.version
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The keys, for people.
    pub fn keys(&self) -> impl Iterator<Item = Listed<'_>> {
        let bundles = self.keys.iter().map(|key| (key, false));
        let all = bundles.chain(self.licensing.iter().map(|key| (key, true)));
        all.map(|(key, licenses)| Listed {
            id: key.id,
            names: &key.names,
            not_after: key.not_after,
            revoked: key.revoked.as_deref(),
            licenses,
        })
    }

    /// Lets expired bundles pass, if the store allows that.
    ///
    /// # Errors
    /// `Expired` where it does not.
    pub fn with_expired(mut self, wanted: bool) -> Result<Self> {
        if wanted && !self.rules.allow_expired {
            return Err(Error::new(Kind::Expired, "the trust store does not allow expired bundles")
                .at(&self.place)
                .hint("whoever is responsible for it may write allow_expired = true into its trust.toml"));
        }
        self.expired_wanted = wanted;
        Ok(self)
    }

    /// The same keys, asked about a change of the store itself: those of [root] decide, or else those who may sign
    /// every bundle. The age of the bundle that brings it does not matter, those who come late need it, too (The
    /// Update Framework, §5.3.10, looks at the last one only).
    ///
    /// # Errors
    /// `KeyNotAuthorized` where rules give keys different rights and none says who may change the rules.
    pub fn for_succession(mut self) -> Result<Self> {
        let quorum = self.rules.root.clone().or(self.rules.general.take()).ok_or_else(|| {
            Error::new(Kind::KeyNotAuthorized, "the trust store does not say who may change it")
                .at(format_args!("{}/{RULES}", self.place))
                .expected("a section [root] with keys and a threshold")
                .hint("without it, a store with rules is changed by hand only")
        })?;
        self.rules.general = Some(quorum);
        self.rules.special.clear();
        self.expired_wanted = true;
        Ok(self)
    }

    /// What the store says, in lines for people; the same for the same content.
    pub fn lines(&self, now: Moment) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, what) in self
            .keys
            .iter()
            .map(|key| (key, ""))
            .chain(self.licensing.iter().map(|key| (key, ", for licences")))
        {
            let counts = match (&key.revoked, key.not_after) {
                (Some(reason), _) => format!("revoked: {reason}"),
                (None, Some(end)) if end <= now => format!("counted until {end}"),
                (None, Some(end)) => format!("counts until {end}"),
                (None, None) => "counts".to_owned(),
            };
            lines.push(format!("key {} {}: {counts}{what}", key.id, key.names.join(", ")));
        }
        let there = |id: &KeyId| self.keys.iter().chain(&self.licensing).any(|key| key.id == *id);
        let absent = self.rules.revoked.iter().filter(|(id, _)| !there(id));
        lines.extend(absent.map(|(id, reason)| format!("key {id}: revoked: {reason}")));
        lines.extend(self.rules.special.iter().map(|rule| format!("{rule}: {}", rule.quorum)));
        lines.extend(self.rules.general.as_ref().map(|general| format!("every bundle: {general}")));
        lines.push(match (&self.rules.root, &self.rules.general) {
            (Some(root), _) => format!("the store itself: {root}"),
            (None, Some(_)) => "the store itself: as every bundle".to_owned(),
            (None, None) => "the store itself: changed by hand only".to_owned(),
        });
        lines.extend(self.rules.allow_expired.then(|| "expired bundles: with --allow-expired".to_owned()));
        lines.push(format!("epoch {}", self.rules.epoch));
        lines
    }

    /// Whether a bundle is still good at this moment.
    ///
    /// # Errors
    /// `Expired`.
    pub fn check_expiry(&self, expires: Option<Moment>, now: Moment) -> Result<()> {
        match expires {
            Some(expires) if expires <= now && !self.expired_wanted => {
                Err(Error::new(Kind::Expired, "the bundle has expired")
                    .got(format_args!("now {now}"))
                    .expected(format_args!("before {expires}"))
                    .hint("get a newer bundle; if this machine's clock is wrong, set it"))
            }
            _ => Ok(()),
        }
    }

    /// The keys that signed `text`: nothing of it may be parsed before.
    ///
    /// # Errors
    /// `SignatureMissing` where there is no signature at all; `SignatureUntrusted` where none is by
    /// a key of this ring, or where one is named after such a key but is not its; `KeyRevoked`,
    /// `KeyExpired` or `ThresholdNotMet` where too few of them count.
    pub fn prove(&self, text: &[u8], claims: &[Claim], now: Moment) -> Result<Proven> {
        if claims.is_empty() {
            return Err(Error::new(Kind::SignatureMissing, "the bundle is not signed")
                .expected("a signature by a key of the trust store")
                .hint("have the release team sign it (sealift sign); a detached signature goes beside it as BUNDLE.<key-id>.sig"));
        }
        let mut signed = Vec::new();
        // A claim that names a key of the ring is about that key. The others are tried with every key, because
        // the name is a hint only; but not without end, since the text may be long and is a stranger's.
        let mut left = limits::STRANGERS_CLAIMS;
        for key in &self.keys {
            let mut has_signed = false;
            for claim in claims {
                let named = self.keys.iter().any(|key| key.id == claim.id);
                if named && claim.id != key.id {
                    continue;
                }
                if !named {
                    let Some(rest) = left.checked_sub(text.len() as u64) else { continue };
                    left = rest;
                }
                match claim.holds(&key.public, text) {
                    true => has_signed = true,
                    false if named => return Err(wrong_signature(key, text, claim)),
                    false => {}
                }
            }
            if has_signed {
                signed.push(key);
            }
        }
        let counts = |key: &&&Key| key.revoked.is_none() && key.not_after.is_none_or(|end| now < end);
        let proven: Vec<Signer> = signed.iter().filter(counts).map(|key| key.signer()).collect();
        let least = self.rules.least();
        match proven.len() >= least {
            true => Ok(Proven(proven)),
            false => Err(self.too_few(&signed, claims, now).unwrap_or_else(|| match proven.is_empty() {
                true => self.untrusted(claims),
                false => not_enough(&proven, least, self.names(|key| self.rules.asks_for(&key.names))),
            })),
        }
    }

    /// What a licence says, if a key for licences signed it. Nothing of it is parsed before.
    ///
    /// # Errors
    /// `SignatureUntrusted` where the key that it names did not sign it; `LicenseRefused` where no key for licences
    /// did; `KeyRevoked` and `KeyExpired`.
    pub fn license(&self, sealed: &SealedLicense, now: Moment) -> Result<(License, Signer)> {
        if self.licensing.is_empty() {
            return Err(Error::new(Kind::LicenseRefused, "the trust store has no key for licences")
                .at(&self.place)
                .hint(format_args!(
                    "put the vendor's public key into it, and say in its {RULES}: [license] keys = [\"vendor\"]"
                )));
        }
        if let Some(reason) = self.rules.revoked.get(&sealed.id) {
            return Err(revoked(&sealed.id.to_string(), reason));
        }
        let text = sealed.signed();
        let signs = |key: &&Key| key.public.verifies(&text, &sealed.signature);
        let Some(key) = self.licensing.iter().find(signs) else {
            return Err(self.license_by_nobody(sealed));
        };
        match (&key.revoked, key.not_after.filter(|end| *end <= now)) {
            (Some(reason), _) => Err(revoked(&key.shown(), reason)),
            (None, Some(end)) => Err(expired(key, end, now)),
            (None, None) => Ok((sealed.opened()?, key.signer())),
        }
    }

    fn license_by_nobody(&self, sealed: &SealedLicense) -> Error {
        let is_named = |key: &&Key| key.id == sealed.id;
        let expected = self.licensing.iter().map(Key::shown).collect::<Vec<_>>().join(", ");
        if let Some(key) = self.licensing.iter().find(is_named) {
            return Error::new(Kind::SignatureUntrusted, "the licence was changed after it was signed")
                .got(format_args!("a signature that names {}", key.shown()))
                .hint("get it again from the vendor");
        }
        let refused = |what: &str| {
            Error::new(Kind::LicenseRefused, what.to_owned())
                .got(sealed.id)
                .expected(format_args!("one of {expected} (in {})", self.place))
                .hint("ask the vendor which key signs licences, over another channel")
        };
        match self.keys.iter().find(is_named) {
            Some(_) => refused("the licence is signed with a key that signs bundles, and no licences"),
            None => refused("the licence is not signed with a key for licences of the trust store"),
        }
    }

    /// Those of the proven keys that may sign this release, if they are enough.
    ///
    /// # Errors
    /// `KeyNotAuthorized` where no rule of the store is about the release, or none of the keys may
    /// sign it; `ThresholdNotMet` where too few of them did; `KeyExpired`.
    pub fn authorise(&self, proven: &Proven, bearer: &Bearer<'_>, now: Moment) -> Result<Signers> {
        let what = format!("{}, tier {}", bearer.name, bearer.tier);
        let quorum = self.rules.quorum(bearer).ok_or_else(|| {
            Error::new(Kind::KeyNotAuthorized, "no rule of the trust store allows this bundle")
                .at(format_args!("{}/{RULES}", self.place))
                .got(&what)
                .hint("whoever is responsible for the trust store decides who may sign such bundles, of which tiers, with which images: a [[rule]] says it")
        })?;
        self.quorum(quorum, proven, now, &what)
    }

    fn quorum(&self, quorum: &Quorum, proven: &Proven, now: Moment, of_what: &str) -> Result<Signers> {
        let key = |signer: &Signer| self.keys.iter().find(|key| key.id == signer.id);
        let mut signers = Vec::new();
        let mut ended = None;
        for signer in &proven.0 {
            let Some(key) = key(signer).filter(|key| quorum.asks_for(&key.names)) else { continue };
            match key.not_after.filter(|end| *end <= now) {
                Some(end) => ended = Some((key, end)),
                None => signers.push(signer.clone()),
            }
        }
        let names = || self.names(|key| key.revoked.is_none() && quorum.asks_for(&key.names));
        match (signers.len(), ended) {
            (enough, _) if enough >= quorum.threshold => {
                Ok(Signers { keys: signers, epoch: self.rules.epoch, version: self.rules.version })
            }
            (_, Some((key, end))) => Err(expired(key, end, now)),
            (0, None) => {
                Err(Error::new(Kind::KeyNotAuthorized, format!("signed by keys that may not sign {of_what}"))
                    .got(list(&proven.0))
                    .expected(format_args!("{} of {}", quorum.threshold, names()))
                    .hint("the rules are in the trust store's trust.toml (sealift trust show)"))
            }
            _ => Err(not_enough(&signers, quorum.threshold, names())),
        }
    }

    /// Why keys that did sign do not count, where that is the reason.
    fn too_few(&self, signed: &[&Key], claims: &[Claim], now: Moment) -> Option<Error> {
        if let Some(key) = signed.iter().find(|key| key.revoked.is_some()) {
            return Some(revoked(&key.shown(), key.revoked.as_deref().unwrap_or_default()));
        }
        let named = claims.iter().find_map(|claim| Some((claim.id, self.rules.revoked.get(&claim.id)?)));
        if let Some((id, reason)) = named {
            return Some(revoked(&id.to_string(), reason));
        }
        let end = |key: &&&Key| key.not_after.filter(|end| *end <= now);
        signed.iter().find_map(|key| Some(expired(key, end(&key)?, now)))
    }

    fn names(&self, fits: impl Fn(&Key) -> bool) -> String {
        let names = self.keys.iter().filter(|key| fits(key)).map(Key::shown);
        names.collect::<Vec<_>>().join(", ")
    }

    fn untrusted(&self, claims: &[Claim]) -> Error {
        let named: Vec<_> = claims.iter().map(|claim| claim.id.to_string()).collect();
        Error::new(Kind::SignatureUntrusted, "not signed by any key of the trust store")
            .got(format_args!("signatures that name {}", named.join(", ")))
            .expected(format_args!("one of {} (in {})", self.names(|_| true), self.place))
            .hint("ask the release team for the key id they sign with, over another channel; add its public key only if it matches; if they changed keys, a former bundle brings them: sealift trust update")
    }
}

impl Key {
    fn signer(&self) -> Signer {
        Signer { id: self.id, name: self.name().to_owned() }
    }

    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    fn shown(&self) -> String {
        format!("{} {}", self.id, self.name())
    }
}

fn list(signers: &[Signer]) -> String {
    signers.iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn not_enough(signers: &[Signer], threshold: usize, names: String) -> Error {
    let count = signers.len();
    Error::new(Kind::ThresholdNotMet, "too few of the keys that must sign have signed")
        .got(format_args!("{count} ({})", list(signers)))
        .expected(format_args!("{threshold} of {names}"))
        .hint("have the others sign it, too: sealift sign BUNDLE --key KEY; their signatures count where they lie beside the bundle as BUNDLE.<key-id>.sig")
}

fn revoked(key: &str, reason: &str) -> Error {
    Error::new(Kind::KeyRevoked, "signed with a revoked key")
        .got(key)
        .expected("a key that still counts")
        .hint(format_args!(
            "the trust store says: {reason}; get a bundle that was signed with another key, or have this one signed again"
        ))
}

fn expired(key: &Key, end: Moment, now: Moment) -> Error {
    Error::new(Kind::KeyExpired, "signed with a key that counts no longer")
        .at(key.shown())
        .got(format_args!("now {now}"))
        .expected(format_args!("before {end}, its not_after in {RULES}"))
        .hint("have the bundle signed with a current key; if this machine's clock is wrong, set it")
}

fn wrong_signature(key: &Key, text: &[u8], claim: &Claim) -> Error {
    let error = Error::new(Kind::SignatureUntrusted, "a signature does not match the bundle")
        .got(format_args!("a signature that names the trusted key {}", key.shown()));
    let error = match &claim.file {
        Some(file) => error.at(file.display()),
        None => error,
    };
    if key.public.verifies_prehashed(text, &claim.signature) {
        return error.hint("this is an Ed25519ph signature (cosign makes them for its transparency log); sign again in pure Ed25519");
    }
    match &claim.file {
        Some(file) => error.hint(format_args!(
            "is it of another bundle that had this name? Then remove {}; else get both again from their origin",
            file.display()
        )),
        None => error.hint("the sums or the signature were changed after signing: get the bundle again from its origin"),
    }
}

fn public_key(file: &str, text: &str) -> Result<PublicKey> {
    PublicKey::from_pem(text).map_err(|e| match e.kind() {
        Kind::KeyWeak => e.at(file),
        _ => store("a key of the trust store is not usable").at(file).got(e.sentence()).hint(
            "a trust store holds public keys and nothing else that ends in .pem; private keys stay with those who sign",
        ),
    })
}
