//! A journal that several nodes share, in memory: it can be out of reach, and it can hang.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use everpage::clock::{Clock, Ticks};
use everpage::invalidation::journal::{Appended, Journal, JournalError, Other, Recovered, Seen, Terms};
use everpage::invalidation::selector::Record;
use everpage::page::{JournalId, Sequence};
use parking_lot::Mutex;

pub const LEASE: Duration = Duration::from_secs(2);

/// What all nodes share.
#[derive(Debug, Default)]
pub struct Ledger {
    records: Mutex<Vec<Arc<Record>>>,
    snapshot: Mutex<Option<(Sequence, Vec<u8>)>>,
    members: Mutex<BTreeSet<u64>>,
    /// Everything fails.
    pub is_gone: AtomicBool,
    /// It is another one.
    pub is_lost: AtomicBool,
    /// Looks do not end.
    pub hangs: AtomicBool,
    pub looks: AtomicU64,
}

/// One node's view of it.
#[derive(Debug)]
pub struct Reader {
    ledger: Arc<Ledger>,
    clock: Clock,
    node: u64,
    told: Mutex<Sequence>,
    began: Ticks,
}

impl Ledger {
    /// A node that begins to read now.
    pub fn reader(self: &Arc<Self>, clock: Clock) -> (Arc<Reader>, Recovered) {
        let mut members = self.members.lock();
        let node = members.len() as u64;
        members.insert(node);
        let told = Mutex::new(Sequence(0));
        let reader = Reader { ledger: Arc::clone(self), clock, node, told, began: clock.ticks() };
        let recovered = reader.news();
        (Arc::new(reader), recovered)
    }

    /// Puts a snapshot in the place of all records so far.
    pub fn fold(&self, snapshot: Vec<u8>) {
        let last = Sequence(self.records.lock().len() as u64);
        *self.snapshot.lock() = Some((last, snapshot));
    }

    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }
}

impl Reader {
    fn news(&self) -> Recovered {
        let mut told = self.told.lock();
        let snapshot = self.ledger.snapshot.lock().clone().filter(|(last, _)| *last > *told);
        let known = snapshot.as_ref().map_or(*told, |(last, _)| *last);
        let all = self.ledger.records.lock();
        let numbered = (1..).map(Sequence).zip(all.iter().cloned());
        *told = Sequence(all.len() as u64);
        Recovered { snapshot, records: numbered.filter(|(sequence, _)| *sequence > known).collect() }
    }
}

#[async_trait]
impl Journal for Reader {
    fn id(&self) -> JournalId {
        JournalId("shared".into())
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        if self.ledger.is_gone.load(Ordering::SeqCst) {
            return Err(JournalError::new("append", "gone"));
        }
        let began = self.clock.ticks();
        let last = {
            let mut all = self.ledger.records.lock();
            all.extend(records.iter().cloned());
            Sequence(all.len() as u64)
        };
        let members = self.ledger.members.lock();
        let other = |node: &u64| Other {
            node: node.to_string().into(),
            ticket: node.to_string().into(),
            url: None,
            wait: LEASE,
        };
        let others = members.iter().filter(|node| **node != self.node).map(other).collect();
        Ok(Appended { last, news: self.news(), began, others })
    }

    async fn fold(&self, _: Sequence, _: Vec<u8>) -> Result<(), JournalError> {
        Ok(())
    }

    fn tail_bytes(&self) -> u64 {
        0
    }

    fn terms(&self) -> Option<Terms> {
        Some(Terms { lease: LEASE, clock: self.clock, began: self.began })
    }

    async fn look(&self) -> Result<Seen, JournalError> {
        self.ledger.looks.fetch_add(1, Ordering::SeqCst);
        let began = self.clock.ticks();
        while self.ledger.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.ledger.is_gone.load(Ordering::SeqCst) {
            return Err(JournalError::new("look", "gone"));
        }
        if self.ledger.is_lost.load(Ordering::SeqCst) {
            return Err(JournalError::lost("look", "another"));
        }
        Ok(Seen { news: self.news(), began })
    }

    async fn leave(&self) -> Result<(), JournalError> {
        self.ledger.members.lock().remove(&self.node);
        Ok(())
    }
}
