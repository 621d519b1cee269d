//! A body that lies in S3: read by ranged GETs of one version, by any number of readers.

use std::io;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use crc32fast::Hasher;
use futures_util::stream;

use super::bucket::{Bucket, Version};
use crate::page::large::{LargeBody, PIECE_BYTES, Pieces, next_piece};
use crate::page::stored::FirstLine;

/// A body in S3.
#[derive(Clone, Debug)]
pub(super) struct S3Body {
    bucket: Bucket,
    key: String,
    /// Of this version and no other: what takes its place is another body.
    version: Version,
    /// Where it lies in the object.
    place: Range<u64>,
    crc: u32,
}

impl S3Body {
    /// The body that follows a head.
    pub(super) fn new(bucket: Bucket, key: String, version: Version, line: &FirstLine) -> Self {
        let starts = line.head_end() as u64;
        S3Body { bucket, key, version, place: starts..line.total_bytes(), crc: line.body_crc() }
    }

    async fn open(&self, range: &Range<u64>) -> io::Result<Pieces> {
        if range.is_empty() {
            return Ok(Box::pin(stream::empty()));
        }
        let place = self.place.start + range.start..self.place.start + range.end;
        let opened = self.bucket.open_range(&self.key, place, Some(&self.version)).await;
        match opened.map_err(io::Error::other)? {
            Some(opened) => Ok(opened.pieces),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} was removed while it was read", self.key))),
        }
    }
}

#[async_trait]
impl LargeBody for S3Body {
    fn bytes(&self) -> u64 {
        self.place.end - self.place.start
    }

    async fn read(&self, range: Range<u64>) -> io::Result<Pieces> {
        let pieces = self.open(&range).await?;
        let is_whole = range == (0..self.bytes());
        let reading = Reading {
            pieces,
            at_hand: Bytes::new(),
            missing: range.end - range.start,
            check: is_whole.then(|| Check { hasher: Hasher::new(), crc: self.crc, held: None }),
        };
        Ok(Box::pin(stream::try_unfold(reading, Reading::step)))
    }
}

/// One read of it.
struct Reading {
    pieces: Pieces,
    /// Of the piece that came last, what has not been given out.
    at_hand: Bytes,
    missing: u64,
    check: Option<Check>,
}

/// The last piece is held back until the whole has proved right: whoever has sent all but that sends nothing more, and who reads
/// it sees that it is not the whole.
struct Check {
    hasher: Hasher,
    crc: u32,
    held: Option<Bytes>,
}

impl Reading {
    async fn step(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let received = self.receive().await?;
            let Some(check) = &mut self.check else { return Ok(received.map(|piece| (piece, self))) };
            let given = match received {
                Some(piece) => {
                    check.hasher.update(&piece);
                    check.held.replace(piece)
                }
                None => {
                    check.prove()?;
                    let Some(last) = check.held.take() else { return Ok(None) };
                    Some(last)
                }
            };
            if let Some(piece) = given {
                return Ok(Some((piece, self)));
            }
        }
    }

    /// The next piece of the right size.
    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        while self.at_hand.is_empty() {
            match next_piece(&mut self.pieces).await {
                Some(piece) => self.at_hand = piece?,
                None if self.missing == 0 => return Ok(None),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let bytes = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX).min(self.at_hand.len());
        let piece = self.at_hand.split_to(bytes);
        let missing = self.missing.checked_sub(piece.len() as u64);
        self.missing = missing.ok_or_else(|| io::Error::other("the server sends more than was asked for"))?;
        Ok(Some(piece))
    }
}

impl Check {
    fn prove(&self) -> io::Result<()> {
        if self.hasher.clone().finalize() == self.crc {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "damaged: the checksum of its body is wrong"))
        }
    }
}
