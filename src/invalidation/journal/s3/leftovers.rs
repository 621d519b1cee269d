//! Which objects of a journal does nobody need? Those whose swap was lost while their writer had no time to remove them, or was killed.
//!
//! An object is needed if its word stands anywhere in the head, in whatever field. Where the head cannot be read - there is none, it is damaged, or a newer
//! version wrote it - everything is needed.

use bytes::Bytes;

use super::reading::{HEAD_BYTES_MAX, parse_head};
use crate::store::s3::bucket::{Bucket, S3Error};

/// Digits of the word in a key.
const WORD_DIGITS: usize = 32;

/// The folders in which what a head names lies, below the bucket's location.
#[must_use]
pub fn folders(flavor: &str) -> [String; 2] {
    ["records", "snapshots"].map(|kind| format!("{flavor}/journal/{kind}/"))
}

/// What a head names.
#[derive(Debug)]
pub struct Named(Bytes);

impl Named {
    /// As the head stands now; `None`: nobody can tell.
    ///
    /// # Errors
    /// The bucket does not say.
    pub async fn read(bucket: &Bucket, flavor: &str) -> Result<Option<Self>, S3Error> {
        let head = bucket.get(&format!("{flavor}/journal/head"), HEAD_BYTES_MAX).await?;
        Ok(head.map(|head| head.bytes).filter(|bytes| parse_head(bytes).is_ok()).map(Named))
    }

    /// May somebody need it? Only what bears a name that a journal gives may be of no use.
    #[must_use]
    pub fn may_need(&self, key: &str) -> bool {
        let name = key.rsplit('/').next().unwrap_or_default();
        let word = name.split_once('-').map_or(name, |(_, word)| word);
        let is_ours = word.len() == WORD_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        !is_ours || memchr::memmem::find(&self.0, word.as_bytes()).is_some()
    }
}
