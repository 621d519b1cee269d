//! `everpage explain`: what the configuration does with a request, and why. Offline: nothing is fetched, nothing is running.

use clap::Args;

use super::Failure;
use super::output::{facts, harmless, print, print_json};
use super::settings::Settings;
use crate::policy::explain::{Decision, Explanation, Question, explain};
use crate::policy::rules::Rules;

/// Say what the configuration does with a request and why, without sending it
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A URL or a path
    #[arg(value_name = "URL")]
    url: String,
    /// Its method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// A field of the request; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load(Vec::new())?.config;
        let rules = Rules::new(&config.cache)?;
        let listen = config.listen.to_string();
        let host = config.hosts.first().unwrap_or(&listen);
        let question = Question::new(&self.method, &self.url, &self.headers, host).map_err(Failure::usage)?;
        let explanation = explain(&config, &rules, &question);
        if self.json { print_json(&explanation) } else { print(&told(&explanation)) }
    }
}

fn told(explanation: &Explanation) -> String {
    let Explanation { method, scheme, host, path, query, .. } = explanation;
    let decision = match explanation.decision {
        Decision::LookUp => "look up",
        Decision::Bypass => "past the cache",
        Decision::Reject => "refused",
    };
    let reason = explanation.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let request = harmless(&format!("{method} {scheme}://{host}{path}{query}"));
    let mut rows = vec![("decision", format!("{decision}{reason}"))];
    rows.extend(explanation.ignored_by.iter().map(|rule| ("rule", rule.clone())));
    rows.extend(explanation.key_headers.iter().map(|(name, value)| ("selected by", format!("{name}: {value}"))));
    rows.extend(explanation.key.map(|key| ("key", key.to_string())));
    rows.extend(explanation.object.as_ref().map(|object| ("stored as", object.to_string())));
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| (name, harmless(&value))).collect();
    format!("{request}\n{}\n\n{}", explanation.because, facts(&rows))
}
