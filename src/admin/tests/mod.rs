//! A control plane over a store and a journal in memory, asked without a network.

mod guard;
mod invalidate;
mod resources;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::*;
use crate::invalidation::journal::memory::MemoryJournal;
use crate::invalidation::journal::{Appended, Circle, Journal, JournalError, Recovered};
use crate::invalidation::selector::Record;
use crate::page::{JournalId, ObjectName, Page, PageHead, PathId, Sequence, Variants};
use crate::policy::rules::{Lookup, Request as RuleRequest};
use crate::policy::{key, vary};
use crate::store::memory::MemoryStore;
use crate::store::{Listed, Listing, Object, Place, StoreError, Usage};

/// A store that can be out of order, one that a look costs a request, or one that hangs when it counts or is checked.
#[derive(Debug)]
struct Shelf {
    inner: MemoryStore,
    broken: AtomicBool,
    remote: AtomicBool,
    hangs: AtomicBool,
    checks: AtomicU64,
}

impl Shelf {
    fn say(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError { store: "memory", action: "work".to_owned(), source: "it is broken".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Shelf {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        self.say()?;
        self.inner.get(name).await
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        self.inner.put(name, object).await
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.remove(name).await
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        self.inner.remove_older(path, journal, before).await
    }

    async fn pages_each(&self, places: &[Place]) -> Option<Vec<u64>> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.remote.load(Ordering::SeqCst) { None } else { self.inner.pages_each(places).await }
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        self.say()?;
        self.inner.under(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        self.say()?;
        self.inner.list(prefix, after, limit.min(3)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.say()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

/// A journal that fails or hangs when told to.
#[derive(Debug)]
struct Diary {
    inner: MemoryJournal,
    fails: AtomicBool,
    hangs: AtomicBool,
    /// It has other nodes.
    shared: AtomicBool,
}

#[async_trait]
impl Journal for Diary {
    fn id(&self) -> JournalId {
        self.inner.id()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(JournalError::new("append", "the disk is full"));
        }
        self.inner.append(records).await
    }

    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError> {
        self.inner.fold(sequence, snapshot).await
    }

    fn tail_bytes(&self) -> u64 {
        0
    }

    fn circle(&self) -> Option<Circle> {
        let circle = Circle { node: "me".into(), secret: "secret".into() };
        self.shared.load(Ordering::SeqCst).then_some(circle)
    }
}

/// All of it, and what is looked at from outside.
struct Rig {
    router: Router,
    parties: Parties,
    shelf: Arc<Shelf>,
    diary: Arc<Diary>,
    draining: CancellationToken,
    refetched: Arc<Mutex<Vec<String>>>,
    /// The most fetches that were under way together.
    together: Arc<AtomicU64>,
    fetched: Arc<Notify>,
}

impl Rig {
    fn new() -> Self {
        Rig::with(Config::default())
    }

    fn with_token(token: &str) -> Self {
        let mut config = Config::default();
        config.admin.token = crate::config::Secret::new(token.to_owned());
        Rig::with(config)
    }

    fn with(config: Config) -> Self {
        let inner = MemoryStore::new(64 << 20);
        let shelf = Shelf { inner, broken: false.into(), remote: false.into(), hangs: false.into(), checks: 0.into() };
        let shelf = Arc::new(shelf);
        let diary = Arc::new(Diary {
            inner: MemoryJournal::new(JournalId("j".into())),
            fails: false.into(),
            hangs: false.into(),
            shared: false.into(),
        });
        let journal: Arc<dyn Journal> = Arc::clone(&diary) as Arc<dyn Journal>;
        let draining = CancellationToken::new();
        let (refetched, noting) = shared(Mutex::new(Vec::new()));
        let (together, most) = shared(AtomicU64::new(0));
        let (fetched, notifying) = shared(Notify::new());
        let under_way = Arc::new(AtomicU64::new(0));
        let parties = Parties {
            rules: Arc::new(Rules::new(&config.cache).unwrap()),
            config: Arc::new(config),
            invalidations: Arc::new(Invalidations::start(journal, Recovered::default())),
            memory: Arc::new(MemoryTier::new(1 << 20, 1 << 20)),
            store: Arc::clone(&shelf) as Arc<dyn Store>,
            metrics: Arc::default(),
            clock: Clock::Wall,
            readings: Arc::new(|| vec![Reading { name: "flights", value: 3 }]),
            draining: draining.clone(),
            tasks: TaskTracker::new(),
            refetch: Arc::new(move |request| {
                let (noting, most, under_way) = (Arc::clone(&noting), Arc::clone(&most), Arc::clone(&under_way));
                let notifying = Arc::clone(&notifying);
                Box::pin(async move {
                    most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let fields: Vec<_> =
                        request.headers().iter().map(|(name, value)| format!(" {name}={value:?}")).collect();
                    noting.lock().push(format!("{} {}{}", request.method(), request.uri(), fields.concat()));
                    tokio::task::yield_now().await;
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    notifying.notify_one();
                    StatusCode::OK
                })
            }),
            upkeep: Upkeep::default(),
        };
        Rig { router: router(parties.clone()), parties, shelf, diary, draining, refetched, together, fetched }
    }

    /// Stores `http://host/path?query` as of now.
    async fn store(&self, url: &str, tags: &[&str]) -> ObjectName {
        self.store_variant(url, tags, &[]).await
    }

    /// As [`Rig::store`], selected by request fields; the first of a URL puts up its signpost.
    async fn store_variant(&self, url: &str, tags: &[&str], fields: &[(&'static str, &str)]) -> ObjectName {
        let uri: http::Uri = url.parse().unwrap();
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let request = RuleRequest {
            method: &Method::GET,
            https: uri.scheme_str() == Some("https"),
            host: uri.authority().unwrap().as_str(),
            path: uri.path(),
            query: uri.query(),
            headers: (&headers).into(),
        };
        let Lookup::Use(target) = self.parties.rules.lookup(&request) else { panic!("{url} is not cached") };
        let names: Vec<http::HeaderName> = fields.iter().map(|(name, _)| name.parse().unwrap()).collect();
        let (as_of, journal) = (self.parties.invalidations.applied(), self.diary.id());
        let mut name = target.object_name();
        let (host, path): (Arc<str>, Arc<str>) = (target.host.into(), target.path.as_ref().into());
        if !names.is_empty() {
            let signpost = Variants {
                fields: names.clone(),
                known: Vec::new(),
                host: host.clone(),
                path: path.clone(),
                as_of,
                journal: journal.clone(),
            };
            self.shelf.put(&name, &Object::Variants(Arc::new(signpost))).await.unwrap();
            name.key = key::variant(&name.key, &names, (&headers).into());
        }
        let head = PageHead {
            method: Method::GET,
            host,
            path,
            query: target.query.as_deref().map(Arc::from),
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(http::header::CONTENT_TYPE, "text/html".parse().unwrap())]).into(),
            stored_at: self.parties.clock.now(),
            age_seconds: 0,
            fresh_seconds: None,
            as_of,
            journal,
            tags: tags.iter().map(|tag| Arc::from(*tag)).collect(),
            varied_by: vary::values(&names, &headers),
        };
        let page = Arc::new(Page::new(head, "hello".into(), name.path));
        self.shelf.put(&name, &Object::Page(page)).await.unwrap();
        name
    }

    async fn hold_in_memory(&self, name: &ObjectName) {
        let Some(Object::Page(page)) = self.shelf.inner.get(name).await.unwrap() else { panic!("it is stored") };
        self.parties.memory.insert(name.key, page);
    }

    async fn is_stored(&self, name: &ObjectName) -> bool {
        self.shelf.inner.get(name).await.unwrap().is_some()
    }

    async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answered {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, target: &str) -> Answered {
        self.send(request(Method::GET, target, "")).await
    }

    async fn invalidate(&self, body: impl Into<String>) -> Answered {
        self.send(request(Method::POST, "/invalidate", &body.into())).await
    }

    /// Waits until so many pages were fetched anew.
    async fn refetched(&self, count: usize) -> Vec<String> {
        while self.refetched.lock().len() < count {
            self.fetched.notified().await;
        }
        self.refetched.lock().clone()
    }
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Status and name of an error, which always has a sentence too.
    fn error(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/json");
        let json = self.json();
        assert!(json["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{json}");
        (self.status, json["error"].as_str().unwrap().to_owned())
    }
}

fn request(method: Method, target: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(target).header("host", "127.0.0.1:8081");
    request.body(Body::from(body.to_owned())).unwrap()
}

fn shared<T>(value: T) -> (Arc<T>, Arc<T>) {
    let one = Arc::new(value);
    (Arc::clone(&one), one)
}

/// Lets everything happen that can happen without time passing.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
