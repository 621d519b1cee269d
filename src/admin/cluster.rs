//! How does this node stand among those that share its journal? A part of `GET /status`; `GET /metrics` says the same in numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::invalidation::Invalidations;
use crate::invalidation::journal::Node;
use crate::invalidation::standing::Standing;

/// A node that shares its journal.
#[derive(Debug, Serialize)]
pub(super) struct ClusterStatus {
    /// This node's id: a new one for each start.
    node: Arc<str>,
    /// `cluster.lease`: for how long a look at the journal is good.
    lease_seconds: f64,
    /// For how long this node may still serve without another look; 0: it looks before it serves.
    lease_remaining_seconds: f64,
    /// How old what it knows is: since its last successful look began. An idle node need not look.
    lag_seconds: f64,
    /// Invalidations that it has heard of and not applied.
    records_behind: u64,
    /// For how long the journal has been out of reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    outage_seconds: Option<u64>,
    /// In the order of their ids.
    members: Vec<MemberStatus>,
    /// Looks at the journal since the start, by result.
    looks: BTreeMap<&'static str, u64>,
    /// Calls of other nodes since the start, by result.
    ring_calls: BTreeMap<&'static str, u64>,
    /// Invalidations since the start that waited for the lease of a node that did not answer.
    lease_waits: u64,
    /// Changes of the journal's head that others were quicker with.
    swap_conflicts: u64,
}

#[derive(Debug, Serialize)]
struct MemberStatus {
    id: Arc<str>,
    /// Where others ring it.
    url: Option<Arc<str>>,
    /// It is the one that answers here.
    this: bool,
    /// `serves`, or `passed-over`: it did not answer, was waited for, and has not joined again.
    state: &'static str,
    /// Another one each time it joins.
    epoch: Arc<str>,
    lease_seconds: f64,
    joined_at: String,
}

impl ClusterStatus {
    /// `None`: nobody else ever writes to the journal.
    pub(super) fn of(invalidations: &Invalidations) -> Option<Self> {
        let Standing { node, lease, remaining, lag, behind, members, tally } = invalidations.standing()?;
        Some(ClusterStatus {
            members: members.iter().map(|member| MemberStatus::of(member, &node)).collect(),
            node,
            lease_seconds: seconds(lease),
            lease_remaining_seconds: seconds(remaining),
            lag_seconds: seconds(lag),
            records_behind: behind,
            outage_seconds: invalidations.outage().map(|(since, _)| since.as_secs()),
            looks: tally.looks,
            ring_calls: tally.rings,
            lease_waits: tally.lease_waits,
            swap_conflicts: tally.lost_swaps,
        })
    }
}

impl MemberStatus {
    fn of(member: &Node, this: &Arc<str>) -> Self {
        MemberStatus {
            id: Arc::clone(&member.id),
            url: member.url.clone(),
            this: member.id == *this,
            state: if member.passed_over { "passed-over" } else { "serves" },
            epoch: Arc::clone(&member.epoch),
            lease_seconds: seconds(member.lease),
            joined_at: member.joined.to_rfc3339(),
        }
    }
}

/// To the millisecond, which is as exact as it is measured.
fn seconds(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}
