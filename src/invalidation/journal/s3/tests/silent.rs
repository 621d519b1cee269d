//! A member that is dead, while others have much to do.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LEASE, S3, record};
use crate::invalidation::journal::Journal as _;

#[tokio::test(start_paused = true)]
async fn a_dead_member_is_passed_over_however_busy_a_node_is() {
    // Once its lease was waited for it is marked, and once the mark was known for as long it goes.
    for (every, leases, count) in [(15, 5, 1), (15, 8, 2), (1_500, 8, 2)] {
        let s3 = S3::new(every);
        drop(s3.journal().await);
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(s3.node().await);
        }
        let end = Instant::now() + LEASE / 2 * leases;
        let mut count = 0;
        while Instant::now() < end {
            sleep(Duration::from_millis(every)).await;
            let node = Arc::clone(&nodes[count % nodes.len()]);
            tokio::spawn(async move { node.submit(record(100)).await });
            count += 1;
        }
        let began = Instant::now();
        nodes[0].submit(record(100)).await.unwrap();
        assert!(began.elapsed() < LEASE, "it was waited for");
        assert_eq!(s3.head().members.len(), nodes.len(), "every {every} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_append_passes_over_takes_no_swap_of_its_own() {
    let s3 = S3::new(1);
    drop(s3.journal().await);
    let journal = s3.journal().await;
    let tickets = journal.append(&[Arc::new(record(100))]).await.unwrap().others.into_iter().map(|other| other.ticket);
    let tickets: Vec<_> = tickets.collect();
    let before = s3.written("head");
    // It is asked for first, and comes second.
    let appending = Arc::clone(&journal);
    let held = journal.state.lock().await;
    let appended = tokio::spawn(async move { appending.append(&[Arc::new(record(100))]).await });
    sleep(Duration::from_millis(1)).await;
    let passing = Arc::clone(&journal);
    let passed = tokio::spawn(async move { passing.pass_over(&tickets).await });
    sleep(Duration::from_millis(1)).await;
    drop(held);
    appended.await.unwrap().unwrap();
    passed.await.unwrap().unwrap();
    assert_eq!(s3.written("head"), before + 1);
    assert_eq!(s3.head().members.values().filter(|member| member.passed_over.is_some()).count(), 1);
}
