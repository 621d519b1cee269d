//! Where does a body go that is too large for memory, on its way from the origin to the store? Into a temporary file without a name.
//!
//! The system removes such a file with its last descriptor, however the process ends. All of them together are bounded. Nothing is known here of
//! pages and visitors.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::file_body::{FileBody, OpenFile};

/// What a share of the room is counted in.
const KIB: u64 = 1 << 10;

/// Why a body could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// All temporary files together hold what they may.
    #[error("all temporary files together hold cache.max_temporary_bytes")]
    Full,
    /// The system refuses.
    #[error("a temporary file in {} cannot be written: {source}", folder.display())]
    System {
        /// Where it would lie.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The folder of temporary files, and the room they have.
#[derive(Debug)]
pub struct Spools {
    folder: PathBuf,
    room: Arc<Semaphore>,
}

/// A temporary file that is being written.
#[derive(Debug)]
pub struct Spool {
    file: Arc<OpenFile>,
    bytes: u64,
    /// Bytes that its share of the room allows.
    allowed: u64,
    crc: crc32fast::Hasher,
    sha1: Sha1,
}

impl Spools {
    /// Files in `folder`, or where the system has such files, of at most `limit_bytes` together.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, limit_bytes: u64) -> Self {
        let kib = usize::try_from(limit_bytes / KIB).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Spools { folder: folder.unwrap_or_else(std::env::temp_dir), room: Arc::new(Semaphore::new(kib)) }
    }

    /// Writes pieces to the end of the file, or to a new one.
    ///
    /// # Errors
    /// They were not written, as far as readers are concerned; the file is of no further use.
    pub async fn write(&self, spool: Option<Spool>, pieces: Vec<Bytes>) -> Result<Spool, SpoolError> {
        let added: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let held = spool.as_ref().map_or(0, |spool| spool.allowed);
        let wanted = spool.as_ref().map_or(0, |spool| spool.bytes) + added;
        let kib = u32::try_from(wanted.saturating_sub(held).div_ceil(KIB)).map_err(|_| SpoolError::Full)?;
        let share = Arc::clone(&self.room).try_acquire_many_owned(kib).map_err(|_| SpoolError::Full)?;
        let folder = self.folder.clone();
        let written = spawn_blocking(move || {
            let mut spool = match spool {
                Some(spool) => spool,
                None => Spool::begin(tempfile::tempfile_in(folder)?),
            };
            spool.allowed += u64::from(kib) * KIB;
            spool.file.hold(share);
            pieces.iter().try_for_each(|piece| spool.append(piece))?;
            Ok(spool)
        });
        let written = written.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        written.map_err(|source| SpoolError::System { folder: self.folder.clone(), source })
    }
}

impl Spool {
    fn begin(file: File) -> Self {
        let (crc, sha1) = (crc32fast::Hasher::new(), Sha1::new());
        Spool { file: Arc::new(OpenFile::new(file)), bytes: 0, allowed: 0, crc, sha1 }
    }

    fn append(&mut self, piece: &Bytes) -> io::Result<()> {
        self.file.file().write_all(piece)?;
        self.crc.update(piece);
        self.sha1.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// The file, to be read while it grows.
    #[must_use]
    pub fn file(&self) -> &Arc<OpenFile> {
        &self.file
    }

    /// Bytes that have been written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it as a body, its crc32 and its sha1.
    #[must_use]
    pub fn finish(self) -> (FileBody, u32, [u8; 20]) {
        let crc = self.crc.finalize();
        (FileBody::new(self.file, 0..self.bytes, crc), crc, self.sha1.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::large::{LargeBody as _, read_whole};

    #[tokio::test]
    async fn what_was_written_is_read_and_its_sums_are_right() {
        let spools = Spools::new(None, 1 << 20);
        let spool = spools.write(None, vec!["ab".into(), "c".into()]).await.unwrap();
        let spool = spools.write(Some(spool), vec!["def".into()]).await.unwrap();
        assert_eq!(spool.bytes(), 6);
        let (body, crc, sha1) = spool.finish();
        assert_eq!((body.bytes(), crc), (6, crc32fast::hash(b"abcdef")));
        assert_eq!(sha1, <[u8; 20]>::from(Sha1::digest("abcdef")));
        assert_eq!(read_whole(&body).await.unwrap(), "abcdef");
    }

    #[tokio::test]
    async fn all_together_keep_to_their_room_and_give_it_back() {
        let spools = Spools::new(None, 4096);
        let piece = || vec![Bytes::from_static(&[0; 1500])];
        let first = spools.write(None, piece()).await.unwrap();
        // 1500 bytes take 2 KiB, 3000 take 3.
        let first = spools.write(Some(first), piece()).await.unwrap();
        assert!(matches!(spools.write(None, piece()).await, Err(SpoolError::Full)));
        let (body, ..) = first.finish();
        assert!(matches!(spools.write(None, piece()).await, Err(SpoolError::Full)), "somebody may read it");
        drop(body);
        let given_back = Arc::clone(&spools.room).acquire_many_owned(4).await;
        drop(given_back);
        spools.write(None, piece()).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let spools = Spools::new(Some("/nowhere/at/all".into()), 4096);
        let error = spools.write(None, vec!["a".into()]).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
