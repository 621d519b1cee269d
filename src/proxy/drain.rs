//! Does the server drain? Every connection wants to hear of it, and asks at every wake.
//!
//! A cancelled token is asked under a lock that all its holders share. Here it is asked once, to be woken, and after that only when a flag says that it
//! is worth while: a line of memory that all cores read, and that is written once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio_util::sync::CancellationToken;

/// Tells connections to end after the answer that is under way.
#[derive(Clone, Debug, Default)]
pub struct Draining {
    has_begun: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Draining {
    /// From now on.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// The same for those who do not ask often.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Works, unless draining has begun or begins before it is done: `None`, and the work is not polled any more.
    pub async fn unless_begun<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut begun) = (pin!(work), pin!(self.token.cancelled()));
        let mut registered: Option<Waker> = None;
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            let is_registered = registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            if is_registered && !self.has_begun() {
                return Poll::Pending;
            }
            registered = Some(context.waker().clone());
            begun.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn work_that_is_done_is_done_and_the_rest_ends() {
        let draining = Draining::default();
        assert_eq!(draining.unless_begun(ready(1)).await, Some(1));
        let waits = tokio::spawn({
            let draining = draining.clone();
            async move { draining.unless_begun(pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        draining.begin();
        assert_eq!(waits.await.unwrap(), None);
        assert_eq!(draining.unless_begun(pending::<()>()).await, None);
        assert_eq!(draining.unless_begun(ready(1)).await, Some(1), "what is done at once is done");
    }
}
