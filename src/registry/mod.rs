//! stub
use crate::content::*;
use crate::error::*;
use crate::oci::*;
#[derive(Default)]
pub struct Options {
    pub ca: Vec<std::path::PathBuf>,
    pub plain_http: Vec<String>,
}
#[derive(Clone)]
pub struct Client;
#[derive(Clone)]
pub struct Repository;
impl Client {
    pub fn new(_: Options) -> Result<Client> {
        Ok(Client)
    }
    pub fn repository(&self, _: &crate::oci::Registry, _: &crate::oci::Repository) -> Repository {
        Repository
    }
}
fn no<T>() -> Result<T> {
    Err(Error::new(Kind::Network, "stub"))
}
#[async_trait::async_trait]
impl Source for Repository {
    async fn resolve(&self, _: &Name) -> Result<(Descriptor, bytes::Bytes)> {
        no()
    }
    async fn fetch(&self, _: &Descriptor) -> Result<Reader> {
        no()
    }
}
#[async_trait::async_trait]
impl Sink for Repository {
    async fn exists(&self, _: &Descriptor) -> Result<bool> {
        no()
    }
    async fn push(&self, _: &Descriptor, _: Reader) -> Result<()> {
        no()
    }
    async fn tagged(&self, _: &Name) -> Result<Option<Digest>> {
        no()
    }
    async fn tag(&self, _: &Name, _: &Descriptor, _: bytes::Bytes) -> Result<()> {
        no()
    }
}
