//! One node on a server that lies, guarded by a lock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everpage::clock::Clock;
use everpage::config::Config;
use everpage::invalidation::journal::contract::{self, record};
use everpage::invalidation::journal::s3::{self, OpenError, S3Journal};
use everpage::invalidation::journal::{Journal, Recovered};
use everpage::server::Server;
use everpage::store::s3::bucket::Bucket;

use crate::support::{Fault, Gate, Liar, Lie, Link, Origin, Proxy, Refusal, Reply, TestBucket, origin, proxy};

const LEASE: Duration = Duration::from_millis(150);
const LIES: [Lie; 2] = [Lie::IgnoresConditions, Lie::LosesRaces];
const LOCK: &str = "default/journal/lock";
const HEAD: &str = "default/journal/head";

async fn liar(lie: Lie) -> (Liar, TestBucket) {
    let liar = Liar::start(lie).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    (liar, bucket)
}

type Opened = Result<(S3Journal, Recovered), OpenError>;

async fn open_alone(bucket: &TestBucket, endpoint: &str) -> Opened {
    let bucket = Bucket::open(&bucket.settings_through(endpoint)).await.expect("the bucket is there");
    s3::open_alone(bucket, "", LEASE, Clock::Wall, "the probe").await
}

async fn open_among_others(bucket: &TestBucket) -> Opened {
    let bucket = Bucket::open(&bucket.settings()).await.expect("the bucket is there");
    s3::open(bucket, "", LEASE, None, Clock::Wall).await
}

async fn app() -> Origin {
    let numbers = std::sync::atomic::AtomicUsize::new(0);
    let number = move || numbers.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    origin().otherwise(move |_| std::future::ready(Reply::new(number().to_string()))).start().await
}

fn on(bucket: &TestBucket) -> impl FnOnce(&mut Config) + use<> {
    let settings = bucket.settings();
    move |config| {
        config.store.kind = everpage::config::StoreKind::S3;
        config.store.s3 = settings;
        config.cluster.lease = LEASE;
    }
}

async fn node(bucket: &TestBucket, origin: &Origin) -> Proxy {
    proxy().origin(origin).set(on(bucket)).start().await
}

/// Why a node does not start.
async fn refusal(bucket: &TestBucket) -> String {
    let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    config.admin.listen = "127.0.0.1:0".parse().unwrap();
    on(bucket)(&mut config);
    match Server::bind(config).await {
        Ok(_) => panic!("it starts"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn a_second_node_is_refused_by_a_message_that_names_the_probe_and_the_first_goes_on() {
    for lie in LIES {
        let (_liar, bucket) = liar(lie).await;
        let app = app().await;
        let first = node(&bucket, &app).await;
        first.get("/").await;
        let refused = refusal(&bucket).await;
        for words in ["create-if-absent", LOCK, "Stop that one", "conditional writes"] {
            assert!(refused.contains(words), "{lie:?}: {words} is missing in: {refused}");
        }
        assert_eq!(first.revisit("/").await.outcome(), "hit");
        assert_eq!(first.invalidate_path("/").await["nodes"], 1);
        first.stop().await;
    }
}

#[tokio::test]
async fn of_two_that_start_at_once_one_is_refused() {
    for lie in LIES {
        let (_liar, bucket) = liar(lie).await;
        let (one, other) = tokio::join!(open_alone(&bucket, &bucket.endpoint), open_alone(&bucket, &bucket.endpoint));
        assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
        let (winner, loser) = if one.is_ok() { (one, other) } else { (other, one) };
        let error = loser.expect_err("it has lost");
        assert!(matches!(error, OpenError::Alone { .. }), "{error}");
        let (journal, _) = winner.unwrap();
        journal.append(&[record(1)]).await.expect("the one that is left may write");
    }
}

#[tokio::test]
async fn a_lone_node_keeps_its_promises_over_stop_and_kill() {
    for lie in LIES {
        let (_liar, bucket) = liar(lie).await;
        let app = app().await;
        let first = node(&bucket, &app).await;
        first.get("/a").await;
        first.get("/b").await;
        assert_eq!(first.revisit("/a").await.outcome(), "hit");
        first.invalidate_path("/a").await;
        first.assert_new("/a", "2").await;
        first.stop().await;
        assert_eq!(bucket.read(LOCK).await, None, "the lock is given back");

        let second = node(&bucket, &app).await;
        assert_eq!((second.get("/a").await.outcome(), second.get("/b").await.outcome()), ("hit", "hit"));
        second.invalidate_path("/b").await;
        let (lock, head) = (bucket.read(LOCK).await.unwrap(), bucket.read(HEAD).await.unwrap());
        second.stop().await;
        // What kill -9 leaves.
        bucket.plant(LOCK, lock).await;
        bucket.plant(HEAD, head).await;

        let third = node(&bucket, &app).await;
        assert_eq!(third.get("/a").await.outcome(), "hit");
        third.assert_new("/b", "3").await;
        third.stop().await;
    }
}

#[tokio::test]
async fn an_owner_whose_lock_was_overwritten_serves_nothing_from_the_cache_and_claims_nothing() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    let app = app().await;
    let owner = node(&bucket, &app).await;
    owner.get("/").await;
    assert_eq!(owner.revisit("/").await.outcome(), "hit");
    let mine = bucket.read(LOCK).await.unwrap();
    // Until no renewal was under way that could put it back.
    let mut tries = 0;
    loop {
        bucket.plant(LOCK, "the lock of somebody else").await;
        tokio::time::sleep(LEASE * 3).await;
        if bucket.read(LOCK).await.unwrap() == "the lock of somebody else" {
            break;
        }
        tries += 1;
        assert!(tries < 20, "the owner goes on renewing");
    }
    assert_ne!(owner.get("/").await.outcome(), "hit");
    assert_eq!(owner.post_invalidate(serde_json::json!({"paths": ["/"]})).await.status, 503);
    // It does not come back by itself: nobody knows what the other one has done.
    bucket.plant(LOCK, mine).await;
    tokio::time::sleep(LEASE * 2).await;
    assert_ne!(owner.get("/").await.outcome(), "hit");
}

/// A node that others take for dead: what it sends to the lock is refused.
async fn silent(bucket: &TestBucket) -> (Link, Arc<S3Journal>) {
    let link = Link::to(&bucket.endpoint).await;
    let (journal, _) = open_alone(bucket, &link.url()).await.expect("a journal opens");
    journal.append(&[record(1)]).await.expect("appends");
    link.next(usize::MAX, |asked| asked.is("PUT", LOCK), Fault::Refuse(Refusal::InternalError));
    (link, Arc::new(journal))
}

#[tokio::test]
async fn an_append_that_was_held_up_over_a_take_over_is_not_claimed() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    let (link, old) = silent(&bucket).await;
    let gate = Gate::default();
    link.next(1, |asked| asked.is("PUT", HEAD), Fault::HoldRequest(gate.clone()));
    let appending = tokio::spawn({
        let old = Arc::clone(&old);
        async move { old.append(&[record(2)]).await }
    });
    let (new, recovered) = open_alone(&bucket, &bucket.endpoint).await.expect("takes over");
    assert_eq!(recovered.records.len(), 1);
    gate.open();
    appending.await.unwrap().expect_err("somebody else has the lock");
    // The late write lies over the new owner's head, which sees it.
    let error = new.look().await.expect_err("it is not what it wrote").to_string();
    assert!(error.contains("another node has written it"), "{error}");
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_in_the_journal_once() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    let link = Link::to(&bucket.endpoint).await;
    let (journal, _) = open_alone(&bucket, &link.url()).await.expect("a journal opens");
    let refused = Fault::Refuse(Refusal::InternalError);
    // The write is carried out, and all that would tell so fails for a while.
    link.next(1, |asked| asked.is("PUT", HEAD), Fault::LoseAnswer);
    link.next(4, |asked| asked.is("PUT", HEAD), refused);
    assert_eq!(journal.append(&[record(1)]).await.expect("appends").last.0, 1);
    assert_eq!(journal.append(&[record(2)]).await.expect("appends").last.0, 2);
    journal.leave().await.expect("leaves");
    assert_eq!(open_alone(&bucket, &bucket.endpoint).await.expect("a journal opens").1.records.len(), 2);
}

#[tokio::test]
async fn where_a_late_renewal_gives_the_lock_back_nobody_relies_on_it() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    let (_link, old) = silent(&bucket).await;
    let stale = bucket.read(LOCK).await.unwrap();
    let (new, _) = open_alone(&bucket, &bucket.endpoint).await.expect("takes over");
    // A renewal of the new one that was under way may put it back.
    let mut tries = 0;
    loop {
        bucket.plant(LOCK, stale.clone()).await;
        if new.look().await.is_err() {
            break;
        }
        tries += 1;
        assert!(tries < 20, "it relies on a lock that is the old one's");
    }
    new.append(&[record(2)]).await.expect_err("the lock is the old one's");
    old.look().await.expect_err("the head is the new one's");
}

#[tokio::test]
async fn a_node_that_takes_the_server_for_an_honest_one_is_noticed() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    let (other, _) = open_among_others(&bucket).await.expect("a journal opens");
    let serving = tokio::spawn(async move {
        loop {
            other.look().await.expect("looks");
            tokio::time::sleep(LEASE / 3).await;
        }
    });
    let error = open_alone(&bucket, &bucket.endpoint).await.expect_err("somebody lives").to_string();
    assert!(error.contains("another node has written it"), "{error}");
    assert_eq!(bucket.read(LOCK).await, None, "the lock is given back");
    serving.abort();
    let _ = serving.await;
    open_alone(&bucket, &bucket.endpoint).await.expect("nobody comes back");
}

#[tokio::test]
async fn who_joins_others_makes_sure_that_nobody_writes_alone() {
    let (_liar, bucket) = liar(Lie::None).await;
    let (lone, _) = open_alone(&bucket, &bucket.endpoint).await.expect("a journal opens");
    lone.append(&[record(1)]).await.expect("appends");
    let error = open_among_others(&bucket).await.expect_err("somebody lives").to_string();
    assert!(error.contains(LOCK) && error.contains("Stop it"), "{error}");
    drop(lone);
    let (_journal, recovered) = open_among_others(&bucket).await.expect("nobody renews it");
    assert_eq!(recovered.records.len(), 1);
    assert_eq!(bucket.read(LOCK).await, None);
}

struct Place(TestBucket, String);

#[async_trait]
impl contract::Place for Place {
    async fn open(&self) -> (Arc<dyn Journal>, Recovered) {
        let settings = everpage::config::S3Store { location: self.1.clone(), ..self.0.settings() };
        let bucket = Bucket::open(&settings).await.expect("the bucket is there");
        // Each opening watches the lock of the one before.
        let lease = Duration::from_millis(100);
        let opened = s3::open_alone(bucket, "shop", lease, Clock::Wall, "the probe").await;
        let (journal, recovered) = opened.expect("a journal opens");
        (Arc::new(journal), recovered)
    }
}

#[tokio::test]
async fn it_keeps_the_contract_of_every_journal() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    let fresh = || Place(bucket.clone(), uuid::Uuid::new_v4().to_string());
    contract::every_journal(fresh).await;
    contract::durable_journal(fresh).await;
}

#[tokio::test]
async fn an_append_does_not_overwrite_what_somebody_else_has_written() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    let (journal, _) = open_alone(&bucket, &bucket.endpoint).await.expect("a journal opens");
    let other = bucket.read(HEAD).await.unwrap();
    journal.append(&[record(1)]).await.expect("appends");
    bucket.plant(HEAD, other.clone()).await;
    journal.append(&[record(2)]).await.expect_err("it is not what this node wrote");
    assert_eq!(bucket.read(HEAD).await.unwrap(), other);
}
