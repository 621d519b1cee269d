//! What does a failure of the near tier mean? A warning and a rest, never an error for whoever asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::page::stored::EncodeError;
use crate::store::{Store, StoreError, TooLarge};

/// How long a look may take: several times what a busy disk needs, and about what S3 takes.
const READ_PATIENCE: Duration = Duration::from_millis(250);

/// How long it may take to write or remove what somebody waits for, if only the writer.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to copy or write a page whose body comes from elsewhere in pieces.
const COPY_PATIENCE: Duration = Duration::from_secs(600);

/// How long the tier is left alone after it failed.
pub(super) const REST: Duration = Duration::from_secs(10);

/// What is done in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Somebody waits for a page.
    Look,
    /// Somebody waits until it is written.
    Write,
    /// Somebody waits until it is removed.
    Remove,
    /// It goes on as long as pieces come.
    Copy,
}

/// The near tier.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) store: Arc<dyn Store>,
    /// Each rests on its own: from a full disk can be read and removed.
    reading: Rest,
    writing: Rest,
    removing: Rest,
}

#[derive(Debug, Default)]
struct Rest(Mutex<Option<Instant>>);

impl Rest {
    fn is_on(&self) -> bool {
        self.0.lock().is_some_and(|until| Instant::now() < until)
    }
}

impl Front {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Front { store, reading: Rest::default(), writing: Rest::default(), removing: Rest::default() }
    }

    /// Does the work, unless the tier rests. `None`: it was not done, or nobody knows; the back is there.
    pub(super) async fn attempt<T>(&self, work: Work, doing: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        if self.rests(work) {
            return None;
        }
        match timeout(work.patience(), doing).await {
            Ok(Ok(done)) => return Some(done),
            // Not the disk's fault: the back keeps it, or refuses it too.
            Ok(Err(error)) if is_refusal(&error) => tracing::debug!(%error, "not kept in the disk cache"),
            Ok(Err(error)) => self.rest(work, &error),
            Err(_) => self.rest(work, &"it does not answer in time"),
        }
        None
    }

    pub(super) fn rests(&self, work: Work) -> bool {
        self.turn(work).is_on()
    }

    fn turn(&self, work: Work) -> &Rest {
        match work {
            Work::Look => &self.reading,
            Work::Write | Work::Copy => &self.writing,
            Work::Remove => &self.removing,
        }
    }

    fn rest(&self, work: Work, reason: &dyn fmt::Display) {
        // Whoever fails while it rests already says nothing new.
        let had_rested = self.turn(work).0.lock().replace(Instant::now() + REST);
        if had_rested.is_none_or(|until| until < Instant::now()) {
            let (what, seconds) = (work.passive(), REST.as_secs());
            tracing::warn!("the disk cache is not {what} for {seconds} s; the store behind it goes on: {reason}");
        }
    }
}

impl Work {
    fn patience(self) -> Duration {
        match self {
            Work::Look => READ_PATIENCE,
            Work::Write | Work::Remove => WRITE_PATIENCE,
            Work::Copy => COPY_PATIENCE,
        }
    }

    fn passive(self) -> &'static str {
        match self {
            Work::Look => "read",
            Work::Write | Work::Copy => "written to",
            Work::Remove => "cleared of old pages",
        }
    }
}

/// The object is refused, whatever the state of the store.
fn is_refusal(error: &StoreError) -> bool {
    error.source.is::<TooLarge>() || error.source.is::<EncodeError>()
}
