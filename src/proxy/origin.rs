//! The only door to the origin: pooled HTTP/1.1 over TCP or TLS, with a bound on every wait.
//!
//! The origin's name is resolved for each new connection, and idle connections are dropped after `origin.pool_idle_timeout`, so a moved origin is found
//! again. Nothing here knows of pages.

mod resolver;
pub mod tls;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, timeout};
use tower::Service;

use self::resolver::Resolver;
use super::body::BoxError;
use crate::config;
use crate::policy::reason::Reason;

/// A request's body on its way to the origin.
pub type OutgoingBody = UnsyncBoxBody<Bytes, BoxError>;
/// A response's body on its way from the origin.
pub type IncomingBody = UnsyncBoxBody<Bytes, OriginError>;

/// What kept the origin from answering.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// No connection.
    #[error("the origin cannot be reached: {0}")]
    Unreachable(#[source] BoxError),
    /// A connection, but nothing came within `limit`.
    #[error("the origin sent nothing for {} s ({waited_for})", limit.as_secs_f32())]
    Timeout {
        /// What was waited for.
        waited_for: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// Something came, but no HTTP response.
    #[error("the origin broke off or does not speak HTTP: {0}")]
    Broken(#[source] BoxError),
    /// `origin.max_requests` are there already.
    #[error("too many requests are at the origin already")]
    Busy,
    /// The visitor's upload failed.
    #[error("the visitor's upload broke off: {0}")]
    Upload(#[source] BoxError),
}

impl OriginError {
    /// Its name in `Cache-Status`, logs and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            OriginError::Unreachable(_) => Reason::OriginUnreachable,
            OriginError::Timeout { .. } => Reason::OriginTimeout,
            OriginError::Broken(_) | OriginError::Upload(_) => Reason::OriginBroken,
            OriginError::Busy => Reason::OriginBusy,
        }
    }
}

/// The app behind. The simulation has one of its own.
#[async_trait]
pub trait Origin: Send + Sync + fmt::Debug + 'static {
    /// Sends the request (origin-form target, all fields set) and waits for the response's head. Its body fails when it stalls.
    ///
    /// # Errors
    /// [`OriginError`]; the request may or may not have reached the origin.
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError>;
}

/// An origin over HTTP/1.1.
pub struct HttpOrigin {
    client: Client<Bounded<HttpsConnector<HttpConnector<Resolver>>>, Tracked>,
    scheme: Scheme,
    authority: Authority,
    slots: Arc<Semaphore>,
    slot_timeout: Duration,
    first_byte_timeout: Duration,
    idle_timeout: Duration,
}

impl HttpOrigin {
    /// Prepares the connection pool; connects to nothing yet. `tls` from [`tls::client`].
    ///
    /// # Errors
    /// `settings.url` has no scheme or no host.
    pub fn new(settings: &config::Origin, tls: Option<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let tls = match tls {
            Some(tls) => tls,
            None => rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        };
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(settings.pool_idle_timeout)
            .pool_max_idle_per_host(settings.pool_idle)
            .build(Bounded { connector, limit: settings.connect_timeout });
        let parts = settings.url.clone().into_parts();
        Ok(HttpOrigin {
            client,
            scheme: parts.scheme.ok_or_else(|| anyhow::anyhow!("origin.url has no scheme"))?,
            authority: parts.authority.ok_or_else(|| anyhow::anyhow!("origin.url has no host"))?,
            slots: Arc::new(Semaphore::new(settings.max_requests)),
            slot_timeout: settings.connect_timeout,
            first_byte_timeout: settings.first_byte_timeout,
            idle_timeout: settings.idle_timeout,
        })
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, OriginError> {
        let slot = timeout(self.slot_timeout, Arc::clone(&self.slots).acquire_owned()).await;
        slot.ok().and_then(Result::ok).ok_or(OriginError::Busy)
    }

    /// Waits for the head: the time limit starts anew with each piece of the upload that the origin takes.
    async fn head<F, T>(&self, response: F, upload: &Progress) -> Result<T, OriginError>
    where
        F: Future<Output = Result<T, hyper_util::client::legacy::Error>>,
    {
        let mut response = std::pin::pin!(response);
        loop {
            let deadline = upload.last() + self.first_byte_timeout;
            match tokio::time::timeout_at(deadline, &mut response).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(classify(error, upload)),
                Err(_) if upload.last() + self.first_byte_timeout > deadline => {}
                Err(_) => {
                    return Err(OriginError::Timeout {
                        waited_for: "the response's head",
                        limit: self.first_byte_timeout,
                    });
                }
            }
        }
    }
}

#[async_trait]
impl Origin for HttpOrigin {
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
        let slot = self.slot().await?;
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|error| OriginError::Broken(error.into()))?;
        let upload = Progress::start();
        let request = Request::from_parts(parts, Tracked { body, progress: upload.clone() });
        let asks_to_switch = request.headers().contains_key(UPGRADE);
        let response = self.head(self.client.request(request), &upload).await?;
        check_framing(&response, asks_to_switch)?;
        Ok(response.map(|body| Watched { body, stall: Stall::new(self.idle_timeout), _slot: slot }.boxed_unsync()))
    }
}

impl fmt::Debug for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpOrigin({}://{})", self.scheme, self.authority)
    }
}

fn classify(error: hyper_util::client::legacy::Error, upload: &Progress) -> OriginError {
    if error.is_connect() {
        OriginError::Unreachable(error.into())
    } else if upload.failed() {
        OriginError::Upload(error.into())
    } else {
        OriginError::Broken(error.into())
    }
}

/// An answer that two recipients could read in two ways goes no further (RFC 9112, section 6.3), nor does a switch of protocols that nobody
/// asked for (RFC 9110, section 15.2.2).
fn check_framing<B>(response: &Response<B>, asks_to_switch: bool) -> Result<(), OriginError> {
    let headers = response.headers();
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && headers.contains_key(TRANSFER_ENCODING)) {
        return Err(OriginError::Broken("its answer gives more than one length".into()));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !asks_to_switch {
        return Err(OriginError::Broken("it switched protocols unasked".into()));
    }
    Ok(())
}

/// A connector with a bound on name, TCP and TLS together.
#[derive(Clone, Debug)]
struct Bounded<C> {
    connector: C,
    limit: Duration,
}

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.connector.call(uri), self.limit);
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(result) => result.map_err(Into::into),
                Err(_) => Err("no connection within origin.connect_timeout".into()),
            }
        })
    }
}

/// When the upload last moved, and whether it failed.
#[derive(Clone, Debug)]
struct Progress(Arc<Mutex<(Instant, bool)>>);

impl Progress {
    fn start() -> Self {
        Progress(Arc::new(Mutex::new((Instant::now(), false))))
    }

    fn last(&self) -> Instant {
        self.0.lock().0
    }

    fn failed(&self) -> bool {
        self.0.lock().1
    }
}

/// An upload that says when it moves.
#[derive(Debug)]
struct Tracked {
    body: OutgoingBody,
    progress: Progress,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(frame) = &polled {
            *self.progress.0.lock() = (Instant::now(), matches!(frame, Some(Err(_))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body that fails when it stalls, and holds its slot at the origin until it ends.
struct Watched {
    body: hyper::body::Incoming,
    stall: Stall,
    _slot: OwnedSemaphorePermit,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.stall.moved();
                Poll::Ready(frame.map(|frame| frame.map_err(|error| OriginError::Broken(error.into()))))
            }
            Poll::Pending if self.stall.poll_expired(context).is_ready() => {
                let limit = self.stall.limit;
                Poll::Ready(Some(Err(OriginError::Timeout { waited_for: "the next part of the body", limit })))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A bound on how long nothing may move. The timer is made only when something is waited for.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(super) fn new(limit: Duration) -> Self {
        Stall { limit, timer: None }
    }

    pub(super) fn moved(&mut self) {
        self.timer = None;
    }

    pub(super) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(context)
    }
}
