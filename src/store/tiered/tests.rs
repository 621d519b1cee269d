use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::*;
use crate::clock::Clock;
use crate::store::contract::{assert_same, page, page_as_of};
use crate::store::filesystem::{FilesystemStore, Limits};
use crate::store::memory::MemoryStore;

/// What befalls a tier.
#[derive(Debug, Default)]
struct Fate {
    gets: AtomicUsize,
    puts: AtomicUsize,
    /// Every operation that reads fails.
    unreadable: AtomicBool,
    /// What writes fails: the disk is full.
    full: AtomicBool,
    /// So does every second write.
    half_full: AtomicBool,
    /// Nothing answers any more.
    hangs: AtomicBool,
    /// Writes lose what they should keep, and say nothing.
    forgets: AtomicBool,
}

/// What befalls no tier.
static NEVER: AtomicBool = AtomicBool::new(false);

/// A tier whose fate is in the test's hands.
#[derive(Debug)]
struct Fated {
    inner: MemoryStore,
    fate: Arc<Fate>,
    /// Writes wait for a permit here.
    gate: Arc<Semaphore>,
    /// Removals wait for one here.
    exit: Arc<Semaphore>,
}

impl Fated {
    fn error(action: &str) -> StoreError {
        StoreError { store: "fated", action: action.to_owned(), source: "no space left on device".into() }
    }

    async fn suffer(&self, fails: &AtomicBool, action: &str) -> Result<(), StoreError> {
        if self.fate.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        if fails.load(SeqCst) { Err(Self::error(action)) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for Fated {
    fn kind(&self) -> &'static str {
        "fated"
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        self.fate.gets.fetch_add(1, SeqCst);
        self.suffer(&self.fate.unreadable, "read").await?;
        self.inner.get(name).await
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        let puts = self.fate.puts.fetch_add(1, SeqCst);
        if self.fate.half_full.load(SeqCst) && puts % 2 == 1 {
            return Err(Self::error("write"));
        }
        self.suffer(&self.fate.full, "write").await?;
        self.gate.acquire().await.unwrap().forget();
        self.gate.add_permits(1);
        if self.fate.forgets.load(SeqCst) { Ok(()) } else { self.inner.put(name, object).await }
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.suffer(&NEVER, "remove").await?;
        self.exit.acquire().await.unwrap().forget();
        self.exit.add_permits(1);
        self.inner.remove(name).await
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        self.suffer(&NEVER, "remove").await?;
        self.inner.remove_older(path, journal, before).await
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        self.inner.under(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.suffer(&self.fate.full, "write").await
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

struct Tier {
    store: Arc<dyn Store>,
    fate: Arc<Fate>,
    gate: Arc<Semaphore>,
    exit: Arc<Semaphore>,
}

fn tier() -> Tier {
    let (fate, gate, exit) = (Arc::new(Fate::default()), Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
    let (shared, open, way_out) = (Arc::clone(&fate), Arc::clone(&gate), Arc::clone(&exit));
    let store = Fated { inner: MemoryStore::new(64 << 20), fate: shared, gate: open, exit: way_out };
    Tier { store: Arc::new(store), fate, gate, exit }
}

fn tiers() -> (TieredStore, Tier, Tier) {
    let (front, back) = (tier(), tier());
    (TieredStore::new(Arc::clone(&front.store), Arc::clone(&back.store)), front, back)
}

/// Waits until no copy is under way.
async fn settle(store: &TieredStore) {
    store.promotions.settle().await;
}

fn body(object: &Object) -> Bytes {
    match object {
        Object::Page(page) => page.body.clone(),
        other => panic!("no page in memory: {other:?}"),
    }
}

/// Of a folder under test.
const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_memory_bytes: 8 << 20 };

mod memory_before_filesystem {
    use super::*;

    async fn fresh() -> (Arc<dyn Store>, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let back = FilesystemStore::open(folder.path(), "", 1, LIMITS, Clock::Wall).unwrap();
        (Arc::new(TieredStore::new(Arc::new(MemoryStore::new(64 << 20)), Arc::new(back))), folder)
    }

    crate::store_contract!(fresh);
}

mod a_front_that_forgets_and_is_filled_by_reading {
    use super::*;

    /// Keeps what is copied into it, and loses what is written.
    async fn fresh() -> (Arc<dyn Store>, ()) {
        let front = tier();
        front.fate.forgets.store(true, SeqCst);
        (Arc::new(TieredStore::new(front.store, tier().store)), ())
    }

    crate::store_contract!(fresh);
}

mod a_front_that_is_full {
    use super::*;

    async fn fresh() -> (Arc<dyn Store>, ()) {
        let (store, front, _) = tiers();
        front.fate.full.store(true, SeqCst);
        (Arc::new(store), ())
    }

    crate::store_contract!(fresh);
}

mod a_front_that_becomes_full {
    use super::*;

    async fn fresh() -> (Arc<dyn Store>, ()) {
        let (store, front, _) = tiers();
        front.fate.half_full.store(true, SeqCst);
        (Arc::new(store), ())
    }

    crate::store_contract!(fresh);
}

#[tokio::test]
async fn what_was_read_from_the_back_is_read_from_the_front_the_next_time() {
    let (store, front, back) = tiers();
    let (name, object) = page("/blog/", b"hello");
    back.store.put(&name, &object).await.unwrap();
    assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    settle(&store).await;
    assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    assert_eq!((front.fate.gets.load(SeqCst), back.fate.gets.load(SeqCst)), (2, 1));
}

#[tokio::test]
async fn the_reader_does_not_wait_for_the_copy_and_many_readers_make_one() {
    let (store, front, back) = tiers();
    let (name, object) = page("/blog/", b"hello");
    back.store.put(&name, &object).await.unwrap();
    // The front takes nothing in for now.
    front.gate.acquire().await.unwrap().forget();
    for _ in 0..10 {
        assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    }
    tokio::task::yield_now().await;
    assert_eq!(front.fate.puts.load(SeqCst), 1);
    front.gate.add_permits(1);
    settle(&store).await;
    assert!(front.store.get(&name).await.unwrap().is_some());
}

#[tokio::test]
async fn at_most_so_many_copies_wait() {
    let (store, front, back) = tiers();
    front.gate.acquire().await.unwrap().forget();
    for n in 0..100 {
        let (name, object) = page(&format!("/{n}/"), b"hello");
        back.store.put(&name, &object).await.unwrap();
        store.get(&name).await.unwrap().expect("the page is served all the same");
        tokio::task::yield_now().await;
    }
    assert_eq!(front.fate.puts.load(SeqCst), promotion::COPIES_MAX);
}

#[tokio::test]
async fn a_dead_page_in_front_does_not_hide_its_successor_in_the_back() {
    let (store, front, back) = tiers();
    let (name, old) = page_as_of("/blog/", "", b"old", "j", 5);
    let (_, new) = page_as_of("/blog/", "", b"new", "j", 7);
    store.put(&name, &old).await.unwrap();
    // Another node has fetched it anew.
    back.store.put(&name, &new).await.unwrap();
    assert_eq!(body(&store.get(&name).await.unwrap().unwrap()), "old", "who accepts anything gets what is near");
    let accept = |object: &Object| !object.is_older(&JournalId("j".into()), Sequence(6));
    assert_eq!(body(&store.get_accepted(&name, &accept).await.unwrap().unwrap().object), "new");
    settle(&store).await;
    assert_same(&new, &front.store.get(&name).await.unwrap().unwrap());
}

#[tokio::test]
async fn what_is_dead_in_the_back_is_not_copied() {
    let (store, front, back) = tiers();
    let (name, object) = page("/blog/", b"old");
    back.store.put(&name, &object).await.unwrap();
    store.get_accepted(&name, &|_| false).await.unwrap();
    settle(&store).await;
    assert_eq!(front.fate.puts.load(SeqCst), 0);
}

#[tokio::test]
async fn a_full_disk_costs_neither_old_pages_nor_new_ones() {
    let (store, front, back) = tiers();
    let (name, object) = page("/before/", b"hello");
    back.store.put(&name, &object).await.unwrap();
    let (near, here) = page("/near/", b"hello");
    store.put(&near, &here).await.unwrap();
    front.fate.full.store(true, SeqCst);
    assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    let (name, object) = page("/after/", b"hello");
    store.put(&name, &object).await.expect("the back has room");
    assert_same(&object, &back.store.get(&name).await.unwrap().unwrap());
    assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    store.check().await.expect("the back is healthy");
    // A full disk is still read.
    let asked = back.fate.gets.load(SeqCst);
    assert_same(&here, &store.get(&near).await.unwrap().unwrap());
    assert_eq!(back.fate.gets.load(SeqCst), asked);
}

#[tokio::test]
async fn a_front_that_cannot_be_read_is_passed_by() {
    let (store, front, _back) = tiers();
    let (name, object) = page("/blog/", b"hello");
    store.put(&name, &object).await.unwrap();
    front.fate.unreadable.store(true, SeqCst);
    for _ in 0..5 {
        assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    }
    assert_eq!(front.fate.gets.load(SeqCst), 1, "it rests");
}

#[tokio::test(start_paused = true)]
async fn a_front_that_hangs_is_waited_for_once_and_asked_again_later() {
    let (store, front, _back) = tiers();
    let (name, object) = page("/blog/", b"hello");
    store.put(&name, &object).await.unwrap();
    front.fate.hangs.store(true, SeqCst);
    for _ in 0..5 {
        assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    }
    assert_eq!(front.fate.gets.load(SeqCst), 1);
    store.put(&name, &object).await.expect("a write is bounded too");
    front.fate.hangs.store(false, SeqCst);
    tokio::time::advance(front::REST).await;
    assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    assert_eq!(front.fate.gets.load(SeqCst), 2);
}

#[tokio::test]
async fn a_page_too_large_for_the_front_does_not_put_it_to_rest() {
    let (front, back) = (Arc::new(MemoryStore::new(10_000)), tier());
    let store = TieredStore::new(front.clone(), back.store);
    let (large, object) = page("/large/", &[0; 20_000]);
    store.put(&large, &object).await.unwrap();
    assert_same(&object, &store.get(&large).await.unwrap().unwrap());
    let (small, object) = page("/small/", b"hello");
    store.put(&small, &object).await.unwrap();
    assert!(front.get(&small).await.unwrap().is_some());
    let (_, grown) = page("/small/", &[0; 20_000]);
    store.put(&small, &grown).await.unwrap();
    assert_same(&grown, &store.get(&small).await.unwrap().unwrap());
}

#[tokio::test]
async fn while_the_back_fails_what_is_near_is_found_and_what_is_written_stays_near() {
    let (store, _front, back) = tiers();
    let (near, here) = page("/near/", b"hello");
    store.put(&near, &here).await.unwrap();
    back.fate.unreadable.store(true, SeqCst);
    back.fate.full.store(true, SeqCst);
    assert_same(&here, &store.get(&near).await.unwrap().unwrap());
    let (far, object) = page("/far/", b"hello");
    store.get(&far).await.expect_err("nobody knows whether it is there");
    store.put(&far, &object).await.expect_err("it would not survive this machine");
    assert_same(&object, &store.get(&far).await.unwrap().unwrap());
    store.check().await.unwrap_err();
}

#[tokio::test]
async fn a_copy_that_was_overtaken_does_not_bring_back_what_was_replaced_or_removed() {
    for replace in [true, false] {
        let (store, front, back) = tiers();
        let ((name, old), (_, new)) = (page("/blog/", b"old"), page("/blog/", b"new"));
        back.store.put(&name, &old).await.unwrap();
        front.gate.acquire().await.unwrap().forget();
        store.get(&name).await.unwrap().expect("it is there");
        tokio::task::yield_now().await;
        assert_eq!(front.fate.puts.load(SeqCst), 1, "the copy is under way");
        let change = async { if replace { store.put(&name, &new).await } else { store.remove(&name).await } };
        let open = async {
            tokio::task::yield_now().await;
            front.gate.add_permits(1);
        };
        tokio::join!(change, open).0.unwrap();
        for _ in 0..3 {
            let found = store.get(&name).await.unwrap();
            assert_eq!(found.as_ref().map(body), replace.then(|| Bytes::from_static(b"new")));
            settle(&store).await;
        }
    }
}

#[tokio::test]
async fn until_an_overtaken_copy_is_gone_the_front_is_not_asked() {
    let (store, front, back) = tiers();
    let (name, old) = page("/blog/", b"old");
    back.store.put(&name, &old).await.unwrap();
    front.gate.acquire().await.unwrap().forget();
    store.get(&name).await.unwrap().expect("it is there");
    tokio::task::yield_now().await;
    store.remove(&name).await.unwrap();
    // The copy lands, and cannot go yet.
    front.exit.acquire().await.unwrap().forget();
    front.gate.add_permits(1);
    while front.store.get(&name).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(store.get(&name).await.unwrap().is_none());
    front.exit.add_permits(1);
    settle(&store).await;
    assert!(store.get(&name).await.unwrap().is_none());
}
