//! `serve`: a registry straight from bundles, or over a store. Bundles are verified as for an import, or
//! (`head_first`) their heads are, and each blob when it is asked for the first time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;

use super::site::Site;
use super::verify;
use crate::bundle::{Bundle, Trusted};
use crate::content::{Holdings, Stock, Together, Watch, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::server::{Certificate, Cover, Gate, Shown, Signature, Users, Verified};
use crate::store::Store;

/// How a registry is reached.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether a certificate is made for it.
    pub self_signed: bool,
    /// Whether it may speak plain HTTP beyond this machine.
    pub plain_http: bool,
    /// Names and passwords.
    pub htpasswd: Option<PathBuf>,
    /// Whether pulling needs none of them.
    pub anonymous_pull: bool,
}

/// What is served.
pub struct Offer {
    /// What is given out.
    pub holdings: Arc<dyn Holdings>,
    /// What can be written to, where that was asked for.
    pub stock: Option<Arc<dyn Stock>>,
    /// What it is, a line for each part.
    pub parts: Vec<String>,
    /// What the page shows of bundles.
    pub shown: Vec<Shown>,
}

/// How a registry is written to.
#[derive(Clone, Copy)]
pub struct Writing {
    /// Whether indexes are taken of which parts are missing.
    pub sparse: bool,
}

/// Opens bundles, or a store, for serving.
///
/// # Errors
/// What is wrong with them; `Usage` where something is to be written that cannot be.
pub async fn open(
    what: &[String],
    site: &Site,
    head_first: bool,
    writing: Option<Writing>,
    watch: &Arc<dyn Watch>,
) -> Result<Offer> {
    let store = what.iter().find_map(|place| place.strip_prefix("store:"));
    if let Some(directory) = store {
        if what.len() > 1 {
            return Err(Error::new(Kind::Usage, "a store is served alone").hint("import the bundles into it"));
        }
        let sparse = writing.is_some_and(|writing| writing.sparse);
        let store = Arc::new(Store::open(Path::new(directory))?.sparse(sparse));
        let stock = writing.map(|_| store.clone() as Arc<dyn Stock>);
        let way = if writing.is_some() { "read and written" } else { "read" };
        let parts = vec![format!("store:{directory}: to be {way}")];
        return Ok(Offer { holdings: store, stock, parts, shown: Vec::new() });
    }
    if writing.is_some() {
        return Err(Error::new(Kind::Usage, "a bundle is not written to")
            .hint("import it into a store (--to store:DIR), and serve that"));
    }
    let (mut parts, mut shelves) = (Vec::new(), Vec::<Arc<dyn Holdings>>::new());
    let mut all = Vec::new();
    for bundle in what {
        let trusted = verify::opened(Path::new(bundle), site, watch).await?;
        verify::admissible(&trusted, site)?;
        let statement = trusted.statement();
        parts.push(format!("{bundle}: {} {}", statement.name, statement.version));
        all.push(shown(&trusted, head_first));
        shelves.push(match head_first {
            true => Arc::new(trusted.shelf()),
            false => Arc::new(verify::whole(trusted, watch.clone()).await?.shelf()),
        });
    }
    let holdings = match shelves.len() {
        1 => shelves.remove(0),
        _ => Arc::new(Together(shelves)),
    };
    Ok(Offer { holdings, stock: None, parts, shown: all })
}

/// What the page says of a bundle; it is shown when all of it was verified, or only the head was asked for.
fn shown(bundle: &Bundle<Trusted>, head_first: bool) -> Shown {
    let statement = bundle.statement();
    let signers = bundle.signers().iter();
    let cover = Cover {
        name: statement.name.clone(),
        version: statement.version.clone(),
        tier: statement.tier,
        channel: statement.channel,
        created: statement.created,
        expires: statement.expires,
        expired: false,
        sequence: statement.sequence,
        upgrades_from: statement.upgrades_from.clone(),
        producer: statement.producer.clone(),
        policy: statement.policy.clone(),
        signers: signers.map(|s| Signature { key_id: s.id.to_string(), name: s.name.clone() }).collect(),
        verified: if head_first { Verified::Head } else { Verified::All },
        bytes: bundle.length(),
        images: statement.images.len(),
    };
    Shown { cover, images: statement.images.clone() }
}

impl Front {
    /// Binds the address and prepares what guards it.
    ///
    /// # Errors
    /// `Usage` where passwords or images would go through a network in the clear and nobody said so.
    pub async fn open(&self) -> Result<(TcpListener, Option<Certificate>, Gate)> {
        let secure = self.tls.is_some() || self.self_signed;
        if !secure && !self.plain_http && !self.address.ip().is_loopback() {
            return Err(Error::new(Kind::Usage, "beyond this machine a registry needs TLS")
                .at(self.address)
                .hint("--tls-cert and --tls-key, or --self-signed; --plain-http-anyway does without"));
        }
        let certificate = match &self.tls {
            Some((chain, key)) => Some(Certificate::load(chain, key)?),
            None if self.self_signed => Some(Certificate::make(&self.hosts())?),
            None => None,
        };
        let users = self.htpasswd.as_deref().map(users).transpose()?;
        let gate = Gate { users, anonymous_pull: self.anonymous_pull };
        let socket = TcpListener::bind(self.address).await.map_err(|e| {
            Error::io("cannot listen", self.address, &e)
                .hint("is another registry running there? --listen names another address")
        })?;
        Ok((socket, certificate, gate))
    }

    /// What the certificate is for.
    fn hosts(&self) -> Vec<String> {
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = self.address.ip().to_string();
        if !self.address.ip().is_unspecified() && !hosts.contains(&own) {
            hosts.push(own);
        }
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        hosts.extend((!name.is_empty()).then_some(name));
        hosts
    }
}

fn users(path: &Path) -> Result<Users> {
    let bytes = file::read_small(path, "the password file", limits::CREDENTIALS)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::new(Kind::Usage, "not a text file").at(path.display()))?;
    Users::parse(&text, &path.display().to_string())
}
