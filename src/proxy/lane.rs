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
    /// The connection ends after this answer.
    pub(super) is_last: bool,
    /// Nothing comes after this request: the visitor said so.
    pub(super) is_last_asked: bool,
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
        Some(Answer { page, has_body, is_last, is_last_asked: plain.closes })
    }
}

/// 304 for who has the page, else the page's own status; `None`: neither.
fn status_for(page: &Page, plain: &Plain<'_>) -> Option<StatusCode> {
    let head = &page.head;
    if !plain.has_condition || !head.status.is_success() {
        return Some(head.status);
    }
    match conditional::evaluate(plain.asked.fields, |name| head.headers.get(name)) {
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
        // It has no Content-Length (RFC 9110, section 8.6), but the origin may have sent one: hyper drops it.
        StatusCode::NO_CONTENT => return None,
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

#[cfg(test)]
pub(super) mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::invalidation::Invalidations;
    use crate::invalidation::journal::memory::MemoryJournal;
    use crate::invalidation::journal::{Recovered, random_identity};
    use crate::metrics::Metrics;
    use crate::policy::rules::Rules;
    use crate::proxy::handler::Parties;
    use crate::proxy::origin::{IncomingBody, Origin, OriginError, OutgoingBody};
    use crate::store::memory::MemoryStore;
    use crate::store::memory_tier::MemoryTier;

    #[derive(Debug)]
    struct App;

    #[async_trait]
    impl Origin for App {
        async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
            let body = Full::new(Bytes::from("hello")).map_err(|never| match never {}).boxed_unsync();
            let response =
                Response::builder().header("ETag", "\"x\"").header("Date", "now").header("Content-Type", "a/b");
            let status = if request.uri().path() == "/none" { 204 } else { 200 };
            Ok(response.status(status).body(body).expect("a response"))
        }
    }

    /// The lane of a connection to a server that has fetched `/` and `/none`.
    pub(in crate::proxy) async fn lane() -> Lane {
        let mut config = Config::default();
        config.cache.statuses.push(StatusCode::NO_CONTENT);
        let journal = Arc::new(MemoryJournal::new(random_identity()));
        let parties = Parties {
            rules: Arc::new(Rules::new(&config.cache).unwrap()),
            invalidations: Arc::new(Invalidations::start(journal, Recovered::default())),
            memory: Arc::new(MemoryTier::new(1 << 20, 1 << 20)),
            store: Arc::new(MemoryStore::new(1 << 20)),
            origin: Arc::new(App),
            metrics: Arc::new(Metrics::default()),
            clock: Clock::Wall,
        };
        let handler = Arc::new(Handler::new(&config, parties));
        let visitor = Visitor::at([127, 0, 0, 1].into());
        for target in ["/", "/none"] {
            let request = Request::get(target).header("host", "a").body(Full::<Bytes>::default()).unwrap();
            handler.handle(request, &visitor).await.into_body().collect().await.unwrap();
        }
        handler.drain().await;
        Lane::new(handler, visitor, &config.limits)
    }

    fn answer(lane: &Lane, request: &str) -> Option<(String, Answer)> {
        let mut head = b"what was on the desk".to_vec();
        let answer = lane.answer(request.as_bytes(), &mut head)?;
        Some((String::from_utf8(head).unwrap(), answer))
    }

    #[tokio::test]
    async fn a_page_at_hand_is_answered_without_hyper() {
        let lane = lane().await;
        let end = "age: 0\r\ncache-status: everpage; hit; detail=memory\r\n";
        let fields = "etag: \"x\"\r\ndate: now\r\nvia: 1.1 everpage\r\n";
        let of_body = "content-type: a/b\r\naccept-ranges: bytes\r\ncontent-length: 5\r\n";
        let whole = format!("HTTP/1.1 200 OK\r\n{fields}{of_body}{end}\r\n");
        for (request, expected, body) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", whole.clone(), "hello"),
            ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", whole, ""),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\r\n",
                format!("HTTP/1.1 304 Not Modified\r\n{fields}{end}\r\n"),
                "",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                format!("HTTP/1.1 200 OK\r\n{fields}{of_body}{end}connection: close\r\n\r\n"),
                "hello",
            ),
        ] {
            let (head, answer) = answer(&lane, request).expect("it is at hand");
            let sorted = |head: &str| {
                let mut lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
                lines[1..].sort();
                lines
            };
            assert_eq!(sorted(&head), sorted(&expected), "{request:?}");
            assert_eq!((answer.body(), answer.is_last), (body.as_bytes(), request.contains("close")), "{request:?}");
        }
        assert_eq!(lane.handler.metrics.requests("hit").get(), 4);
    }

    #[tokio::test]
    async fn what_is_not_a_plain_hit_is_left_to_hyper_and_not_counted() {
        let lane = lane().await;
        for request in [
            "GET /other HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nCookie: sessionid=1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nIf-Match: \"y\"\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(answer(&lane, request).is_none(), "{request:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(lane.head_bytes));
        assert!(answer(&lane, &long).is_none());
        assert_eq!(lane.handler.metrics.requests("hit").get(), 0);
    }
}
