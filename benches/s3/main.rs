//! How fast are pages that lie in S3, and what do they cost? The real program before a quick origin, and an S3 emulator in a process of its own, so
//! that CPU time is that of everpage alone. Prints tables.
//!
//! `cargo bench --bench s3` measures everything, `cargo bench --bench s3 -- fills` what is named so (`hits`, `start`, `fills`, `memory`), and
//! `cargo bench --bench s3 -- soak 10` runs ten minutes of load, invalidations, restarts and faults. See `benches/README.md`.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod emulator;
mod fills;
mod hits;
mod memory;
mod origin;
#[path = "../shared/process.rs"]
mod process;
mod soak;
mod start;
mod support;
#[path = "../shared/visitor.rs"]
mod visitor;

use tokio::runtime::Runtime;

/// The word with which this program starts itself as the emulator.
const EMULATOR: &str = "emulator";

fn main() {
    // Cargo says --bench to every bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runtime = Runtime::new().expect("threads can be started");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [EMULATOR] => runtime.block_on(emulator::serve()),
        ["soak"] => runtime.block_on(soak::run(10)),
        ["soak", minutes] => runtime.block_on(soak::run(minutes.parse().expect("minutes are a number"))),
        ref named => runtime.block_on(measure(named)),
    }
}

async fn measure(named: &[&str]) {
    let is_wanted = |name: &str| named.is_empty() || named.contains(&name);
    if is_wanted("hits") {
        hits::measure().await;
    }
    if is_wanted("start") {
        start::measure().await;
    }
    if is_wanted("fills") {
        fills::measure().await;
    }
    if is_wanted("memory") {
        memory::measure().await;
    }
}

/// The one in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
