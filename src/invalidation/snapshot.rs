//! What does a snapshot of the journal hold? The index and the ids of clients, as bytes. One that cannot be read invalidates everything up to it.

use super::index::Index;
use super::past::Past;
use super::selector::Record;
use crate::page::Sequence;

/// The index that was folded into these bytes; the ids that lie beside it go into `past`.
pub(super) fn unfold(sequence: Sequence, bytes: &[u8], past: &mut Past) -> Index {
    match Index::from_bytes(bytes).and_then(|(index, rest)| Some((index, Past::ids_from_bytes(rest)?))) {
        Some((index, ids)) => {
            ids.into_iter().for_each(|(at, id, sequence)| past.remember_id(at, id, sequence));
            index
        }
        None => {
            tracing::error!(%sequence, "the journal's snapshot cannot be read: every page up to it is invalid");
            let mut index = Index::default();
            index.apply(sequence, &Record { all: true, ..Record::default() });
            index
        }
    }
}
