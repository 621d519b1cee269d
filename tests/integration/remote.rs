//! Stores that are far away: what is asked of them, and what stands before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use everpage::config::Config;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::Recovered;
use everpage::page::{JournalId, ObjectName, PathId, Sequence};
use everpage::proxy::origin::OriginError;
use everpage::store::memory::MemoryStore;
use everpage::store::tiered::TieredStore;
use everpage::store::{Listed, Listing, Object, Store, StoreError, Usage};
use parking_lot::Mutex;

use crate::support::{Inside, inside_with, journal, pieces};

/// Far away: each look is counted.
#[derive(Debug)]
struct Far {
    inner: MemoryStore,
    looks: AtomicUsize,
    is_remote: bool,
}

fn far() -> Arc<Far> {
    Arc::new(Far { inner: MemoryStore::new(64 << 20), looks: AtomicUsize::new(0), is_remote: true })
}

#[async_trait]
impl Store for Far {
    fn kind(&self) -> &'static str {
        "far"
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        self.looks.fetch_add(1, SeqCst);
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

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        self.inner.under(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn is_remote(&self) -> bool {
        self.is_remote
    }
}

fn no_memory(config: &mut Config) {
    config.memory.capacity = 0;
}

/// One node on this store, whose origin breaks off each body until told to heal.
fn node(store: Arc<dyn Store>, invalidations: Invalidations, heals: &Arc<Mutex<Option<&'static str>>>) -> Inside {
    let heals = Arc::clone(heals);
    inside_with(store, invalidations, no_memory, move |_| {
        let body = *heals.lock();
        async move {
            match body {
                Some(body) => pieces(http::Response::builder(), vec![Ok(body)]),
                None => pieces(http::Response::builder(), vec![Ok("hel"), Err(OriginError::Broken("told so".into()))]),
            }
        }
    })
}

async fn visit(node: &Inside) {
    node.get("/").await;
    node.settled().await;
}

fn invalidations() -> Invalidations {
    Invalidations::start(journal(), Recovered::default())
}

#[tokio::test(start_paused = true)]
async fn a_look_that_found_nothing_counts_for_ten_seconds() {
    let (store, broken) = (far(), Arc::default());
    let node = node(store.clone(), invalidations(), &broken);
    for _ in 0..5 {
        visit(&node).await;
    }
    assert_eq!(store.looks.load(SeqCst), 1);
    tokio::time::advance(Duration::from_secs(10)).await;
    visit(&node).await;
    assert_eq!(store.looks.load(SeqCst), 2, "another node may have stored it");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_ends_it() {
    let (store, broken) = (far(), Arc::default());
    let node = node(store.clone(), invalidations(), &broken);
    visit(&node).await;
    node.invalidate("/elsewhere/").await;
    visit(&node).await;
    assert_eq!(store.looks.load(SeqCst), 1, "of another page");
    node.invalidate("/").await;
    visit(&node).await;
    assert_eq!(store.looks.load(SeqCst), 2, "another node may have fetched it anew");
    visit(&node).await;
    assert_eq!(store.looks.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_stored_ends_it() {
    let (store, heals) = (far(), Arc::default());
    let node = node(store.clone(), invalidations(), &heals);
    visit(&node).await;
    *heals.lock() = Some("hello");
    assert_eq!(node.get("/").await.outcome(), "miss");
    node.settled().await;
    *heals.lock() = None;
    let found = node.get("/").await;
    assert_eq!((found.text(), found.cache_status()), ("hello", "everpage; hit; detail=far"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_page_in_the_store_is_looked_at_once() {
    let (store, heals) = (far(), Arc::new(Mutex::new(Some("hello"))));
    let node = node(store.clone(), invalidations(), &heals);
    visit(&node).await;
    *heals.lock() = None;
    node.invalidate("/").await;
    let before = store.looks.load(SeqCst);
    for _ in 0..5 {
        visit(&node).await;
    }
    assert_eq!(store.looks.load(SeqCst), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_at_hand_is_asked_each_time() {
    let store = Arc::new(Far { inner: MemoryStore::new(1 << 20), looks: AtomicUsize::new(0), is_remote: false });
    let node = node(store.clone(), invalidations(), &Arc::default());
    for _ in 0..5 {
        visit(&node).await;
    }
    assert_eq!(store.looks.load(SeqCst), 5);
}

/// Fails when the lookup takes the near copy unjudged: then the origin, which is broken, is asked.
#[tokio::test(start_paused = true)]
async fn what_another_node_fetched_anew_is_found_behind_a_dead_copy_at_hand() {
    let (back, front, heals) = (far(), Arc::new(MemoryStore::new(64 << 20)), Arc::new(Mutex::new(Some("old"))));
    let tiers = Arc::new(TieredStore::new(front.clone(), back.clone()));
    let shared = invalidations();
    let node = node(tiers, shared, &heals);
    visit(&node).await;
    assert_eq!((front.usage().objects, back.usage().objects), (1, 1));
    node.invalidate("/").await;
    // Another node: the same journal, the same bucket, a disk of its own.
    *heals.lock() = Some("new");
    let old_front = front.list("/", None, 1).await.unwrap().pages.remove(0).name;
    let Some(Object::Page(old)) = front.get(&old_front).await.unwrap() else { panic!("a page was stored") };
    node.get("/").await;
    node.settled().await;
    front.put(&old_front, &Object::Page(old)).await.unwrap();
    *heals.lock() = None;
    let found = node.get("/").await;
    assert_eq!((found.text(), found.cache_status()), ("new", "everpage; hit; detail=far"));
}
