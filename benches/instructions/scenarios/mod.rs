//! What a server does all day, each with a fixed amount of work: what is counted is one request, from when it is there until it is answered.
//!
//! `connection` is the whole way of a request but for the kernel: bytes in, bytes out. `handler` is the part between the parsed request and the
//! answer's head and body.

mod line;
pub(crate) mod proxy;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;

use self::line::Connection;
use self::proxy::Proxy;
use super::browser;

/// Rounds that nobody counts: tables and buffers have grown to their size.
const WARM_UP_ROUNDS: usize = 20;

/// What `Cache-Status` says of a page in memory, and of one that is kept now.
const HIT: &str = "hit; detail=memory";
const MISS: &str = "fwd=uri-miss; fwd-status=200; stored";

/// What is asked, on which layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Its name in the table of counts.
    pub(crate) name: &'static str,
    play: Play,
}

/// Plays the rounds, each counted part through the meter.
type Play = fn(usize, Meter<'_>);

/// Counts what the given function does.
pub(crate) type Meter<'a> = &'a mut dyn FnMut(&mut dyn FnMut());

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 13] = [
    Scenario { name: "connection: hit of 2 KiB", play: |rounds, meter| converse(&HIT_2_KIB, rounds, meter) },
    Scenario { name: "connection: hit of 16 KiB", play: |rounds, meter| converse(&HIT_16_KIB, rounds, meter) },
    Scenario { name: "connection: 304", play: |rounds, meter| converse(&NOT_MODIFIED, rounds, meter) },
    Scenario { name: "connection: HEAD", play: |rounds, meter| converse(&HEAD, rounds, meter) },
    Scenario {
        name: "connection: hit after an invalidation",
        play: |rounds, meter| converse(&INVALIDATED, rounds, meter),
    },
    Scenario { name: "connection: one hit and its end", play: connect },
    Scenario { name: "connection: miss of 2 KiB, kept", play: converse_about_new_pages },
    Scenario { name: "handler: hit of 2 KiB", play: |rounds, meter| handle(&HIT_2_KIB, rounds, meter) },
    Scenario { name: "handler: hit of 16 KiB", play: |rounds, meter| handle(&HIT_16_KIB, rounds, meter) },
    Scenario { name: "handler: 304", play: |rounds, meter| handle(&NOT_MODIFIED, rounds, meter) },
    Scenario { name: "handler: HEAD", play: |rounds, meter| handle(&HEAD, rounds, meter) },
    Scenario { name: "handler: hit after an invalidation", play: |rounds, meter| handle(&INVALIDATED, rounds, meter) },
    Scenario { name: "handler: miss of 2 KiB, kept", play: handle_new_pages },
];

/// A request for a page that is in memory.
#[derive(Debug)]
pub(crate) struct Visit {
    method: &'static str,
    path: &'static str,
    status: u16,
    has_it: bool,
    after_an_invalidation: bool,
}

pub(crate) const HIT_2_KIB: Visit =
    Visit { method: "GET", path: "/2048/", status: 200, has_it: false, after_an_invalidation: false };
pub(crate) const HIT_16_KIB: Visit = Visit { path: "/16384/", ..HIT_2_KIB };
pub(crate) const NOT_MODIFIED: Visit = Visit { status: 304, has_it: true, ..HIT_2_KIB };
pub(crate) const HEAD: Visit = Visit { method: "HEAD", ..HIT_2_KIB };
pub(crate) const INVALIDATED: Visit = Visit { after_an_invalidation: true, ..HIT_2_KIB };

impl Scenario {
    /// Plays so many rounds, each counted part through the meter.
    ///
    /// Answers are checked: a panic tells of a wrong one.
    pub(crate) fn play(self, rounds: usize, meter: Meter<'_>) {
        let mut round = 0;
        (self.play)(WARM_UP_ROUNDS + rounds, &mut |work| {
            round += 1;
            if round > WARM_UP_ROUNDS { meter(work) } else { work() }
        });
    }
}

impl Visit {
    /// The fields of the request.
    fn fields(&self, proxy: &Proxy) -> Vec<(&'static str, String)> {
        let mut fields = vec![("host", "shop.example".to_owned()), ("cookie", "_ga=GA1.1.1; theme=dark".to_owned())];
        fields.extend(browser::FIELDS.map(|(name, value)| (name, value.to_owned())));
        if self.has_it {
            let answer = proxy.answer(request("GET", self.path, &fields));
            fields.push(("if-none-match", answer.headers()["etag"].to_str().expect("digits").to_owned()));
        }
        fields
    }

    /// How long the answer's body is.
    fn body_bytes(&self) -> usize {
        let page = self.path.split('/').nth(1).and_then(|number| number.parse().ok()).expect("paths begin with it");
        if self.method == "GET" && self.status == 200 { page } else { 0 }
    }

    fn prepare(&self, proxy: &Proxy) {
        if self.after_an_invalidation {
            proxy.invalidate_another();
        }
    }
}

/// The request, parsed.
fn request(method: &str, path: &str, fields: &[(&'static str, String)]) -> Request<Empty<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, value);
    }
    request.body(Empty::new()).expect("a request")
}

/// The request as it is sent.
fn bytes(method: &str, path: &str, fields: &[(&'static str, String)]) -> Bytes {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\n{lines}\r\n").into()
}

/// The end of the head in what has been answered so far.
fn head_end(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|four| four == b"\r\n\r\n").map(|place| place + 4)
}

/// Asks without counting; how long the answer is, which is checked from its first byte to its last.
fn ask(connection: &mut Connection<'_>, request: &Bytes, visit: &Visit, cache_status: &str) -> usize {
    let bytes = visit.body_bytes();
    let answer = connection.ask(request, |answer| head_end(answer).is_some_and(|end| answer.len() >= end + bytes));
    let end = head_end(&answer).expect("it is whole");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.starts_with(&format!("http/1.1 {} ", visit.status)), "{head}");
    assert!(head.contains(&format!("cache-status: everpage; {cache_status}\r\n")), "{head}");
    assert_eq!(answer.len() - end, bytes, "{head}");
    answer.len()
}

/// One connection, request after request. All answers are as long as the first and the last, which are looked at.
fn converse(visit: &Visit, rounds: usize, meter: Meter<'_>) {
    let proxy = Proxy::start();
    let mut conversation = Conversation::about(visit, &proxy);
    for _ in 0..rounds {
        visit.prepare(&proxy);
        conversation.ask();
        meter(&mut || conversation.hear());
    }
    conversation.end();
}

/// A connection on which the same is asked again and again.
pub(crate) struct Conversation<'a> {
    visit: &'a Visit,
    connection: Connection<'a>,
    request: Bytes,
    answer_bytes: usize,
}

impl<'a> Conversation<'a> {
    /// Opens it; the first answer is looked at.
    pub(crate) fn about(visit: &'a Visit, proxy: &'a Proxy) -> Self {
        proxy.warm(visit.path);
        let request = bytes(visit.method, visit.path, &visit.fields(proxy));
        let mut connection = Connection::open(proxy);
        let answer_bytes = ask(&mut connection, &request, visit, HIT);
        Conversation { visit, connection, request, answer_bytes }
    }

    /// Puts the request on the line.
    pub(crate) fn ask(&mut self) {
        self.connection.send(&self.request);
    }

    /// Serves until it is answered, by as many bytes as the first time.
    pub(crate) fn hear(&mut self) {
        self.connection.serve(self.answer_bytes);
        assert_eq!(self.connection.answered_bytes(), self.answer_bytes);
    }

    /// Asks for the last time, and looks at the answer again.
    pub(crate) fn end(mut self) {
        assert_eq!(ask(&mut self.connection, &self.request, self.visit, HIT), self.answer_bytes);
    }
}

/// A connection for one request: opened, served, closed.
fn connect(rounds: usize, meter: Meter<'_>) {
    let proxy = Proxy::start();
    let visit = &HIT_2_KIB;
    proxy.warm(visit.path);
    let mut fields = visit.fields(&proxy);
    fields.push(("connection", "close".to_owned()));
    let request = bytes(visit.method, visit.path, &fields);
    let answer_bytes = ask(&mut Connection::open(&proxy), &request, visit, HIT);
    for _ in 0..rounds {
        let mut answered = 0;
        meter(&mut || {
            let mut connection = Connection::open(&proxy);
            connection.send(&request);
            connection.serve_to_the_end();
            answered = connection.answered_bytes();
        });
        assert_eq!(answered, answer_bytes);
    }
}

/// One connection that asks for page after page that nobody has asked for; counted until each is kept.
fn converse_about_new_pages(rounds: usize, meter: Meter<'_>) {
    let proxy = Proxy::start();
    let visit = &HIT_2_KIB;
    let fields = visit.fields(&proxy);
    let request = |round| bytes("GET", &format!("/2048/{round:06}"), &fields);
    let mut connection = Connection::open(&proxy);
    let answer_bytes = ask(&mut connection, &request(rounds), visit, MISS);
    for round in 0..rounds {
        connection.send(&request(round));
        meter(&mut || {
            connection.serve(answer_bytes);
            proxy.finish();
        });
        assert_eq!(connection.answered_bytes(), answer_bytes);
        ask(&mut connection, &request(round), visit, HIT);
    }
}

/// The handler alone, request after request.
fn handle(visit: &Visit, rounds: usize, meter: Meter<'_>) {
    let proxy = Proxy::start();
    proxy.warm(visit.path);
    let fields = visit.fields(&proxy);
    for _ in 0..rounds {
        visit.prepare(&proxy);
        let mut request = Some(request(visit.method, visit.path, &fields));
        let mut answer = None;
        meter(&mut || answer = Some(proxy.answer(request.take().expect("asked once"))));
        let answer = answer.expect("it was asked");
        assert_eq!(answer.status(), visit.status);
        assert_eq!(answer.headers()["cache-status"], format!("everpage; {HIT}"));
    }
}

/// The handler alone, a page after the other that nobody has asked for; counted until each is kept.
fn handle_new_pages(rounds: usize, meter: Meter<'_>) {
    let proxy = Proxy::start();
    let fields = HIT_2_KIB.fields(&proxy);
    for round in 0..rounds {
        let mut request = Some(request("GET", &format!("/2048/{round:06}"), &fields));
        let mut answer = None;
        meter(&mut || {
            answer = Some(proxy.answer(request.take().expect("asked once")));
            proxy.finish();
        });
        let answer = answer.expect("it was asked");
        assert_eq!(answer.headers()["cache-status"], format!("everpage; {MISS}"));
    }
}
