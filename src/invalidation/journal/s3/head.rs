//! What does the head of a shared journal say, and how may it change? Pure: no I/O, no clock.
//!
//! The head is one object, replaced as a whole by compare-and-swap. It names everything else, so whoever has read it knows what there is.
//!
//! # Members
//!
//! A member may serve from what it knows, for its lease after the beginning of its last look. Whoever appends waits for the leases of all other
//! members to run out. One that is dead would be waited for again and again; so it is *passed over* and then dropped, in two steps:
//!
//! 1. Having waited, a node marks the member, with a word of its own for this mark. A live member sees the mark at its next look and joins again, with
//!    a new epoch, before it serves anything.
//! 2. A node that has known one and the same mark for longer than the member's lease need not wait for it any more, and drops it: a look that
//!    did not show the mark began before that, so its lease has run out.
//!
//! Dropping at once would be wrong: the member's last look may have begun just before, and the next invalidation would not wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chance;
use crate::clock::UnixMillis;
use crate::invalidation::selector::Record;
use crate::page::{JournalId, Sequence};

/// Bytes of records that stand in the head itself; beyond, they move into an object of their own. A look that finds something new reads them.
pub(super) const INLINE_BYTES: usize = 64 << 10;

/// Parts whose words are kept: an append that has lost its answer looks for its word a moment later, or never.
const TOKENS_IN_PARTS: usize = 4;

/// Nodes of one journal.
pub(super) const MEMBERS_MAX: usize = 256;

/// The head. Fields of newer versions are kept as they are, here and in all that it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) journal: JournalId,
    /// Different in each version: identical bytes have identical entity tags.
    pub(super) nonce: String,
    /// What only those know who can read this: nodes show it when they ring each other.
    pub(super) secret: Arc<str>,
    /// The number of the newest record.
    pub(super) sequence: Sequence,
    pub(super) snapshot: Option<Part>,
    /// The records after the snapshot, in order, without a gap.
    pub(super) parts: VecDeque<Part>,
    pub(super) batches: VecDeque<Batch>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Objects that nothing needs since the last fold; the next removes them.
    pub(super) unneeded: Vec<String>,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

/// Records, or the folded index, in an object of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// The first record in it; of a snapshot, 1.
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    pub(super) key: String,
    pub(super) bytes: u64,
    /// The words of its batches, as far as somebody may still look for them.
    #[serde(default)]
    pub(super) tokens: Vec<(Arc<str>, Sequence)>,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

/// Records that were appended in one go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) first: Sequence,
    /// By this word whoever appended them finds out that it did.
    pub(super) token: Arc<str>,
    /// As they were written: what is not understood here is for somebody else.
    pub(super) records: Vec<Value>,
    pub(super) bytes: usize,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

/// A node that may serve from what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Another one each time it joins.
    pub(super) epoch: Arc<str>,
    pub(super) lease_ms: u64,
    /// Where it can be rung.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<Arc<str>>,
    pub(super) joined: UnixMillis,
    /// The mark of whoever passed it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) passed_over: Option<Arc<str>>,
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

impl Member {
    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

impl Batch {
    pub(super) fn new(token: Arc<str>, records: &[Arc<Record>]) -> Self {
        let records: Vec<Value> =
            records.iter().map(|record| serde_json::to_value(record).expect("a record is JSON")).collect();
        let bytes = records.iter().map(|record| record.to_string().len()).sum();
        Batch { first: Sequence(0), token, records, bytes, others: Map::new() }
    }

    /// An object that will hold it, behind whatever there is then: its numbers are those of the head that names it.
    pub(super) fn part(&self, key: String) -> Part {
        let last = Sequence(self.records.len() as u64);
        let tokens = vec![(Arc::clone(&self.token), last)];
        Part { first: Sequence(1), last, key, bytes: self.bytes as u64, tokens, others: Map::new() }
    }

    /// Takes away the records before `first`.
    fn cut(&mut self, first: Sequence) {
        let gone = usize::try_from(first.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX).min(self.records.len());
        self.bytes -= self.records.drain(..gone).map(|record| record.to_string().len()).sum::<usize>();
        self.first = first;
    }

    pub(super) fn last(&self) -> Sequence {
        Sequence(self.first.0 + self.records.len() as u64 - 1)
    }

    /// The records with their numbers. One that cannot be read was written by a newer version: nobody knows what it names.
    pub(super) fn numbered(self) -> impl Iterator<Item = (Sequence, Arc<Record>)> {
        (self.first.0..).map(Sequence).zip(self.records).map(|(sequence, record)| {
            let record = Record::deserialize(&record).unwrap_or_else(|error| {
                tracing::warn!(%sequence, %error, "a record of a newer version: every page up to it is invalid");
                Record { all: true, ..Record::default() }
            });
            (sequence, Arc::new(record))
        })
    }
}

impl Head {
    pub(super) fn new(journal: JournalId) -> Self {
        Head {
            journal,
            nonce: String::new(),
            secret: random_word(),
            sequence: Sequence(0),
            snapshot: None,
            parts: VecDeque::new(),
            batches: VecDeque::new(),
            members: BTreeMap::new(),
            unneeded: Vec::new(),
            others: Map::new(),
        }
    }

    /// The head of a journal that takes the place of another. Nodes of that one may serve for a while from what they knew, without being members: somebody
    /// stands for them, who will never answer.
    pub(super) fn after_another(journal: JournalId, longest_lease: Duration, now: UnixMillis) -> Self {
        let mut head = Head::new(journal);
        head.join(&"those before".into(), longest_lease, None, now);
        head
    }

    /// The number up to which everything is folded.
    pub(super) fn folded(&self) -> Sequence {
        self.snapshot.as_ref().map(|snapshot| snapshot.last).unwrap_or_default()
    }

    /// Does every record after the snapshot stand somewhere, once?
    pub(super) fn is_whole(&self) -> bool {
        let mut next = self.folded().0 + 1;
        let parts = self.parts.iter().map(|part| (part.first, part.last));
        let batches = self.batches.iter().map(|batch| (batch.first, batch.last()));
        for (first, last) in parts.chain(batches) {
            if first.0 != next || last < first {
                return false;
            }
            next = last.0 + 1;
        }
        next == self.sequence.0 + 1
    }

    /// Bytes of records after the snapshot.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum::<u64>() + self.inline_bytes() as u64
    }

    pub(super) fn inline_bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.bytes).sum()
    }

    /// Adds a batch behind the newest record.
    pub(super) fn append(&mut self, mut batch: Batch) {
        batch.first = Sequence(self.sequence.0 + 1);
        self.sequence = batch.last();
        self.batches.push_back(batch);
    }

    /// Adds an object that was made by [`Batch::part`] behind the newest record. No batch may stand here.
    pub(super) fn append_part(&mut self, mut part: Part) {
        let before = self.sequence.0;
        (part.first, part.last) = (Sequence(before + part.first.0), Sequence(before + part.last.0));
        part.tokens.iter_mut().for_each(|(_, last)| last.0 += before);
        self.sequence = part.last;
        self.push(part);
    }

    fn push(&mut self, part: Part) {
        let forgotten = self.parts.len().saturating_sub(TOKENS_IN_PARTS);
        self.parts.iter_mut().take(forgotten).for_each(|part| part.tokens.clear());
        self.parts.push_back(part);
    }

    /// Does it need this object, or may somebody who reads an older head?
    pub(super) fn names(&self, key: &str) -> bool {
        let parts = self.parts.iter().chain(&self.snapshot).map(|part| &part.key);
        parts.chain(&self.unneeded).any(|known| known == key)
    }

    /// Puts an object in the place of the batches that stand here.
    pub(super) fn move_out(&mut self, key: String) {
        let (Some(first), Some(last)) = (self.batches.front(), self.batches.back()) else { return };
        let (first, last, bytes) = (first.first, last.last(), self.inline_bytes() as u64);
        let tokens = self.batches.drain(..).map(|batch| (Arc::clone(&batch.token), batch.last())).collect();
        self.push(Part { first, last, key, bytes, tokens, others: Map::new() });
    }

    /// The sequence of the last record of the batch with this word; `None`: it is not here, or folded already.
    pub(super) fn find(&self, token: &str) -> Option<Sequence> {
        let moved = self.parts.iter().flat_map(|part| &part.tokens).map(|(token, last)| (token, *last));
        let inline = self.batches.iter().map(|batch| (&batch.token, batch.last()));
        let last = moved.chain(inline).find(|(known, _)| &***known == token).map(|(_, last)| last);
        // An object of one batch bears its word in its name, however many have come since.
        last.or_else(|| self.parts.iter().find(|part| part.key.ends_with(token)).map(|part| part.last))
    }

    /// Puts a snapshot in the place of what it stands for. Returns the objects that may be removed now: those that were not needed at the fold before.
    /// Whoever reads an old head still finds what it names.
    pub(super) fn fold(&mut self, snapshot: Part) -> Vec<String> {
        let removable = std::mem::take(&mut self.unneeded);
        self.unneeded.extend(self.snapshot.take().map(|old| old.key));
        while let Some(part) = self.parts.pop_front_if(|part| part.last <= snapshot.last) {
            self.unneeded.push(part.key);
        }
        while self.batches.pop_front_if(|batch| batch.last() <= snapshot.last).is_some() {}
        // The snapshot may end within one of them.
        let next = Sequence(snapshot.last.0 + 1);
        if let Some(part) = self.parts.front_mut() {
            part.first = next;
        } else if let Some(batch) = self.batches.front_mut() {
            batch.cut(next);
        }
        self.snapshot = Some(snapshot);
        removable
    }

    /// Those who have not been heard of, passed over under this word. True if there were any.
    pub(super) fn pass_over(&mut self, tickets: &[Arc<str>], mark: &Arc<str>) -> bool {
        let mut is_changed = false;
        for (node, member) in &mut self.members {
            if member.passed_over.is_none() && tickets.contains(&ticket(node, &member.epoch)) {
                member.passed_over = Some(Arc::clone(mark));
                is_changed = true;
            }
        }
        is_changed
    }

    /// Is this ticket one of a member that nobody has passed over?
    pub(super) fn may_pass_over(&self, ticket: &str) -> bool {
        let node = ticket.split('/').next().unwrap_or_default();
        let member = self.members.get(node).filter(|member| member.passed_over.is_none());
        member.is_some_and(|member| *self::ticket(node, &member.epoch) == *ticket)
    }

    /// The node serves from now on, under a new epoch.
    pub(super) fn join(&mut self, node: &Arc<str>, lease: Duration, url: Option<&Arc<str>>, now: UnixMillis) {
        let epoch = random_word();
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let member = Member { epoch, lease_ms, url: url.cloned(), joined: now, passed_over: None, others: Map::new() };
        self.members.insert(Arc::clone(node), member);
    }

    /// May the node serve?
    pub(super) fn admits(&self, node: &str) -> bool {
        self.members.get(node).is_some_and(|member| member.passed_over.is_none())
    }
}

/// A word that nobody else has.
pub(super) fn random_word() -> Arc<str> {
    chance::word().into()
}

/// A member as it was when it was waited for.
pub(super) fn ticket(node: &str, epoch: &str) -> Arc<str> {
    format!("{node}/{epoch}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invalidation::journal::contract::record;

    fn head() -> Head {
        Head::new(JournalId("j".into()))
    }

    fn batch(token: &str, numbers: std::ops::RangeInclusive<u64>) -> Batch {
        Batch::new(token.into(), &numbers.map(record).collect::<Vec<_>>())
    }

    fn part(first: u64, last: u64, key: &str) -> Part {
        let (first, last) = (Sequence(first), Sequence(last));
        Part { first, last, key: key.into(), bytes: 10, tokens: Vec::new(), others: Map::new() }
    }

    #[test]
    fn a_batch_is_found_by_its_word_wherever_it_stands() {
        let mut head = head();
        head.append(batch("a", 1..=3));
        head.append(batch("b", 4..=4));
        assert_eq!((head.find("a"), head.find("b"), head.find("c")), (Some(Sequence(3)), Some(Sequence(4)), None));
        head.move_out("records/1".into());
        head.append(batch("c", 5..=6));
        assert_eq!((head.find("a"), head.find("b")), (Some(Sequence(3)), Some(Sequence(4))));
        assert_eq!(head.find("c"), Some(Sequence(6)));
        assert!(head.is_whole());
    }

    #[test]
    fn a_batch_in_an_object_of_its_own_is_found_however_many_have_come_since() {
        let mut head = head();
        for number in 1..=20 {
            let batch = batch(&format!("word-{number}"), 1..=2);
            head.append_part(batch.part(format!("default/journal/records/{}", batch.token)));
        }
        assert_eq!((head.find("word-1"), head.find("word-20")), (Some(Sequence(2)), Some(Sequence(40))));
        assert_eq!(head.find("word-21"), None);
    }

    #[test]
    fn what_a_fold_leaves_behind_is_removed_by_the_one_after_it() {
        let mut head = head();
        head.append(batch("a", 1..=2));
        head.move_out("records/1".into());
        head.append(batch("b", 3..=3));
        assert!(head.fold(part(1, 2, "snapshot/2")).is_empty());
        assert!(head.is_whole());
        assert_eq!((head.folded(), head.batches.len()), (Sequence(2), 1));
        assert_eq!(head.fold(part(1, 3, "snapshot/3")), ["records/1"]);
        assert_eq!(head.unneeded, ["snapshot/2"]);
        assert!(head.is_whole());
    }

    #[test]
    fn a_gap_is_seen() {
        let mut head = head();
        head.append(batch("a", 1..=2));
        head.append(batch("b", 3..=3));
        head.batches.pop_front();
        assert!(!head.is_whole());
    }

    #[test]
    fn whoever_was_passed_over_may_not_serve_until_it_joins_again() {
        let (mut head, node) = (head(), Arc::from("n"));
        assert!(!head.admits(&node));
        head.join(&node, Duration::from_secs(2), None, UnixMillis(0));
        assert!(head.admits(&node));
        head.members.get_mut(&node).unwrap().passed_over = Some("mark".into());
        assert!(!head.admits(&node));
        let epoch = Arc::clone(&head.members[&node].epoch);
        head.join(&node, Duration::from_secs(2), None, UnixMillis(0));
        assert!(head.admits(&node));
        assert_ne!(head.members[&node].epoch, epoch);
    }

    #[test]
    fn fields_of_a_newer_version_stay_and_records_of_one_name_everything() {
        let mut written = head();
        written.join(&"n".into(), Duration::from_secs(2), None, UnixMillis(0));
        written.append(batch("z", 1..=1));
        written.move_out("records/1".into());
        written.append(batch("y", 2..=2));
        let mut json = serde_json::to_value(written).unwrap();
        for place in ["/settled", "/members/n/settled", "/parts/0/settled", "/batches/0/settled"] {
            let (parent, name) = place.rsplit_once('/').unwrap();
            json.pointer_mut(parent).unwrap()[name] = Value::from(7);
        }
        let mut head: Head = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&head).unwrap(), json);
        let mut newer = batch("a", 1..=2);
        newer.records[0]["wildcards"] = Value::from("/a*");
        head.append(newer);
        let read: Vec<_> = head.batches[1].clone().numbered().collect();
        assert!(read[0].1.all);
        assert_eq!((read[1].0, &read[1].1), (Sequence(4), &record(2)));
    }
}
