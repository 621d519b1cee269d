//! A journal that takes its time, fails, and survives the process.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use everpage::invalidation::journal::{Appended, Journal, JournalError, Recovered};
use everpage::invalidation::selector::Record;
use everpage::page::{JournalId, Sequence};
use parking_lot::Mutex;

use super::world::{Breach, World};

/// For how long a journal that answers early could still lose its last records, in milliseconds.
const UNSYNCED: u64 = 500;

#[derive(Debug)]
pub struct SimulatedJournal {
    world: Arc<World>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    recovered: Recovered,
    /// Appends that failed.
    failures: u64,
    /// What the next `tail_bytes` says.
    wants_fold: bool,
    /// With [`Breach::JournalAnswersEarly`]: a crash before this moment leaves the records up to this one.
    unsynced: Option<(u64, Sequence)>,
}

impl SimulatedJournal {
    pub fn new(world: &Arc<World>) -> Self {
        SimulatedJournal { world: Arc::clone(world), kept: Mutex::default() }
    }

    /// What a restart reads.
    pub fn recover(&self) -> Recovered {
        let mut kept = self.kept.lock();
        if self.world.breach == Breach::JournalForgotten {
            kept.recovered = Recovered::default();
        }
        if let Some((until, before)) = kept.unsynced.take()
            && self.world.milliseconds() < until
        {
            kept.recovered.records.retain(|(sequence, _)| *sequence <= before);
        }
        if kept.recovered.snapshot.is_some() {
            self.world.count("starts from a snapshot");
        }
        kept.recovered.clone()
    }

    pub fn failures(&self) -> u64 {
        self.kept.lock().failures
    }

    fn keep(&self, record: &Arc<Record>) -> Sequence {
        let mut kept = self.kept.lock();
        let next = Sequence(kept.recovered.last().0 + 1);
        kept.recovered.records.push_back((next, Arc::clone(record)));
        next
    }

    fn replace(&self, sequence: Sequence, snapshot: Vec<u8>) {
        let mut kept = self.kept.lock();
        let records: VecDeque<_> = kept.recovered.records.drain(..).filter(|(number, _)| *number > sequence).collect();
        kept.recovered = Recovered { snapshot: Some((sequence, snapshot)), records };
    }
}

#[async_trait]
impl Journal for SimulatedJournal {
    fn id(&self) -> JournalId {
        JournalId("simulated".into())
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let before = self.kept.lock().recovered.last();
        if self.world.breach == Breach::JournalAnswersEarly {
            for record in records {
                self.keep(record);
            }
            let mut kept = self.kept.lock();
            kept.unsynced = Some((self.world.milliseconds() + UNSYNCED, before));
            return Ok(Appended::alone(kept.recovered.last(), records));
        }
        self.world.pause().await;
        // A crash in between leaves the first of them.
        for record in records {
            let sequence = self.keep(record);
            self.world.note(format_args!("journal: record {sequence} is durable"));
            self.world.pause().await;
        }
        if self.world.chance(self.world.weather.journal_fails) {
            let mut kept = self.kept.lock();
            let left = kept.recovered.records.len() - records.len();
            kept.recovered.records.truncate(left);
            kept.failures += 1;
            drop(kept);
            self.world.note(format_args!("journal: append fails after record {before}"));
            self.world.count("journal failures");
            return Err(JournalError::new(format!("append {} records", records.len()), "simulated"));
        }
        self.world.pause().await;
        let wants_fold = self.world.chance(self.world.weather.journal_folds);
        let mut kept = self.kept.lock();
        kept.wants_fold = wants_fold;
        Ok(Appended::alone(kept.recovered.last(), records))
    }

    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError> {
        self.kept.lock().wants_fold = false;
        self.world.pause().await;
        if self.world.chance(self.world.weather.journal_fails) {
            return Err(JournalError::new("fold", "simulated"));
        }
        self.world.count("folds");
        self.replace(sequence, snapshot);
        self.world.pause().await;
        Ok(())
    }

    fn tail_bytes(&self) -> u64 {
        if self.kept.lock().wants_fold { u64::MAX } else { 0 }
    }
}
