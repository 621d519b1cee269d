//! Nobody waits for ever: an origin that is down or hangs, a visitor who is slow, a request that is too large. Each has its answer, and none is kept.

use std::net::SocketAddr;
use std::time::Duration;

use everpage::admin::connection::CONNECTIONS_MAX;
use everpage::config::Config;
use http::Method;

use crate::support::{Door, Wire, canned, proxy, raw, raw_until_closed};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";

fn hasty(config: &mut Config) {
    config.origin.connect_timeout = Duration::from_millis(300);
    config.origin.first_byte_timeout = Duration::from_millis(300);
    config.origin.idle_timeout = Duration::from_millis(300);
}

fn impatient(config: &mut Config) {
    config.limits.head_timeout = Duration::from_millis(200);
    config.limits.idle_timeout = Duration::from_millis(300);
}

/// What comes on a connection whose head dribbles in until it is cut off.
async fn cut_off(address: SocketAddr) -> String {
    let mut wire = Wire::asking(address, "GET / HTTP/1.1\r\nHost: shop").await;
    let dribble = async {
        loop {
            wire.send(".").await;
            tokio::select! {
                ended = wire.rest() => return ended,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dribble).await.expect("it is cut off")
}

/// After an error the next request goes to the origin, which is well again.
async fn recovers(app: &Door, address: SocketAddr) {
    let mut visitor = Wire::asking(address, REQUEST).await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.starts_with("GET / "));
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell").await;
    let answer = visitor.until("well").await;
    assert!(answer.contains("; stored"), "{answer}");
}

#[tokio::test]
async fn an_origin_that_is_down_is_said_to_be_unreachable_and_found_when_it_is_back() {
    let app = Door::open().await;
    let address = app.address();
    drop(app);
    let proxy = proxy().origin_at(&format!("http://{address}")).start().await;
    for (method, target) in [(Method::GET, "/"), (Method::POST, "/")] {
        let answer = proxy.ask(method, target).send().await;
        assert_eq!((answer.status.as_u16(), answer.detail()), (502, Some("origin-unreachable")));
        assert!(answer.text().contains("cannot be reached"), "{}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    recovers(&Door::at(address).await, proxy.address).await;
}

#[tokio::test]
async fn an_origin_that_never_answers_is_given_up() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(hasty).start().await;
    for method in [Method::GET, Method::POST] {
        let answer = proxy.ask(method, "/").send().await;
        assert_eq!((answer.status.as_u16(), answer.detail()), (504, Some("origin-timeout")));
        assert!(answer.text().contains("did not answer in time"), "{}", answer.text());
        let mut origin = app.enter().await;
        origin.head().await;
        assert_eq!(origin.rest().await, "", "the connection is given up");
    }
    recovers(&app, proxy.address).await;
}

#[tokio::test]
async fn an_origin_that_stalls_in_its_answer_breaks_it_visibly_and_nothing_is_kept() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(hasty).start().await;
    let mut visitor = Wire::asking(proxy.address, REQUEST).await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    visitor.head().await;
    assert_eq!(visitor.rest().await, "3\r\nabc\r\n", "no last chunk");
    recovers(&app, proxy.address).await;
}

#[tokio::test]
async fn an_origin_that_stalls_in_a_passed_answer_breaks_it_visibly() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(hasty).start().await;
    let mut visitor = Wire::asking(proxy.address, "POST / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
    visitor.head().await;
    assert_eq!(visitor.rest().await, "abc");
    assert_eq!(origin.rest().await, "");
}

#[tokio::test]
async fn an_origin_that_speaks_no_http_is_said_to_be_broken() {
    for garbage in
        ["SSH-2.0-OpenSSH\r\n\r\n", "", "HTTP/1.1 two hundred\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"]
    {
        let proxy = proxy().origin_at(&canned(garbage).await).start().await;
        for method in [Method::GET, Method::GET, Method::POST] {
            let answer = proxy.ask(method, "/").send().await;
            assert_eq!((answer.status.as_u16(), answer.detail()), (502, Some("origin-broken")), "{garbage:?}");
        }
    }
}

#[tokio::test]
async fn a_busy_origin_is_waited_for_only_for_a_moment() {
    let app = Door::open().await;
    let single = |config: &mut Config| {
        config.origin.connect_timeout = Duration::from_millis(100);
        config.origin.max_requests = 1;
    };
    let proxy = proxy().origin_at(&app.url()).set(single).start().await;
    let mut first = Wire::asking(proxy.address, REQUEST).await;
    let mut origin = app.enter().await;
    origin.head().await;
    let answer = proxy.get("/other").await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (503, Some("origin-busy")));
    assert_eq!(answer.header("retry-after"), Some("1"));
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
    first.until("late").await;
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_cut_off() {
    let proxy = proxy().set(impatient).start().await;
    let ended = cut_off(proxy.address).await;
    assert!(ended.is_empty() || ended.starts_with("HTTP/1.1 408 "), "{ended}");
}

#[tokio::test]
async fn a_head_that_dribbles_in_to_the_admin_api_is_cut_off() {
    let proxy = proxy().set(impatient).start().await;
    assert_eq!(cut_off(proxy.admin).await, "");
    assert_eq!(proxy.admin("/healthz").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let app = canned("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce").await;
    let proxy = proxy().origin_at(&app).set(impatient).start().await;
    let mut visitor = Wire::connect(proxy.address).await;
    assert_eq!(visitor.rest().await, "");
    let mut visitor = Wire::asking(proxy.address, REQUEST).await;
    assert!(visitor.rest().await.ends_with("once"));
}

#[tokio::test]
async fn a_visitor_who_takes_no_bytes_is_left() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(impatient).start().await;
    let _visitor = Wire::asking(proxy.address, "GET /admin/export HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send("HTTP/1.1 200 OK\r\n\r\n").await;
    origin.flood([b'x'; 1 << 12]).await;
}

#[tokio::test]
async fn an_upload_that_stalls_is_answered_408() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(impatient).start().await;
    let head = "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9\r\n\r\nabc";
    let mut visitor = Wire::asking(proxy.address, head).await;
    let mut origin = app.enter().await;
    origin.until("abc").await;
    let answer = visitor.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n") && answer.contains("detail=upload"), "{answer}");
    assert_eq!(origin.rest().await, "", "the origin sees that it ended early");
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_name() {
    let app = Door::open().await;
    let strict = |config: &mut Config| {
        config.limits.head_bytes = 8 << 10;
        config.limits.head_fields = 10;
        config.limits.target_bytes = 1000;
        config.limits.body_bytes = Some(1000);
    };
    let proxy = proxy().origin_at(&app.url()).set(strict).start().await;
    let long = |count| "a".repeat(count);
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1000)), "414 URI Too Long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", long(9000)), "431 Request Header Fields Too Large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(10)), "431 Request Header Fields Too Large"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".into(), "413 Payload Too Large"),
    ] {
        let answer = raw(proxy.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{status}: {answer}");
    }
    assert!(app.is_silent().await);
}

#[tokio::test]
async fn a_body_that_grows_too_large_on_its_way_is_refused() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(|config| config.limits.body_bytes = Some(10)).start().await;
    let head = "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = raw_until_closed(proxy.address, format!("{head}b\r\n01234567890\r\n0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n") && answer.contains("large-body"), "{answer}");
    let mut origin = app.enter().await;
    assert!(!origin.rest().await.contains("0\r\n\r\n"), "the origin sees that it ended early");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let app = canned("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce").await;
    let proxy = proxy().origin_at(&app).set(|config| config.limits.connections = 1).start().await;
    let mut first = Wire::asking(proxy.address, REQUEST).await;
    first.until("once").await;
    let mut second = Wire::asking(proxy.address, REQUEST).await;
    assert!(second.is_silent().await);
    drop(first);
    assert!(second.until("once").await.contains("; hit"));
}

#[tokio::test]
async fn more_connections_to_the_admin_api_than_allowed_wait_for_their_turn() {
    let proxy = proxy().start().await;
    let mut first = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        first.push(Wire::connect(proxy.admin).await);
    }
    let mut last = Wire::asking(proxy.admin, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(last.is_silent().await);
    drop(first.pop());
    last.until(r#"{"alive":true}"#).await;
}
