//! Past the cache: the request goes to the origin whole, the response comes back whole, and nothing is kept.
//!
//! An unsafe method that succeeds invalidates its own path, durably, before its answer is passed on (RFC 9111, section 4.4): the visitor who
//! posted a comment sees it on the next page. It does so in a task of its own, because the app has changed even if the visitor is gone by then.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, EXPECT, HOST, MAX_FORWARDS, TE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::answer::CACHE_STATUS;
use super::body::{Body, BoxError};
use super::handler::Handler;
use super::notice;
use super::origin::{IncomingBody, OriginError, OutgoingBody};
use super::outcome::{self, Outcome};
use super::tunnel;
use super::upload::{Gate, Upload, upload_failed};
use super::visit::{Refusal, Visit, Visitor};
use crate::invalidation::selector::{Record, Target};
use crate::policy::fields::{self, Told};
use crate::policy::path;
use crate::policy::reason::Reason;

/// Nodes of this kind that a request may pass through.
const HOPS_MAX: usize = 8;

impl Handler {
    pub(super) async fn pass<B>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        body: B,
        reason: Reason,
        upgrade: Option<OnUpgrade>,
    ) -> (Outcome, Response<Body>)
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if fields::passes_through_everpage(&visit.parts.headers) >= HOPS_MAX {
            return self.reject(Refusal::Loop);
        }
        let Ok(forwards) = forwards_left(visit) else { return (Outcome::Bypass, self.own_options(visit, reason)) };
        self.metrics.bypassed(reason.as_str()).inc();
        tracing::debug!(method = %visit.parts.method, path = visit.parts.uri.path(), reason = reason.as_str(), "passed on");
        let ended = CancellationToken::new();
        let request = self.outgoing(visit, body, forwards, ended.clone());
        let until_ended = ended.drop_guard();
        let result = match self.own_path_to_invalidate(visit) {
            Some(record) => self.send_and_invalidate(request, record).await,
            None => self.origin.send(request).await,
        };
        let mut response = match result {
            Ok(response) => response,
            Err(OriginError::Upload(error)) => return (Outcome::Error, upload_failed(error.as_ref())),
            Err(error) => {
                tracing::warn!(method = %visit.parts.method, path = visit.parts.uri.path(), %error, "not passed on");
                let field = outcome::bypass_failed(reason, error.reason());
                return (Outcome::Error, notice::origin_failed(error.reason(), field));
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return (Outcome::Bypass, self.switch(visit, &mut response, reason, upgrade));
        }
        let response = response.map(|body| held(body, until_ended));
        (Outcome::Bypass, self.relay(response, |_| outcome::bypass(reason)))
    }

    /// Passes a response on, whole.
    pub(super) fn relay(
        &self,
        response: Response<IncomingBody>,
        field: impl FnOnce(StatusCode) -> HeaderValue,
    ) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        // The version is each hop's own (RFC 9110, section 2.5).
        parts.version = Version::HTTP_11;
        fields::remove_hop_by_hop(&mut parts.headers);
        fields::remove_cache_fields(&mut parts.headers);
        fields::add_via(&mut parts.headers);
        parts.headers.append(CACHE_STATUS, field(parts.status));
        Response::from_parts(parts, Body::stream(body))
    }

    /// An invalidation of the requested path, from a purger.
    pub(super) async fn purge(&self, visit: &Visit<'_>, visitor: &Visitor) -> (Outcome, Response<Body>) {
        if !self.front.may_purge(visitor) {
            return self.reject(Refusal::Purge);
        }
        let Some(record) = self.own_path(visit, "PURGE") else { return self.reject(Refusal::BadTarget) };
        let (status, text) = match self.invalidations.submit(record).await {
            Ok(made) => (StatusCode::OK, format!("Invalidated as number {}.", made.sequence)),
            Err(error) => {
                self.metrics.invalidation_failures.inc();
                (StatusCode::SERVICE_UNAVAILABLE, format!("Not invalidated: {error}. Please try again."))
            }
        };
        (Outcome::Purge, notice::notice(status, &text, outcome::rejected("purge")))
    }

    /// `ended` tells that the exchange is over: a body that the origin did not ask for until then is never sent.
    fn outgoing<B>(
        &self,
        visit: &Visit<'_>,
        body: B,
        forwards: Option<u64>,
        ended: CancellationToken,
    ) -> Request<OutgoingBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let parts = visit.parts;
        let client = visit.address.to_string();
        let told = Told { host: &visit.host, https: visit.https, client: Some(&client) };
        let mut headers = fields::for_pass(&parts.headers, &told, visit.trusted);
        headers.insert(HOST, self.host_for_origin(&visit.host));
        if let Some(forwards) = forwards {
            headers.insert(MAX_FORWARDS, forwards.into());
        }
        if parts.headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        if parts.version < Version::HTTP_11 {
            // RFC 9110, section 10.1.1: such a visitor could not be told to continue.
            headers.remove(EXPECT);
        }
        if let Some(protocol) = parts.headers.get(UPGRADE).filter(|protocol| !is_http_again(protocol)) {
            headers.insert(UPGRADE, protocol.clone());
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        let expects = headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let mut gate = Gate::open();
        let mut request = Request::new(());
        if let Some(interim) = visit.interim {
            let mut signal = None;
            if expects && !body.is_end_stream() {
                let (open, shut) = oneshot::channel();
                gate = Gate::shut(shut, ended);
                signal = Some(open);
            }
            let signal = parking_lot::Mutex::new(signal);
            interim.listen().attend(&mut request, move |status| {
                if status == StatusCode::CONTINUE
                    && let Some(signal) = signal.lock().take()
                {
                    // The upload may have ended by then.
                    let _ = signal.send(());
                }
            });
        }
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = asked_for(&parts.uri);
        *request.headers_mut() = headers;
        let upload = Upload::new(body, gate, self.settings.client_idle_timeout);
        let limit = self.front.body_limit().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        request.map(|()| Limited::new(upload, limit).boxed_unsync())
    }

    fn switch(
        &self,
        visit: &Visit<'_>,
        response: &mut Response<IncomingBody>,
        reason: Reason,
        upgrade: Option<OnUpgrade>,
    ) -> Response<Body> {
        let from_origin = response.extensions_mut().remove::<OnUpgrade>();
        let (Some(to_visitor), Some(to_origin)) = (upgrade, from_origin) else {
            return notice::origin_failed(Reason::OriginBroken, outcome::bypass_failed(reason, Reason::OriginBroken));
        };
        self.tunnels.spawn(tunnel::run(to_visitor, to_origin, self.settings.client_idle_timeout));
        tracing::debug!(path = visit.parts.uri.path(), "switched protocols");
        let mut headers = response.headers().clone();
        let protocol = headers.get(UPGRADE).cloned();
        fields::remove_hop_by_hop(&mut headers);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            headers.insert(UPGRADE, protocol);
        }
        let mut switched = Response::new(Body::empty());
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *switched.headers_mut() = headers;
        switched
    }

    /// What an unsafe method invalidates, if it succeeds and its path may be kept.
    fn own_path_to_invalidate(&self, visit: &Visit<'_>) -> Option<Record> {
        let method = &visit.parts.method;
        let may_change = is_unsafe(method) && !self.rules.ignores(visit.parts.uri.path());
        may_change.then(|| self.own_path(visit, method.as_str())).flatten()
    }

    async fn send_and_invalidate(
        self: &Arc<Self>,
        request: Request<OutgoingBody>,
        record: Record,
    ) -> Result<Response<IncomingBody>, OriginError> {
        let handler = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let result = handler.origin.send(request).await;
            if may_have_changed(&result) {
                handler.invalidate_own_path(record).await;
            }
            result
        });
        task.await.unwrap_or_else(|crash| Err(OriginError::Broken(crash.into())))
    }

    async fn invalidate_own_path(&self, record: Record) {
        if let Err(error) = self.invalidations.submit_change(record).await {
            tracing::error!(%error, "the app has changed, the invalidation is not durable yet: a crash may forget it");
            self.metrics.invalidation_failures.inc();
        }
    }

    /// A path means every host, as in `POST /invalidate`: the same app may be known by several names.
    fn own_path(&self, visit: &Visit<'_>, reason: &str) -> Option<Record> {
        let path = path::normalise(visit.parts.uri.path()).ok()?;
        let target = Target { host: None, path: path.as_ref().into() };
        Some(Record { paths: vec![target], reason: Some(reason.into()), at: self.clock.now(), ..Record::default() })
    }

    /// OPTIONS or TRACE whose Max-Forwards has run out ends here (RFC 9110, section 7.6.2). TRACE would show what visitors must not see.
    fn own_options(&self, visit: &Visit<'_>, reason: Reason) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        if visit.parts.method == Method::TRACE {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        }
        response.headers_mut().insert(ALLOW, notice::ALLOWED);
        response.headers_mut().insert(CACHE_STATUS, outcome::bypass(reason));
        response
    }
}

/// Safe methods leave everything as it is (RFC 9110, section 9.2.1).
fn is_unsafe(method: &Method) -> bool {
    !(method.is_safe() || method == Method::CONNECT)
}

/// Whether the app may have changed: it said so, or nobody knows what it did.
fn may_have_changed(result: &Result<Response<IncomingBody>, OriginError>) -> bool {
    match result {
        Ok(response) => response.status().is_success() || response.status().is_redirection(),
        Err(OriginError::Unreachable(_) | OriginError::Busy) => false,
        Err(OriginError::Timeout { .. } | OriginError::Broken(_) | OriginError::Upload(_)) => true,
    }
}

/// HTTP in a tunnel (`h2c`, `HTTP/2.0`, `TLS/1.3`) would ask the origin past every rule of this proxy; a server may ignore Upgrade (RFC 9110, section 7.8).
fn is_http_again(protocols: &HeaderValue) -> bool {
    let Ok(protocols) = protocols.to_str() else { return true };
    protocols.split(',').any(|protocol| {
        let name = protocol.trim().split('/').next().unwrap_or_default();
        ["h2c", "h2", "h3", "http", "tls"].iter().any(|refused| name.eq_ignore_ascii_case(refused))
    })
}

/// What is left of Max-Forwards after this hop; an error if nothing was.
fn forwards_left(visit: &Visit<'_>) -> Result<Option<u64>, ()> {
    if !matches!(visit.parts.method, Method::OPTIONS | Method::TRACE) {
        return Ok(None);
    }
    let said = visit.parts.headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    said.map(|forwards| forwards.checked_sub(1).ok_or(())).transpose()
}

/// The target in origin form, as it was sent.
fn asked_for(uri: &Uri) -> Uri {
    let target = uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    Uri::from(target)
}

/// The guard lives as long as the body.
fn held(body: IncomingBody, guard: DropGuard) -> IncomingBody {
    let unchanged = move |frame| {
        let _held = &guard;
        frame
    };
    body.map_frame(unchanged).boxed_unsync()
}
