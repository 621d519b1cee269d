//! A journal in a folder, for one node: which invalidations were made, kept through crashes and power cuts.
//!
//! ```text
//! journal/identity                          {"format":1,"id":"...","created":...,"file":{"inode":...,"born":...}}
//! journal/log-<first sequence>              one line for each record: <crc32> <sequence> <json>
//! journal/snapshot-<sequence>               <crc32> <sequence> <bytes>: stands for all records up to there
//! journal/lock                              held while a process has the journal open
//! journal/damaged-<n>/                      what could not be trusted any more
//! ```
//!
//! A record is acknowledged when its line is on the disk. A file that was once in doubt is never written on: after a failed write
//! or fsync the kernel may have dropped what it could not write and report success the next time, so the journal goes on in a new
//! segment, whose name says where the old one ends. Nothing is acknowledged before that segment is there.
//!
//! At opening, a last line that was cut off is dropped: it was never acknowledged. Any other damage means that an invalidation may
//! be lost, and then no old page can be trusted: the files are moved aside and a journal with another identity begins, under
//! which none of them is valid.
//!
//! A copy of the folder counts as damaged too, for invalidations may have been made since it was taken: `identity` says by its inode
//! and its time of birth which file it is itself, and a copy or a restored file is another one. A folder that is renamed or moved
//! within its file system stays what it was. What cannot be noticed: an older state under the same inodes, brought by a snapshot of
//! the disk or of the machine or by writing over the files in place, and a folder that was moved away while another took its place.

mod birthmark;
mod files;
mod line;
mod recovery;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::birthmark::Birthmark;
use self::recovery::{Found, Intact};
use self::writer::Writer;
use super::{Appended, Journal, JournalError, Recovered};
use crate::clock::UnixMillis;
use crate::invalidation::selector::Record;
use crate::page::{JournalId, Sequence};

/// The format that this version reads and writes.
const FORMAT: u64 = 1;
/// Damaged journals that are kept for people to look at; the last place is used again.
const MAX_DAMAGED: u32 = 9;

/// The content of `identity`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format: u64,
    id: JournalId,
    created: UnixMillis,
    /// Of the file that holds this: a copy tells itself by it.
    file: Birthmark,
}

/// Why a journal cannot be opened: the system refuses. Damage is no reason, see [`open`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two processes would give the same number to different records.
    #[error("the journal {} is in use by another process", folder.display())]
    InUse {
        /// The journal's folder.
        folder: PathBuf,
    },
    /// A file or folder could not be read or written.
    #[error("journal: cannot {action} {}: {source}", path.display())]
    Io {
        /// In the caller's words.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
        let path = path.to_owned();
        move |source| OpenError::Io { action, path, source }
    }
}

/// A journal in a folder. One process has it open at a time.
#[derive(Debug)]
pub struct FilesystemJournal {
    id: JournalId,
    folder: PathBuf,
    writer: Arc<Mutex<Writer>>,
    tail_bytes: Arc<AtomicU64>,
}

/// Opens the journal in `<dir>/journal`, or begins one. Blocks: for start-up.
///
/// A damaged or copied journal is moved aside, an error is logged, and an empty journal with a `new_identity` is returned: all
/// pages that were stored before are invalid then.
///
/// # Errors
/// The folder is in use, or the system refuses to read or write it.
pub fn open(
    dir: &Path,
    now: UnixMillis,
    new_identity: impl FnOnce() -> JournalId,
) -> Result<(FilesystemJournal, Recovered), OpenError> {
    let folder = dir.join("journal");
    fs::create_dir_all(&folder).map_err(OpenError::at("create", &folder))?;
    files::sync_folder(dir).map_err(OpenError::at("sync", dir))?;
    let lock = lock(&folder)?;
    let intact = match recovery::read(&folder)? {
        Found::Journal(intact) => intact,
        Found::Nothing => begin(&folder, now, new_identity())?,
        Found::Damaged(damage) => {
            let aside = move_aside(&folder)?;
            let intact = begin(&folder, now, new_identity())?;
            tracing::error!(
                %damage, moved_to = %aside.display(), journal = %intact.id,
                "the journal of invalidations cannot say any more what was invalidated; \
                 a new journal begins, and no page that was stored before is served"
            );
            intact
        }
    };
    clear(&folder, &intact)?;
    let tail_bytes = Arc::new(AtomicU64::new(0));
    let writer = Writer::resume(folder.clone(), lock, &intact, tail_bytes.clone())?;
    let journal = FilesystemJournal { id: intact.id, folder, writer: Arc::new(Mutex::new(writer)), tail_bytes };
    Ok((journal, intact.recovered))
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(files::LOCK);
    let file = File::create(&path).map_err(OpenError::at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::at("lock", &path)(source)),
    }
}

/// The identity comes last: a journal that has one has its first segment.
fn begin(folder: &Path, created: UnixMillis, id: JournalId) -> Result<Intact, OpenError> {
    let segment = files::segment(folder, Sequence(1));
    files::replace(&segment, b"").map_err(OpenError::at("create", &segment))?;
    let path = folder.join(files::IDENTITY);
    let write = |file: &mut File| {
        let identity = Identity { format: FORMAT, id: id.clone(), created, file: Birthmark::of(file)? };
        file.write_all(&serde_json::to_vec(&identity).expect("four plain members"))
    };
    files::replace_with(&path, write).map_err(OpenError::at("create", &path))?;
    tracing::info!(journal = %id, folder = %folder.display(), "a new journal of invalidations begins");
    Ok(Intact { id, recovered: Recovered::default(), segments: vec![(Sequence(1), 0)], torn_bytes: 0 })
}

/// The identity goes first: records of which some are missing must never be found under a valid name.
fn move_aside(folder: &Path) -> Result<PathBuf, OpenError> {
    let place = |number| folder.join(format!("damaged-{number}"));
    let aside = (1..MAX_DAMAGED).map(place).find(|place| !place.exists()).unwrap_or_else(|| place(MAX_DAMAGED));
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(OpenError::at("remove", &aside))?;
    }
    fs::create_dir(&aside).map_err(OpenError::at("create", &aside))?;
    let listing = files::list(folder).map_err(OpenError::at("list", folder))?;
    let identity = listing.identity.then(|| folder.join(files::IDENTITY));
    let segments = listing.segments.iter().map(|first| files::segment(folder, *first));
    let snapshots = listing.snapshots.iter().map(|sequence| files::snapshot(folder, *sequence));
    for path in identity.into_iter().chain(segments).chain(snapshots) {
        let name = path.file_name().expect("our files have names");
        fs::rename(&path, aside.join(name)).map_err(OpenError::at("move aside", &path))?;
        files::sync_folder(folder).map_err(OpenError::at("sync", folder))?;
    }
    Ok(aside)
}

/// Removes what a crash left: files that were never completed, and what a newer snapshot stands for.
fn clear(folder: &Path, intact: &Intact) -> Result<(), OpenError> {
    let listing = files::list(folder).map_err(OpenError::at("list", folder))?;
    let oldest = intact.segments[0].0;
    let folded = intact.recovered.snapshot.as_ref().map(|(sequence, _)| *sequence).unwrap_or_default();
    let segments = listing.segments.iter().filter(|first| **first < oldest).map(|first| files::segment(folder, *first));
    let snapshots = listing
        .snapshots
        .iter()
        .filter(|sequence| **sequence < folded)
        .map(|sequence| files::snapshot(folder, *sequence));
    for path in segments.chain(snapshots).chain(listing.incomplete.iter().cloned()) {
        fs::remove_file(&path).map_err(OpenError::at("remove", &path))?;
    }
    Ok(())
}

#[async_trait]
impl Journal for FilesystemJournal {
    fn id(&self) -> JournalId {
        self.id.clone()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let batch = records.to_vec();
        let action = format!("append {} records in {}", records.len(), self.folder.display());
        let last = self.write(action, move |writer| writer.append(&batch)).await?;
        Ok(Appended::alone(last, records))
    }

    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError> {
        let action = format!("fold up to {sequence} in {}", self.folder.display());
        self.write(action, move |writer| writer.fold(sequence, &snapshot)).await
    }

    fn tail_bytes(&self) -> u64 {
        self.tail_bytes.load(Ordering::Relaxed)
    }
}

impl FilesystemJournal {
    /// The lock goes along to the blocking thread: were the caller dropped meanwhile, nobody else would write before it ends.
    async fn write<T: Send + 'static>(
        &self,
        action: String,
        work: impl FnOnce(&mut Writer) -> io::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let mut writer = self.writer.clone().lock_owned().await;
        match tokio::task::spawn_blocking(move || work(&mut writer)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(JournalError::new(action, error)),
            Err(panic) => Err(JournalError::new(action, panic)),
        }
    }
}
