//! How do results look? Short aligned lines for people, one JSON document for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use super::Failure;

/// Writes lines to standard output, at once.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(output, "{text}{line_end}").and_then(|()| output.flush()) {
        // The reader has seen enough: `everpage pages | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::failed(format_args!("cannot write to standard output: {error}"))),
    }
}

/// One JSON document.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    print(&text.map_err(|error| Failure::failed(format_args!("cannot write JSON: {error}")))?)
}

/// Names and values in two columns.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    facts.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{name:width$}  {}", value.trim_end()).expect("a String takes every write");
        text
    })
}

/// "1 page", "2 pages".
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// "2.0 KiB".
pub(super) fn bytes(number: u64) -> String {
    ByteSize(number).display().iec().to_string()
}

/// "2h 1m": the two largest units.
pub(super) fn duration(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Text of somebody else: a terminal must not obey it.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let text = facts(&[("origin", "http://a".to_owned()), ("up", "2 h".to_owned())]);
        assert_eq!(text, "origin  http://a\nup      2 h\n");
    }

    #[test]
    fn a_terminal_obeys_nobody_else() {
        assert_eq!(harmless("/a\u{1b}[2Jb"), "/a\u{fffd}[2Jb");
    }
}
