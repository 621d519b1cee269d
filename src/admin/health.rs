//! `GET /healthz`: is the process alive? `GET /readyz`: may it get traffic? No token needed, nothing told that is not asked.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;

use super::Control;
use super::answer::Failure;

/// How long a store may take to say that it is well.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
pub(super) struct Alive {
    alive: bool,
}

/// Always.
pub(super) async fn alive() -> Json<Alive> {
    Json(Alive { alive: true })
}

#[derive(Serialize)]
pub(super) struct Ready {
    ready: bool,
}

/// Once the journal has been read, which it is before anybody can ask, while the store works, until the server drains.
pub(super) async fn ready(State(control): State<Arc<Control>>) -> Result<Json<Ready>, Failure> {
    let no = |error, detail: &str| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, detail);
    if control.parties.draining.is_cancelled() {
        return Err(no("draining", "the server is going down"));
    }
    match timeout(STORE_PATIENCE, control.parties.store.check()).await {
        Ok(Ok(())) => Ok(Json(Ready { ready: true })),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(no("store-unavailable", "the store does not answer")),
    }
}
