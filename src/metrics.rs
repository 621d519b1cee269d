//! Numbers for operators, each with a sentence that says whether to worry.
//!
//! Counters are found once, at start-up: a request increments, it never looks up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use prometheus_client::metrics::counter::Counter;

/// Counters of one name, told apart by a word: a closed set, for words are constants.
#[derive(Debug)]
struct Words {
    label: &'static str,
    family: Family<[(&'static str, &'static str); 1], Counter>,
    /// The same counters: a family cannot be read.
    counters: RwLock<BTreeMap<&'static str, Counter>>,
}

impl Words {
    fn register(registry: &mut Registry, name: &str, label: &'static str, help: &str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Words { label, family, counters: RwLock::default() }
    }

    fn counter(&self, word: &'static str) -> Counter {
        if let Some(counter) = self.counters.read().get(word) {
            return counter.clone();
        }
        let counter = self.family.get_or_create_owned(&[(self.label, word)]);
        self.counters.write().entry(word).or_insert(counter).clone()
    }

    /// Shows what somebody else has counted so far.
    fn note(&self, totals: &BTreeMap<&'static str, u64>) {
        for (word, total) in totals {
            raise(&self.counter(word), *total);
        }
    }

    fn values(&self) -> BTreeMap<&'static str, u64> {
        self.counters.read().iter().map(|(word, counter)| (*word, counter.get())).collect()
    }
}

/// To what somebody else has counted; two who ask for metrics at the same time may do it together.
fn raise(counter: &Counter, total: u64) {
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Words,
    refused: Words,
    bypassed: Words,
    swept: Words,
    exported: Words,
    /// When the last sweep of the bucket ended on this node, in seconds since the epoch; 0: never.
    pub last_sweep: Gauge,
    /// Reads and writes of the store that failed.
    pub store_errors: Counter,
    /// Invalidations that could not be made durable.
    pub invalidation_failures: Counter,
    /// Invalidations made.
    pub invalidations: Counter,
    /// From a whole request to invalidate to its answer 200.
    pub invalidation_seconds: Histogram,
    /// From asking the origin to its response's head.
    pub origin_seconds: Histogram,
    /// Requests to S3 by what for and how they ended.
    s3_requests: Family<[(&'static str, &'static str); 2], Counter>,
    looks: Words,
    rings: Words,
    lease_waits: Counter,
    swap_conflicts: Counter,
    journal_lag: KnownSeconds,
    lease_remaining: KnownSeconds,
    gauges: Vec<(&'static str, Gauge)>,
}

/// Seconds that are not shown until they are known.
#[derive(Clone, Debug)]
struct KnownSeconds(Gauge<f64, AtomicU64>);

impl KnownSeconds {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let gauge = Gauge::default();
        gauge.set(f64::NAN);
        registry.register(name, help, KnownSeconds(gauge.clone()));
        KnownSeconds(gauge)
    }
}

impl EncodeMetric for KnownSeconds {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.get().is_nan()
    }
}

/// What a node of a shared journal has to say.
#[derive(Clone, Debug)]
pub struct ClusterReading<'a> {
    /// Since the last successful look began, in seconds.
    pub lag_seconds: f64,
    /// Until this node may not serve without another look, in seconds.
    pub lease_remaining_seconds: f64,
    /// Looks so far, by result.
    pub looks: &'a BTreeMap<&'static str, u64>,
    /// Rings of other nodes so far, by result.
    pub rings: &'a BTreeMap<&'static str, u64>,
    /// Invalidations so far that waited for a lease.
    pub lease_waits: u64,
    /// Lost races at the head so far.
    pub swap_conflicts: u64,
}

/// What is read off live objects when somebody asks.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// One of `GAUGES`.
    pub name: &'static str,
    /// Its value now.
    pub value: i64,
}

/// Gauges and what they mean.
const GAUGES: [(&str, &str); 17] = [
    ("connections", "Open client connections; near limits.connections, new ones wait"),
    ("flights", "Fetches under way; a number that only grows means that the origin hangs"),
    ("tunnels", "Open tunnels (WebSocket)"),
    ("memory_entries", "Pages in memory"),
    ("memory_bytes", "Bytes of the pages in memory"),
    ("memory_capacity_bytes", "Bytes that the pages in memory may take"),
    ("store_objects", "Pages and signposts in the store"),
    ("store_bytes", "Bytes in the store"),
    ("store_limit_bytes", "Bytes that the store may take; at the limit the least recently used go"),
    ("journal_sequence", "Number of the newest invalidation"),
    ("journal_names", "Paths, prefixes and tags that were ever invalidated"),
    (
        "journal_nodes",
        "Nodes that serve from what they know of the journal; fewer than you run: one is dead, cut off, or on another bucket",
    ),
    (
        "journal_nodes_passed_over",
        "Members that did not answer and have not joined again; above 0 for minutes: look after them",
    ),
    (
        "journal_records_behind",
        "Invalidations that this node has heard of and not applied; above 0 for seconds: S3 is slow or gone",
    ),
    ("journal_outage_seconds", "For how long the journal has been out of reach: above 0, pages come from the origin"),
    ("store_trouble", "1 while S3 is not asked because it failed several times in a row"),
    ("draining", "1 while the server goes down"),
];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("everpage");
        let requests = Words::register(
            &mut registry,
            "requests",
            "outcome",
            "Requests by how they ended; many of outcome error: look at the origin",
        );
        let refused = Words::register(
            &mut registry,
            "refused",
            "reason",
            "Responses that were not kept, by reason; set-cookie on pages for everybody is a mistake of the app",
        );
        let bypassed =
            Words::register(&mut registry, "bypassed", "reason", "Requests that went past the cache, by reason");
        let swept = Words::register(&mut registry, "swept", "reason", "Objects that the sweeper deleted, by reason");
        let exported = Words::register(
            &mut registry,
            "exported",
            "result",
            "Pages written as plain objects, left out, or failed; failed: the copy for the bucket website is old",
        );
        let last_sweep = Gauge::default();
        registry.register(
            "last_sweep_timestamp_seconds",
            "When this node last swept the bucket to the end; 0: never, another node may have",
            last_sweep.clone(),
        );
        let store_errors = Counter::default();
        registry.register(
            "store_errors",
            "Reads and writes of the store that failed; pages are served all the same, but not kept",
            store_errors.clone(),
        );
        let invalidation_failures = Counter::default();
        registry.register(
            "invalidation_failures",
            "Invalidations that could not be made durable: worry; whoever sent one was told to repeat it, changes through the proxy are tried again",
            invalidation_failures.clone(),
        );
        let invalidations = Counter::default();
        registry.register("invalidations", "Invalidations made on the admin API", invalidations.clone());
        let invalidation_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        registry.register(
            "invalidation_seconds",
            "From a request to invalidate to its answer 200; as long as cluster.lease: a node did not answer and was waited for",
            invalidation_seconds.clone(),
        );
        let lease_waits = Counter::default();
        registry.register(
            "invalidation_lease_waits",
            "Invalidations that waited until the lease of a node that did not answer had run out; always growing: see ring_calls",
            lease_waits.clone(),
        );
        let rings = Words::register(
            &mut registry,
            "ring_calls",
            "result",
            "Calls that told other nodes of an invalidation; all but acknowledged cost a wait: a node is dead or cut off, or cluster.node_url is wrong",
        );
        let looks = Words::register(
            &mut registry,
            "journal_looks",
            "result",
            "Looks at the journal; failed and late: S3 is gone or slow; lost: it was deleted or set back, restart everpage; late ones count again when they end",
        );
        let swap_conflicts = Counter::default();
        registry.register(
            "journal_swap_conflicts",
            "Changes of the journal's head that another node was quicker with, and that were tried again; no worry unless invalidations get slow",
            swap_conflicts.clone(),
        );
        let journal_lag = KnownSeconds::register(
            &mut registry,
            "journal_lag_seconds",
            "How old what this node knows of the journal is; an idle node need not look, and looks before it serves: no worry while journal_outage_seconds is 0",
        );
        let lease_remaining = KnownSeconds::register(
            &mut registry,
            "journal_lease_remaining_seconds",
            "For how long this node may still serve without another look; 0 under load: looks fail or take too long",
        );
        let origin_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        registry.register(
            "origin_seconds",
            "From asking the origin to the head of its response, for pages that may be kept",
            origin_seconds.clone(),
        );
        let s3_requests = Family::default();
        registry.register(
            "s3_requests",
            "Requests to S3, each try, by operation and result: what S3 bills",
            s3_requests.clone(),
        );
        let gauges = GAUGES.map(|(name, help)| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            (name, gauge)
        });
        Metrics {
            registry,
            requests,
            refused,
            bypassed,
            swept,
            exported,
            last_sweep,
            store_errors,
            invalidation_failures,
            invalidations,
            invalidation_seconds,
            origin_seconds,
            s3_requests,
            looks,
            rings,
            lease_waits,
            swap_conflicts,
            journal_lag,
            lease_remaining,
            gauges: gauges.into(),
        }
    }
}

impl Metrics {
    /// Requests that ended like this.
    #[must_use]
    pub fn requests(&self, outcome: &'static str) -> Counter {
        self.requests.counter(outcome)
    }

    /// Responses that were not kept for this reason.
    #[must_use]
    pub fn refused(&self, reason: &'static str) -> Counter {
        self.refused.counter(reason)
    }

    /// Requests that went past the cache for this reason.
    #[must_use]
    pub fn bypassed(&self, reason: &'static str) -> Counter {
        self.bypassed.counter(reason)
    }

    /// Objects that the sweeper deleted for this reason.
    #[must_use]
    pub fn swept(&self, reason: &'static str) -> Counter {
        self.swept.counter(reason)
    }

    /// Pages whose export ended like this.
    #[must_use]
    pub fn exported(&self, result: &'static str) -> Counter {
        self.exported.counter(result)
    }

    /// How many requests ended how.
    #[must_use]
    pub fn requests_by_outcome(&self) -> BTreeMap<&'static str, u64> {
        self.requests.values()
    }

    /// How many responses were not kept, by reason.
    #[must_use]
    pub fn refused_by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.refused.values()
    }

    /// How many requests went past the cache, by reason.
    #[must_use]
    pub fn bypassed_by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.bypassed.values()
    }

    /// That so many requests were made to S3 so far.
    pub fn note_s3_requests(&self, operation: &'static str, result: &'static str, total: u64) {
        raise(&self.s3_requests.get_or_create_owned(&[("operation", operation), ("result", result)]), total);
    }

    /// How this node stands among others.
    pub fn note_cluster(&self, reading: &ClusterReading<'_>) {
        self.journal_lag.0.set(reading.lag_seconds);
        self.lease_remaining.0.set(reading.lease_remaining_seconds);
        self.looks.note(reading.looks);
        self.rings.note(reading.rings);
        raise(&self.lease_waits, reading.lease_waits);
        raise(&self.swap_conflicts, reading.swap_conflicts);
    }

    /// Everything in the text format of OpenMetrics, which Prometheus reads, with these readings.
    #[must_use]
    pub fn to_text(&self, readings: &[Reading]) -> String {
        for reading in readings {
            if let Some((_, gauge)) = self.gauges.iter().find(|(name, _)| *name == reading.name) {
                gauge.set(reading.value);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes every byte");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_of_a_word_is_shown_and_can_be_read() {
        let metrics = Metrics::default();
        metrics.requests("hit").inc();
        metrics.requests("hit").inc();
        _ = metrics.requests("miss");
        assert_eq!(metrics.requests_by_outcome(), BTreeMap::from([("hit", 2), ("miss", 0)]));
        let text = metrics.to_text(&[Reading { name: "draining", value: 1 }]);
        assert!(text.contains("everpage_requests_total{outcome=\"hit\"} 2\n"), "{text}");
        assert!(text.contains("everpage_draining 1\n"), "{text}");
    }
}
