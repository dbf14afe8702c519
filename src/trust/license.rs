//! Licences: what a vendor has allowed a customer to install, in a file that can be mailed. A PEM block holds the id
//! of the key, its signature, and what was signed. Bytes whose signature was checked enter the parser, and no others;
//! there is no text in the file beside them that somebody could take for what the licence says. FORMAT.md describes it.

use pkcs8::LineEnding;
use pkcs8::der::pem;
use serde::{Deserialize, Serialize};

use super::{KeyId, Signature, SigningKey};
use crate::error::{Error, Kind, Result};
use crate::release::{Moment, ReleaseName, Tier, UpgradePath, Version};

/// What the PEM block is called.
const LABEL: &str = "SEALIFT LICENSE";

/// What stands before the licence in the text that is signed: no signature over anything else is one over a licence.
const PREFIX: &[u8] = b"sealift license v1\n";

/// Tells a licence, version 1, from any other signed JSON.
const TYPE: &str = "application/vnd.sealift.license.v1+json";

/// What a licence says. Fields stand in the order of their JSON keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct License {
    /// Names of releases; an asterisk stands for any ending.
    pub bundles: Vec<String>,
    /// Whom it was given to.
    pub customer: String,
    /// From then on it is worth nothing.
    pub expires: Option<Moment>,
    /// When it was given.
    pub issued: Moment,
    /// What the vendor calls it.
    pub serial: String,
    /// Tiers of releases.
    pub tiers: Vec<Tier>,
    /// Always [`TYPE`].
    r#type: String,
    /// Versions of releases, in the words of `upgrades_from`; any where it says none.
    pub versions: Option<UpgradePath>,
}

/// What a vendor decides about a licence.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Whom it is for.
    pub customer: String,
    /// What it is called.
    pub serial: String,
    /// Names of releases, or beginnings of names and an asterisk.
    pub bundles: Vec<String>,
    /// Tiers.
    pub tiers: Vec<Tier>,
    /// Versions.
    pub versions: Option<UpgradePath>,
    /// When it ends.
    pub expires: Option<Moment>,
    /// When it is given.
    pub issued: Moment,
}

/// A licence's file, of which nothing was checked yet.
pub struct SealedLicense {
    /// The key that it names: a hint.
    pub id: KeyId,
    /// The signature.
    pub signature: Signature,
    content: Vec<u8>,
}

impl License {
    /// A licence of these words.
    ///
    /// # Errors
    /// `Usage` where they make no sense.
    pub fn new(grant: Grant) -> Result<Self> {
        let Grant { customer, serial, bundles, mut tiers, versions, expires, issued } = grant;
        tiers.sort_unstable();
        tiers.dedup();
        let license =
            License { bundles, customer, expires, issued, serial, tiers, r#type: TYPE.to_owned(), versions };
        let wrong = |what: &str, got: &str, expected: &str| {
            Err(Error::new(Kind::Usage, what.to_owned()).got(format_args!("{got:?}")).expected(expected))
        };
        match license.nonsense() {
            Some((what, got, expected)) => wrong(what, &got, expected),
            None => Ok(license),
        }
    }

    /// What a licence cannot say: what is wrong, what is there, what could be.
    fn nonsense(&self) -> Option<(&'static str, String, &'static str)> {
        let name = |pattern: &&String| {
            let beginning = pattern.strip_suffix('*').unwrap_or(pattern);
            *pattern != "*" && beginning.parse::<ReleaseName>().is_err()
        };
        let word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let bundles = "names of releases, or beginnings and an asterisk: nexus-*";
        let tiers = "professional, enterprise, regulated or sovereign: the others ask for no licence";
        if self.bundles.is_empty() {
            return Some(("a licence for no bundle", String::new(), bundles));
        }
        if let Some(bad) = self.bundles.iter().find(name) {
            return Some(("not the name of a bundle", bad.clone(), bundles));
        }
        if self.tiers.is_empty() {
            return Some(("a licence for no tier", String::new(), tiers));
        }
        if let Some(free) = self.tiers.iter().find(|tier| !tier.may_ask_for_license()) {
            return Some(("a licence for a tier that asks for none", free.to_string(), tiers));
        }
        let customer = self.customer.trim();
        if customer.is_empty() || customer.len() > 200 || customer.chars().any(char::is_control) {
            return Some((
                "not a customer's name",
                self.customer.clone(),
                "at most 200 characters on one line",
            ));
        }
        if self.serial.is_empty() || self.serial.len() > 128 || !self.serial.bytes().all(word) {
            return Some(("not a serial", self.serial.clone(), "letters, digits, '.', '_', '-'"));
        }
        let ended = self.expires.filter(|expires| *expires <= self.issued);
        ended.map(|expires| ("a licence that ends before it is given", expires.to_string(), "a later time"))
    }

    /// The file: signed, and wrapped for mail.
    pub fn seal(&self, key: &SigningKey) -> Result<String> {
        let content = self.encode()?;
        let mut bytes = key.public().id().bytes().to_vec();
        bytes.extend_from_slice(&key.sign(&signed(&content)));
        bytes.extend_from_slice(&content);
        pem::encode_string(LABEL, LineEnding::LF, &bytes)
            .map_err(|e| Error::new(Kind::Usage, "the licence cannot be written").got(e))
    }

    /// The only bytes that say this.
    fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::new(Kind::Usage, "the licence cannot be written").got(e))
    }

    /// Parses bytes whose signature was checked.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::new(Kind::SignatureFormat, what.to_owned());
        let license: License =
            serde_json::from_slice(bytes).map_err(|e| wrong("the licence is malformed").got(e))?;
        if license.r#type != TYPE {
            return Err(wrong("not a licence that this version reads").got(&license.r#type).expected(TYPE));
        }
        if let Some((what, got, expected)) = license.nonsense() {
            return Err(wrong(what).got(got).expected(expected));
        }
        match license.encode()? == bytes {
            true => Ok(license),
            false => Err(wrong("the licence is not in its canonical form")),
        }
    }

    /// Whether it is for this release, at this moment.
    ///
    /// # Errors
    /// `LicenseRefused`, saying what it is for.
    pub fn check(&self, name: &ReleaseName, version: &Version, tier: Tier, now: Moment) -> Result<()> {
        let name = name.to_string();
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => *pattern == name,
        };
        let refused = |what: &str| {
            let hint =
                format!("ask the vendor for another one; this is {} of {}", self.serial, self.customer);
            Error::new(Kind::LicenseRefused, what.to_owned()).hint(hint)
        };
        if !self.bundles.iter().any(fits) {
            return Err(refused("the licence does not cover this bundle")
                .got(name)
                .expected(self.bundles.join(", ")));
        }
        if !self.tiers.contains(&tier) {
            let tiers: Vec<_> = self.tiers.iter().map(ToString::to_string).collect();
            return Err(refused("the licence does not cover this tier").got(tier).expected(tiers.join(", ")));
        }
        if let Some(versions) = self.versions.as_ref().filter(|versions| !versions.begins_at(version)) {
            return Err(refused("the licence does not cover this version").got(version).expected(versions));
        }
        match self.expires.filter(|expires| *expires <= now) {
            Some(expires) => Err(Error::new(Kind::LicenseRefused, "the licence has expired")
                .got(format_args!("now {now}"))
                .expected(format_args!("before {expires}"))
                .hint(format_args!(
                    "ask the vendor for a new one; this is {} of {}; if this machine's clock is wrong, set it",
                    self.serial, self.customer
                ))),
            None => Ok(()),
        }
    }
}

fn signed(content: &[u8]) -> Vec<u8> {
    [PREFIX, content].concat()
}

impl SealedLicense {
    /// Unwraps a file. Nothing of what it says is looked at.
    ///
    /// # Errors
    /// `SignatureFormat` where it is no such file.
    pub fn read(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::SignatureFormat, what.to_owned())
                .expected(format_args!("one PEM block, {LABEL}, and nothing beside it"))
        };
        let text = text.trim();
        let (begin, end) = (format!("-----BEGIN {LABEL}-----"), format!("-----END {LABEL}-----"));
        if !text.starts_with(&begin) || !text.ends_with(&end) || text.matches("-----BEGIN ").count() != 1 {
            return Err(wrong("not a licence file").hint("save the attachment as it came"));
        }
        let (_, bytes) =
            pem::decode_vec(text.as_bytes()).map_err(|e| wrong("a damaged licence file").got(e))?;
        let parts = || {
            let (id, rest) = bytes.split_first_chunk::<32>()?;
            let (signature, content) = rest.split_first_chunk::<64>()?;
            (!content.is_empty()).then_some((KeyId::from_bytes(id)?, *signature, content.to_vec()))
        };
        let (id, signature, content) =
            parts().ok_or_else(|| wrong("a licence file of an impossible length"))?;
        Ok(SealedLicense { id, signature, content })
    }

    /// The text that is signed.
    pub(super) fn signed(&self) -> Vec<u8> {
        signed(&self.content)
    }

    /// What it says: only for who has checked the signature.
    pub(super) fn opened(&self) -> Result<License> {
        License::parse(&self.content)
    }
}
