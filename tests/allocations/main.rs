//! How many allocations does a hit cost? Counted, each with its reason: one more fails, and so does one less, until it is written here.
//!
//! Only how many: how long they take is a matter of `benches`.

#[path = "../../benches/shared/browser.rs"]
mod browser;
#[path = "../../benches/instructions/scenarios/mod.rs"]
mod scenarios;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::scenarios::SCENARIOS;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests that are counted; each must need as much as the others.
const ROUNDS: usize = 50;

/// The scenarios that are hits on a connection that stays open. valgrind's `dhat` shows where they allocate.
const HITS: [&str; 5] = [
    "connection: hit of 2 KiB",
    "connection: hit of 16 KiB",
    "connection: 304",
    "connection: HEAD",
    "connection: hit after an invalidation",
];

/// One for each allocation of such a hit: none. Buffers of a connection are kept from request to request, and what a hit sends is the page's own.
const REASONS: [&str; 0] = [];

/// Allocations of each request, the growing of what there is among them.
fn allocations(name: &str) -> Vec<usize> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).expect("it is one of them");
    let mut counts = Vec::with_capacity(ROUNDS);
    scenario.play(ROUNDS, &mut |work| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        counts.push(change.allocations + change.reallocations);
    });
    counts
}

// The counter sees all threads, and tests run side by side: this one stays alone in its program.
#[test]
fn a_hit_allocates_only_what_has_a_reason() {
    for name in HITS {
        for count in allocations(name) {
            assert_eq!(
                count,
                REASONS.len(),
                "{name}: a hit allocates {count} times, and REASONS has {} sentences: a new allocation needs a good reason, one that is gone loses its own",
                REASONS.len()
            );
        }
    }
}
