//! Does memory grow as pages come and go? Twenty times its capacity goes through a tier, in pages of mixed sizes: fills, hits, invalidations, refills,
//! evictions, from four threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everpage::invalidation::selector::{Record, Target};
use tokio::task::JoinSet;

use crate::app::{App, body_bytes};
use crate::chart::{Chart, Line, Scale};
use crate::figures::{Findings, Table, digits};
use crate::gauge::{Chance, resident_bytes};
use crate::proxy::{Proxy, request};

const CAPACITY: u64 = 256 << 20;
const ROUNDS: usize = 20;
/// From then on memory must not grow.
const WARM: usize = 5;
/// It may be this much more in the last rounds than in those after which it is warm: chance.
const GROWTH_MAX: f64 = 1.10;
const THREADS: usize = 4;
const VISITORS: usize = 16;
/// Bodies are of 2^8 to 2^18 bytes, each power as often as any.
const POWERS: [u32; 2] = [8, 18];
/// As many pages as take four times the capacity.
const PAGES: u64 = 28_000;
/// Of so many visits, one is an invalidation.
const VISITS_PER_INVALIDATION: u64 = 50;

pub(crate) fn measure(quick: bool) -> Findings {
    let rounds = if quick { 4 } else { ROUNDS };
    let resident: Vec<f64> = crate::child::run(&["churn", &rounds.to_string()]);
    findings("the system's allocator", &resident)
}

pub(crate) fn findings(allocator: &str, resident: &[f64]) -> Findings {
    let share = |bytes: f64| bytes / CAPACITY as f64;
    let mut table = Table::new(
        format!(
            "Resident memory over the capacity of the tier ({} MiB), {allocator}, after so many times the capacity",
            CAPACITY >> 20
        ),
        &["rounds", "resident, MiB", "over capacity"],
    );
    let points: Vec<(f64, f64)> = (1..).map(f64::from).zip(resident.iter().copied().map(share)).collect();
    for (round, share) in points.iter().filter(|(round, _)| *round <= 3.0 || round % 5.0 == 0.0) {
        table.row([digits(*round, 0), digits(share * (CAPACITY >> 20) as f64, 0), digits(*share, 2)]);
    }
    let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    if let (Some(warm), Some(last)) = (resident.get(WARM - 1..2 * WARM), resident.len().checked_sub(WARM)) {
        let (warm, last) = (most(warm), most(&resident[last..]));
        assert!(last <= warm * GROWTH_MAX, "memory grows: {warm} bytes when warm, {last} at the end");
    }
    let chart = Chart {
        name: "churn",
        title: "Resident memory while pages come and go".to_owned(),
        x: "times the capacity that went through",
        y: "times the capacity",
        scale: Scale::Linear,
        lines: vec![Line { name: allocator.to_owned(), points }],
        goal: None,
    };
    Findings { tables: vec![table], charts: vec![chart], missed: Vec::new() }
}

/// In a process of its own: resident bytes after each round.
pub(crate) fn run(rounds: usize) -> Vec<f64> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(THREADS).enable_all().build().expect("threads can be started");
    runtime.block_on(async {
        let proxy = Arc::new(Proxy::new(CAPACITY, App::default()));
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
        let usage = proxy.memory.usage();
        assert!(usage.bytes > usage.capacity / 10 * 8, "it is in use: {usage:?}");
        resident
    })
}

/// Visits until as much was fetched as the tier takes.
async fn visit(proxy: Arc<Proxy>, mut chance: Chance, filled: Arc<AtomicU64>) {
    while filled.load(Ordering::Relaxed) < CAPACITY {
        let path = path(chance.below(PAGES));
        if chance.below(VISITS_PER_INVALIDATION) == 0 {
            let paths = vec![Target { host: None, path: path.as_str().into() }];
            let record = Record { paths, ..Record::default() };
            proxy.invalidations.submit(record).await.expect("a memory journal takes everything");
        }
        let status = proxy.get(request(&path, &[])).await;
        if status.contains("; stored") {
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
