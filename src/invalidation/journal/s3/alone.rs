//! What if the server does not keep the conditions of writes? Then compare-and-swap proves nothing, and the journal has one writer: whoever holds the lock.
//!
//! ```text
//! <flavor>/journal/lock      whose it is, and a word that changes with each renewal
//! ```
//!
//! - The owner renews the lock, once in a lease, having read that it is still its own. One that has read another name, or none, has lost it for
//!   as long as it lives: the lease runs out, and requests go to the origin.
//! - Who finds a lock that is not its own watches it for longer than it takes to renew it. If it changes, somebody lives: the start is refused.
//! - Who finds none, or a dead one, writes its own, waits until the lease of whoever had it must have run out, and reads again. Of several who start
//!   at once the last one to write finds its own name.
//! - A look reads the lock first and the head after it, and finds the head as this node has written it: anything else was written by somebody else.
//! - An append reads the lock before the head is written and again before it is answered. So whoever takes the lock over reads every record that was answered.
//!
//! # What remains possible
//!
//! - A node that is held up between reading the lock and writing the head, or whose write is carried out long after it was given up, overwrites the head
//!   of the node that has taken over meanwhile. That one sees it at its next look and goes to the origin; what it had appended is forgotten
//!   after the next start (`everpage invalidate --all` then).
//! - A head whose writing was given up, and which arrives after a later one, overwrites that: the next look sees a foreign head, and requests go to the
//!   origin until a restart, which forgets what came later. Each write is sent once, so that none is its own rival; S3's own condition would exclude it.
//! - A node of another kind on the same bucket, that takes the server for an honest one, may write between two looks: it is seen at the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::envelope;
use super::head::Head;
use super::opening::OpenError;
use super::reading::{HEAD_BYTES_MAX, seal_head};
use super::{S3Journal, State, with_margin};
use crate::chance;
use crate::invalidation::journal::JournalError;
use crate::store::s3::bucket::{Attributes, Bucket, Look, S3Error, Swap, Version};

const LOCK: &str = "journal-lock";
/// More than a lock has.
const LOCK_BYTES_MAX: u64 = 4 << 10;
/// Renewals that a living owner may miss while it is watched: a slow server, a busy machine.
const MISSED_MAX: u32 = 3;
/// Reads in the time of one renewal, while a lock is watched.
const READS_PER_RENEWAL: u32 = 4;
/// The longest lease that the configuration takes: what a lock says beyond was not written by everpage.
const LEASE_MAX: Duration = Duration::from_secs(10);

/// What stands in the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Owner {
    node: Arc<str>,
    /// Different in each renewal.
    word: String,
    /// How long its owner may serve after it has read it, and how often it is renewed.
    lease_ms: u64,
}

impl Owner {
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms).min(LEASE_MAX)
    }
}

/// What lies in the lock's place.
enum Found {
    Nothing,
    Of(Owner, Version),
    /// Nobody knows whose it is.
    Unreadable(Version),
}

/// Why this node may not rely on the journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsure {
    #[error("another node has taken the lock {0} over: stop one of the two, and restart this one to go on")]
    Lost(String),
    #[error("{0}")]
    Bucket(#[from] S3Error),
}

/// The lock of a node that writes alone.
#[derive(Debug)]
pub(super) struct Lock {
    held: Arc<Held>,
    renewing: Mutex<Option<JoinHandle<()>>>,
    ends: CancellationToken,
    _ends: DropGuard,
}

#[derive(Debug)]
struct Held {
    bucket: Bucket,
    key: String,
    node: Arc<str>,
    lease: Duration,
    is_lost: AtomicBool,
}

impl Lock {
    /// Takes the lock, once nobody else can live, and goes on renewing it. Returns whose it was.
    ///
    /// # Errors
    /// Somebody else has it, or the bucket does not answer.
    pub(super) async fn take(
        bucket: &Bucket,
        folder: &str,
        node: &Arc<str>,
        lease: Duration,
        why: &str,
    ) -> Result<(Self, Option<Arc<str>>), OpenError> {
        let key = key(folder);
        let refused =
            |holder: &str| OpenError::Alone { why: why.to_owned(), who: format!("{holder} holds the lock {key}") };
        let former = match watch(bucket, &key, lease).await? {
            Watched::Nothing => None,
            Watched::Dead(former) => former,
            Watched::Alive(holder) => return Err(refused(&holder)),
        };
        let held = Held {
            bucket: bucket.clone(),
            key: key.clone(),
            node: Arc::clone(node),
            lease,
            is_lost: AtomicBool::new(false),
        };
        held.write().await?;
        // Longer than another one that starts now takes to write its own, too.
        let before = former.as_ref().map_or(lease, Owner::lease);
        sleep(with_margin(lease.max(before))).await;
        match read(bucket, &key).await? {
            Found::Of(owner, _) if owner.node == *node => {}
            Found::Of(owner, _) => return Err(refused(&named(&owner))),
            Found::Nothing | Found::Unreadable(_) => return Err(refused("somebody who has just started")),
        }
        let (held, ends) = (Arc::new(held), CancellationToken::new());
        let renewing = Mutex::new(Some(tokio::spawn(renew(Arc::clone(&held), ends.clone()))));
        let lock = Lock { held, renewing, _ends: ends.clone().drop_guard(), ends };
        Ok((lock, former.map(|former| former.node)))
    }

    /// Puts a head into the place of whatever lies there: nobody else writes.
    pub(super) async fn put_head(&self, folder: &str, head: &mut Head) -> Result<Swap, S3Error> {
        if self.verify().await.is_err() {
            return Ok(Swap::Lost);
        }
        let bytes = seal_head(head);
        let Held { bucket, .. } = &*self.held;
        let version = bucket.put(&format!("{folder}/head"), vec![bytes], &Attributes::default()).await?;
        // Whoever has taken over by now may have read the head of before.
        Ok(if self.verify().await.is_ok() { Swap::Done(version) } else { Swap::Lost })
    }

    /// Reads whether it is still this node's.
    pub(super) async fn verify(&self) -> Result<(), Unsure> {
        self.held.verify().await
    }

    /// Gives it back, so that the next start need not watch it.
    pub(super) async fn release(&self) -> Result<(), Unsure> {
        self.ends.cancel();
        let renewing = self.renewing.lock().take();
        if let Some(renewing) = renewing {
            // It ends at once, and never panics.
            let _ = renewing.await;
        }
        self.held.verify().await?;
        self.held.is_lost.store(true, Ordering::Relaxed);
        Ok(self.held.bucket.delete(&self.held.key).await?)
    }

    /// As [`Lock::release`], for a start that has failed: if the lock stays, the next start watches it.
    pub(super) async fn give_up(&self) {
        if let Err(error) = self.release().await {
            tracing::debug!(%error, "the journal's lock stays");
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.held.is_lost.load(Ordering::Relaxed)
    }
}

impl Held {
    async fn write(&self) -> Result<(), S3Error> {
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let word = chance::word();
        let owner = Owner { node: Arc::clone(&self.node), word, lease_ms };
        let json = serde_json::to_vec(&owner).expect("a lock is JSON");
        let pieces = vec![Bytes::from(envelope::seal(LOCK, &json))];
        self.bucket.put(&self.key, pieces, &Attributes::default()).await.map(drop)
    }

    async fn verify(&self) -> Result<(), Unsure> {
        let is_mine = !self.is_lost.load(Ordering::Relaxed)
            && matches!(read(&self.bucket, &self.key).await?, Found::Of(owner, _) if owner.node == self.node);
        if is_mine {
            return Ok(());
        }
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            tracing::error!(
                key = self.key,
                "another node has taken the journal's lock over: this one serves nothing from the cache any more"
            );
        }
        Err(Unsure::Lost(self.key.clone()))
    }
}

async fn renew(held: Arc<Held>, ends: CancellationToken) {
    loop {
        let renewed = match held.verify().await {
            Ok(()) => held.write().await,
            Err(Unsure::Lost(_)) => return,
            Err(Unsure::Bucket(error)) => Err(error),
        };
        if let Err(error) = renewed {
            tracing::debug!(%error, "the journal's lock was not renewed");
        }
        if ends.run_until_cancelled(sleep(held.lease)).await.is_none() {
            return;
        }
    }
}

/// What became of a lock that was watched.
enum Watched {
    Nothing,
    /// Nobody has renewed it.
    Dead(Option<Owner>),
    /// Somebody has, by this name.
    Alive(String),
}

/// Watches a lock for longer than its owner takes to renew it.
async fn watch(bucket: &Bucket, key: &str, lease: Duration) -> Result<Watched, S3Error> {
    let (first, owner) = match read(bucket, key).await? {
        Found::Nothing => return Ok(Watched::Nothing),
        Found::Of(owner, version) => (version, Some(owner)),
        Found::Unreadable(version) => (version, None),
    };
    let renewal = owner.as_ref().map_or(lease, Owner::lease).max(lease);
    tracing::warn!(key, "the journal's lock is there: it is watched, to see whether its owner lives");
    let deadline = Instant::now() + with_margin(renewal * MISSED_MAX);
    while Instant::now() < deadline {
        sleep(renewal / READS_PER_RENEWAL).await;
        match read(bucket, key).await? {
            Found::Nothing => return Ok(Watched::Nothing),
            Found::Of(_, version) | Found::Unreadable(version) if version == first => {}
            Found::Of(owner, _) => return Ok(Watched::Alive(named(&owner))),
            Found::Unreadable(_) => return Ok(Watched::Alive("somebody unknown".to_owned())),
        }
    }
    Ok(Watched::Dead(owner))
}

async fn read(bucket: &Bucket, key: &str) -> Result<Found, S3Error> {
    let Some(fetched) = bucket.get(key, LOCK_BYTES_MAX).await? else { return Ok(Found::Nothing) };
    let content = envelope::open(LOCK, &fetched.bytes).ok();
    Ok(match content.and_then(|content| serde_json::from_slice(&content).ok()) {
        Some(owner) => Found::Of(owner, fetched.version),
        None => Found::Unreadable(fetched.version),
    })
}

fn named(owner: &Owner) -> String {
    format!("the node {}", owner.node)
}

pub(super) fn key(folder: &str) -> String {
    format!("{folder}/lock")
}

/// Before a node joins others: nobody may be writing alone, which it would not notice. A dead lock goes away.
///
/// # Errors
/// Somebody is, or the bucket does not answer.
pub(super) async fn ensure_nobody(bucket: &Bucket, folder: &str, lease: Duration) -> Result<(), OpenError> {
    let key = key(folder);
    match watch(bucket, &key, lease).await? {
        Watched::Nothing => Ok(()),
        Watched::Dead(_) => Ok(bucket.delete(&key).await?),
        Watched::Alive(holder) => Err(OpenError::Locked { key, holder }),
    }
}

impl S3Journal {
    /// Puts `head` into the place of the one that `state` holds, which must still be there.
    pub(super) async fn replace(&self, lock: &Lock, state: &mut State, head: &mut Head) -> Result<Swap, JournalError> {
        let action = "replace the head";
        lock.verify().await.map_err(|unsure| JournalError::new(action, unsure))?;
        let key = format!("{}/head", self.folder);
        match self.bucket.look(&key, &state.version, HEAD_BYTES_MAX).await.map_err(Self::error(action))? {
            Look::Unchanged => {}
            // Read, and judged, by the caller.
            Look::Changed(_) | Look::Absent => return Ok(Swap::Lost),
        }
        let bytes = seal_head(head);
        state.pending.clone_from(&head.nonce);
        let version = self.bucket.put_once(&key, bytes).await;
        let version = version.map_err(Self::error(action))?;
        // Whoever has taken over by now may have read the head of before.
        lock.verify().await.map_err(|unsure| JournalError::new(action, unsure))?;
        Ok(Swap::Done(version))
    }

    /// The head is another one than the one this node knows: was it this node's own write, whose answer was lost?
    pub(super) async fn ensure_own(&self, lock: &Lock, state: &State, head: &Head) -> Result<(), JournalError> {
        let action = "look at the head";
        if head.nonce != state.pending {
            return Err(JournalError::new(
                action,
                "another node has written it, although this one holds the lock, and the server cannot keep them apart: \
                 stop one of the two, and restart this one to go on",
            ));
        }
        lock.verify().await.map_err(|unsure| JournalError::new(action, unsure))
    }

    /// Takes away all members but this node, and waits until none of them can serve; one that still does comes back, and changes the head.
    ///
    /// # Errors
    /// Somebody has.
    pub(super) async fn outlast_others(&self, dead: Option<&str>) -> Result<(), JournalError> {
        let mut wait = Duration::ZERO;
        let state = &mut *self.state.lock().await;
        let expelled = self.change(state, "take away other nodes", |head, _| {
            let others = head.members.iter().filter(|(node, _)| **node != self.node);
            let alive = others.filter(|(node, _)| Some(&***node) != dead).map(|(_, member)| member.lease()).max();
            wait = wait.max(alive.unwrap_or_default());
            let count = head.members.len();
            head.members.retain(|node, _| *node == self.node);
            head.members.len() < count
        });
        expelled.await?;
        if wait.is_zero() {
            return Ok(());
        }
        sleep(with_margin(wait.min(LEASE_MAX))).await;
        self.refresh(state).await
    }

    /// A start that has failed.
    pub(super) async fn give_up(&self) {
        if let Some(lock) = &self.lock {
            lock.give_up().await;
        }
    }
}
