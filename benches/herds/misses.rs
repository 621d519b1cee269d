//! What does a cache add to a miss? One client, one request at a time on one connection: to the app itself, and through each cache. Every path is new.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::Bench;
use crate::caller::Caller;
use crate::node::Node;
use crate::peers::Peer;
use crate::process::Process;
use crate::reply::{Reply, request};
use crate::report::{Table, median, percentile, size, time};

const SIZES: [usize; 2] = [2 << 10, 64 << 10];
/// Requests of a round that do not count: connections are made, caches warm.
const WARM: usize = 50;

/// Whom the client asks.
pub(crate) enum Party {
    App(SocketAddr),
    Everpage(Box<Node>),
    Nginx(Process),
}

/// What one of them did in one round.
#[derive(Clone, Debug, Serialize)]
struct Round {
    p50_us: f64,
    p99_us: f64,
    /// CPU time for one miss, the writing included; none of the app's.
    cpu_us: Option<f64>,
}

impl Party {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Party::App(_) => "the app itself",
            Party::Everpage(_) => "everpage",
            Party::Nginx(_) => "nginx",
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Party::App(address) => *address,
            Party::Everpage(node) => node.public(),
            Party::Nginx(process) => process.address,
        }
    }

    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        match self {
            Party::App(_) => None,
            Party::Everpage(node) => Some(node.cpu_seconds()),
            Party::Nginx(process) => Some(process.cpu_seconds()),
        }
    }

    /// Whether what it says of an answer is what it says of a miss that is kept.
    pub(crate) fn is_miss(&self) -> fn(&str) -> bool {
        match self {
            Party::App(_) => |_| true,
            Party::Everpage(_) => |cache| cache.contains("; fwd=uri-miss") && cache.ends_with("; stored"),
            Party::Nginx(_) => |cache| cache == "MISS",
        }
    }

    /// Whether it says that it had the page.
    pub(crate) fn is_hit(&self) -> fn(&str) -> bool {
        match self {
            Party::App(_) => |_| false,
            Party::Everpage(_) => |cache| cache.contains("; hit"),
            Party::Nginx(_) => |cache| cache == "HIT",
        }
    }

    /// Until so many pages are kept; nginx has written a page when its answer has ended.
    pub(crate) fn wait_kept(&self, pages: u64) -> Result<()> {
        match self {
            Party::Everpage(node) => node.wait_kept(pages),
            Party::App(_) | Party::Nginx(_) => Ok(()),
        }
    }
}

pub(crate) async fn measure(bench: &Bench) -> Result<Table> {
    let (rounds, requests) = if bench.quick { (2, 200) } else { (10, 1000) };
    let note = format!(
        "one client, one request at a time, keep-alive; medians of {rounds} rounds of {requests}; CPU with the writing"
    );
    let (mut rows, mut figures) = (Vec::new(), serde_json::Map::new());
    for bytes in SIZES {
        let mut parties = vec![Party::App(bench.app.address)];
        parties.push(Party::Everpage(Box::new(bench.start_in_memory("")?)));
        if bench.has_nginx {
            parties.push(Party::Nginx(bench.place.start(Peer::Nginx, &bench.cores.server)?));
        }
        let mut all: Vec<Vec<Round>> = parties.iter().map(|_| Vec::new()).collect();
        let mut kept = 0;
        for round in 0..rounds {
            let forth = 0..parties.len();
            let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
            kept += (WARM + requests) as u64;
            for place in order {
                all[place].push(run(bench, &parties[place], bytes, round, requests, kept).await?);
            }
        }
        for (party, its) in parties.iter().zip(&all) {
            rows.push(row(bytes, party.name(), its, &all[0]));
            figures.insert(format!("{}, {}", size(bytes), party.name()), serde_json::to_value(its)?);
        }
    }
    let columns = vec!["", "p50", "added", "p99", "added", "CPU/miss"];
    Ok(Table { name: "Misses".to_owned(), note, columns, rows, figures: figures.into() })
}

fn row(bytes: usize, name: &str, its: &[Round], app: &[Round]) -> Vec<String> {
    let middle = |of: fn(&Round) -> f64| time(median(its.iter().map(of)));
    let added = |of: fn(&Round) -> f64| time(median(its.iter().zip(app).map(|(one, other)| of(one) - of(other))));
    let cpu: Option<Vec<f64>> = its.iter().map(|round| round.cpu_us).collect();
    let none = || "".to_owned();
    let is_app = cpu.is_none();
    vec![
        format!("{}, {name}", size(bytes)),
        middle(|round| round.p50_us),
        if is_app { none() } else { added(|round| round.p50_us) },
        middle(|round| round.p99_us),
        if is_app { none() } else { added(|round| round.p99_us) },
        cpu.map_or_else(none, |cpu| time(median(cpu))),
    ]
}

async fn run(bench: &Bench, party: &Party, bytes: usize, round: usize, requests: usize, kept: u64) -> Result<Round> {
    let (at, is_miss, body) = (party.address(), party.is_miss(), bench.app.body(bytes, 0));
    let (asked, spent) = (bench.app.requests(), party.cpu_seconds());
    let mut times = spawn_blocking(move || {
        let (mut caller, mut times) = (Caller::connect(at)?, Vec::with_capacity(requests));
        for number in 0..WARM + requests {
            let request = request(&format!("/page/{bytes}/{round}/{number}/"));
            let mut reply = Reply::wanted(&body);
            let started = Instant::now();
            caller.ask(&request, &mut reply)?;
            let taken = started.elapsed();
            let head = reply.finish(200)?;
            ensure!(is_miss(&head.cache), "no miss: {head:?}");
            if number >= WARM {
                times.push(taken.as_secs_f64() * 1e6);
            }
        }
        anyhow::Ok(times)
    })
    .await??;
    party.wait_kept(kept)?;
    let spent = party.cpu_seconds().zip(spent).map(|(after, before)| after - before);
    let asked = bench.app.requests() - asked;
    ensure!(asked == (WARM + requests) as u64, "{}: {asked} requests for {requests} pages", party.name());
    times.sort_by(f64::total_cmp);
    Ok(Round {
        p50_us: percentile(&times, 0.5),
        p99_us: percentile(&times, 0.99),
        cpu_us: spent.map(|seconds| seconds / asked as f64 * 1e6),
    })
}
