//! What is done after an invalidation has been answered? Dead pages are removed, and fetched anew where the caller asked for it.
//!
//! All of it is a courtesy: the promise does not need it. So it is bounded, one task after another, and what does not fit is left out.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{HeaderValue, Method, Request, Uri};
use tokio::sync::{Mutex, mpsc};
use tokio::task::yield_now;

use super::Parties;
use super::survey::{self, Bounds};
use crate::invalidation::selector::{Record, Target};
use crate::page::{PageHead, PathId, Sequence};
use crate::policy::rules::Rules;
use crate::policy::{key, path};
use crate::store::Listed;

/// Invalidations that may wait for their chores.
const WAITING_MAX: usize = 1000;
/// Pages that may wait to be fetched anew, of all invalidations together.
const REFETCHES_MAX: usize = 10_000;
/// Paths of which old pages are removed at once: to name as many takes the thread that visitors share a twentieth of a millisecond.
const REMOVED_AT_ONCE: usize = 200;
/// Pages that are fetched anew at the same time.
const FETCHERS: usize = 4;
/// Rest of a fetcher between two pages: together at most 160 in a second, however quick the origin is.
const REST: Duration = Duration::from_millis(25);
/// What a refresh looks for.
const REFRESH: Bounds = Bounds { found: REFETCHES_MAX, looked_at: 1_000_000, time: Duration::from_secs(60) };

/// Takes on chores.
#[derive(Clone, Debug)]
pub(super) struct Chores(mpsc::Sender<Chore>);

/// What follows from one invalidation.
#[derive(Debug)]
pub(super) struct Chore {
    /// What was invalidated.
    pub(super) record: Arc<Record>,
    /// Its number.
    pub(super) sequence: Sequence,
    /// Fetch again what was stored of it.
    pub(super) refresh: bool,
}

/// A page that is fetched anew, once this record has settled: before, it would not be kept.
#[derive(Debug)]
struct Refetch {
    request: Request<()>,
    after: Sequence,
}

impl Chores {
    /// Starts the tasks; they end when the server drains, whatever is left to do.
    pub(super) fn start(parties: &Parties) -> Self {
        let (chores, waiting) = mpsc::channel(WAITING_MAX);
        let (pages, to_fetch) = mpsc::channel(REFETCHES_MAX);
        parties.spawn(work(parties.clone(), waiting, pages));
        let to_fetch = Arc::new(Mutex::new(to_fetch));
        for _ in 0..FETCHERS {
            parties.spawn(refetch(parties.clone(), Arc::clone(&to_fetch)));
        }
        Chores(chores)
    }

    /// To be done after the invalidation was answered.
    pub(super) fn take_on(&self, chore: Chore) {
        let sequence = chore.sequence;
        if let Err(error) = self.0.try_send(chore) {
            tracing::warn!(%sequence, %error, "old pages stay in the store until they are replaced or evicted");
        }
    }
}

async fn work(parties: Parties, mut waiting: mpsc::Receiver<Chore>, pages: mpsc::Sender<Refetch>) {
    while let Some(chore) = waiting.recv().await {
        if chore.refresh {
            refresh(&parties, &chore, &pages).await;
        }
        // A soft invalidation leaves its pages to be served.
        if !chore.record.soft {
            remove(&parties, &chore).await;
        }
    }
}

/// Lines up what was stored of the named pages, those in memory first: they are the most wanted.
async fn refresh(parties: &Parties, chore: &Chore, queue: &mpsc::Sender<Refetch>) {
    let sequence = chore.sequence;
    let found = match survey::find(&*parties.store, &chore.record, REFRESH).await {
        Ok(found) => found,
        Err(error) => return tracing::warn!(%sequence, %error, "nothing is fetched anew"),
    };
    // What came since then is new.
    let mut old: Vec<Listed> = found.pages.into_iter().filter(|page| page.head.as_of < sequence).collect();
    old.sort_by_key(|page| parties.memory.get(&page.name.key).is_none());
    let total = old.len();
    let requests = old.iter().filter_map(|page| request_for(&parties.rules, page));
    let refetches = requests.map(|request| Refetch { request, after: sequence });
    let queued = refetches.map_while(|refetch| queue.try_send(refetch).ok()).count();
    tracing::info!(%sequence, total, queued, complete = found.complete, "pages are fetched anew");
}

/// The request that a visitor would send for this page: its URL and the fields that select it.
fn request_for(rules: &Rules, page: &Listed) -> Option<Request<()>> {
    let head = &page.head;
    let mut headers = HeaderMap::new();
    for (name, value) in head.varied_by.iter().filter(|(_, value)| !value.is_empty()) {
        headers.insert(name, HeaderValue::from_str(value).ok()?);
    }
    let scheme = if is_https(rules, page, &headers) { "https" } else { "http" };
    let query = head.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let uri: Uri = format!("{scheme}://{}{}{query}", head.host, head.path).parse().ok()?;
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(request)
}

/// The scheme is part of the key and of nothing else that is kept.
fn is_https(rules: &Rules, page: &Listed, headers: &HeaderMap) -> bool {
    let PageHead { method, host, path, query, varied_by, .. } = &page.head;
    let base = key::base(method, true, host, path, query.as_deref(), rules.key_headers(), headers.into());
    if varied_by.is_empty() {
        return base == page.name.key;
    }
    let fields: Vec<_> = varied_by.iter().map(|(name, _)| name.clone()).collect();
    key::variant(&base, &fields, headers.into()) == page.name.key
}

async fn refetch(parties: Parties, queue: Arc<Mutex<mpsc::Receiver<Refetch>>>) {
    loop {
        let next = queue.lock().await.recv().await;
        let Some(Refetch { request, after }) = next else { return };
        parties.invalidations.settled(after).await;
        let uri = request.uri().clone();
        let status = (parties.refetch)(request).await;
        tracing::debug!(%uri, status = status.as_u16(), "fetched anew");
        tokio::time::sleep(REST).await;
    }
}

/// Removes what can never be valid again. A path of one host shares its folder with those of the others, which stay.
///
/// Not in a remote store: a listing for each invalidated path would cost more than the dead objects do until its sweeper comes by.
async fn remove(parties: &Parties, chore: &Chore) {
    if parties.store.is_remote() {
        return;
    }
    let (journal, sequence) = (parties.invalidations.journal_id(), chore.sequence);
    let targets = chore.record.paths.iter().filter(|target| target.host.is_none());
    let targets: Vec<&Target> = targets.collect();
    for part in targets.chunks(REMOVED_AT_ONCE) {
        let ids: Vec<PathId> = part.iter().map(|target| path::path_id(&target.path)).collect();
        if let Err(error) = parties.store.remove_older_each(&ids, journal, sequence).await {
            return tracing::warn!(%sequence, %error, "old pages stay in the store until they are replaced or evicted");
        }
        yield_now().await;
    }
}
