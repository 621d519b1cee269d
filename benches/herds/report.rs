//! What came out: tables for people in Markdown, and the same as JSON.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// A table, and the figures behind it.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// What a reader must know.
    pub(crate) note: String,
    #[serde(skip)]
    pub(crate) columns: Vec<&'static str>,
    #[serde(skip)]
    pub(crate) rows: Vec<Vec<String>>,
    /// Each row with its rounds.
    pub(crate) figures: Value,
}

impl Table {
    /// For people; the first column is words, the others figures.
    pub(crate) fn text(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|title| title.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = format!("\n{}\n{}\n\n", self.name, self.note);
        let line = |cells: &[String], text: &mut String| {
            for (place, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let done =
                    if place == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
                done.expect("a string can be written to");
            }
            text.push_str("|\n");
        };
        line(&self.columns.iter().map(|&title| title.to_owned()).collect::<Vec<_>>(), &mut text);
        for (place, width) in widths.iter().enumerate() {
            let dashes = "-".repeat(*width);
            text.push_str(&if place == 0 { format!("| :{} ", &dashes[1..]) } else { format!("| {}: ", &dashes[1..]) });
        }
        text.push_str("|\n");
        self.rows.iter().for_each(|row| line(row, &mut text));
        text
    }
}

/// The one in the middle, or between the two in the middle.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[upper] } else { f64::midpoint(figures[upper - 1], figures[upper]) }
}

/// Of figures in ascending order, the one that this part of them does not exceed.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// A time for people.
pub(crate) fn time(microseconds: f64) -> String {
    match microseconds.abs() {
        short if short < 10_000.0 => format!("{microseconds:.0} µs"),
        middle if middle < 1e6 => format!("{:.1} ms", microseconds / 1e3),
        _ => format!("{:.2} s", microseconds / 1e6),
    }
}

/// A size in KiB for people.
pub(crate) fn size(bytes: usize) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}
