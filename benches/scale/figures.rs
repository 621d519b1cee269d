//! What came out: tables for people, the same as JSON, and pictures.

use serde::Serialize;

use crate::chart::Chart;

/// What one part found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    pub(crate) tables: Vec<Table>,
    pub(crate) charts: Vec<Chart>,
    /// A sentence for each goal that was not reached: they fail the bench, once all is printed.
    pub(crate) missed: Vec<String>,
}

/// Rows of words and numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(ToString::to_string).collect();
        Table { title: title.into(), columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        assert_eq!(row.len(), self.columns.len(), "a cell in each column");
        self.rows.push(row);
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = self.columns.iter().map(|_| "---".to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("\n{}\n\n{}{}{rows}", self.title, line(&self.columns), line(&rule))
    }
}

/// With so many digits after the point.
pub(crate) fn digits(number: f64, digits: usize) -> String {
    format!("{number:.digits$}")
}

/// The one in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
