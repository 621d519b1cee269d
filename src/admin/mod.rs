//! CONTROL PLANE: what operators and apps ask and say, on a listener of its own.
//!
//! One file for each resource, thin: read the request, call, answer. `guard` says who may ask, `answer` how "no" is said: as JSON with a
//! name for programs (`error`) and a sentence for people (`detail`). What takes time after an invalidation is left to `chores`.
//!
//! It never knows the data plane: pages are fetched anew through [`Refetch`], numbers come in as [`Reading`]s.

mod answer;
mod chores;
mod cluster;
pub mod connection;
mod dashboard;
mod explain;
mod guard;
mod health;
mod invalidate;
mod invalidations;
mod judgement;
mod metrics;
mod pages;
mod parameters;
pub mod ring;
mod status;
mod survey;
#[cfg(test)]
mod tests;
mod upkeep;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use self::chores::Chores;
pub use self::upkeep::{Job, Upkeep};
use crate::clock::{Clock, UnixMillis};
use crate::config::Config;
use crate::invalidation::Invalidations;
use crate::metrics::{Metrics, Reading};
use crate::policy::rules::Rules;
use crate::store::Store;
use crate::store::memory_tier::MemoryTier;

/// Bytes of a body: 10,000 paths fit easily.
const BODY_BYTES: usize = 10 << 20;
/// Requests that are worked on at the same time; further ones are answered 503 at once.
const REQUESTS_MAX: usize = 256;
/// How long a request may take, its body included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls of other nodes at the same time: as many nodes as there may be, a few calls of each.
const RINGS_MAX: usize = 1024;

/// Fetches a page anew through the data plane: a request with an absolute URI. The composition root knows how.
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
    /// Cancelled from the first SIGTERM on.
    pub draining: CancellationToken,
    /// The admin API's own tasks; they end when the server drains.
    pub tasks: TaskTracker,
    /// Fetches a page anew.
    pub refetch: Refetch,
    /// Work in the bucket, where there is one.
    pub upkeep: Upkeep,
}

impl Parties {
    /// Runs a task of the admin API's own until it ends or the server drains.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.draining.clone().run_until_cancelled_owned(task));
    }
}

/// What every handler gets.
#[derive(Clone)]
struct Control {
    parties: Parties,
    started: UnixMillis,
    chores: Chores,
    last_word: health::LastWord,
}

/// All of the admin API. To be called within a tokio runtime: it starts the tasks that work after an answer.
pub fn router(parties: Parties) -> Router {
    let control = Arc::new(Control {
        started: parties.clock.now(),
        chores: Chores::start(&parties),
        last_word: health::LastWord::default(),
        parties,
    });
    // Whoever asks for health gets an answer, however many others ask for something else.
    let health = Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready));
    let files = Router::new()
        .route("/", get(dashboard::page))
        .route("/dashboard.css", get(dashboard::style))
        .route("/dashboard.js", get(dashboard::script));
    // Shows a secret of its own, and asks for one look at most.
    let ring =
        Router::new().route(ring::PATH, post(ring::ring)).layer(RequestBodyLimitLayer::new(ring::BYTES_MAX)).layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(answer::overloaded))
                .load_shed()
                .layer(GlobalConcurrencyLimitLayer::new(RINGS_MAX)),
        );
    health
        .merge(ring)
        .merge(files)
        .merge(resources(&control))
        .with_state(control)
        .layer(CatchPanicLayer::custom(answer::panicked))
        .layer(map_response(answer::as_json))
        .layer(map_response(guard::add_security_fields))
}

/// Everything that says something about pages, behind the `guard`.
fn resources(control: &Arc<Control>) -> Router<Arc<Control>> {
    Router::new()
        .route("/invalidate", post(invalidate::invalidate))
        .route("/invalidations", get(invalidations::recent))
        .route("/pages", get(pages::list))
        .route("/explain", get(explain::explain))
        .route("/status", get(status::status))
        .route("/metrics", get(metrics::text))
        .route("/sweep", post(upkeep::start_sweep).get(upkeep::sweep_state))
        .route("/export", post(upkeep::start_export).get(upkeep::export_state))
        .fallback(answer::not_found)
        .layer(DefaultBodyLimit::disable())
        .layer(RequestBodyLimitLayer::new(BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, PATIENCE))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(answer::overloaded))
                .load_shed()
                .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_MAX)),
        )
        .layer(from_fn_with_state(Arc::clone(control), guard::guard))
}
