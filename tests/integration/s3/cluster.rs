//! Three real nodes, a real S3 server, and nothing that goes well: nodes are killed and come back, stop for longer than their lease, are cut off from S3
//! and from each other, S3 is slow and loses answers. Meanwhile visitors and save hooks go on, and a checker looks at all that was seen:
//! no answer may be older than an invalidation that was answered before the visitor asked.
//!
//! ```text
//! cargo test --test integration s3::cluster -- --nocapture                              one round, and what was counted
//! TEST_CLUSTER_SECONDS=3600 cargo test --test integration s3::cluster -- --nocapture    an hour of it
//! TEST_CLUSTER_SEED=7 ...                                                              the same misfortunes again, in the same order
//! ```
//!
//! What happens between processes is not replayed by a seed; the simulation is for that (`simulation::cluster`).
//!
//! Which lie is told by what (each was tried in the code, and found):
//!
//! | lie | shows |
//! | --- | --- |
//! | `commit::write` answers before others have been rung | always |
//! | `commit::write` does not wait for the silent | while a node looks but cannot be rung, or serves on after it was cut off from S3 |
//! | `Invalidations::heed` says yes without a look | always |
//! | `Invalidations::look_up` does not compare with `as_of` | always |
//! | `Lease::is_current` says yes whatever the time is | after a pause, and while a node is cut off from S3 |
//! | `S3Journal::look` counts the lease from the answer | while looks come late and the node cannot be rung |
//! | `S3Journal::change` takes a lost swap for done | always: two nodes write at once |
//! | `S3Journal::change` takes a failed swap for done | while S3 is cut off or refuses: it says 200, and nothing was written |
//! | `commit::Batch` answers a known id although others may not know it yet | when an impatient save hook asks a second node while a third is cut off; not in each run |

mod fate;
mod history;
mod load;
mod node;
mod site;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use parking_lot::Mutex;
use rand::prelude::*;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::fate::{Blow, DECKS, Felt, Weather, play};
use self::history::{History, Verdict};
use self::load::{Stage, Tally, post, sequence};
use self::node::Node;
use self::site::{App, PAGES, Selector};
use crate::support::{Server, TestBucket};

const NODES: usize = 3;
const HOOKS: usize = 14;
pub(super) const LEASE: Duration = Duration::from_millis(500);
/// At least; the misfortunes that have begun by then are played to the end.
const SECONDS: u64 = 20;
/// What may come on top: a round of misfortunes, on a busy machine so many that the run proves something, and what is under way then.
const OVERTIME: Duration = Duration::from_secs(150);
/// Until all is well again when nothing is wrong any more.
const RECOVERY: Duration = Duration::from_secs(20);
/// While one of each of these lasts, an invalidation must be sent and answered, by waiting for those who cannot answer.
const PROVING: [&[Blow]; 4] = [
    &[Blow::Killed, Blow::KilledAndPaused],
    &[Blow::Paused, Blow::KilledAndPaused],
    &[Blow::RingRefused, Blow::RingSilent, Blow::RingSlow, Blow::RingBrokenOff, Blow::AllApart],
    &[Blow::S3Cut, Blow::S3Silent, Blow::S3Refuses, Blow::Isolated, Blow::SlowAndUnreachable, Blow::LateAndUnreachable],
];
/// Ids that are sent once more in the end.
const IDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_never_serve_what_one_of_them_has_invalidated_whatever_befalls_them() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let seed = asked_for("TEST_CLUSTER_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let time = Duration::from_secs(asked_for("TEST_CLUSTER_SECONDS").unwrap_or(SECONDS));
    println!("TEST_CLUSTER_SEED={seed}");
    let stage = stage(&bucket).await;
    let began = Instant::now();
    let storm = timeout(time + OVERTIME, storm(&stage, seed, began + time)).await;
    println!("{}", report(&stage, began.elapsed()));
    let verdict = stage.history.judge();
    assert_eq!(first(&stage.tally.lock().wrong), [""; 0]);
    assert!(verdict.stale.is_empty(), "{} stale answers: {:#?}", verdict.stale.len(), first(&verdict.stale));
    assert_eq!(lack(&stage), None, "too little has happened to prove anything");
    storm.expect("every wait has a bound");
    timeout(RECOVERY, calm(&stage, seed)).await.unwrap_or_else(|_| {
        let logs: Vec<_> = stage.nodes.iter().map(|node| node.log()).collect();
        panic!("not all is well again: {}", logs.join("\n\n"))
    });
    let verdict = stage.history.judge();
    assert!(verdict.stale.is_empty(), "after the storm: {:#?}", first(&verdict.stale));
    drop(stage);
    bucket.destroy().await;
}

async fn stage(bucket: &TestBucket) -> Arc<Stage> {
    let (app, mut nodes) = (App::start().await, Vec::new());
    for number in 0..NODES {
        nodes.push(Arc::new(Node::start(bucket, &app, number != 0).await));
    }
    Arc::new(Stage {
        nodes,
        app,
        history: History::default(),
        weather: Weather::default(),
        tally: Mutex::default(),
        ended: CancellationToken::new(),
    })
}

/// Visitors, save hooks and misfortunes; what is under way at the end comes to its end.
async fn storm(stage: &Arc<Stage>, seed: u64, until: Instant) {
    let visits: Vec<_> = (0..NODES).map(|node| tokio::spawn(Arc::clone(stage).visit(node))).collect();
    let chance = |number: usize| StdRng::seed_from_u64((seed << 32) + number as u64);
    let hooks: Vec<_> = (0..HOOKS).map(|hook| tokio::spawn(Arc::clone(stage).save(hook, chance(hook)))).collect();
    for round in 1.. {
        let decks = DECKS.iter().zip(0..);
        let decks = decks.map(|(deck, place)| play(deck, &stage.nodes, &stage.weather, chance(round * HOOKS + place)));
        futures_util::future::join_all(decks).await;
        if Instant::now() >= until && lack(stage).is_none() {
            break;
        }
    }
    for node in &stage.nodes {
        node.heal().await;
    }
    stage.ended.cancel();
    for task in visits.into_iter().chain(hooks) {
        task.await.unwrap();
    }
}

/// Everything is in order again: one more invalidation holds on all nodes, all of them serve from their caches, and no id makes a second record.
async fn calm(stage: &Stage, seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    while !stage.invalidate(Selector::all(), "the last", &mut chance).await {}
    let last = stage.tally.lock().ids.last().expect("it was answered").1;
    let version = stage.app.version.load(SeqCst);
    for (number, node) in stage.nodes.iter().enumerate() {
        let (public, admin) = node.addresses().expect("all of them live");
        for page in 0..PAGES {
            while stage.visit_once(number, public, page).await != Some((version, true)) {
                sleep(Duration::from_millis(20)).await;
            }
        }
        let ids: Vec<_> = stage.tally.lock().ids.choose_multiple(&mut chance, IDS).cloned().collect();
        for (id, _) in ids {
            let answer = post(admin, &json!({"paths": ["/"], "id": id}), Duration::from_secs(5)).await;
            let said = answer.as_ref().and_then(sequence);
            assert!(said.is_some_and(|said| said <= last), "{id} at node {number}: {answer:?}");
        }
    }
    let wrong = &stage.tally.lock().wrong;
    assert!(wrong.is_empty(), "{:#?}", first(wrong));
}

/// What was seen, in lines.
fn report(stage: &Stage, took: Duration) -> String {
    let (verdict, tally) = (stage.history.judge(), stage.tally.lock());
    let Verdict { answers, hits, stale } = &verdict;
    let Tally { unanswered, acknowledged, by_another, refused, lost, given_up, ids, .. } = &*tally;
    let (stale, all) = (stale.len(), acknowledged.values().sum::<usize>());
    let records = ids.iter().map(|(_, sequence)| sequence).max().copied().unwrap_or_default();
    let mut lines = vec![
        format!(
            "{answers} answers checked in {took:.1?}, {hits} of them hits: {stale} stale; {unanswered} came to nothing"
        ),
        format!(
            "{all} invalidations acknowledged {acknowledged:?}, {by_another} of them by another node than the first asked"
        ),
        format!(
            "{refused} answers 503, {lost} POSTs without an answer, {given_up} given up; {records} records in the journal"
        ),
        "while                 | struck | acknowledged | refused |  hits".to_owned(),
    ];
    lines.extend(stage.weather.all_felt().into_iter().map(|(blow, Felt { struck, acknowledged, refused, hits })| {
        let blow = format!("{blow:?}");
        format!("{blow:<21} | {struck:>6} | {acknowledged:>12} | {refused:>7} | {hits:>5}")
    }));
    lines.join("\n")
}

/// What has not been seen often enough yet.
fn lack(stage: &Stage) -> Option<String> {
    let (hits, tally, felt) = (stage.history.judge().hits, stage.tally.lock(), stage.weather.all_felt());
    let felt = |blow: &Blow| felt.get(blow).copied().unwrap_or_default();
    if hits < 500 {
        return Some(format!("only {hits} hits"));
    }
    if tally.acknowledged.values().sum::<usize>() < 50 {
        return Some(format!("few invalidations: {:?}", tally.acknowledged));
    }
    if let Some(kind) = ["path", "prefix", "tag"].into_iter().find(|kind| !tally.acknowledged.contains_key(kind)) {
        return Some(format!("nothing was invalidated by {kind}: {:?}", tally.acknowledged));
    }
    if tally.by_another == 0 {
        return Some("no id came to a second node".to_owned());
    }
    // Where S3 is gone for all, hits end with the lease.
    let mut blows = DECKS.iter().flat_map(|deck| *deck);
    if let Some(blow) = blows.find(|blow| **blow != Blow::S3Gone && felt(blow).hits == 0) {
        return Some(format!("nothing came from a cache while {blow:?}"));
    }
    // Each alone may meet an outage of S3, in which nobody can be answered.
    let unproved = PROVING.iter().find(|blows| blows.iter().all(|blow| felt(blow).acknowledged == 0));
    unproved.map(|blows| format!("no invalidation was answered while {blows:?}"))
}

fn first(all: &[String]) -> &[String] {
    &all[..all.len().min(10)]
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long and which")]
fn asked_for(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}
