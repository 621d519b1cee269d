//! When is the journal folded into a snapshot? Each time it has grown by [`FOLD_BYTES`] since it was tried last, whether that succeeded or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::shared::Shared;
use crate::chance;

/// Bytes that the journal grows by until it is folded (again, if that failed: it costs as much as if it had not).
pub(super) const FOLD_BYTES: u64 = 32 << 20;

#[derive(Debug)]
pub(super) struct Folding {
    growth: u64,
    /// Bytes after the snapshot from which on it is due.
    beyond: AtomicU64,
    /// Held while a snapshot is written.
    under_way: Arc<Mutex<()>>,
}

impl Folding {
    /// Nodes that share a journal see it grow together: by lot, one of them is first, and then it is short for all.
    pub(super) fn new(is_shared: bool) -> Self {
        let more = if is_shared { FOLD_BYTES / 2 / 256 * u64::from(chance::byte()) } else { 0 };
        let growth = FOLD_BYTES + more;
        Folding { growth, beyond: AtomicU64::new(growth), under_way: Arc::default() }
    }

    /// Folds a journal of this node's own at once, before it takes further records; a shared one beside them: its snapshot may take minutes to get there.
    pub(super) async fn fold_if_due(self: &Arc<Self>, shared: &Arc<Shared>, waits: &TaskTracker) {
        let tail = shared.journal.tail_bytes();
        // Somebody else may have folded what this node could not.
        let beyond = self.beyond.fetch_min(tail.saturating_add(self.growth), Ordering::Relaxed);
        if tail <= beyond {
            return;
        }
        if shared.journal.terms().is_none() {
            return self.fold(shared).await;
        }
        // One at a time.
        let Ok(under_way) = Arc::clone(&self.under_way).try_lock_owned() else { return };
        let (folding, shared) = (Arc::clone(self), Arc::clone(shared));
        waits.spawn(async move {
            folding.fold(&shared).await;
            drop(under_way);
        });
    }

    async fn fold(&self, shared: &Arc<Shared>) {
        shared.fold().await;
        // Only now: while it is written, the journal is as long as before.
        self.beyond.store(shared.journal.tail_bytes().saturating_add(self.growth), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::clock::{Clock, UnixMillis};
    use crate::invalidation::Invalidations;
    use crate::invalidation::journal::memory::MemoryJournal;
    use crate::invalidation::journal::{Appended, Journal, JournalError, Recovered, Terms};
    use crate::invalidation::selector::Record;
    use crate::page::{JournalId, Sequence};

    const RECORDS_UNTIL_FOLD: u64 = 4;

    /// A shared journal of large records, whose snapshots take their time.
    #[derive(Debug)]
    struct Shrinking {
        inner: MemoryJournal,
        tail_bytes: AtomicU64,
        longest_tail: AtomicU64,
        terms: Terms,
    }

    #[async_trait]
    impl Journal for Shrinking {
        fn id(&self) -> JournalId {
            self.inner.id()
        }

        async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
            let bytes = FOLD_BYTES / RECORDS_UNTIL_FOLD * records.len() as u64;
            let tail = self.tail_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
            self.longest_tail.fetch_max(tail, Ordering::SeqCst);
            self.inner.append(records).await
        }

        async fn fold(&self, _: Sequence, _: Vec<u8>) -> Result<(), JournalError> {
            sleep(Duration::from_millis(15)).await;
            self.tail_bytes.store(0, Ordering::SeqCst);
            Ok(())
        }

        fn tail_bytes(&self) -> u64 {
            self.tail_bytes.load(Ordering::SeqCst)
        }

        fn terms(&self) -> Option<Terms> {
            Some(self.terms)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_journal_stays_short_however_often_it_is_folded() {
        let clock = Clock::Tokio { epoch: UnixMillis(1), started: Instant::now() };
        let terms = Terms { lease: Duration::from_secs(2), clock, began: clock.ticks() };
        let inner = MemoryJournal::new(JournalId("j".into()));
        let journal = Arc::new(Shrinking { inner, tail_bytes: 0.into(), longest_tail: 0.into(), terms });
        let invalidations = Invalidations::start(Arc::clone(&journal) as Arc<dyn Journal>, Recovered::default());
        for _ in 0..200 {
            invalidations.submit(Record { all: true, ..Record::default() }).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        let longest = journal.longest_tail.load(Ordering::SeqCst);
        assert!(longest > FOLD_BYTES && longest < 3 * FOLD_BYTES, "{longest}");
    }
}
