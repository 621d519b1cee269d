//! How do other nodes hear of a record at once, so that nobody has to wait for their leases?
//!
//! After the record is durable, each other member is rung: it looks at the journal, and says what it has applied. Who has answered need not be waited
//! for. Whoever does not answer, answers late, or cannot be reached is waited for until its lease has run out: the promise needs no answer, but it relies on those that
//! are given, so a [`Bell`] must know who answers.
//!
//! This module knows no network: a [`Bell`] is handed in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::journal::{Circle, Other};
use crate::page::{JournalId, Sequence};

/// The way to other nodes.
#[async_trait]
pub trait Bell: fmt::Debug + Send + Sync + 'static {
    /// Asks the node at `url` to look; returns what it has applied then. `None`: it did not answer, or is another node.
    async fn ring(
        &self,
        url: &str,
        other: &Other,
        circle: &Circle,
        journal: &JournalId,
        sequence: Sequence,
    ) -> Option<Sequence>;
}

/// Rings all of them at once; returns those who have not said that they know the record. Nobody is waited for longer than would help.
pub(super) async fn ring(
    bell: &Arc<dyn Bell>,
    circle: &Circle,
    journal: &JournalId,
    others: Vec<Other>,
    sequence: Sequence,
) -> Vec<Other> {
    let mut calls = JoinSet::new();
    for other in &others {
        let Some(url) = other.url.clone() else { continue };
        let (bell, circle, journal, other) = (Arc::clone(bell), circle.clone(), journal.clone(), other.clone());
        calls.spawn(async move {
            let applied =
                timeout(other.wait, bell.ring(&url, &other, &circle, &journal, sequence)).await.ok().flatten();
            applied.filter(|applied| *applied >= sequence).map(|_| other.ticket)
        });
    }
    let mut silent = others;
    while let Some(call) = calls.join_next().await {
        // A call that panicked says nothing.
        if let Ok(Some(ticket)) = call {
            silent.retain(|other| other.ticket != ticket);
        }
    }
    silent
}

/// The longest of their waits.
pub(super) fn longest_wait(others: &[Other]) -> Duration {
    others.iter().map(|other| other.wait).max().unwrap_or_default()
}
