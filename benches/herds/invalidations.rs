//! Do invalidations hold up hits? A steady load of hits goes on while clients invalidate other pages, one path at a time or ten thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::task::{JoinSet, spawn_blocking};

use crate::Bench;
use crate::caller::Caller;
use crate::node::{Node, invalidation};
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
/// For the last answers to those who invalidate.
const GRACE: Duration = Duration::from_millis(200);

/// Who does what beside the hits.
#[derive(Clone, Copy, Debug)]
struct Beside {
    name: &'static str,
    clients: u32,
    /// Paths of one POST; none: `GET /healthz`, which costs a request and no more.
    paths: Option<u64>,
    /// Requests a second of all clients together; none: each sends the next when it has its answer.
    per_second: Option<u32>,
}

const CASES: [Beside; 5] = [
    Beside { name: "1 path, 16 clients, 1000/s", clients: 16, paths: Some(1), per_second: Some(1000) },
    Beside { name: "(GET /healthz, 16 clients, 1000/s)", clients: 16, paths: None, per_second: Some(1000) },
    Beside { name: "10,000 paths, 1 client, 1/s", clients: 1, paths: Some(10_000), per_second: Some(1) },
    Beside { name: "1 path, 16 clients, all they can", clients: 16, paths: Some(1), per_second: None },
    Beside { name: "10,000 paths, 1 client, all it can", clients: 1, paths: Some(10_000), per_second: None },
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
    run(&node, &load, None).await?;
    for _ in 0..rounds {
        for (place, beside) in CASES.iter().enumerate() {
            quiet[place].push(run(&node, &load, None).await?);
            loud[place].push(run(&node, &load, Some(*beside)).await?);
        }
    }
    let asked = bench.app.requests();
    ensure!(asked == PAGES as u64, "hits are hits, and the app was asked {asked} times");
    Ok(table(&quiet, &loud, rounds, seconds))
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

async fn run(node: &Node, load: &Arc<Load>, beside: Option<Beside>) -> Result<Round> {
    let (ends, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..beside.map_or(0, |beside| beside.clients) {
        let (beside, admin) = (beside.expect("it has clients"), node.admin());
        let (ends, next) = (Arc::clone(&ends), Arc::clone(&next));
        // Threads of their own: a thread keeps its niceness.
        let (done, taken) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || drop(done.send(beside.post(admin, &ends, &next))));
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
    fn post(self, admin: std::net::SocketAddr, ends: &AtomicBool, next: &AtomicU64) -> Result<Vec<f64>> {
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
            let request = self.request(number);
            let (mut reply, asked) = (Reply::any(), Instant::now());
            caller.ask(&request, &mut reply)?;
            times.push(asked.elapsed().as_secs_f64() * 1e6);
            let body = std::mem::take(&mut reply.body);
            reply.finish(200)?;
            if let Some(paths) = self.paths {
                let said: serde_json::Value = serde_json::from_slice(&body)?;
                ensure!(said["paths"] == paths, "{said}");
            }
        }
        Ok(times)
    }

    fn request(&self, number: u64) -> Vec<u8> {
        let Some(paths) = self.paths else { return b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec() };
        let paths: Vec<String> =
            (0..paths).map(|place| format!("/shop/product/{}/", (number * paths + place) % PATHS)).collect();
        invalidation(paths.iter().map(String::as_str))
    }
}
