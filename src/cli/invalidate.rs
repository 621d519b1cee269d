//! `everpage invalidate`: pages that are no longer true, over the admin API.

use std::fmt::Write as _;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value as Json, json};

use super::Failure;
use super::access::Access;
use super::output::{count, harmless, print, print_json};

/// Unmatched paths, and nodes, that are shown to people; programs get them all.
const SHOWN: usize = 20;

/// Declare pages no longer true: once this has ended, none of them is served any more
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("pages").required(true).multiple(true),
    after_help = "A path alone means every host and all its variants, https://shop.example/a/ only that host's page."
)]
pub(super) struct Invalidate {
    /// Paths or whole URLs
    #[arg(value_name = "PATH", group = "pages")]
    paths: Vec<String>,
    /// This path and all below it; may be repeated
    #[arg(long, value_name = "PATH", group = "pages")]
    prefix: Vec<String>,
    /// Pages that carry this tag; may be repeated
    #[arg(long, group = "pages")]
    tag: Vec<String>,
    /// Everything
    #[arg(long, group = "pages", conflicts_with_all = ["paths", "prefix", "tag"])]
    all: bool,
    /// Of this host only
    #[arg(long)]
    host: Option<String>,
    /// Fetch what was stored of the named pages again
    #[arg(long)]
    refresh: bool,
    /// The old page may be served until the new one has been fetched
    #[arg(long)]
    soft: bool,
    /// Only say what would be invalidated
    #[arg(long)]
    dry_run: bool,
    /// For the journal: why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For safe retries: the same id is one invalidation, however often it is sent
    #[arg(long)]
    id: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Invalidate {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let answer = self.access.client()?.post("/invalidate", &self.body()).await?;
        if self.json { print_json(&answer) } else { print(&told(&answer, self.dry_run)) }
    }

    /// Only what was said: the server knows the defaults.
    fn body(&self) -> Json {
        let mut body = Map::new();
        for (name, list) in [("paths", &self.paths), ("prefixes", &self.prefix), ("tags", &self.tag)] {
            if !list.is_empty() {
                body.insert(name.to_owned(), json!(list));
            }
        }
        let flags = [("all", self.all), ("refresh", self.refresh), ("soft", self.soft), ("dry_run", self.dry_run)];
        for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            body.insert(name.to_owned(), json!(true));
        }
        for (name, text) in [("host", &self.host), ("reason", &self.reason), ("id", &self.id)] {
            if let Some(text) = text {
                body.insert(name.to_owned(), json!(text));
            }
        }
        Json::Object(body)
    }
}

fn told(answer: &Json, is_dry: bool) -> String {
    let stored = answer["stored"].as_u64();
    let mut text = match (is_dry, stored) {
        (true, Some(stored)) => {
            let least = if answer["complete"] == false { "at least " } else { "" };
            format!("nothing done: {least}{} would go\n", count(stored, "stored page"))
        }
        (true, None) => "nothing done\n".to_owned(),
        (false, _) => {
            let nodes = count(answer["nodes"].as_u64().unwrap_or(1), "node");
            let took = answer["took_ms"].as_f64().map(|took| format!(" in {took} ms")).unwrap_or_default();
            let stored = stored.map(|stored| format!(", {} gone", count(stored, "stored page"))).unwrap_or_default();
            let already = if answer["repeated"] == true { ", made before by the same id" } else { "" };
            format!("invalidated on {nodes}{took}{stored}, record {}{already}\n", answer["sequence"])
        }
    };
    list(&mut text, "these did not answer, and their leases were waited for:", &answer["waited_out"]);
    list(&mut text, "of these, nothing was stored:", &answer["unmatched"]);
    text
}

/// A title and what it is for; nothing where there is nothing.
fn list(text: &mut String, title: &str, names: &Json) {
    let names = names.as_array().map(Vec::as_slice).unwrap_or_default();
    if names.is_empty() {
        return;
    }
    writeln!(text, "{title}").expect("a String takes every write");
    for name in names.iter().filter_map(Json::as_str).take(SHOWN) {
        writeln!(text, "  {}", harmless(name)).expect("a String takes every write");
    }
    if names.len() > SHOWN {
        writeln!(text, "  and {} more", names.len() - SHOWN).expect("a String takes every write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_first() {
        let answer = json!({"sequence": 42, "nodes": 1, "paths": 2, "stored": 1, "unmatched": ["/vanila/"]});
        assert_eq!(
            told(&answer, false),
            "invalidated on 1 node, 1 stored page gone, record 42\nof these, nothing was stored:\n  /vanila/\n"
        );
        let answer = json!({
            "sequence": 43, "nodes": 3, "acknowledged": 1, "waited_out": ["http://10.0.0.7:8081"], "took_ms": 2094.6,
            "paths": 1, "repeated": true,
        });
        assert_eq!(
            told(&answer, false),
            "invalidated on 3 nodes in 2094.6 ms, record 43, made before by the same id\n\
             these did not answer, and their leases were waited for:\n  http://10.0.0.7:8081\n"
        );
        assert_eq!(told(&json!({"stored": 3, "unmatched": []}), true), "nothing done: 3 stored pages would go\n");
    }
}
