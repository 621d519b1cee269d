//! `everpage sweep`, `everpage export`: work in the bucket that the server does, started and waited for over the admin API.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use serde_json::{Value as Json, json};

use super::Failure;
use super::access::Access;
use super::client::Client;
use super::output::{bytes, count, facts, harmless, print, print_json};

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(500);
/// Looks between two lines about it.
const LOOKS_TOLD: u32 = 10;

/// Remove from the bucket what nobody will be served any more
#[derive(Debug, Args)]
#[command(after_help = "It runs in the server and goes on there when this command is interrupted.")]
pub(super) struct Sweep {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

/// Write each valid page once as a plain object, for a bucket website
#[derive(Debug, Args)]
#[command(after_help = "It runs in the server and goes on there when this command is interrupted.")]
pub(super) struct Export {
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Sweep {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.access.client()?;
        let done = carry_out(&client, "/sweep", &json!({"dry_run": self.dry_run}), self.json).await?.last;
        if self.json {
            print_json(&done)?
        } else {
            print(&swept(&done))?
        }
        result(&done)
    }
}

impl Export {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.access.client()?;
        let Ended { last, place } = carry_out(&client, "/export", &json!({}), self.json).await?;
        if self.json {
            print_json(&last)?
        } else {
            print(&exported(&last, &place))?
        }
        result(&last)
    }
}

struct Ended {
    last: Json,
    place: String,
}

/// Starts it, or joins the run that is under way, and waits for its end, however long that takes.
async fn carry_out(client: &Client, target: &str, order: &Json, is_quiet: bool) -> Result<Ended, Failure> {
    let before = client.post(target, order).await?;
    if before["started"] == false {
        tell("one is under way already: waiting for that", is_quiet);
    }
    let mut looks = 0;
    loop {
        let mut state = client.get(target).await?;
        if state["running"].is_null() && state["last"] != before["last"] {
            let place = harmless(state["place"].as_str().unwrap_or_default());
            return Ok(Ended { last: state["last"].take(), place });
        }
        if looks % LOOKS_TOLD == 0 {
            tell(&progress(&state["running"]), is_quiet);
        }
        looks += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Progress is for people who wait at a terminal, on standard error: the result alone is output.
fn tell(line: &str, is_quiet: bool) {
    if !is_quiet && !line.is_empty() && std::io::stderr().is_terminal() {
        // If nobody reads it, nobody misses it.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

fn progress(running: &Json) -> String {
    let Some(looked_at) = running["looked_at"].as_u64() else { return String::new() };
    let phase = running["phase"].as_str().map(|phase| format!("{}: ", harmless(phase))).unwrap_or_default();
    format!("{phase}{} looked at", count(looked_at, "object"))
}

fn swept(done: &Json) -> String {
    let number = |name: &str| done[name].as_u64().unwrap_or_default();
    let total = |name: &str| done[name].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>();
    let kept = match done["result"].as_str() {
        Some("done") => format!("{} ({})", number("kept_objects"), bytes(number("kept_bytes"))),
        _ => "not known: the sweep did not come to its end".to_owned(),
    };
    let gone = match done["dry_run"].as_bool() {
        Some(true) => "none, this was a dry run".to_owned(),
        _ => format!("{} ({})", number("deleted"), bytes(number("freed_bytes"))),
    };
    facts(&[
        (
            "looked at",
            format!("{}, {} read", count(number("looked_at"), "object"), count(number("heads_read"), "head")),
        ),
        ("can go", words(&done["dead"], total("dead"))),
        ("gone", gone),
        ("uploads ended", number("uploads_ended").to_string()),
        ("kept", kept),
        ("requests", words(&done["requests"], total("requests"))),
    ])
}

fn exported(done: &Json, place: &str) -> String {
    let number = |name: &str| done[name].as_u64().unwrap_or_default();
    let skipped = done["skipped"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>();
    facts(&[
        ("looked at", count(number("looked_at"), "page")),
        ("exported", number("exported").to_string()),
        ("left out", words(&done["skipped"], skipped)),
        ("failed", number("failed").to_string()),
        ("where", place.to_owned()),
    ])
}

/// "3 (invalidated 2, journal 1)"
fn words(counts: &Json, total: u64) -> String {
    let named = counts.as_object().into_iter().flatten().map(|(word, number)| format!("{} {number}", harmless(word)));
    let named: Vec<String> = named.collect();
    if named.is_empty() { total.to_string() } else { format!("{total} ({})", named.join(", ")) }
}

fn result(done: &Json) -> Result<(), Failure> {
    match done["result"].as_str() {
        Some("done") => Ok(()),
        Some("busy") => Err(Failure::failed("another node is at it")),
        Some("stopped") => Err(Failure::failed("the server drains; the next run goes on from there")),
        _ => Err(Failure::failed(harmless(done["error"].as_str().unwrap_or("it ended without a result")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_told_by_reason() {
        let done = json!({
            "result": "done", "dry_run": false, "looked_at": 12, "heads_read": 1, "dead": {"invalidated": 2, "journal": 1},
            "deleted": 3, "freed_bytes": 2048, "uploads_ended": 0, "kept_objects": 9, "kept_bytes": 1024,
            "requests": {"list": 3, "get": 2},
        });
        assert_eq!(
            swept(&done),
            "looked at      12 objects, 1 head read\n\
             can go         3 (invalidated 2, journal 1)\n\
             gone           3 (2.0 KiB)\n\
             uploads ended  0\n\
             kept           9 (1.0 KiB)\n\
             requests       5 (get 2, list 3)\n"
        );
        assert!(
            swept(&json!({"dry_run": true, "dead": {"culled": 1}}))
                .contains("gone           none, this was a dry run\n")
        );
    }
}
