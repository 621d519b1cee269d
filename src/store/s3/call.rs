//! HOW LONG, HOW OFTEN, HOW MANY AT ONCE? Every request to S3 goes through here: its place in the crowd, the breaker, its time limit,
//! its further tries, its count.
//!
//! Knows nothing of what is asked.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::breaker::{Breaker, Health, Pass};
use super::bucket::S3ErrorKind;
use super::failure::Failure;
use super::requests::{Class, Ending, RequestCount, Requests};
use crate::chance;
use crate::clock::Clock;
use crate::config;

/// The least rate at which a body must leave, bytes per second: what a poor line still gives.
const SLOWEST_UPLOAD: u64 = 256 << 10;
/// Before the second try; twice as long before each further one, jittered by half.
const BACKOFF: Duration = Duration::from_millis(50);
/// The same after an answer that asks for fewer requests.
const THROTTLED_BACKOFF: Duration = Duration::from_millis(300);
/// At most.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3);

/// Urgent requests at the same time: looks and appends of one journal come one after the other, and read a few objects.
const URGENT_REQUESTS: usize = 16;

/// One request on its way.
pub(super) type Sending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// The bounds of one bucket's requests.
#[derive(Debug)]
pub(super) struct Calls {
    slots: Arc<Semaphore>,
    /// Those that write need a place here as well: when S3 takes nothing, visitors must still find one.
    writing: Arc<Semaphore>,
    breaker: Breaker,
    requests: Arc<Requests>,
    read_timeout: Duration,
    attempts: u32,
    max_requests: usize,
}

impl Calls {
    pub(super) fn new(settings: &config::S3Store) -> Self {
        let max_requests = settings.max_requests.clamp(1, Semaphore::MAX_PERMITS);
        Calls {
            slots: Arc::new(Semaphore::new(max_requests)),
            writing: Arc::new(Semaphore::new(max_requests.div_ceil(2))),
            breaker: Breaker::default(),
            requests: Arc::default(),
            read_timeout: settings.read_timeout,
            attempts: settings.attempts.max(1),
            max_requests,
        }
    }

    /// The same bounds beside these, but for `patience`: the requests of the one do not wait for those of the other, nor suffer from their failures. They are
    /// counted together.
    pub(super) fn urgent(&self, patience: Duration) -> Self {
        Calls {
            slots: Arc::new(Semaphore::new(URGENT_REQUESTS)),
            writing: Arc::new(Semaphore::new(URGENT_REQUESTS)),
            breaker: Breaker::default(),
            requests: Arc::clone(&self.requests),
            read_timeout: self.read_timeout.min(patience),
            attempts: self.attempts,
            max_requests: URGENT_REQUESTS,
        }
    }

    pub(super) fn health(&self) -> Health {
        self.breaker.health()
    }

    pub(super) fn requests(&self) -> Vec<RequestCount> {
        self.requests.snapshot()
    }

    pub(super) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A request whose answer somebody waits for: its head comes within `read_timeout`, all tries and the wait for a place included.
    /// The place in the crowd is handed over, for the body.
    pub(super) async fn read<'a, T>(
        &self,
        class: Class,
        send: impl Fn() -> Sending<'a, T>,
    ) -> Result<(T, OwnedSemaphorePermit), Failure> {
        let deadline = Instant::now() + self.read_timeout;
        let slot = self.slot(&self.slots, deadline).await?;
        let mut tried = 0;
        let mut failure: Option<Failure> = None;
        loop {
            tried += 1;
            let pass = match self.pass(class) {
                Ok(pass) => pass,
                Err(open) => return Err(failure.unwrap_or(open)),
            };
            // A connection that hangs must leave time for a fresh one: each try but the last gets half of what is left.
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = if tried < self.attempts { left / 2 } else { left };
            let is_last = tried == self.attempts;
            let failed = match self.one(class, pass, limit, blame(is_last), send()).await {
                Ok(answer) => return Ok((answer, slot)),
                Err(failed) => failed,
            };
            let pause = backoff(tried, &failed);
            let has_time = Instant::now() + pause < deadline;
            if !failed.is_of_the_service() || is_last || !has_time {
                return Err(failed);
            }
            failure = Some(failed);
            sleep(pause).await;
        }
    }

    /// A request that may be repeated and carries `bytes`: each try has `read_timeout` and the time that a slow line needs for the body.
    pub(super) async fn write<'a, T>(
        &self,
        class: Class,
        bytes: u64,
        send: impl Fn() -> Sending<'a, T>,
    ) -> Result<T, Failure> {
        let mut tried = 0;
        let mut failure: Option<Failure> = None;
        loop {
            tried += 1;
            let deadline = Instant::now() + self.upload_limit(bytes);
            let slots = (self.slot(&self.writing, deadline).await?, self.slot(&self.slots, deadline).await?);
            let pass = match self.pass(class) {
                Ok(pass) => pass,
                Err(open) => return Err(failure.unwrap_or(open)),
            };
            let is_last = tried == self.attempts;
            let failed = match self.one(class, pass, self.upload_limit(bytes), blame(is_last), send()).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            drop(slots);
            if !failed.is_of_the_service() || is_last {
                return Err(failed);
            }
            let pause = backoff(tried, &failed);
            failure = Some(failed);
            sleep(pause).await;
        }
    }

    /// A request that must not be repeated.
    pub(super) async fn once<T>(&self, class: Class, bytes: u64, send: Sending<'_, T>) -> Result<T, Failure> {
        let limit = self.upload_limit(bytes);
        let deadline = Instant::now() + limit;
        let _slot = self.slot(&self.slots, deadline).await?;
        let pass = self.pass(class)?;
        let limit = deadline.saturating_duration_since(Instant::now());
        self.one(class, pass, limit, Blame::NoAnswer, send).await
    }

    fn upload_limit(&self, bytes: u64) -> Duration {
        self.read_timeout + Duration::from_secs(bytes / SLOWEST_UPLOAD)
    }

    async fn slot(&self, slots: &Arc<Semaphore>, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        match timeout_at(deadline, Arc::clone(slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Failure::said(
                S3ErrorKind::Timeout,
                format!("store.s3.max_requests = {} are under way already", self.max_requests),
            )),
        }
    }

    fn pass(&self, class: Class) -> Result<Pass<'_>, Failure> {
        self.breaker.admit(Instant::now()).map_err(|reason| {
            self.requests.count(class, Ending::Failed(S3ErrorKind::Open));
            Failure::said(S3ErrorKind::Open, reason)
        })
    }

    /// One try: sent, timed, counted, told to the breaker.
    async fn one<T>(
        &self,
        class: Class,
        pass: Pass<'_>,
        limit: Duration,
        blame: Blame,
        send: Sending<'_, T>,
    ) -> Result<T, Failure> {
        let result = timeout(limit, send).await.unwrap_or_else(|_| {
            Err(Failure::said(S3ErrorKind::Timeout, format!("nothing within {} ms", limit.as_millis())))
        });
        self.requests.count(class, ending(&result));
        match &result {
            Err(failure) if failure.is_of_the_service() && !blame.is_for(failure) => {}
            Err(failure) if failure.is_of_the_service() => self.not_well(pass, &failure.in_words()),
            Err(failure) if failure.status.is_none() => {}
            Ok(_) | Err(_) => {
                if let Some(since) = pass.answered() {
                    let seconds = Clock::Wall.now().seconds_since(since);
                    tracing::info!(seconds, "S3 store: S3 answers again, requests go there as before");
                }
            }
        }
        result
    }

    fn not_well(&self, pass: Pass<'_>, why: &str) {
        if pass.failed(Instant::now(), Clock::Wall.now(), why) {
            tracing::warn!(why, "S3 store: S3 failed several times in a row; only probes go there until it answers");
        }
    }
}

/// Which failures say that S3 is not well.
#[derive(Clone, Copy, Debug)]
enum Blame {
    /// All of the service.
    Any,
    /// A throttled request waits and tries again first.
    AnyButThrottling,
    /// RGW 16 answers 500 to losers of a race of conditional writes; several in a row would open the breaker of a healthy server.
    NoAnswer,
}

impl Blame {
    fn is_for(self, failure: &Failure) -> bool {
        match self {
            Blame::Any => true,
            Blame::AnyButThrottling => failure.kind != S3ErrorKind::Throttled,
            Blame::NoAnswer => failure.status.is_none(),
        }
    }
}

fn blame(is_last: bool) -> Blame {
    if is_last { Blame::Any } else { Blame::AnyButThrottling }
}

fn ending<T>(result: &Result<T, Failure>) -> Ending {
    match result {
        Ok(_) => Ending::Done,
        Err(failure) if failure.is_absent() => Ending::Absent,
        Err(failure) if failure.status == Some(304) => Ending::Unchanged,
        Err(failure) if matches!(failure.status, Some(409 | 412)) => Ending::Condition,
        Err(failure) => Ending::Failed(failure.kind),
    }
}

/// Between a half and the whole of a wait that doubles, so that those who failed together do not come back together.
fn backoff(tried: u32, failure: &Failure) -> Duration {
    let base = if failure.kind == S3ErrorKind::Throttled { THROTTLED_BACKOFF } else { BACKOFF };
    let whole = base.saturating_mul(1 << (tried - 1).min(8)).min(LONGEST_BACKOFF);
    whole / 2 + whole / 2 * u32::from(chance::byte()) / 256
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn calls(change: impl FnOnce(&mut config::S3Store)) -> Calls {
        let mut settings = config::S3Store::default();
        change(&mut settings);
        Calls::new(&settings)
    }

    fn failing<'a>(tries: &AtomicU32, kind: S3ErrorKind) -> Sending<'a, ()> {
        tries.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Err(Failure::said(kind, "")) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_ends_within_its_bound_all_tries_included() {
        let calls = calls(|settings| settings.attempts = 3);
        let (began, tries) = (Instant::now(), AtomicU32::new(0));
        let failure = calls
            .read(Class::Get, || {
                tries.fetch_add(1, Ordering::Relaxed);
                Box::pin(std::future::pending::<Result<(), Failure>>())
            })
            .await
            .unwrap_err();
        assert_eq!(failure.kind, S3ErrorKind::Timeout);
        assert_eq!(tries.into_inner(), 3);
        assert!(began.elapsed() <= Duration::from_secs(5) + Duration::from_millis(10), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_try_cannot_mend_is_not_tried_again() {
        let calls = calls(|_| {});
        for kind in [S3ErrorKind::Forbidden, S3ErrorKind::Other, S3ErrorKind::Credentials, S3ErrorKind::NoBucket] {
            let tries = AtomicU32::new(0);
            calls.write(Class::Put, 0, || failing(&tries, kind)).await.unwrap_err();
            assert_eq!(tries.into_inner(), 1, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_must_not_be_repeated_is_tried_once() {
        let (calls, tries) = (calls(|_| {}), AtomicU32::new(0));
        calls.once(Class::Swap, 0, failing(&tries, S3ErrorKind::Server)).await.unwrap_err();
        assert_eq!(tries.into_inner(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn losers_of_a_race_that_are_told_500_open_no_breaker() {
        let calls = calls(|_| {});
        let told = || -> Sending<'_, ()> {
            let mut failure = Failure::said(S3ErrorKind::Server, "");
            failure.status = Some(500);
            Box::pin(async move { Err(failure) })
        };
        for _ in 0..20 {
            calls.once(Class::Swap, 0, told()).await.unwrap_err();
        }
        assert_eq!(calls.health(), Health::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_asks_nobody_and_says_what_opened_it() {
        let (calls, tries) = (calls(|settings| settings.attempts = 9), AtomicU32::new(0));
        let first = calls.write(Class::Put, 0, || failing(&tries, S3ErrorKind::Server)).await.unwrap_err();
        assert_eq!(first.kind, S3ErrorKind::Server, "what failed says more than that it was not asked again");
        assert_eq!(tries.load(Ordering::Relaxed), 5);
        let second = calls.once(Class::Swap, 0, failing(&AtomicU32::new(0), S3ErrorKind::Server)).await.unwrap_err();
        assert_eq!(second.kind, S3ErrorKind::Open);
        assert!(matches!(calls.health(), Health::Open { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_no_longer_than_the_bound() {
        let calls = calls(|settings| settings.max_requests = 1);
        let ((), slot) = calls.read(Class::Get, || Box::pin(async { Ok(()) })).await.unwrap();
        let failure = calls.read(Class::Get, || Box::pin(async { Ok(()) })).await.unwrap_err();
        assert!(failure.message.contains("store.s3.max_requests = 1"), "{failure:?}");
        assert_eq!(calls.health(), Health::Closed);
        drop(slot);
        drop(calls.read(Class::Get, || Box::pin(async { Ok(()) })).await.unwrap());
    }
}
