//! Numbers for operators, each with a sentence that says whether to worry.
//!
//! Counters are found once, at start-up: a request increments, it never looks up.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use prometheus_client::encoding::text::encode;
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

    fn values(&self) -> BTreeMap<&'static str, u64> {
        self.counters.read().iter().map(|(word, counter)| (*word, counter.get())).collect()
    }
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
    /// From asking the origin to its response's head.
    pub origin_seconds: Histogram,
    /// Requests to S3 by what for and how they ended.
    s3_requests: Family<[(&'static str, &'static str); 2], Counter>,
    gauges: Vec<(&'static str, Gauge)>,
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
const GAUGES: [(&str, &str); 15] = [
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
    ("journal_nodes", "Nodes that serve from what they know of the journal"),
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
            "Invalidations that could not be made durable; the callers were told: worry",
            invalidation_failures.clone(),
        );
        let invalidations = Counter::default();
        registry.register("invalidations", "Invalidations made on the admin API", invalidations.clone());
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
            origin_seconds,
            s3_requests,
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
        let counter = self.s3_requests.get_or_create_owned(&[("operation", operation), ("result", result)]);
        counter.inc_by(total.saturating_sub(counter.get()));
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
