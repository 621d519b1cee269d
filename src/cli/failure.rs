//! How does a command that failed end? With a sentence on standard error and an exit code.

use std::fmt::{self, Display, Formatter};
use std::io::Write as _;
use std::process::ExitCode;

use crate::config::ConfigErrors;

/// Wrong usage or configuration: `EX_USAGE` of sysexits(3).
pub(super) const USAGE: u8 = 64;

/// Why a command did not do what it should.
#[derive(Debug)]
pub struct Failure(Kind);

#[derive(Debug)]
enum Kind {
    /// From the parser, which prints by itself; it also brings `--help` and `--version` this way.
    Arguments(clap::Error),
    /// The user can mend it in what was typed or configured.
    Usage(String),
    /// Everything else.
    Failed(String),
}

impl Failure {
    pub(super) fn usage(message: impl Display) -> Self {
        Failure(Kind::Usage(message.to_string()))
    }

    pub(super) fn failed(message: impl Display) -> Self {
        Failure(Kind::Failed(message.to_string()))
    }

    /// Says it on standard error.
    #[must_use]
    pub fn tell(self) -> ExitCode {
        let (message, code) = match self.0 {
            Kind::Arguments(error) => {
                // Standard error is gone: there is nobody left to tell.
                let _ = error.print();
                return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            }
            Kind::Usage(message) => (message, ExitCode::from(USAGE)),
            Kind::Failed(message) => (message, ExitCode::FAILURE),
        };
        let _ = writeln!(std::io::stderr(), "{message}");
        code
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Arguments(error) => error.fmt(f),
            Kind::Usage(message) | Kind::Failed(message) => f.write_str(message),
        }
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Failure(Kind::Arguments(error))
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Failure::usage(errors)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::failed(causes(&error))
    }
}

/// An error with its causes, each said once: some speak of their cause themselves.
pub(super) fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        said if said.ends_with(&cause) => text,
        said => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow!("no room").context("cannot write: no room").context("not kept");
        assert_eq!(causes(&error), "not kept: cannot write: no room");
    }
}
