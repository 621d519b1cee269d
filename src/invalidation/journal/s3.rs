//! A journal in a bucket: many nodes write to it, and nothing else has to run.
//!
//! ```text
//! <flavor>/journal/head                       who may serve, the newest records, the names of everything else
//! <flavor>/journal/records/<first>-<word>     older records, or very many
//! <flavor>/journal/snapshots/<last>-<word>    the folded index
//! <flavor>/journal/lock                       only where the server cannot swap: [`open_alone`]
//! ```
//!
//! - The head changes by compare-and-swap alone (`If-Match`; the first by `If-None-Match: *`): that makes the order of all records. Everything it
//!   names is written before it and never changed.
//! - A swap that was lost (412) is tried again on the head that won. One whose answer is lost may have been carried out: the head is read, and the word
//!   of the batch looked for in it. The word is the same at each try, and at most one of them can succeed.
//! - An append whose outcome stays unknown is an error: nothing is claimed. If it was carried out, the next look shows it like a record of somebody else.
//! - A look is a conditional GET. It counts only if it shows this node as a member; otherwise the node joins again first.
//! - A head of another journal, or none, is never taken over while the process lives: the lease runs out, and requests go to the origin.
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
mod envelope;
mod head;
mod opening;
mod reading;
mod shown;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Map;
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use self::opening::{OpenError, open, open_alone};

use self::alone::Lock;
use self::envelope::Unreadable;
use self::head::{Batch, Head, INLINE_BYTES, Member, Part, random_word, ticket};
use self::reading::{HEAD_BYTES_MAX, Missing, Pauses, RECORDS, SNAPSHOT, parse_head, read, swap};
use self::shown::Shown;
use super::{Appended, Circle, Journal, JournalError, Other, Recovered, Seen, Terms, View};
use crate::chance;
use crate::clock::Ticks;
use crate::invalidation::selector::Record;
use crate::page::{JournalId, Sequence};
use crate::store::s3::bucket::{Attributes, Bucket, Condition, Look, S3Error, Swap, Version};

/// How long one call goes on trying: beyond, whoever waits is told to try again. Meanwhile nobody can look, so it is not much longer than a lease.
const PATIENCE: Duration = Duration::from_secs(3);

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

    /// Changes the head, on whatever it is by then, until it is changed. `change` is given a copy, and says whether anything is left to do. Returns when
    /// the try began after which the head was as `state` holds it.
    async fn change(
        &self,
        state: &mut State,
        action: &str,
        mut change: impl FnMut(&mut Head, &Marks) -> bool + Send,
    ) -> Result<Ticks, JournalError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pauses = Pauses::new();
        let mut began = self.terms.clock.ticks();
        loop {
            if state.has_left {
                return Err(JournalError::new(action, "this node has left"));
            }
            let mut head = state.head.clone();
            if !change(&mut head, &state.marks) {
                return Ok(began);
            }
            self.move_out(&mut head).await?;
            began = self.terms.clock.ticks();
            let failure = match self.write_head(state, &mut head).await {
                Ok(Swap::Done(version)) => {
                    self.take(state, head, version);
                    return Ok(began);
                }
                Ok(Swap::Lost) => {
                    self.shown.note_lost_swap();
                    "others change it all the time".to_owned()
                }
                Err(error) => error.to_string(),
            };
            loop {
                if Instant::now() > deadline || self.lock.as_ref().is_some_and(Lock::is_lost) {
                    return Err(JournalError::new(action, failure));
                }
                pauses.next().await;
                began = self.terms.clock.ticks();
                // What was refused for good is not asked again; what was not answered is.
                if self.refresh(state).await.is_ok() {
                    break;
                }
            }
        }
    }

    async fn write_head(&self, state: &mut State, head: &mut Head) -> Result<Swap, JournalError> {
        if let Some(lock) = &self.lock {
            return self.replace(lock, state, head).await;
        }
        let condition = Condition::Is(state.version.clone());
        swap(&self.bucket, &self.folder, head, &condition).await.map_err(Self::error("swap the head"))
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

    /// Writes the batches that stand in the head into an object, if they are too many.
    async fn move_out(&self, head: &mut Head) -> Result<(), JournalError> {
        if head.inline_bytes() <= INLINE_BYTES {
            return Ok(());
        }
        let key = self.key("records", head.batches.front().expect("there are bytes").first);
        let json = serde_json::to_vec(&head.batches).expect("batches are JSON");
        self.write(RECORDS, &key, &json).await?;
        head.move_out(key);
        Ok(())
    }

    async fn write(&self, kind: &'static str, key: &str, content: &[u8]) -> Result<(), JournalError> {
        let pieces = vec![Bytes::from(envelope::seal(kind, content))];
        let written = self.bucket.put(key, pieces, &Attributes::default()).await;
        written.map(|_| ()).map_err(Self::error("write an object"))
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
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let action = format!("append {} records", records.len());
        let token = random_word();
        let batch = Batch::new(Arc::clone(&token), records);
        let began = self
            .change(state, &action, |head, marks| {
                if records.is_empty() || head.find(&token).is_some() {
                    return false;
                }
                self.drop_silent(head, marks);
                if !head.admits(&self.node) {
                    head.join(&self.node, self.terms.lease, self.url.as_ref(), self.terms.clock.now());
                }
                head.append(batch.clone());
                true
            })
            .await?;
        let last = state.head.find(&token).unwrap_or(state.head.sequence);
        // Found in a head that others have changed since, where this node may have been passed over.
        let began = if records.is_empty() { Ticks::default() } else { self.ensure_member(state, began).await? };
        let others = self.others(&state.head);
        state.own = Some((token, records.to_vec()));
        let news = self.tell(state).await?;
        Ok(Appended { last, news, began, others })
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
                // Somebody else has folded further; or this one's swap was carried out after all.
                if head.folded() >= sequence {
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
        // Somebody else is at the head: then the next invalidation waits for them once more, and tries again.
        let Ok(mut state) = self.state.try_lock() else { return Ok(()) };
        let mut head = state.head.clone();
        // A new word for each try: how long a mark has been known is counted by its word.
        let mark = random_word();
        if !head.pass_over(tickets, &mark) {
            return Ok(());
        }
        let condition = Condition::Is(state.version.clone());
        let swapped = swap(&self.bucket, &self.folder, &mut head, &condition).await;
        match swapped.map_err(Self::error("pass over silent nodes"))? {
            Swap::Done(version) => self.take(&mut state, head, version),
            Swap::Lost => self.shown.note_lost_swap(),
        }
        Ok(())
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
