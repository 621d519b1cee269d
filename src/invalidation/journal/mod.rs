//! Which invalidations were made, in which order, durably?
//!
//! A journal only keeps and counts records. It never applies them: that is `invalidation`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::selector::Record;
use crate::page::{JournalId, Sequence};

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The folded beginning: [`Journal::fold`]'s bytes and the sequence they stand for.
    pub snapshot: Option<(Sequence, Vec<u8>)>,
    /// The records after it, in order.
    pub records: VecDeque<(Sequence, Arc<Record>)>,
}

/// Why a record is not durable. The caller must claim nothing; the record may or may not turn up after a restart.
#[derive(Debug, thiserror::Error)]
#[error("journal: cannot {action}: {source}")]
pub struct JournalError {
    /// In the caller's words: "append 3 records".
    pub action: String,
    /// What the system said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A totally ordered, durable list of records.
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// Which journal it is.
    fn id(&self) -> JournalId;

    /// Makes the records durable, all or none, in one go; returns the sequence of the last. They take consecutive numbers.
    ///
    /// # Errors
    /// Nothing is claimed; the next call tries again from a clean state.
    async fn append(&self, records: &[Arc<Record>]) -> Result<Sequence, JournalError>;

    /// Replaces everything up to `sequence` by a snapshot, so that the next opening is quick.
    ///
    /// # Errors
    /// The journal is as before.
    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError>;

    /// Bytes of records since the last fold: when to fold again.
    fn tail_bytes(&self) -> u64;
}
