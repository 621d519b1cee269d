//! Where is work done that no visitor shall wait behind? On threads of its own, which step back for all others.
//!
//! It is for computations and files, in the service of invalidations and housekeeping. What a visitor waits for never runs here: where all cores are
//! busy, this is what waits.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

/// Threads: one may wait for a slow disk while another computes.
const THREADS: usize = 2;

/// How nice they are (see `nice(2)`): a tenth of the time of a core that they share, and all of one that nobody wants.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lives as long as the process: it has neither timers nor sockets, only threads that end when they have long had nothing to do.
static THREADS_BEHIND: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(THREADS).thread_name("background").on_thread_start(be_nice);
    builder.build().expect("a runtime without timers and sockets asks nothing of the system")
});

/// Does the work there. How much may wait is for the callers to bound. A panic goes on in the caller.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match THREADS_BEHIND.spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

/// For long work, every tenth of a millisecond or so: lets those run who wait for this core. Being nice is not enough, for a thread that runs may use up
/// its slice of some milliseconds.
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
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn it_is_nice_and_its_caller_is_not() {
        let niceness = || rustix::process::nice(0).unwrap();
        let before = niceness();
        assert_eq!(run(niceness).await, (before + NICENESS).min(19));
        assert_eq!(niceness(), before);
    }

    #[tokio::test]
    #[should_panic(expected = "a mistake")]
    async fn a_panic_is_the_callers() {
        run(|| panic!("a mistake")).await;
    }
}
