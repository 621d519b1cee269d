//! `everpage status`: how is this node?

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value as Json;

use super::Failure;
use super::access::Access;
use super::output::{bytes, count, duration, facts, harmless, print, print_json};

/// Say how a running everpage is: hits, misses, what is stored
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let status = self.access.client()?.get("/status").await?;
        if self.json { print_json(&status) } else { print(&told(&status)) }
    }
}

fn told(status: &Json) -> String {
    let number = |value: &Json| value.as_u64().unwrap_or_default();
    let text = |value: &Json| harmless(value.as_str().unwrap_or_default());
    let (store, config) = (&status["store"], &status["config"]);
    let state = if status["draining"] == true { "draining" } else { "running" };
    let up = duration(Duration::from_secs(number(&status["uptime_seconds"])));
    let counting = if store["exact"] == false { ", still counting" } else { "" };
    let limit = store["limit_bytes"].as_u64().map(|limit| format!(" of {}", bytes(limit))).unwrap_or_default();
    let objects = count(number(&store["objects"]), "object");
    let kept = format!("{objects}, {}{limit} ({}{counting})", bytes(number(&store["bytes"])), text(&store["kind"]));
    let mut rows = vec![
        ("everpage", format!("{} {state}, {up}", text(&status["version"]))),
        ("origin", text(&config["origin"]["url"])),
        ("requests", requests(status)),
        ("not kept", words(&status["refused"])),
        ("past the cache", words(&status["bypassed"])),
        ("stored", kept),
        ("invalidations", format!("{} since the start", number(&status["invalidations"]))),
    ];
    for (name, key) in [("invalidations failed", "invalidation_failures"), ("store errors", "store_errors")] {
        rows.extend((number(&status[key]) > 0).then(|| (name, number(&status[key]).to_string())));
    }
    facts(&rows)
}

/// "12 (hit 10, miss 2), 83% of the look-ups answered without the origin"
fn requests(status: &Json) -> String {
    let ratio = status["hit_ratio"].as_f64();
    let ratio = ratio.map(|ratio| format!("; {:.1}% of the look-ups did not need the origin", ratio * 100.0));
    format!("{}{}", words(&status["requests"]), ratio.unwrap_or_default())
}

/// "15 (hit 12, miss 3)": the most frequent first.
fn words(counts: &Json) -> String {
    let counted = counts.as_object().into_iter().flatten().filter_map(|(word, n)| Some((word, n.as_u64()?)));
    let mut counted: Vec<_> = counted.filter(|(_, number)| *number > 0).collect();
    counted.sort_by_key(|(word, number)| (std::cmp::Reverse(*number), *word));
    let mut text = counted.iter().map(|(_, number)| number).sum::<u64>().to_string();
    for (place, (word, number)) in counted.iter().enumerate() {
        let before = if place == 0 { " (" } else { ", " };
        write!(text, "{before}{} {number}", harmless(word)).expect("a String takes every write");
    }
    if !counted.is_empty() {
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_most_frequent_word_comes_first() {
        assert_eq!(words(&json!({"hit": 12, "error": 0, "miss": 30})), "42 (miss 30, hit 12)");
        assert_eq!(words(&json!({})), "0");
    }

    #[test]
    fn what_operators_want_to_know_fits_on_a_screen() {
        let status = json!({
            "version": "1.0.0", "uptime_seconds": 7262, "draining": false, "requests": {"hit": 3, "miss": 1},
            "hit_ratio": 0.75, "refused": {}, "bypassed": {"ignored": 1}, "invalidations": 2, "store_errors": 1,
            "store": {"kind": "filesystem", "objects": 1, "bytes": 2048, "limit_bytes": 1 << 30, "exact": true},
            "config": {"origin": {"url": "http://127.0.0.1:8000"}},
        });
        assert_eq!(
            told(&status),
            "everpage        1.0.0 running, 2h 1m\n\
             origin          http://127.0.0.1:8000\n\
             requests        4 (hit 3, miss 1); 75.0% of the look-ups did not need the origin\n\
             not kept        0\n\
             past the cache  1 (ignored 1)\n\
             stored          1 object, 2.0 KiB of 1.0 GiB (filesystem)\n\
             invalidations   2 since the start\n\
             store errors    1\n"
        );
    }
}
