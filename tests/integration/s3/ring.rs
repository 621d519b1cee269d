//! Nodes on one bucket tell each other of invalidations at once; who does not answer is waited for.
//!
//! The lease is the longest there is, so that an answer which comes in time did not wait for it.

use std::time::Duration;

use everpage::config::Config;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::{Instant, timeout};

use crate::support::{Ask, Origin, Proxy, Reply, TestBucket, on_each_server, origin, proxy};

const LEASE: Duration = Duration::from_secs(10);

on_each_server!(
    an_answer_does_not_wait_for_nodes_that_answer_the_ring,
    a_node_that_cannot_be_rung_is_waited_for,
    an_address_that_belongs_to_another_node_is_no_answer,
    only_who_can_read_the_journal_may_ring,
);

async fn app() -> Origin {
    let numbers = std::sync::atomic::AtomicUsize::new(0);
    let number = move || numbers.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    origin().otherwise(move |_| std::future::ready(Reply::new(number().to_string()))).start().await
}

async fn node(bucket: &TestBucket, origin: &Origin, change: impl FnOnce(&mut Config)) -> Proxy {
    let settings = bucket.settings();
    let on_bucket = |config: &mut Config| {
        config.store.kind = everpage::config::StoreKind::S3;
        config.store.s3 = settings;
        config.cluster.lease = LEASE;
        change(config);
    };
    proxy().origin(origin).set(on_bucket).start().await
}

/// The page is at hand on both.
async fn filled(here: &Proxy, there: &Proxy) {
    for node in [here, there] {
        node.get("/").await;
        node.revisit("/").await;
        assert_eq!(node.get("/").await.outcome(), "hit");
    }
}

async fn an_answer_does_not_wait_for_nodes_that_answer_the_ring(bucket: TestBucket) {
    let app = app().await;
    let (here, there) = (node(&bucket, &app, |_| {}).await, node(&bucket, &app, |_| {}).await);
    for round in 1..=5 {
        filled(&here, &there).await;
        let (one, other) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let answer = timeout(LEASE / 2, one.invalidate_path("/")).await.expect("nobody's lease is waited for");
        assert_eq!((&answer["nodes"], &answer["sequence"]), (&json!(2), &json!(round)));
        assert_ne!(other.get("/").await.outcome(), "hit", "round {round}");
    }
    here.stop().await;
    there.stop().await;
}

async fn a_node_that_cannot_be_rung_is_waited_for(bucket: TestBucket) {
    let app = app().await;
    let here = node(&bucket, &app, |_| {}).await;
    let nowhere = |config: &mut Config| config.cluster.node_url = Some("http://127.0.0.1:1".parse().unwrap());
    let there = node(&bucket, &app, nowhere).await;
    filled(&here, &there).await;
    let started = Instant::now();
    here.invalidate_path("/").await;
    assert!(started.elapsed() >= LEASE);
    assert_ne!(there.get("/").await.outcome(), "hit");
    here.stop().await;
    there.stop().await;
}

async fn an_address_that_belongs_to_another_node_is_no_answer(bucket: TestBucket) {
    let app = app().await;
    let here = node(&bucket, &app, |_| {}).await;
    // As two nodes on two machines have it whose admin listeners are on loopback.
    let mine = format!("http://{}", here.admin);
    let there = node(&bucket, &app, |config| config.cluster.node_url = Some(mine.parse().unwrap())).await;
    filled(&here, &there).await;
    let started = Instant::now();
    here.invalidate_path("/").await;
    assert!(started.elapsed() >= LEASE, "it rang itself");
    here.stop().await;
    there.stop().await;
}

async fn only_who_can_read_the_journal_may_ring(bucket: TestBucket) {
    let app = app().await;
    let here = node(&bucket, &app, |config| config.admin.token = everpage::config::Secret::new("token".into())).await;
    let head = bucket.read("default/journal/head").await.expect("there is a head");
    let head = std::str::from_utf8(&head).unwrap().split_once('\n').unwrap().1;
    let head: Value = serde_json::from_str(head).unwrap();
    let (id, _) = head["members"].as_object().unwrap().iter().next().unwrap();
    let ring = async |secret: &str, node: &str| {
        let journal = head["journal"].as_str().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("ring\n{journal}\n{node}\n0\nonce").as_bytes());
        let proof = hex::encode(mac.finalize().into_bytes());
        let call = json!({"journal": journal, "node": node, "sequence": 0, "nonce": "once", "proof": proof});
        let ask = Ask::new(here.admin, Method::POST, "/internal/ring").header("content-type", "application/json");
        ask.body(call.to_string()).send().await
    };
    assert_eq!(ring("token", id).await.status, 401);
    assert_eq!(ring("", id).await.status, 401);
    let secret = head["secret"].as_str().unwrap();
    assert_eq!(ring(secret, "somebody else").await.status, 409);
    let answer = ring(secret, id).await;
    let heard: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status.as_u16(), &heard["node"], &heard["applied"]), (200, &json!(id), &json!(0)));
    assert!(!answer.text().contains(secret));
    here.stop().await;
}
