//! WHAT IS TIDIED AND COPIED IN THE BUCKET, behind everyone's back?
//!
//! [`sweep`] deletes what nobody will be served any more, [`export`] writes every valid page as a plain object. Both run in the background, at
//! a bounded rate of requests, and end at once when the server drains. Neither is needed for a right answer: what a store returns is judged
//! by `invalidation` anyway.
//!
//! It never answers anyone, and it never touches what lies outside its own flavor's folder, but for uploads that nobody will complete.

pub mod export;
mod job;
mod pace;
pub mod sweep;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::invalidation::Invalidations;
use crate::metrics::Metrics;
use crate::store::s3::S3Store;

/// What upkeep works with.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The bucket itself, without the tiers before it.
    pub store: Arc<S3Store>,
    /// What is no longer true.
    pub invalidations: Arc<Invalidations>,
    /// Numbers for operators.
    pub metrics: Arc<Metrics>,
    /// What time it is, for people: nothing is deleted because of it.
    pub clock: Clock,
    /// Cancelled from the first SIGTERM on.
    pub draining: CancellationToken,
    /// Tasks that the server waits for when it drains.
    pub tasks: TaskTracker,
}
