//! `GET /metrics`: numbers for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;

use super::{Control, Parties};
use crate::invalidation::standing::Standing;
use crate::metrics::{ClusterReading, Reading};

/// What `prometheus_client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn text(State(control): State<Arc<Control>>) -> ([(HeaderName, &'static str); 1], String) {
    let parties = &control.parties;
    ([(CONTENT_TYPE, OPEN_METRICS)], parties.metrics.to_text(&readings(parties)))
}

/// The gauges of all parties.
fn readings(parties: &Parties) -> Vec<Reading> {
    let (memory, store) = (parties.memory.usage(), parties.store.usage());
    let standing = parties.invalidations.standing();
    if let Some(standing) = &standing {
        note_cluster(parties, standing);
    }
    let passed_over = |standing: &Standing| standing.members.iter().filter(|node| node.passed_over).count() as u64;
    let mut readings = (parties.readings)();
    let own = [
        ("memory_entries", memory.entries),
        ("memory_bytes", memory.bytes),
        ("memory_capacity_bytes", memory.capacity),
        ("store_objects", store.objects),
        ("store_bytes", store.bytes),
        ("store_limit_bytes", store.limit_bytes.unwrap_or(0)),
        ("journal_sequence", parties.invalidations.applied().0),
        ("journal_names", parties.invalidations.names() as u64),
        ("journal_nodes", u64::from(parties.invalidations.nodes())),
        ("journal_nodes_passed_over", standing.as_ref().map_or(0, passed_over)),
        ("journal_records_behind", standing.as_ref().map_or(0, |standing| standing.behind)),
        ("journal_outage_seconds", parties.invalidations.outage().map_or(0, |(since, _)| since.as_secs())),
        ("store_trouble", u64::from(parties.store.trouble().is_some())),
        ("draining", u64::from(parties.draining.is_cancelled())),
    ];
    readings.extend(own.map(|(name, value)| Reading { name, value: i64::try_from(value).unwrap_or(i64::MAX) }));
    readings
}

fn note_cluster(parties: &Parties, standing: &Standing) {
    let tally = &standing.tally;
    parties.metrics.note_cluster(&ClusterReading {
        lag_seconds: standing.lag.as_secs_f64(),
        lease_remaining_seconds: standing.remaining.as_secs_f64(),
        looks: &tally.looks,
        rings: &tally.rings,
        lease_waits: tally.lease_waits,
        swap_conflicts: tally.lost_swaps,
    });
}
