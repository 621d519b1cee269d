//! A cold start before a bucket with a million objects: from the start of the process to the first hit.

use std::time::Instant;

use crate::emulator::Emulator;
use crate::median;
use crate::origin::Origin;
use crate::process::Everpage;
use crate::visitor::Visitor;

const OBJECTS: u64 = 1_000_000;
const STARTS: usize = 7;
const PATH: &str = "/16384/first";

pub(crate) async fn measure() {
    let mut emulator = Emulator::start();
    let origin = Origin::default().start().await;
    let everpage = Everpage::start(origin, &emulator.place(), "");
    let mut visitor = Visitor::connect(everpage.public).await.expect("everpage listens");
    visitor.get(PATH).await.expect("an answer comes");
    emulator.holds(1).await;
    assert!(everpage.end("TERM").await, "it ends well");
    emulator.plant(OBJECTS);
    let mut seconds = Vec::new();
    let mut requests = Vec::new();
    for _ in 0..STARTS {
        let (before, started) = (emulator.requests(), Instant::now());
        let everpage = Everpage::start(origin, &emulator.place(), "");
        let mut visitor = Visitor::connect(everpage.public).await.expect("everpage listens");
        let answer = visitor.get(PATH).await.expect("an answer comes");
        seconds.push(started.elapsed().as_secs_f64());
        assert!(answer.is_from_s3(), "{answer:?}");
        requests = emulator
            .requests()
            .into_iter()
            .map(|(method, count)| format!("{} {method}", count - before.get(&method).copied().unwrap_or_default()))
            .collect();
    }
    println!("\ncold start, {OBJECTS} objects in the bucket, median of {STARTS}");
    println!(
        "from the start of the process to the first hit: {:.0} ms; requests: {}",
        median(seconds) * 1e3,
        requests.join(", ")
    );
}
