//! Pages fetched from the app and written to S3, as many as come: each path is new.

use std::time::{Duration, Instant};

use crate::emulator::Emulator;
use crate::median;
use crate::origin::Origin;
use crate::process::Everpage;
use crate::visitor::rush;

const SIZES_KIB: [u64; 2] = [2, 16];
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);

pub(crate) async fn measure() {
    println!("\nfills, {CONNECTIONS} connections, medians of {ROUNDS} rounds; a round ends when all is written");
    println!("|   page | fills/s | CPU of everpage | written to S3 |");
    println!("| -----: | ------: | --------------: | ------------: |");
    for kib in SIZES_KIB {
        of_size(kib).await;
    }
}

async fn of_size(kib: u64) {
    let mut emulator = Emulator::start();
    let origin = Origin::default().start().await;
    let everpage = Everpage::start(origin, &emulator.place(), "");
    let (mut rates, mut costs, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (stored, before, started) = (emulator.count(), everpage.cpu_seconds(), Instant::now());
        let path = move |number: u64| format!("/{}/{round}/{number}", kib << 10);
        let fills = rush(everpage.public, CONNECTIONS, ROUND, path, |answer| answer.status == 200).await as f64;
        let written = settle(&mut emulator).await - stored;
        rates.push(written as f64 / started.elapsed().as_secs_f64());
        costs.push((everpage.cpu_seconds() - before) / fills * 1e6);
        shares.push(written as f64 / fills * 100.0);
    }
    let (rate, cost, share) = (median(rates), median(costs), median(shares));
    println!("| {kib:>3} KiB | {rate:>7.0} | {cost:>12.0} µs | {share:>11.1} % |");
}

/// Waits until nothing is written any more. Returns how many pages there are.
async fn settle(emulator: &mut Emulator) -> usize {
    let mut stored = emulator.count();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        match emulator.count() {
            now if now == stored => return stored,
            now => stored = now,
        }
    }
}
