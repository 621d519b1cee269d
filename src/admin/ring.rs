//! `POST /internal/ring`: another node has made an invalidation. This one looks at the journal at once, and says what it knows then.
//!
//! It changes nothing but when this node looks. Its answer, though, ends a wait: so both sides prove that they know the secret of the journal, which only its nodes can
//! read, without showing it: by a MAC (RFC 2104) over what they say and a word that is new each time. The token of the admin API is not needed.
//! [`Ringer`] is the other side.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::Control;
use super::answer::Failure;
use crate::invalidation::journal::{Circle, Other};
use crate::invalidation::ring::{Bell, Unheard};
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
    /// New each time.
    nonce: String,
    proof: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heard {
    node: Arc<str>,
    applied: Sequence,
    proof: String,
}

/// What both sides prove to have said.
#[derive(Clone, Copy)]
enum Said<'a> {
    Call(&'a JournalId, &'a str, Sequence),
    Heard(&'a str, Sequence),
}

impl Said<'_> {
    fn mac(self, secret: &str, nonce: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
        let text = match self {
            Said::Call(journal, node, sequence) => format!("ring\n{journal}\n{node}\n{sequence}\n{nonce}"),
            Said::Heard(node, applied) => format!("heard\n{node}\n{applied}\n{nonce}"),
        };
        mac.update(text.as_bytes());
        mac
    }

    fn proof(self, secret: &str, nonce: &str) -> String {
        hex::encode(self.mac(secret, nonce).finalize().into_bytes())
    }

    /// The comparison takes as long for a wrong proof as for the right one.
    fn is_proved_by(self, proof: &str, secret: &str, nonce: &str) -> bool {
        hex::decode(proof).is_ok_and(|proof| self.mac(secret, nonce).verify_slice(&proof).is_ok())
    }
}

pub(super) async fn ring(State(control): State<Arc<Control>>, body: Bytes) -> Result<Json<Heard>, Failure> {
    let invalidations = &control.parties.invalidations;
    let none = || Failure::new(StatusCode::NOT_FOUND, "no-ring", "this node shares its journal with nobody");
    let circle = invalidations.circle().ok_or_else(none)?;
    let call: Call = serde_json::from_slice(&body)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "bad-ring", error.to_string()))?;
    let said = Said::Call(&call.journal, &call.node, call.sequence);
    if !said.is_proved_by(&call.proof, &circle.secret, &call.nonce) {
        return Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "this is not proved by the secret of the journal",
        ));
    }
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
    let proof = Said::Heard(&circle.node, applied).proof(&circle.secret, &call.nonce);
    Ok(Json(Heard { node: circle.node, applied, proof }))
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
    /// Why there is no answer, and what was said.
    async fn call(&self, url: &str, call: &Call) -> Result<Heard, (Unheard, String)> {
        let request = Request::post(format!("{url}{PATH}")).header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::from(serde_json::to_vec(call).expect("words and numbers are JSON")));
        let request = request.map_err(|error| (Unheard::NoAddress, error.to_string()))?;
        let lost = |error: String| (Unheard::Unreachable, error);
        let response = self.pool.request(request).await.map_err(|error| lost(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
        let body = body.map_err(|error| lost(error.to_string()))?.to_bytes();
        let said = || format!("{status}: {}", String::from_utf8_lossy(&body));
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(|_| (Unheard::Refused, said())),
            StatusCode::CONFLICT => Err((Unheard::AnotherNode, said())),
            StatusCode::SERVICE_UNAVAILABLE => Err((Unheard::JournalOutage, said())),
            _ => Err((Unheard::Refused, said())),
        }
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
    ) -> Result<Sequence, Unheard> {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let proof = Said::Call(journal, &other.node, sequence).proof(&circle.secret, &nonce);
        let call = Call { journal: journal.clone(), node: Arc::clone(&other.node), sequence, nonce, proof };
        let heard = self.call(url, &call).await.and_then(|heard| {
            let said = Said::Heard(&other.node, heard.applied);
            match heard {
                _ if heard.node != other.node => Err((Unheard::AnotherNode, heard.node.to_string())),
                _ if !said.is_proved_by(&heard.proof, &circle.secret, &call.nonce) => {
                    Err((Unheard::Unproved, heard.proof))
                }
                _ => Ok(heard.applied),
            }
        });
        heard.map_err(|(reason, error)| {
            let node = &other.node;
            tracing::debug!(url, %node, reason = reason.as_str(), error, "a node's lease is waited for");
            reason
        })
    }
}
