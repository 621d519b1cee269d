//! Does everpage stay as fast and as small as it is, when everything grows? Pages, invalidated paths, variants, tags, fields; and memory, under a million
//! pages and under churn; and a start on a million pages.
//!
//! `cargo bench --bench scale` measures everything, `cargo bench --bench scale -- --only pages,paths` parts of it. See `benches/README.md`.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod app;
#[path = "../shared/browser.rs"]
mod browser;
mod chart;
mod child;
mod churn;
mod fields;
mod figures;
mod gauge;
mod memory;
mod no_store;
mod origin;
mod pages;
mod paths;
#[path = "../shared/process.rs"]
#[expect(dead_code, reason = "S3 is another bench's, and so is CPU time")]
mod process;
mod proxy;
mod rules;
mod start;
mod variants;
mod visits;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::figures::Findings;

/// Where what comes out is written.
const OUTPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/scale");
/// The pictures that the documentation shows.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/scale");

/// How costs grow with pages, invalidations, variants, tags and fields; what a page takes; how soon the first hit comes
#[derive(Parser)]
#[command(name = "cargo bench --bench scale --")]
struct Options {
    /// Small numbers: to see that all works
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Put the pictures into benches/scale
    #[arg(long)]
    keep: bool,
    /// Where the stores of `memory`, `churn` and `start` lie; memory if nobody says otherwise, since to plant a million files takes a disk many minutes
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Cargo says it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    child: Option<Words>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// A hit, by pages in memory
    Pages,
    /// The index, by invalidated paths
    Paths,
    /// A hit, by variants of its path
    Variants,
    /// A judgement, by prefixes and tags
    Rules,
    /// A hit, by fields of request and response
    Fields,
    /// What a page takes in memory
    Memory,
    /// Whether memory grows as pages come and go
    Churn,
    /// The first hit after a start on a million pages
    Start,
}

/// What this program starts of itself.
#[derive(Subcommand)]
enum Words {
    #[command(hide = true)]
    Child {
        #[command(subcommand)]
        task: Task,
    },
}

#[derive(Subcommand)]
enum Task {
    Paths { paths: u64 },
    Node { paths: u64 },
    Memory { pages: u64, from: memory::From, folder: PathBuf },
    Churn { rounds: usize, from: memory::From, folder: PathBuf },
    Plant { folder: PathBuf, pages: u64 },
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.child {
        None => measure(&options),
        Some(Words::Child { task }) => {
            println!("{}", run(task)?);
            Ok(())
        }
    }
}

fn run(task: Task) -> serde_json::Result<String> {
    match task {
        Task::Paths { paths } => serde_json::to_string(&paths::taken(paths)),
        Task::Node { paths } => serde_json::to_string(&paths::node(paths)),
        Task::Memory { pages, from, folder } => serde_json::to_string(&memory::taken(pages, from, &folder)),
        Task::Churn { rounds, from, folder } => serde_json::to_string(&churn::run(rounds, from, &folder)),
        Task::Plant { folder, pages } => serde_json::to_string(&start::plant(&folder, pages)),
    }
}

fn measure(options: &Options) -> Result<()> {
    let memory = |quick| memory::measure(quick, &options.folder);
    let churn = |quick| churn::measure(quick, &options.folder);
    let start = |quick| start::measure(quick, &options.folder);
    let parts: [(Part, &dyn Fn(bool) -> Findings); 8] = [
        (Part::Pages, &pages::measure),
        (Part::Paths, &paths::measure),
        (Part::Variants, &variants::measure),
        (Part::Rules, &rules::measure),
        (Part::Fields, &fields::measure),
        (Part::Memory, &memory),
        (Part::Churn, &churn),
        (Part::Start, &start),
    ];
    fs::create_dir_all(OUTPUT).with_context(|| format!("cannot create {OUTPUT}"))?;
    let (mut all, mut missed) = (BTreeMap::new(), Vec::new());
    for (part, measure) in parts {
        if !options.only.is_empty() && !options.only.contains(&part) {
            continue;
        }
        let started = Instant::now();
        let findings = measure(options.quick);
        println!("\n## {part:?}, {:.0} s", started.elapsed().as_secs_f64());
        findings.tables.iter().for_each(|table| print!("{}", table.text()));
        write_pictures(&findings, options)?;
        missed.extend(findings.missed.iter().map(|what| format!("{part:?}: {what}")));
        all.insert(part, findings);
    }
    let json = serde_json::to_string_pretty(&all)?;
    let path = Path::new(OUTPUT).join("result.json");
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nThe same as JSON, and the pictures: {OUTPUT}");
    ensure!(missed.is_empty(), "goals that were not reached:\n{}", missed.join("\n"));
    Ok(())
}

fn write_pictures(findings: &Findings, options: &Options) -> Result<()> {
    for chart in &findings.charts {
        let folders = [Some(OUTPUT), options.keep.then_some(KEPT)];
        for folder in folders.into_iter().flatten() {
            let path = Path::new(folder).join(format!("{}.svg", chart.name));
            fs::write(&path, chart.svg()).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
