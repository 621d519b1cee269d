//! S3 is gone, slow, or refuses: requests go on, nothing old is served, nobody waits long, and it is said in plain words. When S3 is back, so are the pages.

use std::time::Duration;

use everpage::config::OnStoreOutage;
use http::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Fault, Link, Origin, Proxy, Refusal, Server, TestBucket, gather_warnings, origin, proxy, run_on_s3,
    warnings_with,
};

/// How long pages in memory are served without a look.
const LEASE: Duration = Duration::from_millis(300);

/// A site whose pages are counted, a node before it, and its link to the bucket.
struct Site {
    origin: Origin,
    link: Link,
    proxy: Proxy,
}

async fn site(bucket: &TestBucket, on_outage: OnStoreOutage) -> Site {
    let origin = origin().counted("/").counted("/other").counted("/new").start().await;
    let link = Link::to(&bucket.endpoint).await;
    let proxy = proxy().origin(&origin).on_s3_through(bucket, &link).set(|config| {
        config.cluster.lease = LEASE;
        config.cluster.on_store_outage = on_outage;
    });
    Site { proxy: proxy.start().await, origin, link }
}

impl Site {
    /// With `/` in memory and in the bucket.
    async fn filled(bucket: &TestBucket, on_outage: OnStoreOutage) -> Site {
        let site = site(bucket, on_outage).await;
        assert_eq!(site.proxy.get("/").await.text(), "v1");
        site.proxy.written(1).await;
        assert_eq!(site.proxy.get("/").await.outcome(), "hit");
        site
    }

    async fn hit(&self) -> bool {
        self.proxy.get("/").await.outcome() == "hit"
    }

    async fn json(&self, target: &str) -> Value {
        let answer = self.proxy.admin(target).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn metric(&self, name: &str) -> u64 {
        metric(&self.proxy, name).await
    }
}

pub(super) async fn metric(proxy: &Proxy, name: &str) -> u64 {
    let metrics = proxy.admin("/metrics").await;
    let value = metrics.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// Asks until it is so.
pub(super) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn assert_past(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.detail()), (200, Some("journal-outage")), "{}", answer.cache_status());
}

/// Fails when `Lease::is_current` always says yes, and when what opened the breaker is not said in words.
async fn through_an_outage(bucket: TestBucket, fault: Fault, words: &str) {
    gather_warnings();
    let site = Site::filled(&bucket, OnStoreOutage::Origin).await;
    site.link.set(fault.clone()).await;
    until("the lease runs out", async || !site.hit().await).await;
    let started = tokio::time::Instant::now();
    let before = site.origin.hits("/");
    for visit in 1..=50 {
        let answer = site.proxy.get("/").await;
        assert_past(&answer);
        assert_eq!(answer.text(), format!("v{}", before + visit), "as the origin has it now");
        assert_past(&site.proxy.get("/other").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Had each of them waited for S3 once, it would have taken a minute.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    until("an outage of a second", async || site.metric("everpage_journal_outage_seconds").await > 0).await;
    for place in ["/readyz", "/status"] {
        let degraded = site.json(place).await["degraded"].as_str().unwrap_or_default().to_owned();
        for said in ["the journal has been out of reach for", "pages come from the origin", words] {
            assert!(degraded.contains(said), "{place} does not say {said:?}: {degraded}");
        }
        assert!(!degraded.contains("SECRET"), "{degraded}");
    }
    assert_eq!(site.json("/readyz").await["ready"], true);
    let said = warnings_with(&["the journal cannot be looked at", "everpage", &site.link.url()]);
    assert!(said.len() == 1 || !words.contains("http"), "once is enough: {said:#?}");
    site.link.set(Fault::None).await;
    until("pages come from the cache again", async || site.hit().await).await;
    assert_eq!(site.proxy.get("/").await.text(), "v1", "nothing has named it");
    assert!(site.json("/readyz").await["degraded"].is_null());
    assert_eq!(site.metric("everpage_journal_outage_seconds").await, 0);
}

#[test]
fn visitors_are_served_by_the_origin_while_the_bucket_is_cut_off() {
    run_on_s3(Server::Rgw, async |bucket| {
        through_an_outage(bucket, Fault::Cut, "nothing listens there: check store.s3.endpoint_url").await;
    });
}

#[test]
fn visitors_are_served_by_the_origin_while_the_bucket_does_not_answer() {
    run_on_s3(Server::Rgw, async |bucket| through_an_outage(bucket, Fault::BlackHole, "in time").await);
}

#[test]
fn visitors_are_served_by_the_origin_while_the_bucket_takes_too_long() {
    let slow = Fault::Slow { first_byte: Duration::from_secs(4), bytes_per_second: 1000 };
    run_on_s3(Server::Rgw, async |bucket| through_an_outage(bucket, slow, "in time").await);
}

#[test]
fn visitors_are_served_by_the_origin_while_the_bucket_asks_for_patience() {
    let refused = Fault::Refuse(Refusal::SlowDown);
    run_on_s3(Server::Moto, async |bucket| through_an_outage(bucket, refused, "lower store.s3.max_requests").await);
}

#[test]
fn visitors_are_served_by_the_origin_while_the_keys_have_expired() {
    let refused = Fault::Refuse(Refusal::ExpiredToken);
    run_on_s3(Server::Rgw, async |bucket| {
        through_an_outage(bucket, refused, "have expired: renew them").await;
    });
}

#[test]
fn visitors_are_served_by_the_origin_while_the_clock_is_wrong() {
    let refused = Fault::Refuse(Refusal::RequestTimeTooSkewed);
    run_on_s3(Server::Moto, async |bucket| {
        through_an_outage(bucket, refused, "s behind the server's: set it right").await;
    });
}

/// What it was cannot be known: another may have been made and removed meanwhile. A restart begins a new journal.
#[test]
fn a_bucket_that_is_deleted_and_made_again_revives_nothing() {
    run_on_s3(Server::Rgw, async |bucket| {
        let site = Site::filled(&bucket, OnStoreOutage::Origin).await;
        bucket.destroy().await;
        until("the lease runs out", async || !site.hit().await).await;
        assert_past(&site.proxy.get("/").await);
        let said = site.json("/readyz").await["degraded"].to_string();
        assert!(said.contains(&bucket.name) && said.contains("no such bucket"), "{said}");
        bucket.client.create_bucket().bucket(&bucket.name).send().await.unwrap();
        let restarts = async || site.json("/readyz").await["degraded"].to_string().contains("restart everpage");
        until("it says what to do", async || {
            assert_past(&site.proxy.get("/").await);
            restarts().await
        })
        .await;
        let Site { origin, proxy, .. } = site;
        let next = origin.hits("/") + 1;
        let proxy = proxy.restart(&origin).await;
        proxy.assert_new("/", &format!("v{next}")).await;
    });
}

/// Availability over freshness: what is at hand goes on, and what is not comes from the origin and is at hand then.
#[test]
fn with_serve_pages_go_on_through_an_outage() {
    run_on_s3(Server::Rgw, async |bucket| {
        let site = Site::filled(&bucket, OnStoreOutage::Serve).await;
        site.link.set(Fault::BlackHole).await;
        until("an outage", async || {
            assert!(site.hit().await);
            !site.json("/readyz").await["degraded"].is_null()
        })
        .await;
        let said = site.json("/status").await["degraded"].to_string();
        assert!(said.contains("pages may be older than their invalidation"), "{said}");
        let new = site.proxy.get("/new").await;
        assert_eq!((new.outcome(), new.text()), ("miss", "v1"));
        for _ in 0..20 {
            assert_eq!((site.proxy.get("/").await.text(), site.proxy.get("/new").await.text()), ("v1", "v1"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((site.origin.hits("/"), site.origin.hits("/new")), (1, 1));
    });
}

/// Fails when `commit` applies or numbers what was not made durable.
#[test]
fn an_invalidation_during_an_outage_is_refused_and_has_no_half_effect() {
    run_on_s3(Server::Rgw, async |bucket| {
        let site = Site::filled(&bucket, OnStoreOutage::Serve).await;
        assert_eq!(site.proxy.invalidate_path("/unrelated").await["sequence"], 1);
        site.link.set(Fault::Cut).await;
        let body = json!({"paths": ["/"], "id": "order-7"});
        let answer = site.proxy.post_invalidate(body.clone()).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        assert!(answer.text().contains("try again with the same id"), "{}", answer.text());
        assert!(site.hit().await, "nothing was promised, nothing was done");
        site.link.set(Fault::None).await;
        let mut sequence = 0;
        until("it is durable", async || {
            let answer = site.proxy.post_invalidate(body.clone()).await;
            let said: Value = serde_json::from_slice(&answer.body).unwrap();
            sequence = said["sequence"].as_u64().unwrap_or_default();
            answer.status == 200
        })
        .await;
        assert_eq!(sequence, 2);
        site.proxy.assert_new("/", "v2").await;
        assert_eq!(site.proxy.invalidate(body).await["sequence"], 2, "one record");
        let Site { origin, proxy, .. } = site;
        let proxy = proxy.restart(&origin).await;
        assert_eq!(proxy.invalidate_path("/unrelated").await["sequence"], 3);
    });
}

/// The app has changed, whatever S3 says. Fails when `invalidate_own_path` calls `submit` instead of `submit_change`, and when a known outage does not spare
/// visitors the wait for it.
#[test]
fn a_change_through_the_proxy_during_an_outage_counts_here_at_once_and_everywhere_later() {
    run_on_s3(Server::Rgw, async |bucket| {
        let site = Site::filled(&bucket, OnStoreOutage::Serve).await;
        let other = proxy().origin(&site.origin).on_s3(&bucket).set(|config| config.cluster.lease = LEASE);
        let other = other.start().await;
        assert_eq!(other.get("/").await.text(), "v1");
        site.link.set(Fault::BlackHole).await;
        until("an outage", async || {
            site.hit().await;
            !site.json("/readyz").await["degraded"].is_null()
        })
        .await;
        let started = tokio::time::Instant::now();
        assert_eq!(site.proxy.ask(Method::POST, "/").send().await.text(), "v2");
        assert_eq!(site.proxy.get("/").await.text(), "v3");
        assert!(started.elapsed() < Duration::from_secs(5), "a visitor has waited {:?}", started.elapsed());
        assert!(site.metric("everpage_invalidation_failures_total").await > 0);
        site.link.set(Fault::None).await;
        until("the other node has heard of it", async || other.get("/").await.text() != "v1").await;
        let records = site.json("/invalidations").await.to_string();
        assert_eq!(records.matches("\"/\"").count(), 1, "one change, one record: {records}");
    });
}

/// The disk is a tier of S3: what it has is served while the journal is known, although S3 gives no page; and not beyond.
#[test]
fn the_disk_cache_serves_what_it_has_as_long_as_the_journal_is_known() {
    run_on_s3(Server::Rgw, async |bucket| {
        let (origin, link) = (origin().counted("/").counted("/other").start().await, Link::to(&bucket.endpoint).await);
        let proxy = proxy().origin(&origin).on_s3_through(&bucket, &link).disk_cache().set(|config| {
            config.memory.capacity = 0;
            config.cluster.lease = LEASE;
        });
        let proxy = proxy.start().await;
        assert_eq!(proxy.get("/").await.text(), "v1");
        proxy.written(1).await;
        until("it is on the disk", async || proxy.pages().len() == 1).await;
        link.next(usize::MAX, |passing| passing.target.contains("/pages/"), Fault::Refuse(Refusal::InternalError));
        for _ in 0..3 {
            assert_eq!((proxy.get("/").await.outcome(), proxy.get("/").await.text()), ("hit", "v1"));
            tokio::time::sleep(LEASE / 2).await;
        }
        // What the disk does not have comes from the origin, and is on the disk then.
        assert_eq!(proxy.get("/other").await.text(), "v1");
        until("it is on the disk too", async || proxy.pages().len() == 2).await;
        proxy.invalidate(json!({"prefixes": ["/other"]})).await;
        assert_eq!(proxy.get("/other").await.text(), "v2", "what lies on the disk is judged");
        link.set(Fault::Cut).await;
        until("the lease runs out", async || proxy.get("/").await.outcome() != "hit").await;
        assert_past(&proxy.get("/").await);
        link.forget_plans();
        link.set(Fault::None).await;
        until("it is back", async || proxy.get("/").await.outcome() == "hit").await;
    });
}
