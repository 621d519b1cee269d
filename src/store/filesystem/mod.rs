//! Pages in a folder: `<path>/<flavor>/<version>/pages/<sha1 of path>/<METHOD>-<sha1 of the variant>`.
//!
//! - One process owns `<path>`, by a lock on `<path>/lock`. What it does not recognise it leaves alone.
//! - A page is written beside its place and renamed into it. Pages are not synced: a power loss may cost pages, which is a
//!   miss each, and never serves a torn one (see [`crate::page::stored`]).
//! - At most `max_bytes` lie there; beyond, the least recently used go, nearly (a sample decides). Until the folder has
//!   been counted after a start, in the background, [`Usage::exact`] is false.
//! - A listing reads the names of all folders on each call: fine up to some hundred thousand paths.

mod file;
mod folder;
mod lock;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{fs, io};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::folder::{Failure, Folder};
use self::lock::Lock;
use super::{Listed, Listing, Object, Place, Store, StoreError, Usage};
use crate::background::{self, Turn};
use crate::clock::Clock;
use crate::page::large::{LargePage, next_piece};
use crate::page::{JournalId, ObjectName, PathId, Sequence, stored};

/// The word for it.
const KIND: &str = "filesystem";

/// File operations at the same time: enough for a queue in front of any disk, few enough threads.
const MAX_OPERATIONS: usize = 64;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error(
        "the folder {} is in use by {holder}: stop it, or give this one a folder of its own (store.filesystem.path)",
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// "process 123", as far as that is known.
        holder: String,
    },
    /// The flavor is no name of a folder.
    #[error("the flavor {0:?} cannot name a folder: use letters, digits, \"-\" and \"_\" (cache.flavor)")]
    Flavor(String),
    /// The system refuses.
    #[error("cannot {action} the folder {}: {source}", path.display())]
    Folder {
        /// The verb.
        action: &'static str,
        /// The folder or its lock.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    fn folder(action: &'static str, path: &Path, source: io::Error) -> Self {
        OpenError::Folder { action, path: path.to_owned(), source }
    }
}

/// How much it takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all pages; the least recently used go first.
    pub max_bytes: u64,
    /// Bytes of the largest body that is read into memory.
    pub max_memory_bytes: u64,
}

/// The store `filesystem`.
#[derive(Debug)]
pub struct FilesystemStore {
    folder: Arc<Folder>,
    operations: Arc<Semaphore>,
    scan: Option<JoinHandle<()>>,
}

impl FilesystemStore {
    /// Takes the folder, which is made if it is missing, and begins to count what lies there. An empty flavor is `default`.
    ///
    /// # Errors
    /// Another process has it, or it cannot be written to.
    pub fn open(path: &Path, flavor: &str, version: u32, limits: Limits, clock: Clock) -> Result<Self, OpenError> {
        let flavor = if flavor.is_empty() { "default" } else { flavor };
        // `lock` is the name of the lock.
        let harmless = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if flavor == "lock" || flavor.len() > 100 || !flavor.chars().all(harmless) {
            return Err(OpenError::Flavor(flavor.to_owned()));
        }
        fs::create_dir_all(path).map_err(|source| OpenError::folder("create", path, source))?;
        let lock = Lock::acquire(path)?;
        let root = path.join(flavor).join(version.to_string());
        let folder = Arc::new(Folder::open(&root, lock, limits, clock)?);
        let scanned = folder.clone();
        let scan = std::thread::Builder::new()
            .name("store-scan".to_owned())
            .spawn(move || scanned.scan())
            .map_err(|source| OpenError::folder("start counting", &root, source))?;
        Ok(FilesystemStore { folder, operations: Arc::new(Semaphore::new(MAX_OPERATIONS)), scan: Some(scan) })
    }

    /// Does blocking work where it may block; `action` says what could not be done.
    async fn run<T: Send + 'static>(
        &self,
        action: impl FnOnce() -> String + Send,
        work: impl FnOnce(&Arc<Folder>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.operations.clone().acquire_owned().await.expect("the semaphore is never closed");
        let folder = self.folder.clone();
        // The permit goes along: work that nobody waits for any more still takes a thread.
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&folder)
        });
        let result = done.await.unwrap_or_else(|stopped| Err(stopped.into()));
        result.map_err(|source| StoreError { store: KIND, action: action(), source })
    }

    /// As [`run`](Self::run), behind everybody's back, and only as long as somebody waits for it.
    async fn run_behind<T: Send + 'static>(
        &self,
        action: impl FnOnce() -> String + Send,
        work: impl FnOnce(&Folder, &Turn) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = self.folder.clone();
        let result = background::run(move |turn| work(&folder, turn)).await;
        let result = result.unwrap_or_else(|panic| Err(panic.into()));
        result.map_err(|source| StoreError { store: KIND, action: action(), source })
    }

    /// Piece by piece: no more than one is in memory, and nobody waits for all of them on one thread.
    async fn put_large(&self, name: &ObjectName, page: &LargePage) -> Result<(), StoreError> {
        let action = || format!("write the page of {} as {name}", page.head.path);
        let failed = |source: Failure| StoreError { store: KIND, action: action(), source };
        let (head, bytes) =
            (stored::encode_large(name, page).map_err(|error| failed(error.into()))?, page.body.bytes());
        let expected = head.len() as u64 + bytes;
        let mut temporary = self.run(action, move |folder| folder.begin(&head, bytes)).await?;
        let mut pieces = page.body.read(0..bytes).await.map_err(|error| failed(error.into()))?;
        while let Some(piece) = next_piece(&mut pieces).await {
            let piece = piece.map_err(|error| failed(error.into()))?;
            let append = move |_: &Arc<Folder>| {
                temporary.append(&piece)?;
                Ok(temporary)
            };
            temporary = self.run(action, append).await?;
        }
        if temporary.bytes() != expected {
            return Err(failed("its body is not as long as it says".into()));
        }
        let at = name.clone();
        self.run(action, move |folder| folder.finish(&at, temporary)).await
    }
}

impl Drop for FilesystemStore {
    fn drop(&mut self) {
        self.folder.stop();
        if let Some(scan) = self.scan.take() {
            // It ends after the path it is at; then the lock is free.
            _ = scan.join();
        }
    }
}

#[async_trait]
impl Store for FilesystemStore {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        if self.folder.is_known_absent(name) {
            return Ok(None);
        }
        let wanted = name.clone();
        self.run(|| format!("read {name}"), move |folder| folder.get(&wanted)).await
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        if let Object::Large(page) = object {
            return self.put_large(name, page).await;
        }
        let (at, what) = (name.clone(), object.clone());
        let action = || format!("write the page of {} as {name}", object.path());
        self.run(action, move |folder| folder.put(&at, &what)).await
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        let wanted = name.clone();
        self.run(|| format!("remove {name}"), move |folder| folder.remove_one(&wanted)).await
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        let (below, journal) = (*path, journal.clone());
        let action = || format!("remove old pages in {path}");
        self.run(action, move |folder| folder.remove_older(&below, &journal, before)).await
    }

    /// On one thread: to hand each path to another costs several times what the look does. Nobody waits for it.
    async fn remove_older_each(
        &self,
        paths: &[PathId],
        journal: &JournalId,
        before: Sequence,
    ) -> Result<u64, StoreError> {
        let below: Vec<PathId> = self.folder.may_hold(paths).map(|at| paths[at]).collect();
        if below.is_empty() {
            return Ok(0);
        }
        let journal = journal.clone();
        let work = move |folder: &Folder, turn: &Turn| {
            let wanted = below.iter().take_while(|_| turn.step_back());
            wanted.map(|path| folder.remove_older(path, &journal, before)).sum()
        };
        self.run_behind(|| format!("remove old pages of {} paths", paths.len()), work).await
    }

    /// On one thread too, while whoever invalidates waits: visitors go first all the same.
    async fn pages_each(&self, places: &[Place]) -> Option<Vec<u64>> {
        let paths: Vec<PathId> = places.iter().map(|place| place.path).collect();
        let held: Vec<usize> = self.folder.may_hold(&paths).collect();
        let mut counts = vec![0; places.len()];
        if held.is_empty() {
            return Some(counts);
        }
        let asked: Vec<Place> = held.iter().map(|at| places[*at].clone()).collect();
        let work = move |folder: &Folder, turn: &Turn| {
            let count = |place: &Place| {
                Ok(folder.under(&place.path)?.iter().filter(|page| place.takes(&page.head)).count() as u64)
            };
            asked.iter().take_while(|_| turn.step_back()).map(count).collect::<Result<Vec<u64>, Failure>>()
        };
        let counted = self.run_behind(|| format!("count the pages of {} paths", places.len()), work).await;
        let counted = counted.inspect_err(|error| tracing::warn!("{error}")).ok()?;
        held.into_iter().zip(counted).for_each(|(at, count)| counts[at] = count);
        Some(counts)
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        if self.folder.may_hold(std::slice::from_ref(path)).next().is_none() {
            return Ok(Vec::new());
        }
        let below = *path;
        self.run(|| format!("list the pages in {path}"), move |folder| Ok(folder.under(&below)?)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        let (wanted, after) = (prefix.to_owned(), after.cloned());
        let action = || format!("list the pages below {prefix}");
        self.run(action, move |folder| folder.list(&wanted, after.as_ref(), limit)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.run(|| "use its folder".to_owned(), |folder| folder.check()).await
    }

    fn usage(&self) -> Usage {
        self.folder.usage()
    }
}

#[cfg(test)]
mod tests;
