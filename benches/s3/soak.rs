//! Load, invalidations, restarts and faults on the way to S3, for minutes on end: is any answer stale, does anything grow, is anything left behind?
//!
//! Each page carries the version it was rendered from. Once an invalidation has been answered 200, an older version must not be seen.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use rand::prelude::*;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::emulator::{BUCKET, Emulator};
use crate::origin::Origin;
use crate::process::{Everpage, Place};
use crate::support::{Fault, Link, Refusal};
use crate::visitor::{Answer, Visitor};

const VISITORS: u64 = 2;
/// Between two requests of a visitor.
const PAUSE: Duration = Duration::from_millis(10);
const INVALIDATION_PAUSE: Duration = Duration::from_millis(400);
/// Longer than any bound of everpage's own.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a fault lasts, and the quiet after it.
const FAULT: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(10);
/// The part of the time in which everpage is restarted; the last process lives on to the end, to see whether it grows.
const RESTARTING: f64 = 0.4;
/// Of a process's life, when it has warmed up: what it takes from then on is compared with what it takes at the end.
const WARM: Duration = Duration::from_secs(120);
/// So long are both looked at: three faults and the quiet after them.
const LOOK: Duration = Duration::from_secs(45);

/// Small enough that all tiers are in play.
const SETTINGS: &str = "[store.s3.disk_cache]\npath = \"disk\"\nmax_bytes = \"16 MiB\"\n[memory]\ncapacity = \"4 MiB\"";

/// What all tasks share.
#[derive(Clone, Default)]
struct Site {
    origin: Origin,
    /// The oldest version that may still be seen, by path.
    floors: Arc<Mutex<HashMap<String, u64>>>,
    /// Public and admin address, while everpage runs.
    addresses: Arc<Mutex<Option<(SocketAddr, SocketAddr)>>>,
    tally: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Site {
    fn count(&self, what: &str) {
        *self.tally.lock().entry(what.to_owned()).or_default() += 1;
    }

    fn counted(&self, what: &str) -> u64 {
        self.tally.lock().get(what).copied().unwrap_or_default()
    }

    /// Some pages are asked for often, and a few are large.
    fn some_path() -> String {
        let mut chance = rand::rng();
        match chance.random_range(0..800) {
            0 => return format!("/stream/20000000/{}", chance.random_range(0..4)),
            1 => return format!("/chunked/12000000/{}", chance.random_range(0..4)),
            _ => {}
        }
        let number = (chance.random::<f64>().powi(2) * 400.0) as u64;
        format!("/{}/{number}", 1u64 << (10 + number % 9))
    }

    async fn visit(self) {
        let mut pace = interval(PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut visitor = None;
        loop {
            pace.tick().await;
            let Some((public, _)) = *self.addresses.lock() else { continue };
            let path = Self::some_path();
            let floor = self.floors.lock().get(&path).copied().unwrap_or_default();
            let asked = async {
                let mut open = match visitor.take() {
                    Some(open) => open,
                    None => Visitor::connect(public).await?,
                };
                let answer = open.get(&path).await?;
                visitor = Some(open);
                Ok::<_, std::io::Error>(answer)
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => self.judge(&path, floor, &answer),
                Ok(Err(_)) => self.count("broken off"),
                Err(_) => self.count("never answered"),
            }
        }
    }

    fn judge(&self, path: &str, floor: u64, answer: &Answer) {
        self.count("requests");
        if answer.status != 200 {
            return self.count(&format!("status {}", answer.status));
        }
        let version =
            answer.begin.get(..16).and_then(|text| std::str::from_utf8(text).ok()?.trim().parse::<u64>().ok());
        if version.is_none_or(|version| version < floor) {
            println!("STALE: {path} in version {version:?}, invalidated up to {floor}: {}", answer.cache_status);
            self.count("stale");
        }
        let detail = answer.cache_status.rsplit_once("hit; detail=").map(|(_, detail)| format!("hits from {detail}"));
        self.count(detail.as_deref().unwrap_or("from the origin"));
    }

    async fn invalidate(self) {
        let mut pace = interval(INVALIDATION_PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let path = Self::some_path();
            let version = self.origin.save(&path);
            let body: Bytes =
                serde_json::json!({"paths": [path], "id": uuid::Uuid::new_v4().to_string()}).to_string().into();
            while !self.was_invalidated(&body).await {
                self.count("invalidations tried again");
                sleep(Duration::from_millis(200)).await;
            }
            self.count("invalidations");
            self.floors.lock().insert(path, version);
        }
    }

    /// Only 200 promises anything.
    async fn was_invalidated(&self, body: &Bytes) -> bool {
        let Some((_, admin)) = *self.addresses.lock() else { return false };
        let asked = async {
            let mut client = Visitor::connect(admin).await?;
            client.send(Method::POST, "/invalidate", body.clone()).await
        };
        matches!(timeout(PATIENCE, asked).await, Ok(Ok(Answer { status: 200, .. })))
    }
}

fn faults() -> [Fault; 7] {
    [
        Fault::Cut,
        Fault::BlackHole,
        Fault::Slow { first_byte: Duration::from_millis(100), bytes_per_second: 1_000_000 },
        Fault::ResetBody { after: 4096 },
        Fault::LoseAnswer,
        Fault::Refuse(Refusal::SlowDown),
        Fault::Refuse(Refusal::InternalError),
    ]
}

/// The life of one process: age, MiB, descriptors.
type Samples = Vec<(Duration, f64, usize)>;

/// Who breaks things, and watches.
struct Keeper {
    site: Site,
    link: Link,
    emulator: Emulator,
    origin: SocketAddr,
    everpage: Option<Everpage>,
    born: Instant,
    samples: Samples,
    /// Uploads that processes left which were killed.
    orphans: usize,
}

pub(crate) async fn run(minutes: u64) {
    let site = Site::default();
    let emulator = Emulator::start();
    let link = Link::to(&emulator.url).await;
    let origin = site.origin.start().await;
    let (born, samples) = (Instant::now(), Vec::new());
    let mut keeper = Keeper { site, link, emulator, origin, everpage: None, born, samples, orphans: 0 };
    keeper.start();
    let mut load: Vec<_> = (0..VISITORS).map(|_| tokio::spawn(keeper.site.clone().visit())).collect();
    load.push(tokio::spawn(keeper.site.clone().invalidate()));
    keeper.plague(Duration::from_secs(minutes * 60)).await;
    load.iter().for_each(tokio::task::JoinHandle::abort);
    keeper.report().await;
}

impl Keeper {
    fn start(&mut self) {
        let everpage = Everpage::start(self.origin, &Place::new(&self.link.url(), BUCKET), SETTINGS);
        *self.site.addresses.lock() = Some((everpage.public, everpage.admin));
        self.everpage = Some(everpage);
        (self.born, self.samples) = (Instant::now(), Vec::new());
    }

    /// Faults and restarts, in turns.
    async fn plague(&mut self, time: Duration) {
        let begun = Instant::now();
        for (number, fault) in faults().iter().cycle().enumerate() {
            if begun.elapsed() >= time {
                return;
            }
            self.watch(QUIET).await;
            self.link.set(fault.clone()).await;
            self.watch(FAULT).await;
            self.link.set(Fault::None).await;
            if begun.elapsed() < time.mul_f64(RESTARTING) {
                self.watch(QUIET).await;
                self.restart(if number % 2 == 0 { "KILL" } else { "TERM" }).await;
            }
            println!("{:>4} s: {:?}", begun.elapsed().as_secs(), self.site.tally.lock());
        }
    }

    async fn restart(&mut self, signal: &str) {
        *self.site.addresses.lock() = None;
        let before = self.emulator.pages().1.len();
        let is_well = self.everpage.take().expect("it runs").end(signal).await;
        self.site.count(&format!("restarts by {signal}"));
        if signal == "KILL" {
            self.orphans += self.emulator.pages().1.len().max(before) - before;
        } else if !is_well {
            self.site.count("bad ends");
        }
        self.start();
    }

    async fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
            let everpage = self.everpage.as_ref().expect("it runs");
            self.samples.push((self.born.elapsed(), everpage.memory_mib(), everpage.descriptors()));
        }
    }

    async fn report(&mut self) {
        // What is under way lands.
        self.watch(QUIET).await;
        let everpage = self.everpage.take().expect("it runs");
        let (peak, at_end) = (everpage.peak_mib(), (everpage.memory_mib(), everpage.descriptors()));
        let is_well = everpage.end("TERM").await;
        println!("\nsoak: {:#?}", self.site.tally.lock());
        let (pages, uploads) = self.emulator.pages();
        println!("stale answers: {}", self.site.counted("stale"));
        println!("the last process ended {}", if is_well { "well" } else { "badly" });
        let last = self.samples.last().map_or(Duration::ZERO, |(age, ..)| *age);
        let (warm, late) = (self.mean(WARM), self.mean(last.saturating_sub(LOOK)));
        println!("its memory after 2 minutes {:.0} MiB, in the end {:.0} MiB (at most {peak:.0})", warm.0, late.0);
        println!("its descriptors after 2 minutes {:.0}, in the end {:.0}; idle {at_end:?}", warm.1, late.1);
        println!(
            "pages in the bucket: {}; uploads left: {}, of killed processes: {}",
            pages.len(),
            uploads.len(),
            self.orphans
        );
    }

    /// Memory and descriptors on average, from that age on.
    fn mean(&self, from: Duration) -> (f64, f64) {
        let looked: Vec<_> = self.samples.iter().filter(|(age, ..)| *age >= from && *age < from + LOOK).collect();
        let count = looked.len().max(1) as f64;
        let memory: f64 = looked.iter().map(|(_, memory, _)| memory).sum();
        (memory / count, looked.iter().map(|(_, _, descriptors)| *descriptors as f64).sum::<f64>() / count)
    }
}
