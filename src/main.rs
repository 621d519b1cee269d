//! The program `everpage`: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use everpage::cli::{Cli, Failure};

fn main() -> ExitCode {
    let done = Cli::try_parse().map_err(Failure::from).and_then(Cli::run);
    done.map_or_else(|failure| failure.tell(), |()| ExitCode::SUCCESS)
}
