//! Does it cost more to judge a page the more prefixes and tags were invalidated, the more tags it has, the deeper its path is?
//!
//! A page that was judged since the last invalidation costs one comparison, whatever was invalidated. One that was not is looked up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use everpage::invalidation::journal::Recovered;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::selector::{Record, Target};
use everpage::invalidation::{Invalidations, Verdict};
use everpage::page::Page;

use crate::chart::{Chart, Line, Scale};
use crate::figures::{Findings, Table, digits, median};
use crate::gauge::cpu_nanoseconds;
use crate::proxy::{page, runtime};

const INVALIDATED: [u64; 5] = [1, 10, 100, 1_000, 100_000];
const TAGS: [u64; 6] = [0, 1, 4, 16, 32, 64];
const DEPTHS: [u64; 5] = [1, 2, 4, 8, 16];
/// Of a page where another number is varied.
const USUAL_TAGS: u64 = 8;
const USUAL_DEPTH: u64 = 4;
const JUDGEMENTS: usize = 20_000;
const ROUNDS: usize = 7;

/// What is varied, and what came out.
struct Group {
    name: &'static str,
    /// The page is varied, not what was invalidated.
    is_page: bool,
    rows: Vec<Row>,
}

/// Nanoseconds of a judgement.
struct Row {
    what: String,
    number: f64,
    stale: f64,
    current: f64,
}

pub(crate) fn measure(quick: bool) -> Findings {
    let groups = groups(if quick { JUDGEMENTS / 10 } else { JUDGEMENTS });
    let mut table = Table::new(
        format!(
            "Judging a page ({USUAL_TAGS} tags, {USUAL_DEPTH} segments if not said otherwise): CPU time, nanoseconds"
        ),
        &["", "looked up, ns", "up to date, ns"],
    );
    for row in groups.iter().flat_map(|group| &group.rows) {
        table.row([row.what.clone(), digits(row.stale, 0), digits(row.current, 1)]);
    }
    Findings { tables: vec![table], charts: charts(&groups), missed: Vec::new() }
}

fn groups(times: usize) -> Vec<Group> {
    let row = |number: u64, what: &str, tags: u64, depth: u64, invalidated: (u64, u64)| {
        let (stale, current) = runtime().block_on(judge(tags, depth, invalidated, times));
        Row { what: format!("{number} {what}"), number: number as f64, stale, current }
    };
    let group = |name, is_page, numbers: &[u64], row: &dyn Fn(u64) -> Row| Group {
        name,
        is_page,
        rows: numbers.iter().copied().map(row).collect(),
    };
    vec![
        group("prefixes invalidated", false, &INVALIDATED, &|n| {
            row(n, "prefixes invalidated", USUAL_TAGS, USUAL_DEPTH, (n, 0))
        }),
        group("tags invalidated", false, &INVALIDATED, &|n| {
            row(n, "tags invalidated", USUAL_TAGS, USUAL_DEPTH, (0, n))
        }),
        group("tags of the page", true, &TAGS, &|n| row(n, "tags of the page", n, USUAL_DEPTH, (100, 100))),
        group("depth of the path", true, &DEPTHS, &|n| row(n, "segments of the path", USUAL_TAGS, n, (100, 100))),
    ]
}

fn charts(groups: &[Group]) -> Vec<Chart> {
    let line = |name: &str, group: &Group, of: fn(&Row) -> f64| Line {
        name: name.to_owned(),
        points: group.rows.iter().map(|row| (row.number, of(row))).collect(),
    };
    let lines = |is_page: bool| {
        let mut lines = Vec::new();
        for group in groups.iter().filter(|group| group.is_page == is_page) {
            lines.push(line(group.name, group, |row| row.stale));
            if group.name.starts_with("tags") {
                lines.push(line("up to date", group, |row| row.current));
            }
        }
        lines
    };
    let chart = |name, title: &str, x, scale, lines| Chart {
        name,
        title: title.to_owned(),
        x,
        y: "CPU time, nanoseconds",
        scale,
        lines,
        goal: None,
    };
    let invalidated = "Judging a page after an invalidation of others";
    let page = "Judging a page, by what it has";
    vec![
        chart("rules", invalidated, "invalidated", Scale::Logarithmic, lines(false)),
        chart("tags", page, "tags, or segments of its path", Scale::Linear, lines(true)),
    ]
}

/// Nanoseconds of a judgement that looks up, and of one that need not.
async fn judge(tags: u64, depth: u64, (prefixes, other_tags): (u64, u64), times: usize) -> (f64, f64) {
    let path: String = (1..depth).map(|number| format!("/section-{number}")).collect();
    let own: Vec<String> = (0..tags).map(|number| format!("product-{number}")).collect();
    let more = if own.is_empty() { Vec::new() } else { vec![("cache-tag".to_owned(), own.join(","))] };
    let page = page(&format!("/2048{path}/"), more).await;
    assert_eq!(page.head.tags.len() as u64, tags);
    let journal = Arc::new(MemoryJournal::new(page.head.journal.clone()));
    let invalidations = Invalidations::start(journal, Recovered::default());
    // Others' prefixes are as deep as the page's own path: each of its ancestors is looked up.
    let other = |number| Target { host: None, path: format!("/other-{number}{path}").into() };
    let record = Record {
        prefixes: (0..prefixes).map(other).collect(),
        tags: (0..other_tags).map(|number| format!("other-{number}").into()).collect(),
        ..Record::default()
    };
    invalidations.submit(record).await.expect("a memory journal takes everything");
    let stale = judgement_nanoseconds(&invalidations, &page, times, true);
    (stale, judgement_nanoseconds(&invalidations, &page, times * 10, false))
}

fn judgement_nanoseconds(invalidations: &Invalidations, page: &Page, times: usize, stale: bool) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let started = cpu_nanoseconds();
        for _ in 0..times / ROUNDS {
            if stale {
                page.validated_to.store(0, Ordering::Relaxed);
            }
            assert_eq!(invalidations.judge(std::hint::black_box(page)), Verdict::Valid);
        }
        (cpu_nanoseconds() - started) / (times / ROUNDS) as f64
    });
    median(rounds.collect())
}
