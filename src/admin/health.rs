//! `GET /healthz`: is the process alive? `GET /readyz`: may it get traffic? No token needed, nothing told that is not asked.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::answer::Failure;
use super::{Control, Parties};
use crate::config::OnStoreOutage;

/// How long a store may take to say that it is well.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long its word is taken: anybody may ask, as often as they like, and a store may have to write to know.
const WORD_HOLDS: Duration = Duration::from_secs(1);

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
    /// What does not work although requests are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
}

/// Once the journal has been read, which it is before anybody can ask, until the server drains. A store of this node's own must work. One that all
/// nodes share need not: a node that answers from the origin is better than none, and were all nodes taken away at once, nothing would answer.
pub(super) async fn ready(State(control): State<Arc<Control>>) -> Result<Json<Ready>, Failure> {
    let no = |error, detail: &str| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, detail);
    let word = timeout(STORE_PATIENCE, ask_store(&control));
    match control.parties.draining.run_until_cancelled(word).await {
        None => Err(no("draining", "the server is going down")),
        Some(_) if control.parties.store.is_remote() => Ok(Json(Ready { ready: true, degraded: degraded(&control) })),
        Some(Ok(Some(word))) => word.map(|()| Json(Ready { ready: true, degraded: None })),
        Some(Ok(None) | Err(_)) => Err(no("store-unavailable", "the store does not answer")),
    }
}

/// What a visitor may notice of a store or journal out of reach, in plain words.
pub(super) fn degraded(control: &Control) -> Option<String> {
    let Parties { invalidations, store, config, .. } = &control.parties;
    if let Some((since, reason)) = invalidations.outage() {
        let pages = match config.cluster.on_store_outage {
            OnStoreOutage::Serve if invalidations.may_be_trusted_in_outage() => {
                "pages may be older than their invalidation"
            }
            OnStoreOutage::Serve | OnStoreOutage::Origin => "pages come from the origin",
        };
        return Some(format!("the journal has been out of reach for {} s, {pages}: {reason}", since.as_secs()));
    }
    store
        .trouble()
        .map(|trouble| format!("new pages are not stored, and what is not at hand comes from the origin: {trouble}"))
}

/// That a store is well, or how it is not.
type Word = Result<(), Failure>;

/// What the store last said, and when. Locked while it is being asked.
#[derive(Clone, Default)]
pub(super) struct LastWord(Arc<Mutex<Option<(Instant, Word)>>>);

/// The store's word, at most [`WORD_HOLDS`] old. It is asked once at a time, whoever waits, and however soon they leave: if it hangs, it is not
/// asked again.
async fn ask_store(control: &Control) -> Option<Word> {
    let LastWord(last) = &control.last_word;
    let mut word = Arc::clone(last).lock_owned().await;
    if word.as_ref().is_none_or(|(said, _)| said.elapsed() >= WORD_HOLDS) {
        let store = Arc::clone(&control.parties.store);
        control.parties.spawn(async move {
            *word = None;
            let says = store.check().await.map_err(Failure::from);
            *word = Some((Instant::now(), says));
        });
        word = Arc::clone(last).lock_owned().await;
    }
    word.as_ref().map(|(_, says)| says.clone())
}
