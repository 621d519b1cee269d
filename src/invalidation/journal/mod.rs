//! Which invalidations were made, in which order, durably?
//!
//! A journal only keeps and counts records. It never applies them: that is `invalidation`.

pub mod contract;
pub mod filesystem;
pub mod memory;
pub mod s3;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::selector::Record;
use crate::chance;
use crate::clock::{Clock, Ticks, UnixMillis};
use crate::page::{JournalId, Sequence};

/// What a journal holds beyond what the caller knows: all of it when it is opened.
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

/// Records that became durable.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The sequence of the last of them; they took consecutive numbers.
    pub last: Sequence,
    /// What is new to the caller, in order: the records of others, and its own.
    pub news: Recovered,
    /// When the look at the journal began that this append is as good as; for journals with [`Terms`].
    pub began: Ticks,
    /// Others that may not have heard of them.
    pub others: Vec<Other>,
}

impl Appended {
    /// By the only writer.
    #[must_use]
    pub fn alone(last: Sequence, records: &[Arc<Record>]) -> Self {
        let first = last.0 + 1 - records.len() as u64;
        let numbered = (first..).map(Sequence).zip(records.iter().cloned());
        let news = Recovered { snapshot: None, records: numbered.collect() };
        Appended { last, news, began: Ticks::default(), others: Vec::new() }
    }
}

/// Another node that may serve from what it knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its id.
    pub node: Arc<str>,
    /// What [`Journal::pass_over`] knows it by: its id and how often it has joined.
    pub ticket: Arc<str>,
    /// Where it can be rung.
    pub url: Option<Arc<str>>,
    /// How long it takes until it cannot serve without having looked.
    pub wait: Duration,
}

/// A node that a shared journal names as one that may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Different for each start of everpage.
    pub id: Arc<str>,
    /// Where it can be rung.
    pub url: Option<Arc<str>>,
    /// Another one each time it joins.
    pub epoch: Arc<str>,
    /// For so long after the beginning of a look it may serve.
    pub lease: Duration,
    /// When it joined, by its own clock.
    pub joined: UnixMillis,
    /// It did not answer, was waited for, and has not joined again since.
    pub passed_over: bool,
}

/// What a shared journal said when it was last read or written.
#[derive(Clone, Debug)]
pub struct View {
    /// The newest record.
    pub newest: Sequence,
    /// Everybody who may serve, and who was passed over; this node is among them unless it was dropped.
    pub members: Arc<[Node]>,
    /// How often this node wanted to change it and somebody else was first.
    pub lost_swaps: u64,
}

/// How the nodes of a shared journal know each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// This node's id.
    pub node: Arc<str>,
    /// What only those know who can read the journal.
    pub secret: Arc<str>,
}

/// What a look at a shared journal showed.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What others have appended, in order.
    pub news: Recovered,
    /// When the look began: before the request was sent.
    pub began: Ticks,
}

/// On what terms a node may rely on what it knows of a journal that others write to also.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For so long after the beginning of its last look.
    pub lease: Duration,
    /// The clock that measures it.
    pub clock: Clock,
    /// When the look began that opened the journal.
    pub began: Ticks,
}

/// Why a record is not durable. The caller must claim nothing; the record may or may not turn up later: after a restart, or at the next look.
#[derive(Debug, thiserror::Error)]
#[error("journal: cannot {action}: {source}")]
pub struct JournalError {
    /// In the caller's words: "append 3 records".
    pub action: String,
    /// What the system said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// It is another journal by now, or has lost records: what this node knows of it says nothing about what is valid.
    pub is_lost: bool,
}

impl JournalError {
    /// Cannot `action`, because of `source`.
    pub fn new(action: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        JournalError { action: action.into(), source: source.into(), is_lost: false }
    }
}

impl JournalError {
    /// As [`JournalError::new`], for a journal that is not what it was.
    pub fn lost(action: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        JournalError { is_lost: true, ..Self::new(action, source) }
    }
}

/// A totally ordered, durable list of records. Its contract is [`contract`], which every implementation passes.
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// Which journal it is.
    fn id(&self) -> JournalId;

    /// Makes the records durable in one go. They take consecutive numbers. No records: the number of the newest, and nothing is
    /// written.
    ///
    /// While the process lives it is all or none. A crash before the answer may leave the first of them, which nobody was promised.
    ///
    /// To be run to its end: whoever drops the future does not know whether the records were kept.
    ///
    /// # Errors
    /// Nothing is claimed; the next call tries again from a clean state. In a shared journal the records may still turn up.
    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError>;

    /// Waits until other nodes have had their turn, where there are any: to be called before what will be appended next is gathered.
    async fn give_way(&self) {}

    /// Replaces everything up to `sequence` by a snapshot, so that the next opening is quick. A `sequence` that is folded already
    /// changes nothing.
    ///
    /// # Errors
    /// `sequence` was never appended, or it could not be written. No record is lost.
    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError>;

    /// Bytes of records that an opening would read beside the snapshot: when to fold again.
    fn tail_bytes(&self) -> u64;

    /// On what terms it may be relied on; `None`: nobody else writes to it.
    fn terms(&self) -> Option<Terms> {
        None
    }

    /// What have others appended? Tells it once: what this and [`Journal::append`] return must be applied in the order of the calls. May be
    /// dropped.
    ///
    /// # Errors
    /// It could not be looked at, or this node may not rely on it.
    async fn look(&self) -> Result<Seen, JournalError> {
        Ok(Seen { news: Recovered::default(), began: Ticks::default() })
    }

    /// These nodes were waited for and have not been heard of: soon nobody has to wait for them, until they come back by themselves.
    ///
    /// # Errors
    /// They will be waited for again.
    async fn pass_over(&self, _tickets: &[Arc<str>]) -> Result<(), JournalError> {
        Ok(())
    }

    /// This node serves nothing any more: nobody has to wait for it.
    ///
    /// # Errors
    /// They will.
    async fn leave(&self) -> Result<(), JournalError> {
        Ok(())
    }

    /// How its nodes know each other; `None`: there is only this one.
    fn circle(&self) -> Option<Circle> {
        None
    }

    /// Nodes that may serve from what they know, this one included, as far as is known.
    fn nodes(&self) -> u32 {
        1
    }

    /// What it said last, without asking it; `None`: there is only this node.
    fn view(&self) -> Option<View> {
        None
    }
}

/// The identity of a new journal: different from any other's, ever.
#[must_use]
pub fn random_identity() -> JournalId {
    JournalId(chance::identity().into())
}
