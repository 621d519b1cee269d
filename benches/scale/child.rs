//! What needs memory of its own to be measured runs as a process of its own: this program again, whose last line is the result as JSON.

use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

/// Runs `scale child <words>` and reads what it found.
///
/// # Panics
/// It fails: what it says goes to the terminal.
pub(crate) fn run<T: DeserializeOwned>(words: &[&str]) -> T {
    let own = std::env::current_exe().expect("Linux tells");
    let mut command = Command::new(own);
    command.arg("child").args(words).stdin(Stdio::null()).stderr(Stdio::inherit());
    for (name, _) in everpage::config::variables() {
        command.env_remove(name);
    }
    let output = command.output().expect("this program can be started");
    assert!(output.status.success(), "{words:?}: {}", output.status);
    let said = String::from_utf8(output.stdout).expect("JSON is text");
    let last = said.lines().last().expect("it says something");
    serde_json::from_str(last).expect("what it found, as JSON")
}
