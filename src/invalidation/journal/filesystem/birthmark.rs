//! Is this the very file that was written, or a copy of it?
//!
//! It tells files apart, not contents: a file that was written over in place has the birthmark that it had before.

use std::fs::{File, Metadata};
use std::io;
use std::time::UNIX_EPOCH;

use crate::clock::UnixMillis;

/// What a file has from its creation on, through renames and restarts, and what no copy of it has.
///
/// Not the device: its number may be another one after the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Birthmark {
    /// Unique among the files that exist. The number of a removed file is soon given to another, often to the very copy that takes its place.
    inode: u64,
    /// When the file was created, where the file system knows: tells it from one that had the number before.
    born: Option<UnixMillis>,
}

impl Birthmark {
    /// Of an open file.
    pub(super) fn of(file: &File) -> io::Result<Birthmark> {
        let metadata = file.metadata()?;
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| u64::try_from(since.as_millis()).ok()).map(UnixMillis);
        Ok(Birthmark { inode: inode(&metadata), born })
    }

    /// Whether the file with the mark `now` is the one that this mark was taken of. A time of birth that was not known then proves nothing now.
    pub(super) fn is_still(&self, now: &Birthmark) -> bool {
        cfg!(not(unix)) || self.inode == now.inode && (self.born.is_none() || self.born == now.born)
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_number_or_another_birth_is_another_file() {
        let mark = |inode, born: Option<u64>| Birthmark { inode, born: born.map(UnixMillis) };
        let taken = mark(7, Some(1000));
        assert!(taken.is_still(&taken));
        for other in [mark(8, Some(1000)), mark(7, Some(1001)), mark(7, None)] {
            assert!(!taken.is_still(&other), "{other:?}");
        }
        assert!(mark(7, None).is_still(&taken), "the system has learnt to tell the birth of files");
        assert!(!mark(8, None).is_still(&taken));
    }
}
