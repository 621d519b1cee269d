//! What do people and scripts type? One command each.
//!
//! Results go to standard output, in words or with `--json` for programs; mistakes and the log go to standard error.
//! Exit codes: 0, 64 for wrong usage or configuration, 1 for everything else that failed.

mod access;
mod check;
mod client;
pub mod demo;
mod explain;
mod failure;
mod invalidate;
mod open_files;
mod output;
mod pages;
mod serve;
mod settings;
mod signals;
mod status;
mod upkeep;
mod warm;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

pub use self::failure::Failure;

/// The command line of everpage.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Check(check::Check),
    Explain(explain::Explain),
    Invalidate(invalidate::Invalidate),
    Status(status::Status),
    Pages(pages::Pages),
    Warm(warm::Warm),
    Sweep(upkeep::Sweep),
    Export(upkeep::Export),
}

impl Cli {
    /// Does what was asked for; servers run until they are told to end.
    ///
    /// # Errors
    /// What is to be told on standard error, and the exit code.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Serve(serve) => block_on(serve.run()),
            Command::Demo(demo) => block_on(demo.run()),
            Command::Check(check) => check.run(),
            Command::Explain(explain) => explain.run(),
            Command::Invalidate(invalidate) => block_on(invalidate.run()),
            Command::Status(status) => block_on(status.run()),
            Command::Pages(pages) => block_on(pages.run()),
            Command::Warm(warm) => block_on(warm.run()),
            Command::Sweep(sweep) => block_on(sweep.run()),
            Command::Export(export) => block_on(export.run()),
        }
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(work);
    // What still runs was told to end and given its time, or a second signal asked not to wait.
    runtime.shutdown_background();
    result
}
