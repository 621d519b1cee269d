//! `POST /sweep`, `GET /sweep`, `POST /export`, `GET /export`: work in the bucket, started in the background and watched.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::Control;
use super::answer::Failure;
use super::parameters::{Parameters, wrong};

/// Work in the bucket that runs in the background, once at a time. The composition root knows how.
#[derive(Clone)]
pub struct Job {
    /// Starts it, for real or as a dry run; false: it was at it already.
    pub start: Arc<dyn Fn(bool) -> bool + Send + Sync>,
    /// What it is at and how the last run ended: `{"running": {...} or null, "last": {...} or null}`.
    pub state: Arc<dyn Fn() -> Value + Send + Sync>,
}

/// What there is to do in a bucket; nothing where pages lie elsewhere.
#[derive(Clone, Default)]
pub struct Upkeep {
    /// Removes what nobody will be served any more.
    pub sweep: Option<Job>,
    /// Writes each valid page as a plain object.
    pub export: Option<Job>,
}

/// What may stand in the body of `POST /sweep`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    dry_run: bool,
}

pub(super) async fn start_sweep(
    State(control): State<Arc<Control>>,
    mut parameters: Parameters,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let is_dry = match parameters.one("dry_run")?.as_deref() {
        None | Some("false") => order(&body)?.dry_run,
        Some("true" | "") => true,
        Some(text) => return Err(wrong(format!("`dry_run` is {text:?}; give true or false"))),
    };
    parameters.finish("dry_run")?;
    Ok(start(sweep(&control)?, is_dry))
}

pub(super) async fn sweep_state(State(control): State<Arc<Control>>) -> Result<Json<Value>, Failure> {
    Ok(Json((sweep(&control)?.state)()))
}

pub(super) async fn start_export(
    State(control): State<Arc<Control>>,
    parameters: Parameters,
) -> Result<(StatusCode, Json<Value>), Failure> {
    parameters.finish("none")?;
    Ok(start(export(&control)?, false))
}

pub(super) async fn export_state(State(control): State<Arc<Control>>) -> Result<Json<Value>, Failure> {
    Ok(Json((export(&control)?.state)()))
}

fn start(job: &Job, is_dry: bool) -> (StatusCode, Json<Value>) {
    // As it was before: who waits for the end looks for another `last`.
    let mut state = (job.state)();
    state["started"] = (job.start)(is_dry).into();
    (StatusCode::ACCEPTED, Json(state))
}

fn sweep(control: &Control) -> Result<&Job, Failure> {
    control.parties.upkeep.sweep.as_ref().ok_or_else(|| not_s3(control, "sweep"))
}

fn export(control: &Control) -> Result<&Job, Failure> {
    control.parties.upkeep.export.as_ref().ok_or_else(|| not_s3(control, "export"))
}

fn not_s3(control: &Control, what: &str) -> Failure {
    let kind = control.parties.store.kind();
    let detail = format!(
        "there is nothing to {what}: pages lie in the {kind} store, which tidies itself; store.kind = \"s3\" would be a bucket"
    );
    Failure::new(StatusCode::CONFLICT, "not-s3", detail)
}

fn order(body: &[u8]) -> Result<Order, Failure> {
    if body.is_empty() {
        return Ok(Order::default());
    }
    let not_understood = |error| {
        let detail = format!("the body is not like {{\"dry_run\": true}}: {error}");
        Failure::new(StatusCode::BAD_REQUEST, "bad-body", detail)
    };
    // A list would do for serde, too.
    let members: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(not_understood)?;
    serde_json::from_value(Value::Object(members)).map_err(not_understood)
}
