//! The one door to a bucket: what goes in comes out, nothing outside the location is touched, and whoever is too late has written nothing.

mod advice;
mod tls;
mod trouble;
mod uploads;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use everpage::config::S3Store;
use everpage::store::s3::bucket::{Attributes, Bucket, Condition, Look, Opened, Swap, Version};
use futures_util::StreamExt as _;

use crate::support::{TestBucket, on_each_server};

on_each_server![
    what_was_put_is_read_again,
    the_last_put_wins,
    an_object_larger_than_expected_is_not_read,
    a_range_brings_what_there_is_of_it,
    a_range_of_a_replaced_object_is_refused,
    an_object_is_looked_at_only_when_it_changed,
    an_absent_object_is_created_once,
    a_swap_takes_the_version_it_names,
    of_many_swappers_exactly_one_wins,
    many_objects_go_in_batches,
    a_listing_goes_on_after_the_last_key,
    nothing_outside_the_location_is_read_listed_or_deleted,
    a_key_that_leads_outside_is_refused,
    an_opened_bucket_is_left_as_it_was,
    a_bucket_is_made_if_the_settings_say_so,
    what_is_said_with_a_page_is_kept,
    each_request_is_counted,
];

const MOST: u64 = 1 << 20;
/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

fn below(bucket: &TestBucket, location: &str) -> S3Store {
    S3Store { location: location.to_owned(), ..bucket.settings() }
}

async fn opened(bucket: &TestBucket) -> Bucket {
    Bucket::open(&below(bucket, "site/pages")).await.unwrap()
}

async fn put(bucket: &Bucket, key: &str, bytes: &'static str) -> Version {
    bucket.put(key, vec![Bytes::from(bytes)], &Attributes::default()).await.unwrap()
}

async fn text(bucket: &Bucket, key: &str) -> Option<Bytes> {
    bucket.get(key, MOST).await.unwrap().map(|found| found.bytes)
}

async fn all(opened: Opened) -> Bytes {
    let mut pieces = opened.pieces;
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece.unwrap());
    }
    whole.freeze()
}

async fn what_was_put_is_read_again(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    assert!(bucket.get("a/b", MOST).await.unwrap().is_none());
    let pieces = vec![Bytes::from("one "), Bytes::new(), Bytes::from("two")];
    let version = bucket.put("a/b", pieces, &Attributes::default()).await.unwrap();
    let found = bucket.get("a/b", MOST).await.unwrap().unwrap();
    assert_eq!((found.bytes.as_ref(), found.version), (&b"one two"[..], version));
    bucket.put("empty", Vec::new(), &Attributes::default()).await.unwrap();
    assert_eq!(text(&bucket, "empty").await.unwrap(), "");
    bucket.delete("a/b").await.unwrap();
    bucket.delete("a/b").await.unwrap();
    assert!(text(&bucket, "a/b").await.is_none());
    let large = Bytes::from(vec![7; 600_000]);
    bucket.put("large", vec![large.clone()], &Attributes::default()).await.unwrap();
    assert_eq!(text(&bucket, "large").await.unwrap(), large);
}

async fn the_last_put_wins(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    let first = put(&bucket, "a", "one").await;
    let second = put(&bucket, "a", "two").await;
    assert_ne!(first, second);
    assert_eq!(text(&bucket, "a").await.unwrap(), "two");
}

async fn an_object_larger_than_expected_is_not_read(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    put(&bucket, "a", "twelve bytes").await;
    assert!(bucket.get("a", 12).await.unwrap().is_some());
    let error = bucket.get("a", 11).await.unwrap_err();
    assert!(error.advice.contains("12 bytes"), "{error}");
}

async fn a_range_brings_what_there_is_of_it(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    put(&bucket, "a", "0123456789").await;
    bucket.put("empty", Vec::new(), &Attributes::default()).await.unwrap();
    let read = async |key: &str, range: Range<u64>| {
        let opened = bucket.open_range(key, range, None).await.unwrap().unwrap();
        (opened.total_bytes, String::from_utf8(all(opened).await.to_vec()).unwrap())
    };
    assert_eq!(read("a", 0..10).await, (10, "0123456789".to_owned()));
    assert_eq!(read("a", 2..5).await, (10, "234".to_owned()));
    assert_eq!(read("a", 8..100).await, (10, "89".to_owned()));
    assert_eq!(read("a", 10..100).await, (10, String::new()));
    assert_eq!(read("a", 5..5).await, (10, String::new()));
    assert_eq!(read("empty", 0..100).await, (0, String::new()));
    assert!(bucket.open_range("absent", 0..100, None).await.unwrap().is_none());
    assert!(bucket.open_range("absent", 5..5, None).await.unwrap().is_none());
}

async fn a_range_of_a_replaced_object_is_refused(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    let first = put(&bucket, "a", "one").await;
    assert_eq!(all(bucket.open_range("a", 0..9, Some(&first)).await.unwrap().unwrap()).await, "one");
    put(&bucket, "a", "two").await;
    let Err(error) = bucket.open_range("a", 0..9, Some(&first)).await else { panic!("it is another version") };
    assert!(error.advice.contains("was replaced"), "{error}");
    let Err(error) = bucket.open_range("a", 7..9, Some(&first)).await else { panic!("it is another version") };
    assert!(error.advice.contains("was replaced"), "{error}");
}

async fn an_object_is_looked_at_only_when_it_changed(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    let first = put(&bucket, "a", "one").await;
    assert!(matches!(bucket.look("a", &first, MOST).await.unwrap(), Look::Unchanged));
    put(&bucket, "a", "two").await;
    let Look::Changed(found) = bucket.look("a", &first, MOST).await.unwrap() else { panic!("it changed") };
    assert_eq!(found.bytes, "two");
    bucket.delete("a").await.unwrap();
    assert!(matches!(bucket.look("a", &first, MOST).await.unwrap(), Look::Absent));
}

async fn an_absent_object_is_created_once(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    let first = bucket.swap("head", Bytes::from("one"), &Condition::Absent).await.unwrap();
    assert!(matches!(first, Swap::Done(_)), "{first:?}");
    let second = bucket.swap("head", Bytes::from("two"), &Condition::Absent).await.unwrap();
    assert_eq!(second, Swap::Lost);
    assert_eq!(text(&bucket, "head").await.unwrap(), "one");
}

async fn a_swap_takes_the_version_it_names(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    let first = put(&bucket, "head", "one").await;
    let Swap::Done(second) = bucket.swap("head", Bytes::from("two"), &Condition::Is(first.clone())).await.unwrap()
    else {
        panic!("nobody was faster")
    };
    assert_eq!(text(&bucket, "head").await.unwrap(), "two");
    for _ in 0..40 {
        let late = bucket.swap("head", Bytes::from("late"), &Condition::Is(first.clone())).await.unwrap();
        assert_eq!(late, Swap::Lost);
    }
    assert_eq!(text(&bucket, "head").await.unwrap(), "two", "a lost swap writes nothing");
    assert!(matches!(
        bucket.swap("head", Bytes::from("three"), &Condition::Is(second.clone())).await.unwrap(),
        Swap::Done(_)
    ));
    bucket.delete("head").await.unwrap();
    let gone = bucket.swap("head", Bytes::from("four"), &Condition::Is(second)).await.unwrap();
    assert_eq!(gone, Swap::Lost);
    assert!(text(&bucket, "head").await.is_none(), "a lost swap writes nothing");
}

async fn of_many_swappers_exactly_one_wins(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    for round in 0..5 {
        let version = put(&bucket, "head", ["one", "two", "three", "four", "five"][round]).await;
        let swappers: Vec<_> = (0..16)
            .map(|swapper| {
                let (bucket, condition) = (bucket.clone(), Condition::Is(version.clone()));
                tokio::spawn(async move {
                    let bytes = Bytes::from(format!("swapper {swapper} in {round}"));
                    (bytes.clone(), bucket.swap("head", bytes, &condition).await)
                })
            })
            .collect();
        let mut done = Vec::new();
        let mut unknown = Vec::new();
        for swapper in swappers {
            match swapper.await.unwrap() {
                (bytes, Ok(Swap::Done(_))) => done.push(bytes),
                (_, Ok(Swap::Lost)) => {}
                // Losers of a race may be told 500: nobody knows, until somebody reads.
                (bytes, Err(_)) => unknown.push(bytes),
            }
        }
        let now = text(&bucket, "head").await.unwrap();
        assert!(done.len() <= 1, "{done:?}");
        assert!(done.contains(&now) || unknown.contains(&now), "{now:?} is nobody's");
        assert!(done.is_empty() || done[0] == now, "the winner was overwritten by {now:?}");
    }
}

async fn many_objects_go_in_batches(bucket: TestBucket) {
    let door = opened(&bucket).await;
    let keys: Vec<String> = (0..2500).map(|number| format!("many/{number:04}")).collect();
    let writers: Vec<_> = keys
        .chunks(100)
        .map(|keys| {
            let (door, keys) = (door.clone(), keys.to_vec());
            tokio::spawn(async move {
                for key in keys {
                    put(&door, &key, "x").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    put(&door, "stays & <stays>", "x").await;
    let odd = ["odd &<>\"' +%20", "odd ä/ö"].map(str::to_owned);
    for key in &odd {
        put(&door, key, "x").await;
    }
    assert!(door.delete_many(&[keys, odd.to_vec(), vec!["never was".to_owned()]].concat()).await.unwrap().is_empty());
    assert_eq!(bucket.keys().await, ["site/pages/stays & <stays>"]);
    let batches = door.requests().into_iter().filter(|count| count.class.as_str() == "delete");
    assert_eq!(batches.map(|count| count.count).sum::<u64>(), 1 + 3, "the check at the start, and three batches");
}

async fn a_listing_goes_on_after_the_last_key(bucket: TestBucket) {
    let bucket = opened(&bucket).await;
    let keys = ["a", "a/b", "a/c", "ab", "b ä+%&"];
    for key in keys {
        put(&bucket, key, "xyz").await;
    }
    let mut seen = Vec::new();
    loop {
        let after = seen.last().map(String::as_str);
        let listing = bucket.list("", after, 2).await.unwrap();
        assert!(listing.keys.len() <= 2);
        assert!(listing.keys.iter().all(|listed| listed.bytes == 3 && listed.modified.0 > 1_600_000_000_000));
        seen.extend(listing.keys.into_iter().map(|listed| listed.key));
        if !listing.is_truncated {
            break;
        }
    }
    assert_eq!(seen, keys);
    let below: Vec<_> =
        bucket.list("a/", None, 1000).await.unwrap().keys.into_iter().map(|listed| listed.key).collect();
    assert_eq!(below, ["a/b", "a/c"]);
}

/// Neighbours of the location `site/pages`, as near as names can be.
const OUTSIDE: [&str; 6] = ["site", "site/page", "site/pages", "site/pages2/x", "site/pages-x", "x"];

async fn nothing_outside_the_location_is_read_listed_or_deleted(bucket: TestBucket) {
    for key in OUTSIDE {
        bucket.plant(key, "not yours").await;
    }
    let upload = bucket.client.create_multipart_upload().bucket(&bucket.name).key("site/pages2/upload");
    upload.send().await.unwrap();
    let door = opened(&bucket).await;
    put(&door, "x", "ours").await;
    for key in OUTSIDE.into_iter().filter(|key| *key != "x") {
        assert!(text(&door, key).await.is_none(), "{key}");
        door.delete(key).await.unwrap();
    }
    let listed: Vec<_> = door.list("", None, 1000).await.unwrap().keys.into_iter().map(|listed| listed.key).collect();
    assert_eq!(listed, ["x"]);
    let all = OUTSIDE.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    door.delete_many(&all).await.unwrap();
    assert_eq!(door.abort_uploads(everpage::clock::UnixMillis(u64::MAX)).await.unwrap(), 0);
    let left: BTreeSet<_> = bucket.keys().await.into_iter().collect();
    assert_eq!(left, OUTSIDE.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(bucket.uploads().await.len(), 1);
}

async fn a_key_that_leads_outside_is_refused(bucket: TestBucket) {
    bucket.plant("site/secret", "not yours").await;
    let door = opened(&bucket).await;
    let before: u64 = door.requests().iter().map(|count| count.count).sum();
    for key in ["", "/site/secret", "../secret", "a/../../secret", "./a", "a//b", "a/", "a\0"] {
        door.get(key, MOST).await.unwrap_err();
        assert!(door.open_range(key, 0..9, None).await.is_err(), "{key}");
        door.put(key, Vec::new(), &Attributes::default()).await.unwrap_err();
        door.swap(key, Bytes::new(), &Condition::Absent).await.unwrap_err();
        door.delete(key).await.unwrap_err();
        door.delete_many(&["a".to_owned(), key.to_owned()]).await.unwrap_err();
        door.list("", Some(key), 1).await.unwrap_err();
    }
    for prefix in ["/", "..", "../", "../se", "a/../../"] {
        door.list(prefix, None, 1).await.unwrap_err();
    }
    let after: u64 = door.requests().iter().map(|count| count.count).sum();
    assert_eq!(before, after, "S3 was not even asked");
    for location in ["/", "..", "site/../x", "site//x", "site/"] {
        Bucket::open(&below(&bucket, location)).await.unwrap_err();
    }
}

async fn an_opened_bucket_is_left_as_it_was(bucket: TestBucket) {
    bucket.plant("mine", "x").await;
    opened(&bucket).await.check().await.unwrap();
    Bucket::open(&bucket.settings()).await.unwrap();
    assert_eq!(bucket.keys().await, ["mine"]);
}

async fn a_bucket_is_made_if_the_settings_say_so(bucket: TestBucket) {
    let name = format!("{}-made", bucket.name);
    let made = TestBucket { name: name.clone(), ..bucket.clone() };
    let settings = S3Store { bucket: name, create_bucket: true, ..bucket.settings() };
    let door = Bucket::open(&settings).await.unwrap();
    put(&door, "a", "x").await;
    Bucket::open(&settings).await.unwrap();
    assert_eq!(text(&door, "a").await.unwrap(), "x");
    made.destroy().await;
}

async fn what_is_said_with_a_page_is_kept(bucket: TestBucket) {
    let door = opened(&bucket).await;
    let attributes = Attributes {
        content_type: Some("text/html".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        cache_control: Some("no-cache".to_owned()),
        metadata: vec![("path", "/a b/".to_owned())],
        is_page: true,
    };
    door.put("page", vec![Bytes::from("x")], &attributes).await.unwrap();
    let head = bucket.client.head_object().bucket(&bucket.name).key("site/pages/page").send().await.unwrap();
    assert_eq!(head.content_type(), Some("text/html"));
    assert_eq!(head.content_encoding(), Some("gzip"));
    assert_eq!(head.cache_control(), Some("no-cache"));
    assert_eq!(head.metadata().unwrap()["path"], "/a b/");
}

async fn each_request_is_counted(bucket: TestBucket) {
    let door = opened(&bucket).await;
    let count = |class: &str, result: &str| {
        let counts = door.requests();
        let found = counts.iter().find(|count| count.class.as_str() == class && count.result == result);
        found.map_or(0, |count| count.count)
    };
    let (read, absent) = (count("get", "ok"), count("get", "absent"));
    text(&door, "absent").await;
    let version = put(&door, "a", "x").await;
    text(&door, "a").await;
    door.look("a", &version, MOST).await.unwrap();
    assert_eq!(count("get", "ok"), read + 1);
    assert_eq!(count("get", "absent"), absent + 1);
    assert_eq!(count("get", "unchanged"), 1);
    assert_eq!(count("put", "ok"), 2, "the check at the start, and ours");
}
