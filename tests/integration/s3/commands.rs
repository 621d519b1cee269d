//! `everpage sweep` and `everpage export` against a server whose pages lie in a bucket, and how a server with a bucket tidies by itself.

use std::path::PathBuf;
use std::time::Duration;

use everpage::config::{Config, StoreKind};
use http::Method;
use serde_json::Value as Json;

use crate::cli::process::{PATIENCE, Ran, run};
use crate::support::{Answer, Ask, Origin, Proxy, TestBucket, on_each_server, origin, proxy};

on_each_server!(a_site_is_exported_and_swept_by_command, a_server_sweeps_by_itself, a_drain_ends_a_sweep_at_once,);

/// The app must outlive the test.
async fn site(bucket: &TestBucket, change: impl FnOnce(&mut Config)) -> (Origin, Proxy) {
    let origin = origin().page("/", "home").page("/blog/", "blog").start().await;
    let settings = bucket.settings();
    let on_bucket = |config: &mut Config| {
        config.hosts = Vec::new();
        config.store.kind = StoreKind::S3;
        config.store.s3 = settings;
        config.store.s3.sweep_rate = 1000;
        change(config);
    };
    let node = proxy().origin(&origin).set(on_bucket).start().await;
    (origin, node)
}

/// The command, while this thread goes on serving.
async fn command(node: &Proxy, words: &'static [&'static str]) -> Ran {
    let admin = format!("http://{}", node.admin);
    let task =
        tokio::task::spawn_blocking(move || run(&PathBuf::from("/"), &[words, &["--admin-url", &admin]].concat()));
    task.await.unwrap()
}

fn json(answer: &Answer) -> Json {
    serde_json::from_str(answer.text()).unwrap()
}

/// Waits until so many keys hold these words.
async fn until_keys(bucket: &TestBucket, words: &str, number: usize) {
    let wait = async {
        while bucket.keys().await.iter().filter(|key| key.contains(words)).count() != number {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("no {number} keys with {words}: {:?}", bucket.keys().await);
    }
}

async fn a_site_is_exported_and_swept_by_command(bucket: TestBucket) {
    let (_app, node) = site(&bucket, |config| config.store.s3.export = true).await;
    node.get("/").await;
    node.get("/blog/").await;
    until_keys(&bucket, "/export/", 2).await;
    let copies: Vec<_> = bucket.keys().await.into_iter().filter(|key| key.contains("/export/")).collect();
    assert!(copies[1].ends_with("/index.html") && copies[0].ends_with("/blog/index.html"), "{copies:?}");
    assert_eq!(bucket.read(&copies[0]).await.unwrap(), "blog");
    bucket.remove(&copies[0]).await;
    let told = command(&node, &["export"]).await.fine();
    assert!(told.contains("exported   2\n") && told.contains("default/export/<host>/"), "{told}");
    assert_eq!(bucket.read(&copies[0]).await.unwrap(), "blog");

    node.invalidate_path("/blog/").await;
    let dry = command(&node, &["sweep", "--dry-run"]).await.fine();
    assert!(dry.contains("can go         1 (invalidated 1)\n"), "{dry}");
    until_keys(&bucket, "/pages/", 2).await;
    let swept: Json = serde_json::from_str(&command(&node, &["sweep", "--json"]).await.fine()).unwrap();
    assert_eq!((&swept["deleted"], &swept["result"]), (&1.into(), &"done".into()), "{swept}");
    until_keys(&bucket, "/pages/", 1).await;
    assert_eq!(bucket.read(&copies[0]).await.unwrap(), "blog", "the last good one");
    let metrics = node.admin("/metrics").await.text().to_owned();
    assert!(metrics.contains("everpage_swept_total{reason=\"invalidated\"} 1\n"), "{metrics}");
    assert!(metrics.contains("everpage_store_objects 1\n"), "{metrics}");
    node.stop().await;
}

async fn a_server_sweeps_by_itself(bucket: TestBucket) {
    let (_app, node) = site(&bucket, |config| config.store.s3.sweep_interval = Duration::from_millis(100)).await;
    node.get("/").await;
    until_keys(&bucket, "/pages/", 1).await;
    node.invalidate_path("/").await;
    until_keys(&bucket, "/pages/", 0).await;
    node.stop().await;
}

async fn a_drain_ends_a_sweep_at_once(bucket: TestBucket) {
    // A request in each second: it would take several.
    let (_app, node) = site(&bucket, |config| config.store.s3.sweep_rate = 1).await;
    let begun = Ask::new(node.admin, Method::POST, "/sweep").host("localhost").send().await;
    assert_eq!((begun.status, &json(&begun)["started"]), (202.try_into().unwrap(), &true.into()));
    until_keys(&bucket, "/sweep/lock", 1).await;
    assert!(!json(&node.admin("/sweep").await)["running"].is_null());
    node.stop().await;
    let lock: Json = serde_json::from_slice(&bucket.read("default/sweep/lock").await.unwrap()).unwrap();
    assert_eq!(lock["holder"], "", "it was given back, and not left to be watched");
}
