//! Who moves next? Polls the actors of a run in an order drawn from the seed.
//!
//! tokio wakes those who wait on one `watch` in an order of its own, and a hash map of wakers in another: neither can be replayed. Here a wake only
//! marks an actor as ready, and one driver picks among the marked. So a run repeats itself, and another seed tries another order.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Somebody who does something. `Break` ends the whole run: a crash.
pub type Actor = Pin<Box<dyn Future<Output = Ended>>>;

/// How an actor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It did what it came for.
    Done,
    /// It took the process down.
    Crash,
}

/// Everybody who is under way.
pub struct Crowd<F> {
    actors: Vec<Option<Actor>>,
    ready: Arc<Ready>,
    /// A number below its argument.
    draw: F,
}

#[derive(Default)]
struct Ready {
    marked: Mutex<(BTreeSet<usize>, Option<Waker>)>,
}

struct Mark {
    actor: usize,
    ready: Arc<Ready>,
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        let mut marked = self.ready.marked.lock();
        marked.0.insert(self.actor);
        if let Some(driver) = marked.1.take() {
            driver.wake();
        }
    }
}

impl<F: FnMut(usize) -> usize + Unpin> Crowd<F> {
    pub fn new(actors: Vec<Actor>, draw: F) -> Self {
        let ready = Arc::new(Ready::default());
        ready.marked.lock().0.extend(0..actors.len());
        Crowd { actors: actors.into_iter().map(Some).collect(), ready, draw }
    }

    fn pick(&mut self, context: &Context<'_>) -> Option<usize> {
        let mut marked = self.ready.marked.lock();
        if marked.0.is_empty() {
            marked.1 = Some(context.waker().clone());
            return None;
        }
        let at = (self.draw)(marked.0.len());
        let actor = marked.0.iter().nth(at).copied()?;
        marked.0.remove(&actor);
        Some(actor)
    }
}

impl<F: FnMut(usize) -> usize + Unpin> Future for Crowd<F> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        while let Some(number) = self.pick(context) {
            let waker = Waker::from(Arc::new(Mark { actor: number, ready: Arc::clone(&self.ready) }));
            let Some(actor) = &mut self.actors[number] else { continue };
            match actor.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => {}
                Poll::Ready(Ended::Crash) => return Poll::Ready(Ended::Crash),
                Poll::Ready(Ended::Done) => self.actors[number] = None,
            }
        }
        if self.actors.iter().all(Option::is_none) { Poll::Ready(Ended::Done) } else { Poll::Pending }
    }
}
