//! `serve`: a registry straight from bundles. Each is verified as for an import, or (`head_first`) its head is,
//! and each blob when it is asked for the first time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;

use super::site::Site;
use super::verify;
use crate::content::{Holdings, Together, Watch, file};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::server::{Certificate, Gate, Users};

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

/// A bundle that is served.
pub struct Served {
    /// The bundle.
    pub bundle: PathBuf,
    /// Its release.
    pub release: String,
    /// What is given out of it.
    pub shelf: Arc<dyn Holdings>,
}

/// Opens bundles for serving.
pub async fn open(
    bundles: &[PathBuf],
    site: &Site,
    head_first: bool,
    watch: &Arc<dyn Watch>,
) -> Result<Vec<Served>> {
    let mut all = Vec::new();
    for bundle in bundles {
        let trusted = verify::opened(bundle, site, watch).await?;
        verify::admissible(&trusted, site)?;
        let statement = trusted.statement();
        let release = format!("{} {}", statement.name, statement.version);
        let shelf: Arc<dyn Holdings> = match head_first {
            true => Arc::new(trusted.shelf()),
            false => Arc::new(verify::whole(trusted, watch.clone()).await?.shelf()),
        };
        all.push(Served { bundle: bundle.clone(), release, shelf });
    }
    Ok(all)
}

/// All of them as one.
pub fn together(served: &[Served]) -> Arc<dyn Holdings> {
    match served {
        [only] => only.shelf.clone(),
        all => Arc::new(Together(all.iter().map(|served| served.shelf.clone()).collect())),
    }
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
