//! Nothing is held back: bytes, trailers, interim and early responses pass as they come, and only a bounded part of a body is ever inside.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::support::{Door, Wire, canned, proxy};

/// What the sockets on both sides of the proxy may hold, in the kernel, is far less; a proxy that read ahead would take it all.
const UPLOAD_BYTES: usize = 64 << 20;
/// The sockets' buffers on the way, of which the proxy's own part is below one MiB.
const READ_AHEAD_BYTES: usize = 24 << 20;

fn pattern() -> Vec<u8> {
    (0..1 << 16).map(|byte| u8::try_from(byte % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_miss_reaches_its_visitor_byte_by_byte_while_it_is_stored() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::asking(proxy.address, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(visitor.head().await.contains("; stored"));
    for piece in ["a", "b", "c"] {
        origin.send(format!("1\r\n{piece}\r\n")).await;
        assert_eq!(visitor.until("\r\n").await, "1\r\n");
        assert_eq!(visitor.until("\r\n").await, format!("{piece}\r\n"));
    }
    let mut follower = Wire::asking(proxy.address, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert!(follower.head().await.contains("; collapsed"));
    assert_eq!(follower.until("c\r\n").await, "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n");
    origin.send("0\r\n\r\n").await;
    assert_eq!(visitor.until("0\r\n\r\n").await, "0\r\n\r\n");
    assert_eq!(follower.until("0\r\n\r\n").await, "0\r\n\r\n");
    let hit = proxy.get("/").await;
    assert_eq!((hit.outcome(), hit.text()), ("hit", "abc"));
}

#[tokio::test]
async fn a_large_upload_waits_in_the_visitor_until_the_origin_takes_it_and_arrives_whole() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let head = format!("POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n");
    let mut visitor = Wire::asking(proxy.address, &head).await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.contains(&format!("content-length: {UPLOAD_BYTES}\r\n")));
    let piece = pattern();
    let taken = visitor.send_until_stuck(&piece, UPLOAD_BYTES).await;
    assert!(taken < READ_AHEAD_BYTES, "{taken} bytes were taken from a visitor for an origin that takes none");
    let upload = async {
        let mut sent = taken;
        while sent < UPLOAD_BYTES {
            let part = &piece[sent % piece.len()..];
            visitor.send(part).await;
            sent += part.len();
        }
        visitor
    };
    let download = async {
        for _ in 0..UPLOAD_BYTES / piece.len() {
            assert!(origin.exactly(piece.len()).await == piece, "the upload arrives as it was sent");
        }
        origin.send("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").await;
    };
    let (mut visitor, ()) = tokio::join!(upload, download);
    assert!(visitor.head().await.starts_with("HTTP/1.1 201 Created\r\n"));
    assert_eq!(visitor.exactly(2).await, b"ok");
}

/// The origin sends a long answer to a visitor who reads nothing, and then everything. Returns the answer's head.
async fn read_late(target: &str, max_body: u64) -> String {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(|config| config.cache.max_body = max_body).start().await;
    let mut visitor =
        Wire::asking(proxy.address, &format!("GET {target} HTTP/1.0\r\nHost: shop.example\r\n\r\n")).await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\n\r\n").await;
    let piece = pattern();
    let taken = origin.send_until_stuck(&piece, UPLOAD_BYTES).await;
    assert!(taken < READ_AHEAD_BYTES, "{taken} bytes were taken from the origin for a visitor who takes none");
    let head = visitor.head().await;
    let feed = async {
        origin.send(&piece[taken % piece.len()..]).await;
        origin.finish().await;
    };
    let read = async {
        for _ in 0..=taken / piece.len() {
            assert!(visitor.exactly(piece.len()).await == piece, "the answer arrives as it was sent");
        }
        assert_eq!(visitor.rest().await, "");
    };
    tokio::join!(feed, read);
    head
}

#[tokio::test]
async fn an_answer_that_passes_waits_in_the_origin_for_a_visitor_who_reads_late() {
    assert!(read_late("/admin/export", 64 << 20).await.contains("detail=ignored"));
}

#[tokio::test]
async fn an_answer_too_large_to_keep_waits_in_the_origin_for_a_visitor_who_reads_late() {
    assert!(read_late("/export", 1 << 16).await.contains("; stored"));
}

#[tokio::test]
async fn a_response_larger_than_max_body_reaches_leader_and_follower_whole_and_is_not_stored() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(|config| config.cache.max_body = 100_000).start().await;
    let request = "GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n";
    let mut leader = Wire::asking(proxy.address, request).await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\n\r\nbegin").await;
    leader.until("begin").await;
    let mut follower = Wire::asking(proxy.address, request).await;
    follower.until("begin").await;
    origin.send("x".repeat(3_000_000)).await;
    origin.send("end").await;
    origin.finish().await;
    for reader in [&mut leader, &mut follower] {
        let rest = reader.rest().await;
        assert_eq!((rest.len(), rest.ends_with("xend")), (3_000_003, true));
    }
    let mut next = Wire::asking(proxy.address, request).await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall").await;
    assert!(next.rest().await.ends_with("small"));
}

#[tokio::test]
async fn a_response_that_announces_more_than_max_body_passes_and_says_why() {
    let app = canned("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n1234567").await;
    let proxy = proxy().origin_at(&app).set(|config| config.cache.max_body = 6).start().await;
    for _ in 0..2 {
        let answer = proxy.get("/").await;
        assert_eq!((answer.outcome(), answer.detail(), answer.text()), ("refused", Some("too-large"), "1234567"));
    }
}

#[tokio::test]
async fn a_proxy_that_stops_lets_an_answer_under_way_end() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let address = proxy.address;
    let mut visitor = Wire::asking(address, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").await;
    visitor.until("half").await;
    let stop = tokio::spawn(proxy.stop());
    let closed = async { while tokio::net::TcpStream::connect(address).await.is_ok() {} };
    timeout(Duration::from_secs(10), closed).await.expect("no new visitor is let in");
    origin.send("half").await;
    assert_eq!(visitor.rest().await, "half");
    stop.await.expect("it stops");
}

const TRAILED: &str =
    "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n";

#[tokio::test]
async fn trailers_of_a_response_reach_a_visitor_who_takes_them() {
    let app = canned(TRAILED).await;
    let proxy = proxy().origin_at(&app).start().await;
    for target in ["/admin/passed", "/kept"] {
        let answer = proxy.ask(http::Method::GET, target).header("te", "trailers").send().await;
        let trailers = answer.trailers.as_ref().unwrap_or_else(|| panic!("{target} brings its trailers: {answer:?}"));
        assert_eq!((answer.text(), trailers["x-sum"].to_str().unwrap()), ("abc", "6"));
        let answer = proxy.get("/admin/passed").await;
        assert_eq!((answer.text(), &answer.trailers), ("abc", &None));
    }
    let hit = proxy.ask(http::Method::GET, "/kept").header("te", "trailers").send().await;
    assert_eq!((hit.outcome(), hit.text(), hit.header("trailer")), ("hit", "abc", None));
}

#[tokio::test]
async fn trailers_of_an_upload_reach_the_origin() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let head = "POST / HTTP/1.1\r\nHost: shop.example\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let _visitor = Wire::asking(proxy.address, &format!("{head}3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n")).await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.contains("trailer: x-sum\r\n"));
    assert_eq!(origin.until("x-sum: 6\r\n\r\n").await, "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n");
}

#[tokio::test]
async fn an_upload_passes_byte_by_byte_in_chunks() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let head = "PUT /file HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut visitor = Wire::asking(proxy.address, head).await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.contains("transfer-encoding: chunked\r\n"));
    for piece in ["1\r\na\r\n", "1\r\nb\r\n", "0\r\n\r\n"] {
        visitor.send(piece).await;
        assert_eq!(origin.exactly(piece.len()).await, piece.as_bytes());
    }
    origin.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(visitor.rest().await.starts_with("HTTP/1.1 204 No Content\r\n"));
}

#[tokio::test]
async fn a_visitor_who_leaves_amid_an_upload_is_noticed_by_the_origin() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let head = "POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000000\r\n\r\nfirst";
    let visitor = Wire::asking(proxy.address, head).await;
    let mut origin = app.enter().await;
    origin.until("first").await;
    drop(visitor);
    assert_eq!(origin.rest().await, "");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_has_ended_is_passed_on_at_once() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let head = "POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000000\r\n\r\nfirst";
    let mut visitor = Wire::asking(proxy.address, head).await;
    let mut origin = app.enter().await;
    origin.until("first").await;
    origin.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 6\r\nConnection: close\r\n\r\ntoo mu").await;
    let answer = visitor.until("too mu").await;
    assert!(answer.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{answer}");
    // Whoever still sends may go on as long as somebody takes it.
    visitor.send("second").await;
    origin.until("second").await;
    drop(origin);
    assert_eq!(visitor.rest().await, "");
}

const EXPECTING: &str = "PUT /file HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn a_visitor_is_told_to_continue_when_the_origin_says_so() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::asking(proxy.address, EXPECTING).await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.contains("expect: 100-continue\r\n"));
    assert!(visitor.is_silent().await);
    origin.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    visitor.send("body").await;
    assert_eq!(origin.exactly(4).await, b"body");
    origin.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 201 Created\r\n"));
}

#[tokio::test]
async fn a_visitor_is_told_to_continue_after_a_second_by_an_origin_that_says_nothing() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let started = Instant::now();
    let mut visitor = Wire::asking(proxy.address, EXPECTING).await;
    let mut origin = app.enter().await;
    origin.head().await;
    assert_eq!(visitor.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    visitor.send("body").await;
    assert_eq!(origin.exactly(4).await, b"body");
}

#[tokio::test]
async fn a_body_that_the_origin_does_not_want_is_never_asked_for() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::asking(proxy.address, EXPECTING).await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    let answer = visitor.until("\r\n\r\nno").await;
    assert!(answer.starts_with("HTTP/1.1 417 Expectation Failed\r\n"), "{answer}");
    assert_eq!(visitor.rest().await, "");
    assert_eq!(origin.rest().await, "");
}
