//! `license`: what was typed, and what is printed.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use serde_json::json;

use super::args::{ProgressMode, TrustArgs};
use super::{Passphrases, progress, report, site};
use crate::error::{Result, printable};
use crate::history::Leave;
use crate::release::{Moment, Tier, UpgradePath};
use crate::trust::{Grant, License};
use crate::verbs::license;

/// Verbs about licences.
#[derive(Subcommand)]
pub enum LicenseVerb {
    /// Make a licence file: what a customer may install, signed by the vendor's key
    #[command(
        after_help = "Example:\n  sealift license new acme.license --key vendor.key.pem --customer \"ACME GmbH\" --serial 2026-0042 --bundle 'nexus-*' --tier enterprise,sovereign --versions \">=2.0.0, <3.0.0\" --expires 2027-12-31T00:00:00Z"
    )]
    New {
        /// The file to write.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The vendor's private key: one for licences, which signs no bundles.
        #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
        key: PathBuf,
        /// Read the passphrase from the first line of this file instead of the terminal.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        passphrase_file: Option<PathBuf>,
        /// Whom it is for.
        #[arg(long, value_name = "NAME")]
        customer: String,
        /// What you call it.
        #[arg(long, value_name = "TEXT")]
        serial: String,
        /// Names of releases, or beginnings and an asterisk (nexus-*), with commas between several.
        #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
        bundle: Vec<String>,
        /// Tiers of releases, with commas between several.
        #[arg(long, value_name = "TIER", value_delimiter = ',', required = true)]
        tier: Vec<Tier>,
        /// Versions of releases, as in upgrades_from; any, if it is left out.
        #[arg(long, value_name = "RANGE")]
        versions: Option<UpgradePath>,
        /// When it ends (RFC 3339); never, if it is left out.
        #[arg(long, value_name = "TIME")]
        expires: Option<Moment>,
        /// When it is given (RFC 3339) [default: now].
        #[arg(long, value_name = "TIME")]
        issued: Option<Moment>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what a licence says, after checking its signature
    #[command(after_help = "Example:\n  sealift license show acme.license --trust /etc/sealift/trust")]
    Show {
        /// The licence file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Whom to trust.
        #[command(flatten)]
        trust: TrustArgs,
    },
}

/// Runs it.
pub fn verb(verb: LicenseVerb, mode: ProgressMode) -> Result<()> {
    match verb {
        LicenseVerb::New {
            file,
            key,
            passphrase_file,
            customer,
            serial,
            bundle,
            tier,
            versions,
            expires,
            issued,
            json,
        } => {
            let key = Passphrases::new(passphrase_file).open(&key)?;
            let issued = issued.unwrap_or_else(Moment::now);
            let grant = Grant { customer, serial, bundles: bundle, tiers: tier, versions, expires, issued };
            let license = license::new(grant, &key, &file)?;
            let id = key.public().id().to_string();
            match json {
                true => report::json_out(&json!({ "file": file, "keyId": id, "license": license })),
                false => {
                    report::out(&format!("{}: {}", printable(&file.to_string_lossy()), lines(&license, &id)))
                }
            }
        }
        LicenseVerb::Show { file, json, trust } => {
            let watch = progress::watcher(mode);
            let (keyring, now) = site(trust, false, Leave::default()).judge(&*watch)?;
            drop(watch);
            let shown = license::show(&file, &keyring, now)?;
            let (license, id) = (&shown.license, shown.signer.id.to_string());
            let expired = license.expires.is_some_and(|expires| expires <= now);
            match json {
                true => report::json_out(&json!({
                    "license": license, "expired": expired, "signer": { "keyId": id, "name": shown.signer.name },
                })),
                false => {
                    let state = if expired { "expired\n" } else { "" };
                    report::out(&format!(
                        "{}{state}",
                        lines(license, &format!("{} ({id})", shown.signer.name))
                    ))
                }
            }
        }
    }
}

fn lines(license: &License, signer: &str) -> String {
    let License { bundles, customer, expires, issued, serial, tiers, versions, .. } = license;
    let tiers: Vec<_> = tiers.iter().map(ToString::to_string).collect();
    let expires = expires.map_or("without end".to_owned(), |expires| format!("until {expires}"));
    let versions =
        versions.as_ref().map_or("all versions".to_owned(), |versions| format!("versions {versions}"));
    format!(
        "licence {serial} of {}\nbundles {}, tiers {}, {versions}\nissued {issued}, {expires}\nsigned by {}\n",
        printable(customer),
        printable(&bundles.join(", ")),
        tiers.join(", "),
        printable(signer)
    )
}
