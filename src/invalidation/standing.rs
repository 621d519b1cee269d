//! How does this node stand among those of its journal, and what has come to pass between them? For people and alarms: nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::journal::Node;
use super::ring::Unheard;
use super::shared::Shared;

/// A node among those that share its journal.
#[derive(Clone, Debug)]
pub struct Standing {
    /// This node's id.
    pub node: Arc<str>,
    /// For how long a look is good.
    pub lease: Duration,
    /// For how long this node may still serve without another look; nothing: it looks before it serves.
    pub remaining: Duration,
    /// How old what it knows is: since its last successful look began.
    pub lag: Duration,
    /// Records that it has heard of and not applied.
    pub behind: u64,
    /// All members, as the journal was last seen.
    pub members: Arc<[Node]>,
    /// What has happened since the start.
    pub tally: Tallied,
}

/// What has happened since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallied {
    /// Looks by how they ended: `unchanged`, `news`, `failed`, `lost`, `late`.
    pub looks: BTreeMap<&'static str, u64>,
    /// Rings of other nodes: [`ACKNOWLEDGED`], or the [`Unheard`].
    pub rings: BTreeMap<&'static str, u64>,
    /// Invalidations whose answer waited for a lease to run out.
    pub lease_waits: u64,
    /// Changes of the journal's head that others were quicker with.
    pub lost_swaps: u64,
}

/// A ring that was answered by a node that knows the record.
pub const ACKNOWLEDGED: &str = "acknowledged";

/// How a look at the journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookEnd {
    /// Nothing was new.
    Unchanged,
    /// There were records.
    News,
    /// The journal is out of reach.
    Failed,
    /// It is another one, or has lost records.
    Lost,
    /// Nobody waited for its end any longer. It is counted once more when it ends.
    Late,
}

impl LookEnd {
    const ALL: [LookEnd; 5] = [LookEnd::Unchanged, LookEnd::News, LookEnd::Failed, LookEnd::Lost, LookEnd::Late];

    fn as_str(self) -> &'static str {
        match self {
            LookEnd::Unchanged => "unchanged",
            LookEnd::News => "news",
            LookEnd::Failed => "failed",
            LookEnd::Lost => "lost",
            LookEnd::Late => "late",
        }
    }
}

/// Counts what happens between nodes. Never on the way of a hit.
#[derive(Debug)]
pub(super) struct Tally {
    looks: Mutex<BTreeMap<&'static str, u64>>,
    rings: Mutex<BTreeMap<&'static str, u64>>,
    lease_waits: AtomicU64,
    /// The newest record that another node has told of.
    heard_of: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        // A word that has not been said yet is a 0 to be seen: an alarm on its growth needs one.
        let rings = Unheard::ALL.map(Unheard::as_str).into_iter().chain([ACKNOWLEDGED]);
        Tally {
            looks: Mutex::new(LookEnd::ALL.map(|end| (end.as_str(), 0)).into()),
            rings: Mutex::new(rings.map(|word| (word, 0)).collect()),
            lease_waits: AtomicU64::new(0),
            heard_of: AtomicU64::new(0),
        }
    }
}

impl Tally {
    pub(super) fn note_look(&self, end: LookEnd) {
        *self.looks.lock().entry(end.as_str()).or_default() += 1;
    }

    pub(super) fn note_ring(&self, heard: Result<(), Unheard>) {
        let word = heard.map_or_else(Unheard::as_str, |()| ACKNOWLEDGED);
        *self.rings.lock().entry(word).or_default() += 1;
    }

    /// So many answers waited for a lease to run out.
    pub(super) fn note_lease_waits(&self, answers: usize) {
        self.lease_waits.fetch_add(answers as u64, Ordering::Relaxed);
    }

    pub(super) fn hear_of(&self, sequence: u64) {
        self.heard_of.fetch_max(sequence, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn standing(&self) -> Option<Standing> {
        let (circle, view) = (self.journal.circle()?, self.journal.view()?);
        let term = self.lease.term()?;
        self.lease.want();
        let newest = view.newest.0.max(self.tally.heard_of.load(Ordering::Relaxed));
        Some(Standing {
            node: circle.node,
            lease: term.lease,
            remaining: term.remaining,
            lag: term.lag,
            behind: newest.saturating_sub(self.applied.load(Ordering::Acquire)),
            members: view.members,
            tally: Tallied {
                looks: self.tally.looks.lock().clone(),
                rings: self.tally.rings.lock().clone(),
                lease_waits: self.tally.lease_waits.load(Ordering::Relaxed),
                lost_swaps: view.lost_swaps,
            },
        })
    }
}
