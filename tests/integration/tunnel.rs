//! After `101 Switching Protocols` the proxy carries bytes both ways and knows nothing of them.

use std::time::Duration;

use http::Method;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{Door, Proxy, Wire, canned, proxy};

const ASKING: &str = "GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhl\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pP\r\n\r\n";

/// A tunnel: the visitor's end, and the origin's.
async fn tunnel(proxy: &Proxy, app: &Door) -> (Wire, Wire) {
    let mut visitor = Wire::asking(proxy.address, ASKING).await;
    let mut origin = app.enter().await;
    let asked = origin.head().await;
    for line in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-key: dGhl\r\n"] {
        assert!(asked.contains(line), "{asked}");
    }
    origin.send(SWITCHING).await;
    let answer = visitor.head().await;
    for line in ["HTTP/1.1 101 ", "connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-accept: s3pP\r\n"]
    {
        assert!(answer.contains(line), "{line:?} in {answer}");
    }
    (visitor, origin)
}

#[tokio::test]
async fn a_websocket_speaks_both_ways_until_one_side_ends_it() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let (mut visitor, mut origin) = tunnel(&proxy, &app).await;
    for word in ["one", "two", "GET / HTTP/1.1\r\nX: y\nZ\0\r\n\r\n"] {
        visitor.send(word).await;
        assert_eq!(origin.exactly(word.len()).await, word.as_bytes());
        origin.send(word).await;
        assert_eq!(visitor.exactly(word.len()).await, word.as_bytes());
    }
    visitor.send("last").await;
    visitor.finish().await;
    assert_eq!(origin.rest().await, "last");
    origin.send("goodbye").await;
    origin.finish().await;
    assert_eq!(visitor.rest().await, "goodbye");
}

#[tokio::test]
async fn bytes_that_come_with_the_upgrade_are_not_lost() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::asking(proxy.address, &format!("{ASKING}early")).await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send(format!("{SWITCHING}at once")).await;
    visitor.head().await;
    assert_eq!(visitor.exactly(7).await, b"at once");
    assert_eq!(origin.exactly(5).await, b"early");
}

#[tokio::test]
async fn a_client_library_gets_its_tunnel() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let echo = async {
        let mut origin = app.enter().await;
        origin.head().await;
        origin.send(SWITCHING).await;
        let heard = origin.exactly(5).await;
        origin.send(heard).await;
        origin
    };
    let visit = async {
        let ask = proxy.ask(Method::GET, "/chat").header("connection", "upgrade").header("upgrade", "websocket");
        let response = ask.open().await;
        assert_eq!(response.status(), 101);
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.expect("the protocol is switched"));
        tunnel.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        tunnel.read_exact(&mut heard).await.unwrap();
        heard
    };
    let both = timeout(Duration::from_secs(10), async { tokio::join!(visit, echo) }).await.expect("it echoes");
    assert_eq!(&both.0, b"hello");
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_among_the_connections() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).set(|config| config.limits.connections = 1).start().await;
    let both = tunnel(&proxy, &app).await;
    let mut second = Wire::asking(proxy.address, ASKING).await;
    assert!(app.is_silent().await);
    drop(both);
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send(SWITCHING).await;
    assert!(second.head().await.starts_with("HTTP/1.1 101 "));
}

/// HTTP/2 in a tunnel would ask the origin past every rule of the proxy.
#[tokio::test]
async fn http_is_not_switched_to_http() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    for protocols in ["h2c", "websocket, H2C", "HTTP/2.0", "TLS/1.2"] {
        let ask = ASKING.replace("Upgrade: websocket", &format!("Upgrade: {protocols}"));
        let mut visitor = Wire::asking(proxy.address, &ask).await;
        let mut origin = app.enter().await;
        let asked = origin.head().await;
        assert!(!asked.to_lowercase().contains("upgrade"), "{asked}");
        origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno").await;
        assert!(visitor.rest().await.ends_with("no"));
    }
}

#[tokio::test]
async fn an_origin_may_refuse_to_switch() {
    for (status, line) in [(200, "200 OK"), (426, "426 Upgrade Required"), (403, "403 Forbidden")] {
        let app = canned(format!("HTTP/1.1 {line}\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno")).await;
        let proxy = proxy().origin_at(&app).start().await;
        let mut visitor = Wire::asking(proxy.address, ASKING).await;
        let answer = visitor.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{status}: {answer}");
        assert!(answer.contains("detail=upgrade\r\n") && answer.ends_with("\r\n\r\nno"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_to_an_upgrade_is_never_kept() {
    let app = canned("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    let proxy = proxy().origin_at(&app).start().await;
    for _ in 0..2 {
        assert!(Wire::asking(proxy.address, ASKING).await.rest().await.contains("detail=upgrade"));
    }
    assert_eq!(proxy.get("/chat").await.outcome(), "miss");
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let app = Door::open().await;
    let hasty = |config: &mut everpage::config::Config| config.limits.idle_timeout = Duration::from_millis(200);
    let proxy = proxy().origin_at(&app.url()).set(hasty).start().await;
    let (mut visitor, mut origin) = tunnel(&proxy, &app).await;
    // One direction is enough to keep it.
    for _ in 0..4 {
        assert!(visitor.is_silent().await);
        origin.send("tick").await;
        visitor.exactly(4).await;
    }
    assert_eq!(visitor.rest().await, "");
    assert_eq!(origin.rest().await, "");
}

#[tokio::test]
async fn draining_does_not_wait_for_a_tunnel_longer_than_its_deadline() {
    let app = Door::open().await;
    let hasty = |config: &mut everpage::config::Config| config.limits.drain_timeout = Duration::from_millis(300);
    let proxy = proxy().origin_at(&app.url()).set(hasty).start().await;
    let (_visitor, _origin) = tunnel(&proxy, &app).await;
    timeout(Duration::from_secs(5), proxy.stop()).await.expect("it stops");
}
