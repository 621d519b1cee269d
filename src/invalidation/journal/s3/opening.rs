//! How does a node come to a shared journal? It reads everything, joins, and counts from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::envelope::Unreadable;
use super::head::{Head, MEMBERS_MAX};
use super::reading::{HEAD_BYTES_MAX, Missing, Pauses, parse_head, read, swap};
use super::{Marks, PATIENCE, S3Journal, State};
use crate::clock::{Clock, Ticks};
use crate::invalidation::journal::{Recovered, Terms, random_identity};
use crate::page::Sequence;
use crate::store::s3::bucket::{Bucket, Condition, S3Error, Swap, Version};

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bucket does not do what is asked.
    #[error("{0}")]
    Bucket(#[from] S3Error),
    /// Written by a newer everpage.
    #[error("{key}: {source}; start that version")]
    Newer {
        /// The object.
        key: String,
        /// Which version.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too many nodes.
    #[error(
        "{MEMBERS_MAX} nodes share this journal already: take some away, or give this one a location of its own (store.s3.location)"
    )]
    Full,
    /// The head changes faster than it can be swapped.
    #[error("the journal's head could not be swapped within {} seconds", PATIENCE.as_secs())]
    Contended,
}

/// Opens the journal of a flavor, or begins it; this node becomes a member, to be rung at `url`. What is damaged is left behind: a new journal
/// begins, and no page of the old one is valid any more.
///
/// # Errors
/// [`OpenError`]
pub async fn open(
    bucket: Bucket,
    flavor: &str,
    lease: Duration,
    url: Option<Arc<str>>,
    clock: Clock,
) -> Result<(S3Journal, Recovered), OpenError> {
    let folder = format!("{}/journal", if flavor.is_empty() { "default" } else { flavor });
    let node = uuid::Uuid::new_v4().to_string().into();
    let joining = Joining { bucket, folder, node, lease, url, clock };
    let deadline = Instant::now() + PATIENCE;
    let mut pauses = Pauses::new();
    loop {
        if let Some(opened) = joining.attempt(Instant::now() > deadline).await? {
            return Ok(opened);
        }
        pauses.next().await;
    }
}

/// A node on its way into the journal.
struct Joining {
    bucket: Bucket,
    folder: String,
    node: Arc<str>,
    lease: Duration,
    url: Option<Arc<str>>,
    clock: Clock,
}

impl Joining {
    /// Reads everything and joins; `None`: something came between. The last attempt says what.
    async fn attempt(&self, is_last: bool) -> Result<Option<(S3Journal, Recovered)>, OpenError> {
        let began = self.clock.ticks();
        let (mut head, condition) = match read_head(&self.bucket, &self.folder).await? {
            Some((head, version)) => (head.unwrap_or_else(|| Head::new(random_identity())), Condition::Is(version)),
            None => (Head::new(random_identity()), Condition::Absent),
        };
        let recovered = match read(&self.bucket, &head, Sequence(0), None).await {
            Ok(recovered) => recovered,
            Err(Missing::Bucket(error)) => return Err(error.into()),
            // Folded meanwhile, or gone for good.
            Err(Missing::Object(..)) if !is_last => return Ok(None),
            Err(Missing::Object(key, error)) => {
                tracing::error!(key, %error, "the journal is damaged: a new one begins, and every stored page is invalid");
                head = Head::new(random_identity());
                Recovered::default()
            }
        };
        if head.members.len() >= MEMBERS_MAX {
            return Err(OpenError::Full);
        }
        head.join(&self.node, self.lease, self.url.as_ref(), self.clock.now());
        match swap(&self.bucket, &self.folder, &mut head, &condition).await {
            Ok(Swap::Done(version)) => Ok(Some((self.joined(head, version, recovered.last(), began), recovered))),
            Ok(Swap::Lost) if is_last => Err(OpenError::Contended),
            Err(error) if is_last => Err(error.into()),
            // An unknown outcome shows at the next read: the node is a member then, and joins again.
            Ok(Swap::Lost) | Err(_) => Ok(None),
        }
    }

    fn joined(&self, head: Head, version: Version, told: Sequence, began: Ticks) -> S3Journal {
        let (id, secret) = (head.journal.clone(), Arc::clone(&head.secret));
        let state = State { told, head, version, marks: Marks::new(), own: None, has_left: false };
        let mut journal = S3Journal {
            bucket: self.bucket.clone(),
            folder: self.folder.clone(),
            id,
            node: Arc::clone(&self.node),
            url: self.url.clone(),
            secret,
            terms: Terms { lease: self.lease, clock: self.clock, began },
            tail_bytes: AtomicU64::new(0),
            nodes: AtomicU32::new(1),
            state: Mutex::new(state),
        };
        journal.note_now();
        journal
    }
}

/// The head and its version; `None` in the place of a head that cannot be read.
async fn read_head(bucket: &Bucket, folder: &str) -> Result<Option<(Option<Head>, Version)>, OpenError> {
    let key = format!("{folder}/head");
    let Some(fetched) = bucket.get(&key, HEAD_BYTES_MAX).await? else { return Ok(None) };
    match parse_head(&fetched.bytes) {
        Ok(head) => Ok(Some((Some(head), fetched.version))),
        Err(source @ Unreadable::Newer(_)) => Err(OpenError::Newer { key, source: source.into() }),
        Err(Unreadable::Damaged) => {
            tracing::error!(
                key,
                "the journal's head is damaged: a new journal begins, and every stored page is invalid"
            );
            Ok(Some((None, fetched.version)))
        }
    }
}
