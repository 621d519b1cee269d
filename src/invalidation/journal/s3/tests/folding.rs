//! Two nodes that fold at the same time.

use std::sync::Arc;

use super::{S3, record};
use crate::invalidation::journal::Journal as _;
use crate::page::Sequence;

#[tokio::test(start_paused = true)]
async fn of_two_nodes_that_fold_at_the_same_time_one_does() {
    let s3 = S3::new(1);
    let (one, other) = (s3.journal().await, s3.journal().await);
    for _ in 0..4 {
        one.append(&[Arc::new(record(70 << 10))]).await.unwrap();
    }
    other.look().await.unwrap();
    let records = s3.keys("records");
    // The second takes longer to get there.
    let (first, second) = tokio::join!(one.fold(Sequence(3), vec![1]), other.fold(Sequence(4), vec![2; 1 << 20]));
    first.unwrap();
    second.unwrap();
    // Whoever has just read the head before finds what it names.
    let left = s3.keys("records");
    assert!(records.iter().all(|key| left.contains(key)), "{left:?}");
    let snapshots = s3.keys("snapshots");
    assert_eq!(snapshots, [s3.head().snapshot.unwrap().key]);
}
