//! `POST /invalidate`: from the answer 200 on, no page that was rendered before is served.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::answer::Failure;
use super::chores::Chore;
use super::survey::{self, Bounds};
use super::{Control, Parties};
use crate::invalidation::Made;
use crate::invalidation::body::{self, Request};
use crate::invalidation::selector::Record;
use crate::page::{JournalId, Sequence};

/// Bytes of a body that is read where it arrives: some dozens of paths, less work than handing it over. Visitors do not wait behind a larger one.
const PARSED_HERE: usize = 2 << 10;
/// What a dry run looks at.
const DRY_RUN: Bounds = Bounds { found: 100_000, looked_at: 100_000, time: Duration::from_secs(20) };

/// Done, on every node.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The record's number; where nothing was done, that of the newest.
    sequence: Sequence,
    /// The journal that it counts in.
    journal: JournalId,
    /// Members when the record became durable, this one included; where no record was made, those that serve now.
    nodes: u32,
    /// Other nodes that said that they know the record: `nodes` is 1 + these + those in `waited_out`. Where nobody had to be told, 0.
    acknowledged: u32,
    /// Those that did not say so, and whose lease was waited out: their URLs, or ids where they have none.
    waited_out: Arc<[Arc<str>]>,
    /// From the whole request to its answer, in milliseconds to a tenth.
    took_ms: f64,
    /// Paths that were named, each counted once.
    paths: usize,
    /// Pages that were stored of what was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    /// Named paths of which nothing was stored, as the caller wrote them.
    #[serde(skip_serializing_if = "Option::is_none")]
    unmatched: Option<Vec<String>>,
    /// False: not everything was looked at, so `stored` is at least and `unmatched` at most what it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    /// True: the id was known, and the record is the one that was made then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
    /// True: nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

pub(super) async fn invalidate(State(control): State<Arc<Control>>, body: Bytes) -> Result<Json<Answer>, Failure> {
    let (parties, began) = (&control.parties, Instant::now());
    let now = parties.clock.now();
    let request = if body.len() > PARSED_HERE {
        let parsing = spawn_blocking(move || body::parse(&body, now));
        parsing.await.unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))?
    } else {
        body::parse(&body, now)?
    };
    let dry_run = request.dry_run;
    let mut answer = if request.is_empty() {
        Answer { stored: Some(0), unmatched: Some(Vec::new()), dry_run, ..answer(parties, &request.record) }
    } else if dry_run {
        self::dry_run(parties, request).await?
    } else {
        let answer = make(&control, request).await?;
        parties.metrics.invalidation_seconds.observe(began.elapsed().as_secs_f64());
        answer
    };
    answer.took_ms = (began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
    Ok(Json(answer))
}

/// The answer of having done nothing.
fn answer(parties: &Parties, record: &Record) -> Answer {
    Answer {
        sequence: parties.invalidations.applied(),
        journal: parties.invalidations.journal_id().clone(),
        nodes: parties.invalidations.nodes(),
        acknowledged: 0,
        waited_out: Arc::default(),
        took_ms: 0.0,
        paths: record.paths.len(),
        stored: None,
        unmatched: None,
        complete: None,
        repeated: false,
        dry_run: false,
    }
}

async fn dry_run(parties: &Parties, request: Request) -> Result<Answer, Failure> {
    let found = survey::find(&*parties.store, &request.record, DRY_RUN).await?;
    Ok(Answer {
        stored: Some(found.pages.len() as u64),
        unmatched: Some(as_named(request.named, &found.unmatched)),
        complete: (!found.complete).then_some(false),
        dry_run: true,
        ..answer(parties, &request.record)
    })
}

/// What is stored is counted first, so that it says what there was.
async fn make(control: &Control, request: Request) -> Result<Answer, Failure> {
    let parties = &control.parties;
    let (record, refresh) = (Arc::new(request.record), request.refresh);
    let counted = survey::count(&*parties.store, &record).await;
    let (stored, unmatched) = counted.map(|(stored, unmatched)| (stored, as_named(request.named, &unmatched))).unzip();
    let made = parties.invalidations.submit(Arc::clone(&record)).await.inspect_err(|_| {
        parties.metrics.invalidation_failures.inc();
    })?;
    parties.metrics.invalidations.inc();
    let Made { sequence, nodes, acknowledged, waited_out, is_repeated: repeated } = made;
    let answer = answer(parties, &record);
    let answer = Answer { sequence, nodes, acknowledged, waited_out, stored, unmatched, repeated, ..answer };
    control.chores.take_on(Chore { record, sequence, refresh });
    Ok(answer)
}

/// Those of these places, each given once.
fn as_named(mut named: Vec<String>, places: &[usize]) -> Vec<String> {
    places.iter().filter_map(|place| named.get_mut(*place).map(std::mem::take)).collect()
}
