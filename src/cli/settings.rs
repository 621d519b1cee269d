//! Where does the configuration of a command come from? `--config`, else `config.toml` of this folder; the environment; options.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigErrors, Loaded, Sources, variables};

/// The option that every command with a configuration has.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// The configuration; without it, config.toml of this folder if there is one
    #[arg(long, value_name = "FILE", env = "EVERPAGE_CONFIG")]
    config: Option<PathBuf>,
}

impl Settings {
    /// `options`: keys of the configuration and what the command line says of them.
    pub(super) fn load(&self, options: Vec<(&'static str, Option<String>)>) -> Result<Loaded, ConfigErrors> {
        let overrides = options.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        Config::load(Sources { file: self.config.clone(), environment: variables(), overrides })
    }
}

/// Where that was: for people.
pub(super) fn source(loaded: &Loaded) -> String {
    match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no config.toml here: defaults, environment and options".to_owned(),
    }
}
