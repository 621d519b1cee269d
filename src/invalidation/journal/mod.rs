//! Which invalidations were made, in which order, durably?
//!
//! A journal only keeps and counts records. It never applies them: that is `invalidation`.

pub mod contract;
pub mod filesystem;
pub mod memory;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::selector::Record;
use crate::page::{JournalId, Sequence};

/// What a journal held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The folded beginning: [`Journal::fold`]'s bytes and the sequence they stand for.
    pub snapshot: Option<(Sequence, Vec<u8>)>,
    /// The records after it, in order, without a gap.
    pub records: VecDeque<(Sequence, Arc<Record>)>,
}

impl Recovered {
    /// The number of the newest record, folded or not.
    #[must_use]
    pub fn last(&self) -> Sequence {
        let folded = self.snapshot.as_ref().map(|(sequence, _)| *sequence).unwrap_or_default();
        self.records.back().map_or(folded, |(sequence, _)| *sequence)
    }
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

impl JournalError {
    /// Cannot `action`, because of `source`.
    pub fn new(action: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        JournalError { action: action.into(), source: source.into() }
    }
}

/// A totally ordered, durable list of records. Its contract is [`contract`], which every implementation passes.
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// Which journal it is.
    fn id(&self) -> JournalId;

    /// Makes the records durable in one go; returns the sequence of the last. They take consecutive numbers. No records: the
    /// number of the newest, and nothing is written.
    ///
    /// While the process lives it is all or none. A crash before the answer may leave the first of them, which nobody was promised.
    ///
    /// To be run to its end: whoever drops the future does not know whether the records were kept.
    ///
    /// # Errors
    /// Nothing is claimed, none of the numbers is taken; the next call tries again from a clean state.
    async fn append(&self, records: &[Arc<Record>]) -> Result<Sequence, JournalError>;

    /// Replaces everything up to `sequence` by a snapshot, so that the next opening is quick. A `sequence` that is folded already
    /// changes nothing.
    ///
    /// # Errors
    /// `sequence` was never appended, or it could not be written. No record is lost.
    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError>;

    /// Bytes of records that an opening would read beside the snapshot: when to fold again.
    fn tail_bytes(&self) -> u64;
}

/// The identity of a new journal: different from any other's, ever.
#[must_use]
pub fn random_identity() -> JournalId {
    JournalId(uuid::Uuid::new_v4().to_string().into())
}
