//! IS A STALE PAGE EVER SERVED by any of several nodes? The real code of two to five nodes on one bucket, thousands of times over.
//!
//! Each node is the real handler, invalidations, memory tier, journal in the bucket and bucket client, down to the SDK: only what lies behind the
//! SDK's connection is simulated, and the way from node to node. Node ids, words and pauses are drawn from the seed ([`everpage::chance`]), so a run
//! repeats itself byte by byte:
//!
//! ```text
//! export EVERPAGE_SIMULATION_SEED=94                                       one seed, and all that happens in it
//! export EVERPAGE_SIMULATION_SEEDS=1000000 EVERPAGE_SIMULATION_FROM=2000   a million, from this one on, on all cores
//! cargo test --release --test integration cluster::no_page -- --nocapture
//! ```
//!
//! A seed is the same in a build for tests and in one for use.
//!
//! In reading order: `storm` is what may go wrong, and who may lie; `s3` is the bucket's other end, `parties` are store, app and network as one node
//! reaches them, `node` is a process from its start to its crash, `liar` is its journal, `run` is who does what, `head` counts what happened to the
//! members. Site, checker, app, store and visitors are those of the one node ([`super`]).
//!
//! # What it can see
//!
//! Each [`Lie`] is a step of the protocol left out, in a party beside the real code, and a test below: it must be found. The number is that of the seeds
//! until then; a violation of the end alone does not count, a page must be stale.
//!
//! | lie | found |
//! |---|---|
//! | a node never asks whether its lease has run out | 2 |
//! | who does not answer the ring is not waited for | 3 |
//! | a ring is answered with its own number, without a look | 11 |
//! | a node does not see that it was passed over, and does not join again | 25 |
//! | the lease is longer before the news are applied | 32 |
//! | two swaps of one version both succeed (the bucket) | 46 |
//! | a lease counts from the answer | 62 |
//! | a read shows what was true a moment ago (the bucket) | 104 |
//! | who did not answer once is not waited for the next time | 136 |
//! | an append's own record is applied before those of others | 145 |
//!
//! The fast lane asks for the lease by itself: where it does not (`is_current` in `proxy::lane`), a page is stale within a few seeds.
//!
//! What is too rare for it: that a mark which is known for a short time only drops its member (`S3Journal::drop_silent`) was not found in 1,500 seeds. The
//! model finds it (`tests/model`).
//!
//! A paused node is one whose requests, answers, fetches and visitors stand still while time goes on ([`super::gate`]). Its timers fire: what they set
//! off waits at the gate.

mod head;
mod liar;
mod node;
mod parties;
mod run;
mod s3;
mod storm;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use self::run::run;
use self::storm::Lie;
use super::checker::Counts;
use super::run::Report;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;
/// How often one hears from a long run.
const SEEDS_BETWEEN_NEWS: u64 = 10_000;
/// Seeds within which a lie must be found.
const SEEDS_UNTIL_FOUND: u64 = 2000;

/// What must have happened at least this often in a thousand seeds: otherwise the simulation passes by what it is there for.
const REACHED: &[(&str, u64)] = &[
    ("invalidations", 4000),
    ("invalidations of a path", 1000),
    ("invalidations of a prefix", 200),
    ("invalidations of a tag", 1500),
    ("invalidations of everything", 100),
    ("ids repeated at another node", 60),
    ("posts", 150),
    ("posts without a durable record", 20),
    ("purges", 300),
    ("invalidations refused", 10),
    ("hits after an invalidation", 5000),
    ("memory hits", 4000),
    ("memory hits by a line", 1500),
    ("store hits", 2500),
    ("misses", 6000),
    ("collapsed", 800),
    ("pages of another node read", 3000),
    ("dead on arrival in the store", 30),
    ("late writes", 300),
    ("passed on in an outage", 1000),
    ("outages", 120),
    ("nodes cut off", 300),
    ("requests in an outage", 1500),
    ("S3 failures", 500),
    ("answers of S3 lost", 80),
    ("late writes in S3", 10),
    ("swaps lost", 800),
    ("crashes", 70),
    ("clean leaves", 80),
    ("starts that failed", 100),
    ("starts from a snapshot", 30),
    ("pauses longer than the lease", 200),
    ("visitors at a node that stands still", 700),
    ("visitors at a node whose lease has run out", 3000),
    ("rings answered", 1500),
    ("rings in vain", 100),
    ("rings lost", 400),
    ("answers to rings lost", 100),
    ("rings for somebody else", 50),
    ("rings at nobody's door", 150),
    ("waits for silent members", 1000),
    ("members passed over", 500),
    ("members who joined again", 400),
    ("members dropped", 100),
    ("members who left", 60),
    ("folds of the shared journal", 100),
    ("objects of the journal removed", 3),
    ("records moved out of the head", 15),
];

#[test]
fn no_page_is_stale_whatever_goes_wrong_on_several_nodes() {
    if let Some(seed) = super::asked_for("EVERPAGE_SIMULATION_SEED") {
        let report = run(seed, Lie::None);
        println!("{}{:#?}", report.log, report.counts.0);
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        return;
    }
    let seeds = super::asked_for("EVERPAGE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = super::asked_for("EVERPAGE_SIMULATION_FROM").unwrap_or(0);
    let (found, counts) = search(first..first + seeds, Lie::None);
    if let Some((seed, violations)) = found {
        panic!("seed {seed}: {violations:#?}\nTo see it again: {}", replay(seed));
    }
    println!("{:#?}", counts.0);
    for (what, least) in REACHED {
        let times = counts.0.get(what).copied().unwrap_or(0);
        assert!(seeds < 1000 || times >= least * (seeds / 1000), "{what}: only {times} times in {seeds} seeds");
    }
}

#[test]
fn the_same_seed_gives_the_same_history_of_several_nodes() {
    let mut histories = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (one, other) = (run(seed, Lie::None), run(seed, Lie::None));
        let difference = super::first_difference(&one.log, &other.log);
        assert!(one.log == other.log, "seed {seed} cannot be replayed:\n{difference}");
        histories.insert(one.log);
    }
    assert_eq!(histories.len(), 40, "seeds that show the same");
}

#[test]
fn a_node_that_never_asks_for_its_lease_is_found() {
    assert_is_found(Lie::LeaseNotChecked);
}

#[test]
fn a_lease_that_counts_from_the_answer_is_found() {
    assert_is_found(Lie::LeaseFromTheAnswer);
}

#[test]
fn a_lease_that_is_longer_before_the_news_are_applied_is_found() {
    assert_is_found(Lie::LeaseBeforeTheNews);
}

#[test]
fn a_ring_that_is_answered_without_a_look_is_found() {
    assert_is_found(Lie::RingWithoutSequence);
}

#[test]
fn not_waiting_for_the_silent_is_found() {
    assert_is_found(Lie::SilentNotWaitedFor);
}

#[test]
fn dropping_the_silent_at_once_is_found() {
    assert_is_found(Lie::DroppedAtOnce);
}

#[test]
fn a_node_that_does_not_join_again_is_found() {
    assert_is_found(Lie::NoRejoin);
}

#[test]
fn records_that_are_applied_out_of_order_are_found() {
    assert_is_found(Lie::OutOfOrder);
}

#[test]
fn a_bucket_whose_swaps_race_is_found() {
    assert_is_found(Lie::SwapsRace);
}

#[test]
fn a_bucket_whose_reads_lag_is_found() {
    assert_is_found(Lie::LooksLag);
}

fn assert_is_found(lie: Lie) {
    let (found, _) = search(0..SEEDS_UNTIL_FOUND, lie);
    let (seed, violations) = found.unwrap_or_else(|| panic!("{lie:?} was not found in {SEEDS_UNTIL_FOUND} seeds"));
    println!("{lie:?}: found by seed {seed}: {violations:#?}");
}

/// Tries seeds on all cores until one shows a violation; the least of those that were found.
fn search(seeds: Range<u64>, lie: Lie) -> (Option<(u64, Vec<String>)>, Counts) {
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let shown = Mutex::new((None, Counts::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                break;
            }
            let done = seed - seeds.start;
            if done > 0 && done.is_multiple_of(SEEDS_BETWEEN_NEWS) {
                println!("{done} seeds, up to {seed}");
            }
            let report = run_or_blame(seed, lie);
            let mut shown = shown.lock();
            shown.1.add(&report.counts);
            let is_least = shown.0.as_ref().is_none_or(|(least, _)| seed < *least);
            // What only the end shows does not count where a party lies: pages shall be stale.
            let counts = lie == Lie::None || report.violations.iter().any(|violation| violation.contains("STALE"));
            if !report.violations.is_empty() && counts && is_least {
                end.fetch_min(seed, Ordering::Relaxed);
                shown.0 = Some((seed, report.violations));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    shown.into_inner()
}

fn run_or_blame(seed: u64, lie: Lie) -> Report {
    catch_unwind(AssertUnwindSafe(|| run(seed, lie)))
        .unwrap_or_else(|_| panic!("seed {seed} panics; to see it again: {}", replay(seed)))
}

fn replay(seed: u64) -> String {
    format!("EVERPAGE_SIMULATION_SEED={seed} cargo test --test integration cluster::no_page -- --nocapture")
}
