//! How is "no" said? As JSON: `{"error": "bad-path", "detail": "paths[3] is ..."}`, whoever said it, a layer included.

use std::any::Any;

use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, http};
use serde::Serialize;

use super::BODY_BYTES;
use crate::invalidation::NotDurable;
use crate::invalidation::body::BodyError;
use crate::policy::explain::QuestionError;
use crate::store::StoreError;

/// An answer that is none.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: StatusCode,
    says: Says,
}

#[derive(Clone, Debug, Serialize)]
struct Says {
    /// A name that stays the same.
    error: &'static str,
    /// What is wrong and what would be right.
    detail: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Failure { status, says: Says { error, detail: detail.into() } }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.says)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, error.error, error.detail)
    }
}

impl From<QuestionError> for Failure {
    fn from(error: QuestionError) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, error.as_str(), error.to_string())
    }
}

impl From<NotDurable> for Failure {
    fn from(error: NotDurable) -> Self {
        let word = match error {
            NotDurable::Busy => "journal-busy",
            NotDurable::Journal(_) => "not-durable",
            NotDurable::Hangs => "journal-hangs",
            NotDurable::Stopped => "stopping",
        };
        let detail = format!("nothing is promised, try again with the same id: {error}");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, word, detail)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", error.to_string())
    }
}

/// No such resource.
pub(super) async fn not_found(uri: http::Uri) -> Failure {
    let detail = format!(
        "there is no {}; there are /invalidate, /invalidations, /pages, /explain, /status, /metrics, /sweep, /export, /healthz, /readyz and the dashboard at /",
        uri.path()
    );
    Failure::new(StatusCode::NOT_FOUND, "not-found", detail)
}

/// More requests than are worked on.
pub(super) async fn overloaded(_: BoxError) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many requests at the same time; nothing was done")
}

/// A bug in one request does not end the others.
#[expect(clippy::needless_pass_by_value, reason = "tower-http gives it away")]
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> http::Response<Body> {
    let words = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(cause = words.unwrap_or("unknown"), "a request to the admin API hit a bug");
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "this is a bug of everpage; the log says more")
        .into_response()
}

/// What layers refuse in their own words, or without any, in ours.
pub(super) async fn as_json(response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (error, detail) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method-not-allowed", "the Allow field of this answer names the methods that are".to_owned())
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("too-large", format!("the body has more than {} MiB; send several requests", BODY_BYTES >> 20))
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            ("timeout", "no answer in time; nothing is promised, try again with the same id".to_owned())
        }
        StatusCode::BAD_REQUEST => ("bad-request", "the request cannot be read".to_owned()),
        _ => ("failed", status.canonical_reason().unwrap_or_default().to_owned()),
    };
    let (mut was, _) = response.into_parts();
    let (now, body) = Failure::new(status, error, detail).into_response().into_parts();
    was.headers.remove(http::header::CONTENT_LENGTH);
    was.headers.extend(now.headers);
    Response::from_parts(was, body)
}
