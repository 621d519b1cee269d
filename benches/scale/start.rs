//! How soon does the first hit come after a start on a million pages on the disk? And is it slower while they are counted?

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everpage::clock::Clock;
use everpage::config::Config;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::{self, random_identity};
use everpage::store::Store;
use everpage::store::filesystem::{FilesystemStore, Limits};

use crate::app::App;
use crate::child;
use crate::figures::{Findings, Table, digits, median};
use crate::gauge::Chance;
use crate::memory::path;
use crate::origin::Origin;
use crate::process::Everpage;
use crate::proxy::{Proxy, request};
use crate::visits::{Visitor, settle};

const PAGES: u64 = 1_000_000;
const STARTS: usize = 5;
/// Hits whose latency is looked at.
const HITS: usize = 2000;
/// To the first hit: it shall be sooner.
const GOAL_SECONDS: f64 = 1.0;
const PLANTERS: u64 = 64;
/// Fills under way, their writes included: more than a store takes at once would not be stored.
const UNDER_WAY: usize = 128;
const FROM_STORE: &str = "everpage; hit; detail=filesystem";

pub(crate) fn measure(quick: bool, within: &Path) -> Findings {
    let pages = if quick { PAGES / 100 } else { PAGES };
    let folder = tempfile::tempdir_in(within).expect("the folder can be written to");
    let data = folder.path().join("everpage-data");
    let data_name = data.to_str().expect("this package lies in a folder with a name");
    let planted: u64 = child::run(&["plant", data_name, &pages.to_string()]);
    assert_eq!(planted, pages);
    let origin = Origin::start();
    // No memory tier: each hit is one of the store.
    let config = format!(
        "[origin]\nurl = \"http://{}\"\n[store.filesystem]\npath = \"{data_name}\"\n[memory]\ncapacity = \"0 B\"\n",
        origin.address
    );
    let mut chance = Chance::new(7);
    let (mut starts, mut during, mut after, mut counted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut memory = 0.0;
    for _ in 0..if quick { 2 } else { STARTS } {
        let started = Instant::now();
        let everpage = Everpage::start_in(folder.path(), &config);
        let mut visitor = Visitor::connect(everpage.public);
        let (status, _) = visitor.get(&path(chance.below(pages)));
        starts.push(started.elapsed().as_secs_f64());
        assert_eq!(status, FROM_STORE);
        during.push(hits(&mut visitor, &mut chance, pages));
        settle(&everpage);
        counted.push(started.elapsed().as_secs_f64());
        after.push(hits(&mut visitor, &mut chance, pages));
        memory = everpage.memory_mib();
    }
    assert_eq!(origin.requests(), 0, "nothing was fetched");
    let mut table = Table::new(
        format!(
            "A start on {pages} pages in {}, medians of {} starts; the goal is {GOAL_SECONDS} s",
            within.display(),
            starts.len()
        ),
        &["", ""],
    );
    let first_hit = median(starts);
    // Of few pages it says nothing.
    let is_missed = !quick && first_hit >= GOAL_SECONDS;
    let missed = is_missed.then(|| {
        format!("the first hit of {pages} pages came {first_hit:.2} s after the start; the goal is {GOAL_SECONDS}")
    });
    let of = |hits: &[[f64; 2]], which: usize| digits(median(hits.iter().map(|pair| pair[which]).collect()) * 1e6, 0);
    let rows = [
        ("from the start of the process to the first hit, ms", digits(first_hit * 1e3, 0)),
        ("hits right after the start, p50, µs", of(&during, 0)),
        ("hits right after the start, p99, µs", of(&during, 1)),
        ("until all are counted and it rests, s", digits(median(counted), 1)),
        ("hits then, p50, µs", of(&after, 0)),
        ("hits then, p99, µs", of(&after, 1)),
        ("memory then, MiB", digits(memory, 0)),
    ];
    rows.into_iter().for_each(|(what, figure)| table.row([what.to_owned(), figure]));
    Findings { tables: vec![table], charts: Vec::new(), missed: missed.into_iter().collect() }
}

/// Median and 99th percentile, in seconds.
fn hits(visitor: &mut Visitor, chance: &mut Chance, pages: u64) -> [f64; 2] {
    let mut latencies: Vec<Duration> = Vec::new();
    for _ in 0..HITS {
        let (status, took) = visitor.get(&path(chance.below(pages)));
        assert_eq!(status, FROM_STORE);
        latencies.push(took);
    }
    latencies.sort_unstable();
    [latencies[HITS / 2].as_secs_f64(), latencies[HITS / 100 * 99].as_secs_f64()]
}

/// In a process of its own: puts so many pages into the folder as the server does, and returns how many lie there.
pub(crate) fn plant(folder: &Path, pages: u64) -> u64 {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    runtime.block_on(async {
        let config = Config::default();
        let limits = Limits { max_bytes: 1 << 40, max_memory_bytes: config.cache.max_memory_size };
        let store =
            FilesystemStore::open(folder, "", config.cache.version, limits, Clock::Wall).expect("the folder is new");
        let store = Arc::new(store) as Arc<dyn Store>;
        let (journal, recovered) =
            journal::filesystem::open(&folder.join("default"), Clock::Wall.now(), random_identity).expect("it is new");
        let invalidations = Arc::new(Invalidations::start(Arc::new(journal), recovered));
        let proxy = Arc::new(Proxy::knowing(invalidations, &config, 0, App::default(), Arc::clone(&store)));
        let mut planters = tokio::task::JoinSet::new();
        for first in 0..PLANTERS {
            let proxy = Arc::clone(&proxy);
            planters.spawn(async move {
                for number in (first..pages).step_by(PLANTERS as usize) {
                    while proxy.handler.flights() > UNDER_WAY {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    proxy.fill(request(&path(number), &[])).await;
                }
            });
        }
        planters.join_all().await;
        proxy.handler.drain().await;
        store.usage().objects
    })
}
