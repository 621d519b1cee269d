//! The composition root: a configuration becomes a running server.
//!
//! Everything that must be right is tried in [`Server::bind`]: whoever gets a server can run it.

mod address;
mod listening;
mod opening;
mod stream;
mod upkeep;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use self::listening::ListenError;
use self::listening::{Accepts, Listener};
use self::opening::Opened;
use self::stream::Stream;
use crate::admin;
use crate::admin::ring::Ringer;
use crate::clock::Clock;
use crate::config::Config;
use crate::invalidation::Invalidations;
use crate::invalidation::ring::Bell;
use crate::invalidation::settling::Settle;
use crate::metrics::{Metrics, Reading};
use crate::policy::rules::Rules;
use crate::proxy::connection;
use crate::proxy::drain::Draining;
use crate::proxy::handler::{Handler, Parties};
use crate::proxy::origin::{HttpOrigin, tls};
use crate::proxy::visit::Visitor;
use crate::store::memory_tier::MemoryTier;
use crate::store::s3::bucket::Bucket;

/// How long closing the journal may take: other nodes are told that nobody need wait for this one.
const LEAVE: Duration = Duration::from_secs(3);

/// How long an answer of the admin API may take when everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A server that listens, but does not answer yet.
pub struct Server {
    config: Arc<Config>,
    public: Listener,
    admin: Listener,
    admin_router: axum::Router,
    handler: Arc<Handler>,
    connections: Arc<Semaphore>,
    draining: Draining,
    chores: TaskTracker,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Server {
    /// Opens the store and the journal, binds both listeners.
    ///
    /// # Errors
    /// What could not be opened or bound, and why.
    pub async fn bind(mut config: Config) -> anyhow::Result<Self> {
        let clock = Clock::Wall;
        let rules = Arc::new(Rules::new(&config.cache)?);
        let metrics = Arc::new(Metrics::default());
        let memory = Arc::new(MemoryTier::new(config.memory.capacity, config.cache.max_memory_size));
        let public = Listener::listen("listen", config.listen, Accepts::WithFirstBytes)?;
        let admin = Listener::listen("admin.listen", config.admin.listen, Accepts::AtOnce)?;
        // Port 0 asked for any: from here on it is known which, and other nodes can be told.
        (config.listen, config.admin.listen) = (public.local_addr()?, admin.local_addr()?);
        let Opened { store, journal, recovered, pages } = opening::open(&config, &metrics, clock).await?;
        let config = Arc::new(config);
        let bell: Arc<dyn Bell> = Arc::new(Ringer::default());
        let settle = Settle { time: config.cache.settle, clock };
        let invalidations = Arc::new(Invalidations::start_settling(journal, recovered, Some(bell), Some(settle)));
        let origin = Arc::new(HttpOrigin::new(&config.origin, tls::client(&config.origin)?)?);
        let handler = Arc::new(Handler::new(
            &config,
            Parties {
                rules: Arc::clone(&rules),
                invalidations: Arc::clone(&invalidations),
                memory: Arc::clone(&memory),
                store: Arc::clone(&store),
                origin,
                metrics: Arc::clone(&metrics),
                clock,
            },
        ));
        let connections = Arc::new(Semaphore::new(config.limits.connections));
        let draining = Draining::default();
        let chores = TaskTracker::new();
        let closed = Box::pin(invalidations.closed());
        let bucket = pages.as_ref().map(|pages| pages.bucket().clone());
        let upkeep = pages.map(|store| {
            let parties = crate::upkeep::Parties {
                store,
                invalidations: Arc::clone(&invalidations),
                metrics: Arc::clone(&metrics),
                clock,
                draining: draining.token(),
                tasks: chores.clone(),
            };
            upkeep::start(&config, &parties)
        });
        let admin_router = admin::router(admin::Parties {
            config: Arc::clone(&config),
            rules,
            invalidations,
            memory,
            store,
            metrics: Arc::clone(&metrics),
            clock,
            readings: readings(&config, &handler, &connections, &metrics, bucket),
            draining: draining.token(),
            tasks: chores.clone(),
            refetch: refetch(&handler),
            upkeep: upkeep.unwrap_or_default(),
        });
        Ok(Server { config, public, admin, admin_router, handler, connections, draining, chores, closed })
    }

    /// Where visitors are answered.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where the admin API is.
    ///
    /// # Errors
    /// The system does not say.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Answers until `shutdown`, then drains: `/readyz` says 503 at once, connections whose first bytes are on their way are let in for a moment and no
    /// others after it, what is under way ends, pages are written, all within `limits.drain_timeout`. When it returns, another server may open the folder.
    ///
    /// # Errors
    /// A listener crashed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let admin_ends = CancellationToken::new();
        let (head_timeout, drain_timeout) = (self.config.limits.head_timeout, self.config.limits.drain_timeout);
        let admin = tokio::spawn(administer(self.admin, self.admin_router, head_timeout, admin_ends.clone()));
        let visitors = TaskTracker::new();
        // In a task, but never longer than this future.
        let mut accepting = AbortOnDropHandle::new(tokio::spawn({
            let (handler, config, draining) = (Arc::clone(&self.handler), self.config, self.draining.clone());
            let serve = move |stream, address: SocketAddr, slot| {
                let (stream, limits) = (Stream::new(stream), config.limits.clone());
                connection::serve(Arc::clone(&handler), stream, address.ip(), limits, draining.clone(), slot)
            };
            let ends = self.draining.token();
            listening::accept(self.public, self.connections, visitors.clone(), ends, drain_timeout, serve)
        }));
        let ended = tokio::select! {
            ended = &mut accepting => Some(ended),
            () = shutdown => None,
        };
        tracing::info!("draining");
        let deadline = Instant::now() + drain_timeout;
        self.draining.begin();
        match ended {
            Some(ended) => ended,
            None => accepting.await,
        }
        .context("the listener crashed")?;
        visitors.close();
        self.chores.close();
        let drained = timeout_at(deadline, async {
            visitors.wait().await;
            self.handler.drain().await;
            self.chores.wait().await;
        });
        if drained.await.is_err() {
            tracing::warn!(
                connections = visitors.len(),
                "limits.drain_timeout is over: what is still under way is cut off"
            );
        }
        admin_ends.cancel();
        drop(self.handler);
        let result = match timeout_at(Instant::now() + LAST_WORDS, admin).await {
            Ok(ended) => ended.context("the admin listener crashed"),
            // Somebody holds a connection open: it ends with the process.
            Err(_) => Ok(()),
        };
        // What was cut off ends with the process too.
        let _ = timeout_at(Instant::now() + LEAVE, self.closed).await;
        result
    }
}

/// The admin API until `ends` is cancelled, and then what is under way.
async fn administer(listener: Listener, router: axum::Router, head_timeout: Duration, ends: CancellationToken) {
    let slots = Arc::new(Semaphore::new(admin::connection::CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let serve = {
        let ends = ends.clone();
        move |stream, address, slot| {
            let (router, ends) = (router.clone(), ends.clone());
            async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => admin::connection::serve(router, stream, address, head_timeout, ends, slot).await,
                    Err(error) => tracing::debug!(%address, %error, "connection to the admin API ended"),
                }
            }
        }
    };
    listening::accept(listener, slots, connections.clone(), ends, LAST_WORDS, serve).await;
    connections.close();
    connections.wait().await;
}

fn readings(
    config: &Arc<Config>,
    handler: &Arc<Handler>,
    connections: &Arc<Semaphore>,
    metrics: &Arc<Metrics>,
    bucket: Option<Bucket>,
) -> Arc<dyn Fn() -> Vec<Reading> + Send + Sync> {
    let (handler, connections, limit) = (Arc::clone(handler), Arc::clone(connections), config.limits.connections);
    let metrics = Arc::clone(metrics);
    Arc::new(move || {
        for counted in bucket.iter().flat_map(Bucket::requests) {
            metrics.note_s3_requests(counted.class.as_str(), counted.result, counted.count);
        }
        // One slot waits for the next connection.
        let open = limit.saturating_sub(connections.available_permits()).saturating_sub(1);
        let reading = |name, value: usize| Reading { name, value: i64::try_from(value).unwrap_or(i64::MAX) };
        vec![reading("connections", open), reading("flights", handler.flights()), reading("tunnels", handler.tunnels())]
    })
}

/// A request from inside, without the network between; it is done when the page has been fetched.
fn refetch(handler: &Arc<Handler>) -> admin::Refetch {
    let handler = Arc::clone(handler);
    Arc::new(move |request| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let body = http_body_util::Empty::<bytes::Bytes>::new();
            let response = handler.handle(request.map(|()| body), &Visitor::inside()).await;
            let status = response.status();
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            status
        })
    })
}
