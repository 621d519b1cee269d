//! `GET /healthz`: is the process alive? `GET /readyz`: may it get traffic? No token needed, nothing told that is not asked.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Control;
use super::answer::Failure;

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
}

/// Once the journal has been read, which it is before anybody can ask, while the store works, until the server drains.
pub(super) async fn ready(State(control): State<Arc<Control>>) -> Result<Json<Ready>, Failure> {
    let no = |error, detail: &str| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, detail);
    let word = timeout(STORE_PATIENCE, ask_store(&control));
    match control.parties.draining.run_until_cancelled(word).await {
        None => Err(no("draining", "the server is going down")),
        Some(Ok(Some(word))) => word.map(|()| Json(Ready { ready: true })),
        Some(Ok(None) | Err(_)) => Err(no("store-unavailable", "the store does not answer")),
    }
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
