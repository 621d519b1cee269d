//! A node that starts while others append.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{S3, record};
use crate::invalidation::journal::Journal as _;
use crate::page::Sequence;

const PARTS: usize = 100;

#[tokio::test(start_paused = true)]
async fn a_node_starts_while_others_append_to_a_long_journal() {
    let s3 = S3::new(1);
    let other = s3.journal().await;
    for _ in 0..PARTS {
        other.append(&[Arc::new(record(70 << 10))]).await.unwrap();
    }
    let appending = tokio::spawn(async move {
        loop {
            other.append(&[Arc::new(record(100))]).await.unwrap();
            sleep(Duration::from_millis(200)).await;
        }
    });
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let (journal, recovered) = s3.open(None).await.unwrap();
    // One after another, the parts alone take as long as this.
    assert!(began.elapsed() < Duration::from_millis(40) * 100, "{:?}", began.elapsed());
    appending.abort();
    assert_eq!(recovered.last(), journal.state.lock().await.told);
    let numbers: Vec<_> = recovered.records.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(numbers, (1..=recovered.last().0).map(Sequence).collect::<Vec<_>>());
    assert!(numbers.len() > PARTS);
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_while_what_it_reads_is_folded_away() {
    let s3 = S3::new(2);
    let other = s3.journal().await;
    let large = |_| Arc::new(record(70 << 10));
    let appending = tokio::spawn(async move {
        loop {
            for record in (0..6).map(large) {
                other.append(&[record]).await.unwrap();
            }
            let last = other.append(&[]).await.unwrap().last;
            other.fold(last, vec![7; 4 << 20]).await.unwrap();
        }
    });
    sleep(Duration::from_secs(3)).await;
    for _ in 0..5 {
        let (_, recovered) = s3.open(None).await.unwrap();
        let (folded, bytes) = recovered.snapshot.clone().unwrap();
        assert_eq!(bytes, vec![7; 4 << 20]);
        let numbers: Vec<_> = recovered.records.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(numbers, (folded.0 + 1..=recovered.last().0).map(Sequence).collect::<Vec<_>>());
    }
    appending.abort();
}
