//! Requests of all kinds on one connection, cut wherever: each is answered, once, in its turn.

use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::line::{BIG, House, Line, get};

/// Requests and the bodies that answer them; `#` is the number of the request.
const KINDS: &[(&str, &str)] = &[
    ("GET /page HTTP/1.1\r\nHost: shop.example\r\n\r\n", "the page"),
    ("GET /page?utm_source=# HTTP/1.1\r\nHost: shop.example\r\nCookie: n=#\r\n\r\n", "the page"),
    ("GET /gone HTTP/1.1\r\nhost: shop.example\r\nconnection: keep-alive\r\n\r\n", "gone"),
    ("HEAD /page HTTP/1.1\r\nHost: shop.example\r\n\r\n", ""),
    ("GET /page HTTP/1.1\r\nHost: shop.example\r\nIf-None-Match: \"v1\"\r\n\r\n", ""),
    ("GET /page HTTP/1.1\r\nHost: shop.example\r\nIf-Match: \"x\"\r\n\r\n", ""),
    ("GET /page HTTP/1.1\r\nHost: shop.example\r\nRange: bytes=4-\r\n\r\n", "page"),
    ("\r\nGET /page HTTP/1.1\r\nHost: shop.example\r\n\r\n", "the page"),
    ("GET /miss/# HTTP/1.1\r\nHost: shop.example\r\n\r\n", "GET /miss/#"),
    ("GET /admin/# HTTP/1.1\r\nHost: shop.example\r\n\r\n", "GET /admin/#"),
    ("GET /admin/streamed HTTP/1.1\r\nHost: shop.example\r\n\r\n", "one two three"),
    ("HEAD /admin/streamed HTTP/1.1\r\nHost: shop.example\r\n\r\n", ""),
    (
        "POST /admin/echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 49\r\n\r\nGET /page HTTP/1.1\r\nHost: shop.example\r\n\r\nX-Body#",
        "GET /page HTTP/1.1\r\nHost: shop.example\r\n\r\nX-Body#",
    ),
    ("PUT /admin/echo HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody", "body"),
];

/// The request with its number, and the answer's body.
fn request(kind: (&str, &str), number: usize) -> (String, String) {
    let digit = (number % 10).to_string();
    (kind.0.replace('#', &digit), kind.1.replace('#', &digit))
}

async fn check(visitor: &mut Line, request: &str, expected: &str, what: &str) {
    let method = request.trim_start().split(' ').next().unwrap();
    let answer = visitor.answer(method).await;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(body == expected, "{what}: {request:?} is answered {}{body}", answer.head);
    let tag = answer.head.contains("etag: \"v1\"");
    let line = request.trim_start().lines().next().unwrap();
    assert!(tag == line.contains(" /page"), "{what}: {request:?} is answered {}{body}", answer.head);
}

#[tokio::test(start_paused = true)]
async fn answers_come_once_and_in_order_however_the_requests_are_cut() {
    let house = House::new(|config| config.cache.statuses.push(http::StatusCode::GONE));
    house.fill(&["/page", "/gone"]).await;
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut line = house.connect(64 << 10);
        let asked: Vec<_> = (0..random.random_range(1..12))
            .map(|number| request(KINDS[random.random_range(0..KINDS.len())], number))
            .collect();
        let mut bytes = asked.iter().fold(String::new(), |mut all, (request, _)| {
            write!(all, "{request}").unwrap();
            all
        });
        // Half of them at their ends, the others anywhere.
        while !bytes.is_empty() {
            let cut = if random.random_ratio(1, 2) {
                bytes.find("\r\n\r\n").map_or(bytes.len(), |end| end + 4)
            } else {
                random.random_range(1..=bytes.len())
            };
            line.send(&bytes[..cut]).await;
            bytes.drain(..cut);
            match random.random_range(0..4) {
                0 => {}
                1 => tokio::task::yield_now().await,
                // Less than an answer of the app takes, or more.
                2 => sleep(Duration::from_millis(10)).await,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
        for (number, (request, expected)) in asked.iter().enumerate() {
            check(&mut line, request, expected, &format!("seed {seed}, request {number}")).await;
        }
        line.finish().await;
        assert_eq!(line.rest().await, "", "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_requests_at_once_than_the_parser_takes_are_all_answered() {
    let house = House::new(|_| {});
    house.fill(&["/page"]).await;
    for count in [2, 200, 1000] {
        let mut line = house.connect(1 << 20);
        line.send(get("/page").repeat(count)).await;
        for _ in 0..count {
            assert_eq!(line.answer("GET").await.body, b"the page");
        }
        line.finish().await;
        assert_eq!(line.rest().await, "");
    }
}

/// Two pages, of which the first does not fit into what the connection holds.
#[tokio::test(start_paused = true)]
async fn a_hit_waits_for_the_page_before_it_to_be_taken() {
    let house = House::new(|_| {});
    house.fill(&["/page", "/big"]).await;
    for second in ["/page", "/admin/1", "/miss/1"] {
        for beginning in super::BEGINNINGS {
            let mut line = super::begun(&house, 4 << 10, beginning).await;
            line.send(get("/big")).await;
            sleep(Duration::from_millis(10)).await;
            line.send(get(second)).await;
            sleep(Duration::from_millis(10)).await;
            assert_eq!(line.answer("GET").await.body, vec![b'b'; BIG], "{beginning:?} {second}");
            assert!(line.answer("GET").await.head.starts_with("HTTP/1.1 200 OK\r\n"), "{beginning:?} {second}");
            line.finish().await;
            assert_eq!(line.rest().await, "", "{beginning:?} {second}");
        }
    }
}

/// What is within a request is no request, though it comes by itself, and looks like one for a page at hand.
#[tokio::test(start_paused = true)]
async fn a_piece_of_a_request_that_looks_like_one_is_none() {
    let house = House::new(|_| {});
    house.fill(&["/page"]).await;
    let pause = Duration::from_millis(10);
    for beginning in super::BEGINNINGS {
        // Behind the beginning of a field, of a request line, and of the empty lines before it.
        for (start, status) in [
            ("GET /admin/1 HTTP/1.1\r\nHost: shop.example\r\nX: ", 400),
            ("GET /admin/1 HTTP/1.1\r\n", 400),
            ("GET /admin/1", 400),
            ("G", 400),
            ("\r", 400),
            ("POST /admin/echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 42\r\n\r\n", 200),
            ("POST /admin/echo HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2a\r\n", 0),
            ("GET /admin/echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 42\r\n\r\n", 200),
        ] {
            let mut line = super::begun(&house, 64 << 10, beginning).await;
            line.send(start).await;
            sleep(pause).await;
            line.send(get("/page")).await;
            sleep(pause).await;
            let what = format!("{beginning:?} {start:?}");
            match status {
                0 => line.send("\r\n0\r\n\r\n").await,
                200 => assert_eq!(line.answer("POST").await.body, get("/page").as_bytes(), "{what}"),
                _ => {
                    let answer = line.rest().await;
                    assert!(!answer.contains("; hit; detail=memory"), "{what}: {answer}");
                    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
                    continue;
                }
            }
            if status == 0 {
                assert_eq!(line.answer("POST").await.body, get("/page").as_bytes(), "{what}");
            }
            line.finish().await;
            assert_eq!(line.rest().await, "", "{what}");
        }
        // Answered before its body has come: the rest of the body is for nobody.
        let mut line = super::begun(&house, 64 << 10, beginning).await;
        line.send("POST /admin/1 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 84\r\n\r\n").await;
        assert_eq!(line.answer("POST").await.body, b"POST /admin/1", "{beginning:?}");
        for _ in 0..2 {
            line.send(get("/page")).await;
            sleep(pause).await;
        }
        assert_eq!(line.rest().await, "", "{beginning:?}");
    }
}
