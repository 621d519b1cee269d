//! WHOSE TURN IS IT? `<flavor>/sweep/lock`: one node at a time sweeps.
//!
//! Who has the turn renews the lock again and again. Who finds it taken watches it, and takes it over once it has not changed for a while by the
//! watcher's own watch: nobody's clock is trusted. It is changed by conditional PUTs only. Where two nodes sweep all the same - a node that was
//! suspended, a server that ignores conditions - they do twice the work and no harm.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Problem;
use crate::store::s3::bucket::{Bucket, Condition, Look, S3Error, Swap, Version};

/// Bytes of the largest lock that is read: it takes a hundred.
const BYTES_MAX: u64 = 4 << 10;
/// Looks and renewals in the time after which a lock is taken over.
const LOOKS: u32 = 10;

#[derive(Debug, Serialize, Deserialize)]
struct Lock {
    /// Empty: free.
    holder: String,
    /// Another one in each version: identical bytes have identical entity tags.
    nonce: String,
}

/// The right to sweep, until it is given back.
#[derive(Debug)]
pub(super) struct Turn {
    bucket: Bucket,
    key: String,
    holder: String,
    version: tokio::sync::Mutex<Version>,
    patience: Duration,
}

impl Turn {
    /// `None`: another node has it and is alive. Where it may be dead, this takes `patience`.
    pub(super) async fn take(bucket: &Bucket, key: String, patience: Duration) -> Result<Option<Turn>, Problem> {
        let condition = match bucket.get(&key, BYTES_MAX).await? {
            None => Condition::Absent,
            Some(found) => {
                let lock = serde_json::from_slice::<Lock>(&found.bytes).ok();
                let is_free = lock.is_some_and(|lock| lock.holder.is_empty());
                if !is_free && !is_abandoned(bucket, &key, &found.version, patience).await? {
                    return Ok(None);
                }
                Condition::Is(found.version)
            }
        };
        let holder = uuid::Uuid::new_v4().to_string();
        let taken = swap(bucket, &key, &holder, &condition).await?;
        Ok(taken.map(|version| Turn { bucket: bucket.clone(), key, holder, version: version.into(), patience }))
    }

    /// Renews it for as long as it is ours; ends when it no longer is.
    pub(super) async fn keep(&self) -> Problem {
        let mut renewed = Instant::now();
        loop {
            sleep(self.patience / LOOKS).await;
            let mut version = self.version.lock().await;
            let began = Instant::now();
            match swap(&self.bucket, &self.key, &self.holder, &Condition::Is(version.clone())).await {
                Ok(Some(next)) => (*version, renewed) = (next, began),
                Ok(None) => return Problem::TurnLost,
                Err(error) if renewed.elapsed() > self.patience / 2 => return error.into(),
                Err(_) => {}
            }
        }
    }

    /// Gives it back. If that fails, the others wait for a while.
    pub(super) async fn release(&self) {
        let version = self.version.lock().await.clone();
        if let Err(error) = swap(&self.bucket, &self.key, "", &Condition::Is(version)).await {
            tracing::debug!(%error, "the sweeper's lock was not given back");
        }
    }
}

/// Has nobody touched it for so long?
async fn is_abandoned(bucket: &Bucket, key: &str, version: &Version, patience: Duration) -> Result<bool, S3Error> {
    for _ in 0..LOOKS {
        sleep(patience / LOOKS).await;
        if !matches!(bucket.look(key, version, BYTES_MAX).await?, Look::Unchanged) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lock's new version; `None`: somebody else was faster.
async fn swap(bucket: &Bucket, key: &str, holder: &str, condition: &Condition) -> Result<Option<Version>, S3Error> {
    let lock = Lock { holder: holder.to_owned(), nonce: uuid::Uuid::new_v4().to_string() };
    let json = serde_json::to_vec(&lock).expect("two strings");
    match bucket.swap(key, Bytes::from(json.clone()), condition).await {
        Ok(Swap::Done(version)) => Ok(Some(version)),
        Ok(Swap::Lost) => Ok(None),
        // Nobody knows: what lies there says it.
        Err(error) => match bucket.get(key, BYTES_MAX).await? {
            Some(found) if found.bytes == json => Ok(Some(found.version)),
            _ => Err(error),
        },
    }
}
