//! Does memory grow as pages come and go? Twenty times its capacity goes through a tier, in pages of mixed sizes: fills, hits, invalidations, refills,
//! evictions, from four threads at once; fetched each time, or read from a store whenever they are there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everpage::clock::Clock;
use everpage::config::Config;
use everpage::invalidation::selector::{Record, Target};
use everpage::store::Store;
use everpage::store::filesystem::{FilesystemStore, Limits};
use tokio::task::JoinSet;

use crate::app::{App, body_bytes};
use crate::chart::{Chart, Line, Scale};
use crate::figures::{Findings, Table, digits};
use crate::gauge::{Chance, resident_bytes};
use crate::memory::From;
use crate::no_store::NoStore;
use crate::proxy::{Proxy, request};

const CAPACITY: u64 = 256 << 20;
const ROUNDS: usize = 20;
/// From then on memory must not grow.
const WARM: usize = 5;
/// It may be this much more in the last rounds than in those after which it is warm: chance.
const GROWTH_MAX: f64 = 1.05;
/// Ways into memory, and the most it may take then, in times the capacity. A store is read by many threads that may block, and what is too small for memory of
/// its own (`everpage::page::block`) lies in the heaps that the allocator makes for them.
const WAYS: [(&str, &str, f64); 2] = [("fetched", "origin", 1.2), ("read from the filesystem store", "store", 1.45)];
/// Rounds that the table shows.
const SHOWN: [usize; 6] = [1, 2, 5, 10, 15, 20];
/// Of the store: all pages and more.
const LIMITS: Limits = Limits { max_bytes: 1 << 40, max_memory_bytes: 64 << 20 };
const THREADS: usize = 4;
const VISITORS: usize = 16;
/// Bodies are of 2^8 to 2^18 bytes, each power as often as any.
const POWERS: [u32; 2] = [8, 18];
/// As many pages as take four times the capacity.
const PAGES: u64 = 28_000;
/// Of so many visits, one is an invalidation.
const VISITS_PER_INVALIDATION: u64 = 50;

pub(crate) fn measure(quick: bool, within: &Path) -> Findings {
    let rounds = if quick { 4 } else { ROUNDS };
    let folder = within.to_str().expect("the folder has a name");
    let resident = |from| -> Vec<f64> { crate::child::run(&["churn", &rounds.to_string(), from, folder]) };
    let share = |bytes: f64| bytes / CAPACITY as f64;
    let title = format!(
        "Resident memory over the capacity of the tier ({} MiB), after so many times the capacity",
        CAPACITY >> 20
    );
    let head: Vec<String> = [String::new()].into_iter().chain(SHOWN.map(|round| round.to_string())).collect();
    let mut table = Table::new(title, &head.iter().map(String::as_str).collect::<Vec<_>>());
    let mut lines = Vec::new();
    for (way, from, most) in WAYS {
        let shares: Vec<f64> = resident(from).into_iter().map(share).collect();
        let shown = SHOWN.map(|round| shares.get(round - 1).map_or(String::new(), |share| digits(*share, 2)));
        table.row([way.to_owned()].into_iter().chain(shown));
        check(way, &shares, most);
        lines.push(Line { name: way.to_owned(), points: (1..).map(f64::from).zip(shares).collect() });
    }
    let chart = Chart {
        name: "churn",
        title: "Resident memory while pages come and go".to_owned(),
        x: "times the capacity that went through",
        y: "times the capacity",
        scale: Scale::Linear,
        lines,
        goal: None,
    };
    Findings { tables: vec![table], charts: vec![chart], missed: Vec::new() }
}

fn check(way: &str, shares: &[f64], most: f64) {
    let largest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let share = largest(shares);
    assert!(share <= most, "{way}: memory is {share} times the capacity");
    if let (Some(warm), Some(last)) = (shares.get(WARM - 1..2 * WARM), shares.len().checked_sub(WARM)) {
        let (warm, last) = (largest(warm), largest(&shares[last..]));
        assert!(
            last <= warm * GROWTH_MAX,
            "{way}: memory grows: {warm} times the capacity when warm, {last} at the end"
        );
    }
}

/// In a process of its own: resident bytes after each round.
pub(crate) fn run(rounds: usize, from: From, within: &Path) -> Vec<f64> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(THREADS).enable_all().build().expect("threads can be started");
    let folder = tempfile::tempdir_in(within).expect("the folder can be written to");
    let store: Arc<dyn Store> = match from {
        From::Origin => Arc::new(NoStore::default()),
        From::Store => {
            Arc::new(FilesystemStore::open(folder.path(), "", 1, LIMITS, Clock::Wall).expect("the folder is new"))
        }
    };
    runtime.block_on(async {
        let proxy = Arc::new(Proxy::with(&Config::default(), CAPACITY, App::default(), store));
        let mut resident = Vec::new();
        for round in 0..rounds {
            let filled = Arc::new(AtomicU64::new(0));
            let mut visitors = JoinSet::new();
            for visitor in 0..VISITORS {
                let chance = Chance::new((round * VISITORS + visitor + 1) as u64);
                visitors.spawn(visit(Arc::clone(&proxy), chance, Arc::clone(&filled)));
            }
            visitors.join_all().await;
            let usage = proxy.memory.usage();
            assert!(usage.bytes <= usage.capacity, "{usage:?}");
            resident.push(resident_bytes());
        }
        proxy.handler.drain().await;
        let usage = proxy.memory.usage();
        assert!(usage.bytes > usage.capacity / 10 * 8, "it is in use: {usage:?}");
        resident
    })
}

/// Visits until as much came into memory as the tier takes.
async fn visit(proxy: Arc<Proxy>, mut chance: Chance, filled: Arc<AtomicU64>) {
    while filled.load(Ordering::Relaxed) < CAPACITY {
        let path = path(chance.below(PAGES));
        if chance.below(VISITS_PER_INVALIDATION) == 0 {
            let paths = vec![Target { host: None, path: path.as_str().into() }];
            let record = Record { paths, ..Record::default() };
            proxy.invalidations.submit(record).await.expect("a memory journal takes everything");
        }
        let status = proxy.get(request(&path, &[])).await;
        if status.contains("; stored") || status.contains("detail=filesystem") {
            filled.fetch_add(body_bytes(&path) as u64, Ordering::Relaxed);
        } else {
            assert!(status.contains("; hit") || status.contains("collapsed"), "{status}");
        }
    }
}

/// The same size in each run.
fn path(number: u64) -> String {
    let mut chance = Chance::new(number + 1);
    for _ in 0..4 {
        chance.below(2);
    }
    let [low, high] = POWERS;
    let power = low + u32::try_from(chance.below(u64::from(high - low))).expect("small");
    let bytes = (1u64 << power) + chance.below(1 << power);
    format!("/{bytes}/page-{number}/")
}
