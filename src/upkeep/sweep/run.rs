//! One sweep, from its turn to its end: the flow chart.

use std::time::Duration;

use parking_lot::Mutex;

use super::ages::Ages;
use super::state::{Left, State};
use super::turn::Turn;
use super::{Death, Problem, Tally, Terms};
use crate::clock::UnixMillis;
use crate::page::ObjectName;
use crate::store::s3::Class;
use crate::store::s3::bucket::Bucket;
use crate::store::s3::housekeeping::Lying;
use crate::upkeep::Parties;
use crate::upkeep::job::Ending;
use crate::upkeep::pace::Pace;

/// How long a draining server waits for the lock to be given back.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);
/// Keys that begin like the notes: those of versions whose number begins like ours.
const BESIDE_MAX: usize = 10;

/// One sweep.
pub(super) struct Run<'a> {
    pub(super) parties: &'a Parties,
    pub(super) terms: &'a Terms,
    pub(super) pace: &'a Pace,
    pub(super) tally: &'a Mutex<Tally>,
    pub(super) is_dry: bool,
}

impl Run<'_> {
    pub(super) async fn whole(&self) -> Result<Ending, Problem> {
        let draining = &self.parties.draining;
        if self.is_dry {
            draining.run_until_cancelled(self.look_only()).await.ok_or(Problem::Stopped)??;
            return Ok(Ending::Done);
        }
        let lock = format!("{}/sweep/lock", self.terms.flavor);
        let take = Turn::take(self.bucket(), lock, self.terms.takeover_after);
        let Some(turn) = draining.run_until_cancelled(take).await.ok_or(Problem::Stopped)?? else {
            return Ok(Ending::Busy);
        };
        let ended = tokio::select! {
            ended = self.sweep() => ended,
            problem = turn.keep() => Err(problem),
            () = draining.cancelled() => Err(Problem::Stopped),
        };
        // It has bounds of its own, but a draining server has less time.
        let _ = tokio::time::timeout(RELEASE_PATIENCE, turn.release()).await;
        ended.map(|()| Ending::Done)
    }

    async fn sweep(&self) -> Result<(), Problem> {
        let mut state = self.begin().await?;
        self.save(&mut state).await?;
        let now = self.server_time().await?;
        state.running.as_mut().expect("it was begun").began.get_or_insert(now);
        let first_here = *state.first_here.get_or_insert(now);
        self.sweep_pages(&mut state).await?;
        self.sweep_old_versions(now, first_here).await?;
        self.sweep_leftovers(now).await?;
        self.end_uploads(now).await;
        let ages = state.running.as_ref().map(|running| running.ages.clone()).unwrap_or_default();
        let left = self.end(&ages).await?;
        let all_gone = {
            let tally = self.tally.lock();
            tally.deleted == tally.dead.values().sum::<u64>()
        };
        if all_gone {
            state.complete(left);
        } else {
            // What S3 refused to delete would not be looked at again.
            state.running = None;
        }
        self.save(&mut state).await
    }

    /// Everything but the writing and the deleting; from the beginning, whatever another sweep has done.
    async fn look_only(&self) -> Result<(), Problem> {
        let mut state = self.begin().await?;
        state.running = None;
        let (journal, to) = (self.parties.invalidations.journal_id(), self.parties.invalidations.applied());
        state.resume(journal, to);
        self.sweep_pages(&mut state).await?;
        let now = self.parties.clock.now();
        self.sweep_old_versions(now, state.first_here.unwrap_or(now)).await?;
        self.sweep_leftovers(now).await?;
        let ages = state.running.map(|running| running.ages).unwrap_or_default();
        self.end(&ages).await.map(drop)
    }

    /// Goes on from where a sweep has stopped, or begins anew.
    async fn begin(&self) -> Result<State, Problem> {
        self.enter("begin");
        self.pace.wait(Class::Get).await;
        let mut state = State::load(self.bucket(), &self.notes()).await?;
        self.make_current().await?;
        state.resume(self.parties.invalidations.journal_id(), self.parties.invalidations.applied());
        Ok(state)
    }

    /// Too many are left: the oldest go. Then it is known how full the store is.
    async fn end(&self, ages: &Ages) -> Result<Left, Problem> {
        let (culled, freed) = self.cull(ages).await?;
        let (objects, bytes) = (ages.objects() - culled.min(ages.objects()), ages.bytes().saturating_sub(freed));
        let left = Left { objects, bytes, at: self.parties.clock.now() };
        self.parties.store.note_usage(objects, bytes, left.at);
        let mut tally = self.tally.lock();
        (tally.kept_objects, tally.kept_bytes, tally.phase) = (objects, bytes, "ended");
        Ok(left)
    }

    pub(super) async fn save(&self, state: &mut State) -> Result<(), Problem> {
        if self.is_dry {
            return Ok(());
        }
        self.pace.wait(Class::Put).await;
        state.save(self.bucket(), &self.notes()).await
    }

    /// What time it is by the server's clock: when the notes were written, which was now.
    async fn server_time(&self) -> Result<UnixMillis, Problem> {
        let notes = self.notes();
        self.pace.wait(Class::List).await;
        let beside = self.bucket().list(&notes, None, BESIDE_MAX).await?;
        let own = beside.keys.iter().find(|listed| listed.key == notes);
        Ok(own.map(|listed| listed.modified).unwrap_or_default())
    }

    /// Every answered invalidation is known from here on.
    pub(super) async fn make_current(&self) -> Result<(), Problem> {
        self.parties.invalidations.make_current().await.map_err(|_| Problem::OutOfReach)
    }

    /// Removes pages of this version; returns how many went, and their bytes.
    pub(super) async fn bury(&self, dead: &[(Lying, Death)]) -> Result<(u64, u64), Problem> {
        dead.iter().for_each(|(lying, death)| self.note_dead(*death, lying.bytes));
        if self.is_dry || dead.is_empty() {
            return Ok((0, 0));
        }
        let names: Vec<ObjectName> = dead.iter().map(|(lying, _)| lying.name.clone()).collect();
        self.pace.wait(Class::Delete).await;
        let left = self.parties.store.remove_many(&names).await?;
        Ok(self.note_gone(
            dead.iter().filter(|(lying, _)| !left.contains(&lying.name)).map(|(lying, death)| (lying.bytes, *death)),
        ))
    }

    pub(super) fn note_dead(&self, death: Death, bytes: u64) {
        let mut tally = self.tally.lock();
        *tally.dead.entry(death.as_str()).or_default() += 1;
        tally.dead_bytes += bytes;
    }

    /// How many went, and their bytes.
    pub(super) fn note_gone(&self, gone: impl Iterator<Item = (u64, Death)>) -> (u64, u64) {
        let (mut objects, mut bytes) = (0, 0);
        for (freed, death) in gone {
            (objects, bytes) = (objects + 1, bytes + freed);
            self.parties.metrics.swept(death.as_str()).inc();
        }
        let mut tally = self.tally.lock();
        tally.deleted += objects;
        tally.freed_bytes += bytes;
        (objects, bytes)
    }

    /// Uploads that nobody will complete, of the whole location. A failure is told and no more: the bucket may have a rule of its own for them.
    async fn end_uploads(&self, now: UnixMillis) {
        self.enter("uploads");
        let after = u64::try_from(self.terms.uploads_after.as_millis()).unwrap_or(u64::MAX);
        self.pace.wait(Class::List).await;
        match self.bucket().abort_uploads(UnixMillis(now.0.saturating_sub(after))).await {
            Ok(ended) => {
                self.pace.count(Class::Multipart, ended);
                self.tally.lock().uploads_ended = ended;
            }
            Err(error) => tracing::warn!(%error, "uploads that nobody will complete stay"),
        }
    }

    pub(super) fn enter(&self, phase: &'static str) {
        self.tally.lock().phase = phase;
    }

    pub(super) fn bucket(&self) -> &Bucket {
        self.parties.store.bucket()
    }

    fn notes(&self) -> String {
        State::key(self.terms)
    }
}
