//! A body that lies in a file: read in pieces, on threads that may block, by any number of readers at once.
//!
//! Whoever reads holds the file open: what replaces or removes it in its folder does not change what is read. It never seeks, so that readers share
//! one descriptor.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::page::large::{LargeBody, Pieces};

/// Bytes read at once. Each reader has one piece in hand and one ahead, so ten thousand slow ones take about a GiB.
pub const READ_BYTES: u64 = 64 << 10;

/// An open file, and its share of a bound on disk space, given back with the last who holds it.
#[derive(Debug)]
pub struct OpenFile {
    /// Until it is dropped.
    file: Option<File>,
    room: Mutex<Option<OwnedSemaphorePermit>>,
}

impl OpenFile {
    /// Without a share of anything.
    #[must_use]
    pub fn new(file: File) -> Self {
        OpenFile { file: Some(file), room: Mutex::default() }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("only dropping takes it")
    }

    /// Takes over a further share.
    pub(super) fn hold(&self, share: OwnedSemaphorePermit) {
        let mut room = self.room.lock();
        match &mut *room {
            Some(held) => held.merge(share),
            None => *room = Some(share),
        }
    }

    /// These bytes; blocks.
    fn read(&self, range: &Range<u64>) -> io::Result<Bytes> {
        let bytes = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut piece = vec![0; bytes];
        self.file().read_exact_at(&mut piece, range.start)?;
        Ok(piece.into())
    }
}

/// To close a temporary file frees its blocks, which takes its time: not on a thread that others wait for.
impl Drop for OpenFile {
    fn drop(&mut self) {
        let (file, room) = (self.file.take(), self.room.lock().take());
        if let (Some(room), Ok(runtime)) = (room, tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || {
                drop(file);
                drop(room);
            });
        }
    }
}

/// These bytes of a file, of which there are at most [`READ_BYTES`].
pub fn read(file: &Arc<OpenFile>, range: Range<u64>) -> JoinHandle<io::Result<Bytes>> {
    let file = Arc::clone(file);
    spawn_blocking(move || file.read(&range))
}

/// What is done when the body turns out to be damaged.
type OnDamage = Arc<dyn Fn(&OpenFile) + Send + Sync>;

/// A body in a file.
#[derive(Clone)]
pub struct FileBody {
    file: Arc<OpenFile>,
    /// Where it lies.
    place: Range<u64>,
    crc: u32,
    on_damage: Option<OnDamage>,
}

impl FileBody {
    /// The bytes `place` of the file, whose crc32 is `crc`.
    #[must_use]
    pub fn new(file: Arc<OpenFile>, place: Range<u64>, crc: u32) -> Self {
        FileBody { file, place, crc, on_damage: None }
    }

    /// The file it lies in.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// The same, with something to be done, on a thread that may block, whenever a whole read finds it damaged.
    #[must_use]
    pub fn on_damage(mut self, act: impl Fn(&OpenFile) + Send + Sync + 'static) -> Self {
        self.on_damage = Some(Arc::new(act));
        self
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody").field("file", &self.file).field("place", &self.place).finish_non_exhaustive()
    }
}

#[async_trait]
impl LargeBody for FileBody {
    fn bytes(&self) -> u64 {
        self.place.end - self.place.start
    }

    async fn read(&self, range: Range<u64>) -> io::Result<Pieces> {
        let checked = (range == (0..self.bytes())).then(crc32fast::Hasher::new);
        let left = self.place.start + range.start..self.place.start + range.end;
        Ok(Box::pin(Reading { body: self.clone(), ahead: None, left, checked }))
    }
}

/// Some of the bytes, and the checksum up to their end, if it is wanted.
type Piece = (Bytes, Option<crc32fast::Hasher>);

/// One read of it. While a piece is on its way to a visitor, the next one is read.
struct Reading {
    body: FileBody,
    ahead: Option<JoinHandle<io::Result<Piece>>>,
    /// What has not been asked for yet.
    left: Range<u64>,
    /// The checksum so far, while nothing is read ahead.
    checked: Option<crc32fast::Hasher>,
}

impl Reading {
    fn read_ahead(&mut self) {
        if self.left.is_empty() {
            return;
        }
        let piece = self.left.start..self.left.end.min(self.left.start + READ_BYTES);
        self.left.start = piece.end;
        let (body, checked, is_last) = (self.body.clone(), self.checked.take(), self.left.is_empty());
        self.ahead = Some(spawn_blocking(move || {
            let bytes = body.file.read(&piece)?;
            let Some(mut hasher) = checked else { return Ok((bytes, None)) };
            hasher.update(&bytes);
            if is_last && hasher.clone().finalize() != body.crc {
                if let Some(act) = &body.on_damage {
                    act(&body.file);
                }
                return Err(io::Error::new(io::ErrorKind::InvalidData, "damaged: the checksum of its body is wrong"));
            }
            Ok((bytes, Some(hasher)))
        }));
    }
}

impl Stream for Reading {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.ahead.is_none() {
            self.read_ahead();
        }
        let Some(ahead) = &mut self.ahead else { return Poll::Ready(None) };
        let read = ready!(Pin::new(ahead).poll(context)).unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        self.ahead = None;
        match read {
            Ok((bytes, checked)) => {
                self.checked = checked;
                self.read_ahead();
                Poll::Ready(Some(Ok(bytes)))
            }
            Err(error) => {
                // Nothing follows an error.
                self.left = 0..0;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::page::large::{next_piece, read_whole};

    /// A file with a body of three pieces after four other bytes, and its damages seen.
    fn body(flip: Option<u64>) -> (FileBody, Vec<u8>, Arc<AtomicUsize>) {
        let bytes: Vec<u8> = (0..2 * READ_BYTES + 5).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"head").unwrap();
        file.write_all(&bytes).unwrap();
        if let Some(at) = flip {
            file.write_all_at(&[bytes[usize::try_from(at).unwrap()] ^ 4], 4 + at).unwrap();
        }
        let (place, crc) = (4..4 + bytes.len() as u64, crc32fast::hash(&bytes));
        let damages = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&damages);
        let body = FileBody::new(Arc::new(OpenFile::new(file)), place, crc);
        (body.on_damage(move |_| _ = counted.fetch_add(1, Ordering::Relaxed)), bytes, damages)
    }

    async fn read(body: &FileBody, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut pieces = body.read(range).await?;
        let mut all = Vec::new();
        while let Some(piece) = next_piece(&mut pieces).await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn ranges_are_read_as_they_lie_there() {
        let (body, bytes, _) = body(None);
        let end = bytes.len() as u64;
        for range in [0..end, 0..1, end - 1..end, 7..READ_BYTES + 9, READ_BYTES..2 * READ_BYTES, 5..5] {
            let expected = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            assert!(read(&body, range.clone()).await.unwrap() == expected, "{range:?}");
        }
    }

    #[tokio::test]
    async fn a_whole_read_of_a_damaged_body_ends_before_its_last_piece() {
        for at in [0, READ_BYTES, 2 * READ_BYTES + 4] {
            let (body, bytes, damages) = body(Some(at));
            let mut pieces = body.read(0..bytes.len() as u64).await.unwrap();
            let mut read = 0;
            let error = loop {
                match next_piece(&mut pieces).await.expect("an error comes before the end") {
                    Ok(piece) => read += piece.len() as u64,
                    Err(error) => break error,
                }
            };
            assert_eq!((read, error.kind()), (2 * READ_BYTES, io::ErrorKind::InvalidData));
            assert!(next_piece(&mut pieces).await.is_none());
            assert_eq!(damages.load(Ordering::Relaxed), 1);
            assert!(read_whole(&body).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_file_that_was_cut_short_is_an_error() {
        let (body, bytes, _) = body(None);
        body.file.file().set_len(READ_BYTES).unwrap();
        assert!(read(&body, 0..bytes.len() as u64).await.is_err());
        assert!(read(&body, READ_BYTES..READ_BYTES + 1).await.is_err());
    }
}
