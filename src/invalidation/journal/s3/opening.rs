//! How does a node come to a shared journal? It reads everything, joins, and counts from then on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::alone::{self, Lock};
use super::envelope::Unreadable;
use super::head::{Head, MEMBERS_MAX, random_word, ticket};
use super::reading::{HEAD_BYTES_MAX, Missing, Pauses, parse_head, read, swap};
use super::shown::Shown;
use super::spare::Spare;
use super::turns::Turns;
use super::{Marks, PATIENCE, PATIENCE_AMONG_OTHERS, S3Journal, State, SyncMutex, with_margin};
use crate::chance;
use crate::clock::{Clock, Ticks};
use crate::invalidation::journal::{Recovered, Terms, random_identity};
use crate::page::{JournalId, Sequence};
use crate::store::s3::bucket::{Bucket, Condition, S3Error, Swap, Version};

/// The most that `cluster.lease` may be.
const LONGEST_LEASE: Duration = Duration::from_secs(10);
/// How long a read of the journal may take at least, however short the lease.
const PATIENCE_OF_LOOKS: Duration = Duration::from_secs(1);
/// Attempts before something that is missing counts as lost.
const ATTEMPTS_MIN: u32 = 5;
/// Attempts at most, however long each takes to read what was appended meanwhile.
const ATTEMPTS_MAX: u32 = 1_000;

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bucket does not do what is asked.
    #[error("{0}")]
    Bucket(#[from] S3Error),
    /// Written by another version of everpage, as far as can be told.
    #[error(
        "{key}: {source}; start that version, or remove the object: then a new journal begins, and every stored page is invalid"
    )]
    OtherVersion {
        /// The object.
        key: String,
        /// What is not understood.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too many nodes.
    #[error(
        "{MEMBERS_MAX} nodes share this journal already: take some away, or give this one a location of its own (store.s3.location)"
    )]
    Full,
    /// The head changes faster than it can be swapped.
    #[error("the journal's head could not be swapped within {} seconds", PATIENCE_AMONG_OTHERS.as_secs())]
    Contended,
    /// The server cannot keep several nodes apart, and there is another one.
    #[error(
        "the S3 server cannot keep the writes of several nodes apart: {why}. And another node uses the bucket: {who}. Stop that one, or use a \
         server with conditional writes for several nodes, such as Amazon S3 or Ceph"
    )]
    Alone {
        /// The probe that failed.
        why: String,
        /// Who else, and how one knows.
        who: String,
    },
    /// Another node takes the server for one that cannot keep several apart.
    #[error(
        "another node uses the bucket alone: {holder} holds the lock {key}, since the server did not keep conditional writes when it was started. \
         Stop it, and start both"
    )]
    Locked {
        /// The lock.
        key: String,
        /// Its owner.
        holder: String,
    },
}

/// Opens the journal of a flavor, or begins it; this node becomes a member, to be rung at `url`. What is damaged is left behind: a new journal
/// begins, and no page of the old one is valid any more.
///
/// # Errors
/// [`OpenError`]
pub async fn open(
    bucket: Bucket,
    flavor: &str,
    lease: Duration,
    url: Option<Arc<str>>,
    clock: Clock,
) -> Result<(S3Journal, Recovered), OpenError> {
    // Pages must not stand in the way of looks.
    let bucket = bucket.urgent(lease.max(PATIENCE_OF_LOOKS));
    let joining = Joining { bucket, folder: folder(flavor), node: random_node(), lease, url, clock };
    alone::ensure_nobody(&joining.bucket, &joining.folder, lease).await?;
    joining.join(None).await
}

/// As [`open`], on a server that does not keep the conditions of writes: this node is the only one, by a lock. `why` says which probe has
/// failed. Takes at least a lease, and a few more where a node was killed that held the lock.
///
/// # Errors
/// [`OpenError::Alone`] where another node lives; else as [`open`].
pub async fn open_alone(
    bucket: Bucket,
    flavor: &str,
    lease: Duration,
    clock: Clock,
    why: &str,
) -> Result<(S3Journal, Recovered), OpenError> {
    let bucket = bucket.urgent(lease.max(PATIENCE_OF_LOOKS));
    let joining = Joining { bucket, folder: folder(flavor), node: random_node(), lease, url: None, clock };
    let (lock, former) = Lock::take(&joining.bucket, &joining.folder, &joining.node, lease, why).await?;
    let (journal, recovered) = joining.join(Some(lock)).await?;
    match journal.outlast_others(former.as_deref()).await {
        Ok(()) => Ok((journal, recovered)),
        Err(error) => {
            journal.give_up().await;
            Err(OpenError::Alone { why: why.to_owned(), who: error.to_string() })
        }
    }
}

fn folder(flavor: &str) -> String {
    format!("{}/journal", if flavor.is_empty() { "default" } else { flavor })
}

fn random_node() -> Arc<str> {
    chance::identity().into()
}

/// A node on its way into the journal.
struct Joining {
    bucket: Bucket,
    folder: String,
    node: Arc<str>,
    lease: Duration,
    url: Option<Arc<str>>,
    clock: Clock,
}

impl Joining {
    async fn join(&self, lock: Option<Lock>) -> Result<(S3Journal, Recovered), OpenError> {
        let mut has_made_room = false;
        let mut way = Way::new();
        loop {
            way.attempts += 1;
            match self.attempt(lock.as_ref(), &mut way).await {
                Ok(Some(Joined { head, version, began })) => {
                    let recovered = way.recovered;
                    return Ok((self.joined(lock, head, version, recovered.last(), began), recovered));
                }
                Ok(None) => {}
                Err(OpenError::Full) if !has_made_room => {
                    self.make_room().await?;
                    has_made_room = true;
                    way.begin();
                }
                Err(error) => {
                    if let Some(lock) = lock {
                        lock.give_up().await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Reads what is not known yet and joins; `None`: something came between, and only that is read the next time. The last attempt says what.
    async fn attempt(&self, lock: Option<&Lock>, way: &mut Way) -> Result<Option<Joined>, OpenError> {
        let began = self.clock.ticks();
        let (mut head, condition) = match read_head(&self.bucket, &self.folder).await? {
            Some((Some(head), version)) => (head, Condition::Is(version)),
            Some((None, version)) => (self.another_head(), Condition::Is(version)),
            // Pages tell that there was a journal.
            None if self.has_pages().await? => (self.another_head(), Condition::Absent),
            None => (Head::new(random_identity()), Condition::Absent),
        };
        match way.read_on(&self.bucket, &head).await {
            Ok(()) => {}
            Err(Missing::Bucket(error)) => return Err(error.into()),
            Err(Missing::Object(key, source @ (Unreadable::Newer(_) | Unreadable::Unknown(_)))) => {
                return Err(OpenError::OtherVersion { key, source: source.into() });
            }
            // Folded meanwhile, or gone for good: as long as a head stands, nobody removes what it names.
            Err(Missing::Object(..)) if !way.is_late(PATIENCE) || !self.is_still(&condition).await? => {
                way.pauses.next().await;
                return if way.attempts < ATTEMPTS_MAX { Ok(None) } else { Err(OpenError::Contended) };
            }
            Err(Missing::Object(key, error)) => {
                tracing::error!(key, %error, "the journal is damaged: a new one begins, and every stored page is invalid");
                head = Head { members: head.members, ..Head::new(random_identity()) };
                way.recovered = Recovered::default();
            }
        }
        if head.members.len() >= MEMBERS_MAX {
            return Err(OpenError::Full);
        }
        head.join(&self.node, self.lease, self.url.as_ref(), self.clock.now());
        let sent = Instant::now();
        let swapped = match lock {
            Some(lock) => lock.put_head(&self.folder, &mut head).await,
            None => swap(&self.bucket, &self.folder, &mut head, &condition).await,
        };
        match swapped {
            Ok(Swap::Done(version)) => return Ok(Some(Joined { head, version, began })),
            Ok(Swap::Lost) if way.is_late(PATIENCE_AMONG_OTHERS) => return Err(OpenError::Contended),
            Ok(Swap::Lost) => {
                way.turns.note_swap(sent.elapsed());
                way.turns.note_loss().await;
            }
            Err(error) if way.is_late(PATIENCE) => return Err(error.into()),
            // An unknown outcome shows at the next read: the node is a member then, and joins again.
            Err(_) => way.pauses.next().await,
        }
        Ok(None)
    }

    /// Does the head of before still stand?
    async fn is_still(&self, condition: &Condition) -> Result<bool, OpenError> {
        let found = read_head(&self.bucket, &self.folder).await?.map(|(_, version)| version);
        Ok(matches!((found, condition), (Some(version), Condition::Is(before)) if version == *before))
    }

    /// Of a journal in the place of one that is gone: its nodes may still live.
    fn another_head(&self) -> Head {
        Head::after_another(random_identity(), LONGEST_LEASE, self.clock.now())
    }

    async fn has_pages(&self) -> Result<bool, OpenError> {
        let flavor = self.folder.split('/').next().unwrap_or_default();
        let listed = self.bucket.list(&format!("{flavor}/"), None, 2).await?;
        Ok(listed.keys.iter().any(|object| object.key != alone::key(&self.folder)))
    }

    /// Takes out whoever does not show that it lives: all are passed over, the living join again, and the others go when their leases have run out.
    async fn make_room(&self) -> Result<(), OpenError> {
        tracing::warn!(MEMBERS_MAX, "many nodes were never said to be gone: those that live are asked to join again");
        let mark = random_word();
        let passed_over = |head: &mut Head| {
            let members = head.members.iter();
            let tickets: Vec<_> = members.map(|(node, member)| ticket(node, &member.epoch)).collect();
            head.pass_over(&tickets, &mark)
        };
        self.change(passed_over).await?;
        sleep(with_margin(LONGEST_LEASE)).await;
        self.change(|head| {
            head.members.retain(|_, member| member.passed_over.as_ref() != Some(&mark));
            true
        })
        .await
    }

    /// Changes a head that is there; whether it was changed shows at the next attempt.
    async fn change(&self, change: impl FnOnce(&mut Head) -> bool) -> Result<(), OpenError> {
        let Some((Some(mut head), version)) = read_head(&self.bucket, &self.folder).await? else { return Ok(()) };
        if change(&mut head) {
            swap(&self.bucket, &self.folder, &mut head, &Condition::Is(version)).await?;
        }
        Ok(())
    }

    fn joined(&self, lock: Option<Lock>, head: Head, version: Version, told: Sequence, began: Ticks) -> S3Journal {
        let (id, secret) = (head.journal.clone(), Arc::clone(&head.secret));
        let pending = head.nonce.clone();
        let state = State { told, head, version, marks: Marks::new(), own: None, has_left: false, pending };
        S3Journal {
            bucket: self.bucket.clone(),
            folder: self.folder.clone(),
            id,
            node: Arc::clone(&self.node),
            url: self.url.clone(),
            secret,
            terms: Terms { lease: self.lease, clock: self.clock, began },
            lock,
            shown: Shown::of(&state.head),
            turns: Turns::new(),
            spare: Spare::default(),
            silent: SyncMutex::default(),
            state: Mutex::new(state),
        }
    }
}

/// How a node has joined.
struct Joined {
    head: Head,
    version: Version,
    began: Ticks,
}

/// How far a node has come. What it has read it keeps: while others append, each attempt would find a longer journal to read.
struct Way {
    journal: Option<JournalId>,
    recovered: Recovered,
    attempts: u32,
    began: Instant,
    /// How much of the time since then went by with reading.
    reading: Duration,
    pauses: Pauses,
    turns: Turns,
}

impl Way {
    fn new() -> Self {
        let (pauses, turns) = (Pauses::new(), Turns::new());
        let (journal, recovered) = (None, Recovered::default());
        Way { journal, recovered, attempts: 0, began: Instant::now(), reading: Duration::ZERO, pauses, turns }
    }

    fn begin(&mut self) {
        (self.attempts, self.began, self.reading) = (0, Instant::now(), Duration::ZERO);
    }

    /// Have there been enough attempts? What is missing may have been folded meanwhile: a slow first look proves nothing.
    fn is_late(&self, patience: Duration) -> bool {
        let is_late = self.attempts >= ATTEMPTS_MIN && self.began.elapsed() > patience + self.reading;
        is_late || self.attempts >= ATTEMPTS_MAX
    }

    /// Reads what this head names beyond.
    async fn read_on(&mut self, bucket: &Bucket, head: &Head) -> Result<(), Missing> {
        if self.journal.as_ref() != Some(&head.journal) || head.sequence < self.recovered.last() {
            (self.journal, self.recovered) = (Some(head.journal.clone()), Recovered::default());
        }
        let began = Instant::now();
        let news = read(bucket, head, self.recovered.last(), None).await;
        self.reading += began.elapsed();
        let news = news?;
        if news.snapshot.is_some() {
            self.recovered = news;
        } else {
            self.recovered.records.extend(news.records);
        }
        Ok(())
    }
}

/// The head and its version; `None` in the place of a head that cannot be read.
async fn read_head(bucket: &Bucket, folder: &str) -> Result<Option<(Option<Head>, Version)>, OpenError> {
    let key = format!("{folder}/head");
    let Some(fetched) = bucket.get(&key, HEAD_BYTES_MAX).await? else { return Ok(None) };
    match parse_head(&fetched.bytes) {
        Ok(head) => Ok(Some((Some(head), fetched.version))),
        Err(Unreadable::Damaged | Unreadable::Absent) => {
            tracing::error!(
                key,
                "the journal's head is damaged: a new journal begins, and every stored page is invalid"
            );
            Ok(Some((None, fetched.version)))
        }
        Err(source) => Err(OpenError::OtherVersion { key, source: source.into() }),
    }
}
