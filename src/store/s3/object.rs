//! One object: is it the page that was asked for, and what of it is needed now?
//!
//! The first GET asks for as much as a page in memory may take. What turns out to be larger is dropped when its head has come:
//! its body is read by whoever wants it.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::task::{JoinError, spawn_blocking};

use super::BLOCKING_BYTES;
use super::body::S3Body;
use super::bucket::{Bucket, S3Error, Version};
use crate::page::large::{LargePage, Pieces, next_piece};
use crate::page::stored::{self, DecodeError, FirstLine, Head, MAX_FIRST_LINE_BYTES};
use crate::page::{Object, ObjectName};

/// Bytes of a head that are asked for together with the body; a larger one costs a second GET.
const HEAD_ALLOWANCE: u64 = 64 << 10;

/// Bytes asked for where the head alone is wanted: four times what most take.
const HEAD_BYTES: u64 = 8 << 10;

/// Why there is no object.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// S3 did not say.
    #[error(transparent)]
    Bucket(#[from] S3Error),
    /// The answer broke off.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// It holds something else.
    #[error(transparent)]
    Content(#[from] DecodeError),
    /// Compressed by a node that has more memory to spare.
    #[error(
        "compressed, and with its {bytes} bytes larger than the {limit_bytes} that this node reads into memory \
         (cache.max_memory_size)"
    )]
    TooLarge {
        /// Of its body.
        bytes: u64,
        /// Of a body in memory.
        limit_bytes: u64,
    },
    /// This program failed.
    #[error(transparent)]
    Stopped(#[from] JoinError),
}

impl ReadError {
    /// Whether the object itself is to blame.
    pub(super) fn is_content(&self) -> bool {
        matches!(self, ReadError::Content(_) | ReadError::TooLarge { .. })
    }
}

/// The object under the key, which must be of that name; `None`: nothing lies there.
pub(super) async fn read(
    bucket: &Bucket,
    key: String,
    name: &ObjectName,
    max_memory_bytes: u64,
) -> Result<Option<Object>, ReadError> {
    let Some(mut start) = Start::open(bucket, key, max_memory_bytes + HEAD_ALLOWANCE).await? else { return Ok(None) };
    let line = start.first_line().await?;
    start.fill(line.head_end() as u64).await?;
    let is_large = line.body_bytes() > max_memory_bytes;
    let mut decoded_bytes = line.body_bytes();
    if is_large || line.is_compressed() {
        // The length that the head announces counts, not the one that lies there.
        let (head, body_bytes) = stored::decode_head(name, &start.bytes)?;
        match head {
            Head::Page(head) if is_large && !line.is_compressed() => {
                return Ok(Some(Object::Large(Arc::new(LargePage {
                    head,
                    body: Arc::new(start.into_body(&line)),
                    body_crc: line.body_crc(),
                    path_id: name.path,
                }))));
            }
            _ if body_bytes > max_memory_bytes => {
                return Err(ReadError::TooLarge { bytes: body_bytes, limit_bytes: max_memory_bytes });
            }
            _ => decoded_bytes = body_bytes,
        }
    }
    start.fill(line.total_bytes()).await?;
    let bytes = start.bytes.freeze();
    if decoded_bytes.max(bytes.len() as u64) <= BLOCKING_BYTES as u64 {
        return Ok(Some(stored::decode(name, &bytes)?));
    }
    let name = name.clone();
    Ok(Some(spawn_blocking(move || stored::decode(&name, &bytes)).await??))
}

/// The head of the object, and the bytes of its body.
pub(super) async fn read_head(bucket: &Bucket, key: &str, name: &ObjectName) -> Result<Option<(Head, u64)>, ReadError> {
    let Some(mut start) = Start::open(bucket, key.to_owned(), HEAD_BYTES).await? else { return Ok(None) };
    let line = start.first_line().await?;
    start.fill(line.head_end() as u64).await?;
    Ok(Some(stored::decode_head(name, &start.bytes)?))
}

/// An object as far as it has been read.
struct Start<'a> {
    bucket: &'a Bucket,
    key: String,
    version: Version,
    total_bytes: u64,
    /// Where the bytes that were asked for end.
    asked_to: u64,
    pieces: Pieces,
    bytes: BytesMut,
}

impl<'a> Start<'a> {
    async fn open(bucket: &'a Bucket, key: String, bytes: u64) -> Result<Option<Self>, S3Error> {
        let opened = bucket.open_range(&key, 0..bytes, None).await?;
        Ok(opened.map(|opened| Start {
            bucket,
            key,
            version: opened.version,
            total_bytes: opened.total_bytes,
            asked_to: bytes.min(opened.total_bytes),
            pieces: opened.pieces,
            bytes: BytesMut::new(),
        }))
    }

    /// The first line, which must say how long the object is.
    async fn first_line(&mut self) -> Result<FirstLine, ReadError> {
        self.fill(self.total_bytes.min(MAX_FIRST_LINE_BYTES as u64)).await?;
        let line = FirstLine::parse(&self.bytes)?;
        line.check_length(self.total_bytes)?;
        Ok(line)
    }

    /// Reads on until there are so many bytes, which the object has.
    async fn fill(&mut self, to: u64) -> Result<(), ReadError> {
        let missing = to.saturating_sub(self.bytes.len() as u64);
        self.bytes.reserve(usize::try_from(missing).map_err(io::Error::other)?);
        while (self.bytes.len() as u64) < to {
            match next_piece(&mut self.pieces).await {
                Some(piece) => self.bytes.extend_from_slice(&piece?),
                None if (self.bytes.len() as u64) < self.asked_to => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                None => self.ask_for(to).await?,
            }
        }
        Ok(())
    }

    /// Asks for more than was thought to be enough, of the same version.
    async fn ask_for(&mut self, to: u64) -> Result<(), ReadError> {
        let opened = self.bucket.open_range(&self.key, self.asked_to..to, Some(&self.version)).await?;
        self.pieces = opened.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.pieces;
        self.asked_to = to;
        Ok(())
    }

    fn into_body(self, line: &FirstLine) -> S3Body {
        S3Body::new(self.bucket.clone(), self.key, self.version, line)
    }
}
