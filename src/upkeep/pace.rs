//! HOW FAST? At most so many requests in a second, counted by what they were for.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::store::s3::Class;

/// Requests that may be made, one after the other, never in a burst.
#[derive(Debug)]
pub(super) struct Pace {
    between: Duration,
    next: Mutex<Instant>,
    made: Mutex<BTreeMap<&'static str, u64>>,
}

impl Pace {
    /// At most `rate` requests in a second.
    pub(super) fn new(rate: u32) -> Self {
        let between = Duration::from_secs(1) / rate.max(1);
        Pace { between, next: Mutex::new(Instant::now()), made: Mutex::default() }
    }

    /// Waits until a request may be made. Tries that follow a failure are the bucket's own affair and do not count.
    pub(super) async fn wait(&self, class: Class) {
        let turn = {
            let mut next = self.next.lock();
            let turn = (*next).max(Instant::now());
            *next = turn + self.between;
            turn
        };
        sleep_until(turn).await;
        self.count(class, 1);
    }

    /// Requests that somebody else made on our behalf.
    pub(super) fn count(&self, class: Class, number: u64) {
        *self.made.lock().entry(class.as_str()).or_default() += number;
    }

    /// How many were made, by class.
    pub(super) fn made(&self) -> BTreeMap<&'static str, u64> {
        self.made.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_keep_their_distance_and_are_counted() {
        let (pace, began) = (Pace::new(10), Instant::now());
        for _ in 0..21 {
            pace.wait(Class::Get).await;
        }
        assert_eq!(began.elapsed().as_secs(), 2, "two seconds at the least, and no more than it takes");
        assert_eq!(pace.made(), BTreeMap::from([("get", 21)]));
    }
}
