//! What does the folder of a journal hold, and can it be trusted?
//!
//! Either every invalidation that was ever acknowledged is read, or the folder is [`Damage`]d: nothing is guessed. It only reads.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::birthmark::Birthmark;
use super::files::{self, Listing};
use super::line::{self, MAX_LINE_BYTES};
use super::{FORMAT, Identity, OpenError};
use crate::invalidation::journal::Recovered;
use crate::invalidation::selector::Record;
use crate::page::{JournalId, Sequence};

/// Bytes of an identity file: it holds four short members.
const MAX_IDENTITY_BYTES: u64 = 4096;

/// What was found in the folder.
#[derive(Debug)]
pub(super) enum Found {
    /// No journal, at most the beginning of one that nobody has seen yet.
    Nothing,
    /// A journal.
    Journal(Intact),
    /// What cannot be trusted any more.
    Damaged(Damage),
}

/// A journal that was read to its end.
#[derive(Debug)]
pub(super) struct Intact {
    pub(super) id: JournalId,
    pub(super) recovered: Recovered,
    /// The segments that count and their sound bytes, oldest first; the last is written on.
    pub(super) segments: Vec<(Sequence, u64)>,
    /// Bytes after the last sound line of the last segment: an append that was cut off.
    pub(super) torn_bytes: u64,
}

/// Where a journal is damaged, and how.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {reason}", file.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub(super) struct Damage {
    pub(super) file: PathBuf,
    pub(super) line: Option<u64>,
    pub(super) reason: Reason,
}

/// Why a journal cannot say any more what was invalidated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// There are records of we do not know which journal.
    #[error("there is a journal without it")]
    NoIdentity,
    /// Its bytes are not those that were written.
    #[error("the file is damaged")]
    BadIdentity,
    /// It was complete when it was copied; what was invalidated since then, nobody knows.
    #[error("the folder was copied or restored from elsewhere: what was invalidated since then is not in it")]
    Copied,
    /// Written by a later version, which may have said things that this one would miss.
    #[error("format {0} is newer than this version of everpage, which knows {FORMAT}")]
    NewerFormat(u64),
    /// Its bytes are not those that were written.
    #[error("the snapshot is damaged")]
    BadSnapshot,
    /// A file of records is gone.
    #[error("the record {0} should be in a file that is missing")]
    MissingSegment(Sequence),
    /// The bytes of a line are not those that were written.
    #[error("the line is damaged")]
    BadLine,
    /// The checksum fits, but this version cannot read the record.
    #[error("the record cannot be read: {0}")]
    BadRecord(String),
    /// A record is missing, or there twice.
    #[error("record {expected} belongs here, and {found} is here")]
    WrongNumber {
        /// By its place.
        expected: Sequence,
        /// In the line.
        found: Sequence,
    },
    /// The next file begins with a later record.
    #[error("the file ends before record {0}")]
    EndsEarly(Sequence),
}

/// Damage is one outcome of reading, a system that refuses is another.
enum Unread {
    Damage(Damage),
    Failed(OpenError),
}

/// Reads the whole folder.
pub(super) fn read(folder: &Path) -> Result<Found, OpenError> {
    let listing = files::list(folder).map_err(OpenError::at("list", folder))?;
    match read_listed(folder, &listing) {
        Ok(None) => Ok(Found::Nothing),
        Ok(Some(intact)) => Ok(Found::Journal(intact)),
        Err(Unread::Damage(damage)) => Ok(Found::Damaged(damage)),
        Err(Unread::Failed(error)) => Err(error),
    }
}

fn read_listed(folder: &Path, listing: &Listing) -> Result<Option<Intact>, Unread> {
    if !listing.identity {
        return if begun_only(folder, listing)? {
            Ok(None)
        } else {
            Err(damage(folder.join(files::IDENTITY), Reason::NoIdentity))
        };
    }
    let id = read_identity(&folder.join(files::IDENTITY))?;
    let snapshot = match listing.snapshots.last() {
        Some(sequence) => Some((*sequence, read_snapshot(folder, *sequence)?)),
        None => None,
    };
    let folded = snapshot.as_ref().map(|(sequence, _)| *sequence).unwrap_or_default();
    let next = Sequence(folded.0 + 1);
    // Segments before the one with the next record hold folded records only, if a fold was cut off before it removed them all.
    let Some(start) = listing.segments.iter().rposition(|first| *first <= next) else {
        return Err(damage(files::segment(folder, next), Reason::MissingSegment(next)));
    };
    let mut tail = Tail { folded, records: VecDeque::new(), segments: Vec::new(), torn_bytes: 0 };
    let firsts = &listing.segments[start..];
    for (at, first) in firsts.iter().enumerate() {
        tail.read_segment(folder, *first, firsts.get(at + 1).copied())?;
    }
    let recovered = Recovered { snapshot, records: tail.records };
    Ok(Some(Intact { id, recovered, segments: tail.segments, torn_bytes: tail.torn_bytes }))
}

/// The first segment is made before the identity: without it no page can name the journal.
fn begun_only(folder: &Path, listing: &Listing) -> Result<bool, Unread> {
    match listing.segments.as_slice() {
        _ if !listing.snapshots.is_empty() => Ok(false),
        [] => Ok(true),
        [Sequence(1)] => {
            let path = files::segment(folder, Sequence(1));
            let metadata = fs::metadata(&path).map_err(failed("look at", &path))?;
            Ok(metadata.len() == 0)
        }
        _ => Ok(false),
    }
}

fn read_identity(path: &Path) -> Result<JournalId, Unread> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("open", path))?;
    let birthmark = Birthmark::of(&file).map_err(failed("look at", path))?;
    file.take(MAX_IDENTITY_BYTES).read_to_end(&mut bytes).map_err(failed("read", path))?;
    // The format first: another one may have other members.
    let format = serde_json::from_slice::<serde_json::Value>(&bytes).ok().and_then(|json| json["format"].as_u64());
    match (format, serde_json::from_slice::<Identity>(&bytes)) {
        (Some(FORMAT), Ok(identity)) if !identity.id.0.is_empty() => {
            if identity.file.is_still(&birthmark) {
                Ok(identity.id)
            } else {
                Err(damage(path.to_owned(), Reason::Copied))
            }
        }
        (Some(format), _) if format > FORMAT => Err(damage(path.to_owned(), Reason::NewerFormat(format))),
        _ => Err(damage(path.to_owned(), Reason::BadIdentity)),
    }
}

fn read_snapshot(folder: &Path, sequence: Sequence) -> Result<Vec<u8>, Unread> {
    let path = files::snapshot(folder, sequence);
    let bytes = fs::read(&path).map_err(failed("read", &path))?;
    match line::decode(&bytes) {
        Some((found, payload)) if found == sequence => Ok(payload.to_vec()),
        _ => Err(damage(path, Reason::BadSnapshot)),
    }
}

/// What the segments read so far have said.
struct Tail {
    folded: Sequence,
    records: VecDeque<(Sequence, Arc<Record>)>,
    segments: Vec<(Sequence, u64)>,
    torn_bytes: u64,
}

impl Tail {
    /// Reads the records from `first` up to `next`, the first of the following segment. What lies beyond that was given up after
    /// a failed write: the following segment was begun in its place, and says so by its name.
    fn read_segment(&mut self, folder: &Path, first: Sequence, next: Option<Sequence>) -> Result<(), Unread> {
        let path = files::segment(folder, first);
        let mut lines = BufReader::new(File::open(&path).map_err(failed("open", &path))?);
        let mut expected = first;
        let mut sound_bytes = 0;
        for number in 1_u64.. {
            if next == Some(expected) {
                break;
            }
            let wrong = |reason| Unread::Damage(Damage { file: path.clone(), line: Some(number), reason });
            let mut line = Vec::new();
            let most = MAX_LINE_BYTES as u64;
            let bytes = lines.by_ref().take(most).read_until(b'\n', &mut line).map_err(failed("read", &path))? as u64;
            if line.pop_if(|byte| *byte == b'\n').is_none() {
                if next.is_some() {
                    return Err(wrong(Reason::EndsEarly(expected)));
                }
                if bytes == most {
                    return Err(wrong(Reason::BadLine));
                }
                self.torn_bytes = bytes;
                break;
            }
            let (found, payload) = line::decode(&line).ok_or_else(|| wrong(Reason::BadLine))?;
            if found != expected {
                return Err(wrong(Reason::WrongNumber { expected, found }));
            }
            if found > self.folded {
                let record =
                    serde_json::from_slice(payload).map_err(|error| wrong(Reason::BadRecord(error.to_string())))?;
                self.records.push_back((found, Arc::new(record)));
            }
            sound_bytes += bytes;
            expected = Sequence(found.0 + 1);
        }
        if next.is_none() && expected <= self.folded {
            return Err(damage(path, Reason::EndsEarly(expected)));
        }
        self.segments.push((first, sound_bytes));
        Ok(())
    }
}

fn damage(file: PathBuf, reason: Reason) -> Unread {
    Unread::Damage(Damage { file, line: None, reason })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Unread {
    let error = OpenError::at(action, path);
    move |source| Unread::Failed(error(source))
}
