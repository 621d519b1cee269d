//! Which bodies are compressed where they lie, and how do they come back? Pure computing: a large body takes milliseconds, and
//! where it runs is the caller's business.
//!
//! A body is compressed when its type is listed, the origin has not encoded it, it is long enough, and it gets smaller by a tenth
//! at least: the rest costs time with every read and saves nothing. The kind in the first line says how (`page+zstd`,
//! `page+gzip`) and the head how long the body was, so that a program that does not know the kind calls the object damaged
//! instead of serving compressed bytes, and no body grows beyond what was announced.
//!
//! Bodies that are too large for memory are never compressed: ranges of them are read from the store as they lie.

use std::io::{self, Read, Write};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::config::Compression;
use crate::page::PageHead;

/// Below it, nothing worth a decompression with each read is saved.
pub const MIN_COMPRESSED_BYTES: usize = 512;

/// The level at which zstd is as quick as gzip's fastest and as small as its best; its own default.
const ZSTD_LEVEL: i32 = 3;

/// The binary logarithm of the window that a decoder accepts: four times what is written at [`ZSTD_LEVEL`]. RFC 8878,
/// section 3.1.1.1.2 recommends it; it bounds what a tampered object can make this program allocate.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes of the largest body that is compressed, or believed to have been.
pub(super) const MAX_DECODED_BYTES: u64 = 1 << 30;

/// Bytes that are set aside for a body before any of it has been decompressed; beyond, it proves itself by growing.
const TRUSTED_BYTES: u64 = 1 << 20;

/// How a body is encoded where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 8878
    Zstd,
    /// RFC 1952
    Gzip,
}

/// Which bodies are compressed where they lie, and how.
#[derive(Clone, Debug, Default)]
pub struct AtRest {
    coding: Option<Coding>,
    /// In lower case: whole types.
    exact: Vec<String>,
    /// In lower case, with the slash: `text/` of `text/*`.
    below: Vec<String>,
}

impl AtRest {
    /// Of the content types: `application/json`, or `text/*` for all below it.
    #[must_use]
    pub fn new(compression: Compression, types: &[String]) -> Self {
        let coding = match compression {
            Compression::Zstd => Some(Coding::Zstd),
            Compression::Gzip => Some(Coding::Gzip),
            Compression::Off => None,
        };
        let mut at_rest = AtRest { coding, ..AtRest::default() };
        for pattern in types {
            let pattern = pattern.trim().to_ascii_lowercase();
            match pattern.strip_suffix('*') {
                Some(start) if start.ends_with('/') => at_rest.below.push(start.to_owned()),
                _ => at_rest.exact.push(pattern),
            }
        }
        at_rest
    }

    /// The body as it shall lie; `None`: as it is.
    pub(super) fn compress(&self, head: &PageHead, body: &[u8]) -> Option<(Coding, Bytes)> {
        let is_worth_it = body.len() >= MIN_COMPRESSED_BYTES && body.len() as u64 <= MAX_DECODED_BYTES;
        let coding = self.coding.filter(|_| is_worth_it && self.is_listed(head))?;
        let compressed = coding.compress(body).ok()?;
        let pays = compressed.len() <= body.len() / 10 * 9;
        pays.then(|| (coding, compressed.into()))
    }

    fn is_listed(&self, head: &PageHead) -> bool {
        if head.headers.get(&CONTENT_ENCODING).is_some() {
            return false;
        }
        let Some(value) = head.headers.text(&CONTENT_TYPE) else { return false };
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        self.exact.contains(&kind) || self.below.iter().any(|start| kind.starts_with(start.as_str()))
    }
}

impl Coding {
    fn compress(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Coding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(body)?;
                encoder.finish()
            }
        }
    }

    /// The body of `decoded_bytes`.
    ///
    /// # Errors
    /// It is longer, shorter, or not encoded like this.
    pub(super) fn decompress(self, compressed: &[u8], decoded_bytes: u64) -> io::Result<Bytes> {
        let body = match self {
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                read_bounded(decoder, decoded_bytes)?
            }
            Coding::Gzip => read_bounded(flate2::bufread::GzDecoder::new(compressed), decoded_bytes)?,
        };
        if body.len() as u64 == decoded_bytes {
            Ok(body.into())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "its length is not what its head says"))
        }
    }
}

/// One byte more than announced at most: that much shows a body that goes on.
fn read_bounded(decoder: impl Read, announced: u64) -> io::Result<Vec<u8>> {
    let trusted = usize::try_from(announced.min(TRUSTED_BYTES)).unwrap_or_default();
    let mut body = Vec::with_capacity(trusted);
    decoder.take(announced.saturating_add(1)).read_to_end(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests;
