//! Whose turn is it to change the head? Of several who want to, each shall get there about equally often.
//!
//! Whoever has swapped knows the newest head without reading it, and could swap again one round trip later. Whoever has lost has to read first: two round
//! trips, in which that one has swapped once more, for ever. So:
//!
//! - Who has appended gives way before it appends again: for as long as a loser takes to read and to swap, and longer the more swaps it has lost itself:
//!   so many others are there, and each shall come once. What is submitted meanwhile goes into the next append together.
//! - Who has lost tries again soon, and sooner the more often it has lost, after a pause by lot, so that losers do not meet again.
//!
//! A node without others never waits.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance;

/// Round trips that a loser takes until its next swap has been carried out, and a little.
const LOSERS_TRIPS: f64 = 2.5;
/// Round trips for each further one.
const TRIPS_EACH: f64 = 2.0;
/// The longest that is given way.
const WAY_MAX: Duration = Duration::from_secs(1);
/// The longest time that a swap counts with, however slow the server is.
const SWAP_MAX: Duration = Duration::from_millis(500);

/// How this node stands in the contention for the head.
#[derive(Debug)]
pub(super) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    /// How long a swap takes, about.
    swap: Duration,
    /// Swaps lost since the last append.
    lost: u32,
    /// Others come first until then.
    until: Instant,
}

impl Turns {
    pub(super) fn new() -> Self {
        Turns(Mutex::new(State { swap: Duration::ZERO, lost: 0, until: Instant::now() }))
    }

    /// A swap was answered after this time.
    pub(super) fn note_swap(&self, took: Duration) {
        let mut state = self.0.lock();
        let took = took.min(SWAP_MAX);
        state.swap = if state.swap.is_zero() { took } else { (state.swap * 3 + took) / 4 };
    }

    /// Somebody else was first: a pause before the next try.
    pub(super) async fn note_loss(&self) {
        let pause = {
            let mut state = self.0.lock();
            state.lost += 1;
            state.swap.mul_f64(f64::from(chance::byte()) / 256.0) / state.lost
        };
        sleep(pause).await;
    }

    /// This node has appended, and there are others.
    pub(super) fn note_append(&self) {
        let mut state = self.0.lock();
        // After a pause, the first swap is lost to whoever has come meanwhile.
        let trips = LOSERS_TRIPS + TRIPS_EACH * f64::from(state.lost.saturating_sub(1));
        state.until = Instant::now() + state.swap.mul_f64(trips).min(WAY_MAX);
        state.lost = 0;
    }

    /// Waits until others had their turn.
    pub(super) async fn give_way(&self) {
        let until = self.0.lock().until;
        if until > Instant::now() {
            sleep_until(until).await;
        }
    }
}
