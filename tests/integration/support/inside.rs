//! The data plane without sockets: for tests that set the clock, count refusals or hold the origin's body in their hands.

use std::fmt;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use everpage::clock::{Clock, UnixMillis};
use everpage::config::Config;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::journal::{Recovered, filesystem, random_identity};
use everpage::invalidation::selector::{Record, Target};
use everpage::invalidation::settling::Settle;
use everpage::metrics::Metrics;
use everpage::policy::rules::Rules;
use everpage::proxy::handler::{Handler, Parties};
use everpage::proxy::origin::{IncomingBody, Origin, OriginError, OutgoingBody};
use everpage::proxy::visit::Visitor;
use everpage::store::Store;
use everpage::store::filesystem::{FilesystemStore, Limits};
use everpage::store::memory::MemoryStore;
use everpage::store::memory_tier::MemoryTier;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};

use super::{Answer, HOST};

/// What the origin sends: a head, then pieces of a body of unknown length, or an error in their place.
pub type Pieces = Vec<Result<&'static str, OriginError>>;

/// Sunday, 9 September 2001, 01:46:40 GMT: what the clock shows when a test begins.
pub const EPOCH: UnixMillis = UnixMillis(1_000_000_000_000);

/// A handler and what a test may look at; its clock follows tokio's, paused or not.
#[derive(Clone)]
pub struct Inside {
    pub handler: Arc<Handler>,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub invalidations: Arc<Invalidations>,
    pub clock: Clock,
}

/// Puts a handler before an origin that is a function.
pub fn inside<F, A>(change: impl FnOnce(&mut Config), origin: F) -> Inside
where
    F: Fn(Request<OutgoingBody>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<IncomingBody>> + Send + 'static,
{
    inside_with(
        Arc::new(MemoryStore::new(64 << 20)),
        Invalidations::start(journal(), Recovered::default()),
        change,
        origin,
    )
}

/// As [`inside`], where pages are not kept for this time after their invalidation.
pub fn inside_settling<F, A>(time: Duration, origin: F) -> Inside
where
    F: Fn(Request<OutgoingBody>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<IncomingBody>> + Send + 'static,
{
    let settle = Settle { time, clock: Clock::Tokio { epoch: EPOCH, started: tokio::time::Instant::now() } };
    let invalidations = Invalidations::start_settling(journal(), Recovered::default(), None, Some(settle));
    inside_with(Arc::new(MemoryStore::new(64 << 20)), invalidations, |_| {}, origin)
}

/// As [`inside`], on a folder that an earlier one may have left.
pub fn inside_on<F, A>(folder: &Path, change: impl FnOnce(&mut Config), origin: F) -> Inside
where
    F: Fn(Request<OutgoingBody>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<IncomingBody>> + Send + 'static,
{
    let limits = Limits { max_bytes: 1 << 30, max_memory_bytes: 8 << 20 };
    let store = FilesystemStore::open(folder, "", 1, limits, Clock::Wall).unwrap();
    let (journal, recovered) = filesystem::open(&folder.join("default"), EPOCH, random_identity).unwrap();
    inside_with(Arc::new(store), Invalidations::start(Arc::new(journal), recovered), change, origin)
}

/// As [`inside`], with any store and journal.
pub fn inside_with<F, A>(
    store: Arc<dyn Store>,
    invalidations: Invalidations,
    change: impl FnOnce(&mut Config),
    origin: F,
) -> Inside
where
    F: Fn(Request<OutgoingBody>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<IncomingBody>> + Send + 'static,
{
    let mut config = Config::default();
    config.cache.temporary_folder = Some(std::env::temp_dir());
    change(&mut config);
    let invalidations = Arc::new(invalidations);
    let metrics = Arc::new(Metrics::default());
    let clock = Clock::Tokio { epoch: EPOCH, started: tokio::time::Instant::now() };
    let parties = Parties {
        rules: Arc::new(Rules::new(&config.cache).unwrap()),
        invalidations: Arc::clone(&invalidations),
        memory: Arc::new(MemoryTier::new(config.memory.capacity, config.cache.max_memory_size)),
        store: Arc::clone(&store),
        origin: Arc::new(Scripted(origin)),
        metrics: Arc::clone(&metrics),
        clock,
    };
    Inside { handler: Arc::new(Handler::new(&config, parties)), store, metrics, invalidations, clock }
}

/// A journal that a restart forgets.
pub fn journal() -> Arc<MemoryJournal> {
    Arc::new(MemoryJournal::new(random_identity()))
}

impl Inside {
    pub async fn get(&self, target: &str) -> Answer {
        self.ask(target, &[]).await
    }

    /// GET with these fields.
    pub async fn ask(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(target).header("host", HOST);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let visitor = Visitor::at(Ipv4Addr::LOCALHOST.into());
        let request = request.body(Full::new(Bytes::new())).unwrap();
        Answer::read(self.handler.handle(request, &visitor).await).await
    }

    /// Until all that is under way is fetched and written.
    pub async fn settled(&self) {
        while self.handler.flights() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// As `POST /invalidate` does.
    pub async fn invalidate(&self, path: &str) {
        let paths = vec![Target { host: None, path: path.into() }];
        self.invalidations.submit(Record { paths, ..Record::default() }).await.unwrap();
    }

    /// How many responses were not kept for this reason.
    pub fn refused(&self, reason: &'static str) -> u64 {
        self.metrics.refused(reason).get()
    }

    /// The time as an HTTP date, `seconds` ago.
    pub fn date_before(&self, seconds: u64) -> String {
        httpdate::fmt_http_date(UnixMillis(self.clock.now().0 - seconds * 1000).to_system_time())
    }
}

/// A response whose body comes in these pieces; without Content-Length, unless `response` has one.
pub fn pieces(response: http::response::Builder, pieces: Pieces) -> Response<IncomingBody> {
    let mut frames = pieces.into_iter().map(|piece| piece.map(|text| Frame::data(Bytes::from(text))));
    let stream = super::origin::stream_of(move |_| std::task::Poll::Ready(frames.next()));
    response.body(StreamBody::new(stream).boxed_unsync()).unwrap()
}

struct Scripted<F>(F);

impl<F> fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl<F, A> Origin for Scripted<F>
where
    F: Fn(Request<OutgoingBody>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<IncomingBody>> + Send + 'static,
{
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
        Ok((self.0)(request).await)
    }
}
