//! Uploads: files that grow until they are named. They lie where Distribution has them
//! (`_uploads/<uuid>/{data,startedat}`), so that either program finds, and purges, what the other one
//! left. What has passed is hashed while it passes; after a restart the file is hashed at the end.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::inner::{Inner, Lasting, damaged, lock};
use super::paths;
use super::tree::{Tree, modified};
use super::workshop::random_name;
use crate::content::Unverified;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::oci::{Digest, Hasher, Repository};
use crate::release::Moment;

/// The uploads that this run has seen, and how many there are.
#[derive(Default)]
pub(super) struct Sessions {
    seen: HashMap<(Repository, String), Arc<tokio::sync::Mutex<Session>>>,
    /// `None` before they were counted.
    open: Option<usize>,
}

/// How far an upload has come.
struct Session {
    length: u64,
    /// `None` where not all of it has passed by here.
    hasher: Option<Hasher>,
}

fn started(upload: &str) -> String {
    format!("{upload}/startedat")
}

fn data(upload: &str) -> String {
    format!("{upload}/data")
}

/// A name that can be an upload's: hexadecimal digits and hyphens, so it is no path.
fn is_name(upload: &str) -> bool {
    upload.len() == 36 && upload.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

fn unknown(repository: &Repository, upload: &str) -> Error {
    Error::new(Kind::NotFound, "no such upload").at(repository).got(format_args!("{upload:?}"))
}

impl Inner {
    /// Begins an upload.
    pub fn begin(&self, repository: &Repository) -> Result<String> {
        self.count_one()?;
        let begun = self.begin_counted(repository);
        if begun.is_err() {
            self.forget_one();
        }
        begun
    }

    fn begin_counted(&self, repository: &Repository) -> Result<String> {
        let tree = self.made()?;
        let id = random_name()?;
        let path = paths::upload(repository, &id);
        tree.make(&path)?;
        tree.write(&started(&path), Moment::now().to_string().as_bytes())?;
        tree.create(&data(&path))?;
        let session = Session { length: 0, hasher: Some(Hasher::default()) };
        let session = Arc::new(tokio::sync::Mutex::new(session));
        lock(&self.sessions).seen.insert((repository.clone(), id.clone()), session);
        Ok(id)
    }

    /// One more; where there are too many, old ones are purged first.
    fn count_one(&self) -> Result<()> {
        let known = lock(&self.sessions).open;
        let open = match known.filter(|open| *open < limits::UPLOADS) {
            Some(_) => None,
            None => Some(self.purge_uploads()?),
        };
        let mut sessions = lock(&self.sessions);
        let open = open.or(sessions.open).unwrap_or_default();
        if open >= limits::UPLOADS {
            return Err(Error::new(Kind::LimitExceeded, "too many uploads are open")
                .at(self.directory.display())
                .expected(format_args!("at most {}", limits::UPLOADS))
                .hint("finish or cancel some; what is older than a day is forgotten"));
        }
        sessions.open = Some(open.saturating_add(1));
        Ok(())
    }

    fn forget_one(&self) {
        let mut sessions = lock(&self.sessions);
        sessions.open = sessions.open.map(|open| open.saturating_sub(1));
    }

    /// Removes uploads that are too old; how many are left.
    pub fn purge_uploads(&self) -> Result<usize> {
        let Some(tree) = self.tree()? else { return Ok(0) };
        let mut left = 0usize;
        for repository in self.uploading(&tree)? {
            for id in tree.directories(&format!("{repository}/_uploads"))? {
                let path = format!("{repository}/_uploads/{id}");
                match is_stale(&tree, &path)? {
                    true => {
                        self.workshop()?.1.discard(&path)?;
                        let other = |key: &(Repository, String)| paths::upload(&key.0, &key.1) != path;
                        lock(&self.sessions).seen.retain(|key, _| other(key));
                    }
                    false => left = left.saturating_add(1),
                }
            }
        }
        lock(&self.sessions).open = Some(left);
        Ok(left)
    }

    /// The paths of all repositories that have uploads, whether or not they have anything else.
    fn uploading(&self, tree: &Tree) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut left = vec![paths::REPOSITORIES.to_owned()];
        while let Some(path) = left.pop() {
            for name in tree.directories(&path)? {
                match name.as_str() {
                    "_uploads" => found.push(path.clone()),
                    name if name.starts_with('_') => {}
                    name => left.push(format!("{path}/{name}")),
                }
            }
        }
        Ok(found)
    }

    /// An upload that is there.
    fn session(
        &self,
        repository: &Repository,
        upload: &str,
    ) -> Result<Option<Arc<tokio::sync::Mutex<Session>>>> {
        let key = (repository.clone(), upload.to_owned());
        if !self.has_upload(repository, upload)? {
            lock(&self.sessions).seen.remove(&key);
            return Ok(None);
        }
        let fresh = || Arc::new(tokio::sync::Mutex::new(Session { length: 0, hasher: None }));
        Ok(Some(lock(&self.sessions).seen.entry(key).or_insert_with(fresh).clone()))
    }

    fn has_upload(&self, repository: &Repository, upload: &str) -> Result<bool> {
        let Some(tree) = self.tree()?.filter(|_| is_name(upload)) else { return Ok(false) };
        Ok(tree.facts(&started(&paths::upload(repository, upload)))?.is_some())
    }

    /// Bytes that an upload has.
    pub fn received(&self, repository: &Repository, upload: &str) -> Result<Option<u64>> {
        let Some(tree) = self.tree()? else { return Ok(None) };
        if !self.has_upload(repository, upload)? {
            return Ok(None);
        }
        let facts = tree.facts(&data(&paths::upload(repository, upload)))?;
        Ok(Some(facts.map_or(0, |facts| facts.st_size as u64)))
    }

    /// The file of an upload, made where Distribution has not made it yet; and how far it has come.
    fn opened(&self, path: &str, session: &mut Session) -> Result<std::fs::File> {
        let tree = self.made()?;
        let file = match tree.writable(&data(path))? {
            Some(file) => file,
            None if tree.facts(&started(path))?.is_none() => return Err(given_up(&tree, path)),
            None => tree.create(&data(path))?,
        };
        let length = file.metadata().map_err(|e| writing(&tree, path, &e))?.len();
        if length != session.length {
            *session = Session { length, hasher: None };
        }
        if length == 0 {
            session.hasher = Some(Hasher::default());
        }
        Ok(file)
    }

    /// Appends to an upload; what it has then.
    pub async fn append(&self, repository: &Repository, upload: &str, content: Unverified) -> Result<u64> {
        let found = tokio::task::block_in_place(|| self.session(repository, upload))?;
        let session = found.ok_or_else(|| unknown(repository, upload))?;
        let mut session = session.try_lock().map_err(|_| busy(repository, upload))?;
        let path = paths::upload(repository, upload);
        let tree = self.made()?;
        let file = tokio::task::block_in_place(|| self.opened(&path, &mut session))?;
        let mut at = session.length;
        // Until all that was written was hashed, the file counts.
        let mut hasher = session.hasher.take();
        let taken = content.put_aside(|piece| {
            let written = tokio::task::block_in_place(|| file.write_all_at(&piece, at));
            if let Err(e) = written {
                hasher = None;
                return Err(writing(&tree, &path, &e));
            }
            at = at.saturating_add(piece.len() as u64);
            if let Some(hasher) = &mut hasher {
                hasher.update(&piece);
            }
            Ok(())
        });
        let taken = taken.await;
        *session = Session { length: at, hasher };
        taken?;
        match tokio::task::block_in_place(|| self.has_upload(repository, upload))? {
            true => Ok(at),
            false => Err(given_up(&tree, &path)),
        }
    }

    /// Makes an upload a blob.
    pub async fn finish(&self, repository: &Repository, upload: &str, digest: &Digest) -> Result<()> {
        let found = tokio::task::block_in_place(|| self.session(repository, upload))?;
        let session = found.ok_or_else(|| unknown(repository, upload))?;
        let mut session = session.try_lock().map_err(|_| busy(repository, upload))?;
        tokio::task::block_in_place(|| self.finish_session(repository, upload, digest, &mut session))
    }

    fn finish_session(
        &self,
        repository: &Repository,
        upload: &str,
        digest: &Digest,
        session: &mut Session,
    ) -> Result<()> {
        let path = paths::upload(repository, upload);
        let file = self.opened(&path, session)?;
        let tree = self.made()?;
        let got = match session.hasher.clone() {
            Some(hasher) => hasher.finish(),
            None => self.hash(&file, &tree.shown(&data(&path)))?,
        };
        if got != *digest {
            self.drop_upload(repository, upload)?;
            return Err(
                damaged(repository, got, *digest).hint_instead("nothing of it was kept: upload it again")
            );
        }
        self.keep_upload(&path, &file, digest)?;
        self.linked_now(repository, digest, Lasting::Now)?;
        self.drop_upload(repository, upload).map(drop)
    }

    /// Its file becomes the blob. A blob that is there is replaced: whatever was wrong with it is mended.
    fn keep_upload(&self, path: &str, file: &std::fs::File, digest: &Digest) -> Result<()> {
        let (tree, workshop) = self.workshop()?;
        file.sync_data().map_err(|e| writing(&tree, path, &e))?;
        let name = workshop.name();
        if !tree.rename(&data(path), &name)? {
            return Err(given_up(&tree, path));
        }
        self.keep(super::workshop::Draft::of(&tree, name, file)?, digest, Lasting::Now)
    }

    fn drop_upload(&self, repository: &Repository, upload: &str) -> Result<bool> {
        lock(&self.sessions).seen.remove(&(repository.clone(), upload.to_owned()));
        let dropped = self.workshop()?.1.discard(&paths::upload(repository, upload))?;
        if dropped {
            self.forget_one();
        }
        Ok(dropped)
    }

    /// Gives an upload up; whether there was one.
    pub fn cancel(&self, repository: &Repository, upload: &str) -> Result<bool> {
        match self.has_upload(repository, upload)? {
            true => self.drop_upload(repository, upload),
            false => Ok(false),
        }
    }
}

/// Somebody has cancelled or purged it meanwhile.
fn given_up(tree: &Tree, path: &str) -> Error {
    Error::new(Kind::NotFound, "the upload was given up").at(tree.shown(path))
}

fn writing(tree: &Tree, path: &str, error: &std::io::Error) -> Error {
    Error::io("cannot write to the store", tree.shown(&data(path)), error)
}

fn busy(repository: &Repository, upload: &str) -> Error {
    Error::new(Kind::Locked, "another request is writing this upload")
        .at(repository)
        .got(upload)
        .hint("ask how far it is, and go on from there")
}

/// Whether nobody will finish an upload: it was begun more than a day ago, or nothing says when and
/// nothing was written for a day.
fn is_stale(tree: &Tree, upload: &str) -> Result<bool> {
    let text = tree.read(&started(upload), 64).ok().flatten();
    let said = text.and_then(|text| String::from_utf8(text).ok()?.trim().parse::<Moment>().ok());
    if let Some(begun) = said {
        return Ok(begun.a_day_later() < Moment::now());
    }
    let Some(facts) = tree.facts(upload)? else { return Ok(false) };
    let old = SystemTime::now().checked_sub(limits::UPLOAD_AGE).unwrap_or(SystemTime::UNIX_EPOCH);
    let old = old.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(modified(&facts) < i128::try_from(old.as_nanos()).unwrap_or(i128::MAX))
}
