//! Does it cost more to know of more invalidated paths? Memory, look-ups, and what is done now and then with all of them.

use std::time::Instant;

use everpage::invalidation::Invalidations;
use everpage::invalidation::index::{Index, Newest, Subject};
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::journal::{Recovered, random_identity};
use everpage::invalidation::selector::{Record, Target};
use everpage::page::{PathId, Sequence};
use everpage::policy::path::path_id;
use serde::{Deserialize, Serialize};

use crate::chart::{Chart, Line, Scale};
use crate::child;
use crate::figures::{Findings, Table, digits, median};
use crate::gauge::{Chance, cpu_nanoseconds, peak_bytes, resident_bytes};
use crate::proxy::runtime;

const PATHS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Paths that one record names.
const RECORD: u64 = 1_000;
/// Paths that are asked for again and again.
const HOT: u64 = 1_000;
const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 7;
/// Ten million paths shall take less.
const GOAL_MB: f64 = 500.0;

/// What an index of so many paths takes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// With the index alone.
    resident: f64,
    peak: f64,
    insert_ns: f64,
    /// Of the record that took longest: the index is locked meanwhile.
    longest_ms: f64,
    hit_ns: f64,
    hot_ns: f64,
    miss_ns: f64,
    fold_ms: f64,
    folded_bytes: u64,
    unfold_ms: f64,
}

pub(crate) fn measure(quick: bool) -> Findings {
    let steps = PATHS.into_iter().filter(|paths| !quick || *paths <= 100_000);
    let found: Vec<(u64, Taken)> = steps.map(|paths| (paths, child::run(&["paths", &paths.to_string()]))).collect();
    let nodes: Vec<f64> = found.iter().map(|(paths, _)| child::run(&["node", &paths.to_string()])).collect();
    Findings {
        tables: vec![table(&found, &nodes)],
        charts: charts(&found),
        missed: missed(&found).into_iter().collect(),
    }
}

/// Of the most paths: with fewer, as `--quick` has them, it says nothing.
fn missed(found: &[(u64, Taken)]) -> Option<String> {
    let (paths, taken) = found.iter().find(|(paths, _)| Some(paths) == PATHS.last())?;
    let megabytes = taken.resident / 1e6;
    let is_missed = megabytes > GOAL_MB;
    is_missed.then(|| format!("{paths} paths take {megabytes:.0} MB; the goal is {GOAL_MB}"))
}

fn table(found: &[(u64, Taken)], nodes: &[f64]) -> Table {
    let mut table = Table::new(
        "Invalidated paths in the index: bytes of memory, CPU time of a look-up, and time of what is done with all",
        &[
            "paths",
            "MB",
            "bytes a path",
            "peak, MB",
            "node, MB",
            "known, ns",
            "one of 1000, ns",
            "unknown, ns",
            "insert, ns",
            "longest lock, ms",
            "fold, ms",
            "snapshot, MB",
            "unfold, ms",
        ],
    );
    for ((paths, taken), node) in found.iter().zip(nodes) {
        let mb = |bytes: f64, places| digits(bytes / 1e6, places);
        table.row([
            paths.to_string(),
            mb(taken.resident, 1),
            digits(taken.resident / *paths as f64, 1),
            mb(taken.peak, 1),
            mb(*node, 1),
            digits(taken.hit_ns, 0),
            digits(taken.hot_ns, 0),
            digits(taken.miss_ns, 0),
            digits(taken.insert_ns, 0),
            digits(taken.longest_ms, 2),
            digits(taken.fold_ms, 1),
            mb(taken.folded_bytes as f64, 1),
            digits(taken.unfold_ms, 1),
        ]);
    }
    table
}

fn charts(found: &[(u64, Taken)]) -> Vec<Chart> {
    let line = |name: &str, of: fn(&Taken) -> f64| Line {
        name: name.to_owned(),
        points: found.iter().map(|(paths, taken)| (*paths as f64, of(taken))).collect(),
    };
    vec![
        Chart {
            name: "paths",
            title: "Look-up in the index, by invalidated paths".to_owned(),
            x: "invalidated paths",
            y: "CPU time, nanoseconds. Flat is good.",
            scale: Scale::Logarithmic,
            lines: vec![
                line("known path", |taken| taken.hit_ns),
                line("one of 1000", |taken| taken.hot_ns),
                line("unknown path", |taken| taken.miss_ns),
            ],
            goal: None,
        },
        Chart {
            name: "paths-memory",
            title: "Memory of the index, by invalidated paths".to_owned(),
            x: "invalidated paths",
            y: "megabytes",
            scale: Scale::Logarithmic,
            lines: vec![line("index", |taken| taken.resident / 1e6)],
            goal: Some(GOAL_MB),
        },
    ]
}

fn path(number: u64) -> String {
    format!("/shop/category-{}/product-{number}/", number % 1000)
}

fn record(first: u64, paths: u64) -> Record {
    let paths = (first..first + paths).map(|number| Target { host: None, path: path(number).into() });
    Record { paths: paths.collect(), ..Record::default() }
}

/// Fills an index, and returns it, nanoseconds of a path, and milliseconds of the longest record.
pub(crate) fn fill(paths: u64) -> (Index, f64, f64) {
    let (mut index, mut spent, mut longest) = (Index::default(), 0.0, 0.0f64);
    for first in (0..paths).step_by(RECORD as usize) {
        let record = record(first, RECORD.min(paths - first));
        let started = cpu_nanoseconds();
        index.apply(Sequence(first / RECORD + 1), &record);
        let took = cpu_nanoseconds() - started;
        spent += took;
        longest = longest.max(took);
    }
    assert_eq!(index.len() as u64, paths, "no two paths share a key");
    (index, spent / paths as f64, longest / 1e6)
}

/// In a process of its own.
pub(crate) fn taken(paths: u64) -> Taken {
    let before = resident_bytes();
    let (index, insert_ns, longest_ms) = fill(paths);
    let (resident, peak) = (resident_bytes() - before, peak_bytes() - before);
    let hit_ns = look_up_nanoseconds(&index, &|chance| chance.below(paths), true);
    let hot_ns = look_up_nanoseconds(&index, &|chance| chance.below(HOT) * (paths / HOT), true);
    let miss_ns = look_up_nanoseconds(&index, &|chance| paths + chance.below(paths), false);
    let started = Instant::now();
    let folded = index.to_bytes();
    let fold_ms = started.elapsed().as_secs_f64() * 1e3;
    let started = Instant::now();
    let (unfolded, _) = Index::from_bytes(&folded).expect("it was written just now");
    let unfold_ms = started.elapsed().as_secs_f64() * 1e3;
    assert_eq!(unfolded.len(), index.len());
    let folded_bytes = folded.len() as u64;
    Taken { resident, peak, insert_ns, longest_ms, hit_ns, hot_ns, miss_ns, fold_ms, folded_bytes, unfold_ms }
}

/// In a process of its own: what a node takes that was told of so many paths, what it remembers for people included.
pub(crate) fn node(paths: u64) -> f64 {
    runtime().block_on(async {
        let journal = std::sync::Arc::new(MemoryJournal::new(random_identity()));
        let invalidations = Invalidations::start(journal, Recovered::default());
        let before = resident_bytes();
        for first in (0..paths).step_by(RECORD as usize) {
            let record = record(first, RECORD.min(paths - first));
            invalidations.submit(record).await.expect("a memory journal takes everything");
        }
        assert_eq!(invalidations.names() as u64, paths);
        resident_bytes() - before
    })
}

/// Of paths that are all known, or all unknown.
fn look_up_nanoseconds(index: &Index, next: &dyn Fn(&mut Chance) -> u64, is_known: bool) -> f64 {
    let mut chance = Chance::new(11);
    let rounds = (0..ROUNDS).map(|_| {
        let (mut spent, mut done) = (0.0, 0);
        while done < LOOKUPS / ROUNDS {
            let asked: Vec<(String, PathId)> = (0..1024)
                .map(|_| {
                    let path = path(next(&mut chance));
                    let id = path_id(&path);
                    (path, id)
                })
                .collect();
            let mut known = 0;
            let started = cpu_nanoseconds();
            for (path, path_id) in &asked {
                let subject = Subject { host: "shop.example", path, path_id, tags: &[] };
                known += usize::from(index.newest(&subject) != Newest::default());
            }
            spent += cpu_nanoseconds() - started;
            assert_eq!(known, if is_known { asked.len() } else { 0 });
            done += asked.len();
        }
        spent / done as f64
    });
    median(rounds.collect())
}
