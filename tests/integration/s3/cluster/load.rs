//! Visitors who never wait for each other, and save hooks that try until they are answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use rand::prelude::*;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::fate::Weather;
use super::history::{History, Invalidation, Visit};
use super::node::Node;
use super::site::{App, PAGES, Selector, path};
use crate::support::{Answer, Ask};

/// Between two visits of a node, whether it answers or not.
const VISITS_EVERY: Duration = Duration::from_millis(7);
/// Visits of a node that may wait for their answers: those of the longest pause.
const WAITING_MAX: usize = 400;
/// Longer than everpage takes for anything, pauses included.
const VISIT_PATIENCE: Duration = Duration::from_secs(10);
/// A save hook waits as long as one of these: with the shorter ones it asks another node while the first is at work still.
const HOOK_PATIENCE_MS: [u64; 5] = [80, 300, 800, 1500, 6000];
/// Tries of one save hook.
const TRIES: usize = 20;

/// What all who do something share.
pub(super) struct Stage {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) app: App,
    pub(super) history: History,
    pub(super) weather: Weather,
    pub(super) tally: Mutex<Tally>,
    pub(super) ended: CancellationToken,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Visits that broke off or were given up.
    pub(super) unanswered: usize,
    /// Answered 200, by what they named.
    pub(super) acknowledged: BTreeMap<&'static str, usize>,
    /// Of those, answered by another node than the one that was asked first.
    pub(super) by_another: usize,
    /// Answers 503, and POSTs without an answer.
    pub(super) refused: usize,
    pub(super) lost: usize,
    pub(super) given_up: usize,
    /// Some ids that were answered, and the sequence that was said.
    pub(super) ids: Vec<(String, u64)>,
    /// What must not come.
    pub(super) wrong: Vec<String>,
}

impl Stage {
    /// Visits this node until the end.
    pub(super) async fn visit(self: Arc<Self>, node: usize) {
        let (waiting, mut pace) = (Arc::new(Semaphore::new(WAITING_MAX)), interval(VISITS_EVERY));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.ended.run_until_cancelled(pace.tick()).await.is_some() {
            let Some((public, _)) = self.nodes[node].addresses() else { continue };
            let Ok(place) = Arc::clone(&waiting).try_acquire_owned() else { continue };
            // Some are asked for more often.
            let page = rand::rng().random_range(0..PAGES).min(rand::rng().random_range(0..PAGES));
            let stage = Arc::clone(&self);
            tokio::spawn(async move {
                stage.visit_once(node, public, page).await;
                drop(place);
            });
        }
        let all = u32::try_from(WAITING_MAX).expect("it is small");
        let _all = waiting.acquire_many(all).await.expect("it is never closed");
    }

    /// The version that was shown, and whether it came from a cache.
    pub(super) async fn visit_once(&self, node: usize, public: SocketAddr, page: usize) -> Option<(u64, bool)> {
        let (began, sky) = (self.history.now(), self.weather.now());
        let Some(answer) = Ask::new(public, Method::GET, &path(page)).attempt(VISIT_PATIENCE).await else {
            self.tally.lock().unanswered += 1;
            return None;
        };
        let version = std::str::from_utf8(&answer.body).ok().and_then(|text| text.parse().ok());
        let Some(version) = version.filter(|_| answer.status == 200) else {
            let words = format!("{} of node {node}: {:?}", path(page), answer);
            self.tally.lock().wrong.push(words);
            return None;
        };
        let is_hit = answer.outcome() == "hit";
        if is_hit {
            self.weather.felt(&sky, |felt| felt.hits += 1);
        }
        let said = answer.cache_status().into();
        self.history.visited(Visit { page, began, version, node, said });
        Some((version, is_hit))
    }

    /// The app changes and says so, again and again until the end.
    pub(super) async fn save(self: Arc<Self>, hook: usize, mut chance: StdRng) {
        for number in 0.. {
            let pause = sleep(Duration::from_millis(chance.random_range(50..300)));
            if self.ended.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let selector = Selector::any(&mut chance);
            self.invalidate(selector, &format!("hook{hook}-{number}"), &mut chance).await;
        }
    }

    /// Until a node answers 200 to it. False: none did.
    pub(super) async fn invalidate(&self, selector: Selector, id: &str, chance: &mut StdRng) -> bool {
        let Selector { kind, mut body, pages } = selector;
        body["id"] = Value::from(id);
        // It holds for the first of its tries: a later one may find the record made already.
        let version = self.app.change();
        // The last node has visitors only: it hears of changes by rings and looks, and never makes one.
        let doors = self.nodes.len() - 1;
        let first = chance.random_range(0..doors);
        for number in 0..TRIES {
            let node = (first + number) % doors;
            let Some((_, admin)) = self.nodes[node].addresses() else { continue };
            let patience = Duration::from_millis(HOOK_PATIENCE_MS[chance.random_range(0..HOOK_PATIENCE_MS.len())]);
            let sky = self.weather.now();
            let answer = post(admin, &body, patience).await;
            match answer.as_ref().map(|answer| answer.status.as_u16()) {
                Some(200) => {
                    let answered = self.history.now();
                    self.history.answered(Invalidation { pages, version, answered });
                    self.weather.felt(&sky, |felt| felt.acknowledged += 1);
                    let mut tally = self.tally.lock();
                    *tally.acknowledged.entry(kind).or_default() += 1;
                    tally.by_another += usize::from(node != first);
                    let sequence = answer.as_ref().and_then(sequence).expect("a 200 says a sequence");
                    tally.ids.push((id.to_owned(), sequence));
                    return true;
                }
                Some(503) => {
                    self.weather.felt(&sky, |felt| felt.refused += 1);
                    self.tally.lock().refused += 1;
                }
                None => self.tally.lock().lost += 1,
                Some(_) => self.tally.lock().wrong.push(format!("{body} at node {node}: {answer:?}")),
            }
            sleep(Duration::from_millis(chance.random_range(5..100))).await;
        }
        self.tally.lock().given_up += 1;
        false
    }
}

pub(super) async fn post(admin: SocketAddr, body: &Value, patience: Duration) -> Option<Answer> {
    let ask = Ask::new(admin, Method::POST, "/invalidate").host("localhost");
    ask.header("content-type", "application/json").body(body.to_string()).attempt(patience).await
}

pub(super) fn sequence(answer: &Answer) -> Option<u64> {
    serde_json::from_slice::<Value>(&answer.body).ok()?["sequence"].as_u64()
}
