//! WHAT IS NO LONGER TRUE?
//!
//! # The promise
//!
//! > When `POST /invalidate` has answered 200, every request that starts afterwards gets a page that the origin began to render after the
//! > invalidation was made, or goes to the origin.
//!
//! # How it is kept
//!
//! Invalidations form one totally ordered [journal]: records 1, 2, 3, ... A page carries `as_of`: the newest record that had been
//! applied when its fetch from the origin *began*. The [index] knows, for each path, prefix and tag, the newest record that named it.
//!
//! > A page is valid if and only if no record newer than its `as_of` matches it.
//!
//! Nothing has to be found and deleted. A page that was being rendered, waited for or written while the invalidation came carries an old `as_of`,
//! so it is dead on arrival wherever it turns up:
//!
//! - **a fill in flight**: its `as_of` was taken before the request was sent, so whatever it brings is older than the record;
//! - **a follower** joins a flight only if the flight's `as_of` is still valid for it when it joins ([`crate::proxy`]);
//! - **a late writer** writes an object that every reader judges by its own `as_of`;
//! - **a restart**: the record is durable before it is applied, and applied before the POST is answered.
//!
//! # Several nodes
//!
//! A journal in a bucket ([`journal::s3`]) has many writers. A node may rely on what it knows of it for one lease, counted from *before* its last look
//! was sent. Let a record be durable at t. A node that serves after t + lease has looked after t, and that look has shown the record. So whoever
//! appends waits, before the answer, until each other member has said that it knows the record ([`ring`]), or its lease must have run out; the answer
//! names both kinds ([`Made`]). [`standing`] is what operators see of it.
//!
//! - A look's news are applied before the lease is longer, and in the order in which the journal told them, whoever asked.
//! - A request that finds the lease run out looks first, once for all who wait; if it cannot, it goes to the origin.
//! - A node that starts serves once it has applied everything up to the head on which it joined; until then, nobody hears from it, and all wait for its
//!   lease.
//! - An append is a look too: its swap shows that nothing came between.
//! - A page from the future of what this node knows is not valid *here* yet: the next look makes it so.
//!
//! It does not cover an answer that was on its way before the POST was answered, an origin that renders old data after it (a replica that lags: for
//! that, `cache.settle` keeps pages from being stored for a time after their invalidation, see [`settling`]), a bucket that was set back to an older state, and clocks whose rates differ by more than the margin of 2 per cent.
//!
//! # Journals
//!
//! A page names its journal too. A lost, damaged or copied journal is replaced by a new one with another identity: then no page is valid any more. A
//! page whose `as_of` lies in its journal's future shows that records were lost, and is not valid either.
//!
//! # What it costs
//!
//! A hit costs one comparison: the page's `validated_to` against the index's generation, which changes with every change of the index. Only where
//! they differ is the index looked up, once, and `validated_to` moved to the generation read *before* the look-up. Applying a record changes the
//! index first and the generation after it, so a page is never marked as valid at a generation whose records were not asked; and it tells that the
//! record is applied last of all, so that who was told so finds no page that it kills.
//!
//! This module never fetches, never stores, and never deletes a page.

pub mod body;
mod commit;
mod folding;
pub mod index;
pub mod journal;
mod lease;
mod past;
pub mod ring;
pub mod selector;
pub mod settling;
mod shared;
mod snapshot;
pub mod standing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::commit::{Waiting, commit};
use self::index::{Newest, Subject};
use self::journal::{Circle, Journal, Recovered};
use self::ring::Bell;
use self::selector::Record;
use self::settling::{Moment, Settle};
use self::shared::{LOOK_PATIENCE, LOOKS_PER_LEASE, Shared, keep_current};
use self::standing::Standing;
use crate::page::{JournalId, Page, PageHead, PathId, Sequence};

/// Invalidations that may wait for the journal at the same time; a further one is answered 503.
const WAITING_MAX: usize = 10_000;

/// How long a change waits for the journal, and for the longest lease of another node: somebody waits for the answer that brought it.
const CHANGE_PATIENCE: Duration = Duration::from_secs(15);

/// May a page be served?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No record newer than it names it.
    Valid,
    /// A newer soft record names it: it may be served while a newer one is fetched.
    Soft,
    /// A newer record names it, or it belongs to another journal.
    Invalid,
}

/// An invalidation that was made, and how other nodes came to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its record's number.
    pub sequence: Sequence,
    /// Members of the journal when the record became durable, this node included: 1 + `acknowledged` + those in `waited_out`. Where nobody had to be
    /// told, those that serve now.
    pub nodes: u32,
    /// Other nodes that said that they know the record.
    pub acknowledged: u32,
    /// Those that did not, and whose lease was waited out: the URL of each, or its id where it has none.
    pub waited_out: Arc<[Arc<str>]>,
    /// The id was known: the record was made before, by another request.
    pub is_repeated: bool,
}

impl Made {
    /// All nodes knew it before it was asked for again.
    fn before(sequence: Sequence, nodes: u32) -> Self {
        Made { sequence, nodes, acknowledged: 0, waited_out: Arc::default(), is_repeated: true }
    }
}

/// Why an invalidation was not made. Nothing is claimed; the caller may try again with the same id.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotDurable {
    /// Too many wait for the journal.
    #[error("{WAITING_MAX} invalidations wait for the journal already")]
    Busy,
    /// The journal could not write.
    #[error("{0}")]
    Journal(Arc<str>),
    /// The journal does not answer.
    #[error("the journal does not answer")]
    Hangs,
    /// The server is going down.
    #[error("the server is shutting down")]
    Stopped,
}

/// The journal cannot be looked at: what this node knows may be too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is out of reach")]
pub struct OutOfReach;

/// The journal applied: what every look-up asks and every invalidation goes through.
#[derive(Debug)]
pub struct Invalidations {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Waiting>,
    writer: TaskTracker,
    /// Ends the task that looks.
    _looks: DropGuard,
}

impl Invalidations {
    /// Applies what the journal holds and starts the task that writes to it.
    #[must_use]
    pub fn start(journal: Arc<dyn Journal>, recovered: Recovered) -> Self {
        Self::start_with(journal, recovered, None)
    }

    /// As [`Invalidations::start`], with a way to ring the journal's other nodes.
    #[must_use]
    pub fn start_with(journal: Arc<dyn Journal>, recovered: Recovered, bell: Option<Arc<dyn Bell>>) -> Self {
        Self::start_settling(journal, recovered, bell, None)
    }

    /// As [`Invalidations::start_with`], where pages are not stored for a time after their invalidation.
    #[must_use]
    pub fn start_settling(
        journal: Arc<dyn Journal>,
        recovered: Recovered,
        bell: Option<Arc<dyn Bell>>,
        settle: Option<Settle>,
    ) -> Self {
        let shared = Shared::recover(journal, recovered, bell, settle);
        let shared = Arc::new(shared);
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let writer = TaskTracker::new();
        writer.spawn(commit(Arc::clone(&shared), waiting, writer.clone()));
        writer.close();
        let ended = CancellationToken::new();
        if let Some(lease) = shared.lease.length() {
            tokio::spawn(ended.clone().run_until_cancelled_owned(keep_current(Arc::clone(&shared), lease)));
        }
        Invalidations { shared, queue, writer, _looks: ended.drop_guard() }
    }

    /// Makes the record durable, applies it, and returns its sequence and who knows of it; a record whose id is known takes no new sequence.
    /// When this returns, no look-up on this node finds a page that the record kills.
    ///
    /// # Errors
    /// [`NotDurable`]: nothing may be claimed.
    pub async fn submit(&self, record: impl Into<Arc<Record>> + Send) -> Result<Made, NotDurable> {
        self.queue(record.into(), false).await
    }

    /// As [`Invalidations::submit`], for a change that has happened already, such as a POST through the proxy: if the record cannot be made durable,
    /// it takes effect on this node all the same, and is tried again until it is durable. Nobody waits for a journal that is known to be out of reach.
    ///
    /// # Errors
    /// [`NotDurable`] so far: a crash may forget it.
    pub async fn submit_change(&self, record: Record) -> Result<Made, NotDurable> {
        let record = Arc::new(record);
        let hangs = |_| Err(NotDurable::Hangs);
        let patience = if self.outage().is_some() { Duration::ZERO } else { CHANGE_PATIENCE };
        let queued = self.queue(Arc::clone(&record), true);
        let result = timeout(patience, queued).await.unwrap_or_else(hangs);
        // Those that the journal has refused are distrusted where it did.
        if let Err(NotDurable::Busy | NotDurable::Hangs) = result {
            self.shared.distrust(&record);
        }
        result
    }

    async fn queue(&self, record: Arc<Record>, has_happened: bool) -> Result<Made, NotDurable> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { record, has_happened, answer };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotDurable::Busy,
            mpsc::error::TrySendError::Closed(_) => NotDurable::Stopped,
        })?;
        answered.await.unwrap_or(Err(NotDurable::Stopped))
    }

    /// May this page be served? One comparison for a page that was looked up since the last invalidation.
    pub fn judge(&self, page: &Page) -> Verdict {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if page.validated_to.load(Ordering::Relaxed) == generation {
            return Verdict::Valid;
        }
        let verdict = self.look_up(&page.head, &page.path_id);
        if verdict == Verdict::Valid {
            page.validated_to.store(generation, Ordering::Relaxed);
        }
        verdict
    }

    /// [`Invalidations::judge`] for a page of which only the head is at hand; always looks it up.
    #[must_use]
    pub fn look_up(&self, head: &PageHead, path_id: &PathId) -> Verdict {
        // A page from this journal's future shows that records were lost: nobody knows what they named.
        if head.journal != self.shared.journal_id || head.as_of > self.applied() {
            return Verdict::Invalid;
        }
        let newest = self.newest(&Subject { host: &head.host, path: &head.path, path_id, tags: &head.tags });
        if newest.hard > head.as_of {
            Verdict::Invalid
        } else if newest.soft > head.as_of {
            Verdict::Soft
        } else {
            Verdict::Valid
        }
    }

    /// The newest records that name the subject.
    #[must_use]
    pub fn newest(&self, subject: &Subject<'_>) -> Newest {
        self.shared.newest(subject)
    }

    /// May a record newer than `since` have killed a page of this path? See [`index::Index::may_name_since`].
    #[must_use]
    pub fn may_name_since(&self, path_id: &PathId, since: Sequence) -> bool {
        self.shared.index.read().may_name_since(path_id, since)
    }

    /// The newest record that every look-up takes into account: the `as_of` of a fetch that begins now.
    #[must_use]
    pub fn applied(&self) -> Sequence {
        Sequence(self.shared.applied.load(Ordering::Acquire))
    }

    /// What a fetch that begins now is as of, and which records have settled.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { applied: self.applied(), settled: self.shared.settling.settled() }
    }

    /// Would a page like this not be stored, if it were fetched now? Its invalidation is younger than `cache.settle`.
    #[must_use]
    pub fn is_settling(&self, head: &PageHead, path_id: &PathId) -> bool {
        let subject = Subject { host: &head.host, path: &head.path, path_id, tags: &head.tags };
        let now = self.moment();
        now.is_any_settling() && now.is_too_early(self.newest(&subject))
    }

    /// Waits until this record, which has been applied, has settled: at most `cache.settle`, and a little.
    pub async fn settled(&self, sequence: Sequence) {
        while let Some(wait) = self.shared.settling.wait(sequence) {
            sleep(wait).await;
        }
    }

    /// Does this node know all invalidations that were answered before now? If not, nothing may be served from the cache before
    /// [`Invalidations::make_current`].
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.shared.lease.is_current()
    }

    /// Looks at the journal, once for all who wait.
    ///
    /// # Errors
    /// It is out of reach, or does not answer in time.
    pub async fn make_current(&self) -> Result<(), OutOfReach> {
        let Some(lease) = self.shared.lease.length() else { return Ok(()) };
        // As long as the outage lasts, there is a try in the background: a pause, and a look that may hang. Nobody need wait for it as well.
        let round = lease / LOOKS_PER_LEASE + lease.max(LOOK_PATIENCE) + lease;
        let look = async {
            if self.shared.lease.has_failed_within(round) {
                return Err(OutOfReach);
            }
            let _looking = self.shared.lease.looking.lock().await;
            if self.is_current() {
                return Ok(());
            }
            if self.shared.lease.has_failed_within(round) {
                return Err(OutOfReach);
            }
            self.shared.look(lease).await
        };
        // A little longer than the look itself: its failure is noted for all who wait.
        timeout(lease.max(LOOK_PATIENCE) * 2, look).await.unwrap_or(Err(OutOfReach))
    }

    /// Whether what is at hand may be served although the journal cannot be looked at: not where it is known to be another, or to have lost records.
    #[must_use]
    pub fn may_be_trusted_in_outage(&self) -> bool {
        !self.shared.lease.is_lost()
    }

    /// Another node has appended this record: looks at the journal, unless it is known already. Returns what is applied then.
    ///
    /// # Errors
    /// The journal is out of reach, or does not answer in time.
    pub async fn heed(&self, sequence: Sequence) -> Result<Sequence, OutOfReach> {
        let lease = self.shared.lease.length().ok_or(OutOfReach)?;
        self.shared.tally.hear_of(sequence.0);
        // One look for all who ring at once.
        let _looking = self.shared.lease.looking.lock().await;
        if self.applied() < sequence {
            self.shared.look(lease).await?;
        }
        Ok(self.applied())
    }

    /// How the nodes of this journal know each other; `None`: there is only this one.
    #[must_use]
    pub fn circle(&self) -> Option<Circle> {
        self.shared.journal.circle()
    }

    /// For how long the journal has been out of reach, and why.
    #[must_use]
    pub fn outage(&self) -> Option<(Duration, String)> {
        self.shared.lease.outage()
    }

    /// Nodes that may serve from what they know, this one included.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.shared.journal.nodes()
    }

    /// How this node stands among those of its journal, as it knows it; `None`: there is only this one, and never another. It is a reason to look soon, so
    /// that whoever asks again learns what is new.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        self.shared.standing()
    }

    /// The journal's identity.
    #[must_use]
    pub fn journal_id(&self) -> &JournalId {
        &self.shared.journal_id
    }

    /// Resolves once all of this is dropped and the journal is closed: then its folder can be opened again.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let writer = self.writer.clone();
        async move { writer.wait().await }
    }

    /// The newest records, newest first.
    #[must_use]
    pub fn recent(&self, limit: usize) -> Vec<(Sequence, Arc<Record>)> {
        self.shared.past.lock().recent.iter().rev().take(limit).cloned().collect()
    }

    /// How many names the index knows.
    #[must_use]
    pub fn names(&self) -> usize {
        self.shared.index.read().len()
    }
}
