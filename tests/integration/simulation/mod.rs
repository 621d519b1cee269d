//! IS A STALE PAGE EVER SERVED? One node of the real code in a world where everything else is simulated, thousands of times over.
//!
//! The handler, the invalidations and the memory tier are the real ones. The app, the store and the journal are simulated, behind the traits that the real
//! ones implement. Time is tokio's, paused; there is one thread; every choice is drawn from one seed. So a run repeats itself byte by byte:
//!
//! ```text
//! export EVERPAGE_SIMULATION_SEED=94                                       one seed, and all that happens in it
//! export EVERPAGE_SIMULATION_SEEDS=1000000 EVERPAGE_SIMULATION_FROM=2000   a million, from this one on
//! cargo test --release --test integration simulation::no_page -- --nocapture
//! ```
//!
//! In reading order: `site` are the pages, `checker` is the promise, `world` is chance and time, `origin`, `store` and `journal` are the parties that
//! misbehave within their contracts, `node` is the proxy, `visitor` is who asks it for pages, half of the time by a
//! `line` that is served as those of the network are, fast lane and all, `run` is who does what and when, `crowd` is who moves
//! next. `threads` tries what one thread cannot. [`cluster`] is the same with several nodes.
//!
//! # What it can see
//!
//! A simulation that cannot fail proves nothing. Each of these changes was made to the code and found; the number is that of the seeds until then.
//!
//! | change | found |
//! |---|---|
//! | `as_of` taken when the head arrives, or when the body is whole | 5 |
//! | followers join without a check (`Flight::admits`) | 35 |
//! | followers join a flight whose head has arrived without a check | 35 |
//! | `Seat::was_overtaken` is always false | 10 |
//! | a page in memory is served without being judged, or by the fast lane only | 2 |
//! | the journal's records are applied and answered before they are durable | 1 |
//! | answered before they are applied | 3 |
//! | a restart forgets the journal's records | 5 |
//! | a restart forgets the journal's snapshot | 27 |
//! | a POST through the proxy invalidates nothing | 1 |
//! | a POST whose record could not be made durable is not distrusted | 35 |
//! | a follower gets the leader's variant | 7 |
//! | a HEAD gets a stored variant that was found for another (a bug that this simulation found) | 95 |
//! | a page that was invalidated while it was fetched is kept: never served, but the counts show that the state is not reached | all |
//! | a page is marked as valid at the generation read after the look-up | `threads` |
//! | the generation, or `applied`, moves before the index | `threads` |
//!
//! Two changes are not found, because another check stands behind each: where a flight that is still fetching admits everybody, `was_overtaken` sends the
//! follower on; a page from the store that is not judged when it is found is judged again for each request.
//!
//! The parties' own breaches of contract are tests, below. Whatever runs to its end between two awaits cannot be torn apart on one thread; the
//! order of the index, `applied` and the generation is tried in `threads`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is a test: it panics where it is wrong and prints what it saw"
)]

mod checker;
mod cluster;
mod crowd;
mod gate;
mod journal;
mod line;
mod node;
mod origin;
mod run;
mod site;
mod store;
mod threads;
mod visitor;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::checker::Counts;
use self::run::{Report, run};
use self::world::Breach;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;
/// Seeds within which a breach of contract must be found.
const SEEDS_UNTIL_FOUND: u64 = 200;

/// What must have happened at least this often in a thousand seeds: otherwise the simulation passes by what it is there for.
const REACHED: &[(&str, u64)] = &[
    ("memory hits", 2000),
    ("memory hits by a line", 1000),
    ("store hits", 1000),
    ("soft hits", 50),
    ("misses", 5000),
    ("collapsed", 1000),
    ("fetches beside another", 500),
    ("invalidations", 3000),
    ("invalidated while fetched", 500),
    ("soft invalidations", 200),
    ("posts", 300),
    ("posts without a durable record", 30),
    ("purges", 200),
    ("crashes", 300),
    ("journal failures", 100),
    ("folds", 100),
    ("starts from a snapshot", 50),
    ("store errors", 500),
    ("late writes", 500),
    ("dead on arrival in the store", 300),
    ("overwritten objects read", 100),
    ("bodies cut short", 200),
    ("origin stalls", 100),
    ("failures told", 200),
    ("too large to be kept", 500),
    ("visitors who left", 200),
];

#[test]
fn no_page_is_stale_whatever_goes_wrong_on_one_node() {
    if let Some(seed) = asked_for("EVERPAGE_SIMULATION_SEED") {
        let report = run(seed, Breach::None);
        println!("{}{:#?}", report.log, report.counts.0);
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        return;
    }
    let seeds = asked_for("EVERPAGE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = asked_for("EVERPAGE_SIMULATION_FROM").unwrap_or(0);
    let mut counts = Counts::default();
    for seed in first..first + seeds {
        let report = run_or_blame(seed);
        counts.add(&report.counts);
        assert!(
            report.violations.is_empty(),
            "seed {seed}: {:#?}\nTo see it again: {}",
            report.violations,
            replay(seed)
        );
    }
    println!("{:#?}", counts.0);
    for (what, least) in REACHED {
        let times = counts.0.get(what).copied().unwrap_or(0);
        assert!(seeds < 1000 || times >= least * (seeds / 1000), "{what}: only {times} times in {seeds} seeds");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let mut histories = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (one, other) = (run(seed, Breach::None), run(seed, Breach::None));
        assert!(one.log == other.log, "seed {seed} cannot be replayed:\n{}", first_difference(&one.log, &other.log));
        histories.insert(one.log);
    }
    assert_eq!(histories.len(), 100, "seeds that show the same");
}

#[test]
fn a_journal_that_answers_before_it_is_durable_is_found() {
    assert_is_found(Breach::JournalAnswersEarly);
}

#[test]
fn a_restart_that_forgets_the_journal_is_found() {
    assert_is_found(Breach::JournalForgotten);
}

#[test]
fn a_hook_that_fires_before_the_commit_is_found() {
    assert_is_found(Breach::HookBeforeCommit);
}

#[test]
fn an_app_that_answers_from_a_cache_of_its_own_is_found() {
    assert_is_found(Breach::OriginIsStale);
}

#[test]
fn a_store_that_takes_one_page_for_another_is_found() {
    assert_is_found(Breach::StoreMixesUp);
}

fn assert_is_found(breach: Breach) {
    let found = (0..SEEDS_UNTIL_FOUND).find(|seed| !run(*seed, breach).violations.is_empty());
    println!("{breach:?}: found by seed {found:?}");
    assert!(found.is_some(), "{breach:?} was not found in {SEEDS_UNTIL_FOUND} seeds");
}

fn run_or_blame(seed: u64) -> Report {
    catch_unwind(AssertUnwindSafe(|| run(seed, Breach::None)))
        .unwrap_or_else(|_| panic!("seed {seed} panics; to see it again: {}", replay(seed)))
}

#[expect(clippy::disallowed_methods, reason = "a person asks for a number of seeds, or for one of them")]
fn asked_for(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn replay(seed: u64) -> String {
    format!("EVERPAGE_SIMULATION_SEED={seed} cargo test --test integration simulation::no_page -- --nocapture")
}

fn first_difference(one: &str, other: &str) -> String {
    let differing = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    differing.map_or_else(|| "one is longer".to_owned(), |(one, other)| format!("{one}\n{other}"))
}
