//! Which addresses has the origin's name? The system is asked (`getaddrinfo`), in threads, as it knows no other way.
//!
//! A system that hangs keeps its thread long after everybody has given up waiting for it. So only a few ask at a time: the threads are the same that
//! the journal and the store work in, and these must go on.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tower::Service;

/// Names looked up at a time; further ones wait, as long as their connection may. A small part of the runtime's 512 threads, and plenty for one name
/// that is looked up once for each new connection.
const LOOKUPS_MAX: usize = 16;

type Lookup = dyn Fn(&str) -> io::Result<vec::IntoIter<SocketAddr>> + Send + Sync;

/// Asks the system. Never sees an address: the connector knows these itself.
#[derive(Clone)]
pub(super) struct Resolver {
    slots: Arc<Semaphore>,
    lookup: Arc<Lookup>,
}

impl Resolver {
    /// Asks the system, which knows no ports: those of its answers are 0.
    pub(super) fn new() -> Self {
        Resolver::with(|name| (name, 0).to_socket_addrs())
    }

    fn with(lookup: impl Fn(&str) -> io::Result<vec::IntoIter<SocketAddr>> + Send + Sync + 'static) -> Self {
        Resolver { slots: Arc::new(Semaphore::new(LOOKUPS_MAX)), lookup: Arc::new(lookup) }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Resolver { slots, lookup } = self.clone();
        Box::pin(async move {
            let slot = slots.acquire_owned().await.expect("nobody closes this semaphore");
            let looked_up = spawn_blocking(move || {
                // Held by the thread, not by whoever waits for it.
                let _slot = slot;
                lookup(name.as_str())
            });
            looked_up.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use parking_lot::RwLock;
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn name(name: &str) -> Name {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let addresses: Vec<_> = Resolver::new().call(name("localhost")).await.unwrap().collect();
        assert!(!addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
    }

    #[test]
    fn lookups_that_hang_leave_threads_to_others_and_end_with_the_patience_of_those_who_wait() {
        let runtime =
            Builder::new_current_thread().enable_time().max_blocking_threads(LOOKUPS_MAX + 1).build().unwrap();
        // The system answers once this is no longer written.
        let system = Arc::new(RwLock::new(()));
        let hangs = system.write();
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, asking) = (Arc::clone(&system), Arc::clone(&asked));
        let resolver = Resolver::with(move |_| {
            asking.fetch_add(1, Ordering::SeqCst);
            let _answers = answers.read();
            Ok(Vec::new().into_iter())
        });
        let look_up = |patience| timeout(patience, resolver.clone().call(name("shop.example")));
        runtime.block_on(async {
            for _ in 0..3 * LOOKUPS_MAX {
                assert!(look_up(Duration::from_millis(2)).await.is_err());
            }
            timeout(PATIENCE, spawn_blocking(|| ())).await.expect("a thread is left").unwrap();
        });
        assert!(asked.load(Ordering::SeqCst) <= LOOKUPS_MAX);
        drop(hangs);
        runtime.block_on(async { look_up(PATIENCE).await.expect("the system answers again").unwrap() });
    }
}
