//! What every look-up asks: the index, how far it is applied, and how the journal's news get into it.
//!
//! Whoever hears of news holds `turn` until they are applied, so that they are applied in the order in which the journal told them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::task::{JoinError, spawn_blocking, yield_now};
use tokio::time::{MissedTickBehavior, timeout};

use super::OutOfReach;
use super::index::{Index, Newest, Subject};
use super::journal::{Journal, JournalError, Recovered, Seen};
use super::lease::Lease;
use super::past::Past;
use super::ring::Bell;
use super::selector::Record;
use super::settling::{Settle, Settling};
use super::snapshot::{unfold, unfold_beside};
use super::standing::{LookEnd, Tally};
use crate::page::{JournalId, Sequence};

/// Names that are applied while look-ups wait, and requests on the same thread: a twentieth of a millisecond.
const NAMES_AT_ONCE: usize = 100;

/// Names that are written down in a few milliseconds at most.
const LARGE_NAMES: usize = 100_000;
/// Changes that may wait to be made durable; beyond that, one record stands for everything.
const OVERDUE_MAX: usize = 1_000;
/// How long a look at the journal may take, where the lease is shorter: whoever waits for it asks the origin then.
pub(super) const LOOK_PATIENCE: Duration = Duration::from_secs(1);
/// Looks in the time of a lease, while somebody asks: one may fail, and another take its time.
pub(super) const LOOKS_PER_LEASE: u32 = 3;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) journal_id: JournalId,
    pub(super) index: RwLock<Index>,
    /// The newest record in the index.
    pub(super) applied: AtomicU64,
    /// Changes with every change of the index, after it; starts at 1, so that a page's 0 means "never looked".
    pub(super) generation: AtomicU64,
    pub(super) past: Mutex<Past>,
    pub(super) overdue: Mutex<Overdue>,
    pub(super) has_overdue: AtomicBool,
    /// The newest record of which every other node is known to know, or to be unable to serve.
    pub(super) settled: AtomicU64,
    pub(super) settling: Settling,
    pub(super) lease: Lease,
    pub(super) bell: Option<Arc<dyn Bell>>,
    pub(super) tally: Tally,
    /// Held from a call of the journal until what it told is applied: news are applied in the order in which they were told.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// Records of changes that have happened and are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    pub(super) records: Vec<Arc<Record>>,
    /// What they name.
    pub(super) index: Index,
}

/// Looks ahead of the lease's end while somebody asks; an idle node need not look.
pub(super) async fn keep_current(shared: Arc<Shared>, lease: Duration) {
    let mut rounds = tokio::time::interval(lease / LOOKS_PER_LEASE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // An outage is looked at until it is over, whether anybody asks or not: what is said of it shall be true.
        if shared.lease.take_wanted() || shared.lease.outage().is_some() {
            // A failure is noted, and the next round tries again.
            let _ = shared.look(lease).await;
        }
    }
}

impl Shared {
    pub(super) fn recover(
        journal: Arc<dyn Journal>,
        recovered: Recovered,
        bell: Option<Arc<dyn Bell>>,
        settle: Option<Settle>,
    ) -> Self {
        let settling = Settling::recover(settle, &recovered, recovered.last());
        let mut past = Past::default();
        let mut index = Index::default();
        let mut applied = Sequence(0);
        if let Some((sequence, bytes)) = recovered.snapshot {
            applied = sequence;
            let ids;
            (index, ids) = unfold(sequence, &bytes);
            past.remember_ids(ids);
        }
        for (sequence, record) in recovered.records {
            index.apply(sequence, &record);
            past.remember(sequence, &record);
            applied = applied.max(sequence);
        }
        let lease = Lease::new(journal.terms());
        Shared {
            journal_id: journal.id(),
            journal,
            index: RwLock::new(index),
            applied: AtomicU64::new(applied.0),
            generation: AtomicU64::new(1),
            past: Mutex::new(past),
            overdue: Mutex::default(),
            has_overdue: AtomicBool::new(false),
            settled: AtomicU64::new(0),
            settling,
            lease,
            bell,
            tally: Tally::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Looks at the journal and applies what others have appended; only then is the lease longer. A look that takes longer than anybody waits goes on in
    /// the background: a node that is far behind has much to read, and must get to its end.
    pub(super) async fn look(self: &Arc<Self>, lease: Duration) -> Result<(), OutOfReach> {
        let shared = Arc::clone(self);
        let look = tokio::spawn(async move {
            let _turn = shared.turn.lock().await;
            match shared.journal.look().await {
                Ok(Seen { news, began }) => {
                    let is_news = !news.records.is_empty() || news.snapshot.is_some();
                    shared.tally.note_look(if is_news { LookEnd::News } else { LookEnd::Unchanged });
                    shared.take(news).await;
                    shared.lease.extend(began);
                    true
                }
                Err(error) => {
                    shared.tally.note_look(if error.is_lost { LookEnd::Lost } else { LookEnd::Failed });
                    shared.lease.note_failure(&error, error.is_lost);
                    false
                }
            }
        });
        let failure = match timeout(lease.max(LOOK_PATIENCE), look).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => return Err(OutOfReach),
            Ok(Err(panic)) => panic.to_string(),
            Err(_) => {
                self.tally.note_look(LookEnd::Late);
                "it does not answer in time".to_owned()
            }
        };
        // Meanwhile somebody else may have had an answer.
        if !self.lease.has_time_left() {
            self.lease.note_silence(&failure);
        }
        Err(OutOfReach)
    }

    /// Applies what the journal told. To be run to its end, by whoever holds `turn`.
    pub(super) async fn take(&self, news: Recovered) {
        if let Some((sequence, bytes)) = news.snapshot {
            let (folded, ids) = unfold_beside(sequence, bytes).await;
            self.past.lock().remember_ids(ids);
            let former = std::mem::replace(&mut *self.index.write(), folded);
            self.generation.fetch_add(1, Ordering::Release);
            self.applied.store(sequence.0, Ordering::Release);
            self.settling.note(sequence);
            // Not while look-ups wait: it may be large.
            drop(former);
        }
        if !news.records.is_empty() {
            self.apply(&Vec::from(news.records)).await;
        }
    }

    /// The index first, then the generation, `applied` last: who knows that a record is applied finds no page that it kills.
    async fn apply(&self, batch: &[(Sequence, Arc<Record>)]) {
        let mut names_since_rest = 0;
        for (sequence, record) in batch {
            // In pieces, between which look-ups and requests have their turn. Whoever finds a part of a record applied finds pages dead a little early.
            for part in record.parts(NAMES_AT_ONCE) {
                names_since_rest += part.names();
                if names_since_rest > NAMES_AT_ONCE {
                    yield_now().await;
                    names_since_rest = part.names();
                }
                self.index.write().apply_part(*sequence, record, part);
            }
            tracing::debug!(
                %sequence,
                paths = record.paths.len(),
                first = record.paths.first().map(|target| &*target.path),
                prefixes = record.prefixes.len(),
                tags = record.tags.len(),
                all = record.all,
                reason = record.reason.as_deref(),
                "invalidated"
            );
        }
        self.generation.fetch_add(1, Ordering::Release);
        if let Some((newest, _)) = batch.last() {
            self.applied.store(newest.0, Ordering::Release);
            self.settling.note(*newest);
        }
        let mut past = self.past.lock();
        batch.iter().for_each(|(sequence, record)| past.remember(*sequence, record));
    }

    /// Kills what the record names on this node although it is not durable, and has it tried again: until it is durable, no page of it is valid, whatever
    /// its `as_of`: another node may have stored one that was rendered before the change.
    pub(super) fn distrust(&self, record: &Arc<Record>) {
        let mut overdue = self.overdue.lock();
        if !overdue.records.iter().any(|known| Arc::ptr_eq(known, record)) {
            if overdue.records.len() < OVERDUE_MAX {
                overdue.records.push(Arc::clone(record));
            } else {
                overdue.records = vec![Arc::new(Record { at: record.at, all: true, ..Record::default() })];
            }
        }
        self.note_overdue(&mut overdue);
    }

    /// These are durable and applied: the index speaks for them now.
    pub(super) fn trust(&self, durable: &[Arc<Record>]) {
        let mut overdue = self.overdue.lock();
        if !overdue.records.is_empty() {
            overdue.records.retain(|record| !durable.iter().any(|durable| Arc::ptr_eq(durable, record)));
            self.note_overdue(&mut overdue);
        }
    }

    pub(super) fn note_overdue(&self, overdue: &mut Overdue) {
        overdue.index = Index::default();
        overdue.records.iter().for_each(|record| overdue.index.apply(Sequence(u64::MAX), record));
        self.has_overdue.store(!overdue.records.is_empty(), Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(super) fn newest(&self, subject: &Subject<'_>) -> Newest {
        // In this order: a record ceases to be overdue when the index has it. The other way round, neither might be seen to have it.
        let is_any_overdue = self.has_overdue.load(Ordering::Acquire);
        let overdue = if is_any_overdue { self.overdue.lock().index.newest(subject) } else { Newest::default() };
        let newest = self.index.read().newest(subject);
        Newest { hard: newest.hard.max(overdue.hard), soft: newest.soft.max(overdue.soft) }
    }

    /// To be called by the writer of the journal only: nobody else folds.
    pub(super) async fn fold(self: &Arc<Self>) {
        let sequence = Sequence(self.applied.load(Ordering::Acquire));
        let folded = match self.to_bytes().await {
            Ok(bytes) => self.journal.fold(sequence, bytes).await,
            Err(error) => Err(JournalError::new("write down the index", error)),
        };
        match folded {
            Ok(()) => tracing::info!(%sequence, "journal folded into a snapshot"),
            Err(error) => tracing::warn!(%error, "the journal could not be folded; it goes on growing"),
        }
    }

    /// What a snapshot holds. A large index is hundreds of megabytes, and the runtime's threads have requests to answer meanwhile.
    pub(super) async fn to_bytes(self: &Arc<Self>) -> Result<Vec<u8>, JoinError> {
        let shared = Arc::clone(self);
        let write_down = move || {
            let mut bytes = Index::write_down(|part| part(&shared.index.read()));
            shared.past.lock().ids_to_bytes(&mut bytes);
            bytes
        };
        if self.index.read().len() < LARGE_NAMES { Ok(write_down()) } else { spawn_blocking(write_down).await }
    }
}
