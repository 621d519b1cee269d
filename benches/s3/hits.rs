//! Hits served from S3: nothing in memory, no disk tier, each page asked for anew.

use std::time::{Duration, Instant};

use crate::emulator::{BUCKET, Emulator};
use crate::median;
use crate::origin::Origin;
use crate::process::Everpage;
use crate::visitor::{Visitor, rush};

const SIZES_KIB: [u64; 3] = [2, 16, 256];
const PAGES: u64 = 400;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// Pairs of requests, one to each server, for the first byte.
const PAIRS: usize = 2000;

pub(crate) async fn measure() {
    println!(
        "\nhits from S3, {CONNECTIONS} connections, medians of {ROUNDS} rounds; first byte at p50, one connection"
    );
    println!("|   page | pages/s | CPU of everpage | first byte: S3 | everpage | added |");
    println!("| -----: | ------: | --------------: | -------------: | -------: | ----: |");
    for kib in SIZES_KIB {
        of_size(kib).await;
    }
}

async fn of_size(kib: u64) {
    let mut emulator = Emulator::start();
    let origin = Origin::default().start().await;
    let everpage = Everpage::start(origin, &emulator.place(), "[memory]\ncapacity = 0");
    let path = move |number: u64| format!("/{}/{}", kib << 10, number % PAGES);
    let mut visitor = Visitor::connect(everpage.public).await.expect("everpage listens");
    for number in 0..PAGES {
        visitor.get(&path(number)).await.expect("an answer comes");
    }
    emulator.holds(usize::try_from(PAGES).expect("it is small")).await;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (before, started) = (everpage.cpu_seconds(), Instant::now());
        let pages = rush(everpage.public, CONNECTIONS, ROUND, path, |answer| answer.is_from_s3()).await as f64;
        rates.push(pages / started.elapsed().as_secs_f64());
        costs.push((everpage.cpu_seconds() - before) / pages * 1e6);
    }
    let (keys, _) = emulator.pages();
    let mut direct = connect(&emulator.url).await;
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for (number, key) in keys.iter().cycle().take(PAIRS).enumerate() {
        near.push(direct.get(&format!("/{BUCKET}/{key}")).await.expect("an object").first_byte.as_secs_f64() * 1e6);
        let answer = visitor.get(&path(number as u64)).await.expect("an answer comes");
        assert!(answer.is_from_s3(), "{answer:?}");
        far.push(answer.first_byte.as_secs_f64() * 1e6);
    }
    let (rate, cost, near, far) = (median(rates), median(costs), median(near), median(far));
    let added = (far - near) / 1e3;
    println!("| {kib:>3} KiB | {rate:>7.0} | {cost:>12.0} µs | {near:>11.0} µs | {far:>5.0} µs | {added:.2} ms |");
}

async fn connect(url: &str) -> Visitor {
    let address = url.trim_start_matches("http://").parse().expect("an address and a port");
    Visitor::connect(address).await.expect("the emulator listens")
}
