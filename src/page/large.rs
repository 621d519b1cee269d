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
