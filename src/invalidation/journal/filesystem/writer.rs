//! How is a record made durable, and what after a failure?
//!
//! Blocking, and one at a time: the journal calls it on a thread for that, under a lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::recovery::Intact;
use super::{OpenError, files, line};
use crate::invalidation::selector::Record;
use crate::page::Sequence;

/// Who may write: there is one for each open journal.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    /// Unlocks when it is closed.
    _lock: File,
    /// The newest record that is durable.
    last: Sequence,
    /// The newest record that a snapshot stands for.
    folded: Sequence,
    /// First record and sound bytes of each segment, oldest first.
    segments: Vec<(Sequence, u64)>,
    /// The last segment.
    pub(super) file: File,
    /// The last segment may hold more than its sound bytes, or another may have been begun in its place: nothing may be
    /// acknowledged from it.
    in_doubt: bool,
    tail_bytes: Arc<AtomicU64>,
}

impl Writer {
    /// Goes on where the last segment ends. What was read is made durable first: pages will be marked with its numbers, and a
    /// number that a power cut takes back would be given to another record.
    pub(super) fn resume(
        folder: PathBuf,
        lock: File,
        intact: &Intact,
        tail_bytes: Arc<AtomicU64>,
    ) -> Result<Writer, OpenError> {
        let (first, sound_bytes) = *intact.segments.last().expect("a journal has a segment");
        let path = files::segment(&folder, first);
        let file = OpenOptions::new().append(true).open(&path).map_err(OpenError::at("open", &path))?;
        if intact.torn_bytes > 0 {
            tracing::info!(
                file = %path.display(), bytes = intact.torn_bytes,
                "the journal ends with a line that was cut off; it was never acknowledged and is dropped"
            );
            file.set_len(sound_bytes).map_err(OpenError::at("shorten", &path))?;
        }
        file.sync_all().map_err(OpenError::at("sync", &path))?;
        files::sync_folder(&folder).map_err(OpenError::at("sync", &folder))?;
        let folded = intact.recovered.snapshot.as_ref().map(|(sequence, _)| *sequence).unwrap_or_default();
        let (last, segments) = (intact.recovered.last(), intact.segments.clone());
        let writer = Writer { folder, _lock: lock, last, folded, segments, file, in_doubt: false, tail_bytes };
        writer.count_tail();
        Ok(writer)
    }

    pub(super) fn append(&mut self, records: &[Arc<Record>]) -> io::Result<Sequence> {
        if records.is_empty() {
            return Ok(self.last);
        }
        let lines = self.lines(records)?;
        if self.in_doubt {
            self.begin_segment()?;
        }
        self.in_doubt = true;
        if let Err(error) = self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            self.give_up_segment();
            return Err(error);
        }
        self.in_doubt = false;
        self.last = Sequence(self.last.0 + records.len() as u64);
        self.segments.last_mut().expect("a journal has a segment").1 += lines.len() as u64;
        self.count_tail();
        Ok(self.last)
    }

    fn lines(&self, records: &[Arc<Record>]) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        for (sequence, record) in (self.last.0 + 1..).map(Sequence).zip(records) {
            let start = lines.len();
            line::encode(&mut lines, sequence, &serde_json::to_vec(record)?);
            lines.push(b'\n');
            if lines.len() - start >= line::MAX_LINE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is too long for one line"));
            }
        }
        Ok(lines)
    }

    /// After a failed write: what it left must not turn up under a number that another record will have.
    fn give_up_segment(&mut self) {
        let (first, sound_bytes) = *self.segments.last().expect("a journal has a segment");
        // Makes room on a full disk, and the next opening does not read what only the page cache has. That the records do not count
        // is said by the name of the new segment; so it matters little if this fails.
        let shortened = self.file.set_len(sound_bytes).and_then(|()| self.file.sync_all());
        if let Err(error) = self.begin_segment() {
            tracing::warn!(
                %error, segment = %files::segment(&self.folder, first).display(), shortened = shortened.is_ok(),
                "the journal could not be mended after a failed write; the next invalidation tries again first"
            );
        }
    }

    /// Begins a segment with the next record; takes the place of one that has none.
    fn begin_segment(&mut self) -> io::Result<()> {
        let first = Sequence(self.last.0 + 1);
        let path = files::segment(&self.folder, first);
        self.in_doubt = true;
        files::replace(&path, b"")?;
        self.file = OpenOptions::new().append(true).open(&path)?;
        self.in_doubt = false;
        if self.segments.last().is_some_and(|(last, _)| *last == first) {
            self.segments.pop();
        }
        self.segments.push((first, 0));
        Ok(())
    }

    /// New segment, snapshot, removal, in this order: whatever a crash leaves of it is a readable journal.
    pub(super) fn fold(&mut self, sequence: Sequence, snapshot: &[u8]) -> io::Result<()> {
        if sequence > self.last {
            let newest = format!("the newest record is {}", self.last);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, newest));
        }
        if sequence <= self.folded {
            return Ok(());
        }
        if self.in_doubt || self.segments.last().is_some_and(|(first, _)| *first <= self.last) {
            self.begin_segment()?;
        }
        let mut bytes = Vec::with_capacity(snapshot.len() + 32);
        line::encode(&mut bytes, sequence, snapshot);
        files::replace(&files::snapshot(&self.folder, sequence), &bytes)?;
        let former = std::mem::replace(&mut self.folded, sequence);
        self.remove_folded(former);
        self.count_tail();
        Ok(())
    }

    fn remove_folded(&mut self, former_snapshot: Sequence) {
        let next = Sequence(self.folded.0 + 1);
        let keep_from = self.segments.iter().rposition(|(first, _)| *first <= next).unwrap_or(0);
        let segments = self.segments.drain(..keep_from).map(|(first, _)| files::segment(&self.folder, first));
        let snapshot = (former_snapshot > Sequence(0)).then(|| files::snapshot(&self.folder, former_snapshot));
        for path in segments.chain(snapshot) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, file = %path.display(), "a folded part of the journal stays until the next start");
            }
        }
    }

    fn count_tail(&self) {
        let bytes = self.segments.iter().map(|(_, bytes)| bytes).sum();
        self.tail_bytes.store(bytes, Ordering::Relaxed);
    }
}
