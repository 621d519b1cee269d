//! `everpage pages`: what is stored?

use std::time::Duration;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use super::Failure;
use super::access::Access;
use super::client::Client;
use super::output::{bytes, duration, harmless, print, print_json};

/// Pages in one answer of the admin API.
const PART: usize = 1000;

/// List what is stored
#[derive(Debug, Args)]
pub(super) struct Pages {
    /// Only pages whose path begins with this
    #[arg(long, value_name = "PATH", default_value = "")]
    prefix: String,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Pages {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (pages, has_more) = gather(&self.access.client()?, &self.prefix, self.limit as usize).await?;
        if self.json { print_json(&json!({"pages": pages, "more": has_more})) } else { print(&told(pages, has_more)) }
    }
}

/// Pages, and whether there are more.
async fn gather(client: &Client, prefix: &str, limit: usize) -> Result<(Vec<Json>, bool), Failure> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let part = PART.min(limit - pages.len());
        let target = format!("/pages?prefix={}&limit={part}&after={}", encoded(prefix), encoded(&after));
        let mut answer = client.get(&target).await?;
        if let Json::Array(part) = answer["pages"].take() {
            pages.extend(part);
        }
        match answer["next"].as_str() {
            None => return Ok((pages, false)),
            Some(_) if pages.len() >= limit => return Ok((pages, true)),
            // A server that goes in circles shall not keep us.
            Some(next) if next == after => return Err(Failure::failed("the list of pages does not go on")),
            Some(next) => next.clone_into(&mut after),
        }
    }
}

/// Sorted as people look for them.
fn told(mut pages: Vec<Json>, has_more: bool) -> String {
    if pages.is_empty() {
        return "nothing is stored here\n".to_owned();
    }
    pages.sort_by_cached_key(name);
    let rows: Vec<[String; 4]> = pages
        .iter()
        .map(|page| {
            let age = Duration::from_secs(page["age_seconds"].as_u64().unwrap_or_default());
            let state = page["judgement"].as_str().unwrap_or_default();
            [bytes(page["bytes"].as_u64().unwrap_or_default()), duration(age), harmless(state), name(page)]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (size_width, age_width, state_width) = (width(0).max(4), width(1).max(3), width(2).max(5));
    let line = |[size, age, state, page]: &[String; 4]| {
        format!("{size:>size_width$}  {age:>age_width$}  {state:state_width$}  {page}\n")
    };
    let mut text = line(&["size", "age", "state", "page"].map(str::to_owned));
    text.extend(rows.iter().map(line));
    if has_more {
        text.push_str("there are more: --limit shows them\n");
    }
    text
}

fn name(page: &Json) -> String {
    let text = |key: &str| page[key].as_str().map(harmless);
    let query = text("query").map(|query| format!("?{query}")).unwrap_or_default();
    let method = text("method").filter(|method| method != "GET").map(|method| format!(" ({method})"));
    let selected = page["varied_by"].as_object().into_iter().flatten();
    let selected = selected.map(|(name, value)| format!(" [{name}: {}]", value.as_str().unwrap_or_default()));
    format!(
        "{}{}{query}{}{}",
        text("host").unwrap_or_default(),
        text("path").unwrap_or_default(),
        method.unwrap_or_default(),
        harmless(&selected.collect::<String>()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_sorted_and_aligned() {
        let page = |path: &str, bytes: u64| {
            json!({"host": "a", "path": path, "query": null, "method": "GET", "bytes": bytes, "age_seconds": 61,
                "judgement": "valid", "varied_by": {}})
        };
        assert_eq!(
            told(vec![page("/b", 2048), page("/a", 1)], true),
            "   size    age  state  page\n    1 B  1m 1s  valid  a/a\n2.0 KiB  1m 1s  valid  a/b\n\
             there are more: --limit shows them\n"
        );
    }
}
