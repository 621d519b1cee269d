//! One request becomes one response: the flow chart.
//!
//! ```text
//! request -> Lane::answer -- plain, and valid in memory --------------------> hit, before hyper
//!         -> Front::read ---------------------------------------------------> rejected
//!         -> Rules::lookup -- bypass ---> pass -----------------------------> bypass
//!                          -- use ------> memory -- valid ------------------> hit
//!                                              \-- nothing -> flight -- store -> store-hit
//!                                                                   \-- origin -> miss, collapsed, refused, error
//! ```
//!
//! The hit path does no I/O, takes no global lock, and copies no body. What must be fetched is fetched in a task of its own (`fill`).

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::absent::Absent;
use super::answer;
use super::body::{Body, BoxError};
use super::errand::Errand;
use super::fill;
use super::flight::{Arrival, Boarding, Flight, Flights, Seat, Stored};
use super::look::{Found, Place};
use super::notice;
use super::origin::{IncomingBody, Origin};
use super::outcome::{self, Outcome};
use super::visit::{Front, Refusal, Visit, Visitor};
use crate::clock::Clock;
use crate::config::{Config, OnStoreOutage, StoreKind};
use crate::invalidation::index::Subject;
use crate::invalidation::{Invalidations, Verdict};
use crate::metrics::Metrics;
use crate::page::large::LargePage;
use crate::page::{Key, Page, PageHead, PathId};
use crate::policy::reason::Reason;
use crate::policy::request_fields::RequestFields;
use crate::policy::rules::{Lookup, Rules, Target};
use crate::policy::{key, path};
use crate::store::Store;
use crate::store::memory_tier::MemoryTier;
use crate::store::spool::Spools;

/// Pages that turned out not to be kept, remembered at most.
const UNCACHEABLE_MAX: usize = 100_000;
/// Flights that one request may try; on the last it flies alone.
const FLIGHTS_MAX: usize = 4;
/// Pages that may wait to be written to the store; further ones are served and not stored.
const WRITES_MAX: usize = 256;
/// Fills that hold more than this part of `cache.max_fill_bytes` leave too little for further ones to grow at will.
const SCARCE_PART: usize = 8;

/// The data plane.
#[derive(Debug)]
pub struct Handler {
    pub(super) front: Front,
    pub(super) rules: Arc<Rules>,
    pub(super) invalidations: Arc<Invalidations>,
    pub(super) memory: Arc<MemoryTier>,
    pub(super) store: Arc<dyn Store>,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) flights: Flights,
    /// Until when a page that could not be kept is fetched without collapsing.
    pub(super) uncacheable: quick_cache::sync::Cache<Key, u64>,
    /// What a remote store did not have a moment ago.
    pub(super) absent: Absent,
    pub(super) fill_memory: Arc<Semaphore>,
    pub(super) spools: Spools,
    /// Signposts are read and written by one at a time.
    pub(super) signposting: parking_lot::Mutex<()>,
    pub(super) writes: Semaphore,
    pub(super) last_write_warning: AtomicU64,
    pub(super) tasks: TaskTracker,
    pub(super) tunnels: TaskTracker,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) counters: [crate::metrics::Counter; Outcome::ALL.len()],
}

/// Numbers from the configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub max_body: u64,
    pub max_memory_size: u64,
    /// KiB of `cache.max_fill_bytes` below which what is left is scarce.
    pub scarce_fill_kib: usize,
    pub max_variants: usize,
    pub uncacheable_for: Duration,
    /// How long a request waits for a flight.
    pub patience: Duration,
    pub client_idle_timeout: Duration,
    pub serves_in_outage: bool,
    pub preserve_host: bool,
    pub origin_authority: String,
    pub access_log: bool,
}

/// What the handler works with.
#[derive(Debug)]
pub struct Parties {
    /// `[cache]`, compiled.
    pub rules: Arc<Rules>,
    /// What is no longer true.
    pub invalidations: Arc<Invalidations>,
    /// The pages at hand.
    pub memory: Arc<MemoryTier>,
    /// The pages kept.
    pub store: Arc<dyn Store>,
    /// The app behind.
    pub origin: Arc<dyn Origin>,
    /// Numbers for operators.
    pub metrics: Arc<Metrics>,
    /// Where the time comes from.
    pub clock: Clock,
}

/// How the request that leads a flight gets a response that cannot be shared.
type Handoff = oneshot::Receiver<Response<IncomingBody>>;

impl Handler {
    /// Puts the parties together.
    #[must_use]
    pub fn new(config: &Config, parties: Parties) -> Self {
        let Parties { rules, invalidations, memory, store, origin, metrics, clock } = parties;
        let kib = usize::try_from(config.cache.max_fill_bytes / 1024).unwrap_or(usize::MAX);
        let kib = kib.min(Semaphore::MAX_PERMITS);
        Handler {
            front: Front::new(config),
            rules,
            invalidations,
            memory,
            store,
            origin,
            flights: Flights::default(),
            uncacheable: quick_cache::sync::Cache::new(UNCACHEABLE_MAX),
            absent: Absent::default(),
            fill_memory: Arc::new(Semaphore::new(kib)),
            spools: Spools::new(temporary_folder(config), config.cache.max_temporary_bytes),
            signposting: parking_lot::Mutex::default(),
            writes: Semaphore::new(WRITES_MAX),
            last_write_warning: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            tunnels: TaskTracker::new(),
            counters: Outcome::ALL.map(|outcome| metrics.requests(outcome.as_str())),
            metrics,
            clock,
            settings: Settings {
                max_body: config.cache.max_body,
                max_memory_size: config.cache.max_memory_size,
                scarce_fill_kib: kib - kib / SCARCE_PART,
                max_variants: config.cache.max_variants,
                uncacheable_for: config.cache.uncacheable_for,
                patience: config.origin.connect_timeout * 2 + config.origin.first_byte_timeout,
                client_idle_timeout: config.limits.idle_timeout,
                serves_in_outage: config.cluster.on_store_outage == OnStoreOutage::Serve,
                preserve_host: config.origin.preserve_host,
                origin_authority: config.origin.url.authority().map(ToString::to_string).unwrap_or_default(),
                access_log: config.log.access,
            },
        }
    }

    /// Answers a request. Whatever happens becomes a response.
    pub async fn handle<B>(self: &Arc<Self>, request: Request<B>, visitor: &Visitor) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let started = self.settings.access_log.then(Instant::now);
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let (outcome, mut response) = match self.front.read(&parts, visitor) {
            Err(refusal) => (Outcome::Rejected, notice::refusal(refusal)),
            Ok(visit) => match self.rules.lookup(&visit.request()) {
                Lookup::Use(target) if self.invalidations.is_current() => self.serve(&visit, target).await,
                Lookup::Use(target) => match self.may_serve().await {
                    true => self.serve(&visit, target).await,
                    false => self.pass(&visit, body, Reason::JournalOutage, upgrade).await,
                },
                Lookup::Bypass(_) if self.is_purge(&visit) => self.purge(&visit, visitor).await,
                Lookup::Bypass(reason) => self.pass(&visit, body, reason, upgrade).await,
            },
        };
        self.counters[outcome as usize].inc();
        // A 101 is the last answer anyway, and its Connection field names the upgrade (RFC 9110, section 7.8).
        if visitor.must_close() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(started) = started {
            log_access(visitor, &parts.method, &parts.uri, response.status(), outcome, started);
        }
        response
    }

    /// Looks at the journal first: invalidations may have been answered elsewhere that this node has not heard of.
    async fn may_serve(&self) -> bool {
        self.invalidations.make_current().await.is_ok()
            || (self.settings.serves_in_outage && self.invalidations.may_be_trusted_in_outage())
    }

    /// How many tunnels are open.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.tunnels.len()
    }

    /// How many fetches are under way.
    #[must_use]
    pub fn flights(&self) -> usize {
        self.flights.len()
    }

    /// Waits until every fill has ended and every page is written. No new ones may begin.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn serve(self: &Arc<Self>, visit: &Visit<'_>, target: Target<'_>) -> (Outcome, Response<Body>) {
        match self.find(&target, visit.fields()) {
            Found::Page(page) => {
                tracing::debug!(method = %target.method, path = &*target.path, key = %target.key, "found in memory");
                (Outcome::Hit, self.hit(visit, &page, "memory"))
            }
            Found::Soft(page, place) if !visit.is_inside => {
                // What would come now would not be kept, and the next visitor would have it fetched again.
                if !self.invalidations.is_settling(&page.head, &page.path_id) {
                    self.renew(visit, &self.target_of(&page, target, visit.fields()), place);
                }
                (Outcome::SoftHit, self.hit(visit, &page, "soft"))
            }
            Found::Soft(_, place) | Found::Nothing(place) => {
                tracing::debug!(method = %target.method, path = &*target.path, key = %place.key, "not in memory");
                self.miss(visit, &target, place).await
            }
        }
    }

    fn hit(&self, visit: &Visit<'_>, page: &Arc<Page>, detail: &'static str) -> Response<Body> {
        answer::from_page(page, &visit.parts.method, visit.fields(), self.clock.now(), outcome::hit(detail))
    }

    /// `None`: its body cannot be read.
    async fn large_hit(&self, visit: &Visit<'_>, page: &LargePage, detail: &'static str) -> Option<Response<Body>> {
        let field = outcome::hit(detail);
        let answer = answer::from_large(page, &visit.parts.method, visit.fields(), self.clock.now(), field).await;
        answer.inspect_err(|error| self.note_unreadable(page, error)).ok()
    }

    async fn miss(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        target: &Target<'_>,
        mut place: Place,
    ) -> (Outcome, Response<Body>) {
        let deadline = Instant::now() + self.settings.patience;
        let path_id = path::path_id(&target.path);
        for attempt in 1..=FLIGHTS_MAX {
            let (seat, handoff) = self.board(visit, target, &place, path_id, attempt == FLIGHTS_MAX);
            let Ok(arrival) = timeout_at(deadline, seat.arrival()).await else { break };
            match self.disembark(visit, target, &place, path_id, seat, handoff, arrival).await {
                Some(answered) => return answered,
                // What it brought was not for this request: look again.
                None => match self.find(target, visit.fields()) {
                    Found::Page(page) => return (Outcome::Collapsed, self.hit(visit, &page, "memory")),
                    Found::Soft(page, _) if !visit.is_inside => {
                        return (Outcome::SoftHit, self.hit(visit, &page, "soft"));
                    }
                    Found::Soft(_, found) | Found::Nothing(found) => place = found,
                },
            }
        }
        (Outcome::Error, notice::origin_failed(Reason::OriginTimeout, outcome::failed(Reason::OriginTimeout)))
    }

    /// Joins the flight to the page, or leads a new one. A page that could not be kept lately is fetched alone: its requests do not wait for each other.
    fn board(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        target: &Target<'_>,
        place: &Place,
        path_id: PathId,
        alone: bool,
    ) -> (Seat, Option<Handoff>) {
        let errand = |look| Errand::new(self, visit, target, place.key, place.fields.clone(), path_id, look);
        if alone || self.is_uncacheable(&place.key) {
            let (flight, seat) = Flight::begin(self.invalidations.moment());
            return (seat, Some(self.fly(flight, errand(false))));
        }
        let subject = Subject { host: target.host, path: &target.path, path_id: &path_id, tags: &[] };
        match self.flights.board(place.key, &self.invalidations, &subject) {
            Boarding::Follow(seat) => (seat, None),
            Boarding::Lead(flight, seat) => (seat, Some(self.fly(flight, errand(true)))),
        }
    }

    fn fly(self: &Arc<Self>, flight: Arc<Flight>, errand: Errand) -> Handoff {
        let (give, take) = oneshot::channel();
        self.tasks.spawn(fill::fly(Arc::clone(self), flight, errand, give));
        take
    }

    /// Fetches a newer page in the background, unless somebody does already.
    fn renew(self: &Arc<Self>, visit: &Visit<'_>, target: &Target<'_>, place: Place) {
        let path_id = path::path_id(&target.path);
        let subject = Subject { host: target.host, path: &target.path, path_id: &path_id, tags: &[] };
        if let Boarding::Lead(flight, _seat) = self.flights.board(place.key, &self.invalidations, &subject) {
            drop(self.fly(flight, Errand::new(self, visit, target, place.key, place.fields, path_id, false)));
        }
    }

    /// Turns what a flight brought into this request's answer; `None` if it is not for this request.
    #[expect(clippy::too_many_arguments, reason = "a request, its page, its seat and what came: nothing to group")]
    async fn disembark(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        target: &Target<'_>,
        place: &Place,
        path_id: PathId,
        seat: Seat,
        handoff: Option<Handoff>,
        arrival: Arrival,
    ) -> Option<(Outcome, Response<Body>)> {
        let leads = handoff.is_some();
        match arrival {
            Arrival::Stored(found, key, kind) => {
                let head = found.head();
                let is_own = key == self.key_of(head, target, visit.fields());
                if !is_own || !self.is_fresh(head) {
                    return None;
                }
                let response = match &found {
                    Stored::Page(page) if self.invalidations.judge(page) != Verdict::Invalid => {
                        self.hit(visit, page, kind)
                    }
                    Stored::Large(page) if self.invalidations.look_up(head, &path_id) != Verdict::Invalid => {
                        self.large_hit(visit, page, kind).await?
                    }
                    _ => return None,
                };
                Some((Outcome::StoreHit, response))
            }
            Arrival::Signpost => None,
            Arrival::Streaming(head) => {
                let subject = Subject { host: target.host, path: &target.path, path_id: &path_id, tags: &head.tags };
                let is_other_variant =
                    !head.vary.is_empty() && key::variant(&target.key, &head.vary, visit.fields()) != head.key;
                if is_other_variant || seat.was_overtaken(&self.invalidations, &subject, head.begun) {
                    return None;
                }
                Some(answer::from_flight(visit, place.forwarded, &head, seat, leads))
            }
            Arrival::Alone(reason) => {
                let response = handoff?.await.ok()?;
                Some((
                    Outcome::Refused,
                    self.relay(response, |status| outcome::refused(place.forwarded, status, reason)),
                ))
            }
            Arrival::Failed(reason) if leads => {
                Some((Outcome::Error, notice::origin_failed(reason, outcome::failed(reason))))
            }
            Arrival::Failed(_) => None,
        }
    }

    /// The key under which this request finds the page, if it is its own. Requests for HEAD whose variants are not known yet share a flight, but the
    /// GETs that may answer them are of one variant each.
    fn key_of(&self, head: &PageHead, target: &Target<'_>, request: RequestFields<'_>) -> Key {
        let is_same_method = head.method == *target.method;
        let base = if is_same_method { target.key } else { self.rules.as_get(target, request).key };
        let fields: Vec<HeaderName> = head.varied_by.iter().map(|(name, _)| name.clone()).collect();
        if fields.is_empty() { base } else { key::variant(&base, &fields, request) }
    }

    fn is_uncacheable(&self, key: &Key) -> bool {
        self.uncacheable.get(key).is_some_and(|until| self.clock.now().0 < until)
    }

    fn is_purge(&self, visit: &Visit<'_>) -> bool {
        self.front.purges() && visit.parts.method == "PURGE"
    }

    /// Counts what could not be written, and warns at most every ten seconds: a full disk fails at every page.
    pub(super) fn note_store_failure(&self, error: &dyn std::fmt::Display) {
        self.metrics.store_errors.inc();
        let now = self.clock.now().0;
        let last = self.last_write_warning.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= 10_000 {
            self.last_write_warning.store(now, Ordering::Relaxed);
            tracing::warn!(%error, "a page is served but not stored");
        }
    }

    /// Do the bodies under way hold much of `cache.max_fill_bytes`?
    pub(super) fn is_fill_memory_scarce(&self) -> bool {
        self.fill_memory.available_permits() < self.settings.scarce_fill_kib
    }

    fn note_unreadable(&self, page: &LargePage, error: &std::io::Error) {
        self.metrics.store_errors.inc();
        tracing::warn!(path = &*page.head.path, %error, "a stored page cannot be read: it is fetched anew");
    }

    pub(super) fn reject(&self, refusal: Refusal) -> (Outcome, Response<Body>) {
        (Outcome::Rejected, notice::refusal(refusal))
    }
}

/// The system's own folder may lie in memory; that of the store has room for pages.
fn temporary_folder(config: &Config) -> Option<PathBuf> {
    let beside_pages = || (config.store.kind == StoreKind::Filesystem).then(|| config.store.filesystem.path.clone());
    config.cache.temporary_folder.clone().or_else(beside_pages)
}

/// One line of the access log.
pub(super) fn log_access(
    visitor: &Visitor,
    method: &Method,
    target: &dyn Display,
    status: StatusCode,
    outcome: Outcome,
    started: Instant,
) {
    tracing::info!(
        target: "everpage::access",
        client = %visitor.address,
        %method,
        %target,
        status = status.as_u16(),
        outcome = outcome.as_str(),
        microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}
