//! Nodes that append all the time: each gets there, and about as often as any other.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{LEASE, S3, record};
use crate::chance;
use crate::invalidation::Invalidations;

const TIME: Duration = Duration::from_secs(8);

/// Clients ask this node, one `every` so often on the average, whatever becomes of those before. Returns how many were refused.
async fn ask(node: Arc<Invalidations>, every: Duration) -> usize {
    let (mut clients, end) = (JoinSet::new(), Instant::now() + TIME);
    while Instant::now() < end {
        sleep(every / 2 + every * u32::from(chance::byte()) / 256).await;
        let node = Arc::clone(&node);
        clients.spawn(async move { node.submit(record(100)).await.is_err() });
    }
    clients.join_all().await.into_iter().filter(|is_refused| *is_refused).count()
}

/// All of them at the same time. Returns the swaps of each node: none of them was refused anything.
async fn crowd(s3: &Arc<S3>, every: &[Duration]) -> Vec<u64> {
    let mut nodes = Vec::new();
    for _ in every {
        nodes.push(s3.node().await);
    }
    s3.objects.lock().swaps.clear();
    let asking: JoinSet<usize> = nodes.iter().zip(every).map(|(node, every)| ask(Arc::clone(node), *every)).collect();
    let refused: usize = asking.join_all().await.into_iter().sum();
    assert_eq!(refused, 0, "of {} nodes", every.len());
    s3.objects.lock().swaps.values().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn nodes_that_append_all_the_time_get_there_equally_often() {
    for (seed, nodes) in [(1, 2), (2, 3), (3, 8)] {
        let every = Duration::from_millis(15) * nodes;
        let swaps = crowd(&S3::new(seed), &vec![every; nodes as usize]).await;
        let (least, most) = (swaps.iter().min().unwrap(), swaps.iter().max().unwrap());
        assert_eq!(swaps.len(), nodes as usize);
        assert!(least * 2 >= *most, "{swaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_appends_back_to_back_locks_nobody_out() {
    let s3 = S3::new(4);
    let busy = s3.node().await;
    let clients = tokio::spawn(ask(busy, Duration::from_millis(15)));
    sleep(LEASE / 4).await;
    let lazy = s3.node().await;
    for _ in 0..5 {
        lazy.submit(record(100)).await.unwrap();
        assert!(lazy.make_current().await.is_ok());
        sleep(LEASE / 4).await;
    }
    assert_eq!(clients.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lone_node_does_not_pause() {
    let s3 = S3::new(5);
    let swaps = crowd(&s3, &[Duration::from_millis(15)]).await;
    // The time of a swap, and of what carries it out, is 40 to 57 ms.
    assert!(u128::from(swaps[0]) >= TIME.as_millis() / 60, "{swaps:?}");
}
