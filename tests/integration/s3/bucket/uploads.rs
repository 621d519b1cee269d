//! Large bodies go up in parts, and leave nothing behind when they fail.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use everpage::clock::UnixMillis;
use everpage::page::large::{LargeBody, Pieces};
use everpage::store::s3::bucket::Attributes;
use futures_util::stream;

use super::{PATIENCE, all, opened};
use crate::support::{TestBucket, on_each_server};

on_each_server![
    a_large_body_comes_back_identical,
    a_small_body_takes_one_request,
    an_upload_whose_body_fails_leaves_no_parts,
    an_upload_that_is_given_up_leaves_no_parts,
    uploads_that_nobody_completed_are_ended_by_their_age,
];

/// Bytes that differ from place to place, in pieces of odd sizes.
#[derive(Debug)]
struct Body {
    bytes: u64,
    fails_at: Option<u64>,
    hangs_at: Option<u64>,
}

const PIECE: u64 = 123_457;

fn piece(range: Range<u64>) -> Bytes {
    range.map(|place| u8::try_from((place ^ (place >> 13)) % 251).unwrap()).collect()
}

#[async_trait]
impl LargeBody for Body {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn read(&self, range: Range<u64>) -> io::Result<Pieces> {
        let (fails_at, hangs_at) = (self.fails_at.unwrap_or(u64::MAX), self.hangs_at.unwrap_or(u64::MAX));
        Ok(Box::pin(stream::try_unfold(range, move |range| async move {
            if range.is_empty() {
                return Ok(None);
            }
            if range.start >= fails_at {
                return Err(io::Error::other("the disk is broken"));
            }
            if range.start >= hangs_at {
                std::future::pending::<()>().await;
            }
            let end = (range.start + PIECE).min(range.end);
            Ok(Some((piece(range.start..end), end..range.end)))
        })))
    }
}

fn body(bytes: u64) -> Body {
    Body { bytes, fails_at: None, hangs_at: None }
}

async fn a_large_body_comes_back_identical(bucket: TestBucket) {
    let door = opened(&bucket).await;
    let bytes = (30 << 20) + 5;
    let head = Bytes::from("head");
    door.upload("large", head.clone(), Arc::new(body(bytes)), &Attributes::default()).await.unwrap();
    let opened = door.open_range("large", 0..u64::MAX, None).await.unwrap().unwrap();
    assert_eq!(opened.total_bytes, bytes + 4);
    let whole = all(opened).await;
    assert_eq!(whole[..4], head);
    assert!(whole[4..] == piece(0..bytes), "it is another body");
    let middle = door.open_range("large", 10_000_004..10_100_004, None).await.unwrap().unwrap();
    assert!(all(middle).await == piece(10_000_000..10_100_000), "it is another part");
    assert!(bucket.uploads().await.is_empty());
}

async fn a_small_body_takes_one_request(bucket: TestBucket) {
    let door = opened(&bucket).await;
    door.upload("small", Bytes::from("head"), Arc::new(body(1 << 20)), &Attributes::default()).await.unwrap();
    assert!(door.requests().iter().all(|count| count.class.as_str() != "multipart"));
    assert_eq!(door.get("small", 2 << 20).await.unwrap().unwrap().bytes.len(), (1 << 20) + 4);
}

async fn an_upload_whose_body_fails_leaves_no_parts(bucket: TestBucket) {
    let door = opened(&bucket).await;
    let broken = Body { fails_at: Some(20 << 20), ..body(30 << 20) };
    let error = door.upload("large", Bytes::new(), Arc::new(broken), &Attributes::default()).await.unwrap_err();
    assert!(error.advice.contains("the disk is broken"), "{error}");
    assert!(bucket.uploads().await.is_empty());
    assert!(bucket.keys().await.is_empty());
    let broken = Body { fails_at: Some(1), ..body(1 << 20) };
    door.upload("small", Bytes::new(), Arc::new(broken), &Attributes::default()).await.unwrap_err();
    assert!(bucket.keys().await.is_empty());
}

async fn an_upload_that_is_given_up_leaves_no_parts(bucket: TestBucket) {
    let door = opened(&bucket).await;
    let hanging = Body { hangs_at: Some(20 << 20), ..body(30 << 20) };
    let upload = {
        let door = door.clone();
        tokio::spawn(async move { door.upload("large", Bytes::new(), Arc::new(hanging), &Attributes::default()).await })
    };
    while bucket.uploads().await.is_empty() {
        tokio::task::yield_now().await;
    }
    upload.abort();
    upload.await.unwrap_err();
    let gone = async {
        while !bucket.uploads().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("its parts are left");
    assert!(bucket.keys().await.is_empty());
}

async fn uploads_that_nobody_completed_are_ended_by_their_age(bucket: TestBucket) {
    let door = opened(&bucket).await;
    for key in ["site/pages/a", "site/pages/b/c"] {
        bucket.client.create_multipart_upload().bucket(&bucket.name).key(key).send().await.unwrap();
    }
    // An emulator may say that all uploads began on one day long ago.
    assert_eq!(door.abort_uploads(UnixMillis(1_000_000_000_000)).await.unwrap(), 0);
    assert_eq!(bucket.uploads().await.len(), 2);
    assert_eq!(door.abort_uploads(UnixMillis(u64::MAX)).await.unwrap(), 2);
    assert!(bucket.uploads().await.is_empty());
}
