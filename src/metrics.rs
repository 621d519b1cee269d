//! Numbers for operators, each with a sentence that says whether to worry.
//!
//! Counters are found once, at start-up: a request increments, it never looks up.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use prometheus_client::metrics::counter::Counter;

type Words = Family<[(&'static str, &'static str); 1], Counter>;

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Words,
    refused: Words,
    bypassed: Words,
    /// Reads and writes of the store that failed.
    pub store_errors: Counter,
    /// Invalidations that could not be made durable.
    pub invalidation_failures: Counter,
    /// Invalidations made.
    pub invalidations: Counter,
    /// From asking the origin to its response's head.
    pub origin_seconds: Histogram,
    gauges: Vec<(&'static str, Gauge)>,
}

/// What is read off live objects when somebody asks.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// One of [`GAUGES`].
    pub name: &'static str,
    /// Its value now.
    pub value: i64,
}

/// Gauges and what they mean.
const GAUGES: [(&str, &str); 12] = [
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
    ("draining", "1 while the server goes down"),
];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("everpage");
        let requests = Words::default();
        registry.register(
            "requests",
            "Requests by how they ended; many of outcome error: look at the origin",
            requests.clone(),
        );
        let refused = Words::default();
        registry.register(
            "refused",
            "Responses that were not kept, by reason; set-cookie on pages for everybody is a mistake of the app",
            refused.clone(),
        );
        let bypassed = Words::default();
        registry.register("bypassed", "Requests that went past the cache, by reason", bypassed.clone());
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
            store_errors,
            invalidation_failures,
            invalidations,
            origin_seconds,
            gauges: gauges.into(),
        }
    }
}

impl Metrics {
    /// Requests that ended like this.
    #[must_use]
    pub fn requests(&self, outcome: &'static str) -> Counter {
        self.requests.get_or_create(&[("outcome", outcome)]).clone()
    }

    /// Responses that were not kept for this reason.
    #[must_use]
    pub fn refused(&self, reason: &'static str) -> Counter {
        self.refused.get_or_create(&[("reason", reason)]).clone()
    }

    /// Requests that went past the cache for this reason.
    #[must_use]
    pub fn bypassed(&self, reason: &'static str) -> Counter {
        self.bypassed.get_or_create(&[("reason", reason)]).clone()
    }

    /// Everything as Prometheus text, with these readings.
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
