//! Which objects were written for a swap that was not carried out? They go once it cannot be carried out any more.
//!
//! What is forgotten here - a process may end at any moment - lies in the bucket until the sweeper removes it ([`super::leftovers`]).

use parking_lot::Mutex;

use super::head::Head;
use crate::store::s3::bucket::{Bucket, Version};

/// Keys that are remembered.
const KEYS_MAX: usize = 100;

/// Each with the version of the head that the swap was to take the place of.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<(Version, String)>>);

impl Spare {
    /// The object will be named by the head that follows `version`, or by none.
    pub(super) fn note(&self, version: &Version, key: &str) {
        let mut keys = self.0.lock();
        if keys.len() < KEYS_MAX {
            keys.push((version.clone(), key.to_owned()));
        }
    }

    /// Removes, in the background, what this head does not name: another one than that which the swap would have replaced, so it never will.
    pub(super) fn clear(&self, bucket: &Bucket, head: &Head, version: &Version) {
        let mut keys = self.0.lock();
        if keys.iter().all(|(before, _)| before == version) {
            return;
        }
        let settled = keys.extract_if(.., |(before, _)| *before != *version).map(|(_, key)| key);
        let useless: Vec<String> = settled.filter(|key| !head.names(key)).collect();
        if useless.is_empty() {
            return;
        }
        let bucket = bucket.clone();
        tokio::spawn(async move {
            if let Err(error) = bucket.delete_many(&useless).await {
                tracing::debug!(%error, "objects that no head names stay in the bucket");
            }
        });
    }
}
