//! Which records are so old that the origin shows what they named as it is by now? An origin that reads from a replica may show the old state for a
//! while; for that, `cache.settle` keeps pages from being stored for so long after their invalidation.
//!
//! A page whose fetch began within that time after a record that names it is *settling*: it is handed to whoever asked, and not stored. The time is
//! counted here, for all records at once: the newest record that has **settled** is one number, and a page is settling if a newer one names it.
//!
//! # From when the time counts
//!
//! From the moment when *this node* has applied the record, on a clock that never goes back and counts the machine's sleep; a wall clock that jumps
//! changes nothing.
//!
//! - A record is applied only once it is durable, so the time never ends sooner than if it were counted from there. A node that hears of a record late
//!   waits longer than the others, never less. Until it hears of it, what it fetches has an `as_of` before the record, and is dead.
//! - So a page that any node stores and that is valid after the record was fetched by a node that had known the record for the whole time. That holds
//!   for those who read it too: they need not count.
//! - A change that could not be made durable yet names its pages as newer than every record: nothing of them is stored at all.
//!
//! After a restart it is not known when a record was applied. Its `at` tells when it was made, by the wall clock of some node, and it was not applied
//! before: a record whose `at` lies further back than the time and five minutes (`CLOCKS_APART`) together has settled. Any other counts from the start of this
//! node: one that is younger, one that says nothing of its time, all that was folded into a snapshot, and all that came after one of those. What this cannot
//! see are clocks which differ by more than that, between two nodes or before and after the restart.
//!
//! This module applies nothing and knows no pages: it counts.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use super::index::Newest;
use super::journal::Recovered;
use super::selector::Record;
use crate::clock::{Clock, Ticks, UnixMillis};
use crate::page::Sequence;

/// By how much the wall clocks of nodes may differ.
const CLOCKS_APART: Duration = Duration::from_secs(300);
/// Into so many parts the time is divided: records of one part are counted together, from the last of them.
const PARTS: u32 = 256;

/// `cache.settle`, and the clock that measures it.
#[derive(Clone, Copy, Debug)]
pub struct Settle {
    /// How long; nothing: every record has settled at once.
    pub time: Duration,
    /// What measures it.
    pub clock: Clock,
}

/// A moment at which a fetch begins, or a visitor comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The newest record that every look-up takes into account: the `as_of` of a fetch that begins now.
    pub applied: Sequence,
    /// The newest record that has settled; without `cache.settle`, any record has.
    pub settled: Sequence,
}

impl Moment {
    /// Is there any record that has not settled?
    #[must_use]
    pub fn is_any_settling(&self) -> bool {
        self.settled < self.applied
    }

    /// Is what is fetched from this moment on settling, if these records name it?
    #[must_use]
    pub fn is_too_early(&self, newest: Newest) -> bool {
        newest.hard > self.settled || newest.soft > self.settled
    }

    /// Would a fetch from this moment on show a visitor of `later` a page that was settling then and is not any more?
    #[must_use]
    pub fn is_outlived(&self, newest: Newest, later: Moment) -> bool {
        let is_between = |record: Sequence| record > self.settled && record <= later.settled;
        is_between(newest.hard) || is_between(newest.soft)
    }
}

/// The records that have not settled yet.
#[derive(Debug)]
pub(super) struct Settling {
    settle: Option<Settle>,
    steps: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    settled: Sequence,
    /// In order, at most a few more than [`PARTS`].
    waiting: VecDeque<Step>,
}

/// Records that were applied at about the same time.
#[derive(Clone, Copy, Debug)]
struct Step {
    first_at: Ticks,
    last_at: Ticks,
    last: Sequence,
}

impl Settling {
    /// After a start; `applied` is the newest record of what was recovered.
    pub(super) fn recover(settle: Option<Settle>, recovered: &Recovered, applied: Sequence) -> Self {
        let settle = settle.filter(|settle| !settle.time.is_zero());
        let settling = Settling { settle, steps: Mutex::default() };
        if let Some(settle) = settle {
            settling.steps.lock().settled = settled_by_the_wall_clock(settle, recovered);
            settling.note(applied);
        }
        settling
    }

    /// Everything up to this record has been applied, just now.
    pub(super) fn note(&self, applied: Sequence) {
        let Some(settle) = &self.settle else { return };
        let mut steps = self.steps.lock();
        let now = settle.clock.ticks();
        let known = steps.waiting.back().map_or(steps.settled, |step| step.last);
        if applied <= known {
            return;
        }
        match steps.waiting.back_mut() {
            // Counted from its last record, so none of them settles too early.
            Some(step) if now.since(step.first_at) <= settle.time / PARTS => {
                (step.last_at, step.last) = (now, applied);
            }
            _ => steps.waiting.push_back(Step { first_at: now, last_at: now, last: applied }),
        }
    }

    /// The newest record that has settled.
    pub(super) fn settled(&self) -> Sequence {
        let Some(settle) = &self.settle else { return Sequence(u64::MAX) };
        let mut steps = self.steps.lock();
        let now = settle.clock.ticks();
        while let Some(step) = steps.waiting.pop_front_if(|step| is_over(settle, *step, now)) {
            steps.settled = step.last;
        }
        steps.settled
    }

    /// How long it takes until this record has settled; `None`: it has, or is not known.
    pub(super) fn wait(&self, sequence: Sequence) -> Option<Duration> {
        let settle = self.settle.as_ref()?;
        if sequence <= self.settled() {
            return None;
        }
        let step = self.steps.lock().waiting.iter().find(|step| sequence <= step.last).copied()?;
        let until = step.last_at.after(settle.time).since(settle.clock.ticks());
        Some(until + Duration::from_millis(1))
    }
}

/// A tick is the beginning of its millisecond, and the record may have been applied at the end of it.
fn is_over(settle: &Settle, step: Step, now: Ticks) -> bool {
    now > step.last_at.after(settle.time)
}

/// Up to which record everything was made so long ago that no clock's error matters.
fn settled_by_the_wall_clock(settle: Settle, recovered: &Recovered) -> Sequence {
    if recovered.snapshot.is_some() {
        return Sequence(0);
    }
    let margin = u64::try_from((settle.time + CLOCKS_APART).as_millis()).unwrap_or(u64::MAX);
    let latest = settle.clock.now().0.saturating_sub(margin);
    let is_old = |record: &Record| record.at > UnixMillis(0) && record.at.0 < latest;
    let old = recovered.records.iter().take_while(|(_, record)| is_old(record));
    old.last().map(|(sequence, _)| *sequence).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Instant, advance};

    use super::*;

    const TIME: Duration = Duration::from_secs(10);
    const NOW: UnixMillis = UnixMillis(1_000_000_000);

    fn settle() -> Settle {
        Settle { time: TIME, clock: Clock::Tokio { epoch: NOW, started: Instant::now() } }
    }

    fn recovered(ages_seconds: &[u64]) -> Recovered {
        let record = |age: &u64| Arc::new(Record { at: UnixMillis(NOW.0 - age * 1000), ..Record::default() });
        Recovered { snapshot: None, records: (1..).map(Sequence).zip(ages_seconds.iter().map(record)).collect() }
    }

    fn fresh() -> Settling {
        Settling::recover(Some(settle()), &Recovered::default(), Sequence(0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_has_settled_when_its_time_is_over_and_not_before() {
        let settling = fresh();
        settling.note(Sequence(1));
        advance(TIME / 2).await;
        settling.note(Sequence(2));
        advance(TIME / 2).await;
        assert_eq!(settling.settled(), Sequence(0), "not at the very moment: it may have been applied a little later");
        advance(Duration::from_millis(1)).await;
        assert_eq!(settling.settled(), Sequence(1));
        advance(TIME).await;
        assert_eq!(settling.settled(), Sequence(2));
    }

    #[tokio::test(start_paused = true)]
    async fn many_records_take_little_room_and_none_settles_too_early() {
        let settling = fresh();
        let mut applied = Vec::new();
        for number in 1..=20_000 {
            settling.note(Sequence(number));
            applied.push(Instant::now());
            advance(Duration::from_millis(3)).await;
            let settled = usize::try_from(settling.settled().0).unwrap();
            assert!(settled == 0 || applied[settled - 1].elapsed() > TIME);
            let waits_longest = applied.get(settled).map(Instant::elapsed).unwrap_or_default();
            assert!(waits_longest <= TIME + TIME / PARTS + Duration::from_millis(4), "{number}: {waits_longest:?}");
        }
        assert!(settling.steps.lock().waiting.len() <= PARTS as usize + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_can_wait_for_a_record_to_settle() {
        let settling = fresh();
        assert_eq!(settling.wait(Sequence(1)), None, "nobody knows it");
        settling.note(Sequence(2));
        advance(TIME / 4).await;
        let wait = settling.wait(Sequence(1)).unwrap();
        assert!(wait > TIME / 2);
        advance(wait).await;
        assert_eq!(settling.wait(Sequence(2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_only_what_is_surely_old_has_settled() {
        let long_ago = (TIME + CLOCKS_APART).as_secs() + 1;
        let settled = |recovered: &Recovered| {
            let settling = Settling::recover(Some(settle()), recovered, recovered.last());
            (settling.settled().0, settling)
        };
        assert_eq!(settled(&recovered(&[long_ago, long_ago])).0, 2);
        assert_eq!(settled(&recovered(&[long_ago, long_ago - 2, long_ago])).0, 1, "a clock may be wrong by that");
        let unknown = recovered(&[NOW.0 / 1000, long_ago]);
        assert_eq!(settled(&unknown).0, 0, "it does not say when it was made");
        let folded = Recovered { snapshot: Some((Sequence(1), Vec::new())), ..recovered(&[]) };
        let (now, settling) = settled(&folded);
        assert_eq!(now, 0);
        advance(TIME + Duration::from_millis(1)).await;
        assert_eq!(settling.settled(), Sequence(1), "it counts from the start");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_every_record_has_settled() {
        let none = Settle { time: Duration::ZERO, ..settle() };
        for settle in [None, Some(none)] {
            let settling = Settling::recover(settle, &recovered(&[0]), Sequence(1));
            settling.note(Sequence(2));
            assert_eq!((settling.settled(), settling.wait(Sequence(2))), (Sequence(u64::MAX), None));
            assert!(settling.steps.lock().waiting.is_empty());
        }
    }
}
