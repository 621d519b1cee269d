//! Invalidations that do not fit into the head, while others append small ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{S3, record};
use crate::invalidation::journal::Journal as _;
use crate::invalidation::journal::s3::head::Batch;
use crate::invalidation::journal::s3::reading::RECORDS;
use crate::invalidation::journal::s3::{S3Journal, envelope};

/// Appends a small record, again and again.
fn keep_appending(journal: Arc<S3Journal>, every: Duration) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            sleep(every).await;
            journal.append(&[Arc::new(record(100))]).await.unwrap();
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_large_invalidation_is_written_once_however_often_its_swap_is_lost() {
    const LARGE: usize = 10;
    let s3 = S3::new(1);
    let (small, large) = (s3.journal().await, s3.journal().await);
    let appending = keep_appending(small, Duration::from_millis(100));
    for _ in 0..LARGE {
        large.append(&[Arc::new(record(1 << 20))]).await.unwrap();
    }
    assert!(large.shown.view().lost_swaps > 3, "nobody came between");
    appending.abort();
    let big = s3.objects.lock().large_records;
    assert_eq!(big, LARGE);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_for_a_lost_swap_goes() {
    let s3 = S3::new(2);
    let (small, large) = (s3.journal().await, s3.journal().await);
    for _ in 0..5 {
        // What stands in the head moves out of it, but somebody comes between.
        small.append(&[Arc::new(record(100))]).await.unwrap();
        large.look().await.unwrap();
        small.append(&[Arc::new(record(100))]).await.unwrap();
        large.append(&[Arc::new(record(100 << 10))]).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    large.look().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let (head, keys) = (s3.head(), s3.keys("records"));
    assert!(s3.written("records") > keys.len() as u64, "nothing was written in vain");
    assert_eq!(keys.iter().filter(|key| !head.names(key)).count(), 0, "{keys:?}");
    assert_eq!(head.parts.iter().filter(|part| !keys.contains(&part.key)).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_invalidation_has_the_same_numbers_for_everyone_folded_or_not() {
    let s3 = S3::new(3);
    let (one, other) = (s3.journal().await, s3.journal().await);
    let records: Vec<_> = (0..20).map(|n| Arc::new(record(10_000 + n * 100))).collect();
    one.append(&records[..3]).await.unwrap();
    let appended = other.append(&records).await.unwrap();
    let told: Vec<_> = appended.news.records.into_iter().collect();
    assert_eq!(one.look().await.unwrap().news.records, &told[3..]);
    let (_, recovered) = s3.open(None).await.unwrap();
    assert_eq!(recovered.records, told);
    // In the middle of it.
    other.fold(told[9].0, vec![1]).await.unwrap();
    let (_, recovered) = s3.open(None).await.unwrap();
    assert_eq!(recovered.records, &told[10..]);
}

/// Fails when what is read is not counted.
#[tokio::test(start_paused = true)]
async fn whoever_is_told_less_than_there_is_relies_on_nothing() {
    let s3 = S3::new(4);
    let (one, other) = (s3.journal().await, s3.journal().await);
    let records = [60 << 10, 60 << 10].map(|bytes| Arc::new(record(bytes)));
    one.append(&records).await.unwrap();
    let short = serde_json::to_vec(&[Batch::new("word".into(), &records[..1])]).unwrap();
    {
        let mut objects = s3.objects.lock();
        let written = objects.by_key.iter_mut().find(|(key, _)| key.contains("/records/")).unwrap();
        written.1.1 = envelope::seal(RECORDS, &short).into();
    }
    let error = other.look().await.unwrap_err();
    assert!(error.is_lost, "{error}");
}
