//! One visitor's connection: hyper's HTTP/1 between the guarded socket and the handler.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::visit::Visitor;
use super::wire::Guard;
use crate::config::Limits;

/// With this number of fields, its default, hyper needs no allocation to parse a head.
const HEAD_FIELDS_OF_HYPER: usize = 100;

/// Serves a connection until either side ends it; when `draining`, after the answer that is under way. `slot` is held until it is closed.
pub async fn serve<S>(
    handler: Arc<Handler>,
    stream: S,
    address: IpAddr,
    limits: Limits,
    draining: CancellationToken,
    slot: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let guard = Guard::new(stream, limits.idle_timeout, slot);
    let visitor = Visitor { last_request: guard.last_request(), interim: guard.interim(), ..Visitor::at(address) };
    let service = service_fn(move |request| {
        let (handler, visitor) = (Arc::clone(&handler), visitor.clone());
        async move { Ok::<_, Infallible>(visitor.interim.until(handler.handle(request, &visitor)).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(limits.head_bytes);
    if limits.head_fields != HEAD_FIELDS_OF_HYPER {
        http.max_headers(limits.head_fields);
    }
    let connection = http.serve_connection(TokioIo::new(guard), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%address, %error, "connection ended");
    }
}
