//! A page whose body is too large for memory: it lies in a file or a store, and is read in pieces, as often as somebody asks.

use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use super::{PageHead, PathId};

/// Bytes of the largest piece.
pub const PIECE_BYTES: u64 = 1 << 20;

/// Pieces of a body, in order. An error ends it: what was read so far is not the whole.
pub type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A body that lies elsewhere. It never changes: whatever takes its place in a store is another body.
#[async_trait]
pub trait LargeBody: fmt::Debug + Send + Sync + 'static {
    /// Bytes of the whole.
    fn bytes(&self) -> u64;

    /// These bytes of it, in pieces of at most 1 MiB; `range` lies within the body. A read from the first to the last byte
    /// is checked against the body's checksum, and ends in an error instead of the last piece if it differs.
    ///
    /// # Errors
    /// It cannot be read, or is not there any more.
    async fn read(&self, range: Range<u64>) -> io::Result<Pieces>;
}

/// A page with such a body.
#[derive(Clone, Debug)]
pub struct LargePage {
    /// Everything but the body.
    pub head: PageHead,
    /// Where the body lies.
    pub body: Arc<dyn LargeBody>,
    /// crc32 of the whole body.
    pub body_crc: u32,
    /// As in [`super::Page`].
    pub path_id: PathId,
}

/// The next piece; `None`: there are no more.
pub async fn next_piece(pieces: &mut Pieces) -> Option<io::Result<Bytes>> {
    std::future::poll_fn(|context| pieces.as_mut().poll_next(context)).await
}

/// The whole body, read into memory: for a store that has room for it.
///
/// # Errors
/// It cannot be read, is damaged, or is not as long as it says.
pub async fn read_whole(body: &dyn LargeBody) -> io::Result<Bytes> {
    let bytes = usize::try_from(body.bytes()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut whole = Vec::with_capacity(bytes);
    let mut pieces = body.read(0..body.bytes()).await?;
    while let Some(piece) = next_piece(&mut pieces).await {
        whole.extend_from_slice(&piece?);
    }
    if whole.len() == bytes { Ok(whole.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
