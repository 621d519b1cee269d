//! `everpage check`: is the configuration right? Without starting anything.

use clap::Args;
use serde_json::json;

use super::Failure;
use super::output::{facts, print, print_json};
use super::serve::pages;
use super::settings::{Settings, source};
use crate::config::Loaded;

/// Validate the configuration: each mistake with its line and what would be right
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    settings: Settings,
    /// Answer as JSON: the whole configuration, or the mistakes
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = match self.settings.load(Vec::new()) {
            Ok(loaded) => loaded,
            Err(errors) => {
                if self.json {
                    print_json(&json!({"valid": false, "errors": &errors}))?;
                }
                return Err(errors.into());
            }
        };
        if self.json {
            return print_json(&json!({"valid": true, "file": loaded.file, "config": loaded.config.to_json()}));
        }
        print(&summary(&loaded))
    }
}

fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let admin = match (config.admin.token.reveal().is_empty(), config.admin.listen.ip().is_loopback()) {
        (true, _) => "from this machine only, without a token",
        (false, true) => "from this machine only, with a token",
        (false, false) => "with a token",
    };
    let hosts = if config.hosts.is_empty() { "any".to_owned() } else { config.hosts.join(", ") };
    let rules = facts(&[
        ("origin", config.origin.url.to_string().trim_end_matches('/').to_owned()),
        ("public", config.listen.to_string()),
        ("hosts", hosts),
        ("admin", format!("{}, {admin}", config.admin.listen)),
        ("pages", pages(config)),
    ]);
    format!("no mistakes ({})\n\n{rules}", source(loaded))
}
