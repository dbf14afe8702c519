//! Where images come from and go to: what the command line says about places, turned into sources
//! and sinks.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::archive::Blank;
use crate::artifact::{self, Accompanied, ChartsOnly, Recipe, Template};
use crate::content::{Alternative, Failover, Remembered, Source, Standing, file};
use crate::docker_archive::{DockerArchive, DockerSource, Packers};
use crate::error::{Error, Kind, Result, Side};
use crate::layout::{Layout, LayoutSink, LayoutSource};
use crate::manifest::{self, CHART, Promotion, ReportFile, Reports, Variant};
use crate::oci::{Files, Finding, Name, Registry, Repository, Transport};
use crate::plan::{Image, Place, Plan, Sources};
use crate::registry;
use crate::store::{self, Store};

/// `FROM=TO`: images whose name begins with FROM are pulled at TO.
#[derive(Clone, Debug)]
pub struct Mirror {
    from: String,
    to: MirrorTarget,
}

#[derive(Clone, Debug)]
enum MirrorTarget {
    Registry(String),
    Files(Files),
    Store(PathBuf),
}

impl Mirror {
    /// Whether it is about a repository of this full name.
    fn fits(&self, full: &str) -> bool {
        below(full, &self.from).is_some()
    }

    /// Whether it is about any of these.
    pub fn fits_any(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.fits(name))
    }

    /// What it is about.
    pub fn from(&self) -> &str {
        &self.from
    }
}

impl FromStr for Mirror {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::Usage, "not a mirror").got(format_args!("{:?}", shown(text))).expected(
                "FROM=TO, such as registry.example.com=127.0.0.1:5000 or registry.example.com=oci:DIRECTORY; TO may also be oci-archive:FILE, docker-archive:FILE or store:DIRECTORY",
            )
        };
        let (from, to) = text.split_once('=').ok_or_else(wrong)?;
        let (from, to) = (from.trim_end_matches('/'), to.trim_end_matches('/'));
        split_host(from).map_err(|_| wrong())?;
        let to = match Transport::split(to) {
            None => MirrorTarget::Registry(to.to_owned()),
            Some((Transport::Docker, to)) => MirrorTarget::Registry(to.to_owned()),
            Some((Transport::Store, "")) => return Err(wrong()),
            Some((Transport::Store, directory)) => MirrorTarget::Store(directory.into()),
            Some(_) => match Files::parse(to) {
                Ok((files, None)) => MirrorTarget::Files(files),
                Ok((_, Some(_))) => {
                    return Err(wrong()
                        .hint("a mirror has many images, each under its own name; the release manifest names one with source"));
                }
                Err(_) => return Err(wrong()),
            },
        };
        if let MirrorTarget::Registry(to) = &to {
            split_host(to).map_err(|_| wrong())?;
        }
        Ok(Mirror { from: from.to_owned(), to })
    }
}

/// An address as it may be shown: whoever types a login into it has typed a password.
fn shown(text: &str) -> String {
    if Transport::split(text).is_some_and(|(transport, _)| transport != Transport::Docker) {
        return text.to_owned();
    }
    match text.rfind('@') {
        Some(at) => format!("***{}", text.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// `host[:port][/path]`, both parts checked.
fn split_host(text: &str) -> Result<(Registry, Option<Repository>)> {
    if text.contains('@') {
        return Err(Error::new(Kind::RefInvalid, "an address with a login or a digest in it")
            .at(shown(text))
            .expected("host[:port][/path]")
            .hint("log in with skopeo login or docker login: the login is found where these leave it"));
    }
    match text.split_once('/') {
        Some((host, path)) => Ok((host.parse()?, Some(path.parse()?))),
        None => Ok((text.parse()?, None)),
    }
}

/// What follows `prefix` in `path`, where it ends at a segment: `""` or `/…`.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The source of each variant: what it is made of, files of its own, mirrors, or the registries that it lies in.
pub async fn sources(variants: &[Variant], mirrors: &[Mirror], opener: &mut Opener<'_>) -> Result<Sources> {
    let mut sources = Vec::new();
    for variant in variants {
        let chart = variant.want.variant == CHART && variant.made.is_none();
        let source = opener.source(Origin::of(variant, mirrors)?, chart).await?;
        sources.push(accompanied(variant, source));
    }
    Ok(sources)
}

/// The source of a variant that files are attached to.
pub(super) fn accompanied(variant: &Variant, source: Arc<dyn Source>) -> Arc<dyn Source> {
    let Reports { files, alone } = &variant.reports;
    if files.is_empty() {
        return source;
    }
    let templates = files.iter().cloned().map(|ReportFile { directory, template, sbom }| Template {
        directory,
        path: template,
        sbom,
    });
    Arc::new(Accompanied::new(source, templates.collect(), *alone))
}

/// Opens places, each once for all that is taken from it.
pub struct Opener<'a> {
    client: &'a registry::Client,
    room: Arc<AtomicUsize>,
    known: HashMap<String, Arc<dyn Source>>,
    stores: Stores,
    archives: Archives,
    standings: HashMap<String, Standing>,
}

impl<'a> Opener<'a> {
    /// Opens registries by this client.
    pub fn new(client: &'a registry::Client) -> Self {
        Opener {
            client,
            room: Remembered::room(),
            known: HashMap::new(),
            stores: Stores::default(),
            archives: Archives::default(),
            standings: HashMap::new(),
        }
    }

    /// The source that these are together: the first of them, and the others where it fails.
    pub(super) async fn source(&mut self, mut origins: Vec<Origin>, chart: bool) -> Result<Arc<dyn Source>> {
        let key = format!("{origins:?} {chart}");
        if let Some(source) = self.known.get(&key) {
            return Ok(source.clone());
        }
        let source = match origins.len() {
            1 => self.open(origins.remove(0)).await?,
            _ => {
                let mut places = Vec::new();
                for origin in origins {
                    let standing = self.standings.entry(origin.host()).or_default().clone();
                    places.push(Alternative {
                        name: origin.to_string(),
                        source: self.open(origin).await?,
                        standing,
                    });
                }
                Arc::new(Failover::new(places, self.client.note()))
            }
        };
        let source = if chart { Arc::new(ChartsOnly(source)) } else { source };
        let source: Arc<dyn Source> = Arc::new(Remembered::new(source, self.room.clone()));
        self.known.insert(key, source.clone());
        Ok(source)
    }

    async fn open(&mut self, origin: Origin) -> Result<Arc<dyn Source>> {
        Ok(match origin {
            Origin::Files(files, finding) => {
                self.archives.source(&files, finding).await.map_err(|e| e.side(Side::Source))?
            }
            Origin::Repository(registry, repository) => {
                Arc::new(self.client.repository(&registry, &repository))
            }
            Origin::Store(directory, repository) => {
                Arc::new(self.stores.at(&directory, store::existing)?.shelf(&repository))
            }
            Origin::Made(recipe) => Arc::new(artifact::Made::new(recipe)),
        })
    }
}

/// Files that are read for the variants, if they are there.
pub fn inputs(variants: &[Variant], mirrors: &[Mirror]) -> Result<Vec<PathBuf>> {
    let mut inputs = Vec::new();
    for variant in variants {
        if let Some(Promotion::Receipt(path) | Promotion::Bundle(path)) = &variant.promotion {
            inputs.push(path.clone());
        }
        for origin in Origin::of(variant, mirrors)? {
            match origin {
                Origin::Files(files, _) => inputs.push(files.path),
                Origin::Made(recipe) => inputs.extend(recipe.files()),
                Origin::Repository(..) | Origin::Store(..) => {}
            }
        }
    }
    Ok(inputs)
}

/// Where something is taken from.
#[derive(Debug)]
pub(super) enum Origin {
    Files(Files, Finding),
    Repository(Registry, Repository),
    Store(PathBuf, Repository),
    Made(Recipe),
}

/// How an artifact is made of files.
fn recipe(made: &manifest::Made) -> Recipe {
    match made.clone() {
        manifest::Made::Chart(archive) => Recipe::Chart(archive),
        manifest::Made::Files { paths, media_type, artifact_type } => {
            Recipe::Files { paths, media_type, artifact_type }
        }
    }
}

impl Origin {
    /// The places of a variant, in the order in which they are tried.
    fn of(variant: &Variant, mirrors: &[Mirror]) -> Result<Vec<Self>> {
        if let Some(made) = &variant.made {
            return Ok(vec![Origin::Made(recipe(made))]);
        }
        if let Some((files, finding)) = &variant.files {
            return Ok(vec![Origin::Files(files.clone(), finding.clone())]);
        }
        let name = &variant.want.source;
        // Where what the images are called is no place of theirs, a mirror of that name takes the place of all.
        let own = format!("{}/{}", name.registry, name.repository);
        let named = variant.homes.iter().any(|home| home.name(&name.repository) == own);
        if variant.homes.is_empty() || !named && mirrors.iter().any(|mirror| mirror.fits(&own)) {
            return Ok(vec![Origin::named(&own, &name.repository, mirrors)?]);
        }
        let homes = variant.homes.iter();
        homes.map(|home| Origin::named(&home.name(&name.repository), &name.repository, mirrors)).collect()
    }

    /// A repository by its full name, or what a mirror puts in its place; `repository` is its name in a store.
    pub(super) fn named(full: &str, repository: &Repository, mirrors: &[Mirror]) -> Result<Self> {
        let fitting = mirrors.iter().filter_map(|mirror| Some((mirror, below(full, &mirror.from)?)));
        let to_registry = |address: &str, what: &'static str| match split_host(address)? {
            (registry, Some(repository)) => Ok(Origin::Repository(registry, repository)),
            (_, None) => Err(Error::new(Kind::RefInvalid, what).got(address)),
        };
        match fitting.max_by_key(|(mirror, _)| mirror.from.len()) {
            None => to_registry(full, "a name without a repository"),
            Some((Mirror { to: MirrorTarget::Files(files), .. }, _)) => {
                Ok(Origin::Files(files.clone(), Finding::Full))
            }
            // The store of a registry that has these images under their own names.
            Some((Mirror { to: MirrorTarget::Store(directory), .. }, _)) => {
                Ok(Origin::Store(directory.clone(), repository.clone()))
            }
            Some((Mirror { to: MirrorTarget::Registry(to), .. }, rest)) => {
                to_registry(&format!("{to}{rest}"), "a mirror leaves no repository name")
            }
        }
    }

    /// What does well or badly as a whole.
    fn host(&self) -> String {
        match self {
            Origin::Repository(registry, _) => registry.to_string(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Files(files, _) => files.fmt(f),
            Origin::Repository(registry, repository) => write!(f, "{registry}/{repository}"),
            Origin::Store(directory, repository) => write!(f, "store:{}, {repository}", directory.display()),
            Origin::Made(_) => f.write_str("files"),
        }
    }
}

/// Layouts and archives, each opened once for all of its images: to decompress one takes time and room.
#[derive(Default)]
struct Archives {
    layouts: HashMap<Files, Arc<Layout>>,
    docker: HashMap<Files, Arc<DockerArchive>>,
    packers: Arc<Packers>,
}

impl Archives {
    async fn source(&mut self, files: &Files, finding: Finding) -> Result<Arc<dyn Source>> {
        Ok(match files.transport {
            Transport::DockerArchive => {
                let packers = self.packers.clone();
                let open = move |files: &Files| DockerArchive::open(files, packers);
                let archive = opened(&mut self.docker, files, open).await?;
                Arc::new(DockerSource::new(archive, finding))
            }
            _ => {
                let layout = opened(&mut self.layouts, files, Layout::open).await?;
                Arc::new(LayoutSource::new(layout, finding))
            }
        })
    }
}

async fn opened<T: Send + Sync + 'static>(
    known: &mut HashMap<Files, Arc<T>>,
    files: &Files,
    open: impl FnOnce(&Files) -> Result<T> + Send + 'static,
) -> Result<Arc<T>> {
    if let Some(there) = known.get(files) {
        return Ok(there.clone());
    }
    let to_open = files.clone();
    // A thread of its own: an archive may take minutes, and nobody is to wait for it who gives up.
    let there = tokio::task::spawn_blocking(move || open(&to_open)).await.map_err(|_| file::ended())??;
    let there = Arc::new(there);
    known.insert(files.clone(), there.clone());
    Ok(there)
}

/// Stores, each opened once for all of its repositories.
#[derive(Default)]
struct Stores(HashMap<PathBuf, Store>);

impl Stores {
    fn at(&mut self, directory: &Path, open: fn(&Path) -> Result<Store>) -> Result<Store> {
        if let Some(store) = self.0.get(directory) {
            return Ok(store.clone());
        }
        let store = open(directory)?;
        self.0.insert(directory.to_owned(), store.clone());
        Ok(store)
    }
}

/// Where images go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A registry, and a path that all repositories are put below.
    Registry(Registry, Option<Repository>),
    /// An OCI layout.
    Layout(PathBuf),
    /// The store of a registry.
    Store(PathBuf),
    /// An archive that other tools load.
    Archive(Form, PathBuf),
}

/// What kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI layout in a tar.
    Oci,
    /// What `docker load` takes.
    Docker,
}

impl Form {
    fn transport(self) -> Transport {
        match self {
            Form::Oci => Transport::OciArchive,
            Form::Docker => Transport::DockerArchive,
        }
    }
}

/// The path of a layout or an archive that is to be written.
fn path_to_write(transport: Transport, path: &str) -> Result<PathBuf> {
    let wrong = |what: &str| {
        Error::new(Kind::Usage, what.to_owned()).got(format_args!("\"{}{path}\"", transport.prefix()))
    };
    match path {
        "" | "-" => Err(wrong("not a destination: no path")
            .expected("oci:DIRECTORY, store:DIRECTORY, oci-archive:FILE or docker-archive:FILE")),
        // skopeo and podman, and sealift itself, take what follows it for the name of an image.
        path if path.contains(':') && transport != Transport::Store => {
            Err(wrong("no reader of it takes a path with a ':' in it")
                .hint("images keep their names there; --map changes them"))
        }
        path => Ok(path.into()),
    }
}

impl FromStr for Destination {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::Usage, "not a destination")
                .got(format_args!("{:?}", shown(text)))
                .expected("docker://host[:port][/prefix], oci:DIRECTORY, store:DIRECTORY, oci-archive:FILE or docker-archive:FILE")
        };
        if let Some((transport, path)) = Transport::split(text) {
            let path = || path_to_write(transport, path);
            match transport {
                Transport::Oci => return Ok(Destination::Layout(path()?)),
                Transport::Store => return Ok(Destination::Store(path()?)),
                Transport::OciArchive => return Ok(Destination::Archive(Form::Oci, path()?)),
                Transport::DockerArchive => return Ok(Destination::Archive(Form::Docker, path()?)),
                Transport::Docker => {}
            }
        }
        if text.starts_with("dir:") {
            return Err(wrong().hint("for skopeo's directories, copy from one of these with skopeo"));
        }
        let address = text.strip_prefix("docker://").unwrap_or(text);
        if address.contains("://") {
            return Err(wrong().hint("say docker://HOST, and --plain-http HOST if it is reached without TLS"));
        }
        let host = address.split('/').next().unwrap_or_default();
        if !text.starts_with("docker://") && !host.contains(['.', ':']) && host != "localhost" {
            return Err(
                wrong().hint(format_args!("for a directory say oci:{text}, for a registry docker://{text}"))
            );
        }
        let (registry, prefix) = split_host(address.trim_end_matches('/'))
            .map_err(|e| e.at(shown(text)).hint("a destination has a host and maybe a path, but no tag"))?;
        Ok(Destination::Registry(registry, prefix))
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Registry(registry, None) => write!(f, "docker://{registry}"),
            Destination::Registry(registry, Some(prefix)) => write!(f, "docker://{registry}/{prefix}"),
            Destination::Layout(directory) => write!(f, "oci:{}", directory.display()),
            Destination::Store(directory) => write!(f, "store:{}", directory.display()),
            Destination::Archive(form, file) => write!(f, "{}{}", form.transport().prefix(), file.display()),
        }
    }
}

/// `FROM=TO`: repositories that begin with FROM get TO in its place.
#[derive(Clone, Debug)]
pub struct Renaming {
    from: String,
    to: String,
}

impl FromStr for Renaming {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('=').map(|(from, to)| (from.trim_end_matches('/'), to.trim_matches('/')));
        match parts {
            Some((from, to))
                if !from.is_empty()
                    && (to.is_empty() || split_host(to).is_ok() || to.parse::<Repository>().is_ok()) =>
            {
                Ok(Renaming { from: from.to_owned(), to: to.to_owned() })
            }
            _ => Err(Error::new(Kind::Usage, "not a renaming")
                .got(format_args!("{:?}", shown(text)))
                .expected("FROM=TO, such as nexus=mirror/nexus or registry.example.com/nexus=apps")),
        }
    }
}

/// The name that an image gets at the destination.
pub fn renamed(name: &Name, destination: &Destination, renamings: &[Renaming]) -> Result<Name> {
    let (registry, path) = match fitting(name, renamings) {
        Some((renaming, rest)) => renaming.apply(name, rest, destination)?,
        None => (name.registry.clone(), name.repository.to_string()),
    };
    let (registry, path) = match destination {
        Destination::Registry(registry, Some(prefix)) => (registry.clone(), format!("{prefix}/{path}")),
        Destination::Registry(registry, None) => (registry.clone(), path),
        // A store is one registry, whatever that will be called.
        Destination::Store(_) => ("store".parse()?, path),
        // A layout keeps full names, in a directory or in a file.
        Destination::Layout(_) | Destination::Archive(..) => (registry, path),
    };
    let repository = path.parse().map_err(|e: Error| e.at(name).hint("check the --map rules"))?;
    Ok(Name { registry, repository, tag: name.tag.clone() })
}

/// The renaming that applies: one whose FROM names the registry goes before one without, a longer
/// FROM before a shorter one. And what follows FROM in the name.
fn fitting<'a>(name: &'a Name, renamings: &'a [Renaming]) -> Option<(&'a Renaming, String)> {
    let full = format!("{}/{}", name.registry, name.repository);
    let fits = |path: &str| {
        let rest = |renaming: &'a Renaming| Some((renaming, below(path, &renaming.from)?.to_owned()));
        renamings.iter().filter_map(rest).max_by_key(|(renaming, _)| renaming.from.len())
    };
    fits(&full).or_else(|| fits(name.repository.as_str()))
}

impl Renaming {
    /// The new registry and path. In a layout a TO that begins with a host replaces the host as well.
    fn apply(&self, name: &Name, rest: String, destination: &Destination) -> Result<(Registry, String)> {
        let path = format!("{}{rest}", self.to);
        let path = path.trim_start_matches('/');
        match (destination, path.split_once('/')) {
            (Destination::Layout(_) | Destination::Archive(..), Some((host, path)))
                if host.contains(['.', ':']) || host == "localhost" =>
            {
                Ok((host.parse()?, path.to_owned()))
            }
            _ => Ok((name.registry.clone(), path.to_owned())),
        }
    }
}

/// Every rule must have something to do: one that fits nothing is a typing error, and what it was
/// meant to prevent would happen.
pub fn check_renamings<'a>(
    renamings: &[Renaming],
    names: impl Iterator<Item = &'a Name> + Clone,
) -> Result<()> {
    let fits = |renaming: &Renaming, name: &Name| fitting(name, std::slice::from_ref(renaming)).is_some();
    match renamings.iter().find(|renaming| !names.clone().any(|name| fits(renaming, name))) {
        Some(idle) => {
            let names = names.map(|name| format!("{}/{}", name.registry, name.repository));
            Err(fits_nothing("--map", &idle.from, names.collect()))
        }
        None => Ok(()),
    }
}

/// The same for mirrors, where the images would be asked for at a place that was not meant.
pub fn check_mirrors(mirrors: &[Mirror], variants: &[Variant]) -> Result<()> {
    let names = names_to_mirror(variants);
    match mirrors.iter().find(|mirror| !mirror.fits_any(&names)) {
        Some(idle) => Err(fits_nothing("--mirror", &idle.from, names)),
        None => Ok(()),
    }
}

/// The full names of the repositories that a mirror can stand for.
pub fn names_to_mirror(variants: &[Variant]) -> Vec<String> {
    let mut names = Vec::new();
    for variant in variants.iter().filter(|variant| variant.files.is_none() && variant.made.is_none()) {
        let name = &variant.want.source;
        names.push(format!("{}/{}", name.registry, name.repository));
        names.extend(variant.homes.iter().map(|home| home.name(&name.repository)));
        if let Some(Promotion::Tag(before)) = &variant.promotion {
            names.push(format!("{}/{}", before.registry, before.repository));
        }
    }
    names.dedup();
    names
}

fn fits_nothing(flag: &str, from: &str, mut names: Vec<String>) -> Error {
    names.dedup();
    names.truncate(4);
    Error::new(Kind::EmptySelection, format!("{flag} fits no image"))
        .got(from)
        .expected(format_args!("the beginning of a name such as {}", names.join(", ")))
}

/// The places that a plan's images go to.
///
/// # Errors
/// `RefAmbiguous` where two images would get one name, before anything moves.
pub fn places(
    plan: &Plan,
    destination: &Destination,
    renamings: &[Renaming],
    client: &registry::Client,
) -> Result<Vec<Place>> {
    let mut grouped: BTreeMap<String, Vec<(usize, Vec<Name>)>> = BTreeMap::new();
    let mut taken: HashMap<Name, &Image> = HashMap::new();
    for (number, image) in plan.images.iter().enumerate() {
        let mut names = Vec::new();
        for name in image.names() {
            let name = renamed(&name, destination, renamings)?;
            match taken.insert(name.clone(), image) {
                Some(other) if other.digest != image.digest => {
                    return Err(Error::new(
                        Kind::RefAmbiguous,
                        "two images would get one name at the destination",
                    )
                    .at(&name)
                    .got(format_args!("{} and {}", other.source, image.source))
                    .hint("tell them apart with --map"));
                }
                Some(_) => {}
                None => names.push(name),
            }
        }
        let repository = match destination {
            Destination::Registry(..) | Destination::Store(_) => {
                renamed(&image.source, destination, renamings)?.repository.to_string()
            }
            Destination::Layout(_) | Destination::Archive(..) => String::new(),
        };
        grouped.entry(repository).or_default().push((number, names));
    }
    let mut stores = Stores::default();
    let place = |(repository, images): (String, Vec<(usize, Vec<Name>)>)| {
        Ok(match destination {
            Destination::Registry(registry, _) => {
                let there = Arc::new(client.repository(registry, &repository.parse()?));
                Place { sink: there.clone(), repository, images, source: Some(there) }
            }
            Destination::Layout(directory) => {
                Place { sink: Arc::new(LayoutSink::new(directory)?), repository, images, source: None }
            }
            Destination::Archive(..) => Place { sink: Arc::new(Blank), repository, images, source: None },
            Destination::Store(directory) => {
                let there = Arc::new(stores.at(directory, Store::at)?.shelf(&repository.parse()?));
                Place { sink: there.clone(), repository, images, source: Some(there) }
            }
        })
    };
    grouped.into_iter().map(place).collect()
}
