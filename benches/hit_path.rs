//! The hit path in-process: from a parsed request to the response's head and body, without sockets. Time and allocations per request.
//!
//! `cargo bench --bench hit_path`

#[path = "shared/browser.rs"]
mod browser;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use divan::{AllocProfiler, Bencher, black_box};
use everpage::clock::Clock;
use everpage::config::Config;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::journal::{Recovered, random_identity};
use everpage::invalidation::selector::{Record, Target};
use everpage::metrics::Metrics;
use everpage::policy::rules::{self, Rules};
use everpage::proxy::handler::{Handler, Parties};
use everpage::proxy::origin::{IncomingBody, Origin, OriginError, OutgoingBody};
use everpage::proxy::visit::Visitor;
use everpage::store::memory::MemoryStore;
use everpage::store::memory_tier::MemoryTier;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Answers every path with as many bytes as it names.
#[derive(Debug)]
struct Pages;

#[async_trait]
impl Origin for Pages {
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
        let bytes = request.uri().path().trim_matches('/').parse().unwrap_or(0);
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

/// A proxy with one page at hand.
struct Proxy {
    runtime: Runtime,
    handler: Arc<Handler>,
    invalidations: Arc<Invalidations>,
    visitor: Visitor,
}

impl Proxy {
    fn with(path: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _inside = runtime.enter();
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
                clock: Clock::Wall,
            },
        ));
        let visitor = Visitor::at(std::net::Ipv4Addr::LOCALHOST.into());
        drop(_inside);
        let proxy = Proxy { runtime, handler, invalidations, visitor };
        // A large page is taken into memory when it is asked for the second time.
        for _ in 0..3 {
            let body = proxy.answer(request(path, &[])).into_body();
            proxy.runtime.block_on(body.collect()).expect("a body");
        }
        let answer = proxy.answer(request(path, &[]));
        assert_eq!(answer.headers()["cache-status"], "everpage; hit; detail=memory");
        proxy
    }

    fn answer(&self, request: Request<Empty<Bytes>>) -> Response<everpage::proxy::body::Body> {
        self.runtime.block_on(self.handler.handle(request, &self.visitor))
    }
}

/// What a browser sends.
fn request(path: &str, more: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request =
        Request::builder().uri(path).header("host", "shop.example").header("cookie", "_ga=GA1.1.1; theme=dark");
    for (name, value) in browser::FIELDS.iter().chain(more) {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).expect("a request")
}

#[divan::bench(args = ["/2048", "/16384", "/1048576"])]
fn hit(bencher: Bencher<'_, '_>, path: &str) {
    let proxy = Proxy::with(path);
    bencher.with_inputs(|| request(path, &[])).bench_values(|request| proxy.answer(request));
}

#[divan::bench]
fn not_modified(bencher: Bencher<'_, '_>) {
    let proxy = Proxy::with("/2048");
    let etag = proxy.answer(request("/2048", &[])).headers()["etag"].to_str().expect("digits").to_owned();
    let condition = [("if-none-match", etag.as_str())];
    bencher.with_inputs(|| request("/2048", &condition)).bench_values(|request| proxy.answer(request));
}

#[divan::bench]
fn one_range(bencher: Bencher<'_, '_>) {
    let proxy = Proxy::with("/16384");
    bencher
        .with_inputs(|| request("/16384", &[("range", "bytes=100-199")]))
        .bench_values(|request| proxy.answer(request));
}

/// A hit that is looked up in the index, because an invalidation of something else came before it.
#[divan::bench]
fn hit_after_an_invalidation(bencher: Bencher<'_, '_>) {
    let proxy = Proxy::with("/2048");
    let other = Record { paths: vec![Target { host: None, path: "/other".into() }], ..Record::default() };
    bencher
        .with_inputs(|| {
            proxy
                .runtime
                .block_on(proxy.invalidations.submit(other.clone()))
                .expect("a memory journal takes everything");
            request("/2048", &[])
        })
        .bench_values(|request| proxy.answer(request));
}

/// The rules alone: refusals, ignore rules, query, normalisation, key.
#[divan::bench(args = ["/blog/a-post/", "/blog/%C3%A4/?page=2&utm_source=x"])]
fn lookup(bencher: Bencher<'_, '_>, target: &str) {
    let rules = Rules::new(&Config::default().cache).expect("the defaults are right");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let headers: HeaderMap = request(path, &[]).headers().clone();
    bencher.bench(|| {
        let request = rules::Request {
            method: &Method::GET,
            https: false,
            host: "shop.example",
            path,
            query,
            headers: (&headers).into(),
        };
        matches!(black_box(rules.lookup(&request)), rules::Lookup::Use(_))
    });
}
