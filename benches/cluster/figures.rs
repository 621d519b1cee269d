//! Median and tail of what was measured, in milliseconds.

use std::time::Duration;

use serde_json::{Value, json};

pub(crate) struct Figures {
    pub(crate) median: f64,
    p99: f64,
    max: f64,
    count: usize,
}

impl Figures {
    /// # Panics
    /// Nothing was measured.
    pub(crate) fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
        Figures { median: at(0.5), p99: at(0.99), max: at(1.0), count: took.len() }
    }

    /// Two columns of a table.
    pub(crate) fn row(&self) -> String {
        format!("{:.0} | {:.0}", self.median, self.p99)
    }

    pub(crate) fn json(&self) -> Value {
        let round = |milliseconds: f64| (milliseconds * 10.0).round() / 10.0;
        json!({"median_ms": round(self.median), "p99_ms": round(self.p99), "max_ms": round(self.max), "count": self.count})
    }
}
