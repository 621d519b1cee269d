//! `GET /status`: how is this node? What the dashboard shows, and `everpage status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Control;
use super::cluster::ClusterStatus;
use super::health::degraded;
use crate::page::{JournalId, Sequence};
use crate::store::memory_tier::MemoryUsage;

/// Outcomes for which the origin was not asked.
const ANSWERED: [&str; 4] = ["hit", "store-hit", "soft-hit", "collapsed"];
/// Outcomes of a look-up for which it was.
const ASKED: [&str; 3] = ["miss", "refused", "error"];

#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    draining: bool,
    /// What does not work although requests are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
    journal: JournalStatus,
    /// Null where no other node can share the journal.
    cluster: Option<ClusterStatus>,
    memory: MemoryUsage,
    store: StoreStatus,
    /// Of all look-ups, how many were answered without asking the origin, from 0 to 1; none without a look-up.
    hit_ratio: Option<f64>,
    /// Requests by outcome.
    requests: BTreeMap<&'static str, u64>,
    /// Responses that were not kept, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// Requests that went past the cache, by reason.
    bypassed: BTreeMap<&'static str, u64>,
    invalidations: u64,
    invalidation_failures: u64,
    store_errors: u64,
    /// Connections, flights and tunnels now.
    now: BTreeMap<&'static str, i64>,
    /// As `config.toml` would say it, without secrets.
    config: serde_json::Value,
}

#[derive(Debug, Serialize)]
struct JournalStatus {
    id: JournalId,
    /// The newest invalidation.
    sequence: Sequence,
    /// Paths, prefixes and tags that were ever named.
    names: usize,
    /// Nodes that serve from what they know of it.
    nodes: u32,
}

#[derive(Debug, Serialize)]
struct StoreStatus {
    kind: &'static str,
    objects: u64,
    bytes: u64,
    limit_bytes: Option<u64>,
    /// False while it is still counting.
    exact: bool,
}

pub(super) async fn status(State(control): State<Arc<Control>>) -> Json<Status> {
    let parties = &control.parties;
    let (metrics, invalidations, store) = (&parties.metrics, &parties.invalidations, parties.store.usage());
    let requests = metrics.requests_by_outcome();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        started_at: control.started.to_rfc3339(),
        uptime_seconds: parties.clock.now().seconds_since(control.started),
        draining: parties.draining.is_cancelled(),
        degraded: degraded(&control),
        journal: JournalStatus {
            id: invalidations.journal_id().clone(),
            sequence: invalidations.applied(),
            names: invalidations.names(),
            nodes: invalidations.nodes(),
        },
        cluster: ClusterStatus::of(invalidations),
        memory: parties.memory.usage(),
        store: StoreStatus {
            kind: parties.store.kind(),
            objects: store.objects,
            bytes: store.bytes,
            limit_bytes: store.limit_bytes,
            exact: store.exact,
        },
        hit_ratio: hit_ratio(&requests),
        requests,
        refused: metrics.refused_by_reason(),
        bypassed: metrics.bypassed_by_reason(),
        invalidations: metrics.invalidations.get(),
        invalidation_failures: metrics.invalidation_failures.get(),
        store_errors: metrics.store_errors.get(),
        now: (parties.readings)().into_iter().map(|reading| (reading.name, reading.value)).collect(),
        config: parties.config.to_json(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn hit_ratio(requests: &BTreeMap<&'static str, u64>) -> Option<f64> {
    let sum = |words: &[&str]| words.iter().filter_map(|word| requests.get(word)).sum::<u64>();
    let (answered, asked) = (sum(&ANSWERED), sum(&ASKED));
    (answered + asked > 0).then(|| answered as f64 / (answered + asked) as f64)
}
