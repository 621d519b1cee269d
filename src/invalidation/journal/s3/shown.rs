//! What did the head say when it was last read or written? For those who ask without waiting: while the journal's state is locked, S3 is asked something.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::head::Head;
use crate::invalidation::journal::{Node, View};
use crate::page::Sequence;

/// Parts after the snapshot: when to fold although they are small, so that the head stays small.
const PARTS_MAX: usize = 500;
/// What is said then: more than any caller waits for.
const FOLD_NOW_BYTES: u64 = 1 << 40;

#[derive(Debug, Default)]
pub(super) struct Shown {
    tail_bytes: AtomicU64,
    nodes: AtomicU32,
    newest: AtomicU64,
    members: Mutex<Arc<[Node]>>,
    lost_swaps: AtomicU64,
}

impl Shown {
    pub(super) fn of(head: &Head) -> Self {
        let shown = Shown::default();
        shown.note(head);
        shown
    }

    /// This is the head now.
    pub(super) fn note(&self, head: &Head) {
        let crowded = if head.parts.len() > PARTS_MAX { FOLD_NOW_BYTES } else { 0 };
        let serving = head.members.values().filter(|member| member.passed_over.is_none()).count();
        let members = head.members.iter().map(|(id, member)| Node {
            id: Arc::clone(id),
            url: member.url.clone(),
            epoch: Arc::clone(&member.epoch),
            lease: member.lease(),
            joined: member.joined,
            passed_over: member.passed_over.is_some(),
        });
        *self.members.lock() = members.collect();
        self.tail_bytes.store(crowded + head.tail_bytes(), Ordering::Relaxed);
        self.nodes.store(u32::try_from(serving).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.newest.store(head.sequence.0, Ordering::Relaxed);
    }

    /// Another writer was first.
    pub(super) fn note_lost_swap(&self) {
        self.lost_swaps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn tail_bytes(&self) -> u64 {
        self.tail_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed)
    }

    pub(super) fn view(&self) -> View {
        View {
            newest: Sequence(self.newest.load(Ordering::Relaxed)),
            members: Arc::clone(&self.members.lock()),
            lost_swaps: self.lost_swaps.load(Ordering::Relaxed),
        }
    }
}
