//! Memory while many large bodies stream at once: on their way from the app into S3, and from S3 to visitors.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::emulator::Emulator;
use crate::origin::Origin;
use crate::process::Everpage;
use crate::visitor::Visitor;

const BODIES: usize = 50;
const BYTES: usize = 100_000_000;
/// What the temporary files of all of them take is more than the default.
const SETTINGS: &str = "[cache]\nmax_temporary_bytes = \"8 GiB\"";

pub(crate) async fn measure() {
    println!("\n{BODIES} bodies of {} MB at once", BYTES / 1_000_000);
    println!("| bodies                          | memory at most | all of it took |");
    println!("| :------------------------------ | -------------: | -------------: |");
    let origin = Origin::default().start().await;
    for (kind, words) in [("chunked", "fetched, length unknown"), ("stream", "fetched, Content-Length")] {
        let mut emulator = Emulator::start();
        let everpage = Everpage::start(origin, &emulator.place(), SETTINGS);
        let started = Instant::now();
        all(&everpage, kind, "stored").await;
        emulator.holds(BODIES).await;
        report(words, &everpage, started.elapsed());
        drop(everpage);
        if kind == "stream" {
            let everpage = Everpage::start(origin, &emulator.place(), SETTINGS);
            let started = Instant::now();
            all(&everpage, kind, "detail=s3").await;
            report("served from S3", &everpage, started.elapsed());
        }
    }
}

fn report(words: &str, everpage: &Everpage, took: Duration) {
    let (peak, seconds) = (everpage.peak_mib(), took.as_secs_f64());
    println!("| {words:<31} | {peak:>10.0} MiB | {seconds:>12.1} s |");
}

async fn all(everpage: &Everpage, kind: &str, outcome: &'static str) {
    let mut visitors = JoinSet::new();
    for number in 0..BODIES {
        let (at, path) = (everpage.public, format!("/{kind}/{BYTES}/{number}"));
        visitors.spawn(async move {
            let mut visitor = Visitor::connect(at).await.expect("everpage listens");
            let answer = visitor.get(&path).await.expect("an answer comes");
            assert!(answer.bytes == BYTES && answer.cache_status.contains(outcome), "{path}: {answer:?}");
        });
    }
    visitors.join_all().await;
}
