//! What time is it? The one place that asks the machine.
//!
//! Everything below `proxy/` takes the time as an argument. The simulation and paused tests use a clock that
//! follows tokio's, so that a run can be replayed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Whole seconds from `earlier` to `self`, 0 if it lies in the future.
    #[must_use]
    pub fn seconds_since(self, earlier: UnixMillis) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// The same instant as the standard library's type, for HTTP dates.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }

    /// The same instant as text (RFC 3339), in UTC, to the millisecond; at latest the end of the year 9999, which the format does not pass.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        const LATEST: u64 = 253_402_300_799_999;
        humantime::format_rfc3339_millis(UnixMillis(self.0.min(LATEST)).to_system_time()).to_string()
    }
}

/// A moment in milliseconds since some start, on a clock that never goes back and goes on while the machine sleeps. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

impl Ticks {
    /// The moment `duration` later, in whole milliseconds.
    #[must_use]
    pub fn after(self, duration: Duration) -> Ticks {
        Ticks(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` it is; nothing if it is not.
    #[must_use]
    pub fn since(self, earlier: Ticks) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Where the time comes from.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The machine's wall clock.
    #[default]
    Wall,
    /// A wall clock that started at `epoch` and advances with tokio's clock, paused or not.
    Tokio {
        /// What the clock showed at `started`.
        epoch: UnixMillis,
        /// tokio's clock at that moment.
        started: tokio::time::Instant,
    },
}

impl Clock {
    /// The current time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the machine")]
    pub fn now(&self) -> UnixMillis {
        match self {
            Clock::Wall => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Clock::Tokio { epoch, started } => {
                let passed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                UnixMillis(epoch.0.saturating_add(passed))
            }
        }
    }

    /// A moment for measuring leases: were the machine's sleep not counted, a node that wakes up would trust what it knew hours ago.
    #[must_use]
    pub fn ticks(&self) -> Ticks {
        match self {
            Clock::Wall => {
                let now = rustix::time::clock_gettime(SLEEPLESS);
                let millis = now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000);
                Ticks(u64::try_from(millis).unwrap_or_default())
            }
            Clock::Tokio { started, .. } => Ticks(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// CLOCK_BOOTTIME where there is one; elsewhere, the monotonic clock may stand still while the machine sleeps.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SLEEPLESS: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SLEEPLESS: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_can_be_written() {
        assert_eq!(UnixMillis(1_700_000_000_123).to_rfc3339(), "2023-11-14T22:13:20.123Z");
        assert_eq!(UnixMillis(u64::MAX).to_rfc3339(), "9999-12-31T23:59:59.999Z");
    }
}
