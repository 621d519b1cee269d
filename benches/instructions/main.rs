//! How many instructions does a request cost? Counted by callgrind, so the figure is the same on a busy machine and a quiet one, and compared with
//! what is written in `counts.toml`. See `benches/README.md`.
//!
//! It never measures time, and what the kernel does for a request is not in it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

#[path = "../shared/browser.rs"]
mod browser;
mod callgrind;
mod counts;
mod scenarios;

use std::hint::black_box;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::counts::{Counts, MadeWith};
use crate::scenarios::{SCENARIOS, Scenario};

/// Requests that are counted in each scenario: what happens once in a connection or a second does not show.
const ROUNDS: usize = 500;

/// Instructions per request, by callgrind
#[derive(Parser)]
#[command(name = "cargo bench --profile instructions --bench instructions --")]
struct Options {
    /// Write the figures into benches/instructions/counts.toml
    #[arg(long)]
    write: bool,
    /// Only scenarios whose names contain this
    #[arg(conflicts_with = "write")]
    only: Option<String>,
    /// What callgrind runs: play this scenario
    #[arg(long, hide = true)]
    play: Option<String>,
    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(name) = &options.play {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).context("no such scenario")?;
        scenario.play(ROUNDS, &mut |work| everpage_counted_part(work));
        return Ok(ExitCode::SUCCESS);
    }
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        println!("Skipped: the figures are those of x86-64 under Linux.");
        return Ok(ExitCode::SUCCESS);
    }
    let here = MadeWith::find_out()?;
    let known = if options.write { Counts::empty(here.clone()) } else { Counts::read()? };
    if known.made_with != here {
        println!("Skipped: the figures were made with {}; here are {here}.", known.made_with);
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |scenario: &&Scenario| options.only.as_ref().is_none_or(|only| scenario.name.contains(only));
    let mut counted = Counts::empty(here);
    for scenario in SCENARIOS.iter().filter(wanted) {
        counted.per_request.insert(scenario.name.to_owned(), callgrind::count(scenario.name)? / ROUNDS as u64);
    }
    if options.write {
        counted.write()?;
    }
    Ok(counts::report(&known, &counted, options.only.is_none()))
}

/// What callgrind looks for, by this name. The work is no last call, which would be made by a jump.
#[inline(never)]
fn everpage_counted_part(work: &mut dyn FnMut()) {
    work();
    black_box(());
}
