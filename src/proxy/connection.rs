//! One visitor's connection: hyper's HTTP/1 between the guarded socket and the handler.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};

use super::handler::Handler;
use super::visit::Visitor;
use super::wire::Guard;
use crate::config::Limits;

/// Serves a connection until either side ends it, or the server drains.
pub async fn serve<S>(handler: Arc<Handler>, stream: S, address: IpAddr, limits: Limits, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let guard = Guard::new(stream, limits.idle_timeout);
    let visitor = Visitor { address, last_request: guard.last_request() };
    let service = service_fn(move |request| {
        let (handler, visitor) = (Arc::clone(&handler), visitor.clone());
        async move { Ok::<_, Infallible>(handler.handle(request, &visitor).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.head_fields)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%address, %error, "connection ended");
    }
}
