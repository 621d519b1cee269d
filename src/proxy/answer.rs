//! A page, stored or on its way into the store, becomes an answer: whole, 304, 412, a range, several ranges, 416, or only its head.
//!
//! Follows RFC 9110, sections 13 (conditional requests) and 14 (ranges), and RFC 9111, section 4. Bodies are slices of the stored bytes.

use std::collections::VecDeque;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, Entry,
    HeaderName, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::Body;
use super::flight::{Head, Seat};
use super::outcome::{self, Forwarded, Outcome};
use super::visit::Visit;
use crate::clock::UnixMillis;
use crate::page::Page;
use crate::policy::conditional::{self, Precondition};
use crate::policy::range::{self, Ranges};

/// `Cache-Status` (RFC 9211).
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The answer that this page is to this request. `status_field` is the value of `Cache-Status`.
pub(super) fn from_page(
    page: &Arc<Page>,
    method: &Method,
    request: &HeaderMap,
    now: UnixMillis,
    status_field: HeaderValue,
) -> Response<Body> {
    let mut headers = page.head.headers.clone();
    headers.insert(AGE, digits(page.head.age_at(now)));
    set_status(&mut headers, status_field);
    let whole = |headers| respond(page.head.status, headers, if_get(method, || Body::whole(page.body.clone())));
    if !page.head.status.is_success() {
        return whole(headers);
    }
    let (etag, modified) = (page.head.headers.get(ETAG), page.head.headers.get(LAST_MODIFIED));
    match conditional::evaluate(request, etag, modified) {
        Precondition::Proceed => {}
        Precondition::NotModified => return not_modified(headers),
        Precondition::Failed => return failed(headers),
    }
    let may_be_parted = page.head.status == StatusCode::OK && method == Method::GET;
    let mut wanted = request.get_all(RANGE).iter().filter(|_| may_be_parted);
    // Several Range fields are no range set.
    let (Some(wanted), None) = (wanted.next(), wanted.next()) else { return whole(headers) };
    if request.get(IF_RANGE).is_some_and(|condition| !range::if_range_matches(condition, etag, modified)) {
        return whole(headers);
    }
    match range::parse(wanted, page.body.len() as u64) {
        Ranges::Ignore(_) => whole(headers),
        Ranges::Unsatisfiable => unsatisfiable(headers, page.body.len()),
        Ranges::Satisfiable(ranges) => match &ranges[..] {
            [only] => one_part(headers, &page.body, only),
            several => many_parts(headers, &page.body, several),
        },
    }
}

/// The answer to a request that reads along while the page is being kept.
pub(super) fn from_flight(
    visit: &Visit<'_>,
    forwarded: Forwarded,
    head: &Head,
    seat: Seat,
    leads: bool,
) -> (Outcome, Response<Body>) {
    let (outcome, field) = if leads {
        (Outcome::Miss, outcome::stored(forwarded, head.status))
    } else {
        (Outcome::Collapsed, outcome::collapsed(forwarded))
    };
    let mut headers = head.headers.clone();
    set_status(&mut headers, field);
    if head.age_seconds > 0 {
        headers.insert(AGE, head.age_seconds.into());
    } else {
        headers.remove(AGE);
    }
    if head.status.is_success() {
        let request = &visit.parts.headers;
        match conditional::evaluate(request, head.headers.get(ETAG), head.headers.get(LAST_MODIFIED)) {
            Precondition::Proceed => {}
            Precondition::NotModified => return (outcome, not_modified(headers)),
            Precondition::Failed => return (outcome, failed(headers)),
        }
    }
    let body = if visit.parts.method == Method::HEAD { Body::empty() } else { Body::stream(seat) };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    (outcome, response)
}

/// Prepares the fields of a page for many answers: `Age` and our line of `Cache-Status` have their places already, so that an answer's copy of
/// the fields never grows.
pub(super) fn reserve_places(headers: &mut HeaderMap) {
    headers.insert(AGE, HeaderValue::from_static("0"));
    headers.append(CACHE_STATUS, HeaderValue::from_static("everpage"));
}

/// Fills our line of `Cache-Status`, the last.
pub(super) fn set_status(headers: &mut HeaderMap, status_field: HeaderValue) {
    match headers.entry(CACHE_STATUS) {
        Entry::Occupied(mut lines) => {
            if let Some(own) = lines.iter_mut().next_back() {
                *own = status_field;
            }
        }
        Entry::Vacant(place) => {
            place.insert(status_field);
        }
    }
}

/// A 304 with these fields, but for those that describe a body (RFC 9110, section 15.4.5).
pub(super) fn not_modified(mut headers: HeaderMap) -> Response<Body> {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, ACCEPT_RANGES] {
        headers.remove(name);
    }
    respond(StatusCode::NOT_MODIFIED, headers, Body::empty())
}

/// A 412 (RFC 9110, section 15.5.13).
pub(super) fn failed(mut headers: HeaderMap) -> Response<Body> {
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, ACCEPT_RANGES] {
        headers.remove(name);
    }
    headers.insert(CONTENT_LENGTH, 0.into());
    respond(StatusCode::PRECONDITION_FAILED, headers, Body::empty())
}

fn unsatisfiable(mut headers: HeaderMap, whole_bytes: usize) -> Response<Body> {
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        headers.remove(name);
    }
    headers.insert(CONTENT_LENGTH, 0.into());
    headers.insert(CONTENT_RANGE, field(format!("bytes */{whole_bytes}")));
    respond(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty())
}

fn one_part(mut headers: HeaderMap, whole: &Bytes, part: &Range<u64>) -> Response<Body> {
    headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
    headers.insert(CONTENT_RANGE, field(content_range(part, whole.len())));
    respond(StatusCode::PARTIAL_CONTENT, headers, Body::whole(slice(whole, part)))
}

/// RFC 9110, section 14.6. The boundary is random: a body cannot hold it but by guessing.
fn many_parts(mut headers: HeaderMap, whole: &Bytes, parts: &[Range<u64>]) -> Response<Body> {
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let content_type = headers.insert(CONTENT_TYPE, field(format!("multipart/byteranges; boundary={boundary}")));
    let content_type =
        content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("application/octet-stream");
    let mut pieces = VecDeque::with_capacity(2 * parts.len() + 1);
    for part in parts {
        let range = content_range(part, whole.len());
        let head = format!("\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n");
        pieces.push_back(Bytes::from(head));
        pieces.push_back(slice(whole, part));
    }
    pieces.push_back(Bytes::from(format!("\r\n--{boundary}--\r\n")));
    headers.insert(CONTENT_LENGTH, pieces.iter().map(Bytes::len).sum::<usize>().into());
    respond(StatusCode::PARTIAL_CONTENT, headers, Body::Parts(pieces))
}

fn slice(whole: &Bytes, part: &Range<u64>) -> Bytes {
    let index = |byte: u64| usize::try_from(byte).expect("a range lies within a body in memory");
    whole.slice(index(part.start)..index(part.end))
}

fn content_range(part: &Range<u64>, whole_bytes: usize) -> String {
    format!("bytes {}-{}/{whole_bytes}", part.start, part.end - 1)
}

/// A number as a field value, in one allocation of just its digits.
fn digits(number: u64) -> HeaderValue {
    let mut buffer = [0; 20];
    let mut rest = &mut buffer[..];
    write!(rest, "{number}").expect("twenty digits hold any number");
    let unused = rest.len();
    let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&buffer[..buffer.len() - unused]));
    value.expect("digits are a field value")
}

fn field(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("digits and plain words are a field value")
}

fn if_get(method: &Method, body: impl FnOnce() -> Body) -> Body {
    if method == Method::HEAD { Body::empty() } else { body() }
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
