//! What is remembered of records beyond the index: the newest of them, for people, and the ids that clients chose, for their retries.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::selector::Record;
use super::snapshot::Ids;
use crate::clock::UnixMillis;
use crate::page::Sequence;

/// Records remembered for `GET /invalidations`.
const RECENT_MAX: usize = 1_000;
/// Paths, prefixes and tags that these may hold together: a record may name a hundred thousand.
const RECENT_NAMES_MAX: usize = 200_000;
/// How long a client-chosen id is remembered.
const ID_MEMORY_MILLIS: u64 = 48 * 3600 * 1000;
/// Ids remembered at most; the oldest go first.
const IDS_MAX: usize = 500_000;

/// What is remembered of records beyond the index.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) recent: VecDeque<(Sequence, Arc<Record>)>,
    recent_names: usize,
    by_id: HashMap<Arc<str>, Sequence>,
    ids: VecDeque<(UnixMillis, Arc<str>)>,
}

impl Past {
    pub(super) fn remember(&mut self, sequence: Sequence, record: &Arc<Record>) {
        self.recent.push_back((sequence, Arc::clone(record)));
        self.recent_names += record.names();
        // The newest always stays.
        while self.recent.len() > RECENT_MAX || (self.recent_names > RECENT_NAMES_MAX && self.recent.len() > 1) {
            let Some((_, oldest)) = self.recent.pop_front() else { break };
            self.recent_names -= oldest.names();
        }
        if let Some(id) = &record.id {
            self.remember_id(record.at, Arc::clone(id), sequence);
        }
    }

    pub(super) fn remember_ids(&mut self, ids: Ids) {
        ids.into_iter().for_each(|(at, id, sequence)| self.remember_id(at, id, sequence));
    }

    fn remember_id(&mut self, at: UnixMillis, id: Arc<str>, sequence: Sequence) {
        while let Some((oldest, _)) = self.ids.front()
            && (self.ids.len() >= IDS_MAX || at.0.saturating_sub(oldest.0) > ID_MEMORY_MILLIS)
        {
            let (_, id) = self.ids.pop_front().expect("there is a front");
            self.by_id.remove(&id);
        }
        // A snapshot tells again what was known: its place in the queue stays.
        if self.by_id.insert(Arc::clone(&id), sequence).is_none() {
            self.ids.push_back((at, id));
        }
    }

    /// The sequence that the id's record took.
    pub(super) fn sequence_of(&self, id: &Arc<str>) -> Option<Sequence> {
        self.by_id.get(id).copied()
    }

    pub(super) fn ids_to_bytes(&self, bytes: &mut Vec<u8>) {
        let ids: Vec<_> = self.ids.iter().filter_map(|(at, id)| Some((at, id, self.by_id.get(id)?))).collect();
        serde_json::to_writer(bytes, &ids).expect("numbers and strings are JSON, and a Vec takes every byte");
    }

    pub(super) fn ids_from_bytes(bytes: &[u8]) -> Option<Ids> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_remembered_as_far_as_their_names_find_room() {
        let mut past = Past::default();
        let large = Arc::new(Record { tags: vec!["t".into(); 100_000], ..Record::default() });
        (1..=10).for_each(|sequence| past.remember(Sequence(sequence), &large));
        assert_eq!(past.recent.iter().map(|(sequence, _)| sequence.0).collect::<Vec<_>>(), [9, 10]);
        let small = Arc::new(Record { all: true, ..Record::default() });
        (11..=3000).for_each(|sequence| past.remember(Sequence(sequence), &small));
        assert_eq!((past.recent.len(), past.recent_names), (RECENT_MAX, 0));
    }

    #[test]
    fn ids_are_remembered_for_two_days_and_bounded() {
        let mut past = Past::default();
        past.remember_id(UnixMillis(0), "old".into(), Sequence(1));
        past.remember_id(UnixMillis(ID_MEMORY_MILLIS), "new".into(), Sequence(2));
        assert!(past.by_id.contains_key("old"));
        past.remember_id(UnixMillis(ID_MEMORY_MILLIS + 1), "newer".into(), Sequence(3));
        assert!(!past.by_id.contains_key("old"));
        let mut bytes = Vec::new();
        past.ids_to_bytes(&mut bytes);
        assert_eq!(Past::ids_from_bytes(&bytes).unwrap().len(), 2);
    }
}
