//! Do invalidations hold up hits? A steady load of hits goes on while clients invalidate other pages, one path at a time or ten thousand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::task::{JoinSet, spawn_blocking};

use crate::Bench;
use crate::caller::Caller;
use crate::node::{Node, invalidation};
use crate::rate::crowd;
use crate::reply::Reply;
use crate::report::{Table, median, percentile, time};
use crate::steady::Load;

/// Of the hits.
const CONNECTIONS: usize = 64;
const PER_SECOND: u32 = 10_000;
const BYTES: usize = 2 << 10;
const PAGES: usize = 100;
/// How much nicer those are who invalidate: on the core that they share with the hits' clients, these go first.
const NICENESS: i32 = 19;
/// Different paths that are invalidated; they come again, so that the index stays of one size.
const PATHS: u64 = 100_000;
/// Bytes of a page that is stored, and then invalidated.
const STORED_BYTES: usize = 512;
/// Pages that are fetched one after the other, before all that can be written is.
const STORED_AT_ONCE: usize = 2_500;
/// For the last answers to those who invalidate.
const GRACE: Duration = Duration::from_millis(200);

/// Who does what beside the hits.
#[derive(Clone, Copy, Debug)]
struct Beside {
    name: &'static str,
    clients: u32,
    /// Paths of one POST; none: `GET /healthz`, which costs a request and no more.
    paths: Option<u64>,
    /// Each of the paths has a page that is stored, once.
    are_stored: bool,
    /// Requests a second of all clients together; none: each sends the next when it has its answer.
    per_second: Option<u32>,
}

const ONE: Beside = Beside { name: "", clients: 16, paths: Some(1), are_stored: false, per_second: Some(1000) };
const MANY: Beside = Beside { name: "", clients: 1, paths: Some(10_000), are_stored: false, per_second: Some(1) };
const CASES: [Beside; 6] = [
    Beside { name: "1 path, 16 clients, 1000/s", ..ONE },
    Beside { name: "(GET /healthz, 16 clients, 1000/s)", paths: None, ..ONE },
    Beside { name: "10,000 paths, 1 client, 1/s", ..MANY },
    Beside { name: "10,000 paths with a stored page each, 1 client, 1/s", are_stored: true, ..MANY },
    Beside { name: "1 path, 16 clients, all they can", per_second: None, ..ONE },
    Beside { name: "10,000 paths, 1 client, all it can", per_second: None, ..MANY },
];

#[derive(Clone, Debug, Serialize)]
struct Round {
    /// Requests beside the hits in a second, and how long one took, at p50.
    posts_per_second: f64,
    post_p50_us: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    late_p99_us: f64,
    /// Part of its core that everpage took.
    busy: f64,
}

pub(crate) async fn measure(bench: &Bench) -> Result<Table> {
    let (rounds, seconds) = if bench.quick { (1, 1) } else { (4, 2) };
    let time_each = Duration::from_secs(seconds);
    let node = bench.start_on_disk()?;
    let paths: Vec<String> = (0..PAGES).map(|number| format!("/page/{BYTES}/hit/{number}/")).collect();
    let load = Arc::new(Load {
        at: node.public(),
        connections: CONNECTIONS,
        per_second: PER_SECOND,
        time: time_each,
        paths,
        body: bench.app.body(BYTES, 0),
    });
    fill(&node, &load)?;
    let mut quiet: Vec<Vec<Round>> = CASES.map(|_| Vec::new()).into();
    let mut loud = quiet.clone();
    // The first does not count.
    run(&node, &load, None, 0).await?;
    let mut stored = 0;
    for round in 0..rounds {
        for (place, beside) in CASES.iter().enumerate() {
            if beside.are_stored {
                stored += store(bench, &node, round, seconds).await?;
            }
            quiet[place].push(run(&node, &load, None, round).await?);
            loud[place].push(run(&node, &load, Some(*beside), round).await?);
        }
    }
    let asked = bench.app.requests();
    ensure!(asked == (PAGES + stored) as u64, "hits are hits, and the app was asked {asked} times");
    Ok(table(&quiet, &loud, rounds, seconds))
}

/// Stores what is invalidated in this round, and one batch more than is sent at its time. Returns how many pages that were.
async fn store(bench: &Bench, node: &Node, round: usize, seconds: u64) -> Result<usize> {
    let (body, paths) = (bench.app.body(STORED_BYTES, 0), MANY.paths.expect("it names some"));
    let pages = usize::try_from(paths * (seconds + 1))?;
    for batch in 0..pages / STORED_AT_ONCE {
        let is_stored = |cache: &str| cache.contains("; stored");
        crowd(node.public(), STORED_BYTES, batch_number(round, batch), STORED_AT_ONCE, &body, is_stored).await?;
        node.wait_idle()?;
    }
    Ok(pages)
}

/// The number that stands in the paths of a batch of stored pages.
fn batch_number(round: usize, batch: usize) -> usize {
    round * 1_000 + batch
}

fn fill(node: &Node, load: &Load) -> Result<()> {
    let mut caller = Caller::connect(node.public())?;
    for path in &load.paths {
        let mut reply = Reply::wanted(&load.body);
        caller.ask(&crate::reply::request(path), &mut reply)?;
        reply.finish(200)?;
    }
    node.wait_kept(load.paths.len() as u64)
}

fn table(quiet: &[Vec<Round>], loud: &[Vec<Round>], rounds: usize, seconds: u64) -> Table {
    let note = format!(
        "{PER_SECOND} hits/s of {} KiB on {CONNECTIONS} connections, at their times, and invalidations of other pages beside them, the journal on disk; \
         medians of {rounds} rounds of {seconds} s, without and with in turn; *late*: how late the client itself was at p99",
        BYTES >> 10
    );
    let (mut rows, mut figures) = (Vec::new(), serde_json::Map::new());
    let all: Vec<Round> = quiet.iter().flatten().cloned().collect();
    rows.push(row("nothing", &all, None));
    figures.insert("nothing".to_owned(), serde_json::to_value(&all).expect("figures are JSON"));
    for ((beside, its), before) in CASES.iter().zip(loud).zip(quiet) {
        rows.push(row(beside.name, its, Some(before)));
        figures.insert(beside.name.to_owned(), serde_json::to_value(its).expect("figures are JSON"));
    }
    let columns = vec![
        "beside the hits",
        "requests/s",
        "took, p50",
        "hits' p50",
        "p99",
        "p99.9",
        "p99 to that before",
        "late",
        "core busy",
    ];
    Table { name: "Invalidations while hits go on".to_owned(), note, columns, rows, figures: figures.into() }
}

fn row(name: &str, its: &[Round], before: Option<&Vec<Round>>) -> Vec<String> {
    let middle = |of: fn(&Round) -> f64| median(its.iter().map(of));
    let ratio = |before: &Vec<Round>| {
        format!("{:.2}", median(its.iter().zip(before).map(|(with, without)| with.p99_us / without.p99_us)))
    };
    let beside = |said: String| if before.is_some() { said } else { String::new() };
    vec![
        name.to_owned(),
        beside(format!("{:.0}", middle(|round| round.posts_per_second))),
        beside(time(middle(|round| round.post_p50_us))),
        time(middle(|round| round.p50_us)),
        time(middle(|round| round.p99_us)),
        time(middle(|round| round.p999_us)),
        before.map_or_else(String::new, ratio),
        time(middle(|round| round.late_p99_us)),
        format!("{:.0} %", middle(|round| round.busy) * 100.0),
    ]
}

async fn run(node: &Node, load: &Arc<Load>, beside: Option<Beside>, round: usize) -> Result<Round> {
    let (ends, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..beside.map_or(0, |beside| beside.clients) {
        let (beside, admin) = (beside.expect("it has clients"), node.admin());
        let (ends, next) = (Arc::clone(&ends), Arc::clone(&next));
        // Threads of their own: a thread keeps its niceness.
        let (done, taken) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || drop(done.send(beside.post(admin, round, &ends, &next))));
        clients.spawn(taken);
    }
    let (spent, started) = (node.cpu_seconds(), Instant::now());
    let hits = Arc::clone(load);
    let steady = spawn_blocking(move || hits.run()).await?;
    let (spent, taken) = (node.cpu_seconds() - spent, started.elapsed().as_secs_f64());
    ends.store(true, Ordering::Relaxed);
    let mut posts = Vec::new();
    while let Some(client) = clients.join_next().await {
        posts.extend(client?.context("a client crashed")??);
    }
    posts.sort_by(f64::total_cmp);
    let steady = steady?;
    ensure!(beside.is_none() || !posts.is_empty(), "nothing was invalidated");
    tokio::time::sleep(GRACE).await;
    let part = |part| percentile(&steady.times, part);
    Ok(Round {
        posts_per_second: posts.len() as f64 / taken,
        post_p50_us: if posts.is_empty() { 0.0 } else { percentile(&posts, 0.5) },
        p50_us: part(0.5),
        p99_us: part(0.99),
        p999_us: part(0.999),
        late_p99_us: steady.late_p99_us,
        busy: spent / taken,
    })
}

impl Beside {
    /// One client until the end. Returns how long each request took, in µs.
    fn post(self, admin: SocketAddr, round: usize, ends: &AtomicBool, next: &AtomicU64) -> Result<Vec<f64>> {
        rustix::process::nice(NICENESS)?;
        let (mut caller, mut times, started) = (Caller::connect(admin)?, Vec::new(), Instant::now());
        let gap = self.per_second.map(|rate| Duration::from_secs(1) * self.clients / rate);
        while !ends.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if let Some(gap) = gap {
                // At the start all would come at once.
                let phase = gap.mul_f64((number % u64::from(self.clients)) as f64 / f64::from(self.clients));
                let due = started + gap * u32::try_from(times.len()).unwrap_or(u32::MAX) + phase;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let request = self.request(number, round);
            let (mut reply, asked) = (Reply::any(), Instant::now());
            caller.ask(&request, &mut reply)?;
            times.push(asked.elapsed().as_secs_f64() * 1e6);
            let body = std::mem::take(&mut reply.body);
            reply.finish(200)?;
            if let Some(paths) = self.paths {
                let said: serde_json::Value = serde_json::from_slice(&body)?;
                ensure!(said["paths"] == paths, "{said}");
                // Where too many are fetched at once, some stay in memory only.
                let stored = if self.are_stored { paths / 2..=paths } else { 0..=0 };
                ensure!(said["stored"].as_u64().is_some_and(|said| stored.contains(&said)), "{}", said["stored"]);
            }
        }
        Ok(times)
    }

    fn request(&self, number: u64, round: usize) -> Vec<u8> {
        let Some(paths) = self.paths else { return b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec() };
        let path = |place| match self.are_stored {
            true => {
                let page = usize::try_from(number * paths + place).expect("some ten thousand");
                let batch = batch_number(round, page / STORED_AT_ONCE);
                format!("/page/{STORED_BYTES}/{batch}/{}/", page % STORED_AT_ONCE)
            }
            false => format!("/shop/product/{}/", (number * paths + place) % PATHS),
        };
        let paths: Vec<String> = (0..paths).map(path).collect();
        invalidation(paths.iter().map(String::as_str))
    }
}
