//! How do connections come in? A listener, and a task that hands each connection over to a task of its own.
//!
//! That task runs among the others on the runtime's workers: a connection begins on the thread that accepted it, and no other one is
//! woken for it unless one is idle. What the connections say is no matter of this module.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that the system keeps until they are accepted: a burst in the time of some slow steps of the workers, and, for as many again, those of a
/// second that say nothing ([`Accepts::WithFirstBytes`]). The system may have a lower bound (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How long the listener rests when no connection can be accepted: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection may be established whose first bytes are on their way, and nobody here knows of it: they are waited for so long at the end, if it may
/// take as long.
const LAST_CALL: Duration = Duration::from_millis(250);

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

/// When is a connection accepted?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    /// As soon as it is established.
    AtOnce,
    /// When its first bytes have come, or after a second without any; where the system can do that, which is Linux. Until then the system keeps it,
    /// and afterwards its first read need not wait.
    WithFirstBytes,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    socket: AsyncFd<TcpListener>,
    accepts: Accepts,
}

impl Listener {
    /// Listens there; `key` is the address's name in the configuration.
    pub(super) fn listen(key: &'static str, address: SocketAddr, accepts: Accepts) -> Result<Self, ListenError> {
        Self::bind(address, accepts, deferral::set).map_err(|source| ListenError { key, address, source })
    }

    fn bind(
        address: SocketAddr,
        accepts: Accepts,
        defer: impl FnOnce(&TcpSocket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart need not wait for connections of the one before.
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it, which saves a system call for each.
        socket.set_nodelay(true)?;
        let accepts = match accepts {
            Accepts::AtOnce => Accepts::AtOnce,
            Accepts::WithFirstBytes => in_effect(defer(&socket)),
        };
        socket.bind(address)?;
        Ok(Listener { socket: watch(socket.listen(BACKLOG)?.into_std()?)?, accepts })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            // Asked for when there is nobody, and not before: readiness is told once.
            if let Ok(accepted) = self.socket.readable().await?.try_io(|socket| accept_now(socket.get_ref())) {
                return accepted;
            }
        }
    }
}

/// What comes of the wish for connections with their first bytes: a sandbox or an emulated kernel may not know it, and one can do without.
fn in_effect(deferred: io::Result<()>) -> Accepts {
    match deferred {
        Ok(()) => Accepts::WithFirstBytes,
        Err(error) => {
            tracing::debug!(%error, "connections are accepted before their first bytes: the system cannot wait for them");
            Accepts::AtOnce
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe, for types that may lose their descriptor: this one cannot")]
fn watch(socket: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Accepts a connection that waits. Its stream does not block.
#[cfg(target_os = "linux")]
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    let (stream, address) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    Ok((stream.into(), address.ok_or(io::ErrorKind::InvalidData)?))
}

/// Accepts a connection that waits. Its stream does not block.
#[cfg(not(target_os = "linux"))]
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, address) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream, address))
}

/// `TCP_DEFER_ACCEPT` of tcp(7).
#[cfg(target_os = "linux")]
mod deferral {
    use std::io;

    use nix::sys::socket::setsockopt;
    use nix::{libc, setsockopt_impl, sockopt_impl};
    use tokio::net::TcpSocket;

    /// Seconds without a byte, after which a connection is accepted nevertheless: as few as there can be.
    const AT_MOST: u32 = 1;

    sockopt_impl!(DeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, u32);

    pub(super) fn set(socket: &TcpSocket) -> io::Result<()> {
        Ok(setsockopt(socket, DeferAccept, &AT_MOST)?)
    }
}

/// Only Linux has it.
#[cfg(not(target_os = "linux"))]
mod deferral {
    use std::io;

    use tokio::net::TcpSocket;

    pub(super) fn set(_: &TcpSocket) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Lets each connection be served in a task of its own, as many at a time as there are `slots`; further ones wait in the system's backlog. When it
/// `ends`, those that wait there and find a slot are served too, and the listener is closed. Whatever the system holds back is waited for before, in
/// half of `grace` at most, for they shall be answered too. Streams that are served do not block.
pub(super) async fn accept<F>(
    listener: Listener,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    ends: CancellationToken,
    grace: Duration,
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
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    {
        // Not longer than this: it keeps a slot for the next connection, and that may be the only one.
        let mut accepting = pin!(accepting);
        let _: Option<()> = ends.run_until_cancelled(accepting.as_mut()).await;
        if listener.accepts == Accepts::WithFirstBytes {
            let _: Result<(), Elapsed> = timeout(LAST_CALL.min(grace / 2), accepting).await;
        }
    }
    // With the listener the system would reset them, and their visitors took them for open: the last ones are asked for without the runtime, which
    // may not have heard of them yet. More may come meanwhile, but this must end.
    for _ in 0..BACKLOG {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { return };
        match accept_now(listener.socket.get_ref()) {
            Ok((stream, address)) => drop(connections.spawn(serve(stream, address, slot))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // One that has left again, for example: others may wait behind it.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as Visitor;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use tokio::time::Instant;

    use super::Accepts::{AtOnce, WithFirstBytes};
    use super::*;

    /// More than enough to wait for those on their way.
    const GRACE: Duration = Duration::from_secs(30);

    fn anywhere(accepts: Accepts) -> Listener {
        Listener::listen("listen", SocketAddr::from(([127, 0, 0, 1], 0)), accepts).unwrap()
    }

    fn visitor(listener: &Listener) -> Visitor {
        Visitor::connect(listener.local_addr().unwrap()).unwrap()
    }

    /// How many are served by a listener that has to end, while `meanwhile` happens.
    async fn served_at_the_end(listener: Listener, slots: usize, meanwhile: impl FnOnce()) -> usize {
        let ends = CancellationToken::new();
        ends.cancel();
        served_until(ends, listener, slots, GRACE, meanwhile).await
    }

    /// How many are served by a listener that has `grace` to end, while `meanwhile` happens after its first step.
    async fn served_until(
        ends: CancellationToken,
        listener: Listener,
        slots: usize,
        grace: Duration,
        meanwhile: impl FnOnce(),
    ) -> usize {
        let (slots, connections) = (Arc::new(Semaphore::new(slots)), TaskTracker::new());
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
        {
            let mut accepting = pin!(accept(listener, slots, connections.clone(), ends, grace, serve));
            let is_over = poll_fn(|context| Poll::Ready(accepting.as_mut().poll(context).is_ready())).await;
            meanwhile();
            if !is_over {
                // The next step comes before the runtime can hear of what has happened.
                accepting.await;
            }
        }
        tokio::task::yield_now().await;
        assert!(Visitor::connect(address).is_err(), "the listener is closed");
        served.load(Ordering::Relaxed)
    }

    /// Three visitors in the backlog, who have said something.
    fn three(listener: &Listener) -> [Visitor; 3] {
        [0; 3].map(|_| {
            let mut visitor = visitor(listener);
            visitor.write_all(b"G").unwrap();
            visitor
        })
    }

    #[tokio::test]
    async fn an_accepted_connection_sends_without_delay_and_does_not_block() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = Listener::listen("listen", address.parse().unwrap(), AtOnce) else { continue };
            let visitor = visitor(&listener);
            let (mut stream, address) = listener.accept().await.unwrap();
            assert_eq!(address, visitor.local_addr().unwrap());
            assert!(stream.nodelay().unwrap(), "{address}");
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{address}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_is_accepted_with_its_first_bytes() {
        let listener = anywhere(WithFirstBytes);
        let mut visitor = visitor(&listener);
        let early = accept_now(listener.socket.get_ref());
        assert_eq!(early.unwrap_err().kind(), io::ErrorKind::WouldBlock, "it has said nothing");
        visitor.write_all(b"G").unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
    }

    #[tokio::test]
    async fn who_says_nothing_is_accepted_too() {
        let listener = anywhere(WithFirstBytes);
        let visitor = visitor(&listener);
        let (_, address) = listener.accept().await.unwrap();
        assert_eq!(address, visitor.local_addr().unwrap());
    }

    #[tokio::test]
    async fn who_waits_in_the_backlog_at_the_end_is_served() {
        for accepts in [AtOnce, WithFirstBytes] {
            let listener = anywhere(accepts);
            let _visitors = three(&listener);
            assert_eq!(served_at_the_end(listener, 10, || ()).await, 3, "{accepts:?}");
        }
    }

    #[tokio::test]
    async fn no_more_than_there_are_slots_even_at_the_end() {
        for accepts in [AtOnce, WithFirstBytes] {
            let listener = anywhere(accepts);
            let _visitors = three(&listener);
            assert_eq!(served_at_the_end(listener, 2, || ()).await, 2, "{accepts:?}");
        }
    }

    #[tokio::test]
    async fn whose_first_bytes_are_on_their_way_at_the_end_is_served() {
        let listener = anywhere(WithFirstBytes);
        let mut visitor = visitor(&listener);
        assert_eq!(served_at_the_end(listener, 1, || visitor.write_all(b"G").unwrap()).await, 1);
    }

    #[tokio::test]
    async fn the_slot_that_waited_for_the_next_connection_is_there_for_the_last_one() {
        for accepts in [AtOnce, WithFirstBytes] {
            let (listener, ends) = (anywhere(accepts), CancellationToken::new());
            let address = listener.local_addr().unwrap();
            let (mut visitors, begin) = (Vec::new(), ends.clone());
            let come = || {
                let mut visitor = Visitor::connect(address).unwrap();
                visitor.write_all(b"G").unwrap();
                visitors.push(visitor);
                begin.cancel();
            };
            assert_eq!(served_until(ends, listener, 1, Duration::ZERO, come).await, 1, "{accepts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_on_their_way_are_waited_for_in_half_of_the_time_that_there_is() {
        for (accepts, grace, expected) in [
            (WithFirstBytes, GRACE, LAST_CALL),
            (WithFirstBytes, LAST_CALL, LAST_CALL / 2),
            (WithFirstBytes, Duration::ZERO, Duration::ZERO),
            (AtOnce, GRACE, Duration::ZERO),
        ] {
            let (ends, began) = (CancellationToken::new(), Instant::now());
            ends.cancel();
            assert_eq!(served_until(ends, anywhere(accepts), 1, grace, || ()).await, 0);
            let waited = began.elapsed();
            // The clock of the runtime counts milliseconds.
            let most = expected + Duration::from_millis(1) * u32::from(!expected.is_zero());
            assert!((expected..=most).contains(&waited), "{accepts:?} {grace:?}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_system_cannot_wait_for_first_bytes_all_are_accepted_at_once() {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        for error in [io::ErrorKind::Unsupported, io::ErrorKind::InvalidInput, io::ErrorKind::PermissionDenied] {
            let listener = Listener::bind(anywhere, WithFirstBytes, |_| Err(error.into())).unwrap();
            let visitor = visitor(&listener);
            assert_eq!(listener.accepts, AtOnce);
            let (_, address) = listener.accept().await.unwrap();
            assert_eq!(address, visitor.local_addr().unwrap());
            let began = Instant::now();
            assert_eq!(served_at_the_end(listener, 1, || ()).await, 0);
            assert_eq!(began.elapsed(), Duration::ZERO, "nobody is held back");
        }
    }
}
