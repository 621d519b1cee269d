//! A page, stored or on its way into the store, becomes an answer: whole, 304, 412, a range, several ranges, 416, or only its head.
//!
//! Follows RFC 9110, sections 13 (conditional requests) and 14 (ranges), and RFC 9111, section 4. Bodies in memory are slices of the stored bytes;
//! others are read while they are sent.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::Body;
use super::flight::{Head, Seat};
use super::large::{LargeStream, Part};
use super::outcome::{self, Forwarded, Outcome};
use super::visit::Visit;
use crate::clock::UnixMillis;
use crate::page::fields::OF_BODY;
use crate::page::large::LargePage;
use crate::page::{Page, PageHead};
use crate::policy::conditional::{self, Precondition};
use crate::policy::range::{self, Ranges};
use crate::policy::request_fields::RequestFields;

/// `Cache-Status` (RFC 9211).
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What a page is to a request.
enum Decision {
    Whole,
    NotModified,
    Failed,
    Unsatisfiable,
    Parts(Vec<Range<u64>>),
}

fn decide(head: &PageHead, body_bytes: u64, method: &Method, request: RequestFields<'_>) -> Decision {
    if !head.status.is_success() {
        return Decision::Whole;
    }
    match conditional::evaluate(request, |name| head.headers.get(name)) {
        Precondition::Proceed => {}
        Precondition::NotModified => return Decision::NotModified,
        Precondition::Failed => return Decision::Failed,
    }
    let may_be_parted = head.status == StatusCode::OK && method == Method::GET;
    let mut wanted = request.all(&RANGE).filter(|_| may_be_parted);
    // Several Range fields are no range set.
    let (Some(wanted), None) = (wanted.next(), wanted.next()) else { return Decision::Whole };
    let (etag, modified) = (head.headers.get(&ETAG), head.headers.get(&LAST_MODIFIED));
    if request.first(&IF_RANGE).is_some_and(|condition| !range::if_range_matches(condition, etag, modified)) {
        return Decision::Whole;
    }
    match range::parse(wanted, body_bytes) {
        Ranges::Ignore(_) => Decision::Whole,
        Ranges::Unsatisfiable => Decision::Unsatisfiable,
        Ranges::Satisfiable(ranges) => Decision::Parts(ranges),
    }
}

/// The answer that this page is to this request. `status_field` is the value of `Cache-Status`.
pub(super) fn from_page(
    page: &Arc<Page>,
    method: &Method,
    request: RequestFields<'_>,
    now: UnixMillis,
    status_field: HeaderValue,
) -> Response<Body> {
    let decision = decide(&page.head, page.body.len() as u64, method, request);
    let mut headers = dressed(&page.head, now, status_field);
    match decision {
        Decision::Whole if method == Method::HEAD => respond(page.head.status, headers, Body::empty()),
        Decision::Whole => respond(page.head.status, headers, Body::whole(page.body.clone())),
        Decision::NotModified => not_modified(headers),
        Decision::Failed => failed(headers),
        Decision::Unsatisfiable => unsatisfiable(headers, page.body.len() as u64),
        Decision::Parts(ranges) => {
            let parts = part(&mut headers, page.body.len() as u64, &ranges);
            let mut pieces = parts.into_iter().map(|part| match part {
                Part::Text(text) => text,
                Part::Range(range) => slice(&page.body, &range),
            });
            let body = match ranges.len() {
                1 => Body::whole(pieces.next().expect("one range is one part")),
                _ => Body::Parts(pieces.collect()),
            };
            respond(StatusCode::PARTIAL_CONTENT, headers, body)
        }
    }
}

/// As [`from_page`], for a page whose body is read for this answer alone.
///
/// # Errors
/// It cannot be read.
pub(super) async fn from_large(
    page: &LargePage,
    method: &Method,
    request: RequestFields<'_>,
    now: UnixMillis,
    status_field: HeaderValue,
) -> io::Result<Response<Body>> {
    let body_bytes = page.body.bytes();
    let mut headers = dressed(&page.head, now, status_field);
    let (status, parts) = match decide(&page.head, body_bytes, method, request) {
        Decision::Whole if method == Method::HEAD => return Ok(respond(page.head.status, headers, Body::empty())),
        Decision::Whole => (page.head.status, VecDeque::from([Part::Range(0..body_bytes)])),
        Decision::NotModified => return Ok(not_modified(headers)),
        Decision::Failed => return Ok(failed(headers)),
        Decision::Unsatisfiable => return Ok(unsatisfiable(headers, body_bytes)),
        Decision::Parts(ranges) => (StatusCode::PARTIAL_CONTENT, part(&mut headers, body_bytes, &ranges)),
    };
    Ok(respond(status, headers, Body::stream(LargeStream::open(page, parts).await?)))
}

/// The page's fields, with those that change from answer to answer.
fn dressed(head: &PageHead, now: UnixMillis, status_field: HeaderValue) -> HeaderMap {
    let mut headers = head.headers.to_map();
    headers.insert(AGE, digits(head.age_at(now)));
    headers.append(CACHE_STATUS, status_field);
    headers
}

/// The answer to a request that reads along while the page is being kept.
pub(super) fn from_flight(
    visit: &Visit<'_>,
    forwarded: Forwarded,
    head: &Head,
    seat: Seat,
    leads: bool,
) -> (Outcome, Response<Body>) {
    let (outcome, field) = match (leads, head.unkept) {
        (true, None) => (Outcome::Miss, outcome::stored(forwarded, head.status)),
        (true, Some(reason)) => (Outcome::Refused, outcome::refused(forwarded, head.status, reason)),
        (false, None) => (Outcome::Collapsed, outcome::collapsed(forwarded)),
        (false, Some(reason)) => (Outcome::Collapsed, outcome::collapsed_unkept(forwarded, reason)),
    };
    let mut headers = head.headers.clone();
    headers.append(CACHE_STATUS, field);
    if head.age_seconds > 0 {
        headers.insert(AGE, head.age_seconds.into());
    }
    if head.status.is_success() {
        match conditional::evaluate(visit.fields(), |name| head.headers.get(name).map(HeaderValue::as_bytes)) {
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

/// A 304 with these fields, but for those that describe a body (RFC 9110, section 15.4.5).
pub(super) fn not_modified(mut headers: HeaderMap) -> Response<Body> {
    for name in OF_BODY {
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

fn unsatisfiable(mut headers: HeaderMap, whole_bytes: u64) -> Response<Body> {
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        headers.remove(name);
    }
    headers.insert(CONTENT_LENGTH, 0.into());
    headers.insert(CONTENT_RANGE, field(format!("bytes */{whole_bytes}")));
    respond(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty())
}

/// What a 206 with these ranges consists of; says so in its fields. Several of them: RFC 9110, section 14.6. The boundary is random: a body cannot hold
/// it but by guessing.
fn part(headers: &mut HeaderMap, whole_bytes: u64, ranges: &[Range<u64>]) -> VecDeque<Part> {
    if let [only] = ranges {
        headers.insert(CONTENT_LENGTH, (only.end - only.start).into());
        headers.insert(CONTENT_RANGE, field(content_range(only, whole_bytes)));
        return VecDeque::from([Part::Range(only.clone())]);
    }
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let content_type = headers.insert(CONTENT_TYPE, field(format!("multipart/byteranges; boundary={boundary}")));
    let content_type =
        content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("application/octet-stream");
    let mut parts = VecDeque::with_capacity(2 * ranges.len() + 1);
    for range in ranges {
        let place = content_range(range, whole_bytes);
        let head = format!("\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {place}\r\n\r\n");
        parts.push_back(Part::Text(head.into()));
        parts.push_back(Part::Range(range.clone()));
    }
    parts.push_back(Part::Text(format!("\r\n--{boundary}--\r\n").into()));
    headers.insert(CONTENT_LENGTH, parts.iter().map(Part::bytes).sum::<u64>().into());
    parts
}

fn slice(whole: &Bytes, part: &Range<u64>) -> Bytes {
    let index = |byte: u64| usize::try_from(byte).expect("a range lies within a body in memory");
    whole.slice(index(part.start)..index(part.end))
}

fn content_range(part: &Range<u64>, whole_bytes: u64) -> String {
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

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
