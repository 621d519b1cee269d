//! How do other nodes hear of a record at once, so that nobody has to wait for their leases?
//!
//! After the record is durable, each other member is rung: it looks at the journal, and says what it has applied. Who has answered need not be waited
//! for. Whoever does not answer, answers late, or cannot be reached is waited for until its lease has run out: the promise needs no answer, but it relies on those that
//! are given, so a [`Bell`] must know who answers.
//!
//! This module knows no network: a [`Bell`] is handed in.

use std::collections::HashMap;
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
    /// Asks the node at `url` to look; returns what it has applied then.
    ///
    /// # Errors
    /// Why it has not said so.
    async fn ring(
        &self,
        url: &str,
        other: &Other,
        circle: &Circle,
        journal: &JournalId,
        sequence: Sequence,
    ) -> Result<Sequence, Unheard>;
}

/// Why a node has not said that it knows a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Nobody knows where it can be rung.
    NoAddress,
    /// Nothing was heard until its lease had run out.
    Silent,
    /// No connection, or it ended before the answer.
    Unreachable,
    /// Whoever is there has answered something else.
    Refused,
    /// Another node lives at its address by now, or one of another journal.
    AnotherNode,
    /// It cannot look at the journal itself.
    JournalOutage,
    /// The answer does not prove that it comes from a node of this journal.
    Unproved,
    /// It has looked, and does not know the record.
    Behind,
}

impl Unheard {
    pub(super) const ALL: [Unheard; 8] = [
        Unheard::NoAddress,
        Unheard::Silent,
        Unheard::Unreachable,
        Unheard::Refused,
        Unheard::AnotherNode,
        Unheard::JournalOutage,
        Unheard::Unproved,
        Unheard::Behind,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unheard::NoAddress => "no-address",
            Unheard::Silent => "silent",
            Unheard::Unreachable => "unreachable",
            Unheard::Refused => "refused",
            Unheard::AnotherNode => "another-node",
            Unheard::JournalOutage => "journal-outage",
            Unheard::Unproved => "unproved",
            Unheard::Behind => "behind",
        }
    }
}

/// Rings all of them at once; returns who has said that they know the record, and who has not. Nobody is waited for longer than would help.
pub(super) async fn ring(
    bell: &Arc<dyn Bell>,
    circle: &Circle,
    journal: &JournalId,
    others: Vec<Other>,
    sequence: Sequence,
) -> Vec<(Other, Result<(), Unheard>)> {
    let mut calls = JoinSet::new();
    for other in &others {
        let Some(url) = other.url.clone() else { continue };
        let (bell, circle, journal, other) = (Arc::clone(bell), circle.clone(), journal.clone(), other.clone());
        calls.spawn(async move {
            let call = timeout(other.wait, bell.ring(&url, &other, &circle, &journal, sequence)).await;
            let applied = call.unwrap_or(Err(Unheard::Silent));
            let heard = applied.and_then(|applied| if applied >= sequence { Ok(()) } else { Err(Unheard::Behind) });
            (other.ticket, heard)
        });
    }
    let mut heard = HashMap::new();
    while let Some(call) = calls.join_next().await {
        // A call that panicked says nothing.
        heard.extend(call.ok());
    }
    let said = |other: Other| {
        let unasked = if other.url.is_some() { Unheard::Silent } else { Unheard::NoAddress };
        let heard = heard.remove(&other.ticket).unwrap_or(Err(unasked));
        (other, heard)
    };
    others.into_iter().map(said).collect()
}

/// The longest of their waits.
pub(super) fn longest_wait(others: &[Other]) -> Duration {
    others.iter().map(|other| other.wait).max().unwrap_or_default()
}
