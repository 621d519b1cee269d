//! A proxy in-process, as configured by default, whose origin answers at once. Time stands still in it, so that an age never grows by a digit.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use everpage::clock::{Clock, UnixMillis};
use everpage::config::{Config, Limits};
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::journal::{Recovered, random_identity};
use everpage::invalidation::selector::{Record, Target};
use everpage::metrics::Metrics;
use everpage::policy::rules::Rules;
use everpage::proxy::body::Body;
use everpage::proxy::handler::{Handler, Parties};
use everpage::proxy::origin::{IncomingBody, Origin, OriginError, OutgoingBody};
use everpage::proxy::visit::Visitor;
use everpage::store::memory::MemoryStore;
use everpage::store::memory_tier::MemoryTier;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Answers `/2048/whatever` with as many bytes as the path begins with.
#[derive(Debug)]
struct Pages;

#[async_trait]
impl Origin for Pages {
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
        let bytes = request.uri().path().split('/').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
        let body = Full::new(Bytes::from(vec![b'x'; bytes])).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("content-length", bytes)
            .header("vary", "Cookie")
            .header("x-frame-options", "DENY")
            .header("x-content-type-options", "nosniff")
            .header("referrer-policy", "same-origin")
            .body(body)
            .expect("a response"))
    }
}

/// A proxy and the one thread that it runs on.
pub(crate) struct Proxy {
    pub(crate) runtime: Runtime,
    pub(crate) handler: Arc<Handler>,
    pub(crate) limits: Limits,
    invalidations: Arc<Invalidations>,
    visitor: Visitor,
}

impl Proxy {
    /// Nothing is kept yet.
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        let inside = runtime.enter();
        let config = Config::default();
        let journal = Arc::new(MemoryJournal::new(random_identity()));
        let invalidations = Arc::new(Invalidations::start(journal, Recovered::default()));
        let handler = Arc::new(Handler::new(
            &config,
            Parties {
                rules: Arc::new(Rules::new(&config.cache).expect("the defaults are right")),
                invalidations: Arc::clone(&invalidations),
                memory: Arc::new(MemoryTier::new(config.memory.capacity, config.cache.max_memory_size)),
                store: Arc::new(MemoryStore::new(1 << 30)),
                origin: Arc::new(Pages),
                metrics: Arc::new(Metrics::default()),
                clock: Clock::Tokio { epoch: UnixMillis(1_800_000_000_000), started: Instant::now() },
            },
        ));
        drop(inside);
        let visitor = Visitor::at(std::net::Ipv4Addr::LOCALHOST.into());
        Proxy { runtime, handler, limits: config.limits, invalidations, visitor }
    }

    /// Fetches the page until it is at hand: a large one is taken into memory when it is asked for the second time.
    pub(crate) fn warm(&self, path: &str) {
        let request = || Request::get(path).header("host", "shop.example").body(Empty::new()).expect("a request");
        for _ in 0..3 {
            self.answer(request());
            self.finish();
        }
        let answer = self.answer(request());
        assert_eq!(answer.headers()["cache-status"], "everpage; hit; detail=memory");
    }

    /// The answer, its body read to the end: how many bytes it had is checked.
    pub(crate) fn answer(&self, request: Request<Empty<Bytes>>) -> Response<()> {
        self.runtime.block_on(async {
            let (head, mut body): (_, Body) = self.handler.handle(request, &self.visitor).await.into_parts();
            while let Some(frame) = body.frame().await {
                std::hint::black_box(frame.expect("the body comes whole"));
            }
            Response::from_parts(head, ())
        })
    }

    /// Waits for what goes on behind the answers: pages are written.
    pub(crate) fn finish(&self) {
        self.runtime.block_on(self.handler.drain());
    }

    /// Invalidates a page that nobody has asked for.
    pub(crate) fn invalidate_another(&self) {
        let record = Record { paths: vec![Target { host: None, path: "/another".into() }], ..Record::default() };
        self.runtime.block_on(self.invalidations.submit(record)).expect("a memory journal takes everything");
    }
}
