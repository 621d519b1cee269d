//! The proxy in this process: the handler as the server builds it, without sockets.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use everpage::clock::Clock;
use everpage::config::Config;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::journal::{Recovered, random_identity};
use everpage::metrics::Metrics;
use everpage::page::Page;
use everpage::policy::rules::Rules;
use everpage::proxy::body::Body;
use everpage::proxy::handler::{Handler, Parties};
use everpage::proxy::visit::Visitor;
use everpage::store::Store;
use everpage::store::memory_tier::MemoryTier;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};

use crate::app::App;
use crate::figures::median;
use crate::gauge::cpu_nanoseconds;
use crate::no_store::NoStore;

/// Requests that are made before they are answered, so that making them is not measured.
const BATCH: usize = 256;
/// Of which the one in the middle counts.
const ROUNDS: usize = 7;

/// A proxy before an app.
pub(crate) struct Proxy {
    pub(crate) handler: Arc<Handler>,
    pub(crate) invalidations: Arc<Invalidations>,
    pub(crate) memory: Arc<MemoryTier>,
    pub(crate) visitor: Visitor,
}

impl Proxy {
    /// With this much memory and no store behind it; within a runtime.
    pub(crate) fn new(capacity: u64, app: App) -> Self {
        Self::with(&Config::default(), capacity, app, Arc::new(NoStore::default()))
    }

    pub(crate) fn with(config: &Config, capacity: u64, app: App, store: Arc<dyn Store>) -> Self {
        let journal = Arc::new(MemoryJournal::new(random_identity()));
        let invalidations = Arc::new(Invalidations::start(journal, Recovered::default()));
        Self::knowing(invalidations, config, capacity, app, store)
    }

    pub(crate) fn knowing(
        invalidations: Arc<Invalidations>,
        config: &Config,
        capacity: u64,
        app: App,
        store: Arc<dyn Store>,
    ) -> Self {
        let memory = Arc::new(MemoryTier::new(capacity, config.cache.max_memory_size));
        let parties = Parties {
            rules: Arc::new(Rules::new(&config.cache).expect("the defaults are right")),
            invalidations: Arc::clone(&invalidations),
            memory: Arc::clone(&memory),
            store,
            origin: Arc::new(app),
            metrics: Arc::new(Metrics::default()),
            clock: Clock::Wall,
        };
        let visitor = Visitor::at(std::net::Ipv4Addr::LOCALHOST.into());
        Proxy { handler: Arc::new(Handler::new(config, parties)), invalidations, memory, visitor }
    }

    /// Answers, and says how in `Cache-Status`.
    pub(crate) async fn get(&self, request: Request<Empty<Bytes>>) -> String {
        let response = self.handler.handle(request, &self.visitor).await;
        let status = cache_status(&response).to_owned();
        assert_eq!(response.status(), 200, "{status}");
        response.into_body().collect().await.expect("a body");
        status
    }

    /// Fetches the page, which is not there.
    pub(crate) async fn fill(&self, request: Request<Empty<Bytes>>) {
        let status = self.get(request).await;
        assert!(status.ends_with("; stored"), "{status}");
    }

    /// Nanoseconds of CPU time of a hit: from the parsed request to the response, and until that is dropped.
    pub(crate) async fn hit_nanoseconds(&self, hits: usize, mut next: impl FnMut() -> Request<Empty<Bytes>>) -> f64 {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (mut spent, mut done) = (0.0, 0);
            while done < hits / ROUNDS {
                let requests: Vec<_> = (0..BATCH).map(|_| next()).collect();
                let mut responses = Vec::with_capacity(BATCH);
                let started = cpu_nanoseconds();
                for request in requests {
                    responses.push(self.handler.handle(request, &self.visitor).await);
                }
                spent += cpu_nanoseconds() - started;
                responses.iter().for_each(assert_hit);
                let started = cpu_nanoseconds();
                drop(responses);
                spent += cpu_nanoseconds() - started;
                done += BATCH;
            }
            rounds.push(spent / done as f64);
        }
        median(rounds)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy")
    }
}

fn cache_status(response: &Response<Body>) -> &str {
    response.headers().get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or("none")
}

fn assert_hit(response: &Response<Body>) {
    assert_eq!(cache_status(response), "everpage; hit; detail=memory");
}

/// What a browser sends, and some more fields.
pub(crate) fn request(path: &str, more: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request =
        Request::builder().uri(path).header("host", "shop.example").header("cookie", "_ga=GA1.1.1; theme=dark");
    for (name, value) in crate::browser::FIELDS.iter().chain(more) {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).expect("a request")
}

/// A page as the proxy keeps it, of this path and with these fields more.
pub(crate) async fn page(path: &str, more: Vec<(String, String)>) -> Arc<Page> {
    let store = Arc::new(NoStore::default());
    let proxy = Proxy::with(&Config::default(), 1 << 20, App { more }, Arc::clone(&store) as Arc<dyn Store>);
    proxy.fill(request(path, &[])).await;
    proxy.handler.drain().await;
    store.last().expect("it was stored")
}

/// What runs futures on this thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
