//! An app that reads from a replica shows the old page for a while after its invalidation: what `cache.settle` does about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use everpage::invalidation::selector::{Record, Target};
use http::Response;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{Gate, Inside, Origin, Proxy, Reply, inside_settling, origin, pieces, proxy};

const SETTLE: Duration = Duration::from_secs(10);

/// An app over a primary, which has changed, and a replica, which has not heard of it.
async fn lagging() -> (Arc<AtomicU64>, Origin) {
    let replica = Arc::new(AtomicU64::new(1));
    let shown = Arc::clone(&replica);
    let page = move |_| std::future::ready(Reply::new(format!("v{}", shown.load(SeqCst))));
    (replica, origin().route("/", page).start().await)
}

async fn settling(origin: &Origin, time: Duration) -> Proxy {
    proxy().origin(origin).set(|config| config.cache.settle = time).start().await
}

#[tokio::test]
async fn with_settle_the_page_of_a_lagging_replica_is_not_kept() {
    let (replica, origin) = lagging().await;
    let proxy = settling(&origin, Duration::from_secs(3)).await;
    proxy.assert_new("/", "v1").await;
    proxy.invalidate_path("/").await;
    for _ in 0..2 {
        let answer = proxy.get("/").await;
        assert_eq!((answer.text(), answer.outcome(), answer.detail()), ("v1", "refused", Some("settling")));
    }
    let explained = proxy.admin("/explain?url=/").await;
    assert!(explained.text().contains(r#""settling":true"#), "{}", explained.text());
    let metrics = proxy.admin("/metrics").await;
    assert!(metrics.text().contains(r#"{reason="settling"} 2"#), "{}", metrics.text());
    replica.store(2, SeqCst);
    proxy.renewed("/", "v2").await;
    while proxy.get("/").await.outcome() != "hit" {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy.get("/").await.text(), "v2");
    assert!(proxy.admin("/explain?url=/").await.text().contains(r#""settling":false"#));
}

#[tokio::test]
async fn without_it_the_old_page_stays() {
    let (replica, origin) = lagging().await;
    let proxy = settling(&origin, Duration::ZERO).await;
    proxy.assert_new("/", "v1").await;
    proxy.invalidate_path("/").await;
    proxy.assert_new("/", "v1").await;
    replica.store(2, SeqCst);
    assert_eq!((proxy.get("/").await.text(), origin.hits("/")), ("v1", 2));
}

#[tokio::test]
async fn a_restart_does_not_end_the_time() {
    let (_, origin) = lagging().await;
    let proxy = settling(&origin, Duration::from_secs(600)).await;
    proxy.invalidate_path("/").await;
    let remains = proxy.end().await;
    let proxy =
        remains.proxy().origin(&origin).set(|config| config.cache.settle = Duration::from_secs(600)).start().await;
    assert_eq!(proxy.get("/").await.detail(), Some("settling"));
    let other = proxy.get("/other").await;
    assert_ne!(other.detail(), Some("settling"), "nobody named it");
}

#[tokio::test]
async fn a_refresh_waits_until_what_it_fetches_is_kept() {
    let origin = origin().counted("/").start().await;
    let proxy = settling(&origin, Duration::from_secs(1)).await;
    proxy.assert_new("/", "v1").await;
    proxy.stored(1).await;
    proxy.invalidate(json!({"paths": ["/"], "refresh": true})).await;
    while origin.hits("/") < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    let answer = proxy.revisit("/").await;
    assert_eq!((answer.outcome(), answer.text()), ("hit", "v2"));
}

/// A page with the tag `site` whose renderings are numbered; each waits at the gate, if there is one.
fn numbered(gate: Option<Gate>) -> (Arc<AtomicUsize>, Inside) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let inside = inside_settling(SETTLE, move |_| {
        let (number, gate) = (counted.fetch_add(1, SeqCst), gate.clone());
        async move {
            if let Some(gate) = gate {
                gate.pass().await;
            }
            let text = ["first", "second", "third", "fourth"][number];
            pieces(Response::builder().header("cache-tag", "site"), vec![Ok(text)])
        }
    });
    (count, inside)
}

async fn invalidate_tag(inside: &Inside) {
    inside.invalidations.submit(Record { tags: vec!["site".into()], ..Record::default() }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_way_to_name_a_page_makes_it_settle() {
    let target = || Target { host: None, path: "/a/".into() };
    let records = [
        Record { paths: vec![target()], ..Record::default() },
        Record { prefixes: vec![Target { path: "/".into(), ..target() }], ..Record::default() },
        Record { tags: vec!["site".into()], ..Record::default() },
        Record { all: true, ..Record::default() },
        Record { paths: vec![target()], soft: true, ..Record::default() },
    ];
    for record in records {
        let (_, inside) = numbered(None);
        inside.invalidations.submit(record.clone()).await.unwrap();
        assert_eq!(inside.get("/a/").await.detail(), Some("settling"), "{record:?}");
        sleep(SETTLE * 2).await;
        assert_eq!(inside.get("/a/").await.outcome(), "miss", "{record:?}");
    }
    let (_, inside) = numbered(None);
    inside.invalidate("/b/").await;
    assert_eq!(inside.get("/a/").await.outcome(), "miss", "another page need not wait");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_asks_the_origin_once_while_the_page_settles() {
    let gate = Gate::default();
    let (count, inside) = numbered(Some(gate.clone()));
    inside.invalidate("/").await;
    let visit = || {
        let inside = inside.clone();
        tokio::spawn(async move { inside.get("/").await })
    };
    let mut crowd = vec![visit()];
    gate.arrival().await;
    // Each of them comes at another time within it, and records of other pages come and go.
    for _ in 0..50 {
        inside.invalidate("/other").await;
        sleep(SETTLE / 100).await;
        crowd.push(visit());
    }
    sleep(SETTLE / 100).await;
    gate.open();
    let mut outcomes = Vec::new();
    for visitor in crowd {
        let answer = visitor.await.unwrap();
        assert_eq!((answer.text(), answer.detail()), ("first", Some("settling")));
        outcomes.push(answer.outcome());
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "collapsed").count(), 50, "{outcomes:?}");
    assert_eq!((count.load(SeqCst), inside.refused("settling")), (1, 1));
}

/// Fails when `Flight::admits` asks for `as_of` alone, and, for the tag, when `Seat::was_overtaken` does.
#[tokio::test(start_paused = true)]
async fn who_comes_when_the_time_is_over_joins_no_flight_that_began_within_it() {
    for by_tag in [false, true] {
        let gate = Gate::default();
        let (count, inside) = numbered(Some(gate.clone()));
        if by_tag {
            invalidate_tag(&inside).await
        } else {
            inside.invalidate("/").await
        }
        let early = tokio::spawn({
            let inside = inside.clone();
            async move { inside.get("/").await }
        });
        gate.arrival().await;
        sleep(SETTLE * 2).await;
        let late = tokio::spawn({
            let inside = inside.clone();
            async move { inside.get("/").await }
        });
        if by_tag {
            // It joins the first flight, until the tags are known.
            sleep(Duration::from_millis(10)).await;
        } else {
            // It asks for itself, while the first still waits.
            gate.arrival().await;
        }
        gate.open();
        let (early, late) = (early.await.unwrap(), late.await.unwrap());
        assert_eq!((early.text(), early.detail()), ("first", Some("settling")), "by tag: {by_tag}");
        assert_eq!((late.text(), late.outcome()), ("second", "miss"), "by tag: {by_tag}");
        assert_eq!((inside.get("/").await.outcome(), count.load(SeqCst)), ("hit", 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_soft_page_is_served_until_what_replaces_it_can_be_kept() {
    let (count, inside) = numbered(None);
    assert_eq!(inside.get("/").await.outcome(), "miss");
    inside.settled().await;
    let paths = vec![Target { host: None, path: "/".into() }];
    inside.invalidations.submit(Record { paths, soft: true, ..Record::default() }).await.unwrap();
    for _ in 0..9 {
        let answer = inside.get("/").await;
        assert_eq!((answer.text(), answer.detail()), ("first", Some("soft")));
        sleep(SETTLE / 10).await;
    }
    assert_eq!(count.load(SeqCst), 1, "what would be fetched would not be kept");
    sleep(SETTLE).await;
    assert_eq!(inside.get("/").await.text(), "first");
    inside.settled().await;
    let answer = inside.get("/").await;
    assert_eq!((answer.text(), answer.detail(), count.load(SeqCst)), ("second", Some("memory"), 2));
}

/// A site on a replica that lags by less than `SETTLE`, whose page shows how often it was changed.
struct Site {
    changes: Mutex<Vec<Instant>>,
    /// When the invalidation of each change was answered.
    answers: Mutex<Vec<Instant>>,
    random: Mutex<StdRng>,
}

impl Site {
    fn start(seed: u64) -> (Arc<Self>, Inside) {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let site = Arc::new(Site { changes: Mutex::default(), answers: Mutex::default(), random });
        let origin = Arc::clone(&site);
        let inside = inside_settling(SETTLE, move |_| {
            let (lag, rendering) = (origin.random(SETTLE), origin.random(SETTLE));
            let shown = since(&origin.changes, lag);
            async move {
                sleep(rendering).await;
                let text: &'static str = Box::leak(shown.to_string().into_boxed_str());
                pieces(Response::builder().header("cache-tag", "site"), vec![Ok(text)])
            }
        });
        (site, inside)
    }

    fn random(&self, most: Duration) -> Duration {
        most.mul_f64(self.random.lock().random())
    }

    /// Changes again and again; each change is invalidated in a way of its own.
    async fn change(self: Arc<Self>, inside: Inside) {
        for number in 0..10 {
            sleep(self.random(SETTLE * 3)).await;
            self.changes.lock().push(Instant::now());
            match number % 3 {
                0 => inside.invalidate("/").await,
                1 => invalidate_tag(&inside).await,
                _ => drop(inside.invalidations.submit(Record { all: true, ..Record::default() }).await.unwrap()),
            }
            self.answers.lock().push(Instant::now());
        }
    }

    /// Comes again and again; nobody who comes when all changes have settled sees the site without one of them, and nobody sees a kept page without one
    /// that was answered. Returns how the visits ended.
    async fn visit(self: Arc<Self>, inside: Inside) -> Vec<String> {
        let mut ends = Vec::new();
        for _ in 0..50 {
            sleep(self.random(SETTLE / 2)).await;
            let answered = self.answers.lock().len();
            let is_settled = since(&self.answers, SETTLE + Duration::from_millis(2)) == answered;
            let answer = inside.get("/").await;
            let shown: usize = answer.text().parse().unwrap();
            if is_settled || answer.outcome() == "hit" {
                assert!(shown >= answered, "{shown} changes of {answered}: {}", answer.cache_status());
            }
            ends.push(format!("{} {}", answer.outcome(), answer.detail().unwrap_or_default()));
        }
        ends
    }
}

/// How many of these are so long ago.
fn since(moments: &Mutex<Vec<Instant>>, ago: Duration) -> usize {
    moments.lock().iter().filter(|moment| moment.elapsed() >= ago).count()
}

/// Fails when a page that is settling is kept, when `Flight::admits` and when `Seat::was_overtaken` ask for `as_of` alone.
#[tokio::test(start_paused = true)]
async fn who_comes_when_everything_has_settled_sees_it_whatever_the_replica_did() {
    let mut ends = Vec::new();
    for seed in 0..100 {
        let (site, inside) = Site::start(seed);
        let changes = tokio::spawn(Arc::clone(&site).change(inside.clone()));
        let visitors: Vec<_> = (0..4).map(|_| tokio::spawn(Arc::clone(&site).visit(inside.clone()))).collect();
        for visitor in visitors {
            ends.extend(visitor.await.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
        }
        changes.await.unwrap();
    }
    for end in ["hit memory", "miss ", "refused settling", "collapsed settling", "collapsed "] {
        let count = ends.iter().filter(|ended| *ended == end).count();
        assert!(count > 100, "{count} times {end:?}: the site met too little");
    }
}
