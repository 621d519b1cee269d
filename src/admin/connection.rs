//! One asker's connection: hyper's HTTP/1 between the socket and the router, with a bound on every wait.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Connections at a time; further ones wait in the system's backlog. Operators, apps and probes need few, and what a careless client leaves open must
/// not take the file descriptors that visitors need.
pub const CONNECTIONS_MAX: usize = 256;
/// How long a connection is used again and again: whoever takes no bytes does not hold it for ever.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How long the last answer on a connection may take, more than any request may.
const LAST_ANSWER: Duration = Duration::from_secs(60);

/// Serves a connection until either side ends it, its lifetime is over, or `ends` is cancelled; then after the answer that is under way.
/// Each head has to be there within `head_timeout`. `slot` is held until it is closed.
pub async fn serve(
    router: Router,
    stream: TcpStream,
    address: SocketAddr,
    head_timeout: Duration,
    ends: CancellationToken,
    slot: OwnedSemaphorePermit,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let used = async {
        tokio::select! {
            () = ends.cancelled() => {}
            () = sleep(LIFETIME) => {}
        }
    };
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => Ok(result),
        () = used => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, connection).await
        }
    };
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%address, %error, "connection to the admin API ended"),
        Err(_) => tracing::debug!(%address, "connection to the admin API was cut off: its last answer was not taken"),
    }
    drop(slot);
}
