//! How is a mistake told? Where it is, what is wrong, what would be right, and the line itself with a caret.
//!
//! What it shows of a file never holds a secret.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::given::{Place, Problem, printable};

/// Everything that is wrong, in the order of the file, then of the environment and the command line. Never empty.
///
/// Printed, each mistake is a paragraph; serialised, an array of [`ConfigError`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl Display for ConfigErrors {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n\n" })?;
        }
        Ok(())
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// Where it is.
    pub location: Location,
    /// The key it is about, with its sections; `None`: the name itself is wrong, or the whole file.
    pub key: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty where nothing helps.
    pub expected: String,
}

/// Where a mistake is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Location {
    /// In a file.
    File {
        /// Which one.
        path: PathBuf,
        /// Where in it; `None`: it cannot be read.
        excerpt: Option<Excerpt>,
    },
    /// In an environment variable.
    Variable(String),
    /// In an option of the command line.
    Option(String),
}

/// A line of a file, without secrets, and where in it to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// From 1.
    pub line: usize,
    /// In characters, from 1, of the line in the file.
    pub column: usize,
    /// The line, or as much of it as is worth showing.
    pub source: String,
    /// Characters of `source` that are meant.
    pub caret: Range<usize>,
}

impl Display for Location {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Location::File { path, excerpt: Some(at) } => write!(f, "{}:{}:{}", path.display(), at.line, at.column),
            Location::File { path, excerpt: None } => write!(f, "{}", path.display()),
            Location::Variable(name) | Location::Option(name) => f.write_str(name),
        }
    }
}

impl ConfigError {
    /// `document`: the file that [`Place::File`] is about.
    pub(super) fn new(key: Option<&str>, problem: Problem, document: Option<(&Path, &str)>) -> Self {
        let in_file = |end: usize, span| {
            let (path, text) = document.expect("only a document gives places in a file");
            Location::File { path: path.to_owned(), excerpt: Some(Excerpt::new(&text[..end.min(text.len())], span)) }
        };
        let location = match problem.place {
            Place::File(span) => in_file(usize::MAX, span),
            Place::Name(span) => {
                let rest = document.map_or("", |(_, text)| &text[span.end..]);
                in_file(span.end + rest.find(['=', '\n']).unwrap_or(rest.len()), span)
            }
            Place::Variable(name) => Location::Variable(name),
            Place::Option(name) => Location::Option(name),
        };
        ConfigError { location, key: key.map(ToOwned::to_owned), what: problem.what, expected: problem.expected }
    }

    /// The whole file is the mistake.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let location = Location::File { path: path.to_owned(), excerpt: None };
        ConfigError { location, key: None, what: format!("cannot read it: {error}"), expected: String::new() }
    }

    /// File first, from top to bottom.
    pub(super) fn order(&self) -> (u8, usize, usize) {
        match &self.location {
            Location::File { excerpt: Some(excerpt), .. } => (0, excerpt.line, excerpt.column),
            Location::File { excerpt: None, .. } => (0, 0, 0),
            Location::Variable(_) => (1, 0, 0),
            Location::Option(_) => (2, 0, 0),
        }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.location)?;
        if let Some(key) = &self.key {
            write!(f, " {key}:")?;
        }
        write!(f, " {}", self.what.replace('\n', "\n  "))?;
        if let Location::File { excerpt: Some(Excerpt { line, source, caret, .. }), .. } = &self.location {
            let gutter = line.to_string().len();
            let carets = "^".repeat(caret.len());
            write!(f, "\n  {line} | {source}\n  {:gutter$} | {:2$}{carets}", "", "", caret.start)?;
        }
        if !self.expected.is_empty() {
            write!(f, "\n  expected: {}", self.expected)?;
        }
        Ok(())
    }
}

impl Excerpt {
    fn new(text: &str, span: Range<usize>) -> Excerpt {
        let start = floor_boundary(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = before.matches('\n').count() + 1;
        if is_inside_long_string(&text[..line_start]) {
            return Excerpt { line: number, column: 1, source: "…".to_owned(), caret: 0..1 };
        }
        let line = text[line_start..].lines().next().unwrap_or_default();
        let column = text[line_start..start].chars().count();
        let end = floor_boundary(text, span.end.min(line_start + line.len()).max(start));
        let width = text[start..end].chars().count().max(1);
        let (source, caret) = shown(line, column..column + width);
        Excerpt { line: number, column: column + 1, source, caret }
    }
}

/// A string of many lines may be a token, and only its first line would tell.
fn is_inside_long_string(before: &str) -> bool {
    ["\"\"\"", "'''"].iter().any(|quotes| before.matches(quotes).count() % 2 == 1)
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset.min(text.len()))
}

/// The part of a line around the caret, without what must not be seen.
fn shown(line: &str, caret: Range<usize>) -> (String, Range<usize>) {
    const WIDEST: usize = 120;
    const BEFORE: usize = 40;
    if let Some(public) = before_secret(line) {
        let shown = public.chars().count();
        let caret = if caret.start < shown { caret.start..caret.end.min(shown) } else { shown..shown + 1 };
        return (format!("{public}…"), caret);
    }
    let skipped = if line.chars().count() <= WIDEST { 0 } else { caret.start.saturating_sub(BEFORE) };
    let cut = if skipped == 0 { "" } else { "…" };
    let source: String = line.chars().skip(skipped).take(WIDEST).map(printable).collect();
    let start = caret.start - skipped + cut.chars().count();
    (format!("{cut}{}", source.trim_end()), start..(start + caret.len()).min(WIDEST.max(start) + 1))
}

/// Parts of the names of keys whose values are secrets; the same with `_file` behind are only paths.
const SECRETS: &[&str] = &["token", "access_key", "secret_key"];

/// What stands before a secret, or before the user and password in a URL.
fn before_secret(line: &str) -> Option<&str> {
    let names = SECRETS.iter().flat_map(|name| line.match_indices(name).map(|(at, _)| (at, at + name.len())));
    let values = names.filter(|(_, end)| !line[*end..].starts_with("_file")).filter_map(|(_, end)| {
        let start = end + line[end..].find('=')? + 1;
        Some(start + (line[start..].len() - line[start..].trim_start().len()))
    });
    let user = line.find("://").filter(|at| line[at + 3..].contains('@')).map(|at| at + 3);
    values.chain(user).min().map(|end| &line[..end])
}
