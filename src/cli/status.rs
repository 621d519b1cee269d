//! `everpage status`: how is this node?

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value as Json;

use super::Failure;
use super::access::Access;
use super::output::{bytes, count, duration, facts, harmless, print, print_json};

/// Nodes that are shown to people; programs get them all.
const NODES_SHOWN: usize = 20;

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
    rows.extend(status["degraded"].as_str().map(|degraded| ("degraded", harmless(degraded))));
    rows.extend(cluster(&status["cluster"]));
    for (name, key) in [("invalidations failed", "invalidation_failures"), ("store errors", "store_errors")] {
        rows.extend((number(&status[key]) > 0).then(|| (name, number(&status[key]).to_string())));
    }
    facts(&rows)
}

/// How this node stands among others, and a line for each of them; nothing where there can be none.
fn cluster(cluster: &Json) -> Vec<(&'static str, String)> {
    let Some(members) = cluster["members"].as_array() else { return Vec::new() };
    let seconds = |key: &str| cluster[key].as_f64().unwrap_or_default();
    let number = |key: &str| cluster[key].as_u64().unwrap_or_default();
    let mut lease = format!("{:.1} s of {:.1} s left", seconds("lease_remaining_seconds"), seconds("lease_seconds"));
    if seconds("lease_remaining_seconds") <= 0.0 {
        let since = duration(Duration::try_from_secs_f64(seconds("lag_seconds")).unwrap_or_default());
        lease = format!("run out, last look {since} ago: this node looks before it serves");
    }
    if number("records_behind") > 0 {
        write!(lease, "; {} behind", count(number("records_behind"), "record")).expect("a String takes every write");
    }
    let waited = format!(
        "{} waited for a lease; calls {}; looks {}; {}",
        count(number("lease_waits"), "invalidation"),
        words(&cluster["ring_calls"]),
        words(&cluster["looks"]),
        count(number("swap_conflicts"), "lost race")
    );
    let mut rows = vec![("lease", lease), ("among nodes", waited)];
    for member in members.iter().take(NODES_SHOWN) {
        let text = |key: &str| member[key].as_str().map(harmless);
        let name = text("url").or_else(|| text("id")).unwrap_or_default();
        let this = if member["this"] == true { ", this one" } else { "" };
        let state = match member["state"].as_str() {
            Some("serves") => "serves",
            _ => "passed over: it did not answer, and has not joined again",
        };
        rows.push(("node", format!("{name}{this}: {state}")));
    }
    if members.len() > NODES_SHOWN {
        rows.push(("node", format!("and {} more", members.len() - NODES_SHOWN)));
    }
    rows
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

    #[test]
    fn a_cluster_is_told_node_by_node() {
        let mut status = json!({
            "node": "n1", "lease_seconds": 2.0, "lease_remaining_seconds": 1.43, "lag_seconds": 0.57, "records_behind": 0,
            "members": [
                {"id": "n1", "url": "http://10.0.0.5:8081", "this": true, "state": "serves"},
                {"id": "n2", "url": null, "this": false, "state": "passed-over"},
            ],
            "looks": {"unchanged": 40, "news": 2, "failed": 0}, "ring_calls": {"acknowledged": 3, "unreachable": 1},
            "lease_waits": 1, "swap_conflicts": 0,
        });
        assert_eq!(
            facts(&cluster(&status)),
            "lease        1.4 s of 2.0 s left\n\
             among nodes  1 invalidation waited for a lease; calls 4 (acknowledged 3, unreachable 1); looks 42 (unchanged 40, news 2); 0 lost races\n\
             node         http://10.0.0.5:8081, this one: serves\n\
             node         n2: passed over: it did not answer, and has not joined again\n"
        );
        (status["lease_remaining_seconds"], status["lag_seconds"]) = (json!(0.0), json!(75.2));
        status["records_behind"] = json!(1);
        assert_eq!(
            cluster(&status)[0].1,
            "run out, last look 1m 15s ago: this node looks before it serves; 1 record behind"
        );
        assert!(cluster(&Json::Null).is_empty());
    }
}
