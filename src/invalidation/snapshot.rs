//! What does a snapshot of the journal hold? The index and the ids of clients, as bytes. One that cannot be read invalidates everything up to it.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::index::Index;
use super::past::Past;
use super::selector::Record;
use crate::clock::UnixMillis;
use crate::page::Sequence;

/// Bytes that are read in a few milliseconds at most.
pub(super) const LARGE_BYTES: usize = 2 << 20;

/// The ids that clients chose, when, and for which record.
pub(super) type Ids = Vec<(UnixMillis, Arc<str>, Sequence)>;

/// The index that was folded into these bytes, and the ids that lie beside it.
pub(super) fn unfold(sequence: Sequence, bytes: &[u8]) -> (Index, Ids) {
    let whole = Index::from_bytes(bytes).and_then(|(index, rest)| Some((index, Past::ids_from_bytes(rest)?)));
    whole.unwrap_or_else(|| unreadable(sequence))
}

/// [`unfold`]. A large index is hundreds of megabytes, and the runtime's threads have requests to answer meanwhile.
pub(super) async fn unfold_beside(sequence: Sequence, bytes: Vec<u8>) -> (Index, Ids) {
    if bytes.len() < LARGE_BYTES {
        return unfold(sequence, &bytes);
    }
    spawn_blocking(move || unfold(sequence, &bytes)).await.unwrap_or_else(|_| unreadable(sequence))
}

fn unreadable(sequence: Sequence) -> (Index, Ids) {
    tracing::error!(%sequence, "the journal's snapshot cannot be read: every page up to it is invalid");
    let mut index = Index::default();
    index.apply(sequence, &Record { all: true, ..Record::default() });
    (index, Ids::new())
}
