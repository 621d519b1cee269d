//! Several nodes on one bucket: what one of them has answered to have invalidated, no other serves any more.
//!
//! The page says which version of the site it shows. Whoever changes the site raises the version, has it invalidated, and notes the answer; a visitor
//! who comes after the answer and sees an older version has found a bug.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::machine::Machine;
use crate::support::{
    Answer, Ask, Asked, Fault, Gate, Link, Origin, Proxy, Refusal, Reply, Server, TestBucket, origin, proxy, run_on_s3,
};

const PATHS: [&str; 3] = ["/", "/shop/ice/", "/news/"];
/// Others wait for a node that does not answer as long as this.
const LEASE: Duration = Duration::from_millis(300);
const LEASE_LINE: &str = "cluster.lease = \"300ms\"";

/// A site whose every page shows its version, and what its visitors have seen.
struct Site {
    version: Arc<AtomicU64>,
    origin: Origin,
    /// The newest version whose invalidation was answered.
    answered: AtomicU64,
    hits: AtomicUsize,
    stale: Mutex<Vec<String>>,
}

impl Site {
    async fn start() -> Arc<Self> {
        Site::held_by(None).await
    }

    /// The second and later renderings pass; the first, begun and made, waits at the gate.
    async fn held_by(gate: Option<Gate>) -> Arc<Self> {
        let version = Arc::new(AtomicU64::new(1));
        let shown = Arc::clone(&version);
        let page = move |asked: Asked| {
            let (reply, gate) = (Reply::new(shown.load(SeqCst).to_string()).header("cache-tag", "site"), gate.clone());
            async move {
                if let Some(gate) = gate.filter(|_| asked.number == 1) {
                    gate.pass().await;
                }
                reply
            }
        };
        let origin = origin().otherwise(page).start().await;
        let answered = AtomicU64::new(1);
        Arc::new(Site { version, origin, answered, hits: AtomicUsize::default(), stale: Mutex::default() })
    }

    /// The site changes, and this node is told; returns its answer.
    async fn change(&self, admin: SocketAddr) -> Value {
        let version = self.version.fetch_add(1, SeqCst) + 1;
        let body = match version % 4 {
            0 => json!({"paths": PATHS}),
            1 => json!({"prefixes": ["/"]}),
            2 => json!({"tags": ["site"]}),
            _ => json!({"all": true}),
        };
        let answer = invalidate(admin, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.answered.store(version, SeqCst);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let told = answer["acknowledged"].as_u64().unwrap() + answer["waited_out"].as_array().unwrap().len() as u64;
        assert_eq!(answer["nodes"], 1 + told, "{answer}");
        answer
    }

    /// One visit, which must show what was answered before it began.
    async fn visit(&self, node: SocketAddr, path: &str) -> Answer {
        let least = self.answered.load(SeqCst);
        let answer = Ask::new(node, Method::GET, path).send().await;
        assert_eq!(answer.status, 200);
        if answer.outcome() == "hit" {
            self.hits.fetch_add(1, SeqCst);
        }
        let seen: u64 = answer.text().parse().unwrap();
        if seen < least {
            self.stale.lock().push(format!("{seen} after {least} at {node}{path}: {}", answer.cache_status()));
        }
        answer
    }

    /// Visits this node again and again until told to end.
    fn crowd(self: &Arc<Self>, node: SocketAddr) -> Crowd {
        let ends = Arc::new(AtomicBool::new(false));
        let visitors = PATHS.map(|path| {
            let (site, ends) = (Arc::clone(self), Arc::clone(&ends));
            tokio::spawn(async move {
                while !ends.load(SeqCst) {
                    site.visit(node, path).await;
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            })
        });
        Crowd { ends, visitors }
    }

    fn assert_never_stale(&self) {
        let stale = self.stale.lock();
        assert!(stale.is_empty(), "{} stale answers: {:#?}", stale.len(), stale.iter().take(10).collect::<Vec<_>>());
    }
}

struct Crowd {
    ends: Arc<AtomicBool>,
    visitors: [JoinHandle<()>; PATHS.len()],
}

impl Crowd {
    async fn end(self) {
        self.ends.store(true, SeqCst);
        for visitor in self.visitors {
            visitor.await.unwrap();
        }
    }
}

async fn invalidate(admin: SocketAddr, body: &Value) -> Answer {
    let ask = Ask::new(admin, Method::POST, "/invalidate").host("localhost");
    ask.header("content-type", "application/json").body(body.to_string()).send().await
}

async fn node(bucket: &TestBucket, site: &Site) -> Proxy {
    proxy().origin(&site.origin).on_s3(bucket).set(|config| config.cluster.lease = LEASE).start().await
}

/// Fails when `commit::write` does not wait for others, and when `S3Journal::change` takes a lost swap for done.
#[test]
fn three_busy_nodes_never_serve_what_one_of_them_has_invalidated() {
    run_on_s3(Server::Rgw, async |bucket| {
        let site = Site::start().await;
        let nodes = [node(&bucket, &site).await, node(&bucket, &site).await, node(&bucket, &site).await];
        let crowds: Vec<_> = nodes.iter().map(|node| site.crowd(node.address)).collect();
        let mut counted = Vec::new();
        for round in 0..9 {
            let answer = site.change(nodes[round % 3].admin).await;
            assert_eq!(answer["sequence"], round as u64 + 1);
            counted.push(answer["nodes"].as_u64().unwrap());
            // So that there are hits between two changes.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // On a slow machine one may have been passed over and dropped, and not have joined again yet.
        assert_eq!(counted.iter().max(), Some(&3), "{counted:?}");
        for crowd in crowds {
            crowd.end().await;
        }
        site.assert_never_stale();
        assert!(site.hits.load(SeqCst) > 20, "only {} hits", site.hits.load(SeqCst));
    });
}

/// Changes on all nodes at the same moment: one order for all. Fails when `S3Journal::change` takes a lost swap for done.
#[test]
fn changes_on_all_nodes_at_once_are_all_seen_everywhere() {
    run_on_s3(Server::Rgw, async |bucket| {
        let site = Site::start().await;
        let nodes = [node(&bucket, &site).await, node(&bucket, &site).await, node(&bucket, &site).await];
        for round in 1..=2 {
            for node in &nodes {
                for path in PATHS {
                    site.visit(node.address, path).await;
                }
            }
            site.version.fetch_add(1, SeqCst);
            let one = async |place: usize| invalidate(nodes[place].admin, &json!({"paths": [PATHS[place]]})).await;
            let answers = futures_util::future::join_all((0..3).map(one)).await;
            let mut sequences: Vec<u64> = answers.iter().map(sequence).collect();
            sequences.sort_unstable();
            assert_eq!(sequences, [round * 3 - 2, round * 3 - 1, round * 3]);
            site.answered.store(site.version.load(SeqCst), SeqCst);
            for node in &nodes {
                for path in PATHS {
                    site.visit(node.address, path).await;
                }
            }
        }
        site.assert_never_stale();
    });
}

fn sequence(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice::<Value>(&answer.body).unwrap()["sequence"].as_u64().unwrap()
}

/// Nobody visits it between: it hears of nothing. Fails when `commit::write` does not wait for others.
#[test]
fn a_node_at_rest_never_serves_what_another_has_invalidated() {
    run_on_s3(Server::Moto, async |bucket| {
        let site = Site::start().await;
        let (here, there) = (node(&bucket, &site).await, node(&bucket, &site).await);
        for _ in 0..3 {
            site.visit(there.address, "/").await;
            assert_eq!(site.visit(there.address, "/").await.outcome(), "hit");
            site.change(here.admin).await;
            let first = site.visit(there.address, "/").await;
            assert_eq!(first.outcome(), "miss", "{}", first.text());
        }
        site.assert_never_stale();
    });
}

/// Fails when `Lease::is_current` always says yes.
#[test]
fn a_node_that_cannot_reach_the_bucket_never_serves_what_another_has_invalidated() {
    run_on_s3(Server::Rgw, async |bucket| {
        let (site, link) = (Site::start().await, Link::to(&bucket.endpoint).await);
        let here = node(&bucket, &site).await;
        let there = proxy().origin(&site.origin).on_s3_through(&bucket, &link);
        let there = there.set(|config| config.cluster.lease = LEASE).start().await;
        for fault in [Fault::Cut, Fault::BlackHole, Fault::Refuse(Refusal::ServiceUnavailable)] {
            site.visit(there.address, "/").await;
            assert_eq!(site.visit(there.address, "/").await.outcome(), "hit");
            link.set(fault.clone()).await;
            site.change(here.admin).await;
            for _ in 0..2 {
                let answer = site.visit(there.address, "/").await;
                assert_eq!((answer.outcome(), answer.detail()), ("bypass", Some("journal-outage")), "{fault:?}");
            }
            link.set(Fault::None).await;
            back(&site, &there).await;
        }
        site.assert_never_stale();
    });
}

/// Until the node serves from its cache again.
async fn back(site: &Site, node: &Proxy) {
    for _ in 0..4000 {
        if site.visit(node.address, "/").await.outcome() == "hit" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not come back: {}", node.admin("/status").await.text());
}

/// Answers that take almost as long as the lease: what counts is when they were asked for. Fails when `S3Journal::look` takes `began` after the answer.
#[test]
fn a_node_whose_looks_are_slow_never_serves_what_another_has_invalidated() {
    run_on_s3(Server::Rgw, async |bucket| {
        let (site, link) = (Site::start().await, Link::to(&bucket.endpoint).await);
        let here = node(&bucket, &site).await;
        let there = proxy().origin(&site.origin).on_s3_through(&bucket, &link);
        let there = there.set(|config| config.cluster.lease = LEASE).start().await;
        site.visit(there.address, "/").await;
        let fault = Fault::Slow { first_byte: LEASE * 3 / 4, bytes_per_second: 1 << 20 };
        link.set(fault).await;
        let crowd = site.crowd(there.address);
        for _ in 0..5 {
            site.change(here.admin).await;
            for _ in 0..20 {
                site.visit(there.address, "/").await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        crowd.end().await;
        site.assert_never_stale();
    });
}

/// A node that takes leave is no member any more; were it waited for, no answer would come in time.
#[test]
fn a_node_that_ends_is_not_waited_for() {
    run_on_s3(Server::Moto, async |bucket| {
        let site = Site::start().await;
        let start = || proxy().origin(&site.origin).on_s3(&bucket).set(|config| config.cluster.lease = 100 * LEASE);
        let (here, there) = (start().start().await, start().start().await);
        site.visit(there.address, "/").await;
        there.stop().await;
        assert_eq!(site.change(here.admin).await["nodes"], 1);
    });
}

/// The real binary.
fn machine(bucket: &TestBucket, site: &Site) -> Machine {
    Machine::start(bucket, &site.origin, &[LEASE_LINE])
}

/// The members that the journal's head names.
async fn members(bucket: &TestBucket) -> usize {
    let head = bucket.read("default/journal/head").await.unwrap();
    let json = head.split(|byte| *byte == b'\n').nth(1).unwrap();
    serde_json::from_slice::<Value>(json).unwrap()["members"].as_object().unwrap().len()
}

/// Fails when `commit::write` does not pass anybody over, or `S3Journal::drop_silent` drops nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_killed_is_waited_for_twice_at_most() {
    let bucket = Server::Moto.fresh_bucket().await;
    let site = Site::start().await;
    let (here, there) = (machine(&bucket, &site), machine(&bucket, &site));
    there.kill();
    for _ in 0..3 {
        site.change(here.server.admin).await;
    }
    assert_eq!(members(&bucket).await, 1, "the third has found only itself");
    let answer = site.change(here.server.admin).await;
    assert_eq!(answer["nodes"], 1);
    here.stop();
    assert_eq!(members(&bucket).await, 0, "SIGTERM takes leave");
    bucket.destroy().await;
}

/// Fails when `Lease::is_current` always says yes, and when `commit::write` does not wait for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_stopped_for_longer_than_its_lease_does_not_go_on_with_what_it_knew() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let site = Site::start().await;
    let (here, there) = (machine(&bucket, &site), machine(&bucket, &site));
    for _ in 0..4 {
        site.visit(there.server.public, "/").await;
        assert_eq!(site.visit(there.server.public, "/").await.outcome(), "hit");
        there.server.signal("STOP");
        site.change(here.server.admin).await;
        // It comes to a machine that stands still, and is the first that it sees.
        let (waiting, public) = (Arc::clone(&site), there.server.public);
        let first = tokio::spawn(async move { waiting.visit(public, "/").await });
        there.server.signal("CONT");
        assert_ne!(first.await.unwrap().outcome(), "hit");
        site.visit(there.server.public, "/").await;
    }
    site.assert_never_stale();
    bucket.destroy().await;
}

/// Its fetch began before the change, and it stands still until long after. Fails when `Lease::is_current` always says yes, and when `commit::write` does not
/// wait for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_a_stopped_machine_was_fetching_is_served_by_nobody() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let gate = Gate::default();
    let site = Site::held_by(Some(gate.clone())).await;
    let (here, there) = (machine(&bucket, &site), machine(&bucket, &site));
    let public = there.server.public;
    let early = tokio::spawn(async move { Ask::new(public, Method::GET, "/").send().await.text().to_owned() });
    gate.arrival().await;
    there.server.signal("STOP");
    site.change(here.server.admin).await;
    gate.open();
    there.server.signal("CONT");
    assert_eq!(early.await.unwrap(), "1", "it was there before the change");
    site.visit(there.server.public, "/").await;
    site.visit(here.server.public, "/").await;
    there.stop();
    let new = machine(&bucket, &site);
    site.visit(new.server.public, "/").await;
    site.assert_never_stale();
    bucket.destroy().await;
}

/// One is killed, one takes leave, others take their places, and visitors never notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_come_and_go_never_serve_what_was_invalidated() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let site = Site::start().await;
    let here = machine(&bucket, &site);
    let crowd = site.crowd(here.server.public);
    for round in 0..3 {
        let there = machine(&bucket, &site);
        let others = site.crowd(there.server.public);
        site.change(here.server.admin).await;
        site.change(there.server.admin).await;
        others.end().await;
        if round % 2 == 0 {
            there.kill();
        } else {
            there.stop();
        }
        site.change(here.server.admin).await;
    }
    crowd.end().await;
    site.assert_never_stale();
    assert!(site.hits.load(SeqCst) > 100, "only {} hits", site.hits.load(SeqCst));
    bucket.destroy().await;
}
