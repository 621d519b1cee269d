//! An admitted response becomes a page: which of its fields are kept, and what is added.

use std::sync::Arc;

use http::header::{ACCEPT_RANGES, AGE, CONTENT_LENGTH, DATE, ETAG, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::errand::Errand;
use super::intake::Gathered;
use crate::clock::UnixMillis;
use crate::page::large::LargePage;
use crate::page::{JournalId, Key, Object, Page, PageHead, Sequence, Variants};
use crate::policy::admission::Admitted;
use crate::policy::reason::Reason;
use crate::policy::{fields, vary};

/// An admitted response with its final place.
pub(super) struct Kept {
    pub(super) admitted: Admitted,
    pub(super) key: Key,
    /// The fields that select it, those of earlier responses included.
    pub(super) fields: Vec<HeaderName>,
    pub(super) signpost: Option<Arc<Variants>>,
    /// Variants that make room for this one.
    pub(super) displaced: Vec<Key>,
    /// Why it is not kept all the same: it is only shared.
    pub(super) unkept: Option<Reason>,
}

/// The response's fields as they are kept and sent.
pub(super) fn kept_fields(mut headers: HeaderMap, status: StatusCode, now: UnixMillis) -> HeaderMap {
    fields::remove_hop_by_hop(&mut headers);
    fields::remove_cache_fields(&mut headers);
    fields::add_via(&mut headers);
    // Each answer says its own.
    headers.remove(AGE);
    if status == StatusCode::OK {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    // RFC 9110, section 6.6.1: whoever keeps a response without Date adds it.
    if !headers.contains_key(DATE) {
        let date = httpdate::fmt_http_date(now.to_system_time());
        headers.insert(DATE, HeaderValue::try_from(date).expect("a date is a field value"));
    }
    headers
}

#[expect(clippy::too_many_arguments, reason = "the parts of a page, each from elsewhere")]
pub(super) fn make_page(
    errand: &Errand,
    kept: &Kept,
    status: StatusCode,
    mut headers: HeaderMap,
    as_of: Sequence,
    now: UnixMillis,
    journal: &JournalId,
    body: Gathered,
) -> Object {
    // Trailers go to those who read along; what is kept has none.
    headers.remove(TRAILER);
    // RFC 9110, section 8.6: a 204 has no Content-Length.
    if errand.method != Method::HEAD && status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, body.bytes().into());
        if !headers.contains_key(ETAG) {
            headers.insert(ETAG, strong_etag(&body.sha1()));
        }
    }
    let head = PageHead {
        method: errand.method.clone(),
        host: Arc::clone(&errand.host),
        path: Arc::clone(&errand.path),
        query: errand.query.clone(),
        status,
        headers: headers.into(),
        stored_at: now,
        age_seconds: kept.admitted.age_seconds,
        fresh_seconds: kept.admitted.fresh_seconds,
        as_of,
        journal: journal.clone(),
        tags: kept.admitted.tags.clone(),
        varied_by: vary::values(&kept.fields, &errand.client),
    };
    let path_id = errand.path_id;
    match body {
        Gathered::Memory(body) => Object::Page(Arc::new(Page::new(head, body, path_id))),
        Gathered::Large(body, body_crc, _) => Object::Large(Arc::new(LargePage { head, body, body_crc, path_id })),
    }
}

/// The body's sha1: the same body has the same tag on every node and after every restart.
fn strong_etag(sha1: &[u8; 20]) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", hex::encode(sha1))).expect("digits are a field value")
}
