//! The trip itself: to the store, to the origin, and back with a page. A task of its own, so that no visitor who leaves ends it.
//!
//! A page is kept only if no record newer than its `as_of` names it when its body is complete; whatever slips through between that look and the
//! write is judged again by every reader. A page that is settling is never kept ([`crate::invalidation::settling`]): that is decided by its head, when its
//! tags are known. A record that comes later is newer than its `as_of`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Response};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::errand::Errand;
use super::flight::{Arrival, Flight, Head, Stored};
use super::handler::Handler;
use super::intake::Intake;
use super::kept::{Kept, kept_fields, make_page};
use super::origin::{IncomingBody, OriginError};
use crate::clock::UnixMillis;
use crate::invalidation::Verdict;
use crate::invalidation::settling::Moment;
use crate::page::{Key, Page, Variants};
use crate::policy::admission::{self, Admitted};
use crate::policy::reason::Reason;
use crate::policy::{key, vary};
use crate::store::memory_tier::LARGE_BYTES;
use crate::store::{Found, Object, StoreError};

/// How long a look into the store may take; then the origin is asked instead.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long writing a page may take; then it is not stored.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// And longer for each MiB of its body: the slowest store that is worth having.
const WRITE_TIMEOUT_PER_MIB: Duration = Duration::from_secs(1);

/// Whatever ends the task early, a panic included, those on board learn it and the flight leaves the board.
struct Landing {
    handler: Arc<Handler>,
    flight: Arc<Flight>,
    place: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flight.abandon();
        self.handler.flights.remove(&self.place, &self.flight);
    }
}

/// Flies: looks into the store, then asks the origin. `handoff` gets a response that cannot be shared.
pub(super) async fn fly(
    handler: Arc<Handler>,
    flight: Arc<Flight>,
    errand: Errand,
    handoff: oneshot::Sender<Response<IncomingBody>>,
) {
    let landing = Landing { handler, flight, place: errand.place };
    let (handler, flight) = (&landing.handler, &landing.flight);
    if let Some(arrival) = handler.look_in_store(&errand).await {
        flight.arrive(arrival);
        return;
    }
    let begun = flight.begin_fetch(&handler.invalidations);
    let started = tokio::time::Instant::now();
    let response = match handler.fetch(&errand).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(method = %errand.method, path = &*errand.path, %error, "not fetched");
            flight.arrive(Arrival::Failed(error.reason()));
            return;
        }
    };
    handler.metrics.origin_seconds.observe(started.elapsed().as_secs_f64());
    let now = handler.clock.now();
    let judged = admission::judge_head(&handler.rules, &errand.method, response.status(), response.headers(), now)
        .map(|admitted| handler.place_variant(&errand, admitted, begun));
    match judged {
        Ok(kept) => {
            handler.keep(flight, &errand, kept, begun, now, response).await;
        }
        Err(reason) => {
            handler.note_refused(&errand, reason);
            flight.arrive(Arrival::Alone(reason));
            // The leader may have left: then nobody wants it.
            let _ = handoff.send(response);
        }
    }
}

impl Handler {
    async fn look_in_store(&self, errand: &Errand) -> Option<Arrival> {
        let applied = self.invalidations.applied();
        for (name, fields) in &errand.names {
            if self.is_known_absent(errand, name) {
                continue;
            }
            let accept = |object: &Object| self.is_of_use(object, fields);
            let Found { object, kind } = match timeout(READ_TIMEOUT, self.store.get_accepted(name, &accept)).await {
                Ok(Ok(Some(found))) => found,
                Ok(Ok(None)) => {
                    self.note_absent(name, applied);
                    continue;
                }
                Ok(Err(error)) => {
                    self.note_store_failure(&error);
                    return None;
                }
                Err(_) => {
                    self.note_store_failure(&"the store does not answer");
                    return None;
                }
            };
            if !accept(&object) {
                self.note_absent(name, applied);
            }
            match object {
                Object::Page(page) => {
                    if self.is_fresh(&page.head)
                        && self.invalidations.judge(&page) == Verdict::Valid
                        && self.has_room_for(&page)
                    {
                        tracing::debug!(method = %name.method, path = &*errand.path, key = %name.key, "found in the store");
                        self.memory.insert(name.key, Arc::clone(&page));
                        return Some(Arrival::Stored(Stored::Page(page), name.key, kind));
                    }
                }
                Object::Large(page) => {
                    if self.is_fresh(&page.head)
                        && self.invalidations.look_up(&page.head, &page.path_id) == Verdict::Valid
                    {
                        tracing::debug!(method = %name.method, path = &*errand.path, key = %name.key, "found in the store");
                        return Some(Arrival::Stored(Stored::Large(page), name.key, kind));
                    }
                }
                Object::Variants(variants) => {
                    // If it names what led here, the page itself is not there.
                    if variants.fields != *fields {
                        self.memory.insert_signpost(name.key, variants);
                        return Some(Arrival::Signpost);
                    }
                }
            }
        }
        None
    }

    /// Whether a copy in one tier of the store spares a look into the next; `fields` led here.
    fn is_of_use(&self, object: &Object, fields: &[HeaderName]) -> bool {
        match object {
            Object::Page(page) => self.is_fresh(&page.head) && self.invalidations.judge(page) == Verdict::Valid,
            Object::Large(page) => {
                self.is_fresh(&page.head) && self.invalidations.look_up(&page.head, &page.path_id) == Verdict::Valid
            }
            Object::Variants(variants) => variants.fields != fields,
        }
    }

    /// A large page that was read takes its share of `cache.max_fill_bytes`, as one that is fetched does.
    fn has_room_for(&self, page: &Page) -> bool {
        if page.body.len() <= LARGE_BYTES {
            return true;
        }
        let kib = u32::try_from(page.body.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.fill_memory).try_acquire_many_owned(kib);
        if share.is_err() {
            self.metrics.refused(Reason::FillMemory.as_str()).inc();
        }
        share.map(|share| page.hold(share)).is_ok()
    }

    /// A request without a body may be sent again when a pooled connection broke off without an answer (RFC 9110, section 9.2.2).
    async fn fetch(&self, errand: &Errand) -> Result<Response<IncomingBody>, OriginError> {
        match self.origin.send(errand.request()).await {
            Err(OriginError::Broken(error)) => {
                tracing::debug!(path = &*errand.path, error, "the connection broke off: asking again");
                self.origin.send(errand.request()).await
            }
            result => result,
        }
    }

    /// Finds the key of an admitted response, and puts up the signpost if it varies. The oldest variant makes room for one too many: refusing the new one
    /// would let whoever comes first with invented values keep real visitors out.
    fn place_variant(&self, errand: &Errand, admitted: Admitted, begun: Moment) -> Kept {
        let newest = || self.invalidations.newest(&errand.subject(&admitted.tags));
        let unkept = (begun.is_any_settling() && begun.is_too_early(newest())).then_some(Reason::Settling);
        let fields = vary::union(admitted.vary.clone(), &errand.fields);
        if fields.is_empty() {
            return Kept { admitted, key: errand.base, fields, signpost: None, displaced: Vec::new(), unkept };
        }
        let key = key::variant(&errand.base, &fields, (&errand.client).into());
        let newest = newest().hard;
        let _alone = self.signposting.lock();
        let mut known = match self.memory.signpost(&errand.base) {
            // Variants that an invalidation has killed since take no room.
            Some(signpost) if signpost.fields == fields && signpost.as_of >= newest => signpost.known.clone(),
            _ => Vec::new(),
        };
        if unkept.is_none() {
            known.retain(|other| *other != key);
            known.push(key);
        }
        let displaced = known.drain(..known.len().saturating_sub(self.settings.max_variants)).collect();
        let signpost = Arc::new(Variants {
            fields: fields.clone(),
            known,
            host: Arc::clone(&errand.host),
            path: Arc::clone(&errand.path),
            as_of: begun.applied,
            journal: self.invalidations.journal_id().clone(),
        });
        // At once: whoever waits for another variant must find its own key.
        self.memory.insert_signpost(errand.base, Arc::clone(&signpost));
        Kept { admitted, key, fields, signpost: Some(signpost), displaced, unkept }
    }

    async fn keep(
        &self,
        flight: &Arc<Flight>,
        errand: &Errand,
        kept: Kept,
        begun: Moment,
        now: UnixMillis,
        response: Response<IncomingBody>,
    ) {
        let (parts, body) = response.into_parts();
        let headers = kept_fields(parts.headers, parts.status, now);
        flight.arrive(Arrival::Streaming(Arc::new(Head {
            status: parts.status,
            headers: headers.clone(),
            begun,
            unkept: kept.unkept,
            age_seconds: kept.admitted.age_seconds,
            tags: kept.admitted.tags.clone(),
            vary: kept.fields.clone(),
            key: kept.key,
        })));
        let mut intake = Intake::new(self, flight, errand, kept.admitted.announced_bytes);
        let received = intake.receive(body).await.and_then(|trailers| {
            admission::judge_body(&errand.method, parts.status, kept.admitted.announced_bytes, intake.received())?;
            Ok(trailers)
        });
        let trailers = match received {
            Ok(trailers) => trailers,
            Err(reason) => {
                // What is not kept any more has been noted.
                if flight.is_kept() {
                    self.note_refused(errand, reason);
                }
                // An empty body is whole: only keeping it would be wrong.
                return if reason == Reason::Empty { flight.land(None) } else { flight.crash(reason) };
            }
        };
        match kept.unkept {
            None if flight.is_kept() => {
                let (as_of, journal) = (begun.applied, self.invalidations.journal_id());
                let page = make_page(errand, &kept, parts.status, headers, as_of, now, journal, intake.gather());
                self.keep_page(errand, &kept, &page, flight, trailers).await;
            }
            Some(reason) if flight.is_kept() => {
                self.note_refused(errand, reason);
                flight.land(trailers);
            }
            _ => flight.land(trailers),
        }
    }

    /// Memory first, then those on board, then the store: nobody waits for a write.
    async fn keep_page(
        &self,
        errand: &Errand,
        kept: &Kept,
        object: &Object,
        flight: &Flight,
        trailers: Option<HeaderMap>,
    ) {
        let (head, body_bytes) = object.page().expect("a page was made");
        if self.invalidations.newest(&errand.subject(&kept.admitted.tags)).hard > head.as_of {
            self.note_refused(errand, Reason::Invalidated);
            return flight.land(trailers);
        }
        // A slow fetch from before a soft invalidation may end after the one that renewed the page.
        if self.memory.get(&kept.key).is_some_and(|newer| newer.head.as_of > head.as_of) {
            return flight.land(trailers);
        }
        match object {
            Object::Page(page) => self.memory.insert(kept.key, Arc::clone(page)),
            // Until it is written, whoever comes reads along from the temporary file.
            _ => self.memory.remove(&kept.key),
        }
        kept.displaced.iter().for_each(|key| self.memory.remove(key));
        self.uncacheable.remove(&errand.place);
        flight.land(trailers);
        // Their bytes are bounded too: until it is written, a page holds its share of `cache.max_fill_bytes` or `cache.max_temporary_bytes`.
        let Ok(_writing) = self.writes.try_acquire() else {
            self.metrics.refused(Reason::StoreBusy.as_str()).inc();
            return self.note_store_failure(&"too many pages wait to be written");
        };
        let patience = WRITE_TIMEOUT + WRITE_TIMEOUT_PER_MIB * u32::try_from(body_bytes >> 20).unwrap_or(u32::MAX);
        match timeout(patience, self.write(errand, kept, object)).await {
            Err(_) => self.note_store_failure(&"the store does not answer"),
            Ok(Ok(())) => tracing::debug!(method = %errand.method, path = &*errand.path, key = %kept.key, "stored"),
            Ok(Err(error)) => self.note_store_failure(&error),
        }
    }

    async fn write(&self, errand: &Errand, kept: &Kept, object: &Object) -> Result<(), StoreError> {
        self.store.put(&errand.name(kept.key), object).await?;
        if let Some(signpost) = &kept.signpost {
            self.store.put(&errand.name(errand.base), &Object::Variants(Arc::clone(signpost))).await?;
        }
        for key in &kept.displaced {
            self.store.remove(&errand.name(*key)).await?;
        }
        self.absent.forget(&kept.key);
        self.absent.forget(&errand.base);
        Ok(())
    }

    pub(super) fn note_refused(&self, errand: &Errand, reason: Reason) {
        tracing::debug!(method = %errand.method, path = &*errand.path, reason = reason.as_str(), "not kept");
        self.metrics.refused(reason.as_str()).inc();
        // What lies with the response will be so again; the rest is chance.
        let is_chance = matches!(
            reason,
            Reason::Invalidated
                | Reason::Settling
                | Reason::CutShort
                | Reason::FillMemory
                | Reason::FillDisk
                | Reason::TemporaryFile
        );
        if !is_chance {
            let until =
                self.clock.now().0 + u64::try_from(self.settings.uncacheable_for.as_millis()).unwrap_or(u64::MAX);
            self.uncacheable.insert(errand.place, until);
        }
    }
}
