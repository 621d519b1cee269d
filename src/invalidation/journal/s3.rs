//! A journal in a bucket: many nodes write to it, and nothing else has to run.
//!
//! ```text
//! <flavor>/journal/head                       who may serve, the newest records, the names of everything else
//! <flavor>/journal/records/<first>-<word>     older records
//! <flavor>/journal/records/<word>             very many, appended in one go: they have the numbers that the head says
//! <flavor>/journal/snapshots/<last>-<word>    the folded index
//! <flavor>/journal/lock                       only where the server cannot swap: [`open_alone`]
//! ```
//!
//! - The head changes by compare-and-swap alone (`If-Match`; the first by `If-None-Match: *`): that makes the order of all records. Everything it
//!   names is written before it and never changed.
//! - A swap that was lost (412) is tried again on the head that won. One whose answer is lost may have been carried out: the head is read, and the word
//!   of the batch looked for in it. The word is the same at each try, and at most one of them can succeed.
//! - Who has appended gives way before it appends again, so that each node gets its turn (`turns`). A node without others never waits.
//! - A large batch is written once, before the head that will name it is known. What was written for a swap that was lost is removed once a later
//!   head has been seen, since it cannot be carried out any more; what is forgotten, by the sweeper after a day ([`leftovers`]).
//! - A node that starts reads everything first and joins with a swap on the head that it has read to the end. If that is lost, it reads only what is new.
//! - Who was waited for in vain is marked by the next append in the same swap, or by one of its own if none comes. A mark has a new word for each try.
//! - An append whose outcome stays unknown is an error: nothing is claimed. If it was carried out, the next look shows it like a record of somebody else.
//! - A look is a conditional GET. It counts only if it shows this node as a member; otherwise the node joins again first.
//! - A head of another journal, or none, is never taken over while the process lives: the lease runs out, and requests go to the origin.
//! - One call at a time: a look waits for an append that is under way. What the append has read on its way is not told before it ends, and a look beside it
//!   could make the lease longer before that is applied. So a write that hangs, or that others are ahead of again and again, may cost the
//!   lease: requests go to the origin for at most `PATIENCE`, or `PATIENCE_AMONG_OTHERS`, and before that for as long as a large batch takes to be
//!   written: slower, and never wrong.
//!
//! # Versions side by side
//!
//! While a deploy rolls, nodes of two versions share a journal. What a newer version may add, and what becomes of it on a node that does not know it:
//!
//! - **A field** of the head, a member, a part or a batch is kept as it is, through every swap. So it may only say what stays true when others go on
//!   without it. (Numbers are kept as far as 64 bits hold them.)
//! - **A record** in which anything is unknown names every page. Its own bytes stay as they were written, for those who understand them, until it is
//!   folded: by a node that does not, as "every page up to here".
//! - **A snapshot** in which anything is unknown invalidates every page up to it.
//! - **Anything else** raises the number in an object's first line (`envelope`). A node that does not read it is not started; one that runs goes to the
//!   origin, whatever `cluster.on_store_outage` says, and tells why, until it can read the journal again. It never writes over such a head. So a
//!   form is written only by a version whose predecessor reads it, or once all older nodes are gone.
//!
//! It relies on the bucket's promise that a read which begins after a write has been answered sees it (S3's strong consistency), and on swaps that only
//! one of several writers can win. Where a server breaks the latter, one node can use it, by a lock: [`open_alone`], which says what remains possible.

mod alone;
mod changing;
mod envelope;
mod head;
pub mod leftovers;
mod opening;
mod reading;
mod shown;
mod spare;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex as SyncMutex;
use serde_json::Map;
use tokio::sync::Mutex;

pub use self::opening::{OpenError, open, open_alone};

use self::alone::Lock;
use self::changing::Wish;
use self::envelope::Unreadable;
use self::head::{Batch, Head, Member, Part, random_word, ticket};
use self::reading::{HEAD_BYTES_MAX, Missing, SNAPSHOT, parse_head, read};
use self::shown::Shown;
use self::spare::Spare;
use self::turns::Turns;
use super::{Appended, Circle, Journal, JournalError, Other, Recovered, Seen, Terms, View};
use crate::chance;
use crate::clock::Ticks;
use crate::invalidation::selector::Record;
use crate::page::{JournalId, Sequence};
use crate::store::s3::bucket::{Bucket, Look, S3Error, Version};

/// How long one call goes on trying: beyond, whoever waits is told to try again. Meanwhile nobody can look, so it is not much longer than a lease.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same where the bucket answers, and others come first: each has its turn.
const PATIENCE_AMONG_OTHERS: Duration = Duration::from_secs(10);
/// How long a swap is tried that only saves others a wait.
const PATIENCE_FOR_MARKS: Duration = Duration::from_millis(500);

/// The journal of one flavor in a bucket.
#[derive(Debug)]
pub struct S3Journal {
    bucket: Bucket,
    folder: String,
    id: JournalId,
    node: Arc<str>,
    url: Option<Arc<str>>,
    secret: Arc<str>,
    terms: Terms,
    /// Held by the only writer, where swaps prove nothing.
    lock: Option<Lock>,
    state: Mutex<State>,
    shown: Shown,
    turns: Turns,
    spare: Spare,
    /// Tickets of members that were waited for: the next swap passes them over.
    silent: SyncMutex<Vec<Arc<str>>>,
}

/// Since when which mark of a member is known.
type Marks = HashMap<Arc<str>, Ticks>;

#[derive(Debug)]
struct State {
    head: Head,
    version: Version,
    /// The newest record that the caller knows.
    told: Sequence,
    marks: Marks,
    /// The caller's own batch, so that it need not be read.
    own: Option<(Arc<str>, Vec<Arc<Record>>)>,
    has_left: bool,
    /// The nonce of the head written last, without a condition.
    pending: String,
}

impl S3Journal {
    fn key(&self, folder: &str, number: Sequence) -> String {
        format!("{}/{folder}/{:020}-{}", self.folder, number.0, chance::word())
    }

    fn error(action: &str) -> impl FnOnce(S3Error) -> JournalError + use<'_> {
        move |error| JournalError::new(action, error)
    }

    /// Takes over a head that was read or written at this moment or before.
    fn take(&self, state: &mut State, head: Head, version: Version) {
        let now = self.terms.clock.ticks();
        let marks = head.members.values().filter_map(|member| member.passed_over.clone());
        state.marks = marks.map(|mark| (Arc::clone(&mark), state.marks.get(&mark).copied().unwrap_or(now))).collect();
        (state.head, state.version) = (head, version);
        self.shown.note(&state.head);
        self.silent.lock().retain(|ticket| state.head.may_pass_over(ticket));
        // Without conditions, a head may be written long after it was given up, and what it names must be there.
        if self.lock.is_none() {
            self.spare.clear(&self.bucket, &state.head, &state.version);
        }
    }

    /// Reads the head, whatever it is by now.
    async fn refresh(&self, state: &mut State) -> Result<(), JournalError> {
        let key = format!("{}/head", self.folder);
        let action = "look at the head";
        // First: the head that is read after it is one that whoever takes the lock over has not changed yet.
        if let Some(lock) = &self.lock {
            lock.verify().await.map_err(|unsure| JournalError::new(action, unsure))?;
        }
        match self.bucket.look(&key, &state.version, HEAD_BYTES_MAX).await.map_err(Self::error(action))? {
            Look::Unchanged => Ok(()),
            Look::Changed(fetched) => {
                let head = parse_head(&fetched.bytes).map_err(|error| not_read(action, error))?;
                if head.journal != self.id {
                    return Err(JournalError::lost(
                        action,
                        "another journal has taken its place: restart everpage to go on with that one",
                    ));
                }
                if head.sequence < state.told {
                    return Err(JournalError::lost(
                        action,
                        "it has lost records: remove it, and restart everpage to begin a new one",
                    ));
                }
                if let Some(lock) = &self.lock {
                    self.ensure_own(lock, state, &head).await?;
                }
                self.take(state, head, fetched.version);
                Ok(())
            }
            Look::Absent => Err(JournalError::lost(action, "it is gone: restart everpage to begin a new journal")),
        }
    }

    /// Whether this node may rely on the head that it has; if not, it joins again.
    async fn ensure_member(&self, state: &mut State, began: Ticks) -> Result<Ticks, JournalError> {
        if state.head.admits(&self.node) {
            return Ok(began);
        }
        tracing::debug!("others have given this node up: it joins again");
        self.change(state, "join again", |head, _| {
            head.join(&self.node, self.terms.lease, self.url.as_ref(), self.terms.clock.now());
            true
        })
        .await
    }

    /// Everything that the caller has not been told yet.
    async fn tell(&self, state: &mut State) -> Result<Recovered, JournalError> {
        let news =
            read(&self.bucket, &state.head, state.told, state.own.as_ref()).await.map_err(|missing| match missing {
                Missing::Bucket(error) => JournalError::new("read records", error),
                Missing::Object(key, error) => not_read(&format!("read {key}"), error),
            })?;
        state.told = state.head.sequence;
        state.own = None;
        Ok(news)
    }

    /// Those whom the record just appended may not have reached.
    fn others(&self, head: &Head) -> Vec<Other> {
        let others = head.members.iter().filter(|(node, _)| **node != self.node);
        let other = |(node, member): (&Arc<str>, &Member)| Other {
            node: Arc::clone(node),
            ticket: ticket(node, &member.epoch),
            url: member.url.clone(),
            wait: with_margin(member.lease()),
        };
        others.map(other).collect()
    }

    /// Marks those who were waited for in vain. A new word for each try: how long a mark has been known is counted by its word.
    fn pass_over_silent(&self, head: &mut Head) -> bool {
        head.pass_over(&self.silent.lock(), &random_word())
    }

    /// Drops those who were passed over so long ago that they cannot serve.
    fn drop_silent(&self, head: &mut Head, marks: &Marks) {
        let now = self.terms.clock.ticks();
        head.members.retain(|node, member| {
            let known = member.passed_over.as_ref().and_then(|mark| marks.get(mark));
            let is_silent = known.is_some_and(|since| now.since(*since) > with_margin(member.lease()));
            if is_silent {
                tracing::info!(%node, "a node that has not been heard of is no member any more");
            }
            !is_silent || *node == self.node
        });
    }
}

/// What another version has written may say anything: what this node knows says nothing then.
fn not_read(action: &str, why: Unreadable) -> JournalError {
    match why {
        Unreadable::Newer(_) | Unreadable::Unknown(_) => JournalError::lost(action, why),
        Unreadable::Absent | Unreadable::Damaged => JournalError::new(action, why),
    }
}

/// A little longer, for clocks that do not tick alike.
fn with_margin(lease: Duration) -> Duration {
    lease + lease / 50 + Duration::from_millis(50)
}

#[async_trait]
impl Journal for S3Journal {
    fn id(&self) -> JournalId {
        self.id.clone()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let action = format!("append {} records", records.len());
        let token = random_word();
        let batch = Batch::new(Arc::clone(&token), records);
        let part = self.write_ahead(&batch).await?;
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let appended = self
            .change(state, &action, |head, marks| {
                if records.is_empty() || head.find(&token).is_some() {
                    return Wish::Nothing;
                }
                self.drop_silent(head, marks);
                self.pass_over_silent(head);
                if !head.admits(&self.node) {
                    head.join(&self.node, self.terms.lease, self.url.as_ref(), self.terms.clock.now());
                }
                match &part {
                    Some(part) => Wish::Append(part.clone()),
                    None => {
                        head.append(batch.clone());
                        Wish::Swap
                    }
                }
            })
            .await;
        if let (Err(_), Some(part)) = (&appended, &part) {
            self.spare.note(&state.version, &part.key);
        }
        let began = appended?;
        let last = state.head.find(&token).unwrap_or(state.head.sequence);
        // Found in a head that others have changed since, where this node may have been passed over.
        let began = if records.is_empty() { Ticks::default() } else { self.ensure_member(state, began).await? };
        let others = self.others(&state.head);
        if !others.is_empty() {
            self.turns.note_append();
        }
        state.own = Some((token, records.to_vec()));
        let news = self.tell(state).await?;
        Ok(Appended { last, news, began, others })
    }

    async fn give_way(&self) {
        self.turns.give_way().await;
    }

    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError> {
        let action = format!("fold up to {sequence}");
        let (told, folded) = {
            let state = self.state.lock().await;
            (state.told, state.head.folded())
        };
        if sequence > told {
            return Err(JournalError::new(action, format!("the newest record is {told}")));
        }
        if sequence <= folded {
            return Ok(());
        }
        let key = self.key("snapshots", sequence);
        let bytes = snapshot.len() as u64;
        // Without the lock: it may take long, and the lease must be renewed meanwhile.
        self.write(SNAPSHOT, &key, &snapshot).await?;
        drop(snapshot);
        let part = Part {
            first: Sequence(1),
            last: sequence,
            key: key.clone(),
            bytes,
            tokens: Vec::new(),
            others: Map::new(),
        };
        let mut removable = Vec::new();
        {
            let state = &mut *self.state.lock().await;
            self.change(state, &action, |head, _| {
                // Somebody else has folded meanwhile, which is enough for now; or this one's swap was carried out after all.
                if head.folded() > folded {
                    return false;
                }
                removable = head.fold(part.clone());
                true
            })
            .await?;
            if state.head.snapshot.as_ref().is_none_or(|snapshot| snapshot.key != key) {
                removable = vec![key];
            }
        }
        if let Err(error) = self.bucket.delete_many(&removable).await {
            tracing::debug!(%error, "folded records stay in the bucket");
        }
        Ok(())
    }

    fn tail_bytes(&self) -> u64 {
        self.shown.tail_bytes()
    }

    fn terms(&self) -> Option<Terms> {
        Some(self.terms)
    }

    async fn look(&self) -> Result<Seen, JournalError> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        if state.has_left {
            return Err(JournalError::new("look at the head", "this node has left"));
        }
        let began = self.terms.clock.ticks();
        self.refresh(state).await?;
        let began = self.ensure_member(state, began).await?;
        let news = self.tell(state).await?;
        Ok(Seen { news, began })
    }

    async fn pass_over(&self, tickets: &[Arc<str>]) -> Result<(), JournalError> {
        self.silent.lock().extend(tickets.iter().cloned());
        let state = &mut *self.state.lock().await;
        // An append may have done it by now; what cannot be written is done by the next.
        let pass_over = |head: &mut Head, _: &Marks| self.pass_over_silent(head);
        self.change_within((PATIENCE_FOR_MARKS, PATIENCE_FOR_MARKS), state, "pass over silent nodes", pass_over)
            .await
            .map(drop)
    }

    async fn leave(&self) -> Result<(), JournalError> {
        let mut state = self.state.lock().await;
        let changed = self.change(&mut state, "leave", |head, _| head.members.remove(&self.node).is_some()).await;
        state.has_left = true;
        if let Some(lock) = &self.lock {
            lock.release().await.map_err(|unsure| JournalError::new("give the lock back", unsure))?;
        }
        changed.map(|_| ())
    }

    fn circle(&self) -> Option<Circle> {
        Some(Circle { node: Arc::clone(&self.node), secret: Arc::clone(&self.secret) })
    }

    fn nodes(&self) -> u32 {
        self.shown.nodes()
    }

    fn view(&self) -> Option<View> {
        Some(self.shown.view())
    }
}
