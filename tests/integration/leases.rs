//! A journal that others write to: what a node may serve, for how long after it has looked, and what it does when it cannot look.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everpage::clock::Clock;
use everpage::config::{Config, OnStoreOutage};
use everpage::invalidation::Invalidations;
use everpage::invalidation::index::Index;
use everpage::invalidation::journal::Journal;
use everpage::invalidation::selector::{Record, Target};
use everpage::page::Sequence;
use everpage::store::memory::MemoryStore;
use tokio::time::{Instant, sleep};

use crate::support::{EPOCH, Inside, LEASE, Ledger, inside_with, pieces};

/// A node on the ledger, before an origin that numbers its answers.
fn node(ledger: &Arc<Ledger>, change: impl FnOnce(&mut Config)) -> Inside {
    let clock = Clock::Tokio { epoch: EPOCH, started: Instant::now() };
    let (reader, recovered) = ledger.reader(clock);
    let invalidations = Invalidations::start(reader as Arc<dyn Journal>, recovered);
    let count = AtomicUsize::new(0);
    inside_with(Arc::new(MemoryStore::new(64 << 20)), invalidations, change, move |_| {
        let number = ["first", "second", "third", "fourth"][count.fetch_add(1, Ordering::SeqCst)];
        std::future::ready(pieces(http::Response::builder(), vec![Ok(number)]))
    })
}

pub(crate) fn one_node(change: impl FnOnce(&mut Config)) -> (Arc<Ledger>, Inside) {
    let ledger = Arc::new(Ledger::default());
    let inside = node(&ledger, change);
    (ledger, inside)
}

/// A page in memory, and nobody asking any more.
async fn filled(inside: &Inside) {
    assert_eq!(inside.get("/").await.outcome(), "miss");
    assert_eq!(inside.get("/").await.outcome(), "hit");
    // The looks for these requests pass.
    sleep(LEASE * 5).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_does_not_look_and_looks_once_for_all_who_come_back() {
    let (ledger, inside) = one_node(|_| {});
    filled(&inside).await;
    let before = ledger.looks();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(ledger.looks(), before, "nobody asked");
    let many = (0..100).map(|_| {
        let inside = inside.clone();
        tokio::spawn(async move { inside.get("/").await.outcome().to_owned() })
    });
    for answered in many.collect::<Vec<_>>() {
        assert_eq!(answered.await.unwrap(), "hit");
    }
    assert_eq!(ledger.looks(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_another_node_has_invalidated_is_not_served_once_the_answer_is_there() {
    let (ledger, here) = one_node(|_| {});
    let there = node(&ledger, |_| {});
    for way in ["an idle node looks first", "a busy one looks in time"] {
        here.get("/").await;
        assert_eq!(here.get("/").await.outcome(), "hit");
        if way.starts_with("an idle") {
            sleep(LEASE * 5).await;
        }
        let started = Instant::now();
        there.invalidate("/").await;
        assert!(started.elapsed() >= LEASE, "nobody has heard of it before: {:?}", started.elapsed());
        assert_ne!(here.get("/").await.outcome(), "hit", "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_node_waits_for_nobody() {
    let (_ledger, inside) = one_node(|_| {});
    let started = Instant::now();
    inside.invalidate("/").await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn while_the_journal_is_out_of_reach_requests_go_to_the_origin_and_nobody_waits_twice() {
    for kind in ["refused", "silent"] {
        let (ledger, inside) = one_node(|_| {});
        filled(&inside).await;
        ledger.is_gone.store(kind == "refused", Ordering::SeqCst);
        ledger.hangs.store(kind == "silent", Ordering::SeqCst);
        let started = Instant::now();
        assert_eq!(inside.get("/").await.text(), "second", "{kind}");
        assert!(started.elapsed() <= LEASE, "{kind}: {:?}", started.elapsed());
        let started = Instant::now();
        assert_eq!(inside.get("/").await.text(), "third", "{kind}");
        assert_eq!(started.elapsed(), Duration::ZERO, "{kind}");
        assert!(inside.invalidations.outage().is_some());
        ledger.is_gone.store(false, Ordering::SeqCst);
        ledger.hangs.store(false, Ordering::SeqCst);
        sleep(LEASE * 2).await;
        let answer = inside.get("/").await;
        assert_eq!((answer.outcome(), answer.text()), ("hit", "first"), "{kind}: nothing has named it");
        assert!(inside.invalidations.outage().is_none());
    }
}

/// Fails when a request waits for the try that is under way in the background, or begins one of its own beside it.
#[tokio::test(start_paused = true)]
async fn however_long_a_silent_outage_lasts_only_its_first_request_waits() {
    let (ledger, inside) = one_node(|_| {});
    filled(&inside).await;
    ledger.hangs.store(true, Ordering::SeqCst);
    inside.get("/").await;
    let mut waited = Duration::ZERO;
    for _ in 0..300 {
        let started = Instant::now();
        inside.invalidations.make_current().await.unwrap_err();
        waited = waited.max(started.elapsed());
        sleep(Duration::from_millis(100)).await;
        // As each request does.
        assert!(!inside.invalidations.is_current());
    }
    assert_eq!(waited, Duration::ZERO);
    ledger.hangs.store(false, Ordering::SeqCst);
    sleep(LEASE * 2).await;
    assert_eq!(inside.get("/").await.outcome(), "hit");
}

#[tokio::test(start_paused = true)]
async fn with_serve_a_node_goes_on_with_what_it_has() {
    let (ledger, inside) = one_node(|config| config.cluster.on_store_outage = OnStoreOutage::Serve);
    filled(&inside).await;
    ledger.is_gone.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(inside.get("/").await.text(), "first");
        sleep(LEASE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_rendered_while_another_node_invalidated_it_is_not_kept_for_long() {
    let (ledger, here) = one_node(|_| {});
    let there = node(&ledger, |_| {});
    // Rendered before the record, and landed before this node has heard of it.
    let record = there.invalidate("/");
    let (page, ()) = tokio::join!(here.get("/"), record);
    assert_eq!(page.text(), "first");
    assert_eq!(here.get("/").await.text(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fell_behind_a_fold_takes_the_snapshot() {
    let (ledger, here) = one_node(|_| {});
    let there = node(&ledger, |_| {});
    here.get("/a").await;
    here.get("/b").await;
    // Idle: the record reaches it as part of the snapshot only.
    sleep(LEASE * 5).await;
    there.invalidate("/a").await;
    ledger.fold(empty_index());
    assert_eq!(here.get("/a").await.outcome(), "hit", "the snapshot alone counts");
    assert_eq!(here.invalidations.applied(), Sequence(1));
    sleep(LEASE * 5).await;
    there.invalidate("/b").await;
    // What cannot be read stands for everything.
    ledger.fold(b"?".to_vec());
    assert_eq!(here.get("/a").await.outcome(), "miss");
}

/// What a fold writes that has nothing to say.
fn empty_index() -> Vec<u8> {
    let mut bytes = Index::default().to_bytes();
    bytes.extend_from_slice(b"[]");
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_not_durable_outlives_a_snapshot_of_others() {
    let (ledger, here) = one_node(|_| {});
    let there = node(&ledger, |_| {});
    here.get("/a").await;
    sleep(LEASE * 5).await;
    there.invalidate("/b").await;
    ledger.fold(empty_index());
    ledger.is_gone.store(true, Ordering::SeqCst);
    let paths = vec![Target { host: None, path: "/a".into() }];
    here.invalidations.submit_change(Record { paths, ..Record::default() }).await.unwrap_err();
    ledger.is_gone.store(false, Ordering::SeqCst);
    // Before it is tried again.
    assert_eq!(here.get("/a").await.outcome(), "miss");
    assert_eq!(here.invalidations.applied(), Sequence(1), "the snapshot was taken");
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_not_answered_before_the_other_nodes_know_the_record() {
    let (ledger, here) = one_node(|_| {});
    let there = node(&ledger, |_| {});
    let record = || Record {
        id: Some("once".into()),
        paths: vec![Target { host: None, path: "/".into() }],
        ..Record::default()
    };
    let started = Instant::now();
    tokio::time::timeout(LEASE / 4, here.invalidations.submit(record())).await.expect_err("the client gives up");
    here.invalidations.submit(record()).await.unwrap();
    assert!(started.elapsed() >= LEASE, "{:?}", started.elapsed());
    // Another node has heard of it, and knows of nobody else whether they have.
    let started = Instant::now();
    assert_eq!(there.invalidations.submit(record()).await.unwrap().sequence, Sequence(1));
    assert!(started.elapsed() >= LEASE, "{:?}", started.elapsed());
    let started = Instant::now();
    there.invalidations.submit(record()).await.unwrap();
    here.invalidations.submit(record()).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO, "it is settled");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_another_by_now_is_never_served_from() {
    let (ledger, inside) = one_node(|config| config.cluster.on_store_outage = OnStoreOutage::Serve);
    filled(&inside).await;
    ledger.is_lost.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(inside.get("/").await.outcome(), "bypass");
        sleep(LEASE).await;
    }
}
