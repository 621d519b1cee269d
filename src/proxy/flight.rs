//! One fetch per key: who leads, who follows, and how the bytes reach them all.
//!
//! A flight is one trip to the store and, if nothing valid lies there, to the origin. Whoever asks first leads; the trip itself is a task of its own, so
//! a leader whose client leaves takes nobody down. Followers stream along from the first byte.
//!
//! # Who may join
//!
//! A flight that is still asking the store has no `as_of` yet: it will take it when it turns to the origin, and that is after everyone who
//! joined before had begun. From then on a follower may join only if no record newer than the flight's `as_of` names the page *at the
//! moment of joining*:
//!
//! ```text
//! leader          | takes as_of 7, asks the origin .................. response (old)
//! POST /invalidate|                                  record 8, 200
//! request         |                                                 starts: 8 > 7, so it leads a flight of its own
//! ```
//!
//! Tags are known only when the head arrives. A follower that joined after a record which the leader did not know is checked again then, and
//! leaves if a newer record names one of the page's tags ([`Seat::was_overtaken`]).
//!
//! A page that is settling is not kept, but shared: a crowd that comes after an invalidation asks the origin one by one flight, not each for himself.
//! Whoever comes when it settles no more wants what the origin shows by then, and joins no flight that began before. (If it was named again, it still
//! settles: then nobody asks which of its records have settled meanwhile.)
//!
//! Its bytes are in the cabin (`cabin`). This module decides nothing about pages: it neither fetches nor stores.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use http_body::Frame;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinHandle;

use super::body::BoxError;
use super::cabin::{Cabin, Ending, Next};
use crate::invalidation::Invalidations;
use crate::invalidation::index::Subject;
use crate::invalidation::settling::Moment;
use crate::page::large::LargePage;
use crate::page::{Key, Page, PageHead, Sequence};
use crate::policy::reason::Reason;
use crate::store::file_body::{self, OpenFile};

/// How far a flight has come.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// It asks the store.
    Looking,
    /// It asks the origin, since this moment.
    Fetching(Moment),
    /// It knows what it will bring.
    Arrived(Arrival),
}

/// What a flight brings.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    /// A page from the store, the key under which it lay, and the store's kind.
    Stored(Stored, Key, &'static str),
    /// A signpost was found: ask again, under the key it leads to.
    Signpost,
    /// A response that is being kept, or is settling: its body follows.
    Streaming(Arc<Head>),
    /// A response that cannot be shared: everyone fetches for himself, but the leader, who gets this one.
    Alone(Reason),
    /// Nothing; the next one may try.
    Failed(Reason),
}

/// A page from the store.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Page(Arc<Page>),
    /// Whoever wants it reads it for himself.
    Large(Arc<LargePage>),
}

impl Stored {
    pub(super) fn head(&self) -> &PageHead {
        match self {
            Stored::Page(page) => &page.head,
            Stored::Large(page) => &page.head,
        }
    }
}

/// The head of a response that is shared.
#[derive(Debug)]
pub(super) struct Head {
    pub status: StatusCode,
    /// As they are sent.
    pub headers: HeaderMap,
    /// When the fetch began.
    pub begun: Moment,
    /// Why it is not kept all the same.
    pub unkept: Option<Reason>,
    pub age_seconds: u64,
    pub tags: Vec<Arc<str>>,
    /// The fields that select this response.
    pub vary: Vec<HeaderName>,
    /// The key under which it is kept.
    pub key: Key,
}

/// One trip.
#[derive(Debug)]
pub(super) struct Flight {
    progress: watch::Sender<Progress>,
    cabin: Mutex<Cabin>,
}

/// A place on a flight: its owner reads along; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Seat {
    flight: Arc<Flight>,
    reader: u64,
    /// When its owner came.
    joined_at: Moment,
    /// Bytes of the file on their way.
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
}

impl Flight {
    /// A flight that begins, and the seat of whoever leads it.
    pub(super) fn begin(joined_at: Moment) -> (Arc<Self>, Seat) {
        let flight = Arc::new(Flight { progress: watch::Sender::new(Progress::Looking), cabin: Mutex::default() });
        let seat = flight.join(joined_at).expect("a new flight has all its bytes");
        (flight, seat)
    }

    /// One more reader; none where the first bytes may be gone already.
    fn join(self: &Arc<Self>, joined_at: Moment) -> Option<Seat> {
        let reader = self.cabin.lock().join()?;
        Some(Seat { flight: Arc::clone(self), reader, joined_at, reading: None })
    }

    /// May a request join that came at this moment? See the module's documentation.
    fn admits(&self, invalidations: &Invalidations, subject: &Subject<'_>, now: Moment) -> bool {
        let is_valid = |begun: &Moment, subject: &Subject<'_>| {
            let newest = invalidations.newest(subject);
            newest.hard <= begun.applied && !begun.is_outlived(newest, now)
        };
        match &*self.progress.borrow() {
            Progress::Looking => true,
            Progress::Fetching(begun) => is_valid(begun, subject),
            Progress::Arrived(Arrival::Streaming(head)) => {
                is_valid(&head.begun, &Subject { tags: &head.tags, ..*subject })
            }
            // Whoever comes now finds it in the memory tier, or must ask anew.
            Progress::Arrived(_) => false,
        }
    }

    /// Takes the moment of the fetch that begins now.
    pub(super) fn begin_fetch(&self, invalidations: &Invalidations) -> Moment {
        let mut begun = None;
        self.progress.send_modify(|progress| {
            *progress = Progress::Fetching(*begun.insert(invalidations.moment()));
        });
        begun.expect("it has just been taken")
    }

    pub(super) fn arrive(&self, arrival: Arrival) {
        self.progress.send_replace(Progress::Arrived(arrival));
    }

    /// Hands a chunk to the readers; waits only where the response is not kept. False when nobody is left to read it.
    pub(super) async fn push(&self, chunk: Bytes, memory: Option<OwnedSemaphorePermit>) -> bool {
        let is_free = self.cabin.lock().push(chunk, memory);
        if is_free {
            return true;
        }
        std::future::poll_fn(|context| self.cabin.lock().poll_room(context)).await
    }

    /// Whether its bytes are still meant to be kept.
    pub(super) fn is_kept(&self) -> bool {
        self.cabin.lock().is_kept()
    }

    /// Whoever still waits learns that nothing comes any more. Does nothing to a flight that has ended.
    pub(super) fn abandon(&self) {
        if !matches!(*self.progress.borrow(), Progress::Arrived(_)) {
            self.arrive(Arrival::Failed(Reason::OriginBroken));
        }
        let has_ended = self.cabin.lock().has_ended();
        if !has_ended {
            self.crash(Reason::CutShort);
        }
    }

    /// From now on nothing of it is kept.
    pub(super) fn stop_keeping(&self) {
        self.cabin.lock().stop_keeping();
    }

    pub(super) fn land(&self, trailers: Option<HeaderMap>) {
        self.cabin.lock().end(Ending::Whole(trailers));
    }

    pub(super) fn crash(&self, reason: Reason) {
        self.cabin.lock().end(Ending::Broken(reason));
    }

    /// All that is in memory.
    pub(super) fn chunks(&self) -> Vec<Bytes> {
        self.cabin.lock().chunks()
    }

    /// All that came so far, `bytes` of it, lies in this file: from now on it is read from there.
    pub(super) fn spill(&self, file: &Arc<OpenFile>, bytes: u64) {
        self.cabin.lock().spill(file, bytes);
    }

    /// All that is in memory as one body.
    pub(super) fn gather(&self) -> Bytes {
        self.cabin.lock().gather()
    }
}

impl Seat {
    /// What the flight brings, once it knows.
    pub(super) async fn arrival(&self) -> Arrival {
        let mut progress = self.flight.progress.subscribe();
        let arrived = progress.wait_for(|progress| matches!(progress, Progress::Arrived(_))).await;
        match arrived.as_deref() {
            Ok(Progress::Arrived(arrival)) => arrival.clone(),
            // The flight's task is gone without a word: it was cancelled with the runtime.
            _ => Arrival::Failed(Reason::OriginBroken),
        }
    }

    /// Now that the page's tags are known: did this seat's owner come after a record that names it and that the flight did not know, or that was
    /// settling for the flight only?
    pub(super) fn was_overtaken(&self, invalidations: &Invalidations, subject: &Subject<'_>, begun: Moment) -> bool {
        let came = self.joined_at;
        if came.applied <= begun.applied && came.settled <= begun.settled {
            return false;
        }
        let newest = invalidations.newest(subject);
        // A record that came later still hides what there was before: then it is taken for settled.
        let is_hidden = |record: Sequence| record > came.applied && came.settled > begun.settled;
        (came.applied > begun.applied && newest.hard > begun.applied)
            || begun.is_outlived(newest, came)
            || (begun.is_too_early(newest) && (is_hidden(newest.hard) || is_hidden(newest.soft)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight.cabin.lock().leave(self.reader);
    }
}

/// The body, read along.
impl http_body::Body for Seat {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let seat = &mut *self;
        if seat.reading.is_none() {
            let next = ready!(seat.flight.cabin.lock().poll_read(seat.reader, context));
            seat.reading = match next {
                Next::Chunk(chunk) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Next::File(file, range) => Some(file_body::read(&file, range)),
                Next::End(Ending::Whole(trailers)) => {
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Next::End(Ending::Broken(reason)) => {
                    let error = format!("the response ended early: {}", reason.as_str());
                    return Poll::Ready(Some(Err(error.into())));
                }
            };
        }
        let reading = seat.reading.as_mut().expect("it has just begun");
        let read = ready!(Pin::new(reading).poll(context));
        seat.reading = None;
        Poll::Ready(Some(match read {
            Ok(Ok(bytes)) => Ok(Frame::data(bytes)),
            Ok(Err(error)) => Err(error.into()),
            Err(stopped) => Err(stopped.into()),
        }))
    }
}

/// The flights under way, by key.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_key: Mutex<HashMap<Key, Arc<Flight>>>,
}

/// What a request finds at the gate.
#[derive(Debug)]
pub(super) enum Boarding {
    /// Nobody flies there: whoever holds this flies, and everyone else follows.
    Lead(Arc<Flight>, Seat),
    /// Somebody does.
    Follow(Seat),
}

impl Flights {
    /// Joins the flight to this key, or leads a new one. An old one that admits nobody any more is forgotten: it ends for those on board.
    pub(super) fn board(&self, key: Key, invalidations: &Invalidations, subject: &Subject<'_>) -> Boarding {
        let joined_at = invalidations.moment();
        let mut refused = None;
        loop {
            let current = self.by_key.lock().get(&key).cloned();
            // Asked without the lock: a large record that is being applied holds up those who ask, and nobody else.
            if let Some(flight) = &current
                && !is_same(Some(flight), refused.as_ref())
            {
                if flight.admits(invalidations, subject, joined_at)
                    && let Some(seat) = flight.join(joined_at)
                {
                    return Boarding::Follow(seat);
                }
                refused = current;
            }
            let mut by_key = self.by_key.lock();
            // Somebody else may lead a newer one by now.
            if is_same(by_key.get(&key), refused.as_ref()) || !by_key.contains_key(&key) {
                let (flight, seat) = Flight::begin(joined_at);
                by_key.insert(key, Arc::clone(&flight));
                return Boarding::Lead(flight, seat);
            }
        }
    }

    /// Takes the flight off the board, if it is still the one to this key.
    pub(super) fn remove(&self, key: &Key, flight: &Arc<Flight>) {
        let mut by_key = self.by_key.lock();
        if by_key.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            by_key.remove(key);
        }
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.by_key.lock().len()
    }
}

fn is_same(one: Option<&Arc<Flight>>, other: Option<&Arc<Flight>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
}
