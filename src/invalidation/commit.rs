//! The only writer of the journal: what waits goes into it as one batch (group commit), is applied, and only then answered.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::selector::Record;
use super::{NotDurable, Shared};
use crate::page::Sequence;

/// Records that go into the journal in one write.
const BATCH_MAX: usize = 1_000;
/// Bytes of journal after which it is folded into a snapshot.
const FOLD_BYTES: u64 = 32 << 20;

/// A record on its way into the journal, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: Arc<Record>,
    pub(super) answer: oneshot::Sender<Result<Sequence, NotDurable>>,
}

/// Writes what waits, as one batch (group commit), applies it, and only then answers.
pub(super) async fn commit(shared: Arc<Shared>, mut queue: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        let batch = Batch::gather(&shared, waiting.drain(..));
        if batch.records.is_empty() {
            continue;
        }
        let result = match shared.journal.append(&batch.records).await {
            Ok(last) => Ok(last.0 - batch.records.len() as u64),
            Err(error) => {
                tracing::error!(%error, records = batch.records.len(), "invalidations could not be made durable");
                Err(NotDurable::Journal(error.to_string().into()))
            }
        };
        if let Ok(before) = result {
            let numbered = batch.records.iter().zip(before + 1..).map(|(record, n)| (Sequence(n), Arc::clone(record)));
            shared.apply(&numbered.collect::<Vec<_>>());
        }
        batch.answer(&result);
        if shared.journal.tail_bytes() > FOLD_BYTES {
            shared.fold().await;
        }
    }
}

/// What goes into the journal in one write: records whose id is new, and who waits for which of them.
struct Batch {
    records: Vec<Arc<Record>>,
    answers: Vec<(usize, oneshot::Sender<Result<Sequence, NotDurable>>)>,
}

impl Batch {
    fn gather(shared: &Shared, waiting: impl Iterator<Item = Waiting>) -> Self {
        let mut batch = Batch { records: Vec::new(), answers: Vec::new() };
        let mut positions: HashMap<Arc<str>, usize> = HashMap::new();
        let past = shared.past.lock();
        for Waiting { record, answer } in waiting {
            if let Some(id) = &record.id {
                if let Some(sequence) = past.sequence_of(id) {
                    // The asker may be gone: then nobody needs to know.
                    let _ = answer.send(Ok(sequence));
                    continue;
                }
                if let Some(position) = positions.get(id) {
                    batch.answers.push((*position, answer));
                    continue;
                }
                positions.insert(Arc::clone(id), batch.records.len());
            }
            batch.answers.push((batch.records.len(), answer));
            batch.records.push(record);
        }
        batch
    }

    fn answer(self, before: &Result<u64, NotDurable>) {
        for (position, answer) in self.answers {
            let sequence = before.clone().map(|before| Sequence(before + 1 + position as u64));
            let _ = answer.send(sequence);
        }
    }
}
