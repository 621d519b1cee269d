//! IS S3 WELL ENOUGH TO BE ASKED? After a few failures in a row nobody is sent there but one probe at a time.
//!
//! Knows no clock and no S3: whoever asks says what time it is and how the request ended.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::UnixMillis;

/// Failures in a row that open it: more than one lost connection of each kind, less than a visitor would notice many times.
const FAILURES: u32 = 5;
/// From opening to the first probe; twice as long after each probe that fails.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// At most: so late is a recovery noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Is S3 asked at all?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Closed,
    /// No: it failed several times in a row. Probes go on.
    Open {
        /// Since when.
        since: UnixMillis,
        /// The failure that opened it, in words.
        reason: String,
    },
}

/// The circuit breaker of one bucket.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { since: UnixMillis, reason: String, wait: Duration, next_probe: Instant, is_probing: bool },
}

/// Leave to send one request. Dropped without a word about its end, it says nothing.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker(Mutex::new(State::Closed { failures: 0 }))
    }
}

impl Breaker {
    /// May a request be sent?
    ///
    /// # Errors
    /// The failure that opened the breaker, in words.
    pub(super) fn admit(&self, now: Instant) -> Result<Pass<'_>, String> {
        match &mut *self.0.lock() {
            State::Closed { .. } => Ok(Pass { breaker: self, is_probe: false }),
            State::Open { next_probe, is_probing, .. } if !*is_probing && *next_probe <= now => {
                *is_probing = true;
                Ok(Pass { breaker: self, is_probe: true })
            }
            State::Open { reason, .. } => Err(reason.clone()),
        }
    }

    pub(super) fn health(&self) -> Health {
        match &*self.0.lock() {
            State::Closed { .. } => Health::Closed,
            State::Open { since, reason, .. } => Health::Open { since: *since, reason: reason.clone() },
        }
    }
}

impl Pass<'_> {
    /// S3 answered; what it said is another matter. Returns since when the breaker had been open, if this closes it.
    pub(super) fn answered(self) -> Option<UnixMillis> {
        let mut state = self.breaker.0.lock();
        let since = match &*state {
            State::Closed { .. } => None,
            State::Open { since, .. } => Some(*since),
        };
        *state = State::Closed { failures: 0 };
        drop(state);
        since
    }

    /// S3 is not well. Returns whether this opens the breaker.
    pub(super) fn failed(self, now: Instant, wall: UnixMillis, why: &str) -> bool {
        match &mut *self.breaker.0.lock() {
            State::Closed { failures } if *failures + 1 < FAILURES => {
                *failures += 1;
                false
            }
            state @ State::Closed { .. } => {
                *state = State::Open {
                    since: wall,
                    reason: why.to_owned(),
                    wait: FIRST_WAIT,
                    next_probe: now + FIRST_WAIT,
                    is_probing: false,
                };
                true
            }
            State::Open { reason, wait, next_probe, .. } => {
                if self.is_probe {
                    *wait = (*wait * 2).min(LONGEST_WAIT);
                    *next_probe = now + *wait;
                    why.clone_into(reason);
                }
                false
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe
            && let State::Open { is_probing, .. } = &mut *self.breaker.0.lock()
        {
            *is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: UnixMillis = UnixMillis(7);

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 1..FAILURES {
            assert!(!breaker.admit(now).unwrap().failed(now, WALL, "timeout"));
        }
        assert_eq!(breaker.health(), Health::Closed);
        assert!(breaker.admit(now).unwrap().failed(now, WALL, "timeout"));
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.admit(now).unwrap_err(), "timeout");
        assert_eq!(breaker.health(), Health::Open { since: WALL, reason: "timeout".to_owned() });
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_anew() {
        let now = Instant::now();
        let breaker = Breaker::default();
        for _ in 0..3 * FAILURES {
            breaker.admit(now).unwrap().failed(now, WALL, "timeout");
            breaker.admit(now).unwrap().answered();
        }
        assert_eq!(breaker.health(), Health::Closed);
    }

    #[test]
    fn one_probe_at_a_time_and_its_success_closes() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + FIRST_WAIT;
        let probe = breaker.admit(later).unwrap();
        breaker.admit(later).unwrap_err();
        assert_eq!(probe.answered(), Some(WALL));
        breaker.admit(later).unwrap();
        assert_eq!(breaker.health(), Health::Closed);
    }

    #[test]
    fn a_probe_that_fails_makes_the_next_wait_longer_up_to_a_bound() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for wait in [1, 2, 4, 8, 10, 10] {
            let wait = Duration::from_secs(wait);
            breaker.admit(now + wait - Duration::from_millis(1)).unwrap_err();
            now += wait;
            breaker.admit(now).unwrap().failed(now, WALL, "refused");
        }
        assert_eq!(breaker.health(), Health::Open { since: WALL, reason: "refused".to_owned() });
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_room_for_another() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + FIRST_WAIT;
        drop(breaker.admit(later).unwrap());
        breaker.admit(later).unwrap();
    }
}
