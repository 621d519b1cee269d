//! A journal for `store.kind = "memory"` and for tests: it counts, and survives nothing.
//!
//! Each one has an identity of its own, so that no page outlives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{Appended, Journal, JournalError};
use crate::invalidation::selector::Record;
use crate::page::{JournalId, Sequence};

/// Counts records. There is nothing to read them back for, so it keeps none.
#[derive(Debug)]
pub struct MemoryJournal {
    id: JournalId,
    last: AtomicU64,
}

impl MemoryJournal {
    /// An empty journal; `id` from [`random_identity`](super::random_identity).
    #[must_use]
    pub fn new(id: JournalId) -> Self {
        MemoryJournal { id, last: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    fn id(&self) -> JournalId {
        self.id.clone()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let count = records.len() as u64;
        let last = Sequence(self.last.fetch_add(count, Ordering::SeqCst) + count);
        Ok(Appended::alone(last, records))
    }

    async fn fold(&self, sequence: Sequence, _snapshot: Vec<u8>) -> Result<(), JournalError> {
        let last = Sequence(self.last.load(Ordering::SeqCst));
        if sequence > last {
            return Err(JournalError::new(format!("fold up to {sequence}"), format!("the newest record is {last}")));
        }
        Ok(())
    }

    fn tail_bytes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Recovered, contract, random_identity};
    use super::*;

    struct Nowhere;

    #[async_trait]
    impl contract::Place for Nowhere {
        async fn open(&self) -> (Arc<dyn Journal>, Recovered) {
            (Arc::new(MemoryJournal::new(random_identity())), Recovered::default())
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract_of_every_journal() {
        contract::every_journal(|| Nowhere).await;
    }
}
