//! How long may a request's head take to come? From the end of the answer before it, or the beginning of the connection, on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The wait for a head.
#[derive(Debug)]
pub(super) struct HeadWait {
    limit: Duration,
    since: Instant,
    /// Set once, and again only when it runs out: a timer that were moved at each request would cost more than the request's rules.
    timer: Option<Pin<Box<Sleep>>>,
}

impl HeadWait {
    pub(super) fn new(limit: Duration) -> Self {
        HeadWait { limit, since: Instant::now(), timer: None }
    }

    /// An answer has ended: from now on.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Ready when it has taken too long.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let until = self.since + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(timer.as_mut().poll(context));
        while Instant::now() < until {
            timer.as_mut().reset(until);
            ready!(timer.as_mut().poll(context));
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no request came in time"))
    }
}
