//! The fast lane: the bytes of a plain request for a page at hand become the head of its answer, without hyper between.
//!
//! What such a request means is asked of the same functions as for any other request: `Front::admit`, `Rules::lookup`, `Handler::find`,
//! `conditional::evaluate`. Only the form differs: fields are slices of the bytes that came, and the page's fields are sent as they lie. Whatever is
//! not plain is left to hyper, from its first byte on: other methods than GET and HEAD, HTTP/1.0, bodies, ranges, upgrades, odd targets, a head that
//! did not come in one piece, everything that is malformed, and every request that does not find a valid page in memory.
//!
//! It takes no global lock and does no I/O (that is `wire`'s), and allocates nothing.

mod plain;

use std::io::Write as _;
use std::sync::Arc;

use http::{Method, StatusCode};

use self::plain::Plain;
use super::handler::{Handler, log_access};
use super::look::Found;
use super::outcome::{self, Outcome};
use super::visit::Visitor;
use crate::config::Limits;
use crate::page::Page;
use crate::policy::conditional::{self, Precondition};
use crate::policy::rules::Lookup;

/// The fast lane of one connection.
#[derive(Debug)]
pub(super) struct Lane {
    handler: Arc<Handler>,
    visitor: Visitor,
    /// Of a head that is read here; beyond them hyper has the word.
    head_bytes: usize,
    head_fields: usize,
}

/// What follows the head that was written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) page: Arc<Page>,
    /// Its body is sent.
    pub(super) has_body: bool,
    /// The visitor asked for the connection to end after this answer.
    pub(super) is_last: bool,
}

impl Answer {
    /// The bytes that follow the head.
    pub(super) fn body(&self) -> &[u8] {
        if self.has_body { &self.page.body } else { &[] }
    }
}

impl Lane {
    pub(super) fn new(handler: Arc<Handler>, visitor: Visitor, limits: &Limits) -> Self {
        Lane { handler, visitor, head_bytes: limits.head_bytes, head_fields: limits.head_fields }
    }

    /// See [`Visitor`].
    pub(super) fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// Writes the head of the answer to these bytes into `head`, if they are one plain request for a page at hand; `None`: they are for hyper, and
    /// nothing has happened.
    pub(super) fn answer(&self, bytes: &[u8], head: &mut Vec<u8>) -> Option<Answer> {
        if bytes.len() > self.head_bytes {
            return None;
        }
        plain::read(bytes, self.head_fields, |plain| self.answer_plain(plain, head))
    }

    fn answer_plain(&self, plain: &Plain<'_>, head: &mut Vec<u8>) -> Option<Answer> {
        let handler = &self.handler;
        let started = handler.settings.access_log.then(tokio::time::Instant::now);
        let asked = &plain.asked;
        let admitted = handler.front.admit(asked, &self.visitor).ok()?;
        let Lookup::Use(target) = handler.rules.lookup(&asked.request(admitted.https, &admitted.host)) else {
            return None;
        };
        if !handler.invalidations.is_current() {
            return None;
        }
        let Found::Page(page) = handler.find(&target, asked.fields) else { return None };
        let status = status_for(&page, plain)?;
        let is_last = plain.closes || self.visitor.must_close();
        write_head(head, &page, status, page.head.age_at(handler.clock.now()), is_last)?;
        tracing::debug!(method = %target.method, path = &*target.path, key = %target.key, "found in memory");
        handler.counters[Outcome::Hit as usize].inc();
        if let Some(started) = started {
            log_access(&self.visitor, asked.method, &asked.target, status, Outcome::Hit, started);
        }
        let has_body = status != StatusCode::NOT_MODIFIED && *asked.method != Method::HEAD;
        Some(Answer { page, has_body, is_last })
    }
}

/// 304 for who has the page, else the page's own status; `None`: neither.
fn status_for(page: &Page, plain: &Plain<'_>) -> Option<StatusCode> {
    let head = &page.head;
    if !plain.has_condition || !head.status.is_success() {
        return Some(head.status);
    }
    let (etag, modified) = (head.headers.get(&http::header::ETAG), head.headers.get(&http::header::LAST_MODIFIED));
    match conditional::evaluate(plain.asked.fields, etag, modified) {
        Precondition::Proceed => Some(head.status),
        Precondition::NotModified => Some(StatusCode::NOT_MODIFIED),
        Precondition::Failed => None,
    }
}

/// The head as hyper would write it; `None`: a status without a name.
fn write_head(head: &mut Vec<u8>, page: &Page, status: StatusCode, age: u64, closes: bool) -> Option<()> {
    head.clear();
    let fields = &page.head.headers;
    let lines = match status {
        StatusCode::OK => {
            head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            fields.lines()
        }
        StatusCode::NOT_MODIFIED => {
            head.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
            fields.lines_without_body()
        }
        other => {
            write!(head, "HTTP/1.1 {} {}\r\n", other.as_str(), other.canonical_reason()?)
                .expect("a Vec takes every byte");
            fields.lines()
        }
    };
    head.extend_from_slice(lines);
    write!(head, "age: {age}\r\ncache-status: ").expect("a Vec takes every byte");
    head.extend_from_slice(outcome::MEMORY_HIT.as_bytes());
    head.extend_from_slice(if closes { b"\r\nconnection: close\r\n\r\n" } else { b"\r\n\r\n" });
    Some(())
}
