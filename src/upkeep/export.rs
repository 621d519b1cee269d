//! THE WHOLE SITE ONCE: every stored page that is still valid, written as a plain object.
//!
//! It reads each page whole and writes its copy, at `store.s3.sweep_rate` requests in a second. Copies of pages that are no more stay: they are
//! the last good site. Two that run at once do twice the work and no harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::Parties;
use super::job::{Ending, Job, Running};
use super::pace::Pace;
use crate::invalidation::Verdict;
use crate::page::{Object, ObjectName};
use crate::store::Store as _;
use crate::store::s3::Class;
use crate::store::s3::export::Exporter;

/// Copies that fail one after the other before the run is given up: the next ones would fail as well.
const FAILURES_MAX: u64 = 100;

/// What a run has done so far.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Tally {
    looked_at: u64,
    exported: u64,
    /// By reason: `invalidated`, and why a page has no copy.
    skipped: BTreeMap<&'static str, u64>,
    failed: u64,
}

/// Exports everything when told to.
#[derive(Debug)]
pub struct Export {
    parties: Parties,
    exporter: Exporter,
    rate: u32,
    job: Arc<Job>,
}

/// A run that nobody else may begin.
struct Begun {
    running: Running,
    tally: Arc<Mutex<Tally>>,
    pace: Arc<Pace>,
}

impl Export {
    /// At most `rate` requests in a second.
    #[must_use]
    pub fn new(parties: Parties, exporter: Exporter, rate: u32) -> Arc<Self> {
        Arc::new(Export { parties, exporter, rate, job: Arc::default() })
    }

    /// Exports in the background; false: it was at it already.
    pub fn order(self: &Arc<Self>) -> bool {
        let Some(begun) = self.begin() else { return false };
        let export = Arc::clone(self);
        self.parties.tasks.spawn(async move { export.carry_out(begun).await });
        true
    }

    /// `{"place": ..., "running": ..., "last": ...}`: what it is at, and how the last one ended.
    #[must_use]
    pub fn state(&self) -> Json {
        let mut state = self.job.state();
        state["place"] = self.exporter.place().into();
        state
    }

    /// Exports once; returns what it did, and `null` if it was at it already.
    pub async fn export(&self) -> Json {
        match self.begin() {
            Some(begun) => self.carry_out(begun).await,
            None => Json::Null,
        }
    }

    fn begin(&self) -> Option<Begun> {
        let (tally, pace) = (Arc::<Mutex<Tally>>::default(), Arc::new(Pace::new(self.rate)));
        let since = self.parties.clock.now().to_rfc3339();
        let (live_tally, live_pace) = (Arc::clone(&tally), Arc::clone(&pace));
        let live = Arc::new(move || {
            let mut said = json!(live_tally.lock().clone());
            said["since"] = since.as_str().into();
            said["requests"] = json!(live_pace.made());
            said
        });
        Some(Begun { running: self.job.begin(live)?, tally, pace })
    }

    async fn carry_out(&self, Begun { running, tally, pace }: Begun) -> Json {
        let ending = match self.parties.draining.run_until_cancelled(self.all(&tally, &pace)).await {
            None => Ending::Stopped,
            Some(Ok(())) => Ending::Done,
            Some(Err(error)) => Ending::Failed(error),
        };
        let said = running.end(&ending, self.parties.clock);
        let Tally { looked_at, exported, failed, .. } = *tally.lock();
        tracing::info!(
            result = ending.as_str(),
            looked_at,
            exported,
            failed,
            place = self.exporter.place(),
            "exported"
        );
        said
    }

    async fn all(&self, tally: &Mutex<Tally>, pace: &Pace) -> Result<(), String> {
        let (mut after, mut failures) = (None::<String>, 0);
        loop {
            pace.wait(Class::List).await;
            let part = self.parties.store.part(after.as_deref()).await.map_err(|error| error.to_string())?;
            for lying in part.pages.iter().filter(|lying| lying.name.method == Method::GET) {
                tally.lock().looked_at += 1;
                match self.one(&lying.name, pace).await {
                    Ok(None) => tally.lock().exported += 1,
                    Ok(Some(skip)) => *tally.lock().skipped.entry(skip).or_default() += 1,
                    Err(error) => {
                        tracing::warn!(%error, "a page was not exported");
                        tally.lock().failed += 1;
                        failures += 1;
                        if failures >= FAILURES_MAX {
                            return Err(error);
                        }
                        continue;
                    }
                }
                failures = 0;
            }
            match part.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// `Some`: it has no copy, and why.
    async fn one(&self, name: &ObjectName, pace: &Pace) -> Result<Option<&'static str>, String> {
        pace.wait(Class::Get).await;
        let found = self.parties.store.get(name).await.map_err(|error| error.to_string())?;
        let Some(object) = found else { return Ok(Some("absent")) };
        if !self.is_valid(&object, name).await? {
            return Ok(Some("invalidated"));
        }
        pace.wait(Class::Put).await;
        let skip = self.exporter.export(&object).await.map_err(|error| error.to_string())?;
        Ok(skip.map(crate::store::s3::export::Skip::as_str))
    }

    async fn is_valid(&self, object: &Object, name: &ObjectName) -> Result<bool, String> {
        let invalidations = &self.parties.invalidations;
        let Some((head, _)) = object.page() else { return Ok(true) };
        invalidations.make_current().await.map_err(|error| error.to_string())?;
        Ok(invalidations.look_up(head, &name.path) == Verdict::Valid)
    }
}
