//! How fast is everpage beside nginx, Varnish and a responder that only answers? Start it with `benches/compare/run`; see `benches/README.md`.
//!
//! All stand before the same origin, on a core of their own; the load (wrk) has another. What is measured is hits: a run in which the origin is asked,
//! or in which an answer is not the one that was meant, fails.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

#[path = "../shared/browser.rs"]
mod browser;
mod limit;
mod machine;
mod measure;
mod origin;
mod pages;
mod peers;
mod plot;
mod process;
mod report;
mod visitor;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::limit::Manner;
use crate::machine::{Cores, Machine};
use crate::measure::{Bench, Case, Party};
use crate::origin::Origin;
use crate::pages::{MIX_BYTES, MIX_EXPONENT, MIX_PAGES, Pages};
use crate::peers::{Peer, Place};
use crate::process::Process;
use crate::report::{CaseReport, Report, Settings};
use crate::wrk::CONNECTIONS;

/// Of the pages that are asked for again and again.
const SIZES: [usize; 4] = [2 << 10, 16 << 10, 64 << 10, 1 << 20];
/// Of the cases that have one size: a small page, for there the server costs most beside the bytes.
const SMALL: usize = SIZES[0];
/// Memory that the mix needs: the pages some times, and room.
const MIX_MEMORY_GIB: u64 = 8;
/// Where what comes out is written.
const OUTPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/compare");
/// The picture that the README shows.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/result.svg");

/// everpage, nginx and Varnish compared, hit by hit
#[derive(Parser)]
#[command(name = "benches/compare/run")]
struct Options {
    /// One second and two rounds per case: to see that all works
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of each case; an even number treats all alike
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of a server in a round
    #[arg(long)]
    seconds: Option<u64>,
    /// Put the picture into benches/compare/result.svg
    #[arg(long)]
    keep: bool,
    /// Another binary of everpage
    #[arg(long, default_value = env!("CARGO_BIN_EXE_everpage"), hide_default_value = true)]
    everpage: PathBuf,
    /// A second one, in turn with the first, instead of the other caches: what did a change do?
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Cargo says it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Pages of four sizes, connections kept
    Hits,
    /// A connection for each request
    Close,
    /// 304 for who has the page
    #[value(name = "304")]
    NotModified,
    /// A mix of 100,000 pages
    Zipf,
    /// Latency at equal load
    Load,
    /// everpage with two workers instead of one
    Cores,
}

/// What this program starts of itself.
#[derive(Subcommand)]
enum Child {
    #[command(hide = true)]
    Limit { port: u16, manner: Manner, bytes: usize },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.child {
        Some(Child::Limit { port, manner, bytes }) => limit::serve(port, manner, bytes),
        None => compare(&options),
    };
    done.map_or_else(
        |error| {
            eprintln!("benches/compare: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn compare(options: &Options) -> Result<()> {
    let cores = Cores::choose()?;
    // Before there are threads, which would have to be moved too.
    cores.step_aside()?;
    Runtime::new()?.block_on(async {
        let [mut interrupt, mut terminate, mut hangup] =
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        // Whatever ends first, what was started is ended and removed as it is dropped.
        tokio::select! {
            done = measure(options, cores) => done,
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
            _ = hangup.recv() => anyhow::bail!("the terminal went away"),
        }
    })
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

async fn measure(options: &Options, cores: Cores) -> Result<()> {
    let (rounds, seconds) = if options.quick { (2, 1) } else { (6, 4) };
    let (rounds, seconds) = (options.rounds.unwrap_or(rounds), options.seconds.unwrap_or(seconds));
    ensure!(rounds > 0 && seconds > 0, "at least one round of one second is needed");
    if options.wants(Part::Zipf) {
        let available = machine::available_gib();
        ensure!(
            available >= MIX_MEMORY_GIB,
            "the mix needs {MIX_MEMORY_GIB} GiB of free memory, and there are {available}: --only hits,close,304,load"
        );
    }
    let pages = Arc::new(Pages::new());
    let origin = Origin::start(Arc::clone(&pages)).await?;
    let mut place = Place::new(origin.address.to_string(), options.everpage.clone())?;
    place.beside.clone_from(&options.beside);
    let (draws, draws_file) = (pages::draws(), place.path().join("draws"));
    fs::write(&draws_file, draws.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>())?;
    let settings = Settings { rounds, seconds, connections: CONNECTIONS, cores: cores.clone() };
    let mut report = Report { machine: Machine::look(&options.everpage), settings, cases: Vec::new() };
    println!("{}", report.head());
    let bench = Bench { rounds, seconds, cores, place, origin, pages, draws, draws_file };
    let start = |peer: Peer| anyhow::Ok((peer, bench.place.start(peer, &bench.cores.server)?));
    let peers = if options.beside.is_some() { &[Peer::Everpage, Peer::Beside][..] } else { &Peer::CACHES };
    let caches = peers.iter().copied().map(start).collect::<Result<Vec<_>>>()?;
    for (case, note) in cases(options) {
        done(&mut report, CaseReport::new(&case.name, note, bench.compare(&case, &caches).await?, false));
    }
    if options.wants(Part::Zipf) {
        done(&mut report, mix(&bench, &caches).await?);
    }
    let picture = plot::svg(&report.cases, &report.machine.line());
    if options.wants(Part::Load) {
        let name = hits_name(SMALL);
        let measured = report.cases.iter().find(|case| case.name == name);
        let case = equal_load(&bench, &caches, measured).await?;
        done(&mut report, case);
    }
    drop(caches);
    if options.wants(Part::Cores) {
        for case in two_cores(&bench).await? {
            done(&mut report, case);
        }
    }
    write(&report, &picture, options.keep)
}

/// The cases of one page, and what is to be said of each.
fn cases(options: &Options) -> Vec<(Case, String)> {
    let mut cases = Vec::new();
    let mut add = |name: String, manner, bytes, note: &str| {
        cases.push((Case { name, manner, bytes, rate: None }, note.to_owned()));
    };
    if options.wants(Part::Hits) {
        for bytes in SIZES {
            add(hits_name(bytes), Manner::Keep, bytes, "");
        }
    }
    if options.wants(Part::Close) {
        let note = "a connection for each; times are from the request on, without the connecting";
        for bytes in SIZES {
            add(format!("Hits, {}, no keep-alive", size(bytes)), Manner::Close, bytes, note);
        }
    }
    if options.wants(Part::NotModified) {
        add("304 Not Modified".to_owned(), Manner::NotModified, SMALL, "");
    }
    cases
}

fn hits_name(bytes: usize) -> String {
    format!("Hits, {}", size(bytes))
}

fn size(bytes: usize) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

/// All pages of the mix are fetched first.
async fn mix(bench: &Bench, caches: &[(Peer, Process)]) -> Result<CaseReport> {
    for (peer, process) in caches {
        visitor::fill(process.address, &bench.pages).await.with_context(|| format!("{} is filled", peer.name()))?;
        process.settle().await?;
    }
    let case = Case { name: "Zipf mix".to_owned(), manner: Manner::Mix, bytes: 0, rate: None };
    let rows = bench.compare(&case, caches).await?;
    let [smallest, median, largest] = MIX_BYTES.map(|bytes| bytes / 1024.0);
    let note = format!(
        "{MIX_PAGES} pages, s = {MIX_EXPONENT}; {smallest} to {largest} KiB, median {median}, together {} MiB; \
         nginx's lie in files, which are not in its memory",
        bench.pages.mix_total_bytes() >> 20
    );
    Ok(CaseReport::new(&case.name, note, rows, true))
}

/// The same number of requests for all, half of what the slowest can do: then times are not those of a queue.
async fn equal_load(bench: &Bench, caches: &[(Peer, Process)], measured: Option<&CaseReport>) -> Result<CaseReport> {
    let mut case = Case { name: "Capacity".to_owned(), manner: Manner::Keep, bytes: SMALL, rate: None };
    let now = match measured {
        Some(_) => None,
        None => Some(CaseReport::new(&case.name, String::new(), bench.compare(&case, caches).await?, false)),
    };
    let rows = measured.or(now.as_ref()).into_iter().flat_map(|case| &case.rows);
    let slowest = rows.map(|row| row.median.requests_per_second).fold(f64::INFINITY, f64::min);
    // To full hundreds, for readers.
    let rate = (slowest / 2.0 / 100.0).floor() * 100.0;
    case.name = format!("Equal load, {}", size(SMALL));
    case.rate = Some(rate);
    let rows = bench.compare(&case, caches).await?;
    let note = format!("{rate:.0} requests/s at random moments: half of what the slowest can do");
    Ok(CaseReport::new(&case.name, note, rows, false))
}

/// Two workers on two cores against one on one. On a machine with less than four, the load has the same two cores both times, and only CPU time per
/// request tells something.
async fn two_cores(bench: &Bench) -> Result<Vec<CaseReport>> {
    let one = bench.place.start(Peer::Everpage, &bench.cores.server)?;
    let two = bench.place.start(Peer::Everpage, &bench.cores.two_servers)?;
    let load_cores = &bench.cores.two_loads;
    let party = |name, process| Party { name, peer: Peer::Everpage, process, load_cores, own_core: None };
    let note = if bench.cores.two_loads == bench.cores.two_servers {
        "the load has the same two cores: only CPU time per request tells something"
    } else {
        "the load has two other cores"
    };
    let mut reports = Vec::new();
    for bytes in [SIZES[0], SIZES[1]] {
        let name = format!("Two cores, {}", size(bytes));
        let case = Case { name, manner: Manner::Keep, bytes, rate: None };
        let rows = bench.rounds(&case, &[party("2 workers", &two), party("1 worker", &one)]).await?;
        reports.push(CaseReport::new(&case.name, note.to_owned(), rows, false));
    }
    Ok(reports)
}

/// A case is over.
fn done(report: &mut Report, case: CaseReport) {
    println!("{}", case.table());
    report.cases.push(case);
}

fn write(report: &Report, picture: &str, keep: bool) -> Result<()> {
    let folder = Path::new(OUTPUT);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {OUTPUT}"))?;
    let tables: String = report.cases.iter().map(CaseReport::table).collect();
    fs::write(folder.join("result.md"), format!("{}{tables}", report.head()))?;
    fs::write(folder.join("result.json"), serde_json::to_string_pretty(report)? + "\n")?;
    fs::write(folder.join("result.svg"), picture)?;
    println!("written to {OUTPUT}: result.md, result.json, result.svg");
    if keep {
        fs::copy(folder.join("result.svg"), KEPT)?;
        println!("the picture is kept in {KEPT}");
    }
    Ok(())
}
