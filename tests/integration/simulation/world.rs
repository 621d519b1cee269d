//! What surrounds the node: chance, time, the weather of a seed, and the log. All of it outlives a crash.

use std::fmt::Write as _;
use std::time::Duration;

use everpage::clock::UnixMillis;
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::checker::{Checker, Counts};

/// A party that does not do what it has to: each must be caught, or the simulation proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breach {
    /// All keep to their contracts.
    #[default]
    None,
    /// The journal answers before the records are durable.
    JournalAnswersEarly,
    /// A restart finds an empty journal of the same identity.
    JournalForgotten,
    /// The app's hook fires before the data is committed.
    HookBeforeCommit,
    /// The app has a cache of its own.
    OriginIsStale,
    /// The store returns what lies under another name.
    StoreMixesUp,
}

/// How bad things are in one seed, in percent.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub pauses: u32,
    pub longest_pause: u64,
    pub store_fails: u32,
    pub store_loses: u32,
    pub store_late: u32,
    pub store_old: u32,
    pub journal_fails: u32,
    pub journal_folds: u32,
    pub origin_fails: u32,
    pub origin_stalls: u32,
    pub origin_cuts: u32,
    pub origin_private: u32,
    pub large: bool,
    pub tagged_only: bool,
}

pub struct World {
    pub seed: u64,
    pub breach: Breach,
    pub weather: Weather,
    state: Mutex<State>,
}

pub struct State {
    random: StdRng,
    /// Events so far: a time without ties.
    events: u64,
    /// Milliseconds before the present start of the node.
    past: u64,
    started: Option<Instant>,
    /// Nothing goes wrong any more.
    calm: bool,
    log: String,
    pub checker: Checker,
    pub counts: Counts,
}

/// When every run begins.
const EPOCH: u64 = 1_700_000_000_000;

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({})", self.seed)
    }
}

impl World {
    pub fn new(seed: u64, breach: Breach) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let weather = Weather::draw(&mut random);
        let state = State {
            random,
            events: 0,
            past: 0,
            started: None,
            calm: false,
            log: String::new(),
            checker: Checker::default(),
            counts: Counts::default(),
        };
        World { seed, breach, weather, state: Mutex::new(state) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        if end < 2 { 0 } else { self.state().random.random_range(0..end) }
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    pub fn chance(&self, percent: u32) -> bool {
        percent > 0 && !self.is_calm() && self.below(100) < u64::from(percent)
    }

    /// Nothing, a few turns of everybody else, or some milliseconds.
    pub async fn pause(&self) {
        if !self.chance(self.weather.pauses) {
            return;
        }
        if self.chance(40) {
            for _ in 0..=self.below(4) {
                tokio::task::yield_now().await;
            }
        } else {
            let milliseconds = 1 + self.below(self.weather.longest_pause);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }

    pub fn milliseconds(&self) -> u64 {
        let state = self.state();
        state.past + state.started.map_or(0, |started| u64::try_from(started.elapsed().as_millis()).unwrap())
    }

    pub fn now(&self) -> UnixMillis {
        UnixMillis(EPOCH + self.milliseconds())
    }

    /// A new node begins, on a clock of its own.
    pub fn node_starts(&self) {
        self.state().started = Some(Instant::now());
    }

    pub fn node_ends(&self) {
        let now = self.milliseconds();
        let mut state = self.state();
        state.past = now;
        state.started = None;
    }

    /// One more event.
    pub fn tick(&self) -> u64 {
        let mut state = self.state();
        state.events += 1;
        state.events
    }

    pub fn note(&self, text: std::fmt::Arguments<'_>) {
        let now = self.milliseconds();
        let mut state = self.state();
        let events = state.events;
        writeln!(state.log, "{now:>6} ms {events:>5}  {text}").unwrap();
    }

    pub fn count(&self, what: &'static str) {
        self.state().counts.count(what, 1);
    }

    pub fn is_calm(&self) -> bool {
        self.state().calm
    }

    pub fn calm_down(&self) {
        self.state().calm = true;
    }

    pub fn take_log(&self) -> String {
        std::mem::take(&mut self.state().log)
    }
}

impl Weather {
    fn draw(random: &mut StdRng) -> Self {
        // Half of the seeds are spared each kind of mishap: faults hide bugs from one another.
        let mut percent = |most: u32| if random.random_bool(0.5) { 0 } else { random.random_range(1..=most) };
        Weather {
            pauses: 40 + percent(60),
            longest_pause: 5 + u64::from(percent(60)),
            store_fails: percent(20),
            store_loses: percent(20),
            store_late: percent(40),
            store_old: percent(30),
            journal_fails: percent(25),
            journal_folds: percent(30),
            origin_fails: percent(15),
            origin_stalls: percent(4),
            origin_cuts: percent(15),
            origin_private: percent(20),
            large: percent(1) > 0,
            tagged_only: percent(1) > 0,
        }
    }
}
