//! The proxy's own short pages: what went wrong, and for whom to look.

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::answer::CACHE_STATUS;
use super::body::Body;
use super::outcome;
use super::visit::Refusal;
use crate::policy::reason::Reason;

/// What the proxy itself can say of methods: these are common, and any other passes too.
pub(super) const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// A request that is not let in.
pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    let mut response = notice(refusal.status(), refusal.sentence(), outcome::rejected(refusal.as_str()));
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110, section 15.5.6.
        response.headers_mut().insert(ALLOW, ALLOWED);
    }
    if response.status() == StatusCode::BAD_REQUEST {
        // Whoever sends this means something else than is understood here: nothing behind it is read.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The origin failed: 502, 503 or 504, and which it was.
pub(super) fn origin_failed(reason: Reason, status_field: HeaderValue) -> Response<Body> {
    let (status, sentence) = match reason {
        Reason::OriginTimeout => (StatusCode::GATEWAY_TIMEOUT, "The site's application did not answer in time."),
        Reason::OriginUnreachable => (StatusCode::BAD_GATEWAY, "The site's application cannot be reached."),
        Reason::OriginBusy => (StatusCode::SERVICE_UNAVAILABLE, "The site's application is busy. Please try again."),
        _ => (StatusCode::BAD_GATEWAY, "The site's application broke off its answer."),
    };
    let mut response = notice(status, sentence, status_field);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A line of text that nobody keeps.
pub(super) fn notice(status: StatusCode, sentence: &str, status_field: HeaderValue) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or_default();
    let text = format!("{} {title}\n\n{sentence}\n", status.as_u16());
    let mut response = Response::new(Body::whole(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CACHE_STATUS, status_field);
    response
}
