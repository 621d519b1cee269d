//! May this node rely on what it knows of the journal? Where it is the only writer: always. Where others write too: for `lease` after the
//! beginning of its last look.
//!
//! The time is taken *before* a look is sent: whatever became durable before that moment, the look has shown. It is measured on a clock that goes on
//! while the machine sleeps, so that a node which wakes up looks before it serves.
//!
//! This module never looks: it counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::journal::Terms;
use crate::clock::Ticks;

/// Until when this node may serve.
#[derive(Debug)]
pub(super) struct Lease {
    terms: Option<Terms>,
    /// In [`Ticks`].
    until: AtomicU64,
    /// Somebody has asked since the last look.
    wanted: AtomicBool,
    outage: Mutex<Option<Outage>>,
    /// Held by whoever looks because a request waits for it.
    pub(super) looking: tokio::sync::Mutex<()>,
}

/// How a lease stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    /// Its length.
    pub(super) lease: Duration,
    /// Nothing: it has run out.
    pub(super) remaining: Duration,
    /// Since the look began that it counts from.
    pub(super) lag: Duration,
}

/// A journal out of reach.
#[derive(Clone, Debug)]
struct Outage {
    since: Ticks,
    last_try: Ticks,
    reason: String,
    is_lost: bool,
}

impl Lease {
    pub(super) fn new(terms: Option<Terms>) -> Self {
        let lease = Lease {
            terms,
            until: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            outage: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        };
        if let Some(terms) = terms {
            lease.extend(terms.began);
        }
        lease
    }

    /// How long a look is good for; `None`: for good.
    pub(super) fn length(&self) -> Option<Duration> {
        self.terms.map(|terms| terms.lease)
    }

    /// Has it not run out? Notes that somebody wants to know.
    pub(super) fn is_current(&self) -> bool {
        let Some(terms) = &self.terms else { return true };
        self.want();
        terms.clock.ticks().0 < self.until.load(Ordering::Acquire)
    }

    /// Somebody asks: a look is due soon.
    pub(super) fn want(&self) {
        // Read first: a line of memory that all cores read is cheap, one that all write is not.
        if !self.wanted.load(Ordering::Relaxed) {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Has anybody asked since this was asked last?
    pub(super) fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// A look that began then has been taken into account, all of it.
    pub(super) fn extend(&self, began: Ticks) {
        let Some(terms) = &self.terms else { return };
        let until = began.after(terms.lease).0;
        // What does not make it longer was no look, or an earlier one: it says nothing about an outage.
        if self.until.fetch_max(until, Ordering::Release) >= until {
            return;
        }
        if let Some(outage) = self.outage.lock().take() {
            let seconds = terms.clock.ticks().since(outage.since).as_secs();
            tracing::info!(seconds, "the journal can be looked at again: pages are served from the cache");
        }
    }

    /// A look has failed. Of a journal that is known to be another one, or to have lost records, nothing is trusted any longer; and that remains
    /// so, whatever the next looks fail of, until one succeeds.
    pub(super) fn note_failure(&self, error: &dyn std::fmt::Display, is_lost: bool) {
        let Some(terms) = &self.terms else { return };
        let now = terms.clock.ticks();
        let mut outage = self.outage.lock();
        if is_lost {
            self.until.fetch_min(now.0, Ordering::Release);
        } else if let Some(lost) = outage.as_mut().filter(|outage| outage.is_lost) {
            lost.last_try = now;
            return;
        }
        let since = outage.as_ref().map_or(now, |outage| outage.since);
        if outage.is_none() {
            tracing::warn!(%error, "the journal cannot be looked at: once the lease has run out, pages come as cluster.on_store_outage says");
        }
        *outage = Some(Outage { since, last_try: now, reason: error.to_string(), is_lost });
    }

    /// A look was not answered, or nobody waited for its answer. A reason that is known says more than that.
    pub(super) fn note_silence(&self, silence: &str) {
        let Some(terms) = &self.terms else { return };
        if let Some(outage) = &mut *self.outage.lock() {
            outage.last_try = terms.clock.ticks();
            return;
        }
        self.note_failure(&silence, false);
    }

    /// Has it not run out? Nobody asks for a page.
    pub(super) fn has_time_left(&self) -> bool {
        self.terms.is_none_or(|terms| terms.clock.ticks().0 < self.until.load(Ordering::Acquire))
    }

    /// How it stands; `None`: it never runs out.
    pub(super) fn term(&self) -> Option<Term> {
        let Terms { lease, clock, .. } = self.terms?;
        let (now, until) = (clock.ticks(), Ticks(self.until.load(Ordering::Acquire)));
        Some(Term { lease, remaining: until.since(now), lag: now.after(lease).since(until) })
    }

    /// Is the journal known to be another, or to have lost records?
    pub(super) fn is_lost(&self) -> bool {
        self.outage.lock().as_ref().is_some_and(|outage| outage.is_lost)
    }

    /// For how long the journal has been out of reach, and why; `None`: it was not at the last look.
    pub(super) fn outage(&self) -> Option<(Duration, String)> {
        let terms = self.terms?;
        self.outage.lock().as_ref().map(|outage| (terms.clock.ticks().since(outage.since), outage.reason.clone()))
    }

    /// Was a look tried in vain within this time?
    pub(super) fn has_failed_within(&self, time: Duration) -> bool {
        let Some(terms) = &self.terms else { return false };
        let now = terms.clock.ticks();
        self.outage.lock().as_ref().is_some_and(|outage| now.since(outage.last_try) < time)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::*;
    use crate::clock::{Clock, UnixMillis};

    const LEASE: Duration = Duration::from_secs(2);

    /// A lease that has just begun, ten seconds after the clock did.
    async fn lease() -> (Lease, Clock) {
        let clock = Clock::Tokio { epoch: UnixMillis(0), started: Instant::now() };
        advance(LEASE * 5).await;
        (Lease::new(Some(Terms { lease: LEASE, clock, began: clock.ticks() })), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_leaves_what_is_left_and_a_lost_journal_leaves_nothing() {
        let (lease, clock) = lease().await;
        lease.note_failure(&"503", false);
        assert!(lease.is_current() && !lease.is_lost());
        lease.note_failure(&"it is another one", true);
        assert!(!lease.is_current() && lease.is_lost());
        advance(LEASE).await;
        lease.extend(clock.ticks());
        assert!(lease.is_current() && !lease.is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_journal_stays_lost_whatever_the_next_looks_fail_of() {
        let (lease, _) = lease().await;
        lease.note_failure(&"it is another one", true);
        lease.note_failure(&"503", false);
        lease.note_silence("nothing");
        assert!(lease.is_lost());
        assert_eq!(lease.outage().expect("it lasts").1, "it is another one");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_newer_look_ends_an_outage() {
        let (lease, clock) = lease().await;
        let before = clock.ticks();
        advance(LEASE).await;
        for is_lost in [false, true] {
            lease.note_failure(&"503", is_lost);
            for no_look in [Ticks::default(), before] {
                lease.extend(no_look);
                assert!(lease.outage().is_some() && !lease.is_current(), "{no_look:?}");
            }
        }
        lease.extend(clock.ticks());
        assert!(lease.outage().is_none() && lease.is_current());
    }
}
