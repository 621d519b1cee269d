//! CONTROL PLANE: what operators and apps ask and say, on a listener of its own.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;

use crate::clock::Clock;
use crate::config::Config;
use crate::invalidation::Invalidations;
use crate::metrics::{Metrics, Reading};
use crate::policy::rules::Rules;
use crate::store::Store;
use crate::store::memory_tier::MemoryTier;

/// Fetches a page anew through the data plane: host, whether over https, path with query. The composition root knows how.
pub type Refetch =
    Arc<dyn Fn(http::Request<()>) -> Pin<Box<dyn Future<Output = http::StatusCode> + Send>> + Send + Sync>;

/// What the admin API works with.
#[derive(Clone)]
pub struct Parties {
    /// The whole configuration, for `/status` and the token.
    pub config: Arc<Config>,
    /// `[cache]`, compiled.
    pub rules: Arc<Rules>,
    /// What is no longer true.
    pub invalidations: Arc<Invalidations>,
    /// The pages at hand.
    pub memory: Arc<MemoryTier>,
    /// The pages kept.
    pub store: Arc<dyn Store>,
    /// Numbers for operators.
    pub metrics: Arc<Metrics>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Gauges of the data plane, read when asked.
    pub readings: Arc<dyn Fn() -> Vec<Reading> + Send + Sync>,
    /// True from the first SIGTERM on.
    pub draining: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Fetches a page anew.
    pub refetch: Refetch,
}

/// All of the admin API.
pub fn router(parties: Parties) -> Router {
    let _ = parties;
    Router::new()
}
