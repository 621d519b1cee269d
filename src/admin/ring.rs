//! `POST /internal/ring`: another node has made an invalidation. This one looks at the journal at once, and says what it knows then.
//!
//! A hint: it changes nothing but when this node looks. Who may ring shows the secret of the journal, which only its nodes can read; the token of
//! the admin API is not needed. [`Ringer`] is the other side.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::Control;
use super::answer::Failure;
use crate::invalidation::journal::{Circle, Other};
use crate::invalidation::ring::Bell;
use crate::page::{JournalId, Sequence};

/// Where it is.
pub(super) const PATH: &str = "/internal/ring";
/// Bytes of a call and of its answer.
pub(super) const BYTES_MAX: usize = 4096;
/// How long connecting may take: a node that is gone shall not cost more.
const CONNECT_PATIENCE: Duration = Duration::from_millis(500);
/// How long an idle connection to another node is kept.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    journal: JournalId,
    /// Who is meant: an address may belong to somebody else by now.
    node: Arc<str>,
    sequence: Sequence,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heard {
    node: Arc<str>,
    applied: Sequence,
}

pub(super) async fn ring(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Heard>, Failure> {
    let invalidations = &control.parties.invalidations;
    let none = || Failure::new(StatusCode::NOT_FOUND, "no-ring", "this node shares its journal with nobody");
    let circle = invalidations.circle().ok_or_else(none)?;
    if !shows(&headers, &circle.secret) {
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "this is not the secret of the journal"));
    }
    let call: Call = serde_json::from_slice(&body)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "bad-ring", error.to_string()))?;
    if call.node != circle.node || call.journal != *invalidations.journal_id() {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "another-node",
            "this is another node than the one that was meant",
        ));
    }
    let applied = invalidations
        .heed(call.sequence)
        .await
        .map_err(|error| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "journal-outage", error.to_string()))?;
    Ok(Json(Heard { node: circle.node, applied }))
}

/// The comparison takes as long for a wrong secret as for the right one.
fn shows(headers: &HeaderMap, secret: &str) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    given.is_some_and(|given| bool::from(given.ct_eq(secret.as_bytes())))
}

/// Rings other nodes over HTTP.
#[derive(Debug)]
pub struct Ringer {
    pool: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Default for Ringer {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_PATIENCE));
        connector.set_nodelay(true);
        Ringer { pool: legacy::Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector) }
    }
}

impl Ringer {
    async fn call(&self, url: &str, call: &Call, secret: &str) -> anyhow::Result<Heard> {
        let request = Request::post(format!("{url}{PATH}"))
            .header(AUTHORIZATION, format!("Bearer {secret}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(serde_json::to_vec(call)?))?;
        let response = self.pool.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

#[async_trait]
impl Bell for Ringer {
    async fn ring(
        &self,
        url: &str,
        other: &Other,
        circle: &Circle,
        journal: &JournalId,
        sequence: Sequence,
    ) -> Option<Sequence> {
        let call = Call { journal: journal.clone(), node: Arc::clone(&other.node), sequence };
        match self.call(url, &call, &circle.secret).await {
            Ok(heard) => (heard.node == other.node).then_some(heard.applied),
            Err(error) => {
                tracing::debug!(url, node = %other.node, %error, "a node was not reached: its lease is waited for");
                None
            }
        }
    }
}
