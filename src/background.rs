//! Where is work done that no visitor shall wait behind? On threads of its own, which step back for all others.
//!
//! It is for the files that invalidations and housekeeping ask about. What a visitor waits for never runs here, nor what an invalidation cannot do
//! without: where all cores are busy, or the disk hangs, this is what waits.

use std::sync::{Arc, LazyLock, Weak};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Threads: one may wait for a slow disk while another computes.
pub const THREADS: usize = 2;

/// How nice they are (see `nice(2)`): a quarter of a core that they share with one other, and all of one that nobody wants. Whoever invalidates waits for
/// a part of it, so it is not less.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Lives as long as the process: it has neither timers nor sockets, only threads that end when they have long had nothing to do.
static THREADS_BEHIND: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(THREADS).thread_name("background").on_thread_start(be_nice);
    builder.build().expect("a runtime without timers and sockets asks nothing of the system")
});

/// Those who may hand work over: a thread for each, so that nothing waits but callers, who may leave.
static TURNS: Semaphore = Semaphore::const_new(THREADS);

/// Held by work that is under way.
#[derive(Debug)]
pub struct Turn(Weak<()>);

impl Turn {
    /// Between two pieces of work, each of a tenth of a millisecond or so: lets those run who wait for this core. False: nobody waits for the result any
    /// more.
    #[must_use]
    pub fn step_back(&self) -> bool {
        step_back();
        self.0.strong_count() > 0
    }
}

/// Does the work there, when it is its turn.
///
/// # Errors
/// It panicked.
pub async fn run<T: Send + 'static>(work: impl FnOnce(&Turn) -> T + Send + 'static) -> Result<T, JoinError> {
    let turn = TURNS.acquire().await.expect("nobody closes it");
    let waiting = Arc::new(());
    let caller = Turn(Arc::downgrade(&waiting));
    let done = THREADS_BEHIND.spawn_blocking(move || {
        let _turn = turn;
        work(&caller)
    });
    let done = done.await;
    drop(waiting);
    done
}

/// For long work on any thread that may block: lets those run who wait for this core. Being nice is not enough, for a thread that runs may use up its
/// slice of some milliseconds.
pub fn step_back() {
    std::thread::yield_now();
}

fn be_nice() {
    // On other systems, niceness is a process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "housekeeping runs as urgently as everything else");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn it_is_nice_and_its_caller_is_not() {
        let niceness = || rustix::process::nice(0).unwrap();
        let before = niceness();
        assert_eq!(run(move |_| niceness()).await.unwrap(), (before + NICENESS).min(19));
        assert_eq!(niceness(), before);
    }

    #[tokio::test]
    async fn a_panic_is_told_and_does_not_take_the_thread_along() {
        for _ in 0..2 * THREADS {
            assert!(run(|_| panic!("a mistake")).await.unwrap_err().is_panic());
        }
        assert_eq!(run(|_| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_ends_and_what_was_not_begun_never_begins() {
        let (sender, mut seen) = mpsc::unbounded_channel();
        let mut long = JoinSet::new();
        for _ in 0..THREADS {
            let tell = sender.clone();
            long.spawn(run(move |turn| {
                tell.send("began").unwrap();
                while turn.step_back() {}
                tell.send("ended").unwrap();
            }));
        }
        for _ in 0..THREADS {
            assert_eq!(seen.recv().await, Some("began"));
        }
        let mut late = Box::pin(run(move |_| sender.send("late").unwrap()));
        assert!((&mut late).now_or_never().is_none(), "all turns are taken");
        drop(late);
        drop(long);
        for _ in 0..THREADS {
            assert_eq!(seen.recv().await, Some("ended"));
        }
        assert_eq!(seen.recv().await, None);
    }
}
