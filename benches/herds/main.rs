//! What do misses, herds and invalidations cost? `cargo build --release && cargo bench --bench herds`; see `benches/README.md`.
//!
//! The real program has a core of its own; the app behind it and the clients are this program, on another. Whatever is measured is checked: a wrong body,
//! a fetch too many, a page that was not kept, memory beyond its bound fail the bench.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

mod app;
#[path = "../shared/browser.rs"]
mod browser;
mod caller;
mod herd;
mod invalidations;
#[path = "../compare/limit.rs"]
#[expect(dead_code, reason = "nginx is set up as in the comparison, which has more servers")]
mod limit;
#[path = "../compare/machine.rs"]
#[expect(dead_code, reason = "the comparison looks at more")]
mod machine;
mod misses;
mod node;
#[path = "../compare/origin.rs"]
#[expect(dead_code, reason = "its fields are wanted; the app here can wait")]
mod origin;
#[path = "../compare/pages.rs"]
#[expect(dead_code, reason = "the mix is of the comparison")]
mod pages;
#[path = "../compare/peers.rs"]
#[expect(dead_code, reason = "of the servers of the comparison, nginx is wanted")]
mod peers;
#[path = "../compare/process.rs"]
#[expect(dead_code, reason = "the comparison waits otherwise")]
mod process;
mod rate;
mod reply;
mod report;
mod steady;
#[path = "../compare/visitor.rs"]
#[expect(dead_code, reason = "of the visitor of the comparison, the others there need a part")]
mod visitor;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::machine::{Cores, Machine};
use crate::node::Node;
use crate::peers::Place;
use crate::report::Table;

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where what comes out is written.
const OUTPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/herds");
/// Descriptors that the bench needs, and everpage: the herd, and room.
const DESCRIPTORS: u64 = 10_500;

/// Misses, herds and invalidations of everpage
#[derive(Parser)]
#[command(name = "cargo bench --bench herds --")]
struct Options {
    /// A few seconds: to see that all works
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Another binary of everpage
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/everpage"))]
    everpage: PathBuf,
    /// Cargo says it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a cache adds to a miss
    Misses,
    /// Misses as fast as they come
    Rate,
    /// 10,000 clients wait for one page
    Herd,
    /// Invalidations while hits go on
    Invalidations,
}

/// What all parts need.
pub(crate) struct Bench {
    pub(crate) quick: bool,
    pub(crate) has_nginx: bool,
    pub(crate) cores: Cores,
    pub(crate) place: Place,
    pub(crate) app: App,
}

impl Bench {
    /// everpage with its files in memory, as all have them in the comparison: the disk is not what is measured.
    pub(crate) fn start_in_memory(&self, more: &str) -> Result<Node> {
        let folder = TempDir::new_in(self.place.path()).context("no folder for a server")?;
        self.start(folder, more)
    }

    /// everpage with its files where the system has temporary ones: an invalidation waits for the disk.
    pub(crate) fn start_on_disk(&self) -> Result<Node> {
        self.start(TempDir::new().context("no folder for a server")?, "")
    }

    fn start(&self, folder: TempDir, more: &str) -> Result<Node> {
        Node::start(&self.place.everpage, &self.cores.server, self.app.address, folder, more)
    }
}

fn main() -> ExitCode {
    measure(&Options::parse()).map_or_else(
        |error| {
            eprintln!("benches/herds: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn measure(options: &Options) -> Result<()> {
    let binary = &options.everpage;
    ensure!(binary.is_file(), "there is no {}: cargo build --release", binary.display());
    raise_limit()?;
    let cores = Cores::choose()?;
    // Before there are threads, which would have to be moved too.
    cores.step_aside()?;
    Runtime::new()?.block_on(async {
        let [mut interrupt, mut terminate, mut hangup] =
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        // Whatever ends first, what was started is ended and removed as it is dropped.
        tokio::select! {
            done = parts(options, cores) => done,
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
            _ = hangup.recv() => anyhow::bail!("the terminal went away"),
        }
    })
}

/// Of open descriptors, for this process and those it starts.
fn raise_limit() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= DESCRIPTORS);
    ensure!(enough(maximum), "{DESCRIPTORS} open files are needed, and {maximum:?} may be had: raise `ulimit -Hn`");
    if !enough(current) {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("the limit of open files")?;
    }
    Ok(())
}

async fn parts(options: &Options, cores: Cores) -> Result<()> {
    let wants = |part: Part| options.only.is_empty() || options.only.contains(&part);
    let machine = Machine::look(&options.everpage);
    let has_nginx = Command::new("nginx").arg("-v").output().is_ok();
    println!("{}\nserver on core {}, app and clients on core {}", machine.line(), cores.server, cores.load);
    if !has_nginx {
        println!("There is no nginx here (Debian's nginx-light), so it is not measured.");
    }
    let mut tables: Vec<Table> = Vec::new();
    for part in [Part::Misses, Part::Rate, Part::Herd, Part::Invalidations].into_iter().filter(|part| wants(*part)) {
        // Counted from zero for each.
        let app = App::start().await?;
        let place = Place::new(app.address.to_string(), options.everpage.clone())?;
        let bench = Bench { quick: options.quick, has_nginx, cores: cores.clone(), place, app };
        let table = match part {
            Part::Misses => misses::measure(&bench).await?,
            Part::Rate => rate::measure(&bench).await?,
            Part::Herd => herd::measure(&bench).await?,
            Part::Invalidations => invalidations::measure(&bench).await?,
        };
        println!("{}", table.text());
        tables.push(table);
    }
    let folder = Path::new(OUTPUT);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {OUTPUT}"))?;
    let text: String = tables.iter().map(Table::text).collect();
    let json = json!({ "machine": machine, "cores": cores, "quick": options.quick, "tables": tables });
    fs::write(folder.join("result.md"), format!("{}\n{text}", machine.line()))?;
    fs::write(folder.join("result.json"), serde_json::to_string_pretty(&json)? + "\n")?;
    println!("written to {OUTPUT}: result.md, result.json");
    Ok(())
}
