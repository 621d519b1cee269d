//! What the sweeper removes from a bucket, what it leaves alone, and what it costs.

use std::sync::Arc;
use std::time::Duration;

use everpage::clock::Clock;
use everpage::config::S3Store as Settings;
use everpage::invalidation::journal::Journal as _;
use everpage::invalidation::selector::{Record, Target};
use everpage::page::{JournalId, Sequence};
use everpage::store::Store as _;
use everpage::store::contract::signpost;
use everpage::store::s3::bucket::Bucket;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value as Json, json};

use super::upkeep::{Node, name, page, with};
use crate::support::{TestBucket, on_each_server};

on_each_server!(
    what_an_invalidation_killed_goes_and_what_is_valid_stays,
    a_page_of_another_journal_goes,
    a_damaged_page_goes_and_what_is_not_ours_stays,
    nothing_of_another_flavor_or_location_is_touched,
    a_lower_version_goes_once_it_is_old_enough,
    a_lower_version_stays_until_ours_has_been_there_for_as_long,
    versions_side_by_side_sweep_each_their_own,
    what_a_node_wrote_for_the_journal_in_vain_goes_once_it_is_old_enough,
    nothing_of_a_journal_goes_as_long_as_its_head_cannot_be_read,
    a_sweep_with_nothing_new_looks_at_no_page,
    only_what_a_record_may_name_is_looked_at,
    a_page_that_a_slow_node_wrote_after_the_sweep_is_found,
    a_page_of_a_node_that_knows_more_is_left_alone,
    a_sweep_that_was_stopped_goes_on_where_it_was,
    of_two_sweepers_one_works,
    a_lock_that_nobody_renews_is_taken_over,
    too_many_pages_are_culled_from_the_oldest_on,
    too_many_bytes_are_culled_until_there_is_room,
    a_dry_run_tells_what_would_go_and_writes_nothing,
    notes_that_cannot_be_read_cost_a_full_sweep_and_no_more,
);

async fn what_an_invalidation_killed_goes_and_what_is_valid_stays(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let (dead, fresh) = (node.keep("/dead/").await, node.keep("/fresh/").await);
    let soft = node.keep("/soft/").await;
    let post = node.keep_page(with(&page("/dead/", 0), |head| head.query = Some("q=1".into()))).await;
    let other_host = node.keep_page(with(&page("/hosts/", 0), |head| head.host = "other.example".into())).await;
    let this_host = node.keep("/hosts/").await;
    let signs = with(&page("/dead/", 0), |head| head.query = Some("sign".into()));
    let sign = name(&signs.head);
    node.parties.store.put(&sign, &signpost("/dead/", "j", 0)).await.unwrap();
    node.invalidate("/dead/").await;
    let soften = Target { host: None, path: "/soft/".into() };
    node.submit(Record { paths: vec![soften], soft: true, ..Record::default() }).await;
    let narrow = Target { host: Some("shop.example".into()), path: "/hosts/".into() };
    node.submit(Record { paths: vec![narrow], ..Record::default() }).await;
    let newer = node.keep("/newer/").await;
    let swept = node.sweep().await;
    assert_eq!(swept["result"], "done", "{swept}");
    assert_eq!(swept["dead"], json!({"invalidated": 4}), "{swept}");
    assert_eq!((&swept["deleted"], &swept["kept_objects"]), (&json!(4), &json!(4)));
    assert!(swept["freed_bytes"].as_u64().unwrap() > 400);
    for gone in [&dead, &post, &sign, &this_host] {
        assert!(!node.has(gone).await);
    }
    for kept in [&fresh, &soft, &other_host, &newer] {
        assert!(node.has(kept).await);
    }
    assert_eq!(node.parties.store.usage().objects, 4);
    assert_eq!(node.parties.metrics.swept("invalidated").get(), 4);
    assert!(node.parties.metrics.last_sweep.get() > 0);
}

async fn a_page_of_another_journal_goes(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let kept = node.keep("/kept/").await;
    let gone = node.keep_page(with(&page("/gone/", 0), |head| head.journal = JournalId("i".into()))).await;
    assert_eq!(node.sweep().await["dead"], json!({"journal": 1}));
    assert!(node.has(&kept).await && !node.has(&gone).await);
}

async fn a_damaged_page_goes_and_what_is_not_ours_stays(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let (torn, foreign) = (node.keep("/torn/").await, node.keep("/foreign/").await);
    let key = |name| format!("site/{}", node.parties.store.key(name));
    let whole = bucket.read(&key(&torn)).await.unwrap();
    bucket.plant(&key(&torn), whole.slice(..whole.len() - 1)).await;
    bucket.plant(&key(&foreign), "a letter to grandmother").await;
    let strays =
        ["site/default/2/pages/readme", "site/default/2/notes", "site/default/letter", "site/default/0x/pages/a"];
    for stray in strays {
        bucket.plant(stray, "everpage/1 page").await;
    }
    node.submit(Record { all: true, ..Record::default() }).await;
    let swept = node.sweep().await;
    assert_eq!((&swept["dead"], &swept["result"]), (&json!({"damaged": 1}), &json!("done")), "{swept}");
    assert!(!node.has(&torn).await && node.has(&foreign).await);
    for stray in strays {
        assert!(bucket.read(stray).await.is_some(), "{stray}");
    }
}

async fn nothing_of_another_flavor_or_location_is_touched(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let dead = node.keep("/dead/").await;
    let copy = bucket.read(&format!("site/{}", node.parties.store.key(&dead))).await.unwrap();
    let elsewhere = [
        format!("site/staging/2/pages/{dead}"),
        format!("site/staging/1/pages/{dead}"),
        format!("other/default/2/pages/{dead}"),
        format!("default/2/pages/{dead}"),
        format!("sites/default/1/pages/{dead}"),
        format!("site/default/3/pages/{dead}"),
    ];
    for key in &elsewhere {
        bucket.plant(key, copy.clone()).await;
    }
    node.invalidate("/dead/").await;
    let mut node = node;
    node.terms.old_versions_after = Duration::ZERO;
    (node.terms.max_entries, node.terms.cull_frequency) = (Some(0), 1);
    node.keep("/culled/").await;
    assert_eq!(node.sweep().await["deleted"], 2);
    for key in &elsewhere {
        assert!(bucket.read(key).await.is_some(), "{key}");
    }
}

async fn a_lower_version_goes_once_it_is_old_enough(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    let own = node.keep("/own/").await;
    let page = bucket.read(&format!("site/{}", node.parties.store.key(&own))).await.unwrap();
    let old = format!("site/default/1/pages/{own}");
    let (stray, higher) = ("site/default/1/pages/readme", format!("site/default/10/pages/{own}"));
    bucket.plant(&old, page.clone()).await;
    bucket.plant(stray, "hello").await;
    bucket.plant(&higher, page).await;
    let swept = node.sweep().await;
    assert_eq!((&swept["result"], &swept["deleted"]), (&json!("done"), &json!(0)), "{swept}");
    assert!(bucket.read(&old).await.is_some(), "a node of that version may still run");
    node.terms.old_versions_after = Duration::ZERO;
    a_second_passes().await;
    assert_eq!(node.sweep().await["dead"], json!({"old-version": 1}));
    assert!(bucket.read(&old).await.is_none());
    assert!(bucket.read(stray).await.is_some() && bucket.read(&higher).await.is_some() && node.has(&own).await);
}

/// Its nodes may still run, and serve what was stored long before ours came.
async fn a_lower_version_stays_until_ours_has_been_there_for_as_long(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    let own = node.keep("/own/").await;
    let page = bucket.read(&format!("site/{}", node.parties.store.key(&own))).await.unwrap();
    let old = format!("site/default/1/pages/{own}");
    bucket.plant(&old, page).await;
    node.terms.old_versions_after = Duration::from_secs(1);
    a_second_passes().await;
    a_second_passes().await;
    assert_eq!(node.sweep().await["deleted"], 0, "our first sweep");
    assert!(bucket.read(&old).await.is_some());
    a_second_passes().await;
    a_second_passes().await;
    assert_eq!(node.sweep().await["dead"], json!({"old-version": 1}));
}

/// Fails when all versions write into the same notes: what one has looked at, the other has not.
async fn versions_side_by_side_sweep_each_their_own(bucket: TestBucket) {
    let newer = Node::new(&bucket).await;
    let older = newer.beside(1).await;
    for round in 1..=2 {
        let (new, old) = (newer.keep("/page/").await, older.keep("/page/").await);
        newer.invalidate("/page/").await;
        for (node, name) in [(&older, &old), (&newer, &new)] {
            let swept = node.sweep().await;
            assert_eq!(swept["dead"], json!({"invalidated": 1}), "round {round}, version {}", node.terms.version);
            assert!(!node.has(name).await);
        }
    }
}

/// What a journal names, and what lies beside that.
struct Written {
    named: Vec<String>,
    leftovers: [String; 3],
    foreign: [String; 3],
}

/// A journal of several nodes whose records and snapshot lie in objects of their own.
async fn write_journal(bucket: &TestBucket) -> Written {
    let settings = Settings { location: "site".to_owned(), ..bucket.settings() };
    let opened = Bucket::open(&settings).await.unwrap();
    let lease = Duration::from_secs(2);
    let (journal, _) = everpage::invalidation::journal::s3::open(opened, "", lease, None, Clock::Wall).await.unwrap();
    let tags = vec!["t".repeat(100_000).into()];
    for _ in 0..3 {
        journal.append(&[Arc::new(Record { tags: tags.clone(), ..Record::default() })]).await.unwrap();
    }
    journal.fold(Sequence(2), b"snapshot".to_vec()).await.unwrap();
    let keys = bucket.keys().await.into_iter().filter(|key| key.starts_with("site/default/journal/"));
    let word = "0123456789abcdef0123456789abcdef";
    let key = |folder: &str, name: &str| format!("site/default/journal/{folder}/{name}");
    let leftovers = [
        key("records", word),
        key("records", &format!("{:020}-{word}", 7)),
        key("snapshots", &format!("{:020}-{word}", 7)),
    ];
    let foreign = [key("records", "readme"), key("other", word), format!("site/staging/journal/records/{word}")];
    let written = Written { named: keys.collect(), leftovers, foreign };
    for key in written.leftovers.iter().chain(&written.foreign) {
        bucket.plant(key, "records").await;
    }
    written
}

async fn what_a_node_wrote_for_the_journal_in_vain_goes_once_it_is_old_enough(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    let written = write_journal(&bucket).await;
    assert_eq!(written.named.len(), 5, "{:?}", written.named);
    assert_eq!(node.sweep().await["dead"], json!({}));
    node.terms.leftovers_after = Duration::ZERO;
    a_second_passes().await;
    let swept = node.sweep().await;
    assert_eq!((&swept["dead"], &swept["deleted"]), (&json!({"leftover": 3}), &json!(3)), "{swept}");
    let left = bucket.keys().await;
    for key in written.named.iter().chain(&written.foreign) {
        assert!(left.contains(key), "{key}");
    }
    assert!(written.leftovers.iter().all(|key| !left.contains(key)));
}

async fn nothing_of_a_journal_goes_as_long_as_its_head_cannot_be_read(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    let written = write_journal(&bucket).await;
    node.terms.leftovers_after = Duration::ZERO;
    a_second_passes().await;
    let head = bucket.read("site/default/journal/head").await.unwrap();
    let newer = String::from_utf8(head.to_vec()).unwrap().replacen("everpage/1", "everpage/2", 1);
    for unreadable in [newer.into_bytes(), head[..head.len() - 1].to_vec()] {
        bucket.plant("site/default/journal/head", unreadable).await;
        assert_eq!(node.sweep().await["dead"], json!({}));
    }
    let left = bucket.keys().await;
    assert!(written.leftovers.iter().chain(&written.named).all(|key| left.contains(key)));
}

/// Servers tell when an object was written by the second or the millisecond.
async fn a_second_passes() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

async fn a_sweep_with_nothing_new_looks_at_no_page(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    for number in 0..20 {
        node.keep(&format!("/{number}/")).await;
    }
    node.submit(Record { tags: vec!["ice-cream".into()], ..Record::default() }).await;
    a_second_passes().await;
    assert_eq!(node.sweep().await["heads_read"], 20, "the first one looks at all");
    let before = node.gets();
    let swept = node.sweep().await;
    assert_eq!((&swept["heads_read"], &swept["looked_at"]), (&json!(0), &json!(20)), "{swept}");
    assert_eq!(node.gets() - before, 2, "its notes and its lock");
    assert_eq!(swept["kept_objects"], 20);
}

async fn only_what_a_record_may_name_is_looked_at(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    for number in 0..10 {
        node.keep(&format!("/{number}/")).await;
    }
    node.sweep().await;
    node.invalidate("/3/").await;
    node.invalidate("/not-stored/").await;
    let swept = node.sweep().await;
    assert_eq!((&swept["heads_read"], &swept["deleted"]), (&json!(1), &json!(1)), "{swept}");
    node.submit(Record { prefixes: vec![Target { host: None, path: "/4".into() }], ..Record::default() }).await;
    let swept = node.sweep().await;
    assert_eq!((&swept["heads_read"], &swept["deleted"]), (&json!(9), &json!(1)), "{swept}");
}

async fn a_page_that_a_slow_node_wrote_after_the_sweep_is_found(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    node.invalidate("/late/").await;
    node.sweep().await;
    a_second_passes().await;
    let late = node.keep_page(page("/late/", 0)).await;
    assert_eq!(node.sweep().await["dead"], json!({"invalidated": 1}));
    assert!(!node.has(&late).await);
}

async fn a_page_of_a_node_that_knows_more_is_left_alone(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let ahead = node.keep_page(page("/ahead/", 7)).await;
    assert_eq!(node.sweep().await["deleted"], 0);
    assert!(node.has(&ahead).await);
}

async fn a_sweep_that_was_stopped_goes_on_where_it_was(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    // So that the pages need no look of their own.
    assert_eq!(node.sweep().await["result"], "done");
    let pages = stream::iter(0..1050).map(|number| {
        let node = &node;
        async move { node.keep(&format!("/{number}/")).await }
    });
    pages.buffer_unordered(32).collect::<Vec<_>>().await;
    // One request in a second: it is stopped in the pause after the first thousand.
    node.terms.rate = 1;
    let sweeper = node.sweeper();
    assert!(sweeper.order(false));
    assert!(!sweeper.order(false), "one at a time");
    while notes(&bucket).await["running"]["cursor"].is_null() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.parties.draining.cancel();
    node.parties.tasks.close();
    node.parties.tasks.wait().await;
    let stopped = &sweeper.state()["last"];
    assert_eq!(stopped["result"], "stopped", "{stopped}");
    // A server may show fewer than the thousand that were asked for.
    let first = stopped["looked_at"].as_u64().unwrap();
    assert!((1..=1000).contains(&first), "{stopped}");
    let mut other = node.again();
    other.terms.rate = 10_000;
    let swept = other.sweep().await;
    assert_eq!((&swept["result"], &swept["looked_at"]), (&json!("done"), &json!(1050 - first)), "{swept}");
    assert_eq!(swept["kept_objects"], 1050, "what the first one counted is not forgotten");
    assert_eq!(other.sweep().await["looked_at"], 1050, "the next one begins anew");
}

async fn notes(bucket: &TestBucket) -> Json {
    let notes = bucket.read("site/default/sweep/state-2").await;
    notes.map_or(Json::Null, |notes| serde_json::from_slice(&notes).unwrap())
}

async fn of_two_sweepers_one_works(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    node.keep("/a/").await;
    node.terms.rate = 4;
    let other = node.again();
    let (one, two) = tokio::join!(node.sweep(), other.sweep());
    let mut results = [one["result"].as_str().unwrap(), two["result"].as_str().unwrap()];
    results.sort_unstable();
    assert_eq!(results, ["busy", "done"], "{one} {two}");
    assert_eq!(node.again().sweep().await["result"], "done", "the lock was given back");
}

async fn a_lock_that_nobody_renews_is_taken_over(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    for lock in [r#"{"holder":"somebody","nonce":"1"}"#, "what is this?"] {
        bucket.plant("site/default/sweep/lock", lock).await;
        assert_eq!(node.sweep().await["result"], "done", "{lock}");
    }
}

async fn too_many_pages_are_culled_from_the_oldest_on(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    let mut names = Vec::new();
    for number in 0..4 {
        names.push(node.keep(&format!("/{number}/")).await);
    }
    a_second_passes().await;
    for number in 4..12 {
        names.push(node.keep(&format!("/{number}/")).await);
    }
    node.terms.max_entries = Some(12);
    assert_eq!(node.sweep().await["deleted"], 0, "there is room");
    node.terms.max_entries = Some(11);
    let swept = node.sweep().await;
    assert_eq!((&swept["dead"], &swept["kept_objects"]), (&json!({"culled": 4}), &json!(8)), "one in three: {swept}");
    for (number, name) in names.iter().enumerate() {
        assert_eq!(node.has(name).await, number >= 4, "{number}");
    }
    assert_eq!(node.parties.store.usage().objects, 8);
}

async fn too_many_bytes_are_culled_until_there_is_room(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    for number in 0..10 {
        node.keep(&format!("/{number}/")).await;
    }
    let bytes = node.sweep().await["kept_bytes"].as_u64().unwrap();
    (node.terms.max_bytes, node.terms.cull_frequency) = (Some(bytes / 2), 10);
    let swept = node.sweep().await;
    assert_eq!(swept["deleted"], 5, "more than one in ten, for that is not enough: {swept}");
    assert!(swept["kept_bytes"].as_u64().unwrap() <= bytes / 2, "{swept}");
}

async fn a_dry_run_tells_what_would_go_and_writes_nothing(bucket: TestBucket) {
    let mut node = Node::new(&bucket).await;
    let mut dead = Vec::new();
    for number in 0..6 {
        dead.push(node.keep(&format!("/{number}/")).await);
    }
    node.invalidate("/0/").await;
    let old = format!("site/default/1/pages/{}", dead[0]);
    bucket.plant(&old, "old").await;
    a_second_passes().await;
    node.terms.old_versions_after = Duration::ZERO;
    node.terms.max_entries = Some(4);
    let before = bucket.keys().await;
    let told = node.sweeper().sweep(true).await;
    assert_eq!(told["dead"], json!({"invalidated": 1, "old-version": 1, "culled": 2}), "{told}");
    assert_eq!((&told["deleted"], &told["result"]), (&json!(0), &json!("done")));
    assert_eq!(bucket.keys().await, before);
    let done = node.sweep().await;
    assert_eq!(done["dead"], told["dead"], "what was told is what goes");
}

async fn notes_that_cannot_be_read_cost_a_full_sweep_and_no_more(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    node.keep("/a/").await;
    node.sweep().await;
    bucket.plant("site/default/sweep/state-2", "{\"everpage_sweep\":1").await;
    assert_eq!(node.sweep().await["heads_read"], 1);
    bucket.plant("site/default/sweep/state-2", "{\"everpage_sweep\":2}").await;
    let swept = node.sweep().await;
    assert_eq!(swept["result"], "failed", "a newer everpage sweeps here: {swept}");
    assert!(swept["error"].as_str().unwrap().contains("newer"));
}
