//! What befalls the nodes, by a seed: two misfortunes at a time, each from a deck of its own, so that they meet in all combinations.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::prelude::*;
use tokio::time::sleep;

use super::node::Node;
use crate::support::{Fault, Gate, Link, Refusal};

/// Which turn is whose: `Node::turns`.
const PROCESS: usize = 0;
const S3: usize = 1;
const RING: usize = 2;

/// Between two misfortunes of a deck.
const QUIET_MS: Range<u64> = 200..500;
/// Of most misfortunes: three leases and more. Somebody silent is waited for twice before he is dropped, and others go on without him then.
const LASTS_MS: Range<u64> = 1500..2200;
/// Longer than an invalidation is tried: it is refused.
const OUTAGE_MS: Range<u64> = 4200..4800;
/// A look of this length is shorter than the lease; two, one after the other, are longer than anybody waits.
const SLOW: Fault = Fault::Slow { first_byte: Duration::from_millis(430), bytes_per_second: 1 << 20 };
/// A look of this length tells nothing when it ends: the lease that it was for is over, and so is the wait of others. Shorter than `read_timeout`.
const LATE: Fault = Fault::Slow { first_byte: Duration::from_millis(1200), bytes_per_second: 1 << 20 };
/// Two such looks.
const LATE_MS: Range<u64> = 2600..3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blow {
    /// SIGKILL; it comes back on the same disk or an empty one.
    Killed,
    /// SIGSTOP.
    Paused,
    /// One is killed, another paused.
    KilledAndPaused,
    /// Nobody reaches it: refused; taken and never answered; late; broken off within the answer.
    RingRefused,
    RingSilent,
    RingSlow,
    RingBrokenOff,
    /// Nobody reaches anybody.
    AllApart,
    S3Cut,
    S3Silent,
    /// 503 SlowDown.
    S3Refuses,
    /// Its swaps are carried out, and the answers lost.
    AnswersLost,
    /// Its swaps arrive late, when it has given them up or is waiting still.
    SwapsLate,
    /// Its pages arrive in the bucket late.
    PagesLate,
    /// Its looks take long, and nobody can ring it.
    SlowAndUnreachable,
    /// The same, and its looks take longer than its lease.
    LateAndUnreachable,
    /// It reaches nothing, and nobody reaches it.
    Isolated,
    /// S3 is gone for all.
    S3Gone,
}

/// Each deck is played at the same time as the other.
pub(super) const DECKS: [&[Blow]; 2] = [
    &[
        Blow::Killed,
        Blow::Killed,
        Blow::Paused,
        Blow::Paused,
        Blow::KilledAndPaused,
        Blow::RingRefused,
        Blow::RingSilent,
        Blow::RingSlow,
        Blow::RingBrokenOff,
        Blow::AllApart,
    ],
    &[
        Blow::S3Cut,
        Blow::S3Silent,
        Blow::S3Refuses,
        Blow::AnswersLost,
        Blow::SwapsLate,
        Blow::PagesLate,
        Blow::SlowAndUnreachable,
        Blow::LateAndUnreachable,
        Blow::Isolated,
        Blow::S3Gone,
    ],
];

/// What was seen while a misfortune lasted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Felt {
    pub(super) struck: usize,
    /// Invalidations that were sent and answered 200 meanwhile.
    pub(super) acknowledged: usize,
    /// Those that were answered 503.
    pub(super) refused: usize,
    /// Pages that came from a cache.
    pub(super) hits: usize,
}

/// What is going on.
#[derive(Default)]
pub(super) struct Weather(Mutex<Sky>);

#[derive(Default)]
struct Sky {
    begun: u64,
    now: BTreeMap<u64, Blow>,
    felt: BTreeMap<Blow, Felt>,
}

/// A misfortune that lasts as long as this value.
struct Lasting<'a>(&'a Weather, u64);

impl Weather {
    fn begin(&self, blow: Blow) -> Lasting<'_> {
        let mut sky = self.0.lock();
        sky.begun += 1;
        let number = sky.begun;
        sky.now.insert(number, blow);
        sky.felt.entry(blow).or_default().struck += 1;
        Lasting(self, number)
    }

    /// What goes on now, to be handed to `felt` later.
    pub(super) fn now(&self) -> Vec<u64> {
        self.0.lock().now.keys().copied().collect()
    }

    /// Something was seen that began at `since`: counted for all that have lasted since.
    pub(super) fn felt(&self, since: &[u64], mut count: impl FnMut(&mut Felt)) {
        let sky = &mut *self.0.lock();
        for blow in since.iter().filter_map(|number| sky.now.get(number)) {
            count(sky.felt.entry(*blow).or_default());
        }
    }

    pub(super) fn all_felt(&self) -> BTreeMap<Blow, Felt> {
        self.0.lock().felt.clone()
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        self.0.0.lock().now.remove(&self.1);
    }
}

/// Plays this deck to its end, shuffled.
pub(super) async fn play(deck: &[Blow], nodes: &[Arc<Node>], weather: &Weather, mut chance: StdRng) {
    let mut blows = deck.to_vec();
    blows.shuffle(&mut chance);
    for blow in blows {
        strike(blow, nodes, weather, &mut chance).await;
        sleep(some(QUIET_MS, &mut chance)).await;
    }
}

fn some(range: Range<u64>, chance: &mut StdRng) -> Duration {
    Duration::from_millis(chance.random_range(range))
}

/// One misfortune, from its beginning to its end.
async fn strike(blow: Blow, nodes: &[Arc<Node>], weather: &Weather, chance: &mut StdRng) {
    let place = chance.random_range(0..nodes.len());
    let (victim, other) = (&nodes[place], &nodes[(place + 1) % nodes.len()]);
    let lasts = some(LASTS_MS, chance);
    match blow {
        Blow::Killed => kill(blow, victim, weather, lasts, chance.random()).await,
        Blow::Paused => pause(blow, victim, weather, lasts).await,
        Blow::KilledAndPaused => {
            let keeps_disk = chance.random();
            tokio::join!(kill(blow, victim, weather, lasts, keeps_disk), pause(blow, other, weather, lasts));
        }
        Blow::RingRefused => ring(blow, victim, weather, Fault::Cut, lasts).await,
        Blow::RingSilent => ring(blow, victim, weather, Fault::BlackHole, lasts).await,
        Blow::RingSlow => ring(blow, victim, weather, SLOW, lasts).await,
        Blow::RingBrokenOff => ring(blow, victim, weather, Fault::ResetBody { after: 10 }, lasts).await,
        Blow::AllApart => {
            let apart = nodes.iter().map(|node| ring(blow, node, weather, Fault::Cut, lasts));
            futures_util::future::join_all(apart).await;
        }
        Blow::S3Cut => s3(blow, victim, weather, Fault::Cut, lasts).await,
        Blow::S3Silent => s3(blow, victim, weather, Fault::BlackHole, lasts).await,
        Blow::S3Refuses => s3(blow, victim, weather, Fault::Refuse(Refusal::SlowDown), lasts).await,
        Blow::AnswersLost => some_requests(blow, victim, weather, ("journal/head", Fault::LoseAnswer), lasts).await,
        Blow::SwapsLate | Blow::PagesLate => {
            let (part, gate) = (if blow == Blow::PagesLate { "/pages/" } else { "journal/head" }, Gate::default());
            some_requests(blow, victim, weather, (part, Fault::HoldRequest(gate.clone())), lasts).await;
            gate.open();
        }
        Blow::SlowAndUnreachable => both(blow, victim, weather, (SLOW, Fault::BlackHole), lasts).await,
        Blow::LateAndUnreachable => {
            both(blow, victim, weather, (LATE, Fault::BlackHole), some(LATE_MS, chance)).await;
        }
        Blow::Isolated => both(blow, victim, weather, (Fault::Cut, Fault::Cut), lasts).await,
        Blow::S3Gone => {
            let lasts = some(OUTAGE_MS, chance);
            let gone = nodes.iter().map(|node| s3(blow, node, weather, Fault::Cut, lasts));
            futures_util::future::join_all(gone).await;
        }
    }
}

async fn kill(blow: Blow, node: &Node, weather: &Weather, lasts: Duration, keeps_disk: bool) {
    let _turn = node.turns[PROCESS].lock().await;
    let _lasting = weather.begin(blow);
    node.kill();
    sleep(lasts).await;
    // A start needs S3.
    let _line = node.turns[S3].lock().await;
    if !keeps_disk {
        node.lose_disk();
    }
    node.rise();
}

async fn pause(blow: Blow, node: &Node, weather: &Weather, lasts: Duration) {
    let _turn = node.turns[PROCESS].lock().await;
    node.pause();
    let lasting = weather.begin(blow);
    sleep(lasts).await;
    drop(lasting);
    node.resume();
}

async fn ring(blow: Blow, node: &Node, weather: &Weather, fault: Fault, lasts: Duration) {
    let _turn = node.turns[RING].lock().await;
    stand(blow, &node.ring, weather, fault, lasts).await;
}

async fn s3(blow: Blow, node: &Node, weather: &Weather, fault: Fault, lasts: Duration) {
    let _turn = node.turns[S3].lock().await;
    stand(blow, &node.s3, weather, fault, lasts).await;
}

async fn both(blow: Blow, node: &Node, weather: &Weather, (s3, ring): (Fault, Fault), lasts: Duration) {
    let _s3 = node.turns[S3].lock().await;
    let _ring = node.turns[RING].lock().await;
    node.ring.set(ring).await;
    stand(blow, &node.s3, weather, s3, lasts).await;
    node.ring.set(Fault::None).await;
}

async fn stand(blow: Blow, line: &Link, weather: &Weather, fault: Fault, lasts: Duration) {
    line.set(fault).await;
    let lasting = weather.begin(blow);
    sleep(lasts).await;
    drop(lasting);
    line.set(Fault::None).await;
}

/// PUTs of keys like this suffer.
async fn some_requests(blow: Blow, node: &Node, weather: &Weather, suffers: (&'static str, Fault), lasts: Duration) {
    let _turn = node.turns[S3].lock().await;
    let (part, fault) = suffers;
    node.s3.next(usize::MAX, move |passing| passing.is("PUT", part), fault);
    let lasting = weather.begin(blow);
    sleep(lasts).await;
    drop(lasting);
    node.s3.forget_plans();
}
