//! Writes that S3 does not take, or takes too slowly: visitors do not notice, everything has a bound, and an end comes in time.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::machine::{Machine, stored, written};
use super::outage::{metric, until};
use crate::support::{
    Ask, Fault, Gate, Link, Refusal, Reply, Server, TestBucket, gather_warnings, next_piece, origin, proxy, run_on_s3,
    warnings_with,
};

/// Pages that may wait to be written: as the proxy has it.
const WRITES_MAX: usize = 256;

#[test]
fn a_page_that_the_bucket_does_not_take_is_served_and_counted() {
    gather_warnings();
    run_on_s3(Server::Rgw, async |bucket| {
        let (origin, link) = (origin().counted("/").start().await, Link::to(&bucket.endpoint).await);
        let proxy = proxy().origin(&origin).on_s3_through(&bucket, &link).start().await;
        link.next(1, |passing| passing.is("PUT", "/pages/"), Fault::Refuse(Refusal::AccessDenied));
        assert_eq!(proxy.get("/").await.text(), "v1");
        until("it is counted", async || metric(&proxy, "everpage_store_errors_total").await == 1).await;
        let said = warnings_with(&["served but not stored", "s3:PutObject", &link.url()]);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert_eq!((proxy.get("/").await.outcome(), stored(&bucket).await.len()), ("hit", 0));
        // It is at hand here; the next time that it is fetched, it is stored.
        proxy.invalidate_path("/").await;
        assert_eq!(proxy.get("/").await.text(), "v2");
        written(&bucket, 1).await;
    });
}

/// Fails when `keep_page` waits for a place, and when writes that hang keep the journal from being asked.
#[test]
fn when_too_many_pages_wait_for_the_bucket_further_ones_are_served_and_not_stored() {
    run_on_s3(Server::Rgw, async |bucket| {
        let page = |asked: crate::support::Asked| async move { Reply::new(asked.target) };
        let (origin, link) = (origin().otherwise(page).start().await, Link::to(&bucket.endpoint).await);
        let proxy = proxy().origin(&origin).on_s3_through(&bucket, &link);
        let proxy = proxy.set(|config| {
            config.cluster.lease = Duration::from_millis(300);
            // However slow this machine is: no write is given up meanwhile.
            config.store.s3.read_timeout = Duration::from_secs(60);
        });
        let (proxy, gate) = (proxy.start().await, Gate::default());
        link.next(usize::MAX, |passing| passing.is("PUT", "/pages/"), Fault::HoldRequest(gate.clone()));
        for number in 0..WRITES_MAX + 5 {
            let target = format!("/{number}");
            let answer = proxy.get(&target).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, target.as_str()));
        }
        let busy = "everpage_refused_total{reason=\"store-busy\"}";
        assert_eq!(metric(&proxy, busy).await, 5);
        // All of them are at hand, and what was invalidated is known in time.
        for number in [0, WRITES_MAX, WRITES_MAX + 4] {
            let answer = proxy.get(&format!("/{number}")).await;
            assert_eq!(answer.outcome(), "hit", "{}", answer.cache_status());
        }
        assert_eq!(proxy.post_invalidate(json!({"paths": ["/nothing"]})).await.status, 200);
        gate.open();
        link.forget_plans();
        written(&bucket, WRITES_MAX).await;
        assert_eq!(stored(&bucket).await.len(), WRITES_MAX);
    });
}

/// Fails when a look at the journal needs one of the places that large bodies hold for as long as somebody reads them.
#[test]
fn visitors_who_read_slowly_keep_nobody_from_the_journal() {
    run_on_s3(Server::Rgw, async |bucket| {
        let film = vec![7; 16 << 20];
        let film = move |_| {
            let film = film.clone();
            async move { Reply::new(film).header("content-type", "video/mp4") }
        };
        let origin = origin().counted("/").route("/film", film).start().await;
        let proxy = proxy().origin(&origin).on_s3(&bucket).set(|config| {
            config.cache.max_memory_size = 1 << 20;
            config.store.s3.max_requests = 2;
            config.cluster.lease = Duration::from_millis(300);
        });
        let proxy = proxy.start().await;
        assert_eq!(proxy.get("/film").await.body.len(), 16 << 20);
        assert_eq!(proxy.get("/").await.text(), "v1");
        written(&bucket, 2).await;
        assert_eq!(proxy.revisit("/").await.outcome(), "hit");
        let mut slow = Vec::new();
        for _ in 0..2 {
            let mut visitor = proxy.ask(Method::GET, "/film").open().await;
            assert!(next_piece(&mut visitor).await.is_some());
            slow.push(visitor);
        }
        for _ in 0..5 {
            let answer = proxy.get("/").await;
            assert_eq!(answer.outcome(), "hit", "{}", answer.cache_status());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(proxy.post_invalidate(json!({"paths": ["/"]})).await.status, 200);
        assert_eq!(proxy.get("/").await.text(), "v2");
        drop(slow);
    });
}

/// A machine whose pages wait at the gate on their way to the bucket, at SIGTERM.
async fn told_to_end(bucket: &TestBucket, gate: &Gate, more: &[&str]) -> (Machine, Link) {
    let page = |asked: crate::support::Asked| async move { Reply::new(asked.target) };
    let (origin, link) = (origin().otherwise(page).start().await, Link::to(&bucket.endpoint).await);
    let machine = Machine::start_through(bucket, &link.url(), &origin, more);
    link.next(usize::MAX, |passing| passing.is("PUT", "/pages/"), Fault::HoldRequest(gate.clone()));
    for number in 0..PAGES {
        assert_eq!(machine.server.get(&format!("/{number}")).await.status, 200);
    }
    for _ in 0..PAGES {
        gate.arrival().await;
    }
    machine.server.signal("TERM");
    machine.server.logged("draining");
    (machine, link)
}

const PAGES: usize = 20;

/// Fails when `Server::run` does not wait for `Handler::drain`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_to_be_written_at_the_end_is_written() {
    let (bucket, gate) = (Server::Moto.fresh_bucket().await, Gate::default());
    let (mut machine, link) = told_to_end(&bucket, &gate, &[]).await;
    // Longer than anything else at the end takes.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(machine.server.is_running());
    assert_eq!(stored(&bucket).await.len(), 0);
    gate.open();
    assert_eq!(machine.server.wait().code(), Some(0), "{}", machine.server.log());
    assert_eq!(stored(&bucket).await.len(), PAGES);
    assert!(!machine.server.log().contains("drain_timeout"), "{}", machine.server.log());
    drop(link);
    bucket.destroy().await;
}

/// Fails when `Server::run` does not wait for `Handler::drain`, and when it waits without a bound for that or for the journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_hangs_does_not_hold_up_the_end() {
    let (bucket, gate) = (Server::Moto.fresh_bucket().await, Gate::default());
    let (mut machine, link) = told_to_end(&bucket, &gate, &["limits.drain_timeout = \"500ms\""]).await;
    link.set(Fault::BlackHole).await;
    let started = tokio::time::Instant::now();
    assert_eq!(machine.server.wait().code(), Some(0), "{}", machine.server.log());
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
    assert!(machine.server.log().contains("limits.drain_timeout is over"), "{}", machine.server.log());
    drop(link);
    gate.open();
    bucket.destroy().await;
}

/// A bucket that hangs before the first byte of a page: the origin is asked in its place, and the visitor has his page.
#[test]
fn a_page_that_the_bucket_does_not_give_in_time_comes_from_the_origin() {
    run_on_s3(Server::Rgw, async |bucket| {
        let (origin, link) = (origin().counted("/").start().await, Link::to(&bucket.endpoint).await);
        let proxy = proxy().origin(&origin).on_s3_through(&bucket, &link).set(|config| {
            config.store.s3.read_timeout = Duration::from_millis(500);
        });
        let proxy = proxy.start().await;
        link.next(usize::MAX, |passing| passing.is("GET", "/pages/"), Fault::BlackHole);
        let answer = Ask::new(proxy.address, Method::GET, "/").send().await;
        assert_eq!((answer.outcome(), answer.text()), ("miss", "v1"));
        assert_eq!(proxy.get("/").await.outcome(), "hit");
        assert!(metric(&proxy, "everpage_store_errors_total").await >= 1);
    });
}
