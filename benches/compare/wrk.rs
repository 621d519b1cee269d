//! One run of the load: wrk with `load.lua`, and what it says at the end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::browser;
use crate::pages::MIX_PAGES;
use crate::visitor::HOST;

/// Connections at the same time, in every run.
pub(crate) const CONNECTIONS: usize = 64;
/// The time that wrk may take beyond that of the run.
const GRACE: Duration = Duration::from_secs(60);

/// What is asked for, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Load<'a> {
    /// As taskset names them: a thread for each.
    pub(crate) cores: &'a str,
    pub(crate) seconds: u64,
    pub(crate) path: &'a str,
    /// Of the request, beside those of a browser.
    pub(crate) fields: &'a [(String, String)],
    /// Pages of the mix in the order of this file, instead of `path`.
    pub(crate) draws: Option<&'a Path>,
    /// Requests per second; none: as many as come.
    pub(crate) rate: Option<f64>,
}

/// What wrk counted. Its percentiles are its own: where an answer took more than twice as long as a connection's requests lie apart on average, it
/// adds those that would have waited meanwhile.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    pub(crate) duration_us: u64,
    pub(crate) bytes: u64,
    /// Broken connections, answers of 400 and above, and answers that took too long.
    pub(crate) errors: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Load<'_> {
    /// Asks the server at `at`.
    ///
    /// # Errors
    /// wrk cannot be run or does not end.
    pub(crate) async fn run(&self, at: SocketAddr) -> Result<Counted> {
        let threads = self.cores.split(',').count();
        let mut command = Command::new("taskset");
        command.args(["-c", self.cores, "wrk", "--timeout", "10s"]);
        command.args([format!("-t{threads}"), format!("-c{CONNECTIONS}"), format!("-d{}s", self.seconds)]);
        command.args(["-s", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/load.lua")]);
        command.args(["-H", &format!("Host: {HOST}")]);
        for (name, value) in browser::FIELDS {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        for (name, value) in self.fields {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        command.args([&format!("http://{at}{}", self.path), "--"]);
        match self.draws {
            Some(file) => command.arg(file).arg(MIX_PAGES.to_string()),
            None => command.args(["-", "0"]),
        };
        // Each thread paces its own part.
        command.arg((self.rate.unwrap_or_default() / threads as f64).to_string());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let patience = Duration::from_secs(self.seconds) + GRACE;
        let output =
            timeout(patience, command.output()).await.with_context(|| format!("wrk does not end in {patience:?}"))?;
        let output = output.context("wrk cannot be run")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let counted = said.lines().find_map(|line| line.strip_prefix("result "));
        let counted =
            counted.with_context(|| format!("wrk failed: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
        let counted: Counted = serde_json::from_str(counted).with_context(|| format!("wrk says {counted}"))?;
        ensure!(counted.requests > 0, "no answer came: {said}");
        Ok(counted)
    }
}
