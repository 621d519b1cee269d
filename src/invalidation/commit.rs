//! The only writer of the journal: what waits goes into it as one batch (group commit), is applied, and only then answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::folding::Folding;
use super::journal::Other;
use super::ring::{longest_wait, ring};
use super::selector::Record;
use super::{Made, NotDurable, OutOfReach, Shared};
use crate::page::Sequence;

/// Records that go into the journal in one write.
const BATCH_MAX: usize = 1_000;
/// Their bytes, about, unless one alone has more: far below what a reader takes for an object of the journal.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// How long taking leave of the other nodes may take: the process wants to end.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long overdue records wait for company before they are tried again: first, and at most.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// A record on its way into the journal, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: Arc<Record>,
    /// It names a change that has happened already: it takes effect at once, and is tried again until it is durable.
    pub(super) has_happened: bool,
    pub(super) answer: oneshot::Sender<Result<Made, NotDurable>>,
}

/// Writes what waits, as one batch (group commit), applies it, and only then answers.
pub(super) async fn commit(shared: Arc<Shared>, mut queue: mpsc::Receiver<Waiting>, waits: TaskTracker) {
    let mut waiting = Vec::new();
    let folding = Arc::new(Folding::new(shared.journal.terms().is_some()));
    let mut pause = RETRY_PAUSES.0;
    loop {
        // Whoever ends has but a moment, and comes once.
        if !queue.is_closed() {
            shared.journal.give_way().await;
        }
        let is_last = waiting.is_empty() && {
            let next = queue.recv_many(&mut waiting, BATCH_MAX);
            let is_overdue = shared.has_overdue.load(Ordering::Acquire);
            let count = if is_overdue { timeout(pause, next).await } else { Ok(next.await) };
            count == Ok(0)
        };
        hear_of_ids(&shared, &mut waiting).await;
        let batch = Batch::gather(&shared, &mut waiting);
        if !batch.is_empty() {
            let is_durable = write(&shared, batch, &waits).await;
            // What cannot be written must not keep the journal from being read.
            pause = if is_durable { RETRY_PAUSES.0 } else { (pause * 2).min(RETRY_PAUSES.1) };
        }
        if is_last {
            return leave(&shared).await;
        }
        folding.fold_if_due(&shared, &waits).await;
    }
}

/// The client that chose an id may have sent it to another node before, or to this one, whose write arrived although its answer was lost: its record shall
/// not be made twice. As long as nobody can say whether it was made, it is refused.
async fn hear_of_ids(shared: &Arc<Shared>, waiting: &mut Vec<Waiting>) {
    let Some(lease) = shared.lease.length() else { return };
    let is_unknown = |waiting: &Waiting| {
        let is_new = |id| shared.past.lock().sequence_of(id).is_none();
        !waiting.has_happened && waiting.record.id.as_ref().is_some_and(is_new)
    };
    if !waiting.iter().any(is_unknown) || shared.look(lease).await.is_ok() {
        return;
    }
    let reason = shared.lease.outage().map_or_else(|| OutOfReach.to_string(), |(_, reason)| reason);
    tracing::error!(error = %reason, "invalidations with an id could not be made: the journal may hold them already");
    let why = NotDurable::Journal(reason.into());
    for Waiting { answer, .. } in waiting.extract_if(.., |waiting| is_unknown(waiting)) {
        let _ = answer.send(Err(why.clone()));
    }
}

/// True if it is durable.
async fn write(shared: &Arc<Shared>, batch: Batch, waits: &TaskTracker) -> bool {
    let turn = shared.turn.lock().await;
    let appended = match shared.journal.append(&batch.records).await {
        Ok(appended) => appended,
        Err(error) => {
            tracing::error!(%error, records = batch.records.len(), "invalidations could not be made durable");
            batch.has_happened.iter().for_each(|position| shared.distrust(&batch.records[*position]));
            batch.refuse(&NotDurable::Journal(error.to_string().into()));
            return false;
        }
    };
    shared.take(appended.news).await;
    shared.lease.extend(appended.began);
    drop(turn);
    shared.trust(&batch.records);
    let last = appended.last;
    if appended.others.is_empty() {
        shared.settled.fetch_max(last.0, Ordering::Relaxed);
        batch.answer(last, &Told::default());
        return true;
    }
    // The next batch need not wait for this one's others.
    let (shared, durable) = (Arc::clone(shared), Instant::now());
    waits.spawn(async move {
        let told = tell(&shared, appended.others, last).await;
        if !told.silent.is_empty() {
            sleep_until(durable + longest_wait(&told.silent)).await;
            shared.tally.note_lease_waits(batch.askers.len());
        }
        shared.settled.fetch_max(last.0, Ordering::Relaxed);
        batch.answer(last, &told);
        pass_over(&shared, &told.silent).await;
    });
    true
}

/// What the other nodes have said.
#[derive(Default)]
struct Told {
    /// So many know the record.
    acknowledged: u32,
    /// Of these nobody knows.
    silent: Vec<Other>,
}

/// Rings the others.
async fn tell(shared: &Shared, others: Vec<Other>, sequence: Sequence) -> Told {
    let (Some(bell), Some(circle)) = (&shared.bell, shared.journal.circle()) else {
        return Told { acknowledged: 0, silent: others };
    };
    let mut told = Told::default();
    for (other, heard) in ring(bell, &circle, &shared.journal_id, others, sequence).await {
        shared.tally.note_ring(heard);
        match heard {
            Ok(()) => told.acknowledged += 1,
            Err(_) => told.silent.push(other),
        }
    }
    told
}

/// None of them can serve what they knew: the next invalidation need not wait for them again.
async fn pass_over(shared: &Shared, silent: &[Other]) {
    let tickets: Vec<_> = silent.iter().map(|other| Arc::clone(&other.ticket)).collect();
    if tickets.is_empty() {
        return;
    }
    if let Err(error) = shared.journal.pass_over(&tickets).await {
        tracing::debug!(%error, "other nodes will be waited for again");
    }
}

async fn leave(shared: &Shared) {
    match timeout(LEAVE_PATIENCE, shared.journal.leave()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the next invalidation waits for this node although it is gone"),
        Err(_) => {
            tracing::warn!("the next invalidation waits for this node although it is gone: the journal does not answer")
        }
    }
}

/// What goes into the journal in one write: records whose id is new, and who waits for which of them.
struct Batch {
    records: Vec<Arc<Record>>,
    /// The positions of those that name what has happened already.
    has_happened: Vec<usize>,
    askers: Vec<Asker>,
}

/// Somebody who waits for a record.
struct Asker {
    record: Place,
    /// By its id, it is somebody else's record, or an earlier one of the same client.
    is_repeated: bool,
    answer: oneshot::Sender<Result<Made, NotDurable>>,
}

/// Where a record is.
enum Place {
    /// At this position in the batch.
    Here(usize),
    /// In the journal already, while other nodes may not know it yet.
    There(Sequence),
}

impl Batch {
    /// Takes what fits, and one of those who wait at least.
    fn gather(shared: &Shared, waiting: &mut Vec<Waiting>) -> Self {
        let mut room = BATCH_BYTES_MAX;
        let mut fits = |record: &Arc<Record>| {
            let bytes = record.bytes();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let records: Vec<_> = shared.overdue.lock().records.iter().take_while(|record| fits(record)).cloned().collect();
        let count = waiting.iter().take_while(|waiting| fits(&waiting.record)).count();
        let waiting = waiting.drain(..count.max(1).min(waiting.len()));
        let has_happened = (0..records.len()).collect();
        let mut batch = Batch { records, has_happened, askers: Vec::new() };
        let mut positions: HashMap<Arc<str>, usize> = HashMap::new();
        let past = shared.past.lock();
        for Waiting { record, has_happened, answer } in waiting {
            // Its asker did not wait, and it is overdue by now.
            if has_happened && batch.records.iter().any(|known| Arc::ptr_eq(known, &record)) {
                continue;
            }
            if let Some(id) = &record.id {
                if let Some(sequence) = past.sequence_of(id) {
                    if sequence.0 <= shared.settled.load(Ordering::Relaxed) {
                        // The asker may be gone: then nobody needs to know.
                        let _ = answer.send(Ok(Made::before(sequence, shared.journal.nodes())));
                    } else {
                        batch.askers.push(Asker { record: Place::There(sequence), is_repeated: true, answer });
                    }
                    continue;
                }
                if let Some(position) = positions.get(id) {
                    batch.askers.push(Asker { record: Place::Here(*position), is_repeated: true, answer });
                    continue;
                }
                positions.insert(Arc::clone(id), batch.records.len());
            }
            if has_happened {
                batch.has_happened.push(batch.records.len());
            }
            let record_is = Place::Here(batch.records.len());
            batch.askers.push(Asker { record: record_is, is_repeated: false, answer });
            batch.records.push(record);
        }
        batch
    }

    /// Nothing to write, and nobody to wait for.
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.askers.is_empty()
    }

    /// All of it is durable, up to `last`, and nobody serves anything older.
    fn answer(self, last: Sequence, told: &Told) {
        let before = last.0 - self.records.len() as u64;
        let name = |other: &Other| Arc::clone(other.url.as_ref().unwrap_or(&other.node));
        let waited_out: Arc<[Arc<str>]> = told.silent.iter().map(name).collect();
        let nodes = 1 + told.acknowledged + u32::try_from(waited_out.len()).unwrap_or(u32::MAX);
        for Asker { record, is_repeated, answer } in self.askers {
            let sequence = match record {
                Place::Here(position) => Sequence(before + 1 + position as u64),
                Place::There(sequence) => sequence,
            };
            let (acknowledged, waited_out) = (told.acknowledged, Arc::clone(&waited_out));
            let _ = answer.send(Ok(Made { sequence, nodes, acknowledged, waited_out, is_repeated }));
        }
    }

    fn refuse(self, why: &NotDurable) {
        for asker in self.askers {
            let _ = asker.answer.send(Err(why.clone()));
        }
    }
}
