//! The blocking half: one folder `<path>/<flavor>/<version>` and what it holds.
//!
//! The table and the files change together under a lock of the path's folder, so that neither forgets what the other has.
//! Nothing that everpage did not write is ever removed. It never waits for the network or for a runtime.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use parking_lot::{Mutex, MutexGuard};

use super::file::{self, Content, ReadError, Temporary};
use super::lock::Lock;
use super::table::{Table, Used};
use super::{Limits, OpenError};
use crate::clock::{Clock, UnixMillis};
use crate::page::large::LargePage;
use crate::page::stored::{self, DecodeError, Head};
use crate::page::{JournalId, Object, ObjectName, PathId, Sequence, canonical};
use crate::store::{Listed, Listing, TooLarge, UNDER_MAX, Usage};

/// What went wrong; the caller says at what.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Objects that one call of [`Folder::list`] looks at.
pub(super) const MAX_LOOKED_AT: usize = 2000;

/// Files that are remembered as warned about; beyond that, files are ignored silently.
const MAX_WARNED: usize = 1000;

/// The folder of one flavor and version.
#[derive(Debug)]
pub(super) struct Folder {
    pages: PathBuf,
    temporary: PathBuf,
    limits: Limits,
    clock: Clock,
    table: Mutex<Table>,
    /// One lock for the paths whose names begin with the same byte.
    locks: Box<[Mutex<()>]>,
    evicting: Mutex<()>,
    temporaries: AtomicU64,
    warned: Mutex<HashSet<ObjectName>>,
    stopping: AtomicBool,
    /// Last, so that the folder is free only when nothing here uses it.
    _lock: Lock,
}

impl Folder {
    /// Makes what is missing of the folder and removes what an earlier process left half written.
    pub(super) fn open(root: &Path, lock: Lock, limits: Limits, clock: Clock) -> Result<Self, OpenError> {
        let (pages, temporary) = (root.join("pages"), root.join("tmp"));
        for path in [&pages, &temporary] {
            fs::create_dir_all(path).map_err(|source| OpenError::folder("create", path, source))?;
        }
        Temporary::remove_leftovers(&temporary)
            .map_err(|source| OpenError::folder("remove leftovers in", &temporary, source))?;
        let seed = clock.now().0 ^ u64::from(std::process::id()).rotate_left(32);
        Ok(Folder {
            pages,
            temporary,
            limits,
            clock,
            table: Mutex::new(Table::new(limits.max_bytes, seed)),
            locks: (0..=u8::MAX).map(|_| Mutex::default()).collect(),
            evicting: Mutex::default(),
            temporaries: AtomicU64::default(),
            warned: Mutex::default(),
            stopping: AtomicBool::default(),
            _lock: lock,
        })
    }

    /// Says so without a look at the disk, once everything has been counted: the folder belongs to this process alone. A page that is being written is
    /// absent until it is in the table, as it is until it has its name.
    pub(super) fn is_known_absent(&self, name: &ObjectName) -> bool {
        let table = self.table.lock();
        table.counted && !table.holds(name)
    }

    /// Which of these paths may have something, by their places; as [`Folder::is_known_absent`], without a look at the disk.
    pub(super) fn may_hold<'a>(&self, paths: &'a [PathId]) -> impl Iterator<Item = usize> + use<'a> {
        let table = self.table.lock();
        let may_hold: Vec<bool> = paths.iter().map(|path| !table.counted || table.holds_any_of(path)).collect();
        (0..paths.len()).filter(move |at| may_hold[*at])
    }

    pub(super) fn get(self: &Arc<Self>, name: &ObjectName) -> Result<Option<Object>, Failure> {
        match file::read(&self.file_of(name), name, self.limits.max_memory_bytes) {
            Ok(Content::Whole(object, file)) => {
                self.note_use(name, &file);
                Ok(Some(object))
            }
            Ok(Content::Large(head, body, body_crc)) => {
                self.note_use(name, body.file());
                // Not held: whoever reads on when the store is closed already needs the file alone.
                let (folder, damaged) = (Arc::downgrade(self), name.clone());
                let body = body.on_damage(move |file| {
                    if let Some(folder) = folder.upgrade() {
                        folder.remove_damaged(&damaged, file.file());
                    }
                });
                let page = LargePage { head: *head, body: Arc::new(body), body_crc, path_id: name.path };
                Ok(Some(Object::Large(Arc::new(page))))
            }
            Err(ReadError::Absent) => Ok(None),
            Err(ReadError::System(error)) => Err(error.into()),
            Err(error) => {
                self.warn_once(name, &error);
                Ok(None)
            }
        }
    }

    /// Removes the file in which a reader found a damaged body, unless another has taken its place.
    fn remove_damaged(&self, name: &ObjectName, found: &File) {
        let _locked = self.lock(&name.path);
        let path = self.file_of(name);
        let same = |one: &fs::Metadata, other: &fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
        let is_still_there =
            fs::symlink_metadata(&path).is_ok_and(|there| found.metadata().is_ok_and(|found| same(&there, &found)));
        if !is_still_there {
            return;
        }
        self.warn_once(name, &ReadError::Content(DecodeError::BodyChecksum));
        if let Err(error) = self.remove(name, &path) {
            tracing::warn!(path = %path.display(), %error, "a damaged page cannot be removed");
        }
        self.remove_if_empty(&name.path);
    }

    fn note_use(&self, name: &ObjectName, file: &File) {
        let now = self.clock.now();
        if self.table.lock().used(name, now) == Used::ToSave {
            // Not essential: without it the page looks less used after the next start.
            _ = file.set_modified(now.to_system_time());
        }
    }

    pub(super) fn put(&self, name: &ObjectName, object: &Object) -> Result<(), Failure> {
        let encoded = stored::encode(name, object)?;
        let mut temporary = self.begin(&encoded.head, encoded.body.len() as u64)?;
        temporary.append(&encoded.body)?;
        self.finish(name, temporary)
    }

    /// Begins to write an object, whose body of `body_bytes` follows.
    pub(super) fn begin(&self, head: &[u8], body_bytes: u64) -> Result<Temporary, Failure> {
        let (bytes, limit_bytes) = (head.len() as u64 + body_bytes, self.limits.max_bytes);
        if bytes > limit_bytes {
            return Err(TooLarge { bytes, limit_bytes }.into());
        }
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let mut temporary = Temporary::create(&self.temporary, number)?;
        temporary.append(head)?;
        Ok(temporary)
    }

    /// Puts what was written into its place.
    pub(super) fn finish(&self, name: &ObjectName, temporary: Temporary) -> Result<(), Failure> {
        let bytes = temporary.bytes();
        {
            let _locked = self.lock(&name.path);
            fs::create_dir_all(self.folder_of(&name.path))?;
            temporary.rename(&self.file_of(name))?;
            self.table.lock().put(name, bytes, self.clock.now());
        }
        self.warned.lock().remove(name);
        self.evict();
        Ok(())
    }

    pub(super) fn remove_one(&self, name: &ObjectName) -> Result<(), Failure> {
        let _locked = self.lock(&name.path);
        let file = self.file_of(name);
        match file::is_own(&file) {
            Ok(()) => self.remove(name, &file)?,
            // What is not ours is left alone, and what is not there needs no removal.
            Err(_) => return Ok(()),
        }
        self.remove_if_empty(&name.path);
        Ok(())
    }

    pub(super) fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, Failure> {
        let _locked = self.lock(path);
        let mut removed = 0;
        for name in self.names(path)? {
            let file = self.file_of(&name);
            let worthless = match file::read_head(&file, &name) {
                Ok((head, _)) => head.is_older(journal, before),
                Err(error) => error.is_worthless(),
            };
            if worthless {
                self.remove(&name, &file)?;
                removed += 1;
            }
        }
        self.remove_if_empty(path);
        Ok(removed)
    }

    pub(super) fn under(&self, path: &PathId) -> io::Result<Vec<Listed>> {
        let mut names = self.names(path)?;
        names.sort_unstable();
        Ok(names.iter().filter_map(|name| self.listed(name)).take(UNDER_MAX).collect())
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, Failure> {
        let mut paths = self.paths()?.collect::<io::Result<Vec<PathId>>>()?;
        paths.retain(|path| after.is_none_or(|after| *path >= after.path));
        paths.sort_unstable();
        let (mut looked_at, mut listing) = (0, Listing::default());
        for path in paths {
            let mut names = self.names(&path)?;
            names.retain(|name| after.is_none_or(|after| name > after));
            names.sort_unstable();
            for name in names {
                looked_at += 1;
                if let Some(listed) = self.listed(&name).filter(|listed| listed.head.path.starts_with(prefix)) {
                    listing.pages.push(listed);
                }
                if looked_at >= MAX_LOOKED_AT || listing.pages.len() >= limit {
                    listing.next = Some(name);
                    return Ok(listing);
                }
            }
        }
        Ok(listing)
    }

    fn listed(&self, name: &ObjectName) -> Option<Listed> {
        match file::read_head(&self.file_of(name), name) {
            Ok((Head::Page(head), body_bytes)) => Some(Listed { name: name.clone(), head, body_bytes }),
            Ok((Head::Variants(_), _)) | Err(ReadError::Absent) => None,
            Err(error) => {
                self.warn_once(name, &error);
                None
            }
        }
    }

    /// Can it be written to and read from?
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.begin(b"probe\n", 0)?;
        fs::read_dir(&self.pages)?;
        Ok(())
    }

    pub(super) fn usage(&self) -> Usage {
        let table = self.table.lock();
        let (objects, bytes, exact) = (table.objects(), table.bytes(), table.counted);
        Usage { objects, bytes, limit_bytes: Some(self.limits.max_bytes), exact }
    }

    /// Finds what lies in the folder; serving goes on meanwhile.
    pub(super) fn scan(&self) {
        match self.scan_paths() {
            Ok(()) => self.table.lock().counted = !self.is_stopping(),
            Err(error) => {
                let path = self.pages.display();
                tracing::warn!(%path, %error, "not all stored pages could be counted: the rest may exceed max_bytes");
            }
        }
        if !self.is_stopping() {
            self.evict();
        }
    }

    /// Goes on after a failure; returns the first.
    fn scan_paths(&self) -> io::Result<()> {
        let mut result = Ok(());
        for path in self.paths()?.take_while(|_| !self.is_stopping()) {
            result = result.and(path.and_then(|path| self.scan_path(&path)));
        }
        result
    }

    fn scan_path(&self, path: &PathId) -> io::Result<()> {
        let _locked = self.lock(path);
        for name in self.names(path)? {
            let metadata = fs::symlink_metadata(self.file_of(&name))?;
            let since_epoch = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let modified = UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(0));
            self.table.lock().found(&name, metadata.len(), modified);
        }
        self.remove_if_empty(path);
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Ends a scan early.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Back under the limit, if it is exceeded. One thread evicts, the others go on; whoever finds the limit exceeded after
    /// the evicting thread has looked for the last time finds the turn free.
    fn evict(&self) {
        while self.table.lock().is_over() {
            let Some(_turn) = self.evicting.try_lock() else { return };
            loop {
                let victim = self.table.lock().victim();
                let Some(name) = victim else { break };
                self.evict_one(&name);
            }
        }
    }

    fn evict_one(&self, name: &ObjectName) {
        let _locked = self.lock(&name.path);
        let file = self.file_of(name);
        let result = match file::is_own(&file) {
            Ok(()) => self.remove(name, &file).map_err(ReadError::System),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // It cannot be removed: it no longer counts, or eviction would not end.
            self.table.lock().remove(name);
            if !matches!(error, ReadError::Absent) {
                self.warn_once(name, &error);
            }
        }
        self.remove_if_empty(&name.path);
    }

    /// Removes a file; the path is locked.
    fn remove(&self, name: &ObjectName, file: &Path) -> io::Result<()> {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.table.lock().remove(name);
                Ok(())
            }
        }
    }

    /// Removes the folder of a path that is locked, unless something lies in it: then the system refuses.
    fn remove_if_empty(&self, path: &PathId) {
        _ = fs::remove_dir(self.folder_of(path));
    }

    /// Folders of paths, in no order; other names are not ours.
    fn paths(&self) -> io::Result<impl Iterator<Item = io::Result<PathId>>> {
        let ours = |entry: io::Result<fs::DirEntry>| match entry {
            Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                entry.file_name().to_str().and_then(canonical).map(Ok)
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        match fs::read_dir(&self.pages) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten().filter_map(ours)),
            entries => Ok(Some(entries?).into_iter().flatten().filter_map(ours)),
        }
    }

    /// Files of objects under a path, in no order; other names are not ours.
    fn names(&self, path: &PathId) -> io::Result<Vec<ObjectName>> {
        let entries = match fs::read_dir(self.folder_of(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_str().and_then(|name| ObjectName::in_folder(*path, name));
            if let Some(name) = name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn folder_of(&self, path: &PathId) -> PathBuf {
        self.pages.join(path.to_string())
    }

    fn file_of(&self, name: &ObjectName) -> PathBuf {
        self.folder_of(&name.path).join(name.file())
    }

    fn lock(&self, path: &PathId) -> MutexGuard<'_, ()> {
        self.locks[usize::from(path.0[0])].lock()
    }

    fn warn_once(&self, name: &ObjectName, error: &ReadError) {
        let mut warned = self.warned.lock();
        if warned.len() < MAX_WARNED && warned.insert(name.clone()) {
            tracing::warn!(path = %self.file_of(name).display(), %error, "a stored page cannot be used and is ignored");
        }
    }
}
