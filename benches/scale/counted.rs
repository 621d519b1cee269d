//! Bytes and allocations of a page and of an invalidated path, counted in the allocator: what `scale` sees from outside, without what the allocator itself
//! adds. A program of its own, because counting costs time.
//!
//! `cargo bench --bench scale_counted`

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(dead_code, reason = "the rest of these modules is measured by the other bench")]

mod app;
#[path = "../shared/browser.rs"]
mod browser;
mod chart;
mod child;
mod figures;
mod gauge;
mod no_store;
mod paths;
mod proxy;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::app::App;
use crate::figures::{Table, digits};
use crate::proxy::{Proxy, request, runtime};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PAGES: u64 = 200_000;
const PATHS: [u64; 3] = [100_000, 1_000_000, 10_000_000];
const BODIES: [usize; 2] = [16, 2048];

fn main() {
    let mut table = Table::new("Counted in the allocator", &["", "bytes each", "allocations each"]);
    let mut row = |what: String, count: u64, region: &Region<'_, System>| {
        let change = region.change();
        let bytes = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        let allocations = change.allocations as f64 - change.deallocations as f64;
        table.row([what, digits(bytes / count as f64, 1), digits(allocations / count as f64, 2)]);
    };
    for bytes in BODIES {
        runtime().block_on(async {
            let proxy = Proxy::new(4 << 30, App::default());
            let path = |number: u64| format!("/{bytes}/category-{}/product-{number:07}/", number % 1000);
            // What is made once is made before.
            proxy.fill(request(&path(PAGES), &[])).await;
            let region = Region::new(ALLOCATOR);
            for number in 0..PAGES {
                proxy.fill(request(&path(number), &[])).await;
            }
            row(format!("page of {bytes} bytes"), PAGES, &region);
        });
    }
    for paths in PATHS {
        let region = Region::new(ALLOCATOR);
        let (index, ..) = paths::fill(paths);
        row(format!("invalidated path of {paths}"), paths, &region);
        drop(index);
    }
    print!("{}", table.text());
}
