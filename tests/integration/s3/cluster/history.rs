//! What happened, in the order in which it happened, and whether it may: an answer to a request that began after an invalidation was answered is never of
//! an older version than the origin had when that invalidation was sent.
//!
//! Versions are those of the whole site, moments are numbers of one counter: nothing here reads a clock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;

/// What comes later has a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// An invalidation that was answered 200.
#[derive(Clone, Debug)]
pub(super) struct Invalidation {
    /// The pages that it names.
    pub(super) pages: Vec<usize>,
    /// The version that the origin had when it was first sent.
    pub(super) version: u64,
    /// When its answer had arrived.
    pub(super) answered: Moment,
}

/// A page that a visitor got.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) page: usize,
    /// Before it was sent.
    pub(super) began: Moment,
    /// The version that it shows.
    pub(super) version: u64,
    pub(super) node: usize,
    /// What `Cache-Status` says.
    pub(super) said: Box<str>,
}

/// Everything that was seen from outside.
#[derive(Default)]
pub(super) struct History {
    counter: AtomicU64,
    invalidations: Mutex<Vec<Invalidation>>,
    visits: Mutex<Vec<Visit>>,
}

/// What a history shows.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Answers that were compared with what had been invalidated.
    pub(super) answers: usize,
    /// Those of them that came from a cache.
    pub(super) hits: usize,
    /// Those that show a version which an answered invalidation had ended before they were asked for, in words.
    pub(super) stale: Vec<String>,
}

impl History {
    pub(super) fn now(&self) -> Moment {
        Moment(self.counter.fetch_add(1, SeqCst))
    }

    pub(super) fn answered(&self, invalidation: Invalidation) {
        self.invalidations.lock().push(invalidation);
    }

    pub(super) fn visited(&self, visit: Visit) {
        self.visits.lock().push(visit);
    }

    /// Looks at all of it.
    pub(super) fn judge(&self) -> Verdict {
        let floors = Floors::of(&self.invalidations.lock());
        let visits = self.visits.lock();
        let stale = visits.iter().filter_map(|visit| {
            let least = floors.at(visit.page, visit.began);
            (visit.version < least).then(|| {
                let Visit { page, version, node, said, .. } = visit;
                format!("page {page} of node {node}: version {version} after {least} was due ({said})")
            })
        });
        let hits = visits.iter().filter(|visit| visit.said.contains("; hit")).count();
        Verdict { answers: visits.len(), hits, stale: stale.collect() }
    }
}

/// From when on which version of a page is the oldest that may be seen: both grow.
struct Floors(HashMap<usize, Vec<(Moment, u64)>>);

impl Floors {
    fn of(invalidations: &[Invalidation]) -> Self {
        let mut by_answer: Vec<_> = invalidations.iter().collect();
        by_answer.sort_by_key(|invalidation| invalidation.answered);
        let mut floors: HashMap<usize, Vec<(Moment, u64)>> = HashMap::new();
        for invalidation in by_answer {
            for page in &invalidation.pages {
                let steps = floors.entry(*page).or_default();
                let before = steps.last().map_or(0, |(_, version)| *version);
                steps.push((invalidation.answered, before.max(invalidation.version)));
            }
        }
        Floors(floors)
    }

    fn at(&self, page: usize, moment: Moment) -> u64 {
        let Some(steps) = self.0.get(&page) else { return 0 };
        let known = steps.partition_point(|(answered, _)| *answered < moment);
        known.checked_sub(1).map_or(0, |last| steps[last].1)
    }
}

mod tests {
    use rand::prelude::*;

    use super::{History, Invalidation, Moment, Visit};

    fn visit(page: usize, began: Moment, version: u64) -> Visit {
        Visit { page, began, version, node: 0, said: "everpage; hit; detail=memory".into() }
    }

    #[test]
    fn an_old_page_is_stale_only_if_it_was_asked_for_after_the_answer_and_was_named() {
        let history = History::default();
        let before = history.now();
        history.answered(Invalidation { pages: vec![1], version: 5, answered: history.now() });
        // Sent before the other, and answered after it.
        history.answered(Invalidation { pages: vec![1], version: 3, answered: history.now() });
        let after = history.now();
        for fine in [visit(1, before, 4), visit(0, after, 4), visit(1, after, 5), visit(1, after, 6)] {
            history.visited(fine);
        }
        assert_eq!(history.judge().stale, [""; 0]);
        history.visited(visit(1, after, 4));
        let verdict = history.judge();
        assert_eq!((verdict.answers, verdict.hits, verdict.stale.len()), (5, 5, 1));
        assert!(verdict.stale[0].contains("page 1 of node 0: version 4 after 5 was due"), "{:?}", verdict.stale);
    }

    /// A site that never lies for thousands of steps, and then does once.
    #[test]
    fn one_stale_answer_among_thousands_is_found() {
        for seed in 0..50 {
            let mut chance = StdRng::seed_from_u64(seed);
            let history = History::default();
            let (mut site, mut shown) = (0, [0; 5]);
            for _ in 0..2000 {
                let page = chance.random_range(0..5);
                if chance.random_ratio(1, 4) {
                    site += 1;
                    shown[page] = site;
                    history.answered(Invalidation { pages: vec![page], version: site, answered: history.now() });
                } else {
                    // Rendered at any time since it was named.
                    let version = chance.random_range(shown[page]..=site);
                    history.visited(visit(page, history.now(), version));
                }
            }
            assert_eq!(history.judge().stale, [""; 0], "seed {seed}");
            let lie = {
                let mut visits = history.visits.lock();
                let due = |visit: &&mut Visit| visit.version > 0;
                let lie = visits.iter_mut().filter(due).choose(&mut chance).unwrap();
                let floor = super::Floors::of(&history.invalidations.lock()).at(lie.page, lie.began);
                lie.version = floor.saturating_sub(1);
                (floor > 0).then_some(lie.page)
            };
            let stale = history.judge().stale;
            assert_eq!(stale.len(), usize::from(lie.is_some()), "seed {seed}: {stale:?}");
            assert!(lie.is_none_or(|page| stale[0].contains(&format!("page {page} "))), "seed {seed}: {stale:?}");
        }
    }
}
