//! How long does an invalidation take, on how many nodes, and when one of them is dead or hangs? How many go through in a second? Real nodes on a real S3
//! server; prints tables, and the same as JSON.
//!
//! `cargo bench --bench cluster` measures everything: without added latency, and with 30 ms for each request to S3. `cargo bench --bench cluster -- 15`
//! measures with 15 ms alone. `TEST_S3_RGW` or `TEST_S3_MOTO` says where the server is: `eval "$(tests/s3/up)"`. See `benches/README.md`.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod crowd;
mod figures;
mod nodes;
#[path = "../shared/process.rs"]
#[expect(dead_code, reason = "the other bench looks at CPU time and memory")]
mod process;
mod support;
#[path = "../shared/visitor.rs"]
#[expect(dead_code, reason = "visitors of pages are another bench's")]
mod visitor;

use std::time::Duration;

use serde_json::{Value, json};

use crate::crowd::{CLIENTS, throughput};
use crate::figures::Figures;
use crate::nodes::Cluster;
use crate::support::{Server, TestBucket};

/// Numbers of nodes.
const NODES: [usize; 4] = [1, 2, 3, 8];
/// Invalidations one after the other, with all nodes well.
const HEALTHY: usize = 100;
/// How often a node is killed, and paused; how many invalidations then come one after the other.
const BLOWS: usize = 2;
const AFTER_BLOW: usize = 25;
/// Invalidations with very many paths.
const LARGE: usize = 8;
const LARGE_PATHS: usize = 10_000;
/// Added to each request to S3, if nobody says otherwise. In the cloud the median of small requests is "often in the tens of milliseconds":
/// <https://docs.aws.amazon.com/whitepapers/latest/s3-optimizing-performance-best-practices/timeouts-and-retries-for-latency-sensitive-applications.html>
const LATENCY_MS: u64 = 30;

fn main() {
    // Cargo says --bench to every bench.
    let latencies = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mut latencies: Vec<u64> =
        latencies.map(|latency| latency.parse().expect("milliseconds are a number")).collect();
    if latencies.is_empty() {
        latencies.extend([0, LATENCY_MS]);
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    runtime.block_on(measure(&latencies));
}

async fn measure(latencies: &[u64]) {
    let server = server();
    println!("S3: {server:?}; milliseconds; the lease is 2 s");
    let mut all = Vec::new();
    for latency in latencies {
        let bucket = server.fresh_bucket().await;
        all.push(with_latency(&bucket, *latency).await);
        bucket.destroy().await;
    }
    println!("\n{}", json!(all));
}

/// The one that shows most of what S3 means; else the one that is there.
#[expect(clippy::disallowed_methods, reason = "whoever started the servers says in the environment where they are")]
fn server() -> Server {
    if std::env::var("TEST_S3_RGW").is_ok() { Server::Rgw } else { Server::Moto }
}

async fn with_latency(bucket: &TestBucket, latency: u64) -> Value {
    println!("\n## {latency} ms added to each request to S3\n");
    println!(
        "| nodes | healthy: median | p99 | one dead: the first | then median | p99 | one paused: the first | then median | p99 |"
    );
    println!(
        "| ----: | --------------: | --: | ------------------: | ----------: | --: | --------------------: | ----------: | --: |"
    );
    let mut rows = Vec::new();
    let mut crowds = Vec::new();
    for count in NODES {
        let mut cluster = Cluster::start(bucket, count, Duration::from_millis(latency)).await;
        let healthy = Figures::of(cluster.invalidate(HEALTHY).await);
        let (mut dead, mut paused) = (Blow::default(), Blow::default());
        if count > 1 {
            for _ in 0..BLOWS {
                cluster.kill_last().await;
                dead.note(cluster.invalidate(AFTER_BLOW).await);
                cluster.replace();
                cluster.settle().await;
                cluster.pause_last();
                paused.note(cluster.invalidate(AFTER_BLOW).await);
                cluster.resume_last();
                cluster.settle().await;
            }
        }
        println!("| {count} | {} | {dead} | {paused} |", healthy.row());
        if count == 1 || count == 3 {
            crowds.push(crowd(&cluster, count).await);
        }
        rows.push(json!({
            "nodes": count, "healthy": healthy.json(), "one_dead": dead.json(), "one_paused": paused.json(),
        }));
        cluster.end().await;
    }
    println!(
        "\n| nodes | {CLIENTS} clients through | invalidations per second | median | p99 | 10,000 paths: median | p99 |"
    );
    println!("| ----: | :------------------ | -----------------------: | -----: | --: | -------------------: | --: |");
    crowds.iter().flat_map(|(rows, _)| rows).for_each(|row| println!("{row}"));
    let crowds: Vec<_> = crowds.into_iter().map(|(_, json)| json).collect();
    json!({"latency_ms": latency, "one_after_the_other": rows, "at_once": crowds})
}

/// What was measured after a node was lost.
#[derive(Default)]
struct Blow {
    /// The first of each round: it waits.
    first: Vec<Duration>,
    /// How many waited for half a lease or longer.
    waited: usize,
    others: Vec<Duration>,
}

impl Blow {
    fn note(&mut self, round: Vec<Duration>) {
        self.first.push(round[0]);
        let (waited, others): (Vec<Duration>, _) = round.into_iter().partition(|took| *took > Duration::from_secs(1));
        self.waited += waited.len();
        self.others.extend::<Vec<_>>(others);
    }

    fn json(&self) -> Value {
        if self.first.is_empty() {
            return Value::Null;
        }
        let rounds = self.first.len();
        json!({
            "first": Figures::of(self.first.clone()).json(), "then": Figures::of(self.others.clone()).json(),
            "rounds": rounds, "waited_in_all_rounds": self.waited,
        })
    }
}

impl std::fmt::Display for Blow {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first.is_empty() {
            return write!(out, "- | - | -");
        }
        let first = Figures::of(self.first.clone());
        write!(out, "{:.0} | {}", first.median, Figures::of(self.others.clone()).row())
    }
}

/// Many clients at once, and many paths at once.
async fn crowd(cluster: &Cluster, count: usize) -> (Vec<String>, Value) {
    let large = Figures::of(cluster.invalidate_many_paths(LARGE, LARGE_PATHS).await);
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for doors in if count == 1 { vec![1] } else { vec![1, count] } {
        let (rate, took) = throughput(&cluster.admins()[..doors]).await;
        let took = Figures::of(took);
        let words = if doors == 1 { "one node".to_owned() } else { format!("all {doors}") };
        rows.push(format!("| {count} | {words} | {rate:.0} | {} | {} |", took.row(), large.row()));
        json.push(json!({"through": doors, "per_second": rate.round(), "took": took.json()}));
    }
    (rows, json!({"nodes": count, "clients": CLIENTS, "load": json, "paths_10000": large.json()}))
}
