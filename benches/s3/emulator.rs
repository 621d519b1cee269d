//! The S3 emulator, in a process of its own: told what to do by lines on its standard input, each answered by a line of JSON.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncBufReadExt as _, BufReader as AsyncBufReader};

use crate::EMULATOR;
use crate::process::Place;
use crate::support::{Liar, Lie};

/// The one bucket.
pub(crate) const BUCKET: &str = "pages";

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// The emulator's own process: runs until its input ends.
pub(crate) async fn serve() {
    let liar = Liar::start(Lie::None).await;
    println!("{}", serde_json::json!(liar.url()));
    let mut lines = AsyncBufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.split_once(' ') {
            Some(("plant", count)) => {
                let count: u64 = count.parse().expect("a number");
                liar.plant(BUCKET, (0..count).map(key), Bytes::from_static(b"a page that nobody asks for"));
                serde_json::json!(count)
            }
            _ if line == "requests" => serde_json::json!(liar.requests()),
            _ if line == "count" => serde_json::json!(liar.keys(BUCKET).0.iter().filter(|key| is_page(key)).count()),
            _ => serde_json::json!(liar.keys(BUCKET)),
        };
        println!("{answer}");
    }
}

/// The key that some page would have.
fn key(number: u64) -> String {
    let name = hex::encode(Sha1::digest(number.to_be_bytes()));
    format!("default/1/pages/{name}/GET-{name}")
}

fn is_page(key: &str) -> bool {
    key.contains("/pages/")
}

/// A running emulator; it ends with this value.
pub(crate) struct Emulator {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Emulator {
    pub(crate) fn start() -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .arg(EMULATOR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut emulator = Emulator { child, input, output, url: String::new() };
        emulator.url = emulator.answer();
        emulator
    }

    /// Its bucket.
    pub(crate) fn place(&self) -> Place<'_> {
        Place::new(&self.url, BUCKET)
    }

    fn answer<T: DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the emulator runs");
        serde_json::from_str(&line).expect("it answers in JSON")
    }

    fn ask<T: DeserializeOwned>(&mut self, what: &str) -> T {
        writeln!(self.input, "{what}").expect("the emulator runs");
        self.answer()
    }

    /// Puts so many small objects into the bucket, where pages lie.
    pub(crate) fn plant(&mut self, count: u64) {
        self.ask::<u64>(&format!("plant {count}"));
    }

    /// Requests so far, by method; listings are `LIST`.
    pub(crate) fn requests(&mut self) -> BTreeMap<String, u64> {
        self.ask("requests")
    }

    /// The keys of pages, and those of uploads under way.
    pub(crate) fn pages(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut keys, uploads): (Vec<String>, _) = self.ask("keys");
        keys.retain(|key| is_page(key));
        (keys, uploads)
    }

    /// How many pages lie there.
    pub(crate) fn count(&mut self) -> usize {
        self.ask("count")
    }

    /// Waits until so many pages lie there.
    pub(crate) async fn holds(&mut self, pages: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.count() < pages {
            assert!(Instant::now() < deadline, "{} pages were written, not {pages}", self.count());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
