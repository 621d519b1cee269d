//! How do connections come in? A listener, and a task that hands each connection over to a task of its own.
//!
//! That task runs among the others on the runtime's workers: a connection begins on the thread that accepted it, and no other one is
//! woken for it unless one is idle. What the connections say is no matter of this module.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that the system keeps until they are accepted: a burst of them in the time of some slow steps of the workers.
const BACKLOG: u32 = 1024;

/// How long the listener rests when no connection can be accepted: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key})")]
pub struct ListenError {
    /// Its name in the configuration.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// Listens there; `key` is the address's name in the configuration.
pub(super) fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError { key, address, source })
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart need not wait for connections of the one before.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it, which saves a system call for each.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets each connection be served in a task of its own, as many at a time as there are `slots`; further ones wait in the system's backlog. When it
/// `ends`, those that wait there and find a slot are served too, and the listener is closed.
pub(super) async fn accept<F>(
    listener: TcpListener,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    ends: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let accepting = async {
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("nobody closes this semaphore");
            match listener.accept().await {
                Ok((stream, address)) => drop(connections.spawn(serve(stream, address, slot))),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let _: Option<()> = ends.run_until_cancelled(accepting).await;
    // With the listener the system would reset them, and their visitors took them for open: the last ones are asked for without the runtime, which
    // may not have heard of them yet. More may come meanwhile, but this must end.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { return };
        let (stream, address) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            // One that has left again, for example: others may wait behind it.
            Err(_) => continue,
        };
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => drop(connections.spawn(serve(stream, address, slot))),
            Err(error) => tracing::debug!(%address, %error, "connection ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Visitor;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn anywhere() -> TcpListener {
        listen("listen", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    /// How many of three visitors in the backlog are served by a listener that ends before it accepted one.
    async fn served_at_the_end(slots: usize) -> usize {
        let listener = anywhere();
        let visitors = [0; 3].map(|_| Visitor::connect(listener.local_addr().unwrap()).unwrap());
        let (slots, connections, ends) =
            (Arc::new(Semaphore::new(slots)), TaskTracker::new(), CancellationToken::new());
        ends.cancel();
        let served = Arc::new(AtomicUsize::new(0));
        let serve = |_, _, slot| {
            let served = Arc::clone(&served);
            async move {
                served.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
                drop(slot);
            }
        };
        let address = listener.local_addr().unwrap();
        accept(listener, slots, connections.clone(), ends, serve).await;
        tokio::task::yield_now().await;
        assert!(Visitor::connect(address).is_err(), "the listener is closed");
        drop(visitors);
        served.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn an_accepted_connection_sends_without_delay() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = listen("listen", address.parse().unwrap()) else { continue };
            let _visitor = Visitor::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            assert!(stream.nodelay().unwrap(), "{address}");
        }
    }

    #[tokio::test]
    async fn who_waits_in_the_backlog_at_the_end_is_served() {
        assert_eq!(served_at_the_end(10).await, 3);
    }

    #[tokio::test]
    async fn no_more_than_there_are_slots_even_at_the_end() {
        assert_eq!(served_at_the_end(2).await, 2);
    }
}
