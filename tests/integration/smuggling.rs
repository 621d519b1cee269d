//! One request is one request for everybody on the way: what two parsers could read in two ways is refused, and so are answers that lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Door, Wire, canned, origin, proxy, raw_until_closed};

/// What a smuggled second request would be.
const SECOND: &str = "GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// Request lines and fields that are refused before the origin hears of them. `Host` is there already.
const BAD_HEADS: &[(&str, &str)] = &[
    ("both lengths", "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "both lengths, the other way",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    ("two lengths", "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n"),
    ("two equal lengths", "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    ("a list of lengths", "POST / HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n"),
    ("a length with a sign", "POST / HTTP/1.1\r\nContent-Length: +0\r\n\r\n"),
    ("a negative length", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
    ("a length in hexadecimal", "POST / HTTP/1.1\r\nContent-Length: 0x0\r\n\r\n"),
    ("no length", "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n"),
    ("a length beyond all numbers", "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n"),
    ("a bare LF after the request line", "GET / HTTP/1.1\nX: y\r\n\r\n"),
    ("a bare LF after a field", "GET / HTTP/1.1\r\nX: y\nY: z\r\n\r\n"),
    ("a bare LF at the end", "GET / HTTP/1.1\r\nX: y\r\n\n"),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n"),
    ("a folded line", "GET / HTTP/1.1\r\nX: y\r\n z\r\n\r\n"),
    ("a folded Transfer-Encoding", "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("white space before the first field", "GET / HTTP/1.1\r\n X: y\r\n\r\n"),
    ("a space before the colon", "POST / HTTP/1.1\r\nContent-Length : 0\r\n\r\n"),
    ("a space in a name", "GET / HTTP/1.1\r\nX Y: z\r\n\r\n"),
    ("no name", "GET / HTTP/1.1\r\n: z\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nX\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n"),
    ("a NUL in a name", "GET / HTTP/1.1\r\nX\0: a\r\n\r\n"),
    ("a NUL in the target", "GET /\0 HTTP/1.1\r\n\r\n"),
    ("a coding that is not chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ("chunked, but not last", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("chunked after another coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("a coding that looks like chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked and identity",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a target in two words", "GET / /smuggled HTTP/1.1\r\n\r\n"),
    ("a tab after the method", "GET\t/ HTTP/1.1\r\n\r\n"),
    ("no version", "GET /\r\n\r\n"),
    ("a version to come", "GET / HTTP/2.0\r\n\r\n"),
    ("a target without a slash", "GET admin HTTP/1.1\r\n\r\n"),
    ("a user in the target", "GET http://somebody@shop.example/ HTTP/1.1\r\n\r\n"),
    ("a target of another scheme", "GET ftp://shop.example/ HTTP/1.1\r\n\r\n"),
    ("another protocol's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
];

/// The head with `Host` as its first field, and a request behind it.
fn with_host_and_second(request: &str) -> String {
    let end = request.find('\n').unwrap() + 1;
    let (line, rest) = request.split_at(end);
    format!("{line}Host: shop.example\r\n{rest}{SECOND}")
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused_and_its_connection_closed() {
    let origin = origin().otherwise(|_| async { crate::support::Reply::new("reached") }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    for (what, request) in BAD_HEADS {
        let answer = raw_until_closed(proxy.address, with_host_and_second(request).as_bytes()).await;
        let statuses: Vec<_> = answer.matches("HTTP/1.1 ").chain(answer.matches("HTTP/1.0 ")).collect();
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{what}: {answer}");
        assert_eq!(statuses.len(), 1, "{what}: {answer}");
        assert_eq!(origin.asked().len(), 0, "{what}: {:?}", origin.asked());
    }
    assert_eq!(proxy.get("/").await.text(), "reached");
}

/// The same in two pieces: where a packet ends says nothing.
#[tokio::test]
async fn a_bad_head_is_refused_wherever_it_is_cut() {
    let origin = origin().otherwise(|_| async { crate::support::Reply::new("reached") }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    for (what, request) in BAD_HEADS {
        let whole = with_host_and_second(request);
        let (first, second) = whole.split_at(whole.len() - SECOND.len() - request.len() / 2);
        let mut visitor = Wire::asking(proxy.address, first).await;
        // What the first half alone was refused for is as good.
        tokio::task::yield_now().await;
        visitor.send(second).await;
        let answer = visitor.rest().await;
        assert!(answer.is_empty() || answer[8..].starts_with(" 400 "), "{what}: {answer}");
        assert_eq!(origin.asked().len(), 0, "{what}: {:?}", origin.asked());
    }
}

#[tokio::test]
async fn a_length_that_hides_behind_spaces_is_refused_wherever_it_is_cut() {
    let origin = origin().otherwise(|_| async { crate::support::Reply::new("reached") }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    // Whoever reads only the beginning of the line takes the length for 1, and the body's rest for a request.
    let line = format!("Content-Length:{}1", " ".repeat(48));
    let mut visitor = Wire::asking(proxy.address, &format!("POST / HTTP/1.1\r\nHost: shop.example\r\n{line}")).await;
    assert!(visitor.is_silent().await);
    visitor.send(format!("{:02}\r\n\r\nbody", SECOND.len())).await;
    assert!(visitor.rest().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(origin.asked().len(), 0);
}

/// Bodies in chunks that no two servers must read in two ways.
const BAD_CHUNKS: &[(&str, &str)] = &[
    ("no size", "\r\nabc\r\n0\r\n\r\n"),
    ("a size that is no number", "x\r\nabc\r\n0\r\n\r\n"),
    ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a size beyond all numbers", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("a bare LF after the size", "3\nabc\r\n0\r\n\r\n"),
    ("a bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("a chunk longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
    ("a chunk without its end", "3\r\nabc0\r\n\r\n"),
    ("a bare LF after the chunk", "3\r\nabc\n0\r\n\r\n"),
    ("a trailer without a colon", "3\r\nabc\r\n0\r\ntrailer\r\n\r\n"),
];

#[tokio::test]
async fn a_broken_chunk_breaks_the_request_off_and_nothing_behind_it_is_read() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    for (what, chunks) in BAD_CHUNKS {
        let request =
            format!("POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{SECOND}");
        let seen = async {
            let mut origin = app.enter().await;
            origin.rest().await
        };
        let mut visitor = Wire::asking(proxy.address, &request).await;
        let (answer, seen) = tokio::join!(visitor.rest(), seen);
        // A request of its own would be the next to enter.
        assert!(seen.is_empty() || seen.starts_with("POST / "), "{what}: {seen}");
        assert!(!seen.contains("smuggled") && !seen.ends_with("0\r\n\r\n"), "{what}: {seen}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
    }
    assert!(app.is_silent().await);
}

#[tokio::test]
async fn nothing_is_read_behind_a_body_in_chunks() {
    let origin = origin().otherwise(|_| async { crate::support::Reply::new("reached") }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let request = "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = raw_until_closed(proxy.address, format!("{request}{SECOND}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!((origin.hits("/"), origin.hits("/smuggled")), (1, 0));
}

#[tokio::test]
async fn line_ends_in_the_target_stay_encoded() {
    let origin = origin().otherwise(|asked| async move { crate::support::Reply::new(asked.target) }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let target = "/a%0d%0a%0d%0aGET%20/smuggled%20HTTP/1.1%0d%0a";
    for target in [target.to_owned(), format!("/admin{target}"), format!("/?q={target}")] {
        let answer = proxy.get(&target).await;
        assert_eq!(answer.text().to_lowercase(), target.to_lowercase());
    }
    assert_eq!(origin.asked().len(), 3);
}

#[tokio::test]
async fn requests_that_come_all_at_once_are_answered_in_order() {
    let origin = origin().otherwise(|asked| async move { crate::support::Reply::new(asked.target) }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    let post = "POST /b HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nGET /";
    let mut visitor = Wire::connect(proxy.address).await;
    visitor.send([&get("/a"), post, &get("/c"), &get("/a")].concat()).await;
    for path in ["/a", "/b", "/c", "/a"] {
        let answer = format!("{}{}", visitor.head().await, String::from_utf8(visitor.exactly(2).await).unwrap());
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(path), "{path}: {answer}");
    }
    assert_eq!(origin.asked().len(), 3);
}

/// Answers that lie about their length or are no one answer: what the visitor sees of them, and that none is kept.
const LIES: &[(&str, &str)] = &[
    ("shorter than announced", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    ("a broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n"),
    ("no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ("a chunk longer than its size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
    ("both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    ("two equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    ("a length that is no number", "HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\nabc"),
    ("another protocol, unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc"),
];

#[tokio::test]
async fn an_answer_that_lies_about_its_length_is_seen_to_be_broken_and_never_kept() {
    for (what, lie) in LIES {
        let proxy = proxy().origin_at(&canned(*lie).await).start().await;
        for target in ["/", "/", "/admin/"] {
            let answer = proxy.get(target).await;
            let broken = !answer.complete || (answer.status == 502 && answer.detail() == Some("origin-broken"));
            assert!(broken && answer.outcome() != "hit", "{what}: {answer:?}");
        }
    }
}

/// What comes behind an answer is nobody's answer.
#[tokio::test]
async fn bytes_behind_an_answer_reach_nobody() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (what, head, body) in [
        ("a longer body", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok"),
        ("a 204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 51\r\n\r\n", ""),
        ("a 304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 51\r\n\r\n", ""),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
    ] {
        let app = Door::open().await;
        let proxy = proxy().origin_at(&app.url()).start().await;
        for target in ["/1", "/2", "/admin/"] {
            let speak = async {
                let mut origin = app.enter().await;
                assert!(origin.head().await.starts_with(&format!("GET {target} ")), "{what}");
                origin.send(format!("{head}{}{poison}", if head.contains("chunked") { "" } else { body })).await;
                origin
            };
            let (answer, origin) = tokio::join!(proxy.get(target), speak);
            assert_eq!((answer.complete, answer.text()), (true, body), "{what}");
            drop(origin);
        }
    }
}

#[tokio::test]
async fn a_flood_of_interim_responses_ends_with_the_time_for_the_first_byte() {
    let app = Door::open().await;
    let hasty = |config: &mut everpage::config::Config| {
        config.origin.first_byte_timeout = std::time::Duration::from_millis(300);
    };
    let proxy = proxy().origin_at(&app.url()).set(hasty).start().await;
    let flood = async {
        let mut origin = app.enter().await;
        origin.head().await;
        origin.flood("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100)).await;
    };
    let (answer, ()) = tokio::join!(proxy.get("/"), flood);
    assert_eq!((answer.status.as_u16(), answer.detail()), (504, Some("origin-timeout")));
}

#[tokio::test]
async fn a_flood_of_fields_from_the_origin_is_cut_off() {
    for field in ["a: b\r\n".to_owned(), format!("a: {}\r\n", "b".repeat(10_000))] {
        let app = Door::open().await;
        let proxy = proxy().origin_at(&app.url()).start().await;
        let flood = async {
            let mut origin = app.enter().await;
            origin.head().await;
            origin.send("HTTP/1.1 200 OK\r\n").await;
            origin.flood(field.repeat(100)).await;
        };
        let post = proxy.ask(http::Method::POST, "/").send();
        let (answer, ()) = tokio::join!(post, flood);
        assert_eq!((answer.status.as_u16(), answer.detail()), (502, Some("origin-broken")));
    }
}

/// Pieces from which requests are made, and by which they are broken.
const PIECES: &[&str] = &[
    "GET ",
    "POST ",
    "/",
    "/a?b",
    " HTTP/1.1",
    " HTTP/1.0",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "Host: shop.example\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "Connection: upgrade\r\nUpgrade: x\r\n",
    "5",
    "0\r\n\r\n",
    "\0",
    " ",
    ":",
    "Expect: 100-continue\r\n",
    "Range: bytes=0-1,3-\r\n",
    "If-None-Match: *\r\n",
    "*",
    "%",
    "\u{e4}",
    "Connection: close\r\n",
];

/// Panics in the proxy's own code, wherever in this process.
fn count_panics() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, usual) = (Arc::clone(&count), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| !place.file().starts_with("tests")) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        usual(panic);
    }));
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_answered_or_cut_off_and_harms_nobody() {
    let panics = count_panics();
    let origin = origin().otherwise(|_| async { crate::support::Reply::new("hello") }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let mut random = StdRng::seed_from_u64(7);
    for number in 0..400 {
        let mut nonsense = Vec::new();
        for _ in 0..random.random_range(1..40) {
            if random.random_ratio(1, 10) {
                nonsense.push(random.random());
            } else {
                nonsense.extend_from_slice(PIECES[random.random_range(0..PIECES.len())].as_bytes());
            }
        }
        let cut = random.random_range(0..nonsense.len());
        let mut visitor = Wire::connect(proxy.address).await;
        visitor.send(&nonsense[..cut]).await;
        visitor.send(&nonsense[cut..]).await;
        visitor.finish().await;
        let answer = visitor.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{number}: {:?}", nonsense.escape_ascii());
    }
    assert_eq!(proxy.get("/afterwards").await.text(), "hello");
    assert_eq!(panics.load(Ordering::Relaxed), 0);
    proxy.stop().await;
}
