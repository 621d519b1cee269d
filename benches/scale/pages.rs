//! Does a hit cost more the more pages there are?
//!
//! Two things may: the algorithm, and the caches of the processor, into which many pages do not fit. So pages are asked for at random, and a thousand
//! among all of them again and again: where only the first grows, it is the caches.

use std::sync::Arc;

use bytes::Bytes;
use everpage::invalidation::journal::Recovered;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::{Invalidations, Verdict};
use everpage::page::{Key, Page};
use everpage::policy::path::path_id;
use everpage::store::memory_tier::MemoryTier;
use sha1::{Digest as _, Sha1};

use crate::app::App;
use crate::chart::{Chart, Line, Scale};
use crate::figures::{Findings, Table, digits, median};
use crate::gauge::{Chance, cpu_nanoseconds};
use crate::proxy::{Proxy, page, request, runtime};

const PAGES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const KEYS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Keys beyond that share their pages: heads and bodies of ten million would not fit into every machine.
const DISTINCT_PAGES: u64 = 1_000_000;
/// Pages that are asked for again and again.
const HOT: u64 = 1_000;
/// A hit copies no body: small ones are as good as any.
const BODY: usize = 128;
/// Nothing is evicted.
const CAPACITY: u64 = 16 << 30;
const HITS: usize = 100_000;
const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 7;
/// With the most pages, one of the thousand may take so many times as long as with the fewest: their tables lie farther apart.
const GOAL_TIMES: f64 = 2.0;

pub(crate) fn measure(quick: bool) -> Findings {
    let take = |all: &[u64]| all.iter().copied().filter(|number| !quick || *number <= 100_000).collect::<Vec<_>>();
    let (hits, lookups) = if quick { (HITS / 10, LOOKUPS / 10) } else { (HITS, LOOKUPS) };
    let columns = &["pages", "any page, ns", "one of 1000, ns"];
    let mut findings = Findings::default();
    for (name, title, points) in [
        ("pages", "Hit, by pages in memory", whole_hits(&take(&PAGES), hits)),
        ("keys", "Look-up in the memory tier and judgement, by pages", look_ups(&take(&KEYS), lookups)),
    ] {
        let mut table = Table::new(format!("{title}: CPU time, nanoseconds"), columns);
        for (pages, random, hot) in &points {
            table.row([pages.to_string(), digits(*random, 0), digits(*hot, 0)]);
        }
        let line = |name: &str, of: fn(&(u64, f64, f64)) -> f64| Line {
            name: name.to_owned(),
            points: points.iter().map(|point| (point.0 as f64, of(point))).collect(),
        };
        findings.missed.extend(missed(title, &points).filter(|_| !quick));
        findings.tables.push(table);
        findings.charts.push(Chart {
            name,
            title: title.to_owned(),
            x: "pages",
            y: "CPU time, nanoseconds. Flat is good.",
            scale: Scale::Logarithmic,
            lines: vec![line("any page", |point| point.1), line("one of 1000", |point| point.2)],
            goal: None,
        });
    }
    findings
}

fn missed(what: &str, points: &[(u64, f64, f64)]) -> Option<String> {
    let ((fewest, _, first), (most, _, last)) = (points.first()?, points.last()?);
    let is_missed = *last > GOAL_TIMES * first;
    is_missed.then(|| {
        format!(
            "{what}: one of {HOT} takes {last:.0} ns among {most} pages, {first:.0} among {fewest}; the goal is at most {GOAL_TIMES} times as long"
        )
    })
}

fn path(number: u64) -> String {
    format!("/{BODY}/section-{}/page-{number}/", number % 100)
}

/// `Handler::handle`, of a GET as a browser sends it.
fn whole_hits(steps: &[u64], hits: usize) -> Vec<(u64, f64, f64)> {
    let runtime = runtime();
    runtime.block_on(async {
        let proxy = Proxy::new(CAPACITY, App::default());
        let (mut there, mut points) = (0, Vec::new());
        for pages in steps.iter().copied() {
            for number in there..pages {
                proxy.fill(request(&path(number), &[])).await;
            }
            there = pages;
            let mut chance = Chance::new(pages);
            let random = proxy.hit_nanoseconds(hits, || request(&path(chance.below(pages)), &[])).await;
            let mut chance = Chance::new(pages);
            let apart = pages / HOT.min(pages);
            let hot = proxy.hit_nanoseconds(hits, || request(&path(chance.below(HOT) * apart), &[])).await;
            points.push((pages, random, hot));
        }
        points
    })
}

/// `MemoryTier::get` and `Invalidations::judge`.
fn look_ups(steps: &[u64], lookups: usize) -> Vec<(u64, f64, f64)> {
    let runtime = runtime();
    runtime.block_on(async {
        let tier = MemoryTier::new(4 * CAPACITY, 1 << 20);
        let template = page(&path(0), Vec::new()).await;
        // Of the journal that the template names, and at its beginning.
        let journal = Arc::new(MemoryJournal::new(template.head.journal.clone()));
        let invalidations = Invalidations::start(journal, Recovered::default());
        let (mut there, mut points, mut distinct) = (0, Vec::new(), Vec::new());
        for keys in steps.iter().copied() {
            for number in there..keys {
                if number < DISTINCT_PAGES {
                    distinct.push(another(&template, &path(number)));
                }
                let page: &Arc<Page> = &distinct[(number % DISTINCT_PAGES) as usize];
                assert_eq!(invalidations.judge(page), Verdict::Valid);
                tier.insert(key(number), Arc::clone(page));
            }
            there = keys;
            assert_eq!(tier.usage().entries, keys, "nothing was evicted");
            let apart = keys / HOT.min(keys);
            let random = look_up_nanoseconds(&tier, &invalidations, lookups, keys, 1);
            let hot = look_up_nanoseconds(&tier, &invalidations, lookups, HOT, apart);
            points.push((keys, random, hot));
        }
        points
    })
}

fn look_up_nanoseconds(tier: &MemoryTier, judges: &Invalidations, lookups: usize, keys: u64, apart: u64) -> f64 {
    let mut chance = Chance::new(keys);
    let rounds = (0..ROUNDS).map(|_| {
        // Room for the keys themselves is in the second cache at most.
        let (mut spent, mut done) = (0.0, 0);
        while done < lookups / ROUNDS {
            let asked: Vec<Key> = (0..1024).map(|_| key(chance.below(keys) * apart)).collect();
            let started = cpu_nanoseconds();
            for key in &asked {
                let page = tier.get(key).expect("it was put");
                assert_eq!(judges.judge(&page), Verdict::Valid);
            }
            spent += cpu_nanoseconds() - started;
            done += asked.len();
        }
        spent / done as f64
    });
    median(rounds.collect())
}

/// As a sha1 spreads them.
fn key(number: u64) -> Key {
    Key(Sha1::digest(number.to_le_bytes()).into())
}

fn another(template: &Page, path: &str) -> Arc<Page> {
    let mut head = template.head.clone();
    head.path = path.into();
    Arc::new(Page::new(head, Bytes::copy_from_slice(&template.body), path_id(path)))
}
