//! What came out: medians and ratios, as a table for people and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::{Cores, Machine};
use crate::measure::{Round, Row};
use crate::wrk::CONNECTIONS;

/// Part of a core that others may take before the reader is warned: what the kernel does anyway stays below.
const DISTURBED: f64 = 0.1;

/// A run of the bench. It has no date: the same figures are the same file.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    pub(crate) cases: Vec<CaseReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) connections: usize,
    pub(crate) cores: Cores,
}

/// A case: the first row is everpage.
#[derive(Debug, Serialize)]
pub(crate) struct CaseReport {
    pub(crate) name: String,
    pub(crate) note: String,
    pub(crate) rows: Vec<RowReport>,
}

/// Medians of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct RowReport {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) median: Round,
    /// What the first row takes in the same round, divided by what this one takes: below 1, the first is ahead. Medians too.
    pub(crate) first_to_this: Ratios,
    pub(crate) memory_mib: Option<f64>,
    pub(crate) rounds: Vec<Round>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratios {
    pub(crate) cpu: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl CaseReport {
    /// The rows' order is kept; `with_memory` tells also what each takes.
    pub(crate) fn new(name: &str, note: String, rows: Vec<Row>, with_memory: bool) -> Self {
        let first = rows[0].rounds.clone();
        let rows = rows.into_iter().map(|row| {
            let ratio =
                |of: fn(&Round) -> f64| median(first.iter().zip(&row.rounds).map(|(one, this)| of(one) / of(this)));
            let middle = |of: fn(&Round) -> f64| median(row.rounds.iter().map(of));
            RowReport {
                name: row.name,
                first_to_this: Ratios {
                    cpu: ratio(|round| round.cpu_us),
                    p50: ratio(|round| round.p50_us),
                    p99: ratio(|round| round.p99_us),
                    p999: ratio(|round| round.p999_us),
                },
                median: Round {
                    requests_per_second: middle(|round| round.requests_per_second),
                    cpu_us: middle(|round| round.cpu_us),
                    busy: middle(|round| round.busy),
                    others: row.rounds[0].others.map(|_| middle(|round| round.others.unwrap_or_default())),
                    p50_us: middle(|round| round.p50_us),
                    p99_us: middle(|round| round.p99_us),
                    p999_us: middle(|round| round.p999_us),
                },
                memory_mib: row.memory_mib.filter(|_| with_memory),
                rounds: row.rounds,
            }
        });
        CaseReport { name: name.to_owned(), note, rows: rows.collect() }
    }

    /// For people, in Markdown.
    pub(crate) fn table(&self) -> String {
        let first = self.rows[0].name;
        let mut table = format!("\n{}", self.name);
        if !self.note.is_empty() {
            write!(table, " ({})", self.note).expect("a string can be written to");
        }
        let with_memory = self.rows.iter().any(|row| row.memory_mib.is_some());
        let (head, rule) = if with_memory { ("   memory |", " -------: |") } else { ("", "") };
        let ratio = format!("{first} : it");
        let width = ratio.len();
        write!(table, "\n\n|                 | CPU/request | {ratio} | requests/s | core busy |      p50 |      p99 |    p99.9 |{head}\n")
            .expect("a string can be written to");
        let dashes = "-".repeat(width - 1);
        writeln!(
            table,
            "| :-------------- | ----------: | {dashes}: | ---------: | --------: | -------: | -------: | -------: |{rule}"
        )
        .expect("a string can be written to");
        for row in &self.rows {
            let RowReport { name, median, first_to_this, memory_mib, .. } = row;
            let (cpu, ratio, rate, busy) =
                (median.cpu_us, first_to_this.cpu, median.requests_per_second, median.busy * 100.0);
            let [p50, p99, p999] = [median.p50_us, median.p99_us, median.p999_us].map(time);
            write!(
                table,
                "| {name:<15} | {cpu:>8.1} µs | {ratio:>width$.2} | {rate:>10.0} | {busy:>7.0} % | {p50:>8} | {p99:>8} | {p999:>8} |"
            )
            .expect("a string can be written to");
            if let Some(mib) = memory_mib {
                write!(table, " {mib:>4.0} MiB |").expect("a string can be written to");
            }
            table.push('\n');
        }
        let others = self.rows.iter().filter_map(|row| row.median.others).fold(0.0, f64::max);
        if others > DISTURBED {
            let percent = others * 100.0;
            writeln!(table, "\nOthers took up to {percent:.0} % of the server's core: repeat it when they are quiet.")
                .expect("a string can be written to");
        }
        table
    }
}

impl Report {
    /// What stands above the tables.
    pub(crate) fn head(&self) -> String {
        let Settings { rounds, seconds, cores, .. } = &self.settings;
        format!(
            "{}\nserver on core {}, load on core {}, {CONNECTIONS} connections, no pipelining; medians of {rounds} rounds of {seconds} s\n",
            self.machine.line(),
            cores.server,
            cores.load,
        )
    }
}

fn time(microseconds: f64) -> String {
    if microseconds < 10_000.0 { format!("{microseconds:.0} µs") } else { format!("{:.1} ms", microseconds / 1e3) }
}

/// The one in the middle, or between the two in the middle.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[upper] } else { f64::midpoint(figures[upper - 1], figures[upper]) }
}
