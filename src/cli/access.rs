//! Which admin API do the client commands talk to, and with which token? Options, then the environment, then the configuration.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::client::Client;
use super::settings::Settings;
use crate::config::{Secret, variables};

/// A token file that is larger holds something else.
const LONGEST_TOKEN: u64 = 4096;

/// The options of every client command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where everpage is")]
pub(super) struct Access {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// The admin API; without it, admin.listen of the configuration
    #[arg(long, value_name = "URL", env = "EVERPAGE_ADMIN_URL")]
    admin_url: Option<String>,
    /// A file with the token; without it, EVERPAGE_TOKEN, else the configuration's, for its own address only
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Access {
    /// The configuration is read only where an option is missing: a mistake in it does not matter to those who give both.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let token = self.token()?;
        if let Some(url) = &self.admin_url {
            // The configuration's token is meant for the configuration's address, and goes nowhere else.
            return Client::new(url, &token.unwrap_or_default());
        }
        let admin = self.settings.load(Vec::new())?.config.admin;
        Client::new(&format!("http://{}", reachable(admin.listen)), &token.unwrap_or(admin.token))
    }

    fn token(&self) -> Result<Option<Secret>, Failure> {
        if let Some(path) = &self.token_file {
            return read_token(path).map(Some);
        }
        let variable = variables().into_iter().find(|(name, value)| name == "EVERPAGE_TOKEN" && !value.is_empty());
        Ok(variable.map(|(_, value)| Secret::new(value)))
    }
}

fn read_token(path: &Path) -> Result<Secret, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_TOKEN + 1).read_to_string(&mut text))
        .map_err(|error| Failure::usage(format_args!("--token-file: cannot read {}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(Failure::usage(format_args!("--token-file: {} is empty", path.display()))),
        _ if text.len() as u64 > LONGEST_TOKEN => {
            Err(Failure::usage(format_args!("--token-file: {} is too large to be a token", path.display())))
        }
        token => Ok(Secret::new(token.to_owned())),
    }
}

/// Where a listener of this machine answers: one that is bound to all addresses, on loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(at) if at.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, at.port()).into(),
        SocketAddr::V6(at) if at.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, at.port()).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (listen, at) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")] {
            assert_eq!(reachable(listen.parse().unwrap()), at.parse().unwrap());
        }
    }
}
