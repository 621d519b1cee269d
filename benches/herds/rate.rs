//! How many misses a second, and what does each cost? 64 connections, every path new; and in the end all of them are kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::misses::Party;
use crate::peers::Peer;
use crate::reply::{Reply, request};
use crate::report::{Table, median, size, time};
use crate::{Bench, PATIENCE};

const CONNECTIONS: usize = 64;
/// Pages of a round, by their size: few enough to keep them all in memory, and for nginx, which holds each of their files open.
const SIZES: [(usize, usize); 2] = [(2 << 10, 2_500), (64 << 10, 2_000)];
const READ_BYTES: usize = 64 << 10;
/// With it, all pages are in the memory of a store of this kind.
const IN_MEMORY: &str = "[store]\nkind = \"memory\"\n[memory]\ncapacity = \"2 GiB\"";

#[derive(Clone, Debug, Serialize)]
struct Round {
    per_second: f64,
    /// CPU time for one miss, the writing included.
    cpu_us: f64,
    /// Part of one core that was taken until the last answer.
    busy: f64,
}

pub(crate) async fn measure(bench: &Bench) -> Result<Table> {
    let (rounds, part) = if bench.quick { (2, 10) } else { (6, 1) };
    let note = format!(
        "{CONNECTIONS} connections, every path new, medians of {rounds} rounds; then each page was asked for again and was a hit; CPU with the writing"
    );
    let (mut rows, mut figures) = (Vec::new(), serde_json::Map::new());
    for (bytes, pages) in SIZES {
        let pages = pages / part;
        let mut parties = vec![
            ("everpage, files", Party::Everpage(Box::new(bench.start_in_memory("")?))),
            ("everpage, kind memory", Party::Everpage(Box::new(bench.start_in_memory(IN_MEMORY)?))),
        ];
        if bench.has_nginx {
            parties.push(("nginx", Party::Nginx(bench.place.start(Peer::Nginx, &bench.cores.server)?)));
        }
        let mut all: Vec<Vec<Round>> = parties.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            let forth = 0..parties.len();
            let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
            for place in order {
                let (name, party) = &parties[place];
                let done =
                    run(bench, party, bytes, round, pages).await.with_context(|| format!("{name}, {bytes} bytes"))?;
                all[place].push(done);
            }
        }
        for ((name, _), its) in parties.iter().zip(&all) {
            let middle = |of: fn(&Round) -> f64| median(its.iter().map(of));
            rows.push(vec![
                format!("{}, {name}", size(bytes)),
                format!("{:.0}", middle(|round| round.per_second)),
                time(middle(|round| round.cpu_us)),
                format!("{:.0} %", middle(|round| round.busy) * 100.0),
            ]);
            figures.insert(format!("{}, {name}", size(bytes)), serde_json::to_value(its)?);
        }
    }
    let columns = vec!["", "misses/s", "CPU/miss", "core busy"];
    Ok(Table { name: "Misses as fast as they come".to_owned(), note, columns, rows, figures: figures.into() })
}

async fn run(bench: &Bench, party: &Party, bytes: usize, round: usize, pages: usize) -> Result<Round> {
    let body = bench.app.body(bytes, 0);
    let (asked, spent, started) = (bench.app.requests(), party.cpu_seconds().unwrap_or_default(), Instant::now());
    crowd(party.address(), bytes, round, pages, &body, party.is_miss()).await?;
    let (taken, answered) = (started.elapsed().as_secs_f64(), party.cpu_seconds().unwrap_or_default());
    party.wait_kept(((round + 1) * pages) as u64)?;
    let written = party.cpu_seconds().unwrap_or_default();
    let asked_for = bench.app.requests() - asked;
    ensure!(asked_for == pages as u64, "{asked_for} requests for {pages} pages");
    crowd(party.address(), bytes, round, pages, &body, party.is_hit()).await.context("asked again")?;
    let again = bench.app.requests() - asked - asked_for;
    ensure!(again == 0, "{again} pages were fetched again");
    Ok(Round {
        per_second: pages as f64 / taken,
        cpu_us: (written - spent) / pages as f64 * 1e6,
        busy: (answered - spent) / taken,
    })
}

/// Asks once for each page of the round.
pub(crate) async fn crowd(
    at: SocketAddr,
    bytes: usize,
    round: usize,
    pages: usize,
    body: &Bytes,
    is_right: fn(&str) -> bool,
) -> Result<()> {
    let (next, mut visitors) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (next, body) = (Arc::clone(&next), body.clone());
        visitors.spawn(async move {
            let mut stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; READ_BYTES];
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= pages {
                    return anyhow::Ok(());
                }
                let mut reply = Reply::wanted(&body);
                stream.write_all(&request(&format!("/page/{bytes}/{round}/{number}/"))).await?;
                timeout(PATIENCE, receive(&mut stream, &mut buffer, &mut reply)).await.context("no answer")??;
                let head = reply.finish(200)?;
                ensure!(is_right(&head.cache), "page {number}: {head:?}");
            }
        });
    }
    while let Some(visitor) = visitors.join_next().await {
        visitor??;
    }
    Ok(())
}

/// Takes all of an answer.
pub(crate) async fn receive(stream: &mut TcpStream, buffer: &mut [u8], reply: &mut Reply<'_>) -> Result<()> {
    loop {
        let count = stream.read(buffer).await?;
        ensure!(count > 0, "the connection ended before the answer");
        if reply.take(&buffer[..count])? {
            return Ok(());
        }
    }
}
