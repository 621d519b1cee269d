//! Many save hooks at once: what one node gathers in one write, and what several nodes take from each other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::nodes::invalidate;
use crate::visitor::Visitor;

pub(crate) const CLIENTS: usize = 64;
const TIME: Duration = Duration::from_secs(5);

/// Each client waits for its answer, and they are spread over these nodes. Returns invalidations per second, and how long each took.
pub(crate) async fn throughput(admins: &[SocketAddr]) -> (f64, Vec<Duration>) {
    let (began, mut clients) = (Instant::now(), JoinSet::new());
    for client in 0..CLIENTS {
        let admin = admins[client % admins.len()];
        clients.spawn(async move {
            let mut connection = Visitor::connect(admin).await.expect("it listens");
            let mut took = Vec::new();
            while began.elapsed() < TIME {
                let path = format!("/ice-cream/{client}/{}/", took.len());
                took.push(invalidate(&mut connection, &json!({"paths": [path]})).await);
            }
            took
        });
    }
    let took: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    (took.len() as f64 / began.elapsed().as_secs_f64(), took)
}
