//! WHAT CAN GO FROM THE BUCKET? What nobody will be served any more, and the oldest pages where there are too many.
//!
//! | goes | because |
//! | --- | --- |
//! | `invalidated` | a record newer than the page names it |
//! | `journal` | the page belongs to a journal that is no more |
//! | `damaged` | it bears the name of a page and is torn, damaged or misplaced |
//! | `old-version` | it lies in the folder of a lower `cache.version`, was written longer than `store.s3.sweep_old_versions_after` ago, and so was the first sweep of ours |
//! | `leftover` | it was written for the journal more than a day ago, and the journal's head does not name it |
//! | `culled` | there are more than `max_entries` or `max_bytes`: one in `cull_frequency`, or more if need be, the oldest first |
//!
//! Multipart uploads below the location that nobody has completed within a day are ended, too.
//!
//! # What it costs
//!
//! A LIST shows 1,000 names, but not what the pages are; a GET for each would cost eighty times as much. The name holds the sha1 of the path, and that is
//! enough to ask the index: a page is looked at only if a record newer than the last sweep may name it, or if it was written since and any
//! record may. So a sweep with nothing new reads no page. The first one, and the first one of a journal, look at all of them; so does each
//! sweep after a record by prefix, tag or host, which may name any path. `store.s3.sweep_rate` bounds all of it. For every 1,000 names there is
//! one PUT of the notes from which another sweep, on this node or another, goes on.
//!
//! # What can go wrong
//!
//! A page is judged by the index of that moment, by the head that was read. Another page may have been written under the same name
//! between the look and the deletion: then that one goes, and the next visitor's request is a miss. A page from this node's future (another node knows
//! more) is left alone. Nothing of this can make an answer wrong: whatever is stored is judged when it is served.
//!
//! One node sweeps at a time, by a lock; the ages of pages are told by the server's clock alone.

mod ages;
mod culling;
mod leftovers;
mod old_versions;
mod pages;
mod run;
mod state;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use self::run::Run;
use self::state::State;
use super::Parties;
use super::job::{Ending, Job, Running};
use super::pace::Pace;
use crate::config;
use crate::store::s3::bucket::S3Error;

/// How long an upload may take.
const UPLOAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long it takes at most, and far beyond, until what was written for the journal is named by it.
const NAMING_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a lock must have been left alone before another node takes it over.
const TAKEOVER_AFTER: Duration = Duration::from_secs(300);

/// `[store.s3]` as far as it concerns the sweeper, and where it sweeps.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its folder; never empty.
    pub flavor: String,
    /// Pages of lower ones are of no use any more.
    pub version: u32,
    /// Between two sweeps; zero: none by itself.
    pub interval: Duration,
    /// Requests in a second at most.
    pub rate: u32,
    /// How old pages of lower versions are left to grow.
    pub old_versions_after: Duration,
    /// How old multipart uploads are left to grow.
    pub uploads_after: Duration,
    /// How old objects of the journal that it does not name are left to grow.
    pub leftovers_after: Duration,
    /// Pages that may lie there.
    pub max_entries: Option<u64>,
    /// Bytes that they may take.
    pub max_bytes: Option<u64>,
    /// One in so many goes where there are too many.
    pub cull_frequency: u64,
    /// How long the lock of a silent node is respected.
    pub takeover_after: Duration,
}

impl Terms {
    /// As configured; an empty flavor is `default`.
    #[must_use]
    pub fn new(settings: &config::S3Store, flavor: &str, version: u32) -> Self {
        Terms {
            flavor: if flavor.is_empty() { "default" } else { flavor }.to_owned(),
            version,
            interval: settings.sweep_interval,
            rate: settings.sweep_rate,
            old_versions_after: settings.sweep_old_versions_after,
            uploads_after: UPLOAD_MAX,
            leftovers_after: NAMING_MAX,
            max_entries: settings.max_entries,
            max_bytes: settings.max_bytes,
            cull_frequency: settings.cull_frequency,
            takeover_after: TAKEOVER_AFTER,
        }
    }
}

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// A record newer than it names it.
    Invalidated,
    /// Its journal is no more.
    Journal,
    /// It cannot be read.
    Damaged,
    /// It lies in the folder of a lower version.
    OldVersion,
    /// The journal does not name it.
    Leftover,
    /// There are too many.
    Culled,
}

impl Death {
    fn as_str(self) -> &'static str {
        match self {
            Death::Invalidated => "invalidated",
            Death::Journal => "journal",
            Death::Damaged => "damaged",
            Death::OldVersion => "old-version",
            Death::Leftover => "leftover",
            Death::Culled => "culled",
        }
    }
}

/// Why a sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Bucket(#[from] S3Error),
    #[error("a page cannot be looked at: {0}")]
    Look(Box<dyn std::error::Error + Send + Sync>),
    #[error("the journal is out of reach, and without it nobody knows what is valid")]
    OutOfReach,
    #[error("{0} was written by a newer version of everpage, which sweeps here")]
    Newer(String),
    #[error("another node has taken over")]
    TurnLost,
    #[error("the server drains")]
    Stopped,
}

/// What a sweep has done so far.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Tally {
    phase: &'static str,
    /// Names that were seen.
    looked_at: u64,
    /// Pages of which the head was read.
    heads_read: u64,
    /// By reason.
    dead: BTreeMap<&'static str, u64>,
    dead_bytes: u64,
    /// Of the dead, those that are gone.
    deleted: u64,
    freed_bytes: u64,
    uploads_ended: u64,
    /// What stays, once all of it was seen.
    kept_objects: u64,
    kept_bytes: u64,
}

/// Sweeps by itself and when told to.
#[derive(Debug)]
pub struct Sweeper {
    parties: Parties,
    terms: Terms,
    job: Arc<Job>,
}

/// A sweep that nobody else may begin.
struct Begun {
    running: Running,
    tally: Arc<Mutex<Tally>>,
    pace: Arc<Pace>,
    is_dry: bool,
}

impl Sweeper {
    /// Begins to sweep by itself, unless the interval is zero. To be called within a tokio runtime.
    #[must_use]
    pub fn start(parties: Parties, terms: Terms) -> Arc<Self> {
        let sweeper = Arc::new(Sweeper { parties, terms, job: Arc::default() });
        if !sweeper.terms.interval.is_zero() {
            sweeper.parties.tasks.spawn(Arc::clone(&sweeper).sweep_by_itself());
        }
        sweeper
    }

    /// Sweeps in the background; false: it was at it already. A dry run only looks.
    pub fn order(self: &Arc<Self>, is_dry: bool) -> bool {
        let Some(begun) = self.begin(is_dry) else { return false };
        let sweeper = Arc::clone(self);
        self.parties.tasks.spawn(async move { sweeper.carry_out(begun).await });
        true
    }

    /// `{"running": ..., "last": ...}`: what it is at, and how the last one ended.
    #[must_use]
    pub fn state(&self) -> Json {
        self.job.state()
    }

    /// Sweeps once; returns what it did, and `null` if it was at it already.
    pub async fn sweep(&self, is_dry: bool) -> Json {
        match self.begin(is_dry) {
            Some(begun) => self.carry_out(begun).await,
            None => Json::Null,
        }
    }

    fn begin(&self, is_dry: bool) -> Option<Begun> {
        let tally = Arc::new(Mutex::new(Tally { phase: "waiting", ..Tally::default() }));
        let pace = Arc::new(Pace::new(self.terms.rate));
        let since = self.parties.clock.now().to_rfc3339();
        let (live_tally, live_pace) = (Arc::clone(&tally), Arc::clone(&pace));
        let live = Arc::new(move || {
            let mut said = json!(live_tally.lock().clone());
            said["since"] = since.as_str().into();
            said["dry_run"] = is_dry.into();
            said["requests"] = json!(live_pace.made());
            said
        });
        let running = self.job.begin(live)?;
        Some(Begun { running, tally, pace, is_dry })
    }

    async fn carry_out(&self, begun: Begun) -> Json {
        let Begun { running, tally, pace, is_dry } = begun;
        let run = Run { parties: &self.parties, terms: &self.terms, pace: &pace, tally: &tally, is_dry };
        let ending = match run.whole().await {
            Ok(ending) => ending,
            Err(Problem::Stopped) => Ending::Stopped,
            Err(problem) => Ending::Failed(problem.to_string()),
        };
        let said = running.end(&ending, self.parties.clock);
        self.tell(&ending, &tally.lock(), &said, is_dry);
        said
    }

    fn tell(&self, ending: &Ending, tally: &Tally, said: &Json, is_dry: bool) {
        let (dead, requests) = (json!(tally.dead), &said["requests"]);
        let Tally { looked_at, heads_read, deleted, freed_bytes, uploads_ended, .. } = *tally;
        match ending {
            Ending::Failed(error) => {
                tracing::warn!(%error, deleted, %requests, "the sweep broke off; the next one goes on from there");
            }
            Ending::Busy => tracing::info!("another node sweeps"),
            Ending::Done | Ending::Stopped => tracing::info!(
                result = ending.as_str(), is_dry, looked_at, heads_read, %dead, deleted, freed_bytes, uploads_ended, %requests, "swept"
            ),
        }
        if !is_dry && *ending == Ending::Done {
            self.parties.metrics.last_sweep.set(i64::try_from(self.parties.clock.now().0 / 1000).unwrap_or(i64::MAX));
        }
    }

    /// One sweep in each interval, whichever node makes it: who finds that another one has swept since it last looked lets it be.
    async fn sweep_by_itself(self: Arc<Self>) {
        let mut seen = self.completed().await;
        let draining = self.parties.draining.clone();
        while draining.run_until_cancelled(tokio::time::sleep(jitter(self.terms.interval))).await.is_some() {
            let now = self.completed().await;
            if now.is_some() && now != seen {
                seen = now;
                continue;
            }
            self.sweep(false).await;
            seen = self.completed().await;
        }
    }

    /// Sweeps that came to their end, on any node; `None`: S3 does not say. What the last one counted is known here from then on.
    async fn completed(&self) -> Option<u64> {
        let key = State::key(&self.terms);
        let load = State::load(self.parties.store.bucket(), &key);
        let state = self.parties.draining.run_until_cancelled(load).await?.ok()?;
        if let Some(last) = &state.last {
            self.parties.store.note_usage(last.left.objects, last.left.bytes, last.left.at);
        }
        Some(state.completed)
    }
}

/// Nine to eleven tenths: nodes that were started together do not stay together.
fn jitter(interval: Duration) -> Duration {
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    interval / 10 * 9 + interval / 5 / 256 * random
}
