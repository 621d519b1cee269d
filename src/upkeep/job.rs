//! IS IT AT WORK, and how did it end? One run at a time, what it has done so far, and the last one's result.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::clock::Clock;

/// Tells what the run under way has done so far: an object.
pub(super) type Live = Arc<dyn Fn() -> Json + Send + Sync>;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With all its work done.
    Done,
    /// Another node was at it.
    Busy,
    /// The server drains; the next run goes on.
    Stopped,
    /// In words.
    Failed(String),
}

impl Ending {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Busy => "busy",
            Ending::Stopped => "stopped",
            Ending::Failed(_) => "failed",
        }
    }
}

/// One kind of work, done by one task at a time.
#[derive(Default)]
pub(super) struct Job(Mutex<Shown>);

#[derive(Default)]
struct Shown {
    running: Option<Live>,
    last: Option<Json>,
}

/// The right to run, until it is dropped.
pub(super) struct Running {
    job: Arc<Job>,
    live: Live,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

impl Job {
    /// `None`: it is at work already.
    pub(super) fn begin(self: &Arc<Self>, live: Live) -> Option<Running> {
        let mut shown = self.0.lock();
        if shown.running.is_some() {
            return None;
        }
        shown.running = Some(Arc::clone(&live));
        Some(Running { job: Arc::clone(self), live })
    }

    /// `{"running": {...} or null, "last": {...} or null}`
    pub(super) fn state(&self) -> Json {
        let (live, last) = {
            let shown = self.0.lock();
            (shown.running.clone(), shown.last.clone())
        };
        json!({"running": live.map(|live| live()), "last": last})
    }
}

impl Running {
    /// Says how it ended; returns what `last` shows from now on.
    pub(super) fn end(self, ending: &Ending, clock: Clock) -> Json {
        let mut said = (self.live)();
        said["result"] = ending.as_str().into();
        said["ended_at"] = clock.now().to_rfc3339().into();
        if let Ending::Failed(why) = ending {
            said["error"] = why.as_str().into();
        }
        self.job.0.lock().last = Some(said.clone());
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.job.0.lock().running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_at_a_time_and_the_last_result_stays() {
        let job = Arc::new(Job::default());
        let live = || -> Live { Arc::new(|| json!({"looked_at": 3})) };
        let running = job.begin(live()).unwrap();
        assert!(job.begin(live()).is_none());
        assert_eq!(job.state(), json!({"running": {"looked_at": 3}, "last": null}));
        running.end(&Ending::Failed("no bucket".to_owned()), Clock::Wall);
        let state = job.state();
        assert_eq!((&state["running"], &state["last"]["error"]), (&Json::Null, &json!("no bucket")));
        drop(job.begin(live()).unwrap());
        assert!(job.state()["running"].is_null(), "a run that was cut off is over");
    }
}
