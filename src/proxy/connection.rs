//! One visitor's connection: the fast lane answers what it can, and hyper's HTTP/1 has the word where it cannot.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::BoxError;
use super::drain::Draining;
use super::handler::Handler;
use super::lane::Lane;
use super::visit::Visitor;
use super::wire::{Ending, Guard, Heard, Patience, Socket};
use crate::config::Limits;

/// With this number of fields, its default, hyper needs no allocation to parse a head.
const HEAD_FIELDS_OF_HYPER: usize = 100;

/// A connection on which nothing has been heard when draining begins may still bring a request that was sent before: it is waited for this long.
const FIRST_WORDS: Duration = Duration::from_millis(250);

/// Serves a connection until either side ends it; when `draining`, after the answer that is under way. `slot` is held until it is closed.
pub async fn serve<S>(
    handler: Arc<Handler>,
    stream: S,
    address: IpAddr,
    limits: Limits,
    draining: Draining,
    slot: OwnedSemaphorePermit,
) where
    S: Socket + Send + 'static,
{
    let visitor = Visitor::at(address);
    let lane = Lane::new(Arc::clone(&handler), visitor.clone(), &limits);
    let patience = Patience { head: limits.head_timeout, idle: limits.idle_timeout };
    let mut guard = Guard::new(stream, lane, patience, slot);
    // Its first request may be there, and be answered before anything else is asked.
    if draining.has_begun() {
        visitor.last_request.store(true, Ordering::Relaxed);
    }
    let mut heard = draining.unless_begun(poll_fn(|context| guard.poll_lane(context))).await;
    // Later requests may be sent again (RFC 9110, section 9.2.2); the first would be a connection that was never answered.
    if heard.is_none() && guard.is_fresh() {
        visitor.last_request.store(true, Ordering::Relaxed);
        heard = timeout(FIRST_WORDS, poll_fn(|context| guard.poll_lane(context))).await.ok();
    }
    let result = match heard.unwrap_or(Ok(Heard::End)) {
        // Large: in a place of its own, that a connection of hits never needs.
        Ok(Heard::Request) => Box::pin(serve_by_hyper(handler, guard, visitor, limits, draining)).await,
        // Closing says that it ends: nothing else need be said first.
        Ok(Heard::End) => poll_fn(|context| guard.poll_unsent(context)).await.map_err(Into::into),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// From the first request on that is not for the fast lane; later hits go by it again, within the guard.
async fn serve_by_hyper<S>(
    handler: Arc<Handler>,
    guard: Guard<S>,
    visitor: Visitor,
    limits: Limits,
    draining: Draining,
) -> Result<(), BoxError>
where
    S: Socket + Send + 'static,
{
    let ended = guard.ended();
    let service = service_fn(move |request| {
        let (handler, visitor, ended) = (Arc::clone(&handler), visitor.clone(), Arc::clone(&ended));
        async move {
            let response = visitor.interim.until(handler.handle(request, &visitor)).await;
            Ok::<_, Infallible>(response.map(|body| Ending::new(body, ended)))
        }
    });
    let mut http = http1::Builder::new();
    // How long a head may take is the guard's to say.
    http.header_read_timeout(None).max_buf_size(limits.head_bytes);
    if limits.head_fields != HEAD_FIELDS_OF_HYPER {
        http.max_headers(limits.head_fields);
    }
    let mut connection = pin!(http.serve_connection(TokioIo::new(guard), service).with_upgrades());
    if let Some(result) = draining.unless_begun(connection.as_mut()).await {
        return Ok(result?);
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}
