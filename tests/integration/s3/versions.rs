//! A node of this version beside one of the next, as in a deploy that rolls; and nodes of two values of `cache.version`, or two flavors, on one bucket.
//!
//! The next version is played by the test: it reads and writes the journal as that one would, with the SDK alone.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use everpage::config::{Config, OnStoreOutage, StoreKind};
use everpage::server::Server as Everpage;
use serde_json::{Value, json};

use crate::support::{Origin, Proxy, TestBucket, on_each_server, origin, proxy};

const LEASE: Duration = Duration::from_millis(300);
const HEAD: &str = "default/journal/head";

on_each_server!(
    what_the_next_version_adds_is_kept_and_what_it_invalidates_is_gone,
    what_the_next_version_says_outlives_the_head_that_said_it,
    a_snapshot_of_the_next_version_invalidates_everything_up_to_it,
    a_head_that_is_not_understood_ends_serving_and_starts,
    a_version_that_is_raised_on_one_node_first_serves_on_both,
    flavors_do_not_disturb_each_other,
);

/// A node of the next version. It joins, appends and waits as its protocol tells it; like any older or newer one it keeps what it does not know.
struct Next {
    bucket: TestBucket,
}

impl Next {
    async fn join(bucket: &TestBucket) -> Self {
        let next = Next { bucket: bucket.clone() };
        next.swap(|head| {
            head["layout"] = json!({"shards": [1, 2], "since": u64::MAX});
            Next::enter(head);
        })
        .await;
        next
    }

    /// Its fields are its own: another node that lets it join again could not know them.
    fn enter(head: &mut Value) {
        head["members"]["next"] = json!({"epoch": word(), "lease_ms": 300, "joined": 0, "zone": "b"});
    }

    /// The head as it lies there, and its entity tag.
    async fn head(&self) -> (Value, String) {
        let found = self.bucket.client.get_object().bucket(&self.bucket.name).key(HEAD).send().await.unwrap();
        let tag = found.e_tag.clone().unwrap();
        let bytes = found.body.collect().await.unwrap().into_bytes();
        let content = bytes.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
        (serde_json::from_slice(content).unwrap(), tag)
    }

    /// Compare-and-swap, until it has won. Ceph takes an entity tag without its quotes only, others with them.
    async fn swap(&self, mut change: impl FnMut(&mut Value)) {
        for attempt in 0..100 {
            let (mut head, quoted) = self.head().await;
            let tag = if attempt % 2 == 0 { quoted } else { quoted.trim_matches('"').to_owned() };
            change(&mut head);
            head["nonce"] = json!(word());
            let body = ByteStream::from(sealed("journal-head", head.to_string().as_bytes()));
            let put = self.bucket.client.put_object().bucket(&self.bucket.name).key(HEAD);
            if put.if_match(tag).body(body).send().await.is_ok() {
                return;
            }
        }
        panic!("others change the head all the time");
    }

    /// Makes a record durable, and returns when no node can serve what it knew before: then its invalidation is answered.
    async fn append(&self, record: Value) {
        self.swap(|head| {
            let first = head["sequence"].as_u64().unwrap() + 1;
            head["sequence"] = json!(first);
            let batch = json!({
                "first": first, "token": word(), "records": [record], "bytes": record.to_string().len(), "by": "next",
            });
            head["batches"].as_array_mut().unwrap().push(batch);
            if head["members"]["next"].is_null() || !head["members"]["next"]["passed_over"].is_null() {
                Next::enter(head);
            }
        })
        .await;
        tokio::time::sleep(LEASE + LEASE / 4).await;
    }
}

fn word() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// An object of the journal in the form of this version.
fn sealed(kind: &str, content: &[u8]) -> Vec<u8> {
    let line = format!("everpage/1 {kind} {} {:08x}\n", content.len(), crc32fast::hash(content));
    [line.as_bytes(), content].concat()
}

async fn site() -> Origin {
    origin().counted("/a").counted("/b").start().await
}

async fn node(bucket: &TestBucket, origin: &Origin) -> Proxy {
    proxy().origin(origin).on_s3(bucket).set(|config| config.cluster.lease = LEASE).start().await
}

/// Both pages are in the cache, whatever was there before.
async fn fill(node: &Proxy) {
    for path in ["/a", "/b"] {
        node.get(path).await;
        assert_eq!(node.revisit(path).await.outcome(), "hit");
    }
}

/// What is not in the cache any more; it is afterwards.
async fn gone(node: &Proxy) -> Vec<&'static str> {
    let mut gone = Vec::new();
    for path in ["/a", "/b"] {
        match node.get(path).await.outcome() {
            "hit" => {}
            "miss" => gone.push(path),
            other => panic!("{path}: {other}"),
        }
    }
    fill(node).await;
    gone
}

async fn what_the_next_version_adds_is_kept_and_what_it_invalidates_is_gone(bucket: TestBucket) {
    let origin = site().await;
    let node = node(&bucket, &origin).await;
    let next = Next::join(&bucket).await;
    fill(&node).await;
    let unknown = [
        json!({"at": 1, "globs": ["/x*"]}),
        json!({"at": 1, "paths": [{"path": "/x", "query": "page=2"}]}),
        json!({"at": 1, "tags": ["x"], "soft": "until tomorrow"}),
        json!("everything made of sugar"),
    ];
    for (round, record) in unknown.iter().enumerate() {
        next.append(json!({"at": 1, "paths": [{"path": "/a"}]})).await;
        assert_eq!(gone(&node).await, ["/a"], "round {round}: what both know is exact");
        next.append(record.clone()).await;
        assert_eq!(gone(&node).await, ["/a", "/b"], "nobody knows what {record} names");
        let answer = node.invalidate_path("/b").await;
        assert_eq!(answer["sequence"], 3 * (round as u64 + 1), "both count in one journal: {answer}");
        assert_eq!(gone(&node).await, ["/b"]);
    }
    let (head, _) = next.head().await;
    assert_eq!(head["layout"], json!({"shards": [1, 2], "since": u64::MAX}));
    assert_eq!(head["members"]["next"]["zone"], "b");
    let batches = head["batches"].as_array().unwrap();
    let theirs: Vec<_> =
        batches.iter().filter(|batch| batch["by"] == "next").map(|batch| &batch["records"][0]).collect();
    assert_eq!(theirs.len(), 2 * unknown.len(), "{head:#}");
    for (place, record) in unknown.iter().enumerate() {
        assert_eq!(theirs[2 * place + 1], record, "as it was written");
    }
    node.stop().await;
    assert_eq!(next.head().await.0["members"].as_object().unwrap().keys().collect::<Vec<_>>(), ["next"]);
}

/// Fails when `Part` or `Batch` drop what they do not know.
async fn what_the_next_version_says_outlives_the_head_that_said_it(bucket: TestBucket) {
    let origin = site().await;
    let node = node(&bucket, &origin).await;
    let next = Next::join(&bucket).await;
    let theirs = json!({"at": 1, "globs": ["/x*"]});
    next.append(theirs.clone()).await;
    let many: Vec<String> = (0..5000).map(|number| format!("/a-path-of-some-length/{number}")).collect();
    node.invalidate(json!({"paths": many})).await;
    // The node has moved what stood in the head into an object; whoever owns the part marks it.
    next.swap(|head| head["parts"][0]["codec"] = json!("plain")).await;
    node.invalidate_path("/a").await;
    let (head, _) = next.head().await;
    assert_eq!(head["parts"][0]["codec"], "plain", "{head:#}");
    let key = head["parts"][0]["key"].as_str().unwrap();
    let part = bucket.read(key).await.expect("the head names it");
    let content = part.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
    let batches: Value = serde_json::from_slice(content).unwrap();
    assert_eq!((&batches[0]["records"][0], &batches[0]["by"]), (&theirs, &json!("next")));
    // Who starts now reads it there.
    let other = self::node(&bucket, &origin).await;
    fill(&other).await;
    next.append(json!({"at": 1, "paths": [{"path": "/a"}]})).await;
    assert_eq!(gone(&other).await, ["/a"]);
}

/// Fails when `Names::read` takes kinds of names that it does not know.
async fn a_snapshot_of_the_next_version_invalidates_everything_up_to_it(bucket: TestBucket) {
    let origin = site().await;
    let node = node(&bucket, &origin).await;
    let next = Next::join(&bucket).await;
    fill(&node).await;
    // An index of hard and soft names, all empty but for the kinds that occur: one is new. Then the ids of clients.
    let mut index = [0_u64; 12];
    (index[1], index[2]) = (1, 1 << 5);
    let mut folded: Vec<u8> = index.iter().flat_map(|number| number.to_le_bytes()).collect();
    folded.extend_from_slice(b"[]");
    let snapshots = [folded, br#"{"form": "of the future"}"#.to_vec()];
    for (last, content) in (1..).zip(snapshots) {
        let key = format!("default/journal/snapshots/{last:020}-{}", word());
        bucket.plant(&key, sealed("journal-snapshot", &content)).await;
        next.swap(|head| {
            assert_eq!(head["sequence"], last - 1);
            (head["sequence"], head["parts"], head["batches"]) = (json!(last), json!([]), json!([]));
            head["snapshot"] = json!({"first": 1, "last": last, "key": key, "bytes": 98, "form": 2});
        })
        .await;
        tokio::time::sleep(LEASE + LEASE / 4).await;
        assert_eq!(gone(&node).await, ["/a", "/b"], "snapshot {last}");
    }
    node.invalidate_path("/a").await;
    assert_eq!(next.head().await.0["snapshot"]["form"], 2);
}

/// Fails, for `"serve"`, when a head of another version counts as an outage like any other.
async fn a_head_that_is_not_understood_ends_serving_and_starts(bucket: TestBucket) {
    let origin = site().await;
    for way in [OnStoreOutage::Origin, OnStoreOutage::Serve] {
        let settings = |config: &mut Config| {
            (config.cluster.lease, config.cluster.on_store_outage) = (LEASE, way);
        };
        let node = proxy().origin(&origin).on_s3(&bucket).set(settings).start().await;
        fill(&node).await;
        let known = bucket.read(HEAD).await.unwrap();
        let newer = b"everpage/2 journal-head whatever\nmore".as_slice();
        let other = sealed("journal-head", br#"{"journal": "j", "forms": [1, 2]}"#);
        for head in [newer, &other] {
            bucket.plant(HEAD, head.to_vec()).await;
            tokio::time::sleep(LEASE + LEASE / 4).await;
            let answer = node.get("/a").await;
            assert_eq!((answer.status.as_u16(), answer.detail()), (200, Some("journal-outage")), "{way:?}");
            let ready = node.admin("/readyz").await;
            assert_eq!(ready.status, 200);
            for words in ["version of everpage", "pages come from the origin"] {
                assert!(ready.text().contains(words), "{}", ready.text());
            }
            assert_eq!(node.post_invalidate(json!({"paths": ["/a"]})).await.status, 503);
            let refused = refused(&bucket).await;
            assert!(refused.contains(HEAD) && refused.contains("start that version"), "{refused}");
            assert_eq!(bucket.read(HEAD).await.unwrap(), head, "nobody has written over it");
        }
        bucket.plant(HEAD, known).await;
        while node.get("/a").await.outcome() == "bypass" {
            tokio::time::sleep(LEASE / 10).await;
        }
        assert_eq!(gone(&node).await.len(), 0, "it is understood again: nothing was lost");
        node.stop().await;
    }
}

/// Why a node of this version does not start on the bucket.
async fn refused(bucket: &TestBucket) -> String {
    let free = || "127.0.0.1:0".parse().unwrap();
    let mut config = Config { listen: free(), ..Config::default() };
    (config.admin.listen, config.store.kind, config.store.s3) = (free(), StoreKind::S3, bucket.settings());
    match Everpage::bind(config).await {
        Ok(_) => panic!("it has started"),
        Err(error) => format!("{error:#}"),
    }
}

async fn a_version_that_is_raised_on_one_node_first_serves_on_both(bucket: TestBucket) {
    let origin = site().await;
    let old = node(&bucket, &origin).await;
    fill(&old).await;
    old.written(2).await;
    let raised = |config: &mut Config| (config.cluster.lease, config.cache.version) = (LEASE, 2);
    let new = proxy().origin(&origin).on_s3(&bucket).set(raised).start().await;
    assert_eq!(gone(&new).await, ["/a", "/b"], "it leaves the old pages behind");
    assert_eq!(gone(&old).await.len(), 0, "and to the old nodes");
    new.written(4).await;
    for (told, number) in [(&old, 1), (&new, 2)] {
        let answer = told.invalidate_path("/a").await;
        assert_eq!((&answer["sequence"], &answer["nodes"]), (&json!(number), &json!(2)), "{answer}");
        assert_eq!((gone(&old).await, gone(&new).await), (vec!["/a"], vec!["/a"]));
    }
    for node in [&old, &new] {
        swept(node).await;
    }
    for folder in ["default/1/pages/", "default/2/pages/"] {
        let left = bucket.keys().await.into_iter().filter(|key| key.starts_with(folder)).count();
        assert_eq!(left, 2, "{folder}");
    }
    // What they have at hand is theirs to lose.
    old.stop().await;
    let old = self::node(&bucket, &origin).await;
    assert_eq!(gone(&old).await.len(), 0, "the new version's sweeper has left the old one's pages alone");
}

async fn swept(node: &Proxy) {
    let begun = crate::support::Ask::new(node.admin, http::Method::POST, "/sweep").host("localhost").send().await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    for _ in 0..1000 {
        let told: Value = serde_json::from_slice(&node.admin("/sweep").await.body).unwrap();
        if told["last"]["result"] == "done" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the sweep does not end: {}", node.admin("/sweep").await.text());
}

async fn flavors_do_not_disturb_each_other(bucket: TestBucket) {
    let origin = site().await;
    let staging = |config: &mut Config| {
        config.cluster.lease = LEASE;
        config.cache.flavor = "staging".to_owned();
    };
    let (one, two) = (node(&bucket, &origin).await, proxy().origin(&origin).on_s3(&bucket).set(staging).start().await);
    assert_eq!((gone(&one).await.len(), gone(&two).await.len()), (2, 2), "each has pages of its own");
    let journal = async |node: &Proxy| {
        let status: Value = serde_json::from_slice(&node.admin("/status").await.body).unwrap();
        status["journal"]["id"].as_str().expect("a journal has an id").to_owned()
    };
    assert_ne!(journal(&one).await, journal(&two).await);
    let answer = one.invalidate(json!({"all": true})).await;
    assert_eq!((&answer["nodes"], &answer["sequence"]), (&json!(1), &json!(1)));
    assert_eq!((gone(&one).await.len(), gone(&two).await.len()), (2, 0));
    assert_eq!(two.invalidate_path("/a").await["sequence"], 1, "and numbers of its own");
    swept(&one).await;
    assert_eq!((gone(&one).await.len(), gone(&two).await), (0, vec!["/a"]));
}
