//! The real journal, as a node sees it: folded when the seed says so, and, for the mutants, with a step of the protocol left out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everpage::clock::Ticks;
use everpage::invalidation::journal::s3::S3Journal;
use everpage::invalidation::journal::{Appended, Circle, Journal, JournalError, Recovered, Seen, Terms};
use everpage::invalidation::selector::Record;
use everpage::page::{JournalId, Sequence};
use parking_lot::Mutex;

use super::storm::{Lie, Storm};
use crate::simulation::world::World;

#[derive(Debug)]
pub struct Observed {
    pub journal: S3Journal,
    pub world: Arc<World>,
    pub storm: Storm,
    pub lie: Lie,
    pub state: Mutex<State>,
}

#[derive(Debug, Default)]
pub struct State {
    wants_fold: bool,
    /// What was seen and not told yet.
    held_back: Option<Recovered>,
    /// Who will not be waited for again.
    dropped: BTreeSet<Arc<str>>,
}

impl Observed {
    fn now(&self) -> Ticks {
        self.journal.terms().expect("it is shared").clock.ticks()
    }

    /// What was held back, and holds back the new.
    fn hold_back(&self, news: Recovered) -> Recovered {
        self.state.lock().held_back.replace(news).unwrap_or_default()
    }

    /// With what was held back before or after it.
    fn release(&self, news: Recovered) -> Recovered {
        let Some(mut held) = self.state.lock().held_back.take() else { return news };
        if news.snapshot.is_some() {
            return news;
        }
        held.records.extend(news.records);
        held
    }
}

#[async_trait]
impl Journal for Observed {
    fn id(&self) -> JournalId {
        self.journal.id()
    }

    async fn give_way(&self) {
        self.journal.give_way().await;
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let mut appended = self.journal.append(records).await?;
        let wants_fold = self.world.chance(self.storm.folds);
        self.state.lock().wants_fold = wants_fold;
        match self.lie {
            Lie::LeaseBeforeTheNews => appended.news = self.release(appended.news),
            Lie::OutOfOrder => {
                let (own, others): (Vec<_>, Vec<_>) =
                    appended.news.records.drain(..).partition(|(_, record)| records.contains(record));
                let held = Recovered { snapshot: None, records: others.into() };
                let told = self.hold_back(held);
                appended.news.records = told.records.into_iter().chain(own).collect();
            }
            Lie::LeaseFromTheAnswer => appended.began = self.now(),
            Lie::SilentNotWaitedFor => appended.others.iter_mut().for_each(|other| other.wait = Duration::ZERO),
            Lie::DroppedAtOnce => {
                let dropped = &self.state.lock().dropped;
                appended.others.retain(|other| !dropped.contains(&other.ticket));
            }
            _ => {}
        }
        Ok(appended)
    }

    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError> {
        self.state.lock().wants_fold = false;
        self.journal.fold(sequence, snapshot).await
    }

    fn tail_bytes(&self) -> u64 {
        if self.state.lock().wants_fold { u64::MAX } else { self.journal.tail_bytes() }
    }

    fn terms(&self) -> Option<Terms> {
        let mut terms = self.journal.terms()?;
        if self.lie == Lie::LeaseNotChecked {
            terms.lease = Duration::from_secs(3600);
        }
        Some(terms)
    }

    async fn look(&self) -> Result<Seen, JournalError> {
        let mut seen = self.journal.look().await?;
        match self.lie {
            Lie::LeaseFromTheAnswer => seen.began = self.now(),
            Lie::LeaseBeforeTheNews => seen.news = self.hold_back(seen.news),
            Lie::OutOfOrder => seen.news = self.release(seen.news),
            _ => {}
        }
        Ok(seen)
    }

    async fn pass_over(&self, tickets: &[Arc<str>]) -> Result<(), JournalError> {
        self.world.count("waits for silent members");
        self.state.lock().dropped.extend(tickets.iter().cloned());
        self.journal.pass_over(tickets).await
    }

    async fn leave(&self) -> Result<(), JournalError> {
        self.journal.leave().await
    }

    fn circle(&self) -> Option<Circle> {
        self.journal.circle()
    }

    fn nodes(&self) -> u32 {
        self.journal.nodes()
    }
}
